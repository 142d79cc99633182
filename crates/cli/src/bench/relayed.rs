//! The jobs in which nobody on a node wants what is published: what hearing costs it all the same.
//!
//! One session sits in a room of its own. At the end of each phase one publication goes there: once its session hears
//! it, the node has read everything before it.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use roomcast_client::Format;

use super::clock::now_ns;
use super::connection::Shared;
use super::frames::{DATA_TAG, Mark};
use super::node::Node;
use super::outcome::{Measured, Outcome};
use super::plan::Plan;
use super::proc::Cpu;
use super::progress::Progress;
use super::raw::RawPublisher;
use super::redis::{RawRedis, Redis};
use super::swarm::Swarm;
use crate::failure::Failure;
use crate::token::Identity;

/// Rooms that are published to in turn.
const ROOMS: u32 = 100;

/// The session's own, as the built-in rules allow it.
const QUIET: u32 = 999_999;

/// How long the last publication may take.
const LIMIT: Duration = Duration::from_secs(20);

/// How long the node is watched while nothing is published.
const IDLE: Duration = Duration::from_secs(2);

/// How many publications a node that hears every room has received; a family of its metrics.
const RECEIVED: &str = "roomcast_relay_received_total";

/// The session, and what was published for it.
struct Quiet {
    swarm: Swarm,
    redis: SocketAddr,
    room: String,
    marks: u32,
}

/// Runs one of them once; `exact`: the node asks for its own rooms only.
pub(crate) fn run(
    plan: &Plan,
    redis: &Redis,
    node: &Node,
    exact: bool,
) -> Result<Outcome, Failure> {
    let (server, pid) = (node.server()?, node.pid());
    let room = format!("{}{QUIET}", server.room_prefix);
    let mut quiet = Quiet {
        swarm: Swarm::new(Shared::new(1, Format::Json, false))?,
        redis: redis.address(),
        room: room.clone(),
        marks: 0,
    };
    let seats = [server.seat(&Identity::viewer("quiet"), Format::Json, Some((&room, 0)))];
    quiet.swarm.connect(server.address, seats.into_iter(), &Progress::new("connecting", 1))?;
    let channels: Vec<_> = (0..ROOMS).map(|other| format!("room:other-{other}")).collect();
    let payload = "x".repeat(plan.payload_bytes);
    let mut publisher = RawPublisher::new(redis.address(), &channels, &payload)?;
    publisher.phase(plan.pace, plan.warmup)?;
    quiet.wait()?;

    let idle_ns = if exact { idle_ns_per_s(pid)? } else { 0.0 };
    let received_before = node.metric(RECEIVED)?;
    let (own, cpu, started) = (Cpu::of(std::process::id())?, Cpu::of(pid)?, Instant::now());
    let (before, heard_before) = publisher.counts();
    publisher.phase(plan.pace, plan.duration)?;
    let published_s = started.elapsed().as_secs_f64();
    quiet.wait()?;
    let (server_cpu, elapsed_s) = (Cpu::of(pid)?.since(&cpu), started.elapsed().as_secs_f64());
    let generator = Cpu::of(std::process::id())?.since(&own);
    let received = node.metric(RECEIVED)?;
    let (publications, heard) = publisher.counts();
    let (publications, heard) = (publications - before, heard - heard_before);

    let mut outcome = Outcome::new(&Measured {
        job: &plan.name,
        connections: 1,
        publications,
        deliveries: 1,
        bytes: 0,
        duration_s: published_s,
        expected: u64::from(quiet.marks),
        tally: &quiet.swarm.shared.tally,
        server: Some(server_cpu),
        publishing: None,
        generator,
    });
    let received = match (received_before, received) {
        // The mark is one of them.
        (Some(before), Some(after)) => (after - before).saturating_sub(1),
        // Without that figure, Redis' own count has to do.
        _ => heard,
    };
    if exact {
        if received > 0 {
            outcome.errors.insert("unwanted".into(), received);
        }
        if let Some(cost) = &mut outcome.server {
            let idle_us = idle_ns * elapsed_s / 1_000.0 / super::outcome::to_f64(publications);
            cost.us_per_publication = (cost.us_per_publication - idle_us).max(0.0);
        }
    } else {
        outcome.lost += publications.saturating_sub(received.min(heard));
        outcome.repeated += received.saturating_sub(publications);
    }
    Ok(outcome)
}

/// What the node uses anyway. Units: nanoseconds of processor time per second.
fn idle_ns_per_s(pid: u32) -> Result<f64, Failure> {
    let before = Cpu::of(pid)?;
    std::thread::sleep(IDLE);
    let used = Cpu::of(pid)?.since(&before).total_ns;
    Ok(super::outcome::to_f64(used) / IDLE.as_secs_f64())
}

impl Quiet {
    /// Waits until the node has read everything that was published before.
    fn wait(&mut self) -> Result<(), Failure> {
        self.marks += 1;
        let mark = Mark { sequence: self.marks, intended_ns: now_ns() }.write(DATA_TAG);
        let payload =
            format!(r#"{{"type":"bench","data":{{"n":"{}"}}}}"#, String::from_utf8_lossy(&mark));
        let channel = format!("room:{}", self.room);
        RawRedis::connect(self.redis)?
            .ask(&["PUBLISH", &channel, &payload], |answer| answer.ends_with("\r\n"))?;
        let deadline = Instant::now() + LIMIT;
        while self.swarm.shared.tally.distinct < u64::from(self.marks) {
            self.swarm.turn(Duration::from_millis(1))?;
            if let Some(reason) = self.swarm.shared.failures.first() {
                return Err(Failure::Failed(format!("the node's session ended: {reason}")));
            }
            if Instant::now() > deadline {
                return Err(Failure::Timeout(format!(
                    "the node does not hear {channel:?}: are outsiders heard (relay.outsiders)?"
                )));
            }
        }
        Ok(())
    }
}
