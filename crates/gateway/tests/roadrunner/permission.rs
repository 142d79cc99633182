//! Permission by the application: a real HTTP server says who may connect, and who may join.

use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use roomcast_protocol::codes::Refusal;
use serde_json::{Value, json};

use crate::caller::{Caller, request};
use crate::common::Live;
use crate::common::application::{Application, Called, Reply};
use crate::common::ws::{Dial, WAIT, Ws};
use crate::endpoint::{QUIET, denied, dial, expect_no_join, join, replay, text};

/// Rooms that rules let anybody join, that they let nobody join, and that are the application's alone.
const RULES: &str = "[[rooms]]\nmatch = \"open-{any}\"\njoin = \"true\"\n\
                     [[rooms]]\nmatch = \"shut-{any}\"\njoin = \"false\"\n\
                     [[rooms]]\nmatch = \"{any}\"\njoin = \"call\"\n";

/// A node whose application is there, with these lines for its call, its keys and its rules.
fn node_at(url: &str, call: &str, rest: &str) -> Live {
    Live::with_file(&format!(
        "[rpc]\nlisten = [\"tcp://127.0.0.1:0\"]\n\
         [dialects.roadrunner]\nenabled = true\nidentity = \"call\"\nauthorize = \"join\"\n\
         [[upstream.targets]]\nname = \"app\"\nurl = \"{url}\"\n\
         [[upstream.calls]]\nname = \"join\"\ntarget = \"app\"\npath = \"/ws\"\n{call}\n{rest}"
    ))
}

fn node(application: &Application) -> Live {
    node_at(&application.url(), "", RULES)
}

fn say(status: u16) -> Reply {
    Reply { status, headers: String::new(), body: String::new() }
}

/// The topics that it is asked about; `None`: about the server.
fn topics(called: &Called) -> Option<&str> {
    let attributes = called.body["attributes"].as_object().unwrap();
    assert_eq!(attributes.len(), 1, "{attributes:?}");
    if attributes.contains_key("ws:joinServer") {
        assert_eq!(attributes["ws:joinServer"], true);
        return None;
    }
    Some(attributes["ws:joinTopics"].as_str().unwrap())
}

/// Lets everybody in, and into all topics but those that have `no` in their names.
fn likes(called: &Called) -> Reply {
    say(if topics(called).is_some_and(|it| it.contains("no")) { 403 } else { 200 })
}

/// The same, but is not done with `slow` topics as long as the lock is held.
fn slow(called: &Called, lock: &Mutex<()>) -> Reply {
    if topics(called).is_some_and(|it| it.contains("slow")) {
        drop(lock.lock().unwrap());
    }
    likes(called)
}

#[track_caller]
fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + WAIT;
    while !holds() {
        assert!(Instant::now() < deadline, "in vain: {what}");
        thread::sleep(Duration::from_millis(10));
    }
}

fn publish(live: &Live, topic: &str, payload: &str) {
    let request = request(&[topic], payload.as_bytes());
    assert_eq!(Caller::tcp(live.rpc()).call("broadcast.Publish", &request), None);
}

#[test]
fn the_application_judges_by_the_request_when_a_client_connects_and_when_it_joins() {
    let application = Application::start(likes);
    let live = node(&application);
    let knock = Dial::default().path("/roadrunner?shop=7").header("Authorization", "Bearer abc");
    let mut ws = knock.header("Cookie", "sid=a%20b; theme=dark").open(live.public());
    join(&mut ws, &["foo", "foo2"]);
    join(&mut ws, &[]);
    let called = application.called();
    let [server, topics, none] = &*called else { panic!("{called:?}") };
    assert!(server.head.starts_with("POST /ws HTTP/1.1\r\n"), "{}", server.head);
    let expected = json!({
        "remoteAddr": "127.0.0.1",
        "protocol": "HTTP/1.1",
        "method": "GET",
        "uri": "http://node.test/roadrunner?shop=7",
        "headers": {
            "Authorization": ["Bearer abc"],
            "Connection": ["Upgrade"],
            "Cookie": ["sid=a%20b; theme=dark"],
            "Sec-Websocket-Key": ["dGhlIHNhbXBsZSBub25jZQ=="],
            "Sec-Websocket-Version": ["13"],
            "Upgrade": ["websocket"],
        },
        "cookies": { "sid": "a b", "theme": "dark" },
        "rawQuery": "shop=7",
        "parsed": false,
        "attributes": { "ws:joinServer": true },
    });
    assert_eq!(server.body, expected);
    assert_eq!(none.body, expected);
    let mut expected = expected;
    expected["attributes"] = json!({ "ws:joinTopics": "foo,foo2" });
    expected["topics"] = json!(["foo", "foo2"]);
    expected["rooms"] = json!(["foo", "foo2"]);
    assert_eq!(topics.body, expected);
}

#[test]
fn a_client_that_is_not_let_in_gets_the_applications_answer() {
    let application = Application::start(|called: &Called| {
        let headers = "Stop: we-dont-like-you\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\n\
                       Connection: x-hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\n";
        let status = called.body["rawQuery"].as_str().unwrap().parse().unwrap();
        Reply { status, headers: headers.to_owned(), body: "go away".to_owned() }
    });
    let live = node(&application);
    for status in [401, 204, 302, 500] {
        let knock = Dial::default().path(&format!("/roadrunner?{status}"));
        let answered = knock.send(live.public());
        assert_eq!(answered.status, status);
        assert_eq!(answered.header("stop"), Some("we-dont-like-you"));
        assert_eq!(answered.headers("set-cookie"), ["a=1", "b=2"]);
        assert_eq!(answered.header("connection"), Some("close"));
        assert_eq!((answered.header("x-hop"), answered.header("keep-alive")), (None, None));
        if status != 204 {
            assert_eq!(answered.body(), "go away");
        }
    }
    assert_eq!(Dial::default().path("/roadrunner?200").send(live.public()).status, 101);
    let refused = || live.metric("roomcast_connections_handshakes_refused_total");
    until("4 are counted", || refused() == Some(4.0));
    live.assert_empty();
}

#[test]
fn what_the_application_says_that_would_be_an_upgrade_is_no_answer() {
    let application = Application::start(|_: &Called| Reply {
        status: 101,
        headers: "Upgrade: websocket\r\n".to_owned(),
        body: String::new(),
    });
    let live = node(&application);
    let answered = Dial::default().path("/roadrunner").send(live.public());
    assert_eq!((answered.status, answered.header("upgrade")), (400, None));
    answered.problem();
}

#[test]
fn a_broken_call_is_400_on_connect_and_no_join() {
    let nowhere = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let live = node_at(&format!("http://{nowhere}"), "", RULES);
    let answered = Dial::default().path("/roadrunner").send(live.public());
    assert_eq!(answered.status, 400);
    let problem = answered.problem();
    assert!(!problem.to_string().contains(&nowhere.to_string()), "{problem}");

    let lock = Arc::new(Mutex::new(()));
    let held = Arc::clone(&lock);
    let application = Application::start(move |called: &Called| {
        if called.body["rawQuery"] == "slow" {
            drop(held.lock().unwrap());
        }
        slow(called, &held)
    });
    let live = node_at(&application.url(), "timeout = \"300ms\"", RULES);
    let mut ws = dial(&live);
    let guard = lock.lock().unwrap();
    assert_eq!(Dial::default().path("/roadrunner?slow").send(live.public()).status, 400);
    expect_no_join(&mut ws, &["slow"]);
    live.expect_refusals(Refusal::UpstreamFailed, 1);
    drop(guard);
    join(&mut ws, &["slow"]);
}

#[test]
fn as_many_wait_as_the_call_has_turns_and_places_and_one_more_is_told_when_to_come_again() {
    let lock = Arc::new(Mutex::new(()));
    let held = Arc::clone(&lock);
    let application = Application::start(move |_: &Called| {
        drop(held.lock().unwrap());
        say(200)
    });
    let call = "timeout = \"20s\"\nconcurrency = 1\nqueue = 1";
    let live = node_at(&application.url(), call, RULES);
    let guard = lock.lock().unwrap();
    let address = live.public();
    let knock = || thread::spawn(move || Dial::default().path("/roadrunner").send(address).status);
    let first = knock();
    until("it is asked", || application.called().len() == 1);
    let second = knock();
    until("it waits", || live.metric("roomcast_upstream_calls_waiting") == Some(1.0));
    let third = Dial::default().path("/roadrunner").send(address);
    assert_eq!((third.status, third.header("retry-after")), (503, Some("5")));
    assert_eq!(third.problem()["name"], "unavailable");
    drop(guard);
    assert_eq!((first.join().unwrap(), second.join().unwrap()), (101, 101));
    live.assert_empty();
}

#[test]
fn a_client_that_hangs_up_while_it_waits_gives_its_places_back() {
    let lock = Arc::new(Mutex::new(()));
    let held = Arc::clone(&lock);
    let application = Application::start(move |called: &Called| {
        if called.body["rawQuery"] == "slow" {
            drop(held.lock().unwrap());
        }
        say(200)
    });
    let keys = format!("timeout = \"20s\"\n[limits]\nconnections_per_ip = 1\n{RULES}");
    let live = node_at(&application.url(), &keys, "");
    let guard = lock.lock().unwrap();
    let knock = Dial::default().path("/roadrunner?slow").begin(live.public());
    until("it is asked", || application.called().len() == 1);
    assert_eq!(Dial::default().path("/roadrunner").send(live.public()).status, 429);
    drop(knock);
    let knocks = || Dial::default().path("/roadrunner").send(live.public()).status;
    until("its place is free", || knocks() == 101);
    drop(guard);
    live.assert_empty();
}

#[test]
fn topics_are_joined_where_rules_and_the_application_let_one() {
    let application = Application::start(likes);
    let live = node(&application);
    let mut ws = dial(&live);
    join(&mut ws, &["open-1", "foo"]);
    expect_no_join(&mut ws, &["open-2", "no"]);
    expect_no_join(&mut ws, &["open-no"]);
    let asked = application.called().len();
    expect_no_join(&mut ws, &["open-2", "shut-1"]);
    assert_eq!(application.called().len(), asked, "it is not asked for what no rule allows");
    for (topic, heard) in [("open-2", false), ("no", false), ("open-1", true), ("foo", true)] {
        publish(&live, topic, "hi");
        if heard {
            assert_eq!(text(&mut ws), format!(r#"{{"topic":"{topic}","payload":"hi"}}"#));
        } else {
            ws.expect_silence(QUIET);
        }
    }
    live.expect_refusals(Refusal::PermissionDenied, 3);
    // A room that is for the application to say opens to nobody else.
    let mut ann = live.user("ann");
    ann.join("open-1");
    ann.tell(&json!({ "type": "join", "room": "foo" }));
    ann.expect_refusal(Refusal::PermissionDenied);
}

#[test]
fn captured_commands_get_the_captured_answers_where_the_application_is_asked() {
    let application = Application::start(likes);
    replay(&node(&application));
    let nobody = Application::start(|called: &Called| say(topics(called).map_or(200, |_| 403)));
    let live = node(&nobody);
    let mut ws = dial(&live);
    let (send, expected) = denied();
    ws.text(&send);
    assert_eq!(text(&mut ws), expected);
    // As the origin's own test: what is left was not joined, and is left all the same.
    ws.tell(&json!({ "command": "leave", "topics": ["foo"] }));
    ws.expect(&json!({ "topic": "@leave", "payload": ["foo"] }));
}

#[test]
fn while_the_application_thinks_its_client_waits_in_order_and_others_do_not() {
    let lock = Arc::new(Mutex::new(()));
    let held = Arc::clone(&lock);
    let application = Application::start(move |called: &Called| slow(called, &held));
    let lanes = format!("timeout = \"20s\"\n[node]\nlanes = 1\n{RULES}");
    let live = node_at(&application.url(), &lanes, "");
    let (mut first, mut second) = (dial(&live), dial(&live));
    join(&mut first, &["heard"]);
    let guard = lock.lock().unwrap();
    let tell = |ws: &mut Ws, command: &str, topic: &str| {
        ws.tell(&json!({ "command": command, "topics": [topic] }));
    };
    tell(&mut first, "join", "slow");
    tell(&mut first, "leave", "slow");
    tell(&mut first, "join", "no");
    tell(&mut first, "join", "after");
    until("it is asked", || application.called().len() == 4);
    // The same lane serves others, and the client that waits hears what it had joined before.
    join(&mut second, &["heard"]);
    publish(&live, "heard", "meanwhile");
    for ws in [&mut first, &mut second] {
        assert_eq!(text(ws), r#"{"topic":"heard","payload":"meanwhile"}"#);
    }
    first.expect_silence(QUIET);
    drop(guard);
    let answers: Vec<_> = std::iter::repeat_with(|| text(&mut first)).take(4).collect();
    let expected = [("@join", "slow"), ("@leave", "slow"), ("#join", "no"), ("@join", "after")];
    let expected =
        expected.map(|(answer, topic)| format!(r#"{{"topic":"{answer}","payload":["{topic}"]}}"#));
    assert_eq!(answers, expected);
    let asked: Vec<Value> =
        application.called().iter().map(|it| it.body["topics"].clone()).collect();
    assert_eq!(asked.last(), Some(&json!(["after"])));
}

#[test]
fn a_client_that_goes_before_its_answer_leaves_nothing_behind() {
    let lock = Arc::new(Mutex::new(()));
    let held = Arc::clone(&lock);
    let application = Application::start(move |called: &Called| slow(called, &held));
    let live = node_at(&application.url(), "timeout = \"20s\"", RULES);
    let mut ws = dial(&live);
    let guard = lock.lock().unwrap();
    ws.tell(&json!({ "command": "join", "topics": ["slow"] }));
    until("it is asked", || application.called().len() == 2);
    ws.close();
    until("it has gone", || live.metric("roomcast_connections_open") == Some(0.0));
    drop(guard);
    live.assert_empty();
}

#[test]
fn a_node_that_stops_tells_those_that_wait_to_be_let_in() {
    let lock = Arc::new(Mutex::new(()));
    let held = Arc::clone(&lock);
    let application = Application::start(move |_: &Called| {
        drop(held.lock().unwrap());
        say(200)
    });
    let live = node_at(&application.url(), "timeout = \"20s\"", RULES);
    let guard = lock.lock().unwrap();
    let address = live.public();
    let knock = thread::spawn(move || Dial::default().path("/roadrunner").send(address));
    until("it is asked", || application.called().len() == 1);
    live.stop();
    let answered = knock.join().unwrap();
    assert_eq!((answered.status, answered.header("retry-after")), (503, Some("1")));
    drop(guard);
}
