//! `roomcast bench bars`: the product against the bare loop and against fixed bars, alternating in one call, medians.
//!
//! Source: performance, "Bars".

use std::time::Duration;

use clap::Args;
use serde::Serialize;

use super::floor::{self, Floor};
use super::outcome::Outcome;
use super::plan::{DURATION, JobName, Plan};
use super::report::{Table, verdict};
use super::stage::Stage;
use crate::failure::Failure;
use crate::output;
use crate::units;

/// Beyond its bar by this factor, a job still counts as near.
const NEAR: f64 = 1.3;

/// Before each floor run.
const WARMUP: Duration = Duration::from_secs(1);

/// Time for the machine to settle after thousands of sockets were closed.
const REST: Duration = Duration::from_millis(300);

/// `bench bars`.
#[derive(Args, Debug)]
pub(crate) struct Bars {
    /// Only these jobs, separated by commas
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<JobName>,
    /// Runs of each; the median counts
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=99))]
    runs: u32,
    /// How long each run measures
    #[arg(long, value_parser = units::duration)]
    duration: Option<Duration>,
}

/// What a job is measured by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Figure {
    UsPerDelivery,
    UsPerPublication,
    /// Of the node that publishers are connected to, where it is another.
    PublishingUs,
    UsPerConnect,
    RssPerConnection,
    P99Ms,
    /// Time that passes per publication.
    WallUs,
}

/// One bar of a job.
#[derive(Clone, Debug)]
struct Bar {
    name: &'static str,
    figure: Figure,
    /// How much of the floor, and how much besides in the figure's own unit.
    limit: (f64, f64),
    unit: &'static str,
}

impl Bar {
    const fn of_floor(name: &'static str, figure: Figure, factor: f64, unit: &'static str) -> Self {
        Self { name, figure, limit: (factor, 0.0), unit }
    }

    const fn fixed(name: &'static str, figure: Figure, bar: f64, unit: &'static str) -> Self {
        Self { name, figure, limit: (0.0, bar), unit }
    }

    /// The bar as it is told.
    fn told(&self) -> String {
        let (factor, more) = self.limit;
        if factor <= 0.0 {
            digits(more)
        } else if more <= 0.0 {
            format!("{} ×", digits(factor))
        } else {
            format!("{factor} × + {more}")
        }
    }
}

/// What a job is compared with.
#[derive(Clone, Debug)]
enum Reference {
    Floor(Floor),
    /// For its latency only.
    Latency,
    /// The same job done by a bare program.
    Bare,
    Nothing,
}

/// One line of the result.
#[derive(Clone, Debug, Serialize)]
struct Row {
    bar: &'static str,
    unit: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    floor: Option<f64>,
    product: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    ratio: Option<f64>,
    limit: String,
    /// Share of the bar that is used; 1 is just within it.
    of_bar: f64,
    p99_ms: f64,
    result: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    faults: Vec<String>,
}

/// All runs of a job.
#[derive(Debug, Default, Serialize)]
struct Runs {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    floor: Vec<Outcome>,
    /// What the job's latency is compared with.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    paced: Vec<Outcome>,
    product: Vec<Outcome>,
}

fn reference(job: JobName) -> Reference {
    match job {
        JobName::Paced | JobName::Burst => Reference::Floor(Floor::paced(1_000, 20.0)),
        JobName::Big => Reference::Floor(Floor::paced(8_000, 4.0)),
        JobName::Saturated => Reference::Floor(Floor { tight: true, ..Floor::paced(1_000, 20.0) }),
        JobName::SmallRooms => {
            Reference::Floor(Floor { group: Some(10), ..Floor::paced(1_000, 2_000.0) })
        }
        JobName::Cluster => {
            Reference::Floor(Floor { group: Some(50), ..Floor::paced(500, 2_000.0) })
        }
        JobName::Neighbour | JobName::RelayLatency => Reference::Latency,
        JobName::History => Reference::Bare,
        JobName::Idle
        | JobName::Connect
        | JobName::Ingest
        | JobName::Relay
        | JobName::RelaySaturated
        | JobName::RelayExact => Reference::Nothing,
    }
}

fn bars_of(job: JobName) -> Vec<Bar> {
    let delivery = |factor| Bar::of_floor(job.name(), Figure::UsPerDelivery, factor, "µs");
    let publication = |bar| Bar::fixed(job.name(), Figure::UsPerPublication, bar, "µs");
    match job {
        JobName::Paced | JobName::Big | JobName::SmallRooms => vec![delivery(1.15)],
        JobName::Burst => {
            vec![delivery(0.2), Bar::of_floor("burst p99", Figure::P99Ms, 3.0, "ms")]
        }
        JobName::Saturated => vec![delivery(0.1)],
        JobName::Idle => {
            vec![Bar::fixed("idle memory", Figure::RssPerConnection, 2_048.0, "B")]
        }
        JobName::Connect => vec![Bar::fixed("connect", Figure::UsPerConnect, 100.0, "µs")],
        JobName::Ingest => vec![publication(15.0)],
        JobName::Neighbour => {
            vec![Bar { limit: (2.0, 1.0), ..Bar::of_floor("neighbour", Figure::P99Ms, 2.0, "ms") }]
        }
        JobName::Relay => vec![publication(1.2)],
        JobName::RelaySaturated => vec![publication(0.4)],
        JobName::RelayExact => vec![publication(0.05)],
        JobName::RelayLatency => vec![Bar {
            limit: (1.0, 5.0),
            ..Bar::of_floor("relay-latency", Figure::P99Ms, 1.0, "ms")
        }],
        JobName::Cluster => vec![
            Bar::fixed("cluster publish", Figure::PublishingUs, 40.0, "µs"),
            Bar::fixed("cluster deliver", Figure::UsPerDelivery, 7.5, "µs"),
        ],
        // At least 0.9 × the rate.
        JobName::History => vec![Bar::of_floor("history", Figure::WallUs, 1.0 / 0.9, "µs")],
    }
}

impl Figure {
    fn of(self, outcome: &Outcome) -> f64 {
        let cost = outcome.server.as_ref();
        match self {
            Self::UsPerDelivery => cost.map_or(0.0, |cost| cost.us_per_delivery),
            Self::UsPerPublication => cost.map_or(0.0, |cost| cost.us_per_publication),
            Self::PublishingUs => {
                outcome.publishing.as_ref().map_or(f64::NAN, |cost| cost.us_per_publication)
            }
            Self::UsPerConnect => cost.map_or(0.0, |cost| cost.connect_us),
            Self::RssPerConnection => cost.map_or(0.0, |cost| cost.rss_bytes_per_connection),
            Self::P99Ms => outcome.latency.p99_ms,
            Self::WallUs => outcome.duration_s * 1e6 / super::outcome::to_f64(outcome.publications),
        }
    }
}

/// Runs them all.
pub(crate) fn run(args: &Bars, json: bool) -> Result<(), Failure> {
    let jobs = if args.only.is_empty() { JobName::ALL.to_vec() } else { args.only.clone() };
    let (mut rows, mut all_runs) = (Vec::new(), Vec::new());
    for job in jobs {
        let runs = measure(job, args)?;
        rows.extend(bars_of(job).iter().map(|bar| row(bar, &runs)));
        all_runs.push(runs);
    }
    if json {
        output::json_line(&serde_json::json!({ "bars": rows, "runs": all_runs }))?;
    } else {
        for line in table(&rows) {
            output::line(&line)?;
        }
    }
    let beyond: Vec<_> =
        rows.iter().filter(|row| row.result == "FAIL").map(|row| row.bar).collect();
    if beyond.is_empty() {
        Ok(())
    } else {
        Err(Failure::Failed(format!(
            "beyond {NEAR} × the bar, or not clean: {}",
            beyond.join(", ")
        )))
    }
}

/// Floor and product in turn.
fn measure(job: JobName, args: &Bars) -> Result<Runs, Failure> {
    let mut plan = Plan::named(job);
    if let Some(duration) = args.duration.filter(|_| !plan.duration.is_zero()) {
        plan.duration = duration;
    }
    let mut runs = Runs::default();
    let mut stage = Stage::start(&plan)?;
    for number in 1..=args.runs {
        tracing::info!(job = job.name(), number, "running");
        if let Reference::Floor(floor) = reference(job) {
            let duration = args.duration.unwrap_or(DURATION);
            runs.floor.push(floor::run(&floor, job.name(), WARMUP, duration)?);
            std::thread::sleep(REST);
        }
        if matches!(reference(job), Reference::Bare) {
            runs.floor.push(stage.run_reference(&plan)?);
            std::thread::sleep(REST);
        }
        if let Some(paced) = compared(job, &plan) {
            runs.paced.push(stage.run_reference(&paced)?);
            std::thread::sleep(REST);
        }
        if job == JobName::Idle && number > 1 {
            // What an allocator keeps would hide what a connection needs.
            drop(stage);
            stage = Stage::start(&plan)?;
        }
        runs.product.push(stage.run(&plan)?);
        std::thread::sleep(REST);
    }
    Ok(runs)
}

/// What a job's latency is compared with, if with anything.
fn compared(job: JobName, plan: &Plan) -> Option<Plan> {
    if job == JobName::Burst {
        return Some(Plan { duration: plan.duration, ..Plan::named(JobName::Paced) });
    }
    matches!(reference(job), Reference::Latency).then(|| plan.clone())
}

fn row(bar: &Bar, runs: &Runs) -> Row {
    let against = if bar.figure == Figure::P99Ms { &runs.paced } else { &runs.floor };
    let median_of = |outcomes: &[Outcome], figure: Figure| {
        median(outcomes.iter().map(|outcome| figure.of(outcome)).collect())
    };
    let product = median_of(&runs.product, bar.figure).unwrap_or(f64::NAN);
    // The bare loop does not have every figure.
    let floor = median_of(against, bar.figure).filter(|floor| floor.is_finite());
    let ratio = floor.map(|floor| product / floor);
    let of_floor = if bar.limit.0 > 0.0 { bar.limit.0 * floor.unwrap_or(f64::NAN) } else { 0.0 };
    let of_bar = product / (of_floor + bar.limit.1);
    let faults: Vec<String> = runs
        .product
        .iter()
        .chain(&runs.paced)
        .filter(|outcome| !outcome.is_clean())
        .map(verdict)
        .collect();
    // Comparisons with NaN are false, so that a figure that is missing never passes.
    let result = if !faults.is_empty() {
        "FAIL"
    } else if of_bar <= 1.0 {
        "pass"
    } else if of_bar <= NEAR {
        "near"
    } else {
        "FAIL"
    };
    Row {
        bar: bar.name,
        unit: bar.unit,
        floor,
        product,
        ratio,
        limit: bar.told(),
        of_bar,
        p99_ms: median_of(&runs.product, Figure::P99Ms).unwrap_or(0.0),
        result,
        faults,
    }
}

/// The middle one, or the mean of the two in the middle.
fn median(mut numbers: Vec<f64>) -> Option<f64> {
    numbers.sort_by(f64::total_cmp);
    let middle = numbers.len() / 2;
    let upper = *numbers.get(middle)?;
    if numbers.len() % 2 == 1 {
        return Some(upper);
    }
    numbers.get(middle.checked_sub(1)?).map(|lower| f64::midpoint(*lower, upper))
}

fn digits(number: f64) -> String {
    if number >= 100.0 { format!("{number:.0}") } else { format!("{number:.2}") }
}

fn table(rows: &[Row]) -> Vec<String> {
    let mut table = Table::new(&[
        "bar", "floor", "product", "unit", "ratio", "limit", "of bar", "p99 ms", "result",
    ]);
    for row in rows {
        let optional = |number: Option<f64>| number.map_or_else(|| "-".into(), digits);
        let mut result = row.result.to_owned();
        if !row.faults.is_empty() {
            result = format!("{result}: {}", row.faults.join("; "));
        }
        table.row(vec![
            row.bar.into(),
            optional(row.floor),
            digits(row.product),
            row.unit.into(),
            optional(row.ratio),
            row.limit.clone(),
            format!("{:.0} %", row.of_bar * 100.0),
            digits(row.p99_ms),
            result,
        ]);
    }
    table.lines()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::outcome::ServerCost;

    fn outcome(us: f64) -> Outcome {
        let server = ServerCost { us_per_delivery: us, ..ServerCost::default() };
        Outcome { server: Some(server), ..Outcome::default() }
    }

    #[track_caller]
    fn check(product: &[f64], expected: &str) {
        let runs = Runs {
            floor: [8.0, 7.0, 9.0].map(outcome).to_vec(),
            paced: Vec::new(),
            product: product.iter().copied().map(outcome).collect(),
        };
        let row = row(&bars_of(JobName::Paced)[0], &runs);
        assert_eq!(row.result, expected, "{row:?}");
        assert_eq!(row.floor, Some(8.0));
    }

    #[test]
    fn a_job_passes_is_near_or_fails_by_its_median() {
        check(&[9.0, 90.0, 9.2], "pass");
        check(&[9.0, 10.0, 90.0], "near");
        check(&[12.5, 12.5, 1.0], "FAIL");
        check(&[], "FAIL");
    }

    #[test]
    fn a_run_that_loses_something_never_passes() {
        let runs = Runs {
            floor: vec![outcome(8.0)],
            paced: Vec::new(),
            product: vec![Outcome { lost: 1, ..outcome(1.0) }],
        };
        let row = row(&bars_of(JobName::Paced)[0], &runs);
        assert_eq!((row.result, row.faults.len()), ("FAIL", 1));
        assert!(table(&[row])[1].contains("1 lost"));
    }

    #[test]
    fn every_job_has_a_bar() {
        for job in JobName::ALL {
            assert!(!bars_of(job).is_empty(), "{job:?}");
        }
    }

    #[test]
    fn the_median_of_an_even_number_is_the_mean_of_the_middle() {
        assert_eq!(median(vec![4.0, 1.0, 3.0, 2.0]), Some(2.5));
        assert_eq!(median(vec![3.0]), Some(3.0));
        assert_eq!(median(Vec::new()), None);
    }
}
