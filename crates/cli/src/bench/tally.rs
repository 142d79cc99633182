//! What was heard: loss, repeats and order for each member, and the latency of all. Pure.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;

/// One member's view of its room's sequence, from 1.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Track {
    /// The highest number heard.
    highest: u32,
    /// Bit n: whether `highest - n` was heard.
    heard: u64,
}

/// What one publication means for its member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    /// The next one, or one after a hole that may still be filled.
    New,
    /// One that comes after a higher one.
    Late,
    /// One that was heard before.
    Repeat,
}

impl Track {
    /// Of a member that has heard nothing.
    pub(crate) const fn new() -> Self {
        Self { highest: 0, heard: 1 }
    }

    /// Takes one publication in. Numbers more than 63 behind the highest count as repeats.
    pub(crate) fn take(&mut self, sequence: u32) -> Heard {
        if sequence > self.highest {
            let step = sequence - self.highest;
            self.heard = self.heard.checked_shl(step).unwrap_or(0) | 1;
            self.highest = sequence;
            return Heard::New;
        }
        let behind = self.highest - sequence;
        let bit = 1_u64.checked_shl(behind).unwrap_or(0);
        if bit == 0 || self.heard & bit != 0 {
            return Heard::Repeat;
        }
        self.heard |= bit;
        Heard::Late
    }
}

/// The sum over all members.
#[derive(Debug)]
pub(crate) struct Tally {
    /// Publications heard, repeats included.
    pub(crate) deliveries: u64,
    /// Publications heard, each once for each member.
    pub(crate) distinct: u64,
    /// Heard again.
    pub(crate) repeated: u64,
    /// Heard after a higher one.
    pub(crate) reordered: u64,
    /// Payload bytes of all deliveries, frame headers included.
    pub(crate) bytes: u64,
    /// Acks of the publisher's publications.
    pub(crate) acks: u64,
    /// Refusals by name.
    pub(crate) errors: BTreeMap<String, u64>,
    /// Other frames heard.
    pub(crate) others: u64,
    /// Pings answered.
    pub(crate) pings: u64,
    /// From the intended time. Units: microseconds.
    pub(crate) latency: Histogram<u64>,
}

/// Highest latency told apart. Units: microseconds.
const LATENCY_MAX_US: u64 = 60_000_000;

impl Tally {
    /// Nothing heard yet.
    pub(crate) fn new() -> Self {
        #[expect(clippy::expect_used, reason = "constant bounds that the library accepts")]
        let latency = Histogram::new_with_bounds(1, LATENCY_MAX_US, 3)
            .expect("1 is below half of the highest value and 3 digits are allowed");
        Self {
            deliveries: 0,
            distinct: 0,
            repeated: 0,
            reordered: 0,
            bytes: 0,
            acks: 0,
            errors: BTreeMap::new(),
            others: 0,
            pings: 0,
            latency,
        }
    }

    /// Counts one delivery.
    pub(crate) fn delivered(&mut self, heard: Heard, frame_bytes: usize, latency_ns: u64) {
        self.deliveries += 1;
        self.bytes += frame_bytes as u64;
        match heard {
            Heard::New => self.distinct += 1,
            Heard::Late => {
                self.distinct += 1;
                self.reordered += 1;
            }
            Heard::Repeat => self.repeated += 1,
        }
        self.latency.saturating_record(latency_ns / 1_000);
    }

    /// Counts one refusal.
    pub(crate) fn refused(&mut self, name: &str) {
        match self.errors.get_mut(name) {
            Some(count) => *count += 1,
            None => {
                self.errors.insert(name.to_owned(), 1);
            }
        }
    }

    /// Forgets the latencies so far, at the end of the warm-up.
    pub(crate) fn begin_measuring(&mut self) {
        self.latency.reset();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(sequences: &[u32], expected: &[Heard]) {
        let mut track = Track::new();
        let heard: Vec<_> = sequences.iter().map(|sequence| track.take(*sequence)).collect();
        assert_eq!(heard, expected, "{sequences:?}");
    }

    #[test]
    fn order_repeats_and_late_ones_are_told_apart() {
        use Heard::{Late, New, Repeat};
        check(&[1, 2, 3], &[New, New, New]);
        check(&[1, 1, 2, 1], &[New, Repeat, New, Repeat]);
        check(&[1, 3, 2, 2], &[New, New, Late, Repeat]);
        check(&[2, 1, 200, 199, 2], &[New, Late, New, Late, Repeat]);
    }

    #[test]
    fn a_hole_shows_as_less_distinct_than_sent() {
        let mut tally = Tally::new();
        let mut track = Track::new();
        for sequence in [1, 2, 4, 4] {
            tally.delivered(track.take(sequence), 204, 5_000_000);
        }
        assert_eq!((tally.deliveries, tally.distinct, tally.repeated), (4, 3, 1));
        assert_eq!(tally.latency.value_at_quantile(0.5), 5_003, "three digits are kept");
        tally.begin_measuring();
        assert_eq!(tally.latency.len(), 0);
    }

    #[test]
    fn refusals_are_counted_by_name() {
        let mut tally = Tally::new();
        for name in ["rate_limit", "limit", "rate_limit"] {
            tally.refused(name);
        }
        assert_eq!(tally.errors.get("rate_limit"), Some(&2));
    }
}
