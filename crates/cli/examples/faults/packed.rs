//! A presence room into which thousands come within seconds: what each member is sent of that, how soon all are told the
//! right number, and how long anybody else waits for the node meanwhile.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use roomcast_client::{Client, Event, Options};
use roomcast_protocol::guard::Kind;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::sleep;
use xtask::servers::Redis;

use crate::check::check;
use crate::crowd::token;
use crate::node::Node;
use crate::record::Facts;
use crate::report::say;
use crate::stage::{Folder, Outcome, RULES};

/// Members, each of one socket here and one at the node, which may have 20,000 open files.
pub(crate) const MEMBERS: usize = 10_000;

/// Within how long they begin to come.
const COME: Duration = Duration::from_secs(10);

/// How long any of it may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// Who does nothing but ask the node for an answer, and how often.
const BYSTANDERS: usize = 4;
const ASK: Duration = Duration::from_millis(20);

/// How long a turn of a lane may be, and anybody wait for an answer.
const TURN_MAX: Duration = Duration::from_millis(250);

/// How often a lane's longest turn is looked at, which the node shows for a minute at least. A figure may be 250 ms old.
const LOOK: Duration = Duration::from_millis(500);

const ROOM: &str = "packed";

const RULES_OF_ROOM: &str = r#"
[[rooms]]
match = "packed"
join = "true"
presence = "members"
"#;

/// What all members were told together.
#[derive(Debug, Default)]
struct Told {
    frames: AtomicU64,
    /// Members whose last number is the right one.
    right: AtomicU64,
}

/// Plays it with so many members.
///
/// # Errors
/// A server does not start, or somebody cannot join in time.
pub(crate) fn play(binary: &Path, members: Option<usize>) -> Result<Outcome, String> {
    let members = members.unwrap_or(MEMBERS);
    let redis = Redis::start(&[])?;
    let folder = Folder::new("packed")?;
    let config = folder.write("roomcast.toml", &format!("{RULES}{RULES_OF_ROOM}"))?;
    let url = redis.url();
    let args = ["--config", &config, "--redis", &url, "--set", "limits.connections_per_ip=20000"];
    let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
    let mut node = Node::start(1, binary, folder.path(), &args)?;
    node.wait()?;
    say(&format!("crowd: {members} members in one room"));
    let over = watch::Sender::new(false);
    let bystanders = bystanders(node.public.clone(), over.subscribe())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|cause| format!("no runtime: {cause}"))?;
    let mut notes = Vec::new();
    let (came, turn) = std::thread::scope(|scope| {
        let turns = scope.spawn(|| longest_turn(&node, &over.subscribe()));
        let came = runtime.block_on(come(&node, members, &mut notes));
        over.send_replace(true);
        (came, turns.join())
    });
    let turn = turn.map_err(|_| "whoever looks at turns broke".to_owned())?;
    let waited = bystanders.join().map_err(|_| "the bystanders broke".to_owned())??;
    let memory_kib = node.memory_kib();
    let sent = node.figure("roomcast_connections_sent_bytes_total") / members as f64;
    notes.push(format!("{sent:.0} bytes a member from the node, welcome and join included"));
    notes.push(format!("the longest turn of a lane took {} ms", turn.as_millis()));
    notes.push(format!(
        "a bystander waited {} ms at most for an answer; lanes late by 1 s: {}",
        waited.as_millis(),
        node.figure("roomcast_lanes_holds_total")
    ));
    drop(runtime);
    let mut troubles: Vec<String> = came.err().into_iter().collect();
    if turn > TURN_MAX {
        troubles.push(format!("a turn of a lane took {} ms", turn.as_millis()));
    }
    if waited > TURN_MAX {
        troubles.push(format!("a bystander waited {} ms", waited.as_millis()));
    }
    troubles.extend(node.end().err());
    let verdict = check(&Facts::default());
    Ok(Outcome { name: "crowd", verdict, memory_kib, troubles, notes })
}

/// The longest turn of a lane until all is over.
fn longest_turn(node: &Node, over: &watch::Receiver<bool>) -> Duration {
    let mut longest_s = 0.0_f64;
    loop {
        let is_over = *over.borrow();
        std::thread::sleep(LOOK);
        longest_s = longest_s.max(node.largest("roomcast_node_turn_longest_seconds"));
        if is_over {
            return Duration::from_secs_f64(longest_s);
        }
    }
}

/// All come, and wait until each was told how many there are.
async fn come(node: &Node, members: usize, notes: &mut Vec<String>) -> Result<(), String> {
    let told = Arc::new(Told::default());
    let began = Instant::now();
    let mut joins = JoinSet::new();
    for index in 0..members {
        let (address, told) = (node.public.clone(), Arc::clone(&told));
        let share = u32::try_from(index).unwrap_or_default();
        let count = u32::try_from(members).unwrap_or(u32::MAX).max(1);
        let at = COME * share / count;
        joins.spawn(async move {
            sleep(at).await;
            let client = connect(&address, &format!("member-{index}")).await?;
            client.join(ROOM).await.map_err(|cause| format!("{index}: {cause}"))?;
            tokio::spawn(listen(client, told, members as u64));
            Ok::<_, String>(())
        });
    }
    while let Some(joined) = joins.join_next().await {
        joined.map_err(|cause| cause.to_string())??;
    }
    let all_in = Instant::now();
    let client = connect(&node.public, "asks").await?;
    let mut count = 0;
    while count != members as u64 {
        if all_in.elapsed() > PATIENCE {
            return Err(format!("the roster says {count} of {members}"));
        }
        sleep(Duration::from_millis(50)).await;
        let page = client.presence_page(ROOM, None, Some(1)).await;
        count = page.map_err(|cause| format!("the roster: {cause}"))?.count;
    }
    let roster = all_in.elapsed();
    while told.right.load(Ordering::Relaxed) < members as u64 {
        if all_in.elapsed() > PATIENCE {
            let right = told.right.load(Ordering::Relaxed);
            return Err(format!("{right} of {members} were told the right number"));
        }
        sleep(Duration::from_millis(50)).await;
    }
    let frames = told.frames.load(Ordering::Relaxed) as f64 / members as f64;
    notes.push(format!(
        "all in after {:.1} s; roster right {:.2} s later, all were told {:.2} s later; {frames:.1} presence frames a member",
        all_in.duration_since(began).as_secs_f64(),
        roster.as_secs_f64(),
        all_in.elapsed().as_secs_f64()
    ));
    Ok(())
}

/// Counts what a member is told until the connection ends.
async fn listen(client: Client, told: Arc<Told>, members: u64) {
    let mut is_right = false;
    while let Some(event) = client.next().await {
        let Event::Presence(news) = event else { continue };
        told.frames.fetch_add(1, Ordering::Relaxed);
        if !is_right && news.count == members {
            is_right = true;
            told.right.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Clients on a thread of their own that ask and wait; answers with the longest wait.
fn bystanders(
    address: String,
    over: watch::Receiver<bool>,
) -> Result<std::thread::JoinHandle<Result<Duration, String>>, String> {
    let run = move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|cause| format!("no runtime: {cause}"))?;
        runtime.block_on(async {
            let mut longest = Duration::ZERO;
            let mut clients = Vec::new();
            for index in 0..BYSTANDERS {
                clients.push(connect(&address, &format!("bystander-{index}")).await?);
            }
            while !*over.borrow() {
                for client in &clients {
                    let waited = client.ping().await.map_err(|cause| cause.to_string())?;
                    longest = longest.max(waited);
                }
                sleep(ASK).await;
            }
            Ok(longest)
        })
    };
    let thread = std::thread::Builder::new().name("bystanders".into()).spawn(run);
    thread.map_err(|cause| format!("no thread for the bystanders: {cause}"))
}

async fn connect(address: &str, subject: &str) -> Result<Client, String> {
    let mut options = Options::new(format!("ws://{address}/ws"), token(subject, Kind::User, &[])?);
    options.connect_timeout = PATIENCE;
    options.request_timeout = PATIENCE;
    roomcast_client::connect(options).await.map_err(|cause| format!("{subject}: {cause}"))
}
