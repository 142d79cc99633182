//! What functions in Redis tell all nodes, JSON in every format: how it is signed.
//!
//! Only reads; the functions write. What is not signed is nobody's business here: it may be an outsider's text.

use roomcast_protocol::relay::RelayKeys;
use roomcast_protocol::room::RoomName;

const HASH: &[u8] = br#","hash":""#;
const HASH_DIGITS: usize = 16;
const END: &[u8] = br#""}"#;

/// Whether it begins so, and a node's key signed it for this room.
pub(super) fn is_signed(keys: &RelayKeys, room: &RoomName, start: &[u8], payload: &[u8]) -> bool {
    payload.starts_with(start) && verified(keys, room, payload).unwrap_or(false)
}

fn verified(keys: &RelayKeys, room: &RoomName, payload: &[u8]) -> Option<bool> {
    let rest = payload.strip_suffix(END)?;
    let (rest, digits) = rest.split_at_checked(rest.len().checked_sub(HASH_DIGITS)?)?;
    let signed = rest.strip_suffix(HASH)?;
    if !digits.iter().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f')) {
        return None;
    }
    let hash = u64::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    Some(keys.verify(room.as_str(), &[signed], hash.to_be_bytes()))
}
