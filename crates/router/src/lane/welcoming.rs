//! How a session begins: its token is good, its own rooms and those from before become live, it is welcomed.

use std::sync::Arc;

use roomcast_protocol::command::{Command, Continuation};
use roomcast_protocol::guard::Principal;
use roomcast_protocol::ids::SessionKey;
use roomcast_protocol::outbound::Outbound;
use roomcast_protocol::position::Position;
use roomcast_protocol::room::RoomName;
use roomcast_protocol::session::SessionRecord;
use roomcast_protocol::time::Now;

use super::Lane;
use super::membership::own_rooms;
use super::revoked::REVOKED;
use crate::messages::Effect;
use crate::meter::Place;
use crate::session::Phase;

/// What a client says that it has covered of its rooms.
pub(super) type Covered = Vec<(Box<str>, Position)>;

impl Lane {
    /// The session's token is good.
    pub(super) fn become_known(
        &mut self,
        now: Now,
        key: SessionKey,
        (who, place, continuation): (Box<Principal>, Place, Option<Box<Continuation>>),
        out: &mut Vec<Effect>,
    ) {
        if self.is_revoked(&who, now) {
            // Since its token was checked.
            drop(place);
            return self.turn_away(key, &REVOKED, out);
        }
        let Some(session) = self.session_mut(key) else { return };
        session.who = Some(who);
        session.place = Some(place);
        session.heard_ms = now.mono_ms;
        session.phase = Phase::Joining(0);
        self.unauthenticated -= 1;
        self.listen_to(now, key);
        self.begin_lasting(now, key, continuation, out);
    }

    /// The session is put into its own rooms and those from before, and is ready once they are live.
    pub(super) fn begin_session(
        &mut self,
        now: Now,
        key: SessionKey,
        from: Option<(SessionRecord, Covered)>,
        out: &mut Vec<Effect>,
    ) {
        let Some(session) = self.session(key) else { return };
        let Some(who) = session.who.as_deref() else { return };
        let mut own: Vec<RoomName> = Vec::new();
        if self.profile_of(session).is_some_and(|profile| profile.joins_own_rooms) {
            own.extend(own_rooms(who, session.id).take(self.limits.rooms_max));
        }
        let guard = Arc::clone(&self.guard);
        let ruled = |name| guard.rule(&name).map(|rule| (name, rule));
        let mut asleep = 0;
        for (name, rule) in own.into_iter().filter_map(ruled) {
            asleep += u16::from(!self.reserve(key, &name, rule, out));
        }
        asleep += u16::from(self.ask_groups(key, out));
        if let Some(session) = self.session_mut(key) {
            session.phase = Phase::Joining(asleep);
        }
        if let Some(from) = from {
            self.restore(key, from, out);
        }
        self.rearm(now, key);
        self.try_ready(now, key, out);
    }

    /// Welcomes the session if all its own rooms are live, and runs what it sent along with its token.
    pub(super) fn try_ready(&mut self, now: Now, key: SessionKey, out: &mut Vec<Effect>) {
        let Some(session) = self.session_mut(key) else { return };
        if session.phase != Phase::Joining(0) {
            return;
        }
        session.phase = Phase::Ready;
        self.counters.ready += 1;
        self.take_reserved(key, out);
        let (resume, resumed) = self.terms_of(key);
        self.encode_for(key, out, |session| {
            let who = session.who.as_deref()?;
            Some(Outbound::Welcome { who, session: session.id, resume, resumed })
        });
        self.tell_own_positions(key, out);
        self.tell_all(key, true, out);
        self.go_on_lasting(now, key, out);
        if self.isolated {
            self.send(key, &Outbound::Degraded { isolated: true }, out);
        }
        // Who goes on from another connection is told of once it has proven itself.
        if self.lasting_mut(key).is_none_or(|lasting| !lasting.unproven) {
            self.tell_connected(key, out);
        }
        out.push(Effect::Ready { to: key.index });
    }

    /// What the session sent along with its token, to be run now that it is ready.
    pub fn take_early(&mut self, key: SessionKey) -> Vec<Command> {
        let early = self.early.remove(&key).unwrap_or_default();
        self.note_early(key, early.len());
        early
    }
}
