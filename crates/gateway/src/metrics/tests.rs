use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use hyper::StatusCode;
use roomcast_protocol::ids::NodeId;
use roomcast_router::hub::{HubCounters, HubHealth, PresenceSizes};

use super::*;
use crate::clock::Clock;
use crate::config::{WebhookConfig, WebhooksConfig};
use crate::lane::Told;
use crate::webhooks::Figures;

/// What is seen of two lanes that both show `lane`.
/// The figures of two calls.
fn calls() -> Arc<[CallStats]> {
    ["reports", "access"].map(CallStats::of).into()
}

/// One webhook.
fn hooks() -> Webhooks {
    let hook = WebhookConfig {
        name: "told".into(),
        call: 0,
        concurrency: 1,
        events: EventKind::ALL.to_vec(),
        retry_for_ms: 1,
    };
    let config = WebhooksConfig { hooks: vec![hook], events_max: 1, bytes_max: 1 };
    Webhooks::new(&config, NodeId(7), Clock::new())
}

/// What is seen of a node of which a test says no more.
#[derive(Default)]
struct Rest {
    core: CoreStats,
    relay: RelayStats,
    rpc: RpcCounters,
    webhooks: AllFigures,
    places: Places,
    draining: Draining,
}

impl Rest {
    fn seen<'a>(&'a self, metrics: &'a Metrics) -> Seen<'a> {
        Seen {
            lanes: &[],
            core: &self.core,
            hub: self.core.hub(),
            relay: &self.relay,
            rpc: &self.rpc,
            webhooks: &self.webhooks,
            places: &self.places,
            api: metrics.api(),
            draining: &self.draining,
            ready: true,
            connections_max: 1_000,
            mono_ms: 60_000,
        }
    }
}

fn text_of(metrics: &Metrics, lane: &LaneReport, core: &CoreStats, places: &Places) -> String {
    let lanes = [lane.clone(), lane.clone()];
    metrics.update(Seen {
        lanes: &lanes,
        core,
        hub: core.hub(),
        places,
        mono_ms: lane.turned_ms,
        ..Rest::default().seen(metrics)
    });
    metrics.text().unwrap()
}

/// Every series of the text with its value.
fn series(text: &str) -> Vec<(&str, f64)> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| {
            let (name, value) = line.rsplit_once(' ').unwrap();
            (name, value.parse().unwrap())
        })
        .collect()
}

#[track_caller]
fn shows(text: &str, line: &str) {
    assert!(text.lines().any(|it| it == line), "no `{line}` in\n{text}");
}

fn busy_lane() -> LaneReport {
    let mut lane = LaneReport::default();
    lane.counters.received = 11;
    lane.counters.publications = 12;
    lane.counters.unwanted = 13;
    lane.counters.expired = 14;
    lane.counters.encodings = 15;
    lane.counters.deliveries = 16;
    lane.counters.ready = 17;
    lane.counters.refusals[Refusal::PermissionDenied.index()] = 18;
    lane.counters.closes[Close::Slow.index()] = 19;
    lane.closes[Close::Slow.index()] = 1;
    lane.counters.limits[LimitName::MessagesPerUser.index()] = 20;
    lane.limits[LimitName::MessagesPerUser.index()] = 2;
    lane.counters.skips = [50, 51, 52, 63, 64, 65, 140];
    lane.counters.gaps = 53;
    lane.counters.recovered = 54;
    lane.counters.unrecovered = [55, 56, 57, 58, 59];
    lane.counters.histories = 60;
    lane.counters.jumps = 61;
    lane.counters.holds = 62;
    lane.counters.resumed = 66;
    lane.counters.hand_overs = 67;
    lane.counters.unresumed = [68, 69, 70, 71];
    lane.counters.records = 72;
    lane.counters.records_failed = 73;
    lane.counters.fenced = 74;
    lane.counters.drained = [75, 76, 77, 78];
    (lane.counters.shed_expired, lane.counters.shed_conflated) = (79, 80);
    (lane.counters.shed_low, lane.counters.parked, lane.counters.unparked) = (81, 82, 83);
    (lane.counters.acked, lane.counters.acks_unknown) = (95, 96);
    (lane.counters.acks_ignored, lane.counters.redelivered) = (97, 98);
    (lane.counters.delivery_failed, lane.counters.parked_unacked) = (99, 100);
    (lane.counters.inboxes_unknown, lane.counters.inbox_lost) = (101, 102);
    (lane.sizes.parked, lane.longest_turn_ms) = (104, 105);
    lane.sizes.sessions = 21;
    lane.sizes.unauthenticated = 22;
    lane.sizes.rooms = 23;
    lane.sizes.memberships = 24;
    (lane.bytes_in, lane.bytes_out, lane.blocked) = (25, 26, 27);
    (lane.accepted, lane.handshakes_refused) = (28, 29);
    lane.counters.receipts_told = 98;
    lane.counters.untold = 106;
    lane.told = Told { untold: 107, merged: 108, early: 109 };
    (lane.outboxes_bytes, lane.queue_bytes, lane.turned_ms) = (30, 31, 60_000);
    lane
}

#[test]
fn what_lanes_and_core_report_is_what_is_shown() {
    let metrics = Metrics::new(2, &Arc::default(), &calls(), &hooks()).unwrap();
    let core = CoreStats::default();
    let counters = HubCounters {
        published: 41,
        attaches: 84,
        fences: 85,
        presence_steps: 89,
        presence_diffs: 90,
        presence_gaps: 91,
        rosters_read: 92,
        lives: 93,
        notices_lost: 94,
        occupancies_lost: 106,
        cursors_dropped: 103,
        marks_set: 95,
        marks_refused_full: 96,
        marks_dropped: 97,
        talks: 113,
        talks_refused: 114,
        talks_given_up: 115,
        reached_dropped: 116,
        lists_told: 125,
        lists_lost: 126,
        people_lost: 120,
        statuses_dropped: 121,
        ..HubCounters::default()
    };
    core.show_hub(HubView {
        counters,
        health: None,
        presence: PresenceSizes {
            present: 86,
            rosters: 87,
            rosters_bytes: 88,
            untold: 107,
            talks: 117,
            talks_bytes: 127,
            people: 122,
            lists: 124,
        },
    });
    core.feed_bytes.store(42, Ordering::Relaxed);
    core.people.store(123, Ordering::Relaxed);
    core.users.store(43, Ordering::Relaxed);
    core.happened.told[1].store(110, Ordering::Relaxed);
    core.happened.merged.store(111, Ordering::Relaxed);
    core.happened.early.store(112, Ordering::Relaxed);
    let places = Arc::new(Places::default());
    let socket = places.take_socket(9);
    metrics.api().answered(Endpoint::Publish, Class::of(StatusCode::FORBIDDEN));
    metrics.api().refused(Refusal::PermissionDenied, None);
    metrics.api().refused(Refusal::TooLarge, Some(LimitName::MessageBytes));
    metrics.api().key_refused();
    let text = text_of(&metrics, &busy_lane(), &core, &places);
    drop(socket);
    for line in [
        "roomcast_connections_open 1",
        "roomcast_happenings_told_total{kind=\"connected\"} 0",
        "roomcast_happenings_told_total{kind=\"disconnected\"} 110",
        "roomcast_happenings_untold_total{lane=\"1\"} 213",
        "roomcast_happenings_merged_total 327",
        "roomcast_happenings_early_total 330",
        "roomcast_connections_accepted_total{lane=\"1\"} 28",
        "roomcast_connections_handshakes_refused_total{lane=\"0\"} 29",
        "roomcast_connections_received_bytes_total{lane=\"0\"} 25",
        "roomcast_connections_sent_bytes_total{lane=\"0\"} 26",
        "roomcast_connections_blocked_writes_total{lane=\"0\"} 27",
        "roomcast_connections_closed_total{code=\"slow\"} 40",
        "roomcast_connections_closed_total{code=\"unauthorized\"} 0",
        "roomcast_outboxes_waiting_bytes{lane=\"0\"} 30",
        "roomcast_sessions_open{lane=\"0\"} 21",
        "roomcast_sessions_unauthenticated{lane=\"0\"} 22",
        "roomcast_sessions_ready_total{lane=\"0\"} 17",
        "roomcast_sessions_users 43",
        "roomcast_rooms_open{lane=\"0\"} 23",
        "roomcast_rooms_memberships{lane=\"0\"} 24",
        "roomcast_publications_received_total{lane=\"0\"} 11",
        "roomcast_publications_published_total 41",
        "roomcast_publications_routed_total{lane=\"0\"} 12",
        "roomcast_publications_unwanted_total{lane=\"0\"} 13",
        "roomcast_publications_expired_total{lane=\"0\"} 14",
        "roomcast_publications_encodings_total{lane=\"0\"} 15",
        "roomcast_publications_delivered_total{lane=\"0\"} 16",
        "roomcast_refusals_sent_total{code=\"permission_denied\"} 37",
        "roomcast_limits_hit_total{limit=\"messages_per_minute\"} 44",
        "roomcast_limits_hit_total{limit=\"message_bytes\"} 1",
        "roomcast_history_skips_total{reason=\"expired\"} 100",
        "roomcast_history_skips_total{reason=\"unreadable\"} 104",
        "roomcast_history_skips_total{reason=\"own\"} 280",
        "roomcast_history_gaps_told_total{lane=\"0\"} 53",
        "roomcast_history_recovered_total{lane=\"0\"} 54",
        "roomcast_history_unrecovered_total{reason=\"no_history\"} 110",
        "roomcast_history_unrecovered_total{reason=\"unavailable\"} 118",
        "roomcast_history_pages_total{lane=\"0\"} 60",
        "roomcast_history_jumps_total{lane=\"0\"} 61",
        "roomcast_lanes_holds_total{lane=\"0\"} 62",
        "roomcast_sessions_resumed_total{lane=\"0\"} 66",
        "roomcast_sessions_handed_over_total{lane=\"0\"} 67",
        "roomcast_sessions_unresumed_total{reason=\"unknown\"} 136",
        "roomcast_sessions_unresumed_total{reason=\"unavailable\"} 142",
        "roomcast_sessions_records_total{lane=\"1\"} 72",
        "roomcast_sessions_records_failed_total{lane=\"1\"} 73",
        "roomcast_sessions_fenced_total{lane=\"1\"} 74",
        "roomcast_sessions_attaches_total 84",
        "roomcast_sessions_fences_total 85",
        "roomcast_presence_present 86",
        "roomcast_presence_rosters 87",
        "roomcast_presence_rosters_bytes 88",
        "roomcast_presence_untold 107",
        "roomcast_presence_occupancies_lost_total 106",
        "roomcast_presence_steps_total 89",
        "roomcast_presence_diffs_total 90",
        "roomcast_presence_gaps_total 91",
        "roomcast_presence_rosters_read_total 92",
        "roomcast_presence_lives_total 93",
        "roomcast_presence_notices_lost_total 94",
        "roomcast_conversations_open 117",
        "roomcast_conversations_held_bytes 127",
        "roomcast_conversations_lists_waiting 124",
        "roomcast_conversations_lists_told_total 125",
        "roomcast_conversations_lists_lost_total 126",
        "roomcast_presence_people_lost_total 120",
        "roomcast_presence_statuses_dropped_total 121",
        "roomcast_presence_people_waiting 122",
        "roomcast_sessions_people 123",
        "roomcast_conversations_asked_total 113",
        "roomcast_conversations_refused_total 114",
        "roomcast_conversations_given_up_total 115",
        "roomcast_conversations_unmarked_total 116",
        "roomcast_receipts_marks_set_total 95",
        "roomcast_receipts_marks_refused_full_total 96",
        "roomcast_receipts_marks_dropped_total 97",
        "roomcast_receipts_told_total{lane=\"0\"} 98",
        "roomcast_node_drained_total{how=\"moved\"} 150",
        "roomcast_node_drained_total{how=\"late\"} 156",
        "roomcast_slow_shed_total{step=\"expired\"} 158",
        "roomcast_slow_shed_total{step=\"conflated\"} 160",
        "roomcast_slow_shed_total{step=\"low\"} 162",
        "roomcast_slow_parked_total{lane=\"0\"} 82",
        "roomcast_slow_unparked_total{lane=\"0\"} 83",
        "roomcast_slow_parked{lane=\"0\"} 104",
        "roomcast_acks_received_total{lane=\"0\"} 95",
        "roomcast_acks_unknown_total{lane=\"0\"} 96",
        "roomcast_acks_ignored_total{lane=\"0\"} 97",
        "roomcast_acks_redelivered_total{lane=\"0\"} 98",
        "roomcast_acks_failed_total{lane=\"0\"} 99",
        "roomcast_acks_parked_total{lane=\"0\"} 100",
        "roomcast_inboxes_unknown_total{lane=\"0\"} 101",
        "roomcast_inboxes_lost_total{lane=\"0\"} 102",
        "roomcast_inboxes_moves_dropped_total 103",
        "roomcast_node_turn_longest_seconds{lane=\"1\"} 0.105",
        "roomcast_lanes_queue_bytes{lane=\"0\"} 31",
        "roomcast_lanes_stuck 0",
        "roomcast_feed_waiting_bytes 42",
        "roomcast_api_answers_total{class=\"client_error\",endpoint=\"publish\"} 1",
        "roomcast_api_answers_total{class=\"success\",endpoint=\"publish\"} 0",
        "roomcast_api_keys_refused_total 1",
        "roomcast_node_ready 1",
        "roomcast_node_connections_max 1000",
    ] {
        shows(&text, line);
    }
    shows(&text, &format!("roomcast_node_build_info{{version=\"{VERSION}\"}} 1"));
}

/// What a node of a cluster shows whose broker is away.
fn text_of_relay(metrics: &Metrics, relay: &RelayStats, view: HubView) -> String {
    metrics.update(Seen { hub: view, relay, ..Rest::default().seen(metrics) });
    metrics.text().unwrap()
}

fn away() -> HubView {
    let health = HubHealth {
        relay: RelayState::Isolated,
        since_ms: 50_000,
        reached: true,
        takes_tokens: true,
        lagging: true,
        feed_age_ms: 12_345,
        beat_age_ms: 12_500,
        waiting: 1,
        waiting_bytes: 2,
        held_bytes: 31,
        paused_bytes: 32,
        behind: 33,
        peers: 3,
        peers_deaf: 4,
        peers_disagreeing: 5,
    };
    let counters = HubCounters {
        published: 6,
        received: 7,
        unwanted: 8,
        isolated: 9,
        isolated_ms: 10_250,
        refused_waiting: 11,
        reconnects_silent: 12,
        reconnects_lagging: 13,
        reconnects_master: 14,
        losses: 15,
        partial: 16,
        repeated: 34,
        gaps_found: 35,
        repaired: 36,
        repair_reads: 37,
        heads_reads: 38,
        gaps_told: 39,
        lane_drops: 40,
        control_gaps: 41,
        revalidations: 42,
        orders_unanswered: 43,
        orders_unconfirmed: 44,
        surveys_refused: 45,
        ..HubCounters::default()
    };
    HubView { counters, health: Some(health), ..HubView::default() }
}

#[test]
fn what_hub_and_broker_report_of_the_relay_is_what_is_shown() {
    let metrics = Metrics::new(0, &Arc::default(), &calls(), &hooks()).unwrap();
    let relay = RelayStats::default();
    let counters = [
        &relay.received,
        &relay.wanted,
        &relay.unwanted,
        &relay.received_bytes,
        &relay.links_connected,
        &relay.links_lost,
        &relay.commands_connected,
        &relay.beats_sent,
        &relay.beats_answered,
        &relay.beats_heard,
        &relay.unreadable[Unreadable::Forged.index()],
    ];
    for (value, counter) in (20..).zip(counters) {
        counter.store(value, Ordering::Relaxed);
    }
    let text = text_of_relay(&metrics, &relay, away());
    for line in [
        "state{state=\"isolated\"} 1",
        "state{state=\"whole\"} 0",
        "isolated_seconds_total 10.25",
        "isolated_publications_total 9",
        "received_total 20",
        "wanted_total 21",
        "unwanted_total 22",
        "received_bytes_total 23",
        "links_connected_total 24",
        "links_lost_total 25",
        "commands_connected_total 26",
        "beats_sent_total 27",
        "beats_answered_total 28",
        "beats_heard_total 29",
        "unreadable_total{cause=\"forged\"} 30",
        "unreadable_total{cause=\"version\"} 0",
        "reconnects_total{cause=\"silent\"} 12",
        "reconnects_total{cause=\"lagging\"} 13",
        "reconnects_total{cause=\"master\"} 14",
        "losses_total 15",
        "feed_age_seconds 12.345",
        "beat_age_seconds 12.5",
        "lagging 1",
        "waiting_publications 1",
        "waiting_bytes 2",
        "waiting_refused_total 11",
        "partial_publications_total 16",
        "peers 3",
        "peers_deaf 4",
        "peers_disagreeing 5",
    ] {
        shows(&text, &format!("roomcast_relay_{line}"));
    }
    for line in [
        "history_held_bytes 31",
        "history_behind 33",
        "history_repeated_total 34",
        "history_gaps_found_total 35",
        "history_gaps_repaired_total 36",
        "history_reads_total 37",
        "history_heads_total 38",
        "history_gaps_lost_total 39",
        "lanes_dropped_total 40",
        "control_gaps_total 41",
        "control_revalidations_total 42",
        "orders_unanswered_total 43",
        "orders_unconfirmed_total 44",
        "surveys_refused_total 45",
        "control_paused_bytes 32",
    ] {
        shows(&text, &format!("roomcast_{line}"));
    }
    let mut later = away();
    later.counters.isolated_ms += 500;
    later.health.as_mut().unwrap().feed_age_ms = 0;
    let text = text_of_relay(&metrics, &relay, later);
    shows(&text, "roomcast_relay_isolated_seconds_total 10.75");
    shows(&text, "roomcast_relay_feed_age_seconds 0");
}

#[test]
fn latencies_are_histograms_in_seconds() {
    let latencies = Arc::new(Latencies::default());
    let metrics = Metrics::new(0, &latencies, &calls(), &hooks()).unwrap();
    for us in [90, 100, 700, 3_000_000] {
        latencies.relay.publish_us.observe(us);
    }
    latencies.relay.delivery_us.observe(1);
    latencies.handshake.observe(2_000_000);
    let text = metrics.text().unwrap();
    for line in [
        "# TYPE roomcast_relay_publish_seconds histogram",
        "roomcast_relay_publish_seconds_bucket{le=\"0.0001\"} 2",
        "roomcast_relay_publish_seconds_bucket{le=\"0.00025\"} 2",
        "roomcast_relay_publish_seconds_bucket{le=\"0.001\"} 3",
        "roomcast_relay_publish_seconds_bucket{le=\"2.5\"} 3",
        "roomcast_relay_publish_seconds_bucket{le=\"+Inf\"} 4",
        "roomcast_relay_publish_seconds_sum 3.00089",
        "roomcast_relay_publish_seconds_count 4",
        "roomcast_relay_delivery_seconds_count 1",
        "roomcast_connections_handshake_seconds_bucket{le=\"0.5\"} 0",
        "roomcast_connections_handshake_seconds_sum 2",
    ] {
        shows(&text, line);
    }
    assert_eq!(text.matches("roomcast_relay_publish_seconds_bucket").count(), 13);
}

#[test]
fn counters_move_by_the_difference_and_gauges_fall() {
    let metrics = Metrics::new(2, &Arc::default(), &calls(), &hooks()).unwrap();
    let (core, places) = (CoreStats::default(), Places::default());
    let mut lane = busy_lane();
    text_of(&metrics, &lane, &core, &places);
    lane.counters.deliveries += 4;
    lane.sizes.sessions = 0;
    let text = text_of(&metrics, &lane, &core, &places);
    shows(&text, "roomcast_publications_delivered_total{lane=\"1\"} 20");
    shows(&text, "roomcast_sessions_open{lane=\"1\"} 0");
}

#[test]
fn every_gauge_of_an_idle_node_is_zero() {
    let metrics = Metrics::new(2, &Arc::default(), &calls(), &hooks()).unwrap();
    let (core, places) = (CoreStats::default(), Places::default());
    text_of(&metrics, &busy_lane(), &core, &places);
    let idle = LaneReport { turned_ms: 60_000, ..LaneReport::default() };
    let text = text_of(&metrics, &idle, &core, &places);
    let gauges: BTreeSet<_> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.strip_suffix(" gauge"))
        .filter(|name| !name.starts_with("roomcast_node_") && !name.starts_with("process_"))
        .collect();
    assert!(gauges.contains("roomcast_rooms_memberships"));
    for (name, value) in series(&text) {
        let family = name.split('{').next().unwrap();
        assert!(!gauges.contains(family) || value == 0.0, "{name} is {value}");
    }
}

#[test]
fn a_lane_that_does_not_turn_counts_as_stuck() {
    let metrics = Metrics::new(2, &Arc::default(), &calls(), &hooks()).unwrap();
    let turning = LaneReport { turned_ms: 60_000, ..LaneReport::default() };
    let stuck = LaneReport { turned_ms: 60_000 - STUCK_MS - 1, ..LaneReport::default() };
    metrics.update(Seen {
        lanes: &[turning, stuck],
        ready: false,
        connections_max: 1,
        ..Rest::default().seen(&metrics)
    });
    let text = metrics.text().unwrap();
    shows(&text, "roomcast_lanes_stuck 1");
    shows(&text, "roomcast_node_ready 0");
}

#[test]
fn a_drain_shows_how_far_it_is() {
    let metrics = Metrics::new(1, &Arc::default(), &calls(), &hooks()).unwrap();
    let draining = Draining::default();
    draining.begin(1_000, 50);
    draining.cut(3);
    let lane = LaneReport { drain_refused: 4, ..busy_lane() };
    metrics.update(Seen {
        lanes: &[lane],
        draining: &draining,
        ready: false,
        connections_max: 1,
        ..Rest::default().seen(&metrics)
    });
    let text = metrics.text().unwrap();
    for line in [
        "roomcast_node_draining 1",
        "roomcast_node_drain_clients 50",
        "roomcast_node_drain_cut_total 3",
        "roomcast_node_drain_refused_total{lane=\"0\"} 4",
    ] {
        shows(&text, line);
    }
}

#[test]
fn names_follow_the_convention_and_stand_once() {
    let mut names = BTreeSet::new();
    for row in all() {
        assert!(names.insert(row.name), "{} stands twice", row.name);
        assert!(
            row.name.starts_with("roomcast_") && row.name.split('_').count() >= 3,
            "{}",
            row.name
        );
        let counts = row.name.ends_with("_total");
        assert_eq!(counts, row.kind == Kind::Counter, "{}", row.name);
        let in_seconds = row.name.contains("_seconds");
        let is_time = matches!(
            row.read,
            Read::NodeMs(_) | Read::LaneMs(_) | Read::WebhookMs(_) | Read::Latency(_)
        );
        assert_eq!(in_seconds, is_time, "{}", row.name);
    }
}

#[test]
fn what_calls_come_to_is_shown_by_their_names() {
    let stats = calls();
    let metrics = Metrics::new(1, &Arc::default(), &stats, &hooks()).unwrap();
    let figures = |call: &CallStats, from: u64| {
        let all = [
            &call.answered,
            &call.failed,
            &call.refused,
            &call.shut_out,
            &call.cached,
            &call.stale,
            &call.shared,
            &call.under_way,
            &call.waiting,
            &call.open,
        ];
        for (figure, value) in all.into_iter().zip(from..) {
            figure.store(value, std::sync::atomic::Ordering::Relaxed);
        }
    };
    figures(&stats[0], 1);
    figures(&stats[1], 11);
    let text = text_of(&metrics, &busy_lane(), &CoreStats::default(), &Places::default());
    for (at, name) in [
        "upstream_calls_answered_total",
        "upstream_calls_failed_total",
        "upstream_calls_refused_total",
        "upstream_calls_shut_out_total",
        "upstream_calls_cached_total",
        "upstream_calls_stale_total",
        "upstream_calls_shared_total",
        "upstream_calls_under_way",
        "upstream_calls_waiting",
        "node_upstream_open",
    ]
    .into_iter()
    .enumerate()
    {
        shows(&text, &format!("roomcast_{name}{{call=\"reports\"}} {}", at + 1));
        shows(&text, &format!("roomcast_{name}{{call=\"access\"}} {}", at + 11));
    }
}

#[test]
fn what_became_of_events_is_shown_by_webhook_and_kind() {
    let metrics = Metrics::new(1, &Arc::default(), &calls(), &hooks()).unwrap();
    let mut kinds = vec![Figures::default(); EventKind::ALL.len()];
    kinds[EventKind::Vacated as usize] =
        Figures { delivered: 1, failed: 2, dead: 3, waiting: 4, oldest_ms: 5_500 };
    let figures = AllFigures { kinds, bytes: 6, letters: 7, letters_bytes: 8, lost: 9 };
    metrics.update(Seen {
        webhooks: &figures,
        lanes: &[busy_lane()],
        ..Rest::default().seen(&metrics)
    });
    let text = metrics.text().unwrap();
    for (name, value) in [
        ("webhooks_delivered_total", "1"),
        ("webhooks_tries_failed_total", "2"),
        ("webhooks_dead_letters_total", "3"),
        ("node_webhooks_waiting", "4"),
        ("node_webhooks_oldest_seconds", "5.5"),
    ] {
        shows(&text, &format!("roomcast_{name}{{event=\"vacated\",webhook=\"told\"}} {value}"));
        shows(&text, &format!("roomcast_{name}{{event=\"occupied\",webhook=\"told\"}} 0"));
    }
    for (name, value) in [
        ("node_webhooks_bytes", 6),
        ("node_webhooks_letters", 7),
        ("node_webhooks_letters_bytes", 8),
        ("webhooks_letters_lost_total", 9),
    ] {
        shows(&text, &format!("roomcast_{name} {value}"));
    }
}

#[test]
fn every_series_is_there_before_anything_happens() {
    let metrics = Metrics::new(3, &Arc::default(), &calls(), &hooks()).unwrap();
    let text = metrics.text().unwrap();
    for row in all() {
        let count = series(&text)
            .iter()
            .filter(|(name, _)| name.split('{').next() == Some(row.name))
            .count();
        let expected = match row.read {
            Read::Node(_) | Read::NodeMs(_) => 1,
            Read::Latency(_) => {
                let bucket = format!("{}_bucket{{le=\"+Inf\"}} 0", row.name);
                assert!(text.contains(&bucket), "{bucket}");
                0
            }
            Read::State(_) => RelayState::ALL.len(),
            Read::Unreadable(_) => Unreadable::ALL.len(),
            Read::Reconnect(_) => Reconnect::ALL.len(),
            Read::Skip(_) => SkipReason::ALL.len(),
            Read::Unrecovered(_) => Unrecovered::ALL.len(),
            Read::Each(each) => (each.names)().len(),
            Read::Call(_) => 2,
            Read::Webhook(_) | Read::WebhookMs(_) => EventKind::ALL.len(),
            Read::Lane(_) | Read::LaneMs(_) => 3,
            Read::Refusal(_) => Refusal::ALL.len(),
            Read::Close(_) => Close::ALL.len(),
            Read::Limit(_) => LimitName::ALL.len(),
            Read::Answer(_) => Endpoint::ALL.len() * Class::ALL.len(),
        };
        assert_eq!(count, expected, "{}", row.name);
    }
    for (name, _, _) in table::PROCESS {
        assert!(series(&text).iter().any(|(shown, _)| shown == name), "{name} is not shown");
    }
}

/// The document that lists every metric.
fn reference_table() -> String {
    let mut document = String::from(
        "# Metrics\n\n\
         Made from the tables in `crates/gateway/src/metrics`; with `ROOMCAST_WRITE_DOCS=1` set, `cargo test -p\n\
         roomcast-gateway --lib metrics` writes it anew.\n\n\
         `GET /metrics` on the internal port answers in Prometheus' text format. Labels come from closed lists (`lane` is\n\
         a number from 0, `call` and `webhook` are names of the configuration), never from clients. Every series is there from the start. Figures are at most 250 ms old.\n\n\
         Every gauge but those of `roomcast_node_`, `roomcast_relay_` and `process_` falls to 0 when all connections are gone: at once, but\n\
         `roomcast_rooms_heard` after 1 s, and `roomcast_sessions_users` after 66 s at most.\n\n\
         | name | type | labels | meaning |\n| --- | --- | --- | --- |\n",
    );
    let mut add = |name: &str, kind: &str, labels: &str, meaning: &str| {
        document.push_str(&format!("| `{name}` | {kind} | {labels} | {meaning} |\n"));
    };
    for row in all() {
        let kind = match row.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        add(row.name, kind, &row.read.labels().join(", "), row.meaning);
    }
    let (name, meaning) = table::BUILD_INFO;
    add(name, "gauge", "version", meaning);
    for (name, kind, meaning) in table::PROCESS {
        add(name, kind, "", meaning);
    }
    document
}

#[test]
fn the_document_lists_what_is_shown() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/METRICS.md");
    let expected = reference_table();
    if std::env::var_os("ROOMCAST_WRITE_DOCS").is_some() {
        std::fs::write(path, &expected).unwrap();
    }
    let found = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        found == expected,
        "docs/METRICS.md is stale: ROOMCAST_WRITE_DOCS=1 cargo test -p roomcast-gateway --lib metrics"
    );
}
