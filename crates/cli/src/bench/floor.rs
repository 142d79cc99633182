//! The bare loop that bars are compared with: a process that accepts n sockets and does one `send` of one prepared
//! frame to each, paced or tight. Measured like a node, with the same receiving side.

use std::collections::VecDeque;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use clap::Args;
use roomcast_client::Format;

use super::clock::{add_ns, now_ns, since_ns};
use super::connection::{Seat, Shared, Speaks};
use super::frames::{Mark, Template};
use super::outcome::{Measured, Outcome};
use super::proc::Cpu;
use super::progress::Progress;
use super::swarm::Swarm;
use crate::failure::Failure;
use crate::limits;
use crate::output;

/// Sends a tight loop makes in about a second here; only sets how many rounds a duration is.
const TIGHT_SENDS_PER_S: f64 = 150_000.0;

/// The bare loop's parameters, as the parent tells its child.
#[derive(Args, Clone, Debug, PartialEq)]
pub(crate) struct Floor {
    /// Sockets
    #[arg(long, default_value_t = 1_000)]
    pub(crate) members: u32,
    /// Sockets written in one round, in turns; by default all
    #[arg(long)]
    pub(crate) group: Option<u32>,
    /// Rounds per second
    #[arg(long, default_value_t = 20.0)]
    pub(crate) rate: f64,
    /// Rounds without a pause between them
    #[arg(long, conflicts_with = "rate")]
    pub(crate) tight: bool,
    /// Payload of the frame; its header adds 2, 4 or 10 bytes
    #[arg(long, default_value_t = 200)]
    pub(crate) payload_bytes: usize,
}

impl Floor {
    /// All sockets in each round.
    pub(crate) const fn paced(members: u32, rate: f64) -> Self {
        Self { members, group: None, rate, tight: false, payload_bytes: 200 }
    }

    fn group(&self) -> u32 {
        self.group.unwrap_or(self.members).clamp(1, self.members.max(1))
    }

    fn rounds(&self, duration: Duration) -> u32 {
        let per_second =
            if self.tight { TIGHT_SENDS_PER_S / f64::from(self.group()) } else { self.rate };
        let rounds = Duration::from_secs_f64((duration.as_secs_f64() * per_second).max(1.0));
        u32::try_from(rounds.as_secs()).unwrap_or(u32::MAX)
    }
}

/// The child: announces its address, accepts, then does as many rounds as each line of stdin says.
pub(crate) fn child(floor: &Floor) -> Result<(), Failure> {
    limits::check_open_files(u64::from(floor.members) + 64)?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    output::line(&listener.local_addr()?.to_string())?;
    let sockets: Vec<TcpStream> = (0..floor.members)
        .map(|_| {
            let (socket, _) = listener.accept()?;
            socket.set_nodelay(true)?;
            Ok(socket)
        })
        .collect::<io::Result<_>>()?;
    let mut rounds_done = 0;
    for line in io::stdin().lock().lines() {
        let rounds: u32 =
            line?.trim().parse().map_err(|_| Failure::Usage("a number of rounds".into()))?;
        send_rounds(floor, &sockets, rounds, &mut rounds_done)?;
    }
    Ok(())
}

fn send_rounds(
    floor: &Floor,
    sockets: &[TcpStream],
    rounds: u32,
    rounds_done: &mut usize,
) -> io::Result<()> {
    let group = usize::try_from(floor.group()).unwrap_or(usize::MAX);
    let groups = sockets.len().div_ceil(group).max(1);
    let interval =
        if floor.tight { Duration::ZERO } else { Duration::from_secs_f64(1.0 / floor.rate) };
    let mut template = Template::bare(floor.payload_bytes);
    let mut frame = Vec::new();
    let started = now_ns();
    for round in 0..rounds {
        let mut intended = add_ns(started, interval.saturating_mul(round));
        if floor.tight {
            intended = now_ns();
        } else {
            std::thread::sleep(Duration::from_nanos(since_ns(now_ns(), intended)));
        }
        frame.clear();
        let sequence = u32::try_from(*rounds_done / groups).unwrap_or(u32::MAX).saturating_add(1);
        template.append_unmasked(Mark { sequence, intended_ns: intended }, &mut frame);
        for mut socket in sockets.iter().skip(*rounds_done % groups * group).take(group) {
            // Blocking: a receiver that is behind slows the loop down instead of losing frames.
            socket.write_all(&frame)?;
        }
        *rounds_done += 1;
    }
    Ok(())
}

/// The child as its parent sees it; ends with it.
struct Loop {
    child: Child,
    stdin: ChildStdin,
    address: SocketAddr,
}

impl Loop {
    fn start(floor: &Floor) -> Result<Self, Failure> {
        let program = std::env::current_exe()?;
        let mut command = Command::new(program);
        command.args(["bench", "floor-child", "--members", &floor.members.to_string()]);
        command.args(["--group", &floor.group().to_string()]);
        command.args(["--payload-bytes", &floor.payload_bytes.to_string()]);
        if floor.tight {
            command.arg("--tight");
        } else {
            command.args(["--rate", &floor.rate.to_string()]);
        }
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|cause| Failure::failed("the bare loop cannot start", &cause))?;
        let mut line = String::new();
        if let Some(stdout) = child.stdout.take() {
            BufReader::new(stdout).read_line(&mut line)?;
        }
        let (Ok(address), Some(stdin)) = (line.trim().parse(), child.stdin.take()) else {
            child.kill()?;
            child.wait()?;
            return Err(Failure::Failed(format!("the bare loop did not start: {line:?}")));
        };
        Ok(Self { child, stdin, address })
    }

    fn go(&mut self, rounds: u32) -> Result<(), Failure> {
        writeln!(self.stdin, "{rounds}").and_then(|()| self.stdin.flush())?;
        Ok(())
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        // Both fail only where it has ended already, which is what is wanted.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Runs the bare loop once.
pub(crate) fn run(
    floor: &Floor,
    name: &str,
    warmup: Duration,
    duration: Duration,
) -> Result<Outcome, Failure> {
    if floor.members == 0 || !floor.rate.is_finite() || floor.rate <= 0.0 {
        return Err(Failure::Usage("--members and --rate must be above 0".into()));
    }
    limits::check_open_files(u64::from(floor.members) + 64)?;
    let mut bare = Loop::start(floor)?;
    let pid = bare.child.id();
    let mut swarm = Swarm::new(Shared::new(1, Format::Json, false))?;
    let members = usize::try_from(floor.members).unwrap_or(usize::MAX);
    let seats = (0..members).map(|_| {
        let (upgrade, joins) = (Vec::new(), VecDeque::new());
        Ok(Seat { upgrade, joins, room: 0, speaks: Speaks::Native })
    });
    swarm.connect(bare.address, seats, &Progress::new("connecting", members))?;
    let group = u64::from(floor.group());
    let warm = u64::from(floor.rounds(warmup)) * group;
    bare.go(floor.rounds(warmup))?;
    hear(&mut swarm, warm, warmup)?;
    swarm.shared.tally.begin_measuring();
    let (own, bytes) = (Cpu::of(std::process::id())?, swarm.shared.tally.bytes);
    let (cpu, started, rounds) = (Cpu::of(pid)?, Instant::now(), floor.rounds(duration));
    bare.go(rounds)?;
    let deliveries = u64::from(rounds) * group;
    hear(&mut swarm, warm + deliveries, duration)?;
    let elapsed = started.elapsed();
    let server = Cpu::of(pid)?.since(&cpu);
    Ok(Outcome::new(&Measured {
        job: name,
        connections: u64::from(floor.members),
        publications: u64::from(rounds),
        deliveries,
        bytes: swarm.shared.tally.bytes - bytes,
        duration_s: elapsed.as_secs_f64(),
        expected: warm + deliveries,
        tally: &swarm.shared.tally,
        server: Some(server),
        publishing: None,
        generator: Cpu::of(std::process::id())?.since(&own),
    }))
}

/// Reads until so many frames were heard.
fn hear(swarm: &mut Swarm, deliveries: u64, expected: Duration) -> Result<(), Failure> {
    let deadline = Instant::now() + expected * 10 + Duration::from_secs(10);
    while swarm.shared.tally.deliveries < deliveries {
        swarm.turn(Duration::from_millis(50))?;
        if let Some(reason) = swarm.shared.failures.first() {
            return Err(Failure::Failed(format!("the bare loop ended: {reason}")));
        }
        if Instant::now() > deadline {
            return Err(Failure::Timeout(format!(
                "the bare loop sent {} of {deliveries} frames",
                swarm.shared.tally.deliveries
            )));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_a_number_of_rounds() {
        let paced = Floor::paced(1_000, 20.0);
        assert_eq!(paced.rounds(Duration::from_secs(5)), 100);
        assert_eq!(paced.rounds(Duration::ZERO), 1);
        let tight = Floor { tight: true, ..paced };
        assert_eq!(tight.rounds(Duration::from_secs(2)), 300);
        let groups = Floor { group: Some(10), rate: 2_000.0, ..Floor::paced(1_000, 1.0) };
        assert_eq!((groups.group(), groups.rounds(Duration::from_secs(1))), (10, 2_000));
    }

    #[test]
    fn rounds_go_to_the_groups_in_turn_with_rising_numbers() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let pairs: Vec<(TcpStream, TcpStream)> = (0..4)
            .map(|_| (TcpStream::connect(address).unwrap(), listener.accept().unwrap().0))
            .collect();
        let sockets: Vec<TcpStream> =
            pairs.iter().map(|(_, server)| server.try_clone().unwrap()).collect();
        let floor = Floor { tight: true, group: Some(2), ..Floor::paced(4, 1.0) };
        let mut done = 0;
        send_rounds(&floor, &sockets, 3, &mut done).unwrap();
        send_rounds(&floor, &sockets, 1, &mut done).unwrap();
        for (client, _) in &pairs {
            let mut frames = vec![0; 2 * 204];
            io::Read::read_exact(&mut &*client, &mut frames).unwrap();
            let sequences: Vec<u32> = frames
                .chunks(204)
                .filter_map(|frame| crate::bench::frames::Finder::new(b'#').find(frame))
                .map(|mark| mark.sequence)
                .collect();
            assert_eq!(sequences, [1, 2]);
        }
    }
}
