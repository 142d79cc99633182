//! Several nodes of one process that share the embedded broker: who is on which of them makes no difference.

use std::time::Duration;

use roomcast_protocol::codes::{Close, Refusal};
use serde_json::json;

use crate::common::Live;
use crate::common::ws::Ws;
use crate::scene::expect_pong;

const QUIET: Duration = Duration::from_millis(150);

fn member(live: &Live, sub: &str) -> Ws {
    let mut ws = live.user(sub);
    ws.join("demo");
    ws
}

#[test]
fn a_publication_reaches_members_on_every_node_once_and_in_one_order() {
    let [first, second] = Live::start_several(&[]);
    let (mut ann, mut bob) = (member(&first, "ann"), member(&second, "bob"));
    for n in 0..100 {
        let (publisher, id) = if n % 2 == 0 { (&mut ann, n) } else { (&mut bob, n) };
        publisher.tell(&json!({ "type": "note", "room": "demo", "id": id, "data": n }));
    }
    let heard = |ws: &mut Ws| -> Vec<_> { (0..100).map(|_| ws.json()["data"].as_u64()).collect() };
    let (one, other) = (heard(&mut ann), heard(&mut bob));
    assert_eq!(one, other);
    let evens = one.iter().flatten().filter(|n| *n % 2 == 0);
    assert!(evens.copied().eq((0..100).step_by(2)), "of one publisher, in order: {one:?}");
    ann.expect_silence(QUIET);
    bob.expect_silence(QUIET);
}

#[test]
fn a_repeat_through_another_node_is_acked_and_not_delivered_again() {
    let [first, second] = Live::start_several(&[]);
    let mut member = member(&first, "member");
    let note = |data: u32| json!({ "type": "note", "room": "demo", "id": "m", "data": data, "requiresAck": true });
    for live in [&first, &second] {
        let mut ann = live.user("ann");
        ann.tell(&note(1));
        assert_eq!(ann.json()["ackId"], "m");
    }
    let mut ann = second.user("ann");
    ann.tell(&note(2));
    ann.expect_refusal(Refusal::Duplicate);
    assert_eq!(member.json()["data"], 1);
    member.expect_silence(QUIET);
}

#[test]
fn the_rooms_of_a_user_are_on_every_node() {
    let [first, second] = Live::start_several(&[]);
    let (mut here, mut there) = (first.user("ann"), second.user("ann"));
    let mut backend = first.backend();
    backend.tell(&json!({ "type": "note", "room": "user-ann", "id": "n" }));
    assert_eq!((here.json()["id"].clone(), there.json()["id"].clone()), (json!("n"), json!("n")));
}

#[test]
fn a_node_that_stops_leaves_the_others_at_work() {
    let [first, second] = Live::start_several(&[]);
    let (mut ann, mut bob) = (member(&first, "ann"), member(&second, "bob"));
    let stopping = std::thread::spawn(move || first.stop());
    ann.expect_close(Close::Stopping);
    drop(ann);
    stopping.join().unwrap();
    bob.tell(&json!({ "type": "note", "room": "demo", "id": "n", "requiresAck": true }));
    let (one, other) = (bob.json(), bob.json());
    assert!([&one["ackId"], &other["ackId"]].contains(&&json!("n")), "{one} {other}");
    expect_pong(&mut bob);
    drop(bob);
    second.assert_empty();
}
