//! The bytes that nodes relay: envelopes in MessagePack and in the native seed's JSON, presence, receipts, what is
//! kept of sessions, and what other programs publish.
//!
//! Owns what stands on the wire between nodes and who counts as a node: whoever made the keyed hash. Never does IO,
//! never decides which room is relayed how. What came from outside is bounded before it is parsed (INV-8). Source:
//! `docs/RELAY.md`.

mod binary;
mod function;
mod json;
mod origin;
mod outsider;
mod presence;
mod receipts;
mod record;

use bytes::Bytes;
use roomcast_protocol::content::Content;
use roomcast_protocol::position::Position;
use roomcast_protocol::presence::PresenceDiff;
use roomcast_protocol::publication::Publication;
use roomcast_protocol::receipts::ReceiptDiff;
use roomcast_protocol::relay::{
    BINARY_MARK, ClusterTime, RelayCodec, RelayFormat, RelayKeys, Relayed, Unreadable,
};
use roomcast_protocol::room::RoomName;
use roomcast_protocol::session::SessionRecord;

/// Whom members hear as the sender of what another program published.
pub const OUTSIDER: &str = "external";

/// Writes envelopes in one format and reads all of them.
///
/// The bounds are for outsiders: what a node signed has passed that node's own.
#[derive(Clone, Copy, Debug)]
pub struct Envelopes {
    /// What this node writes.
    pub format: RelayFormat,
    /// Largest payload of an outsider. Units: bytes.
    pub message_bytes_max: usize,
    /// Deepest nesting of an outsider's JSON.
    pub depth_max: usize,
}

impl RelayCodec for Envelopes {
    fn encode(
        &self,
        keys: &RelayKeys,
        publication: &Publication,
        time: ClusterTime,
        out: &mut Vec<u8>,
    ) {
        match self.format {
            RelayFormat::MessagePack => binary::encode(keys, publication, time, out),
            RelayFormat::Json => json::encode(keys, publication, time, out),
        }
    }

    fn encode_unplaced(
        &self,
        publication: &Publication,
        time: ClusterTime,
        out: &mut Vec<u8>,
    ) -> RelayFormat {
        match self.format {
            RelayFormat::MessagePack => binary::encode_unplaced(publication, time, out),
            RelayFormat::Json => json::encode_unplaced(publication, time, out),
        }
        self.format
    }

    fn position(&self, keys: &RelayKeys, room: &RoomName, payload: &[u8]) -> Option<Position> {
        if payload.first() == Some(&BINARY_MARK) {
            return binary::position(keys, room, payload);
        }
        json::is_signed(keys, room, payload).then(|| json::position(payload))?
    }

    fn decode(
        &self,
        keys: &RelayKeys,
        room: &RoomName,
        payload: &Bytes,
        time: ClusterTime,
        serial: u64,
    ) -> Result<Relayed, Unreadable> {
        if payload.first() == Some(&BINARY_MARK) {
            return binary::decode(keys, room, payload, time);
        }
        if json::is_signed(keys, room, payload) {
            return json::decode(room, payload, time);
        }
        outsider::Outsider { envelopes: *self, room, time, serial }.read(payload)
    }

    fn presence(&self, keys: &RelayKeys, room: &RoomName, payload: &[u8]) -> Option<PresenceDiff> {
        presence::decode(keys, room, payload)
    }

    fn receipts(&self, keys: &RelayKeys, room: &RoomName, payload: &[u8]) -> Option<ReceiptDiff> {
        receipts::decode(keys, room, payload)
    }

    fn encode_record(&self, record: &SessionRecord, out: &mut Vec<u8>) {
        record::encode(record, out);
    }

    fn decode_record(&self, bytes: &[u8]) -> Option<SessionRecord> {
        record::decode(bytes)
    }
}

/// An expiry as it travels: by the cluster's clock.
fn to_cluster(expires_unix_ms: u64, time: ClusterTime) -> u64 {
    expires_unix_ms.saturating_add_signed(time.ahead_ms)
}

/// An expiry as this node's wall clock has it.
fn from_cluster(expires_cluster_ms: u64, time: ClusterTime) -> u64 {
    expires_cluster_ms.saturating_sub_signed(time.ahead_ms)
}

/// A content that is UTF-8, as JSON and text must be, since it leaves in text frames.
fn utf8(bytes: Bytes, of: fn(Bytes) -> Content) -> Result<Content, Unreadable> {
    match std::str::from_utf8(&bytes) {
        Ok(_) => Ok(of(bytes)),
        Err(_) => Err(Unreadable::Malformed),
    }
}
