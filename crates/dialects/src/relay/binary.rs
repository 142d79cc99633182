//! Binary envelopes: a mark, a version, the keyed hash, a header of fixed length, and a MessagePack array.
//!
//! Owns their layout. Fields of the array may only be appended, and whoever does not find one has a default for it, so
//! that nodes of neighbouring versions understand each other (INV-12).

use bytes::Bytes;
use rmp::Marker;
use rmp::{decode, encode};
use roomcast_protocol::content::Content;
use roomcast_protocol::position::{Epoch, OFFSET_MAX, Position};
use roomcast_protocol::publication::{Priority, Publication};
use roomcast_protocol::relay::{BINARY_MARK, ClusterTime, RelayKeys, Relayed, Unreadable};
use roomcast_protocol::room::RoomName;

use super::{from_cluster, origin, to_cluster, utf8};
use crate::native::writer::written;

/// The layout that is described here.
const VERSION: u8 = 1;

/// Mark and version.
const START_BYTES: usize = 2;
const HASH_BYTES: usize = 8;
/// Epoch (16) and offset (8), zero without a position; when it was published (8).
const HEADER_BYTES: usize = 32;
const EPOCH_BYTES: usize = 16;
const OFFSET_BYTES: usize = 8;

/// What stands in an envelope without a position.
const NOWHERE: Position = Position { epoch: Epoch(0), offset: 0 };

/// Fields of the array that this version writes.
const FIELDS: u32 = 13;
/// Fields without which there is no publication: id, type, timestamp, sender, kind of content, content.
const FIELDS_NEEDED: u32 = 6;

/// Room for everything but the content, so that most envelopes are written without growing. Units: bytes.
const AROUND_BYTES: usize = 320;

const JSON: u8 = 0;
const TEXT: u8 = 1;
const BINARY: u8 = 2;

pub(super) fn encode(
    keys: &RelayKeys,
    publication: &Publication,
    time: ClusterTime,
    out: &mut Vec<u8>,
) {
    let start = out.len();
    out.reserve(AROUND_BYTES + publication.content.len());
    out.extend_from_slice(&[BINARY_MARK, VERSION]);
    out.extend_from_slice(&[0; HASH_BYTES]);
    let place = publication.position.unwrap_or(NOWHERE);
    out.extend_from_slice(&place.epoch.0.to_be_bytes());
    out.extend_from_slice(&place.offset.to_be_bytes());
    encode_unplaced(publication, time, out);
    let Some(envelope) = out.get_mut(start..) else { return };
    let Some((before, signed)) = envelope.split_at_mut_checked(START_BYTES + HASH_BYTES) else {
        return;
    };
    let hash = keys.sign(publication.room.as_str(), &[&[VERSION], signed]);
    if let Some(place) = before.last_chunk_mut() {
        *place = hash;
    }
}

/// What stands behind the position.
pub(super) fn encode_unplaced(publication: &Publication, time: ClusterTime, out: &mut Vec<u8>) {
    out.extend_from_slice(&time.now_us.to_be_bytes());
    body(publication, time, out);
}

fn body(publication: &Publication, time: ClusterTime, out: &mut Vec<u8>) {
    // The last fields are left out where they say nothing.
    let fields = match (&publication.origin, publication.requires_ack) {
        (Some(_), _) => FIELDS,
        (None, true) => FIELDS - 1,
        (None, false) => FIELDS - 2,
    };
    written(encode::write_array_len(out, fields));
    written(encode::write_str(out, &publication.id));
    written(encode::write_str(out, &publication.kind));
    written(encode::write_str(out, &publication.timestamp));
    written(encode::write_str(out, &publication.sender));
    let (kind, content) = match &publication.content {
        Content::Json(bytes) => (JSON, bytes),
        Content::Text(bytes) => (TEXT, bytes),
        Content::Binary(bytes) => (BINARY, bytes),
    };
    written(encode::write_uint(out, kind.into()));
    written(encode::write_bin(out, content));
    optional(out, publication.priority, |out, priority| {
        let number = match priority {
            Priority::High => 0,
            Priority::Normal => 1,
            Priority::Low => 2,
        };
        written(encode::write_uint(out, number));
    });
    optional(out, publication.ttl_s, |out, ttl_s| {
        written(encode::write_uint(out, ttl_s.into()));
    });
    optional(out, publication.expires_unix_ms, |out, expires_unix_ms| {
        written(encode::write_uint(out, to_cluster(expires_unix_ms, time)));
    });
    optional(out, publication.correlation_id.as_deref(), |out, correlation_id| {
        written(encode::write_str(out, correlation_id));
    });
    let count = u32::try_from(publication.requires.len()).unwrap_or(u32::MAX);
    written(encode::write_array_len(out, count));
    for permission in &publication.requires {
        written(encode::write_str(out, permission));
    }
    if fields == FIELDS - 2 {
        return;
    }
    optional(out, Some(1).filter(|_| publication.requires_ack), |out, yes| {
        written(encode::write_uint(out, yes));
    });
    if let Some(origin) = &publication.origin {
        origin::pack(origin, out);
    }
}

/// Writes a field that says nothing where it is nil.
pub(super) fn optional<T>(
    out: &mut Vec<u8>,
    value: Option<T>,
    write: impl FnOnce(&mut Vec<u8>, T),
) {
    match value {
        Some(value) => write(out, value),
        None => written(encode::write_nil(out)),
    }
}

pub(super) fn decode(
    keys: &RelayKeys,
    room: &RoomName,
    payload: &Bytes,
    time: ClusterTime,
) -> Result<Relayed, Unreadable> {
    let &[_, version, ref rest @ ..] = &payload[..] else { return Err(Unreadable::Malformed) };
    if version != VERSION {
        return Err(Unreadable::Version);
    }
    let (&hash, signed) = rest.split_first_chunk::<HASH_BYTES>().ok_or(Unreadable::Malformed)?;
    let (header, body) = signed.split_first_chunk::<HEADER_BYTES>().ok_or(Unreadable::Malformed)?;
    if !keys.verify(room.as_str(), &[&[VERSION], signed], hash) {
        return Err(Unreadable::Forged);
    }
    let published_us = header.last_chunk().copied().map(u64::from_be_bytes);
    let publication = read(room, payload, body, time).ok_or(Unreadable::Malformed)?;
    let (content, position) = (checked(publication.content)?, place(header));
    Ok(Relayed { publication: Publication { content, position, ..publication }, published_us })
}

/// Where an envelope of any version stands, if a node made it.
pub(super) fn position(keys: &RelayKeys, room: &RoomName, payload: &[u8]) -> Option<Position> {
    let &[BINARY_MARK, version, ref rest @ ..] = payload else { return None };
    let (&hash, signed) = rest.split_first_chunk::<HASH_BYTES>()?;
    let header = signed.first_chunk::<HEADER_BYTES>()?;
    let ours = keys.verify(room.as_str(), &[&[version], signed], hash);
    place(header).filter(|_| ours)
}

/// The header's position, if it holds one.
fn place(header: &[u8; HEADER_BYTES]) -> Option<Position> {
    let (epoch, rest) = header.split_first_chunk::<EPOCH_BYTES>()?;
    let offset = u64::from_be_bytes(*rest.first_chunk::<OFFSET_BYTES>()?);
    let position = Position { epoch: Epoch(u128::from_be_bytes(*epoch)), offset };
    (1..=OFFSET_MAX).contains(&offset).then_some(position)
}

fn checked(content: Content) -> Result<Content, Unreadable> {
    match content {
        Content::Json(bytes) => utf8(bytes, Content::Json),
        Content::Text(bytes) => utf8(bytes, Content::Text),
        Content::Binary(bytes) => Ok(Content::Binary(bytes)),
    }
}

fn read(room: &RoomName, payload: &Bytes, body: &[u8], time: ClusterTime) -> Option<Publication> {
    let mut reader = Reader::of(body)?;
    let count = reader.left();
    if count < FIELDS_NEEDED {
        return None;
    }
    let id = reader.text()?.into();
    let kind = reader.text()?.into();
    let timestamp = reader.text()?.into();
    let sender = reader.text()?.into();
    let content = match reader.number()? {
        0 => Content::Json,
        1 => Content::Text,
        2 => Content::Binary,
        _ => return None,
    };
    let publication = Publication {
        room: room.clone(),
        id,
        kind,
        timestamp,
        sender,
        content: content(payload.slice_ref(reader.bytes()?)),
        priority: reader.optional(Reader::number)?.and_then(priority),
        ttl_s: reader.optional(|it| u32::try_from(it.number()?).ok())?,
        expires_unix_ms: reader.optional(Reader::number)?.map(|at| from_cluster(at, time)),
        correlation_id: reader.optional(Reader::text)?.map(Into::into),
        requires: reader.optional(Reader::texts)?.unwrap_or_default(),
        requires_ack: reader.optional(Reader::number)? == Some(1),
        isolated: false,
        origin: reader.optional(|it| origin::unpack(it.bytes()?))?.map(Box::new),
        position: None,
        put_under: None,
    };
    // Fields of later versions are passed over; behind those of this one there is nothing.
    (count > FIELDS || reader.rest.is_empty()).then_some(publication)
}

/// A class of a later version is none: then the room's rule decides.
fn priority(number: u64) -> Option<Priority> {
    match number {
        0 => Some(Priority::High),
        1 => Some(Priority::Normal),
        2 => Some(Priority::Low),
        _ => None,
    }
}

/// Reads the fields of the array in their order; `None`: not what it should be.
pub(super) struct Reader<'a> {
    rest: &'a [u8],
    /// Fields still to come.
    left: u32,
}

impl<'a> Reader<'a> {
    /// Of the array that these bytes begin with.
    pub(super) fn of(mut bytes: &'a [u8]) -> Option<Self> {
        let left = decode::read_array_len(&mut bytes).ok()?;
        Some(Self { rest: bytes, left })
    }

    pub(super) const fn left(&self) -> u32 {
        self.left
    }

    /// A field that may be nil, or left out by an earlier version.
    pub(super) fn optional<T>(
        &mut self,
        read: impl FnOnce(&mut Self) -> Option<T>,
    ) -> Option<Option<T>> {
        if self.left == 0 {
            return Some(None);
        }
        if let Some(rest) = self.rest.strip_prefix(&[Marker::Null.to_u8()]) {
            (self.rest, self.left) = (rest, self.left - 1);
            return Some(None);
        }
        read(self).map(Some)
    }

    pub(super) fn text(&mut self) -> Option<&'a str> {
        self.left = self.left.checked_sub(1)?;
        self.string()
    }

    fn string(&mut self) -> Option<&'a str> {
        let (text, rest) = decode::read_str_from_slice(self.rest).ok()?;
        self.rest = rest;
        Some(text)
    }

    pub(super) fn number(&mut self) -> Option<u64> {
        self.left = self.left.checked_sub(1)?;
        decode::read_int(&mut self.rest).ok()
    }

    pub(super) fn bytes(&mut self) -> Option<&'a [u8]> {
        self.left = self.left.checked_sub(1)?;
        let length = decode::read_bin_len(&mut self.rest).ok()?;
        let (bytes, rest) = self.rest.split_at_checked(usize::try_from(length).ok()?)?;
        self.rest = rest;
        Some(bytes)
    }

    fn texts(&mut self) -> Option<Vec<Box<str>>> {
        self.left = self.left.checked_sub(1)?;
        let count = decode::read_array_len(&mut self.rest).ok()?;
        // Grows as the texts are found: the count alone is not believed.
        (0..count).map(|_| self.string().map(Into::into)).collect()
    }
}
