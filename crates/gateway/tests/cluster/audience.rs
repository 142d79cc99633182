//! In each relay mode, 300 clients on 3 nodes in 50 rooms, 100,000 publications: every member hears each publication
//! of its rooms exactly once, and all members of a room in one order (G1, G3; INV-11).

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;

use roomcast_client::{Client, Event, Format, PublishOptions};
use serde_json::json;
use tokio::time::timeout;
use xtask::servers::{Cluster, Redis};

use super::common::{Live, all};
use super::{PATIENCE, connect, node, ready};

const NODES: usize = 3;
const CLIENTS: usize = 300;
const ROOMS: usize = 50;
const PUBLISHERS: usize = 5;
const PUBLICATIONS: u64 = 100_000;

/// Publications of one publisher in one room.
const EACH: u64 = PUBLICATIONS / (PUBLISHERS * ROOMS) as u64;

/// Publications of one publisher between two that it waits for.
const UNACKED: u64 = 64;

/// What one member heard in one room: how many, and all of it in order as a hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Heard {
    count: u64,
    order: u64,
}

/// Hears until each of its rooms is complete.
async fn member(client: Client, rooms: Vec<String>) -> HashMap<String, Heard> {
    let mut lasts: HashMap<(String, u64), u64> = HashMap::new();
    let mut hashers: HashMap<String, DefaultHasher> = HashMap::new();
    let whole = EACH * PUBLISHERS as u64;
    let mut left = whole * rooms.len() as u64;
    while left > 0 {
        let event = timeout(PATIENCE, client.next()).await.expect("publications are missing");
        let event = event.expect("the connection ended");
        let Event::Publication(publication) = event else { panic!("unexpected: {event:?}") };
        assert!(rooms.contains(&publication.room), "heard in a room it is not in");
        let number = |key: &str| publication.data[key].as_u64().unwrap();
        let (by, count) = (number("by"), number("n"));
        let last = lasts.insert((publication.room.clone(), by), count).unwrap_or(0);
        assert_eq!(count, last + 1, "of publisher {by} in {}", publication.room);
        (by, count).hash(hashers.entry(publication.room.clone()).or_default());
        left -= 1;
    }
    client.close().await;
    let heard = |(room, hasher): (String, DefaultHasher)| {
        (room, Heard { count: whole, order: hasher.finish() })
    };
    hashers.into_iter().map(heard).collect()
}

async fn publisher(client: Client, which: usize) {
    let mut sent = 0;
    for count in 1..=EACH {
        for room in 0..ROOMS {
            sent += 1;
            let acked = sent % UNACKED == 0 || (count == EACH && room + 1 == ROOMS);
            let options = if acked { PublishOptions::acked() } else { PublishOptions::default() };
            let data = json!({ "by": which, "n": count });
            client.publish(&name(room), "numbered", &data, &options).await.unwrap();
        }
    }
    client.close().await;
}

fn name(room: usize) -> String {
    format!("demo-{room}")
}

async fn one_audience(nodes: Vec<Live>) {
    for live in &nodes {
        ready(live).await;
    }
    let mut members = Vec::new();
    for index in 0..CLIENTS {
        let live = &nodes[index % NODES];
        let format = if index % 5 == 0 { Format::MessagePack } else { Format::Json };
        let client = connect(live, &format!("u{index}"), "user", format).await;
        // A fifth of the clients are in two rooms.
        let mut rooms = vec![name(index % ROOMS)];
        if index % 5 == 1 {
            rooms.push(name((index + 7) % ROOMS));
        }
        for room in &rooms {
            client.join(room).await.unwrap();
        }
        members.push((client, rooms));
    }
    let begin = |(client, rooms)| tokio::spawn(member(client, rooms));
    let members: Vec<_> = members.into_iter().map(begin).collect();
    let mut publishers = Vec::new();
    for which in 0..PUBLISHERS {
        let client =
            connect(&nodes[which % NODES], &format!("p{which}"), "backend", Format::Json).await;
        publishers.push(tokio::spawn(publisher(client, which)));
    }
    all(publishers).await;
    let mut rooms: HashMap<String, Heard> = HashMap::new();
    let mut places = 0;
    for (room, heard) in all(members).await.into_iter().flatten() {
        places += 1;
        let first = *rooms.entry(room.clone()).or_insert(heard);
        assert_eq!(first, heard, "all members of {room} hear the same in the same order");
    }
    assert_eq!((rooms.len(), places), (ROOMS, CLIENTS + CLIENTS / 5));
    for live in &nodes {
        live.assert_empty();
    }
}

async fn on_one_server(mode: &str) {
    let redis = Redis::start(&[]).unwrap();
    let nodes = (0..NODES).map(|_| node(redis.port(), &[("relay.mode", mode)])).collect();
    one_audience(nodes).await;
}

#[tokio::test]
async fn in_pattern_mode_every_member_hears_each_publication_once_in_one_order() {
    on_one_server("pattern").await;
}

#[tokio::test]
async fn in_exact_mode_every_member_hears_each_publication_once_in_one_order() {
    on_one_server("exact").await;
}

#[tokio::test]
async fn in_sharded_mode_on_a_cluster_every_member_hears_each_publication_once_in_one_order() {
    let redis = Arc::new(Cluster::start(3).unwrap());
    let servers: Vec<_> = redis.ports().iter().map(|port| format!("127.0.0.1:{port}")).collect();
    let servers = servers.join(",");
    let more = [
        ("relay.mode", "sharded"),
        ("redis.topology", "cluster"),
        ("redis.servers", servers.as_str()),
    ];
    one_audience((0..NODES).map(|_| node(0, &more)).collect()).await;
}
