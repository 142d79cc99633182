//! What devices have acked of their inboxes (G16): lanes' questions go to the broker, a few at once, and are asked again
//! where it did not answer; cursors that move while the broker is away are told of once it is back.

use std::collections::{BTreeMap, VecDeque};

use roomcast_protocol::conversation::{self, USER_GROUPS_MAX};
use roomcast_protocol::directory::SetEntry;
use roomcast_protocol::envelope::BrokerCommand;
use roomcast_protocol::ids::{LaneId, SessionKey};
use roomcast_protocol::inbox::{
    ACKED_ABOVE_MAX, Acked, CursorName, DEVICE_IDLE_MS, DEVICES_MAX, InboxState, Told,
};
use roomcast_protocol::position::{Epoch, Keep, Position};
use roomcast_protocol::room::RoomName;
use roomcast_protocol::time::Now;

use super::Hub;
use super::asks::ASK_AGAIN_MS;
use crate::messages::{HubEffect, LaneMessage};
use crate::{membership, talks};

/// Questions about inboxes that are under way to the broker at once.
pub const INBOX_ASKS_MAX: usize = 64;

/// Questions that may wait for those; beyond it sessions go on without knowing.
pub const INBOX_ASKS_WAITING_MAX: usize = 16_384;

/// How long a question is asked again where the broker does not answer; then the session goes on without knowing.
/// Units: milliseconds.
pub const INBOX_MS: u64 = 5_000;

/// Cursors that may wait for the broker to be back; those beyond are not moved, and what they acked is given once more.
pub const CURSORS_WAITING_MAX: usize = 4_096;

/// Places of one user's devices in its groups; beyond it a new device goes on, in a group, where the furthest one is.
#[allow(clippy::cast_possible_truncation, reason = "16")]
const PLACES_MAX: u32 = USER_GROUPS_MAX * DEVICES_MAX as u32;

/// A lane's question.
#[derive(Debug)]
struct InboxAsk {
    lane: LaneId,
    session: SessionKey,
    cursor: CursorName,
    keep: Keep,
    /// Units: monotonic milliseconds.
    until_ms: u64,
}

/// Questions about inboxes, and cursors that wait.
#[derive(Debug, Default)]
pub(super) struct Inboxes {
    requests: u64,
    /// Bounds: [`INBOX_ASKS_MAX`].
    under_way: BTreeMap<u64, InboxAsk>,
    /// Oldest first. Bounds: [`INBOX_ASKS_WAITING_MAX`].
    waiting: VecDeque<InboxAsk>,
    /// Nothing is asked before, after a question that was not answered. Units: monotonic milliseconds.
    rest_ms: u64,
    /// Where cursors have moved to while the broker was away. Bounds: [`CURSORS_WAITING_MAX`].
    moved: BTreeMap<CursorName, (Acked, Told)>,
}

impl Inboxes {
    /// Nothing is asked, and nothing waits.
    #[cfg(test)]
    pub(super) fn are_idle(&self) -> bool {
        self.under_way.is_empty() && self.waiting.is_empty() && self.moved.is_empty()
    }
}

impl Hub {
    /// A session wants to know what it has acked.
    pub(super) fn lane_asks_inbox(
        &mut self,
        now: Now,
        (lane, session): (LaneId, SessionKey),
        cursor: CursorName,
        out: &mut Vec<HubEffect>,
    ) {
        let until_ms = now.mono_ms.saturating_add(INBOX_MS);
        let keep = self.keep_of(&cursor.room).filter(|keep| keep.inbox.is_some());
        match keep.filter(|_| self.inboxes.waiting.len() < INBOX_ASKS_WAITING_MAX) {
            Some(keep) => {
                let ask = InboxAsk { lane, session, cursor, keep, until_ms };
                self.inboxes.waiting.push_back(ask);
            }
            None => out.push(answer(lane, session, cursor, None)),
        }
    }

    /// A cursor moves.
    pub(super) fn move_cursor(
        &mut self,
        cursor: CursorName,
        acked: Acked,
        told: Told,
        out: &mut Vec<HubEffect>,
    ) {
        let is_group = conversation::group_of(&cursor.room).is_some();
        let keep = self.keep_of(&cursor.room).filter(|keep| is_group || keep.inbox.is_some());
        let Some(keep) = keep else { return };
        if self.may_ask() {
            return match is_group {
                true => self.note_place(&cursor, acked.watermark, out),
                false => {
                    let ack = BrokerCommand::Ack { cursor, keep, acked, told };
                    out.push(HubEffect::Broker(ack));
                }
            };
        }
        let moved = &mut self.inboxes.moved;
        if let Some((held, held_told)) = moved.get_mut(&cursor) {
            merge(held, acked);
            *held_told = held_told.and(told);
        } else if moved.len() < CURSORS_WAITING_MAX {
            moved.insert(cursor, (acked, told));
        } else {
            self.counters.cursors_dropped += 1;
        }
    }

    /// How far a device of a member has acked a group: beside the group's room, for there may be thousands. What it acked
    /// above is given once more.
    fn note_place(&mut self, cursor: &CursorName, at: Position, out: &mut Vec<HubEffect>) {
        let Some((user, device)) = cursor.device.split_once(' ') else { return };
        let Some(directory) = talks::cursors_of(user) else { return };
        #[cfg(feature = "planted")]
        let at = match self.planted {
            Some(crate::planted::Planted::PlaceBeyondAcks) => at.at(at.offset + 3),
            _ => at,
        };
        let set = SetEntry {
            directory,
            name: talks::cursor_entry(&cursor.room, device).into(),
            value: Some(membership::place(at).into()),
            entries_max: PLACES_MAX,
            idle_ms: Some(DEVICE_IDLE_MS),
        };
        let request = self.talks.number();
        out.push(HubEffect::Broker(BrokerCommand::SetEntry { request, set: Box::new(set) }));
    }

    /// Asks what waits, and tells of cursors that have moved.
    pub(super) fn ask_inboxes(&mut self, now: Now, out: &mut Vec<HubEffect>) {
        // A question that is asked again has waited longest, and stands in front.
        let late = |ask: &mut InboxAsk| ask.until_ms <= now.mono_ms;
        while let Some(InboxAsk { lane, session, cursor, .. }) =
            self.inboxes.waiting.pop_front_if(late)
        {
            out.push(answer(lane, session, cursor, None));
        }
        if !self.may_ask() {
            return;
        }
        for (cursor, (acked, told)) in std::mem::take(&mut self.inboxes.moved) {
            self.move_cursor(cursor, acked, told, out);
        }
        while self.inboxes.rest_ms <= now.mono_ms
            && self.inboxes.under_way.len() < INBOX_ASKS_MAX
            && let Some(ask) = self.inboxes.waiting.pop_front()
        {
            self.inboxes.requests += 1;
            let (request, cursor, keep) = (self.inboxes.requests, ask.cursor.clone(), ask.keep);
            self.inboxes.under_way.insert(request, ask);
            out.push(HubEffect::Broker(BrokerCommand::Inbox { request, cursor, keep }));
        }
    }

    /// When [`Hub::ask_inboxes`] has something to do. Units: monotonic milliseconds.
    pub(super) fn next_inbox_ms(&self) -> Option<u64> {
        let inboxes = &self.inboxes;
        let oldest = inboxes.waiting.front()?;
        let free = self.may_ask() && inboxes.under_way.len() < INBOX_ASKS_MAX;
        Some(if free { inboxes.rest_ms.min(oldest.until_ms) } else { oldest.until_ms })
    }

    /// The broker answered, or did not.
    pub(super) fn inbox_asked(
        &mut self,
        now: Now,
        request: u64,
        state: Option<InboxState>,
        out: &mut Vec<HubEffect>,
    ) {
        let Some(ask) = self.inboxes.under_way.remove(&request) else { return };
        if state.is_none() && now.mono_ms < ask.until_ms {
            self.inboxes.rest_ms = now.mono_ms.saturating_add(ASK_AGAIN_MS);
            return self.inboxes.waiting.push_front(ask);
        }
        if let Some(head) = state.as_ref().map(|state| state.head.position) {
            self.know_epoch(&ask.cursor.room, head.epoch);
        }
        out.push(answer(ask.lane, ask.session, ask.cursor, state));
    }

    /// The room is in this epoch: where lanes are in another one, the head is asked for.
    fn know_epoch(&mut self, room: &RoomName, epoch: Epoch) {
        let at = self.track(room).and_then(|track| track.at);
        if at.is_some_and(|at| at.epoch != epoch) {
            self.want_head(room);
        }
    }
}

fn answer(
    lane: LaneId,
    session: SessionKey,
    cursor: CursorName,
    state: Option<InboxState>,
) -> HubEffect {
    HubEffect::Lane(lane, LaneMessage::Inbox { session, cursor, state })
}

/// What two sessions of a device acked is acked. Of another epoch the later one counts.
fn merge(held: &mut Acked, acked: Acked) {
    if held.watermark.epoch != acked.watermark.epoch {
        *held = acked;
        return;
    }
    let mut offset = held.watermark.offset.max(acked.watermark.offset);
    held.above.extend(acked.above);
    held.above.sort_unstable();
    held.above.dedup();
    held.above.retain(|above| {
        offset += u64::from(*above == offset + 1);
        *above > offset
    });
    held.watermark.offset = offset;
    held.above.truncate(ACKED_ABOVE_MAX);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn acked(epoch: u128, offset: u64, above: &[u64]) -> Acked {
        let watermark = Position { epoch: Epoch(epoch), offset };
        Acked { watermark, above: above.to_vec() }
    }

    #[test]
    fn what_either_session_acked_is_acked() {
        let mut held = acked(1, 5, &[7, 9]);
        merge(&mut held, acked(1, 7, &[9, 11]));
        assert_eq!(held, acked(1, 7, &[9, 11]));
        merge(&mut held, acked(1, 3, &[8]));
        assert_eq!(held, acked(1, 9, &[11]));
        merge(&mut held, acked(2, 4, &[6]));
        assert_eq!(held, acked(2, 4, &[6]));
    }

    #[test]
    fn the_lowest_stay_beyond_the_bound() {
        let offsets = |count: u64| (1..=count).map(|it| 10 + 2 * it).collect::<Vec<_>>();
        for more in [0, 1] {
            let mut held = acked(1, 5, &[]);
            merge(&mut held, acked(1, 5, &offsets(ACKED_ABOVE_MAX as u64 + more)));
            assert_eq!(held.above, offsets(ACKED_ABOVE_MAX as u64));
        }
    }
}
