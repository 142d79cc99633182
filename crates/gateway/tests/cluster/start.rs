//! A node whose Redis is not there yet, or goes away for good: it stays up, and its clients hear each other.

use roomcast_client::{Event, Format, PublishOptions};
use serde_json::json;
use tokio::time::timeout;
use xtask::servers::Redis;

use super::{PATIENCE, common, connect, node, ready};

#[tokio::test]
async fn a_node_without_redis_serves_its_own_clients_and_joins_the_cluster_later() {
    let mut redis = Redis::start(&[]).unwrap();
    redis.kill().unwrap();
    let live = node(redis.port(), &[]);
    assert_eq!(live.get("/readyz").0, 503, "it has never reached its broker");
    common::until("its threads turn", PATIENCE, async || live.get("/livez").0 == 200).await;
    let client = connect(&live, "ann", "backend", Format::Json).await;
    client.join("demo").await.unwrap();
    let publish = async |n: u64| {
        let options = PublishOptions::acked();
        let published = client.publish("demo", "note", &json!({ "n": n }), &options).await.unwrap();
        published.ack.unwrap()
    };
    assert!(publish(1).await.is_isolated());
    let first = timeout(PATIENCE, client.next()).await.unwrap().unwrap();
    let heard = match first {
        Event::Degraded { isolated: true } => {
            timeout(PATIENCE, client.next()).await.unwrap().unwrap()
        }
        other => other,
    };
    let Event::Publication(heard) = heard else { panic!("unexpected: {heard:?}") };
    assert!(heard.isolated && heard.data == json!({ "n": 1 }));
    redis.restart().unwrap();
    ready(&live).await;
    let told = timeout(PATIENCE, client.next()).await.unwrap().unwrap();
    assert_eq!(told, Event::Degraded { isolated: false });
    let ack = publish(2).await;
    assert!(ack.level == "accepted" && !ack.is_partial(), "{ack:?}");
    let heard = timeout(PATIENCE, client.next()).await.unwrap().unwrap();
    let Event::Publication(heard) = heard else { panic!("unexpected: {heard:?}") };
    assert!(!heard.isolated && heard.data == json!({ "n": 2 }));
    client.close().await;
}
