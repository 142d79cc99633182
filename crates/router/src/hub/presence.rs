//! Whom this node has entered as present, and the steps in which the broker is told (G18): the net changes of a room,
//! one step of it under way at a time, repeated until it is answered. It never counts users: the broker does, for all
//! nodes at once.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use foldhash::quality::FixedState;
use roomcast_protocol::envelope::BrokerCommand;
use roomcast_protocol::ids::SessionId;
use roomcast_protocol::presence::{
    AGENTS, Incarnation, PRESENCE_CHANGES_MAX, PresenceChange, PresenceSet, SetPresence,
};
use roomcast_protocol::room::RoomName;
use roomcast_protocol::time::Now;

use super::agents::Compared;
use super::people::is_person;
use super::{Hub, HubConfig};
use crate::messages::HubEffect;

/// How long changes of one room are collected, the first excepted. Units: milliseconds.
pub const STEP_MS: u64 = 250;

/// How long after a step was not answered it is repeated. Units: milliseconds.
pub const STEP_AGAIN_MS: u64 = 500;

/// Steps under way at once, each of another room; the other rooms wait for their turn.
pub const STEPS_MAX: usize = 64;

/// A session's part in a room, as this node says it.
#[derive(Debug)]
struct Entry {
    user: Box<str>,
    generation: u64,
    /// Else it has left, and the broker is to be told so.
    present: bool,
    /// The broker may know of it.
    told: bool,
    /// Its lane has not said since the node came back whether it is still there: it is told to nobody until then.
    doubted: bool,
    /// The broker is told so with no grace for who leaves by it.
    at_once: bool,
    /// It is entered anew in the node's new life, and has not been yet.
    renews: bool,
}

/// What this node entered in one room.
#[derive(Debug, Default)]
struct Entered {
    entries: BTreeMap<SessionId, Entry>,
    /// Those of them that the broker is to be told of.
    dirty: BTreeSet<SessionId>,
    /// When its first step left. Units: monotonic milliseconds.
    begun_ms: Option<u64>,
    /// When its last step left. Units: monotonic milliseconds.
    stepped_ms: Option<u64>,
    /// It has a deadline, a place among those whose turn it is, or a step under way.
    listed: bool,
}

/// A step under way.
#[derive(Debug)]
struct Step {
    set: SetPresence,
    /// How many of its changes enter a session anew in the node's new life.
    renews: usize,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Due {
    /// The room may take its next step.
    Room(RoomName),
    /// A step that was not answered is to be repeated.
    Repeat(u64),
}

/// Whom this node has entered, by room.
#[derive(Debug)]
pub(super) struct Presence {
    rooms: BTreeMap<RoomName, Entered>,
    deadlines: BTreeSet<(u64, Due)>,
    /// Rooms whose turn it is.
    ready: VecDeque<RoomName>,
    /// Steps whose repetition is due.
    repeats: VecDeque<u64>,
    steps: BTreeMap<u64, Step>,
    requests: u64,
    seq: u64,
    /// Sessions that are present, in all rooms.
    present: usize,
    /// Of the agents' room, how many sessions each agent has.
    agents: HashMap<Box<str>, u32, FixedState>,
    /// The same of each user who is online, or away.
    people: HashMap<Box<str>, u32, FixedState>,
    /// Whether the broker still has them.
    pub(super) compared: Compared,
}

impl Presence {
    pub(super) fn new(seed: u64) -> Self {
        let hasher = FixedState::with_seed(seed);
        Self {
            rooms: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            ready: VecDeque::new(),
            repeats: VecDeque::new(),
            steps: BTreeMap::new(),
            requests: 0,
            seq: 0,
            present: 0,
            agents: HashMap::with_hasher(hasher.clone()),
            people: HashMap::with_hasher(hasher),
            compared: Compared::default(),
        }
    }

    /// Sessions that are present, counted in each of their rooms.
    pub(super) const fn present(&self) -> usize {
        self.present
    }

    /// Agents that have a connection on this node.
    pub(super) fn agents(&self) -> usize {
        self.agents.len()
    }

    /// Users who are online, or away, by a connection of this node.
    pub(super) fn people(&self) -> usize {
        self.people.len()
    }

    /// Whether the broker has nothing of this node's, and nothing is on its way.
    pub(super) fn is_unused(&self) -> bool {
        self.rooms.is_empty()
    }

    fn count(&mut self, room: &RoomName, user: &str, came: bool) {
        self.present = if came { self.present + 1 } else { self.present.saturating_sub(1) };
        if room.as_str() != AGENTS {
            return;
        }
        let of = if is_person(user) { &mut self.people } else { &mut self.agents };
        let sessions = of.entry(user.into()).or_default();
        *sessions = if came { *sessions + 1 } else { sessions.saturating_sub(1) };
        if *sessions == 0 {
            of.remove(user);
        }
    }

    /// The room takes its next step in its time.
    fn list(&mut self, now: Now, name: &RoomName) {
        let Some(room) = self.rooms.get_mut(name) else { return };
        if !std::mem::replace(&mut room.listed, true) {
            let rested_ms = room.stepped_ms.map_or(0, |at| at.saturating_add(STEP_MS));
            self.deadlines.insert((rested_ms.max(now.mono_ms), Due::Room(name.clone())));
        }
    }

    /// The broker may lack what this node entered in a room: it is entered again, of the users that are `missing`.
    pub(super) fn reenter(&mut self, now: Now, name: &RoomName, missing: impl Fn(&str) -> bool) {
        let Some(room) = self.rooms.get_mut(name) else { return };
        let known = room.entries.iter();
        let lost = known.filter(|(_, entry)| entry.present && entry.told && missing(&entry.user));
        room.dirty.extend(lost.map(|(session, _)| *session));
        if !room.dirty.is_empty() {
            self.list(now, name);
        }
    }

    /// Whether something was entered in the room for longer than that.
    pub(super) fn is_entered_since(&self, now: Now, name: &RoomName, age_ms: u64) -> bool {
        let begun_ms = self.rooms.get(name).and_then(|room| room.begun_ms);
        begun_ms.is_some_and(|at| now.mono_ms > at.saturating_add(age_ms))
    }

    /// Entries and steps agree with what is counted of them.
    #[cfg(test)]
    pub(super) fn walk(&self, renewing: usize) {
        let (mut present, mut renews) = (0, 0);
        for room in self.rooms.values() {
            for (session, entry) in &room.entries {
                present += usize::from(entry.present);
                renews += usize::from(entry.renews);
                let dirty = room.dirty.contains(session);
                assert!(entry.present || dirty, "who has left is kept only to be told");
                assert!(!entry.doubted || !dirty, "nothing is told of who is in doubt");
                assert!(!entry.renews || dirty);
            }
            assert!(room.dirty.iter().all(|session| room.entries.contains_key(session)));
            assert!(room.listed || room.dirty.is_empty(), "a change waits for ever");
        }
        let under_way: usize = self.steps.values().map(|step| step.renews).sum();
        assert_eq!((self.present, renewing), (present, renews + under_way));
    }
}

impl Hub {
    /// Does all that is due of presence: steps, beats, notices, events of occupied rooms, rosters.
    pub(super) fn presence_turn(&mut self, now: Now, out: &mut Vec<HubEffect>) {
        self.presence_steps(now, out);
        self.beat_alone(now, out);
        self.people_turn(now, out);
        self.notify(now, out);
        self.compare_agents(now, out);
        self.read_occupancies(now, out);
        self.read_rosters(now, out);
        self.tell_rosters(now, out);
        self.answer_held(now, out);
        self.ask_rosters(out);
    }

    /// When [`Hub::presence_turn`] has something to do by itself.
    pub(super) fn next_presence_ms(&self) -> Option<u64> {
        let step = self.presence.deadlines.first().map(|(at, _)| *at);
        let others = [self.next_beat_alone_ms(), self.next_notice_ms(), self.next_roster_ms()];
        let (compare, held) = (self.next_compare_ms(), self.next_held_ms());
        let (occupancy, people) = (self.next_occupancy_ms(), self.next_people_ms());
        others.into_iter().chain([step, compare, held, occupancy, people]).flatten().min()
    }

    /// A lane says that a session came into a room, or left it.
    pub(super) fn presence(
        &mut self,
        now: Now,
        name: &RoomName,
        change: PresenceChange,
        at_once: bool,
    ) {
        let PresenceChange { session, user, generation, present } = change;
        if !present && !self.presence.rooms.contains_key(name) {
            return;
        }
        let room = self.presence.rooms.entry(name.clone()).or_default();
        let known = room.entries.get(&session);
        if known.is_some_and(|entry| entry.generation > generation) || !present && known.is_none() {
            return;
        }
        let same = |entry: &Entry| {
            (&entry.user, entry.generation, entry.present) == (&user, generation, present)
                && !entry.doubted
        };
        if known.is_some_and(same) {
            return;
        }
        let before = room.entries.remove(&session);
        let told = before.as_ref().is_some_and(|entry| entry.told);
        let renews = before.as_ref().is_some_and(|entry| entry.renews);
        if present || told {
            let user = user.clone();
            let entry = Entry { user, generation, present, told, doubted: false, at_once, renews };
            room.entries.insert(session, entry);
            room.dirty.insert(session);
        } else {
            room.dirty.remove(&session);
            self.lives.renewing -= usize::from(renews);
        }
        if let Some(before) = before.filter(|entry| entry.present) {
            self.presence.count(name, &before.user, false);
        }
        if present {
            self.presence.count(name, &user, true);
        }
        self.presence.list(now, name);
    }

    /// Acts on what is due: steps begin, and are repeated.
    fn presence_steps(&mut self, now: Now, out: &mut Vec<HubEffect>) {
        while self.presence.deadlines.first().is_some_and(|(at, _)| *at <= now.mono_ms) {
            match self.presence.deadlines.pop_first() {
                Some((_, Due::Room(name))) => self.presence.ready.push_back(name),
                Some((_, Due::Repeat(request))) => self.presence.repeats.push_back(request),
                None => break,
            }
        }
        while self.may_step()
            && let Some(request) = self.presence.repeats.pop_front()
        {
            if let Some(step) = self.presence.steps.get(&request) {
                let set = Box::new(step.set.clone());
                out.push(HubEffect::Broker(BrokerCommand::SetPresence { request, set }));
            }
        }
        while self.may_step()
            && self.lives.holds()
            && self.presence.steps.len() < STEPS_MAX
            && let Some(name) = self.presence.ready.pop_front()
        {
            let Some(room) = self.presence.rooms.get_mut(&name) else { continue };
            if room.dirty.is_empty() {
                room.listed = false;
                if room.entries.is_empty() {
                    self.presence.rooms.remove(&name);
                }
            } else {
                self.step(now, name, out);
            }
        }
    }

    /// Whether steps make sense now. They need no feed: one that is down for long must not cost anybody its presence.
    fn may_step(&self) -> bool {
        self.watch.as_ref().is_none_or(|watch| watch.commands_are_answered())
    }

    /// Tells the broker the next changes of a room.
    fn step(&mut self, now: Now, name: RoomName, out: &mut Vec<HubEffect>) {
        let HubConfig { id, leave_grace_ms, .. } = self.config;
        let incarnation = Incarnation { node: id, life: self.lives.life() };
        let Some(room) = self.presence.rooms.get_mut(&name) else { return };
        let (mut changes, mut renews) = (Vec::new(), 0);
        let is_at_once = |session| room.entries.get(session).is_some_and(|entry| entry.at_once);
        // A step has one grace: those with the other one wait for the next.
        let at_once = room.dirty.first().is_some_and(is_at_once);
        let alike = room.dirty.iter().filter(|session| is_at_once(session) == at_once);
        let sessions: Vec<SessionId> = alike.take(PRESENCE_CHANGES_MAX).copied().collect();
        for session in sessions {
            room.dirty.remove(&session);
            let Some(entry) = room.entries.get_mut(&session) else { continue };
            renews += usize::from(std::mem::take(&mut entry.renews));
            entry.told = true;
            let Entry { generation, present, .. } = *entry;
            let user = entry.user.clone();
            if !present {
                room.entries.remove(&session);
            }
            changes.push(PresenceChange { session, user, generation, present });
        }
        room.stepped_ms = Some(now.mono_ms);
        room.begun_ms.get_or_insert(now.mono_ms);
        self.presence.seq += 1;
        let seq = self.presence.seq;
        let grace_ms = if at_once { 0 } else { leave_grace_ms };
        let set = SetPresence { room: name, incarnation, seq, changes, grace_ms };
        self.presence.requests += 1;
        let request = self.presence.requests;
        self.presence.steps.insert(request, Step { set: set.clone(), renews });
        self.counters.presence_steps += 1;
        let set = Box::new(set);
        out.push(HubEffect::Broker(BrokerCommand::SetPresence { request, set }));
    }

    /// A step was answered, or not.
    pub(super) fn presence_set(
        &mut self,
        now: Now,
        request: u64,
        outcome: Option<PresenceSet>,
        out: &mut Vec<HubEffect>,
    ) {
        let Some(outcome) = outcome else {
            if self.presence.steps.contains_key(&request) {
                let again_ms = now.mono_ms.saturating_add(STEP_AGAIN_MS);
                self.presence.deadlines.insert((again_ms, Due::Repeat(request)));
            }
            return;
        };
        let Some(Step { set, renews }) = self.presence.steps.remove(&request) else { return };
        self.lives.renewing -= renews;
        if let Some(room) = self.presence.rooms.get_mut(&set.room) {
            room.listed = false;
            // Also where nothing is left: its pace is kept until then.
            self.presence.list(now, &set.room);
        }
        match outcome {
            // The answer to a beat brings it, to whichever node is to tell it.
            PresenceSet::Done(Some(diff)) if diff.room.as_str() == AGENTS => self.hurry_beat(now),
            PresenceSet::Done(_) => {}
            PresenceSet::Reaped if set.incarnation.life == self.lives.life() => {
                self.begin_life(now, true, out);
            }
            PresenceSet::Reaped => {}
        }
        self.see_renewed();
    }

    /// A new life begins: all is entered anew. What is in `doubt` waits until its lane says that it is still there.
    pub(super) fn renew_entries(&mut self, now: Now, doubt: bool) {
        let mut renewing: usize = self.presence.steps.values().map(|step| step.renews).sum();
        let mut names = Vec::new();
        for (name, room) in &mut self.presence.rooms {
            let Entered { entries, dirty, .. } = room;
            if doubt {
                // What the life before had entered is void already, and so are its leaves.
                dirty.clear();
                entries.retain(|_, entry| entry.present);
            }
            for (session, entry) in entries.iter_mut() {
                entry.doubted |= doubt;
                entry.told &= !doubt;
                entry.renews = entry.present && !entry.doubted;
                if entry.renews {
                    renewing += 1;
                    dirty.insert(*session);
                }
            }
            if !room.dirty.is_empty() || room.entries.is_empty() {
                names.push(name.clone());
            }
        }
        self.lives.renewing = renewing;
        for name in names {
            self.presence.list(now, &name);
        }
    }
}
