//! When to come back: the seed's growing delays, with full jitter so that clients do not come in step.

use std::time::Duration;

/// Delays between attempts. Source: native seed, "Automatic Reconnection" (1 s, ×1.5, at most 30 s).
#[derive(Clone, Debug)]
pub struct Backoff {
    first: Duration,
    most: Duration,
    factor: f64,
    attempts: u32,
}

impl Default for Backoff {
    fn default() -> Self {
        Self {
            first: Duration::from_secs(1),
            most: Duration::from_secs(30),
            factor: 1.5,
            attempts: 0,
        }
    }
}

impl Backoff {
    /// Delays that grow by `factor` from `first` to `most`.
    #[must_use]
    pub const fn new(first: Duration, factor: f64, most: Duration) -> Self {
        Self { first, most, factor, attempts: 0 }
    }

    /// The next delay: anything from zero to the attempt's bound, by `random` from 0 to 1.
    pub fn next_delay(&mut self, random: f64) -> Duration {
        let bound = self.bound();
        self.attempts = self.attempts.saturating_add(1);
        bound.mul_f64(random.clamp(0.0, 1.0))
    }

    /// The longest the next delay may be.
    #[must_use]
    pub fn bound(&self) -> Duration {
        // 64 steps of ×1.5 are far beyond any bound; more would overflow.
        let steps = i32::try_from(self.attempts.min(64)).unwrap_or(64);
        let bound = self.first.as_secs_f64() * self.factor.powi(steps);
        Duration::from_secs_f64(bound.min(self.most.as_secs_f64()))
    }

    /// Attempts since the last success.
    #[must_use]
    pub const fn attempts(&self) -> u32 {
        self.attempts
    }

    /// Begins anew, after a success.
    pub const fn reset(&mut self) {
        self.attempts = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_grow_from_one_second_to_thirty_and_begin_anew() {
        let mut backoff = Backoff::default();
        let bounds: Vec<_> = (0..12).map(|_| backoff.next_delay(1.0).as_millis()).collect();
        assert_eq!(bounds[..4], [1_000, 1_500, 2_250, 3_375]);
        assert_eq!(bounds[11], 30_000);
        assert_eq!(backoff.attempts(), 12);
        backoff.reset();
        assert_eq!(backoff.next_delay(0.5), Duration::from_millis(500));
    }

    #[test]
    fn a_thousand_attempts_do_not_overflow() {
        let mut backoff = Backoff::default();
        for _ in 0..1_000 {
            assert!(backoff.next_delay(1.0) <= Duration::from_secs(30));
        }
    }
}
