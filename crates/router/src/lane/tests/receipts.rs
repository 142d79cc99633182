//! Receipts (G17): what the hub is told of users, and what members are told of each other.

use roomcast_protocol::codes::{Refusal, Refused};
use roomcast_protocol::command::{Command, MarkRequest, ReceiptsRequest, ReplyTo};
use roomcast_protocol::position::Epoch;
use roomcast_protocol::receipts::{Marked, Receipt, ReceiptDiff, ReceiptsPage};

use super::frames::{place, position};
use super::{World, check, number_of, options, room, walk};
use crate::lane::acking::ACKED_MEMBERS_MAX;
use crate::messages::{HubMessage, LaneMessage, ReceiptsAsk, Said};

const fn marked(offset: u64) -> Marked {
    Marked { offset, at_unix_ms: 1_000 + offset }
}

/// `marks talk [delivered=6] [read=e2.5] [#id]`, `queries talk [of=5] [after=ann] [limit=2] [#id]`
pub(super) fn command(verb: &str, rest: &str) -> Command {
    let name = rest.split(' ').next().unwrap();
    let option = |name| options(rest).find(|(held, _)| *held == name).map(|(_, value)| value);
    let id = rest.split(' ').find_map(|word| word.strip_prefix('#')).map(Into::into);
    let reply = ReplyTo { id, room: Some(name.into()), part: false };
    if verb == "queries" {
        return Command::Receipts(ReceiptsRequest {
            reply,
            room: name.into(),
            of: option("of").map(|of| of.parse().unwrap()),
            after: option("after").map(Into::into),
            limit: option("limit").map(|limit| limit.parse().unwrap()),
        });
    }
    let [delivered, read] = ["delivered", "read"].map(|name| option(name).map(position));
    Command::Mark(MarkRequest {
        reply,
        room: name.into(),
        epoch: read.or(delivered).unwrap().epoch,
        delivered: delivered.map(|it| it.offset),
        read: read.map(|it| it.offset),
    })
}

/// What a lane tells the hub.
pub(super) fn hub_hears(message: &HubMessage) -> String {
    if let HubMessage::Arrived { room, user, at } = message {
        return format!("hub {room} {user}+{}", place(*at));
    }
    if let HubMessage::Mark { room, said, .. } = message {
        let Said { user, epoch, delivered, read } = said;
        let one = |mark, offset: Option<u64>| {
            offset.map_or(String::new(), |offset| format!("{mark}{offset}"))
        };
        let epoch = if *epoch == Epoch(1) { String::new() } else { format!(" e{}", { epoch.0 }) };
        return format!(
            "hub {room} {user} says {}{}{epoch}",
            one('+', *delivered),
            one('!', *read)
        );
    }
    let HubMessage::Receipts { ask, .. } = message else {
        panic!("{message:?} is nothing of receipts");
    };
    let ReceiptsAsk { room, of, after, count_max } = ask;
    format!("hub receipts {room} {of:?} {after:?} limit {count_max}")
}

/// `ann+6@1006!5@1005`, with its epoch unless it is the first.
pub(super) fn shown(epoch: Epoch, receipt: &Receipt) -> String {
    let epoch = if epoch == Epoch(1) { String::new() } else { format!(" e{}", { epoch.0 }) };
    format!(" {}{epoch}", one(receipt))
}

fn one(receipt: &Receipt) -> String {
    let one = |mark, marked: Option<Marked>| {
        marked.map_or(String::new(), |it| format!("{mark}{}@{}", it.offset, it.at_unix_ms))
    };
    format!("{}{}{}", receipt.user, one('+', receipt.delivered), one('!', receipt.read))
}

pub(super) fn rose(diff: &ReceiptDiff) -> String {
    let users: Vec<_> = diff.receipts.iter().map(one).collect();
    format!("{} {}", diff.version, users.join(" "))
}

pub(super) fn page_shown(page: &ReceiptsPage) -> String {
    let users: Vec<_> = page.receipts.iter().map(one).collect();
    let next = page.next.as_ref().map_or(String::new(), |next| format!(" next {next}"));
    format!("{} at {} {}{next}", page.version, place(page.head), users.join(" "))
}

impl World {
    /// `hub marked 1 talk read=5` answers session 1, `hub marked 1 talk refused` refuses; `hub rose talk 3 ann=5` tells;
    /// `hub receipts 1 talk 9 ann=5 [next=ann]` answers a question, or `.. none`.
    pub(super) fn hub_tells_receipts(&self, verb: &str, rest: &str) -> LaneMessage {
        let words: Vec<_> = rest.split(' ').collect();
        let receipts = |from: usize| -> Vec<Receipt> {
            let users = words[from..].iter().filter_map(|word| word.split_once('='));
            let users = users.filter(|(name, _)| *name != "next").map(|(user, offset)| Receipt {
                user: user.into(),
                delivered: Some(marked(offset.parse().unwrap())),
                read: None,
            });
            users.collect()
        };
        if verb == "rose" {
            let (room, version) = (room(words[0]), words[1].parse().unwrap());
            let (epoch, receipts) = (Epoch(1), receipts(2));
            return LaneMessage::Receipts(ReceiptDiff { room, epoch, version, receipts }.into());
        }
        let session = self.keys[&words[0].parse().unwrap()];
        assert_eq!(number_of(&self.keys, session).to_string(), words[0]);
        let (reply, room) = (ReplyTo::default(), room(words[1]));
        if verb == "marked" {
            let read = options(rest).find(|it| it.0 == "read").map(|it| it.1.parse().unwrap());
            let read = read.map(marked);
            let receipt = read.map(|_| Receipt { user: "ann".into(), delivered: None, read });
            let outcome = receipt.map(|receipt| (Epoch(1), Box::new(receipt)));
            let outcome = outcome.ok_or(Refused::new(Refusal::Unavailable));
            return LaneMessage::Marked { session, reply, room, outcome };
        }
        let page = (words[2] != "none").then(|| ReceiptsPage {
            head: position(words[2]),
            version: 7,
            receipts: receipts(3),
            next: options(rest).find(|it| it.0 == "next").map(|it| it.1.into()),
        });
        let outcome = page.ok_or(Refused::new(Refusal::Unavailable));
        LaneMessage::ReceiptsPage { session, reply, room, outcome }
    }
}

/// Session 1, of ann, can be resumed and is in `talk` and `duty`, which keep nothing yet.
#[track_caller]
fn talks(script: &str, expected: &str) {
    let mut world = World::new("");
    for line in ["1 opens lasting as ann knowing", "1 joins talk", "1 joins duty"] {
        world.step(line);
    }
    world.seen.clear();
    for line in script.lines().map(str::trim).filter(|it| !it.is_empty()) {
        world.step(line);
        world.walk();
    }
    // Records have tests of their own.
    world.seen.retain(|line| !line.starts_with("hub save"));
    let expected: Vec<_> = expected.lines().map(str::trim).filter(|it| !it.is_empty()).collect();
    assert_eq!(world.seen, expected, "\nseen:\n{}\n", world.seen.join("\n"));
}

#[test]
fn an_answered_ping_marks_what_was_given_before_it() {
    talks(
        "hub talk a pos=1
         hub talk b pos=2
         serve
         wait 20000
         1 heard
         wait 5250
         hub talk c pos=3
         serve
         1 pongs
         1 pongs
         wait 2000",
        "1: talk a @1 + talk b @2
         1: ping 1
         1: talk c @3
         hub talk ann+2",
    );
}

#[test]
fn a_ping_is_sent_for_it_a_second_later_unless_one_was_lately() {
    talks(
        "wait 25000
         1 pongs
         wait 24000
         1 heard
         wait 2000
         hub talk a pos=1
         serve
         wait 1250
         1 pongs
         hub talk b pos=2
         serve
         wait 20000
         1 heard
         wait 6000
         1 pongs",
        "1: ping 1
         1: talk a @1
         1: ping 2
         hub talk ann+1
         1: talk b @2
         1: ping 3
         hub talk ann+2",
    );
}

#[test]
fn who_enters_has_got_nothing_yet() {
    talks(
        "wait 25000
         1 pongs
         1 joins talk
         wait 25000
         1 pongs",
        "1: ping 1
         1: joined talk at 0
         1: ping 2",
    );
}

#[test]
fn acks_mark_all_in_front_of_them_that_waits_for_none() {
    talks(
        "hub duty a id=a pos=1
         hub duty b id=b pos=2
         hub duty c id=c pos=3
         serve
         1 acks b
         1 acks a
         1 acks c",
        "1: duty a @1 + duty b @2 + duty c @3
         hub duty ann+1
         hub duty ann+3",
    );
}

#[test]
fn what_waits_for_its_ack_is_not_delivered_by_a_ping() {
    talks(
        "hub duty a id=a pos=1
         hub duty b id=b pos=2
         hub duty c id=c pos=3
         serve
         1 acks a
         wait 1250
         1 pongs
         1 acks c
         1 acks b",
        "1: duty a @1 + duty b @2 + duty c @3
         hub duty ann+1
         1: ping 1
         hub duty ann+1
         hub duty ann+3",
    );
}

#[test]
fn a_room_without_receipts_is_not_marked_and_says_so() {
    check(
        "manual
         1 opens as ann
         1 joins mute
         hub joined mute at 9
         hub mute a pos=10
         serve
         wait 2000
         1 marks mute read=10 #m
         1 queries mute #q
         hub rose mute 3 bob=5",
        "1: welcome ann 1
         1 ready
         hub join mute
         1: joined mute at 9
         1: mute a @10
         1: refused mute #m: This room keeps no receipts: its rule needs `receipts = true`
         1: refused mute #q: This room keeps no receipts: its rule needs `receipts = true`",
    );
}

#[test]
fn who_is_in_the_room_says_what_is_read_and_is_answered() {
    talks(
        "1 marks talk read=9 delivered=9 #m
         1 marks talk read=e2.5
         hub marked 1 talk read=9
         hub marked 1 talk refused",
        "hub talk ann says +9!9
         hub talk ann says !5 e2
         1: marked talk ann!9@1009
         1: refused: Not possible at the moment",
    );
}

#[test]
fn only_who_is_in_the_room_marks_it() {
    check(
        "manual
         1 opens as ann
         1 marks talk read=9 #m
         1 marks secret read=9",
        "1: welcome ann 1
         1 ready
         1: refused talk #m: Only who is in the room marks it: subscribe first
         1: refused secret: Permission denied",
    );
}

#[test]
fn whoever_may_read_the_room_asks_how_far_its_users_are() {
    check(
        "manual
         1 opens as ann
         1 queries talk of=5 after=ann limit=2 #q
         1 queries talk
         1 queries secret
         hub receipts 1 talk 9 ann=5 next=bob
         hub receipts 1 talk none",
        "1: welcome ann 1
         1 ready
         hub receipts talk Some(5) Some(\"ann\") limit 2
         hub receipts talk None None limit 1000
         1: refused secret: Permission denied
         1: receipts talk 7 at 9 ann+5@1005 next bob
         1: refused: Not possible at the moment",
    );
}

#[test]
fn members_are_told_behind_what_waits_and_who_catches_up_at_once() {
    check(
        "manual
         1 opens as ann
         2 opens as bob msgpack
         1 joins talk
         2 joins talk since=5
         hub joined talk at 9
         hub talk a pos=10
         hub rose talk 3 cid=10
         serve
         counted receipts-told",
        "1: welcome ann 1
         1 ready
         2: m welcome bob 2
         2 ready
         hub join talk
         1: joined talk at 9
         hub read 1 talk above 5
         2: m rose talk 3 cid+10@1010
         1: talk a @10
         1: rose talk 3 cid+10@1010
         1 receipts-told",
    );
}

#[test]
fn marks_of_a_user_count_against_its_controls() {
    check(
        "limits controls=1
         manual
         1 opens as ann
         1 joins talk
         hub joined talk at 9
         1 marks talk read=9
         1 marks talk read=9 #m",
        "1: welcome ann 1
         1 ready
         hub join talk
         1: joined talk at 9
         hub talk ann says !9
         1: refused talk #m: The limit controls_per_minute is 1 wait 65000",
    );
}

#[test]
fn back_ends_that_listen_have_got_nothing_by_themselves() {
    let mut world = World::new("");
    for line in [
        "1 opens lasting as app! knowing",
        "1 joins talk",
        "hub talk a pos=1",
        "serve",
        "wait 25250",
        "1 pongs",
    ] {
        world.step(line);
    }
    assert!(world.seen.iter().any(|line| line == "1: ping 1"));
    assert!(!world.seen.iter().any(|line| line.starts_with("hub talk")), "{:?}", world.seen);
}

#[test]
fn what_was_missed_of_a_room_that_is_quiet_since_counts_once_a_ping_proves_it() {
    let mut world = World::new("");
    for line in [
        "manual",
        "1 opens lasting as ann knowing",
        "hub joined user-ann",
        "hub joined session-1",
        "hub saved 1",
        "1 joins talk since=6",
        "hub joined talk at 9",
        "hub page 1 in=talk head=9 whole 7:a 8:b 9:c",
        "hub saved 1",
        "wait 25250",
        "1 pongs",
    ] {
        world.step(line);
    }
    assert!(world.seen.iter().any(|line| line == "hub talk ann+9"), "{:?}", world.seen);
}

#[test]
fn what_a_client_says_to_have_covered_beyond_its_record_has_arrived() {
    for (covered, expected) in [("12", true), ("10", false), ("e2.12", false)] {
        let mut world = World::new("");
        world.step("manual");
        world.step(&format!("2 opens stock as ann resume=1.5 covered=talk@{covered}"));
        world.step("hub attached 2 as=1 gen=3 rooms=talk@10");
        let marked = world.seen.iter().any(|line| line == "hub talk ann+12");
        assert_eq!(marked, expected, "{:?}", world.seen);
    }
}

#[test]
fn rooms_with_too_many_members_are_not_marked_and_not_told() {
    for more in [0, 1] {
        let mut world = World::new("limits connections=9999");
        world.step("1 opens lasting as ann knowing");
        world.step("1 joins talk");
        for number in 2..=ACKED_MEMBERS_MAX + more {
            world.step(&format!("{number} opens as u{number}"));
            world.step(&format!("{number} joins talk"));
        }
        walk(&world.lane);
        world.step("hub talk a pos=1");
        world.step("serve");
        world.seen.clear();
        world.step("hub rose talk 3 bob=5");
        world.step("serve");
        let told = world.seen.iter().filter(|line| line.contains("rose")).count();
        assert_eq!(told, if more == 0 { ACKED_MEMBERS_MAX } else { 0 });
        world.step("wait 25250");
        world.seen.clear();
        world.step("1 pongs");
        assert_eq!(world.seen.iter().any(|line| line == "hub talk ann+1"), more == 0);
    }
}
