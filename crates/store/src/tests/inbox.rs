//! What of inboxes the contract's scripts are too coarse for: how long cursors are kept, what holes weigh; and random
//! publications and acks against a model that counts one by one.

use std::collections::{BTreeMap, BTreeSet};

use roomcast_protocol::inbox::{Acked, CursorName, CursorOf, DEVICE_IDLE_MS, DEVICES_MAX, Told};
use roomcast_protocol::position::{Direction, Epoch, Keep, Position, Span};

use super::super::*;
use super::presence::Random;
use super::{RULES, room};

const KEEP: Keep = Keep {
    size: 4,
    bytes_max: 60,
    ttl_ms: 1_000,
    replicated: false,
    inbox: Some(CursorOf::Device),
};

fn at(now_ms: u64) -> At {
    At { now_ms, fresh: Epoch(u128::from(now_ms) + 1) }
}

fn cursor(device: &str) -> CursorName {
    CursorName { room: room("box"), device: device.into() }
}

fn put(key: u128) -> Put<'static> {
    Put { id: Id { key, content: 0 }, bytes: 10, low: false, collapse: None }
}

fn publish(store: &mut Store<u64>, now_ms: u64, keep: &Keep, put: Put<'_>) -> Position {
    let published = store.publish(&room("box"), keep, at(now_ms), put, |_| 0);
    let Published::Stored { position, .. } = published else { panic!("{published:?}") };
    position
}

fn ack(store: &mut Store<u64>, now_ms: u64, device: &str, watermark: Position) -> bool {
    let acked = Acked { watermark, above: Vec::new() };
    store.ack(at(now_ms), &cursor(device), &KEEP, &acked, Told::default())
}

fn watermark(store: &mut Store<u64>, now_ms: u64, device: &str) -> u64 {
    store.inbox(at(now_ms), &cursor(device), &KEEP).unwrap().acked.watermark.offset
}

#[test]
fn a_device_is_remembered_for_thirty_days_after_it_moved_or_looked() {
    for (now_ms, expected) in [(DEVICE_IDLE_MS + 5, 1), (DEVICE_IDLE_MS + 6, 0)] {
        let mut store = Store::new(RULES, 1);
        let first = publish(&mut store, 0, &KEEP, put(1));
        ack(&mut store, 0, "a", first);
        // Its own epoch goes in between: what was acked is an offset.
        let acked = store.inbox(at(6), &cursor("a"), &KEEP).unwrap().acked;
        assert_eq!(acked.watermark, first);
        store.sweep(now_ms, 9);
        assert_eq!(store.rooms(), expected, "{now_ms}");
    }
}

#[test]
fn a_users_own_cursor_is_kept_for_seven_days_and_while_its_room_is_known() {
    for (now_ms, expected) in [(USER_IDLE_MS - 1, 1), (USER_IDLE_MS, 0)] {
        let mut store = Store::new(RULES, 1);
        let first = publish(&mut store, 0, &KEEP, put(1));
        ack(&mut store, 0, "", first);
        store.sweep(now_ms, 9);
        assert_eq!(store.rooms(), expected, "{now_ms}");
    }
    let long = Keep { ttl_ms: 30 * USER_IDLE_MS, ..KEEP };
    let mut store = Store::new(RULES, 1);
    let first = publish(&mut store, 0, &long, put(1));
    assert!(store.ack(
        at(0),
        &cursor(""),
        &long,
        &Acked { watermark: first, above: Vec::new() },
        Told::default()
    ));
    store.sweep(20 * USER_IDLE_MS, 9);
    let state = store.inbox(at(20 * USER_IDLE_MS), &cursor(""), &long).unwrap();
    assert_eq!(state.acked.watermark, first);
}

#[test]
fn a_room_that_begins_anew_begins_unacked() {
    let mut store = Store::new(RULES, 1);
    publish(&mut store, 0, &KEEP, put(1));
    let second = publish(&mut store, 0, &KEEP, put(2));
    assert!(ack(&mut store, 0, "a", second));
    let late_ms = 1_250 + META_MS + 1;
    assert_eq!(watermark(&mut store, late_ms, "a"), 0, "nothing of it is known any more");
    publish(&mut store, late_ms, &KEEP, put(3));
    assert_eq!(watermark(&mut store, late_ms, "a"), 0);
}

#[test]
fn what_expired_unseen_is_lost_to_who_had_not_acked_it() {
    let mut store = Store::new(RULES, 1);
    let first = publish(&mut store, 0, &KEEP, put(1));
    publish(&mut store, 0, &KEEP, put(2));
    ack(&mut store, 0, "a", first);
    watermark(&mut store, 0, "b");
    // The whole stream goes by a sweep, which knows nothing of what the room keeps.
    store.sweep(1_251, 9);
    let lost = |store: &mut Store<u64>, device| {
        store.inbox(at(1_251), &cursor(device), &KEEP).unwrap().untold()
    };
    assert_eq!((lost(&mut store, "a"), lost(&mut store, "b")), (1, 1));
    assert_eq!(lost(&mut store, "c"), 0);
}

#[test]
fn a_cursor_that_begins_where_there_is_none_has_lost_all_that_went_unread() {
    let keep = Keep { size: 3, ..KEEP };
    let mut store = Store::new(RULES, 1);
    publish(&mut store, 0, &keep, put(1));
    // The one that takes the place of another is no loss, the low one that goes from the middle is.
    publish(&mut store, 0, &keep, Put { collapse: Some("k"), ..put(2) });
    publish(&mut store, 0, &keep, Put { collapse: Some("k"), ..put(3) });
    publish(&mut store, 0, &keep, Put { low: true, ..put(4) });
    publish(&mut store, 0, &keep, put(5));
    let mut copy = store.clone();
    let lost = |store: &mut Store<u64>, now_ms, device| {
        store.inbox(at(now_ms), &cursor(device), &keep).unwrap().untold()
    };
    assert_eq!(lost(&mut store, 0, "a"), 1);
    assert_eq!(lost(&mut store, 0, "b"), 0, "it has what the furthest has");
    // The rest is past its time: one by one, and the whole stream at once.
    assert_eq!(lost(&mut copy.clone(), 1_000, "a"), 4);
    copy.sweep(1_251, 9);
    assert_eq!(lost(&mut copy, 1_251, "a"), 4);
}

#[test]
fn where_only_entries_are_left_a_new_cursor_has_lost_all_below_them() {
    let mut store = Store::new(RULES, 1);
    for key in 0..7 {
        publish(&mut store, 0, &KEEP, put(key));
    }
    store.lose(&room("box"), Keys::Meta);
    let state = store.inbox(at(1), &cursor("a"), &KEEP).unwrap();
    assert_eq!((state.head.first, state.untold()), (4, 3));
}

#[test]
fn as_many_devices_have_a_cursor_as_may_be_beside_the_users_own() {
    let mut store = Store::<u64>::new(RULES, 1);
    publish(&mut store, 0, &KEEP, put(1));
    let names: Vec<_> = (0..=DEVICES_MAX).map(|it| format!("d{it:02}")).collect();
    watermark(&mut store, 0, "");
    for (now_ms, name) in (0..).zip(&names[..DEVICES_MAX]) {
        watermark(&mut store, now_ms, name);
    }
    let full = store.bytes();
    watermark(&mut store, 99, &names[DEVICES_MAX]);
    assert_eq!(store.bytes(), full, "one went");
    watermark(&mut store, 99, &names[1]);
    assert_eq!(store.bytes(), full, "not this one");
}

#[test]
fn holes_keys_and_cursors_weigh_something_and_everything_goes() {
    let keep = Keep { inbox: None, size: 100, bytes_max: 1_000, ..KEEP };
    let mut store = Store::new(RULES, 1);
    let weight = |store: &mut Store<u64>, key, collapse| {
        let before = store.bytes();
        publish(store, 0, &keep, Put { collapse, ..put(key) });
        store.bytes() - before
    };
    let entry = ENTRY_BYTES + ID_BYTES + 10;
    assert_eq!(weight(&mut store, 1, None), ROOM_BYTES + entry);
    assert_eq!(weight(&mut store, 2, Some("k")), entry + KEY_BYTES + 1);
    assert_eq!(weight(&mut store, 3, Some("k")), ID_BYTES + HOLE_BYTES);
    assert_eq!(weight(&mut store, 4, Some("k")), ID_BYTES + HOLE_BYTES);
    store.lose(&room("box"), Keys::Stream);
    store.lose(&room("box"), Keys::Ids);
    assert_eq!(store.bytes(), ROOM_BYTES);
    watermark(&mut store, 0, "a");
    assert!(store.bytes() > ROOM_BYTES);
    store.lose(&room("box"), Keys::Cursors);
    assert_eq!(store.bytes(), ROOM_BYTES);
}

#[test]
fn the_newest_entry_lost_behind_a_hole_renews_the_epoch() {
    let mut store = Store::new(RULES, 1);
    publish(&mut store, 0, &KEEP, put(1));
    publish(&mut store, 0, &KEEP, Put { collapse: Some("k"), ..put(2) });
    let last = publish(&mut store, 0, &KEEP, Put { collapse: Some("k"), ..put(3) });
    assert_eq!(store.head(&room("box"), at(5)), Some(last), "a hole is no loss");
    store.lose(&room("box"), Keys::Newest);
    let head = store.head(&room("box"), at(6)).unwrap();
    assert_eq!((head.offset, head.epoch), (3, at(6).fresh));
    let found = store.read(&room("box"), &KEEP, at(6), &Span::above(0)).unwrap();
    assert_eq!((found.head.first, found.entries.len()), (4, 0));
}

#[test]
fn a_stream_whose_meta_is_lost_keeps_its_holes() {
    let mut store = Store::new(RULES, 1);
    let full = Keep { size: 3, ..KEEP };
    publish(&mut store, 0, &full, put(1));
    publish(&mut store, 0, &full, Put { collapse: Some("k"), ..put(2) });
    publish(&mut store, 0, &full, Put { collapse: Some("k"), ..put(3) });
    publish(&mut store, 0, &full, put(4));
    publish(&mut store, 0, &full, Put { low: true, ..put(5) });
    store.lose(&room("box"), Keys::Meta);
    let found = store.read(&room("box"), &full, at(9), &Span::above(0)).unwrap();
    let places: Vec<_> = found.entries.iter().map(|it| it.position().offset).collect();
    assert_eq!((found.head.position.offset, places), (5, vec![1, 2, 3, 4, 5]));
    assert!(matches!(found.entries[1], Place::Removed(_)));
    assert!(matches!(found.entries[4], Place::Removed(_)));
    let next = publish(&mut store, 9, &full, put(6));
    assert_eq!((next.offset, next.epoch), (6, at(9).fresh));
    assert_eq!(store.head(&room("box"), at(10)), Some(next), "it is renewed once");
}

/// One entry of the model.
#[derive(Clone, Debug)]
struct Kept {
    offset: u64,
    at_ms: u64,
    bytes: u64,
    low: bool,
    key: Option<u64>,
}

#[derive(Debug, Default)]
struct Cursor {
    acked: BTreeSet<u64>,
    lost: u64,
    told: u64,
}

/// An inbox at its plainest: a list, and a set of acked numbers for each device.
#[derive(Debug, Default)]
struct Model {
    head: u64,
    kept: Vec<Kept>,
    /// What went whose place no newer one took.
    lost: u64,
    cursors: BTreeMap<&'static str, Cursor>,
}

impl Model {
    fn first(&self) -> u64 {
        self.kept.first().map_or(self.head + 1, |it| it.offset)
    }

    fn remove(&mut self, index: usize) {
        let gone = self.kept.remove(index);
        self.lost += 1;
        for cursor in self.cursors.values_mut() {
            cursor.lost += u64::from(!cursor.acked.contains(&gone.offset));
        }
    }

    fn lapse(&mut self, now_ms: u64) {
        while self.kept.first().is_some_and(|it| it.at_ms + KEEP.ttl_ms <= now_ms) {
            self.remove(0);
        }
    }

    fn publish(&mut self, now_ms: u64, bytes: u64, low: bool, key: Option<u64>) {
        self.lapse(now_ms);
        self.head += 1;
        self.kept.retain(|it| key.is_none() || it.key != key);
        self.kept.push(Kept { offset: self.head, at_ms: now_ms, bytes, low, key });
        loop {
            let sum: u64 = self.kept.iter().map(|it| it.bytes).sum();
            let size = u64::from(KEEP.size);
            if !self.kept.is_empty() && self.head + 1 - self.first() > SPAN_TIMES * size {
                self.remove(0);
            } else if self.kept.len() > 4 || sum > KEEP.bytes_max {
                let low = self.kept.iter().position(|it| it.low);
                self.remove(low.unwrap_or(0));
            } else {
                return;
            }
        }
    }

    fn open(&mut self, device: &'static str) -> &mut Cursor {
        let furthest = self.cursors.values().map(watermark_of).max();
        let lost = if furthest.is_none() { self.lost } else { 0 };
        let acked = (1..=furthest.unwrap_or(0)).collect();
        let new = || Cursor { acked, lost, told: 0 };
        self.cursors.entry(device).or_insert_with(new)
    }
}

fn watermark_of(cursor: &Cursor) -> u64 {
    (1..).take_while(|offset| cursor.acked.contains(offset)).last().unwrap_or(0)
}

#[test]
fn an_inbox_is_what_counting_one_by_one_makes_of_it() {
    let devices = ["a", "b", ""];
    let (mut holes, mut begun) = (0, 0);
    for seed in 0..80 {
        let mut random = Random(seed);
        let (mut store, mut model) = (Store::<u64>::new(RULES, 1), Model::default());
        let mut now_ms = 0;
        for step in 0..200 {
            // Seldom more than the time after which all is gone at once.
            now_ms += if random.below(30) == 0 { 1_300 } else { random.below(60) };
            let device = devices[usize::try_from(random.below(3)).unwrap()];
            match random.below(8) {
                0..5 => {
                    let bytes = 1 + random.below(30);
                    let low = random.below(3) == 0;
                    let key = (random.below(3) == 0).then(|| random.below(2));
                    let text = key.map(|key| key.to_string());
                    let id = Id { key: step, content: 0 };
                    let put = Put { id, bytes, low, collapse: text.as_deref() };
                    let position = publish(&mut store, now_ms, &KEEP, put);
                    model.publish(now_ms, bytes, low, key);
                    assert_eq!(position.offset, model.head);
                }
                5 => {
                    let Some(head) = store.head(&room("box"), at(now_ms)) else { panic!("full") };
                    model.lapse(now_ms);
                    let offset = random.below(head.offset + 1);
                    let above: BTreeSet<_> =
                        (0..3).map(|_| random.below(head.offset + 3)).collect();
                    let above = above.into_iter().filter(|it| *it > offset);
                    let acked = Acked { watermark: head.at(offset), above: above.collect() };
                    // A part of it, more, or again what was said before.
                    let told = random.below(model.open(device).lost + 2);
                    // Now and then the room's cursors are lost just then.
                    if random.below(8) == 0 {
                        store.lose(&room("box"), Keys::Cursors);
                        model.cursors.clear();
                        begun += 1;
                    }
                    let counts = random.below(4) > 0;
                    // Now and then by a cursor that is there no more.
                    let by = store.inbox(at(now_ms), &cursor(device), &KEEP).unwrap().told.cursor;
                    let is_other = random.below(6) == 0;
                    let said_told = Told { cursor: by ^ u64::from(is_other), count: told };
                    let mut said = acked.clone();
                    said.watermark.epoch.0 ^= u128::from(!counts);
                    let moved = store.ack(at(now_ms), &cursor(device), &KEEP, &said, said_told);
                    assert_eq!(moved, counts);
                    let top = model.head;
                    let own = model.open(device);
                    if !is_other {
                        own.told = own.told.max(told).min(own.lost);
                    }
                    if counts {
                        own.acked.extend(1..=offset);
                        own.acked.extend(acked.above.iter().filter(|it| **it <= top));
                    }
                }
                _ => {
                    let state = store.inbox(at(now_ms), &cursor(device), &KEEP).unwrap();
                    model.lapse(now_ms);
                    let (head, first) = (model.head, model.first());
                    assert_eq!((state.head.position.offset, state.head.first), (head, first));
                    let own = model.open(device);
                    let watermark = watermark_of(own);
                    let above: Vec<_> = own.acked.range(watermark + 1..).copied().collect();
                    let losses = (state.lost, state.told.count);
                    let seen = (state.acked.watermark.offset, state.acked.above, losses);
                    let losses = (own.lost, own.told);
                    assert_eq!(seen, (watermark, above, losses), "seed {seed}, step {step}");
                }
            }
            let span = Span {
                direction: if random.below(2) == 0 {
                    Direction::Forward
                } else {
                    Direction::Backward
                },
                from: if random.below(2) == 0 { 0 } else { u64::MAX },
                count_max: 256,
                bytes_max: u64::MAX,
            };
            let found = store.read(&room("box"), &KEEP, at(now_ms), &span).unwrap();
            model.lapse(now_ms);
            let places = found.entries.iter().map(|place| match place {
                Place::Entry(entry) => (entry.position.offset, true),
                Place::Removed(position) => (position.offset, false),
            });
            let places: Vec<_> = places.collect();
            let forward = span.direction == Direction::Forward;
            let asked = forward == (span.from == 0);
            let all = (model.first()..=model.head).filter(|_| asked);
            let is_kept = |offset: &u64| model.kept.iter().any(|it| it.offset == *offset);
            let expected: Vec<_> = all.map(|offset| (offset, is_kept(&offset))).collect();
            assert_eq!(places, expected, "seed {seed}, step {step}");
            holes += expected.iter().filter(|(_, kept)| !kept).count();
        }
    }
    assert!(holes > 1_000, "there were holes: {holes}");
    assert!(begun > 100, "cursors began anew: {begun}");
}
