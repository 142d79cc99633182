//! What other programs with access to Redis can do to a node: nothing but be heard as outsiders (attack 39).

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod common;

use std::time::Duration;

use common::{Real, Topology, options, room, subscribed};
use roomcast_protocol::envelope::BrokerCommand;
use roomcast_protocol::ids::NodeId;
use roomcast_protocol::relay::RelayMode;

const ONE: NodeId = NodeId(1);
const TWO: NodeId = NodeId(2);

/// The tag of the partition that holds what belongs to no room.
const COMMON: &str = "460";

#[test]
fn a_channel_with_an_endless_name_costs_no_feed() {
    let topology = Topology::standalone();
    let mut broker = Real::new(options(&topology, RelayMode::Pattern));
    broker.attach_node(ONE);
    subscribed(&mut broker, ONE, "news", 1);
    for bytes in [1_020, 2_000, 9 << 20] {
        topology.publish(&format!("room:{}", "x".repeat(bytes)), "hi");
        topology.publish("room:news", "after");
        assert_eq!(
            broker.heard_until(ONE, "news message external after"),
            ["news message external after"],
            "{bytes} bytes"
        );
    }
}

#[test]
fn nonsense_in_the_keys_of_the_relay_is_replaced() {
    let topology = Topology::standalone();
    let key = |kind: &str| format!("rc:{{{COMMON}}}:{kind}:");
    let spoil = |name: &str| {
        topology.raw(&["DEL", name]);
        topology.raw(&["RPUSH", name, "nonsense"]);
    };
    spoil(&key("relay-key"));
    spoil(&key("nodes"));
    let mut broker = Real::new(options(&topology, RelayMode::Pattern));
    broker.attach_node(ONE);
    broker.attach_node(TWO);
    subscribed(&mut broker, ONE, "news", 1);
    assert!(broker.beat(ONE).is_some());
    for name in ["relay-key", "nodes"] {
        spoil(&key(name));
        assert!(broker.beat(ONE).is_some(), "{name}");
    }
    // Leases that no node holds, one of them for ever.
    for (node, lease) in [("x", "1 1 a"), ("\u{0}", ""), ("ff", "99999999999999999999 0 aa aa")] {
        topology.raw(&["HSET", &key("nodes"), node, lease]);
    }
    assert_eq!(broker.beat(ONE).unwrap().peers, []);
    let peers = broker.beat(TWO).unwrap().peers;
    assert_eq!(peers.iter().map(|peer| peer.node).collect::<Vec<_>>(), [ONE]);
    // Ids.
    broker.publish(ONE, 1, "news", "first", true);
    assert!(broker.outcome(ONE, 1).is_ok());
    let keys = topology.text(&["KEYS", "rc:*:ids:news"]);
    spoil(&keys);
    spoil(&keys.replace(":ids:", ":ids-old:"));
    broker.publish(ONE, 2, "news", "second", true);
    assert!(broker.outcome(ONE, 2).is_ok());
    broker.publish(ONE, 2, "news", "second", true);
    assert!(broker.outcome(ONE, 2).is_ok(), "a repeat is known");
    broker.publish(ONE, 3, "news", "third", false);
    let heard = broker.heard_until(ONE, "news message ann third");
    assert_eq!(heard, ["first", "second", "third"].map(|it| format!("news message ann {it}")));
}

#[test]
fn a_relay_key_that_redis_lost_is_put_back_or_replaced_on_every_node() {
    for joined_first in [true, false] {
        let topology = Topology::standalone();
        let mut one = Real::new(options(&topology, RelayMode::Pattern));
        one.attach_node(ONE);
        topology.flush();
        let mut two = Real::new(options(&topology, RelayMode::Pattern));
        if joined_first {
            two.attach_node(TWO);
        }
        assert!(one.beat(ONE).is_some());
        if !joined_first {
            two.attach_node(TWO);
        }
        subscribed(&mut two, TWO, "news", 1);
        for dedup in [false, true] {
            one.publish(ONE, 1, "news", "hi", dedup);
            assert!(one.outcome(ONE, 1).is_ok());
            let heard = two.heard_until(TWO, "news message ann hi");
            assert_eq!(heard, ["news message ann hi"]);
        }
    }
}

#[test]
fn an_id_is_not_remembered_for_what_was_not_published() {
    let user = ["--user", "node", "on", ">open sesame", "~*", "+@all", "resetchannels", "&rc:*"];
    let topology = Topology::standalone_with(&user);
    let mut options = options(&topology, RelayMode::Pattern);
    options.credentials.username = Some("node".to_owned());
    options.credentials.password = Some("open sesame".to_owned());
    let mut broker = Real::new(options);
    broker.attach_without_feed(ONE);
    for ticket in [1, 2] {
        // The same id twice.
        broker.publish_as(ONE, ticket, 1, "news", "x", true);
        let refused = broker.outcome(ONE, ticket).unwrap_err();
        assert!(!refused.unknown && refused.message.contains("does not let"), "{refused:?}");
    }
}

#[test]
fn a_redis_whose_memory_is_full_still_relays_and_declines_what_it_would_have_to_remember() {
    let topology = Topology::standalone();
    let mut broker = Real::new(options(&topology, RelayMode::Pattern));
    broker.attach_node(ONE);
    subscribed(&mut broker, ONE, "news", 1);
    topology.raw(&["CONFIG", "SET", "maxmemory", "1"]);
    assert!(broker.beat(ONE).is_some());
    broker.publish(ONE, 1, "news", "remembered", true);
    let refused = broker.outcome(ONE, 1).unwrap_err();
    assert!(!refused.unknown && refused.message.contains("memory is full"), "{refused:?}");
    broker.publish(ONE, 2, "news", "forgotten", false);
    assert!(broker.outcome(ONE, 2).is_ok());
    let heard = broker.heard_until(ONE, "news message ann forgotten");
    assert_eq!(heard, ["news message ann forgotten"]);
    // Also a node that comes later.
    broker.attach_node(TWO);
    assert!(broker.beat(TWO).is_some());
}

/// Bytes that no node sends.
fn garbage() -> Vec<Vec<u8>> {
    let deep = [b"{\"data\":".as_slice(), &b"[".repeat(100_000)].concat();
    let mut closed = deep.clone();
    closed.extend_from_slice(&b"]".repeat(100_000));
    closed.push(b'}');
    vec![
        Vec::new(),
        b"\xff\xfe\x00\xc3".to_vec(),
        b"\xc1".to_vec(),
        [&b"\xc1\x01"[..], &[0; 60]].concat(),
        [&b"\xc1\x02"[..], &[0; 60]].concat(),
        [&b"\xc1\x01"[..], &[0xff; 4_000]].concat(),
        closed,
        vec![b'x'; 9 << 20],
        b"*3\r\n$7\r\nmessage\r\n$9\r\nroom:news\r\n$1\r\nx\r\n".to_vec(),
    ]
}

#[test]
fn garbage_on_every_kind_of_channel_reaches_nobody_and_costs_nothing() {
    for mode in RelayMode::ALL {
        let topology = Topology::standalone();
        let mut broker = Real::new(options(&topology, mode));
        broker.attach_node(ONE);
        for (request, name) in (1..).zip(["news", "bystander"]) {
            subscribed(&mut broker, ONE, name, request);
        }
        assert!(broker.beat(ONE).is_some());
        broker.publish(ONE, 1, "news", "first", true);
        assert!(broker.outcome(ONE, 1).is_ok());
        assert_eq!(broker.heard_until(ONE, "news message ann first").len(), 1);
        let ids = topology.text(&["KEYS", "rc:*:ids:news"]);
        let own = ids.replace("ids:", "");
        let beat = format!("$beat:{ONE}");
        let channels = [
            "room:news",
            &own,
            "room:",
            "room: ",
            "room:a\0b",
            "room:[ab]*",
            "room:$control",
            &format!("room:{beat}"),
            &format!("rc:{{{COMMON}}}:{beat}"),
            "rc:{}:news",
            "other",
        ];
        for (at, bytes) in garbage().iter().enumerate() {
            for channel in channels {
                topology.raw(&[b"PUBLISH", channel.as_bytes(), bytes]);
                topology.raw(&[b"SPUBLISH", channel.as_bytes(), bytes]);
            }
            let last = format!("bystander message ann {at}");
            broker.publish(ONE, 100 + at as u64, "bystander", &at.to_string(), true);
            assert!(broker.outcome(ONE, 100 + at as u64).is_ok());
            // What is text is an outsider's; nothing else is heard, and the feed stays.
            let heard = broker.heard_until(ONE, &last);
            let others = heard.iter().filter(|it| !it.starts_with("bystander"));
            assert!(
                others.clone().all(|it| it.starts_with("news message external")),
                "{at}: {heard:?}"
            );
            assert!(others.count() <= 2, "{at}: {heard:?}");
        }
        assert!(broker.beat(ONE).is_some());
    }
}

#[test]
fn a_million_rooms_that_nobody_wants_cost_the_feed_nothing() {
    let topology = Topology::standalone();
    let mut broker = Real::new(options(&topology, RelayMode::Pattern));
    broker.attach_node(ONE);
    subscribed(&mut broker, ONE, "news", 1);
    let flood =
        "for i = 1, 5000 do redis.call('PUBLISH', 'room:x' .. ARGV[1] .. '-' .. i, 'y') end";
    for round in 0..200 {
        topology.raw(&["EVAL", flood, "0", &round.to_string()]);
    }
    broker.publish(ONE, 1, "news", "after", true);
    assert!(broker.outcome(ONE, 1).is_ok());
    assert_eq!(broker.heard_until(ONE, "news message ann after"), ["news message ann after"]);
}

#[test]
fn rooms_joined_and_left_while_the_feed_is_cut_are_heard_exactly_as_wanted_at_the_end() {
    const ROOMS: usize = 20;
    let topology = Topology::proxied();
    let mut broker = Real::new(options(&topology, RelayMode::Exact));
    broker.attach_node(ONE);
    let mut wanted = [0_u64; ROOMS];
    let (mut request, mut cut) = (0, 0);
    for step in 0..2_000_usize {
        let at = step * 7 % ROOMS;
        let name = format!("news-{at}");
        if wanted[at] == 0 {
            request += 1;
            wanted[at] = request;
            broker.command(ONE, BrokerCommand::Subscribe { room: room(&name), request });
        } else if step % 3 != 0 {
            wanted[at] = 0;
            broker.leave(ONE, &name);
        }
        if step % 100 == 50 {
            cut += topology.proxy().cut_those("SUBSCRIBE", "FCALL");
        }
        if step % 10 == 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    assert!(cut > 1, "the feed was never cut");
    broker.stand(ONE);
    // Another request, so that it is known that all before it are in force.
    subscribed(&mut broker, ONE, "last", request + 1);
    let (confirmed, up_to) = broker.confirmed(ONE);
    for (at, request) in wanted.iter().enumerate().filter(|(_, request)| **request > 0) {
        assert!(confirmed.contains(request) || up_to >= *request, "room {at} is not answered");
    }
    let mut all = confirmed.clone();
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), confirmed.len(), "a request is answered once");
    let mut expected: Vec<_> =
        (0..ROOMS).filter(|at| wanted[*at] > 0).map(|at| format!("news-{at}")).collect();
    expected.extend(["last".to_owned(), format!("$beat:{ONE}")]);
    expected.sort();
    let channels = topology.texts(&["PUBSUB", "CHANNELS", "rc:*"]);
    let mut names: Vec<_> =
        channels.iter().map(|it| it.split_once("}:").unwrap().1.to_owned()).collect();
    names.sort();
    assert_eq!(names, expected);
    let mut plain = topology.texts(&["PUBSUB", "CHANNELS", "room:*"]);
    plain.sort();
    expected.retain(|it| !it.starts_with('$'));
    assert_eq!(plain, expected.iter().map(|it| format!("room:{it}")).collect::<Vec<_>>());
}
