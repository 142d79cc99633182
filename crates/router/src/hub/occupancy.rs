//! Which rooms became occupied and vacated, as this node tells the application (G19): the broker gives it events of some
//! partitions, it has them told in the order of each room, and says up to where that is done. What it was given and
//! does not say to have told is another node's after some seconds, so it asks again and again while it tells.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use roomcast_protocol::envelope::BrokerCommand;
use roomcast_protocol::occupancy::{AskOccupancies, GivenOccupancies, HAND_MAX, Occupancy};
use roomcast_protocol::room::RoomName;
use roomcast_protocol::time::Now;

use super::Hub;
use super::watch::RelayState;
use crate::messages::HubEffect;

/// Partitions that a node reads at once. With [`HAND_MAX`] of each it has at most 1,024 untold events.
pub const READING_MAX: usize = 16;

/// Untold events of a node, with those of partitions that it does not read any more.
pub const UNTOLD_MAX: usize = READING_MAX * HAND_MAX as usize;

/// How often the reader of a partition asks, so that no other becomes it. Units: milliseconds.
pub const RENEW_MS: u64 = 1_000;

/// An event that has yet to be told.
#[derive(Debug)]
struct Untold {
    event: Occupancy,
    partition: u16,
    /// The broker's number of it; `None`: another node tells it by now, and the shell still does.
    number: Option<u64>,
}

/// A partition that this node reads.
#[derive(Debug, Default)]
struct Reading {
    /// What of it is untold, by the broker's numbers: this node's own.
    hand: BTreeMap<u64, u64>,
    /// Up to which of the broker's numbers it was given events; 0: none yet.
    given: u64,
    /// Of how many lost ones it knows.
    lost: u64,
    /// When it asks next; `None`: a question is under way. Units: monotonic milliseconds.
    due_ms: Option<u64>,
}

impl Reading {
    /// Up to which of the broker's numbers all is told.
    fn told(&self) -> u64 {
        self.hand.first_key_value().map_or(self.given, |(first, _)| first.saturating_sub(1))
    }
}

/// What of events is under way.
#[derive(Debug, Default)]
pub(super) struct Occupancies {
    /// Events numbered so far.
    count: u64,
    untold: BTreeMap<u64, Untold>,
    /// Of each room, in order: the first is with the shell.
    rooms: BTreeMap<RoomName, VecDeque<u64>>,
    reading: BTreeMap<u16, Reading>,
    /// When partitions are asked for.
    due: BTreeSet<(u64, u16)>,
    /// Questions so far, and of which partition those are that are under way.
    requests: u64,
    asked: BTreeMap<u64, u16>,
    /// Partitions with events and without a reader, as the last report named them.
    unread: BTreeSet<u16>,
    /// The one that was taken last: the next ones come first.
    taken: u16,
}

impl Occupancies {
    /// How many events are untold.
    pub(super) fn untold(&self) -> usize {
        self.untold.len()
    }

    /// Whether one more partition may be read.
    fn has_place(&self) -> bool {
        self.reading.len() < READING_MAX && self.untold.len() < UNTOLD_MAX
    }

    /// Takes the next partition that has no reader.
    fn take(&mut self, now: Now) {
        let behind = self.unread.range(self.taken.saturating_add(1)..).next();
        let Some(next) = behind.or_else(|| self.unread.first()).copied() else { return };
        self.unread.remove(&next);
        self.taken = next;
        self.reading.entry(next).or_default();
        self.ask_at(now.mono_ms, next);
    }

    fn ask_at(&mut self, at_ms: u64, partition: u16) {
        let Some(reading) = self.reading.get_mut(&partition) else { return };
        if self.asked.values().any(|it| *it == partition) {
            return;
        }
        if let Some(before) = reading.due_ms.replace(at_ms) {
            self.due.remove(&(before, partition));
        }
        self.due.insert((at_ms, partition));
    }

    /// The question of a partition whose time has come.
    fn ask(&mut self, partition: u16) -> Option<(u64, AskOccupancies)> {
        let waits = !self.unread.is_empty() && !self.has_place();
        let reading = self.reading.get_mut(&partition)?;
        reading.due_ms = None;
        // It is another one's turn, where there are many.
        let gives_back = waits && reading.given > 0 && reading.hand.is_empty();
        let ask = AskOccupancies {
            partition,
            told: reading.told(),
            given: reading.given,
            lost: reading.lost,
            count_max: if gives_back { 0 } else { HAND_MAX },
        };
        self.requests += 1;
        self.asked.insert(self.requests, partition);
        Some((self.requests, ask))
    }

    /// An event was given. Answers with whether there was a place for it.
    fn add(
        &mut self,
        partition: u16,
        (number, event): (u64, Occupancy),
        out: &mut Vec<HubEffect>,
    ) -> bool {
        let chain = self.rooms.get(&event.room);
        let mut all =
            chain.into_iter().flatten().filter_map(|own| Some((*own, self.untold.get(own)?)));
        let known = all.clone().find(|(_, it)| it.event == event).map(|(own, _)| own);
        let repeats = |it: &Untold| it.number.is_some() && it.event.occupied == event.occupied;
        if known.is_none() && all.next_back().is_some_and(|(_, it)| repeats(it)) {
            // What was in between is lost, so nothing has changed.
            return true;
        }
        if known.is_none() && self.untold.len() >= UNTOLD_MAX {
            return false;
        }
        let own = known.unwrap_or_else(|| {
            self.count += 1;
            let chain = self.rooms.entry(event.room.clone()).or_default();
            chain.push_back(self.count);
            if chain.len() == 1 {
                let (number, event) = (self.count, event.clone());
                out.push(HubEffect::Occupied { partition, number, event });
            }
            self.count
        });
        self.untold.insert(own, Untold { event, partition, number: Some(number) });
        if let Some(reading) = self.reading.get_mut(&partition) {
            reading.hand.insert(number, own);
        }
        true
    }

    /// Another node tells these; what the shell has is told here as well.
    fn leave(&mut self, events: impl IntoIterator<Item = u64>) {
        for own in events {
            let Some(it) = self.untold.get_mut(&own) else { continue };
            let Some(chain) = self.rooms.get_mut(&it.event.room) else { continue };
            if chain.front() == Some(&own) {
                it.number = None;
            } else {
                chain.retain(|other| *other != own);
                self.untold.remove(&own);
            }
        }
    }

    /// The broker answered. Answers with how many lost events were not known.
    fn take_given(
        &mut self,
        now: Now,
        partition: u16,
        given: GivenOccupancies,
        out: &mut Vec<HubEffect>,
    ) -> u64 {
        let GivenOccupancies { held, anew, given, lost, lost_known, events } = given;
        self.unread.remove(&partition);
        if !held {
            let reading = self.reading.remove(&partition).unwrap_or_default();
            self.leave(reading.hand.into_values());
            return 0;
        }
        let Some(reading) = self.reading.get_mut(&partition) else { return 0 };
        let known = if anew { lost_known } else { reading.lost.max(lost_known) };
        reading.lost = lost;
        reading.given = given;
        let before = if anew { std::mem::take(&mut reading.hand) } else { BTreeMap::new() };
        let before: Vec<u64> = before.into_values().collect();
        for own in &before {
            self.untold.get_mut(own).into_iter().for_each(|it| it.number = None);
        }
        let mut behind = 0;
        let mut fits = true;
        for (number, event) in events {
            fits = fits && self.add(partition, (number, event), out);
            behind = if fits { number } else { behind };
        }
        let is_left = |own: &u64| self.untold.get(own).is_some_and(|it| it.number.is_none());
        let left: Vec<u64> = before.into_iter().filter(is_left).collect();
        self.leave(left);
        let Some(reading) = self.reading.get_mut(&partition) else { return 0 };
        if !fits {
            // It is given the rest when the broker hears of that.
            reading.given = behind;
        }
        let rest_ms = if fits && reading.hand.is_empty() { 0 } else { RENEW_MS };
        self.ask_at(now.mono_ms.saturating_add(rest_ms), partition);
        lost.saturating_sub(known)
    }

    /// The shell has told an event: the next one of its room has its turn.
    fn told(&mut self, now: Now, own: u64, out: &mut Vec<HubEffect>) {
        let Some(room) = self.untold.get(&own).map(|it| it.event.room.clone()) else { return };
        let Some(chain) = self.rooms.get_mut(&room).filter(|it| it.front() == Some(&own)) else {
            return;
        };
        chain.pop_front();
        let next = chain.front().copied();
        if next.is_none() {
            self.rooms.remove(&room);
        }
        if let Some((number, it)) = next.and_then(|next| Some((next, self.untold.get(&next)?))) {
            let (partition, event) = (it.partition, it.event.clone());
            out.push(HubEffect::Occupied { partition, number, event });
        }
        let Some(Untold { partition, number: Some(number), .. }) = self.untold.remove(&own) else {
            return;
        };
        let Some(reading) = self.reading.get_mut(&partition) else { return };
        reading.hand.remove(&number);
        if reading.hand.is_empty() {
            self.ask_at(now.mono_ms, partition);
        }
    }

    /// All tables agree.
    #[cfg(test)]
    pub(super) fn walk(&self) {
        let listed: usize = self.rooms.values().map(VecDeque::len).sum();
        assert_eq!(listed, self.untold.len(), "each event stands in its room");
        assert!(self.untold.len() <= UNTOLD_MAX && self.reading.len() <= READING_MAX);
        for (partition, reading) in &self.reading {
            for (number, own) in &reading.hand {
                let place = self.untold.get(own).map(|it| (it.partition, it.number));
                assert_eq!(place, Some((*partition, Some(*number))), "what is in hand is untold");
            }
            let asks = self.asked.values().filter(|it| *it == partition).count();
            assert_eq!(asks + usize::from(reading.due_ms.is_some()), 1, "it asks once, in time");
        }
        let due = self.reading.iter().filter_map(|(at, it)| Some((it.due_ms?, *at)));
        assert_eq!(due.collect::<BTreeSet<_>>(), self.due);
    }
}

impl Hub {
    /// The shell has told an event that [`HubEffect::Occupied`] gave it, or has given it up: the next one of its room comes.
    pub fn occupied_told(&mut self, now: Now, number: u64, out: &mut Vec<HubEffect>) {
        self.occupancies.told(now, number, out);
    }

    /// Partitions have events that no node tells.
    pub(super) fn see_unread(&mut self, unread: &[u16]) {
        let reading = &self.occupancies.reading;
        let unread = unread.iter().filter(|partition| !reading.contains_key(partition));
        self.occupancies.unread = unread.copied().collect();
    }

    /// Asks for events, where that is due.
    pub(super) fn read_occupancies(&mut self, now: Now, out: &mut Vec<HubEffect>) {
        if !self.may_read() {
            return;
        }
        let occupancies = &mut self.occupancies;
        while occupancies.has_place() && !occupancies.unread.is_empty() {
            occupancies.take(now);
        }
        while let Some((at, partition)) = occupancies.due.first().copied()
            && at <= now.mono_ms
        {
            occupancies.due.pop_first();
            let Some((request, ask)) = occupancies.ask(partition) else { continue };
            #[cfg(feature = "planted")]
            let ask = match self.planted {
                Some(crate::planted::Planted::ToldWhenGiven) => {
                    AskOccupancies { told: ask.given, ..ask }
                }
                _ => ask,
            };
            out.push(HubEffect::Broker(BrokerCommand::Occupancies { request, ask }));
        }
    }

    /// The broker answered, or did not.
    pub(super) fn occupancies_given(
        &mut self,
        now: Now,
        request: u64,
        given: Option<GivenOccupancies>,
        out: &mut Vec<HubEffect>,
    ) {
        let Some(partition) = self.occupancies.asked.remove(&request) else { return };
        if let Some(given) = given {
            let lost = self.occupancies.take_given(now, partition, given, out);
            self.counters.occupancies_lost += lost;
        } else {
            self.occupancies.ask_at(now.mono_ms.saturating_add(RENEW_MS), partition);
        }
    }

    /// Whether this node tells events now: cut off, or without a lease, it leaves that to others.
    fn may_read(&self) -> bool {
        let is_whole = |state: RelayState| state == RelayState::Whole;
        let whole = self.watch.as_ref().is_none_or(|watch| is_whole(watch.state()));
        self.config.occupancy && whole && self.lives.holds()
    }

    /// When [`Hub::read_occupancies`] has something to do by itself.
    pub(super) fn next_occupancy_ms(&self) -> Option<u64> {
        self.occupancies.due.first().filter(|_| self.may_read()).map(|(at, _)| *at)
    }
}
