//! What a user has missed of a conversation, looked through from its newest entry down: what was taken back again is not
//! among it.

use std::collections::BTreeSet;

use roomcast_protocol::conversation::Amends;
use roomcast_protocol::publication::Publication;

use super::{held, is_message};

/// Messages that were taken back, and have not been met yet. Bounds: entries that the room keeps above what is read.
#[derive(Debug, Default)]
pub(super) struct TakenBack {
    all: BTreeSet<(u64, Box<str>)>,
    /// What they weigh. Units: bytes.
    pub(super) held: usize,
}

impl TakenBack {
    /// Whether the next older entry is a message that this user has missed.
    pub(super) fn is_missed(&mut self, user: &str, offset: u64, entry: &Publication) -> bool {
        if *entry.sender == *user {
            return false;
        }
        if is_message(entry) {
            // What stood there before all was lost was another message.
            let is_there = self.all.remove(&(offset, entry.id.clone()));
            self.held -= if is_there { held::ROW_BYTES + entry.id.len() } else { 0 };
            return !is_there;
        }
        if let Some(of) = erased(entry)
            && self.all.insert((of.offset, of.id.clone()))
        {
            self.held += held::ROW_BYTES + of.id.len();
        }
        false
    }
}

/// Which message an entry takes back, if it takes back one.
pub(super) fn erased(entry: &Publication) -> Option<&Amends> {
    entry.origin.as_ref()?.amends.as_ref().filter(|amends| amends.erases)
}
