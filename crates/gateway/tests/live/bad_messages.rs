//! Messages that cannot be meant: each gets the error of the code table, and all connections live.

use roomcast_protocol::codes::{Close, Refusal};
use roomcast_protocol::limits::LimitName;
use serde_json::{Value, json};

use crate::common::ws::{BINARY, Dial, FIRST, Heard, MIDDLE, TEXT, Ws};
use crate::scene::{Scene, compressed, deflate, expect_pong};

/// Each of these messages gets this refusal.
#[track_caller]
fn refused(scene: &mut Scene, refusal: Refusal, messages: &[&str]) {
    for message in messages {
        scene.eve.text(message);
        let error = scene.eve.expect_refusal(refusal);
        assert!(error["data"].get("limit").is_none(), "{message}: {error}");
    }
    scene.all_live();
    scene.live.expect_refusals(refusal, messages.len() as u32);
}

#[test]
fn what_is_not_json_is_refused() {
    let mut scene = Scene::new();
    scene.eve.text("{\"type\":");
    let error = scene.eve.expect_refusal(Refusal::BadJson);
    let message = &error["data"]["message"];
    let expected = json!({
        "type": "error",
        "data": { "code": 100, "name": "bad_json", "message": message, "retry": false },
        "metadata": {},
    });
    assert_eq!(error, expected);
    scene.live.expect_refusals(Refusal::BadJson, 1);
    let mut scene = Scene::new();
    let messages = [
        "",
        " ",
        "nonsense",
        "{\"type\":\"ping\"} x",
        "{\"type\":\"ping\",}",
        "{'type':'ping'}",
        "{\"type\":\"ping\",\"timestamp\":NaN}",
        "{\"type\":\"note\",\"room\":\"demo\",\"data\":01}",
        "{\"type\":\"note\",\"room\":\"demo\",\"data\":\"\\ud83d\"}",
        "\u{feff}{\"type\":\"ping\"}",
        "{\"type\":\"ping\"\u{0}}",
    ];
    refused(&mut scene, Refusal::BadJson, &messages);
}

#[test]
fn json_that_is_no_message_is_refused() {
    let long = |length: usize| "x".repeat(length);
    let kind = json!({ "type": long(256), "room": "demo" }).to_string();
    let id = json!({ "type": "ping", "id": long(256) }).to_string();
    let messages = [
        "7",
        "null",
        "\"ping\"",
        "[{\"type\":\"ping\"}]",
        "{}",
        "{\"type\":\"\"}",
        "{\"type\":7}",
        "{\"type\":null}",
        "{\"type\":\"ping\",\"type\":[]}",
        "{\"type\":\"ping\",\"id\":{}}",
        "{\"type\":\"ping\",\"timestamp\":{}}",
        "{\"type\":\"note\",\"room\":7}",
        "{\"type\":\"note\",\"room\":\"demo\",\"metadata\":7}",
        "{\"type\":\"note\",\"room\":\"demo\",\"metadata\":{\"ttl\":0}}",
        "{\"type\":\"note\",\"room\":\"demo\",\"metadata\":{\"ttl\":\"5\"}}",
        "{\"type\":\"note\",\"room\":\"demo\",\"metadata\":{\"priority\":\"urgent\"}}",
        "{\"type\":\"note\",\"room\":\"demo\",\"metadata\":{\"requires\":\"view_system\"}}",
        "{\"type\":\"note\",\"room\":\"demo\",\"requiresAck\":\"yes\"}",
        "{\"type\":\"subscribe\"}",
        "{\"type\":\"subscribe\",\"data\":{\"room\":7}}",
        "{\"type\":\"unsubscribe\",\"data\":[]}",
        "{\"type\":\"auth\"}",
        "{\"type\":\"ack\"}",
        &kind,
        &id,
    ];
    refused(&mut Scene::new(), Refusal::Schema, &messages);
}

#[test]
fn an_id_of_255_bytes_comes_back_and_one_more_is_refused() {
    let mut scene = Scene::new();
    let id = "i".repeat(255);
    let error = scene.eve.ask(&json!({ "type": "nobody_knows", "id": id }));
    assert_eq!(error["data"]["code"], 101);
    assert_eq!(error["metadata"]["correlation_id"], id.as_str());
    scene.eve.tell(&json!({ "type": "nobody_knows", "id": format!("{id}i") }));
    let error = scene.eve.expect_refusal(Refusal::Schema);
    assert_eq!(error["metadata"], json!({}));
    scene.all_live();
}

#[test]
fn a_type_that_nobody_knows_is_refused_without_a_room() {
    let mut scene = Scene::new();
    let error = scene.eve.ask(&json!({ "type": "nobody_knows", "id": "q-1", "data": { "a": 1 } }));
    let message = &error["data"]["message"];
    let expected = json!({
        "type": "error",
        "data": { "code": 101, "name": "unknown_type", "message": message, "retry": false },
        "metadata": { "correlation_id": "q-1" },
    });
    assert_eq!(error, expected);
    assert!(!message.as_str().unwrap().contains("nobody_knows"), "what was sent is not repeated");
    scene.all_live();
}

#[test]
fn types_that_only_the_server_sends_are_refused_and_never_published() {
    let mut scene = Scene::new();
    let sent_by_the_server = [
        "welcome",
        "error",
        "subscribed",
        "unsubscribed",
        "skip",
        "gap",
        "drain",
        "token_expiring",
        "degraded",
        "lost",
    ];
    for kind in &sent_by_the_server {
        for message in [
            json!({ "type": kind, "id": kind }),
            json!({ "type": kind, "id": kind, "room": "demo", "data": { "room": "demo" } }),
        ] {
            scene.eve.tell(&message);
            let error = scene.eve.expect_refusal(Refusal::UnknownType);
            assert_eq!(error["metadata"]["correlation_id"], **kind);
        }
    }
    scene.all_live(); // the bystander in `demo` heard none of them
}

#[test]
fn types_of_the_seed_with_a_wrong_payload_are_refused_and_never_published() {
    let cases = [
        ("agent_connected", json!({}), "data.agent_id"),
        ("agent_disconnected", json!({ "agent_id": [] }), "data.agent_id"),
        ("agent_updated", json!({ "agent_id": null }), "data.agent_id"),
        ("agent_status", json!({ "agent_id": 7 }), "data.status"),
        ("agent_status", json!({ "agent_id": 7, "status": 1 }), "data.status"),
        (
            "agent_status",
            json!({ "agent_id": 7, "status": "s", "cpu_usage": "9" }),
            "data.cpu_usage",
        ),
        (
            "agent_status",
            json!({ "agent_id": 7, "status": "s", "network_io": [] }),
            "data.network_io",
        ),
        ("task_created", json!({ "title": "t" }), "data.task_id"),
        ("task_started", json!({ "task_id": true }), "data.task_id"),
        ("task_completed", json!([]), "data"),
        ("task_failed", json!("task"), "data"),
        ("task_progress", json!({ "task_id": 1 }), "data.progress"),
        ("task_progress", json!({ "task_id": 1, "progress": 101 }), "data.progress"),
        (
            "task_progress",
            json!({ "task_id": 1, "progress": 9, "logs": [{ "level": 1 }] }),
            "data.logs.level",
        ),
        ("alert_acknowledged", json!({ "alert_id": "" }), "data.alert_id"),
        ("alert_resolved", json!({}), "data.alert_id"),
        ("alert_escalated", json!({ "alert_id": {} }), "data.alert_id"),
        ("alert_triggered", json!({ "alert_id": 1, "severity": "high" }), "data.title"),
        ("alert_triggered", json!({ "alert_id": 1, "title": "t" }), "data.severity"),
        ("package_updated", json!({}), "data.agent_id"),
        ("service_status", json!({}), "data.agent_id"),
        ("metrics_update", json!({}), "data.agent_id"),
        ("inventory_refresh", json!({}), "data.agent_id"),
    ];
    let mut scene = Scene::new();
    for (kind, data, field) in cases {
        let id = format!("{kind}-{field}");
        scene.eve.tell(&json!({ "type": kind, "room": "demo", "id": id, "data": data }));
        let error = scene.eve.expect_refusal(Refusal::Schema);
        let message = error["data"]["message"].as_str().unwrap();
        assert_eq!(message.split(' ').next(), Some(field), "{kind} {data}: {message}");
        assert_eq!(error["metadata"]["correlation_id"], id);
        assert_eq!(error["data"]["room"], "demo");
    }
    scene.all_live(); // the bystander in `demo` heard none of them
}

#[test]
fn json_of_depth_32_passes_and_of_33_is_refused() {
    let mut scene = Scene::new();
    scene.eve.join("demo-deep");
    // The message itself is one level.
    let nested = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
    let message =
        |data: &str| format!("{{\"type\":\"note\",\"room\":\"demo-deep\",\"data\":{data}}}");
    scene.eve.text(&message(&nested(31)));
    assert_eq!(scene.eve.json()["data"].to_string(), nested(31));
    for data in [nested(32), nested(25_000), "[".repeat(50_000), "{\"a\":".repeat(10_000)] {
        scene.eve.text(&message(&data));
        let error = scene.eve.expect_refusal(Refusal::TooLarge);
        assert_eq!(error["data"]["limit"], LimitName::Depth.name());
        assert_eq!(error["data"]["value"], 32);
    }
    scene.all_live();
    scene.live.expect_hits(LimitName::Depth, 4);
}

#[test]
fn text_that_is_not_utf8_ends_the_connection() {
    for bad in [&b"\"\xff\""[..], b"\xc0\xaf", b"\xed\xa0\x80", b"{\"type\":\"ping\xf0\x9f"] {
        let mut scene = Scene::new();
        scene.eve.send(TEXT, bad);
        scene.eve.expect_close(Close::BadText);
        scene.bystander.lives();
        scene.live.expect_closes(Close::BadText, 1);
    }
    // In fragments it shows as soon as the bad byte is there.
    let mut scene = Scene::new();
    scene.eve.send(FIRST, b"\"\xc3");
    scene.eve.send(MIDDLE, b"\xa9\xff");
    scene.eve.expect_close(Close::BadText);
    scene.bystander.lives();
}

#[test]
fn binary_frames_are_json_too_and_refused_where_they_are_not() {
    let mut scene = Scene::new();
    scene.eve.send(BINARY, b"{\"type\":\"ping\",\"timestamp\":1}");
    scene.eve.expect(&json!({ "type": "pong", "timestamp": 1 }));
    scene.eve.send(BINARY, b"\xff\xfe");
    scene.eve.expect_refusal(Refusal::BadJson);
    scene.all_live();
}

#[test]
fn messagepack_that_cannot_be_read_is_refused() {
    let mut scene = Scene::new();
    let dial =
        Dial::with_token(&scene.live.token("eve", "user")).subprotocol("roomcast.v1.msgpack");
    let mut ws = dial.open(scene.live.public());
    let mut refuses = |first: u8, payload: &[u8], refusal: Refusal| {
        ws.send(first, payload);
        let code = heard_msgpack(&mut ws)["data"]["code"].clone();
        assert_eq!(code, refusal.row().code, "{payload:x?}");
    };
    refuses(BINARY, b"", Refusal::BadJson);
    refuses(BINARY, b"\xc1", Refusal::BadJson);
    refuses(BINARY, b"\x81\xa4type", Refusal::BadJson);
    refuses(BINARY, b"\x81\xa4type\xa4ping\x00", Refusal::BadJson);
    refuses(BINARY, b"\xdf\xff\xff\xff\xff", Refusal::BadJson);
    refuses(BINARY, b"\xdb\xff\xff\xff\xffx", Refusal::BadJson);
    refuses(BINARY, b"\x81\xa4type\xa2\xff\xff", Refusal::BadJson);
    refuses(BINARY, b"\x07", Refusal::Schema);
    refuses(BINARY, &[&[0x91; 33][..], b"\x00"].concat(), Refusal::TooLarge);
    refuses(TEXT, b"{\"type\":\"ping\"}", Refusal::BadJson);
    scene.all_live();
}

/// The next message of a MessagePack connection but the welcome.
#[track_caller]
fn heard_msgpack(ws: &mut Ws) -> Value {
    match ws.next() {
        Heard::Binary(bytes) => {
            let value: Value = rmp_serde::from_slice(&bytes).unwrap();
            if value["type"] == "welcome" { heard_msgpack(ws) } else { value }
        }
        other => panic!("no MessagePack: {other:?}"),
    }
}

#[test]
fn a_batch_of_64_runs_and_of_65_does_not() {
    let mut scene = Scene::new();
    let pings = |count: usize| vec![json!({ "type": "ping", "timestamp": 1 }); count];
    scene.eve.tell(&json!({ "type": "batch", "id": "b", "messages": pings(64) }));
    for _ in 0..64 {
        scene.eve.expect(&json!({ "type": "pong", "timestamp": 1 }));
    }
    scene.eve.tell(&json!({ "type": "batch", "id": "b", "messages": pings(65) }));
    let error = scene.eve.expect_refusal(Refusal::TooLarge);
    assert_eq!(error["data"]["limit"], LimitName::BatchMessages.name());
    assert_eq!(error["data"]["value"], 64);
    assert_eq!(error["metadata"]["correlation_id"], "b");
    // A hundred thousand, over several frames.
    let flood = format!("{{\"type\":\"batch\",\"messages\":[{}0]}}", "0,".repeat(99_999));
    scene.eve.fragments(flood.as_bytes(), 60_000);
    scene.eve.expect_refusal(Refusal::TooLarge);
    scene.all_live();
    scene.live.expect_hits(LimitName::BatchMessages, 2);
}

#[test]
fn a_batch_that_is_none_is_refused_and_a_bad_message_in_one_answers_for_itself() {
    let mut scene = Scene::new();
    for batch in [json!([]), json!({}), json!(null), json!("ping")] {
        scene.eve.tell(&json!({ "type": "batch", "messages": batch }));
        scene.eve.expect_refusal(Refusal::Schema);
    }
    let ping = json!({ "type": "ping", "timestamp": 3 });
    let inner = json!({ "type": "batch", "id": "inner", "messages": [ping] });
    scene.eve.tell(&json!({ "type": "batch", "messages": [7, inner, { "type": "huh" }, ping] }));
    scene.eve.expect_refusal(Refusal::Schema);
    let error = scene.eve.expect_refusal(Refusal::Schema);
    assert_eq!(error["metadata"]["correlation_id"], "inner");
    scene.eve.expect_refusal(Refusal::UnknownType);
    scene.eve.expect(&json!({ "type": "pong", "timestamp": 3 }));
    scene.all_live();
}

#[test]
fn what_inflates_to_too_much_ends_the_connection() {
    let spaces = |count: usize| deflate(&vec![b' '; count]);
    let block = |n: u32| format!("{:04x}{:124}", n.wrapping_mul(40_503) & 0xffff, "");
    let noise: String = (0..10_000).map(block).collect();
    let noise = deflate(noise.as_bytes());
    assert!(noise.len() * 100 > 1_280_000, "within the ratio: {} bytes", noise.len());
    // Over the ratio alone, over the bytes alone, and far over both, with its end cut off.
    for deflated in [&spaces(900_000)[..], &noise[..], &spaces(64 << 20)[..40_000]] {
        let mut scene = Scene::with(&[("limits.frame_bytes", "262144")]);
        scene.eve.tell(&compressed(deflated));
        scene.eve.expect_close_over(Close::TooLarge, LimitName::InflatedBytes, 1 << 20);
        scene.bystander.lives();
        scene.live.expect_closes(Close::TooLarge, 1);
        scene.live.expect_hits(LimitName::InflatedBytes, 1);
    }
    // All the compressed messages of one batch share the limit.
    let mut scene = Scene::new();
    let large = deflate(json!({ "type": "ping", "x": "y".repeat(60_000) }).to_string().as_bytes());
    let messages = vec![compressed(&large); 18];
    scene.eve.tell(&json!({ "type": "batch", "messages": messages }));
    scene.eve.expect_close_at_last(Close::TooLarge);
    scene.bystander.lives();
}

#[test]
fn compressed_messages_that_are_damaged_are_refused() {
    let mut scene = Scene::new();
    let good = deflate(b"{\"type\":\"ping\",\"timestamp\":5}");
    let mut checksum = good.clone();
    *checksum.last_mut().unwrap() ^= 1;
    let cases = [
        (compressed(&good[..good.len() - 5]), Refusal::BadJson),
        (compressed(&checksum), Refusal::BadJson),
        (compressed(&[&good[..], b"x"].concat()), Refusal::BadJson),
        (compressed(b"plain"), Refusal::BadJson),
        (compressed(&deflate(b"no json")), Refusal::BadJson),
        (compressed(&deflate(b"\xff\xff")), Refusal::BadJson),
        (compressed(&deflate(compressed(&good).to_string().as_bytes())), Refusal::Schema),
        (compressed(&deflate("[".repeat(33).as_bytes())), Refusal::TooLarge),
        (json!({ "type": "compressed", "data": "\u{100}" }), Refusal::BadJson),
        (json!({ "type": "compressed", "data": { "0": 256 } }), Refusal::BadJson),
        (json!({ "type": "compressed", "data": { "1": 1 } }), Refusal::BadJson),
        (json!({ "type": "compressed", "data": [1, 2] }), Refusal::Schema),
        (json!({ "type": "compressed" }), Refusal::Schema),
    ];
    for (message, refusal) in cases {
        scene.eve.tell(&message);
        scene.eve.expect_refusal(refusal);
    }
    scene.eve.tell(&compressed(&good));
    scene.eve.expect(&json!({ "type": "pong", "timestamp": 5 }));
    scene.all_live();
}

#[test]
fn numbers_order_and_odd_keys_reach_members_as_they_were_written() {
    let mut scene = Scene::new();
    scene.eve.join("demo-odd");
    let data = "{\"big\": 9007199254740993, \"f\":1.10,\"e\":1e400,\"z\":-0,\"__proto__\":{\"polluted\":true},\
                \"constructor\":{\"prototype\":1},\"a\":1,\"a\":2,\"\":null,\"\\u0000\":\"\\u2028\"}";
    let metadata = "{\"__proto__\":{\"ttl\":1},\"priority\":\"low\",\"priority\":\"high\"}";
    scene.eve.text(&format!(
        "{{\"__proto__\":{{\"room\":\"demo\"}},\"id\":\"odd\",\"type\":\"gap\",\"type\":\"note\",\
         \"room\":\"demo-odd\",\"data\":{data},\"metadata\":{metadata}}}"
    ));
    let Heard::Text(text) = scene.eve.next() else { panic!("no text") };
    assert!(text.contains(&format!("\"data\":{data}")), "{text}");
    assert!(text.ends_with("\"metadata\":{\"priority\":\"high\"}}"), "{text}");
    assert!(text.starts_with("{\"id\":\"odd\",\"type\":\"note\","), "{text}");
    scene.all_live();
}

#[test]
fn a_hundred_thousand_keys_do_no_harm() {
    let mut scene = Scene::with(&[("limits.message_bytes", "1048576")]);
    let keys: String = (0..100_000).map(|key| format!("\"{key:x}\":0,")).collect();
    let ping = format!("{{{keys}\"type\":\"ping\",\"timestamp\":1}}");
    let note = format!("{{\"type\":\"note\",\"room\":\"demo-keys\",\"data\":{{{keys}\"end\":1}}}}");
    let nested =
        format!("{{\"type\":\"note\",\"room\":\"demo-keys\",\"metadata\":{{{keys}\"ttl\":5}}}}");
    scene.eve.join("demo-keys");
    for (message, answer) in [(ping, "pong"), (note, "note"), (nested, "note")] {
        scene.eve.fragments(message.as_bytes(), 60_000);
        assert_eq!(scene.eve.json()["type"], answer);
    }
    scene.all_live();
}

#[test]
fn a_client_cannot_speak_for_another() {
    let mut scene = Scene::new();
    scene.eve.join("demo-forged");
    scene.eve.tell(&json!({ "type": "note", "room": "demo-forged", "sender": "root", "data": 1 }));
    assert_eq!(scene.eve.json()["sender"], "eve");
    let mut backend = scene.live.backend();
    backend.tell(&json!({ "type": "note", "room": "demo-forged", "sender": "root", "data": 1 }));
    assert_eq!(scene.eve.json()["sender"], "root");
    expect_pong(&mut backend);
    scene.all_live();
}
