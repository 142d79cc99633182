//! What comes back: answers to requests, and what is heard unasked.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::{Closed, Refused};
use crate::receipts::Receipts;

/// A place in a room's stream; comparable within one epoch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// One incarnation of the stream.
    pub epoch: String,
    /// 1-based index in it.
    pub offset: u64,
}

/// A publication's `metadata`, as the seed names its fields. Unknown ones are dropped.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Metadata {
    /// `high`, `normal` or `low`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority: Option<String>,
    /// Time to live. Units: seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttl: Option<u64>,
    /// Links it to a request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub correlation_id: Option<String>,
    /// With `offset`, its position where the room keeps history.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub epoch: Option<String>,
    /// See `epoch`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offset: Option<u64>,
}

impl Metadata {
    /// The position, where the room keeps history.
    #[must_use]
    pub fn position(&self) -> Option<Position> {
        Some(Position { epoch: self.epoch.clone()?, offset: self.offset? })
    }

    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// One payload heard in a room. Serialises to the seed's envelope.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Publication {
    /// Its sender's id for it, or one the node made.
    pub id: String,
    /// Its type.
    #[serde(rename = "type")]
    pub kind: String,
    /// ISO 8601.
    pub timestamp: String,
    /// Who sent it.
    pub sender: String,
    /// Where.
    pub room: String,
    /// The broker is away: this node's members alone heard it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub isolated: bool,
    /// The node wants to be told that it was got, and sends it again until then.
    #[serde(rename = "requiresAck", skip_serializing_if = "std::ops::Not::not")]
    pub requires_ack: bool,
    /// It is sent again, because the node was not told that it was got.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub redelivered: bool,
    /// The payload.
    pub data: Value,
    /// Priority, time to live, correlation, position.
    #[serde(skip_serializing_if = "Metadata::is_empty")]
    pub metadata: Metadata,
}

/// How a session is got back after its connection is gone.
#[derive(Clone, PartialEq, Eq)]
pub struct ResumeOffer {
    /// What proves that it is its own; not to be shown.
    pub token: String,
    /// How long it may be away.
    pub window: Duration,
}

impl fmt::Debug for ResumeOffer {
    /// Leaves the token out (INV-13).
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResumeOffer").field("window", &self.window).finish_non_exhaustive()
    }
}

/// The node stops: the session can go elsewhere while this connection still delivers.
#[derive(Clone, PartialEq, Eq)]
pub struct Drain {
    /// How long that lasts.
    pub turn: Duration,
    /// What the new connection brings; not to be shown.
    pub resume_token: String,
}

impl fmt::Debug for Drain {
    /// Leaves the token out (INV-13).
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Drain").field("turn", &self.turn).finish_non_exhaustive()
    }
}

/// Users came into a room, or left it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Presence {
    /// The room.
    pub room: String,
    /// Users present now.
    pub count: u64,
    /// Users who were not there before; empty in rooms that tell numbers alone.
    pub joined: Vec<String>,
    /// Users who are not there any more; empty in rooms that tell numbers alone.
    pub left: Vec<String>,
    /// The version of the roster that this made.
    pub version: Option<Position>,
}

/// What the application answered.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Response {
    /// Its HTTP status: 200 to 299, or 400 to 499.
    pub status: u16,
    /// It was kept from before, because the application cannot be asked at the moment.
    pub stale: bool,
    /// The body: JSON as it is, other texts as one, bytes as `{"base64": ..}`.
    pub body: Value,
}

/// Part of the answer to the question who is in a room.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct RosterPage {
    /// The room.
    pub room: String,
    /// Users present, on all pages.
    pub count: u64,
    /// Users of this page, in the order of their names' bytes; `None`: the room tells their number alone.
    pub users: Option<Vec<String>>,
    /// Behind whom the next page begins; `None`: this is the last one.
    pub next: Option<String>,
    /// As of which version of the roster.
    pub version: Option<Position>,
}

/// Who is in a room.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Roster {
    /// The room.
    pub room: String,
    /// Users present.
    pub count: u64,
    /// Who, in the order of their names' bytes; `None`: the room tells their number alone.
    pub users: Option<Vec<String>>,
    /// As of which version: later [`Presence`] goes on from here. `None`: users came or went while the pages were read.
    pub version: Option<Position>,
}

/// What the node says of this connection first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Welcome {
    /// The token's subject.
    pub user_id: String,
    /// This session's public name; its room is `session-{id}`.
    pub session_id: Option<String>,
    /// The token's permissions.
    pub permissions: Vec<String>,
    /// How to get the session back; `None`: not at all.
    pub resume: Option<ResumeOffer>,
    /// What became of the wish to get one back, or why it was not; `None`: there was none.
    pub resumed: Option<Result<(), String>>,
}

/// The answer to a join.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Joined {
    /// The room.
    pub room: String,
    /// From where the member hears everything; absent in rooms without history, and while `live` is false.
    pub position: Option<Position>,
    /// What became of the wish to be told what was missed, or why it cannot be; `None`: there was none.
    pub recovered: Option<Result<(), String>>,
    /// False: the node's broker is away; [`Event::Joined`] follows once it is back.
    pub live: bool,
}

/// The node's ack of a publication.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Ack {
    /// How far it got: `accepted`, `stored`, `replicated` or `isolated`.
    pub level: String,
    /// `partial` where not all nodes were known to hear it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reach: Option<String>,
    /// `short` where ids are forgotten early.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dedup: Option<String>,
    /// Where it is, in rooms with history.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub position: Option<Position>,
}

impl Ack {
    /// The broker is away: the members of the client's own node alone heard it.
    #[must_use]
    pub fn is_isolated(&self) -> bool {
        self.level == "isolated"
    }

    /// A node has not come back since the broker's outage: its members may miss it.
    #[must_use]
    pub fn is_partial(&self) -> bool {
        self.reach.as_deref() == Some("partial")
    }
}

/// A payload has left.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Published {
    /// Its id.
    pub id: String,
    /// The node's ack, where one was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ack: Option<Ack>,
}

/// What is heard unasked.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// A payload in a room.
    Publication(Box<Publication>),
    /// A refusal that answers no request still waited for.
    Error(Box<Refused>),
    /// A pong that answers no ping still waited for.
    Pong,
    /// The token runs out: bring a new one with [`crate::Client::refresh`].
    TokenExpiring {
        /// Until when the old one is good, ISO 8601.
        expires_at: String,
    },
    /// Publications were lost: load anew what must not be missed.
    Gap {
        /// The room; without one, all rooms of this session that keep no history.
        room: Option<String>,
        /// Why, for machines.
        reason: String,
        /// The position behind which the room goes on.
        position: Option<Position>,
    },
    /// Positions of a room were covered without a delivery.
    Skip {
        /// The room.
        room: String,
        /// The last of them.
        to: Position,
        /// How many.
        count: u64,
        /// Why, for machines.
        reasons: Vec<String>,
    },
    /// Publications that waited for this user were removed before it had them: load anew what must not be missed.
    Lost {
        /// The room.
        room: String,
        /// How many.
        count: u64,
    },
    /// Users came into a room, or left it.
    Presence(Presence),
    /// Users of a room have got, or read, more.
    Receipts(Receipts),
    /// The node stops; only clients that said that they hand over are told.
    Drain(Drain),
    /// From where a room is heard: one that the session was put into at connect, or one joined while the broker was away.
    Joined(Joined),
    /// A room is heard no more, and the client did not ask for it.
    Left {
        /// The room.
        room: String,
        /// Why, for machines: `ordered` where a back-end took the session out.
        reason: String,
    },
    /// The node's broker went away, or is back.
    Degraded {
        /// It is away: until told otherwise only this node's members hear what is published.
        isolated: bool,
    },
    /// Another message of the node, as it came.
    Other(Value),
    /// The end: nothing follows.
    Closed(Closed),
}
