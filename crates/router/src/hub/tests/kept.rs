//! Rooms that keep their publications: joins, jumps, other epochs, beats, lanes that were full.

use super::{World, check, run, watch};
use crate::hub::{HELD_ROOM_BYTES_MAX, REFRESH_MS, REPAIR_MS};

/// Lane 1 in `kept`, which stands at 5.
const AT_5: &str = "1 joins kept\nsubscribed kept\nat 0\nheads 5\n";
const AT_5_SEEN: &str = "subscribe kept\nheads? kept\n1: joined kept at 5\n";

/// From [`AT_5`] on.
#[track_caller]
fn kept(script: &str, expected: &str) {
    check(&format!("{AT_5}{script}"), &format!("{AT_5_SEEN}{expected}"));
}

/// The same with a broker that can fail, over link 1.
#[track_caller]
fn far(script: &str, expected: &str) {
    let before = "auto over=1\nup 1\n1 joins kept\nsubscribed kept\nat 1\nheads 5\n";
    let seen = "whole at 0\nsubscribe kept\nheads? kept\n1: joined kept at 5\n";
    watch(&format!("{before}{script}"), &format!("{seen}{expected}"));
}

#[test]
fn the_first_join_is_answered_with_the_head_and_later_ones_without_a_question() {
    kept(
        "2 joins kept
         feed kept at=6
         3 joins kept
         at 10",
        "2: joined kept at 5
         1: kept 6
         2: kept 6
         3: joined kept at 6",
    );
}

#[test]
fn joins_that_come_while_the_head_is_asked_for_share_the_answer() {
    check(
        "1 joins kept
         2 joins kept
         subscribed kept
         at 0
         0 joins kept
         2 leaves kept
         heads 5",
        "subscribe kept
         heads? kept
         0: joined kept at 5
         1: joined kept at 5",
    );
}

#[test]
fn many_rooms_are_asked_for_in_one_question() {
    check(
        "1 joins kept
         1 joins kept-2
         1 joins kept-3
         subscribed kept
         heads none
         subscribed kept-2
         subscribed kept-3
         at 500
         heads 3",
        "subscribe kept
         subscribe kept-2
         subscribe kept-3
         heads? kept
         heads? kept,kept-2,kept-3
         1: joined kept at 3
         1: joined kept-2 at 3
         1: joined kept-3 at 3",
    );
}

#[test]
fn what_comes_before_the_head_is_known_is_given_only_above_it() {
    check(
        "1 joins kept
         feed kept at=4
         subscribed kept
         at 0
         feed kept at=5
         feed kept at=6
         heads 5
         feed kept at=7",
        "subscribe kept
         heads? kept
         1: joined kept at 5
         1: kept 6
         1: kept 7",
    );
}

#[test]
fn what_lanes_have_had_is_not_given_again() {
    kept(
        "feed kept at=5
         feed kept at=6
         feed kept at=6",
        "1: kept 6",
    );
}

#[test]
fn a_hole_is_read_once_and_given_in_order() {
    kept(
        "feed kept at=8
         feed kept at=9
         at 0
         feed kept at=10
         page 6-9",
        "read? kept above 5
         1: kept 6
         1: kept 7
         1: kept 8
         1: kept 9
         1: kept 10",
    );
}

#[test]
fn a_back_end_reads_what_a_room_keeps_that_nobody_here_hears() {
    kept(
        "api reads kept-2 above 3
         page 4-5
         api reads kept-2 above 5
         page none
         api reads news above 0",
        "read? kept-2 above 3
         history 9 2 of 5
         read? kept-2 above 5
         history 9 none
         history 9 none",
    );
}

#[test]
fn a_hole_that_closes_by_itself_is_not_read() {
    far(
        "feed kept at=7
         feed kept at=6
         at 600",
        "1: kept 6
         1: kept 7",
    );
}

#[test]
fn a_hole_is_read_page_by_page() {
    kept(
        "feed kept at=9
         at 0
         page 6-7 head=9 part
         at 1
         page 8-9",
        "read? kept above 5
         1: kept 6
         1: kept 7
         read? kept above 7
         1: kept 8
         1: kept 9",
    );
}

#[test]
fn what_is_not_kept_any_more_is_told() {
    kept(
        "feed kept at=9
         at 0
         page 8-9 first=8
         feed kept at=12
         at 1
         page empty head=12 first=13
         feed kept at=13",
        "read? kept above 5
         1: gap kept 7 too_old
         1: kept 8
         1: kept 9
         read? kept above 9
         1: gap kept 12 too_old
         1: kept 13",
    );
}

#[test]
fn what_cannot_be_read_moves_the_position() {
    kept(
        "feed kept at=8
         at 0
         page 6-8 odd=7",
        "read? kept above 5
         1: kept 6
         1: kept 7 unreadable
         1: kept 8",
    );
}

#[test]
fn an_envelope_of_another_epoch_only_has_the_head_read() {
    kept(
        "feed kept at=6 e=2
         at 0
         feed kept at=6
         heads 6",
        "heads? kept
         1: kept 6",
    );
}

#[test]
fn a_new_epoch_is_told_and_what_came_above_its_head_is_given() {
    kept(
        "feed kept at=6 e=2
         at 0
         feed kept at=8 e=2
         feed kept at=6
         heads 7 e=2
         feed kept at=7
         at 1
         heads 8 e=2",
        "heads? kept
         1: kept 6
         1: gap kept 7 of 2 epoch
         1: kept 8 of 2
         heads? kept
         heads? kept",
    );
}

#[test]
fn what_came_from_a_third_epoch_after_the_question_has_it_asked_again() {
    kept(
        "feed kept at=6 e=2
         at 0
         feed kept at=7 e=3
         heads 6 e=2
         at 1
         heads 6 e=3",
        "heads? kept
         1: gap kept 6 of 2 epoch
         heads? kept
         1: gap kept 6 of 3 epoch
         1: kept 7 of 3",
    );
}

#[test]
fn a_page_of_another_epoch_is_told() {
    kept(
        "feed kept at=8
         at 0
         page 6-9 e=2
         feed kept at=10 e=2",
        "read? kept above 5
         1: gap kept 9 of 2 epoch
         1: kept 10 of 2",
    );
}

#[test]
fn a_beat_that_names_a_higher_head_finds_the_last_publication() {
    far(
        "beat 1 2 moved=kept:6
         at 600
         page 6-6",
        "read? kept above 5
         1: kept 6",
    );
}

#[test]
fn a_beat_behind_what_it_counts_asks_nothing() {
    far(
        "feed kept at=6
         beat 1 2 moved=kept:6,kept-2:9
         at 600",
        "1: kept 6",
    );
}

#[test]
fn a_beat_that_knows_no_better_has_all_heads_read() {
    far(
        "1 joins kept-2
         subscribed kept-2
         at 2
         heads 0
         beat 1 2 moved=all
         heads 5
         at 600",
        "subscribe kept-2
         heads? kept-2
         1: joined kept-2 at 0
         heads? kept,kept-2
         read? kept-2 above 0",
    );
}

#[test]
fn a_head_asked_for_before_the_room_was_heard_is_asked_for_once_more() {
    far(
        "1 joins kept-2
         beat 1 2 moved=all
         heads 5
         subscribed kept-2
         at 2
         heads 6
         at 600",
        "subscribe kept-2
         heads? kept,kept-2
         1: joined kept-2 at 5
         heads? kept-2
         read? kept-2 above 5",
    );
    // The same where the answer comes behind the confirmation.
    far(
        "1 joins kept-2
         beat 1 2 moved=all
         subscribed kept-2
         heads 5
         at 2
         heads 6
         at 600",
        "subscribe kept-2
         heads? kept,kept-2
         1: joined kept-2 at 5
         heads? kept-2
         read? kept-2 above 5",
    );
}

#[test]
fn a_beat_that_names_a_room_whose_head_is_on_its_way_has_it_asked_for_once_more() {
    far(
        "1 joins kept-2
         subscribed kept-2
         at 2
         beat 1 2 moved=kept-2:6
         heads 5
         at 3
         heads 6
         at 600",
        "subscribe kept-2
         heads? kept-2
         1: joined kept-2 at 5
         heads? kept-2
         read? kept-2 above 5",
    );
}

#[test]
fn a_beat_from_another_master_than_before_has_all_heads_read() {
    far(
        "beat 1 3
         at 2
         beat 1 4 from=8
         at 3
         heads 5 e=2
         beat 1 5 from=8
         at 4",
        "heads? kept
         1: gap kept 5 of 2 epoch",
    );
}

#[test]
fn a_room_that_only_other_nodes_keep_has_no_positions_here() {
    watch(
        "auto over=1
         up 1
         1 joins news
         subscribed news
         feed news at=6
         feed news at=8",
        "whole at 0
         subscribe news
         1: joined news
         1: news
         1: news",
    );
}

#[test]
fn after_a_loss_of_the_feed_heads_are_read_with_its_first_beat() {
    far(
        "at 500
         down
         at 600
         up 1
         at 601
         heads 7
         at 1200
         page 6-7",
        "cut at 500
         heads? kept
         whole at 600
         read? kept above 5
         1: kept 6
         1: kept 7",
    );
}

#[test]
fn heads_that_are_not_answered_are_asked_for_again() {
    check(
        "1 joins kept
         subscribed kept
         at 0
         heads none
         at 499
         at 500
         heads 2",
        "subscribe kept
         heads? kept
         heads? kept
         1: joined kept at 2",
    );
}

#[test]
fn pages_that_are_not_answered_are_asked_for_again() {
    kept(
        "feed kept at=7
         at 0
         page none
         at 500
         page 6-7",
        "read? kept above 5
         read? kept above 5
         1: kept 6
         1: kept 7",
    );
}

#[test]
fn a_hole_that_stays_open_for_too_long_is_told_and_what_is_held_is_given() {
    let script = format!(
        "feed kept at=8
         at 0
         page none
         at {before}
         page none
         at {after}
         page none",
        before = REPAIR_MS - 1,
        after = REPAIR_MS + 499
    );
    kept(
        &script,
        "read? kept above 5
         read? kept above 5
         read? kept above 5
         1: gap kept 7 unavailable
         1: kept 8",
    );
}

#[test]
fn what_is_held_is_bounded_and_what_was_forgotten_is_read() {
    let half = HELD_ROOM_BYTES_MAX / 2;
    let script = format!(
        "feed kept at=7 bytes={half}
         feed kept at=8 bytes={half}
         at 0
         feed kept at=9 bytes=400
         page 6-8
         at 1
         page 9-9"
    );
    let mut world = World::new(0);
    for line in format!("{AT_5}{script}").lines().map(str::trim) {
        world.step(line);
    }
    let seen: Vec<_> =
        world.seen[3..].iter().map(|text| text.split(" x").next().unwrap()).collect();
    let pages = ["1: kept 6", "1: kept 7", "1: kept 8"];
    let expected = ["read? kept above 5"].into_iter().chain(pages);
    let expected: Vec<_> = expected.chain(["read? kept above 8", "1: kept 9"]).collect();
    assert_eq!(seen, expected);
    assert_eq!(world.hub.asks.held_bytes(), 0);
}

#[test]
fn two_publications_that_fill_what_may_be_held_are_held() {
    let half = HELD_ROOM_BYTES_MAX / 2;
    let mut world = World::new(0);
    for line in format!("{AT_5}feed kept at=7 bytes={half}\nfeed kept at=8 bytes={half}").lines() {
        world.step(line);
    }
    assert_eq!(world.hub.asks.held_bytes(), HELD_ROOM_BYTES_MAX);
    world.step("feed kept at=9 bytes=400");
    assert_eq!(world.hub.asks.held_bytes(), 0, "all of it is read anew");
    assert_eq!(world.hub.health(world.now).held_bytes, 0);
}

#[test]
fn nobody_misses_what_a_room_without_members_missed() {
    kept(
        "1 leaves kept
         feed kept at=9
         at 500
         1 joins kept",
        "1: joined kept at 9",
    );
}

#[test]
fn a_room_that_is_given_up_is_forgotten() {
    let mut world = World::new(0);
    let script = format!("{AT_5}feed kept at=7\nat 0\n1 leaves kept\nat 2000\npage 6-7");
    script.lines().for_each(|line| world.step(line));
    assert_eq!(world.seen.last().unwrap(), "unsubscribe kept");
    assert!(world.hub.asks.are_idle());
    assert_eq!(world.hub.rooms(), 0);
}

#[test]
fn an_answer_for_a_room_given_up_does_not_reach_its_next_life() {
    check(
        "1 joins kept
         subscribed kept
         at 0
         1 leaves kept
         at 1000
         1 joins kept
         subscribed kept
         at 1001
         heads 5
         heads 7",
        "subscribe kept
         heads? kept
         unsubscribe kept
         subscribe kept
         heads? kept
         1: joined kept at 7",
    );
}

#[test]
fn a_lane_that_was_full_is_given_the_rest_from_history_and_others_go_on() {
    kept(
        "2 joins kept
         feed kept at=6
         drops 1 kept at=6
         feed kept at=7
         drained 1
         at 0
         feed kept at=8
         page 6-7
         at 1
         page 8-8
         feed kept at=9",
        "2: joined kept at 5
         1: kept 6
         2: kept 6
         2: kept 7
         read? kept above 5
         2: kept 8
         1: kept 6
         1: kept 7
         read? kept above 7
         1: kept 8
         1: kept 9
         2: kept 9",
    );
}

#[test]
fn a_lane_that_is_full_again_waits_again() {
    kept(
        "feed kept at=6
         feed kept at=7
         drops 1 kept at=6
         drops 1 kept at=7
         drained 1
         at 0
         page 6-7
         drops 1 kept at=7
         feed kept at=8
         drained 1
         at 1
         page 7-8",
        "1: kept 6
         1: kept 7
         read? kept above 5
         1: kept 6
         1: kept 7
         read? kept above 6
         1: kept 7
         1: kept 8",
    );
}

#[test]
fn a_lane_is_told_what_it_was_not_given_and_is_not_kept_any_more() {
    kept(
        "feed kept at=6
         feed kept at=7
         drops 1 kept at=6
         drops 1 kept at=7
         drained 1
         at 0
         page 7-7 first=7",
        "1: kept 6
         1: kept 7
         read? kept above 5
         1: gap kept 6 too_old
         1: kept 7",
    );
}

#[test]
fn a_new_epoch_is_all_that_a_lane_behind_needs() {
    kept(
        "feed kept at=6
         drops 1 kept at=6
         feed kept at=7 e=2
         at 0
         heads 7 e=2
         drained 1
         at 1
         feed kept at=8 e=2",
        "1: kept 6
         heads? kept
         1: gap kept 7 of 2 epoch
         1: kept 8 of 2",
    );
}

#[test]
fn members_of_ephemeral_rooms_are_told_once_that_their_lane_was_full() {
    check(
        "1 joins news
         subscribed news
         feed news
         drops 1 news
         feed news
         drops 1 news
         drained 1
         drained 1",
        "subscribe news
         1: joined news
         1: news
         1: news
         1: lost by overload",
    );
}

#[test]
fn while_isolated_joins_are_not_live_and_publications_are_refused() {
    far(
        "at 1000
         auto away
         down
         at 3000
         2 joins kept-2
         2 joins kept
         1 publishes kept ack id=a",
        "cut at 1000
         0: degraded true
         1: degraded true
         2: degraded true
         isolated at 3000
         subscribe kept-2
         2: joined kept-2 not live
         2: joined kept at 5
         1: unavailable 2000 ms for 3 a",
    );
}

#[test]
fn a_join_that_waits_when_the_broker_goes_is_told_so_and_later_where_it_stands() {
    far(
        "at 1000
         1 joins kept-2
         auto away
         down
         at 3000
         auto over=1
         up 1
         heads 8
         at 3600",
        "subscribe kept-2
         cut at 1000
         0: degraded true
         1: degraded true
         2: degraded true
         1: joined kept-2 not live
         isolated at 3000
         0: degraded false
         1: degraded false
         2: degraded false
         heads? kept,kept-2
         whole at 3000
         1: joined kept-2 at 8
         read? kept above 5",
    );
}

#[test]
fn heads_are_asked_for_now_and_then_so_that_the_broker_forgets_no_room() {
    let mut world = World::new(0);
    run_quietly(&mut world, &format!("{AT_5}at {REFRESH_MS}"));
    assert_eq!(world.seen.last().unwrap(), "heads? kept");
}

fn run_quietly(world: &mut World, script: &str) {
    script.lines().for_each(|line| world.step(line.trim()));
}

#[test]
fn a_publication_says_what_its_room_keeps() {
    run(
        World::new(0),
        "1 publishes kept id=a
         1 publishes news id=b",
        "publish kept a kept
         publish news b",
    );
}
