//! Records of sessions (G13): when they are written, what is in them, and from which positions on a client has to be
//! given publications again. A position never comes from what was written to a socket: it is safe once a ping that left
//! behind it was answered.

use roomcast_protocol::codes::Close;
use roomcast_protocol::ids::SessionKey;
use roomcast_protocol::position::Position;
use roomcast_protocol::session::{
    RoomRecord, SaveSession, SavedSession, Secret, SessionRecord, SessionState,
};
use roomcast_protocol::time::Now;

use super::Lane;
use super::alarms::Alarm;
use super::lasting::{Lasting, is_further};
use super::membership::is_own;
use crate::messages::Effect;
use crate::session::{Membership, Phase, Session};

/// How often a record is written at most because the session's rooms changed. Units: milliseconds.
pub(super) const ROOMS_MS: u64 = 1_000;

/// The same because the client has got more, and until a write is tried again that failed. Units: milliseconds.
pub(super) const MOVED_MS: u64 = 5_000;

/// Records that are renewed in one step are those of every so many-th session; a step takes this long. Units:
/// milliseconds.
const STEP_MS: u64 = 1_000;

/// What a write says beside the record's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    /// All that is kept of the session.
    Record,
    /// Who comes with this secret is handed over.
    Turn(Secret),
}

impl Lane {
    /// Writes the session's record now.
    pub(super) fn save(&mut self, key: SessionKey, what: What, out: &mut Vec<Effect>) {
        let record = self.record_of(key, SessionState::Attached);
        let turn = match what {
            What::Record => None,
            What::Turn(secret) => Some(secret),
        };
        let Some(save) = self.save_of(key, SessionState::Attached, turn, record) else { return };
        let mono_ms = self.turns.last_ms();
        let Some(lasting) = self.lasting_mut(key).filter(|it| !it.fenced) else { return };
        lasting.saved_ms = mono_ms;
        lasting.save_at_ms = u64::MAX;
        lasting.recorded = true;
        lasting.under_way = lasting.under_way.saturating_add(1);
        if let Some(moment) = &mut lasting.moment {
            moment.joins_written = moment.joins.len();
        }
        let save = Box::new(save);
        self.write_record(Some(key), save, out);
    }

    fn save_of(
        &self,
        key: SessionKey,
        state: SessionState,
        turn: Option<Secret>,
        record: Option<SessionRecord>,
    ) -> Option<SaveSession> {
        let session = self.session(key)?;
        let lasting = session.lasting.as_deref()?;
        Some(SaveSession {
            user: session.who.as_ref()?.user_key().into(),
            session: session.id,
            generation: lasting.generation,
            state,
            secret: lasting.secret,
            turn,
            confirmed: !lasting.unproven,
            record,
            window_ms: self.limits.resume_window_ms,
            obeyed: self.turns.obeyed,
        })
    }

    /// The session ends here: it can be resumed from now on, or never.
    pub(super) fn let_go(&mut self, key: SessionKey, state: SessionState, out: &mut Vec<Effect>) {
        // Under the generation that it came with, so before that is forgotten.
        self.tell_all(key, false, out);
        self.give_up_wish(key, state);
        let Some(session) = self.session(key) else { return };
        let writes = |lasting: &&Lasting| lasting.recorded && !lasting.fenced;
        if session.lasting.as_deref().filter(writes).is_none() {
            return;
        }
        let record = match state {
            SessionState::Attached | SessionState::Detached => self.record_of(key, state),
            SessionState::Ended => None,
        };
        if let Some(save) = self.save_of(key, state, None, record) {
            let save = Box::new(save);
            self.write_record(None, save, out);
        }
        let lasting = self.session_mut(key).and_then(|session| session.lasting.take());
        let moment = lasting.and_then(|lasting| lasting.moment);
        // Joins that waited for the record wait no more.
        for (index, _) in moment.map_or(Vec::new(), |moment| moment.joins) {
            if let Some(room) = self.rooms.get_mut(index as usize) {
                room.entering -= 1;
            }
        }
    }

    /// All that is kept of the session.
    fn record_of(&self, key: SessionKey, state: SessionState) -> Option<SessionRecord> {
        let session = self.session(key)?;
        let lasting = session.lasting.as_deref()?;
        let who = session.who.as_deref()?;
        let own_rooms = self.profile_of(session).is_some_and(|profile| profile.joins_own_rooms);
        let mut record = SessionRecord::default();
        for entry in &session.rooms {
            let Some(room) = self.rooms.get(entry.room as usize) else { continue };
            let unacked = self.oldest_unacked(entry.room, key);
            let safe = self.safe(session, lasting, entry, unacked);
            // Once its client is told where it hears a room from, a record without that would make a hole of it.
            if room.stream.is_some() && safe.is_none() && state == SessionState::Attached {
                continue;
            }
            let kept = RoomRecord { room: room.name.clone(), safe, unacked };
            if !own_rooms || !is_own(who, session.id, &room.name) {
                record.rooms.push(kept);
            } else if room.stream.is_some() {
                record.own.push(kept);
            }
        }
        Some(record)
    }

    fn safe(
        &self,
        session: &Session,
        lasting: &Lasting,
        entry: &Membership,
        unacked: Option<u64>,
    ) -> Option<Position> {
        #[cfg(feature = "planted")]
        if self.planted == Some(crate::planted::Planted::PositionFromWrites) {
            return self.given(session.key, entry).or(lasting.safe(entry.room));
        }
        let safe = lasting.safe(entry.room)?;
        Some(self.acked_run(entry.room, session.key, safe, unacked))
    }

    /// What the session was given of a room: a ping that leaves now leaves behind it.
    pub(super) fn given(&self, key: SessionKey, entry: &Membership) -> Option<Position> {
        if let Some(covered) = self.caught_up(entry.room, key) {
            return Some(covered);
        }
        let is_in = entry.place != Membership::WAITING;
        self.rooms.get(entry.room as usize).filter(|_| is_in)?.given()
    }

    /// The session was answered that it hears the room from this position on.
    pub(super) fn note_entry(&mut self, key: SessionKey, index: u32, at: Position) {
        if let Some(lasting) = self.lasting_mut(key) {
            lasting.enter(index, at);
        }
        self.note_rooms(key);
    }

    /// The session's rooms changed: its record is written soon.
    pub(super) fn note_rooms(&mut self, key: SessionKey) {
        self.want_save(key, ROOMS_MS);
    }

    /// Has the record written `rest_ms` after the last time, unless it is written before.
    pub(super) fn want_save(&mut self, key: SessionKey, rest_ms: u64) {
        let mono_ms = self.turns.last_ms();
        let Some(lasting) = self.lasting_mut(key) else { return };
        if !lasting.recorded || lasting.fenced {
            return;
        }
        let at_ms = lasting.saved_ms.saturating_add(rest_ms).max(mono_ms);
        if at_ms < lasting.save_at_ms {
            lasting.save_at_ms = at_ms;
            self.alarms.set_behind(at_ms, Alarm::Save(key));
        }
    }

    /// Writes the record if it is time.
    pub(super) fn save_if_due(&mut self, now: Now, key: SessionKey, out: &mut Vec<Effect>) {
        if self.lasting_mut(key).is_some_and(|it| it.save_at_ms <= now.mono_ms) {
            self.save(key, What::Record, out);
        }
    }

    /// Renews the records of those sessions whose step it is: each has one in half a window.
    pub(super) fn renew(&mut self, now: Now, out: &mut Vec<Effect>) {
        let half_ms = self.limits.resume_window_ms / 2;
        let steps = (half_ms / STEP_MS).max(1);
        let step = now.mono_ms / STEP_MS;
        let done = std::mem::replace(&mut self.renewed, step);
        let from = (done + 1).max((step + 1).saturating_sub(steps));
        for step in from..=step {
            let first = usize::try_from(step % steps).unwrap_or_default();
            let each = usize::try_from(steps).unwrap_or(usize::MAX);
            for index in (first..self.sessions.capacity()).step_by(each) {
                let Some(session) = self.sessions.get(index) else { continue };
                let key = session.key;
                let due = |it: &Lasting| now.mono_ms >= it.saved_ms.saturating_add(half_ms);
                let renews = |it: &Lasting| it.recorded && !it.fenced && due(it);
                if session.lasting.as_deref().is_some_and(renews) {
                    // Whole: a broker that has lost its records gets them back by this.
                    self.save(key, What::Record, out);
                }
            }
        }
    }

    /// What became of writing a session's record.
    pub(super) fn saved(
        &mut self,
        now: Now,
        key: SessionKey,
        outcome: Option<SavedSession>,
        out: &mut Vec<Effect>,
    ) {
        let Some(lasting) = self.lasting_mut(key) else { return };
        lasting.under_way = lasting.under_way.saturating_sub(1);
        let idle = lasting.under_way == 0;
        match outcome {
            Some(SavedSession::Saved) => self.counters.records += 1,
            Some(SavedSession::Fenced) => return self.refused_as_former(key, out),
            Some(SavedSession::Ended) => return self.refused_as_ended(key, out),
            None => {
                self.counters.records_failed += 1;
                self.want_save(key, MOVED_MS);
                self.end_untold_turn(key, out);
            }
        }
        // What was written first may be answered last.
        if idle {
            self.join_recorded(now, key, out);
            self.tell_turn(key, out);
        }
    }

    /// A ping leaves behind all that waits: its number.
    pub(super) fn pledge(&mut self, now: Now, key: SessionKey) -> u32 {
        let given = self.given_beyond(key);
        self.lasting_mut(key).map_or(0, |lasting| lasting.ping(now.mono_ms, given))
    }

    /// The same for a client that is not silent, if it was given something since its last ping, and that was long ago.
    pub(super) fn pledge_if_moved(&mut self, now: Now, key: SessionKey) -> Option<u32> {
        let session = self.session(key).filter(|session| session.phase == Phase::Ready)?;
        let got = session.lasting.as_ref()?.got.as_ref()?;
        let rested = now.mono_ms >= got.pinged_ms.saturating_add(self.limits.ping_ms);
        if !rested || got.awaited.is_some() {
            return None;
        }
        let given = self.given_beyond(key);
        if given.is_empty() {
            return None;
        }
        self.lasting_mut(key).map(|lasting| lasting.ping(now.mono_ms, given))
    }

    /// When a session may be pinged that was given something since its last ping. Units: monotonic milliseconds.
    pub(super) fn proof_due_ms(&self, key: SessionKey) -> Option<u64> {
        let session = self.session(key).filter(|session| session.phase == Phase::Ready)?;
        let pinged_ms = session.lasting.as_ref()?.got.as_ref()?.pinged_ms;
        let is_due = !self.given_beyond(key).is_empty();
        is_due.then(|| pinged_ms.saturating_add(self.limits.ping_ms))
    }

    /// What the session was given beyond what its client has certainly got, by room.
    fn given_beyond(&self, key: SessionKey) -> Vec<(u32, Position)> {
        let Some(session) = self.session(key) else { return Vec::new() };
        let Some(lasting) = session.lasting.as_deref() else { return Vec::new() };
        let Some(got) = &lasting.got else { return Vec::new() };
        let mut given = Vec::new();
        for (room, safe) in &got.safe {
            let entry = session.rooms.iter().find(|entry| entry.room == *room);
            let Some(at) = entry.and_then(|entry| self.given(key, entry)) else { continue };
            if is_further(at, *safe) {
                given.push((*room, at));
            }
        }
        given
    }

    /// Frames of the room were let go that a ping on its way was to leave behind: its answer says nothing of them.
    pub(super) fn take_back_pings(&mut self, index: u32, key: SessionKey) {
        if let Some(lasting) = self.lasting_mut(key) {
            lasting.take_back(index);
        }
    }

    /// The client answered a ping.
    pub(super) fn take_pong(&mut self, key: SessionKey, number: u32, out: &mut Vec<Effect>) {
        let moved = self.lasting_mut(key).map_or(Vec::new(), |lasting| lasting.pong(number));
        if !moved.is_empty() {
            self.want_save(key, MOVED_MS);
        }
        for (room, at, before) in moved {
            self.mark_proven(room, key, at, before, out);
        }
        self.prove(key, out);
    }

    pub(super) fn lasting_mut(&mut self, key: SessionKey) -> Option<&mut Lasting> {
        self.session_mut(key)?.lasting.as_deref_mut()
    }
}

/// What a session is once its connection has ended like this.
pub(super) const fn state_after(close: Close) -> SessionState {
    match close {
        Close::Normal
        | Close::Unauthorized
        | Close::Replaced
        | Close::Disconnected
        | Close::Moved => SessionState::Ended,
        Close::Stopping
        | Close::Protocol
        | Close::BadText
        | Close::Flood
        | Close::TooLarge
        | Close::Silent
        | Close::Drain
        | Close::AuthenticationFailed
        | Close::Slow
        | Close::Limit
        | Close::GapTooOld => SessionState::Detached,
    }
}
