//! What a node asks about kept rooms: their heads, and pages of what they keep.
//!
//! Asking changes nothing that members could notice, so it is repeated until a deadline; behind that the answer is that
//! there was none.

use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use fred::clients::Client;
use fred::error::{Error, ErrorKind};
use fred::interfaces::FunctionInterface;
use fred::types::Value;
use futures_util::future::try_join_all;
use roomcast_protocol::position::{Direction, Keep, Kept, OFFSET_MAX, Page, Position, Span};
use roomcast_protocol::relay::{RelayKeys, Unreadable};
use roomcast_protocol::room::RoomName;
use tokio::time::Instant;

use super::asking::{Again, ask, no_answer};
use super::channels::{self, key};
use super::functions::{self, HEADS, HISTORY, Stored};
use super::options::Servers;
use super::publish::hurried;
use super::shared::Shared;

/// How long a question is repeated until it counts as not answered. Units: milliseconds.
pub(crate) const ASK_MS: u64 = 2_000;

/// Rooms asked for by one call: Redis does nothing else meanwhile.
const ROOMS_MAX: usize = 128;

/// Bytes of an epoch.
const EPOCH_BYTES: usize = 16;

/// Kinds of the keys that a room's publications live in, in the order in which the functions take them.
pub(crate) fn room_keys<T>(shared: &Shared<T>, room: &str) -> [String; 4] {
    let tag = shared.tags.of(room);
    [
        key(tag, channels::META, room),
        key(tag, channels::STREAM, room),
        key(tag, channels::COUNTER, ""),
        key(tag, channels::MOVED, ""),
    ]
}

/// 16 random bytes: what an epoch is made of if the room's stream has to begin anew.
pub(crate) fn fresh_epoch() -> Result<[u8; EPOCH_BYTES], Error> {
    let mut bytes = [0; EPOCH_BYTES];
    getrandom::fill(&mut bytes)
        .map_err(|error| Error::new(ErrorKind::Unknown, format!("no random bytes: {error}")))?;
    Ok(bytes)
}

/// When a question that begins now counts as not answered.
pub(crate) fn soon() -> Instant {
    Instant::now() + Duration::from_millis(ASK_MS)
}

/// The newest positions of rooms, in their order.
pub(crate) async fn heads<T>(
    shared: &Shared<T>,
    rooms: &[(RoomName, Keep)],
) -> Option<Vec<Position>> {
    let mut order: Vec<usize> = (0..rooms.len()).collect();
    let partition =
        |at: &usize| rooms.get(*at).map(|(room, _)| shared.tags.partition(room.as_str()));
    // In a Cluster, one call names keys of one slot only.
    let is_cluster = matches!(shared.options.servers, Servers::Cluster(_));
    if is_cluster {
        order.sort_by_key(partition);
    }
    let together = |a: &usize, b: &usize| !is_cluster || partition(a) == partition(b);
    let calls: Vec<&[usize]> =
        order.chunk_by(together).flat_map(|some| some.chunks(ROOMS_MAX)).collect();
    let answers = ask(shared, soon(), Again::Always, |client| {
        let calls = calls.iter().map(|some| {
            let rooms = some.iter().filter_map(|at| rooms.get(*at)).collect();
            heads_of(shared, client.clone(), rooms)
        });
        try_join_all(calls)
    });
    let found = answers.await?;
    let mut heads: Vec<_> = order.iter().zip(found.into_iter().flatten()).collect();
    heads.sort_by_key(|(at, _)| **at);
    Some(heads.into_iter().map(|(_, head)| head).collect())
}

async fn heads_of<T>(
    shared: &Shared<T>,
    client: Client,
    rooms: Vec<&(RoomName, Keep)>,
) -> Result<Vec<Position>, Error> {
    let mut keys = Vec::with_capacity(4 * rooms.len());
    let mut arguments: Vec<Value> = Vec::with_capacity(2 * rooms.len());
    for (room, keep) in &rooms {
        keys.extend(room_keys(shared, room.as_str()));
        arguments.push(room.as_str().into());
        let ttl_ms = keep.ttl_ms.min(TTL_MS_MAX).to_be_bytes();
        arguments.push(Bytes::from([&fresh_epoch()?[..], &ttl_ms].concat()).into());
    }
    let answer: Value = hurried(&client, None).fcall(HEADS, keys, arguments).await?;
    functions::heads(answer, rooms.len()).ok_or_else(no_answer)
}

/// Kept publications of a room.
pub(crate) async fn read<T>(
    shared: &Shared<T>,
    room: &RoomName,
    keep: &Keep,
    span: &Span,
) -> Option<Page> {
    let found =
        ask(shared, soon(), Again::Always, |client| history(shared, client, room, keep, span))
            .await?;
    let keys = shared.hearing().keys.clone()?;
    let entries = found.entries.into_iter();
    let entries = entries.map(|(place, bytes)| kept(shared, &keys, room, place, &bytes)).collect();
    Some(Page { head: found.head, entries, whole: found.whole })
}

async fn history<T>(
    shared: &Shared<T>,
    client: Client,
    room: &RoomName,
    keep: &Keep,
    span: &Span,
) -> Result<Stored, Error> {
    let direction = match span.direction {
        Direction::Forward => "f",
        Direction::Backward => "b",
    };
    let arguments: Vec<Value> = vec![
        room.as_str().into(),
        Bytes::from([&fresh_epoch()?[..], &kept_bytes(keep)].concat()).into(),
        direction.into(),
        span.from.min(OFFSET_MAX + 1).to_string().into(),
        span.count_max.clamp(1, Span::COUNT_MAX).to_string().into(),
        span.bytes_max.min(Span::BYTES_MAX).to_string().into(),
    ];
    let keys = room_keys(shared, room.as_str()).to_vec();
    let answer: Value = hurried(&client, None).fcall(HISTORY, keys, arguments).await?;
    functions::stored(answer).ok_or_else(no_answer)
}

/// What a room keeps, as the functions read it.
pub(crate) fn kept_bytes(keep: &Keep) -> [u8; 25] {
    let mut bytes = [0; 25];
    let [.., inbox] = &mut bytes;
    *inbox = u8::from(keep.inbox.is_some());
    let numbers =
        [u64::from(keep.size), keep.bytes_max.min(OFFSET_MAX), keep.ttl_ms.min(TTL_MS_MAX)];
    for (place, number) in bytes.chunks_exact_mut(8).zip(numbers) {
        place.copy_from_slice(&number.to_be_bytes());
    }
    bytes
}

/// Longer than anybody waits, and with the time of day still counted exactly by Lua. Units: milliseconds.
const TTL_MS_MAX: u64 = 1 << 50;

/// An entry of the stream is an envelope as the feed brings them.
fn kept<T>(
    shared: &Shared<T>,
    keys: &RelayKeys,
    room: &RoomName,
    place: Position,
    bytes: &Bytes,
) -> Kept {
    if bytes.is_empty() {
        return Kept::Removed(place);
    }
    let codec = &shared.options.codec;
    let unreadable = |cause: Unreadable| {
        if let Some(counter) = shared.stats.unreadable.get(cause.index()) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
        let own = codec.position(keys, room, bytes).filter(|own| own.offset == place.offset);
        Kept::Unreadable(own.unwrap_or(place))
    };
    match codec.decode(keys, room, bytes, shared.stats.time(), shared.serial()) {
        Ok(relayed) => {
            let publication = relayed.publication;
            // Somebody else's bytes in our stream say nothing about where they stand.
            match publication.position.filter(|own| own.offset == place.offset) {
                Some(_) => Kept::Publication(publication.into()),
                None => unreadable(Unreadable::Forged),
            }
        }
        Err(cause) => unreadable(cause),
    }
}
