//! What one client or back-end asks, in no dialect's words.

use bytes::Bytes;

use crate::codes::Refused;
use crate::content::Content;
use crate::conversation::Converse;
use crate::position::{Direction, Epoch, Position};
use crate::publication::Priority;
use crate::request::Request;
use crate::session::ResumeToken;

/// What an answer needs to find its question.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReplyTo {
    /// The request's id, else its correlation id.
    pub id: Option<Box<str>>,
    /// The room the request named, as it was written.
    pub room: Option<Box<str>>,
    /// The request named several rooms, and this is one of them: they are answered together ([`RoomsRequest`]).
    pub part: bool,
}

/// How a client wants its session to go on, said with its token.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Continuation {
    /// The session it wants back.
    pub resume: Option<ResumeToken>,
    /// What it has covered of its rooms; of those it does not name the node's own knowledge counts.
    pub covered: Vec<(Box<str>, Position)>,
    /// Which device it is, where a user's devices have cursors of their own.
    pub device: Option<Box<str>>,
    /// It goes elsewhere when it is told to, while this connection still delivers (G14).
    pub hands_over: bool,
}

/// Who is in a room is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PresenceRequest {
    /// Where the answer belongs; names the room.
    pub reply: ReplyTo,
    /// The room's name as it came.
    pub room: Box<str>,
    /// Users behind this one; `None`: from the first.
    pub after: Option<Box<str>>,
    /// How many at most; `None`: as many as a page holds.
    pub limit: Option<u32>,
}

/// A user says how much of a room it has got, or read (G17).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MarkRequest {
    /// Where the answer belongs; names the room.
    pub reply: ReplyTo,
    /// The room's name as it came.
    pub room: Box<str>,
    /// The epoch of the offsets.
    pub epoch: Epoch,
    /// All up to this one has arrived. One of the two is there at least.
    pub delivered: Option<u64>,
    /// All up to this one is read.
    pub read: Option<u64>,
}

/// Who has got, and who has read, how much of a room is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReceiptsRequest {
    /// Where the answer belongs; names the room.
    pub reply: ReplyTo,
    /// The room's name as it came.
    pub room: Box<str>,
    /// Who has this publication, and since when; `None`: how far each user is.
    pub of: Option<u64>,
    /// Users behind this one; `None`: from the first.
    pub after: Option<Box<str>>,
    /// How many at most; `None`: as many as a page holds.
    pub limit: Option<u32>,
}

/// A token is brought: to become ready, or to stay so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authenticate {
    /// Where the answer belongs.
    pub reply: ReplyTo,
    /// The token as it came.
    pub token: Box<str>,
    /// The client can inflate large publications.
    pub compressed: bool,
    /// How its session is to go on; refused with any token but the first.
    pub continuation: Option<Box<Continuation>>,
}

/// A room is named: to join it, or to leave it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoomRequest {
    /// Where the answer belongs; names the room.
    pub reply: ReplyTo,
    /// The room's name as it came.
    pub room: Box<str>,
    /// The client asks to be told what it missed since this position.
    pub since: Option<Position>,
}

/// What is wanted of several rooms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RoomsVerb {
    /// To hear them.
    Join,
    /// To hear them no more.
    Leave,
}

/// Several rooms are named at once: all are joined, or left, or none, and there is one answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoomsRequest {
    /// What is wanted.
    pub verb: RoomsVerb,
    /// The names as they came, which the answer repeats.
    pub named: Vec<Box<str>>,
    /// The rooms that they mean; or why one of them means none.
    pub rooms: Result<Vec<Box<str>>, Refused>,
}

/// Kept publications of a room are asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistoryRequest {
    /// Where the answer belongs; names the room.
    pub reply: ReplyTo,
    /// The room's name as it came.
    pub room: Box<str>,
    /// From old to new, or from new to old.
    pub direction: Direction,
    /// Where the reading begins: above it when forward, below it when backward. `None`: at the end of what is kept.
    pub from: Option<u64>,
    /// How many at most; `None`: as many as a page holds.
    pub limit: Option<u32>,
}

/// A payload for a room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publish {
    /// Where the answer belongs; names the room.
    pub reply: ReplyTo,
    /// The room's name as it came.
    pub room: Box<str>,
    /// The publication's type.
    pub kind: Box<str>,
    /// The sender's id for it.
    pub id: Option<Box<str>>,
    /// A valid ISO 8601 timestamp of the sender's.
    pub timestamp: Option<Box<str>>,
    /// Whom the sender says it speaks for; kept from back-ends alone.
    pub sender: Option<Box<str>>,
    /// The payload.
    pub content: Content,
    /// The agent that the payload names, where it is about one.
    pub agent_id: Option<Box<str>>,
    /// The sender's choice of class.
    pub priority: Option<Priority>,
    /// Time to live. Units: seconds.
    pub ttl_s: Option<u32>,
    /// Permissions a member must hold to get it.
    pub requires: Vec<Box<str>>,
    /// Links it to a request.
    pub correlation_id: Option<Box<str>>,
    /// The sender wants to know how far it got.
    pub wants_ack: bool,
    /// Those who get it are to ack it (G15); kept from back-ends alone.
    pub members_ack: bool,
}

/// What one client or back-end asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Who I am.
    Authenticate(Authenticate),
    /// Let me hear a room.
    Join(RoomRequest),
    /// Let me hear it no more.
    Leave(RoomRequest),
    /// The same of several rooms.
    Rooms(Box<RoomsRequest>),
    /// Show me what a room keeps.
    History(HistoryRequest),
    /// Tell a room.
    Publish(Box<Publish>),
    /// Show me who is in a room.
    Presence(PresenceRequest),
    /// I have got, or read, a room up to here.
    Mark(MarkRequest),
    /// Show me who has got, and who has read, how much of a room.
    Receipts(ReceiptsRequest),
    /// Say, change, mark or show me something of a conversation.
    Converse(Box<Converse>),
    /// Show me my conversations.
    Conversations(ReplyTo),
    /// I am here, but nobody looks: count me as gone until I say something else.
    Away,
    /// Ask the application.
    Request(Box<Request>),
    /// I am here; answer with the same timestamp, if any (JSON text).
    KeepAlive(Option<Bytes>),
    /// I have the publication of this id; `room`: of that room alone.
    Ack {
        /// The publication's.
        id: Box<str>,
        /// The same id may have come in several.
        room: Option<Box<str>>,
    },
    /// I have the publication that this number means; see [`EventRef`](crate::conversation::EventRef).
    AckEvent(u64),
    /// It could not be read: answer so.
    Unreadable(Unreadable),
}

/// A message that its decoder refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreadable {
    /// Where the answer belongs.
    pub reply: ReplyTo,
    /// What is wrong with it.
    pub refused: Refused,
    /// It was to bring a token, and does so once it is mended.
    pub authenticates: bool,
    /// As it came, where its dialect's answer repeats it.
    pub raw: Option<Box<str>>,
}
