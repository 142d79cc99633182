//! The job "history": publications into rooms that keep them, as the node's core sends them to Redis, against the same
//! function called by a bare program that keeps as many under way.
//!
//! Beside it, for comparison, the least that could be called history: a script that raises the offset, appends with
//! XADD MAXLEN ~ 100, raises a counter, writes the set of rooms that moved, and publishes. It checks nothing, remembers
//! no id and signs nothing.

use std::io::{Read as _, Write as _};
use std::time::Instant;

use roomcast_gateway::config::{Config, LoadOptions};
use roomcast_gateway::measure::{self, KeptJob, MeasureError};

use super::outcome::{Outcome, to_f64};
use super::plan::{Pace, Plan};
use super::redis::{RawRedis, Redis};
use crate::failure::Failure;

/// Bytes read at once.
const READ_BYTES: usize = 64 * 1_024;

/// The least script.
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

/// The configuration of a node at this Redis.
fn config(redis: &Redis) -> Result<Config, Failure> {
    let address = redis.address().to_string();
    let set = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    let overrides = vec![
        set("broker.kind", "redis"),
        set("redis.servers", &address),
        // So that nothing of it is heard: the bare program does not hear either.
        set("relay.mode", "exact"),
    ];
    let options = LoadOptions { overrides, dev: true, ..LoadOptions::default() };
    Config::load(&options).map_err(|cause| Failure::Failed(cause.to_string()))
}

fn job(plan: &Plan) -> KeptJob {
    KeptJob {
        rooms: plan.rooms,
        in_flight: outstanding(plan),
        payload_bytes: plan.payload_bytes,
        warmup: plan.warmup,
        duration: plan.duration,
    }
}

fn told(cause: &MeasureError) -> Failure {
    Failure::failed("history cannot be measured", cause)
}

/// Through the broker.
pub(crate) fn run(redis: &Redis, plan: &Plan) -> Result<Outcome, Failure> {
    let figures =
        measure::publish_kept(&config(redis)?, &job(plan)).map_err(|cause| told(&cause))?;
    Ok(outcome(plan, figures.publications, figures.elapsed_s))
}

/// The same function by a bare program; says in the log what the least script reaches.
pub(crate) fn bare(redis: &Redis, plan: &Plan) -> Result<Outcome, Failure> {
    let words =
        measure::words_of_kept(&config(redis)?, &job(plan)).map_err(|cause| told(&cause))?;
    let mut calls: Vec<Call> = words.iter().map(|words| Call::new(words)).collect();
    let (least, least_s) = timed(redis, plan, &mut least(redis, plan)?)?;
    let (count, elapsed_s) = timed(redis, plan, &mut calls)?;
    let rate = |count: u64, seconds: f64| to_f64(count) / seconds;
    tracing::info!(
        function_per_s = rate(count, elapsed_s),
        least_script_per_s = rate(least, least_s),
        "called by a bare program"
    );
    Ok(outcome(plan, count, elapsed_s))
}

/// The least script's calls.
fn least(redis: &Redis, plan: &Plan) -> Result<Vec<Call>, Failure> {
    RawRedis::connect(redis.address())?
        .ask(&["FUNCTION", "LOAD", "REPLACE", SCRIPT], |answer| answer.ends_with("bench\r\n"))?;
    let payload = "x".repeat(plan.payload_bytes + ENVELOPE_BYTES);
    let call = |room: u32| {
        let own = |kind: &str| format!("bench:{kind}:{room}");
        let keys = [own("meta"), own("stream"), "bench:count".into(), "bench:moved".into()];
        let arguments =
            [format!("room:bench-{room}"), payload.clone(), format!("{room:040}"), "".into()];
        let head = ["FCALL", "bench_append", "4"].map(str::to_owned);
        let words = head.into_iter().chain(keys).chain(arguments);
        Call::new(&words.map(String::into_bytes).collect::<Vec<_>>())
    };
    Ok((0..plan.rooms).map(call).collect())
}

/// One command, whose last word but one begins with a number that is another in each call.
struct Call {
    bytes: Vec<u8>,
    number_at: usize,
}

impl Call {
    fn new(words: &[Vec<u8>]) -> Self {
        let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
        let mut number_at = 0;
        for (at, word) in words.iter().enumerate() {
            bytes.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
            if at + 2 == words.len() {
                number_at = bytes.len();
            }
            bytes.extend_from_slice(word);
            bytes.extend_from_slice(b"\r\n");
        }
        Self { bytes, number_at }
    }

    fn append(&mut self, number: u64, out: &mut Vec<u8>) {
        if let Some(place) = self.bytes.get_mut(self.number_at..).and_then(<[u8]>::first_chunk_mut)
        {
            *place = number.to_be_bytes();
        }
        out.extend_from_slice(&self.bytes);
    }
}

/// Keeps as many calls under way as the plan says; answers with how many were done while measuring, and how long that
/// took in seconds.
fn timed(redis: &Redis, plan: &Plan, calls: &mut [Call]) -> Result<(u64, f64), Failure> {
    let mut socket = RawRedis::connect(redis.address())?.socket;
    let (mut sent, mut done, mut out) = (0_u64, 0_u64, Vec::new());
    let mut answers = Answers::default();
    let mut buffer = vec![0; READ_BYTES];
    let began = Instant::now();
    let mut measured: Option<(Instant, u64)> = None;
    loop {
        let free = u64::from(outstanding(plan)).saturating_sub(sent - done);
        out.clear();
        for _ in 0..free {
            let rooms = calls.len().max(1);
            let at = usize::try_from(sent).unwrap_or(0) % rooms;
            if let Some(call) = calls.get_mut(at) {
                call.append(sent, &mut out);
            }
            sent += 1;
        }
        socket.write_all(&out)?;
        let count = socket.read(&mut buffer)?;
        if count == 0 {
            return Err(Failure::Failed("Redis closed the connection".into()));
        }
        done += answers.take(buffer.get(..count).unwrap_or_default())?;
        match measured {
            None if began.elapsed() >= plan.warmup => measured = Some((Instant::now(), done)),
            Some((since, before)) if since.elapsed() >= plan.duration => {
                return Ok((done - before, since.elapsed().as_secs_f64()));
            }
            Some(_) | None => {}
        }
    }
}

/// Counts answers: numbers, or arrays of numbers and bulk strings.
#[derive(Debug, Default)]
struct Answers {
    rest: Vec<u8>,
}

impl Answers {
    fn take(&mut self, bytes: &[u8]) -> Result<u64, Failure> {
        self.rest.extend_from_slice(bytes);
        let (mut at, mut count) = (0, 0);
        while let Some(length) = answer_bytes(self.rest.get(at..).unwrap_or_default())? {
            at += length;
            count += 1;
        }
        self.rest.drain(..at);
        Ok(count)
    }
}

/// How long the first answer is; `None`: it is not whole.
fn answer_bytes(bytes: &[u8]) -> Result<Option<usize>, Failure> {
    let Some(end) = bytes.windows(2).position(|pair| pair == b"\r\n") else { return Ok(None) };
    let line = String::from_utf8_lossy(bytes.get(..end).unwrap_or_default()).into_owned();
    let number = || line.get(1..).and_then(|digits| digits.parse::<usize>().ok()).unwrap_or(0);
    let head = end + 2;
    match line.chars().next() {
        Some(':') => Ok(Some(head)),
        Some('$') => Ok(Some(head + number() + 2).filter(|whole| *whole <= bytes.len())),
        Some('*') => {
            let mut at = head;
            for _ in 0..number() {
                match answer_bytes(bytes.get(at..).unwrap_or_default())? {
                    Some(length) => at += length,
                    None => return Ok(None),
                }
            }
            Ok(Some(at))
        }
        Some(_) | None => Err(Failure::Failed(format!("Redis declines: {line}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_counted_when_they_are_whole() {
        let all = b":7\r\n*4\r\n:0\r\n$4\r\n\r\n*1\r\n:9\r\n:0\r\n:8\r\n";
        for split in 0..all.len() {
            let mut answers = Answers::default();
            let count = answers.take(&all[..split]).unwrap() + answers.take(&all[split..]).unwrap();
            assert_eq!((count, answers.rest.len()), (3, 0), "split at {split}");
        }
        assert!(Answers::default().take(b"-ERR no\r\n").is_err());
    }

    #[test]
    fn each_call_has_another_number_in_its_last_word_but_one() {
        let words = ["FCALL", "f", "0", "0123456789", "last"].map(|word| word.as_bytes().to_vec());
        let (mut call, mut out) = (Call::new(&words), Vec::new());
        call.append(7, &mut out);
        let expected = b"$10\r\n\x00\x00\x00\x00\x00\x00\x00\x0789\r\n$4\r\nlast\r\n";
        assert!(out.ends_with(expected), "{out:?}");
    }
}
