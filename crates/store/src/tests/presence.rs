//! What of presence the contract's scripts are too coarse for: edges of leases and graces, bounds, what is freed, a
//! cluster of stores; and random steps against a model that counts sessions.

use std::collections::{BTreeMap, BTreeSet};

use roomcast_protocol::ids::{NodeId, SessionId};
use roomcast_protocol::position::Epoch;
use roomcast_protocol::presence::{
    Incarnation, Lease, PRESENT_MAX, PresenceChange, PresenceDiff, PresenceSet, ROSTER_PAGE_MAX,
    SetPresence,
};
use roomcast_protocol::room::RoomName;

use super::super::*;
use super::{RULES, room};

const LEASE_MS: u64 = RULES.lease_ms;

pub(super) fn at(now_ms: u64) -> At {
    At { now_ms, fresh: Epoch(u128::from(now_ms) + 1) }
}

pub(super) const fn life(node: u64, life: u32) -> Incarnation {
    Incarnation { node: NodeId(node), life }
}

pub(super) fn change(user: &str, session: u128, present: bool) -> PresenceChange {
    PresenceChange { session: SessionId(session), user: user.into(), generation: 1, present }
}

/// A step of an incarnation, after which it has had so many.
fn set(
    name: &str,
    incarnation: Incarnation,
    seq: u64,
    grace_ms: u64,
    changes: Vec<PresenceChange>,
) -> SetPresence {
    SetPresence { room: room(name), incarnation, seq, changes, grace_ms }
}

/// Users who come, each with one session.
fn many(count: u128) -> Vec<PresenceChange> {
    (1..=count).map(|it| change(&format!("u{it}"), it, true)).collect()
}

fn count(store: &mut Store<u64>, name: &str) -> u64 {
    store.roster(at(0), &room(name), None, 1).count
}

#[test]
fn a_lease_holds_until_its_last_millisecond() {
    for (now_ms, lease) in [(LEASE_MS + 99, Lease::Held), (LEASE_MS + 100, Lease::Lost)] {
        let mut store = Store::<u64>::new(RULES, 1);
        assert_eq!(store.beat(at(100), life(1, 1), None).lease, Lease::New);
        store.set_presence(at(100), &set("a", life(1, 1), 1, 0, many(1)));
        assert_eq!(store.is_due(now_ms), lease == Lease::Lost);
        store.beat(at(LEASE_MS / 2), life(2, 1), None);
        let beaten = store.beat(at(now_ms), life(1, 1), None);
        assert_eq!(beaten.lease, lease);
        assert_eq!(beaten.tended.diffs.len(), usize::from(lease == Lease::Lost));
        assert_eq!(store.leased(now_ms).count(), 1 + usize::from(lease == Lease::Held));
    }
}

#[test]
fn a_beat_that_finds_no_lease_which_a_beat_had_renewed_says_so() {
    let mut store = Store::<u64>::new(RULES, 1);
    store.set_presence(at(0), &set("a", life(1, 1), 1, 0, many(1)));
    assert_eq!(store.beat(at(0), life(2, 1), None).lease, Lease::New);
    assert_eq!(store.leased(1).count(), 2, "who has entered has a lease");
    assert_eq!(store.beat(at(1), life(1, 1), None).lease, Lease::New, "it has not renewed it");
    assert_eq!(store.beat(at(2), life(1, 1), None).lease, Lease::Held);
    store.lose_leases();
    // Whoever beats first gives one to the others.
    assert_eq!(store.beat(at(3), life(2, 1), None).lease, Lease::New);
    assert_eq!(store.beat(at(3), life(1, 1), None).lease, Lease::New);
    assert_eq!(store.beat(at(4), life(1, 1), None).lease, Lease::Held);
    assert_eq!(store.beat(at(5), life(1, 2), Some(1)).lease, Lease::New);
    assert_eq!(store.beat(at(6), life(1, 1), None).lease, Lease::Lost);
}

#[test]
fn a_time_in_which_nobody_beat_for_long_counts_for_no_lease() {
    let quiet_ms = quiet_ms(LEASE_MS);
    for (quiet_ms, excused) in [(quiet_ms - 1, false), (quiet_ms, true), (9 * LEASE_MS, true)] {
        let mut store = Store::<u64>::new(RULES, 1);
        for (node, beat_ms) in [(1, 0), (2, 4_000), (3, 7_999)] {
            store.beat(at(beat_ms), life(node, 1), None);
            store.set_presence(
                at(beat_ms),
                &set("a", life(node, 1), 1, 0, vec![change(&format!("u{node}"), 1 << node, true)]),
            );
        }
        // Of a node that begins anew, too.
        let back_ms = 7_999 + quiet_ms;
        let beaten = store.beat(at(back_ms), life(4, 1), None);
        assert_eq!(beaten.tended.diffs.is_empty(), excused, "{quiet_ms} ms");
        assert_eq!(store.beat(at(back_ms), life(1, 1), None).lease == Lease::Held, excused);
        assert_eq!(store.beat(at(back_ms), life(3, 1), None).lease, Lease::Held);
        if !excused {
            continue;
        }
        // Who does not come is gone with the lease that it was given.
        for node in [1, 3] {
            store.beat(at(back_ms + LEASE_MS / 2), life(node, 1), None);
        }
        assert_eq!(count(&mut store, "a"), 3);
        let left = store.beat(at(back_ms + LEASE_MS), life(1, 1), None).tended.diffs;
        assert_eq!(left[0].left, ["u2".into()]);
    }
}

#[test]
fn a_lease_that_was_over_before_nobody_beat_stays_over() {
    let mut store = Store::<u64>::new(RULES, 1);
    store.renew(0, life(1, 1), None);
    store.renew(LEASE_MS / 2, life(2, 1), None);
    store.renew(LEASE_MS, life(2, 1), None);
    assert_eq!(store.overdue(LEASE_MS), [life(1, 1)]);
    store.renew(3 * LEASE_MS, life(2, 1), None);
    assert_eq!(store.overdue(3 * LEASE_MS), [life(1, 1)]);
    assert_eq!(store.renew(3 * LEASE_MS, life(1, 1), None), Lease::Lost);
}

#[test]
fn a_grace_is_over_at_its_last_millisecond() {
    let mut store = Store::<u64>::new(RULES, 1);
    store.set_presence(at(0), &set("a", life(1, 1), 1, 0, many(1)));
    let leaves = vec![change("u1", 1, false)];
    store.set_presence(at(100), &set("a", life(1, 1), 2, 50, leaves));
    assert!(!store.is_due(149));
    assert_eq!(store.tend(at(149)), Tended::default());
    assert!(store.is_due(150));
    let tended = store.tend(at(150));
    assert_eq!((tended.diffs.len(), tended.more), (1, false));
    assert_eq!((&*tended.diffs[0].left[0], tended.diffs[0].count), ("u1", 0));
    assert!(!store.is_due(u64::MAX));
}

#[test]
fn a_life_that_was_reaped_is_remembered_for_an_hour() {
    let mut store = Store::<u64>::new(RULES, 1);
    store.beat(at(0), life(1, 1), None);
    store.beat(at(1), life(1, 2), Some(1));
    let step = |seq| set("a", life(1, 1), seq, 0, many(1));
    let late_ms = 1 + REAPED_MS;
    assert_eq!(store.set_presence(at(late_ms - 1), &step(1)).answer, PresenceSet::Reaped);
    assert_eq!(store.renew(late_ms - 1, life(1, 1), None), Lease::Lost);
    assert!(matches!(store.set_presence(at(late_ms), &step(1)).answer, PresenceSet::Done(Some(_))));
    assert_eq!(store.renew(late_ms, life(1, 1), None), Lease::New);
}

#[test]
fn a_life_is_retired_once_whether_it_ever_beat_or_not() {
    let mut store = Store::<u64>::new(RULES, 1);
    store.set_presence(at(0), &set("a", life(1, 1), 1, 0, many(2)));
    let beaten = store.beat(at(0), life(1, 2), Some(1));
    assert_eq!((beaten.lease, beaten.tended.diffs.len()), (Lease::New, 1));
    let again = store.beat(at(5), life(1, 2), Some(1));
    assert_eq!((again.lease, again.tended), (Lease::Held, Tended::default()));
    assert_eq!(store.renew(5, life(1, 1), None), Lease::Lost);
}

#[test]
fn one_call_takes_out_as_many_as_may_be_and_says_that_more_is_due() {
    let max = u128::try_from(TEND_MAX).unwrap();
    for (leaving, entered, calls) in [
        (0, max, vec![(1, false)]),
        (0, max + 1, vec![(1, true), (1, false)]),
        (max, 0, vec![(1, false)]),
        (max + 1, 0, vec![(1, true), (1, false)]),
        (max, 1, vec![(1, true), (1, false)]),
        (max - 1, 1, vec![(2, false)]),
    ] {
        let mut store = Store::<u64>::new(RULES, 1);
        let leaves = |it: PresenceChange| PresenceChange { present: false, ..it };
        store.set_presence(at(0), &set("a", life(1, 1), 1, 0, many(leaving)));
        let gone = many(leaving).into_iter().map(leaves).collect();
        store.set_presence(at(0), &set("a", life(1, 1), 2, 10, gone));
        store.set_presence(at(0), &set("b", life(2, 1), 1, 10_000, many(entered)));
        store.end_leases(10, NodeId(2));
        store.mark_reaped(10, &store.overdue(10));
        let mut seen = Vec::new();
        loop {
            let tended = store.tend(at(10));
            seen.push((tended.diffs.len(), tended.more));
            if !tended.more {
                break;
            }
        }
        assert_eq!(seen, calls, "{leaving} leave, {entered} go with their node");
        assert_eq!((count(&mut store, "a"), count(&mut store, "b")), (0, 0));
        assert!(!store.is_due(u64::MAX));
    }
}

#[test]
fn stores_of_a_cluster_are_tended_one_by_one() {
    let mut stores = [Store::<u64>::new(RULES, 1), Store::new(RULES, 1)];
    let dead = life(1, 1);
    for (store, name) in stores.iter_mut().zip(["1a", "2a"]) {
        store.set_presence(at(0), &set(name, dead, 1, 0, many(3)));
        store.set_presence(at(0), &set(name, life(2, 1), 1, 0, vec![change("u1", 9, true)]));
    }
    let entered: Vec<_> = stores.iter().flat_map(Store::entered).collect();
    let [leases, _] = &mut stores;
    assert_eq!(leases.renew(0, dead, None), Lease::New);
    leases.adopt(0, &entered);
    for now_ms in [LEASE_MS / 2, LEASE_MS] {
        assert_ne!(leases.renew(now_ms, life(2, 1), None), Lease::Lost);
    }
    let overdue = leases.overdue(LEASE_MS);
    assert_eq!(overdue, [dead]);
    stores.iter_mut().for_each(|store| store.mark_reaped(LEASE_MS, &overdue));
    for store in &mut stores {
        let late = store.set_presence(at(LEASE_MS), &set("1a", dead, 2, 0, many(1)));
        assert_eq!(late.answer, PresenceSet::Reaped, "not even before the store is tended");
        let tended = store.tend(at(LEASE_MS));
        assert_eq!((tended.diffs.len(), tended.more), (1, false));
        assert_eq!(tended.diffs[0].left, ["u2".into(), "u3".into()]);
        assert!(store.overdue(LEASE_MS).is_empty());
    }
}

#[test]
fn what_a_reaped_life_entered_and_another_server_brings_back_goes_too() {
    let [mut leases, mut moved] = [Store::<u64>::new(RULES, 1), Store::new(RULES, 1)];
    let dead = life(1, 1);
    moved.set_presence(at(0), &set("1a", dead, 1, 0, many(3)));
    leases.renew(0, dead, None);
    leases.mark_reaped(LEASE_MS, &[dead]);
    assert!(leases.overdue(LEASE_MS).is_empty());
    // The room comes to this server, of which the life was struck off before.
    leases.adopt(LEASE_MS, &[dead]);
    let overdue = leases.overdue(LEASE_MS);
    assert_eq!((overdue.as_slice(), leases.leased(LEASE_MS).count()), ([dead].as_slice(), 0));
    moved.mark_reaped(LEASE_MS, &overdue);
    assert_eq!(moved.tend(at(LEASE_MS)).diffs.len(), 1);
    assert_eq!((count(&mut moved, "1a"), moved.entered().count()), (0, 0));
}

#[test]
fn the_planted_bug_accepts_a_reaped_life() {
    let mut store = Store::<u64>::new(RULES, 1);
    store.beat(at(0), life(1, 1), None);
    store.beat(at(LEASE_MS / 2), life(2, 1), None);
    store.beat(at(LEASE_MS), life(1, 1), None);
    let step = set("a", life(1, 1), 1, 0, many(1));
    assert_eq!(store.set_presence(at(LEASE_MS), &step).answer, PresenceSet::Reaped);
    store.forget_reaped();
    assert_eq!(store.renew(LEASE_MS, life(1, 1), None), Lease::New);
    assert!(store.set_presence(at(LEASE_MS), &step).publish.is_some());
}

#[test]
fn a_room_is_forgotten_an_hour_after_its_last_user() {
    let mut store = Store::<u64>::new(RULES, 1);
    let first = store.set_presence(at(0), &set("a", life(1, 1), 1, 0, many(2))).publish.unwrap();
    assert!(store.bytes() > 0);
    assert_eq!(store.sweep(u64::MAX, 9), Swept::All);
    assert_eq!(count(&mut store, "a"), 2, "as long as somebody is there it is known");
    let gone = many(2).into_iter().map(|it| PresenceChange { present: false, ..it }).collect();
    store.set_presence(at(1_000), &set("a", life(1, 1), 2, 0, gone));
    store.sweep(999 + PRESENCE_MS, 9);
    let version = store.roster(at(7), &room("a"), None, 9).version;
    assert_eq!((version.epoch, version.offset), (first.version.epoch, 2));
    store.sweep(1_000 + PRESENCE_MS, 9);
    assert_eq!(store.bytes(), 0);
    let again = store.set_presence(at(9), &set("a", life(1, 1), 3, 0, many(1))).publish.unwrap();
    assert_eq!((again.version.epoch, again.version.offset), (at(9).fresh, 1));
}

#[test]
fn a_page_of_a_roster_has_as_many_as_may_be() {
    let mut store = Store::<u64>::new(RULES, 1);
    let max = u128::from(ROSTER_PAGE_MAX);
    for (users, seq, more) in [(max, 1, false), (max + 1, 2, true)] {
        store.set_presence(at(0), &set("a", life(1, 1), seq, 0, many(users)));
        let page = store.roster(at(0), &room("a"), None, u32::MAX);
        assert_eq!((page.users.len(), page.more), (1_000, more));
    }
}

#[test]
fn a_clone_stays_as_it_was() {
    let mut store = Store::<u64>::new(RULES, 1);
    store.beat(at(0), life(1, 1), None);
    store.set_presence(at(0), &set("a", life(1, 1), 1, 0, many(2)));
    let mut before = store.clone();
    store.end_leases(5, NodeId(1));
    store.beat(at(5), life(2, 1), None);
    assert_eq!((count(&mut store, "a"), count(&mut before, "a")), (0, 2));
    assert_eq!(before.renew(5, life(1, 1), None), Lease::Held);
    store.lose(&room("a"), Keys::Presence);
    assert_eq!(store.roster(at(9), &room("a"), None, 9).version.offset, 0);
    before.lose_everything();
    assert_eq!((before.bytes(), before.entered().count()), (0, 0));
    assert_eq!(before.leased(0).count(), 0);
}

/// Random numbers by a seed (SplitMix64).
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (word ^ (word >> 31)) % bound
    }
}

/// A room as a node that hears everything knows it.
#[derive(Debug, Default)]
struct Heard {
    version: u64,
    users: BTreeSet<Box<str>>,
}

impl Heard {
    fn hear(&mut self, diff: &PresenceDiff) {
        assert_eq!(diff.version.offset, self.version + 1, "no version is left out");
        self.version += 1;
        for user in &diff.joined {
            assert!(self.users.insert(user.clone()), "{user} joined twice");
        }
        for user in &diff.left {
            assert!(self.users.remove(user), "{user} left twice");
        }
        assert!(diff.joined.len() + diff.left.len() > 0);
        assert_eq!(diff.count, u64::try_from(self.users.len()).unwrap());
    }
}

/// Sessions by whom they were entered, and when users without any leave: the rules at their plainest.
#[derive(Debug, Default)]
struct Model {
    sessions: BTreeMap<(RoomName, u128), (Box<str>, Incarnation, u64)>,
    leaving: BTreeMap<(RoomName, Box<str>), u64>,
}

impl Model {
    fn has(&self, name: &RoomName, user: &str) -> bool {
        self.sessions.iter().any(|((room, _), (it, ..))| room == name && **it == *user)
    }

    fn users(&self, name: &RoomName) -> BTreeSet<Box<str>> {
        let sessions = self.sessions.iter().filter(|((room, _), _)| room == name);
        let leaving = self.leaving.keys().filter(|(room, _)| room == name);
        sessions.map(|(_, it)| it.0.clone()).chain(leaving.map(|it| it.1.clone())).collect()
    }

    fn step(&mut self, set: &SetPresence, now_ms: u64) {
        for change in &set.changes {
            let key = (set.room.clone(), change.session.0);
            let known = self.sessions.get(&key);
            let outranked = known.is_some_and(|(_, by, generation)| {
                let own = by.node == set.incarnation.node;
                let later = if own { by.life > set.incarnation.life } else { !change.present };
                *generation > change.generation || *generation == change.generation && later
            });
            if outranked {
                continue;
            }
            if change.present {
                let entry = (change.user.clone(), set.incarnation, change.generation);
                self.sessions.insert(key, entry);
                self.leaving.remove(&(set.room.clone(), change.user.clone()));
            } else if let Some((user, ..)) = self.sessions.remove(&key)
                && !self.has(&set.room, &user)
                && set.grace_ms > 0
            {
                self.leaving.insert((set.room.clone(), user), now_ms + set.grace_ms);
            }
        }
    }
}

#[test]
fn diffs_add_up_to_who_is_there_whatever_happens() {
    let names = ["a", "b"].map(room);
    for seed in 0..60 {
        let mut random = Random(seed);
        let mut store = Store::<u64>::new(RULES, 1);
        let (mut model, mut now_ms) = (Model::default(), 0);
        let mut heard: BTreeMap<RoomName, Heard> = BTreeMap::new();
        let mut lives = [1_u32; 3];
        let mut seqs: BTreeMap<(RoomName, Incarnation), u64> = BTreeMap::new();
        let mut reaped: BTreeSet<Incarnation> = BTreeSet::new();
        for _ in 0..300 {
            now_ms += random.below(40);
            let node = random.below(3);
            let slot = usize::try_from(node).unwrap();
            // Now and then a command of the life before comes late.
            let old = u32::from(lives[slot] > 1 && random.below(4) == 0);
            let by = life(node, lives[slot] - old);
            match random.below(20) {
                0..16 => {
                    let name = names[usize::try_from(random.below(2)).unwrap()].clone();
                    let mut changes: BTreeMap<u64, PresenceChange> = BTreeMap::new();
                    for _ in 0..=random.below(3) {
                        let session = random.below(8);
                        let change = PresenceChange {
                            session: SessionId(session.into()),
                            user: format!("u{}", session / 2).into(),
                            generation: 1 + random.below(2),
                            present: random.below(2) == 0,
                        };
                        changes.insert(session, change);
                    }
                    let seq = seqs.entry((name.clone(), by)).or_default();
                    *seq += 1;
                    let step = SetPresence {
                        room: name.clone(),
                        incarnation: by,
                        seq: *seq,
                        changes: changes.into_values().collect(),
                        grace_ms: [0, 30, 100][usize::try_from(random.below(3)).unwrap()],
                    };
                    let stepped = store.set_presence(at(now_ms), &step);
                    let again = store.set_presence(at(now_ms), &step);
                    assert_eq!((&again.answer, again.publish), (&stepped.answer, None));
                    assert_eq!(stepped.answer == PresenceSet::Reaped, reaped.contains(&by));
                    if !reaped.contains(&by) {
                        model.step(&step, now_ms);
                    }
                    stepped
                        .publish
                        .iter()
                        .for_each(|diff| heard.entry(name.clone()).or_default().hear(diff));
                }
                16..18 => {
                    let (now, beat) = (at(now_ms), life(node, lives[slot]));
                    let Beaten { lease, tended } = store.beat(now, beat, None);
                    assert_ne!(lease, Lease::Lost);
                    for diff in tended.diffs {
                        heard.entry(diff.room.clone()).or_default().hear(&diff);
                    }
                    model.leaving.retain(|_, due_ms| *due_ms > now_ms);
                }
                _ => {
                    lives[slot] += 1;
                    let retired = life(node, lives[slot] - 1);
                    let beat = life(node, lives[slot]);
                    let beaten = store.beat(at(now_ms), beat, Some(retired.life));
                    for diff in beaten.tended.diffs {
                        heard.entry(diff.room.clone()).or_default().hear(&diff);
                    }
                    reaped.insert(retired);
                    model.leaving.retain(|_, due_ms| *due_ms > now_ms);
                    model.sessions.retain(|_, (_, by, _)| *by != retired);
                }
            }
            for name in &names {
                let page = store.roster(at(now_ms), name, None, 99);
                let users: BTreeSet<_> = page.users.into_iter().collect();
                assert_eq!(users, model.users(name), "seed {seed}");
                let heard = heard.entry(name.clone()).or_default();
                assert_eq!((&heard.users, heard.version), (&users, page.version.offset));
            }
        }
        for node in 0..3 {
            store.end_leases(now_ms, NodeId(node));
        }
        store.mark_reaped(now_ms, &store.overdue(now_ms));
        store.tend(at(now_ms));
        store.tend(at(now_ms + 100));
        store.sweep(now_ms + 100 + PRESENCE_MS, 9);
        assert_eq!((store.bytes(), store.entered().count()), (0, 0), "seed {seed}");
    }
}

#[test]
fn since_when_users_are_there_is_said_of_as_many_as_may_be_asked_for() {
    let mut store = Store::<u64>::new(RULES, 1);
    store.set_presence(at(0), &set("a", life(1, 1), 1, 0, many(2)));
    // Who leaves and comes in one step was there all the time.
    let back = vec![change("u1", 1, false), change("u1", 9, true), change("u3", 3, true)];
    store.set_presence(at(0), &set("a", life(1, 1), 2, 0, back));
    let mut names: Vec<Box<str>> = ["u1", "u2", "u3", "u4"].map(Into::into).into();
    assert_eq!(store.present(&room("a"), &names), [Some(1), Some(1), Some(2), None]);
    assert_eq!(store.present(&room("b"), &names), [None; 4]);
    for more in [0, 1] {
        names.resize(PRESENT_MAX + more, "u1".into());
        assert_eq!(store.present(&room("a"), &names).len(), PRESENT_MAX);
    }
}

/// One agent comes, or goes: as many steps as that.
fn agents(store: &mut Store<u64>, steps: std::ops::Range<u64>) {
    for seq in steps {
        let it = change("7", 7, seq % 2 == 1);
        store.set_presence(at(0), &set("$agents", life(1, 1), seq, 0, vec![it]));
    }
}

#[test]
fn agents_are_told_of_by_one_node_until_its_time_is_over() {
    let mut store = Store::<u64>::new(RULES, 1);
    agents(&mut store, 1..3);
    store.set_presence(at(0), &set("news", life(1, 1), 9, 0, many(1)));
    let first = store.give_untold(100, None);
    assert_eq!(first.iter().map(|diff| diff.version.offset).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(store.give_untold(100 + CLAIM_MS - 1, None), []);
    assert_eq!(store.give_untold(100 + CLAIM_MS, None), first);
    let behind = first[1].version.next();
    assert_eq!(store.give_untold(101 + CLAIM_MS, Some(behind)), [], "nothing of that waits");
    assert_eq!(store.give_untold(101 + CLAIM_MS, Some(first[0].version)), [], "one is left");
    assert_eq!(store.give_untold(101 + CLAIM_MS, Some(first[1].version)), []);
    assert_eq!(store.give_untold(u64::MAX, None), []);
}

#[test]
fn as_many_diffs_of_agents_are_given_at_once_and_kept_as_may_be() {
    let mut store = Store::<u64>::new(RULES, 1);
    let (given_max, max) = (CLAIM_MAX as u64, UNTOLD_MAX as u64);
    agents(&mut store, 1..given_max + 2);
    let first = store.give_untold(0, None);
    assert_eq!(first.len(), CLAIM_MAX);
    let last = store.give_untold(0, Some(first[CLAIM_MAX - 1].version));
    assert_eq!(last.iter().map(|diff| diff.version.offset).collect::<Vec<_>>(), [given_max + 1]);
    for (steps, oldest) in [(max, 1), (max + 1, 2)] {
        let mut store = Store::<u64>::new(RULES, 1);
        agents(&mut store, 1..steps + 1);
        assert_eq!(store.give_untold(0, None)[0].version.offset, oldest);
    }
    store.forget_untold();
    assert_eq!(store.give_untold(u64::MAX, None), []);
}
