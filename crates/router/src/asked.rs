//! What sessions, and the server API, say and ask about receipts (G17).

use roomcast_protocol::position::Epoch;
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
