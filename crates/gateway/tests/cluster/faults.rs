//! The broker's faults as clients see them: nobody is disconnected, silence ends within 3 s of the cut or of the
//! return, and the first accepted publication after it reaches every member on every node (G9, G10).

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use roomcast_client::{Client, Event, Format, PublishOptions};
use serde_json::json;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};
use xtask::servers::{Proxy, Redis};

use super::common::{self, Live};
use super::{PATIENCE, connect, node, ready};

const NODES: usize = 3;
const MEMBERS: usize = 30;
const ROOM: &str = "demo";

/// How long silence may last.
pub(super) const SILENCE: Duration = Duration::from_secs(3);

/// Slack for a busy machine, on top of what is promised: tests are not timed, but a fault that is never noticed, or
/// noticed by a mechanism that is slower, must not pass.
pub(super) const SLACK: Duration = Duration::from_secs(2);

/// What the members hear, each by its number.
pub(super) struct Scene {
    nodes: Vec<Live>,
    publisher: Client,
    heard: mpsc::UnboundedReceiver<(usize, Event)>,
    stopping: Arc<AtomicBool>,
    published: u64,
}

impl Scene {
    pub(super) async fn set(nodes: Vec<Live>) -> Self {
        for live in &nodes {
            ready(live).await;
            // Who is not known yet, nobody can wait for.
            let peers = format!("\"known\":{}", NODES - 1);
            let knows = async || live.get("/readyz").1.contains(&peers);
            common::until("the nodes know each other", PATIENCE, knows).await;
        }
        let (sender, heard) = mpsc::unbounded_channel();
        let stopping = Arc::new(AtomicBool::new(false));
        for member in 0..MEMBERS {
            let client =
                connect(&nodes[member % NODES], &format!("u{member}"), "user", Format::Json).await;
            client.join(ROOM).await.unwrap();
            let (sender, stopping) = (sender.clone(), Arc::clone(&stopping));
            tokio::spawn(async move {
                while let Some(event) = client.next().await {
                    if stopping.load(Ordering::SeqCst) || sender.send((member, event)).is_err() {
                        return;
                    }
                }
            });
        }
        let publisher = connect(&nodes[0], "publisher", "backend", Format::Json).await;
        let mut scene = Self { nodes, publisher, heard, stopping, published: 0 };
        let began = Instant::now();
        scene.accepted_and_heard_by_all(began, PATIENCE).await;
        scene
    }

    /// Publishes until one is accepted whole, which every member must hear; all within `limit` of `since`.
    pub(super) async fn accepted_and_heard_by_all(
        &mut self,
        since: Instant,
        limit: Duration,
    ) -> Duration {
        let number = loop {
            self.published += 1;
            let number = self.published;
            let data = json!({ "n": number });
            let answer =
                self.publisher.publish(ROOM, "probe", &data, &PublishOptions::acked()).await;
            match answer.map(|published| published.ack.unwrap()) {
                Ok(ack) if ack.level == "accepted" && !ack.is_partial() => break number,
                Ok(_) | Err(_) => sleep(Duration::from_millis(50)).await,
            }
            assert!(since.elapsed() < limit, "nothing is accepted {:?} later", since.elapsed());
        };
        let mut missing: BTreeSet<usize> = (0..MEMBERS).collect();
        while !missing.is_empty() {
            let left = limit.saturating_sub(since.elapsed());
            let (member, event) = timeout(left, self.heard.recv())
                .await
                .unwrap_or_else(|_| panic!("accepted and not heard by {missing:?}"))
                .unwrap();
            match event {
                Event::Publication(heard) if heard.data["n"] == number => {
                    assert!(!heard.isolated, "it was accepted by the broker");
                    assert!(missing.remove(&member), "{member} heard it twice");
                }
                Event::Publication(_) | Event::Degraded { .. } | Event::Gap { .. } => {}
                other => panic!("{member} is told {other:?}"),
            }
        }
        since.elapsed()
    }

    /// Publishes all the time, whatever becomes of it.
    pub(super) fn load(&self) -> tokio::task::JoinHandle<()> {
        let publisher = self.publisher.clone();
        tokio::spawn(async move {
            for count in 0_u64.. {
                let data = json!({ "load": count });
                let options = PublishOptions::default();
                drop(publisher.publish(ROOM, "load", &data, &options).await);
                sleep(Duration::from_millis(5)).await;
            }
        })
    }

    /// What the members are told until nothing more comes for a while.
    async fn told(&mut self, quiet: Duration) -> Vec<(usize, Event)> {
        let mut told = Vec::new();
        while let Ok(Some(event)) = timeout(quiet, self.heard.recv()).await {
            told.push(event);
        }
        told
    }

    pub(super) fn end(self) {
        self.stopping.store(true, Ordering::SeqCst);
        for live in &self.nodes {
            let open = || live.metric("roomcast_sessions_open").unwrap() as usize;
            let until = Instant::now() + SLACK;
            // Figures are gathered now and then; a member that was disconnected would have been told so.
            while open() != self.on(live) && Instant::now() < until {
                std::thread::sleep(Duration::from_millis(50));
            }
            assert_eq!(open(), self.on(live));
        }
    }

    /// How many sessions a node must still have: nobody was disconnected.
    fn on(&self, live: &Live) -> usize {
        let first = std::ptr::eq(live, &self.nodes[0]);
        MEMBERS / NODES + usize::from(first)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn ten_seconds_of_a_frozen_redis_cost_no_connection_and_end_within_three() {
    let mut redis = Redis::start(&[]).unwrap();
    let nodes = (0..NODES).map(|_| node(redis.port(), &[])).collect();
    let mut scene = Scene::set(nodes).await;
    redis.freeze().unwrap();
    let frozen = Instant::now();
    // Two seconds later each node is on its own, and says so.
    let mut degraded = BTreeSet::new();
    while degraded.len() < MEMBERS {
        let (member, event) = timeout(PATIENCE, scene.heard.recv()).await.unwrap().unwrap();
        if event == (Event::Degraded { isolated: true }) {
            degraded.insert(member);
        }
    }
    assert!(frozen.elapsed() < Duration::from_secs(4) + SLACK, "{:?}", frozen.elapsed());
    // Its own members hear each other meanwhile, marked.
    let data = json!({ "n": 0 });
    let isolated = scene.publisher.publish(ROOM, "alone", &data, &PublishOptions::acked()).await;
    assert!(isolated.unwrap().ack.unwrap().is_isolated());
    let told = scene.told(Duration::from_millis(500)).await;
    let heard = told.iter().filter(|(member, event)| {
        matches!(event, Event::Publication(heard) if heard.isolated) && member % NODES == 0
    });
    assert_eq!(heard.count(), MEMBERS / NODES, "{told:?}");
    assert_eq!(told.len(), MEMBERS / NODES, "and nobody else hears it: {told:?}");
    sleep(Duration::from_secs(10).saturating_sub(frozen.elapsed())).await;
    redis.thaw().unwrap();
    scene.accepted_and_heard_by_all(Instant::now(), SILENCE + SLACK).await;
    assert!(scene.nodes.iter().all(|live| live.get("/readyz").0 == 200));
    scene.end();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_redis_killed_and_started_empty_costs_no_connection_and_ends_within_three() {
    let mut redis = Redis::start(&[]).unwrap();
    let nodes = (0..NODES).map(|_| node(redis.port(), &[])).collect();
    let mut scene = Scene::set(nodes).await;
    redis.kill().unwrap();
    sleep(Duration::from_secs(4)).await;
    for live in &scene.nodes {
        assert_eq!(live.get("/readyz").0, 200, "an outage never turns a node unready");
    }
    redis.restart().unwrap();
    scene.accepted_and_heard_by_all(Instant::now(), SILENCE + SLACK).await;
    // A feed that was lost is told to members of rooms without history, once each.
    let told = scene.told(Duration::from_millis(500)).await;
    assert!(told.iter().all(|(_, event)| !matches!(event, Event::Closed(_))), "{told:?}");
    scene.end();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_restart_too_short_to_notice_is_told_as_a_gap_and_costs_nothing_else() {
    let mut redis = Redis::start(&[]).unwrap();
    let nodes = (0..NODES).map(|_| node(redis.port(), &[])).collect();
    let mut scene = Scene::set(nodes).await;
    redis.kill().unwrap();
    redis.restart().unwrap();
    let back = Instant::now();
    let mut gaps = BTreeSet::new();
    while gaps.len() < MEMBERS {
        let (member, event) = timeout(PATIENCE, scene.heard.recv()).await.unwrap().unwrap();
        match event {
            Event::Gap { room: None, reason, .. } => {
                assert_eq!(reason, "feed");
                assert!(gaps.insert(member), "{member} is told twice");
            }
            // Its own room keeps publications, and has lost them.
            Event::Gap { room: Some(_), reason, .. } => assert_eq!(reason, "epoch"),
            _ => {}
        }
    }
    scene.accepted_and_heard_by_all(back, SILENCE + SLACK).await;
    scene.end();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_half_open_connection_for_commands_is_replaced() {
    let redis = Redis::start(&[]).unwrap();
    let proxy = Proxy::start(redis.port()).unwrap();
    let ports = [proxy.port(), redis.port(), redis.port()];
    let mut scene = Scene::set(ports.map(|port| node(port, &[])).into()).await;
    // The first node's, which loads the functions over it; its feed stays.
    assert_eq!(proxy.half_open("FUNCTION"), 1, "the connection for commands");
    let since = Instant::now();
    // Noticed after 3 s, replaced at once; and each try to publish takes what is left of its second.
    scene.accepted_and_heard_by_all(since, Duration::from_secs(3) + SILENCE + SLACK).await;
    assert!(scene.nodes[0].metric("roomcast_relay_commands_connected_total").unwrap() >= 2.0);
    assert!(scene.nodes[0].metric("roomcast_relay_links_lost_total").unwrap() < 1.0);
    scene.end();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_half_open_feed_is_found_by_its_silence_and_replaced() {
    let redis = Redis::start(&[]).unwrap();
    let proxy = Proxy::start(redis.port()).unwrap();
    let ports = [redis.port(), proxy.port(), redis.port()];
    let mut scene = Scene::set(ports.map(|port| node(port, &[])).into()).await;
    assert_eq!(proxy.half_open("PSUBSCRIBE"), 1, "the feed of one node");
    let cut = Instant::now();
    // Accepted by the first node all the while; it counts once the members of the second hear again.
    let mut current = BTreeSet::new();
    while current.len() < MEMBERS / NODES {
        assert!(cut.elapsed() < SILENCE + SLACK, "still deaf: {current:?}");
        scene.published += 1;
        let data = json!({ "n": scene.published });
        scene.publisher.publish(ROOM, "probe", &data, &PublishOptions::default()).await.unwrap();
        sleep(Duration::from_millis(50)).await;
        while let Ok((member, event)) = scene.heard.try_recv() {
            match event {
                Event::Publication(heard) if member % NODES == 1 => {
                    assert!(!heard.isolated);
                    current.insert(member);
                }
                Event::Publication(_) | Event::Gap { .. } => {}
                other => panic!("{member} is told {other:?}"),
            }
        }
    }
    assert!(scene.nodes[1].metric("roomcast_relay_links_lost_total").unwrap() >= 1.0);
    scene.accepted_and_heard_by_all(Instant::now(), SILENCE + SLACK).await;
    scene.end();
}
