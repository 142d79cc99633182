//! Which publications are under way to Redis at once: so many of a kind, the others wait in order, as small as they came.
//! One that is under way weighs some 8 KiB whatever its size, so bytes alone would bound nothing.

use std::collections::VecDeque;

/// Publications of one kind under way at once.
pub(crate) const UNDER_WAY_MAX: usize = 2_048;

/// The publications of one kind.
#[derive(Debug)]
pub(crate) struct Turns<O> {
    waiting: VecDeque<O>,
    under_way: usize,
}

impl<O> Turns<O> {
    /// None so far.
    pub(crate) const fn new() -> Self {
        Self { waiting: VecDeque::new(), under_way: 0 }
    }

    /// One more waits.
    pub(crate) fn push(&mut self, order: O) {
        self.waiting.push_back(order);
    }

    /// The one that has waited longest, if it may begin.
    pub(crate) fn begin(&mut self) -> Option<O> {
        if self.under_way == UNDER_WAY_MAX {
            return None;
        }
        let order = self.waiting.pop_front()?;
        if self.waiting.is_empty() && self.waiting.capacity() > UNDER_WAY_MAX {
            self.waiting = VecDeque::new();
        }
        self.under_way += 1;
        Some(order)
    }

    /// One of those that began has ended.
    pub(crate) const fn end(&mut self) {
        self.under_way -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_are_under_way_and_the_next_waits_for_one_to_end() {
        let mut turns = Turns::new();
        for order in 0..=UNDER_WAY_MAX {
            turns.push(order);
        }
        let begun: Vec<_> = std::iter::from_fn(|| turns.begin()).collect();
        assert_eq!(begun, (0..UNDER_WAY_MAX).collect::<Vec<_>>());
        turns.end();
        assert_eq!(turns.begin(), Some(UNDER_WAY_MAX));
        assert_eq!(turns.begin(), None);
    }
}
