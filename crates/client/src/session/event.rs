//! What a session tells its application, and what it counts.

use std::time::Duration;

use serde::Serialize;
use serde_json::Value;

use crate::error::{Closed, Error, Refused};
use crate::event::{Joined, Position, Presence, Publication, Welcome};
use crate::receipts::Receipts;

/// What a session tells unasked.
#[derive(Debug)]
pub enum SessionEvent {
    /// A payload in a room: once, in order.
    Publication(Box<Publication>),
    /// Positions of a room were covered without a delivery.
    Skip {
        /// The room.
        room: String,
        /// The last of them.
        to: Position,
        /// How many; 0 where that is not known.
        count: u64,
        /// Why, for machines.
        reasons: Vec<String>,
    },
    /// Publications were lost: load anew what must not be missed.
    Gap {
        /// The room; without one, all rooms that keep no history.
        room: Option<String>,
        /// Why, for machines: the node's word, `no_history` for a room that keeps nothing and was not heard for a while,
        /// or `hole` where the node left some out without a word.
        reason: String,
        /// The position behind which the room goes on.
        position: Option<Position>,
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
    /// Users of a room have got, or read, more. Nothing is told again of what was missed: it can be asked for.
    Receipts(Receipts),
    /// From where a room is heard: one that the session was put into by the node, one that was joined again, or one whose
    /// node was cut off at first.
    Joined(Joined),
    /// A room is heard no more: the node would not have this session in it. Join it again once the cause is mended.
    RoomLost {
        /// The room.
        room: String,
        /// Why.
        refused: Box<Refused>,
    },
    /// A room is heard no more: a back-end took this session out of it. It is not joined again by itself.
    TakenOut {
        /// The room.
        room: String,
        /// Why, for machines: `ordered`.
        reason: String,
    },
    /// A connection stands; the first time, or again.
    Connected(Box<Welcome>),
    /// All rooms are heard again.
    Resumed {
        /// It is the same session; else a new one that joined the same rooms.
        session: bool,
        /// Nothing is missing; else a [`SessionEvent::Gap`] of each room with a loss came before this.
        recovered: bool,
    },
    /// The session went over to another connection while the first still delivered: nothing was missed.
    HandedOver,
    /// The connection is gone, or did not come about.
    Reconnecting {
        /// Which attempt follows, from 1.
        attempt: u32,
        /// When.
        after: Duration,
        /// Why there is no connection.
        cause: String,
    },
    /// So many attempts in a row failed: the session ends.
    MaxReconnectAttemptsReached {
        /// How many.
        attempts: u32,
    },
    /// The node's broker went away, or is back.
    Degraded {
        /// It is away: until told otherwise only this node's members hear what is published.
        isolated: bool,
    },
    /// The token runs out, and there is no source of new ones: bring one with [`crate::Session::refresh`].
    TokenExpiring {
        /// Until when the old one is good, ISO 8601.
        expires_at: String,
    },
    /// A publication that nobody waits for was given up or refused.
    Unpublished {
        /// Its id.
        id: String,
        /// Its room.
        room: String,
        /// Why.
        error: Error,
    },
    /// A refusal that answers nothing known.
    Error(Box<Refused>),
    /// Another message of the node, as it came.
    Other(Value),
    /// The end: nothing follows.
    Closed(Closed),
}

/// Where a session stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SessionState {
    /// A connection is being made, or will be.
    #[default]
    Connecting,
    /// It stands.
    Connected,
    /// It stands, and another one is being made in its place.
    HandingOver,
    /// It is over.
    Closed,
}

/// Where a room of a session stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RoomState {
    /// It will be joined once there is a connection.
    Waiting,
    /// It is being joined.
    Joining,
    /// It was heard before, and what was missed is being asked for.
    Recovering,
    /// It is heard.
    Joined,
    /// It is being left.
    Leaving,
    /// The node would not have this session in it.
    Lost,
}

/// A room of a session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RoomStatus {
    /// Its name.
    pub room: String,
    /// Where it stands.
    pub state: RoomState,
    /// What is covered of it, in rooms that keep publications.
    pub covered: Option<Position>,
}

/// What a session counted since it began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct SessionCounters {
    /// Publications given to the application.
    pub delivered: u64,
    /// Publications dropped because their position was covered.
    pub repeats_by_position: u64,
    /// Publications dropped because their id was known.
    pub repeats_by_id: u64,
    /// Publications that came ahead of the room's answer, and come again behind it.
    pub early: u64,
    /// Publications that the node sent again because it had no ack.
    pub redelivered: u64,
    /// Offsets that the node said it skipped.
    pub skipped: u64,
    /// Gaps told.
    pub gaps: u64,
    /// Offsets that were left out without a word: mistakes of a node.
    pub holes: u64,
    /// Acks sent.
    pub acks: u64,
    /// Connections that stood.
    pub connections: u64,
    /// Of them, those that brought the session back.
    pub resumes: u64,
    /// Of them, those that were asked to bring it back and began a new one.
    pub fresh: u64,
    /// Sessions brought back while their older connection still delivered.
    pub hand_overs: u64,
    /// Attempts to come back.
    pub reconnects: u64,
    /// Connections given up because nothing came behind a ping.
    pub heartbeat_timeouts: u64,
    /// Publications acked by the node.
    pub published: u64,
    /// Publications sent again.
    pub sent_again: u64,
    /// Publications refused or given up.
    pub unpublished: u64,
}
