//! What an outbox lets go when it is full, and by which rules (delivery.md, "Slow members"). Nothing that answers a
//! session, that is under way, or that waits in front of a fence is let go.

use std::collections::BTreeMap;

use roomcast_protocol::position::Position;
use roomcast_protocol::publication::Priority;

use super::{Outbox, Waiting};

/// A room of a lane: its serial number, which no other has.
pub type RoomSerial = u32;

/// What a full outbox knows of the frames of a room. Shared by all members that are given them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// Whose frames they are.
    pub room: RoomSerial,
    /// In rooms that keep publications, what a member has covered in front of them; `None`: they have no position, and
    /// nobody can be given them later.
    pub before: Option<Position>,
    /// When the last of them expires, if all do. Units: milliseconds since the Unix epoch.
    pub expires_unix_ms: Option<u64>,
    /// The newest under this key of its room is enough.
    pub key: Option<u64>,
    /// It tells who is in the room: it waits, however full the outbox is, for nothing makes up for it.
    pub stays: bool,
}

/// A room whose frames were let go; its member is given them from what the room keeps, once there is space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parked {
    /// Which one.
    pub room: RoomSerial,
    /// What the member has covered once all has left that still waits.
    pub covered: Position,
}

/// What was let go, in the order of the steps.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shed {
    /// Frames whose time was over.
    pub expired: u64,
    /// Frames in whose place a newer one waits.
    pub conflated: u64,
    /// Frames of low class, which nobody can be given later.
    pub low: u64,
    /// Rooms that keep publications.
    pub parked: Vec<Parked>,
}

impl Outbox {
    /// How many bytes a full outbox may keep: less than it may hold, so that the rules are not applied to all that
    /// waits for each frame that comes.
    #[must_use]
    pub const fn goal_bytes(bytes_max: usize) -> usize {
        bytes_max - bytes_max / 8
    }

    /// Lets go of what waits until no more than `goal_bytes` are left, or nothing more can go: first what has expired,
    /// then what a newer one supersedes, then low class from the oldest, all of them in rooms that keep nothing; then
    /// all of the room that keeps publications and has most bytes here, and so on.
    ///
    /// To be called when all effects of a lane's turn are carried out, so that a reply that says what was given before
    /// has come, with its fence.
    pub fn shed(&mut self, goal_bytes: usize, unix_ms: u64) -> Shed {
        let mut shed = Shed::default();
        if self.bytes > goal_bytes {
            let over = |mark: &Mark| mark.expires_unix_ms.is_some_and(|at| at <= unix_ms);
            shed.expired = self.let_go(|it| passing(it).is_some_and(over));
        }
        if self.bytes > goal_bytes {
            let newest = self.newest_by_key();
            shed.conflated = self.let_go(|it| {
                let key = passing(it).and_then(|mark| Some((mark.room, mark.key?)));
                key.is_some_and(|key| newest.get(&key).is_some_and(|newest| it.number < *newest))
            });
        }
        if self.bytes > goal_bytes {
            let mut excess = self.bytes - goal_bytes;
            shed.low = self.let_go_of(Priority::Low, |it| {
                let goes = excess > 0 && passing(it).is_some();
                excess = excess.saturating_sub(if goes { it.frame.len() } else { 0 });
                goes
            });
        }
        while self.bytes > goal_bytes
            && let Some(room) = self.fullest_kept()
        {
            shed.parked.extend(self.park(room));
        }
        shed
    }

    /// The number of the newest frame that waits under each key.
    fn newest_by_key(&self) -> BTreeMap<(RoomSerial, u64), u64> {
        let mut newest = BTreeMap::new();
        for waiting in self.classes.iter().flatten() {
            if let Some(mark) = passing(waiting)
                && let Some(key) = mark.key
            {
                let number = newest.entry((mark.room, key)).or_insert(waiting.number);
                *number = waiting.number.max(*number);
            }
        }
        newest
    }

    /// The room that keeps publications and has most bytes here.
    fn fullest_kept(&self) -> Option<RoomSerial> {
        let mut bytes: BTreeMap<RoomSerial, usize> = BTreeMap::new();
        for waiting in self.classes.iter().flatten() {
            if let Some(mark) = waiting.mark.as_ref().filter(|mark| mark.before.is_some()) {
                *bytes.entry(mark.room).or_default() += waiting.frame.len();
            }
        }
        bytes.into_iter().max_by_key(|(_, bytes)| *bytes).map(|(room, _)| room)
    }

    /// Lets go of all that waits of a room. All of it is in one class, so the first is the oldest.
    fn park(&mut self, room: RoomSerial) -> Option<Parked> {
        let mut covered = None;
        self.let_go(|it| {
            let before = it.mark.as_ref().filter(|mark| mark.room == room);
            let before = before.and_then(|mark| mark.before);
            covered = covered.or(before);
            before.is_some()
        });
        covered.map(|covered| Parked { room, covered })
    }

    fn let_go(&mut self, mut goes: impl FnMut(&Waiting) -> bool) -> u64 {
        Priority::ALL.into_iter().map(|class| self.let_go_of(class, &mut goes)).sum()
    }

    fn let_go_of(&mut self, class: Priority, mut goes: impl FnMut(&Waiting) -> bool) -> u64 {
        let (mut count, mut bytes) = (0, 0);
        if let Some(queue) = self.classes.get_mut(class as usize) {
            queue.retain(|waiting| {
                let goes = goes(waiting);
                count += u64::from(goes);
                bytes += if goes { waiting.frame.len() } else { 0 };
                !goes
            });
        }
        self.bytes -= bytes;
        count
    }
}

/// The mark of a frame that nobody can be given later.
fn passing(waiting: &Waiting) -> Option<&Mark> {
    waiting.mark.as_deref().filter(|mark| mark.before.is_none() && !mark.stays)
}
