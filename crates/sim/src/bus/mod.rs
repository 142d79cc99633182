//! The bus of a run: Redis servers as nodes know them. Commands run atomically on a server; what is published goes to the
//! feed links that are connected to it; replicas follow late, and with a tail missing if need be.

mod directory;
pub(crate) mod execute;
mod lasting;
mod receipts;
pub(crate) mod server;

use std::collections::BTreeMap;
use std::sync::Arc;

use foldhash::quality::FixedState;
use roomcast_protocol::codes::Refused;
use roomcast_protocol::directory::{DirectoryPage, Entries, EntrySet, SetEntry};
use roomcast_protocol::envelope::{BeatReport, Count, Envelope, MasterId, Moved};
use roomcast_protocol::ids::NodeId;
use roomcast_protocol::inbox::{Acked, CursorName, InboxState, Told};
use roomcast_protocol::occupancy::{AskOccupancies, GivenOccupancies};
use roomcast_protocol::position::{Keep, Kept, Page, Position, Span};
use roomcast_protocol::presence::{PresenceSet, RosterPage, SetPresence};
use roomcast_protocol::publication::Publication;
use roomcast_protocol::receipts::{MarksSet, ReceiptsPage, SetMarks};
use roomcast_protocol::room::RoomName;
use roomcast_protocol::session::{
    AttachSession, AttachedSession, SaveSession, SavedSession, Unattached,
};

use roomcast_store::{Id, Rules, Store, id_of, quiet_ms};

use crate::random::Random;
use server::Server;

/// Partitions of a run: few, so that moves and counters of different rooms meet.
pub(crate) const PARTITIONS: u16 = 8;

/// How long a node's lease lasts. Units: milliseconds.
pub(crate) const LEASE_MS: u64 = 8_000;

/// How rooms are heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hearing {
    /// One pattern brings every room.
    Pattern,
    /// Each room is subscribed while the node has a member.
    Exact,
}

/// What a node asks a server.
#[derive(Clone, Debug)]
pub(crate) enum Call {
    Publish(Publishing),
    Heads {
        rooms: Vec<RoomName>,
        fresh: u128,
    },
    Read {
        room: RoomName,
        keep: Keep,
        span: Span,
        fresh: u128,
    },
    Beat {
        seq: u64,
        hears: bool,
        lives: (u32, Option<u32>),
        taken: Vec<Count>,
        told: Option<Position>,
        reads: bool,
        fresh: u128,
    },
    Save(Box<SaveSession>),
    Attach(Box<AttachSession>),
    EndSessions {
        user: Box<str>,
        order: Position,
    },
    SetPresence {
        set: Box<SetPresence>,
        fresh: u128,
    },
    Roster {
        room: RoomName,
        after: Option<Box<str>>,
        count_max: u32,
        fresh: u128,
    },
    Present {
        room: RoomName,
        users: Vec<Box<str>>,
    },
    Inbox {
        cursor: CursorName,
        keep: Keep,
        fresh: u128,
    },
    Ack {
        cursor: CursorName,
        keep: Keep,
        acked: Acked,
        told: Told,
        fresh: u128,
    },
    SetMarks {
        set: Box<SetMarks>,
        fresh: u128,
    },
    Receipts {
        room: RoomName,
        of: Option<u64>,
        after: Option<Box<str>>,
        count_max: u32,
        fresh: u128,
    },
    SetEntry(Box<SetEntry>),
    Directory {
        directory: RoomName,
        entries: Entries,
    },
    Occupancies {
        ask: AskOccupancies,
    },
    Load,
}

impl Call {
    /// The partition by which it finds its server; `None`: it goes to one, or names several.
    pub(crate) fn partition(&self) -> Option<u16> {
        let room = match self {
            Self::Occupancies { ask } => return Some(ask.partition),
            Self::Publish(publishing) => Some(publishing.publication.room.clone()),
            Self::Read { room, .. }
            | Self::Roster { room, .. }
            | Self::Present { room, .. }
            | Self::Receipts { room, .. } => Some(room.clone()),
            Self::Save(save) => Some(home_of(&save.user)),
            Self::Attach(attach) => Some(home_of(&attach.user)),
            Self::EndSessions { user, .. } => Some(home_of(user)),
            Self::SetPresence { set, .. } => Some(set.room.clone()),
            Self::SetMarks { set, .. } => Some(set.room.clone()),
            Self::SetEntry(set) => Some(set.directory.clone()),
            Self::Directory { directory, .. } => Some(directory.clone()),
            Self::Inbox { cursor, .. } | Self::Ack { cursor, .. } => Some(cursor.room.clone()),
            Self::Heads { .. } | Self::Beat { .. } | Self::Load => None,
        };
        room.as_ref().map(partition_of)
    }

    /// Takes this epoch where something begins anew: another for each attempt, because two masters must never take the
    /// same.
    pub(crate) fn refresh(&mut self, anew: u128) {
        match self {
            Self::Publish(Publishing { fresh, .. })
            | Self::Heads { fresh, .. }
            | Self::Read { fresh, .. }
            | Self::Beat { fresh, .. }
            | Self::SetPresence { fresh, .. }
            | Self::Roster { fresh, .. }
            | Self::Inbox { fresh, .. }
            | Self::Ack { fresh, .. }
            | Self::SetMarks { fresh, .. }
            | Self::Receipts { fresh, .. } => *fresh = anew,
            Self::Save(_)
            | Self::Attach(_)
            | Self::EndSessions { .. }
            | Self::SetEntry(_)
            | Self::Directory { .. }
            | Self::Present { .. }
            | Self::Occupancies { .. }
            | Self::Load => {}
        }
    }
}

/// The room by which all records of a user's sessions lie together.
pub(crate) fn home_of(user: &str) -> RoomName {
    RoomName::parse(&format!("user-{user}")).expect("users of a run have plain names")
}

/// A publication on its way to a server, as its node signed it: its expiry is by the cluster's time.
#[derive(Clone, Debug)]
pub(crate) struct Publishing {
    pub(crate) publication: Arc<Publication>,
    pub(crate) published_us: u64,
    pub(crate) dedup: bool,
    pub(crate) keep: Option<Keep>,
    pub(crate) collapse: Option<Box<str>>,
    pub(crate) fresh: u128,
}

/// What came of a publication.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    New { position: Option<Position>, short: bool },
    Same { position: Option<Position> },
    Other,
}

/// What a server answers.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    Published(Verdict),
    Heads(Vec<Option<Position>>),
    Read(Page),
    Beaten { report: BeatReport, time_us: u64 },
    Saved(SavedSession),
    Attached(Result<Box<AttachedSession>, Unattached>),
    SessionsEnded,
    PresenceSet(PresenceSet),
    Roster(RosterPage),
    Present(Vec<Option<u64>>),
    Inbox(InboxState),
    Acked,
    MarksSet(MarksSet),
    Receipts(ReceiptsPage),
    EntrySet(EntrySet),
    Directory(DirectoryPage),
    Occupancies(GivenOccupancies),
    Loaded,
    Fault(Fault),
}

/// Why a command came to nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It certainly did not happen, and may soon.
    NotYet,
    /// The functions are not there.
    NoFunction,
    /// The server is no master any more.
    NoMaster,
    /// The server declined it, for a reason that lasts.
    Declined(Refused),
    /// It may have happened.
    Unknown,
}

/// What a feed link brings.
#[derive(Clone, Debug)]
pub(crate) enum Item {
    Envelope(Envelope),
    /// A subscription, or the end of one, is in force: `request` is whose.
    Confirmed {
        room: RoomName,
        request: Option<u64>,
    },
    Beat {
        seq: u64,
        master: MasterId,
        moved: Vec<Moved>,
    },
}

/// All servers, and who is what.
pub(crate) struct Bus {
    pub(crate) servers: Vec<Server>,
    /// The master of each shard, as the majority sees it.
    pub(crate) masters: Vec<usize>,
    /// Which shard has which partition.
    pub(crate) owners: Vec<usize>,
    pub(crate) hearing: Hearing,
    /// Executions so far; the order in which all rooms' publications happened.
    pub(crate) executed: u64,
    masters_made: u64,
}

impl Bus {
    /// One master for each of `shards`, each with a server that can follow it.
    pub(crate) fn new(shards: usize, hearing: Hearing, random: &mut Random) -> Self {
        let mut bus = Self {
            servers: Vec::new(),
            masters: Vec::new(),
            owners: (0..usize::from(PARTITIONS)).map(|at| at % shards).collect(),
            hearing,
            executed: 0,
            masters_made: 0,
        };
        for shard in 0..shards {
            let id = bus.master_id();
            bus.masters.push(bus.servers.len());
            bus.servers.push(Server::new(shard, id, random.range(0, 60) as i64 - 30));
        }
        bus
    }

    /// A replication id that no server had before.
    pub(crate) fn master_id(&mut self) -> MasterId {
        self.masters_made += 1;
        MasterId(self.masters_made)
    }

    pub(crate) fn shard_of(&self, room: &RoomName) -> usize {
        self.owners[usize::from(partition_of(room))]
    }

    pub(crate) fn is_current(&self, server: usize) -> bool {
        self.masters.contains(&server)
    }
}

/// In which partition a room is.
pub(crate) fn partition_of(room: &RoomName) -> u16 {
    let sum = room.as_str().bytes().fold(7_u32, |sum, byte| sum.wrapping_mul(31) ^ u32::from(byte));
    (sum % u32::from(PARTITIONS)) as u16
}

/// How long ids are remembered at least. Units: milliseconds.
const DEDUP_TTL_MS: u64 = 120_000;

/// What a server keeps; what a replica has of it, as of some time.
#[derive(Clone, Debug)]
pub(crate) struct Data {
    /// One for each partition, so that a partition can move.
    pub(crate) stores: Vec<Store<Kept>>,
    /// Until when a node has a lease, and whether its feed hears.
    pub(crate) leases: BTreeMap<NodeId, (u64, bool)>,
    /// Holds the lives of leases, and nothing else.
    pub(crate) lives: Store<Kept>,
}

impl Data {
    pub(crate) fn new(master: u128) -> Self {
        let rules = Rules {
            dedup_ttl_ms: DEDUP_TTL_MS,
            dedup_max: 10_000,
            bytes_max: 64 << 20,
            lease_ms: LEASE_MS,
            partition: partition_of,
        };
        let stores = (0..PARTITIONS).map(|_| Store::new(rules, master)).collect();
        Self { stores, leases: BTreeMap::new(), lives: Store::new(rules, master) }
    }

    /// What a room is in.
    pub(crate) fn store(&mut self, room: &RoomName) -> &mut Store<Kept> {
        &mut self.stores[usize::from(partition_of(room))]
    }

    /// Where nobody beat for long, nodes that held a lease until then have it again; whether they hear is not known.
    pub(crate) fn excuse(&mut self, now_ms: u64) {
        let newest_ms = self.leases.values().map(|(until_ms, _)| *until_ms).max();
        let beaten_ms = newest_ms.unwrap_or(u64::MAX).saturating_sub(LEASE_MS);
        if now_ms >= beaten_ms.saturating_add(quiet_ms(LEASE_MS)) {
            let held = self.leases.values_mut().filter(|(until_ms, _)| *until_ms > beaten_ms);
            held.for_each(|it| *it = (now_ms + LEASE_MS, false));
        }
    }

    /// Another server is master, with what this one has.
    pub(crate) fn promote(&mut self, master: u128) {
        self.stores.iter_mut().for_each(|store| store.promote(master));
    }
}

/// Who published what under which id.
pub(crate) fn id(publication: &Publication) -> Id {
    id_of(&[FixedState::with_seed(1), FixedState::with_seed(2)], publication)
}
