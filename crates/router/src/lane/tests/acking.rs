//! Publications that their members ack, or get again (G15).

use super::{World, check};
use crate::lane::acking::{ACKED_MEMBERS_MAX, FAILED_MAX};

/// Session 1 in `tape`, which stands at 9.
#[track_caller]
fn at_9(script: &str, expected: &str) {
    let limits = script.lines().next().filter(|line| line.starts_with("limits")).unwrap_or("");
    let start = "manual
         1 opens as ann
         1 joins tape
         hub joined tape at 9
         ";
    let seen = "1: welcome ann 1
         1 ready
         hub join tape
         1: joined tape at 9
         ";
    check(&format!("{limits}\n{start}{script}"), &format!("{seen}{expected}"));
}

#[test]
fn what_is_acked_is_not_given_again() {
    at_9(
        "hub tape a id=a pos=10 ack
         serve
         1 acks a
         wait 24000
         counted acked
         counted redelivered",
        "1: tape a @10
         1 acked
         0 redelivered",
    );
}

#[test]
fn an_ack_that_names_its_room_is_of_that_one_alone() {
    at_9(
        "1 joins tape-2
         hub joined tape-2 at 4
         hub tape-2 a id=a pos=5 ack
         hub tape a id=a pos=10 ack
         serve
         1 acks a of tape
         1 acks a of news
         1 acks a of $no-name
         counted acks-unknown
         wait 1250
         1 pongs
         wait 5000
         counted acked",
        "hub join tape-2
         1: joined tape-2 at 4
         1: tape-2 a @5
         1: tape a @10
         2 acks-unknown
         1: ping
         1: again tape-2 a @5
         1: ping
         1 acked",
    );
}

#[test]
fn what_is_not_acked_is_given_again_and_then_fails() {
    at_9(
        "hub tape a id=a pos=10 ack
         serve
         wait 1250
         1 pongs
         wait 4750
         wait 500
         1 pongs
         wait 5250
         1 pongs
         wait 5250
         1 pongs
         counted failed
         wait 5250
         counted failed
         counted redelivered
         wait 9000
         1 acks a
         counted acks-unknown
         failures",
        "1: tape a @10
         1: ping
         1: again tape a @10
         1: ping
         1: again tape a @10
         1: ping
         1: again tape a @10
         1: ping
         0 failed
         1 failed
         3 redelivered
         1 acks-unknown
         failed a in tape of 1",
    );
}

#[test]
fn the_time_runs_from_when_a_ping_behind_it_is_answered() {
    // The answer to an older ping proves nothing, nor does one that nobody sent.
    at_9(
        "at 25000
         hub tape a id=a pos=10 ack
         serve
         1 pongs
         wait 1250
         wait 8000
         1 pongs 7
         1 heard
         wait 6000
         counted redelivered
         1 pongs
         wait 4900
         counted redelivered
         wait 600
         counted redelivered",
        "1: ping
         1: tape a @10
         1: ping
         0 redelivered
         0 redelivered
         1: again tape a @10
         1: ping
         1 redelivered",
    );
}

#[test]
fn a_dialect_may_give_again_for_ever() {
    let mut script = "1 opens patient as ann\n1 joins must\nhub must a id=a\nserve\n".to_owned();
    script.push_str("wait 1250\n");
    for _ in 0..20 {
        script.push_str("1 pongs\nwait 5250\n");
    }
    script.push_str("counted redelivered\ncounted failed\n1 acks a\n1 pongs\nwait 20000\n");
    let mut expected = "1: welcome ann 1\n1: joined must\n1: must a\n1: ping\n".to_owned();
    for _ in 0..20 {
        expected.push_str("1: again must a\n1: ping\n");
    }
    expected.push_str("20 redelivered\n0 failed\n");
    check(&script, &expected);
}

#[test]
fn a_rule_requires_acks_of_all_publications() {
    check(
        "1 opens as ann
         2 opens as bob
         1 joins must
         2 joins must
         hub must a id=a
         serve
         1 acks a
         wait 1250
         2 pongs
         wait 5250",
        "1: welcome ann 1
         2: welcome bob 2
         1: joined must
         2: joined must
         1: must a
         2: must a
         2: ping
         2: again must a
         2: ping",
    );
}

#[test]
fn of_several_rooms_an_ack_means_the_oldest() {
    check(
        "1 opens as ann
         1 joins must
         1 joins mustkeep
         hub must a id=a
         serve
         hub mustkeep a id=a pos=1
         serve
         1 acks a
         wait 1250
         1 pongs
         wait 5250
         1 acks a
         1 acks a
         counted acked
         counted acks-unknown",
        "1: welcome ann 1
         1: joined must
         1: joined mustkeep at 0
         1: must a
         1: mustkeep a @1
         1: ping
         1: again mustkeep a @1
         1: ping
         2 acked
         1 acks-unknown",
    );
}

#[test]
fn who_leaves_or_loses_the_right_is_given_nothing_again() {
    check(
        "1 opens as ann+secret
         1 joins must
         1 joins secret
         hub must a id=a ack
         hub secret b id=b ack
         serve
         1 leaves must
         1 token ann
         wait 1250
         wait 8000
         1 acks a
         counted acks-unknown
         1 joins must
         hub must c id=c requires=x
         hub must d id=d
         serve
         1 token ann
         1 gone
         wait 9000
         sizes",
        "1: welcome ann 1
         1: joined must
         1: joined secret
         1: must a
         1: secret b
         1: left must
         1: refused secret: Permission denied
         1: refreshed until 1125899906842624
         1 acks-unknown
         1: joined must
         1: must d
         1: refreshed until 1125899906842624
         0 sessions, 0 rooms, 0 places",
    );
}

#[test]
fn what_expires_or_is_not_for_the_member_any_more_is_not_given_again() {
    check(
        "1 opens as ann+x
         1 joins must
         hub must a id=a ttl=3
         hub must b id=b requires=x
         hub must c id=c
         serve
         1 token ann
         wait 1250
         1 pongs
         wait 5250
         counted failed",
        "1: welcome ann 1
         1: joined must
         1: must a
         1: must b
         1: must c
         1: refreshed until 1125899906842624
         1: ping
         1: again must c
         1: ping
         0 failed",
    );
}

#[test]
fn nothing_is_given_again_while_orders_may_be_missing() {
    at_9(
        "hub tape a id=a pos=10 ack
         serve
         wait 1250
         1 pongs
         hub hold
         wait 6000
         counted redelivered
         hub resume
         wait 1250",
        "1: tape a @10
         1: ping
         0 redelivered
         1: again tape a @10
         1: ping",
    );
}

#[test]
fn at_the_limit_a_room_that_keeps_publications_is_parked() {
    at_9(
        "limits unacked=2
         hub tape a id=a pos=10 ack
         hub tape b id=b pos=11 ack
         serve
         counted parked-unacked
         hub tape free pos=12
         hub tape c id=c pos=13 ack
         hub tape d id=d pos=14
         serve
         counted parked-unacked
         hub tape e id=e pos=15
         serve
         sizes
         1 acks b
         hub page 1 head=15 13:c* 14:d 15:e
         hub tape f pos=16
         serve
         1 acks a
         1 acks c
         sizes",
        "1: tape a @10 + tape b @11
         0 parked-unacked
         1: tape free @12
         1 parked-unacked
         1 sessions, 1 rooms, 0 places
         hub read 1 tape above 12
         1: tape c @13 + tape d @14 + tape e @15
         1: tape f @16
         1 sessions, 1 rooms, 1 places",
    );
}

#[test]
fn a_page_ends_where_too_much_would_wait() {
    at_9(
        "limits unacked=4
         2 opens as bob
         2 joins tape #1 since=3
         hub page 1 head=9 4:a* 5:b* 6:c* 7:d* 8:e* 9:f
         2 joins tape #2
         2 joins tape #3 since=7
         2 joins tape #4 since=6
         hub page 2 head=9 7:d* 8:e* 9:f
         2 acks a
         2 acks b
         hub page 3 head=9 8:e* 9:f
         hub tape ten pos=10
         serve
         counted parked-unacked",
        "2: welcome bob 2
         2 ready
         hub read 1 tape above 3
         2: joined tape #1 at 3 recovered
         2: tape a @4 + tape b @5 + tape c @6 + tape d @7
         2: joined tape #2 at 7
         2: joined tape #3 at 7 recovered
         hub read 2 tape above 6
         2: joined tape #4 at 6 recovered
         2: tape d @7
         hub read 3 tape above 7
         2: tape e @8 + tape f @9
         1: tape ten @10
         2: tape ten @10
         2 parked-unacked",
    );
}

#[test]
fn joins_that_wait_for_a_page_are_answered_where_it_ends() {
    at_9(
        "limits unacked=1
         2 opens as bob
         2 joins tape #1 since=6
         2 joins tape #2
         hub page 1 head=9 7:a* 8:b* 9:c",
        "2: welcome bob 2
         2 ready
         hub read 1 tape above 6
         2: joined tape #1 at 6 recovered
         2: tape a @7
         2: joined tape #2 at 7",
    );
}

#[test]
fn a_parked_member_leaves_nothing_behind() {
    for end in ["1 leaves tape", "1 gone"] {
        let left = if end == "1 gone" { "" } else { "1: left tape\n" };
        let sessions = u8::from(end != "1 gone");
        at_9(
            &format!(
                "limits unacked=1
                 hub tape a id=a pos=10 ack
                 hub tape b id=b pos=11 ack
                 serve
                 {end}
                 wait 20000
                 sizes"
            ),
            &format!(
                "1: tape a @10
                 hub leave tape
                 {left}
                 {sessions} sessions, 0 rooms, 0 places"
            ),
        );
    }
}

#[test]
fn a_parked_room_that_begins_anew_is_told_and_goes_on() {
    at_9(
        "limits unacked=1
         hub tape a id=a pos=10 ack
         hub tape b id=b pos=11 ack
         serve
         hub gap tape at e2.11
         hub tape c pos=e2.12
         1 acks a
         hub page 1 head=e2.12 12:c
         hub tape d pos=e2.13
         serve",
        "1: tape a @10
         hub read 1 tape above 10
         1: gap tape at e2.12 epoch
         1: tape d @e2.13",
    );
}

#[test]
fn whoever_enters_again_is_given_no_more_than_may_wait() {
    at_9(
        "limits unacked=1
         hub tape a id=a pos=10 ack
         hub tape b id=b pos=11 ack
         1 joins tape #1
         1 token ann compressed
         1 acks a
         hub page 1 head=11 11:b*
         hub tape c id=c pos=12 ack
         1 token ann
         serve",
        "1: tape a @10
         1: joined tape #1 at 10
         1: z refreshed until 1125899906842624
         hub read 1 tape above 10
         1: z tape b @11
         1: z refreshed until 1125899906842624",
    );
    at_9(
        "limits unacked=1
         hub tape a id=a pos=10 ack
         hub tape b id=b pos=11 ack
         1 token ann compressed
         sizes
         1 acks a
         hub page 1 head=11 11:b*
         sizes",
        "1: tape a @10
         1: z refreshed until 1125899906842624
         1 sessions, 1 rooms, 0 places
         hub read 1 tape above 10
         1: z tape b @11
         1 sessions, 1 rooms, 1 places",
    );
}

#[test]
fn failing_makes_place_as_well() {
    at_9(
        "limits unacked=1
         hub tape a id=a pos=10 ack
         hub tape b id=b pos=11 ack
         serve
         wait 1250
         1 pongs
         wait 5250
         1 pongs
         wait 5250
         1 pongs
         wait 5250
         1 pongs
         wait 5250
         hub page 1 head=11 11:b*
         failures",
        "1: tape a @10
         1: ping
         1: again tape a @10
         1: ping
         1: again tape a @10
         1: ping
         1: again tape a @10
         1: ping
         hub read 1 tape above 10
         1: tape b @11
         failed a in tape of 1",
    );
}

#[test]
fn at_the_limit_the_oldest_of_ephemeral_rooms_fails() {
    check(
        "limits unacked=2
         1 opens as ann
         1 joins must
         1 joins mustkeep
         hub mustkeep k id=k pos=1
         serve
         hub must a id=a
         serve
         counted failed
         hub must b id=b
         serve
         counted failed
         counted unacked-max
         failures
         1 acks a
         1 acks b
         1 acks k
         counted acked",
        "1: welcome ann 1
         1: joined must
         1: joined mustkeep at 0
         1: mustkeep k @1
         1: must a
         0 failed
         1: must b
         1 failed
         1 unacked-max
         failed a in must of 1
         2 acked",
    );
}

#[test]
fn the_largest_room_that_takes_acks_has_a_bound() {
    for more in [0, 1] {
        let mut world = World::new("");
        for number in 0..ACKED_MEMBERS_MAX + more {
            world.step(&format!("{number} opens as u{number}"));
            world.step(&format!("{number} joins must"));
        }
        world.step("hub must a id=a");
        world.step("serve");
        world.seen.clear();
        world.step("0 acks a");
        world.step("counted acked");
        world.step("counted acks-ignored");
        assert_eq!(world.seen, [format!("{} acked", 1 - more), format!("{more} acks-ignored")]);
    }
}

#[test]
fn a_group_is_acked_however_many_of_its_members_a_lane_has() {
    let mut world = World::new("");
    for number in 0..=ACKED_MEMBERS_MAX {
        world.step(&format!("{number} opens as u{number}"));
        world.step(&format!("{number} joins mustkeep"));
    }
    world.step("hub joined mustkeep at 0");
    world.lane.rooms.iter_mut().for_each(|(_, room)| {
        room.stream.iter_mut().for_each(|stream| stream.group = Some(1));
    });
    world.step("hub mustkeep a id=a pos=1");
    world.step("serve");
    world.seen.clear();
    world.step("0 acks a");
    world.step("counted acked");
    world.step("counted acks-ignored");
    assert_eq!(world.seen, ["1 acked", "0 acks-ignored"]);
}

#[test]
fn what_leaves_in_one_write_leaves_one_by_one_for_who_said_some_of_it_or_may_have_no_more() {
    check(
        "limits unacked=2
         manual
         1 opens as ann
         2 opens as ann
         1 joins tape
         2 joins tape
         hub joined tape at 0
         hub tape one id=a pos=1 of=dialog-ann:bob@7 ack
         hub tape two id=b pos=2 of=dialog-ann:bob@8 said=1 ack
         hub tape three id=c pos=3 of=dialog-ann:bob@9 ack
         hub tape four id=d pos=4 of=dialog-ann:bob@10 ack
         serve
         counted parked-unacked
         1 acks a
         1 acks c
         hub page 1 head=4 4:d*",
        "1: welcome ann 1
         1 ready
         2: welcome ann 2
         2 ready
         hub join tape
         1: joined tape at 0
         2: joined tape at 0
         1: tape one @1
         1: skip tape to 2 count 1 own
         1: tape three @3
         2: tape one @1
         2: tape two @2
         2 parked-unacked
         hub read 1 tape above 3
         1: tape d @4",
    );
}

#[test]
fn failures_kept_for_the_shell_have_a_bound() {
    let mut world = World::new("limits unacked=1");
    world.step("limits unacked=1");
    world.step("1 opens as ann");
    world.step("1 joins must");
    for number in 0..FAILED_MAX + 2 {
        world.step(&format!("hub must a id=a{number}"));
        world.step("serve");
    }
    assert_eq!(world.lane.counters().delivery_failed, FAILED_MAX as u64 + 1);
    assert_eq!(world.lane.take_failed().len(), FAILED_MAX);
}

#[test]
fn a_record_says_that_what_waits_for_its_ack_is_given_once_more() {
    check(
        "silent
         manual
         1 opens stock as ann knowing
         1 joins tape
         hub joined tape at 9
         hub tape a pos=10
         hub tape b id=b pos=11 ack
         hub tape c pos=12
         serve
         wait 1250
         1 pongs
         1 gone",
        "1: welcome ann 1 token 1.1
         hub save 1/1 attached with 1 [] own []
         1 ready
         hub join tape
         1: joined tape at 9
         1: tape a @10
         1: tape b @11
         1: tape c @12
         hub save 1/1 attached with 1 [tape@9!11] own []
         1: ping 1
         hub save 1/1 detached with 1 [tape@10!11] own [], the last
         hub leave tape",
    );
}
