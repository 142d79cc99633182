//! How far each device of a user has acked an inbox, and what was removed before it did (G15, G16).

use std::collections::BTreeSet;

use roomcast_protocol::inbox::{ACKED_ABOVE_MAX, Acked, DEVICE_IDLE_MS, DEVICES_MAX, Told};
use roomcast_protocol::position::Epoch;

use crate::sessions::length;
use crate::store::At;

/// How long a user's own cursor is kept that nobody asks for or moves, if its room is not known any more. Units:
/// milliseconds.
pub const USER_IDLE_MS: u64 = 7 * 86_400_000;

/// What a cursor weighs beside its device's name and the numbers above its watermark. Units: bytes.
const CURSOR_BYTES: u64 = 96;

/// What a number above a watermark weighs. Units: bytes.
const ABOVE_BYTES: u64 = 16;

/// How far one device is.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cursor {
    /// All up to it is acked.
    pub(crate) watermark: u64,
    /// And these above it.
    pub(crate) above: BTreeSet<u64>,
    /// Told from whatever stood for the device before.
    pub(crate) number: u64,
    /// Unacked ones that were removed, ever.
    pub(crate) lost: u64,
    /// How many of those the device has been told of.
    pub(crate) told: u64,
    /// When somebody last asked for it or moved it. Units: milliseconds.
    moved_ms: u64,
}

impl Cursor {
    fn is_acked(&self, offset: u64) -> bool {
        offset <= self.watermark || self.above.contains(&offset)
    }

    /// Takes in what was acked, as far as it can have been.
    pub(crate) fn ack(&mut self, head: u64, acked: &Acked) {
        self.watermark = self.watermark.max(acked.watermark.offset).min(head);
        self.above.extend(acked.above.iter().filter(|offset| **offset <= head));
        self.tidy();
    }

    /// The device has been told of so many lost ones, as far as there are as many: said again it changes nothing.
    /// What another cursor told, which was lost, says nothing of this one.
    pub(crate) fn tell(&mut self, told: Told) {
        if told.cursor == self.number {
            self.told = self.told.max(told.count).min(self.lost);
        }
    }

    /// The watermark swallows what is next to it; of the rest the lowest stay.
    fn tidy(&mut self) {
        while let Some(&lowest) = self.above.first() {
            if lowest > self.watermark + 1 {
                break;
            }
            self.above.pop_first();
            self.watermark = self.watermark.max(lowest);
        }
        while self.above.len() > ACKED_ABOVE_MAX {
            self.above.pop_last();
        }
    }
}

/// The cursors of a room, by device; the user's own has no name. Most rooms have one, so it is a list with no place to
/// spare. Bounds: [`DEVICES_MAX`] and the user's own.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cursors(Vec<(Box<str>, Cursor)>);

impl Cursors {
    /// A device's cursor, made if it is not there: where the furthest one stands, or, where there is none, before all
    /// that there was, of which so much is `lost`. Beyond their number the device that was idle longest goes.
    pub(crate) fn open(&mut self, device: &str, at: At, lost: u64) -> &mut Cursor {
        let At { now_ms, fresh } = at;
        let at = self.place(device).unwrap_or_else(|_| self.begin(device, lost, fresh));
        #[allow(clippy::indexing_slicing, reason = "it was found there, or put there just now")]
        let (_, cursor) = &mut self.0[at];
        cursor.moved_ms = cursor.moved_ms.max(now_ms);
        cursor
    }

    fn place(&self, device: &str) -> Result<usize, usize> {
        self.0.binary_search_by(|(name, _)| (**name).cmp(device))
    }

    /// Puts a cursor for a device that has none; says where.
    fn begin(&mut self, device: &str, lost: u64, fresh: Epoch) -> usize {
        let devices = || self.0.iter().enumerate().filter(|(_, (name, _))| !name.is_empty());
        if !device.is_empty() && devices().count() >= DEVICES_MAX {
            let idle = devices().min_by_key(|(at, (_, it))| (it.moved_ms, *at)).map(|(at, _)| at);
            idle.map(|at| self.0.remove(at));
        }
        let furthest = self.0.iter().map(|(_, it)| it.watermark).max();
        let (watermark, lost) = furthest.map_or((0, lost), |watermark| (watermark, 0));
        let at = self.place(device).unwrap_or_else(|at| at);
        // Its lower half is as random as the whole.
        let number = u64::try_from(fresh.0 & u128::from(u64::MAX)).unwrap_or_default();
        let cursor = Cursor { watermark, number, lost, ..Cursor::default() };
        self.0.reserve_exact(1);
        self.0.insert(at, (device.into(), cursor));
        at
    }

    /// These were removed, rising: whoever has not acked them has lost them.
    pub(crate) fn lose(&mut self, removed: &[u64]) {
        for (_, cursor) in &mut self.0 {
            let from = removed.partition_point(|offset| *offset <= cursor.watermark);
            let unacked = removed.iter().skip(from).filter(|offset| !cursor.is_acked(**offset));
            cursor.lost += u64::try_from(unacked.count()).unwrap_or(u64::MAX);
        }
    }

    /// The stream ends at this offset: what lies above it has not been yet.
    pub(crate) fn clamp(&mut self, head: u64) {
        for (_, cursor) in &mut self.0 {
            cursor.watermark = cursor.watermark.min(head);
            cursor.above.retain(|offset| *offset <= head);
        }
    }

    /// When [`Cursors::expire`] has something to do, in a room that is known until `meta_ms`. Units: milliseconds.
    pub(crate) fn due_ms(&self, meta_ms: u64) -> Option<u64> {
        self.0.iter().map(|(device, it)| ends_ms(device, it, meta_ms)).min()
    }

    /// Forgets cursors that were idle too long.
    pub(crate) fn expire(&mut self, now_ms: u64, meta_ms: u64) {
        self.0.retain(|(device, it)| ends_ms(device, it, meta_ms) > now_ms);
    }

    /// What they weigh. Units: bytes.
    pub(crate) fn weight(&self) -> u64 {
        let weights = self.0.iter().map(|(device, it)| {
            let above = u64::try_from(it.above.len()).unwrap_or(u64::MAX);
            CURSOR_BYTES + length(device) + ABOVE_BYTES * above
        });
        weights.sum()
    }
}

/// A device's goes when it was idle for its time; the user's own is kept while its room is known as well.
fn ends_ms(device: &str, cursor: &Cursor, meta_ms: u64) -> u64 {
    if device.is_empty() {
        cursor.moved_ms.saturating_add(USER_IDLE_MS).max(meta_ms)
    } else {
        cursor.moved_ms.saturating_add(DEVICE_IDLE_MS)
    }
}
