//! `[drain]`: how the node lets its clients go before it ends.

use super::raw::RawDrain;
use super::read::Reader;

/// `[drain]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DrainConfig {
    /// Over how long clients have their turns. Units: milliseconds.
    pub window_ms: u64,
    /// Clients that have their turn in one second; with more of them the window grows.
    pub rate: u32,
    /// When whoever is left is closed at once. Units: milliseconds.
    pub deadline_ms: u64,
}

/// Windows and deadlines. Units: milliseconds.
const TIMES: std::ops::RangeInclusive<u64> = 100..=3_600_000;

pub(super) fn drain(raw: &RawDrain, r: &mut Reader<'_>) -> DrainConfig {
    let before = r.problems.len();
    let window_ms = r.time("drain.window", &raw.window, TIMES);
    let rate = r.count("drain.rate", &raw.rate, 1..=1_000_000);
    let deadline_ms = r.time("drain.deadline", &raw.deadline, TIMES);
    if window_ms > deadline_ms && r.problems.len() == before {
        let mend = "shorten it, or lengthen drain.deadline";
        r.problem("drain.window", format!("is longer than drain.deadline; {mend}"));
    }
    DrainConfig { window_ms, rate: u32::try_from(rate).unwrap_or(u32::MAX), deadline_ms }
}
