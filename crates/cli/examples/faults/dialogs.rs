//! Dialogs of the chat protocol while nodes are killed at random: no accepted message is lost, none shown twice to a client
//! that drops by id, marks never go back, and both sides see one number for each message.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::sleep;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::task::JoinSet;
use xtask::servers::Redis;

use crate::chatter::{Chatter, Known, Shared};
use crate::check::check;
use crate::node::Node;
use crate::record::Facts;
use crate::report::say;
use crate::stage::{Folder, NODES, Outcome};

/// Dialogs unless told otherwise, and the most.
const DIALOGS: usize = 200;
const DIALOGS_MAX: usize = 4_000;

/// Messages that each of two users says in each.
const MESSAGES: usize = 50;

/// How long a node lives at least before one is killed, and how long it stays away.
pub(crate) const KILL_EVERY: Duration = Duration::from_secs(8);
const AWAY: Duration = Duration::from_secs(2);

/// How long all may take, and how long it may take until all is heard once all is said.
const LIMIT: Duration = Duration::from_secs(900);
const SETTLE: Duration = Duration::from_secs(90);

/// All dialogs' users say something this often, together. Units: messages a second.
const RATE: usize = 700;

/// Plays it.
///
/// # Errors
/// Too many dialogs, or a server does not start.
pub(crate) fn play(binary: &Path, dialogs: Option<usize>) -> Result<Outcome, String> {
    let dialogs = dialogs.unwrap_or(DIALOGS);
    if dialogs > DIALOGS_MAX {
        return Err(format!("--clients {dialogs}: at most {DIALOGS_MAX} dialogs here"));
    }
    let redis = Redis::start(&[])?;
    let folder = Folder::new("dialogs")?;
    let mut nodes = start(&redis, &folder, binary)?;
    let addresses = nodes.iter().map(|node| node.public.clone()).collect();
    let shared = Arc::new(Shared {
        nodes: Mutex::new(addresses),
        over: watch::Sender::new(false),
        messages: MESSAGES,
        every: Duration::from_secs_f64(2.0 * dialogs as f64 / RATE as f64)
            .max(Duration::from_millis(20)),
    });
    let known: Vec<Arc<Mutex<Known>>> = (0..2 * dialogs).map(|_| Arc::default()).collect();
    let named = |at: usize| (format!("user{at}"), format!("user{}", at ^ 1));
    let clients = spawn(&shared, &known, named);
    let began = Instant::now();
    let (mut kills, mut said_all) = (0_usize, None);
    let mut troubles = Vec::new();
    loop {
        sleep(Duration::from_millis(500));
        let (said, heard) = progress(&known);
        let all = 2 * dialogs * MESSAGES;
        if said >= all && said_all.is_none() {
            say(&format!(
                "dialogs: all is said after {:.0} s, {kills} nodes killed",
                began.elapsed().as_secs_f64()
            ));
            said_all = Some(Instant::now());
        }
        if said_all.is_some_and(|at| heard >= all || at.elapsed() > SETTLE)
            || began.elapsed() > LIMIT
        {
            break;
        }
        if said_all.is_none()
            && began.elapsed() > KILL_EVERY * (u32::try_from(kills).unwrap_or(u32::MAX) + 1)
        {
            say(&format!("dialogs: {said} of {all} said, {heard} heard; a node is killed"));
            replace(&mut nodes, kills % NODES, &shared)?;
            kills += 1;
        }
    }
    // What comes twice, comes within a few seconds.
    sleep(Duration::from_secs(8));
    shared.over.send_replace(true);
    if clients.join().is_err() {
        troubles.push("a client panicked".to_owned());
    }
    let mut notes = judge(&known, &mut troubles);
    notes.push(format!("nodes killed: {kills}, in {:.0} s", began.elapsed().as_secs_f64()));
    let memory_kib = nodes.iter().map(Node::memory_kib).max().unwrap_or_default();
    for node in &mut nodes {
        troubles.extend(node.end().err());
    }
    Ok(Outcome { name: "dialogs", verdict: check(&Facts::default()), memory_kib, troubles, notes })
}

/// All users, on a thread of their own; `named`: of each its name, and with whom it talks.
pub(crate) fn spawn(
    shared: &Arc<Shared>,
    known: &[Arc<Mutex<Known>>],
    named: impl Fn(usize) -> (String, String),
) -> std::thread::JoinHandle<()> {
    let chatters: Vec<_> = known
        .iter()
        .enumerate()
        .map(|(at, known)| {
            let (user, with) = named(at);
            let (shared, known) = (Arc::clone(shared), Arc::clone(known));
            Chatter { shared, user, with, first: at / 2 + at, known }
        })
        .collect();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let Ok(runtime) = runtime else { return };
        runtime.block_on(async move {
            let mut all = JoinSet::new();
            for (at, chatter) in chatters.into_iter().enumerate() {
                all.spawn(async move {
                    tokio::time::sleep(Duration::from_millis(at as u64)).await;
                    chatter.run().await;
                });
            }
            while all.join_next().await.is_some() {}
        });
    })
}

/// Nodes that serve the chat protocol.
pub(crate) fn start(redis: &Redis, folder: &Folder, binary: &Path) -> Result<Vec<Node>, String> {
    let set = ["dialects.chat.enabled=true", "limits.connections_per_ip=20000"];
    let mut args = vec!["--redis".to_owned(), redis.url()];
    args.extend(set.iter().flat_map(|it| ["--set".to_owned(), (*it).to_owned()]));
    Node::start_all(NODES, binary, folder.path(), &args)
}

/// One node is killed, and comes back at another address.
pub(crate) fn replace(nodes: &mut [Node], at: usize, shared: &Shared) -> Result<(), String> {
    let Some(node) = nodes.get_mut(at) else { return Ok(()) };
    node.kill()?;
    sleep(AWAY);
    node.restart()?;
    let mut addresses = shared.nodes.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(address) = addresses.get_mut(at) {
        address.clone_from(&node.public);
    }
    Ok(())
}

/// How many messages were accepted, and how many shown.
fn progress(known: &[Arc<Mutex<Known>>]) -> (usize, usize) {
    known.iter().fold((0, 0), |(said, heard), it| {
        let it = it.lock().unwrap_or_else(PoisonError::into_inner);
        // Its own come as well, on a connection that is not the one on which they were said.
        let others = it.shown.values().filter(|name| !it.accepted.contains_key(*name)).count();
        (said + it.accepted.len(), heard + others)
    })
}

/// Figures, and what is wrong.
fn judge(known: &[Arc<Mutex<Known>>], troubles: &mut Vec<String>) -> Vec<String> {
    let (mut accepted, mut lost, mut other, mut unkept, mut back) = (0, 0, 0, 0, 0);
    let (mut repeats, mut connects, mut unknown) = (0, 0, 0);
    for pair in known.chunks(2) {
        let [one, two] = pair else { continue };
        for (mine, theirs) in [(one, two), (two, one)] {
            let mine = mine.lock().unwrap_or_else(PoisonError::into_inner);
            let theirs = theirs.lock().unwrap_or_else(PoisonError::into_inner);
            accepted += mine.accepted.len();
            repeats += mine.repeats;
            connects += mine.connects;
            back += mine.marks_back();
            troubles.extend(mine.wrong.iter().take(3).cloned());
            for (name, number) in &mine.accepted {
                match theirs.shown.get(number) {
                    Some(shown) if shown == name => {}
                    Some(_) => other += 1,
                    None => lost += 1,
                }
                unkept += usize::from(mine.kept.get(number) != Some(name));
                unkept += usize::from(theirs.kept.get(number) != Some(name));
            }
            let all = mine.accepted.len() + theirs.accepted.len();
            unknown += mine.kept.len().saturating_sub(all);
        }
    }
    let wrong = [
        ("accepted, and not shown to the other", lost),
        ("shown under another number", other),
        ("accepted, and not among the messages of both", unkept),
        ("among the messages, though nobody said them once", unknown),
        ("marks that went back", back),
    ];
    blame(&wrong, troubles);
    vec![
        format!("dialogs {}, messages accepted {accepted}", known.len() / 2),
        format!("events given again and dropped by id {repeats}, connections {connects}"),
    ]
}

/// Adds what happened, and how often.
pub(crate) fn blame(wrong: &[(&str, usize)], troubles: &mut Vec<String>) {
    let found = wrong.iter().filter(|(_, it)| *it > 0);
    troubles.extend(found.map(|(what, it)| format!("{what}: {it}")));
}
