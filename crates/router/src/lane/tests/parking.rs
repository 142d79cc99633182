//! Members that are slower than their rooms.

use super::frames::position;
use super::{check, options, room};
use crate::lane::Lane;
use crate::outbox::{Parked, Shed};

/// What an outbox let go: `sheds tape@8 low=2`.
pub(super) fn shed(lane: &Lane, text: &str) -> Shed {
    let count = |name| options(text).find(|it| it.0 == name).map_or(0, |it| it.1.parse().unwrap());
    let parked = |(name, at): (&str, &str)| {
        let room = lane.rooms[lane.names[&room(name)] as usize].serial;
        Parked { room, covered: position(at) }
    };
    let parked = text.split(' ').filter_map(|word| word.split_once('@')).map(parked).collect();
    let (expired, conflated) = (count("expired"), count("conflated"));
    Shed { expired, conflated, low: count("low"), parked }
}

/// Sessions 1 and 2 in `tape`, which stands at 4.
#[track_caller]
fn at_4(script: &str, expected: &str) {
    let start = "manual
         1 opens as ann
         2 opens as bob+x
         1 joins tape
         hub joined tape at 4
         2 joins tape
         ";
    let seen = "1: welcome ann 1
         1 ready
         2: welcome bob 2
         2 ready
         hub join tape
         1: joined tape at 4
         2: joined tape at 4
         ";
    check(&format!("{start}{script}"), &format!("{seen}{expected}"));
}

#[test]
fn a_parked_member_goes_on_from_what_it_covered_and_meets_its_room() {
    at_4(
        "hub tape five pos=5
         serve
         2 fills
         2 sheds tape@4
         hub tape six pos=6
         serve
         2 drains 1000
         hub page 1 head=6 whole 5:five 6:six
         hub tape seven pos=7
         serve
         counted parked
         counted unparked
         counted gaps
         sizes",
        "1: tape five @5
         2: tape five @5
         2 waits for space
         1: tape six @6
         hub read 1 tape above 4
         2: tape five @5 + tape six @6
         1: tape seven @7
         2: tape seven @7
         1 parked
         1 unparked
         0 gaps
         2 sessions, 1 rooms, 2 places",
    );
}

#[test]
fn between_two_pages_it_waits_for_space_again() {
    at_4(
        "2 fills
         2 sheds tape@4
         hub tape five pos=5
         hub tape six pos=6
         serve
         2 drains 1000
         hub page 1 head=6 5:five
         2 drains 1000
         hub page 2 head=6 6:six",
        "2 waits for space
         1: tape five @5 + tape six @6
         hub read 1 tape above 4
         2: tape five @5
         2 waits for space
         hub read 2 tape above 5
         2: tape six @6",
    );
}

#[test]
fn it_is_given_what_it_has_space_for_and_a_long_one_when_nothing_else_waits() {
    let long = "x".repeat(100);
    at_4(
        &format!(
            "2 fills
             2 sheds tape@4
             hub tape five pos=5
             hub tape six pos=6
             serve
             2 drains 50
             hub page 1 head=6 whole 5:five 6:{long}
             2 drains 50
             hub page 2 head=6 whole 6:{long}
             2 drains 50 empty
             2 drains
             hub page 3 head=6 whole 6:{long}"
        ),
        &format!(
            "2 waits for space
             1: tape five @5 + tape six @6
             hub read 1 tape above 4
             2: tape five @5
             2 waits for space
             hub read 2 tape above 5
             2 waits to be empty
             hub read 3 tape above 5
             2: tape {long} @6"
        ),
    );
}

#[test]
fn what_a_newer_one_supersedes_and_what_expired_is_skipped_on_the_way() {
    at_4(
        "at 1000
         2 fills
         2 sheds tape@4
         hub tape k1:a pos=5
         hub tape k2:b pos=6
         hub tape k1:c pos=7
         hub tape k1:d pos=8
         hub tape k2:e pos=9
         serve
         2 drains 10000
         hub page 1 head=9 whole 5:k1:a 6:k2:b 7:k1:c 8:k1:d!y 9:k2:e<900
         counted conflated
         counted skipped",
        "2 waits for space
         1: tape k1:a @5 + tape k2:b @6 + tape k1:c @7 + tape k1:d @8 + tape k2:e @9
         hub read 1 tape above 4
         2: skip tape to 5 count 1 conflated
         2: tape k2:b @6 + tape k1:c @7
         2: skip tape to 9 count 2 expired+filtered
         1 conflated
         [1, 1, 0, 1, 0, 0, 0] skipped",
    );
}

#[test]
fn who_only_comes_back_is_given_all_of_a_key() {
    at_4(
        "hub tape k1:a pos=5
         hub tape k1:b pos=6
         serve
         2 joins tape since=4
         hub page 1 head=6 whole 5:k1:a 6:k1:b",
        "1: tape k1:a @5 + tape k1:b @6
         2: tape k1:a @5 + tape k1:b @6
         hub read 1 tape above 4
         2: joined tape at 4 recovered
         2: tape k1:a @5 + tape k1:b @6",
    );
}

#[test]
fn what_history_no_longer_has_is_the_only_gap() {
    at_4(
        "hub tape five pos=5
         hub tape six pos=6
         serve
         2 fills
         2 sheds tape@4
         2 drains 1000
         hub page 1 head=6 first=6 whole 6:six
         2 drains 1000
         hub page 2 head=6 first=6 whole 6:six
         hub tape seven pos=7
         serve
         counted gaps",
        "1: tape five @5 + tape six @6
         2: tape five @5 + tape six @6
         2 waits for space
         hub read 1 tape above 4
         2: gap tape at 5 too_old
         2 waits for space
         hub read 2 tape above 5
         2: tape six @6
         1: tape seven @7
         2: tape seven @7
         1 gaps",
    );
}

#[test]
fn a_stream_that_begins_anew_is_told_once_there_is_space() {
    at_4(
        "2 fills
         2 sheds tape@3
         hub gap tape at e2.1
         serve
         2 drains 1000
         hub page 1 head=e2.1 whole
         hub tape two pos=e2.2
         serve",
        "2 waits for space
         1: gap tape at e2.1 too_old
         hub read 1 tape above 3
         2: gap tape at e2.1 epoch
         1: tape two @e2.2
         2: tape two @e2.2",
    );
}

#[test]
fn a_parked_member_that_leaves_or_goes_leaves_nothing_behind() {
    for end in ["2 leaves tape", "2 gone"] {
        let left = if end == "2 gone" { "" } else { "\n2: left tape" };
        let sessions = if end == "2 gone" { 1 } else { 2 };
        at_4(
            &format!(
                "2 fills
                 2 sheds tape@3
                 {end}
                 1 leaves tape
                 hub tape five pos=5
                 sizes"
            ),
            &format!(
                "2 waits for space{left}
                 hub leave tape
                 1: left tape
                 {sessions} sessions, 0 rooms, 0 places"
            ),
        );
    }
}

#[test]
fn a_parked_member_that_is_ended_is_given_nothing_more() {
    at_4(
        "2 fills
         2 sheds tape@3
         2 overflows
         hub tape five pos=5
         serve
         counted parked",
        "2 waits for space
         2 closed 4200
         1: tape five @5
         1 parked",
    );
}

#[test]
fn a_join_of_a_parked_member_is_answered_when_it_is_live_again() {
    at_4(
        "2 fills
         2 sheds tape@3
         2 joins tape #7
         2 drains 1000
         hub page 1 head=4 whole 4:four
         hub tape five pos=5
         serve",
        "2 waits for space
         hub read 1 tape above 3
         2: tape four @4
         2: joined tape #7 at 4
         1: tape five @5
         2: tape five @5",
    );
}

#[test]
fn a_catch_up_whose_frames_were_let_go_begins_them_again() {
    at_4(
        "hub tape five pos=5
         hub tape six pos=6
         serve
         3 opens as cid
         3 joins tape since=4
         3 fills
         hub page 1 head=6 5:five
         3 sheds tape@4
         3 drains 1000
         hub page 2 head=6 whole 5:five 6:six
         hub tape seven pos=7
         serve",
        "1: tape five @5 + tape six @6
         2: tape five @5 + tape six @6
         3: welcome cid 3
         3 ready
         hub read 1 tape above 4
         3: joined tape at 4 recovered
         3: tape five @5
         3 waits for space
         3 waits for space
         hub read 2 tape above 4
         3: tape five @5 + tape six @6
         1: tape seven @7
         2: tape seven @7
         3: tape seven @7",
    );
}

#[test]
fn whoever_waits_for_space_is_never_too_late() {
    at_4(
        "hub tape five pos=5
         serve
         2 fills
         2 sheds tape@4
         at 20000
         2 drains
         hub page 1 head=5 whole 5:five
         counted gaps",
        "1: tape five @5
         2: tape five @5
         2 waits for space
         hub read 1 tape above 4
         2: tape five @5
         0 gaps",
    );
}

#[test]
fn sixty_four_reads_of_parked_members_are_under_way_and_the_next_has_its_turn() {
    use super::super::parking::READS_MAX;

    let mut script = String::from("manual\n1 opens as ann\n1 joins tape\nhub joined tape at 500\n");
    let mut expected =
        String::from("1: welcome ann 1\n1 ready\nhub join tape\n1: joined tape at 500\n");
    let count = READS_MAX + 2;
    for number in 2..2 + count {
        script.push_str(&format!("{number} opens as u{number}\n{number} joins tape\n"));
        expected.push_str(&format!(
            "{number}: welcome u{number} {number:x}\n{number} ready\n{number}: joined tape at 500\n"
        ));
    }
    // Each stands elsewhere, so none shares a read.
    for number in 2..2 + count {
        script.push_str(&format!("{number} sheds tape@{}\n", number + 100));
        if number < 2 + READS_MAX {
            expected.push_str(&format!("hub read {} tape above {}\n", number - 1, number + 100));
        }
    }
    let (first, second) = (2 + READS_MAX, 3 + READS_MAX);
    script.push_str(&format!("{first} leaves tape\nhub page 1 none\ncounted gaps"));
    expected.push_str(&format!("{first}: left tape\n2: gap tape at 500 unavailable\n"));
    expected.push_str(&format!("hub read {} tape above {}\n1 gaps", READS_MAX + 1, second + 100));
    check(&script, &expected);
}

#[test]
fn parked_members_who_stand_at_the_same_place_share_a_read() {
    at_4(
        "1 sheds tape@3
         2 sheds tape@3
         hub page 1 head=4 whole 4:four
         counted encodings
         counted unparked",
        "hub read 1 tape above 3
         1: tape four @4
         2: tape four @4
         1 encodings
         2 unparked",
    );
}

#[test]
fn what_is_lost_in_rooms_that_keep_nothing_is_told_once_there_is_space() {
    check(
        "1 opens as ann
         1 joins news
         1 fills
         1 sheds low=2
         1 sheds low=1 expired=4 conflated=5
         1 drains 100
         1 drains 100
         1 sheds expired=1
         1 drains 100
         counted gaps
         counted low
         counted shed-expired
         counted shed-conflated",
        "1: welcome ann 1
         1: joined news
         1 waits for space
         1 waits for space
         1: gap overload
         1 gaps
         3 low
         5 shed-expired
         5 shed-conflated",
    );
}

#[test]
fn what_another_tenant_of_a_rooms_place_left_behind_parks_nobody() {
    let mut world = super::World::new("");
    for line in ["1 opens as ann", "1 joins tape"] {
        world.step(line);
    }
    let old = shed(&world.lane, "sheds tape@0");
    for line in ["1 leaves tape", "1 joins tape"] {
        world.step(line);
    }
    let key = world.keys[&1];
    let mut out = Vec::new();
    world.lane.shed(world.now, key, &old, &mut out);
    assert!(out.is_empty());
    assert_eq!((world.lane.counters().parked, world.lane.sizes().memberships), (0, 1));
}

#[test]
fn what_has_no_position_is_lost_for_a_parked_member_and_that_is_told() {
    at_4(
        "hub tape outsider
         2 fills
         2 sheds tape@4
         hub tape another
         serve
         2 drains
         1 sheds tape@4
         hub tape five pos=5
         serve
         counted gaps",
        "2 waits for space
         2 waits for space
         1: tape outsider + tape another
         2: gap overload
         2: gap overload
         2: tape five @5
         1: tape five @5
         2 gaps",
    );
}
