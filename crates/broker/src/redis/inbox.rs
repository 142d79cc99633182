//! How far devices have acked inboxes, as Redis keeps it.

use bytes::Bytes;
use fred::error::Error;
use fred::interfaces::FunctionInterface;
use fred::types::Value;
use roomcast_protocol::inbox::{ACKED_ABOVE_MAX, Acked, CursorName, InboxState, Told};
use roomcast_protocol::position::{Head, Keep, OFFSET_MAX};
use tokio::time::Instant;

use super::asking::{Again, ask, no_answer};
use super::functions::{self, ACK, INBOX};
use super::history::{fresh_epoch, kept_bytes, room_keys};
use super::publish::hurried;
use super::shared::Shared;

/// What stands for a device in an inbox. `None`: there was no answer in time.
pub(crate) async fn state<T>(
    shared: &Shared<T>,
    cursor: &CursorName,
    keep: &Keep,
    deadline: Instant,
) -> Option<InboxState> {
    ask(shared, deadline, Again::Always, |client| async move {
        let memory = room_keys(shared, cursor.room.as_str()).to_vec();
        let arguments = arguments(cursor, keep)?;
        let answer: Value = hurried(&client, None).fcall(INBOX, memory, arguments).await?;
        read(answer).ok_or_else(no_answer)
    })
    .await
}

/// Moves a cursor. Cursors only grow, so where nobody knows whether it was done it is done again.
pub(crate) async fn ack<T>(
    shared: &Shared<T>,
    cursor: &CursorName,
    keep: &Keep,
    (acked, told): (&Acked, Told),
    deadline: Instant,
) {
    let Acked { watermark, above } = acked;
    let place = [&watermark.epoch.0.to_be_bytes()[..], &watermark.offset.to_be_bytes()].concat();
    let Told { cursor: number, count } = told;
    let told = [number.to_be_bytes(), count.min(OFFSET_MAX).to_be_bytes()].concat();
    let above = above.iter().take(ACKED_ABOVE_MAX).flat_map(|offset| offset.to_be_bytes());
    let above: Bytes = above.collect();
    let moved = ask(shared, deadline, Again::Always, |client| {
        let (place, told) = (Bytes::copy_from_slice(&place), Bytes::copy_from_slice(&told));
        let above = above.clone();
        async move {
            let memory = room_keys(shared, cursor.room.as_str()).to_vec();
            let mut arguments = arguments(cursor, keep)?;
            arguments.extend([place.into(), told.into(), above.into()]);
            hurried(&client, None).fcall::<(), _, _, _>(ACK, memory, arguments).await
        }
    });
    if moved.await.is_none() {
        tracing::debug!(room = %cursor.room, "an ack was not written: it comes again with the next");
    }
}

/// The arguments by which both functions begin.
fn arguments(cursor: &CursorName, keep: &Keep) -> Result<Vec<Value>, Error> {
    let kept = [&fresh_epoch()?[..], &kept_bytes(keep)].concat();
    Ok(vec![cursor.room.as_str().into(), Bytes::from(kept).into(), (&*cursor.device).into()])
}

/// Reads the answer of [`INBOX`].
fn read(answer: Value) -> Option<InboxState> {
    let mut parts = answer.into_array().into_iter();
    let position = functions::position(parts.next()?, &parts.next()?)?;
    let head = Head { position, first: parts.next()?.as_u64()? };
    let watermark = parts.next()?.as_u64().filter(|offset| *offset <= position.offset)?;
    let (lost, count) = (parts.next()?.as_u64()?, parts.next()?.as_u64()?);
    let number = parts.next()?.into_bytes()?;
    let told = Told { cursor: u64::from_be_bytes((&*number).try_into().ok()?), count };
    let above = parts.map(|offset| offset.as_u64()).collect::<Option<_>>()?;
    let acked = Acked { watermark: position.at(watermark), above };
    Some(InboxState { acked, head, lost, told })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_that_is_none_is_not_believed() {
        let (number, text) = (|it: i64| Value::Integer(it), |it: &str| Value::String(it.into()));
        let sound = [
            text("0123456789abcdef"),
            number(9),
            number(2),
            number(3),
            number(4),
            number(1),
            Value::Bytes(Bytes::from_static(&[0, 0, 0, 0, 0, 0, 1, 2])),
            number(5),
            number(7),
        ];
        let state = read(Value::Array(sound.to_vec())).unwrap();
        assert_eq!((state.head.position.offset, state.head.first), (9, 2));
        assert_eq!((state.lost, state.told), (4, Told { cursor: 258, count: 1 }));
        assert_eq!(state.untold(), 3);
        assert_eq!((state.acked.watermark.offset, &*state.acked.above), (3, &[5, 7][..]));
        for (at, bad) in [
            (0, text("x")),
            (1, text("x")),
            (2, text("x")),
            (3, number(10)),
            (5, text("x")),
            (6, text("x")),
            (8, text("x")),
        ] {
            let mut parts = sound.to_vec();
            parts[at] = bad;
            assert_eq!(read(Value::Array(parts)), None, "part {at}");
        }
        assert_eq!(read(Value::Array(sound[..6].to_vec())), None);
    }
}
