//! What leaves for the members of a room in one write each: the frames of one publication or of several, and what these
//! are to members beside frames.

use std::ops::Range;
use std::sync::Arc;

use roomcast_protocol::outbound::SkipReason;
use roomcast_protocol::position::Position;
use roomcast_protocol::publication::{Priority, Publication};
use roomcast_protocol::room::RoomName;

use super::frames::{Expiring, Frames, Marking, Terms};
use super::members::Member;
use super::scribe::Scribe;
use super::stream::{Run, Stream};
use crate::messages::Effect;
use crate::outbox::{Mark, RoomSerial};

/// Bytes of merged frames after which a new write begins: a frame of a higher class never waits behind more.
pub(crate) const MERGE_BYTES_MAX: usize = 16 * 1024;

/// What a batch weighs beside its frames, and for each of its parts. Units: bytes.
const BATCH_BYTES: usize = 512;
const PART_BYTES: usize = 128;

/// Frames that go to the same members in one write each.
#[derive(Debug)]
pub(super) struct Batch {
    class: Priority,
    /// Merged frames by format; still growing while `Growing`.
    frames: Vec<(u8, Frames)>,
    /// Members `..start` have been given it.
    pub(super) start: usize,
    /// Members `end..` joined behind it; not known before somebody joins or the first slice leaves.
    pub(super) end: Option<usize>,
    /// Only members that hold all of these get it; only one publication is in it then.
    requires: Option<Arc<[Box<str>]>>,
    /// Its publications, if they are more to members than frames. Bounds: [`MERGE_BYTES_MAX`].
    parts: Vec<Part>,
    /// When its publications were published, where that is known.
    pub(super) stamps: Vec<u64>,
    /// Those that expire.
    expiring: Vec<Expiring>,
    pub(super) marking: Marking,
}

/// A publication that not all members are given alike, or that is noted of each.
#[derive(Debug)]
struct Part {
    /// What those skip who are not given it.
    placed: Option<Position>,
    /// Members have to ack it.
    acked: Option<Arc<Publication>>,
    /// It is a copy of what was said in a conversation.
    copied: Option<Arc<Publication>>,
    /// Where its frame stands, by format.
    spans: Vec<(u8, Range<usize>)>,
}

impl Part {
    /// Whether it is marked that it has reached somebody: a group's is not.
    fn marked(&self) -> Option<&Arc<Publication>> {
        let is_marked = |it: &&Arc<Publication>| {
            it.origin.as_ref().is_some_and(|origin| origin.unread.is_some())
        };
        self.copied.as_ref().filter(is_marked)
    }

    /// Whether the session has said it itself.
    fn is_own(&self, session: u32, scribe: &Scribe<'_>) -> bool {
        self.copied.as_ref().is_some_and(|it| scribe.has_said(session, it))
    }
}

/// Where somebody's frames come from, and where they go.
pub(super) struct Giving<'a, 'b> {
    pub(super) name: &'a RoomName,
    pub(super) stream: &'a mut Option<Box<Stream>>,
    pub(super) out: &'a mut Vec<Effect>,
    pub(super) scribe: &'a mut Scribe<'b>,
}

impl Giving<'_, '_> {
    /// Tells a member what it skipped on its own.
    pub(super) fn tell_own_skips(&mut self, member: Member, room: RoomSerial) {
        if let Some(stream) = self.stream
            && let Some(run) = stream.own.remove(&member.session)
        {
            let frame = self.scribe.skip(member.format, self.name, run);
            if !frame.is_empty() {
                let before = Some(run.before());
                let mark =
                    Mark { room, before, expires_unix_ms: None, key: None, stays: false }.into();
                let (to, class) = (member.session, stream.class);
                self.out.push(Effect::Send { to, frame, class, mark: Some(mark) });
            }
        }
    }

    /// A member is not given a publication.
    fn withhold(&mut self, member: Member, part: &Part, reason: SkipReason) {
        if let Some(placed) = part.placed
            && let Some(stream) = self.stream
        {
            let run = stream.own.entry(member.session).or_insert_with(|| Run::empty(placed));
            run.skip(placed, reason);
            self.scribe.count_skips(reason, 1);
        }
        self.scribe.note_copy(member.session, part.copied.as_ref());
    }
}

impl Batch {
    pub(super) fn new(class: Priority, formats: usize, mark: Mark) -> Self {
        Self {
            class,
            frames: Vec::with_capacity(formats),
            start: 0,
            end: None,
            requires: None,
            parts: Vec::new(),
            stamps: Vec::new(),
            expiring: Vec::new(),
            marking: Marking::new(mark),
        }
    }

    /// The same for a publication on these terms.
    pub(super) fn of(terms: &Terms<'_>, formats: usize, mark: Mark) -> Self {
        let requires = (!terms.requires.is_empty()).then(|| terms.requires.into());
        Self { requires, ..Self::new(terms.class, formats, mark) }
    }

    /// Whether a publication on these terms may leave in the same write: both are nothing but frames, or both are noted
    /// of each member, and go to all alike. What expires may become nothing but a frame.
    pub(super) fn merges(&self, terms: &Terms<'_>, mark: &Mark) -> bool {
        let alike = if self.parts.is_empty() {
            self.requires.is_none() && terms.is_for_all()
        } else {
            let goes_to_all = self.requires.is_none() && terms.requires.is_empty();
            let stays = self.expiring.is_empty() && terms.expires_unix_ms.is_none();
            goes_to_all && stays && !terms.is_for_all()
        };
        self.class == terms.class
            && self.end.is_none()
            && alike
            && self.size() < MERGE_BYTES_MAX
            && self.marking.merges(mark)
    }

    /// The publication that stands at `spans` of its frames is the last one of it.
    pub(super) fn note(&mut self, terms: &Terms<'_>, spans: Vec<(u8, Range<usize>)>) {
        let Terms { placed, acked, copied, expires_unix_ms, .. } = *terms;
        if let Some(at_unix_ms) = expires_unix_ms {
            self.expiring.push(Expiring { at_unix_ms, placed, spans: spans.clone() });
        }
        if !terms.is_for_all() {
            let (acked, copied) = (acked.cloned(), copied.cloned());
            self.parts.push(Part { placed, acked, copied, spans });
        }
    }

    /// Whether some of it has expired by then.
    pub(super) fn has_expired(&self, unix_ms: u64) -> bool {
        self.expiring.iter().any(|it| it.at_unix_ms <= unix_ms)
    }

    /// Takes out what has expired while it waited.
    pub(super) fn expire(&mut self, members: usize, name: &RoomName, scribe: &mut Scribe<'_>) {
        let left = self.end.unwrap_or(members).saturating_sub(self.start) as u64;
        for (format, frames) in &mut self.frames {
            let (old, mut new, mut done) = (frames.share(), Vec::new(), 0);
            for part in &mut self.expiring {
                let spans = part.spans.iter_mut();
                let Some((_, span)) = spans.into_iter().find(|(held, _)| held == format) else {
                    continue;
                };
                new.extend_from_slice(old.get(done..span.start).unwrap_or_default());
                done = span.end;
                let start = new.len();
                if part.at_unix_ms > scribe.unix_ms {
                    new.extend_from_slice(old.get(span.clone()).unwrap_or_default());
                } else if let Some(placed) = part.placed {
                    let mut run = Run::empty(placed);
                    run.skip(placed, SkipReason::Expired);
                    scribe.append(*format, &run.outbound(name), &mut new);
                }
                *span = start..new.len();
            }
            new.extend_from_slice(old.get(done..).unwrap_or_default());
            *frames = Frames::Growing(new);
        }
        let unix_ms = scribe.unix_ms;
        for part in self.expiring.extract_if(.., |part| part.at_unix_ms <= unix_ms) {
            scribe.counters.expired += 1;
            if part.placed.is_some() {
                scribe.count_skips(SkipReason::Expired, left);
            }
        }
        // A skip is for all. What expires has no others with it that are not.
        self.requires = None;
        self.parts = Vec::new();
    }

    /// Takes the last publication out, which stands at `spans` and is not noted yet, for a write of its own.
    pub(super) fn split(&mut self, spans: &mut [(u8, Range<usize>)], mark: Mark) -> Self {
        let mut last = Self::new(self.class, spans.len(), mark);
        for (format, span) in spans {
            let tail = self.growing(*format).split_off(span.start);
            *span = 0..tail.len();
            last.frames.push((*format, Frames::Growing(tail)));
        }
        last
    }

    /// Whether some members are not given all of it.
    pub(super) fn filters(&self) -> bool {
        self.requires.is_some() || self.parts.iter().any(|part| part.copied.is_some())
    }

    /// Bytes of its frames, in the format in which they are longest.
    pub(super) fn size(&self) -> usize {
        self.frames.iter().map(|(_, frames)| frames.len()).max().unwrap_or(0)
    }

    /// What it weighs. Units: bytes.
    pub(super) fn bytes(&self) -> usize {
        let frames = self.frames.iter().map(|(_, frames)| frames.len());
        BATCH_BYTES + PART_BYTES * self.parts.len() + frames.sum::<usize>()
    }

    pub(super) fn growing(&mut self, format: u8) -> &mut Vec<u8> {
        let at = match self.frames.iter().position(|(held, _)| *held == format) {
            Some(at) => at,
            None => {
                self.frames.push((format, Frames::Growing(Vec::new())));
                self.frames.len() - 1
            }
        };
        #[allow(clippy::indexing_slicing, reason = "`at` was found or pushed just above")]
        self.frames[at].1.grow()
    }

    /// Gives it to a member: all of it in one write, unless it is not to have some of it, or cannot.
    pub(super) fn give(&mut self, member: Member, to: &mut Giving<'_, '_>) {
        let session = member.session;
        if to.scribe.is_done(session) {
            return;
        }
        if let Some(needed) = &self.requires
            && !to.scribe.holds(session, needed)
        {
            return self.parts.iter().for_each(|it| to.withhold(member, it, SkipReason::Filtered));
        }
        let acked = self.parts.iter().filter(|part| part.acked.is_some()).count();
        let whole = !self.parts.iter().any(|part| part.is_own(session, to.scribe))
            && (acked == 0 || to.scribe.free(session) >= acked);
        if !whole {
            return self.give_parts(member, to);
        }
        to.tell_own_skips(member, self.marking.mark().room);
        for publication in self.parts.iter().filter_map(|part| part.acked.as_ref()) {
            to.scribe.burden.give(session, publication);
        }
        if let Some((_, frames)) = self.frames.iter_mut().find(|(held, _)| *held == member.format) {
            let frame = frames.share();
            if !frame.is_empty() {
                let (class, mark) = (self.class, Some(self.marking.share()));
                to.out.push(Effect::Send { to: session, frame, class, mark });
                for part in &self.parts {
                    to.scribe.note_copy(session, part.marked());
                }
            }
        }
    }

    /// Gives it one publication after the other.
    fn give_parts(&mut self, member: Member, to: &mut Giving<'_, '_>) {
        let session = member.session;
        let frames = self.frames.iter_mut().find(|(held, _)| *held == member.format);
        let frames = frames.map(|(_, frames)| frames.share()).unwrap_or_default();
        for part in &self.parts {
            if part.is_own(session, to.scribe) {
                to.withhold(member, part, SkipReason::Own);
                continue;
            }
            to.tell_own_skips(member, self.marking.mark().room);
            let before = part.placed.map(|placed| placed.at(placed.offset.saturating_sub(1)));
            if let Some(acked) = &part.acked {
                if let Some(covered) = before.filter(|_| to.scribe.free(session) == 0) {
                    return to.scribe.burden.fill(session, covered);
                }
                to.scribe.burden.give(session, acked);
            }
            let span = part.spans.iter().find(|(held, _)| *held == member.format);
            let Some((_, span)) = span.filter(|(_, span)| !span.is_empty()) else { continue };
            let (frame, class) = (frames.slice(span.clone()), self.class);
            let mark = Some(Mark { before, ..*self.marking.mark() }.into());
            to.out.push(Effect::Send { to: session, frame, class, mark });
            to.scribe.note_copy(session, part.marked());
        }
    }
}
