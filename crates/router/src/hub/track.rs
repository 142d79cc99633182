//! What a hub knows of one room that keeps its publications: how far its lanes have been given them, what came too
//! early, and what has yet to be asked. Decides what an unbroken run is; never asks the broker itself.

use std::collections::BTreeMap;
use std::sync::Arc;

use roomcast_protocol::ids::LaneId;
use roomcast_protocol::outbound::SkipReason;
use roomcast_protocol::position::{Epoch, Keep, Position};
use roomcast_protocol::publication::Publication;

/// Bytes that may be held for one room behind a hole; beyond it they are forgotten and read from history.
pub const HELD_ROOM_BYTES_MAX: usize = 1 << 20;

/// Bytes that may be held for all rooms of a node.
pub const HELD_BYTES_MAX: usize = 32 << 20;

/// What an entry without a payload weighs. Units: bytes.
const SKIPPED_BYTES: usize = 64;

/// What stands at a position.
#[derive(Clone, Debug)]
pub(super) enum Item {
    /// A publication, and when it was published (microseconds of the cluster's time; 0: unknown).
    Publication(Arc<Publication>, u64),
    /// Something that this node cannot read.
    Skipped(SkipReason),
}

impl Item {
    fn weight(&self) -> usize {
        match self {
            Self::Publication(publication, _) => publication.weight(),
            Self::Skipped(_) => SKIPPED_BYTES,
        }
    }
}

/// Something that came before what stands in front of it.
#[derive(Debug)]
struct Held {
    item: Item,
    /// Counts what was held by the node, so that it is known which question came later.
    serial: u64,
}

/// A lane that was not given what its queue had no place for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Behind {
    pub(super) lane: LaneId,
    /// What it was given last.
    pub(super) at: Position,
    /// Its queue has place again.
    pub(super) drained: bool,
    /// It is being read for.
    pub(super) asked: Option<u64>,
}

/// What came of an item.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Placed {
    /// It is the next one: lanes may have it.
    Next,
    /// Lanes have had it.
    Known,
    /// It came before others, or from another epoch, and waits for what is missing.
    Early,
    /// The room's position is not known, nor being asked for.
    Unwanted,
}

/// One room that keeps its publications.
#[derive(Debug)]
pub(super) struct Track {
    pub(super) keep: Keep,
    /// The hub itself hears it.
    pub(super) control: bool,
    /// What its lanes have been given last; `None`: not known yet.
    pub(super) at: Option<Position>,
    /// Lanes that have not been told a position; one bit each.
    pub(super) waiting: u64,
    held: BTreeMap<(Epoch, u64), Held>,
    held_bytes: usize,
    /// The newest position is to be asked for.
    pub(super) wants_head: bool,
    /// What stands behind `at` is to be read.
    pub(super) wants_read: bool,
    /// The question under way, and how much the node had held when it was asked.
    pub(super) asked: Option<(u64, u64)>,
    /// An offset of the epoch of `at` that is known to exist; above `at` something is missing.
    pub(super) target: u64,
    /// When what is missing was first asked for. Units: monotonic milliseconds.
    pub(super) hole_ms: Option<u64>,
    pub(super) behind: Vec<Behind>,
}

impl Track {
    pub(super) const fn new(keep: Keep) -> Self {
        Self {
            keep,
            control: false,
            at: None,
            waiting: 0,
            held: BTreeMap::new(),
            held_bytes: 0,
            wants_head: false,
            wants_read: false,
            asked: None,
            target: 0,
            hole_ms: None,
            behind: Vec::new(),
        }
    }

    /// Bytes held.
    pub(super) const fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    /// Whether nothing is missing, as far as is known.
    pub(super) fn is_settled(&self) -> bool {
        self.at.is_some() && !self.wants_head && !self.wants_read && self.asked.is_none()
    }

    /// Whether lanes have been given all that is known to exist.
    pub(super) fn is_complete(&self) -> bool {
        self.at.is_some_and(|at| at.offset >= self.target) && self.first_held().is_none()
    }

    /// Moves `at`; whatever is known of another epoch counts no more.
    pub(super) fn move_to(&mut self, position: Position) {
        if self.at.is_none_or(|at| at.epoch != position.epoch) {
            self.target = 0;
        }
        self.at = Some(position);
    }

    /// What is to become of an item at this position. One that came early is to be [`Track::hold`].
    pub(super) fn place(&self, position: Position) -> Placed {
        match self.at {
            None if self.asked.is_some() || self.wants_head => Placed::Early,
            None => Placed::Unwanted,
            Some(at) if at.epoch != position.epoch => Placed::Early,
            Some(at) if position.offset <= at.offset => Placed::Known,
            Some(at) if position.offset == at.offset + 1 => Placed::Next,
            Some(_) => Placed::Early,
        }
    }

    /// Holds an item; says whether it was within the bounds, else all that the room held is forgotten.
    pub(super) fn hold(
        &mut self,
        position: Position,
        item: Item,
        serial: u64,
        free: usize,
    ) -> bool {
        let weight = item.weight();
        if self.held_bytes + weight > HELD_ROOM_BYTES_MAX || weight > free {
            self.held = BTreeMap::new();
            self.held_bytes = 0;
            return false;
        }
        let key = (position.epoch, position.offset);
        if self.held.insert(key, Held { item, serial }).is_none() {
            self.held_bytes += weight;
        }
        true
    }

    /// The held item that comes next, if it is there.
    pub(super) fn take_next(&mut self) -> Option<(Position, Item)> {
        let next = self.at?.next();
        let held = self.held.remove(&(next.epoch, next.offset))?;
        self.held_bytes -= held.item.weight();
        Some((next, held.item))
    }

    /// The lowest position that is held in the epoch of `at`.
    pub(super) fn first_held(&self) -> Option<Position> {
        let at = self.at?;
        let mut above = self.held.range((at.epoch, at.offset)..=(at.epoch, u64::MAX));
        above.next().map(|((_, offset), _)| at.at(*offset))
    }

    /// Forgets what `at` has passed, and what came from another epoch before the question that found `at`; says whether
    /// something of another epoch came since.
    pub(super) fn sift(&mut self, asked_serial: u64) -> bool {
        let Some(at) = self.at else { return false };
        let mut foreign = false;
        let bytes = &mut self.held_bytes;
        self.held.retain(|(epoch, offset), held| {
            let keeps =
                if *epoch == at.epoch { *offset > at.offset } else { held.serial >= asked_serial };
            foreign |= keeps && *epoch != at.epoch;
            if !keeps {
                *bytes -= held.item.weight();
            }
            keeps
        });
        foreign
    }

    /// The lane is behind from this position on, unless it is already.
    pub(super) fn fall_behind(&mut self, lane: LaneId, at: Position) {
        match self.behind.iter_mut().find(|behind| behind.lane == lane) {
            Some(behind) => {
                behind.drained = false;
                if behind.at.epoch != at.epoch || behind.at.offset > at.offset {
                    behind.at = at;
                }
            }
            None => self.behind.push(Behind { lane, at, drained: false, asked: None }),
        }
    }

    /// What it holds, counted anew.
    #[cfg(test)]
    pub(super) fn walk(&self) {
        let sum: usize = self.held.values().map(|held| held.item.weight()).sum();
        assert_eq!(self.held_bytes, sum);
        assert!(self.held_bytes <= HELD_ROOM_BYTES_MAX);
    }
}
