//! The RoadRunner dialect against its vectors and its table: frames in, commands out; outbounds in, bytes out.

use bytes::Bytes;
use roomcast_dialects::roadrunner::{Alias, Brokers, RoadRunner, content};
use roomcast_protocol::codes::{Refusal, Refused};
use roomcast_protocol::command::{Command, ReplyTo, RoomsRequest, RoomsVerb, Unreadable};
use roomcast_protocol::content::Content;
use roomcast_protocol::dialect::{Dialect, Encoding};
use roomcast_protocol::frame::{Frame, FrameSink};
use roomcast_protocol::limits::{DecodeLimits, LimitName};
use roomcast_protocol::outbound::{Entry, Loss, Outbound};
use roomcast_protocol::publication::Publication;
use roomcast_protocol::room::RoomName;
use serde::Deserialize;

use crate::framing::unframed;

#[derive(Deserialize)]
struct Vectors {
    frames: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    send: Option<String>,
    publish: Option<Told>,
    expect: Option<String>,
    expect_denied: Option<String>,
}

#[derive(Deserialize)]
struct Told {
    topic: String,
    payload: String,
}

fn cases() -> Vec<Case> {
    let file = include_str!("../../vectors/roadrunner/roadrunner_ws.json");
    serde_json::from_str::<Vectors>(file).unwrap().frames
}

fn decode_by(dialect: &RoadRunner, text: bool, payload: &[u8]) -> Vec<Command> {
    let mut commands = Vec::new();
    let limits = DecodeLimits { depth_max: 8, ..DecodeLimits::default() };
    dialect.decoder(Encoding::Json, limits).decode(Frame { text, payload }, &mut commands).unwrap();
    commands
}

/// What a frame says, the same whichever kind it is.
#[track_caller]
fn decode(payload: &str) -> Vec<Command> {
    let commands = decode_by(&RoadRunner::default(), true, payload.as_bytes());
    assert_eq!(commands, decode_by(&RoadRunner::default(), false, payload.as_bytes()));
    commands
}

/// The payload of the one text frame that the outbound becomes, or nothing.
fn encode_by(dialect: &RoadRunner, outbound: &Outbound<'_>) -> Option<String> {
    let mut sink = FrameSink::new();
    dialect.encode(outbound, Encoding::Json, &mut sink);
    let (is_text, payload) = Some(sink.bytes()).filter(|it| !it.is_empty()).map(unframed)?;
    assert!(is_text);
    Some(String::from_utf8(payload.to_vec()).unwrap())
}

fn encode(outbound: &Outbound<'_>) -> Option<String> {
    encode_by(&RoadRunner::default(), outbound)
}

fn publication(room: &str, content: Content) -> Publication {
    Publication::bare(RoomName::parse(room).unwrap(), content)
}

/// What a client hears when its frame is granted, or denied.
#[track_caller]
fn answered(sent: &str, refused: Option<&Refused>) -> Option<String> {
    let commands = decode(sent);
    let mut answers = commands.iter().filter_map(|command| {
        if let Command::Rooms(request) = command {
            return encode(&Outbound::Rooms { request, refused });
        }
        let Command::Unreadable(Unreadable { reply, refused, .. }) = command else {
            panic!("{command:?}")
        };
        encode(&Outbound::Refused { reply, refused, raw: None })
    });
    let first = answers.next();
    assert_eq!(answers.next(), None);
    first
}

/// A payload that is no base64 is ignored, where the origin ignores its whole command.
const SUPERSET: (&str, &str) = (
    r#"{"command":"join","topics":["foo"],"payload":"not base64!"}"#,
    r#"{"topic":"@join","payload":["foo"]}"#,
);

#[test]
fn every_vector_is_met_byte_for_byte() {
    let denied = Refused::new(Refusal::PermissionDenied);
    let mut count = 0;
    for case in cases() {
        if let Some(sent) = &case.send {
            let expected = match sent == SUPERSET.0 {
                true => Some(SUPERSET.1.to_owned()),
                false => case.expect.clone(),
            };
            assert_eq!(answered(sent, None), expected, "{sent}");
            if case.expect_denied.is_some() {
                assert_eq!(answered(sent, Some(&denied)), case.expect_denied, "{sent}");
            }
        } else {
            let Told { topic, payload } = case.publish.as_ref().unwrap();
            let content = content(payload.clone().into(), DecodeLimits::default());
            let told = publication(topic, content);
            assert_eq!(encode(&Outbound::Publication(&told)), case.expect);
        }
        count += 1;
    }
    assert_eq!(count, 8);
}

/// Names and rooms of the one request that a frame makes.
#[track_caller]
fn check(dialect: &RoadRunner, sent: &str, verb: RoomsVerb, rooms: Result<&[&str], &str>) {
    let commands = decode_by(dialect, true, sent.as_bytes());
    let [Command::Rooms(request)] = &commands[..] else { panic!("{sent}: {commands:?}") };
    assert_eq!(request.verb, verb, "{sent}");
    let found = request.rooms.as_ref().map(|rooms| rooms.iter().map(|it| &**it).collect());
    let expected = rooms.map(<[&str]>::to_vec).map_err(ToOwned::to_owned);
    assert_eq!(found.map_err(|refused| refused.message.to_string()), expected, "{sent}");
}

#[test]
fn topics_are_rooms_as_they_are_named() {
    let plain = RoadRunner::default();
    let join = RoomsVerb::Join;
    check(
        &plain,
        r#"{"command":"join","topics":["foo","a b","\u00e9"]}"#,
        join,
        Ok(&["foo", "a b", "é"]),
    );
    check(
        &plain,
        r#" {"Command":"join","TOPICS":["x"],"Broker":"redis","more":[{}]} "#,
        join,
        Ok(&["x"]),
    );
    check(&plain, r#"{"command":"join","topics":["x"],"topics":["y"]}"#, join, Ok(&["y"]));
    check(&plain, r#"{"command":"leave","topics":[]}"#, RoomsVerb::Leave, Ok(&[]));
    for none in [r#"{"command":"join"}"#, r#"{"command":"join","topics":null,"broker":null}"#] {
        check(&plain, none, join, Ok(&[]));
        assert_eq!(answered(none, None).unwrap(), r#"{"topic":"@join","payload":[]}"#);
    }
}

#[test]
fn brokers_prefix_their_rooms_and_answers_repeat_what_was_sent() {
    let alias = |name: &str, prefix: &str| Alias { name: name.into(), prefix: prefix.into() };
    let brokers = Brokers::new("".into(), vec![alias("memory", ""), alias("shop", "shop-")]);
    let dialect = RoadRunner::new(brokers, false);
    let (join, leave) = (RoomsVerb::Join, RoomsVerb::Leave);
    let sent = r#"{"command":"join","broker":"shop","topics":["foo"]}"#;
    check(&dialect, sent, join, Ok(&["shop-foo"]));
    check(
        &dialect,
        r#"{"command":"leave","broker":"shop","topics":["a"]}"#,
        leave,
        Ok(&["shop-a"]),
    );
    check(&dialect, r#"{"command":"join","topics":["foo"]}"#, join, Ok(&["foo"]));
    let unknown = "There is no broker of that name";
    check(&dialect, r#"{"command":"join","broker":"x","topics":["foo"]}"#, join, Err(unknown));
    check(&dialect, r#"{"command":"leave","broker":"x","topics":["foo"]}"#, leave, Err(unknown));
    let other = "A topic of that name belongs to another broker";
    check(&dialect, r#"{"command":"join","topics":["a","shop-foo"]}"#, join, Err(other));

    let commands = decode_by(&dialect, true, sent.as_bytes());
    let [Command::Rooms(request)] = &commands[..] else { panic!("{commands:?}") };
    let answer = encode_by(&dialect, &Outbound::Rooms { request, refused: None });
    assert_eq!(answer.unwrap(), r#"{"topic":"@join","payload":["foo"]}"#);
    let told = publication("shop-foo", Content::Text("hi".into()));
    let heard = encode_by(&dialect, &Outbound::Publication(&told));
    assert_eq!(heard.unwrap(), r#"{"topic":"foo","payload":"hi"}"#);
    assert_eq!(dialect.brokers().topic("shop-foo"), "foo");
}

#[test]
fn refusals_are_answered_with_the_names_as_sent() {
    let refused = Refused::new(Refusal::BadName);
    for (sent, heard) in [
        (
            r#"{"command":"join","topics":["a","$b"]}"#,
            r##"{"topic":"#join","payload":["a","$b"]}"##,
        ),
        (r#"{"command":"leave","topics":["\"\n"]}"#, r##"{"topic":"#leave","payload":["\"\n"]}"##),
    ] {
        assert_eq!(answered(sent, Some(&refused)).unwrap(), heard);
    }
}

#[test]
fn what_is_no_command_is_counted_and_not_answered() {
    for (sent, refusal) in [
        ("not json", Refusal::BadJson),
        ("", Refusal::BadJson),
        ("[]", Refusal::BadJson),
        (r#"{"command":"join","topics":["#, Refusal::BadJson),
        (r#"{"command":"join","topics":["foo"]} {}"#, Refusal::BadJson),
        (r#"{"command":"nope","topics":["foo"]}"#, Refusal::UnknownType),
        (r#"{"command":"Join","topics":["foo"]}"#, Refusal::UnknownType),
        ("{}", Refusal::UnknownType),
        (r#"{"command":1}"#, Refusal::Schema),
        (r#"{"command":"join","broker":1}"#, Refusal::Schema),
        (r#"{"command":"join","topics":"foo"}"#, Refusal::Schema),
        (r#"{"command":"join","topics":["foo",1]}"#, Refusal::Schema),
        (r#"{"command":"join","topics":[null]}"#, Refusal::Schema),
    ] {
        let commands = decode(sent);
        let [Command::Unreadable(unreadable)] = &commands[..] else {
            panic!("{sent}: {commands:?}")
        };
        assert_eq!(unreadable.refused.refusal, refusal, "{sent}");
        assert_eq!(answered(sent, None), None, "{sent}");
    }
    let commands = decode_by(&RoadRunner::default(), false, b"{\"command\":\"join\xff\"}");
    assert!(matches!(&commands[..], [Command::Unreadable(_)]));
    assert_eq!(decode(r#"{"command":"headers"}"#), []);
}

#[test]
fn values_are_nested_up_to_the_limit() {
    let sent = |depth: usize| {
        let (open, close) = ("[".repeat(depth - 1), "]".repeat(depth - 1));
        decode(&format!(r#"{{"command":"join","topics":["a"],"more":{open}{close}}}"#))
    };
    assert!(matches!(&sent(8)[..], [Command::Rooms(_)]));
    let commands = sent(9);
    let [Command::Unreadable(unreadable)] = &commands[..] else { panic!("{commands:?}") };
    assert_eq!(unreadable.refused.limit, Some((LimitName::Depth, 8)));
}

#[track_caller]
fn check_told(content: Content, payload: &str) {
    let told = publication("foo", content);
    let expected = format!(r#"{{"topic":"foo","payload":{payload}}}"#);
    for outbound in [Outbound::Publication(&told), Outbound::Redelivered(&told)] {
        assert_eq!(encode(&outbound), Some(expected.clone()));
    }
}

#[test]
fn publications_of_every_kind_have_a_payload_that_is_a_string() {
    check_told(Content::Text("hello, PHP".into()), r#""hello, PHP""#);
    check_told(Content::Text("\"\\\n\u{1}é</".into()), r#""\"\\\n\u0001é</""#);
    check_told(Content::Text("".into()), r#""""#);
    let json = "{ \"b\" : 1.50 , \"a\" : [ \"x y\" , null ] }";
    check_told(Content::Json(json.into()), r#""{\"b\":1.50,\"a\":[\"x y\",null]}""#);
    check_told(Content::Json("12345678901234567890".into()), r#""12345678901234567890""#);
    check_told(Content::Binary(Bytes::from_static(b"\xff\xfe\x00bin")), r#""//4AYmlu""#);
}

#[test]
fn what_it_has_no_words_for_is_not_said() {
    let reply = ReplyTo::default();
    let entry = Entry { position: None, recovered: None, live: true };
    let refused = Refused::new(Refusal::RateLimit);
    for outbound in [
        Outbound::Pong { timestamp: None, unix_ms: 1 },
        Outbound::Joined { reply: &reply, room: "foo", entry },
        Outbound::Left { reply: &reply, room: "foo", ordered: false },
        Outbound::Refused { reply: &reply, refused: &refused, raw: None },
        Outbound::Refreshed { reply: &reply, expires_unix_ms: 1 },
        Outbound::TokenExpiring { expires_unix_ms: 1 },
        Outbound::Gap { room: None, loss: Loss::Feed },
        Outbound::Lost { room: "foo", count: 1 },
        Outbound::Degraded { isolated: true },
    ] {
        assert_eq!(encode(&outbound), None, "{outbound:?}");
    }
}

#[test]
fn payloads_of_back_ends_become_what_they_are() {
    let limits = DecodeLimits { depth_max: 3, ..DecodeLimits::default() };
    let of = |payload: &'static [u8]| content(Bytes::from_static(payload), limits);
    assert_eq!(of(b" {\"a\": 1}\n"), Content::Json("{\"a\": 1}".into()));
    for text in ["hello, PHP", "", "[1]", "1", "\"a\"", "{", "{} {}", "{\"a\":\"\\ud83d\"}"] {
        assert_eq!(of(text.as_bytes()), Content::Text(text.into()), "{text}");
    }
    assert_eq!(of(b"\xff\xfe\x00bin"), Content::Binary(Bytes::from_static(b"\xff\xfe\x00bin")));
    assert!(matches!(of(br#"{"a":[[]]}"#), Content::Json(_)), "nested up to the limit");
    assert!(matches!(of(br#"{"a":[[[]]]}"#), Content::Text(_)), "one deeper");
}

#[test]
fn a_request_is_encoded_from_what_it_says_alone() {
    let named: Vec<Box<str>> = vec!["a".into(), "a".into()];
    let rooms = Ok(named.clone());
    let request = RoomsRequest { verb: RoomsVerb::Leave, named, rooms };
    let heard = encode(&Outbound::Rooms { request: &request, refused: None });
    assert_eq!(heard.unwrap(), r#"{"topic":"@leave","payload":["a","a"]}"#);
}
