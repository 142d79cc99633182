//! The Rust client's sessions, and the commands that use them, against real nodes through a connection that fails.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use roomcast_client::{
    Client, Error, Options, Publication, PublishOptions, Session, SessionEvent, SessionOptions,
    connect, session,
};
use serde_json::json;
use xtask::servers::{Proxy, Redis};

use crate::client::{backend, mint, viewer};
use crate::common::{LIMIT, Node, Running, fresh_path, json_lines, output};

const RULES: &str = r#"
[[rooms]]
match = "kept-{id}"
join = "true"
publish = "true"
history = {}

[[rooms]]
match = "plain-{id}"
join = "true"
publish = "true"

[[rooms]]
match = "present-{id}"
join = "true"
presence = "members"
"#;

#[track_caller]
fn node(more: &[&str]) -> Node {
    let config = fresh_path("session.toml");
    std::fs::write(&config, RULES).unwrap();
    let path = config.display().to_string();
    let node = Node::start(&[&["--config", &path], more].concat());
    std::fs::remove_file(config).unwrap();
    node
}

fn port(node: &Node) -> u16 {
    let address: std::net::SocketAddr = node.ready["public"].as_str().unwrap().parse().unwrap();
    address.port()
}

fn url(proxy: &Proxy) -> String {
    format!("ws://127.0.0.1:{}/ws", proxy.port())
}

async fn next(session: &Session) -> SessionEvent {
    tokio::time::timeout(LIMIT, session.next()).await.unwrap().unwrap()
}

/// What it hears until a publication holds this number, and all else.
async fn hear_until(session: &Session, last: u64) -> (Vec<Publication>, Vec<SessionEvent>) {
    let (mut heard, mut told) = (Vec::new(), Vec::new());
    loop {
        let event = next(session).await;
        let SessionEvent::Publication(publication) = event else {
            told.push(event);
            continue;
        };
        let is_last = publication.data["n"] == last;
        heard.push(*publication);
        if is_last {
            return (heard, told);
        }
    }
}

fn numbers(heard: &[Publication], room: &str) -> Vec<u64> {
    let of_room = heard.iter().filter(|publication| publication.room == room);
    of_room.map(|publication| publication.data["n"].as_u64().unwrap()).collect()
}

async fn publish(client: &Client, room: &str, numbers: std::ops::Range<u64>) {
    for n in numbers {
        client.publish(room, "note", &json!({"n": n}), &PublishOptions::acked()).await.unwrap();
    }
}

#[tokio::test]
async fn a_session_comes_back_with_its_rooms_and_what_it_missed() {
    let node = node(&[]);
    let proxy = Proxy::start(port(&node)).unwrap();
    let session = session(SessionOptions::new(url(&proxy), viewer())).unwrap();
    session.ready().await.unwrap();
    session.join("kept-1").await.unwrap();
    session.join("plain-1").await.unwrap();
    let publisher = connect(Options::new(node.url(), backend())).await.unwrap();
    publish(&publisher, "kept-1", 0..5).await;
    let (before, _) = hear_until(&session, 4).await;
    proxy.refuse();
    publish(&publisher, "kept-1", 5..15).await;
    publish(&publisher, "plain-1", 100..101).await;
    proxy.heal();
    // It waits for the way back, and goes out there.
    let own = json!({"n": 15});
    let acked = session.publish("kept-1", "note", &own, &PublishOptions::acked()).await.unwrap();
    assert_eq!(acked.ack.unwrap().level, "stored");
    let (after, told) = hear_until(&session, 15).await;
    let heard = [before, after].concat();
    assert_eq!(numbers(&heard, "kept-1"), (0..16).collect::<Vec<_>>(), "each once, in order");
    let gaps: Vec<_> = told
        .iter()
        .filter_map(|event| {
            let SessionEvent::Gap { room, reason, .. } = event else { return None };
            Some((room.as_deref()?, reason.as_str()))
        })
        .collect();
    assert_eq!(gaps, [("plain-1", "no_history")], "what nothing keeps is told");
    assert_eq!(numbers(&heard, "plain-1"), [0; 0]);
    let counters = session.counters();
    assert_eq!((counters.resumes, counters.fresh, counters.holes), (1, 0, 0), "{counters:?}");
    session.close().await;
    assert!(matches!(session.join("kept-1").await, Err(Error::Closed(_))));
}

#[tokio::test]
async fn a_session_goes_to_another_node_without_a_silence() {
    let redis = Redis::start(&[]).unwrap();
    let redis = redis.url();
    let (mut old, new) = (node(&["--redis", &redis]), node(&["--redis", &redis]));
    let proxy = Proxy::start(port(&old)).unwrap();
    let session = session(SessionOptions::new(url(&proxy), viewer())).unwrap();
    session.ready().await.unwrap();
    session.join("kept-1").await.unwrap();
    session.join("plain-1").await.unwrap();
    let publisher = connect(Options::new(new.url(), backend())).await.unwrap();
    let publishing = tokio::spawn(async move {
        for n in 0..300_u64 {
            let (room, pause) = (["kept-1", "plain-1"], Duration::from_millis(10));
            for room in room {
                publish(&publisher, room, n..n + 1).await;
            }
            tokio::time::sleep(pause).await;
        }
        publish(&publisher, "kept-1", 300..301).await;
    });
    let (mut heard, _) = hear_until(&session, 20).await;
    // What is balanced goes to the new node from here on.
    proxy.turn_to(port(&new));
    old.signal(rustix::process::Signal::TERM);
    let (more, told) = hear_until(&session, 300).await;
    heard.extend(more);
    publishing.await.unwrap();
    assert_eq!(numbers(&heard, "kept-1"), (0..301).collect::<Vec<_>>(), "{told:?}");
    assert_eq!(numbers(&heard, "plain-1"), (0..300).collect::<Vec<_>>(), "{told:?}");
    let counters = session.counters();
    assert_eq!((counters.hand_overs, counters.resumes), (1, 1), "{counters:?} {told:?}");
    assert_eq!((counters.reconnects, counters.gaps), (0, 0), "{counters:?} {told:?}");
    assert!(old.ended().success());
    session.close().await;
}

#[tokio::test]
async fn a_token_that_is_no_good_is_replaced_by_the_callback() {
    let node = Node::start(&[]);
    let good = viewer();
    let options = SessionOptions::new(node.url(), "x.y.z");
    let renewing = options.clone().get_token(move || std::future::ready(Ok(good.clone())));
    let renewed = session(renewing).unwrap();
    assert_eq!(renewed.ready().await.unwrap().user_id, "viewer");
    let error = session(options).unwrap().ready().await.unwrap_err();
    assert_eq!(error.code(), Some(4001), "{error}");
    let refused = renewed.join("agents").await.unwrap_err();
    assert_eq!(refused.code(), Some(110), "{refused}");
    renewed.close().await;
}

#[tokio::test]
async fn a_session_without_a_node_gives_up_after_its_attempts() {
    let mut options = SessionOptions::new("ws://127.0.0.1:1", "t");
    options.reconnect.attempts_max = 2;
    options.reconnect.first = Duration::from_millis(20);
    let session = session(options).unwrap();
    let (mut attempts, mut given_up) = (Vec::new(), None);
    while let Some(event) = tokio::time::timeout(LIMIT, session.next()).await.unwrap() {
        if let SessionEvent::Reconnecting { attempt, .. } = event {
            attempts.push(attempt);
        } else if let SessionEvent::MaxReconnectAttemptsReached { attempts } = event {
            given_up = Some(attempts);
        } else if let SessionEvent::Closed(closed) = event {
            assert_eq!(closed.code, 1_006);
        }
    }
    assert_eq!(given_up, Some(2));
    assert_eq!(attempts, [1, 2]);
    assert!(roomcast_client::session(SessionOptions::new("http://x", "t")).is_err());
}

#[test]
fn sub_follows_over_a_lost_connection() {
    let node = node(&[]);
    let proxy = Proxy::start(port(&node)).unwrap();
    let mut sub = crate::common::roomcast();
    sub.args(["sub", "--dev", "--follow", "--url", &url(&proxy), "kept-1", "--count", "3"]);
    sub.args(["--timeout", "20s", "--log", "info"]);
    let child = sub.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut sub = Running(child.spawn().unwrap());
    let (said, says) = mpsc::channel();
    let stderr = BufReader::new(sub.0.stderr.take().unwrap());
    std::thread::spawn(move || {
        for line in stderr.lines().map_while(Result::ok) {
            drop(said.send(line));
        }
    });
    let wait_for = |text: &str| {
        let deadline = Instant::now() + LIMIT;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let line = says.recv_timeout(left).unwrap_or_else(|_| panic!("never said {text:?}"));
            if line.contains(text) {
                break;
            }
        }
    };
    wait_for("joined");
    let publish = |number: &str| {
        let published = output(node.command("pub").args(["kept-1", number]));
        assert!(published.status.success(), "{published:?}");
    };
    publish("1");
    proxy.refuse();
    wait_for("attempt 1 follows");
    publish("2");
    proxy.heal();
    wait_for("all rooms are heard again");
    publish("3");
    let status = crate::common::ended(&mut sub.0);
    assert!(status.success(), "{status}");
    let stdout = std::io::read_to_string(sub.0.stdout.take().unwrap()).unwrap();
    let lines = json_lines(stdout.as_bytes());
    let shown: Vec<_> = lines.iter().map(|line| (&line["type"], &line["data"])).collect();
    let (message, resumed) = (json!("message"), json!("resumed"));
    let back = json!({"session": true, "recovered": true});
    let (one, two, three) = (json!(1), json!(2), json!(3));
    let expected = [(&message, &one), (&resumed, &back), (&message, &two), (&message, &three)];
    assert_eq!(shown, expected, "{stdout}");
}

#[tokio::test]
async fn presence_shows_who_is_there_page_by_page() {
    let node = node(&[]);
    let member = |name: &str| {
        let token = mint(&["--sub", name]);
        session(SessionOptions::new(node.url(), token)).unwrap()
    };
    let (ann, bob) = (member("ann"), member("bob"));
    ann.join("present-1").await.unwrap();
    bob.join("present-1").await.unwrap();
    let mut seen: Vec<String> = Vec::new();
    while !seen.iter().any(|user| user == "bob") {
        if let SessionEvent::Presence(presence) = next(&ann).await {
            seen.extend(presence.joined);
        }
    }
    let roster = ann.presence("present-1").await.unwrap();
    assert_eq!((roster.count, roster.users.unwrap()), (2, vec!["ann".into(), "bob".into()]));
    let mut command = node.command("presence");
    let pages =
        tokio::task::spawn_blocking(move || output(command.args(["present-1", "--limit", "1"])));
    let pages = json_lines(&pages.await.unwrap().stdout);
    let users: Vec<_> = pages.iter().map(|page| &page["users"][0]).collect();
    assert_eq!(users, ["ann", "bob"], "{pages:?}");
    assert_eq!((&pages[0]["count"], &pages[0]["next"]), (&json!(2), &json!("ann")));
    bob.close().await;
    let refused = ann.presence("plain-1").await.unwrap_err();
    assert_eq!(refused.code(), Some(102), "a room that tells nothing: {refused}");
}

#[test]
fn the_examples_of_presence_and_receipts_run_on_a_development_node() {
    let node = Node::start(&[]);
    for (command, member) in [("presence", "users"), ("receipts", "receipts")] {
        let ran = output(node.command(command).arg("demo-team"));
        assert!(ran.status.success(), "{command}: {}", String::from_utf8_lossy(&ran.stderr));
        let pages = json_lines(&ran.stdout);
        assert!(pages.first().is_some_and(|page| page[member].is_array()), "{command}: {pages:?}");
    }
}
