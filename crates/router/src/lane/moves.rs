//! Sessions that a back-end takes out of a room, or puts into one: by the rules that hold for a command of the client.

use roomcast_protocol::codes::Close;
use roomcast_protocol::command::ReplyTo;
use roomcast_protocol::conversation;
use roomcast_protocol::ids::{SessionId, SessionKey};
use roomcast_protocol::outbound::Outbound;
use roomcast_protocol::room::RoomName;
use roomcast_protocol::time::Now;

use super::Lane;
use super::joins::Ask;
use super::membership::is_own;
use super::orders::is_called;
use crate::messages::Effect;
use crate::orders::{Outcome, REFUSED_NAMED_MAX, Whom};
use crate::session::Phase;

impl Lane {
    /// Takes sessions out of a room; their clients are told. Nobody leaves one's own rooms.
    pub(super) fn order_out(
        &mut self,
        room: &RoomName,
        whom: &Whom,
        out: &mut Vec<Effect>,
    ) -> Outcome {
        let mut outcome = Outcome::default();
        let Some(index) = self.names.get(room).copied() else { return outcome };
        for key in self.keys_of_whom(whom) {
            let Some(session) = self.session(key) else { continue };
            let Some(who) = session.who.as_deref() else { continue };
            if !session.rooms.iter().any(|entry| entry.room == index) {
                continue;
            }
            if is_own(who, session.id, room) {
                refuse(&mut outcome, session.id);
                continue;
            }
            if session.phase != Phase::Ready && conversation::group_of(room).is_some() {
                // It has yet to be in the room: it comes back, and asks again.
                self.close(key, Close::GapTooOld, out);
                outcome.sessions += 1;
                continue;
            }
            #[cfg(feature = "planted")]
            if self.planted == Some(crate::planted::Planted::MemberStays)
                && conversation::group_of(room).is_some()
            {
                continue;
            }
            self.put_out(index, key, out);
            let reply = ReplyTo::default();
            let left = Outbound::Left { reply: &reply, room: room.as_str(), ordered: true };
            self.send(key, &left, out);
            outcome.sessions += 1;
        }
        outcome
    }

    /// Puts sessions into a room as if their clients had asked, as far as their own rights and limits let them.
    pub(super) fn order_in(
        &mut self,
        now: Now,
        room: &RoomName,
        whom: &Whom,
        out: &mut Vec<Effect>,
    ) -> Outcome {
        let mut outcome = Outcome::default();
        let index = self.names.get(room).copied();
        for key in self.keys_of_whom(whom) {
            let Some(session) = self.session(key) else { continue };
            let Some(who) = session.who.as_deref() else { continue };
            if session.rooms.iter().any(|entry| Some(entry.room) == index) {
                outcome.sessions += 1; // it is there already
                continue;
            }
            let rule = self.guard.rule(room);
            let allowed = rule.filter(|rule| self.guard.may_join(*rule, room, who));
            let fits = session.rooms.len() < self.limits.rooms_max;
            match allowed.filter(|_| fits && session.phase == Phase::Ready) {
                Some(rule) => {
                    let reply = ReplyTo::default();
                    let ask = Ask { reply, since: None, unacked: None };
                    self.enter(now, key, room, rule, ask, out);
                    outcome.sessions += 1;
                }
                None => refuse(&mut outcome, session.id),
            }
        }
        outcome
    }

    /// The sessions that an order concerns.
    pub(super) fn keys_of_whom(&self, whom: &Whom) -> Vec<SessionKey> {
        self.keys_of(|session| match whom {
            Whom::User(user) => session.who.as_ref().is_some_and(|who| is_called(who, user)),
            Whom::Session(id) => session.who.is_some() && session.id == *id,
        })
    }
}

fn refuse(outcome: &mut Outcome, session: SessionId) {
    outcome.refused += 1;
    if outcome.named.len() < REFUSED_NAMED_MAX {
        outcome.named.push(session);
    }
}
