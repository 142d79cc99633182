//! The rows about RPC of back-ends: the end of the table.

use super::table::{Each, Read, Row, counter, gauge};
use crate::rpc::{Answered, Ended};

/// These rows, in the order of the document.
pub(super) const ROWS: &[Row] = &[
    // RPC of back-ends.
    gauge(
        "roomcast_rpc_connections_open",
        "Open connections of RPC",
        Read::Node(|seen| seen.rpc.connections()),
    ),
    counter(
        "roomcast_rpc_connections_accepted_total",
        "Connections of RPC that were accepted",
        Read::Node(|seen| seen.rpc.accepted()),
    ),
    counter(
        "roomcast_rpc_connections_ended_total",
        "Connections of RPC that the node ended, by cause: what is no frame, frames that were not finished, answers that were not taken, `rpc.connections_max`",
        Read::Each(Each {
            label: &["cause"],
            names: Ended::names,
            read: |seen, at| seen.rpc.ended_at(at),
        }),
    ),
    counter(
        "roomcast_rpc_calls_total",
        "Calls by how they were answered: done, at once (what became of them is not told), failed, or refused because they are no calls",
        Read::Each(Each {
            label: &["answer"],
            names: Answered::names,
            read: |seen, at| seen.rpc.calls_at(at),
        }),
    ),
    counter(
        "roomcast_rpc_publications_total",
        "Publications by RPC that were accepted",
        Read::Node(|seen| seen.rpc.all_published()),
    ),
    counter(
        "roomcast_rpc_publications_refused_total",
        "Publications by RPC that were refused, those whose outcome is unknown included",
        Read::Refusal(|seen, refusal| seen.rpc.refusals(refusal)),
    ),
    counter(
        "roomcast_rpc_topics_unnamed_total",
        "Topics without a name, which were skipped",
        Read::Node(|seen| seen.rpc.all_unnamed()),
    ),
];
