//! Requests that name several rooms: all or none, one answer.

use roomcast_protocol::codes::{Refusal, Refused};
use roomcast_protocol::command::{Command, RoomsRequest, RoomsVerb};

use super::check;
use crate::lane::behind::BEHIND_MAX;

/// `joins news,tape` or `leaves news,tape`; `joins x ?` names what means no room.
pub(super) fn command(rest: &str) -> Command {
    let (verb, rest) = rest.split_once(' ').unwrap_or((rest, ""));
    let (names, unknown) = rest.split_once(' ').unwrap_or((rest, ""));
    let named: Vec<Box<str>> =
        names.split(',').filter(|name| !name.is_empty()).map(Into::into).collect();
    let verb = if verb == "joins" { RoomsVerb::Join } else { RoomsVerb::Leave };
    let rooms = match unknown {
        "" => Ok(named.clone()),
        _ => Err(Refused::new(Refusal::BadName)),
    };
    Command::Rooms(Box::new(RoomsRequest { verb, named, rooms }))
}

/// The answer as scripts show it.
pub(super) fn shown(request: &RoomsRequest, refused: Option<&Refused>) -> String {
    let verb = match request.verb {
        RoomsVerb::Join => "joined",
        RoomsVerb::Leave => "left",
    };
    let names = if request.named.is_empty() { "nothing".into() } else { request.named.join(",") };
    match refused {
        None => format!("all {verb} {names}"),
        Some(refused) => format!("none {verb} {names}: {}", refused.message),
    }
}

/// Limits come first in a script.
fn opened(opening: &str, script: &str) -> String {
    let (limits, rest) = script.split_once('\n').unwrap_or((script, ""));
    match limits.starts_with("limits") {
        true => format!("{limits}\n{opening}\n{rest}"),
        false => format!("{opening}\n{script}"),
    }
}

#[track_caller]
fn ready(script: &str, expected: &str) {
    let script = opened("1 opens as ann", script);
    check(&script, &format!("1: welcome ann 1\n{expected}"));
}

#[track_caller]
fn manual(script: &str, expected: &str) {
    let script = opened("manual\n1 opens as ann", script);
    check(&script, &format!("1: welcome ann 1\n1 ready\n{expected}"));
}

#[test]
fn several_rooms_are_answered_once_all_are_live() {
    manual(
        "1 all joins news,newsletter
         hub joined newsletter
         hub newsletter early
         serve
         hub joined news
         hub news hi
         serve",
        "hub join news
         hub join newsletter
         1: newsletter early
         1: all joined news,newsletter
         1: news hi",
    );
}

#[test]
fn rooms_that_keep_publications_are_joined_with_the_others() {
    manual(
        "1 all joins tape,news
         hub joined tape at 4
         hub joined news
         hub tape hi pos=5
         serve",
        "hub join tape
         hub join news
         1: all joined tape,news
         1: tape hi @5",
    );
}

#[test]
fn an_inbox_is_joined_once_its_cursor_is_known() {
    manual(
        "1 all joins box,news; publishes news hi
         hub joined box at 9
         hub joined news
         hub inbox 1 box acked=9 head=9",
        "hub join box
         hub join news
         hub inbox? 1 box
         1: all joined box,news
         hub publish news hi by ann",
    );
}

#[test]
fn rooms_that_are_live_are_answered_at_once() {
    ready(
        "1 all joins news,tape
         sizes
         1 all joins tape,newsletter,news
         sizes",
        "1: all joined news,tape
         1 sessions, 2 rooms, 2 places
         1: all joined tape,newsletter,news
         1 sessions, 3 rooms, 3 places",
    );
}

#[test]
fn one_room_that_is_not_allowed_keeps_all_from_being_joined() {
    ready(
        "1 all joins news,secret,tape
         1 all joins news,nosuch
         sizes",
        "1: none joined news,secret,tape: Permission denied
         1: none joined news,nosuch: Permission denied
         1 sessions, 0 rooms, 0 places",
    );
}

#[test]
fn a_name_that_means_no_room_keeps_all_from_being_joined_or_left() {
    ready(
        "1 all joins news
         1 all joins tape,$control
         1 all leaves news,$control
         1 all joins tape ?
         1 all leaves news ?
         sizes",
        "1: all joined news
         1: none joined tape,$control: names that begin with `$` are the system's
         1: none left news,$control: names that begin with `$` are the system's
         1: none joined tape: That is not a valid room name
         1: none left news: That is not a valid room name
         1 sessions, 1 rooms, 1 places",
    );
}

#[test]
fn rooms_up_to_the_limit_are_joined_and_one_more_joins_none() {
    ready(
        "limits rooms=3
         1 all joins news1
         1 all joins news2,news3,news4
         1 all joins news1,news2,news3,news2
         1 all joins news1,news2
         sizes",
        "1: all joined news1
         1: none joined news2,news3,news4: The limit rooms_per_session is 3
         1: all joined news1,news2,news3,news2
         1: all joined news1,news2
         1 sessions, 3 rooms, 3 places",
    );
}

#[test]
fn no_rooms_at_all_are_joined_and_left() {
    ready("1 all joins; all leaves", "1: all joined nothing\n1: all left nothing");
}

#[test]
fn rooms_are_left_whether_one_was_in_them_or_not() {
    ready(
        "1 all joins news,tape
         hub news hi
         1 all leaves news,secret
         hub news unheard
         serve
         sizes",
        "1: all joined news,tape
         1: news hi
         1: all left news,secret
         1 sessions, 1 rooms, 1 places",
    );
}

#[test]
fn what_follows_waits_in_order_until_all_rooms_are_live() {
    manual(
        "1 all joins news,tape; all leaves news; all joins newsletter; pings 5; publishes tape hi
         hub joined tape at 0
         hub joined news
         hub joined newsletter
         sizes",
        "hub join news
         hub join tape
         1: pong 5
         1: all joined news,tape
         hub leave news
         1: all left news
         hub join newsletter
         1: all joined newsletter
         hub publish tape hi by ann
         1 sessions, 2 rooms, 2 places",
    );
}

#[test]
fn too_much_that_follows_is_refused_in_the_words_of_its_request() {
    let behind = "; pings 5; publishes tape hi".repeat(BEHIND_MAX);
    let pongs = "1: pong 5\n".repeat(BEHIND_MAX);
    manual(
        &format!("limits messages=1000\n1 all joins news{behind}; all leaves news"),
        &format!(
            "hub join news
             {pongs}
             1: none left news: Too many commands wait for a room to be joined"
        ),
    );
}

#[test]
fn a_right_that_is_lost_on_the_way_has_all_of_it_left_again() {
    check(
        "manual
         1 opens as ann+secret
         1 joins news
         hub joined news
         1 all joins news,newsletter,secret; leaves news
         hub joined newsletter
         1 token ann
         hub joined secret
         sizes",
        "1: welcome ann 1
         1 ready
         hub join news
         1: joined news
         hub join newsletter
         hub join secret
         1: refreshed until 1125899906842624
         hub leave newsletter
         1: none joined news,newsletter,secret: Permission denied
         hub leave news
         1: left news
         hub leave secret
         1 sessions, 0 rooms, 0 places",
    );
}

#[test]
fn a_right_to_a_room_that_was_live_already_is_lost_for_all() {
    check(
        "manual
         1 opens as ann+secret
         1 all joins secret,news
         hub joined secret
         1 token ann
         hub joined news
         sizes",
        "1: welcome ann 1
         1 ready
         hub join secret
         hub join news
         hub leave secret
         1: refreshed until 1125899906842624
         1: none joined secret,news: Permission denied
         hub leave news
         1 sessions, 0 rooms, 0 places",
    );
}

#[test]
fn while_the_broker_is_away_rooms_are_joined_and_the_position_is_not_told_again() {
    manual(
        "1 all joins tape,news
         hub joined news
         hub away tape
         hub joined tape at 7
         sizes",
        "hub join tape
         hub join news
         1: all joined tape,news
         1 sessions, 2 rooms, 2 places",
    );
}

#[test]
fn a_client_that_goes_before_its_answer_leaves_nothing_behind() {
    manual(
        "1 all joins news,tape; publishes news hi
         hub joined news
         1 gone
         hub joined tape at 0
         sizes",
        "hub join news
         hub join tape
         hub publish news hi by ann
         hub leave news
         hub leave tape
         0 sessions, 0 rooms, 0 places",
    );
}

#[test]
fn messages_count_against_the_limit_and_before_the_token_nothing_is_joined() {
    ready(
        "limits messages=1
         1 all joins news,tape
         1 all leaves news",
        "1: all joined news,tape
         1: none left news: The limit messages_per_minute is 1",
    );
    check(
        "1 opens
         1 all joins news",
        "1: none joined news: The first message must bring a token: {\"type\":\"auth\",\"token\":\"..\"}",
    );
}
