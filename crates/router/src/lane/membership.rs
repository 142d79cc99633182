//! Joining and leaving: who is in which room of this lane, and when a room of the lane begins and ends.
//!
//! A session enters the rooms it asks for when they are live, and its own rooms all at once with its welcome, so that
//! nothing is heard before it.

use bytes::Bytes;
use roomcast_protocol::codes::{Refusal, Refused};
use roomcast_protocol::command::ReplyTo;
use roomcast_protocol::guard::{Principal, RuleIndex};
use roomcast_protocol::ids::{SessionId, SessionKey};
use roomcast_protocol::outbound::{Entry, Outbound};
use roomcast_protocol::position::Unrecovered;
use roomcast_protocol::publication::Priority;
use roomcast_protocol::room::RoomName;

use super::rooms::{Member, Room, WAITING_MAX};
use super::{Lane, holds_in};
use crate::messages::{Effect, HubMessage};
use crate::session::{Membership, Phase, Session};

impl Lane {
    /// Puts a session that is ready into the room, at once or when the room is live, and answers then.
    pub(super) fn enter(
        &mut self,
        key: SessionKey,
        name: &RoomName,
        rule: RuleIndex,
        reply: (ReplyTo, bool),
        out: &mut Vec<Effect>,
    ) {
        let index = self.room_index(name, rule, out);
        let Some(room) = self.rooms.get_mut(index as usize) else { return };
        if room.live {
            self.add_member(index, key);
            return self.answer_join(key, name, &reply, out);
        }
        let Some(session) =
            self.sessions.get_mut(key.index as usize).filter(|session| session.key == key)
        else {
            return;
        };
        if !session.rooms.iter().any(|entry| entry.room == index) {
            session.rooms.push(Membership { room: index, place: Membership::WAITING });
        } else if room.waiting().len() >= WAITING_MAX {
            return self.refuse(key, &reply.0, &Refusal::Unavailable.into(), out);
        }
        room.waiting().push((key, Some(reply)));
    }

    /// Reserves a place in one of the session's own rooms, taken at its welcome; says whether the room is live.
    pub(super) fn reserve(
        &mut self,
        key: SessionKey,
        name: &RoomName,
        rule: RuleIndex,
        out: &mut Vec<Effect>,
    ) -> bool {
        let index = self.room_index(name, rule, out);
        let Some(room) = self.rooms.get_mut(index as usize) else { return false };
        room.entering += 1;
        if !room.live {
            room.waiting().push((key, None));
        }
        let live = room.live;
        if let Some(session) = self.session_mut(key) {
            if session.rooms.capacity() == 0 {
                session.rooms.reserve_exact(3);
            }
            session.rooms.push(Membership { room: index, place: Membership::WAITING });
        }
        live
    }

    /// The session is welcomed: it takes the places it reserved.
    pub(super) fn take_reserved(&mut self, key: SessionKey) {
        let Some(session) = self.session(key) else { return };
        let reserved: Vec<u32> = session.rooms.iter().map(|entry| entry.room).collect();
        for index in reserved {
            if let Some(room) = self.rooms.get_mut(index as usize) {
                room.entering -= 1;
            }
            self.add_member(index, key);
        }
    }

    /// The room's index; a new room asks the hub.
    fn room_index(&mut self, name: &RoomName, rule: RuleIndex, out: &mut Vec<Effect>) -> u32 {
        if let Some(index) = self.names.get(name) {
            return *index;
        }
        self.room_serial = self.room_serial.wrapping_add(1);
        let index = self.rooms.insert(Room::new(name.clone(), rule, self.room_serial));
        let index = u32::try_from(index).unwrap_or(u32::MAX);
        self.names.insert(name.clone(), index);
        out.push(Effect::Hub(HubMessage::Join { lane: self.id, room: name.clone() }));
        index
    }

    fn answer_join(
        &mut self,
        key: SessionKey,
        name: &RoomName,
        (reply, since): &(ReplyTo, bool),
        out: &mut Vec<Effect>,
    ) {
        let recovered = since.then_some(Err(Unrecovered::NoHistory));
        let entry = Entry { position: None, recovered, live: true };
        let joined = Outbound::Joined { reply, room: name.as_str(), entry };
        self.send(key, &joined, out);
    }

    /// Makes the session a member, unless it is one.
    fn add_member(&mut self, index: u32, key: SessionKey) {
        let Some(session) =
            self.sessions.get_mut(key.index as usize).filter(|session| session.key == key)
        else {
            return;
        };
        let Some(room) = self.rooms.get_mut(index as usize) else { return };
        let member = Member { session: key.index, format: session.format };
        match session.rooms.iter_mut().find(|entry| entry.room == index) {
            Some(entry) if entry.place == Membership::WAITING => entry.place = room.add(member),
            Some(_) => return,
            None => {
                if session.rooms.capacity() == 0 {
                    session.rooms.reserve_exact(3);
                }
                session.rooms.push(Membership { room: index, place: room.add(member) });
            }
        }
        self.memberships += 1;
    }

    /// The hub subscribed the lane: all who waited become members, in the order they came.
    pub(super) fn room_is_live(&mut self, name: &RoomName, out: &mut Vec<Effect>) {
        let Some(index) = self.names.get(name).copied() else { return };
        let Some(room) = self.rooms.get_mut(index as usize) else { return };
        if room.live {
            return;
        }
        for (key, reply) in room.begin() {
            let Some(session) = self.session_mut(key) else { continue };
            match (reply, &mut session.phase) {
                (Some(reply), Phase::Connecting | Phase::Joining(_) | Phase::Ready) => {
                    self.add_member(index, key);
                    self.answer_join(key, name, &reply, out);
                }
                (None, Phase::Joining(count)) => {
                    *count = count.saturating_sub(1);
                    self.try_ready(key, out);
                }
                (None, Phase::Connecting | Phase::Ready) => {}
            }
        }
        self.drop_if_unused(index, out);
    }

    /// A member leaves at its own wish. What waits for it goes before the answer; joins of it that still wait are
    /// answered first.
    pub(super) fn leave_and_answer(
        &mut self,
        key: SessionKey,
        name: &RoomName,
        reply: &ReplyTo,
        out: &mut Vec<Effect>,
    ) {
        if let Some(index) = self.names.get(name).copied() {
            for reply in self.withdraw(index, key) {
                self.answer_join(key, name, &reply, out);
            }
            self.leave_room(index, key, out);
            self.drop_if_unused(index, out);
        }
        self.send(key, &Outbound::Left { reply, room: name.as_str() }, out);
    }

    /// The session has lost the right to the room: it leaves, and is told in answer to each join that still waits,
    /// else unasked.
    pub(super) fn expel(&mut self, index: u32, key: SessionKey, out: &mut Vec<Effect>) {
        let Some(name) = self.rooms.get(index as usize).map(|room| room.name.clone()) else {
            return;
        };
        let withdrawn = self.withdraw(index, key);
        self.leave_room(index, key, out);
        self.drop_if_unused(index, out);
        let denied = Refused::new(Refusal::PermissionDenied);
        for (reply, _) in &withdrawn {
            self.refuse(key, reply, &denied, out);
        }
        if withdrawn.is_empty() {
            let reply = ReplyTo { id: None, room: Some(name.as_str().into()) };
            self.refuse(key, &reply, &denied, out);
        }
    }

    /// Takes back the session's joins that wait for the room to become live.
    fn withdraw(&mut self, index: u32, key: SessionKey) -> Vec<(ReplyTo, bool)> {
        let waits = |session: &Session| {
            let entry = session.rooms.iter().find(|entry| entry.room == index);
            entry.is_some_and(|entry| entry.place == Membership::WAITING)
        };
        let Some(room) = self.rooms.get_mut(index as usize) else { return Vec::new() };
        if !self.sessions.get(key.index as usize).is_some_and(waits) {
            return Vec::new();
        }
        let taken = room.waiting().extract_if(.., |(waiting, _)| *waiting == key);
        taken.filter_map(|(_, reply)| reply).collect()
    }

    /// Takes the session out of the room, giving it first what is still under way; a reply that follows in a higher
    /// class will not overtake that.
    pub(super) fn leave_room(&mut self, index: u32, key: SessionKey, out: &mut Vec<Effect>) {
        let Some(session) = self.session_mut(key) else { return };
        let Some(at) = session.rooms.iter().position(|entry| entry.room == index) else { return };
        let entry = session.rooms.swap_remove(at);
        let joining = session.phase != Phase::Ready;
        if entry.place != Membership::WAITING {
            self.memberships -= 1;
            self.take_out(index, entry.place, out);
        } else if joining && let Some(room) = self.rooms.get_mut(index as usize) {
            room.entering -= 1;
        }
        let overtaken = self.rooms.get(index as usize).is_some_and(Room::has_lower_classes);
        if entry.place != Membership::WAITING && overtaken {
            out.push(Effect::Send { to: key.index, frame: Bytes::new(), class: Priority::High });
        }
    }

    /// Takes the member at `place` out of the room's list.
    fn take_out(&mut self, index: u32, place: u32, out: &mut Vec<Effect>) {
        let Some(room) = self.rooms.get_mut(index as usize) else { return };
        let before = out.len();
        let mut moves = Vec::new();
        let moved = |member: Member, place| moves.push((member.session, place));
        room.remove(place as usize, out, moved, holds_in(&self.sessions));
        self.counters.deliveries += (out.len() - before) as u64;
        for (session, place) in moves {
            let entries = self.sessions.get_mut(session as usize).map(|s| &mut s.rooms);
            if let Some(entry) =
                entries.and_then(|entries| entries.iter_mut().find(|entry| entry.room == index))
            {
                entry.place = place;
            }
        }
    }

    /// Changes how the session's frames are written. What is under way goes out as it was written.
    pub(super) fn set_format(&mut self, key: SessionKey, format: u8, out: &mut Vec<Effect>) {
        let Some(session) = self.session_mut(key) else { return };
        session.format = format;
        let rooms: Vec<u32> = session.rooms.iter().map(|entry| entry.room).collect();
        for index in rooms {
            // Its place may have changed when it was taken out of another room's list: it is looked up each time.
            let find = |session: &Session| {
                session.rooms.iter().find(|entry| entry.room == index).map(|entry| entry.place)
            };
            let Some(place) = self.session(key).and_then(find) else { continue };
            if place == Membership::WAITING {
                continue;
            }
            self.take_out(index, place, out);
            let Some(room) = self.rooms.get_mut(index as usize) else { continue };
            let place = room.add(Member { session: key.index, format });
            if let Some(session) = self.session_mut(key)
                && let Some(entry) = session.rooms.iter_mut().find(|entry| entry.room == index)
            {
                entry.place = place;
            }
        }
    }

    pub(super) fn drop_if_unused(&mut self, index: u32, out: &mut Vec<Effect>) {
        if self.rooms.get(index as usize).is_some_and(Room::is_unused) {
            let room = self.rooms.remove(index as usize);
            self.names.remove(&room.name);
            self.backlog_bytes -= room.bytes();
            out.push(Effect::Hub(HubMessage::Leave { lane: self.id, room: room.name }));
            self.shrink();
        }
    }

    /// Gives memory back once most of it is unused.
    fn shrink(&mut self) {
        if self.names.capacity() > 4 * self.names.len() + 1_024 {
            self.names.shrink_to(2 * self.names.len());
            self.rooms.shrink_to_fit();
        }
    }
}

/// The rooms a session is put into at connect, each once. An id that makes no valid room name opens none.
pub(super) fn own_rooms(who: &Principal, session: SessionId) -> impl Iterator<Item = RoomName> {
    let user = std::iter::once(format!("user-{}", who.user_key()));
    let session = std::iter::once(format!("session-{session}"));
    let roles = who.roles.iter().map(|role| format!("role-{role}"));
    let teams = who.teams.iter().map(|team| format!("team-{team}"));
    let mut seen = std::collections::BTreeSet::new();
    let all = user.chain(session).chain(roles).chain(teams);
    all.filter_map(|name| RoomName::parse(&name).ok()).filter(move |name| seen.insert(name.clone()))
}

/// Whether the room is one of those that [`own_rooms`] names.
pub(super) fn is_own(who: &Principal, session: SessionId, room: &RoomName) -> bool {
    let name = room.as_str();
    let among = |kind: &str, held: &[Box<str>]| {
        name.strip_prefix(kind).is_some_and(|name| held.iter().any(|held| **held == *name))
    };
    name.strip_prefix("user-").is_some_and(|user| user == who.user_key())
        || name.strip_prefix("session-").is_some_and(|id| id == session.to_string())
        || among("role-", &who.roles)
        || among("team-", &who.teams)
}
