//! Sessions that are taken over (G13): the wish for one, what it gets back of its rooms, and when its former connection
//! is told. Never gives back more than the token at hand allows now.

use std::collections::BTreeMap;

use roomcast_protocol::codes::{Refusal, Refused};
use roomcast_protocol::command::{Continuation, ReplyTo};
use roomcast_protocol::dialect::Profile;
use roomcast_protocol::ids::SessionKey;
use roomcast_protocol::limits::LimitName;
use roomcast_protocol::outbound::ResumeOffer;
use roomcast_protocol::position::Position;
use roomcast_protocol::room::RoomName;
use roomcast_protocol::session::{
    AttachedSession, Former, ResumeToken, RoomRecord, SaveSession, Secret, SessionRecord,
    SessionState, Unattached, Wish,
};
use roomcast_protocol::time::Now;

use super::Lane;
use super::alarms::Alarm;
use super::counters::add_one;
use super::lasting::{JOINS_MAX, Lasting, Restored};
use super::membership::is_own;
use super::records::What;
use super::rooms::Ask;
use super::welcoming::Covered;
use crate::messages::{Effect, HubMessage};
use crate::session::{Membership, Phase, Session};

/// How long a session may wait for the one it wants back; then it is a new one. Units: milliseconds.
pub(super) const ATTACH_MS: u64 = 5_000;

/// How long its welcome waits for rooms from before that are not live. Units: milliseconds.
pub(super) const RESTORE_MS: u64 = 5_000;

/// How long an answer is waited for that nobody needs any more: what it takes over is let go again. Units:
/// milliseconds.
const LATE_MS: u64 = 60_000;

/// A wish under way.
#[derive(Debug)]
pub(super) struct Attaching {
    user: Box<str>,
    wish: Wish,
    secret: Secret,
    covered: Covered,
    /// Whoever wished has gone, or begun anew: the session is left in this state.
    late: Option<SessionState>,
}

impl Lane {
    /// A session with a good token begins: what it wants back is asked for first, if it wants something.
    pub(super) fn begin_lasting(
        &mut self,
        now: Now,
        key: SessionKey,
        continuation: Option<Box<Continuation>>,
        out: &mut Vec<Effect>,
    ) {
        let found = self.session(key).and_then(|session| self.profile_of(session));
        let Some(profile) = found.filter(|profile| profile.resumes) else {
            return self.begin_session(now, key, None, out);
        };
        let secret = Secret((self.secrets)());
        let mut lasting = Lasting::new(secret);
        lasting.hands_over = continuation.as_ref().is_some_and(|it| it.hands_over);
        lasting.records_first = profile.resumes_unasked && continuation.is_none();
        let wish = match &continuation {
            Some(continuation) => continuation.resume.map(Wish::Token),
            None => profile.resumes_unasked.then_some(Wish::OnlyDetached),
        };
        let covered = continuation.map_or(Vec::new(), |it| it.covered);
        let window_ms = self.limits.resume_window_ms;
        let Some(session) = self.session_mut(key) else { return };
        session.lasting = Some(Box::new(lasting));
        let Some(wish) = wish else { return self.begin_new(now, key, covered, out) };
        session.phase = Phase::Attaching;
        let user: Box<str> = session.who.as_ref().map_or("".into(), |who| who.user_key().into());
        let attaching = Attaching { user: user.clone(), wish, secret, covered, late: None };
        self.attaching.insert(key, attaching);
        self.alarms.set_behind(now.mono_ms.saturating_add(ATTACH_MS), Alarm::Attach(key));
        let lane = self.id;
        let attach = HubMessage::Attach { lane, session: key, user, wish, secret, window_ms };
        out.push(Effect::Hub(attach));
        self.rearm(now, key);
    }

    /// A wish has waited for long: its session begins anew. What comes late is let go.
    pub(super) fn end_late_attach(&mut self, now: Now, key: SessionKey, out: &mut Vec<Effect>) {
        let Some(attaching) = self.attaching.get_mut(&key) else { return };
        if attaching.late.replace(SessionState::Detached).is_some() {
            self.attaching.remove(&key);
            return;
        }
        self.alarms.set_behind(now.mono_ms.saturating_add(LATE_MS), Alarm::Attach(key));
        let (wish, covered) = (attaching.wish, std::mem::take(&mut attaching.covered));
        self.begin_anew(now, key, (wish, Unattached::Unavailable), covered, out);
    }

    /// The session of a wish ends before it is answered.
    pub(super) fn give_up_wish(&mut self, key: SessionKey, state: SessionState) {
        if let Some(attaching) = self.attaching.get_mut(&key) {
            attaching.late.get_or_insert(state);
        }
    }

    /// A wish is answered.
    pub(super) fn attached(
        &mut self,
        now: Now,
        key: SessionKey,
        outcome: Result<Box<AttachedSession>, Unattached>,
        out: &mut Vec<Effect>,
    ) {
        let Some(attaching) = self.attaching.remove(&key) else { return };
        match (outcome, attaching.late) {
            (Ok(attached), None) => self.take_over(now, key, *attached, attaching.covered, out),
            (Ok(attached), Some(state)) => self.let_late_go(*attached, attaching, state, out),
            (Err(why), None) => {
                self.begin_anew(now, key, (attaching.wish, why), attaching.covered, out);
            }
            (Err(_), Some(_)) => {}
        }
    }

    /// Nobody is there for the session that was taken over: it can be had again.
    fn let_late_go(
        &mut self,
        attached: AttachedSession,
        attaching: Attaching,
        state: SessionState,
        out: &mut Vec<Effect>,
    ) {
        let AttachedSession { session, generation, record, .. } = attached;
        let save = Box::new(SaveSession {
            user: attaching.user,
            session,
            generation,
            state,
            secret: attaching.secret,
            turn: None,
            confirmed: false,
            record: (state == SessionState::Detached).then_some(record),
            window_ms: self.limits.resume_window_ms,
            obeyed: self.turns.obeyed,
        });
        self.write_record(None, save, out);
    }

    /// There is nothing to get back.
    fn begin_anew(
        &mut self,
        now: Now,
        key: SessionKey,
        (wish, why): (Wish, Unattached),
        covered: Covered,
        out: &mut Vec<Effect>,
    ) {
        add_one(&mut self.counters.unresumed, why as usize);
        let max = self.limits.connections_per_user;
        let Some(session) = self.session_mut(key) else { return };
        // It had a place on the promise that it would take another one's.
        if session.place.as_ref().is_some_and(|place| !place.fits(max)) {
            return self.end_one_too_many(key, None, out);
        }
        if matches!(wish, Wish::Token(_))
            && let Some(lasting) = &mut session.lasting
        {
            lasting.moment().resumed = Some(Err(why));
        }
        self.begin_new(now, key, covered, out);
    }

    /// The session is a new one: it gets nothing back, but what its client has covered of the rooms that it is put into
    /// shows what is missing of them.
    fn begin_new(&mut self, now: Now, key: SessionKey, covered: Covered, out: &mut Vec<Effect>) {
        let Some(session) = self.session(key) else { return };
        let Some(who) = session.who.as_deref() else { return };
        let own_rooms = self.profile_of(session).is_some_and(|profile| profile.joins_own_rooms);
        let named = covered.iter().filter_map(|(name, _)| RoomName::parse(name).ok());
        let is_put_in = |room: &RoomName| {
            own_rooms && is_own(who, session.id, room) && self.guard.rule(room).is_some()
        };
        let own: Vec<_> = named
            .filter(is_put_in)
            .map(|room| RoomRecord { room, safe: None, unacked: None })
            .collect();
        let from = SessionRecord { own, ..SessionRecord::default() };
        let from = (!from.own.is_empty()).then_some((from, covered));
        self.begin_session(now, key, from, out);
    }

    /// The session goes on as another one.
    fn take_over(
        &mut self,
        now: Now,
        key: SessionKey,
        attached: AttachedSession,
        covered: Covered,
        out: &mut Vec<Effect>,
    ) {
        let AttachedSession { session: id, generation, record, former } = attached;
        let mono_ms = self.turns.last_ms();
        let max = self.limits.connections_per_user;
        let Some(session) = self.session_mut(key) else { return };
        session.id = id;
        // Ids of publications are made of the session's and a count, and must not come twice.
        session.ids_made = (generation.saturating_sub(1) & u64::from(u32::MAX)) << 32;
        let Some(lasting) = session.lasting.as_deref_mut() else { return };
        lasting.generation = generation;
        lasting.recorded = true;
        lasting.unproven = true;
        lasting.saved_ms = mono_ms;
        lasting.moment().resumed = Some(Ok(()));
        match former {
            Former::Gone => {
                if session.place.as_ref().is_some_and(|place| !place.fits(max)) {
                    return self.end_one_too_many(key, None, out);
                }
            }
            Former::Attached(node) => {
                let fence = HubMessage::Fence { session: id, generation, node, moved: false };
                out.push(Effect::Hub(fence));
            }
            Former::HandedOver(node) => {
                lasting.moment().handed_from = Some(node);
                self.counters.hand_overs += 1;
            }
        }
        self.counters.resumed += 1;
        self.alarms.set_behind(now.mono_ms.saturating_add(RESTORE_MS), Alarm::Welcome(key));
        self.begin_session(now, key, Some((record, covered)), out);
    }

    /// Reserves places in the rooms of a record.
    pub(super) fn restore(
        &mut self,
        key: SessionKey,
        (record, covered): (SessionRecord, Covered),
        out: &mut Vec<Effect>,
    ) {
        let covered: BTreeMap<&str, Position> =
            covered.iter().map(|(room, at)| (&**room, *at)).collect();
        for kept in record.own.into_iter().chain(record.rooms) {
            let is_in = self.membership_of(key, &kept.room).is_some();
            if !is_in && !self.restore_room(key, &kept.room, out) {
                continue;
            }
            let Some(index) = self.membership_of(key, &kept.room) else { continue };
            let keeps = self.rooms.get(index as usize).is_some_and(|room| room.stream.is_some());
            let said = covered.get(kept.room.as_str()).copied();
            if let (Some(said), Some(safe)) = (said, kept.safe)
                && said.epoch == safe.epoch
                && said.offset > safe.offset
            {
                // No ping was answered behind that; its client says itself that it has arrived.
                self.mark_arrived(index, key, said, out);
            }
            let since = said.or(kept.safe);
            let since = since.filter(|_| keeps);
            let Some(lasting) = self.lasting_mut(key) else { return };
            if let Some(since) = since {
                lasting.set_safe(index, since);
            }
            let plain_own = is_in && since.is_none();
            if !plain_own && lasting.restored(index).is_none() {
                let unacked = kept.unacked.filter(|_| since.is_some() && since == said);
                let named = said.is_some();
                lasting.moment().restored.push(Restored { room: index, since, unacked, named });
            }
        }
    }

    /// Reserves a place in a room from before, if the session may still be in it.
    fn restore_room(&mut self, key: SessionKey, name: &RoomName, out: &mut Vec<Effect>) -> bool {
        let Some(session) = self.session(key) else { return false };
        let Some(who) = session.who.as_deref() else { return false };
        let rule = self.guard.rule(name).filter(|rule| self.guard.may_join(*rule, name, who));
        let max = self.limits.rooms_max;
        let refused = match rule {
            None => Refused::new(Refusal::PermissionDenied),
            Some(_) if session.rooms.len() >= max => {
                Refused::limit(Refusal::Limit, LimitName::RoomsPerSession, max as u64, None)
            }
            Some(rule) => {
                let live = self.reserve(key, name, rule, out);
                if let Some(session) = self.session_mut(key)
                    && let Phase::Joining(asleep) = &mut session.phase
                {
                    *asleep += u16::from(!live);
                }
                return true;
            }
        };
        if let Some(lasting) = self.lasting_mut(key) {
            lasting.moment().refused.push((name.clone(), refused));
        }
        false
    }

    fn membership_of(&self, key: SessionKey, name: &RoomName) -> Option<u32> {
        let index = self.names.get(name).copied()?;
        let rooms = &self.session(key)?.rooms;
        rooms.iter().any(|entry| entry.room == index).then_some(index)
    }

    /// The welcome has waited long enough for rooms that are not live.
    pub(super) fn end_late_welcome(&mut self, now: Now, key: SessionKey, out: &mut Vec<Effect>) {
        let Some(session) = self.session_mut(key) else { return };
        let Phase::Joining(asleep) = &mut session.phase else { return };
        *asleep = 0;
        for index in session.rooms.iter().map(|entry| entry.room).collect::<Vec<_>>() {
            let Some(room) = self.rooms.get_mut(index as usize).filter(|room| !room.live) else {
                continue;
            };
            room.waiting().iter_mut().filter(|it| it.key == key).for_each(|it| it.told = true);
        }
        self.try_ready(now, key, out);
    }

    /// How the session is offered to be resumed, and what became of its wish to be.
    pub(super) fn terms_of(
        &mut self,
        key: SessionKey,
    ) -> (Option<ResumeOffer>, Option<Result<(), Unattached>>) {
        let window_ms = self.limits.resume_window_ms;
        let Some(session) = self.session_mut(key) else { return (None, None) };
        let id = session.id;
        let Some(lasting) = session.lasting.as_deref_mut() else { return (None, None) };
        let token = ResumeToken { session: id, secret: lasting.secret };
        let resumed = lasting.moment.as_mut().and_then(|moment| moment.resumed.take());
        lasting.tidy();
        (Some(ResumeOffer { token, window_ms }), resumed)
    }

    /// The session is welcomed: it enters its rooms from before, is told which it does not get back, and its record is
    /// written.
    pub(super) fn go_on_lasting(&mut self, now: Now, key: SessionKey, out: &mut Vec<Effect>) {
        let Some(lasting) = self.lasting_mut(key) else { return };
        let proves = lasting.unproven;
        let (mut restored, mut refused) = (Vec::new(), Vec::new());
        if let Some(moment) = &mut lasting.moment {
            restored.extend(moment.restored.iter().map(|held| held.room));
            refused.append(&mut moment.refused);
            lasting.tidy();
        }
        for index in restored {
            if self.rooms.get(index as usize).is_some_and(|room| room.live) {
                self.enter_reserved(now, index, key, out);
            }
        }
        for (name, why) in refused {
            let reply = ReplyTo { room: Some(name.as_str().into()), ..ReplyTo::default() };
            self.refuse(key, &reply, &why, out);
        }
        self.save(key, What::Record, out);
        if proves {
            self.ping(now, key, out);
        }
    }

    /// Takes the place that a session was reserved in a room that is live: as it asks for where it was in it before.
    pub(super) fn enter_reserved(
        &mut self,
        now: Now,
        index: u32,
        key: SessionKey,
        out: &mut Vec<Effect>,
    ) {
        let restored = self.lasting_mut(key).and_then(|lasting| lasting.take_restored(index));
        match (restored, self.name_of(index)) {
            (Some(Restored { since, unacked, named, .. }), Some(name)) => {
                let ask = Ask { reply: self.unasked(key, &name, named), since, unacked };
                if since.is_none() && self.position(index).is_some() {
                    // It was not live before: from now on its record says from where on it is heard.
                    self.enter_recorded(now, key, index, ask, out);
                } else {
                    self.enter_live(now, key, index, ask, out);
                }
            }
            (None, _) | (_, None) => {
                self.tell_present(index, key, out);
                if !self.enters_inbox(index, key, out) {
                    self.add_member(index, key);
                    self.tell_own_position(index, key, out);
                }
            }
        }
    }

    /// What an answer says that is about a room from before: that room, unless it is one of the session's own, which
    /// nobody `named`.
    fn unasked(&self, key: SessionKey, name: &RoomName, named: bool) -> ReplyTo {
        let own = self.session(key).is_some_and(|session| {
            session.who.as_deref().is_some_and(|who| is_own(who, session.id, name))
        });
        ReplyTo { room: (named || !own).then(|| name.as_str().into()), ..ReplyTo::default() }
    }

    /// Whether the session was in the room before and has yet to enter it.
    pub(super) fn is_restored(&self, index: u32, key: SessionKey) -> bool {
        let lasting = self.session(key).and_then(|session| session.lasting.as_deref());
        lasting.is_some_and(|lasting| lasting.restored(index).is_some())
    }

    /// The session's client sent something after it was welcomed: it has its secret, and needs its former connection
    /// no more.
    pub(super) fn prove(&mut self, key: SessionKey, out: &mut Vec<Effect>) {
        let Some(session) = self.session_mut(key) else { return };
        if session.phase != Phase::Ready {
            return;
        }
        let id = session.id;
        let Some(lasting) = session.lasting.as_deref_mut().filter(|it| it.unproven) else { return };
        lasting.unproven = false;
        let generation = lasting.generation;
        let former = lasting.moment.as_mut().and_then(|moment| moment.handed_from.take());
        lasting.tidy();
        self.save(key, What::Record, out);
        if let Some(node) = former {
            let fence = HubMessage::Fence { session: id, generation, node, moved: true };
            out.push(Effect::Hub(fence));
        }
        self.tell_connected(key, out);
    }

    /// The same by a command, unless it came along with the token.
    pub(super) fn prove_by_command(&mut self, key: SessionKey, out: &mut Vec<Effect>) {
        let Some(lasting) = self.lasting_mut(key).filter(|it| it.unproven) else { return };
        if let Some(moment) = lasting.moment.as_mut().filter(|moment| moment.early > 0) {
            moment.early -= 1;
            return lasting.tidy();
        }
        self.prove(key, out);
    }

    /// Commands that came along with the token are about to be run.
    pub(super) fn note_early(&mut self, key: SessionKey, count: usize) {
        if count > 0
            && let Some(lasting) = self.lasting_mut(key).filter(|it| it.unproven)
        {
            lasting.moment().early = count;
        }
    }

    /// Enters a live room; where the session's client could not join again by itself, once the record has the room, and
    /// from where on it is heard.
    pub(super) fn record_and_enter(
        &mut self,
        now: Now,
        key: SessionKey,
        index: u32,
        ask: Ask,
        out: &mut Vec<Effect>,
    ) {
        if self.lasting_mut(key).is_some_and(|it| it.records_first) {
            self.enter_recorded(now, key, index, ask, out);
        } else {
            self.enter_live(now, key, index, ask, out);
        }
    }

    fn enter_recorded(
        &mut self,
        now: Now,
        key: SessionKey,
        index: u32,
        ask: Ask,
        out: &mut Vec<Effect>,
    ) {
        let is_in = self.is_member(index, key) || self.catching.contains_key(&(index, key.index));
        let at = ask.since.or(self.position(index));
        let records = |it: &&mut Lasting| it.recorded && !it.fenced && !is_in;
        let Some(lasting) = self.lasting_mut(key).filter(records) else {
            return self.enter_live(now, key, index, ask, out);
        };
        let idle = lasting.under_way == 0;
        let joins = &mut lasting.moment().joins;
        if joins.len() >= JOINS_MAX {
            let waits = joins.iter().any(|(held, _)| *held == index);
            lasting.tidy();
            if !waits {
                self.leave_room(index, key, out);
                self.drop_if_unused(index, out);
            }
            let refused = Refused::unavailable("Too many joins at once".into(), 1_000);
            return self.refuse(key, &ask.reply, &refused, out);
        }
        joins.push((index, ask));
        if let Some(at) = at {
            lasting.set_safe(index, at);
        }
        if let Some(session) = self.session_mut(key)
            && !session.rooms.iter().any(|entry| entry.room == index)
        {
            session.rooms.push(Membership { room: index, place: Membership::WAITING });
        }
        if let Some(room) = self.rooms.get_mut(index as usize) {
            room.entering += 1;
        }
        if idle {
            self.save(key, What::Record, out);
        }
    }

    /// All writes of the record are answered: joins that it has are made; the others are written.
    pub(super) fn join_recorded(&mut self, now: Now, key: SessionKey, out: &mut Vec<Effect>) {
        let Some(lasting) = self.lasting_mut(key) else { return };
        let Some(moment) = &mut lasting.moment else { return };
        let count = std::mem::take(&mut moment.joins_written).min(moment.joins.len());
        let joins: Vec<_> = moment.joins.drain(..count).collect();
        let more = !moment.joins.is_empty();
        lasting.tidy();
        for (index, ask) in joins {
            if let Some(room) = self.rooms.get_mut(index as usize) {
                room.entering -= 1;
            }
            self.enter_live(now, key, index, ask, out);
        }
        if more {
            self.save(key, What::Record, out);
        }
        self.run_behind(now, key, out);
    }

    /// Takes back the session's joins of the room that wait for the record.
    pub(super) fn withdraw_unrecorded(&mut self, index: u32, key: SessionKey) -> Vec<Ask> {
        let joins = self.lasting_mut(key).map_or(Vec::new(), |lasting| lasting.take_joins(index));
        if let Some(room) = self.rooms.get_mut(index as usize) {
            room.entering -= u32::try_from(joins.len()).unwrap_or(u32::MAX);
        }
        joins
    }

    pub(super) fn profile_of(&self, session: &Session) -> Option<&'static Profile> {
        let format = self.formats.get(usize::from(session.format))?;
        Some(format.dialect.profile())
    }
}
