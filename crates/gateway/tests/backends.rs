//! What back-ends ask of whole nodes with both brokers: batches, history by pages, requests that are sent again, and
//! answers that wait for users (G4, G5, G17).
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
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use common::Live;
use common::ws::{Heard, PONG, Ws};
use serde_json::{Value, json};
use xtask::servers::Redis;

const RULES: &str = r#"
[listen]
public = "127.0.0.1:0"
internal = "127.0.0.1:0"

[[rooms]]
match = "kept-{id}"
join = "true"
history = { size = 1000 }

[[rooms]]
match = "talk-{id}"
join = "true"
history = {}
receipts = true
"#;

fn ready(text: &str) -> Live {
    Live::with_file(text).until_ready()
}

fn on(redis: &Redis) -> Live {
    let servers = format!("servers = [\"127.0.0.1:{}\"]\n", redis.port());
    ready(&format!("[broker]\nkind = \"redis\"\n[redis]\n{servers}{RULES}"))
}

fn with_each_broker(check: impl Fn(&Live)) {
    check(&ready(RULES));
    let redis = Redis::start(&[]).unwrap();
    check(&on(&redis));
}

fn asked(live: &Live, method: &str, path: &str, body: &str) -> (u16, Value) {
    let (status, answer) = live.request(method, path, body);
    (status, serde_json::from_str(&answer).unwrap())
}

/// Posts under an idempotency key.
fn post_once(live: &Live, path: &str, key: &str, body: &str) -> (u16, Value) {
    let mut stream = TcpStream::connect(live.internal()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let length = body.len();
    write!(
        stream,
        "POST {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-type: application/json\r\n\
         idempotency-key: \"{key}\"\r\ncontent-length: {length}\r\n\r\n{body}"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, serde_json::from_str(body).unwrap())
}

/// Does what a client does: answers a ping, acks what is to be acked.
fn attend(member: &mut Ws) {
    match member.heard(Duration::from_millis(50)) {
        Some(Heard::Ping(payload)) => member.send(PONG, &payload),
        Some(Heard::Text(text)) => {
            let message: Value = serde_json::from_str(&text).unwrap();
            if message["requiresAck"] == true {
                member.tell(&json!({"type": "ack", "ackId": message["id"]}));
            }
        }
        None => {}
        Some(other) => panic!("{other:?}"),
    }
}

#[test]
fn a_batch_is_heard_in_its_order_and_read_back_page_by_page() {
    with_each_broker(|live| {
        let mut member = live.user("ann");
        member.join("kept-1");
        let one = |n: u64| json!({"room": "kept-1", "type": "note", "data": {"n": n}});
        let all: Vec<_> = (1..=100).map(one).collect();
        let body = json!({ "publications": all }).to_string();
        let (status, answer) = asked(live, "POST", "/api/v1/batch", &body);
        assert_eq!(status, 200, "{answer}");
        for (at, result) in answer["results"].as_array().unwrap().iter().enumerate() {
            let found = (&result["status"], &result["level"], &result["offset"]);
            assert_eq!(found, (&json!(200), &json!("stored"), &json!(at + 1)));
        }
        for n in 1..=100 {
            assert_eq!(member.json()["data"]["n"], n);
        }
        for (direction, numbers) in
            [("forward", (1..=100).collect::<Vec<u64>>()), ("backward", (1..=100).rev().collect())]
        {
            let (mut read, mut next) = (Vec::new(), String::new());
            for _ in 0..4 {
                let query = format!("direction={direction}&limit=30{next}");
                let (status, page) =
                    asked(live, "GET", &format!("/api/v1/rooms/kept-1/history?{query}"), "");
                assert_eq!(
                    (status, &page["offset"], &page["first"]),
                    (200, &json!(100), &json!(1))
                );
                let publications = page["publications"].as_array().unwrap().iter();
                read.extend(publications.map(|it| it["data"]["n"].as_u64().unwrap()));
                match page["next"].as_u64() {
                    Some(from) => next = format!("&from={from}"),
                    None => break,
                }
            }
            assert_eq!(read, numbers, "{direction}");
        }
    });
}

#[test]
fn a_request_sent_again_to_another_node_is_carried_out_once() {
    let redis = Redis::start(&[]).unwrap();
    let [first, second] = [on(&redis), on(&redis)];
    let mut member = second.user("ann");
    member.join("kept-1");
    member.join("kept-2");
    let note = |n: u64| json!({"room": "kept-1", "type": "note", "data": {"n": n}});
    let publish = "/api/v1/publish";
    let once = post_once(&first, publish, "order-1", &note(1).to_string());
    assert_eq!((once.0, &once.1["id"]), (200, &json!("order-1")));
    assert_eq!(post_once(&second, publish, "order-1", &note(1).to_string()), once);
    let other = post_once(&second, publish, "order-1", &note(2).to_string());
    assert_eq!((other.0, &other.1["name"]), (409, &json!("duplicate")));
    let rooms =
        json!({"rooms": ["kept-1", "kept-2"], "type": "note", "data": {"n": 3}}).to_string();
    let once = post_once(&first, "/api/v1/broadcast", "order-2", &rooms);
    assert_eq!(once.1["results"][1]["id"], "order-2/1");
    assert_eq!(post_once(&second, "/api/v1/broadcast", "order-2", &rooms), once);
    let heard: Vec<_> = (0..3).map(|_| member.json()["id"].clone()).collect();
    let mut heard: Vec<_> = heard.iter().map(|id| id.as_str().unwrap()).collect();
    heard.sort_unstable();
    assert_eq!(heard, ["order-1", "order-2/0", "order-2/1"]);
    member.expect_silence(Duration::from_millis(200));
}

#[test]
fn an_answer_waits_until_enough_users_have_it_or_says_that_they_do_not() {
    with_each_broker(|live| {
        let publish = |wait: &str, metadata: Value| {
            let body = json!({"room": "talk-1", "type": "note", "metadata": metadata});
            let path = format!("/api/v1/publish?{wait}");
            asked(live, "POST", &path, &body.to_string())
        };
        let nobody = publish("wait=delivered&timeout=300ms", json!({}));
        let expected = json!({"waited": "delivered", "met": false, "count": 0, "users": []});
        for (key, value) in expected.as_object().unwrap() {
            assert_eq!((nobody.0, &nobody.1[key]), (200, value), "{key}");
        }
        let mut members = ["ann", "bob"].map(|user| live.user(user));
        members.iter_mut().for_each(|member| member.join("talk-1"));
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for member in &mut members {
                scope.spawn(|| {
                    while !over.load(Ordering::Relaxed) {
                        attend(member);
                    }
                });
            }
            let delivered = publish("wait=delivered&quorum=2&timeout=10s", json!({}));
            let acked = publish("wait=acked&quorum=2&timeout=10s", json!({"requires_ack": true}));
            let more = publish("wait=delivered&quorum=3&timeout=200ms", json!({}));
            over.store(true, Ordering::Relaxed);
            assert_eq!(delivered.1["users"], json!(["ann", "bob"]), "{delivered:?}");
            let found = (&delivered.1["met"], &delivered.1["level"]);
            assert_eq!(found, (&json!(true), &json!("stored")));
            let found = (&acked.1["waited"], &acked.1["met"], &acked.1["count"]);
            assert_eq!(found, (&json!("acked"), &json!(true), &json!(2)), "{acked:?}");
            assert_eq!((more.0, &more.1["met"]), (200, &json!(false)));
        });
    });
}
