//! What users have got and read of rooms, on real servers: whose time it is, who is told, which steps are merged, and what
//! is left when parts of it are lost or somebody else's.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::wildcard_enum_match_arm,
    clippy::indexing_slicing,
    reason = "helpers of tests fail as tests do, and look for one event among all"
)]

mod common;

use std::time::Duration;

use common::{KEEP, Real, Topology, options, subscribed, with_format};
use roomcast_protocol::envelope::{BrokerEvent, Envelope};
use roomcast_protocol::ids::NodeId;
use roomcast_protocol::position::{Epoch, Keep};
use roomcast_protocol::receipts::{
    Mark::{self, Delivered, Read},
    Marked, MarksSet, ReceiptDiff, ReceiptsPage, STEPS_MAX,
};
use roomcast_protocol::relay::{RelayFormat, RelayMode};

const ONE: NodeId = NodeId(1);
const TWO: NodeId = NodeId(2);

/// A room with so many publications, and its epoch.
fn room_of(broker: &mut Real, count: u64, keep: Keep) -> Epoch {
    (1..=count).map(|id| broker.stored(ONE, id, "news", keep).epoch).last().unwrap()
}

#[track_caller]
fn marked(outcome: Option<MarksSet>) -> Vec<Marked> {
    match outcome {
        Some(MarksSet::Done { marked, .. }) => marked,
        other => panic!("{other:?}"),
    }
}

/// Who has got and read how much.
fn shown(page: &ReceiptsPage) -> String {
    let offset = |marked: Option<Marked>| marked.map_or(0, |it| it.offset);
    let one = page
        .receipts
        .iter()
        .map(|it| format!("{} {}/{}", it.user, offset(it.delivered), offset(it.read)));
    one.collect::<Vec<_>>().join(", ")
}

/// When ann got a publication.
#[track_caller]
fn got_ms(broker: &mut Real, of: u64) -> u64 {
    let page = broker.receipts(ONE, "news", KEEP, Some(of));
    page.receipts[0].delivered.unwrap().at_unix_ms
}

#[track_caller]
fn next_diff(broker: &mut Real, node: NodeId) -> ReceiptDiff {
    broker.wait(node, "receipts", |event| match event {
        BrokerEvent::Envelope(Envelope::Receipts(diff)) => Some((**diff).clone()),
        _ => None,
    })
}

/// The one key of a kind that the room has.
fn key_of(topology: &Topology, kind: &str) -> String {
    topology.text(&["KEYS", &format!("rc:*:{kind}:news")])
}

fn now_ms(topology: &Topology) -> u64 {
    let time = topology.texts(&["TIME"]);
    let number = |at: usize| time[at].parse::<u64>().unwrap();
    number(0) * 1_000 + number(1) / 1_000
}

#[test]
fn all_nodes_are_told_in_every_mode_and_format() {
    for (mode, format) in [
        (RelayMode::Pattern, RelayFormat::MessagePack),
        (RelayMode::Exact, RelayFormat::Json),
        (RelayMode::Sharded, RelayFormat::MessagePack),
    ] {
        for topology in [Topology::standalone(), Topology::cluster()] {
            let mut broker = Real::new(with_format(options(&topology, mode), format));
            broker.attach_node(ONE);
            broker.attach_node(TWO);
            subscribed(&mut broker, TWO, "news", 1);
            let epoch = room_of(&mut broker, 5, KEEP);
            let changes = [("zoé \"q\"", Delivered, 3), ("ann", Read, 9), ("zoé \"q\"", Read, 2)];
            let outcome = broker.mark(ONE, "news", KEEP, epoch, &changes);
            let times = marked(outcome);
            assert_eq!(times.iter().map(|it| it.offset).collect::<Vec<_>>(), [3, 5, 2]);
            let diff = next_diff(&mut broker, TWO);
            assert_eq!((diff.room.as_str(), diff.epoch, diff.version), ("news", epoch, 1));
            let page = broker.receipts(TWO, "news", KEEP, None);
            assert_eq!(page.receipts, diff.receipts, "{mode:?} {topology:?}");
            assert_eq!(shown(&page), "ann 5/5, zoé \"q\" 3/2");
            assert!(
                page.receipts
                    .iter()
                    .all(|it| it.delivered.unwrap().at_unix_ms == times[0].at_unix_ms)
            );
        }
    }
}

#[test]
fn the_time_of_a_mark_is_the_brokers() {
    let topology = Topology::standalone();
    let mut broker = Real::new(options(&topology, RelayMode::Pattern));
    broker.attach_node(ONE);
    let epoch = room_of(&mut broker, 1, KEEP);
    let before = now_ms(&topology);
    let at = marked(broker.mark(ONE, "news", KEEP, epoch, &[("ann", Read, 1)]))[0].at_unix_ms;
    assert!((before..=now_ms(&topology)).contains(&at));
}

/// Writes steps as a node's function would.
fn write_steps(topology: &Topology, field: &str, steps: &[(u64, u64)]) {
    let bytes: Vec<u8> = steps
        .iter()
        .flat_map(|(offset, at)| [offset.to_be_bytes(), at.to_be_bytes()].concat())
        .collect();
    topology.raw(&[b"HSET", key_of(topology, "marks").as_bytes(), field.as_bytes(), &bytes]);
}

#[test]
fn one_step_too_many_merges_the_closest_of_the_older_half_into_the_later() {
    let topology = Topology::standalone();
    let mut broker = Real::new(options(&topology, RelayMode::Pattern));
    broker.attach_node(ONE);
    let steps = u64::try_from(STEPS_MAX).unwrap();
    let epoch = room_of(&mut broker, steps + 2, KEEP);
    marked(broker.mark(ONE, "news", KEEP, epoch, &[("ann", Delivered, 1)]));
    // All are 10 ms apart but the 6th and 7th, and, in the newer half, the last two.
    let at = |offset: u64| match offset {
        7 => 1_000 + 10 * 7 - 5,
        _ if offset == steps => 1_000 + 10 * steps - 9,
        _ => 1_000 + 10 * offset,
    };
    let all: Vec<_> = (1..=steps).map(|offset| (offset, at(offset))).collect();
    write_steps(&topology, "dann", &all);
    for offset in 1..=steps {
        assert_eq!(got_ms(&mut broker, offset), at(offset), "as many as may be");
    }
    marked(broker.mark(ONE, "news", KEEP, epoch, &[("ann", Delivered, steps + 1)]));
    for offset in 1..=steps {
        let expected = if offset == 6 { at(7) } else { at(offset) };
        assert_eq!(got_ms(&mut broker, offset), expected, "{offset}");
    }
    // All others of the older half are as far apart: the oldest two are one.
    marked(broker.mark(ONE, "news", KEEP, epoch, &[("ann", Delivered, steps + 2)]));
    let times = [1, 2, 3].map(|offset| got_ms(&mut broker, offset));
    assert_eq!(times, [at(2), at(2), at(3)]);
    let key = key_of(&topology, "marks");
    let bytes = topology.int(&["HSTRLEN", &key, "dann"]);
    assert_eq!(bytes, i64::try_from(16 * steps).unwrap());
}

#[test]
fn what_is_read_was_not_delivered_later() {
    let topology = Topology::standalone();
    let mut broker = Real::new(options(&topology, RelayMode::Pattern));
    broker.attach_node(ONE);
    let epoch = room_of(&mut broker, 9, KEEP);
    marked(broker.mark(ONE, "news", KEEP, epoch, &[("ann", Read, 9)]));
    write_steps(&topology, "dann", &[(5, 3_000), (9, 4_000)]);
    write_steps(&topology, "rann", &[(4, 2_000), (9, 4_000)]);
    let times = [4, 5, 9].map(|offset| got_ms(&mut broker, offset));
    assert_eq!(times, [2_000, 3_000, 4_000]);
}

#[test]
fn a_clock_that_was_put_back_makes_no_later_mark_an_earlier_one() {
    let topology = Topology::standalone();
    let mut broker = Real::new(options(&topology, RelayMode::Pattern));
    broker.attach_node(ONE);
    let epoch = room_of(&mut broker, 9, KEEP);
    marked(broker.mark(ONE, "news", KEEP, epoch, &[("ann", Delivered, 3)]));
    let ahead_ms = now_ms(&topology) + 3_600_000;
    write_steps(&topology, "dann", &[(3, ahead_ms)]);
    let outcome = broker.mark(ONE, "news", KEEP, epoch, &[("ann", Delivered, 6)]);
    assert_eq!(marked(outcome), [Marked { offset: 6, at_unix_ms: ahead_ms }]);
}

#[test]
fn receipts_live_as_long_as_what_is_known_of_their_room() {
    let topology = Topology::standalone();
    let mut broker = Real::new(options(&topology, RelayMode::Pattern));
    broker.attach_node(ONE);
    let keep = Keep { ttl_ms: 400, ..KEEP };
    let epoch = room_of(&mut broker, 3, keep);
    marked(broker.mark(ONE, "news", keep, epoch, &[("ann", Read, 2)]));
    let ends = || {
        let keys = ["meta", "marks", "marked"].map(|kind| key_of(&topology, kind));
        keys.map(|key| topology.int(&["PEXPIRETIME", &key]))
    };
    let first = ends();
    assert_eq!(first, [first[0]; 3]);
    std::thread::sleep(Duration::from_millis(300));
    broker.stored(ONE, 4, "news", keep);
    let then = ends();
    assert!(then[0] > first[0]);
    assert_eq!(then, [then[0]; 3], "publications keep receipts as well");
}

#[test]
fn marks_above_an_end_that_was_lost_are_cut_and_are_not_there_when_it_comes_again() {
    let topology = Topology::standalone();
    let mut broker = Real::new(options(&topology, RelayMode::Pattern));
    broker.attach_node(ONE);
    let epoch = room_of(&mut broker, 9, KEEP);
    let mark = |broker: &mut Real, epoch, user: &str, mark: Mark, offset| {
        marked(broker.mark(ONE, "news", KEEP, epoch, &[(user, mark, offset)]))[0].at_unix_ms
    };
    let first = mark(&mut broker, epoch, "ann", Delivered, 3);
    std::thread::sleep(Duration::from_millis(2));
    let second = mark(&mut broker, epoch, "ann", Read, 9);
    mark(&mut broker, epoch, "bob", Read, 8);
    mark(&mut broker, epoch, "cid", Read, 6);
    for offset in 7..=9 {
        topology.raw(&["XDEL", &key_of(&topology, "stream"), &format!("{offset}-0")]);
    }
    topology.raw(&["DEL", &key_of(&topology, "meta")]);
    let page = broker.receipts(ONE, "news", KEEP, None);
    assert_eq!((page.head.offset, &*shown(&page)), (6, "ann 6/6, bob 6/6, cid 6/6"));
    assert_ne!(page.head.epoch, epoch);
    let ids = 10..=12;
    let epoch = ids.map(|id| broker.stored(ONE, id, "news", KEEP).epoch).last().unwrap();
    assert_eq!(broker.receipts(ONE, "news", KEEP, Some(7)).receipts, []);
    assert_eq!([3, 6].map(|offset| got_ms(&mut broker, offset)), [first, second]);
    std::thread::sleep(Duration::from_millis(2));
    let third = mark(&mut broker, epoch, "ann", Delivered, 8);
    assert!(third > second);
    assert_eq!([6, 7].map(|offset| got_ms(&mut broker, offset)), [second, third]);
}

#[test]
fn what_somebody_else_put_in_their_place_counts_as_nothing() {
    let topology = Topology::standalone();
    let mut broker = Real::new(options(&topology, RelayMode::Pattern));
    broker.attach_node(ONE);
    let epoch = room_of(&mut broker, 5, KEEP);
    let all = [("ann", Read, 3), ("bob", Delivered, 2)];
    marked(broker.mark(ONE, "news", KEEP, epoch, &all));
    let (marks, users) = (key_of(&topology, "marks"), key_of(&topology, "marked"));
    for spoil in [
        &["HSET", &marks, "dann", "x"][..],
        &["HSET", &marks, "dann", "", "rann", "xyz", "v", "nonsense"],
        &["HSET", &marks, "v", "9007199254740992"],
        &["HSET", &marks, "v", "-1"],
        &["DEL", &marks],
        &["SET", &marks, "nonsense"],
        &["DEL", &users],
        &["SET", &users, "nonsense"],
        &["ZADD", &users, "0", "nobody"],
    ] {
        topology.raw(spoil);
        broker.receipts(ONE, "news", KEEP, None);
        topology.raw(spoil);
        marked(broker.mark(ONE, "news", KEEP, epoch, &all));
        // Whoever has marked more is there again.
        marked(broker.mark(ONE, "news", KEEP, epoch, &[("ann", Read, 4), ("bob", Delivered, 4)]));
        let page = broker.receipts(ONE, "news", KEEP, None);
        assert!(["ann 4/4, bob 4/0", ""].contains(&&*shown(&page)), "{spoil:?}: {page:?}");
        topology.raw(&["DEL", &marks, &users]);
        marked(broker.mark(ONE, "news", KEEP, epoch, &all));
        assert_eq!(shown(&broker.receipts(ONE, "news", KEEP, None)), "ann 3/3, bob 2/0");
    }
}

#[test]
fn nothing_is_marked_that_nobody_may_be_told_of() {
    let user = ["--user", "node", "on", ">open sesame", "~*", "+@all", "resetchannels", "&rc:*"];
    let topology = Topology::standalone_with(&user);
    let mut owner = Real::new(options(&topology, RelayMode::Pattern));
    owner.attach_node(ONE);
    let epoch = room_of(&mut owner, 3, KEEP);
    let mut options = options(&topology, RelayMode::Pattern);
    options.credentials.username = Some("node".to_owned());
    options.credentials.password = Some("open sesame".to_owned());
    let mut broker = Real::new(options);
    broker.attach_without_feed(TWO);
    assert_eq!(broker.mark(TWO, "news", KEEP, epoch, &[("ann", Read, 3)]), None);
    let page = owner.receipts(ONE, "news", KEEP, None);
    assert_eq!((page.version, page.receipts), (0, vec![]));
}

#[test]
fn receipts_are_read_from_a_server_that_is_full_and_not_marked_there() {
    let topology = Topology::standalone();
    let mut broker = Real::new(options(&topology, RelayMode::Pattern));
    broker.attach_node(ONE);
    let epoch = room_of(&mut broker, 3, KEEP);
    marked(broker.mark(ONE, "news", KEEP, epoch, &[("ann", Read, 2)]));
    topology.raw(&["CONFIG", "SET", "maxmemory", "1"]);
    assert_eq!(broker.mark(ONE, "news", KEEP, epoch, &[("ann", Read, 3)]), None);
    assert_eq!(shown(&broker.receipts(ONE, "news", KEEP, None)), "ann 2/2");
    topology.raw(&["CONFIG", "SET", "maxmemory", "0"]);
    marked(broker.mark(ONE, "news", KEEP, epoch, &[("ann", Read, 3)]));
    assert_eq!(shown(&broker.receipts(ONE, "news", KEEP, None)), "ann 3/3");
}
