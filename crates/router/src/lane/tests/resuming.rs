//! Sessions that are resumed: records, wishes for a session, what it gets back, safe positions.

use super::check;
use crate::lane::lasting::JOINS_MAX;

#[test]
fn a_record_is_written_with_the_welcome_which_does_not_wait_for_it() {
    check(
        "silent
         1 opens lasting as ann knowing",
        "1: welcome ann 1 token 1.1
         hub save 1/1 attached with 1 [] own []",
    );
}

#[test]
fn sessions_of_dialects_that_do_not_resume_have_none() {
    check(
        "1 opens own as ann
         1 joins news
         wait 70000
         counted records",
        "1: welcome ann 1
         1: joined news
         1: ping
         1 closed 4200
         0 records",
    );
}

#[test]
fn changes_of_rooms_are_written_at_most_once_a_second() {
    check(
        "1 opens lasting as ann knowing
         at 200
         1 joins news-1
         1 joins tape
         at 999
         at 1000
         1 leaves news-1
         1 joins news-2
         at 1999
         at 2000
         at 5000",
        "1: welcome ann 1 token 1.1
         hub save 1/1 attached with 1 [] own []
         1: joined news-1
         1: joined tape at 0
         hub save 1/1 attached with 1 [news-1,tape@0] own []
         1: left news-1
         1: joined news-2
         hub save 1/1 attached with 1 [tape@0,news-2] own []",
    );
}

#[test]
fn own_rooms_stand_apart_where_they_keep_publications() {
    check(
        "kept
         1 opens lasting as ann%red knowing
         1 gone",
        "1: welcome ann 1 token 1.1
         1: joined user-ann at 0
         hub save 1/1 attached with 1 [] own [user-ann@0]
         hub save 1/1 detached with 1 [] own [user-ann@0], the last",
    );
}

#[test]
fn a_write_that_was_not_answered_is_made_again() {
    check(
        "silent
         1 opens lasting as ann knowing
         hub saved 1 unanswered
         at 4999
         at 5000
         counted failed-records",
        "1: welcome ann 1 token 1.1
         hub save 1/1 attached with 1 [] own []
         hub save 1/1 attached with 1 [] own []
         1 failed-records",
    );
}

#[test]
fn an_attached_record_is_renewed_each_half_window() {
    check(
        "limits window=20000 ping=1000000
         1 opens lasting as ann knowing
         at 9999
         at 20500
         at 30500
         at 40500",
        "1: welcome ann 1 token 1.1
         hub save 1/1 attached with 1 [] own []
         hub save 1/1 attached with 1 [] own []
         hub save 1/1 attached with 1 [] own []
         hub save 1/1 attached with 1 [] own []",
    );
}

#[test]
fn a_lane_that_was_late_writes_no_record_before_its_orders() {
    // An order that waits in its queue ends the session, also where the connection has gone meanwhile.
    let ends = [
        ("hub resume", "hub save 1/1 detached with 1 [] own [], the last"),
        (
            "hub disconnect bob\nhub resume",
            "hub carried out for 0\nhub save 1/1 detached with 1 [] own [], the last",
        ),
        ("hub disconnect ann\nhub resume", "hub carried out for 0"),
        ("hub stop", "2 closed 1001\nhub save 1/1 detached with 1 [] own [], the last"),
    ];
    for (end, expected) in ends {
        check(
            &format!(
                "1 opens lasting as ann knowing
                 2 opens as cid
                 asleep 1501
                 1 gone
                 {end}"
            ),
            &format!(
                "1: welcome ann 1 token 1.1
                 hub save 1/1 attached with 1 [] own []
                 2: welcome cid 2
                 hub late
                 {expected}"
            ),
        );
    }
}

#[test]
fn a_record_says_which_orders_its_lane_had_obeyed_when_it_was_written() {
    check(
        "1 opens lasting as ann knowing
         hub obeyed 4
         2 opens lasting as bob knowing
         2 gone
         asleep 1501
         1 gone
         hub obeyed 6
         hub resume
         hub obeyed 5
         3 opens lasting as cid knowing",
        "1: welcome ann 1 token 1.1
         hub save 1/1 attached with 1 [] own []
         2: welcome bob 2 token 2.2
         hub save 2/1 attached with 2 as of order 4 [] own []
         hub save 2/1 detached with 2 as of order 4 [] own [], the last
         hub late
         hub save 1/1 detached with 1 as of order 6 [] own [], the last
         3: welcome cid 3 token 3.3
         hub save 3/1 attached with 3 as of order 5 [] own []",
    );
}

#[test]
fn how_a_connection_ends_says_whether_its_session_can_be_resumed() {
    let ends = [
        ("1 gone", "detached with 1 [] own [], the last"),
        ("1 goodbye", "ended with 1, the last"),
        ("1 overflows", "detached with 1 [] own [], the last\n1 closed 4200"),
        ("hub disconnect ann", "ended with 1, the last\n1 closed 4101\nhub carried out for 1"),
        ("1 token bad", "ended with 1, the last\n1 closed 4001"),
        ("hub revalidate", "detached with 1 [] own [], the last\n1 closed 4300"),
        ("hub stop", "detached with 1 [] own [], the last\n1 closed 1001"),
        // After a fence it is no longer this attachment's to say.
        ("hub fence 1 2", "1 closed 4100"),
        ("hub fence 1 2 moved", "1 closed 4202"),
        ("hub fence 1 1", ""),
        ("hub fence 7 2", ""),
        ("hub saved 1 fenced", "1 closed 4100"),
        ("hub saved 1 ended", "1 closed 4101"),
    ];
    for (end, expected) in ends {
        let expected = expected.replace("detached", "hub save 1/1 detached");
        let expected = expected.replace("ended", "hub save 1/1 ended");
        check(
            &format!("1 opens lasting as ann knowing\n{end}"),
            &format!(
                "1: welcome ann 1 token 1.1\nhub save 1/1 attached with 1 [] own []\n{expected}"
            ),
        );
    }
}

#[test]
fn a_session_that_was_never_welcomed_leaves_no_record() {
    check(
        "manual
         1 opens lasting as ann knowing
         1 gone",
        "hub join user-ann
         hub join session-1",
    );
}

#[test]
fn a_resumed_session_is_asked_for_before_anything_of_it_begins() {
    check(
        "manual
         2 opens lasting as ann@7 resume=1.5
         2 joins news
         hub attached 2 as=1 rooms=news,tape@3 own=user-ann
         hub joined user-ann
         hub joined session-1
         hub joined news
         hub joined tape at 3",
        "hub attach 1.5 for ann with 1
         hub join user-ann
         hub join session-1
         hub join news
         hub join tape
         2: welcome ann 1 token 1.1 resumed
         hub agent 7 up
         2: joined news
         2: joined tape at 3 recovered
         hub save 1/2 attached with 1 unconfirmed [news,tape@3] own []
         2: ping 1
         2 ready
         2: joined news",
    );
}

/// Session 2 is resumed in `tape`, which stands at 9: its client says that it has 8, and has not acked 5.
#[track_caller]
fn known_to_8(script: &str, expected: &str) {
    let start = "manual
         2 opens lasting as ann resume=1.5 covered=tape@8
         hub attached 2 as=1 rooms=tape@4!5
         hub joined user-ann
         hub joined session-1
         hub joined tape at 9
         ";
    let seen = "hub attach 1.5 for ann with 1
         hub join user-ann
         hub join session-1
         hub join tape
         2: welcome ann 1 token 1.1 resumed
         2: joined tape at 8 recovered
         hub save 1/2 attached with 1 unconfirmed [tape@4!5] own []
         2: ping 1
         2 ready
         hub read 1 tape above 4
         ";
    check(&format!("{start}{script}"), &format!("{seen}{expected}"));
}

#[test]
fn who_has_got_more_than_it_has_acked_is_given_again_what_it_has_not() {
    known_to_8(
        "hub page 1 head=9 5:a* 6:b 7:c* 8:d 9:e whole
         2 acks a
         wait 25000
         2 gone",
        "2: again tape a @5
         2: again tape c @7
         2: tape e @9
         hub save 1/2 attached with 1 [tape@4!5] own []
         2: ping 2
         2: ping 3
         hub save 1/2 detached with 1 [tape@6!7] own [], the last
         hub leave user-ann
         hub leave session-1
         hub leave tape",
    );
}

#[test]
fn what_waits_for_its_ack_and_is_not_kept_any_more_is_no_gap_for_who_has_it() {
    known_to_8(
        "hub page 1 head=9 first=7 7:c* 8:d 9:e whole
         hub page 2 head=9 first=7 7:c* 8:d 9:e whole",
        "hub read 2 tape above 6
         2: again tape c @7
         2: tape e @9",
    );
    known_to_8(
        "hub page 1 head=9 first=9 9:e whole
         hub page 2 head=9 first=9 9:e whole",
        "hub read 2 tape above 8
         2: tape e @9",
    );
}

#[test]
fn missed_publications_come_from_the_clients_position_else_from_the_safe_one() {
    check(
        "manual
         2 opens lasting as ann resume=1.5 covered=tape-1@7,secret@1,news@4
         hub attached 2 as=1 rooms=tape-1@3,tape-2@4,tape-3,news
         hub joined user-ann
         hub joined session-1
         hub joined news
         hub joined tape-1 at 9
         hub joined tape-2 at 9
         hub joined tape-3 at 9
         hub page 1 head=9 8:a 9:b whole
         hub page 2 head=9 first=9 9:b whole",
        "hub attach 1.5 for ann with 1
         hub join user-ann
         hub join session-1
         hub join tape-1
         hub join tape-2
         hub join tape-3
         hub join news
         2: welcome ann 1 token 1.1 resumed
         hub save 1/2 attached with 1 unconfirmed [tape-1@7,tape-2@4,tape-3@9,news] own []
         2: joined news
         hub save 1/2 attached with 1 unconfirmed [tape-1@7,tape-2@4,tape-3@9,news] own []
         2: ping 1
         2 ready
         hub read 1 tape-1 above 7
         hub read 2 tape-2 above 4
         2: joined tape-3 at 9
         2: joined tape-1 at 7 recovered
         2: tape a @8 + tape b @9
         2: joined tape-2 at 9 too_old",
    );
}

#[test]
fn own_rooms_go_on_where_the_client_stood() {
    check(
        "kept
         manual
         2 opens lasting as ann resume=1.5
         hub attached 2 as=1 own=user-ann@3
         hub joined session-1
         hub joined user-ann at 5
         hub page 1 head=5 4:a 5:b whole",
        "hub attach 1.5 for ann with 1
         hub join user-ann
         hub join session-1
         2: welcome ann 1 token 1.1 resumed
         hub save 1/2 attached with 1 unconfirmed [] own [user-ann@3]
         2: ping 1
         2 ready
         hub read 1 user-ann above 3
         2: joined user-ann at 3 recovered
         2: tape a @4 + tape b @5",
    );
}

#[test]
fn what_the_token_does_not_allow_now_is_left_out_and_told() {
    check(
        "2 opens lasting as ann resume=1.5
         hub attached 2 as=1 rooms=secret,news,user-bob,role-red
         3 opens lasting as bob resume=4.5
         hub attached 3 as=4 rooms=secret
         3 gone",
        "hub attach 1.5 for ann with 1
         2: welcome ann 1 token 1.1 resumed
         2: joined news
         2: refused secret: Permission denied
         2: refused user-bob: Permission denied
         2: refused role-red: Permission denied
         hub save 1/2 attached with 1 unconfirmed [news] own []
         2: ping 1
         hub attach 4.5 for bob with 2
         3: welcome bob 4 token 4.2 resumed
         3: refused secret: Permission denied
         hub save 4/2 attached with 2 unconfirmed [] own []
         3: ping 1
         hub save 4/2 detached with 2 unconfirmed [] own [], the last",
    );
}

#[test]
fn the_limit_of_rooms_holds_for_a_resumed_session() {
    check(
        "limits rooms=4
         2 opens lasting as ann resume=1.5
         hub attached 2 as=1 rooms=news-1,news-2
         3 opens lasting as bob resume=4.5
         hub attached 3 as=4 rooms=news-1,news-2,news-3",
        "hub attach 1.5 for ann with 1
         2: welcome ann 1 token 1.1 resumed
         2: joined news-1
         2: joined news-2
         hub save 1/2 attached with 1 unconfirmed [news-1,news-2] own []
         2: ping 1
         hub attach 4.5 for bob with 2
         3: welcome bob 4 token 4.2 resumed
         3: joined news-1
         3: joined news-2
         3: refused news-3: The limit rooms_per_session is 4
         hub save 4/2 attached with 2 unconfirmed [news-1,news-2] own []
         3: ping 1",
    );
}

#[test]
fn a_room_from_before_that_is_not_live_does_not_hold_the_welcome_for_ever() {
    check(
        "manual
         2 opens lasting as ann resume=1.5
         hub attached 2 as=1 rooms=news,tape@3
         hub joined user-ann
         hub joined session-1
         at 4999
         at 5000
         2 leaves news
         hub joined tape at 3
         hub joined news
         sizes",
        "hub attach 1.5 for ann with 1
         hub join user-ann
         hub join session-1
         hub join news
         hub join tape
         2: welcome ann 1 token 1.1 resumed
         hub save 1/2 attached with 1 unconfirmed [news,tape@3] own []
         2: ping 1
         2 ready
         hub save 1/2 attached with 1 [news,tape@3] own []
         2: left news
         2: joined tape at 3 recovered
         hub leave news
         1 sessions, 3 rooms, 3 places",
    );
}

#[test]
fn a_wish_that_fails_begins_a_new_session() {
    for why in ["unknown", "token", "not_one", "unavailable"] {
        check(
            &format!("2 opens lasting as ann resume=1.5\nhub attached 2 {why}"),
            &format!(
                "hub attach 1.5 for ann with 1
                 2: welcome ann 2 token 2.1 not resumed: {why}
                 hub save 2/1 attached with 1 [] own []"
            ),
        );
    }
}

#[test]
fn a_wish_without_an_answer_begins_a_new_session_and_lets_go_what_comes_late() {
    check(
        "2 opens lasting as ann resume=1.5
         at 4999
         at 5000
         hub attached 2 as=1 gen=4 rooms=news attached
         counted unresumed",
        "hub attach 1.5 for ann with 1
         2: welcome ann 2 token 2.1 not resumed: unavailable
         hub save 2/1 attached with 1 [] own []
         hub save 1/4 detached with 1 unconfirmed [news] own [], the last
         [0, 0, 0, 1] unresumed",
    );
}

#[test]
fn a_client_that_goes_before_its_wish_is_answered_can_come_again() {
    check(
        "2 opens lasting as ann@7 resume=1.5
         2 gone
         hub attached 2 as=1 rooms=news
         3 opens lasting as ann resume=1.5
         hub disconnect ann
         hub attached 3 as=1 gen=3 rooms=news
         sizes",
        "hub attach 1.5 for ann with 1
         hub save 1/2 detached with 1 unconfirmed [news] own [], the last
         hub attach 1.5 for ann with 2
         3 closed 4101
         hub carried out for 1
         hub save 1/3 ended with 2 unconfirmed, the last
         0 sessions, 0 rooms, 0 places",
    );
}

#[test]
fn commands_wait_for_the_answer_and_a_token_may_expire_meanwhile() {
    check(
        "2 opens lasting as ann<2 resume=1.5
         2 publishes news hi
         2 pings x
         at 4999
         at 5000
         at 7250",
        "hub attach 1.5 for ann with 1
         2: pong x
         2: welcome ann 2 token 2.1 not resumed: unavailable
         hub save 2/1 attached with 1 [] own []
         hub publish news hi by ann at=1970-01-01T00:00:05.000Z
         2: expiring at 2000
         hub save 2/1 ended with 1, the last
         2 closed 4001",
    );
}

#[test]
fn clients_that_know_nothing_get_their_only_detached_session() {
    check(
        "2 opens stock as ann
         hub attached 2 as=1 rooms=news
         3 opens stock as bob
         hub attached 3 not_one
         4 opens stock
         4 token cid
         hub attached 4 unavailable",
        "hub attach any for ann with 1
         2: welcome ann 1 token 1.1 resumed
         2: joined news
         hub save 1/2 attached with 1 unconfirmed [news] own []
         2: ping 1
         hub attach any for bob with 2
         3: welcome bob 3 token 3.2
         hub save 3/1 attached with 2 [] own []
         hub attach any for cid with 3
         4: welcome cid 4 token 4.3
         hub save 4/1 attached with 3 [] own []",
    );
}

#[test]
fn clients_that_bring_a_continuation_are_not_given_what_they_did_not_ask_for() {
    check(
        "2 opens stock as ann knowing
         3 opens stock
         3 token bob hands-over",
        "2: welcome ann 2 token 2.1
         hub save 2/1 attached with 1 [] own []
         3: welcome bob 3 token 3.2
         hub save 3/1 attached with 2 [] own []",
    );
}

#[test]
fn joins_of_clients_that_cannot_join_again_are_answered_once_the_record_has_them() {
    check(
        "silent
         1 opens stock as ann
         hub attached 1 not_one
         1 joins news-1 #a; joins news-2 #b
         hub news-1 unheard
         hub saved 1
         1 joins news-3 #c
         hub saved 1
         serve
         hub saved 1
         1 joins secret #d
         1 joins news-1 #e",
        "hub attach any for ann with 1
         1: welcome ann 1 token 1.1
         hub save 1/1 attached with 1 [] own []
         hub save 1/1 attached with 1 [news-1,news-2] own []
         1: joined news-1 #a
         1: joined news-2 #b
         hub save 1/1 attached with 1 [news-1,news-2,news-3] own []
         1: joined news-3 #c
         1: refused secret #d: Permission denied
         1: joined news-1 #e",
    );
}

#[test]
fn a_join_is_made_all_the_same_if_the_broker_does_not_answer() {
    check(
        "silent
         1 opens stock as ann
         hub attached 1 not_one
         1 joins news
         hub saved 1 unanswered
         hub saved 1 unanswered
         at 4999
         at 5000",
        "hub attach any for ann with 1
         1: welcome ann 1 token 1.1
         hub save 1/1 attached with 1 [] own []
         hub save 1/1 attached with 1 [news] own []
         1: joined news
         hub save 1/1 attached with 1 [news] own []",
    );
}

#[test]
fn leaving_is_not_answered_before_the_join() {
    check(
        "silent
         1 opens stock as ann
         hub attached 1 not_one
         1 joins news
         1 leaves news
         hub saved 1
         at 1000",
        "hub attach any for ann with 1
         1: welcome ann 1 token 1.1
         hub save 1/1 attached with 1 [] own []
         1: joined news
         1: left news
         hub save 1/1 attached with 1 [] own []",
    );
}

#[test]
fn so_many_joins_wait_for_the_record_and_the_next_is_refused() {
    let joins = |count: usize| {
        let joins: String = (0..count).map(|_| "1 joins news\n".to_owned()).collect();
        format!("silent\n1 opens stock as ann!\nhub attached 1 not_one\n{joins}")
    };
    let begin = "hub attach any for ann with 1
                 1: welcome ann 1 token 1.1
                 hub save 1/1 attached with 1 [] own []";
    check(&joins(JOINS_MAX), begin);
    let refused = "1: refused news: Too many joins at once wait 1000";
    check(&joins(JOINS_MAX + 1), &format!("{begin}\n{refused}"));
}

#[test]
fn a_position_is_safe_once_a_ping_behind_it_is_answered() {
    check(
        "limits window=1000000
         1 opens lasting as ann knowing
         1 joins tape
         at 1000
         hub tape a pos=1
         serve
         at 26000
         hub tape b pos=2
         serve
         1 pongs 1
         1 gone",
        "1: welcome ann 1 token 1.1
         hub save 1/1 attached with 1 [] own []
         1: joined tape at 0
         hub save 1/1 attached with 1 [tape@0] own []
         1: tape a @1
         1: ping 1
         1: tape b @2
         hub save 1/1 detached with 1 [tape@1] own [], the last",
    );
}

#[test]
fn what_was_written_alone_is_given_again() {
    check(
        "1 opens lasting as ann knowing
         1 joins tape
         hub tape a pos=1
         serve
         1 heard
         1 gone",
        "1: welcome ann 1 token 1.1
         hub save 1/1 attached with 1 [] own []
         1: joined tape at 0
         1: tape a @1
         hub save 1/1 detached with 1 [tape@0] own [], the last",
    );
}

#[test]
fn a_second_join_does_not_say_that_the_first_ones_publications_came() {
    check(
        "1 opens lasting as ann knowing
         1 joins tape
         hub tape a pos=1
         serve
         1 joins tape
         1 gone",
        "1: welcome ann 1 token 1.1
         hub save 1/1 attached with 1 [] own []
         1: joined tape at 0
         1: tape a @1
         1: joined tape at 1
         hub save 1/1 detached with 1 [tape@0] own [], the last",
    );
}

#[test]
fn an_answered_ping_says_nothing_of_frames_that_were_let_go_in_front_of_it() {
    check(
        "limits window=1000000
         1 opens lasting as ann knowing
         1 joins tape
         at 1000
         hub tape a pos=1
         serve
         at 25000
         1 sheds tape@0
         1 pongs 1
         1 gone",
        "1: welcome ann 1 token 1.1
         hub save 1/1 attached with 1 [] own []
         1: joined tape at 0
         hub save 1/1 attached with 1 [tape@0] own []
         1: tape a @1
         1: ping 1
         hub read 1 tape above 0
         hub save 1/1 detached with 1 [tape@0] own [], the last",
    );
}

#[test]
fn a_ping_says_nothing_of_what_waits_in_the_lane() {
    check(
        "limits window=1000000
         1 opens lasting as ann knowing
         1 joins tape
         at 1000
         hub tape a pos=1
         serve
         hub tape b pos=2
         at 25000
         1 pongs 1
         1 gone",
        "1: welcome ann 1 token 1.1
         hub save 1/1 attached with 1 [] own []
         1: joined tape at 0
         hub save 1/1 attached with 1 [tape@0] own []
         1: tape a @1
         1: ping 1
         hub save 1/1 detached with 1 [tape@1] own [], the last",
    );
}

#[test]
fn whoever_joins_behind_what_waits_is_never_set_back() {
    check(
        "limits window=1000000
         2 opens as bob
         2 joins tape
         hub tape a pos=1
         serve
         hub tape b pos=2
         1 opens lasting as ann knowing
         1 joins tape
         at 25000
         1 pongs 1
         1 gone",
        "2: welcome bob 2
         2: joined tape at 0
         2: tape a @1
         1: welcome ann 1 token 1.1
         hub save 1/1 attached with 1 [] own []
         1: joined tape at 2
         hub save 1/1 attached with 1 [tape@2] own []
         2: ping
         1: ping 1
         hub save 1/1 detached with 1 [tape@2] own [], the last",
    );
}

#[test]
fn an_epoch_that_is_over_does_not_come_back_into_a_record() {
    check(
        "limits window=1000000
         1 opens lasting as ann knowing
         1 joins tape
         hub tape a pos=1
         serve
         hub tape b pos=2
         hub gap tape at e2.7
         1 joins tape
         at 25000
         1 pongs 1
         serve
         at 50000
         1 pongs 2
         1 gone",
        "1: welcome ann 1 token 1.1
         hub save 1/1 attached with 1 [] own []
         1: joined tape at 0
         1: tape a @1
         1: tape b @2 + gap tape at e2.7 too_old
         1: joined tape at e2.7
         hub save 1/1 attached with 1 [tape@0] own []
         1: ping 1
         1: ping 2
         hub save 1/1 detached with 1 [tape@e2.7] own [], the last",
    );
}

#[test]
fn a_client_that_is_never_silent_is_pinged_too_where_positions_move() {
    check(
        "limits window=1000000
         1 opens lasting as ann knowing
         1 joins tape
         1 joins news
         at 1000
         hub news x
         hub tape a pos=1
         serve
         at 24000
         1 heard
         at 25000
         1 heard
         1 pongs 1
         at 29999
         at 30000
         at 48000
         1 heard
         at 70000
         1 heard
         at 90000",
        "1: welcome ann 1 token 1.1
         hub save 1/1 attached with 1 [] own []
         1: joined tape at 0
         1: joined news
         hub save 1/1 attached with 1 [tape@0,news] own []
         1: news x
         1: tape a @1
         1: ping 1
         hub save 1/1 attached with 1 [tape@1,news] own []",
    );
}

#[test]
fn a_client_that_catches_up_has_what_it_was_given_of_it() {
    check(
        "limits window=1000000
         2 opens as bob
         2 joins tape
         hub tape x pos=9
         serve
         1 opens lasting as ann knowing
         1 joins tape since=1
         hub page 1 head=9 2:a 3:b
         at 9000
         1 gone",
        "2: welcome bob 2
         2: joined tape at 0
         2: gap tape at 8 feed + tape x @9
         1: welcome ann 1 token 1.1
         hub save 1/1 attached with 1 [] own []
         hub read 1 tape above 1
         1: joined tape at 1 recovered
         1: tape a @2 + tape b @3
         hub read 2 tape above 3
         hub save 1/1 attached with 1 [tape@1] own []
         hub save 1/1 detached with 1 [tape@1] own [], the last",
    );
}

#[test]
fn the_former_connection_is_told_at_once_unless_it_was_handed_over() {
    check(
        "2 opens lasting as ann resume=1.5
         hub attached 2 as=1 gen=3 attached
         3 opens lasting as bob resume=4.5
         hub attached 3 as=4 gen=3 handed
         3 pings x
         3 pings x
         counted resumed
         counted hand-overs",
        "hub attach 1.5 for ann with 1
         hub fence 1 3 on 9
         2: welcome ann 1 token 1.1 resumed
         hub save 1/3 attached with 1 unconfirmed [] own []
         2: ping 1
         hub attach 4.5 for bob with 2
         3: welcome bob 4 token 4.2 resumed
         hub save 4/3 attached with 2 unconfirmed [] own []
         3: ping 1
         hub save 4/3 attached with 2 [] own []
         hub fence 4 3 on 9 moved
         3: pong x
         3: pong x
         2 resumed
         1 hand-overs",
    );
}

#[test]
fn a_pong_proves_that_the_client_is_there_but_not_what_came_along_with_its_token() {
    check(
        "2 opens lasting
         2 token ann resume=1.5; publishes news a; publishes news b
         hub attached 2 as=1 handed
         2 pongs 1",
        "hub attach 1.5 for ann with 1
         2: welcome ann 1 token 1.1 resumed
         hub save 1/2 attached with 1 unconfirmed [] own []
         2: ping 1
         hub publish news a by ann
         hub publish news b by ann
         hub save 1/2 attached with 1 [] own []
         hub fence 1 2 on 9 moved",
    );
}

#[test]
fn a_connection_that_ends_before_it_was_proven_fences_nobody() {
    check(
        "2 opens lasting as ann resume=1.5
         hub attached 2 as=1 handed
         2 gone",
        "hub attach 1.5 for ann with 1
         2: welcome ann 1 token 1.1 resumed
         hub save 1/2 attached with 1 unconfirmed [] own []
         2: ping 1
         hub save 1/2 detached with 1 unconfirmed [] own [], the last",
    );
}

#[test]
fn a_fence_ends_former_connections_also_while_the_lane_holds() {
    check(
        "1 opens lasting as ann knowing
         1 joins news
         hub hold
         hub news late
         hub fence 1 2 moved
         hub resume
         serve
         sizes",
        "1: welcome ann 1 token 1.1
         hub save 1/1 attached with 1 [] own []
         1: joined news
         1 closed 4202
         0 sessions, 0 rooms, 0 places",
    );
}

#[test]
fn whoever_moved_is_given_first_what_is_under_way() {
    check(
        "1 opens lasting as ann knowing
         1 joins news
         hub news last
         hub fence 1 2 moved
         serve
         counted fenced",
        "1: welcome ann 1 token 1.1
         hub save 1/1 attached with 1 [] own []
         1: joined news
         1: news last
         1 closed 4202
         1 fenced",
    );
}

#[test]
fn a_resumed_connection_takes_the_place_of_the_one_before() {
    check(
        "limits connections=1
         1 opens lasting as ann knowing
         2 opens lasting as ann
         3 opens lasting as ann resume=1.1
         4 opens lasting as ann resume=1.1
         hub attached 3 as=1 attached
         hub fence 1 2
         5 opens lasting as ann
         5 opens lasting
         5 token ann",
        "1: welcome ann 1 token 1.1
         hub save 1/1 attached with 1 [] own []
         2 not admitted: full
         hub attach 1.1 for ann with 2
         4 not admitted: full
         hub fence 1 2 on 9
         3: welcome ann 1 token 1.2 resumed
         hub save 1/2 attached with 2 unconfirmed [] own []
         3: ping 1
         1 closed 4100
         5 not admitted: full
         5 closed 4201",
    );
}

#[test]
fn a_wish_in_vain_does_not_raise_the_limit_of_connections() {
    for outcome in ["unknown", "as=9"] {
        let saved = if outcome == "unknown" {
            ""
        } else {
            "hub save 9/2 detached with 2 unconfirmed [] own [], the last"
        };
        check(
            &format!(
                "limits connections=1
                 1 opens lasting as ann knowing
                 2 opens lasting
                 2 token ann resume=9.1
                 hub attached 2 {outcome}
                 sizes"
            ),
            &format!(
                "1: welcome ann 1 token 1.1
                 hub save 1/1 attached with 1 [] own []
                 hub attach 9.1 for ann with 2
                 {saved}
                 2 closed 4201
                 1 sessions, 2 rooms, 2 places"
            ),
        );
    }
}

#[test]
fn a_session_gone_on_makes_no_id_of_a_publication_twice() {
    let ids = |script: &str| {
        let mut world = super::World::new(script);
        script.lines().for_each(|line| world.step(line.trim()));
        world.made
    };
    let first = ids("1 opens lasting as ann knowing\n1 publishes news a");
    let second = ids("1 opens lasting as ann resume=1.1\nhub attached 1 as=1\n1 publishes news a");
    assert_eq!((first.len(), second.len()), (1, 1));
    assert_ne!(first, second);
}
