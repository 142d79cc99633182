//! Inboxes whose stream has begun anew (G2a, G16): what was acked before may stand under other offsets by now, and only
//! the broker knows. Whoever is in such a room is parked until it has said; then it is told of the gap, and goes on from
//! its cursor.

use roomcast_protocol::command::ReplyTo;
use roomcast_protocol::ids::SessionKey;
use roomcast_protocol::inbox::CursorName;
use roomcast_protocol::outbound::Loss;
use roomcast_protocol::position::{Position, Unrecovered};
use roomcast_protocol::time::Now;

use super::Lane;
use super::alarms::Alarm;
use super::catching::Step;
use super::inboxes::ASK_MS;
use super::parking::Until;
use crate::messages::{Effect, HubMessage};

/// How long a session whose inbox is in another epoch than its lane waits for the lane, before the broker is asked once
/// more. Units: milliseconds.
const EPOCH_MS: u64 = 500;

/// How often it is asked so at most; then the session goes on without knowing.
const ROUNDS_MAX: u32 = 8;

impl Lane {
    /// The room goes on at a place of another epoch: if it is an inbox, its members' cursors are asked for.
    pub(super) fn renew_inbox(
        &mut self,
        now: Now,
        index: u32,
        position: Position,
        out: &mut Vec<Effect>,
    ) {
        if self.position(index).is_none_or(|at| at.epoch == position.epoch) {
            return;
        }
        for key in self.inbox_members(index) {
            self.park(now, index, key, (None, Until::Acks), out);
            self.ask_anew(now, index, key, out);
        }
    }

    /// A session that catches up cannot go on from where it is in the lane's epoch: if the room is an inbox, it goes on
    /// from its cursor. Says whether it is.
    pub(super) fn goes_on_from_cursor(
        &mut self,
        now: Now,
        index: u32,
        key: SessionKey,
        why: Unrecovered,
        out: &mut Vec<Effect>,
    ) -> bool {
        let Some(at) = self.position(index) else { return false };
        let acks = self.session_mut(key).and_then(|session| session.acks.as_mut());
        let Some(inbox) = acks.and_then(|acks| acks.inbox(index)) else { return false };
        let renewed = why == Unrecovered::Epoch || inbox.cursor.epoch() != at.epoch;
        if renewed {
            self.ask_anew(now, index, key, out);
        }
        renewed
    }

    /// What a session that catches up knew of its inbox counts no more: the broker is asked.
    fn ask_anew(&mut self, now: Now, index: u32, key: SessionKey, out: &mut Vec<Effect>) {
        let Some(cursor) = self.cursor_name(index, key) else { return };
        let Some(catch_up) = self.catching.get_mut(&(index, key.index)) else { return };
        let wished = (!catch_up.is_answered()).then_some(catch_up.covered);
        catch_up.rounds = 0;
        let was = std::mem::replace(&mut catch_up.step, Step::Inbox(wished));
        if was == Step::Turn {
            self.parking.step_out(index, key);
        }
        // What waits for its ack is given again from the cursor on.
        self.end_acks(index, key, out);
        self.ask_cursor(now, index, key, cursor, out);
    }

    /// The broker is asked what a session that catches up has acked.
    pub(super) fn ask_cursor(
        &mut self,
        now: Now,
        index: u32,
        key: SessionKey,
        cursor: CursorName,
        out: &mut Vec<Effect>,
    ) {
        let until_ms = now.mono_ms.saturating_add(ASK_MS);
        let until_ms = self.alarms.set(until_ms, Alarm::CatchUp(index, key.index));
        if let Some(catch_up) = self.catching.get_mut(&(index, key.index)) {
            catch_up.until_ms = until_ms;
        }
        out.push(Effect::Hub(HubMessage::Inbox { lane: self.id, session: key, cursor }));
    }

    /// The broker has answered for another epoch than the lane's: the session waits for the lane.
    pub(super) fn await_epoch(&mut self, now: Now, index: u32, key: SessionKey) {
        let until_ms = now.mono_ms.saturating_add(EPOCH_MS);
        let until_ms = self.alarms.set(until_ms, Alarm::CatchUp(index, key.index));
        let Some(catch_up) = self.catching.get_mut(&(index, key.index)) else { return };
        if let Step::Inbox(wished) = catch_up.step {
            catch_up.step = Step::Epoch(wished);
            catch_up.rounds += 1;
            catch_up.until_ms = until_ms;
        }
    }

    /// The lane has come to another epoch, or has not come: who waited for it asks again.
    pub(super) fn ask_again(
        &mut self,
        now: Now,
        index: u32,
        key: SessionKey,
        out: &mut Vec<Effect>,
    ) {
        let Some(cursor) = self.cursor_name(index, key) else { return };
        let Some(catch_up) = self.catching.get_mut(&(index, key.index)) else { return };
        let Step::Epoch(wished) = catch_up.step else { return };
        catch_up.step = Step::Inbox(wished);
        if catch_up.rounds >= ROUNDS_MAX {
            return self.inbox_is(now, index, key, None, out);
        }
        self.ask_cursor(now, index, key, cursor, out);
    }

    /// A session is told from where it goes on in its inbox: in the answer to its join, or by a gap where it was in it.
    pub(super) fn tell_start(
        &mut self,
        index: u32,
        key: SessionKey,
        reply: Option<ReplyTo>,
        (told, recovered): (Position, Result<(), Unrecovered>),
        out: &mut Vec<Effect>,
    ) {
        match reply {
            Some(reply) => self.answer_entry(index, key, &reply, (told, Some(recovered)), out),
            None => {
                self.counters.gaps += 1;
                self.tell_one_gap(index, key, (told, Loss::Epoch), out);
                self.tell_lost(index, key, out);
            }
        }
    }
}
