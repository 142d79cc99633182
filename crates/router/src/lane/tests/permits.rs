//! Joins that a back-end has to allow: when it is asked, and what its answer does.

use std::collections::BTreeMap;

use roomcast_protocol::codes::{Refusal, Refused};
use roomcast_protocol::command::RoomsRequest;
use roomcast_protocol::ids::SessionKey;

use super::check;
use crate::lane::behind::BEHIND_MAX;
use crate::messages::LaneMessage;

/// `hub permits 1`, `hub denies 1`, or `hub denies 1 unavailable`: nobody could be asked.
pub(super) fn answered(keys: &BTreeMap<u32, SessionKey>, verb: &str, rest: &str) -> LaneMessage {
    let (number, why) = rest.split_once(' ').unwrap_or((rest, ""));
    let refusal = if why.is_empty() { Refusal::PermissionDenied } else { Refusal::Unavailable };
    let outcome = if verb == "permits" { Ok(()) } else { Err(Refused::new(refusal)) };
    LaneMessage::Permitted { session: keys[&number.parse().unwrap()], outcome }
}

pub(super) fn shown(number: u32, request: &RoomsRequest) -> String {
    let names = if request.named.is_empty() { "nothing".into() } else { request.named.join(",") };
    format!("{number} asks for {names}")
}

#[track_caller]
fn asking(script: &str, expected: &str) {
    let (limits, rest) = script.split_once('\n').unwrap_or((script, ""));
    let script = match limits.starts_with("limits") {
        true => format!("{limits}\n1 opens asking as ann\n{rest}"),
        false => format!("1 opens asking as ann\n{script}"),
    };
    check(&script, &format!("1: welcome ann 1\n{expected}"));
}

#[test]
fn rooms_are_joined_once_the_back_end_has_allowed_all_of_them() {
    asking(
        "1 all joins news,tape
         hub news unheard
         sizes
         hub permits 1
         hub news heard
         serve
         sizes",
        "1 asks for news,tape
         1 sessions, 0 rooms, 0 places
         1: all joined news,tape
         1: news heard
         1 sessions, 2 rooms, 2 places",
    );
}

#[test]
fn what_it_denies_or_what_nobody_could_ask_joins_nothing() {
    asking(
        "1 all joins news,tape
         hub denies 1
         1 all joins news
         hub denies 1 unavailable
         sizes",
        "1 asks for news,tape
         1: none joined news,tape: Permission denied
         1 asks for news
         1: none joined news: Not possible at the moment
         1 sessions, 0 rooms, 0 places",
    );
}

#[test]
fn it_is_not_asked_for_what_a_rule_a_name_or_a_limit_keeps_from_being_joined() {
    asking(
        "limits rooms=2
         1 all joins news,secret
         1 all joins news ?
         1 all joins news1,news2,news3
         1 all joins news1,news2",
        "1: none joined news,secret: Permission denied
         1: none joined news: That is not a valid room name
         1: none joined news1,news2,news3: The limit rooms_per_session is 2
         1 asks for news1,news2",
    );
}

#[test]
fn a_room_that_is_for_the_back_end_alone_is_joined_by_its_word_and_by_nobody_else() {
    check(
        "1 opens asking as ann
         2 opens as bob
         1 all joins called,news
         hub permits 1
         2 all joins called
         2 joins called
         1 token ann
         hub called hi
         serve
         sizes",
        "1: welcome ann 1
         2: welcome bob 2
         1 asks for called,news
         1: all joined called,news
         2: none joined called: Permission denied
         2: refused called: Permission denied
         1: refreshed until 1125899906842624
         1: called hi
         2 sessions, 2 rooms, 2 places",
    );
}

#[test]
fn it_is_asked_again_for_rooms_one_is_in_and_for_no_rooms_at_all() {
    asking(
        "1 all joins news
         hub permits 1
         1 all joins news
         hub denies 1
         1 all joins
         hub permits 1
         1 all joins
         hub denies 1
         sizes",
        "1 asks for news
         1: all joined news
         1 asks for news
         1: none joined news: Permission denied
         1 asks for nothing
         1: all joined nothing
         1 asks for nothing
         1: none joined nothing: Permission denied
         1 sessions, 1 rooms, 1 places",
    );
}

#[test]
fn a_room_that_is_named_alone_is_never_joined_past_it() {
    asking(
        "1 joins news; joins called",
        "1: refused news: Permission denied
         1: refused called: Permission denied",
    );
}

#[test]
fn what_follows_waits_in_order_and_keep_alives_do_not() {
    asking(
        "1 all joins news; all leaves news; all joins tape; publishes news hi; pings 5
         hub permits 1
         hub permits 1
         sizes",
        "1 asks for news
         1: pong 5
         1: all joined news
         1: all left news
         1 asks for tape
         1: all joined tape
         hub publish news hi by ann
         1 sessions, 1 rooms, 1 places",
    );
}

#[test]
fn what_follows_waits_on_until_the_rooms_are_live() {
    asking(
        "manual
         1 all joins news; all leaves news
         hub permits 1
         hub joined news",
        "1 asks for news
         hub join news
         1: all joined news
         hub leave news
         1: all left news",
    );
}

#[test]
fn what_follows_a_denied_join_is_run_as_well() {
    asking(
        "1 all joins news; publishes news hi; all leaves news
         hub denies 1",
        "1 asks for news
         1: none joined news: Permission denied
         hub publish news hi by ann
         1: all left news",
    );
}

#[test]
fn too_much_that_follows_is_refused() {
    let behind = "; publishes news hi".repeat(BEHIND_MAX);
    asking(
        &format!("limits messages=1000\n1 all joins news{behind}; all leaves news"),
        "1 asks for news
         1: none left news: Too many commands wait for a room to be joined",
    );
}

#[test]
fn a_right_that_is_lost_meanwhile_joins_nothing() {
    check(
        "1 opens asking as ann+secret
         1 all joins secret,news
         1 token ann
         hub permits 1
         sizes",
        "1: welcome ann 1
         1 asks for secret,news
         1: refreshed until 1125899906842624
         1: none joined secret,news: Permission denied
         1 sessions, 0 rooms, 0 places",
    );
}

#[test]
fn an_answer_to_nobody_or_to_nothing_does_nothing() {
    asking(
        "1 all joins news; publishes news last
         1 gone
         2 opens asking as bob
         hub permits 1
         hub permits 2
         sizes",
        "1 asks for news
         hub publish news last by ann
         2: welcome bob 2
         1 sessions, 0 rooms, 0 places",
    );
}

#[test]
fn a_node_that_stops_or_drains_does_not_wait_for_it() {
    asking(
        "1 all joins news
         hub drain 100 1000
         wait 300
         hub permits 1
         sizes",
        "1 asks for news
         1 closed 1012
         0 sessions, 0 rooms, 0 places",
    );
    asking(
        "1 all joins news
         hub stop
         hub permits 1
         sizes",
        "1 asks for news
         1 closed 1001
         0 sessions, 0 rooms, 0 places",
    );
}

#[test]
fn while_orders_may_be_missing_rooms_are_joined_and_nothing_is_given() {
    asking(
        "1 all joins news
         hub hold
         hub permits 1
         hub news late
         serve
         hub resume
         serve",
        "1 asks for news
         1: all joined news
         1: news late",
    );
}
