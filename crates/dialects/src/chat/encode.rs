//! Outbounds to frames: responses, errors and pongs; what is told unasked is of [`events`]. Keeps no state.

use std::collections::BTreeSet;

use roomcast_protocol::codes::{Refusal, Refused};
use roomcast_protocol::command::ReplyTo;
use roomcast_protocol::conversation::{Answered, Message};
use roomcast_protocol::frame::FrameSink;
use roomcast_protocol::outbound::Outbound;
use roomcast_protocol::receipts::Mark;

use super::{events, messages};
use crate::native::writer::{Json, Writer};

/// Appends the outbound's frame, if there are words for it.
pub(super) fn outbound(outbound: &Outbound<'_>, sink: &mut FrameSink) {
    match outbound {
        Outbound::Publication(publication) | Outbound::Redelivered(publication) => {
            sink.text(|out| events::event(publication, &mut Json::new(out)));
        }
        Outbound::Conversed { reply, user, answered, unix_ms } => sink.text(|out| {
            Json::new(out).map(|out| response(reply, user, answered, *unix_ms, out));
        }),
        Outbound::Pong { .. } => {
            sink.text(|out| Json::new(out).map(|out| out.text_at("event", "pong")));
        }
        Outbound::Refused { reply, refused, raw } => sink.text(|out| {
            Json::new(out).map(|out| out.map_at("error", |out| error(reply, refused, *raw, out)));
        }),
        Outbound::Welcome { .. }
        | Outbound::Joined { .. }
        | Outbound::Left { .. }
        | Outbound::Rooms { .. }
        | Outbound::Accepted { .. }
        | Outbound::Refreshed { .. }
        | Outbound::TokenExpiring { .. }
        | Outbound::Gap { .. }
        | Outbound::Skip { .. }
        | Outbound::History { .. }
        | Outbound::Lost { .. }
        | Outbound::Presence { .. }
        | Outbound::Roster { .. }
        | Outbound::Marked { .. }
        | Outbound::Receipts(_)
        | Outbound::ReceiptsPage { .. }
        | Outbound::Response { .. }
        | Outbound::Drain { .. }
        | Outbound::Degraded { .. } => {}
    }
}

fn response(reply: &ReplyTo, user: &str, answered: &Answered, unix_ms: u64, out: &mut Json<'_>) {
    out.text_at("type", "response");
    out.number_at("timestamp", unix_ms);
    if let Some(id) = &reply.id {
        out.text_at("id", id);
    }
    match answered {
        Answered::Said { position, id, at_unix_ms } => out.map_at("payload", |out| {
            out.number_at("messageId", position.offset);
            out.number_at("timestamp", *at_unix_ms);
            out.text_at("clientMessageId", id);
        }),
        Answered::Marked { mark, with, offset, id, at_unix_ms, unread } => {
            let at = (*offset > 0).then_some(*at_unix_ms);
            out.map_at("payload", |out| match (mark, at) {
                (Mark::Delivered, None) => {}
                (Mark::Delivered, Some(at)) => {
                    out.number_at("messageId", *offset);
                    out.number_at("timestamp", at);
                }
                (Mark::Read, at) => {
                    out.text_at("chatId", with);
                    out.number_at("messageId", *offset);
                    if let Some(at) = at {
                        out.text_at("clientMessageId", id);
                        out.number_at("timestamp", at);
                    }
                    out.number_at("missed", u64::from(*unread));
                }
            });
        }
        Answered::Messages(list) => out.map_at("payload", |out| {
            out.key("messages");
            out.list(list, |out, one| messages::message(one, user, out));
            out.key("authors");
            out.list(&authors(list), |out, author| out.text(author));
        }),
        Answered::Conversations { one, list } => {
            out.key("payload");
            match list.first() {
                _ if !one => out.list(list, |out, chat| messages::chat(chat, user, *one, out)),
                Some(chat) => messages::chat(chat, user, *one, out),
                None => out.map(|_| {}),
            }
        }
        // The first two are nobody's request.
        Answered::Groups(_) | Answered::Member { .. } | Answered::Done => {}
    }
}

/// Who wrote them, each once.
fn authors(messages: &[Message]) -> Vec<&str> {
    let senders = messages.iter().map(|message| &*message.said.sender);
    senders.collect::<BTreeSet<_>>().into_iter().collect()
}

fn error(reply: &ReplyTo, refused: &Refused, raw: Option<&str>, out: &mut Json<'_>) {
    match (&reply.id, raw) {
        (Some(id), _) => {
            out.text_at("id", id);
            let is_warning = refused.refusal == Refusal::Duplicate;
            out.text_at("type", if is_warning { "warning" } else { "error" });
        }
        (None, Some(raw)) => out.text_at("incomingMessage", raw),
        (None, None) => {}
    }
    out.text_at("exception", &refused.message);
}
