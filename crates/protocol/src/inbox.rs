//! What users have yet to get: cursors in rooms that keep publications for them (G15, G16).

use crate::position::{Head, Position};
use crate::room::RoomName;

/// Whose cursor counts in an inbox.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum CursorOf {
    /// All devices of a user share one: what one of them acked no other gets.
    #[default]
    User,
    /// Each device has its own.
    Device,
}

impl CursorOf {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::User, Self::Device];

    /// Its name in the configuration.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Device => "device",
        }
    }
}

/// Devices of one user that have a cursor; beyond it the one that was idle longest goes.
pub const DEVICES_MAX: usize = 16;

/// How long a device's cursor is kept that nobody moves. Units: milliseconds.
pub const DEVICE_IDLE_MS: u64 = 30 * 86_400_000;

/// Acked numbers above the watermark that a cursor keeps.
pub const ACKED_ABOVE_MAX: usize = 256;

/// The name of a device: longest. Units: bytes.
pub const DEVICE_BYTES_MAX: usize = 64;

/// Which cursor: of a room, and of a device where each has its own.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CursorName {
    /// Which room.
    pub room: RoomName,
    /// Which device; empty: the user's.
    pub device: Box<str>,
}

/// What was acked in an inbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acked {
    /// All up to it.
    pub watermark: Position,
    /// And these above it, rising. Bounds: at most [`ACKED_ABOVE_MAX`].
    pub above: Vec<u64>,
}

/// Of how many lost publications a device was told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// Whose count that is: a cursor that begins anew, because the one before it was lost, has another number.
    pub cursor: u64,
    /// Of so many, since there is that cursor.
    pub count: u64,
}

impl Told {
    /// What two say together, of which `other` is the later one.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        let same = self.cursor == other.cursor;
        if same { Self { count: self.count.max(other.count), ..other } } else { other }
    }
}

/// What stands for a device in an inbox. A device that is new starts at the furthest cursor there is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InboxState {
    /// What was acked.
    pub acked: Acked,
    /// What the room has, and what of it is kept.
    pub head: Head,
    /// Unacked publications that were removed, since there is the cursor.
    pub lost: u64,
    /// Of how many of them the device has been told. Bounds: at most `lost`.
    pub told: Told,
}

impl InboxState {
    /// Unacked publications that were removed, and that the device has not been told of.
    #[must_use]
    pub const fn untold(&self) -> u64 {
        self.lost.saturating_sub(self.told.count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_of_one_cursor_only_grows_and_of_another_the_later_counts() {
        let told = |cursor, count| Told { cursor, count };
        assert_eq!(told(1, 5).and(told(1, 3)), told(1, 5));
        assert_eq!(told(1, 3).and(told(1, 5)), told(1, 5));
        assert_eq!(told(1, 5).and(told(2, 3)), told(2, 3));
    }
}
