//! Whether the node lives, and whether traffic may come: pure judgements of what lanes and core last reported.

use std::sync::atomic::Ordering;

use roomcast_protocol::ids::NodeId;
use roomcast_protocol::limits::LimitName;
use serde::Serialize;

use crate::config::BrokerKind;
use crate::core::{CoreStats, HubView};
use crate::drain::Draining;
use crate::lane::LaneReport;
use crate::metrics::STUCK_MS;
use crate::places::Places;

/// What the judgements are made from.
#[derive(Clone, Copy)]
pub(super) struct Vitals<'a> {
    pub(super) node: NodeId,
    /// Started, and not stopping.
    pub(super) running: bool,
    pub(super) draining: &'a Draining,
    pub(super) broker: BrokerKind,
    pub(super) core: &'a CoreStats,
    pub(super) hub: HubView,
    pub(super) lanes: &'a [LaneReport],
    pub(super) places: &'a Places,
    pub(super) connections_max: usize,
    pub(super) unauthenticated_max: usize,
    pub(super) mono_ms: u64,
}

/// The body of `/livez`.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct Livez {
    status: &'static str,
    /// Threads that have not turned lately, or whose queue has run over, each with when they last turned.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    stuck: Vec<Thread>,
}

impl Livez {
    /// Whether all threads turn.
    pub(super) fn is_live(&self) -> bool {
        self.stuck.is_empty()
    }
}

/// A thread, and how long ago it said that it turns.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct Thread {
    thread: String,
    state: &'static str,
    age_ms: u64,
}

/// The body of `/readyz`.
#[derive(Debug, Serialize)]
pub(super) struct Readyz {
    status: &'static str,
    /// Why it is not ready.
    #[serde(skip_serializing_if = "Option::is_none")]
    cause: Option<&'static str>,
    node: String,
    drain: Drain,
    core: Thread,
    broker: Broker,
    feed: Feed,
    waiting: Waiting,
    peers: Peers,
    lanes: Vec<Thread>,
    limits: Vec<Limit>,
}

impl Readyz {
    /// Whether traffic may come.
    pub(super) const fn is_ready(&self) -> bool {
        self.cause.is_none()
    }
}

/// How far it is with letting its clients go.
#[derive(Debug, Serialize)]
struct Drain {
    state: &'static str,
    /// For how long.
    age_ms: u64,
    /// Clients when it began.
    clients: u64,
    /// Sessions that are left.
    left: u64,
}

#[derive(Debug, Serialize)]
struct Broker {
    kind: &'static str,
    state: &'static str,
    /// For how long it has been so.
    age_ms: u64,
}

/// What the broker brings.
#[derive(Debug, Serialize)]
struct Feed {
    state: &'static str,
    /// How long ago it brought something.
    age_ms: u64,
    /// How old its last beat is.
    beat_age_ms: u64,
    /// What it brought and the core has not taken yet.
    queue_bytes: u64,
}

/// Publications that wait for the broker to return.
#[derive(Debug, Default, Serialize)]
struct Waiting {
    publications: usize,
    bytes: usize,
}

/// The other nodes of the cluster.
#[derive(Debug, Default, Serialize)]
struct Peers {
    known: usize,
    /// Of these, nodes whose feed does not hear.
    deaf: usize,
    /// Of these, nodes that relay rooms in other modes.
    disagreeing: usize,
}

#[derive(Debug, Serialize)]
struct Limit {
    limit: &'static str,
    state: &'static str,
    age_ms: u64,
    used: usize,
    value: usize,
}

/// Do all threads turn?
pub(super) fn livez(vitals: Vitals<'_>) -> Livez {
    let threads = std::iter::once(core(vitals)).chain(lanes(vitals));
    let stuck: Vec<_> = threads.filter(|thread| thread.state != "turning").collect();
    Livez { status: if stuck.is_empty() { "live" } else { "stuck" }, stuck }
}

/// May traffic come, and how is everything? It may from when the broker was first reached until the node stops: that
/// the broker is away in between turns nobody away, since the node serves its own members.
pub(super) fn readyz(vitals: Vitals<'_>) -> Readyz {
    // Read in front of the cause: an answer that shows a drain names it.
    let drain = drain(vitals);
    let cause = if vitals.draining.is_on() {
        Some("the node is draining")
    } else if !vitals.running {
        Some("the node is starting or stopping")
    } else if !vitals.hub.reached() {
        Some("the broker has not been reached yet")
    } else if !vitals.hub.takes_tokens() {
        Some("the revoked tokens have not been read yet")
    } else {
        None
    };
    let health = vitals.hub.health;
    let reported = lanes(vitals).map(|lane| lane.age_ms).max().unwrap_or_default();
    let unauthenticated = vitals.lanes.iter().map(|lane| lane.sizes.unauthenticated).sum();
    Readyz {
        status: if cause.is_none() { "ready" } else { "not_ready" },
        cause,
        node: vitals.node.to_string(),
        drain,
        core: core(vitals),
        broker: Broker {
            kind: vitals.broker.name(),
            state: health.map_or("starting", |it| it.relay.name()),
            age_ms: health.map_or(0, |it| vitals.mono_ms.saturating_sub(it.since_ms)),
        },
        feed: feed(vitals),
        waiting: health.map_or(Waiting::default(), |it| Waiting {
            publications: it.waiting,
            bytes: it.waiting_bytes,
        }),
        peers: health.map_or(Peers::default(), |it| Peers {
            known: it.peers,
            deaf: it.peers_deaf,
            disagreeing: it.peers_disagreeing,
        }),
        lanes: lanes(vitals).collect(),
        limits: vec![
            limit(
                LimitName::ConnectionsPerNode,
                0,
                vitals.places.sockets(),
                vitals.connections_max,
            ),
            limit(
                LimitName::Unauthenticated,
                reported,
                unauthenticated,
                vitals.unauthenticated_max,
            ),
        ],
    }
}

fn drain(vitals: Vitals<'_>) -> Drain {
    let draining = vitals.draining;
    let sessions = || vitals.lanes.iter().map(|lane| lane.sizes.sessions as u64).sum();
    Drain {
        state: draining.phase().name(),
        age_ms: draining.age_ms(vitals.mono_ms),
        clients: draining.clients(),
        left: if draining.is_on() { sessions() } else { 0 },
    }
}

fn feed(vitals: Vitals<'_>) -> Feed {
    let health = vitals.hub.health;
    let state = match health {
        None => "starting",
        Some(health) if health.lagging => "lagging",
        Some(_) => "current",
    };
    Feed {
        state,
        age_ms: health.map_or(0, |it| it.feed_age_ms),
        beat_age_ms: health.map_or(0, |it| it.beat_age_ms),
        queue_bytes: vitals.core.feed_bytes.load(Ordering::Relaxed),
    }
}

fn limit(name: LimitName, age_ms: u64, used: usize, value: usize) -> Limit {
    let state = if used >= value { "reached" } else { "below" };
    Limit { limit: name.name(), state, age_ms, used, value }
}

fn core(vitals: Vitals<'_>) -> Thread {
    let turned_ms = vitals.core.turned_ms.load(Ordering::Relaxed);
    thread("core".to_owned(), turned_ms, vitals.mono_ms)
}

fn lanes(vitals: Vitals<'_>) -> impl Iterator<Item = Thread> {
    let lanes = vitals.lanes.iter().enumerate();
    let overrun = vitals.core.overrun.load(Ordering::Relaxed);
    lanes.map(move |(index, lane)| {
        let mut thread = thread(format!("lane-{index}"), lane.turned_ms, vitals.mono_ms);
        if overrun.checked_shr(u32::try_from(index).unwrap_or(u32::MAX)).unwrap_or(0) & 1 == 1 {
            thread.state = "overrun";
        }
        thread
    })
}

fn thread(name: String, turned_ms: u64, mono_ms: u64) -> Thread {
    let age_ms = mono_ms.saturating_sub(turned_ms);
    let state = match turned_ms {
        0 => "starting",
        _ if age_ms > STUCK_MS => "stuck",
        _ => "turning",
    };
    Thread { thread: name, state, age_ms }
}

#[cfg(test)]
mod tests {
    use roomcast_router::hub::{HubHealth, RelayState};
    use serde_json::json;

    use super::*;

    const NOW_MS: u64 = 100_000;

    fn check(core_ms: u64, lanes_ms: &[u64], judge: impl FnOnce(Vitals<'_>)) {
        let core = CoreStats::default();
        core.turned_ms.store(core_ms, Ordering::Relaxed);
        let report =
            |turned_ms: &u64| LaneReport { turned_ms: *turned_ms, ..LaneReport::default() };
        let lanes: Vec<_> = lanes_ms.iter().map(report).collect();
        judge(Vitals {
            node: NodeId(7),
            running: true,
            draining: &Draining::default(),
            broker: BrokerKind::Redis,
            core: &core,
            hub: view(RelayState::Whole, true),
            lanes: &lanes,
            places: &Places::default(),
            connections_max: 10,
            unauthenticated_max: 0,
            mono_ms: NOW_MS,
        });
    }

    /// What a hub says whose relay has been so for 5 s.
    fn view(relay: RelayState, reached: bool) -> HubView {
        let health = HubHealth {
            relay,
            since_ms: NOW_MS - 5_000,
            reached,
            takes_tokens: reached,
            lagging: false,
            feed_age_ms: 10,
            beat_age_ms: 20,
            waiting: 1,
            waiting_bytes: 300,
            held_bytes: 0,
            paused_bytes: 0,
            behind: 0,
            peers: 4,
            peers_deaf: 2,
            peers_disagreeing: 1,
        };
        HubView { health: Some(health), ..HubView::default() }
    }

    #[test]
    fn a_node_lives_while_all_its_threads_turn() {
        check(NOW_MS, &[NOW_MS - STUCK_MS, NOW_MS], |vitals| {
            let livez = livez(vitals);
            assert!(livez.is_live());
            assert_eq!(serde_json::to_value(&livez).unwrap(), json!({"status": "live"}));
        });
    }

    #[test]
    fn the_thread_that_is_stuck_is_named() {
        check(NOW_MS, &[NOW_MS, NOW_MS - STUCK_MS - 1], |vitals| {
            let livez = livez(vitals);
            assert!(!livez.is_live());
            let stuck = json!([{"thread": "lane-1", "state": "stuck", "age_ms": 2_001}]);
            let expected = json!({"status": "stuck", "stuck": stuck});
            assert_eq!(serde_json::to_value(&livez).unwrap(), expected);
        });
        check(NOW_MS - 3_000, &[NOW_MS], |vitals| {
            let text = serde_json::to_string(&livez(vitals)).unwrap();
            assert!(text.contains("\"core\""), "{text}");
        });
    }

    #[test]
    fn a_lane_whose_queue_has_run_over_does_not_live() {
        check(NOW_MS, &[NOW_MS, NOW_MS], |vitals| {
            vitals.core.overrun.store(0b10, Ordering::Relaxed);
            let stuck = json!([{"thread": "lane-1", "state": "overrun", "age_ms": 0}]);
            let expected = json!({"status": "stuck", "stuck": stuck});
            assert_eq!(serde_json::to_value(livez(vitals)).unwrap(), expected);
        });
    }

    #[test]
    fn a_thread_that_has_not_turned_yet_does_not_live_yet() {
        check(NOW_MS, &[0], |vitals| assert!(!livez(vitals).is_live()));
    }

    #[test]
    fn readiness_lists_all_parts_with_state_and_age() {
        check(NOW_MS - 50, &[NOW_MS - 100, NOW_MS - 9_000], |vitals| {
            let body = serde_json::to_value(readyz(vitals)).unwrap();
            let limits = json!([
                {"limit": "connections_max", "state": "below", "age_ms": 0, "used": 0, "value": 10},
                {"limit": "unauthenticated_max", "state": "reached", "age_ms": 9_000, "used": 0, "value": 0}
            ]);
            let expected = json!({
                "status": "ready",
                "node": "0000000000000007",
                "drain": {"state": "serving", "age_ms": 0, "clients": 0, "left": 0},
                "core": {"thread": "core", "state": "turning", "age_ms": 50},
                "broker": {"kind": "redis", "state": "whole", "age_ms": 5_000},
                "feed": {"state": "current", "age_ms": 10, "beat_age_ms": 20, "queue_bytes": 0},
                "waiting": {"publications": 1, "bytes": 300},
                "peers": {"known": 4, "deaf": 2, "disagreeing": 1},
                "lanes": [
                    {"thread": "lane-0", "state": "turning", "age_ms": 100},
                    {"thread": "lane-1", "state": "stuck", "age_ms": 9_000}
                ],
                "limits": limits,
            });
            assert_eq!(body, expected);
        });
    }

    #[test]
    fn a_node_is_ready_from_when_it_reached_its_broker_until_it_stops() {
        let starting = HubView::default();
        let [stops, away] =
            ["the node is starting or stopping", "the broker has not been reached yet"].map(Some);
        check(NOW_MS, &[NOW_MS], |vitals| {
            for (running, hub, cause, state) in [
                (true, starting, away, "starting"),
                (true, view(RelayState::Cut, false), away, "cut"),
                (true, view(RelayState::Isolated, false), away, "isolated"),
                (true, view(RelayState::Whole, true), None, "whole"),
                // A broker that goes away later turns nobody away.
                (true, view(RelayState::Cut, true), None, "cut"),
                (true, view(RelayState::Isolated, true), None, "isolated"),
                (true, view(RelayState::Returning, true), None, "returning"),
                (false, view(RelayState::Whole, true), stops, "whole"),
                (false, starting, stops, "starting"),
            ] {
                let judged = Vitals { running, hub, ..vitals };
                let body = serde_json::to_value(readyz(judged)).unwrap();
                let status = if cause.is_none() { "ready" } else { "not_ready" };
                assert_eq!(body["status"], status);
                assert_eq!(body.get("cause").and_then(|it| it.as_str()), cause);
                assert_eq!(body["broker"]["state"], state);
            }
        });
    }

    #[test]
    fn a_node_that_drains_says_how_far_it_is_and_is_not_ready() {
        check(NOW_MS, &[NOW_MS, NOW_MS], |vitals| {
            let draining = Draining::default();
            let mut lanes = vitals.lanes.to_vec();
            lanes[0].sizes.sessions = 2;
            lanes[1].sizes.sessions = 3;
            let vitals = Vitals { draining: &draining, lanes: &lanes, running: false, ..vitals };
            draining.begin(NOW_MS - 700, 9);
            let body = serde_json::to_value(readyz(vitals)).unwrap();
            assert_eq!(
                (&body["status"], &body["cause"]),
                (&json!("not_ready"), &json!("the node is draining"))
            );
            let drain = json!({"state": "draining", "age_ms": 700, "clients": 9, "left": 5});
            assert_eq!(body["drain"], drain);
            draining.cut(5);
            let body = serde_json::to_value(readyz(vitals)).unwrap();
            assert_eq!(body["drain"]["state"], "cutting");
        });
    }

    #[test]
    fn a_feed_that_lags_says_so() {
        check(NOW_MS, &[NOW_MS], |vitals| {
            let mut hub = vitals.hub;
            hub.health.as_mut().unwrap().lagging = true;
            let body = serde_json::to_value(readyz(Vitals { hub, ..vitals })).unwrap();
            assert_eq!(body["feed"]["state"], "lagging");
        });
    }
}
