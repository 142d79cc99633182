//! Which rooms of a partition moved, and since when (G7).

use std::collections::BTreeMap;

use roomcast_protocol::position::Epoch;
use roomcast_protocol::room::RoomName;

/// Rooms of a partition whose last move is known: the newest.
pub const MOVED_MAX: usize = 4_096;

/// Rooms that one answer names; if more moved, any may have.
pub const TOLD_MAX: usize = 512;

/// The lower part of a counter, which counts; the upper part says which incarnation of the partition it is.
const COUNT_BITS: u32 = 32;

/// The highest upper part: together they are counted exactly in Lua.
const INCARNATION_MAX: u64 = (1 << 20) - 1;

/// A partition's counter, and what it stood at when each room last moved.
#[derive(Clone, Debug, Default)]
pub(crate) struct Partition {
    pub(crate) counter: u64,
    by_score: BTreeMap<u64, RoomName>,
    by_room: BTreeMap<RoomName, u64>,
}

impl Partition {
    /// A room moved. A counter that begins takes its upper part from `fresh`: so one that was lost, and has come as far
    /// again, is told from what it was.
    pub(crate) fn move_room(&mut self, room: &RoomName, fresh: Epoch) {
        if self.counter == 0 {
            let [.., a, b, c] = fresh.0.to_be_bytes();
            let incarnation = u64::from_be_bytes([0, 0, 0, 0, 0, a, b, c]) & INCARNATION_MAX;
            self.counter = incarnation << COUNT_BITS;
        }
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
        if taken > self.counter || taken >> COUNT_BITS != self.counter >> COUNT_BITS {
            return None;
        }
        // Where one of them is not known any more, all that are known moved later, and are too many.
        let rooms: Vec<_> = self.by_score.range(taken + 1..).map(|(_, room)| room).collect();
        (rooms.len() <= TOLD_MAX).then_some(rooms)
    }
}
