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
use crate::talks::later;

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
        self.begin_in_groups(key, &groups, out);
        let Some(session) = self.session_mut(key) else { return };
        session.acks.iter_mut().for_each(|acks| acks.groups_asked = false);
        if let Phase::Joining(others) = session.phase {
            session.phase = Phase::Joining(others - 1);
        }
        self.try_ready(now, key, out);
    }

    /// A session that begins waits for the rooms of these groups as well.
    fn begin_in_groups(
        &mut self,
        key: SessionKey,
        groups: &[(Membership, Option<Position>)],
        out: &mut Vec<Effect>,
    ) {
        let mut asleep = 0;
        for (group, place) in groups {
            let Some(rule) = self.talk_rule(&group.room) else { continue };
            asleep += u16::from(!self.reserve(key, &group.room, rule, out));
            self.note_group(key, group, *place);
        }
        if let Some(session) = self.session_mut(key)
            && let Phase::Joining(others) = session.phase
        {
            session.phase = Phase::Joining(others + asleep);
        }
    }

    /// Notes which number a group has, from where its member hears it, and how far the member's device was.
    fn note_group(&mut self, key: SessionKey, group: &Membership, place: Option<Position>) {
        let Some(index) = self.names.get(&group.room).copied() else { return };
        let stream = self.rooms.get_mut(index as usize).and_then(|room| room.stream.as_mut());
        stream.into_iter().for_each(|stream| stream.group = Some(group.number));
        if let Some(session) = self.session_mut(key) {
            let starts = &mut session.acks.get_or_insert_default().starts;
            starts.retain(|(room, ..)| *room != index);
            starts.push((index, group.from, place));
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
            let Some(phase) = self.session(key).map(|session| session.phase) else { continue };
            let begins = match phase {
                Phase::Ready => false,
                Phase::Joining(_) => true,
                Phase::Connecting(_) | Phase::Attaching => continue,
            };
            // One whose groups are not known yet asks once more.
            if self.waits_for_groups(key) || !self.hears_groups(key) {
                continue;
            }
            outcome.sessions += 1;
            if self.is_in_group(key, &group.room).is_some() {
                continue;
            }
            if begins {
                self.begin_in_groups(key, &[(group.clone(), None)], out);
                continue;
            }
            let ask = Ask { reply: ReplyTo::default(), since: None, unacked: None };
            // The room is known from here on; whoever enters it is asked from where.
            self.room_index(&group.room, rule, out);
            self.note_group(key, group, None);
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
            let found = acks.starts.iter().position(|(room, ..)| *room == index)?;
            let (_, from, place) = acks.starts.swap_remove(found);
            Some((from, place))
        });
        let watermark = start.map_or(at, |(from, place)| begin(from, place, at));
        let (lost, told) = (0, Told::default());
        let acked = Acked { watermark, above: Vec::new() };
        Some(InboxState { acked, head: Head { position: at, first: 1 }, lost, told })
    }
}

/// Where a device goes on whose user became a member at `from`, and that was at `place`, in a room that is at `at`: what was
/// said before the user became a member, once more perhaps, is not given to it. Of two epochs the room's own is the later one.
/// Offsets go on when a stream begins anew, unless all of it is lost: then everything there is new.
fn begin(from: Position, place: Option<Position>, at: Position) -> Position {
    let start = match place {
        Some(place) if from.epoch != at.epoch || place.epoch == at.epoch => later(from, place),
        Some(_) | None => from,
    };
    let is_lost = start.epoch != at.epoch && start.offset > at.offset;
    at.at(if is_lost { 0 } else { start.offset.min(at.offset) })
}

#[cfg(test)]
mod tests {
    use roomcast_protocol::position::Epoch;

    use super::*;

    #[test]
    fn a_device_goes_on_behind_what_it_had_and_behind_its_users_coming() {
        let at = |epoch, offset| Position { epoch: Epoch(epoch), offset };
        for (from, place, expected) in [
            (at(2, 3), None, 3),
            (at(2, 3), Some(at(2, 5)), 5),
            (at(2, 7), Some(at(2, 5)), 7),
            // The user became a member again since the stream began anew, and before.
            (at(2, 7), Some(at(1, 5)), 7),
            (at(2, 7), Some(at(1, 90)), 7),
            (at(1, 7), Some(at(2, 5)), 5),
            // All that either knows is from before, and some of it is lost, or all.
            (at(1, 7), Some(at(1, 5)), 7),
            (at(1, 7), Some(at(0, 5)), 5),
            (at(1, 7), Some(at(1, 11)), 0),
            (at(1, 11), None, 0),
            // The lane is behind.
            (at(2, 3), Some(at(2, 12)), 10),
        ] {
            assert_eq!(begin(from, place, at(2, 10)), at(2, expected), "{from:?} {place:?}");
        }
    }
}
