//! Who asks: answers find the way back by it.

use roomcast_protocol::command::ReplyTo;
use roomcast_protocol::ids::{LaneId, SessionKey};

/// Names a question of the shell, so that answers find it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct QueryId(pub u64);

/// Who asks the hub for kept publications.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reader {
    /// A lane, for members of its own; answered by [`LaneMessage::Page`](crate::messages::LaneMessage::Page).
    Lane {
        /// Which lane.
        lane: LaneId,
        /// Comes back in the answer.
        query: u64,
    },
    /// The shell, for a back-end; answered by [`HubEffect::History`](crate::messages::HubEffect::History).
    Query(QueryId),
    /// The hub itself, for a conversation, by the number of its question.
    Talk(u64),
    /// The hub itself, to tell a user's contacts, by the number of its question.
    Person(u64),
}

/// Whom the completion of a publication concerns.
#[derive(Debug)]
pub enum Ticket {
    /// A session.
    Session {
        /// On which lane.
        lane: LaneId,
        /// Which session.
        session: SessionKey,
        /// Where its answer belongs.
        reply: ReplyTo,
        /// The publication's id, if the session wants to know that it was accepted.
        ack: Option<Box<str>>,
    },
    /// A question of the shell (the server API).
    Query(QueryId),
    /// Nobody: the node itself published.
    Node,
    /// The node itself: it tells of an agent until it is accepted.
    Notice(u64),
    /// Something done for a conversation, by the node's own number of that.
    Talk(u64),
}
