//! Inboxes whose stream begins anew: members go on from what the broker says that they have acked.

use super::inboxes::asked;

#[test]
fn an_offset_acked_before_the_stream_began_anew_is_given_where_it_is_another_publication() {
    asked(
        "#1",
        "hub inbox 1 box acked=9 head=9
         hub box ten pos=10
         hub box eleven pos=11
         serve
         wait 1250
         1 pongs
         hub gap box at e2.11
         hub inbox 1 box acked=e2.9 head=e2.11
         hub page 1 in=box head=e2.11 e2.10:x e2.11:y
         hub box z pos=e2.12
         serve
         wait 26000
         1 pongs",
        "1: joined box #1 at 9 recovered
         1: box ten @10 + box eleven @11
         1: ping
         hub acked box to 11
         hub inbox? 1 box
         1: gap box at e2.9 epoch
         hub read 1 box above 9
         1: box x @e2.10 + box y @e2.11
         1: box z @e2.12
         1: ping
         1: ping
         hub acked box to e2.12",
    );
}

#[test]
fn what_waited_for_its_ack_waits_for_it_under_its_new_position() {
    asked(
        "#1",
        "hub inbox 1 box acked=9 head=9
         hub box ten id=x pos=10 ack
         serve
         hub gap box at e2.10
         1 acks x
         counted acks-unknown
         hub inbox 1 box acked=e2.9 head=e2.10
         hub page 1 in=box head=e2.10 10:x*
         1 acks x
         wait 1250",
        "1: joined box #1 at 9 recovered
         1: box ten @10
         hub inbox? 1 box
         1 acks-unknown
         1: gap box at e2.9 epoch
         hub read 1 box above 9
         1: box x @e2.10
         hub acked box to e2.10
         1: ping",
    );
}

#[test]
fn a_join_from_another_epoch_is_answered_from_the_cursor() {
    asked(
        "#1 since=e2.4",
        "hub inbox 1 box acked=9 head=9
         1 joins box #2 since=e2.5
         hub page 1 in=box head=9
         hub inbox 1 box acked=9 head=9",
        "1: joined box #1 at 9 epoch
         hub read 1 box above 5
         hub inbox? 1 box
         1: joined box #2 at 9 epoch",
    );
}

#[test]
fn a_cursor_of_an_epoch_that_the_lane_has_yet_to_reach_waits_for_the_lane() {
    asked(
        "#1",
        "hub inbox 1 box acked=e2.8 head=e2.9
         hub gap box at e2.9
         hub inbox 1 box acked=e2.8 head=e2.9
         hub page 1 in=box head=e2.9 9:a",
        "hub inbox? 1 box
         1: joined box #1 at e2.8 recovered
         hub read 1 box above 8
         1: box a @e2.9",
    );
}

#[test]
fn a_cursor_of_an_epoch_that_the_lane_has_left_is_asked_for_again_a_few_times() {
    let again = "hub inbox 1 box acked=e2.8 head=e2.9\nwait 750\n";
    asked(
        "#1",
        &again.repeat(8),
        &format!("{}1: joined box #1 at 9 unavailable", "hub inbox? 1 box\n".repeat(7)),
    );
}

#[test]
fn who_is_not_told_its_cursor_in_time_goes_on_where_the_room_is() {
    asked(
        "#1",
        "hub inbox 1 box acked=9 head=9
         hub gap box at e2.12
         wait 5250
         hub box z pos=e2.13
         serve
         wait 1250
         1 pongs",
        "1: joined box #1 at 9 recovered
         hub inbox? 1 box
         1: gap box at e2.12 unavailable
         1: box z @e2.13
         1: ping
         hub acked box to e2.0 above 13",
    );
}

#[test]
fn who_leaves_while_it_waits_for_its_cursor_leaves_nothing_behind() {
    asked(
        "#1",
        "hub inbox 1 box acked=9 head=9
         hub gap box at e2.12
         1 leaves box #2
         hub inbox 1 box acked=e2.9 head=e2.12
         sizes",
        "1: joined box #1 at 9 recovered
         hub inbox? 1 box
         hub leave box
         1: left box #2
         1 sessions, 0 rooms, 0 places",
    );
}
