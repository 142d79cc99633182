//! Requests that name several rooms: all are joined, or left, or none, and there is one answer. While one is under way
//! what its session sends waits behind it, so a session has one at a time. Each room is entered like any other; what
//! would be the answer for it alone is counted here.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use roomcast_protocol::codes::{Refusal, Refused};
use roomcast_protocol::command::{ReplyTo, RoomsRequest, RoomsVerb};
use roomcast_protocol::guard::RuleIndex;
use roomcast_protocol::ids::SessionKey;
use roomcast_protocol::limits::LimitName;
use roomcast_protocol::outbound::{Entry, Outbound};
use roomcast_protocol::room::RoomName;
use roomcast_protocol::time::Now;

use super::Lane;
use super::rooms::{Ask, Room};
use crate::happenings::Right;
use crate::messages::Effect;

/// Requests under way.
#[derive(Debug, Default)]
pub(super) struct Groups {
    open: BTreeMap<SessionKey, Group>,
    /// Requests to join of which a back-end has not said yet whether they may be made.
    asked: BTreeMap<SessionKey, Arc<RoomsRequest>>,
    /// Sessions whose request can be answered once the lane's turn has done all else.
    due: Vec<SessionKey>,
}

/// A request to join that waits for its rooms.
#[derive(Debug)]
struct Group {
    request: RoomsRequest,
    /// Rooms that are not heard yet.
    waiting: BTreeSet<RoomName>,
    /// Rooms that the session was not in before.
    entered: Vec<RoomName>,
    refused: Option<Refused>,
}

impl Groups {
    /// Whether the session has one under way.
    pub(super) fn has(&self, key: SessionKey) -> bool {
        self.open.contains_key(&key) || self.asked.contains_key(&key)
    }

    /// Whether the session has one under way in which the room is.
    pub(super) fn has_room(&self, key: SessionKey, name: &RoomName) -> bool {
        let names = |group: &Group| group.waiting.contains(name) || group.entered.contains(name);
        self.open.get(&key).is_some_and(names)
    }

    pub(super) fn forget(&mut self, key: SessionKey) {
        self.open.remove(&key);
        self.asked.remove(&key);
    }

    /// A back-end is asked first.
    pub(super) fn ask(&mut self, key: SessionKey, request: Arc<RoomsRequest>) {
        self.asked.insert(key, request);
    }

    /// It has answered.
    pub(super) fn answered(&mut self, key: SessionKey) -> Option<Arc<RoomsRequest>> {
        self.asked.remove(&key)
    }

    /// A room is heard. What is told of it later means nothing here.
    fn joined(&mut self, key: SessionKey, name: &RoomName) {
        let Some(group) = self.open.get_mut(&key) else { return };
        if group.waiting.remove(name) && group.waiting.is_empty() {
            self.due.push(key);
        }
    }

    /// A room cannot be heard. The first reason counts.
    pub(super) fn refused(&mut self, key: SessionKey, refused: &Refused) {
        let Some(group) = self.open.get_mut(&key) else { return };
        group.refused.get_or_insert_with(|| refused.clone());
        self.due.push(key);
    }

    /// Keys of sessions with requests under way.
    #[cfg(test)]
    pub(super) fn keys(&self) -> impl Iterator<Item = SessionKey> {
        assert!(self.due.is_empty(), "what is due was answered in its turn");
        self.open.keys().chain(self.asked.keys()).copied()
    }
}

/// Why not, and the room to which the session has no right, if it was that.
pub(super) type Denied = (Refused, Option<RoomName>);

impl Lane {
    /// Joins, or leaves, several rooms; counts as one message.
    pub(super) fn several_rooms(
        &mut self,
        now: Now,
        key: SessionKey,
        request: RoomsRequest,
        out: &mut Vec<Effect>,
    ) {
        match self.over_messages(now, key) {
            None => self.take_rooms(now, key, request, out),
            Some(refused) => self.refuse_rooms(key, &request, &refused, out),
        }
    }

    fn take_rooms(
        &mut self,
        now: Now,
        key: SessionKey,
        request: RoomsRequest,
        out: &mut Vec<Effect>,
    ) {
        match request.verb {
            RoomsVerb::Join => match self.admitted(key, &request) {
                Ok(_) if self.joins_by_call(key) => self.ask_permission(key, request, out),
                Ok(rooms) => self.join_rooms(now, key, request, rooms, out),
                Err(denied) => self.refuse_joins(key, &request, denied, out),
            },
            RoomsVerb::Leave => match names(&request) {
                Ok(names) => {
                    for name in names {
                        self.leave_named(key, &name, out);
                    }
                    self.send(key, &Outbound::Rooms { request: &request, refused: None }, out);
                }
                Err(refused) => self.refuse_rooms(key, &request, &refused, out),
            },
        }
    }

    /// Tells that nothing was joined, and to which room the session has no right.
    pub(super) fn refuse_joins(
        &mut self,
        key: SessionKey,
        request: &RoomsRequest,
        (refused, forbidden): Denied,
        out: &mut Vec<Effect>,
    ) {
        if let Some(room) = forbidden {
            self.note_denial(key, (Right::Join, &room), out);
        }
        self.refuse_rooms(key, request, &refused, out);
    }

    /// Each room with its rule, if the session may be in all of them.
    pub(super) fn admitted(
        &self,
        key: SessionKey,
        request: &RoomsRequest,
    ) -> Result<Vec<(RoomName, RuleIndex)>, Denied> {
        let names = names(request).map_err(|refused| (refused, None))?;
        let mut count = self.session(key).map_or(0, |session| session.rooms.len());
        let mut rooms = Vec::with_capacity(names.len());
        for name in names {
            let is_in = self.has_place(key, &name);
            count += usize::from(!is_in);
            if !is_in && count > self.limits.rooms_max {
                let max = self.limits.rooms_max as u64;
                let limit = LimitName::RoomsPerSession;
                return Err((Refused::limit(Refusal::Limit, limit, max, None), None));
            }
            match self.joinable(key, &name, is_in) {
                Some(rule) => rooms.push((name, rule)),
                None => return Err((Refusal::PermissionDenied.into(), Some(name))),
            }
        }
        Ok(rooms)
    }

    pub(super) fn join_rooms(
        &mut self,
        now: Now,
        key: SessionKey,
        request: RoomsRequest,
        mut rooms: Vec<(RoomName, RuleIndex)>,
        out: &mut Vec<Effect>,
    ) {
        let is_new = |name: &RoomName| !self.has_place(key, name);
        let names = rooms.iter().map(|(name, _)| name);
        let entered: Vec<_> = names.filter(|name| is_new(name)).cloned().collect();
        rooms.retain(|(name, _)| is_new(name) || !self.is_live(name));
        let waiting: BTreeSet<_> = rooms.iter().map(|(name, _)| name.clone()).collect();
        if waiting.is_empty() {
            return self.send(key, &Outbound::Rooms { request: &request, refused: None }, out);
        }
        let group = Group { request, waiting, entered, refused: None };
        self.groups.open.insert(key, group);
        for (name, rule) in rooms {
            let reply = ReplyTo { id: None, room: Some(name.as_str().into()), part: true };
            self.enter(now, key, &name, rule, Ask { reply, since: None, unacked: None }, out);
        }
    }

    /// Whether the session is in the room, or on its way into it.
    pub(super) fn has_place(&self, key: SessionKey, name: &RoomName) -> bool {
        let Some(index) = self.names.get(name).copied() else { return false };
        self.session(key).is_some_and(|it| it.rooms.iter().any(|entry| entry.room == index))
    }

    fn is_live(&self, name: &RoomName) -> bool {
        let room = self.names.get(name).and_then(|index| self.rooms.get(*index as usize));
        room.is_some_and(|room: &Room| room.live)
    }

    /// Tells that the session hears the room, or counts it where several are answered together.
    pub(super) fn tell_joined(
        &mut self,
        key: SessionKey,
        (reply, name): (&ReplyTo, &RoomName),
        entry: Entry,
        out: &mut Vec<Effect>,
    ) {
        if reply.part {
            return self.groups.joined(key, name);
        }
        self.send(key, &Outbound::Joined { reply, room: name.as_str(), entry }, out);
    }

    /// The lane's turn has done all else: answers what waits for nothing more, and runs what waited behind it.
    pub(super) fn answer_groups(&mut self, now: Now, out: &mut Vec<Effect>) {
        while !self.groups.due.is_empty() {
            for key in std::mem::take(&mut self.groups.due) {
                let Some(group) = self.groups.open.remove(&key) else { continue };
                let Group { request, entered, refused, .. } = group;
                match refused {
                    None => {
                        self.send(key, &Outbound::Rooms { request: &request, refused: None }, out)
                    }
                    Some(refused) => {
                        for name in entered {
                            self.leave_named(key, &name, out);
                        }
                        self.refuse_rooms(key, &request, &refused, out);
                    }
                }
                self.run_behind(now, key, out);
            }
        }
    }

    /// Tells that nothing of the request was done.
    pub(super) fn refuse_rooms(
        &mut self,
        key: SessionKey,
        request: &RoomsRequest,
        refused: &Refused,
        out: &mut Vec<Effect>,
    ) {
        self.note_refusal(key, refused, out);
        self.send(key, &Outbound::Rooms { request, refused: Some(refused) }, out);
    }
}

/// The same where a back-end said it: of its rooms, the first stands for all.
pub(super) fn denied_by_call(request: &RoomsRequest, refused: Refused) -> Denied {
    let denies = refused.refusal == Refusal::PermissionDenied;
    let first = names(request).ok().and_then(|names| names.into_iter().next());
    (refused, first.filter(|_| denies))
}

/// The rooms that are meant, each once.
fn names(request: &RoomsRequest) -> Result<Vec<RoomName>, Refused> {
    let mut seen = BTreeSet::new();
    let mut names = Vec::new();
    for room in request.rooms.as_ref().map_err(Clone::clone)? {
        let name = RoomName::parse(room)?;
        if seen.insert(name.clone()) {
            names.push(name);
        }
    }
    Ok(names)
}
