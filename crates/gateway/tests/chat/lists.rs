//! The event `chats`: who is put into a group, or out of it, is told its chats, wherever it is connected.

use std::time::{Duration, Instant};

use serde_json::json;
use xtask::servers::Redis;

use crate::chat::{Chat, SERVED};
use crate::common::Live;
use crate::groups::{puts, removes};

/// What does not come within this does not come.
const QUIET: Duration = Duration::from_millis(1_500);

/// Users may be away for longer than a test.
const LONG: [(&str, &str); 2] = [("dialects.chat.enabled", "true"), ("agents.leave_grace", "5m")];

fn story(one: &Live, two: &Live) {
    puts(one, "team", "ann", "owner");
    let mut bob = Chat::open(one, "bob", Some("phone"));
    assert_eq!(bob.asks("chats", &json!({})), json!([]));
    bob.keeps_acks = true;
    puts(two, "team", "bob", "member");
    let told = bob.hears_list_of(&["team"]);
    assert_eq!(told["payload"], bob.asks("chats", &json!({})), "as it is answered");
    assert_eq!(told["payload"][0]["participants"], json!(["ann", "bob"]));
    // By then the group takes what is said.
    bob.says("team", "hello");
    // What is not acked comes again, as it was; also to another device, on the other node.
    assert_eq!(bob.list(Duration::from_secs(8)), Some(told.clone()));
    let mut desk = Chat::open(two, "bob", Some("desk"));
    assert_eq!(desk.hears_list_of(&["team"]), told);
    // What changes nothing is no news.
    bob.acks(&told);
    puts(one, "team", "bob", "member");
    puts(two, "team", "bob", "member");
    desk.hears_no_list(QUIET);
    bob.hears_no_list(Duration::from_millis(10));
    // Another role is; of two lists that are not acked the newest comes again.
    puts(two, "team", "bob", "owner");
    bob.hears_list_of(&["team"]);
    desk.hears_list_of(&["team"]);
    removes(one, "team", "bob");
    let gone = bob.hears_list_of(&[]);
    assert_eq!(desk.hears_list_of(&[]), gone);
    assert_eq!(bob.list(Duration::from_secs(8)), Some(gone.clone()));
    bob.close();
    let mut bob = Chat::open(two, "bob", Some("phone"));
    assert_eq!(bob.hears_list_of(&[]), gone);
    removes(two, "team", "bob");
    bob.hears_no_list(QUIET);
    // Who is in the group hears nothing of others who come and go.
    let mut ann = Chat::open(one, "ann", None);
    puts(two, "team", "cid", "member");
    ann.hears_no_list(QUIET);
}

#[test]
fn who_is_put_into_a_group_or_out_of_it_is_told_its_chats() {
    let [one, two] = Live::start_several::<2>(&LONG);
    story(&one, &two);
}

#[test]
fn who_is_put_into_a_group_or_out_of_it_is_told_its_chats_on_redis() {
    let redis = Redis::start(&[]).unwrap();
    let [one, two] = [(); 2].map(|()| Live::on_redis(redis.port(), &LONG));
    story(&one, &two);
}

#[test]
fn a_list_from_before_one_was_away_does_not_come_again() {
    const SHORT: [(&str, &str); 2] =
        [("dialects.chat.enabled", "true"), ("agents.leave_grace", "200ms")];
    let [one] = Live::start_several::<1>(&SHORT);
    let mut bob = Chat::open(&one, "bob", None);
    bob.keeps_acks = true;
    puts(&one, "team", "bob", "member");
    bob.hears_list_of(&["team"]);
    bob.close();
    std::thread::sleep(Duration::from_secs(1));
    removes(&one, "team", "bob");
    let mut bob = Chat::open(&one, "bob", None);
    bob.hears_no_list(QUIET);
    assert_eq!(bob.asks("chats", &json!({})), json!([]));
}

#[test]
fn many_who_are_not_there_are_listed_for_nobody() {
    let [one] = Live::start_several::<1>(&SERVED);
    let mut bob = Chat::open(&one, "bob", None);
    let began = Instant::now();
    for number in 0..300 {
        puts(&one, "team", &format!("u{number}"), "member");
    }
    puts(&one, "team", "bob", "member");
    let told = bob.hears_list_of(&["team"]);
    assert_eq!(told["payload"][0]["participants"].as_array().map(Vec::len), Some(100));
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    let deadline = Instant::now() + Duration::from_secs(10);
    let listed = || one.metric("roomcast_conversations_lists_told_total");
    while listed() != Some(1.0) {
        assert!(Instant::now() < deadline, "{:?}", listed());
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn clients_of_other_protocols_hear_it_too() {
    let [one] = Live::start_several::<1>(&SERVED);
    let _bob = Chat::open(&one, "bob", None);
    let mut native = one.user("bob");
    puts(&one, "team", "bob", "member");
    let told = std::iter::from_fn(|| Some(native.json())).find(|it| it["type"] == "chats");
    let told = told.unwrap();
    assert_eq!(told["room"], "user-bob", "{told}");
    assert_eq!(told["data"][0]["chatId"], "team", "{told}");
}
