//! What the embedded broker does about receipts: it says what time it is, and who is told (G17).

use std::sync::Arc;

use roomcast_protocol::envelope::{BrokerEvent, Envelope};
use roomcast_protocol::receipts::{MarksSet, Receipt, ReceiptDiff, ReceiptsPage, SetMarks};
use roomcast_protocol::room::RoomName;

use super::State;
use crate::feed::EVENT_BYTES;

/// What a receipt weighs in an event beside the user's name. Units: bytes.
const RECEIPT_BYTES: usize = 64;

/// What the answer to one mark weighs. Units: bytes.
const MARKED_BYTES: usize = 16;

impl<T> State<T> {
    /// Marks what users have got and read, and tells all nodes of it. Answers with what the answer weighs, too.
    pub(super) fn set_marks(&mut self, set: &SetMarks) -> (usize, Option<MarksSet>) {
        let (at, unix_ms) = (self.at(), self.unix_ms());
        let marking = self.store.set_marks(at, unix_ms, set);
        let outcome = marking.map(|marking| {
            marking.publish.iter().for_each(|diff| self.spread_receipts(diff));
            marking.answer
        });
        (EVENT_BYTES + MARKED_BYTES * set.changes.len(), outcome)
    }

    pub(super) fn receipts(
        &mut self,
        room: &RoomName,
        of: Option<u64>,
        after: Option<&str>,
        count_max: u32,
    ) -> (usize, Option<ReceiptsPage>) {
        let at = self.at();
        let page = self.store.receipts(at, room, of, after, count_max);
        (EVENT_BYTES + page.as_ref().map_or(0, |page| weight(&page.receipts)), page)
    }

    /// All nodes are of this process, so each has the same clock. Units: milliseconds since the Unix epoch.
    fn unix_ms(&self) -> u64 {
        self.nodes.first().map_or(0, |attached| attached.stats.time().now_us / 1_000)
    }

    /// Puts a diff into every feed.
    fn spread_receipts(&self, diff: &Arc<ReceiptDiff>) {
        let weight = EVENT_BYTES + weight(&diff.receipts);
        for attached in &self.nodes {
            let envelope = Envelope::Receipts(Arc::clone(diff));
            attached.feed.send(weight, BrokerEvent::Envelope(envelope));
        }
    }
}

/// What receipts weigh in a feed. Units: bytes.
fn weight(receipts: &[Receipt]) -> usize {
    receipts.iter().map(|it| RECEIPT_BYTES + it.user.len()).sum()
}
