//! How long a thread was in one turn, while all else on it had to wait: the longest of the last minute or two. Reads no
//! clock.

use std::cell::Cell;
use std::time::Duration;

/// How long a window is: the longest turn of this one and of the one before is shown. Units: milliseconds.
const WINDOW_MS: u64 = 60_000;

/// The longest turns of one thread.
#[derive(Debug, Default)]
pub(crate) struct Longest {
    window: Cell<u64>,
    now: Cell<Duration>,
    before: Cell<Duration>,
}

impl Longest {
    /// A turn has ended.
    pub(crate) fn note(&self, mono_ms: u64, took: Duration) {
        self.move_on(mono_ms);
        self.now.set(self.now.get().max(took));
    }

    /// The longest turn of the last minute or two. Units: milliseconds, rounded up.
    pub(crate) fn longest_ms(&self, mono_ms: u64) -> u64 {
        self.move_on(mono_ms);
        let longest = self.now.get().max(self.before.get());
        u64::try_from(longest.as_micros().div_ceil(1_000)).unwrap_or(u64::MAX)
    }

    fn move_on(&self, mono_ms: u64) {
        let window = mono_ms / WINDOW_MS;
        let held = self.window.replace(window);
        if window != held {
            let last = self.now.take();
            self.before.set(if window == held + 1 { last } else { Duration::ZERO });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_turn_is_shown_for_a_minute_and_no_longer_than_two() {
        let turns = Longest::default();
        turns.note(1_000, Duration::from_millis(7));
        turns.note(2_000, Duration::from_micros(250_001));
        turns.note(3_000, Duration::from_millis(9));
        assert_eq!(turns.longest_ms(59_999), 251);
        turns.note(60_000, Duration::from_millis(3));
        assert_eq!(turns.longest_ms(119_999), 251);
        assert_eq!(turns.longest_ms(120_000), 3);
        assert_eq!(turns.longest_ms(180_000), 0);
        turns.note(180_000, Duration::from_millis(5));
        assert_eq!(turns.longest_ms(300_000), 0, "a thread may have slept");
    }
}
