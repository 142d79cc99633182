//! What clients of the chat dialect hear: they show each event once, ack it, and take their answers.

use roomcast_protocol::conversation::EventRef;

use super::packets::{Chat, Packet, Payload, Refusal, Shown};
use super::{AGAIN_MS, Asked, Turn, chat_named, is_group, name, room_of, user_named};
use crate::check::dialogs::TAKEN_BACK;
use crate::world::{Event, HEAL_MS, World};

/// Errors after which the same is not asked again: the message that is meant is not there, or another's, or taken back.
const FINAL: [&str; 3] = ["There is no such message", "Only its author", TAKEN_BACK];

/// How the error begins that those get who name a group and are none of its members.
const NO_MEMBER: &str = "chatId names a group";

/// Whether the event of this number stands in the user's own room.
fn is_own(event: u64) -> bool {
    matches!(EventRef::numbered(event), EventRef::Own(_))
}

impl World {
    /// A client reads a packet.
    pub(crate) fn talker_hears(&mut self, talker: usize, text: &str) {
        self.trace.see(text.len() as u64);
        self.trace.line(self.now_ms, || format!("t{talker} <- {text}"));
        let about = [format!("t{talker}")];
        let packet = match Packet::read(text) {
            Ok(packet) => packet,
            Err(cause) => return self.book.violate("wire", &about, || cause),
        };
        if packet.event.is_some() {
            self.talkers.all[talker].ready = true;
            return;
        }
        if let Some(refusal) = &packet.error {
            return self.talker_refused(talker, refusal);
        }
        let taken = match packet.kind.as_deref() {
            Some("event") => {
                packet.payload().map(|payload| self.talker_told(talker, &packet, &payload))
            }
            Some("response") => self.talker_answered(talker, &packet),
            other => Err(format!("t{talker} hears {other:?}")),
        };
        if let Err(cause) = taken {
            self.book.violate("wire", &about, || cause);
        }
    }

    fn talker_refused(&mut self, talker: usize, refusal: &Refusal<'_>) {
        self.stats.chat_refused += 1;
        let Some(id) = refusal.id.as_deref().and_then(|id| id.parse::<u64>().ok()) else {
            let (about, text) = ([format!("t{talker}")], format!("t{talker}: {refusal:?}"));
            return self.book.violate("wire", &about, || text);
        };
        let again_ms = self.now_ms + AGAIN_MS;
        let Some(waiting) = self.talkers.all[talker].waiting.get_mut(&id) else { return };
        waiting.again_ms = again_ms;
        let asked = waiting.asked.clone();
        if refusal.exception.starts_with(NO_MEMBER) {
            self.talkers.all[talker].waiting.remove(&id);
            return self.talker_turned_away(talker, &asked);
        }
        let is_final = FINAL.iter().any(|text| refusal.exception.starts_with(text));
        if let (Asked::Saying(number), true) = (asked, is_final) {
            self.talkers.all[talker].waiting.remove(&id);
            self.check_refused_saying(number, &refusal.exception);
        }
    }

    /// Something of a group is refused: its user is no member, as far as anybody knows.
    fn talker_turned_away(&mut self, talker: usize, asked: &Asked) {
        let (group, seq) = match asked {
            Asked::Saying(number) => {
                let it = &self.book.dialogs.sayings[*number];
                (it.people.1, it.asked)
            }
            Asked::Messages { with, seq, .. } => (*with, *seq),
            // A member is missing the group in the end.
            Asked::Chat(_) | Asked::Mark | Asked::Chats => return,
        };
        let user = self.talkers.all[talker].user;
        if !is_group(group) || self.is_in_since(user, group, seq) {
            let about = [format!("t{talker}")];
            let text = format!("t{talker} asks {asked:?}, and is told to be no member of it");
            self.book.violate("chat: members", &about, || text);
        }
    }

    fn talker_answered(&mut self, talker: usize, packet: &Packet<'_>) -> Result<(), String> {
        let waiting = packet.id().and_then(|id| self.talkers.all[talker].waiting.remove(&id));
        let Some(waiting) = waiting else { return Ok(()) };
        match waiting.asked {
            Asked::Saying(number) => {
                let payload = packet.payload()?;
                self.stats.chat_answered += 1;
                self.check_answered(number, payload.message_id, &payload.client_message_id);
            }
            Asked::Mark => {}
            Asked::Chat(group) => {
                let chat: Chat = packet.payload_as("{}")?;
                self.talkers.all[talker].groups.insert(group, chat);
            }
            Asked::Chats => self.talkers.all[talker].chats = packet.payload_as("[]")?,
            Asked::Messages { with, last, seq } => {
                self.stats.chat_messages += 1;
                let messages = packet.payload()?.messages.unwrap_or_default();
                self.talker_shown(talker, (with, seq), &messages);
                if last {
                    self.talkers.all[talker].last.insert(with, messages);
                }
            }
        }
        Ok(())
    }

    /// Messages are answered: each is what was said, and none is less far than it was.
    fn talker_shown(&mut self, talker: usize, (with, asked): (usize, u64), messages: &[Shown]) {
        let (user, seq) = (self.talkers.all[talker].user, self.bus.executed);
        for message in messages {
            self.check_shown(talker, (user, with), (message, asked));
            if is_group(with) && self.is_strayed(user, with, message) {
                continue;
            }
            let id = message.client_message_id.clone();
            let key = (with, message.message_id, id);
            let before = self.talkers.all[talker].ranks.insert(key, (message.rank(), seq));
            if let Some((rank, since)) = before
                && rank > message.rank()
                && !self.talks_blurred_since(since)
            {
                let about = [format!("t{talker}"), message.client_message_id.clone()];
                let text = format!("t{talker} was told that {message:?} was at {rank}");
                self.book.violate("chat: marks", &about, || text);
            }
        }
    }

    /// An event comes: it is acked, and shown unless it was.
    fn talker_told(&mut self, talker: usize, packet: &Packet<'_>, payload: &Payload) {
        self.stats.chat_events += 1;
        let kind = packet.event_type.as_deref().unwrap_or_default();
        let user = self.talkers.all[talker].user;
        let about = [format!("t{talker}"), payload.client_message_id.clone()];
        self.note_event(talker, packet, payload);
        if matches!(kind, "online" | "offline") {
            return self.talker_told_of(talker, packet, payload);
        }
        let Some(with) = chat_named(&payload.chat_id) else {
            let text = format!("t{talker} hears of {}", payload.chat_id);
            return self.book.violate("chat: privacy", &about, || text);
        };
        let Some(event) = packet.id() else { return };
        self.plan_chat_ack(talker, event);
        if !self.talkers.all[talker].seen.insert(event) {
            self.stats.chat_again += 1;
            return;
        }
        match kind {
            "new" | "edit" | "delete" if is_group(with) && is_own(event) => {
                self.check_strayed(talker, payload);
            }
            "new" | "edit" | "delete" => {
                let room = room_of(user, with);
                if is_group(with) {
                    self.note_rise(talker, with, payload);
                }
                let key = (kind.to_owned(), room, payload.client_message_id.clone());
                let is_new = self.talkers.all[talker].shown.insert(key);
                self.check_event(talker, (user, with), (kind, is_new), payload);
                let newest = self.talkers.all[talker].newest.entry(with).or_default();
                *newest = payload.message_id.max(*newest);
            }
            "dlvrd" | "read" => self.check_mark(talker, kind, (user, with), payload),
            other => {
                let text = format!("t{talker} hears an event of type {other} of {}", name(with));
                self.book.violate("wire", &about, || text);
            }
        }
    }

    /// The number of an event means one thing, whatever it is of.
    fn note_event(&mut self, talker: usize, packet: &Packet<'_>, payload: &Payload) {
        let Some(event) = packet.id() else { return };
        let Payload { chat_id, user_id, message_id, client_message_id, .. } = payload;
        let kind = packet.event_type.as_deref().unwrap_or_default();
        let means = format!("{kind} {chat_id} {user_id} {message_id} {client_message_id}");
        let events = &mut self.talkers.all[talker].events;
        let before = events.entry(event).or_insert_with(|| means.clone()).clone();
        if before != means {
            let about = [format!("t{talker}"), event.to_string()];
            self.book.violate("chat: event ids", &about, || {
                format!("t{talker} is told event {event} as {means:?}, and was as {before:?}")
            });
        }
    }

    /// What a member is shown of a group, its own aside, rises.
    fn note_rise(&mut self, talker: usize, group: usize, payload: &Payload) {
        let room = room_of(0, group);
        let placed = self.book.dialogs.placed(&room, &payload.client_message_id).first();
        let (seq, it) = (placed.map_or(0, |it| it.seq), &mut self.talkers.all[talker]);
        if payload.sender == name(it.user) {
            return;
        }
        let shown = payload.message_id;
        if let Some((before, since)) = it.rose.insert(group, (shown, seq))
            && before > shown
            && !self.talks_blurred_since(since)
        {
            let about = [format!("t{talker}"), payload.client_message_id.clone()];
            self.book.violate("chat: event ids", &about, || {
                format!("t{talker} is shown {shown} of {} behind {before}", name(group))
            });
        }
    }

    /// Who else is online, or not any more: somebody with whom the user may have a dialog.
    fn talker_told_of(&mut self, talker: usize, packet: &Packet<'_>, payload: &Payload) {
        let user = self.talkers.all[talker].user;
        if user_named(&payload.user_id).is_none_or(|other| other == user) {
            let about = [format!("t{talker}")];
            let text = format!("t{talker} is told who is online: {payload:?}");
            return self.book.violate("chat: privacy", &about, || text);
        }
        if let Some(event) = packet.id() {
            self.plan_chat_ack(talker, event);
        }
    }

    fn plan_chat_ack(&mut self, talker: usize, event: u64) {
        let Some(socket) = self.talkers.all[talker].socket else { return };
        let random = &mut self.talkers.random;
        let in_ms = match random.below(8) {
            _ if self.now_ms >= HEAL_MS => 0,
            0 => return,
            1 => random.range(500, 9_000),
            _ => random.below(400),
        };
        let again = random.chance(10);
        self.at(self.now_ms + in_ms, Event::Talk(Turn::Ack { socket, event }));
        if again {
            self.at(self.now_ms + in_ms + 50, Event::Talk(Turn::Ack { socket, event }));
        }
    }
}
