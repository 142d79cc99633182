//! What is kept of sessions, and users who come and go, against their vectors. Bytes and hashes in them were made by
//! another program.

use proptest::collection::vec;
use proptest::prelude::*;
use roomcast_protocol::position::{Epoch, OFFSET_MAX, Position};
use roomcast_protocol::presence::PresenceDiff;
use roomcast_protocol::receipts::{Marked, Receipt, ReceiptDiff};
use roomcast_protocol::relay::{RelayCodec, RelayFormat};
use roomcast_protocol::room::RoomName;
use roomcast_protocol::session::{RoomRecord, SessionRecord};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::common::{Envelopes, envelopes, from_hex, keys_of};
use crate::running::run;

const RECORDS: &str = include_str!("../../vectors/relay/records.json");
const RECEIPTS: &str = include_str!("../../vectors/relay/receipts.json");
const PRESENCE: &str = include_str!("../../vectors/relay/presence.json");

#[derive(Deserialize)]
struct Vectors<C> {
    cases: Vec<C>,
}

fn cases<C: DeserializeOwned>(file: &str) -> Vec<C> {
    serde_json::from_str::<Vectors<C>>(file).unwrap().cases
}

#[derive(Deserialize)]
struct RecordCase {
    name: String,
    #[serde(default)]
    write: bool,
    hex: String,
    expect: Option<Record>,
}

type Rooms = Vec<Kept>;

/// A room's name, its safe position, and what waits for its ack there.
#[derive(Deserialize)]
#[serde(untagged)]
enum Kept {
    Acked(String, Option<(String, u64)>),
    Waits(String, Option<(String, u64)>, u64),
}

#[derive(Deserialize)]
struct Record {
    rooms: Rooms,
    own: Rooms,
}

#[derive(Deserialize)]
struct DiffCase {
    name: String,
    text: String,
    expect: Option<Diff>,
}

#[derive(Deserialize)]
struct Diff {
    epoch: String,
    version: u64,
    count: u64,
    joined: Vec<Box<str>>,
    left: Vec<Box<str>>,
}

#[derive(Deserialize)]
struct ReceiptsCase {
    name: String,
    text: String,
    expect: Option<Receipts>,
}

#[derive(Deserialize)]
struct Receipts {
    epoch: String,
    version: u64,
    users: Vec<(Box<str>, u64, u64, u64, u64)>,
}

fn codec() -> Envelopes {
    envelopes(RelayFormat::default())
}

fn agents() -> RoomName {
    RoomName::parse("agents").unwrap()
}

fn rooms(rooms: &Rooms) -> Vec<RoomRecord> {
    let one = |kept: &Kept| {
        let (name, place, unacked) = match kept {
            Kept::Acked(name, place) => (name, place.as_ref(), None),
            Kept::Waits(name, place, unacked) => (name, place.as_ref(), Some(*unacked)),
        };
        let safe = place.map(|(epoch, offset)| Position {
            epoch: Epoch::parse(epoch).unwrap(),
            offset: *offset,
        });
        RoomRecord { room: RoomName::parse(name).unwrap(), safe, unacked }
    };
    rooms.iter().map(one).collect()
}

#[test]
fn every_record_of_the_vectors_is_read_and_written_so() {
    let page = include_str!("../../../../docs/RELAY.md");
    let page: String = page.split_whitespace().collect();
    let mut written = 0;
    for case in cases::<RecordCase>(RECORDS) {
        let expected = case
            .expect
            .as_ref()
            .map(|it| SessionRecord { rooms: rooms(&it.rooms), own: rooms(&it.own) });
        let bytes = from_hex(&case.hex);
        assert_eq!(codec().decode_record(&bytes), expected, "{}", case.name);
        if case.write {
            let mut out = b"before".to_vec();
            codec().encode_record(&expected.unwrap(), &mut out);
            assert_eq!(out.strip_prefix(b"before").unwrap(), bytes, "{}", case.name);
            written += 1;
        }
        if case.name.contains("docs/RELAY.md") {
            assert!(page.contains(&case.hex), "the page shows other bytes");
        }
    }
    assert_eq!(written, 4);
}

#[test]
fn every_diff_of_the_vectors_means_what_they_say() {
    let page = include_str!("../../../../docs/RELAY.md");
    let keys = keys_of(&["a relay key".to_owned(), "the key before".to_owned()]);
    for case in cases::<DiffCase>(PRESENCE) {
        let expected = case.expect.map(|it| PresenceDiff {
            room: agents(),
            version: Position { epoch: Epoch::parse(&it.epoch).unwrap(), offset: it.version },
            count: it.count,
            joined: it.joined,
            left: it.left,
        });
        let found = codec().presence(&keys, &agents(), case.text.as_bytes());
        assert_eq!(found, expected, "{}", case.name);
        if case.name.contains("docs/RELAY.md") {
            assert!(page.contains(&case.text), "the page shows another text");
        }
    }
}

#[test]
fn a_diff_with_another_byte_is_none() {
    let keys = keys_of(&["a relay key".to_owned()]);
    for case in cases::<DiffCase>(PRESENCE).into_iter().take(1) {
        let whole = case.text.as_bytes();
        assert!(codec().presence(&keys, &agents(), whole).is_some());
        for place in 0..whole.len() {
            let mut changed = whole.to_vec();
            changed[place] ^= 1;
            assert_eq!(codec().presence(&keys, &agents(), &changed), None, "byte {place}");
            assert_eq!(codec().presence(&keys, &agents(), &whole[..place]), None, "cut at {place}");
        }
    }
}

#[test]
fn all_receipts_of_the_vectors_mean_what_they_say() {
    let page = include_str!("../../../../docs/RELAY.md");
    let keys = keys_of(&["a relay key".to_owned(), "the key before".to_owned()]);
    for case in cases::<ReceiptsCase>(RECEIPTS) {
        let marked = |offset, at_unix_ms| (offset > 0).then_some(Marked { offset, at_unix_ms });
        let expected = case.expect.map(|it| ReceiptDiff {
            room: agents(),
            epoch: Epoch::parse(&it.epoch).unwrap(),
            version: it.version,
            receipts: it
                .users
                .into_iter()
                .map(|(user, got, got_at, seen, seen_at)| Receipt {
                    user,
                    delivered: marked(got, got_at),
                    read: marked(seen, seen_at),
                })
                .collect(),
        });
        let found = codec().receipts(&keys, &agents(), case.text.as_bytes());
        assert_eq!(found, expected, "{}", case.name);
        assert_eq!(
            codec().presence(&keys, &agents(), case.text.as_bytes()).is_some(),
            case.name == "presence"
        );
        if case.name.contains("docs/RELAY.md") {
            assert!(page.contains(&case.text), "the page shows another text");
        }
    }
}

#[test]
fn receipts_with_another_byte_are_none() {
    let keys = keys_of(&["a relay key".to_owned()]);
    for case in cases::<ReceiptsCase>(RECEIPTS).into_iter().take(1) {
        let whole = case.text.as_bytes();
        assert!(codec().receipts(&keys, &agents(), whole).is_some());
        for place in 0..whole.len() {
            let mut changed = whole.to_vec();
            changed[place] ^= 1;
            assert_eq!(codec().receipts(&keys, &agents(), &changed), None, "byte {place}");
            assert_eq!(codec().receipts(&keys, &agents(), &whole[..place]), None, "cut at {place}");
        }
    }
}

#[test]
fn records_are_read_as_they_are_written() {
    let place = (any::<u128>(), 0..=OFFSET_MAX);
    let unacked = prop::option::of(0..=OFFSET_MAX);
    let one = ("[a-z]{1,9}-[a-zé部]{0,9}", prop::option::of(place), unacked);
    let all = vec(one, 0..20).prop_map(|rooms| {
        type One = (String, Option<(u128, u64)>, Option<u64>);
        let record = |(name, place, unacked): One| RoomRecord {
            room: RoomName::parse(&name).unwrap(),
            safe: place.map(|(epoch, offset)| Position { epoch: Epoch(epoch), offset }),
            unacked,
        };
        rooms.into_iter().map(record).collect::<Vec<_>>()
    });
    run(300, &(all.clone(), all), |(rooms, own)| {
        let record = SessionRecord { rooms, own };
        let mut bytes = Vec::new();
        codec().encode_record(&record, &mut bytes);
        assert_eq!(codec().decode_record(&bytes), Some(record));
    });
}

#[test]
fn no_bytes_panic() {
    run(2_000, &vec(any::<u8>(), 0..80), |bytes| {
        codec().decode_record(&bytes);
        let keys = keys_of(&["a relay key".to_owned()]);
        assert_eq!(codec().presence(&keys, &agents(), &bytes), None);
        assert_eq!(codec().receipts(&keys, &agents(), &bytes), None);
    });
}
