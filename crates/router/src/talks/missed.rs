//! What a user has missed of a conversation, looked through from its newest entry down: what was taken back again is not
//! among it.

use std::collections::BTreeSet;

use roomcast_protocol::conversation::Amends;
use roomcast_protocol::publication::Publication;

use super::is_message;

/// Messages that were taken back, and have not been met yet. Bounds: entries that the room keeps above what is read.
#[derive(Debug, Default)]
pub(super) struct TakenBack(BTreeSet<(u64, Box<str>)>);

impl TakenBack {
    /// Whether the next older entry is a message that this user has missed.
    pub(super) fn is_missed(&mut self, user: &str, offset: u64, entry: &Publication) -> bool {
        if *entry.sender == *user {
            return false;
        }
        if is_message(entry) {
            // What stood there before all was lost was another message.
            return !self.0.remove(&(offset, entry.id.clone()));
        }
        self.0.extend(erased(entry).map(|it| (it.offset, it.id.clone())));
        false
    }
}

/// Which message an entry takes back, if it takes back one.
pub(super) fn erased(entry: &Publication) -> Option<&Amends> {
    entry.origin.as_ref()?.amends.as_ref().filter(|amends| amends.erases)
}
