//! A room's entries, as they lie there: trimmed in batches, gone as a whole when their time is over. Which of them are
//! kept is computed exactly whenever somebody asks.

use std::collections::VecDeque;

use roomcast_protocol::position::{Direction, Keep, Position, Span};

/// What an entry weighs beside its bytes. Units: bytes.
pub const ENTRY_BYTES: u64 = 64;

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
    /// What was published.
    pub payload: E,
}

impl<E> Entry<E> {
    /// Bytes of all entries before it.
    pub(crate) const fn below(&self) -> u64 {
        self.cum - self.bytes
    }
}

/// The entries, oldest first.
#[derive(Clone, Debug)]
pub(crate) struct Stream<E> {
    entries: VecDeque<Entry<E>>,
    /// They are gone once this has passed. Units: milliseconds.
    pub(crate) expires_ms: u64,
}

impl<E> Default for Stream<E> {
    fn default() -> Self {
        Self { entries: VecDeque::new(), expires_ms: 0 }
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

    pub(crate) fn get(&self, offset: u64) -> Option<&Entry<E>> {
        let at = self.entries.partition_point(|entry| entry.position.offset < offset);
        self.entries.get(at).filter(|entry| entry.position.offset == offset)
    }

    pub(crate) fn push(&mut self, entry: Entry<E>) {
        self.entries.push_back(entry);
    }

    pub(crate) fn lose_last(&mut self) {
        self.entries.pop_back();
    }

    /// The index of the oldest entry that is kept.
    fn kept_from(&self, kept: &Kept) -> usize {
        let Kept { head, total, first, keep, now_ms } = *kept;
        let low = first.max((head + 1).saturating_sub(keep.size.into()));
        self.entries.partition_point(|entry| {
            entry.position.offset < low
                || total.saturating_sub(entry.below()) > keep.bytes_max
                || entry.at_ms.saturating_add(keep.ttl_ms) <= now_ms
        })
    }

    /// The offset of the oldest entry that is kept; one above the head: none is.
    pub(crate) fn kept_first(&self, kept: &Kept) -> u64 {
        let entry = self.entries.get(self.kept_from(kept));
        entry.map_or(kept.head + 1, |entry| entry.position.offset)
    }

    /// Removes what lies below the oldest entry that is kept.
    pub(crate) fn trim(&mut self, kept: &Kept) {
        let from = self.kept_from(kept);
        self.entries.drain(..from);
    }

    /// The kept entries within a span, oldest first, and whether nothing kept lies beyond them.
    pub(crate) fn read(&self, kept: &Kept, span: &Span) -> (Vec<&Entry<E>>, bool) {
        let kept = self.entries.range(self.kept_from(kept)..);
        match span.direction {
            Direction::Forward => {
                taken(kept.filter(|entry| entry.position.offset > span.from), span)
            }
            Direction::Backward => {
                let below = kept.rev().filter(|entry| entry.position.offset < span.from);
                let (mut entries, whole) = taken(below, span);
                entries.reverse();
                (entries, whole)
            }
        }
    }

    /// How many there are.
    pub(crate) fn count(&self) -> u64 {
        u64::try_from(self.entries.len()).unwrap_or(u64::MAX)
    }

    /// Their own bytes.
    pub(crate) fn bytes(&self) -> u64 {
        let ends = self.first().zip(self.last());
        ends.map_or(0, |(first, last)| last.cum.saturating_sub(first.below()))
    }
}

/// As many as the span allows, and whether they are all.
fn taken<'a, E>(
    mut entries: impl Iterator<Item = &'a Entry<E>>,
    span: &Span,
) -> (Vec<&'a Entry<E>>, bool) {
    let mut taken = Vec::new();
    let mut bytes = 0;
    let mut count = 0;
    for entry in entries.by_ref() {
        bytes += entry.bytes;
        count += 1;
        if count > span.count_max || bytes > span.bytes_max && count > 1 {
            return (taken, false);
        }
        taken.push(entry);
    }
    (taken, true)
}
