//! Receipts (G17) in both directions: users say how much of a room they have got, or read, ask how far others are, and
//! are told.

use roomcast_protocol::codes::Refused;
use roomcast_protocol::command::{Command, MarkRequest, ReceiptsRequest, ReplyTo, RoomRequest};
use roomcast_protocol::position::{Epoch, OFFSET_MAX, Position};
use roomcast_protocol::receipts::{
    Mark, Marked, RECEIPTS_PAGE_MAX, Receipt, ReceiptDiff, ReceiptsPage,
};
use roomcast_protocol::time::iso8601;

use super::decode::{position, room_request};
use super::fields::{Fields, Key, schema, wrong};
use super::writer::Writer;

/// A mark, or without one the question how far users are.
pub(super) fn command(fields: &Fields<'_>, reply: &mut ReplyTo) -> Result<Command, Refused> {
    let RoomRequest { reply, room, .. } = room_request(fields, reply)?;
    let data = Fields::of(fields.raw(Key::Data));
    let pick = |key| if data.value(key).is_some() { &data } else { fields };
    let place = |key, name| pick(key).value(key).map(|raw| position(raw, name)).transpose();
    let delivered = place(Key::Delivered, "data.delivered")?;
    let read = place(Key::Read, "data.read")?;
    if let Some(epoch) = read.or(delivered).map(|place| place.epoch) {
        if delivered.is_some_and(|delivered| delivered.epoch != epoch) {
            return Err(schema("data.delivered and data.read must be of one epoch"));
        }
        let [delivered, read] = [delivered, read].map(|place| place.map(|place| place.offset));
        return Ok(Command::Mark(MarkRequest { reply, room, epoch, delivered, read }));
    }
    let of = match pick(Key::Of).value(Key::Of).map(str::parse) {
        None => None,
        Some(Ok(offset)) if (1..=OFFSET_MAX).contains(&offset) => Some(offset),
        Some(Ok(_) | Err(_)) => {
            return Err(wrong("data.of", &format!("a whole number from 1 to {OFFSET_MAX}")));
        }
    };
    let after = pick(Key::After).text(Key::After, "data.after")?.map(|user| Box::from(&*user));
    let limit = match pick(Key::Limit).value(Key::Limit).map(str::parse) {
        None => None,
        Some(Ok(limit)) if (1..=RECEIPTS_PAGE_MAX).contains(&limit) => Some(limit),
        Some(Ok(_) | Err(_)) => {
            let must_be = format!("a whole number from 1 to {RECEIPTS_PAGE_MAX}");
            return Err(wrong("data.limit", &must_be));
        }
    };
    Ok(Command::Receipts(ReceiptsRequest { reply, room, of, after, limit }))
}

/// The answer to a mark.
pub(super) fn marked(
    out: &mut impl Writer,
    reply: &ReplyTo,
    (room, epoch): (&str, Epoch),
    receipt: &Receipt,
) {
    out.map(|out| {
        out.text_at("type", "receipt");
        out.map_at("data", |out| {
            out.text_at("room", room);
            members(out, receipt);
        });
        terms(out, Some(reply), epoch, |_| {});
    });
}

/// Users who are further than before.
pub(super) fn told(out: &mut impl Writer, diff: &ReceiptDiff) {
    out.map(|out| {
        out.text_at("type", "receipt");
        out.map_at("data", |out| {
            out.text_at("room", diff.room.as_str());
            list(out, &diff.receipts);
        });
        terms(out, None, diff.epoch, |out| {
            out.key("version");
            out.number(diff.version);
        });
    });
}

/// The answer to the question how far users are.
pub(super) fn page(out: &mut impl Writer, reply: &ReplyTo, room: &str, page: &ReceiptsPage) {
    let Position { epoch, offset } = page.head;
    out.map(|out| {
        out.text_at("type", "receipt");
        out.map_at("data", |out| {
            out.text_at("room", room);
            list(out, &page.receipts);
            if let Some(next) = &page.next {
                out.text_at("next", next);
            }
        });
        terms(out, Some(reply), epoch, |out| {
            out.key("offset");
            out.number(offset);
            out.key("version");
            out.number(page.version);
        });
    });
}

fn terms<W: Writer>(out: &mut W, reply: Option<&ReplyTo>, epoch: Epoch, more: impl FnOnce(&mut W)) {
    out.map_at("metadata", |out| {
        if let Some(id) = reply.and_then(|reply| reply.id.as_deref()) {
            out.text_at("correlation_id", id);
        }
        out.text_at("epoch", &epoch.to_string());
        more(out);
    });
}

fn list(out: &mut impl Writer, receipts: &[Receipt]) {
    out.key("receipts");
    out.list(receipts, |out, receipt| out.map(|out| members(out, receipt)));
}

fn members(out: &mut impl Writer, receipt: &Receipt) {
    out.text_at("user", &receipt.user);
    for mark in Mark::ALL {
        let marked = match mark {
            Mark::Delivered => receipt.delivered,
            Mark::Read => receipt.read,
        };
        let Some(Marked { offset, at_unix_ms }) = marked else { continue };
        out.map_at(mark.name(), |out| {
            out.key("offset");
            out.number(offset);
            if at_unix_ms > 0 {
                out.text_at("at", &iso8601(at_unix_ms));
            }
        });
    }
}
