//! What the embedded broker does about directories: it says what time it is, and what the answers weigh.

use roomcast_protocol::directory::{DirectoryPage, Entries, EntrySet, SetEntry};
use roomcast_protocol::envelope::BrokerEvent;
use roomcast_protocol::ids::NodeId;
use roomcast_protocol::room::RoomName;

use super::State;
use crate::feed::EVENT_BYTES;

/// What an entry in an event weighs beside its name and value. Units: bytes.
const ENTRY_BYTES: usize = 64;

/// What the end of a question for an entry weighs in a feed. Units: bytes.
pub(crate) fn entry_weight(outcome: Option<&EntrySet>) -> usize {
    let before = match outcome {
        Some(EntrySet::Done { before, .. }) => before.as_ref(),
        Some(EntrySet::Full) | None => None,
    };
    EVENT_BYTES + before.map_or(0, bytes::Bytes::len)
}

/// What a page of a directory weighs in a feed. Units: bytes.
pub(crate) fn directory_weight(page: Option<&DirectoryPage>) -> usize {
    let entries = page.iter().flat_map(|page| &page.entries);
    EVENT_BYTES + entries.map(|(name, value)| ENTRY_BYTES + name.len() + value.len()).sum::<usize>()
}

impl<T> State<T> {
    /// Sets an entry, or removes it. Answers with what the answer weighs, too.
    pub(super) fn set_entry(&mut self, request: u64, set: &SetEntry) -> (usize, BrokerEvent<T>) {
        let outcome = self.store.set_entry(self.now_ms, set);
        (entry_weight(outcome.as_ref()), BrokerEvent::EntrySet { request, outcome })
    }

    /// Entries of a directory, and what they weigh; no page if it does not fit into the node's feed.
    pub(super) fn directory(
        &mut self,
        node: NodeId,
        request: u64,
        directory: &RoomName,
        entries: &Entries,
    ) -> (usize, BrokerEvent<T>) {
        let page = self.store.directory(self.now_ms, directory, entries);
        let weight = directory_weight(Some(&page));
        let attached = self.nodes.iter().find(|attached| attached.id == node);
        let page = attached.filter(|attached| attached.feed.fits(weight)).map(|_| page);
        (directory_weight(page.as_ref()), BrokerEvent::Directory { request, page })
    }
}
