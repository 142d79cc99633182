//! The job "history": publications into rooms that keep them, as the node's core sends them to Redis, against a bare
//! script that appends and publishes, called by a bare program that pipelines as much.
//!
//! The script is the one that the design measured: it raises the offset, appends with XADD MAXLEN ~ 100, raises a
//! counter, writes the set of rooms that moved, and publishes. It checks nothing, remembers no id and signs nothing.

use std::time::Instant;

use roomcast_gateway::config::{Config, LoadOptions};
use roomcast_gateway::measure::{self, KeptJob};

use super::outcome::Outcome;
use super::plan::{Pace, Plan};
use super::raw::RawPublisher;
use super::redis::{RawRedis, Redis, command};
use crate::failure::Failure;

/// The bare script.
const SCRIPT: &str = "#!lua name=roomcast_bench
redis.register_function('bench_append', function(keys, args)
  local offset = redis.call('HINCRBY', keys[1], 'head', 1)
  redis.call('XADD', keys[2], 'MAXLEN', '~', 100, '*', 'p', args[2])
  local count = redis.call('INCR', keys[3])
  redis.call('ZADD', keys[4], count, args[3])
  redis.call('PUBLISH', args[1], args[2])
  return offset
end)
";

/// What an envelope adds to its payload. Units: bytes.
const ENVELOPE_BYTES: usize = 100;

fn outstanding(plan: &Plan) -> u32 {
    match plan.pace {
        Pace::Closed { outstanding } => outstanding,
        Pace::Open { .. } | Pace::Silent => 1,
    }
}

fn outcome(plan: &Plan, publications: u64, duration_s: f64) -> Outcome {
    Outcome { job: plan.name.clone(), publications, duration_s, ..Outcome::default() }
}

/// Through the broker.
pub(crate) fn run(redis: &Redis, plan: &Plan) -> Result<Outcome, Failure> {
    let address = redis.address().to_string();
    let set = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    let overrides = vec![
        set("broker.kind", "redis"),
        set("redis.servers", &address),
        // So that nothing of it is heard: the bare program does not hear either.
        set("relay.mode", "exact"),
    ];
    let options = LoadOptions { overrides, dev: true, ..LoadOptions::default() };
    let config = Config::load(&options).map_err(|cause| Failure::Failed(cause.to_string()))?;
    let job = KeptJob {
        rooms: plan.rooms,
        in_flight: outstanding(plan),
        payload_bytes: plan.payload_bytes,
        warmup: plan.warmup,
        duration: plan.duration,
    };
    let figures = measure::publish_kept(&config, &job)
        .map_err(|cause| Failure::failed("history cannot be measured", &cause))?;
    Ok(outcome(plan, figures.publications, figures.elapsed_s))
}

/// The bare script by a bare program.
pub(crate) fn bare(redis: &Redis, plan: &Plan) -> Result<Outcome, Failure> {
    RawRedis::connect(redis.address())?
        .ask(&["FUNCTION", "LOAD", "REPLACE", SCRIPT], |answer| answer.ends_with("bench\r\n"))?;
    let payload = "x".repeat(plan.payload_bytes + ENVELOPE_BYTES);
    let call = |room: u32| {
        let own = |kind: &str| format!("bench:{kind}:{room}");
        let (meta, stream) = (own("meta"), own("stream"));
        let (channel, name) = (format!("room:bench-{room}"), format!("bench-{room}"));
        let mut text = String::new();
        let keys = [&*meta, &*stream, "bench:count", "bench:moved"];
        let mut parts = vec!["FCALL", "bench_append", "4"];
        parts.extend(keys);
        parts.extend([&*channel, &*payload, &*name]);
        command(&mut text, &parts);
        text.into_bytes()
    };
    let mut publisher = RawPublisher::of(redis.address(), (0..plan.rooms).map(call).collect())?;
    publisher.phase(plan.pace, plan.warmup)?;
    let (before, _) = publisher.counts();
    let started = Instant::now();
    publisher.phase(plan.pace, plan.duration)?;
    let elapsed_s = started.elapsed().as_secs_f64();
    let (after, _) = publisher.counts();
    Ok(outcome(plan, after - before, elapsed_s))
}
