//! What a client is told unasked, by the table "one publication, many words". Owns how a publication of any dialect reads
//! as an event; what tells of a conversation reads as the user in whose inbox it stands sees it.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use roomcast_protocol::content::Content;
use roomcast_protocol::conversation::{self, EventRef, Origin};
use roomcast_protocol::lists::List;
use roomcast_protocol::people::Status;
use roomcast_protocol::publication::Publication;
use roomcast_protocol::receipts::Mark;
use roomcast_protocol::time::unix_ms;

use crate::native::fields::{each_element, each_member, text};
use crate::native::writer::{Json, Writer};

/// Room for the event around a payload. Units: bytes.
const ENVELOPE_BYTES: usize = 384;

/// Members of a payload that are the node's: where what was said has them too, those count that the node knows.
const OWN: [&str; 8] = [
    "chatId",
    "sender",
    "messageId",
    "clientMessageId",
    "originalMessageId",
    "originalClientMessageId",
    "timestamp",
    "missed",
];

/// The same of a call, beside [`OWN`].
const OWN_OF_CALL: [&str; 2] = ["direction", "status"];

/// Writes a publication.
pub(super) fn event(publication: &Publication, out: &mut Json<'_>) {
    let Publication { room, kind, content, origin, sender, .. } = publication;
    let viewer = conversation::owner(room);
    out.reserve(ENVELOPE_BYTES + content.len());
    out.map(|out| {
        out.text_at("type", "event");
        out.number_at("timestamp", said_at(publication));
        if let Some(number) = EventRef::of(publication).and_then(EventRef::number) {
            out.number_at("id", number);
        }
        if let Some(status) = Status::of(publication) {
            out.text_at("eventType", kind);
            return out.map_at("payload", |out| {
                out.text_at("userId", status.user);
                if !status.online {
                    out.number_at("lastSeen", status.at_unix_ms);
                }
            });
        }
        if List::of(publication).is_some() {
            out.text_at("eventType", kind);
            out.key("payload");
            return out.json(as_json(content).as_bytes());
        }
        let mark = Mark::ALL.into_iter().find(|mark| mark.name() == &**kind);
        match (origin, mark) {
            (None, _) => {
                out.text_at("eventType", kind);
                out.key("payload");
                plain(room.as_str(), content, out);
            }
            (Some(origin), Some(mark)) => {
                out.text_at(
                    "eventType",
                    match mark {
                        Mark::Delivered => "dlvrd",
                        Mark::Read => "read",
                    },
                );
                out.map_at("payload", |out| {
                    chat_id(origin, viewer, out);
                    if is_in_group(origin) {
                        out.text_at("userId", sender);
                    }
                    place(publication, origin, out);
                    out.number_at("timestamp", origin.at_unix_ms);
                });
            }
            (Some(origin), None) => {
                out.text_at("eventType", kind);
                out.map_at("payload", |out| of_conversation(publication, origin, viewer, out));
            }
        }
    });
}

/// When it was published, else when that of which it tells happened. Units: milliseconds since the Unix epoch.
pub(super) fn said_at(publication: &Publication) -> u64 {
    let origin = publication.origin.as_ref().map(|origin| origin.at_unix_ms);
    unix_ms(&publication.timestamp).or(origin).unwrap_or_default()
}

/// What is no conversation's: the data, with the room where it names none.
fn plain(room: &str, content: &Content, out: &mut Json<'_>) {
    let json = as_json(content);
    let mut has_chat = false;
    let is_object = each_member(&json, |name, _| has_chat |= name == "chatId");
    if is_object && has_chat {
        return out.json(json.as_bytes());
    }
    out.map(|out| {
        out.text_at("chatId", room);
        if !each_member(&json, |name, value| out.member(name, value)) {
            out.member("data", &json);
        }
    });
}

fn of_conversation(
    publication: &Publication,
    origin: &Origin,
    viewer: Option<&str>,
    out: &mut Json<'_>,
) {
    let Publication { kind, content, sender, .. } = publication;
    let json = as_json(content);
    chat_id(origin, viewer, out);
    if &**kind == "typing" {
        if is_in_group(origin) {
            out.text_at("userId", sender);
        }
        return each_said(&json, |name, value| {
            if name != "chatId" {
                out.member(name, value);
            }
        });
    }
    out.text_at("sender", sender);
    place(publication, origin, out);
    if let Some(amends) = &origin.amends {
        out.number_at("originalMessageId", amends.offset);
        if !amends.id.is_empty() {
            out.text_at("originalClientMessageId", &amends.id);
        }
    }
    match viewer.filter(|_| is_call(kind)) {
        // In a group all are told the same, and see by `caller` and `participants` what it is to them.
        Some(viewer) => call(&json, viewer, &OWN, out),
        None => each_said(&json, |name, value| {
            if !OWN.contains(&name) {
                out.member(name, value);
            }
        }),
    }
    out.number_at("timestamp", origin.at_unix_ms);
    if let Some(unread) = origin.unread {
        out.number_at("missed", u64::from(unread));
    }
}

/// With whom the viewer talks; the conversation's own name for who is not one of its people.
fn chat_id(origin: &Origin, viewer: Option<&str>, out: &mut Json<'_>) {
    let with = conversation::named(&origin.room, viewer.unwrap_or_default());
    out.text_at("chatId", with.as_deref().unwrap_or(origin.room.as_str()));
}

/// Whether several people may have done it.
fn is_in_group(origin: &Origin) -> bool {
    conversation::group_of(&origin.room).is_some()
}

/// Which message it is, or is about: in a group's room the publication itself. What is not kept in the conversation is
/// none, and its id nobody's business.
fn place(publication: &Publication, origin: &Origin, out: &mut Json<'_>) {
    let (position, id) = match origin.group {
        Some(_) => (publication.position, &publication.id),
        None => (origin.position, &origin.id),
    };
    let Some(position) = position else { return };
    out.number_at("messageId", position.offset);
    if !id.is_empty() {
        out.text_at("clientMessageId", id);
    }
}

/// Whether it is what a conversation keeps of a call.
pub(super) fn is_call(kind: &str) -> bool {
    kind == conversation::CALL
}

/// What is kept of a call, and how this user sees it; `own` names what the node says better.
pub(super) fn call(json: &str, viewer: &str, own: &[&str], out: &mut Json<'_>) {
    let (mut caller, mut is_in) = (None, false);
    each_said(json, |name, value| match name {
        "caller" => caller = text(value),
        "participants" => {
            each_element(value, |one| is_in |= text(one).as_deref() == Some(viewer));
        }
        _ => {}
    });
    if let Some(caller) = caller {
        out.text_at("direction", if caller == viewer { "outgoing" } else { "incoming" });
    }
    out.text_at("status", if is_in { "received" } else { "missed" });
    each_said(json, |name, value| {
        if !own.contains(&name) && !OWN_OF_CALL.contains(&name) {
            out.member(name, value);
        }
    });
}

/// A payload as JSON text: text as a string, bytes as base64.
pub(super) fn as_json(content: &Content) -> Cow<'_, str> {
    let quoted = |text: &str| {
        let mut quoted = Vec::with_capacity(text.len() + 2);
        Json::new(&mut quoted).text(text);
        Cow::Owned(String::from_utf8_lossy(&quoted).into_owned())
    };
    match content {
        Content::Json(json) => String::from_utf8_lossy(json),
        Content::Text(text) => quoted(&String::from_utf8_lossy(text)),
        Content::Binary(bytes) => quoted(&STANDARD.encode(bytes)),
    }
}

/// Shows what was said: its members; what has none as `data`; nothing of null.
pub(super) fn each_said<'a>(json: &'a str, mut see: impl FnMut(&str, &'a str)) {
    if !each_member(json, &mut see) && json.trim() != "null" {
        see("data", json);
    }
}
