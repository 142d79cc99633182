//! The audience test: a thousand clients join and leave two hundred rooms while a hundred thousand publications pass.
//! Each member hears each publication of its rooms exactly once and in order; afterwards every table is empty and
//! every gauge is 0 (G1, G3, G11, G20; INV-3, INV-10, INV-11).

mod common;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use common::{Live, until};
use roomcast_client::{Client, Event, Format, Options, PublishOptions};
use serde_json::json;
use tokio::sync::Mutex;

const CLIENTS: usize = 1_000;
const ROOMS: usize = 200;
const PUBLISHERS: usize = 4;
const PUBLICATIONS: u64 = 100_000;
const STAYS: usize = 6;

/// How many publications were sent in each room so far.
type Sent = Arc<Vec<AtomicU64>>;

/// The numbers one client heard in each room, in its current stay there.
type Heard = Arc<Mutex<HashMap<String, Vec<u64>>>>;

fn room_name(index: usize) -> String {
    format!("demo-{index}")
}

/// A small generator, so that each run joins the same rooms in the same order.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % bound
    }
}

async fn connect(live: &Live, sub: &str, kind: &str, format: Format) -> Client {
    let mut options = Options::new(live.url(), live.token(sub, kind));
    options.request_timeout = Duration::from_secs(60);
    options.format = format;
    roomcast_client::connect(options).await.unwrap()
}

/// Takes all that a client hears; within a stay numbers must come without repeat or hole.
async fn listen(client: Client, heard: Heard) {
    while let Some(event) = client.next().await {
        match event {
            Event::Publication(publication) => {
                let number = publication.data["n"].as_u64().unwrap();
                let mut heard = heard.lock().await;
                let numbers = heard.entry(publication.room.clone()).or_default();
                if let Some(last) = numbers.last() {
                    assert_eq!(number, last + 1, "in {}", publication.room);
                }
                numbers.push(number);
            }
            Event::Closed(_) => return,
            other => panic!("unexpected: {other:?}"),
        }
    }
}

/// One client: joins and leaves rooms, then stays in one. Answers with that one.
async fn member(client: Client, heard: Heard, sent: Sent, seed: u64) -> usize {
    let mut random = Random(seed);
    for _ in 0..STAYS {
        let index = random.below(ROOMS);
        let room = room_name(index);
        client.join(&room).await.unwrap();
        let sent_at_join = sent[index].load(Ordering::SeqCst);
        tokio::time::sleep(Duration::from_millis(100 + random.below(1_500) as u64)).await;
        client.leave(&room).await.unwrap();
        // The leave's answer came behind all pushes, but the listener may still be taking them.
        tokio::time::sleep(Duration::from_millis(200)).await;
        let numbers = heard.lock().await.remove(&room).unwrap_or_default();
        if let Some(first) = numbers.first() {
            assert!(*first <= sent_at_join + 1, "{first} is the first, {sent_at_join} were sent");
        }
    }
    let index = random.below(ROOMS);
    client.join(&room_name(index)).await.unwrap();
    index
}

/// Publishes into every fourth room, in order.
async fn publisher(client: Client, sent: Sent, which: usize) {
    let mut random = Random(which as u64 + 77);
    let mine: Vec<usize> = (0..ROOMS).filter(|room| room % PUBLISHERS == which).collect();
    for count in 1..=PUBLICATIONS / PUBLISHERS as u64 {
        let index = mine[random.below(mine.len())];
        let number = sent[index].fetch_add(1, Ordering::SeqCst) + 1;
        let options =
            if count % 64 == 0 { PublishOptions::acked() } else { PublishOptions::default() };
        let data = json!({ "n": number });
        client.publish(&room_name(index), "numbered", &data, &options).await.unwrap();
        if count % 64 == 0 {
            tokio::time::sleep(Duration::from_millis(15)).await;
        }
    }
}

#[tokio::test]
async fn every_member_hears_each_publication_once_and_in_order_and_nothing_is_left_behind() {
    let live = Live::start(&[
        ("limits.connections_per_ip", "5000"),
        ("limits.connections_per_user", "5000"),
        ("limits.messages_per_minute", "1000000"),
    ]);
    let sent: Sent = Arc::new((0..ROOMS).map(|_| AtomicU64::new(0)).collect());
    let mut clients = Vec::new();
    for index in 0..CLIENTS {
        let format = if index % 5 == 0 { Format::MessagePack } else { Format::Json };
        let client = connect(&live, &format!("u{index}"), "user", format).await;
        let heard: Heard = Arc::default();
        let listening = tokio::spawn(listen(client.clone(), Arc::clone(&heard)));
        clients.push((client, heard, listening));
    }
    let join_and_leave = |(index, (client, heard, _)): (usize, &(Client, Heard, _))| {
        tokio::spawn(member(client.clone(), Arc::clone(heard), Arc::clone(&sent), index as u64))
    };
    let members: Vec<_> = clients.iter().enumerate().map(join_and_leave).collect();
    let mut publishers = Vec::new();
    for which in 0..PUBLISHERS {
        let client = connect(&live, &format!("p{which}"), "backend", Format::Json).await;
        let task = tokio::spawn(publisher(client.clone(), Arc::clone(&sent), which));
        publishers.push((client, task));
    }
    let mut last_rooms = Vec::new();
    for task in members {
        last_rooms.push(task.await.unwrap());
    }
    for (_, task) in &mut publishers {
        task.await.unwrap();
    }
    // Whoever stayed hears the end of its room: one more publication, made after everybody had joined.
    let mut ends = HashMap::new();
    for index in &last_rooms {
        if !ends.contains_key(index) {
            let number = sent[*index].fetch_add(1, Ordering::SeqCst) + 1;
            let (speaker, data) = (&publishers[index % PUBLISHERS].0, json!({ "n": number }));
            let options = PublishOptions::acked();
            speaker.publish(&room_name(*index), "numbered", &data, &options).await.unwrap();
            ends.insert(*index, number);
        }
    }
    for ((_, heard, listening), index) in clients.iter().zip(&last_rooms) {
        let name = room_name(*index);
        until("the room's end is heard", Duration::from_secs(60), async || {
            assert!(!listening.is_finished(), "a number was repeated or missing");
            let heard = heard.lock().await;
            heard.get(&name).and_then(|numbers| numbers.last()) == Some(&ends[index])
        })
        .await;
    }
    let total: u64 = sent.iter().map(|sent| sent.load(Ordering::SeqCst)).sum();
    assert!(total > PUBLICATIONS, "{total} were published");
    for (client, _, listening) in clients {
        assert!(!listening.is_finished(), "a number was repeated or missing");
        client.close().await;
    }
    for (client, _) in publishers {
        client.close().await;
    }
    live.assert_empty().await;
}
