//! What a client asks of a conversation, by `payloadType`. Owns which fields each request has.

use roomcast_protocol::codes::Refused;
use roomcast_protocol::command::{Command, ReplyTo};
use roomcast_protocol::content::Content;
use roomcast_protocol::conversation::{
    Act, Converse, MESSAGES_DEFAULT, MESSAGES_MAX, MessageRef, Range, Saying,
};
use roomcast_protocol::receipts::Mark;

use super::calls;
use super::members::Members;
use crate::native::fields::{each_element, missing, schema, unknown_type, wrong};

/// What can be asked of one conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verb {
    New,
    Edit,
    Delete,
    Delivered,
    Read,
    Messages,
    Chat,
    NewCall,
    CloseCall,
}

/// What is told where something else is asked.
const KINDS: &str = "payloadType is `new`, `edit`, `delete`, `dlvrd`, `read`, `messages`, `chat`, `chats`, `newCall` or \
    `closeCall`";

impl Verb {
    fn named(name: &str) -> Option<Self> {
        Some(match name {
            "new" => Self::New,
            "edit" => Self::Edit,
            "delete" => Self::Delete,
            "dlvrd" => Self::Delivered,
            "read" => Self::Read,
            "messages" => Self::Messages,
            "chat" => Self::Chat,
            "newCall" => Self::NewCall,
            "closeCall" => Self::CloseCall,
            _ => return None,
        })
    }
}

/// Reads a request. Fills `reply` as it learns the conversation, so that a refusal finds its question too.
pub(super) fn command(
    kind: &str,
    packet: &Members<'_>,
    reply: &mut ReplyTo,
) -> Result<Command, Refused> {
    let payload = packet.payload()?;
    if kind == "chats" {
        return Ok(Command::Conversations(reply.clone()));
    }
    let verb = Verb::named(kind).ok_or_else(|| unknown_type(KINDS))?;
    let payload = payload.ok_or_else(|| missing("payload", "an object"))?;
    let with = chat(&payload, reply)?;
    let act = match verb {
        Verb::New => Act::Say(new(&payload)?),
        Verb::Edit => edit(&payload)?,
        Verb::Delete => delete(&payload)?,
        Verb::Delivered => Act::Mark { mark: Mark::Delivered, up_to: payload.offset("messageId")? },
        Verb::Read => Act::Mark { mark: Mark::Read, up_to: payload.offset("messageId")? },
        Verb::Messages => messages(&payload)?,
        Verb::Chat => Act::Show,
        Verb::NewCall => calls::begins(&payload)?,
        Verb::CloseCall => calls::ends(&payload)?,
    };
    Ok(Command::Converse(Box::new(Converse { reply: reply.clone(), with, act })))
}

/// With whom: another user, or oneself.
pub(super) fn chat(payload: &Members<'_>, reply: &mut ReplyTo) -> Result<Box<str>, Refused> {
    let with = payload.needs_name("chatId", "the id of the user with whom you talk")?;
    reply.room = Some(with.clone());
    Ok(with)
}

fn new(payload: &Members<'_>) -> Result<Saying, Refused> {
    let id = payload.name("clientMessageId")?;
    check_message(payload, "forwarded")?;
    payload.offset("replyTo")?;
    let names = ["message", "attachments", "replyTo", "forwarded"];
    let content = payload.object(&names.map(|name| (name, name)));
    Ok(Saying { kind: "new".into(), id, content })
}

fn edit(payload: &Members<'_>) -> Result<Act, Refused> {
    let of = original(payload, "originalClientMessageId")?;
    check_message(payload, "attachments")?;
    let content = payload.object(&["message", "attachments"].map(|name| (name, name)));
    let id = payload.name("clientMessageId")?;
    Ok(Act::Amend { of, erases: false, saying: Saying { kind: "edit".into(), id, content } })
}

fn delete(payload: &Members<'_>) -> Result<Act, Refused> {
    let of = original(payload, "clientMessageId")?;
    let saying = Saying { kind: "delete".into(), id: None, content: Content::Json("null".into()) };
    Ok(Act::Amend { of, erases: true, saying })
}

/// Which message: its number counts, where both are given. `other` is one more name of the id that its sender gave it.
fn original(payload: &Members<'_>, other: &str) -> Result<MessageRef, Refused> {
    let offsets = [payload.offset("originalMessageId")?, payload.offset("messageId")?];
    let ids = [payload.name("originalClientMessageId")?, payload.name(other)?];
    let offset = offsets.into_iter().flatten().next().map(MessageRef::Offset);
    let of = offset.or(ids.into_iter().flatten().next().map(MessageRef::Id));
    of.ok_or_else(|| missing("originalMessageId", "the messageId of the message that is meant"))
}

/// A message has a text, or attachments, or `instead`.
fn check_message(payload: &Members<'_>, instead: &str) -> Result<(), Refused> {
    let message = payload.text("message")?;
    if let Some(attachments) = payload.value("attachments") {
        let mut sound = true;
        let is_array = each_element(attachments, |one| sound &= one.starts_with('{'));
        if !is_array || !sound {
            return Err(wrong("attachments", "an array of objects"));
        }
    } else if message.is_none() && payload.value(instead).is_none() {
        return Err(missing("message", "a string, or attachments"));
    }
    Ok(())
}

fn messages(payload: &Members<'_>) -> Result<Act, Refused> {
    let range = match (payload.offset("startId")?, payload.offset("endId")?) {
        (None, None) => Range::Newest,
        (Some(start), None) => Range::From(start),
        (None, Some(end)) => Range::UpTo(end),
        (Some(_), Some(_)) => return Err(schema("startId and endId exclude each other: give one")),
    };
    let count_max = match payload.value("count") {
        None => MESSAGES_DEFAULT,
        Some(raw) => {
            raw.parse().ok().filter(|count| (1..=MESSAGES_MAX).contains(count)).ok_or_else(
                || wrong("count", &format!("a whole number from 1 to {MESSAGES_MAX}")),
            )?
        }
    };
    Ok(Act::Messages { range, count_max })
}

/// What somebody does at the moment: typing, or no more.
pub(super) fn typing(payload: &Members<'_>) -> Result<Act, Refused> {
    match payload.value("stop") {
        None | Some("true" | "false") => {}
        Some(_) => return Err(wrong("stop", "true or false")),
    }
    let content = payload.object(&[("stop", "stop")]);
    Ok(Act::Signal(Saying { kind: "typing".into(), id: None, content }))
}
