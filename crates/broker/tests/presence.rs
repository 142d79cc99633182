//! Who is in rooms, on real servers: users come and go once in the whole cluster, with their grace, and with the leases of
//! their nodes.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::wildcard_enum_match_arm,
    clippy::indexing_slicing,
    reason = "helpers of tests fail as tests do"
)]

mod common;

use std::time::{Duration, Instant};

use common::kept::{part, told};
use common::{Real, Topology, options, room};
use roomcast_protocol::ids::{NodeId, SessionId};
use roomcast_protocol::presence::{
    Lease, PRESENCE_CHANGES_MAX, PRESENT_MAX, PresenceChange, PresenceSet, ROSTER_PAGE_MAX,
};
use roomcast_protocol::relay::RelayMode;
use roomcast_protocol::room::RoomName;
use xtask::servers::{Cluster, Redis};

const ONE: NodeId = NodeId(1);
const TWO: NodeId = NodeId(2);

/// Lives of both nodes.
const A: (NodeId, u32) = (ONE, 1);
const B: (NodeId, u32) = (TWO, 1);

/// Longer than any test.
const LONG_MS: u64 = 600_000;

fn two_nodes(topology: &Topology, mode: RelayMode) -> Real {
    let mut broker = Real::new(options(topology, mode));
    for node in [ONE, TWO] {
        broker.attach_node(node);
        broker.subscribe_to(node, room("news"), 1);
        broker.subscribe_to(node, RoomName::system("$agents").unwrap(), 2);
    }
    broker
}

fn standalone() -> (Topology, Real) {
    let topology = Topology::standalone();
    let broker = two_nodes(&topology, RelayMode::Pattern);
    (topology, broker)
}

/// So many sessions, each of a user of its own.
fn parts(sessions: std::ops::Range<u128>, present: bool) -> Vec<PresenceChange> {
    sessions.map(|session| part(session, &format!("user-{session:05}"), present)).collect()
}

#[test]
fn a_user_comes_with_the_first_session_and_goes_with_the_last_and_every_node_hears_it_once() {
    let topologies = [Topology::standalone(), Topology::sentinel(), Topology::cluster()];
    for topology in &topologies {
        for mode in RelayMode::ALL {
            topology.flush();
            let mut broker = two_nodes(topology, mode);
            let news = |broker: &mut Real, by, seq, changes, grace_ms| {
                broker.stepped(by, seq, "news", changes, grace_ms)
            };
            let came = vec![part(1, "ann", true), part(2, "bob", true)];
            assert_eq!(news(&mut broker, A, 1, came, 0), "news 1 of 2 +ann,bob -");
            assert_eq!(news(&mut broker, B, 1, vec![part(3, "ann", true)], 0), "");
            assert_eq!(news(&mut broker, A, 2, vec![part(1, "ann", false)], 0), "");
            assert_eq!(
                news(&mut broker, B, 2, vec![part(3, "ann", false)], 0),
                "news 2 of 1 + -ann"
            );
            let other = r#"a"b\c{d} 群"#;
            assert_eq!(
                news(&mut broker, A, 3, vec![part(4, other, true), part(2, "bob", false)], 0),
                format!("news 3 of 1 +{other} -bob")
            );
            for node in [ONE, TWO] {
                for expected in [
                    "news 1 of 2 +ann,bob -",
                    "news 2 of 1 + -ann",
                    &format!("news 3 of 1 +{other} -bob"),
                ] {
                    assert_eq!(broker.next_step(node), expected, "{mode:?} {topology:?}");
                }
                assert!(!broker.has_heard_steps(node), "{mode:?}: each comes once");
                assert_eq!(broker.users(node, "news"), [other]);
            }
        }
    }
}

#[test]
fn a_step_done_twice_is_done_once_and_one_that_comes_late_does_nothing() {
    let (_topology, mut broker) = standalone();
    let came = vec![part(1, "ann", true)];
    assert_eq!(broker.stepped(A, 5, "news", came.clone(), 0), "news 1 of 1 +ann -");
    assert_eq!(broker.stepped(A, 5, "news", came, 0), "news 1 of 1 +ann -");
    assert_eq!(broker.stepped(A, 4, "news", vec![part(1, "ann", false)], 0), "");
    assert_eq!(broker.users(TWO, "news"), ["ann"]);
    assert_eq!(broker.next_step(TWO), "news 1 of 1 +ann -");
    assert!(!broker.has_heard_steps(TWO));
    // Another life, and another room, count by themselves.
    assert_eq!(
        broker.stepped((ONE, 2), 1, "news", vec![part(2, "bob", true)], 0),
        "news 2 of 2 +bob -"
    );
    assert_eq!(broker.stepped(A, 1, "else", vec![part(1, "ann", true)], 0), "else 1 of 1 +ann -");
}

#[test]
fn what_an_older_attachment_of_a_session_says_is_ignored() {
    let (_topology, mut broker) = standalone();
    let of = |generation, present| vec![PresenceChange { generation, ..part(1, "ann", present) }];
    assert_eq!(broker.stepped(A, 1, "news", of(2, true), 0), "news 1 of 1 +ann -");
    assert_eq!(broker.stepped(B, 1, "news", of(1, false), 0), "");
    assert_eq!(broker.stepped(B, 2, "news", of(2, true), 0), "", "taken over by the same");
    assert_eq!(broker.stepped(A, 2, "news", of(3, false), 0), "news 2 of 0 + -ann");
}

#[test]
fn a_user_who_left_is_there_until_its_grace_is_over_and_then_leaves_by_any_nodes_beat() {
    for topology in [Topology::standalone(), Topology::cluster()] {
        let mut broker = two_nodes(&topology, RelayMode::Pattern);
        broker.stepped(A, 1, "news", vec![part(1, "ann", true), part(2, "bob", true)], 0);
        broker.next_step(TWO);
        let gone = vec![part(1, "ann", false), part(2, "bob", false)];
        assert_eq!(broker.stepped(A, 2, "news", gone, 700), "");
        assert_eq!(broker.users(TWO, "news"), ["ann", "bob"]);
        // Back before that: nobody hears of it.
        assert_eq!(broker.stepped(B, 1, "news", vec![part(3, "ann", true)], 0), "");
        broker.beat_as(TWO, 1, None);
        assert!(!broker.has_heard_steps(TWO));
        std::thread::sleep(Duration::from_millis(750));
        broker.beat_as(TWO, 1, None);
        for node in [ONE, TWO] {
            broker.has_heard_steps(node);
        }
        assert_eq!(broker.next_step(TWO), "news 2 of 1 + -bob");
        assert_eq!(broker.users(ONE, "news"), ["ann"]);
        broker.beat_as(ONE, 1, None);
        assert!(!broker.has_heard_steps(TWO), "it leaves once");
    }
}

#[test]
fn what_a_life_entered_goes_when_it_is_over_but_for_what_another_has_taken_over() {
    for topology in [Topology::standalone(), Topology::cluster()] {
        let mut broker = two_nodes(&topology, RelayMode::Exact);
        assert_eq!(broker.beat_as(ONE, 1, None).lease, Lease::New);
        let all = ["ann", "bob", "cid"].into_iter().zip(1..);
        broker.stepped(A, 1, "news", all.map(|(user, it)| part(it, user, true)).collect(), LONG_MS);
        broker.stepped(A, 1, "else", vec![part(1, "ann", true)], LONG_MS);
        broker.stepped(A, 1, "$agents", vec![part(9, "agent", true)], LONG_MS);
        broker.stepped((ONE, 2), 1, "news", vec![part(2, "bob", true)], LONG_MS);
        broker.stepped(B, 1, "news", vec![part(4, "cid", true)], LONG_MS);
        let report = broker.beat_as(ONE, 2, Some(1));
        assert_eq!(report.lease, Lease::New);
        let agents: Vec<_> = report.agents.iter().map(told).collect();
        assert_eq!(agents, ["$agents 1 of 1 +agent -", "$agents 2 of 0 + -agent"]);
        assert_eq!(broker.users(TWO, "news"), ["bob", "cid"]);
        assert_eq!(broker.users(TWO, "else"), Vec::<String>::new());
        // Never again.
        assert_eq!(broker.step(A, 9, "news", vec![part(1, "ann", true)], 0), PresenceSet::Reaped);
        assert_eq!(broker.beat_as(ONE, 1, None).lease, Lease::Lost);
        assert_eq!(
            broker.beat_as(ONE, 2, Some(1)).lease,
            Lease::Held,
            "told again, it is over already"
        );
        assert_eq!(broker.users(TWO, "news"), ["bob", "cid"]);
    }
}

#[test]
fn a_node_that_does_not_come_back_leaves_its_rooms_within_ten_seconds_and_its_life_is_lost() {
    let (_topology, mut broker) = standalone();
    broker.beat_as(ONE, 1, None);
    broker.stepped(A, 1, "news", vec![part(1, "ann", true), part(2, "bob", true)], LONG_MS);
    broker.stepped(B, 1, "news", vec![part(3, "bob", true)], LONG_MS);
    broker.next_step(TWO);
    let began = Instant::now();
    let heard = loop {
        let report = broker.beat_as(TWO, 1, None);
        assert_ne!(report.lease, Lease::Lost);
        let peers = report.peers.iter().any(|peer| peer.node == ONE);
        if broker.has_heard_steps(TWO) {
            assert!(!peers, "who is reaped is no peer");
            break broker.next_step(TWO);
        }
        assert!(began.elapsed() < Duration::from_secs(10), "a ghost");
        std::thread::sleep(Duration::from_millis(500));
    };
    assert!(began.elapsed() > Duration::from_secs(7), "it might have come back");
    assert_eq!(heard, "news 2 of 1 + -ann", "one who is elsewhere too stays");
    // Woken, its life is over, and so is what it would say.
    assert_eq!(broker.step(A, 2, "news", vec![part(1, "ann", true)], 0), PresenceSet::Reaped);
    assert_eq!(broker.beat_as(ONE, 1, None).lease, Lease::Lost);
    assert_eq!(broker.beat_as(ONE, 2, None).lease, Lease::New);
    assert_eq!(
        broker.stepped((ONE, 2), 1, "news", vec![part(1, "ann", true)], 0),
        "news 3 of 2 +ann -"
    );
}

#[test]
fn more_than_one_call_takes_away_goes_with_one_beat_all_the_same() {
    for topology in [Topology::standalone(), Topology::cluster()] {
        let mut broker = two_nodes(&topology, RelayMode::Pattern);
        broker.beat_as(ONE, 1, None);
        for seq in 1..=3_u128 {
            let parts = parts(seq * 500..(seq + 1) * 500, true);
            broker.stepped(A, seq.try_into().unwrap(), "news", parts, LONG_MS);
            broker.next_step(TWO);
        }
        broker.beat_as(TWO, 1, None);
        assert!(!broker.has_heard_steps(TWO));
        // Half of them leave, all at once, when their grace is over.
        broker.stepped(A, 4, "news", parts(500..1_000, false), 1);
        broker.stepped(A, 5, "news", parts(1_000..1_250, false), 1);
        std::thread::sleep(Duration::from_millis(20));
        broker.beat_as(TWO, 1, None);
        assert_eq!(broker.roster(TWO, "news", None, 1).count, 750);
        // And all others with their node.
        broker.beat_as(ONE, 2, Some(1));
        assert_eq!(broker.roster(TWO, "news", None, 1).count, 0);
    }
}

#[test]
fn as_many_changes_as_one_step_may_have_are_made_by_it() {
    let (_topology, mut broker) = standalone();
    let max = u128::try_from(PRESENCE_CHANGES_MAX).unwrap();
    // One that is beyond the bound would be an error of the hub: it is left out.
    broker.stepped(A, 1, "news", parts(0..max + 1, true), 0);
    assert_eq!(broker.roster(ONE, "news", None, 1).count, PRESENCE_CHANGES_MAX as u64);
}

#[test]
fn a_roster_comes_in_pages_by_the_bytes_of_names() {
    let (_topology, mut broker) = standalone();
    for seq in 0..3_u128 {
        let parts = parts(seq * 400..(seq + 1) * 400, true);
        broker.stepped(A, 1 + u64::try_from(seq).unwrap(), "news", parts, 0);
    }
    let first = broker.roster(TWO, "news", None, ROSTER_PAGE_MAX + 1);
    assert_eq!((first.users.len(), first.more, first.count), (1_000, true, 1_200));
    assert_eq!(&*first.users[0], "user-00000");
    let rest = broker.roster(TWO, "news", Some(&first.users[999]), ROSTER_PAGE_MAX);
    assert_eq!((rest.users.len(), rest.more, rest.version), (200, false, first.version));
    assert_eq!(&*rest.users[0], "user-01000");
    let none = broker.roster(TWO, "nowhere", None, 10);
    assert_eq!((none.version.offset, none.count, none.users.len(), none.more), (0, 0, 0, false));
}

#[test]
fn a_room_that_becomes_occupied_or_vacant_is_noted_once_for_whoever_reads_it() {
    let (topology, mut broker) = standalone();
    let two = vec![part(1, "ann", true), part(2, "bob", true)];
    broker.stepped(A, 1, "news", two, 0);
    broker.stepped(A, 2, "news", vec![part(1, "ann", false)], 0);
    broker.stepped(A, 3, "news", vec![part(2, "bob", false)], 0);
    let stream = topology.text(&["KEYS", "rc:*:$occupancy:"]);
    let read = ["XRANGE", &stream, "-", "+"];
    let port = topology.port();
    let reply = xtask::servers::Client::connect(port).unwrap().command(&read).unwrap();
    let events: Vec<_> = reply
        .items()
        .iter()
        .map(|event| {
            event.items()[1].items().iter().map(xtask::servers::Reply::text).collect::<Vec<_>>()
        })
        .collect();
    let epoch = broker.roster(ONE, "news", None, 1).version.epoch.to_string();
    let event = |version, occupied| {
        ["room", "news", "epoch", &epoch, "version", version, "occupied", occupied]
            .map(String::from)
            .to_vec()
    };
    assert_eq!(events, [event("1", "1"), event("3", "0")]);
}

#[test]
fn nothing_is_left_of_a_room_an_hour_after_its_last_user_nor_of_a_life_that_is_over() {
    let (topology, mut broker) = standalone();
    broker.beat_as(ONE, 1, None);
    broker.stepped(A, 1, "news", vec![part(1, "ann", true)], 0);
    let version = topology.text(&["KEYS", "rc:*:presence:news"]);
    assert_eq!(topology.int(&["PTTL", &version]), -1);
    broker.beat_as(ONE, 2, Some(1));
    let left = topology.int(&["PTTL", &version]);
    assert!((1..=3_600_000).contains(&left), "{left}");
    for pattern in ["roster", "entered", "leaving", "due", "lives"] {
        let left = topology.texts(&["KEYS", &format!("rc:*:{pattern}*")]);
        assert_eq!(left, Vec::<String>::new());
    }
    for pattern in ["rc:*:said-*", "rc:*:reaped:"] {
        for key in topology.texts(&["KEYS", pattern]) {
            assert!(topology.int(&["PTTL", &key]) > 0, "{key}");
        }
    }
    broker.stepped((ONE, 2), 1, "news", vec![part(1, "ann", true)], 0);
    assert_eq!(topology.int(&["PTTL", &version]), -1);
}

#[test]
fn leases_that_were_lost_are_made_anew_so_that_nobody_stays_for_ever() {
    for topology in [Topology::standalone(), Topology::cluster()] {
        let mut broker = two_nodes(&topology, RelayMode::Pattern);
        assert_eq!(broker.beat_as(ONE, 1, None).lease, Lease::New);
        assert_eq!(broker.beat_as(ONE, 1, None).lease, Lease::Held);
        broker.stepped(A, 1, "news", vec![part(1, "ann", true)], LONG_MS);
        broker.beat_as(TWO, 1, None);
        topology.raw(&["DEL", "rc:{460}:nodes:"]);
        // Whose own one is gone looks for those of all.
        assert_eq!(broker.beat_with(TWO, 1_001, 1, None).lease, Lease::New);
        let began = Instant::now();
        while !broker.users(TWO, "news").is_empty() {
            let report = broker.beat_as(TWO, 1, None);
            assert!(
                report.peers.iter().all(|peer| peer.node != ONE),
                "nobody knows whether it is there"
            );
            assert!(began.elapsed() < Duration::from_secs(10), "a ghost");
            std::thread::sleep(Duration::from_millis(500));
        }
        assert!(began.elapsed() > Duration::from_secs(7), "it might have come back");
    }
}

#[test]
fn a_lease_that_another_node_made_anew_was_lost_all_the_same() {
    let (topology, mut broker) = standalone();
    broker.beat_as(ONE, 1, None);
    broker.stepped(A, 1, "news", vec![part(1, "ann", true)], LONG_MS);
    assert_eq!(broker.beat_as(ONE, 1, None).lease, Lease::Held);
    topology.raw(&["DEL", "rc:{460}:nodes:"]);
    broker.beat_with(TWO, 64_000, 1, None);
    assert_eq!(topology.int(&["HEXISTS", "rc:{460}:nodes:", &format!("{ONE}.1")]), 1);
    assert_eq!(broker.beat_as(ONE, 1, None).lease, Lease::New);
    assert_eq!(broker.beat_as(ONE, 1, None).lease, Lease::Held);
}

#[test]
fn what_a_failover_brings_back_of_a_life_that_was_reaped_goes_again() {
    let (topology, mut broker) = standalone();
    broker.beat_as(ONE, 1, None);
    broker.stepped(A, 1, "news", vec![part(1, "ann", true)], LONG_MS);
    let lives = topology.texts(&["KEYS", "rc:*lives:"]);
    let prefix = lives[0].trim_end_matches("lives:").to_owned();
    let all = topology.texts(&["KEYS", "rc:*"]);
    let keys: Vec<_> = all.into_iter().filter(|key| key.starts_with(&prefix)).collect();
    for key in &keys {
        topology.raw(&["COPY", key, &format!("kept:{key}")]);
    }
    broker.beat_as(ONE, 2, Some(1));
    assert!(broker.users(TWO, "news").is_empty());
    // The partition's replica has neither heard that the life was reaped, nor that it left.
    topology.raw(&["DEL", &format!("{prefix}reaped:")]);
    for key in &keys {
        topology.raw(&["COPY", &format!("kept:{key}"), key, "REPLACE"]);
    }
    assert_eq!(broker.users(TWO, "news"), ["ann"]);
    broker.beat_with(TWO, 64_000, 1, None);
    broker.beat_as(TWO, 1, None);
    assert!(broker.users(TWO, "news").is_empty(), "a ghost");
    assert_eq!(topology.int(&["HEXISTS", "rc:{460}:nodes:", &format!("{ONE}.1")]), 0);
}

/// The lease of a node's first life holds for ten minutes more: it does not beat while servers are made and replaced, which
/// may take longer than a lease.
fn hold_lease(server: &Redis, node: NodeId) {
    let (key, name) = ("rc:{460}:nodes:", format!("{node}.1"));
    let row = server.command(&["HGET", key, &name]).unwrap().text();
    let (ends_ms, rest) = row.split_once(' ').unwrap();
    let later_ms = ends_ms.parse::<u64>().unwrap() + 600_000;
    server.command(&["HSET", key, &name, &format!("{later_ms} {rest}")]).unwrap();
}

#[test]
fn what_a_failover_of_a_cluster_brings_back_goes_within_ten_seconds() {
    let mut topology = Topology::cluster();
    let mut broker = two_nodes(&topology, RelayMode::Pattern);
    broker.beat_as(TWO, 1, None);
    broker.beat_as(ONE, 1, None);
    let rooms: Vec<_> = (0..12).map(|number| format!("room-{number}")).collect();
    for (seq, name) in rooms.iter().enumerate() {
        broker.stepped(A, seq as u64 + 1, name, vec![part(1, "ann", true)], LONG_MS);
        broker.stepped(B, seq as u64 + 1, name, vec![part(2, "bob", true)], LONG_MS);
    }
    let Topology::Cluster(cluster) = &mut topology else { panic!("it is a Cluster") };
    let owner_of = |cluster: &Cluster, key: &str| cluster.owner(cluster.slot_of(key).unwrap());
    let leases = owner_of(cluster, "rc:{460}:nodes:").unwrap();
    let owner = (leases + 1) % 3;
    hold_lease(&cluster.nodes()[leases], TWO);
    cluster.replicate(owner).unwrap();
    cluster.hold_back(owner).unwrap();
    // One of the nodes dies; all that it entered goes, and the table of leases forgets it.
    broker.beat_as(ONE, 2, Some(1));
    let bob = ["bob".to_owned()];
    assert!(rooms.iter().all(|name| broker.users(TWO, name) == bob), "it is over");
    cluster.fail_over(owner).unwrap();
    let back: Vec<_> =
        rooms.iter().filter(|name| broker.users(TWO, name).len() == 2).cloned().collect();
    assert!(!back.is_empty(), "the replica knew nothing of it");
    let began = Instant::now();
    while !back.iter().all(|name| broker.users(TWO, name) == bob) {
        assert!(began.elapsed() < Duration::from_secs(10), "ghosts");
        broker.beat(TWO);
        std::thread::sleep(Duration::from_millis(500));
    }
    assert!(rooms.iter().all(|name| broker.users(TWO, name) == bob));
}

#[test]
fn a_beat_with_nothing_to_do_is_one_call_and_the_next_agent_is_told_of_at_once() {
    let (topology, mut broker) = standalone();
    let calls = || {
        let Topology::Standalone(redis) = &topology else { panic!("it is one server") };
        let stats = redis.borrow().command(&["INFO", "commandstats"]).unwrap().text();
        let line = stats.lines().find_map(|line| line.strip_prefix("cmdstat_fcall:calls="));
        line.and_then(|it| it.split(',').next()?.parse::<i64>().ok()).unwrap()
    };
    broker.beat_as(ONE, 1, None);
    for (seq, agent) in [(1, "7"), (2, "8")] {
        let before = calls();
        broker.beat_as(ONE, 1, None);
        broker.beat_as(ONE, 1, None);
        assert_eq!(calls() - before, 2, "nothing waits");
        broker.stepped(A, seq, "$agents", vec![part(seq.into(), agent, true)], LONG_MS);
        let given = broker.beat_as(ONE, 1, None).agents;
        let given_told: Vec<_> = given.iter().map(told).collect();
        assert_eq!(given_told, [format!("$agents {seq} of {seq} +{agent} -")]);
        let before = calls();
        assert_eq!(broker.beat_as(ONE, 1, None).agents, [], "given already");
        assert_eq!(calls() - before, 1);
        broker.told_up_to(ONE, given[0].version);
    }
}

#[test]
fn what_others_put_in_place_of_presence_is_replaced() {
    let (topology, mut broker) = standalone();
    broker.beat_as(ONE, 1, None);
    broker.stepped(A, 1, "news", vec![part(1, "ann", true), part(2, "bob", true)], LONG_MS);
    broker.stepped(A, 2, "news", vec![part(2, "bob", false)], LONG_MS);
    let keys = topology.texts(&["KEYS", "rc:*"]);
    let own = [
        "presence",
        "roster",
        "leaving",
        "due",
        "entered",
        "lives",
        "said-",
        "$occupancy",
        "reader",
        "unread",
        "untold",
        "telling",
        "nodes",
        "reaped",
    ];
    let tag = keys.iter().find(|key| key.contains(":presence:")).unwrap();
    let prefix = tag.split_once("presence").unwrap().0.to_owned();
    let mut keys: Vec<_> = keys
        .into_iter()
        .filter(|key| own.iter().any(|own| key.contains(&format!(":{own}"))))
        .collect();
    keys.extend(["reaped:", "untold:", "telling:", "reader:"].map(|own| format!("{prefix}{own}")));
    assert!(keys.len() >= own.len(), "{keys:?}");
    let mut seq = 2;
    for key in &keys {
        for value in
            [&["RPUSH", "x"][..], &["SET", "nonsense"], &["HSET", "v", "x"], &["ZADD", "1", "x"]]
        {
            topology.raw(&["DEL", key]);
            topology.raw(&[&[value[0], key][..], &value[1..]].concat());
            seq += 1;
            broker.step(A, seq, "news", vec![part(1, "ann", true), part(3, "cid", true)], 0);
            seq += 1;
            broker.step(A, seq, "news", vec![part(3, "cid", false)], 0);
            broker.beat_as(ONE, 1, None);
            // Whatever it was, it is over with that.
            let users = broker.users(TWO, "news");
            assert!(users.contains(&"ann".to_owned()), "{key} {value:?}: {users:?}");
            seq += 1;
            let came = broker.stepped(A, seq, "news", vec![part(3, "cid", true)], 0);
            assert!(came.ends_with("+cid -"), "{key} {value:?}: {came}");
            seq += 1;
            broker.step(A, seq, "news", vec![part(3, "cid", false)], 0);
        }
    }
    // Rosters and members that no node entered.
    topology.raw(&["ZADD", &format!("{prefix}roster:news"), "0", "eve"]);
    topology.raw(&["HSET", &format!("{prefix}presence:news"), "sx", "x", "ueve", "x"]);
    topology.raw(&["ZADD", &format!("{prefix}leaving:"), "1", "x", "1", "\u{0}\u{9}y"]);
    topology.raw(&["SET", &format!("{prefix}due:"), "1"]);
    broker.beat_as(TWO, 1, None);
    assert_eq!(broker.users(TWO, "news"), ["ann"]);
}

#[test]
fn the_same_session_may_be_another_users_from_then_on() {
    let (_topology, mut broker) = standalone();
    broker.stepped(A, 1, "news", vec![part(1, "ann", true)], 0);
    assert_eq!(
        broker.stepped(A, 2, "news", vec![part(1, "bob", true)], 0),
        "news 2 of 1 +bob -ann"
    );
    let change = PresenceChange { session: SessionId(1), ..part(1, "bob", false) };
    assert_eq!(broker.stepped(A, 3, "news", vec![change], 0), "news 3 of 0 + -bob");
}

#[test]
fn who_is_there_is_known_of_as_many_as_may_be_asked_for_and_by_their_sessions_after_a_loss() {
    for topology in [Topology::standalone(), Topology::cluster()] {
        let mut broker = two_nodes(&topology, RelayMode::Pattern);
        let came = parts(1..513, true);
        broker.step(A, 1, "$agents", came, 0);
        let names: Vec<Box<str>> =
            (1..=PRESENT_MAX + 1).map(|it| format!("user-{it:05}").into()).collect();
        let found = broker.present(TWO, "$agents", &names);
        assert_eq!(found.len(), PRESENT_MAX, "one more is not answered");
        assert!(found[..512].iter().all(|since| *since == Some(1)), "{found:?}");
        assert!(found[512..].iter().all(Option::is_none), "{found:?}");
        assert_eq!(broker.present(TWO, "$agents", &[]), []);
    }
    let (topology, mut broker) = standalone();
    broker.step(A, 1, "$agents", vec![part(1, "ann", true)], 0);
    topology.raw(&["DEL", &topology.text(&["KEYS", "rc:*:roster:$agents"])]);
    let names = [Box::from("ann"), Box::from("bob")];
    assert_eq!(broker.present(TWO, "$agents", &names), [Some(0), None], "since when is lost");
}
