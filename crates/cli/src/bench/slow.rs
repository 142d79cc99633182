//! `roomcast bench slow`: a room with history, of which some members stop reading for a while. The others must not
//! notice, the node's memory stays under its bound, and who was slow has everything in the end, or was told.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;
use serde::Serialize;
use uuid::Uuid;

use super::connection::Shared;
use super::node::Node;
use super::outcome::to_f64;
use super::plan::{Pace, Plan};
use super::proc;
use super::progress::Progress;
use super::publisher::Publisher;
use super::run::Server;
use super::swarm::Swarm;
use crate::failure::Failure;
use crate::token::Identity;
use crate::{limits, output, units};

/// What the room keeps: enough for the longest stop.
const RULE: &str = r#"
[[rooms]]
match = "kept-{id}"
join = "true"
publish = "user.kind == 'backend'"
history = { size = 100000, bytes_max = "128 MiB", ttl = "1h" }
"#;

/// Clients that stop are not taken for dead ones.
const SETTINGS: [&str; 2] = ["limits.write_timeout=10m", "limits.ping=10m"];

const ROOM: &str = "kept-1";

/// Longest wait in one turn.
const TURN: Duration = Duration::from_millis(50);

/// How often memory is looked at.
const LOOK: Duration = Duration::from_secs(1);

/// Without any delivery for so long, what is missing counts as lost.
const SILENCE: Duration = Duration::from_secs(8);

/// The longest that slow members may take to be complete.
const DRAIN_MAX: Duration = Duration::from_secs(300);

/// How much longer the others may wait, against all reading.
const P99_RATIO_MAX: f64 = 2.0;

/// What a node may take besides outboxes and history: tables, queues, what the allocator keeps. Units: bytes.
const OTHER_BYTES_MAX: u64 = 192 << 20;

/// Files besides connections.
const OTHER_FILES: u64 = 64;

/// `roomcast bench slow`.
#[derive(Args, Debug)]
pub(crate) struct Slow {
    /// Members of the room
    #[arg(long, default_value_t = 2_000)]
    members: u32,
    /// Of a hundred members, how many stop reading
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=50))]
    percent: u32,
    /// Publications per second
    #[arg(long, default_value_t = 200.0)]
    rate: f64,
    /// Size of a delivered payload that is aimed at
    #[arg(long, default_value_t = 1_024)]
    payload_bytes: usize,
    /// How long all read, for comparison
    #[arg(long, default_value = "10s", value_parser = units::duration)]
    baseline: Duration,
    /// How long they do not read
    #[arg(long, default_value = "20s", value_parser = units::duration)]
    stop: Duration,
    /// How long publications go on behind that
    #[arg(long, default_value = "10s", value_parser = units::duration)]
    after: Duration,
    /// Bytes of one outbox, as `limits.outbox_bytes` has it
    #[arg(long, default_value = "256 KiB")]
    outbox_bytes: String,
    /// Bytes of all outboxes, as `limits.outboxes_bytes` has it. Units: MiB.
    #[arg(long, default_value_t = 128)]
    outboxes_mib: u64,
}

/// What came of it.
#[derive(Clone, Debug, Default, Serialize)]
struct Report {
    members: u32,
    slow: u32,
    publications: u64,
    baseline_p50_ms: f64,
    baseline_p99_ms: f64,
    p50_ms: f64,
    p99_ms: f64,
    p99_ratio: f64,
    rss_before_bytes: u64,
    rss_max_bytes: u64,
    outboxes_max_bytes: u64,
    outboxes_limit_bytes: u64,
    others_lost: u64,
    slow_complete: u32,
    slow_told: u32,
    slow_closed: u32,
    slow_lost: u32,
    /// Of the node's metrics, those about what full outboxes did.
    steps: Vec<String>,
}

/// The room with its members.
struct Room {
    swarm: Swarm,
    publisher: Publisher,
    slow: std::ops::Range<usize>,
    node: Node,
    report: Report,
}

/// Runs it; an error if a line was missed.
pub(crate) fn run(args: &Slow, json: bool) -> Result<(), Failure> {
    let mut room = Room::open(args)?;
    room.publish_for(args.baseline / 4)?;
    room.swarm.shared.tally.begin_measuring();
    room.publish_for(args.baseline)?;
    (room.report.baseline_p50_ms, room.report.baseline_p99_ms) = room.quantiles();
    room.report.rss_before_bytes = proc::user_rss_bytes(room.node.pid())?;
    for index in room.slow.clone() {
        room.swarm.pause(index)?;
    }
    room.swarm.shared.tally.begin_measuring();
    room.publish_for(args.stop)?;
    (room.report.p50_ms, room.report.p99_ms) = room.quantiles();
    for index in room.slow.clone() {
        room.swarm.resume(index)?;
    }
    room.publish_for(args.after)?;
    room.drain()?;
    let report = room.judge()?;
    let missed = missed(&report);
    if json {
        output::json_line(&report)?;
    } else {
        for line in lines(&report) {
            output::line(&line)?;
        }
    }
    if missed.is_empty() { Ok(()) } else { Err(Failure::Failed(missed.join("; "))) }
}

impl Room {
    fn open(args: &Slow) -> Result<Self, Failure> {
        limits::check_open_files(u64::from(args.members) + OTHER_FILES)?;
        let slow = (args.members * args.percent / 100).max(1);
        let plan = Plan {
            members: args.members,
            publishers: 1,
            pace: Pace::Open { per_second: args.rate, burst: 1 },
            payload_bytes: args.payload_bytes,
            ..Plan::new("slow")
        };
        plan.check().map_err(Failure::Usage)?;
        let node = start_node(args, &plan)?;
        let server = Server { room_prefix: ROOM.into(), ..node.server()? };
        let mut swarm = Swarm::new(Shared::new(1, plan.format, false))?;
        let progress = Progress::new("connecting members", to_usize(args.members));
        let seats = (0..to_usize(args.members)).map(|member| {
            let who = Identity::viewer(format!("slow-{member}"));
            server.seat(&who, plan.format, Some((ROOM, 0)))
        });
        swarm.connect(server.address, seats, &progress)?;
        for index in 0..to_usize(slow) {
            swarm.set_apart(index);
        }
        let progress = Progress::new("connecting the publisher", 1);
        let who = Identity::backend("slow-publisher".to_owned());
        let seats = [server.seat(&who, plan.format, None)].into_iter();
        let seat = swarm.connect(server.address, seats, &progress)?;
        let publisher = Publisher::new(&plan, &[ROOM.to_owned()], seat)?;
        let report = Report {
            members: args.members,
            slow,
            outboxes_limit_bytes: args.outboxes_mib << 20,
            ..Report::default()
        };
        Ok(Self { swarm, publisher, slow: 0..to_usize(slow), node, report })
    }

    fn publish_for(&mut self, duration: Duration) -> Result<(), Failure> {
        let (started, mut looked) = (Instant::now(), Instant::now());
        self.publisher.start();
        while let Some(left) = duration.checked_sub(started.elapsed()).filter(|it| !it.is_zero()) {
            let wait = self.publisher.send_due(&mut self.swarm, left.min(TURN))?;
            self.turn(wait, &mut looked)?;
        }
        Ok(())
    }

    fn turn(&mut self, wait: Duration, looked: &mut Instant) -> Result<(), Failure> {
        self.swarm.turn(wait)?;
        if let Some(reason) = self.swarm.shared.failures.first() {
            return Err(Failure::Failed(format!("one of the others ended: {reason}")));
        }
        if looked.elapsed() >= LOOK {
            *looked = Instant::now();
            self.look()?;
        }
        Ok(())
    }

    /// Notes what memory is in use.
    fn look(&mut self) -> Result<(), Failure> {
        let rss_bytes = proc::user_rss_bytes(self.node.pid())?;
        let waiting = sum(&self.node.metrics()?, "roomcast_outboxes_waiting_bytes");
        let report = &mut self.report;
        report.rss_max_bytes = report.rss_max_bytes.max(rss_bytes);
        report.outboxes_max_bytes = report.outboxes_max_bytes.max(waiting);
        Ok(())
    }

    /// Waits until everybody has heard everything, or nobody hears anything any more.
    fn drain(&mut self) -> Result<(), Failure> {
        let (started, mut looked) = (Instant::now(), Instant::now());
        let (mut heard, mut heard_at) = (self.heard(), Instant::now());
        let all = self.publisher.total() * u64::from(self.report.members);
        while heard < all && heard_at.elapsed() < SILENCE && started.elapsed() < DRAIN_MAX {
            self.turn(TURN, &mut looked)?;
            if self.heard() > heard {
                (heard, heard_at) = (self.heard(), Instant::now());
            }
        }
        self.look()
    }

    fn heard(&self) -> u64 {
        let apart = self.slow.clone().filter_map(|index| self.swarm.apart(index));
        self.swarm.shared.tally.distinct + apart.map(|it| it.distinct).sum::<u64>()
    }

    fn quantiles(&self) -> (f64, f64) {
        let latency = &self.swarm.shared.tally.latency;
        let ms = |quantile| to_f64(latency.value_at_quantile(quantile)) / 1_000.0;
        (ms(0.5), ms(0.99))
    }

    fn judge(mut self) -> Result<Report, Failure> {
        let total = self.publisher.total();
        let others = u64::from(self.report.members - self.report.slow);
        self.report.publications = total;
        self.report.others_lost = (total * others).saturating_sub(self.swarm.shared.tally.distinct);
        self.report.p99_ratio = self.report.p99_ms / self.report.baseline_p99_ms.max(0.001);
        for index in self.slow.clone() {
            let Some(apart) = self.swarm.apart(index) else { continue };
            let report = &mut self.report;
            let verdict = match &apart.ended {
                _ if apart.distinct == total => &mut report.slow_complete,
                Some(reason) if reason.contains("4200") => &mut report.slow_closed,
                None if apart.told > 0 => &mut report.slow_told,
                Some(_) | None => &mut report.slow_lost,
            };
            *verdict += 1;
        }
        let concerned = ["shed", "parked", "gaps", "outbox"];
        let text = self.node.metrics()?;
        let is_step =
            |line: &&str| !line.starts_with('#') && concerned.iter().any(|it| line.contains(it));
        let counted = text.lines().filter(is_step).filter(|line| !line.ends_with(" 0"));
        self.report.steps = counted.map(str::to_owned).collect();
        Ok(self.report)
    }
}

fn start_node(args: &Slow, plan: &Plan) -> Result<Node, Failure> {
    let file: PathBuf =
        std::env::temp_dir().join(format!("roomcast-slow-{}.toml", Uuid::new_v4().simple()));
    std::fs::write(&file, RULE)?;
    let sizes = [
        format!("limits.outbox_bytes={}", args.outbox_bytes),
        format!("limits.outboxes_bytes={} MiB", args.outboxes_mib),
    ];
    let settings = SETTINGS.map(str::to_owned).into_iter().chain(sizes);
    let mut arguments = vec!["--config".to_owned(), file.display().to_string()];
    arguments.extend(settings.flat_map(|setting| ["--set".to_owned(), setting]));
    let node = Node::start(plan, &arguments);
    std::fs::remove_file(&file)?;
    node
}

/// The lines that were missed.
fn missed(report: &Report) -> Vec<String> {
    let mut missed = Vec::new();
    let mut must = |holds: bool, text: String| {
        if !holds {
            missed.push(text);
        }
    };
    let Report { p99_ratio, rss_before_bytes, rss_max_bytes, .. } = *report;
    must(
        p99_ratio < P99_RATIO_MAX,
        format!("the others' p99 is {p99_ratio:.2} × that of the baseline, not below 2"),
    );
    let rss_bound = rss_before_bytes + report.outboxes_limit_bytes + OTHER_BYTES_MAX;
    must(
        rss_max_bytes <= rss_bound,
        format!("the node took {rss_max_bytes} bytes, above {rss_bound}"),
    );
    let (outboxes, limit) = (report.outboxes_max_bytes, report.outboxes_limit_bytes);
    must(outboxes <= limit, format!("outboxes held {outboxes} bytes, above {limit}"));
    must(report.others_lost == 0, format!("the others lost {}", report.others_lost));
    must(report.slow_lost == 0, format!("{} slow members lost something untold", report.slow_lost));
    missed
}

fn lines(report: &Report) -> Vec<String> {
    let mib = |bytes: u64| to_f64(bytes) / f64::from(1 << 20);
    let Report { members, slow, publications, .. } = report;
    let mut lines = vec![
        format!("{members} members, {slow} of them slow, {publications} publications"),
        format!(
            "others, all read     p50 {:8.2} ms  p99 {:8.2} ms",
            report.baseline_p50_ms, report.baseline_p99_ms
        ),
        format!(
            "others, some do not  p50 {:8.2} ms  p99 {:8.2} ms  {:.2} ×",
            report.p50_ms, report.p99_ms, report.p99_ratio
        ),
        format!(
            "node                 {:.0} MiB before, at most {:.0} MiB; outboxes at most {:.1} of {:.0} MiB",
            mib(report.rss_before_bytes),
            mib(report.rss_max_bytes),
            mib(report.outboxes_max_bytes),
            mib(report.outboxes_limit_bytes)
        ),
        format!(
            "slow ones            {} complete, {} told of a gap, {} closed as slow, {} lost something",
            report.slow_complete, report.slow_told, report.slow_closed, report.slow_lost
        ),
    ];
    lines.extend(report.steps.iter().map(|step| format!("  {step}")));
    lines
}

/// The sum of a metric over its labels.
fn sum(text: &str, name: &str) -> u64 {
    let is_it = |line: &&str| line.strip_prefix(name).is_some_and(|it| it.starts_with(['{', ' ']));
    let value = |line: &str| line.rsplit(' ').next().and_then(|value| value.parse::<u64>().ok());
    text.lines().filter(is_it).filter_map(value).sum()
}

fn to_usize(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_metric_is_summed_over_its_labels() {
        let text = "a_bytes{lane=\"0\"} 3\na_bytes{lane=\"1\"} 4\na_bytes_max 5\nb 6\n";
        assert_eq!((sum(text, "a_bytes"), sum(text, "b"), sum(text, "c")), (7, 6, 0));
    }

    #[test]
    fn each_line_that_is_missed_is_named() {
        let whole = Report {
            p99_ratio: 1.9,
            outboxes_max_bytes: 5,
            outboxes_limit_bytes: 5,
            rss_max_bytes: OTHER_BYTES_MAX + 5,
            ..Report::default()
        };
        assert_eq!(missed(&whole), [""; 0]);
        for (worse, word) in [
            (Report { p99_ratio: 2.0, ..whole.clone() }, "p99"),
            (Report { outboxes_max_bytes: 6, ..whole.clone() }, "outboxes"),
            (Report { rss_max_bytes: OTHER_BYTES_MAX + 6, ..whole.clone() }, "took"),
            (Report { others_lost: 1, ..whole.clone() }, "others lost"),
            (Report { slow_lost: 1, ..whole.clone() }, "untold"),
        ] {
            let missed = missed(&worse);
            assert!(missed.len() == 1 && missed[0].contains(word), "{missed:?}");
        }
    }
}
