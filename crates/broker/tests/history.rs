//! What kept rooms have on real servers: positions, what is kept, ids, heads, and beats that tell what moved.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::wildcard_enum_match_arm,
    clippy::indexing_slicing,
    reason = "helpers of tests fail as tests do"
)]

mod common;

use std::collections::HashMap;
use std::time::{Duration, Instant};

use common::{KEEP, Real, Topology, offsets, options, room, subscribed, with_long_memory};
use roomcast_protocol::codes::Refusal;
use roomcast_protocol::envelope::{Accepted, Count, Envelope, HEADS_MAX, Level, Moved};
use roomcast_protocol::ids::NodeId;
use roomcast_protocol::position::{Direction, Head, Keep, Kept, OFFSET_MAX, Position, Span};
use roomcast_protocol::relay::{RelayFormat, RelayKeys, RelayMode};
use xtask::servers::Redis;

const ONE: NodeId = NodeId(1);
const TWO: NodeId = NodeId(2);

/// The positions that come over a node's feed.
#[track_caller]
fn next_position(broker: &mut Real, node: NodeId) -> (String, Position) {
    match broker.next_envelope(node) {
        Envelope::Publication { publication, .. } => {
            (publication.id.to_string(), publication.position.unwrap())
        }
        Envelope::Unreadable { position, .. } => panic!("{position:?} cannot be read"),
        envelope @ (Envelope::Presence(_) | Envelope::Receipts(_)) => {
            panic!("{envelope:?} is no publication")
        }
    }
}

#[test]
fn positions_are_consecutive_over_all_nodes_in_every_mode_and_format() {
    let topologies = [Topology::standalone(), Topology::sentinel(), Topology::cluster()];
    for topology in &topologies {
        for (mode, format) in [
            (RelayMode::Pattern, RelayFormat::MessagePack),
            (RelayMode::Exact, RelayFormat::Json),
            (RelayMode::Sharded, RelayFormat::MessagePack),
        ] {
            topology.flush();
            let mut broker = Real::new(common::with_format(options(topology, mode), format));
            for node in [ONE, TWO] {
                broker.attach_node(node);
                subscribed(&mut broker, node, "news", 1);
            }
            let first = broker.stored(ONE, 1, "news", KEEP);
            assert_eq!(first.offset, 1);
            for ticket in 2..=41 {
                let node = if ticket % 3 == 0 { TWO } else { ONE };
                broker.publish_kept(node, ticket, ticket, "news", KEEP);
            }
            let mut of_ids = HashMap::from([("id-0001".to_owned(), first)]);
            for ticket in 2..=41 {
                let node = if ticket % 3 == 0 { TWO } else { ONE };
                let accepted = broker.outcome(node, ticket).unwrap();
                of_ids.insert(format!("id-{ticket:04}"), accepted.position.unwrap());
            }
            for node in [ONE, TWO] {
                for offset in 1..=41 {
                    let (id, position) = next_position(&mut broker, node);
                    assert_eq!(position, first.at(offset), "{mode:?} {topology:?}");
                    assert_eq!(of_ids[&id], position, "the answer is where it stands");
                }
            }
            let page = broker.kept(TWO, "news", KEEP);
            assert_eq!((page.head.position, page.head.first), (first.at(41), 1));
            assert_eq!((offsets(&page), page.whole), ((1..=41).collect(), true));
            for kept in &page.entries {
                let Kept::Publication(publication) = kept else { panic!("{kept:?}") };
                assert_eq!(of_ids[&*publication.id], publication.position.unwrap());
            }
        }
    }
}

/// One server and a node on it.
fn one_node() -> (Topology, Real) {
    let topology = Topology::standalone_with(&["--enable-debug-command", "yes"]);
    let mut broker = Real::new(options(&topology, RelayMode::Pattern));
    broker.attach_node(ONE);
    (topology, broker)
}

/// The key of a kind that belongs to a room.
#[track_caller]
fn key_of(topology: &Topology, kind: &str, name: &str) -> String {
    topology.text(&["KEYS", &format!("rc:*:{kind}:{name}")])
}

/// What is kept of `news`: its lowest offset, which the entries bear out.
#[track_caller]
fn first_kept(broker: &mut Real, keep: Keep) -> u64 {
    let page = broker.kept(ONE, "news", keep);
    let Head { position, first } = page.head;
    assert_eq!(offsets(&page), (first..=position.offset).collect::<Vec<_>>());
    first
}

#[test]
fn as_many_as_the_size_says_are_kept_and_one_more_lets_the_oldest_go() {
    let (topology, mut broker) = one_node();
    let keep = Keep { size: 8, ..KEEP };
    for id in 1..=8 {
        broker.stored(ONE, id, "news", keep);
    }
    assert_eq!(first_kept(&mut broker, keep), 1);
    for id in 9..=40 {
        broker.stored(ONE, id, "news", keep);
        assert_eq!(first_kept(&mut broker, keep), id - 7);
        let there = topology.int(&["XLEN", &key_of(&topology, "stream", "news")]);
        assert!((8..=10).contains(&there), "{there} lie there");
    }
}

#[test]
fn as_many_bytes_as_may_be_are_kept_and_one_more_lets_the_oldest_go() {
    let (topology, mut broker) = one_node();
    for id in 1..=4 {
        broker.stored(ONE, id, "news", KEEP);
    }
    let stream = key_of(&topology, "stream", "news");
    let entry = topology.texts(&["XREVRANGE", &stream, "+", "-", "COUNT", "1"]);
    assert_eq!(entry.len(), 1);
    let bytes = broker.envelope_bytes(&topology, &stream);
    assert_eq!(bytes.len(), 4);
    let total: u64 = bytes.iter().sum();
    for (bytes_max, first) in
        [(total, 1), (total - 1, 2), (bytes[3], 4), (bytes[3] - 1, 5), (bytes[3] + bytes[2], 3)]
    {
        assert_eq!(first_kept(&mut broker, Keep { bytes_max, ..KEEP }), first, "{bytes_max}");
    }
    // Publishing by that rule frees what is not kept.
    let keep = Keep { bytes_max: total, ..KEEP };
    for id in 5..=30 {
        broker.stored(ONE, id, "news", keep);
        let there: u64 = broker.envelope_bytes(&topology, &stream).iter().sum();
        assert!(there <= total + total / 4, "{there} bytes lie there");
        assert!(first_kept(&mut broker, keep) >= id - 3);
    }
}

#[test]
fn what_is_past_its_time_is_not_kept_and_goes_without_a_new_epoch() {
    let (topology, mut broker) = one_node();
    let keep = Keep { ttl_ms: 400, ..KEEP };
    let first = broker.stored(ONE, 1, "news", keep);
    let began = Instant::now();
    assert_eq!(first_kept(&mut broker, keep), 1);
    std::thread::sleep(Duration::from_millis(420).saturating_sub(began.elapsed()));
    // There, but not kept any more.
    let page = broker.kept(ONE, "news", keep);
    assert_eq!((page.head.position, page.head.first), (first, 2));
    assert_eq!(page.entries, []);
    std::thread::sleep(Duration::from_millis(700).saturating_sub(began.elapsed()));
    assert_eq!(topology.texts(&["KEYS", "rc:*:stream:news"]), [""; 0], "gone by itself");
    assert_eq!(broker.heads(ONE, &["news"], keep), Some(vec![first]));
    assert_eq!(broker.stored(ONE, 2, "news", keep), first.at(2));
    assert_eq!(first_kept(&mut broker, keep), 2);
}

#[test]
fn pages_go_forward_and_back_and_end_by_count_and_bytes() {
    let (_topology, mut broker) = one_node();
    let head = (1..=40).map(|id| broker.stored(ONE, id, "news", KEEP)).last().unwrap();
    let mut check = |span: Span, expected: std::ops::RangeInclusive<u64>, whole| {
        let page = broker.page(ONE, "news", KEEP, span).unwrap();
        assert_eq!(offsets(&page), expected.collect::<Vec<_>>(), "{span:?}");
        assert_eq!((page.whole, page.head.position, page.head.first), (whole, head, 1), "{span:?}");
    };
    let forward = Span::above(0);
    let back = Span { direction: Direction::Backward, from: u64::MAX, ..forward };
    check(forward, 1..=40, true);
    check(back, 1..=40, true);
    check(Span { from: 39, ..forward }, 40..=40, true);
    #[allow(clippy::reversed_empty_ranges, reason = "nothing")]
    let nothing = 1..=0;
    check(Span { from: 40, ..forward }, nothing.clone(), true);
    check(Span { from: u64::MAX, ..forward }, nothing.clone(), true);
    check(Span { from: 1, ..back }, nothing.clone(), true);
    check(Span { from: 0, ..back }, nothing, true);
    check(Span { count_max: 40, ..forward }, 1..=40, true);
    check(Span { count_max: 39, ..forward }, 1..=39, false);
    check(Span { count_max: 17, from: 3, ..forward }, 4..=20, false);
    check(Span { count_max: 40, ..back }, 1..=40, true);
    check(Span { count_max: 39, ..back }, 2..=40, false);
    check(Span { count_max: 17, from: 38, ..back }, 21..=37, false);
    // Always one.
    check(Span { bytes_max: 1, from: 5, ..forward }, 6..=6, false);
    check(Span { bytes_max: 1, from: 40, ..back }, 39..=39, false);
}

#[test]
fn the_same_again_gets_its_first_position_whatever_was_lost_of_the_rest() {
    let (topology, mut broker) = one_node();
    broker.attach_node(TWO);
    let keep = Keep { size: 4, ..KEEP };
    let first = broker.stored(ONE, 1, "news", keep);
    assert_eq!(broker.stored(TWO, 1, "news", keep), first, "another node's repeat");
    broker.publish_text(ONE, 1, 1, ("news", "other"), keep);
    assert_eq!(broker.outcome(ONE, 1).unwrap_err().refusal, Refusal::Duplicate);
    topology.raw(&["FUNCTION", "FLUSH"]);
    assert_eq!(broker.stored(ONE, 1, "news", keep), first, "without the functions");
    for id in 2..=7 {
        broker.stored(ONE, id, "news", keep);
    }
    assert_eq!(first_kept(&mut broker, keep), 4);
    assert_eq!(broker.stored(ONE, 1, "news", keep), first, "not kept any more");
    topology.raw(&["DEL", &key_of(&topology, "kept-ids", "news")]);
    assert_eq!(broker.stored(ONE, 1, "news", keep), first.at(8), "the ids are lost");
}

#[test]
fn what_was_lost_with_a_tail_is_stored_anew_under_its_id() {
    let (topology, mut broker) = one_node();
    let first = broker.stored(ONE, 1, "news", KEEP);
    let keys = ["meta", "stream"].map(|kind| key_of(&topology, kind, "news"));
    for key in &keys {
        topology.raw(&["COPY", key, &format!("{key}-before"), "REPLACE"]);
    }
    broker.stored(ONE, 2, "news", KEEP);
    // As on a replica that had not heard of the second, and is promoted; it knows the id all the same.
    for key in &keys {
        topology.raw(&["COPY", &format!("{key}-before"), key, "REPLACE"]);
    }
    topology.raw(&["DEBUG", "CHANGE-REPL-ID"]);
    let again = broker.stored(ONE, 2, "news", KEEP);
    assert!(again.epoch != first.epoch && again.offset == 2, "{again:?}");
    assert_eq!(broker.stored(ONE, 2, "news", KEEP), again);
    assert_eq!(broker.stored(ONE, 1, "news", KEEP), first, "this one is there as it was");
}

/// What a room is like after something was lost: whether its stream began anew, the next offset, and what is kept then.
#[track_caller]
fn check_loss(lose: impl FnOnce(&Topology), next: u64, kept: &[u64]) {
    let (topology, mut broker) = one_node();
    subscribed(&mut broker, ONE, "news", 1);
    let before = (1..=3).map(|id| broker.stored(ONE, id, "news", KEEP)).last().unwrap();
    let taken = broker.moved(ONE, &[])[0].count;
    lose(&topology);
    let heads = broker.heads(ONE, &["news"], KEEP).unwrap();
    assert_ne!(heads[0].epoch, before.epoch);
    assert_eq!(heads[0].offset, next - 1);
    let moved = broker.moved(ONE, &[taken]);
    let expected = Some(vec![(room("news"), heads[0])]);
    assert!(moved[0].rooms == expected || moved[0].rooms.is_none(), "others hear of it: {moved:?}");
    assert_eq!(broker.heads(ONE, &["news"], KEEP).unwrap(), heads, "once");
    assert_eq!(broker.stored(ONE, 4, "news", KEEP), heads[0].at(next));
    for kind in ["meta", "stream", "kept-ids"] {
        let lives = topology.int(&["PTTL", &key_of(&topology, kind, "news")]);
        assert!(lives >= 600_000, "{kind} lives for {lives} ms");
    }
    let page = broker.kept(ONE, "news", KEEP);
    assert_eq!(offsets(&page), kept);
    for entry in &page.entries {
        let position = entry.position().unwrap();
        let epoch = if position.offset == next { heads[0].epoch } else { before.epoch };
        assert_eq!(position.epoch, epoch, "older entries keep theirs");
    }
}

#[test]
fn a_stream_of_which_something_is_missing_begins_anew_and_offsets_go_on_where_they_can() {
    let of = |kind: &'static str| move |it: &Topology| it.raw(&["DEL", &key_of(it, kind, "news")]);
    check_loss(Topology::flush, 1, &[1]);
    check_loss(of("meta"), 4, &[1, 2, 3, 4]);
    check_loss(of("stream"), 4, &[4]);
    check_loss(|it| it.raw(&["XDEL", &key_of(it, "stream", "news"), "3-0"]), 4, &[4]);
    check_loss(|it| it.raw(&["XDEL", &key_of(it, "stream", "news"), "2-0"]), 4, &[4]);
    check_loss(|it| it.raw(&["XADD", &key_of(it, "stream", "news"), "7-0", "a", "b"]), 4, &[4]);
    check_loss(|it| it.raw(&["DEBUG", "CHANGE-REPL-ID"]), 4, &[1, 2, 3, 4]);
}

#[test]
fn a_restart_without_its_data_and_a_stream_that_ran_ahead_begin_anew() {
    let (topology, mut broker) = one_node();
    let before = broker.stored(ONE, 1, "news", KEEP);
    topology.kill();
    topology.restart();
    let deadline = Instant::now() + Duration::from_secs(20);
    let heads = loop {
        if let Some(heads) = broker.heads(ONE, &["news"], KEEP) {
            break heads;
        }
        assert!(Instant::now() < deadline, "it does not come back");
    };
    assert!(heads[0].epoch != before.epoch && heads[0].offset == 0, "{heads:?}");
    assert_eq!(broker.stored(ONE, 1, "news", KEEP), heads[0].at(1));
    topology.raw(&["XSETID", &key_of(&topology, "stream", "news"), "9-0"]);
    let after = broker.stored(ONE, 2, "news", KEEP);
    assert_ne!(after.epoch, heads[0].epoch);
}

#[test]
fn nonsense_in_the_keys_of_a_room_is_replaced() {
    let (topology, mut broker) = one_node();
    subscribed(&mut broker, ONE, "news", 1);
    broker.stored(ONE, 1, "news", KEEP);
    broker.moved(ONE, &[]);
    for (id, kind) in (2..).zip(["meta", "stream", "kept-ids", "moves", "moved"]) {
        let name = if matches!(kind, "moves" | "moved") { "" } else { "news" };
        let key = key_of(&topology, kind, name);
        for nonsense in [&["RPUSH", &key, "nonsense"][..], &["SET", &key, "nonsense"]] {
            topology.raw(&["DEL", &key]);
            topology.raw(nonsense);
            assert!(broker.beat(ONE).is_some(), "{nonsense:?}");
            assert!(broker.heads(ONE, &["news"], KEEP).is_some(), "{nonsense:?}");
            topology.raw(&["DEL", &key]);
            topology.raw(nonsense);
            let position = broker.stored(ONE, id, "news", KEEP);
            assert_eq!(broker.stored(ONE, id, "news", KEEP), position, "{nonsense:?}");
            assert_eq!(broker.kept(ONE, "news", KEEP).head.position, position, "{nonsense:?}");
            topology.raw(&["DEL", &key_of(&topology, "kept-ids", "news")]);
        }
    }
}

#[test]
fn a_full_memory_and_a_forbidden_channel_refuse_before_anything_is_written() {
    let user = ["--user", "node", "on", ">open sesame", "~*", "+@all", "resetchannels", "&rc:*"];
    let topology = Topology::standalone_with(&user);
    let mut broker = Real::new(options(&topology, RelayMode::Pattern));
    broker.attach_node(ONE);
    let first = broker.stored(ONE, 1, "news", KEEP);
    let taken = broker.moved(ONE, &[])[0].count;
    topology.raw(&["CONFIG", "SET", "maxmemory", "1"]);
    broker.publish_kept(ONE, 2, 2, "news", KEEP);
    let refused = broker.outcome(ONE, 2).unwrap_err();
    assert!(!refused.unknown && refused.message.contains("memory is full"), "{refused:?}");
    assert_eq!(broker.kept(ONE, "news", KEEP).head.position, first, "it still tells what it keeps");
    assert!(broker.heads(ONE, &["another"], KEEP).is_some());
    topology.raw(&["CONFIG", "SET", "maxmemory", "0"]);
    let mut limited = options(&topology, RelayMode::Pattern);
    limited.credentials.username = Some("node".to_owned());
    limited.credentials.password = Some("open sesame".to_owned());
    let mut limited = Real::new(limited);
    limited.attach_without_feed(TWO);
    for ticket in [3, 4] {
        limited.publish_kept(TWO, ticket, 3, "news", KEEP);
        let refused = limited.outcome(TWO, ticket).unwrap_err();
        assert!(!refused.unknown && refused.message.contains("does not let"), "{refused:?}");
    }
    assert!(
        broker.moved(ONE, &[taken]).iter().all(|moved| moved.count.partition != taken.partition)
    );
    assert_eq!(broker.stored(ONE, 2, "news", KEEP), first.at(2), "no trace of those refused");
}

/// Where a partition's counter began: its upper part says which incarnation it is.
fn beginning(count: Count) -> Count {
    Count { count: count.count >> 32 << 32, ..count }
}

#[test]
fn beats_tell_what_moved_since_the_node_followed_in_every_mode() {
    for topology in [Topology::standalone(), Topology::cluster()] {
        for mode in RelayMode::ALL {
            topology.flush();
            let mut broker = Real::new(options(&topology, mode));
            broker.attach_node(ONE);
            assert_eq!(broker.moved(ONE, &[]), [], "nothing ever moved");
            let names: Vec<String> = (0..20).map(|at| format!("r\"{at}\\")).collect();
            let stored: HashMap<_, _> =
                names.iter().map(|name| (room(name), broker.stored(ONE, 1, name, KEEP))).collect();
            let unknown = broker.moved(ONE, &[]);
            assert!(unknown.iter().all(|moved| moved.rooms.is_none()), "{mode:?}: {unknown:?}");
            let before: Vec<_> = unknown.iter().map(|it| beginning(it.count)).collect();
            let mut named = HashMap::new();
            for Moved { rooms, .. } in broker.moved(ONE, &before) {
                named.extend(rooms.unwrap());
            }
            assert_eq!(named, stored, "{mode:?}");
            let counts: Vec<_> = unknown.iter().map(|it| it.count).collect();
            assert_eq!(broker.moved(ONE, &counts), [], "{mode:?}: nothing since");
            let ahead: Vec<_> =
                counts.iter().map(|it| Count { count: it.count + 1, ..*it }).collect();
            let back = broker.moved(ONE, &ahead);
            assert_eq!(back, unknown, "{mode:?}: counters went back");
            let position = broker.stored(ONE, 2, &names[3], KEEP);
            let moved = broker.moved(ONE, &counts);
            assert_eq!(moved.len(), 1);
            assert_eq!(moved[0].rooms, Some(vec![(room(&names[3]), position)]));
            topology.flush();
            let lost = broker.moved(ONE, &counts);
            assert!(lost.iter().all(|it| it.count.count == 0 && it.rooms.is_none()), "{lost:?}");
            assert_eq!(lost.len(), counts.len());
        }
    }
}

#[test]
fn a_beat_names_as_many_rooms_of_a_partition_as_one_question_may_ask_for() {
    let (topology, mut broker) = one_node();
    let count = u64::try_from(HEADS_MAX).unwrap();
    let mut names = (0..).map(|at| format!("room-{at}"));
    let first = names.next().unwrap();
    broker.stored(ONE, 1, &first, KEEP);
    let partition = broker.moved(ONE, &[])[0].count.partition;
    let same = |name: &String| common::partition(name) == partition;
    for name in names.by_ref().filter(same).take(HEADS_MAX - 1) {
        broker.stored(ONE, 1, &name, KEEP);
    }
    let taken = [beginning(broker.moved(ONE, &[])[0].count)];
    let count = taken[0].count + count;
    let moved = broker.moved(ONE, &taken);
    assert_eq!(moved[0].count.count, count);
    assert_eq!(moved[0].rooms.as_ref().map(Vec::len), Some(HEADS_MAX));
    broker.stored(ONE, 1, &names.find(same).unwrap(), KEEP);
    assert_eq!(broker.moved(ONE, &taken)[0].rooms, None);
    // A room that is not in the set any more.
    topology.raw(&["DEL", &key_of(&topology, "moved", "")]);
    let taken = [Count { partition, count }];
    assert_eq!(broker.moved(ONE, &taken)[0].rooms, None, "what moved is not known");
}

#[test]
fn as_many_heads_as_one_question_may_ask_for_come_in_its_order() {
    for topology in [Topology::standalone(), Topology::cluster()] {
        let mut broker = Real::new(options(&topology, RelayMode::Sharded));
        broker.attach_node(ONE);
        let names: Vec<String> = (0..HEADS_MAX).map(|at| format!("room-{at}")).collect();
        let some: HashMap<_, _> =
            [3, 200, 511].map(|at| (at, broker.stored(ONE, 1, &names[at], KEEP))).into();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let heads = broker.heads(ONE, &names, KEEP).unwrap();
        assert_eq!(heads.len(), HEADS_MAX);
        for (at, head) in heads.iter().enumerate() {
            match some.get(&at) {
                Some(stored) => assert_eq!(head, stored),
                None => assert_eq!(head.offset, 0),
            }
        }
        assert_eq!(broker.heads(ONE, &names, KEEP), Some(heads), "asking changes nothing");
        assert_eq!(broker.heads(ONE, &[], KEEP), Some(Vec::new()));
    }
}

#[test]
fn questions_end_within_their_time_and_publications_are_stored_once_though_redis_froze() {
    let (topology, mut broker) = one_node();
    subscribed(&mut broker, ONE, "news", 1);
    let first = broker.stored(ONE, 1, "news", KEEP);
    next_position(&mut broker, ONE);
    topology.freeze(Duration::from_millis(2_600), || {
        broker.publish_kept(ONE, 2, 2, "news", KEEP);
        let began = Instant::now();
        assert_eq!(broker.heads(ONE, &["news"], KEEP), None);
        assert!(began.elapsed() < Duration::from_millis(2_300), "{:?}", began.elapsed());
    });
    // Its first try may have been carried out, and then another one found it.
    let accepted = broker.outcome(ONE, 2).unwrap();
    assert_eq!(Accepted { again: false, ..accepted }, Accepted::stored(first.at(2)));
    assert_eq!(broker.stored(ONE, 3, "news", KEEP), first.at(3));
    for offset in 2..=3 {
        assert_eq!(next_position(&mut broker, ONE).1, first.at(offset));
    }
    topology.kill();
    let began = Instant::now();
    assert_eq!(broker.page(ONE, "news", KEEP, Span::above(0)), None);
    assert!(began.elapsed() < Duration::from_millis(2_300), "{:?}", began.elapsed());
    broker.publish_kept(ONE, 4, 4, "news", KEEP);
    assert!(!broker.outcome(ONE, 4).unwrap_err().unknown, "it was never sent");
}

#[test]
fn replicated_means_that_a_replica_has_it() {
    let keep = Keep { replicated: true, ..KEEP };
    let with = Topology::sentinel();
    let mut broker = Real::new(with_long_memory(options(&with, RelayMode::Pattern)));
    broker.attach_node(ONE);
    let first = broker.stored(ONE, 1, "news", KEEP);
    for ticket in 2..=50 {
        broker.publish_kept(ONE, ticket, ticket, "news", keep);
    }
    for ticket in 2..=50 {
        let expected = Accepted { level: Level::Replicated, ..Accepted::stored(first.at(ticket)) };
        assert_eq!(broker.outcome(ONE, ticket).unwrap(), expected);
    }
    let Topology::Sentinel(sentinels) = &with else { panic!("no Sentinels") };
    let replica = sentinels.replica().unwrap();
    let stream = replica.command(&["KEYS", "rc:*:stream:news"]).unwrap();
    let length = replica.command(&["XLEN", &stream.items()[0].text()]).unwrap();
    assert_eq!(length.text(), "50");
    // The same again by its id: known, and known to be replicated.
    broker.publish_kept(ONE, 51, 50, "news", keep);
    assert_eq!(broker.outcome(ONE, 51).unwrap().level, Level::Replicated);
    for without in [Topology::standalone(), Topology::cluster()] {
        let mut options = options(&without, RelayMode::Pattern);
        options.wait_timeout_ms = 300;
        let mut broker = Real::new(options);
        broker.attach_node(ONE);
        for name in ["a", "b", "c", "d"] {
            broker.publish_kept(ONE, 1, 1, name, keep);
            let refused = broker.outcome(ONE, 1).unwrap_err();
            assert!(refused.unknown, "{refused:?}");
            assert_eq!(broker.heads(ONE, &[name], KEEP).unwrap()[0].offset, 1, "it is stored");
        }
    }
}

#[test]
fn a_lost_tail_is_another_epoch_so_no_position_names_two_payloads() {
    let old = Redis::start(&[]).unwrap();
    let new = Redis::start(&[]).unwrap();
    let port = old.port().to_string();
    new.command(&["REPLICAOF", "127.0.0.1", &port]).unwrap();
    let [old, new] = [old, new].map(|it| Topology::Standalone(it.into()));
    let mut before = Real::new(with_long_memory(options(&old, RelayMode::Pattern)));
    before.attach_node(ONE);
    let keep = Keep { replicated: true, ..KEEP };
    let deadline = Instant::now() + Duration::from_secs(20);
    let mut id = 0;
    let first = loop {
        id += 1;
        before.publish_kept(ONE, id, 1, "news", keep);
        match before.outcome(ONE, id) {
            Ok(accepted) => break accepted.position.unwrap(),
            Err(refused) => assert!(refused.unknown && Instant::now() < deadline, "{refused:?}"),
        }
    };
    new.raw(&["REPLICAOF", "NO", "ONE"]);
    let lost: Vec<_> = (2..=9).map(|id| before.stored(ONE, id, "news", KEEP)).collect();
    let mut after = Real::new(with_long_memory(options(&new, RelayMode::Pattern)));
    after.attach_node(TWO);
    let kept: Vec<_> = (12..=19).map(|id| after.stored(TWO, id, "news", KEEP)).collect();
    assert!(lost.iter().zip(2..).all(|(it, offset)| *it == first.at(offset)));
    assert_eq!(kept.iter().map(|it| it.offset).collect::<Vec<_>>(), (2..=9).collect::<Vec<_>>());
    assert!(kept.iter().all(|it| it.epoch == kept[0].epoch && it.epoch != first.epoch));
    let again = after.stored(TWO, 2, "news", KEEP);
    assert_eq!(again, kept[0].at(10), "what was lost is stored anew");
    assert_eq!(after.stored(TWO, 1, "news", KEEP), first, "what was not is where it was");
}

/// A sequence that looks random and is the same each time.
fn xorshift(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

#[test]
fn no_position_ever_names_two_payloads_whatever_is_lost() {
    let (topology, mut broker) = one_node();
    subscribed(&mut broker, ONE, "news", 1);
    let keep = Keep { size: 20, ..KEEP };
    let mut state = 0x5eed_u64;
    let mut named: HashMap<Position, u64> = HashMap::new();
    let mut check = |position: Position, id: u64| {
        let before = *named.entry(position).or_insert(id);
        assert_eq!(before, id, "{position:?}");
    };
    for id in 1..=400 {
        let key = |kind: &str| topology.texts(&["KEYS", &format!("rc:*:{kind}:news")]).pop();
        let lose = |kind: &str| {
            if let Some(key) = key(kind) {
                topology.raw(&["DEL", &key])
            }
        };
        match xorshift(&mut state) % 40 {
            0 => topology.flush(),
            1 => lose("meta"),
            2 => lose("stream"),
            3 | 4 => topology.raw(&["DEBUG", "CHANGE-REPL-ID"]),
            5 => lose("kept-ids"),
            6 => {
                if let Some(key) = key("stream") {
                    topology.raw(&["XTRIM", &key, "MAXLEN", "3"]);
                }
            }
            7 => topology.raw(&["FUNCTION", "FLUSH"]),
            8 => drop(broker.heads(ONE, &["news"], keep)),
            _ => {}
        }
        let again = xorshift(&mut state).is_multiple_of(8) && id > 1;
        let id = if again { id - 1 } else { id };
        check(broker.stored(ONE, id, "news", keep), id);
        let page = broker.kept(ONE, "news", keep);
        let Head { position, first } = page.head;
        assert_eq!(offsets(&page), (first..=position.offset).collect::<Vec<_>>(), "no holes");
        for entry in &page.entries {
            let Kept::Publication(publication) = entry else { panic!("{entry:?}") };
            let id = publication.id.strip_prefix("id-").unwrap().parse().unwrap();
            check(publication.position.unwrap(), id);
        }
    }
}

#[test]
fn what_a_node_cannot_read_has_its_position_all_the_same() {
    let (topology, mut options) = (Topology::standalone(), None);
    for key in [b"a key of sixteen", b"another, sixteen"] {
        let mut own = common::options(&topology, RelayMode::Pattern);
        own.keys = Some(RelayKeys { current: (*key).into(), previous: None });
        options.get_or_insert_with(Vec::new).push(own);
    }
    let [mine, theirs] = <[_; 2]>::try_from(options.unwrap()).ok().unwrap();
    let keys = mine.keys.clone().unwrap();
    let (mut one, mut two) = (Real::new(mine), Real::new(theirs));
    one.attach_node(ONE);
    two.attach_node(TWO);
    let first = one.stored(ONE, 1, "news", KEEP);
    let page = two.kept(TWO, "news", KEEP);
    assert_eq!(page.entries, [Kept::Unreadable(first)], "signed with another key");
    // A node of a later version: the header is where it was, the rest is not known.
    subscribed(&mut one, ONE, "news", 1);
    let position = first.at(OFFSET_MAX);
    let mut signed = position.epoch.0.to_be_bytes().to_vec();
    signed.extend(position.offset.to_be_bytes());
    signed.extend([7; 20]);
    let hash = keys.sign("news", &[&[2], &signed]);
    let envelope = [&[0xC1, 2], &hash[..], &signed].concat();
    topology.raw(&[&b"PUBLISH"[..], b"room:news", &envelope]);
    let Envelope::Unreadable { room, position: found } = one.next_envelope(ONE) else {
        panic!("it was read");
    };
    assert_eq!((room.as_str(), found), ("news", position));
}

#[test]
fn rooms_of_the_system_are_heard_from_nodes_alone() {
    let (topology, mut broker) = one_node();
    let control = roomcast_protocol::room::RoomName::system("$control").unwrap();
    broker.subscribe_to(ONE, control, 1);
    topology.publish("room:$control", r#"{"type":"kick","data":{}}"#);
    let first = broker.stored(ONE, 1, "$control", KEEP);
    assert_eq!(next_position(&mut broker, ONE), ("id-0001".to_owned(), first));
}

#[test]
fn a_node_does_not_work_with_data_that_is_laid_out_otherwise() {
    let topology = Topology::standalone();
    let mut broker = Real::new(options(&topology, RelayMode::Pattern));
    broker.attach_node(ONE);
    let layout = key_of(&topology, "partitions", "");
    assert_eq!(topology.text(&["GET", &layout]), "256");
    topology.raw(&["SET", &layout, "128"]);
    let mut other = Real::new(options(&topology, RelayMode::Pattern));
    other.attach_without_feed(TWO);
    for dedup in [false, true] {
        other.publish(TWO, 1, "news", "never", dedup);
        let refused = other.outcome(TWO, 1).unwrap_err();
        assert!(!refused.unknown && refused.message.contains("128 partitions"), "{refused:?}");
    }
    assert!(other.beat(TWO).is_none() && other.heads(TWO, &["news"], KEEP).is_none());
    // One that was there before finds out by its next beat, and both work once it is right.
    assert!(broker.beat(ONE).is_none());
    broker.publish_kept(ONE, 1, 1, "news", KEEP);
    assert!(broker.outcome(ONE, 1).unwrap_err().message.contains("128 partitions"));
    topology.raw(&["SET", &layout, "256"]);
    let deadline = Instant::now() + Duration::from_secs(20);
    while broker.beat(ONE).is_none() {
        assert!(Instant::now() < deadline, "it does not come back");
    }
    broker.stored(ONE, 1, "news", KEEP);
}
