//! The rows about calls to the application's back-ends; the label is the call's name, which the configuration gives: a
//! continuation of the table.

use std::sync::atomic::{AtomicU64, Ordering};

use super::table::{Read, Row, counter, gauge};

/// These rows, in the order of the document.
pub(super) const ROWS: &[Row] = &[
    counter(
        "roomcast_upstream_calls_answered_total",
        "Requests that a back-end answered with any status below 500",
        Read::Call(|call| of(&call.answered)),
    ),
    counter(
        "roomcast_upstream_calls_failed_total",
        "Requests that a back-end did not answer, or with a status of 500 or more",
        Read::Call(|call| of(&call.failed)),
    ),
    counter(
        "roomcast_upstream_calls_refused_total",
        "Calls that did not leave because too many waited, or waited too long",
        Read::Call(|call| of(&call.refused)),
    ),
    counter(
        "roomcast_upstream_calls_shut_out_total",
        "Calls that did not leave because the breaker was open",
        Read::Call(|call| of(&call.shut_out)),
    ),
    counter(
        "roomcast_upstream_calls_cached_total",
        "Calls that were given an answer kept from before",
        Read::Call(|call| of(&call.cached)),
    ),
    counter(
        "roomcast_upstream_calls_stale_total",
        "Calls that were given a stale answer because the breaker was open",
        Read::Call(|call| of(&call.stale)),
    ),
    counter(
        "roomcast_upstream_calls_shared_total",
        "Calls that shared the request of another one",
        Read::Call(|call| of(&call.shared)),
    ),
    gauge(
        "roomcast_upstream_calls_under_way",
        "Requests that a back-end has not answered yet",
        Read::Call(|call| of(&call.under_way)),
    ),
    gauge(
        "roomcast_upstream_calls_waiting",
        "Calls that wait for their turn, or for the request that they share",
        Read::Call(|call| of(&call.waiting)),
    ),
    gauge(
        "roomcast_node_upstream_open",
        "1: the breaker of the call is open, its back-end is left alone",
        Read::Call(|call| of(&call.open)),
    ),
];

fn of(figure: &AtomicU64) -> u64 {
    figure.load(Ordering::Relaxed)
}
