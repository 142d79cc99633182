//! One stay of a client in a room, from the answer to its join to the end: what it was told and what it heard.

use std::collections::{BTreeMap, BTreeSet};

use roomcast_protocol::position::Position;

/// One stay.
#[derive(Clone, Debug)]
pub(crate) struct Stay {
    pub(crate) began_ms: u64,
    /// Executions before the answer: what came later must be heard.
    pub(crate) began_seq: u64,
    /// What is covered; `None`: the room is ephemeral, or not live.
    pub(crate) at: Option<Position>,
    /// What was heard.
    pub(crate) heard: BTreeSet<usize>,
    /// The execution of the newest push, at least (G1).
    pub(crate) newest_seq: u64,
    /// The same for each server: a master that was replaced may go on for some nodes.
    pub(crate) newest_of: BTreeMap<usize, u64>,
    /// When it was told of a loss last, or that the broker is away.
    pub(crate) told_ms: Option<u64>,
    /// The room's position follows: the broker was away at the join.
    pub(crate) live: bool,
}

impl Stay {
    pub(crate) const fn new(
        began_ms: u64,
        began_seq: u64,
        at: Option<Position>,
        live: bool,
    ) -> Self {
        Self {
            began_ms,
            began_seq,
            at,
            heard: BTreeSet::new(),
            newest_seq: 0,
            newest_of: BTreeMap::new(),
            told_ms: None,
            live,
        }
    }
}
