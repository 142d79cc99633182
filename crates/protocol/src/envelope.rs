//! What a broker carries, and what it is told and tells: the seam between the hub, which decides, and the broker,
//! which executes.

use std::sync::Arc;

use crate::codes::Refused;
use crate::ids::NodeId;
use crate::publication::Publication;
use crate::room::RoomName;

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
}

/// One connection of a node's feed. A broker whose feed cannot fail has none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LinkId(pub u16);

/// Which master answered, as a hash of its replication id: another one has another history.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MasterId(pub u64);

/// What the hub wants done by the broker; `T` travels with a publication and comes back in its completion.
#[derive(Debug)]
pub enum BrokerCommand<T> {
    /// Carry it to every node that hears its room.
    Publish {
        /// Comes back in [`BrokerEvent::Published`].
        ticket: T,
        /// What to carry.
        publication: Arc<Publication>,
        /// Remember its id: the same content again gets the first answer, other content is refused (G5).
        dedup: bool,
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
    /// Renew this node's lease, register whether its feed hears, and send a beat over each link of the feed.
    /// Answered by [`BrokerEvent::BeatAnswered`]; the beats come as [`BrokerEvent::Beat`].
    Beat {
        /// Comes back in both; rises.
        seq: u64,
        /// This node's feed hears.
        hears: bool,
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
    },
    /// The answer to [`BrokerCommand::Beat`].
    BeatAnswered {
        /// As given.
        seq: u64,
        /// What the broker knows; `None`: it did not answer in time, or the connection broke.
        report: Option<BeatReport>,
    },
}

/// What the answer to a beat tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BeatReport {
    /// Who answered.
    pub master: MasterId,
    /// Links over which a beat was sent.
    pub links: Vec<LinkId>,
    /// The other nodes that hold a lease.
    pub peers: Vec<Peer>,
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
    /// The broker is away: this node's own members alone got it (G10).
    Isolated,
}

impl Level {
    /// Its name on the wire.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Isolated => "isolated",
        }
    }
}

/// A broker's yes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// How far the publication got.
    pub level: Level,
    /// The memory for ids was full, so a repeat might be delivered again.
    pub dedup_short: bool,
    /// A node that was there before the broker's outage has not come back yet: its members may miss it.
    pub partial: bool,
}

impl Accepted {
    /// A yes without reservations.
    pub const WHOLE: Self = Self { level: Level::Accepted, dedup_short: false, partial: false };
}
