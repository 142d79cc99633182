//! How far devices have acked inboxes, on real servers: cursors, what they lose, and what goes first.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::wildcard_enum_match_arm,
    clippy::indexing_slicing,
    reason = "helpers of tests fail as tests do"
)]

mod common;

use std::time::Duration;

use common::{KEEP, Real, Topology, options};
use roomcast_protocol::ids::NodeId;
use roomcast_protocol::inbox::{ACKED_ABOVE_MAX, CursorOf, DEVICES_MAX, InboxState};
use roomcast_protocol::position::{Direction, Epoch, Keep, Kept, Page, Position, Span};
use roomcast_protocol::publication::Priority;
use roomcast_protocol::relay::RelayMode;

const ONE: NodeId = NodeId(1);

const INBOX: &str = "user-ann";

/// Keeps enough of everything.
const ROOMY: Keep = Keep { inbox: Some(CursorOf::Device), ..KEEP };

const LOW: (Option<Priority>, Option<&str>) = (Some(Priority::Low), None);

fn one_node(topology: &Topology) -> Real {
    let mut broker = Real::new(options(topology, RelayMode::Pattern));
    broker.attach_node(ONE);
    broker
}

/// Watermark, what is acked above, what is lost and untold.
fn cursor(state: &InboxState) -> (u64, Vec<u64>, u64) {
    (state.acked.watermark.offset, state.acked.above.clone(), state.untold())
}

/// Offsets of a page; what was removed in brackets.
fn shown(page: &Page) -> String {
    let one = |kept: &Kept| match kept {
        Kept::Publication(publication) => publication.position.unwrap().offset.to_string(),
        Kept::Unreadable(position) => panic!("{position:?} cannot be read"),
        Kept::Removed(position) => format!("[{}]", position.offset),
    };
    page.entries.iter().map(one).collect::<Vec<_>>().join(" ")
}

#[test]
fn a_cursor_moves_to_what_was_acked_and_never_back_on_every_topology() {
    for topology in [Topology::standalone(), Topology::sentinel(), Topology::cluster()] {
        let mut broker = one_node(&topology);
        let first = broker.stored(ONE, 1, INBOX, ROOMY);
        for id in 2..=9 {
            broker.stored(ONE, id, INBOX, ROOMY);
        }
        let state = broker.inbox(ONE, INBOX, "", ROOMY);
        assert_eq!(cursor(&state), (0, vec![], 0));
        assert_eq!((state.head.position, state.head.first), (first.at(9), 1));
        let mut ack = |watermark: Position, above: &[u64], told| {
            cursor(&broker.ack(ONE, (INBOX, ""), ROOMY, (watermark, above), told))
        };
        assert_eq!(ack(first.at(2), &[5, 7], 0), (2, vec![5, 7], 0));
        assert_eq!(ack(first.at(1), &[3], 0), (3, vec![5, 7], 0));
        assert_eq!(ack(first.at(0), &[4], 0), (5, vec![7], 0));
        assert_eq!(ack(first.at(5), &[40], 0), (5, vec![7], 0), "that has not been yet");
        let other = Position { epoch: Epoch(1), offset: 9 };
        assert_eq!(ack(other, &[6], 0), (5, vec![7], 0), "of another epoch");
        assert_eq!(ack(first.at(99), &[], 0), (9, vec![], 0));
    }
}

#[test]
fn acked_numbers_above_a_watermark_are_kept_up_to_their_bound_and_the_lowest_of_more() {
    let topology = Topology::standalone();
    let mut broker = one_node(&topology);
    let keep = Keep { size: 2_000, ..ROOMY };
    let first = broker.stored(ONE, 1, INBOX, keep);
    let max = u64::try_from(ACKED_ABOVE_MAX).unwrap();
    for id in 2..=2 * max + 10 {
        broker.publish_kept(ONE, id, id, INBOX, keep);
    }
    broker.outcome(ONE, 2 * max + 10).unwrap();
    // Every second one.
    let above: Vec<_> = (1..=max).map(|it| 2 * it).collect();
    let at = first.at(0);
    let state = broker.ack(ONE, (INBOX, ""), keep, (at, &above), 0);
    assert_eq!(state.acked.above, above);
    let state = broker.ack(ONE, (INBOX, ""), keep, (at, &[2 * max + 2]), 0);
    assert_eq!(state.acked.above, above, "one more is asked for again");
    let state = broker.ack(ONE, (INBOX, ""), keep, (at, &[1]), 0);
    assert_eq!(cursor(&state), (2, above[1..].to_vec(), 0));
}

#[test]
fn a_new_device_starts_at_the_furthest_cursor_and_beyond_their_number_the_idlest_goes() {
    let topology = Topology::standalone();
    let mut broker = one_node(&topology);
    let first = broker.stored(ONE, 1, INBOX, ROOMY);
    for id in 2..=5 {
        broker.stored(ONE, id, INBOX, ROOMY);
    }
    let device = |at: usize| format!("device-{at:02}");
    broker.ack(ONE, (INBOX, &device(0)), ROOMY, (first.at(4), &[]), 0);
    for at in 1..DEVICES_MAX {
        std::thread::sleep(Duration::from_millis(2));
        assert_eq!(cursor(&broker.inbox(ONE, INBOX, &device(at), ROOMY)).0, 4);
    }
    let key = topology.text(&["KEYS", "rc:*:cursors:*"]);
    assert_eq!(topology.int(&["HLEN", &key]), 16);
    std::thread::sleep(Duration::from_millis(2));
    broker.inbox(ONE, INBOX, &device(0), ROOMY);
    std::thread::sleep(Duration::from_millis(2));
    assert_eq!(cursor(&broker.inbox(ONE, INBOX, "another", ROOMY)).0, 4);
    let left = topology.texts(&["HKEYS", &key]);
    assert_eq!(
        (left.len(), left.contains(&device(0)), left.contains(&device(1))),
        (16, true, false)
    );
    // The user's own is none of them.
    broker.inbox(ONE, INBOX, "", ROOMY);
    assert_eq!(topology.int(&["HLEN", &key]), 17);
}

#[test]
fn of_an_inbox_that_is_full_the_low_ones_go_first_and_cursors_count_what_they_lose() {
    let topology = Topology::standalone();
    let mut broker = one_node(&topology);
    let keep = Keep { size: 4, ..ROOMY };
    broker.inbox(ONE, INBOX, "", keep);
    let first = broker.stored(ONE, 1, INBOX, keep);
    broker.stored(ONE, 2, INBOX, keep);
    broker.stored_as(ONE, 3, INBOX, keep, LOW);
    broker.stored(ONE, 4, INBOX, keep);
    assert_eq!(shown(&broker.kept(ONE, INBOX, keep)), "1 2 3 4");
    broker.stored(ONE, 5, INBOX, keep);
    let page = broker.kept(ONE, INBOX, keep);
    assert_eq!((shown(&page), page.head.first), ("1 2 [3] 4 5".to_owned(), 1));
    assert_eq!(page.entries[2].position(), Some(first.at(3)));
    assert_eq!(cursor(&broker.inbox(ONE, INBOX, "", keep)), (0, vec![], 1));
    broker.stored(ONE, 6, INBOX, keep);
    assert_eq!(shown(&broker.kept(ONE, INBOX, keep)), "2 [3] 4 5 6");
    broker.stored(ONE, 7, INBOX, keep);
    let page = broker.kept(ONE, INBOX, keep);
    assert_eq!((shown(&page), page.head.first), ("4 5 6 7".to_owned(), 4));
    // The newest itself, where it is the only low one.
    broker.stored_as(ONE, 8, INBOX, keep, LOW);
    assert_eq!(shown(&broker.kept(ONE, INBOX, keep)), "4 5 6 7 [8]");
    let span = |direction, from, count_max| Span { direction, from, count_max, ..Span::above(0) };
    for (span, expected, whole) in [
        (span(Direction::Backward, u64::MAX, 2), "7 [8]", false),
        (span(Direction::Backward, 5, 2), "4", true),
        (span(Direction::Forward, 7, 1), "[8]", true),
        (span(Direction::Forward, 3, 4), "4 5 6 7", false),
    ] {
        let page = broker.page(ONE, INBOX, keep, span).unwrap();
        assert_eq!((shown(&page), page.whole), (expected.to_owned(), whole), "{span:?}");
    }
    // What was acked is nobody's loss, and what was told is told.
    assert_eq!(cursor(&broker.inbox(ONE, INBOX, "", keep)), (0, vec![], 4));
    let state = broker.ack(ONE, (INBOX, ""), keep, (first.at(3), &[4]), 3);
    assert_eq!(cursor(&state), (4, vec![], 1));
    let state = broker.ack(ONE, (INBOX, ""), keep, (first.at(4), &[]), 3);
    assert_eq!(cursor(&state), (4, vec![], 1), "said twice it is said once");
    broker.stored(ONE, 9, INBOX, keep);
    assert_eq!(cursor(&broker.inbox(ONE, INBOX, "", keep)), (4, vec![], 1));
    let state = broker.ack(ONE, (INBOX, ""), keep, (first.at(4), &[]), 9);
    assert_eq!(cursor(&state), (4, vec![], 0));
    // A repeat of what went is known, and does not come again.
    assert_eq!(broker.stored_as(ONE, 8, INBOX, keep, LOW), first.at(8));
    // Whole, although entries are missing: nothing begins anew.
    assert_eq!(broker.heads(ONE, &[INBOX], keep), Some(vec![first.at(9)]));
}

#[test]
fn an_inbox_keeps_as_many_bytes_as_it_may_and_one_more_lets_the_oldest_go() {
    let topology = Topology::standalone();
    let mut broker = one_node(&topology);
    for id in 1..=3 {
        broker.stored(ONE, id, INBOX, ROOMY);
    }
    let stream = topology.text(&["KEYS", "rc:*:stream:*"]);
    let bytes: u64 = broker.envelope_bytes(&topology, &stream).iter().sum();
    topology.flush();
    for (bytes_max, expected) in [(bytes, "1 2 3"), (bytes - 1, "2 3")] {
        topology.flush();
        let keep = Keep { bytes_max, ..ROOMY };
        for id in 1..=3 {
            broker.stored(ONE, id, INBOX, keep);
        }
        assert_eq!(shown(&broker.kept(ONE, INBOX, keep)), expected);
    }
}

#[test]
fn low_ones_go_first_only_among_the_oldest() {
    let topology = Topology::standalone();
    let mut broker = one_node(&topology);
    for (before, expected) in [(63, 1), (64, 2)] {
        topology.flush();
        let keep = Keep { size: before + 1, ..ROOMY };
        for id in 1..=before {
            broker.stored(ONE, id.into(), INBOX, keep);
        }
        broker.stored_as(ONE, 500, INBOX, keep, LOW);
        broker.stored(ONE, 501, INBOX, keep);
        assert_eq!(broker.kept(ONE, INBOX, keep).head.first, expected, "{before} before it");
    }
}

#[test]
fn holes_do_not_stretch_an_inbox_beyond_twice_its_size() {
    let topology = Topology::standalone();
    let mut broker = one_node(&topology);
    let keep = Keep { size: 4, ..ROOMY };
    broker.stored(ONE, 1, INBOX, keep);
    for id in 2..=8 {
        broker.stored_as(ONE, id, INBOX, keep, LOW);
    }
    assert_eq!(shown(&broker.kept(ONE, INBOX, keep)), "1 [2] [3] [4] [5] 6 7 8");
    broker.stored_as(ONE, 9, INBOX, keep, LOW);
    assert_eq!(shown(&broker.kept(ONE, INBOX, keep)), "6 7 8 9");
}

#[test]
fn what_is_past_its_time_is_lost_for_who_has_not_acked_it() {
    let topology = Topology::standalone();
    let mut broker = one_node(&topology);
    let keep = Keep { ttl_ms: 1_000, ..ROOMY };
    broker.inbox(ONE, INBOX, "", keep);
    let first = broker.stored(ONE, 1, INBOX, keep);
    for id in 2..=4 {
        broker.stored(ONE, id, INBOX, keep);
    }
    broker.ack(ONE, (INBOX, ""), keep, (first, &[3]), 0);
    std::thread::sleep(Duration::from_millis(1_020));
    let state = broker.inbox(ONE, INBOX, "", keep);
    assert_eq!((cursor(&state), state.head.first), ((1, vec![3], 2), 5));
    // All of it, by itself.
    for id in 5..=6 {
        broker.stored(ONE, id, INBOX, keep);
    }
    std::thread::sleep(Duration::from_millis(1_400));
    let state = broker.inbox(ONE, INBOX, "", keep);
    assert_eq!((cursor(&state), state.head.first), ((1, vec![3], 4), 7));
    assert_eq!(state.head.position, first.at(6), "that is no loss of the stream");
}

#[test]
fn the_newest_under_a_key_takes_the_place_of_the_older_in_any_room_that_keeps() {
    for topology in [Topology::standalone(), Topology::cluster()] {
        let mut broker = one_node(&topology);
        for (room, keep) in [("news", KEEP), (INBOX, ROOMY)] {
            broker.inbox(ONE, room, "", keep);
            let keyed = |key| (None, Some(key));
            broker.stored(ONE, 1, room, keep);
            broker.stored_as(ONE, 2, room, keep, keyed("a"));
            broker.stored_as(ONE, 3, room, keep, keyed("b"));
            broker.stored_as(ONE, 4, room, keep, keyed("a"));
            assert_eq!(shown(&broker.kept(ONE, room, keep)), "1 [2] 3 4");
            broker.stored_as(ONE, 5, room, keep, keyed(""));
            broker.stored_as(ONE, 6, room, keep, keyed(""));
            assert_eq!(shown(&broker.kept(ONE, room, keep)), "1 [2] 3 4 [5] 6");
            // The front moves, over what is not there any more as well.
            broker.stored_as(ONE, 7, room, keep, keyed("b"));
            assert_eq!(shown(&broker.kept(ONE, room, keep)), "1 [2] [3] 4 [5] 6 7");
            assert_eq!(cursor(&broker.inbox(ONE, room, "", keep)).2, 0, "nobody has lost anything");
        }
        let keep = Keep { size: 2, ..KEEP };
        for id in 1..=9 {
            broker.stored_as(ONE, id, "few", keep, (None, Some("k")));
        }
        assert_eq!(shown(&broker.kept(ONE, "few", keep)), "9");
    }
}

#[test]
fn keys_of_what_is_gone_are_forgotten() {
    let topology = Topology::standalone();
    let mut broker = one_node(&topology);
    let keep = Keep { size: 8, ..KEEP };
    for id in 1..=400 {
        broker.stored_as(ONE, id, "news", keep, (None, Some(&format!("key-{id}"))));
    }
    let key = topology.text(&["KEYS", "rc:*:newest:news"]);
    let known = topology.int(&["HLEN", &key]);
    assert!((8..=100).contains(&known), "{known}");
    assert!(topology.int(&["PTTL", &key]) > 0);
}

#[test]
fn cursors_follow_a_stream_that_begins_anew() {
    let topology = Topology::standalone();
    let mut broker = one_node(&topology);
    let first = broker.stored(ONE, 1, INBOX, ROOMY);
    for id in 2..=9 {
        broker.stored(ONE, id, INBOX, ROOMY);
    }
    broker.ack(ONE, (INBOX, ""), ROOMY, (first.at(7), &[9]), 0);
    for kind in ["meta", "stream"] {
        topology.raw(&["DEL", &topology.text(&["KEYS", &format!("rc:*:{kind}:*")])]);
    }
    let again = broker.stored(ONE, 20, INBOX, ROOMY);
    assert_eq!(again.offset, 1);
    for id in 21..=24 {
        broker.stored(ONE, id, INBOX, ROOMY);
    }
    // Nothing that was published since counts as acked.
    assert_eq!(cursor(&broker.inbox(ONE, INBOX, "", ROOMY)), (0, vec![], 0));
}

#[test]
fn what_others_put_in_place_of_an_inbox_is_replaced() {
    let topology = Topology::standalone();
    let mut broker = one_node(&topology);
    let keep = Keep { size: 3, ..ROOMY };
    let mut id = 0;
    let mut fill = |broker: &mut Real| {
        for class in [None, Some(Priority::Low), None, None, None] {
            id += 1;
            broker.stored_as(ONE, id, INBOX, keep, (class, Some(&format!("key-{}", id % 3))));
        }
    };
    fill(&mut broker);
    broker.inbox(ONE, INBOX, "", keep);
    let meta = topology.text(&["KEYS", "rc:*:meta:*"]);
    for kind in ["holes", "newest", "low", "cursors", "meta", "stream"] {
        let key = meta.replace(":meta:", &format!(":{kind}:"));
        for value in [&["RPUSH", "x"][..], &["SET", "x"], &["HSET", "x", "y"], &["ZADD", "1", "x"]]
        {
            topology.raw(&["DEL", &key]);
            topology.raw(&[&[value[0], &key][..], &value[1..]].concat());
            fill(&mut broker);
            let head = broker.inbox(ONE, INBOX, "", keep).head;
            let state = broker.ack(ONE, (INBOX, ""), keep, (head.position, &[]), 99);
            assert_eq!(cursor(&state), (head.position.offset, vec![], 0), "{key} {value:?}");
            let page = broker.kept(ONE, INBOX, keep);
            let last = page.entries.last().and_then(Kept::position);
            assert_eq!(last, Some(head.position), "{key} {value:?}");
        }
    }
}
