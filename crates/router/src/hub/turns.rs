//! Marks of one user in one conversation are carried out one after the other, as they were asked for: each knows then what
//! stands since the one before, and tells nobody of less. Knows nothing of marks.

use std::collections::{BTreeMap, VecDeque};

use roomcast_protocol::room::RoomName;

/// Whose turns they are: a conversation's, and one user's in it.
pub(super) type Line = (RoomName, Box<str>);

/// Who waits for a turn, by line. Bounds: what is under way at once.
#[derive(Debug, Default)]
pub(super) struct Turns {
    lines: BTreeMap<Line, VecDeque<u64>>,
}

impl Turns {
    /// Something is under way, behind what is there.
    pub(super) fn enter(&mut self, line: &Line, number: u64) {
        self.lines.entry(line.clone()).or_default().push_back(number);
    }

    /// Whether it is its turn.
    pub(super) fn is_first(&self, line: &Line, number: u64) -> bool {
        self.lines.get(line).and_then(VecDeque::front) == Some(&number)
    }

    /// It is over; says whose turn it is now, if it had its own.
    pub(super) fn leave(&mut self, line: &Line, number: u64) -> Option<u64> {
        let was_first = self.is_first(line, number);
        let waiting = self.lines.get_mut(line)?;
        waiting.retain(|it| *it != number);
        let next = waiting.front().copied();
        if next.is_none() {
            self.lines.remove(line);
        }
        next.filter(|_| was_first)
    }

    #[cfg(test)]
    pub(super) fn are_over(&self) -> bool {
        self.lines.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_has_its_turn_once_those_before_are_over() {
        let line = |user: &str| (RoomName::parse("dialog-a:b").unwrap(), user.into());
        let (ann, bob) = (line("ann"), line("bob"));
        let mut turns = Turns::default();
        for (line, number) in [(&ann, 1), (&ann, 2), (&bob, 3), (&ann, 4)] {
            turns.enter(line, number);
        }
        assert!(turns.is_first(&ann, 1) && turns.is_first(&bob, 3) && !turns.is_first(&ann, 2));
        assert_eq!(turns.leave(&ann, 2), None, "it had none yet");
        assert_eq!(turns.leave(&ann, 1), Some(4));
        assert_eq!(turns.leave(&ann, 1), None);
        assert_eq!((turns.leave(&ann, 4), turns.leave(&bob, 3)), (None, None));
        assert!(turns.are_over());
    }
}
