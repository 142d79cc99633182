//! The chat dialect under any input: nothing panics, and what is said is one frame of JSON.

use std::sync::Arc;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use roomcast_dialects::chat::RAW_BYTES_MAX;
use roomcast_protocol::codes::{Refusal, Refused};
use roomcast_protocol::command::{Command, ReplyTo, Unreadable};
use roomcast_protocol::content::Content;
use roomcast_protocol::conversation::{Act, Amends, Answered, Conversation, Message, Origin};
use roomcast_protocol::outbound::Outbound;
use roomcast_protocol::publication::Publication;
use roomcast_protocol::receipts::Mark;
use roomcast_protocol::room::RoomName;
use serde_json::Value;

use crate::common::{Client, answer, at, heard};
use crate::running::run;

fn parse(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// What a client is told of a text that cannot be read is JSON, and names its id or repeats it.
fn check_unreadable(sent: &str, unreadable: &Unreadable) {
    let Unreadable { reply, refused, authenticates, raw } = unreadable;
    assert_eq!((raw.is_none(), *authenticates), (reply.id.is_some(), false), "{sent}");
    let outbound = Outbound::Refused { reply, refused, raw: raw.as_deref() };
    let told = parse(&heard(&outbound).unwrap());
    if let Some(raw) = raw {
        assert!(raw.len() <= RAW_BYTES_MAX && sent.starts_with(&**raw));
        assert_eq!(told["error"]["incomingMessage"], **raw);
    }
    assert_eq!(told["error"]["exception"], *refused.message);
}

fn check_said(sent: &str) {
    let (first, second) = (Client::default().says(sent), Client::default().says(sent));
    assert_eq!(first, second, "{sent}");
    if let Command::Unreadable(unreadable) = &first {
        check_unreadable(sent, unreadable);
    }
    if let Command::Converse(converse) = &first {
        assert_eq!(converse.reply.room.as_deref(), Some(&*converse.with));
        check_contents(&converse.act);
    }
}

/// What is said further is a JSON object or null.
fn check_contents(act: &Act) {
    let contents = match act {
        Act::Say(saying) | Act::Signal(saying) | Act::Amend { saying, .. } => vec![saying],
        Act::Tell { told, said, .. } => [Some(told), said.as_ref()].into_iter().flatten().collect(),
        Act::Mark { .. } | Act::Messages { .. } | Act::Show => vec![],
    };
    for saying in contents {
        let Content::Json(json) = &saying.content else { panic!("{saying:?}") };
        let value: Value = serde_json::from_slice(json).unwrap();
        assert!(value.is_object() || value.is_null(), "{saying:?}");
    }
}

#[test]
fn any_bytes_are_decoded_without_a_panic() {
    run(3_000, &(any::<bool>(), vec(any::<u8>(), 0..200)), |(text, bytes)| {
        let command = Client::default().frame(text, &bytes);
        assert_eq!(command, Client::default().frame(text, &bytes));
    });
}

#[test]
fn any_text_is_decoded_without_a_panic_and_answered_in_json() {
    run(2_000, &"\\PC{0,40}|[{}\\[\\]\":,a-z0-9\\\\ ]{0,60}", |text| check_said(&text));
}

/// Values that fields may have, and such as they may not.
fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (0_u64..600).prop_map(Value::from),
        "[a-z0-9]{0,4}|\\PC{0,6}".prop_map(Value::from),
        prop::sample::select(vec!["video", "User2", "7"]).prop_map(Value::from),
    ];
    leaf.prop_recursive(2, 8, 3, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..3).prop_map(Value::from),
            vec(("[a-zA-Z]{1,6}", inner), 0..3).prop_map(Value::from_iter),
        ]
    })
}

const FIELDS: [&str; 20] = [
    "chatId",
    "message",
    "clientMessageId",
    "attachments",
    "replyTo",
    "forwarded",
    "originalMessageId",
    "originalClientMessageId",
    "messageId",
    "startId",
    "endId",
    "count",
    "stop",
    "callId",
    "userId",
    "userIdCreateCall",
    "participantsInvited",
    "participantsConnected",
    "callType",
    "callDuration",
];

fn packet() -> impl Strategy<Value = String> {
    let types = prop::sample::select(vec!["request", "event", "ack", "nope"]);
    let kinds = prop::sample::select(vec![
        "new",
        "edit",
        "delete",
        "dlvrd",
        "read",
        "messages",
        "chat",
        "chats",
        "newCall",
        "closeCall",
        "typing",
        "offline",
        "nope",
    ]);
    let payload = vec((prop::sample::select(FIELDS.to_vec()), value()), 0..12);
    (types, kinds, value(), payload).prop_map(|(kind, asked, id, payload)| {
        let mut members = serde_json::Map::new();
        members.insert("chatId".into(), "User2".into());
        members.extend(payload.into_iter().map(|(name, value)| (name.to_owned(), value)));
        let packet = serde_json::json!({
            "type": kind, "timestamp": 1, "id": id, "payloadType": asked, "payload": members,
        });
        packet.to_string()
    })
}

#[test]
fn any_packet_is_decoded_without_a_panic_and_answered_in_json() {
    run(5_000, &packet(), |text| check_said(&text));
}

#[test]
fn whole_packets_cut_anywhere_are_answered_in_json() {
    run(1_000, &(packet(), any::<prop::sample::Index>()), |(text, at)| {
        let cut = text.floor_char_boundary(at.index(text.len()));
        check_said(&text[..cut]);
    });
}

fn content() -> impl Strategy<Value = Content> {
    let names = "[a-z]{1,4}|\\PC{0,3}|chatId|message|attachments|caller|participants|missed|status";
    prop_oneof![
        value().prop_map(|value| Content::Json(value.to_string().into())),
        vec((names, value()), 0..6)
            .prop_map(|members| Content::Json(Value::from_iter(members).to_string().into())),
        any::<String>().prop_map(|text| Content::Text(text.into())),
        vec(any::<u8>(), 0..40).prop_map(|bytes| Content::Binary(bytes.into())),
    ]
}

fn room() -> impl Strategy<Value = RoomName> {
    let names = [
        "news",
        "user-User1",
        "user-User2",
        "user-a%b",
        "dialog-User1:User2",
        "dialog-a%25b:c",
        "dialog-",
    ];
    prop::sample::select(names.to_vec()).prop_map(|name| RoomName::parse(name).unwrap())
}

fn origin() -> impl Strategy<Value = Origin> {
    let amends = (1_u64..9, any::<String>(), any::<bool>())
        .prop_map(|(offset, id, erases)| Amends { offset, id: id.into(), erases });
    let parts = (
        room(),
        option::of(1_u64..9),
        any::<String>(),
        option::of(any::<u32>()),
        option::of(amends),
    );
    parts.prop_map(|(room, offset, id, unread, amends)| Origin {
        position: offset.map(at),
        id: id.into(),
        unread,
        amends,
        ..Origin::of(room, 7)
    })
}

fn publications() -> impl Strategy<Value = Publication> {
    let kinds = "new|edit|delete|delivered|read|typing|call|newCall|message|\\PC{0,8}";
    let times = "2024-01-15T10:30:00Z|\\PC{0,8}";
    let origin = option::of(origin().prop_map(Box::new));
    let parts =
        (room(), kinds, times, "User1|User2|\\PC{0,8}", content(), origin, option::of(1_u64..9));
    parts.prop_map(|(room, kind, timestamp, sender, content, origin, offset)| Publication {
        kind: kind.into(),
        timestamp: timestamp.into(),
        sender: sender.into(),
        id: "c".into(),
        origin,
        position: offset.map(at),
        ..Publication::bare(room, content)
    })
}

#[test]
fn any_publication_is_one_event_of_json() {
    run(3_000, &publications(), |publication| {
        let told = heard(&Outbound::Publication(&publication)).unwrap();
        assert_eq!(heard(&Outbound::Redelivered(&publication)).unwrap(), told);
        let told = parse(&told);
        assert_eq!(told["type"], "event");
        assert!(told["timestamp"].is_u64() && told["payload"].is_object(), "{told}");
        let is_own = publication.room.as_str().starts_with("user-");
        let id = publication.position.filter(|_| is_own).map(|position| position.offset);
        assert_eq!(told.get("id").and_then(Value::as_u64), id);
        assert!(told["payload"].get("chatId").is_some(), "{told}");
    });
}

fn messages() -> impl Strategy<Value = Message> {
    let mark = option::of(prop::sample::select(Mark::ALL.to_vec()));
    let parts = (publications(), option::of(publications()), option::of(any::<u64>()), mark);
    parts.prop_map(|(said, edited, erased_unix_ms, mark)| Message {
        said: Arc::new(said),
        edited: edited.map(Arc::new),
        erased_unix_ms,
        mark,
    })
}

#[test]
fn any_answer_is_one_response_of_json() {
    let chats = (any::<bool>(), option::of(messages()), any::<String>(), any::<u32>());
    run(1_000, &(vec(messages(), 0..4), chats), |(list, (one, last, with, unread))| {
        let count = list.len();
        let told = parse(&answer("r", "User1", &Answered::Messages(list), 9));
        assert_eq!(told["payload"]["messages"].as_array().unwrap().len(), count);
        let chat = Conversation {
            with: with.as_str().into(),
            people: vec![with.as_str().into()],
            last,
            unread,
            first_unread: None,
            group: false,
            owners: Vec::new(),
            online: None,
            seen_unix_ms: None,
        };
        let told =
            parse(&answer(&with, "User1", &Answered::Conversations { one, list: vec![chat] }, 9));
        let chat = if one { &told["payload"] } else { &told["payload"][0] };
        assert_eq!(
            (&told["id"], &chat["chatId"]),
            (&Value::from(with.clone()), &Value::from(with))
        );
        assert_eq!(chat["missed"], unread);
    });
}

#[test]
fn any_refusal_is_one_error_of_json() {
    let texts = (option::of(any::<String>()), option::of(any::<String>()), any::<String>());
    let refusals = prop::sample::select(Refusal::ALL.to_vec());
    run(1_000, &(texts, refusals), |((id, raw, message), refusal)| {
        let reply = ReplyTo { id: id.clone().map(Into::into), ..ReplyTo::default() };
        let refused = Refused::because(refusal, message.clone().into());
        let outbound = Outbound::Refused { reply: &reply, refused: &refused, raw: raw.as_deref() };
        let told = parse(&heard(&outbound).unwrap());
        assert_eq!(told["error"]["exception"], message);
        assert_eq!(told["error"].get("id").and_then(Value::as_str), id.as_deref());
    });
}
