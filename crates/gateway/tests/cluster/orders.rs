//! Orders to all nodes: each confirms what it carried out, and one that cannot is named, and obeys before it delivers.

use roomcast_protocol::codes::Close;
use serde_json::{Value, json};
use xtask::servers::{Direction, Proxy, Redis};

use super::common::ws::Dial;
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

/// The token is good at no node: whoever brings it is told 4001.
#[track_caller]
fn is_refused(live: &Live, token: &str) {
    let mut ws = Dial::with_token(token).open(live.public());
    ws.expect_close(Close::Unauthorized);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn revoked_tokens_end_their_sessions_on_all_nodes_and_are_refused_by_nodes_to_come() {
    let (redis, _proxy, nodes) = three().await;
    let old = nodes[0].token_of(&json!({"sub": "ann", "iat": common::unix_s() - 10}));
    let named = nodes[0].token_of(&json!({"sub": "bob", "jti": "t-1"}));
    let fresh = nodes[0].token_of(&json!({"sub": "ann", "iat": common::unix_s() + 5}));
    let mut gone: Vec<_> = nodes.iter().map(|live| live.enter(&old)).collect();
    let mut stays = nodes[1].enter(&fresh);
    let (status, answer) = ask(&nodes[0], "POST", "/api/v1/users/ann/revoke", "");
    assert_eq!((status, &answer["disconnected"]), (200, &json!(3)), "{answer}");
    assert_eq!((&answer["unanswered"], &answer["level"]), (&json!([]), &json!("stored")));
    gone.iter_mut().for_each(|ws| ws.expect_close(Close::Unauthorized));
    let mut gone = nodes[2].enter(&named);
    let (status, answer) = ask(&nodes[0], "POST", "/api/v1/revoke", r#"{"jti":"t-1"}"#);
    assert_eq!((status, &answer["disconnected"]), (200, &json!(1)), "{answer}");
    gone.expect_close(Close::Unauthorized);
    let later = node(redis.port(), &[]);
    ready(&later).await;
    for live in nodes.iter().chain([&later]) {
        is_refused(live, &old);
        is_refused(live, &named);
        live.enter(&fresh);
    }
    stays.tell(&json!({"type": "ping", "timestamp": 1}));
    while stays.json()["type"] != "pong" {}
    for (path, body) in [
        ("/api/v1/revoke", "{}"),
        ("/api/v1/revoke", r#"{"jti":""}"#),
        ("/api/v1/users/ann/revoke", r#"{"before":-1}"#),
        ("/api/v1/users/ann/revoke", r#"{"before":99999999999}"#),
        ("/api/v1/users/a%20b/revoke", ""),
        ("/api/v1/sessions/7/disconnect", ""),
    ] {
        let (status, problem) = ask(&nodes[0], "POST", path, body);
        assert_eq!((status, &problem["code"]), (400, &json!(102)), "{path} {body}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_is_full_revokes_tokens_and_nodes_to_come_refuse_them() {
    let redis = Redis::start(&[]).unwrap();
    let [one, two] = [(); 2].map(|()| node(redis.port(), &[]));
    for live in [&one, &two] {
        ready(live).await;
        let knows = async || live.get("/readyz").1.contains("\"known\":1");
        common::until("the nodes know each other", PATIENCE, knows).await;
    }
    let old = one.token_of(&json!({"sub": "ann", "iat": common::unix_s() - 10}));
    let named = one.token_of(&json!({"sub": "bob", "jti": "t-1"}));
    let mut gone = [two.enter(&old), two.enter(&named)];
    redis.command(&["CONFIG", "SET", "maxmemory", "1"]).unwrap();
    for (path, body) in [("/api/v1/users/ann/revoke", ""), ("/api/v1/revoke", r#"{"jti":"t-1"}"#)] {
        let (status, answer) = ask(&one, "POST", path, body);
        assert_eq!((status, &answer["disconnected"]), (200, &json!(1)), "{answer}");
        assert_eq!((&answer["unanswered"], &answer["level"]), (&json!([]), &json!("stored")));
    }
    gone.iter_mut().for_each(|ws| ws.expect_close(Close::Unauthorized));
    let later = node(redis.port(), &[]);
    ready(&later).await;
    for live in [&one, &two, &later] {
        is_refused(live, &old);
        is_refused(live, &named);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn back_ends_put_users_into_rooms_as_their_rights_let_them_and_take_them_out() {
    let (_redis, _proxy, nodes) = three().await;
    let weak = nodes[0].token_of(&json!({"sub": "ann"}));
    let (mut may, mut may_not) = (nodes[1].user("ann"), nodes[2].enter(&weak));
    let body = r#"{"user":"ann"}"#;
    let (status, answer) = ask(&nodes[0], "POST", "/api/v1/rooms/system/subscribe", body);
    assert_eq!((status, &answer["subscribed"], &answer["refused"]), (200, &json!(1), &json!(1)));
    assert_eq!(answer["refused_sessions"].as_array().map(Vec::len), Some(1), "{answer}");
    assert_eq!(may.json()["type"], "subscribed");
    let publication = r#"{"room":"system","type":"note","data":1}"#;
    assert_eq!(ask(&nodes[0], "POST", "/api/v1/publish", publication).0, 200);
    assert_eq!(may.json()["type"], "note");
    let (status, answer) = ask(&nodes[0], "POST", "/api/v1/rooms/system/unsubscribe", body);
    assert_eq!((status, &answer["unsubscribed"]), (200, &json!(1)), "{answer}");
    let told = may.json();
    let told = (&told["type"], &told["data"]["room"], &told["data"]["reason"]);
    assert_eq!(told, (&json!("unsubscribed"), &json!("system"), &json!("ordered")));
    assert_eq!(ask(&nodes[0], "POST", "/api/v1/publish", publication).0, 200);
    for ws in [&mut may, &mut may_not] {
        ws.tell(&json!({"type": "ping", "timestamp": 1}));
        assert_eq!(ws.json()["type"], "pong");
    }
    let both = r#"{"user":"ann","session":"00000000000000000000000000000001"}"#;
    let (status, _) = ask(&nodes[0], "POST", "/api/v1/rooms/system/subscribe", both);
    assert_eq!(status, 400);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rooms_and_sessions_of_all_nodes_are_listed_page_by_page() {
    let (_redis, proxy, nodes) = three().await;
    let mut members: Vec<_> = (0..6)
        .map(|number| {
            let mut ws = nodes[number % 3].user(&format!("u{}", number / 2));
            let join =
                json!({"type": "subscribe", "data": {"room": format!("task-{}", number % 4)}});
            assert_eq!(ws.ask(&join)["type"], "subscribed");
            ws
        })
        .collect();
    let pages = |list: &str, path: &str, key: &str| {
        let (mut all, mut after) = (Vec::new(), String::new());
        for _ in 0..20 {
            let (status, page) = ask(&nodes[1], "GET", &format!("{path}limit=2&after={after}"), "");
            assert_eq!((status, &page["unanswered"]), (200, &json!([])), "{page}");
            all.extend(page[list].as_array().unwrap().iter().cloned());
            let Some(next) = page["next"].as_str() else { return all };
            assert_eq!(all.last().unwrap()[key], next);
            after = next.to_owned();
        }
        panic!("no end: {all:?}")
    };
    let rooms = pages("rooms", "/api/v1/rooms?prefix=task-&", "room");
    let shown = |room: &Value| (room["room"].clone(), room["members"].clone());
    let expected = [("task-0", 2), ("task-1", 2), ("task-2", 1), ("task-3", 1)];
    let expected = expected.map(|(room, members)| (json!(room), json!(members)));
    assert_eq!(rooms.iter().map(shown).collect::<Vec<_>>(), expected);
    assert_eq!(rooms[0]["nodes"].as_array().map(Vec::len), Some(2), "{rooms:?}");
    let connections = pages("connections", "/api/v1/connections?", "session");
    assert_eq!(connections.len(), 6, "{connections:?}");
    let of_user = pages("sessions", "/api/v1/users/u1/sessions?", "session");
    assert_eq!(of_user.len(), 2, "{of_user:?}");
    // One session ends, by its name alone.
    let path = format!("/api/v1/sessions/{}/disconnect", of_user[0]["session"].as_str().unwrap());
    assert_eq!(ask(&nodes[0], "POST", &path, "").1["disconnected"], 1);
    assert_eq!(pages("sessions", "/api/v1/users/u1/sessions?", "session").len(), 1);
    // A node that does not answer is named, the others' rooms are there.
    proxy.swallow(Direction::ToClient);
    let (status, page) = ask(&nodes[0], "GET", "/api/v1/rooms?timeout=300ms", "");
    assert_eq!((status, &page["unanswered"]), (200, &json!([name(&nodes[2])])), "{page}");
    assert!(page["rooms"].as_array().is_some_and(|rooms| !rooms.is_empty()), "{page}");
    members.clear();
}
