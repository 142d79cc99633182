//! Pages of kept publications on their way to sessions that catch up: written once for all who share them, packed into
//! writes for each. Knows nothing of who waits for what.

use std::collections::BTreeSet;
use std::ops::Range;

use bytes::Bytes;
use roomcast_protocol::guard::{Guard, Principal, RuleIndex};
use roomcast_protocol::outbound::{Outbound, SkipReason};
use roomcast_protocol::position::{Kept, Page, Position};
use roomcast_protocol::publication::Priority;
use roomcast_protocol::time::Now;

use super::batch::MERGE_BYTES_MAX;
use super::parking::Space;
use super::scribe::Scribe;
use super::stream::Run;
use crate::messages::Effect;
use crate::outbox::{Mark, RoomSerial};

/// A page's publications written in one format, so that sessions which share it share the bytes.
pub(super) struct Written {
    format: u8,
    bytes: Bytes,
    /// Where each entry's frames end.
    ends: Vec<usize>,
}

/// A page on its way to the sessions that share it.
pub(super) struct Shared<'p> {
    pub(super) page: Option<&'p Page>,
    pub(super) written: Vec<Written>,
    /// Under which key each entry can be superseded; `None`: nobody has asked yet.
    keys: Option<Vec<Option<u64>>>,
}

/// Writes of one session, as few as can be, none longer than need be, and no more than there is space for.
pub(super) struct Packer<'o> {
    room: RoomSerial,
    class: Priority,
    to: u32,
    space: Space,
    out: &'o mut Vec<Effect>,
    /// How many entries the session has covered with what was added and told.
    pub(super) covered: usize,
    bytes: usize,
    /// What the session skips and has yet to be told, with its reasons.
    run: Option<(Run, Vec<SkipReason>)>,
    frames: Range<usize>,
    before: Option<Position>,
}

impl<'p> Shared<'p> {
    pub(super) const fn new(page: Option<&'p Page>) -> Self {
        Self { page, written: Vec::new(), keys: None }
    }

    /// Finds out under which key each entry stands.
    pub(super) fn keys_by(&mut self, guard: &dyn Guard, rule: RuleIndex) {
        if self.keys.is_some() {
            return;
        }
        let conflates = guard.policy(rule).conflates;
        let key = |entry: &Kept| match entry {
            Kept::Publication(publication) if conflates => guard.conflate_key(rule, publication),
            Kept::Publication(_) | Kept::Unreadable(_) | Kept::Removed(_) => None,
        };
        self.keys = Some(self.entries().iter().map(key).collect());
    }

    /// Which of these entries, that the session is given, have a newer one among them under the same key.
    pub(super) fn superseded(
        &self,
        given: impl DoubleEndedIterator<Item = usize>,
    ) -> BTreeSet<usize> {
        let (mut newer, mut superseded) = (BTreeSet::new(), BTreeSet::new());
        let keys = self.keys.as_deref().unwrap_or_default();
        for place in given.rev() {
            let Some(Some(key)) = keys.get(place) else { continue };
            if !newer.insert(*key) {
                superseded.insert(place);
            }
        }
        superseded
    }

    /// Writes the page in a format, unless it was; says where it stands among the written ones.
    pub(super) fn written(&mut self, format: u8, scribe: &mut Scribe<'_>) -> usize {
        let found = self.written.iter().position(|written| written.format == format);
        found.unwrap_or_else(|| {
            self.written.push(write(self.entries(), format, scribe));
            self.written.len() - 1
        })
    }

    fn entries(&self) -> &'p [Kept] {
        self.page.map_or(&[][..], |page| &page.entries)
    }
}

impl Written {
    /// Where an entry's frames stand.
    pub(super) fn range(&self, place: usize) -> Range<usize> {
        let start = place.checked_sub(1).and_then(|before| self.ends.get(before));
        start.copied().unwrap_or(0)..self.ends.get(place).copied().unwrap_or(0)
    }
}

impl<'o> Packer<'o> {
    pub(super) const fn new(
        (room, class): (RoomSerial, Priority),
        to: u32,
        space: Space,
        out: &'o mut Vec<Effect>,
    ) -> Self {
        let (frames, before, run) = (0..0, None, None);
        Self { room, class, to, space, out, covered: 0, bytes: 0, run, frames, before }
    }

    /// Adds the frames of the publication at `position`; says whether there is space for them.
    pub(super) fn add(
        &mut self,
        written: &Written,
        frames: Range<usize>,
        position: Position,
    ) -> bool {
        if !self.takes(frames.len()) {
            return false;
        }
        if self.frames.len() + frames.len() > MERGE_BYTES_MAX {
            self.pack(written);
        }
        if self.frames.is_empty() {
            self.before = Some(position.at(position.offset.saturating_sub(1)));
            self.frames = frames;
        } else {
            self.frames.end = frames.end;
        }
        self.covered += 1;
        true
    }

    /// The session has covered an entry before.
    pub(super) const fn pass(&mut self) {
        self.covered += 1;
    }

    /// The session skips what stands at `position`.
    pub(super) fn skip(&mut self, written: &Written, position: Position, reason: SkipReason) {
        self.pack(written);
        let (run, reasons) = self.run.get_or_insert_with(|| (Run::empty(position), Vec::new()));
        run.skip(position, reason);
        reasons.push(reason);
    }

    /// Sends what was added.
    pub(super) fn pack(&mut self, written: &Written) {
        let frame = written.bytes.slice(std::mem::take(&mut self.frames));
        self.send(frame, self.before);
    }

    /// Tells what the session skips, if anything; says whether there was space for that. All that was added has been
    /// sent, for it leaves before.
    pub(super) fn tell_run(
        &mut self,
        scribe: &mut Scribe<'_>,
        write: impl FnOnce(&mut Scribe<'_>, Run) -> Bytes,
    ) -> bool {
        let Some((run, reasons)) = self.run.take() else { return true };
        let frame = write(scribe, run);
        if !self.takes(frame.len()) {
            return false;
        }
        self.covered += reasons.len();
        reasons.into_iter().for_each(|reason| scribe.count_skips(reason, 1));
        self.send(frame, Some(run.before()));
        true
    }

    /// Whether there is space for so many bytes more.
    const fn takes(&mut self, bytes: usize) -> bool {
        let takes = self.space.takes(self.bytes + bytes, bytes);
        self.bytes += if takes { bytes } else { 0 };
        takes
    }

    fn send(&mut self, frame: Bytes, before: Option<Position>) {
        if !frame.is_empty() {
            let mark =
                Mark { room: self.room, before, expires_unix_ms: None, key: None, stays: false };
            let (to, class, mark) = (self.to, self.class, Some(mark.into()));
            self.out.push(Effect::Send { to, frame, class, mark });
        }
    }
}

/// Why the session is not given the entry; `None`: it is.
pub(super) fn why_skipped(entry: &Kept, now: Now, who: Option<&Principal>) -> Option<SkipReason> {
    let holds = |needed: &[Box<str>]| {
        who.is_some_and(|who| needed.iter().all(|permission| who.holds(permission)))
    };
    match entry {
        Kept::Unreadable(_) => Some(SkipReason::Unreadable),
        Kept::Removed(_) => Some(SkipReason::Removed),
        Kept::Publication(it) if it.expires_unix_ms.is_some_and(|at| now.unix_ms >= at) => {
            Some(SkipReason::Expired)
        }
        Kept::Publication(it) if !holds(&it.requires) => Some(SkipReason::Filtered),
        Kept::Publication(_) => None,
    }
}

/// Writes all publications of a page.
fn write(entries: &[Kept], format: u8, scribe: &mut Scribe<'_>) -> Written {
    let (mut bytes, mut ends) = (Vec::new(), Vec::with_capacity(entries.len()));
    for entry in entries {
        if let Kept::Publication(publication) = entry {
            scribe.append(format, &Outbound::Publication(publication), &mut bytes);
            scribe.counters.encodings += 1;
        }
        ends.push(bytes.len());
    }
    Written { format, bytes: bytes.into(), ends }
}
