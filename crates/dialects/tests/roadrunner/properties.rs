//! The RoadRunner dialect under any input: nothing panics, and names and payloads survive.

use proptest::collection::vec;
use proptest::prelude::*;
use roomcast_dialects::roadrunner::{Alias, Brokers, RoadRunner, content};
use roomcast_protocol::command::Command;
use roomcast_protocol::content::Content;
use roomcast_protocol::dialect::{Dialect, Encoding};
use roomcast_protocol::frame::{Frame, FrameSink};
use roomcast_protocol::limits::DecodeLimits;
use roomcast_protocol::outbound::Outbound;
use roomcast_protocol::publication::Publication;
use roomcast_protocol::room::RoomName;
use serde_json::Value;

use crate::framing::unframed;
use crate::running::run;

fn decode(payload: &[u8]) -> Vec<Command> {
    let mut commands = Vec::new();
    let dialect = RoadRunner::default();
    let mut decoder = dialect.decoder(Encoding::Json, DecodeLimits::default());
    decoder.decode(Frame { text: false, payload }, &mut commands).unwrap();
    assert!(commands.len() <= 1, "a frame is one command at most");
    commands
}

fn encode(outbound: &Outbound<'_>) -> Value {
    let mut sink = FrameSink::new();
    RoadRunner::default().encode(outbound, Encoding::Json, &mut sink);
    serde_json::from_slice(unframed(sink.bytes()).1).unwrap()
}

#[test]
fn any_bytes_are_decoded_without_a_panic() {
    run(2_000, &vec(any::<u8>(), 0..200), |bytes| {
        assert_eq!(decode(&bytes), decode(&bytes));
        let whole = content(bytes.clone().into(), DecodeLimits::default());
        let (Content::Json(kept) | Content::Text(kept) | Content::Binary(kept)) = &whole;
        assert!(kept.len() <= bytes.len());
    });
}

#[test]
fn any_command_is_answered_with_the_names_that_it_had() {
    let verb = prop::sample::select(vec!["join", "leave", "headers", "nope"]);
    let strategy = (verb, vec(any::<String>(), 0..5), any::<String>(), any::<String>());
    run(1_000, &strategy, |(verb, topics, broker, payload)| {
        let sent = serde_json::json!({
            "command": verb, "topics": topics, "broker": broker, "payload": payload,
        });
        let commands = decode(sent.to_string().as_bytes());
        for command in &commands {
            if let Command::Rooms(request) = command {
                let heard = encode(&Outbound::Rooms { request, refused: None });
                assert_eq!(heard["topic"], format!("@{verb}"));
                assert_eq!(heard["payload"], sent["topics"]);
            }
        }
        let is_rooms = matches!(&commands[..], [Command::Rooms(_)]);
        assert_eq!(is_rooms, verb == "join" || verb == "leave");
    });
}

#[test]
fn any_text_is_heard_as_it_was_published() {
    run(1_000, &any::<String>(), |text| {
        let content = Content::Text(text.clone().into());
        let told = Publication::bare(RoomName::parse("foo").unwrap(), content);
        let heard = encode(&Outbound::Publication(&told));
        assert_eq!(heard, serde_json::json!({"topic": "foo", "payload": text}));
    });
}

#[test]
fn any_json_is_heard_compact_and_means_the_same() {
    let member = (any::<String>(), any::<String>(), any::<i64>());
    run(500, &vec(member, 0..5), |members| {
        let object: Value = members
            .into_iter()
            .map(|(name, text, number)| (name, serde_json::json!([text, number, {"x": null}])))
            .collect::<serde_json::Map<_, _>>()
            .into();
        let pretty = serde_json::to_string_pretty(&object).unwrap();
        let content = content(pretty.into(), DecodeLimits::default());
        assert!(matches!(content, Content::Json(_)));
        let told = Publication::bare(RoomName::parse("foo").unwrap(), content);
        let heard = encode(&Outbound::Publication(&told));
        assert_eq!(heard["payload"], object.to_string());
    });
}

#[test]
fn a_room_has_one_topic_and_a_topic_one_room_whatever_the_prefixes() {
    let name = "[ab]{0,4}";
    let aliases = vec((prop::sample::select(vec!["m", "n", "o"]), name), 0..4);
    run(2_000, &(name, aliases, name, name), |(default_prefix, aliases, topic, other)| {
        let aliases = aliases
            .into_iter()
            .map(|(name, prefix)| Alias { name: name.into(), prefix: prefix.into() });
        let brokers = Brokers::new(default_prefix.into(), aliases.collect());
        for broker in ["", "m", "n", "o"] {
            let (room, another) = (brokers.room(broker, &topic), brokers.room(broker, &other));
            if let Ok(room) = &room {
                assert_eq!(brokers.topic(room), topic);
            }
            if let (Ok(room), Ok(another)) = (room, another) {
                assert_eq!(room == another, topic == other);
            }
        }
    });
}
