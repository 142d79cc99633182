//! How much of a room its users have got, and how much they have read (G17).
//!
//! That a publication was accepted needs no mark: the room's stream says so, and its publisher's ack did.

use crate::position::{Epoch, Position};
use crate::room::RoomName;

/// What a user says of publications.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Mark {
    /// They have arrived at one of the user's clients.
    Delivered,
    /// The user has read them; so they were delivered as well.
    Read,
}

impl Mark {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Delivered, Self::Read];

    /// Its name on the wire.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Read => "read",
        }
    }
}

/// How far a user has marked a room: all up to an offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Marked {
    /// The last of them; 0: none.
    pub offset: u64,
    /// When the first mark came that covers it, by the broker's clock; where steps were merged, when a later one came,
    /// never an earlier one. 0: none did. Units: milliseconds since the Unix epoch.
    pub at_unix_ms: u64,
}

impl Marked {
    /// Nothing is.
    pub const NOTHING: Self = Self { offset: 0, at_unix_ms: 0 };
}

/// What stands for one user in one room. What is read is delivered: never later, and never less.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// The user's name within the cluster.
    pub user: Box<str>,
    /// What has arrived.
    pub delivered: Option<Marked>,
    /// What is read.
    pub read: Option<Marked>,
}

/// One user's wish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MarkChange {
    /// The user's name within the cluster.
    pub user: Box<str>,
    /// What the user says.
    pub mark: Mark,
    /// Of all publications up to this one. One above the head counts as the head.
    pub offset: u64,
}

/// Marks of users in one room, made in one step. Marks only grow, so done twice, or late, it is done once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetMarks {
    /// Which room.
    pub room: RoomName,
    /// The epoch of the offsets.
    pub epoch: Epoch,
    /// The marks. Bounds: 1 to [`MARKS_MAX`].
    pub changes: Vec<MarkChange>,
}

/// What became of [`SetMarks`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MarksSet {
    /// It is done.
    Done {
        /// The newest position of the room.
        head: Position,
        /// What stands for the offset of each change, in their order: the offset as asked, at most the head's, and when
        /// it was first marked.
        marked: Vec<Marked>,
    },
    /// The room has another epoch, and its head is this: nothing is changed.
    Epoch(Position),
    /// [`MARK_USERS_MAX`] users have receipts in the room, and with those of this step it would be more: nothing is
    /// changed.
    Full,
}

/// What a step changed for the receipts of a room, as all nodes hear it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReceiptDiff {
    /// Which room.
    pub room: RoomName,
    /// The epoch of the offsets.
    pub epoch: Epoch,
    /// Which of the steps that changed something; it rises by one. It begins anew when receipts were lost.
    pub version: u64,
    /// Those of whom a mark rose, each user once and with both marks, by rising bytes of their names.
    pub receipts: Vec<Receipt>,
}

/// Part of a room's receipts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReceiptsPage {
    /// The newest position of the room.
    pub head: Position,
    /// The last step that changed something; 0: there has been none.
    pub version: u64,
    /// Of the users behind the one that was asked for, by rising bytes of their names.
    pub receipts: Vec<Receipt>,
    /// More users follow behind this one, whether or not it is on this page; `None`: that is all.
    pub next: Option<Box<str>>,
}

/// Steps that are kept of each of a user's marks. Beyond it two of the older half become one: those neighbours whose times
/// lie closest, as one with the higher offset and the later time, so that no number is said to have been marked before
/// it was.
pub const STEPS_MAX: usize = 256;

/// Marks of one step. Where users have [`STEPS_MAX`] steps already, one mark takes Redis 0.1 ms, so a step holds it for 5 ms.
pub const MARKS_MAX: usize = 48;

/// Receipts that members are told of at once.
pub const RECEIPTS_TOLD_MAX: usize = 256;

/// Users with receipts of one room.
pub const MARK_USERS_MAX: u32 = 10_000;

/// Users of one page, those that are left out of it counted.
pub const RECEIPTS_PAGE_MAX: u32 = 1_000;
