//! Members that are slower than their rooms: rooms that keep publications wait for them in history, what is lost
//! elsewhere is told, and nobody else notices.

use std::time::{Duration, Instant};

use roomcast_client::{Client, Event, Options};
use roomcast_protocol::limits::LimitName;
use serde_json::{Value, json};

use crate::common::ws::{Dial, Ws};
use crate::common::{Live, all};

/// Payload of one publication. Units: bytes.
const DATA_BYTES: usize = 32 * 1_024;

const MEMBERS: usize = 200;

/// Those of them that do not read.
const SLOW: usize = 20;

/// Bytes of an outbox.
const OUTBOX_BYTES: usize = 256 * 1_024;

const WAITING: &str = "roomcast_outboxes_waiting_bytes";

/// How long the whole may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A node whose rooms `kept-..` keep so many publications.
fn node(size: usize) -> Live {
    let limits = format!(
        "connections_per_ip = 1000\nmessages_per_minute = 1000000\noutbox_bytes = {OUTBOX_BYTES}\n"
    );
    Live::with_file(&format!(
        "[listen]\npublic = \"127.0.0.1:0\"\ninternal = \"127.0.0.1:0\"\n[limits]\n{limits}\
         write_timeout = \"60s\"\n\
         [[rooms]]\nmatch = \"kept-{{id}}\"\njoin = \"true\"\npublish = \"user.kind == 'backend'\"\n\
         history = {{ size = {size}, bytes_max = \"64 MiB\", ttl = \"10m\" }}\n"
    ))
}

/// A member that does not read until it is asked to.
fn sleeper(live: &Live, number: usize, join: &Value) -> Ws {
    let token = live.token(&format!("sleeper-{number}"), "user");
    let mut ws = Dial::with_token(&token).narrow().open(live.public());
    ws.welcome();
    let answer = ws.ask(&json!({ "type": "subscribe", "data": join }));
    assert_eq!(answer["type"], "subscribed", "{answer}");
    ws
}

/// Publishes the next number, and takes its ack.
fn publish(publisher: &mut Ws, number: u64) {
    let data = json!({ "n": number, "x": "x".repeat(DATA_BYTES) });
    let id = format!("p{number}");
    let ack = publisher.ask(&json!({
        "type": "note", "room": "kept-1", "id": id, "data": data, "requiresAck": true,
    }));
    assert_eq!((&ack["type"], &ack["ackId"]), (&json!("ack"), &json!(id)), "{ack}");
}

/// Publishes until outboxes of so many sleepers were full; says how many publications that took.
fn fill(live: &Live, publisher: &mut Ws, sleepers: usize) -> u64 {
    let full = |live: &Live| {
        let label = format!("\"{}\"", LimitName::OutboxBytes.name());
        live.metric_with("roomcast_limits_hit_total", &label) >= Some(sleepers as f64)
    };
    let (started, mut number) = (Instant::now(), 0);
    while number % 10 != 0 || !full(live) {
        number += 1;
        publish(publisher, number);
        assert!(started.elapsed() < PATIENCE, "the kernel takes it all");
    }
    // A lane reports a little later: all that was published by then is in history alone.
    for _ in 0..10 {
        number += 1;
        publish(publisher, number);
    }
    number
}

/// What a client that read hears up to the last number: each once, in order.
async fn hear_all(client: Client, ended: tokio::sync::watch::Receiver<Option<u64>>) {
    let mut heard = 0;
    while *ended.borrow() != Some(heard) {
        match tokio::time::timeout(Duration::from_millis(100), client.next()).await {
            Err(_) => {}
            Ok(Some(Event::Publication(publication))) => {
                heard += 1;
                assert_eq!(publication.data["n"], heard);
            }
            Ok(other) => panic!("after {heard}: {other:?}"),
        }
    }
    client.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_members_of_a_room_with_history_get_everything_and_others_do_not_wait() {
    let live = node(100_000);
    let slow: Vec<Ws> =
        (0..SLOW).map(|it| sleeper(&live, it, &json!({ "room": "kept-1" }))).collect();
    let (ended, end) = tokio::sync::watch::channel(None);
    let mut others = Vec::new();
    for number in SLOW..MEMBERS {
        let token = live.token(&format!("reader-{number}"), "user");
        let client = roomcast_client::connect(Options::new(live.url(), token)).await.unwrap();
        client.join("kept-1").await.unwrap();
        others.push(tokio::spawn(hear_all(client, end.clone())));
    }
    let mut publisher = live.backend();
    let count = tokio::task::block_in_place(|| fill(&live, &mut publisher, SLOW));
    // While the slow ones sleep, the others hear all of it, and what waits is bounded.
    ended.send_replace(Some(count));
    tokio::time::timeout(PATIENCE, all(others)).await.expect("the others wait for the slow ones");
    let waiting = live.metric(WAITING).unwrap();
    let bound = (SLOW * (OUTBOX_BYTES + DATA_BYTES)) as f64;
    assert!(waiting > 0.0 && waiting <= bound, "{waiting} bytes wait, at most {bound}");
    // They read again: everything comes, in order, and then they are live.
    let read = move |mut ws: Ws| {
        (1..=count).for_each(|number| assert_eq!(ws.json()["data"]["n"], number));
        ws
    };
    let readers = slow.into_iter().map(|ws| tokio::task::spawn_blocking(move || read(ws)));
    let mut slow = all(readers.collect()).await;
    tokio::task::block_in_place(|| {
        publish(&mut publisher, count + 1);
        slow.iter_mut().for_each(|ws| assert_eq!(ws.json()["data"]["n"], count + 1));
        live.expect_closes(roomcast_protocol::codes::Close::Slow, 0);
        slow.into_iter().for_each(Ws::close);
        publisher.close();
        live.assert_empty();
    });
}

#[test]
fn a_slow_member_is_told_of_what_history_no_longer_has_and_of_nothing_else() {
    let live = node(8);
    let mut asleep = sleeper(&live, 0, &json!({ "room": "kept-1" }));
    let mut publisher = live.backend();
    let count = fill(&live, &mut publisher, 1);
    // While the publisher goes on, the socket takes some, and history moves: there may be more holes than one.
    let (mut next, mut gap) = (1, 0);
    while next <= count {
        let message = asleep.json();
        if message["type"] == "gap" {
            let offset = message["metadata"]["offset"].as_u64().unwrap();
            assert!(offset >= next, "{message}");
            (next, gap) = (offset + 1, offset);
        } else {
            assert_eq!(message["data"]["n"], next, "{}", message["type"]);
            next += 1;
        }
    }
    let kept = count - 8;
    assert!(gap > 0 && gap <= kept, "a hole up to {gap}, and history begins behind {kept}");
    publish(&mut publisher, count + 1);
    assert_eq!(asleep.json()["data"]["n"], count + 1);
}

#[test]
fn who_comes_back_for_more_than_its_outbox_holds_gets_it_as_it_reads() {
    let live = node(100_000);
    let mut first = live.user("first");
    let joined = first.ask(&json!({ "type": "subscribe", "data": { "room": "kept-1" } }));
    let epoch = joined["metadata"]["epoch"].as_str().unwrap().to_owned();
    let mut publisher = live.backend();
    let count = 25 * (OUTBOX_BYTES / DATA_BYTES) as u64;
    (1..=count).for_each(|number| publish(&mut publisher, number));
    let since = json!({ "epoch": epoch, "offset": 0 });
    let mut back = sleeper(&live, 0, &json!({ "room": "kept-1", "since": since }));
    std::thread::sleep(Duration::from_millis(500));
    (1..=count).for_each(|number| assert_eq!(back.json()["data"]["n"], number));
    live.expect_closes(roomcast_protocol::codes::Close::Slow, 0);
}

#[test]
fn low_ones_go_first_where_nothing_is_kept_and_their_loss_is_told_once() {
    let live = node(8);
    let mut asleep = sleeper(&live, 0, &json!({ "room": "demo-slow" }));
    let mut publisher = live.backend();
    let label = format!("\"{}\"", LimitName::OutboxBytes.name());
    let started = Instant::now();
    let mut count = 0_u64;
    let mut send = |publisher: &mut Ws, priority: &str| {
        count += 1;
        let data = json!({ "n": count, "x": "x".repeat(DATA_BYTES) });
        let metadata = json!({ "priority": priority });
        publisher.tell(&json!({
            "type": "note", "room": "demo-slow", "data": data, "metadata": metadata,
        }));
        crate::scene::expect_pong(publisher);
        count
    };
    while live.metric_with("roomcast_limits_hit_total", &label) == Some(0.0) {
        for _ in 0..8 {
            send(&mut publisher, "low");
        }
        assert!(started.elapsed() < PATIENCE, "the kernel takes it all");
    }
    let last = send(&mut publisher, "high");
    let (mut heard, mut gaps) = (Vec::new(), 0);
    while !heard.contains(&last) || gaps == 0 {
        let message = asleep.json();
        if message["type"] == "gap" {
            assert_eq!(message["data"]["reason"], "overload", "{message}");
            gaps += 1;
        } else {
            heard.push(message["data"]["n"].as_u64().unwrap());
        }
    }
    let low = send(&mut publisher, "low");
    loop {
        let message = asleep.json();
        assert_eq!(message["type"], "note", "told twice: {message}");
        if message["data"]["n"] == low {
            break;
        }
    }
    assert!(heard.len() < usize::try_from(last).unwrap(), "nothing was let go");
    live.expect_closes(roomcast_protocol::codes::Close::Slow, 0);
}
