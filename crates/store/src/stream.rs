//! A room's entries, as they lie there: trimmed in batches, gone as a whole when their time is over. Which of them are
//! kept is computed exactly whenever somebody asks. One that is removed from among others leaves a hole, so that each
//! offset is still answered for.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use roomcast_protocol::position::{Direction, Epoch, Keep, Position, Span};

use crate::sessions::length;

/// What an entry weighs beside its bytes. Units: bytes.
pub const ENTRY_BYTES: u64 = 64;

/// What a hole weighs. Units: bytes.
pub const HOLE_BYTES: u64 = 48;

/// What a key weighs beside its text. Units: bytes.
pub const KEY_BYTES: u64 = 96;

/// One publication of a room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry<E> {
    /// Where it stands: the epoch is that of its time.
    pub position: Position,
    /// When it was stored, by the broker's clock. Units: milliseconds.
    pub at_ms: u64,
    /// Bytes of all entries that the room ever had, up to and with this one.
    pub cum: u64,
    /// Its own.
    pub bytes: u64,
    /// It goes first where there are too many.
    pub low: bool,
    /// One under the same key takes its place.
    pub collapse: Option<Arc<str>>,
    /// What was published.
    pub payload: E,
}

impl<E> Entry<E> {
    /// Bytes of all entries before it.
    pub(crate) const fn below(&self) -> u64 {
        self.cum - self.bytes
    }
}

/// What stands at an offset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place<E> {
    /// An entry.
    Entry(Entry<E>),
    /// None any more: it was removed, with others below it kept.
    Removed(Position),
}

impl<E> Place<E> {
    /// Where it is.
    pub const fn position(&self) -> Position {
        match self {
            Self::Entry(entry) => entry.position,
            Self::Removed(position) => *position,
        }
    }
}

/// By offset, each with the epoch of what stood there; all above the first entry.
type Holes = BTreeMap<u64, Epoch>;

/// The newest entry of each key.
#[derive(Clone, Debug, Default)]
struct Keys {
    offsets: BTreeMap<Arc<str>, u64>,
    /// What they weigh. Units: bytes.
    bytes: u64,
}

/// The entries, oldest first, and the holes between and behind them.
#[derive(Clone, Debug)]
pub(crate) struct Stream<E> {
    entries: VecDeque<Entry<E>>,
    /// Few have any, the others pay 8 bytes for them.
    holes: Option<Box<Holes>>,
    keys: Option<Box<Keys>>,
    /// Bytes of all entries.
    bytes: u64,
    /// They are gone once this has passed. Units: milliseconds.
    pub(crate) expires_ms: u64,
}

impl<E> Default for Stream<E> {
    fn default() -> Self {
        Self { entries: VecDeque::new(), holes: None, keys: None, bytes: 0, expires_ms: 0 }
    }
}

/// What is kept, and of what it is reckoned.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kept {
    pub(crate) head: u64,
    pub(crate) total: u64,
    pub(crate) first: u64,
    pub(crate) keep: Keep,
    pub(crate) now_ms: u64,
}

impl<E> Stream<E> {
    pub(crate) fn first(&self) -> Option<&Entry<E>> {
        self.entries.front()
    }

    pub(crate) fn last(&self) -> Option<&Entry<E>> {
        self.entries.back()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The newest offset that it answers for.
    pub(crate) fn end(&self) -> Option<u64> {
        let last = self.holes.as_ref().and_then(|holes| holes.last_key_value());
        let hole = last.map(|(offset, _)| *offset);
        self.last().map(|last| last.position.offset).max(hole)
    }

    /// Offsets that it answers for.
    pub(crate) fn span(&self) -> u64 {
        self.count() + self.hole_count()
    }

    /// The index of the first entry at an offset or above it.
    fn index_of(&self, offset: u64) -> usize {
        if self.holes.is_none() {
            let first = self.first().map_or(0, |first| first.position.offset);
            let below = offset.saturating_sub(first);
            return usize::try_from(below).unwrap_or(usize::MAX).min(self.entries.len());
        }
        self.entries.partition_point(|entry| entry.position.offset < offset)
    }

    pub(crate) fn get(&self, offset: u64) -> Option<&Entry<E>> {
        let entry = self.entries.get(self.index_of(offset));
        entry.filter(|entry| entry.position.offset == offset)
    }

    /// Whether something stood there and was removed.
    pub(crate) fn is_hole(&self, offset: u64) -> bool {
        self.hole(offset).is_some()
    }

    /// Appends an entry. Answers with the offset of the older one whose place it takes: it is to be removed.
    pub(crate) fn push(&mut self, entry: Entry<E>) -> Option<u64> {
        self.bytes += entry.bytes;
        let older = entry.collapse.clone().and_then(|key| {
            let weight = key_weight(&key);
            let keys = self.keys.get_or_insert_default();
            let older = keys.offsets.insert(key, entry.position.offset);
            keys.bytes += if older.is_none() { weight } else { 0 };
            older
        });
        self.entries.push_back(entry);
        older
    }

    pub(crate) fn lose_last(&mut self) {
        if let Some(entry) = self.entries.pop_back() {
            self.let_go(&entry);
        }
    }

    /// Holes above this offset are none: it is the newest there has been.
    pub(crate) fn end_at(&mut self, head: u64) {
        self.keep_holes(|hole| hole <= head);
    }

    /// Removes an entry, if it is there: the front moves, or there is a hole.
    pub(crate) fn remove(&mut self, offset: u64) {
        let index = self.index_of(offset);
        if self.get(offset).is_none() {
            return;
        }
        if let Some(entry) = self.entries.remove(index) {
            self.let_go(&entry);
            if index > 0 {
                self.holes.get_or_insert_default().insert(offset, entry.position.epoch);
            }
        }
        self.close();
    }

    /// Removes the entries of the front, so many; answers with their offsets.
    pub(crate) fn remove_front(&mut self, count: usize) -> Vec<u64> {
        let gone: Vec<_> = self.entries.drain(..count).collect();
        gone.iter().for_each(|entry| self.let_go(entry));
        self.close();
        gone.iter().map(|entry| entry.position.offset).collect()
    }

    /// The offsets of all entries.
    pub(crate) fn offsets(&self) -> Vec<u64> {
        self.entries.iter().map(|entry| entry.position.offset).collect()
    }

    /// Which of the oldest so many goes first: the oldest of low priority, else the oldest.
    pub(crate) fn first_to_go(&self, among: usize) -> Option<u64> {
        let low = self.entries.iter().take(among).find(|entry| entry.low);
        low.or_else(|| self.first()).map(|entry| entry.position.offset)
    }

    /// An entry is not there any more: neither are its bytes and its key.
    fn let_go(&mut self, entry: &Entry<E>) {
        self.bytes -= entry.bytes;
        if let Some(key) = &entry.collapse
            && let Some(keys) = &mut self.keys
            && keys.offsets.get(key) == Some(&entry.position.offset)
        {
            keys.offsets.remove(key);
            keys.bytes -= key_weight(key);
            if keys.offsets.is_empty() {
                self.keys = None;
            }
        }
    }

    /// Holes below the first entry are none: the front has moved.
    fn close(&mut self) {
        let first = self.first().map(|first| first.position.offset);
        self.keep_holes(|hole| first.is_some_and(|first| hole >= first));
    }

    /// Forgets the holes at either end that are none.
    fn keep_holes(&mut self, is_one: impl Fn(u64) -> bool) {
        let Some(holes) = &mut self.holes else { return };
        while holes.first_key_value().is_some_and(|(hole, _)| !is_one(*hole)) {
            holes.pop_first();
        }
        while holes.last_key_value().is_some_and(|(hole, _)| !is_one(*hole)) {
            holes.pop_last();
        }
        if holes.is_empty() {
            self.holes = None;
        }
    }

    /// The epoch of what stood at an offset and was removed.
    fn hole(&self, offset: u64) -> Option<Epoch> {
        self.holes.as_ref()?.get(&offset).copied()
    }

    /// How many entries at the front are not kept any more. In an inbox those that are too many are removed when one
    /// is published; elsewhere what was removed counts as if it were there.
    fn kept_from(&self, kept: &Kept) -> usize {
        let Kept { head, total, first, keep, now_ms } = *kept;
        let low = match keep.inbox {
            Some(_) => first,
            None => first.max((head + 1).saturating_sub(keep.size.into())),
        };
        let bytes_max = keep.inbox.map_or(keep.bytes_max, |_| u64::MAX);
        self.entries.partition_point(|entry| {
            entry.position.offset < low
                || total.saturating_sub(entry.below()) > bytes_max
                || entry.at_ms.saturating_add(keep.ttl_ms) <= now_ms
        })
    }

    /// The offset of the oldest entry that is kept; one above the head: none is.
    pub(crate) fn kept_first(&self, kept: &Kept) -> u64 {
        let entry = self.entries.get(self.kept_from(kept));
        entry.map_or(kept.head + 1, |entry| entry.position.offset)
    }

    /// Removes what lies below the oldest entry that is kept; answers with the offsets.
    pub(crate) fn trim(&mut self, kept: &Kept) -> Vec<u64> {
        let from = self.kept_from(kept);
        if from == 0 { Vec::new() } else { self.remove_front(from) }
    }

    /// What is kept within a span, lowest first, and whether nothing kept lies beyond.
    pub(crate) fn read(&self, kept: &Kept, span: &Span) -> (Vec<Place<E>>, bool)
    where
        E: Clone,
    {
        let (first, end) = (self.kept_first(kept), self.end().unwrap_or(0));
        match span.direction {
            Direction::Forward => {
                let low = first.max(span.from.saturating_add(1));
                self.taken(low..=end, span)
            }
            Direction::Backward => {
                let high = end.min(span.from.saturating_sub(1));
                let (mut places, whole) = self.taken((first..=high).rev(), span);
                places.reverse();
                (places, whole)
            }
        }
    }

    /// As much of these offsets as the span allows, each of which counts, and whether that is all.
    fn taken(&self, offsets: impl Iterator<Item = u64>, span: &Span) -> (Vec<Place<E>>, bool)
    where
        E: Clone,
    {
        let mut taken = Vec::new();
        let mut bytes = 0;
        let mut count = 0;
        for offset in offsets {
            let place = match (self.get(offset), self.hole(offset)) {
                (Some(entry), _) => Place::Entry(entry.clone()),
                (None, Some(epoch)) => Place::Removed(Position { epoch, offset }),
                (None, None) => continue,
            };
            bytes += match &place {
                Place::Entry(entry) => entry.bytes,
                Place::Removed(_) => 0,
            };
            count += 1;
            if count > span.count_max || bytes > span.bytes_max && count > 1 {
                return (taken, false);
            }
            taken.push(place);
        }
        (taken, true)
    }

    /// How many there are.
    pub(crate) fn count(&self) -> u64 {
        u64::try_from(self.entries.len()).unwrap_or(u64::MAX)
    }

    /// How many holes there are.
    pub(crate) fn hole_count(&self) -> u64 {
        self.holes.as_ref().map_or(0, |holes| u64::try_from(holes.len()).unwrap_or(u64::MAX))
    }

    /// Their own bytes.
    pub(crate) const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// What it weighs: entries, holes and keys. Units: bytes.
    pub(crate) fn weight(&self) -> u64 {
        let keys = self.keys.as_ref().map_or(0, |keys| keys.bytes);
        self.bytes + ENTRY_BYTES * self.count() + HOLE_BYTES * self.hole_count() + keys
    }
}

fn key_weight(key: &str) -> u64 {
    KEY_BYTES + length(key)
}
