//! What other programs with access to Redis can do to a node: nothing but be heard as outsiders (attack 39).

mod common;

use common::{Real, Topology, options, subscribed};
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
