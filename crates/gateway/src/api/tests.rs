use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use http_body_util::BodyExt;
use hyper::Method;
use hyper::header::{self, HeaderName};
use roomcast_protocol::content::Content;
use roomcast_protocol::envelope::{Accepted, Level};
use roomcast_protocol::ids::SessionId;
use roomcast_protocol::position::{Epoch, Head, Kept, Page, Position};
use roomcast_protocol::presence::RosterPage;
use roomcast_protocol::publication::Publication;
use roomcast_protocol::receipts::{Marked, Receipt, ReceiptsPage};
use roomcast_router::hub::{HubHealth, Ordered, RelayState, Surveyed};
use roomcast_router::messages::{MemberInfo, ReceiptsAsk};
use roomcast_router::orders::{Order, Outcome, Whom};
use roomcast_router::surveys::{Survey, SurveyPage, SurveyRow, What};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use super::*;
use crate::config::LoadOptions;
use crate::core::{CoreRequest, HubView, Publishing};
use crate::guard;

const MESSAGE_BYTES: usize = 1_000;

const RULES: &str = r#"
[[api.keys]]
name = "web"
secret = "the key of the tests' back-end, long enough"

[[api.keys]]
name = "narrow"
secret = "the key that reaches little, long enough"
actions = ["publish", "history"]
rooms = ["alerts", "kept", "closed"]

[[api.keys]]
name = "shut"
secret = "the key that reaches one room, long enough"
rooms = ["talk"]

[[rooms]]
match = "kept"
join = "true"
history = {}

[[rooms]]
match = "talk"
join = "true"
history = {}
receipts = true

[[rooms]]
match = "typed"
join = "true"
publish = "user.kind == 'backend'"
types = ["one", "two"]

[[rooms]]
match = "closed"
join = "true"
publish = "false"
"#;

const KEY: &str = "Bearer the key of the tests' back-end, long enough";

/// A key for some actions and rooms.
const NARROW: &str = "Bearer the key that reaches little, long enough";

const ACCEPTED: Accepted = Accepted::WHOLE;

/// How a hub in memory is.
const REACHED: HubHealth = HubHealth {
    relay: RelayState::Whole,
    since_ms: 0,
    reached: true,
    takes_tokens: true,
    lagging: false,
    feed_age_ms: 0,
    beat_age_ms: 0,
    waiting: 0,
    waiting_bytes: 0,
    held_bytes: 0,
    paused_bytes: 0,
    behind: 0,
    peers: 0,
    peers_deaf: 0,
    peers_disagreeing: 0,
};

/// What the core answers to publications.
#[derive(Clone, Copy)]
enum Core {
    Accepts,
    Short,
    Refuses(Refusal),
    Silent,
    Gone,
}

type Seen = Arc<Mutex<Vec<(Arc<Publication>, bool)>>>;

/// An internal port whose core is played by a task.
struct Stage {
    api: Rc<Api>,
    ready: Arc<AtomicBool>,
    stats: Arc<CoreStats>,
    published: Seen,
}

/// A configuration with [`RULES`], which only a file can hold.
fn config(dev: bool) -> Config {
    static FILES: AtomicU64 = AtomicU64::new(0);
    let number = FILES.fetch_add(1, Ordering::Relaxed);
    let name = format!("roomcast-api-tests-{}-{number}.toml", std::process::id());
    let file = std::env::temp_dir().join(name);
    std::fs::write(&file, RULES).unwrap();
    let options = LoadOptions { file: Some(file.clone()), dev, ..LoadOptions::default() };
    let config = Config::load(&options);
    std::fs::remove_file(file).unwrap();
    config.unwrap()
}

fn stage(dev: bool, core: Core) -> Stage {
    let config = config(dev);
    let (requests, asked) = mpsc::channel(8);
    let published = Seen::default();
    tokio::spawn(play(core, asked, Arc::clone(&published)));
    let ready = Arc::new(AtomicBool::new(true));
    let stats = Arc::new(CoreStats::default());
    let clock = Clock::new();
    stats.turned_ms.store(clock.now().mono_ms, Ordering::Relaxed);
    stats.show_hub(HubView { health: Some(REACHED), ..HubView::default() });
    let report = LaneReport { turned_ms: clock.now().mono_ms, ..LaneReport::default() };
    let (reports, shown) = watch::channel(report);
    let webhooks = Webhooks::new(&config.webhooks, NodeId(7), clock);
    drop(reports);
    let api = Api::new(ApiParts {
        core: CoreHandle::new(requests, Arc::default()),
        guard: Arc::new(RuleGuard::new(&config, "node").unwrap()),
        clock,
        reports: vec![shown],
        stats: Arc::clone(&stats),
        places: Arc::new(Places::default()),
        relay: Arc::default(),
        rpc: Arc::default(),
        metrics: Metrics::new(1, &Arc::default(), &Arc::from([]), &webhooks).unwrap(),
        webhooks,
        ready: Arc::clone(&ready),
        draining: Arc::default(),
        node: NodeId(7),
        config: ApiConfig {
            groups: true,
            dev,
            broker: config.broker.kind,
            message_bytes_max: MESSAGE_BYTES,
            batch_max: 3,
            batch_bytes_max: 2 * MESSAGE_BYTES,
            decode: DecodeLimits::default(),
            connections_max: 10,
            unauthenticated_max: 10,
        },
    });
    Stage { api, ready, stats, published }
}

async fn play(core: Core, mut asked: mpsc::Receiver<CoreRequest>, published: Seen) {
    let mut unanswered = Vec::new();
    while let Some(request) = asked.recv().await {
        match (request, core) {
            (_, Core::Gone) => return,
            (CoreRequest::Publish(publishing), core) => {
                for Publishing { publication, dedup, answer } in publishing {
                    published.lock().unwrap().push((publication, dedup));
                    match core {
                        Core::Accepts => answer.send(Ok(ACCEPTED)).unwrap(),
                        Core::Short => {
                            answer.send(Ok(Accepted { dedup_short: true, ..ACCEPTED })).unwrap();
                        }
                        Core::Refuses(refusal) => answer.send(Err(refusal.into())).unwrap(),
                        Core::Silent | Core::Gone => unanswered.push(answer),
                    }
                }
            }
            (CoreRequest::History { room, span, answer }, core) => {
                let position = Position { epoch: Epoch(5), offset: 6 };
                let head = Head { position, first: 7 };
                let asked = (room.as_str(), span.from, span.count_max);
                let entries = match asked {
                    ("kept", 7, 2) => Vec::new(),
                    ("$dead", 0, 2) | ("$dead", 2, 1) => vec![dead_letter(room)],
                    _ => panic!("nobody asks for {asked:?}"),
                };
                let page = Page { head, entries, whole: true };
                answer.send(matches!(core, Core::Accepts).then_some(page)).unwrap();
            }
            (CoreRequest::Members { room, answer }, _) => {
                let member = |id| MemberInfo { user: room.as_str().into(), session: SessionId(id) };
                answer.send(vec![member(2), member(1)]).unwrap();
            }
            (CoreRequest::Roster { room, after, count_max, answer }, Core::Accepts) => {
                assert_eq!((room.as_str(), after.as_deref(), count_max), ("é", Some("ann"), 1));
                let version = Position { epoch: Epoch(5), offset: 6 };
                let users = vec!["bob".into()];
                answer.send(Ok(RosterPage { version, count: 3, users, more: true })).unwrap();
            }
            (CoreRequest::Roster { answer, .. }, _) => {
                answer.send(Err(Refusal::Unavailable.into())).unwrap();
            }
            (CoreRequest::Receipts { ask, answer }, Core::Accepts) => {
                let ReceiptsAsk { room, of, after, count_max } = ask;
                assert_eq!(
                    (room.as_str(), of, after.as_deref(), count_max),
                    ("é", Some(5), Some("ann"), 1)
                );
                let marked = Some(Marked { offset: 5, at_unix_ms: 1_705_314_600_000 });
                let receipt = Receipt { user: "bob".into(), delivered: marked, read: None };
                let head = Position { epoch: Epoch(5), offset: 6 };
                let (receipts, next) = (vec![receipt], Some("bob".into()));
                answer.send(Ok(ReceiptsPage { head, version: 7, receipts, next })).unwrap();
            }
            (CoreRequest::Receipts { answer, .. }, _) => {
                answer.send(Err(Refusal::Unavailable.into())).unwrap();
            }
            (CoreRequest::Order { order, timeout_ms, answer }, _) => {
                answer.send(Ok(carried_out(&order, timeout_ms))).unwrap();
            }
            (CoreRequest::SetMember { change, timeout_ms, answer }, _) => {
                let room = change.group;
                let order = Order::Leave(room, Whom::User(change.user));
                answer.send(Ok(carried_out(&order, timeout_ms))).unwrap();
            }
            (CoreRequest::Survey { survey, timeout_ms, answer }, _) => {
                answer.send(Ok(surveyed(&survey, timeout_ms))).unwrap();
            }
            (CoreRequest::Stop { .. }, _) => panic!("nobody stops it"),
        }
    }
}

/// One of a webhook that this node does not have.
fn dead_letter(room: RoomName) -> Kept {
    let json = r#"{"webhook":"told","why":"refused","status":410,"tries":1,"first_unix_ms":1,"last_unix_ms":2,
        "event":{"id":"a","type":"connected","subject":"user:7"}}"#;
    Kept::Publication(Arc::new(Publication {
        kind: "dead_letter".into(),
        position: Some(Position { epoch: Epoch(5), offset: 3 }),
        ..Publication::bare(room, Content::Json(json.into()))
    }))
}

#[tokio::test]
async fn dead_letters_need_a_key_with_their_action_and_are_left_without_their_webhook() {
    let stage = stage(false, Core::Accepts);
    let replay = "/api/v1/webhooks/dead/replay";
    let key = [(header::AUTHORIZATION, NARROW), (header::CONTENT_TYPE, "application/json")];
    for (method, path) in [(Method::GET, "/api/v1/webhooks/dead"), (Method::POST, replay)] {
        let (status, _, answer) = stage.ask(method, path, &key, "").await;
        assert_eq!((status, &answer["code"]), (403, &json!(110)), "{answer}");
    }
    let (_, _, answer) = stage.post(replay, &[], r#"{"ids":[3]}"#).await;
    assert_eq!(answer, json!({"queued": 0, "left": 1}));
}

/// Node 1 has what is asked for, and more; node 2 says nothing.
fn surveyed(survey: &Survey, timeout_ms: u64) -> Surveyed {
    assert_eq!(timeout_ms, 2_000);
    assert_eq!((&*survey.after, survey.count_max), ("b", 1));
    let (key, session) = match &survey.what {
        What::Rooms(prefix) => (format!("{prefix}é"), None),
        What::Sessions(user) => (
            SessionId(7).to_string(),
            Some((user.clone().unwrap_or("ann".into()), "native".into())),
        ),
    };
    let row = SurveyRow { count: 3, nodes: vec![NodeId(1)], session };
    let page = SurveyPage { rows: [(key.into(), row)].into(), cut: true };
    Surveyed { page, unanswered: vec![NodeId(2)] }
}

#[tokio::test]
async fn rooms_and_sessions_of_all_nodes_are_listed_with_where_the_next_page_begins() {
    let stage = stage(false, Core::Accepts);
    let unanswered = json!(["0000000000000002"]);
    let (status, _, answer) =
        stage.call(Method::GET, "/api/v1/rooms?prefix=%C3%A9&after=b&limit=1").await;
    let room = json!({"room": "éé", "members": 3, "nodes": ["0000000000000001"]});
    let page = json!({"rooms": [room], "next": "éé", "unanswered": unanswered});
    assert_eq!((status, answer), (200, page));
    for (path, user) in [("connections", "ann"), ("users/bob/sessions", "bob")] {
        let path = format!("/api/v1/{path}?after=b&limit=1");
        let (status, _, answer) = stage.call(Method::GET, &path).await;
        let session = SessionId(7).to_string();
        let shown = json!({
            "session": session, "user": user, "node": "0000000000000001", "dialect": "native",
            "rooms": 3,
        });
        let list = if user == "ann" { "connections" } else { "sessions" };
        let page = json!({list: [shown], "next": session, "unanswered": unanswered});
        assert_eq!((status, answer), (200, page));
    }
    for wrong in ["limit=0", "limit=101", "limit=x", "timeout=5", "x=1", "prefix=%zz"] {
        let path = format!("/api/v1/rooms?{wrong}");
        assert_eq!(stage.call(Method::GET, &path).await.0, 400, "{wrong}");
    }
    assert_eq!(stage.call(Method::GET, "/api/v1/connections?prefix=a").await.0, 400);
}

/// Node 1 has carried an order out for as many sessions as its user's name is long; node 2 says nothing.
fn carried_out(order: &Order, timeout_ms: u64) -> Ordered {
    assert_eq!(timeout_ms, 5_000);
    let sessions = if let Order::End(Whom::User(user)) = order { user.len() as u64 } else { 1 };
    Ordered {
        accepted: Accepted { level: Level::Stored, ..ACCEPTED },
        nodes: vec![(NodeId(1), Outcome::of(sessions))],
        unanswered: vec![NodeId(2)],
    }
}

impl Stage {
    async fn ask(
        &self,
        method: Method,
        path: &str,
        headers: &[(HeaderName, &str)],
        body: &str,
    ) -> (u16, hyper::HeaderMap, Value) {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(name, *value);
        }
        let body = Full::new(Bytes::copy_from_slice(body.as_bytes()));
        let response = self.api.respond(request.body(body).unwrap()).await;
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        let value = serde_json::from_slice(&bytes)
            .unwrap_or_else(|_| Value::String(String::from_utf8(bytes.to_vec()).unwrap()));
        (parts.status.as_u16(), parts.headers, value)
    }

    /// Publishes with the key.
    async fn publish(&self, body: &str) -> (u16, hyper::HeaderMap, Value) {
        self.post("/api/v1/publish", &[], body).await
    }

    /// Posts with the key, and other headers.
    async fn post(
        &self,
        path: &str,
        more: &[(HeaderName, &str)],
        body: &str,
    ) -> (u16, hyper::HeaderMap, Value) {
        let key = [(header::AUTHORIZATION, KEY), (header::CONTENT_TYPE, "application/json")];
        self.ask(Method::POST, path, &[&key, more].concat(), body).await
    }

    /// Ids and rooms of what was published, and whether the ids are remembered.
    fn published(&self) -> Vec<(String, String, bool)> {
        let published = self.published.lock().unwrap();
        let one = |(it, dedup): &(Arc<Publication>, bool)| {
            (it.room.as_str().to_owned(), it.id.to_string(), *dedup)
        };
        published.iter().map(one).collect()
    }

    /// Asks with the key for what needs no body.
    async fn call(&self, method: Method, path: &str) -> (u16, hyper::HeaderMap, Value) {
        self.ask(method, path, &[(header::AUTHORIZATION, KEY)], "").await
    }

    #[track_caller]
    fn only_published(&self) -> (Arc<Publication>, bool) {
        let published = self.published.lock().unwrap();
        assert_eq!(published.len(), 1);
        published[0].clone()
    }
}

#[tokio::test]
async fn a_publication_reaches_the_core_and_its_answer_the_back_end() {
    let stage = stage(false, Core::Accepts);
    let body = r#"{"room":"alerts","type":"note","data":{"a": 1},"id":"n-1"}"#;
    let (status, headers, answer) = stage.publish(body).await;
    assert_eq!((status, answer), (200, json!({"id": "n-1", "level": "accepted"})));
    assert_eq!(headers[header::CONTENT_TYPE], "application/json");
    assert_eq!(headers[header::CACHE_CONTROL], "no-store");
    let (publication, dedup) = stage.only_published();
    assert_eq!((publication.room.as_str(), &*publication.kind), ("alerts", "note"));
    assert_eq!(*publication.sender, *guard::backend("web").user_key());
    assert!(dedup, "an own id is remembered");
}

#[tokio::test]
async fn a_publication_without_an_id_gets_one_that_nobody_remembers() {
    let stage = stage(false, Core::Accepts);
    let (status, _, answer) =
        stage.publish(r#"{"room":"alerts","type":"note","sender":"7"}"#).await;
    assert_eq!(status, 200);
    let (publication, dedup) = stage.only_published();
    assert_eq!((answer["id"].as_str(), dedup), (Some(&*publication.id), false));
    assert!(uuid::Uuid::parse_str(&publication.id).is_ok());
    assert_eq!(&*publication.sender, "7", "a back-end says for whom it speaks");
}

#[tokio::test]
async fn a_short_memory_for_ids_is_told() {
    let (_, _, answer) =
        stage(false, Core::Short).publish(r#"{"room":"alerts","type":"note","id":"n"}"#).await;
    assert_eq!(answer, json!({"id": "n", "level": "accepted", "dedup": "short"}));
}

#[tokio::test]
async fn what_may_not_be_published_is_refused_before_the_core_hears_of_it() {
    let stage = stage(false, Core::Accepts);
    for (body, status, code) in [
        ("{", 400, 100),
        ("[]", 400, 102),
        (r#"{"room":"alerts","type":"welcome"}"#, 400, 101),
        (r#"{"room":"alerts","type":"note","metadata":{"ttl":0}}"#, 400, 102),
        (r#"{"room":"typed","type":"three"}"#, 400, 102),
        (r#"{"room":"a b","type":"note"}"#, 400, 104),
        (r#"{"room":"$control","type":"note"}"#, 400, 104),
        (r#"{"room":"closed","type":"note"}"#, 403, 110),
        (r#"{"room":"no-rule-for-it","type":"note"}"#, 403, 110),
    ] {
        let (found, headers, answer) = stage.publish(body).await;
        assert_eq!((found, &answer["code"]), (status, &json!(code)), "{body}: {answer}");
        assert_eq!(headers[header::CONTENT_TYPE], "application/problem+json");
    }
    assert_eq!(stage.publish(r#"{"room":"typed","type":"two"}"#).await.0, 200);
    stage.only_published();
}

#[tokio::test]
async fn a_denial_does_not_tell_whether_the_room_exists() {
    let stage = stage(false, Core::Accepts);
    let closed = stage.publish(r#"{"room":"closed","type":"note"}"#).await;
    let absent = stage.publish(r#"{"room":"no-rule-for-it","type":"note"}"#).await;
    assert_eq!(closed, absent);
    assert_eq!(closed.2["detail"], "Permission denied");
}

#[tokio::test]
async fn the_largest_body_is_taken_and_one_byte_more_is_refused() {
    let stage = stage(false, Core::Accepts);
    let body = |size: usize| {
        let text = r#"{"room":"alerts","type":"note","data":""}"#;
        text.replace("\"\"", &format!("\"{}\"", "x".repeat(size - text.len())))
    };
    assert_eq!(stage.publish(&body(MESSAGE_BYTES)).await.0, 200);
    let (status, headers, answer) = stage.publish(&body(MESSAGE_BYTES + 1)).await;
    assert_eq!((status, &answer["code"]), (413, &json!(103)));
    assert_eq!((&answer["limit"], &answer["value"]), (&json!("message_bytes"), &json!(1_000)));
    assert_eq!(headers[header::CONNECTION], "close");
}

#[tokio::test]
async fn the_brokers_refusals_have_their_status() {
    for (refusal, status, retry_after) in
        [(Refusal::Duplicate, 409, None), (Refusal::Unavailable, 503, Some("1"))]
    {
        let stage = stage(false, Core::Refuses(refusal));
        let (found, headers, answer) =
            stage.publish(r#"{"room":"alerts","type":"note","id":"n"}"#).await;
        assert_eq!((found, &answer["name"]), (status, &json!(refusal.row().name)));
        let shown = headers.get(header::RETRY_AFTER).map(|value| value.to_str().unwrap());
        assert_eq!(shown, retry_after);
    }
}

#[tokio::test]
async fn an_outcome_that_nobody_knows_is_no_refusal() {
    let body = r#"{"room":"alerts","type":"note","id":"n"}"#;
    let silent = stage(false, Core::Silent);
    let (status, _, answer) = silent.publish(body).await;
    assert_eq!((status, &answer["outcome"]), (504, &json!("unknown")));
    let stopping = stage(false, Core::Gone);
    stopping.ready.store(false, Ordering::Release);
    let (status, _, answer) = stopping.publish(body).await;
    assert_eq!((status, &answer["outcome"]), (504, &json!("unknown")));
}

#[tokio::test]
async fn without_a_good_key_nothing_below_api_is_told() {
    let stage = stage(false, Core::Accepts);
    let mut answers = BTreeSet::new();
    for path in ["/api", "/api/v1/publish", "/api/v1/rooms/alerts/members", "/api/v2/what"] {
        for key in ["", "Bearer wrong", "Basic eDp5", "Bearer "] {
            let headers = [(header::AUTHORIZATION, key), (header::HOST, "127.0.0.1")];
            let (status, headers, answer) = stage.ask(Method::POST, path, &headers, "").await;
            assert_eq!(status, 401, "{path} {key}");
            assert_eq!(headers[header::WWW_AUTHENTICATE], "Bearer realm=\"roomcast\"");
            answers.insert(answer.to_string());
        }
    }
    assert_eq!(answers.len(), 1, "all say the same: {answers:?}");
    assert_eq!(stage.call(Method::GET, "/api/v2/what").await.0, 404);
    assert_eq!(stage.call(Method::GET, "/api/v1/publish").await.0, 405);
    assert!(stage.published.lock().unwrap().is_empty());
}

#[tokio::test]
async fn in_development_this_machine_needs_no_key_and_others_get_nothing() {
    let stage = stage(true, Core::Accepts);
    let json = (header::CONTENT_TYPE, "application/json");
    let body = r#"{"room":"alerts","type":"note"}"#;
    for (host, origin, status) in [
        ("127.0.0.1:9090", None, 200),
        ("localhost", Some("http://localhost:8080"), 200),
        ("evil.example:9090", None, 403),
        ("127.0.0.1:9090", Some("http://evil.example"), 403),
    ] {
        let mut headers = vec![json.clone(), (header::HOST, host)];
        headers.extend(origin.map(|origin| (header::ORIGIN, origin)));
        let (found, _, _) = stage.ask(Method::POST, "/api/v1/publish", &headers, body).await;
        assert_eq!(found, status, "{host} {origin:?}");
    }
    assert_eq!(stage.ask(Method::POST, "/api/v1/publish", &[json], body).await.0, 403, "no Host");
}

#[tokio::test]
async fn members_come_a_page_at_a_time() {
    let stage = stage(false, Core::Accepts);
    let (status, _, answer) = stage.call(Method::GET, "/api/v1/rooms/%C3%A9/members?limit=1").await;
    let session = format!("{:032x}", 1);
    let members = json!([{"user": "é", "session": session}]);
    assert_eq!((status, answer), (200, json!({"members": members, "next": session})));
    let next = format!("/api/v1/rooms/%C3%A9/members?cursor={session}");
    let (_, _, answer) = stage.call(Method::GET, &next).await;
    let rest = json!({"members": [{"user": "é", "session": format!("{:032x}", 2)}]});
    assert_eq!(answer, rest);
    for path in ["/api/v1/rooms/$control/members", "/api/v1/rooms/a%20b/members"] {
        let (status, _, answer) = stage.call(Method::GET, path).await;
        assert_eq!((status, &answer["name"]), (400, &json!("bad_name")), "{path}");
    }
    assert_eq!(stage.call(Method::GET, "/api/v1/rooms/a/members?limit=0").await.0, 400);
}

#[tokio::test]
async fn disconnecting_a_user_says_how_many_sessions_ended() {
    let stage = stage(false, Core::Accepts);
    let (status, _, answer) = stage.call(Method::POST, "/api/v1/users/a%3A7/disconnect").await;
    let carried = json!({
        "disconnected": 3,
        "level": "stored",
        "nodes": [{"node": "0000000000000001", "sessions": 3}],
        "unanswered": ["0000000000000002"],
    });
    assert_eq!((status, answer), (200, carried));
    let headers = [(header::AUTHORIZATION, KEY), (header::CONTENT_TYPE, "application/json")];
    let path = "/api/v1/users/7/disconnect";
    assert_eq!(stage.ask(Method::POST, path, &headers, "{}").await.0, 200);
    assert_eq!(stage.ask(Method::POST, path, &headers, "{\"a\":1}").await.0, 400);
}

#[tokio::test]
async fn users_of_all_nodes_come_a_page_at_a_time() {
    let stage = stage(false, Core::Accepts);
    let path = "/api/v1/rooms/%C3%A9/presence?limit=1&after=ann";
    let (status, _, answer) = stage.call(Method::GET, path).await;
    let version = json!({"epoch": format!("{:032x}", 5), "offset": 6});
    let expected = json!({"count": 3, "users": ["bob"], "version": version, "next": "bob"});
    assert_eq!((status, answer), (200, expected));
    for path in ["/api/v1/rooms/$control/presence", "/api/v1/rooms/a/presence?limit=0"] {
        assert_eq!(stage.call(Method::GET, path).await.0, 400, "{path}");
    }
}

#[tokio::test]
async fn receipts_of_a_room_come_a_page_at_a_time() {
    let ready = stage(false, Core::Accepts);
    let path = "/api/v1/rooms/%C3%A9/receipts?limit=1&after=ann&of=5";
    let (status, _, answer) = ready.call(Method::GET, path).await;
    let delivered = json!({"offset": 5, "at": "2024-01-15T10:30:00.000Z"});
    let expected = json!({
        "receipts": [{"user": "bob", "delivered": delivered}],
        "head": {"epoch": format!("{:032x}", 5), "offset": 6},
        "version": 7,
        "next": "bob",
    });
    assert_eq!((status, answer), (200, expected));
    for path in ["/api/v1/rooms/$control/receipts", "/api/v1/rooms/a/receipts?of=0"] {
        assert_eq!(ready.call(Method::GET, path).await.0, 400, "{path}");
    }
    let short = stage(false, Core::Short);
    let (status, _, answer) = short.call(Method::GET, "/api/v1/rooms/a/receipts").await;
    assert_eq!((status, &answer["code"], &answer["retry"]), (503, &json!(130), &json!(true)));
}

#[tokio::test]
async fn a_roster_that_nobody_knows_is_asked_for_later() {
    let stage = stage(false, Core::Short);
    let (status, _, answer) = stage.call(Method::GET, "/api/v1/rooms/a/presence").await;
    assert_eq!((status, &answer["code"], &answer["retry"]), (503, &json!(130), &json!(true)));
}

#[tokio::test]
async fn a_core_that_is_gone_has_no_members_to_tell_and_perhaps_disconnected() {
    let gone = stage(false, Core::Gone);
    let (status, headers, answer) = gone.call(Method::GET, "/api/v1/rooms/agents/members").await;
    assert_eq!((status, &answer["code"]), (503, &json!(130)));
    assert_eq!(headers[header::RETRY_AFTER], "1");
    let gone = stage(false, Core::Gone);
    let (status, _, answer) = gone.call(Method::POST, "/api/v1/users/7/disconnect").await;
    assert_eq!((status, &answer["outcome"]), (504, &json!("unknown")));
}

#[tokio::test]
async fn figures_and_health_need_no_key() {
    let stage = stage(false, Core::Accepts);
    stage.publish(r#"{"room":"closed","type":"note"}"#).await;
    let (status, headers, figures) = stage.ask(Method::GET, "/metrics", &[], "").await;
    assert_eq!(
        (status, &headers[header::CONTENT_TYPE]),
        (200, &prometheus::TEXT_FORMAT.parse().unwrap())
    );
    for line in [
        "roomcast_refusals_sent_total{code=\"permission_denied\"} 1\n",
        "roomcast_api_answers_total{class=\"client_error\",endpoint=\"publish\"} 1\n",
        "roomcast_node_ready 1\n",
    ] {
        assert!(figures.as_str().unwrap().contains(line), "{line} in {figures}");
    }
    let (status, _, livez) = stage.ask(Method::GET, "/livez", &[], "").await;
    assert_eq!((status, livez), (200, json!({"status": "live"})));
    let (status, _, readyz) = stage.ask(Method::HEAD, "/readyz", &[], "").await;
    assert_eq!((status, &readyz["status"]), (200, &json!("ready")));
    let never = HubHealth { reached: false, relay: RelayState::Isolated, ..REACHED };
    stage.stats.show_hub(HubView { health: Some(never), ..HubView::default() });
    let (status, _, readyz) = stage.ask(Method::GET, "/readyz", &[], "").await;
    assert_eq!((status, &readyz["broker"]["state"]), (503, &json!("isolated")));
    let (_, _, figures) = stage.ask(Method::GET, "/metrics", &[], "").await;
    assert!(figures.as_str().unwrap().contains("roomcast_node_ready 0\n"));
    let away = HubHealth { reached: true, ..never };
    stage.stats.show_hub(HubView { health: Some(away), ..HubView::default() });
    assert_eq!(stage.ask(Method::GET, "/readyz", &[], "").await.0, 200);
    stage.ready.store(false, Ordering::Release);
    let (status, _, readyz) = stage.ask(Method::GET, "/readyz", &[], "").await;
    assert_eq!((status, &readyz["status"]), (503, &json!("not_ready")));
}

/// Serves the stage on a socket while `client` talks to it.
async fn on_a_socket<C: Future<Output = ()>>(stage: Stage, client: impl FnOnce(TcpStream) -> C) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let local = tokio::task::LocalSet::new();
    let talk = async {
        let serving = tokio::task::spawn_local(serve(listener, stage.api));
        let stream = TcpStream::connect(address).await.unwrap();
        tokio::time::timeout(Duration::from_secs(20), client(stream)).await.unwrap();
        serving.abort();
    };
    local.run_until(talk).await;
}

/// Sends bytes and reads until the server hangs up.
async fn answer_to(mut stream: TcpStream, bytes: &[u8]) -> String {
    stream.write_all(bytes).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn a_connection_serves_one_request_after_the_other() {
    on_a_socket(stage(false, Core::Accepts), |stream| async {
        let twice = b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\nHEAD /readyz HTTP/1.1\r\nhost: x\r\n\
                      connection: close\r\n\r\n";
        let answer = answer_to(stream, twice).await;
        assert_eq!(answer.matches("HTTP/1.1 200 OK").count(), 2, "{answer}");
        assert!(answer.ends_with("\r\n\r\n"), "HEAD has no body: {answer}");
    })
    .await;
}

#[tokio::test]
async fn a_body_over_the_limit_is_answered_although_its_sender_goes_on() {
    on_a_socket(stage(false, Core::Accepts), |stream| async {
        let size = 400_000;
        let mut request = format!(
            "POST /api/v1/publish HTTP/1.1\r\nhost: x\r\nauthorization: {KEY}\r\n\
             content-type: application/json\r\ncontent-length: {size}\r\n\r\n"
        );
        request.push_str(&"x".repeat(size));
        let answer = answer_to(stream, request.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
        assert!(answer.contains("\"limit\":\"message_bytes\""), "{answer}");
    })
    .await;
}

#[tokio::test]
async fn a_request_of_two_lengths_is_the_last_of_its_connection() {
    on_a_socket(stage(false, Core::Accepts), |stream| async {
        let smuggled = format!(
            "POST /api/v1/publish HTTP/1.1\r\nhost: x\r\nauthorization: {KEY}\r\n\
             content-type: application/json\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n\
             0\r\n\r\nGET /livez HTTP/1.1\r\nhost: x\r\n\r\n"
        );
        let answer = answer_to(stream, smuggled.as_bytes()).await;
        assert_eq!(answer.matches("HTTP/1.1").count(), 1, "{answer}");
        assert!(answer.starts_with("HTTP/1.1 400 "), "an empty body is no JSON: {answer}");
    })
    .await;
}

#[tokio::test]
async fn malformed_and_endless_heads_are_refused() {
    for (head, status) in [
        ("GET /livez HTTP/1.1\r\nhost x\r\n\r\n".to_owned(), "400"),
        (format!("GET /livez HTTP/1.1\r\nhost: x\r\n{}\r\n", "a: b\r\n".repeat(64)), "431"),
        (format!("GET /livez HTTP/1.1\r\nhost: x\r\na: {}\r\n\r\n", "b".repeat(17_000)), "431"),
        (
            "POST /api/v1/publish HTTP/1.1\r\nhost: x\r\ncontent-length: -1\r\n\r\n".to_owned(),
            "400",
        ),
    ] {
        on_a_socket(stage(false, Core::Accepts), |stream| async move {
            let answer = answer_to(stream, head.as_bytes()).await;
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{status}: {answer}");
        })
        .await;
    }
}

#[tokio::test]
async fn a_head_that_never_ends_is_given_up_after_five_seconds() {
    on_a_socket(stage(false, Core::Accepts), |mut stream| async move {
        let begun = std::time::Instant::now();
        stream.write_all(b"GET /livez HTTP/1.1\r\nhost: ").await.unwrap();
        let mut answer = Vec::new();
        let ended = stream.read_to_end(&mut answer).await;
        assert!(ended.is_err() || answer.is_empty() || answer.starts_with(b"HTTP/1.1 408"));
        assert!(begun.elapsed() >= Duration::from_secs(4), "{:?}", begun.elapsed());
    })
    .await;
}

const IDEMPOTENT: HeaderName = HeaderName::from_static("idempotency-key");

#[tokio::test]
async fn a_batch_is_answered_one_by_one_in_order() {
    let stage = stage(false, Core::Accepts);
    let body = r#"{"publications":[
        {"room":"alerts","type":"note","id":"a"},
        {"room":"closed","type":"note","id":"b"},
        {"room":"alerts","type":"note","id":"c"}]}"#;
    let (status, _, answer) = stage.post("/api/v1/batch", &[], body).await;
    let done = |id: &str| json!({"status": 200, "id": id, "level": "accepted"});
    let results = answer["results"].as_array().unwrap();
    assert_eq!((status, results.len()), (200, 3));
    assert_eq!((&results[0], &results[2]), (&done("a"), &done("c")));
    assert_eq!((&results[1]["status"], &results[1]["code"]), (&json!(403), &json!(110)));
    let one = |id: &str| ("alerts".to_owned(), id.to_owned(), true);
    assert_eq!(stage.published(), [one("a"), one("c")]);
}

#[tokio::test]
async fn a_batch_that_nobody_answers_has_an_unknown_outcome_for_each() {
    let body = r#"{"publications":[{"room":"alerts","type":"a"},{"room":"alerts","type":"b"}]}"#;
    let (status, _, answer) = stage(false, Core::Gone).post("/api/v1/batch", &[], body).await;
    let outcomes: Vec<_> =
        answer["results"].as_array().unwrap().iter().map(|it| it["outcome"].clone()).collect();
    assert_eq!((status, outcomes), (200, vec![json!("unknown"); 2]));
}

#[tokio::test]
async fn the_largest_batch_is_taken_and_one_more_refused() {
    let stage = stage(false, Core::Accepts);
    let of = |count| {
        let all = vec![r#"{"room":"alerts","type":"note"}"#; count].join(",");
        format!(r#"{{"publications":[{all}]}}"#)
    };
    assert_eq!(stage.post("/api/v1/batch", &[], &of(3)).await.0, 200);
    let (status, _, answer) = stage.post("/api/v1/batch", &[], &of(4)).await;
    assert_eq!((status, &answer["limit"]), (413, &json!("api_batch")));
    let padded = |size: usize| format!("{}{}", of(1), " ".repeat(size - of(1).len()));
    assert_eq!(stage.post("/api/v1/batch", &[], &padded(2 * MESSAGE_BYTES)).await.0, 200);
    let (status, _, answer) =
        stage.post("/api/v1/batch", &[], &padded(2 * MESSAGE_BYTES + 1)).await;
    assert_eq!((status, &answer["limit"]), (413, &json!("api_batch_bytes")));
}

#[tokio::test]
async fn a_broadcast_goes_to_each_room_that_takes_it() {
    let stage = stage(false, Core::Accepts);
    let body = r#"{"rooms":["alerts","a b","system"],"type":"note","data":{"a":1},"id":"n"}"#;
    let (status, _, answer) = stage.post("/api/v1/broadcast", &[], body).await;
    let done = |room: &str| json!({"room": room, "status": 200, "id": "n", "level": "accepted"});
    let results = answer["results"].as_array().unwrap();
    assert_eq!((status, results.len()), (200, 3));
    assert_eq!((&results[0], &results[2]), (&done("alerts"), &done("system")));
    assert_eq!((&results[1]["room"], &results[1]["code"]), (&json!("a b"), &json!(104)));
    assert_eq!(stage.published().len(), 2);
}

#[tokio::test]
async fn an_idempotency_key_is_the_id_of_what_has_none() {
    let stage = stage(false, Core::Accepts);
    let key = [(IDEMPOTENT, "\"order-7\"")];
    let note = r#"{"room":"alerts","type":"note"}"#;
    let own = r#"{"room":"alerts","type":"note","id":"own"}"#;
    stage.post("/api/v1/publish", &key, note).await;
    stage.post("/api/v1/publish", &key, own).await;
    stage.post("/api/v1/batch", &key, &format!(r#"{{"publications":[{own},{note}]}}"#)).await;
    let rooms = r#"{"rooms":["alerts","system"],"type":"note"}"#;
    stage.post("/api/v1/broadcast", &key, rooms).await;
    let ids: Vec<_> = stage.published().into_iter().map(|(_, id, dedup)| (id, dedup)).collect();
    let expected = ["order-7", "own", "own", "order-7/1", "order-7/0", "order-7/1"];
    assert_eq!(ids, expected.map(|id| (id.to_owned(), true)));
    let (status, _, answer) = stage.post("/api/v1/publish", &[(IDEMPOTENT, "a b")], note).await;
    assert_eq!((status, &answer["code"]), (400, &json!(102)));
}

#[tokio::test]
async fn history_is_read_from_the_broker() {
    let path = "/api/v1/rooms/kept/history?from=7&limit=2";
    let (status, _, answer) = stage(false, Core::Accepts).call(Method::GET, path).await;
    let epoch = format!("{:032x}", 5);
    let expected = json!({"epoch": epoch, "offset": 6, "first": 7, "publications": []});
    assert_eq!((status, answer), (200, expected));
    let away = stage(false, Core::Short);
    assert_eq!(away.call(Method::GET, path).await.0, 503);
    for room in ["alerts", "no-rule-for-it"] {
        let (status, _, answer) =
            away.call(Method::GET, &format!("/api/v1/rooms/{room}/history")).await;
        assert_eq!((status, &answer["code"]), (400, &json!(102)), "{room}");
    }
}

#[tokio::test]
async fn a_key_is_good_for_its_actions_and_rooms_alone() {
    let stage = stage(false, Core::Accepts);
    let key = [(header::AUTHORIZATION, NARROW), (header::CONTENT_TYPE, "application/json")];
    let note = |room: &str| format!(r#"{{"room":"{room}","type":"note"}}"#);
    for (method, path, body, status) in [
        (Method::POST, "/api/v1/publish", note("alerts"), 200),
        (Method::POST, "/api/v1/publish", note("system"), 403),
        (Method::GET, "/api/v1/rooms/kept/history?from=7&limit=2", String::new(), 200),
        (Method::GET, "/api/v1/rooms/agents/history", String::new(), 403),
        (Method::GET, "/api/v1/rooms/alerts/members", String::new(), 403),
        (Method::GET, "/api/v1/rooms/alerts/presence", String::new(), 403),
        (Method::GET, "/api/v1/rooms/alerts/receipts", String::new(), 403),
        (Method::POST, "/api/v1/users/7/disconnect", String::new(), 403),
    ] {
        let (found, _, answer) = stage.ask(method, path, &key, &body).await;
        assert_eq!(found, status, "{path} {body}: {answer}");
        assert!(status == 200 || answer["code"] == 110, "{answer}");
    }
    let members = stage.ask(Method::GET, "/api/v1/rooms/a/members", &key, "").await.2;
    assert_eq!(members["detail"], "This key's `actions` do not have \"members\"");
    let body = format!(r#"{{"publications":[{},{}]}}"#, note("alerts"), note("system"));
    let (_, _, answer) = stage.ask(Method::POST, "/api/v1/batch", &key, &body).await;
    let statuses = [&answer["results"][0]["status"], &answer["results"][1]["status"]];
    assert_eq!(statuses, [&json!(200), &json!(403)]);
}

#[tokio::test]
async fn a_room_out_of_a_keys_reach_looks_like_one_that_it_may_not_use() {
    let stage = stage(false, Core::Accepts);
    let key = [(header::AUTHORIZATION, NARROW), (header::CONTENT_TYPE, "application/json")];
    let note = |room: &str| format!(r#"{{"room":"{room}","type":"note"}}"#);
    let out = stage.ask(Method::POST, "/api/v1/publish", &key, &note("system")).await;
    let closed = stage.ask(Method::POST, "/api/v1/publish", &key, &note("closed")).await;
    assert_eq!(out, closed);
}

#[tokio::test]
async fn what_nobody_can_ever_know_is_not_waited_for() {
    let stage = stage(false, Core::Accepts);
    for (room, wait, status) in [
        ("alerts", "stored", 400),
        ("kept", "stored", 200),
        ("kept", "delivered", 400),
        ("talk", "acked", 400),
        ("talk", "read", 400),
    ] {
        let path = format!("/api/v1/publish?wait={wait}");
        let body = format!(r#"{{"room":"{room}","type":"note"}}"#);
        assert_eq!(stage.post(&path, &[], &body).await.0, status, "{room} {wait}");
    }
    // Refused before anything was published.
    assert_eq!(stage.published().len(), 1);
}

#[tokio::test]
async fn a_level_that_was_not_reached_is_told_as_not_met() {
    let stage = stage(false, Core::Accepts);
    let path = "/api/v1/publish?wait=stored";
    let answer = stage.post(path, &[], r#"{"room":"kept","type":"note","id":"n"}"#).await.2;
    let expected = json!({"id": "n", "level": "accepted", "waited": "stored", "met": false});
    assert_eq!(answer, expected);
}

/// A request that a row answers with 200 where the core accepts: its query and body.
fn sample(id: &str) -> (&'static str, &'static str, &'static str) {
    match id {
        "metrics" | "livez" | "readyz" | "openapi" => ("", "", ""),
        "publish" => ("", "", r#"{"room":"alerts","type":"note"}"#),
        "batch" => ("", "", r#"{"publications":[{"room":"alerts","type":"note"},{"room":"a b"}]}"#),
        "broadcast" => ("", "", r#"{"rooms":["alerts","closed"],"type":"note"}"#),
        "history" => ("kept", "?from=7&limit=2", ""),
        "members" => ("agents", "", ""),
        "presence" => ("%C3%A9", "?limit=1&after=ann", ""),
        "receipts" => ("%C3%A9", "?of=5&limit=1&after=ann", ""),
        "rooms" | "connections" => ("", "?after=b&limit=1", ""),
        "sessions" => ("7", "?after=b&limit=1", ""),
        "disconnect" => ("7", "", ""),
        "end_session" => ("000000000000000000000000000000a1", "", ""),
        "revoke_user" => ("7", "", r#"{"before":1}"#),
        "revoke" => ("", "", r#"{"jti":"t"}"#),
        "subscribe" | "unsubscribe" => ("agents", "", r#"{"user":"7"}"#),
        "set_member" => ("team", "", r#"{"role":"owner"}"#),
        "remove_member" => ("team", "", ""),
        "dead_letters" => ("", "?after=0&limit=2", ""),
        "replay" => ("", "", r#"{"ids":[3]}"#),
        other => panic!("no sample for {other}"),
    }
}

/// What the document says of a row's answers.
fn responses<'d>(document: &'d Value, row: &table::Row) -> &'d Value {
    let verb = row.verb.name().to_ascii_lowercase();
    &document["paths"][row.path][verb]["responses"]
}

#[tokio::test]
async fn every_row_is_answered_as_the_document_says() {
    let good = stage(false, Core::Accepts);
    let document = good.call(Method::GET, "/api/v1/openapi.json").await.2;
    let key = [(header::AUTHORIZATION, KEY), (header::CONTENT_TYPE, "application/json")];
    for row in table::ROWS {
        let (name, query, body) = sample(row.id);
        let method = Method::from_bytes(row.verb.name().as_bytes()).unwrap();
        let (before, after) = row.path.split_once('{').unwrap_or((row.path, ""));
        let after = after.split_once('}').map_or("", |(_, after)| after).replace("{user}", "7");
        let path = format!("{before}{name}{after}{query}");
        let responses = responses(&document, row);
        let (status, headers, answer) = good.ask(method.clone(), &path, &key, body).await;
        assert_eq!(status, 200, "{path}: {answer}");
        match row.answer {
            Some(_) => {
                let schema = &responses["200"]["content"]["application/json"]["schema"];
                openapi::tests::check(&document, schema, &answer, row.id);
            }
            None => assert!(headers[header::CONTENT_TYPE].to_str().unwrap().starts_with("text/")),
        }
        let refusals = [Core::Refuses(Refusal::Unavailable), Core::Refuses(Refusal::Duplicate)];
        for core in refusals {
            let (status, _, answer) =
                stage(false, core).ask(method.clone(), &path, &key, body).await;
            if status != 200 {
                told(&document, responses, status, &answer, row.id);
            }
        }
        if row.path.starts_with("/api/") {
            let (status, _, answer) = good.ask(method.clone(), &path, &key[1..], body).await;
            assert_eq!(status, 401);
            told(&document, responses, status, &answer, row.id);
            let wrong = format!("{before}{name}{after}?no=1");
            let (status, _, answer) = good.ask(method.clone(), &wrong, &key, body).await;
            if status != 200 {
                told(&document, responses, status, &answer, row.id);
            }
        }
    }
}

/// A problem whose status the document tells of.
#[track_caller]
fn told(document: &Value, responses: &Value, status: u16, answer: &Value, id: &str) {
    let response = &responses[status.to_string()];
    let schema = &response["content"]["application/problem+json"]["schema"];
    assert!(schema.is_object(), "{id} does not tell of {status}");
    openapi::tests::check(document, schema, answer, id);
}

#[tokio::test]
async fn a_list_shows_the_rooms_within_reach_alone() {
    let stage = stage(false, Core::Accepts);
    let path = "/api/v1/rooms?after=b&limit=1";
    let all = stage.call(Method::GET, path).await.2;
    let key = [(header::AUTHORIZATION, "Bearer the key that reaches one room, long enough")];
    let (status, _, reached) = stage.ask(Method::GET, path, &key, "").await;
    assert_eq!(all["rooms"].as_array().unwrap().len(), 1);
    assert_eq!((status, &reached["rooms"]), (200, &json!([])));
    // The next page may have some.
    assert_eq!(reached["next"], all["next"]);
}
