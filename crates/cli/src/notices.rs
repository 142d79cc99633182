//! What connections and sessions tell beside publications: as JSON for machines, as lines for people.

use roomcast_client::{Event, Joined, Position, Presence, Receipts, SessionEvent};
use serde_json::{Value, json};

/// Publications are lost.
pub(crate) fn gap(room: Option<&str>, reason: &str, position: Option<&Position>) -> Value {
    let data = match room {
        Some(room) => json!({"room": room, "reason": reason}),
        None => json!({"reason": reason}),
    };
    json!({"type": "gap", "data": data, "metadata": position})
}

/// Offsets were covered without a delivery.
pub(crate) fn skip(room: &str, to: &Position, count: u64, reasons: &[String]) -> Value {
    let data = json!({"room": room, "to": to.offset, "count": count, "reasons": reasons});
    json!({"type": "skip", "data": data, "metadata": {"epoch": to.epoch}})
}

/// Publications that waited for the user were removed.
pub(crate) fn lost(room: &str, count: u64) -> Value {
    json!({"type": "lost", "data": {"room": room, "count": count}})
}

/// Users came or went.
pub(crate) fn presence(Presence { room, count, joined, left, version }: &Presence) -> Value {
    let data = json!({"room": room, "count": count, "joined": joined, "left": left});
    json!({"type": "presence", "data": data, "metadata": version})
}

/// Users have got, or read, more.
pub(crate) fn receipts(Receipts { room, epoch, version, receipts }: &Receipts) -> Value {
    let data = json!({"room": room, "receipts": receipts});
    json!({"type": "receipt", "data": data, "metadata": {"epoch": epoch, "version": version}})
}

/// All rooms are heard again.
pub(crate) fn resumed(session: bool, recovered: bool) -> Value {
    json!({"type": "resumed", "data": {"session": session, "recovered": recovered}})
}

/// Says from where a room is heard, and what of it is missing.
pub(crate) fn tell_of(joined: &Joined) {
    let at = joined.position.as_ref().map(|it| format!("{}:{}", it.epoch, it.offset));
    let position = at.as_deref();
    let room = &joined.room;
    match &joined.recovered {
        Some(Err(reason)) => tracing::warn!(%room, position, reason, "joined, not recovered"),
        Some(Ok(())) | None if !joined.live => {
            tracing::warn!(%room, "joined, but the node's broker is away");
        }
        Some(Ok(())) => tracing::info!(%room, position, "joined and recovered"),
        None => tracing::info!(%room, position, "joined"),
    }
}

/// Logs what one connection tells, where a person may want to know it.
pub(crate) fn log(event: &Event) {
    match event {
        Event::Error(refused) => tracing::warn!(code = refused.code, "{refused}"),
        Event::Gap { room, reason, .. } => tracing::warn!(room, reason, "publications were lost"),
        Event::Lost { room, count } => {
            tracing::warn!(room, count, "unread publications were removed");
        }
        Event::Joined(joined) => tell_of(joined),
        Event::Left { room, reason } => tracing::warn!(room, reason, "the room is heard no more"),
        Event::Degraded { isolated: true } => {
            tracing::warn!("the node is cut off: only what its own clients publish is heard");
        }
        Event::Degraded { isolated: false } => tracing::info!("the node hears the others again"),
        Event::TokenExpiring { expires_at } => tracing::warn!(expires_at, "the token runs out"),
        Event::Other(message) => {
            let kind = message.get("type").and_then(|kind| kind.as_str());
            tracing::debug!(kind, "passed");
        }
        Event::Publication(_)
        | Event::Skip { .. }
        | Event::Presence(_)
        | Event::Receipts(_)
        | Event::Pong
        | Event::Drain(_)
        | Event::Closed(_) => {}
    }
}

/// Says what a session tells, where a person may want to know it.
pub(crate) fn tell(event: &SessionEvent) {
    use crate::output::note;
    match event {
        SessionEvent::Reconnecting { attempt, after, cause } => note(&format!(
            "no connection ({cause}); attempt {attempt} follows in {:.1} s",
            after.as_secs_f64()
        )),
        SessionEvent::Connected(welcome) => match &welcome.resumed {
            None => note("connected"),
            Some(Ok(())) => note("connected again, the session goes on"),
            Some(Err(reason)) => note(&format!(
                "connected again, in a new session: the old one could not be resumed ({reason})"
            )),
        },
        SessionEvent::HandedOver => {
            note("handed over to another connection, because the node is being replaced");
        }
        SessionEvent::Resumed { recovered: true, .. } => note("all rooms are heard again"),
        SessionEvent::Resumed { recovered: false, .. } => {
            note("all rooms are heard again, but publications were missed");
        }
        SessionEvent::MaxReconnectAttemptsReached { attempts } => {
            note(&format!("gave up after {attempts} attempts to connect"));
        }
        SessionEvent::RoomLost { room, refused } => {
            note(&format!("{room} is heard no more: {refused}"));
        }
        SessionEvent::Gap { room: Some(room), reason, .. } => {
            note(&format!("publications of {room} were lost ({reason})"));
        }
        SessionEvent::Gap { room: None, reason, .. } => {
            note(&format!("publications were lost ({reason}) in the rooms that keep no history"))
        }
        SessionEvent::Lost { room, count } => {
            note(&format!("{count} unread publications of {room} were removed"));
        }
        SessionEvent::TakenOut { room, reason } => {
            note(&format!("{room} is heard no more ({reason})"));
        }
        SessionEvent::Degraded { isolated: true } => {
            note("the node is cut off: only what its own clients publish is heard");
        }
        SessionEvent::Degraded { isolated: false } => note("the node hears the others again"),
        SessionEvent::TokenExpiring { expires_at } => {
            note(&format!("the token runs out at {expires_at}"));
        }
        SessionEvent::Error(refused) => note(&refused.to_string()),
        SessionEvent::Joined(joined) => tell_of(joined),
        SessionEvent::Unpublished { id, room, error } => {
            note(&format!("{id} was not published in {room}: {error}"));
        }
        SessionEvent::Publication(_)
        | SessionEvent::Skip { .. }
        | SessionEvent::Presence(_)
        | SessionEvent::Receipts(_)
        | SessionEvent::Other(_)
        | SessionEvent::Closed(_) => {}
    }
}
