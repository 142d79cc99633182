//! Orders and questions from the hub, and what is left when all are gone.

use roomcast_protocol::codes::Close;
use roomcast_protocol::dialect::{Encoding, Format};
use roomcast_protocol::ids::SessionId;

use super::frames::PLAIN;
use super::{World, check, room};
use crate::lane::{REVOKED_MAX, Sizes};
use crate::messages::{Effect, LaneMessage};
use crate::orders::{Order, Outcome, Revocation, Tokens, Whom};

#[test]
fn a_lagging_lane_tells_each_session_with_rooms_once() {
    check(
        "1 opens as a
         2 opens as b
         3 opens
         1 joins news-1
         1 joins news-2
         hub lagged",
        "1: welcome a 1
         2: welcome b 2
         1: joined news-1
         1: joined news-2
         1: gap overload",
    );
}

#[test]
fn a_session_that_was_not_welcomed_yet_is_told_of_no_gap() {
    check(
        "manual
         1 opens own as ann
         hub joined user-ann
         hub lagged
         hub members user-ann",
        "hub join user-ann
         hub join session-1
         members nobody",
    );
}

#[test]
fn sessions_are_told_when_the_node_is_on_its_own_and_when_it_is_not() {
    check(
        "1 opens as a
         2 opens
         hub isolated
         3 opens as c
         hub whole
         4 opens as d",
        "1: welcome a 1
         1: degraded true
         3: welcome c 3
         3: degraded true
         1: degraded false
         3: degraded false
         4: welcome d 4",
    );
}

#[test]
fn a_session_that_becomes_ready_on_a_node_on_its_own_is_told_behind_its_welcome() {
    check(
        "manual
         1 opens own as ann
         2 opens own as bob
         hub isolated
         hub joined user-ann
         hub joined session-1
         hub whole
         hub joined user-bob
         hub joined session-2",
        "hub join user-ann
         hub join session-1
         hub join user-bob
         hub join session-2
         1: welcome ann 1
         1: degraded true
         1 ready
         1: degraded false
         2: welcome bob 2
         2 ready",
    );
}

#[test]
fn members_are_listed_with_user_and_session() {
    check(
        "1 opens as ann
         2 opens as ann
         3 opens as bob^guests
         1 joins news
         2 joins news
         3 joins news
         hub members news
         hub members none",
        "1: welcome ann 1
         2: welcome ann 2
         3: welcome bob 3
         1: joined news
         2: joined news
         3: joined news
         members ann/1 ann/2 guests:bob/3
         members nobody",
    );
}

#[test]
fn all_sessions_of_a_user_are_disconnected_and_no_others() {
    check(
        "1 opens as ann
         2 opens as ann^guests
         3 opens as ann
         4 opens
         hub disconnect ann
         hub disconnect guests:ann
         hub disconnect bob",
        "1: welcome ann 1
         2: welcome ann 2
         3: welcome ann 3
         1 closed 4101
         3 closed 4101
         hub carried out for 2
         2 closed 4101
         hub carried out for 1
         hub carried out for 0",
    );
}

#[test]
fn a_stopping_lane_serves_what_waits_and_closes_1001() {
    check(
        "1 opens as a@7
         2 opens
         1 joins news
         hub news hi
         hub stop
         sizes",
        "1: welcome a 1
         hub agent 7 up
         1: joined news
         1: news hi
         hub agent 7 down
         1 closed 1001
         2 closed 1001
         0 sessions, 0 rooms, 0 places",
    );
}

#[test]
fn a_session_ended_by_the_shell_is_told_why() {
    check(
        "1 opens as a
         1 joins news
         hub news hi
         1 overflows
         serve
         sizes",
        "1: welcome a 1
         1: joined news
         1 closed 4200
         0 sessions, 0 rooms, 0 places",
    );
}

#[test]
fn when_all_sessions_are_gone_every_table_is_empty() {
    let mut world = super::World::new("");
    for number in 1..=40 {
        let token = format!("u{}%red~x@{number}", number % 7);
        world.step(&format!("{number} opens own as {token}"));
        world.step(&format!("{number} joins news-{}", number % 5));
        world.step(&format!("{number} publishes news-1 hi ack"));
        world.step("hub news-1 hi");
        world.step("hub role-red hi class=low");
        world.walk();
    }
    for number in 1..=40 {
        world.step(&format!("{number} gone"));
        world.step("serve 3");
        world.walk();
    }
    world.step("serve");
    let lane = &world.lane;
    assert_eq!(lane.sizes(), super::super::Sizes::default());
    assert!(lane.busy.is_empty() && lane.names.is_empty() && lane.rooms.is_empty());
    assert_eq!(lane.backlog_bytes(), 0);
    assert_eq!(world.users.len(), 7);
    world.users.sweep(64_999);
    assert_eq!(world.users.len(), 7, "their messages still weigh");
    world.users.sweep(65_000);
    assert_eq!(world.users.len(), 0);
    world.step("wait 100000");
    assert_eq!(world.lane.next_wake(), None);
}

/// Whole node: at most 2 KB for an idle session in three rooms, of which this is the router's fixed part.
#[test]
fn an_idle_session_and_its_rooms_stay_small() {
    use std::mem::size_of;

    use roomcast_protocol::room::RoomName;

    use crate::session::{Membership, Session};

    assert!(size_of::<Session>() <= 128, "{}", size_of::<Session>());
    assert!(size_of::<crate::lane::Room>() <= 64, "{}", size_of::<crate::lane::Room>());
    assert!(size_of::<Membership>() <= 8);
    assert!(size_of::<crate::meter::UserMeter>() <= 56);
    assert!(crate::hub::ROOM_BYTES + size_of::<RoomName>() <= 48, "{}", crate::hub::ROOM_BYTES);
}

#[test]
fn sessions_that_have_to_prove_themselves_are_closed_and_told_so() {
    check(
        "1 opens as a
         2 opens as b
         hub revalidate",
        "1: welcome a 1
         2: welcome b 2
         1 closed 4300
         2 closed 4300",
    );
}

#[test]
fn members_of_strict_rooms_are_told_that_these_are_not_served() {
    check(
        "1 opens as a
         2 opens as b
         1 joins strict
         hub blind",
        "1: welcome a 1
         2: welcome b 2
         1: joined strict
         1: gap unavailable",
    );
}

/// The order that a script gives by `hub disconnect ann`.
pub(super) fn ends(user: &str) -> LaneMessage {
    LaneMessage::Order { ticket: 1, order: Order::End(Whom::User(user.into())).into() }
}

/// How scripts show what a lane says of an order.
pub(super) fn carried_out(ticket: u64, outcome: &Outcome) -> String {
    assert_eq!(ticket, 1);
    let refused: String = outcome.named.iter().map(|it| format!(" not {:x}", { it.0 })).collect();
    format!("hub carried out for {}{refused}", outcome.sessions)
}

/// `hub revoke ann before 5 [until 9]`, `hub revoke #t1 [until 9]` (seconds); `hub knows ann before 5, the last` is the same
/// out of what is kept; `hub takes ann out of news`, `hub puts ann into news`, or `session 1` instead of a user.
pub(super) fn orders(verb: &str, text: &str) -> LaneMessage {
    let words: Vec<_> = text.trim_end_matches(", the last").split(' ').collect();
    let option = |name: &str| {
        let at = words.iter().position(|word| *word == name)?;
        words.get(at + 1)?.parse::<u64>().ok().map(|seconds| seconds * 1_000)
    };
    let whom = || match words[0] {
        "session" => Whom::Session(SessionId(words[1].parse().unwrap())),
        user => Whom::User(user.into()),
    };
    let in_room = || room(words.last().unwrap());
    let tokens = words[0].strip_prefix('#').map_or_else(
        || Tokens::Of { user: words[0].into(), before_unix_ms: option("before").unwrap_or(0) },
        |id| Tokens::Named(id.into()),
    );
    let until_unix_ms = option("until").unwrap_or(1 << 50);
    let revocation = Revocation { tokens, until_unix_ms };
    let order = match verb {
        "knows" => {
            let whole = text.ends_with(", the last");
            return LaneMessage::Revoked { revocations: [revocation].into(), whole };
        }
        "revoke" => Order::Revoke(revocation),
        "takes" => Order::Leave(in_room(), whom()),
        _ => Order::Enter(in_room(), whom()),
    };
    LaneMessage::Order { ticket: 1, order: order.into() }
}

#[test]
fn a_revocation_ends_the_sessions_with_older_tokens_and_refuses_these_from_then_on() {
    check(
        "1 opens as ann=3
         2 opens as ann=5
         3 opens as ann
         4 opens as ann^guests=3
         5 opens
         hub revoke ann before 5
         5 token ann=4
         6 opens
         6 token ann=5
         2 token ann=4",
        "1: welcome ann 1
         2: welcome ann 2
         3: welcome ann 3
         4: welcome ann 4
         1 closed 4001
         3 closed 4001
         hub carried out for 2
         5 closed 4001
         6: welcome ann 6
         2 closed 4001",
    );
}

#[test]
fn one_token_is_revoked_by_its_name_until_it_would_have_expired() {
    check(
        "1 opens as ann#t1
         2 opens as ann#t2
         hub revoke #t1 until 60
         at 59999
         3 opens
         3 token ann#t1
         at 60000
         4 opens
         4 token ann#t1",
        "1: welcome ann 1
         2: welcome ann 2
         1 closed 4001
         hub carried out for 1
         2: ping
         2 closed 4200
         3 closed 4001
         4: welcome ann 4",
    );
}

#[test]
fn a_token_that_was_good_at_the_handshake_and_is_revoked_before_the_session_begins_is_refused() {
    let mut world = World::new("");
    let opening = world.lane.admit(world.now, "ann=3", None).unwrap();
    world.lane.message(world.now, orders("revoke", "ann before 5"), &mut Vec::new());
    let mut out = Vec::new();
    let format = Format { dialect: &PLAIN, encoding: Encoding::Json };
    world.lane.open(world.now, SessionId(1), format, opening, &mut out);
    let closed =
        out.iter().any(|it| matches!(it, Effect::Close { close: Close::Unauthorized, .. }));
    assert!(closed, "{out:?}");
    assert_eq!(world.lane.sizes(), Sizes::default());
}

#[test]
fn tokens_are_taken_once_all_that_is_kept_is_known_and_not_after_orders_were_lost() {
    let mut world = World::new("");
    assert!(!world.lane.takes_tokens());
    let mut say = |message| {
        world.lane.message(world.now, message, &mut Vec::new());
        world.lane.takes_tokens()
    };
    assert!(!say(orders("knows", "bob before 5")));
    assert!(say(orders("knows", "ann before 5, the last")));
    assert!(!say(LaneMessage::Revalidate));
    assert!(say(orders("knows", "ann before 5, the last")));
    for name in ["bob=4", "ann=4"] {
        assert!(world.lane.admit(world.now, name, None).is_err(), "{name}");
    }
    assert!(world.lane.admit(world.now, "ann=5", None).is_ok());
}

#[test]
fn the_newest_time_of_a_users_revocations_counts() {
    check(
        "1 opens as ann=6
         hub revoke ann before 5
         hub revoke ann before 4
         2 opens
         2 token ann=4",
        "1: welcome ann 1
         hub carried out for 0
         hub carried out for 0
         2 closed 4001",
    );
}

#[test]
fn revocations_have_a_bound_beyond_which_the_first_to_end_goes_counted() {
    let mut world = World::new("");
    let mut revoke = |number: usize| {
        let until = 100_000 + number;
        let order = orders("revoke", &format!("#t{number} until {until}"));
        world.lane.message(world.now, order, &mut Vec::new());
        world.lane.counters().revoked_lost
    };
    for number in 1..=REVOKED_MAX {
        assert_eq!(revoke(number), 0);
    }
    assert_eq!(revoke(REVOKED_MAX + 1), 1);
    assert!(world.lane.admit(world.now, "ann#t1", None).is_ok());
    assert!(world.lane.admit(world.now, "ann#t2", None).is_err());
    assert!(world.lane.admit(world.now, &format!("ann#t{}", REVOKED_MAX + 1), None).is_err());
}

#[test]
fn sessions_are_taken_out_of_a_room_and_told_and_hear_nothing_of_it() {
    check(
        "1 opens as ann
         2 opens as ann
         3 opens as bob
         1 joins news
         2 joins tape
         3 joins news
         hub takes ann out of news
         hub takes session 3 out of news
         hub news hi
         hub tape hi at=1
         serve",
        "1: welcome ann 1
         2: welcome ann 2
         3: welcome bob 3
         1: joined news
         2: joined tape at 0
         3: joined news
         1: left news ordered
         hub carried out for 1
         3: left news ordered
         hub carried out for 1
         2: tape hi",
    );
}

#[test]
fn sessions_are_put_into_a_room_as_far_as_their_own_rights_let_them() {
    check(
        "1 opens as ann
         2 opens as ann+secret
         hub puts ann into secret
         hub puts session 1 into news
         hub puts session 1 into news
         hub news hi
         serve",
        "1: welcome ann 1
         2: welcome ann 2
         hub carried out for 1 not 1
         2: joined secret
         hub carried out for 1
         1: joined news
         hub carried out for 1
         1: news hi",
    );
}
