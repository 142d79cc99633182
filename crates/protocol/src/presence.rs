//! Who is in a room, across the cluster (G18, G19).

use crate::ids::{NodeId, SessionId};
use crate::position::Position;
use crate::room::RoomName;

/// What a room tells of its members.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum PresenceMode {
    /// Nothing.
    #[default]
    Off,
    /// How many users there are.
    Count,
    /// Which users there are.
    Members,
}

impl PresenceMode {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Off, Self::Count, Self::Members];

    /// Its name in the configuration.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Count => "count",
            Self::Members => "members",
        }
    }
}

/// One life of a node's lease. One that was reaped is never accepted again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Incarnation {
    /// Whose lease.
    pub node: NodeId,
    /// Which life of it, from 1.
    pub life: u32,
}

/// A session's part in a room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PresenceChange {
    /// Which session.
    pub session: SessionId,
    /// Its user's name within the cluster.
    pub user: Box<str>,
    /// Which attachment of the session says so: a lower one than is known is ignored.
    pub generation: u64,
    /// It is in the room, else it has left.
    pub present: bool,
}

/// Sessions whose part in one room changes in one step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetPresence {
    /// Which room.
    pub room: RoomName,
    /// Who says so.
    pub incarnation: Incarnation,
    /// Rises with each step of an incarnation in a room. One that comes late, behind a later one, does nothing; the last
    /// one done twice gets its first answer.
    pub seq: u64,
    /// The changes, at most one of a session. Bounds: at most [`PRESENCE_CHANGES_MAX`].
    pub changes: Vec<PresenceChange>,
    /// How long a user who left counts as present. Units: milliseconds.
    pub grace_ms: u64,
}

/// Changes of one step.
pub const PRESENCE_CHANGES_MAX: usize = 512;

/// What a step changed for the users of a room, as all nodes hear it. A user joins with its first session in the whole
/// cluster, and leaves when its last one has been gone for the grace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PresenceDiff {
    /// Which room.
    pub room: RoomName,
    /// The version that the step made: the epoch of the room's presence, and a number that rises by one. A jump is a
    /// gap: the roster is read anew.
    pub version: Position,
    /// Users present now.
    pub count: u64,
    /// Users who were not there before.
    pub joined: Vec<Box<str>>,
    /// Users who are not there any more.
    pub left: Vec<Box<str>>,
}

/// What became of [`SetPresence`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PresenceSet {
    /// It is done. The diff, if users joined or left by it; it was published as well. Users who leave do so when their
    /// grace is over: by a beat.
    Done(Option<PresenceDiff>),
    /// The incarnation was reaped: nothing is changed.
    Reaped,
}

/// The room in which agents are present. It has no members: nobody hears it. What happens there is told by nodes, each
/// diff at least once, in order (G19).
///
/// People whose dialect tells that they are online are users of it as well, under their names behind [`PERSON`]; those who
/// say that nobody looks, behind [`AWAY`].
pub const AGENTS: &str = "$agents";

/// What the name of a person who is online begins with in that room, and an agent's never.
pub const PERSON: &str = "$user-";

/// What the name of a person begins with who is connected and counts as away.
pub const AWAY: &str = "$away-";

/// Users of one question whether they are present.
pub const PRESENT_MAX: usize = 2_048;

/// Part of a room's roster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RosterPage {
    /// As of which version. Pages of different versions may not fit together: diffs in between say how.
    pub version: Position,
    /// Users present, on all pages.
    pub count: u64,
    /// Users behind the one that was asked for, by rising bytes of their names.
    pub users: Vec<Box<str>>,
    /// There are more behind the last one; without any here: only their number is told.
    pub more: bool,
}

/// Users of one page.
pub const ROSTER_PAGE_MAX: u32 = 1_000;

/// Whether a node's lease is what it thinks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Lease {
    /// It holds.
    #[default]
    Held,
    /// It begins with this beat: there was none that a beat had renewed. Where one had, the broker has lost it, and with it
    /// may have lost what the node entered.
    New,
    /// It had ended, so what its incarnation entered is reaped: the node needs another life.
    Lost,
}
