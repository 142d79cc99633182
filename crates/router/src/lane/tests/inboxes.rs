//! Inboxes (G16): what a device has not acked is given when it enters, and its cursor moves.

use roomcast_protocol::inbox::{Acked, CursorName, InboxState, Told};
use roomcast_protocol::position::Head;

use super::frames::{place, position};
use super::{World, check, options, room};
use crate::messages::LaneMessage;

/// A cursor's name: its room, and its device if it has one.
pub(super) fn named(cursor: &CursorName) -> String {
    if cursor.device.is_empty() {
        cursor.room.to_string()
    } else {
        format!("{} {}", cursor.room, cursor.device)
    }
}

/// How a cursor is moved.
pub(super) fn shown(cursor: &CursorName, acked: &Acked, told: Told) -> String {
    let mut text = format!("acked {} to {}", named(cursor), place(acked.watermark));
    if !acked.above.is_empty() {
        let above: Vec<_> = acked.above.iter().map(ToString::to_string).collect();
        text.push_str(&format!(" above {}", above.join(",")));
    }
    if told.count > 0 {
        text.push_str(&format!(" told {}", told.count));
    }
    text
}

impl World {
    /// `1 box acked=5 above=7,9 head=9 [first=3] [lost=2] [told=1]` for session 1, or `1 box none`.
    pub(super) fn inbox_is(&self, text: &str) -> LaneMessage {
        let words: Vec<_> = text.split(' ').collect();
        let option = |name| options(text).find(|(held, _)| *held == name).map(|(_, it)| it);
        let number = |name| option(name).map(|it| it.parse::<u64>().unwrap());
        let session = self.keys[&words[0].parse().unwrap()];
        let cursor = CursorName { room: room(words[1]), device: "".into() };
        let state = option("head").map(|head| InboxState {
            acked: Acked {
                watermark: position(option("acked").unwrap_or("0")),
                above: option("above")
                    .map_or(Vec::new(), |it| it.split(',').map(|it| it.parse().unwrap()).collect()),
            },
            head: Head { position: position(head), first: number("first").unwrap_or(1) },
            lost: number("lost").unwrap_or(0),
            told: Told { cursor: 1, count: number("told").unwrap_or(0) },
        });
        LaneMessage::Inbox { session, cursor, state }
    }
}

/// Session 1 has asked for `box`, which stands at 9.
#[track_caller]
pub(super) fn asked(join: &str, script: &str, expected: &str) {
    let start = format!("manual\n1 opens as ann\n1 joins box {join}\nhub joined box at 9\n");
    let seen = "1: welcome ann 1\n1 ready\nhub join box\nhub inbox? 1 box\n";
    check(&format!("{start}{script}"), &format!("{seen}{expected}"));
}

#[test]
fn what_is_not_acked_is_given_oldest_first_before_what_is_live() {
    asked(
        "#1",
        "hub box ten pos=10
         hub inbox 1 box acked=5 above=7,9 head=10
         hub page 1 in=box head=10 6:a 7:b 8:c 9:d 10:ten
         hub box eleven pos=11
         serve
         counted skipped",
        "1: joined box #1 at 5 recovered
         hub read 1 box above 5
         1: box a @6
         1: skip box to 7 count 1 acked
         1: box c @8
         1: skip box to 9 count 1 acked
         1: box ten @10
         1: box eleven @11
         [0, 0, 0, 0, 2, 0, 0] skipped",
    );
}

#[test]
fn who_has_acked_all_is_live_at_once() {
    asked(
        "#1",
        "hub inbox 1 box acked=9 head=9
         hub box ten pos=10
         serve",
        "1: joined box #1 at 9 recovered
         1: box ten @10",
    );
}

#[test]
fn the_own_room_is_entered_from_the_cursor_without_holding_the_welcome() {
    check(
        "inboxes
         manual
         1 opens own as ann
         hub joined session-1
         hub joined user-ann at 9
         hub inbox 1 user-ann acked=8 head=9
         hub user-ann ten pos=10
         hub page 1 in=user-ann head=10 9:a 10:ten
         hub user-ann eleven pos=11
         serve
         2 opens own as ann
         hub joined session-2
         hub inbox 2 user-ann acked=11 head=11
         hub user-ann twelve pos=12
         serve
         sizes",
        "hub join user-ann
         hub join session-1
         hub inbox? 1 user-ann
         1: welcome ann 1
         1 ready
         1: joined user-ann at 8 recovered
         hub read 1 user-ann above 8
         1: user-ann a @9 + user-ann ten @10
         1: user-ann eleven @11
         hub join session-2
         hub inbox? 2 user-ann
         2: welcome ann 2
         2 ready
         2: joined user-ann at 11 recovered
         1: user-ann twelve @12
         2: user-ann twelve @12
         2 sessions, 3 rooms, 4 places",
    );
}

/// Session 1, a client of the seed's or one that knows of positions, is put into its room, which is quiet or not.
#[track_caller]
fn put_in(quiet: &str, knows: bool, inbox: &str, seen: &str) {
    let (knowing, attach, asked) = match knows {
        true => (" knowing", "", ""),
        false => ("", "hub attached 1 not_one", "hub attach any for ann with 1\n"),
    };
    check(
        &format!(
            "inboxes
             {quiet}
             manual
             1 opens seed as ann{knowing}
             {attach}
             hub joined session-1
             hub joined user-ann at 9
             hub inbox 1 user-ann {inbox}
             hub page 1 in=user-ann head=9 9:a
             hub user-ann ten pos=10
             serve
             1 joins user-ann #2"
        ),
        &format!(
            "{asked}hub join user-ann
             hub join session-1
             hub inbox? 1 user-ann
             1: welcome ann 1 token 1.1
             hub save 1/1 attached with 1 [] own []
             1 ready
             {seen}1: user-ann ten @10
             1: joined user-ann #2 at 10"
        ),
    );
}

#[test]
fn a_quiet_inbox_is_told_to_who_knows_of_positions_if_something_is_missing() {
    let (read, given) = ("hub read 1 user-ann above 8\n", "1: user-ann a @9\n");
    let told = format!("1: joined user-ann at 8 recovered\n{read}{given}");
    let nothing_missing = "acked=8 head=9";
    put_in("quiet", true, nothing_missing, &format!("{read}{given}"));
    put_in("quiet", false, nothing_missing, &format!("{read}{given}"));
    put_in("", true, nothing_missing, &told);
    put_in("", false, nothing_missing, &told);
    let lost = "acked=7 head=9 first=9 lost=1";
    let told = "1: joined user-ann at 8 too_old\n1: lost user-ann 1\n";
    put_in("quiet", true, lost, &format!("{told}{read}{given}"));
    put_in("quiet", false, lost, &format!("1: lost user-ann 1\n{read}{given}"));
}

#[test]
fn a_quiet_inbox_is_told_to_who_is_resumed_and_knows_of_positions_before_all_else_of_it() {
    let told = "1: joined user-ann at 7 recovered\n";
    let unasked = ("opens seed as ann", "any for ann");
    let knowing = ("opens seed as ann resume=7.5", "7.5 for ann");
    for (quiet, (opens, wish), told) in
        [("quiet", unasked, ""), ("", unasked, told), ("quiet", knowing, told)]
    {
        check(
            &format!(
                "inboxes
                 {quiet}
                 manual
                 1 {opens}
                 hub attached 1 as=7 own=user-ann@7
                 hub joined session-7
                 hub joined user-ann at 9
                 hub inbox 1 user-ann acked=8 head=9
                 hub page 1 in=user-ann head=9 9:a"
            ),
            &format!(
                "hub attach {wish} with 1
                 hub join user-ann
                 hub join session-7
                 1: welcome ann 7 token 7.1 resumed
                 hub inbox? 1 user-ann
                 hub save 7/2 attached with 1 unconfirmed [] own [user-ann@7]
                 1: ping 1
                 1 ready
                 {told}1: skip user-ann to 8 count 1 acked
                 hub read 1 user-ann above 8
                 1: user-ann a @9"
            ),
        );
    }
}

#[test]
fn who_is_not_resumed_is_told_what_became_of_an_inbox_that_it_has_covered() {
    let other = "e2.7";
    for (wish, attach, asked, welcome) in [
        (
            "resume=7.5",
            "hub attached 1 unknown\n",
            "hub attach 7.5 for ann with 1\n",
            " not resumed: unknown",
        ),
        ("knowing", "", "", ""),
    ] {
        for (covered, told) in [
            (other, "1: joined user-ann at 8 epoch\n"),
            ("7", "1: joined user-ann at 7 recovered\n1: skip user-ann to 8 count 1 acked\n"),
        ] {
            check(
                &format!(
                    "inboxes
                     quiet
                     manual
                     1 opens lasting as ann {wish} covered=user-ann@{covered},user-bob@3
                     {attach}hub joined session-1
                     hub joined user-ann at 9
                     hub inbox 1 user-ann acked=8 head=9
                     hub page 1 in=user-ann head=9 9:a"
                ),
                &format!(
                    "{asked}hub join user-ann
                     hub join session-1
                     1: welcome ann 1 token 1.1{welcome}
                     hub inbox? 1 user-ann
                     hub save 1/1 attached with 1 [] own [user-ann@{covered}]
                     1 ready
                     {told}hub read 1 user-ann above 8
                     1: user-ann a @9"
                ),
            );
        }
    }
}

#[test]
fn a_quiet_inbox_is_told_to_who_is_resumed_and_says_what_it_has_covered_of_it() {
    check(
        "inboxes
         quiet
         manual
         1 opens lasting as ann resume=7.5 covered=user-ann@8
         hub attached 1 as=7 own=user-ann@7
         hub joined session-7
         hub joined user-ann at 9
         hub inbox 1 user-ann acked=8 head=9
         hub page 1 in=user-ann head=9 9:a",
        "hub attach 7.5 for ann with 1
         hub join user-ann
         hub join session-7
         1: welcome ann 7 token 7.1 resumed
         hub inbox? 1 user-ann
         hub save 7/2 attached with 1 unconfirmed [] own [user-ann@8]
         1: ping 1
         1 ready
         1: joined user-ann at 8 recovered
         hub read 1 user-ann above 8
         1: user-ann a @9",
    );
}

#[test]
fn an_own_room_that_was_away_is_entered_from_the_cursor_on_return() {
    check(
        "inboxes
         manual
         1 opens own as ann
         hub joined session-1
         hub away user-ann
         hub joined user-ann at 9
         hub inbox 1 user-ann acked=8 head=9
         hub page 1 in=user-ann head=9 9:a",
        "hub join user-ann
         hub join session-1
         1: welcome ann 1
         1 ready
         hub inbox? 1 user-ann
         1: joined user-ann at 8 recovered
         hub read 1 user-ann above 8
         1: user-ann a @9",
    );
}

#[test]
fn an_unanswered_question_ends_in_a_gap_and_acks_nothing_older() {
    for none in ["hub inbox 1 box none", "at 5000"] {
        asked(
            "#1",
            &format!(
                "{none}
                 hub inbox 1 box acked=5 head=9
                 hub box ten pos=10
                 serve
                 counted inboxes-unknown
                 wait 1250
                 1 pongs
                 hub box eleven pos=11
                 serve
                 1 heard
                 wait 24000
                 1 heard
                 wait 1250
                 1 pongs"
            ),
            "1: joined box #1 at 9 unavailable
             1: box ten @10
             1 inboxes-unknown
             1: ping
             hub acked box to 0 above 10
             1: box eleven @11
             1: ping
             hub acked box to 0 above 10,11",
        );
    }
}

#[test]
fn a_session_that_was_never_given_its_inbox_is_given_it_when_it_is_resumed() {
    check(
        "inboxes
         manual
         1 opens lasting as ann knowing
         hub joined session-1
         hub joined user-ann at 9
         hub inbox 1 user-ann none
         1 gone",
        "hub join user-ann
         hub join session-1
         hub inbox? 1 user-ann
         1: welcome ann 1 token 1.1
         hub save 1/1 attached with 1 [] own []
         1 ready
         1: joined user-ann at 9 unavailable
         hub save 1/1 detached with 1 [] own [user-ann@0], the last
         hub leave user-ann
         hub leave session-1",
    );
}

#[test]
fn a_client_that_says_where_it_is_goes_on_there_without_an_answer() {
    asked(
        "#1 since=7",
        "at 5000
         hub page 1 in=box head=9 8:a 9:b",
        "hub read 1 box above 7
         1: joined box #1 at 7 recovered
         1: box a @8 + box b @9",
    );
}

#[test]
fn what_was_removed_is_told_once_and_given_back_when_a_ping_is_answered() {
    asked(
        "#1",
        "hub inbox 1 box acked=5 first=8 head=9 lost=2
         hub page 1 in=box head=9 first=8 8:c 9:d
         counted lost
         wait 1250
         1 pongs
         wait 25000
         1 gone",
        "1: joined box #1 at 7 too_old
         1: lost box 2
         hub read 1 box above 7
         1: box c @8 + box d @9
         2 lost
         1: ping
         hub acked box to 9 told 2
         1: ping
         hub leave box",
    );
}

#[test]
fn what_is_known_to_be_lost_is_counted_from_the_beginning_and_said_with_each_move() {
    asked(
        "#1",
        "hub inbox 1 box acked=9 head=9 lost=5 told=3
         hub box ten pos=10
         serve
         wait 1250
         1 pongs
         hub box eleven id=x pos=11 ack
         serve
         wait 1250
         1 acks x",
        "1: joined box #1 at 9 too_old
         1: lost box 2
         1: box ten @10
         1: ping
         hub acked box to 10 told 5
         1: box eleven @11
         1: ping
         hub acked box to 11 told 5",
    );
}

#[test]
fn what_is_known_already_is_not_told() {
    asked(
        "#1",
        "hub inbox 1 box acked=9 head=9 lost=5 told=5
         hub box ten pos=10
         serve
         wait 1250
         1 pongs",
        "1: joined box #1 at 9 recovered
         1: box ten @10
         1: ping
         hub acked box to 10 told 5",
    );
}

#[test]
fn whoever_goes_before_a_ping_is_answered_is_told_again() {
    asked(
        "#1",
        "hub inbox 1 box acked=9 head=9 lost=2
         1 gone
         2 opens as ann
         2 joins box
         hub joined box at 9
         hub inbox 2 box acked=9 head=9 lost=2
         wait 1250
         2 pongs",
        "1: joined box #1 at 9 too_old
         1: lost box 2
         hub leave box
         2: welcome ann 2
         2 ready
         hub join box
         hub inbox? 2 box
         2: joined box at 9 too_old
         2: lost box 2
         2: ping
         hub acked box to 9 told 2",
    );
}

#[test]
fn what_is_removed_while_it_is_read_is_told_as_skipped() {
    asked(
        "#1",
        "hub inbox 1 box acked=5 head=9
         hub page 1 in=box head=9 first=8 8:c 9:d
         hub page 2 in=box head=9 first=8 8:- 9:d
         counted skipped
         wait 1250
         1 pongs
         wait 1000",
        "1: joined box #1 at 5 recovered
         hub read 1 box above 5
         1: skip box to 7 count 2 removed
         hub read 2 box above 7
         1: skip box to 8 count 1 removed
         1: box d @9
         [0, 0, 0, 0, 0, 3, 0] skipped
         hub acked box to 7
         1: ping
         hub acked box to 9",
    );
}

#[test]
fn a_client_ahead_of_the_cursor_is_given_again_only_what_it_has_not_acked() {
    asked(
        "#1 since=8",
        "hub inbox 1 box acked=4 above=6 head=9
         hub page 1 in=box head=9 5:a 6:b* 7:c* 8:d<1 9:e
         1 acks c
         counted redelivered
         1 gone",
        "1: joined box #1 at 8 recovered
         hub read 1 box above 4
         1: again box c @7
         1: box e @9
         hub acked box to 8
         1 redelivered
         hub leave box",
    );
}

#[test]
fn a_client_behind_the_cursor_is_told_that_it_acked_the_rest() {
    for (since, state, seen) in [
        (
            "since=2",
            "acked=8 head=9",
            "1: joined box #1 at 2 recovered\n1: skip box to 8 count 6 acked",
        ),
        (
            "since=2",
            "acked=6 first=9 head=9",
            "1: joined box #1 at 2 recovered\n1: skip box to 8 count 6 acked+removed",
        ),
        (
            "since=2",
            "acked=1 first=9 head=9 lost=6",
            "1: joined box #1 at 8 too_old\n1: lost box 6",
        ),
        ("since=e2.8", "acked=8 head=9", "1: joined box #1 at 8 epoch"),
        ("since=10", "acked=8 head=9", "1: joined box #1 at 8 ahead"),
    ] {
        asked(
            &format!("#1 {since}"),
            &format!("hub inbox 1 box {state}\nhub page 1 in=box head=9 9:a"),
            &format!("{seen}\nhub read 1 box above 8\n1: box a @9"),
        );
    }
}

#[test]
fn who_is_ahead_of_the_lane_waits_for_it() {
    asked(
        "#1 since=10",
        "hub inbox 1 box acked=8 head=10
         hub page 1 in=box head=10 9:a 10:b
         hub box b pos=10
         hub page 2 in=box head=10 10:b
         hub box c pos=11
         serve",
        "1: joined box #1 at 10 recovered
         hub read 1 box above 8
         hub read 2 box above 9
         1: box c @11",
    );
}

#[test]
fn entries_of_an_older_epoch_are_given_under_the_one_that_counts() {
    check(
        "manual
         1 opens as ann
         1 joins box
         hub joined box at e2.9
         hub inbox 1 box acked=6 head=e2.9
         hub page 1 in=box head=e2.9 7:a 8:? e2.9:c
         hub box d pos=e2.10
         serve
         wait 1250
         1 pongs",
        "1: welcome ann 1
         1 ready
         hub join box
         hub inbox? 1 box
         1: joined box at e2.6 recovered
         hub read 1 box above 6
         1: box a @e2.7
         1: skip box to e2.8 count 1 unreadable
         1: box c @e2.9
         1: box d @e2.10
         1: ping
         hub acked box to e2.10",
    );
}

#[test]
fn the_cursor_moves_when_a_later_ping_is_answered() {
    asked(
        "#1",
        "hub inbox 1 box acked=9 head=9
         wait 5000
         1 heard
         hub box ten pos=10
         serve
         wait 1250
         hub box eleven pos=11
         serve
         1 pongs
         1 heard
         wait 12000
         1 heard
         wait 13000
         1 pongs
         1 heard
         wait 23000
         1 gone",
        "1: joined box #1 at 9 recovered
         1: box ten @10
         1: ping
         1: box eleven @11
         hub acked box to 10
         1: ping
         hub acked box to 11
         hub leave box",
    );
}

#[test]
fn what_requires_an_ack_holds_the_cursor_up() {
    asked(
        "#1",
        "hub inbox 1 box acked=9 head=9
         hub box ten pos=10
         hub box eleven id=x pos=11 ack
         hub box twelve id=y pos=12 ack
         hub box thirteen pos=13
         serve
         wait 1250
         1 pongs
         1 acks y
         wait 1250
         1 acks x
         wait 1250",
        "1: joined box #1 at 9 recovered
         1: box ten @10
         1: box eleven @11 + box twelve @12
         1: box thirteen @13
         1: ping
         hub acked box to 10 above 13
         hub acked box to 10 above 12,13
         hub acked box to 13",
    );
}

#[test]
fn moves_are_told_at_most_once_a_second_and_at_the_end() {
    asked(
        "#1",
        "hub inbox 1 box acked=9 head=9
         hub box a id=a pos=10 ack
         hub box b id=b pos=11 ack
         hub box c id=c pos=12 ack
         hub box d id=d pos=13 ack
         serve
         1 acks a
         1 acks b
         1 acks c
         wait 1250
         1 acks d
         1 leaves box #2
         1 joins box #3
         hub joined box at 13",
        "1: joined box #1 at 9 recovered
         1: box a @10 + box b @11 + box c @12 + box d @13
         hub acked box to 10
         hub acked box to 12
         1: ping
         hub acked box to 13
         hub leave box
         1: left box #2
         hub join box
         hub inbox? 1 box",
    );
}

#[test]
fn a_failed_delivery_stays_in_the_inbox() {
    asked(
        "#1",
        "hub inbox 1 box acked=9 head=9
         hub box a id=a pos=10 ack
         hub box b pos=11
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
         counted failed
         1 gone",
        "1: joined box #1 at 9 recovered
         1: box a @10
         1: box b @11
         1: ping
         hub acked box to 9 above 11
         1: again box a @10
         1: ping
         1: again box a @10
         1: ping
         1: again box a @10
         1: ping
         1 failed
         hub leave box",
    );
}

#[test]
fn what_a_gap_took_is_not_acked() {
    asked(
        "#1",
        "hub inbox 1 box acked=9 head=9
         hub gap box at 12
         hub box thirteen pos=13
         serve
         wait 1250
         1 pongs",
        "1: joined box #1 at 9 recovered
         1: gap box at 12 too_old + box thirteen @13
         1: ping
         hub acked box to 9 above 13",
    );
}

#[test]
fn devices_have_cursors_of_their_own() {
    check(
        "manual
         1 opens as ann device=phone
         2 opens as ann
         3 opens
         3 token ann device=desk
         1 joins devices
         2 joins devices
         3 joins devices
         hub joined devices at 9
         hub inbox 1 devices acked=8 head=9
         hub page 1 in=devices head=9 9:a
         wait 1250
         1 pongs",
        "1: welcome ann 1
         1 ready
         2: welcome ann 2
         2 ready
         3: welcome ann 3
         3 ready
         hub join devices
         hub inbox? 1 devices phone
         hub inbox? 2 devices default
         hub inbox? 3 devices desk
         1: joined devices at 8 recovered
         hub read 1 devices above 8
         1: devices a @9
         1: ping
         hub acked devices phone to 9",
    );
}

#[test]
fn joins_while_the_inbox_is_asked_for_are_answered_in_order() {
    asked(
        "#1",
        "1 joins box #2
         1 joins box #3 since=8
         hub inbox 1 box acked=8 head=9
         hub page 1 in=box head=9 9:a
         hub page 2 in=box head=9 9:a",
        "1: joined box #1 at 8 recovered
         hub read 1 box above 8
         1: box a @9
         1: joined box #2 at 9
         hub read 2 box above 8
         1: joined box #3 at 8 recovered
         1: box a @9",
    );
}

#[test]
fn who_leaves_while_the_inbox_is_asked_for_is_answered() {
    asked(
        "#1",
        "1 leaves box #2
         hub inbox 1 box acked=8 head=9
         sizes",
        "1: joined box #1 at 9 unavailable
         hub leave box
         1: left box #2
         1 sessions, 0 rooms, 0 places",
    );
}

#[test]
fn what_an_outbox_let_go_has_not_arrived() {
    asked(
        "#1",
        "hub inbox 1 box acked=9 head=9
         hub box ten id=ten pos=10
         hub box eleven id=eleven pos=11 ack
         serve
         wait 1250
         1 fills
         1 sheds box@9
         1 pongs
         1 acks eleven
         counted acks-unknown
         1 drains 1000
         hub page 1 in=box head=11 10:ten 11:eleven*
         1 acks eleven
         1 heard
         wait 24000
         1 heard
         wait 1250
         1 pongs",
        "1: joined box #1 at 9 recovered
         1: box ten @10
         1: box eleven @11
         1: ping
         1 waits for space
         1 acks-unknown
         hub read 1 box above 9
         1: box ten @10 + box eleven @11
         hub acked box to 9 above 11
         1: ping
         hub acked box to 11",
    );
}
