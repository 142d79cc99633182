//! One run of a job against a node: connect everybody, warm up, measure, wait for the last delivery.

use std::collections::VecDeque;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::time::{Duration, Instant};

use roomcast_client::Format;
use roomcast_client::wire::Outgoing;
use serde_json::json;
use uuid::Uuid;

use super::connection::{Seat, Shared, Speaks};
use super::frames;
use super::outcome::{Measured, Outcome, ratio};
use super::plan::{Pace, Plan};
use super::proc::{self, Cpu};
use super::progress::Progress;
use super::publisher::Publisher;
use super::swarm::Swarm;
use crate::failure::Failure;
use crate::limits;
use crate::token::Identity;

/// Without any delivery for so long, what is missing counts as lost.
const SILENCE: Duration = Duration::from_secs(3);

/// Longest wait in one turn, so that the progress bar moves.
const TURN: Duration = Duration::from_millis(50);

/// How long tokens of a run live.
const TOKEN_TTL: Duration = Duration::from_secs(3_600);

/// Files a process has open besides its connections.
const OTHER_FILES: u64 = 64;

/// The node under test.
#[derive(Clone, Debug)]
pub(crate) struct Server {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    /// As the `Host` header names it.
    pub(crate) host: String,
    /// Path of the native dialect.
    pub(crate) path: String,
    /// Its process, where that is on this machine.
    pub(crate) pid: Option<u32>,
    /// What its tokens are signed with.
    pub(crate) secret: String,
    /// What its rooms are called, before their number.
    pub(crate) room_prefix: String,
}

impl Server {
    /// Reads an address such as `ws://127.0.0.1:8080/ws`.
    pub(crate) fn parse(
        url: &str,
        pid: Option<u32>,
        secret: &str,
        room_prefix: &str,
    ) -> Result<Self, Failure> {
        let usage = |what: &str| Failure::Usage(format!("--url {url:?}: {what}"));
        let rest = url.strip_prefix("ws://").ok_or_else(|| usage("it must begin with ws://"))?;
        let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
        let path = if path.is_empty() { "/ws".into() } else { format!("/{path}") };
        let with_port = if host.contains(':') { host.to_owned() } else { format!("{host}:80") };
        let address = with_port
            .to_socket_addrs()
            .map_err(|cause| usage(&cause.to_string()))?
            .next()
            .ok_or_else(|| usage("the name has no address"))?;
        Ok(Self {
            address,
            host: host.into(),
            path,
            pid,
            secret: secret.into(),
            room_prefix: room_prefix.into(),
        })
    }

    pub(crate) fn seat(
        &self,
        who: &Identity,
        format: Format,
        join: Option<(&str, usize)>,
    ) -> Result<Seat, Failure> {
        let token = who.token(&self.secret, TOKEN_TTL)?;
        // The key of RFC 6455 1.3: a constant serves, since nothing here is cached.
        let upgrade = format!(
            "GET {} HTTP/1.1\r\nHost: {}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
             Sec-WebSocket-Protocol: {}\r\nAuthorization: Bearer {token}\r\n\r\n",
            self.path,
            self.host,
            format.subprotocol()
        );
        let mut joins = VecDeque::new();
        if let Some((room, _)) = join {
            let data = json!({ "room": room });
            let message = Outgoing {
                kind: "subscribe",
                id: Some("j"),
                data: Some(&data),
                ..Outgoing::default()
            };
            let mut frame = Vec::new();
            frames::append_message(&mut frame, format, &message)?;
            joins.push_back(frame);
        }
        let (upgrade, room) = (upgrade.into_bytes(), join.map_or(0, |(_, at)| at));
        Ok(Seat { upgrade, joins, room, speaks: Speaks::Native })
    }

    /// The same for the chat dialect.
    pub(crate) fn chat_seat(&self, who: &Identity) -> Result<Seat, Failure> {
        let token = who.token(&self.secret, TOKEN_TTL)?;
        let upgrade = format!(
            "GET /chat HTTP/1.1\r\nHost: {}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
             Authorization: Bearer {token}\r\n\r\n",
            self.host
        );
        let (upgrade, joins) = (upgrade.into_bytes(), VecDeque::new());
        Ok(Seat { upgrade, joins, room: 0, speaks: Speaks::Chat })
    }
}

/// A run on its way: everybody is connected.
pub(crate) struct Run<'a> {
    pub(crate) plan: &'a Plan,
    pub(crate) swarm: Swarm,
    pub(crate) publisher: Publisher,
}

/// Runs a job once on one node.
pub(crate) fn run(plan: &Plan, server: &Server) -> Result<Outcome, Failure> {
    run_and_tell(plan, server, server, || {})
}

/// Runs a job once, with its publishers on another node or the same one; tells when all are connected.
pub(crate) fn run_and_tell(
    plan: &Plan,
    server: &Server,
    publishing: &Server,
    connected: impl FnOnce(),
) -> Result<Outcome, Failure> {
    limits::check_open_files(u64::from(plan.connections()) + OTHER_FILES)?;
    let rooms: Vec<String> =
        (1..=plan.rooms).map(|room| format!("{}{room}", server.room_prefix)).collect();
    let mut swarm = Swarm::new(Shared::new(rooms.len(), plan.format, plan.ack))?;
    let before = Costs::of(server.pid)?;
    let first_publisher = connect(plan, server, publishing, &rooms, &mut swarm)?;
    let at_start = Costs::of(server.pid)?;
    connected();
    let publisher = Publisher::new(plan, &rooms, first_publisher)?;
    let mut run = Run { plan, swarm, publisher };
    run.phase("warm-up", plan.warmup)?;
    let other = publishing.pid.filter(|pid| Some(*pid) != server.pid);
    let mut outcome = run.measure(server.pid, other)?;
    let after = Costs::of(server.pid)?;
    if let (Some(cost), Some(before), Some(at_start), Some(after)) =
        (&mut outcome.server, before, at_start, after)
    {
        let connections = outcome.connections;
        let connecting = at_start.cpu.since(&before.cpu).total_ns;
        cost.connect_us = ratio(connecting, connections) / 1_000.0;
        cost.rss_bytes_per_connection =
            ratio(after.rss_bytes.saturating_sub(before.rss_bytes), connections);
    }
    Ok(outcome)
}

/// What the server has used at one moment.
struct Costs {
    cpu: Cpu,
    rss_bytes: u64,
}

impl Costs {
    fn of(pid: Option<u32>) -> Result<Option<Self>, Failure> {
        let Some(pid) = pid else { return Ok(None) };
        Ok(Some(Self { cpu: Cpu::of(pid)?, rss_bytes: proc::user_rss_bytes(pid)? }))
    }
}

/// Connects members, then publishers; returns the index of the first publisher.
fn connect(
    plan: &Plan,
    server: &Server,
    publishing: &Server,
    rooms: &[String],
    swarm: &mut Swarm,
) -> Result<usize, Failure> {
    // Fresh users for each run, so that limits per user begin anew.
    let nonce = Uuid::new_v4().simple().to_string();
    let nonce = nonce.get(..6).unwrap_or(&nonce);
    let count = |number: u32| usize::try_from(number).unwrap_or(usize::MAX);
    let members = count(plan.rooms.saturating_mul(plan.members));
    let progress = Progress::new("connecting members", members);
    let seats = (0..members).map(|member| {
        let who = Identity::viewer(format!("b{nonce}-{member}"));
        let at = member.checked_rem(rooms.len()).unwrap_or(0);
        let join = rooms.get(at).map(|room| (room.as_str(), at));
        server.seat(&who, plan.format, join)
    });
    swarm.connect(server.address, seats, &progress)?;
    let progress = Progress::new("connecting publishers", count(plan.publishers));
    let seats = (0..count(plan.publishers)).map(|publisher| {
        let who = Identity::backend(format!("b{nonce}-p{publisher}"));
        publishing.seat(&who, plan.format, None)
    });
    swarm.connect(publishing.address, seats, &progress)
}

impl Run<'_> {
    /// Publishes for `duration`, then waits until everything has been heard.
    pub(crate) fn phase(&mut self, what: &str, duration: Duration) -> Result<(), Failure> {
        let progress = Progress::timed(&format!("{}: {what}", self.plan.name), duration);
        let started = Instant::now();
        self.publisher.start();
        loop {
            let elapsed = started.elapsed();
            let Some(left) = duration.checked_sub(elapsed).filter(|left| !left.is_zero()) else {
                break;
            };
            progress.elapsed(elapsed);
            let wait = self.publisher.send_due(&mut self.swarm, left.min(TURN))?;
            self.swarm.turn(wait)?;
            self.check()?;
        }
        self.drain()
    }

    fn drain(&mut self) -> Result<(), Failure> {
        let (mut heard, mut heard_at) = (self.heard(), Instant::now());
        while heard < self.expected() && heard_at.elapsed() < SILENCE {
            self.swarm.turn(TURN)?;
            self.check()?;
            if self.heard() > heard {
                (heard, heard_at) = (self.heard(), Instant::now());
            }
        }
        Ok(())
    }

    /// A connection that ends falsifies everything after it.
    fn check(&self) -> Result<(), Failure> {
        match self.swarm.shared.failures.first() {
            None => Ok(()),
            Some(reason) => Err(Failure::Failed(format!("a connection ended: {reason}"))),
        }
    }

    fn heard(&self) -> u64 {
        let tally = &self.swarm.shared.tally;
        let refused: u64 = tally.errors.values().sum();
        let members = u64::from(self.plan.members);
        if self.plan.ack { tally.acks + refused } else { tally.distinct + refused * members }
    }

    fn expected(&self) -> u64 {
        let each = if self.plan.ack { 1 } else { u64::from(self.plan.members) };
        self.publisher.total() * each
    }

    /// Publishes and measures the process of the members' node, and of the publishers' if that is another.
    pub(crate) fn measure(
        &mut self,
        pid: Option<u32>,
        other: Option<u32>,
    ) -> Result<Outcome, Failure> {
        let own = std::process::id();
        let cpu_of = |pid: Option<u32>| pid.map(Cpu::of).transpose();
        let since = |pid: Option<u32>, before: &Option<Cpu>| {
            Ok::<_, Failure>(cpu_of(pid)?.zip(before.as_ref()).map(|(now, then)| now.since(then)))
        };
        self.swarm.shared.tally.begin_measuring();
        let (generator, cpu, other_cpu) = (Cpu::of(own)?, cpu_of(pid)?, cpu_of(other)?);
        let tally = &self.swarm.shared.tally;
        let (deliveries, bytes, total) = (tally.deliveries, tally.bytes, self.publisher.total());
        let started = Instant::now();
        self.phase("measuring", self.plan.duration)?;
        let duration = match self.plan.pace {
            // Draining belongs to what was published within the duration.
            Pace::Open { .. } => self.plan.duration,
            Pace::Closed { .. } | Pace::Silent => started.elapsed(),
        };
        let tally = &self.swarm.shared.tally;
        Ok(Outcome::new(&Measured {
            job: &self.plan.name,
            connections: u64::from(self.plan.connections()),
            publications: self.publisher.total() - total,
            deliveries: tally.deliveries - deliveries,
            bytes: tally.bytes - bytes,
            duration_s: duration.as_secs_f64(),
            expected: self.publisher.total() * u64::from(self.plan.members),
            tally,
            server: since(pid, &cpu)?,
            publishing: since(other, &other_cpu)?,
            generator: Cpu::of(own)?.since(&generator),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_and_others_refused() {
        let server = Server::parse("ws://127.0.0.1:8080", None, "s", "task-").unwrap();
        assert_eq!((server.path.as_str(), server.address.port()), ("/ws", 8080));
        let server = Server::parse("ws://127.0.0.1:9/other", None, "s", "task-").unwrap();
        assert_eq!((server.path.as_str(), server.host.as_str()), ("/other", "127.0.0.1:9"));
        assert!(Server::parse("http://127.0.0.1", None, "s", "task-").is_err());
    }

    #[test]
    fn a_seat_asks_for_its_upgrade_and_its_room() {
        let server =
            Server::parse("ws://127.0.0.1:9", None, roomcast_gateway::config::DEV_SECRET, "task-")
                .unwrap();
        let who = Identity::viewer("a");
        let seat = server.seat(&who, Format::Json, Some(("task-3", 2))).unwrap();
        let request = String::from_utf8(seat.upgrade).unwrap();
        assert!(request.starts_with("GET /ws HTTP/1.1\r\nHost: 127.0.0.1:9\r\n"), "{request}");
        assert!(request.ends_with("\r\n\r\n"));
        assert_eq!((seat.joins.len(), seat.room), (1, 2));
    }
}
