//! A node on free loopback ports, for tests that want the real thing.
#![allow(dead_code, unreachable_pub, reason = "each test program uses its part")]
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

pub mod application;
pub mod http;
pub mod ws;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use application::Application;
pub use http::request;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use roomcast_broker::MemoryBroker;
use roomcast_gateway::config::{Config, DEV_SECRET, LoadOptions, RpcPlace};
use roomcast_gateway::{Drained, Node};
use roomcast_protocol::codes::{Close, Refusal};
use roomcast_protocol::limits::LimitName;
use serde_json::{Value, json};
use ws::{Dial, Heard, Ws};

/// Figures that are 0 once all clients are gone and nothing is under way (INV-11). Users with messages of the last
/// minute are remembered a minute longer, see [`Live::assert_forgotten`].
const GAUGES: [&str; 23] = [
    "roomcast_connections_open",
    "roomcast_connections_addresses",
    "roomcast_outboxes_waiting_bytes",
    "roomcast_sessions_open",
    "roomcast_sessions_unauthenticated",
    "roomcast_sessions_agents",
    "roomcast_rooms_open",
    "roomcast_rooms_memberships",
    "roomcast_rooms_heard",
    "roomcast_lanes_queue_bytes",
    "roomcast_lanes_stuck",
    "roomcast_feed_waiting_bytes",
    "roomcast_history_held_bytes",
    "roomcast_history_behind",
    "roomcast_control_paused_bytes",
    "roomcast_presence_present",
    "roomcast_presence_rosters",
    "roomcast_presence_rosters_bytes",
    "roomcast_presence_untold",
    "roomcast_slow_parked",
    "roomcast_presence_people_waiting",
    "roomcast_sessions_people",
    "roomcast_conversations_open",
];

/// The same, with a series only for each call that is configured.
const GAUGES_OF_CALLS: [&str; 2] =
    ["roomcast_upstream_calls_under_way", "roomcast_upstream_calls_waiting"];

/// A running node.
pub struct Live {
    node: Node,
    /// Whom it tells what happens.
    _told: Option<Application>,
}

/// What an application was told.
#[derive(Debug)]
pub struct Told {
    pub kind: String,
    pub subject: String,
    pub data: Value,
}

impl Live {
    fn of(node: Node) -> Self {
        Self { node, _told: None }
    }

    /// Starts a node in development mode with these keys set.
    pub fn start(overrides: &[(&str, &str)]) -> Self {
        Self::of(Node::start(&config(overrides, None)).unwrap())
    }

    /// The same with a configuration file of this text.
    pub fn with_file(text: &str) -> Self {
        Self::of(Node::start(&config_of(text)).unwrap())
    }

    /// The same with a configuration file of this text, and what happens on it.
    pub fn telling(text: &str) -> (Self, Receiver<Told>) {
        let (sender, told) = std::sync::mpsc::channel();
        let application = Application::start(move |called| {
            let text = |name: &str| called.body[name].as_str().unwrap().to_owned();
            let data = called.body["data"].clone();
            // The test may have ended.
            drop(sender.send(Told { kind: text("type"), subject: text("subject"), data }));
            (200, String::new())
        });
        let text = format!(
            "{text}[[upstream.targets]]\nname = \"app\"\nurl = \"{}\"\n\
             [[upstream.calls]]\nname = \"told\"\ntarget = \"app\"\npath = \"/events\"\n\
             [[webhooks]]\ncall = \"told\"\n",
            application.url()
        );
        let node = Node::start(&config_of(&text)).unwrap();
        (Self { node, _told: Some(application) }, told)
    }

    /// The same for several nodes of one process that share a broker.
    pub fn several_with_file<const COUNT: usize>(text: &str) -> [Self; COUNT] {
        let broker = MemoryBroker::new();
        let config = config_of(text);
        std::array::from_fn(|_| Self::of(Node::start_with(&config, &broker).unwrap()))
    }

    /// The same for several nodes of one process that share a broker.
    pub fn start_several<const COUNT: usize>(overrides: &[(&str, &str)]) -> [Self; COUNT] {
        let broker = MemoryBroker::new();
        let config = config(overrides, None);
        std::array::from_fn(|_| Self::of(Node::start_with(&config, &broker).unwrap()))
    }

    /// A node on the Redis at this port, ready.
    pub fn on_redis(port: u16, overrides: &[(&str, &str)]) -> Self {
        let servers = format!("127.0.0.1:{port}");
        let broker = [("broker.kind", "redis"), ("redis.servers", &*servers)];
        Self::start(&[&broker, overrides].concat()).until_ready()
    }

    /// Waits until it is.
    pub fn until_ready(self) -> Self {
        let deadline = Instant::now() + Duration::from_secs(30);
        while self.get("/readyz").0 != 200 {
            assert!(Instant::now() < deadline, "the node is not ready");
            std::thread::sleep(Duration::from_millis(50));
        }
        self
    }

    pub fn public(&self) -> SocketAddr {
        self.node.public_addr()
    }

    pub fn internal(&self) -> SocketAddr {
        self.node.internal_addr()
    }

    /// The first port of RPC.
    pub fn rpc(&self) -> SocketAddr {
        let port = |place: &RpcPlace| match place {
            RpcPlace::Tcp(address) => Some(*address),
            RpcPlace::Unix(_) => None,
        };
        self.node.rpc_places().iter().find_map(port).unwrap()
    }

    pub fn url(&self) -> String {
        format!("ws://{}/ws", self.public())
    }

    /// Stops the node; blocks until all its threads have ended.
    pub fn stop(self) {
        self.node.stop();
    }

    /// Lets its clients go, then stops the node; blocks until all its threads have ended.
    pub fn drain(self) -> Drained {
        self.node.drain()
    }

    /// Opens a WebSocket without a token.
    #[track_caller]
    pub fn dial(&self) -> Ws {
        Dial::default().open(self.public())
    }

    /// Opens a WebSocket with this token in the query, and takes its welcome.
    #[track_caller]
    pub fn enter(&self, token: &str) -> Ws {
        let mut ws = Dial::with_token(token).open(self.public());
        ws.welcome();
        ws
    }

    /// A user with every permission of the built-in rules.
    #[track_caller]
    pub fn user(&self, sub: &str) -> Ws {
        self.enter(&self.token(sub, "user"))
    }

    /// A back-end.
    #[track_caller]
    pub fn backend(&self) -> Ws {
        self.enter(&self.token("back", "backend"))
    }

    /// A good token of `sub` with this kind and every permission of the built-in rules.
    pub fn token(&self, sub: &str, kind: &str) -> String {
        self.token_of(&json!({
            "sub": sub,
            "kind": kind,
            "permissions": ["view_system", "view_agents", "view_tasks", "view_groups"],
        }))
    }

    /// A token with these claims, and what every token needs.
    pub fn token_of(&self, claims: &Value) -> String {
        sign(&claims_of(claims), DEV_SECRET.as_bytes())
    }

    /// A plain HTTP answer of the internal port: status and body.
    pub fn get(&self, path: &str) -> (u16, String) {
        self.request("GET", path, "")
    }

    pub fn request(&self, method: &str, path: &str, body: &str) -> (u16, String) {
        request(self.internal(), method, path, body)
    }

    /// The sum of a metric over its labels; `None`: there is no such metric.
    pub fn metric(&self, name: &str) -> Option<f64> {
        self.metric_with(name, "")
    }

    /// The sum of a metric over its series whose labels hold this text.
    pub fn metric_with(&self, name: &str, label: &str) -> Option<f64> {
        metric_at(self.internal(), name, label)
    }

    /// Waits until the metric says that this limit bit so often.
    #[track_caller]
    pub fn expect_hits(&self, limit: LimitName, count: u32) {
        let label = format!("limit=\"{}\"", limit.name());
        self.expect_count("roomcast_limits_hit_total", &label, count);
    }

    /// Waits until the metric says that so many connections ended with this code.
    #[track_caller]
    pub fn expect_closes(&self, close: Close, count: u32) {
        let label = format!("code=\"{}\"", close.row().name);
        self.expect_count("roomcast_connections_closed_total", &label, count);
    }

    /// Waits until the metric says that so many commands were declined so.
    #[track_caller]
    pub fn expect_refusals(&self, refusal: Refusal, count: u32) {
        let label = format!("code=\"{}\"", refusal.row().name);
        self.expect_count("roomcast_refusals_sent_total", &label, count);
    }

    #[track_caller]
    fn expect_count(&self, name: &str, label: &str, count: u32) {
        let expected = Some(f64::from(count));
        let deadline = Instant::now() + ws::WAIT;
        loop {
            let found = self.metric_with(name, label);
            if found == expected {
                return;
            }
            assert!(Instant::now() < deadline, "{name} {label}: {found:?}, not {expected:?}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Waits until every gauge that counts clients, rooms and bytes is 0 (INV-11).
    #[track_caller]
    pub fn assert_empty(&self) {
        let deadline = Instant::now() + Duration::from_secs(15);
        loop {
            let left: Vec<_> = GAUGES
                .iter()
                .map(|gauge| (gauge, self.metric(gauge)))
                .filter(|(_, value)| *value != Some(0.0))
                .chain(
                    GAUGES_OF_CALLS
                        .iter()
                        .map(|gauge| (gauge, self.metric(gauge)))
                        .filter(|(_, value)| value.is_some_and(|it| it != 0.0)),
                )
                .collect();
            if left.is_empty() {
                return;
            }
            assert!(Instant::now() < deadline, "not 0: {left:?}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Waits until the node remembers no user: a minute after their last message.
    #[track_caller]
    pub fn assert_forgotten(&self) {
        let deadline = Instant::now() + Duration::from_secs(80);
        while self.metric("roomcast_sessions_users") != Some(0.0) {
            assert!(Instant::now() < deadline, "users are still remembered");
            std::thread::sleep(Duration::from_millis(200));
        }
    }
}

/// The sum of a metric over its series whose labels hold this text, as this internal port shows it.
pub fn metric_at(internal: SocketAddr, name: &str, label: &str) -> Option<f64> {
    let (_, text) = request(internal, "GET", "/metrics", "");
    let is_it = |line: &&str| {
        line.strip_prefix(name).is_some_and(|rest| rest.starts_with([' ', '{']))
            && line.contains(label)
    };
    let value = |line: &str| line.rsplit(' ').next().and_then(|value| value.parse::<f64>().ok());
    text.lines().filter(is_it).filter_map(value).reduce(|sum, value| sum + value)
}

/// The configuration of development with a file of this text.
fn config_of(text: &str) -> Config {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let name = format!("roomcast-{}-{count}.toml", std::process::id());
    let path = std::env::temp_dir().join(name);
    std::fs::write(&path, text).unwrap();
    let config = config(&[], Some(path.clone()));
    std::fs::remove_file(path).unwrap();
    config
}

fn config(overrides: &[(&str, &str)], file: Option<PathBuf>) -> Config {
    let ports = [("listen.public", "127.0.0.1:0"), ("listen.internal", "127.0.0.1:0")];
    let set = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
    let overrides = ports.iter().chain(overrides).map(set).collect();
    let options = LoadOptions { file, overrides, dev: true, ..LoadOptions::default() };
    Config::load(&options).unwrap_or_else(|errors| panic!("{errors}"))
}

/// Claims, and what every token needs; a claim that is null is left out.
pub fn claims_of(claims: &Value) -> Value {
    let now = unix_s();
    let mut all = json!({ "iss": "roomcast", "aud": "roomcast", "iat": now, "exp": now + 3_600 });
    for (name, value) in claims.as_object().unwrap() {
        all[name] = value.clone();
    }
    all.as_object_mut().unwrap().retain(|_, value| !value.is_null());
    all
}

pub fn unix_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// Signs claims with HS256.
pub fn sign(claims: &Value, secret: &[u8]) -> String {
    encode(&Header::new(Algorithm::HS256), claims, &EncodingKey::from_secret(secret)).unwrap()
}

/// A connection beside the one that misbehaves.
pub struct Bystander {
    ws: Ws,
    count: u64,
}

impl Bystander {
    /// How soon a publication must be heard again.
    const ECHO: Duration = Duration::from_secs(1);

    /// Joins the room `demo`.
    #[track_caller]
    pub fn join(live: &Live) -> Self {
        let mut ws = live.user("bystander");
        ws.join("demo");
        Self { ws, count: 0 }
    }

    /// Publishes into `demo` and must hear it in time, and nothing else.
    #[track_caller]
    pub fn lives(&mut self) {
        self.count += 1;
        let id = format!("bystander-{}", self.count);
        self.ws.tell(&json!({ "type": "note", "room": "demo", "id": id, "data": {} }));
        let deadline = Instant::now() + Self::ECHO;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.ws.heard(left) {
                Some(Heard::Text(text)) => {
                    let heard: Value = serde_json::from_str(&text).unwrap();
                    assert_eq!(heard["id"], *id, "the bystander heard {heard}");
                    return;
                }
                Some(Heard::Ping(_)) => {}
                Some(other) => panic!("the bystander: {other:?}"),
                None => panic!("the bystander hears nothing any more"),
            }
        }
    }
}

/// Waits for a condition, or fails the test.
pub async fn until(what: &str, within: Duration, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + within;
    while !holds().await {
        assert!(Instant::now() < deadline, "in vain: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// All must end well; the first that did not fails the test.
pub async fn all<T>(tasks: Vec<tokio::task::JoinHandle<T>>) -> Vec<T> {
    let mut results = Vec::new();
    for task in tasks {
        match task.await {
            Ok(result) => results.push(result),
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }
    results
}
