//! Who asks: answers find the way back by it.

use roomcast_protocol::ids::LaneId;

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
}
