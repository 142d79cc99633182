//! Dialogs: devices, typing, edits, favourites, lists, and what is said again.

use std::time::Duration;

use serde_json::{Value, json};
use xtask::servers::Redis;

use crate::chat::{Chat, SERVED};
use crate::common::Live;

/// What does not come within this does not come.
const QUIET: Duration = Duration::from_millis(700);

#[test]
fn each_device_of_both_users_hears_what_was_not_said_on_it() {
    let [one, two] = Live::start_several::<2>(&SERVED);
    let mut phone = Chat::open(&one, "ann", Some("phone"));
    let mut desk = Chat::open(&two, "ann", Some("desk"));
    let mut bob = Chat::open(&two, "bob", Some("phone"));
    let mut bobs_desk = Chat::open(&one, "bob", Some("desk"));
    let number = phone.says("bob", "hi");
    let own = desk.hears("new");
    assert_eq!((&own["chatId"], &own["sender"]), (&json!("bob"), &json!("ann")));
    assert_eq!(own["messageId"], number);
    for device in [&mut bob, &mut bobs_desk] {
        assert_eq!(device.hears("new")["messageId"], number);
    }
    for device in [&mut phone, &mut desk] {
        assert_eq!(device.hears("dlvrd")["messageId"], number);
        device.hears_nothing(QUIET);
    }
    desk.close();
    bob.says("ann", "hello");
    assert_eq!(bobs_desk.hears("new")["chatId"], "ann");
    assert_eq!(phone.hears("new")["message"], "hello");
    phone.hears("read");
    let mut desk = Chat::open(&one, "ann", Some("desk"));
    assert_eq!(desk.hears("new")["message"], "hello", "one device's ack is not the other's");
    assert_eq!(desk.hears("read")["messageId"], number);
    phone.hears_nothing(QUIET);
}

#[test]
fn said_again_it_is_said_once_and_answered_as_at_first() {
    let [one, two] = Live::start_several::<2>(&SERVED);
    let mut ann = Chat::open(&one, "ann", None);
    let payload = json!({ "chatId": "bob", "clientMessageId": "m1", "message": "hi" });
    let first = ann.asks("new", &payload);
    assert_eq!(ann.asks("new", &payload), first);
    let mut elsewhere = Chat::open(&two, "ann", Some("other"));
    assert_eq!(elsewhere.asks("new", &payload), first);
    let other = json!({ "chatId": "bob", "clientMessageId": "m1", "message": "ho" });
    elsewhere.refused("new", &other);
    let mut bob = Chat::open(&two, "bob", None);
    bob.hears("new");
    bob.hears_nothing(QUIET);
}

#[test]
fn the_same_request_id_with_another_body_is_a_warning() {
    let [one] = Live::start_several::<1>(&SERVED);
    let mut ann = Chat::open(&one, "ann", None);
    let request = |text: &str| {
        json!({ "type": "request", "timestamp": 1, "id": "7", "payloadType": "new",
            "payload": { "chatId": "bob", "clientMessageId": text, "message": text } })
    };
    ann.tell(&request("a"));
    let first = ann.ws().json();
    ann.tell(&request("a"));
    let mut again = ann.ws().json();
    again["timestamp"] = first["timestamp"].clone();
    assert_eq!(again, first);
    ann.tell(&request("b"));
    let error =
        json!({ "error": { "id": "7", "type": "warning", "exception": "Duplicate request id" } });
    ann.ws().expect(&error);
}

#[test]
fn typing_is_heard_by_who_listens_and_kept_for_nobody() {
    let [one, two] = Live::start_several::<2>(&SERVED);
    let mut ann = Chat::open(&one, "ann", None);
    ann.tells("typing", &json!({ "chatId": "bob" }));
    // What a session asked before is carried out before what it asks now.
    assert_eq!(ann.asks("chats", &json!({})), json!([]));
    let mut bob = Chat::open(&two, "bob", None);
    assert_eq!(bob.asks("chats", &json!({})), json!([]));
    bob.hears_nothing(QUIET);
    ann.tells("typing", &json!({ "chatId": "bob", "stop": true }));
    let heard = bob.event();
    assert_eq!(heard["eventType"], "typing");
    assert_eq!(heard["payload"], json!({ "chatId": "ann", "stop": true }));
    assert!(heard.get("id").is_none());
    ann.hears_nothing(QUIET);
}

#[test]
fn only_the_author_edits_and_deletes_and_messages_show_it() {
    let [one, two] = Live::start_several::<2>(&SERVED);
    let mut ann = Chat::open(&one, "ann", None);
    let mut bob = Chat::open(&two, "bob", None);
    let number = ann.says("bob", "helo");
    bob.hears("new");
    ann.hears("dlvrd");
    let edit = json!({ "chatId": "ann", "originalMessageId": number, "message": "stolen" });
    bob.refused("edit", &edit);
    bob.refused("delete", &json!({ "chatId": "ann", "originalMessageId": number }));
    let edit = json!({ "chatId": "bob", "originalMessageId": number, "message": "hello" });
    let service = ann.asks("edit", &edit)["messageId"].clone();
    let told = bob.hears("edit");
    assert_eq!((&told["messageId"], &told["message"]), (&service, &json!("hello")));
    assert_eq!(told["originalMessageId"], number);
    let found = bob.asks("messages", &json!({ "chatId": "ann" }));
    assert_eq!(found["messages"][0]["message"], "hello");
    assert_eq!(found["messages"].as_array().unwrap().len(), 1);
    ann.refused("delete", &json!({ "chatId": "bob", "originalMessageId": 99 }));
    ann.asks("delete", &json!({ "chatId": "bob", "originalMessageId": number }));
    bob.hears("delete");
    let refused = ann.refused("edit", &edit);
    assert_eq!(refused, "This message was deleted: say a new one");
    bob.hears_nothing(QUIET);
    ann.hears_nothing(QUIET);
}

#[test]
fn what_the_documentation_shows_of_new_is_said() {
    let [one, two] = Live::start_several::<2>(&SERVED);
    let mut ann = Chat::open(&one, "ann", None);
    let mut bob = Chat::open(&two, "bob", None);
    let said = ann.asks("new", &json!({ "chatId": "bob", "message": "Hi from User1!" }));
    let told = bob.hears("new");
    for member in ["messageId", "clientMessageId", "timestamp"] {
        assert_eq!(told[member], said[member], "{member}");
    }
    ann.hears("dlvrd");
    let again = ann.asks("new", &json!({ "chatId": "bob", "message": "Hi from User1!" }));
    assert_eq!(again["messageId"], 2, "another request says another message");
    let own = json!({ "chatId": "bob", "originalClientMessageId": said["clientMessageId"], "message": "Hi" });
    ann.asks("edit", &own);
    bob.hears("new");
    assert_eq!(bob.hears("edit")["originalMessageId"], 1);
}

#[test]
fn a_chat_id_that_no_user_can_have_is_refused_and_said_to_be_it() {
    let [one] = Live::start_several::<1>(&SERVED);
    let mut ann = Chat::open(&one, "ann", None);
    let longest = "u".repeat(255 - "dialog-ann:".len());
    ann.says(&longest, "hi");
    for (with, why) in
        [(format!("{longest}u"), "is longer than 255 bytes"), ("User 2".to_owned(), "has a space")]
    {
        let refused = ann.refused("chat", &json!({ "chatId": with }));
        assert!(refused.starts_with("chatId can be no user's id: "), "{refused}");
        assert!(refused.contains(why), "{refused}");
    }
}

#[test]
fn chats_list_what_was_said_last_and_what_is_not_read() {
    let [one, two] = Live::start_several::<2>(&SERVED);
    let mut ann = Chat::open(&one, "ann", None);
    for (with, text) in [("bob", "one"), ("cleo", "two"), ("ann", "note to self"), ("bob", "three")]
    {
        ann.says(with, text);
        // What is said within one millisecond has no order.
        std::thread::sleep(Duration::from_millis(20));
    }
    let mut bob = Chat::open(&two, "bob", None);
    let listed = bob.asks("chats", &json!({}));
    let [chat] = &listed.as_array().unwrap()[..] else { panic!("{listed}") };
    assert_eq!((&chat["chatId"], &chat["type"]), (&json!("ann"), &json!("dialog")));
    assert_eq!((&chat["missed"], &chat["lastMessage"]["message"]), (&json!(2), &json!("three")));
    assert_eq!(chat["firstMissed"], 1);
    let read = bob.asks("read", &json!({ "chatId": "ann", "messageId": 1 }));
    assert_eq!(read["missed"], 1);
    assert_eq!(bob.asks("chat", &json!({ "chatId": "ann" }))["missed"], 1);
    let listed = ann.asks("chats", &json!({}));
    let all: Vec<_> = listed.as_array().unwrap().iter().map(|it| it["chatId"].clone()).collect();
    assert_eq!(all, ["bob", "ann", "cleo"]);
    assert_eq!(listed[1]["type"], "favorites");
}

#[test]
fn who_answers_has_read_what_was_said_before() {
    let [one, two] = Live::start_several::<2>(&SERVED);
    let mut ann = Chat::open(&one, "ann", None);
    let number = ann.says("bob", "hi");
    let mut bob = Chat::open(&two, "bob", None);
    bob.hears("new");
    ann.hears("dlvrd");
    bob.says("ann", "ho");
    let heard = [ann.event(), ann.event()];
    heard.iter().for_each(|event| ann.acks(event));
    let read = heard.iter().find(|it| it["eventType"] == "read").unwrap();
    assert_eq!(read["payload"]["messageId"], number);
    assert_eq!(bob.asks("chat", &json!({ "chatId": "ann" }))["missed"], 0);
}

#[test]
fn when_all_are_gone_nothing_is_left() {
    let [one, two] = Live::start_several::<2>(&SERVED);
    let mut ann = Chat::open(&one, "ann", None);
    ann.says("bob", "hi");
    let mut bob = Chat::open(&two, "bob", None);
    bob.hears("new");
    ann.hears("dlvrd");
    ann.close();
    bob.close();
    one.assert_empty();
    two.assert_empty();
}

#[test]
fn a_call_that_both_sides_close_is_kept_once() {
    let redis = Redis::start(&[]).unwrap();
    let [one, two] = [(); 2].map(|()| Live::on_redis(redis.port(), &SERVED));
    let mut ann = Chat::open(&one, "ann", None);
    let mut bob = Chat::open(&two, "bob", None);
    let closed = |with: &str, seconds: u64| {
        json!({
            "chatId": with, "callId": "k1", "userIdCreateCall": "ann", "participantsInvited": ["ann", "bob"],
            "participantsConnected": ["ann", "bob"], "callDuration": seconds,
        })
    };
    assert_eq!(ann.asks("closeCall", &closed("bob", 7)), Value::Null);
    let mut heard: Vec<_> = [bob.event(), bob.event()].into();
    heard.iter().for_each(|event| bob.acks(event));
    heard.sort_by_key(|event| event["eventType"].to_string());
    assert_eq!(heard.iter().map(|it| &it["eventType"]).collect::<Vec<_>>(), ["call", "closeCall"]);
    ann.hears("dlvrd");
    // The other one says the same, or says it otherwise.
    for seconds in [7, 8] {
        assert_eq!(bob.asks("closeCall", &closed("ann", seconds)), Value::Null);
    }
    assert_eq!(ann.asks("closeCall", &closed("bob", 9)), Value::Null);
    ann.hears_nothing(Duration::from_secs(1));
    bob.hears_nothing(Duration::from_millis(10));
    let found = bob.asks("messages", &json!({ "chatId": "ann" }));
    let kept = found["messages"].as_array().unwrap();
    assert_eq!(kept.len(), 1, "{found}");
    assert_eq!(
        (&kept[0]["sender"], &kept[0]["payload"]["callDuration"]),
        (&json!("ann"), &json!(7))
    );
}

#[test]
fn what_was_taken_back_before_it_was_read_is_not_missed() {
    let [one] = Live::start_several::<1>(&SERVED);
    let mut ann = Chat::open(&one, "ann", None);
    let mut bob = Chat::open(&one, "bob", None);
    let first = ann.says("bob", "one");
    ann.says("bob", "two");
    assert_eq!([bob.hears("new"), bob.hears("new")].map(|it| it["missed"].clone()), [1, 2]);
    ann.asks("delete", &json!({ "chatId": "bob", "originalMessageId": first }));
    bob.hears("delete");
    let chat = bob.asks("chat", &json!({ "chatId": "ann" }));
    assert_eq!((&chat["missed"], &chat["firstMissed"]), (&json!(1), &json!(first + 1)), "{chat}");
    assert_eq!(bob.asks("chats", &json!({}))[0]["missed"], 1);
    ann.says("bob", "three");
    assert_eq!(bob.hears("new")["missed"], 2);
    let marked = bob.asks("read", &json!({ "chatId": "ann", "messageId": first }));
    assert_eq!(marked["missed"], 2, "{marked}");
}
