//! What browsers of RoadRunner see: the captured answers, rooms by their rules, pages by their origin.

use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::caller::{Caller, call, field, request};
use crate::common::Live;
use crate::common::ws::{BINARY, Dial, Heard, Ws};

pub(crate) const QUIET: Duration = Duration::from_millis(150);

/// RoadRunner's clients are let in, and RPC is listened for.
pub(crate) const SERVED: [(&str, &str); 2] =
    [("dialects.roadrunner.enabled", "true"), ("rpc.listen", "tcp://127.0.0.1:0")];

/// A member's socket.
pub(crate) fn dial(live: &Live) -> Ws {
    Dial::default().path("/roadrunner").open(live.public())
}

/// Joins, and takes the answer.
#[track_caller]
pub(crate) fn join(ws: &mut Ws, topics: &[&str]) {
    ws.tell(&json!({ "command": "join", "topics": topics }));
    ws.expect(&json!({ "topic": "@join", "payload": topics }));
}

#[track_caller]
pub(crate) fn expect_no_join(ws: &mut Ws, topics: &[&str]) {
    ws.tell(&json!({ "command": "join", "topics": topics }));
    ws.expect(&json!({ "topic": "#join", "payload": topics }));
}

/// The next message as it was written.
#[track_caller]
pub(crate) fn text(ws: &mut Ws) -> String {
    match ws.next() {
        Heard::Text(text) => text,
        other => panic!("no text: {other:?}"),
    }
}

fn served(rules: &str) -> Live {
    Live::with_file(&format!(
        "[listen]\npublic = \"127.0.0.1:0\"\ninternal = \"127.0.0.1:0\"\n\
         [rpc]\nlisten = [\"tcp://127.0.0.1:0\"]\n\
         [dialects.roadrunner]\nenabled = true\n{rules}"
    ))
}

#[derive(Deserialize)]
struct Vectors {
    frames: Vec<Step>,
}

#[derive(Deserialize)]
struct Step {
    send: Option<String>,
    publish: Option<Published>,
    expect: Option<String>,
    expect_denied: Option<String>,
}

#[derive(Deserialize)]
struct Published {
    topic: String,
    payload: String,
}

fn steps() -> Vec<Step> {
    let vectors = include_str!("../../../dialects/vectors/roadrunner/roadrunner_ws.json");
    serde_json::from_str::<Vectors>(vectors).unwrap().frames
}

/// All captured commands in text and in binary frames, to a node on which anything may be joined.
pub(crate) fn replay(live: &Live) {
    for binary in [false, true] {
        let mut ws = dial(live);
        let mut count = 0;
        for step in steps() {
            match (&step.send, &step.publish) {
                (Some(send), _) if binary => ws.send(BINARY, send.as_bytes()),
                (Some(send), _) => ws.text(send),
                (None, Some(Published { topic, payload })) => {
                    let request = request(&[topic], payload.as_bytes());
                    let failed = Caller::tcp(live.rpc()).call("broadcast.Publish", &request);
                    assert_eq!(failed, None);
                }
                (None, None) => panic!("a step of nothing"),
            }
            match &step.expect {
                Some(expected) => assert_eq!(text(&mut ws), *expected),
                // The origin ignores a command whose payload is no base64; here no payload means anything.
                None if step.send.as_ref().is_some_and(|it| it.contains("not base64!")) => {
                    assert_eq!(text(&mut ws), r#"{"topic":"@join","payload":["foo"]}"#);
                }
                None => ws.expect_silence(QUIET),
            }
            count += 1;
        }
        assert_eq!(count, 8);
        ws.close();
    }
    live.assert_empty();
}

/// The captured command that is denied, and its answer.
pub(crate) fn denied() -> (String, String) {
    let denied = steps().into_iter().find_map(|step| Some((step.send?, step.expect_denied?)));
    denied.unwrap()
}

#[test]
fn captured_commands_get_the_captured_answers_in_text_and_binary_frames() {
    replay(&served("[[rooms]]\nmatch = \"{any}\"\njoin = \"true\"\n"));
}

#[test]
fn what_may_not_be_joined_is_denied_as_captured_and_nothing_of_it_is_joined() {
    let live = served(
        "[[rooms]]\nmatch = \"foo\"\njoin = \"user.kind == 'anonymous'\"\n\
         [[rooms]]\nmatch = \"foo2\"\njoin = \"user.kind == 'user'\"\n",
    );
    let mut ws = dial(&live);
    let (send, expected) = denied();
    ws.text(&send);
    assert_eq!(text(&mut ws), expected);
    let mut back = Caller::tcp(live.rpc());
    assert_eq!(back.call("broadcast.Publish", &request(&["foo"], b"unheard")), None);
    ws.expect_silence(QUIET);
    join(&mut ws, &["foo"]);
    assert_eq!(back.call("broadcast.Publish", &request(&["foo"], b"heard")), None);
    assert_eq!(text(&mut ws), r#"{"topic":"foo","payload":"heard"}"#);
    let mut user = live.user("ann");
    user.join("foo2");
}

#[test]
fn who_brings_no_token_has_no_rights_but_those_of_rules() {
    let live = served("[[rooms]]\nmatch = \"who-{id}\"\njoin = \"user.id == id\"\n");
    let mut ws = dial(&live);
    join(&mut ws, &["demo"]);
    let (status, body) = live.get("/api/v1/rooms/demo/members");
    assert_eq!(status, 200);
    let members: Value = serde_json::from_str(&body).unwrap();
    let user = members["members"][0]["user"].as_str().unwrap().to_owned();
    let id = user.strip_prefix("anonymous:").unwrap_or_else(|| panic!("{members}")).to_owned();
    join(&mut ws, &[&format!("who-{id}")]);
    for room in ["maintenance", "system", "tasks", "nowhere", "$control", "dialog-a:b"] {
        expect_no_join(&mut ws, &[room]);
    }
    for room in [format!("user-{user}"), format!("session-{id}"), format!("user-{id}")] {
        expect_no_join(&mut ws, &[&room]);
    }
    expect_no_join(&mut ws, &[&format!("who-{id}0")]);
}

#[test]
fn each_socket_is_somebody_else_under_the_limits_of_all() {
    let live = Live::start(&[
        SERVED[0],
        ("limits.connections_per_user", "1"),
        ("limits.rooms_per_session", "8"),
        ("limits.messages_per_minute", "20"),
        ("limits.connections_per_ip", "3"),
    ]);
    let mut sockets = [dial(&live), dial(&live), dial(&live)];
    let answered = Dial::default().path("/roadrunner").send(live.public());
    assert_eq!(
        (answered.status, answered.problem()["limit"].clone()),
        (429, json!("connections_per_ip"))
    );
    let topics: Vec<_> = (0..9).map(|n| format!("demo-{n}")).collect();
    let topics: Vec<_> = topics.iter().map(String::as_str).collect();
    let [first, second, _] = &mut sockets;
    expect_no_join(first, &topics);
    join(first, &topics[..8]);
    for _ in 2..20 {
        join(first, &[]);
    }
    expect_no_join(first, &[]);
    join(second, &["demo-0"]);
}

#[test]
fn pages_of_other_origins_get_405_and_there_alone() {
    let live =
        Live::start(&[SERVED[0], ("dialects.roadrunner.allowed_origin", "https://good.example")]);
    let asks = |path: &str, origin: &str| {
        Dial::default().path(path).header("Origin", origin).send(live.public())
    };
    for origin in
        ["https://evil.example", "null", "https://good.example.evil", "http://good.example"]
    {
        let refused = asks("/roadrunner", origin);
        assert_eq!((refused.status, refused.header("allow")), (405, Some("GET")));
        refused.problem();
        assert_eq!(asks("/ws", origin).status, 403);
    }
    assert_eq!(asks("/roadrunner", "https://good.example").status, 101);
    assert_eq!(asks("/ws", "https://good.example").status, 403);
    assert_eq!(Dial::default().path("/roadrunner").send(live.public()).status, 101);
}

#[test]
fn a_star_inside_of_the_origin_stands_for_a_part_of_it() {
    let origin = ("dialects.roadrunner.allowed_origin", "https://*.good.example");
    let live = Live::start(&[SERVED[0], origin]);
    let asks = |origin: &str| {
        let dial = Dial::default().path("/roadrunner").header("Origin", origin);
        dial.send(live.public()).status
    };
    assert_eq!(asks("https://shop.good.example"), 101);
    for origin in ["https://good.example", "https://shop.good.example.evil", "https://evil"] {
        assert_eq!(asks(origin), 405, "{origin}");
    }
}

#[test]
fn where_it_is_not_served_nothing_is_there() {
    let live = Live::start(&[]);
    assert_eq!(Dial::default().path("/roadrunner").send(live.public()).status, 404);
    let moved = Live::start(&[SERVED[0], ("dialects.roadrunner.path", "/php/ws")]);
    assert_eq!(Dial::default().path("/roadrunner").send(moved.public()).status, 404);
    let mut ws = Dial::default().path("/php/ws").open(moved.public());
    join(&mut ws, &["demo"]);
}

#[test]
fn brokers_are_prefixes_that_its_clients_never_hear() {
    let live = served(
        "[[dialects.roadrunner.brokers]]\nname = \"shop\"\nprefix = \"demo-\"\n\
         [[dialects.roadrunner.brokers]]\nname = \"memory\"\n",
    );
    let mut ws = dial(&live);
    ws.tell(&json!({ "command": "join", "broker": "shop", "topics": ["foo"] }));
    ws.expect(&json!({ "topic": "@join", "payload": ["foo"] }));
    ws.tell(&json!({ "command": "join", "broker": "redis", "topics": ["foo"] }));
    ws.expect(&json!({ "topic": "#join", "payload": ["foo"] }));
    let mut ann = live.user("ann");
    ann.join("demo-foo");
    let (mut message, mut old) = (Vec::new(), Vec::new());
    field(&mut message, 2, b"shop");
    field(&mut message, 3, b"foo");
    field(&mut message, 4, b"sale");
    field(&mut old, 1, &message);
    let mut back = Caller::tcp(live.rpc());
    assert_eq!(back.call("websockets.Publish", &old), None);
    assert_eq!(text(&mut ws), r#"{"topic":"foo","payload":"sale"}"#);
    let heard = ann.json();
    assert_eq!((&heard["room"], &heard["data"]), (&json!("demo-foo"), &json!("sale")));
    back.send(&call(1, "broadcast.Publish", &request(&["demo-foo"], b"x")));
    let failed = back.answer().unwrap().failed.unwrap();
    assert_eq!(failed, "\"demo-foo\": A topic of that name belongs to another broker");
}
