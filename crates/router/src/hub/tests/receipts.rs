//! Receipts, by scripts: steps of marks, what members are told, and questions.

use std::collections::VecDeque;
use std::sync::LazyLock;

use roomcast_protocol::codes::Refused;
use roomcast_protocol::command::ReplyTo;
use roomcast_protocol::envelope::{BrokerEvent, Envelope};
use roomcast_protocol::guard::Policy;
use roomcast_protocol::ids::{LaneId, SessionKey};
use roomcast_protocol::position::{Epoch, Position};
use roomcast_protocol::receipts::{
    MARKS_MAX, Mark, MarkChange, Marked, MarksSet, RECEIPTS_PAGE_MAX, RECEIPTS_TOLD_MAX, Receipt,
    ReceiptDiff, ReceiptsPage, SetMarks,
};
use roomcast_protocol::room::RoomName;

use super::{KEPT, World, check, option, position, room, shown_at, watch};
use crate::hub::marks::{ARRIVED_MAX, SAID_MAX};
use crate::hub::receipts::{RECEIPT_ASKS_MAX, RECEIPT_ASKS_WAITING_MAX};
use crate::messages::{HubMessage, LaneMessage, QueryId, ReceiptsAsk, Said, Ticket};

pub(super) static TALK: LazyLock<Policy> =
    LazyLock::new(|| Policy { receipts: true, ..KEPT.clone() });

/// What the broker has yet to answer, oldest first.
#[derive(Default)]
pub(super) struct Book {
    pub(super) sets: VecDeque<(u64, SetMarks)>,
    pub(super) asked: VecDeque<u64>,
}

/// `1 arrives talk ann=5 [e=2]`.
pub(super) fn arrives(room: RoomName, line: &str) -> HubMessage {
    let (user, offset) = line.split(' ').nth(3).unwrap().split_once('=').unwrap();
    let position = position(line, offset.parse().unwrap());
    HubMessage::Arrived { room, user: user.into(), at: position }
}

/// `1 marks talk ann [delivered=6] [read=5] [e=2]` by a session of lane 1.
pub(super) fn marks(lane: LaneId, room: RoomName, line: &str) -> HubMessage {
    let number = |name| option(line, name).map(|it| it.parse().unwrap());
    let said = Said {
        user: line.split(' ').nth(3).unwrap().into(),
        epoch: position(line, 0).epoch,
        delivered: number("delivered"),
        read: number("read"),
    };
    let session = SessionKey { index: 3, generation: 1 };
    HubMessage::Mark { lane, session, reply: ReplyTo::default(), room, said }
}

/// `1 queries talk [of=5] [after=ann] [count=2]` by a session of lane 1; `api queries ..` by the shell.
pub(super) fn queries(lane: Option<LaneId>, room: RoomName, line: &str) -> HubMessage {
    let ask = ReceiptsAsk {
        room,
        of: option(line, "of").map(|it| it.parse().unwrap()),
        after: option(line, "after").map(Into::into),
        count_max: option(line, "count").map_or(RECEIPTS_PAGE_MAX, |it| it.parse().unwrap()),
    };
    let session = SessionKey { index: 3, generation: 1 };
    match lane {
        Some(lane) => HubMessage::Receipts { lane, session, reply: ReplyTo::default(), ask },
        None => HubMessage::AskReceipts { query: QueryId(9), ask },
    }
}

pub(super) fn set_shown(set: &SetMarks) -> String {
    let SetMarks { room, epoch, changes } = set;
    let one = |it: &MarkChange| {
        let mark = if it.mark == Mark::Read { '!' } else { '+' };
        format!(" {}{mark}{}", it.user, it.offset)
    };
    let epoch = if epoch.0 == 1 { String::new() } else { format!(" e={}", { epoch.0 }) };
    if changes.len() > 9 {
        return format!("marks {room}{epoch} {} changes", changes.len());
    }
    format!("marks {room}{epoch}{}", changes.iter().map(one).collect::<String>())
}

pub(super) fn asked(ask: (&RoomName, Option<u64>, Option<&str>, u32)) -> String {
    let (room, of, after, count_max) = ask;
    let of = of.map_or(String::new(), |of| format!(" of {of}"));
    let after = after.map_or(String::new(), |after| format!(" behind {after}"));
    let limit = if count_max == RECEIPTS_PAGE_MAX { 0 } else { count_max };
    format!("receipts? {room}{of}{after} limit {limit}")
}

fn shown(receipt: &Receipt) -> String {
    let one = |mark, marked: Option<Marked>| {
        marked.map_or(String::new(), |it| format!("{mark}{}@{}", it.offset, it.at_unix_ms))
    };
    format!(" {}{}{}", receipt.user, one('+', receipt.delivered), one('!', receipt.read))
}

fn refusal(refused: &Refused) -> String {
    let name = if refused.unknown { "unknown" } else { refused.refusal.row().name };
    let retry = refused.retry_after_ms.map_or(String::new(), |ms| format!(" {ms} ms"));
    format!(" {name}{retry}")
}

fn page_shown(outcome: &Result<ReceiptsPage, Refused>) -> String {
    match outcome {
        Ok(page) => {
            let at = shown_at(page.head);
            format!(
                " {} at {at}{}",
                page.version,
                page.receipts.iter().map(shown).collect::<String>()
            )
        }
        Err(refused) => refusal(refused),
    }
}

pub(super) fn told(message: &LaneMessage) -> String {
    if let LaneMessage::Marked { room, outcome, .. } = message {
        let shown = outcome.as_ref().map_or_else(refusal, |(_, receipt)| shown(receipt));
        return format!("marked {room}{shown}");
    }
    if let LaneMessage::Receipts(diff) = message {
        let ReceiptDiff { room, version, receipts, .. } = &**diff;
        if receipts.len() > 9 {
            return format!("rose {room} {version} {} users", receipts.len());
        }
        return format!("rose {room} {version}{}", receipts.iter().map(shown).collect::<String>());
    }
    let LaneMessage::ReceiptsPage { room, outcome, .. } = message else {
        panic!("{message:?} is nothing of receipts");
    };
    format!("receipts {room}{}", page_shown(outcome))
}

pub(super) fn answered(query: QueryId, outcome: &Result<ReceiptsPage, Refused>) -> String {
    format!("answer {}{}", query.0, page_shown(outcome))
}

impl World {
    /// `set 9` answers the oldest step, in a room whose head is 9: what is marked was so first at its offset's time.
    /// `set none`, `set full`, `set epoch=2` do not do it. `receipts 9` answers the oldest question, `receipts none` does
    /// not. `rose talk 3 ann=5` comes by the feed.
    pub(super) fn receipts_event(&mut self, line: &str) -> BrokerEvent<Ticket> {
        let words: Vec<_> = line.split(' ').collect();
        let marked = |offset| Marked { offset, at_unix_ms: 1_000 + offset };
        if words[0] == "rose" {
            let rises = words[3..].iter().filter_map(|word| word.split_once('='));
            let rises = rises.filter(|(name, _)| *name != "e").map(|(user, offset)| Receipt {
                user: user.into(),
                delivered: Some(marked(offset.parse().unwrap())),
                read: None,
            });
            let diff = ReceiptDiff {
                room: room(words[1]),
                epoch: position(line, 0).epoch,
                version: words[2].parse().unwrap(),
                receipts: rises.collect(),
            };
            return BrokerEvent::Envelope(Envelope::Receipts(diff.into()));
        }
        let head = words[1].parse().ok().map(|offset| position(line, offset));
        if words[0] == "receipts" {
            let request = self.receipts.asked.pop_front().expect("somebody asked");
            let receipt = |head: Position| Receipt {
                user: "bob".into(),
                delivered: Some(marked(head.offset)),
                read: Some(marked(head.offset - 1)),
            };
            let page = head.map(|head| {
                let receipts = vec![receipt(head)];
                ReceiptsPage { head, version: 7, receipts, next: None }
            });
            return BrokerEvent::Receipts { request, page };
        }
        let (request, set) = self.receipts.sets.pop_front().expect("something was marked");
        let outcome = match (words[1], head) {
            ("full", _) => Some(MarksSet::Full),
            (_, Some(head)) => {
                let own = |it: &MarkChange| marked(it.offset.min(head.offset));
                Some(MarksSet::Done { head, marked: set.changes.iter().map(own).collect() })
            }
            ("none", _) => None,
            (word, _) => {
                let epoch = word.strip_prefix("epoch=").unwrap().parse().unwrap();
                Some(MarksSet::Epoch(Position { epoch: Epoch(epoch), offset: 9 }))
            }
        };
        BrokerEvent::MarksSet { request, outcome }
    }

    fn receipts_are_idle(&self) -> bool {
        self.hub.receipts.are_idle()
    }
}

#[test]
fn what_arrives_is_marked_once_a_second_for_all_users() {
    check(
        "1 arrives talk ann=5
         1 arrives talk bob=4
         2 arrives talk bob=6
         set 9
         1 arrives talk ann=4
         at 999
         at 1000
         set 9
         at 2000",
        "marks talk ann+5
         marks talk ann+4 bob+6",
    );
}

#[test]
fn what_a_user_says_goes_at_once_with_what_waits_and_is_answered() {
    check(
        "1 arrives talk ann=5
         set 9
         1 arrives talk ann=7
         at 300
         2 marks talk bob read=6 delivered=8
         set 9
         2 marks talk bob read=20
         at 549
         at 550
         set 9",
        "marks talk ann+5
         marks talk ann+7 bob+8 bob!6
         2: marked talk bob+8@1008!6@1006
         marks talk bob!20
         2: marked talk bob!9@1009",
    );
}

#[test]
fn two_marks_of_a_user_at_once_are_answered_each_for_its_own() {
    check(
        "1 marks talk ann read=6
         2 marks talk ann read=8
         1 marks talk ann read=6
         1 arrives talk ann=9
         set 9
         at 250
         set 9
         at 1250
         set 9",
        "marks talk ann!6
         1: marked talk ann!6@1006
         marks talk ann+9 ann!8
         2: marked talk ann!8@1008
         marks talk ann!6
         1: marked talk ann!6@1006",
    );
}

#[test]
fn more_that_has_arrived_than_was_said_follows() {
    check(
        "1 marks talk ann read=1
         1 marks talk ann delivered=6
         1 arrives talk ann=8
         set 9
         at 250
         set 9
         at 1250
         set 9",
        "marks talk ann!1
         1: marked talk ann!1@1001
         marks talk ann+6
         1: marked talk ann+6@1006
         marks talk ann+8",
    );
}

#[test]
fn a_step_that_is_not_answered_is_made_again_with_what_came_meanwhile() {
    check(
        "1 arrives talk ann=5
         set none
         1 arrives talk bob=6
         1 arrives talk ann=7
         2 marks talk cid read=3
         at 499
         at 500
         set 9",
        "marks talk ann+5
         marks talk ann+7 bob+6 cid!3
         2: marked talk cid!3@1003",
    );
}

#[test]
fn who_waits_for_too_long_is_told_that_nobody_knows() {
    check(
        "1 marks talk ann read=5
         at 4400
         set none
         at 4900
         at 5000
         set none
         at 9000",
        "marks talk ann!5
         marks talk ann!5
         1: marked talk unknown 1000 ms",
    );
}

#[test]
fn marks_by_a_former_epoch_are_refused_and_those_by_arriving_forgotten() {
    check(
        "1 arrives talk ann=5
         set epoch=2
         1 arrives talk ann=6 e=2
         at 1000
         set 9 e=2
         2 marks talk bob read=5
         at 1250
         set epoch=2
         2 marks talk bob read=5 e=2
         at 1500
         set 9 e=2",
        "marks talk ann+5
         marks talk e=2 ann+6
         marks talk bob!5
         2: marked talk schema
         marks talk e=2 bob!5
         2: marked talk bob!5@1005",
    );
}

#[test]
fn one_user_for_whom_there_is_no_place_does_not_stop_the_others() {
    check(
        "1 arrives talk dan=1
         set 9
         1 arrives talk ann=5
         1 arrives talk bob=6
         1 marks talk cid read=3
         at 250
         set full
         set full
         at 1250
         set 9
         at 2250
         set full
         at 9000",
        "marks talk dan+1
         marks talk ann+5 bob+6 cid!3
         marks talk cid!3
         1: marked talk limit
         marks talk ann+5
         marks talk bob+6",
    );
}

#[test]
fn a_step_holds_so_many_marks_and_the_rest_follows_at_once() {
    for (count, steps) in [(MARKS_MAX, 1), (MARKS_MAX + 1, 2)] {
        let mut world = World::new(0);
        world.step("1 arrives talk ann=1");
        for user in 0..count {
            world.step(&format!("1 arrives talk u{user:03}=1"));
        }
        world.step("set 9");
        world.seen.clear();
        world.step("at 1000");
        world.step("set 9");
        assert_eq!(world.seen.len(), steps, "{:?}", world.seen);
        assert_eq!(world.seen[0], format!("marks talk {MARKS_MAX} changes"));
    }
}

#[test]
fn nothing_is_kept_of_a_room_that_has_rested() {
    let mut world = World::new(0);
    for line in ["1 arrives talk ann=5", "1 marks talk ann read=5", "set 9", "at 1000", "set 9"] {
        world.step(line);
    }
    world.step("at 6000");
    assert!(world.receipts_are_idle(), "{:?}", world.hub.receipts);
}

#[test]
fn a_room_that_keeps_nothing_has_no_receipts() {
    check(
        "1 arrives news ann=5
         1 marks news ann read=5
         1 queries news
         1 queries kept",
        "1: marked news schema
         1: receipts news schema
         1: receipts kept schema",
    );
}

#[test]
fn marks_by_arriving_wait_for_a_broker_that_is_away_and_others_are_refused() {
    watch(
        "auto over=1
         up 1
         at 1000
         auto away
         at 5000
         1 arrives talk ann=5
         1 marks talk ann read=5
         1 queries talk
         at 7000
         auto over=1
         at 9000
         set 9",
        "whole at 0
         0: degraded true
         1: degraded true
         2: degraded true
         isolated at 3000
         1: marked talk unavailable 1000 ms
         1: receipts talk unavailable 1000 ms
         0: degraded false
         1: degraded false
         2: degraded false
         marks talk ann+5
         whole at 7250",
    );
}

#[test]
fn as_many_marks_wait_as_there_are_places() {
    let mut world = World::new(0);
    world.step("1 marks talk u read=1");
    for user in 1..SAID_MAX {
        world.step(&format!("1 marks talk u{user} read=1"));
    }
    assert_eq!(world.seen.len(), 1, "the first step is under way");
    world.step("1 marks talk over read=1");
    assert_eq!(world.seen[1..], ["1: marked talk unavailable 1000 ms"]);
    let mut world = World::new(0);
    for user in 0..=ARRIVED_MAX {
        world.step(&format!("1 arrives talk u{user}=1"));
        assert_eq!(world.hub.counters().marks_dropped, u64::from(user == ARRIVED_MAX));
    }
}

#[test]
fn members_are_told_the_newest_of_each_user_in_a_while() {
    check(
        "rose talk 1 ann=1
         1 joins talk
         2 joins talk
         rose talk 2 ann=4
         rose talk 3 ann=5 bob=4
         at 249
         at 250
         rose talk 4 ann=6
         2 leaves talk
         at 500",
        "subscribe talk
         1: rose talk 3 ann+5@1005 bob+4@1004
         2: rose talk 3 ann+5@1005 bob+4@1004
         1: rose talk 4 ann+6@1006",
    );
}

#[test]
fn receipts_of_many_users_are_told_in_parts() {
    let mut world = World::new(0);
    world.step("1 joins talk");
    let users: Vec<_> = (0..=RECEIPTS_TOLD_MAX).map(|user| format!("u{user:03}=1")).collect();
    world.step(&format!("rose talk 2 {}", users.join(" ")));
    world.seen.clear();
    world.step("at 250");
    assert_eq!(world.seen, ["1: rose talk 2 256 users", "1: rose talk 2 u256+1@1001"]);
}

#[test]
fn a_question_goes_to_the_broker_and_its_answer_to_whoever_asked() {
    check(
        "1 queries talk of=5 after=ann count=2
         api queries talk
         receipts 9
         receipts none",
        "receipts? talk of 5 behind ann limit 2
         receipts? talk limit 0
         1: receipts talk 7 at 9 bob+9@1009!8@1008
         answer 9 unavailable 1000 ms",
    );
}

#[test]
fn as_many_questions_are_asked_and_wait_as_there_are_places() {
    let mut world = World::new(0);
    for _ in 0..RECEIPT_ASKS_MAX + RECEIPT_ASKS_WAITING_MAX {
        world.step("1 queries talk");
    }
    assert_eq!(world.seen.len(), RECEIPT_ASKS_MAX);
    world.step("1 queries talk");
    assert_eq!(world.seen[RECEIPT_ASKS_MAX..], ["1: receipts talk unavailable 1000 ms"]);
    for _ in 0..RECEIPT_ASKS_MAX + RECEIPT_ASKS_WAITING_MAX {
        world.step("receipts 9");
    }
    assert!(world.receipts_are_idle());
}
