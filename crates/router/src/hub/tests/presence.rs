//! Who is present, by scripts: what this node enters, what it keeps of rosters and tells its members of.

use std::collections::VecDeque;
use std::sync::LazyLock;

use roomcast_protocol::codes::Refused;
use roomcast_protocol::command::ReplyTo;
use roomcast_protocol::envelope::BrokerEvent;
use roomcast_protocol::guard::Policy;
use roomcast_protocol::ids::{LaneId, SessionKey};
use roomcast_protocol::presence::{PresenceMode, ROSTER_PAGE_MAX, RosterPage};
use roomcast_protocol::room::RoomName;

use super::{World, check, option, position, shown_at, watch};
use crate::hub::{ROSTER_ASKS_MAX, ROSTER_ASKS_WAITING_MAX};
use crate::messages::{HubMessage, QueryId, Ticket};

pub(super) static CROWD: LazyLock<Policy> =
    LazyLock::new(|| Policy { presence: PresenceMode::Members, presence_max: 10, ..Policy::OPEN });

pub(super) static TALLY: LazyLock<Policy> =
    LazyLock::new(|| Policy { presence: PresenceMode::Count, ..Policy::OPEN });

/// What the broker has yet to answer, oldest first.
#[derive(Default)]
pub(super) struct Book {
    pub(super) rosters: VecDeque<u64>,
}

/// `1 asks crowd [after=ann] [count=2]` by a session of lane 1; `api asks ..` by the shell.
pub(super) fn asks(lane: Option<LaneId>, room: RoomName, line: &str) -> HubMessage {
    let after = option(line, "after").map(Into::into);
    let count_max = option(line, "count").map_or(ROSTER_PAGE_MAX, |it| it.parse().unwrap());
    let session = SessionKey { index: 3, generation: 1 };
    match lane {
        Some(lane) => {
            let reply = ReplyTo::default();
            HubMessage::Roster { lane, session, reply, room, after, count_max }
        }
        None => HubMessage::AskRoster { query: QueryId(9), room, after, count_max },
    }
}

pub(super) fn asked(room: &RoomName, after: Option<&str>, count_max: u32) -> String {
    let after = after.map_or(String::new(), |after| format!(" behind {after}"));
    let limit =
        if count_max == ROSTER_PAGE_MAX { "".into() } else { format!(" limit {count_max}") };
    format!("roster? {room}{after}{limit}")
}

fn page_shown(outcome: &Result<RosterPage, Refused>) -> String {
    match outcome {
        Ok(RosterPage { version, count, users, more }) => {
            let more = if *more { " more" } else { "" };
            let users = if users.is_empty() { "-".into() } else { users.join(",") };
            format!("{count} at {}: {users}{more}", shown_at(*version))
        }
        Err(refused) => {
            let retry = refused.retry_after_ms.map_or(String::new(), |ms| format!(" {ms} ms"));
            format!("{}{retry}", refused.refusal.row().name)
        }
    }
}

pub(super) fn answered(query: QueryId, outcome: &Result<RosterPage, Refused>) -> String {
    format!("answer {} {}", query.0, page_shown(outcome))
}

pub(super) fn told_roster(room: &RoomName, outcome: &Result<RosterPage, Refused>) -> String {
    format!("roster {room} {}", page_shown(outcome))
}

impl World {
    /// `roster 7 ann,bob [e=2] [count=9] [more]` answers the oldest question, `roster none` does not.
    pub(super) fn presence_event(&mut self, line: &str) -> BrokerEvent<Ticket> {
        let words: Vec<_> = line.split(' ').collect();
        let request = self.presence.rosters.pop_front().expect("a roster was asked for");
        let page = words[1].parse().ok().map(|version| {
            let names = words.get(2).filter(|names| !names.contains('=')).unwrap_or(&"");
            let names = names.split(',').filter(|name| !name.is_empty());
            let users: Vec<Box<str>> = names.map(Into::into).collect();
            let count = option(line, "count").map_or(users.len() as u64, |it| it.parse().unwrap());
            let more = words.contains(&"more");
            RosterPage { version: position(line, version), count, users, more }
        });
        BrokerEvent::Roster { request, page }
    }
}

#[test]
fn who_is_in_a_room_without_members_here_is_asked_of_the_broker() {
    check(
        "1 asks crowd after=ann count=2
         api asks crowd
         roster 7 bob,cid count=4 more
         roster 7 ann,bob,cid,dan",
        "roster? crowd behind ann limit 2
         roster? crowd
         1: roster crowd 4 at 7: bob,cid more
         answer 9 4 at 7: ann,bob,cid,dan",
    );
}

#[test]
fn a_session_is_told_only_what_the_rooms_rule_says_and_the_server_everything() {
    check(
        "1 asks tally
         api asks tally
         1 asks crowd
         roster 7 ann,bob
         roster 7 ann,bob
         roster 7 ann,bob count=11 more
         1 asks news
         api asks news",
        "roster? tally
         roster? tally
         roster? crowd
         1: roster tally 2 at 7: -
         answer 9 2 at 7: ann,bob
         1: roster crowd 11 at 7: -
         1: roster news schema
         answer 9 schema",
    );
}

#[test]
fn a_roster_that_the_broker_does_not_tell_may_be_asked_for_again() {
    check("api asks crowd\nroster none", "roster? crowd\nanswer 9 unavailable 1000 ms");
    // Without a broker nobody waits.
    watch("1 asks crowd", "1: roster crowd unavailable 1000 ms\nbeat 1");
}

#[test]
fn questions_beyond_what_may_wait_are_refused() {
    let mut world = World::new(0);
    for _ in 0..ROSTER_ASKS_MAX + ROSTER_ASKS_WAITING_MAX {
        world.step("api asks crowd");
    }
    assert_eq!(world.seen.len(), ROSTER_ASKS_MAX);
    world.step("api asks crowd");
    assert_eq!(world.seen.last().unwrap(), "answer 9 unavailable 1000 ms");
    world.step("roster 1 ann");
    let last: Vec<_> = world.seen.iter().rev().take(2).map(String::as_str).collect();
    assert_eq!(last, ["roster? crowd", "answer 9 1 at 1: ann"]);
}
