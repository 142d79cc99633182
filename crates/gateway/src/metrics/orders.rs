//! The rows about orders to all nodes, revoked tokens, and questions to all nodes: a continuation of the table.

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
    counter(
        "roomcast_surveys_refused_total",
        "Questions of back-ends to all nodes that were not asked, or not answered, because too many were under way",
        Read::Node(|seen| seen.hub.counters.surveys_refused),
    ),
    counter(
        "roomcast_revocations_lost_total",
        "Revoked tokens that a lane could not keep in mind because there are too many: they are taken again",
        Read::Lane(|lane| lane.counters.revoked_lost),
    ),
];
