//! What users have got and read of a room, as a Redis function tells all nodes: JSON in every format. Only reads; the
//! function writes.

use std::borrow::Cow;

use roomcast_protocol::position::{Epoch, OFFSET_MAX};
use roomcast_protocol::receipts::{Marked, Receipt, ReceiptDiff};
use roomcast_protocol::relay::RelayKeys;
use roomcast_protocol::room::RoomName;
use serde::Deserialize;

const START: &[u8] = br#"{"receipts":{"#;

#[derive(Deserialize)]
struct Wire<'a> {
    #[serde(borrow)]
    receipts: Diff<'a>,
}

#[derive(Deserialize)]
struct Diff<'a> {
    #[serde(borrow)]
    epoch: Cow<'a, str>,
    version: u64,
    /// Each with offset and time of what was delivered, and the same of what was read; 0: nothing.
    users: Vec<(Box<str>, u64, u64, u64, u64)>,
}

/// `None`: it is none, or no node's key signed it for this room.
pub(super) fn decode(keys: &RelayKeys, room: &RoomName, payload: &[u8]) -> Option<ReceiptDiff> {
    if !super::function::is_signed(keys, room, START, payload) {
        return None;
    }
    let Wire { receipts: Diff { epoch, version, users } } = serde_json::from_slice(payload).ok()?;
    let version = (version <= OFFSET_MAX).then_some(version)?;
    let mut receipts = users.into_iter().map(receipt).collect::<Option<Vec<_>>>()?;
    // What order names have is the server's, which may go by its language.
    receipts.sort_by(|one, other| one.user.cmp(&other.user));
    Some(ReceiptDiff { room: room.clone(), epoch: Epoch::parse(&epoch)?, version, receipts })
}

fn receipt((user, got, got_at, seen, seen_at): (Box<str>, u64, u64, u64, u64)) -> Option<Receipt> {
    let is_sound = seen <= got && got <= OFFSET_MAX;
    let marked = |offset, at_unix_ms| (offset > 0).then_some(Marked { offset, at_unix_ms });
    is_sound.then(|| Receipt { user, delivered: marked(got, got_at), read: marked(seen, seen_at) })
}
