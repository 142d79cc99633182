//! The clock of a measurement: monotonic and the same for every process of the machine, so that a child's times can
//! be compared with ours.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// Times are kept in 48 bits, 78 hours, after which they begin anew.
const MASK: u64 = (1 << 48) - 1;

/// Now. Units: nanoseconds, modulo 2^48.
pub(crate) fn now_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    let nanos = u64::try_from(now.tv_nsec).unwrap_or(0);
    seconds.wrapping_mul(1_000_000_000).wrapping_add(nanos) & MASK
}

/// From `earlier` to `later`; 0 where `later` is before it.
pub(crate) const fn since_ns(earlier: u64, later: u64) -> u64 {
    let difference = later.wrapping_sub(earlier) & MASK;
    if difference > MASK / 2 { 0 } else { difference }
}

/// A time `after` a time.
pub(crate) fn add_ns(time: u64, after: Duration) -> u64 {
    time.wrapping_add(u64::try_from(after.as_nanos()).unwrap_or(u64::MAX)) & MASK
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_compared_also_where_they_begin_anew() {
        assert_eq!(since_ns(5, 7), 2);
        assert_eq!(since_ns(7, 5), 0);
        assert_eq!(since_ns(MASK, 1), 2);
        assert_eq!(add_ns(MASK, Duration::from_nanos(2)), 1);
        let before = now_ns();
        assert!(since_ns(before, now_ns()) < 1_000_000_000);
    }
}
