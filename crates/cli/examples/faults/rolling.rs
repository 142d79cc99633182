//! Nodes behind a balancer are replaced one after the other, under load: sessions go to other nodes without losing
//! anything, no faster than `drain.rate`.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{JoinHandle, sleep};
use std::time::{Duration, Instant};

use xtask::servers::Redis;

use crate::crowd::Shared;
use crate::node;
use crate::record::{Drain, Member};
use crate::report::say;
use crate::stage::{NODES, Outcome, Script, Stage, members, rooms};

/// Clients unless told otherwise, and the most: each costs the nodes two open files, the balancer four.
pub(crate) const CLIENTS: usize = 200;
pub(crate) const CLIENTS_MAX: usize = 4_000;

/// Clients beside them that cannot hand over, and say with which code they were closed.
const WITNESSES: usize = 12;

/// When a node must have let all go.
const DEADLINE_S: u64 = 40;

/// How long a node may take to end after that.
const END_S: u64 = 15;

/// How long all may take to join at first.
const BEGIN_LIMIT: Duration = Duration::from_secs(120);

/// How often nodes are asked who has come.
const LOOK: Duration = Duration::from_millis(50);

/// Over how long connects are counted. Units: seconds.
const WINDOWS_S: [u64; 2] = [1, 5];

/// Clients that have their turn in a second: a node is empty within about 10 s.
fn rate(clients: usize) -> u64 {
    (clients as u64 / 20).clamp(20, 200)
}

/// Plays it.
///
/// # Errors
/// Too many clients, a server does not start, or a node does not end.
pub(crate) fn play(binary: &Path, clients: Option<usize>) -> Result<Outcome, String> {
    let clients = clients.unwrap_or(CLIENTS);
    if clients > CLIENTS_MAX {
        return Err(format!("--clients {clients}: at most {CLIENTS_MAX} here"));
    }
    let redis = Redis::start(&[])?;
    let url = redis.url();
    let rate = rate(clients);
    let all = rooms(&[("kept", 8), ("loose", 2)]);
    let mut who = members(clients, all.len());
    who.iter_mut().for_each(|member| member.travels = true);
    // In rooms that keep nothing: what is lost there cannot be made up for.
    let kept = all.iter().filter(|room| room.kept).count();
    let witness = |index: usize| {
        let rooms = (kept..all.len()).collect();
        Member { rooms, vip: index.is_multiple_of(2), travels: false }
    };
    who.extend((0..WITNESSES).map(witness));
    let drain_rate = format!("drain.rate={rate}");
    let deadline = format!("drain.deadline={DEADLINE_S}s");
    let set = ["drain.window=1s", &drain_rate, &deadline, "limits.connections_per_ip=20000"];
    let mut stage = Stage::start(Script {
        name: "rolling",
        binary,
        urls: [url.clone(), url.clone(), url],
        serve: set.iter().flat_map(|it| ["--set".to_owned(), (*it).to_owned()]).collect(),
        rooms: all,
        members: who,
        every_ms: (clients as u64).clamp(250, 1_000),
        balanced: true,
    })?;
    let shared = Arc::clone(&stage.crowd.shared);
    all_in(&shared, clients * 2)?;
    let mut notes = Vec::new();
    let internals = stage.nodes.iter().map(|node| node.internal.clone()).collect();
    let watch = Watch::start(internals)?;
    for index in 0..NODES {
        let name = format!("node {} replaced", index + 1);
        stage.fault(&name, |stage| replace(stage, index, &mut notes))?;
    }
    let seen = watch.end()?;
    let mut outcome = stage.end();
    let counted = shared.journeys.counted();
    for window_s in WINDOWS_S {
        let most = most_within(&seen.ready, window_s * 1_000_000, REPORT_US);
        notes.push(format!(
            "connects within {window_s} s: at most {most} a second; drain.rate {rate}"
        ));
        if most > rate {
            outcome.troubles.push(format!("{most} connects a second within {window_s} s"));
        }
    }
    let closes: Vec<_> =
        seen.closes.iter().map(|(code, count)| format!("{code} {count}")).collect();
    notes.push(format!("closed by the nodes: {}", closes.join(", ")));
    notes.push(format!("sessions: {counted:?}"));
    let total = &outcome.verdict.total;
    let told = [
        ("lost, though told", total.lost_told),
        ("gaps told", total.gaps),
        ("holes seen by sessions", counted.holes),
        ("gaps seen by sessions", counted.gaps),
        ("sessions begun anew", counted.fresh),
    ];
    let wrong = told.iter().filter(|(_, count)| *count > 0);
    outcome.troubles.extend(wrong.map(|(what, count)| format!("{what}: {count}")));
    outcome.troubles.extend(odd_closes(&seen));
    outcome.notes = notes;
    Ok(outcome)
}

/// Waits until sessions are in so many rooms.
fn all_in(shared: &Shared, joins: usize) -> Result<(), String> {
    let began = Instant::now();
    while shared.joins() < joins {
        if began.elapsed() > BEGIN_LIMIT {
            return Err(format!("{} of {joins} joins in time", shared.joins()));
        }
        sleep(LOOK);
    }
    Ok(())
}

/// Connections that nodes ended otherwise than a drain, or a client, does.
fn odd_closes(seen: &Seen) -> Vec<String> {
    let good = ["moved", "drain", "stopping", "normal"];
    let odd = seen.closes.keys().filter(|code| !good.contains(&code.as_str()));
    odd.map(|code| format!("connections were closed as {code}")).collect()
}

fn seconds(since: Instant) -> f64 {
    since.elapsed().as_secs_f64()
}

/// Has one node let its clients go, and starts it anew.
fn replace(stage: &mut Stage, index: usize, notes: &mut Vec<String>) -> Result<(), String> {
    let began = Instant::now();
    let began_us = stage.crowd.shared.book.now_us();
    let node = stage.nodes.get_mut(index).ok_or("no such node")?;
    let clients = node.figure("roomcast_sessions_open");
    node.end_within(Duration::from_secs(DEADLINE_S + END_S))?;
    let line = node.last_line_with("drained").unwrap_or_default();
    notes.push(format!(
        "node {} with {clients} clients ended after {:.1} s: {line}",
        index + 1,
        seconds(began)
    ));
    say(notes.last().map_or("", String::as_str));
    stage.drains.push(Drain {
        node: index,
        began_us,
        ended_us: stage.crowd.shared.book.now_us(),
        limit_us: DEADLINE_S * 1_000_000,
    });
    node.restart()
}

/// What the nodes counted.
#[derive(Debug, Default)]
struct Seen {
    /// How many sessions had begun on all nodes, at times in rising order. Units: microseconds.
    ready: Vec<(u64, i64)>,
    /// Connections that nodes ended, by the name of the close code.
    closes: BTreeMap<String, u64>,
}

/// Asks all nodes all the time, also while one is away.
struct Watch {
    over: Arc<AtomicBool>,
    thread: JoinHandle<Seen>,
}

impl Watch {
    fn start(internals: Vec<String>) -> Result<Self, String> {
        let over = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&over);
        let thread = std::thread::Builder::new().name("watch".into()).spawn(move || {
            let mut nodes: Vec<Counts> = internals.iter().map(|_| Counts::default()).collect();
            let (began, mut ready) = (Instant::now(), Vec::new());
            while !told.load(Ordering::Relaxed) {
                for (counts, internal) in nodes.iter_mut().zip(&internals) {
                    // A node that is away has said all that it will.
                    if let Ok(figures) = node::get(internal, "/metrics") {
                        counts.take(&figures);
                    }
                }
                let at_us = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
                ready.push((at_us, nodes.iter().map(|it| it.total(READY)).sum()));
                sleep(LOOK);
            }
            let mut closes = BTreeMap::new();
            for (name, count) in nodes.iter().flat_map(Counts::closes) {
                *closes.entry(name).or_default() += count;
            }
            Seen { ready, closes }
        });
        let thread = thread.map_err(|cause| format!("no thread to watch: {cause}"))?;
        Ok(Self { over, thread })
    }

    fn end(self) -> Result<Seen, String> {
        self.over.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| "the watching thread broke".to_owned())
    }
}

/// How often a lane that does not drain shows its figures: so old may each be that is read.
const REPORT_US: u64 = 250_000;

const READY: &str = "roomcast_sessions_ready_total";
const CLOSED: &str = "roomcast_connections_closed_total{code=\"";

/// The counters of one node over all its lives since it was watched.
#[derive(Debug, Default)]
struct Counts {
    /// What it counted before it was watched, or in its lives before; less where that is more.
    before: BTreeMap<String, i64>,
    last: BTreeMap<String, i64>,
}

impl Counts {
    /// Takes its figures as they are now.
    fn take(&mut self, figures: &str) {
        let mut now = BTreeMap::from([(READY.to_owned(), whole(node::sum(figures, READY)))]);
        for line in figures.lines() {
            if let Some((code, rest)) = line.strip_prefix(CLOSED).and_then(|it| it.split_once('"'))
            {
                let value = rest.rsplit(' ').next().and_then(|it| it.parse().ok());
                now.insert(code.to_owned(), whole(value.unwrap_or_default()));
            }
        }
        let is_first = self.last.is_empty();
        let is_anew = now.get(READY) < self.last.get(READY);
        for (name, value) in &now {
            let before = self.before.entry(name.clone()).or_default();
            if is_first {
                *before = -value;
            } else if is_anew {
                *before += self.last.get(name).copied().unwrap_or_default();
            }
        }
        self.last = now;
    }

    fn total(&self, name: &str) -> i64 {
        let of = |counts: &BTreeMap<String, i64>| counts.get(name).copied().unwrap_or_default();
        of(&self.before) + of(&self.last)
    }

    fn closes(&self) -> Vec<(String, u64)> {
        let names = self.last.keys().filter(|name| *name != READY);
        let count = |name: &String| (name.clone(), self.total(name).unsigned_abs());
        names.map(count).filter(|(_, count)| *count > 0).collect()
    }
}

fn whole(value: f64) -> i64 {
    // Counters of a scene are small and whole.
    format!("{value:.0}").parse().unwrap_or_default()
}

/// The most that came in a second, counted over a time, from totals at times in rising order, each of which may have been
/// true so long before. Where nobody looked for longer than that time, they are spread evenly over it.
fn most_within(totals: &[(u64, i64)], window_us: u64, old_us: u64) -> u64 {
    let mut most = 0;
    for (index, (at_us, total)) in totals.iter().enumerate() {
        let before = totals.get(..index).unwrap_or_default();
        let from = before.iter().rev().find(|(from_us, _)| at_us - from_us >= window_us);
        let Some((from_us, from)) = from else { continue };
        let came = total.saturating_sub(*from).unsigned_abs();
        most = most.max(came * 1_000_000 / (at_us - from_us + old_us).max(1));
    }
    most
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connects_are_counted_over_each_second() {
        let step = |n: u64| (n * 100_000, i64::try_from(n * 3).unwrap());
        let even: Vec<_> = (0..40).map(step).collect();
        assert_eq!(most_within(&even, 1_000_000, 0), 30);
        let burst = [(0, 0), (500_000, 90), (1_000_000, 90), (1_500_000, 90)];
        assert_eq!(most_within(&burst, 1_000_000, 0), 90);
        assert_eq!(most_within(&[(0, 0), (3_000_000, 90)], 1_000_000, 0), 30, "nobody looked");
        assert_eq!(most_within(&[(0, 0), (500_000, 9)], 1_000_000, 0), 0, "too short");
        assert_eq!(most_within(&[(0, 0), (1_000_000, 50)], 1_000_000, 250_000), 40, "late figures");
    }

    #[test]
    fn counters_go_on_over_the_lives_of_a_node() {
        let figures = |ready: u32, moved: u32| {
            format!("{READY}{{lane=\"0\"}} {ready}\n{CLOSED}moved\"}} {moved}\n")
        };
        let mut counts = Counts::default();
        counts.take(&figures(50, 2));
        counts.take(&figures(60, 7));
        assert_eq!((counts.total(READY), counts.closes()), (10, vec![("moved".into(), 5)]));
        counts.take(&figures(3, 1));
        counts.take(&figures(4, 1));
        assert_eq!((counts.total(READY), counts.closes()), (14, vec![("moved".into(), 6)]));
    }

    #[test]
    fn a_node_is_empty_soon_whatever_the_number_of_clients() {
        for (clients, expected) in [(1, 20), (200, 20), (1_000, 50), (CLIENTS_MAX, 200)] {
            assert_eq!(rate(clients), expected, "{clients}");
        }
    }
}
