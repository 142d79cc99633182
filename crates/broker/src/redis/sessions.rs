//! Sessions that outlive their connection, as Redis keeps them: written and taken over by one function call each.

use bytes::Bytes;
use fred::clients::Client;
use fred::error::Error;
use fred::interfaces::FunctionInterface;
use fred::types::Value;
use roomcast_protocol::ids::{NodeId, SessionId};
use roomcast_protocol::position::Position;
use roomcast_protocol::session::{
    AttachSession, AttachedSession, Former, SaveSession, SavedSession, SessionState, Unattached,
    Wish,
};
use tokio::time::Instant;

use super::asking::{Again, ask, no_answer};
use super::channels::{self, key};
use super::functions::{ATTACH, END_SESSIONS, SAVE};
use super::publish::hurried;
use super::shared::Shared;

/// What the name of a user's own room begins with: the room's partition is that of the user's sessions.
const OWN_ROOM: &str = "user-";

/// Writes a record. `None`: there was no answer in time.
pub(crate) async fn save<T>(
    shared: &Shared<T>,
    save: &SaveSession,
    deadline: Instant,
) -> Option<SavedSession> {
    let record = save.record.as_ref().map(|record| {
        let mut bytes = Vec::new();
        shared.options.codec.encode_record(record, &mut bytes);
        Bytes::from(bytes)
    });
    let memory = keys(shared, &save.user, Some(save.session));
    let state = match save.state {
        SessionState::Attached => "A",
        SessionState::Detached => "D",
        SessionState::Ended => "E",
    };
    let secret = |secret: u128| Bytes::copy_from_slice(&secret.to_be_bytes());
    let mut arguments: Vec<Value> = vec![
        (&*save.user).into(),
        save.session.to_string().into(),
        state.into(),
        save.generation.to_string().into(),
        shared.node.to_string().into(),
        secret(save.secret.0).into(),
        save.turn.map_or(Bytes::new(), |turn| secret(turn.0)).into(),
        u8::from(save.confirmed).to_string().into(),
        save.window_ms.min(WINDOW_MS_MAX).to_string().into(),
        save.obeyed.map_or(Bytes::new(), packed).into(),
    ];
    arguments.extend(record.map(Value::from));
    ask(shared, deadline, Again::Always, |client| {
        let (memory, arguments) = (memory.clone(), arguments.clone());
        async move {
            let answer: Value = hurried(&client, None).fcall(SAVE, memory, arguments).await?;
            saved(&answer).ok_or_else(no_answer)
        }
    })
    .await
}

/// Takes a session over.
pub(crate) async fn attach<T>(
    shared: &Shared<T>,
    attach: &AttachSession,
    deadline: Instant,
) -> Result<Box<AttachedSession>, Unattached> {
    // Whoever had the only one once would find none the second time.
    let again = match attach.wish {
        Wish::Token(_) => Again::Always,
        Wish::OnlyDetached => Again::Undone,
    };
    let answer = ask(shared, deadline, again, |client| taken_over(shared, client, attach)).await;
    let taken = answer.ok_or(Unattached::Unavailable)??;
    // What no node wrote says nothing about the rooms that its client believes itself in.
    let record = match &*taken.record {
        [] => Default::default(),
        bytes => shared.options.codec.decode_record(bytes).ok_or(Unattached::Unknown)?,
    };
    let Taken { session, generation, former, .. } = taken;
    Ok(Box::new(AttachedSession { session, generation, record, former }))
}

/// Ends all sessions of a user. Says whether there was an answer in time.
pub(crate) async fn end<T>(
    shared: &Shared<T>,
    (user, order): (&str, Position),
    deadline: Instant,
) -> bool {
    let memory = keys(shared, user, None);
    let ended = ask(shared, deadline, Again::Always, |client| {
        let memory = memory.clone();
        let arguments = vec![Value::from(user), packed(order).into()];
        async move {
            let client = hurried(&client, None);
            let answer: Value = client.fcall(END_SESSIONS, memory, arguments).await?;
            answer.as_u64().ok_or_else(no_answer)
        }
    });
    ended.await.is_some()
}

async fn taken_over<T>(
    shared: &Shared<T>,
    client: Client,
    attach: &AttachSession,
) -> Result<Result<Taken, Unattached>, Error> {
    let token = match &attach.wish {
        Wish::Token(token) => Some(token),
        Wish::OnlyDetached => None,
    };
    let memory = keys(shared, &attach.user, token.map(|token| token.session));
    let brought = token.map_or(0, |token| token.secret.0);
    let alive: Vec<_> = attach.alive.iter().map(NodeId::to_string).collect();
    let arguments: Vec<Value> = vec![
        (&*attach.user).into(),
        token.map_or_else(String::new, |token| token.session.to_string()).into(),
        Bytes::copy_from_slice(&brought.to_be_bytes()).into(),
        Bytes::copy_from_slice(&attach.secret.0.to_be_bytes()).into(),
        shared.node.to_string().into(),
        attach.window_ms.min(WINDOW_MS_MAX).to_string().into(),
        alive.join(" ").into(),
        attach.above.map_or_else(String::new, |above| above.to_string()).into(),
    ];
    let answer: Value = hurried(&client, None).fcall(ATTACH, memory, arguments).await?;
    attached(answer).ok_or_else(no_answer)
}

/// Longer than anybody is away, and with the time of day still counted exactly by Lua. Units: milliseconds.
const WINDOW_MS_MAX: u64 = 1 << 40;

/// A position as functions about orders read it: epoch and offset, 24 bytes.
fn packed(Position { epoch, offset }: Position) -> Bytes {
    Bytes::from([&epoch.0.to_be_bytes()[..], &offset.to_be_bytes()].concat())
}

/// The keys of a user's sessions, and of one of them.
fn keys<T>(shared: &Shared<T>, user: &str, session: Option<SessionId>) -> Vec<String> {
    let tag = shared.tags.of(&format!("{OWN_ROOM}{user}"));
    let one = session.map(|session| key(tag, channels::SESSION, &session.to_string()));
    std::iter::once(key(tag, channels::SESSIONS, user)).chain(one).collect()
}

/// A session as [`ATTACH`] answers it.
#[derive(Debug, PartialEq, Eq)]
struct Taken {
    session: SessionId,
    generation: u64,
    record: Bytes,
    former: Former,
}

fn saved(answer: &Value) -> Option<SavedSession> {
    match answer.as_u64()? {
        0 => Some(SavedSession::Fenced),
        1 => Some(SavedSession::Saved),
        2 => Some(SavedSession::Ended),
        _ => None,
    }
}

fn attached(answer: Value) -> Option<Result<Taken, Unattached>> {
    let mut parts = answer.into_array().into_iter();
    match parts.next()?.as_u64()? {
        0 => {}
        1 => return Some(Err(Unattached::Unknown)),
        2 => return Some(Err(Unattached::Token)),
        3 => return Some(Err(Unattached::NotOne)),
        _ => return None,
    }
    let session = u128::from_str_radix(parts.next()?.as_str()?.as_ref(), 16).ok()?;
    let (generation, record) = (parts.next()?.as_u64()?, parts.next()?.into_bytes()?);
    let (former, node) = (parts.next()?.as_u64()?, parts.next()?);
    let node = || Some(NodeId(u64::from_str_radix(node.as_str()?.as_ref(), 16).ok()?));
    let former = match former {
        0 => Former::Gone,
        1 => Former::Attached(node()?),
        2 => Former::HandedOver(node()?),
        _ => return None,
    };
    Some(Ok(Taken { session: SessionId(session), generation, record, former }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_that_are_none_are_not_believed() {
        let number = |it: i64| Value::Integer(it);
        for answer in [Value::Null, number(3), Value::Array(vec![])] {
            assert_eq!(saved(&answer), None);
        }
        let text = |it: &str| Value::String(it.into());
        let sound = [number(0), text("a"), number(2), text("r"), number(1), text("b")];
        let taken = Taken {
            session: SessionId(10),
            generation: 2,
            record: Bytes::from_static(b"r"),
            former: Former::Attached(NodeId(11)),
        };
        assert_eq!(attached(Value::Array(sound.to_vec())), Some(Ok(taken)));
        for (at, bad) in
            [(0, number(4)), (1, text("x")), (2, text("x")), (4, number(3)), (5, text("x"))]
        {
            let mut parts = sound.to_vec();
            parts[at] = bad;
            assert_eq!(attached(Value::Array(parts)), None, "part {at}");
        }
        assert_eq!(attached(Value::Array(sound[..5].to_vec())), None);
    }
}
