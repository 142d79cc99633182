//! Who is in rooms, as Redis keeps it: steps, rosters, and what beats do about users who left and nodes that are gone.

use std::collections::BTreeSet;

use bytes::Bytes;
use fred::clients::Client;
use fred::error::Error;
use fred::interfaces::FunctionInterface;
use fred::types::Value;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use roomcast_protocol::ids::NodeId;
use roomcast_protocol::position::{Epoch, OFFSET_MAX, Position};
use roomcast_protocol::presence::{
    Incarnation, PRESENCE_CHANGES_MAX, PRESENT_MAX, PresenceSet, ROSTER_PAGE_MAX, RosterPage,
    SetPresence,
};
use roomcast_protocol::relay::{RelayKeys, RelayMode};
use roomcast_protocol::room::RoomName;
use tokio::time::Instant;

use super::asking::{Again, ask, no_answer};
use super::channels::{self, PARTITIONS, key};
use super::functions::{ADOPT, BURY, LEASE_MS, LEAVE, LIVES, PRESENT, ROSTER, SET_PRESENCE};
use super::history::fresh_epoch;
use super::options::Servers;
use super::publish::hurried;
use super::shared::Shared;

/// Calls in a row by which one beat clears up a partition, or all of them; the rest is the next beat's.
const ROUNDS_MAX: usize = 64;

/// Longer than any grace, and with the time of day still counted exactly by Lua. Units: milliseconds.
const GRACE_MS_MAX: u64 = 1 << 40;

/// An incarnation as the functions name it.
pub(crate) fn name_of(node: NodeId, life: u32) -> String {
    format!("{node}.{life}")
}

/// Changes who is in a room. `None`: there was no answer in time.
pub(crate) async fn set<T>(
    shared: &Shared<T>,
    set: &SetPresence,
    deadline: Instant,
) -> Option<PresenceSet> {
    ask(shared, deadline, Again::Always, |client| step(shared, client, set)).await
}

async fn step<T>(
    shared: &Shared<T>,
    client: Client,
    set: &SetPresence,
) -> Result<PresenceSet, Error> {
    let keys = shared.hearing().keys.clone().ok_or_else(no_answer)?;
    let room = set.room.as_str();
    let how = match (shared.options.mode_of)(&set.room) {
        RelayMode::Pattern => "p",
        RelayMode::Exact => "e",
        RelayMode::Sharded => "s",
    };
    let Incarnation { node, life } = set.incarnation;
    let mut arguments: Vec<Value> = vec![
        room.into(),
        Bytes::copy_from_slice(&keys.current).into(),
        name_of(node, life).into(),
        set.seq.to_string().into(),
        set.grace_ms.min(GRACE_MS_MAX).to_string().into(),
        Bytes::copy_from_slice(&fresh_epoch()?).into(),
        how.into(),
    ];
    for change in set.changes.iter().take(PRESENCE_CHANGES_MAX) {
        let (session, generation) =
            (change.session.0.to_be_bytes(), change.generation.to_be_bytes());
        let part = [&session[..], &generation, &[u8::from(change.present)]].concat();
        arguments.push(Bytes::from(part).into());
        arguments.push((&*change.user).into());
    }
    let tag = shared.tags.of(room);
    let memory = vec![key(tag, channels::PRESENCE, room), due_key(shared, tag)];
    let answer: Value = hurried(&client, None).fcall(SET_PRESENCE, memory, arguments).await?;
    let (outcome, is_first) = stepped(shared, &keys, &set.room, answer).ok_or_else(no_answer)?;
    if is_first {
        // Who enters before its first beat, and never beats, goes like any other.
        give_leases(shared, &client, std::iter::once(name_of(node, life))).await;
    }
    Ok(outcome)
}

/// Where it stands when users of a partition leave: one key for all of them, or in a Cluster one of each.
pub(crate) fn due_key<T>(shared: &Shared<T>, tag: &str) -> String {
    let tag = match shared.options.servers {
        Servers::Cluster(_) => tag,
        Servers::Standalone(_) | Servers::Sentinel { .. } => shared.tags.common(),
    };
    key(tag, channels::DUE, "")
}

/// Reads the answer of [`SET_PRESENCE`], and whether it is the first that an incarnation entered in a partition.
fn stepped<T>(
    shared: &Shared<T>,
    keys: &RelayKeys,
    room: &RoomName,
    answer: Value,
) -> Option<(PresenceSet, bool)> {
    let mut parts = answer.into_array().into_iter();
    match parts.next()?.as_u64()? {
        0 => {
            let (told, is_first) = (parts.next()?.into_bytes()?, parts.next()?.as_u64()? == 1);
            let diff = || shared.options.codec.presence(keys, room, &told);
            let diff = if told.is_empty() { None } else { Some(diff()?) };
            Some((PresenceSet::Done(diff), is_first))
        }
        1 => Some((PresenceSet::Reaped, false)),
        _ => None,
    }
}

/// Who is in a room. `None`: there was no answer in time.
pub(crate) async fn roster<T>(
    shared: &Shared<T>,
    room: &RoomName,
    after: Option<&str>,
    count_max: u32,
    deadline: Instant,
) -> Option<RosterPage> {
    ask(shared, deadline, Again::Always, |client| async move {
        let name = room.as_str();
        let arguments: Vec<Value> = vec![
            name.into(),
            after.unwrap_or_default().into(),
            count_max.clamp(1, ROSTER_PAGE_MAX).to_string().into(),
            Bytes::copy_from_slice(&fresh_epoch()?).into(),
        ];
        let memory = vec![key(shared.tags.of(name), channels::PRESENCE, name)];
        let answer: Value = hurried(&client, None).fcall(ROSTER, memory, arguments).await?;
        page(answer).ok_or_else(no_answer)
    })
    .await
}

/// Reads the answer of [`ROSTER`].
/// Which of these users are in a room, each with the number of the version with which it came. `None`: there was no answer
/// in time.
pub(crate) async fn present<T>(
    shared: &Shared<T>,
    room: &RoomName,
    users: &[Box<str>],
    deadline: Instant,
) -> Option<Vec<Option<u64>>> {
    let users = users.get(..PRESENT_MAX).unwrap_or(users);
    ask(shared, deadline, Again::Always, |client| async move {
        let name = room.as_str();
        let fresh: Value = Bytes::copy_from_slice(&fresh_epoch()?).into();
        let names = users.iter().map(|user| Value::from(&**user));
        let arguments: Vec<Value> = [name.into(), fresh].into_iter().chain(names).collect();
        let memory = vec![key(shared.tags.of(name), channels::PRESENCE, name)];
        let answer: Vec<i64> = hurried(&client, None).fcall(PRESENT, memory, arguments).await?;
        if answer.len() != users.len() {
            return Err(no_answer());
        }
        Ok(answer.into_iter().map(|since| u64::try_from(since).ok()).collect())
    })
    .await
}

fn page(answer: Value) -> Option<RosterPage> {
    let mut parts = answer.into_array().into_iter();
    let epoch = parts.next()?.into_bytes()?;
    let epoch = Epoch(u128::from_be_bytes(epoch.as_ref().try_into().ok()?));
    let offset = parts.next()?.as_u64().filter(|version| *version <= OFFSET_MAX)?;
    let (count, more) = (parts.next()?.as_u64()?, parts.next()?.as_u64()? == 1);
    let users = parts.map(|user| Some(user.as_str()?.as_ref().into())).collect::<Option<_>>()?;
    Some(RosterPage { version: Position { epoch, offset }, count, users, more })
}

/// What is to be cleared up.
pub(crate) struct Leaving {
    /// Incarnations whose lease is over.
    pub(crate) over: Vec<String>,
    /// Partitions where users are to leave.
    pub(crate) due: BTreeSet<usize>,
}

/// Lets users leave whose grace is over, and all that incarnations entered whose lease is. What fails is the next beat's.
pub(crate) async fn clear_up<T>(
    shared: &Shared<T>,
    client: &Client,
    keys: &RelayKeys,
    leaving: &Leaving,
) {
    let Leaving { over, due } = leaving;
    let everywhere = 0..PARTITIONS;
    let concerned: Vec<usize> =
        everywhere.filter(|partition| !over.is_empty() || due.contains(partition)).collect();
    if concerned.is_empty() {
        return;
    }
    let calls = memories(shared, &concerned).into_iter().map(|(tag, memory)| {
        let memory = std::iter::once(due_key(shared, tag)).chain(memory).collect();
        clear_up_in(client, keys, memory, over)
    });
    let mut calls: FuturesUnordered<_> = calls.collect();
    let mut whole = true;
    while let Some(done) = calls.next().await {
        whole &= done;
    }
    if whole && !over.is_empty() {
        let common = shared.tags.common();
        let memory = vec![key(common, channels::NODES, ""), key(common, channels::REAPED, "")];
        let buried: Result<(), Error> =
            hurried(client, None).fcall(BURY, memory, over.clone()).await;
        if let Err(error) = buried {
            tracing::debug!(%error, "leases that are over stay for the next beat");
        }
    }
}

/// The keys by which calls name these partitions, each with the tag of the first. In a Cluster, one call names keys of
/// one slot only.
fn memories<'a, T>(shared: &'a Shared<T>, partitions: &[usize]) -> Vec<(&'a str, Vec<String>)> {
    let at_once = match shared.options.servers {
        Servers::Cluster(_) => 1,
        Servers::Standalone(_) | Servers::Sentinel { .. } => PARTITIONS,
    };
    let tags: Vec<_> = shared.tags.all().collect();
    let names = |some: &[usize]| {
        let tags: Vec<_> = some.iter().filter_map(|at| tags.get(*at).copied()).collect();
        let keys = tags.iter().map(|tag| key(tag, channels::REAPED, "")).collect();
        (tags.first().copied().unwrap_or_default(), keys)
    };
    partitions.chunks(at_once).map(names).collect()
}

/// Gives a lease to incarnations that entered rooms and have none: where the leases were lost, whoever is gone would
/// stay in its rooms for ever. Answers with whether it is done everywhere; else it is done another time.
pub(crate) async fn adopt<T>(shared: &Shared<T>, client: &Client) -> bool {
    let everywhere: Vec<_> = (0..PARTITIONS).collect();
    let calls = memories(shared, &everywhere).into_iter().map(|(_, memory)| {
        let client = hurried(client, None);
        async move { client.fcall::<Vec<String>, _, _, _>(LIVES, memory, Vec::<Value>::new()).await }
    });
    let calls: FuturesUnordered<_> = calls.collect();
    let found: Vec<_> = calls.collect().await;
    let whole = found.iter().all(Result::is_ok);
    let lives: BTreeSet<String> = found.into_iter().flatten().flatten().collect();
    let given = lives.is_empty() || give_leases(shared, client, lives.into_iter()).await;
    whole && given
}

/// Gives a lease to those incarnations that have none. Answers with whether it is done; else a later beat does it.
async fn give_leases<T>(
    shared: &Shared<T>,
    client: &Client,
    lives: impl Iterator<Item = String>,
) -> bool {
    let common = shared.tags.common();
    let memory = vec![key(common, channels::NODES, ""), key(common, channels::REAPED, "")];
    let arguments: Vec<_> = std::iter::once(LEASE_MS.to_string()).chain(lives).collect();
    let adopted: Result<(), Error> = hurried(client, None).fcall(ADOPT, memory, arguments).await;
    adopted.inspect_err(|error| tracing::debug!(%error, "leases are not made yet")).is_ok()
}

/// Answers with whether nothing is left to do.
async fn clear_up_in(
    client: &Client,
    keys: &RelayKeys,
    memory: Vec<String>,
    over: &[String],
) -> bool {
    for _ in 0..ROUNDS_MAX {
        let round = async {
            let key = Bytes::copy_from_slice(&keys.current);
            let mut arguments: Vec<Value> =
                vec![key.into(), Bytes::copy_from_slice(&fresh_epoch()?).into()];
            arguments.extend(over.iter().map(|it| Value::from(it.as_str())));
            hurried(client, None).fcall::<Value, _, _, _>(LEAVE, memory.clone(), arguments).await
        };
        match round.await.map(|answer| answer.as_u64()) {
            Ok(Some(0)) => return true,
            Ok(Some(_)) => {}
            Ok(None) => return false,
            Err(error) => {
                tracing::debug!(%error, "users who left stay for the next beat");
                return false;
            }
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_roster_that_is_none_is_not_believed() {
        let (number, text) = (|it: i64| Value::Integer(it), |it: &str| Value::String(it.into()));
        let sound = [text("0123456789abcdef"), number(3), number(2), number(1), text("ann")];
        let found = page(Value::Array(sound.to_vec())).unwrap();
        assert_eq!((found.version.offset, found.count, found.more), (3, 2, true));
        assert_eq!(found.users, [Box::from("ann")]);
        for (at, bad) in [(0, text("short")), (1, text("x")), (2, Value::Null), (3, text("x"))] {
            let mut parts = sound.to_vec();
            parts[at] = bad;
            assert_eq!(page(Value::Array(parts)), None, "part {at}");
        }
        assert_eq!(page(Value::Null), None);
    }
}
