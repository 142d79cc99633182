//! What is kept of a session, as a node writes it and any other reads it: a MessagePack array of columns.
//!
//! Owns their layout. Columns may only be appended, so that nodes of neighbouring versions understand each other
//! (INV-12). Never holds secrets: those lie beside it, where the functions compare them.

use rmp::{decode, encode};
use roomcast_protocol::position::{Epoch, OFFSET_MAX, Position};
use roomcast_protocol::room::RoomName;
use roomcast_protocol::session::{RoomRecord, SessionRecord};

use crate::native::writer::written;

/// Columns that every version writes: names and places of the rooms, then of the user's own.
const COLUMNS: u32 = 4;

/// Columns behind them, where anything waits for its ack: the oldest of each room, then of each of the user's own.
const UNACKED_COLUMNS: u32 = 2;

/// A place: epoch (16) and offset (8).
const PLACE_BYTES: usize = 24;
const EPOCH_BYTES: usize = 16;
const OFFSET_BYTES: usize = 8;

/// The offset of a room without a place: none that a publication can have.
const NOWHERE: u64 = u64::MAX;

pub(super) fn encode(record: &SessionRecord, out: &mut Vec<u8>) {
    let both = [&record.rooms, &record.own];
    let waits = both.into_iter().flatten().any(|kept| kept.unacked.is_some());
    let more = if waits { UNACKED_COLUMNS } else { 0 };
    written(encode::write_array_len(out, COLUMNS + more));
    for rooms in both {
        written(encode::write_array_len(out, length(rooms.len())));
        for RoomRecord { room, .. } in rooms {
            written(encode::write_str(out, room.as_str()));
        }
        written(encode::write_bin_len(out, length(PLACE_BYTES * rooms.len())));
        for RoomRecord { safe, .. } in rooms {
            let (epoch, offset) = safe.map_or((Epoch::NONE, NOWHERE), |it| (it.epoch, it.offset));
            out.extend_from_slice(&epoch.0.to_be_bytes());
            out.extend_from_slice(&offset.to_be_bytes());
        }
    }
    for rooms in both.into_iter().filter(|_| waits) {
        written(encode::write_bin_len(out, length(OFFSET_BYTES * rooms.len())));
        for RoomRecord { unacked, .. } in rooms {
            out.extend_from_slice(&unacked.unwrap_or(NOWHERE).to_be_bytes());
        }
    }
}

fn length(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// Columns of later versions are passed over.
pub(super) fn decode(mut bytes: &[u8]) -> Option<SessionRecord> {
    let columns = decode::read_array_len(&mut bytes).ok().filter(|count| *count >= COLUMNS)?;
    let mut record = SessionRecord { rooms: rooms(&mut bytes)?, own: rooms(&mut bytes)? };
    let known = COLUMNS + UNACKED_COLUMNS;
    if columns >= known {
        unacked(&mut bytes, &mut record.rooms)?;
        unacked(&mut bytes, &mut record.own)?;
    }
    let whole = columns == COLUMNS || columns == known;
    (!whole || bytes.is_empty()).then_some(record)
}

fn unacked(rest: &mut &[u8], rooms: &mut [RoomRecord]) -> Option<()> {
    let offsets = column::<OFFSET_BYTES>(rest, rooms.len())?;
    for (kept, bytes) in rooms.iter_mut().zip(offsets) {
        kept.unacked = offset(*bytes)?;
    }
    Some(())
}

/// One `bin` with as many bytes for each of `count` rooms.
fn column<'a, const BYTES: usize>(rest: &mut &'a [u8], count: usize) -> Option<&'a [[u8; BYTES]]> {
    let length = usize::try_from(decode::read_bin_len(rest).ok()?).ok()?;
    let (held, behind) = rest.split_at_checked(length)?;
    *rest = behind;
    let (each, left) = held.as_chunks();
    (each.len() == count && left.is_empty()).then_some(each)
}

fn rooms(rest: &mut &[u8]) -> Option<Vec<RoomRecord>> {
    let count = usize::try_from(decode::read_array_len(rest).ok()?).ok()?;
    let mut names = Vec::new();
    // Grows as names are found: the count alone is not believed.
    for _ in 0..count {
        let (name, behind) = decode::read_str_from_slice(*rest).ok()?;
        names.push(RoomName::system(name).ok()?);
        *rest = behind;
    }
    let places = column::<PLACE_BYTES>(rest, count)?;
    let pairs = names.into_iter().zip(places);
    pairs
        .map(|(room, place)| Some(RoomRecord { room, safe: safe(place)?, unacked: None }))
        .collect()
}

/// `None`: no place that can be.
fn safe(place: &[u8; PLACE_BYTES]) -> Option<Option<Position>> {
    let (epoch, bytes) = place.split_first_chunk::<EPOCH_BYTES>()?;
    let epoch = Epoch(u128::from_be_bytes(*epoch));
    Some(offset(*bytes.first_chunk()?)?.map(|offset| Position { epoch, offset }))
}

/// `None`: no offset that can be.
fn offset(bytes: [u8; OFFSET_BYTES]) -> Option<Option<u64>> {
    let offset = u64::from_be_bytes(bytes);
    (offset <= OFFSET_MAX || offset == NOWHERE).then(|| Some(offset).filter(|it| *it != NOWHERE))
}
