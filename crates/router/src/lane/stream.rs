//! Where a room that keeps publications stands on a lane, and what its members have yet to be told that they skipped
//! (G3). Knows nothing of frames and members' places.

use std::collections::BTreeMap;

use roomcast_protocol::outbound::{Outbound, SkipReason, SkipReasons};
use roomcast_protocol::position::Position;
use roomcast_protocol::publication::Priority;
use roomcast_protocol::room::RoomName;

/// Offsets covered one behind the other without a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    /// The last of them.
    to: Position,
    count: u64,
    reasons: SkipReasons,
}

impl Run {
    /// One that ends before `position`.
    pub(crate) fn empty(position: Position) -> Self {
        Self { to: position, count: 0, reasons: SkipReasons::default() }
    }

    /// One of `count` offsets that ends with `position`.
    pub(crate) fn of(position: Position, count: u64, reasons: &[SkipReason]) -> Self {
        let mut run = Self { to: position, count, reasons: SkipReasons::default() };
        reasons.iter().for_each(|reason| run.reasons.insert(*reason));
        run
    }

    /// Goes on to `position`.
    pub(crate) fn skip(&mut self, position: Position, reason: SkipReason) {
        self.to = position;
        self.count += 1;
        self.reasons.insert(reason);
    }

    /// What is covered in front of it.
    pub(crate) const fn before(&self) -> Position {
        self.to.at(self.to.offset.saturating_sub(self.count))
    }

    /// As its members are told.
    pub(crate) fn outbound(self, name: &RoomName) -> Outbound<'_> {
        let Self { to, count, reasons } = self;
        let room = name.as_str();
        Outbound::Skip { room, epoch: to.epoch, to: to.offset, count, reasons }
    }
}

/// Where a room that keeps publications stands on a lane.
#[derive(Debug)]
pub(crate) struct Stream {
    /// The class of its frames: all of them in one, so that none overtakes another.
    pub(crate) class: Priority,
    /// What the members have covered once all is served that waits; `None`: not live yet.
    pub(crate) position: Option<Position>,
    /// What members had been given when nothing waited for them last; `None`: nothing of this epoch. Who joined
    /// meanwhile stands at its join's answer, or behind it.
    pub(crate) served: Option<Position>,
    /// The hub said that the broker is away.
    pub(crate) away: bool,
    /// What all members skip, up to the position, and have yet to be told; for a while.
    pub(crate) run: Option<Box<Run>>,
    /// What members skipped on their own, by session, and have yet to be told. Bounds: the room's members.
    pub(crate) own: BTreeMap<u32, Run>,
    /// When skips are told by themselves; `u64::MAX`: none wait. Units: monotonic milliseconds.
    pub(crate) tell_at_ms: u64,
    /// An alarm is set for that.
    pub(crate) armed: bool,
    /// Sessions that catch up, and are no members yet.
    pub(crate) catching: u32,
    /// Some of them may wait for the lane, which is behind them.
    pub(crate) ahead: bool,
    /// Publications were dropped while the lane held: the members are told once it goes on.
    pub(crate) shed: bool,
    /// Publications without a position: history has none of them.
    pub(crate) loose: u64,
    /// Its number among all groups, if it is a group's room.
    pub(crate) group: Option<u32>,
}

impl Stream {
    /// What members have been given once nothing waits for them: what is skipped has yet to be told.
    pub(crate) fn given(&self) -> Option<Position> {
        self.run.as_ref().map(|run| run.before()).or(self.position)
    }
}

impl Default for Stream {
    fn default() -> Self {
        Self {
            class: Priority::Normal,
            position: None,
            served: None,
            away: false,
            run: None,
            own: BTreeMap::new(),
            tell_at_ms: u64::MAX,
            armed: false,
            catching: 0,
            ahead: false,
            shed: false,
            loose: 0,
            group: None,
        }
    }
}
