//! Joining and leaving: who is in which room of this lane, and when a room of the lane begins and ends.

use roomcast_protocol::command::ReplyTo;
use roomcast_protocol::guard::RuleIndex;
use roomcast_protocol::ids::SessionKey;
use roomcast_protocol::outbound::Outbound;
use roomcast_protocol::room::RoomName;

use super::rooms::{Member, Room, Waiting};
use super::{Lane, holds_in};
use crate::messages::{Effect, HubMessage};
use crate::session::{Membership, Phase};

impl Lane {
    /// Puts the session into the room, at once or when the room is live; says whether it was at once.
    pub(super) fn enter(
        &mut self,
        key: SessionKey,
        name: &RoomName,
        rule: RuleIndex,
        reply: Option<(ReplyTo, bool)>,
        out: &mut Vec<Effect>,
    ) -> bool {
        let index = match self.names.get(name) {
            Some(index) => *index,
            None => {
                let index = self.rooms.insert(Room::new(name.clone(), rule));
                let index = u32::try_from(index).unwrap_or(u32::MAX);
                self.names.insert(name.clone(), index);
                out.push(Effect::Hub(HubMessage::Join { lane: self.id, room: name.clone() }));
                index
            }
        };
        let Some(room) = self.rooms.get_mut(index as usize) else { return false };
        if room.live {
            self.add_member(index, key);
            self.answer_join(key, name, reply, out);
            return true;
        }
        room.waiting.push((key, Waiting::Join(reply)));
        if let Some(session) = self.session_mut(key)
            && !session.rooms.iter().any(|entry| entry.room == index)
        {
            session.rooms.push(Membership { room: index, place: Membership::WAITING });
        }
        false
    }

    fn answer_join(
        &mut self,
        key: SessionKey,
        name: &RoomName,
        reply: Option<(ReplyTo, bool)>,
        out: &mut Vec<Effect>,
    ) {
        if let Some((reply, since)) = reply {
            let joined = Outbound::Joined { reply: &reply, room: name.as_str(), since };
            self.send(key, &joined, out);
        }
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
        room.live = true;
        for (key, step) in std::mem::take(&mut room.waiting) {
            if self.session(key).is_none() {
                continue;
            }
            match step {
                Waiting::Join(reply) => {
                    let own = reply.is_none();
                    self.add_member(index, key);
                    self.answer_join(key, name, reply, out);
                    if own
                        && let Some(session) = self.session_mut(key)
                        && let Phase::Joining(count) = &mut session.phase
                    {
                        *count -= 1;
                        self.try_ready(key, out);
                    }
                }
                Waiting::Leave(reply) => {
                    self.leave_room(index, key, out);
                    self.send(key, &Outbound::Left { reply: &reply, room: name.as_str() }, out);
                }
            }
        }
        self.drop_if_empty(index, out);
    }

    /// Takes the session out of the room, giving it first what is still under way.
    pub(super) fn leave_room(&mut self, index: u32, key: SessionKey, out: &mut Vec<Effect>) {
        let Some(session) = self.session_mut(key) else { return };
        let Some(at) = session.rooms.iter().position(|entry| entry.room == index) else { return };
        let entry = session.rooms.swap_remove(at);
        if entry.place == Membership::WAITING {
            return;
        }
        self.memberships -= 1;
        let Some(room) = self.rooms.get_mut(index as usize) else { return };
        let mut moves = Vec::new();
        let moved = |member: Member, place| moves.push((member.session, place));
        room.remove(entry.place as usize, out, moved, holds_in(&self.sessions));
        for (session, place) in moves {
            let entries = self.sessions.get_mut(session as usize).map(|s| &mut s.rooms);
            if let Some(entry) =
                entries.and_then(|entries| entries.iter_mut().find(|entry| entry.room == index))
            {
                entry.place = place;
            }
        }
    }

    pub(super) fn drop_if_empty(&mut self, index: u32, out: &mut Vec<Effect>) {
        let empty = self
            .rooms
            .get(index as usize)
            .is_some_and(|room| room.live && room.members.is_empty() && room.waiting.is_empty());
        if empty {
            let room = self.rooms.remove(index as usize);
            self.names.remove(&room.name);
            if room.listed {
                self.busy.retain(|busy| *busy != index);
            }
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
