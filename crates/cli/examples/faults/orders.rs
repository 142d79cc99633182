//! Orders to all nodes: how soon nobody hears anything any more by a token that was revoked, and what becomes of an order
//! that a node sleeps through.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use roomcast_client::{Client, Event, Options, PublishOptions};
use roomcast_protocol::guard::Kind;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use xtask::servers::Redis;

use crate::backend::post;
use crate::check::check;
use crate::crowd::token;
use crate::node::Node;
use crate::record::Facts;
use crate::report::say;
use crate::stage::{Folder, NODES, Outcome, RULES};

/// How often tokens are revoked, and how many such users are there at a time.
const TRIES: usize = 1_000;
const AT_ONCE: usize = 10;

/// How often is published meanwhile.
const EVERY: Duration = Duration::from_millis(2);

/// How late a delivery may be, from when the revocation is asked for.
const LATE_MAX: Duration = Duration::from_secs(1);

/// How often a node is stopped, and how long it sleeps on once the order was answered: with that less than its lease of
/// 8 s.
const ROUNDS: usize = 5;
const SLEEP_ON: Duration = Duration::from_secs(1);

/// How long it has slept when the last order is given: by then its lease is over.
const ASLEEP: Duration = Duration::from_secs(11);

/// How long it is awake in between: it beats each second.
const AWAKE: Duration = Duration::from_secs(2);

/// How long anything else may take.
const PATIENCE: Duration = Duration::from_secs(30);

const ROOM: &str = "open-1";

const RULES_OF_ROOM: &str = r#"
[[rooms]]
match = "open-{id:int}"
join = "true"
publish = "user.kind == 'backend'"
"#;

/// Three nodes on one Redis, and a back-end that publishes all the time.
struct Scene {
    _redis: Redis,
    _folder: Folder,
    nodes: Vec<Node>,
}

/// Revokes tokens, each of a user that hears all that is published.
///
/// # Errors
/// A server does not start, or somebody cannot connect.
pub(crate) fn revoke(binary: &Path, tries: Option<usize>) -> Result<Outcome, String> {
    let tries = tries.unwrap_or(TRIES);
    let scene = Scene::start("revoke", binary)?;
    say(&format!("revoke: {tries} tokens on {NODES} nodes, while one publishes each {EVERY:?}"));
    scene.play("revoke", async |nodes: &[Node], count: &AtomicU64| {
        let (mut late, mut troubles) = (Vec::new(), Vec::new());
        let mut tasks = JoinSet::new();
        let mut next = 0;
        while next < tries || !tasks.is_empty() {
            while next < tries && tasks.len() < AT_ONCE {
                let at = |number: usize| nodes.get(number % NODES);
                let (Some(here), Some(there)) = (at(next), at(next / NODES)) else {
                    return Err("three nodes".to_owned());
                };
                tasks.spawn(one_try(next, here.public.clone(), there.internal.clone()));
                next += 1;
            }
            match tasks.join_next().await {
                Some(Ok(Ok(took))) => late.push(took),
                Some(Ok(Err(cause))) => troubles.push(cause),
                Some(Err(cause)) => troubles.push(cause.to_string()),
                None => {}
            }
        }
        late.sort_unstable();
        let max = late.last().copied().unwrap_or_default();
        let p99 = late.get(late.len() * 99 / 100).copied().unwrap_or_default();
        let half = late.get(late.len() / 2).copied().unwrap_or_default();
        if max > LATE_MAX {
            troubles.push(format!("a delivery came {max:?} after its token was revoked"));
        }
        if late.len() != tries {
            troubles.push(format!("{} of {tries} tries ended as they should", late.len()));
        }
        let heard = count.load(Ordering::Relaxed);
        let note = format!(
            "{} tokens revoked while {heard} were published; the last delivery came, from when the revocation was asked for, \
             after {half:.1?} in half of them, p99 {p99:.1?}, max {max:.1?}",
            late.len()
        );
        Ok((vec![note], troubles))
    })
}

/// Has a node sleep through an order to disconnect a user.
///
/// # Errors
/// As of [`revoke`].
pub(crate) fn stopped(binary: &Path) -> Result<Outcome, String> {
    let scene = Scene::start("stopped", binary)?;
    say(&format!("stopped: {ROUNDS} orders that a node sleeps through"));
    scene.play("stopped", async |nodes: &[Node], _: &AtomicU64| {
        let (mut notes, mut troubles) = (Vec::new(), Vec::new());
        let [awake, .., asleep] = nodes else { return Err("three nodes".to_owned()) };
        let name = name_of(asleep)?;
        let mut slowest = Duration::ZERO;
        for round in 0..ROUNDS {
            let user = format!("sleeps-{round}");
            let client = connect(&asleep.public, &user, Kind::User).await?;
            client.join(ROOM).await.map_err(|cause| cause.to_string())?;
            heard(&client).await?;
            sleep(AWAKE).await;
            while let Ok(Some(_)) = timeout(Duration::ZERO, client.next()).await {}
            asleep.stop()?;
            if round + 1 == ROUNDS {
                sleep(ASLEEP).await;
            }
            let began = Instant::now();
            let path = format!("/api/v1/users/{user}/disconnect?timeout=1s");
            let answer = ask(&awake.internal, &path, "").await;
            slowest = slowest.max(began.elapsed());
            // What was on its way when it was stopped is read by then.
            sleep(SLEEP_ON).await;
            while let Ok(Some(_)) = timeout(Duration::ZERO, client.next()).await {}
            asleep.go_on()?;
            let answer = answer?;
            if answer.get("unanswered") != Some(&json!([name])) {
                troubles.push(format!("the stopped node is {name}, and the answer {answer}"));
            }
            match ended(&client).await {
                (0, Some(4101)) => {}
                (count, code) => troubles.push(format!(
                    "{user} heard {count} publications when its node woke, and was closed with {code:?}"
                )),
            }
        }
        notes.push(format!(
            "{ROUNDS} orders with timeout=1s named the node that slept, at the last for {ASLEEP:?}, the slowest within \
             {slowest:.1?}; awake, it delivered nothing before it obeyed"
        ));
        Ok((notes, troubles))
    })
}

impl Scene {
    fn start(name: &str, binary: &Path) -> Result<Self, String> {
        let redis = Redis::start(&[])?;
        let folder = Folder::new(name)?;
        let config = folder.write("roomcast.toml", &format!("{RULES}{RULES_OF_ROOM}"))?;
        let url = redis.url();
        let args =
            ["--config", &config, "--redis", &url, "--set", "limits.connections_per_ip=5000"];
        let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
        let nodes = Node::start_all(NODES, binary, folder.path(), &args)?;
        Ok(Self { _redis: redis, _folder: folder, nodes })
    }

    /// Plays with the nodes' addresses while a back-end publishes.
    fn play(
        mut self,
        name: &'static str,
        scene: impl AsyncFnOnce(&[Node], &AtomicU64) -> Result<(Vec<String>, Vec<String>), String>,
    ) -> Result<Outcome, String> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|cause| format!("no runtime: {cause}"))?;
        let played = runtime.block_on(async {
            until_known(&self.nodes).await?;
            let first = self.nodes.first().ok_or("there is no node")?;
            let backend = connect(&first.public, "back", Kind::Backend).await?;
            let (count, ends) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
            let publishing = tokio::spawn(publish(backend, Arc::clone(&count), Arc::clone(&ends)));
            let played = scene(&self.nodes, &count).await;
            ends.store(true, Ordering::Relaxed);
            publishing.await.map_err(|cause| cause.to_string())??;
            played
        });
        let (notes, mut troubles) = played?;
        let memory_kib = self.nodes.iter().map(Node::memory_kib).max().unwrap_or_default();
        for node in &mut self.nodes {
            troubles.extend(node.end().err());
        }
        Ok(Outcome { name, verdict: check(&Facts::default()), memory_kib, troubles, notes })
    }
}

/// Waits until each node knows the others: whom it does not know it cannot wait for.
pub(crate) async fn until_known(nodes: &[Node]) -> Result<(), String> {
    let known = format!("\"known\":{}", NODES - 1);
    let deadline = Instant::now() + PATIENCE;
    for node in nodes {
        while !crate::node::get(&node.internal, "/readyz").is_ok_and(|it| it.contains(&known)) {
            if Instant::now() > deadline {
                return Err("the nodes do not know each other".to_owned());
            }
            sleep(Duration::from_millis(50)).await;
        }
    }
    Ok(())
}

fn name_of(node: &Node) -> Result<String, String> {
    let answer = crate::node::get(&node.internal, "/readyz").map_err(|cause| cause.to_string())?;
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    let body: Value = serde_json::from_str(body).map_err(|cause| cause.to_string())?;
    body.get("node").and_then(Value::as_str).map(str::to_owned).ok_or("no name".to_owned())
}

async fn publish(
    backend: Client,
    count: Arc<AtomicU64>,
    ends: Arc<AtomicBool>,
) -> Result<(), String> {
    while !ends.load(Ordering::Relaxed) {
        let number = count.fetch_add(1, Ordering::Relaxed);
        let data = json!({ "n": number });
        let sent = backend.publish(ROOM, "probe", &data, &PublishOptions::default()).await;
        sent.map_err(|cause| format!("the back-end: {cause}"))?;
        sleep(EVERY).await;
    }
    Ok(())
}

/// A user hears, its token is revoked at another node or its own; how long after that was asked for it heard the last.
async fn one_try(number: usize, public: String, internal: String) -> Result<Duration, String> {
    let user = format!("u-{number}");
    let client = connect(&public, &user, Kind::User).await?;
    client.join(ROOM).await.map_err(|cause| format!("{user}: {cause}"))?;
    heard(&client).await?;
    let asked = Instant::now();
    let path = format!("/api/v1/users/{user}/revoke");
    let listening = async {
        let mut last = asked;
        loop {
            match timeout(PATIENCE, client.next()).await {
                Ok(Some(Event::Publication(_))) => last = Instant::now(),
                Ok(Some(Event::Closed(closed))) => return (last, Some(closed.code)),
                Ok(Some(_)) => {}
                Ok(None) | Err(_) => return (last, None),
            }
        }
    };
    let (answer, (last, code)) = tokio::join!(ask(&internal, &path, ""), listening);
    let answer = answer?;
    let done = (answer.get("disconnected"), answer.get("unanswered"));
    if done != (Some(&json!(1)), Some(&json!([]))) || code != Some(4001) {
        return Err(format!("{user} was closed with {code:?}, and the answer is {answer}"));
    }
    Ok(last.saturating_duration_since(asked))
}

/// How many publications came until the end, and how that was.
async fn ended(client: &Client) -> (usize, Option<u16>) {
    let mut count = 0;
    loop {
        match timeout(PATIENCE, client.next()).await {
            Ok(Some(Event::Publication(_))) => count += 1,
            Ok(Some(Event::Closed(closed))) => return (count, Some(closed.code)),
            Ok(Some(_)) => {}
            Ok(None) | Err(_) => return (count, None),
        }
    }
}

/// Waits until something is heard.
async fn heard(client: &Client) -> Result<(), String> {
    loop {
        match timeout(PATIENCE, client.next()).await {
            Ok(Some(Event::Publication(_))) => return Ok(()),
            Ok(Some(_)) => {}
            Ok(None) | Err(_) => return Err("nothing is heard".to_owned()),
        }
    }
}

pub(crate) async fn connect(address: &str, subject: &str, kind: Kind) -> Result<Client, String> {
    let mut options = Options::new(format!("ws://{address}/ws"), token(subject, kind, &[])?);
    options.connect_timeout = PATIENCE;
    options.request_timeout = PATIENCE;
    roomcast_client::connect(options).await.map_err(|cause| format!("{subject}: {cause}"))
}

/// Asks a node's server API, and reads the answer.
pub(crate) async fn ask(internal: &str, path: &str, body: &str) -> Result<Value, String> {
    let answer = timeout(PATIENCE, post(internal, path, body)).await;
    let answer = answer.map_err(|_| "no answer".to_owned())?.map_err(|it| it.to_string())?;
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    serde_json::from_str(body).map_err(|cause| format!("{path}: {cause}: {answer}"))
}
