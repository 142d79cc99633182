//! Groups of the chat protocol while nodes are killed at random: each member is shown each accepted message once, under one
//! number, and whoever is put out is shown nothing that is said from then on.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::sleep;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use xtask::servers::Redis;

use crate::backend::ask;
use crate::chatter::{Known, Shared};
use crate::check::check;
use crate::dialogs::{self, KILL_EVERY};
use crate::node::Node;
use crate::record::Facts;
use crate::report::say;
use crate::stage::{Folder, NODES, Outcome};

/// Members of each group; the last one of each is put out in the middle.
const MEMBERS: usize = 20;

/// Members of all groups unless told otherwise, and the most.
const ALL: usize = 200;
const ALL_MAX: usize = 4_000;

/// Messages that each member says.
const MESSAGES: usize = 30;

/// All say something this often, together. Units: messages a second.
const RATE: usize = 120;

/// How long all may take, and how long it may take until all is heard once all is said.
const LIMIT: Duration = Duration::from_secs(900);
const SETTLE: Duration = Duration::from_secs(60);

/// How often a change of members is tried: nodes are killed meanwhile.
const TRIES: usize = 20;

/// What somebody knows, shared with its client.
type Shown = Arc<Mutex<Known>>;

/// Plays it.
///
/// # Errors
/// Too many members, or a server does not start.
pub(crate) fn play(binary: &Path, members: Option<usize>) -> Result<Outcome, String> {
    let all = members.unwrap_or(ALL).next_multiple_of(MEMBERS);
    if all > ALL_MAX {
        return Err(format!("--clients {all}: at most {ALL_MAX} members here"));
    }
    let redis = Redis::start(&[])?;
    let folder = Folder::new("groups")?;
    let mut nodes = dialogs::start(&redis, &folder, binary)?;
    for at in 0..all {
        change("PUT", at, &nodes)?;
    }
    let shared = Arc::new(Shared {
        nodes: Mutex::new(nodes.iter().map(|node| node.public.clone()).collect()),
        over: watch::Sender::new(false),
        messages: MESSAGES,
        every: Duration::from_secs_f64(all as f64 / RATE as f64),
    });
    let known: Vec<Shown> = (0..all).map(|_| Arc::default()).collect();
    let clients = dialogs::spawn(&shared, &known, |at| (user(at), group(at)));
    let (began, mut troubles) = (Instant::now(), Vec::new());
    let (mut kills, mut said_all, mut out) = (0_usize, None, None);
    loop {
        sleep(Duration::from_millis(500));
        let stay = stay(&known);
        let said: usize = stay.iter().map(|it| read(it).accepted.len()).sum();
        let heard: usize = stay.iter().map(|it| heard(&read(it))).sum();
        let to_say = stay.len() * MESSAGES;
        if out.is_none() && said > to_say / 2 {
            out = Some(put_out(&known, &nodes)?);
        }
        if said >= to_say && said_all.is_none() {
            said_all = Some(Instant::now());
        }
        let whole = heard >= to_say * (MEMBERS - 2);
        if said_all.is_some_and(|at| whole || at.elapsed() > SETTLE) || began.elapsed() > LIMIT {
            break;
        }
        let due = KILL_EVERY * (u32::try_from(kills).unwrap_or(u32::MAX) + 1);
        if said_all.is_none() && began.elapsed() > due {
            say(&format!("groups: {said} of {to_say} said, {heard} heard; a node is killed"));
            dialogs::replace(&mut nodes, kills % NODES, &shared)?;
            kills += 1;
        }
    }
    // What comes twice, comes within a few seconds.
    sleep(Duration::from_secs(8));
    shared.over.send_replace(true);
    let mut notes = judge(&known, &out.unwrap_or_default(), &mut troubles);
    // Those who were put out cannot read what stands.
    for at in (0..all).filter(|at| !stays(*at)) {
        change("PUT", at, &nodes)?;
    }
    if clients.join().is_err() {
        troubles.push("a client panicked".to_owned());
    }
    judge_kept(&known, &mut troubles);
    notes.push(format!("nodes killed: {kills}, in {:.0} s", began.elapsed().as_secs_f64()));
    let memory_kib = nodes.iter().map(Node::memory_kib).max().unwrap_or_default();
    for node in &mut nodes {
        troubles.extend(node.end().err());
    }
    Ok(Outcome { name: "groups", verdict: check(&Facts::default()), memory_kib, troubles, notes })
}

fn user(at: usize) -> String {
    format!("user{at}")
}

fn group(at: usize) -> String {
    format!("group{}", at / MEMBERS)
}

const fn stays(at: usize) -> bool {
    !(at + 1).is_multiple_of(MEMBERS)
}

fn stay(known: &[Shown]) -> Vec<&Shown> {
    known.iter().enumerate().filter(|(at, _)| stays(*at)).map(|(_, it)| it).collect()
}

fn read(known: &Shown) -> MutexGuard<'_, Known> {
    known.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How many messages somebody was shown of others who stay.
fn heard(known: &Known) -> usize {
    let of_those = |name: &&String| {
        let number = name.strip_prefix("user").and_then(|it| it.split('-').next()?.parse().ok());
        number.is_some_and(stays)
    };
    known.shown.values().filter(|name| !known.accepted.contains_key(*name)).filter(of_those).count()
}

/// Has a node put somebody into its group, or out.
fn change(method: &str, at: usize, nodes: &[Node]) -> Result<(), String> {
    let path = format!("/api/v1/groups/{}/members/{}", group(at), user(at));
    let body = if method == "PUT" { "{\"role\":\"member\"}" } else { "" };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|cause| cause.to_string())?;
    let mut last = String::new();
    for node in nodes.iter().cycle().skip(at).take(TRIES) {
        let answer = runtime.block_on(ask(&node.internal, (method, &path), body));
        match answer {
            // Confirmed by all nodes that are there.
            Ok(answer) if answer.starts_with("HTTP/1.1 200") => return Ok(()),
            Ok(answer) => last = answer,
            Err(cause) => last = cause.to_string(),
        }
        sleep(Duration::from_millis(500));
    }
    Err(format!("{method} {path}: {last}"))
}

/// Puts the last member of each group out. Answers, of those who stay, how many of each one's messages may still be shown to
/// it: those that were asked for by then.
fn put_out(known: &[Shown], nodes: &[Node]) -> Result<BTreeMap<usize, usize>, String> {
    let mut out = BTreeMap::new();
    for at in (0..known.len()).filter(|at| !stays(*at)) {
        change("DELETE", at, nodes)?;
        for other in at + 1 - MEMBERS..at {
            let said = known.get(other).map_or(0, |it| read(it).accepted.len());
            out.insert(other, said + 1);
        }
    }
    Ok(out)
}

/// Figures, and what is wrong with what was shown.
fn judge(known: &[Shown], out: &BTreeMap<usize, usize>, troubles: &mut Vec<String>) -> Vec<String> {
    let (mut accepted, mut lost, mut other, mut late, mut back) = (0, 0, 0, 0, 0);
    let (mut deliveries, mut repeats, mut connects) = (0, 0, 0);
    for (at, mine) in known.iter().enumerate() {
        let mine = read(mine);
        (repeats, connects) = (repeats + mine.repeats, connects + mine.connects);
        back += mine.marks_back();
        deliveries += mine.shown.len();
        troubles.extend(mine.wrong.iter().take(3).cloned());
        let first = at / MEMBERS * MEMBERS;
        if !stays(at) {
            let is_late = |name: &&String| {
                let (who, number) = name.split_once('-').unwrap_or_default();
                let who = who.strip_prefix("user").and_then(|it| it.parse().ok());
                let may = who.and_then(|it: usize| out.get(&it));
                may.is_some_and(|may| number.parse().is_ok_and(|it: usize| it >= *may))
            };
            late += mine.shown.values().filter(is_late).count();
            continue;
        }
        accepted += mine.accepted.len();
        for it in (first..first + MEMBERS).filter(|it| *it != at && stays(*it)) {
            let Some(theirs) = known.get(it) else { continue };
            let theirs = read(theirs);
            for (name, number) in &mine.accepted {
                match theirs.shown.get(number) {
                    Some(shown) if shown == name => {}
                    Some(_) => other += 1,
                    None => lost += 1,
                }
            }
        }
    }
    let wrong = [
        ("accepted, and not shown to a member", lost),
        ("shown under another number", other),
        ("shown to somebody who had been put out", late),
        ("marks that went back", back),
    ];
    dialogs::blame(&wrong, troubles);
    vec![
        format!("members {}, messages accepted {accepted}, shown {deliveries}", known.len()),
        format!("events given again and dropped by id {repeats}, connections {connects}"),
    ]
}

/// What is wrong with what stands.
fn judge_kept(known: &[Shown], troubles: &mut Vec<String>) {
    let (mut unkept, mut unknown) = (0, 0);
    for (at, members) in known.chunks(MEMBERS).enumerate() {
        let mut said = BTreeMap::new();
        // What was under way when somebody was put out may stand, and its answer be lost with a node.
        let last = members.last().map_or(0, |it| read(it).accepted.len());
        let under_way = format!("{}-{last}", user((at + 1) * MEMBERS - 1));
        for it in members {
            let numbered =
                read(it).accepted.iter().map(|(name, at)| (*at, name.clone())).collect::<Vec<_>>();
            said.extend(numbered);
        }
        for it in members {
            let it = read(it);
            unkept += said.iter().filter(|(at, name)| it.kept.get(*at) != Some(*name)).count();
            let is_new =
                |(at, name): &(&u64, &String)| !said.contains_key(*at) && **name != under_way;
            let found: Vec<_> = it.kept.iter().filter(is_new).collect();
            if let (Some((at, name)), 0) = (found.first(), unknown) {
                say(&format!("groups: nobody was told of message {at}, {name}"));
            }
            unknown += found.len();
        }
    }
    let wrong = [
        ("accepted, and not among the messages of a member", unkept),
        ("among the messages, though nobody was told so", unknown),
    ];
    dialogs::blame(&wrong, troubles);
}
