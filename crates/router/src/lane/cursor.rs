//! How far a device has acked an inbox (G16), as one of its sessions knows it: all up to a watermark, and ranges above
//! it. Knows nothing of members, frames and brokers.

use roomcast_protocol::inbox::{ACKED_ABOVE_MAX, Acked};
use roomcast_protocol::position::{Epoch, Position};

/// Ranges that a cursor keeps. What would be acked beyond them is given once more, on the next connect.
pub(super) const RANGES_MAX: usize = 1_024;

/// Offsets as ranges, both ends included: rising, and with a hole between any two. None, mostly: they pay 8 bytes for it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[allow(clippy::box_collection, reason = "most cursors have none")]
struct Ranges(Option<Box<Vec<(u64, u64)>>>);

impl Ranges {
    fn list(&self) -> &[(u64, u64)] {
        self.0.as_ref().map_or(&[], |list| list)
    }

    /// Changes them, and gives memory back once there are none.
    fn edit<R>(&mut self, act: impl FnOnce(&mut Vec<(u64, u64)>) -> R) -> R {
        let list = self.0.get_or_insert_default();
        let result = act(list);
        if list.is_empty() {
            self.0 = None;
        }
        result
    }

    /// Adds `from` to `to`; nothing where that is no range.
    fn insert(&mut self, from: u64, to: u64) {
        if from > to {
            return;
        }
        let list = self.list();
        let start = list.partition_point(|range| range.1.saturating_add(1) < from);
        let end = list.partition_point(|range| range.0 <= to.saturating_add(1));
        let touched = list.get(start..end).unwrap_or_default();
        let low = touched.first().map_or(from, |range| range.0.min(from));
        let high = touched.last().map_or(to, |range| range.1.max(to));
        self.edit(|list| drop(list.splice(start..end, [(low, high)])));
    }

    fn remove(&mut self, offset: u64) {
        let at = self.list().partition_point(|range| range.1 < offset);
        let Some(&(from, to)) = self.list().get(at).filter(|range| range.0 <= offset) else {
            return;
        };
        let below = (from < offset).then(|| (from, offset - 1));
        let above = (offset < to).then(|| (offset + 1, to));
        self.edit(|list| drop(list.splice(at..=at, below.into_iter().chain(above))));
    }

    /// Forgets all up to `offset`.
    fn cut_up_to(&mut self, offset: u64) {
        if self.list().is_empty() {
            return;
        }
        self.edit(|list| {
            list.retain(|range| range.1 > offset);
            if let Some(first) = list.first_mut() {
                first.0 = first.0.max(offset + 1);
            }
        });
    }
}

/// How far a device has acked an inbox.
#[derive(Clone, Debug)]
pub(super) struct Cursor {
    epoch: Epoch,
    /// All up to it are acked.
    watermark: u64,
    /// Acked above it. Bounds: [`RANGES_MAX`].
    acked: Ranges,
    /// All up to it that was given has certainly arrived.
    got: u64,
    /// Above that: what is not acked by arriving, because it waits for its ack or was never given. Bounds:
    /// [`RANGES_MAX`]; beyond them what lies between two of them counts as well.
    open: Ranges,
    /// Something was acked that has not been reported.
    moved: bool,
}

impl Cursor {
    /// One that has acked all up to `watermark`, and these `above` it.
    pub(super) fn new(watermark: Position, above: impl IntoIterator<Item = u64>) -> Self {
        let mut cursor = Self::unknown(watermark);
        cursor.watermark = watermark.offset;
        for offset in above {
            cursor.ack(offset);
        }
        cursor.moved = false;
        cursor
    }

    /// One of which nobody knows what it has acked up to `position`.
    pub(super) fn unknown(position: Position) -> Self {
        Self {
            epoch: position.epoch,
            watermark: 0,
            acked: Ranges::default(),
            got: position.offset,
            open: Ranges::default(),
            moved: false,
        }
    }

    /// What stands there was given, and waits for its ack.
    pub(super) fn wait_for(&mut self, offset: u64) {
        self.leave_open(offset, offset);
    }

    /// What stands there will not have been given: it stays to be given on the next connect.
    pub(super) fn leave_open(&mut self, from: u64, to: u64) {
        self.open.insert(from.max(self.got + 1), to);
        self.open.edit(|open| {
            if open.len() > RANGES_MAX
                && let Some((_, to)) = open.pop()
                && let Some(last) = open.last_mut()
            {
                last.1 = to;
            }
        });
    }

    /// All that was given up to `position` has arrived.
    pub(super) fn arrived(&mut self, position: Position) {
        let (mut from, offset) = (self.got + 1, position.offset);
        if position.epoch != self.epoch || offset < from {
            return;
        }
        for (open_from, open_to) in self.open.list().to_vec() {
            if open_from > offset {
                break;
            }
            self.mark(from, open_from - 1);
            from = open_to + 1;
        }
        self.mark(from, offset);
        self.open.cut_up_to(offset);
        self.got = offset;
    }

    /// The client acked what stands there.
    pub(super) fn ack(&mut self, offset: u64) {
        self.open.remove(offset);
        self.mark(offset, offset);
    }

    /// Up to where nothing is missing of what stands up to `safe`, when all of that which was given has arrived.
    pub(super) fn whole_run(&self, safe: Position) -> Position {
        let open = self.open.list().first().map_or(u64::MAX, |range| range.0.saturating_sub(1));
        let whole = if self.watermark < self.got { self.watermark } else { open };
        if self.epoch == safe.epoch { safe.at(safe.offset.min(whole)) } else { safe }
    }

    /// Its offsets are those of this epoch.
    pub(super) const fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Nothing up to `offset` is kept any more.
    pub(super) fn removed(&mut self, offset: u64) {
        self.open.cut_up_to(offset);
        self.mark(self.watermark + 1, offset);
        self.got = self.got.max(offset);
    }

    fn mark(&mut self, from: u64, to: u64) {
        let from = from.max(self.watermark + 1);
        if from > to {
            return;
        }
        self.moved = true;
        if from == self.watermark + 1 && self.acked.list().is_empty() {
            self.watermark = to;
            return;
        }
        self.acked.insert(from, to);
        let swallowed = self.acked.list().first().filter(|(first, _)| *first == self.watermark + 1);
        let swallowed = swallowed.map(|(_, last)| *last);
        self.acked.edit(|acked| {
            if swallowed.is_some() {
                acked.remove(0);
            }
            acked.truncate(RANGES_MAX);
        });
        self.watermark = swallowed.unwrap_or(self.watermark);
    }

    /// Whether something was acked since the last report.
    pub(super) const fn has_moved(&self) -> bool {
        self.moved
    }

    /// What the broker is told.
    pub(super) fn report(&mut self) -> Acked {
        self.moved = false;
        let above = self.acked.list().iter().flat_map(|range| range.0..=range.1);
        Acked {
            watermark: Position { epoch: self.epoch, offset: self.watermark },
            above: above.take(ACKED_ABOVE_MAX).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::random::Random;

    const fn at(offset: u64) -> Position {
        Position { epoch: Epoch(1), offset }
    }

    fn report(cursor: &mut Cursor) -> (u64, Vec<u64>) {
        let acked = cursor.report();
        (acked.watermark.offset, acked.above)
    }

    #[test]
    fn what_was_never_given_ends_what_is_whole() {
        let mut cursor = Cursor::new(at(5), []);
        assert_eq!(cursor.whole_run(at(9)), at(9), "it may have arrived for all the cursor knows");
        cursor.leave_open(7, 8);
        assert_eq!(cursor.whole_run(at(9)), at(6));
        cursor.arrived(at(10));
        assert_eq!(cursor.whole_run(at(10)), at(6));
        cursor.ack(7);
        assert_eq!(cursor.whole_run(at(10)), at(7));
        cursor.ack(8);
        assert_eq!(cursor.whole_run(at(10)), at(10));
        assert_eq!(cursor.whole_run(at(4)), at(4));
        let elsewhere = Position { epoch: Epoch(2), offset: 9 };
        assert_eq!(Cursor::unknown(at(3)).whole_run(elsewhere), elsewhere);
        assert_eq!(
            Cursor::unknown(at(3)).whole_run(at(9)),
            at(0),
            "nobody knows what it has acked"
        );
    }

    #[test]
    fn what_arrived_is_acked_but_for_what_waits_for_its_ack() {
        let mut cursor = Cursor::new(at(5), [8]);
        assert!(!cursor.has_moved());
        cursor.wait_for(7);
        cursor.arrived(at(10));
        assert!(cursor.has_moved());
        assert_eq!(report(&mut cursor), (6, vec![8, 9, 10]));
        assert!(!cursor.has_moved());
        cursor.ack(7);
        assert_eq!(report(&mut cursor), (10, vec![]));
        cursor.arrived(at(9));
        cursor.ack(3);
        assert!(!cursor.has_moved());
    }

    #[test]
    fn an_ack_counts_before_what_arrived_is_known() {
        let mut cursor = Cursor::new(at(5), []);
        cursor.wait_for(6);
        cursor.wait_for(8);
        cursor.ack(8);
        assert_eq!(report(&mut cursor), (5, vec![8]));
        cursor.ack(6);
        assert_eq!(report(&mut cursor), (6, vec![8]));
        cursor.arrived(at(8));
        assert_eq!(report(&mut cursor), (8, vec![]));
    }

    #[test]
    fn what_was_lost_on_the_way_stays_to_be_given() {
        let mut cursor = Cursor::new(at(5), []);
        cursor.leave_open(7, 8);
        cursor.arrived(at(10));
        assert_eq!(report(&mut cursor), (6, vec![9, 10]));
    }

    #[test]
    fn what_is_not_kept_any_more_holds_nothing_up() {
        let mut cursor = Cursor::new(at(5), [10]);
        cursor.wait_for(7);
        cursor.removed(9);
        assert_eq!(report(&mut cursor), (10, vec![]));
        cursor.arrived(at(11));
        assert_eq!(report(&mut cursor), (11, vec![]));
    }

    #[test]
    fn what_nobody_knows_is_not_acked() {
        let mut cursor = Cursor::unknown(at(5));
        cursor.arrived(at(7));
        assert_eq!(report(&mut cursor), (0, vec![6, 7]));
    }

    #[test]
    fn a_report_names_the_lowest_up_to_its_bound() {
        for more in [0, 1] {
            let count = ACKED_ABOVE_MAX as u64 + more;
            let mut cursor = Cursor::new(at(0), []);
            cursor.wait_for(1);
            cursor.arrived(at(1 + count));
            let (watermark, above) = report(&mut cursor);
            assert_eq!((watermark, above.len()), (0, ACKED_ABOVE_MAX));
            assert_eq!((above[0], above[ACKED_ABOVE_MAX - 1]), (2, ACKED_ABOVE_MAX as u64 + 1));
        }
    }

    #[test]
    fn ranges_beyond_their_bound_are_given_once_more() {
        let mut cursor = Cursor::new(at(0), []);
        for index in 0..=RANGES_MAX as u64 {
            cursor.ack(2 + 2 * index);
        }
        assert_eq!(cursor.acked.list().len(), RANGES_MAX);
        let last = 2 * RANGES_MAX as u64;
        assert_eq!(cursor.acked.list().last(), Some(&(last, last)));
        let mut cursor = Cursor::new(at(0), []);
        for index in 0..=RANGES_MAX as u64 {
            cursor.wait_for(2 + 2 * index);
        }
        assert_eq!(cursor.open.list().len(), RANGES_MAX);
        assert_eq!(cursor.open.list().last(), Some(&(last, last + 2)));
    }

    #[test]
    fn whatever_comes_when_nothing_is_acked_that_was_not() {
        for seed in 0..500 {
            let mut random = Random(seed);
            let mut cursor = Cursor::new(at(0), []);
            let (mut given, mut got) = (0_u64, 0_u64);
            let (mut open, mut acked) = (BTreeSet::new(), BTreeSet::new());
            for _ in 0..200 {
                match random.below(6) {
                    0 | 1 => given += 1,
                    2 => {
                        given += 1;
                        open.insert(given);
                        cursor.wait_for(given);
                    }
                    3 => {
                        let to = given + 1 + u64::try_from(random.below(3)).unwrap();
                        open.extend(given + 1..=to);
                        cursor.leave_open(given + 1, to);
                        given = to;
                    }
                    4 => {
                        if let Some(offset) = open.iter().next().copied().filter(|_| given > 0) {
                            open.remove(&offset);
                            acked.insert(offset);
                            cursor.ack(offset);
                        }
                    }
                    _ => {
                        acked.extend((got + 1..=given).filter(|offset| !open.contains(offset)));
                        got = given;
                        cursor.arrived(at(got));
                    }
                }
                let (watermark, above) = report(&mut cursor);
                let run = (1..).take_while(|offset| acked.contains(offset)).count() as u64;
                assert_eq!(watermark, run, "seed {seed}");
                let expected: Vec<_> = acked.range(run + 1..).copied().collect();
                assert_eq!(above, expected, "seed {seed}");
            }
        }
    }
}
