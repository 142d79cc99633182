//! The rows about sessions that go on elsewhere: a continuation of the table.

use super::table::{Read, Row, counter, gauge};

/// These rows, in the order of the document.
pub(super) const ROWS: &[Row] = &[
    // The drain: how a node lets its clients go before it ends.
    gauge(
        "roomcast_node_draining",
        "1 while the node lets its clients go, else 0",
        Read::Node(|seen| u64::from(seen.draining.is_on())),
    ),
    gauge(
        "roomcast_node_drain_clients",
        "Clients when it began; of these `roomcast_sessions_open` are left",
        Read::Node(|seen| seen.draining.clients()),
    ),
    counter(
        "roomcast_node_drain_cut_total",
        "Clients that were left at `drain.deadline` and were closed at once",
        Read::Node(|seen| seen.draining.was_cut()),
    ),
    counter(
        "roomcast_node_drain_refused_total",
        "Upgrades refused with 503 because the node drains",
        Read::Lane(|lane| lane.drain_refused),
    ),
];
