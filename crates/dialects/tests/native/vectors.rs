//! The native dialect against its vectors: frames in, commands out; outbounds in, bytes out.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::common::{FILES, frames, limits, read, show, to_msgpack};
use bytes::Bytes;
use roomcast_dialects::native::{NATIVE, publish_from_json};
use roomcast_protocol::codes::{Close, Refusal, Refused};
use roomcast_protocol::command::{Command, ReplyTo};
use roomcast_protocol::content::Content;
use roomcast_protocol::conversation::{Amends, Origin};
use roomcast_protocol::dialect::{Dialect, Encoding};
use roomcast_protocol::envelope::{Accepted, Level};
use roomcast_protocol::frame::{Frame, FrameSink};
use roomcast_protocol::guard::{Kind, Principal};
use roomcast_protocol::ids::SessionId;
use roomcast_protocol::limits::{DecodeLimits, LimitName};
use roomcast_protocol::outbound::{Entry, Loss, Outbound, ResumeOffer, SkipReason, SkipReasons};
use roomcast_protocol::position::{
    Direction, Epoch, Head, Kept, OFFSET_MAX, Page, Position, Unrecovered,
};
use roomcast_protocol::presence::{PresenceDiff, PresenceMode, RosterPage};
use roomcast_protocol::publication::{Priority, Publication};
use roomcast_protocol::receipts::{Marked, Receipt, ReceiptDiff, ReceiptsPage};
use roomcast_protocol::request::Response;
use roomcast_protocol::room::RoomName;
use roomcast_protocol::session::{ResumeToken, Secret, Unattached};
use roomcast_protocol::texts::Texts;
use serde::Deserialize;
use serde_json::Value;

#[track_caller]
fn check(encoding: Encoding, name: &str, text: bool, payload: &[u8], expected: &[String]) {
    let mut commands = Vec::new();
    NATIVE
        .decoder(encoding, limits())
        .decode(Frame { text, payload }, &mut commands)
        .unwrap_or_else(|close| panic!("{name}: closed with {close:?}"));
    let found: Vec<String> = commands.iter().map(show).collect();
    assert_eq!(found, expected, "{name}, {encoding:?}");
}

#[test]
fn every_frame_of_the_vectors_means_what_they_say() {
    let mut count = 0;
    for file in FILES {
        for case in read(file).cases {
            for (encoding, payload) in frames(&case) {
                let text = encoding == Encoding::Json;
                check(encoding, &case.name, text, &payload, &case.expect);
                if text {
                    let name = format!("{}, in a binary frame", case.name);
                    check(encoding, &name, false, &payload, &case.expect);
                }
                count += 1;
            }
        }
    }
    assert!(count > 150, "only {count} frames were read");
}

#[derive(Deserialize)]
struct Pako {
    plain: String,
    frame_pako_1: String,
    frame_pako_2: String,
}

fn pako() -> Pako {
    serde_json::from_str(include_str!("../../vectors/sysmanage_compressed.json")).unwrap()
}

fn decode(encoding: Encoding, payload: &[u8], limits: DecodeLimits) -> Result<Vec<String>, Close> {
    let mut commands = Vec::new();
    NATIVE
        .decoder(encoding, limits)
        .decode(Frame { text: encoding == Encoding::Json, payload }, &mut commands)?;
    Ok(commands.iter().map(show).collect())
}

#[test]
fn both_forms_of_pako_are_inflated() {
    let pako = pako();
    let plain = decode(Encoding::Json, pako.plain.as_bytes(), DecodeLimits::default()).unwrap();
    assert_eq!(
        plain,
        ["refused 101 Unknown message type, or a publication without its room for=x"]
    );
    for frame in [&pako.frame_pako_1, &pako.frame_pako_2] {
        let found = decode(Encoding::Json, frame.as_bytes(), DecodeLimits::default()).unwrap();
        assert_eq!(found, plain);
        let packed = to_msgpack(frame);
        let found = decode(Encoding::MessagePack, &packed, DecodeLimits::default()).unwrap();
        assert_eq!(found, plain);
    }
    let small = DecodeLimits { inflated_bytes_max: 1_000, ..DecodeLimits::default() };
    let closed = decode(Encoding::Json, pako.frame_pako_1.as_bytes(), small);
    assert_eq!(closed, Err(Close::TooLarge));
}

/// A `compressed` message as pako 1.x would send it.
fn compressed(plain: &str) -> String {
    let bytes = crate::common::deflate(plain.as_bytes());
    let characters: String = bytes.into_iter().map(char::from).collect();
    format!(r#"{{"type":"compressed","data":{}}}"#, serde_json::to_string(&characters).unwrap())
}

#[test]
fn a_compressed_message_may_be_a_batch_and_stand_in_one() {
    let batch = r#"{"type":"batch","messages":[{"type":"ping"},{"type":"pong"}]}"#;
    let found = decode(Encoding::Json, compressed(batch).as_bytes(), limits()).unwrap();
    assert_eq!(found, ["keep-alive"]);
    let ping = compressed(r#"{"type":"ping","timestamp":3}"#);
    let outer = format!(r#"{{"type":"batch","messages":[{ping},{ping}]}}"#);
    let found = decode(Encoding::Json, outer.as_bytes(), limits()).unwrap();
    assert_eq!(found, ["keep-alive 3", "keep-alive 3"]);
    let nested = format!(r#"{{"type":"batch","messages":[{}]}}"#, compressed(batch));
    let found = decode(Encoding::Json, nested.as_bytes(), limits()).unwrap();
    assert_eq!(found, ["refused 102 A batch cannot hold another batch"]);
}

#[test]
fn compressed_within_compressed_is_refused() {
    let inner = compressed(r#"{"type":"ping"}"#);
    let found = decode(Encoding::Json, compressed(&inner).as_bytes(), limits()).unwrap();
    assert_eq!(found, ["refused 102 A compressed message cannot hold another one"]);
    let batch = format!(r#"{{"type":"batch","messages":[{inner}]}}"#);
    let found = decode(Encoding::Json, compressed(&batch).as_bytes(), limits()).unwrap();
    assert_eq!(found, ["refused 102 A compressed message cannot hold another one"]);
}

#[test]
fn what_a_frame_inflates_to_is_capped_altogether() {
    let half = format!(r#"{{"type":"note","room":"a","data":"{}"}}"#, "x".repeat(2_100));
    assert!(decode(Encoding::Json, compressed(&half).as_bytes(), limits()).is_ok());
    let message = compressed(&half);
    let batch = format!(r#"{{"type":"batch","messages":[{message},{message}]}}"#);
    assert_eq!(decode(Encoding::Json, batch.as_bytes(), limits()), Err(Close::TooLarge));
}

#[test]
fn inflated_text_is_checked_like_any_other() {
    let deep = format!("{}{}", "[".repeat(9), "]".repeat(9));
    let found = decode(Encoding::Json, compressed(&deep).as_bytes(), limits()).unwrap();
    assert_eq!(found, ["refused 103 The limit json_depth is 8 limit=json_depth:8"]);
    let frame = format!(r#"{{"type":"compressed","data":{}}}"#, {
        let characters: String =
            crate::common::deflate(b"\"\xff\"").into_iter().map(char::from).collect();
        serde_json::to_string(&characters).unwrap()
    });
    let found = decode(Encoding::Json, frame.as_bytes(), limits()).unwrap();
    assert_eq!(found, ["refused 100 The message is not UTF-8 when inflated, as JSON must be"]);
}

#[test]
fn frames_of_the_wrong_kind_are_refused() {
    check(
        Encoding::MessagePack,
        "text on MessagePack",
        true,
        br#"{"type":"ping"}"#,
        &["refused 100 This connection speaks MessagePack: send binary frames".to_owned()],
    );
    check(
        Encoding::Json,
        "bytes that are no text",
        false,
        b"\xff",
        &["refused 100 The message is not UTF-8, as JSON must be".to_owned()],
    );
}

#[test]
fn names_and_ids_are_at_most_255_bytes() {
    let fits = "é".repeat(127);
    let long = "é".repeat(128);
    for (before, after) in [
        (r#"{"room":"a","type":""#, r#""}"#),
        (r#"{"type":"ping","id":""#, r#""}"#),
        (r#"{"type":"ping","metadata":{"correlation_id":""#, r#""}}"#),
        (r#"{"type":"note","room":"a","sender":""#, r#""}"#),
        (r#"{"type":"ack","ackId":""#, r#""}"#),
        (r#"{"type":"ack","data":{"ackId":""#, r#""}}"#),
        (r#"{"type":"ping","timestamp":""#, r#""}"#),
    ] {
        let found = |text: &str| {
            let frame = format!("{before}{text}{after}");
            decode(Encoding::Json, frame.as_bytes(), limits()).unwrap().remove(0)
        };
        assert!(!found(&fits[..252]).starts_with("refused"), "{before}");
        assert!(found(&long).contains("must be at most 255 bytes"), "{before}");
        assert!(!found(&long).contains('é'), "{before}");
    }
}

#[test]
fn a_room_too_long_for_a_name_is_not_sent_back() {
    let frame = format!(r#"{{"type":"subscribe","data":{{"room":"{}"}}}}"#, "r".repeat(256));
    let mut commands = Vec::new();
    let mut decoder = NATIVE.decoder(Encoding::Json, limits());
    decoder.decode(Frame { text: true, payload: frame.as_bytes() }, &mut commands).unwrap();
    let [Command::Join(request)] = &commands[..] else { panic!("{commands:?}") };
    assert_eq!((request.room.len(), &request.reply.room), (256, &None));
}

#[test]
fn data_is_kept_as_it_came() {
    for data in [r#"{ "b" : 1.0,"a":1e2, "b":-0.0 }"#, "12345678901234567890123", r#""\u00e9\/""#] {
        let frame = format!(r#"{{"type":"note","room":"a","data": {data} }}"#);
        let mut commands = Vec::new();
        let mut decoder = NATIVE.decoder(Encoding::Json, limits());
        decoder.decode(Frame { text: true, payload: frame.as_bytes() }, &mut commands).unwrap();
        let [Command::Publish(publish)] = &commands[..] else { panic!("{commands:?}") };
        assert_eq!(publish.content, Content::Json(Bytes::copy_from_slice(data.as_bytes())));
    }
}

#[test]
fn the_api_takes_publications_and_nothing_else() {
    let publish =
        |body: &[u8]| publish_from_json(body, limits()).map_err(|refused| refused.refusal);
    let published = publish(br#"{"type":"note","room":"a","sender":"job","data":[1]}"#).unwrap();
    assert_eq!(
        show(&Command::Publish(Box::new(published))),
        "publish note into a sender=job data=[1]"
    );
    for (body, refusal) in [
        (&b"{\"type\":\"note\""[..], Refusal::BadJson),
        (b"\xff", Refusal::BadJson),
        (b"[]", Refusal::Schema),
        (br#"{"room":"a"}"#, Refusal::Schema),
        (br#"{"type":"note"}"#, Refusal::UnknownType),
        (br#"{"type":"ping"}"#, Refusal::UnknownType),
        (br#"{"type":"batch","messages":[]}"#, Refusal::UnknownType),
        (br#"{"type":"agent_status","room":"agents","data":{}}"#, Refusal::Schema),
        (b"[[[[[[[[[[]]]]]]]]]]", Refusal::TooLarge),
    ] {
        assert_eq!(publish(body), Err(refusal), "{}", String::from_utf8_lossy(body));
    }
}

#[derive(Deserialize)]
struct Answers {
    cases: BTreeMap<String, Answer>,
}

#[derive(Deserialize)]
struct Answer {
    json: String,
    msgpack: String,
}

fn payload(outbound: &Outbound<'_>, encoding: Encoding) -> Vec<u8> {
    let mut sink = FrameSink::new();
    NATIVE.encode(outbound, encoding, &mut sink);
    let (text, payload) = crate::framing::unframed(sink.bytes());
    let json = matches!(encoding, Encoding::Json | Encoding::JsonDeflated);
    assert_eq!(text, json);
    payload.to_vec()
}

#[track_caller]
fn check_answer(name: &str, outbound: &Outbound<'_>) {
    let answers: Answers =
        serde_json::from_str(include_str!("../../vectors/native/answers.json")).unwrap();
    let json = String::from_utf8(payload(outbound, Encoding::Json)).unwrap();
    let packed = payload(outbound, Encoding::MessagePack);
    let oracle: Value = rmp_serde::from_slice(&packed).unwrap();
    assert_eq!(oracle, serde_json::from_str::<Value>(&json).unwrap(), "{name}");
    let hex: String = packed.iter().map(|byte| format!("{byte:02x}")).collect();
    let Some(expected) = answers.cases.get(name) else {
        panic!("no vector {name}: {}", serde_json::json!({"json": json, "msgpack": hex}));
    };
    assert_eq!(json, expected.json, "{name}");
    assert_eq!(hex, expected.msgpack, "{name}");
    // Small answers are never deflated.
    assert_eq!(payload(outbound, Encoding::JsonDeflated), json.as_bytes(), "{name}");
    assert_eq!(payload(outbound, Encoding::MessagePackDeflated), packed, "{name}");
}

fn reply(id: Option<&str>, room: Option<&str>) -> ReplyTo {
    ReplyTo { id: id.map(Into::into), room: room.map(Into::into), part: false }
}

fn entry(recovered: Option<Result<(), Unrecovered>>) -> Entry {
    Entry { position: None, recovered, live: true }
}

const POSITION: Position =
    Position { epoch: Epoch(0x0123_4567_89ab_cdef_0011_2233_4455_6677), offset: 7 };

fn publication(content: Content) -> Publication {
    Publication {
        room: RoomName::parse("agents").unwrap(),
        id: "p-1".into(),
        kind: "note".into(),
        timestamp: "2024-01-15T10:30:00.000Z".into(),
        sender: "u\"1".into(),
        content,
        priority: None,
        ttl_s: None,
        expires_unix_ms: None,
        correlation_id: None,
        requires: vec!["audit".into()],
        requires_ack: false,
        isolated: false,
        origin: None,
        position: None,
        put_under: None,
    }
}

/// Of the conversation alone.
fn origin() -> Origin {
    Origin {
        unread: Some(3),
        said_in: Some(SessionId(7)),
        amends: Some(Amends { offset: 6, id: "c-6".into(), erases: true }),
        ..Origin::of(RoomName::parse("dialog-7:8").unwrap(), 1_705_314_600_000)
    }
}

fn user() -> Principal {
    Principal {
        kind: Kind::User,
        realm: "".into(),
        id: "user-7".into(),
        permissions: ["view_system", "view_agents"].into(),
        roles: Texts::default(),
        teams: Texts::default(),
        agent_id: None,
        expires_unix_ms: 0,
        issued_unix_ms: 0,
        token_id: "".into(),
        claims: "{}".into(),
    }
}

#[test]
fn a_welcome_is_flat() {
    let who = &user();
    let session = SessionId(0xab);
    check_answer("welcome", &Outbound::Welcome { who, session, resume: None, resumed: None });
}

const TOKEN: ResumeToken = ResumeToken { session: SessionId(0xab), secret: Secret(0xf) };

#[test]
fn a_welcome_says_how_to_come_back_and_what_became_of_that() {
    let who = &user();
    let session = SessionId(0xab);
    let resume = Some(ResumeOffer { token: TOKEN, window_ms: 120_000 });
    let welcome = |resumed| Outbound::Welcome { who, session, resume, resumed };
    check_answer("welcome with a way back", &welcome(None));
    check_answer("welcome back", &welcome(Some(Ok(()))));
    for why in Unattached::ALL {
        let name = format!("welcome, not resumed: {}", why.name());
        check_answer(&name, &welcome(Some(Err(why))));
    }
}

#[test]
fn turns_to_go_and_what_an_inbox_lost_are_told() {
    check_answer("drain", &Outbound::Drain { turn_ms: 5_000, token: TOKEN });
    check_answer("lost", &Outbound::Lost { room: "user-7", count: 3 });
}

#[test]
fn presence_tells_users_or_their_number_alone() {
    let diff = PresenceDiff {
        room: RoomName::parse("agents").unwrap(),
        version: POSITION,
        count: 2,
        joined: vec!["user-8".into()],
        left: vec!["user-\"9".into()],
    };
    let told = |mode| Outbound::Presence { diff: &diff, mode };
    check_answer("presence, members", &told(PresenceMode::Members));
    check_answer("presence, count", &told(PresenceMode::Count));
    let to = reply(Some("p"), Some("agents"));
    let (reply, room) = (&to, "agents");
    let page = |count, users: &[&str], more| RosterPage {
        version: POSITION,
        count,
        users: users.iter().map(|&user| user.into()).collect(),
        more,
    };
    for (name, page, mode) in [
        ("roster, more", page(3, &["user-7", "user-8"], true), PresenceMode::Members),
        ("roster, the end", page(3, &["user-9"], false), PresenceMode::Members),
        ("roster of nobody", page(0, &[], false), PresenceMode::Members),
        ("roster, count", page(3, &["user-7"], true), PresenceMode::Count),
    ] {
        check_answer(name, &Outbound::Roster { reply, room, page: &page, mode });
    }
}

#[test]
fn receipts_are_answered_and_told() {
    let marked = |offset, at_unix_ms| Some(Marked { offset, at_unix_ms });
    let receipt = |user: &str, delivered, read| Receipt { user: user.into(), delivered, read };
    let to = reply(Some("r"), Some("team-7"));
    let (reply, room, epoch) = (&to, "team-7", POSITION.epoch);
    let (first, second) = (1_705_314_600_000, 1_705_314_601_250);
    for (name, receipt) in [
        ("mark, read", receipt("user-7", None, marked(41, first))),
        ("mark, both", receipt("user-\"7", marked(42, second), marked(41, first))),
        ("mark, of nothing", receipt("user-7", marked(0, 0), None)),
    ] {
        check_answer(name, &Outbound::Marked { reply, room, epoch, receipt: &receipt });
    }
    let receipts = vec![
        receipt("user-7", marked(41, first), None),
        receipt("user-8", marked(42, second), marked(41, first)),
    ];
    let diff = ReceiptDiff {
        room: RoomName::parse(room).unwrap(),
        epoch,
        version: 10,
        receipts: receipts.clone(),
    };
    check_answer("receipts, told", &Outbound::Receipts(&diff));
    for (name, receipts, next) in [
        ("receipts, more", receipts, Some("user-8".into())),
        ("receipts of nobody", Vec::new(), None),
    ] {
        let page = ReceiptsPage { head: POSITION, version: 9, receipts, next };
        check_answer(name, &Outbound::ReceiptsPage { reply, room, page: &page });
    }
}

#[test]
fn a_publication_that_requires_an_ack_says_so_and_comes_again() {
    let mut placed = publication(Content::Json("7".into()));
    placed.position = Some(POSITION);
    placed.requires_ack = true;
    check_answer("publication that requires an ack", &Outbound::Publication(&placed));
    check_answer("publication once more", &Outbound::Redelivered(&placed));
}

#[test]
fn what_a_client_has_covered_names_as_many_rooms_as_fit() {
    let covered = |count: usize| {
        let room = |index: usize| format!(r#""r{index}":{{"epoch":"e","offset":7}}"#);
        let rooms: Vec<String> = (0..count).map(room).collect();
        let frame = format!(r#"{{"type":"auth","token":"t","covered":{{{}}}}}"#, rooms.join(","));
        decode(Encoding::Json, frame.as_bytes(), DecodeLimits::default()).unwrap().remove(0)
    };
    assert!(covered(1_024).starts_with("authenticate t covered=r0@0:7 covered=r1@0:7"));
    assert_eq!(covered(1_025), "refused 102 data.covered must be at most 1024 rooms");
}

#[test]
fn a_pong_has_the_timestamp_of_its_ping() {
    let pong = |timestamp| Outbound::Pong { timestamp, unix_ms: 1_705_314_600_000 };
    check_answer("pong", &pong(Some(b"1705314600001")));
    check_answer("pong of a text", &pong(Some(b"\"2024-01-15T10:30:00Z\"")));
    check_answer("pong of the node's time", &pong(None));
}

#[test]
fn joins_and_leaves_are_answered_with_room_and_question() {
    let to = reply(Some("s1"), Some("agents"));
    let none = reply(None, None);
    check_answer(
        "subscribed",
        &Outbound::Joined { reply: &to, room: "agents", entry: entry(None) },
    );
    check_answer(
        "subscribed since",
        &Outbound::Joined {
            reply: &none,
            room: "agents",
            entry: entry(Some(Err(Unrecovered::NoHistory))),
        },
    );
    let at = |entry| Outbound::Joined { reply: &to, room: "agents", entry };
    let position = Some(POSITION);
    check_answer("subscribed at", &at(Entry { position, ..entry(None) }));
    check_answer("subscribed, recovered", &at(Entry { position, ..entry(Some(Ok(()))) }));
    for why in Unrecovered::ALL {
        let name = format!("subscribed, not recovered: {}", why.name());
        check_answer(&name, &at(Entry { position, ..entry(Some(Err(why))) }));
    }
    check_answer("subscribed, not live", &at(Entry { live: false, ..entry(None) }));
    let known = Entry { position, live: false, ..entry(Some(Ok(()))) };
    check_answer("subscribed, not live, at", &at(known));
    check_answer(
        "subscribed unasked",
        &Outbound::Joined {
            reply: &none,
            room: "user-7",
            entry: Entry { position, ..entry(None) },
        },
    );
    check_answer("unsubscribed", &Outbound::Left { reply: &to, room: "agents", ordered: false });
    let ordered = Outbound::Left { reply: &none, room: "agents", ordered: true };
    check_answer("unsubscribed by order", &ordered);
}

#[test]
fn an_ack_has_its_id_at_top_level() {
    let mut accepted = Accepted::WHOLE;
    check_answer("ack", &Outbound::Accepted { id: "m-1", accepted });
    accepted.dedup_short = true;
    check_answer("ack, ids not remembered", &Outbound::Accepted { id: "m-1", accepted });
    accepted.partial = true;
    check_answer("ack, all reservations", &Outbound::Accepted { id: "m-1", accepted });
    accepted = Accepted::stored(POSITION);
    check_answer("ack, stored", &Outbound::Accepted { id: "m-1", accepted });
    accepted.level = Level::Replicated;
    accepted.dedup_short = true;
    check_answer("ack, replicated", &Outbound::Accepted { id: "m-1", accepted });
    accepted = Accepted { level: Level::Isolated, ..Accepted::WHOLE };
    check_answer("ack of an isolated node", &Outbound::Accepted { id: "m-1", accepted });
    accepted = Accepted { partial: true, ..Accepted::WHOLE };
    check_answer("ack, a node is missing", &Outbound::Accepted { id: "m-1", accepted });
}

#[test]
fn a_refusal_names_code_question_and_limit() {
    let to = reply(Some("q"), Some("agents"));
    let none = reply(None, None);
    let limit = Refused::limit(Refusal::RateLimit, LimitName::MessagesPerUser, 100, Some(1_500));
    check_answer("error of a limit", &Outbound::Refused { reply: &to, refused: &limit, raw: None });
    let refused = Refused::because(Refusal::Schema, "data.room is missing: a string".into());
    check_answer("error", &Outbound::Refused { reply: &none, refused: &refused, raw: None });
    let refused = Refused::because(Refusal::PermissionDenied, "there is such a room".into());
    check_answer(
        "error of a right",
        &Outbound::Refused { reply: &to, refused: &refused, raw: None },
    );
    let mut refused = Refused::new(Refusal::Unavailable);
    refused.retry_after_ms = Some(1_000);
    check_answer("error, not now", &Outbound::Refused { reply: &to, refused: &refused, raw: None });
    refused.unknown = true;
    check_answer(
        "error, outcome unknown",
        &Outbound::Refused { reply: &to, refused: &refused, raw: None },
    );
}

#[test]
fn an_answer_of_the_application_says_its_status_and_whether_it_is_stale() {
    let to = reply(Some("q"), None);
    let json = Content::Json(r#"{"a": [1.0,null,"é"]}"#.into());
    let mut response = Response { status: 200, body: json, stale: false };
    check_answer("response", &Outbound::Response { reply: &to, response: &response });
    response.stale = true;
    check_answer("response, stale", &Outbound::Response { reply: &to, response: &response });
    response = Response { status: 404, body: Content::Text("no \"such\"".into()), stale: false };
    check_answer("response of a text", &Outbound::Response { reply: &to, response: &response });
    response.body = Content::Binary(Bytes::from_static(&[120, 156, 0]));
    let none = reply(None, None);
    check_answer("response of bytes", &Outbound::Response { reply: &none, response: &response });
}

#[test]
fn every_refusal_has_its_words() {
    for refusal in Refusal::ALL {
        let refused = Refused::new(refusal);
        let to = reply(None, None);
        let bytes = payload(
            &Outbound::Refused { reply: &to, refused: &refused, raw: None },
            Encoding::Json,
        );
        let value: Value = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(value["data"]["code"], refusal.row().code);
        assert_eq!(value["data"]["name"], refusal.row().name);
        assert_eq!(value["data"]["message"], refusal.row().text);
        assert_eq!(value["data"]["retry"], refusal.row().retry);
    }
}

#[test]
fn tokens_gaps_and_isolation_are_told() {
    let to = reply(Some("r"), None);
    let expires_unix_ms = 1_705_314_600_000;
    check_answer("refresh", &Outbound::Refreshed { reply: &to, expires_unix_ms });
    check_answer("token_expiring", &Outbound::TokenExpiring { expires_unix_ms });
    check_answer("gap", &Outbound::Gap { room: None, loss: Loss::Overload });
    check_answer("gap of the feed", &Outbound::Gap { room: None, loss: Loss::Feed });
    for loss in [Loss::Overload, Loss::Epoch, Loss::TooOld, Loss::Unavailable, Loss::Feed] {
        let name = format!("gap of a room: {}", loss.name());
        check_answer(&name, &Outbound::Gap { room: Some(("agents", POSITION)), loss });
    }
    check_answer("degraded", &Outbound::Degraded { isolated: true });
    check_answer("degraded no more", &Outbound::Degraded { isolated: false });
}

#[test]
fn a_publication_is_the_full_envelope() {
    let json = publication(Content::Json(r#"{"a": [1.0,null,"é"]}"#.into()));
    check_answer("publication", &Outbound::Publication(&json));
    let mut text = publication(Content::Text("line\n\"two\"".into()));
    text.priority = Some(Priority::High);
    text.ttl_s = Some(300);
    text.correlation_id = Some("c-1".into());
    check_answer("publication of a text", &Outbound::Publication(&text));
    let binary = publication(Content::Binary(Bytes::from_static(&[120, 156, 0])));
    check_answer("publication of bytes", &Outbound::Publication(&binary));
    let mut placed = text.clone();
    placed.position = Some(POSITION);
    check_answer("publication with a position", &Outbound::Publication(&placed));
    placed = publication(Content::Json("7".into()));
    placed.position = Some(POSITION.at(OFFSET_MAX));
    check_answer("publication with the last position", &Outbound::Publication(&placed));
    let said = Origin { id: "c-7".into(), position: Some(POSITION), ..origin() };
    placed.origin = Some(Box::new(said));
    check_answer("publication of what was said in a conversation", &Outbound::Publication(&placed));
    placed = publication(Content::Json("7".into()));
    placed.origin = Some(Box::new(origin()));
    check_answer("publication of a conversation", &Outbound::Publication(&placed));
    text.isolated = true;
    check_answer("publication of an isolated node", &Outbound::Publication(&text));
}

#[test]
fn skips_are_told_as_a_run() {
    let mut reasons = SkipReasons::default();
    for (name, reason) in [
        ("skip", SkipReason::Filtered),
        ("skip, two reasons", SkipReason::Expired),
        ("skip, all reasons", SkipReason::Unreadable),
    ] {
        reasons.insert(reason);
        let Position { epoch, offset: to } = POSITION;
        check_answer(name, &Outbound::Skip { room: "agents", epoch, to, count: 3, reasons });
    }
    let Position { epoch, offset: to } = POSITION;
    let skip = |reasons| Outbound::Skip { room: "agents", epoch, to, count: 3, reasons };
    for (name, reason) in [
        ("skip, of a slow member", SkipReason::Conflated),
        ("skip, acked before", SkipReason::Acked),
        ("skip, removed", SkipReason::Removed),
        ("skip, one's own words", SkipReason::Own),
    ] {
        let mut reasons = SkipReasons::default();
        reasons.insert(reason);
        check_answer(name, &skip(reasons));
    }
    let mut every = SkipReasons::default();
    // In whichever order they come up.
    SkipReason::ALL.into_iter().rev().for_each(|reason| every.insert(reason));
    check_answer("skip, every reason", &skip(every));
}

#[test]
fn history_is_answered_in_the_direction_asked_for() {
    let to = reply(Some("h"), Some("agents"));
    let kept = |offset: u64| {
        let mut publication = publication(Content::Json(offset.to_string().into()));
        publication.position = Some(POSITION.at(offset));
        Kept::Publication(Arc::new(publication))
    };
    let head = Head { position: POSITION, first: 1 };
    let entries = vec![kept(3), Kept::Unreadable(POSITION.at(4)), kept(5)];
    let page = Page { head, entries, whole: false };
    let answer = |direction, page, next| Outbound::History {
        reply: &to,
        room: "agents",
        direction,
        page,
        next,
    };
    check_answer("history, forward", &answer(Direction::Forward, &page, Some(5)));
    check_answer("history, backward", &answer(Direction::Backward, &page, Some(3)));
    let empty = Page { head, entries: Vec::new(), whole: true };
    check_answer("history, nothing beyond", &answer(Direction::Backward, &empty, None));
}

#[test]
fn large_publications_leave_deflated_and_can_be_read_again() {
    let text = "né".repeat(600);
    let large = publication(Content::Text(text.into()));
    let outbound = Outbound::Publication(&large);
    let plain = payload(&outbound, Encoding::Json);
    let expected = decode(Encoding::Json, &plain, DecodeLimits::default()).unwrap();
    let json = payload(&outbound, Encoding::JsonDeflated);
    assert!(json.starts_with(b"{\"type\":\"compressed\",\"data\":\"x") && json.len() < 400);
    assert_eq!(decode(Encoding::Json, &json, DecodeLimits::default()).unwrap(), expected);
    let packed = payload(&outbound, Encoding::MessagePackDeflated);
    assert!(packed.len() < json.len());
    let found = decode(Encoding::MessagePack, &packed, DecodeLimits::default()).unwrap();
    assert_eq!(found, expected);
}

#[test]
fn only_what_is_over_the_threshold_is_deflated() {
    let of = |length: usize| publication(Content::Text("x".repeat(length).into()));
    let overhead = payload(&Outbound::Publication(&of(0)), Encoding::Json).len();
    let at = of(roomcast_dialects::native::DEFLATE_OVER_BYTES - overhead);
    assert!(payload(&Outbound::Publication(&at), Encoding::JsonDeflated).starts_with(b"{\"id\""));
    let over = of(roomcast_dialects::native::DEFLATE_OVER_BYTES - overhead + 1);
    assert!(
        payload(&Outbound::Publication(&over), Encoding::JsonDeflated).starts_with(b"{\"type\"")
    );
}
