//! Publications that their members ack, or get again (G15).
//!
//! The time until one is given again begins when it has certainly left the outbox: when a ping behind it is answered.
//! Most are acked before a ping is worth its while, so it is sent only behind those that were not for a while.

use std::sync::Arc;

use roomcast_protocol::dialect::Profile;
use roomcast_protocol::guard::Principal;
use roomcast_protocol::ids::{SessionId, SessionKey};
use roomcast_protocol::limits::LimitName;
use roomcast_protocol::outbound::Outbound;
use roomcast_protocol::position::{Kept, Page, Position};
use roomcast_protocol::publication::{Priority, Publication};
use roomcast_protocol::room::RoomName;
use roomcast_protocol::time::Now;

use super::Lane;
use super::acks::{Acks, Given, Inflight};
use super::alarms::Alarm;
use super::rooms::Room;
use super::scribe::{Burden, Scribe};
use crate::happenings::Unacked;
use crate::messages::Effect;
use crate::session::Session;

/// Members of a room on one lane up to which its publications are acked.
pub const ACKED_MEMBERS_MAX: usize = 1_000;

/// How long an ack is waited for before a ping finds out whether the publication has arrived. Units: milliseconds.
const PROBE_MS: u64 = 1_000;

/// When to look again, while nothing may be given. Units: milliseconds.
const HELD_MS: u64 = 1_000;

/// Failed deliveries kept for the shell between two looks; those beyond are only counted.
pub const FAILED_MAX: usize = 256;

/// A publication that a client was given as often as its dialect says, and did not ack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailedDelivery {
    /// In which session.
    pub session: SessionId,
    /// In which room.
    pub room: RoomName,
    /// The publication's id.
    pub id: Box<str>,
}

impl Lane {
    /// Deliveries that failed since the list was emptied, which is up to the caller. Bounds: [`FAILED_MAX`].
    pub const fn take_failed(&mut self) -> &mut Vec<FailedDelivery> {
        &mut self.failed
    }

    /// Sends a ping behind all that waits. Where pings are not counted, its number is the time: no two under way have
    /// the same.
    pub(super) fn ping(&mut self, now: Now, key: SessionKey, out: &mut Vec<Effect>) {
        let pledged = self.pledge(now, key);
        let counted = self.session(key).is_some_and(|session| session.lasting.is_some());
        let time = u32::try_from(now.mono_ms & u64::from(u32::MAX)).unwrap_or(0);
        self.send_ping(now, key, if counted { pledged } else { time }, out);
    }

    /// Sends a ping of this number behind all that waits.
    pub(super) fn send_ping(
        &mut self,
        now: Now,
        key: SessionKey,
        number: u32,
        out: &mut Vec<Effect>,
    ) {
        self.note_given_up_to(key);
        if let Some(acks) = self.session_mut(key).and_then(|session| session.acks.as_mut()) {
            acks.sent_ping(now.mono_ms, number);
        }
        #[cfg(feature = "planted")]
        if self.planted == Some(crate::planted::Planted::CursorFromWrites) {
            self.all_arrived(now, key, u32::MAX, out);
        }
        #[cfg(feature = "planted")]
        if self.planted == Some(crate::planted::Planted::MarkFromWrites) {
            self.mark_given(key, out);
        }
        out.push(Effect::Ping { to: key.index, number });
    }

    /// A ping was answered: what was given before it has arrived.
    pub(super) fn pinged(&mut self, now: Now, key: SessionKey, number: u32, out: &mut Vec<Effect>) {
        let after_ms = self.profile(key).map_or(0, |profile| profile.ack_after_ms);
        let acks = self.session_mut(key).and_then(|session| session.acks.as_mut());
        let Some(acks) = acks else { return };
        // A client may say what it likes.
        let Some(answered) = acks.answered(number) else { return };
        for it in &mut acks.inflight {
            if matches!(it.given, Given::Behind(pings) if pings < answered) {
                it.given = Given::Arrived { due_ms: now.mono_ms.saturating_add(after_ms) };
            }
        }
        self.all_arrived(now, key, answered, out);
        self.arm_acks(now, key);
    }

    /// Members were given publications that they have to ack, or may not be given any more of them.
    /// `listed`: those have yet to be taken out of the room's list.
    pub(super) fn burden(
        &mut self,
        index: u32,
        burden: Burden,
        listed: bool,
        out: &mut Vec<Effect>,
    ) {
        let now = self.turns.now();
        for (session, publication) in burden.given {
            let found = self.sessions.get(session as usize);
            let is_in = |it: &&Session| it.rooms.iter().any(|entry| entry.room == index);
            if let Some(key) = found.filter(is_in).map(|session| session.key) {
                self.await_ack(now, (index, key), publication, out);
            }
        }
        for (session, copy) in burden.copies {
            let key = self.sessions.get(session as usize).map(|session| session.key);
            if let Some(key) = key {
                self.note_copy(now, (index, key), &copy, out);
            }
        }
        for (session, covered) in burden.full {
            let Some(key) = self.sessions.get(session as usize).map(|it| it.key) else { continue };
            self.park_unacked(index, (key, listed), covered, out);
        }
    }

    /// A session was given a publication that it has to ack.
    pub(super) fn await_ack(
        &mut self,
        now: Now,
        (index, key): (u32, SessionKey),
        publication: Arc<Publication>,
        out: &mut Vec<Effect>,
    ) {
        let max = usize::from(self.limits.unacked_max);
        let Some(session) = self.session_mut(key) else { return };
        let acks = session.acks.get_or_insert_default();
        let given = Given::Behind(acks.pings);
        let offset = publication.position.map(|position| position.offset);
        if let (Some(offset), Some(inbox)) = (offset, acks.inbox(index)) {
            inbox.cursor.wait_for(offset);
        }
        acks.supersede(index, &publication);
        if let Some(it) = acks.find(index, &publication) {
            (it.given, it.given_ms) = (given, now.mono_ms);
            return;
        }
        let given_ms = now.mono_ms;
        acks.inflight.push(Inflight { room: index, publication, given, given_ms, tries: 0 });
        if acks.unacked() > max
            && let Some(at) = acks.inflight.iter().position(|it| it.offset().is_none())
        {
            // Its room cannot be caught up with later.
            let failed = acks.inflight.remove(at);
            self.fail(key, &failed, Unacked::TooMany, out);
            self.count_limit(LimitName::Unacked);
        }
        self.arm_acks(now, key);
    }

    /// The client acks what it was given under this id: the oldest, where several rooms have one.
    pub(super) fn acked(
        &mut self,
        now: Now,
        key: SessionKey,
        (id, room): (&str, Option<&str>),
        out: &mut Vec<Effect>,
    ) {
        let index = |room| self.names.get(&RoomName::parse(room).ok()?).copied();
        let named = room.map(index);
        let is_of = |room| named.is_none_or(|named| named == Some(room));
        self.ack_first(now, key, |it| *it.publication.id == *id && is_of(it.room), out);
    }

    /// The oldest of what waits for the session's ack, and is meant, has it.
    pub(super) fn ack_first(
        &mut self,
        now: Now,
        key: SessionKey,
        is_meant: impl Fn(&Inflight) -> bool,
        out: &mut Vec<Effect>,
    ) {
        let acks = self.session_mut(key).and_then(|session| session.acks.as_mut());
        let found = acks.and_then(|acks| {
            let at = acks.inflight.iter().position(is_meant)?;
            let it = acks.inflight.remove(at);
            if let (Some(at), Some(inbox)) = (it.publication.position, acks.inbox(it.room)) {
                inbox.cursor.ack(at.offset);
            }
            Some(it)
        });
        let Some(it) = found else {
            self.counters.acks_unknown += 1;
            return;
        };
        self.counters.acked += 1;
        self.mark_acked(&it, key, out);
        self.report_cursors(now, key, out);
        self.unpark_acked(now, key, out);
        self.arm_acks(now, key);
    }

    /// A session's alarm for acks rings.
    pub(super) fn ring_acks(&mut self, now: Now, key: SessionKey, out: &mut Vec<Effect>) {
        let acks = self.session_mut(key).and_then(|session| session.acks.as_mut());
        let Some(acks) = acks else { return };
        acks.armed_ms = u64::MAX;
        self.report_cursors(now, key, out);
        let again = self.give_again(now, key, out);
        if again || self.wants_ping(now, key) {
            self.ping(now, key, out);
        }
        self.unpark_acked(now, key, out);
        self.arm_acks(now, key);
    }

    /// Gives again what is due; says whether there was any.
    fn give_again(&mut self, now: Now, key: SessionKey, out: &mut Vec<Effect>) -> bool {
        let Some(profile) = self.profile(key).filter(|_| !self.turns.held) else { return false };
        let Some(session) = self.session_mut(key) else { return false };
        let who = session.who.as_deref();
        let Some(acks) = &mut session.acks else { return false };
        let pings = acks.pings;
        let (mut again, mut failed) = (Vec::new(), Vec::new());
        let tries_max = profile.ack_tries;
        let due = |it: &mut Inflight| it.is_due(now.mono_ms);
        for mut it in acks.inflight.extract_if(.., due).collect::<Vec<_>>() {
            let publication = &it.publication;
            let expired = publication.expires_unix_ms.is_some_and(|at| now.unix_ms >= at);
            let holds = |who: &Principal| publication.requires.iter().all(|it| who.holds(it));
            if expired || !who.is_some_and(holds) {
                // Nobody is to have it any more.
                let (room, position) = (it.room, it.publication.position);
                if let (Some(at), Some(inbox)) = (position, acks.inbox(room)) {
                    inbox.cursor.ack(at.offset);
                }
            } else if tries_max > 0 && it.tries >= tries_max {
                failed.push(it);
            } else {
                it.tries = it.tries.saturating_add(1);
                (it.given, it.given_ms) = (Given::Behind(pings), now.mono_ms);
                again.push((it.room, Arc::clone(&it.publication)));
                acks.inflight.push(it);
            }
        }
        for it in &failed {
            self.fail(key, it, Unacked::Tries, out);
        }
        for (index, publication) in &again {
            self.give_once_more(*index, key, publication, out);
        }
        !again.is_empty()
    }

    /// Its position and id are those it had; it may come in another place (G3).
    pub(super) fn give_once_more(
        &mut self,
        index: u32,
        key: SessionKey,
        publication: &Publication,
        out: &mut Vec<Effect>,
    ) {
        let Some(format) = self.session(key).map(|session| session.format) else { return };
        let Some(room) = self.rooms.get(index as usize) else { return };
        let class = self.class_of(room, publication);
        let mut scribe =
            Scribe::new(&self.formats, &self.sessions, &mut self.sink, &mut self.counters);
        let mut frame = Vec::new();
        scribe.append(format, &Outbound::Redelivered(publication), &mut frame);
        scribe.counters.redelivered += 1;
        if !frame.is_empty() {
            // Nobody would give it again in its place: it is not let go.
            out.push(Effect::Send { to: key.index, frame: frame.into(), class, mark: None });
        }
    }

    fn class_of(&self, room: &Room, publication: &Publication) -> Priority {
        let rule = self.guard.policy(room.rule).priority;
        let own = publication.priority.filter(|_| room.stream.is_none());
        own.unwrap_or(rule)
    }

    /// It was given as often as the dialect says. In an inbox it stays for the next connect.
    fn fail(&mut self, key: SessionKey, failed: &Inflight, why: Unacked, out: &mut Vec<Effect>) {
        self.counters.delivery_failed += 1;
        self.tell_failed(key, &failed.publication, why, out);
        let Some(session) = self.session(key).map(|session| session.id) else { return };
        if self.failed.len() < FAILED_MAX {
            let (room, id) = (failed.publication.room.clone(), failed.publication.id.clone());
            self.failed.push(FailedDelivery { session, room, id });
        }
    }

    /// Whether something was given long enough ago, and no ping was sent behind it.
    fn wants_ping(&self, now: Now, key: SessionKey) -> bool {
        let Some(session) = self.session(key) else { return false };
        let Some(acks) = &session.acks else { return false };
        self.ping_wanted_ms(acks).is_some_and(|at| at <= now.mono_ms)
    }

    /// When a ping is wanted. Units: monotonic milliseconds.
    fn ping_wanted_ms(&self, acks: &Acks) -> Option<u64> {
        let unproven = acks.inflight.iter().filter(|it| it.given == Given::Behind(acks.pings));
        let probe = unproven.map(|it| it.given_ms.saturating_add(PROBE_MS)).min();
        let moved = acks.inboxes.iter().filter_map(|inbox| inbox.moved_ms).min();
        let rest = acks.pinged_ms.map_or(0, |at| at.saturating_add(self.limits.ping_ms));
        let moved = moved.map(|at| at.saturating_add(PROBE_MS).max(rest));
        probe.into_iter().chain(moved).min()
    }

    /// Has the session's acks looked at in time.
    pub(super) fn arm_acks(&mut self, now: Now, key: SessionKey) {
        let Some(session) = self.session(key) else { return };
        let Some(acks) = &session.acks else { return };
        let due = acks.inflight.iter().filter_map(|it| match it.given {
            Given::Arrived { due_ms } => Some(due_ms),
            Given::Behind(_) => None,
        });
        let reports = acks.inboxes.iter().filter_map(super::inboxes::next_report_ms);
        let wanted = self.ping_wanted_ms(acks);
        let next = due.chain(reports).chain(wanted).min();
        let Some(mut at_ms) = next else { return };
        if self.turns.held {
            at_ms = at_ms.max(now.mono_ms.saturating_add(HELD_MS));
        }
        let at_ms = at_ms.max(now.mono_ms + 1);
        if at_ms >= acks.armed_ms {
            return;
        }
        // What is given again may not be early.
        let armed_ms = self.alarms.set_behind(at_ms, Alarm::Acks(key));
        if let Some(acks) = self.session_mut(key).and_then(|session| session.acks.as_mut()) {
            acks.armed_ms = armed_ms;
        }
    }

    /// The session leaves a room: nothing of it is given again.
    pub(super) fn end_acks(&mut self, index: u32, key: SessionKey, out: &mut Vec<Effect>) {
        self.close_inbox(index, key, out);
        let Some(session) = self.session_mut(key) else { return };
        let Some(acks) = &mut session.acks else { return };
        acks.inflight.retain(|it| it.room != index);
        self.unpark_acked(self.turns.now(), key, out);
        if let Some(session) = self.session_mut(key)
            && session.acks.as_ref().is_some_and(|acks| acks.is_idle())
        {
            session.acks = None;
        }
    }

    /// How far a session that is resumed needs nothing again of a room, when all it was given up to `safe` has arrived:
    /// what waits for its ack, from `unacked` on, and what an inbox has not given, is given then.
    pub(super) fn acked_run(
        &self,
        index: u32,
        key: SessionKey,
        safe: Position,
        unacked: Option<u64>,
    ) -> Position {
        let first = unacked.map_or(u64::MAX, |offset| offset.saturating_sub(1));
        let safe = safe.at(safe.offset.min(first));
        let acks = self.session(key).and_then(|session| session.acks.as_ref());
        let inbox = acks.and_then(|acks| acks.inboxes.iter().find(|inbox| inbox.room == index));
        inbox.map_or(safe, |inbox| inbox.cursor.whole_run(safe))
    }

    /// The offset of the oldest publication of a room that waits for the session's ack, or is to be given again for it.
    pub(super) fn oldest_unacked(&self, index: u32, key: SessionKey) -> Option<u64> {
        let session = self.session(key)?;
        let waiting = session.acks.iter().flat_map(|acks| &acks.inflight);
        let waiting = waiting.filter(|it| it.room == index).filter_map(Inflight::offset);
        let catch_up = self.catching.get(&(index, key.index)).filter(|it| it.key == key);
        let known = catch_up.filter(|it| it.covered.offset < it.known_to);
        let restored = session.lasting.as_ref().and_then(|lasting| lasting.restored(index));
        let untold = restored.and_then(|it| it.unacked);
        waiting.chain(known.map(|it| it.covered.offset + 1)).chain(untold).min()
    }

    /// A publication of the room as its members here have to ack it; `None`: they have not to.
    pub(super) fn awaited_of(
        &mut self,
        index: u32,
        publication: &Arc<Publication>,
    ) -> Option<Arc<Publication>> {
        let room = self.rooms.get(index as usize)?;
        if !publication.requires_ack && !self.guard.policy(room.rule).requires_ack {
            return None;
        }
        let crowded = self.is_crowded(index);
        self.counters.acks_ignored += u64::from(crowded);
        (!crowded).then(|| requiring_ack(publication))
    }

    /// A page of a room whose rule asks for acks: its entries say so. `None`: they do, or it does not ask.
    pub(super) fn page_to_be_acked(&self, index: u32, page: &Page) -> Option<Page> {
        let room = self.rooms.get(index as usize)?;
        if !self.guard.policy(room.rule).requires_ack || self.is_crowded(index) {
            return None;
        }
        let one = |kept: &Kept| match kept {
            Kept::Publication(it) => Kept::Publication(requiring_ack(it)),
            Kept::Unreadable(_) | Kept::Removed(_) => kept.clone(),
        };
        Some(Page { entries: page.entries.iter().map(one).collect(), ..*page })
    }

    /// Whether the room has too many members for their acks to be waited for. A group has a bound of its own, and its
    /// members get what is said nowhere else.
    pub(super) fn is_crowded(&self, index: u32) -> bool {
        let room = self.rooms.get(index as usize);
        room.is_some_and(|room| room.members.len() > ACKED_MEMBERS_MAX)
            && self.group_at(index).is_none()
    }

    pub(super) fn profile(&self, key: SessionKey) -> Option<&'static Profile> {
        let format = self.session(key)?.format;
        self.formats.get(usize::from(format)).map(|format| format.dialect.profile())
    }
}

/// The publication, which tells whoever gets it to ack it.
fn requiring_ack(publication: &Arc<Publication>) -> Arc<Publication> {
    if publication.requires_ack {
        return Arc::clone(publication);
    }
    Arc::new(Publication { requires_ack: true, ..(**publication).clone() })
}
