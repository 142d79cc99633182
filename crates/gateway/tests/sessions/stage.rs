//! Two nodes on one broker, a back-end that publishes, and clients that say how their session is to go on.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use xtask::servers::Redis;

use crate::common::Live;
use crate::common::ws::{Dial, Heard, PONG, WAIT, Ws};

const RULES: &str = r#"
[[rooms]]
match = "kept-{id}"
join = "true"
publish = "user.kind == 'backend'"
history = { size = 1000 }

[[rooms]]
match = "acked-{id}"
join = "true"
publish = "user.kind == 'backend'"
history = { size = 1000 }
requires_ack = true

[[rooms]]
match = "talk-{id}"
join = "true"
publish = "user.kind == 'backend'"
history = { size = 1000 }
receipts = true

[[rooms]]
match = "known-{id}"
join = "true"
presence = "members"

[[rooms]]
match = "counted-{id}"
join = "true"
presence = "count"
"#;

/// What carries publications between the nodes.
#[derive(Clone, Copy)]
pub enum Broker {
    Memory,
    Redis,
}

/// Two nodes of one cluster.
pub struct Stage {
    pub first: Live,
    pub second: Live,
    /// Ends with the stage.
    pub redis: Option<Redis>,
}

impl Stage {
    /// Starts both; `more` is added to their configuration.
    pub fn new(broker: Broker, more: &str) -> Self {
        let text = |broker: &str| text(broker, more);
        let (nodes, redis) = match broker {
            Broker::Memory => (Live::several_with_file(&text("")), None),
            Broker::Redis => {
                let redis = Redis::start(&[]).unwrap();
                let servers = format!("servers = [\"127.0.0.1:{}\"]\n", redis.port());
                let text = text(&format!("[broker]\nkind = \"redis\"\n[redis]\n{servers}"));
                ([Live::with_file(&text), Live::with_file(&text)], Some(redis))
            }
        };
        let [first, second] = nodes;
        for live in [&first, &second] {
            soon("the node is ready", || live.get("/readyz").0 == 200);
            // Only of a node that it knows does another one know that its sessions have a connection.
            soon("the nodes know each other", || {
                let body: Value = serde_json::from_str(&live.get("/readyz").1).unwrap();
                redis.is_none() || body["peers"]["known"] == 1
            });
        }
        Self { first, second, redis }
    }
}

/// The configuration of a node of a stage.
fn text(broker: &str, more: &str) -> String {
    let listen = "[listen]\npublic = \"127.0.0.1:0\"\ninternal = \"127.0.0.1:0\"\n[agents]\nleave_grace = \"500ms\"\n";
    format!("{listen}{broker}{more}{RULES}")
}

/// Two nodes on servers that the test has started.
#[track_caller]
pub fn two_nodes(broker: &str) -> [Live; 2] {
    let text = text(broker, "");
    let nodes = [Live::with_file(&text), Live::with_file(&text)];
    for live in &nodes {
        soon("the node is ready", || live.get("/readyz").0 == 200);
    }
    nodes
}

/// Runs each scenario on both brokers, as tests of their own.
macro_rules! on_both_brokers {
    ($($name:ident),+ $(,)?) => {
        mod memory {
            $(#[test] fn $name() { super::$name(crate::stage::Broker::Memory); })+
        }
        mod redis {
            $(#[test] fn $name() { super::$name(crate::stage::Broker::Redis); })+
        }
    };
}
pub(crate) use on_both_brokers;

/// Waits for a condition, or fails the test.
#[track_caller]
pub fn soon(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + WAIT;
    while !holds() {
        assert!(Instant::now() < deadline, "in vain: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Publishes as a back-end; the offset, in rooms that keep publications.
#[track_caller]
pub fn publish(live: &Live, room: &str, id: &str) -> Option<u64> {
    let body = json!({ "type": "note", "room": room, "id": id });
    let (status, answer) = live.request("POST", "/api/v1/publish", &body.to_string());
    assert_eq!(status, 200, "{answer}");
    serde_json::from_str::<Value>(&answer).unwrap()["offset"].as_u64()
}

/// A client that gives its token in the query, with more parameters.
#[track_caller]
pub fn dial(live: &Live, sub: &str, more: &str) -> (Ws, Value) {
    let path = format!("/ws?token={}{more}", live.token(sub, "user"));
    let mut ws = Dial::default().path(&path).open(live.public());
    let welcome = ws.welcome();
    (ws, welcome)
}

/// A client that authenticates in its first message, with this said about its session.
#[track_caller]
pub fn authenticate(live: &Live, sub: &str, data: &Value) -> (Ws, Value) {
    let mut ws = live.dial();
    let mut data = data.clone();
    data["token"] = live.token(sub, "user").into();
    ws.tell(&json!({ "type": "auth", "data": data }));
    let welcome = ws.welcome();
    (ws, welcome)
}

/// The resume token of a welcome.
#[track_caller]
pub fn token_of(welcome: &Value) -> String {
    welcome["resume_token"].as_str().expect("a welcome offers to resume").to_owned()
}

/// Joins a room, whatever comes before the answer.
#[track_caller]
pub fn join(ws: &mut Ws, room: &str) -> Value {
    ws.tell(&json!({ "type": "subscribe", "data": { "room": room } }));
    loop {
        let answer = next_of(ws, "subscribed");
        if answer["data"]["room"] == room {
            return answer;
        }
    }
}

/// The next message of this type, whatever comes before it.
#[track_caller]
pub fn next_of(ws: &mut Ws, kind: &str) -> Value {
    loop {
        let message = ws.json();
        if message["type"] == kind {
            return message;
        }
    }
}

/// What a client heard of a room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    pub id: String,
    pub offset: Option<u64>,
}

/// The notes of a room up to the one with this id.
#[track_caller]
pub fn notes_until(ws: &mut Ws, room: &str, last: &str) -> Vec<Note> {
    let mut notes = Vec::new();
    loop {
        let message = ws.json();
        if message["type"] != "note" || message["room"] != room {
            continue;
        }
        let id = message["id"].as_str().unwrap().to_owned();
        let offset = message["metadata"]["offset"].as_u64();
        let done = id == last;
        notes.push(Note { id, offset });
        if done {
            return notes;
        }
    }
}

/// Ids of notes that were not heard before, by their rising position: what a client shows that drops repeats.
pub fn shown(notes: &[Note]) -> Vec<String> {
    let mut covered = 0;
    let news = notes.iter().filter(|note| {
        let offset = note.offset.expect("the room keeps publications");
        let news = offset > covered;
        covered = covered.max(offset);
        news
    });
    news.map(|note| note.id.clone()).collect()
}

/// Fails if a publication comes in this time.
#[track_caller]
pub fn hears_nothing(ws: &mut Ws, within: Duration) {
    let deadline = Instant::now() + within;
    while let Some(heard) = ws.heard(deadline.saturating_duration_since(Instant::now())) {
        let Heard::Text(text) = heard else { continue };
        let message: Value = serde_json::from_str(&text).unwrap();
        assert_ne!(message["type"], "note", "{message}");
    }
}

/// How a connection ends, whatever comes before: the Close frame's code, or `None` where the socket ends without one.
#[track_caller]
pub fn end(ws: &mut Ws, within: Duration) -> Option<u16> {
    let deadline = Instant::now() + within;
    loop {
        match ws.heard(deadline.saturating_duration_since(Instant::now())) {
            Some(Heard::Close(code, _)) => return code,
            Some(Heard::End) => return None,
            Some(Heard::Ping(payload)) => ws.flood(&crate::common::ws::frame(PONG, &payload)),
            Some(Heard::Text(_) | Heard::Binary(_) | Heard::Pong(_)) => {}
            None => panic!("the connection did not end within {within:?}"),
        }
    }
}
