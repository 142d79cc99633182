//! The RPC protocol against what the origin's clients and servers said, byte for byte and in both directions.

use std::collections::BTreeMap;

use roomcast_dialects::goridge::{
    BadFrame, Call, Codec, Frame, Message, Publish, Reply, Services, flags,
};
use serde::Deserialize;

use crate::common::{ALL, Case, FILES, cases, each_frame, from_hex, served};

/// What cannot be met as it was captured: it came from a stub that had other services and errors of its own.
const STUBS: [&str; 7] = [
    "method_error",
    "unknown_service",
    "publish_json_codec",
    "json_codec_bad_base64",
    "pipelined_two",
    "publish(\"notok\",\"x\") -> server answers Response{} (ok=false) -> BroadcastException \"An error occurred while publishing message\"",
    "publish(\"binary\",\"x\") -> server answers ERROR frame -> ServiceException \"Error '<text>' on tcp://host:port\"",
];

fn all() -> impl Iterator<Item = Case> {
    FILES.into_iter().flat_map(cases)
}

#[track_caller]
fn case(name: &str) -> Case {
    all().find(|case| case.name.starts_with(name)).unwrap_or_else(|| panic!("no vector {name}"))
}

/// The only frame of these bytes, shown to `see`.
#[track_caller]
fn only<T>(bytes: &[u8], mut see: impl FnMut(&Frame<'_>) -> T) -> T {
    let mut found = Vec::new();
    assert_eq!(each_frame([bytes], |frame| found.push(see(frame))), None);
    assert_eq!(found.len(), 1);
    found.pop().unwrap()
}

fn publish(frame: &Frame<'_>) -> Publish {
    match Call::read(frame, ALL) {
        Call::Publish(publish) => publish,
        Call::Refused { text, .. } => panic!("{}", String::from_utf8_lossy(&text)),
    }
}

#[test]
fn every_call_is_answered_as_the_origin_answered_it() {
    let mut count = 0;
    for case in all().filter(|case| !STUBS.contains(&case.name.as_str())) {
        let expected = case.response();
        match served(&case.request(), ALL) {
            Ok(found) => assert_eq!(found, expected, "{}", case.name),
            Err(_) => assert!(expected.is_empty(), "{} is dropped", case.name),
        }
        count += 1;
    }
    assert_eq!(count + STUBS.len(), 14 + 6 + 45);
}

#[test]
fn every_frame_is_written_as_it_was_read() {
    let mut count = 0;
    for case in all() {
        for bytes in [case.request(), case.response()] {
            let mut written = Vec::new();
            match each_frame([&*bytes], |frame| frame.write(&mut written)) {
                // The bits of streams, which mean nothing in a call, are not kept.
                None if case.name.starts_with("stream bit") => {}
                None => assert_eq!(written, bytes, "{}", case.name),
                Some(bad) => assert!(written.is_empty(), "{}: {bad:?}", case.name),
            }
            count += 1;
        }
    }
    assert_eq!(count, 130);
}

#[test]
fn malformed_streams_are_dropped_without_an_answer() {
    for (name, bad) in [("bad_crc", BadFrame::Crc), ("no_options", BadFrame::Options)] {
        assert_eq!(served(&case(name).request(), ALL), Err(bad));
        assert!(case(name).response().is_empty());
    }
}

#[test]
fn the_publications_of_the_captured_calls_are_read() {
    let message = |topics: &[&str], payload: &'static [u8]| Message {
        broker: "".into(),
        topics: topics.iter().map(|topic| (*topic).into()).collect(),
        payload: payload.into(),
    };
    let expected: BTreeMap<&str, Vec<Message>> = [
        ("publish_one", vec![message(&["foo"], b"hello, PHP")]),
        ("publish_two", vec![message(&["foo", "foo2"], b"a"), message(&["foo", "foo2"], b"b")]),
        ("publish_empty_payload", vec![message(&["foo"], b"")]),
        // The service's name tells the schema, and `broadcast` has that without a broker.
        ("publish_legacy_beta_proto", vec![message(&["memory"], b"foo2")]),
        ("publish_flags_proto_only", vec![message(&["foo"], b"hello, PHP")]),
        ("empty_body", vec![]),
        ("publish(\"foo\",\"hello", vec![message(&["foo"], b"hello, PHP")]),
        (
            "publish([\"foo\"",
            vec![message(&["foo", "foo2"], b"a"), message(&["foo", "foo2"], b"b")],
        ),
        ("join(\"topic-1\")", vec![message(&["topic-1"], b"hello")]),
        ("publish(\"foo\", bytes", vec![message(&["foo"], b"\xff\xfe\x00bin")]),
    ]
    .into();
    for (name, messages) in expected {
        let found = only(&case(name).request(), publish);
        assert_eq!(found.messages, messages, "{name}");
        assert!(found.wait);
    }
}

#[test]
fn the_old_service_reads_the_old_schema() {
    let found = only(&case("publish_legacy_beta_proto").request(), |frame| {
        publish(&Frame { method: b"websockets.Publish", ..*frame })
    });
    let expected = Message {
        broker: "memory".into(),
        topics: vec!["foo".into(), "foo2".into()],
        payload: "hello, PHP".into(),
    };
    assert_eq!(found.messages, [expected]);
}

/// Answers a captured call as the stub did.
#[track_caller]
fn check_stub(name: &str, answer: impl Fn(&Reply<'_>, &mut Vec<u8>)) {
    let case = case(name);
    let found = only(&case.request(), |frame| {
        let reply = Reply { seq: frame.seq, codec: Codec::of(frame.flags), method: frame.method };
        let mut out = Vec::new();
        answer(&reply, &mut out);
        out
    });
    assert_eq!(found, case.response(), "{name}");
}

#[test]
fn answers_of_stubs_are_written_with_their_bytes() {
    let boom = b"broadcast_publish: boom";
    check_stub("method_error", |reply, out| reply.write_error(boom, out));
    check_stub("publish(\"binary\"", |reply, out| reply.write_error(boom, out));
    check_stub("publish(\"notok\"", |reply, out| reply.write(false, out));
    check_stub("publish_json_codec", |reply, out| reply.write(true, out));
    let unknown = only(&case("method_error").request(), |frame| match Call::read(frame, ALL) {
        Call::Refused { text, .. } => text,
        Call::Publish(publish) => panic!("{publish:?}"),
    });
    assert_eq!(unknown, b"rpc: can't find method broadcast.Fail");
}

#[test]
fn bodies_of_the_json_service_are_read_under_the_name_that_is_served() {
    let read = |name: &str| {
        only(&case(name).request(), |frame| {
            let Call::Publish(publish) =
                Call::read(&Frame { method: b"broadcast.Publish", ..*frame }, ALL)
            else {
                return Err(());
            };
            Ok(publish.messages)
        })
    };
    let expected =
        Message { broker: "".into(), topics: vec!["foo".into()], payload: "hello".into() };
    assert_eq!(read("publish_json_codec"), Ok(vec![expected]));
    check_stub("json_codec_bad_base64", |reply, out| {
        let request = case("json_codec_bad_base64").request();
        let text = only(&request, |frame| {
            match Call::read(&Frame { method: b"broadcast.Publish", ..*frame }, ALL) {
                Call::Refused { text, .. } => text,
                Call::Publish(publish) => panic!("{publish:?}"),
            }
        });
        reply.write_error(&text, out);
    });
}

#[test]
fn a_service_that_is_switched_off_is_unknown() {
    let case = case("unknown_service");
    let off = Services { websockets: false };
    assert_eq!(served(&case.request(), off), Ok(case.response()));
    assert!(matches!(only(&case.request(), publish), Publish { wait: true, .. }));
}

#[test]
fn pipelined_calls_are_answered_in_their_order() {
    let case = case("pipelined_two");
    let found = served(&case.request(), ALL).unwrap();
    let mut seqs = Vec::new();
    assert_eq!(each_frame([&*found], |frame| seqs.push(frame.seq)), None);
    assert_eq!(seqs, [1, 2]);
    assert!(found.ends_with(&case.response()), "the captured answer is the second one");
}

#[test]
fn the_captured_connection_of_the_php_client_gets_its_captured_answers() {
    let calls = cases(FILES[1]);
    let stream: Vec<u8> = calls.iter().flat_map(Case::request).collect();
    let mut out = Vec::new();
    let bad = each_frame(stream.chunks(7), |frame| {
        let Publish { reply, messages, .. } = publish(frame);
        // What the stub behind that client did.
        match &*messages[0].topics[0] {
            "notok" => reply.write(false, &mut out),
            "binary" => reply.write_error(b"broadcast_publish: boom", &mut out),
            _ => reply.write(true, &mut out),
        }
    });
    assert_eq!(bad, None);
    assert_eq!(out, calls.iter().flat_map(Case::response).collect::<Vec<u8>>());
}

#[derive(Deserialize)]
struct Bodies {
    bodies: Vec<Body>,
}

#[derive(Deserialize)]
struct Body {
    body_hex: String,
    refused: Option<String>,
    #[serde(default)]
    messages: Vec<BodyMessage>,
}

#[derive(Deserialize)]
struct BodyMessage {
    topics: Vec<Box<str>>,
    payload_hex: String,
}

#[test]
fn bodies_mean_what_another_library_reads_in_them() {
    let file = include_str!("../../vectors/goridge/bodies.json");
    let bodies = serde_json::from_str::<Bodies>(file).unwrap().bodies;
    assert_eq!(bodies.len(), 250);
    for Body { body_hex, refused, messages } in bodies {
        let body = from_hex(&body_hex);
        let method = b"broadcast.Publish";
        let found = Call::read(&Frame { flags: flags::PROTO, seq: 1, method, body: &body }, ALL);
        let text = match refused.as_deref() {
            None => {
                let Call::Publish(found) = found else { panic!("{body_hex} is refused") };
                // Topics without a name are skipped, and messages without topics.
                let named = messages.into_iter().map(|it| Message {
                    broker: "".into(),
                    topics: it.topics.into_iter().filter(|topic| !topic.is_empty()).collect(),
                    payload: from_hex(&it.payload_hex).into(),
                });
                let named: Vec<_> = named.filter(|it| !it.topics.is_empty()).collect();
                assert_eq!(found.messages, named, "{body_hex}");
                continue;
            }
            Some("utf8") => "string field contains invalid UTF-8",
            Some(_) => "cannot parse invalid wire-format data",
        };
        let Call::Refused { text: found, .. } = found else { panic!("{body_hex} is read") };
        assert!(String::from_utf8(found).unwrap().ends_with(text), "{body_hex}");
    }
}
