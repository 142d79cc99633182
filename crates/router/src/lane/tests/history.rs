//! Requests for what a room keeps.

use super::check;

#[track_caller]
fn ready(script: &str, expected: &str) {
    check(
        &format!("manual\n1 opens as ann\n{script}"),
        &format!("1: welcome ann 1\n1 ready\n{expected}"),
    );
}

#[test]
fn history_is_read_in_both_directions_page_by_page() {
    ready(
        "1 asks tape #1
         hub page 1 head=9 8:a 9:b
         1 asks tape #2 from=8 limit=2
         hub page 2 head=9 6:a 7:b
         1 asks tape #3 forward
         hub page 3 head=9 1:a 2:b
         1 asks tape #4 forward from=7
         hub page 4 head=9 whole 8:a 9:b
         1 asks tape #5 forward from=9
         hub page 5 head=9 whole
         counted histories",
        "hub read 1 tape below all
         1: history tape #1 backward [8,9] next 8
         hub read 2 tape below 8 limit 2
         1: history tape #2 backward [6,7] next 6
         hub read 3 tape above 0
         1: history tape #3 forward [1,2] next 2
         hub read 4 tape above 7
         1: history tape #4 forward [8,9]
         hub read 5 tape above 9
         1: history tape #5 forward []
         5 histories",
    );
}

#[test]
fn what_the_member_may_not_read_or_expired_is_taken_out() {
    ready(
        "at 1000
         1 asks tape
         hub page 1 head=9 5:a!x 6:b<900 7:c 8:? 9:d
         2 opens as bob+x
         2 asks tape
         hub page 2 head=9 5:a!x",
        "hub read 1 tape below all
         1: history tape backward [7,9] next 5
         2: welcome bob 2
         2 ready
         hub read 2 tape below all
         2: history tape backward [5] next 5",
    );
}

#[test]
fn history_needs_the_right_to_join_and_a_room_that_keeps_some() {
    ready(
        "1 asks secrets #1
         1 asks unruled #2
         1 asks news #3
         1 asks $control #4
         1 asks user-bob #5",
        "1: refused secrets #1: Permission denied
         1: refused unruled #2: Permission denied
         1: refused news #3: This room keeps no history
         1: refused $control #4: names that begin with `$` are the system's
         1: refused user-bob #5: Permission denied",
    );
}

#[test]
fn own_rooms_show_their_history_while_one_is_in_them() {
    check(
        "kept
         1 opens own as ann
         1 asks user-ann
         hub page 1 head=2 whole 1:a 2:b
         1 asks user-ann
         1 leaves user-ann
         hub page 2 head=2 whole 1:a 2:b",
        "1: welcome ann 1
         1: joined user-ann at 0
         hub read 1 user-ann below all
         1: history user-ann backward [1,2]
         hub read 2 user-ann below all
         1: left user-ann
         1: refused user-ann: Permission denied",
    );
}

#[test]
fn what_cannot_be_read_may_be_asked_for_again() {
    let text = "The history cannot be read at the moment wait 1000";
    ready(
        "1 asks tape #1\nhub page 1 none",
        &format!("hub read 1 tape below all\n1: refused tape #1: {text}"),
    );
    ready(
        "1 asks tape #1\nat 10000\nhub page 1 head=9 9:a",
        &format!("hub read 1 tape below all\n1: refused tape #1: {text}"),
    );
}

#[test]
fn histories_under_way_have_a_limit() {
    check(
        "limits histories=2
         1 opens as ann
         1 asks tape #1
         1 asks tape #2
         1 asks tape #3
         hub page 1 head=1 whole 1:a
         1 asks tape #4
         1 gone
         hub page 2 head=1 whole 1:a
         2 opens as bob
         2 asks tape #1",
        "1: welcome ann 1
         hub read 1 tape below all
         hub read 2 tape below all
         1: refused tape #3: The limit histories_per_session is 2
         1: history tape #1 backward [1]
         hub read 3 tape below all
         2: welcome bob 2
         hub read 4 tape below all",
    );
}
