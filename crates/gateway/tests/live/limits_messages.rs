//! Limits on what a connection may send and leave unread: each at its value and one over it.

use std::time::Duration;

use roomcast_protocol::codes::{Close, Refusal};
use roomcast_protocol::limits::LimitName;
use serde_json::{Value, json};

use crate::common::Live;
use crate::common::ws::{FIRST, Heard, LAST, MIDDLE, PING, TEXT, Ws, frame};
use crate::scene::{Scene, compressed, deflate, expect_pong};

/// The next message must be the refusal of this limit.
#[track_caller]
fn limited(ws: &mut Ws, refusal: Refusal, limit: LimitName, value: u64) -> Value {
    let error = ws.expect_refusal(refusal);
    assert_eq!(error["data"]["limit"], limit.name(), "{error}");
    assert_eq!(error["data"]["value"], value, "{error}");
    assert!(error["data"]["message"].as_str().unwrap().contains(limit.name()), "{error}");
    error
}

/// The next message must be a refusal that says when to try again.
#[track_caller]
fn too_many(ws: &mut Ws, limit: LimitName, value: u64) -> Value {
    let error = limited(ws, Refusal::RateLimit, limit, value);
    let after = error["data"]["retry_after_ms"].as_u64().unwrap();
    assert!((1..=65_000).contains(&after), "{error}");
    error
}

#[test]
fn a_user_has_its_messages_in_a_minute_and_one_more_is_refused() {
    let live = Live::start(&[("limits.messages_per_minute", "6")]);
    let (mut first, mut second) = (live.user("ann"), live.user("ann"));
    let note = |id: u32| json!({ "type": "note", "room": "demo-a", "id": id, "requiresAck": true });
    // Joins, leaves, publications and what is refused count, on both connections together.
    first.join("demo-b");
    first.tell(&json!({ "type": "unsubscribe", "room": "demo-b" }));
    assert_eq!(first.json()["type"], "unsubscribed");
    second.tell(&note(1));
    assert_eq!(second.json()["type"], "ack");
    second.tell(&json!({ "type": "huh" }));
    second.expect_refusal(Refusal::UnknownType);
    // Each of a batch counts: two pass, two do not.
    first.tell(&json!({ "type": "batch", "messages": [note(2), note(3), note(4), note(5)] }));
    let mut acked = Vec::new();
    let mut refused = Vec::new();
    for _ in 0..4 {
        let answer = first.json();
        match answer["type"].as_str().unwrap() {
            "ack" => acked.push(answer["ackId"].clone()),
            _ => refused.push(answer),
        }
    }
    assert_eq!(acked, ["2", "3"]);
    let ids: Vec<_> = refused.iter().map(|error| &error["metadata"]["correlation_id"]).collect();
    assert_eq!(ids, ["4", "5"]);
    second.tell(&note(6));
    let error = too_many(&mut second, LimitName::MessagesPerUser, 6);
    assert_eq!(error["data"]["room"], "demo-a");
    live.expect_hits(LimitName::MessagesPerUser, 3);
    live.expect_refusals(Refusal::RateLimit, 3);
    // Pings go on, others are not concerned, and a new connection is no way out.
    expect_pong(&mut second);
    live.user("bob").join("demo");
    let mut again = live.user("ann");
    again.tell(&note(7));
    too_many(&mut again, LimitName::MessagesPerUser, 6);
}

#[test]
fn back_ends_have_no_limit_of_messages() {
    let live = Live::start(&[("limits.messages_per_minute", "2")]);
    let mut backend = live.backend();
    for id in 0..20 {
        backend.tell(&json!({ "type": "note", "room": "alerts", "id": id, "requiresAck": true }));
        assert_eq!(backend.json()["type"], "ack");
    }
}

#[test]
fn a_user_has_its_controls_in_a_minute_and_one_more_is_refused() {
    let live = Live::start(&[("limits.controls_per_minute", "4")]);
    let mut ws = live.user("ann");
    expect_pong(&mut ws);
    ws.tell(&json!({ "type": "ack", "ackId": "a" }));
    ws.tell(&json!({ "type": "refresh", "data": { "token": live.token("ann", "user") } }));
    assert_eq!(ws.json()["type"], "refresh");
    expect_pong(&mut ws);
    for message in [
        json!({ "type": "ping" }),
        json!({ "type": "ack", "ackId": "b" }),
        json!({ "type": "refresh", "data": { "token": live.token("ann", "user") } }),
    ] {
        ws.tell(&message);
        too_many(&mut ws, LimitName::ControlsPerUser, 4);
    }
    live.expect_hits(LimitName::ControlsPerUser, 3);
    ws.join("demo");
}

#[test]
fn a_session_has_its_rooms_and_one_more_is_refused() {
    // Two of them are its own, joined at connect.
    let live = Live::start(&[("limits.rooms_per_session", "5")]);
    let mut ws = live.user("ann");
    ["demo-1", "demo-2", "demo-3", "demo-3"].into_iter().for_each(|room| ws.join(room));
    ws.tell(&json!({ "type": "subscribe", "id": "s", "data": { "room": "demo-4" } }));
    let error = limited(&mut ws, Refusal::Limit, LimitName::RoomsPerSession, 5);
    assert_eq!(error["metadata"]["correlation_id"], "s");
    assert_eq!(error["data"]["room"], "demo-4");
    live.expect_hits(LimitName::RoomsPerSession, 1);
    live.expect_refusals(Refusal::Limit, 1);
    ws.join("demo-1");
    ws.tell(&json!({ "type": "unsubscribe", "room": "demo-1" }));
    assert_eq!(ws.json()["type"], "unsubscribed");
    ws.join("demo-4");
}

#[test]
fn ten_thousand_joins_open_no_more_rooms_than_the_limit() {
    let mut scene = Scene::new();
    let joins: Vec<Value> =
        (0..64).map(|n| json!({ "type": "subscribe", "room": format!("demo-{n}") })).collect();
    let mut joined = 0;
    for round in 0..157 {
        let mut joins = joins.clone();
        joins.iter_mut().for_each(|join| {
            join["room"] = json!(format!("{}-{round}", join["room"].as_str().unwrap()))
        });
        scene.eve.tell(&json!({ "type": "batch", "messages": joins }));
        for _ in 0..64 {
            joined += u32::from(scene.eve.json()["type"] == "subscribed");
        }
    }
    assert_eq!(joined, 126, "128 less her own two rooms");
    scene.all_live();
    scene.live.expect_hits(LimitName::RoomsPerSession, 157 * 64 - 126);
}

#[test]
fn a_configured_batch_and_depth_are_refused_with_their_values() {
    let live = Live::start(&[("limits.batch_messages", "2"), ("limits.json_depth", "4")]);
    let mut ws = live.user("ann");
    let ping = json!({ "type": "ping", "timestamp": 1 });
    ws.tell(&json!({ "type": "batch", "messages": [ping, ping] }));
    assert_eq!(
        (ws.json(), ws.json()),
        (json!({ "type": "pong", "timestamp": 1 }), json!({ "type": "pong", "timestamp": 1 }))
    );
    ws.tell(&json!({ "type": "batch", "messages": [ping, ping, ping] }));
    limited(&mut ws, Refusal::TooLarge, LimitName::BatchMessages, 2);
    ws.tell(&json!({ "type": "ping", "timestamp": 1, "data": [[[]]] }));
    assert_eq!(ws.json()["type"], "pong");
    ws.tell(&json!({ "type": "ping", "timestamp": 1, "data": [[[[]]]] }));
    limited(&mut ws, Refusal::TooLarge, LimitName::Depth, 4);
    live.expect_hits(LimitName::BatchMessages, 1);
    live.expect_hits(LimitName::Depth, 1);
}

/// A ping of exactly this many bytes.
fn ping_of(bytes: usize) -> String {
    let empty = json!({ "type": "ping", "timestamp": 7, "pad": "" }).to_string();
    let text = json!({ "type": "ping", "timestamp": 7, "pad": "x".repeat(bytes - empty.len()) })
        .to_string();
    assert_eq!(text.len(), bytes);
    text
}

#[track_caller]
fn pong(ws: &mut Ws) {
    ws.expect(&json!({ "type": "pong", "timestamp": 7 }));
}

#[test]
fn a_frame_of_the_limit_passes_and_one_byte_more_ends_the_connection() {
    let mut scene = Scene::new();
    scene.eve.text(&ping_of(65_536));
    pong(&mut scene.eve);
    scene.eve.flood(&frame(TEXT, ping_of(65_537).as_bytes()));
    scene.eve.expect_close_over(Close::TooLarge, LimitName::FrameBytes, 65_536);
    scene.bystander.lives();
    scene.live.expect_hits(LimitName::FrameBytes, 1);
}

#[test]
fn a_message_of_the_limit_passes_and_one_byte_more_ends_the_connection() {
    let mut scene = Scene::new();
    scene.eve.fragments(ping_of(262_144).as_bytes(), 65_536);
    pong(&mut scene.eve);
    let long = ping_of(262_145);
    for part in long.as_bytes()[..262_144].chunks(65_536).enumerate() {
        scene.eve.send(if part.0 == 0 { FIRST } else { MIDDLE }, part.1);
    }
    scene.eve.flood(&frame(LAST, &long.as_bytes()[262_144..]));
    scene.eve.expect_close_over(Close::TooLarge, LimitName::MessageBytes, 262_144);
    scene.bystander.lives();
    scene.live.expect_hits(LimitName::MessageBytes, 1);
}

#[test]
fn what_inflates_to_the_limit_passes_and_one_byte_more_ends_the_connection() {
    let mut scene = Scene::with(&[("limits.inflated_bytes", "2048")]);
    scene.eve.tell(&compressed(&deflate(ping_of(2_048).as_bytes())));
    pong(&mut scene.eve);
    scene.eve.tell(&compressed(&deflate(ping_of(2_049).as_bytes())));
    scene.eve.expect_close_over(Close::TooLarge, LimitName::InflatedBytes, 2_048);
    scene.bystander.lives();
    scene.live.expect_hits(LimitName::InflatedBytes, 1);
}

#[test]
fn a_message_of_64_fragments_passes_and_of_65_ends_the_connection() {
    let mut scene = Scene::new();
    scene.eve.fragments(ping_of(640).as_bytes(), 10);
    pong(&mut scene.eve);
    let parts = ping_of(650);
    for (index, part) in parts.as_bytes().chunks(10).enumerate() {
        let opcode = if index == 0 { FIRST } else { MIDDLE };
        scene.eve.flood(&frame(if index == 64 { LAST } else { opcode }, part));
    }
    scene.eve.expect_close_over(Close::Flood, LimitName::Fragments, 64);
    scene.bystander.lives();
    scene.live.expect_hits(LimitName::Fragments, 1);
}

#[test]
fn so_many_pings_a_second_pass_and_one_more_ends_the_connection() {
    let mut scene = Scene::with(&[("limits.control_frames_per_second", "10")]);
    scene.eve.raw(&frame(PING, b"p").repeat(10));
    for _ in 0..10 {
        assert_eq!(scene.eve.next(), Heard::Pong(b"p".to_vec()));
    }
    // The next ones are in another second, wherever seconds begin.
    std::thread::sleep(Duration::from_millis(1_050));
    scene.eve.raw(&frame(PING, b"p").repeat(11));
    scene.eve.expect_close_at_last(Close::Flood);
    scene.bystander.lives();
    scene.live.expect_hits(LimitName::ControlFrames, 1);
}
