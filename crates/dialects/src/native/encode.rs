//! Outbounds to frames. Keeps no state, so that one encoding of a publication serves every member.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use roomcast_protocol::codes::{Refusal, Refused};
use roomcast_protocol::command::ReplyTo;
use roomcast_protocol::content::Content;
use roomcast_protocol::conversation::Origin;
use roomcast_protocol::dialect::Encoding;
use roomcast_protocol::envelope::Accepted;
use roomcast_protocol::frame::FrameSink;
use roomcast_protocol::guard::Principal;
use roomcast_protocol::ids::SessionId;
use roomcast_protocol::outbound::{Entry, Loss, Outbound, ResumeOffer, SkipReasons};
use roomcast_protocol::position::{Direction, Kept, Page, Position};
use roomcast_protocol::presence::{PresenceDiff, PresenceMode, RosterPage};
use roomcast_protocol::publication::Publication;
use roomcast_protocol::session::Unattached;
use roomcast_protocol::time::iso8601;

use super::DEFLATE_OVER_BYTES;
use super::inflate::deflate;
use super::receipts;
use super::requests;
use super::writer::{Json, Pack, Writer};

/// Room for the envelope around a payload, so that most publications are written without growing. Units: bytes.
const ENVELOPE_BYTES: usize = 320;

/// Appends the outbound's frame.
pub(super) fn outbound(outbound: &Outbound<'_>, encoding: Encoding, sink: &mut FrameSink) {
    let large = match outbound {
        Outbound::Publication(publication) => deflated(publication, encoding),
        // Its clients name one room at a time, and ask nothing of conversations.
        Outbound::Rooms { .. } | Outbound::Conversed { .. } => return,
        Outbound::Redelivered(_)
        | Outbound::Lost { .. }
        | Outbound::Presence { .. }
        | Outbound::Roster { .. }
        | Outbound::Marked { .. }
        | Outbound::Receipts(_)
        | Outbound::ReceiptsPage { .. }
        | Outbound::Response { .. }
        | Outbound::Drain { .. } => None,
        Outbound::Welcome { .. }
        | Outbound::Pong { .. }
        | Outbound::Joined { .. }
        | Outbound::Left { .. }
        | Outbound::Accepted { .. }
        | Outbound::Refused { .. }
        | Outbound::Refreshed { .. }
        | Outbound::TokenExpiring { .. }
        | Outbound::Gap { .. }
        | Outbound::Skip { .. }
        | Outbound::History { .. }
        | Outbound::Degraded { .. } => None,
    };
    match (encoding, large) {
        (Encoding::Json | Encoding::JsonDeflated, None) => {
            sink.text(|out| message(outbound, &mut Json::new(out)));
        }
        (Encoding::MessagePack | Encoding::MessagePackDeflated, None) => {
            sink.binary(|out| message(outbound, &mut Pack::new(out)));
        }
        (Encoding::Json | Encoding::JsonDeflated, Some(Large::Plain(json))) => {
            sink.text(|out| out.extend_from_slice(&json));
        }
        (Encoding::Json | Encoding::JsonDeflated, Some(Large::Deflated(bytes))) => {
            // As pako 1.x gives it: one character per byte.
            let characters: String = bytes.into_iter().map(char::from).collect();
            sink.text(|out| compressed(&mut Json::new(out), |out| out.text(&characters)));
        }
        (Encoding::MessagePack | Encoding::MessagePackDeflated, Some(Large::Plain(json))) => {
            sink.binary(|out| Pack::new(out).json(&json));
        }
        (Encoding::MessagePack | Encoding::MessagePackDeflated, Some(Large::Deflated(bytes))) => {
            sink.binary(|out| compressed(&mut Pack::new(out), |out| out.binary(&bytes)));
        }
    }
}

/// What became of a publication for a client that can inflate.
enum Large {
    /// Small, or not smaller when deflated: its JSON text.
    Plain(Vec<u8>),
    /// The zlib stream of its JSON text.
    Deflated(Vec<u8>),
}

fn deflated(publication: &Publication, encoding: Encoding) -> Option<Large> {
    match encoding {
        Encoding::Json | Encoding::MessagePack => return None,
        Encoding::JsonDeflated | Encoding::MessagePackDeflated => {}
    }
    let mut json = Vec::new();
    envelope(publication, false, &mut Json::new(&mut json));
    if json.len() > DEFLATE_OVER_BYTES
        && let Ok(bytes) = deflate(&json)
        && bytes.len() < json.len()
    {
        return Some(Large::Deflated(bytes));
    }
    Some(Large::Plain(json))
}

fn compressed<W: Writer>(out: &mut W, data: impl FnOnce(&mut W)) {
    out.map(|out| {
        out.text_at("type", "compressed");
        out.key("data");
        data(out);
    });
}

fn message(outbound: &Outbound<'_>, out: &mut impl Writer) {
    match outbound {
        Outbound::Welcome { who, session, resume, resumed } => {
            welcome(out, who, *session, *resume, *resumed);
        }
        Outbound::Pong { timestamp, unix_ms } => out.map(|out| {
            out.text_at("type", "pong");
            out.key("timestamp");
            match timestamp {
                Some(timestamp) => out.json(timestamp),
                None => out.number(*unix_ms),
            }
        }),
        Outbound::Joined { reply, room, entry } => joined(out, reply, room, *entry),
        Outbound::Left { reply, room, ordered } => answer(out, "unsubscribed", reply, |out| {
            out.text_at("room", room);
            if *ordered {
                out.text_at("reason", "ordered");
            }
        }),
        Outbound::Rooms { .. } | Outbound::Conversed { .. } => {}
        Outbound::Accepted { id, accepted } => ack(out, id, *accepted),
        Outbound::Refused { reply, refused, .. } => refusal(out, reply, refused),
        Outbound::Refreshed { reply, expires_unix_ms } => answer(out, "refresh", reply, |out| {
            out.text_at("expires_at", &iso8601(*expires_unix_ms));
        }),
        Outbound::TokenExpiring { expires_unix_ms } => notice(out, "token_expiring", |out| {
            out.text_at("expires_at", &iso8601(*expires_unix_ms));
        }),
        Outbound::Publication(publication) => envelope(publication, false, out),
        Outbound::Redelivered(publication) => envelope(publication, true, out),
        Outbound::Lost { room, count } => notice(out, "lost", |out| {
            out.text_at("room", room);
            out.key("count");
            out.number(*count);
        }),
        Outbound::Presence { diff, mode } => presence(out, diff, *mode),
        Outbound::Roster { reply, room, page, mode } => roster(out, reply, (room, *mode), page),
        Outbound::Marked { reply, room, epoch, receipt } => {
            receipts::marked(out, reply, (room, *epoch), receipt);
        }
        Outbound::Receipts(diff) => receipts::told(out, diff),
        Outbound::ReceiptsPage { reply, room, page } => receipts::page(out, reply, room, page),
        Outbound::Response { reply, response } => requests::response(out, reply, response),
        Outbound::Drain { turn_ms, token } => notice(out, "drain", |out| {
            out.key("turn_ms");
            out.number(*turn_ms);
            out.text_at("resume_token", &token.to_string());
            out.text_at("reason", "drain");
        }),
        Outbound::Gap { room, loss } => gap(out, *room, *loss),
        Outbound::Skip { room, epoch, to, count, reasons } => {
            skip(out, room, Position { epoch: *epoch, offset: *to }, *count, *reasons);
        }
        Outbound::History { reply, room, direction, page, next } => {
            history(out, reply, (room, *direction), page, *next);
        }
        Outbound::Degraded { isolated } => notice(out, "degraded", |out| {
            out.key("isolated");
            out.boolean(*isolated);
        }),
    }
}

fn welcome(
    out: &mut impl Writer,
    who: &Principal,
    session: SessionId,
    resume: Option<ResumeOffer>,
    resumed: Option<Result<(), Unattached>>,
) {
    out.map(|out| {
        out.text_at("type", "welcome");
        out.text_at("user_id", &who.id);
        out.key("permissions");
        let permissions: Vec<&str> = who.permissions.iter().collect();
        out.list(&permissions, |out, permission| out.text(permission));
        out.text_at("session_id", &session.to_string());
        if let Some(offer) = resume {
            out.text_at("resume_token", &offer.token.to_string());
            out.key("resume_window_s");
            out.number(offer.window_ms / 1_000);
        }
        if let Some(resumed) = resumed {
            out.key("resumed");
            out.boolean(resumed.is_ok());
            if let Err(why) = resumed {
                out.text_at("reason", why.name());
            }
        }
    });
}

/// Of a room, with the position behind which it goes on; or of all that keep nothing.
fn gap(out: &mut impl Writer, room: Option<(&str, Position)>, loss: Loss) {
    out.map(|out| {
        out.text_at("type", "gap");
        out.map_at("data", |out| {
            if let Some((room, _)) = room {
                out.text_at("room", room);
            }
            out.text_at("reason", loss.name());
        });
        if let Some((_, at)) = room {
            out.map_at("metadata", |out| position(out, at));
        }
    });
}

/// Of `count` offsets up to `to`.
fn skip(out: &mut impl Writer, room: &str, to: Position, count: u64, reasons: SkipReasons) {
    out.map(|out| {
        out.text_at("type", "skip");
        out.map_at("data", |out| {
            out.text_at("room", room);
            out.key("to");
            out.number(to.offset);
            out.key("count");
            out.number(count);
            out.key("reasons");
            let reasons: Vec<_> = reasons.iter().collect();
            out.list(&reasons, |out, reason| out.text(reason.name()));
        });
        out.map_at("metadata", |out| out.text_at("epoch", &to.epoch.to_string()));
    });
}

fn notice<W: Writer>(out: &mut W, kind: &str, data: impl FnOnce(&mut W)) {
    out.map(|out| {
        out.text_at("type", kind);
        out.map_at("data", data);
    });
}

pub(super) fn answer<W: Writer>(
    out: &mut W,
    kind: &str,
    reply: &ReplyTo,
    data: impl FnOnce(&mut W),
) {
    answer_at(out, (kind, None), reply, data);
}

/// The same, with a position.
fn answer_at<W: Writer>(
    out: &mut W,
    (kind, at): (&str, Option<Position>),
    reply: &ReplyTo,
    data: impl FnOnce(&mut W),
) {
    out.map(|out| {
        out.text_at("type", kind);
        out.map_at("data", data);
        out.map_at("metadata", |out| {
            if let Some(id) = &reply.id {
                out.text_at("correlation_id", id);
            }
            if let Some(at) = at {
                position(out, at);
            }
        });
    });
}

pub(crate) fn position(out: &mut impl Writer, Position { epoch, offset }: Position) {
    out.text_at("epoch", &epoch.to_string());
    out.key("offset");
    out.number(offset);
}

fn joined(out: &mut impl Writer, reply: &ReplyTo, room: &str, entry: Entry) {
    answer_at(out, ("subscribed", entry.position), reply, |out| {
        out.text_at("room", room);
        if let Some(recovered) = entry.recovered {
            out.key("recovered");
            out.boolean(recovered.is_ok());
            if let Err(why) = recovered {
                out.text_at("reason", why.name());
            }
        }
        if !entry.live {
            out.key("live");
            out.boolean(false);
        }
    });
}

/// In the direction that was asked for; what could not be read is left out.
fn history(
    out: &mut impl Writer,
    reply: &ReplyTo,
    (room, direction): (&str, Direction),
    page: &Page,
    next: Option<u64>,
) {
    let readable = |kept: &Kept| match kept {
        Kept::Publication(publication) => Some(Arc::clone(publication)),
        Kept::Unreadable(_) | Kept::Removed(_) => None,
    };
    let mut publications: Vec<_> = page.entries.iter().filter_map(readable).collect();
    if direction == Direction::Backward {
        publications.reverse();
    }
    answer_at(out, ("history", Some(page.head.position)), reply, |out| {
        out.text_at("room", room);
        out.key("publications");
        out.list(&publications, |out, publication| envelope(publication, false, out));
        if let Some(next) = next {
            out.key("next");
            out.number(next);
        }
    });
}

/// Who came and who left; where only their number is told, that alone.
fn presence(out: &mut impl Writer, diff: &PresenceDiff, mode: PresenceMode) {
    out.map(|out| {
        out.text_at("type", "presence");
        out.map_at("data", |out| {
            out.text_at("room", diff.room.as_str());
            out.key("count");
            out.number(diff.count);
            if mode == PresenceMode::Members {
                out.key("joined");
                out.texts(&diff.joined);
                out.key("left");
                out.texts(&diff.left);
            }
        });
        out.map_at("metadata", |out| position(out, diff.version));
    });
}

/// The answer to a `presence` request.
fn roster(
    out: &mut impl Writer,
    reply: &ReplyTo,
    (room, mode): (&str, PresenceMode),
    page: &RosterPage,
) {
    answer_at(out, ("presence", Some(page.version)), reply, |out| {
        out.text_at("room", room);
        out.key("count");
        out.number(page.count);
        if mode == PresenceMode::Members {
            out.key("users");
            out.texts(&page.users);
            if let Some(last) = page.users.last().filter(|_| page.more) {
                out.text_at("next", last);
            }
        }
    });
}

fn ack(out: &mut impl Writer, id: &str, accepted: Accepted) {
    out.map(|out| {
        out.text_at("type", "ack");
        out.text_at("ackId", id);
        out.map_at("data", |out| {
            out.text_at("level", accepted.level.name());
            if accepted.partial {
                out.text_at("reach", "partial");
            }
            if accepted.dedup_short {
                out.text_at("dedup", "short");
            }
        });
        out.map_at("metadata", |out| {
            if let Some(at) = accepted.position {
                position(out, at);
            }
        });
    });
}

fn refusal(out: &mut impl Writer, reply: &ReplyTo, refused: &Refused) {
    let row = refused.refusal.row();
    // The seed's text, whatever the reason: it must not tell whether the room exists.
    let message = match refused.refusal {
        Refusal::PermissionDenied => row.text,
        Refusal::BadJson
        | Refusal::UnknownType
        | Refusal::Schema
        | Refusal::TooLarge
        | Refusal::BadName
        | Refusal::RateLimit
        | Refusal::Limit
        | Refusal::Duplicate
        | Refusal::Unavailable
        | Refusal::UpstreamFailed
        | Refusal::BreakerOpen
        | Refusal::StorageFull => &refused.message,
    };
    answer(out, "error", reply, |out| {
        out.key("code");
        out.number(row.code.into());
        out.text_at("name", row.name);
        out.text_at("message", message);
        out.key("retry");
        out.boolean(row.retry);
        if let Some(retry_after_ms) = refused.retry_after_ms {
            out.key("retry_after_ms");
            out.number(retry_after_ms);
        }
        if refused.unknown {
            out.text_at("outcome", "unknown");
        }
        if let Some((limit, value)) = refused.limit {
            out.text_at("limit", limit.name());
            out.key("value");
            out.number(value);
        }
        if let Some(room) = &reply.room {
            out.text_at("room", room);
        }
    });
}

/// Writes a publication as members get it.
pub(super) fn envelope(publication: &Publication, redelivered: bool, out: &mut impl Writer) {
    out.reserve(ENVELOPE_BYTES + publication.content.len());
    out.map(|out| {
        out.text_at("id", &publication.id);
        out.text_at("type", &publication.kind);
        out.text_at("timestamp", &publication.timestamp);
        out.text_at("sender", &publication.sender);
        out.text_at("room", publication.room.as_str());
        if publication.isolated {
            out.key("isolated");
            out.boolean(true);
        }
        if publication.requires_ack {
            out.key("requiresAck");
            out.boolean(true);
        }
        if redelivered {
            out.key("redelivered");
            out.boolean(true);
        }
        out.key("data");
        content(&publication.content, out);
        let Publication { correlation_id, priority, ttl_s, origin, position: at, .. } = publication;
        let is_known = correlation_id.is_some() || origin.is_some() || at.is_some();
        if !is_known && priority.is_none() && ttl_s.is_none() {
            return;
        }
        out.map_at("metadata", |out| {
            if let Some(correlation_id) = correlation_id {
                out.text_at("correlation_id", correlation_id);
            }
            if let Some(priority) = priority {
                out.text_at("priority", priority.name());
            }
            if let Some(ttl_s) = ttl_s {
                out.key("ttl");
                out.number((*ttl_s).into());
            }
            if let Some(of) = origin {
                out.map_at("origin", |out| from(of, out));
            }
            if let Some(at) = at {
                position(out, *at);
            }
        });
    });
}

/// Of which publication of a conversation it is a copy.
fn from(origin: &Origin, out: &mut impl Writer) {
    out.text_at("room", origin.room.as_str());
    if let Some(at) = origin.position {
        position(out, at);
    }
    if !origin.id.is_empty() {
        out.text_at("id", &origin.id);
    }
}

/// Writes a payload as members read it.
pub(crate) fn content(content: &Content, out: &mut impl Writer) {
    match content {
        Content::Json(json) => out.json(json),
        Content::Text(text) => out.text(&String::from_utf8_lossy(text)),
        Content::Binary(bytes) => out.map(|out| out.text_at("base64", &STANDARD.encode(bytes))),
    }
}
