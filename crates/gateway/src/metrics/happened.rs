//! The rows about what the application is told of: who came and went, what was not acked, who tried what it may not.

use std::sync::atomic::Ordering;

use roomcast_router::happenings::HappeningKind;

use super::table::{Each, Read, Row, counter, sum};

/// These rows, in the order of the document.
pub(super) const ROWS: &[Row] = &[
    counter(
        "roomcast_happenings_told_total",
        "What happened on this node and was to be told to the application, security events told together as one",
        Read::Each(Each {
            label: &["kind"],
            names: || HappeningKind::NAMES.to_vec(),
            read: |seen, at| {
                let told = seen.core.happened.told.get(at);
                told.map_or(0, |count| count.load(Ordering::Relaxed))
            },
        }),
    ),
    counter(
        "roomcast_happenings_untold_total",
        "What happened and was not told because the queue between lanes and core was full",
        Read::Lane(|lane| lane.counters.untold + lane.told.untold),
    ),
    counter(
        "roomcast_happenings_merged_total",
        "Security events that another one like them tells of by its count",
        Read::Node(|seen| {
            seen.core.happened.merged.load(Ordering::Relaxed) + sum(seen, |lane| lane.told.merged)
        }),
    ),
    counter(
        "roomcast_happenings_early_total",
        "Times that more than 10,000 kinds of security events and their culprits were known, so that one was forgotten early",
        Read::Node(|seen| {
            seen.core.happened.early.load(Ordering::Relaxed) + sum(seen, |lane| lane.told.early)
        }),
    ),
];
