//! Copies of what was said in conversations: who is given them, whom they have reached, and how they are acked.

use roomcast_protocol::conversation::Origin;
use roomcast_protocol::ids::SessionId;

use super::frames::position;
use super::inboxes::asked;
use super::{check, options, room};

/// `of=dialog-ann:bob[@7] [unread=3] [said=2]`: session 2 has said it.
pub(super) fn origin(text: &str) -> Option<Box<Origin>> {
    let option = |name| options(text).find(|(held, _)| *held == name).map(|(_, value)| value);
    let of = option("of")?;
    let (name, at) = of.split_once('@').unwrap_or((of, ""));
    Some(Box::new(Origin {
        position: (!at.is_empty()).then(|| position(at)),
        unread: option("unread").map(|it| it.parse().unwrap()),
        said_in: option("said").map(|it| SessionId(it.parse().unwrap())),
        ..Origin::of(room(name), 0)
    }))
}

#[test]
fn what_a_session_said_is_given_to_the_others_of_its_user() {
    check(
        "manual
         1 opens as ann
         2 opens as ann
         1 joins tape
         2 joins tape
         hub joined tape at 0
         hub tape one pos=1 of=dialog-ann:bob@7 said=1
         hub tape two pos=2 of=dialog-ann:bob@8 said=1
         hub tape three pos=3 of=dialog-ann:bob@9 said=2
         hub tape four pos=4
         serve
         counted skipped",
        "1: welcome ann 1
         1 ready
         2: welcome ann 2
         2 ready
         hub join tape
         1: joined tape at 0
         2: joined tape at 0
         1: skip tape to 2 count 2 own
         1: tape three @3
         2: tape one @1
         2: tape two @2
         1: tape four @4
         2: skip tape to 3 count 1 own
         2: tape four @4
         [0, 0, 0, 0, 0, 0, 3] skipped",
    );
}

#[test]
fn what_a_session_said_is_told_as_skipped_a_second_later_if_nothing_follows() {
    check(
        "manual
         1 opens as ann
         1 joins tape
         hub joined tape at 0
         hub tape one pos=1 of=dialog-ann:bob@7 said=1
         serve
         at 999
         serve
         at 1250
         serve",
        "1: welcome ann 1
         1 ready
         hub join tape
         1: joined tape at 0
         1: skip tape to 1 count 1 own",
    );
}

#[test]
fn who_leaves_in_the_middle_is_not_given_what_it_said() {
    check(
        "manual
         1 opens as ann
         2 opens as ann
         1 joins tape
         2 joins tape
         hub joined tape at 0
         hub tape one pos=1 of=dialog-ann:bob@7 said=1 unread=0 sender=bob
         1 leaves tape
         2 leaves tape",
        "1: welcome ann 1
         1 ready
         2: welcome ann 2
         2 ready
         hub join tape
         1: joined tape at 0
         2: joined tape at 0
         1: skip tape to 1 count 1 own
         1: left tape
         2: tape one @1
         hub reached dialog-ann:bob 7 of ann
         hub leave tape
         2: left tape",
    );
}

#[test]
fn in_a_room_that_keeps_nothing_one_does_not_hear_oneself() {
    check(
        "1 opens as ann
         2 opens as ann
         1 joins news
         2 joins news
         hub news one of=dialog-ann:bob said=2
         serve",
        "1: welcome ann 1
         2: welcome ann 2
         1: joined news
         2: joined news
         1: news one",
    );
}

#[test]
fn who_catches_up_is_not_given_what_it_said() {
    asked(
        "#1",
        "hub inbox 1 box acked=5 head=9
         hub page 1 in=box head=9 6:a 7:b^1* 8:c^2* 9:d^1*",
        "1: joined box #1 at 5 recovered
         hub read 1 box above 5
         1: box a @6
         1: skip box to 7 count 1 own
         1: box c @8
         1: skip box to 9 count 1 own
         hub acked box to 5 above 7
         hub reached dialog-ann:bob 8 of ann",
    );
}

#[test]
fn what_a_session_said_is_acked_for_its_cursor_and_never_given_again() {
    asked(
        "#1",
        "hub inbox 1 box acked=9 head=9
         hub box ten pos=10 of=dialog-ann:bob@7 said=1 ack
         serve
         1 acks-own 10
         counted acks-unknown
         at 1500
         serve
         1 pongs
         at 8000
         counted redelivered",
        "1: joined box #1 at 9 recovered
         hub acked box to 10
         1 acks-unknown
         1: ping
         1: skip box to 10 count 1 own
         0 redelivered",
    );
}

#[test]
fn a_message_of_somebody_else_has_reached_whoever_is_given_it_first_and_live() {
    asked(
        "#1",
        "hub inbox 1 box acked=9 head=9
         hub box ten pos=10 of=dialog-ann:bob@7 unread=1 sender=bob id=x ack
         serve
         at 1000
         1 pongs
         at 6250
         1 pongs
         counted redelivered",
        "1: joined box #1 at 9 recovered
         1: box ten @10
         hub reached dialog-ann:bob 7 of ann
         1: ping
         1: again box ten @10
         1: ping
         1 redelivered",
    );
}

#[test]
fn only_messages_of_others_with_a_place_in_a_conversation_reach_a_user() {
    asked(
        "#1",
        "hub inbox 1 box acked=9 head=9
         hub box ten pos=10 of=dialog-ann:bob@7 unread=1 sender=ann
         hub box eleven pos=11 of=dialog-ann:bob@8 sender=bob
         hub box twelve pos=12 of=dialog-ann:bob unread=1 sender=bob
         hub box thirteen pos=13 sender=bob
         hub box fourteen pos=14 of=dialog-ann:bob@9 unread=0 sender=bob
         serve",
        "1: joined box #1 at 9 recovered
         1: box ten @10 + box eleven @11 + box twelve @12
         1: box thirteen @13
         1: box fourteen @14
         hub reached dialog-ann:bob 9 of ann",
    );
}

#[test]
fn a_back_end_that_hears_a_message_is_nobody_whom_it_reached() {
    check(
        "1 opens as job!
         1 joins tape
         hub tape one pos=1 of=dialog-ann:bob@7 unread=1 sender=bob
         serve",
        "1: welcome job 1
         1: joined tape at 0
         1: tape one @1",
    );
}

#[test]
fn what_waits_for_its_ack_when_a_session_comes_back_has_not_reached_its_user_anew() {
    check(
        "inboxes
         manual
         1 opens as ann lasting resume=a.5
         hub attached 1 as=a gen=2 own=user-ann@9!8
         hub joined user-ann at 9
         hub joined session-a
         hub inbox 1 user-ann acked=7 head=9
         hub page 1 in=user-ann head=9 8:h^2* 9:i^2*
         at 1250
         1 pongs
         at 6500",
        "hub attach a.5 for ann with 1
         hub join user-ann
         hub join session-a
         1: welcome ann a token a.1 resumed
         hub inbox? 1 user-ann
         hub save a/2 attached with 1 unconfirmed [] own [user-ann@9]
         1: ping 1
         1 ready
         1: joined user-ann at 9 recovered
         hub read 1 user-ann above 7
         1: again user-ann h @8
         1: again user-ann i @9
         hub save a/2 attached with 1 unconfirmed [] own [user-ann@7!8]
         1: ping 2
         hub save a/2 attached with 1 [] own [user-ann@7!8]
         1: again user-ann h @8
         1: again user-ann i @9
         1: ping 3",
    );
}

/// Epochs whose first 6 bytes say 5 ms, and 40 ms: what was put under them is numbered from there.
const EPOCHS: [u128; 2] = [5 << 80, 40 << 80];

#[test]
fn what_is_put_under_another_epoch_keeps_its_number() {
    let [old, new] = EPOCHS.map(|epoch| format!("e{epoch}"));
    check(
        &format!(
            "inboxes
         manual
         1 opens as ann own
         hub joined user-ann at {new}.9
         hub joined session-1
         hub inbox 1 user-ann acked=7 head={new}.9
         hub page 1 in=user-ann head={new}.9 {old}.8:h* {new}.9:i*
         serve
         1 acks-own 8
         1 acks-own 48
         counted acks-unknown
         1 acks-own 13
         1 acks-own 49
         counted acked"
        ),
        &format!(
            "hub join user-ann
         hub join session-1
         hub inbox? 1 user-ann
         1: welcome ann 1
         1 ready
         1: joined user-ann at {new}.7 recovered
         hub read 1 user-ann above 7
         1: user-ann h @{new}.8 + user-ann i @{new}.9
         2 acks-unknown
         hub acked user-ann to {new}.8
         2 acked"
        ),
    );
}

#[test]
fn a_client_acks_by_number_what_it_was_given_of_its_own_room() {
    check(
        "inboxes
         manual
         1 opens as ann own
         hub joined user-ann at 9
         hub joined session-1
         hub inbox 1 user-ann acked=9 head=9
         1 joins box
         hub joined box at 11
         hub inbox 1 box acked=11 head=11
         hub user-ann ten pos=10 id=same sender=bob ack
         hub user-ann eleven pos=11 id=same sender=cid ack
         hub box twelve pos=12 id=x ack
         serve
         1 acks-own 11
         counted acked
         1 acks-own 12
         1 acks-own 11
         1 acks-own 99
         counted acks-unknown
         1 acks-own 10
         counted acked",
        "hub join user-ann
         hub join session-1
         hub inbox? 1 user-ann
         1: welcome ann 1
         1 ready
         1: joined user-ann at 9 recovered
         hub join box
         hub inbox? 1 box
         1: joined box at 11 recovered
         1: user-ann ten @10 + user-ann eleven @11
         1: box twelve @12
         hub acked user-ann to 9 above 11
         1 acked
         3 acks-unknown
         2 acked",
    );
}
