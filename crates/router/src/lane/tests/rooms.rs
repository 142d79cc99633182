//! Joining and leaving.

use super::check;

const READY: &str = "1 opens as ann\n";
const MANUAL: &str = "manual\n1 opens as ann\n";

#[track_caller]
fn ready(script: &str, expected: &str) {
    check(&format!("{READY}{script}"), &format!("1: welcome ann 1\n{expected}"));
}

#[track_caller]
fn manual(script: &str, expected: &str) {
    check(&format!("{MANUAL}{script}"), &format!("1: welcome ann 1\n1 ready\n{expected}"));
}

#[test]
fn a_join_is_answered_before_the_first_push() {
    manual(
        "1 joins news #a
         hub news before
         hub joined news
         hub news after
         serve",
        "hub join news
         1: joined news #a
         1: news after",
    );
}

#[test]
fn a_second_join_is_answered_but_not_asked_of_the_hub() {
    manual(
        "1 joins news #1
         hub joined news
         1 joins news #2 since
         hub news hi
         serve",
        "hub join news
         1: joined news #1
         1: joined news #2 no_history
         1: news hi",
    );
}

#[test]
fn joins_of_one_room_ask_the_hub_once() {
    manual(
        "2 opens as bob
         1 joins news
         2 joins news
         hub joined news
         hub joined news",
        "2: welcome bob 2
         2 ready
         hub join news
         1: joined news
         2: joined news",
    );
}

#[test]
fn a_leave_is_answered_and_the_last_one_is_told_to_the_hub() {
    manual(
        "2 opens as bob
         1 joins news
         2 joins news
         hub joined news
         1 leaves news #3
         hub news hi
         serve
         2 leaves news
         sizes",
        "2: welcome bob 2
         2 ready
         hub join news
         1: joined news
         2: joined news
         1: left news #3
         2: news hi
         hub leave news
         2: left news
         2 sessions, 0 rooms, 0 places",
    );
}

#[test]
fn leaving_a_room_one_is_not_in_is_answered_alike() {
    ready("1 leaves news #1", "1: left news #1");
    ready(
        "2 opens as bob
         2 joins news
         1 leaves news
         hub news hi
         serve",
        "2: welcome bob 2
         2: joined news
         1: left news
         2: news hi",
    );
}

#[test]
fn steps_pipelined_before_the_room_is_live_are_answered_in_order() {
    manual(
        "1 joins news #1; leaves news #2; joins news #3
         hub joined news
         hub news hi
         serve",
        "hub join news
         1: joined news #1
         1: left news #2
         1: joined news #3
         1: news hi",
    );
    manual(
        "1 joins news #1; leaves news #2
         hub joined news
         hub news hi
         serve
         sizes",
        "hub join news
         1: joined news #1
         1: left news #2
         hub leave news
         1 sessions, 0 rooms, 0 places",
    );
    manual(
        "1 joins news #1; joins news #2; leaves news #3; leaves news #4
         hub joined news",
        "hub join news
         1: joined news #1
         1: joined news #2
         1: left news #3
         1: left news #4
         hub leave news",
    );
}

#[test]
fn a_room_left_before_it_is_live_does_not_count_against_the_limit() {
    check(
        "limits rooms=1
         manual
         1 opens as ann
         1 joins news; leaves news; joins news-2
         hub joined news
         hub joined news-2",
        "1: welcome ann 1
         1 ready
         hub join news
         1: joined news
         1: left news
         hub join news-2
         hub leave news
         1: joined news-2",
    );
}

#[test]
fn a_late_confirmation_of_a_room_nobody_wants_any_more_ends_it() {
    manual(
        "1 joins news\n1 gone\nhub joined news\nsizes",
        "hub join news\nhub leave news\n0 sessions, 0 rooms, 0 places",
    );
    manual("hub joined news\nsizes", "1 sessions, 0 rooms, 0 places");
}

#[test]
fn a_room_left_and_joined_again_at_once_waits_for_the_hub_anew() {
    manual(
        "1 joins news
         hub joined news
         1 leaves news; joins news
         hub news stale
         hub joined news
         hub news fresh
         serve",
        "hub join news
         1: joined news
         hub leave news
         1: left news
         hub join news
         1: joined news
         1: news fresh",
    );
}

#[test]
fn bad_names_are_refused_with_their_reason() {
    ready(
        "1 joins $control #1
         1 leaves a\u{200b}b
         1 publishes e\u{301} hi",
        "1: refused $control #1: names that begin with `$` are the system's
         1: refused a\u{200b}b: a room's name has a space, control, format or unassigned character
         1: refused e\u{301}: a room's name is not in Unicode normalisation form C (NFC)",
    );
}

#[test]
fn what_is_denied_reads_the_same_whether_the_room_exists_or_not() {
    ready(
        "2 opens as bob+secret
         2 joins secrets
         1 joins secrets
         1 joins secret-none
         1 joins unruled
         1 joins user-bob
         1 publishes secrets hi
         1 publishes secret-none hi
         1 publishes unruled hi",
        "2: welcome bob 2
         2: joined secrets
         1: refused secrets: Permission denied
         1: refused secret-none: Permission denied
         1: refused unruled: Permission denied
         1: refused user-bob: Permission denied
         1: refused secrets: Permission denied
         1: refused secret-none: Permission denied
         1: refused unruled: Permission denied",
    );
}

#[test]
fn the_last_room_passes_and_one_more_is_refused() {
    check(
        "limits rooms=2
         1 opens as ann
         1 joins news-1
         1 joins news-2
         1 joins news-3 #9
         1 joins news-2
         1 leaves news-1
         1 joins news-3",
        "1: welcome ann 1
         1: joined news-1
         1: joined news-2
         1: refused news-3 #9: The limit rooms_per_session is 2
         1: joined news-2
         1: left news-1
         1: joined news-3",
    );
}

#[test]
fn at_the_room_limit_denied_rooms_are_refused_like_others() {
    check(
        "limits rooms=1
         1 opens as ann
         1 joins news-1
         1 joins secrets",
        "1: welcome ann 1
         1: joined news-1
         1: refused secrets: The limit rooms_per_session is 1",
    );
}

#[test]
fn own_rooms_may_be_joined_by_name_while_in_them() {
    check(
        "1 opens own as ann%red
         1 joins user-ann
         1 joins role-red
         1 joins session-00000000000000000000000000000001
         1 leaves user-ann
         1 leaves role-red
         1 joins user-ann
         1 joins role-red
         1 joins user-bob
         1 joins role-blue",
        "1: welcome ann 1
         1: joined user-ann
         1: joined role-red
         1: joined session-00000000000000000000000000000001
         1: left user-ann
         1: left role-red
         1: refused user-ann: Permission denied
         1: joined role-red
         1: refused user-bob: Permission denied
         1: refused role-blue: Permission denied",
    );
}

#[test]
fn steps_that_wait_in_one_room_have_a_limit() {
    let joins = |count| format!("manual\n1 opens as ann!\n{}sizes", "1 joins news\n".repeat(count));
    let start = "1: welcome ann 1\n1 ready\nhub join news\n";
    let end = "1 sessions, 1 rooms, 0 places";
    check(&joins(super::super::rooms::WAITING_MAX), &format!("{start}{end}"));
    check(
        &joins(super::super::rooms::WAITING_MAX + 1),
        &format!("{start}1: refused news: Not possible at the moment\n{end}"),
    );
}

#[test]
fn a_closed_session_leaves_all_its_rooms() {
    ready(
        "1 joins news-1
         1 joins news-2
         2 opens own as ann
         2 joins news-1
         hub news-1 hi
         1 gone
         serve
         2 gone
         sizes",
        "1: joined news-1
         1: joined news-2
         2: welcome ann 2
         2: joined news-1
         2: news-1 hi
         0 sessions, 0 rooms, 0 places",
    );
}
