//! Latencies, as Prometheus' histograms: counted by whoever measures them, read at the scrape.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use prometheus::core::{Collector, Desc};
use prometheus::proto;
use roomcast_broker::RelayStats;
use roomcast_broker::stats::{BOUNDS_US, Histogram};

const US_PER_S: f64 = 1e6;

/// Where latencies are counted, on any thread.
#[derive(Debug, Default)]
pub(crate) struct Latencies {
    /// The broker's figures, its latencies among them.
    pub(crate) relay: Arc<RelayStats>,
    /// From accepting a socket to its upgrade.
    pub(crate) handshake: Histogram,
}

/// One histogram as a collector.
pub(super) struct Shown {
    desc: Desc,
    latencies: Arc<Latencies>,
    read: fn(&Latencies) -> &Histogram,
}

impl fmt::Debug for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shown").field("desc", &self.desc).finish_non_exhaustive()
    }
}

impl Shown {
    pub(super) fn new(
        (name, meaning): (&str, &str),
        latencies: &Arc<Latencies>,
        read: fn(&Latencies) -> &Histogram,
    ) -> Result<Self, prometheus::Error> {
        let desc = Desc::new(name.to_owned(), meaning.to_owned(), Vec::new(), HashMap::new())?;
        Ok(Self { desc, latencies: Arc::clone(latencies), read })
    }
}

impl Collector for Shown {
    fn desc(&self) -> Vec<&Desc> {
        vec![&self.desc]
    }

    fn collect(&self) -> Vec<proto::MetricFamily> {
        let (counts, sum_us) = (self.read)(&self.latencies).read();
        let mut so_far = 0;
        // The last one, without a bound, is added by the encoder.
        let buckets = BOUNDS_US.into_iter().zip(counts).map(|(bound_us, count)| {
            so_far += count;
            let mut bucket = proto::Bucket::default();
            bucket.set_upper_bound(seconds(bound_us));
            bucket.set_cumulative_count(so_far);
            bucket
        });
        let mut histogram = proto::Histogram::default();
        histogram.set_bucket(buckets.collect());
        histogram.set_sample_count(counts.iter().sum());
        histogram.set_sample_sum(seconds(sum_us));
        let mut metric = proto::Metric::default();
        metric.set_histogram(histogram);
        let mut family = proto::MetricFamily::default();
        family.set_name(self.desc.fq_name.clone());
        family.set_help(self.desc.help.clone());
        family.set_field_type(proto::MetricType::HISTOGRAM);
        family.set_metric(vec![metric]);
        vec![family]
    }
}

/// Beyond 2^53 the last digits are lost, which nobody sees.
#[allow(clippy::cast_precision_loss, reason = "285 years of microseconds fit exactly")]
fn seconds(us: u64) -> f64 {
    us as f64 / US_PER_S
}
