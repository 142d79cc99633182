//! How a publication goes to Redis.
//!
//! A command is written once. What certainly did not happen is tried again; what may have happened is repeated only
//! under an id that Redis remembers (G5), and otherwise answered as unknown.

use std::time::Duration;

use bytes::Bytes;
use fred::clients::{Client, WithOptions};
use fred::error::{Error, ErrorKind};
use fred::interfaces::{ClientLike, FunctionInterface, PubsubInterface};
use fred::types::config::Options;
use fred::types::{ClusterHash, Value};
use roomcast_protocol::codes::{Refusal, Refused};
use roomcast_protocol::content::Content;
use roomcast_protocol::envelope::{Accepted, Level};
use roomcast_protocol::position::{Keep, Position};
use roomcast_protocol::publication::{Priority, Publication};
use roomcast_protocol::relay::{RelayFormat, RelayKeys, RelayMode};
use roomcast_protocol::room::{CONTROL, REVOKED, RoomName};
use tokio::time::{Instant, sleep};

use super::channels::{self, key};
use super::faults::{Fault, away, declined, mend, other_layout, unknown};
use super::functions::{self, APPEND, APPEND_ORDER, Outcome, PUBLISH};
use super::history::{fresh_epoch, kept_bytes, room_keys};
use super::options::Servers;
use super::replicated::Replicated;
use super::shared::Shared;

/// How long a publication is tried until its outcome is told. Units: milliseconds. Source: G5.
pub(crate) const TRY_MS: u64 = 5_000;

/// How long to rest between two tries.
const REST: Duration = Duration::from_millis(100);

/// By which way a publication goes.
pub(crate) enum Way {
    /// Published, and nothing else.
    Plain,
    /// Its id is remembered.
    Remembered,
    /// Its room keeps it; ids are always remembered there.
    Kept(Keep, Replicated, Option<Box<str>>),
}

/// What of a [`Way`] shapes its command.
#[derive(Clone, Copy)]
enum Form {
    Plain,
    Remembered,
    Kept,
}

impl Way {
    const fn form(&self) -> Form {
        match self {
            Self::Plain => Form::Plain,
            Self::Remembered => Form::Remembered,
            Self::Kept(..) => Form::Kept,
        }
    }
}

/// What a try came to.
enum Tried {
    Done(Outcome),
    /// It is on the master, and too few replicas told in time that they have it.
    Unreplicated,
}

/// Publishes, and tries again as far as that is safe.
pub(crate) async fn publish<T>(
    shared: &Shared<T>,
    publication: &Publication,
    way: &Way,
    began: Instant,
) -> Result<Accepted, Refused> {
    let deadline = began + Duration::from_millis(TRY_MS);
    if Instant::now() >= deadline {
        return Err(away()); // it has only waited for its turn
    }
    let mut plan = None;
    let mut may_have_happened = false;
    loop {
        if let Some(partitions) = shared.other_layout() {
            return Err(if may_have_happened { unknown() } else { other_layout(partitions) });
        }
        let keys = shared.hearing().keys.clone();
        let fault = match shared.ready().zip(keys) {
            None => Fault::NotYet,
            Some((client, keys)) => {
                let plan =
                    plan.get_or_insert_with(|| Plan::new(shared, publication, &keys, way.form()));
                match attempt(shared, &client, plan, way).await {
                    Ok(Tried::Done(outcome)) => return ended(outcome, way),
                    Ok(Tried::Unreplicated) => return Err(unknown()),
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
            Fault::Unknown if matches!(way, Way::Plain) => return Err(unknown()),
            Fault::Unknown => may_have_happened = true,
            Fault::NotYet | Fault::NoFunction | Fault::NoMaster => {}
        }
        if Instant::now() + REST >= deadline {
            return Err(if may_have_happened { unknown() } else { away() });
        }
        sleep(REST).await;
    }
}

fn ended(outcome: Outcome, way: &Way) -> Result<Accepted, Refused> {
    let accepted = |position: Option<Position>| {
        let stored = position.map_or(Accepted::WHOLE, Accepted::stored);
        match way {
            Way::Kept(keep, ..) if keep.replicated => {
                Accepted { level: Level::Replicated, ..stored }
            }
            Way::Plain | Way::Remembered | Way::Kept(..) => stored,
        }
    };
    match outcome {
        Outcome::Other => Err(Refusal::Duplicate.into()),
        Outcome::Same { position } => Ok(Accepted { again: true, ..accepted(position) }),
        Outcome::New { position, short } => {
            Ok(Accepted { dedup_short: short, ..accepted(position) })
        }
    }
}

/// A publication as it goes to Redis, the same in every try.
struct Plan {
    mode: RelayMode,
    format: RelayFormat,
    channel: String,
    payload: Bytes,
    keys: Vec<String>,
    /// Hashes of sender and id (16 bytes), and of the content (8).
    marks: Vec<u8>,
    is_low: bool,
    room: RoomName,
    relay_key: Bytes,
}

impl Plan {
    fn new<T>(
        shared: &Shared<T>,
        publication: &Publication,
        relay_keys: &RelayKeys,
        form: Form,
    ) -> Self {
        let room = publication.room.as_str();
        let mode = (shared.options.mode_of)(&publication.room);
        let channel = channels::channel(&shared.tags, mode, room);
        let mut payload = Vec::with_capacity(256 + publication.content.len());
        let (codec, time) = (&shared.options.codec, shared.stats.time());
        let format = match form {
            Form::Kept => codec.encode_unplaced(publication, time, &mut payload),
            Form::Plain | Form::Remembered => {
                codec.encode(relay_keys, publication, time, &mut payload);
                RelayFormat::default()
            }
        };
        let tag = shared.tags.of(room);
        let own = |kind| key(tag, kind, room);
        let keys = match form {
            Form::Plain => Vec::new(),
            Form::Remembered => vec![own(channels::IDS), own(channels::IDS_OLD)],
            Form::Kept => {
                let ids = [own(channels::KEPT_IDS), own(channels::KEPT_IDS_OLD)];
                room_keys(shared, room).into_iter().chain(ids).collect()
            }
        };
        let marks = match form {
            Form::Plain => Vec::new(),
            Form::Remembered | Form::Kept => fingerprints(relay_keys, publication),
        };
        let room = publication.room.clone();
        let relay_key = Bytes::copy_from_slice(&relay_keys.current);
        let (payload, is_low) = (payload.into(), publication.priority == Some(Priority::Low));
        Self { mode, format, channel, payload, keys, marks, is_low, room, relay_key }
    }

    /// How a function publishes: `s` on a sharded channel.
    fn kind(&self) -> &'static str {
        if self.mode == RelayMode::Sharded { "s" } else { "p" }
    }
}

async fn attempt<T>(
    shared: &Shared<T>,
    client: &Client,
    plan: &Plan,
    way: &Way,
) -> Result<Tried, Error> {
    let no_answer = || Error::new(ErrorKind::Protocol, "no answer of the function");
    let outcome = match way {
        Way::Plain => {
            plain(shared, client, plan).await?;
            Some(Outcome::New { position: None, short: false })
        }
        Way::Remembered => {
            let (id, content) = plan.marks.split_at_checked(ID_BYTES).ok_or_else(no_answer)?;
            let arguments: Vec<Value> = vec![
                plan.kind().into(),
                plan.channel.as_str().into(),
                plan.payload.clone().into(),
                Bytes::copy_from_slice(id).into(),
                Bytes::copy_from_slice(content).into(),
                shared.options.dedup_ttl_ms.to_string().into(),
                shared.options.dedup_max.to_string().into(),
            ];
            let memory = plan.keys.clone();
            let answer: Value = hurried(client, None).fcall(PUBLISH, memory, arguments).await?;
            functions::remembered(answer)
        }
        Way::Kept(keep, replicated, collapse) => {
            let arguments = appending(shared, plan, keep, collapse.as_deref())?;
            let memory = plan.keys.clone();
            if keep.replicated {
                let Some(answer) = replicated.append(memory, arguments).await? else {
                    return Ok(Tried::Unreplicated);
                };
                functions::appended(answer)
            } else {
                let is_order = [CONTROL, REVOKED].contains(&plan.room.as_str());
                let function = if is_order { APPEND_ORDER } else { APPEND };
                let answer = hurried(client, None).fcall(function, memory, arguments).await?;
                functions::appended(answer)
            }
        }
    };
    outcome.map(Tried::Done).ok_or_else(no_answer)
}

/// Flags of an entry: it is of low priority; it has a key.
const LOW: u8 = 1;
const KEYED: u8 = 2;

/// The arguments of [`APPEND`]. Each try offers an epoch of its own: one that was used may be lost since.
fn appending<T>(
    shared: &Shared<T>,
    plan: &Plan,
    keep: &Keep,
    collapse: Option<&str>,
) -> Result<Vec<Value>, Error> {
    let how = match (plan.kind(), plan.format) {
        ("s", RelayFormat::MessagePack) => "sb",
        ("s", RelayFormat::Json) => "sj",
        (_, RelayFormat::MessagePack) => "pb",
        (_, RelayFormat::Json) => "pj",
    };
    let options = &shared.options;
    let dedup_max = u64::try_from(options.dedup_max).unwrap_or(u64::MAX);
    let (ttl, max) = (options.dedup_ttl_ms.to_be_bytes(), dedup_max.to_be_bytes());
    // Only in an inbox the low ones go first.
    let low = if plan.is_low && keep.inbox.is_some() { LOW } else { 0 };
    let flags = low | if collapse.is_some() { KEYED } else { 0 };
    let key = collapse.unwrap_or_default().as_bytes();
    let limits = [&ttl[..], &max, &kept_bytes(keep), &[flags], key].concat();
    Ok(vec![
        how.into(),
        plan.channel.as_str().into(),
        plan.payload.clone().into(),
        plan.room.as_str().into(),
        plan.relay_key.clone().into(),
        Bytes::from([&plan.marks[..], &fresh_epoch()?].concat()).into(),
        Bytes::from(limits).into(),
    ])
}

/// The words of the command that appends a publication, as a bare program would send them; for the bench. The last
/// but one begins with the id's hash.
pub(crate) fn words<T>(
    shared: &Shared<T>,
    publication: &Publication,
    keep: &Keep,
) -> Option<Vec<Bytes>> {
    let keys = shared.hearing().keys.clone()?;
    let plan = Plan::new(shared, publication, &keys, Form::Kept);
    let arguments = appending(shared, &plan, keep, None).ok()?;
    let head = ["FCALL".to_owned(), APPEND.to_owned(), plan.keys.len().to_string()];
    let mut words: Vec<Bytes> = head.into_iter().chain(plan.keys).map(Bytes::from).collect();
    for argument in arguments {
        words.push(argument.into_bytes()?);
    }
    Some(words)
}

/// Publishes without remembering the id. In a Cluster always through the master of the room's slot, whatever the
/// mode: only so do all nodes hear a room's publications in one order.
async fn plain<T>(shared: &Shared<T>, client: &Client, plan: &Plan) -> Result<(), Error> {
    let (channel, payload) = (plan.channel.as_str(), plan.payload.clone());
    match (plan.mode, &shared.options.servers) {
        (RelayMode::Sharded, _) => hurried(client, None).spublish(channel, payload).await,
        (RelayMode::Pattern | RelayMode::Exact, Servers::Cluster(_)) => {
            let name = plan.room.as_str();
            let slot = channels::slot(&key(shared.tags.of(name), channels::IDS, name));
            hurried(client, Some(slot)).publish(channel, payload).await
        }
        (RelayMode::Pattern | RelayMode::Exact, _) => {
            hurried(client, None).publish(channel, payload).await
        }
    }
}

/// The client, failing at once where there is no connection; in a Cluster by way of a slot's master.
pub(crate) fn hurried(client: &Client, slot: Option<u16>) -> WithOptions<Client> {
    let cluster_hash = slot.map(ClusterHash::Custom);
    client.with_options(&Options { fail_fast: true, cluster_hash, ..Options::default() })
}

/// Bytes of an id's hash.
const ID_BYTES: usize = 16;

/// The publication's namer and id, and its type and content, as hashes that nobody without the key can aim at.
fn fingerprints(keys: &RelayKeys, publication: &Publication) -> Vec<u8> {
    let (content, bytes) = match &publication.content {
        Content::Json(bytes) => (b"j", bytes),
        Content::Text(bytes) => (b"t", bytes),
        Content::Binary(bytes) => (b"b", bytes),
    };
    let namer = publication.namer();
    let namer_bytes = namer.len().to_be_bytes();
    let kind_bytes = publication.kind.len().to_be_bytes();
    let id = |salt: &'static [u8]| {
        let parts = [salt, &namer_bytes, namer.as_bytes(), publication.id.as_bytes()];
        keys.sign(publication.room.as_str(), &parts)
    };
    let whole = [content.as_slice(), &kind_bytes, publication.kind.as_bytes(), bytes];
    let content = keys.sign(publication.room.as_str(), &whole);
    [id(b"id-a"), id(b"id-b"), content].concat()
}

pub(crate) fn micros(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX)
}
