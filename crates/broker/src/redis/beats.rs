//! The node's heartbeat: renews its lease, and goes out over every link of its feed.
//!
//! Says with it what moved in which partition, so that a node finds out that it missed something (G7). Without a
//! Cluster all partitions are in the beat of the one link. In a Cluster each partition has a function call of its own on
//! its master, which sends a beat only if something moved.

use std::collections::BTreeSet;

use bytes::Bytes;
use fred::clients::Client;
use fred::error::{Error, ErrorKind};
use fred::interfaces::{ClusterInterface, FunctionInterface};
use fred::types::Value;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use roomcast_protocol::envelope::{BeatReport, Count, MasterId};
use roomcast_protocol::position::Position;
use roomcast_protocol::presence::{AGENTS, Lease};
use roomcast_protocol::relay::{RelayKeys, RelayMode};
use tokio::time::Instant;

use super::agents;
use super::channels::{self, Kind, PARTITIONS, beat_name, key};
use super::faults::{Fault, mend};
use super::functions::{self, BEAT, Beaten, LEASE_MS, LINK, PART};
use super::options::Servers;
use super::presence::{self, Leaving};
use super::publish::{hurried, micros};
use super::pulse::number;
use super::shared::{LinkBeat, RELAY_KEY, Shared};

/// Which beats look into every partition: for users who are to leave, and for incarnations without a lease. What says
/// so at once may have been lost. A beat does so too where a partition has another master than before, or where the
/// node's lease is new.
const ALL_EVERY: u64 = 64;

/// A beat as the hub asks for it.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) seq: u64,
    pub(crate) hears: bool,
    pub(crate) life: u32,
    pub(crate) retired: Option<u32>,
    pub(crate) taken: Vec<Count>,
    pub(crate) told: Option<Position>,
    pub(crate) reads: bool,
}

impl Asked {
    /// How far the node has followed each partition; empty: it has not.
    fn taken(&self) -> Vec<String> {
        let mut taken = vec![String::new(); PARTITIONS];
        for Count { partition, count } in &self.taken {
            if let Some(place) = taken.get_mut(usize::from(*partition)) {
                *place = count.to_string();
            }
        }
        taken
    }
}

/// Renews the lease and beats over every link that is up.
pub(crate) async fn beat<T>(shared: &Shared<T>, asked: &Asked) -> Option<BeatReport> {
    let client = shared.ready()?;
    let keys = shared.hearing().keys.clone()?;
    let links = shared.beats().clone();
    let began = Instant::now();
    let answer = match beaten(shared, &client, &keys, links.first(), asked).await {
        Ok(answer) => {
            shared.heard_of_beat(true);
            answer?
        }
        Err(error) => {
            shared.heard_of_beat(*error.kind() != ErrorKind::Timeout);
            tracing::debug!(%error, seq = asked.seq, "a beat was not answered");
            mend(shared, &client, &Fault::of(&error), &error).await;
            return None;
        }
    };
    shared.stats.set_time(answer.time_us, micros(began));
    if shared.options.keys.is_none() {
        shared.adopt_key(&answer.relay_key);
    }
    if !shared.check_layout(answer.partitions) {
        // The feed looks again until it is right.
        shared.replan.notify_one();
        return None;
    }
    shared.hear_in_every_mode(answer.peers.iter().any(|peer| !peer.agrees));
    for link in links.iter().skip(1) {
        let arguments = addressed(shared, &keys, link, asked.seq);
        let sent: Result<(), Error> =
            hurried(&client, None).fcall(LINK, vec![link.key.clone()], arguments).await;
        sent.inspect_err(|error| tracing::debug!(%error, "a link was not beaten")).ok()?;
    }
    let (mut due, mut unread) = (named(shared, &answer.due), named(shared, &answer.unread));
    let (mut masters, mut whole, mut waits) = (vec![(0, answer.master)], true, answer.waits);
    if matches!(shared.options.servers, Servers::Cluster(_)) {
        Parts { due, masters, waits, unread } = parts(shared, &client, &keys, &links, asked).await;
        whole = masters.len() == PARTITIONS;
    }
    let masters = shared.masters().see(&masters);
    if search(shared, &client, asked.seq, (answer.lease, whole)).await {
        due.extend(0..PARTITIONS);
    }
    // What is cleared up may be agents.
    waits |= !answer.over.is_empty() || !due.is_empty();
    let leaving = Leaving { over: answer.over, due };
    presence::clear_up(shared, &client, &keys, &leaving).await;
    let agents = if waits || asked.told.is_some() {
        agents::give(shared, &client, &keys, asked.told).await
    } else {
        Vec::new()
    };
    let links = links.into_iter().map(|link| link.link).collect();
    Some(BeatReport {
        master: shared.master(answer.master),
        masters,
        links,
        peers: answer.peers,
        lease: answer.lease,
        agents,
        unread: unread.into_iter().filter_map(|it| u16::try_from(it).ok()).collect(),
    })
}

/// The partitions that are named by their prefixes.
fn named<T>(shared: &Shared<T>, prefixes: &[String]) -> BTreeSet<usize> {
    let all = shared.tags.all().enumerate();
    let named = all.filter(|(_, tag)| prefixes.contains(&channels::prefix(tag)));
    named.map(|(partition, _)| partition).collect()
}

/// Searches all partitions for incarnations without a lease, where that is due. Answers with whether it was.
async fn search<T>(
    shared: &Shared<T>,
    client: &Client,
    seq: u64,
    (lease, whole): (Lease, bool),
) -> bool {
    let in_turn = seq.is_multiple_of(ALL_EVERY);
    if lease == Lease::New || in_turn {
        shared.masters().doubt();
    }
    // Not with each beat while some of them do not answer.
    let is_due = (whole || in_turn) && shared.masters().are_doubted();
    if is_due && presence::adopt(shared, client).await {
        shared.masters().searched();
    }
    is_due
}

async fn beaten<T>(
    shared: &Shared<T>,
    client: &Client,
    keys: &RelayKeys,
    link: Option<&LinkBeat>,
    asked: &Asked,
) -> Result<Option<Beaten>, Error> {
    let common = shared.tags.common();
    let mut memory = vec![key(common, channels::NODES, ""), key(common, channels::LAYOUT, "")];
    if shared.options.keys.is_none() {
        memory.push(key(common, RELAY_KEY, ""));
    }
    let before = memory.len();
    let mut arguments: Vec<Value> = vec![
        shared.node.to_string().into(),
        u8::from(asked.hears).to_string().into(),
        shared.digest.as_str().into(),
        LEASE_MS.to_string().into(),
        link.map_or("p", kind_of).into(),
        link.map_or("", |link| link.channel.as_str()).into(),
        beat_name(shared.node).into(),
        Bytes::copy_from_slice(&keys.current).into(),
        number(asked.seq).into(),
        PARTITIONS.to_string().into(),
        before.to_string().into(),
        asked.life.to_string().into(),
        asked.retired.map_or_else(String::new, |life| life.to_string()).into(),
        u8::from(asked.reads).to_string().into(),
    ];
    if !matches!(shared.options.servers, Servers::Cluster(_)) {
        memory.extend(shared.tags.all().map(|tag| key(tag, channels::COUNTER, "")));
        memory.push(key(shared.tags.of(AGENTS), channels::UNTOLD, ""));
        memory.push(presence::due_key(shared, common));
        arguments.extend(asked.taken().into_iter().map(Value::from));
    }
    let answer: Value = hurried(client, None).fcall(BEAT, memory, arguments).await?;
    Ok(functions::beaten(answer, &shared.digest))
}

/// What the partitions of a Cluster tell with a beat.
#[derive(Default)]
struct Parts {
    /// Where users are to leave.
    due: BTreeSet<usize>,
    /// The master of each that answered.
    masters: Vec<(usize, MasterId)>,
    /// Something of agents waits to be told.
    waits: bool,
    /// Where events of occupied rooms wait.
    unread: BTreeSet<usize>,
}

/// A beat for each partition of a Cluster where something moved, over the link that carries its rooms. One that fails is
/// of no account: the next one tells the same again.
async fn parts<T>(
    shared: &Shared<T>,
    client: &Client,
    keys: &RelayKeys,
    links: &[LinkBeat],
    asked: &Asked,
) -> Parts {
    let mut parts = Parts::default();
    let Some(routing) = client.cached_cluster_state() else { return parts };
    let (taken, of_agents) = (asked.taken(), shared.tags.of(AGENTS));
    let mut calls = FuturesUnordered::new();
    for ((partition, tag), taken) in shared.tags.all().enumerate().zip(taken) {
        let counter = key(tag, channels::COUNTER, "");
        let server = routing.get_server(channels::slot(&counter));
        let sharded =
            links.iter().find(|it| it.kind == Kind::Sharded && it.server.as_ref() == server);
        let plain = links.iter().find(|it| it.kind != Kind::Sharded);
        let link = if shared.options.mode == RelayMode::Sharded {
            sharded.or(plain)
        } else {
            plain.or(sharded)
        };
        let Some(link) = link else { continue };
        let mut arguments = addressed(shared, keys, link, asked.seq);
        let reads = u8::from(asked.reads).to_string();
        arguments.extend([partition.to_string().into(), taken.into(), reads.into()]);
        let mut memory =
            vec![counter, key(tag, channels::MOVED, ""), presence::due_key(shared, tag)];
        if tag == of_agents {
            memory.push(key(tag, channels::UNTOLD, ""));
        }
        let client = hurried(client, None);
        calls.push(async move {
            let answer: Result<Value, Error> = client.fcall(PART, memory, arguments).await;
            (partition, answer)
        });
    }
    let mut failed = 0_u32;
    while let Some((partition, answer)) = calls.next().await {
        match answer.map(functions::part) {
            Ok(Some((master, [is_due, waits, unread]))) => {
                parts.masters.push((partition, master));
                parts.waits |= waits;
                parts.due.extend(is_due.then_some(partition));
                parts.unread.extend(unread.then_some(partition));
            }
            Ok(None) | Err(_) => failed += 1,
        }
    }
    if failed > 0 {
        tracing::debug!(failed, "partitions were not beaten");
    }
    parts
}

/// The arguments by which every beat begins.
fn addressed<T>(shared: &Shared<T>, keys: &RelayKeys, link: &LinkBeat, seq: u64) -> Vec<Value> {
    vec![
        kind_of(link).into(),
        link.channel.as_str().into(),
        beat_name(shared.node).into(),
        Bytes::copy_from_slice(&keys.current).into(),
        number(seq).into(),
    ]
}

fn kind_of(link: &LinkBeat) -> &'static str {
    match link.kind {
        Kind::Sharded => "s",
        Kind::Pattern | Kind::Plain => "p",
    }
}
