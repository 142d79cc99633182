//! The breaker of a call: after so many failures in a row the back-end is left alone for a while, then one call is let
//! through to see whether it is back. Pure: time is an argument.

/// When whoever is refused while one call sees whether the back-end is back may try again. Units: milliseconds.
const TRIAL_RETRY_MS: u64 = 1_000;

/// One breaker.
#[derive(Debug)]
pub(super) struct Breaker {
    failures_max: u32,
    open_ms: u64,
    state: State,
    /// Rises whenever it opens or closes, so that a call that began before tells nothing.
    era: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Calls go through.
    Closed { failures: u32 },
    /// None goes through.
    Open { until_ms: u64 },
    /// One is under way, whose end decides.
    HalfOpen,
}

/// A call that was let through; its end has to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pass(u64);

impl Breaker {
    /// A closed one, which opens after `failures_max` failures in a row, for `open_ms`.
    pub(super) const fn new(failures_max: u32, open_ms: u64) -> Self {
        Self { failures_max, open_ms, state: State::Closed { failures: 0 }, era: 0 }
    }

    /// Whether calls are refused at the moment, and when to try again. Units: milliseconds from now.
    pub(super) const fn refuses(&self, mono_ms: u64) -> Option<u64> {
        match self.state {
            State::Closed { .. } => None,
            State::Open { until_ms } if mono_ms >= until_ms => None,
            State::Open { until_ms } => Some(until_ms - mono_ms),
            State::HalfOpen => Some(TRIAL_RETRY_MS),
        }
    }

    /// Whether it is open, or waits for the end of the one call that it let through.
    pub(super) const fn is_open(&self) -> bool {
        !matches!(self.state, State::Closed { .. })
    }

    /// Lets a call through.
    ///
    /// # Errors
    /// It is open; when to try again. Units: milliseconds from now.
    pub(super) const fn enter(&mut self, mono_ms: u64) -> Result<Pass, u64> {
        if let Some(retry_after_ms) = self.refuses(mono_ms) {
            return Err(retry_after_ms);
        }
        if let State::Open { .. } = self.state {
            self.state = State::HalfOpen;
            self.era += 1;
        }
        Ok(Pass(self.era))
    }

    /// A call that was let through has ended.
    pub(super) fn ended(&mut self, pass: Pass, succeeded: bool, mono_ms: u64) {
        if pass.0 != self.era {
            return;
        }
        match self.state {
            State::Closed { .. } | State::HalfOpen if succeeded => self.close(),
            State::Closed { failures } if failures + 1 < self.failures_max => {
                self.state = State::Closed { failures: failures + 1 };
            }
            State::Closed { .. } | State::HalfOpen => {
                self.state = State::Open { until_ms: mono_ms.saturating_add(self.open_ms) };
                self.era += 1;
            }
            State::Open { .. } => {}
        }
    }

    fn close(&mut self) {
        if self.state == State::HalfOpen {
            self.era += 1;
        }
        self.state = State::Closed { failures: 0 };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One that opens after 5 failures, for 60 s.
    fn breaker() -> Breaker {
        Breaker::new(5, 60_000)
    }

    fn fail(breaker: &mut Breaker, count: u32, mono_ms: u64) {
        for _ in 0..count {
            let pass = breaker.enter(mono_ms).unwrap();
            breaker.ended(pass, false, mono_ms);
        }
    }

    #[test]
    fn it_opens_after_so_many_failures_and_not_before() {
        let mut breaker = breaker();
        fail(&mut breaker, 4, 0);
        assert_eq!(breaker.refuses(0), None);
        fail(&mut breaker, 1, 0);
        assert_eq!(breaker.refuses(0), Some(60_000));
        assert_eq!(breaker.enter(59_999), Err(1));
    }

    #[test]
    fn only_failures_in_a_row_count() {
        let mut breaker = breaker();
        fail(&mut breaker, 4, 0);
        let pass = breaker.enter(0).unwrap();
        breaker.ended(pass, true, 0);
        fail(&mut breaker, 4, 0);
        assert_eq!(breaker.refuses(0), None);
    }

    #[test]
    fn half_open_lets_one_through_whose_end_decides() {
        let mut breaker = breaker();
        fail(&mut breaker, 5, 0);
        let trial = breaker.enter(60_000).unwrap();
        assert_eq!(breaker.enter(60_000), Err(TRIAL_RETRY_MS), "a second one");
        breaker.ended(trial, false, 60_500);
        assert_eq!(breaker.refuses(60_500), Some(60_000), "it is open for as long again");
        let trial = breaker.enter(120_500).unwrap();
        breaker.ended(trial, true, 120_500);
        fail(&mut breaker, 4, 120_500);
        assert_eq!(breaker.refuses(120_500), None, "closed, and failures are counted anew");
    }

    #[test]
    fn a_call_from_before_tells_nothing_of_now() {
        let mut breaker = breaker();
        let old = breaker.enter(0).unwrap();
        fail(&mut breaker, 5, 0);
        breaker.ended(old, true, 1);
        assert_eq!(breaker.refuses(1), Some(59_999), "a late success does not close it");
        let trial = breaker.enter(60_000).unwrap();
        breaker.ended(old, false, 60_000);
        breaker.ended(trial, true, 60_001);
        for _ in 0..5 {
            breaker.ended(old, false, 60_002);
        }
        assert_eq!(breaker.refuses(60_002), None, "late failures do not open it");
    }

    #[test]
    fn one_failure_is_enough_where_the_limit_is_one() {
        let mut breaker = Breaker::new(1, 10);
        fail(&mut breaker, 1, 0);
        assert_eq!(breaker.refuses(0), Some(10));
    }
}
