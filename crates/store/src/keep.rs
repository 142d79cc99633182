//! What a room lets go: in batches where nobody counts, one by one in an inbox, whose cursors are told of what they lose
//! (G16); and what a newer publication takes the place of.

use roomcast_protocol::inbox::{Acked, CursorName, InboxState, Told};
use roomcast_protocol::position::{Head, Keep};

use crate::room::{Meta, Room};
use crate::store::{At, Store};
use crate::stream::Entry;

/// Of so many of an inbox's oldest entries one of low priority goes first.
pub const OLDEST_MAX: usize = 64;

/// An inbox spans at most so many times as many offsets as it keeps entries, holes among them: beyond it the oldest
/// goes.
pub const SPAN_TIMES: u64 = 2;

impl<E: Clone> Store<E> {
    /// What stands for a device in an inbox; `None`: the store is full, and the room not in it. A device that is new
    /// is remembered from now on.
    pub fn inbox(&mut self, at: At, cursor: &CursorName, keep: &Keep) -> Option<InboxState> {
        let CursorName { room, device } = cursor;
        self.touch(room, at)?;
        self.write(room, |room| {
            room.lapse(keep, at.now_ms);
            let meta = room.meta?;
            let first = room.stream.kept_first(&meta.kept(keep, at.now_ms));
            let head = Head { position: meta.position(), first };
            let cursor = room.cursors.open(device, at, meta.lost);
            let watermark = head.position.at(cursor.watermark);
            let above = cursor.above.iter().copied().collect();
            let told = Told { cursor: cursor.number, count: cursor.told };
            let lost = cursor.lost;
            Some(InboxState { acked: Acked { watermark, above }, head, lost, told })
        })
    }

    /// Moves a cursor, and notes of how much its device has been told, if that cursor told it. Answers whether it moved:
    /// what was acked in another epoch is void.
    pub fn ack(
        &mut self,
        at: At,
        cursor: &CursorName,
        keep: &Keep,
        acked: &Acked,
        told: Told,
    ) -> bool {
        let CursorName { room, device } = cursor;
        self.expire(room, at.now_ms);
        if !self.has(room) {
            return false;
        }
        let Some(meta) = self.touch(room, at) else { return false };
        let counts = meta.epoch == acked.watermark.epoch;
        self.write(room, |room| {
            room.lapse(keep, at.now_ms);
            let lost = room.meta.map_or(0, |meta| meta.lost);
            let cursor = room.cursors.open(device, at, lost);
            cursor.tell(told);
            if counts {
                cursor.ack(meta.head, acked);
            }
        });
        counts
    }
}

impl<E> Room<E> {
    /// Appends an entry to a settled room, and lets go what is too much then.
    pub(crate) fn append(&mut self, keep: &Keep, now_ms: u64, entry: Entry<E>) {
        if keep.inbox.is_some() {
            // What is past its time is lost, whatever takes its place now.
            self.lapse(keep, now_ms);
        }
        let Some(mut meta) = self.meta else { return };
        meta.head += 1;
        meta.total = entry.cum;
        if meta.until_ms < now_ms.saturating_add(keep.ttl_ms) {
            let armed_ms = now_ms.saturating_add(keep.ttl_ms);
            meta.until_ms = armed_ms.saturating_add(keep.ttl_ms.div_ceil(4));
            meta.expires_ms = meta.expires_ms.max(meta.until_ms + crate::META_MS);
            if let Some(receipts) = &mut self.receipts {
                receipts.live_until(meta.expires_ms);
            }
        }
        self.meta = Some(meta);
        self.stream.expires_ms = meta.until_ms;
        if let Some(older) = self.stream.push(entry) {
            self.stream.remove(older);
        }
        self.find_first();
        if keep.inbox.is_some() {
            self.hold_quota(keep);
        } else {
            self.trim(keep, now_ms);
        }
    }

    /// Entries that are not kept any more go in batches.
    fn trim(&mut self, keep: &Keep, now_ms: u64) {
        let over = |has: u64, max: u64| u128::from(has) * 4 > u128::from(max) * 5;
        let Some(meta) = self.meta else { return };
        let spanned = self.stream.first().map_or(0, |first| meta.total - first.below());
        if over(self.stream.span(), keep.size.into()) || over(spanned, keep.bytes_max) {
            self.stream.trim(&meta.kept(keep, now_ms));
            self.find_first();
        }
    }

    /// What of an inbox is past its time goes; who has not acked it has lost it.
    fn lapse(&mut self, keep: &Keep, now_ms: u64) {
        let Some(meta) = self.meta else { return };
        let gone = self.stream.trim(&meta.kept(keep, now_ms));
        self.lose(&gone);
        self.find_first();
    }

    /// While there are too many entries or bytes, one goes.
    fn hold_quota(&mut self, keep: &Keep) {
        let size = u64::from(keep.size);
        loop {
            let (count, span) = (self.stream.count(), self.stream.span());
            let fits = count <= size && self.stream.bytes() <= keep.bytes_max;
            let among = if span > SPAN_TIMES * size { 0 } else { OLDEST_MAX };
            let goes = self.stream.first_to_go(among).filter(|_| !fits || among == 0);
            let Some(offset) = goes else { return };
            self.lose(&[offset]);
            self.stream.remove(offset);
            self.find_first();
        }
    }

    /// The front may have moved.
    fn find_first(&mut self) {
        let first = self.stream.first().map(|first| first.position.offset);
        self.meta = self.meta.map(|meta| Meta { first: first.unwrap_or(meta.head + 1), ..meta });
    }
}
