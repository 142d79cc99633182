//! Rooms that became occupied or vacated, as the broker gives them to one node to tell (G19).
//!
//! The events of a partition are given in their order to one node at a time, its reader, until it says up to which it has
//! told them. Who asks no more for some seconds is no reader any more, and the next one is given all from the first
//! that nobody has said to be told. So each event is told at least once, and by its id those that are told again are known.

use crate::position::Position;
use crate::room::RoomName;

/// Events of one partition that its reader is given, and has not told. Units: events.
pub const HAND_MAX: u32 = 64;

/// How long a node is a partition's reader from its last question on. Units: milliseconds.
pub const HOLD_MS: u64 = 5_000;

/// A room's first user came, or its last one left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Occupancy {
    /// Which room.
    pub room: RoomName,
    /// The version of the step: with the room's name it is the event's id.
    pub version: Position,
    /// It has users now.
    pub occupied: bool,
}

/// A node's question for the events of a partition. Asked twice, it is answered twice, and changes no more than once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AskOccupancies {
    /// Which partition.
    pub partition: u16,
    /// All up to this number was told; 0: nothing. Void from whoever is not the reader, or was not given so much.
    pub told: u64,
    /// Up to which number the node was given events; 0: it has been given none. If it is not what the broker knows, all are
    /// given again.
    pub given: u64,
    /// Of how many lost events in all the node knows.
    pub lost: u64,
    /// How many untold events the node may have, with those that it has. Bounds: at most [`HAND_MAX`]. 0: it gives the
    /// partition back, once it has told all that it was given.
    pub count_max: u32,
}

/// What a node is given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GivenOccupancies {
    /// The node is the partition's reader from now on; else another one is, or nothing waits.
    pub held: bool,
    /// The events are all that the node has to tell, from the first one on; else they come behind those that it has.
    pub anew: bool,
    /// Up to which number the node was given events.
    pub given: u64,
    /// How many events were lost in all: the newest that may wait were more than could be kept, and these had been given to
    /// nobody.
    pub lost: u64,
    /// Of these, how many a reader knows of.
    pub lost_known: u64,
    /// The events with their numbers, which rise.
    pub events: Vec<(u64, Occupancy)>,
}
