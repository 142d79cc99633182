//! Envelopes in the native seed's JSON, for clusters that other programs listen to.
//!
//! Owns what stands in `metadata` besides the seed's own fields. The hash is the last member of `metadata`, which is
//! the last member of the object, so that signing and verifying cut it off without parsing.

use std::borrow::Cow;
use std::io::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use roomcast_protocol::content::Content;
use roomcast_protocol::position::{Epoch, OFFSET_MAX, Position};
use roomcast_protocol::publication::{Priority, Publication};
use roomcast_protocol::relay::{ClusterTime, RelayKeys, Relayed, Unreadable};
use roomcast_protocol::room::RoomName;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{from_cluster, origin, to_cluster};
use crate::native::encode;
use crate::native::fields::text;
use crate::native::writer::{Json, Writer, written};

const HASH_START: &str = r#","hash":""#;
const HASH_DIGITS: usize = 16;
/// The ends of `metadata` and of the envelope.
const END: &str = "}}";

/// Room for everything but the content. Units: bytes.
const AROUND_BYTES: usize = 400;

const TEXT: &str = "text";
const BINARY: &str = "binary";

pub(super) fn encode(
    keys: &RelayKeys,
    publication: &Publication,
    time: ClusterTime,
    out: &mut Vec<u8>,
) {
    let start = out.len();
    encode_unplaced(publication, time, out);
    if let Some(Position { epoch, offset }) = publication.position {
        written(write!(out, r#","epoch":"{epoch}","offset":{offset}"#));
    }
    out.extend_from_slice(END.as_bytes());
    let unsigned = out.get(start..).unwrap_or_default();
    let hash = u64::from_be_bytes(keys.sign(publication.room.as_str(), &[unsigned]));
    out.truncate(out.len() - END.len());
    written(write!(out, "{HASH_START}{hash:016x}\"{END}"));
}

/// The text up to where the position stands, which is the end of `metadata`.
pub(super) fn encode_unplaced(publication: &Publication, time: ClusterTime, out: &mut Vec<u8>) {
    out.reserve(AROUND_BYTES + publication.content.len());
    Json::new(out).map(|out| {
        out.text_at("id", &publication.id);
        out.text_at("type", &publication.kind);
        out.text_at("timestamp", &publication.timestamp);
        out.text_at("sender", &publication.sender);
        out.text_at("room", publication.room.as_str());
        out.key("data");
        encode::content(&publication.content, out);
        out.map_at("metadata", |out| metadata(publication, time, out));
    });
    out.truncate(out.len() - END.len());
}

/// The last member is always there, so that the hash always follows a comma.
fn metadata(publication: &Publication, time: ClusterTime, out: &mut Json<'_>) {
    if let Some(correlation_id) = &publication.correlation_id {
        out.text_at("correlation_id", correlation_id);
    }
    if let Some(priority) = publication.priority {
        out.text_at("priority", priority.name());
    }
    if let Some(ttl_s) = publication.ttl_s {
        out.key("ttl");
        out.number(ttl_s.into());
    }
    if !publication.requires.is_empty() {
        out.key("requires");
        out.texts(&publication.requires);
    }
    if publication.requires_ack {
        out.key("requires_ack");
        out.boolean(true);
    }
    match publication.content {
        Content::Json(_) => {}
        Content::Text(_) => out.text_at("content", TEXT),
        Content::Binary(_) => out.text_at("content", BINARY),
    }
    if let Some(expires_unix_ms) = publication.expires_unix_ms {
        out.key("expires_ms");
        out.number(to_cluster(expires_unix_ms, time));
    }
    if let Some(origin) = &publication.origin {
        out.map_at("origin", |out| origin::write(origin, out));
    }
    out.key("published_us");
    out.number(time.now_us);
}

/// Whether one of the keys made the hash at the text's end.
pub(super) fn is_signed(keys: &RelayKeys, room: &RoomName, payload: &[u8]) -> bool {
    let Some((text, hash)) = split(payload) else { return false };
    keys.verify(room.as_str(), &[text, END.as_bytes()], hash.to_be_bytes())
}

/// The text in front of the hash's member, and the hash.
fn split(payload: &[u8]) -> Option<(&[u8], u64)> {
    let rest = payload.strip_suffix(END.as_bytes())?.strip_suffix(b"\"")?;
    let (rest, digits) = rest.split_at_checked(rest.len().checked_sub(HASH_DIGITS)?)?;
    let text = rest.strip_suffix(HASH_START.as_bytes())?;
    if !digits.iter().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f')) {
        return None;
    }
    let hash = u64::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    Some((text, hash))
}

/// A string, borrowed where it has no escapes.
type Text<'a> = Cow<'a, str>;

#[derive(Deserialize)]
struct Wire<'a> {
    #[serde(borrow)]
    id: Text<'a>,
    #[serde(borrow, rename = "type")]
    kind: Text<'a>,
    #[serde(borrow)]
    timestamp: Text<'a>,
    #[serde(borrow)]
    sender: Text<'a>,
    #[serde(borrow)]
    data: &'a RawValue,
    #[serde(borrow)]
    metadata: WireMetadata<'a>,
}

#[derive(Deserialize)]
struct WireMetadata<'a> {
    #[serde(borrow, default)]
    correlation_id: Option<Text<'a>>,
    #[serde(borrow, default)]
    priority: Option<Text<'a>>,
    #[serde(default)]
    ttl: Option<u32>,
    #[serde(default)]
    requires: Vec<Box<str>>,
    #[serde(borrow, default)]
    content: Option<Text<'a>>,
    #[serde(default)]
    expires_ms: Option<u64>,
    published_us: u64,
    #[serde(default)]
    requires_ack: bool,
    #[serde(borrow, default)]
    origin: Option<origin::Wire<'a>>,
    #[serde(borrow, default)]
    epoch: Option<Text<'a>>,
    #[serde(default)]
    offset: Option<u64>,
}

#[derive(Deserialize)]
struct Base64<'a> {
    #[serde(borrow)]
    base64: Text<'a>,
}

/// Reads what [`is_signed`] said yes to.
pub(super) fn decode(
    room: &RoomName,
    payload: &Bytes,
    time: ClusterTime,
) -> Result<Relayed, Unreadable> {
    // Payloads are passed over as they stand and not descended into, so their depth costs no stack.
    let wire: Wire<'_> = serde_json::from_slice(payload).map_err(|_| Unreadable::Malformed)?;
    let metadata = wire.metadata;
    let origin = match metadata.origin {
        Some(origin) => Some(Box::new(origin.read().ok_or(Unreadable::Malformed)?)),
        None => None,
    };
    let publication = Publication {
        room: room.clone(),
        id: wire.id.into(),
        kind: wire.kind.into(),
        timestamp: wire.timestamp.into(),
        sender: wire.sender.into(),
        content: content(payload, wire.data.get(), metadata.content.as_deref())?,
        priority: metadata.priority.as_deref().and_then(Priority::parse),
        ttl_s: metadata.ttl,
        expires_unix_ms: metadata.expires_ms.map(|at| from_cluster(at, time)),
        correlation_id: metadata.correlation_id.map(Into::into),
        requires: metadata.requires,
        requires_ack: metadata.requires_ack,
        isolated: false,
        origin,
        position: place(metadata.epoch.as_deref(), metadata.offset),
        put_under: None,
    };
    Ok(Relayed { publication, published_us: Some(metadata.published_us) })
}

fn place(epoch: Option<&str>, offset: Option<u64>) -> Option<Position> {
    let offset = offset.filter(|offset| (1..=OFFSET_MAX).contains(offset))?;
    Some(Position { epoch: Epoch::parse(epoch?)?, offset })
}

#[derive(Deserialize)]
struct Placed<'a> {
    #[serde(borrow)]
    metadata: WirePlace<'a>,
}

#[derive(Deserialize)]
struct WirePlace<'a> {
    #[serde(borrow)]
    epoch: Text<'a>,
    offset: u64,
}

/// Where what [`is_signed`] said yes to stands, even if the rest cannot be read.
pub(super) fn position(payload: &[u8]) -> Option<Position> {
    let Placed { metadata } = serde_json::from_slice(payload).ok()?;
    place(Some(&metadata.epoch), Some(metadata.offset))
}

fn content(payload: &Bytes, data: &str, kind: Option<&str>) -> Result<Content, Unreadable> {
    match kind {
        None => Ok(Content::Json(payload.slice_ref(data.as_bytes()))),
        Some(TEXT) => match text(data) {
            Some(Cow::Borrowed(text)) => Ok(Content::Text(payload.slice_ref(text.as_bytes()))),
            Some(Cow::Owned(text)) => Ok(Content::Text(text.into())),
            None => Err(Unreadable::Malformed),
        },
        Some(BINARY) => {
            let Ok(Base64 { base64 }) = serde_json::from_str(data) else {
                return Err(Unreadable::Malformed);
            };
            let bytes = STANDARD.decode(&*base64).map_err(|_| Unreadable::Malformed)?;
            Ok(Content::Binary(bytes.into()))
        }
        Some(_) => Err(Unreadable::Malformed),
    }
}
