//! Conversations whose names are long and whose messages are large: what is made of them, shown and held is bounded.

use roomcast_protocol::command::ReplyTo;
use roomcast_protocol::ids::SessionKey;
use roomcast_protocol::room::NAME_BYTES_MAX;

use super::super::{MESSAGES_BYTES_MAX, held};
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

/// Whatever is edited how often: an answer's messages, and the edits that are looked through, are all that is held.
#[test]
fn looking_for_messages_holds_no_more_than_an_answer_and_its_edits() {
    let mut model = Model::default();
    let kib = 1 << 10;
    for at in 1..=40 {
        let saying = large("new", &format!("m{at:02}"), 64 * kib);
        model.act("ann", "bob", Act::Say(saying)).unwrap();
    }
    for at in 1..=80 {
        let saying = large("edit", &format!("e{at:02}"), 64 * kib);
        let of = MessageRef::Offset(1 + at % 40);
        model.act("ann", "bob", Act::Amend { of, erases: false, saying }).unwrap();
    }
    for range in [Range::Newest, Range::From(1), Range::UpTo(20)] {
        model.held_max = 0;
        let act = Act::Messages { range, count_max: 500 };
        assert!(!messages(&model.act("bob", "ann", act).unwrap()).is_empty());
        let held = 512 * kib..(512 + 1_024 + 64) * kib;
        assert!(held.contains(&model.held_max), "{range:?}: {}", model.held_max);
    }
}

/// Entries of a page share its bytes: a small one that is kept would keep all of them.
#[test]
fn whatever_is_kept_of_a_page_keeps_no_page() {
    for act in [Act::Messages { range: Range::Newest, count_max: 9 }, Act::Show] {
        let model = Model::default();
        let room = dialog("ann", "bob").unwrap();
        let mut talking = Talking::new(model.speaker("bob"), room.clone(), act).unwrap();
        let [(_, Question::Receipts(..))] = &talking.questions()[..] else { panic!() };
        talking.hear(0, Heard::Receipts(Some(model.receipts(&room))));
        let [(place, Question::Read(..))] = talking.questions()[..] else { panic!() };
        let bytes = Bytes::from("x".repeat(1 << 18));
        let entry = |offset: u64, amends: Option<Amends>| {
            let origin = Origin { amends, ..Origin::of(room.clone(), 1) };
            let position = Some(Position { epoch: Epoch(1), offset });
            let content = Content::Text(bytes.slice(..9));
            let (id, origin) = (offset.to_string().into(), Some(Box::new(origin)));
            let bare = Publication::bare(room.clone(), content);
            Kept::Publication(Publication { id, position, origin, ..bare }.into())
        };
        let amends = Amends { offset: 8, id: "8".into(), erases: false };
        let entries = vec![entry(8, None), entry(9, Some(amends))];
        let head = Head { position: Position { epoch: Epoch(1), offset: 9 }, first: 1 };
        let page = Page { head, entries, whole: false };
        assert!(matches!(talking.hear(place, Heard::Page(Some(page))), Step::Ask));
        assert!(talking.read() > 2 * 256, "both are kept: {talking:?}");
        assert!(bytes.is_unique(), "and nothing else: {talking:?}");
    }
}

#[test]
fn an_answer_weighs_what_is_in_it_in_a_lanes_queue() {
    let mut model = Model::default();
    model.act("ann", "bob", Act::Say(large("new", "m", 64 << 10))).unwrap();
    let of = MessageRef::Offset(1);
    let saying = large("edit", "e", 64 << 10);
    model.act("ann", "bob", Act::Amend { of, erases: false, saying }).unwrap();
    for act in [Act::Messages { range: Range::Newest, count_max: 9 }, Act::Show] {
        let answered = model.act("bob", "ann", act).unwrap();
        let weight = held::answer(&answered);
        assert!((128 << 10..130 << 10).contains(&weight), "{weight}");
        let outcome = Ok(Box::new(answered));
        let session = SessionKey { index: 0, generation: 1 };
        let reply = ReplyTo::default();
        let message = crate::messages::LaneMessage::Conversed { session, reply, outcome };
        assert!(message.weight() > weight);
    }
}
