//! `roomcast bench group`: what a group of the chat dialect costs against the same fan-out in the native dialect. Three
//! nodes, one after the other, with the same members, pace and payload.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use serde::Serialize;
use uuid::Uuid;

use super::connection::{Seat, Shared, Speaks};
use super::frames::Template;
use super::node::Node;
use super::outcome::Outcome;
use super::plan::{Pace, Plan};
use super::progress::Progress;
use super::publisher::Publisher;
use super::report::Table;
use super::run::{Run, Server};
use super::swarm::Swarm;
use crate::api::http::Http;
use crate::failure::Failure;
use crate::token::Identity;
use crate::{limits, output, units};

/// Rooms that keep as much as a group's, one of them acked as a group is.
const RULES: &str = r#"
[[rooms]]
match = "kept-{id}"
join = "true"
publish = "user.kind == 'backend'"
history = { size = 10000, bytes_max = "64 MiB", ttl = "720h" }

[[rooms]]
match = "acked-{id}"
join = "true"
publish = "user.kind == 'backend'"
history = { size = 10000, bytes_max = "64 MiB", ttl = "720h" }
requires_ack = true
"#;

/// The group.
const GROUP: &str = "bench";

/// Bytes of an event around its text.
const ENVELOPE_BYTES: usize = 290;

/// How much more a delivery may take, and how much later come, than in the native dialect.
const RATIO_MAX: f64 = 2.0;

/// Files besides connections.
const OTHER_FILES: u64 = 64;

/// `roomcast bench group`.
#[derive(Args, Debug)]
pub(crate) struct Group {
    /// Members
    #[arg(long, default_value_t = 5_000, value_parser = clap::value_parser!(u32).range(2..=10_000))]
    members: u32,
    /// Messages per second
    #[arg(long, default_value_t = 50.0)]
    rate: f64,
    /// Size of a delivered payload that is aimed at
    #[arg(long, default_value_t = 400)]
    payload_bytes: usize,
    /// How long it runs before it is measured
    #[arg(long, default_value = "3s", value_parser = units::duration)]
    warmup: Duration,
    /// How long it is measured
    #[arg(long, default_value = "10s", value_parser = units::duration)]
    duration: Duration,
}

/// What one run found.
#[derive(Clone, Debug, Serialize)]
struct Figures {
    job: &'static str,
    members: u32,
    deliveries: u64,
    lost: u64,
    repeated: u64,
    /// Processor time of the node for each delivery. Units: microseconds.
    node_us: f64,
    p50_ms: f64,
    p99_ms: f64,
    /// Against the native room whose members ack.
    cpu_ratio: f64,
    p99_ratio: f64,
}

/// Runs it; an error if a group is beyond its bar, or anything was lost.
pub(crate) fn run(args: &Group, json: bool) -> Result<(), Failure> {
    limits::check_open_files(u64::from(args.members) + OTHER_FILES)?;
    let jobs = [Speaks::Native, Speaks::NativeAcking, Speaks::Chat];
    let mut figures =
        jobs.into_iter().map(|it| measure(args, it)).collect::<Result<Vec<_>, _>>()?;
    if let Some((node_us, p99_ms)) = figures.get(1).map(|base| (base.node_us, base.p99_ms)) {
        for it in &mut figures {
            it.cpu_ratio = it.node_us / node_us.max(0.001);
            it.p99_ratio = it.p99_ms / p99_ms.max(0.001);
        }
    }
    if json {
        for it in &figures {
            output::json_line(it)?;
        }
    } else {
        for line in table(&figures) {
            output::line(&line)?;
        }
    }
    let missed = missed(&figures);
    if missed.is_empty() { Ok(()) } else { Err(Failure::Failed(missed.join("; "))) }
}

const fn job(speaks: Speaks) -> (&'static str, &'static str) {
    match speaks {
        Speaks::Native => ("native", "kept-1"),
        Speaks::NativeAcking => ("native, acked", "acked-1"),
        Speaks::Chat => ("group", "chat-bench"),
    }
}

fn measure(args: &Group, speaks: Speaks) -> Result<Figures, Failure> {
    let (job, room) = job(speaks);
    let plan = Plan {
        members: args.members,
        publishers: 1,
        pace: Pace::Open { per_second: args.rate, burst: 1 },
        payload_bytes: args.payload_bytes,
        warmup: args.warmup,
        duration: args.duration,
        ..Plan::new(job)
    };
    plan.check().map_err(Failure::Usage)?;
    let node = start_node()?;
    let server = Server { room_prefix: room.into(), ..node.server()? };
    let mut swarm = Swarm::new(Shared::new(1, plan.format, false))?;
    if speaks == Speaks::Chat {
        admit(&node, (0..args.members + 1).map(name))?;
    }
    let seat = |member: u32| -> Result<Seat, Failure> {
        let who = Identity::viewer(name(member));
        match speaks {
            Speaks::Chat => server.chat_seat(&who),
            Speaks::Native | Speaks::NativeAcking => {
                let seat = server.seat(&who, plan.format, Some((room, 0)))?;
                Ok(Seat { speaks, ..seat })
            }
        }
    };
    let all = usize::try_from(args.members).unwrap_or(usize::MAX);
    let progress = Progress::new(&format!("{job}: connecting members"), all);
    swarm.connect(
        server.address,
        (0..all).map(|at| seat(u32::try_from(at).unwrap_or(0))),
        &progress,
    )?;
    let publisher = connect_publisher(args, (speaks, &plan), &server, &mut swarm)?;
    let mut run = Run { plan: &plan, swarm, publisher };
    run.phase("warm-up", plan.warmup)?;
    let Outcome { deliveries, lost, repeated, latency, server, .. } =
        run.measure(Some(node.pid()), None)?;
    Ok(Figures {
        job,
        members: args.members,
        deliveries,
        lost,
        repeated,
        node_us: server.map_or(0.0, |cost| cost.us_per_delivery),
        p50_ms: latency.p50_ms,
        p99_ms: latency.p99_ms,
        cpu_ratio: 1.0,
        p99_ratio: 1.0,
    })
}

/// Connects whoever publishes: in a group one more member.
fn connect_publisher(
    args: &Group,
    (speaks, plan): (Speaks, &Plan),
    server: &Server,
    swarm: &mut Swarm,
) -> Result<Publisher, Failure> {
    let (job, room) = job(speaks);
    let progress = Progress::new(&format!("{job}: connecting the publisher"), 1);
    let seat = match speaks {
        Speaks::Chat => server.chat_seat(&Identity::viewer(name(args.members))),
        Speaks::Native | Speaks::NativeAcking => {
            server.seat(&Identity::backend("publisher".to_owned()), plan.format, None)
        }
    };
    let at = swarm.connect(server.address, [seat].into_iter(), &progress)?;
    match speaks {
        Speaks::Chat => {
            let pad = args.payload_bytes.saturating_sub(ENVELOPE_BYTES);
            Ok(Publisher::of(vec![Template::chat(GROUP, pad)], plan, at))
        }
        Speaks::Native | Speaks::NativeAcking => Publisher::new(plan, &[room.to_owned()], at),
    }
}

fn name(member: u32) -> String {
    format!("member-{member}")
}

fn start_node() -> Result<Node, Failure> {
    let file: PathBuf =
        std::env::temp_dir().join(format!("roomcast-group-{}.toml", Uuid::new_v4().simple()));
    std::fs::write(&file, RULES)?;
    let arguments =
        ["--config", &file.display().to_string(), "--set", "dialects.chat.enabled=true"];
    let node = Node::serve(&arguments.map(str::to_owned));
    std::fs::remove_file(&file)?;
    node
}

/// Makes all of them members.
fn admit(node: &Node, names: impl ExactSizeIterator<Item = String>) -> Result<(), Failure> {
    let progress = Progress::new("group: members", names.len());
    let mut http = Http::connect(&node.internal()?.to_string())?;
    for (at, name) in names.enumerate() {
        let path = format!("/api/v1/groups/{GROUP}/members/{name}");
        let answer = http.ask("PUT", &path, &[], b"{\"role\":\"member\"}")?;
        if answer.status != 200 {
            let text = String::from_utf8_lossy(&answer.body).into_owned();
            return Err(Failure::Failed(format!("{name} is no member: {} {text}", answer.status)));
        }
        progress.at(at);
    }
    Ok(())
}

/// What was missed.
fn missed(figures: &[Figures]) -> Vec<String> {
    let mut missed = Vec::new();
    for it in figures {
        if it.lost > 0 {
            missed.push(format!("{}: {} deliveries were lost", it.job, it.lost));
        }
    }
    let Some(group) = figures.last() else { return missed };
    for (what, ratio) in [("processor time", group.cpu_ratio), ("p99", group.p99_ratio)] {
        if ratio > RATIO_MAX {
            missed.push(format!(
                "the group's {what} is {ratio:.2} × that of the native room, above 2"
            ));
        }
    }
    missed
}

fn table(figures: &[Figures]) -> Vec<String> {
    let mut table = Table::new(&[
        "fan-out",
        "members",
        "deliveries",
        "lost",
        "again",
        "node us",
        "p50 ms",
        "p99 ms",
        "cpu x",
        "p99 x",
    ]);
    for it in figures {
        table.row(vec![
            it.job.to_owned(),
            it.members.to_string(),
            it.deliveries.to_string(),
            it.lost.to_string(),
            it.repeated.to_string(),
            format!("{:.2}", it.node_us),
            format!("{:.2}", it.p50_ms),
            format!("{:.2}", it.p99_ms),
            format!("{:.2}", it.cpu_ratio),
            format!("{:.2}", it.p99_ratio),
        ]);
    }
    table.lines()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_that_is_missed_is_named() {
        let good = Figures {
            job: "group",
            members: 2,
            deliveries: 4,
            lost: 0,
            repeated: 0,
            node_us: 1.0,
            p50_ms: 1.0,
            p99_ms: 2.0,
            cpu_ratio: 2.0,
            p99_ratio: 2.0,
        };
        assert_eq!(missed(std::slice::from_ref(&good)), [""; 0]);
        for (worse, word) in [
            (Figures { lost: 1, ..good.clone() }, "lost"),
            (Figures { cpu_ratio: 2.01, ..good.clone() }, "processor"),
            (Figures { p99_ratio: 2.01, ..good.clone() }, "p99"),
        ] {
            let missed = missed(&[good.clone(), worse]);
            assert!(missed.len() == 1 && missed[0].contains(word), "{missed:?}");
        }
    }
}
