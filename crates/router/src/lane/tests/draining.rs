//! Turns in which sessions go elsewhere when the node stops.

use super::check;

#[test]
fn sessions_have_their_turns_evenly_and_the_last_not_before_four_fifths_of_the_window() {
    check(
        "1 opens as u1
         2 opens as u2
         3 opens as u3
         4 opens as u4
         5 opens as u5
         6 opens as u6
         hub drain 6000 500
         at 999
         at 1000
         at 2000
         at 3000
         at 4000
         at 4999
         counted is-drained
         at 5000
         counted is-drained
         counted drained",
        "1: welcome u1 1
         2: welcome u2 2
         3: welcome u3 3
         4: welcome u4 4
         5: welcome u5 5
         6: welcome u6 6
         1 closed 1012
         2 closed 1012
         3 closed 1012
         4 closed 1012
         5 closed 1012
         drained: false
         6 closed 1012
         drained: true
         [0, 6, 0, 0] drained",
    );
}

#[test]
fn a_lane_that_was_late_goes_on_at_its_pace() {
    check(
        "1 opens as u1
         2 opens as u2
         3 opens as u3
         4 opens as u4
         hub drain 4000 500
         late 3000
         counted drained
         at 3899
         counted drained
         at 3900
         counted drained
         at 4900
         counted drained",
        "1: welcome u1 1
         2: welcome u2 2
         3: welcome u3 3
         4: welcome u4 4
         1 closed 1012
         hub late
         2 closed 1012
         [0, 2, 0, 0] drained
         [0, 2, 0, 0] drained
         3 closed 1012
         [0, 3, 0, 0] drained
         4 closed 1012
         [0, 4, 0, 0] drained",
    );
}

#[test]
fn a_lane_that_was_late_hastens_as_far_as_the_last_turn_needs() {
    check(
        "1 opens as u1
         2 opens as u2
         3 opens as u3
         4 opens as u4
         hub drain 4000 500
         late 7000
         at 7233
         counted drained
         at 7234
         at 7617
         counted is-drained",
        "1: welcome u1 1
         2: welcome u2 2
         3: welcome u3 3
         4: welcome u4 4
         1 closed 1012
         hub late
         2 closed 1012
         [0, 2, 0, 0] drained
         3 closed 1012
         4 closed 1012
         drained: true",
    );
}

#[test]
fn a_client_that_hands_over_is_told_once_its_turn_is_written_and_hears_on() {
    check(
        "silent
         1 opens lasting as ann hands-over
         1 joins news
         hub saved 1
         hub drain 1000 3000
         hub saved 1
         hub news still
         serve
         hub saved 1 fenced
         hub news here
         hub fence 1 2 moved
         counted drained
         counted is-drained",
        "1: welcome ann 1 token 1.1
         hub save 1/1 attached with 1 [] own []
         1: joined news
         hub save 1/1 attached with 1 turn 2 [news] own []
         1: drain 3000 with 1.2
         1: news still
         1: news here
         1 closed 4202
         [1, 0, 0, 0] drained
         drained: true",
    );
}

#[test]
fn a_client_that_does_not_go_in_its_time_is_closed_and_can_be_resumed() {
    check(
        "1 opens lasting as ann hands-over
         hub drain 1000 3000
         at 2999
         at 3000
         counted drained",
        "1: welcome ann 1 token 1.1
         hub save 1/1 attached with 1 [] own []
         hub save 1/1 attached with 1 turn 2 [] own []
         1: drain 3000 with 1.2
         hub save 1/1 detached with 1 [] own [], the last
         1 closed 1012
         [0, 0, 0, 1] drained",
    );
}

#[test]
fn one_that_was_taken_over_but_not_fenced_ends_as_moved_with_its_turn() {
    check(
        "silent
         1 opens lasting as ann hands-over
         hub saved 1
         hub drain 1000 3000
         hub saved 1
         1 joins news
         at 1000
         hub saved 1 fenced
         1 leaves news
         at 3000",
        "1: welcome ann 1 token 1.1
         hub save 1/1 attached with 1 [] own []
         hub save 1/1 attached with 1 turn 2 [] own []
         1: drain 3000 with 1.2
         1: joined news
         hub save 1/1 attached with 1 [news] own []
         1: left news
         1 closed 4202",
    );
}

#[test]
fn a_turn_that_cannot_be_written_is_none() {
    check(
        "silent
         1 opens lasting as ann hands-over
         hub saved 1
         hub drain 1000 3000
         hub saved 1 unanswered
         at 9000",
        "1: welcome ann 1 token 1.1
         hub save 1/1 attached with 1 [] own []
         hub save 1/1 attached with 1 turn 2 [] own []
         hub save 1/1 detached with 1 [] own [], the last
         1 closed 1012",
    );
}

#[test]
fn one_resumed_with_its_usual_token_in_its_turn_was_replaced() {
    check(
        "1 opens lasting as ann hands-over
         hub drain 1000 3000
         hub fence 1 2
         at 9000",
        "1: welcome ann 1 token 1.1
         hub save 1/1 attached with 1 [] own []
         hub save 1/1 attached with 1 turn 2 [] own []
         1: drain 3000 with 1.2
         1 closed 4100",
    );
}

#[test]
fn clients_that_come_back_only_if_they_are_dropped_are() {
    check(
        "1 opens dropped as ann
         2 opens lasting as bob knowing
         3 opens
         4 opens lasting as dan resume=9.9
         hub drain 4000 3000
         at 4000
         counted drained
         hub attached 4 as=9
         sizes",
        "1: welcome ann 1
         2: welcome bob 2 token 2.1
         hub save 2/1 attached with 1 [] own []
         hub attach 9.9 for dan with 2
         1 dropped 1012
         hub save 2/1 detached with 1 [] own [], the last
         2 closed 1012
         3 closed 1012
         4 closed 1012
         [0, 3, 1, 0] drained
         hub save 9/2 detached with 2 unconfirmed [] own [], the last
         0 sessions, 0 rooms, 0 places",
    );
}

#[test]
fn clients_that_said_how_their_session_goes_on_are_told_why_it_ends() {
    check(
        "1 opens stock as ann
         hub attached 1 unknown
         2 opens stock as bob knowing
         3 opens stock
         hub drain 3000 1000
         at 3000
         counted drained",
        "hub attach any for ann with 1
         1: welcome ann 1 token 1.1
         hub save 1/1 attached with 1 [] own []
         2: welcome bob 2 token 2.2
         hub save 2/1 attached with 2 [] own []
         hub save 1/1 detached with 1 [] own [], the last
         1 dropped 1012
         hub save 2/1 detached with 2 [] own [], the last
         2 closed 1012
         3 dropped 1012
         [0, 1, 2, 0] drained",
    );
}

#[test]
fn what_is_under_way_is_given_before_the_turn_ends() {
    check(
        "1 opens as ann
         1 joins news
         hub news last
         hub drain 1000 500",
        "1: welcome ann 1
         1: joined news
         1: news last
         1 closed 1012",
    );
}

#[test]
fn a_second_order_to_drain_changes_nothing_and_late_comers_have_the_last_turn() {
    check(
        "1 opens as ann
         2 opens as bob
         hub drain 1000 500
         3 opens as cid
         hub drain 9000 500
         at 500
         at 999
         at 1000
         counted is-drained",
        "1: welcome ann 1
         2: welcome bob 2
         1 closed 1012
         3: welcome cid 3
         2 closed 1012
         3 closed 1012
         drained: true",
    );
}

#[test]
fn a_connection_that_hands_over_counts_no_more_among_its_users() {
    check(
        "limits connections=1
         1 opens lasting as ann hands-over
         hub drain 1000 3000
         2 opens as ann
         1 gone
         3 opens as ann",
        "1: welcome ann 1 token 1.1
         hub save 1/1 attached with 1 [] own []
         hub save 1/1 attached with 1 turn 2 [] own []
         1: drain 3000 with 1.2
         2: welcome ann 2
         hub save 1/1 detached with 1 [] own [], the last
         3 not admitted: full",
    );
}
