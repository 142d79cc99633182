//! One room: what is known of its stream, and what a touch makes of it when parts of it are missing (G2a).

use roomcast_protocol::position::{Epoch, Keep, Position};

use crate::ids::Ids;
use crate::inbox::Cursors;
use crate::receipts::Receipts;
use crate::stream::{Kept, Stream};

/// How long a room is known after its last entry is gone, if nobody asks for it. Units: milliseconds.
pub const META_MS: u64 = 600_000;

/// What is known of a room's stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Meta {
    pub(crate) epoch: Epoch,
    /// The newest offset.
    pub(crate) head: u64,
    /// Under which master it was last touched.
    pub(crate) master: u128,
    /// Bytes of all entries that there ever were.
    pub(crate) total: u64,
    /// The lowest offset that lies there.
    pub(crate) first: u64,
    /// Until when the entries certainly are there. Units: milliseconds.
    pub(crate) until_ms: u64,
    /// The room is forgotten once this has passed. Units: milliseconds.
    pub(crate) expires_ms: u64,
    /// Entries of an inbox that went, but for those whose place a newer one took: who has acked nothing lost so many.
    pub(crate) lost: u64,
}

impl Meta {
    pub(crate) const fn position(&self) -> Position {
        Position { epoch: self.epoch, offset: self.head }
    }

    pub(crate) const fn kept(&self, keep: &Keep, now_ms: u64) -> Kept {
        let Self { head, total, first, .. } = *self;
        Kept { head, total, first, keep: *keep, now_ms }
    }

    /// Nothing is there any more.
    const fn emptied(self) -> Self {
        Self { first: self.head + 1, ..self }
    }
}

/// What an id of a kept room names.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Named {
    pub(crate) content: u64,
    pub(crate) position: Position,
}

/// A room: five parts, each of which can be lost by itself. Those that a room without publications has not take 8 bytes.
#[derive(Clone, Debug)]
pub(crate) struct Room<E> {
    pub(crate) meta: Option<Meta>,
    pub(crate) stream: Stream<E>,
    pub(crate) ids: Option<Box<Ids<Named>>>,
    /// Of an inbox.
    pub(crate) cursors: Cursors,
    pub(crate) receipts: Option<Box<Receipts>>,
}

impl<E> Default for Room<E> {
    fn default() -> Self {
        let (stream, cursors) = (Stream::default(), Cursors::default());
        Self { meta: None, stream, ids: None, cursors, receipts: None }
    }
}

/// What a touch came to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Touched {
    pub(crate) meta: Meta,
    /// The epoch is a fresh one.
    pub(crate) renewed: bool,
}

impl<E> Room<E> {
    /// When [`Room::expire`] has something to do; `None`: nothing is there. Units: milliseconds.
    pub(crate) fn due_ms(&self) -> Option<u64> {
        let stream = (!self.stream.is_empty()).then_some(self.stream.expires_ms + 1);
        let meta = self.meta.map(|meta| meta.expires_ms + 1);
        let cursors = self.cursors.due_ms(meta.unwrap_or(0));
        let receipts = self.receipts.as_ref().and_then(|receipts| receipts.due_ms());
        let ids = self.ids.as_ref().and_then(|ids| ids.due_ms());
        [stream, meta, ids, cursors, receipts].into_iter().flatten().min()
    }

    /// Removes the parts whose time is over.
    pub(crate) fn expire(&mut self, now_ms: u64) {
        if self.stream.expires_ms < now_ms {
            self.lose(&self.stream.offsets());
            self.stream = Stream::default();
        }
        self.cursors.expire(now_ms, self.meta.map_or(0, |meta| meta.expires_ms + 1));
        self.meta = self.meta.filter(|meta| meta.expires_ms >= now_ms);
        if let Some(ids) = &mut self.ids {
            ids.expire(now_ms);
        }
        if let Some(receipts) = &mut self.receipts {
            receipts.expire(now_ms);
        }
    }

    /// These were removed, rising, and no newer ones took their places.
    pub(crate) fn lose(&mut self, offsets: &[u64]) {
        self.cursors.lose(offsets);
        let count = u64::try_from(offsets.len()).unwrap_or(u64::MAX);
        self.meta = self.meta.map(|meta| Meta { lost: meta.lost + count, ..meta });
    }

    /// What is to be known of the stream from now on. Nothing is written.
    pub(crate) fn touch(&self, now_ms: u64, master: u128, fresh: Epoch) -> Touched {
        let last = self.stream.last();
        let (meta, renewed) = match (self.meta, last) {
            (None, _) => (self.unknown(master, fresh), true),
            (Some(meta), None) if meta.first <= meta.head => {
                // Before its time: it was lost. After: it expired by itself.
                (meta.emptied(), now_ms <= meta.until_ms)
            }
            (Some(meta), Some(last)) if last.position.offset > meta.head => {
                let (head, total) = (last.position.offset, meta.total.max(last.cum));
                let first = self.stream.first().map_or(meta.first, |it| it.position.offset);
                (Meta { head, total, first, ..meta }, true)
            }
            // Each offset of a page is answered for: the older entries cannot be.
            (Some(meta), Some(_)) if self.stream.span() != meta.head + 1 - meta.first => {
                (meta.emptied(), true)
            }
            (Some(meta), _) => (meta, false),
        };
        let renewed = renewed || meta.master != master;
        let epoch = if renewed { fresh } else { meta.epoch };
        let mut meta = Meta { epoch, master, ..meta };
        if meta.expires_ms < now_ms + META_MS / 2 {
            let from_ms = if self.stream.is_empty() { now_ms } else { meta.until_ms.max(now_ms) };
            meta.expires_ms = from_ms + META_MS;
        }
        Touched { meta, renewed }
    }

    /// Writes what a touch came to.
    pub(crate) fn settle(&mut self, meta: Meta) {
        if self.stream.last().is_some_and(|last| last.position.offset < meta.first) {
            self.stream = Stream::default();
        }
        if self.meta.is_none()
            && let Some(ids) = &mut self.ids
        {
            ids.forget_turns();
        }
        self.stream.end_at(meta.head);
        self.cursors.clamp(meta.head);
        if let Some(receipts) = &mut self.receipts {
            receipts.clamp(meta.head);
            receipts.live_until(meta.expires_ms);
        }
        self.meta = Some(meta);
    }

    /// What is to be known of a stream of which nothing is.
    fn unknown(&self, master: u128, epoch: Epoch) -> Meta {
        let first = self.stream.first().map_or(1, |it| it.position.offset);
        let total = self.stream.last().map_or(0, |it| it.cum);
        // What was removed last had its offset all the same.
        let head = self.stream.end().unwrap_or(0);
        let (until_ms, expires_ms) = (self.stream.expires_ms, 0);
        // What lay below went somehow: nobody says that it was acked.
        Meta { epoch, head, master, total, first, until_ms, expires_ms, lost: first - 1 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_room_without_publications_stays_small() {
        assert!(size_of::<Room<u64>>() <= 208, "{}", size_of::<Room<u64>>());
    }
}
