//! The audience test: a thousand clients join and leave two hundred rooms while a hundred thousand publications pass.
//! Each member hears each publication of its rooms exactly once and in order; afterwards every table is empty and
//! every gauge is 0 (G1, G3, G11, G20; INV-3, INV-10, INV-11).
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "helpers of tests fail as tests do, and their figures are small"
)]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use common::{Live, all};
use roomcast_client::{Client, Event, Format, Options, PublishOptions};
use serde_json::json;
use tokio::sync::watch;
use tokio::task::{JoinHandle, unconstrained};

const CLIENTS: usize = 1_000;
const ROOMS: usize = 200;
const PUBLISHERS: usize = 4;
const PUBLICATIONS: u64 = 100_000;
const STAYS: usize = 6;

/// Publications of one publisher between two that it waits for.
const UNACKED: u64 = 64;

/// How long the publisher rests behind each, so that publications pass as long as clients come and go.
const REST: Duration = Duration::from_millis(20);

/// How long one answer, or the end of a room, may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// How many publications were begun in each room so far.
type Sent = Arc<Vec<AtomicU64>>;

fn room_name(index: usize) -> String {
    format!("demo-{index}")
}

/// A small generator, so that each run joins the same rooms in the same order.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % bound
    }
}

async fn connect(live: &Live, sub: &str, kind: &str, format: Format) -> Client {
    let mut options = Options::new(live.url(), live.token(sub, kind));
    options.connect_timeout = PATIENCE;
    options.request_timeout = PATIENCE;
    options.format = format;
    roomcast_client::connect(options).await.unwrap()
}

/// What waits in the client's queue, if anything does.
async fn waiting(client: &Client) -> Option<Event> {
    let event = tokio::time::timeout(Duration::ZERO, unconstrained(client.next())).await;
    event.ok().map(|event| event.expect("the connection ended"))
}

/// One client and what it heard since it joined its room.
struct Member {
    client: Client,
    room: String,
    first: Option<u64>,
    last: Option<u64>,
    heard: u64,
}

impl Member {
    /// The next number of the room it is in: no repeat, no hole, and nothing of a room it is not in.
    fn take(&mut self, event: Event) {
        let Event::Publication(publication) = event else { panic!("unexpected: {event:?}") };
        assert_eq!(publication.room, self.room, "heard in a room it is not in");
        let number = publication.data["n"].as_u64().unwrap();
        if let Some(last) = self.last {
            assert_eq!(number, last + 1, "in {}", self.room);
        }
        self.first.get_or_insert(number);
        self.last = Some(number);
        self.heard += 1;
    }

    /// Hears while something else goes on. Not cut off in between, so nothing is lost.
    async fn hear_during<T>(&mut self, other: impl Future<Output = T>) -> T {
        let mut other = Box::pin(other);
        let client = self.client.clone();
        loop {
            tokio::select! {
                biased;
                result = &mut other => return result,
                event = client.next() => self.take(event.expect("the connection ended")),
            }
        }
    }

    async fn join(&mut self, index: usize, sent: &Sent) -> u64 {
        (self.room, self.first, self.last) = (room_name(index), None, None);
        let (client, room) = (self.client.clone(), self.room.clone());
        self.hear_during(async { client.join(&room).await.unwrap() }).await;
        sent[index].load(Ordering::SeqCst)
    }

    async fn leave(&mut self) {
        let (client, room) = (self.client.clone(), self.room.clone());
        self.hear_during(async { client.leave(&room).await.unwrap() }).await;
        // The answer came behind the room's last push, which is in the client's queue by now.
        while let Some(event) = waiting(&client).await {
            self.take(event);
        }
        self.room.clear();
    }

    /// Joins and leaves rooms, then stays in one until its last publication, whose number is told.
    async fn live(
        mut self,
        sent: Sent,
        seed: u64,
        settled: Arc<AtomicUsize>,
        mut end: watch::Receiver<bool>,
    ) -> u64 {
        let mut random = Random(seed);
        for _ in 0..STAYS {
            let index = random.below(ROOMS);
            let begun = self.join(index, &sent).await;
            let stay = Duration::from_millis(100 + random.below(1_500) as u64);
            self.hear_during(tokio::time::sleep(stay)).await;
            self.leave().await;
            if let Some(first) = self.first {
                assert!(first <= begun + 1, "{first} is the first heard, {begun} were begun");
            }
        }
        let index = random.below(ROOMS);
        self.join(index, &sent).await;
        settled.fetch_add(1, Ordering::SeqCst);
        self.hear_during(async { end.wait_for(|ended| *ended).await.map(|_| ()).unwrap() }).await;
        let last = sent[index].load(Ordering::SeqCst);
        let client = self.client.clone();
        while self.last != Some(last) {
            let event = tokio::time::timeout(PATIENCE, client.next()).await;
            self.take(event.expect("the room's end is not heard").expect("the connection ended"));
        }
        client.close().await;
        self.heard
    }
}

/// Publishes into every fourth room, in order.
async fn publisher(client: Client, sent: Sent, which: usize) -> Client {
    let mut random = Random(which as u64 + 77);
    let mine: Vec<usize> = (0..ROOMS).filter(|room| room % PUBLISHERS == which).collect();
    for count in 1..=PUBLICATIONS / PUBLISHERS as u64 {
        let acked = count % UNACKED == 0;
        publish(&client, &sent, mine[random.below(mine.len())], acked).await;
        if acked {
            tokio::time::sleep(REST).await;
        }
    }
    client
}

async fn publish(client: &Client, sent: &Sent, index: usize, acked: bool) {
    let number = sent[index].fetch_add(1, Ordering::SeqCst) + 1;
    let options = if acked { PublishOptions::acked() } else { PublishOptions::default() };
    let data = json!({ "n": number });
    client.publish(&room_name(index), "numbered", &data, &options).await.unwrap();
}

#[tokio::test]
async fn every_member_hears_each_publication_once_and_in_order_and_nothing_is_left_behind() {
    let live = Live::start(&[
        ("limits.connections_per_ip", "5000"),
        ("limits.messages_per_minute", "1000000"),
    ]);
    let sent: Sent = Arc::new((0..ROOMS).map(|_| AtomicU64::new(0)).collect());
    let (ended, end) = watch::channel(false);
    let settled = Arc::new(AtomicUsize::new(0));
    let mut members = Vec::new();
    for index in 0..CLIENTS {
        let format = if index % 5 == 0 { Format::MessagePack } else { Format::Json };
        let client = connect(&live, &format!("u{index}"), "user", format).await;
        members.push(Member { client, room: String::new(), first: None, last: None, heard: 0 });
    }
    let mut publishers = Vec::new();
    for which in 0..PUBLISHERS {
        let client = connect(&live, &format!("p{which}"), "backend", Format::Json).await;
        publishers.push(tokio::spawn(publisher(client, Arc::clone(&sent), which)));
    }
    let begin = |(index, member): (usize, Member)| {
        let (sent, settled) = (Arc::clone(&sent), Arc::clone(&settled));
        tokio::spawn(member.live(sent, index as u64, settled, end.clone()))
    };
    let members: Vec<_> = members.into_iter().enumerate().map(begin).collect();
    let publishers = all(publishers).await;
    let settled = async || {
        let failed = members.iter().any(JoinHandle::is_finished);
        failed || settled.load(Ordering::SeqCst) == CLIENTS
    };
    common::until("all have come to their last rooms", PATIENCE, settled).await;
    // Now every room gets one more, and whoever stayed must hear its room up to that one.
    for index in 0..ROOMS {
        publish(&publishers[index % PUBLISHERS], &sent, index, true).await;
    }
    ended.send_replace(true);
    let heard: u64 = all(members).await.iter().sum();
    let total: u64 = sent.iter().map(|sent| sent.load(Ordering::SeqCst)).sum();
    assert_eq!(total, PUBLICATIONS + ROOMS as u64);
    assert!(heard > total, "{heard} were heard of {total}");
    for publisher in publishers {
        assert_eq!(waiting(&publisher).await, None, "a publisher was refused something");
        publisher.close().await;
    }
    live.assert_empty();
    live.assert_forgotten();
}
