//! What messages to lanes weigh in their queues, and which of them a full queue need not take.

use roomcast_protocol::position::{Kept, Position};
use roomcast_protocol::receipts::Receipt;
use roomcast_protocol::room::RoomName;

use crate::messages::LaneMessage;
use crate::talks::answer_weight;

/// What a message to a lane weighs beside the publications in it. Units: bytes.
const MESSAGE_BYTES: usize = 64;

/// What a revocation weighs. Units: bytes.
const REVOCATION_BYTES: usize = 96;

/// What a room of a session's record weighs. Units: bytes.
const ROOM_RECORD_BYTES: usize = 96;

impl LaneMessage {
    /// The room, and the position there, of what a queue that is full need not take: the hub makes up for it, or tells
    /// of it. `None`: it has to be taken.
    #[must_use]
    pub fn droppable(&self) -> Option<(&RoomName, Option<Position>)> {
        match self {
            Self::Publication { publication, .. } => {
                Some((&publication.room, publication.position))
            }
            Self::Skipped { room, position, .. } => Some((room, Some(*position))),
            Self::Joined { .. }
            | Self::Gap { .. }
            | Self::Page { .. }
            | Self::Hold(_)
            | Self::Published { .. }
            | Self::Lost(_)
            | Self::Degraded { .. }
            | Self::Revalidate
            | Self::Blind
            | Self::Attached { .. }
            | Self::Saved { .. }
            | Self::Fence { .. }
            | Self::Drain(_)
            | Self::Presence(_)
            | Self::Roster { .. }
            | Self::Inbox { .. }
            | Self::Marked { .. }
            | Self::Receipts(_)
            | Self::ReceiptsPage { .. }
            | Self::Presents { .. }
            | Self::Members { .. }
            | Self::Obeyed(_)
            | Self::Order { .. }
            | Self::Revoked { .. }
            | Self::Conversed { .. }
            | Self::Responded(_)
            | Self::Permitted { .. }
            | Self::Survey { .. }
            | Self::Stop => None,
        }
    }

    /// What it weighs in the lane's queue. Units: bytes.
    #[must_use]
    pub fn weight(&self) -> usize {
        let weight = |kept: &Kept| match kept {
            Kept::Publication(publication) => publication.weight(),
            Kept::Unreadable(_) | Kept::Removed(_) => MESSAGE_BYTES,
        };
        if let Self::Publication { publication, .. } = self {
            return publication.weight();
        }
        if let Self::Responded(responded) = self {
            return responded.weight();
        }
        let users = |users: &[Box<str>]| users.iter().map(|user| user.len() + 16).sum::<usize>();
        if let Self::Presence(diff) = self {
            return MESSAGE_BYTES + users(&diff.joined) + users(&diff.left);
        }
        if let Self::Roster { outcome: Ok(page), .. } = self {
            return MESSAGE_BYTES + users(&page.users);
        }
        let receipts = |receipts: &[Receipt]| {
            receipts.iter().map(|it| it.user.len() + size_of::<Receipt>()).sum::<usize>()
        };
        if let Self::Receipts(diff) = self {
            return MESSAGE_BYTES + receipts(&diff.receipts);
        }
        if let Self::ReceiptsPage { outcome: Ok(page), .. } = self {
            return MESSAGE_BYTES + receipts(&page.receipts);
        }
        if let Self::Revoked { revocations, .. } = self {
            return MESSAGE_BYTES + revocations.len() * REVOCATION_BYTES;
        }
        if let Self::Attached { outcome: Ok(attached), .. } = self {
            let rooms = attached.record.rooms.len() + attached.record.own.len();
            return MESSAGE_BYTES + rooms * ROOM_RECORD_BYTES;
        }
        if let Self::Conversed { outcome: Ok(answered), .. } = self {
            return MESSAGE_BYTES + answer_weight(answered);
        }
        let Self::Page { page: Some(page), .. } = self else { return MESSAGE_BYTES };
        MESSAGE_BYTES + page.entries.iter().map(weight).sum::<usize>()
    }
}
