//! What has yet to be told of the agents' room (G19). Each diff stands here from the step that made it until a node has
//! told it, so that neither a lost answer nor a node's end takes it away. They are told in their order: the oldest are
//! given to one node at a time, and given again where nobody says in time that they were told.

use std::collections::VecDeque;
use std::sync::Arc;

use roomcast_protocol::position::Position;
use roomcast_protocol::presence::{AGENTS, PresenceDiff};

use crate::store::Store;

/// How long a node that was given diffs has to say that it told them, until they are given again. Units: milliseconds.
pub const CLAIM_MS: u64 = 3_000;

/// Diffs that are given at once.
pub const CLAIM_MAX: usize = 16;

/// Diffs that wait; beyond it the oldest is lost.
pub const UNTOLD_MAX: usize = 1_000;

/// What has yet to be told, oldest first.
#[derive(Clone, Debug, Default)]
pub(crate) struct Untold {
    diffs: VecDeque<Arc<PresenceDiff>>,
    /// How many of the oldest are given to a node, and until when nobody else gets any. Units: milliseconds.
    given: usize,
    until_ms: u64,
}

impl<E: Clone> Store<E> {
    /// Gives the oldest diffs of the agents' room that wait, in their order; none, while a node has some. `told`: those
    /// up to this version were told, and do not wait any more. Bounds: at most [`CLAIM_MAX`] at once.
    pub fn give_untold(&mut self, now_ms: u64, told: Option<Position>) -> Vec<PresenceDiff> {
        let untold = self.untold_mut();
        if let Some(told) = told {
            untold.cut(told);
        }
        if untold.given > 0 && now_ms < untold.until_ms {
            return Vec::new();
        }
        untold.given = untold.diffs.len().min(CLAIM_MAX);
        untold.until_ms = now_ms.saturating_add(CLAIM_MS);
        untold.diffs.iter().take(untold.given).map(|diff| (**diff).clone()).collect()
    }

    /// A step was made: if it is one of the agents' room, it has yet to be told.
    pub(crate) fn note_untold(&mut self, diff: &Arc<PresenceDiff>) {
        if diff.room.as_str() == AGENTS {
            self.untold_mut().push(Arc::clone(diff));
        }
    }

    /// Nobody is left to be told anything.
    pub fn forget_untold(&mut self) {
        *self.untold_mut() = Untold::default();
    }
}

impl Untold {
    fn push(&mut self, diff: Arc<PresenceDiff>) {
        self.diffs.push_back(diff);
        if self.diffs.len() > UNTOLD_MAX {
            self.diffs.pop_front();
            self.given = self.given.saturating_sub(1);
        }
    }

    fn cut(&mut self, told: Position) {
        let Some(at) = self.diffs.iter().position(|diff| diff.version == told) else { return };
        self.diffs.drain(..=at);
        self.given = self.given.saturating_sub(at + 1);
    }
}
