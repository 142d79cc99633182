//! Marks in groups: each author is told of its own messages, and of nothing twice or less, whatever ends in between.

use super::super::marking::REPEATS_MS;
use super::*;

/// In a group each author is told of what is marked of its own, by steps of which a node may end in between.
#[test]
fn a_node_that_ends_in_between_has_each_author_told_in_the_end() {
    let tells = |model: &mut Model| {
        let read = |model: &mut Model, up_to| {
            let act = Act::Mark { mark: Mark::Read, up_to: Some(up_to) };
            model.in_group("bob", "team", act).unwrap();
        };
        for (at, who) in ["ann", "cid", "ann", "dan", "cid", "eve"].into_iter().enumerate() {
            let id = format!("m{}", at + 1);
            model.in_group(who, "team", Act::Say(saying("new", Some(&id), &id))).unwrap();
            if at == 0 {
                read(model, 1);
            }
        }
        read(model, 4);
        // Once more, and from before: nobody is told of less.
        for up_to in [4, 2, 5, 4] {
            read(model, up_to);
        }
        let heard = |user: &&str| model.heard(user);
        ["ann", "cid", "dan", "eve"].each_ref().map(heard)
    };
    let mut plain = Model::default();
    let told = tells(&mut plain);
    assert_eq!(told[0], ["read 1 m1", "read 3 m3"]);
    assert_eq!(told[1], ["read 2 m2", "read 5 m5"]);
    assert_eq!((told[2].len(), told[3].len()), (1, 0));
    for at in 1..=plain.asked {
        let mut model = Model { ends: Some(at), ..Model::default() };
        assert_eq!(tells(&mut model), told, "question {at}");
    }
    // When inboxes may have forgotten that they were told, nobody is told once more.
    for (later_ms, told) in [(REPEATS_MS - 10, 1), (REPEATS_MS, 0)] {
        let mut model = Model::default();
        model.in_group("ann", "team", Act::Say(saying("new", Some("m1"), "m1"))).unwrap();
        let act = Act::Mark { mark: Mark::Read, up_to: Some(1) };
        model.in_group("bob", "team", act.clone()).unwrap();
        model.rooms.remove(&inbox("ann").unwrap());
        model.now_ms += later_ms;
        model.in_group("bob", "team", act).unwrap();
        assert_eq!(model.heard("ann").len(), told, "{later_ms}");
    }
}

#[test]
fn who_was_told_that_it_is_read_is_not_told_that_it_came() {
    for at in 0..12 {
        let mut model = Model::default();
        for (id, who) in [("m1", "ann"), ("m2", "cid")] {
            model.in_group(who, "team", Act::Say(saying("new", Some(id), id))).unwrap();
        }
        let mark = |mark, up_to| Act::Mark { mark, up_to: Some(up_to) };
        // The node of the first ends in between; the user reads meanwhile, and then it is asked for once more.
        let room = conversation::group("team").unwrap();
        let came = mark(Mark::Delivered, 2);
        let who = model.speaker("bob");
        let mut first = Talking::in_group(who, (room, 1), came.clone());
        let mut over = false;
        for _ in 0..at {
            for (place, question) in if over { Vec::new() } else { first.questions() } {
                let heard = model.answer(question);
                over |= matches!(first.hear(place, heard), Step::Over(_));
            }
        }
        assert!(over || at < 11, "it ends");
        model.in_group("bob", "team", mark(Mark::Read, 1)).unwrap();
        model.in_group("bob", "team", came).unwrap();
        let heard = model.heard("ann");
        assert_eq!(heard.last().unwrap(), "read 1 m1", "{at}: {heard:?}");
        assert_eq!(model.heard("cid"), ["delivered 2 m2"], "{at}");
    }
}
