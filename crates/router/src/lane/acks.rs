//! What a session has yet to ack (G15), and its inboxes (G16). Made for sessions that have any; knows nothing of rooms'
//! members and frames.

use std::collections::VecDeque;
use std::sync::Arc;

use roomcast_protocol::inbox::{Acked, CursorName, InboxState, Told};
use roomcast_protocol::position::Position;
use roomcast_protocol::publication::Publication;

use super::cursor::Cursor;

/// Pings under way that are told apart; of those before them nothing is learned any more.
const PINGS_MAX: usize = 16;

/// When a publication that was given counts as arrived.
///
/// A ping leaves behind all that waits for its connection: once it is answered, whatever was given before it has left
/// the outbox, and has arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Given {
    /// It has not been proven. How many pings had been sent.
    Behind(u32),
    /// It has; it is given again then. Units: monotonic milliseconds.
    Arrived { due_ms: u64 },
}

/// A publication that waits for its ack.
#[derive(Debug)]
pub(super) struct Inflight {
    /// The room's index.
    pub(super) room: u32,
    pub(super) publication: Arc<Publication>,
    pub(super) given: Given,
    /// When it was given last. Units: monotonic milliseconds.
    pub(super) given_ms: u64,
    /// How often it was given again.
    pub(super) tries: u8,
}

impl Inflight {
    /// Whether it is to be given again.
    pub(super) const fn is_due(&self, mono_ms: u64) -> bool {
        matches!(self.given, Given::Arrived { due_ms } if due_ms <= mono_ms)
    }

    fn is(&self, room: u32, publication: &Publication) -> bool {
        let own = &self.publication;
        self.room == room && own.position == publication.position && own.id == publication.id
    }

    /// Where it stands; `None`: its room is ephemeral.
    pub(super) fn offset(&self) -> Option<u64> {
        self.publication.position.map(|position| position.offset)
    }
}

/// How many publications an inbox has lost, since there is its cursor, and what of that the client knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Lost {
    all: u64,
    /// Of so many it certainly knows.
    known: Told,
    /// It was told of the rest, when so many pings had been sent.
    behind: Option<u32>,
    /// The broker has yet to be told what is known.
    is_news: bool,
}

impl Lost {
    pub(super) const fn new(state: &InboxState) -> Self {
        Self { all: state.lost, known: state.told, behind: None, is_news: false }
    }

    /// Of how many the client has to be told now, if of any: it counts as told.
    pub(super) fn tell(&mut self, pings: u32) -> Option<u64> {
        let count = self.all.checked_sub(self.known.count).filter(|count| *count > 0);
        let count = count.filter(|_| self.behind.is_none())?;
        self.behind = Some(pings);
        Some(count)
    }

    /// The ping with which so many had been sent was answered: what was told before it is known.
    pub(super) fn arrived(&mut self, answered: u32) {
        if self.behind.take_if(|pings| *pings < answered).is_some() {
            (self.known.count, self.is_news) = (self.all, true);
        }
    }
}

/// An inbox of a session.
#[derive(Debug)]
pub(super) struct Inbox {
    /// The room's index.
    pub(super) room: u32,
    pub(super) name: CursorName,
    pub(super) cursor: Cursor,
    pub(super) lost: Lost,
    /// Since when there is something that no ping was sent behind. Units: monotonic milliseconds.
    pub(super) moved_ms: Option<u64>,
    /// The oldest ping under way, and up to where all was given before it.
    pub(super) pinged: Option<(u32, Position)>,
    /// When the cursor was moved last. Units: monotonic milliseconds.
    pub(super) reported_ms: Option<u64>,
}

impl Inbox {
    pub(super) const fn new(room: u32, name: CursorName, cursor: Cursor, lost: Lost) -> Self {
        Self { room, name, cursor, lost, moved_ms: None, pinged: None, reported_ms: None }
    }

    /// Whether the broker has to be told something.
    pub(super) const fn has_news(&self) -> bool {
        self.cursor.has_moved() || self.lost.is_news
    }

    /// What the broker is told: what is acked, and of how many lost publications the client knows. Both are said whole,
    /// so what the broker did not take in it hears with the next report.
    pub(super) fn report(&mut self) -> (Acked, Told) {
        self.lost.is_news = false;
        (self.cursor.report(), self.lost.known)
    }
}

/// What a session has yet to ack, and its inboxes.
#[derive(Debug)]
pub(crate) struct Acks {
    /// Oldest first. Bounds: `unacked_max`.
    pub(super) inflight: Vec<Inflight>,
    /// Bounds: the session's rooms.
    pub(super) inboxes: Vec<Inbox>,
    /// Which device it is, as its client says.
    pub(super) device: Option<Box<str>>,
    /// The groups of its user are asked for.
    pub(super) groups_asked: bool,
    /// Rooms of groups that it has not entered yet: from where its user hears each, and how far its device was. Bounds: its
    /// user's groups.
    pub(super) starts: Vec<(u32, Position, Option<Position>)>,
    /// Some of its rooms may be parked.
    pub(super) parked: bool,
    /// Pings sent since this was made.
    pub(super) pings: u32,
    /// Those that are not answered: number, and how many were sent with it. Bounds: [`PINGS_MAX`].
    under_way: VecDeque<(u32, u32)>,
    /// When a ping was sent last. Units: monotonic milliseconds.
    pub(super) pinged_ms: Option<u64>,
    /// When its alarm rings; `u64::MAX`: not at all. Units: monotonic milliseconds.
    pub(super) armed_ms: u64,
}

impl Default for Acks {
    fn default() -> Self {
        Self {
            inflight: Vec::new(),
            inboxes: Vec::new(),
            device: None,
            groups_asked: false,
            starts: Vec::new(),
            parked: false,
            pings: 0,
            under_way: VecDeque::new(),
            pinged_ms: None,
            armed_ms: u64::MAX,
        }
    }
}

impl Acks {
    /// Publications that wait for their acks.
    pub(super) const fn unacked(&self) -> usize {
        self.inflight.len()
    }

    /// What stands above `covered` in the room did not leave: it is given anew.
    pub(super) fn take_back(&mut self, room: u32, covered: Position, mono_ms: u64) {
        let is_above = |offset: u64| offset > covered.offset;
        self.inflight.retain(|it| it.room != room || !it.offset().is_some_and(is_above));
        let Some(inbox) = self.inbox(room) else { return };
        if inbox.pinged.take_if(|(_, position)| is_above(position.offset)).is_some() {
            inbox.moved_ms = inbox.moved_ms.or(Some(mono_ms));
        }
    }

    /// A ping of this number is sent.
    pub(super) fn sent_ping(&mut self, mono_ms: u64, number: u32) {
        self.pings = self.pings.wrapping_add(1);
        self.pinged_ms = Some(mono_ms);
        if self.under_way.len() >= PINGS_MAX {
            self.under_way.pop_front();
        }
        self.under_way.push_back((number, self.pings));
    }

    /// A ping was answered; says how many had been sent with it. `None`: it is none of those under way.
    pub(super) fn answered(&mut self, number: u32) -> Option<u32> {
        let at = self.under_way.iter().position(|(sent, _)| *sent == number)?;
        let pings = self.under_way.drain(..=at).next_back().map(|(_, pings)| pings);
        if self.under_way.is_empty() {
            self.under_way = VecDeque::new();
        }
        pings
    }

    /// Nothing is in it that is not there by default.
    pub(super) fn is_idle(&self) -> bool {
        self.inflight.is_empty() && self.inboxes.is_empty() && self.device.is_none() && !self.parked
    }

    /// The one that was given before.
    pub(super) fn find(&mut self, room: u32, publication: &Publication) -> Option<&mut Inflight> {
        self.inflight.iter_mut().find(|it| it.is(room, publication))
    }

    /// Whether it waits for the ack of this one.
    pub(super) fn waits_for(&self, room: u32, publication: &Publication) -> bool {
        self.inflight.iter().any(|it| it.is(room, publication))
    }

    pub(super) fn inbox(&mut self, room: u32) -> Option<&mut Inbox> {
        self.inboxes.iter_mut().find(|inbox| inbox.room == room)
    }
}
