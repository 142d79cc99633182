//! Inboxes, by scripts: questions of lanes what was acked, and cursors that move.

use std::collections::VecDeque;
use std::sync::LazyLock;

use roomcast_protocol::envelope::BrokerEvent;
use roomcast_protocol::guard::Policy;
use roomcast_protocol::ids::{LaneId, SessionKey};
use roomcast_protocol::inbox::{Acked, CursorName, CursorOf, InboxState, Told};
use roomcast_protocol::position::{Head, Keep};
use roomcast_protocol::room::RoomName;

use super::{KEPT, World, check, option, position, run, watch};
use crate::hub::{CURSORS_WAITING_MAX, INBOX_ASKS_MAX, INBOX_ASKS_WAITING_MAX};
use crate::messages::{HubMessage, Ticket};

pub(super) static BOX: LazyLock<Policy> = LazyLock::new(|| Policy {
    history: KEPT.history.map(|keep| Keep { inbox: Some(CursorOf::User), ..keep }),
    cursor: Some(CursorOf::User),
    ..Policy::OPEN
});

/// What the broker has yet to answer, oldest first.
#[derive(Default)]
pub(super) struct Book {
    pub(super) asked: VecDeque<u64>,
}

fn cursor(room: RoomName, line: &str) -> CursorName {
    CursorName { room, device: option(line, "device").unwrap_or("").into() }
}

/// `1 opens box [device=phone]` by a session of lane 1.
pub(super) fn opens(lane: LaneId, room: RoomName, line: &str) -> HubMessage {
    let session = SessionKey { index: 3, generation: 1 };
    HubMessage::Inbox { lane, session, cursor: cursor(room, line) }
}

/// `1 acks box to=5 [above=7,9] [told=2] [by=1] [e=2]`.
pub(super) fn acks(room: RoomName, line: &str) -> HubMessage {
    let number = |name| option(line, name).map_or(0, |it| it.parse().unwrap());
    let above = option(line, "above")
        .map_or(Vec::new(), |it| it.split(',').map(|it| it.parse().unwrap()).collect());
    let acked = Acked { watermark: position(line, number("to")), above };
    let told = Told { cursor: number("by"), count: number("told") };
    HubMessage::Ack { cursor: cursor(room, line), acked, told }
}

pub(super) fn named(cursor: &CursorName) -> String {
    let device = if cursor.device.is_empty() { "" } else { " of " };
    format!("{}{device}{}", cursor.room, cursor.device)
}

pub(super) fn moved(cursor: &CursorName, acked: &Acked, told: Told) -> String {
    let Acked { watermark, above } = acked;
    let at = super::shown_at(*watermark);
    format!("move {} to {at} {above:?} told {}", named(cursor), told.count)
}

pub(super) fn told(cursor: &CursorName, state: Option<&InboxState>) -> String {
    let state = state.map_or("unknown".into(), |state| {
        format!("at {} of {}", state.acked.watermark.offset, state.head.position.offset)
    });
    format!("{} {state}", named(cursor))
}

impl World {
    /// `inbox 5` answers the oldest question: acked up to 5 of 9; `inbox none` does not.
    pub(super) fn inbox(&mut self, line: &str) -> BrokerEvent<Ticket> {
        let request = self.inboxes.asked.pop_front().expect("an inbox was asked for");
        let offset = line.split(' ').nth(1).and_then(|it| it.parse().ok());
        let state = offset.map(|offset| InboxState {
            acked: Acked { watermark: position("", offset), above: Vec::new() },
            head: Head { position: position("", 9), first: 1 },
            lost: 0,
            told: Told::default(),
        });
        BrokerEvent::Inbox { request, state }
    }
}

#[test]
fn a_question_goes_to_the_broker_and_its_answer_to_the_lane() {
    check(
        "1 opens box
         2 opens box device=phone
         inbox 5
         inbox 7
         at 100000",
        "inbox? box
         inbox? box of phone
         1: box at 5 of 9
         2: box of phone at 7 of 9",
    );
}

#[test]
fn a_room_that_is_no_inbox_has_no_cursor() {
    check(
        "1 opens kept
         1 opens news
         1 acks kept to=5",
        "1: kept unknown
         1: news unknown",
    );
}

#[test]
fn a_question_that_is_not_answered_is_asked_again_until_it_is_too_late() {
    check(
        "1 opens box
         inbox none
         1 opens box device=phone
         at 499
         at 500
         inbox none
         inbox 5
         at 4800
         inbox none
         at 5000",
        "inbox? box
         inbox? box
         inbox? box of phone
         1: box of phone at 5 of 9
         inbox? box
         1: box unknown",
    );
}

#[test]
fn questions_wait_while_the_broker_is_away_and_end_in_time() {
    let script = "auto over=1
         up 1
         auto away
         down
         1 opens box
         at 4000
         1 opens box device=phone
         at 5000
         auto over=1
         up 1
         at 5001
         inbox 5";
    let mut world = World::watched();
    script.lines().for_each(|line| world.step(line.trim()));
    let seen: Vec<_> = world.seen.iter().filter(|text| text.contains("box")).collect();
    assert_eq!(seen, ["1: box unknown", "inbox? box of phone", "1: box of phone at 5 of 9"]);
    assert!(world.hub.inboxes.are_idle());
}

#[test]
fn a_cursor_that_moves_is_told_to_the_broker_at_once() {
    check(
        "1 acks box to=5 above=7,9 told=2
         2 acks box to=6 device=phone",
        "move box to 5 [7, 9] told 2
         move box of phone to 6 [] told 0",
    );
}

#[test]
fn cursors_that_move_while_the_broker_is_away_are_told_of_when_it_is_back() {
    watch(
        "auto over=1
         up 1
         down
         1 acks box to=5 above=9 told=2
         2 acks box to=7 above=8,11 told=1
         1 acks box to=3 device=phone
         up 1",
        "whole at 0
         cut at 0
         move box to 9 [11] told 2
         move box of phone to 3 [] told 0
         whole at 0",
    );
}

#[test]
fn questions_under_way_and_waiting_have_bounds() {
    let mut world = World::new(0);
    let mut script = String::new();
    for _ in 0..INBOX_ASKS_MAX + INBOX_ASKS_WAITING_MAX {
        script.push_str("1 opens box\n");
    }
    let expected = "inbox? box\n".repeat(INBOX_ASKS_MAX);
    script.lines().for_each(|line| world.step(line));
    assert_eq!(world.seen.join("\n") + "\n", expected);
    world.seen.clear();
    run(world, "1 opens box\ninbox 5", "1: box unknown\n1: box at 5 of 9\ninbox? box");
}

#[test]
fn cursors_that_wait_have_a_bound() {
    for more in [0, 1] {
        let mut world = World::watched();
        ["auto over=1", "up 1", "down"].into_iter().for_each(|line| world.step(line));
        for number in 0..CURSORS_WAITING_MAX + more {
            world.step(&format!("1 acks box to=5 device=d{number}"));
        }
        world.step("1 acks box to=6 device=d0");
        world.seen.clear();
        world.step("up 1");
        let moves = world.seen.iter().filter(|text| text.starts_with("move box")).count();
        assert_eq!(moves, CURSORS_WAITING_MAX);
        assert_eq!(world.seen[0], "move box of d0 to 6 [] told 0");
        assert_eq!(world.hub.counters().cursors_dropped, more as u64);
    }
}
