//! Webhooks of real nodes: a small application that fails and comes back, dead letters on both brokers, the node's end.

#[allow(dead_code, unreachable_pub, reason = "shared with the tests of whole nodes")]
#[path = "../../tests/common/application.rs"]
mod application;
#[allow(unreachable_pub, reason = "shared with the tests of whole nodes")]
#[path = "../../tests/common/http.rs"]
mod http;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use roomcast_broker::MemoryBroker;
use roomcast_protocol::codes::Refusal;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use xtask::servers::Redis;

use self::application::{Application, Called, Reply};
use super::*;
use crate::config::{Config, LoadOptions};
use crate::node::Node;

/// How long one thing may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

const OK: (u16, String) = (200, String::new());

fn failing(status: u16) -> (u16, String) {
    (status, String::new())
}

/// A node whose one webhook tells the application, with more lines for its call and itself.
fn config(app: &Application, call: &str, hook: &str, sets: &[(&str, &str)]) -> Config {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let text = format!(
        "[[upstream.targets]]\nname = \"app\"\nurl = \"{}\"\nsecret = \"a secret of the application\"\n\
         [[upstream.calls]]\nname = \"told\"\ntarget = \"app\"\npath = \"/told\"\n{call}\n\
         [[webhooks]]\ncall = \"told\"\n{hook}\n",
        app.url()
    );
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let file = std::env::temp_dir().join(format!("webhooks-{}-{count}.toml", std::process::id()));
    std::fs::write(&file, text).unwrap();
    let fixed =
        [("listen.public", "127.0.0.1:0"), ("listen.internal", "127.0.0.1:0"), ("node.lanes", "1")];
    let overrides = fixed.iter().chain(sets).map(|(key, value)| ((*key).into(), (*value).into()));
    let options = LoadOptions {
        file: Some(file.clone()),
        overrides: overrides.collect(),
        dev: true,
        ..LoadOptions::default()
    };
    let loaded = Config::load(&options);
    std::fs::remove_file(file).unwrap();
    loaded.unwrap()
}

#[track_caller]
fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < PATIENCE, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn event(id: &str, subject: &str) -> Event {
    Event {
        id: id.into(),
        kind: EventKind::Connected,
        subject: Subject::User(subject.into()),
        unix_ms: 1_700_000_000_000,
        data: RawValue::from_string(r#"{"resumed":false}"#.to_owned()).unwrap(),
        kept: false,
        done: None,
    }
}

/// Tells a node of an event; counts it once it is done.
fn tell(node: &Node, id: &str, subject: &str, done: &Arc<AtomicUsize>) {
    let done = Arc::clone(done);
    let note: event::Done = Box::new(move || {
        done.fetch_add(1, Ordering::SeqCst);
    });
    node.webhooks.tell(Event { done: Some(note), ..event(id, subject) });
}

/// Dead letters as this node lists them.
fn dead(node: &Node) -> Vec<Value> {
    dead_by(node, 2)
}

/// The same, so many at a time.
fn dead_by(node: &Node, limit: usize) -> Vec<Value> {
    let (mut all, mut after) = (Vec::new(), json!(0));
    loop {
        let path = format!("/api/v1/webhooks/dead?limit={limit}&after={after}");
        let (status, answer) = http::request(node.internal_addr(), "GET", &path, "");
        if status == 503 {
            std::thread::sleep(Duration::from_millis(50));
            continue;
        }
        assert_eq!(status, 200, "{answer}");
        let page: Value = serde_json::from_str(&answer).unwrap();
        let rows = page["dead"].as_array().unwrap();
        assert!(rows.len() <= limit);
        all.extend(rows.iter().cloned());
        match page.get("next") {
            Some(next) => after = next.clone(),
            None => return all,
        }
    }
}

fn ids_of(dead: &[Value]) -> Vec<&str> {
    dead.iter().map(|letter| letter["event"]["id"].as_str().unwrap()).collect()
}

fn replay(node: &Node, body: &str) -> Value {
    let path = "/api/v1/webhooks/dead/replay";
    let (status, answer) = http::request(node.internal_addr(), "POST", path, body);
    assert_eq!(status, 200, "{answer}");
    serde_json::from_str(&answer).unwrap()
}

fn figures(node: &Node) -> Figures {
    node.webhooks.figures().kinds[EventKind::Connected as usize]
}

fn is_idle(node: &Node) -> bool {
    node.webhooks.are_idle()
}

fn id_of(called: &Called) -> String {
    called.body["id"].as_str().unwrap().to_owned()
}

#[test]
fn the_application_is_sent_what_happened_signed() {
    let app = Application::start(|_| OK);
    let node = Node::start(&config(&app, "", "", &[])).unwrap();
    let done = Arc::default();
    tell(&node, "a1", "ann", &done);
    until("it was told", || done.load(Ordering::SeqCst) == 1);
    let [called] = &*app.called() else { panic!("called once") };
    let expected = json!({
        "id": "a1",
        "type": "connected",
        "time": "2023-11-14T22:13:20.000Z",
        "subject": "user:ann",
        "node": node.id().to_string(),
        "data": {"resumed": false},
    });
    assert_eq!((&*called.path, &called.body), ("/told", &expected));
    assert!(called.head.contains("roomcast-signature: v1="), "{}", called.head);
    assert!(called.head.contains("roomcast-timestamp: "), "{}", called.head);
    let expected = Figures { delivered: 1, ..Figures::default() };
    assert_eq!(figures(&node), expected);
}

#[test]
fn what_no_webhook_wants_is_done_at_once_and_goes_nowhere() {
    let app = Application::start(|_| OK);
    let node = Node::start(&config(&app, "", "events = [\"vacated\"]", &[])).unwrap();
    let done = Arc::default();
    tell(&node, "a1", "ann", &done);
    assert_eq!(done.load(Ordering::SeqCst), 1);
    node.webhooks.tell(Event { kind: EventKind::Vacated, ..event("a2", "ann") });
    until("the other was told", || !app.called().is_empty());
    assert_eq!(id_of(&app.called()[0]), "a2");
}

/// The application is away for a while, so that the breaker opens, and fails at times: everything arrives, and in order.
#[test]
fn an_application_that_fails_for_a_while_is_told_all_in_order() {
    let count = AtomicUsize::new(0);
    let mut app = Application::start(move |_| {
        let count = count.fetch_add(1, Ordering::SeqCst);
        if count % 5 == 2 { failing(503) } else { OK }
    });
    app.stop();
    let call = "breaker_failures = 3\nbreaker_open = \"100ms\"\nconcurrency = 4";
    let node = Node::start(&config(&app, call, "", &[])).unwrap();
    let done = Arc::default();
    let subjects = ["ann", "bob", "cat", "dan", "eve", "fay"];
    for number in 0..10 {
        for subject in subjects {
            tell(&node, &format!("{subject}-{number}"), subject, &done);
        }
    }
    until("some tries failed", || figures(&node).failed > 0);
    until("the breaker opened", || {
        let metrics = http::request(node.internal_addr(), "GET", "/metrics", "").1;
        metrics.contains("roomcast_node_upstream_open{call=\"told\"} 1")
    });
    assert_eq!(figures(&node).waiting, 60);
    app.come_back();
    until("all was told", || done.load(Ordering::SeqCst) == 60);
    let mut told: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (at, called) in app.called().iter().enumerate() {
        if at % 5 != 2 {
            let subject = called.body["subject"].as_str().unwrap().to_owned();
            told.entry(subject).or_default().push(id_of(called));
        }
    }
    for subject in subjects {
        let expected: Vec<_> = (0..10).map(|number| format!("{subject}-{number}")).collect();
        assert_eq!(told[&format!("user:{subject}")], expected);
    }
    let seen = figures(&node);
    assert_eq!((seen.delivered, seen.dead, seen.waiting), (60, 0, 0));
    assert!(is_idle(&node) && dead(&node).is_empty());
}

#[test]
fn an_application_that_wants_more_later_is_not_told_sooner() {
    let began = Arc::new(Mutex::new(Vec::new()));
    let times = Arc::clone(&began);
    let app = Application::start(move |_| {
        let mut times = times.lock().unwrap();
        times.push(Instant::now());
        if times.len() == 1 {
            Reply { status: 429, headers: "Retry-After: 1\r\n".to_owned(), body: String::new() }
        } else {
            OK.into()
        }
    });
    let node = Node::start(&config(&app, "", "", &[])).unwrap();
    let done = Arc::default();
    tell(&node, "a1", "ann", &done);
    until("it was told", || done.load(Ordering::SeqCst) == 1);
    let times = began.lock().unwrap();
    assert_eq!(times.len(), 2);
    assert!(times[1] - times[0] >= Duration::from_secs(1));
}

/// An application that answers nothing until the gate is dropped.
fn gated() -> (std::sync::mpsc::Sender<()>, Application) {
    let (open, gate) = std::sync::mpsc::channel::<()>();
    let gate = Mutex::new(gate);
    let answer = move |_: &Called| {
        // An error: the gate is open for all.
        let _open = gate.lock().unwrap().recv().is_err();
        OK
    };
    (open, Application::start(answer))
}

#[test]
fn what_has_no_place_is_a_dead_letter_at_once_and_can_be_replayed() {
    let (open, app) = gated();
    let call = "timeout = \"60s\"";
    let node = Node::start(&config(&app, call, "", &[("limits.webhook_events", "2")])).unwrap();
    let done = Arc::default();
    for id in ["a", "b", "c"] {
        tell(&node, id, "ann", &done);
    }
    until("the third is a dead letter", || !dead(&node).is_empty());
    let letters = dead(&node);
    assert_eq!(ids_of(&letters), ["c"]);
    let letter = &letters[0];
    assert_eq!((&letter["why"], &letter["tries"]), (&json!("full"), &json!(0)));
    assert_eq!((&letter["webhook"], &letter["status"]), (&json!("told"), &Value::Null));
    assert_eq!((figures(&node).dead, figures(&node).waiting), (1, 2));
    until("whoever waited for it knows", || done.load(Ordering::SeqCst) == 1);
    assert_eq!(replay(&node, ""), json!({"queued": 0, "left": 1}), "there is still no place");
    drop(open);
    until("the others were told", || done.load(Ordering::SeqCst) == 3);
    assert_eq!(replay(&node, ""), json!({"queued": 1, "left": 0}));
    until("it is listed no more", || dead(&node).is_empty());
    let told: Vec<_> = app.called().iter().map(id_of).collect();
    assert_eq!(told, ["a", "b", "c"]);
}

#[test]
fn ten_thousand_dead_letters_are_kept_and_one_more_costs_the_oldest() {
    let (open, app) = gated();
    let sets = [("limits.webhook_events", "1000")];
    let node = Node::start(&config(&app, "timeout = \"60s\"", "", &sets)).unwrap();
    let done = Arc::default();
    // Those that fill the place of all; what comes then is dead at once.
    for number in 0..1_000 {
        tell(&node, &format!("w{number}"), "ann", &done);
    }
    let size = usize::try_from(roomcast_router::hub::DEAD_KEEP.size).unwrap();
    for number in 0..size {
        tell(&node, &format!("e{number}"), "bob", &done);
        if number % 500 == 0 {
            until("the broker has them", || node.webhooks.figures().letters == 0);
        }
    }
    until("all are kept", || done.load(Ordering::SeqCst) == size);
    assert_eq!(dead_by(&node, 256).len(), size);
    tell(&node, "one more", "bob", &done);
    until("it is kept", || done.load(Ordering::SeqCst) == size + 1);
    let letters = dead_by(&node, 256);
    let ids = ids_of(&letters);
    assert_eq!((letters.len(), ids[0], ids[size - 1]), (size, "e1", "one more"));
    drop(open);
}

/// Two nodes list the same dead letters, and either may replay them.
fn play_dead_letters([one, other]: &[Node; 2], app: &Application, mend: &AtomicUsize) {
    let done = Arc::default();
    for id in ["a", "b", "c"] {
        tell(one, id, "ann", &done);
    }
    until("all are dead letters", || done.load(Ordering::SeqCst) == 3);
    let letters = dead(other);
    assert_eq!(ids_of(&letters), ["a", "b", "c"], "those behind the first go on");
    for letter in &letters {
        let why = (&letter["why"], &letter["status"], &letter["tries"]);
        assert_eq!(why, (&json!("refused"), &json!(410), &json!(1)));
        assert!(letter["first_unix_ms"].as_u64() <= letter["last_unix_ms"].as_u64());
        assert_eq!(letter["event"]["node"], json!(one.id().to_string()));
    }
    // Again in vain: it is listed anew, with all its tries.
    let first = letters[0]["id"].clone();
    let wish = json!({"ids": [first, 999_999]}).to_string();
    assert_eq!(replay(other, &wish), json!({"queued": 1, "left": 1}));
    until("it is a dead letter again", || {
        let letters = dead(one);
        ids_of(&letters) == ["b", "c", "a"] && letters[2]["tries"] == json!(2)
    });
    assert_eq!(dead(one)[2]["first_unix_ms"], letters[0]["first_unix_ms"]);
    let before = app.called().len();
    mend.store(1, Ordering::SeqCst);
    assert_eq!(replay(other, "{}"), json!({"queued": 3, "left": 0}));
    until("all are delivered", || is_idle(other));
    assert!(dead(one).is_empty() && dead(other).is_empty());
    let mut told: Vec<_> = app.called()[before..].iter().map(id_of).collect();
    told.sort();
    assert_eq!(told, ["a", "b", "c"]);
    assert_eq!(replay(one, "{}"), json!({"queued": 0, "left": 0}));
}

/// An application that refuses until it is mended.
fn refusing() -> (Application, Arc<AtomicUsize>) {
    let mend = Arc::new(AtomicUsize::new(0));
    let mended = Arc::clone(&mend);
    let answer =
        move |_: &Called| if mended.load(Ordering::SeqCst) == 1 { OK } else { failing(410) };
    (Application::start(answer), mend)
}

#[test]
fn dead_letters_are_listed_and_replayed_by_all_nodes_in_memory() {
    let (app, mend) = refusing();
    let (config, broker) = (config(&app, "", "", &[]), MemoryBroker::new());
    let nodes = [(); 2].map(|()| Node::start_with(&config, &broker).unwrap());
    play_dead_letters(&nodes, &app, &mend);
}

#[test]
fn dead_letters_are_listed_and_replayed_by_all_nodes_on_redis() {
    let redis = Redis::start(&[]).unwrap();
    let (app, mend) = refusing();
    let servers = format!("127.0.0.1:{}", redis.port());
    let sets = [("broker.kind", "redis"), ("redis.servers", &*servers)];
    let config = config(&app, "", "", &sets);
    let nodes = [(); 2].map(|()| Node::start(&config).unwrap());
    for node in &nodes {
        until("the node is ready", || {
            http::request(node.internal_addr(), "GET", "/readyz", "").0 == 200
        });
    }
    play_dead_letters(&nodes, &app, &mend);
}

#[test]
fn dead_letters_wait_for_a_broker_that_is_away() {
    let mut redis = Redis::start(&[]).unwrap();
    let app = Application::start(|_| failing(404));
    let servers = format!("127.0.0.1:{}", redis.port());
    let sets = [("broker.kind", "redis"), ("redis.servers", &*servers)];
    let node = Node::start(&config(&app, "", "", &sets)).unwrap();
    let ready = || http::request(node.internal_addr(), "GET", "/readyz", "").0 == 200;
    until("the node is ready", ready);
    redis.kill().unwrap();
    let done = Arc::default();
    tell(&node, "a", "ann", &done);
    until("it is a dead letter", || figures(&node).dead == 1);
    std::thread::sleep(Duration::from_secs(3));
    let all = node.webhooks.figures();
    assert_eq!((all.letters, all.lost, done.load(Ordering::SeqCst)), (1, 0, 0));
    assert!(all.letters_bytes > 0);
    redis.restart().unwrap();
    until("it is kept", || done.load(Ordering::SeqCst) == 1);
    assert_eq!(ids_of(&dead(&node)), ["a"]);
    assert_eq!(node.webhooks.figures().letters, 0);
}

#[test]
fn an_event_is_tried_for_its_time_and_no_longer() {
    let app = Application::start(|_| failing(503));
    let call = "breaker_failures = 1000";
    let node = Node::start(&config(&app, call, "retry_for = \"1s\"", &[])).unwrap();
    let done = Arc::default();
    let began = Instant::now();
    tell(&node, "a", "ann", &done);
    until("it is a dead letter", || done.load(Ordering::SeqCst) == 1);
    assert!(began.elapsed() >= Duration::from_secs(1));
    let letter = dead(&node).remove(0);
    assert_eq!((&letter["why"], &letter["status"]), (&json!("expired"), &json!(503)));
    assert_eq!(letter["tries"].as_u64(), Some(app.called().len() as u64));
    assert_eq!(figures(&node).failed, app.called().len() as u64);
}

/// What was over while the application was away is listed in the order in which it happened, and so it is replayed.
#[test]
fn what_was_over_while_the_application_was_away_is_replayed_in_order() {
    let mut app = Application::start(|_| OK);
    app.stop();
    let call = "breaker_failures = 2\nbreaker_open = \"200ms\"";
    let node = Node::start(&config(&app, call, "retry_for = \"1s\"", &[])).unwrap();
    let done = Arc::default();
    for number in 0..10 {
        for subject in ["ann", "bob"] {
            tell(&node, &format!("{subject}-{number}"), subject, &done);
        }
    }
    until("all are dead letters", || done.load(Ordering::SeqCst) == 20);
    let letters = dead(&node);
    assert_eq!(letters.len(), 20);
    assert!(letters.iter().all(|letter| letter["why"] == json!("expired")), "{letters:?}");
    app.come_back();
    until("the breaker is shut, and all are delivered", || {
        replay(&node, "{}");
        std::thread::sleep(Duration::from_millis(300));
        is_idle(&node) && dead(&node).is_empty()
    });
    for subject in ["ann", "bob"] {
        let of = json!(format!("user:{subject}"));
        let told = app.called().into_iter().filter(|called| called.body["subject"] == of);
        let told: Vec<_> = told.map(|called| id_of(&called)).collect();
        let expected: Vec<_> = (0..10).map(|number| format!("{subject}-{number}")).collect();
        assert_eq!(told, expected);
    }
}

/// What a node that stops cannot deliver any more another one lists.
#[test]
fn a_node_that_stops_tells_what_it_can_and_makes_dead_letters_of_the_rest() {
    let app = Application::start(|called| {
        if called.body["subject"] == json!("user:slow") {
            std::thread::sleep(Duration::from_secs(30));
        }
        if called.body["subject"] == json!("user:bad") { failing(500) } else { OK }
    });
    let broker = MemoryBroker::new();
    let config = config(&app, "timeout = \"60s\"\nbreaker_failures = 1000", "", &[]);
    let [stops, stays] = [(); 2].map(|()| Node::start_with(&config, &broker).unwrap());
    let done = Arc::default();
    for (id, subject) in [("a", "slow"), ("b", "slow"), ("c", "bad"), ("d", "good"), ("e", "good")]
    {
        tell(&stops, id, subject, &done);
    }
    // What the broker keeps another node tells, so it is neither over nor dead here.
    let noted = Arc::clone(&done);
    let note = Box::new(move || {
        noted.fetch_add(1, Ordering::SeqCst);
    });
    stops.webhooks.tell(Event { kept: true, done: Some(note), ..event("f", "bad") });
    until("the slow one is under way", || app.called().iter().any(|it| id_of(it) == "a"));
    let began = Instant::now();
    stops.stop();
    assert!(began.elapsed() < Duration::from_secs(6), "{:?}", began.elapsed());
    let mut letters = dead(&stays);
    letters.sort_by_key(|letter| letter["event"]["id"].to_string());
    assert_eq!(ids_of(&letters), ["a", "b", "c"]);
    assert!(letters.iter().all(|letter| letter["why"] == json!("stopped")), "{letters:?}");
    assert_eq!(done.load(Ordering::SeqCst), 5);
}

#[test]
fn a_replay_names_a_thousand_and_not_one_more() {
    let app = Application::start(|_| OK);
    let node = Node::start(&config(&app, "", "", &[])).unwrap();
    let wish = |count: u64| json!({"ids": (1..=count).collect::<Vec<_>>()}).to_string();
    assert_eq!(replay(&node, &wish(1_000)), json!({"queued": 0, "left": 1_000}));
    let path = "/api/v1/webhooks/dead/replay";
    for body in [&*wish(1_001), r#"{"id":[1]}"#, r#"{"ids":[-1]}"#] {
        let (status, answer) = http::request(node.internal_addr(), "POST", path, body);
        let answer: Value = serde_json::from_str(&answer).unwrap();
        assert_eq!((status, &answer["name"]), (400, &json!(Refusal::Schema.row().name)), "{body}");
    }
}
