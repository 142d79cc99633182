//! Who is closed because its dialect has no words for a gap, or because it says nothing.

use super::check;

#[test]
fn at_a_gap_who_has_no_words_for_it_is_closed_and_the_others_are_told() {
    check(
        "manual
         1 opens as ann wordless
         2 opens as bob
         3 opens as cid wordless
         1 joins tape
         2 joins tape
         hub joined tape at 5
         hub tape six pos=6
         hub gap tape at 9
         serve
         sizes",
        "1: welcome ann 1
         1 ready
         2: welcome bob 2
         2 ready
         3: welcome cid 3
         3 ready
         hub join tape
         1: joined tape at 5
         2: joined tape at 5
         1 closed 4300
         2: tape six @6 + gap tape at 9 too_old
         2 sessions, 1 rooms, 1 places",
    );
}

#[test]
fn the_room_of_wordless_members_alone_ends_with_a_gap() {
    check(
        "manual
         1 opens as ann wordless
         2 opens as bob wordless
         1 joins tape
         2 joins tape
         hub joined tape at 5
         hub tape ten pos=10
         serve
         sizes",
        "1: welcome ann 1
         1 ready
         2: welcome bob 2
         2 ready
         hub join tape
         1: joined tape at 5
         2: joined tape at 5
         1 closed 4300
         hub leave tape
         2 closed 4300
         0 sessions, 0 rooms, 0 places",
    );
}

#[test]
fn a_gap_of_rooms_that_keep_nothing_closes_nobody() {
    check(
        "1 opens as ann wordless
         1 joins news
         hub lagged
         hub news one
         serve",
        "1: welcome ann 1
         1: joined news
         1: gap overload
         1: news one",
    );
}

#[test]
fn whose_inbox_cannot_be_asked_for_is_closed_if_nothing_can_be_told() {
    check(
        "inboxes
         manual
         1 opens as ann talking
         2 opens as ann own
         hub joined user-ann at 9
         hub joined session-1
         hub joined session-2
         at 5000
         hub user-ann ten pos=10
         serve",
        "hub join user-ann
         hub join session-1
         hub join session-2
         hub inbox? 1 user-ann
         1: welcome ann 1
         1 ready
         hub inbox? 2 user-ann
         2: welcome ann 2
         2 ready
         hub leave session-1
         1 closed 4300
         2: joined user-ann at 9 unavailable
         2: user-ann ten @10",
    );
}

#[test]
fn whose_page_cannot_be_read_is_closed_if_nothing_can_be_told() {
    check(
        "inboxes
         manual
         1 opens as ann talking
         hub joined user-ann at 9
         hub joined session-1
         hub inbox 1 user-ann acked=5 head=9
         hub page 1 none
         sizes",
        "hub join user-ann
         hub join session-1
         hub inbox? 1 user-ann
         1: welcome ann 1
         1 ready
         1: joined user-ann at 5 recovered
         hub read 1 user-ann above 5
         hub leave user-ann
         hub leave session-1
         1 closed 4300
         0 sessions, 0 rooms, 0 places",
    );
}

#[test]
fn what_was_removed_of_an_inbox_closes_nobody_for_coming_back_brings_nothing() {
    check(
        "inboxes
         manual
         1 opens as ann talking
         hub joined user-ann at 9
         hub joined session-1
         hub inbox 1 user-ann acked=2 head=9 first=6 lost=3
         hub page 1 in=user-ann head=9 first=6 6:a 7:b 8:c 9:d",
        "hub join user-ann
         hub join session-1
         hub inbox? 1 user-ann
         1: welcome ann 1
         1 ready
         1: joined user-ann at 5 too_old
         1: lost user-ann 3
         hub read 1 user-ann above 5
         1: user-ann a @6 + user-ann b @7 + user-ann c @8 + user-ann d @9",
    );
}

#[test]
fn an_inbox_that_begins_anew_closes_who_cannot_be_told() {
    check(
        "inboxes
         manual
         1 opens as ann talking
         hub joined user-ann at 9
         hub joined session-1
         hub inbox 1 user-ann acked=9 head=9
         hub gap user-ann at e2.9
         hub inbox 1 user-ann acked=e2.4 head=e2.9
         sizes",
        "hub join user-ann
         hub join session-1
         hub inbox? 1 user-ann
         1: welcome ann 1
         1 ready
         1: joined user-ann at 9 recovered
         hub inbox? 1 user-ann
         hub leave user-ann
         hub leave session-1
         1 closed 4300
         0 sessions, 0 rooms, 0 places",
    );
}

#[test]
fn who_joins_by_name_is_answered_that_something_is_missing() {
    check(
        "manual
         1 opens as ann wordless
         1 joins tape #1 since=2
         hub joined tape at 9
         hub page 1 none",
        "1: welcome ann 1
         1 ready
         hub join tape
         hub read 1 tape above 2
         1: joined tape #1 at 9 unavailable",
    );
}

#[test]
fn who_says_nothing_for_20_s_is_closed_whatever_its_pongs_say() {
    check(
        "1 opens as ann wordless
         at 1000
         1 pings
         at 20999
         1 heard
         sizes
         at 21000
         sizes",
        "1: welcome ann 1
         1: pong at 1000
         1 sessions, 0 rooms, 0 places
         1 silent since 1000
         0 sessions, 0 rooms, 0 places",
    );
}

#[test]
fn silence_counts_from_the_token_and_by_the_wall_clock() {
    check(
        "1 opens wordless
         at 3000
         1 token ann
         at 22999
         sizes
         at 23000",
        "1: welcome ann 1
         1 sessions, 0 rooms, 0 places
         1 silent since 3000",
    );
}

#[test]
fn other_dialects_may_say_nothing() {
    check(
        "1 opens as ann
         at 19000
         1 heard
         at 40000
         1 heard
         at 60000
         sizes",
        "1: welcome ann 1
         1 sessions, 0 rooms, 0 places",
    );
}
