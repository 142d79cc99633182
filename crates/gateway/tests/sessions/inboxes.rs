//! What waits in an inbox for whoever was away: given once to each who has not acked it, in order, and what had to go
//! is told (G15, G16).

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::common::Live;
use crate::common::ws::{Heard, PONG, WAIT, Ws};
use crate::stage::{Broker, Stage, authenticate, next_of, on_both_brokers, publish, soon};

on_both_brokers!(
    each_device_gets_what_it_has_not_acked_once_and_in_order,
    a_user_who_comes_for_the_first_time_is_told_how_much_the_inbox_had_to_remove,
    a_device_is_told_once_how_much_its_inbox_had_to_remove,
    what_is_published_while_nobody_is_there_waits_for_the_user,
    a_users_room_is_an_inbox_where_no_rule_says_otherwise,
    a_client_that_knows_nothing_of_positions_gets_its_inbox_and_no_answer_it_did_not_ask_for,
);

/// Pings soon after what it is given; its sessions do not outlive their connections for long.
const PINGS: &str = "[limits]\nping = \"300ms\"\nresume_window = \"1s\"\n";

/// An inbox that all devices of a user share, one that is soon full, and those of all others.
const OWN: &str = r#"
[[rooms]]
match = "user-7"
join = "user.id == '7'"
publish = "user.kind == 'backend'"
history = { size = 100 }
cursor = "user"

[[rooms]]
match = "user-9"
join = "user.id == '9'"
publish = "user.kind == 'backend'"
history = { size = 3 }
cursor = "device"

[[rooms]]
match = "user-{id}"
join = "user.id == id"
publish = "user.kind == 'backend'"
history = { size = 100 }
cursor = "device"
"#;

/// A device of a user, with a session of its own.
#[track_caller]
fn device(live: &Live, user: &str, name: &str) -> Ws {
    let (ws, welcome) =
        authenticate(live, user, &json!({ "device": name, "resume_token": fresh() }));
    assert_eq!(welcome["resumed"], false, "its session is a new one: {welcome}");
    ws
}

/// A resume token of nobody, so that no session is taken up.
fn fresh() -> String {
    format!("{}.{}", "0".repeat(32), "0".repeat(32))
}

/// The ids of the notes that come within this time, and how many the client is told to be lost; pings are answered.
#[track_caller]
fn comes(ws: &mut Ws, within: Duration) -> (Vec<String>, Vec<u64>) {
    let deadline = Instant::now() + within;
    let (mut notes, mut lost) = (Vec::new(), Vec::new());
    while let Some(heard) = ws.heard(deadline.saturating_duration_since(Instant::now())) {
        match heard {
            Heard::Ping(payload) => ws.send(PONG, &payload),
            Heard::Text(text) => {
                let message: Value = serde_json::from_str(&text).unwrap();
                if message["type"] == "note" {
                    notes.push(message["id"].as_str().unwrap().to_owned());
                }
                lost.extend(
                    message["data"]["count"].as_u64().filter(|_| message["type"] == "lost"),
                );
            }
            Heard::Binary(_) | Heard::Pong(_) => {}
            Heard::Close(..) | Heard::End => panic!("the connection ended"),
        }
    }
    (notes, lost)
}

/// Hears for so long that a cursor which can move has moved: a second until a ping, one until the broker is told.
const SETTLED: Duration = Duration::from_millis(3_500);

fn leaves(ws: Ws, live: &Live, left: f64) {
    drop(ws);
    soon("the node sees that the socket is gone", || {
        live.metric("roomcast_connections_open") == Some(left)
    });
}

fn each_device_gets_what_it_has_not_acked_once_and_in_order(broker: Broker) {
    let Stage { first, second, .. } = &Stage::new(broker, &format!("{PINGS}{OWN}"));
    let mut phone = device(first, "8", "phone");
    let mut desk = device(second, "8", "desk");
    next_of(&mut phone, "subscribed");
    next_of(&mut desk, "subscribed");
    publish(first, "user-8", "m-1");
    for ws in [&mut phone, &mut desk] {
        assert_eq!(comes(ws, SETTLED), (vec!["m-1".to_owned()], vec![]));
    }
    leaves(desk, second, 0.0);
    for id in ["m-2", "m-3"] {
        publish(second, "user-8", id);
    }
    let both = vec!["m-2".to_owned(), "m-3".to_owned()];
    assert_eq!(comes(&mut phone, SETTLED), (both.clone(), vec![]));
    // What the phone acked the desk has yet to get: each has its own cursor.
    let mut desk = device(first, "8", "desk");
    assert_eq!(comes(&mut desk, SETTLED), (both, vec![]));
    for (ws, name, live) in [(phone, "phone", second), (desk, "desk", second)] {
        drop(ws);
        let mut again = device(live, "8", name);
        let heard = comes(&mut again, Duration::from_millis(500));
        assert_eq!(heard, (vec![], vec![]), "{name} has had all");
    }
}

fn a_user_who_comes_for_the_first_time_is_told_how_much_the_inbox_had_to_remove(broker: Broker) {
    let Stage { first, second, .. } = &Stage::new(broker, &format!("{PINGS}{OWN}"));
    for number in 1..=5 {
        publish(second, "user-9", &format!("m-{number}"));
    }
    let kept = ["m-3", "m-4", "m-5"].map(str::to_owned).to_vec();
    let mut phone = device(first, "9", "phone");
    let joined = next_of(&mut phone, "subscribed");
    assert_eq!(
        (&joined["data"]["recovered"], &joined["data"]["reason"]),
        (&json!(false), &json!("too_old"))
    );
    assert_eq!(comes(&mut phone, SETTLED), (kept, vec![2]));
    let mut desk = device(first, "9", "desk");
    assert_eq!(comes(&mut desk, SETTLED), (vec![], vec![]), "it begins where the phone is");
}

fn a_device_is_told_once_how_much_its_inbox_had_to_remove(broker: Broker) {
    let Stage { first, second, .. } = &Stage::new(broker, &format!("{PINGS}{OWN}"));
    let mut phone = device(first, "9", "phone");
    publish(first, "user-9", "m-1");
    assert_eq!(comes(&mut phone, SETTLED), (vec!["m-1".to_owned()], vec![]));
    leaves(phone, first, 0.0);
    for number in 2..=6 {
        publish(second, "user-9", &format!("m-{number}"));
    }
    // Five waited, three are kept.
    let kept = ["m-4", "m-5", "m-6"].map(str::to_owned).to_vec();
    let mut phone = device(second, "9", "phone");
    assert_eq!(comes(&mut phone, SETTLED), (kept, vec![2]));
    leaves(phone, second, 0.0);
    let mut phone = device(first, "9", "phone");
    assert_eq!(comes(&mut phone, Duration::from_millis(500)), (vec![], vec![]), "it knows");
}

fn what_is_published_while_nobody_is_there_waits_for_the_user(broker: Broker) {
    let Stage { first, second, .. } = &Stage::new(broker, &format!("{PINGS}{OWN}"));
    for id in ["m-1", "m-2"] {
        publish(first, "user-7", id);
    }
    let mut ws = device(second, "7", "phone");
    let both = vec!["m-1".to_owned(), "m-2".to_owned()];
    assert_eq!(comes(&mut ws, SETTLED), (both, vec![]));
    drop(ws);
    // Another device: they share a cursor.
    let mut ws = device(first, "7", "desk");
    assert_eq!(comes(&mut ws, Duration::from_millis(500)), (vec![], vec![]));
    publish(second, "user-7", "m-3");
    ws.tell(&json!({ "type": "ping", "timestamp": 1 }));
    let deadline = Instant::now() + WAIT;
    while next_of(&mut ws, "note")["id"] != "m-3" {
        assert!(Instant::now() < deadline, "it goes on live");
    }
}

fn a_users_room_is_an_inbox_where_no_rule_says_otherwise(broker: Broker) {
    let Stage { first, second, .. } = &Stage::new(broker, PINGS);
    for id in ["m-1", "m-2"] {
        publish(first, "user-7", id);
    }
    let mut ws = device(second, "7", "phone");
    let both = vec!["m-1".to_owned(), "m-2".to_owned()];
    assert_eq!(comes(&mut ws, SETTLED), (both, vec![]));
    leaves(ws, second, 0.0);
    let mut ws = device(first, "7", "desk");
    assert_eq!(comes(&mut ws, Duration::from_millis(500)), (vec![], vec![]), "it has had all");
    publish(second, "user-7", "m-3");
    assert_eq!(comes(&mut ws, Duration::from_millis(500)), (vec!["m-3".to_owned()], vec![]));
}

fn a_client_that_knows_nothing_of_positions_gets_its_inbox_and_no_answer_it_did_not_ask_for(
    broker: Broker,
) {
    let Stage { first, second, .. } = &Stage::new(broker, PINGS);
    publish(first, "user-21", "m-1");
    let (mut ws, _) = authenticate(second, "21", &json!({}));
    let mut heard = Vec::new();
    let deadline = Instant::now() + WAIT;
    while heard.last().is_none_or(|last| last != "pong") {
        if heard.last().is_some_and(|last| last == "note") {
            ws.tell(&json!({ "type": "ping", "timestamp": 1 }));
        }
        let next = ws.heard(deadline.saturating_duration_since(Instant::now()));
        if let Some(Heard::Text(text)) = next {
            let message: Value = serde_json::from_str(&text).unwrap();
            heard.push(message["type"].as_str().unwrap().to_owned());
        }
        assert!(Instant::now() < deadline, "{heard:?}");
    }
    assert_eq!(heard, ["note", "pong"]);
}
