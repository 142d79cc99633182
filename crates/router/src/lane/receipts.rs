//! Receipts (G17): the hub is told how far users have certainly got rooms that keep receipts, and what they say themselves;
//! members are told how far others are, and are answered. A mark never comes from what was written to a socket.

use roomcast_protocol::codes::{Refusal, Refused};
use roomcast_protocol::command::{MarkRequest, ReceiptsRequest, ReplyTo};
use roomcast_protocol::guard::Kind;
use roomcast_protocol::ids::SessionKey;
use roomcast_protocol::outbound::Outbound;
use roomcast_protocol::position::{Epoch, Position};
use roomcast_protocol::receipts::{RECEIPTS_PAGE_MAX, Receipt, ReceiptDiff, ReceiptsPage};
use roomcast_protocol::room::RoomName;
use roomcast_protocol::time::Now;

use super::Lane;
use super::acks::Inflight;
use super::alarms::Alarm;
use crate::happenings::Right;
use crate::hub::{ROSTER_RETRY_MS, has_none};
use crate::messages::{Effect, HubMessage, ReceiptsAsk, Said};

/// How long after a publication a ping finds out whether it has arrived. Units: milliseconds.
const PROBE_MS: u64 = 1_000;

impl Lane {
    /// A user says how far it has got, or read, a room it is in.
    pub(super) fn mark(&mut self, key: SessionKey, request: MarkRequest, out: &mut Vec<Effect>) {
        let MarkRequest { reply, room, epoch, delivered, read } = request;
        let room = match RoomName::parse(&room) {
            Ok(room) => room,
            Err(cause) => return self.refuse(key, &reply, &cause.into(), out),
        };
        let index = self.names.get(&room).copied();
        let is_in = |index: &u32| {
            self.session(key).is_some_and(|it| it.rooms.iter().any(|it| it.room == *index))
        };
        let Some(index) = index.filter(is_in) else {
            // Whoever may be in it is told what to do; nobody else learns that it is there.
            if self.may_read(key, &room).is_none() {
                return self.deny(key, &reply, (Right::Mark, &room), out);
            }
            let text = "Only who is in the room marks it: subscribe first";
            let refused = Refused::because(Refusal::Schema, text.into());
            return self.refuse(key, &reply, &refused, out);
        };
        if !self.has_receipts(index) {
            return self.refuse(key, &reply, &has_none(), out);
        }
        let Some(who) = self.session(key).and_then(|session| session.who.as_deref()) else {
            return;
        };
        let said = Said { user: who.user_key().into(), epoch, delivered, read };
        let (lane, session) = (self.id, key);
        out.push(Effect::Hub(HubMessage::Mark { lane, session, reply, room, said }));
    }

    /// What stands for a mark is known, or it was refused.
    pub(super) fn answer_mark(
        &mut self,
        key: SessionKey,
        (reply, room): (&ReplyTo, &RoomName),
        outcome: Result<(Epoch, Box<Receipt>), Refused>,
        out: &mut Vec<Effect>,
    ) {
        match outcome {
            Ok((epoch, receipt)) => {
                let (room, receipt) = (room.as_str(), &*receipt);
                self.send(key, &Outbound::Marked { reply, room, epoch, receipt }, out);
            }
            Err(refused) => self.refuse(key, reply, &refused, out),
        }
    }

    /// Answers how far users are in a room.
    pub(super) fn ask_receipts(
        &mut self,
        key: SessionKey,
        request: ReceiptsRequest,
        out: &mut Vec<Effect>,
    ) {
        let ReceiptsRequest { reply, room, of, after, limit } = request;
        let room = match RoomName::parse(&room) {
            Ok(room) => room,
            Err(cause) => return self.refuse(key, &reply, &cause.into(), out),
        };
        let Some(rule) = self.may_read(key, &room) else {
            return self.deny(key, &reply, (Right::Receipts, &room), out);
        };
        if !self.guard.policy(rule).receipts {
            return self.refuse(key, &reply, &has_none(), out);
        }
        let count_max = limit.unwrap_or(RECEIPTS_PAGE_MAX).clamp(1, RECEIPTS_PAGE_MAX);
        let ask = ReceiptsAsk { room, of, after, count_max };
        let (lane, session) = (self.id, key);
        out.push(Effect::Hub(HubMessage::Receipts { lane, session, reply, ask }));
    }

    /// The hub knows how far users are, or does not.
    pub(super) fn answer_receipts(
        &mut self,
        key: SessionKey,
        (reply, room): (&ReplyTo, &RoomName),
        outcome: Result<ReceiptsPage, Refused>,
        out: &mut Vec<Effect>,
    ) {
        // The right may have been lost meanwhile.
        if self.may_read(key, room).is_none() {
            return self.refuse(key, reply, &Refusal::PermissionDenied.into(), out);
        }
        if self.turns.held {
            let refused = Refused::unavailable("The node catches up".into(), ROSTER_RETRY_MS);
            return self.refuse(key, reply, &refused, out);
        }
        match outcome {
            Ok(page) => {
                let (room, page) = (room.as_str(), &page);
                self.send(key, &Outbound::ReceiptsPage { reply, room, page }, out);
            }
            Err(refused) => self.refuse(key, reply, &refused, out),
        }
    }

    /// Tells a room's members who has got, and who has read, more.
    pub(super) fn tell_receipts(&mut self, diff: &ReceiptDiff, out: &mut Vec<Effect>) {
        let Some(index) = self.names.get(&diff.room).copied() else { return };
        if !self.has_receipts(index) || self.is_crowded(index) {
            return;
        }
        let Some(room) = self.rooms.get(index as usize) else { return };
        let class = self.guard.policy(room.rule).priority;
        self.counters.receipts_told += 1;
        self.tell_members(index, class, &Outbound::Receipts(diff), out);
    }

    /// An answered ping proves that all up to `at` has arrived; before, that was known up to `before`.
    pub(super) fn mark_proven(
        &self,
        index: u32,
        key: SessionKey,
        at: Position,
        before: Option<Position>,
        out: &mut Vec<Effect>,
    ) {
        let at = self.acked_run(index, key, at, self.oldest_unacked(index, key));
        let is_further = before.is_none_or(|it| it.epoch != at.epoch || it.offset < at.offset);
        if is_further {
            self.mark_arrived(index, key, at, out);
        }
    }

    /// With the planted bug: what was given counts.
    #[cfg(feature = "planted")]
    pub(super) fn mark_given(&self, key: SessionKey, out: &mut Vec<Effect>) {
        let Some(session) = self.session(key) else { return };
        for entry in &session.rooms {
            if let Some(at) = self.given(key, entry) {
                self.mark_arrived(entry.room, key, at, out);
            }
        }
    }

    /// The client acked what it was given there: with it all before has arrived, except what waits for an ack.
    pub(super) fn mark_acked(&self, acked: &Inflight, key: SessionKey, out: &mut Vec<Effect>) {
        let Some(at) = acked.publication.position else { return };
        let lasting = self.session(key).and_then(|session| session.lasting.as_deref());
        let safe = lasting.and_then(|lasting| lasting.safe(acked.room));
        let safe = safe.filter(|safe| safe.epoch == at.epoch && safe.offset > at.offset);
        let unacked = self.oldest_unacked(acked.room, key);
        let run = self.acked_run(acked.room, key, safe.unwrap_or(at), unacked);
        if run.offset >= at.offset {
            self.mark_arrived(acked.room, key, run, out);
        }
    }

    /// The user has certainly got the room up to there.
    pub(super) fn mark_arrived(
        &self,
        index: u32,
        key: SessionKey,
        at: Position,
        out: &mut Vec<Effect>,
    ) {
        if !self.notes_arrivals(index) {
            return;
        }
        let who = self.session(key).and_then(|session| session.who.as_deref());
        let Some(who) = who.filter(|who| who.kind == Kind::User) else { return };
        let Some(room) = self.name_of(index) else { return };
        let user = who.user_key().into();
        out.push(Effect::Hub(HubMessage::Arrived { room, user, at }));
    }

    /// A publication is on its way to the members of the room.
    pub(super) fn receipts_room_moves(&mut self, now: Now, index: u32) {
        if !self.notes_arrivals(index) {
            return;
        }
        let Some(serial) = self.rooms.get(index as usize).map(|room| room.serial) else { return };
        self.ping_members_at(now.mono_ms.saturating_add(PROBE_MS), index, serial);
    }

    fn ping_members_at(&mut self, at_ms: u64, index: u32, serial: u32) {
        if self.receipts.insert((index, serial)) {
            self.alarms.set_behind(at_ms, Alarm::Receipts(index, serial));
        }
    }

    /// Pings those members who were given something that no ping proves, and were not pinged lately; the others in their
    /// time.
    pub(super) fn ping_for_receipts(
        &mut self,
        now: Now,
        index: u32,
        serial: u32,
        out: &mut Vec<Effect>,
    ) {
        self.receipts.remove(&(index, serial));
        let Some(room) = self.rooms.get(index as usize) else { return };
        if room.serial != serial {
            return;
        }
        let catching = self.catching.range((index, 0)..=(index, u32::MAX)).map(|(at, _)| at.1);
        let sessions = room.members.iter().map(|member| member.session).chain(catching);
        let sessions = sessions.filter_map(|at| self.sessions.get(at as usize));
        let keys: Vec<SessionKey> = sessions.map(|session| session.key).collect();
        let mut later_ms = None;
        for key in keys {
            if let Some(number) = self.pledge_if_moved(now, key) {
                self.send_ping(now, key, number, out);
            } else if let Some(at_ms) = self.proof_due_ms(key) {
                later_ms = Some(at_ms.min(later_ms.unwrap_or(u64::MAX)));
            }
        }
        if let Some(at_ms) = later_ms {
            let at_ms = at_ms.max(now.mono_ms.saturating_add(PROBE_MS));
            self.ping_members_at(at_ms, index, serial);
        }
    }

    /// Whether it is marked that its members got what is said there: in a group they say so themselves, for there may be
    /// thousands.
    fn notes_arrivals(&self, index: u32) -> bool {
        self.has_receipts(index) && !self.is_crowded(index) && self.group_at(index).is_none()
    }

    fn has_receipts(&self, index: u32) -> bool {
        let room = self.rooms.get(index as usize).filter(|room| room.stream.is_some());
        room.is_some_and(|room| self.guard.policy(room.rule).receipts)
    }
}
