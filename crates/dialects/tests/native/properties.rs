//! The native dialect under any input: decoding never panics and always gives the same, and what is encoded can be
//! decoded again.

use crate::common::{FILES, frames, limits, read, show};
use crate::framing::unframed;
use crate::running::run;
use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;
use roomcast_dialects::native::{NATIVE, publish_from_json};
use roomcast_protocol::codes::Close;
use roomcast_protocol::command::Command;
use roomcast_protocol::content::Content;
use roomcast_protocol::dialect::{Dialect, Encoding};
use roomcast_protocol::frame::{Frame, FrameSink};
use roomcast_protocol::limits::DecodeLimits;
use roomcast_protocol::outbound::Outbound;
use roomcast_protocol::publication::{Priority, Publication};
use roomcast_protocol::room::RoomName;
use serde_json::Value;

const ENCODINGS: [Encoding; 4] =
    [Encoding::Json, Encoding::JsonDeflated, Encoding::MessagePack, Encoding::MessagePackDeflated];

fn decode(encoding: Encoding, text: bool, payload: &[u8]) -> Result<Vec<Command>, Close> {
    let mut commands = Vec::new();
    let limits = DecodeLimits { depth_max: 32, ..limits() };
    NATIVE.decoder(encoding, limits).decode(Frame { text, payload }, &mut commands)?;
    Ok(commands)
}

/// Decodes in every way there is, twice, and shows that both times gave the same.
fn decode_every_way(payload: &[u8]) {
    for encoding in ENCODINGS {
        for text in [true, false] {
            let found = decode(encoding, text, payload);
            assert_eq!(found, decode(encoding, text, payload));
            for command in found.into_iter().flatten() {
                let shown = show(&command);
                assert!(!shown.is_empty());
            }
        }
    }
    let published = publish_from_json(payload, limits());
    assert_eq!(published, publish_from_json(payload, limits()));
}

#[test]
fn any_bytes_are_decoded_without_a_panic() {
    run(2_000, &vec(any::<u8>(), 0..200), |bytes| decode_every_way(&bytes));
}

#[test]
fn any_json_is_decoded_without_a_panic() {
    run(1_000, &json(), |value| {
        decode_every_way(value.to_string().as_bytes());
        decode_every_way(&rmp_serde::to_vec(&value).unwrap());
    });
}

#[test]
fn any_fields_are_decoded_without_a_panic() {
    let name = prop::sample::select(vec![
        "id",
        "room",
        "data",
        "metadata",
        "timestamp",
        "sender",
        "token",
        "compressed",
        "messages",
        "since",
        "ackId",
        "requiresAck",
        "agent_id",
        "status",
    ]);
    let kind = prop::sample::select(vec![
        "auth",
        "refresh",
        "ping",
        "subscribe",
        "unsubscribe",
        "batch",
        "compressed",
        "ack",
        "agent_status",
        "task_progress",
        "alert_triggered",
        "metrics_update",
        "note",
    ]);
    let metadata = prop::sample::select(vec!["priority", "ttl", "requires", "correlation_id"]);
    let fields = (kind, vec((name, json()), 0..5), prop::option::of(vec((metadata, json()), 0..3)));
    run(2_000, &fields, |(kind, fields, metadata)| {
        let object = |members: Vec<(&str, Value)>| {
            members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect::<Value>()
        };
        let mut message = object(fields);
        message["type"] = kind.into();
        if let Some(metadata) = metadata {
            message["metadata"] = object(metadata);
        }
        decode_every_way(message.to_string().as_bytes());
        decode_every_way(&rmp_serde::to_vec(&message).unwrap());
    });
}

#[test]
fn damaged_frames_of_the_vectors_are_decoded_without_a_panic() {
    let pako: Value =
        serde_json::from_str(include_str!("../../vectors/sysmanage_compressed.json")).unwrap();
    let mut corpus: Vec<Vec<u8>> = FILES
        .iter()
        .flat_map(|file| read(file).cases)
        .flat_map(|case| frames(&case))
        .map(|(_, payload)| payload)
        .collect();
    for frame in ["frame_pako_1", "frame_pako_2"] {
        let frame = pako[frame].as_str().unwrap();
        corpus.push(frame.into());
        corpus.push(crate::common::to_msgpack(frame));
    }
    for frame in corpus {
        // Every place of the small frames, every fifth of the others, so that debug builds stay quick.
        let step = if frame.len() > 120 { 5 } else { 1 };
        for place in (0..frame.len()).step_by(step) {
            damaged(&frame[..place]);
            let mut flipped = frame.clone();
            flipped[place] ^= 1 << (place % 8);
            damaged(&flipped);
        }
    }
}

fn damaged(payload: &[u8]) {
    for encoding in [Encoding::Json, Encoding::MessagePack] {
        match decode(encoding, false, payload) {
            Ok(commands) => assert!(commands.len() <= 4, "{commands:?}"),
            Err(close) => assert_eq!(close, Close::TooLarge),
        }
    }
}

#[test]
fn what_is_encoded_can_be_decoded_again() {
    run(1_500, &publication(), |publication| {
        for encoding in ENCODINGS {
            let mut sink = FrameSink::new();
            NATIVE.encode(&Outbound::Publication(&publication), encoding, &mut sink);
            let (text, payload) = unframed(sink.bytes());
            let mut commands = Vec::new();
            NATIVE
                .decoder(encoding, DecodeLimits::default())
                .decode(Frame { text, payload }, &mut commands)
                .unwrap();
            let [Command::Publish(publish)] = &commands[..] else { panic!("{commands:?}") };
            assert_eq!(*publish.room, *publication.room.as_str());
            assert_eq!(publish.kind, publication.kind);
            assert_eq!(publish.id.as_ref(), Some(&publication.id));
            assert_eq!(publish.timestamp.as_ref(), Some(&publication.timestamp));
            assert_eq!(publish.sender.as_ref(), Some(&publication.sender));
            assert_eq!(publish.priority, publication.priority);
            assert_eq!(publish.ttl_s, publication.ttl_s);
            assert_eq!(publish.correlation_id, publication.correlation_id);
            same_content(&publish.content, &publication.content);
        }
    });
}

/// Text and bytes come back as the JSON they leave as.
fn same_content(found: &Content, sent: &Content) {
    let Content::Json(found) = found else { panic!("{found:?}") };
    let found: Value = serde_json::from_slice(found).unwrap();
    match sent {
        Content::Json(json) => assert_eq!(found, serde_json::from_slice::<Value>(json).unwrap()),
        Content::Text(text) => assert_eq!(found, *std::str::from_utf8(text).unwrap()),
        Content::Binary(bytes) => {
            use base64::Engine;
            let base64 = base64::engine::general_purpose::STANDARD.encode(bytes);
            assert_eq!(found, serde_json::json!({"base64": base64}));
        }
    }
}

fn json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        // Few enough digits for serde_json, which reads long ones a bit off.
        (-(1 << 30)..1 << 30).prop_map(|n: i32| Value::from(f64::from(n) / 16.0)),
        any::<String>().prop_map(Value::from),
        prop::sample::select(vec!["high", "x", "agents", "h.p.s"]).prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 64, 20, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..20).prop_map(Value::from),
            prop::collection::btree_map(any::<String>(), inner, 0..20)
                .prop_map(|members| members.into_iter().collect()),
        ]
    })
}

fn publication() -> impl Strategy<Value = Publication> {
    let content = prop_oneof![
        json().prop_map(|value| Content::Json(value.to_string().into())),
        vec(any::<char>(), 0..2_000)
            .prop_map(|text| Content::Text(text.into_iter().collect::<String>().into())),
        vec(any::<u8>(), 0..3_000).prop_map(|bytes| Content::Binary(Bytes::from(bytes))),
    ];
    let name = || vec(any::<char>(), 1..60).prop_map(|name| name.into_iter().collect::<String>());
    let priority = prop::option::of(prop::sample::select(Priority::ALL.to_vec()));
    let ttl_s = prop::option::of(1_u32..);
    let names = (name(), name(), name(), prop::option::of(name()), "[a-z]{1,9}-[a-zé部]{0,9}");
    (content, names, priority, ttl_s).prop_map(|(content, names, priority, ttl_s)| {
        let (id, kind, sender, correlation_id, room) = names;
        Publication {
            room: RoomName::parse(&room).unwrap(),
            id: id.into(),
            // No type of the seed or of the protocol begins so.
            kind: format!("own.{kind}").into(),
            timestamp: "2024-01-15T10:30:00.000Z".into(),
            sender: sender.into(),
            content,
            priority,
            ttl_s,
            expires_unix_ms: None,
            correlation_id: correlation_id.map(Into::into),
            requires: Vec::new(),
            requires_ack: false,
            isolated: false,
            origin: None,
            position: None,
            put_under: None,
        }
    })
}
