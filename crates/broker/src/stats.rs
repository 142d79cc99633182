//! Figures of a broker and of the relay, counted where things happen and read by whoever shows them.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use roomcast_protocol::relay::{ClusterTime, Unreadable};

/// Upper bounds of a [`Histogram`]'s buckets, but the last one, which has none. Units: microseconds.
pub const BOUNDS_US: [u64; 12] =
    [100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 500_000, 2_500_000];

/// Latencies by bucket. Any thread may add.
#[derive(Debug, Default)]
pub struct Histogram {
    buckets: [AtomicU64; BOUNDS_US.len() + 1],
    sum_us: AtomicU64,
}

impl Histogram {
    /// Adds one latency.
    pub fn observe(&self, us: u64) {
        let at = BOUNDS_US.iter().position(|bound| us <= *bound).unwrap_or(BOUNDS_US.len());
        if let Some(bucket) = self.buckets.get(at) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
        self.sum_us.fetch_add(us, Ordering::Relaxed);
    }

    /// How many latencies each bucket has, in the order of [`BOUNDS_US`] and then those above, and their sum in
    /// microseconds.
    pub fn read(&self) -> ([u64; BOUNDS_US.len() + 1], u64) {
        let counts = self.buckets.each_ref().map(|bucket| bucket.load(Ordering::Relaxed));
        (counts, self.sum_us.load(Ordering::Relaxed))
    }
}

/// What happened on the relay of one node.
#[derive(Debug, Default)]
pub struct RelayStats {
    /// Payloads that the feed's links brought for rooms.
    pub received: AtomicU64,
    /// Of these, for rooms that the node wants to hear.
    pub wanted: AtomicU64,
    /// Of these, for rooms that nobody here hears: not decoded.
    pub unwanted: AtomicU64,
    /// Wanted payloads that could not be read, by [`Unreadable`]'s order.
    pub unreadable: [AtomicU64; Unreadable::ALL.len()],
    /// Bytes that the feed's links brought.
    pub received_bytes: AtomicU64,
    /// Times that a link of the feed was connected, the first times included.
    pub links_connected: AtomicU64,
    /// Times that a link of the feed was lost.
    pub links_lost: AtomicU64,
    /// Times that the connection for commands was connected, the first time included.
    pub commands_connected: AtomicU64,
    /// Beats sent.
    pub beats_sent: AtomicU64,
    /// Beats that were answered in time.
    pub beats_answered: AtomicU64,
    /// Beats that came back over the feed.
    pub beats_heard: AtomicU64,
    /// From handing a publication over to the broker's answer.
    pub publish_us: Histogram,
    /// From a publication's acceptance by the broker's node to the last member's socket on one lane.
    pub delivery_us: Histogram,
    /// How far the broker's clock is ahead of this node's. Units: microseconds.
    ahead_us: AtomicI64,
}

impl RelayStats {
    /// What time it is in the cluster. Before the broker has told its time, this node's own.
    pub fn time(&self) -> ClusterTime {
        let ahead_us = self.ahead_us.load(Ordering::Relaxed);
        ClusterTime {
            now_us: unix_us().saturating_add_signed(ahead_us),
            ahead_ms: ahead_us / 1_000,
        }
    }

    /// The broker's clock showed `broker_us` at some moment of the last `within_us`. What was known before is moved no
    /// further than that proves: a slow answer proves little.
    pub fn set_time(&self, broker_us: u64, within_us: u64) {
        let least = i128::from(broker_us) - i128::from(unix_us());
        let known = i128::from(self.ahead_us.load(Ordering::Relaxed));
        let ahead = known.clamp(least, least + i128::from(within_us));
        self.ahead_us.store(i64::try_from(ahead).unwrap_or_default(), Ordering::Relaxed);
    }
}

/// Wall-clock time. Units: microseconds since the Unix epoch.
pub(crate) fn unix_us() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_latency_lands_in_the_first_bucket_that_holds_it() {
        let histogram = Histogram::default();
        for us in [0, 100, 101, 2_500_000, 2_500_001] {
            histogram.observe(us);
        }
        let (counts, sum_us) = histogram.read();
        assert_eq!((counts[0], counts[1], counts[11], counts[12], sum_us), (2, 1, 1, 1, 5_000_202));
    }

    #[test]
    fn the_clusters_time_is_the_brokers() {
        let stats = RelayStats::default();
        let own_us = stats.time().now_us;
        stats.set_time(own_us + 5_000_000, 0);
        let time = stats.time();
        assert!((4_900..5_100).contains(&time.ahead_ms), "{time:?}");
        assert!(time.now_us.abs_diff(own_us + 5_000_000) < 1_000_000);
    }

    #[test]
    fn a_slow_answer_does_not_move_the_clusters_time() {
        let stats = RelayStats::default();
        stats.set_time(unix_us() + 5_000_000, 1_000);
        // The broker looked at its clock right away; then the answer, or the node, was slow for 3 s.
        stats.set_time(unix_us() + 2_000_000, 3_000_000);
        assert!((4_900..5_100).contains(&stats.time().ahead_ms), "{:?}", stats.time());
        // Or it looked at the end of them.
        stats.set_time(unix_us() + 5_000_000, 3_000_000);
        assert!((4_900..5_100).contains(&stats.time().ahead_ms), "{:?}", stats.time());
        // Another master's clock.
        stats.set_time(unix_us() - 5_000_000, 3_000_000);
        assert!((-5_100..-1_900).contains(&stats.time().ahead_ms), "{:?}", stats.time());
    }
}
