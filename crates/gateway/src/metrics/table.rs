//! The rows of `/metrics` and of `docs/METRICS.md`, which is made from them. A new figure is one row here.

use roomcast_protocol::codes::{Close, Refusal};
use roomcast_protocol::limits::LimitName;
use std::sync::atomic::{AtomicU64, Ordering};

use roomcast_broker::stats::Histogram;
use roomcast_protocol::outbound::SkipReason;
use roomcast_protocol::position::Unrecovered;
use roomcast_protocol::relay::Unreadable;
use roomcast_router::hub::{HubHealth, RelayState};

use super::{Class, Endpoint, Latencies, Reconnect, STUCK_MS, Seen};
use crate::lane::LaneReport;
use crate::upstream::CallStats;
use crate::webhooks::Figures;

/// How a figure moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Only up.
    Counter,
    /// Up and down.
    Gauge,
    /// How many by size.
    Histogram,
}

/// Where a figure comes from, and with it its labels.
#[derive(Clone, Copy, Debug)]
pub(super) enum Read {
    /// One for the node.
    Node(fn(&Seen<'_>) -> u64),
    /// One for the node, in milliseconds, shown in seconds.
    NodeMs(fn(&Seen<'_>) -> u64),
    /// One for the node, a histogram.
    Latency(fn(&Latencies) -> &Histogram),
    /// One for each state of the relay.
    State(fn(&Seen<'_>, RelayState) -> u64),
    /// One for each reason not to read what was relayed.
    Unreadable(fn(&Seen<'_>, Unreadable) -> u64),
    /// One for each reason to connect a link of the feed anew.
    Reconnect(fn(&Seen<'_>, Reconnect) -> u64),
    /// One for each reason to cover an offset without a delivery.
    Skip(fn(&Seen<'_>, SkipReason) -> u64),
    /// One for each reason why a member could not be given what it missed.
    Unrecovered(fn(&Seen<'_>, Unrecovered) -> u64),
    /// One for each name of a closed list.
    Each(Each),
    /// One for each configured call.
    Call(fn(&CallStats) -> u64),
    /// One for each webhook and kind of event.
    Webhook(fn(&Figures) -> u64),
    /// The same, in milliseconds, shown in seconds.
    WebhookMs(fn(&Figures) -> u64),
    /// One for each lane.
    Lane(fn(&LaneReport) -> u64),
    /// One for each lane, in milliseconds, shown in seconds.
    LaneMs(fn(&LaneReport) -> u64),
    /// One for each refusal.
    Refusal(fn(&Seen<'_>, Refusal) -> u64),
    /// One for each close.
    Close(fn(&Seen<'_>, Close) -> u64),
    /// One for each limit.
    Limit(fn(&Seen<'_>, LimitName) -> u64),
    /// One for each endpoint and class of the internal port.
    Answer(fn(&Seen<'_>, Endpoint, Class) -> u64),
}

/// One figure for each name of a closed list.
#[derive(Clone, Copy, Debug)]
pub(super) struct Each {
    /// The label, alone.
    pub(super) label: &'static [&'static str],
    /// Its values.
    pub(super) names: fn() -> Vec<&'static str>,
    /// The figure at this place of the list.
    pub(super) read: fn(&Seen<'_>, usize) -> u64,
}

impl Read {
    /// The labels' names.
    pub(super) const fn labels(self) -> &'static [&'static str] {
        match self {
            Self::Node(_) | Self::NodeMs(_) | Self::Latency(_) => &[],
            Self::State(_) => &["state"],
            Self::Unreadable(_) | Self::Reconnect(_) => &["cause"],
            Self::Skip(_) | Self::Unrecovered(_) => &["reason"],
            Self::Each(each) => each.label,
            Self::Call(_) => &["call"],
            Self::Webhook(_) | Self::WebhookMs(_) => &["webhook", "event"],
            Self::Lane(_) | Self::LaneMs(_) => &["lane"],
            Self::Refusal(_) | Self::Close(_) => &["code"],
            Self::Limit(_) => &["limit"],
            Self::Answer(_) => &["endpoint", "class"],
        }
    }
}

/// One figure.
#[derive(Debug)]
pub(super) struct Row {
    /// `roomcast_<subsystem>_<noun>_<unit>[_total]`.
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    /// One sentence for whoever draws it.
    pub(super) meaning: &'static str,
    pub(super) read: Read,
}

pub(super) const fn counter(name: &'static str, meaning: &'static str, read: Read) -> Row {
    Row { name, kind: Kind::Counter, meaning, read }
}

pub(super) const fn gauge(name: &'static str, meaning: &'static str, read: Read) -> Row {
    Row { name, kind: Kind::Gauge, meaning, read }
}

const fn latency(
    name: &'static str,
    meaning: &'static str,
    read: fn(&Latencies) -> &Histogram,
) -> Row {
    Row { name, kind: Kind::Histogram, meaning, read: Read::Latency(read) }
}

/// The one series with the version as its label; always 1.
pub(super) const BUILD_INFO: (&str, &str) =
    ("roomcast_node_build_info", "Always 1; the label names the version");

/// What the prometheus crate reads from the system.
#[cfg(test)]
pub(super) const PROCESS: &[(&str, &str, &str)] = &[
    ("process_cpu_seconds_total", "counter", "Processor time used, user and system, whole seconds"),
    ("process_open_fds", "gauge", "Open files, sockets included"),
    ("process_max_fds", "gauge", "Files the process may open"),
    ("process_virtual_memory_bytes", "gauge", "Address space in use"),
    ("process_resident_memory_bytes", "gauge", "Memory in use"),
    ("process_start_time_seconds", "gauge", "When the process started, since the Unix epoch"),
    ("process_threads", "gauge", "Threads of the process"),
];

/// The first figures, in the order of the document; [`super::reliable`] has the others.
pub(super) const ROWS: &[Row] = &[
    // Connections: sockets of the public port.
    gauge(
        "roomcast_connections_open",
        "Open sockets of the public port",
        Read::Node(|seen| seen.places.sockets() as u64),
    ),
    gauge(
        "roomcast_connections_addresses",
        "Client addresses (IPv6: /64 networks) with a connection",
        Read::Node(|seen| seen.places.addresses() as u64),
    ),
    counter(
        "roomcast_connections_accepted_total",
        "Sockets accepted",
        Read::Lane(|lane| lane.accepted),
    ),
    counter(
        "roomcast_connections_handshakes_refused_total",
        "Upgrades refused before a session began",
        Read::Lane(|lane| lane.handshakes_refused),
    ),
    counter(
        "roomcast_connections_received_bytes_total",
        "Bytes read from clients after their upgrade",
        Read::Lane(|lane| lane.bytes_in),
    ),
    counter(
        "roomcast_connections_sent_bytes_total",
        "Bytes written to clients after their upgrade",
        Read::Lane(|lane| lane.bytes_out),
    ),
    counter(
        "roomcast_connections_blocked_writes_total",
        "Writes that a socket did not take at once, so that an outbox was begun",
        Read::Lane(|lane| lane.blocked),
    ),
    counter(
        "roomcast_connections_closed_total",
        "Connections ended by the node, by the name of the close code (see CODES.md)",
        Read::Close(|seen, close| {
            let at = close.index();
            sum(seen, |lane| at_index(&lane.counters.closes, at) + at_index(&lane.closes, at))
        }),
    ),
    latency(
        "roomcast_connections_handshake_seconds",
        "From accepting a socket to its upgrade, its client's own time included",
        |latencies| &latencies.handshake,
    ),
    gauge(
        "roomcast_outboxes_waiting_bytes",
        "Bytes waiting for clients that do not take them",
        Read::Lane(|lane| lane.outboxes_bytes),
    ),
    // Sessions.
    gauge(
        "roomcast_sessions_open",
        "Sessions, those without a token yet included",
        Read::Lane(|lane| lane.sizes.sessions as u64),
    ),
    gauge(
        "roomcast_sessions_unauthenticated",
        "Sessions that have not brought a good token yet",
        Read::Lane(|lane| lane.sizes.unauthenticated as u64),
    ),
    counter(
        "roomcast_sessions_ready_total",
        "Sessions that were welcomed",
        Read::Lane(|lane| lane.counters.ready),
    ),
    gauge(
        "roomcast_sessions_users",
        "Users with a connection, or with messages of the last minute that still count against a limit",
        Read::Node(|seen| load(&seen.core.users)),
    ),
    gauge(
        "roomcast_sessions_agents",
        "Agents with a connection on this node",
        Read::Node(|seen| load(&seen.core.agents)),
    ),
    gauge(
        "roomcast_sessions_people",
        "Users with a connection to this node by which they are online, or away",
        Read::Node(|seen| load(&seen.core.people)),
    ),
    // Rooms.
    gauge(
        "roomcast_rooms_open",
        "Rooms with a member on the lane",
        Read::Lane(|lane| lane.sizes.rooms as u64),
    ),
    gauge(
        "roomcast_rooms_memberships",
        "Places in rooms: each session counts once for each of its rooms",
        Read::Lane(|lane| lane.sizes.memberships as u64),
    ),
    gauge(
        "roomcast_rooms_heard",
        "Rooms the node hears from the broker; they linger 1 s after the last member",
        Read::Node(|seen| load(&seen.core.rooms)),
    ),
    // Publications.
    counter(
        "roomcast_publications_received_total",
        "Publications taken from clients, refused ones included",
        Read::Lane(|lane| lane.counters.received),
    ),
    counter(
        "roomcast_publications_published_total",
        "Publications handed to the broker, from clients, back-ends and the node itself",
        Read::Node(|seen| seen.hub.counters.published),
    ),
    counter(
        "roomcast_publications_routed_total",
        "Publications that reached the lane",
        Read::Lane(|lane| lane.counters.publications),
    ),
    counter(
        "roomcast_publications_unwanted_total",
        "Publications that reached the lane and found no member",
        Read::Lane(|lane| lane.counters.unwanted),
    ),
    counter(
        "roomcast_publications_expired_total",
        "Publications dropped because their time to live was over",
        Read::Lane(|lane| lane.counters.expired),
    ),
    counter(
        "roomcast_publications_encodings_total",
        "Encodings made: at most one for each publication, format and lane",
        Read::Lane(|lane| lane.counters.encodings),
    ),
    counter(
        "roomcast_publications_delivered_total",
        "Writes of publications given to members; publications that arrived together are one",
        Read::Lane(|lane| lane.counters.deliveries),
    ),
    // Refusals and limits.
    counter(
        "roomcast_refusals_sent_total",
        "Commands and API requests declined, by the name of the refusal (see CODES.md)",
        Read::Refusal(|seen, refusal| {
            let at = refusal.index();
            let api = seen.api.refusals.get(at).map_or(0, std::cell::Cell::get);
            sum(seen, |lane| at_index(&lane.counters.refusals, at)) + api
        }),
    ),
    counter(
        "roomcast_limits_hit_total",
        "Limits that bit, by their key below `[limits]`",
        Read::Limit(|seen, limit| {
            let at = limit.index();
            let api = seen.api.limits.get(at).map_or(0, std::cell::Cell::get);
            sum(seen, |lane| at_index(&lane.counters.limits, at) + at_index(&lane.limits, at)) + api
        }),
    ),
    // What rooms keep: positions, gaps, recovery.
    counter(
        "roomcast_history_gaps_found_total",
        "Times that something was missing in a room that keeps it",
        Read::Node(|seen| seen.hub.counters.gaps_found),
    ),
    counter(
        "roomcast_history_gaps_repaired_total",
        "Of these, those that were made up for, in whole or in part",
        Read::Node(|seen| seen.hub.counters.repaired),
    ),
    counter(
        "roomcast_history_gaps_lost_total",
        "Losses of which the members of one room had to be told",
        Read::Node(|seen| seen.hub.counters.gaps_told),
    ),
    counter(
        "roomcast_history_gaps_told_total",
        "Notices of gaps given to members",
        Read::Lane(|lane| lane.counters.gaps),
    ),
    counter(
        "roomcast_history_repeated_total",
        "Publications that came again and were dropped by their position",
        Read::Node(|seen| seen.hub.counters.repeated),
    ),
    counter(
        "roomcast_history_reads_total",
        "Pages read to make up for what was missing, once for all members",
        Read::Node(|seen| seen.hub.counters.repair_reads),
    ),
    counter(
        "roomcast_history_heads_total",
        "Questions to the broker for newest positions, up to 512 rooms each",
        Read::Node(|seen| seen.hub.counters.heads_reads),
    ),
    gauge(
        "roomcast_history_held_bytes",
        "Bytes of publications held until what is missing before them has been read",
        Read::Node(|seen| health(seen, |it| it.held_bytes as u64)),
    ),
    gauge(
        "roomcast_history_behind",
        "Pairs of lane and room in which the lane has yet to be given what its queue had no place for",
        Read::Node(|seen| health(seen, |it| it.behind as u64)),
    ),
    counter(
        "roomcast_history_skips_total",
        "Offsets that members covered without a delivery",
        Read::Skip(|seen, reason| {
            let at = SkipReason::ALL.iter().position(|it| *it == reason).unwrap_or(usize::MAX);
            sum(seen, |lane| at_index(&lane.counters.skips, at))
        }),
    ),
    counter(
        "roomcast_history_recovered_total",
        "Joins with `since` that were given all they had missed",
        Read::Lane(|lane| lane.counters.recovered),
    ),
    counter(
        "roomcast_history_unrecovered_total",
        "Joins with `since` that could not be, and were told so",
        Read::Unrecovered(|seen, reason| {
            let at = Unrecovered::ALL.iter().position(|it| *it == reason).unwrap_or(usize::MAX);
            sum(seen, |lane| at_index(&lane.counters.unrecovered, at))
        }),
    ),
    counter(
        "roomcast_history_pages_total",
        "Requests for history that were answered with a page",
        Read::Lane(|lane| lane.counters.histories),
    ),
    counter(
        "roomcast_history_jumps_total",
        "Positions that reached a lane and did not follow the one before: a fault of this program",
        Read::Lane(|lane| lane.counters.jumps),
    ),
    counter(
        "roomcast_control_gaps_total",
        "Times that orders to end sessions may have been missed, so that deliveries waited",
        Read::Node(|seen| seen.hub.counters.control_gaps),
    ),
    counter(
        "roomcast_control_revalidations_total",
        "Times that orders were lost, so that every session had to prove itself anew",
        Read::Node(|seen| seen.hub.counters.revalidations),
    ),
    gauge(
        "roomcast_control_paused_bytes",
        "Bytes of publications that wait until no order can be missing",
        Read::Node(|seen| health(seen, |it| it.paused_bytes as u64)),
    ),
    // Between the threads.
    gauge(
        "roomcast_lanes_queue_bytes",
        "Bytes waiting for the lane",
        Read::Lane(|lane| lane.queue_bytes),
    ),
    gauge(
        "roomcast_lanes_stuck",
        "Lanes that have not turned for 2 s",
        Read::Node(|seen| {
            let stuck = |lane: &&LaneReport| seen.mono_ms.saturating_sub(lane.turned_ms) > STUCK_MS;
            seen.lanes.iter().filter(stuck).count() as u64
        }),
    ),
    counter(
        "roomcast_lanes_dropped_total",
        "Publications that a lane's queue had no place for: read later from history, or told as lost",
        Read::Node(|seen| seen.hub.counters.lane_drops),
    ),
    counter(
        "roomcast_lanes_holds_total",
        "Times that a lane came over 1 s late for its turn, and gave out nothing until no order could be missing",
        Read::Lane(|lane| lane.counters.holds),
    ),
    gauge(
        "roomcast_feed_waiting_bytes",
        "Bytes waiting in the broker's feed",
        Read::Node(|seen| load(&seen.core.feed_bytes)),
    ),
    counter(
        "roomcast_feed_received_total",
        "Envelopes the feed brought",
        Read::Node(|seen| seen.hub.counters.received),
    ),
    counter(
        "roomcast_feed_unwanted_total",
        "Envelopes that no lane wanted",
        Read::Node(|seen| seen.hub.counters.unwanted),
    ),
    // The relay: between this node and the others.
    gauge(
        "roomcast_relay_state",
        "1 for the state the relay is in, 0 for the others; always whole in memory",
        Read::State(|seen, state| {
            u64::from(seen.hub.health.is_some_and(|health| health.relay == state))
        }),
    ),
    counter(
        "roomcast_relay_isolated_seconds_total",
        "Time without the broker, beginning 2 s after it was cut off",
        Read::NodeMs(|seen| seen.hub.counters.isolated_ms),
    ),
    counter(
        "roomcast_relay_isolated_publications_total",
        "Publications given to this node's own members alone, because the broker was away",
        Read::Node(|seen| seen.hub.counters.isolated),
    ),
    counter(
        "roomcast_relay_received_total",
        "Payloads that the broker brought for rooms",
        Read::Node(|seen| load(&seen.relay.received)),
    ),
    counter(
        "roomcast_relay_wanted_total",
        "Payloads of these for rooms that the node wants to hear",
        Read::Node(|seen| load(&seen.relay.wanted)),
    ),
    counter(
        "roomcast_relay_unwanted_total",
        "Payloads of these for rooms that nobody here hears; they are not decoded",
        Read::Node(|seen| load(&seen.relay.unwanted)),
    ),
    counter(
        "roomcast_relay_unreadable_total",
        "Wanted payloads that were dropped because they could not be read",
        Read::Unreadable(|seen, cause| seen.relay.unreadable.get(cause.index()).map_or(0, load)),
    ),
    counter(
        "roomcast_relay_received_bytes_total",
        "Bytes that the broker brought",
        Read::Node(|seen| load(&seen.relay.received_bytes)),
    ),
    counter(
        "roomcast_relay_links_connected_total",
        "Times that a link of the feed was connected, the first times included",
        Read::Node(|seen| load(&seen.relay.links_connected)),
    ),
    counter(
        "roomcast_relay_links_lost_total",
        "Times that a link of the feed was lost",
        Read::Node(|seen| load(&seen.relay.links_lost)),
    ),
    counter(
        "roomcast_relay_commands_connected_total",
        "Times that the connection for commands was connected, the first time included",
        Read::Node(|seen| load(&seen.relay.commands_connected)),
    ),
    counter(
        "roomcast_relay_reconnects_total",
        "Times that the node asked for a new link: the old one was silent, lagged, or heard another master",
        Read::Reconnect(|seen, cause| {
            let counters = &seen.hub.counters;
            match cause {
                Reconnect::Silent => counters.reconnects_silent,
                Reconnect::Lagging => counters.reconnects_lagging,
                Reconnect::Master => counters.reconnects_master,
            }
        }),
    ),
    counter(
        "roomcast_relay_losses_total",
        "Losses of the feed of which members were told",
        Read::Node(|seen| seen.hub.counters.losses),
    ),
    counter(
        "roomcast_relay_beats_sent_total",
        "Beats sent",
        Read::Node(|seen| load(&seen.relay.beats_sent)),
    ),
    counter(
        "roomcast_relay_beats_answered_total",
        "Beats that were answered in time",
        Read::Node(|seen| load(&seen.relay.beats_answered)),
    ),
    counter(
        "roomcast_relay_beats_heard_total",
        "Beats that came back over the feed",
        Read::Node(|seen| load(&seen.relay.beats_heard)),
    ),
    gauge(
        "roomcast_relay_feed_age_seconds",
        "How long ago the feed last brought a byte; 0 in memory",
        Read::NodeMs(|seen| health(seen, |it| it.feed_age_ms)),
    ),
    gauge(
        "roomcast_relay_beat_age_seconds",
        "How old the last beat is that the feed brought; 0 in memory",
        Read::NodeMs(|seen| health(seen, |it| it.beat_age_ms)),
    ),
    gauge(
        "roomcast_relay_lagging",
        "1 while the feed brings bytes too late, else 0",
        Read::Node(|seen| health(seen, |it| u64::from(it.lagging))),
    ),
    gauge(
        "roomcast_relay_waiting_publications",
        "Publications that wait for the broker to return",
        Read::Node(|seen| health(seen, |it| it.waiting as u64)),
    ),
    gauge(
        "roomcast_relay_waiting_bytes",
        "Bytes of publications that wait for the broker to return",
        Read::Node(|seen| health(seen, |it| it.waiting_bytes as u64)),
    ),
    counter(
        "roomcast_relay_waiting_refused_total",
        "Publications refused because too many waited for the broker",
        Read::Node(|seen| seen.hub.counters.refused_waiting),
    ),
    counter(
        "roomcast_relay_partial_publications_total",
        "Publications accepted while a node was missing; their acks said so",
        Read::Node(|seen| seen.hub.counters.partial),
    ),
    gauge(
        "roomcast_relay_peers",
        "Other nodes of the cluster",
        Read::Node(|seen| health(seen, |it| it.peers as u64)),
    ),
    gauge(
        "roomcast_relay_peers_deaf",
        "Other nodes of these whose feed does not hear",
        Read::Node(|seen| health(seen, |it| it.peers_deaf as u64)),
    ),
    gauge(
        "roomcast_relay_peers_disagreeing",
        "Other nodes of these that relay rooms in other modes",
        Read::Node(|seen| health(seen, |it| it.peers_disagreeing as u64)),
    ),
    latency(
        "roomcast_relay_publish_seconds",
        "From handing a publication to the broker to its answer",
        |latencies| &latencies.relay.publish_us,
    ),
    latency(
        "roomcast_relay_delivery_seconds",
        "From the broker's node taking a publication to the last member's socket on one lane",
        |latencies| &latencies.relay.delivery_us,
    ),
];

fn load(value: &AtomicU64) -> u64 {
    value.load(Ordering::Relaxed)
}

fn health(seen: &Seen<'_>, read: fn(&HubHealth) -> u64) -> u64 {
    seen.hub.health.as_ref().map_or(0, read)
}

pub(super) fn sum(seen: &Seen<'_>, read: impl Fn(&LaneReport) -> u64) -> u64 {
    seen.lanes.iter().map(read).sum()
}

pub(super) fn at_index(counts: &[u64], index: usize) -> u64 {
    counts.get(index).copied().unwrap_or_default()
}
