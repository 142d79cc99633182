//! Who is in which room, across the cluster (G18, G19): which sessions a user has there, when a user has come or gone,
//! and under which version that is told. Whose entries end with a node's lease stands in `leases`.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

use roomcast_protocol::occupancy::Occupancy;
use roomcast_protocol::position::{OFFSET_MAX, Position};
use roomcast_protocol::presence::{
    Incarnation, PRESENT_MAX, PresenceChange, PresenceDiff, PresenceSet, ROSTER_PAGE_MAX,
    RosterPage, SetPresence,
};
use roomcast_protocol::room::RoomName;

use crate::occupancy::Occupancies;
use crate::sessions::length;
use crate::store::{At, Store};

/// How long a room's presence is known after its last user left and its last step. Units: milliseconds.
pub const PRESENCE_MS: u64 = 3_600_000;

/// What a room with presence weighs beside its users and sessions. Units: bytes.
const ROOM_BYTES: u64 = 512;

/// What a user in a room weighs beside its name. Units: bytes.
const USER_BYTES: u64 = 64;

/// What a session in a room weighs beside its user's name. Units: bytes.
const PART_BYTES: u64 = 192;

/// What became of a step of presence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stepped {
    /// The answer.
    pub answer: PresenceSet,
    /// What is to be published in the same step. A step that is repeated gets its first answer, and publishes nothing.
    pub publish: Option<Arc<PresenceDiff>>,
}

/// A session's part in a room.
#[derive(Clone, Debug)]
struct Part {
    user: Box<str>,
    incarnation: Incarnation,
    generation: u64,
}

/// A user in a room.
#[derive(Clone, Copy, Debug, Default)]
struct Present {
    /// How many sessions it has there.
    sessions: usize,
    /// It has none: it leaves then. Units: milliseconds.
    leaves_ms: u64,
    /// The number of the version with which it came.
    since: u64,
}

/// The presence of one room.
#[derive(Clone, Debug)]
struct Room {
    version: Position,
    /// Under which master the version was last told: another one may never have had some of its steps.
    master: u128,
    sessions: BTreeMap<u128, Part>,
    users: BTreeMap<Box<str>, Present>,
    /// The last step of each incarnation, and what it changed for users.
    last: BTreeMap<Incarnation, (u64, Option<Arc<PresenceDiff>>)>,
    /// When the last step was. Units: milliseconds.
    stepped_ms: u64,
    /// What its users and sessions weigh. Units: bytes.
    bytes: u64,
    /// It is counted in the sum of all.
    is_counted: bool,
}

/// Users who came and went in one step; nobody stands in both.
#[derive(Debug, Default)]
struct Changed {
    joined: BTreeSet<Box<str>>,
    /// Each with the number of the version with which it had come.
    left: BTreeMap<Box<str>, u64>,
}

/// The presence of all rooms.
#[derive(Clone, Debug, Default)]
pub(crate) struct Presence {
    rooms: BTreeMap<RoomName, Arc<Room>>,
    /// Users who leave, by when.
    leaving: BTreeSet<(u64, RoomName, Box<str>)>,
    /// Rooms without users, by when they are forgotten.
    idle: BTreeSet<(u64, RoomName)>,
    /// What each incarnation entered and no later one has taken over.
    entered: BTreeMap<Incarnation, BTreeSet<(RoomName, u128)>>,
    pub(crate) occupancies: BTreeMap<u16, Arc<Occupancies>>,
    bytes: u64,
}

impl<E: Clone> Store<E> {
    /// Changes who is in a room.
    pub fn set_presence(&mut self, at: At, set: &SetPresence) -> Stepped {
        if self.is_reaped(at.now_ms, set.incarnation) {
            return Stepped { answer: PresenceSet::Reaped, publish: None };
        }
        let (place, presence) = self.presence_mut(&set.room);
        if let Some(answer) = presence.answered(set) {
            return Stepped { answer, publish: None };
        }
        let publish = presence.step(&set.room, place, at, |presence, changed| {
            for change in &set.changes {
                presence.change(set, change, at.now_ms, changed);
            }
        });
        presence.remember(set, publish.clone());
        publish.iter().for_each(|diff| self.note_untold(diff));
        Stepped { answer: PresenceSet::Done(publish.as_deref().cloned()), publish }
    }

    /// Who is in a room: users behind this one, at most so many. Bounds: at most [`ROSTER_PAGE_MAX`].
    pub fn roster(
        &mut self,
        at: At,
        room: &RoomName,
        after: Option<&str>,
        count_max: u32,
    ) -> RosterPage {
        let (Place { master, .. }, presence) = self.presence_mut(room);
        presence.roster((at, master), room, after, count_max.min(ROSTER_PAGE_MAX))
    }

    /// Which of these users are in a room: of each the number of the version with which it came. Bounds: at most
    /// [`PRESENT_MAX`].
    pub fn present(&mut self, room: &RoomName, users: &[Box<str>]) -> Vec<Option<u64>> {
        let (_, presence) = self.presence_mut(room);
        let room = presence.rooms.get(room);
        let since = |user| room.and_then(|it| it.users.get(user)).map(|it| it.since);
        users.iter().take(PRESENT_MAX).map(since).collect()
    }

    /// Loses a room's presence.
    pub(crate) fn lose_presence(&mut self, room: &RoomName) {
        let (_, presence) = self.presence_mut(room);
        presence.forget(room);
    }
}

/// Where a room lies, and under which master.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub(crate) partition: u16,
    pub(crate) master: u128,
}

impl Presence {
    pub(crate) const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// When [`Presence::sweep`] has something to do. Units: milliseconds.
    pub(crate) fn idle_ms(&self) -> Option<u64> {
        self.idle.first().map(|(due_ms, _)| *due_ms)
    }

    /// When the next user leaves. Units: milliseconds.
    pub(crate) fn leaves_ms(&self) -> Option<u64> {
        self.leaving.first().map(|(due_ms, ..)| *due_ms)
    }

    /// Forgets rooms, looking at no more than so many. Answers with how many it looked at.
    pub(crate) fn sweep(&mut self, now_ms: u64, rooms_max: usize) -> usize {
        for looked in 0..rooms_max {
            let Some((_, room)) = self.idle.first().filter(|(due_ms, _)| *due_ms <= now_ms) else {
                return looked;
            };
            self.forget(&room.clone());
        }
        rooms_max
    }

    /// Incarnations of which sessions are in rooms.
    pub(crate) fn incarnations(&self) -> impl Iterator<Item = Incarnation> {
        self.entered.keys().copied()
    }

    /// Rooms and users whose time to leave is over, at most so many, by room.
    pub(crate) fn overdue(
        &self,
        now_ms: u64,
        max: usize,
    ) -> BTreeMap<RoomName, BTreeSet<Box<str>>> {
        let mut rooms: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
        let due = self.leaving.iter().take_while(|(due_ms, ..)| *due_ms <= now_ms);
        for (_, room, user) in due.take(max) {
            rooms.entry(room.clone()).or_default().insert(user.clone());
        }
        rooms
    }

    /// What incarnations entered, at most so many, by room.
    pub(crate) fn entered_by(
        &self,
        incarnations: impl Iterator<Item = Incarnation>,
        max: usize,
    ) -> BTreeMap<RoomName, BTreeSet<u128>> {
        let mut rooms: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
        let entries = incarnations.filter_map(|it| self.entered.get(&it)).flatten();
        for (room, session) in entries.take(max) {
            rooms.entry(room.clone()).or_default().insert(*session);
        }
        rooms
    }

    /// Users of a room leave whose time is over.
    pub(crate) fn settle(
        &mut self,
        room: &RoomName,
        users: BTreeSet<Box<str>>,
        (place, at): (Place, At),
    ) -> Option<Arc<PresenceDiff>> {
        self.step(room, place, at, |presence, changed| {
            for user in users {
                let since = presence.take_out(room, &user);
                changed.left(user, since);
            }
        })
    }

    /// Sessions of a room go that reaped incarnations entered: without grace.
    pub(crate) fn reap(
        &mut self,
        room: &RoomName,
        sessions: BTreeSet<u128>,
        (place, at): (Place, At),
    ) -> Option<Arc<PresenceDiff>> {
        self.step(room, place, at, |presence, changed| {
            for session in sessions {
                presence.remove(room, session, 0, at.now_ms, changed);
            }
        })
    }

    /// Forgets the answers that reaped incarnations got.
    pub(crate) fn forget_answers(&mut self, incarnation: Incarnation) {
        for room in self.rooms.values_mut().filter(|it| it.last.contains_key(&incarnation)) {
            Arc::make_mut(room).last.remove(&incarnation);
        }
    }

    /// The answer to a step that was taken before, or comes behind a later one.
    fn answered(&self, set: &SetPresence) -> Option<PresenceSet> {
        let (seq, diff) = self.rooms.get(&set.room)?.last.get(&set.incarnation)?;
        match set.seq.cmp(seq) {
            Ordering::Less => Some(PresenceSet::Done(None)),
            Ordering::Equal => Some(PresenceSet::Done(diff.as_deref().cloned())),
            Ordering::Greater => None,
        }
    }

    fn remember(&mut self, set: &SetPresence, diff: Option<Arc<PresenceDiff>>) {
        if let Some(room) = self.rooms.get_mut(&set.room) {
            Arc::make_mut(room).last.insert(set.incarnation, (set.seq, diff));
        }
    }

    fn change(
        &mut self,
        set: &SetPresence,
        change: &PresenceChange,
        now_ms: u64,
        changed: &mut Changed,
    ) {
        let room = &set.room;
        let id = change.session.0;
        let known = self.rooms.get(room).and_then(|it| it.sessions.get(&id));
        if known.is_some_and(|known| known.outranks(change, set.incarnation)) {
            return;
        }
        if !change.present {
            return self.remove(room, id, set.grace_ms, now_ms, changed);
        }
        let same = known.is_some_and(|known| known.user == change.user);
        let (user, generation) = (change.user.clone(), change.generation);
        if same {
            self.part_from(room, id);
        } else {
            self.remove(room, id, set.grace_ms, now_ms, changed);
            self.come(room, &user, changed);
        }
        let part = Part { user, incarnation: set.incarnation, generation };
        if let Some(it) = self.rooms.get_mut(room).map(Arc::make_mut) {
            it.bytes += PART_BYTES + length(&part.user);
            it.sessions.insert(id, part);
            self.entered.entry(set.incarnation).or_default().insert((room.clone(), id));
        }
    }

    /// A user has one session more.
    fn come(&mut self, room: &RoomName, user: &str, changed: &mut Changed) {
        let Some(it) = self.rooms.get_mut(room).map(Arc::make_mut) else { return };
        if let Some(present) = it.users.get_mut(user) {
            if present.sessions == 0 {
                self.leaving.remove(&(present.leaves_ms, room.clone(), user.into()));
            }
            present.sessions += 1;
        } else {
            it.bytes += USER_BYTES + length(user);
            let since = changed.joined(user.into());
            it.users.insert(user.into(), Present { sessions: 1, leaves_ms: 0, since });
        }
    }

    /// A session goes, if it is known; its user with the last one, once the grace is over.
    fn remove(
        &mut self,
        room: &RoomName,
        session: u128,
        grace_ms: u64,
        now_ms: u64,
        changed: &mut Changed,
    ) {
        let Some(part) = self.part_from(room, session) else { return };
        let Some(it) = self.rooms.get_mut(room).map(Arc::make_mut) else { return };
        let Some(present) = it.users.get_mut(&part.user) else { return };
        present.sessions -= 1;
        if present.sessions > 0 {
            return;
        }
        if grace_ms == 0 {
            let since = self.take_out(room, &part.user);
            changed.left(part.user, since);
        } else {
            present.leaves_ms = now_ms.saturating_add(grace_ms);
            self.leaving.insert((present.leaves_ms, room.clone(), part.user));
        }
    }

    /// Takes a session's part out, and nothing else.
    fn part_from(&mut self, room: &RoomName, session: u128) -> Option<Part> {
        let it = Arc::make_mut(self.rooms.get_mut(room)?);
        let part = it.sessions.remove(&session)?;
        it.bytes -= PART_BYTES + length(&part.user);
        if let Some(entered) = self.entered.get_mut(&part.incarnation) {
            entered.remove(&(room.clone(), session));
            if entered.is_empty() {
                self.entered.remove(&part.incarnation);
            }
        }
        Some(part)
    }

    /// Takes a user out who has no session any more. Answers with the number of the version with which it had come.
    fn take_out(&mut self, room: &RoomName, user: &str) -> u64 {
        let Some(it) = self.rooms.get_mut(room).map(Arc::make_mut) else { return 0 };
        let Some(present) = it.users.remove(user) else { return 0 };
        it.bytes -= USER_BYTES + length(user);
        self.leaving.remove(&(present.leaves_ms, room.clone(), user.into()));
        present.since
    }

    /// One step in a room: what it changes for users is told under the next version.
    fn step(
        &mut self,
        room: &RoomName,
        place: Place,
        at: At,
        act: impl FnOnce(&mut Self, &mut Changed),
    ) -> Option<Arc<PresenceDiff>> {
        let new = || Arc::new(Room::new(place.master, at));
        let it = self.rooms.entry(room.clone()).or_insert_with(new);
        let (before, idle) = (it.users.len(), it.idle_ms());
        self.bytes -= it.counted();
        Arc::make_mut(it).stepped_ms = at.now_ms;
        let mut changed = Changed::default();
        act(self, &mut changed);
        let it = Arc::make_mut(self.rooms.get_mut(room)?);
        let diff = (!changed.is_nothing()).then(|| {
            it.renew(place.master, at);
            it.version.offset = (it.version.offset + 1).min(OFFSET_MAX);
            let count = u64::try_from(it.users.len()).unwrap_or(u64::MAX);
            let (joined, left) = (changed.joined, changed.left);
            for user in &joined {
                if let Some(present) = it.users.get_mut(user) {
                    present.since = it.version.offset;
                }
            }
            let (joined, left) = (joined.into_iter().collect(), left.into_keys().collect());
            Arc::new(PresenceDiff { room: room.clone(), version: it.version, count, joined, left })
        });
        it.is_counted = true;
        self.bytes += it.counted();
        if let Some(due_ms) = idle {
            self.idle.remove(&(due_ms, room.clone()));
        }
        if let Some(due_ms) = it.idle_ms() {
            self.idle.insert((due_ms, room.clone()));
        }
        let (after, version) = (it.users.len(), it.version);
        if (before == 0) != (after == 0) && !room.is_system() {
            let event = Occupancy { room: room.clone(), version, occupied: after > 0 };
            Arc::make_mut(self.occupancies.entry(place.partition).or_default()).push(event);
        }
        diff
    }

    fn roster(
        &mut self,
        (at, master): (At, u128),
        room: &RoomName,
        after: Option<&str>,
        count_max: u32,
    ) -> RosterPage {
        let Some(it) = self.rooms.get_mut(room) else {
            let version = Position { epoch: at.fresh, offset: 0 };
            return RosterPage { version, count: 0, users: Vec::new(), more: false };
        };
        if it.master != master {
            Arc::make_mut(it).renew(master, at);
        }
        let count = u64::try_from(it.users.len()).unwrap_or(u64::MAX);
        let behind = after.map_or(Bound::Unbounded, Bound::Excluded);
        let mut users = it.users.range::<str, _>((behind, Bound::Unbounded));
        let max = usize::try_from(count_max).unwrap_or(usize::MAX);
        let page = users.by_ref().take(max).map(|(user, _)| user.clone()).collect();
        RosterPage { version: it.version, count, users: page, more: users.next().is_some() }
    }

    fn forget(&mut self, room: &RoomName) {
        let Some(it) = self.rooms.remove(room) else { return };
        self.bytes -= it.counted();
        if let Some(due_ms) = it.idle_ms() {
            self.idle.remove(&(due_ms, room.clone()));
        }
        for (user, present) in it.users.iter().filter(|(_, it)| it.sessions == 0) {
            self.leaving.remove(&(present.leaves_ms, room.clone(), user.clone()));
        }
        for (session, part) in &it.sessions {
            if let Some(entered) = self.entered.get_mut(&part.incarnation) {
                entered.remove(&(room.clone(), *session));
            }
        }
        self.entered.retain(|_, entered| !entered.is_empty());
    }
}

impl Part {
    /// Whether a later attachment of the session, or a later life of its node, has said what it does: what comes late
    /// must not give the session back to a life that is about to be reaped. Where a broker has lost records, nodes may
    /// have the session under one generation: who says last that it is there has it, and another's leave is no leave.
    fn outranks(&self, change: &PresenceChange, by: Incarnation) -> bool {
        let Incarnation { node, life } = self.incarnation;
        let overtaken = if node == by.node { life > by.life } else { !change.present };
        self.generation > change.generation || self.generation == change.generation && overtaken
    }
}

impl Room {
    fn new(master: u128, at: At) -> Self {
        Self {
            version: Position { epoch: at.fresh, offset: 0 },
            master,
            sessions: BTreeMap::new(),
            users: BTreeMap::new(),
            last: BTreeMap::new(),
            stepped_ms: at.now_ms,
            bytes: 0,
            is_counted: false,
        }
    }

    /// Another master may never have had some versions that were told: they must not name other steps.
    fn renew(&mut self, master: u128, at: At) {
        if self.master != master {
            self.master = master;
            self.version.epoch = at.fresh;
        }
    }

    /// When it is forgotten, if nobody comes. Units: milliseconds.
    fn idle_ms(&self) -> Option<u64> {
        self.users.is_empty().then(|| self.stepped_ms.saturating_add(PRESENCE_MS))
    }

    /// What of it is counted in the sum. Units: bytes.
    const fn counted(&self) -> u64 {
        if self.is_counted { ROOM_BYTES + self.bytes } else { 0 }
    }
}

impl Changed {
    /// Answers with the number of the version with which it had come, if it only seems to come; else with 0.
    fn joined(&mut self, user: Box<str>) -> u64 {
        let since = self.left.remove(&user);
        if since.is_none() {
            self.joined.insert(user);
        }
        since.unwrap_or_default()
    }

    fn left(&mut self, user: Box<str>, since: u64) {
        if !self.joined.remove(&user) {
            self.left.insert(user, since);
        }
    }

    fn is_nothing(&self) -> bool {
        self.joined.is_empty() && self.left.is_empty()
    }
}
