//! Rooms that keep publications: positions, skips, gaps (G3, G8, G11).

use super::check;

/// Sessions 1 and 2, which holds `x`, in `tape`, which stands at 4.
#[track_caller]
fn two_at_4(script: &str, expected: &str) {
    let start = "manual
         1 opens as ann
         2 opens as bob+x
         1 joins tape
         2 joins tape
         hub joined tape at 4
         ";
    let seen = "1: welcome ann 1
         1 ready
         2: welcome bob 2
         2 ready
         hub join tape
         1: joined tape at 4
         2: joined tape at 4
         ";
    check(&format!("{start}{script}"), &format!("{seen}{expected}"));
}

#[test]
fn a_join_of_a_live_room_is_answered_with_the_lanes_own_position() {
    two_at_4(
        "hub tape five pos=5
         hub tape six pos=6
         3 opens as cid
         3 joins tape #1
         hub tape seven pos=7
         serve",
        "3: welcome cid 3
         3 ready
         3: joined tape #1 at 6
         1: tape five @5 + tape six @6
         2: tape five @5 + tape six @6
         1: tape seven @7
         2: tape seven @7
         3: tape seven @7",
    );
}

#[test]
fn a_second_join_is_answered_behind_what_was_under_way() {
    two_at_4(
        "hub tape five pos=5
         1 joins tape #2
         1 joins tape #3 since=5
         hub tape six pos=6
         serve",
        "1: tape five @5
         1: joined tape #2 at 5
         1: joined tape #3 at 5 recovered
         2: tape five @5
         2: tape six @6
         1: tape six @6",
    );
}

#[test]
fn skips_of_a_room_are_told_before_the_next_push() {
    two_at_4(
        "hub tape five pos=5 ttl=1
         serve
         hub tape late pos=6 ttl=0
         hub unreadable tape at 7
         hub tape eight pos=8
         serve
         counted skipped
         counted encodings",
        "1: tape five @5
         2: tape five @5
         1: skip tape to 7 count 2 expired+unreadable + tape eight @8
         2: skip tape to 7 count 2 expired+unreadable + tape eight @8
         [2, 0, 2] skipped
         2 encodings",
    );
}

#[test]
fn skips_are_told_by_themselves_within_a_second() {
    two_at_4(
        "at 100
         hub unreadable tape at 5
         at 600
         hub unreadable tape at 6
         serve
         at 1100
         serve
         at 3000
         hub unreadable tape at 7
         hub tape eight pos=8
         serve
         wait 2000
         serve",
        "1: skip tape to 6 count 2 unreadable
         2: skip tape to 6 count 2 unreadable
         1: skip tape to 7 count 1 unreadable + tape eight @8
         2: skip tape to 7 count 1 unreadable + tape eight @8",
    );
}

#[test]
fn whoever_joins_is_not_told_what_was_skipped_before() {
    two_at_4(
        "hub unreadable tape at 5
         3 opens as cid
         3 joins tape
         hub unreadable tape at 6
         hub tape seven pos=7
         serve",
        "3: welcome cid 3
         3 ready
         3: joined tape at 5
         1: skip tape to 5 count 1 unreadable
         2: skip tape to 5 count 1 unreadable
         1: skip tape to 6 count 1 unreadable + tape seven @7
         2: skip tape to 6 count 1 unreadable + tape seven @7
         3: skip tape to 6 count 1 unreadable + tape seven @7",
    );
}

#[test]
fn whoever_leaves_is_told_what_it_skipped() {
    two_at_4(
        "hub unreadable tape at 5
         1 leaves tape
         hub tape six pos=6 requires=y
         serve
         2 leaves tape
         counted skipped",
        "1: skip tape to 5 count 1 unreadable
         1: left tape
         2: skip tape to 5 count 1 unreadable
         2: skip tape to 6 count 1 filtered
         hub leave tape
         2: left tape
         [0, 1, 2] skipped",
    );
}

#[test]
fn what_a_member_may_not_read_is_a_skip_of_its_own() {
    two_at_4(
        "hub tape five pos=5
         hub tape six pos=6 requires=x
         hub tape seven pos=7 requires=x
         hub tape eight pos=8
         serve
         counted encodings",
        "1: tape five @5
         2: tape five @5
         2: tape six @6
         2: tape seven @7
         1: skip tape to 7 count 2 filtered
         1: tape eight @8
         2: tape eight @8
         4 encodings",
    );
}

#[test]
fn skips_of_a_member_are_told_by_themselves_within_a_second() {
    two_at_4(
        "hub tape five pos=5 requires=x
         serve
         hub unreadable tape at 6
         hub tape seven pos=7 requires=x
         serve
         at 1000
         serve
         wait 3000
         serve",
        "2: tape five @5
         1: skip tape to 5 count 1 filtered
         1: skip tape to 6 count 1 unreadable
         2: skip tape to 6 count 1 unreadable
         2: tape seven @7
         1: skip tape to 7 count 1 filtered",
    );
}

#[test]
fn frames_with_positions_never_overtake_each_other() {
    check(
        "1 opens as ann
         1 joins tape
         hub tape one pos=1 class=low
         hub tape two pos=2 class=high
         hub tape other class=high
         serve
         2 opens as bob
         2 joins lowtape
         hub lowtape one pos=1 class=high
         hub unreadable lowtape at 2
         hub gap lowtape at 5
         hub lowtape six pos=6 requires=x
         serve
         wait 1000
         serve",
        "1: welcome ann 1
         1: joined tape at 0
         1: tape one @1 + tape two @2
         1: tape other !high
         2: welcome bob 2
         2: joined lowtape at 0
         2: lowtape one @1 + skip lowtape to 2 count 1 unreadable + gap lowtape at 5 too_old !low
         2: skip lowtape to 6 count 1 filtered !low",
    );
}

#[test]
fn outsiders_leave_positions_alone() {
    two_at_4(
        "hub tape outside
         hub unreadable tape at 5
         hub tape hidden requires=x
         hub tape six pos=6
         serve
         counted jumps",
        "1: tape outside
         2: tape outside
         2: tape hidden
         1: skip tape to 5 count 1 unreadable + tape six @6
         2: skip tape to 5 count 1 unreadable + tape six @6
         0 jumps",
    );
}

#[test]
fn a_gap_is_told_in_the_place_of_what_is_lost() {
    two_at_4(
        "hub tape five pos=5
         hub gap tape at 8
         hub tape nine pos=9
         hub gap tape at e2.9
         3 opens as cid
         3 joins tape
         hub tape ten pos=e2.10
         serve
         counted gaps",
        "3: welcome cid 3
         3 ready
         3: joined tape at e2.9
         1: tape five @5 + gap tape at 8 too_old + tape nine @9 + gap tape at e2.9 too_old
         2: tape five @5 + gap tape at 8 too_old + tape nine @9 + gap tape at e2.9 too_old
         1: tape ten @e2.10
         2: tape ten @e2.10
         3: tape ten @e2.10
         4 gaps",
    );
}

#[test]
fn what_is_covered_is_not_covered_again_and_no_hole_is_silent() {
    two_at_4(
        "hub tape four pos=4
         hub unreadable tape at 3
         hub gap tape at 2
         hub tape seven pos=7
         hub tape other pos=e3.9
         serve
         counted jumps",
        "1: gap tape at 6 feed + tape seven @7 + gap tape at e3.8 feed + tape other @e3.9
         2: gap tape at 6 feed + tape seven @7 + gap tape at e3.8 feed + tape other @e3.9
         5 jumps",
    );
}

#[test]
fn without_the_broker_a_join_is_answered_twice() {
    check(
        "manual
         1 opens as ann
         1 joins tape #1
         hub away tape
         1 joins tape #2 since=3
         2 opens as bob
         2 joins tape #3
         2 gone
         hub joined tape at 3
         hub tape four pos=4
         serve",
        "1: welcome ann 1
         1 ready
         hub join tape
         1: joined tape #1 not live
         1: joined tape #2 not live
         2: welcome bob 2
         2 ready
         2: joined tape #3 not live
         1: joined tape #1 at 3
         1: joined tape #2 at 3 recovered
         1: tape four @4",
    );
}

#[test]
fn a_room_left_while_the_broker_is_away_is_left() {
    check(
        "manual
         1 opens as ann
         1 joins tape #1
         1 leaves tape #2
         1 joins tape #3 since=3
         hub away tape
         1 leaves tape #4
         hub joined tape at 3
         sizes",
        "1: welcome ann 1
         1 ready
         hub join tape
         1: joined tape #1 not live
         1: left tape #2
         1: joined tape #3 not live
         1: left tape #4
         hub leave tape
         1 sessions, 0 rooms, 0 places",
    );
}

#[test]
fn own_rooms_that_cannot_be_live_do_not_keep_a_session_from_its_welcome() {
    check(
        "kept
         manual
         1 opens own as ann
         hub joined session-1
         hub away user-ann
         2 opens own as ann
         hub joined session-2
         hub joined user-ann at 7
         hub user-ann hi pos=8
         serve
         3 opens own as ann
         hub joined session-3
         sizes",
        "hub join user-ann
         hub join session-1
         1: welcome ann 1
         1 ready
         hub join session-2
         2: welcome ann 2
         2 ready
         1: joined user-ann at 7
         2: joined user-ann at 7
         1: user-ann hi @8
         2: user-ann hi @8
         hub join session-3
         3: welcome ann 3
         3: joined user-ann at 8
         3 ready
         3 sessions, 4 rooms, 6 places",
    );
}

#[test]
fn while_isolated_a_known_room_is_joined_at_its_position_and_not_live() {
    two_at_4(
        "hub isolated
         3 opens as cid
         3 joins tape since=4
         hub whole
         hub tape five pos=5
         serve",
        "1: degraded true
         2: degraded true
         3: welcome cid 3
         3: degraded true
         3 ready
         3: joined tape at 4 recovered not live
         1: degraded false
         2: degraded false
         3: degraded false
         1: tape five @5
         2: tape five @5
         3: tape five @5",
    );
}

#[test]
fn a_loss_in_ephemeral_rooms_does_not_concern_who_is_in_none() {
    two_at_4(
        "1 joins news
         hub joined news
         hub lagged",
        "hub join news
         1: joined news
         1: gap overload",
    );
}
