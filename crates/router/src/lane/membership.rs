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
use roomcast_protocol::position::{Position, Unrecovered};
use roomcast_protocol::room::RoomName;
use roomcast_protocol::texts::Texts;
use roomcast_protocol::time::Now;

use super::Lane;
use super::frames::Rest;
use super::rooms::{Ask, Member, Room, WAITING_MAX, Waiting};
use super::scribe::Scribe;
use super::stream::Stream;
use crate::messages::{Effect, HubMessage};
use crate::session::{Membership, Phase, Session};

impl Lane {
    /// Puts a session that is ready into the room, at once or when the room is live, and answers then.
    pub(super) fn enter(
        &mut self,
        now: Now,
        key: SessionKey,
        name: &RoomName,
        rule: RuleIndex,
        ask: Ask,
        out: &mut Vec<Effect>,
    ) {
        let index = self.room_index(name, rule, out);
        let Some(room) = self.rooms.get_mut(index as usize) else { return };
        if room.live {
            return self.record_and_enter(now, key, index, ask, out);
        }
        let Some(session) =
            self.sessions.get_mut(key.index as usize).filter(|session| session.key == key)
        else {
            return;
        };
        if !session.rooms.iter().any(|entry| entry.room == index) {
            session.rooms.push(Membership { room: index, place: Membership::WAITING });
        } else if room.waiting().len() >= WAITING_MAX {
            return self.refuse(key, &ask.reply, &Refusal::Unavailable.into(), out);
        }
        let told = room.is_away();
        let reply = told.then(|| ask.reply.clone());
        room.waiting().push(Waiting { key, ask: Some(ask), told });
        if let Some(reply) = reply {
            self.tell_away(key, name, &reply, out);
        }
    }

    pub(super) fn enter_live(
        &mut self,
        now: Now,
        key: SessionKey,
        index: u32,
        ask: Ask,
        out: &mut Vec<Effect>,
    ) {
        self.tell_present(index, key, out);
        if self.position(index).is_some() {
            return self.enter_stream(now, key, index, ask, out);
        }
        self.add_member(index, key);
        if let Some(name) = self.name_of(index) {
            self.answer_join(key, &name, (&ask, None), out);
        }
    }

    /// The broker is away: the position follows.
    fn tell_away(
        &mut self,
        key: SessionKey,
        name: &RoomName,
        reply: &ReplyTo,
        out: &mut Vec<Effect>,
    ) {
        let entry = Entry { position: None, recovered: None, live: false };
        self.tell_joined(key, (reply, name), entry, out);
    }

    /// Reserves a place in one of the session's own rooms, taken at its welcome; says whether the room is live, or
    /// cannot be waited for.
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
        let away = room.is_away();
        if !room.live {
            room.waiting().push(Waiting { key, ask: None, told: away });
        }
        let live = room.live || away;
        if let Some(session) = self.session_mut(key) {
            if session.rooms.capacity() == 0 {
                session.rooms.reserve_exact(3);
            }
            session.rooms.push(Membership { room: index, place: Membership::WAITING });
        }
        live
    }

    /// The session is welcomed: it takes the places it reserved in rooms that are live.
    pub(super) fn take_reserved(&mut self, key: SessionKey, out: &mut Vec<Effect>) {
        let Some(session) = self.session(key) else { return };
        let reserved: Vec<u32> = session.rooms.iter().map(|entry| entry.room).collect();
        for index in reserved {
            let Some(room) = self.rooms.get_mut(index as usize) else { continue };
            room.entering -= 1;
            if room.live && !self.is_restored(index, key) && !self.enters_inbox(index, key, out) {
                self.tell_skips(index);
                self.add_member(index, key);
            }
        }
    }

    /// The session is welcomed: it is told from where it hears its own rooms, where they keep publications.
    pub(super) fn tell_own_positions(&mut self, key: SessionKey, out: &mut Vec<Effect>) {
        let Some(session) = self.session(key) else { return };
        let rooms: Vec<u32> = session.rooms.iter().map(|entry| entry.room).collect();
        for index in rooms {
            if !self.is_restored(index, key) {
                self.tell_own_position(index, key, out);
            }
        }
    }

    pub(super) fn tell_own_position(&mut self, index: u32, key: SessionKey, out: &mut Vec<Effect>) {
        // One that catches up is answered by itself.
        if let Some(position) = self.position(index).filter(|_| self.is_member(index, key)) {
            self.answer_entry(index, key, &ReplyTo::default(), (position, None), out);
        }
    }

    /// The room's index; a new room asks the hub.
    pub(super) fn room_index(
        &mut self,
        name: &RoomName,
        rule: RuleIndex,
        out: &mut Vec<Effect>,
    ) -> u32 {
        if let Some(index) = self.names.get(name) {
            return *index;
        }
        self.room_serial = self.room_serial.wrapping_add(1);
        let policy = self.guard.policy(rule);
        let stream = || Box::new(Stream { class: policy.priority, ..Stream::default() });
        let stream = policy.history.is_some().then(stream);
        let index = u32::try_from(self.rooms.vacant_key()).unwrap_or(u32::MAX);
        self.rooms.insert(Room::new(name.clone(), rule, self.room_serial, stream));
        self.names.insert(name.clone(), index);
        out.push(Effect::Hub(HubMessage::Join { lane: self.id, room: name.clone() }));
        index
    }

    /// Answers a join of a room without a position; one of a room that keeps publications is given up, and stands where
    /// the session was told, or where the lane does.
    fn answer_join(
        &mut self,
        key: SessionKey,
        name: &RoomName,
        (ask, told): (&Ask, Option<Position>),
        out: &mut Vec<Effect>,
    ) {
        let index = self.names.get(name).copied();
        let room = index.and_then(|index| self.rooms.get(index as usize));
        let keeps = room.is_some_and(|room| room.stream.is_some());
        let position = told.or_else(|| room.and_then(Room::position));
        let why = if keeps { Unrecovered::Unavailable } else { Unrecovered::NoHistory };
        let recovered = ask.since.map(|_| Err(why));
        let live = !keeps || position.is_some() && !self.isolated;
        let entry = Entry { position, recovered, live };
        self.tell_joined(key, (&ask.reply, name), entry, out);
        self.note_rooms(key);
    }

    /// Makes the session a member, unless it is one.
    pub(super) fn add_member(&mut self, index: u32, key: SessionKey) {
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
    pub(super) fn room_is_live(
        &mut self,
        now: Now,
        name: &RoomName,
        position: Option<Position>,
        out: &mut Vec<Effect>,
    ) {
        let Some(index) = self.names.get(name).copied() else { return };
        let Some(room) = self.rooms.get_mut(index as usize) else { return };
        if room.live {
            return;
        }
        let waiting = room.begin();
        let behind = waiting.iter().map(|it| it.key).filter(|key| self.behind.contains_key(key));
        let behind: Vec<_> = behind.collect();
        if let Some(stream) = &mut room.stream {
            stream.position = position;
        }
        for Waiting { key, ask, told } in waiting {
            let Some(session) = self.session_mut(key) else { continue };
            match (ask, &mut session.phase) {
                (
                    Some(ask),
                    Phase::Connecting(_) | Phase::Attaching | Phase::Joining(_) | Phase::Ready,
                ) => self.record_and_enter(now, key, index, ask, out),
                (None, Phase::Joining(count)) if !told => {
                    *count = count.saturating_sub(1);
                    self.try_ready(now, key, out);
                }
                // Welcomed while the broker was away.
                (None, Phase::Ready) => self.enter_reserved(now, index, key, out),
                (None, Phase::Connecting(_) | Phase::Attaching | Phase::Joining(_)) => {}
            }
        }
        for key in behind {
            self.run_behind(now, key, out);
        }
        self.drop_if_unused(index, out);
    }

    /// The broker is away: who waits is told so, and goes on waiting; who waits for its welcome does not.
    pub(super) fn room_is_away(&mut self, now: Now, name: &RoomName, out: &mut Vec<Effect>) {
        let Some(index) = self.names.get(name).copied() else { return };
        let Some(room) = self.rooms.get_mut(index as usize).filter(|room| !room.live) else {
            return;
        };
        let Some(stream) = &mut room.stream else { return };
        stream.away = true;
        let untold = room.waiting().iter_mut().filter(|waiting| !waiting.told);
        let untold: Vec<_> = untold
            .map(|waiting| {
                waiting.told = true;
                (waiting.key, waiting.ask.as_ref().map(|ask| ask.reply.clone()))
            })
            .collect();
        let behind: Vec<_> = untold.iter().map(|(key, _)| *key).collect();
        for (key, reply) in untold {
            let Some(session) = self.session_mut(key) else { continue };
            match (reply, &mut session.phase) {
                (
                    Some(reply),
                    Phase::Connecting(_) | Phase::Attaching | Phase::Joining(_) | Phase::Ready,
                ) => self.tell_away(key, name, &reply, out),
                (None, Phase::Joining(count)) => {
                    *count = count.saturating_sub(1);
                    self.try_ready(now, key, out);
                }
                (None, Phase::Connecting(_) | Phase::Attaching | Phase::Ready) => {}
            }
        }
        for key in behind {
            self.run_behind(now, key, out);
        }
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
        self.leave_named(key, name, out);
        self.send(key, &Outbound::Left { reply, room: name.as_str(), ordered: false }, out);
    }

    /// The same, without its own answer.
    pub(super) fn leave_named(&mut self, key: SessionKey, name: &RoomName, out: &mut Vec<Effect>) {
        if let Some(index) = self.names.get(name).copied() {
            self.tell_absent(index, key, out);
            let (withdrawn, told) = self.withdraw(index, key);
            if !withdrawn.is_empty() {
                self.settle(index, key, out);
            }
            for ask in withdrawn {
                self.answer_join(key, name, (&ask, told), out);
            }
            self.tell_skips(index);
            self.leave_room(index, key, out);
            self.drop_if_unused(index, out);
        }
    }

    /// The session has lost the right to the room: it leaves, and is told in answer to each join that still waits,
    /// else unasked.
    pub(super) fn expel(&mut self, index: u32, key: SessionKey, out: &mut Vec<Effect>) {
        let Some(name) = self.rooms.get(index as usize).map(|room| room.name.clone()) else {
            return;
        };
        if !self.put_out(index, key, out) {
            let part = self.groups.has_room(key, &name);
            let reply = ReplyTo { id: None, room: Some(name.as_str().into()), part };
            self.refuse(key, &reply, &Refusal::PermissionDenied.into(), out);
        }
    }

    /// The session leaves without its wish; joins of its client that still wait are refused. Says whether there were any.
    pub(super) fn put_out(&mut self, index: u32, key: SessionKey, out: &mut Vec<Effect>) -> bool {
        self.tell_absent(index, key, out);
        let (mut withdrawn, _) = self.withdraw(index, key);
        // Nobody waits for an answer where an order has put it in.
        withdrawn.retain(|ask| ask.reply != ReplyTo::default());
        self.leave_room(index, key, out);
        self.drop_if_unused(index, out);
        let denied = Refused::new(Refusal::PermissionDenied);
        for ask in &withdrawn {
            self.refuse(key, &ask.reply, &denied, out);
        }
        !withdrawn.is_empty()
    }

    /// Takes back the session's joins that wait for the room to become live, or for what it missed; says which have not
    /// been answered, and what the session was told that it has covered.
    pub(super) fn withdraw(&mut self, index: u32, key: SessionKey) -> (Vec<Ask>, Option<Position>) {
        if let Some(catch_up) = self.end_catch_up(index, key) {
            return catch_up.unanswered();
        }
        let unrecorded = self.withdraw_unrecorded(index, key);
        if !unrecorded.is_empty() {
            return (unrecorded, None);
        }
        let waits = |session: &Session| {
            let entry = session.rooms.iter().find(|entry| entry.room == index);
            entry.is_some_and(|entry| entry.place == Membership::WAITING)
        };
        let Some(room) = self.rooms.get_mut(index as usize).filter(|room| !room.live) else {
            return (Vec::new(), None);
        };
        if !self.sessions.get(key.index as usize).is_some_and(waits) {
            return (Vec::new(), None);
        }
        let taken = room.waiting().extract_if(.., |waiting| waiting.key == key);
        let untold = taken.filter(|waiting| !waiting.told);
        (untold.filter_map(|waiting| waiting.ask).collect(), None)
    }

    /// Takes the session out of the room, giving it first what is still under way; a reply that follows in a higher
    /// class will not overtake that.
    pub(super) fn leave_room(&mut self, index: u32, key: SessionKey, out: &mut Vec<Effect>) {
        self.end_catch_up(index, key);
        self.end_acks(index, key, out);
        let Some(session) = self.session_mut(key) else { return };
        let Some(at) = session.rooms.iter().position(|entry| entry.room == index) else { return };
        let entry = session.rooms.swap_remove(at);
        let joining = session.phase != Phase::Ready;
        let joins = session.lasting.as_mut().map_or(0, |lasting| lasting.forget_room(index));
        if let Some(room) = self.rooms.get_mut(index as usize) {
            room.entering -= joins;
        }
        if entry.place != Membership::WAITING {
            self.memberships -= 1;
            self.take_out(index, entry.place, out);
            if let Some(room) = self.rooms.get_mut(index as usize) {
                room.forget_skips_of_nobody();
            }
        } else if joining && let Some(room) = self.rooms.get_mut(index as usize) {
            room.entering -= 1;
        }
        self.note_rooms(key);
        self.settle(index, key, out);
    }

    /// Takes a member out of the room's list for a while, likewise.
    pub(super) fn step_out(&mut self, index: u32, key: SessionKey, out: &mut Vec<Effect>) {
        let Some(session) = self.session_mut(key) else { return };
        let Some(entry) = session.rooms.iter_mut().find(|entry| entry.room == index) else {
            return;
        };
        let place = std::mem::replace(&mut entry.place, Membership::WAITING);
        if place != Membership::WAITING {
            self.memberships -= 1;
            self.take_out(index, place, out);
        }
        self.settle(index, key, out);
    }

    pub(super) fn is_member(&self, index: u32, key: SessionKey) -> bool {
        let is_in = |entry: &Membership| entry.room == index && entry.place != Membership::WAITING;
        self.session(key).is_some_and(|session| session.rooms.iter().any(is_in))
    }

    /// Keeps what follows in a higher class from overtaking what the session was given of the room, and that from being
    /// let go, where what follows says that it was given.
    pub(super) fn settle(&self, index: u32, key: SessionKey, out: &mut Vec<Effect>) {
        let settles = |room: &Room| room.has_lower_classes() || room.stream.is_some();
        if self.rooms.get(index as usize).is_some_and(settles) {
            out.push(Effect::reply(key.index, Bytes::new()));
        }
    }

    /// Takes the member at `place` out of the room's list; while the lane holds it is given nothing.
    fn take_out(&mut self, index: u32, place: u32, out: &mut Vec<Effect>) {
        let rest = if self.turns.held { Rest::Nothing } else { Rest::All };
        self.withdraw_member(index, place, rest, out);
    }

    /// Takes the member at `place` out of the room's list; it is given so much of what is under way.
    pub(super) fn withdraw_member(
        &mut self,
        index: u32,
        place: u32,
        rest: Rest,
        out: &mut Vec<Effect>,
    ) {
        let Some(room) = self.rooms.get_mut(index as usize) else { return };
        let before = out.len();
        let mut moves = Vec::new();
        let moved = |member: Member, place| moves.push((member.session, place));
        let mut scribe =
            Scribe::new(&self.formats, &self.sessions, &mut self.sink, &mut self.counters);
        scribe.unix_ms = self.turns.last_unix_ms;
        scribe.unacked_max = self.limits.unacked_max.into();
        let bytes = room.bytes();
        room.remove(place as usize, out, moved, (rest, &mut scribe));
        let burden = std::mem::take(&mut scribe.burden);
        self.backlog_bytes = self.backlog_bytes + room.bytes() - bytes;
        self.counters.deliveries += (out.len() - before) as u64;
        for (session, place) in moves {
            let entries = self.sessions.get_mut(session as usize).map(|s| &mut s.rooms);
            if let Some(entry) =
                entries.and_then(|entries| entries.iter_mut().find(|entry| entry.room == index))
            {
                entry.place = place;
            }
        }
        if !burden.is_empty() {
            self.burden(index, burden, false, out);
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
            if self.catching.contains_key(&(index, key.index)) {
                continue; // parked just now
            }
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
    let among =
        |kind: &str, held: &Texts| name.strip_prefix(kind).is_some_and(|name| held.contains(name));
    name.strip_prefix("user-").is_some_and(|user| user == who.user_key())
        || name.strip_prefix("session-").is_some_and(|id| id == session.to_string())
        || among("role-", &who.roles)
        || among("team-", &who.teams)
}
