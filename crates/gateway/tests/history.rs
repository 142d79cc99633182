//! Rooms that keep publications, on whole nodes with both brokers: positions, `since`, history, skips, levels of acks,
//! repeats, and orders that reach every node (G2 to G6, G12, G22).
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    unreachable_pub,
    reason = "a helper that fails shall fail its test; the helpers are shared by several test programs"
)]

mod common;

use std::time::{Duration, Instant};

use common::Live;
use common::ws::Ws;
use roomcast_protocol::codes::{Close, Refusal};
use serde_json::{Value, json};
use xtask::servers::{Client, Redis};

const RULES: &str = r#"
[[rooms]]
match = "kept-{id}"
join = "true"
publish = "user.kind == 'backend'"
history = { size = 1000, bytes_max = "1 MiB", ttl = "10m" }

[[rooms]]
match = "tiny-{id}"
join = "true"
publish = "user.kind == 'backend'"
history = { size = 3 }

[[rooms]]
match = "safe-{id}"
join = "true"
publish = "user.kind == 'backend'"
history = {}
durability = "replicated"

[[rooms]]
match = "loose-{id}"
join = "true"
publish = "user.kind == 'backend'"
"#;

/// A node with these rules, and more sections.
fn node(more: &str) -> Live {
    let listen = "[listen]\npublic = \"127.0.0.1:0\"\ninternal = \"127.0.0.1:0\"\n";
    let live = Live::with_file(&format!("{listen}{more}{RULES}"));
    soon("the node is ready", || live.get("/readyz").0 == 200);
    live
}

fn on(redis: &Redis, more: &str) -> Live {
    let servers = format!("servers = [\"127.0.0.1:{}\"]\n", redis.port());
    node(&format!("[broker]\nkind = \"redis\"\n[redis]\n{servers}{more}"))
}

/// The same with both brokers.
fn with_each_broker(check: impl Fn(&Live)) {
    check(&node(""));
    let redis = Redis::start(&[]).unwrap();
    check(&on(&redis, ""));
}

#[track_caller]
fn soon(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < deadline, "in vain: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// What a message's metadata says of its position.
#[track_caller]
fn position(message: &Value) -> (String, u64) {
    let metadata = &message["metadata"];
    let epoch = metadata["epoch"].as_str().unwrap_or_else(|| panic!("no position: {message}"));
    (epoch.to_owned(), metadata["offset"].as_u64().unwrap())
}

/// A back-end that publishes.
struct Publisher(Ws);

impl Publisher {
    /// Publishes a number under its own id, and takes the ack.
    #[track_caller]
    fn publish(&mut self, room: &str, number: u64) -> Value {
        self.publish_with(room, number, &json!({}))
    }

    #[track_caller]
    fn publish_with(&mut self, room: &str, number: u64, metadata: &Value) -> Value {
        let id = format!("{room}-{number}");
        let ack = self.ask(room, &id, number, metadata);
        assert_eq!((&ack["type"], &ack["ackId"]), (&json!("ack"), &json!(id)), "{ack}");
        ack
    }

    #[track_caller]
    fn ask(&mut self, room: &str, id: &str, number: u64, metadata: &Value) -> Value {
        self.0.ask(&json!({
            "type": "note", "room": room, "id": id, "data": {"n": number}, "requiresAck": true,
            "metadata": metadata,
        }))
    }
}

#[track_caller]
fn join(ws: &mut Ws, room: &str, since: Option<(&str, u64)>) -> Value {
    let mut data = json!({ "room": room });
    if let Some((epoch, offset)) = since {
        data["since"] = json!({ "epoch": epoch, "offset": offset });
    }
    let answer = ws.ask(&json!({"type": "subscribe", "id": "s", "data": data}));
    assert_eq!((&answer["type"], &answer["data"]["room"]), (&json!("subscribed"), &json!(room)));
    answer
}

/// The next publication, which must have this number and place.
#[track_caller]
fn hears(ws: &mut Ws, number: u64, offset: u64) {
    let heard = ws.json();
    assert_eq!((&heard["data"]["n"], position(&heard).1), (&json!(number), offset), "{heard}");
}

#[test]
fn who_comes_back_with_since_gets_what_it_missed_and_then_what_is_live() {
    with_each_broker(|live| {
        let mut publisher = Publisher(live.backend());
        let mut member = live.user("ann");
        let (epoch, start) = position(&join(&mut member, "kept-1", None));
        assert_eq!((epoch.len(), start), (32, 0));
        for number in 1..=3 {
            let ack = publisher.publish("kept-1", number);
            assert_eq!(ack["data"]["level"], "stored");
            assert_eq!(position(&ack), (epoch.clone(), number));
            hears(&mut member, number, number);
        }
        member.close();
        for number in 4..=6 {
            publisher.publish("kept-1", number);
        }
        let mut back = live.user("ann");
        let answer = join(&mut back, "kept-1", Some((&epoch, 3)));
        assert_eq!(answer["data"]["recovered"], true, "{answer}");
        assert_eq!(position(&answer), (epoch.clone(), 3));
        (4..=6).for_each(|number| hears(&mut back, number, number));
        publisher.publish("kept-1", 7);
        hears(&mut back, 7, 7);
        // Who is current misses nothing, and who did not ask is given nothing.
        let answer = join(&mut live.user("bob"), "kept-1", Some((&epoch, 7)));
        assert_eq!(answer["data"]["recovered"], true);
        let answer = join(&mut live.user("cid"), "kept-1", None);
        assert_eq!((position(&answer).1, answer["data"].get("recovered")), (7, None));
    });
}

#[test]
fn what_cannot_be_given_is_told_with_its_reason() {
    with_each_broker(|live| {
        let mut publisher = Publisher(live.backend());
        let mut member = live.user("ann");
        let (epoch, _) = position(&join(&mut member, "tiny-1", None));
        (1..=5).for_each(|number| drop(publisher.publish("tiny-1", number)));
        let other = "0123456789abcdef0123456789abcdef";
        // Another user each time: one who comes back so is given its session back unasked.
        for (user, since, reason) in [
            ("bob", (&*epoch, 1), "too_old"),
            ("cid", (&*epoch, 9), "ahead"),
            ("dan", (other, 5), "epoch"),
        ] {
            let mut ws = live.user(user);
            let answer = join(&mut ws, "tiny-1", Some(since));
            assert_eq!(answer["data"]["recovered"], false, "{answer}");
            assert_eq!(answer["data"]["reason"], reason, "{answer}");
            assert_eq!(position(&answer), (epoch.clone(), 5));
            ws.expect_silence(Duration::from_millis(100));
        }
        // Three are kept: the second is the last that can be missed from.
        let mut ws = live.user("eve");
        assert_eq!(join(&mut ws, "tiny-1", Some((&epoch, 2)))["data"]["recovered"], true);
        (3..=5).for_each(|number| hears(&mut ws, number, number));
        let answer = join(&mut ws, "loose-1", Some((&epoch, 2)));
        assert_eq!(answer["data"]["reason"], "no_history");
        assert_eq!(answer["metadata"].get("epoch"), None);
    });
}

#[test]
fn history_is_read_a_page_at_a_time_in_both_directions() {
    with_each_broker(|live| {
        let mut publisher = Publisher(live.backend());
        (1..=7).for_each(|number| drop(publisher.publish("kept-1", number)));
        let mut ws = live.user("ann");
        let mut page = |data: Value| {
            let mut request = json!({"room": "kept-1"});
            request.as_object_mut().unwrap().extend(data.as_object().unwrap().clone());
            let answer = ws.ask(&json!({"type": "history", "id": "h", "data": request}));
            assert_eq!(answer["type"], "history", "{answer}");
            assert_eq!(position(&answer).1, 7);
            let publications = answer["data"]["publications"].as_array().unwrap();
            let numbers = publications.iter().map(|it| {
                assert_eq!(it["data"]["n"], it["metadata"]["offset"]);
                it["data"]["n"].as_u64().unwrap()
            });
            (numbers.collect::<Vec<_>>(), answer["data"].get("next").and_then(Value::as_u64))
        };
        assert_eq!(page(json!({})), (vec![7, 6, 5, 4, 3, 2, 1], None));
        assert_eq!(page(json!({"limit": 3})), (vec![7, 6, 5], Some(5)));
        assert_eq!(page(json!({"limit": 3, "from": 5})), (vec![4, 3, 2], Some(2)));
        assert_eq!(page(json!({"limit": 3, "from": 2})), (vec![1], None));
        let forward = |from: u64| json!({"limit": 4, "from": from, "direction": "forward"});
        assert_eq!(page(forward(0)), (vec![1, 2, 3, 4], Some(4)));
        assert_eq!(page(forward(4)), (vec![5, 6, 7], None));
        ws.tell(&json!({"type": "history", "data": {"room": "loose-1"}}));
        ws.expect_refusal(Refusal::Schema);
        ws.tell(&json!({"type": "history", "data": {"room": "user-bob"}}));
        ws.expect_refusal(Refusal::PermissionDenied);
    });
}

#[test]
fn what_a_member_may_not_hear_or_what_came_too_late_is_skipped_and_told() {
    with_each_broker(|live| {
        let mut publisher = Publisher(live.backend());
        let claims = json!({"sub": "vip", "permissions": ["vip"]});
        let (mut vip, mut plain) = (live.enter(&live.token_of(&claims)), live.user("ann"));
        let (epoch, _) = position(&join(&mut plain, "kept-1", None));
        join(&mut vip, "kept-1", None);
        publisher.publish_with("kept-1", 1, &json!({"requires": ["vip"]}));
        publisher.publish("kept-1", 2);
        (1..=2).for_each(|number| hears(&mut vip, number, number));
        let skip = |to: u64, count: u64, reasons: &[&str]| {
            let data = json!({"room": "kept-1", "to": to, "count": count, "reasons": reasons});
            json!({"type": "skip", "data": data, "metadata": {"epoch": epoch}})
        };
        plain.expect(&skip(1, 1, &["filtered"]));
        hears(&mut plain, 2, 2);
        // By itself where nothing follows.
        publisher.publish_with("kept-1", 3, &json!({"requires": ["vip"]}));
        plain.expect(&skip(3, 1, &["filtered"]));
        publisher.publish_with("kept-1", 4, &json!({"ttl": 1}));
        hears(&mut plain, 4, 4);
        publisher.publish("kept-1", 5);
        hears(&mut plain, 5, 5);
        std::thread::sleep(Duration::from_millis(1_200));
        let mut back = live.user("bob");
        assert_eq!(join(&mut back, "kept-1", Some((&epoch, 2)))["data"]["recovered"], true);
        back.expect(&skip(4, 2, &["expired", "filtered"]));
        hears(&mut back, 5, 5);
        let answer = back.ask(&json!({"type": "history", "data": {"room": "kept-1"}}));
        let kept = answer["data"]["publications"].as_array().unwrap();
        let offsets: Vec<_> = kept.iter().map(|it| position(it).1).collect();
        assert_eq!(offsets, [5, 2]);
    });
}

#[test]
fn a_repeat_has_the_place_of_the_first_and_is_delivered_once() {
    with_each_broker(|live| {
        let (mut publisher, mut member) = (Publisher(live.backend()), live.user("ann"));
        join(&mut member, "kept-1", None);
        let first = publisher.publish("kept-1", 1);
        publisher.publish("kept-1", 2);
        for _ in 0..3 {
            assert_eq!(publisher.publish("kept-1", 1), first);
        }
        let other = publisher.ask("kept-1", "kept-1-1", 9, &json!({}));
        assert_eq!(other["data"]["name"], "duplicate", "{other}");
        (1..=2).for_each(|number| hears(&mut member, number, number));
        publisher.publish("kept-1", 3);
        hears(&mut member, 3, 3);
    });
}

#[test]
fn an_ack_says_how_safe_the_publication_is() {
    let master = Redis::start(&["--repl-diskless-sync-delay", "0"]).unwrap();
    let port = master.port().to_string();
    // From the beginning: the first replica of all gives a master another id, and rooms another epoch.
    let replica = Redis::start(&["--replicaof", "127.0.0.1", &port]).unwrap();
    let follows = || {
        let info = replica.command(&["INFO", "replication"]).unwrap().text();
        info.contains("master_link_status:up")
    };
    soon("the replica follows", follows);
    let live = on(&master, "wait_timeout = \"300ms\"\n");
    let mut publisher = Publisher(live.backend());
    assert_eq!(publisher.publish("loose-1", 1)["data"]["level"], "accepted");
    assert_eq!(publisher.publish("loose-1", 1)["metadata"].get("offset"), None);
    assert_eq!(publisher.publish("kept-1", 1)["data"]["level"], "stored");
    let body = r#"{"room":"kept-1","type":"note","id":"api-1"}"#;
    let (status, answer) = live.request("POST", "/api/v1/publish", body);
    let answer: Value = serde_json::from_str(&answer).unwrap();
    let told = (&answer["level"], &answer["offset"], answer["epoch"].as_str().map(str::len));
    assert_eq!((status, told), (200, (&json!("stored"), &json!(2), Some(32))));
    // The replica is gone: it is stored, and heard, but nobody can say that it is safe.
    replica.command(&["REPLICAOF", "NO", "ONE"]).unwrap();
    let mut member = live.user("ann");
    join(&mut member, "safe-1", None);
    let answer = publisher.ask("safe-1", "safe-1-1", 1, &json!({}));
    let data = &answer["data"];
    assert_eq!((&data["name"], &data["outcome"]), (&json!("unavailable"), &json!("unknown")));
    hears(&mut member, 1, 1);
    replica.command(&["REPLICAOF", "127.0.0.1", &port]).unwrap();
    soon("the replica follows again", follows);
    let ack = publisher.publish("safe-1", 1);
    assert_eq!((&ack["data"]["level"], position(&ack).1), (&json!("replicated"), 1));
    member.expect_silence(Duration::from_millis(200));
}

#[test]
fn an_order_to_disconnect_reaches_every_node_and_one_that_was_cut_off() {
    let redis = Redis::start(&[]).unwrap();
    let [first, second] = [on(&redis, ""), on(&redis, "")];
    let (mut here, mut there) = (first.user("ann"), second.user("ann"));
    let mut other = second.user("bob");
    let (status, answer) = first.request("POST", "/api/v1/users/ann/disconnect", "");
    let answer: Value = serde_json::from_str(&answer).unwrap();
    assert_eq!((status, &answer["level"]), (200, &json!("stored")));
    here.expect_close(Close::Disconnected);
    there.expect_close(Close::Disconnected);
    other.expect_silence(Duration::from_millis(100));
    // The order is lost on the way of all feeds, and found again.
    let mut there = second.user("ann");
    let mut admin = Client::connect(redis.port()).unwrap();
    admin.command(&["CLIENT", "KILL", "TYPE", "pubsub"]).unwrap();
    let (status, _) = first.request("POST", "/api/v1/users/ann/disconnect", "");
    assert_eq!(status, 200);
    there.expect_close_at_last(Close::Disconnected);
    other.tell(&json!({"type": "ping", "timestamp": 1}));
    soon("the other goes on", || other.json()["type"] == "pong");
}
