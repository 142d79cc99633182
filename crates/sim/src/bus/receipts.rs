//! What a server does about receipts, in one step each.

use std::sync::Arc;

use roomcast_protocol::codes::Refusal;
use roomcast_protocol::envelope::Envelope;
use roomcast_protocol::receipts::{ReceiptDiff, SetMarks};
use roomcast_protocol::room::RoomName;

use super::{Answer, Fault, Item};
use crate::world::World;

impl World {
    pub(super) fn execute_marks(&mut self, server: usize, set: &SetMarks, fresh: u128) -> Answer {
        if self.is_moved(server, &set.room) {
            return Answer::Fault(Fault::NotYet);
        }
        let at = self.when(server, fresh);
        let store = self.bus.servers[server].data.store(&set.room);
        let Some(marking) = store.set_marks(at, at.now_ms, set) else {
            return Answer::Fault(Fault::Declined(Refusal::Unavailable.into()));
        };
        if let Some(diff) = marking.publish {
            self.bring_receipts(server, &diff);
        }
        Answer::MarksSet(marking.answer)
    }

    pub(super) fn execute_receipts(
        &mut self,
        server: usize,
        room: &RoomName,
        (of, after, count_max): (Option<u64>, Option<&str>, u32),
        fresh: u128,
    ) -> Answer {
        if self.is_moved(server, room) {
            return Answer::Fault(Fault::NotYet);
        }
        let at = self.when(server, fresh);
        let store = self.bus.servers[server].data.store(room);
        let full = Answer::Fault(Fault::Declined(Refusal::Unavailable.into()));
        store.receipts(at, room, of, after, count_max).map_or(full, Answer::Receipts)
    }

    fn bring_receipts(&mut self, server: usize, diff: &Arc<ReceiptDiff>) {
        for (node, link) in self.listeners(server, &diff.room) {
            let envelope = Envelope::Receipts(Arc::clone(diff));
            self.bring(node, link, Item::Envelope(envelope));
        }
    }
}
