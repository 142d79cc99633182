//! Who is in a room is one answer on all nodes (G18, G19).

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use xtask::servers::{Cluster, Redis};

use crate::common::Live;
use crate::common::ws::{Dial, Ws};
use crate::stage::{Broker, Stage, dial, join, next_of, on_both_brokers, soon};

on_both_brokers!(
    a_roster_holds_the_users_of_both_nodes_each_once,
    members_are_told_who_comes_and_who_leaves,
    where_only_numbers_are_told_nobody_is_named,
    the_users_of_a_node_that_ends_are_gone_and_those_elsewhere_stay,
    a_room_that_was_empty_is_known_from_its_first_user_on,
);

/// The roster as the server API tells it.
fn roster(live: &Live, room: &str) -> Value {
    let (status, body) = live.get(&format!("/api/v1/rooms/{room}/presence"));
    assert_eq!(status, 200, "{body}");
    serde_json::from_str(&body).unwrap()
}

#[track_caller]
fn soon_there(live: &Live, room: &str, users: &[&str]) {
    let mut last = Value::Null;
    let deadline = std::time::Instant::now() + crate::common::ws::WAIT;
    loop {
        let found = roster(live, room);
        if found["users"] == json!(users) && found["count"] == users.len() {
            return;
        }
        assert!(std::time::Instant::now() < deadline, "{found}, before {last}");
        last = found;
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
}

fn a_roster_holds_the_users_of_both_nodes_each_once(broker: Broker) {
    let Stage { first, second, .. } = &Stage::new(broker, "");
    assert_eq!(roster(first, "known-1")["count"], 0);
    let (mut ann, _) = dial(first, "ann", "");
    let (mut ann_too, _) = dial(second, "ann", "");
    let (mut bob, _) = dial(second, "bob", "");
    for ws in [&mut ann, &mut ann_too, &mut bob] {
        join(ws, "known-1");
    }
    soon_there(first, "known-1", &["ann", "bob"]);
    soon_there(second, "known-1", &["ann", "bob"]);
    // A node answers as it has told its members, which may be a little later.
    soon("bob's node has told of both", || {
        bob.tell(&json!({ "type": "presence", "id": "q", "data": { "room": "known-1" } }));
        loop {
            let answer = next_of(&mut bob, "presence");
            if answer["metadata"]["correlation_id"] == "q" {
                return answer["data"]["users"] == json!(["ann", "bob"]);
            }
        }
    });
    // One of her two connections ends: she is still there.
    drop(ann);
    std::thread::sleep(std::time::Duration::from_secs(1));
    soon_there(first, "known-1", &["ann", "bob"]);
    drop(ann_too);
    soon_there(first, "known-1", &["bob"]);
    let (status, body) = first.get("/api/v1/rooms/demo/presence");
    assert_eq!(status, 400, "its rule tells nothing: {body}");
}

fn members_are_told_who_comes_and_who_leaves(broker: Broker) {
    let Stage { first, second, .. } = &Stage::new(broker, "");
    let (mut ann, _) = dial(first, "ann", "");
    join(&mut ann, "known-1");
    soon_there(first, "known-1", &["ann"]);
    let (mut bob, _) = dial(second, "bob", "");
    join(&mut bob, "known-1");
    let told = |ws: &mut crate::common::ws::Ws, list: &str, user: &str| loop {
        let diff = next_of(ws, "presence");
        if diff["data"][list].as_array().unwrap().contains(&json!(user)) {
            return diff;
        }
    };
    let came = told(&mut ann, "joined", "bob");
    assert_eq!((&came["data"]["room"], &came["data"]["count"]), (&json!("known-1"), &json!(2)));
    bob.tell(&json!({ "type": "unsubscribe", "data": { "room": "known-1" } }));
    let left = told(&mut ann, "left", "bob");
    assert_eq!(left["data"]["count"], 1);
    let version = |diff: &Value| diff["metadata"]["offset"].as_u64().unwrap();
    assert!(version(&left) > version(&came));
}

fn a_room_that_was_empty_is_known_from_its_first_user_on(broker: Broker) {
    let Stage { first, .. } = &Stage::new(broker, "");
    let (mut ann, _) = dial(first, "ann", "");
    join(&mut ann, "known-1");
    let (mut bob, _) = dial(first, "bob", "");
    join(&mut bob, "known-1");
    while !next_of(&mut ann, "presence")["data"]["joined"].to_string().contains("bob") {}
    ann.tell(&json!({ "type": "presence", "id": "q", "data": { "room": "known-1" } }));
    let answered = next_of(&mut ann, "presence");
    assert_eq!(answered["data"]["users"], json!(["ann", "bob"]));
    let version = &roster(first, "known-1")["version"];
    assert_eq!(answered["metadata"]["epoch"], version["epoch"]);
    // What was read of the empty room was not read anew, which takes a second.
    let diffs = || first.metric("roomcast_presence_diffs_total");
    soon("both have been counted", || diffs() >= Some(2.0));
    assert_eq!(first.metric("roomcast_presence_gaps_total"), Some(0.0));
}

fn where_only_numbers_are_told_nobody_is_named(broker: Broker) {
    let Stage { first, second, .. } = &Stage::new(broker, "");
    let (mut ann, _) = dial(first, "ann", "");
    join(&mut ann, "counted-1");
    let (mut bob, _) = dial(second, "bob", "");
    join(&mut bob, "counted-1");
    loop {
        let told = next_of(&mut ann, "presence");
        assert!(!told.to_string().contains("bob"), "{told}");
        if told["data"]["count"] == 2 {
            break;
        }
    }
}

fn the_users_of_a_node_that_ends_are_gone_and_those_elsewhere_stay(broker: Broker) {
    let Stage { first, second, redis: _held } = Stage::new(broker, "");
    let (mut ann, _) = dial(&first, "ann", "");
    let (mut ann_too, _) = dial(&second, "ann", "");
    let (mut bob, _) = dial(&first, "bob", "");
    for ws in [&mut ann, &mut ann_too, &mut bob] {
        join(ws, "known-1");
    }
    soon_there(&second, "known-1", &["ann", "bob"]);
    first.stop();
    soon("bob's ghost is gone", || roster(&second, "known-1")["users"] == json!(["ann"]));
}

/// How long it may take until what a server lost is right again.
const MENDED: Duration = Duration::from_secs(15);

/// Waits until Redis and both nodes' members know again who is there, for no longer than it may take.
#[track_caller]
fn mended(stage: &Stage, lost: &str, [ann, bob]: [&mut Ws; 2]) {
    let began = Instant::now();
    let redis = stage.redis.as_ref().unwrap();
    let both = json!(["ann", "bob"]);
    loop {
        let kept =
            [&stage.first, &stage.second].map(|live| roster(live, "known-1")["users"].take());
        let told = [&mut *ann, &mut *bob].map(told_roster);
        let agent = keys(redis, "rc:*:presence:$agents")
            .iter()
            .any(|key| redis.command(&["HGET", key, "u7"]).unwrap().text() == "1");
        if agent && kept.iter().chain(&told).all(|users| *users == both) {
            return;
        }
        let after = began.elapsed();
        assert!(after < MENDED, "{lost}: {kept:?}, told {told:?}, agent {agent}, {after:?} later");
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// Who is in the room, as the client's node has told its members.
fn told_roster(ws: &mut Ws) -> Value {
    ws.tell(&json!({ "type": "presence", "id": "q", "data": { "room": "known-1" } }));
    loop {
        let mut answer = ws.json();
        if answer["metadata"]["correlation_id"] == "q" {
            return answer["data"]["users"].take();
        }
    }
}

fn keys(redis: &Redis, pattern: &str) -> Vec<String> {
    let found = redis.command(&["KEYS", pattern]).unwrap();
    found.items().iter().map(xtask::servers::Reply::text).collect()
}

#[test]
fn whatever_keys_redis_loses_everybody_who_is_there_is_entered_again() {
    let stage = &Stage::new(Broker::Redis, "");
    let redis = stage.redis.as_ref().unwrap();
    let (mut ann, _) = dial(&stage.first, "ann", "");
    let (mut bob, _) = dial(&stage.second, "bob", "");
    for ws in [&mut ann, &mut bob] {
        join(ws, "known-1");
    }
    let claims = json!({ "sub": "seven", "kind": "user", "agent_id": 7 });
    let path = format!("/ws?token={}", stage.first.token_of(&claims));
    let mut agent = Dial::default().path(&path).open(stage.first.public());
    agent.welcome();
    mended(stage, "nothing", [&mut ann, &mut bob]);
    let each = ["presence:known-1", "roster:known-1", "presence:$agents"];
    for lost in each {
        let [key] = &keys(redis, &format!("rc:*:{lost}"))[..] else { panic!("no {lost}") };
        assert_eq!(redis.command(&["DEL", key]).unwrap().text(), "1");
        mended(stage, lost, [&mut ann, &mut bob]);
    }
    // The lease goes along with all the rest: the next beat shows it.
    redis.command(&["FLUSHALL"]).unwrap();
    mended(stage, "everything", [&mut ann, &mut bob]);
    drop(agent);
}

/// How long after a failover rosters may be wrong.
const RIGHT_AGAIN: Duration = Duration::from_secs(10);

#[test]
fn a_cluster_that_fails_over_with_a_lost_tail_knows_again_who_is_there() {
    let mut cluster = Cluster::start(3).unwrap();
    let servers: Vec<_> =
        cluster.ports().iter().map(|port| format!("\"127.0.0.1:{port}\"")).collect();
    let servers = servers.join(", ");
    let redis = format!(
        "[broker]\nkind = \"redis\"\n[redis]\ntopology = \"cluster\"\nservers = [{servers}]\n"
    );
    let nodes = crate::stage::two_nodes(&redis);
    let rooms: Vec<_> = (0..8).map(|number| format!("known-{number}")).collect();
    let [mut ann, mut bob, mut cid, mut dan] = ["ann", "bob", "cid", "dan"].map(|user| {
        let node = usize::from(user != "ann" && user != "dan");
        dial(&nodes[node], user, "").0
    });
    for room in &rooms {
        [&mut ann, &mut bob, &mut cid].into_iter().for_each(|ws| drop(join(ws, room)));
    }
    // Not known while its feed is down, or its servers are.
    let there = |live: &Live, users: &[&str]| {
        let users = json!(users);
        rooms.iter().all(|room| {
            let (status, body) = live.get(&format!("/api/v1/rooms/{room}/presence"));
            let found = || serde_json::from_str::<Value>(&body).unwrap();
            status == 200 && found()["users"] == users
        })
    };
    soon("all are entered", || nodes.iter().all(|live| there(live, &["ann", "bob", "cid"])));
    let owner = |cluster: &Cluster, room: &str| {
        let pattern = format!("rc:*:presence:{room}");
        let found = |master: &Redis| !keys(master, &pattern).is_empty();
        cluster.nodes().iter().position(found).unwrap()
    };
    let failing = owner(&cluster, "known-1");
    cluster.replicate(failing).unwrap();
    cluster.hold_back(failing).unwrap();
    for room in &rooms {
        bob.tell(&json!({ "type": "unsubscribe", "data": { "room": room } }));
        join(&mut dan, room);
    }
    soon("one left and one came", || nodes.iter().all(|live| there(live, &["ann", "cid", "dan"])));
    cluster.fail_over(failing).unwrap();
    let began = Instant::now();
    while !nodes.iter().all(|live| there(live, &["ann", "cid", "dan"]))
        || told_roster(&mut ann) != json!(["ann", "cid", "dan"])
    {
        let found = nodes[0].get("/api/v1/rooms/known-1/presence");
        assert!(began.elapsed() < RIGHT_AGAIN, "{found:?}, {}", told_roster(&mut ann));
        std::thread::sleep(Duration::from_millis(200));
    }
}
