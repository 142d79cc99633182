//! What a broker carries, and what it is told and tells: the seam between the hub, which decides, and the broker,
//! which executes.

use std::sync::Arc;

use crate::codes::Refused;
use crate::directory::{DirectoryPage, Entries, EntrySet, SetEntry};
use crate::ids::NodeId;
use crate::inbox::{Acked, CursorName, InboxState, Told};
use crate::occupancy::{AskOccupancies, GivenOccupancies};
use crate::position::{Keep, Page, Position, Span};
use crate::presence::{Lease, PresenceDiff, PresenceSet, RosterPage, SetPresence};
use crate::publication::Publication;
use crate::receipts::{MarksSet, ReceiptDiff, ReceiptsPage, SetMarks};
use crate::room::RoomName;
use crate::session::{AttachSession, AttachedSession, SaveSession, SavedSession, Unattached};

/// The cross-node form of what happens in rooms.
#[derive(Clone, Debug)]
pub enum Envelope {
    /// A publication. Shared, because every node of the process and every lane reads the same one.
    Publication {
        /// What was published.
        publication: Arc<Publication>,
        /// When its node gave it to the broker, in the cluster's time; 0: unknown. Units: microseconds.
        published_us: u64,
    },
    /// A publication with a position that this node cannot read: it moves the position all the same.
    Unreadable {
        /// In which room.
        room: RoomName,
        /// Where it stands.
        position: Position,
    },
    /// Users came into a room, or left it.
    Presence(Arc<PresenceDiff>),
    /// Users got more of a room, or read more of it.
    Receipts(Arc<ReceiptDiff>),
}

/// One connection of a node's feed. A broker whose feed cannot fail has none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LinkId(pub u16);

/// Which master answered, as a hash of its replication id: another one has another history.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MasterId(pub u64);

impl MasterId {
    /// This master and another one, as one value.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(23) ^ other.0)
    }
}

/// What the hub wants done by the broker; `T` travels with a publication and comes back in its completion.
#[derive(Debug)]
pub enum BrokerCommand<T> {
    /// Carry it to every node that hears its room.
    Publish {
        /// Comes back in [`BrokerEvent::Published`].
        ticket: T,
        /// What to carry.
        publication: Arc<Publication>,
        /// Remember its id: the same content again gets the first answer, other content is refused (G5). In a room
        /// that keeps publications ids are always remembered.
        dedup: bool,
        /// What its room keeps; `None`: it is ephemeral.
        keep: Option<Keep>,
        /// Older ones under the same key are removed from what the room keeps.
        collapse: Option<Box<str>>,
    },
    /// This node wants to hear the room from now on.
    Subscribe {
        /// Which room.
        room: RoomName,
        /// Comes back in [`BrokerEvent::Subscribed`]; rises, so that a late confirmation is never taken for that of
        /// a room given up and wanted again.
        request: u64,
    },
    /// This node no longer wants to hear the room.
    Unsubscribe(RoomName),
    /// Which are the newest positions of these rooms? Answered by [`BrokerEvent::Heads`].
    Heads {
        /// Comes back in the answer.
        request: u64,
        /// Which rooms, and what they keep. Bounds: at most [`HEADS_MAX`].
        rooms: Vec<(RoomName, Keep)>,
    },
    /// Give me kept publications of a room. Answered by [`BrokerEvent::Read`].
    Read {
        /// Comes back in the answer.
        request: u64,
        /// Which room.
        room: RoomName,
        /// What it keeps.
        keep: Keep,
        /// Which publications.
        span: Span,
    },
    /// Write a session's record. Answered by [`BrokerEvent::Saved`].
    Save {
        /// Comes back in the answer.
        request: u64,
        /// What to write.
        save: Box<SaveSession>,
    },
    /// Take a session over. Answered by [`BrokerEvent::Attached`].
    Attach {
        /// Comes back in the answer.
        request: u64,
        /// Which one, and how.
        attach: Box<AttachSession>,
    },
    /// End all sessions of a user: none can be taken over any more, nothing is written for one, and no record of another
    /// begins by whoever has not obeyed the order (G22). Answered by [`BrokerEvent::SessionsEnded`].
    EndSessions {
        /// Comes back in the answer.
        request: u64,
        /// The user's name within the cluster.
        user: Box<str>,
        /// Where the order stands; see [`SaveSession::obeyed`].
        order: Position,
    },
    /// Change who is in a room. Answered by [`BrokerEvent::PresenceSet`]; done twice it is done once.
    SetPresence {
        /// Comes back in the answer.
        request: u64,
        /// Who.
        set: Box<SetPresence>,
    },
    /// Who is in a room? Answered by [`BrokerEvent::Roster`].
    Roster {
        /// Comes back in the answer.
        request: u64,
        /// Which room.
        room: RoomName,
        /// Users behind this one; `None`: from the first.
        after: Option<Box<str>>,
        /// How many at most. Bounds: 1 to [`crate::presence::ROSTER_PAGE_MAX`].
        count_max: u32,
    },
    /// Which of these users are in a room? Answered by [`BrokerEvent::Present`].
    Present {
        /// Comes back in the answer.
        request: u64,
        /// Which room.
        room: RoomName,
        /// Who. Bounds: at most [`crate::presence::PRESENT_MAX`].
        users: Vec<Box<str>>,
    },
    /// What has a device yet to get in an inbox? Answered by [`BrokerEvent::Inbox`].
    Inbox {
        /// Comes back in the answer.
        request: u64,
        /// Whose cursor.
        cursor: CursorName,
        /// What the room keeps.
        keep: Keep,
    },
    /// Move a cursor. Cursors only grow, so done twice, or late, it is done once. Nothing answers.
    Ack {
        /// Which one.
        cursor: CursorName,
        /// What the room keeps.
        keep: Keep,
        /// What was acked; void in another epoch than the room's.
        acked: Acked,
        /// Of how many removed publications the device has been told; counts in any epoch, for that cursor alone.
        told: Told,
    },
    /// Mark what users have got and read of a room. Answered by [`BrokerEvent::MarksSet`]; done twice it is done once.
    SetMarks {
        /// Comes back in the answer.
        request: u64,
        /// What the room keeps.
        keep: Keep,
        /// What is marked.
        set: Box<SetMarks>,
    },
    /// What have users got and read of a room? Answered by [`BrokerEvent::Receipts`].
    Receipts {
        /// Comes back in the answer.
        request: u64,
        /// Which room.
        room: RoomName,
        /// What it keeps.
        keep: Keep,
        /// Only when this publication was marked is asked: the marks of the answer are of this offset, and users who
        /// have not marked it are left out. `None`: how far users are.
        of: Option<u64>,
        /// Users behind this one; `None`: from the first.
        after: Option<Box<str>>,
        /// How many users at most are looked at. Bounds: 1 to [`crate::receipts::RECEIPTS_PAGE_MAX`].
        count_max: u32,
    },
    /// Set one entry of a directory, or remove it. Answered by [`BrokerEvent::EntrySet`]; done twice it is done once.
    SetEntry {
        /// Comes back in the answer.
        request: u64,
        /// Which one, and what it is to be.
        set: Box<SetEntry>,
    },
    /// What is in a directory? Answered by [`BrokerEvent::Directory`].
    Directory {
        /// Comes back in the answer.
        request: u64,
        /// Which one.
        directory: RoomName,
        /// Which of its entries.
        entries: Entries,
    },
    /// Renew this node's lease, register whether its feed hears, and send a beat over each link of the feed.
    /// Answered by [`BrokerEvent::BeatAnswered`]; the beats come as [`BrokerEvent::Beat`].
    Beat {
        /// Comes back in both; rises.
        seq: u64,
        /// This node's feed hears.
        hears: bool,
        /// Which life of its lease the node is in.
        life: u32,
        /// The life before it is over: whatever it entered and the new one did not is reaped.
        retired: Option<u32>,
        /// How far the node has followed each partition by beats of this feed; those it has not heard of are absent.
        taken: Vec<Count>,
        /// What reports gave to tell of the agents' room was told up to this version; `None`: nothing since the last beat.
        told: Option<Position>,
        /// The node tells which rooms became occupied and vacated: it wants to know where such events wait.
        reads: bool,
    },
    /// Give me events of rooms that became occupied or vacated. Answered by [`BrokerEvent::Occupancies`].
    Occupancies {
        /// Comes back in the answer.
        request: u64,
        /// Of which partition, and what was told of them.
        ask: AskOccupancies,
    },
    /// This link of the feed is silent, late, or hears another master: connect it anew.
    Reconnect {
        /// Which.
        link: LinkId,
        /// The connection for commands as well: the two are on different masters.
        commands: bool,
    },
}

/// What the broker tells a node, in one order.
#[derive(Debug)]
pub enum BrokerEvent<T> {
    /// The feed brought something.
    Envelope(Envelope),
    /// A [`BrokerCommand::Subscribe`] is in force: what comes behind this is heard.
    Subscribed {
        /// As given.
        room: RoomName,
        /// As given.
        request: u64,
    },
    /// The answer to a publication: how far it got, or why it did not.
    Published {
        /// As given.
        ticket: T,
        /// Accepted, or the refusal.
        outcome: Result<Accepted, Refused>,
    },
    /// The answer to [`BrokerCommand::Heads`], in the order of the question; `None`: the broker did not answer.
    Heads {
        /// As given.
        request: u64,
        /// One for each room.
        heads: Option<Vec<Position>>,
    },
    /// The answer to [`BrokerCommand::Read`]; `None`: the broker did not answer.
    Read {
        /// As given.
        request: u64,
        /// What is kept.
        page: Option<Page>,
    },
    /// All that the node wants to hear is heard from here on, over these links.
    FeedUp {
        /// All links of the feed; none of the older ones counts any more.
        links: Vec<LinkId>,
        /// Subscriptions up to this request are in force with it, and are not confirmed one by one.
        request: u64,
    },
    /// A link was lost: until the next [`BrokerEvent::FeedUp`] things are missing.
    FeedDown,
    /// Bytes came over a link; told at most a few times a second.
    Alive(LinkId),
    /// A beat of this node came over a link, behind all that went over it before.
    Beat {
        /// Which link.
        link: LinkId,
        /// As given.
        seq: u64,
        /// Who sent it.
        master: MasterId,
        /// What moved since what the node said that it has taken, by partition; those where nothing did are absent.
        moved: Vec<Moved>,
    },
    /// The answer to [`BrokerCommand::Save`]; `None`: the broker did not answer.
    Saved {
        /// As given.
        request: u64,
        /// What became of it.
        outcome: Option<SavedSession>,
    },
    /// The answer to [`BrokerCommand::Attach`].
    Attached {
        /// As given.
        request: u64,
        /// The session, or why there is none.
        outcome: Result<Box<AttachedSession>, Unattached>,
    },
    /// The answer to [`BrokerCommand::EndSessions`].
    SessionsEnded {
        /// As given.
        request: u64,
        /// It is done; else the broker did not answer.
        done: bool,
    },
    /// The answer to [`BrokerCommand::SetPresence`]; `None`: the broker did not answer.
    PresenceSet {
        /// As given.
        request: u64,
        /// What became of it.
        outcome: Option<PresenceSet>,
    },
    /// The answer to [`BrokerCommand::Roster`]; `None`: the broker did not answer.
    Roster {
        /// As given.
        request: u64,
        /// Who is there.
        page: Option<RosterPage>,
    },
    /// The answer to [`BrokerCommand::Present`]; `None`: the broker did not answer.
    Present {
        /// As given.
        request: u64,
        /// Of each user, in the order asked, the number of the version with which it came (in the agents' room; 0:
        /// unknown); `None`: it is not there.
        since: Option<Vec<Option<u64>>>,
    },
    /// The answer to [`BrokerCommand::Inbox`]; `None`: the broker did not answer.
    Inbox {
        /// As given.
        request: u64,
        /// What the device has yet to get.
        state: Option<InboxState>,
    },
    /// The answer to [`BrokerCommand::SetMarks`]; `None`: the broker did not answer.
    MarksSet {
        /// As given.
        request: u64,
        /// What became of it.
        outcome: Option<MarksSet>,
    },
    /// The answer to [`BrokerCommand::Receipts`]; `None`: the broker did not answer.
    Receipts {
        /// As given.
        request: u64,
        /// What users have got and read.
        page: Option<ReceiptsPage>,
    },
    /// The answer to [`BrokerCommand::SetEntry`]; `None`: the broker did not answer, has no room left, or was given an
    /// entry beyond its bounds.
    EntrySet {
        /// As given.
        request: u64,
        /// What became of it.
        outcome: Option<EntrySet>,
    },
    /// The answer to [`BrokerCommand::Directory`]; `None`: the broker did not answer.
    Directory {
        /// As given.
        request: u64,
        /// What is in it.
        page: Option<DirectoryPage>,
    },
    /// The answer to [`BrokerCommand::Occupancies`]; `None`: the broker did not answer.
    Occupancies {
        /// As given.
        request: u64,
        /// What the node has to tell.
        given: Option<GivenOccupancies>,
    },
    /// The answer to [`BrokerCommand::Beat`].
    BeatAnswered {
        /// As given.
        seq: u64,
        /// What the broker knows; `None`: it did not answer in time, or the connection broke.
        report: Option<BeatReport>,
    },
}

/// Rooms of one question for heads.
pub const HEADS_MAX: usize = 512;

/// How often rooms of a partition have moved, as its counter says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Count {
    /// Which partition.
    pub partition: u16,
    /// Its counter.
    pub count: u64,
}

/// What moved in a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moved {
    /// Its counter: all moves up to it are told with this or were told before.
    pub count: Count,
    /// The rooms, each with its newest position; `None`: any room of the partition may have, because too many did, or the
    /// counter went back, or the node has not said how far it is.
    pub rooms: Option<Vec<(RoomName, Position)>>,
}

/// What the answer to a beat tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BeatReport {
    /// Who answered, as beats of the feed name it.
    pub master: MasterId,
    /// All masters that keep data, as one value: where it is another one, one of them may lack the newest steps.
    pub masters: MasterId,
    /// Links over which a beat was sent.
    pub links: Vec<LinkId>,
    /// The other nodes that hold a lease.
    pub peers: Vec<Peer>,
    /// This node's own lease.
    pub lease: Lease,
    /// What this node is to tell of the agents' room, oldest first: agents whom any node entered, and who left. No other
    /// node is given anything of it until it is told, or for some seconds.
    pub agents: Vec<PresenceDiff>,
    /// Partitions with events of rooms that became occupied or vacated, and no reader; none if the beat did not ask.
    pub unread: Vec<u16>,
}

/// Another node of the cluster, as its lease shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its name.
    pub node: NodeId,
    /// Its feed hears.
    pub hears: bool,
    /// It relays rooms in the same modes as this node.
    pub agrees: bool,
}

/// How far a publication got (G4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// The broker took it and the node's own feed is subscribed.
    Accepted,
    /// It has its place in the room's history, on the broker's master.
    Stored,
    /// The same, and replicas have it too.
    Replicated,
    /// The broker is away: this node's own members alone got it (G10).
    Isolated,
}

impl Level {
    /// Its name on the wire.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Stored => "stored",
            Self::Replicated => "replicated",
            Self::Isolated => "isolated",
        }
    }
}

/// A broker's yes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// How far the publication got.
    pub level: Level,
    /// Where it stands; `None`: its room is ephemeral.
    pub position: Option<Position>,
    /// The memory for ids was full, so a repeat might be delivered again.
    pub dedup_short: bool,
    /// A node that was there before the broker's outage has not come back yet: its members may miss it.
    pub partial: bool,
    /// The same came before under its id, and this is the first one's answer (G5).
    pub again: bool,
}

impl Accepted {
    /// A yes without reservations.
    pub const WHOLE: Self = Self {
        level: Level::Accepted,
        position: None,
        dedup_short: false,
        partial: false,
        again: false,
    };

    /// A yes for a publication that has its place in the room's history.
    #[must_use]
    pub const fn stored(position: Position) -> Self {
        Self { level: Level::Stored, position: Some(position), ..Self::WHOLE }
    }
}
