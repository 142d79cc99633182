//! The commands of one node: publications and beats, many under way at once, in the order they were given.
//!
//! A command is written once. What certainly did not happen is tried again; what may have happened is repeated only
//! under an id that Redis remembers (G5), and otherwise answered as unknown.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use fred::clients::{Client, WithOptions};
use fred::error::{Error, ErrorKind};
use fred::interfaces::{ClientLike, FunctionInterface, PubsubInterface};
use fred::types::config::Options;
use fred::types::{ClusterHash, Value};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use roomcast_protocol::codes::{Refusal, Refused};
use roomcast_protocol::content::Content;
use roomcast_protocol::envelope::{Accepted, BeatReport, BrokerEvent};
use roomcast_protocol::publication::Publication;
use roomcast_protocol::relay::{RelayKeys, RelayMode};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};

use super::channels::{self, Kind, beat_name, key};
use super::functions::{self, BEAT, Beaten, LEASE_MS, LIBRARY, LINK, PUBLISH, Remembered};
use super::options::Servers;
use super::shared::{LinkBeat, RELAY_KEY, Shared};

/// How long a publication is tried until its outcome is told. Units: milliseconds. Source: G5.
const TRY_MS: u64 = 5_000;

/// How long to rest between two tries.
const REST: Duration = Duration::from_millis(100);

/// What one node asks of Redis beside its feed.
pub(crate) enum Order<T> {
    Publish { ticket: T, publication: Arc<Publication>, dedup: bool },
    Beat { seq: u64, hears: bool },
}

/// Carries out orders until there are none any more.
pub(crate) async fn run<T: Send + 'static>(
    shared: Arc<Shared<T>>,
    mut orders: mpsc::UnboundedReceiver<Order<T>>,
) {
    let mut under_way = FuturesUnordered::new();
    let mut taken = Vec::new();
    loop {
        tokio::select! {
            biased;
            count = orders.recv_many(&mut taken, 256) => {
                if count == 0 {
                    return;
                }
                under_way.extend(taken.drain(..).map(|order| carry_out(Arc::clone(&shared), order)));
            }
            Some(()) = under_way.next(), if !under_way.is_empty() => {}
        }
    }
}

async fn carry_out<T>(shared: Arc<Shared<T>>, order: Order<T>) {
    match order {
        Order::Publish { ticket, publication, dedup } => {
            let began = Instant::now();
            let outcome = publish(&shared, &publication, dedup).await;
            shared.stats.publish_us.observe(micros(began));
            shared.pending_bytes.fetch_sub(publication.weight(), Ordering::Relaxed);
            shared.tell(BrokerEvent::Published { ticket, outcome });
        }
        Order::Beat { seq, hears } => {
            shared.stats.beats_sent.fetch_add(1, Ordering::Relaxed);
            let report = beat(&shared, seq, hears).await;
            if report.is_some() {
                shared.stats.beats_answered.fetch_add(1, Ordering::Relaxed);
            }
            shared.tell(BrokerEvent::BeatAnswered { seq, report });
        }
    }
}

/// What a try came to, if it did not succeed.
#[derive(Debug, PartialEq, Eq)]
enum Fault {
    /// It certainly did not happen, and may soon.
    NotYet,
    /// The library is not there.
    NoFunction,
    /// The server is no master any more.
    NoMaster,
    /// Redis declined it, for a reason that lasts.
    Declined(String),
    /// It may have happened.
    Unknown,
}

impl Fault {
    fn of(error: &Error) -> Self {
        let text = error.details();
        let code = text.split(' ').next().unwrap_or_default();
        match code {
            "LOADING" | "MASTERDOWN" | "CLUSTERDOWN" | "TRYAGAIN" | "BUSY" | "MOVED" | "ASK" => {
                Self::NotYet
            }
            "READONLY" => Self::NoMaster,
            "ERR" if text.contains("Function not found") => Self::NoFunction,
            // So says an ACL inside a function.
            "ERR" if text.contains("user executing the script can't") => {
                Self::Declined("NOPERM".to_owned())
            }
            "ERR" | "OOM" | "NOREPLICAS" | "NOPERM" | "NOAUTH" | "WRONGTYPE" | "MISCONF"
            | "NOSCRIPT" => Self::Declined(code.to_owned()),
            _ if matches!(error.kind(), ErrorKind::Routing | ErrorKind::Cluster) => Self::NotYet,
            _ => Self::Unknown,
        }
    }
}

/// Publishes, and tries again as far as that is safe.
async fn publish<T>(
    shared: &Shared<T>,
    publication: &Publication,
    dedup: bool,
) -> Result<Accepted, Refused> {
    let deadline = Instant::now() + Duration::from_millis(TRY_MS);
    let mut plan = None;
    let mut may_have_happened = false;
    loop {
        let keys = shared.hearing().keys.clone();
        let fault = match shared.connected().zip(keys) {
            None => Fault::NotYet,
            Some((client, keys)) => {
                let plan = plan.get_or_insert_with(|| Plan::new(shared, publication, &keys));
                match attempt(shared, &client, plan, dedup.then_some((publication, &*keys))).await {
                    Ok(Remembered::Other) => return Err(Refusal::Duplicate.into()),
                    Ok(Remembered::Same) => return Ok(Accepted::WHOLE),
                    Ok(Remembered::New { short }) => {
                        return Ok(Accepted { dedup_short: short, ..Accepted::WHOLE });
                    }
                    Err(error) => {
                        let fault = Fault::of(&error);
                        tracing::debug!(%error, ?fault, "a publication did not go out");
                        mend(shared, &client, &fault, &error).await;
                        fault
                    }
                }
            }
        };
        match fault {
            Fault::Declined(code) if !may_have_happened => return Err(declined(&code)),
            Fault::Declined(_) => return Err(unknown()),
            Fault::Unknown if !dedup => return Err(unknown()),
            Fault::Unknown => may_have_happened = true,
            Fault::NotYet | Fault::NoFunction | Fault::NoMaster => {}
        }
        if Instant::now() + REST >= deadline {
            return Err(if may_have_happened { unknown() } else { away() });
        }
        sleep(REST).await;
    }
}

/// What can be done about a fault before the next try. Takes no longer than a command.
async fn mend<T>(shared: &Shared<T>, client: &Client, fault: &Fault, error: &Error) {
    let mending = async {
        match fault {
            Fault::NoFunction => load(shared, client).await,
            Fault::NoMaster if shared.may_force() => client.force_reconnection().await,
            Fault::Declined(_) => {
                shared.declined(error);
                Ok(())
            }
            Fault::NoMaster | Fault::NotYet | Fault::Unknown => Ok(()),
        }
    };
    let limit = Duration::from_millis(shared.options.command_timeout_ms);
    match timeout(limit, mending).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, ?fault, "Redis cannot be put right yet"),
        Err(_) => tracing::debug!(?fault, "Redis is being put right"),
    }
}

/// Loads the function library where it is needed.
///
/// # Errors
/// Redis did not take it: too old (before 7.0), or the ACL user may not.
pub(crate) async fn load<T>(shared: &Shared<T>, client: &Client) -> Result<(), Error> {
    match shared.options.servers {
        Servers::Cluster(_) => client.function_load_cluster(true, LIBRARY).await,
        Servers::Standalone(_) | Servers::Sentinel { .. } => {
            client.function_load::<(), _>(true, LIBRARY).await
        }
    }
}

/// A Redis whose memory is full takes no library, but may have it.
pub(crate) fn if_full(error: Error) -> Result<(), Error> {
    if Fault::of(&error) == Fault::Declined("OOM".to_owned()) { Ok(()) } else { Err(error) }
}

/// A publication as it goes to Redis, the same in every try.
struct Plan {
    mode: RelayMode,
    channel: String,
    payload: Bytes,
}

impl Plan {
    fn new<T>(shared: &Shared<T>, publication: &Publication, keys: &RelayKeys) -> Self {
        let mode = (shared.options.mode_of)(&publication.room);
        let channel = channels::channel(&shared.tags, mode, publication.room.as_str());
        let mut payload = Vec::with_capacity(256 + publication.content.len());
        shared.options.codec.encode(keys, publication, shared.stats.time(), &mut payload);
        Self { mode, channel, payload: payload.into() }
    }
}

async fn attempt<T>(
    shared: &Shared<T>,
    client: &Client,
    plan: &Plan,
    dedup: Option<(&Publication, &RelayKeys)>,
) -> Result<Remembered, Error> {
    let Some((publication, keys)) = dedup else {
        plain(shared, client, plan).await?;
        return Ok(Remembered::New { short: false });
    };
    let room = publication.room.as_str();
    let tag = shared.tags.of(room);
    let kind = if plan.mode == RelayMode::Sharded { "s" } else { "p" };
    let (id, content) = fingerprints(keys, publication);
    let arguments: Vec<Value> = vec![
        kind.into(),
        plan.channel.as_str().into(),
        plan.payload.clone().into(),
        Bytes::from(id).into(),
        Bytes::from(content).into(),
        shared.options.dedup_ttl_ms.to_string().into(),
        shared.options.dedup_max.to_string().into(),
    ];
    let memory = vec![key(tag, "ids", room), key(tag, "ids-old", room)];
    let answer: Value = hurried(client, None).fcall(PUBLISH, memory, arguments).await?;
    functions::remembered(answer)
        .ok_or_else(|| Error::new(ErrorKind::Protocol, "no answer of the function"))
}

/// Publishes without remembering the id. In a Cluster always through the master of the room's slot, whatever the
/// mode: only so do all nodes hear a room's publications in one order.
async fn plain<T>(shared: &Shared<T>, client: &Client, plan: &Plan) -> Result<(), Error> {
    let (channel, payload) = (plan.channel.as_str(), plan.payload.clone());
    match (plan.mode, &shared.options.servers) {
        (RelayMode::Sharded, _) => hurried(client, None).spublish(channel, payload).await,
        (RelayMode::Pattern | RelayMode::Exact, Servers::Cluster(_)) => {
            let name = channels::name_of(channel.as_bytes()).unwrap_or_default();
            let slot = channels::slot(&key(shared.tags.of(name), "ids", name));
            hurried(client, Some(slot)).publish(channel, payload).await
        }
        (RelayMode::Pattern | RelayMode::Exact, _) => {
            hurried(client, None).publish(channel, payload).await
        }
    }
}

/// The client, failing at once where there is no connection; in a Cluster by way of a slot's master.
fn hurried(client: &Client, slot: Option<u16>) -> WithOptions<Client> {
    let cluster_hash = slot.map(ClusterHash::Custom);
    client.with_options(&Options { fail_fast: true, cluster_hash, ..Options::default() })
}

/// The publication's sender and id, and its type and content, as hashes that nobody without the key can aim at.
fn fingerprints(keys: &RelayKeys, publication: &Publication) -> (Vec<u8>, Vec<u8>) {
    let (content, bytes) = match &publication.content {
        Content::Json(bytes) => (b"j", bytes),
        Content::Text(bytes) => (b"t", bytes),
        Content::Binary(bytes) => (b"b", bytes),
    };
    let sender_bytes = publication.sender.len().to_be_bytes();
    let kind_bytes = publication.kind.len().to_be_bytes();
    let id = |salt: &'static [u8]| {
        let parts = [salt, &sender_bytes, publication.sender.as_bytes(), publication.id.as_bytes()];
        keys.sign(publication.room.as_str(), &parts)
    };
    let whole = [content.as_slice(), &kind_bytes, publication.kind.as_bytes(), bytes];
    let content = keys.sign(publication.room.as_str(), &whole);
    ([id(b"id-a"), id(b"id-b")].concat(), content.to_vec())
}

/// Renews the lease and beats over every link that is up.
async fn beat<T>(shared: &Shared<T>, seq: u64, hears: bool) -> Option<BeatReport> {
    let client = shared.connected()?;
    let keys = shared.hearing().keys.clone()?;
    let links = shared.beats().clone();
    let began = Instant::now();
    let answer = beaten(shared, &client, &keys, links.first(), seq, hears).await;
    let answer = match answer {
        Ok(answer) => answer?,
        Err(error) => {
            tracing::debug!(%error, seq, "a beat was not answered");
            mend(shared, &client, &Fault::of(&error), &error).await;
            return None;
        }
    };
    shared.stats.set_time(answer.time_us + micros(began) / 2);
    if shared.options.keys.is_none() {
        shared.adopt_key(&answer.relay_key);
    }
    shared.hear_in_every_mode(answer.peers.iter().any(|peer| !peer.agrees));
    let name = beat_name(shared.node);
    for link in links.iter().skip(1) {
        let arguments: Vec<Value> = vec![
            kind_of(link).into(),
            link.channel.as_str().into(),
            name.as_str().into(),
            Bytes::copy_from_slice(&keys.current).into(),
            functions::number(seq).into(),
        ];
        let sent: Result<(), Error> =
            hurried(&client, None).fcall(LINK, vec![link.key.clone()], arguments).await;
        sent.inspect_err(|error| tracing::debug!(%error, "a link was not beaten")).ok()?;
    }
    let links = links.into_iter().map(|link| link.link).collect();
    Some(BeatReport { master: shared.master(answer.master), links, peers: answer.peers })
}

async fn beaten<T>(
    shared: &Shared<T>,
    client: &Client,
    keys: &RelayKeys,
    link: Option<&LinkBeat>,
    seq: u64,
    hears: bool,
) -> Result<Option<Beaten>, Error> {
    let nodes = key(shared.tags.common(), "nodes", "");
    let arguments: Vec<Value> = vec![
        shared.node.to_string().into(),
        u8::from(hears).to_string().into(),
        shared.digest.as_str().into(),
        LEASE_MS.to_string().into(),
        link.map_or("p", kind_of).into(),
        link.map_or("", |link| link.channel.as_str()).into(),
        beat_name(shared.node).into(),
        Bytes::copy_from_slice(&keys.current).into(),
        functions::number(seq).into(),
    ];
    let mut memory = vec![nodes];
    if shared.options.keys.is_none() {
        memory.push(key(shared.tags.common(), RELAY_KEY, ""));
    }
    let answer: Value = hurried(client, None).fcall(BEAT, memory, arguments).await?;
    Ok(functions::beaten(answer, &shared.digest))
}

fn kind_of(link: &LinkBeat) -> &'static str {
    match link.kind {
        Kind::Sharded => "s",
        Kind::Pattern | Kind::Plain => "p",
    }
}

fn micros(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX)
}

fn refused(text: String, unknown: bool) -> Refused {
    Refused { unknown, ..Refused::unavailable(text.into(), 1_000) }
}

fn unknown() -> Refused {
    let text = "The broker did not answer in time, so the outcome is unknown: send it again with the same id";
    refused(text.to_owned(), true)
}

fn away() -> Refused {
    refused("The broker cannot be reached: send it again later".to_owned(), false)
}

/// Why Redis declined, by its error's first word: the rest may name hosts and keys.
fn declined(code: &str) -> Refused {
    let why = match code {
        "OOM" => "its memory is full",
        "NOREPLICAS" => "too few of its replicas are in reach",
        "NOPERM" | "NOAUTH" => "it does not let this node publish",
        "MISCONF" => "it cannot save its data",
        _ => "the node's log says why",
    };
    refused(format!("The broker declines publications: {why}"), false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(kind: ErrorKind, text: &'static str, expected: &Fault) {
        assert_eq!(Fault::of(&Error::new(kind, text)), *expected, "{text}");
    }

    #[test]
    fn what_may_have_happened_is_never_taken_for_refused() {
        check(ErrorKind::Timeout, "Request timed out.", &Fault::Unknown);
        check(ErrorKind::IO, "Connection reset by peer", &Fault::Unknown);
        check(ErrorKind::Canceled, "Connection closed unexpectedly.", &Fault::Unknown);
        check(ErrorKind::Protocol, "no answer of the function", &Fault::Unknown);
    }

    #[test]
    fn what_certainly_did_not_happen_is_tried_again() {
        check(ErrorKind::Unknown, "LOADING Redis is loading", &Fault::NotYet);
        check(ErrorKind::Cluster, "CLUSTERDOWN The cluster is down", &Fault::NotYet);
        check(ErrorKind::Unknown, "READONLY You can't write", &Fault::NoMaster);
        check(ErrorKind::Unknown, "ERR Function not found", &Fault::NoFunction);
    }

    #[test]
    fn what_redis_declines_is_told_without_its_words() {
        check(ErrorKind::Unknown, "OOM command not allowed", &Fault::Declined("OOM".into()));
        check(ErrorKind::Unknown, "NOPERM this user", &Fault::Declined("NOPERM".into()));
        let inside = "ERR The user executing the script can't access at least one of the channels";
        check(ErrorKind::Unknown, inside, &Fault::Declined("NOPERM".into()));
        let refused = declined("OOM");
        assert!(refused.message.contains("memory is full") && !refused.unknown);
    }
}
