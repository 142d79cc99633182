//! Of which publication of a conversation one is a copy, as it stands in both forms of envelopes.
//!
//! In MessagePack it is an array of its own inside a `bin`, so that it can grow at its end like the envelope's (INV-12).

use std::borrow::Cow;

use rmp::encode;
use roomcast_protocol::conversation::{Amends, Origin};
use roomcast_protocol::ids::SessionId;
use roomcast_protocol::position::{Epoch, OFFSET_MAX, Position};
use roomcast_protocol::room::RoomName;
use serde::Deserialize;

use super::binary::{Reader, optional};
use crate::native::encode::position;
use crate::native::writer::{Json, Writer, written};

/// Fields of the array that this version writes; the last one of what is said in a group alone.
const FIELDS: u32 = 10;
/// Fields without which there is no origin: room, position, id, time.
const FIELDS_NEEDED: u32 = 4;

const EPOCH_BYTES: usize = 16;
/// Epoch and offset.
const PLACE_BYTES: usize = 24;

/// Room for everything but the texts. Units: bytes.
const AROUND_BYTES: usize = 80;

/// Appends it as a `bin`.
pub(super) fn pack(origin: &Origin, out: &mut Vec<u8>) {
    let room = origin.room.as_str();
    let mut inside = Vec::with_capacity(AROUND_BYTES + room.len() + origin.id.len());
    fields(origin, &mut inside);
    written(encode::write_bin(out, &inside));
}

fn fields(origin: &Origin, out: &mut Vec<u8>) {
    let Origin { room, position, id, at_unix_ms, unread, said_in, amends, group } = origin;
    let amends = amends.as_ref();
    written(encode::write_array_len(out, FIELDS - u32::from(group.is_none())));
    written(encode::write_str(out, room.as_str()));
    optional(out, *position, |out, Position { epoch, offset }| {
        let place = [&epoch.0.to_be_bytes()[..], &offset.to_be_bytes()].concat();
        written(encode::write_bin(out, &place));
    });
    written(encode::write_str(out, id));
    written(encode::write_uint(out, *at_unix_ms));
    optional(out, *unread, |out, unread| {
        written(encode::write_uint(out, unread.into()));
    });
    optional(out, *said_in, |out, SessionId(bits)| {
        written(encode::write_bin(out, &bits.to_be_bytes()));
    });
    optional(out, amends, |out, it| {
        written(encode::write_uint(out, it.offset));
    });
    optional(out, amends, |out, it| written(encode::write_str(out, &it.id)));
    optional(out, amends.filter(|it| it.erases), |out, _| {
        written(encode::write_uint(out, 1));
    });
    if let Some(group) = *group {
        written(encode::write_uint(out, group.into()));
    }
}

/// Reads what stands in the `bin`; `None`: not what it should be.
pub(super) fn unpack(inside: &[u8]) -> Option<Origin> {
    let mut reader = Reader::of(inside)?;
    if reader.left() < FIELDS_NEEDED {
        return None;
    }
    let room = RoomName::parse(reader.text()?).ok()?;
    let position = match reader.optional(Reader::bytes)? {
        Some(bytes) => Some(place(bytes.try_into().ok()?)?),
        None => None,
    };
    let id = reader.text()?.into();
    let at_unix_ms = reader.number()?;
    let unread = reader.optional(|it| u32::try_from(it.number()?).ok())?;
    let said_in = reader.optional(|it| Some(u128::from_be_bytes(it.bytes()?.try_into().ok()?)))?;
    let amended = reader.optional(Reader::number)?;
    let amended_id = reader.optional(Reader::text)?.unwrap_or_default();
    let erases = reader.optional(Reader::number)? == Some(1);
    let amends = amended.map(|offset| Amends { offset, id: amended_id.into(), erases });
    let said_in = said_in.map(SessionId);
    let group = reader.optional(|it| u32::try_from(it.number()?).ok())?;
    Some(Origin { room, position, id, at_unix_ms, unread, said_in, amends, group })
}

fn place(bytes: &[u8; PLACE_BYTES]) -> Option<Position> {
    let (epoch, offset) = bytes.split_first_chunk::<EPOCH_BYTES>()?;
    let offset = u64::from_be_bytes(offset.try_into().ok()?);
    let position = Position { epoch: Epoch(u128::from_be_bytes(*epoch)), offset };
    (1..=OFFSET_MAX).contains(&offset).then_some(position)
}

/// Writes it as an object.
pub(super) fn write(origin: &Origin, out: &mut Json<'_>) {
    out.text_at("room", origin.room.as_str());
    if let Some(at) = origin.position {
        position(out, at);
    }
    if !origin.id.is_empty() {
        out.text_at("id", &origin.id);
    }
    out.key("at_ms");
    out.number(origin.at_unix_ms);
    if let Some(unread) = origin.unread {
        out.key("unread");
        out.number(unread.into());
    }
    if let Some(session) = origin.said_in {
        out.text_at("said_in", &session.to_string());
    }
    if let Some(Amends { offset, id, erases }) = &origin.amends {
        out.map_at("amends", |out| {
            out.key("offset");
            out.number(*offset);
            out.text_at("id", id);
            out.key("erases");
            out.boolean(*erases);
        });
    }
    if let Some(group) = origin.group {
        out.key("group");
        out.number(group.into());
    }
}

/// The object, as it is read.
#[derive(Deserialize)]
pub(super) struct Wire<'a> {
    #[serde(borrow)]
    room: Cow<'a, str>,
    #[serde(borrow, default)]
    epoch: Option<Cow<'a, str>>,
    #[serde(default)]
    offset: Option<u64>,
    #[serde(borrow, default)]
    id: Cow<'a, str>,
    at_ms: u64,
    #[serde(default)]
    unread: Option<u32>,
    #[serde(borrow, default)]
    said_in: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    amends: Option<WireAmends<'a>>,
    #[serde(default)]
    group: Option<u32>,
}

#[derive(Deserialize)]
struct WireAmends<'a> {
    offset: u64,
    #[serde(borrow)]
    id: Cow<'a, str>,
    erases: bool,
}

impl Wire<'_> {
    /// What it says; `None`: what no node writes.
    pub(super) fn read(self) -> Option<Origin> {
        let position = match (self.epoch, self.offset) {
            (Some(epoch), Some(offset)) if (1..=OFFSET_MAX).contains(&offset) => {
                Some(Position { epoch: Epoch::parse(&epoch)?, offset })
            }
            (None, None) => None,
            (Some(_), _) | (None, Some(_)) => return None,
        };
        let said_in = match self.said_in {
            Some(text) => Some(SessionId::parse(&text)?),
            None => None,
        };
        let amends = |it: WireAmends<'_>| {
            let WireAmends { offset, id, erases } = it;
            Amends { offset, id: id.into(), erases }
        };
        Some(Origin {
            room: RoomName::parse(&self.room).ok()?,
            position,
            id: self.id.into(),
            at_unix_ms: self.at_ms,
            unread: self.unread,
            said_in,
            amends: self.amends.map(amends),
            group: self.group,
        })
    }
}
