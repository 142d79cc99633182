//! What users have got and read of rooms (G17), as the broker tells it.

use roomcast_protocol::receipts::{MarksSet, ReceiptDiff, ReceiptsPage};
use roomcast_protocol::time::Now;

use super::Hub;
use crate::messages::HubEffect;

impl Hub {
    /// A step changed the receipts of a room.
    pub(super) fn hear_receipts(&mut self, _now: Now, _diff: &ReceiptDiff) {}

    /// The answer to a step of marks.
    pub(super) fn marks_set(
        &mut self,
        _now: Now,
        _request: u64,
        _outcome: Option<MarksSet>,
        _out: &mut Vec<HubEffect>,
    ) {
    }

    /// The answer to a question for receipts.
    pub(super) fn receipts_asked(
        &mut self,
        _now: Now,
        _request: u64,
        _page: Option<ReceiptsPage>,
        _out: &mut Vec<HubEffect>,
    ) {
    }
}
