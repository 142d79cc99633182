//! The function library in Redis, and what its functions answer. Pure.

use bytes::Bytes;
use fred::types::Value;
use roomcast_protocol::envelope::{MasterId, Peer};
use roomcast_protocol::ids::NodeId;
use roomcast_protocol::relay::RelayKeys;

/// The library's source.
pub(crate) const LIBRARY: &str = include_str!("functions.lua");

/// Publishes and remembers the id.
pub(crate) const PUBLISH: &str = "rc1_publish";

/// Renews the lease and beats.
pub(crate) const BEAT: &str = "rc1_beat";

/// Beats over one more link.
pub(crate) const LINK: &str = "rc1_link";

/// Answers with the relay's key where none is configured, and keeps the one that is offered if there is none.
pub(crate) const KEY: &str = "rc1_key";

/// How long a node's lease lasts without a beat. Units: milliseconds.
pub(crate) const LEASE_MS: u64 = 8_000;

/// What a beat is written between: number and master, then the hash.
const BEAT_HEAD: &[u8] = b"{\"beat\":\"";
const BEAT_HASH: &[u8] = b"\",\"hash\":\"";
const BEAT_TAIL: &[u8] = b"\"}";

/// What became of a publication whose id is remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Remembered {
    /// Published; the memory may have been too short for all ids.
    New {
        /// It was.
        short: bool,
    },
    /// The same content had been published under this id.
    Same,
    /// Other content had been.
    Other,
}

/// Reads the answer of [`PUBLISH`].
pub(crate) fn remembered(answer: Value) -> Option<Remembered> {
    let mut parts = answer.into_array().into_iter();
    match (parts.next()?.as_str()?.as_ref(), parts.next()?.as_u64()?) {
        ("new", short) => Some(Remembered::New { short: short == 1 }),
        ("same", _) => Some(Remembered::Same),
        ("other", _) => Some(Remembered::Other),
        _ => None,
    }
}

/// The answer of [`BEAT`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Beaten {
    /// The server's time. Units: microseconds since the Unix epoch.
    pub(crate) time_us: u64,
    pub(crate) master: MasterId,
    /// The relay's key as Redis keeps it; empty where one is configured.
    pub(crate) relay_key: Bytes,
    pub(crate) peers: Vec<Peer>,
}

/// Reads the answer of [`BEAT`]; nodes whose digest is not `digest` relay in other modes.
pub(crate) fn beaten(answer: Value, digest: &str) -> Option<Beaten> {
    let parts = answer.into_array();
    let (head, peers) = parts.split_at_checked(4)?;
    let [seconds, micros, master, relay_key] = head else { return None };
    let time_us = seconds.as_u64()?.checked_mul(1_000_000)?.checked_add(micros.as_u64()?)?;
    let master = master_of(master.as_str()?.as_bytes());
    let peer = |parts: &[Value]| {
        let [node, hears, theirs] = parts else { return None };
        Some(Peer {
            node: NodeId(u64::from_str_radix(node.as_str()?.as_ref(), 16).ok()?),
            hears: hears.as_str()?.as_ref() == "1",
            agrees: theirs.as_str()?.as_ref() == digest,
        })
    };
    let peers = peers.chunks_exact(3).filter_map(peer).collect();
    let relay_key = relay_key.clone().into_bytes()?;
    Some(Beaten { time_us, master, relay_key, peers })
}

/// The id of a master by (the beginning of) its replication id.
fn master_of(replid: &[u8]) -> MasterId {
    let digits = replid.get(..16).unwrap_or(replid);
    let text = std::str::from_utf8(digits).unwrap_or_default();
    MasterId(u64::from_str_radix(text, 16).unwrap_or_default())
}

/// How a beat's number is given to [`BEAT`] and [`LINK`].
pub(crate) fn number(seq: u64) -> String {
    format!("{seq:016x}")
}

/// Reads a beat that came over the feed under `name`: its number and the master that sent it. `None`: no beat of this
/// cluster.
pub(crate) fn heard(keys: &RelayKeys, name: &str, payload: &[u8]) -> Option<(u64, MasterId)> {
    let rest = payload.strip_suffix(BEAT_TAIL)?;
    let (rest, hash) = rest.split_at_checked(rest.len().checked_sub(16)?)?;
    let digits = rest.strip_suffix(BEAT_HASH)?.strip_prefix(BEAT_HEAD)?;
    // Signed is all before the comma: the quote that ends the digits is part of it.
    let body = payload.get(..BEAT_HEAD.len() + digits.len() + 1)?;
    if !keys.verify(name, &[body], hex(hash)?.to_be_bytes()) {
        return None;
    }
    let (seq, master) = digits.split_at_checked(16)?;
    Some((hex(seq)?, master_of(master)))
}

/// Lower-case hexadecimal digits and nothing else.
fn hex(digits: &[u8]) -> Option<u64> {
    let lower = digits.iter().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'));
    let text = std::str::from_utf8(digits).ok().filter(|_| lower)?;
    u64::from_str_radix(text, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys() -> RelayKeys {
        RelayKeys { current: (*b"a key of sixteen").into(), previous: None }
    }

    fn beat(keys: &RelayKeys, name: &str, seq: u64) -> Vec<u8> {
        let body = format!(r#"{{"beat":"{}0123456789abcdef""#, number(seq));
        let hash = u64::from_be_bytes(keys.sign(name, &[body.as_bytes()]));
        format!(r#"{body},"hash":"{hash:016x}"}}"#).into_bytes()
    }

    #[test]
    fn a_beat_is_known_by_its_hash() {
        let bytes = beat(&keys(), "$beat:1", 7);
        let expected = Some((7, MasterId(0x0123_4567_89ab_cdef)));
        assert_eq!(heard(&keys(), "$beat:1", &bytes), expected);
        assert_eq!(heard(&keys(), "$beat:2", &bytes), None, "another node's");
        for at in 0..bytes.len() {
            let mut forged = bytes.clone();
            forged[at] ^= 1;
            assert_eq!(heard(&keys(), "$beat:1", &forged), None, "byte {at}");
            assert_eq!(heard(&keys(), "$beat:1", &bytes[..at]), None, "cut at {at}");
        }
    }

    #[test]
    fn answers_that_are_none_are_not_believed() {
        assert_eq!(remembered(Value::Null), None);
        assert_eq!(beaten(Value::Array(vec![]), "00"), None);
    }

    #[test]
    fn peers_of_other_modes_disagree() {
        let text = |it: &str| Value::String(it.into());
        let answer = [
            Value::Integer(2),
            Value::Integer(5),
            text("0123456789abcdef01"),
            text("a relay key of 16"),
            text("000000000000000a"),
            text("1"),
            text("aa"),
            text("000000000000000b"),
            text("0"),
            text("bb"),
        ];
        let beaten = beaten(Value::Array(answer.to_vec()), "aa").unwrap();
        assert_eq!(beaten.time_us, 2_000_005);
        assert_eq!(beaten.relay_key, "a relay key of 16");
        let peers = [
            Peer { node: NodeId(10), hears: true, agrees: true },
            Peer { node: NodeId(11), hears: false, agrees: false },
        ];
        assert_eq!(beaten.peers, peers);
    }
}
