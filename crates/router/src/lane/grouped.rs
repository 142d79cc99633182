//! Groups: sessions of dialects that have them are put into the rooms of their user's groups, at connect, when the user
//! becomes a member, and out when it is one no more. Who is a member the broker knows alone; while a session is in a
//! group's room its user may talk there.

use roomcast_protocol::codes::{Close, Refused};
use roomcast_protocol::command::ReplyTo;
use roomcast_protocol::conversation::{self, Answered, Membership};
use roomcast_protocol::ids::SessionKey;
use roomcast_protocol::inbox::{Acked, InboxState, Told};
use roomcast_protocol::position::{Head, Position};
use roomcast_protocol::room::RoomName;
use roomcast_protocol::time::Now;

use super::Lane;
use super::inboxes::DEVICE;
use super::joins::Ask;
use crate::messages::{Effect, TalkOf};
use crate::orders::{Outcome, Whom};
use crate::session::Phase;

impl Lane {
    /// Asks for the groups of a session that begins, if its dialect has some; says whether it has.
    pub(super) fn ask_groups(&mut self, key: SessionKey, out: &mut Vec<Effect>) -> bool {
        if !self.hears_groups(key) {
            return false;
        }
        let Some(user) = self.talker(key) else { return false };
        let acks = self.session_mut(key).map(|session| session.acks.get_or_insert_default());
        let Some(acks) = acks else { return false };
        acks.groups_asked = true;
        let device = acks.device.clone().unwrap_or_else(|| DEVICE.into());
        self.talk(key, ReplyTo::default(), user, TalkOf::Groups(device), out);
        true
    }

    fn hears_groups(&self, key: SessionKey) -> bool {
        let profile = self.session(key).and_then(|session| self.profile_of(session));
        profile.is_some_and(|profile| profile.joins_groups)
    }

    /// Whether the session began, and its groups are not known yet.
    pub(super) fn waits_for_groups(&self, key: SessionKey) -> bool {
        let acks = self.session(key).and_then(|session| session.acks.as_ref());
        acks.is_some_and(|acks| acks.groups_asked)
    }

    /// The groups of a session that begins are known, or will not be: then it comes back later.
    pub(super) fn groups_are(
        &mut self,
        now: Now,
        key: SessionKey,
        outcome: Result<Box<Answered>, Refused>,
        out: &mut Vec<Effect>,
    ) {
        let Ok(Answered::Groups(groups)) = outcome.map(|answered| *answered) else {
            self.counters.groups_unknown += 1;
            return self.close(key, Close::GapTooOld, out);
        };
        let mut asleep = 0;
        for group in groups {
            let Some(rule) = self.talk_rule(&group.room) else { continue };
            asleep += u16::from(!self.reserve(key, &group.room, rule, out));
            self.note_group(key, &group);
        }
        let Some(session) = self.session_mut(key) else { return };
        session.acks.iter_mut().for_each(|acks| acks.groups_asked = false);
        if let Phase::Joining(others) = session.phase {
            session.phase = Phase::Joining(others - 1 + asleep);
        }
        self.try_ready(now, key, out);
    }

    /// Notes which number a group has, and where a session goes on in it.
    fn note_group(&mut self, key: SessionKey, group: &Membership) {
        let Some(index) = self.names.get(&group.room).copied() else { return };
        let stream = self.rooms.get_mut(index as usize).and_then(|room| room.stream.as_mut());
        stream.into_iter().for_each(|stream| stream.group = Some(group.number));
        if let Some(session) = self.session_mut(key) {
            let starts = &mut session.acks.get_or_insert_default().starts;
            starts.retain(|(room, _)| *room != index);
            starts.push((index, group.from));
        }
    }

    /// The user is a member of a group: those of its sessions that hear groups are put into its room.
    pub(super) fn order_member(
        &mut self,
        now: Now,
        user: &str,
        group: &Membership,
        out: &mut Vec<Effect>,
    ) -> Outcome {
        let mut outcome = Outcome::default();
        let Some(rule) = self.talk_rule(&group.room) else { return outcome };
        for key in self.keys_of_whom(&Whom::User(user.into())) {
            // One that begins asks once more.
            let is_ready = self.session(key).is_some_and(|session| session.phase == Phase::Ready);
            if !is_ready || !self.hears_groups(key) {
                continue;
            }
            outcome.sessions += 1;
            if self.is_in_group(key, &group.room).is_some() {
                continue;
            }
            let ask = Ask { reply: ReplyTo::default(), since: None, unacked: None };
            // The room is known from here on; whoever enters it is asked from where.
            self.room_index(&group.room, rule, out);
            self.note_group(key, group);
            self.enter(now, key, &group.room, rule, ask, out);
        }
        outcome
    }

    /// The room and number of the group that a session's client names, if it is in one of that name.
    pub(super) fn group_named(&self, key: SessionKey, with: &str) -> Option<(RoomName, u32)> {
        let room = conversation::group(with).ok()?;
        let number = self.is_in_group(key, &room)?;
        Some((room, number))
    }

    fn is_in_group(&self, key: SessionKey, room: &RoomName) -> Option<u32> {
        let index = self.names.get(room).copied()?;
        let session = self.session(key)?;
        session.rooms.iter().find(|entry| entry.room == index)?;
        self.group_at(index)
    }

    /// The number of the group whose room it is, if it is one.
    pub(super) fn group_at(&self, index: u32) -> Option<u32> {
        self.rooms.get(index as usize)?.stream.as_ref()?.group
    }

    /// What a session that enters a group's room has acked there, as far as that is known.
    pub(super) fn state_in_group(&mut self, index: u32, key: SessionKey) -> Option<InboxState> {
        self.group_at(index)?;
        let at = self.position(index)?;
        let acks = self.session_mut(key).and_then(|session| session.acks.as_mut());
        let start = acks.and_then(|acks| {
            let found = acks.starts.iter().position(|(room, _)| *room == index)?;
            Some(acks.starts.swap_remove(found).1)
        });
        let watermark = begin(start.unwrap_or(at), at);
        let (lost, told) = (0, Told::default());
        let acked = Acked { watermark, above: Vec::new() };
        Some(InboxState { acked, head: Head { position: at, first: 1 }, lost, told })
    }
}

/// Where a device goes on that was at `start`, in a room that is at `at`. Offsets go on when a stream begins anew, unless all
/// of it is lost: then everything there is new.
fn begin(start: Position, at: Position) -> Position {
    let is_lost = start.epoch != at.epoch && start.offset > at.offset;
    at.at(if is_lost { 0 } else { start.offset.min(at.offset) })
}
