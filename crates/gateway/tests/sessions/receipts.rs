//! How far users have got, and read, a room is one answer on all nodes, and never goes back (G17).

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::common::Live;
use crate::common::ws::{WAIT, Ws};
use crate::stage::{
    Broker, Stage, authenticate, dial, join, next_of, on_both_brokers, publish, soon, token_of,
};

on_both_brokers!(
    what_a_client_got_is_told_to_the_others_once_its_ping_is_answered,
    what_is_read_is_told_with_the_time_of_the_first_mark,
    marks_do_not_go_back_when_a_session_goes_on_elsewhere,
    rooms_without_receipts_and_former_epochs_are_refused,
);

/// Pings 1 s after what it is given.
const PINGS: &str = "[limits]\nping = \"1s\"\n";

/// The receipts as the server API tells them.
fn receipts(live: &Live, query: &str) -> Value {
    let (status, body) = live.get(&format!("/api/v1/rooms/talk-1/receipts{query}"));
    assert_eq!(status, 200, "{body}");
    serde_json::from_str(&body).unwrap()
}

/// What stands for a user, `delivered` or `read`.
fn stands(live: &Live, user: &str, mark: &str) -> Option<u64> {
    let receipts = receipts(live, "");
    let own = receipts["receipts"].as_array().unwrap().iter().find(|it| it["user"] == user);
    own.and_then(|own| own[mark]["offset"].as_u64())
}

/// The next message that meets a condition; pings are answered meanwhile, as libraries do.
#[track_caller]
fn until(ws: &mut Ws, what: &str, meets: impl Fn(&Value) -> bool) -> Value {
    let deadline = Instant::now() + WAIT;
    while Instant::now() < deadline {
        let message = ws.json();
        if meets(&message) {
            return message;
        }
    }
    panic!("in vain: {what}");
}

/// What others are told of a user.
#[track_caller]
fn told(ws: &mut Ws, user: &str, mark: &str, offset: u64) -> Value {
    let own = |message: &Value| {
        let list = message["data"]["receipts"].as_array()?;
        list.iter().find(|it| it["user"] == user && it[mark]["offset"] == offset).cloned()
    };
    let what = format!("{user} {mark} {offset}");
    let found = until(ws, &what, |message| message["type"] == "receipt" && own(message).is_some());
    assert!(found["metadata"]["correlation_id"].is_null(), "it is told unasked: {found}");
    own(&found).unwrap()
}

/// Marks a room as read up to there; the answer.
#[track_caller]
fn reads(ws: &mut Ws, epoch: &str, offset: u64) -> Value {
    let read = json!({ "epoch": epoch, "offset": offset });
    ws.tell(&json!({ "type": "receipt", "id": "r", "data": { "room": "talk-1", "read": read } }));
    let answer = until(ws, "the answer to a mark", |it| it["metadata"]["correlation_id"] == "r");
    assert_eq!(answer["type"], "receipt", "{answer}");
    answer
}

fn epoch_of(joined: &Value) -> String {
    joined["metadata"]["epoch"].as_str().expect("the room keeps publications").to_owned()
}

fn what_a_client_got_is_told_to_the_others_once_its_ping_is_answered(broker: Broker) {
    let Stage { first, second, .. } = &Stage::new(broker, PINGS);
    let (mut ann, _) = dial(first, "ann", "");
    let (mut bob, _) = dial(second, "bob", "");
    join(&mut ann, "talk-1");
    join(&mut bob, "talk-1");
    assert_eq!(receipts(first, "")["receipts"], json!([]), "nobody has got anything yet");
    let offset = publish(first, "talk-1", "m-1").unwrap();
    // He does not read his socket yet, so no ping of his is answered.
    told(&mut ann, "ann", "delivered", offset);
    assert_eq!(stands(first, "bob", "delivered"), None);
    until(&mut bob, "his own receipt", |message| {
        message["data"]["receipts"].as_array().is_some_and(|list| list[0]["user"] == "bob")
    });
    let receipt = told(&mut ann, "bob", "delivered", offset);
    assert!(receipt["read"].is_null(), "{receipt}");
    for live in [first, second] {
        assert_eq!(stands(live, "bob", "delivered"), Some(offset));
        let of = receipts(live, &format!("?of={offset}&limit=1"));
        assert_eq!((&of["receipts"][0]["user"], &of["next"]), (&json!("ann"), &json!("ann")));
    }
}

fn what_is_read_is_told_with_the_time_of_the_first_mark(broker: Broker) {
    let Stage { first, second, .. } = &Stage::new(broker, "");
    let (mut ann, _) = dial(first, "ann", "");
    let (mut bob, _) = dial(second, "bob", "");
    join(&mut ann, "talk-1");
    let epoch = epoch_of(&join(&mut bob, "talk-1"));
    publish(first, "talk-1", "m-1");
    let offset = publish(first, "talk-1", "m-2").unwrap();
    let answer = reads(&mut bob, &epoch, offset);
    let read = &answer["data"]["read"];
    assert_eq!((&answer["data"]["user"], &read["offset"]), (&json!("bob"), &json!(offset)));
    let receipt = told(&mut ann, "bob", "read", offset);
    assert_eq!((&receipt["read"], &receipt["delivered"]), (read, read), "read is delivered");
    std::thread::sleep(Duration::from_millis(20));
    for again in [offset, offset + 7] {
        assert_eq!(&reads(&mut bob, &epoch, again)["data"]["read"], read, "the first time stays");
    }
    let lower = reads(&mut bob, &epoch, 1);
    assert_eq!(lower["data"]["read"], json!({ "offset": 1, "at": read["at"] }));
    ann.tell(&json!({ "type": "receipt", "id": "q", "data": { "room": "talk-1", "of": 1 } }));
    let page = until(&mut ann, "a page", |it| it["metadata"]["correlation_id"] == "q");
    let own = page["data"]["receipts"].as_array().unwrap();
    let own = own.iter().find(|it| it["user"] == "bob").expect("he has read it");
    assert_eq!(own["read"], json!({ "offset": 1, "at": read["at"] }));
    assert_eq!(page["metadata"]["offset"], offset);
}

fn marks_do_not_go_back_when_a_session_goes_on_elsewhere(broker: Broker) {
    let Stage { first, second, .. } = &Stage::new(broker, PINGS);
    let (mut ann, _) = dial(first, "ann", "");
    join(&mut ann, "talk-1");
    let (mut bob, welcome) = authenticate(first, "bob", &json!({ "handover": false }));
    let epoch = epoch_of(&join(&mut bob, "talk-1"));
    publish(first, "talk-1", "m-1");
    let offset = publish(first, "talk-1", "m-2").unwrap();
    let first_read = reads(&mut bob, &epoch, offset);
    drop(bob);
    // The record that was written with the welcome lacks the room, and the next one is not due for a second.
    soon("the node sees that the socket is gone", || {
        first.metric("roomcast_connections_open") == Some(1.0)
    });
    // It is written once the lane has let the session go, a moment behind the figure.
    std::thread::sleep(Duration::from_millis(300));
    let covered = json!({ "talk-1": { "epoch": epoch, "offset": 1 } });
    let resume = json!({ "resume_token": token_of(&welcome), "covered": covered });
    let (mut bob, welcome) = authenticate(second, "bob", &resume);
    assert_eq!(welcome["resumed"], true, "{welcome}");
    assert_eq!(next_of(&mut bob, "note")["id"], "m-2", "it is given again");
    let lower = reads(&mut bob, &epoch, 1);
    assert_eq!(lower["data"]["read"]["at"], first_read["data"]["read"]["at"]);
    assert_eq!(stands(second, "bob", "read"), Some(offset));
    let newest = publish(second, "talk-1", "m-3").unwrap();
    told(&mut bob, "bob", "delivered", newest);
    for live in [first, second] {
        assert_eq!(stands(live, "bob", "read"), Some(offset));
        soon("what arrived elsewhere stands", || stands(live, "bob", "delivered") == Some(newest));
    }
}

fn rooms_without_receipts_and_former_epochs_are_refused(broker: Broker) {
    let Stage { first, .. } = &Stage::new(broker, "");
    let (mut ann, _) = dial(first, "ann", "");
    join(&mut ann, "kept-1");
    let joined = join(&mut ann, "talk-1");
    publish(first, "talk-1", "m-1");
    let refused = |ws: &mut Ws, room: &str, epoch: &str| {
        let read = json!({ "epoch": epoch, "offset": 1 });
        let data = json!({ "room": room, "read": read });
        ws.tell(&json!({ "type": "receipt", "id": "r", "data": data }));
        let answer = until(ws, "an answer", |it| it["metadata"]["correlation_id"] == "r");
        answer["data"]["message"].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned()
    };
    let epoch = epoch_of(&joined);
    let none = "This room keeps no receipts: its rule needs `receipts = true`";
    assert_eq!(refused(&mut ann, "kept-1", &epoch), none);
    let (status, body) = first.get("/api/v1/rooms/kept-1/receipts");
    assert_eq!(status, 400, "{body}");
    let outside = "Only who is in the room marks it: subscribe first";
    assert_eq!(refused(&mut ann, "talk-2", &epoch), outside);
    let former = "The room has another epoch now: subscribe again, and mark by its positions";
    assert_eq!(refused(&mut ann, "talk-1", &"0".repeat(32)), former);
}
