//! Limits on who may connect: each at its value and one over it, with its name and value in the refusal and a metric
//! that counts it. Who is refused is told in HTTP before the upgrade, or by a close where the token came after it.

use std::time::Duration;

use roomcast_protocol::codes::Close;
use roomcast_protocol::limits::LimitName;
use serde_json::json;

use crate::common::Live;
use crate::common::ws::{Answered, Dial, Heard, Ws};
use crate::scene::expect_pong;

/// The upgrade was refused because of this limit.
#[track_caller]
fn refused(answered: Answered, status: u16, limit: LimitName, value: u64) {
    assert_eq!(answered.status, status);
    let retry_after_s: u64 = answered.header("retry-after").unwrap().parse().unwrap();
    let problem = answered.problem();
    assert_eq!(problem["limit"], limit.name(), "{problem}");
    assert_eq!(problem["value"], value, "{problem}");
    assert_eq!(problem["retry_after_ms"], retry_after_s * 1_000, "{problem}");
    assert_eq!((&problem["code"], &problem["name"]), (&json!(121), &json!("limit")), "{problem}");
    assert!(problem["detail"].as_str().unwrap().contains(limit.name()), "{problem}");
}

/// Opens one more as soon as those that ended are counted no more.
#[track_caller]
fn opens_soon(dial: &Dial, live: &Live) -> Ws {
    for _ in 0..100 {
        let answered = dial.send(live.public());
        if answered.status == 101 {
            return answered.ws;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    panic!("the place is not given back");
}

#[test]
fn an_address_has_its_number_of_connections_and_one_more_is_refused() {
    let live = Live::start(&[("limits.connections_per_ip", "3")]);
    let dial = Dial::with_token(&live.token("ann", "user"));
    let (first, second, mut silent) =
        (dial.open(live.public()), dial.open(live.public()), live.dial());
    refused(dial.send(live.public()), 429, LimitName::ConnectionsPerIp, 3);
    refused(Dial::default().send(live.public()), 429, LimitName::ConnectionsPerIp, 3);
    live.expect_hits(LimitName::ConnectionsPerIp, 2);
    // A refused handshake takes no place, and neither does a plain request.
    assert_ne!(Dial::default().path("/elsewhere").send(live.public()).status, 429);
    drop(first);
    opens_soon(&dial, &live).welcome();
    silent.expect_silence(Duration::from_millis(50));
    drop(second);
}

#[test]
fn a_user_has_its_number_of_connections_and_one_more_is_refused() {
    let live = Live::start(&[("limits.connections_per_user", "2")]);
    let token = live.token("ann", "user");
    let dial = Dial::with_token(&token);
    let header = Dial::default().header("Authorization", &format!("Bearer {token}"));
    let mut first = live.enter(&token);
    let second = header.open(live.public());
    refused(dial.send(live.public()), 429, LimitName::ConnectionsPerUser, 2);
    refused(header.send(live.public()), 429, LimitName::ConnectionsPerUser, 2);
    live.expect_hits(LimitName::ConnectionsPerUser, 2);
    // With the token in the first frame it shows after the upgrade only.
    let mut late = live.dial();
    late.tell(&json!({ "type": "auth", "token": token }));
    late.expect_close_over(Close::Limit, LimitName::ConnectionsPerUser, 2);
    live.expect_hits(LimitName::ConnectionsPerUser, 3);
    live.expect_closes(Close::Limit, 1);
    // Others are not concerned; a place that is free again is given.
    live.user("bob");
    expect_pong(&mut first);
    drop(second);
    opens_soon(&dial, &live).welcome();
}

#[test]
fn the_node_has_its_number_of_sockets_and_one_more_is_hung_up() {
    let live = Live::start(&[("limits.connections_max", "2")]);
    let mut first = live.user("ann");
    let mut second = live.user("bob");
    let hung_up = || {
        let mut socket = std::net::TcpStream::connect(live.public()).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        std::io::Read::read(&mut socket, &mut [0; 16]).map_or(true, |count| count == 0)
    };
    assert!(hung_up());
    live.expect_hits(LimitName::ConnectionsPerNode, 1);
    assert_eq!(live.metric("roomcast_node_connections_max"), Some(2.0));
    expect_pong(&mut first);
    expect_pong(&mut second);
    drop(first);
    for attempt in 0.. {
        let free = live.metric("roomcast_connections_open") == Some(1.0);
        if free {
            break;
        }
        assert!(attempt < 100, "the socket is still counted");
        std::thread::sleep(Duration::from_millis(50));
    }
    live.user("cat");
}

#[test]
fn so_many_may_be_without_a_token_and_one_more_is_refused() {
    let live = Live::start(&[("limits.unauthenticated_max", "2"), ("node.lanes", "1")]);
    let (mut first, second) = (live.dial(), live.dial());
    refused(Dial::default().send(live.public()), 503, LimitName::Unauthenticated, 2);
    live.expect_hits(LimitName::Unauthenticated, 1);
    // Whoever brings a token comes in, and who has brought one counts no more.
    live.user("ann");
    first.tell(&json!({ "type": "auth", "token": live.token("bob", "user") }));
    first.welcome();
    let third = live.dial();
    refused(Dial::default().send(live.public()), 503, LimitName::Unauthenticated, 2);
    drop((second, third));
}

/// What an upgrade with these `X-Forwarded-For` lines gets where an address has one connection.
fn forwarded(live: &Live, lines: &[&str]) -> (u16, Ws) {
    let dial = Dial::with_token(&live.token("ann", "user"));
    let dial = lines.iter().fold(dial, |dial, line| dial.header("X-Forwarded-For", line));
    let answered = dial.send(live.public());
    (answered.status, answered.ws)
}

#[test]
fn a_trusted_proxy_speaks_for_its_clients() {
    let live = Live::start(&[
        ("limits.connections_per_ip", "1"),
        ("listen.trusted_proxies", "127.0.0.0/8,10.0.0.0/8"),
    ]);
    let mut kept = Vec::new();
    let mut check = |status: u16, lines: &[&str]| {
        let (got, ws) = forwarded(&live, lines);
        assert_eq!(got, status, "{lines:?}");
        kept.push(ws);
    };
    check(101, &["198.51.100.1"]);
    check(429, &["198.51.100.1"]);
    check(101, &["198.51.100.2"]);
    // What the client itself wrote is to the left, and is not believed.
    check(429, &["203.0.113.9, 198.51.100.2"]);
    check(429, &["203.0.113.10", "198.51.100.1"]);
    check(429, &["198.51.100.1, 10.0.0.1, 10.0.0.2"]);
    check(101, &["198.51.100.3:4711, 10.0.0.1"]);
    // IPv6 counts by /64.
    check(101, &["2001:db8:1:2::1"]);
    check(429, &["2001:db8:1:2:ffff::9"]);
    check(101, &["[2001:db8:1:3::1]:80"]);
    // Garbage is the proxy's own connection, of which there may be one.
    check(101, &["<script>"]);
    check(429, &["1.2.3"]);
    check(429, &[]);
    live.expect_hits(LimitName::ConnectionsPerIp, 7);
}

#[test]
fn nobody_else_speaks_for_an_address() {
    let live = Live::start(&[("limits.connections_per_ip", "1")]);
    let (status, _held) = forwarded(&live, &["198.51.100.1"]);
    assert_eq!(status, 101);
    let hops: Vec<String> = (0..100).map(|hop| format!("198.51.100.{hop}")).collect();
    for line in ["198.51.100.2", "127.0.0.2", "::1", &hops.join(", ")] {
        assert_eq!(forwarded(&live, &[line]).0, 429, "{line}");
    }
}

#[test]
fn pages_of_other_origins_may_not_connect() {
    let live = Live::start(&[("origins.allow", "https://good.example")]);
    let from = |origin: &str| Dial::with_token(&live.token("ann", "user")).header("Origin", origin);
    for origin in [
        "https://evil.example",
        "https://good.example.evil",
        "https://good.evil",
        "http://good.example",
        "https://good.example:444",
        "https://GOOD.example",
        "null",
        "",
    ] {
        let answered = from(origin).send(live.public());
        assert_eq!(answered.status, 403, "{origin}");
        assert!(answered.problem()["detail"].as_str().unwrap().contains("origins.allow"));
    }
    let two = from("https://good.example").header("Origin", "https://evil.example");
    assert!([400, 403].contains(&two.send(live.public()).status));
    let two = from("https://evil.example").header("Origin", "https://good.example");
    assert!([400, 403].contains(&two.send(live.public()).status));
    // A listed page, and programs, which have no origin.
    from("https://good.example").open(live.public()).welcome();
    live.user("program");
    // A page's refused upgrade takes no place.
    live.assert_empty();
}

#[test]
fn subprotocols_that_nobody_speaks_are_refused() {
    let live = Live::start(&[]);
    let dial = Dial::with_token(&live.token("ann", "user"));
    let answered = dial.clone().subprotocol("graphql-ws, roomcast.v2.json").send(live.public());
    assert_eq!(answered.status, 400);
    assert!(answered.problem()["detail"].as_str().unwrap().contains("roomcast.v1.json"));
    let answered = dial.clone().subprotocol("chat, roomcast.v1.json").send(live.public());
    assert_eq!(
        (answered.status, answered.header("sec-websocket-protocol")),
        (101, Some("roomcast.v1.json"))
    );
    let mut plain = dial.send(live.public());
    assert_eq!((plain.status, plain.header("sec-websocket-protocol")), (101, None));
    assert!(matches!(plain.ws.next(), Heard::Text(_)));
    assert_eq!(plain.header("sec-websocket-extensions"), None, "no extension is agreed to");
}
