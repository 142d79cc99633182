//! Groups: who is in one is the application's to say; its members, and nobody else, read and write.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use xtask::servers::Redis;

use crate::chat::{Chat, SERVED};
use crate::common::Live;

/// What does not come within this does not come.
const QUIET: Duration = Duration::from_millis(700);

/// The application says what a user is in a group.
#[track_caller]
pub(crate) fn puts(live: &Live, group: &str, user: &str, role: &str) -> Value {
    let path = format!("/api/v1/groups/{group}/members/{user}");
    let (status, body) = live.request("PUT", &path, &json!({ "role": role }).to_string());
    assert_eq!(status, 200, "{body}");
    serde_json::from_str(&body).unwrap()
}

#[track_caller]
pub(crate) fn removes(live: &Live, group: &str, user: &str) -> Value {
    let path = format!("/api/v1/groups/{group}/members/{user}");
    let (status, body) = live.request("DELETE", &path, "");
    assert_eq!(status, 200, "{body}");
    serde_json::from_str(&body).unwrap()
}

/// A story of a group on two nodes; `known`: they know each other, so that a change is answered when both have obeyed.
fn story(one: &Live, two: &Live, known: bool) {
    puts(one, "team", "ann", "owner");
    puts(two, "team", "bob", "member");
    let mut ann = Chat::open(one, "ann", None);
    let mut bob = Chat::open(two, "bob", Some("phone"));
    let first = ann.says("team", "hi");
    let heard = bob.event();
    assert_eq!(heard["eventType"], "new", "{heard}");
    assert_eq!(heard["payload"]["chatId"], "team");
    assert_eq!(
        (&heard["payload"]["sender"], &heard["payload"]["message"]),
        (&json!("ann"), &json!("hi"))
    );
    assert_eq!(heard["payload"]["messageId"], first);
    let id = heard["id"].as_u64().expect("a number");
    let again = bob.event();
    assert_eq!(again, heard, "what is not acked comes again, as it was");
    bob.acks(&heard);
    // Who becomes a member while it is connected hears the group from then on.
    let mut cid = Chat::open(one, "cid", None);
    assert_eq!(cid.asks("chats", &json!({})), json!([]));
    let answer = puts(two, "team", "cid", "member");
    assert_eq!(answer["role"], "member");
    assert!(!known || answer["sessions"] == 1, "{answer}");
    let second = bob.says("team", "hello");
    assert!(second > first);
    for device in [&mut ann, &mut cid] {
        assert_eq!(device.hears("new")["messageId"], second);
    }
    ann.hears_nothing(QUIET);
    // Typing, edits and marks.
    cid.tells("typing", &json!({ "chatId": "team" }));
    let typing = json!({ "chatId": "team", "userId": "cid" });
    for device in [&mut ann, &mut bob] {
        assert_eq!(device.hears("typing"), typing);
    }
    ann.asks("edit", &json!({ "chatId": "team", "originalMessageId": first, "message": "hi all" }));
    bob.refused("edit", &json!({ "chatId": "team", "originalMessageId": first, "message": "x" }));
    for device in [&mut bob, &mut cid] {
        let edit = device.hears("edit");
        assert_eq!(
            (&edit["originalMessageId"], &edit["message"]),
            (&json!(first), &json!("hi all"))
        );
    }
    let marked = cid.asks("read", &json!({ "chatId": "team", "messageId": second }));
    assert_eq!((&marked["messageId"], &marked["missed"]), (&json!(second), &json!(0)), "{marked}");
    let read = bob.hears("read");
    assert_eq!((&read["userId"], &read["messageId"]), (&json!("cid"), &json!(second)));
    // Each author is told of its own: the first one was said before cid came, and is read as well.
    let read = ann.hears("read");
    assert_eq!((&read["userId"], &read["messageId"]), (&json!("cid"), &json!(first)));
    // What is shown.
    let chat = ann.asks("chat", &json!({ "chatId": "team" }));
    assert_eq!(chat["type"], "group");
    assert_eq!(chat["participants"], json!(["ann", "bob", "cid"]));
    assert_eq!(chat["roles"], json!({ "ann": "owner", "bob": "member", "cid": "member" }));
    assert_eq!((&chat["missed"], &chat["firstMissed"]), (&json!(1), &json!(second)), "{chat}");
    let chats = bob.asks("chats", &json!({}));
    assert_eq!(chats[0]["chatId"], "team");
    assert_eq!(chats[0]["lastMessage"]["message"], "hello");
    let found = cid.asks("messages", &json!({ "chatId": "team" }));
    assert_eq!(found["authors"], json!(["ann", "bob"]));
    assert_eq!(found["messages"].as_array().unwrap().len(), 2);
    assert_eq!(found["messages"][0]["message"], "hi all");
    // Away, and back on the other node: what was not acked is given, by the same number.
    bob.close();
    let third = ann.says("team", "are you there?");
    let mut bob = Chat::open(one, "bob", Some("phone"));
    let missed = bob.event();
    assert_eq!(missed["payload"]["messageId"], third, "{missed}");
    assert!(missed["id"].as_u64().unwrap() > id);
    bob.acks(&missed);
    bob.hears_nothing(QUIET);
    // Nobody who is none any more.
    assert_eq!(cid.hears("new")["messageId"], third);
    let answer = removes(if known { two } else { one }, "team", "cid");
    assert_eq!(answer["sessions"], 1, "{answer}");
    ann.says("team", "without cid");
    bob.hears("new");
    cid.hears_nothing(QUIET);
    assert_eq!(cid.asks("chats", &json!({})), json!([]));
    cid.refused("messages", &json!({ "chatId": "team" }));
    cid.refused("new", &json!({ "chatId": "team", "clientMessageId": "c", "message": "hey" }));
    let found = ann.asks("messages", &json!({ "chatId": "team" }));
    assert_eq!(found["messages"].as_array().unwrap().len(), 4);
}

#[test]
fn its_members_read_and_write_on_every_node() {
    let [one, two] = Live::start_several::<2>(&SERVED);
    story(&one, &two, false);
}

#[test]
fn its_members_read_and_write_on_redis() {
    let redis = Redis::start(&[]).unwrap();
    let [one, two] = [(); 2].map(|()| Live::on_redis(redis.port(), &SERVED));
    story(&one, &two, true);
}

#[test]
fn nobody_else_reads_or_writes_by_any_command() {
    let [one] = Live::start_several::<1>(&SERVED);
    puts(&one, "team", "ann", "owner");
    let mut ann = Chat::open(&one, "ann", None);
    let mut eve = Chat::open(&one, "eve", None);
    let number = ann.says("team", "secret");
    let call = |with: &str| json!({ "chatId": with, "callId": "1", "userId": "eve", "participantsInvited": ["ann"] });
    for (kind, payload) in [
        ("new", json!({ "chatId": "team", "clientMessageId": "c", "message": "hey" })),
        ("edit", json!({ "chatId": "team", "originalMessageId": number, "message": "hey" })),
        ("delete", json!({ "chatId": "team", "originalMessageId": number })),
        ("messages", json!({ "chatId": "team" })),
        ("chat", json!({ "chatId": "team" })),
        ("dlvrd", json!({ "chatId": "team" })),
        ("read", json!({ "chatId": "team", "messageId": number })),
        ("newCall", call("team")),
    ] {
        let refused = eve.refused(kind, &payload);
        assert!(refused.contains("none of its members"), "{kind}: {refused}");
    }
    eve.tells("typing", &json!({ "chatId": "team" }));
    for with in ["chat-team", "$chat-team", "ann:team"] {
        let found = eve.asks("messages", &json!({ "chatId": with }));
        assert_eq!(found["messages"], json!([]), "{with}");
        eve.refused("delete", &json!({ "chatId": with, "originalMessageId": number }));
        eve.asks("read", &json!({ "chatId": with, "messageId": number }));
        eve.says(with, &format!("to {with}"));
        eve.tells("typing", &json!({ "chatId": with }));
        eve.asks("newCall", &call(with));
    }
    let mut native = one.user("ann");
    for room in ["chat-team", "$chat-team", "$groups-ann"] {
        for kind in ["subscribe", "history", "presence", "receipts"] {
            let refused = native.ask(&json!({ "id": "1", "type": kind, "data": { "room": room } }));
            assert_eq!(refused["type"], "error", "{kind} {room}: {refused}");
        }
    }
    assert_eq!(one.get("/api/v1/rooms/chat-team/history").0, 403);
    let publication = r#"{"room":"chat-team","type":"new","data":{"message":"x"}}"#;
    assert_eq!(one.request("POST", "/api/v1/publish", publication).0, 403);
    ann.hears_nothing(QUIET);
    eve.hears_nothing(QUIET);
    let found = ann.asks("messages", &json!({ "chatId": "team" }));
    assert_eq!(found["messages"].as_array().unwrap().len(), 1);
}

#[test]
fn what_is_wrong_is_told_and_nothing_is_changed() {
    let [one] = Live::start_several::<1>(&SERVED);
    let put = |path: &str, body: &str| one.request("PUT", path, body).0;
    let path = "/api/v1/groups/team/members/ann";
    for body in [r#"{"role":"boss"}"#, "{}", r#"{"role":7}"#, r#"{"role":"owner","x":1}"#] {
        assert_eq!(put(path, body), 422, "{body}");
    }
    assert_eq!(put("/api/v1/groups/a%20b/members/ann", r#"{"role":"owner"}"#), 400);
    assert_eq!(put("/api/v1/groups/a/members/b%20c", r#"{"role":"owner"}"#), 400);
    let longest = "g".repeat(249);
    puts(&one, &longest, "ann", "member");
    let path = format!("/api/v1/groups/g{longest}/members/ann");
    assert_eq!(put(&path, r#"{"role":"owner"}"#), 400);
    assert_eq!(one.request("POST", "/api/v1/groups/team/members/ann", "").0, 405);
    removes(&one, "nobody", "ann");
    let mut ann = Chat::open(&one, "ann", None);
    let chats = ann.asks("chats", &json!({}));
    assert_eq!(chats.as_array().unwrap().len(), 1);
    assert_eq!(chats[0]["chatId"], longest);
    let [plain] = Live::start_several::<1>(&[]);
    let (status, body) =
        plain.request("PUT", "/api/v1/groups/team/members/ann", r#"{"role":"owner"}"#);
    assert_eq!(status, 409, "{body}");
    assert!(body.contains("dialects.chat.enabled"), "{body}");
}

#[test]
fn a_user_is_in_as_many_groups_as_it_may_and_each_event_has_a_number_of_its_own() {
    let [one] = Live::start_several::<1>(&SERVED);
    let began = Instant::now();
    for number in 1..=100 {
        puts(&one, &format!("g{number}"), "ann", "member");
    }
    // Each is several questions to the broker, one after the other: none may wait for a clock.
    assert!(began.elapsed() < Duration::from_secs(12), "{:?}", began.elapsed());
    let over = one.request("PUT", "/api/v1/groups/g101/members/ann", r#"{"role":"member"}"#);
    assert_eq!(over.0, 429, "{}", over.1);
    puts(&one, "g100", "ann", "owner");
    puts(&one, "g1", "bob", "member");
    puts(&one, "g100", "bob", "member");
    let mut ann = Chat::open(&one, "ann", None);
    let mut bob = Chat::open(&one, "bob", None);
    assert_eq!(ann.asks("chats", &json!({})).as_array().unwrap().len(), 100);
    ann.says("bob", "one");
    ann.says("g1", "two");
    ann.says("g100", "three");
    let ids: BTreeSet<u64> = (0..3).map(|_| bob.event()["id"].as_u64().unwrap()).collect();
    assert_eq!(ids.len(), 3, "{ids:?}");
    // The member that was refused is not half in.
    puts(&one, "g101", "bob", "member");
    let chat = bob.asks("chat", &json!({ "chatId": "g101" }));
    assert_eq!(chat["participants"], json!(["bob"]));
}

#[test]
fn those_who_are_called_are_members_and_a_closed_call_is_kept() {
    let [one] = Live::start_several::<1>(&SERVED);
    for user in ["ann", "bob", "cid"] {
        puts(&one, "team", user, "member");
    }
    let [mut ann, mut bob, mut cid, mut eve] =
        ["ann", "bob", "cid", "eve"].map(|user| Chat::open(&one, user, None));
    ann.asks("newCall", &json!({
        "chatId": "team", "callId": "c1", "userId": "ann", "participantsInvited": ["bob", "eve"],
    }));
    let call = bob.hears("newCall");
    assert_eq!((&call["chatId"], &call["callId"]), (&json!("team"), &json!("c1")));
    ann.asks("closeCall", &json!({
        "chatId": "team", "callId": "c1", "userIdCreateCall": "ann", "participantsInvited": ["bob"],
        "participantsConnected": ["ann", "bob"], "callDuration": 7,
    }));
    hears_the_end(&mut bob);
    assert_eq!(cid.hears("call")["callDuration"], 7);
    let found = cid.asks("messages", &json!({ "chatId": "team" }));
    assert_eq!(found["messages"][0]["payload"]["status"], "missed");
    assert_eq!(found["messages"][0]["payload"]["direction"], "incoming");
    bob.asks("closeCall", &json!({
        "chatId": "team", "callId": "c2", "userIdCreateCall": "ann", "participantsInvited": ["bob"],
        "participantsConnected": [], "callDuration": 0,
    }));
    hears_the_end(&mut ann);
    eve.hears_nothing(QUIET);
}

/// It is told that a call is over, and what is kept of it, in either order.
#[track_caller]
fn hears_the_end(chat: &mut Chat) {
    let mut heard = BTreeSet::new();
    for _ in 0..2 {
        let event = chat.event();
        chat.acks(&event);
        heard.insert(event["eventType"].as_str().unwrap().to_owned());
    }
    assert_eq!(heard, BTreeSet::from(["call".to_owned(), "closeCall".to_owned()]));
}

/// The application puts a user in and out at the same time, on two nodes.
fn crossed(one: &Live, two: &Live) {
    puts(one, "team", "ann", "owner");
    let mut ann = Chat::open(one, "ann", None);
    let mut bob = Chat::open(two, "bob", None);
    // One that is not in its rooms yet would be closed, and come back.
    bob.asks("chats", &json!({}));
    for round in 0..30 {
        std::thread::scope(|scope| {
            scope.spawn(|| puts(one, "team", "bob", ["member", "owner"][round % 2]));
            scope.spawn(|| removes(two, "team", "bob"));
            scope.spawn(|| puts(two, "team", "bob", "member"));
        });
        let chat = ann.asks("chat", &json!({ "chatId": "team" }));
        let is_listed = chat["roles"].get("bob").cloned();
        let own = bob.asks("chats", &json!({}));
        assert_eq!(is_listed.is_some(), own[0]["chatId"] == "team", "{round}: {chat} {own}");
        // So do the nodes, once the last order was obeyed.
        let deadline = Instant::now() + Duration::from_secs(10);
        let is_told = |own: &Value| match &is_listed {
            Some(_) => own["payload"]["roles"] == chat["roles"],
            None => own.get("error").is_some(),
        };
        while let own = bob.asks_raw("chat", &json!({ "chatId": "team" }))
            && !is_told(&own)
        {
            assert!(Instant::now() < deadline, "{round}: {chat} {own}");
        }
    }
}

#[test]
fn a_member_that_is_changed_by_two_at_once_is_the_same_for_the_group_and_itself() {
    let [one, two] = Live::start_several::<2>(&SERVED);
    crossed(&one, &two);
}

#[test]
fn a_member_that_is_changed_by_two_at_once_is_the_same_for_the_group_and_itself_on_redis() {
    let redis = Redis::start(&[]).unwrap();
    let [one, two] = [(); 2].map(|()| Live::on_redis(redis.port(), &SERVED));
    crossed(&one, &two);
}

#[test]
fn a_redis_that_is_full_takes_members_out_and_puts_none_in() {
    let redis = Redis::start(&[]).unwrap();
    let [one, two] = [(); 2].map(|()| Live::on_redis(redis.port(), &SERVED));
    for user in ["ann", "bob"] {
        puts(&one, "team", user, "member");
    }
    let mut ann = Chat::open(&one, "ann", None);
    let mut bob = Chat::open(&two, "bob", None);
    ann.says("team", "before");
    bob.hears("new");
    redis.command(&["CONFIG", "SET", "maxmemory", "1"]).unwrap();
    let answer = removes(&one, "team", "bob");
    assert_eq!((&answer["sessions"], &answer["unanswered"]), (&json!(1), &json!([])), "{answer}");
    let put = |user: &str| {
        let path = format!("/api/v1/groups/team/members/{user}?timeout=1s");
        one.request("PUT", &path, r#"{"role":"member"}"#).0
    };
    assert_ne!(put("cid"), 200, "that needs place");
    redis.command(&["CONFIG", "SET", "maxmemory", "0"]).unwrap();
    ann.says("team", "behind");
    bob.hears_nothing(QUIET);
    let chat = ann.asks("chat", &json!({ "chatId": "team" }));
    assert_eq!(chat["roles"].get("bob"), None, "{chat}");
    bob.refused("messages", &json!({ "chatId": "team" }));
    assert_eq!(put("bob"), 200);
    bob.says("team", "again");
}
