//! A connection whose session another node has goes on writing: nothing of that changes what the other one has (G13, G14).

use std::time::Duration;

use roomcast_protocol::codes::Close;
use serde_json::{Value, json};

use crate::common::Live;
use crate::common::ws::{CLOSE, Ws};
use crate::stage::{
    Broker, Stage, dial, end, hears_nothing, join, next_of, notes_until, on_both_brokers, publish,
    shown, token_of,
};

on_both_brokers!(
    what_a_former_connection_writes_changes_nothing_for_the_new_one,
    what_a_former_connection_writes_changes_nothing_in_the_record,
);

/// Turns of 10 s, so that the former connection is open until the session's new one has sent something.
const DRAIN: &str = "[drain]\nwindow = \"1s\"\ndeadline = \"40s\"\n";

/// The room whose members ack, the room with a roster, and one that the session joins before and leaves too late.
const ROOMS: [&str; 3] = ["acked-1", "known-1", "kept-1"];

/// A session in all rooms, in its turn to leave the first node, and its new connection at the second, which has sent
/// nothing yet.
struct Twice {
    former: Ws,
    new: Ws,
    /// What the new one was welcomed with.
    welcome: Value,
    session: Value,
    drain: std::thread::JoinHandle<()>,
}

fn twice(first: Live, second: &Live) -> Twice {
    let (mut former, welcome) = dial(&first, "ann", "&handover=1");
    let session = welcome["session_id"].clone();
    for room in ROOMS {
        join(&mut former, room);
    }
    publish(second, "acked-1", "a0");
    notes_until(&mut former, "acked-1", "a0");
    let drain = std::thread::spawn(move || assert_eq!(first.drain().clients, 1));
    let turn = next_of(&mut former, "drain");
    let resume = format!("&handover=1&resume={}", turn["data"]["resume_token"].as_str().unwrap());
    let (new, welcome) = dial(second, "ann", &resume);
    assert_eq!((&welcome["resumed"], &welcome["session_id"]), (&json!(true), &session));
    // Who is in a room is told each 250 ms.
    std::thread::sleep(Duration::from_millis(600));
    assert_eq!(users(second), json!(["ann"]));
    Twice { former, new, welcome, session, drain }
}

fn users(live: &Live) -> Value {
    let (status, body) = live.get("/api/v1/rooms/known-1/presence");
    assert_eq!(status, 200, "{body}");
    serde_json::from_str::<Value>(&body).unwrap()["users"].clone()
}

/// The session is in all its rooms and in no other, hears each once, and counts as present.
fn check_rooms(second: &Live, ws: &mut Ws, number: u32) {
    publish(second, "kept-2", &format!("other{number}"));
    for room in ["acked-1", "kept-1"] {
        let id = format!("n{number}");
        publish(second, room, &id);
        let heard = notes_until(ws, room, &id);
        assert!(shown(&heard).ends_with(&[id]), "{heard:?}");
    }
    hears_nothing(ws, Duration::from_millis(300));
    assert_eq!(users(second), json!(["ann"]));
}

/// Leaves, joins and acks, is given the time to have that written, and ends the session.
fn write_what_it_can(former: &mut Ws) {
    former.tell(&json!({ "type": "unsubscribe", "data": { "room": "kept-1" } }));
    former.tell(&json!({ "type": "unsubscribe", "data": { "room": "known-1" } }));
    former.tell(&json!({ "type": "ack", "ackId": "a0" }));
    join(former, "kept-2");
    // Longer than until a record is written because of a change of rooms, and presence told.
    std::thread::sleep(Duration::from_millis(1_500));
    former.send(CLOSE, &1000_u16.to_be_bytes());
    assert_eq!(end(former, Duration::from_secs(10)), Some(Close::Normal.row().code));
}

fn what_a_former_connection_writes_changes_nothing_for_the_new_one(broker: Broker) {
    let Stage { first, second, redis: _held } = Stage::new(broker, DRAIN);
    let Twice { mut former, mut new, drain, .. } = twice(first, &second);
    write_what_it_can(&mut former);
    drain.join().unwrap();
    let heard = notes_until(&mut new, "acked-1", "a0");
    assert_eq!(shown(&heard), ["a0"], "the former one acked it too late");
    check_rooms(&second, &mut new, 1);
}

fn what_a_former_connection_writes_changes_nothing_in_the_record(broker: Broker) {
    let Stage { first, second, redis: _held } = Stage::new(broker, DRAIN);
    let Twice { mut former, mut new, welcome, session, drain } = twice(first, &second);
    write_what_it_can(&mut former);
    drain.join().unwrap();
    // The new one has sent nothing yet, and so has not written the record again.
    let (mut third, again) = dial(&second, "ann", &format!("&resume={}", token_of(&welcome)));
    assert_eq!((&again["resumed"], &again["session_id"]), (&json!(true), &session), "{again}");
    assert_eq!(end(&mut new, Duration::from_secs(10)), Some(Close::Replaced.row().code));
    let heard = notes_until(&mut third, "acked-1", "a0");
    assert_eq!(shown(&heard), ["a0"], "its session has not acked it");
    check_rooms(&second, &mut third, 1);
}
