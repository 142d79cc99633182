//! Asks the broker for what is wanted: heads in large questions, holes page by page, a few questions at once, never two
//! for the same room at a time.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::hash::BuildHasher;

use foldhash::quality::FixedState;
use roomcast_protocol::envelope::{BrokerCommand, HEADS_MAX};
use roomcast_protocol::ids::LaneId;
use roomcast_protocol::position::{Keep, Page, Span};
use roomcast_protocol::room::RoomName;
use roomcast_protocol::time::Now;

use super::Hub;
use super::watch::RelayState;
use crate::messages::{HubEffect, LaneMessage};
use crate::reader::Reader;

/// Questions under way at once, those of lanes included.
pub const ASKS_MAX: usize = 16;

/// By how much the reading of holes is spread, so that not all nodes ask at once. Units: milliseconds.
pub const JITTER_MS: u64 = 500;

/// How long to rest after a question that the broker did not answer. Units: milliseconds.
pub const ASK_AGAIN_MS: u64 = 500;

/// How long a hole may stay open while the broker answers; then it is told as a loss. Units: milliseconds.
pub const REPAIR_MS: u64 = 10_000;

/// How often the heads of all rooms are asked for without a cause, so that the broker does not forget rooms that are
/// only listened to. Units: milliseconds.
pub const REFRESH_MS: u64 = 240_000;

/// What a question is about.
#[derive(Debug)]
pub(super) enum Ask {
    Heads(Vec<RoomName>),
    Repair(RoomName),
    Refill(LaneId, RoomName),
    History(Reader, RoomName),
    Revoked,
}

/// A question of somebody else's. Bounds: what lanes ask they bound themselves, what back-ends ask is as many as they
/// have connections.
#[derive(Debug)]
pub(super) struct OtherRead {
    reader: Reader,
    room: RoomName,
    keep: Keep,
    span: Span,
}

/// What is to be asked, and what is under way.
#[derive(Debug)]
pub(super) struct Asks {
    pub(super) hasher: FixedState,
    pub(super) count: u64,
    pub(super) under_way: HashMap<u64, Ask, FixedState>,
    pub(super) heads: BTreeSet<RoomName>,
    /// Holes by when they are to be read.
    pub(super) holes: BTreeSet<(u64, RoomName)>,
    /// Lanes that are behind in rooms and have place again.
    pub(super) refills: VecDeque<(LaneId, RoomName)>,
    pub(super) others: VecDeque<OtherRead>,
    /// When heads are asked for and others read for at the earliest, after a question that was not answered.
    pub(super) rest_ms: u64,
    pub(super) refresh_ms: Option<u64>,
    /// Counts what was held early.
    pub(super) serial: u64,
    pub(super) held_bytes: usize,
    /// Of those under way, how many are answered and wait for orders.
    pub(super) paused: usize,
}

impl Asks {
    pub(super) fn new(seed: u64) -> Self {
        let hasher = FixedState::with_seed(seed);
        Self {
            count: 0,
            under_way: HashMap::with_hasher(hasher.clone()),
            hasher,
            heads: BTreeSet::new(),
            holes: BTreeSet::new(),
            refills: VecDeque::new(),
            others: VecDeque::new(),
            rest_ms: 0,
            refresh_ms: None,
            serial: 0,
            held_bytes: 0,
            paused: 0,
        }
    }

    pub(super) const fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    pub(super) fn next_id(&mut self, ask: Ask) -> u64 {
        self.count += 1;
        self.under_way.insert(self.count, ask);
        self.count
    }

    /// Whether the question is about what this room keeps.
    pub(super) fn is_about(&self, request: u64, room: &str) -> bool {
        matches!(self.under_way.get(&request), Some(Ask::Repair(name)) if name.as_str() == room)
    }

    /// When something can be asked, if anything is to be.
    fn next_ms(&self) -> Option<u64> {
        if self.under_way.len() - self.paused >= ASKS_MAX {
            return None; // an answer comes first
        }
        let rested = !self.heads.is_empty() || !self.refills.is_empty();
        let rested = rested.then_some(self.rest_ms);
        let hole = self.holes.first().map(|(at, _)| *at);
        let others = (!self.others.is_empty()).then_some(0);
        [rested, hole, others].into_iter().flatten().min()
    }

    /// Nothing is to be asked, nothing under way and nothing held.
    #[cfg(test)]
    pub(super) fn are_idle(&self) -> bool {
        self.under_way.is_empty()
            && self.heads.is_empty()
            && self.holes.is_empty()
            && self.refills.is_empty()
            && self.others.is_empty()
            && self.held_bytes == 0
    }
}

impl Hub {
    /// What stands behind the room's position is to be read.
    pub(super) fn want_read(&mut self, now: Now, name: &RoomName) {
        let watched = self.watch.is_some();
        let Some(track) = self.track_mut(name) else { return };
        if std::mem::replace(&mut track.wants_read, true) || track.asked.is_some() {
            return;
        }
        let spread = self.asks.hasher.hash_one((name, self.asks.count)) % JITTER_MS;
        let due_ms = now.mono_ms + if watched { spread } else { 0 };
        self.asks.holes.insert((due_ms, name.clone()));
    }

    /// The room's newest position is to be asked for.
    pub(super) fn want_head(&mut self, name: &RoomName) {
        let Some(track) = self.track_mut(name) else { return };
        if !std::mem::replace(&mut track.wants_head, true) && track.asked.is_none() {
            self.asks.heads.insert(name.clone());
        }
    }

    /// Any room may have moved unheard.
    pub(super) fn want_all_heads(&mut self) {
        let names: Vec<RoomName> = self.kept.iter().cloned().collect();
        for name in &names {
            self.want_head(name);
        }
    }

    /// Somebody wants to see what a room keeps.
    pub(super) fn reads(
        &mut self,
        reader: Reader,
        room: RoomName,
        span: Span,
        out: &mut Vec<HubEffect>,
    ) {
        match self.keep_of(&room) {
            Some(keep)
                if self.state() != RelayState::Isolated
                    || matches!(reader, Reader::Talk(_) | Reader::Person(_)) =>
            {
                self.asks.others.push_back(OtherRead { reader, room, keep, span });
            }
            Some(_) | None => out.extend(page_for(reader, None)),
        }
    }

    /// Whether questions make sense now.
    pub(super) fn may_ask(&self) -> bool {
        self.watch.as_ref().is_none_or(|watch| watch.answers())
    }

    /// When [`Hub::ask`] has something to do.
    pub(super) fn next_ask_ms(&self) -> Option<u64> {
        let next = self.may_ask().then(|| self.asks.next_ms()).flatten();
        next.into_iter().chain(self.asks.refresh_ms).min()
    }

    /// Asks what is due.
    pub(super) fn ask(&mut self, now: Now, out: &mut Vec<HubEffect>) {
        if now.mono_ms >= self.asks.refresh_ms.unwrap_or(0) {
            if self.asks.refresh_ms.is_some() {
                self.want_all_heads();
            }
            self.asks.refresh_ms = Some(now.mono_ms + REFRESH_MS);
        }
        while self.may_ask() && self.asks.next_ms().is_some_and(|at| at <= now.mono_ms) {
            let rested = self.asks.rest_ms <= now.mono_ms;
            if rested && !self.asks.heads.is_empty() {
                self.ask_heads(out);
            } else if let Some(name) = self.due_hole(now) {
                self.ask_hole(now, name, out);
            } else if rested && let Some((lane, name)) = self.asks.refills.pop_front() {
                self.ask_refill(lane, name, out);
            } else if let Some(read) = self.asks.others.pop_front() {
                let OtherRead { reader, room, keep, span } = read;
                let request = self.asks.next_id(Ask::History(reader, room.clone()));
                let command = BrokerCommand::Read { request, room, keep, span };
                out.push(HubEffect::Broker(command));
            }
        }
    }

    fn due_hole(&mut self, now: Now) -> Option<RoomName> {
        let due = self.asks.holes.first().is_some_and(|(at, _)| *at <= now.mono_ms);
        if due { self.asks.holes.pop_first().map(|(_, name)| name) } else { None }
    }

    fn ask_heads(&mut self, out: &mut Vec<HubEffect>) {
        let mut rooms = Vec::new();
        while rooms.len() < HEADS_MAX
            && let Some(name) = self.asks.heads.pop_first()
        {
            let wanted = self.rooms.get_mut(&name).and_then(|room| room.track.as_mut());
            let Some(track) = wanted.filter(|it| it.wants_head && it.asked.is_none()) else {
                continue;
            };
            track.wants_head = false;
            rooms.push((name, track.keep));
        }
        if rooms.is_empty() {
            return;
        }
        let names: Vec<_> = rooms.iter().map(|(name, _)| name.clone()).collect();
        let request = self.asks.next_id(Ask::Heads(names.clone()));
        let serial = self.asks.serial + 1;
        for name in &names {
            if let Some(track) = self.track_mut(name) {
                track.asked = Some((request, serial));
            }
        }
        self.counters.heads_reads += 1;
        out.push(HubEffect::Broker(BrokerCommand::Heads { request, rooms }));
    }

    fn ask_hole(&mut self, now: Now, name: RoomName, out: &mut Vec<HubEffect>) {
        let serial = self.asks.serial + 1;
        let wanted = self.rooms.get_mut(&name).and_then(|room| room.track.as_mut());
        let Some(track) = wanted.filter(|it| it.wants_read && it.asked.is_none()) else { return };
        let Some(at) = track.at else { return };
        track.wants_read = false;
        if track.is_complete() {
            // It was only late.
            track.hole_ms = None;
            return;
        }
        if track.hole_ms.is_none() {
            track.hole_ms = Some(now.mono_ms);
            self.counters.gaps_found += 1;
        }
        let (keep, span) = (track.keep, Span::above(at.offset));
        let request = self.asks.next_id(Ask::Repair(name.clone()));
        if let Some(track) = self.track_mut(&name) {
            track.asked = Some((request, serial));
        }
        self.counters.repair_reads += 1;
        out.push(HubEffect::Broker(BrokerCommand::Read { request, room: name, keep, span }));
    }

    /// A question is over: what is wanted still is asked for at `due_ms`.
    pub(super) fn rearm(&mut self, due_ms: u64, name: &RoomName) {
        let Some(track) = self.track(name).filter(|track| track.asked.is_none()) else { return };
        let (wants_head, wants_read) = (track.wants_head, track.wants_read);
        if wants_head {
            self.asks.heads.insert(name.clone());
        }
        if wants_read {
            self.asks.holes.insert((due_ms, name.clone()));
        }
    }
}

/// What others are answered; the hub's own questions are answered by [`Hub::heard_talk`].
pub(super) fn page_for(reader: Reader, page: Option<Page>) -> Option<HubEffect> {
    match reader {
        Reader::Lane { lane, query } => {
            Some(HubEffect::Lane(lane, LaneMessage::Page { query, page }))
        }
        Reader::Query(query) => Some(HubEffect::History(query, page)),
        Reader::Talk(_) | Reader::Person(_) => None,
    }
}
