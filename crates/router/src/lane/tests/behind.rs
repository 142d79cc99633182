//! What a client sends behind a join that waits for the record.

use super::check;
use crate::lane::behind::{BEHIND_BYTES_MAX, BEHIND_MAX};

/// A session whose joins wait for its record, which the hub writes when the script says so.
const BEGUN: &str = "silent
                     1 opens stock as ann!
                     hub attached 1 not_one
                     hub saved 1";
const BEGAN: &str = "hub attach any for ann with 1
                     1: welcome ann 1 token 1.1
                     hub save 1/1 attached with 1 [] own []";

#[track_caller]
fn check_begun(script: &str, expected: &str) {
    check(&format!("{BEGUN}\n{script}"), &format!("{BEGAN}\n{expected}"));
}

#[test]
fn a_publication_behind_a_join_is_heard_by_who_sent_both() {
    check_begun(
        "1 joins news #a; publishes news hi id=x ack
         hub saved 1
         hub accepts
         hub news hi
         serve",
        "hub save 1/1 attached with 1 [news] own []
         1: joined news #a
         hub publish news hi by ann id=x dedup
         1: accepted x
         1: news hi",
    );
}

#[test]
fn it_waits_as_well_for_a_room_that_is_not_live() {
    check_begun(
        "manual
         1 joins news #a; publishes news hi id=x
         hub joined news
         hub saved 1",
        "hub join news
         hub save 1/1 attached with 1 [news] own []
         1: joined news #a
         hub publish news hi by ann id=x",
    );
}

#[test]
fn all_that_follows_waits_in_order_but_acks_keep_alives_and_tokens() {
    check_begun(
        "1 joins news; publishes news one id=x; joins tape; asks tape; looks crowd; leaves news
         1 pings 5; acks y; token ann!; garbles #z
         1 publishes tape two id=y
         hub saved 1
         hub saved 1",
        "hub save 1/1 attached with 1 [news] own []
         1: pong 5
         1: refreshed until 1125899906842624
         1: refused #z: The message cannot be read
         1: joined news
         hub publish news one by ann id=x
         hub save 1/1 attached with 1 [news,tape@0] own []
         1: joined tape at 0
         hub read 1 tape below all
         hub roster crowd limit 1000
         1: left news
         hub publish tape two by ann id=y",
    );
}

#[test]
fn joins_behind_joins_do_not_wait_for_each_other() {
    check_begun(
        "1 joins news-1; joins news-2; joins news-3; publishes news-1 hi id=x
         hub saved 1
         hub saved 1",
        "hub save 1/1 attached with 1 [news-1,news-2,news-3] own []
         1: joined news-1
         hub save 1/1 attached with 1 [news-1,news-2,news-3] own []
         1: joined news-2
         1: joined news-3
         hub publish news-1 hi by ann id=x",
    );
}

#[test]
fn nothing_waits_for_clients_whose_joins_do_not() {
    check(
        "silent
         manual
         1 opens stock as ann knowing
         1 joins news; publishes news hi id=x",
        "1: welcome ann 1 token 1.1
         hub save 1/1 attached with 1 [] own []
         1 ready
         hub join news
         hub publish news hi by ann id=x",
    );
}

#[test]
fn nothing_waits_while_the_broker_is_away() {
    check_begun(
        "manual
         1 joins tape; publishes tape hi id=x
         hub away tape
         1 publishes tape ho id=y",
        "hub join tape
         1: joined tape not live
         hub publish tape hi by ann id=x
         hub publish tape ho by ann id=y",
    );
    check_begun(
        "1 joins news; publishes news hi id=x
         hub isolated",
        "hub save 1/1 attached with 1 [news] own []
         1: degraded true
         1: joined news
         hub publish news hi by ann id=x",
    );
    check_begun(
        "1 joins news; publishes news hi id=x
         hub saved 1 unanswered",
        "hub save 1/1 attached with 1 [news] own []
         1: joined news
         hub publish news hi by ann id=x",
    );
}

#[test]
fn a_join_that_a_refresh_takes_back_holds_nothing_up() {
    check(
        "silent
         1 opens stock as ann+secret
         hub attached 1 not_one
         hub saved 1
         1 joins secrets; publishes news hi id=x
         1 token ann",
        "hub attach any for ann with 1
         1: welcome ann 1 token 1.1
         hub save 1/1 attached with 1 [] own []
         hub save 1/1 attached with 1 [secrets] own []
         1: refused secrets: Permission denied
         1: refreshed until 1125899906842624
         hub publish news hi by ann id=x",
    );
}

#[test]
fn so_many_commands_wait_and_the_next_is_refused() {
    let refused = "1: refused news: Too many commands wait for a room to be joined wait 1000";
    let saved = "hub save 1/1 attached with 1 [news] own []";
    let leaves = |count| {
        let leaves = "1 asks news\n".repeat(count);
        format!("1 joins news\n{leaves}")
    };
    check_begun(&leaves(BEHIND_MAX), saved);
    check_begun(&leaves(BEHIND_MAX + 1), &format!("{saved}\n{refused}"));

    let bytes = |count| {
        let text = "x".repeat(count);
        format!("1 joins news; publishes news {text} id=x\n1 publishes news y id=y")
    };
    check_begun(&bytes(BEHIND_BYTES_MAX - 1), saved);
    check_begun(&bytes(BEHIND_BYTES_MAX), &format!("{saved}\n{refused}"));
}

#[test]
fn what_a_client_published_before_it_went_is_published() {
    check_begun(
        "1 joins news; publishes news hi id=x; asks tape
         1 goodbye
         sizes",
        "hub save 1/1 attached with 1 [news] own []
         hub publish news hi by ann id=x
         hub save 1/1 ended with 1, the last
         0 sessions, 0 rooms, 0 places",
    );
}
