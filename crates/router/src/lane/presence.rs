//! Who is present: the hub is told whoever comes into a room that has presence and whoever leaves it, members are told
//! what changes there, and are answered who is there (G18). After the node was stopped, only those count as present
//! that were heard from since (G19).

use std::collections::BTreeSet;

use bytes::Bytes;
use roomcast_protocol::codes::{Refusal, Refused};
use roomcast_protocol::command::{PresenceRequest, ReplyTo};
use roomcast_protocol::ids::SessionKey;
use roomcast_protocol::outbound::Outbound;
use roomcast_protocol::presence::{
    AGENTS, PresenceChange, PresenceDiff, PresenceMode, ROSTER_PAGE_MAX, RosterPage,
};
use roomcast_protocol::publication::Priority;
use roomcast_protocol::room::RoomName;
use roomcast_protocol::time::Now;

use super::Lane;
use super::frames::Terms;
use super::scribe::Scribe;
use crate::happenings::Right;
use crate::hub::{ROSTER_RETRY_MS, tells_nothing};
use crate::messages::{Effect, HubMessage};
use crate::session::{Membership, Phase, Session};

/// How often sessions in doubt are looked at. Units: milliseconds.
const LOOK_MS: u64 = 250;

/// Over how long the pings of sessions in doubt are spread. Units: milliseconds.
const SPREAD_MS: u32 = 256;

/// Sessions of which it is not known whether they are still there.
#[derive(Debug, Default)]
pub(super) struct Doubts {
    /// Whoever was heard from since is. Units: monotonic milliseconds.
    since_ms: u64,
    /// By their index. Bounds: the lane's sessions.
    sessions: BTreeSet<u32>,
    /// When they were looked at last. Units: monotonic milliseconds.
    looked_ms: u64,
}

impl Lane {
    /// The session is about to come into the room.
    pub(super) fn tell_present(&self, index: u32, key: SessionKey, out: &mut Vec<Effect>) {
        if !self.is_present(index, key) {
            self.push_presence(index, key, true, out);
        }
    }

    /// The session is about to leave the room.
    pub(super) fn tell_absent(&self, index: u32, key: SessionKey, out: &mut Vec<Effect>) {
        if self.is_present(index, key) {
            self.push_presence(index, key, false, out);
        }
    }

    /// The session is about to end, or has become ready: all its rooms are told of, and that it is an agent.
    pub(super) fn tell_all(&self, key: SessionKey, present: bool, out: &mut Vec<Effect>) {
        let Some(session) = self.session(key).filter(|it| it.phase == Phase::Ready) else { return };
        for entry in &session.rooms {
            // Who is flushed before the end is in none any more; whom the hub does not know it does not miss.
            if !present || self.is_present(entry.room, key) {
                self.push_presence(entry.room, key, present, out);
            }
        }
        let agent = session.who.as_ref().and_then(|who| who.agent_id.clone());
        if let (Some(agent), Ok(room)) = (agent, RoomName::system(AGENTS)) {
            let change = change(session, agent, present);
            out.push(Effect::Hub(HubMessage::Presence { room, change }));
        }
        self.tell_person(key, present, out);
    }

    /// Tells the hub, if the room has presence.
    fn push_presence(&self, index: u32, key: SessionKey, present: bool, out: &mut Vec<Effect>) {
        let Some(room) = self.rooms.get(index as usize) else { return };
        if self.guard.policy(room.rule).presence == PresenceMode::Off {
            return;
        }
        let Some(session) = self.session(key) else { return };
        let Some(who) = session.who.as_deref() else { return };
        let change = change(session, who.user_key().into(), present);
        out.push(Effect::Hub(HubMessage::Presence { room: room.name.clone(), change }));
    }

    /// Whether the session counts as being in the room: who catches up does.
    fn is_present(&self, index: u32, key: SessionKey) -> bool {
        let Some(session) = self.session(key) else { return false };
        let entry = session.rooms.iter().find(|entry| entry.room == index);
        entry.is_some_and(|entry| {
            entry.place != Membership::WAITING || self.catching.contains_key(&(index, key.index))
        })
    }

    /// Answers who is in a room.
    pub(super) fn ask_presence(
        &mut self,
        key: SessionKey,
        request: &PresenceRequest,
        out: &mut Vec<Effect>,
    ) {
        let PresenceRequest { reply, room, after, limit } = request;
        let room = match RoomName::parse(room) {
            Ok(room) => room,
            Err(cause) => return self.refuse(key, reply, &cause.into(), out),
        };
        let Some(rule) = self.may_read(key, &room) else {
            return self.deny(key, reply, (Right::Presence, &room), out);
        };
        if self.guard.policy(rule).presence == PresenceMode::Off {
            return self.refuse(key, reply, &tells_nothing(), out);
        }
        let index = self.names.get(&room).filter(|index| self.is_present(**index, key));
        let who = self.session(key).and_then(|session| session.who.as_deref());
        let member = index.and(who).map(|who| who.user_key().into());
        out.push(Effect::Hub(HubMessage::Roster {
            lane: self.id,
            session: key,
            member,
            reply: reply.clone(),
            room,
            after: after.clone(),
            count_max: limit.unwrap_or(ROSTER_PAGE_MAX).clamp(1, ROSTER_PAGE_MAX),
        }));
    }

    /// The hub knows who is in the room, or does not.
    pub(super) fn answer_roster(
        &mut self,
        key: SessionKey,
        (reply, room): (&ReplyTo, &RoomName),
        outcome: Result<RosterPage, Refused>,
        out: &mut Vec<Effect>,
    ) {
        // The right may have been lost meanwhile.
        let Some(rule) = self.may_read(key, room) else {
            return self.refuse(key, reply, &Refusal::PermissionDenied.into(), out);
        };
        if self.turns.held {
            let text = "The node catches up";
            let refused = Refused::unavailable(text.into(), ROSTER_RETRY_MS);
            return self.refuse(key, reply, &refused, out);
        }
        match outcome {
            Ok(page) => {
                // A last page may be empty, and is a list all the same.
                let counts = page.users.is_empty() && page.more;
                let mode = self.guard.policy(rule).presence;
                let mode = if counts { PresenceMode::Count } else { mode };
                let (room, page) = (room.as_str(), &page);
                self.send(key, &Outbound::Roster { reply, room, page, mode }, out);
            }
            Err(refused) => self.refuse(key, reply, &refused, out),
        }
    }

    /// Tells a room's members who came and who left, behind what waits for them. Who catches up is told at once: it may
    /// have been answered already who is there.
    pub(super) fn tell_presence(&mut self, diff: &PresenceDiff, out: &mut Vec<Effect>) {
        let Some(index) = self.names.get(&diff.room).copied() else { return };
        let Some(room) = self.rooms.get(index as usize) else { return };
        let policy = self.guard.policy(room.rule);
        let class = policy.priority;
        // The hub tells no names where there are too many.
        let counts = diff.joined.is_empty() && diff.left.is_empty();
        let mode = if counts { PresenceMode::Count } else { policy.presence };
        self.tell_members(index, class, &Outbound::Presence { diff, mode }, out);
    }

    /// Tells a room's members something without a position, behind what waits for them; those who catch up at once.
    pub(super) fn tell_members(
        &mut self,
        index: u32,
        class: Priority,
        outbound: &Outbound<'_>,
        out: &mut Vec<Effect>,
    ) {
        let Some(room) = self.rooms.get(index as usize) else { return };
        if !room.members.is_empty() {
            self.enqueue(index, |room, scribe, _| {
                room.publish(
                    &Terms::that_stay(class),
                    |_| {},
                    |format, bytes| scribe.append(format, outbound, bytes),
                );
            });
        }
        let mut written: Vec<(u8, Bytes)> = Vec::new();
        let mut scribe =
            Scribe::new(&self.formats, &self.sessions, &mut self.sink, &mut self.counters);
        for (_, session) in self.catching.range((index, 0)..=(index, u32::MAX)).map(|(at, _)| *at) {
            let Some(format) = self.sessions.get(session as usize).map(|it| it.format) else {
                continue;
            };
            let held = written.iter().find(|(held, _)| *held == format).map(|(_, it)| it.clone());
            let frame = held.unwrap_or_else(|| {
                let mut bytes = Vec::new();
                scribe.append(format, outbound, &mut bytes);
                let frame = Bytes::from(bytes);
                written.push((format, frame.clone()));
                frame
            });
            if !frame.is_empty() {
                // In the class of what it was told as a member: a version must not overtake an older one.
                out.push(Effect::Send { to: session, frame, class, mark: None });
            }
        }
    }

    /// What the node entered is void: whoever was heard from since is told of again, the others are pinged first.
    pub(super) fn doubt_presence(&mut self, now: Now, since_ms: u64, out: &mut Vec<Effect>) {
        self.doubts.since_ms = since_ms;
        let ready = self.sessions.iter().filter(|(_, session)| session.phase == Phase::Ready);
        let keys: Vec<SessionKey> = ready.map(|(_, session)| session.key).collect();
        let ping_ms = self.limits.ping_ms;
        for key in keys {
            let Some(session) = self.session_mut(key) else { continue };
            if session.heard_ms >= since_ms {
                self.tell_all(key, true, out);
                continue;
            }
            if !session.is_pinged() {
                // As if it had been silent for long enough; they are not all pinged at once.
                let silent_ms = ping_ms.saturating_sub(u64::from(key.index % SPREAD_MS));
                let heard_ms = now.mono_ms.saturating_sub(silent_ms);
                session.heard_ms = session.heard_ms.min(heard_ms);
                session.pinged_ms = session.pinged_ms.min(session.heard_ms);
            }
            self.doubts.sessions.insert(key.index);
            self.rearm(now, key);
        }
    }

    /// The session has just been heard from.
    pub(super) fn vouch_for(&mut self, key: SessionKey, out: &mut Vec<Effect>) {
        if self.doubts.sessions.remove(&key.index) {
            self.tell_all(key, true, out);
        }
    }

    /// Looks at those in doubt: who was heard from is told of again, who has gone is forgotten.
    pub(super) fn see_doubts(&mut self, now: Now, out: &mut Vec<Effect>) {
        let idle = self.doubts.sessions.is_empty();
        if idle || now.mono_ms < self.doubts.looked_ms.saturating_add(LOOK_MS) {
            return;
        }
        self.doubts.looked_ms = now.mono_ms;
        let since_ms = self.doubts.since_ms;
        let silent = |index: &u32| {
            let session = self.sessions.get(*index as usize);
            session.is_some_and(|session| session.heard_ms < since_ms)
        };
        let heard: Vec<u32> =
            self.doubts.sessions.iter().copied().filter(|it| !silent(it)).collect();
        for index in heard {
            self.doubts.sessions.remove(&index);
            if let Some(key) = self.sessions.get(index as usize).map(|session| session.key) {
                self.tell_all(key, true, out);
            }
        }
    }
}

pub(super) fn change(session: &Session, user: Box<str>, present: bool) -> PresenceChange {
    PresenceChange { session: session.id, user, generation: generation_of(session), present }
}

/// Which attachment of the session this connection is.
fn generation_of(session: &Session) -> u64 {
    session.lasting.as_ref().map_or(1, |lasting| lasting.generation)
}
