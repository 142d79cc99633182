//! Publications: payloads accepted into a room.

use std::hash::BuildHasher;

use crate::content::Content;
use crate::conversation::{CALL, Origin};
use crate::position::{Epoch, Position};
use crate::room::RoomName;

/// A publication's class in a member's outbox; classes are drained in this order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Priority {
    /// Leaves first.
    High,
    /// The default.
    #[default]
    Normal,
    /// Leaves last.
    Low,
}

impl Priority {
    /// All classes, in the order they are drained.
    pub const ALL: [Self; 3] = [Self::High, Self::Normal, Self::Low];

    /// The seed's name: `high`, `normal` or `low`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::High => "high",
            Self::Normal => "normal",
            Self::Low => "low",
        }
    }

    /// Reads the seed's name.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|class| class.name() == text)
    }
}

/// One payload on its way to the members of one room, as every dialect gets to see it.
///
/// Bounds: `id`, `kind` and `correlation_id` are at most [`TEXT_BYTES_MAX`] bytes each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publication {
    /// Where it goes.
    pub room: RoomName,
    /// Its sender's id for it, or one the node made.
    pub id: Box<str>,
    /// Its type, `message` where the sender named none.
    pub kind: Box<str>,
    /// ISO 8601; the sender's if valid, else the accepting node's.
    pub timestamp: Box<str>,
    /// Who sent it; set by the node unless a back-end spoke.
    pub sender: Box<str>,
    /// The payload.
    pub content: Content,
    /// Its class, where the sender chose one; else the room's rule decides.
    pub priority: Option<Priority>,
    /// The sender's time to live. Units: seconds.
    pub ttl_s: Option<u32>,
    /// When it stops being delivered. Units: milliseconds since the Unix epoch.
    pub expires_unix_ms: Option<u64>,
    /// Links it to a request.
    pub correlation_id: Option<Box<str>>,
    /// Only members that hold all of these permissions get it.
    pub requires: Vec<Box<str>>,
    /// Its members ack it, or get it again (G15).
    pub requires_ack: bool,
    /// Only this node's own members get it, because the broker is away.
    pub isolated: bool,
    /// Of which publication of a conversation it is a copy, or tells something.
    pub origin: Option<Box<Origin>>,
    /// Where it stands in its room; `None`: not given one yet, or the room is ephemeral.
    pub position: Option<Position>,
    /// Under which epoch it was put, where its position names another: in an inbox whose stream has begun anew it is given, and
    /// acked, under the one that counts.
    pub put_under: Option<Box<Epoch>>,
}

/// Longest id, type name and correlation id. Units: bytes.
pub const TEXT_BYTES_MAX: usize = 255;

impl Publication {
    /// A payload for a room that says nothing about itself: what is known of it is filled in by whoever makes it.
    #[must_use]
    pub fn bare(room: RoomName, content: Content) -> Self {
        Self {
            room,
            id: Box::default(),
            kind: Box::default(),
            timestamp: Box::default(),
            sender: Box::default(),
            content,
            priority: None,
            ttl_s: None,
            expires_unix_ms: None,
            correlation_id: None,
            requires: Vec::new(),
            requires_ack: false,
            isolated: false,
            origin: None,
            position: None,
            put_under: None,
        }
    }

    /// Under whose name its id is remembered: its sender's, but what a conversation keeps of a call is everybody's.
    #[must_use]
    pub fn namer(&self) -> &str {
        let is_said = |origin: &Origin| origin.room == self.room;
        let is_call = &*self.kind == CALL && self.origin.as_deref().is_some_and(is_said);
        if is_call { "" } else { &self.sender }
    }

    /// Room, namer and id as one number, by two hashers with keys of their own that peers do not know.
    #[must_use]
    pub fn id_hash<S: BuildHasher>(&self, hashers: &[S; 2]) -> u128 {
        let name = (self.room.as_str(), self.namer(), &*self.id);
        let [high, low] = hashers.each_ref().map(|hasher| u128::from(hasher.hash_one(name)));
        high << 64 | low
    }

    /// Type and payload as one number: what must be the same under an id (G5).
    #[must_use]
    pub fn content_hash<S: BuildHasher>(&self, hasher: &S) -> u64 {
        let content = match &self.content {
            Content::Json(bytes) => (0, bytes),
            Content::Text(bytes) => (1, bytes),
            Content::Binary(bytes) => (2, bytes),
        };
        hasher.hash_one((&self.kind, content))
    }

    /// What it weighs in a queue. Units: bytes, payload and texts with a share for the fixed parts.
    #[must_use]
    pub fn weight(&self) -> usize {
        let required: usize = self.requires.iter().map(|it| 16 + it.len()).sum();
        let texts = self.id.len() + self.kind.len() + self.sender.len();
        let linked = self.correlation_id.as_ref().map_or(0, |it| it.len());
        let copied = self.origin.as_ref().map_or(0, |it| it.weight());
        256 + self.content.len() + texts + linked + required + copied
    }
}
