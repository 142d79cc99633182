//! A dialog is its people's alone: no command of any dialect, no back-end and no guess of its room's name shows it to others.

use std::time::Duration;

use roomcast_protocol::codes::Refusal;
use serde_json::json;

use crate::chat::{Chat, SERVED};
use crate::common::Live;

const QUIET: Duration = Duration::from_millis(700);

#[test]
fn a_third_user_reads_nothing_by_any_command() {
    let [one, two] = Live::start_several::<2>(&SERVED);
    let mut ann = Chat::open(&one, "ann", None);
    let number = ann.says("bob", "secret");
    let mut eve = Chat::open(&two, "eve", None);
    for with in ["ann", "bob", "ann:bob", "dialog-ann:bob", "ann%3Abob", "user-bob"] {
        let found = eve.asks("messages", &json!({ "chatId": with }));
        assert_eq!(found["messages"], json!([]), "{with}");
        let shown = eve.asks("chat", &json!({ "chatId": with }));
        assert_eq!((&shown["missed"], shown.get("online")), (&json!(0), None), "{with}");
        eve.refused("delete", &json!({ "chatId": with, "originalMessageId": number }));
        let marked = eve.asks("read", &json!({ "chatId": with, "messageId": number }));
        assert_eq!(marked["messageId"], 0, "{with}: {marked}");
    }
    assert_eq!(eve.asks("chats", &json!({})), json!([]));
    let found = ann.asks("messages", &json!({ "chatId": "bob" }));
    assert_eq!(found["messages"].as_array().unwrap().len(), 1);
    let mut native = one.user("eve");
    for room in ["dialog-ann:bob", "chat-1", "user-bob", "dialog-eve:eve", "$talks-ann"] {
        for kind in ["subscribe", "history", "presence", "receipts"] {
            let refused = native.ask(&json!({ "id": "1", "type": kind, "data": { "room": room } }));
            assert_eq!(refused["type"], "error", "{kind} {room}: {refused}");
        }
        native.tell(&json!({ "id": "2", "type": "new", "room": room, "data": { "message": "x" } }));
        let refusal =
            if room.starts_with('$') { Refusal::BadName } else { Refusal::PermissionDenied };
        native.expect_refusal(refusal);
    }
    let mut backend = one.backend();
    for room in ["dialog-ann:bob", "$talks-ann"] {
        let joined =
            backend.ask(&json!({ "id": "3", "type": "subscribe", "data": { "room": room } }));
        assert_eq!(joined["type"], "error", "{joined}");
    }
    for what in ["history", "presence", "receipts", "members"] {
        let (status, body) = one.get(&format!("/api/v1/rooms/dialog-ann:bob/{what}"));
        assert_eq!(status, 403, "{what}: {body}");
    }
    let publication = r#"{"room":"dialog-ann:bob","type":"new","data":{"message":"x"}}"#;
    assert_eq!(one.request("POST", "/api/v1/publish", publication).0, 403);
    eve.hears_nothing(QUIET);
    ann.hears_nothing(QUIET);
}

#[test]
fn whoever_brings_no_good_token_is_not_let_in() {
    use crate::common::ws::Dial;
    let [one] = Live::start_several::<1>(&SERVED);
    let without = Dial::default().path("/chat").send(one.public());
    assert_eq!(without.status, 401);
    assert_eq!(without.body(), r#"{"error":"Unauthorized"}"#);
    let forged = Dial::default()
        .path("/chat")
        .subprotocol("protocol, eyJhbGciOiJub25lIn0.e30.")
        .send(one.public());
    assert_eq!(forged.status, 401);
    assert_eq!(forged.body(), r#"{"error":"invalid token"}"#);
}

#[test]
fn who_says_nothing_is_closed_and_who_pings_is_not() {
    let [one] = Live::start_several::<1>(&SERVED);
    let mut quiet = Chat::open(&one, "ann", None);
    let mut busy = Chat::open(&one, "bob", None);
    for ping in ["ping", "\t", "p", "", "hello"] {
        busy.ws().text(ping);
        busy.ws().expect(&json!({ "event": "pong" }));
        std::thread::sleep(Duration::from_secs(5));
    }
    quiet.ws().expect_close_at_last(roomcast_protocol::codes::Close::Silent);
    busy.ws().text("ping");
    busy.ws().expect(&json!({ "event": "pong" }));
}
