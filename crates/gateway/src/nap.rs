//! When the core thread naps before it waits: being woken costs more than one publication does, so where many come
//! they are taken several at a time. Judges by counts alone; the nap itself is [`Naps::before_waiting`].
//!
//! Source: decision 11.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long a nap is.
const NAP: Duration = Duration::from_micros(1_500);

/// Over which time waits are counted.
const WINDOW: Duration = Duration::from_millis(10);

/// Waits within a window from which on the thread naps.
const OFTEN: u32 = 10;

/// Items that each nap must bring in the mean. A client that sends its next publication when it hears of its last one
/// brings fewer, and would only be slowed down.
const PAYS: u64 = 3;

/// How long after naps that did not pay none is tried.
const AGAIN: Duration = Duration::from_millis(500);

/// Looks after one thread.
#[derive(Debug)]
pub(crate) struct Naps(Mutex<Judge>);

#[derive(Debug)]
struct Judge {
    /// When the window began, and how many items had come by then.
    began: Instant,
    items: u64,
    waits: u32,
    naps: bool,
    not_before: Instant,
}

impl Naps {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(Judge::new(Instant::now())))
    }

    /// The thread has nothing to do; `items` have come so far.
    pub(crate) fn before_waiting(&self, items: u64) {
        let mut judge = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let naps = judge.waits(Instant::now(), items);
        drop(judge);
        if naps {
            std::thread::sleep(NAP);
        }
    }
}

impl Judge {
    const fn new(now: Instant) -> Self {
        Self { began: now, items: 0, waits: 0, naps: false, not_before: now }
    }

    /// Whether to nap before this wait.
    fn waits(&mut self, now: Instant, items: u64) -> bool {
        self.waits += 1;
        let elapsed = now.duration_since(self.began);
        if elapsed >= WINDOW {
            let came = items.saturating_sub(self.items);
            if self.naps {
                // Behind a wait that was longer than the window, nothing is known yet.
                self.naps = elapsed < 2 * WINDOW && came >= PAYS * u64::from(self.waits);
                if !self.naps {
                    self.not_before = now + AGAIN;
                }
            } else {
                let often = elapsed < 2 * WINDOW && self.waits >= OFTEN;
                self.naps = often && now >= self.not_before;
            }
            (self.began, self.items, self.waits) = (now, items, 0);
        }
        self.naps
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lets a thread wait every `every` with `items` each time, for `lasting`; says how often it naps.
    fn naps(judge: &mut Judge, from: Instant, every: Duration, items: u64, times: u32) -> u32 {
        let mut naps = 0;
        let before = judge.items;
        for time in 1..=times {
            let now = from + every * time;
            naps += u32::from(judge.waits(now, before + items * u64::from(time)));
        }
        naps
    }

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_thread_that_is_woken_seldom_never_naps() {
        let now = Instant::now();
        assert_eq!(naps(&mut Judge::new(now), now, 2 * MS, 100, 1_000), 0);
        assert_eq!(naps(&mut Judge::new(now), now, 250 * MS, 100, 1_000), 0);
    }

    #[test]
    fn a_thread_that_is_woken_often_naps_while_that_pays() {
        let now = Instant::now();
        let mut judge = Judge::new(now);
        assert!(naps(&mut judge, now, MS, PAYS, 1_000) > 950);
        let later = now + Duration::from_secs(2);
        assert_eq!(naps(&mut judge, later, 250 * MS, 1, 10), 0, "it became quiet");
    }

    #[test]
    fn one_who_waits_for_each_answer_is_seldom_held_up() {
        let now = Instant::now();
        let napped = naps(&mut Judge::new(now), now, MS, PAYS - 1, 10_000);
        assert!((1..=400).contains(&napped), "{napped} of 10,000");
    }
}
