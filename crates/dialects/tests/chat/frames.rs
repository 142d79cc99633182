//! What is no request: keep-alives, events, acks, and what cannot be read; and the ids of requests.

use roomcast_dialects::chat::{CHAT, KEEP_ALIVE_CHARACTERS_MAX, RAW_BYTES_MAX, REQUEST_IDS_MAX};
use roomcast_protocol::codes::Refusal;
use roomcast_protocol::command::{Command, ReplyTo};
use roomcast_protocol::conversation::{Act, Saying};
use roomcast_protocol::dialect::{Dialect, Profile};
use roomcast_protocol::limits::LimitName;
use roomcast_protocol::position::OFFSET_MAX;
use serde_json::json;

use crate::common::{Client, DEPTH_MAX, converse, json_of, request};

#[test]
fn its_policies_are_those_of_its_page() {
    assert_eq!((CHAT.name(), CHAT.path()), ("chat", "/chat"));
    let expected = Profile {
        joins_own_rooms: true,
        ack_after_ms: 5_000,
        ack_tries: 0,
        silence_ms: 20_000,
        tells_gaps: false,
        tells_online: true,
        joins_groups: true,
        refuses_tokens_early: true,
        ..Profile::PLAIN
    };
    assert_eq!(*CHAT.profile(), expected);
}

#[test]
fn short_texts_and_binary_frames_keep_alive() {
    let mut client = Client::default();
    for text in ["", "\t", "ping", "{}", "12345", "ééééé", "😀😀😀😀😀"] {
        assert_eq!(client.says(text), Command::KeepAlive(None), "{text}");
    }
    for bytes in [&b""[..], b"\xff\xfe", b"a longer one", b"{\"type\":\"ack\",\"id\":1}"] {
        assert_eq!(client.frame(false, bytes), Command::KeepAlive(None));
    }
    assert_eq!(KEEP_ALIVE_CHARACTERS_MAX, 5);
    assert_eq!(client.says(&"é".repeat(5)), Command::KeepAlive(None));
    assert_eq!(client.refused(&"é".repeat(6)).1.refusal, Refusal::BadJson);
}

#[test]
fn acks_name_an_event_by_number_or_text() {
    let mut client = Client::default();
    for (id, offset) in [("23", 23), (r#""23""#, 23), ("1", 1), ("9007199254740991", OFFSET_MAX)] {
        let ack = format!(r#"{{"type":"ack","id":{id},"timestamp":1,"more":[]}}"#);
        assert_eq!(client.says(&ack), Command::AckEvent(offset));
    }
    for nothing in [r#"{"type":"ack"}"#, r#"{"type":"ack","id":null}"#] {
        assert_eq!(client.says(nothing), Command::AckEvent(0), "an event without an id");
    }
}

#[test]
fn an_ack_of_what_cannot_be_an_event_is_refused() {
    let mut client = Client::default();
    for id in ["0", "-1", "1.5", r#""""#, r#""abc""#, r#""+1""#, "[1]", "true", "9007199254740992"]
    {
        let ack = format!(r#"{{"type":"ack","id":{id}}}"#);
        let (reply, refused, raw) = client.refused(&ack);
        assert_eq!((reply, raw.as_deref()), (ReplyTo::default(), Some(ack.as_str())));
        assert_eq!(refused.message, "id must be a whole number from 1 to 9007199254740991");
        assert_eq!(refused.refusal, Refusal::Schema);
    }
}

#[test]
fn events_are_read_under_both_names_of_their_type() {
    let mut client = Client::default();
    for name in ["payloadType", "eventType"] {
        for (payload, content) in [
            (json!({"chatId": "User2"}), "{}"),
            (json!({"chatId": "User2", "stop": null, "more": 1}), "{}"),
            (json!({"chatId": "User2", "stop": true}), r#"{"stop":true}"#),
            (json!({"chatId": "User2", "stop": false}), r#"{"stop":false}"#),
        ] {
            // What would be a request's id says nothing here.
            let event = json!({"type": "event", "timestamp": 1, name: "typing", "id": "9", "payload": payload});
            let saying = Saying { kind: "typing".into(), id: None, content: json_of(content) };
            let expected = converse(None, "User2", Act::Signal(saying));
            assert_eq!(client.says(&event.to_string()), expected);
        }
        let event = json!({"type": "event", name: "offline"});
        assert_eq!(client.says(&event.to_string()), Command::Away);
    }
}

#[test]
fn events_that_cannot_be_read_say_what_is_wrong() {
    let mut client = Client::default();
    for (rest, message) in [
        (r#""payloadType":"typing""#, "payload is missing: an object"),
        (r#""payloadType":"typing","payload":1"#, "payload must be an object"),
        (
            r#""payloadType":"typing","payload":{}"#,
            "chatId is missing: the id of the user with whom you talk",
        ),
        (r#""payloadType":"typing","payload":{"chatId":1}"#, "chatId must be a string"),
        (
            r#""payloadType":"typing","payload":{"chatId":"a","stop":1}"#,
            "stop must be true or false",
        ),
        (r#""payloadType":"offline","payload":[]"#, "payload must be an object"),
        (r#""payloadType":"online""#, "payloadType of an event is `typing` or `offline`"),
        (r#""payloadType":7"#, "payloadType must be a string"),
        (r#""eventType":7"#, "eventType must be a string"),
        (r#""timestamp":"now","payloadType":"offline""#, "timestamp must be a number"),
        (r#""payload":{}"#, "payloadType is missing: `typing` or `offline`"),
    ] {
        let text = format!(r#"{{"type":"event","id":"1",{rest}}}"#);
        let (reply, refused, raw) = client.refused(&text);
        assert_eq!((reply.id, raw.as_deref()), (None, Some(text.as_str())));
        assert_eq!(refused.message, message);
    }
}

#[track_caller]
fn check_packet(text: &str, id: Option<&str>, refusal: Refusal, message: &str) {
    let (reply, refused, raw) = Client::default().refused(text);
    assert_eq!(reply, ReplyTo { id: id.map(Into::into), ..ReplyTo::default() }, "{text}");
    assert_eq!(raw.as_deref(), if id.is_none() { Some(text) } else { None }, "{text}");
    assert_eq!((refused.refusal, &*refused.message), (refusal, message), "{text}");
}

#[test]
fn packets_that_cannot_be_read_are_repeated_where_their_id_is_not_known() {
    let (schema, unknown) = (Refusal::Schema, Refusal::UnknownType);
    let object = "A message must be an object with a type";
    check_packet("[1,2,3]", None, schema, object);
    check_packet("\"a text\"", None, schema, object);
    let kinds = "type is missing: `request`, `event` or `ack`";
    check_packet(r#"{"a":1}"#, None, schema, kinds);
    check_packet(r#"{"id":"7"}"#, Some("7"), schema, kinds);
    check_packet(r#"{"id":7,"type":1}"#, Some("7"), schema, "type must be a string");
    let other = "type is `request`, `event` or `ack`";
    check_packet(r#"{"type":"response","id":"7"}"#, Some("7"), unknown, other);
    check_packet(r#"{"type":"nope"}"#, None, unknown, other);
    let id = "id is missing: a string or a number";
    check_packet(r#"{"type":"request"}"#, None, schema, id);
    check_packet(r#"{"type":"request","id":null}"#, None, schema, id);
    check_packet(r#"{"type":"request","id":""}"#, None, schema, id);
    check_packet(r#"{"type":"request","id":[]}"#, None, schema, "id must be a string or a number");
    let kind = "payloadType is missing: what is asked, such as `new`";
    check_packet(r#"{"type":"request","id":"7"}"#, Some("7"), schema, kind);
    check_packet(r#"{"type":"request","id":-1.5e3}"#, Some("-1.5e3"), schema, kind);
    let text = r#"{"type":"request","id":"7","payloadType":{}}"#;
    check_packet(text, Some("7"), schema, "payloadType must be a string");
    let text = r#"{"type":"request","id":"7","timestamp":"1","payloadType":"chats"}"#;
    check_packet(text, Some("7"), schema, "timestamp must be a number");
    let text = r#"{"type":"request","id":"7","payloadType":"like","payload":{}}"#;
    let kinds = "payloadType is `new`, `edit`, `delete`, `dlvrd`, `read`, `messages`, `chat`, `chats`, `newCall` or \
        `closeCall`";
    check_packet(text, Some("7"), unknown, kinds);
    let text = r#"{"type":"request","id":"7","payloadType":"chat","payload":"x"}"#;
    check_packet(text, Some("7"), schema, "payload must be an object");
    let text = r#"{"type":"request","id":"7","payloadType":"chat"}"#;
    check_packet(text, Some("7"), schema, "payload is missing: an object");
}

#[test]
fn what_is_not_json_is_told_with_the_parsers_text() {
    for text in ["not json at all", r#"{"type":"request""#, r#"{"type":"ack","id":1} {}"#] {
        let (reply, refused, raw) = Client::default().refused(text);
        assert_eq!((reply.id, raw.as_deref()), (None, Some(text)));
        assert_eq!(refused.refusal, Refusal::BadJson);
        assert!(refused.message.starts_with("The message is not JSON: "), "{refused:?}");
    }
    let half = r#"{"type":"request","id":"\ud800"}"#;
    assert_eq!(Client::default().refused(half).1.refusal, Refusal::BadJson);
}

#[test]
fn an_error_repeats_at_most_1024_bytes_and_no_half_character() {
    let raw_of = |text: &str| Client::default().refused(text).2.unwrap();
    let longest = "x".repeat(RAW_BYTES_MAX);
    assert_eq!(&*raw_of(&longest), longest);
    assert_eq!(&*raw_of(&format!("{longest}y")), longest, "one more is cut");
    let wide = "é".repeat(RAW_BYTES_MAX / 2);
    assert_eq!(&*raw_of(&format!("{wide}é")), wide);
    assert_eq!(raw_of(&format!("x{wide}")).len(), RAW_BYTES_MAX - 1);
}

#[test]
fn values_are_nested_up_to_the_limit() {
    let sent = |levels: usize| {
        let (open, close) = ("[".repeat(levels - 1), "]".repeat(levels - 1));
        format!(r#"{{"type":"request","id":"1","payloadType":"chats","more":{open}{close}}}"#)
    };
    let mut client = Client::default();
    assert!(matches!(client.says(&sent(DEPTH_MAX)), Command::Conversations(_)));
    let (_, refused, raw) = client.refused(&sent(DEPTH_MAX + 1));
    assert_eq!(refused.limit, Some((LimitName::Depth, 8)));
    assert_eq!(raw.as_deref(), Some(sent(DEPTH_MAX + 1).as_str()));
}

#[test]
fn an_id_is_at_most_255_bytes() {
    let sent = |id: &str| json!({"type": "request", "id": id, "payloadType": "chats"}).to_string();
    let longest = "i".repeat(255);
    let reply = ReplyTo { id: Some(longest.as_str().into()), ..ReplyTo::default() };
    assert_eq!(Client::default().says(&sent(&longest)), Command::Conversations(reply));
    let text = sent(&format!("{longest}i"));
    check_packet(&text, None, Refusal::Schema, "id must be at most 255 bytes");
    let digits = "7".repeat(256);
    let text = format!(r#"{{"type":"request","id":{digits},"payloadType":"chats"}}"#);
    check_packet(&text, None, Refusal::Schema, "id must be at most 255 bytes");
}

fn chat(id: &str, with: &str) -> String {
    request(id, "chat", &json!({"chatId": with}))
}

#[test]
fn an_id_that_comes_again_for_the_same_is_asked_again() {
    let mut client = Client::default();
    let first = client.says(&chat("1", "User2"));
    assert_eq!(first, converse(Some("1"), "User2", Act::Show));
    assert_eq!(client.says(&chat("1", "User2")), first);
    let later = chat("1", "User2").replace("\"timestamp\":1", "\"timestamp\":2");
    assert_ne!(later, chat("1", "User2"));
    assert_eq!(client.says(&later), first, "its time is no part of what it asks");
}

#[track_caller]
fn check_duplicate(client: &mut Client, text: &str) {
    let (reply, refused, raw) = client.refused(text);
    assert_eq!((reply.id.as_deref(), raw), (Some("1"), None), "{text}");
    assert_eq!(refused.refusal, Refusal::Duplicate);
    assert_eq!(refused.message, "Duplicate request id");
}

#[test]
fn an_id_that_comes_again_for_something_else_is_refused() {
    let mut client = Client::default();
    client.says(&chat("1", "User2"));
    check_duplicate(&mut client, &chat("1", "User3"));
    check_duplicate(&mut client, &request("1", "read", &json!({"chatId": "User2"})));
    check_duplicate(&mut client, &request("1", "nope", &json!({})));
    check_duplicate(&mut client, r#"{"type":"request","id":1}"#);
    assert_eq!(client.says(&chat("1", "User2")), converse(Some("1"), "User2", Act::Show));
    assert_eq!(client.says(&chat("2", "User3")), converse(Some("2"), "User3", Act::Show));
    let other = Client::default().says(&chat("1", "User3"));
    assert_eq!(other, converse(Some("1"), "User3", Act::Show), "another connection");
}

#[test]
fn an_id_is_used_once_its_request_could_be_read() {
    let mut client = Client::default();
    assert_eq!(client.refused(&request("1", "chat", &json!({}))).1.refusal, Refusal::Schema);
    assert_eq!(client.says(&chat("1", "User2")), converse(Some("1"), "User2", Act::Show));
    check_duplicate(&mut client, &request("1", "chat", &json!({})));
}

#[test]
fn the_newest_1024_ids_of_a_connection_are_remembered() {
    let mut client = Client::default();
    for id in 1..=REQUEST_IDS_MAX {
        client.says(&chat(&id.to_string(), "User2"));
    }
    check_duplicate(&mut client, &chat("1", "User3"));
    client.says(&chat("one more", "User2"));
    assert_eq!(client.says(&chat("1", "User3")), converse(Some("1"), "User3", Act::Show));
}
