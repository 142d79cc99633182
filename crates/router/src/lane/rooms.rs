//! A lane's rooms: their members, and the publications on their way to them.
//!
//! Publications that arrive while others wait are merged into one write per member. A big room is served in slices;
//! whoever joins or leaves between two slices still hears exactly what was accepted while a member: the members are
//! kept in segments by what they have been given, and a leaving one is given the rest at once.
//!
//! In a room that keeps publications each member covers each offset once (G3). What all of them skip is a frame like a
//! publication's; what only some of them skip is told in front of the next frame that they are given.

use std::collections::VecDeque;

use roomcast_protocol::guard::RuleIndex;
use roomcast_protocol::position::Position;
use roomcast_protocol::publication::Priority;
use roomcast_protocol::room::RoomName;

use super::batch::{Batch, Giving, MERGE_BYTES_MAX};
use super::frames::{Rest, Terms};
pub(crate) use super::joins::{Ask, Waiting};
pub(crate) use super::members::Member;
use super::members::Members;
use super::scribe::Scribe;
use super::stream::{Run, Stream};
use crate::messages::Effect;
use crate::outbox::{Mark, RoomSerial};

/// Joins that may wait for one room to become live; beyond it only a session's first join still may.
pub(crate) const WAITING_MAX: usize = 1_024;

/// One room of a lane.
#[derive(Debug)]
pub(crate) struct Room {
    pub(crate) name: RoomName,
    pub(crate) rule: RuleIndex,
    pub(crate) live: bool,
    /// In the lane's list of rooms with work to do.
    pub(crate) listed: bool,
    /// Classes below high that its publications had, one bit each.
    lower: u8,
    /// Which tenant of its index, so that the lane's list of work never means another.
    pub(crate) serial: u32,
    /// Sessions that become members with their welcome.
    pub(crate) entering: u32,
    pub(crate) members: Members,
    /// What waits; most rooms are idle, and pay 8 bytes for it.
    work: Option<Box<Work>>,
    /// Where it stands, if it keeps publications.
    pub(crate) stream: Option<Box<Stream>>,
}

/// What waits for members, and before the room is live, who waits to become one.
#[derive(Debug, Default)]
struct Work {
    waiting: Vec<Waiting>,
    queue: VecDeque<Batch>,
    /// Units: bytes, each batch with a share for its fixed parts.
    bytes: usize,
}

impl Room {
    pub(crate) fn new(
        name: RoomName,
        rule: RuleIndex,
        serial: RoomSerial,
        stream: Option<Box<Stream>>,
    ) -> Self {
        Self {
            name,
            rule,
            live: false,
            listed: false,
            lower: 0,
            serial,
            entering: 0,
            members: Members::default(),
            work: None,
            stream,
        }
    }

    /// Where it stands as of the lane's queue; `None`: it is ephemeral, or not live yet.
    pub(crate) fn position(&self) -> Option<Position> {
        self.stream.as_ref().and_then(|stream| stream.position)
    }

    /// What its members have been given; who joined meanwhile stands at its join's answer, or behind it.
    pub(crate) fn given(&self) -> Option<Position> {
        let stream = self.stream.as_ref()?;
        if self.work.is_some() || !stream.own.is_empty() || stream.shed {
            return stream.served;
        }
        stream.given()
    }

    /// The hub said that the broker is away: joins are answered all the same.
    pub(crate) fn is_away(&self) -> bool {
        !self.live && self.stream.as_ref().is_some_and(|stream| stream.away)
    }

    /// Bytes that wait for members.
    pub(crate) fn bytes(&self) -> usize {
        self.work.as_ref().map_or(0, |work| work.bytes)
    }

    /// Joins that wait for the room to become live.
    pub(crate) fn waiting(&mut self) -> &mut Vec<Waiting> {
        &mut self.work.get_or_insert_default().waiting
    }

    /// The same, to look at.
    pub(crate) fn joins(&self) -> impl Iterator<Item = &Waiting> {
        self.work.iter().flat_map(|work| &work.waiting)
    }

    /// The room is live: what happens to those who waited is up to the caller.
    pub(crate) fn begin(&mut self) -> Vec<Waiting> {
        self.live = true;
        self.work.take().map_or(Vec::new(), |work| work.waiting)
    }

    /// Whether a reply, which is of the highest class, could overtake a publication of this room in an outbox.
    pub(crate) const fn has_lower_classes(&self) -> bool {
        self.lower != 0
    }

    /// Notes that its frames leave in this class, from here or otherwise.
    pub(crate) fn note_class(&mut self, class: Priority) {
        if class != Priority::High {
            self.lower |= 1 << class as u8;
        }
    }

    /// Whether nobody is in it, nor about to be. One that is not live yet is never dropped: the hub still answers.
    pub(crate) fn is_unused(&self) -> bool {
        let catching = self.stream.as_ref().map_or(0, |stream| stream.catching);
        self.live && self.members.is_empty() && self.entering == 0 && catching == 0
    }

    /// The room's own counts.
    #[cfg(test)]
    pub(crate) fn walk(&self) {
        self.members.walk();
        assert!(!self.has_work() || self.listed);
        assert!(!self.live || self.work.is_none() || self.has_work(), "idle rooms hold no memory");
        if let Some(work) = &self.work {
            assert_eq!(work.bytes, work.queue.iter().map(Batch::bytes).sum::<usize>());
        }
        if let Some(stream) = &self.stream {
            let is_member = |session: &u32| self.members.iter().any(|it| it.session == *session);
            assert!(stream.own.keys().all(is_member), "only members have skips of their own");
            assert!(stream.run.is_none() || !self.members.is_empty(), "nobody is to be told");
        }
    }

    /// What the member at `place` has covered with what it was given; `None`: the room has no positions.
    pub(crate) fn given_to(&self, place: usize) -> Option<Position> {
        let stream = self.stream.as_ref()?;
        let waiting = self.under_way(place).find_map(|batch| batch.marking.mark().before);
        let member = self.members.get(place)?;
        let own = stream.own.get(&member.session).map(Run::before);
        own.or(waiting).or(stream.run.as_ref().map(|run| run.before())).or(stream.position)
    }

    /// Whether the member at `place` has yet to be given something that has no position, and would not get it with this
    /// rest.
    pub(crate) fn owes_loose(&self, place: usize, rest: Rest) -> bool {
        let is_loose = |it: &Batch| it.marking.is_lost(rest) && it.size() > 0;
        self.under_way(place).any(is_loose)
    }

    fn under_way(&self, place: usize) -> impl Iterator<Item = &Batch> {
        let count = self.members.len();
        let waits = move |it: &&Batch| (it.start..it.end.unwrap_or(count)).contains(&place);
        self.work.iter().flat_map(|work| &work.queue).filter(waits)
    }

    /// Whether publications wait for members.
    pub(crate) fn has_work(&self) -> bool {
        self.work.as_ref().is_some_and(|work| !work.queue.is_empty())
    }

    fn batches(&mut self) -> impl DoubleEndedIterator<Item = &mut Batch> {
        self.work.iter_mut().flat_map(|work| work.queue.iter_mut())
    }

    /// Adds a member behind all that is under way, and says at which place.
    pub(crate) fn add(&mut self, member: Member) -> u32 {
        let end = self.members.len();
        for batch in self.batches().rev().take_while(|batch| batch.end.is_none()) {
            batch.end = Some(end);
        }
        self.members.push(member);
        u32::try_from(self.members.len() - 1).unwrap_or(u32::MAX - 1)
    }

    /// Takes out the member at `place`, giving it first so much of what is still under way to it; `moved` is told each member that changed its place.
    pub(crate) fn remove(
        &mut self,
        place: usize,
        out: &mut Vec<Effect>,
        mut moved: impl FnMut(Member, u32),
        (rest, scribe): (Rest, &mut Scribe<'_>),
    ) {
        let Some(member) = self.members.get(place).copied() else { return };
        let count = self.members.len();
        let home = self.serial;
        let Self { name, work, stream, .. } = self;
        if rest != Rest::All
            && let Some(stream) = stream
        {
            stream.own.remove(&member.session);
        }
        let mut giving = Giving { name, stream, out, scribe };
        for work in work.iter_mut().filter(|_| rest != Rest::Nothing) {
            work.expire(count, name, giving.scribe);
            for batch in &mut work.queue {
                let waits = (batch.start..batch.end.unwrap_or(count)).contains(&place);
                if waits && batch.marking.is_given(rest) {
                    batch.give(member, &mut giving);
                }
            }
        }
        if rest == Rest::All {
            giving.tell_own_skips(member, home);
        }
        // The hole travels over the segments' ends to the end of the list, so that each segment stays whole.
        let mut hole = place;
        let bounds = self.batches().flat_map(|batch| [Some(batch.start), batch.end]).flatten();
        let mut ends: Vec<usize> = bounds.filter(|end| *end > place).chain([count]).collect();
        ends.sort_unstable();
        ends.dedup();
        for end in ends {
            let last = end - 1;
            if last != hole {
                self.members.swap(hole, last);
                if let Some(other) = self.members.get(hole) {
                    moved(*other, u32::try_from(hole).unwrap_or(u32::MAX - 1));
                }
                hole = last;
            }
        }
        self.members.pop();
        for batch in self.batches() {
            batch.start -= usize::from(batch.start > place);
            batch.end = batch.end.map(|end| end - usize::from(end > place));
        }
    }

    /// Puts one frame of each format in use, `encode`d once, behind what waits already; `stamp` notes when it was
    /// published.
    pub(crate) fn publish(
        &mut self,
        terms: &Terms<'_>,
        stamp: impl FnOnce(&mut Vec<u64>),
        mut encode: impl FnMut(u8, &mut Vec<u8>),
    ) {
        self.note_class(terms.class);
        let mark = terms.mark(self.serial);
        let work = self.work.get_or_insert_default();
        let merges = work.queue.back().is_some_and(|batch| batch.merges(terms, &mark));
        if !merges {
            let batch = Batch::of(terms, self.members.formats().count(), mark);
            work.bytes += batch.bytes();
            work.queue.push_back(batch);
        }
        let Some(batch) = work.queue.back_mut() else { return };
        let before = batch.bytes();
        let mut spans = Vec::new();
        for format in self.members.formats() {
            let frames = batch.growing(format);
            let start = frames.len();
            encode(format, frames);
            spans.push((format, start..frames.len()));
        }
        // What is merged leaves in one write, and that is no longer than need be.
        let last =
            (merges && batch.size() > MERGE_BYTES_MAX).then(|| batch.split(&mut spans, mark));
        match last {
            Some(mut last) => {
                stamp(&mut last.stamps);
                last.note(terms, spans);
                work.bytes += last.bytes();
                work.queue.push_back(last);
            }
            None => {
                stamp(&mut batch.stamps);
                if merges {
                    batch.marking.merge(&mark);
                }
                batch.note(terms, spans);
                work.bytes += batch.bytes() - before;
            }
        }
    }

    /// Tells all members what they skip, behind what waits already, so that whoever joins now is not told.
    pub(crate) fn tell_skips(&mut self, scribe: &mut Scribe<'_>) {
        let Some(stream) = &mut self.stream else { return };
        let Some(run) = stream.run.take() else { return };
        let (class, name) = (stream.class, self.name.clone());
        self.publish(
            &Terms::behind(run.before(), class),
            |_| {},
            |format, bytes| {
                scribe.append(format, &run.outbound(&name), bytes);
            },
        );
    }

    /// A member has left for good: what the others skip concerns nobody if there are none.
    pub(crate) fn forget_skips_of_nobody(&mut self) {
        if self.members.is_empty()
            && let Some(stream) = &mut self.stream
        {
            stream.run = None;
        }
    }

    /// Has all members that skipped something on their own told it: a write without frames passes by each of them.
    pub(crate) fn nudge(&mut self) {
        let home = self.serial;
        let Some(stream) = &self.stream else { return };
        let queue = self.work.as_ref().map(|work| &work.queue);
        let last_filters = queue.and_then(|queue| queue.back()).map(Batch::filters);
        if last_filters == Some(true) || last_filters.is_none() && !stream.own.is_empty() {
            let mark =
                Mark { room: home, before: None, expires_unix_ms: None, key: None, stays: false };
            let batch = Batch::new(stream.class, 0, mark);
            let work = self.work.get_or_insert_default();
            work.bytes += batch.bytes();
            work.queue.push_back(batch);
        }
    }

    /// Gives the oldest frames to at most `budget` members, and says how many that were; `finished` gets the stamps of
    /// publications that all members have now.
    pub(crate) fn serve(
        &mut self,
        budget: usize,
        out: &mut Vec<Effect>,
        scribe: &mut Scribe<'_>,
        finished: impl FnOnce(Vec<u64>),
    ) -> usize {
        let Some(work) = &mut self.work else { return 0 };
        work.expire(self.members.len(), &self.name, scribe);
        let Some(batch) = work.queue.front_mut() else { return 0 };
        let end = *batch.end.get_or_insert(self.members.len());
        let slice_end = end.min(batch.start + budget);
        let slice = self.members.get(batch.start..slice_end).unwrap_or_default();
        let mut giving = Giving { name: &self.name, stream: &mut self.stream, out, scribe };
        for member in slice {
            batch.give(*member, &mut giving);
        }
        let served = slice.len();
        batch.start = slice_end;
        if slice_end >= end {
            work.bytes -= batch.bytes();
            finished(std::mem::take(&mut batch.stamps));
            work.queue.pop_front();
            if work.queue.is_empty() {
                self.work = None;
                if let Some(stream) =
                    self.stream.as_mut().filter(|it| it.own.is_empty() && !it.shed)
                {
                    stream.served = stream.given();
                }
            }
        }
        served
    }
}

impl Work {
    /// Takes out what has expired while it waited.
    fn expire(&mut self, members: usize, name: &RoomName, scribe: &mut Scribe<'_>) {
        let unix_ms = scribe.unix_ms;
        for batch in self.queue.iter_mut().filter(|batch| batch.has_expired(unix_ms)) {
            self.bytes -= batch.bytes();
            batch.expire(members, name, scribe);
            self.bytes += batch.bytes();
        }
    }
}
