//! Orders to all nodes: each confirms what it carried out, and one that cannot is named, and obeys before it delivers.

use roomcast_protocol::codes::Close;
use serde_json::{Value, json};
use xtask::servers::{Direction, Proxy, Redis};

use super::common::{self, Live};
use super::{PATIENCE, node, ready};

/// Three nodes that know each other, the last behind a proxy of its own.
async fn three() -> (Redis, Proxy, [Live; 3]) {
    let redis = Redis::start(&[]).unwrap();
    let proxy = Proxy::start(redis.port()).unwrap();
    let nodes = [redis.port(), redis.port(), proxy.port()].map(|port| node(port, &[]));
    for live in &nodes {
        ready(live).await;
        let knows = async || live.get("/readyz").1.contains("\"known\":2");
        common::until("the nodes know each other", PATIENCE, knows).await;
    }
    (redis, proxy, nodes)
}

fn ask(live: &Live, method: &str, path: &str, body: &str) -> (u16, Value) {
    let (status, answer) = live.request(method, path, body);
    (status, serde_json::from_str(&answer).unwrap())
}

fn name(live: &Live) -> Value {
    ask(live, "GET", "/readyz", "").1["node"].clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_nodes_confirm_a_disconnect_and_one_that_cannot_is_named_and_obeys_later() {
    let (redis, proxy, nodes) = three().await;
    let mut gone: Vec<_> = nodes.iter().map(|live| live.user("ann")).collect();
    let mut stays = nodes[2].user("bob");
    let path = "/api/v1/users/ann/disconnect";
    let (status, answer) = ask(&nodes[0], "POST", path, "");
    assert_eq!(
        (status, &answer["disconnected"], &answer["level"]),
        (200, &json!(3), &json!("stored"))
    );
    assert_eq!(answer["unanswered"], json!([]));
    let mut named: Vec<_> = answer["nodes"].as_array().unwrap().clone();
    named.sort_by_key(|it| it["node"].to_string());
    let mut all: Vec<_> =
        nodes.iter().map(|live| json!({"node": name(live), "sessions": 1})).collect();
    all.sort_by_key(|it| it["node"].to_string());
    assert_eq!(named, all);
    gone.iter_mut().for_each(|ws| ws.expect_close(Close::Disconnected));
    // One node is cut off from the others without a word.
    let mut gone = nodes[2].user("ann");
    proxy.swallow(Direction::ToClient);
    let (status, answer) = ask(&nodes[0], "POST", &format!("{path}?timeout=500ms"), "");
    assert_eq!((status, &answer["disconnected"]), (200, &json!(0)));
    assert_eq!(answer["unanswered"], json!([name(&nodes[2])]));
    let counted = async || nodes[0].metric("roomcast_orders_unanswered_total") == Some(1.0);
    common::until("the node is counted", PATIENCE, counted).await;
    proxy.heal();
    proxy.cut();
    gone.expect_close_at_last(Close::Disconnected);
    stays.tell(&json!({"type": "ping", "timestamp": 1}));
    while stays.json()["type"] != "pong" {}
    let (status, problem) = ask(&nodes[0], "POST", &format!("{path}?timeout=5"), "");
    assert_eq!((status, &problem["code"]), (400, &json!(102)));
    drop(redis);
}
