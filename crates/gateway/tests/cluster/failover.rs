//! A Sentinel promotes a replica, and nodes that end while Redis is of no use: nobody is disconnected, nothing hangs.

use std::sync::Arc;
use std::time::{Duration, Instant};

use roomcast_client::Format;
use tokio::time::sleep;
use xtask::servers::{Redis, Sentinels};

use super::common::{self, Live};
use super::faults::{SILENCE, SLACK, Scene};
use super::{PATIENCE, connect, node, node_with, ready};

fn nodes(sentinels: &Sentinels) -> Vec<Live> {
    let ports = sentinels.sentinel_ports();
    let servers: Vec<_> = ports.iter().map(|port| format!("127.0.0.1:{port}")).collect();
    let servers = servers.join(",");
    let behind = [("redis.topology", "sentinel"), ("redis.sentinel_service", sentinels.service())];
    (0..3).map(|_| node_with(&servers, &behind)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_master_that_is_killed_under_publications_costs_no_connection() {
    let mut sentinels = Sentinels::start(1, &[]).unwrap();
    let mut scene = Scene::set(nodes(&sentinels)).await;
    let load = scene.load();
    let old = sentinels.kill_master().unwrap();
    let (sentinels, promoted) = tokio::task::spawn_blocking(move || {
        sentinels.promoted(old).unwrap();
        (sentinels, Instant::now())
    })
    .await
    .unwrap();
    scene.accepted_and_heard_by_all(promoted.into(), SILENCE + SLACK).await;
    // The old one comes back, and becomes a replica of the new one: nothing is noticed.
    let mut sentinels = sentinels;
    let sentinels = tokio::task::spawn_blocking(move || {
        sentinels.restart(old).unwrap();
        sentinels
    })
    .await
    .unwrap();
    load.abort();
    sleep(Duration::from_secs(1)).await;
    scene.accepted_and_heard_by_all(tokio::time::Instant::now(), SILENCE + SLACK).await;
    scene.end();
    drop(sentinels);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_master_that_is_demoted_alive_is_left_by_commands_and_feeds() {
    let sentinels = Sentinels::start(1, &[]).unwrap();
    let mut scene = Scene::set(nodes(&sentinels)).await;
    let old = sentinels.master_port().unwrap();
    let sentinel = sentinels.sentinel_ports()[0];
    let order = ["SENTINEL", "FAILOVER", sentinels.service()];
    xtask::servers::Client::connect(sentinel).unwrap().command(&order).unwrap();
    let (mut sentinels, promoted) = tokio::task::spawn_blocking(move || {
        sentinels.promoted(old).unwrap();
        (sentinels, Instant::now())
    })
    .await
    .unwrap();
    scene.accepted_and_heard_by_all(promoted.into(), SILENCE + SLACK).await;
    // All of them hear the new master itself.
    let master = sentinels.master().unwrap();
    common::until("all feeds are on the new master", PATIENCE, async || feeds(master) == 3).await;
    scene.accepted_and_heard_by_all(tokio::time::Instant::now(), SILENCE + SLACK).await;
    scene.end();
}

/// Connections that hear the pattern.
fn feeds(redis: &Redis) -> usize {
    let list = redis.command(&["CLIENT", "LIST", "TYPE", "pubsub"]).unwrap().text();
    list.lines().filter(|line| line.contains(" psub=1 ")).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_node_ends_in_time_while_its_redis_is_frozen_or_gone() {
    for frozen in [true, false] {
        let mut redis = Redis::start(&[]).unwrap();
        let live = node(redis.port(), &[]);
        ready(&live).await;
        let client = connect(&live, "ann", "backend", Format::Json).await;
        client.join("demo").await.unwrap();
        if frozen {
            redis.freeze().unwrap()
        } else {
            redis.kill().unwrap()
        }
        sleep(Duration::from_millis(300)).await;
        let client = Arc::new(client);
        let publishing = tokio::spawn({
            let client = Arc::clone(&client);
            async move {
                let options = roomcast_client::PublishOptions::acked();
                client.publish("demo", "x", &serde_json::json!({}), &options).await
            }
        });
        sleep(Duration::from_millis(100)).await;
        let began = Instant::now();
        tokio::task::spawn_blocking(move || live.stop()).await.unwrap();
        assert!(began.elapsed() < Duration::from_secs(4) + SLACK, "{:?}", began.elapsed());
        publishing.abort();
        if frozen {
            redis.thaw().unwrap();
            common::until("its connections are gone", PATIENCE, async || feeds(&redis) == 0).await;
        }
    }
}
