//! The relay's bytes under any input: nothing panics, what is written is read again, and no changed envelope passes.

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;
use roomcast_protocol::content::Content;
use roomcast_protocol::conversation::{Amends, Origin};
use roomcast_protocol::ids::SessionId;
use roomcast_protocol::position::{Epoch, OFFSET_MAX, Position};
use roomcast_protocol::publication::{Priority, Publication};
use roomcast_protocol::relay::{
    ClusterTime, RelayCodec, RelayFormat, RelayKeys, Relayed, Unreadable,
};
use roomcast_protocol::room::RoomName;
use serde_json::Value;

use crate::common::{ENVELOPES, OUTSIDERS, READING, cases, envelopes, keys_of};
use crate::running::run;

fn keys() -> RelayKeys {
    keys_of(&["one".to_owned(), "two".to_owned()])
}

fn encoded(format: RelayFormat, publication: &Publication, time: ClusterTime) -> Bytes {
    let mut out = Vec::new();
    envelopes(format).encode(&keys(), publication, time, &mut out);
    out.into()
}

/// Decodes twice, and shows that both times gave the same.
fn decode(room: &RoomName, payload: &Bytes, time: ClusterTime) -> Result<Relayed, Unreadable> {
    let codec = envelopes(RelayFormat::default());
    let found = codec.decode(&keys(), room, payload, time, 1);
    assert_eq!(found, codec.decode(&keys(), room, payload, time, 1));
    found
}

fn room() -> RoomName {
    RoomName::parse("agents").unwrap()
}

/// Reads what no key has signed.
fn unsigned(payload: Vec<u8>) -> Result<Relayed, Unreadable> {
    let found = decode(&room(), &payload.into(), ClusterTime::default());
    if let Ok(relayed) = &found {
        assert_eq!(relayed.published_us, None);
        assert_eq!(&*relayed.publication.sender, "external");
    }
    found
}

#[test]
fn what_is_encoded_is_decoded_the_same() {
    let time = (0..1_u64 << 60, -1_i64 << 40..1 << 40);
    run(1_500, &(publication(), time), |(publication, (now_us, ahead_ms))| {
        let time = ClusterTime { now_us, ahead_ms };
        for format in RelayFormat::ALL {
            let found = decode(&publication.room, &encoded(format, &publication, time), time);
            let expected = Relayed { publication: publication.clone(), published_us: Some(now_us) };
            assert_eq!(found, Ok(expected), "{format:?}");
        }
    });
}

#[test]
fn an_expiry_is_by_the_clock_of_the_node_that_reads_it() {
    run(
        500,
        &(publication(), -1_i64 << 30..1 << 30, -1_i64 << 30..1 << 30),
        |(sent, out, back)| {
            for format in RelayFormat::ALL {
                let here = ClusterTime { now_us: 1, ahead_ms: out };
                let there = ClusterTime { now_us: 2, ahead_ms: back };
                let found = decode(&sent.room, &encoded(format, &sent, here), there).unwrap();
                let moved = |at: u64| at.checked_add_signed(out - back).unwrap();
                assert_eq!(found.publication.expires_unix_ms, sent.expires_unix_ms.map(moved));
            }
        },
    );
}

#[test]
fn an_expiry_out_of_all_bounds_stays_at_the_end_of_time() {
    run(1, &publication(), |publication| {
        let by = |ahead_ms| ClusterTime { now_us: u64::MAX, ahead_ms };
        for format in RelayFormat::ALL {
            for (at, here, there, expected) in [
                (u64::MAX, i64::MAX, 0, u64::MAX),
                (u64::MAX, 0, i64::MIN, u64::MAX),
                (1, i64::MIN, 0, 0),
                (1, 0, i64::MAX, 0),
            ] {
                let sent = Publication { expires_unix_ms: Some(at), ..publication.clone() };
                let found = decode(&sent.room, &encoded(format, &sent, by(here)), by(there));
                assert_eq!(found.unwrap().publication.expires_unix_ms, Some(expected));
            }
        }
    });
}

#[test]
fn a_binary_envelope_with_another_byte_is_refused() {
    run(60, &(publication(), any::<u8>()), |(publication, change)| {
        let whole = encoded(RelayFormat::MessagePack, &publication, ClusterTime::default());
        for place in 0..whole.len() {
            let mut changed = whole.to_vec();
            changed[place] ^= change.max(1);
            let found = decode(&publication.room, &changed.into(), ClusterTime::default());
            let expected = match place {
                0 => Unreadable::Malformed,
                1 => Unreadable::Version,
                _ => Unreadable::Forged,
            };
            assert_eq!(found, Err(expected), "byte {place} of {}", whole.len());
            let cut = decode(&publication.room, &whole.slice(..place), ClusterTime::default());
            assert!(place == 0 || cut.is_err(), "cut off after {place}");
        }
    });
}

#[test]
fn a_json_envelope_with_another_byte_is_an_outsiders() {
    run(40, &publication(), |publication| {
        let whole = encoded(RelayFormat::Json, &publication, ClusterTime::default());
        for place in 0..whole.len() {
            let mut changed = whole.to_vec();
            changed[place] ^= 1;
            match decode(&publication.room, &changed.into(), ClusterTime::default()) {
                Ok(relayed) => assert_eq!(
                    (relayed.published_us, &*relayed.publication.sender),
                    (None, "external"),
                    "byte {place}"
                ),
                Err(why) => assert!(why == Unreadable::Malformed || why == Unreadable::TooLarge),
            }
        }
    });
}

#[test]
fn an_envelope_of_one_room_says_nothing_in_another() {
    run(100, &publication(), |publication| {
        let other = RoomName::parse(&format!("{}x", publication.room)).unwrap();
        let payload = encoded(RelayFormat::MessagePack, &publication, ClusterTime::default());
        assert_eq!(decode(&other, &payload, ClusterTime::default()), Err(Unreadable::Forged));
        let payload = encoded(RelayFormat::Json, &publication, ClusterTime::default());
        let found = decode(&other, &payload, ClusterTime::default());
        assert!(found.is_err() || found.is_ok_and(|it| it.published_us.is_none()));
    });
}

#[test]
fn any_bytes_are_read_without_a_panic() {
    run(3_000, &vec(any::<u8>(), 0..200), |bytes| {
        let mut marked = vec![0xc1, 1];
        marked.extend_from_slice(&bytes);
        assert!(unsigned(marked).is_err());
        let wrong = std::str::from_utf8(&bytes).is_err();
        assert_eq!(unsigned(bytes).is_err(), wrong);
    });
}

#[test]
fn any_text_is_read_without_a_panic() {
    run(2_000, &any::<String>(), |text| {
        assert!(unsigned(text.clone().into_bytes()).is_ok());
        for hash in ["\"}}", ",\"hash\":\"\"}}", ",\"hash\":\"0123456789abcdef\"}}"] {
            assert!(unsigned(format!("{{{text}{hash}").into_bytes()).is_ok());
        }
    });
}

#[test]
fn any_fields_of_an_outsider_are_read_without_a_panic() {
    let name = prop::sample::select(vec!["id", "type", "data", "timestamp", "sender", "room", "x"]);
    let inner = prop::sample::select(vec!["priority", "ttl", "requires", "correlation_id", "hash"]);
    let fields = (vec((name, json()), 0..6), prop::option::of(vec((inner, json()), 0..4)));
    run(2_000, &fields, |(fields, metadata)| {
        let object = |members: Vec<(&str, Value)>| {
            members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect::<Value>()
        };
        let mut message = object(fields);
        if message.is_null() || message.as_array().is_some() {
            message = serde_json::json!({});
        }
        if let Some(metadata) = metadata {
            message["metadata"] = object(metadata);
        }
        if let Ok(relayed) = unsigned(message.to_string().into_bytes()) {
            let Content::Json(content) = &relayed.publication.content else { panic!("no JSON") };
            let expected = message.get("data").unwrap_or(&message);
            assert_eq!(&serde_json::from_slice::<Value>(content).unwrap(), expected);
        }
    });
}

#[test]
fn signed_nonsense_is_read_without_a_panic() {
    // A node of another version, or one gone mad: the hash is right, the body is anything.
    run(3_000, &(any::<bool>(), vec(any::<u8>(), 0..120)), |(array, bytes)| {
        let mut signed = vec![0; 32];
        signed.extend(array.then_some(0x9b));
        signed.extend_from_slice(&bytes);
        let hash = keys().sign("agents", &[&[1], &signed]);
        let payload: Bytes = [&[0xc1, 1], &hash[..], &signed].concat().into();
        if let Err(why) = decode(&room(), &payload, ClusterTime::default()) {
            assert_eq!(why, Unreadable::Malformed);
        }
        let text = [br#"{"id":"#, &bytes[..], b"}}"].concat();
        let hash = u64::from_be_bytes(keys().sign("agents", &[&text]));
        let cut = &text[..text.len() - 2];
        let payload = [cut, format!(",\"hash\":\"{hash:016x}\"}}}}").as_bytes()].concat();
        assert_eq!(
            decode(&room(), &payload.into(), ClusterTime::default()),
            Err(Unreadable::Malformed)
        );
    });
}

#[test]
fn a_signed_origin_of_nonsense_is_read_without_a_panic() {
    let before = [0xa1, b'a', 0xc0, 0xa1, b'c', 7];
    run(3_000, &(0_usize..7, vec(any::<u8>(), 0..60)), |(kept, bytes)| {
        let origin = [&[0x99][..], &before[..kept.min(before.len())], &bytes].concat();
        let texts = [0x9d, 0xa0, 0xa0, 0xa0, 0xa0, 0, 0xc4, 2, b'{', b'}'];
        let mut signed = [&[0; 32][..], &texts, &[0xc0; 6]].concat();
        signed.extend([0xc4, u8::try_from(origin.len()).unwrap()]);
        signed.extend(origin);
        let hash = keys().sign("agents", &[&[1], &signed]);
        let payload: Bytes = [&[0xc1, 1], &hash[..], &signed].concat().into();
        match decode(&room(), &payload, ClusterTime::default()) {
            Ok(relayed) => assert_eq!(relayed.publication.origin.unwrap().room.as_str(), "a"),
            Err(why) => assert_eq!(why, Unreadable::Malformed),
        }
    });
}

#[test]
fn damaged_payloads_of_the_vectors_are_read_without_a_panic() {
    for case in [ENVELOPES, READING, OUTSIDERS].into_iter().flat_map(cases) {
        let payload = case.payload();
        let step = payload.len() / 60 + 1;
        for place in (0..payload.len()).step_by(step) {
            let mut flipped = payload.to_vec();
            flipped[place] ^= 1 << (place % 8);
            for bytes in [flipped.into(), payload.slice(..place)] {
                if let Ok(found) = decode(&case.room(), &bytes, case.time()) {
                    assert_eq!(found.published_us, None, "{}", case.name);
                }
            }
        }
    }
}

fn json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
        prop::sample::select(vec!["high", "note", "gap", "2024-01-15T10:30:00Z"])
            .prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 8, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..8).prop_map(Value::from),
            prop::collection::btree_map(any::<String>(), inner, 0..8)
                .prop_map(|members| members.into_iter().collect()),
        ]
    })
}

/// Names of rooms.
const ROOM: &str = "[a-z]{1,9}-[a-zé部]{0,9}";

fn text(most: usize) -> impl Strategy<Value = String> {
    vec(any::<char>(), 0..most).prop_map(|it| it.into_iter().collect::<String>())
}

fn origin() -> impl Strategy<Value = Origin> {
    let place = (any::<u128>(), 1..=OFFSET_MAX);
    let amends = (any::<u64>(), text(60), any::<bool>());
    let number = || prop::option::of(any::<u32>());
    let marks = (any::<u64>(), number(), prop::option::of(any::<u128>()), number());
    let parts = (ROOM, prop::option::of(place), text(60), marks, prop::option::of(amends));
    parts.prop_map(|(room, place, id, (at_unix_ms, unread, said_in, group), amends)| Origin {
        room: RoomName::parse(&room).unwrap(),
        position: place.map(|(epoch, offset)| Position { epoch: Epoch(epoch), offset }),
        id: id.into(),
        at_unix_ms,
        unread,
        said_in: said_in.map(SessionId),
        amends: amends.map(|(offset, id, erases)| Amends { offset, id: id.into(), erases }),
        group,
    })
}

fn publication() -> impl Strategy<Value = Publication> {
    let content = prop_oneof![
        json().prop_map(|value| Content::Json(value.to_string().into())),
        text(300).prop_map(|text| Content::Text(text.into())),
        vec(any::<u8>(), 0..300).prop_map(|bytes| Content::Binary(Bytes::from(bytes))),
    ];
    let names = (text(60), text(20), text(40), text(60), prop::option::of(text(60)));
    let limits = (
        prop::option::of(prop::sample::select(Priority::ALL.to_vec())),
        prop::option::of(any::<u32>()),
        // Far enough from both ends for the clocks of these tests.
        prop::option::of(1_u64 << 42..1 << 62),
    );
    let requires = (vec(text(20).prop_map(String::into_boxed_str), 0..20), any::<bool>());
    let rest = (requires, prop::option::of(origin()));
    (ROOM, names, content, limits, rest).prop_map(|(room, names, content, limits, rest)| {
        let (id, kind, timestamp, sender, correlation_id) = names;
        let (priority, ttl_s, expires_unix_ms) = limits;
        let ((requires, requires_ack), origin) = rest;
        Publication {
            room: RoomName::parse(&room).unwrap(),
            id: id.into(),
            kind: kind.into(),
            timestamp: timestamp.into(),
            sender: sender.into(),
            content,
            priority,
            ttl_s,
            expires_unix_ms,
            correlation_id: correlation_id.map(Into::into),
            requires,
            requires_ack,
            isolated: false,
            origin: origin.map(Box::new),
            position: None,
            put_under: None,
        }
    })
}
