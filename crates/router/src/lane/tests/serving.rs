//! Publications on their way to members: merging, classes, filters, slices, formats.

use super::super::SLICE_MEMBERS;
use super::{World, check};

/// Sessions `1..=count`, all in `news`.
fn members(count: u32) -> String {
    let one = |number| format!("{number} opens as u{number}\n{number} joins news\n");
    (1..=count).map(one).collect()
}

/// What [`members`] shows.
fn joined(count: u32) -> String {
    let one = |number| format!("{number}: welcome u{number} {number:x}\n{number}: joined news\n");
    (1..=count).map(one).collect()
}

#[track_caller]
fn with_members(count: u32, script: &str, expected: &str) {
    check(&format!("{}{script}", members(count)), &format!("{}{expected}", joined(count)));
}

#[test]
fn publications_of_one_turn_are_one_write_in_order() {
    with_members(
        2,
        "hub news one
         hub news two
         hub news three
         serve
         hub news four
         serve
         counted deliveries",
        "1: news one + news two + news three
         2: news one + news two + news three
         1: news four
         2: news four
         4 deliveries",
    );
}

#[test]
fn a_write_is_merged_up_to_its_cap() {
    let long = "x".repeat(super::super::batch::MERGE_BYTES_MAX / 2);
    with_members(
        1,
        &format!("hub news {long}\nhub news {long}\nhub news {long}\nhub news end\nserve"),
        &format!("1: news {long}\n1: news {long}\n1: news {long} + news end"),
    );
}

#[test]
fn a_publication_is_encoded_once_for_each_format() {
    check(
        "1 opens as a
         2 opens as b
         3 opens msgpack as c
         4 opens msgpack as d
         5 opens own as e
         1 joins news
         2 joins news
         3 joins news
         4 joins news
         5 joins news
         hub news one
         hub news two
         counted encodings
         serve
         counted encodings
         3 leaves news
         4 leaves news
         5 leaves news
         hub news three
         serve
         counted encodings",
        "1: welcome a 1
         2: welcome b 2
         3: m welcome c 3
         4: m welcome d 4
         5: welcome e 5
         1: joined news
         2: joined news
         3: m joined news
         4: m joined news
         5: joined news
         6 encodings
         1: news one + news two
         2: news one + news two
         3: m news one + m news two
         4: m news one + m news two
         5: news one + news two
         6 encodings
         3: m left news
         4: m left news
         5: left news
         1: news three
         2: news three
         7 encodings",
    );
}

#[test]
fn classes_split_writes_and_keep_their_order() {
    with_members(
        1,
        "hub news one
         hub news two class=high
         hub news three class=high
         hub news four
         hub news five class=low
         serve",
        "1: news one
         1: news two + news three !high
         1: news four
         1: news five !low",
    );
}

#[test]
fn a_rooms_rule_gives_the_class_where_the_sender_gave_none() {
    check(
        "1 opens as a
         1 joins urgent
         1 joins slow
         hub urgent one
         hub urgent two class=low
         hub slow three
         serve",
        "1: welcome a 1
         1: joined urgent
         1: joined slow
         1: urgent one !high
         1: slow three !low
         1: urgent two !low",
    );
}

#[test]
fn only_members_with_all_permissions_get_what_requires_them() {
    check(
        "1 opens as a+x+y
         2 opens as b+x
         3 opens as c
         1 joins news
         2 joins news
         3 joins news
         hub news all
         hub news some requires=x
         hub news few requires=x,y
         hub news end
         serve",
        "1: welcome a 1
         2: welcome b 2
         3: welcome c 3
         1: joined news
         2: joined news
         3: joined news
         1: news all
         2: news all
         3: news all
         1: news some
         2: news some
         1: news few
         1: news end
         2: news end
         3: news end",
    );
}

#[test]
fn a_leaving_member_gets_only_what_its_permissions_allow() {
    check(
        "1 opens as a+x
         2 opens as b
         1 joins news
         2 joins news
         hub news some requires=x
         2 leaves news
         1 leaves news",
        "1: welcome a 1
         2: welcome b 2
         1: joined news
         2: joined news
         2: left news
         1: news some
         1: left news",
    );
}

#[test]
fn expired_publications_are_not_delivered() {
    with_members(
        1,
        "hub news late ttl=0
         hub news fresh ttl=1
         serve
         counted expired",
        "1: news fresh
         1 expired",
    );
}

#[test]
fn publications_of_rooms_nobody_is_in_are_dropped() {
    check("hub news hi\nserve\ncounted unwanted", "1 unwanted");
}

#[test]
fn a_leaving_member_gets_what_is_under_way_and_the_reply_after_it() {
    with_members(
        2,
        "hub news one
         hub news two class=low
         1 leaves news
         hub news three class=low
         serve",
        "1: news one
         1: news two !low
         1: left news
         2: news one
         2: news two + news three !low",
    );
}

#[test]
fn a_reply_to_a_leave_comes_behind_all_that_waits() {
    let mut world = World::new("");
    for line in ["1 opens as a", "1 joins news", "hub news hi"] {
        world.step(line);
    }
    let mut out = Vec::new();
    world.session_does(1, "leaves news", &mut out);
    let mut outbox = crate::outbox::Outbox::new(0);
    outbox.push_begun("begun ".into());
    for effect in out {
        if let crate::messages::Effect::Send { frame, class, .. } = effect {
            outbox.push(frame, class, None);
        }
    }
    let mut sent = Vec::new();
    while let Some(bytes) = outbox.front() {
        sent.extend_from_slice(bytes);
        let count = bytes.len();
        outbox.written(count, 0);
    }
    assert_eq!(sent[..6], *b"begun ");
    assert_eq!(super::texts(&sent[6..]), ["news hi", "left news"]);
}

#[test]
fn a_joining_member_hears_only_what_comes_behind() {
    with_members(
        1,
        "hub news one
         2 opens as u2
         2 joins news
         hub news two
         serve",
        "2: welcome u2 2
         2: joined news
         1: news one
         1: news two
         2: news two",
    );
}

#[test]
fn a_big_room_is_served_in_slices_and_a_small_one_between_them() {
    let mut world = World::new("");
    for line in members(600).lines() {
        world.step(line);
    }
    for line in ["700 opens as small", "700 joins news-2", "hub news hi", "hub news-2 hi"] {
        world.step(line);
    }
    world.seen.clear();
    world.step(&format!("serve {SLICE_MEMBERS}"));
    let slice = (world.seen.len(), world.seen[SLICE_MEMBERS].as_str());
    assert_eq!(slice, (SLICE_MEMBERS + 1, "more"));
    world.step("serve 1");
    assert_eq!(world.seen[SLICE_MEMBERS + 1..], ["700: news-2 hi", "more"]);
    world.step("serve");
    assert_eq!(world.seen.iter().filter(|line| line.ends_with(": news hi")).count(), 600);
}

#[test]
fn a_budget_is_never_overdrawn() {
    with_members(
        3,
        "hub news one
         serve 2
         hub news two
         serve 2
         serve 9",
        "1: news one
         2: news one
         more
         3: news one
         1: news two
         more
         2: news two
         3: news two",
    );
}

#[test]
fn members_come_and_go_between_slices_and_each_hears_its_own() {
    with_members(
        4,
        "hub news one
         serve 2
         5 opens as u5
         5 joins news
         hub news two
         4 leaves news
         1 leaves news
         serve",
        "1: news one
         2: news one
         more
         5: welcome u5 5
         5: joined news
         4: news one
         4: news two
         4: left news
         1: news two
         1: left news
         3: news one
         2: news two
         3: news two
         5: news two",
    );
}

#[test]
fn what_waits_in_a_lane_is_bounded() {
    let mut world = World::new("");
    for line in members(3).lines() {
        world.step(line);
    }
    world.seen.clear();
    let long = "x".repeat(100_000);
    let mut most = 0;
    for number in 0..200 {
        let class = if number % 2 == 0 { "low" } else { "high" };
        world.step(&format!("hub news {long} class={class}"));
        most = most.max(world.lane.backlog_bytes());
    }
    assert!(most <= super::super::BACKLOG_BYTES_MAX + 101_000, "{most}");
    assert!(world.seen.len() > 300, "served meanwhile: {}", world.seen.len());
    world.step("serve");
    assert_eq!((world.seen.len(), world.lane.backlog_bytes()), (600, 0));
    for line in ["1 leaves news", "2 gone", "hub news hi", "3 gone"] {
        world.step(line);
    }
    assert_eq!(world.lane.backlog_bytes(), 0);
}

#[test]
fn a_room_that_ends_while_it_waits_its_turn_is_forgotten() {
    let mut world = World::new("");
    for line in [
        "1 opens as a",
        "1 joins news",
        "hub news hi",
        "1 gone",
        "2 opens as b",
        "2 joins news-2",
        "hub news-2 hi",
        "serve",
    ] {
        world.step(line);
    }
    assert_eq!(world.seen.last().unwrap(), "2: news-2 hi");
    assert!(world.lane.busy.is_empty());
}

#[test]
fn a_publication_is_served_when_its_last_member_was_given_it() {
    with_members(
        3,
        "hub news one us=11
         hub news two us=12
         hub news three
         served
         serve 2
         hub news four us=14
         served
         serve 1
         served
         serve
         served
         served",
        "served []
         1: news one + news two + news three
         2: news one + news two + news three
         more
         served []
         3: news one + news two + news three
         more
         served [11, 12]
         1: news four
         2: news four
         3: news four
         served [14]
         served []",
    );
}

#[test]
fn a_publication_is_served_when_the_last_member_without_it_leaves() {
    with_members(
        2,
        "hub news one us=11
         serve 1
         served
         2 leaves news
         serve
         served",
        "1: news one
         more
         served []
         2: news one
         2: left news
         served [11]",
    );
}

#[test]
fn a_publication_that_nobody_is_left_to_get_is_never_served() {
    with_members(
        1,
        "hub news one us=11
         1 gone
         serve
         hub news two us=12
         serve
         served",
        "served []",
    );
}

#[test]
fn stamps_wait_for_the_shell_up_to_their_bound_and_their_lists_are_used_again() {
    let mut world = World::new("");
    world.step("1 opens as a");
    world.step("1 joins news");
    for us in 1..=super::super::SERVED_MAX + 1 {
        world.step(&format!("hub news hi us={us}"));
        world.step("serve");
        assert_eq!(world.lane.served.spare_lists(), 1);
    }
    let served = world.lane.take_served();
    assert_eq!(served.len(), super::super::SERVED_MAX);
    assert_eq!(served.last().copied(), Some(super::super::SERVED_MAX as u64));
}
