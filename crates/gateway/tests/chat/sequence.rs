//! The seed's sequence diagram across two nodes: the second user is offline, then online on the other node, reads, and what
//! was said is taken back. Each ack is lost once.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use xtask::servers::Redis;

use crate::chat::{Chat, SERVED};
use crate::common::Live;

/// An event that is not acked is given again after 5 s, and a ping in front of that.
const AGAIN: Duration = Duration::from_secs(15);

/// The next event, twice: the first time its ack is lost. Other events do not come in between, unless `between`.
#[track_caller]
fn hears_twice(chat: &mut Chat, kind: &str) -> Value {
    let first = chat.event();
    assert_eq!(first["eventType"], kind, "{first}");
    let began = Instant::now();
    let again = chat.event();
    assert_eq!(again, first, "the same, with its id");
    assert!(began.elapsed() < AGAIN && began.elapsed() > Duration::from_secs(4));
    chat.acks(&again);
    again["payload"].clone()
}

fn play(one: &Live, two: &Live) {
    let mut user1 = Chat::open(one, "User1", None);
    user1.tells("typing", &json!({ "chatId": "User2" }));
    let said = user1.asks(
        "new",
        &json!({ "chatId": "User2", "clientMessageId": "9CD9", "message": "Hi from User1!" }),
    );
    let number = said["messageId"].as_u64().unwrap();
    assert_eq!(said["clientMessageId"], "9CD9");

    let mut user2 = Chat::open(two, "User2", None);
    let heard = hears_twice(&mut user2, "new");
    let expected = json!({
        "chatId": "User1", "sender": "User1", "messageId": number, "clientMessageId": "9CD9",
        "message": "Hi from User1!", "timestamp": said["timestamp"], "missed": 1,
    });
    assert_eq!(heard, expected);
    let delivered = hears_twice(&mut user1, "dlvrd");
    assert_eq!(delivered["messageId"], number);
    assert_eq!(
        (&delivered["chatId"], &delivered["clientMessageId"]),
        (&json!("User2"), &json!("9CD9"))
    );
    let asked = user2.asks("dlvrd", &json!({ "chatId": "User1", "messageId": number }));
    assert_eq!(asked["messageId"], number);
    assert_eq!(asked["timestamp"], delivered["timestamp"], "the first time stays");

    let read = user2.asks("read", &json!({ "chatId": "User1", "messageId": number }));
    assert_eq!((&read["chatId"], &read["missed"]), (&json!("User1"), &json!(0)));
    let told = hears_twice(&mut user1, "read");
    assert_eq!(told["messageId"], number);
    assert_eq!(told["timestamp"], read["timestamp"]);
    assert_eq!(user2.asks("read", &json!({ "chatId": "User1", "messageId": number })), read);

    let deleted = user1.asks("delete", &json!({ "chatId": "User2", "originalMessageId": number }));
    let service = deleted["messageId"].as_u64().unwrap();
    assert!(service > number);
    let told = hears_twice(&mut user2, "delete");
    assert_eq!((&told["originalMessageId"], &told["messageId"]), (&json!(number), &json!(service)));
    assert_eq!(told["chatId"], "User1");
    user1.hears_nothing(Duration::from_secs(7));
    user2.hears_nothing(Duration::from_millis(100));
    user1.close();
    user2.close();

    // What was acked does not come again, on whichever node.
    let mut user1 = Chat::open(two, "User1", None);
    let mut user2 = Chat::open(one, "User2", None);
    let found = user2.asks("messages", &json!({ "chatId": "User1" }));
    assert_eq!(found["authors"], json!(["User1"]));
    let [message] = &found["messages"].as_array().unwrap()[..] else { panic!("{found}") };
    assert_eq!((&message["messageId"], &message["status"]), (&json!(number), &json!("deleted")));
    assert!(message["message"].as_str().is_none_or(str::is_empty), "{message}");
    user1.hears_nothing(Duration::from_secs(2));
    user2.hears_nothing(Duration::from_millis(100));
}

#[test]
fn the_seeds_sequence_plays_on_two_nodes() {
    let [one, two] = Live::start_several::<2>(&SERVED);
    play(&one, &two);
}

#[test]
fn the_seeds_sequence_plays_on_two_nodes_and_redis() {
    let redis = Redis::start(&[]).unwrap();
    let start = || Live::on_redis(redis.port(), &SERVED);
    play(&start(), &start());
}
