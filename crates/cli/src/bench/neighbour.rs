//! A small room beside a big one on the same node: a second load generator on a thread of its own, with the lowest
//! priority, so that its reading does not hold up the small room's.

use std::sync::mpsc::{Sender, channel};

use super::outcome::Outcome;
use super::plan::{Pace, Plan};
use super::run::{self, Server};
use crate::failure::Failure;

/// The big room.
const MEMBERS: u32 = 10_000;
const PER_SECOND: f64 = 4.0;

/// How much longer the big room lasts. Units: as durations.
const MARGIN: std::time::Duration = std::time::Duration::from_secs(3);

/// As `nice` counts.
const LOWEST: i32 = 19;

/// Runs the small room's job beside the big room.
pub(crate) fn run(plan: &Plan, server: &Server) -> Result<Outcome, Failure> {
    let big = Plan {
        members: MEMBERS,
        pace: Pace::Open { per_second: PER_SECOND, burst: 1 },
        duration: plan.warmup + plan.duration + MARGIN,
        ..Plan::new("big room")
    };
    // Its room is no other than the small one's, and one that the built-in rules allow.
    let beside = Server { room_prefix: format!("{}9", server.room_prefix), ..server.clone() };
    let (connected, ready) = channel();
    let generator = std::thread::Builder::new()
        .name("big-room".into())
        .spawn(move || run_beside(&big, &beside, &connected))?;
    let outcome = match ready.recv() {
        Ok(()) => Some(run::run(plan, server)),
        // It ended before: its result says why.
        Err(_) => None,
    };
    let ended_first = generator.is_finished();
    let big = generator
        .join()
        .map_err(|_| Failure::Failed("the big room's load generator panicked".into()))??;
    let mut outcome = outcome.unwrap_or_else(|| Err(Failure::Failed("no big room".into())))?;
    if ended_first {
        return Err(Failure::Failed("the big room ended before the small one".into()));
    }
    outcome.lost += big.lost;
    outcome.repeated += big.repeated;
    outcome.reordered += big.reordered;
    for (name, count) in big.errors {
        *outcome.errors.entry(name).or_default() += count;
    }
    Ok(outcome)
}

fn run_beside(plan: &Plan, server: &Server, connected: &Sender<()>) -> Result<Outcome, Failure> {
    rustix::process::nice(LOWEST)
        .map_err(|cause| Failure::failed("no lower priority", &std::io::Error::from(cause)))?;
    run::run_and_tell(plan, server, server, || {
        if connected.send(()).is_err() {
            tracing::debug!("the small room's load generator has gone");
        }
    })
}
