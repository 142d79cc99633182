//! What only the store shows of receipts: how steps are merged and cut, when they are forgotten, and what they weigh.

use std::collections::BTreeSet;

use roomcast_protocol::receipts::{
    MARKS_MAX, Mark, MarkChange, Marked, MarksSet, Receipt, ReceiptsPage, STEPS_MAX, SetMarks,
};

use super::*;

const KEEP: Keep =
    Keep { size: 999, bytes_max: 1 << 20, ttl_ms: TTL_MS, replicated: false, inbox: None };

struct Marks {
    store: Store<u64>,
    now_ms: u64,
    fresh: u128,
    ids: u64,
}

impl Marks {
    /// A room `news` that has had so many publications.
    fn new(head: u64) -> Self {
        let mut marks = Self { store: Store::new(RULES, 1), now_ms: 0, fresh: 0, ids: 0 };
        marks.publish(head);
        marks
    }

    fn at(&mut self) -> At {
        self.fresh += 1;
        At { now_ms: self.now_ms, fresh: Epoch(self.fresh << 64) }
    }

    fn publish(&mut self, count: u64) {
        for _ in 0..count {
            self.ids += 1;
            let id = Id { key: self.ids.into(), content: 0 };
            let (at, put) = (self.at(), Put { id, bytes: 9, low: false, collapse: None });
            let stored = self.store.publish(&room("news"), &KEEP, at, put, |_| 0);
            assert!(matches!(stored, Published::Stored { .. }));
        }
    }

    fn epoch(&mut self) -> Epoch {
        let at = self.at();
        self.store.head(&room("news"), at).unwrap().epoch
    }

    fn mark_all(&mut self, unix_ms: u64, changes: Vec<MarkChange>) -> MarksSet {
        let (at, epoch) = (self.at(), self.epoch());
        let set = SetMarks { room: room("news"), epoch, changes };
        self.store.set_marks(at, unix_ms, &set).unwrap().answer
    }

    /// Marks for ann at a time.
    fn mark(&mut self, mark: Mark, offset: u64, unix_ms: u64) {
        self.mark_all(unix_ms, vec![MarkChange { user: "ann".into(), mark, offset }]);
    }

    fn page(&mut self, of: Option<u64>) -> ReceiptsPage {
        let at = self.at();
        self.store.receipts(at, &room("news"), of, None, 1_000).unwrap()
    }

    /// When ann got an offset.
    fn delivered(&mut self, of: u64) -> Option<u64> {
        let page = self.page(Some(of));
        page.receipts.first().and_then(|it| it.delivered).map(|it| it.at_unix_ms)
    }
}

fn marked(offset: u64, at_unix_ms: u64) -> Option<Marked> {
    Some(Marked { offset, at_unix_ms })
}

#[test]
fn as_many_steps_as_may_be_are_kept_as_they_came() {
    let steps = u64::try_from(STEPS_MAX).unwrap();
    let mut marks = Marks::new(steps);
    for offset in 1..=steps {
        marks.mark(Mark::Delivered, offset, 1_000 + offset);
    }
    for offset in 1..=steps {
        assert_eq!(marks.delivered(offset), Some(1_000 + offset));
    }
}

#[test]
fn one_step_more_merges_the_closest_of_the_older_half_into_the_later() {
    let steps = u64::try_from(STEPS_MAX).unwrap();
    let mut marks = Marks::new(steps + 2);
    // All are 10 ms apart but the 6th and 7th, and, in the newer half, the last two.
    let at = |offset: u64| match offset {
        7 => 1_000 + 10 * 7 - 5,
        _ if offset == steps => 1_000 + 10 * steps - 9,
        _ => 1_000 + 10 * offset,
    };
    for offset in 1..=steps + 1 {
        marks.mark(Mark::Delivered, offset, at(offset));
    }
    for offset in 1..=steps + 1 {
        let expected = if offset == 6 { at(7) } else { at(offset) };
        assert_eq!(marks.delivered(offset), Some(expected), "{offset}");
    }
    // All others of the older half are as far apart: the oldest two are one.
    marks.mark(Mark::Delivered, steps + 2, at(steps + 2));
    assert_eq!((marks.delivered(1), marks.delivered(3)), (Some(at(2)), Some(at(3))));
}

#[test]
fn however_many_marks_come_no_time_is_too_early_and_the_newest_is_right() {
    let mut marks = Marks::new(900);
    for offset in 1..=900 {
        marks.mark(Mark::Read, offset, 1_000 + offset * offset % 97 + 100 * offset);
    }
    let at = |offset: u64| 1_000 + offset * offset % 97 + 100 * offset;
    let mut times = BTreeSet::new();
    for offset in 1..=900 {
        let told = marks.delivered(offset).unwrap();
        assert!(told >= at(offset), "{offset}");
        times.insert(told);
    }
    assert_eq!(times.len(), STEPS_MAX);
    let newest =
        Receipt { user: "ann".into(), delivered: marked(900, at(900)), read: marked(900, at(900)) };
    assert_eq!(marks.page(None).receipts, [newest]);
}

#[test]
fn what_is_read_was_not_delivered_later() {
    let mut marks = Marks::new(400);
    marks.mark(Mark::Read, 10, 1_000);
    // So many that the step of 10 is merged into a later one, of the delivered ones alone.
    for offset in 11..=400 {
        marks.mark(Mark::Delivered, offset, 1_000 + offset);
    }
    let receipts = marks.page(Some(10)).receipts;
    assert_eq!((receipts[0].delivered, receipts[0].read), (marked(10, 1_000), marked(10, 1_000)));
}

#[test]
fn a_clock_that_was_put_back_makes_no_later_mark_an_earlier_one() {
    let mut marks = Marks::new(9);
    marks.mark(Mark::Delivered, 3, 5_000);
    marks.mark(Mark::Delivered, 6, 4_000);
    assert_eq!((marks.delivered(3), marks.delivered(4)), (Some(5_000), Some(5_000)));
}

#[test]
fn marks_above_a_head_that_went_back_are_cut_and_are_not_there_when_it_comes_again() {
    let mut marks = Marks::new(9);
    marks.mark(Mark::Delivered, 3, 1_000);
    marks.mark(Mark::Read, 9, 2_000);
    let bob = MarkChange { user: "bob".into(), mark: Mark::Read, offset: 8 };
    marks.mark_all(2_500, vec![bob]);
    marks.store.lose(&room("news"), Keys::Meta);
    for _ in 0..3 {
        marks.store.lose(&room("news"), Keys::Newest);
    }
    let page = marks.page(None);
    assert_eq!(page.head.offset, 6);
    let told = |it: &Receipt| (it.delivered, it.read);
    assert_eq!(told(&page.receipts[0]), (marked(6, 2_000), marked(6, 2_000)));
    assert_eq!(told(&page.receipts[1]), (marked(6, 2_500), marked(6, 2_500)));
    marks.publish(3);
    assert_eq!((marks.delivered(6), marks.delivered(7)), (Some(2_000), None));
    marks.mark(Mark::Delivered, 8, 3_000);
    assert_eq!((marks.delivered(3), marks.delivered(7)), (Some(1_000), Some(3_000)));
}

#[test]
fn receipts_are_forgotten_with_their_room_and_not_before() {
    let mut marks = Marks::new(3);
    marks.mark(Mark::Read, 2, 1_000);
    // Publications keep a room, whether or not anybody marks them.
    for _ in 0..9 {
        marks.now_ms += META_MS;
        marks.publish(1);
    }
    assert_eq!(marks.delivered(2), Some(1_000));
    let before = marks.epoch();
    marks.now_ms += 3 * META_MS;
    let page = marks.page(None);
    assert_ne!(page.head.epoch, before);
    assert_eq!((page.head.offset, page.version, page.receipts.len()), (0, 0, 0));
}

#[test]
fn receipts_of_a_room_of_which_the_rest_was_lost_are_forgotten_in_time() {
    let mut marks = Marks::new(3);
    marks.mark(Mark::Read, 2, 1_000);
    for keys in [Keys::Meta, Keys::Stream, Keys::Ids] {
        marks.store.lose(&room("news"), keys);
    }
    assert_eq!(marks.store.rooms(), 1);
    marks.now_ms += 3 * META_MS;
    assert_eq!(marks.store.sweep(marks.now_ms, 9), Swept::All);
    assert_eq!((marks.store.rooms(), marks.store.bytes()), (0, 0));
}

#[test]
fn receipts_have_a_weight_that_goes_with_them() {
    let mut marks = Marks::new(9);
    let none = marks.store.bytes();
    marks.mark(Mark::Read, 2, 1_000);
    let one = marks.store.bytes();
    assert!(one > none);
    marks.mark(Mark::Read, 2, 1_001);
    assert_eq!(marks.store.bytes(), one, "a repeat weighs nothing");
    marks.mark(Mark::Delivered, 3, 1_002);
    assert_eq!(marks.store.bytes(), one + 16);
    marks.store.lose(&room("news"), Keys::Receipts);
    assert_eq!(marks.store.bytes(), none);
}

#[test]
fn a_step_has_as_many_marks_as_it_may() {
    let mut marks = Marks::new(1);
    let change = |at: usize| {
        let user = format!("u{at:03}").into();
        MarkChange { user, mark: Mark::Delivered, offset: 1 }
    };
    for (count, taken) in [(MARKS_MAX, MARKS_MAX), (MARKS_MAX + 1, MARKS_MAX)] {
        let MarksSet::Done { marked, .. } = marks.mark_all(1_000, (0..count).map(change).collect())
        else {
            panic!("not done")
        };
        assert_eq!(marked.len(), taken);
    }
    assert_eq!(marks.page(None).receipts.len(), MARKS_MAX);
}
