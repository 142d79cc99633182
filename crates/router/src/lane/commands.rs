//! What a lane does with its sessions' commands.

use std::collections::HashMap;
use std::sync::Arc;

use roomcast_protocol::codes::{Close, Refusal, Refused};
use roomcast_protocol::command::{Authenticate, Command, Publish, ReplyTo, RoomRequest};
use roomcast_protocol::guard::{Kind, Principal, PublishRight, RuleIndex};
use roomcast_protocol::ids::SessionKey;
use roomcast_protocol::limits::LimitName;
use roomcast_protocol::outbound::Outbound;
use roomcast_protocol::publication::Publication;
use roomcast_protocol::room::RoomName;
use roomcast_protocol::time::{Now, iso8601};

use super::Lane;
use super::happenings::ANOTHER;
use super::membership::is_own;
use super::people::is_used;
use super::rooms::{Ask, Room};
use crate::happenings::Right;
use crate::messages::{Effect, HubMessage, Ticket};
use crate::session::{Evaluated, Flag, Phase, RIGHTS_MAX, Session};

/// Commands that may wait for their session to become ready. One frame holds no more than a batch.
const EARLY_MAX: usize = 256;

/// What a client is told that says it later.
pub(super) const WITH_FIRST_TOKEN: &str = "How the session goes on (resume_token, covered, device, handover) is said with the first \
    token of a connection: leave it out to bring a newer token";

impl Lane {
    /// Takes one command of a session.
    pub fn command(&mut self, now: Now, key: SessionKey, command: Command, out: &mut Vec<Effect>) {
        self.begin_turn(now, out);
        let Some(phase) = self.session(key).map(|session| session.phase) else { return };
        self.spoke(now, key);
        if phase == Phase::Ready {
            self.prove_by_command(key, out);
        }
        match (phase, command) {
            (Phase::Connecting(_), command) => self.early_command(now, key, &command, out),
            (_, Command::KeepAlive(timestamp)) => {
                if self.may_control(now, key, &ReplyTo::default(), out) {
                    self.pong(now, key, timestamp.as_deref(), out);
                }
            }
            (Phase::Attaching | Phase::Joining(_), command) => {
                let early = self.early.entry(key).or_default();
                if early.len() < EARLY_MAX {
                    early.push(command);
                } else {
                    self.close(key, Close::Flood, out);
                }
            }
            (Phase::Ready, command) => {
                if let Some(command) = self.wait_behind_join(key, command, out) {
                    self.ready_command(now, key, command, out);
                }
            }
        }
        self.answer_groups(now, out);
    }

    /// Answers a keep-alive.
    pub(super) fn pong(
        &mut self,
        now: Now,
        key: SessionKey,
        timestamp: Option<&[u8]>,
        out: &mut Vec<Effect>,
    ) {
        self.send(key, &Outbound::Pong { timestamp, unix_ms: now.unix_ms }, out);
    }

    /// Acts on a command of a session that is ready, if its limits let it.
    pub(super) fn ready_command(
        &mut self,
        now: Now,
        key: SessionKey,
        command: Command,
        out: &mut Vec<Effect>,
    ) {
        if matches!(command, Command::Publish(_)) {
            self.counters.received += 1;
        }
        let may = match counts_as(&command) {
            Counts::Message(reply) => self.may_send(now, key, reply, out),
            Counts::Control(reply) => self.may_control(now, key, reply, out),
            Counts::Itself => true,
        };
        if !may {
            return;
        }
        if is_used(&command) {
            self.come_back(key, out);
        }
        match command {
            Command::Authenticate(request) => self.refresh(now, key, &request, out),
            Command::Join(request) => self.join(now, key, request, out),
            Command::Leave(request) => self.leave(key, &request, out),
            Command::Rooms(request) => self.several_rooms(now, key, *request, out),
            Command::Publish(publish) => self.publish(now, key, *publish, out),
            Command::History(request) => self.history(now, key, request, out),
            Command::Presence(request) => self.ask_presence(key, &request, out),
            Command::Mark(request) => self.mark(key, request, out),
            Command::Receipts(request) => self.ask_receipts(key, request, out),
            Command::Request(request) => self.request(key, *request, out),
            Command::Converse(request) => self.converse(key, *request, out),
            Command::Conversations(reply) => self.list_conversations(key, reply, out),
            Command::KeepAlive(_) => {}
            Command::Away => self.go_away(key, out),
            Command::Ack { id, room } => self.acked(now, key, (&id, room.as_deref()), out),
            Command::AckEvent(number) => self.acked_event(now, key, number, out),
            Command::Unreadable(unreadable) => self.refuse_unreadable(key, &unreadable, out),
        }
    }

    /// Counts a message against its user's limit. Back-ends, whose issuer the configuration trusts, have none.
    fn may_send(
        &mut self,
        now: Now,
        key: SessionKey,
        reply: &ReplyTo,
        out: &mut Vec<Effect>,
    ) -> bool {
        let refused = self.over_messages(now, key);
        self.or_refuse(key, refused, reply, out)
    }

    /// The same, and says why it is one too many.
    pub(super) fn over_messages(&mut self, now: Now, key: SessionKey) -> Option<Refused> {
        let max = self.limits.messages_per_minute;
        let session = self.session(key)?;
        if session.who.as_ref().is_some_and(|who| who.kind == Kind::Backend) {
            return None;
        }
        let taken = session.meter()?.messages.take(now.mono_ms, 1, max);
        over(taken, LimitName::MessagesPerUser, max)
    }

    /// Counts an ack, keep-alive or refresh against its user's limit.
    fn may_control(
        &mut self,
        now: Now,
        key: SessionKey,
        reply: &ReplyTo,
        out: &mut Vec<Effect>,
    ) -> bool {
        let max = self.limits.controls_per_minute;
        let meter = self.session(key).and_then(Session::meter);
        let taken = meter.map_or(Ok(()), |meter| meter.controls.take(now.mono_ms, 1, max));
        self.or_refuse(key, over(taken, LimitName::ControlsPerUser, max), reply, out)
    }

    fn or_refuse(
        &mut self,
        key: SessionKey,
        refused: Option<Refused>,
        reply: &ReplyTo,
        out: &mut Vec<Effect>,
    ) -> bool {
        let Some(refused) = refused else { return self.session(key).is_some() };
        self.refuse(key, reply, &refused, out);
        false
    }

    pub(super) fn authenticate(
        &mut self,
        now: Now,
        key: SessionKey,
        request: &Authenticate,
        out: &mut Vec<Effect>,
    ) {
        let who = match self.verify(&request.token, now) {
            Ok(who) => who,
            Err(error) => return self.turn_away(key, &error, out),
        };
        let max = self.limits.connections_per_user;
        let continuation = request.continuation.clone();
        let resumes = continuation.as_ref().is_some_and(|it| it.resume.is_some());
        let Some(place) = self.users.connect(&who.user_key(), max, resumes) else {
            return self.end_one_too_many(key, Some(&who), out);
        };
        self.set_compressed(key, request.compressed, out);
        self.note_device(key, continuation.as_deref());
        self.become_known(now, key, (Box::new(who), place, continuation), out);
    }

    /// A token on a session that is ready: its rights are the new token's from now on.
    fn refresh(
        &mut self,
        now: Now,
        key: SessionKey,
        request: &Authenticate,
        out: &mut Vec<Effect>,
    ) {
        if request.continuation.is_some() {
            let refused = Refused::because(Refusal::Schema, WITH_FIRST_TOKEN.into());
            return self.refuse(key, &request.reply, &refused, out);
        }
        let who = match self.verify(&request.token, now) {
            Ok(who) => who,
            Err(error) => return self.turn_away(key, &error, out),
        };
        let same = self.session(key).and_then(|session| session.who.as_ref()).is_some_and(|held| {
            held.realm == who.realm && held.id == who.id && held.agent_id == who.agent_id
        });
        if !same {
            return self.turn_away(key, &ANOTHER, out);
        }
        let expires_unix_ms = who.expires_unix_ms;
        #[cfg(feature = "planted")]
        if self.planted == Some(crate::planted::Planted::StalePermission) {
            return self.send(
                key,
                &Outbound::Refreshed { reply: &request.reply, expires_unix_ms },
                out,
            );
        }
        if let Some(session) = self.session_mut(key) {
            session.who = Some(Box::new(who));
            session.rights = None;
            session.flags.set(Flag::ExpiryTold, false);
        }
        self.set_compressed(key, request.compressed, out);
        self.leave_what_is_no_longer_allowed(key, out);
        self.send(key, &Outbound::Refreshed { reply: &request.reply, expires_unix_ms }, out);
        self.run_behind(now, key, out);
        self.rearm(now, key);
    }

    /// A new token may hold fewer permissions: rooms it does not open any more are left, and the client is told.
    fn leave_what_is_no_longer_allowed(&mut self, key: SessionKey, out: &mut Vec<Effect>) {
        let Some(session) = self.session(key) else { return };
        let Some(who) = session.who.as_deref() else { return };
        let forbidden = |index: &u32| {
            let allowed = |room: &Room| {
                is_own(who, session.id, &room.name)
                    || self.is_by_call(key, room.rule)
                    || self.guard.may_join(room.rule, &room.name, who)
            };
            !self.rooms.get(*index as usize).is_some_and(allowed)
        };
        let rooms = session.rooms.iter().map(|entry| entry.room);
        for index in rooms.filter(forbidden).collect::<Vec<_>>() {
            self.expel(index, key, out);
        }
    }

    /// The client can inflate: from now on its frames are of the deflated format.
    pub(super) fn set_compressed(
        &mut self,
        key: SessionKey,
        compressed: bool,
        out: &mut Vec<Effect>,
    ) {
        let Some(held) = self.session(key).map(|session| session.format) else { return };
        let Some(mut format) = self.formats.get(usize::from(held)).copied() else { return };
        if compressed && format.encoding != format.encoding.deflated() {
            // What is under way in the old format would be given to it now.
            if self.turns.held {
                return self.turns.put_off_compressed(key);
            }
            format.encoding = format.encoding.deflated();
            let index = self.format_index(format);
            self.set_format(key, index, out);
        }
    }

    fn join(&mut self, now: Now, key: SessionKey, request: RoomRequest, out: &mut Vec<Effect>) {
        let name = match RoomName::parse(&request.room) {
            Ok(name) => name,
            Err(cause) => return self.refuse(key, &request.reply, &cause.into(), out),
        };
        let Some(session) = self.session(key) else { return };
        let is_in = self.has_place(key, &name);
        if !is_in && session.rooms.len() >= self.limits.rooms_max {
            let max = self.limits.rooms_max as u64;
            let refused = Refused::limit(Refusal::Limit, LimitName::RoomsPerSession, max, None);
            return self.refuse(key, &request.reply, &refused, out);
        }
        let rule = self.joinable(key, &name, is_in).filter(|_| !self.joins_by_call(key));
        let Some(rule) = rule else {
            return self.deny(key, &request.reply, (Right::Join, &name), out);
        };
        let ask = Ask { reply: request.reply, since: request.since, unacked: None };
        self.enter(now, key, &name, rule, ask, out);
    }

    /// The room's rule, if the session may be in it. Who is in its own room already may.
    pub(super) fn joinable(
        &self,
        key: SessionKey,
        name: &RoomName,
        is_in: bool,
    ) -> Option<RuleIndex> {
        let session = self.session(key)?;
        let who = session.who.as_deref()?;
        self.guard.rule(name).filter(|rule| {
            is_in && is_own(who, session.id, name)
                || self.is_by_call(key, *rule)
                || self.guard.may_join(*rule, name, who)
        })
    }

    /// Leaving a room one is not in is answered like leaving one: clients leave again after a reconnect.
    fn leave(&mut self, key: SessionKey, request: &RoomRequest, out: &mut Vec<Effect>) {
        let name = match RoomName::parse(&request.room) {
            Ok(name) => name,
            Err(cause) => return self.refuse(key, &request.reply, &cause.into(), out),
        };
        self.leave_and_answer(key, &name, &request.reply, out);
    }

    /// The session's right to publish in the room, evaluated at its first publish there and kept.
    fn right(&mut self, key: SessionKey, name: &RoomName) -> Option<Evaluated> {
        let session = self.session(key)?;
        let held = session.rights.as_ref().and_then(|rights| rights.get(name));
        if let Some(evaluated) = held {
            return Some(*evaluated);
        }
        let rule = self.guard.rule(name)?;
        let right = self.guard.may_publish(rule, name, session.who.as_deref()?);
        let evaluated = Evaluated { rule, right };
        let hasher = self.hasher.clone();
        let made = || Box::new(HashMap::with_hasher(hasher));
        let rights = self.session_mut(key)?.rights.get_or_insert_with(made);
        if rights.len() >= RIGHTS_MAX {
            rights.clear();
        }
        rights.insert(name.clone(), evaluated);
        Some(evaluated)
    }

    fn publish(&mut self, now: Now, key: SessionKey, publish: Publish, out: &mut Vec<Effect>) {
        let name = match RoomName::parse(&publish.room) {
            Ok(name) => name,
            Err(cause) => return self.refuse(key, &publish.reply, &cause.into(), out),
        };
        let evaluated = self.right(key, &name);
        let Some(session) = self.session_mut(key) else { return };
        let Some(who) = session.who.as_deref() else { return };
        let allowed = evaluated.filter(|evaluated| match evaluated.right {
            PublishRight::Yes => true,
            PublishRight::OwnAgent => who.agent_id.is_some() && who.agent_id == publish.agent_id,
            PublishRight::No => false,
        });
        let Some(Evaluated { rule, .. }) = allowed else {
            return self.deny(key, &publish.reply, (Right::Publish, &name), out);
        };
        session.ids_made += 1;
        let made = || made_id(session.id.0, session.ids_made);
        let id = publish.id.clone().unwrap_or_else(made);
        let publication = publication_of(publish, name, id.clone(), who, now);
        let (reply, wants_ack, publication) = publication;
        let types = &self.guard.policy(rule).types;
        if !types.is_empty() && !types.contains(&publication.kind) {
            let text = format!("This room takes only the types {}", types.join(", "));
            let refused = Refused::because(Refusal::Schema, text.into());
            return self.refuse(key, &reply, &refused, out);
        }
        let ack = wants_ack.then_some(id);
        out.push(Effect::Hub(HubMessage::Publish {
            dedup: ack.is_some(),
            ticket: Ticket::Session { lane: self.id, session: key, reply, ack },
            publication: Arc::new(publication),
        }));
    }
}

/// Against which of its user's limits a command counts, and where a refusal belongs.
enum Counts<'a> {
    /// Messages.
    Message(&'a ReplyTo),
    /// Acks, keep-alives and refreshes.
    Control(&'a ReplyTo),
    /// It is counted where it is acted on, or was before.
    Itself,
}

/// What acks have.
static NO_REPLY: ReplyTo = ReplyTo { id: None, room: None, part: false };

const fn counts_as(command: &Command) -> Counts<'_> {
    match command {
        Command::Join(request) | Command::Leave(request) => Counts::Message(&request.reply),
        Command::Publish(publish) => Counts::Message(&publish.reply),
        Command::History(request) => Counts::Message(&request.reply),
        Command::Presence(request) => Counts::Message(&request.reply),
        Command::Receipts(request) => Counts::Message(&request.reply),
        Command::Request(request) => Counts::Message(&request.reply),
        Command::Converse(request) => Counts::Message(&request.reply),
        Command::Conversations(reply) => Counts::Message(reply),
        Command::Unreadable(unreadable) => Counts::Message(&unreadable.reply),
        Command::Authenticate(request) => Counts::Control(&request.reply),
        Command::Mark(request) => Counts::Control(&request.reply),
        Command::Ack { .. } | Command::AckEvent(_) => Counts::Control(&NO_REPLY),
        Command::Rooms(_) | Command::KeepAlive(_) | Command::Away => Counts::Itself,
    }
}

/// An id for a publication that came without one: a UUID (version 8, RFC 9562 5.8) of session and count.
fn made_id(session: u128, count: u64) -> Box<str> {
    let mixed =
        session ^ (u128::from(count) << 64) ^ u128::from(count.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let versioned = (mixed & !(0xf << 76) & !(0x3 << 62)) | (0x8 << 76) | (0x2 << 62);
    let hex = format!("{versioned:032x}");
    let part = |from, to| hex.get(from..to).unwrap_or_default();
    let parts = [part(0, 8), part(8, 12), part(12, 16), part(16, 20), part(20, 32)];
    parts.join("-").into()
}

/// The publication that a publish becomes, whoever accepts it: a lane, or the server API.
///
/// Users speak for themselves; a back-end may say for whom it speaks. Answers with the reply, whether an ack is
/// wanted, and the publication.
pub fn publication_of(
    publish: Publish,
    room: RoomName,
    id: Box<str>,
    who: &Principal,
    now: Now,
) -> (ReplyTo, bool, Publication) {
    let mut requires = publish.requires;
    requires.sort_unstable();
    requires.dedup();
    let claimed = publish.sender.filter(|_| who.kind == Kind::Backend);
    let publication = Publication {
        room,
        id,
        kind: publish.kind,
        timestamp: publish.timestamp.unwrap_or_else(|| iso8601(now.unix_ms).into()),
        sender: claimed.unwrap_or_else(|| who.user_key().into()),
        content: publish.content,
        priority: publish.priority,
        ttl_s: publish.ttl_s,
        expires_unix_ms: publish
            .ttl_s
            .map(|ttl| now.unix_ms.saturating_add(u64::from(ttl) * 1_000)),
        correlation_id: publish.correlation_id,
        requires,
        // Who publishes as a user cannot burden others: their room's rule can.
        requires_ack: publish.members_ack && who.kind == Kind::Backend,
        isolated: false,
        origin: None,
        position: None,
        put_under: None,
    };
    (publish.reply, publish.wants_ack, publication)
}

/// The refusal of one too many, if it is one.
fn over(taken: Result<(), u64>, limit: LimitName, max: u32) -> Option<Refused> {
    let wait_ms = taken.err()?;
    Some(Refused::limit(Refusal::RateLimit, limit, u64::from(max), Some(wait_ms)))
}
