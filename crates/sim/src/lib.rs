//! The simulator: real lanes, hubs and dialects on a virtual clock, on a bus that loses, delays, repeats and forgets, with
//! nodes that crash and stall and clients that vanish, read slowly and lie. A reference model predicts what everybody
//! must hear, and checkers compare. Pure: a seed fixes a run (INV-1, INV-2); threads, arguments and output are its
//! caller's.
#![allow(
    clippy::indexing_slicing,
    clippy::expect_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    reason = "a proof machine fails loudly at its own faults, as tests do; its numbers are small"
)]

mod bus;
mod check;
mod clients;
mod comebacks;
mod faults;
mod inboxes;
mod losses;
mod node;
mod people;
mod planted;
mod random;
mod receipts;
mod rules;
mod stats;
mod talkers;
mod trace;
mod wire;
mod world;

pub use check::Violation;
pub use planted::Planted;
pub use stats::Stats;

/// What a run came to.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The property that did not hold, if one did not.
    pub violation: Option<Violation>,
    /// Over all events and all that was seen: two runs of one seed have the same.
    pub hash: u64,
    /// What was counted.
    pub stats: Stats,
    /// What happened, line by line, if that was asked for.
    pub lines: Vec<String>,
}

/// Runs a seed to its end or to the first violation; `readable`: with lines for people.
#[must_use]
pub fn run(seed: u64, planted: Option<Planted>, readable: bool) -> Outcome {
    let mut world = world::World::new(seed, planted, readable);
    let violation = world.run();
    let hash = world.trace.hash();
    Outcome { violation, hash, stats: world.stats, lines: world.trace.into_lines() }
}
