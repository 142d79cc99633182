//! The internal port of a whole node: what back-ends, probes and scrapers see, with keys and in development.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    unreachable_pub,
    reason = "a helper that fails shall fail its test; the helpers are shared by several test programs"
)]

mod common;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use common::Live;
use roomcast_broker::MemoryBroker;
use roomcast_gateway::Node;
use roomcast_gateway::config::{Config, LoadOptions};
use roomcast_protocol::codes::{Close, Refusal};
use roomcast_protocol::limits::LimitName;
use serde_json::{Value, json};

const KEY: &str = "a-key-that-only-the-tests-know";

/// An answer: status, headers in lower case, body.
struct Answer {
    status: u16,
    head: String,
    body: Value,
}

/// Sends a request with these header lines, on a connection of its own.
fn ask(address: SocketAddr, method: &str, path: &str, headers: &str, body: &str) -> Answer {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let length = body.len();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nconnection: close\r\n{headers}content-length: {length}\r\n\r\n{body}"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let body = serde_json::from_str(body).unwrap_or_else(|_| Value::String(body.to_owned()));
    Answer { status, head: head.to_ascii_lowercase(), body }
}

/// A node outside of development, with one API key.
fn node_with_a_key() -> Node {
    let name = format!("roomcast-tests-api-{}.toml", std::process::id());
    let file = std::env::temp_dir().join(name);
    std::fs::write(&file, format!("[[api.keys]]\nname = \"web\"\nsecret = \"{KEY}\"\n")).unwrap();
    let port = |name: &str| (format!("listen.{name}"), "127.0.0.1:0".to_owned());
    let overrides = vec![port("public"), port("internal")];
    let config = Config::load(&LoadOptions {
        file: Some(file.clone()),
        overrides,
        ..LoadOptions::default()
    });
    std::fs::remove_file(file).unwrap();
    Node::start(&config.unwrap_or_else(|errors| panic!("{errors}"))).unwrap()
}

/// A development node with these keys.
fn config(keys: &[(&str, &str)]) -> Config {
    let ports = [("listen.public", "127.0.0.1:0"), ("listen.internal", "127.0.0.1:0")];
    let keys = ports.iter().chain(keys).map(|(key, value)| ((*key).into(), (*value).into()));
    let options = LoadOptions { overrides: keys.collect(), dev: true, ..LoadOptions::default() };
    Config::load(&options).unwrap_or_else(|errors| panic!("{errors}"))
}

fn soon(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..200 {
        if holds() {
            return;
        }
        std::thread::sleep(Duration::from_millis(25));
    }
    panic!("in vain: {what}");
}

#[test]
fn outside_development_the_api_needs_its_key_and_health_does_not() {
    let node = node_with_a_key();
    let address = node.internal_addr();
    let json = "host: any.example\r\ncontent-type: application/json\r\n";
    let with_key = format!("{json}authorization: Bearer {KEY}\r\n");
    let with_wrong_key = format!("{json}authorization: Bearer {KEY}x\r\n");
    let body = r#"{"room":"alerts","type":"note","id":"n-1"}"#;
    for headers in [json, &with_wrong_key] {
        let refused = ask(address, "POST", "/api/v1/publish", headers, body);
        assert_eq!(refused.status, 401);
        assert!(refused.head.contains("www-authenticate: bearer"), "{}", refused.head);
        assert!(!refused.body.to_string().contains(KEY));
    }
    let answer = ask(address, "POST", "/api/v1/publish", &with_key, body);
    assert_eq!((answer.status, answer.body), (200, json!({"id": "n-1", "level": "accepted"})));
    for path in ["/metrics", "/livez", "/readyz"] {
        soon(path, || ask(address, "GET", path, "host: x\r\n", "").status == 200);
        assert_eq!(ask(node.public_addr(), "GET", path, "host: x\r\n", "").status, 404, "{path}");
    }
    assert_eq!(ask(node.public_addr(), "GET", "/", "host: localhost\r\n", "").status, 404);
    let token = ask(node.public_addr(), "GET", "/dev/token", "host: localhost\r\n", "");
    assert_eq!(token.status, 404);
    node.stop();
}

#[test]
fn a_back_ends_publication_is_heard_once_however_often_it_is_sent() {
    let live = Live::start(&[]);
    let mut ws = live.user("7");
    ws.join("alerts");
    let body = r#"{"room":"alerts","type":"note","id":"n-1","sender":"billing","data":{"n":1}}"#;
    for _ in 0..3 {
        let (status, answer) = live.request("POST", "/api/v1/publish", body);
        let answer: Value = serde_json::from_str(&answer).unwrap();
        assert_eq!((status, answer), (200, json!({"id": "n-1", "level": "accepted"})));
    }
    let heard = ws.json();
    assert_eq!((&heard["id"], &heard["sender"]), (&json!("n-1"), &json!("billing")), "{heard}");
    assert_eq!((&heard["data"], &heard["room"]), (&json!({"n": 1}), &json!("alerts")));
    ws.expect_silence(Duration::from_millis(200));
    let other = body.replace("{\"n\":1}", "{\"n\":2}");
    let (status, answer) = live.request("POST", "/api/v1/publish", &other);
    assert_eq!(status, 409, "{answer}");
    live.expect_refusals(Refusal::Duplicate, 1);
    ws.expect_silence(Duration::from_millis(100));
}

#[test]
fn a_back_end_is_refused_by_name_and_the_member_beside_it_lives() {
    let live = Live::start(&[("limits.message_bytes", "1024"), ("limits.frame_bytes", "1024")]);
    let mut beside = common::Bystander::join(&live);
    let large = format!(r#"{{"room":"alerts","type":"note","data":"{}"}}"#, "x".repeat(1_024));
    for (body, status, refusal) in [
        ("{", 400, Refusal::BadJson),
        (r#"{"room":"alerts","type":"subscribe"}"#, 400, Refusal::UnknownType),
        (r#"{"room":"agents","type":"agent_status","data":{}}"#, 400, Refusal::Schema),
        (r#"{"room":"a\nb","type":"note"}"#, 400, Refusal::BadName),
        (r#"{"room":"nobody-has-a-rule-for-it","type":"note"}"#, 403, Refusal::PermissionDenied),
        (&large, 413, Refusal::TooLarge),
    ] {
        let (found, answer) = live.request("POST", "/api/v1/publish", body);
        let answer: Value = serde_json::from_str(&answer).unwrap();
        assert_eq!((found, &answer["name"]), (status, &json!(refusal.row().name)), "{answer}");
        live.expect_refusals(refusal, 1);
    }
    live.expect_hits(LimitName::MessageBytes, 1);
    beside.lives();
}

#[test]
fn members_of_all_lanes_are_listed_page_by_page() {
    let live = Live::start(&[("node.lanes", "3")]);
    let mut members: Vec<_> = (0..7).map(|index| live.user(&format!("u{index}"))).collect();
    members.iter_mut().for_each(|ws| ws.join("demo"));
    let (mut users, mut cursor) = (Vec::new(), String::new());
    for _ in 0..4 {
        let path = format!("/api/v1/rooms/demo/members?limit=3{cursor}");
        let (status, body) = live.get(&path);
        let body: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(status, 200, "{body}");
        let page = body["members"].as_array().unwrap();
        users.extend(page.iter().map(|member| member["user"].as_str().unwrap().to_owned()));
        match body["next"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    users.sort();
    assert_eq!(users, ["u0", "u1", "u2", "u3", "u4", "u5", "u6"]);
    drop(members);
    soon("the room is empty", || live.get("/api/v1/rooms/demo/members").1 == "{\"members\":[]}");
    live.assert_empty();
}

#[test]
fn a_disconnected_user_is_told_and_others_stay() {
    let live = Live::start(&[("node.lanes", "2")]);
    let mut gone: Vec<_> = (0..3).map(|_| live.user("7/ü")).collect();
    let mut stays = live.user("8");
    let path = "/api/v1/users/7%2F%C3%BC/disconnect";
    let ended = |sessions: u64| {
        let (status, answer) = live.request("POST", path, "");
        let answer: Value = serde_json::from_str(&answer).unwrap();
        let node = answer["nodes"][0]["node"].clone();
        let nodes = json!([{"node": node, "sessions": sessions}]);
        let ended = json!({
            "disconnected": sessions, "level": "stored", "nodes": nodes, "unanswered": [],
        });
        assert_eq!((status, answer, node.as_str().map(str::len)), (200, ended, Some(16)));
    };
    ended(3);
    gone.iter_mut().for_each(|ws| ws.expect_close(Close::Disconnected));
    live.expect_closes(Close::Disconnected, 3);
    ended(0);
    let pong = stays.ask(&json!({"type": "ping", "timestamp": 1}));
    assert_eq!(pong["type"], "pong");
}

#[test]
fn in_development_other_names_and_other_sites_reach_nothing() {
    let live = Live::start(&[]);
    let json = "content-type: application/json\r\n";
    let body = r#"{"room":"alerts","type":"note"}"#;
    for headers in [
        "host: evil.example\r\n",
        "host: evil.example\r\nauthorization: Bearer dev\r\n",
        "host: localhost\r\norigin: http://evil.example\r\n",
        "",
    ] {
        let answer =
            ask(live.internal(), "POST", "/api/v1/publish", &format!("{json}{headers}"), body);
        assert_eq!(answer.status, 403, "{headers}: {}", answer.body);
    }
    let answer = ask(live.public(), "GET", "/dev/token", "host: evil.example\r\n", "");
    assert_eq!(answer.status, 403);
    let answer = ask(live.public(), "GET", "/dev/token?sub=9", "host: localhost:1\r\n", "");
    assert_eq!((answer.status, &answer.body["sub"]), (200, &json!("9")));
    live.enter(answer.body["token"].as_str().unwrap());
}

#[test]
fn the_page_finds_the_node_it_came_from() {
    let live = Live::start(&[]);
    let page = ask(live.public(), "GET", "/", "host: localhost\r\n", "");
    assert_eq!(page.status, 200);
    assert!(page.head.contains("content-security-policy: default-src 'self'"), "{}", page.head);
    let info = ask(live.public(), "GET", "/dev/info", "host: localhost\r\n", "").body;
    assert_eq!(info["public"], live.public().to_string());
    assert_eq!(info["internal"], live.internal().to_string());
    let (_, ready) = live.get("/readyz");
    let ready: Value = serde_json::from_str(&ready).unwrap();
    assert_eq!((&ready["status"], &ready["node"]), (&json!("ready"), &info["node"]));
}

#[test]
fn scrapers_see_what_happened_and_zeros_afterwards() {
    let live = Live::start(&[]);
    let mut ws = live.user("7");
    ws.join("alerts");
    let body = r#"{"room":"alerts","type":"note"}"#;
    assert_eq!(live.request("POST", "/api/v1/publish", body).0, 200);
    assert_eq!(ws.json()["type"], "note");
    soon("the delivery is counted", || {
        live.metric("roomcast_publications_delivered_total") == Some(1.0)
    });
    assert_eq!(live.metric("roomcast_connections_open"), Some(1.0));
    assert_eq!(live.metric("roomcast_publications_encodings_total"), Some(1.0));
    assert_eq!(live.metric_with("roomcast_api_answers_total", "endpoint=\"publish\""), Some(1.0));
    assert!(live.metric("roomcast_connections_sent_bytes_total") > Some(100.0));
    assert!(live.metric("process_open_fds") > Some(5.0));
    assert_eq!(live.metric("roomcast_node_ready"), Some(1.0));
    assert!(live.metric("roomcast_node_turn_longest_seconds") > Some(0.0));
    drop(ws);
    live.assert_empty();
}

#[test]
fn a_node_that_never_reached_its_broker_runs_and_is_not_ready() {
    // Nobody listens there.
    let keys = [("broker.kind", "redis"), ("redis.servers", "127.0.0.1:1")];
    let node = Node::start(&config(&keys)).unwrap();
    let get = |path: &str| ask(node.internal_addr(), "GET", path, "host: localhost\r\n", "");
    let ready = get("/readyz");
    assert_eq!((ready.status, &ready.body["status"]), (503, &json!("not_ready")));
    assert_eq!(ready.body["cause"], "the broker has not been reached yet");
    assert_eq!(ready.body["broker"]["kind"], "redis");
    soon("all threads turn", || get("/livez").status == 200);
    let figures = get("/metrics").body;
    assert!(figures.as_str().unwrap().contains("\nroomcast_node_ready 0\n"));
    node.stop();
}

#[test]
fn a_node_whose_feed_ends_lives_on() {
    let broker = MemoryBroker::new();
    let node = Node::start_with(&config(&[]), &broker).unwrap();
    let get = |path: &str| ask(node.internal_addr(), "GET", path, "host: localhost\r\n", "");
    assert_eq!(get("/readyz").status, 200);
    broker.detach(node.id());
    // Longer than a thread may be silent.
    std::thread::sleep(Duration::from_millis(2_500));
    assert_eq!(get("/livez").status, 200);
    assert_eq!(get("/readyz").body["core"]["state"], "turning");
    node.stop();
}
