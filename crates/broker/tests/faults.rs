//! What becomes of the feed and of commands when servers change their roles, connections break in the wrong moment, or
//! nothing is where it was.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::wildcard_enum_match_arm,
    clippy::indexing_slicing,
    reason = "helpers of tests fail as tests do"
)]

mod common;

use std::time::{Duration, Instant};

use common::{Real, Topology, options, room, subscribed};
use roomcast_protocol::envelope::{BeatReport, BrokerCommand, BrokerEvent};
use roomcast_protocol::ids::NodeId;
use roomcast_protocol::relay::RelayMode;
use xtask::servers::{Cluster, Redis, Reply};

const ONE: NodeId = NodeId(1);
const TWO: NodeId = NodeId(2);

/// How many publications wait at once.
const MANY: u64 = 500;

#[test]
fn a_demoted_server_is_asked_for_another_now_and_then_and_outcomes_come_in_time() {
    let topology = Topology::proxied();
    let mut broker = Real::new(options(&topology, RelayMode::Pattern));
    broker.attach_node(ONE);
    subscribed(&mut broker, ONE, "news", 1);
    // A replica of nobody.
    topology.raw(&["REPLICAOF", "127.0.0.1", "1"]);
    let (before, began) = (topology.proxy().accepted(), Instant::now());
    for ticket in 1..=MANY {
        broker.publish(ONE, ticket, "news", "never", true);
    }
    for ticket in 1..=MANY {
        let refused = broker.outcome(ONE, ticket).unwrap_err();
        assert!(!refused.unknown, "a replica takes none: {refused:?}");
    }
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    let connected = topology.proxy().accepted() - before;
    assert!(connected < 60, "{connected} connections for {MANY} publications");
    topology.raw(&["REPLICAOF", "NO", "ONE"]);
    broker.publish(ONE, MANY + 1, "news", "at last", true);
    assert!(broker.outcome(ONE, MANY + 1).is_ok());
    assert_eq!(
        broker.heard_until(ONE, "news message ann at last").pop().unwrap(),
        "news message ann at last"
    );
}

#[test]
fn a_promoted_replica_takes_nobody_for_hearing_who_has_not_come_to_it() {
    let mut topology = Topology::sentinel();
    let mut one = Real::new(options(&topology, RelayMode::Pattern));
    let mut two = Real::new(options(&topology, RelayMode::Pattern));
    one.attach_node(ONE);
    two.attach_node(TWO);
    let hears = |report: Option<BeatReport>| {
        report.map(|report| report.peers.iter().map(|peer| (peer.node, peer.hears)).collect())
    };
    assert!(two.beat(TWO).is_some());
    assert_eq!(hears(one.beat(ONE)), Some(vec![(TWO, true)]));
    let Topology::Sentinel(sentinels) = &mut topology else { panic!("no Sentinels") };
    let replica = sentinels.replica().unwrap();
    let replicated = || {
        let keys = replica.command(&["KEYS", "rc:*:nodes:"]).unwrap();
        let leases = |key: &Reply| replica.command(&["HLEN", &key.text()]).unwrap().text();
        keys.items().first().is_some_and(|key| leases(key) == "2")
    };
    let deadline = Instant::now() + Duration::from_secs(20);
    while !replicated() {
        assert!(Instant::now() < deadline, "the replica does not follow");
        std::thread::sleep(Duration::from_millis(10));
    }
    let old = sentinels.kill_master().unwrap();
    sentinels.promoted(old).unwrap();
    let seen = loop {
        if let Some(seen) = hears(one.beat(ONE)) {
            break seen;
        }
    };
    assert_eq!(seen, vec![(TWO, false)], "its lease is known, its feed is not");
    while two.beat(TWO).is_none() {}
    assert_eq!(hears(one.beat(ONE)), Some(vec![(TWO, true)]));
}

#[test]
fn a_room_is_joined_though_another_master_keeps_the_commands_waiting() {
    let mut topology = Topology::cluster();
    let mut broker = Real::new(options(&topology, RelayMode::Sharded));
    broker.attach_node(ONE);
    broker.publish(ONE, 1, "news", "first", true);
    assert!(broker.outcome(ONE, 1).is_ok());
    let Topology::Cluster(cluster) = &mut topology else { panic!("no Cluster") };
    let slot = cluster.slot_of(&ids_key(cluster, "news")).unwrap();
    let home = cluster.owner(slot).unwrap();
    let other = (home + 1) % 3;
    cluster.node(other).unwrap().freeze().unwrap();
    cluster.nodes()[home].command(&["CLIENT", "KILL", "TYPE", "normal"]).unwrap();
    std::thread::sleep(Duration::from_millis(400));
    broker.command(ONE, BrokerCommand::Subscribe { room: room("news"), request: 1 });
    std::thread::sleep(Duration::from_millis(400));
    cluster.node(other).unwrap().thaw().unwrap();
    broker.wait(ONE, "the confirmation", |event| match event {
        BrokerEvent::Subscribed { request: 1, .. } => Some(()),
        BrokerEvent::FeedUp { request: 1, .. } => Some(()),
        _ => None,
    });
    broker.publish_surely(ONE, 10, "news", "hi");
    assert_eq!(broker.heard_until(ONE, "news message ann hi"), ["news message ann hi"]);
}

/// The key that remembers a room's ids.
fn ids_key(cluster: &Cluster, room: &str) -> String {
    let keys = |node: &Redis| {
        let reply = node.command(&["KEYS", &format!("rc:*:ids:{room}")]).unwrap();
        reply.items().first().map(Reply::text)
    };
    cluster.nodes().iter().find_map(keys).unwrap()
}

#[test]
fn slots_that_move_under_load_cost_no_room_its_feed() {
    for mode in RelayMode::ALL {
        let topology = Topology::cluster();
        let Topology::Cluster(cluster) = &topology else { panic!("no Cluster") };
        let mut options = options(&topology, mode);
        options.dedup_ttl_ms = 120_000;
        options.dedup_max = 100_000;
        let mut broker = Real::new(options);
        broker.attach_node(ONE);
        for (request, name) in (1..).zip(["a", "b", "c", "d"]) {
            subscribed(&mut broker, ONE, name, request);
        }
        broker.publish(ONE, 1, "a", "first", true);
        assert!(broker.outcome(ONE, 1).is_ok());
        let slot = cluster.slot_of(&ids_key(cluster, "a")).unwrap();
        let mut ticket = 10;
        std::thread::scope(|scope| {
            let to = (cluster.owner(slot).unwrap() + 1) % 3;
            let moving = scope.spawn(move || cluster.move_slot(slot, to).unwrap());
            while !moving.is_finished() || ticket < 200 {
                for name in ["a", "b", "c", "d"] {
                    ticket += 1;
                    broker.publish(ONE, ticket, name, "load", true);
                    let outcome = broker.outcome(ONE, ticket);
                    assert!(outcome.is_ok(), "{mode:?}: {outcome:?}");
                }
            }
        });
        // Settled: every room is heard, and the id of the beginning is still known.
        broker.publish(ONE, 1, "a", "first", true);
        let outcome = broker.outcome(ONE, 1);
        assert!(outcome.is_ok(), "{outcome:?}");
        // Neither: a publication without an id.
        broker.publish(ONE, 2, "a", "plain", false);
        assert!(broker.outcome(ONE, 2).is_ok());
        broker.stand(ONE);
        for name in ["a", "b", "c", "d"] {
            broker.publish_surely(ONE, 10_000, name, "last");
            let last = format!("{name} message ann last");
            let heard = broker.heard_until(ONE, &last);
            assert!(heard.iter().filter(|it| it.ends_with("a message ann first")).count() <= 1);
        }
    }
}

#[test]
fn an_id_is_published_once_though_the_answer_was_cut_off() {
    let topology = Topology::proxied();
    let mut broker = Real::new(options(&topology, RelayMode::Pattern));
    broker.attach_node(ONE);
    subscribed(&mut broker, ONE, "news", 1);
    let mut expected = Vec::new();
    for ticket in 1..=30 {
        let text = format!("{ticket}");
        broker.publish(ONE, ticket, "news", &text, true);
        // Before, while and after it is on its way.
        std::thread::sleep(Duration::from_micros(ticket * 40));
        assert!(topology.proxy().cut_those("FCALL", "PSUBSCRIBE") <= 2);
        let outcome = broker.outcome(ONE, ticket);
        assert!(outcome.is_ok(), "{outcome:?}");
        expected.push(format!("news message ann {text}"));
    }
    let heard = broker.heard_until(ONE, "news message ann 30");
    assert_eq!(heard, expected);
}

#[test]
fn a_slot_that_is_half_moved_delays_its_own_rooms_alone() {
    let topology = Topology::cluster();
    let Topology::Cluster(cluster) = &topology else { panic!("no Cluster") };
    let mut broker = Real::new(options(&topology, RelayMode::Pattern));
    broker.attach_node(ONE);
    broker.publish(ONE, 1, "a", "first", true);
    assert!(broker.outcome(ONE, 1).is_ok());
    let key = ids_key(cluster, "a");
    let slot = cluster.slot_of(&key).unwrap();
    let from = cluster.owner(slot).unwrap();
    let (source, target) = (&cluster.nodes()[from], &cluster.nodes()[(from + 1) % 3]);
    // Without its keys the source answers ASK.
    source.command(&["DEL", &key]).unwrap();
    let id = |node: &Redis| node.command(&["CLUSTER", "MYID"]).unwrap().text();
    let slot = slot.to_string();
    target.command(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &id(source)]).unwrap();
    source.command(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &id(target)]).unwrap();
    broker.publish(ONE, 2, "a", "waits", true);
    for ticket in 10..20 {
        std::thread::sleep(Duration::from_millis(50));
        let began = Instant::now();
        broker.publish(ONE, ticket, "b", "does not", true);
        assert!(broker.outcome(ONE, ticket).is_ok());
        assert!(began.elapsed() < Duration::from_millis(900), "{:?}", began.elapsed());
        assert!(!broker.has_ended(ONE, 2), "it cannot be anywhere yet");
    }
    for node in [source, target] {
        node.command(&["CLUSTER", "SETSLOT", &slot, "STABLE"]).unwrap();
    }
    let outcome = broker.outcome(ONE, 2);
    assert!(outcome.is_ok(), "{outcome:?}");
}

#[test]
fn a_node_that_takes_nothing_for_a_while_holds_eight_mebibytes_and_loses_nothing() {
    const BYTES: usize = 64 << 10;
    const COUNT: usize = 480;
    let topology = Topology::standalone();
    let mut broker = Real::new(options(&topology, RelayMode::Pattern));
    broker.attach_node(ONE);
    subscribed(&mut broker, ONE, "news", 1);
    for number in 0..COUNT {
        topology.publish("room:news", &format!("{number} {}", "x".repeat(BYTES)));
    }
    std::thread::sleep(Duration::from_millis(500));
    let held = broker.feed_bytes(ONE);
    let slack = 2 * BYTES + (1 << 20);
    assert!((8 << 20..(8 << 20) + slack).contains(&held), "{held}");
    // Commands go on meanwhile: what they come to is told, whatever waits.
    broker.publish(ONE, 1, "news", "last", true);
    let heard = broker.heard_until(ONE, "news message ann last");
    let numbers = heard.iter().filter_map(|it| it.strip_prefix("news message external "));
    let numbers: Vec<usize> = numbers.filter_map(|it| it.split_once(' ')?.0.parse().ok()).collect();
    assert_eq!((numbers, heard.len()), ((0..COUNT).collect(), COUNT + 1));
    assert!(broker.outcome(ONE, 1).is_ok());
    assert!(broker.feed_bytes(ONE) < 1 << 20);
}
