//! Users who came into a room or left it, as a Redis function tells all nodes: JSON in every format. Only
//! reads; the function writes.

use std::borrow::Cow;

use roomcast_protocol::position::{Epoch, OFFSET_MAX, Position};
use roomcast_protocol::presence::PresenceDiff;
use roomcast_protocol::relay::RelayKeys;
use roomcast_protocol::room::RoomName;
use serde::Deserialize;

const START: &[u8] = br#"{"presence":{"#;

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
    if !super::function::is_signed(keys, room, START, payload) {
        return None;
    }
    let Wire { presence } = serde_json::from_slice(payload).ok()?;
    let Diff { epoch, version, count, joined, left } = presence;
    let offset = (version <= OFFSET_MAX).then_some(version)?;
    let version = Position { epoch: Epoch::parse(&epoch)?, offset };
    Some(PresenceDiff { room: room.clone(), version, count, joined, left })
}
