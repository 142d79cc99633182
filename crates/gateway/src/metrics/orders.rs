//! The rows about orders to all nodes: a continuation of the table.

use super::table::{Read, Row, counter};

/// These rows, in the order of the document.
pub(super) const ROWS: &[Row] = &[
    counter(
        "roomcast_orders_unanswered_total",
        "Nodes that had not confirmed an order of this one when its answer was given; they obey before they deliver",
        Read::Node(|seen| seen.hub.counters.orders_unanswered),
    ),
    counter(
        "roomcast_orders_unconfirmed_total",
        "Orders of other nodes that were obeyed but not confirmed, because too many were under way",
        Read::Node(|seen| seen.hub.counters.orders_unconfirmed),
    ),
];
