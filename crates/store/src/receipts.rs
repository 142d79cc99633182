//! How much of a room its users have got and read, and since when (G17).

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

use roomcast_protocol::receipts::{
    MARK_USERS_MAX, MARKS_MAX, Mark, MarkChange, Marked, MarksSet, RECEIPTS_PAGE_MAX, Receipt,
    ReceiptDiff, ReceiptsPage, STEPS_MAX, SetMarks,
};
use roomcast_protocol::room::RoomName;

use crate::sessions::length;
use crate::store::{At, Store};

/// What a user with receipts in a room weighs beside its name and steps. Units: bytes.
const USER_BYTES: u64 = 128;

/// What a step weighs. Units: bytes.
const STEP_BYTES: u64 = 16;

/// What became of a step of marks.
#[derive(Clone, Debug)]
pub struct Marking {
    /// What the node is told that made it.
    pub answer: MarksSet,
    /// What all nodes are told in the same step.
    pub publish: Option<Arc<ReceiptDiff>>,
}

impl<E: Clone> Store<E> {
    /// Marks what users have got and read, at a time by the broker's clock; `None`: the store is full, and the room not in
    /// it. Units: milliseconds since the Unix epoch.
    pub fn set_marks(&mut self, at: At, unix_ms: u64, set: &SetMarks) -> Option<Marking> {
        let meta = self.touch(&set.room, at)?;
        let head = meta.position();
        let unchanged = |answer| Some(Marking { answer, publish: None });
        if head.epoch != set.epoch {
            return unchanged(MarksSet::Epoch(head));
        }
        let changes = set.changes.iter().take(MARKS_MAX).map(|it| {
            let offset = it.offset.min(head.offset);
            MarkChange { offset, ..it.clone() }
        });
        let changes: Vec<_> = changes.collect();
        let kept = self.receipts_in(&set.room);
        if !kept.takes(&changes) {
            return unchanged(MarksSet::Full);
        }
        if !changes.iter().any(|it| kept.raises(it)) {
            let marked = changes.iter().map(|it| kept.marked(it)).collect();
            return unchanged(MarksSet::Done { head, marked });
        }
        let (marked, publish) = self.write(&set.room, |room| {
            let kept = room.receipts.get_or_insert_default();
            kept.live_until(meta.expires_ms);
            let receipts = kept.mark(&changes, unix_ms);
            let marked = changes.iter().map(|it| kept.marked(it)).collect();
            let (room, epoch, version) = (set.room.clone(), head.epoch, kept.version);
            (marked, ReceiptDiff { room, epoch, version, receipts })
        });
        let publish = Some(Arc::new(publish));
        Some(Marking { answer: MarksSet::Done { head, marked }, publish })
    }

    /// What users have got and read of a room, those behind one; or when they marked one publication. `None`: the store is
    /// full, and the room not in it.
    pub fn receipts(
        &mut self,
        at: At,
        room: &RoomName,
        of: Option<u64>,
        after: Option<&str>,
        count_max: u32,
    ) -> Option<ReceiptsPage> {
        let head = self.touch(room, at)?.position();
        let kept = self.receipts_in(room);
        let behind = (after.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded);
        let mut users = kept.users.range::<str, _>(behind);
        let count = usize::try_from(count_max.clamp(1, RECEIPTS_PAGE_MAX)).unwrap_or(1);
        let page: Vec<_> = users.by_ref().take(count).collect();
        let next = page.last().filter(|_| users.next().is_some()).map(|(name, _)| (*name).clone());
        let receipts = page.iter().filter_map(|(name, it)| it.receipt(name, of)).collect();
        Some(ReceiptsPage { head, version: kept.version, receipts, next })
    }

    fn receipts_in(&self, room: &RoomName) -> &Receipts {
        static NONE: Receipts = Receipts::NONE;
        self.room(room).and_then(|room| room.receipts.as_deref()).unwrap_or(&NONE)
    }
}

/// When the first mark came, for rising offsets: each step says that all up to its offset were marked by its time.
#[derive(Clone, Debug, Default)]
struct Steps(Vec<Marked>);

impl Steps {
    fn last(&self) -> Marked {
        self.0.last().copied().unwrap_or(Marked::NOTHING)
    }

    /// When the first mark came that covers an offset. Units: milliseconds since the Unix epoch.
    fn first(&self, offset: u64) -> Option<u64> {
        let at = self.0.partition_point(|step| step.offset < offset);
        self.0.get(at).map(|step| step.at_unix_ms)
    }

    fn mark(&mut self, offset: u64, unix_ms: u64) {
        let last = self.last();
        if offset <= last.offset {
            return;
        }
        // A clock that was put back makes no later mark an earlier one.
        self.0.push(Marked { offset, at_unix_ms: unix_ms.max(last.at_unix_ms) });
        if self.0.len() > STEPS_MAX {
            self.merge();
        }
    }

    /// Two neighbours of the older half become one, those whose times lie closest: without the earlier one, the later one
    /// stands for both.
    fn merge(&mut self) {
        let older = self.0.get(..STEPS_MAX / 2).unwrap_or_default();
        let apart = older.iter().zip(older.iter().skip(1));
        let apart = apart.map(|(one, next)| next.at_unix_ms - one.at_unix_ms).enumerate();
        if let Some((at, _)) = apart.min_by_key(|(_, apart_ms)| *apart_ms) {
            self.0.remove(at);
        }
    }

    /// The stream ends at this offset: what lies above it has not been yet.
    fn clamp(&mut self, head: u64) {
        let whole = self.0.partition_point(|step| step.offset <= head);
        let last = whole.checked_sub(1).and_then(|at| self.0.get(at));
        let is_cut = last.map_or(0, |step| step.offset) < head;
        self.0.truncate(if is_cut { whole + 1 } else { whole });
        if let Some(step) = self.0.last_mut() {
            step.offset = step.offset.min(head);
        }
    }
}

/// What one user has marked.
#[derive(Clone, Debug, Default)]
struct User {
    delivered: Steps,
    read: Steps,
}

impl User {
    const fn steps(&self, mark: Mark) -> &Steps {
        match mark {
            Mark::Delivered => &self.delivered,
            Mark::Read => &self.read,
        }
    }

    /// When an offset was first marked. What is read is delivered; where steps of the latter were merged, the former may
    /// know better.
    fn first(&self, mark: Mark, offset: u64) -> Option<u64> {
        let read = self.read.first(offset);
        match mark {
            Mark::Read => read,
            Mark::Delivered => self.delivered.first(offset).into_iter().chain(read).min(),
        }
    }

    fn mark(&mut self, mark: Mark, offset: u64, unix_ms: u64) {
        self.delivered.mark(offset, unix_ms);
        match mark {
            Mark::Delivered => {}
            Mark::Read => self.read.mark(offset, unix_ms),
        }
    }

    /// How far the user is, or when it marked one publication; `None`: it has not.
    fn receipt(&self, name: &str, of: Option<u64>) -> Option<Receipt> {
        let marked = |mark| {
            let offset = of.unwrap_or_else(|| self.steps(mark).last().offset);
            let first = (offset > 0).then(|| self.first(mark, offset)).flatten();
            first.map(|at_unix_ms| Marked { offset, at_unix_ms })
        };
        let (delivered, read) = (marked(Mark::Delivered), marked(Mark::Read));
        delivered.is_some().then(|| Receipt { user: name.into(), delivered, read })
    }

    /// Steps of both kinds.
    fn count(&self) -> u64 {
        u64::try_from(self.delivered.0.len() + self.read.0.len()).unwrap_or(u64::MAX)
    }
}

/// The receipts of a room, by user.
#[derive(Clone, Debug, Default)]
pub(crate) struct Receipts {
    users: BTreeMap<Box<str>, User>,
    /// Steps that changed something.
    version: u64,
    /// No mark is above it.
    furthest: u64,
    /// They are forgotten with their room; where that was lost, when it would have been forgotten. Units: milliseconds.
    until_ms: u64,
    bytes: u64,
}

impl Receipts {
    const NONE: Self =
        Self { users: BTreeMap::new(), version: 0, furthest: 0, until_ms: 0, bytes: 0 };

    const fn is_empty(&self) -> bool {
        self.version == 0
    }

    /// What they weigh. Units: bytes.
    pub(crate) const fn weight(&self) -> u64 {
        self.bytes
    }

    /// When they are over; `None`: there are none. Units: milliseconds.
    pub(crate) fn due_ms(&self) -> Option<u64> {
        (!self.is_empty()).then_some(self.until_ms + 1)
    }

    /// Their room is known until then. Units: milliseconds.
    pub(crate) const fn live_until(&mut self, ms: u64) {
        self.until_ms = ms;
    }

    /// Forgets them if they are over.
    pub(crate) fn expire(&mut self, now_ms: u64) {
        if self.until_ms < now_ms {
            *self = Self::default();
        }
    }

    /// The stream ends at this offset: what lies above it has not been yet.
    pub(crate) fn clamp(&mut self, head: u64) {
        if self.furthest <= head {
            return;
        }
        self.furthest = head;
        for user in self.users.values_mut() {
            user.delivered.clamp(head);
            user.read.clamp(head);
        }
        self.users.retain(|_, user| user.count() > 0);
        self.bytes = self.users.iter().map(|(name, user)| weight(name, user)).sum();
    }

    /// Whether no user is one too many with these.
    fn takes(&self, changes: &[MarkChange]) -> bool {
        let new = changes.iter().filter(|it| it.offset > 0 && !self.users.contains_key(&it.user));
        let new: BTreeSet<_> = new.map(|it| &it.user).collect();
        let max = usize::try_from(MARK_USERS_MAX).unwrap_or(usize::MAX);
        new.is_empty() || self.users.len() + new.len() <= max
    }

    fn raises(&self, change: &MarkChange) -> bool {
        let user = self.users.get(&change.user);
        change.offset > user.map_or(0, |user| user.steps(change.mark).last().offset)
    }

    /// What stands for the offset of a change.
    fn marked(&self, change: &MarkChange) -> Marked {
        let offset = change.offset;
        let user = self.users.get(&change.user).filter(|_| offset > 0);
        let first = user.and_then(|user| user.first(change.mark, offset));
        first.map_or(Marked::NOTHING, |at_unix_ms| Marked { offset, at_unix_ms })
    }

    /// Takes in marks of which one rises at least, and answers with what stands then for those users of whom one did.
    fn mark(&mut self, changes: &[MarkChange], unix_ms: u64) -> Vec<Receipt> {
        let mut rose = BTreeSet::new();
        for change in changes.iter().filter(|it| it.offset > 0) {
            if !self.raises(change) {
                continue;
            }
            let user = self.users.entry(change.user.clone()).or_default();
            let before = if user.count() == 0 { 0 } else { weight(&change.user, user) };
            user.mark(change.mark, change.offset, unix_ms);
            self.bytes = self.bytes - before + weight(&change.user, user);
            self.furthest = self.furthest.max(change.offset);
            rose.insert(&change.user);
        }
        self.version += 1;
        let users = rose.into_iter().filter_map(|name| Some((name, self.users.get(name)?)));
        users.filter_map(|(name, user)| user.receipt(name, None)).collect()
    }
}

fn weight(name: &str, user: &User) -> u64 {
    USER_BYTES + length(name) + STEP_BYTES * user.count()
}
