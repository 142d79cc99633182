//! What a run measured, as it is reported. Pure.

use std::collections::BTreeMap;

use serde::Serialize;

use super::proc::Cpu;
use super::tally::Tally;

/// One run of a job or of the bare loop.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Outcome {
    /// The job's name.
    pub(crate) job: String,
    /// Connections that were open.
    pub(crate) connections: u64,
    /// Publications sent while measuring.
    pub(crate) publications: u64,
    /// Frames heard by members while measuring.
    pub(crate) deliveries: u64,
    /// Units: seconds, first publication to last delivery.
    pub(crate) duration_s: f64,
    /// Units: deliveries per second.
    pub(crate) deliveries_per_s: f64,
    /// Mean size of a delivered frame on the wire. Units: bytes.
    pub(crate) frame_bytes: f64,
    /// From the intended time to the member's read.
    pub(crate) latency: Latency,
    /// Publications some member never heard, counted for each such member.
    pub(crate) lost: u64,
    /// Heard more than once.
    pub(crate) repeated: u64,
    /// Heard after a later one.
    pub(crate) reordered: u64,
    /// Acks of publications.
    pub(crate) acks: u64,
    /// Pings of the server, answered.
    pub(crate) pings: u64,
    /// Refusals by name.
    pub(crate) errors: BTreeMap<String, u64>,
    /// What the server's process cost; absent where its pid is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) server: Option<ServerCost>,
    /// What the publishers' node cost, where it is another.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) publishing: Option<ServerCost>,
    /// What the load generator itself cost. Units: microseconds of processor time per delivery.
    pub(crate) generator_us_per_delivery: f64,
}

/// Units: milliseconds, from the intended time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Latency {
    pub(crate) p50_ms: f64,
    pub(crate) p90_ms: f64,
    pub(crate) p99_ms: f64,
    pub(crate) p999_ms: f64,
    pub(crate) max_ms: f64,
}

/// What the server's process cost.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(crate) struct ServerCost {
    /// Units: microseconds of processor time per delivered frame.
    pub(crate) us_per_delivery: f64,
    /// Units: microseconds of processor time per publication.
    pub(crate) us_per_publication: f64,
    /// Units: percent of one processor while measuring.
    pub(crate) cpu_percent: f64,
    /// Units: microseconds of processor time per connection, for handshake, token and joins.
    pub(crate) connect_us: f64,
    /// Growth of anonymous resident memory per connection. Units: bytes.
    pub(crate) rss_bytes_per_connection: f64,
    /// By thread name. Units: milliseconds of processor time while measuring.
    pub(crate) threads_ms: BTreeMap<String, f64>,
}

/// The raw numbers of the measured part of a run.
#[derive(Debug)]
pub(crate) struct Measured<'a> {
    pub(crate) job: &'a str,
    pub(crate) connections: u64,
    pub(crate) publications: u64,
    /// Deliveries and bytes while measuring.
    pub(crate) deliveries: u64,
    pub(crate) bytes: u64,
    pub(crate) duration_s: f64,
    /// Over the whole run: what should have been heard, each once for each member.
    pub(crate) expected: u64,
    pub(crate) tally: &'a Tally,
    pub(crate) server: Option<Cpu>,
    /// Of the publishers' node, where it is another.
    pub(crate) publishing: Option<Cpu>,
    pub(crate) generator: Cpu,
}

impl Outcome {
    /// Works the figures out; those of connecting are added by whoever measured them.
    pub(crate) fn new(measured: &Measured<'_>) -> Self {
        let tally = measured.tally;
        let at = |quantile| ratio(tally.latency.value_at_quantile(quantile), 1_000);
        Self {
            job: measured.job.to_owned(),
            connections: measured.connections,
            publications: measured.publications,
            deliveries: measured.deliveries,
            duration_s: measured.duration_s,
            deliveries_per_s: per(to_f64(measured.deliveries), measured.duration_s),
            frame_bytes: ratio(measured.bytes, measured.deliveries),
            latency: Latency {
                p50_ms: at(0.5),
                p90_ms: at(0.9),
                p99_ms: at(0.99),
                p999_ms: at(0.999),
                max_ms: ratio(tally.latency.max(), 1_000),
            },
            lost: measured.expected.saturating_sub(tally.distinct),
            repeated: tally.repeated,
            reordered: tally.reordered,
            acks: tally.acks,
            pings: tally.pings,
            errors: tally.errors.clone(),
            server: measured.server.as_ref().map(|cpu| cost(cpu, measured)),
            publishing: measured.publishing.as_ref().map(|cpu| cost(cpu, measured)),
            generator_us_per_delivery: ratio(measured.generator.total_ns, measured.deliveries)
                / 1_000.0,
        }
    }

    /// Whether every member heard every publication exactly once, in order, and nothing was refused.
    pub(crate) fn is_clean(&self) -> bool {
        self.lost == 0 && self.repeated == 0 && self.reordered == 0 && self.errors.is_empty()
    }
}

fn cost(cpu: &Cpu, measured: &Measured<'_>) -> ServerCost {
    let threads = cpu.threads.iter().map(|(name, ns)| (name.clone(), ratio(*ns, 1_000_000)));
    ServerCost {
        us_per_delivery: ratio(cpu.total_ns, measured.deliveries) / 1_000.0,
        us_per_publication: ratio(cpu.total_ns, measured.publications) / 1_000.0,
        cpu_percent: per(to_f64(cpu.total_ns) / 1e7, measured.duration_s),
        connect_us: 0.0,
        rss_bytes_per_connection: 0.0,
        threads_ms: threads.collect(),
    }
}

/// `part` for each of `whole`; 0 where there is none.
pub(crate) fn ratio(part: u64, whole: u64) -> f64 {
    per(to_f64(part), to_f64(whole))
}

fn per(part: f64, whole: f64) -> f64 {
    if whole > 0.0 { part / whole } else { 0.0 }
}

/// As a floating-point number.
#[expect(clippy::cast_precision_loss, reason = "53 bits are plenty for a figure that is shown")]
pub(crate) fn to_f64(number: u64) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::tally::Track;

    #[test]
    fn costs_are_per_delivery_and_losses_per_member() {
        let mut tally = Tally::new();
        let mut track = Track::new();
        for sequence in [1, 2, 4] {
            tally.delivered(track.take(sequence), 204, 2_000_000);
        }
        let server = Cpu { total_ns: 30_000, threads: BTreeMap::from([("lane".into(), 30_000)]) };
        let outcome = Outcome::new(&Measured {
            job: "x",
            connections: 1,
            publications: 4,
            deliveries: 3,
            bytes: 612,
            duration_s: 2.0,
            expected: 4,
            tally: &tally,
            server: Some(server),
            publishing: None,
            generator: Cpu::default(),
        });
        let cost = outcome.server.as_ref().unwrap();
        assert!((cost.us_per_delivery - 10.0).abs() < 1e-9, "{cost:?}");
        assert!((cost.us_per_publication - 7.5).abs() < 1e-9, "{cost:?}");
        assert!((outcome.frame_bytes - 204.0).abs() < 1e-9, "{outcome:?}");
        assert_eq!((outcome.lost, outcome.is_clean()), (1, false));
    }

    #[test]
    fn nothing_measured_is_zero_and_no_division_by_it() {
        assert_eq!(ratio(5, 0).to_bits(), 0);
        assert_eq!(per(5.0, 0.0).to_bits(), 0);
    }
}
