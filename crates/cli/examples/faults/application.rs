//! The application that nodes ask and tell: what becomes of requests and webhooks while it is away for a minute, and of
//! rooms' first users and last ones while a node is killed.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use roomcast_client::{Client, Error, Response};
use roomcast_protocol::guard::Kind;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::sleep;
use xtask::servers::Redis;

use crate::app::{App, EVENTS};
use crate::check::check;
use crate::node::{Node, get};
use crate::orders::{ask, connect, until_known};
use crate::record::Facts;
use crate::report::say;
use crate::stage::{Folder, NODES, Outcome};

/// How long the application is away.
const AWAY: Duration = Duration::from_secs(60);

/// How long users come and go while a node is killed, and when that is.
const CHURN: Duration = Duration::from_secs(20);
const KILL_AFTER: Duration = Duration::from_secs(6);

/// Users of a node who come and go at a time, and how long each stays.
const AT_ONCE: usize = 10;
const STAY: Duration = Duration::from_millis(400);

/// Rooms, of which each user is in two: so many that most are empty at times.
const ROOMS: u64 = 100;

/// Events that a node keeps waiting: less than come while the application is away.
const QUEUE: u64 = 1_000;

/// How long nothing may come in until all is told: longer than a lease, and than a breaker stays open that opened just before
/// the application was back.
const QUIET: Duration = Duration::from_secs(70);

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(240);

/// Failures in a row that open the breaker, and the code of a refusal by it.
const FAILURES: usize = 5;
const BREAKER_OPEN: u16 = 132;

fn config(app: &App) -> String {
    format!(
        r#"
[agents]
leave_grace = "200ms"

[[rooms]]
match = "busy-{{id:int}}"
join = "true"
presence = "members"

[[upstream.targets]]
name = "app"
url = "http://127.0.0.1:{}"
allow_private = ["127.0.0.1"]
secret = "a secret of thirty-two characters"

[[upstream.calls]]
name = "quote"
target = "app"
path = "/quote"
cache = "1s"

[[upstream.calls]]
name = "events"
target = "app"
path = "{EVENTS}"

[[upstream.requests]]
methods = ["quote"]
call = "quote"

[limits]
webhook_events = {QUEUE}

[[webhooks]]
call = "events"
events = ["connected", "disconnected", "occupied", "vacated"]
"#,
        app.port
    )
}

/// Sessions that came and went by the book of clients.
#[derive(Debug, Default)]
struct Made {
    users: AtomicU64,
    ends: AtomicBool,
}

/// Plays it.
///
/// # Errors
/// A server does not start, or somebody cannot connect.
pub(crate) fn play(binary: &Path) -> Result<Outcome, String> {
    let redis = Redis::start(&[])?;
    let folder = Folder::new("application")?;
    let mut app = App::start()?;
    let file = folder.write("roomcast.toml", &config(&app))?;
    let url = redis.url();
    let args = ["--config", &file, "--redis", &url, "--set", "limits.connections_per_ip=20000"];
    let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
    let mut nodes = Node::start_all(NODES, binary, folder.path(), &args)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|cause| format!("no runtime: {cause}"))?;
    let (mut notes, mut troubles) = (Vec::new(), Vec::new());
    runtime.block_on(async {
        until_known(&nodes).await?;
        say(&format!("application: it is away for {AWAY:?}, while users come and go"));
        away(&mut app, &nodes, (&mut notes, &mut troubles)).await?;
        say("application: a node is killed, while users come and go");
        killed(&app, &mut nodes, (&mut notes, &mut troubles)).await
    })?;
    troubles.extend(app.book.wrong());
    let memory_kib = nodes.iter().map(Node::memory_kib).max().unwrap_or_default();
    for node in &mut nodes {
        troubles.extend(node.end().err());
    }
    let verdict = check(&Facts::default());
    Ok(Outcome { name: "application", verdict, memory_kib, troubles, notes })
}

/// What is found: figures, and what is wrong.
type Found<'a> = (&'a mut Vec<String>, &'a mut Vec<String>);

/// The application is stopped for a minute: requests are answered from what is kept, and webhooks wait.
async fn away(app: &mut App, nodes: &[Node], found: Found<'_>) -> Result<(), String> {
    let (notes, troubles) = found;
    let first = nodes.first().ok_or("there is no node")?;
    let client = connect(&first.public, "asks", Kind::User).await?;
    let fresh = quote(&client, "kept").await.map_err(|cause| cause.to_string())?;
    if fresh.stale {
        troubles.push(format!("an answer of the application itself is stale: {fresh:?}"));
    }
    let made = Arc::new(Made::default());
    let churn = come_and_go(nodes, &made);
    app.stop();
    let stopped = Instant::now();
    let (failures, opened) = until_open(&client).await?;
    sleep(Duration::from_secs(1)).await; // what is kept is fresh no longer
    match quote(&client, "kept").await {
        Ok(Response { stale: true, body, .. }) if body == fresh.body => {}
        other => troubles.push(format!("the breaker is open, and the answer {other:?}")),
    }
    if failures != FAILURES {
        troubles.push(format!("the breaker opened after {failures} failures"));
    }
    sleep(AWAY.saturating_sub(stopped.elapsed())).await;
    made.ends.store(true, Ordering::Relaxed);
    let (behind, troubled) = ended(churn).await;
    troubles.extend(troubled);
    app.resume()?;
    let closed = until_closed(&client, opened).await?;
    let again = quote(&client, "kept").await.map_err(|cause| cause.to_string())?;
    if again.stale || again.body == fresh.body {
        troubles.push(format!("the application is back, and the answer {again:?}"));
    }
    notes.push(format!(
        "the breaker opened after {failures} failures, and answered what was kept as stale; {closed:.1?} later one request \
         was let through, and it closed"
    ));
    client.close().await;
    until_quiet(app).await?;
    let sessions = behind + 1;
    let told = Told::of(&app.book.events());
    troubles.extend(told.troubles.iter().cloned());
    let (listed, replayed) = replay(app, nodes, troubles).await?;
    let all = Told::of(&app.book.events());
    let waited = told.sessions("disconnected");
    if waited as u64 + listed.sessions < sessions {
        troubles.push(format!(
            "of {sessions} sessions the end of {waited} was told, and of {} it is a dead letter",
            listed.sessions
        ));
    }
    for kind in ["connected", "disconnected"] {
        let count = all.sessions(kind) as u64;
        if count != sessions {
            troubles.push(format!("of {sessions} sessions {count} were told as {kind} in the end"));
        }
    }
    if listed.occupancies > 0 {
        let count = listed.occupancies;
        troubles.push(format!("{count} dead letters tell of rooms that were occupied or vacated"));
    }
    notes.push(format!(
        "{sessions} sessions came and went meanwhile, with a queue of {QUEUE} events a node: {} events told once it was back, \
         none twice but {} repeats with the same id; {} listed as dead letters, of which {replayed} were told when replayed; \
         {} changes of rooms, strictly occupied and vacated in turn",
        told.events, all.repeats, listed.count, all.changes
    ));
    Ok(())
}

/// A node is killed: rooms are told as occupied and as vacated once each all the same.
async fn killed(app: &App, nodes: &mut [Node], found: Found<'_>) -> Result<(), String> {
    let (notes, troubles) = found;
    let made = Arc::new(Made::default());
    let before = Told::of(&app.book.events());
    let churn = come_and_go(nodes, &made);
    sleep(KILL_AFTER).await;
    nodes.last_mut().ok_or("there is no node")?.kill()?;
    sleep(CHURN.saturating_sub(KILL_AFTER)).await;
    made.ends.store(true, Ordering::Relaxed);
    // Those of the node that is gone end with it.
    drop(ended(churn).await);
    nodes.last_mut().ok_or("there is no node")?.restart()?;
    until_quiet(app).await?;
    let told = Told::of(&app.book.events());
    troubles.extend(told.troubles.iter().cloned());
    for room in &told.occupied {
        troubles.push(format!("{room} is told as occupied, and everybody has gone"));
    }
    notes.push(format!(
        "a node was killed while users came and went: {} changes of rooms, strictly in turn, {} repeats with the same id, \
         all vacated in the end",
        told.changes - before.changes,
        told.repeats - before.repeats
    ));
    Ok(())
}

async fn quote(client: &Client, item: &str) -> Result<Response, Error> {
    client.request("quote", &json!({ "item": item })).await
}

/// Asks for what is not kept until the breaker refuses; how many failed before, and when it opened.
async fn until_open(client: &Client) -> Result<(usize, Instant), String> {
    for failures in 0..100 {
        match quote(client, &format!("new-{failures}")).await {
            Err(Error::Refused(refused)) if refused.code == BREAKER_OPEN => {
                return Ok((failures, Instant::now()));
            }
            Err(Error::Refused(_)) => {}
            other => return Err(format!("the application is away, and answered {other:?}")),
        }
    }
    Err("the breaker does not open".to_owned())
}

/// Asks until the application answers itself; how long after the breaker opened that was.
async fn until_closed(client: &Client, opened: Instant) -> Result<Duration, String> {
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        if quote(client, "other").await.is_ok_and(|answer| !answer.stale) {
            return Ok(opened.elapsed());
        }
        sleep(Duration::from_millis(100)).await;
    }
    Err("the breaker does not close".to_owned())
}

/// Waits until nothing has come in for long.
async fn until_quiet(app: &App) -> Result<(), String> {
    let deadline = Instant::now() + PATIENCE;
    let (mut count, mut since) = (app.book.count(), Instant::now());
    while since.elapsed() < QUIET {
        if Instant::now() > deadline {
            return Err("events come in without an end".to_owned());
        }
        sleep(Duration::from_millis(200)).await;
        if app.book.count() != count {
            (count, since) = (app.book.count(), Instant::now());
        }
    }
    Ok(())
}

/// Users of all nodes come, are in two rooms for a while, and go.
fn come_and_go(nodes: &[Node], made: &Arc<Made>) -> JoinSet<Result<u64, String>> {
    let mut tasks = JoinSet::new();
    for node in nodes {
        for _ in 0..AT_ONCE {
            let (address, made) = (node.public.clone(), Arc::clone(made));
            tasks.spawn(async move {
                let mut count = 0;
                while !made.ends.load(Ordering::Relaxed) {
                    let number = made.users.fetch_add(1, Ordering::Relaxed);
                    let name = format!("u-{number}");
                    let client = connect(&address, &name, Kind::User).await?;
                    count += 1;
                    for room in [number % ROOMS, (number / ROOMS) % ROOMS] {
                        let joined = client.join(&format!("busy-{room}")).await;
                        joined.map_err(|cause| format!("{name}: {cause}"))?;
                    }
                    sleep(STAY + Duration::from_millis(number * 37 % 400)).await;
                    client.close().await;
                }
                Ok(count)
            });
        }
    }
    tasks
}

/// How many sessions there were, and what went wrong.
async fn ended(mut tasks: JoinSet<Result<u64, String>>) -> (u64, Vec<String>) {
    let (mut sessions, mut troubles) = (0, Vec::new());
    while let Some(task) = tasks.join_next().await {
        match task {
            Ok(Ok(count)) => sessions += count,
            Ok(Err(cause)) => troubles.push(cause),
            Err(cause) => troubles.push(cause.to_string()),
        }
    }
    (sessions, troubles)
}

/// What dead letters tell of.
#[derive(Debug, Default)]
struct Listed {
    count: u64,
    /// Sessions whose end is among them.
    sessions: u64,
    occupancies: u64,
}

/// Reads all dead letters, then has them told again until none is left.
async fn replay(
    app: &App,
    nodes: &[Node],
    troubles: &mut Vec<String>,
) -> Result<(Listed, u64), String> {
    let node = nodes.first().ok_or("there is no node")?;
    let mut listed = Listed::default();
    let mut after = String::new();
    loop {
        let page = read(node, &format!("/api/v1/webhooks/dead?limit=256{after}"))?;
        let letters = page.get("dead").and_then(Value::as_array).cloned().unwrap_or_default();
        for letter in &letters {
            let kind = letter.pointer("/event/type").and_then(Value::as_str);
            listed.count += 1;
            listed.sessions += u64::from(kind == Some("disconnected"));
            listed.occupancies += u64::from(matches!(kind, Some("occupied" | "vacated")));
        }
        match page.get("next") {
            Some(next) if !next.is_null() => after = format!("&after={next}"),
            _ => break,
        }
    }
    if listed.count == 0 {
        troubles.push("more happened than may wait, and there is no dead letter".to_owned());
    }
    let before = app.book.count();
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        ask(&node.internal, "/api/v1/webhooks/dead/replay", "{}").await?;
        sleep(Duration::from_secs(2)).await;
        let page = read(node, "/api/v1/webhooks/dead?limit=1")?;
        if page.get("dead").and_then(Value::as_array).is_some_and(Vec::is_empty) {
            return Ok((listed, (app.book.count() - before) as u64));
        }
    }
    Err("dead letters stay listed though the application is back".to_owned())
}

fn read(node: &Node, path: &str) -> Result<Value, String> {
    let answer = get(&node.internal, path).map_err(|cause| cause.to_string())?;
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    serde_json::from_str(body).map_err(|cause| format!("{path}: {cause}: {answer}"))
}

/// What the application was told, without what it was told once more with the same id.
#[derive(Debug, Default)]
struct Told {
    events: usize,
    repeats: usize,
    /// Changes of rooms.
    changes: usize,
    /// Sessions by kind.
    by_kind: BTreeMap<String, BTreeSet<String>>,
    /// Rooms whose last change was that they became occupied.
    occupied: BTreeSet<String>,
    troubles: Vec<String>,
}

impl Told {
    fn of(events: &[Value]) -> Self {
        let mut told = Self::default();
        let mut ids = BTreeSet::new();
        for event in events {
            let text = |at| event.pointer(at).and_then(Value::as_str).unwrap_or_default();
            if !ids.insert(text("/id")) {
                told.repeats += 1;
                continue;
            }
            told.events += 1;
            match text("/type") {
                "occupied" => {
                    told.changes += 1;
                    told.change(text("/data/room"), true);
                }
                "vacated" => {
                    told.changes += 1;
                    told.change(text("/data/room"), false);
                }
                kind => {
                    let session = text("/data/session").to_owned();
                    let new = told.by_kind.entry(kind.to_owned()).or_default().insert(session);
                    if !new {
                        told.troubles.push(format!("told under two ids: {event}"));
                    }
                }
            }
        }
        told
    }

    fn change(&mut self, room: &str, occupied: bool) {
        let changes = match occupied {
            true => self.occupied.insert(room.to_owned()),
            false => self.occupied.remove(room),
        };
        if !changes {
            let what = if occupied { "occupied" } else { "vacated" };
            self.troubles.push(format!("{room} is told as {what} twice in a row"));
        }
    }

    fn sessions(&self, kind: &str) -> usize {
        self.by_kind.get(kind).map_or(0, BTreeSet::len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(id: &str, kind: &str, room: &str) -> Value {
        json!({"id": id, "type": kind, "data": {"room": room, "session": room}})
    }

    #[test]
    fn a_room_that_is_told_out_of_turn_is_found_and_a_repeat_is_none() {
        let occupied = event("1", "occupied", "a");
        let fine = [occupied.clone(), occupied.clone(), event("2", "vacated", "a")];
        let told = Told::of(&fine);
        assert_eq!((told.repeats, told.changes, told.troubles.len()), (1, 2, 0));
        assert!(told.occupied.is_empty());
        let twice = Told::of(&[occupied, event("2", "occupied", "a")]);
        assert_eq!((twice.troubles.len(), twice.occupied.len()), (1, 1));
        assert_eq!(Told::of(&[event("1", "vacated", "a")]).troubles.len(), 1);
    }

    #[test]
    fn a_session_that_is_told_under_two_ids_is_found() {
        let told = Told::of(&[event("1", "connected", "s"), event("2", "connected", "s")]);
        assert_eq!((told.sessions("connected"), told.troubles.len()), (1, 1));
    }
}
