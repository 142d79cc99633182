//! Reads of what rooms keep: those under way, and the requests for history that they answer.

use std::collections::BTreeMap;

use roomcast_protocol::codes::{Refusal, Refused};
use roomcast_protocol::command::{HistoryRequest, ReplyTo};
use roomcast_protocol::guard::{Principal, RuleIndex};
use roomcast_protocol::ids::SessionKey;
use roomcast_protocol::limits::LimitName;
use roomcast_protocol::outbound::Outbound;
use roomcast_protocol::position::{Direction, Kept, Page, Span};
use roomcast_protocol::room::RoomName;
use roomcast_protocol::time::Now;

use super::Lane;
use super::alarms::Alarm;
use super::catching::SHARERS_MAX;
use crate::happenings::Right;
use crate::messages::{Effect, HubMessage};
use crate::reader::Reader;

/// How long a read may take before it counts as failed. Units: milliseconds.
const READ_MS: u64 = 10_000;

/// When to ask again where a read failed. Units: milliseconds.
const RETRY_MS: u64 = 1_000;

/// Reads that sessions may share: the room's serial, and the offset above which is read.
pub(super) type SharedBy = (u32, u64);

/// A read under way.
#[derive(Debug)]
pub(super) enum Read {
    /// Members catch up.
    CatchUp {
        /// The room's index; it does not end while somebody catches up in it.
        room: u32,
        shared: SharedBy,
        /// Who waits for it. Bounds: [`SHARERS_MAX`].
        sharers: Vec<SessionKey>,
        /// It is for parked members.
        slow: bool,
    },
    /// A session asked for history.
    History { key: SessionKey, reply: ReplyTo, room: RoomName, span: Span },
}

/// The lane's reads under way. Bounds: one for each session and room that catches up, and `histories_max` for each
/// session; those nobody waits for any more end by [`READ_MS`].
#[derive(Debug, Default)]
pub(super) struct Reads {
    last: u64,
    under_way: BTreeMap<u64, Read>,
    shared: BTreeMap<SharedBy, u64>,
}

impl Reads {
    /// Lets a session share a read under way, if there is one for it.
    pub(super) fn share(&mut self, by: SharedBy, key: SessionKey) -> Option<u64> {
        let query = self.shared.get(&by).copied()?;
        match self.under_way.get_mut(&query)? {
            Read::CatchUp { sharers, .. } if sharers.len() < SHARERS_MAX => {
                sharers.push(key);
                Some(query)
            }
            Read::CatchUp { .. } | Read::History { .. } => None,
        }
    }

    /// Lets others share the read.
    pub(super) fn allow_sharing(&mut self, by: SharedBy, query: u64) {
        self.shared.insert(by, query);
    }

    fn take(&mut self, query: u64) -> Option<Read> {
        let read = self.under_way.remove(&query)?;
        if let Read::CatchUp { shared, .. } = &read
            && self.shared.get(shared) == Some(&query)
        {
            self.shared.remove(shared);
        }
        Some(read)
    }

    /// How many there are.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        assert!(self.shared.len() <= self.under_way.len());
        self.under_way.len()
    }
}

impl Lane {
    /// Asks the hub for kept publications.
    pub(super) fn ask(
        &mut self,
        now: Now,
        read: Read,
        room: RoomName,
        span: Span,
        out: &mut Vec<Effect>,
    ) -> u64 {
        self.reads.last += 1;
        let query = self.reads.last;
        self.reads.under_way.insert(query, read);
        self.alarms.set(now.mono_ms.saturating_add(READ_MS), Alarm::Read(query));
        let reader = Reader::Lane { lane: self.id, query };
        out.push(Effect::Hub(HubMessage::Read { reader, room, span }));
        query
    }

    /// A read was answered, or took too long. Those that nobody waits for any more are forgotten.
    pub(super) fn page(&mut self, now: Now, query: u64, page: Option<Page>, out: &mut Vec<Effect>) {
        if self.turns.held {
            return self.turns.put_off(query, page);
        }
        match self.reads.take(query) {
            Some(Read::CatchUp { room, sharers, slow, .. }) => {
                self.parking.reads -= usize::from(slow);
                self.catch_up(now, query, (room, sharers), page.as_ref(), out);
                self.next_turns(now, out);
            }
            Some(Read::History { key, reply, room, span }) => {
                if let Some(session) = self.session_mut(key) {
                    session.histories = session.histories.saturating_sub(1);
                    self.answer_history(now, key, (&reply, &room, span), page, out);
                }
            }
            None => {}
        }
    }

    /// A session asks for what a room keeps.
    pub(super) fn history(
        &mut self,
        now: Now,
        key: SessionKey,
        request: HistoryRequest,
        out: &mut Vec<Effect>,
    ) {
        let HistoryRequest { reply, room, direction, from, limit } = request;
        let name = match RoomName::parse(&room) {
            Ok(name) => name,
            Err(cause) => return self.refuse(key, &reply, &cause.into(), out),
        };
        let Some(rule) = self.may_read(key, &name) else {
            return self.deny(key, &reply, (Right::History, &name), out);
        };
        if self.guard.policy(rule).history.is_none() {
            let refused = Refused::because(Refusal::Schema, "This room keeps no history".into());
            return self.refuse(key, &reply, &refused, out);
        }
        let max = self.limits.histories_max;
        let Some(session) = self.session_mut(key) else { return };
        if session.histories >= max {
            let limit = LimitName::HistoriesPerSession;
            let refused = Refused::limit(Refusal::Limit, limit, max.into(), None);
            return self.refuse(key, &reply, &refused, out);
        }
        session.histories += 1;
        let end = match direction {
            Direction::Forward => 0,
            Direction::Backward => u64::MAX,
        };
        let whole = Span::above(0);
        let count_max = limit.unwrap_or(Span::COUNT_MAX).clamp(1, Span::COUNT_MAX);
        let span = Span { direction, from: from.unwrap_or(end), count_max, ..whole };
        let read = Read::History { key, reply, room: name.clone(), span };
        self.ask(now, read, name, span, out);
    }

    /// The room's rule, if the session is in the room or may join it.
    pub(super) fn may_read(&self, key: SessionKey, name: &RoomName) -> Option<RuleIndex> {
        let session = self.session(key)?;
        let who = session.who.as_deref()?;
        let index = self.names.get(name).copied();
        let is_in = index.is_some_and(|index| session.rooms.iter().any(|it| it.room == index));
        let rule = self.guard.rule(name)?;
        (is_in || self.guard.may_join(rule, name, who)).then_some(rule)
    }

    fn answer_history(
        &mut self,
        now: Now,
        key: SessionKey,
        (reply, room, span): (&ReplyTo, &RoomName, Span),
        page: Option<Page>,
        out: &mut Vec<Effect>,
    ) {
        // The right may have been lost meanwhile.
        if self.may_read(key, room).is_none() {
            return self.refuse(key, reply, &Refusal::PermissionDenied.into(), out);
        }
        let (Some(mut page), Some(session)) = (page, self.session(key)) else {
            let text = "The history cannot be read at the moment";
            return self.refuse(key, reply, &Refused::unavailable(text.into(), RETRY_MS), out);
        };
        let Some(who) = session.who.as_deref() else { return };
        let direction = span.direction;
        let edge = match direction {
            Direction::Forward => page.entries.last(),
            Direction::Backward => page.entries.first(),
        };
        let edge = edge.and_then(Kept::position).map_or(span.from, |position| position.offset);
        let next = (!page.whole).then_some(edge);
        page.entries.retain(|entry| is_shown(entry, now, who));
        self.counters.histories += 1;
        let room = room.as_str();
        let history = Outbound::History { reply, room, direction, page: &page, next };
        self.send(key, &history, out);
    }
}

fn is_shown(entry: &Kept, now: Now, who: &Principal) -> bool {
    match entry {
        Kept::Publication(it) => {
            it.expires_unix_ms.is_none_or(|at| now.unix_ms < at)
                && it.requires.iter().all(|permission| who.holds(permission))
        }
        Kept::Unreadable(_) | Kept::Removed(_) => false,
    }
}
