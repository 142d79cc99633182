//! Publications put into Redis without a node: by a program that pipelines, paced or with a bounded number under way.
//! And the bare round trip through Redis that a relay's latency is compared with.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::clock::{add_ns, now_ns, since_ns};
use super::frames::{DATA_TAG, Finder, MARK_BYTES, Mark};
use super::outcome::{Measured, Outcome};
use super::plan::{Pace, Plan};
use super::proc::Cpu;
use super::redis::{RawRedis, Redis, command};
use super::tally::{Tally, Track};
use crate::failure::Failure;

/// Commands that may leave in one turn.
const PER_TURN_MAX: u64 = 256;

/// Bytes read at once.
const READ_BYTES: usize = 64 * 1_024;

/// Without any answer for so long, Redis counts as stuck.
const STUCK: Duration = Duration::from_secs(10);

/// How long the last ones of a round trip are waited for.
const SILENCE: Duration = Duration::from_secs(3);

/// Publishes prepared commands and counts who got them.
#[derive(Debug)]
pub(crate) struct RawPublisher {
    socket: TcpStream,
    commands: Vec<Vec<u8>>,
    out: Vec<u8>,
    answers: Answers,
    sent: u64,
    buffer: Vec<u8>,
}

impl RawPublisher {
    /// For channels that each get the same payload in turn.
    pub(crate) fn new(
        address: SocketAddr,
        channels: &[String],
        payload: &str,
    ) -> Result<Self, Failure> {
        let socket = RawRedis::connect(address)?.socket;
        socket.set_nonblocking(true)?;
        let prepared = |channel: &String| {
            let mut text = String::new();
            command(&mut text, &["PUBLISH", channel, payload]);
            text.into_bytes()
        };
        Ok(Self {
            socket,
            commands: channels.iter().map(prepared).collect(),
            out: Vec::new(),
            answers: Answers::default(),
            sent: 0,
            buffer: vec![0; READ_BYTES],
        })
    }

    /// Publications so far, and how many subscribers got them, all summed up.
    pub(crate) const fn counts(&self) -> (u64, u64) {
        (self.answers.count, self.answers.receivers)
    }

    /// Publishes for `duration` and until Redis has answered everything.
    pub(crate) fn phase(&mut self, pace: Pace, duration: Duration) -> Result<(), Failure> {
        let (started, started_ns, before) = (Instant::now(), now_ns(), self.sent);
        let mut answered = (self.answers.count, Instant::now());
        while started.elapsed() < duration || self.answers.count < self.sent {
            let (due, wait) = if started.elapsed() < duration {
                self.due(pace, started_ns, before)
            } else {
                (0, Duration::from_millis(10))
            };
            for _ in 0..due {
                let at = usize::try_from(self.sent).unwrap_or(0) % self.commands.len().max(1);
                self.out.extend_from_slice(self.commands.get(at).map_or(&[], Vec::as_slice));
                self.sent += 1;
            }
            self.turn(wait)?;
            if self.answers.count > answered.0 {
                answered = (self.answers.count, Instant::now());
            } else if self.answers.count < self.sent && answered.1.elapsed() > STUCK {
                return Err(Failure::Timeout("Redis does not answer publications".into()));
            }
        }
        Ok(())
    }

    /// How many are due now, and how long nothing will be.
    fn due(&self, pace: Pace, started_ns: u64, before: u64) -> (u64, Duration) {
        match pace {
            Pace::Open { per_second, .. } => {
                let interval = Duration::from_secs_f64(1.0 / per_second);
                let issued = self.sent - before;
                let elapsed = Duration::from_nanos(since_ns(started_ns, now_ns()));
                // The first leaves at once.
                let wanted = elapsed.as_nanos() / interval.as_nanos().max(1) + 1;
                let wanted = u64::try_from(wanted).unwrap_or(u64::MAX);
                let due = wanted.saturating_sub(issued).min(PER_TURN_MAX);
                let next = u32::try_from(issued + due).unwrap_or(u32::MAX);
                (due, interval.saturating_mul(next).saturating_sub(elapsed))
            }
            Pace::Closed { outstanding } => {
                let under_way = self.sent - self.answers.count;
                let due = u64::from(outstanding).saturating_sub(under_way).min(PER_TURN_MAX);
                (due, Duration::from_millis(10))
            }
            Pace::Silent => (0, Duration::from_millis(10)),
        }
    }

    /// Writes what is there, then reads answers until `wait` is over or some came.
    fn turn(&mut self, wait: Duration) -> Result<(), Failure> {
        write_some(&mut self.socket, &mut self.out)?;
        let flags =
            if self.out.is_empty() { PollFlags::IN } else { PollFlags::IN | PollFlags::OUT };
        // A paced publisher leaves answers for its next turn: it must not be late for them.
        if !wait.is_zero() {
            wait_for(&mut [PollFd::new(&self.socket, flags)], wait)?;
        }
        while let Some(count) = read_some(&mut self.socket, &mut self.buffer)? {
            self.answers.take(self.buffer.get(..count).unwrap_or_default())?;
            if count < self.buffer.len() {
                break;
            }
        }
        Ok(())
    }
}

/// Integers that answer `PUBLISH`: how many subscribers got it.
#[derive(Debug, Default)]
struct Answers {
    count: u64,
    receivers: u64,
    number: u64,
}

impl Answers {
    fn take(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        for byte in bytes {
            match byte {
                b':' => self.number = 0,
                b'0'..=b'9' => self.number = self.number * 10 + u64::from(byte - b'0'),
                b'\r' => {}
                b'\n' => {
                    self.count += 1;
                    self.receivers += self.number;
                }
                _ => return Err(Failure::Failed("Redis declines a publication".into())),
            }
        }
        Ok(())
    }
}

fn write_some(socket: &mut TcpStream, out: &mut Vec<u8>) -> Result<(), Failure> {
    while !out.is_empty() {
        match socket.write(out) {
            Ok(count) => drop(out.drain(..count)),
            Err(cause) if cause.kind() == ErrorKind::WouldBlock => break,
            Err(cause) if cause.kind() == ErrorKind::Interrupted => {}
            Err(cause) => return Err(Failure::failed("Redis cannot be written to", &cause)),
        }
    }
    Ok(())
}

/// `None`: there is nothing now.
fn read_some(socket: &mut TcpStream, buffer: &mut [u8]) -> Result<Option<usize>, Failure> {
    loop {
        match socket.read(buffer) {
            Ok(0) => return Err(Failure::Failed("Redis closed the connection".into())),
            Ok(count) => return Ok(Some(count)),
            Err(cause) if cause.kind() == ErrorKind::WouldBlock => return Ok(None),
            Err(cause) if cause.kind() == ErrorKind::Interrupted => {}
            Err(cause) => return Err(Failure::failed("Redis cannot be read", &cause)),
        }
    }
}

fn wait_for(sockets: &mut [PollFd<'_>], wait: Duration) -> Result<(), Failure> {
    let timeout = Timespec {
        tv_sec: i64::try_from(wait.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(wait.subsec_nanos()),
    };
    match poll(sockets, Some(&timeout)) {
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(cause) => Err(Failure::failed("no poll", &cause)),
    }
}

/// Channel of the round trip, and the size of what goes over it: an envelope of the relay's.
const CHANNEL: &str = "bench";
const PAYLOAD_BYTES: usize = 300;

/// A publisher and a subscriber without a node between them, at the pace of a plan.
pub(crate) fn round_trip(redis: &Redis, plan: &Plan) -> Result<Outcome, Failure> {
    let Pace::Open { per_second, .. } = plan.pace else {
        return Err(Failure::Usage("a round trip needs a rate".into()));
    };
    let mut subscriber = RawRedis::connect(redis.address())?;
    subscriber.ask(&["SUBSCRIBE", CHANNEL], |answer| answer.ends_with(":1\r\n"))?;
    let mut trip = RoundTrip {
        publisher: RawRedis::connect(redis.address())?.socket,
        subscriber: subscriber.socket,
        buffer: vec![0; READ_BYTES],
        partial: Vec::new(),
        sent: 0,
        track: Track::new(),
        tally: Tally::new(),
    };
    trip.publisher.set_nonblocking(true)?;
    trip.subscriber.set_nonblocking(true)?;
    trip.phase(per_second, plan.warmup)?;
    trip.tally.begin_measuring();
    let (before, deliveries) = (trip.sent, trip.tally.deliveries);
    let (own, cpu) = (Cpu::of(std::process::id())?, Cpu::of(redis.pid())?);
    trip.phase(per_second, plan.duration)?;
    Ok(Outcome::new(&Measured {
        job: "round-trip",
        connections: 2,
        publications: u64::from(trip.sent - before),
        deliveries: trip.tally.deliveries - deliveries,
        bytes: 0,
        duration_s: plan.duration.as_secs_f64(),
        expected: u64::from(trip.sent),
        tally: &trip.tally,
        server: Some(Cpu::of(redis.pid())?.since(&cpu)),
        publishing: None,
        generator: Cpu::of(std::process::id())?.since(&own),
    }))
}

struct RoundTrip {
    publisher: TcpStream,
    subscriber: TcpStream,
    buffer: Vec<u8>,
    partial: Vec<u8>,
    sent: u32,
    track: Track,
    tally: Tally,
}

impl RoundTrip {
    fn phase(&mut self, per_second: f64, duration: Duration) -> Result<(), Failure> {
        let interval = Duration::from_secs_f64(1.0 / per_second);
        let (started, before) = (now_ns(), self.sent);
        let mut out = Vec::new();
        let mut heard_at = Instant::now();
        loop {
            let elapsed = Duration::from_nanos(since_ns(started, now_ns()));
            let next = interval.saturating_mul(self.sent - before);
            let over = next >= duration;
            if !over && next <= elapsed {
                self.sent += 1;
                let mark = Mark { sequence: self.sent, intended_ns: add_ns(started, next) };
                append(&mut out, mark);
                write_some(&mut self.publisher, &mut out)?;
            }
            let complete = self.tally.distinct >= u64::from(self.sent);
            if over && (complete || heard_at.elapsed() > SILENCE) {
                return Ok(());
            }
            let wait = if over { SILENCE } else { next.saturating_sub(elapsed) };
            let mut both = [
                PollFd::new(&self.subscriber, PollFlags::IN),
                PollFd::new(&self.publisher, PollFlags::IN),
            ];
            wait_for(&mut both, wait.min(Duration::from_millis(100)))?;
            if self.hear()? {
                heard_at = Instant::now();
            }
            // Answers say nothing here.
            while read_some(&mut self.publisher, &mut self.buffer)?.is_some() {}
        }
    }

    /// Takes in what came; says whether anything did.
    fn hear(&mut self) -> Result<bool, Failure> {
        let Some(count) = read_some(&mut self.subscriber, &mut self.buffer)? else {
            return Ok(false);
        };
        self.partial.extend_from_slice(self.buffer.get(..count).unwrap_or_default());
        let (now, length) = (now_ns(), message(Mark { sequence: 0, intended_ns: 0 }).len());
        let whole = self.partial.len() / length * length;
        for one in self.partial.chunks_exact(length) {
            let mark = Finder::new(DATA_TAG).find(one);
            let mark = mark.ok_or_else(|| Failure::Failed("Redis sent something else".into()))?;
            let heard = self.track.take(mark.sequence);
            self.tally.delivered(heard, length, since_ns(mark.intended_ns, now));
        }
        self.partial.drain(..whole);
        Ok(true)
    }
}

fn payload(mark: Mark) -> String {
    let mut text = String::from_utf8_lossy(&mark.write(DATA_TAG)).into_owned();
    text.push_str(&"x".repeat(PAYLOAD_BYTES - MARK_BYTES));
    text
}

fn append(out: &mut Vec<u8>, mark: Mark) {
    let mut text = String::new();
    command(&mut text, &["PUBLISH", CHANNEL, &payload(mark)]);
    out.extend_from_slice(text.as_bytes());
}

/// What a subscriber is sent.
fn message(mark: Mark) -> String {
    let mut text = String::new();
    command(&mut text, &["message", CHANNEL, &payload(mark)]);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_counted_across_reads() {
        let mut answers = Answers::default();
        for bytes in [":1\r", "\n:1", "0\r\n:0\r\n"] {
            answers.take(bytes.as_bytes()).unwrap();
        }
        assert_eq!((answers.count, answers.receivers), (3, 11));
        assert!(answers.take(b"-NOPERM no\r\n").is_err());
    }

    #[test]
    fn messages_are_all_of_one_length_and_carry_their_mark() {
        let first = message(Mark { sequence: 1, intended_ns: 0 });
        let mark = Mark { sequence: u32::MAX, intended_ns: (1 << 48) - 1 };
        let other = message(mark);
        assert_eq!(first.len(), other.len());
        assert_eq!(Finder::new(DATA_TAG).find(other.as_bytes()), Some(mark));
    }
}
