//! Directories, as Redis keeps them.

use fred::interfaces::FunctionInterface;
use fred::types::Value;
use roomcast_protocol::directory::{
    DirectoryPage, ENTRIES_MAX, ENTRIES_PAGE_MAX, Entries, EntrySet, SetEntry,
};
use roomcast_protocol::position::OFFSET_MAX;
use roomcast_protocol::room::RoomName;
use tokio::time::Instant;

use super::asking::{Again, ask, no_answer};
use super::channels::{self, key};
use super::functions::{ENTRIES, ENTRY, REMOVE};
use super::publish::hurried;
use super::shared::Shared;

/// Sets an entry, or removes it. `None`: there was no answer in time, or the entry is beyond a bound.
pub(crate) async fn set<T>(
    shared: &Shared<T>,
    set: &SetEntry,
    deadline: Instant,
) -> Option<EntrySet> {
    if !set.is_sound() {
        return None;
    }
    ask(shared, deadline, Again::Always, |client| async move {
        let idle_ms = set.idle_ms.map_or(0, |idle_ms| idle_ms.clamp(1, OFFSET_MAX));
        let name = Value::from(&*set.name);
        let (function, arguments) = match &set.value {
            Some(value) => {
                let most = set.entries_max.min(ENTRIES_MAX).to_string();
                let idle = idle_ms.to_string();
                (ENTRY, vec![name, "1".into(), value.clone().into(), most.into(), idle.into()])
            }
            None => (REMOVE, vec![name]),
        };
        let memory = keys_of(shared, &set.directory);
        let answer: Value = hurried(&client, None).fcall(function, memory, arguments).await?;
        outcome(answer).ok_or_else(no_answer)
    })
    .await
}

/// Entries of a directory. `None`: there was no answer in time.
pub(crate) async fn page<T>(
    shared: &Shared<T>,
    directory: &RoomName,
    entries: &Entries,
    deadline: Instant,
) -> Option<DirectoryPage> {
    ask(shared, deadline, Again::Always, |client| async move {
        let arguments: Vec<Value> = match entries {
            Entries::One(name) => vec!["".into(), (&**name).into()],
            Entries::Behind { after, count_max } => vec![
                after.as_ref().map_or_else(|| "-".to_owned(), |name| format!("({name}")).into(),
                count_max.clamp(&1, &ENTRIES_PAGE_MAX).to_string().into(),
            ],
        };
        let memory = keys_of(shared, directory);
        let answer: Value = hurried(&client, None).fcall(ENTRIES, memory, arguments).await?;
        read(answer).ok_or_else(no_answer)
    })
    .await
}

/// The keys of a directory, as both functions take them.
fn keys_of<T>(shared: &Shared<T>, directory: &RoomName) -> Vec<String> {
    let name = directory.as_str();
    let tag = shared.tags.of(name);
    [channels::ENTRIES, channels::ENTRY_NAMES].map(|kind| key(tag, kind, name)).to_vec()
}

/// Reads the answer of [`ENTRY`] and [`REMOVE`].
fn outcome(answer: Value) -> Option<EntrySet> {
    let mut parts = answer.into_array().into_iter();
    match parts.next()?.as_u64()? {
        0 => {
            let entries = count(&parts.next()?)?;
            let (was_there, value) = (parts.next()?.as_u64()? == 1, parts.next()?.into_bytes()?);
            Some(EntrySet::Done { before: was_there.then_some(value), entries })
        }
        1 => Some(EntrySet::Full),
        _ => None,
    }
}

/// Reads the answer of [`ENTRIES`].
fn read(answer: Value) -> Option<DirectoryPage> {
    let mut parts = answer.into_array().into_iter();
    let (total, is_more) = (count(&parts.next()?)?, parts.next()?.as_u64()? == 1);
    let mut entries: Vec<(Box<str>, _)> = Vec::with_capacity(parts.len() / 2);
    while let Some(name) = parts.next() {
        entries.push((name.as_str()?.as_ref().into(), parts.next()?.into_bytes()?));
    }
    let next = entries.last().filter(|_| is_more).map(|(name, _)| name.clone());
    Some(DirectoryPage { entries, total, next })
}

fn count(value: &Value) -> Option<u32> {
    u32::try_from(value.as_u64()?).ok()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn text(it: &str) -> Value {
        Value::String(it.into())
    }

    /// An answer with another part in one place.
    fn spoiled(sound: &[Value], at: usize, bad: Value) -> Value {
        let mut parts = sound.to_vec();
        parts[at] = bad;
        Value::Array(parts)
    }

    #[test]
    fn what_became_of_an_entry_is_read_and_nothing_else_believed() {
        let sound = [Value::Integer(0), Value::Integer(7), Value::Integer(1), text("v")];
        let done = |before: Option<&'static str>| {
            Some(EntrySet::Done { before: before.map(Bytes::from), entries: 7 })
        };
        assert_eq!(outcome(Value::Array(sound.to_vec())), done(Some("v")));
        assert_eq!(outcome(spoiled(&sound, 3, text(""))), done(Some("")));
        assert_eq!(outcome(spoiled(&sound, 2, Value::Integer(0))), done(None));
        assert_eq!(outcome(Value::Array(vec![Value::Integer(1)])), Some(EntrySet::Full));
        for at in 0..3 {
            assert_eq!(outcome(spoiled(&sound, at, text("x"))), None, "part {at}");
        }
        assert_eq!(outcome(spoiled(&sound, 0, Value::Integer(2))), None);
        assert_eq!(outcome(Value::Array(sound[..3].to_vec())), None);
        assert_eq!(outcome(Value::Null), None);
    }

    #[test]
    fn a_page_is_read_and_nothing_else_believed() {
        let sound = [Value::Integer(9), Value::Integer(1), text("ann"), text("v")];
        let page = read(Value::Array(sound.to_vec())).unwrap();
        assert_eq!(page.entries, [("ann".into(), Bytes::from("v"))]);
        assert_eq!((page.total, page.next.as_deref()), (9, Some("ann")));
        let whole = read(spoiled(&sound, 1, Value::Integer(0))).unwrap();
        assert_eq!(whole.next, None);
        for at in 0..2 {
            assert_eq!(read(spoiled(&sound, at, text("x"))), None, "part {at}");
        }
        let odd = Value::Bytes(Bytes::from_static(&[0xff]));
        assert_eq!(read(spoiled(&sound, 2, odd)), None, "no name");
        assert_eq!(read(Value::Array(sound[..3].to_vec())), None);
        assert_eq!(read(Value::Null), None);
    }
}
