//! Joins that wait for their room, or for their turn in it. Knows nothing of members.

use roomcast_protocol::command::ReplyTo;
use roomcast_protocol::ids::SessionKey;
use roomcast_protocol::position::Position;

/// A join, as far as its answer needs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ask {
    pub(crate) reply: ReplyTo,
    /// The member wants to be told what it missed since then.
    pub(crate) since: Option<Position>,
    /// A member that is resumed has `since` from its client, and has not acked this offset, which is below (G15).
    pub(crate) unacked: Option<u64>,
}

/// A join that waits for the room to become live.
#[derive(Clone, Debug)]
pub(crate) struct Waiting {
    pub(crate) key: SessionKey,
    /// `None`: one of the session's own rooms, which nobody asked for.
    pub(crate) ask: Option<Ask>,
    /// It was told that the broker is away; the position follows.
    pub(crate) told: bool,
}
