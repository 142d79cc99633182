//! Members that are told what they missed (G12).

use super::check;

/// Session 1 in `tape`, which stands at 9; session 2, which holds `x`, is in no room.
#[track_caller]
fn at_9(script: &str, expected: &str) {
    let start = "manual
         1 opens as ann
         2 opens as bob+x
         1 joins tape
         hub joined tape at 9
         ";
    let seen = "1: welcome ann 1
         1 ready
         2: welcome bob 2
         2 ready
         hub join tape
         1: joined tape at 9
         ";
    check(&format!("{start}{script}"), &format!("{seen}{expected}"));
}

#[test]
fn who_missed_nothing_is_a_member_at_once() {
    at_9(
        "2 joins tape #1 since=9
         hub tape ten pos=10
         serve
         counted recovered",
        "2: joined tape #1 at 9 recovered
         1: tape ten @10
         2: tape ten @10
         1 recovered",
    );
}

#[test]
fn what_was_missed_comes_in_order_then_live() {
    at_9(
        "2 joins tape #1 since=6
         hub tape ten pos=10
         hub page 1 head=11 whole 7:a 8:b 9:c 10:d 11:e
         hub tape eleven pos=11
         serve
         counted recovered
         sizes",
        "hub read 1 tape above 6
         2: joined tape #1 at 6 recovered
         2: tape a @7 + tape b @8 + tape c @9 + tape d @10
         1: tape ten @10
         1: tape eleven @11
         2: tape eleven @11
         1 recovered
         2 sessions, 1 rooms, 2 places",
    );
}

#[test]
fn what_may_not_or_cannot_be_given_is_skipped() {
    at_9(
        "at 1000
         2 joins tape since=2
         1 joins tape since=2
         hub page 1 head=9 3:a!x 4:b<900 5:? 6:c 7:d!y 8:e 9:f!y
         serve
         counted skipped",
        "hub read 1 tape above 2
         2: joined tape at 2 recovered
         2: tape a @3
         2: skip tape to 5 count 2 expired+unreadable
         2: tape c @6
         2: skip tape to 7 count 1 filtered
         2: tape e @8
         2: skip tape to 9 count 1 filtered
         1: joined tape at 2 recovered
         1: skip tape to 5 count 3 expired+filtered+unreadable
         1: tape c @6
         1: skip tape to 7 count 1 filtered
         1: tape e @8
         1: skip tape to 9 count 1 filtered
         [2, 5, 2] skipped",
    );
}

#[test]
fn a_page_that_ends_below_the_lanes_position_is_followed_by_another() {
    at_9(
        "2 joins tape since=5
         hub page 1 head=9 6:a 7:b
         hub tape ten pos=10
         hub page 2 head=9 8:c 9:d
         hub page 3 head=10 10:e
         hub tape eleven pos=11
         serve",
        "hub read 1 tape above 5
         2: joined tape at 5 recovered
         2: tape a @6 + tape b @7
         hub read 2 tape above 7
         2: tape c @8 + tape d @9
         hub read 3 tape above 9
         2: tape e @10
         1: tape ten @10
         1: tape eleven @11
         2: tape eleven @11",
    );
}

#[test]
fn who_cannot_be_given_all_is_told_why_and_goes_on_live() {
    for (since, page, why) in [
        ("3", "head=9 first=6 whole 6:a 7:b 8:c 9:d", "too_old"),
        ("10", "head=9 whole", "ahead"),
        ("e7.9", "head=9 whole", "epoch"),
        ("8", "head=e2.9 whole 9:a", "epoch"),
        ("e2.9", "head=e2.9 whole", "epoch"),
        ("6", "head=9 first=7 7:a e2.8:b e2.9:c", "epoch"),
        ("6", "head=9 first=7 7:a 9:c", "too_old"),
        ("6", "head=9 first=7", "unavailable"),
        ("6", "none", "unavailable"),
    ] {
        let from = since.rsplit('.').next().unwrap();
        at_9(
            &format!(
                "2 joins tape since={since}
                 hub page 1 {page}
                 hub tape ten pos=10
                 serve
                 counted unrecovered"
            ),
            &format!(
                "hub read 1 tape above {from}
                 2: joined tape at 9 {why}
                 1: tape ten @10
                 2: tape ten @10
                 1 unrecovered"
            ),
        );
    }
}

#[test]
fn who_is_ahead_of_the_lane_hears_nothing_until_it_is_met() {
    at_9(
        "2 joins tape since=11
         hub page 1 head=12 whole 12:a
         hub tape ten pos=10
         hub unreadable tape at 11
         hub tape twelve pos=12
         serve",
        "hub read 1 tape above 11
         2: joined tape at 11 recovered
         1: tape ten @10 + skip tape to 11 count 1 unreadable
         1: tape twelve @12
         2: tape twelve @12",
    );
    at_9(
        "2 joins tape since=11
         hub page 1 head=12 whole 12:a
         hub gap tape at 11
         2 leaves tape
         2 joins tape since=13
         hub page 2 head=13 whole
         hub gap tape at 14
         hub page 3 head=14 whole 14:e
         hub tape end pos=15
         serve",
        "hub read 1 tape above 11
         2: joined tape at 11 recovered
         2: left tape
         hub read 2 tape above 13
         2: joined tape at 13 recovered
         hub read 3 tape above 13
         2: tape e @14
         1: gap tape at 11 too_old
         1: gap tape at 14 too_old
         1: tape end @15
         2: tape end @15",
    );
}

#[test]
fn who_is_ahead_is_never_sent_back() {
    at_9(
        "2 joins tape since=11
         hub page 1 head=12 whole 12:a
         2 joins tape #2
         2 joins tape #3 since=5
         2 leaves tape #4
         2 joins tape #5 since=11
         hub page 2 head=12 whole 12:a
         at 20000
         hub gap tape at 10
         hub tape eleven pos=11
         hub tape twelve pos=12
         serve",
        "hub read 1 tape above 11
         2: joined tape at 11 recovered
         2: joined tape #2 at 11
         2: joined tape #3 at 11 unavailable
         2: left tape #4
         hub read 2 tape above 11
         2: joined tape #5 at 11 recovered
         1: gap tape at 10 too_old + tape eleven @11
         1: tape twelve @12
         2: tape twelve @12",
    );
}

#[test]
fn an_epoch_that_ends_meanwhile_is_told() {
    at_9(
        "2 joins tape since=5
         hub page 1 head=9 6:a
         hub gap tape at e2.9
         hub page 2 head=9 7:b 8:c 9:d
         hub tape ten pos=e2.10
         serve",
        "hub read 1 tape above 5
         2: joined tape at 5 recovered
         2: tape a @6
         hub read 2 tape above 6
         2: gap tape at e2.9 epoch
         1: gap tape at e2.9 too_old
         1: tape ten @e2.10
         2: tape ten @e2.10",
    );
    at_9(
        "2 joins tape since=5
         hub gap tape at e2.9
         hub page 1 head=e2.9 6:a
         serve",
        "hub read 1 tape above 5
         2: joined tape at e2.9 epoch
         1: gap tape at e2.9 too_old",
    );
}

#[test]
fn what_is_trimmed_meanwhile_is_told() {
    at_9(
        "2 joins tape since=5
         hub page 1 head=9 6:a
         hub page 2 head=9 first=8 8:c 9:d
         hub page 3 head=9 first=8 8:c 9:d
         hub tape ten pos=10
         serve
         counted gaps",
        "hub read 1 tape above 5
         2: joined tape at 5 recovered
         2: tape a @6
         hub read 2 tape above 6
         2: gap tape at 7 too_old
         hub read 3 tape above 7
         2: tape c @8 + tape d @9
         1: tape ten @10
         2: tape ten @10
         1 gaps",
    );
}

#[test]
fn who_takes_too_long_goes_on_live() {
    at_9(
        "2 joins tape since=5
         3 opens as cid
         3 joins tape since=5
         at 9000
         hub page 1 head=9 6:a
         at 9740
         3 gone
         at 10000
         hub page 2 head=9 7:b 8:c 9:d
         hub tape ten pos=10
         serve
         at 30000
         sizes",
        "hub read 1 tape above 5
         3: welcome cid 3
         3 ready
         2: joined tape at 5 recovered
         2: tape a @6
         3: joined tape at 5 recovered
         3: tape a @6
         hub read 2 tape above 6
         2: gap tape at 9 unavailable
         1: tape ten @10
         2: tape ten @10
         1: ping
         2: ping
         2 sessions, 1 rooms, 2 places",
    );
    at_9(
        "2 joins tape since=5
         at 10000
         hub page 1 head=9 6:a 7:b 8:c 9:d
         hub tape ten pos=10
         serve",
        "hub read 1 tape above 5
         2: joined tape at 9 unavailable
         1: tape ten @10
         2: tape ten @10",
    );
}

#[test]
fn pages_of_one_catch_up_have_a_bound() {
    let rounds = super::super::catching::ROUNDS_MAX;
    let (mut script, mut expected) = (String::new(), String::new());
    script.push_str("1 opens as ann\n1 joins tape\nhub gap tape at 1000\n2 opens as bob\n");
    script.push_str("serve\n2 joins tape since=0\n");
    expected.push_str("1: welcome ann 1\n1: joined tape at 0\n2: welcome bob 2\n");
    expected.push_str("1: gap tape at 1000 too_old\nhub read 1 tape above 0\n");
    expected.push_str("2: joined tape at 0 recovered\n");
    for round in 1..=rounds {
        script.push_str(&format!("hub page {round} head=1000 {round}:a\n"));
        expected.push_str(&format!("2: tape a @{round}\n"));
        if round < rounds {
            expected.push_str(&format!("hub read {} tape above {round}\n", round + 1));
        }
    }
    expected.push_str("2: gap tape at 1000 unavailable\n");
    check(&script, &expected);
}

#[test]
fn sessions_that_missed_the_same_share_reads_up_to_a_bound() {
    let sharers = u32::try_from(super::super::catching::SHARERS_MAX).unwrap();
    for (count, reads) in [(sharers, 1), (sharers + 1, 2)] {
        let mut script = "manual\n0 opens as zoe\n0 joins tape\nhub joined tape at 9\n".to_owned();
        for number in 1..=count {
            script.push_str(&format!("{number} opens as u{number}\n{number} joins tape since=8\n"));
        }
        let mut world = super::World::new("");
        script.lines().for_each(|line| world.step(line));
        let asked = world.seen.iter().filter(|seen| seen.starts_with("hub read")).count();
        assert_eq!(asked, reads);
        world.seen.clear();
        for query in 1..=reads {
            world.step(&format!("hub page {query} head=9 9:hi"));
            world.walk();
        }
        let given = world.seen.iter().filter(|seen| seen.ends_with("tape hi @9")).count();
        assert_eq!(given, count as usize);
        assert_eq!(world.lane.counters().encodings, reads as u64, "written once for each page");
    }
}

#[test]
fn reads_asked_for_before_the_lane_knew_of_a_place_are_not_shared() {
    at_9(
        "2 joins tape since=12
         3 opens as cid
         3 joins tape since=12
         hub page 1 head=11 whole
         hub page 2 head=12 whole
         hub tape ten pos=10",
        "hub read 1 tape above 12
         3: welcome cid 3
         3 ready
         hub read 2 tape above 12
         2: joined tape at 9 ahead
         3: joined tape at 12 recovered",
    );
}

#[test]
fn joins_while_catching_up_are_answered_in_order() {
    at_9(
        "2 joins tape #1 since=8
         2 joins tape #2
         2 joins tape #3 since=7
         2 joins tape #4
         hub page 1 head=9 9:a
         hub page 2 head=9 8:b 9:a
         hub tape ten pos=10
         serve",
        "hub read 1 tape above 8
         2: joined tape #1 at 8 recovered
         2: tape a @9
         2: joined tape #2 at 9
         hub read 2 tape above 7
         2: joined tape #3 at 7 recovered
         2: tape b @8 + tape a @9
         2: joined tape #4 at 9
         1: tape ten @10
         2: tape ten @10",
    );
}

#[test]
fn joins_that_wait_behind_a_catch_up_have_a_bound() {
    let more = super::super::catching::BEHIND_MAX;
    let mut world = super::World::new("");
    world.step("1 opens as ann");
    world.step("1 joins tape since=3");
    (0..more).for_each(|_| world.step("1 joins tape"));
    assert_eq!(world.seen.len(), 2, "{:?}", world.seen);
    world.step("1 joins tape #9");
    let refused = "1: refused tape #9: The room is still being caught up wait 1000";
    assert_eq!(world.seen.last().map(String::as_str), Some(refused));
}

#[test]
fn who_leaves_while_catching_up_is_answered_first() {
    at_9(
        "2 joins tape #1 since=7
         2 joins tape #2
         2 leaves tape #3
         hub page 1 head=9 8:a 9:b
         2 joins tape #4 since=7
         hub page 2 head=9 8:a
         2 leaves tape #5
         hub page 3 head=9 9:b
         hub tape ten pos=10
         serve
         sizes",
        "hub read 1 tape above 7
         2: joined tape #1 at 9 unavailable
         2: joined tape #2 at 9
         2: left tape #3
         hub read 2 tape above 7
         2: joined tape #4 at 7 recovered
         2: tape a @8
         hub read 3 tape above 8
         2: left tape #5
         1: tape ten @10
         2 sessions, 1 rooms, 1 places",
    );
}

#[test]
fn a_page_for_who_has_gone_is_nobodys() {
    at_9(
        "2 joins tape since=7
         1 gone
         2 gone
         sizes
         3 opens as cid
         3 joins tape
         hub joined tape at 9
         3 joins tape since=7
         hub page 1 head=9 8:a 9:b
         hub page 2 head=9 8:a 9:b
         hub page 2 head=9 8:a 9:b
         hub page 77 head=9 8:a 9:b",
        "hub read 1 tape above 7
         hub leave tape
         0 sessions, 0 rooms, 0 places
         3: welcome cid 3
         3 ready
         hub join tape
         3: joined tape at 9
         hub read 2 tape above 7
         3: joined tape at 7 recovered
         3: tape a @8 + tape b @9",
    );
}

#[test]
fn a_long_page_leaves_in_writes_of_bounded_size() {
    let long = "x".repeat(super::super::batch::MERGE_BYTES_MAX / 2);
    at_9(
        &format!("2 joins tape since=5\nhub page 1 head=9 6:{long} 7:{long} 8:{long} 9:d"),
        &format!(
            "hub read 1 tape above 5
             2: joined tape at 5 recovered
             2: tape {long} @6
             2: tape {long} @7
             2: tape {long} @8 + tape d @9"
        ),
    );
}

#[test]
fn a_format_that_changes_meanwhile_is_written() {
    at_9(
        "2 joins tape since=7
         2 token bob+x compressed
         hub page 1 head=9 8:a 9:b",
        "hub read 1 tape above 7
         2: z refreshed until 1125899906842624
         2: z joined tape at 7 recovered
         2: z tape a @8 + z tape b @9",
    );
}

#[test]
fn an_ephemeral_room_recovers_nothing() {
    check("1 opens as ann\n1 joins news since=3", "1: welcome ann 1\n1: joined news no_history");
}
