//! Whose users are online by their sessions, while somebody looks at one: the hub is told.

use roomcast_protocol::command::Command;
use roomcast_protocol::ids::SessionKey;
use roomcast_protocol::people::Newest;
use roomcast_protocol::publication::Publication;

use super::Lane;
use super::acks::{Acks, Inflight};
use super::presence::change;
use crate::messages::{Effect, HubMessage, Person};
use crate::session::Flag;

impl Lane {
    /// The session has become ready, or is about to end: its user may be online by it.
    pub(super) fn tell_person(&self, key: SessionKey, present: bool, out: &mut Vec<Effect>) {
        let Some(session) = self.session(key) else { return };
        if !self.profile(key).is_some_and(|profile| profile.tells_online) {
            return;
        }
        let Some(user) = self.talker(key) else { return };
        let change = change(session, user, present);
        out.push(Effect::Hub(HubMessage::Person(Person {
            change,
            away: session.flags.has(Flag::Away),
        })));
    }

    /// Nobody looks at the session's client.
    pub(super) fn go_away(&mut self, key: SessionKey, out: &mut Vec<Effect>) {
        self.set_away(key, true, out);
    }

    /// Somebody looks at the session's client.
    pub(super) fn come_back(&mut self, key: SessionKey, out: &mut Vec<Effect>) {
        self.set_away(key, false, out);
    }

    fn set_away(&mut self, key: SessionKey, away: bool, out: &mut Vec<Effect>) {
        let Some(session) = self.session_mut(key) else { return };
        if session.flags.has(Flag::Away) != away {
            session.flags.set(Flag::Away, away);
            self.tell_person(key, true, out);
        }
    }
}

impl Acks {
    /// What waits for an ack and tells of the same, of which only the newest counts, is not given any more.
    pub(super) fn supersede(&mut self, room: u32, publication: &Publication) {
        let Some(newest) = Newest::of(publication) else { return };
        let at = publication.position.map(|position| position.offset);
        let is_older = |it: &mut Inflight| {
            let same = Newest::of(&it.publication) == Some(newest);
            let before = it.offset().zip(at).is_none_or(|(offset, at)| offset < at);
            same && it.room == room && before && it.publication.id != publication.id
        };
        let older: Vec<_> = self.inflight.extract_if(.., is_older).collect();
        for offset in older.iter().filter_map(Inflight::offset) {
            if let Some(inbox) = self.inbox(room) {
                inbox.cursor.ack(offset);
            }
        }
    }
}

/// Whether somebody uses the client: it asks for something, or its user types. What it sends by itself says nothing.
pub(super) const fn is_used(command: &Command) -> bool {
    match command {
        Command::Join(_)
        | Command::Leave(_)
        | Command::Rooms(_)
        | Command::Publish(_)
        | Command::History(_)
        | Command::Presence(_)
        | Command::Mark(_)
        | Command::Receipts(_)
        | Command::Request(_)
        | Command::Converse(_)
        | Command::Conversations(_) => true,
        Command::Authenticate(_)
        | Command::KeepAlive(_)
        | Command::Away
        | Command::Ack { .. }
        | Command::AckEvent(_)
        | Command::Unreadable(_) => false,
    }
}
