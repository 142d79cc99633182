//! What clients of the chat dialect hear: they show each event once, ack it, and take their answers.

use super::packets::{Packet, Payload, Refusal, Shown};
use super::{AGAIN_MS, Asked, Turn, dialog, name, user_named};
use crate::world::{Event, HEAL_MS, World};

/// Errors after which the same is not asked again: the message that is meant is not there, or another's.
const FINAL: [&str; 2] = ["There is no such message", "Only its author"];

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
        let payload = match packet.payload() {
            Ok(payload) => payload,
            Err(cause) => return self.book.violate("wire", &about, || cause),
        };
        match packet.kind.as_deref() {
            Some("event") => self.talker_told(talker, &packet, &payload),
            Some("response") => self.talker_answered(talker, packet.id(), payload),
            other => {
                let text = format!("t{talker} hears {other:?}");
                self.book.violate("wire", &about, || text);
            }
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
        let is_final = FINAL.iter().any(|text| refusal.exception.starts_with(text));
        if let (Asked::Saying(number), true) = (asked, is_final) {
            self.talkers.all[talker].waiting.remove(&id);
            self.check_refused_saying(number, &refusal.exception);
        }
    }

    fn talker_answered(&mut self, talker: usize, id: Option<u64>, payload: Payload) {
        let waiting = id.and_then(|id| self.talkers.all[talker].waiting.remove(&id));
        let Some(waiting) = waiting else { return };
        match waiting.asked {
            Asked::Saying(number) => {
                self.stats.chat_answered += 1;
                self.check_answered(number, payload.message_id, &payload.client_message_id);
            }
            Asked::Mark => {}
            Asked::Messages { with, last } => {
                self.stats.chat_messages += 1;
                let messages = payload.messages.unwrap_or_default();
                self.talker_shown(talker, with, &messages);
                if last {
                    self.talkers.all[talker].last.insert(with, messages);
                }
            }
        }
    }

    /// Messages are answered: each is what was said, and none is less far than it was.
    fn talker_shown(&mut self, talker: usize, with: usize, messages: &[Shown]) {
        let (user, seq) = (self.talkers.all[talker].user, self.bus.executed);
        for message in messages {
            self.check_shown(talker, (user, with), message);
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
        if matches!(kind, "online" | "offline") {
            return self.talker_told_of(talker, packet, payload);
        }
        let Some(with) = user_named(&payload.chat_id) else {
            let text = format!("t{talker} hears of {}", payload.chat_id);
            return self.book.violate("chat: privacy", &about, || text);
        };
        let Some(event) = packet.id() else { return };
        self.plan_chat_ack(talker, event);
        let seen = (event, packet.timestamp.unwrap_or_default());
        if !self.talkers.all[talker].seen.insert(seen) {
            self.stats.chat_again += 1;
            return;
        }
        match kind {
            "new" | "edit" | "delete" => {
                let key = (kind.to_owned(), dialog(user, with), payload.client_message_id.clone());
                let is_new = self.talkers.all[talker].shown.insert(key);
                self.check_event(talker, (user, with), (kind, is_new), payload);
                let newest = self.talkers.all[talker].newest.entry(with).or_default();
                *newest = payload.message_id.max(*newest);
            }
            "dlvrd" | "read" => {
                let number = payload.message_id;
                self.check_mark(talker, kind, (user, with), number);
            }
            other => {
                let text = format!("t{talker} hears an event of type {other} of {}", name(with));
                self.book.violate("wire", &about, || text);
            }
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
