//! What users have got and read of rooms, as Redis keeps it.

use bytes::Bytes;
use fred::clients::Client;
use fred::error::Error;
use fred::interfaces::FunctionInterface;
use fred::types::Value;
use roomcast_protocol::position::{Keep, OFFSET_MAX};
use roomcast_protocol::receipts::{
    MARKS_MAX, Mark, Marked, MarksSet, RECEIPTS_PAGE_MAX, Receipt, ReceiptsPage, SetMarks,
};
use roomcast_protocol::relay::RelayMode;
use roomcast_protocol::room::RoomName;
use tokio::time::Instant;

use super::asking::{Again, ask, no_answer};
use super::functions::{self, MARK, MARKS};
use super::history::{fresh_epoch, kept_bytes, room_keys};
use super::publish::hurried;
use super::shared::Shared;

/// Marks what users have got and read. `None`: there was no answer in time.
pub(crate) async fn set<T>(
    shared: &Shared<T>,
    keep: &Keep,
    set: &SetMarks,
    deadline: Instant,
) -> Option<MarksSet> {
    ask(shared, deadline, Again::Always, |client| step(shared, client, keep, set)).await
}

async fn step<T>(
    shared: &Shared<T>,
    client: Client,
    keep: &Keep,
    set: &SetMarks,
) -> Result<MarksSet, Error> {
    let keys = shared.hearing().keys.clone().ok_or_else(no_answer)?;
    let how = match (shared.options.mode_of)(&set.room) {
        RelayMode::Pattern => "p",
        RelayMode::Exact => "e",
        RelayMode::Sharded => "s",
    };
    let mut arguments = beginning(&set.room, keep)?;
    arguments.extend([
        Bytes::copy_from_slice(&keys.current).into(),
        how.into(),
        Bytes::copy_from_slice(&set.epoch.0.to_be_bytes()).into(),
    ]);
    for change in set.changes.iter().take(MARKS_MAX) {
        let kind = match change.mark {
            Mark::Delivered => b"d",
            Mark::Read => b"r",
        };
        let offset = change.offset.min(OFFSET_MAX).to_be_bytes();
        arguments.push(Bytes::from([&kind[..], &offset].concat()).into());
        arguments.push((&*change.user).into());
    }
    let memory = room_keys(shared, set.room.as_str()).to_vec();
    let answer: Value = hurried(&client, None).fcall(MARK, memory, arguments).await?;
    outcome(answer).ok_or_else(no_answer)
}

/// What is asked of a room's receipts: since when which publication was marked, behind which user, how many at most.
pub(crate) type Question<'a> = (Option<u64>, Option<&'a str>, u32);

/// What users have got and read. `None`: there was no answer in time.
pub(crate) async fn page<T>(
    shared: &Shared<T>,
    room: &RoomName,
    keep: &Keep,
    (of, after, count_max): Question<'_>,
    deadline: Instant,
) -> Option<ReceiptsPage> {
    // Number 0 is none that could be marked, and neither is one that is too high.
    let of = of.map_or(0, |of| if of == 0 { OFFSET_MAX } else { of.min(OFFSET_MAX) });
    ask(shared, deadline, Again::Always, |client| async move {
        let mut arguments = beginning(room, keep)?;
        arguments.extend([
            of.to_string().into(),
            after.map_or_else(|| "-".to_owned(), |user| format!("({user}")).into(),
            count_max.clamp(1, RECEIPTS_PAGE_MAX).to_string().into(),
        ]);
        let memory = room_keys(shared, room.as_str()).to_vec();
        let answer: Value = hurried(&client, None).fcall(MARKS, memory, arguments).await?;
        read(answer).ok_or_else(no_answer)
    })
    .await
}

/// The arguments by which both functions begin.
fn beginning(room: &RoomName, keep: &Keep) -> Result<Vec<Value>, Error> {
    let kept = [&fresh_epoch()?[..], &kept_bytes(keep)].concat();
    Ok(vec![room.as_str().into(), Bytes::from(kept).into()])
}

/// Reads the answer of [`MARK`].
fn outcome(answer: Value) -> Option<MarksSet> {
    let mut parts = answer.into_array().into_iter();
    let what = parts.next()?.as_u64()?;
    if what == 2 {
        return Some(MarksSet::Full);
    }
    let head = functions::position(parts.next()?, &parts.next()?)?;
    if what == 1 {
        return Some(MarksSet::Epoch(head));
    }
    let rest: Vec<_> = parts.collect();
    let pairs = rest.chunks(2).map(|pair| {
        let [offset, at] = pair else { return None };
        Some(Marked { offset: offset.as_u64()?, at_unix_ms: at.as_u64()? })
    });
    Some(MarksSet::Done { head, marked: pairs.collect::<Option<_>>()? })
}

/// Reads the answer of [`MARKS`].
fn read(answer: Value) -> Option<ReceiptsPage> {
    let mut parts = answer.into_array().into_iter();
    let head = functions::position(parts.next()?, &parts.next()?)?;
    let version = parts.next()?.as_u64()?;
    let (is_more, next) = (parts.next()?.as_u64()? == 1, parts.next()?);
    let next = if is_more { Some(next.as_str()?.as_ref().into()) } else { None };
    let rest: Vec<_> = parts.collect();
    let receipts = rest.chunks(5).map(|parts| {
        let [user, numbers @ ..] = parts else { return None };
        let [got, got_at, seen, seen_at] = numbers else { return None };
        let marked = |offset: &Value, at: &Value| {
            let marked = Marked { offset: offset.as_u64()?, at_unix_ms: at.as_u64()? };
            Some((marked.offset > 0).then_some(marked))
        };
        let (delivered, read) = (marked(got, got_at)?, marked(seen, seen_at)?);
        Some(Receipt { user: user.as_str()?.as_ref().into(), delivered, read })
    });
    let receipts = receipts.collect::<Option<_>>()?;
    Some(ReceiptsPage { head, version, receipts, next })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(it: i64) -> Value {
        Value::Integer(it)
    }

    fn text(it: &str) -> Value {
        Value::String(it.into())
    }

    #[test]
    fn what_became_of_marks_is_read_and_nothing_else_believed() {
        let sound = [
            number(0),
            text("0123456789abcdef"),
            number(9),
            number(3),
            number(70),
            number(0),
            number(0),
        ];
        let Some(MarksSet::Done { head, marked }) = outcome(Value::Array(sound.to_vec())) else {
            panic!("not done");
        };
        assert_eq!(head.offset, 9);
        assert_eq!(marked, [Marked { offset: 3, at_unix_ms: 70 }, Marked::NOTHING]);
        let elsewhere = Value::Array(vec![number(1), text("0123456789abcdef"), number(9)]);
        assert_eq!(outcome(elsewhere), Some(MarksSet::Epoch(head)));
        assert_eq!(outcome(Value::Array(vec![number(2)])), Some(MarksSet::Full));
        assert_eq!(outcome(Value::Array(sound[..6].to_vec())), None);
        for (at, bad) in [(0, text("x")), (1, text("x")), (2, text("x")), (3, text("x"))] {
            let mut parts = sound.to_vec();
            parts[at] = bad;
            assert_eq!(outcome(Value::Array(parts)), None, "part {at}");
        }
        assert_eq!(outcome(Value::Null), None);
    }

    #[test]
    fn a_page_is_read_and_nothing_else_believed() {
        let mut sound =
            vec![text("0123456789abcdef"), number(9), number(2), number(1), text("ann")];
        sound.extend([text("ann"), number(3), number(70), number(0), number(0)]);
        let page = read(Value::Array(sound.clone())).unwrap();
        assert_eq!((page.head.offset, page.version, page.next.as_deref()), (9, 2, Some("ann")));
        let delivered = Some(Marked { offset: 3, at_unix_ms: 70 });
        assert_eq!(page.receipts, [Receipt { user: "ann".into(), delivered, read: None }]);
        for (at, bad) in
            [(0, text("x")), (1, text("x")), (2, text("x")), (3, text("x")), (6, text("x"))]
        {
            let mut parts = sound.clone();
            parts[at] = bad;
            assert_eq!(read(Value::Array(parts)), None, "part {at}");
        }
        assert_eq!(read(Value::Array(sound[..9].to_vec())), None);
        assert_eq!(read(Value::Null), None);
    }
}
