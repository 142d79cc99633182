//! Clients that do not read: what waits for them is bounded, classes keep their order, and others are not delayed.

use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use roomcast_protocol::codes::Close;
use roomcast_protocol::limits::LimitName;
use serde_json::{Value, json};
use socket2::{Domain, Socket, Type};

use crate::common::Live;
use crate::common::ws::{Dial, NARROW_BYTES, Ws};
use crate::scene::{Scene, expect_pong};

/// Payload of one publication. Units: bytes.
const DATA_BYTES: usize = 16 * 1_024;

const WAITING: &str = "roomcast_outboxes_waiting_bytes";

/// How often a lane reports, and a bit.
const REPORT: Duration = Duration::from_millis(260);

/// A member of `demo-slow` that does not read.
fn sleeper(live: &Live, sub: &str) -> Ws {
    let mut ws = Dial::with_token(&live.token(sub, "user")).narrow().open(live.public());
    ws.welcome();
    ws.join("demo-slow");
    ws
}

/// Publishes so often into `demo-slow`, and waits until the node has taken it.
fn publish(publisher: &mut Ws, count: usize) -> usize {
    for _ in 0..count {
        let data = "x".repeat(DATA_BYTES);
        publisher.tell(&json!({ "type": "note", "room": "demo-slow", "data": data }));
    }
    expect_pong(publisher);
    count
}

/// How many bytes the kernel takes for a client that does not read.
fn kernel_bytes() -> usize {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    client.set_recv_buffer_size(NARROW_BYTES).unwrap();
    client.connect(&listener.local_addr().unwrap().into()).unwrap();
    let mut server: TcpStream = listener.accept().unwrap().0;
    server.set_nodelay(true).unwrap();
    server.set_write_timeout(Some(Duration::from_millis(100))).unwrap();
    let mut taken = 0;
    while let Ok(count) = server.write(&[0; DATA_BYTES]) {
        taken += count;
    }
    taken
}

/// Publishes until this many bytes wait for the sleepers, and says how many publications that took.
fn fill(live: &Live, publisher: &mut Ws, bytes: f64) -> usize {
    let mut count = publish(publisher, kernel_bytes() * 9 / 10 / DATA_BYTES);
    while live.metric(WAITING) < Some(bytes) {
        count += publish(publisher, 3);
        assert!(count < 4_000, "the kernel takes it all");
        std::thread::sleep(REPORT);
    }
    count
}

/// How often this limit bit.
fn hits(live: &Live, limit: LimitName) -> Option<f64> {
    live.metric_with("roomcast_limits_hit_total", &format!("\"{}\"", limit.name()))
}

#[test]
fn a_client_that_does_not_read_is_ended_at_its_outbox_and_others_are_not_delayed() {
    let mut scene = Scene::with(&[("limits.outbox_bytes", "256 KiB")]);
    let mut asleep = sleeper(&scene.live, "sleeper");
    let mut awake = scene.live.user("awake");
    awake.join("demo-slow");
    // What waits is under the limit: it is kept, and read later.
    let count = fill(&scene.live, &mut scene.eve, 1.0);
    (0..count).for_each(|_| assert_eq!(awake.json()["type"], "note"));
    (0..count).for_each(|_| assert_eq!(asleep.json()["type"], "note"));
    scene.bystander.lives();
    assert_eq!(hits(&scene.live, LimitName::OutboxBytes), Some(0.0));
    // Over it the connection ends, as slow.
    let started = Instant::now();
    while hits(&scene.live, LimitName::OutboxBytes) == Some(0.0) {
        publish(&mut scene.eve, 32);
        (0..32).for_each(|_| assert_eq!(awake.json()["type"], "note"));
        scene.bystander.lives();
        assert!(started.elapsed() < Duration::from_secs(20), "its outbox has no end");
    }
    asleep.expect_close_at_last(Close::Slow);
    scene.all_live();
    expect_pong(&mut awake);
    scene.live.expect_hits(LimitName::OutboxBytes, 1);
    scene.live.expect_closes(Close::Slow, 1);
}

#[test]
fn the_fullest_is_ended_where_all_outboxes_together_hold_too_much() {
    let live = Live::start(&[
        ("limits.outbox_bytes", "400 KiB"),
        ("limits.outboxes_bytes", "400 KiB"),
        ("node.lanes", "1"),
    ]);
    let mut eve = live.backend();
    let (mut fuller, mut other) = (sleeper(&live, "fuller"), sleeper(&live, "other"));
    for _ in 0..4 {
        let data = "x".repeat(DATA_BYTES);
        eve.tell(&json!({ "type": "note", "room": "user-fuller", "data": data }));
    }
    fill(&live, &mut eve, 1.0);
    let started = Instant::now();
    while hits(&live, LimitName::OutboxesBytes) == Some(0.0) {
        publish(&mut eve, 2);
        std::thread::sleep(REPORT);
        assert!(started.elapsed() < Duration::from_secs(20), "all outboxes together have no end");
    }
    fuller.expect_close_at_last(Close::Slow);
    live.expect_hits(LimitName::OutboxesBytes, 1);
    live.expect_hits(LimitName::OutboxBytes, 0);
    live.expect_closes(Close::Slow, 1);
    // The other one still gets what waits for it.
    other.tell(&json!({ "type": "ping", "timestamp": 7 }));
    while other.json()["type"] != "pong" {}
}

#[test]
fn a_client_that_takes_nothing_for_long_is_ended() {
    let live = Live::start(&[("limits.write_timeout", "500ms")]);
    let mut eve = live.user("eve");
    let mut asleep = sleeper(&live, "sleeper");
    publish(&mut eve, kernel_bytes() / DATA_BYTES + 8);
    live.expect_closes(Close::Slow, 1);
    asleep.expect_close_at_last(Close::Slow);
    expect_pong(&mut eve);
}

#[test]
fn a_slow_client_that_reads_on_within_the_write_timeout_hears_why_it_ended() {
    let live = Live::start(&[("limits.write_timeout", "5s"), ("limits.outbox_bytes", "256 KiB")]);
    let mut eve = live.user("eve");
    let mut asleep = sleeper(&live, "sleeper");
    publish(&mut eve, kernel_bytes() / DATA_BYTES + 64);
    live.expect_closes(Close::Slow, 1);
    // Longer than any other connection has for it.
    std::thread::sleep(Duration::from_millis(2_500));
    asleep.expect_close_at_last(Close::Slow);
    expect_pong(&mut eve);
}

#[test]
fn a_slow_member_hears_high_before_normal_and_low_and_each_class_in_order() {
    let live = Live::start(&[]);
    let mut eve = live.user("eve");
    let mut asleep = sleeper(&live, "sleeper");
    let filled = fill(&live, &mut eve, 60_000.0);
    for n in 0..3 {
        for priority in ["low", "normal", "high"] {
            let metadata = json!({ "priority": priority });
            eve.tell(
                &json!({ "type": "mark", "room": "demo-slow", "data": n, "metadata": metadata }),
            );
        }
    }
    expect_pong(&mut eve);
    let heard: Vec<Value> = (0..filled + 9).map(|_| asleep.json()).collect();
    let place = |priority: &str, n: u32| {
        let is_it = |it: &Value| {
            it["type"] == "mark" && it["metadata"]["priority"] == priority && it["data"] == n
        };
        heard.iter().position(is_it).unwrap()
    };
    for n in 0..3 {
        assert!(place("high", n) < place("normal", n) && place("normal", n) < place("low", n));
    }
    for priority in ["high", "normal", "low"] {
        assert!(place(priority, 0) < place(priority, 1) && place(priority, 1) < place(priority, 2));
    }
    let last_of_the_others = heard.iter().rposition(|heard| heard["type"] == "note").unwrap();
    assert!(place("high", 2) < last_of_the_others, "high ones wait for all that waited before");
}

#[test]
fn a_high_one_waits_for_one_write_of_the_others_and_they_still_move() {
    let live = Live::start(&[]);
    let mut eve = live.user("eve");
    let mut asleep = sleeper(&live, "sleeper");
    let filled = fill(&live, &mut eve, 120_000.0);
    let waiting_bytes = live.metric(WAITING).unwrap();
    let say = |eve: &mut Ws, kind: &str, priority: &str, data: &str| {
        let metadata = json!({ "priority": priority });
        eve.tell(&json!({ "type": kind, "room": "demo-slow", "data": data, "metadata": metadata }));
    };
    say(&mut eve, "first", "high", "");
    say(&mut eve, "lowest", "low", "");
    // So many high ones that the others had to wait for all of them if classes did not share.
    (0..24).for_each(|_| say(&mut eve, "many", "high", &"x".repeat(DATA_BYTES)));
    expect_pong(&mut eve);
    let heard: Vec<Value> = (0..filled + 26).map(|_| asleep.json()).collect();
    let first = |kind: &str| heard.iter().position(|it| it["type"] == kind).unwrap();
    let last = |kind: &str| heard.iter().rposition(|it| it["type"] == kind).unwrap();
    // A note is longer than a write of merged frames may be, so a write is one of them: the one that was begun.
    let note_bytes = heard[0].to_string().len() as f64;
    let behind = heard[first("first")..].iter().filter(|it| it["type"] == "note").count();
    assert!((behind + 1) as f64 * note_bytes >= waiting_bytes, "{behind} of {waiting_bytes}");
    let moved = heard[first("many")..last("many")].iter().filter(|it| it["type"] == "note").count();
    assert!(moved >= 2, "high ones that never end stop the others");
    assert!(first("lowest") > first("many"));
}
