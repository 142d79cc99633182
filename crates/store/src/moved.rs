//! Which rooms of a partition moved, and since when (G7).

use std::collections::BTreeMap;

use roomcast_protocol::room::RoomName;

/// Rooms of a partition whose last move is known: the newest.
pub const MOVED_MAX: usize = 4_096;

/// Rooms that one answer names; if more moved, any may have.
pub const TOLD_MAX: usize = 512;

/// A partition's counter, and what it stood at when each room last moved.
#[derive(Clone, Debug, Default)]
pub(crate) struct Partition {
    pub(crate) counter: u64,
    by_score: BTreeMap<u64, RoomName>,
    by_room: BTreeMap<RoomName, u64>,
}

impl Partition {
    /// A room moved.
    pub(crate) fn move_room(&mut self, room: &RoomName) {
        self.counter += 1;
        if let Some(score) = self.by_room.insert(room.clone(), self.counter) {
            self.by_score.remove(&score);
        }
        self.by_score.insert(self.counter, room.clone());
        if self.by_score.len() > MOVED_MAX
            && let Some((_, oldest)) = self.by_score.pop_first()
        {
            self.by_room.remove(&oldest);
        }
    }

    /// The rooms that moved since the counter stood at `taken`; `None`: any may have.
    pub(crate) fn since(&self, taken: u64) -> Option<Vec<&RoomName>> {
        if taken > self.counter {
            return None;
        }
        // Where one of them is not known any more, all that are known moved later, and are too many.
        let rooms: Vec<_> = self.by_score.range(taken + 1..).map(|(_, room)| room).collect();
        (rooms.len() <= TOLD_MAX).then_some(rooms)
    }
}
