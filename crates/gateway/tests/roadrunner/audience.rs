//! One room on three nodes and a real Redis: members of each kind hear whoever publishes, in their own words.

use serde_json::{Value, json};
use xtask::servers::Redis;

use crate::caller::{Caller, request};
use crate::common::Live;
use crate::common::ws::{BINARY, Dial, Heard, Ws};
use crate::endpoint::{SERVED, dial, join, text};

fn node(redis: &Redis) -> Live {
    Live::on_redis(redis.port(), &SERVED)
}

/// What a member with MessagePack hears next.
#[track_caller]
fn packed(ws: &mut Ws) -> Value {
    match ws.next() {
        Heard::Binary(bytes) => rmp_serde::from_slice(&bytes).unwrap(),
        other => panic!("no MessagePack: {other:?}"),
    }
}

fn pack(ws: &mut Ws, value: &Value) {
    ws.send(BINARY, &rmp_serde::to_vec_named(value).unwrap());
}

/// One member of each kind, each on another node.
struct Audience {
    json: Ws,
    packed: Ws,
    roadrunner: Ws,
}

impl Audience {
    fn new(nodes: &[Live; 3]) -> Self {
        let mut json = nodes[0].user("ann");
        json.join("demo");
        let token = nodes[1].token("bob", "user");
        let mut bob =
            Dial::with_token(&token).subprotocol("roomcast.v1.msgpack").open(nodes[1].public());
        assert_eq!(packed(&mut bob)["type"], "welcome");
        pack(&mut bob, &json!({ "type": "subscribe", "data": { "room": "demo" } }));
        assert_eq!(packed(&mut bob)["type"], "subscribed");
        let mut roadrunner = dial(&nodes[2]);
        join(&mut roadrunner, &["demo"]);
        Self { json, packed: bob, roadrunner }
    }

    /// All of them hear this next, and from whom.
    #[track_caller]
    fn hears(&mut self, sender: &str, data: &Value, payload: &str) {
        for heard in [self.json.json(), packed(&mut self.packed)] {
            assert_eq!((&heard["room"], &heard["sender"]), (&json!("demo"), &json!(sender)));
            assert_eq!(heard["data"], *data);
        }
        let expected = json!({ "topic": "demo", "payload": payload });
        let heard = text(&mut self.roadrunner);
        assert_eq!(serde_json::from_str::<Value>(&heard).unwrap(), expected);
        assert!(heard.starts_with(r#"{"topic":"demo","payload":""#), "{heard}");
    }
}

#[test]
fn members_of_each_kind_on_three_nodes_hear_each_other_http_rpc_and_plain_redis() {
    let redis = Redis::start(&[]).unwrap();
    let nodes = [node(&redis), node(&redis), node(&redis)];
    let mut all = Audience::new(&nodes);

    all.json.tell(&json!({ "type": "note", "room": "demo", "data": { "by": "json" } }));
    all.hears("ann", &json!({ "by": "json" }), r#"{"by":"json"}"#);

    pack(&mut all.packed, &json!({ "type": "note", "room": "demo", "data": { "by": [1.5, "é"] } }));
    all.hears("bob", &json!({ "by": [1.5, "é"] }), r#"{"by":[1.5,"é"]}"#);

    let body = r#"{ "type": "note", "room": "demo", "data": { "b": 1.50, "a": "http" } }"#;
    assert_eq!(nodes[2].request("POST", "/api/v1/publish", body).0, 200);
    all.hears("api:dev", &json!({ "b": 1.50, "a": "http" }), r#"{"b":1.50,"a":"http"}"#);

    for (live, payload, data) in [
        (&nodes[0], "hello, PHP", json!("hello, PHP")),
        (&nodes[1], r#"{"by":"rpc"}"#, json!({ "by": "rpc" })),
        (&nodes[2], "[1]", json!("[1]")),
    ] {
        let request = request(&["demo"], payload.as_bytes());
        assert_eq!(Caller::tcp(live.rpc()).call("broadcast.Publish", &request), None);
        all.hears("api:rpc", &data, payload);
    }

    redis.command(&["PUBLISH", "room:demo", "plain"]).unwrap();
    all.hears("external", &json!("plain"), "plain");
    redis.command(&["PUBLISH", "room:demo", r#"{"by":"redis"}"#]).unwrap();
    all.hears("external", &json!({ "by": "redis" }), r#"{"by":"redis"}"#);
}
