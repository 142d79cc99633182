//! A session of the native dialect from its first frame to its last, as an application sees it.

use std::time::{Duration, Instant};

use roomcast_protocol::codes::{Close, Refusal};
use serde_json::{Value, json};

use crate::common::ws::{CLOSE, Dial, Heard, PING, PONG, Ws};
use crate::common::{Live, unix_s};
use crate::scene::expect_pong;

/// How long nothing must come to be sure that nothing comes.
const QUIET: Duration = Duration::from_millis(150);

/// The welcome is flat, as the seed's client reads it, and the first thing heard.
#[track_caller]
fn check_welcome(ws: &mut Ws, user: &str) -> String {
    let welcome = ws.welcome();
    let session = welcome["session_id"].as_str().unwrap().to_owned();
    assert!(session.len() == 32 && session.bytes().all(|byte| byte.is_ascii_hexdigit()));
    let token = welcome["resume_token"].as_str().unwrap();
    let secret = token.strip_prefix(&format!("{session}.")).unwrap();
    assert!(secret.len() == 32 && secret.bytes().all(|byte| byte.is_ascii_hexdigit()));
    let expected = json!({
        "type": "welcome",
        "user_id": user,
        "permissions": ["view_system"],
        "session_id": session,
        "resume_token": token,
        "resume_window_s": 120,
    });
    assert_eq!(welcome, expected);
    session
}

fn token(live: &Live, sub: &str) -> String {
    live.token_of(&json!({ "sub": sub, "permissions": ["view_system"] }))
}

#[test]
fn a_token_in_the_query_brings_the_session_in() {
    let live = Live::start(&[]);
    let mut ws = Dial::with_token(&token(&live, "ann")).open(live.public());
    check_welcome(&mut ws, "ann");
    let encoded = token(&live, "ann").replace('.', "%2E");
    let mut ws = Dial::default().path(&format!("/ws?a=b&token={encoded}&c")).open(live.public());
    check_welcome(&mut ws, "ann");
}

#[test]
fn a_token_in_the_header_brings_the_session_in_and_the_query_counts_where_there_are_both() {
    let live = Live::start(&[]);
    let bearer = |token: &str| format!("Bearer {token}");
    let ann = bearer(&token(&live, "ann"));
    let mut ws = Dial::default().header("Authorization", &ann).open(live.public());
    check_welcome(&mut ws, "ann");
    let both = Dial::with_token(&token(&live, "bob")).header("Authorization", &ann);
    check_welcome(&mut both.open(live.public()), "bob");
}

#[test]
fn a_token_in_the_first_frame_brings_the_session_in() {
    let live = Live::start(&[]);
    let mut ws = live.dial();
    ws.expect_silence(QUIET);
    ws.tell(&json!({ "type": "auth", "token": token(&live, "ann") }));
    check_welcome(&mut ws, "ann");
    let mut ws = live.dial();
    ws.tell(&json!({ "type": "auth", "id": 1, "data": { "token": token(&live, "ann") } }));
    check_welcome(&mut ws, "ann");
    ws.expect_silence(QUIET);
}

#[test]
fn a_token_in_the_query_and_in_the_first_frame_is_welcomed_once() {
    let live = Live::start(&[]);
    let mut ws = Dial::with_token(&token(&live, "ann")).open(live.public());
    ws.tell(&json!({ "type": "auth", "token": token(&live, "ann") }));
    check_welcome(&mut ws, "ann");
    assert_eq!(ws.json()["type"], "refresh");
    ws.expect_silence(QUIET);
    expect_pong(&mut ws);
}

#[test]
fn what_is_sent_along_with_the_token_waits_for_the_welcome() {
    let live = Live::start(&[]);
    let mut ws = live.dial();
    let frames = [
        json!({ "type": "auth", "token": token(&live, "ann") }),
        json!({ "type": "subscribe", "id": "s", "data": { "room": "demo" } }),
        json!({ "type": "note", "room": "demo", "id": "n", "data": 1 }),
    ];
    let bytes: Vec<u8> = frames
        .iter()
        .flat_map(|message| crate::common::ws::frame(0x81, message.to_string().as_bytes()))
        .collect();
    ws.raw(&bytes);
    check_welcome(&mut ws, "ann");
    assert_eq!(ws.json()["type"], "subscribed");
    assert_eq!(ws.json()["id"], "n");
    // The same in one batch.
    let mut ws = live.dial();
    ws.tell(&json!({ "type": "batch", "messages": frames }));
    check_welcome(&mut ws, "ann");
    assert_eq!(ws.json()["type"], "subscribed");
    assert_eq!(ws.json()["id"], "n");
}

#[test]
fn a_session_is_in_its_own_rooms_from_the_welcome_on() {
    let live = Live::start(&[]);
    let claims =
        json!({ "sub": "ann", "roles": ["ops"], "teams": ["7"], "permissions": ["view_system"] });
    let mut ws = Dial::with_token(&live.token_of(&claims)).open(live.public());
    let session = check_welcome(&mut ws, "ann");
    let mut other = live.user("bob");
    let mut backend = live.backend();
    for room in
        ["user-ann".into(), format!("session-{session}"), "role-ops".into(), "team-7".into()]
    {
        backend.tell(&json!({ "type": "note", "room": room, "data": { "for": room } }));
        let heard = ws.json();
        assert_eq!((&heard["room"], &heard["data"]["for"]), (&json!(room), &json!(room)));
    }
    other.expect_silence(QUIET);
}

#[test]
fn a_newer_token_of_the_same_user_is_a_refresh() {
    let live = Live::start(&[]);
    let mut ws = live.enter(&token(&live, "ann"));
    let exp = unix_s() + 7_200;
    let newer = live.token_of(&json!({ "sub": "ann", "exp": exp }));
    for message in [
        json!({ "type": "refresh", "id": "r1", "data": { "token": newer } }),
        json!({ "type": "auth", "id": "r1", "token": newer }),
    ] {
        let answer = ws.ask(&message);
        let at = answer["data"]["expires_at"].as_str().unwrap().to_owned();
        assert!(at.ends_with(":00.000Z") || at.ends_with("Z"), "{at}");
        let expected = json!({
            "type": "refresh",
            "data": { "expires_at": at },
            "metadata": { "correlation_id": "r1" },
        });
        assert_eq!(answer, expected);
    }
}

#[test]
fn a_refresh_that_lost_a_permission_leaves_the_rooms_it_opened() {
    let live = Live::start(&[]);
    let mut ws = live.enter(&token(&live, "ann"));
    ws.join("system");
    ws.join("demo");
    let fewer = live.token_of(&json!({ "sub": "ann", "permissions": [] }));
    ws.tell(&json!({ "type": "refresh", "id": "r", "data": { "token": fewer } }));
    let error = ws.expect_refusal(Refusal::PermissionDenied);
    assert_eq!(error["data"]["room"], "system");
    assert_eq!(ws.json()["type"], "refresh");
    let mut backend = live.backend();
    backend.tell(&json!({ "type": "note", "room": "system", "id": "not heard" }));
    backend.tell(&json!({ "type": "note", "room": "demo", "id": "heard" }));
    assert_eq!(ws.json()["id"], "heard");
}

#[test]
fn a_refresh_with_a_token_of_another_user_ends_the_connection() {
    let live = Live::start(&[]);
    for other in [json!({ "sub": "bob" }), json!({ "sub": "ann", "agent_id": 7 })] {
        let mut ws = live.enter(&token(&live, "ann"));
        ws.tell(&json!({ "type": "refresh", "data": { "token": live.token_of(&other) } }));
        ws.expect_close(Close::Unauthorized);
    }
    let mut ws = live.enter(&token(&live, "ann"));
    ws.tell(&json!({ "type": "auth", "token": "no.token.atall" }));
    ws.expect_close(Close::Unauthorized);
    live.expect_closes(Close::Unauthorized, 3);
}

#[test]
fn a_token_that_expires_is_announced_and_then_ends_the_connection() {
    let live = Live::start(&[("auth.leeway", "1s")]);
    let exp = unix_s() + 2;
    let mut ws = live.enter(&live.token_of(&json!({ "sub": "ann", "exp": exp })));
    let mut refreshed = live.enter(&live.token_of(&json!({ "sub": "bob", "exp": exp })));
    for ws in [&mut ws, &mut refreshed] {
        let notice = ws.json();
        assert_eq!(notice["type"], "token_expiring", "{notice}");
        assert!(notice["data"]["expires_at"].is_string(), "{notice}");
    }
    refreshed.tell(&json!({ "type": "refresh", "data": { "token": token(&live, "bob") } }));
    assert_eq!(refreshed.json()["type"], "refresh");
    ws.expect_close(Close::Unauthorized);
    assert!(unix_s() > exp, "closed before its leeway was over");
    assert!(unix_s() <= exp + 3, "closed late");
    expect_pong(&mut refreshed);
}

#[test]
fn pings_and_pongs_go_both_ways_as_messages() {
    let live = Live::start(&[]);
    let mut ws = live.user("ann");
    for timestamp in [json!(1_705_314_600_000_u64), json!("2024-01-15T10:30:00Z"), json!(1.5)] {
        let pong = json!({ "type": "pong", "timestamp": timestamp });
        ws.tell(&json!({ "type": "ping", "timestamp": timestamp }));
        ws.expect(&pong);
        ws.tell(&json!({ "type": "ping", "id": "x", "data": { "timestamp": timestamp } }));
        ws.expect(&pong);
    }
    let pong = ws.ask(&json!({ "type": "ping" }));
    let at = pong["timestamp"].as_u64().unwrap() / 1_000;
    assert!(at.abs_diff(unix_s()) <= 2, "{pong}");
    ws.tell(&json!({ "type": "pong", "timestamp": 1 }));
    ws.expect_silence(QUIET);
}

#[test]
fn pings_and_pongs_go_both_ways_as_frames() {
    let live = Live::start(&[("limits.ping", "300ms"), ("limits.pong", "300ms")]);
    let mut ws = live.user("ann");
    ws.send(PING, b"hello");
    assert_eq!(ws.heard(Duration::from_secs(2)), Some(Heard::Pong(b"hello".to_vec())));
    ws.send(PING, b"");
    assert_eq!(ws.heard(Duration::from_secs(2)), Some(Heard::Pong(Vec::new())));
    // Silent, it is pinged, and lives as long as it answers.
    for _ in 0..3 {
        let Some(Heard::Ping(payload)) = ws.heard(Duration::from_secs(2)) else {
            panic!("no ping")
        };
        ws.send(PONG, &payload);
    }
    expect_pong(&mut ws);
    // One that does not answer is ended.
    let started = Instant::now();
    assert!(matches!(ws.heard(Duration::from_secs(2)), Some(Heard::Ping(_))));
    ws.expect_close(Close::Slow);
    assert!(started.elapsed() < Duration::from_secs(4));
    live.expect_closes(Close::Slow, 1);
}

#[test]
fn a_close_is_answered_with_its_own_code() {
    let live = Live::start(&[]);
    live.user("ann").close();
    for (payload, code) in
        [(&b""[..], None), (&4321_u16.to_be_bytes(), Some(4321)), (b"\x03\xe9bye", Some(1001))]
    {
        let mut ws = live.user("ann");
        ws.send(CLOSE, payload);
        assert_eq!(ws.next(), Heard::Close(code, String::new()));
        assert_eq!(ws.next(), Heard::End);
    }
    live.assert_empty();
}

#[test]
fn a_node_that_stops_tells_its_clients_once_all_was_delivered() {
    let live = Live::start(&[]);
    let mut ann = live.user("ann");
    ann.join("demo");
    let mut bob = live.user("bob");
    for n in 0..50 {
        let last = n == 49;
        let note =
            json!({ "type": "note", "room": "demo", "id": n, "data": {}, "requiresAck": last });
        bob.tell(&note);
    }
    // What a lane has read may still be on its way out of it; what is acked is not.
    assert_eq!(bob.json()["ackId"], "49");
    let silent = live.dial();
    let mut clients = [ann, bob, silent];
    let address = live.public();
    let stopping = std::thread::spawn(move || live.stop());
    for n in 0..50 {
        assert_eq!(clients[0].json()["id"], n.to_string());
    }
    for client in &mut clients {
        client.expect_close(Close::Stopping);
    }
    drop(clients);
    stopping.join().unwrap();
    assert!(std::net::TcpStream::connect(address).is_err(), "the node still listens");
}

#[test]
fn an_operator_ends_the_sessions_of_a_user_alone() {
    let live = Live::start(&[]);
    let (mut first, mut second, mut other) = (live.user("ann"), live.user("ann"), live.user("bob"));
    let (status, body) = live.request("POST", "/api/v1/users/ann/disconnect", "");
    assert!(status == 200 || status == 204, "{status} {body}");
    first.expect_close(Close::Disconnected);
    second.expect_close(Close::Disconnected);
    expect_pong(&mut other);
    live.expect_closes(Close::Disconnected, 2);
}

/// What a watcher of `agents` hears of an agent.
#[track_caller]
fn agent_notice(watcher: &mut Ws, kind: &str, status: &str) -> Value {
    let heard = watcher.json();
    assert_eq!(heard["type"], kind, "{heard}");
    assert_eq!(heard["data"]["agent_id"], 7, "{heard}");
    assert_eq!(heard["data"]["status"], status, "{heard}");
    assert!(heard["data"]["last_seen"].is_string(), "{heard}");
    heard
}

#[test]
fn agents_come_and_go_after_their_grace() {
    let live = Live::start(&[("agents.leave_grace", "500ms")]);
    let mut watcher = live.user("watcher");
    watcher.join("agents");
    let mut single = live.user("single");
    single.join("agent-7");
    let token = live.token_of(&json!({ "sub": "agent-7", "agent_id": 7 }));
    let agent = live.enter(&token);
    agent_notice(&mut watcher, "agent_connected", "online");
    agent_notice(&mut single, "agent_connected", "online");
    // A second connection of the same agent, and a quick return, are no news.
    let second = live.enter(&token);
    agent.close();
    second.close();
    let back = live.enter(&token);
    watcher.expect_silence(Duration::from_millis(800));
    // A killed one is: after the grace, once.
    let gone = Instant::now();
    drop(back);
    let heard = agent_notice(&mut watcher, "agent_disconnected", "offline");
    agent_notice(&mut single, "agent_disconnected", "offline");
    assert!(gone.elapsed() >= Duration::from_millis(450), "{:?}", gone.elapsed());
    assert_eq!(heard["room"], "agents");
    watcher.expect_silence(QUIET);
}
