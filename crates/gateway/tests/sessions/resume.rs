//! A session comes back on the other node with its rooms and its positions, and only to whom it belongs (G13).

use std::time::Duration;

use roomcast_protocol::codes::Close;
use serde_json::json;

use crate::common::ws::{Heard, PONG, WAIT, Ws};
use crate::stage::{
    Broker, Stage, authenticate, dial, end, hears_nothing, join, next_of, notes_until,
    on_both_brokers, publish, shown, soon, token_of,
};

on_both_brokers!(
    a_session_is_resumed_on_the_other_node_with_rooms_and_positions,
    a_client_without_a_token_gets_its_only_detached_session_back,
    what_an_answered_ping_proves_is_not_given_again,
    what_a_client_has_and_has_not_acked_is_given_again_when_it_is_resumed,
    a_session_is_nobody_elses,
    a_session_whose_window_is_over_begins_anew,
    a_session_that_is_taken_over_leaves_its_old_connection,
    nobody_gets_a_session_back_that_was_ordered_to_end,
);

/// Gone without a word, as by a broken network, and the node has seen it.
fn vanish(ws: Ws, live: &crate::common::Live) {
    drop(ws);
    soon("the node sees that the socket is gone", || {
        live.metric("roomcast_connections_open") == Some(0.0)
    });
}

fn a_session_is_resumed_on_the_other_node_with_rooms_and_positions(broker: Broker) {
    let Stage { first, second, .. } = &Stage::new(broker, "");
    let (mut ann, welcome) = dial(first, "ann", "");
    assert_eq!(welcome["resume_window_s"], 120);
    assert_eq!(welcome["resumed"], serde_json::Value::Null, "nothing was to be resumed");
    join(&mut ann, "kept-1");
    join(&mut ann, "demo");
    publish(first, "kept-1", "one");
    let heard = next_of(&mut ann, "note");
    assert_eq!(heard["id"], "one");
    vanish(ann, first);
    publish(first, "kept-1", "two");
    publish(second, "kept-1", "three");
    let covered = json!({ "kept-1": heard["metadata"] });
    let said = json!({ "resume_token": token_of(&welcome), "covered": covered });
    let (mut ann, again) = authenticate(second, "ann", &said);
    assert_eq!(again["resumed"], true, "{again}");
    assert_eq!(again["session_id"], welcome["session_id"]);
    assert_ne!(again["resume_token"], welcome["resume_token"], "each attachment has its own");
    // What it said it has, and no hole behind it.
    let notes = notes_until(&mut ann, "kept-1", "three");
    assert_eq!(notes.iter().map(|note| &*note.id).collect::<Vec<_>>(), ["two", "three"]);
    publish(first, "demo", "live");
    assert_eq!(notes_until(&mut ann, "demo", "live").len(), 1);
    publish(first, "kept-1", "four");
    assert_eq!(shown(&notes_until(&mut ann, "kept-1", "four")), ["four"]);
}

fn a_client_without_a_token_gets_its_only_detached_session_back(broker: Broker) {
    let Stage { first, second, .. } = &Stage::new(broker, "");
    let (mut ann, welcome) = dial(first, "ann", "");
    join(&mut ann, "kept-1");
    publish(first, "kept-1", "one");
    notes_until(&mut ann, "kept-1", "one");
    vanish(ann, first);
    publish(first, "kept-1", "two");
    let (mut ann, again) = dial(second, "ann", "");
    assert_eq!(again["session_id"], welcome["session_id"], "{again}");
    // It has not answered a ping since, so what it got may come again, but nothing is missing.
    let notes = notes_until(&mut ann, "kept-1", "two");
    assert!(shown(&notes).ends_with(&["two".to_owned()]), "{notes:?}");
    // Now its session has a connection: one more begins its own.
    let (_other, third) = dial(second, "ann", "");
    assert_ne!(third["session_id"], welcome["session_id"]);
}

fn what_an_answered_ping_proves_is_not_given_again(broker: Broker) {
    let Stage { first, second, .. } = &Stage::new(broker, "[limits]\nping = \"300ms\"\n");
    let (mut ann, welcome) = dial(first, "ann", "");
    join(&mut ann, "kept-1");
    publish(first, "kept-1", "one");
    notes_until(&mut ann, "kept-1", "one");
    // The ping left behind the publication, so whoever answers it has that.
    loop {
        if let Some(Heard::Ping(payload)) = ann.heard(WAIT) {
            ann.send(PONG, &payload);
            break;
        }
    }
    ann.tell(&json!({ "type": "ping", "timestamp": 1 }));
    next_of(&mut ann, "pong");
    publish(first, "kept-1", "two");
    notes_until(&mut ann, "kept-1", "two");
    vanish(ann, first);
    publish(first, "kept-1", "three");
    let (mut ann, again) = dial(second, "ann", "");
    assert_eq!(again["session_id"], welcome["session_id"], "{again}");
    let notes = notes_until(&mut ann, "kept-1", "three");
    let ids: Vec<_> = notes.iter().map(|note| &*note.id).collect();
    assert_eq!(ids, ["two", "three"], "it never said that it has two");
}

fn what_a_client_has_and_has_not_acked_is_given_again_when_it_is_resumed(broker: Broker) {
    let Stage { first, second, .. } = &Stage::new(broker, "");
    let (mut ann, welcome) = authenticate(first, "ann", &json!({}));
    join(&mut ann, "acked-1");
    for id in ["one", "two", "three"] {
        publish(first, "acked-1", id);
    }
    let mut covered = json!(null);
    while covered["offset"] != 3 {
        let note = next_of(&mut ann, "note");
        assert_eq!(note["requiresAck"], true, "the rule asks for it: {note}");
        covered = note["metadata"].clone();
    }
    ann.tell(&json!({ "type": "ack", "ackId": "two" }));
    ann.tell(&json!({ "type": "ping", "timestamp": 1 }));
    next_of(&mut ann, "pong");
    vanish(ann, first);
    let data = json!({
        "resume_token": welcome["resume_token"],
        "covered": { "acked-1": { "epoch": covered["epoch"], "offset": 3 } },
    });
    let (mut ann, again) = authenticate(second, "ann", &data);
    assert_eq!(again["resumed"], true, "{again}");
    publish(second, "acked-1", "four");
    let expected = [("four", false), ("one", true), ("three", true)];
    let mut heard = Vec::new();
    // What is given again may come behind what is new.
    while heard.len() < expected.len() {
        let note = next_of(&mut ann, "note");
        let it = (note["id"].as_str().unwrap().to_owned(), note["redelivered"] == true);
        // What it has acked between them may come again, and says so.
        if it != ("two".to_owned(), true) {
            heard.push(it);
        }
    }
    heard.sort();
    assert_eq!(heard, expected.map(|(id, again)| (id.to_owned(), again)));
}

fn a_session_is_nobody_elses(broker: Broker) {
    let Stage { first, second, .. } = &Stage::new(broker, "");
    let (mut ann, welcome) = dial(first, "ann", "");
    join(&mut ann, "kept-1");
    let token = token_of(&welcome);
    let (session, secret) = token.split_once('.').unwrap();
    let forged: String = secret.chars().map(|digit| if digit == '0' { '1' } else { '0' }).collect();
    for (sub, token, reason) in [
        ("bob", token.clone(), "unknown"),
        ("ann", format!("{session}.{forged}"), "token"),
        ("ann", format!("{}.{secret}", "0".repeat(32)), "unknown"),
    ] {
        let (mut other, welcome) = dial(second, sub, &format!("&resume={token}"));
        assert_eq!((&welcome["resumed"], &welcome["reason"]), (&json!(false), &json!(reason)));
        assert_ne!(welcome["session_id"].as_str().unwrap().replace('-', ""), session);
        publish(first, "kept-1", &format!("not-for-{sub}"));
        hears_nothing(&mut other, Duration::from_millis(300));
    }
    // Its own connection was left alone.
    publish(first, "kept-1", "last");
    notes_until(&mut ann, "kept-1", "last");
}

fn a_session_whose_window_is_over_begins_anew(broker: Broker) {
    let Stage { first, second, .. } = &Stage::new(broker, "[limits]\nresume_window = \"1s\"\n");
    let (mut ann, welcome) = dial(first, "ann", "");
    join(&mut ann, "kept-1");
    vanish(ann, first);
    std::thread::sleep(Duration::from_millis(1_500));
    let resume = format!("&resume={}", token_of(&welcome));
    let (mut ann, again) = dial(second, "ann", &resume);
    assert_eq!((&again["resumed"], &again["reason"]), (&json!(false), &json!("unknown")));
    publish(first, "kept-1", "one");
    hears_nothing(&mut ann, Duration::from_millis(300));
}

fn a_session_that_is_taken_over_leaves_its_old_connection(broker: Broker) {
    let Stage { first, second, .. } = &Stage::new(broker, "");
    let (mut ann, welcome) = dial(first, "ann", "");
    join(&mut ann, "kept-1");
    let (_here, again) = dial(second, "ann", &format!("&resume={}", token_of(&welcome)));
    assert_eq!(again["resumed"], true, "{again}");
    assert_eq!(end(&mut ann, Duration::from_secs(5)), Some(Close::Replaced.row().code));
    // Who was replaced does not get it back: the token is another one now.
    let (_late, anew) = dial(first, "ann", &format!("&resume={}", token_of(&welcome)));
    assert_eq!(anew["session_id"] == welcome["session_id"], anew["resumed"] == true, "{anew}");
}

fn nobody_gets_a_session_back_that_was_ordered_to_end(broker: Broker) {
    let in_memory = matches!(broker, Broker::Memory);
    let Stage { first, second, .. } = &Stage::new(broker, "");
    let (mut gone, detached) = dial(first, "ann", "&handover=1");
    join(&mut gone, "kept-1");
    vanish(gone, first);
    let (mut here, attached) = dial(first, "ann", "&handover=1");
    join(&mut here, "kept-1");
    // Nodes of one process do not know each other, and wait for their own lanes alone.
    let asked = if in_memory { first } else { second };
    let (status, answer) = asked.request("POST", "/api/v1/users/ann/disconnect", "");
    assert_eq!(status, 200, "{answer}");
    assert_eq!(end(&mut here, Duration::from_secs(5)), Some(Close::Disconnected.row().code));
    for (live, welcome) in [(first, &detached), (second, &attached)] {
        let (mut ann, again) = dial(live, "ann", &format!("&resume={}", token_of(welcome)));
        assert_eq!((&again["resumed"], &again["reason"]), (&json!(false), &json!("unknown")));
        publish(first, "kept-1", "not-for-ann");
        hears_nothing(&mut ann, Duration::from_millis(300));
    }
    // Nor without a token; a session that began since goes on.
    let (ann, fresh) = dial(first, "ann", "&handover=1");
    vanish(ann, first);
    let (_ann, again) = dial(second, "ann", &format!("&resume={}", token_of(&fresh)));
    assert_eq!(again["resumed"], true, "{again}");
}
