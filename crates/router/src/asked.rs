//! What sessions, and the server API, say and ask about receipts (G17) and conversations.

use roomcast_protocol::command::ReplyTo;
use roomcast_protocol::conversation::{Act, Role, Saying};
use roomcast_protocol::ids::{LaneId, SessionId, SessionKey};
use roomcast_protocol::position::Epoch;
use roomcast_protocol::presence::PresenceChange;
use roomcast_protocol::room::RoomName;

/// What a user says itself of a room (G17).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// The user's name within the cluster.
    pub user: Box<str>,
    /// The epoch of the offsets.
    pub epoch: Epoch,
    /// All up to this one has arrived. One of the two is there at least.
    pub delivered: Option<u64>,
    /// All up to this one is read.
    pub read: Option<u64>,
}

/// How far users are in a room is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReceiptsAsk {
    /// Which room.
    pub room: RoomName,
    /// Who has this publication, and since when; `None`: how far each user is.
    pub of: Option<u64>,
    /// Users behind this one; `None`: from the first.
    pub after: Option<Box<str>>,
    /// How many at most.
    pub count_max: u32,
}

/// A user is to be something in a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberChange {
    /// The group's room.
    pub group: RoomName,
    /// The user's name within the cluster.
    pub user: Box<str>,
    /// What; `None`: no member.
    pub role: Option<Role>,
}

/// What a session asks about conversations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Talk {
    /// On which lane.
    pub lane: LaneId,
    /// Who asks.
    pub session: SessionKey,
    /// Where the answer belongs.
    pub reply: ReplyTo,
    /// The user's name within the cluster.
    pub user: Box<str>,
    /// Its session's id: what is said in it is not given to it.
    pub said_in: SessionId,
    /// What.
    pub of: TalkOf,
}

/// About what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TalkOf {
    /// One conversation, of which the user is one of the people.
    Room(RoomName, Act),
    /// The group of this number, in whose room the session is.
    Group(RoomName, u32, Act),
    /// All that the user has.
    All,
    /// In which groups is the user, and where does this device go on there? Answered whenever the broker answers, or not at
    /// all.
    Groups(Box<str>),
}

impl Talk {
    /// What it weighs in a queue. Units: bytes.
    #[must_use]
    pub fn weight(&self) -> usize {
        let said = |saying: &Saying| saying.content.len() + saying.kind.len();
        let (TalkOf::Room(_, act) | TalkOf::Group(_, _, act)) = &self.of else { return 256 };
        256 + match act {
            Act::Say(saying) | Act::Signal(saying) | Act::Amend { saying, .. } => said(saying),
            Act::Tell { to, told, said: also } => {
                let names: usize = to.iter().map(|name| 16 + name.len()).sum();
                said(told) + also.as_ref().map_or(0, said) + names
            }
            Act::Mark { .. } | Act::Messages { .. } | Act::Show => 0,
        }
    }
}

/// A session of a user came that is online by it, or went; or nobody looks at it, or somebody does again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Person {
    /// Who.
    pub change: PresenceChange,
    /// Nobody looks.
    pub away: bool,
}
