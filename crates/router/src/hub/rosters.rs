//! The rosters of rooms with members on this node: read from the broker, kept up by diffs, and told to the members, net
//! over a while (G18). A version that does not follow the one before is a gap: the roster is read anew.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::BuildHasher;
use std::sync::Arc;

use foldhash::quality::FixedState;
use roomcast_protocol::envelope::BrokerCommand;
use roomcast_protocol::presence::{PresenceDiff, PresenceMode, ROSTER_PAGE_MAX, RosterPage};
use roomcast_protocol::room::RoomName;
use roomcast_protocol::time::Now;

use super::roster::{Heard, Roster, Turned};
use super::{Hub, JITTER_MS, each_lane};
use crate::messages::{HubEffect, LaneMessage};

/// Rosters that are read at once.
pub const ROSTER_READS_MAX: usize = 16;

/// How long after a room's reading began the next one may. Units: milliseconds.
pub const ROSTER_READ_MS: u64 = 1_000;

/// How often a room's version is compared with the broker's without a cause: so long for each room that has a roster here,
/// but no more often than the first of these, and no more seldom than the second. Units: milliseconds.
pub const ROSTER_COMPARE_MS: (u64, u64) = (10_000, 120_000);

/// Comparing takes so long for each room. Units: milliseconds.
const COMPARE_EACH_MS: u64 = 20;

/// How long who came and who left is collected until members are told. Units: milliseconds.
pub const TELL_MS: u64 = 250;

/// The same where members are told only how many users there are. Units: milliseconds.
pub const TELL_COUNT_MS: u64 = 1_000;

/// What the users of all rosters may weigh, names and 48 bytes each; of rooms beyond it only the number is kept. Units:
/// bytes.
pub const ROSTERS_BYTES_MAX: usize = 64 << 20;

/// The rosters of a node.
#[derive(Debug)]
pub(super) struct Rosters {
    rooms: BTreeMap<RoomName, Box<Roster>>,
    hasher: FixedState,
    /// Rooms to be read or compared, by when.
    reads: BTreeSet<(u64, RoomName)>,
    /// Rooms whose members are to be told, by when.
    tells: BTreeSet<(u64, RoomName)>,
    /// Questions under way, and whether they only compare. Bounds: [`ROSTER_READS_MAX`].
    under_way: BTreeMap<u64, (RoomName, bool)>,
    bytes: usize,
    pub(super) bytes_max: usize,
}

impl Rosters {
    pub(super) fn new(seed: u64) -> Self {
        let hasher = FixedState::with_seed(seed);
        Self {
            rooms: BTreeMap::new(),
            hasher,
            reads: BTreeSet::new(),
            tells: BTreeSet::new(),
            under_way: BTreeMap::new(),
            bytes: 0,
            bytes_max: ROSTERS_BYTES_MAX,
        }
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.rooms.len()
    }

    /// What their users weigh.
    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Changes a roster, and counts what it weighs.
    fn change<R>(&mut self, name: &RoomName, act: impl FnOnce(&mut Roster) -> R) -> Option<R> {
        let roster = self.rooms.get_mut(name)?;
        let before = roster.bytes();
        let outcome = act(roster);
        self.bytes = self.bytes + roster.bytes() - before;
        Some(outcome)
    }

    /// Has a roster read, or only compared, at `at_ms`, or as soon as it may be.
    fn read_at(&mut self, at_ms: u64, name: &RoomName, compares: bool) {
        let Some(roster) = self.rooms.get_mut(name) else { return };
        let at_ms = at_ms.max(roster.read_ms.map_or(0, |at| at.saturating_add(ROSTER_READ_MS)));
        if let Some(before_ms) = roster.read_at_ms {
            if !roster.compares && (compares || before_ms <= at_ms) {
                return;
            }
            self.reads.remove(&(before_ms, name.clone()));
        }
        roster.read_at_ms = Some(at_ms);
        roster.compares = compares;
        self.reads.insert((at_ms, name.clone()));
    }

    /// A roster without its users is read, where they have a place again.
    fn read_if_lacking(&mut self, now: Now, name: &RoomName) {
        let lacks = self.rooms.get(name).is_some_and(|roster| roster.lacks_users());
        if lacks && self.bytes < self.bytes_max / 10 * 9 {
            self.read_at(now.mono_ms, name, false);
        }
    }

    /// How long it takes until a room is compared again. Units: milliseconds.
    pub(super) fn compare_ms(&self) -> u64 {
        let all_ms = (self.rooms.len() as u64).saturating_mul(COMPARE_EACH_MS);
        all_ms.clamp(ROSTER_COMPARE_MS.0, ROSTER_COMPARE_MS.1)
    }

    /// The roster is known: from now on it is only compared.
    fn compare_later(&mut self, now: Now, name: &RoomName) {
        let compare_ms = self.compare_ms();
        let Some(roster) = self.rooms.get_mut(name) else { return };
        if let Some(before_ms) = roster.read_at_ms.take() {
            self.reads.remove(&(before_ms, name.clone()));
        }
        let spread_ms = self.hasher.hash_one(name) % ROSTER_READ_MS;
        self.read_at(now.mono_ms.saturating_add(compare_ms + spread_ms), name, true);
    }

    /// Members are told in their time, if there is anything.
    fn tell_in_time(&mut self, now: Now, name: &RoomName) {
        let Some(roster) = self.rooms.get_mut(name) else { return };
        if roster.tell_at_ms.is_none() && !roster.is_unsettled() && roster.has_news() {
            let pace_ms = if roster.lists() { TELL_MS } else { TELL_COUNT_MS };
            let at_ms = roster.told_ms.map_or(0, |at| at.saturating_add(pace_ms));
            let at_ms = at_ms.max(now.mono_ms);
            roster.tell_at_ms = Some(at_ms);
            self.tells.insert((at_ms, name.clone()));
        }
    }

    /// Whether the room has members here, and nobody had been entered in it when its roster was read.
    pub(super) fn is_blank(&self, name: &RoomName) -> bool {
        self.rooms.get(name).is_some_and(|roster| roster.is_blank())
    }

    /// Who may be in a room, as its members on this node know it; `None`: no member of it is on this node.
    pub(super) fn shown(
        &self,
        name: &RoomName,
        after: Option<&str>,
        count_max: u32,
    ) -> Option<Option<RosterPage>> {
        let roster = self.rooms.get(name)?;
        Some(roster.shown(after, usize::try_from(count_max).unwrap_or(usize::MAX)))
    }

    /// Whether the room's members on this node know that the user is in it; where they are told numbers alone, whether they
    /// know one. `None`: the room has no member here.
    pub(super) fn knows(&self, name: &RoomName, user: &str) -> Option<bool> {
        self.rooms.get(name).map(|roster| roster.was_told(user))
    }

    /// Rosters agree with what is counted of them, and each wait has its end.
    #[cfg(test)]
    pub(super) fn walk(&self) {
        let mut bytes = 0;
        for (name, roster) in &self.rooms {
            roster.walk();
            bytes += roster.bytes();
            let listed = |at: Option<u64>, set: &BTreeSet<(u64, RoomName)>| {
                let count = set.iter().filter(|(_, other)| other == name).count();
                assert_eq!(count, usize::from(at.is_some()));
                assert!(at.is_none_or(|at| set.contains(&(at, name.clone()))));
            };
            listed(roster.read_at_ms, &self.reads);
            listed(roster.tell_at_ms, &self.tells);
        }
        assert_eq!(self.bytes, bytes);
        assert!(self.under_way.len() <= ROSTER_READS_MAX && self.bytes <= self.bytes_max);
    }
}

impl Hub {
    /// A lane has members in the room: who is in it is kept from now on, if its rule says so.
    pub(super) fn want_roster(&mut self, name: &RoomName) {
        if self.rosters.rooms.contains_key(name) {
            return;
        }
        let (mode, users_max) = self.presence_of(name);
        if mode != PresenceMode::Off {
            let roster = Box::new(Roster::new(mode, users_max));
            self.rosters.rooms.insert(name.clone(), roster);
        }
    }

    /// The room is heard from now on: no diff is missed behind what is read now.
    pub(super) fn roster_is_heard(&mut self, name: &RoomName) {
        self.rosters.change(name, Roster::stop);
        self.rosters.read_at(0, name, false);
    }

    /// Diffs may have been missed in any room.
    pub(super) fn doubt_rosters(&mut self, now: Now) {
        let names: Vec<RoomName> = self.rosters.rooms.keys().cloned().collect();
        for name in &names {
            self.rosters.change(name, Roster::stop);
            let spread_ms = self.rosters.hasher.hash_one(name) % JITTER_MS;
            self.rosters.read_at(now.mono_ms.saturating_add(spread_ms), name, false);
        }
    }

    /// Nobody hears the room any more.
    pub(super) fn forget_roster(&mut self, name: &RoomName) {
        self.note_told(name);
        let Some(roster) = self.rosters.rooms.remove(name) else { return };
        self.rosters.bytes -= roster.bytes();
        if let Some(at_ms) = roster.read_at_ms {
            self.rosters.reads.remove(&(at_ms, name.clone()));
        }
        if let Some(at_ms) = roster.tell_at_ms {
            self.rosters.tells.remove(&(at_ms, name.clone()));
        }
    }

    /// The feed brought a diff.
    pub(super) fn hear_presence(&mut self, now: Now, diff: &Arc<PresenceDiff>) {
        self.counters.presence_diffs += 1;
        let name = &diff.room;
        let Some(heard) = self.rosters.change(name, |roster| roster.hear(diff)) else { return };
        match heard {
            Heard::Nothing => {}
            Heard::Known => self.roster_is_known(now, name),
            Heard::Gap => self.read_anew(now, name),
            Heard::Applied => {
                if self.rosters.bytes > self.rosters.bytes_max {
                    self.rosters.change(name, Roster::forget_users);
                }
                self.rosters.tell_in_time(now, name);
                self.rosters.read_if_lacking(now, name);
            }
        }
    }

    fn read_anew(&mut self, now: Now, name: &RoomName) {
        self.counters.presence_gaps += 1;
        self.rosters.change(name, Roster::stop);
        self.rosters.read_at(now.mono_ms, name, false);
    }

    /// A reading is done.
    fn roster_is_known(&mut self, now: Now, name: &RoomName) {
        self.note_told(name);
        self.rosters.compare_later(now, name);
        self.rosters.tell_in_time(now, name);
        let Some(roster) = self.rosters.rooms.get_mut(name) else { return };
        // A roster that is known for the first time should be as old as what was entered; else that may be lost before.
        let lost = roster.renew().is_some_and(|before| {
            before.is_some() || self.presence.is_entered_since(now, name, ROSTER_READ_MS)
        });
        match roster.users().filter(|_| !lost) {
            Some(users) => self.presence.reenter(now, name, |user| !users.contains(user)),
            // Another session may stand for a user whose one of this node is not there.
            None if lost => self.presence.reenter(now, name, |_| true),
            None => {}
        }
    }

    /// Reads the rosters that are due.
    pub(super) fn read_rosters(&mut self, now: Now, out: &mut Vec<HubEffect>) {
        while self.may_ask()
            && self.rosters.under_way.len() < ROSTER_READS_MAX
            && self.rosters.reads.first().is_some_and(|(at, _)| *at <= now.mono_ms)
        {
            let Some((_, name)) = self.rosters.reads.pop_first() else { break };
            let Some(roster) = self.rosters.rooms.get_mut(&name) else { continue };
            roster.read_at_ms = None;
            let room = self.rooms.get(&name);
            if room.is_none_or(|room| self.unconfirmed.contains_key(&room.request)) {
                continue; // once it is heard
            }
            self.roster_asks.requests += 1;
            let request = self.roster_asks.requests;
            let compares = roster.compares;
            let count_max = if compares || roster.counts_only() { 1 } else { ROSTER_PAGE_MAX };
            roster.read_ms = Some(now.mono_ms);
            if !compares {
                self.counters.rosters_read += 1;
                self.rosters.change(&name, |roster| roster.begin(request));
            }
            self.rosters.under_way.insert(request, (name.clone(), compares));
            let command = BrokerCommand::Roster { request, room: name, after: None, count_max };
            out.push(HubEffect::Broker(command));
        }
    }

    /// A page of a roster came, or did not; says whether it was one of these questions.
    pub(super) fn roster_page(
        &mut self,
        now: Now,
        request: u64,
        page: Option<&RosterPage>,
        out: &mut Vec<HubEffect>,
    ) -> bool {
        if self.agents_compared(now, request, page) {
            return true;
        }
        let Some((name, compares)) = self.rosters.under_way.remove(&request) else { return false };
        let Some(roster) = self.rosters.rooms.get(&name) else { return true };
        let known = roster.version();
        let Some(page) = page else {
            if compares || roster.awaits(request) {
                self.rosters.change(&name, Roster::stop);
                self.rosters.read_at(now.mono_ms, &name, compares);
            }
            return true;
        };
        if compares {
            let level = known.is_some_and(|at| {
                at.epoch == page.version.epoch && at.offset >= page.version.offset
            });
            if level && !roster.lacks_users() {
                self.rosters.compare_later(now, &name);
            } else {
                // The feed may be behind the answer: it has a while to bring what is new.
                let at_ms = now.mono_ms.saturating_add(ROSTER_READ_MS);
                self.rosters.read_at(at_ms, &name, false);
            }
            return true;
        }
        if !roster.awaits(request) {
            return true;
        }
        let place = self.rosters.bytes_max.saturating_sub(self.rosters.bytes - roster.bytes());
        let page = page.clone();
        let turned = self.rosters.change(&name, |roster| roster.page(page, place));
        match turned.unwrap_or(Turned::Torn) {
            Turned::More => self.read_on(&name, out),
            Turned::Waits => {
                let at_ms = now.mono_ms.saturating_add(ROSTER_READ_MS);
                self.rosters.read_at(at_ms, &name, false);
            }
            Turned::Torn => self.read_anew(now, &name),
            Turned::Known => self.roster_is_known(now, &name),
        }
        true
    }

    fn read_on(&mut self, name: &RoomName, out: &mut Vec<HubEffect>) {
        self.roster_asks.requests += 1;
        let request = self.roster_asks.requests;
        let after = self.rosters.change(name, |roster| roster.ask_on(request)).flatten();
        self.rosters.under_way.insert(request, (name.clone(), false));
        let (room, count_max) = (name.clone(), ROSTER_PAGE_MAX);
        out.push(HubEffect::Broker(BrokerCommand::Roster { request, room, after, count_max }));
    }

    /// Tells members what is due. While orders to end sessions may be missing, nobody is told anything.
    pub(super) fn tell_rosters(&mut self, now: Now, out: &mut Vec<HubEffect>) {
        while !self.control.is_open()
            && self.rosters.tells.first().is_some_and(|(at, _)| *at <= now.mono_ms)
        {
            let Some((_, name)) = self.rosters.tells.pop_first() else { break };
            let Some(roster) = self.rosters.rooms.get_mut(&name) else { continue };
            roster.tell_at_ms = None;
            if roster.is_unsettled() {
                continue; // once it is known
            }
            let Some(diff) = roster.tell(&name) else { continue };
            roster.told_ms = Some(now.mono_ms);
            self.note_told(&name);
            self.rosters.read_if_lacking(now, &name);
            let diff = Arc::new(diff);
            for lane in each_lane(self.rooms.get(&name).map_or(0, |room| room.lanes)) {
                let diff = Arc::clone(&diff);
                out.push(HubEffect::Lane(lane, LaneMessage::Presence(diff)));
            }
        }
    }

    /// When there is something to read or to tell.
    pub(super) fn next_roster_ms(&self) -> Option<u64> {
        let reads = self.may_ask() && self.rosters.under_way.len() < ROSTER_READS_MAX;
        let read = self.rosters.reads.first().filter(|_| reads);
        let tell = self.rosters.tells.first().filter(|_| !self.control.is_open());
        read.into_iter().chain(tell).map(|(at, _)| *at).min()
    }
}
