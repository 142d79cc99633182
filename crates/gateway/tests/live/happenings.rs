//! What the application is told of clients: each connection's begin and end, in turn, and what they may not do.

use std::collections::BTreeMap;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use roomcast_protocol::codes::{Close, Refusal};
use serde_json::{Value, json};

use crate::common::ws::{Dial, TEXT, WAIT, Ws};
use crate::common::{Live, Told};

/// RoadRunner's clients are let in, two connections of a user at most.
const SERVED: &str = "[limits]\nconnections_per_user = 2\n\
    [origins]\nallow = [\"https://good.example\"]\n\
    [dialects.roadrunner]\nenabled = true\n";

/// All others begin with `eyJ`, as each JWT does.
const BAD_TOKEN: &str = "no.good.token";

/// The next that is told, with its kind in it.
#[track_caller]
fn next(told: &Receiver<Told>) -> (Value, String) {
    let told = told.recv_timeout(WAIT).expect("something is told");
    for secret in ["eyJ", BAD_TOKEN] {
        assert!(!told.data.to_string().contains(secret), "a token is told: {}", told.data);
    }
    let mut data = told.data;
    data["kind"] = told.kind.into();
    (data, told.subject)
}

/// The next must say this, whatever more it says.
#[track_caller]
fn expect(told: &Receiver<Told>, expected: &Value) -> Value {
    let (data, _) = next(told);
    for (name, value) in expected.as_object().unwrap() {
        assert_eq!(&data[name], value, "{name} of {data}");
    }
    data
}

fn user(name: &str) -> String {
    format!("user:{name}")
}

fn dial(live: &Live, sub: &str, more: &str) -> (Ws, Value) {
    let path = format!("/ws?token={}{more}", live.token(sub, "user"));
    let mut ws = Dial::default().path(&path).open(live.public());
    let welcome = ws.welcome();
    (ws, welcome)
}

#[test]
fn clients_that_come_and_go_are_told_in_turn_with_how_they_went() {
    let (live, told) = Live::telling(SERVED);
    let (ann, welcome) = dial(&live, "ann", "");
    let (data, subject) = next(&told);
    let expected = json!({
        "kind": "connected", "user": "ann", "user_kind": "user", "address": "127.0.0.1",
        "session": welcome["session_id"], "dialect": "native", "generation": 1, "resumed": false,
    });
    assert_eq!((&data, subject), (&expected, user("ann")));
    ann.close();
    let (data, subject) = next(&told);
    let expected = json!({
        "kind": "disconnected", "user": "ann", "user_kind": "user", "address": "127.0.0.1",
        "session": welcome["session_id"], "generation": 1, "reason": "client_closed",
        "connected_ms": data["connected_ms"], "resumable": false,
    });
    assert_eq!((&data, subject), (&expected, user("ann")));
    assert!(data["connected_ms"].is_u64());
    // One that has no token has a name of its own all the same.
    let page = Dial::default().path("/roadrunner").open(live.public());
    let come = expect(&told, &json!({ "kind": "connected", "user_kind": "anonymous" }));
    drop(page);
    let gone = expect(&told, &json!({ "kind": "disconnected", "reason": "client_gone" }));
    assert_eq!((&come["user"], &come["session"]), (&gone["user"], &gone["session"]));
    // Who is there in the end is told as gone with its node.
    let _bob = live.user("bob");
    expect(&told, &json!({ "kind": "connected", "user": "bob" }));
    let closed =
        json!({ "kind": "disconnected", "user": "bob", "reason": "stopping", "code": 1001 });
    live.stop();
    expect(&told, &closed);
    assert!(told.recv().is_err(), "nothing more is told");
}

#[test]
fn a_session_that_another_connection_takes_over_is_told_in_turn() {
    let (live, told) = Live::telling(SERVED);
    let (mut former, welcome) = dial(&live, "ann", "&handover=1");
    expect(&told, &json!({ "kind": "connected", "resumed": false }));
    let token = welcome["resume_token"].as_str().unwrap();
    let (mut ann, again) = dial(&live, "ann", &format!("&resume={token}"));
    assert_eq!(again["resumed"], true, "{again}");
    ann.tell(&json!({ "type": "ping", "timestamp": 1 }));
    former.expect_close_at_last(Close::Replaced);
    let replaced = json!({ "kind": "disconnected", "reason": "replaced", "resumable": false });
    let first = expect(&told, &replaced);
    let second = expect(&told, &json!({ "kind": "connected", "resumed": true }));
    for data in [&first, &second] {
        assert_eq!(data["session"], welcome["session_id"]);
    }
    assert!(second["generation"].as_u64() > first["generation"].as_u64());
    drop(ann);
    let gone = json!({ "kind": "disconnected", "reason": "client_gone", "resumable": true });
    assert_eq!(expect(&told, &gone)["generation"], second["generation"]);
}

#[test]
fn what_clients_may_not_do_is_told_with_who_and_where() {
    let (live, told) = Live::telling(SERVED);
    let nowhere = "address:127.0.0.1";
    let expect_offence = |what: &str, more: (&str, &str), who: Option<&str>| {
        let (data, subject) = next(&told);
        assert_eq!(data["kind"], "security_event", "{data}");
        assert_eq!((&data["what"], &data[more.0]), (&json!(what), &json!(more.1)), "{data}");
        assert_eq!((&data["count"], &data["address"]), (&json!(1), &json!("127.0.0.1")), "{data}");
        assert_eq!(subject, who.map_or(nowhere.to_owned(), user), "{data}");
    };
    Dial::with_token(BAD_TOKEN).open(live.public()).expect_close(Close::Unauthorized);
    expect_offence("authentication_failed", ("why", "the token is no JWT"), None);
    let evil =
        Dial::with_token(&live.token("ann", "user")).header("Origin", "https://evil.example");
    assert_eq!(evil.send(live.public()).status, 403);
    expect_offence("origin_refused", ("origin", "https://evil.example"), None);
    let mut torn = live.dial();
    torn.raw(&[TEXT, 2, b'h', b'i']);
    torn.expect_close(Close::Protocol);
    let why = "unmasked frame: clients must mask every frame";
    expect_offence("malformed_frame", ("why", why), None);
    let (mut ann, _) = dial(&live, "ann", "");
    assert_eq!(next(&told).0["kind"], "connected");
    ann.tell(&json!({ "type": "subscribe", "data": { "room": "user-bob" } }));
    ann.expect_refusal(Refusal::PermissionDenied);
    expect_offence("permission_refused", ("room", "user-bob"), Some("ann"));
    let _second = dial(&live, "ann", "");
    assert_eq!(next(&told).0["kind"], "connected");
    assert_eq!(Dial::with_token(&live.token("ann", "user")).send(live.public()).status, 429);
    expect_offence("limit_hit", ("limit", "connections_per_user"), Some("ann"));
}

#[test]
fn a_flood_of_one_kind_is_told_at_once_and_then_by_its_count() {
    const COUNT: u64 = 50;
    let (live, told) = Live::telling(SERVED);
    let (mut ann, _) = dial(&live, "ann", "");
    expect(&told, &json!({ "kind": "connected" }));
    for _ in 0..COUNT {
        ann.tell(&json!({ "type": "subscribe", "data": { "room": "user-bob" } }));
    }
    for _ in 0..COUNT {
        ann.expect_refusal(Refusal::PermissionDenied);
    }
    let began = Instant::now();
    expect(&told, &json!({ "what": "permission_refused", "right": "join", "count": 1 }));
    assert!(began.elapsed() < Duration::from_secs(5), "the first is told at once");
    live.stop();
    let mut counts = BTreeMap::new();
    while let Ok(it) = told.recv() {
        counts.entry(it.kind).or_insert_with(Vec::new).push(it.data["count"].as_u64());
    }
    assert_eq!(counts["security_event"], [Some(COUNT - 1)]);
}

#[test]
fn a_node_that_tells_nobody_counts_nothing() {
    let live = Live::start(&[]);
    drop(live.user("ann"));
    live.assert_empty();
    assert_eq!(live.metric("roomcast_happenings_told_total"), Some(0.0));
}
