//! Members that are slower than their rooms. Where frames of a room that keeps publications were let go, its member is
//! parked: it is none for a while, and is given from history what it has not covered, a page at a time, each when its
//! outbox has space. Of rooms that keep nothing it is told once that something is missing.
//!
//! The outbox decides what goes ([`Outbox::shed`](crate::outbox::Outbox::shed)), the shell says so here, and answers
//! [`Effect::Await`] by [`Lane::relieved`].

use std::collections::{BTreeSet, VecDeque};

use roomcast_protocol::ids::SessionKey;
use roomcast_protocol::outbound::{Loss, Outbound};
use roomcast_protocol::position::Position;
use roomcast_protocol::time::Now;

use super::Lane;
use super::catching::{CatchUp, Step};
use super::frames::Rest;
use super::rooms::Room;
use crate::messages::Effect;
use crate::outbox::{Parked, Shed};
use crate::session::Membership;

/// Reads under way for parked members of a lane; members that share one count once.
pub(super) const READS_MAX: usize = 64;

/// What an outbox takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// Bytes until it is full.
    pub bytes: usize,
    /// Nothing waits in it: it takes a frame of any length.
    pub empty: bool,
}

/// What a parked member waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// Space in its outbox.
    Space,
    /// [`Lane::unpark`]: its client has too much to ack.
    Acks,
}

/// The parked members' reads.
#[derive(Debug, Default)]
pub(super) struct Parking {
    /// Members that are parked now.
    pub(super) count: usize,
    /// Under way. Bounds: [`READS_MAX`].
    pub(super) reads: usize,
    /// Who waits for its turn, by the room's index and the session. Bounds: those that catch up.
    turns: VecDeque<(u32, SessionKey)>,
    /// Sessions that are told of a gap once there is space: publications of rooms that keep nothing were let go.
    pub(super) owed: BTreeSet<SessionKey>,
}

impl Space {
    /// None at all.
    pub(super) const NONE: Self = Self { bytes: 0, empty: false };

    /// Whether it takes so many bytes, the last frame of which has `last_bytes`.
    pub(super) const fn takes(self, bytes: usize, last_bytes: usize) -> bool {
        bytes <= self.bytes || self.empty && bytes == last_bytes
    }
}

impl Parking {
    pub(super) const fn may_read(&self) -> bool {
        self.reads < READS_MAX
    }

    pub(super) fn line_up(&mut self, index: u32, key: SessionKey) {
        self.turns.push_back((index, key));
    }

    pub(super) fn step_out(&mut self, index: u32, key: SessionKey) {
        self.turns.retain(|it| *it != (index, key));
    }

    /// Whether nobody waits for a turn, and nothing is under way.
    #[cfg(test)]
    pub(super) fn is_idle(&self) -> bool {
        self.reads == 0 && self.turns.is_empty()
    }
}

impl Lane {
    /// A session's outbox let frames go: its rooms are parked, and it is told of what it will not get.
    pub fn shed(&mut self, now: Now, key: SessionKey, shed: &Shed, out: &mut Vec<Effect>) {
        let Shed { expired, conflated, low, parked } = shed;
        self.counters.shed_expired += expired;
        self.counters.shed_conflated += conflated;
        self.counters.shed_low += low;
        for Parked { room, covered } in parked {
            let is_it = |index: u32| {
                self.rooms.get(index as usize).is_some_and(|held| held.serial == *room)
            };
            let entries = self.session(key).map_or(&[][..], |session| &session.rooms);
            if let Some(index) = entries.iter().map(|entry| entry.room).find(|it| is_it(*it)) {
                self.take_back(index, key, *covered);
                self.park(now, index, key, (Some(*covered), Until::Space), out);
            }
        }
        if *low > 0 {
            self.owe_gap(key, out);
        }
    }

    /// Publications that nobody can be given later are lost for the session: it is told once there is space.
    pub(super) fn owe_gap(&mut self, key: SessionKey, out: &mut Vec<Effect>) {
        if self.session(key).is_some() {
            self.parking.owed.insert(key);
            out.push(Effect::Await { to: key.index, empty: false });
        }
    }

    /// Takes a member out of a room that keeps publications, until it is given again from history what it has not
    /// covered; `covered` is that, `None`: all that the room has given it so far. Does nothing in other rooms, nor to
    /// those who are no members.
    pub fn park(
        &mut self,
        now: Now,
        index: u32,
        key: SessionKey,
        (covered, until): (Option<Position>, Until),
        out: &mut Vec<Effect>,
    ) {
        self.take_back_pings(index, key);
        let Some(session) = self.session_mut(key) else { return };
        let Some(entry) = session.rooms.iter_mut().find(|entry| entry.room == index) else {
            return;
        };
        let place = entry.place;
        if place == Membership::WAITING {
            return self.park_again(now, index, key, (covered, until), out);
        }
        let Some(room) = self.rooms.get(index as usize) else { return };
        let Some(given) = room.given_to(place as usize) else { return };
        let loose = room.stream.as_ref().map_or(0, |stream| stream.loose);
        let rest = if self.turns.held { Rest::Nothing } else { Rest::Staying };
        if room.owes_loose(place as usize, rest) {
            self.owe_gap(key, out);
        }
        if let Some(session) = self.session_mut(key)
            && let Some(entry) = session.rooms.iter_mut().find(|entry| entry.room == index)
        {
            entry.place = Membership::WAITING;
        }
        self.memberships -= 1;
        self.withdraw_member(index, place, rest, out);
        if let Some(room) = self.rooms.get_mut(index as usize) {
            room.forget_skips_of_nobody();
            if let Some(stream) = &mut room.stream {
                stream.catching += 1;
            }
        }
        self.count_parked();
        let mut catch_up = CatchUp::new(key, covered.unwrap_or(given));
        (catch_up.slow, catch_up.loose) = (true, loose);
        self.catching.insert((index, key.index), catch_up);
        self.wait(now, index, key, until, out);
    }

    /// The same for a session that catches up in the room already: it goes on from further back.
    fn park_again(
        &mut self,
        now: Now,
        index: u32,
        key: SessionKey,
        (covered, until): (Option<Position>, Until),
        out: &mut Vec<Effect>,
    ) {
        let loose = self.stream(index).map_or(0, |stream| stream.loose);
        let found = self.catching.get_mut(&(index, key.index));
        let Some(catch_up) = found.filter(|it| it.key == key && it.is_answered()) else { return };
        if let Some(covered) = covered {
            catch_up.covered = covered;
        }
        if !std::mem::replace(&mut catch_up.slow, true) {
            catch_up.loose = loose;
            self.parking.count += 1;
            self.counters.parked += 1;
        }
        match catch_up.step {
            Step::Acks | Step::Inbox(_) | Step::Epoch(_) => return,
            Step::Turn => self.parking.step_out(index, key),
            Step::Space(_) | Step::Page(_) | Step::Lane => {}
        }
        self.wait(now, index, key, until, out);
    }

    /// One more is parked.
    pub(super) const fn count_parked(&mut self) {
        self.parking.count += 1;
        self.counters.parked += 1;
    }

    fn wait(&mut self, now: Now, index: u32, key: SessionKey, until: Until, out: &mut Vec<Effect>) {
        match until {
            Until::Space => self.wait_for_space(now, index, key, false, out),
            Until::Acks => {
                if let Some(catch_up) = self.catching.get_mut(&(index, key.index)) {
                    catch_up.step = Step::Acks;
                }
            }
        }
    }

    /// The client has acked: a member that was parked for it goes on.
    pub fn unpark(&mut self, now: Now, index: u32, key: SessionKey, out: &mut Vec<Effect>) {
        let found = self.catching.get(&(index, key.index));
        if found.is_some_and(|it| it.key == key && it.step == Step::Acks) {
            self.wait_for_space(now, index, key, false, out);
        }
    }

    /// Has a session that catches up go on when its outbox has space, or is empty.
    pub(super) fn wait_for_space(
        &mut self,
        now: Now,
        index: u32,
        key: SessionKey,
        empty: bool,
        out: &mut Vec<Effect>,
    ) {
        if let Some(catch_up) = self.catching.get_mut(&(index, key.index)) {
            catch_up.step = Step::Space(now.mono_ms);
            out.push(Effect::Await { to: key.index, empty });
        }
    }

    /// The session's outbox has space: who waited for it reads on, and what it is owed is told.
    pub fn relieved(&mut self, now: Now, key: SessionKey, space: Space, out: &mut Vec<Effect>) {
        let owed = self.parking.owed.remove(&key);
        let Some(session) = self.session(key) else { return };
        let waiting = session.rooms.iter().filter(|entry| entry.place == Membership::WAITING);
        let rooms: Vec<u32> = waiting.map(|entry| entry.room).collect();
        if owed {
            self.counters.gaps += 1;
            self.send(key, &Outbound::Gap { room: None, loss: Loss::Overload }, out);
        }
        for index in rooms {
            let Some(catch_up) = self.catching.get_mut(&(index, key.index)) else { continue };
            let Step::Space(since_ms) = catch_up.step else { continue };
            catch_up.space = space;
            let covered = catch_up.is_answered().then_some(catch_up.covered);
            if covered.is_some() && covered == self.position(index) {
                self.arrive(now, index, key, out);
                continue;
            }
            if now.mono_ms > since_ms {
                self.give_time(now, index, key);
            }
            self.read_on(now, index, key, out);
        }
        self.answer_groups(now, out);
    }

    /// A parked member's read has ended: others have their turn.
    pub(super) fn next_turns(&mut self, now: Now, out: &mut Vec<Effect>) {
        while self.parking.may_read()
            && let Some((index, key)) = self.parking.turns.pop_front()
        {
            self.read_on(now, index, key, out);
        }
    }

    /// What the session has covered of a room that keeps publications, with all that it was given so far.
    #[must_use]
    pub fn covered(&self, index: u32, key: SessionKey) -> Option<Position> {
        if let Some(catch_up) = self.catching.get(&(index, key.index)) {
            return Some(catch_up.covered);
        }
        let entry = self.session(key)?.rooms.iter().find(|entry| entry.room == index)?;
        let room = self.rooms.get(index as usize);
        room.and_then(|room: &Room| room.given_to(entry.place as usize))
    }
}
