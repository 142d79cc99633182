//! What the hub and the shell's questions ask of a whole lane.

use roomcast_protocol::codes::Close;
use roomcast_protocol::guard::Principal;
use roomcast_protocol::ids::SessionKey;
use roomcast_protocol::outbound::{Loss, Outbound};
use roomcast_protocol::room::RoomName;
use roomcast_protocol::time::Now;

use super::Lane;
use super::rooms::Member;
use crate::messages::{Answer, Effect, HubMessage, MemberInfo, QueryId};
use crate::orders::{Order, Outcome, Whom};
use crate::session::{Phase, Session};

impl Lane {
    /// Publications of ephemeral rooms were lost: each session that may have missed one is told.
    pub(super) fn tell_of_gap(&mut self, loss: Loss, out: &mut Vec<Effect>) {
        let keeps_nothing =
            |index: u32| self.rooms.get(index as usize).is_some_and(|room| room.stream.is_none());
        let concerned = |session: &Session| {
            session.phase == Phase::Ready && session.rooms.iter().any(|it| keeps_nothing(it.room))
        };
        for key in self.keys_of(concerned) {
            self.counters.gaps += 1;
            self.send(key, &Outbound::Gap { room: None, loss }, out);
        }
    }

    /// Strict rooms are not served for now: their members are told.
    pub(super) fn tell_of_blindness(&mut self, out: &mut Vec<Effect>) {
        let is_strict = |index: u32| {
            let room = self.rooms.get(index as usize);
            room.is_some_and(|room| self.guard.policy(room.rule).strict)
        };
        let concerned = |session: &Session| {
            session.phase == Phase::Ready && session.rooms.iter().any(|it| is_strict(it.room))
        };
        for key in self.keys_of(concerned) {
            self.counters.gaps += 1;
            self.send(key, &Outbound::Gap { room: None, loss: Loss::Unavailable }, out);
        }
    }

    /// The broker went away, or is back: each session is told.
    pub(super) fn tell_of_isolation(&mut self, now: Now, isolated: bool, out: &mut Vec<Effect>) {
        self.isolated = isolated;
        for key in self.keys_of(|session: &Session| session.phase == Phase::Ready) {
            self.send(key, &Outbound::Degraded { isolated }, out);
        }
        if isolated {
            self.make_joins_unrecorded(now, out);
        }
    }

    pub(super) fn answer_members(
        &mut self,
        query: QueryId,
        room: &RoomName,
        out: &mut Vec<Effect>,
    ) {
        let found = self.names.get(room).and_then(|index| self.rooms.get(*index as usize));
        let members = found.map_or(&[][..], |room| &room.members[..]);
        let info = |member: &Member| {
            let session = self.sessions.get(member.session as usize)?;
            let user = session.who.as_ref()?.user_key().into();
            Some(MemberInfo { user, session: session.id })
        };
        let members = members.iter().filter_map(info).collect();
        out.push(Effect::Answer(query, Answer::Members(members)));
    }

    /// Carries an order out, and tells the hub.
    pub(super) fn carry_out(
        &mut self,
        now: Now,
        ticket: u64,
        order: &Order,
        out: &mut Vec<Effect>,
    ) {
        let outcome = match order {
            Order::End(whom) => self.disconnect(whom, out),
            Order::Revoke(revocation) => self.revoke(now, revocation, out),
            Order::Leave(room, whom) => self.order_out(room, whom, out),
            Order::Enter(room, whom) => self.order_in(now, room, whom, out),
            Order::Admit(user, membership) => self.order_member(now, user, membership, out),
        };
        out.push(Effect::Hub(HubMessage::CarriedOut { lane: self.id, ticket, outcome }));
    }

    fn disconnect(&mut self, whom: &Whom, out: &mut Vec<Effect>) -> Outcome {
        if let Whom::User(user) = whom {
            self.end_records_put_off(user);
        }
        let keys = self.keys_of_whom(whom);
        for key in &keys {
            self.close(*key, Close::Disconnected, out);
        }
        Outcome::of(keys.len() as u64)
    }

    /// Orders were lost: all sessions end, and prove themselves anew once tokens can be judged.
    pub(super) fn revalidate(&mut self, out: &mut Vec<Effect>) {
        self.doubt_revoked();
        self.end_all(Close::GapTooOld, out);
    }

    /// The node stops: what waits is served, then all sessions end.
    pub(super) fn stop(&mut self, out: &mut Vec<Effect>) {
        while self.serve(usize::MAX, out) {}
        self.end_all(Close::Stopping, out);
        self.write_put_off(out);
    }

    /// Ends all sessions.
    pub(super) fn end_all(&mut self, close: Close, out: &mut Vec<Effect>) {
        for key in self.keys_of(|_| true) {
            self.close(key, close, out);
        }
    }

    pub(super) fn keys_of(&self, concerned: impl Fn(&Session) -> bool) -> Vec<SessionKey> {
        let sessions = self.sessions.iter().map(|(_, session)| session);
        sessions.filter(|session| concerned(session)).map(|session| session.key).collect()
    }
}

/// Whether that is the user's name within the cluster.
pub(super) fn is_called(who: &Principal, name: &str) -> bool {
    if who.realm.is_empty() {
        return *who.id == *name;
    }
    name.strip_prefix(&*who.realm).and_then(|rest| rest.strip_prefix(':')) == Some(&*who.id)
}
