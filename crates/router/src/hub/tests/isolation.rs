//! What becomes of publications, joins and lanes while the relay is not whole, and on return.

use super::{Rules, World, check, config, publication, watch};
use std::sync::Arc;

use crate::hub::{Hub, IDS_MS, RETRY_MS, WAITING_BYTES_MAX};

/// Whole, with lane 1 in `news`, then cut at 1,000.
const CUT: &str = "auto over=1\nup 1\n1 joins news\nsubscribed news\nat 1000\ndown\n";
const CUT_SEEN: &str = "whole at 0\nsubscribe news\n1: joined news\ncut at 1000\n";
const ALONE: &str = "0: degraded true\n1: degraded true\n2: degraded true\n";
const BACK: &str = "0: degraded false\n1: degraded false\n2: degraded false\n";
const LOST: &str = "0: lost\n1: lost\n2: lost\n";

/// From [`CUT`] on.
#[track_caller]
fn cut(script: &str, expected: &str) {
    watch(&format!("{CUT}{script}"), &format!("{CUT_SEEN}{expected}"));
}

/// From [`CUT`] on, isolated since 3,000.
#[track_caller]
fn alone(script: &str, expected: &str) {
    cut(&format!("at 3000\n{script}"), &format!("{ALONE}isolated at 3000\n{expected}"));
}

#[test]
fn publications_wait_while_the_feed_is_down_and_go_out_in_order() {
    cut(
        "1 publishes news id=a ack
         2 publishes other id=b
         api publishes news id=c
         health
         at 2000
         up 1
         accepted
         health",
        &format!(
            "cut since 1000, feed 0 ms, beat 0 ms, 3 wait, 807 bytes, 0/0/0 peers
             {LOST}
             publish news a dedup
             publish other b
             publish news c
             whole at 2000
             1: accepted for 3 a
             whole since 2000, feed 0 ms, beat 0 ms, 0 wait, 0 bytes, 0/0/0 peers"
        ),
    );
}

#[test]
fn what_waits_too_long_goes_to_the_nodes_own_members() {
    cut(
        "1 publishes news id=a ack
         0 publishes other id=b
         at 2999
         at 3000
         1 publishes news id=c
         relay",
        &format!(
            "{ALONE}
             1: news a isolated
             1: isolated for 3 a
             isolated at 3000
             1: news c isolated
             3 isolated in 0 ms, 0 refused, 0 partial, 1 losses, 0/0/0 reconnects"
        ),
    );
}

#[test]
fn while_only_commands_are_unanswered_publications_go_to_the_broker() {
    watch(
        "auto over=1
         up 1
         at 1000
         auto away
         unanswered 2
         at 2000
         unanswered 3
         1 publishes news id=a ack
         unknown
         at 2999
         1 publishes news id=b ack
         at 3000
         1 publishes news id=c ack
         unknown",
        &format!(
            "whole at 0
             cut at 2000
             publish news a dedup
             1: unknown for 3 a
             publish news b dedup
             {ALONE}
             isolated at 3000
             1: isolated for 3 c
             1: unknown for 3 b"
        ),
    );
}

#[test]
fn publications_wait_behind_those_that_a_failed_return_left_waiting() {
    watch(
        "auto over=1 peers=2!
         up 1
         1 publishes news id=a
         at 100
         auto away
         at 200
         unanswered 3
         1 publishes news id=b
         auto over=1 peers=2
         at 500",
        "returning at 0
         cut at 200
         publish news a
         publish news b
         whole at 450",
    );
}

#[test]
fn a_return_that_fails_leaves_a_node_on_its_own_where_it_was() {
    alone(
        "auto over=1 peers=2!
         at 3100
         up 1
         at 3300
         auto away
         1 publishes news id=a
         at 3400
         unanswered last
         1 publishes news id=b",
        &format!(
            "{LOST}
             returning at 3100
             1: news a isolated
             isolated at 3400
             1: news b isolated"
        ),
    );
}

#[test]
fn waiting_publications_have_a_bound_in_bytes() {
    let half = WAITING_BYTES_MAX / 2;
    cut(
        &format!(
            "1 publishes news id=a bytes={half}
             1 publishes news id=b bytes={}
             1 publishes news id=c ack
             api publishes news id=d
             health
             relay
             at 2000
             up 1",
            half
        ),
        &format!(
            "1: unavailable {RETRY_MS} ms for 3 c
             answer 9 unavailable {RETRY_MS} ms
             cut since 1000, feed 0 ms, beat 0 ms, 2 wait, {WAITING_BYTES_MAX} bytes, 0/0/0 peers
             0 isolated in 0 ms, 2 refused, 0 partial, 1 losses, 0/0/0 reconnects
             {LOST}
             publish news a
             publish news b
             whole at 2000"
        ),
    );
    cut(
        &format!(
            "1 publishes news id=a bytes={half}
             1 publishes news id=b bytes={}
             health",
            half + 1
        ),
        &format!(
            "1: unavailable {RETRY_MS} ms for 3 -
             cut since 1000, feed 0 ms, beat 0 ms, 1 wait, {half} bytes, 0/0/0 peers"
        ),
    );
}

#[test]
fn a_repeat_on_a_node_on_its_own_gets_the_first_answer_and_other_content_is_refused() {
    alone(
        "1 publishes news id=a ack
         1 publishes news id=a ack
         1 publishes news id=a text=ho ack
         1 publishes news id=a text=ho
         1 publishes news id=a ack
         api publishes news id=b
         api publishes news id=b
         relay",
        "1: news a isolated
         1: isolated for 3 a
         1: isolated for 3 a
         1: duplicate for 3 a
         1: news a isolated
         1: isolated for 3 a
         1: news b isolated
         answer 9 isolated
         1: news b isolated
         answer 9 isolated
         4 isolated in 0 ms, 0 refused, 0 partial, 1 losses, 0/0/0 reconnects",
    );
}

#[test]
fn what_was_delivered_alone_is_not_delivered_again_when_the_feed_brings_it() {
    alone(
        "1 publishes news id=a ack
         1 publishes news id=b
         at 4000
         up 1
         feed news id=a
         feed news id=a text=ho
         feed news id=b
         feed news id=b text=ho
         feed news id=c
         counted",
        &format!(
            "1: news a isolated
             1: isolated for 3 a
             1: news b isolated
             {LOST}{BACK}
             whole at 4000
             1: news b
             1: news c
             1 rooms, 0 agents, 0 published, 5 received, 0 unwanted"
        ),
    );
}

#[test]
fn ids_delivered_alone_are_remembered_for_their_time() {
    let brings = |at: u64, seen: &str| {
        alone(
            &format!("1 publishes news id=a ack\nup 1\nat {at}\nfeed news id=a"),
            &format!("1: news a isolated\n1: isolated for 3 a\n{LOST}{BACK}whole at 3000\n{seen}"),
        );
    };
    // At most two generations: what came first in one is kept for both.
    brings(3_000 + IDS_MS, "");
    brings(2_999 + 2 * IDS_MS, "");
    brings(3_000 + 2 * IDS_MS, "1: news a");
}

#[test]
fn ids_over_the_bound_push_out_the_oldest_and_acks_say_so() {
    let mut world = World::with(Hub::with_ids_max(config(0, true), Arc::new(Rules), 2));
    for line in ["at 0", "at 2000", "1 joins news"] {
        world.step(line);
    }
    world.seen.clear();
    for line in [
        "1 publishes news id=a ack",
        "1 publishes news id=b ack",
        "1 publishes news id=c ack",
        "1 publishes news id=a ack",
        "1 publishes news id=d ack",
        "1 publishes news id=e ack",
        "1 publishes news id=a ack",
        "1 publishes news id=c ack",
        "at 122000",
        "1 publishes news id=f ack",
    ] {
        world.step(line);
    }
    let seen: Vec<_> = world.seen.iter().filter(|it| !it.starts_with("beat")).collect();
    assert_eq!(
        seen,
        [
            "1: news a isolated",
            "1: isolated for 3 a",
            "1: news b isolated",
            "1: isolated for 3 b",
            "1: news c isolated",
            "1: isolated short for 3 c",
            "1: isolated short for 3 a",
            "1: news d isolated",
            "1: isolated short for 3 d",
            "1: news e isolated",
            "1: isolated short for 3 e",
            "1: news a isolated",
            "1: isolated short for 3 a",
            "1: isolated short for 3 c",
            "1: news f isolated",
            "1: isolated for 3 f",
        ]
    );
}

#[test]
fn joins_on_a_node_on_its_own_are_answered_at_once() {
    cut(
        "1 joins early
         2 joins early
         2 leaves early
         at 3000
         2 joins early
         0 joins late
         0 publishes late
         feed early
         at 3500
         up 1
         feed late
         subscribed late
         0 leaves late
         at 4500",
        &format!(
            "subscribe early
             {ALONE}
             1: joined early
             isolated at 3000
             2: joined early
             subscribe late
             0: joined late
             0: late isolated
             1: early
             2: early
             {LOST}{BACK}
             whole at 3500
             unsubscribe late"
        ),
    );
}

#[test]
fn a_join_after_the_return_waits_for_its_own_confirmation() {
    alone(
        "1 joins late
         up 1 to=1
         2 joins late
         feed late id=a
         subscribed late
         feed late id=b",
        &format!(
            "subscribe late
             1: joined late
             {LOST}{BACK}
             whole at 3000
             1: late a
             1: lost
             2: joined late
             1: late b
             2: late b"
        ),
    );
}

#[test]
fn a_join_answered_alone_is_told_of_what_came_before_its_room_was_heard() {
    // The feed was up all along, only commands were unanswered: beats come back before the room is subscribed.
    watch(
        "auto over=1
         up 1
         at 1000
         auto away
         unanswered 2
         at 2000
         unanswered 3
         at 3000
         1 joins late
         at 3100
         auto over=1
         at 3250
         at 3300
         subscribed late",
        &format!(
            "whole at 0
             cut at 2000
             {ALONE}
             isolated at 3000
             subscribe late
             1: joined late
             {BACK}
             whole at 3250
             1: lost"
        ),
    );
}

#[test]
fn a_feed_that_comes_up_confirms_all_requests_up_to_its_own() {
    watch(
        "auto over=1
         1 joins a
         2 joins b
         1 joins c
         1 leaves c
         up 1 to=2
         subscribed b
         1 joins d
         at 500
         up 1 to=9",
        "subscribe a
         subscribe b
         subscribe c
         1: joined a
         2: joined b
         whole at 0
         subscribe d
         1: joined d",
    );
}

#[test]
fn each_lane_is_told_of_a_loss_once_and_only_if_somebody_can_have_missed_something() {
    watch(
        "auto over=1
         1 joins news
         up 1
         at 100
         up 1
         at 200
         down
         down
         at 300
         up 1
         up 1
         relay",
        &format!(
            "subscribe news
             1: joined news
             whole at 0
             cut at 200
             {LOST}
             whole at 300
             0 isolated in 0 ms, 0 refused, 0 partial, 1 losses, 0/0/0 reconnects"
        ),
    );
    watch("auto over=1\nup 1\nat 100\ndown\nup 1", "whole at 0\ncut at 100\nwhole at 100");
}

#[test]
fn a_node_that_starts_without_a_broker_works_alone_until_it_comes() {
    watch(
        "auto away
         1 joins news
         1 publishes news id=a ack
         at 2000
         health
         at 60000
         auto over=1 peers=2
         up 1
         feed news id=b
         health",
        &format!(
            "subscribe news
             {ALONE}
             1: joined news
             1: news a isolated
             1: isolated for 3 a
             isolated at 2000
             isolated since 2000, never whole, feed 2000 ms, beat 2000 ms, 0 wait, 0 bytes, 0/0/0 peers
             {BACK}
             whole at 60000
             1: news b
             whole since 60000, feed 0 ms, beat 0 ms, 0 wait, 0 bytes, 1/0/0 peers"
        ),
    );
}

#[test]
fn what_the_broker_says_of_a_publication_stands_on_a_watched_hub_too() {
    watch(
        "auto over=1
         up 1
         1 publishes news ack
         refused
         1 publishes news ack
         unknown
         api publishes news
         accepted",
        "whole at 0
         publish news dedup
         1: unavailable for 3 x
         publish news dedup
         1: unknown for 3 x
         publish news
         answer 9 accepted",
    );
}

#[test]
fn when_all_are_gone_and_time_has_passed_nothing_is_kept() {
    let mut world = World::watched();
    let script =
        format!("{CUT}1 publishes news id=a ack\nat 3000\n0 joins other\nenters $agents 7/7\n");
    for line in script.lines() {
        world.step(line);
    }
    for line in
        ["1 leaves news", "0 leaves other", "exits $agents 7/7", "at 4000", "up 1", "at 9000"]
    {
        world.step(line);
    }
    let hub = &world.hub;
    assert_eq!((hub.rooms(), hub.agents(), hub.unconfirmed.len()), (0, 0, 0));
    assert_eq!((hub.waiting.len(), hub.waiting.bytes()), (0, 0));
    assert!(hub.deadlines.is_empty());
    assert!(hub.ids.len() > 0);
    world.step(&format!("at {}", 9_000 + 2 * IDS_MS));
    assert_eq!(world.hub.ids.len(), 0);
    assert_eq!(world.hub.ids.next_wake(), None);
}

#[test]
fn an_envelope_without_ids_to_compare_is_delivered_on_any_hub() {
    check("1 joins news\nsubscribed news\nfeed news id=a\nfeed news id=a", {
        "subscribe news\n1: joined news\n1: news a\n1: news a"
    });
    assert_eq!(publication("feed news bytes=400").weight(), 400);
}
