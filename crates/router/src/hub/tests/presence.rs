//! Who is present, by scripts: what this node enters, what it keeps of rosters and tells its members of.

use std::collections::VecDeque;
use std::sync::LazyLock;

use roomcast_protocol::codes::Refused;
use roomcast_protocol::command::ReplyTo;
use roomcast_protocol::envelope::{BrokerEvent, Envelope};
use roomcast_protocol::guard::Policy;
use roomcast_protocol::ids::{LaneId, NodeId, SessionId, SessionKey};
use roomcast_protocol::presence::{
    AGENTS, Lease, PRESENCE_CHANGES_MAX, PresenceChange, PresenceDiff, PresenceMode, PresenceSet,
    ROSTER_PAGE_MAX, RosterPage, SetPresence,
};
use roomcast_protocol::room::RoomName;

use super::{World, check, option, position, room, shown_at, watch};
use crate::hub::roster_asks::{ROSTER_ASKS_HELD_MAX, ROSTER_HOLD_MS};
use crate::hub::{
    NOTICES_MAX, NOTICES_UNDER_WAY_MAX, ROSTER_ASKS_MAX, ROSTER_ASKS_WAITING_MAX,
    ROSTER_COMPARE_MS, ROSTER_DIFFS_MAX, ROSTER_READS_MAX, STEPS_MAX,
};
use crate::messages::{HubMessage, QueryId, Ticket};

pub(super) static CROWD: LazyLock<Policy> =
    LazyLock::new(|| Policy { presence: PresenceMode::Members, presence_max: 10, ..Policy::OPEN });

pub(super) static TALLY: LazyLock<Policy> =
    LazyLock::new(|| Policy { presence: PresenceMode::Count, ..Policy::OPEN });

/// What the broker has yet to answer, oldest first, and what it was told of the node's lives.
#[derive(Default)]
pub(super) struct Book {
    pub(super) rosters: VecDeque<u64>,
    pub(super) sets: VecDeque<u64>,
    lives: Option<(u32, Option<u32>)>,
}

/// `enters crowd 7/ann [g=2]`, `exits crowd 7/ann`: session 7 of ann.
pub(super) fn enters(line: &str) -> HubMessage {
    let words: Vec<_> = line.split(' ').collect();
    let (session, user) = words[2].split_once('/').unwrap();
    let change = PresenceChange {
        session: SessionId(session.parse().unwrap()),
        user: user.into(),
        generation: option(line, "g").map_or(1, |it| it.parse().unwrap()),
        present: words[0] == "enters",
    };
    HubMessage::Presence { room: room(words[1]), change }
}

pub(super) fn lives(life: u32, retired: Option<u32>) -> String {
    let retired = retired.map_or(String::new(), |it| format!(", {it} is over"));
    if life == 1 { retired } else { format!(" life {life}{retired}") }
}

pub(super) fn set_shown(set: &SetPresence) -> String {
    let SetPresence { room, incarnation, seq, changes, grace_ms } = set;
    assert_eq!((incarnation.node, *grace_ms), (NodeId(1), super::GRACE_MS));
    let change = |it: &PresenceChange| {
        let generation = if it.generation == 1 { "".into() } else { format!(".{}", it.generation) };
        let way = if it.present { '+' } else { '-' };
        format!(" {way}{}/{}{generation}", { it.session.0 }, it.user)
    };
    let changes = if changes.len() > 9 {
        format!(" {} changes", changes.len())
    } else {
        changes.iter().map(change).collect()
    };
    format!("set {room} #{seq}{}{changes}", lives(incarnation.life, None))
}

pub(super) fn told(diff: &PresenceDiff) -> String {
    let PresenceDiff { room, version, count, joined, left } = diff;
    let came = joined.iter().map(|user| format!(" +{user}"));
    let names: Vec<_> = came.chain(left.iter().map(|user| format!(" -{user}"))).collect();
    let names = if names.len() > 20 { format!(" {} names", names.len()) } else { names.concat() };
    format!("presence {room} {} {count}{names}", shown_at(*version))
}

/// `5 count=3 +ann -bob`
fn diff(name: &str, version: &str, line: &str) -> PresenceDiff {
    let named = |way: char| {
        line.split(' ').filter_map(move |word| word.strip_prefix(way)).map(Into::into).collect()
    };
    PresenceDiff {
        room: room(name),
        version: position(line, version.parse().unwrap()),
        count: option(line, "count").map_or(1, |it| it.parse().unwrap()),
        joined: named('+'),
        left: named('-'),
    }
}

/// `agents=4 -7`: what the node is to tell of agents; `agents=4,5 -7`: the same of two versions.
pub(super) fn agents(line: &str) -> Vec<PresenceDiff> {
    let versions = option(line, "agents").into_iter().flat_map(|it| it.split(','));
    versions.map(|version| diff(AGENTS, version, line)).collect()
}

/// What a line says of the node's lease: ` lost`, ` new`, or that it holds.
pub(super) fn lease(line: &str) -> Lease {
    match (line.contains(" lost"), line.contains(" new")) {
        (true, _) => Lease::Lost,
        (false, true) => Lease::New,
        (false, false) => Lease::Held,
    }
}

/// `1 asks crowd [after=ann] [count=2] [as=bob]` by a session of lane 1, of bob who is in the room; `api asks ..` by the shell.
pub(super) fn asks(lane: Option<LaneId>, room: RoomName, line: &str) -> HubMessage {
    let after = option(line, "after").map(Into::into);
    let count_max = option(line, "count").map_or(ROSTER_PAGE_MAX, |it| it.parse().unwrap());
    let session = SessionKey { index: 3, generation: 1 };
    match lane {
        Some(lane) => {
            let reply = ReplyTo::default();
            let member = option(line, "as").map(Into::into);
            HubMessage::Roster { lane, session, member, reply, room, after, count_max }
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
    /// What became of the node's lives, where beats are not shown.
    pub(super) fn show_lives(&mut self, life: u32, retired: Option<u32>) {
        let before = self.presence.lives.replace((life, retired)).unwrap_or((1, None));
        if before != (life, retired) {
            self.seen.push(format!("beat{}", lives(life, retired)));
        }
    }

    /// `roster 7 ann,bob [e=2] [count=9] [more]` answers the oldest question, `roster none` does not; `diff crowd 5 count=3 +ann
    /// -bob` comes by the feed; `done [room=crowd version=5 count=3 +ann]`, `reaped` or `undone` (not answered) is for the
    /// oldest step.
    pub(super) fn presence_event(&mut self, line: &str) -> BrokerEvent<Ticket> {
        let words: Vec<_> = line.split(' ').collect();
        if words[0] == "diff" {
            let diff = diff(words[1], words[2], line);
            return BrokerEvent::Envelope(Envelope::Presence(diff.into()));
        }
        if words[0] != "roster" {
            let request = self.presence.sets.pop_front().expect("a step is under way");
            let version = option(line, "version");
            let made = version.map(|version| diff(option(line, "room").unwrap(), version, line));
            let outcome = match words[0] {
                "done" => Some(PresenceSet::Done(made)),
                "reaped" => Some(PresenceSet::Reaped),
                _ => None,
            };
            return BrokerEvent::PresenceSet { request, outcome };
        }
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
         1: roster tally 2 at 7: - more
         answer 9 2 at 7: ann,bob
         1: roster crowd 11 at 7: - more
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

#[test]
fn who_is_in_a_room_is_answered_that_it_is_once_members_are_told() {
    known(
        "enters crowd 3/cid
         1 asks crowd as=ann
         1 asks crowd as=cid
         1 asks crowd as=cid after=bob
         1 asks crowd
         done
         diff crowd 6 count=3 +cid
         1 asks crowd as=cid
         at 250",
        "set crowd #1 +3/cid
         beat 1 hears
         1: roster crowd 2 at 5: ann,bob
         1: roster crowd 2 at 5: ann,bob
         1: presence crowd 6 3 +cid
         1: roster crowd 3 at 6: ann,bob,cid
         1: roster crowd 3 at 6: cid
         1: roster crowd 3 at 6: ann,bob,cid",
    );
}

#[test]
fn whoever_asks_before_the_roster_is_known_is_answered_once_it_is() {
    check(
        "1 joins crowd
         subscribed crowd
         1 asks crowd
         1 asks crowd as=ann
         1 leaves crowd
         roster 5 ann,bob",
        "subscribe crowd
         1: joined crowd
         roster? crowd
         1: roster crowd unavailable 1000 ms
         1: roster crowd 2 at 5: ann,bob",
    );
}

#[test]
fn who_does_not_become_known_is_told_to_ask_again() {
    let end_ms = ROSTER_HOLD_MS;
    known(
        &format!("1 asks crowd as=cid\nat {}\nat {end_ms}", end_ms - 1),
        "1: roster crowd unavailable 1000 ms",
    );
    let asks = "1 asks crowd as=cid\n".repeat(ROSTER_ASKS_HELD_MAX);
    known(
        &format!("{asks}1 asks crowd as=ann\n1 asks crowd as=dan"),
        "1: roster crowd 2 at 5: ann,bob\n1: roster crowd unavailable 1000 ms",
    );
}

#[test]
fn who_is_told_a_number_alone_does_not_wait_for_a_name() {
    check(
        "1 joins tally
         subscribed tally
         1 asks tally as=ann
         roster 5 count=2
         1 asks tally as=ann",
        "subscribe tally
         1: joined tally
         roster? tally limit 1
         1: presence tally 5 2
         1: roster tally 2 at 5: - more
         1: roster tally 2 at 5: - more",
    );
}

#[test]
fn who_is_in_a_room_that_lost_its_data_is_not_answered_that_nobody_is() {
    for (asks, answered) in
        [("1 asks tally as=ann", "unavailable 1000 ms"), ("1 asks tally", "0 at 0: -")]
    {
        check(
            &format!(
                "1 joins tally
                 subscribed tally
                 roster 0 count=0
                 {asks}
                 roster 0 count=0"
            ),
            &format!(
                "subscribe tally
                 1: joined tally
                 roster? tally limit 1
                 1: presence tally 0 0
                 roster? tally
                 1: roster tally {answered}"
            ),
        );
    }
}

/// Room `crowd` is heard by lane 1, and its roster known.
const KNOWN: &str = "1 joins crowd\nsubscribed crowd\nroster 5 ann,bob\n";

const ASKED: &str = "subscribe crowd\n1: joined crowd\nroster? crowd\n";

#[track_caller]
fn known(script: &str, expected: &str) {
    check(&format!("{KNOWN}{script}"), &format!("{ASKED}{expected}"));
}

#[test]
fn the_first_change_of_a_room_is_told_at_once_and_those_that_follow_together() {
    check(
        "enters crowd 1/ann
         enters crowd 2/bob
         enters crowd 3/cid
         exits crowd 3/cid
         exits crowd 9/eve
         enters tally 1/ann
         at 249
         done
         at 250
         done
         done
         exits crowd 1/ann
         at 300
         enters crowd 1/ann g=2
         at 500",
        "set crowd #1 +1/ann
         beat 1 hears
         set tally #2 +1/ann
         set crowd #3 +2/bob
         set crowd #4 +1/ann.2",
    );
}

#[test]
fn one_step_of_a_room_is_under_way_and_repeated_until_it_is_answered() {
    check(
        "enters crowd 1/ann
         exits crowd 1/ann
         at 400
         undone
         at 899
         at 900
         done
         undone",
        "set crowd #1 +1/ann
         beat 1 hears
         set crowd #1 +1/ann
         set crowd #2 -1/ann",
    );
}

#[test]
fn a_late_word_of_a_sessions_former_connection_counts_for_nothing() {
    check(
        "enters crowd 1/ann g=2
         done
         exits crowd 1/ann g=1
         enters crowd 1/ann g=1
         at 100
         exits crowd 1/ann g=2
         enters crowd 1/ann g=2
         at 900",
        "set crowd #1 +1/ann.2\nbeat 1 hears\nset crowd #2 +1/ann.2",
    );
}

#[test]
fn a_step_holds_a_bounded_number_of_changes_and_the_rest_follows() {
    let mut world = World::new(0);
    world.step("enters crowd 0/x");
    for session in 1..=PRESENCE_CHANGES_MAX + 1 {
        world.step(&format!("enters crowd {session}/x"));
    }
    for line in ["done", "at 250", "done", "at 500", "done", "at 750"] {
        world.step(line);
    }
    let max = PRESENCE_CHANGES_MAX;
    let full = format!("set crowd #2 {max} changes");
    assert_eq!(world.seen, ["set crowd #1 +0/x", "beat 1 hears", &full, "set crowd #3 +513/x"]);
    assert_eq!(world.hub.presence_sizes().present, max + 2);
}

#[test]
fn steps_of_many_rooms_are_bounded_and_the_others_wait() {
    let mut world = World::new(0);
    for number in 0..=STEPS_MAX {
        world.step(&format!("enters crowd-{number} 1/ann"));
    }
    let count = |world: &World| world.seen.iter().filter(|it| it.starts_with("set ")).count();
    assert_eq!(count(&world), STEPS_MAX);
    world.step("undone");
    assert_eq!(count(&world), STEPS_MAX);
    world.step("done");
    assert_eq!(count(&world), STEPS_MAX + 1);
}

#[test]
fn while_the_broker_is_away_only_what_differs_in_the_end_is_kept() {
    entered(
        "auto away
         at 4000
         exits crowd 1/ann
         enters crowd 3/cid
         at 8000
         enters crowd 1/ann
         exits crowd 2/bob
         enters crowd 4/dan
         exits crowd 3/cid
         auto over=1
         at 8300
         done
         exits crowd 4/dan
         at 8600",
        "0: degraded true
         1: degraded true
         2: degraded true
         isolated at 2000
         0: degraded false
         1: degraded false
         2: degraded false
         set crowd #3 +1/ann -2/bob +4/dan
         whole at 8250
         set crowd #4 -4/dan",
    );
}

#[test]
fn a_feed_that_is_down_costs_nobody_its_presence() {
    entered(
        "down
         exits crowd 1/ann
         at 1000
         done",
        "cut at 500
         set crowd #3 -1/ann",
    );
}

#[test]
fn a_hub_without_a_watch_sends_beats_while_somebody_is_there_or_has_just_left() {
    check(
        "1 joins news
         at 5000
         enters crowd 1/ann
         done
         at 7000
         exits crowd 1/ann
         done
         at 60000",
        "subscribe news
         set crowd #1 +1/ann
         beat 1 hears
         beat 2 hears
         beat 3 hears
         set crowd #2 -1/ann
         beat 4 hears
         beat 5 hears
         beat 6 hears
         beat 7 hears
         beat 8 hears
         beat 9 hears",
    );
}

#[test]
fn nothing_is_entered_before_the_lease_holds() {
    watch(
        "up 1
         enters crowd 1/ann
         relay
         answer 1",
        "beat 1 hears
         0 isolated in 0 ms, 0 refused, 0 partial, 0 losses, 0/0/0 reconnects
         set crowd #1 +1/ann",
    );
}

/// Ann and bob are entered in a watched hub.
const ENTERED: &str =
    "auto over=1\nup 1\nenters crowd 1/ann\nenters crowd 2/bob\ndone\nat 500\ndone\n";

const ENTER: &str = "whole at 0\nset crowd #1 +1/ann\nset crowd #2 +2/bob\n";

#[track_caller]
fn entered(script: &str, expected: &str) {
    watch(&format!("{ENTERED}{script}"), &format!("{ENTER}{expected}"));
}

#[test]
fn after_a_lost_lease_only_whom_lanes_tell_of_again_are_entered_in_the_next_life() {
    entered(
        "auto lost
         at 1000
         auto over=1
         at 1100
         enters crowd 2/bob
         done
         exits crowd 1/ann
         at 5000",
        "0: presents since 1000
         1: presents since 1000
         2: presents since 1000
         beat life 2, 1 is over
         set crowd #3 life 2 +2/bob
         beat life 2",
    );
}

#[test]
fn a_step_that_finds_its_life_reaped_begins_another_one() {
    entered(
        "enters crowd 3/cid
         at 800
         reaped
         enters crowd 1/ann
         enters crowd 3/cid
         at 1100
         reaped
         enters crowd 1/ann
         at 3000",
        "set crowd #3 +3/cid
         0: presents since 800
         1: presents since 800
         2: presents since 800
         beat life 2, 1 is over
         set crowd #4 life 2 +1/ann
         0: presents since 1100
         1: presents since 1100
         2: presents since 1100
         beat life 3, 2 is over
         set crowd #5 life 3 +1/ann
         beat life 3",
    );
}

#[test]
fn under_another_master_all_are_entered_again_before_the_former_life_ends() {
    entered(
        "exits crowd 2/bob
         auto over=1 by=2
         at 1000
         at 3000
         undone
         at 3499
         at 3500
         done
         at 5000",
        "set crowd #3 -2/bob
         beat life 2
         set crowd #3 -2/bob
         set crowd #4 life 2 +1/ann",
    );
}

#[test]
fn another_master_among_those_of_a_cluster_is_another_master() {
    entered(
        "auto over=1 among=2
         at 1000
         at 3000
         done
         at 5000",
        "beat life 2
         set crowd #3 life 2 +1/ann +2/bob
         beat life 2, 1 is over
         beat life 2",
    );
}

#[test]
fn a_lease_that_the_broker_has_lost_is_the_end_of_a_life_in_which_all_are_entered_again() {
    entered(
        "auto over=1 new
         at 1000
         at 1200
         done
         at 5000",
        "beat life 2
         set crowd #3 life 2 +1/ann +2/bob
         beat life 2, 1 is over
         beat life 2",
    );
    // The first beats of a life find none: of this one, and of that after a lease that had ended.
    watch(
        "auto over=1 new
         up 1
         enters crowd 1/ann
         done
         auto away
         at 1000
         answer 2 lost
         enters crowd 1/ann
         answer 3 new
         auto over=1
         done
         at 5000",
        "whole at 0
         set crowd #1 +1/ann
         0: presents since 1000
         1: presents since 1000
         2: presents since 1000
         beat life 2, 1 is over
         set crowd #2 life 2 +1/ann
         beat life 2",
    );
}

#[test]
fn a_node_that_was_stopped_past_its_lease_begins_another_life_by_itself() {
    entered(
        "asleep until 20000
         at 20500
         enters crowd 1/ann
         done
         at 25000",
        "0: presents since 20000
         1: presents since 20000
         2: presents since 20000
         beat life 2, 1 is over
         set crowd #3 life 2 +1/ann
         beat life 2",
    );
    // A shorter stop is none.
    entered("asleep until 7000\nat 9000", "");
}

#[test]
fn members_are_told_the_net_difference_of_a_while() {
    known(
        "diff crowd 6 count=3 +cid
         diff crowd 7 count=4 +dan
         diff crowd 8 count=4 +eve -ann
         diff crowd 9 count=3 -dan
         at 250
         diff crowd 10 count=4 +dan
         diff crowd 11 count=3 -dan
         at 600
         diff crowd 12 count=2 -eve
         diff tally 3 count=1 +ann",
        "1: presence crowd 6 3 +cid
         1: presence crowd 9 3 +eve -ann
         1: presence crowd 12 2 -eve",
    );
}

#[test]
fn a_roster_is_shown_as_members_were_told_so_that_the_next_difference_fits() {
    known(
        "diff crowd 6 count=3 +cid
         diff crowd 7 count=4 +bea
         diff crowd 8 count=3 -ann
         1 asks crowd
         1 asks crowd count=2
         1 asks crowd after=ann count=1
         1 asks crowd after=bob count=1
         at 250
         1 asks crowd count=2
         1 asks crowd after=bob",
        "1: presence crowd 6 3 +cid
         1: roster crowd 3 at 6: ann,bob,cid
         1: roster crowd 3 at 6: ann,bob more
         1: roster crowd 3 at 6: bob more
         1: roster crowd 3 at 6: cid
         1: presence crowd 8 3 +bea -ann
         1: roster crowd 3 at 8: bea,bob more
         1: roster crowd 3 at 8: cid",
    );
}

/// Room `crowd` is heard by lane 1, and the broker knew nothing of it.
const BLANK: &str = "1 joins crowd\nsubscribed crowd\nroster 0 e=9\n";

#[test]
fn a_room_of_which_nothing_was_known_goes_on_with_its_first_step() {
    check(
        &format!(
            "{BLANK}diff crowd 1 count=1 +ann
             diff crowd 2 count=2 +bob
             1 asks crowd
             at 250
             1 asks crowd"
        ),
        &format!(
            "{ASKED}1: presence crowd 1 1 +ann
             1: roster crowd 1 at 1: ann
             1: presence crowd 2 2 +bob
             1: roster crowd 2 at 2: ann,bob"
        ),
    );
    // The answer may be behind what the feed brought.
    check(
        "1 joins crowd
         subscribed crowd
         diff crowd 1 count=1 +ann
         roster 0 e=9
         1 asks crowd",
        &format!("{ASKED}1: roster crowd 1 at 1: ann"),
    );
    // Another step than the first one is a gap all the same.
    check(&format!("{BLANK}diff crowd 2 count=2 +bob\nat 1000"), &format!("{ASKED}roster? crowd"));
}

#[test]
fn who_asks_before_a_rooms_first_step_is_answered_as_the_room_is_then() {
    check(
        &format!(
            "{BLANK}1 asks crowd
             diff crowd 1 count=1 +ann
             roster 1 ann"
        ),
        &format!(
            "{ASKED}roster? crowd
             1: presence crowd 1 1 +ann
             1: roster crowd 1 at 1: ann"
        ),
    );
    // An answer ahead of the feed: the next difference would not fit to it.
    check(
        &format!("{BLANK}1 asks crowd\nroster 1 ann"),
        &format!("{ASKED}roster? crowd\n1: roster crowd unavailable 1000 ms"),
    );
    check(
        &format!("{BLANK}1 asks crowd\nroster 0 e=8"),
        &format!("{ASKED}roster? crowd\n1: roster crowd 0 at 0 of 8: -"),
    );
}

#[test]
fn a_version_that_jumps_is_a_gap_and_the_difference_is_told_once_it_is_read() {
    known(
        "diff crowd 5 count=9 +x
         diff crowd 7 count=3 +dan
         at 999
         at 1000
         diff crowd 8 count=4 +eve
         roster 7 bob,cid,dan
         1 asks crowd",
        "roster? crowd
         1: presence crowd 8 4 +cid +dan +eve -ann
         1: roster crowd 4 at 8: bob,cid,dan,eve",
    );
}

#[test]
fn a_count_that_does_not_fit_is_a_gap_too() {
    known("diff crowd 6 count=9 +cid\nat 1000\nroster 6 ann,bob", "roster? crowd");
}

#[test]
fn a_roster_of_many_pages_is_whole_whatever_comes_between_them() {
    check(
        "1 joins crowd
         subscribed crowd
         roster 5 ann,bob,cid more count=5
         diff crowd 6 count=4 -ann
         diff crowd 7 count=5 +ann
         roster 8 dan,fay count=6
         1 asks crowd
         diff crowd 8 count=6 +eve
         1 asks crowd",
        "subscribe crowd
         1: joined crowd
         roster? crowd
         roster? crowd behind cid
         1: roster crowd unavailable 1000 ms
         1: roster crowd 6 at 8: ann,bob,cid,dan,eve,fay",
    );
}

#[test]
fn diffs_that_never_come_have_the_roster_read_anew() {
    check(
        "1 joins crowd
         subscribed crowd
         roster 5 ann,bob more count=3
         roster 6 cid count=3
         at 1000
         roster 6 ann,bob,cid
         1 asks crowd",
        "subscribe crowd
         1: joined crowd
         roster? crowd
         roster? crowd behind bob
         roster? crowd
         1: roster crowd 3 at 6: ann,bob,cid",
    );
}

#[test]
fn a_new_epoch_is_read_and_what_this_node_entered_is_entered_again() {
    known(
        "enters crowd 1/ann
         done
         at 1000
         diff crowd 1 e=2 count=1 +cid
         roster 1 cid e=2
         1 asks crowd",
        "set crowd #1 +1/ann
         beat 1 hears
         beat 2 hears
         roster? crowd
         set crowd #2 +1/ann
         1: presence crowd 1 of 2 1 +cid -ann -bob
         1: roster crowd 1 at 1 of 2: cid",
    );
}

#[test]
fn a_reading_that_another_epoch_overtakes_is_done_again() {
    check(
        "1 joins crowd
         subscribed crowd
         diff crowd 1 e=2 count=1 +ann
         roster 3 bob
         at 1000
         roster 1 ann e=2
         1 asks crowd",
        "subscribe crowd
         1: joined crowd
         roster? crowd
         roster? crowd
         1: roster crowd 1 at 1 of 2: ann",
    );
}

#[test]
fn after_the_feed_was_lost_all_rosters_are_read_again() {
    watch(
        "auto over=1
         up 1
         1 joins crowd
         subscribed crowd
         roster 5 ann
         at 5000
         down
         up 1
         at 6000
         roster 9 ann,bob",
        "whole at 0
         subscribe crowd
         1: joined crowd
         roster? crowd
         cut at 5000
         0: lost
         1: lost
         2: lost
         whole at 5000
         roster? crowd
         1: presence crowd 9 2 +bob",
    );
}

#[test]
fn a_question_that_is_not_answered_is_asked_again() {
    check(
        "1 joins crowd
         subscribed crowd
         roster none
         1 asks crowd
         at 999
         at 1000
         roster 5 ann
         1 asks crowd",
        "subscribe crowd
         1: joined crowd
         roster? crowd
         1: roster crowd unavailable 1000 ms
         roster? crowd
         1: roster crowd 1 at 5: ann",
    );
}

#[test]
fn above_the_rules_number_only_the_count_is_told_once_a_second_until_it_is_well_below() {
    let nine = "a,b,c,d,e,f,g,h,i";
    check(
        &format!(
            "1 joins crowd
             subscribed crowd
             roster 5 {nine},j
             diff crowd 6 count=11 +k
             1 asks crowd
             diff crowd 7 count=12 +l
             at 999
             at 1000
             diff crowd 8 count=10 -k -l
             at 2000
             diff crowd 9 count=9 -j
             roster 9 {nine}
             at 3000
             diff crowd 10 count=8 -i
             at 3250"
        ),
        "subscribe crowd
         1: joined crowd
         roster? crowd
         1: presence crowd 6 11
         1: roster crowd 11 at 6: - more
         1: presence crowd 7 12
         1: presence crowd 8 10
         roster? crowd
         1: presence crowd 9 9 +a +b +c +d +e +f +g +h +i
         1: presence crowd 10 8 -i",
    );
}

#[test]
fn a_room_that_counts_tells_its_count_once_a_second_if_it_has_changed() {
    check(
        "1 joins tally
         subscribed tally
         roster 5 ann count=3
         1 asks tally
         diff tally 6 count=4 +dan
         diff tally 7 count=3 -dan
         at 1000
         diff tally 8 count=4 +dan
         at 2000
         diff tally 10 count=9 +x
         roster 10 ann count=9",
        "subscribe tally
         1: joined tally
         roster? tally limit 1
         1: presence tally 5 3
         1: roster tally 3 at 5: - more
         1: presence tally 8 4
         roster? tally limit 1
         1: presence tally 10 9",
    );
}

#[test]
fn rosters_are_read_a_few_at_a_time() {
    let mut world = World::new(0);
    for number in 0..=ROSTER_READS_MAX {
        world.step(&format!("1 joins crowd-{number}"));
        world.step(&format!("subscribed crowd-{number}"));
    }
    let count = |world: &World| world.seen.iter().filter(|it| it.starts_with("roster? ")).count();
    assert_eq!(count(&world), ROSTER_READS_MAX);
    world.step("roster none");
    assert_eq!(count(&world), ROSTER_READS_MAX + 1);
}

#[test]
fn what_all_rosters_weigh_is_bounded_and_of_rooms_beyond_it_the_number_is_kept() {
    let mut world = World::new(0);
    // Three users of three letters.
    world.hub.rosters.bytes_max = 3 * (3 + 48);
    for line in
        "1 joins crowd\nsubscribed crowd\nroster 5 ann,bob\n1 joins crowd-2\nsubscribed crowd-2\n\
                 roster 7 ann\n1 asks crowd-2\ndiff crowd-2 8 count=2 +bob\n1 asks crowd-2"
            .lines()
    {
        world.step(line);
    }
    let last: Vec<_> = world.seen.iter().rev().take(3).rev().map(String::as_str).collect();
    let first = "1: roster crowd-2 1 at 7: ann";
    assert_eq!(last, [first, "1: presence crowd-2 8 2", "1: roster crowd-2 2 at 8: - more"]);
    assert_eq!(world.hub.presence_sizes().rosters_bytes, 2 * (3 + 48));
    // The same by a page.
    for line in ["1 joins crowd-3", "subscribed crowd-3", "roster 9 ann,bob", "1 asks crowd-3"] {
        world.step(line);
    }
    assert_eq!(world.seen.last().unwrap(), "1: roster crowd-3 2 at 9: - more");
}

#[test]
fn a_reading_that_takes_too_long_begins_anew() {
    let mut world = World::new(0);
    for line in ["1 joins crowd", "subscribed crowd"] {
        world.step(line);
    }
    for version in 1..=ROSTER_DIFFS_MAX + 1 {
        world.step(&format!("diff crowd {version} count=1 +ann"));
    }
    world.step("roster 1 ann");
    world.step("1 asks crowd");
    world.step("at 1000");
    let last: Vec<_> = world.seen.iter().rev().take(2).map(String::as_str).collect();
    assert_eq!(last, ["roster? crowd", "1: roster crowd unavailable 1000 ms"]);
}

#[test]
fn now_and_then_a_rosters_version_is_compared() {
    known(
        "at 9000
         at 11000
         roster 5 count=2
         at 22000
         roster 6 count=3
         at 23999
         roster 6 ann,bob,cid",
        "roster? crowd limit 1
         roster? crowd limit 1
         roster? crowd
         1: presence crowd 6 3 +cid",
    );
}

#[test]
fn many_rosters_are_compared_more_seldom() {
    let [first_ms, last_ms] = [ROSTER_COMPARE_MS.0, ROSTER_COMPARE_MS.1];
    for (rooms, after_ms) in [(1, first_ms), (600, 12_000), (7_000, last_ms)] {
        let mut world = World::new(0);
        for number in 0..rooms {
            world.hub.want_roster(&room(&format!("crowd-{number}")));
        }
        assert_eq!(world.hub.rosters.compare_ms(), after_ms, "{rooms} rooms");
    }
}

#[test]
fn agents_are_entered_again_where_the_broker_has_lost_them() {
    let mut world = World::watched();
    let mut lines = |lines: &str| {
        world.seen.clear();
        lines.split("; ").for_each(|line| world.step(line));
        let seen = std::mem::take(&mut world.seen).into_iter();
        seen.filter(|line| line.contains(AGENTS)).collect::<Vec<_>>()
    };
    let asked = "roster? $agents limit 1";
    assert_eq!(lines("auto over=1; up 1; enters $agents 1/7; done; at 9999").len(), 1, "entered");
    assert_eq!(lines("at 10000"), [asked]);
    // Lost before it was asked the first time, it would be under another epoch than the steps.
    assert_eq!(lines("roster 3 count=1 e=1; at 10300"), ["set $agents #2 +1/7"]);
    assert_eq!(lines("done; at 20000; roster 4 count=1 e=1; at 29999"), [asked]);
    assert_eq!(lines("at 30000; roster 0 e=2; at 30300; done"), [asked, "set $agents #3 +1/7"]);
    assert_eq!(lines("at 40000; roster none; at 49999"), [asked], "not answered");
    assert_eq!(
        lines("at 50000; exits $agents 1/7; done; at 59999"),
        [asked, "set $agents #4 -1/7"]
    );
    // Nobody is left to be lost.
    assert_eq!(lines("roster 5 count=0 e=3; at 90000"), Vec::<String>::new());
    assert!(world.hub.presence.is_unused());
}

#[test]
fn a_room_that_nobody_hears_any_more_is_forgotten_with_its_roster() {
    let mut world = World::new(0);
    for line in KNOWN.lines().chain(["diff crowd 7 count=2", "1 leaves crowd", "at 2000"]) {
        world.step(line);
    }
    assert_eq!(world.hub.presence_sizes(), crate::hub::PresenceSizes::default());
    // What comes of it late means nothing to the next one.
    for line in ["1 joins crowd", "subscribed crowd"] {
        world.step(line);
    }
    assert_eq!(world.seen.last().unwrap(), "roster? crowd");
}

#[test]
fn while_orders_may_be_missing_nobody_is_told_who_is_there() {
    let mut world = World::watched();
    for line in
        "auto over=1\nup 1\n1 joins crowd\nsubscribed crowd\nroster 5 ann\n1 asks crowd".lines()
    {
        world.step(line);
    }
    world.hub.doubt_control(world.now);
    let mut out = Vec::new();
    let event = world.presence_event("diff crowd 6 count=2 +bob");
    world.hub.broker_event(world.now, event, &mut out);
    let session = SessionKey { index: 3, generation: 1 };
    let asked = super::lane_says("1", "1 asks crowd");
    world.hub.message(world.now, asked, &mut out);
    world.execute(out);
    assert_eq!(world.seen.last().unwrap(), "1: roster crowd unavailable 1000 ms", "{session:?}");
    world.step("at 100");
    assert_eq!(world.seen.last().unwrap(), "1: presence crowd 6 2 +bob");
}

const ONLINE: &str = "agent_connected {\"agent_id\":7,\"status\":\"online\",\"last_seen\":\"1970-01-01T00:00:00.000Z\"} by $agents dedup";

#[test]
fn an_agent_is_announced_in_both_rooms_by_the_node_that_is_given_it_and_the_next_beat_says_so() {
    check(
        "enters $agents 1/7
         counted
         enters $agents 2/7
         counted
         done room=$agents version=1 +7
         answer 2 agents=1 +7
         accepted
         counted
         accepted
         at 250
         done
         exits $agents 1/7
         at 500
         done
         counted
         at 1000",
        &format!(
            "set $agents #1 +1/7
             beat 1 hears
             0 rooms, 1 agents, 0 published, 0 received, 0 unwanted
             0 rooms, 1 agents, 0 published, 0 received, 0 unwanted
             beat 2 hears
             publish agents {ONLINE}
             publish agent-7 {ONLINE}
             0 rooms, 1 agents, 2 published, 0 received, 0 unwanted
             set $agents #2 +2/7
             set $agents #3 -1/7
             0 rooms, 1 agents, 2 published, 0 received, 0 unwanted
             beat 3 hears told 1"
        ),
    );
}

#[test]
fn an_agent_of_any_node_is_told_of_by_the_node_whose_beat_is_given_it() {
    watch(
        "auto over=1
         up 1
         answer 8 agents=4 -7
         answer 9 agents=5 -a\u{200b}b",
        "whole at 0
         publish agents agent_disconnected {\"agent_id\":7,\"status\":\"offline\",\"last_seen\":\"1970-01-01T00:00:00.000Z\"} by $agents dedup
         publish agent-7 agent_disconnected {\"agent_id\":7,\"status\":\"offline\",\"last_seen\":\"1970-01-01T00:00:00.000Z\"} by $agents dedup
         publish agents agent_disconnected {\"agent_id\":\"a\u{200b}b\",\"status\":\"offline\",\"last_seen\":\"1970-01-01T00:00:00.000Z\"} by $agents dedup",
    );
}

#[test]
fn what_was_told_is_said_up_to_the_first_of_which_a_notice_is_left() {
    let mut world = World::new(0);
    for line in ["enters $agents 1/7", "answer 1 agents=1,2 +7", "accepted", "at 1000"] {
        world.step(line);
    }
    assert_eq!(world.seen.last().unwrap(), "beat 2 hears", "one of two notices is left");
    // Given once more meanwhile: it is under way.
    world.step("answer 2 agents=1,2 +7");
    let notices = |world: &World| world.seen.iter().filter(|it| it.starts_with("publish")).count();
    assert_eq!(notices(&world), 3, "the second of its agent and room waits for the first");
    world.step("accepted");
    world.step("at 2000");
    assert_eq!(world.seen.last().unwrap(), "beat 3 hears told 1");
    world.step("accepted");
    world.step("accepted");
    world.step("at 3000");
    assert_eq!((notices(&world), &**world.seen.last().unwrap()), (4, "beat 4 hears told 2"));
    // The beat that said so was lost: it is told once more, under its ids, and no harm is done.
    world.step("answer 4 agents=1 +7");
    assert_eq!(notices(&world), 6);
}

#[test]
fn a_notice_is_repeated_with_its_id_until_it_is_accepted_and_the_next_of_its_agent_waits() {
    let mut world = World::new(0);
    let mut step = |lines: &str| {
        world.seen.clear();
        lines.split("; ").for_each(|line| world.step(line));
        world.seen.retain(|line| line.starts_with("publish"));
        world
            .seen
            .iter()
            .map(|line| line.split(' ').take(3).collect::<Vec<_>>().join(" "))
            .collect()
    };
    let both =
        |what: &str| vec![format!("publish agents {what}"), format!("publish agent-7 {what}")];
    let seen: Vec<String> =
        step("enters $agents 1/7; done room=$agents version=1 +7; answer 1 agents=1 +7");
    assert_eq!(seen, both("agent_connected"));
    let none: Vec<String> = Vec::new();
    assert_eq!(
        step(
            "unknown; refused; exits $agents 1/7; at 250; done room=$agents version=2 -7; answer 2 agents=2 -7"
        ),
        none
    );
    assert_eq!(step("at 1000"), both("agent_connected"));
    assert_eq!(step("accepted; accepted"), both("agent_disconnected"));
    assert_eq!(step("accepted; accepted; at 90000"), none);
    assert!(world.hub.notices.is_empty());
}

#[test]
fn a_notice_that_nobody_accepts_is_given_up_after_a_minute() {
    let mut world = World::new(0);
    world.step("enters $agents 1/a\u{200b}b");
    world.step("done room=$agents version=1 +a\u{200b}b");
    world.step("answer 1 agents=1 +a\u{200b}b");
    for second in 1..=60 {
        world.step("refused");
        world.step(&format!("at {}", 1_000 * second));
    }
    let count = world.seen.iter().filter(|line| line.starts_with("publish")).count();
    assert_eq!(count, 61);
    world.step("refused");
    // It counts as told: the broker is not to keep it for ever.
    world.step("at 62000");
    assert!(world.seen.iter().any(|it| it.ends_with(" told 1")), "{:?}", world.seen.last());
    assert!(world.hub.notices.is_empty());
    assert_eq!(world.hub.counters().notices_lost, 1);
}

#[test]
fn notices_are_bounded_and_so_are_those_under_way() {
    let mut world = World::new(0);
    let names: Vec<Box<str>> = (0..NOTICES_MAX / 2).map(|it| it.to_string().into()).collect();
    let version = position("", 1);
    let all = PresenceDiff { room: room(AGENTS), version, count: 1, joined: names, left: vec![] };
    world.hub.tell_of_agents(world.now, &all);
    let notices = |world: &World| world.seen.iter().filter(|it| it.starts_with("publish")).count();
    world.step("at 1");
    assert_eq!(notices(&world), NOTICES_UNDER_WAY_MAX);
    world.step("accepted");
    assert_eq!(notices(&world), NOTICES_UNDER_WAY_MAX + 1);
    assert_eq!(world.hub.counters().notices_lost, 0);
    let one = PresenceDiff { joined: vec!["x".into()], version: version.next(), ..all };
    world.hub.tell_of_agents(world.now, &one);
    assert_eq!(world.hub.counters().notices_lost, 1);
}

#[test]
fn when_all_have_left_and_are_settled_nothing_of_presence_is_kept() {
    let mut world = World::new(0);
    let lines = "enters crowd 1/ann\nenters $agents 1/7\ndone\ndone room=$agents version=1 +7\n\
                 answer 1 agents=1 +7\naccepted\naccepted\nexits crowd 1/ann\nexits $agents 1/7\nat 250\ndone\ndone\nat 60000";
    lines.lines().for_each(|line| world.step(line));
    assert!(world.hub.presence.is_unused() && world.hub.notices.is_empty());
    assert_eq!((world.hub.agents(), world.hub.next_beat_alone_ms()), (0, None));
    assert_eq!(world.hub.presence_sizes(), crate::hub::PresenceSizes::default());
}
