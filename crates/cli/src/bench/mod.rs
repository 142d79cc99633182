//! `roomcast bench`: the load generator. Owns connections, pace, checks and figures; never looks into the node, only
//! at what it sends and at what /proc says of its process.

mod bars;
mod clock;
mod connection;
mod floor;
mod frames;
mod group;
mod history;
mod neighbour;
mod node;
mod outcome;
mod plan;
mod proc;
mod progress;
mod publish;
mod publisher;
mod raw;
mod redis;
mod relayed;
mod report;
mod run;
mod slow;
mod stage;
mod swarm;
mod tally;

use std::time::Duration;

use clap::{Args, Subcommand};
use roomcast_gateway::config::DEV_SECRET;

use self::floor::Floor;
use self::outcome::Outcome;
use self::plan::{JobName, Pace, Plan};
use self::run::Server;
use self::stage::Stage;
use crate::failure::Failure;
use crate::output;
use crate::target::FormatArg;
use crate::units;

/// Rooms of the built-in rules that backends may publish in and viewers may join.
const ROOM_PREFIX: &str = "task-";

/// `roomcast bench`.
#[derive(Args, Debug)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Bench {
    #[command(subcommand)]
    command: Option<BenchCommand>,
    #[command(flatten)]
    jobs: Jobs,
}

#[derive(Debug, Subcommand)]
enum BenchCommand {
    /// Run the bare loop alone: one send of one prepared frame to each of n sockets
    #[command(after_help = "Examples:
  roomcast bench floor --members 8000 --rate 4
  roomcast bench floor --tight")]
    Floor(FloorArgs),
    /// Run the jobs that have a bar, each in turn with its floor; exit code 1 beyond 1.3 × a bar
    #[command(after_help = "Examples:
  roomcast bench bars
  roomcast bench bars --only paced,saturated --runs 3 --json")]
    Bars(bars::Bars),
    /// Some members of a room with history stop reading for a while; exit code 1 if anybody notices
    #[command(after_help = "Examples:
  roomcast bench slow
  roomcast bench slow --members 200 --rate 50 --stop 5s --json")]
    Slow(slow::Slow),
    /// Publications over HTTP at saturation: one a request against many, in memory and on Redis
    #[command(after_help = "Examples:
  roomcast bench publish
  roomcast bench publish --connections 16 --batch 50 --json

Prints publications per second, and processor time for each: of the node, of its core thread alone, of Redis.")]
    Publish(publish::Publish),
    /// A group of the chat dialect against the same fan-out in the native one; exit code 1 beyond 2 ×
    #[command(after_help = "Examples:
  roomcast bench group
  roomcast bench group --members 1000 --rate 20 --json

Prints processor time of the node for each delivery, and latency: of a native room with history, of one whose members
ack each publication, and of a group, whose members ack each event. The group is compared with the second.")]
    Group(group::Group),
    /// The child process of `floor`
    #[command(hide = true)]
    FloorChild(Floor),
}

#[derive(Args, Debug)]
struct FloorArgs {
    #[command(flatten)]
    floor: Floor,
    /// How long to measure
    #[arg(long, default_value = "5s", value_parser = units::duration)]
    duration: Duration,
    /// How long to run before
    #[arg(long, default_value = "1s", value_parser = units::duration)]
    warmup: Duration,
}

/// Which jobs, against which node, with which changes.
#[derive(Args, Debug)]
struct Jobs {
    /// Named jobs; none: one room of 1,000 at 20/s, as the options below change it
    #[arg(value_enum)]
    jobs: Vec<JobName>,
    /// The node's address; without one a node is started for the run
    #[arg(long)]
    url: Option<String>,
    /// The node's process, for its processor time and memory
    #[arg(long, requires = "url")]
    pid: Option<u32>,
    /// What its tokens are signed with; by default the secret of `serve --dev`
    #[arg(long, env = "ROOMCAST_TOKEN_SECRET", hide_env_values = true, default_value = DEV_SECRET)]
    token_secret: String,
    /// What rooms are called, before their number
    #[arg(long, default_value = ROOM_PREFIX)]
    room_prefix: String,
    /// Rooms
    #[arg(long)]
    rooms: Option<u32>,
    /// Members of each room, one connection each
    #[arg(long)]
    members: Option<u32>,
    /// Publishing connections
    #[arg(long)]
    publishers: Option<u32>,
    /// Publications per second, all rooms together
    #[arg(long, conflicts_with = "outstanding")]
    rate: Option<f64>,
    /// Publications that leave at the same instant
    #[arg(long, conflicts_with = "outstanding")]
    burst: Option<u32>,
    /// Publications under way at once, instead of a rate
    #[arg(long)]
    outstanding: Option<u32>,
    /// Ask for an ack of each publication
    #[arg(long)]
    ack: bool,
    /// Size of a delivered payload that is aimed at; at least about 170
    #[arg(long)]
    payload_bytes: Option<usize>,
    /// How messages are written
    #[arg(long, value_enum)]
    format: Option<FormatArg>,
    /// How long to publish before measuring
    #[arg(long, value_parser = units::duration)]
    warmup: Option<Duration>,
    /// How long to measure
    #[arg(long, value_parser = units::duration)]
    duration: Option<Duration>,
}

impl Jobs {
    fn plans(&self) -> Vec<Plan> {
        let named: Vec<Plan> = self.jobs.iter().copied().map(Plan::named).collect();
        let plans = if named.is_empty() { vec![Plan::new("custom")] } else { named };
        plans.into_iter().map(|plan| self.change(plan)).collect()
    }

    fn change(&self, plan: Plan) -> Plan {
        let pace = match (self.outstanding, self.rate, self.burst) {
            (Some(outstanding), _, _) => Pace::Closed { outstanding },
            (None, None, None) => plan.pace,
            (None, rate, burst) => {
                let (old_rate, old_burst) = match plan.pace {
                    Pace::Open { per_second, burst } => (per_second, burst),
                    Pace::Closed { .. } | Pace::Silent => (20.0, 1),
                };
                Pace::Open {
                    per_second: rate.unwrap_or(old_rate),
                    burst: burst.unwrap_or(old_burst),
                }
            }
        };
        let publishers = match (pace, plan.publishers) {
            (Pace::Open { .. } | Pace::Closed { .. }, 0) => 1,
            (_, publishers) => publishers,
        };
        Plan {
            rooms: self.rooms.unwrap_or(plan.rooms),
            members: self.members.unwrap_or(plan.members),
            publishers: self.publishers.unwrap_or(publishers),
            pace,
            ack: self.ack || plan.ack,
            payload_bytes: self.payload_bytes.unwrap_or(plan.payload_bytes),
            format: self.format.map_or(plan.format, Into::into),
            warmup: self.warmup.unwrap_or(plan.warmup),
            duration: self.duration.unwrap_or(plan.duration),
            name: plan.name,
            scene: plan.scene,
        }
    }
}

/// Runs it.
pub(crate) fn run(bench: &Bench, json: bool) -> Result<(), Failure> {
    match &bench.command {
        None => run_jobs(&bench.jobs, json),
        Some(BenchCommand::Floor(args)) => {
            let outcome = floor::run(&args.floor, "floor", args.warmup, args.duration)?;
            report(&[outcome], json)
        }
        Some(BenchCommand::Bars(args)) => bars::run(args, json),
        Some(BenchCommand::Slow(args)) => slow::run(args, json),
        Some(BenchCommand::Publish(args)) => publish::run(args, json),
        Some(BenchCommand::Group(args)) => group::run(args, json),
        Some(BenchCommand::FloorChild(floor)) => floor::child(floor),
    }
}

fn run_jobs(jobs: &Jobs, json: bool) -> Result<(), Failure> {
    let mut outcomes = Vec::new();
    for plan in jobs.plans() {
        plan.check().map_err(Failure::Usage)?;
        let stage = match &jobs.url {
            Some(url) => {
                Stage::Given(Server::parse(url, jobs.pid, &jobs.token_secret, &jobs.room_prefix)?)
            }
            None => Stage::start(&plan)?,
        };
        outcomes.push(stage.run(&plan)?);
    }
    report(&outcomes, json)
}

/// Prints outcomes; one that is not clean is a failure.
fn report(outcomes: &[Outcome], json: bool) -> Result<(), Failure> {
    if json {
        for outcome in outcomes {
            output::json_line(outcome)?;
        }
    } else {
        for line in report::outcomes(outcomes) {
            output::line(&line)?;
        }
    }
    let unclean: Vec<String> = outcomes
        .iter()
        .filter(|outcome| !outcome.is_clean())
        .map(|outcome| format!("{}: {}", outcome.job, report::verdict(outcome)))
        .collect();
    if unclean.is_empty() { Ok(()) } else { Err(Failure::Failed(unclean.join("; "))) }
}
