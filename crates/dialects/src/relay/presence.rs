//! Users who came into a room or left it, as a Redis function tells all nodes: JSON in every format.
//!
//! Only reads; the function writes. What is not signed is nobody's business here: it may be an outsider's text.

use std::borrow::Cow;

use roomcast_protocol::position::{Epoch, OFFSET_MAX, Position};
use roomcast_protocol::presence::PresenceDiff;
use roomcast_protocol::relay::RelayKeys;
use roomcast_protocol::room::RoomName;
use serde::Deserialize;

const START: &[u8] = br#"{"presence":{"#;
const HASH: &[u8] = br#","hash":""#;
const HASH_DIGITS: usize = 16;
const END: &[u8] = br#""}"#;

#[derive(Deserialize)]
struct Wire<'a> {
    #[serde(borrow)]
    presence: Diff<'a>,
}

#[derive(Deserialize)]
struct Diff<'a> {
    #[serde(borrow)]
    epoch: Cow<'a, str>,
    version: u64,
    count: u64,
    joined: Vec<Box<str>>,
    left: Vec<Box<str>>,
}

/// `None`: it is none, or no node's key signed it for this room.
pub(super) fn decode(keys: &RelayKeys, room: &RoomName, payload: &[u8]) -> Option<PresenceDiff> {
    if !payload.starts_with(START) {
        return None;
    }
    let rest = payload.strip_suffix(END)?;
    let (rest, digits) = rest.split_at_checked(rest.len().checked_sub(HASH_DIGITS)?)?;
    let signed = rest.strip_suffix(HASH)?;
    if !digits.iter().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f')) {
        return None;
    }
    let hash = u64::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    if !keys.verify(room.as_str(), &[signed], hash.to_be_bytes()) {
        return None;
    }
    let Wire { presence } = serde_json::from_slice(payload).ok()?;
    let Diff { epoch, version, count, joined, left } = presence;
    let offset = (version <= OFFSET_MAX).then_some(version)?;
    let version = Position { epoch: Epoch::parse(&epoch)?, offset };
    Some(PresenceDiff { room: room.clone(), version, count, joined, left })
}
