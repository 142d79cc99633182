//! The bytes of a write as they grow, then shared by all who are given them; and what outboxes are told of it. Knows
//! nothing of members.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use roomcast_protocol::position::Position;
use roomcast_protocol::publication::{Priority, Publication};

use crate::outbox::{Mark, RoomSerial};

/// On which terms a frame leaves.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terms<'a> {
    pub(crate) class: Priority,
    /// Only members that hold all of these get it.
    pub(crate) requires: &'a [Box<str>],
    /// Where the publication stands, if members count.
    pub(crate) placed: Option<Position>,
    /// Units: milliseconds since the Unix epoch.
    pub(crate) expires_unix_ms: Option<u64>,
    /// What a member has covered in front of it, if it has positions.
    pub(crate) before: Option<Position>,
    /// The newest under this key is enough for a slow member.
    pub(crate) key: Option<u64>,
    /// It, if members have to ack it.
    pub(crate) acked: Option<&'a Arc<Publication>>,
    /// It, if it is a copy of what was said in a conversation.
    pub(crate) copied: Option<&'a Arc<Publication>>,
    /// Slow members are given it all the same.
    pub(crate) stays: bool,
}

impl Terms<'_> {
    /// All members get it, whenever; it has no position.
    pub(crate) const fn of(class: Priority) -> Self {
        let requires = &[];
        Self {
            class,
            requires,
            placed: None,
            expires_unix_ms: None,
            before: None,
            key: None,
            acked: None,
            copied: None,
            stays: false,
        }
    }

    /// The same for what a full outbox keeps, and a parked member is given all the same.
    pub(crate) const fn that_stay(class: Priority) -> Self {
        Self { stays: true, ..Terms::of(class) }
    }

    /// All members get it, whenever, who covered `before`.
    pub(crate) const fn behind(before: Position, class: Priority) -> Self {
        Self { before: Some(before), ..Terms::of(class) }
    }

    /// Whether all members are given it alike.
    pub(super) const fn is_for_all(&self) -> bool {
        self.requires.is_empty() && self.acked.is_none() && self.copied.is_none()
    }

    /// What outboxes are told of it.
    pub(super) const fn mark(&self, room: RoomSerial) -> Mark {
        let Self { before, expires_unix_ms, key, stays, .. } = *self;
        Mark { room, before, expires_unix_ms, key, stays }
    }
}

/// A publication in a batch that is not given once its time is over.
#[derive(Debug)]
pub(super) struct Expiring {
    /// Units: milliseconds since the Unix epoch.
    pub(super) at_unix_ms: u64,
    pub(super) placed: Option<Position>,
    /// Where its frame stands, by format.
    pub(super) spans: Vec<(u8, Range<usize>)>,
}

/// Merged frames of one format.
#[derive(Debug)]
pub(super) enum Frames {
    Growing(Vec<u8>),
    Shared(Bytes),
}

/// What a member is given as it goes out of its room, of what is under way to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rest {
    All,
    /// What nothing else would make up for.
    Staying,
    Nothing,
}

/// What outboxes are told of a write, made once for all its members.
#[derive(Debug)]
pub(super) struct Marking {
    mark: Mark,
    shared: Option<Arc<Mark>>,
}

impl Frames {
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Growing(bytes) => bytes.len(),
            Self::Shared(bytes) => bytes.len(),
        }
    }

    pub(super) fn share(&mut self) -> Bytes {
        let bytes = match self {
            Self::Growing(bytes) => Bytes::from(std::mem::take(bytes)),
            Self::Shared(bytes) => return bytes.clone(),
        };
        *self = Self::Shared(bytes.clone());
        bytes
    }

    /// The buffer to append to; a copy where a member that left was given the frames so far.
    pub(super) fn grow(&mut self) -> &mut Vec<u8> {
        if let Self::Shared(bytes) = self {
            *self = Self::Growing(bytes.to_vec());
        }
        match self {
            Self::Growing(bytes) => bytes,
            Self::Shared(_) => unreachable!("made growing just above"),
        }
    }
}

impl Marking {
    pub(super) const fn new(mark: Mark) -> Self {
        Self { mark, shared: None }
    }

    /// What a member has covered in front of the write, if it has positions.
    pub(super) const fn mark(&self) -> &Mark {
        &self.mark
    }

    /// Whether a member that goes out of its room is given the write.
    pub(super) fn is_given(&self, rest: Rest) -> bool {
        rest == Rest::All || rest == Rest::Staying && self.mark.stays
    }

    /// Whether such a member will never get what stands in it.
    pub(super) fn is_lost(&self, rest: Rest) -> bool {
        self.mark.before.is_none() && !self.is_given(rest)
    }

    /// Whether what this says can stand in the same write: it is of the same kind, and under the same key.
    pub(super) fn merges(&self, other: &Mark) -> bool {
        (self.mark.before.is_some(), self.mark.key, self.mark.stays)
            == (other.before.is_some(), other.key, other.stays)
    }

    /// More stands in the write. It expires when all has.
    pub(super) fn merge(&mut self, other: &Mark) {
        let both = self.mark.expires_unix_ms.zip(other.expires_unix_ms);
        self.mark.expires_unix_ms = both.map(|(this, that)| this.max(that));
        self.shared = None;
    }

    pub(super) fn share(&mut self) -> Arc<Mark> {
        Arc::clone(self.shared.get_or_insert_with(|| Arc::new(self.mark)))
    }
}
