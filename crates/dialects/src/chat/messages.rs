//! Messages and chats as one of their people sees them, in answers. Owns how edits, deletions and marks show in a message.

use std::collections::BTreeMap;

use roomcast_protocol::conversation::{Conversation, Message, Role};
use roomcast_protocol::receipts::Mark;

use super::events::{as_json, call, each_said, is_call, said_at};
use crate::native::writer::{Json, Writer};

/// Members of a message that are the node's: where what was said has them too, those count that the node knows.
const OWN: [&str; 9] = [
    "messageId",
    "sender",
    "clientMessageId",
    "type",
    "payload",
    "timestamp",
    "status",
    "edited",
    "deletedAt",
];

/// Writes a message with what became of it.
pub(super) fn message(message: &Message, viewer: &str, out: &mut Json<'_>) {
    let said = &*message.said;
    let json = as_json(&said.content);
    out.map(|out| {
        if let Some(position) = said.position {
            out.number_at("messageId", position.offset);
        }
        out.text_at("sender", &said.sender);
        out.text_at("clientMessageId", &said.id);
        out.text_at("type", &said.kind);
        match message.erased_unix_ms {
            Some(_) => blanked(&json, out),
            None if is_call(&said.kind) => {
                out.map_at("payload", |out| call(&json, viewer, &[], out));
            }
            None => text(message, &json, out),
        }
        out.number_at("timestamp", said_at(said));
        out.text_at(
            "status",
            match (message.erased_unix_ms, message.mark) {
                (Some(_), _) => "deleted",
                (None, Some(Mark::Read)) => "read",
                (None, Some(Mark::Delivered)) => "unread",
                (None, None) => "undelivered",
            },
        );
        if let Some(at_unix_ms) = message.erased_unix_ms {
            out.number_at("deletedAt", at_unix_ms);
        }
    });
}

/// What is left of a message that was taken back: that it answered another one.
fn blanked(json: &str, out: &mut Json<'_>) {
    out.text_at("message", "");
    out.key("attachments");
    out.json(b"[]");
    each_said(json, |name, value| {
        if name == "replyTo" {
            out.member(name, value);
        }
    });
}

/// What was said, with what its last edit has in its place.
fn text(message: &Message, said: &str, out: &mut Json<'_>) {
    let edited = message.edited.as_ref().map(|edit| as_json(&edit.content));
    let mut edits = BTreeMap::<Box<str>, &str>::new();
    if let Some(edited) = &edited {
        each_said(edited, |name, value| {
            edits.insert(name.into(), value);
        });
    }
    each_said(said, |name, value| {
        if !OWN.contains(&name) && !edits.contains_key(name) {
            out.member(name, value);
        }
    });
    for (name, value) in edits {
        if !OWN.contains(&&*name) {
            out.member(&name, value);
        }
    }
    if edited.is_some() {
        out.key("edited");
        out.boolean(true);
    }
}

/// Writes a conversation; `one`: it was asked for by its name.
pub(super) fn chat(chat: &Conversation, viewer: &str, one: bool, out: &mut Json<'_>) {
    out.map(|out| {
        out.text_at("chatId", &chat.with);
        out.text_at(
            "type",
            match chat.group {
                true => "group",
                false if *chat.with == *viewer => "favorites",
                false => "dialog",
            },
        );
        out.key("participants");
        out.texts(&chat.people);
        if chat.group && one {
            out.map_at("roles", |out| {
                for user in &chat.people {
                    let role = if chat.owners.contains(user) { Role::Owner } else { Role::Member };
                    out.member(user, &format!("\"{}\"", role.name()));
                }
            });
        }
        if let Some(last) = &chat.last {
            out.key("lastMessage");
            message(last, viewer, out);
        }
        out.number_at("missed", u64::from(chat.unread));
        if let Some(first) = chat.first_unread {
            out.number_at("firstMissed", first);
        }
        if let Some(online) = chat.online {
            out.key("online");
            out.boolean(online);
        }
        if let Some(at_unix_ms) = chat.seen_unix_ms {
            out.number_at("lastSeen", at_unix_ms);
        }
    });
}
