//! What leaves an outbox in which order, and what is let go when it is full.

use roomcast_protocol::position::{Epoch, Position};

use super::*;
use crate::random::Random;

fn drain(outbox: &mut Outbox, step: usize) -> String {
    let mut sent = Vec::new();
    while let Some(bytes) = outbox.front() {
        let count = step.min(bytes.len());
        sent.extend_from_slice(&bytes[..count]);
        outbox.written(count, 1);
    }
    assert!(outbox.is_empty());
    String::from_utf8(sent).unwrap()
}

#[test]
fn classes_leave_in_order_and_frames_stay_whole() {
    let mut outbox = Outbox::new(0);
    outbox.push_begun("-rest ".into());
    outbox.push("low ".into(), Priority::Low, None);
    outbox.push("normal ".into(), Priority::Normal, None);
    outbox.push("high ".into(), Priority::High, None);
    assert_eq!(drain(&mut outbox, 2), "-rest high normal low ");
}

#[test]
fn lower_classes_keep_a_share() {
    let mut outbox = Outbox::new(0);
    outbox.push("N".into(), Priority::Normal, None);
    outbox.push("L".into(), Priority::Low, None);
    for _ in 0..20 {
        outbox.push("h".into(), Priority::High, None);
    }
    assert_eq!(drain(&mut outbox, 9), "hhhhhhhhNhhhhhhhhLhhhh");
}

#[test]
fn the_lowest_class_moves_while_two_others_never_end() {
    let mut outbox = Outbox::new(0);
    outbox.push("L".into(), Priority::Low, None);
    for _ in 0..100 {
        outbox.push("h".into(), Priority::High, None);
        outbox.push("n".into(), Priority::Normal, None);
    }
    let sent = drain(&mut outbox, 9);
    assert!(sent.find('L').is_some_and(|at| at <= 80), "{sent}");
}

#[test]
fn a_frame_never_leaves_before_an_older_one_of_a_higher_class() {
    let mut outbox = Outbox::new(0);
    for number in 0..20 {
        outbox.push(format!("joined-{number:02} ").into(), Priority::High, None);
    }
    outbox.push("push ".into(), Priority::Normal, None);
    let sent = drain(&mut outbox, 9);
    assert!(sent.ends_with("joined-19 push "), "{sent}");
}

#[test]
fn whatever_comes_when_each_frame_keeps_its_rights() {
    for seed in 0..200_u64 {
        let (mut outbox, mut state) = (Outbox::new(0), seed + 1);
        let mut random = |bound: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) % bound
        };
        let (mut waiting, mut sent) = (Vec::new(), Vec::new());
        let (mut marks, mut next) = (0, 0_u32);
        for step in 0..400 {
            match random(12) {
                0 => {
                    outbox.push(Bytes::new(), Priority::High, None);
                    marks += 1;
                }
                1..=6 if step < 300 => {
                    let class = Priority::ALL[usize::try_from(random(3)).unwrap()];
                    next += 1;
                    outbox.push(next.to_be_bytes().to_vec().into(), class, None);
                    waiting.push((next, class, marks, 0));
                }
                _ => {
                    let Some(bytes) = outbox.front() else { continue };
                    let number = u32::from_be_bytes(bytes.try_into().unwrap());
                    outbox.written(4, 0);
                    let at = waiting.iter().position(|it| it.0 == number).unwrap();
                    let (_, class, mark, _) = waiting.remove(at);
                    for (_, other, its_mark, overtaken) in &mut waiting[..at] {
                        assert!(*other > class && *its_mark == mark, "seed {seed}: {number}");
                        *overtaken += 1;
                        assert!(*overtaken < 2 * 81, "seed {seed}: starved");
                    }
                    sent.push(number);
                }
            }
        }
        while outbox.front().is_some() {
            outbox.written(4, 0);
            sent.push(0);
        }
        assert_eq!((sent.len(), outbox.bytes()), (next as usize, 0));
    }
}

#[test]
fn what_waits_at_a_mark_leaves_before_what_comes_later() {
    let mut outbox = Outbox::new(0);
    outbox.push("begun ".into(), Priority::Low, None);
    outbox.front();
    outbox.written(1, 0);
    outbox.push("low ".into(), Priority::Low, None);
    outbox.push("normal ".into(), Priority::Normal, None);
    outbox.push(Bytes::new(), Priority::High, None);
    outbox.push("left ".into(), Priority::High, None);
    outbox.push("slow ".into(), Priority::Normal, None);
    outbox.push("joined ".into(), Priority::High, None);
    assert_eq!(outbox.bytes(), 33);
    assert_eq!(drain(&mut outbox, 3), "egun normal low left joined slow ");
}

#[test]
fn a_mark_in_an_empty_outbox_leaves_it_empty() {
    let mut outbox = Outbox::new(0);
    outbox.push(Bytes::new(), Priority::High, None);
    assert!(outbox.is_empty() && outbox.front().is_none());
}

#[test]
fn a_cleared_outbox_forgets_settled_frames_too() {
    let mut outbox = Outbox::new(0);
    outbox.push("a".into(), Priority::Normal, None);
    outbox.push(Bytes::new(), Priority::High, None);
    outbox.push("b".into(), Priority::Normal, None);
    outbox.clear_waiting();
    assert!(outbox.is_empty() && outbox.front().is_none());
}

#[test]
fn a_cleared_outbox_still_finishes_the_frame_under_way() {
    let mut outbox = Outbox::new(0);
    outbox.push("begun".into(), Priority::Normal, None);
    outbox.push("more".into(), Priority::Normal, None);
    outbox.front();
    outbox.written(2, 1);
    outbox.clear_waiting();
    assert_eq!(outbox.bytes(), 3);
    assert_eq!(drain(&mut outbox, 9), "gun");
}

fn mark(room: RoomSerial) -> Mark {
    Mark { room, before: None, expires_unix_ms: None, key: None, stays: false }
}

fn kept(room: RoomSerial, before: u64) -> Option<Arc<Mark>> {
    Some(Mark { before: Some(position(before)), ..mark(room) }.into())
}

fn position(offset: u64) -> Position {
    Position { epoch: Epoch(1), offset }
}

/// Lets go of what may go until `goal_bytes` are left, and says what and what leaves then.
#[track_caller]
fn shed(mut outbox: Outbox, goal_bytes: usize, expected: &Shed, left: &str) {
    let shed = outbox.shed(goal_bytes, 1_000);
    assert_eq!(shed, *expected);
    assert_eq!(outbox.bytes(), left.len());
    assert_eq!(drain(&mut outbox, 3), left);
}

#[test]
fn what_tells_who_is_in_a_room_stays_whatever_its_class() {
    let mut outbox = Outbox::new(0);
    let stays = Mark { stays: true, expires_unix_ms: Some(1), key: Some(1), ..mark(1) };
    outbox.push("stays".into(), Priority::Low, Some(stays.into()));
    outbox.push("goes".into(), Priority::Low, Some(mark(1).into()));
    let expected = Shed { low: 1, ..Shed::default() };
    shed(outbox, 0, &expected, "stays");
}

#[test]
fn at_its_goal_nothing_is_let_go_and_one_byte_above_it_is() {
    for (goal_bytes, low, left) in [(6, 0, "aaabbb"), (5, 1, "bbb"), (3, 1, "bbb"), (2, 2, "")] {
        let mut outbox = Outbox::new(0);
        for text in ["aaa", "bbb"] {
            outbox.push(text.into(), Priority::Low, Some(mark(1).into()));
        }
        shed(outbox, goal_bytes, &Shed { low, ..Shed::default() }, left);
    }
}

#[test]
fn expired_frames_go_first_and_all_of_them() {
    let mut outbox = Outbox::new(0);
    for (text, at) in [("a", 999), ("b", 1_000), ("c", 1_001)] {
        let mark = Mark { expires_unix_ms: Some(at), ..mark(1) };
        outbox.push(text.into(), Priority::High, Some(mark.into()));
    }
    outbox.push("low".into(), Priority::Low, Some(mark(1).into()));
    shed(outbox, 5, &Shed { expired: 2, ..Shed::default() }, "clow");
}

#[test]
fn of_each_key_of_a_room_the_newest_stays() {
    let mut outbox = Outbox::new(0);
    let push = |outbox: &mut Outbox, text: &'static str, room, key, class| {
        outbox.push(text.into(), class, Some(Mark { key, ..mark(room) }.into()));
    };
    push(&mut outbox, "a", 1, Some(7), Priority::Normal);
    push(&mut outbox, "b", 1, Some(8), Priority::Normal);
    push(&mut outbox, "c", 2, Some(7), Priority::Normal);
    push(&mut outbox, "d", 1, None, Priority::Normal);
    push(&mut outbox, "e", 1, None, Priority::Normal);
    push(&mut outbox, "f", 1, Some(7), Priority::Low);
    push(&mut outbox, "g", 1, Some(7), Priority::High);
    shed(outbox, 5, &Shed { conflated: 2, ..Shed::default() }, "gbcde");
}

#[test]
fn of_low_class_the_oldest_go_first_and_no_more_than_need_be() {
    let mut outbox = Outbox::new(0);
    outbox.push("reply".into(), Priority::High, None);
    for text in ["one", "two", "three"] {
        outbox.push(text.into(), Priority::Low, Some(mark(1).into()));
        outbox.push(text.into(), Priority::Normal, Some(mark(1).into()));
    }
    shed(outbox, 22, &Shed { low: 2, ..Shed::default() }, "replyonetwothreethree");
}

#[test]
fn the_room_with_most_bytes_is_parked_whole_and_then_the_next() {
    for (goal_bytes, rooms, left) in [
        (20, &[][..], "bbaaaacccReply!"),
        (14, &[(1, 10)][..], "bbcccReply!"),
        (9, &[(1, 10), (3, 30)][..], "bbReply!"),
        (7, &[(1, 10), (3, 30), (2, 20)][..], "Reply!"),
    ] {
        let mut outbox = Outbox::new(0);
        outbox.push("aa".into(), Priority::Normal, kept(1, 10));
        outbox.push("bb".into(), Priority::High, kept(2, 20));
        outbox.push("aa".into(), Priority::Normal, kept(1, 11));
        outbox.push("ccc".into(), Priority::Normal, kept(3, 30));
        outbox.push("Reply!".into(), Priority::Low, None);
        let parked = rooms.iter().map(|it| Parked { room: it.0, covered: position(it.1) });
        shed(outbox, goal_bytes, &Shed { parked: parked.collect(), ..Shed::default() }, left);
    }
}

#[test]
fn in_rooms_that_keep_publications_nothing_goes_but_all() {
    let mut outbox = Outbox::new(0);
    for offset in 0..3 {
        let before = Some(position(offset));
        let mark = Mark { before, expires_unix_ms: Some(1), key: Some(1), ..mark(1) };
        outbox.push("x".into(), Priority::Low, Some(mark.into()));
    }
    let parked = vec![Parked { room: 1, covered: position(0) }];
    shed(outbox, 2, &Shed { parked, ..Shed::default() }, "");
}

#[test]
fn what_is_begun_and_what_waits_in_front_of_a_fence_stays() {
    let mut outbox = Outbox::new(0);
    outbox.push("begun ".into(), Priority::Normal, kept(1, 10));
    outbox.front();
    outbox.written(2, 0);
    outbox.push("settled ".into(), Priority::Normal, kept(1, 11));
    outbox.push(Bytes::new(), Priority::High, None);
    outbox.push("joined ".into(), Priority::High, None);
    outbox.push("gone".into(), Priority::Normal, kept(1, 12));
    let parked = vec![Parked { room: 1, covered: position(12) }];
    shed(outbox, 0, &Shed { parked, ..Shed::default() }, "gun settled joined ");
}

#[test]
fn whatever_is_let_go_bytes_are_counted_and_order_and_rooms_stay_whole() {
    for seed in 0..300_u64 {
        let mut random = Random(seed);
        let mut outbox = Outbox::new(0);
        // What has to leave still, in the order in which it came: number, room, offset, and whether it may go.
        let mut waiting: Vec<(u32, RoomSerial, u64, bool)> = Vec::new();
        let mut heads = [0_u64; 3];
        let mut next = 0_u32;
        for step in 0..300 {
            match random.below(12) {
                0 => {
                    outbox.push(Bytes::new(), Priority::High, None);
                    waiting.iter_mut().for_each(|it| it.3 = false);
                }
                1 => {
                    let begun = outbox
                        .front()
                        .map(|bytes| u32::from_be_bytes(bytes[..4].try_into().unwrap()));
                    waiting.iter_mut().filter(|it| Some(it.0) == begun).for_each(|it| it.3 = false);
                    let goal_bytes = random.below(outbox.bytes() + 10);
                    let before = outbox.bytes();
                    let shed = outbox.shed(goal_bytes, 0);
                    assert!(outbox.bytes() <= before);
                    for parked in shed.parked {
                        let goes = |it: &(u32, RoomSerial, u64, bool)| it.3 && it.1 == parked.room;
                        let first = waiting.iter().find(|it| goes(it)).expect("it had frames");
                        assert_eq!(parked.covered, position(first.2), "seed {seed}");
                        waiting.retain(|it| !goes(it));
                        // Its member goes on from there.
                        heads[parked.room as usize] = parked.covered.offset;
                    }
                    let may_go = waiting.iter().any(|it| it.3);
                    assert!(
                        outbox.bytes() <= goal_bytes || !may_go,
                        "seed {seed}: it could be less"
                    );
                }
                2..=7 => {
                    let room = u32::try_from(random.below(4)).unwrap();
                    next += 1;
                    let frame = [&next.to_be_bytes()[..], &vec![0; random.below(9)]].concat();
                    if let Some(head) = heads.get_mut(room as usize) {
                        let class = Priority::ALL[room as usize];
                        outbox.push(frame.into(), class, kept(room, *head));
                        waiting.push((next, room, *head, true));
                        *head += 1;
                    } else {
                        outbox.push(frame.into(), Priority::Normal, None);
                        waiting.push((next, room, 0, false));
                    }
                }
                _ => {
                    let Some(bytes) = outbox.front() else { continue };
                    let number = u32::from_be_bytes(bytes[..4].try_into().unwrap());
                    let count = bytes.len();
                    outbox.written(count, 0);
                    let at = waiting.iter().position(|it| it.0 == number).expect("not let go");
                    let (_, room, ..) = waiting.remove(at);
                    let overtaken = waiting[..at].iter().any(|it| it.1 == room);
                    assert!(!overtaken, "seed {seed}, step {step}: {number}");
                }
            }
        }
        let mut bytes = outbox.bytes();
        while let Some(front) = outbox.front() {
            let count = front.len();
            outbox.written(count, 0);
            bytes -= count;
            assert!(waiting.pop().is_some(), "seed {seed}");
        }
        assert_eq!((waiting.len(), bytes, outbox.bytes()), (0, 0, 0), "seed {seed}");
    }
}
