//! Rooms that became occupied and vacated, on real servers: one node at a time is given them, and what goes is counted.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::wildcard_enum_match_arm,
    clippy::indexing_slicing,
    reason = "helpers of tests fail as tests do"
)]

mod common;

use std::time::{Duration, Instant};

use common::kept::part;
use common::{Real, Topology, options, room};
use roomcast_broker::redis::partition_of;
use roomcast_protocol::ids::NodeId;
use roomcast_protocol::occupancy::{AskOccupancies, GivenOccupancies, HAND_MAX, HOLD_MS};
use roomcast_protocol::relay::RelayMode;
use xtask::servers::Client;

const ONE: NodeId = NodeId(1);
const TWO: NodeId = NodeId(2);
const A: (NodeId, u32) = (ONE, 1);

/// Events of a partition that Redis keeps.
const KEPT_MAX: u64 = 10_000;

fn two_nodes(topology: &Topology) -> Real {
    let mut broker = Real::new(options(topology, RelayMode::Pattern));
    for node in [ONE, TWO] {
        broker.attach_node(node);
        broker.subscribe_to(node, room("news"), 1);
    }
    broker
}

/// A question of whoever was given what stands here, and has told it or none of it.
fn ask(name: &str, before: &GivenOccupancies, is_told: bool) -> AskOccupancies {
    AskOccupancies {
        partition: partition_of(&room(name)),
        told: if is_told { before.given } else { 0 },
        given: before.given,
        lost: before.lost,
        count_max: HAND_MAX,
    }
}

fn nothing() -> GivenOccupancies {
    GivenOccupancies::default()
}

/// What rooms became, in order.
fn became(given: &GivenOccupancies) -> Vec<(String, bool)> {
    given.events.iter().map(|(_, event)| (event.room.to_string(), event.occupied)).collect()
}

fn news(became: &[bool]) -> Vec<(String, bool)> {
    became.iter().map(|occupied| ("news".to_owned(), *occupied)).collect()
}

#[test]
fn another_node_goes_on_where_one_that_died_had_told() {
    for topology in [Topology::standalone(), Topology::sentinel(), Topology::cluster()] {
        let mut broker = two_nodes(&topology);
        assert_eq!(broker.unread(TWO), Vec::<u16>::new());
        for (seq, present) in [(1, true), (2, false), (3, true)] {
            broker.stepped(A, seq, "news", vec![part(1, "ann", present)], 0);
        }
        broker.stepped(A, 1, "other", vec![part(1, "ann", true)], 0);
        let mut all = ["news", "other"].map(|name| partition_of(&room(name)));
        all.sort_unstable();
        assert_eq!(broker.unread(TWO), all);
        let given = broker.follow(ONE, ask("news", &nothing(), false));
        assert_eq!(became(&given), news(&[true, false, true]));
        assert_eq!(broker.unread(TWO), [partition_of(&room("other"))]);
        let some = AskOccupancies { told: given.events[0].0, ..ask("news", &given, false) };
        let (began, renewed) = (Instant::now(), broker.follow(ONE, some));
        assert_eq!((renewed.held, renewed.anew, renewed.events.len()), (true, false, 0));
        // It is killed.
        let next = loop {
            let next = broker.follow(TWO, ask("news", &nothing(), false));
            if next.held {
                break next;
            }
            assert!(began.elapsed() < Duration::from_secs(15), "nobody goes on");
            std::thread::sleep(Duration::from_millis(100));
        };
        assert!(began.elapsed() >= Duration::from_millis(HOLD_MS - 100), "it might have told more");
        assert_eq!((became(&next), next.anew), (news(&[false, true]), true));
        // It wakes, and is none any more.
        assert!(!broker.follow(ONE, ask("news", &renewed, true)).held);
        assert!(!broker.follow(TWO, ask("news", &next, true)).held);
        assert_eq!(broker.unread(ONE), [partition_of(&room("other"))]);
        if let Topology::Standalone(_) = topology {
            let left = topology.texts(&["KEYS", "rc:*:reader:"]);
            assert_eq!(left, Vec::<String>::new());
        }
    }
}

#[test]
fn as_many_events_are_kept_as_may_be_and_those_that_go_are_counted() {
    let topology = Topology::standalone();
    let mut broker = two_nodes(&topology);
    broker.stepped(A, 1, "news", vec![part(1, "ann", true)], 0);
    let given = broker.follow(ONE, ask("news", &nothing(), false));
    assert_eq!(became(&given), news(&[true]));
    let mut server = Client::connect(topology.port()).unwrap();
    let stream = topology.text(&["KEYS", "rc:*:$occupancy:"]);
    let epoch = "0".repeat(32);
    for version in 2..KEPT_MAX {
        let (version, occupied) = (version.to_string(), (version % 2).to_string());
        let fields = ["room", "old", "epoch", &epoch, "version", &version, "occupied", &occupied];
        server.command(&[&["XADD", &stream, "*"][..], &fields].concat()).unwrap();
    }
    let lost = |broker: &mut Real| {
        let one = AskOccupancies { given: 0, count_max: 1, ..ask("news", &given, false) };
        let again = broker.follow(ONE, one);
        assert_eq!((&again.events, again.lost_known), (&given.events, 0));
        again.lost
    };
    broker.stepped(A, 2, "news", vec![part(1, "ann", false)], 0);
    assert_eq!(lost(&mut broker), 0, "as many as may be");
    broker.stepped(A, 3, "news", vec![part(1, "ann", true)], 0);
    assert_eq!(lost(&mut broker), 1);
    broker.stepped(A, 4, "news", vec![part(1, "ann", false)], 0);
    assert_eq!(lost(&mut broker), 2);
    assert_eq!(topology.int(&["XLEN", &stream]), i64::try_from(KEPT_MAX).unwrap());
    let known = AskOccupancies { lost: 2, ..ask("news", &nothing(), false) };
    let known = broker.follow(ONE, known);
    assert_eq!((known.lost, known.lost_known, known.events.len()), (2, 2, 64));
    let versions = [0, 1].map(|at| known.events[at].1.version.offset);
    assert_eq!(versions, [1, 4], "what was given stays, and the next ones go");
}

#[test]
fn what_others_put_in_place_of_events_is_replaced() {
    let topology = Topology::standalone();
    let mut broker = two_nodes(&topology);
    let mut seq = 0;
    let mut turn = |broker: &mut Real| {
        seq += 1;
        broker.stepped(A, seq, "news", vec![part(1, "ann", seq % 2 == 1)], 0);
    };
    turn(&mut broker);
    let keys = topology.texts(&["KEYS", "rc:*:$occupancy:"]);
    let prefix = keys[0].strip_suffix("$occupancy:").unwrap();
    let keys = [keys[0].clone(), format!("{prefix}reader:"), "rc:{460}:unread:".to_owned()];
    for key in &keys {
        for value in [
            &["RPUSH", "x"][..],
            &["SET", "nonsense"],
            &["HSET", "by", "x", "given", "x", "lost", "x"],
            &["ZADD", "1", "x"],
            &["XADD", "*", "room", "news"],
            &["XADD", "99999999999999999-0", "room", "news"],
        ] {
            topology.raw(&["DEL", key]);
            topology.raw(&[&[value[0], key][..], &value[1..]].concat());
            for _ in 0..2 {
                turn(&mut broker);
                let mut given = nothing();
                for _ in 0..3 {
                    given = broker.follow(ONE, ask("news", &given, true));
                }
                assert!(!given.held, "{key} {value:?}: {given:?}");
            }
            turn(&mut broker);
            assert!(!broker.unread(TWO).is_empty(), "{key} {value:?}");
            let given = broker.follow(ONE, ask("news", &nothing(), false));
            assert_eq!(given.events.len(), 1, "{key} {value:?}: {given:?}");
            assert!(!broker.follow(ONE, ask("news", &given, true)).held);
        }
    }
}
