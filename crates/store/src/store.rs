//! The store: rooms, ids of ephemeral rooms, and partitions, with what brokers do to them; beside them sessions and
//! presence, whose operations stand in modules of their own. Each operation is one atomic step, like a function in Redis.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::BuildHasher;
use std::sync::Arc;

use foldhash::quality::FixedState;
use roomcast_protocol::envelope::{Count, Moved};
use roomcast_protocol::position::{Epoch, Head, Keep, OFFSET_MAX, Position, Span};
use roomcast_protocol::room::RoomName;

use crate::directory::Directories;
use crate::ids::{Bounds, Hold, Id, Ids};
use crate::leases::Leases;
use crate::moved::Partition;
use crate::presence::{self, Presence};
use crate::room::{Meta, Named, Room, Touched};
use crate::sessions::{Sessions, length};
use crate::stream::{ENTRY_BYTES, Entry, KEY_BYTES, Place};
use crate::untold::Untold;

/// What a room weighs beside its entries and ids. Units: bytes.
pub const ROOM_BYTES: u64 = 1_024;

/// What a remembered id of a room weighs. Units: bytes.
pub const ID_BYTES: u64 = 96;

/// What a store goes by.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// Ids are remembered at least so long. Units: milliseconds.
    pub dedup_ttl_ms: u64,
    /// Ids of each generation of a room; of all ephemeral rooms together.
    pub dedup_max: usize,
    /// What rooms with their entries, ids and cursors, and directories, may weigh; sessions and presence, which connections bound, are not
    /// counted in it. Units: bytes.
    pub bytes_max: u64,
    /// How long a beat renews a node's lease. Units: milliseconds.
    pub lease_ms: u64,
    /// In which partition a room lies.
    pub partition: fn(&RoomName) -> u16,
}

/// When something is done, and the epoch to take if a stream begins anew by it.
#[derive(Clone, Copy, Debug)]
pub struct At {
    /// The broker's clock. Units: milliseconds.
    pub now_ms: u64,
    /// 16 random bytes.
    pub fresh: Epoch,
}

/// What a publication brings, but for itself.
#[derive(Clone, Copy, Debug)]
pub struct Put<'a> {
    /// Its id.
    pub id: Id,
    /// How large its envelope is. Units: bytes.
    pub bytes: u64,
    /// It is of low priority: in an inbox that is full it goes first.
    pub low: bool,
    /// An older one under the same key is removed.
    pub collapse: Option<&'a str>,
}

/// What became of a publication in a room that keeps them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Published {
    /// It stands there.
    Stored {
        /// Where.
        position: Position,
        /// Older ids have gone early.
        short: bool,
    },
    /// The same content came first under this id, and got this position.
    Same(Position),
    /// Other content came first under this id.
    Other,
    /// The store is full.
    Full,
    /// The room has had as many publications as can be counted.
    Spent,
}

/// What became of an id in an ephemeral room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remembered {
    /// It is new.
    New {
        /// Older ids have gone early.
        short: bool,
    },
    /// The same content came first under it.
    Same,
    /// Other content did.
    Other,
}

/// Kept publications, as asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found<E> {
    /// The room's head.
    pub head: Head,
    /// By rising offset, without gaps.
    pub entries: Vec<Place<E>>,
    /// Nothing kept lies beyond them in the direction of reading.
    pub whole: bool,
}

/// A part that can be lost by itself, as keys in Redis can.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keys {
    /// What is known of a room's stream.
    Meta,
    /// All its entries.
    Stream,
    /// Its newest entry.
    Newest,
    /// The ids of its publications.
    Ids,
    /// How far it is acked.
    Cursors,
    /// Who is present in it.
    Presence,
    /// What its users have got and read.
    Receipts,
}

/// How far a sweep got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Swept {
    /// Nothing is due any more.
    All,
    /// More is due.
    Some,
}

/// What is remembered of an id in an ephemeral room.
#[derive(Clone, Copy, Debug)]
struct Heard {
    content: u64,
    /// Which room, as a hash: for its loss only.
    room: u64,
}

/// All that a broker keeps. A clone costs little: rooms are shared until one side changes them.
#[derive(Clone, Debug)]
pub struct Store<E> {
    rules: Rules,
    master: u128,
    rooms: BTreeMap<RoomName, Arc<Room<E>>>,
    /// Each room once, by when something of it may be over.
    due: BTreeSet<(u64, RoomName)>,
    partitions: BTreeMap<u16, Arc<Partition>>,
    ephemeral: Arc<Ids<Heard>>,
    sessions: Arc<Sessions>,
    presence: Arc<Presence>,
    leases: Arc<Leases>,
    untold: Arc<Untold>,
    directories: Arc<Directories>,
    bytes: u64,
}

impl<E: Clone> Store<E> {
    /// An empty store on a master.
    #[must_use]
    pub fn new(rules: Rules, master: u128) -> Self {
        Self {
            rules,
            master,
            rooms: BTreeMap::new(),
            due: BTreeSet::new(),
            partitions: BTreeMap::new(),
            ephemeral: Arc::default(),
            sessions: Arc::default(),
            presence: Arc::default(),
            leases: Arc::default(),
            untold: Arc::default(),
            directories: Arc::default(),
            bytes: 0,
        }
    }

    /// What all weighs: rooms with their entries, ids and cursors, directories, sessions, and presence. Units: bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes + self.directories.bytes() + self.sessions.bytes() + self.presence.bytes()
    }

    /// Rooms of which anything is there.
    #[must_use]
    pub fn rooms(&self) -> usize {
        self.rooms.len()
    }

    /// Remembers the id of a publication in an ephemeral room.
    pub fn remember(&mut self, room: &RoomName, now_ms: u64, id: Id) -> Remembered {
        let bounds = self.bounds();
        let ids = Arc::make_mut(&mut self.ephemeral);
        ids.expire(now_ms);
        match ids.get(id.key) {
            Some(first) if first.content == id.content => Remembered::Same,
            Some(_) => Remembered::Other,
            None => {
                let heard = Heard { content: id.content, room: tag(room) };
                let short = ids.insert(now_ms, bounds, Hold::Ephemeral, id.key, heard);
                Remembered::New { short }
            }
        }
    }

    /// Stores a publication at the end of its room, unless its id is known. `make` is given its position, and called
    /// only if it is stored.
    pub fn publish(
        &mut self,
        room: &RoomName,
        keep: &Keep,
        at: At,
        put: Put<'_>,
        make: impl FnOnce(Position) -> E,
    ) -> Published {
        self.expire(room, at.now_ms);
        let none = Room::default();
        let old = self.rooms.get(room).map_or(&none, |room| &**room);
        let Touched { meta, .. } = old.touch(at.now_ms, self.master, at.fresh);
        let known = old.ids.as_ref().and_then(|ids| ids.get(put.id.key));
        match known {
            Some(first) if first.content != put.id.content => return Published::Other,
            Some(first) if !is_lost(old, &meta, first.position) => {
                return Published::Same(first.position);
            }
            Some(_) | None => {}
        }
        let anew = if self.rooms.contains_key(room) { 0 } else { ROOM_BYTES };
        let key = put.collapse.map_or(0, |key| KEY_BYTES + length(key));
        let growth = anew + ENTRY_BYTES + ID_BYTES + key + put.bytes;
        if !self.takes(growth) {
            return Published::Full;
        }
        if meta.head >= OFFSET_MAX {
            return Published::Spent;
        }
        let bounds = self.bounds();
        let position = meta.position().next();
        let payload = make(position);
        let short = self.write(room, |room| {
            room.settle(meta);
            let entry = entry(room, position, meta.total, at.now_ms, put, payload);
            room.append(keep, at.now_ms, entry);
            let first = room.meta.map_or(1, |it| room.stream.kept_first(&it.kept(keep, at.now_ms)));
            let until_ms = room.meta.map_or(0, |meta| meta.until_ms);
            let hold = Hold::Kept { offset: position.offset, first, until_ms };
            let named = Named { content: put.id.content, position };
            room.ids.get_or_insert_default().insert(at.now_ms, bounds, hold, put.id.key, named)
        });
        self.move_room(room, at.fresh);
        Published::Stored { position, short }
    }

    /// The newest position of a room; `None`: the store is full, and the room not in it.
    pub fn head(&mut self, room: &RoomName, at: At) -> Option<Position> {
        self.touch(room, at).map(|meta| meta.position())
    }

    /// Kept publications of a room; `None`: the store is full, and the room not in it.
    pub fn read(&mut self, room: &RoomName, keep: &Keep, at: At, span: &Span) -> Option<Found<E>> {
        let meta = self.touch(room, at)?;
        let kept = meta.kept(keep, at.now_ms);
        let stream = &self.rooms.get(room)?.stream;
        let head = Head { position: meta.position(), first: stream.kept_first(&kept) };
        let (entries, whole) = stream.read(&kept, span);
        Some(Found { head, entries, whole })
    }

    /// What moved in each partition since its counter stood where the node took it.
    #[must_use]
    pub fn moved(&self, now_ms: u64, taken: &[Count]) -> Vec<Moved> {
        let taken: BTreeMap<_, _> = taken.iter().map(|it| (it.partition, it.count)).collect();
        let all: BTreeSet<_> = self.partitions.keys().chain(taken.keys()).copied().collect();
        let told = all.into_iter().filter_map(|partition| {
            let taken = taken.get(&partition).copied();
            let found = self.partitions.get(&partition);
            let count = found.map_or(0, |it| it.counter);
            if taken.unwrap_or(0) == count {
                return None;
            }
            let rooms = taken.and_then(|taken| found?.since(taken));
            let rooms = rooms.and_then(|rooms| {
                let told = rooms.into_iter().map(|room| {
                    let meta = self.rooms.get(room)?.meta?;
                    (meta.expires_ms >= now_ms).then(|| (room.clone(), meta.position()))
                });
                // One that has no head any more may have had a newer one.
                told.collect()
            });
            Some(Moved { count: Count { partition, count }, rooms })
        });
        told.collect()
    }

    /// Frees what is over, looking at no more than so many rooms and users. What nodes are told of is
    /// [`Store::tend`]'s.
    pub fn sweep(&mut self, now_ms: u64, rooms_max: usize) -> Swept {
        if self.ephemeral.due_ms().is_some_and(|due_ms| due_ms <= now_ms) {
            Arc::make_mut(&mut self.ephemeral).expire(now_ms);
        }
        self.leases_mut().expire(now_ms);
        let mut left = rooms_max;
        if self.sessions.due_ms().is_some_and(|due_ms| due_ms <= now_ms) {
            left -= self.sessions_mut().sweep(now_ms, left);
        }
        if self.presence.idle_ms().is_some_and(|due_ms| due_ms <= now_ms) {
            left -= self.all_presence_mut().sweep(now_ms, left);
        }
        if self.directories.due_ms().is_some_and(|due_ms| due_ms <= now_ms) {
            left -= self.directories_mut().sweep(now_ms, left);
        }
        for _ in 0..left {
            let Some((_, room)) = self.due.first().filter(|(due_ms, _)| *due_ms <= now_ms) else {
                break;
            };
            self.expire(&room.clone(), now_ms);
        }
        let rooms = self.due.first().map(|(due_ms, _)| *due_ms);
        let lists = self.directories.due_ms();
        let next = [rooms, self.sessions.due_ms(), self.presence.idle_ms(), lists];
        let is_due = |due_ms: u64| due_ms <= now_ms;
        if next.into_iter().flatten().any(is_due) { Swept::Some } else { Swept::All }
    }

    /// Another server is master from now on, with what this one has.
    pub const fn promote(&mut self, master: u128) {
        self.master = master;
    }

    /// Loses a part of a room.
    pub fn lose(&mut self, room: &RoomName, keys: Keys) {
        if self.rooms.contains_key(room) {
            self.write(room, |room| match keys {
                Keys::Meta => room.meta = None,
                Keys::Stream => room.stream = Default::default(),
                Keys::Newest => room.stream.lose_last(),
                Keys::Ids => {
                    if let Some(ids) = &mut room.ids {
                        ids.retain(|_| false);
                    }
                }
                Keys::Cursors => room.cursors = Default::default(),
                Keys::Receipts => room.receipts = None,
                Keys::Presence => {}
            });
        }
        match keys {
            Keys::Ids => {
                let lost = tag(room);
                Arc::make_mut(&mut self.ephemeral).retain(|heard| heard.room != lost);
            }
            Keys::Presence => self.lose_presence(room),
            Keys::Meta | Keys::Stream | Keys::Newest | Keys::Cursors | Keys::Receipts => {}
        }
    }

    /// Loses everything.
    pub fn lose_everything(&mut self) {
        *self = Self::new(self.rules, self.master);
    }

    /// A room that has had so many publications, none of which is kept any more.
    #[cfg(test)]
    pub(crate) fn begin(&mut self, room: &RoomName, head: u64) {
        let at = At { now_ms: 0, fresh: Epoch(1) };
        self.touch(room, at);
        self.write(room, |room| {
            room.meta = room.meta.map(|meta| Meta { head, first: head + 1, ..meta });
        });
    }

    const fn bounds(&self) -> Bounds {
        Bounds { ttl_ms: self.rules.dedup_ttl_ms, max: self.rules.dedup_max }
    }

    pub(crate) fn room(&self, room: &RoomName) -> Option<&Room<E>> {
        self.rooms.get(room).map(|room| &**room)
    }

    /// Whether anything of a room's stream is there.
    pub(crate) fn has(&self, room: &RoomName) -> bool {
        self.rooms.contains_key(room)
    }

    /// Whether so much more fits. Units: bytes.
    pub(crate) fn takes(&self, growth: u64) -> bool {
        self.bytes + self.directories.bytes() + growth <= self.rules.bytes_max
    }

    pub(crate) fn directories(&self) -> &Directories {
        &self.directories
    }

    pub(crate) fn directories_mut(&mut self) -> &mut Directories {
        Arc::make_mut(&mut self.directories)
    }

    pub(crate) const fn rules(&self) -> &Rules {
        &self.rules
    }

    pub(crate) fn sessions(&self) -> &Sessions {
        &self.sessions
    }

    pub(crate) fn sessions_mut(&mut self) -> &mut Sessions {
        Arc::make_mut(&mut self.sessions)
    }

    pub(crate) fn leases(&self) -> &Leases {
        &self.leases
    }

    pub(crate) fn leases_mut(&mut self) -> &mut Leases {
        Arc::make_mut(&mut self.leases)
    }

    pub(crate) fn untold_mut(&mut self) -> &mut Untold {
        Arc::make_mut(&mut self.untold)
    }

    pub(crate) fn presence(&self) -> &Presence {
        &self.presence
    }

    pub(crate) fn all_presence_mut(&mut self) -> &mut Presence {
        Arc::make_mut(&mut self.presence)
    }

    /// The presence of all rooms, and where this one lies.
    pub(crate) fn presence_mut(&mut self, room: &RoomName) -> (presence::Place, &mut Presence) {
        let partition = (self.rules.partition)(room);
        let place = presence::Place { partition, master: self.master };
        (place, Arc::make_mut(&mut self.presence))
    }

    /// Touches a room, and writes what came of it.
    pub(crate) fn touch(&mut self, room: &RoomName, at: At) -> Option<Meta> {
        self.expire(room, at.now_ms);
        let Some(known) = self.rooms.get(room) else {
            if !self.takes(ROOM_BYTES) {
                return None;
            }
            let Touched { meta, .. } = Room::<E>::default().touch(at.now_ms, self.master, at.fresh);
            self.write(room, |room| room.settle(meta));
            self.move_room(room, at.fresh);
            return Some(meta);
        };
        let Touched { meta, renewed } = known.touch(at.now_ms, self.master, at.fresh);
        if known.meta != Some(meta) {
            self.write(room, |room| room.settle(meta));
        }
        if renewed {
            self.move_room(room, at.fresh);
        }
        Some(meta)
    }

    fn move_room(&mut self, room: &RoomName, fresh: Epoch) {
        let partition = self.partitions.entry((self.rules.partition)(room)).or_default();
        Arc::make_mut(partition).move_room(room, fresh);
    }

    /// Removes the parts of a room whose time is over, and the room once nothing is left of it.
    pub(crate) fn expire(&mut self, room: &RoomName, now_ms: u64) {
        let Some(due_ms) = self.rooms.get(room).and_then(|room| room.due_ms()) else { return };
        if due_ms <= now_ms {
            self.write(room, |room| room.expire(now_ms));
        }
    }

    /// Changes a room, and keeps count of what all weigh.
    pub(crate) fn write<R>(&mut self, name: &RoomName, act: impl FnOnce(&mut Room<E>) -> R) -> R {
        let known = self.rooms.contains_key(name);
        let room = Arc::make_mut(self.rooms.entry(name.clone()).or_default());
        let before = if known { weight(room) } else { 0 };
        let due = room.due_ms();
        let result = act(room);
        let next = room.due_ms();
        let after = if next.is_some() { weight(room) } else { 0 };
        self.bytes = self.bytes - before + after;
        if due != next {
            if let Some(due_ms) = due {
                self.due.remove(&(due_ms, name.clone()));
            }
            if let Some(due_ms) = next {
                self.due.insert((due_ms, name.clone()));
            }
        }
        if next.is_none() {
            self.rooms.remove(name);
        }
        result
    }
}

/// The entry behind all that a room ever had.
fn entry<E>(
    room: &Room<E>,
    position: Position,
    total: u64,
    now_ms: u64,
    put: Put<'_>,
    payload: E,
) -> Entry<E> {
    let Put { bytes, low, collapse, .. } = put;
    // A clock that was put back must not let older entries outlive newer ones.
    let at_ms = room.stream.last().map_or(now_ms, |last| last.at_ms.max(now_ms));
    let (cum, collapse) = (total + bytes, collapse.map(Arc::from));
    Entry { position, at_ms, cum, bytes, low, collapse, payload }
}

/// Whether what an id names is not there although it should be: it went with a lost tail, or a lost stream.
fn is_lost<E>(room: &Room<E>, meta: &Meta, named: Position) -> bool {
    let entry = room.stream.get(named.offset);
    named.offset > meta.head
        || named.offset >= meta.first
            && !room.stream.is_hole(named.offset)
            && entry.is_none_or(|entry| entry.position != named)
}

fn weight<E>(room: &Room<E>) -> u64 {
    let ids = room.ids.as_ref().map_or(0, |ids| u64::try_from(ids.len()).unwrap_or(u64::MAX));
    ROOM_BYTES
        + room.stream.weight()
        + room.cursors.weight()
        + room.receipts.as_ref().map_or(0, |receipts| receipts.weight())
        + ID_BYTES * ids
}

fn tag(room: &RoomName) -> u64 {
    FixedState::with_seed(0).hash_one(room)
}
