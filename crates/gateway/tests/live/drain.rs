//! A node that drains: nobody new comes in, whoever is there has its turn, and the balancer is told in time.

use std::time::{Duration, Instant};

use roomcast_protocol::codes::{Close, Refusal};
use serde_json::Value;

use crate::common::ws::{Dial, Heard, Ws};
use crate::common::{Live, metric_at, request};

/// A node whose drain has these times.
fn node(window: &str, deadline: &str) -> Live {
    Live::start(&[("drain.window", window), ("drain.deadline", deadline)])
}

/// Waits until the node says that it drains, and gives its `/readyz`.
fn draining(internal: std::net::SocketAddr) -> Value {
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        let (status, body) = request(internal, "GET", "/readyz", "");
        let body: Value = serde_json::from_str(&body).unwrap();
        if body["drain"]["state"] != "serving" {
            assert_eq!(status, 503);
            return body;
        }
        assert!(Instant::now() < deadline, "it does not drain: {body}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// How the connection ends: the Close frame's code, or `None` where the socket ends without one.
fn end(ws: &mut Ws) -> Option<u16> {
    loop {
        match ws.next() {
            Heard::Close(code, _) => return code,
            Heard::End => return None,
            _ => {}
        }
    }
}

#[test]
fn a_node_without_clients_ends_its_drain_at_once() {
    let drained = node("5s", "10s").drain();
    assert_eq!((drained.clients, drained.cut), (0, 0));
    assert!(drained.took_ms < 2_000, "{drained:?}");
}

#[test]
fn a_draining_node_is_not_ready_and_refuses_new_clients_until_its_last_one_has_gone() {
    let live = node("1s", "2s");
    let mut clients: Vec<_> = (0..3).map(|n| live.user(&format!("user-{n}"))).collect();
    let (public, internal, token) = (live.public(), live.internal(), live.token("late", "user"));
    let began = Instant::now();
    let drain = std::thread::spawn(move || live.drain());
    let body = draining(internal);
    assert_eq!(
        (&body["status"], &body["cause"]),
        (&"not_ready".into(), &"the node is draining".into())
    );
    assert_eq!(body["drain"]["clients"], 3);
    let late = Dial::with_token(&token).send(public);
    assert_eq!((late.status, late.header("retry-after")), (503, Some("1")));
    let problem = late.problem();
    assert_eq!(problem["code"], Refusal::Unavailable.row().code);
    assert_eq!(metric_at(internal, "roomcast_node_draining", ""), Some(1.0));
    let refused = || metric_at(internal, "roomcast_node_drain_refused_total", "");
    let deadline = Instant::now() + Duration::from_secs(1);
    while refused() != Some(1.0) {
        assert!(Instant::now() < deadline, "{:?}", refused());
        std::thread::sleep(Duration::from_millis(20));
    }
    for ws in &mut clients {
        let code = end(ws);
        assert!(code.is_none_or(|code| code == Close::Drain.row().code), "{code:?}");
    }
    drop(clients);
    let drained = drain.join().unwrap();
    assert_eq!(drained.clients, 3);
    assert!(began.elapsed() < Duration::from_secs(5), "{drained:?}");
    assert!(std::net::TcpStream::connect(public).is_err(), "it has ended");
}
