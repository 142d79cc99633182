//! Who is online: contacts hear who comes and who goes, once, whichever node it is and however it ends.

use std::time::{Duration, Instant};

use serde_json::json;
use xtask::servers::{Proxy, Redis};

use crate::chat::Chat;
use crate::common::Live;

/// What does not come within this does not come.
const QUIET: Duration = Duration::from_millis(1_500);

/// How long users may be away.
const GRACE: [(&str, &str); 2] =
    [("dialects.chat.enabled", "true"), ("agents.leave_grace", "500ms")];

/// The same, for far longer than a test.
const LONG: [(&str, &str); 2] = [("dialects.chat.enabled", "true"), ("agents.leave_grace", "5m")];

/// Ann and bob have a dialog, and neither is online.
fn acquaint(live: &Live) {
    let mut ann = Chat::open(live, "ann", None);
    ann.says("bob", "hi");
    ann.close();
    std::thread::sleep(Duration::from_secs(1));
}

fn come_and_go(one: &Live, two: &Live) {
    acquaint(one);
    let mut ann = Chat::open(one, "ann", None);
    let shown = ann.asks("chat", &json!({ "chatId": "bob" }));
    assert_eq!((&shown["online"], shown.get("lastSeen")), (&json!(false), None), "never seen");
    let mut phone = Chat::open(two, "bob", Some("phone"));
    phone.hears_of("online", "ann");
    ann.hears_of("online", "bob");
    assert_eq!(ann.asks("chats", &json!({}))[0]["online"], true);
    // A second device, on the other node, is told the same, and is no news; nor is one that goes and comes again.
    let mut desk = Chat::open(one, "bob", Some("desk"));
    desk.hears_of("online", "ann");
    phone.close();
    ann.hears_of_nobody(QUIET);
    desk.hears_of_nobody(Duration::from_millis(10));
    desk.close();
    let mut back = Chat::open(two, "bob", None);
    back.hears_of("online", "ann");
    ann.hears_of_nobody(QUIET);
    back.hears_of_nobody(Duration::from_millis(10));
    let gone = Instant::now();
    back.close();
    let told = ann.hears_of("offline", "bob");
    assert!(gone.elapsed() >= Duration::from_millis(450), "{:?}", gone.elapsed());
    let chat = ann.asks("chats", &json!({}))[0].clone();
    assert_eq!((&chat["online"], &chat["lastSeen"]), (&json!(false), &told["payload"]["lastSeen"]));
    assert!(ann.asks("chat", &json!({ "chatId": "ann" })).get("online").is_none(), "favourites");
    // Who is nobody's contact is nobody's news.
    let mut eve = Chat::open(two, "eve", None);
    eve.hears_of_nobody(QUIET);
    ann.hears_of_nobody(Duration::from_millis(10));
    let mut bob = Chat::open(one, "bob", Some("phone"));
    bob.hears_of("online", "ann");
    ann.hears_of("online", "bob");
    for chat in [ann, bob, eve] {
        chat.close();
    }
    one.assert_empty();
    two.assert_empty();
}

#[test]
fn contacts_hear_who_comes_and_who_goes_after_the_grace() {
    let [one, two] = Live::start_several::<2>(&GRACE);
    come_and_go(&one, &two);
}

#[test]
fn contacts_hear_who_comes_and_who_goes_after_the_grace_on_redis() {
    let redis = Redis::start(&[]).unwrap();
    let start = || Live::on_redis(redis.port(), &GRACE);
    come_and_go(&start(), &start());
}

#[test]
fn whoever_says_that_nobody_looks_is_offline_at_once_until_the_client_is_used() {
    let [one, two] = Live::start_several::<2>(&LONG);
    let mut ann = Chat::open(&one, "ann", None);
    ann.says("bob", "hi");
    let mut bob = Chat::open(&two, "bob", None);
    let new = bob.event();
    ann.hears_of("online", "bob");
    bob.hears_of("online", "ann");
    bob.tells("offline", &json!({}));
    ann.hears_of("offline", "bob");
    // Acks, keep-alives, and what comes for him, bring nobody back.
    bob.acks(&new);
    bob.ws().text("ping");
    ann.says("bob", "ho");
    bob.event();
    ann.hears_of_nobody(QUIET);
    // He hears of others all the same.
    ann.tells("offline", &json!({}));
    bob.hears_of("offline", "ann");
    assert_eq!(ann.asks("chat", &json!({ "chatId": "bob" }))["online"], false);
    bob.hears_of("online", "ann");
    bob.tells("typing", &json!({ "chatId": "ann" }));
    ann.hears_of("online", "bob");
    bob.hears_of("online", "ann");
    // With two devices one that nobody looks at is no news.
    let mut desk = Chat::open(&one, "bob", Some("desk"));
    desk.tells("offline", &json!({}));
    ann.hears_of_nobody(QUIET);
    bob.tells("offline", &json!({}));
    ann.hears_of("offline", "bob");
    ann.hears_of_nobody(QUIET);
}

#[test]
fn what_is_not_acked_comes_again_while_it_is_true() {
    let redis = Redis::start(&[]).unwrap();
    let [one, two] = [(); 2].map(|()| Live::on_redis(redis.port(), &GRACE));
    acquaint(&one);
    let mut ann = Chat::open(&one, "ann", None);
    ann.keeps_acks = true;
    let bob = Chat::open(&two, "bob", None);
    let online = ann.hears_of("online", "bob");
    assert_eq!(ann.hears_of("online", "bob"), online, "the same, with its id");
    // Her next connection is given it, and not a second time, as each device is once.
    let mut desk = Chat::open(&two, "ann", Some("desk"));
    drop(ann);
    assert_eq!(desk.hears_of("online", "bob"), online);
    desk.hears_of_nobody(QUIET);
    let mut ann = Chat::open(&one, "ann", None);
    ann.keeps_acks = true;
    assert_eq!(ann.hears_of("online", "bob"), online);
    drop(bob);
    let offline = ann.hears_of("offline", "bob");
    desk.hears_of("offline", "bob");
    // What is not true any more does not come again.
    assert_eq!(ann.hears_of("offline", "bob"), offline);
    drop(ann);
    let mut bob = Chat::open(&two, "bob", None);
    desk.hears_of("online", "bob");
    bob.hears_of("online", "ann");
    let mut ann = Chat::open(&one, "ann", None);
    let back = ann.hears_of("online", "bob");
    assert!(back["id"].as_u64() > offline["id"].as_u64(), "{back}");
    ann.hears_of_nobody(Duration::from_secs(7));
    drop(ann);
    drop(desk);
    // What was true when she went is not, and she was told nothing meanwhile.
    let mut ann = Chat::open(&one, "ann", None);
    ann.keeps_acks = true;
    ann.hears_of_nobody(Duration::from_millis(200));
    drop(ann);
    bob.hears_of("offline", "ann");
    drop(bob);
    std::thread::sleep(QUIET);
    let mut ann = Chat::open(&one, "ann", None);
    ann.hears_of_nobody(QUIET);
}

#[test]
fn of_a_node_that_ends_hard_each_user_is_told_once() {
    let redis = Redis::start(&[]).unwrap();
    let proxy = Proxy::start(redis.port()).unwrap();
    let dead = Live::on_redis(proxy.port(), &GRACE);
    let [two, three] = [(); 2].map(|()| Live::on_redis(redis.port(), &GRACE));
    let mut ann = Chat::open(&two, "ann", None);
    let users = ["bob", "cid", "dan"];
    for user in users {
        ann.says(user, "hi");
    }
    let mut others = users.map(|user| Chat::open(&dead, user, None));
    let mut elsewhere = Chat::open(&three, "dan", Some("desk"));
    for other in others.iter_mut().chain([&mut elsewhere]) {
        other.hears_of("online", "ann");
    }
    let named = |heard: serde_json::Value| heard["payload"]["userId"].as_str().unwrap().to_owned();
    let mut came = users.map(|_| named(ann.status(QUIET * 4).unwrap()));
    came.sort();
    assert_eq!(came, users);
    // For the cluster it is as good as killed: it says nothing any more.
    proxy.refuse();
    proxy.cut();
    let mut gone = [(); 2].map(|()| ann.status(Duration::from_secs(30)).unwrap());
    gone.sort_by_key(|it| it["payload"]["userId"].to_string());
    assert_eq!(gone.each_ref().map(|it| &it["eventType"]), ["offline", "offline"]);
    assert_eq!(gone.map(named), ["bob", "cid"], "dan is on elsewhere");
    ann.hears_of_nobody(Duration::from_secs(5));
    elsewhere.hears_of_nobody(Duration::from_millis(10));
}
