//! Several nodes change one member of a group at once: whichever question is answered first, both lists say the same in the
//! end.

use super::super::grouping::{groups_of, membership_in};
use super::super::joining::{FOLLOWS_MAX, members_of};
use super::*;

/// What a user is to be.
type Wish = (&'static str, Option<Role>);

const OWNER: Option<Role> = Some(Role::Owner);
const MEMBER: Option<Role> = Some(Role::Member);

fn asked(user: &str, role: Option<Role>) -> Talking {
    let model = Model::default();
    let group = conversation::group("team").unwrap();
    Talking::member(model.speaker("node"), MemberChange { group, user: user.into(), role }).unwrap()
}

impl Model {
    /// What a user is by the group's list, and by its own.
    fn both(&self, user: &str) -> [Option<Role>; 2] {
        let held = |directory: Option<RoomName>, name: &str| {
            self.directories.get(&directory.unwrap()).and_then(|it| it.get(name)).cloned()
        };
        let listed = held(members_of("team"), user);
        let listed = listed.map(|it| Role::named(std::str::from_utf8(&it).unwrap()).unwrap());
        let own = held(groups_of(user), "team");
        [listed, own.map(|it| membership_in("team", &it).unwrap().role)]
    }

    /// Answers questions of all wishes, one after the other, as `choose` says among so many that are left. Answers with
    /// what became of each, in the order in which they ended.
    fn together(
        &mut self,
        wishes: &[Wish],
        mut choose: impl FnMut(usize) -> usize,
    ) -> Vec<(usize, Result<Answered, Refused>)> {
        let mut left: Vec<_> =
            wishes.iter().map(|(user, role)| asked(user, *role)).enumerate().collect();
        let mut ended = Vec::new();
        for _ in 0..QUESTIONS_MAX {
            if left.is_empty() {
                return ended;
            }
            let at = if left.len() == 1 { 0 } else { choose(left.len()) };
            let (number, talking) = &mut left[at];
            let (place, question) = talking.questions().pop().expect("it asks one after the other");
            let heard = self.answer(question);
            match talking.hear(place, heard) {
                Step::Ask | Step::Again => {}
                Step::Over(outcome) => {
                    ended.push((*number, outcome));
                    left.remove(at);
                }
                Step::Wait => panic!("nothing else is under way"),
            }
        }
        panic!("it does not end")
    }
}

/// All orders in which the questions of two wishes can be answered. Says how many there are.
fn each_order(begins: Option<Role>, wishes: [Wish; 2]) -> usize {
    let mut choices: Vec<usize> = Vec::new();
    for orders in 1.. {
        let mut model = Model::default();
        if begins.is_some() {
            model.run(asked("ann", begins)).unwrap();
        }
        let mut step = 0;
        let ended = model.together(&wishes, |_| {
            if step == choices.len() {
                choices.push(0);
            }
            step += 1;
            choices[step - 1]
        });
        let [listed, own] = model.both("ann");
        assert_eq!(listed, own, "{begins:?} {wishes:?} {choices:?}");
        let Ok(Answered::Member { now, .. }) = &ended[1].1 else { panic!("{ended:?}") };
        assert_eq!(now.as_ref().map(|it| it.role), own, "who ends last knows: {choices:?}");
        assert!(wishes.iter().any(|(_, role)| *role == own), "{choices:?}");
        while choices.last() == Some(&1) {
            choices.pop();
        }
        match choices.last_mut() {
            Some(last) => *last = 1,
            None => return orders,
        }
    }
    unreachable!("there are not that many")
}

#[test]
fn both_lists_agree_whoever_is_answered_first() {
    let mut orders = 0;
    for begins in [None, MEMBER, OWNER] {
        for wishes in [
            [("ann", MEMBER), ("ann", None)],
            [("ann", OWNER), ("ann", MEMBER)],
            [("ann", None), ("ann", None)],
        ] {
            orders += each_order(begins, wishes);
        }
    }
    assert!(orders > 5_000, "{orders}");
}

#[test]
fn both_lists_agree_where_a_place_is_taken_meanwhile() {
    let wishes = [("ann", MEMBER), ("ann", None), ("bob", MEMBER), ("ann", OWNER)];
    let (mut random, mut refused, mut taken) = (7_u64, 0, 0);
    for order in 0..20_000 {
        let mut model = Model { entries_max: Some(1), ..Model::default() };
        let ended = model.together(&wishes, |count| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            usize::try_from((random >> 33) % count as u64).unwrap()
        });
        let [ann, bob] = ["ann", "bob"].map(|user| model.both(user));
        assert_eq!((ann[0], bob[0]), (ann[1], bob[1]), "{order}");
        assert!(ann[0].is_none() || bob[0].is_none(), "{order}: one has place");
        refused += ended.iter().filter(|(_, outcome)| outcome.is_err()).count();
        taken += usize::from(bob[0].is_some());
    }
    assert!(refused > 1_000 && taken > 1_000, "{refused} {taken}");
}

#[test]
fn both_lists_agree_though_answers_are_lost() {
    for fails in 1..=20 {
        for heard in [false, true] {
            let mut model = Model { fails: Some((fails, heard)), ..Model::default() };
            let mut turn = 0;
            model.together(&[("ann", MEMBER), ("ann", None)], |_| {
                turn += 1;
                turn % 2
            });
            let [listed, own] = model.both("ann");
            assert_eq!(listed, own, "{fails} {heard}");
        }
    }
}

#[test]
fn whoever_is_crossed_too_often_is_told_to_ask_again() {
    for (more, is_answered) in [(0, true), (1, false)] {
        let mut model = Model::default();
        model.run(asked("ann", MEMBER)).unwrap();
        let own = model.directories[&groups_of("ann").unwrap()].clone();
        let mut talking = asked("ann", None);
        let mut checks = 0;
        let outcome = loop {
            let (place, question) = talking.questions().pop().unwrap();
            // Each time its own list is looked at again, another node has changed it.
            let is_own =
                matches!(&question, Question::Entries(of, _) if *of == groups_of("ann").unwrap());
            if is_own && talking.half_member().is_some() && checks + 1 < FOLLOWS_MAX + more {
                checks += 1;
                let now = if checks % 2 == 1 { own.clone() } else { BTreeMap::new() };
                model.directories.insert(groups_of("ann").unwrap(), now);
            }
            let heard = model.answer(question);
            if let Step::Over(outcome) = talking.hear(place, heard) {
                break outcome;
            }
        };
        assert_eq!(outcome.is_ok(), is_answered, "{outcome:?}");
        if let Err(refused) = outcome {
            assert_eq!((refused.refusal, refused.unknown), (Refusal::Unavailable, false));
        }
    }
}
