//! How rooms travel between nodes: modes, keys and the seam behind which the bytes of envelopes are written and read.

use std::fmt;

use bytes::Bytes;
use sha1::{Digest, Sha1};

use crate::position::Position;
use crate::presence::PresenceDiff;
use crate::publication::Publication;
use crate::receipts::ReceiptDiff;
use crate::room::RoomName;
use crate::session::SessionRecord;

/// The first byte of every binary envelope and beat: neither UTF-8 nor MessagePack uses it.
pub const BINARY_MARK: u8 = 0xC1;

/// By which kind of Redis subscription nodes hear a room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RelayMode {
    /// One `PSUBSCRIBE room:*` brings every room; other programs hear them too.
    #[default]
    Pattern,
    /// `SUBSCRIBE` to a room's own channel while the node has a member.
    Exact,
    /// `SSUBSCRIBE` to a room's own channel while the node has a member; for Redis Cluster.
    Sharded,
}

impl RelayMode {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Pattern, Self::Exact, Self::Sharded];

    /// Its name in the configuration.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pattern => "pattern",
            Self::Exact => "exact",
            Self::Sharded => "sharded",
        }
    }

    /// Reads its name.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|mode| mode.name() == text)
    }
}

/// How the nodes of a cluster write what they relay. Both are always read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RelayFormat {
    /// MessagePack behind [`BINARY_MARK`].
    #[default]
    MessagePack,
    /// The native seed's JSON, for clusters that other programs listen to.
    Json,
}

impl RelayFormat {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::MessagePack, Self::Json];

    /// Its name in the configuration.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::MessagePack => "msgpack",
            Self::Json => "json",
        }
    }

    /// Reads its name.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|format| format.name() == text)
    }
}

/// The keys by which nodes know each other's envelopes. Never written out.
#[derive(Clone, PartialEq, Eq)]
pub struct RelayKeys {
    /// Signs, and verifies.
    pub current: Box<[u8]>,
    /// Verifies only: the key before it, while it is being replaced.
    pub previous: Option<Box<[u8]>>,
}

impl fmt::Debug for RelayKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RelayKeys(********)")
    }
}

impl RelayKeys {
    /// The hash by the key that signs.
    #[must_use]
    pub fn sign(&self, room: &str, parts: &[&[u8]]) -> [u8; 8] {
        keyed_hash(&self.current, room, parts)
    }

    /// Whether one of the keys made this hash.
    #[must_use]
    pub fn verify(&self, room: &str, parts: &[&[u8]], hash: [u8; 8]) -> bool {
        let keys = std::iter::once(&self.current).chain(&self.previous);
        // All keys are tried, each hash is compared as one number: the time taken says nothing about the bytes.
        keys.fold(false, |found, key| {
            found | (u64::from_be_bytes(keyed_hash(key, room, parts)) == u64::from_be_bytes(hash))
        })
    }
}

/// The first 8 bytes of SHA-1 over key, room, the parts one behind the other, and key again; what a Redis function
/// can make as well.
#[must_use]
pub fn keyed_hash(key: &[u8], room: &str, parts: &[&[u8]]) -> [u8; 8] {
    let mut hasher = Sha1::new();
    hasher.update(key);
    hasher.update(room.as_bytes());
    for part in parts {
        hasher.update(part);
    }
    hasher.update(key);
    let digest: [u8; 20] = hasher.finalize().into();
    let [a, b, c, d, e, f, g, h, ..] = digest;
    [a, b, c, d, e, f, g, h]
}

/// The cluster's time, as a node knows it: envelopes carry it, so that clocks of nodes are never compared (G6).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClusterTime {
    /// The broker's time now. Units: microseconds since the Unix epoch.
    pub now_us: u64,
    /// How far it is ahead of this node's wall clock; expiry is moved by it on its way out and in. Units: milliseconds.
    pub ahead_ms: i64,
}

/// What relayed bytes turned out to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Relayed {
    /// The publication; its expiry is by this node's wall clock.
    pub publication: Publication,
    /// When its node gave it to the broker, in the cluster's time; `None`: an outsider's. Units: microseconds.
    pub published_us: Option<u64>,
}

/// Why relayed bytes are dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Unreadable {
    /// A binary envelope whose hash no key made.
    Forged,
    /// A binary envelope of a version that this node does not know.
    Version,
    /// Neither UTF-8 nor an envelope; an envelope that does not decode; an outsider's `requires` that does not.
    Malformed,
    /// An outsider's text over the limits of size or depth.
    TooLarge,
}

impl Unreadable {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Forged, Self::Version, Self::Malformed, Self::TooLarge];

    /// Its label in metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Forged => "forged",
            Self::Version => "version",
            Self::Malformed => "malformed",
            Self::TooLarge => "too_large",
        }
    }

    /// Its place in [`Unreadable::ALL`], for tables of counters.
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }
}

/// Writes and reads the bytes that nodes relay. Pure, and shared by all threads that relay.
pub trait RelayCodec: Send + Sync {
    /// Appends a publication's envelope.
    fn encode(
        &self,
        keys: &RelayKeys,
        publication: &Publication,
        time: ClusterTime,
        out: &mut Vec<u8>,
    );

    /// Appends an envelope of the publication but for position and hash, which the broker adds when it knows them, and
    /// says in which format. MessagePack: what stands behind the position. JSON: the text up to the end of `metadata`,
    /// without the two closing braces. Source: `docs/RELAY.md`.
    fn encode_unplaced(
        &self,
        publication: &Publication,
        time: ClusterTime,
        out: &mut Vec<u8>,
    ) -> RelayFormat;

    /// The position of an envelope that [`RelayCodec::decode`] cannot read, if a node made it: the header stays where
    /// it is in later versions (INV-12).
    fn position(&self, keys: &RelayKeys, room: &RoomName, payload: &[u8]) -> Option<Position>;

    /// Reads what came for a room: a node's envelope in either format, or an outsider's text.
    ///
    /// `serial` is another for each payload; with `time` it makes up for what an outsider leaves out: timestamp and id.
    ///
    /// # Errors
    /// [`Unreadable`] says why it is to be dropped.
    fn decode(
        &self,
        keys: &RelayKeys,
        room: &RoomName,
        payload: &Bytes,
        time: ClusterTime,
        serial: u64,
    ) -> Result<Relayed, Unreadable>;

    /// Reads what came for a room as what a step changed for its users. `None`: it is something else, or no key of the
    /// nodes signed it for this room.
    fn presence(&self, keys: &RelayKeys, room: &RoomName, payload: &[u8]) -> Option<PresenceDiff>;

    /// Reads what came for a room as what a step changed for its receipts. `None`: as of [`RelayCodec::presence`].
    fn receipts(&self, keys: &RelayKeys, room: &RoomName, payload: &[u8]) -> Option<ReceiptDiff>;

    /// Appends what is kept of a session.
    fn encode_record(&self, record: &SessionRecord, out: &mut Vec<u8>);

    /// Reads what is kept of a session. `None`: no node wrote it.
    fn decode_record(&self, bytes: &[u8]) -> Option<SessionRecord>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_the_first_eight_bytes_of_sha_1() {
        // `printf 'keyroomheadbodykey' | sha1sum`
        let hash = keyed_hash(b"key", "room", &[b"head", b"body"]);
        let whole = Sha1::digest(b"keyroomheadbodykey");
        assert_eq!(hash[..], whole[..8]);
    }

    #[test]
    fn both_keys_verify_and_only_the_first_signs() {
        let old = RelayKeys { current: (*b"old").into(), previous: None };
        let both = RelayKeys { current: (*b"new").into(), previous: Some((*b"old").into()) };
        let new = RelayKeys { current: (*b"new").into(), previous: None };
        let by_old = old.sign("r", &[b"x"]);
        assert!(both.verify("r", &[b"x"], by_old) && !new.verify("r", &[b"x"], by_old));
        assert_eq!(both.sign("r", &[b"x"]), new.sign("r", &[b"x"]));
        assert!(!old.verify("q", &[b"x"], by_old) && !old.verify("r", &[b"y"], by_old));
        assert!(!format!("{both:?}").contains("new"), "keys are never written out");
    }
}
