//! Users whose node dies, or sleeps past its lease: when they are gone from the rosters, how often that is told, and
//! that nobody who is also elsewhere, or who went elsewhere, is told to have left or comes back as a ghost.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use roomcast_client::{Client, Event, Options};
use roomcast_protocol::guard::Kind;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::sleep;
use xtask::servers::Redis;

use crate::check::check;
use crate::crowd::token;
use crate::node::Node;
use crate::record::Facts;
use crate::report::say;
use crate::rolling::CLIENTS;
use crate::stage::{Folder, NODES, Outcome, RULES};

/// Rooms, and how many of them each user is in.
const ROOMS: usize = 5;
const ROOMS_EACH: usize = 2;

/// Of so many users of the node that dies one is on another node too.
const ALSO_ELSEWHERE_EVERY: usize = 10;

/// How soon ghosts must be gone, and rosters be right after a node's return; and the slack of a busy machine.
const GONE: Duration = Duration::from_secs(10);
const SLACK: Duration = Duration::from_secs(2);

/// How long a node sleeps: its lease is 8 s.
const SLEEP: Duration = Duration::from_secs(20);

/// How long nothing more may be told once rosters are right: longer than a lease and the grace together.
const QUIET: Duration = Duration::from_secs(14);

/// How long anything else may take, and how many connect at a time.
const PATIENCE: Duration = Duration::from_secs(60);
const CONNECTING_MAX: usize = 32;

/// Users by room.
type Rosters = BTreeMap<String, BTreeSet<String>>;

/// How often who was told to have come and to have gone, by room and user.
type Counts = BTreeMap<(String, String), (u64, u64)>;

/// Plays it with so many users on the node that dies, and half as many on the one that sleeps.
///
/// # Errors
/// A server does not start, or somebody cannot join.
pub(crate) fn play(binary: &Path, users: Option<usize>) -> Result<Outcome, String> {
    let users = users.unwrap_or(CLIENTS);
    let redis = Redis::start(&[])?;
    let folder = Folder::new("ghosts")?;
    let rules = format!("{RULES}{PRESENCE}");
    let config = folder.write("roomcast.toml", &rules)?;
    let url = redis.url();
    let args = ["--config", &config, "--redis", &url, "--set", "limits.connections_per_ip=20000"];
    let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
    let mut nodes = Node::start_all(NODES, binary, folder.path(), &args)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|cause| format!("no runtime: {cause}"))?;
    say(&format!("ghosts: {users} users on a node that dies, {} on one that sleeps", users / 2));
    let (mut notes, mut troubles) = (Vec::new(), Vec::new());
    let played = runtime.block_on(async {
        let mut watch = Watch::start(&nodes).await?;
        die(&mut nodes, &mut watch, users, (&mut notes, &mut troubles)).await?;
        doze(&nodes, &mut watch, users / 2, (&mut notes, &mut troubles)).await
    });
    played?;
    let memory_kib = nodes.iter().map(Node::memory_kib).max().unwrap_or_default();
    for node in [0, 2] {
        troubles.extend(nodes.get_mut(node).and_then(|node| node.end().err()));
    }
    let verdict = check(&Facts::default());
    Ok(Outcome { name: "ghosts", verdict, memory_kib, troubles, notes })
}

const PRESENCE: &str = r#"
[[rooms]]
match = "here-{id:int}"
join = "true"
presence = "members"
members_max = 10000
"#;

fn room(number: usize) -> String {
    format!("here-{}", number % ROOMS)
}

/// The rooms of a user.
fn rooms_of(user: usize) -> impl Iterator<Item = String> {
    (0..ROOMS_EACH).map(move |step| room(user + step))
}

/// Somebody came or went, as a member of the room was told.
#[derive(Clone, Debug)]
struct Told {
    at: Instant,
    room: String,
    user: String,
    came: bool,
}

/// Who is told of all rooms, on the node to which nothing happens.
struct Watch {
    client: Client,
    told: Arc<Mutex<Vec<Told>>>,
    right: Rosters,
}

impl Watch {
    async fn start(nodes: &[Node]) -> Result<Self, String> {
        let node = nodes.first().ok_or("there is no node")?;
        let client = connect(&node.public, "watcher").await?;
        let told = Arc::new(Mutex::new(Vec::new()));
        let (heard, all) = (client.clone(), Arc::clone(&told));
        tokio::spawn(async move {
            while let Some(event) = heard.next().await {
                let Event::Presence(news) = event else { continue };
                let at = Instant::now();
                let room = &news.room;
                let one = |user: String, came| Told { at, room: room.clone(), user, came };
                let came = news.joined.into_iter().map(|user| one(user, true));
                let went = news.left.into_iter().map(|user| one(user, false));
                all.lock().unwrap_or_else(PoisonError::into_inner).extend(came.chain(went));
            }
        });
        let mut right = Rosters::new();
        for number in 0..ROOMS {
            let name = room(number);
            client.join(&name).await.map_err(|cause| format!("{name}: {cause}"))?;
            right.entry(name).or_default().insert("watcher".to_owned());
        }
        Ok(Self { client, told, right })
    }

    fn come(&mut self, user: usize, name: &str) {
        for room in rooms_of(user) {
            self.right.entry(room).or_default().insert(name.to_owned());
        }
    }

    fn go(&mut self, name: &str) {
        for users in self.right.values_mut() {
            users.remove(name);
        }
    }

    /// Waits until all rosters are as they should be.
    async fn until_right(&self, limit: Duration) -> Result<Duration, String> {
        let began = Instant::now();
        loop {
            let mut wrong = None;
            for (room, right) in &self.right {
                let roster = self.client.presence(room).await.map_err(|it| it.to_string())?;
                let users: BTreeSet<_> = roster.users.unwrap_or_default().into_iter().collect();
                if users != *right {
                    let odd: Vec<_> = users.symmetric_difference(right).take(3).collect();
                    let (is, should) = (users.len(), right.len());
                    wrong =
                        Some(format!("{room}: {is} users, should be {should}, such as {odd:?}"));
                }
            }
            let Some(wrong) = wrong else { return Ok(began.elapsed()) };
            if began.elapsed() > limit {
                return Err(wrong);
            }
            sleep(Duration::from_millis(100)).await;
        }
    }

    /// What was told since then, as counts of coming and going by room and user; and how long the last going took.
    fn since(&self, since: Instant) -> (Counts, Duration) {
        let told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut counts, mut last) = (Counts::new(), Duration::ZERO);
        for Told { at, room, user, came } in told.iter().filter(|told| told.at >= since) {
            let count = counts.entry((room.clone(), user.clone())).or_default();
            if *came {
                count.0 += 1;
            } else {
                count.1 += 1;
                last = last.max(at.duration_since(since));
            }
        }
        (counts, last)
    }
}

/// A node is killed with all its users.
async fn die(
    nodes: &mut [Node],
    watch: &mut Watch,
    count: usize,
    (notes, troubles): (&mut Vec<String>, &mut Vec<String>),
) -> Result<(), String> {
    let name = |user: usize| format!("dies-{user}");
    let here: Vec<usize> = (0..count).collect();
    let elsewhere: Vec<usize> = (0..count).step_by(ALSO_ELSEWHERE_EVERY).collect();
    let (safe, dying) = (public(nodes, 0)?, public(nodes, 1)?);
    let clients = join_all(&dying, &here, name).await?;
    let others = join_all(&safe, &elsewhere, name).await?;
    here.iter().for_each(|user| watch.come(*user, &name(*user)));
    watch.until_right(PATIENCE).await?;
    say("ghosts: a node is killed");
    let killed = Instant::now();
    nodes.get_mut(1).ok_or("no such node")?.kill()?;
    let alone = here.iter().filter(|user| !user.is_multiple_of(ALSO_ELSEWHERE_EVERY));
    alone.clone().for_each(|user| watch.go(&name(*user)));
    let right = watch.until_right(PATIENCE).await;
    let gone = killed.elapsed();
    sleep(QUIET).await;
    let (counts, last) = watch.since(killed);
    let expected = alone.clone().count() * ROOMS_EACH;
    let once = counts.values().filter(|it| **it == (0, 1)).count();
    let odd: Vec<_> = counts.iter().filter(|(_, it)| **it != (0, 1)).take(3).collect();
    notes.push(format!(
        "killed: rosters right after {:.1} s, last leave told after {:.1} s, {once} leaves of {expected} told once, {} others",
        gone.as_secs_f64(),
        last.as_secs_f64(),
        counts.len() - once
    ));
    troubles.extend(right.err().map(|wrong| format!("killed: {wrong}")));
    if gone.max(last) > GONE + SLACK {
        troubles.push(format!("killed: ghosts were gone after {:.1} s", gone.as_secs_f64()));
    }
    let elsewhere = |user: &String| others.iter().any(|(it, _)| name(*it) == *user);
    let wrongly = counts.keys().filter(|(_, user)| elsewhere(user)).count();
    if (once, counts.len(), wrongly) != (expected, expected, 0) {
        let text = format!("killed: {once} of {expected} leaves, {wrongly} of users elsewhere");
        troubles.push(format!("{text}, odd: {odd:?}"));
    }
    drop((clients, others));
    Ok(())
}

/// A node is stopped in place past its lease, and wakes up. Meanwhile a third of its users goes to another node, a third
/// goes away for good, a third stays.
async fn doze(
    nodes: &[Node],
    watch: &mut Watch,
    count: usize,
    (notes, troubles): (&mut Vec<String>, &mut Vec<String>),
) -> Result<(), String> {
    let name = |user: usize| format!("dozes-{user}");
    let (safe, dozing) = (public(nodes, 0)?, public(nodes, 2)?);
    let here: Vec<usize> = (0..count).collect();
    // Those who were also elsewhere have left with the scene before.
    for user in 0..count * 2 {
        watch.go(&format!("dies-{user}"));
    }
    let mut clients = join_all(&dozing, &here, name).await?;
    here.iter().for_each(|user| watch.come(*user, &name(*user)));
    watch.until_right(PATIENCE).await?;
    say("ghosts: a node is stopped");
    let node = nodes.get(2).ok_or("no such node")?;
    node.stop()?;
    let stopped = Instant::now();
    let group = |group: usize| here.iter().copied().filter(move |user| user % 3 == group);
    here.iter().for_each(|user| watch.go(&name(*user)));
    let right = watch.until_right(GONE + SLACK).await;
    let gone = stopped.elapsed();
    troubles.extend(right.err().map(|wrong| format!("stopped: {wrong}")));
    // Whoever goes away drops its connection: the sleeping node cannot answer.
    clients.retain(|(user, _)| user % 3 == 0);
    let moved = join_all(&safe, &group(1).collect::<Vec<_>>(), name).await?;
    group(1).for_each(|user| watch.come(user, &name(user)));
    sleep(SLEEP.saturating_sub(stopped.elapsed())).await;
    node.go_on()?;
    say("ghosts: it goes on");
    let woken = Instant::now();
    group(0).for_each(|user| watch.come(user, &name(user)));
    for (user, client) in &clients {
        // Whoever stays says something: only those count again.
        client.ping().await.map_err(|cause| format!("{}: {cause}", name(*user)))?;
    }
    let right = watch.until_right(PATIENCE).await;
    let back = woken.elapsed();
    sleep(QUIET).await;
    let still = watch.until_right(Duration::ZERO).await;
    let (counts, _) = watch.since(woken);
    let (stay, flaps): (Vec<_>, Vec<_>) = counts.iter().partition(|(_, it)| **it == (1, 0));
    notes.push(format!(
        "stopped: users gone after {:.1} s; rosters right {:.1} s after its return, {} came back once, {} told otherwise",
        gone.as_secs_f64(),
        back.as_secs_f64(),
        stay.len(),
        flaps.len()
    ));
    troubles.extend(right.err().map(|wrong| format!("woken: {wrong}")));
    troubles.extend(still.err().map(|wrong| format!("woken, later: {wrong}")));
    if back > GONE + SLACK {
        troubles.push(format!("woken: rosters were right after {:.1} s", back.as_secs_f64()));
    }
    let expected = group(0).count() * ROOMS_EACH;
    if stay.len() != expected || !flaps.is_empty() {
        let odd: Vec<_> = flaps.iter().take(3).collect();
        troubles.push(format!("woken: {} of {expected} came back once, odd: {odd:?}", stay.len()));
    }
    drop((clients, moved));
    Ok(())
}

fn public(nodes: &[Node], index: usize) -> Result<String, String> {
    nodes.get(index).map(|node| node.public.clone()).ok_or("no such node".to_owned())
}

/// Connects these users to one node, and has them join their rooms.
async fn join_all(
    address: &str,
    users: &[usize],
    name: impl Fn(usize) -> String,
) -> Result<Vec<(usize, Client)>, String> {
    let places = Arc::new(Semaphore::new(CONNECTING_MAX));
    let mut tasks = JoinSet::new();
    for user in users.iter().copied() {
        let (places, address, name) = (Arc::clone(&places), address.to_owned(), name(user));
        tasks.spawn(async move {
            let place = places.acquire().await;
            let client = connect(&address, &name).await?;
            for room in rooms_of(user) {
                client.join(&room).await.map_err(|cause| format!("{name}: {room}: {cause}"))?;
            }
            drop(place);
            Ok::<_, String>((user, client))
        });
    }
    let mut clients = Vec::new();
    while let Some(joined) = tasks.join_next().await {
        let (user, client) = joined.map_err(|cause| cause.to_string())??;
        clients.push((user, client.clone()));
    }
    Ok(clients)
}

/// Connects one, whose events nobody wants.
async fn connect(address: &str, subject: &str) -> Result<Client, String> {
    let mut options = Options::new(format!("ws://{address}/ws"), token(subject, Kind::User, &[])?);
    options.connect_timeout = PATIENCE;
    options.request_timeout = PATIENCE;
    options.events_max = 1 << 14;
    roomcast_client::connect(options).await.map_err(|cause| format!("{subject}: {cause}"))
}
