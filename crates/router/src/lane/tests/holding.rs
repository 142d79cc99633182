//! When members are given nothing, because orders to end sessions may have been missed (G22).

use super::check;

#[track_caller]
fn in_tape(script: &str, expected: &str) {
    check(
        &format!("1 opens as ann\n1 joins tape\n{script}"),
        &format!("1: welcome ann 1\n1: joined tape at 0\n{expected}"),
    );
}

#[test]
fn a_lane_that_holds_answers_but_gives_nothing() {
    in_tape(
        "hub tape one pos=1
         hub hold
         serve
         1 pings 7
         2 opens as bob
         2 joins tape
         hub tape two pos=2
         serve
         hub resume
         serve",
        "1: pong 7
         2: welcome bob 2
         2: joined tape at 1
         1: tape one @1
         1: tape two @2
         2: tape two @2",
    );
}

#[test]
fn who_leaves_or_is_ended_while_the_lane_holds_is_given_nothing_more() {
    in_tape(
        "2 opens as bob
         2 joins tape
         hub tape one pos=1
         hub hold
         1 leaves tape
         hub disconnect bob
         hub resume
         serve
         sizes",
        "2: welcome bob 2
         2: joined tape at 0
         1: left tape
         2 closed 4101
         hub carried out for 1
         1 sessions, 0 rooms, 0 places",
    );
}

#[test]
fn pages_and_formats_wait_while_the_lane_holds() {
    in_tape(
        "hub tape one pos=1
         serve
         2 opens as bob
         2 joins tape since=0
         1 asks tape
         hub hold
         hub page 1 head=1 whole 1:a
         hub page 2 head=1 whole 1:a
         1 joins tape #5
         hub tape two pos=2
         1 token ann compressed
         hub resume
         hub page 3 head=2 whole 2:b
         hub tape three pos=3
         serve",
        "1: tape one @1
         2: welcome bob 2
         hub read 1 tape above 0
         hub read 2 tape below all
         1: refused tape #5: The node catches up wait 1000
         1: refreshed until 1125899906842624
         1: tape two @2
         2: joined tape at 0 recovered
         2: tape a @1
         1: z history tape backward [1]
         hub read 3 tape above 1
         2: tape b @2
         1: z tape three @3
         2: tape three @3",
    );
}

#[test]
fn a_lane_that_was_late_for_its_turn_holds_and_asks() {
    in_tape(
        "hub tape one pos=1
         wait 20000
         asleep 1500
         hub tape two pos=2
         serve
         counted holds
         asleep 1501
         hub tape three pos=3
         serve
         hub resume
         serve
         counted holds",
        "1: tape one @1 + tape two @2
         0 holds
         hub late
         1: tape three @3
         1 holds",
    );
}

#[test]
fn an_answer_from_before_the_lane_was_late_again_is_not_enough() {
    in_tape(
        "asleep 1501
         hub tape one pos=1
         asleep 1501
         hub resume
         serve
         asleep 1501
         hub tape two pos=2
         hub resume
         serve
         hub resume
         serve
         counted holds",
        "hub late
         hub late
         hub late
         1: tape one @1 + tape two @2
         3 holds",
    );
}

#[test]
fn what_expires_while_it_waits_is_skipped_in_its_place() {
    in_tape(
        "2 opens msgpack as bob+x
         2 joins tape
         hub tape one pos=1 ttl=1
         hub tape two pos=2 ttl=3
         hub tape three pos=3
         hub tape four pos=4 ttl=2
         hub tape five pos=5 requires=x ttl=2
         hub hold
         at 2000
         hub tape six pos=6
         hub resume
         serve 1
         at 3000
         serve
         counted skipped
         counted expired",
        "2: m welcome bob 2
         2: m joined tape at 0
         1: skip tape to 1 count 1 expired + tape two @2 + tape three @3 + skip tape to 4 count 1 expired
         more
         2: m skip tape to 1 count 1 expired + m skip tape to 2 count 1 expired + m tape three @3 + m skip tape to 4 count 1 expired
         1: skip tape to 5 count 1 expired
         2: m skip tape to 5 count 1 expired
         1: tape six @6
         2: m tape six @6
         [7, 0, 0] skipped
         4 expired",
    );
}

#[test]
fn a_lane_without_sessions_is_never_late() {
    check(
        "1 opens as ann\n1 gone\nasleep 100000\n2 opens as bob\ncounted holds",
        "1: welcome ann 1\n2: welcome bob 2\n0 holds",
    );
}

#[test]
fn what_waits_while_the_lane_holds_is_bounded_and_its_loss_is_told() {
    let mut world = super::World::new("");
    let long = "x".repeat(1 << 16);
    for line in ["1 opens as ann", "1 joins tape", "1 joins news", "hub hold"] {
        world.step(line);
    }
    let count = super::super::BACKLOG_BYTES_MAX / long.len() + 10;
    for offset in 1..=count {
        world.step(&format!("hub tape {long} pos={offset}"));
        world.walk();
    }
    world.step("hub news hi");
    let bound = super::super::BACKLOG_BYTES_MAX + 2 * long.len();
    assert!((1 << 22..bound).contains(&world.lane.backlog_bytes()));
    world.seen.clear();
    world.step("hub resume");
    assert_eq!(world.seen, ["1: gap overload"], "of the ephemeral room");
    world.step("serve");
    world.step(&format!("hub tape end pos={}", count + 1));
    world.step("serve");
    world.walk();
    let end = format!("gap tape at {count} overload + tape end @{}", count + 1);
    let all = world.seen.join(" ").replace(&long, "x");
    assert!(all.contains(&format!("gap tape at {count} overload")), "{all} {end}");
    assert!(all.ends_with(&format!("tape end @{}", count + 1)), "{all}");
}

#[test]
fn where_orders_are_lost_every_session_has_to_prove_itself_anew() {
    in_tape(
        "hub tape one pos=1
         2 opens as bob
         hub hold
         hub revalidate
         hub resume
         serve
         sizes",
        "2: welcome bob 2
         1 closed 4300
         2 closed 4300
         0 sessions, 0 rooms, 0 places",
    );
}
