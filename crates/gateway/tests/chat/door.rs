//! Who is let in: in the words of the chat protocol, and as HTTP, before there is a session.

use std::time::Duration;

use crate::chat::SERVED;
use crate::common::Live;
use crate::common::http::request;
use crate::common::ws::{Dial, Heard, PING, PONG};

fn dial() -> Dial {
    Dial::default().path("/chat")
}

#[track_caller]
fn refused(live: &Live, dial: &Dial, error: &str) {
    let answered = dial.send(live.public());
    assert_eq!(answered.status, 401);
    assert_eq!(answered.header("content-type"), Some("application/json"));
    assert_eq!(answered.header("www-authenticate"), Some("Bearer"));
    assert_eq!(answered.body(), format!("{{\"error\":\"{error}\"}}"));
}

#[test]
fn without_a_token_that_is_good_there_is_no_upgrade() {
    let live = Live::start(&SERVED);
    refused(&live, &dial(), "Unauthorized");
    refused(&live, &dial().subprotocol("protocol"), "Unauthorized");
    refused(&live, &dial().header("Authorization", "Basic eA=="), "Unauthorized");
    refused(&live, &dial().path("/chat?token=e.p.s"), "Unauthorized");
    refused(&live, &dial().subprotocol("protocol, e.p.s"), "invalid token");
    let good = live.token("ann", "user");
    let cut = &good[..good.len() - 1];
    refused(&live, &dial().header("Authorization", &format!("Bearer {cut}")), "invalid token");
    for answered in [
        dial().header("Authorization", &format!("Bearer {good}")).send(live.public()),
        dial().subprotocol(&format!("protocol, {good}")).send(live.public()),
    ] {
        assert_eq!(answered.status, 101);
    }
}

#[test]
fn who_asks_for_no_upgrade_is_told_to() {
    let live = Live::start(&SERVED);
    assert_eq!(
        request(live.public(), "GET", "/chat", ""),
        (426, "Expected WebSocket Upgrade".into())
    );
    // In the words of every other path.
    let (status, body) = request(live.public(), "GET", "/ws", "");
    assert_eq!(status, 426);
    assert!(body.contains("this address speaks WebSocket"), "{body}");
    let (status, body) = request(live.public(), "POST", "/chat", "");
    assert_eq!(status, 405);
    assert!(body.contains("a WebSocket handshake is a GET request"), "{body}");
}

#[test]
fn where_chat_is_not_served_its_path_is_nobodys() {
    let live = Live::start(&[]);
    assert_eq!(dial().send(live.public()).status, 404);
}

#[test]
fn who_says_nothing_for_20_s_is_closed_and_told_since_when() {
    let live = Live::start(&SERVED);
    let token = live.token("ann", "user");
    let mut ws = dial().subprotocol(&format!("protocol, {token}")).open(live.public());
    let mut closed = None;
    let began = std::time::Instant::now();
    while closed.is_none() && began.elapsed() < Duration::from_secs(40) {
        // Control frames say nothing.
        ws.send(PING, b"");
        match ws.heard(Duration::from_secs(1)) {
            Some(Heard::Close(code, reason)) => closed = Some((code, reason)),
            Some(Heard::Ping(payload)) => ws.send(PONG, &payload),
            Some(Heard::Pong(_)) | None => std::thread::sleep(Duration::from_millis(500)),
            Some(Heard::Text(_) | Heard::Binary(_) | Heard::End) => {
                panic!("closed without a reason")
            }
        }
    }
    let (code, reason) = closed.unwrap();
    assert_eq!(code, Some(1011));
    let times = reason.strip_prefix("last ping: ").unwrap().split_once(", now: ").unwrap();
    let silent_ms = times.1.parse::<u64>().unwrap() - times.0.parse::<u64>().unwrap();
    assert!((20_000..30_000).contains(&silent_ms), "{reason}");
}
