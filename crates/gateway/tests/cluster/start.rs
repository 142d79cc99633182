//! A node whose Redis is not there yet, or goes away for good: it stays up, and its clients hear each other.

use roomcast_client::{Error, Event, Format, Options, PublishOptions};
use serde_json::json;
use tokio::time::timeout;
use xtask::servers::Redis;

use super::common::Live;
use super::{PATIENCE, common, connect, node, ready};

#[tokio::test]
async fn a_node_that_starts_without_redis_lets_nobody_in_and_joins_the_cluster_later() {
    let mut redis = Redis::start(&[]).unwrap();
    redis.kill().unwrap();
    let live = node(redis.port(), &[]);
    assert_eq!(live.get("/readyz").0, 503, "it has never reached its broker");
    common::until("its threads turn", PATIENCE, async || live.get("/livez").0 == 200).await;
    // Nobody knows which tokens are revoked.
    let early = roomcast_client::connect(Options::new(live.url(), live.token("ann", "user"))).await;
    let Err(Error::Upgrade { status: 503, retry_after: Some(_), .. }) = early else {
        panic!("it lets clients in: {early:?}")
    };
    redis.restart().unwrap();
    ready(&live).await;
    let client = connect(&live, "ann", "backend", Format::Json).await;
    client.join("demo").await.unwrap();
    let options = PublishOptions::acked();
    let published = client.publish("demo", "note", &json!({ "n": 1 }), &options).await.unwrap();
    let ack = published.ack.unwrap();
    assert!(ack.level == "accepted" && !ack.is_partial(), "{ack:?}");
    let heard = timeout(PATIENCE, client.next()).await.unwrap().unwrap();
    let Event::Publication(heard) = heard else { panic!("unexpected: {heard:?}") };
    assert!(!heard.isolated && heard.data == json!({ "n": 1 }));
    client.close().await;
}

#[tokio::test]
async fn rooms_relayed_in_different_modes_live_beside_each_other() {
    let redis = Redis::start(&[]).unwrap();
    let rule = |name: &str, mode: &str| {
        format!("[[rooms]]\nmatch = \"{name}-{{id}}\"\njoin = \"true\"\nrelay = \"{mode}\"\n")
    };
    let text = format!(
        "[listen]\npublic = \"127.0.0.1:0\"\ninternal = \"127.0.0.1:0\"\n\
         [broker]\nkind = \"redis\"\n[redis]\nservers = [\"127.0.0.1:{}\"]\n{}{}",
        redis.port(),
        rule("shop", "exact"),
        rule("club", "sharded"),
    );
    let nodes = [Live::with_file(&text), Live::with_file(&text)];
    for live in &nodes {
        ready(live).await;
    }
    let hears = connect(&nodes[0], "ann", "user", Format::Json).await;
    let speaks = connect(&nodes[1], "back", "backend", Format::Json).await;
    for room in ["shop-1", "club-1", "demo"] {
        hears.join(room).await.unwrap();
        speaks.publish(room, "note", &json!({}), &PublishOptions::acked()).await.unwrap();
        // Other programs reach every room by one name, whatever its mode.
        redis.command(&["PUBLISH", &format!("room:{room}"), "{}"]).unwrap();
        for sender in ["back", "external"] {
            let heard = timeout(PATIENCE, hears.next()).await.unwrap().unwrap();
            let Event::Publication(heard) = heard else { panic!("unexpected: {heard:?}") };
            assert_eq!((heard.room.as_str(), heard.sender.as_str()), (room, sender));
        }
    }
    // What is not in pattern mode does not travel by the pattern.
    let channels = redis.command(&["PUBSUB", "CHANNELS"]).unwrap();
    let channels: Vec<_> = channels.items().iter().map(xtask::servers::Reply::text).collect();
    assert!(channels.iter().any(|it| it.ends_with(":shop-1")), "{channels:?}");
    assert!(!channels.iter().any(|it| it.ends_with(":demo")), "{channels:?}");
    hears.close().await;
    speaks.close().await;
}
