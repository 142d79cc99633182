//! Conversations: a session names with whom it talks, and what that room is called is known here alone; so nobody gets
//! into one by its name. What is said is the hub's to carry out.

use roomcast_protocol::codes::{Refusal, Refused};
use roomcast_protocol::command::ReplyTo;
use roomcast_protocol::conversation::{self, Answered, Converse, EventRef};
use roomcast_protocol::guard::{Kind, RuleIndex};
use roomcast_protocol::ids::SessionKey;
use roomcast_protocol::outbound::Outbound;
use roomcast_protocol::publication::Publication;
use roomcast_protocol::room::RoomName;
use roomcast_protocol::time::Now;

use super::Lane;
use super::acks::Inflight;
use crate::happenings::Right;
use crate::messages::{Effect, HubMessage, Talk, TalkOf};

impl Lane {
    /// Asks something of a conversation.
    pub(super) fn converse(&mut self, key: SessionKey, request: Converse, out: &mut Vec<Effect>) {
        let Converse { reply, with, act } = request;
        let Some(user) = self.talker(key) else { return self.refuse_talk(key, &reply, out) };
        if let Some((room, number)) = self.group_named(key, &with) {
            return self.talk(key, reply, user, TalkOf::Group(room, number, act), out);
        }
        let room = match conversation::dialog(&user, &with) {
            Ok(room) => room,
            Err(cause) => {
                let text = format!("chatId can be no user's id: {cause}").into();
                return self.refuse(key, &reply, &Refused::because(Refusal::BadName, text), out);
            }
        };
        if self.talk_rule(&room).is_none() {
            return self.deny(key, &reply, (Right::Join, &room), out);
        }
        self.talk(key, reply, user, TalkOf::Room(room, act), out);
    }

    /// The rule of a room in which people talk; `None`: nobody does.
    pub(super) fn talk_rule(&self, room: &RoomName) -> Option<RuleIndex> {
        self.guard.rule(room).filter(|rule| self.guard.policy(*rule).conversation)
    }

    /// Asks for all conversations of a session's user.
    pub(super) fn list_conversations(
        &mut self,
        key: SessionKey,
        reply: ReplyTo,
        out: &mut Vec<Effect>,
    ) {
        match self.talker(key) {
            Some(user) => self.talk(key, reply, user, TalkOf::All, out),
            None => self.refuse_talk(key, &reply, out),
        }
    }

    /// Who talks in the session; `None`: nobody in particular, or a back-end.
    pub(super) fn talker(&self, key: SessionKey) -> Option<Box<str>> {
        let who = self.session(key)?.who.as_deref()?;
        (who.kind == Kind::User).then(|| who.user_key().into())
    }

    fn refuse_talk(&mut self, key: SessionKey, reply: &ReplyTo, out: &mut Vec<Effect>) {
        let text = "Only users talk: the token must name one, and not be a back-end's";
        let refused = Refused::because(Refusal::PermissionDenied, text.into());
        self.refuse(key, reply, &refused, out);
    }

    pub(super) fn talk(
        &self,
        key: SessionKey,
        reply: ReplyTo,
        user: Box<str>,
        of: TalkOf,
        out: &mut Vec<Effect>,
    ) {
        let Some(said_in) = self.session(key).map(|session| session.id) else { return };
        let talk = Talk { lane: self.id, session: key, reply, user, said_in, of };
        out.push(Effect::Hub(HubMessage::Converse(Box::new(talk))));
    }

    /// The hub has carried it out, or has not.
    pub(super) fn conversed(
        &mut self,
        now: Now,
        key: SessionKey,
        reply: &ReplyTo,
        outcome: Result<Box<Answered>, Refused>,
        out: &mut Vec<Effect>,
    ) {
        let Some(user) = self.talker(key) else { return };
        if self.waits_for_groups(key) {
            return self.groups_are(now, key, outcome, out);
        }
        match outcome {
            Ok(answered) => {
                let (user, answered, unix_ms) = (&*user, &*answered, now.unix_ms);
                self.send(key, &Outbound::Conversed { reply, user, answered, unix_ms }, out);
            }
            Err(refused) => self.refuse(key, reply, &refused, out),
        }
    }

    /// The client acks the event with this number: it stands in its user's own room, or in a group's.
    pub(super) fn acked_event(
        &mut self,
        now: Now,
        key: SessionKey,
        number: u64,
        out: &mut Vec<Effect>,
    ) {
        let event = Some(EventRef::numbered(number));
        self.ack_first(now, key, |it: &Inflight| EventRef::of(&it.publication) == event, out);
    }

    /// A publication of a room was given to a session for the first time, or was not, because its client has said it: then
    /// it counts as acked.
    pub(super) fn note_copy(
        &mut self,
        now: Now,
        (index, key): (u32, SessionKey),
        publication: &Publication,
        out: &mut Vec<Effect>,
    ) {
        let Some(session) = self.session_mut(key) else { return };
        if !session.has_said(publication) {
            return self.reached(key, publication, out);
        }
        let inbox = session.acks.as_mut().and_then(|acks| acks.inbox(index));
        if let (Some(inbox), Some(at)) = (inbox, publication.position) {
            inbox.cursor.ack(at.offset);
            self.report_cursors(now, key, out);
            self.arm_acks(now, key);
        }
    }

    /// If it is a message of a conversation, it has reached the session's user.
    fn reached(&self, key: SessionKey, publication: &Publication, out: &mut Vec<Effect>) {
        let Some(origin) = &publication.origin else { return };
        let Some((at, user)) = origin.position.zip(self.talker(key)) else { return };
        if publication.sender != user && origin.unread.is_some() {
            let room = origin.room.clone();
            out.push(Effect::Hub(HubMessage::Reached { room, user, at }));
        }
    }
}
