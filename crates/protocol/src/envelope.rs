//! What a broker carries, and what it is told and tells: the seam between the hub, which decides, and the broker,
//! which executes.

use std::sync::Arc;

use crate::codes::Refused;
use crate::publication::Publication;
use crate::room::RoomName;

/// The cross-node form of what happens in rooms.
#[derive(Clone, Debug)]
pub enum Envelope {
    /// A publication. Shared, because every node of the process and every lane reads the same one.
    Publication(Arc<Publication>),
}

/// What the hub wants done by the broker; `T` travels with a publication and comes back in its completion.
#[derive(Debug)]
pub enum BrokerCommand<T> {
    /// Carry it to every node that hears its room.
    Publish {
        /// Comes back in [`BrokerEvent::Published`].
        ticket: T,
        /// What to carry.
        publication: Arc<Publication>,
        /// Remember its id: the same content again gets the first answer, other content is refused (G5).
        dedup: bool,
    },
    /// This node wants to hear the room from now on.
    Subscribe(RoomName),
    /// This node no longer wants to hear the room.
    Unsubscribe(RoomName),
}

/// What the broker tells a node, in one order.
#[derive(Debug)]
pub enum BrokerEvent<T> {
    /// The feed brought something.
    Envelope(Envelope),
    /// The oldest unanswered [`BrokerCommand::Subscribe`] is in force: what comes behind this is heard.
    Subscribed(RoomName),
    /// The answer to a publication: how far it got, or why it did not.
    Published {
        /// As given.
        ticket: T,
        /// Accepted, or the refusal.
        outcome: Result<Accepted, Refused>,
    },
}

/// How far a publication got (G4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// The broker took it and the node's own feed is subscribed.
    Accepted,
}

impl Level {
    /// Its name on the wire.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
        }
    }
}

/// A broker's yes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// How far the publication got.
    pub level: Level,
    /// The memory for ids was full, so a repeat might be delivered again.
    pub dedup_short: bool,
}
