//! The watch over feed and commands: beats, silence, lag, other masters, and whom a return waits for.

use super::watch;
use crate::hub::RelayState;

#[test]
fn a_watched_hub_begins_cut_and_is_whole_once_a_beat_went_all_the_way() {
    watch(
        "at 0
         health
         up 1
         beat 1 2
         answer 2
         health
         at 999
         at 1000
         health",
        "beat 1
         cut since 0, never whole, feed 0 ms, beat 0 ms, 0 wait, 0 bytes, 0/0/0 peers
         beat 2 hears
         whole at 0
         whole since 0, feed 0 ms, beat 0 ms, 0 wait, 0 bytes, 0/0/0 peers
         beat 3 hears
         whole since 0, feed 1000 ms, beat 1000 ms, 0 wait, 0 bytes, 0/0/0 peers",
    );
}

#[test]
fn a_hub_that_is_not_watched_is_whole_and_sends_no_beats() {
    super::check(
        "at 60000
         health
         up 1
         down
         health",
        "whole since 0, feed 0 ms, beat 0 ms, 0 wait, 0 bytes, 0/0/0 peers
         whole since 0, feed 0 ms, beat 0 ms, 0 wait, 0 bytes, 0/0/0 peers",
    );
}

#[test]
fn beats_go_out_faster_while_the_relay_is_not_whole() {
    watch(
        "at 600
         up 1
         beat 1 4
         answer 4 peers=2!
         at 700
         at 800
         answer 5 peers=2
         at 1799
         at 1800",
        "beat 1
         beat 2
         beat 3
         beat 4 hears
         returning at 600
         beat 5 hears
         beat 6 hears
         whole at 800
         beat 7 hears
         cut at 1800",
    );
}

#[test]
fn a_beat_of_before_the_feed_came_up_proves_nothing() {
    watch(
        "at 0
         up 1
         beat 1 1
         answer 1
         beat 1 2
         answer 2",
        "beat 1
         beat 2 hears
         whole at 0",
    );
}

#[test]
fn a_beat_proves_only_with_its_answer_and_over_every_link() {
    watch(
        "at 0
         up 1 2
         answer 2 over=1,2
         beat 1 2
         at 100
         beat 2 2",
        "beat 1
         beat 2 hears
         whole at 100",
    );
    watch(
        "at 0
         up 1 2
         beat 1 2
         beat 2 2
         at 100
         answer 2 over=1,2",
        "beat 1
         beat 2 hears
         whole at 100",
    );
}

#[test]
fn a_beat_of_before_the_trouble_proves_nothing() {
    watch(
        "at 0
         up 1
         beat 1 2
         answer 2
         1 publishes news
         at 1500
         accepted
         at 2500
         answer 3
         beat 1 3
         answer 5
         at 2600
         beat 1 5",
        "beat 1
         beat 2 hears
         whole at 0
         publish news
         beat 3 hears
         beat 4 hears
         beat 5 hears
         cut at 2500
         whole at 2600",
    );
}

#[test]
fn a_feed_without_links_is_proven_by_an_answer() {
    watch("at 0\nup\nanswer 2", "beat 1\nbeat 2 hears\nwhole at 0");
}

#[test]
fn a_link_that_brings_nothing_after_an_answered_beat_is_connected_anew_once() {
    watch(
        "auto over=1
         up 1
         auto silent
         at 2499
         at 2500
         at 4000
         relay
         down
         auto over=2
         up 2
         at 9000",
        "whole at 0
         reconnect 1
         cut at 2500
         0 isolated in 0 ms, 0 refused, 0 partial, 1 losses, 1/0/0 reconnects
         whole at 4000",
    );
}

#[test]
fn anything_a_link_brings_keeps_it_from_counting_as_silent() {
    watch(
        "auto over=1
         up 1
         auto silent
         at 2499
         alive 1
         at 3499
         alive 1
         at 4499
         health",
        "whole at 0
         whole since 0, lagging, feed 1000 ms, beat 4499 ms, 0 wait, 0 bytes, 0/0/0 peers",
    );
}

#[test]
fn a_lagging_link_is_told_of_and_connected_anew_after_ten_seconds() {
    let lagging = |end: &str, expected: &str| {
        let mut script = String::from("auto over=1\nup 1\nauto silent\n");
        for second in 1..=11 {
            script.push_str(&format!("at {}\nalive 1\n", second * 1_000));
            if second == 2 {
                script.push_str("at 2499\nhealth\nat 2500\nhealth\n");
            }
        }
        watch(
            &format!("{script}{end}"),
            &format!(
                "whole at 0
                 whole since 0, feed 499 ms, beat 2499 ms, 0 wait, 0 bytes, 0/0/0 peers
                 whole since 0, lagging, feed 500 ms, beat 2500 ms, 0 wait, 0 bytes, 0/0/0 peers
                 {expected}"
            ),
        );
    };
    // The beat of 1 s, answered at once, is owed.
    lagging("", "reconnect 1\ncut at 11000");
}

#[test]
fn a_late_beat_ends_the_lag_only_if_the_next_one_is_not_late_as_well() {
    watch(
        "auto over=1
         up 1
         auto silent
         at 1900
         alive 1
         at 2600
         beat 1 2
         health
         at 3400
         alive 1
         at 3500
         health
         beat 1 3
         beat 1 4
         health",
        "whole at 0
         whole since 0, feed 0 ms, beat 0 ms, 0 wait, 0 bytes, 0/0/0 peers
         whole since 0, lagging, feed 100 ms, beat 900 ms, 0 wait, 0 bytes, 0/0/0 peers
         whole since 0, feed 0 ms, beat 0 ms, 0 wait, 0 bytes, 0/0/0 peers",
    );
}

#[test]
fn links_are_judged_each_by_itself_and_asked_together() {
    watch(
        "auto over=1,2,3
         up 1 2 3
         auto silent
         at 1000
         beat 2 2
         at 2500
         at 3499
         beat 2 4
         at 6000",
        "whole at 0
         reconnect 1
         reconnect 3
         cut at 2500
         0: degraded true
         1: degraded true
         2: degraded true
         isolated at 4500
         reconnect 2",
    );
}

#[test]
fn another_master_on_the_feed_than_on_commands_has_both_connected_anew() {
    watch(
        "at 0
         up 1 2
         beat 1 2 from=7
         answer 2 by=8 over=1,2
         beat 2 2 from=7
         relay
         up 1 2
         beat 1 3 from=8
         beat 2 3 from=8
         answer 3 by=8 over=1,2",
        "beat 1
         beat 2 hears
         reconnect 1 and commands
         reconnect 2 and commands
         0 isolated in 0 ms, 0 refused, 0 partial, 1 losses, 0/0/2 reconnects
         beat 3 hears
         whole at 0",
    );
    watch(
        "at 0
         up 1 2
         beat 1 2 from=7
         beat 2 2 from=7
         answer 2 by=8 over=1,2",
        "beat 1
         beat 2 hears
         reconnect 1 and commands
         reconnect 2",
    );
}

#[test]
fn links_are_asked_again_only_three_seconds_later() {
    watch(
        "at 0
         up 1
         beat 1 2 from=7
         answer 2 by=8
         up 1
         beat 1 3 from=7
         answer 3 by=8
         auto away
         at 1999
         at 2999
         at 3000",
        "beat 1
         beat 2 hears
         reconnect 1 and commands
         beat 3 hears
         0: degraded true
         1: degraded true
         2: degraded true
         isolated at 2000",
    );
    watch(
        "at 0
         up 1
         beat 1 2 from=7
         answer 2 by=8
         up 1
         beat 1 3 from=7
         answer 3 by=8
         auto silent
         at 2999
         at 3000
         at 9000",
        "beat 1
         beat 2 hears
         reconnect 1 and commands
         beat 3 hears
         0: degraded true
         1: degraded true
         2: degraded true
         isolated at 2000
         reconnect 1 and commands",
    );
}

#[test]
fn while_commands_are_unanswered_no_link_is_connected_anew() {
    watch(
        "auto over=1
         up 1
         auto silent
         at 1000
         auto away
         at 2400
         unanswered 3
         at 60000
         relay",
        "whole at 0
         cut at 2400
         0: degraded true
         1: degraded true
         2: degraded true
         isolated at 3000
         0 isolated in 57000 ms, 0 refused, 0 partial, 0 losses, 0/0/0 reconnects",
    );
}

#[test]
fn once_commands_are_answered_again_a_link_has_its_full_time() {
    watch(
        "auto over=1
         up 1
         auto silent
         at 1000
         auto away
         at 2400
         unanswered 3
         at 3500
         auto silent
         at 5149
         relay
         at 5150",
        "whole at 0
         cut at 2400
         0: degraded true
         1: degraded true
         2: degraded true
         isolated at 3000
         0 isolated in 2149 ms, 0 refused, 0 partial, 0 losses, 0/0/0 reconnects
         reconnect 1",
    );
}

#[test]
fn a_beat_the_broker_gave_up_cuts_at_once_and_an_answer_with_its_beat_mends_it() {
    watch(
        "auto over=1
         up 1
         at 500
         auto away
         at 1100
         unanswered 2
         auto over=1
         at 1249
         at 1250",
        "whole at 0
         cut at 1100
         whole at 1250",
    );
}

#[test]
fn what_the_broker_gave_up_before_a_later_answer_is_no_trouble() {
    watch(
        "at 0
         at 250
         up 1
         unanswered 1
         beat 1 3
         answer 3
         unanswered 2
         answer 1
         at 300",
        "beat 1
         beat 2
         beat 3 hears
         whole at 250",
    );
}

#[test]
fn a_publications_answer_is_an_answer_and_not_knowing_is_none() {
    watch(
        "auto over=1
         up 1
         at 500
         auto away
         1 publishes news ack
         1 publishes news ack
         at 1500
         accepted
         unknown
         at 3499
         at 3500",
        "whole at 0
         publish news dedup
         publish news dedup
         1: accepted for 3 x
         1: unknown for 3 x
         cut at 2500
         0: degraded true
         1: degraded true
         2: degraded true
         isolated at 3500",
    );
}

#[test]
fn the_feed_alone_or_commands_alone_leave_the_node_on_its_own_after_two_seconds() {
    let isolated = "0: degraded true\n1: degraded true\n2: degraded true\nisolated at";
    watch(
        "auto over=1\nup 1\nat 500\ndown\nat 2499\nat 2500",
        &format!("whole at 0\ncut at 500\n{isolated} 2500"),
    );
    watch(
        "auto over=1\nup 1\nat 500\nauto away\nat 1999\nat 2000",
        &format!("whole at 0\n{isolated} 2000"),
    );
    watch("auto away\nat 1999\nat 2000", &format!("{isolated} 2000"));
}

#[test]
fn a_feed_that_comes_up_late_has_a_moment_to_prove_itself() {
    watch(
        "auto over=1
         up 1
         at 1000
         down
         auto silent
         at 2999
         up 1
         at 3498
         at 3499",
        "whole at 0
         cut at 1000
         0: degraded true
         1: degraded true
         2: degraded true
         isolated at 3499",
    );
}

#[test]
fn a_feed_that_comes_and_goes_leaves_the_node_on_its_own_all_the_same() {
    watch(
        "auto silent over=1
         at 600
         up 1
         at 900
         down
         at 1500
         up 1
         at 1900
         down
         at 2000",
        "0: degraded true
         1: degraded true
         2: degraded true
         isolated at 2000",
    );
}

#[test]
fn a_return_waits_for_nodes_that_are_deaf_and_for_those_of_before() {
    watch(
        "auto over=1 peers=2,3
         up 1
         at 1500
         down
         auto over=1 peers=2!
         at 1600
         up 1
         health
         auto over=1 peers=2
         at 2000
         auto over=1 peers=2,3?
         at 2100
         health",
        "whole at 0
         cut at 1500
         returning at 1600
         returning since 1600, feed 0 ms, beat 0 ms, 0 wait, 0 bytes, 1/1/0 peers
         whole at 2100
         whole since 2100, feed 0 ms, beat 0 ms, 0 wait, 0 bytes, 2/0/1 peers",
    );
}

#[test]
fn the_wait_for_other_nodes_ends_after_two_seconds_and_acks_say_so_until_they_hear() {
    watch(
        "auto over=1 peers=2!,3!
         up 1
         at 1999
         1 publishes news ack
         at 2000
         accepted
         auto over=1 peers=2,3!
         at 3000
         1 publishes news ack
         accepted
         auto over=1 peers=2!,3
         at 4000
         1 publishes news ack
         accepted
         relay",
        "returning at 0
         publish news dedup
         whole at 2000
         1: accepted partial for 3 x
         publish news dedup
         1: accepted partial for 3 x
         publish news dedup
         1: accepted for 3 x
         0 isolated in 0 ms, 0 refused, 2 partial, 0 losses, 0/0/0 reconnects",
    );
}

#[test]
fn a_node_that_never_comes_back_is_missed_for_ten_seconds() {
    watch(
        "auto over=1 peers=2
         up 1
         at 1000
         down
         auto over=1 peers=
         up 1
         at 3000
         at 12999
         1 publishes news ack
         accepted
         at 13000
         1 publishes news ack
         accepted",
        "whole at 0
         cut at 1000
         returning at 1000
         whole at 3000
         publish news dedup
         1: accepted partial for 3 x
         publish news dedup
         1: accepted for 3 x",
    );
}

#[test]
fn a_node_missed_already_is_waited_for_in_the_next_outage_too() {
    watch(
        "auto over=1 peers=2
         up 1
         at 1000
         down
         auto over=1 peers=
         up 1
         at 3000
         at 4000
         down
         up 1
         at 5000
         auto over=1 peers=2
         at 5100",
        "whole at 0
         cut at 1000
         returning at 1000
         whole at 3000
         cut at 4000
         returning at 4000
         whole at 5100",
    );
}

#[test]
fn a_return_that_fails_goes_back_to_where_it_came_from() {
    watch(
        "auto over=1 peers=2!
         at 1000
         up 1
         at 1500
         down
         at 1999
         at 2000
         up 1
         at 2100
         down
         at 2200
         up 1
         at 4200",
        "returning at 1000
         cut at 1500
         0: degraded true
         1: degraded true
         2: degraded true
         isolated at 2000
         returning at 2000
         isolated at 2100
         returning at 2200
         0: degraded false
         1: degraded false
         2: degraded false
         whole at 4200",
    );
}

#[test]
fn the_wait_for_other_nodes_does_not_begin_anew_with_each_trouble() {
    watch(
        "auto over=1 peers=2!
         up 1
         at 1450
         auto away
         at 1500
         unanswered last
         auto over=1
         at 1999
         at 2000",
        "returning at 0
         cut at 1500
         returning at 1750
         whole at 2000",
    );
}

#[test]
fn what_the_node_slept_through_is_no_fault_of_the_brokers() {
    watch(
        "auto over=1
         up 1
         auto away
         at 1900
         asleep until 30000
         health
         at 30050
         auto over=1
         beat 1 2
         answer 2
         at 31000
         asleep until 31600
         health
         auto away
         at 33599
         health
         at 33600",
        "whole at 0
         whole since 0, feed 1900 ms, beat 1900 ms, 0 wait, 0 bytes, 0/0/0 peers
         whole since 0, feed 0 ms, beat 0 ms, 0 wait, 0 bytes, 0/0/0 peers
         whole since 0, feed 1999 ms, beat 1999 ms, 0 wait, 0 bytes, 0/0/0 peers
         0: degraded true
         1: degraded true
         2: degraded true
         isolated at 33600",
    );
}

#[test]
fn silence_ends_within_three_seconds_of_the_cut() {
    // The worst moment: just behind a beat that came back.
    watch(
        "auto over=1 peers=2
         up 1
         1 joins news
         subscribed news
         at 1001
         auto silent
         at 3500
         down
         auto over=1
         up 1
         1 publishes news
         feed news",
        "whole at 0
         subscribe news
         1: joined news
         reconnect 1
         cut at 3500
         0: lost
         1: lost
         2: lost
         whole at 3500
         publish news
         1: news",
    );
}

#[test]
fn states_have_names_of_their_own() {
    let names: Vec<_> = RelayState::ALL.iter().map(|state| state.name()).collect();
    assert_eq!(names, ["whole", "cut", "isolated", "returning"]);
}
