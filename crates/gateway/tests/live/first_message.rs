//! First messages that bring no token, or a good one beside what cannot be meant: told what is wrong and how to mend it,
//! never told to get another token, and mended on the same connection.

use std::time::{Duration, Instant};

use roomcast_protocol::codes::{Close, Refusal};
use serde_json::{Value, json};

use crate::common::ws::Dial;
use crate::common::{Bystander, Live};
use crate::scene::{compressed, deflate};

#[test]
fn a_wrong_field_beside_a_good_token_is_named_and_can_be_mended() {
    let live = Live::start(&[]);
    let position = |offset: Value| json!({ "h": { "epoch": "0".repeat(32), "offset": offset } });
    let wrong = [
        ("resume_token", json!(5)),
        ("resume_token", json!(["x"])),
        ("covered", json!(5)),
        ("covered", json!([])),
        ("covered", json!({ "h": 5 })),
        ("covered", json!({ "h": { "epoch": "0".repeat(32) } })),
        ("covered", position(json!(-1))),
        ("covered", position(json!(1.5))),
        ("covered", position(json!(18_446_744_073_709_551_615_u64))),
        ("device", json!({})),
        ("device", json!(true)),
        ("device", json!("d".repeat(65))),
        ("handover", json!("yes")),
        ("handover", json!(1)),
        ("compressed", json!("x")),
    ];
    for (field, value) in &wrong {
        let token = live.token("ann", "user");
        let mut ws = live.dial();
        let mut auth = json!({ "type": "auth", "id": "a", "token": token });
        auth[field] = value.clone();
        ws.tell(&auth);
        let error = ws.expect_refusal(Refusal::Schema);
        assert_eq!(error["metadata"]["correlation_id"], "a");
        let message = error["data"]["message"].as_str().unwrap();
        assert!(message.contains(&format!("{field} must be")), "{field} {value}: {message}");
        ws.tell(&json!({ "type": "auth", "token": token }));
        ws.welcome();
    }
    live.expect_refusals(Refusal::Schema, wrong.len() as u32);
    live.expect_closes(Close::Unauthorized, 0);
}

#[test]
fn anything_but_a_token_first_is_refused_and_changes_nothing() {
    let live = Live::start(&[]);
    let mut bystander = Bystander::join(&live);
    let subscribe = deflate(b"{\"type\":\"subscribe\",\"room\":\"demo\"}");
    let token_first = "The first message must bring a token";
    let firsts = [
        (json!({ "type": "subscribe", "data": { "room": "demo" } }).to_string(), token_first),
        (json!({ "type": "unsubscribe", "data": { "room": "demo" } }).to_string(), token_first),
        (json!({ "type": "presence", "data": { "room": "demo" } }).to_string(), token_first),
        (json!({ "type": "receipt", "data": { "room": "demo" } }).to_string(), token_first),
        (json!({ "type": "history", "data": { "room": "demo" } }).to_string(), token_first),
        (json!({ "type": "note", "room": "demo", "data": "unheard" }).to_string(), token_first),
        (json!({ "type": "ack", "ackId": "x" }).to_string(), token_first),
        (
            json!({ "type": "batch", "messages": [{ "type": "note", "room": "demo" }] })
                .to_string(),
            token_first,
        ),
        (compressed(&subscribe).to_string(), token_first),
        (json!({ "type": "auth" }).to_string(), "token is missing"),
        (json!({ "type": "auth", "token": 5 }).to_string(), "token must be a string"),
        (json!({ "type": "auth", "token": "x", "id": {} }).to_string(), "id must be"),
        (json!({ "type": "ack" }).to_string(), "ackId is missing"),
        (json!({ "type": "zzz" }).to_string(), "Unknown message type"),
        (json!({ "type": "welcome" }).to_string(), "only sent by the server"),
        (json!({ "type": 5 }).to_string(), "type must be a string"),
        ("no json".into(), "not JSON"),
        ("[".repeat(5_000), "json_depth"),
    ];
    for (first, told) in &firsts {
        let mut ws = live.dial();
        ws.text(first);
        let error = ws.json();
        assert_eq!(error["type"], "error", "{first}: {error}");
        let message = error["data"]["message"].as_str().unwrap();
        assert!(message.contains(told), "{first}: {message}");
        // Who has mended the form is not to be refused once more, for what must come first.
        let is_token = first.contains("\"auth\"");
        assert_eq!(message.contains(token_first), !is_token, "{first}: {message}");
        ws.tell(&json!({ "type": "auth", "token": live.token("ann", "user") }));
        ws.welcome();
        bystander.lives(); // in `demo`, it has heard nothing of it
    }
    let mut ws = live.dial();
    ws.tell(&json!({ "type": "auth", "token": "" }));
    ws.expect_close(Close::Unauthorized);
    let mut ws = live.dial();
    for _ in 0..17 {
        ws.tell(&json!({ "type": "pong" })); // an answer itself: it is not answered, nor counted
    }
    ws.tell(&json!({ "type": "auth", "token": live.token("ann", "user") }));
    ws.welcome();
}

#[test]
fn a_client_that_does_not_mend_its_first_message_is_not_told_to_get_a_token() {
    let live = Live::start(&[("limits.first_message", "500ms")]);
    let mut ws = live.dial();
    let began = Instant::now();
    ws.tell(&json!({ "type": "auth", "token": live.token("ann", "user"), "handover": "yes" }));
    ws.expect_refusal(Refusal::Schema);
    ws.expect_close(Close::Protocol);
    assert!(began.elapsed() >= Duration::from_millis(450), "{:?}", began.elapsed());
    let mut ws = live.dial();
    for _ in 0..16 {
        ws.text("no json");
        ws.expect_refusal(Refusal::BadJson);
    }
    ws.text("no json");
    ws.expect_close(Close::Flood);
}

#[test]
fn what_the_query_cannot_mean_is_refused_before_the_upgrade() {
    let live = Live::start(&[]);
    let token = live.token("ann", "user");
    let too_long = format!("device={}", "d".repeat(65));
    let cases = [
        (too_long.as_str(), "device in the query must be at most 64 bytes of UTF-8"),
        ("device=%ff", "device in the query must be at most 64 bytes of UTF-8"),
        ("handover=yes", "handover in the query must be 1 or 0"),
        ("handover=2", "handover in the query must be 1 or 0"),
        ("handover=", "handover in the query must be left out, or have a value"),
        ("device=a&device=a", "device in the query must be said once"),
        ("resume_token=x", "resume_token is named resume in the query"),
    ];
    for (said, detail) in cases {
        let refused =
            Dial::default().path(&format!("/ws?token={token}&{said}")).send(live.public());
        assert_eq!(refused.status, 400, "{said}");
        assert_eq!(refused.problem()["detail"], detail);
    }
    let refused = Dial::default().path("/ws?handover=1").send(live.public());
    assert_eq!(refused.status, 400);
    let detail = refused.problem()["detail"].to_string();
    assert!(detail.contains("in the first message"), "{detail}");
}

#[test]
fn a_session_that_is_in_is_told_that_how_it_goes_on_was_to_be_said_before() {
    let live = Live::start(&[]);
    let mut ws = live.user("ann");
    let token = live.token("ann", "user");
    let late = [
        json!({ "resume_token": "x" }),
        json!({ "device": "phone" }),
        json!({ "handover": true }),
        json!({ "covered": {} }),
    ];
    for data in late {
        let mut auth = json!({ "type": "auth", "id": "a", "data": data });
        auth["token"] = token.as_str().into();
        ws.tell(&auth);
        let error = ws.expect_refusal(Refusal::Schema);
        let message = error["data"]["message"].as_str().unwrap();
        assert!(message.contains("first token of a connection"), "{message}");
    }
    let again = ws.ask(&json!({ "type": "auth", "id": "b", "token": token }));
    assert_eq!(again["type"], "refresh", "{again}");
}
