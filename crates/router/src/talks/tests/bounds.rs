//! Conversations whose names are long and whose messages are large: what is made of them, shown and held is bounded.

use roomcast_protocol::room::NAME_BYTES_MAX;

use super::super::MESSAGES_BYTES_MAX;
use super::*;

/// Names as long as those of a group's members can be, which differ in their last byte.
fn long(end: &str) -> String {
    "u".repeat(NAME_BYTES_MAX - "$cursors-".len() - end.len()) + end
}

#[test]
fn whoever_has_a_long_name_and_a_long_request_is_heard_under_an_id_that_may_be() {
    let mut model = Model::default();
    let (ann, bob) = (long("ann"), long("bob"));
    for user in [&ann, &bob] {
        model.member("team", user, Some(Role::Member)).unwrap();
    }
    let mut say = |request: String, at| {
        let room = conversation::group("team").unwrap();
        let who = Speaker { request: request.into(), ..model.speaker(&ann) };
        let act = Act::Say(saying("new", None, "hi"));
        let talking = Talking::in_group(who, (room, 1), act);
        match model.run(talking).unwrap() {
            Answered::Said { position, id, .. } => {
                assert_eq!(position.offset, at);
                id.len()
            }
            other => panic!("{other:?}"),
        }
    };
    let fits = TEXT_BYTES_MAX - "new-".len() - 33;
    assert_eq!(say("r".repeat(fits), 1), TEXT_BYTES_MAX);
    assert_eq!(say("r".repeat(fits + 1), 2), TEXT_BYTES_MAX);
    assert_eq!(say("r".repeat(TEXT_BYTES_MAX), 3), TEXT_BYTES_MAX);
    assert_eq!(say("r".repeat(fits + 1), 2), TEXT_BYTES_MAX, "asked again it is said once");
    for user in [&bob, &ann] {
        let act = Act::Mark { mark: Mark::Read, up_to: None };
        model.in_group(user, "team", act).unwrap();
    }
    let told = model.heard(&ann);
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].starts_with("read 3 new-"), "{told:?}");
}

#[test]
fn messages_with_their_edits_fill_an_answer_to_its_bound_and_no_further() {
    for (more, shown) in [(0, 2), (1, 1)] {
        let mut model = Model::default();
        for at in 1..=2 {
            let saying = large("new", &format!("m{at}"), MESSAGES_BYTES_MAX / 4);
            model.act("ann", "bob", Act::Say(saying)).unwrap();
        }
        for at in 1..=2 {
            let bytes = MESSAGES_BYTES_MAX / 4 + more * (at - 1);
            let saying = large("edit", &format!("e{at}"), bytes);
            let of = MessageRef::Offset(at as u64);
            model.act("ann", "bob", Act::Amend { of, erases: false, saying }).unwrap();
        }
        for range in [Range::Newest, Range::From(1), Range::UpTo(2)] {
            let act = Act::Messages { range, count_max: 500 };
            assert_eq!(messages(&model.act("bob", "ann", act).unwrap()).len(), shown, "{range:?}");
        }
    }
}

/// However large its edits are, a message is answered, as it is now.
#[test]
fn a_message_with_edits_of_a_mebibyte_is_answered_alone() {
    for each in [256 << 10, (256 << 10) + 1, 1 << 20, (1 << 20) + 1] {
        let mut model = Model::default();
        for id in ["m1", "m2"] {
            model.act("ann", "bob", Act::Say(large("new", id, 256 << 10))).unwrap();
        }
        for of in [1, 2] {
            for at in 1..=4 {
                let saying = large("edit", &format!("e{of}{at}"), each);
                let of = MessageRef::Offset(of);
                model.act("ann", "bob", Act::Amend { of, erases: false, saying }).unwrap();
            }
        }
        for (range, shown) in [
            (Range::Newest, "2 m2  now e24"),
            (Range::UpTo(1), "1 m1  now e14"),
            (Range::From(1), "1 m1  now e14"),
            (Range::From(2), "2 m2  now e24"),
        ] {
            let act = Act::Messages { range, count_max: 500 };
            assert_eq!(messages(&model.act("bob", "ann", act).unwrap()), [shown], "{range:?}");
        }
    }
}
