//! Rooms of the native dialect: joining, leaving, publishing and hearing, in every form and format.

use std::time::Duration;

use roomcast_protocol::codes::Refusal;
use serde_json::{Value, json};

use crate::common::Live;
use crate::common::ws::{BINARY, Dial, Heard, Ws};
use crate::scene::{compressed, deflate, expect_pong};

const QUIET: Duration = Duration::from_millis(150);

/// A member of the room `demo` that speaks MessagePack.
fn packer(live: &Live, sub: &str) -> Ws {
    let dial = Dial::with_token(&live.token(sub, "user")).subprotocol("roomcast.v1.msgpack");
    let answered = dial.send(live.public());
    assert_eq!(answered.header("sec-websocket-protocol"), Some("roomcast.v1.msgpack"));
    let mut ws = answered.ws;
    assert_eq!(unpack(&mut ws)["type"], "welcome");
    pack(&mut ws, &json!({ "type": "subscribe", "data": { "room": "demo" } }));
    assert_eq!(unpack(&mut ws)["type"], "subscribed");
    ws
}

fn pack(ws: &mut Ws, message: &Value) {
    ws.send(BINARY, &rmp_serde::to_vec_named(message).unwrap());
}

#[track_caller]
fn unpack(ws: &mut Ws) -> Value {
    match ws.next() {
        Heard::Binary(bytes) => rmp_serde::from_slice(&bytes).unwrap(),
        other => panic!("no MessagePack: {other:?}"),
    }
}

/// A member of the room `demo` that said it can inflate.
fn inflater(live: &Live, sub: &str) -> Ws {
    let mut ws = live.dial();
    ws.tell(&json!({ "type": "auth", "token": live.token(sub, "user"), "compressed": true }));
    ws.welcome();
    ws.join("demo");
    ws
}

#[track_caller]
fn inflate(message: &Value) -> Value {
    assert_eq!(message["type"], "compressed");
    let characters = message["data"].as_str().unwrap().chars();
    let bytes: Vec<u8> = characters.map(|character| u8::try_from(character).unwrap()).collect();
    serde_json::from_reader(flate2::read::ZlibDecoder::new(&bytes[..])).unwrap()
}

#[test]
fn joining_and_leaving_are_answered_in_both_forms() {
    let live = Live::start(&[]);
    let mut ann = live.user("ann");
    for (id, request) in [
        ("s1", json!({ "type": "subscribe", "id": "s1", "data": { "room": "agent-7" } })),
        (
            "s2",
            json!({ "type": "subscribe", "room": "agent-7", "metadata": { "correlation_id": "s2" } }),
        ),
    ] {
        ann.tell(&request);
        ann.expect(&json!({
            "type": "subscribed",
            "data": { "room": "agent-7" },
            "metadata": { "correlation_id": id },
        }));
    }
    ann.tell(&json!({ "type": "subscribe", "data": { "room": "alerts", "since": { "epoch": "e", "offset": 1 } } }));
    ann.expect(&json!({
        "type": "subscribed",
        "data": { "room": "alerts", "recovered": false, "reason": "no_history" },
        "metadata": {},
    }));
    let mut backend = live.backend();
    backend.tell(&json!({ "type": "note", "room": "agent-7", "id": "heard once", "data": 1 }));
    assert_eq!(ann.json()["id"], "heard once");
    for request in [
        json!({ "type": "unsubscribe", "id": "u", "data": { "room": "agent-7" } }),
        json!({ "type": "unsubscribe", "id": "u", "room": "agent-7" }),
    ] {
        ann.tell(&request);
        ann.expect(&json!({
            "type": "unsubscribed",
            "data": { "room": "agent-7" },
            "metadata": { "correlation_id": "u" },
        }));
    }
    backend.tell(&json!({ "type": "note", "room": "agent-7", "id": "not heard", "data": 1 }));
    ann.expect_silence(QUIET);
}

#[test]
fn the_publisher_and_every_member_hear_exactly_the_envelope_that_was_sent() {
    let live = Live::start(&[]);
    let mut json_member = live.user("ann");
    json_member.join("demo");
    let mut packed = packer(&live, "bob");
    let mut publisher = live.user("eve");
    publisher.join("demo");
    publisher.tell(&json!({
        "id": "m-1",
        "type": "note",
        "timestamp": "2024-01-15T10:30:00.000Z",
        "room": "demo",
        "data": { "text": "hé", "n": [1, -2, 2.5, null, true] },
        "metadata": { "correlation_id": "c-1", "priority": "high", "ttl": 300, "more": 1 },
        "whatever": {},
    }));
    let expected = json!({
        "id": "m-1",
        "type": "note",
        "timestamp": "2024-01-15T10:30:00.000Z",
        "sender": "eve",
        "room": "demo",
        "data": { "text": "hé", "n": [1, -2, 2.5, null, true] },
        "metadata": { "correlation_id": "c-1", "priority": "high", "ttl": 300 },
    });
    json_member.expect(&expected);
    publisher.expect(&expected);
    assert_eq!(unpack(&mut packed), expected);
    // From MessagePack the same way, with what is missing made by the node.
    pack(&mut packed, &json!({ "type": "note", "room": "demo", "timestamp": "yesterday" }));
    let heard = json_member.json();
    let (id, timestamp) = (heard["id"].as_str().unwrap(), heard["timestamp"].as_str().unwrap());
    assert!(uuid::Uuid::parse_str(id).is_ok(), "{heard}");
    assert!(timestamp.ends_with('Z') && timestamp != "yesterday", "{heard}");
    let expected = json!({
        "id": id, "type": "note", "timestamp": timestamp, "sender": "bob", "room": "demo", "data": {},
    });
    assert_eq!(heard, expected);
    publisher.expect(&expected);
    assert_eq!(unpack(&mut packed), expected);
}

#[test]
fn large_publications_reach_those_who_can_inflate_as_compressed_ones() {
    let live = Live::start(&[]);
    let mut plain = live.user("ann");
    plain.join("demo");
    let mut deflated = inflater(&live, "bob");
    let small = json!({ "type": "note", "room": "demo", "id": "small", "data": "x" });
    let large = json!({ "type": "note", "room": "demo", "id": "large", "data": "x".repeat(5_000) });
    let mut publisher = live.user("eve");
    publisher.tell(&small);
    publisher.tell(&large);
    let (first, second) = (plain.json(), plain.json());
    assert_eq!(deflated.json(), first);
    assert_eq!(inflate(&deflated.json()), second);
    assert_eq!(second["data"], large["data"]);
    deflated.expect_silence(QUIET);
}

#[test]
fn a_client_may_say_at_any_time_that_it_can_inflate_in_either_format() {
    let live = Live::start(&[]);
    // As the seed's client does: the token in the query, and `auth` behind it.
    let mut ann = live.user("ann");
    ann.join("demo");
    let mut bob = packer(&live, "bob");
    let mut eve = live.user("eve");
    let large =
        |id: &str| json!({ "type": "note", "room": "demo", "id": id, "data": "x".repeat(5_000) });
    eve.tell(&large("before"));
    assert_eq!((&ann.json()["id"], &unpack(&mut bob)["id"]), (&json!("before"), &json!("before")));
    let able =
        |sub: &str| json!({ "type": "auth", "token": live.token(sub, "user"), "compressed": true });
    ann.tell(&able("ann"));
    assert_eq!(ann.json()["type"], "refresh");
    pack(&mut bob, &able("bob"));
    assert_eq!(unpack(&mut bob)["type"], "refresh");
    eve.tell(&large("behind"));
    assert_eq!(inflate(&ann.json())["id"], "behind");
    let Heard::Binary(frame) = bob.next() else { panic!("no MessagePack") };
    let deflated = frame.strip_prefix(b"\x82\xa4type\xaacompressed\xa4data\xc4").unwrap();
    let plain: Value =
        serde_json::from_reader(flate2::read::ZlibDecoder::new(&deflated[1..])).unwrap();
    assert_eq!(plain["id"], "behind");
    // A later refresh that does not say it again changes nothing.
    ann.tell(&json!({ "type": "refresh", "data": { "token": live.token("ann", "user") } }));
    assert_eq!(ann.json()["type"], "refresh");
    eve.tell(&large("again"));
    assert_eq!(inflate(&ann.json())["id"], "again");
}

#[test]
fn compressed_messages_are_read_in_both_forms_of_pako() {
    let live = Live::start(&[]);
    let mut ann = live.user("ann");
    ann.join("demo");
    let note =
        |id: &str| json!({ "type": "note", "room": "demo", "id": id, "data": id }).to_string();
    let (one, two) = (deflate(note("one").as_bytes()), deflate(note("two").as_bytes()));
    ann.tell(&compressed(&one));
    assert_eq!(ann.json()["data"], "one");
    let object: serde_json::Map<_, _> =
        two.iter().enumerate().map(|(index, byte)| (index.to_string(), json!(byte))).collect();
    ann.tell(&json!({ "type": "compressed", "data": object }));
    assert_eq!(ann.json()["data"], "two");
    let batch = format!("{{\"type\":\"batch\",\"messages\":[{},{}]}}", note("three"), note("four"));
    ann.tell(&compressed(&deflate(batch.as_bytes())));
    assert_eq!(ann.json()["data"], "three");
    assert_eq!(ann.json()["data"], "four");
    // In MessagePack, bytes.
    let mut packed = packer(&live, "bob");
    let mut frame = b"\x82\xa4type\xaacompressed\xa4data\xc4".to_vec();
    frame.push(one.len() as u8);
    frame.extend(&one);
    packed.send(BINARY, &frame);
    assert_eq!(unpack(&mut packed)["data"], "one");
    assert_eq!(ann.json()["data"], "one");
}

#[test]
fn every_type_of_the_seed_reaches_its_room() {
    let live = Live::start(&[]);
    let mut ann = live.user("ann");
    let rooms =
        ["system", "alerts", "maintenance", "agents", "agent-7", "tasks", "task-9", "group-3"];
    rooms.into_iter().for_each(|room| ann.join(room));
    let mut backend = live.backend();
    let agent =
        json!({ "agent_id": 7, "status": "online", "cpu_usage": 12.5, "network_io": { "rx": 1 } });
    let task =
        json!({ "task_id": "9", "progress": 65, "logs": [{ "level": "info", "message": "m" }] });
    let alert =
        json!({ "alert_id": 1, "severity": "high", "title": "t", "metric": { "threshold": 90 } });
    let cases = [
        (
            &agent,
            "agents",
            &["agent_connected", "agent_disconnected", "agent_updated", "agent_status"][..],
        ),
        (
            &agent,
            "agent-7",
            &[
                "agent_status",
                "package_updated",
                "service_status",
                "metrics_update",
                "inventory_refresh",
            ],
        ),
        (
            &task,
            "tasks",
            &["task_created", "task_started", "task_completed", "task_failed", "task_progress"],
        ),
        (&task, "task-9", &["task_progress"]),
        (
            &alert,
            "alerts",
            &["alert_triggered", "alert_acknowledged", "alert_resolved", "alert_escalated"],
        ),
        (&alert, "system", &["alert_triggered", "own_type"]),
        (&agent, "group-3", &["agent_updated"]),
        (&json!(null), "maintenance", &["window_begins"]),
    ];
    for (data, room, kinds) in cases {
        for kind in kinds {
            backend.tell(
                &json!({ "type": kind, "room": room, "id": 1, "data": data, "sender": "server" }),
            );
            let heard = ann.json();
            let got = (&heard["type"], &heard["room"], &heard["data"], &heard["sender"]);
            assert_eq!(got, (&json!(kind), &json!(room), data, &json!("server")), "{heard}");
        }
    }
}

/// A publication heard by its own publisher, and its ack; which comes first is not promised.
#[track_caller]
fn note_and_ack(ws: &mut Ws) -> (Value, Value) {
    let (one, other) = (ws.json(), ws.json());
    if one["type"] == "ack" { (other, one) } else { (one, other) }
}

#[test]
fn an_ack_says_that_a_publication_was_accepted_and_a_repeat_is_delivered_once() {
    let live = Live::start(&[]);
    let mut ann = live.user("ann");
    ann.join("demo");
    let mut eve = live.user("eve");
    let flat =
        json!({ "type": "note", "room": "demo", "id": "m-1", "data": 1, "requiresAck": true });
    let nested = json!({ "type": "note", "room": "demo", "id": "m-1", "data": 1, "metadata": { "requires_ack": true } });
    let ack =
        json!({ "type": "ack", "ackId": "m-1", "data": { "level": "accepted" }, "metadata": {} });
    for message in [&flat, &flat, &nested] {
        eve.tell(message);
        eve.expect(&ack);
    }
    assert_eq!(ann.json()["id"], "m-1");
    ann.expect_silence(QUIET);
    // The same id with other content is somebody's mistake, and the first one stands.
    eve.tell(
        &json!({ "type": "note", "room": "demo", "id": "m-1", "data": 2, "requiresAck": true }),
    );
    let error = eve.expect_refusal(Refusal::Duplicate);
    assert_eq!(error["metadata"]["correlation_id"], "m-1");
    live.expect_refusals(Refusal::Duplicate, 1);
    // Ids belong to their sender and room.
    ann.tell(&flat);
    let (heard, acked) = note_and_ack(&mut ann);
    assert_eq!((&heard["sender"], &acked), (&json!("ann"), &ack));
    // Without an id the node makes one, and names it.
    ann.tell(&json!({ "type": "note", "room": "demo", "data": 3, "requiresAck": true }));
    let (heard, acked) = note_and_ack(&mut ann);
    assert_eq!(acked["ackId"], heard["id"]);
    // A client's own ack needs no answer.
    ann.tell(&json!({ "type": "ack", "ackId": "m-1" }));
    ann.tell(&json!({ "type": "ack", "data": { "ackId": "m-1" } }));
    ann.expect_silence(QUIET);
}

#[test]
fn a_batch_is_handled_as_if_each_message_came_alone() {
    let live = Live::start(&[]);
    let mut ann = live.user("ann");
    let messages = json!([
        { "type": "subscribe", "id": 1, "data": { "room": "demo" } },
        { "type": "note", "room": "demo", "id": "a", "data": 1, "requiresAck": true },
        { "type": "subscribe", "id": 2, "data": { "room": "user-bob" } },
        { "type": "ping", "timestamp": 4 },
    ]);
    for batch in [
        json!({ "type": "batch", "messages": messages }),
        json!({ "type": "batch", "id": "b", "data": { "messages": messages } }),
    ] {
        ann.tell(&batch);
        let mut heard: Vec<Value> = (0..4).map(|_| ann.json()).collect();
        let subscribed = heard.iter().position(|message| message["type"] == "subscribed").unwrap();
        assert_eq!(heard.remove(subscribed)["metadata"]["correlation_id"], "1");
        let refused = heard.iter().position(|message| message["type"] == "error").unwrap();
        assert_eq!(heard.remove(refused)["data"]["code"], 110);
        let pong = heard.iter().position(|message| message["type"] == "pong").unwrap();
        assert_eq!(heard.remove(pong)["timestamp"], 4);
        if heard[0]["type"] == "note" {
            // The first time; the repeat is acked and not delivered.
            assert_eq!(ann.json()["ackId"], "a");
        } else {
            assert_eq!(heard[0]["ackId"], "a");
        }
    }
}

#[test]
fn publications_that_require_permissions_reach_only_those_who_hold_them_all() {
    let live = Live::start(&[]);
    let with = |sub: &str, permissions: &[&str]| {
        let mut ws = live.enter(&live.token_of(&json!({ "sub": sub, "permissions": permissions })));
        ws.join("demo");
        ws
    };
    let (mut both, mut one, mut none) = (with("a", &["x", "y"]), with("b", &["x"]), with("c", &[]));
    let mut eve = live.user("eve");
    let note = |id: &str, requires: &[&str]| json!({ "type": "note", "room": "demo", "id": id, "metadata": { "requires": requires } });
    eve.tell(&note("both", &["x", "y"]));
    eve.tell(&note("one", &["x"]));
    eve.tell(&note("all", &[]));
    let ids = |ws: &mut Ws, expected: &[&str]| {
        for id in expected {
            assert_eq!(ws.json()["id"], **id);
        }
    };
    ids(&mut both, &["both", "one", "all"]);
    ids(&mut one, &["one", "all"]);
    ids(&mut none, &["all"]);
}

#[test]
fn publications_in_order_stay_in_order_for_everybody() {
    let live = Live::start(&[("limits.messages_per_minute", "100000")]);
    let mut members: Vec<Ws> = (0..4).map(|n| live.user(&format!("m{n}"))).collect();
    members.iter_mut().for_each(|member| member.join("demo"));
    let mut publishers: Vec<Ws> = (0..3).map(|n| live.user(&format!("p{n}"))).collect();
    for n in 0..200 {
        for publisher in &mut publishers {
            publisher.tell(&json!({ "type": "note", "room": "demo", "data": n }));
        }
    }
    let heard = |member: &mut Ws| -> Vec<(String, u64)> {
        let one = |heard: Value| {
            (heard["sender"].as_str().unwrap().into(), heard["data"].as_u64().unwrap())
        };
        (0..600).map(|_| one(member.json())).collect()
    };
    let first = heard(&mut members[0]);
    for sender in ["p0", "p1", "p2"] {
        let numbers = first.iter().filter(|(from, _)| from == sender).map(|(_, n)| *n);
        assert!(numbers.eq(0..200), "{sender}");
    }
    for member in &mut members[1..] {
        assert_eq!(heard(member), first);
    }
    publishers.iter_mut().for_each(expect_pong);
}

/// Joining and publishing there are refused, with the same words.
#[track_caller]
fn denied(ws: &mut Ws, room: &str) -> Value {
    ws.tell(&json!({ "type": "subscribe", "id": "q", "data": { "room": room } }));
    let mut joining = ws.expect_refusal(Refusal::PermissionDenied);
    assert_eq!(joining["data"]["room"], room);
    assert_eq!(joining["data"]["message"], "Permission denied");
    ws.tell(&json!({ "type": "note", "id": "q", "room": room, "data": {} }));
    assert_eq!(ws.expect_refusal(Refusal::PermissionDenied), joining);
    joining["data"]["room"] = json!(null);
    joining
}

#[test]
fn a_room_that_is_not_there_and_one_that_is_forbidden_are_refused_alike() {
    let live = Live::start(&[("limits.messages_per_minute", "1000")]);
    let owner =
        live.enter(&live.token_of(&json!({ "sub": "1", "teams": ["9"], "roles": ["ops"] })));
    let mut ws =
        live.enter(&live.token_of(&json!({ "sub": "10", "permissions": ["view_agent:70"] })));
    let absent = denied(&mut ws, "no-such-room");
    let rooms = [
        "user-1",
        "user-11",
        "user-100",
        "user-",
        "User-10",
        "session-1",
        "team-9",
        "role-ops",
        "system",
        "alerts",
        "agents",
        "agent-7",
        "agent-700",
        "agent-070",
        "agent-+70",
        "agent-x",
        "agent-9223372036854775808",
        "tasks",
        "task-1",
        "group-1",
        "dialog-1:10",
        "chat-1",
        "Demo",
        "ｄｅｍｏ",
        "demо",
        "*",
        "?",
        "[a]",
        "{}",
        "user-*",
        "a:b",
        "__proto__",
        &"x".repeat(255),
    ];
    for room in &rooms {
        assert_eq!(denied(&mut ws, room), absent, "{room}");
    }
    ws.join("agent-70");
    ws.join("user-10");
    expect_pong(&mut ws);
    drop(owner);
}

#[test]
fn names_that_no_room_can_have_are_refused_as_such() {
    let live = Live::start(&[("limits.messages_per_minute", "1000")]);
    let mut ws = live.user("eve");
    let long = "x".repeat(256);
    let names = [
        "",
        " ",
        "a b",
        "demo\n",
        "\u{0}",
        "demo\u{0}",
        "\u{1b}[31m",
        "\u{200b}demo",
        "demo\u{202e}",
        "e\u{301}",
        "\u{fb01}\u{a0}",
        "\u{e000}",
        "\u{2028}",
        "$",
        "$control",
        "$beat:1",
        &long,
    ];
    for name in names {
        for message in [
            json!({ "type": "subscribe", "id": "q", "data": { "room": name } }),
            json!({ "type": "unsubscribe", "id": "q", "data": { "room": name } }),
            json!({ "type": "note", "id": "q", "room": name, "data": {} }),
        ] {
            ws.tell(&message);
            let error = ws.expect_refusal(Refusal::BadName);
            assert_eq!(error["metadata"]["correlation_id"], "q");
        }
    }
    let mut megabyte = live.user("eve");
    megabyte.tell(&json!({ "type": "subscribe", "data": { "room": "x".repeat(60_000) } }));
    let error = megabyte.expect_refusal(Refusal::BadName);
    assert!(error["data"].get("room").is_none(), "what is too long is not sent back");
    expect_pong(&mut ws);
}

#[test]
fn an_agent_publishes_for_itself_alone() {
    let live = Live::start(&[]);
    let mut watcher = live.user("watcher");
    watcher.join("agents");
    watcher.join("agent-7");
    let mut agent = live.enter(&live.token_of(&json!({ "sub": "machine", "agent_id": 7 })));
    assert_eq!(watcher.json()["type"], "agent_connected");
    assert_eq!(watcher.json()["type"], "agent_connected");
    let status = |room: &str, id: u32| json!({ "type": "agent_status", "room": room, "data": { "agent_id": id, "status": "busy" } });
    for room in ["agents", "agent-7"] {
        agent.tell(&status(room, 7));
        let heard = watcher.json();
        assert_eq!((&heard["room"], &heard["sender"]), (&json!(room), &json!("machine")));
    }
    for message in
        [status("agents", 8), status("agent-8", 8), status("agent-8", 7), status("alerts", 7)]
    {
        agent.tell(&message);
        agent.expect_refusal(Refusal::PermissionDenied);
    }
    let nameless = json!({ "type": "note", "room": "agents", "data": {} });
    agent.tell(&nameless);
    agent.expect_refusal(Refusal::PermissionDenied);
    watcher.expect_silence(QUIET);
}
