//! Writes frames for members of rooms, and for one session alone; knows what members may read, and borrows what it needs
//! of the lane.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use bytes::Bytes;
use foldhash::fast::FixedState;
use roomcast_protocol::dialect::Format;
use roomcast_protocol::frame::FrameSink;
use roomcast_protocol::outbound::{Outbound, SkipReason};
use roomcast_protocol::position::Position;
use roomcast_protocol::publication::Publication;
use roomcast_protocol::room::RoomName;
use slab::Slab;

use super::counters::Counters;
use super::stream::Run;
use crate::session::Session;

/// What members were given that is more to them than a frame.
#[derive(Debug, Default)]
pub(crate) struct Burden {
    /// By session: what it has to ack.
    pub(crate) given: Vec<(u32, Arc<Publication>)>,
    /// By session: what was said in a conversation, and given to it, or said in it.
    pub(crate) copies: Vec<(u32, Arc<Publication>)>,
    /// Sessions that may not have more of it now, and what they have covered of the room.
    pub(crate) full: Vec<(u32, Position)>,
    /// How much each session is given; rooms have thousands of members.
    counts: HashMap<u32, usize, FixedState>,
    /// Those that are full.
    done: HashSet<u32, FixedState>,
}

impl Burden {
    const fn new() -> Self {
        Self {
            given: Vec::new(),
            copies: Vec::new(),
            full: Vec::new(),
            counts: HashMap::with_hasher(FixedState::with_seed(0)),
            done: HashSet::with_hasher(FixedState::with_seed(0)),
        }
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.given.is_empty() && self.copies.is_empty() && self.full.is_empty()
    }

    /// A session is given something that it has to ack.
    pub(crate) fn give(&mut self, session: u32, publication: &Arc<Publication>) {
        self.given.push((session, Arc::clone(publication)));
        *self.counts.entry(session).or_default() += 1;
    }

    /// A session may not have more now, and has covered so much.
    pub(crate) fn fill(&mut self, session: u32, covered: Position) {
        self.full.push((session, covered));
        self.done.insert(session);
    }
}

/// What is at hand for whoever writes to members.
pub(crate) struct Scribe<'a> {
    formats: &'a [Format],
    sessions: &'a Slab<Session>,
    sink: &'a mut FrameSink,
    pub(crate) counters: &'a mut Counters,
    /// What expired by then is not given any more. Units: milliseconds since the Unix epoch.
    pub(crate) unix_ms: u64,
    /// Publications of one session that may wait for its ack.
    pub(crate) unacked_max: usize,
    pub(crate) burden: Burden,
    /// The last skip's frame: members that lack a permission mostly skip the same.
    last_skip: Option<(u8, Run, Bytes)>,
}

impl<'a> Scribe<'a> {
    pub(crate) const fn new(
        formats: &'a [Format],
        sessions: &'a Slab<Session>,
        sink: &'a mut FrameSink,
        counters: &'a mut Counters,
    ) -> Self {
        let burden = Burden::new();
        let unacked_max = usize::MAX;
        Self { formats, sessions, sink, counters, unix_ms: 0, unacked_max, burden, last_skip: None }
    }

    /// Whether a session holds all of these permissions.
    pub(crate) fn holds(&self, session: u32, needed: &[Box<str>]) -> bool {
        let who = self.sessions.get(session as usize).and_then(|session| session.who.as_ref());
        who.is_some_and(|who| needed.iter().all(|permission| who.holds(permission)))
    }

    /// Whether the publication is the copy of what was said in the session.
    pub(crate) fn has_said(&self, session: u32, publication: &Publication) -> bool {
        let session = self.sessions.get(session as usize);
        session.is_some_and(|session| session.has_said(publication))
    }

    /// Notes what was said in a conversation, if it is that.
    pub(crate) fn note_copy(&mut self, session: u32, copied: Option<&Arc<Publication>>) {
        self.burden.copies.extend(copied.map(|it| (session, Arc::clone(it))));
    }

    /// How much more may wait for a session's acks.
    pub(crate) fn free(&self, session: u32) -> usize {
        let acks = self.sessions.get(session as usize).and_then(|session| session.acks.as_ref());
        let now = self.burden.counts.get(&session).copied().unwrap_or(0);
        self.unacked_max.saturating_sub(acks.map_or(0, |acks| acks.unacked()) + now)
    }

    /// Whether a session is given nothing more of the room.
    pub(crate) fn is_done(&self, session: u32) -> bool {
        self.burden.done.contains(&session)
    }

    /// Counts offsets that members covered without a delivery.
    pub(crate) fn count_skips(&mut self, reason: SkipReason, count: u64) {
        if let Some(counter) = self.counters.skips.get_mut(reason as usize) {
            *counter += count;
        }
    }

    /// Appends the outbound's frame.
    pub(crate) fn append(&mut self, format: u8, outbound: &Outbound<'_>, out: &mut Vec<u8>) {
        if let Some(format) = self.formats.get(usize::from(format)) {
            self.sink.clear();
            format.dialect.encode(outbound, format.encoding, self.sink);
            out.extend_from_slice(self.sink.bytes());
        }
    }

    /// The frame that tells a run of skips.
    pub(crate) fn skip(&mut self, format: u8, room: &RoomName, run: Run) -> Bytes {
        if let Some((last_format, last_run, frame)) = &self.last_skip
            && (*last_format, *last_run) == (format, run)
        {
            return frame.clone();
        }
        let mut frame = Vec::new();
        self.append(format, &run.outbound(room), &mut frame);
        let frame = Bytes::from(frame);
        self.last_skip = Some((format, run, frame.clone()));
        frame
    }
}
