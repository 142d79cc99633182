//! Members that are given nothing more of a room until they have acked (G15): the room is parked for them. And what of
//! a page a session is given: what its client has acked it is not, what it has got and not acked it is once more.

use std::sync::Arc;

use roomcast_protocol::ids::SessionKey;
use roomcast_protocol::limits::LimitName;
use roomcast_protocol::outbound::{Loss, SkipReason};
use roomcast_protocol::position::{Kept, Page, Position};
use roomcast_protocol::publication::Publication;
use roomcast_protocol::time::Now;

use super::Lane;
use super::catching::{CatchUp, Step};
use super::pages::why_skipped;
use super::parking::Until;
use super::rooms::Ask;
use crate::messages::Effect;
use crate::session::Membership;

/// What a session that catches up gets of one entry.
#[derive(Clone, Debug)]
pub(super) enum Share {
    /// It.
    Given,
    /// It, and it has to ack it.
    Awaited(Arc<Publication>),
    /// Nothing: the client has it.
    Known,
    /// It once more: the client has it, but has not acked it.
    Again(Arc<Publication>),
    /// It is told that it skipped it.
    Skipped(SkipReason),
}

impl Share {
    /// Whether it is given, unless a newer one takes its place.
    pub(super) const fn is_given(&self) -> bool {
        matches!(self, Self::Given)
    }

    /// Whether the client has it.
    pub(super) const fn is_known(&self) -> bool {
        matches!(self, Self::Known | Self::Again(_))
    }

    pub(super) const fn skipped(&self) -> Option<SkipReason> {
        match self {
            Self::Skipped(reason) => Some(*reason),
            Self::Given | Self::Awaited(_) | Self::Known | Self::Again(_) => None,
        }
    }
}

impl Lane {
    /// Too much waits for the acks of a member that has covered `covered` of a room: the room is parked for it;
    /// `listed`: it is still in the room's list.
    pub(super) fn park_unacked(
        &mut self,
        index: u32,
        (key, listed): (SessionKey, bool),
        covered: Position,
        out: &mut Vec<Effect>,
    ) {
        let now = self.turns.now();
        let Some(session) = self.session_mut(key) else { return };
        let entries = &mut session.rooms;
        let Some(entry) = entries.iter_mut().find(|entry| entry.room == index) else { return };
        if listed {
            self.park(now, index, key, (Some(covered), Until::Acks), out);
        } else {
            let place = std::mem::replace(&mut entry.place, Membership::WAITING);
            self.memberships -= usize::from(place != Membership::WAITING);
            let parked = CatchUp { slow: true, step: Step::Acks, ..CatchUp::new(key, covered) };
            self.open_catch_up(index, parked);
            self.count_parked();
        }
        self.note_parked(key);
    }

    fn note_parked(&mut self, key: SessionKey) {
        self.counters.parked_unacked += 1;
        self.count_limit(LimitName::Unacked);
        if let Some(session) = self.session_mut(key) {
            session.acks.get_or_insert_default().parked = true;
        }
    }

    /// The session catches up from now on.
    pub(super) fn open_catch_up(&mut self, index: u32, catch_up: CatchUp) {
        let key = catch_up.key;
        let Some(session) = self.session_mut(key) else { return };
        if !session.rooms.iter().any(|entry| entry.room == index) {
            session.rooms.push(Membership { room: index, place: Membership::WAITING });
        }
        if let Some(stream) = self.stream(index) {
            stream.catching += 1;
        }
        self.catching.insert((index, key.index), catch_up);
    }

    /// Who is resumed, and has got more than it has acked, is given again what waits for its ack. Gives every other join
    /// back.
    pub(super) fn give_unacked(
        &mut self,
        now: Now,
        key: SessionKey,
        index: u32,
        ask: Ask,
        out: &mut Vec<Effect>,
    ) -> Option<Ask> {
        let at = self.position(index);
        let (Some(since), Some(unacked)) = (ask.since, ask.unacked) else { return Some(ask) };
        let is_below = (1..=since.offset).contains(&unacked);
        let is_there = at.is_some_and(|at| at.epoch == since.epoch && since.offset <= at.offset);
        if !is_below || !is_there {
            return Some(ask);
        }
        let from = since.at(unacked - 1);
        let catch_up = CatchUp { known_to: since.offset, ..CatchUp::new(key, from) };
        self.open_catch_up(index, catch_up);
        self.answer_entry(index, key, &ask.reply, (since, Some(Ok(()))), out);
        self.give_time(now, index, key);
        self.catch_up_on(now, index, key, out);
        None
    }

    /// What a client has, and has not acked, is not kept any more: it goes on with what is. Says whether it was that.
    pub(super) fn passes_known(
        &mut self,
        index: u32,
        key: SessionKey,
        page: Option<&Page>,
    ) -> bool {
        let Some(catch_up) = self.catching.get_mut(&(index, key.index)) else { return false };
        let Some(head) = page.map(|page| page.head) else { return false };
        let (covered, known) = (catch_up.covered, catch_up.known_to);
        let first = head.first.saturating_sub(1);
        let to = if first > covered.offset { first.min(known) } else { known };
        let passes = covered.epoch == head.position.epoch && to > covered.offset;
        if passes {
            catch_up.covered = covered.at(to);
        }
        passes
    }

    /// The oldest of what a session has yet to get is not kept any more: it is told of a gap up to what is, and goes on
    /// there once there is space again. `false`: it has not been answered yet, or nothing of it is left.
    pub(super) fn is_covered_by_gap(
        &mut self,
        index: u32,
        key: SessionKey,
        page: Option<&Page>,
        out: &mut Vec<Effect>,
    ) -> bool {
        let catch_up = self.catching.get(&(index, key.index)).filter(|it| it.reply.is_none());
        let (Some(page), Some(lane), Some(catch_up)) = (page, self.position(index), catch_up)
        else {
            return false;
        };
        let head = page.head;
        let covered = catch_up.covered;
        let to = covered.at(head.first.saturating_sub(1));
        let is_left = (covered.offset + 1..lane.offset).contains(&to.offset);
        if !is_left || [head.position.epoch, lane.epoch] != [covered.epoch; 2] {
            return false;
        }
        self.counters.gaps += 1;
        self.tell_one_gap(index, key, (to, Loss::TooOld), out);
        if let Some(catch_up) = self.catching.get_mut(&(index, key.index)) {
            catch_up.covered = to;
        }
        true
    }

    /// A session that catches up is given no more until it has acked. Joins that came meanwhile are answered.
    pub(super) fn hold_for_acks(
        &mut self,
        now: Now,
        index: u32,
        key: SessionKey,
        out: &mut Vec<Effect>,
    ) {
        let Some(catch_up) = self.catching.get_mut(&(index, key.index)) else { return };
        catch_up.step = Step::Acks;
        let behind = std::mem::take(&mut catch_up.behind);
        self.note_parked(key);
        for ask in behind {
            self.enter_stream(now, key, index, ask, out);
        }
    }

    /// Answers a join of a room that is parked for the session.
    pub(super) fn enter_parked(
        &mut self,
        now: Now,
        key: SessionKey,
        index: u32,
        ask: Ask,
        out: &mut Vec<Effect>,
    ) {
        let Some(catch_up) = self.catching.get(&(index, key.index)) else { return };
        let covered = catch_up.covered;
        self.settle(index, key, out);
        match ask.since {
            Some(since) if since != covered => {
                self.end_catch_up(index, key);
                self.begin_catch_up(now, index, key, ask.reply, since, out);
            }
            since => {
                let recovered = since.map(|_| Ok(()));
                self.answer_entry(index, key, &ask.reply, (covered, recovered), out);
            }
        }
    }

    /// Enough is acked: the session goes on in rooms that are parked for it.
    pub(super) fn unpark_acked(&mut self, now: Now, key: SessionKey, out: &mut Vec<Effect>) {
        let half = usize::from(self.limits.unacked_max) / 2;
        let Some(session) = self.session_mut(key) else { return };
        let Some(acks) = session.acks.as_mut().filter(|acks| acks.parked) else { return };
        if acks.unacked() > half {
            return;
        }
        acks.parked = false;
        let rooms: Vec<u32> = session.rooms.iter().map(|entry| entry.room).collect();
        for index in rooms {
            let found = self.catching.get(&(index, key.index));
            if found.is_some_and(|it| it.step == Step::Acks) {
                self.give_time(now, index, key);
                self.unpark(now, index, key, out);
            }
        }
    }

    /// Some of what a session was given of a room was let go before it was written: it has covered `covered`, and is
    /// given the rest anew.
    pub(super) fn take_back(&mut self, index: u32, key: SessionKey, covered: Position) {
        let mono_ms = self.turns.now().mono_ms;
        self.take_back_pings(index, key);
        let Some(acks) = self.session_mut(key).and_then(|it| it.acks.as_mut()) else { return };
        acks.take_back(index, covered, mono_ms);
    }

    /// What a session gets of these entries. Fewer than they are where too much would wait for its acks.
    pub(super) fn shares(
        &self,
        now: Now,
        index: u32,
        key: SessionKey,
        entries: &[Kept],
    ) -> Vec<Share> {
        let mut shares = Vec::with_capacity(entries.len());
        let Some(session) = self.session(key) else { return shares };
        let catch_up = self.catching.get(&(index, key.index));
        let known_to = catch_up.map_or(0, |it| it.known_to);
        let is_acked = |offset| catch_up.is_some_and(|it| it.acked.binary_search(&offset).is_ok());
        let crowded = self.is_crowded(index);
        let mut free = usize::from(self.limits.unacked_max);
        free = free.saturating_sub(session.acks.as_ref().map_or(0, |acks| acks.unacked()));
        let waits = |publication: &Publication| {
            let acks = session.acks.as_ref();
            acks.is_some_and(|acks| acks.waits_for(index, publication))
        };
        for entry in entries {
            let offset = entry.position().map_or(0, |position| position.offset);
            let skipped = why_skipped(entry, now, session.who.as_deref());
            let skipped = is_acked(offset).then_some(SkipReason::Acked).or(skipped);
            let own = matches!(entry, Kept::Publication(it) if session.has_said(it));
            let skipped = skipped.or(own.then_some(SkipReason::Own));
            let known = offset <= known_to;
            let share = match (skipped, entry) {
                (Some(_), _) if known => Share::Known,
                (Some(reason), _) => Share::Skipped(reason),
                (None, Kept::Publication(it)) if !crowded && it.requires_ack => {
                    if !waits(it) {
                        let Some(left) = free.checked_sub(1) else { break };
                        free = left;
                    }
                    let it = Arc::clone(it);
                    if known { Share::Again(it) } else { Share::Awaited(it) }
                }
                (None, Kept::Publication(_) | Kept::Unreadable(_) | Kept::Removed(_)) => {
                    if known {
                        Share::Known
                    } else {
                        Share::Given
                    }
                }
            };
            shares.push(share);
        }
        shares
    }

    /// Gives again what the client has, but has not acked.
    pub(super) fn give_known(
        &mut self,
        index: u32,
        key: SessionKey,
        shares: &[Share],
        out: &mut Vec<Effect>,
    ) {
        for share in shares {
            if let Share::Again(publication) = share {
                self.give_once_more(index, key, publication, out);
            }
        }
    }

    /// The session was given these.
    pub(super) fn note_shares<'a>(
        &mut self,
        now: Now,
        (index, key): (u32, SessionKey),
        shares: impl Iterator<Item = (&'a Share, &'a Kept)>,
        out: &mut Vec<Effect>,
    ) {
        for (share, entry) in shares {
            if let Kept::Publication(it) = entry
                && !share.is_known()
            {
                self.note_copy(now, (index, key), it, out);
            }
            match share {
                Share::Awaited(it) | Share::Again(it) => {
                    self.await_ack(now, (index, key), Arc::clone(it), out);
                }
                Share::Given | Share::Known | Share::Skipped(_) => {}
            }
        }
        let Some(catch_up) = self.catching.get(&(index, key.index)) else { return };
        let known = catch_up.covered.offset.min(catch_up.known_to);
        self.inbox_is_known(index, key, catch_up.covered.at(known));
        self.inbox_moves(now, index, key);
    }
}
