//! Commands that wait behind a join of their session. A join that is answered once the record has it takes longer than
//! a publication does, and a client that sends both in one go expects to hear its own publication: what follows such a
//! join waits for it, in order; so does what follows a request for several rooms. Answers nothing by itself, and waits for no broker that is away.

use std::collections::VecDeque;

use roomcast_protocol::codes::{Refusal, Refused};
use roomcast_protocol::command::{Command, ReplyTo};
use roomcast_protocol::ids::SessionKey;
use roomcast_protocol::time::Now;

use super::Lane;
use super::rooms::Waiting;
use crate::messages::Effect;
use crate::session::Membership;

/// Commands of one session that may wait behind its joins.
pub(super) const BEHIND_MAX: usize = 64;

/// The same, by what they carry: beyond it none is added. Units: bytes.
pub(super) const BEHIND_BYTES_MAX: usize = 256 << 10;

/// When to send again what was refused. Units: milliseconds.
const RETRY_MS: u64 = 1_000;

/// What waits behind the joins of one session.
#[derive(Debug, Default)]
pub(super) struct Behind {
    commands: VecDeque<Command>,
    /// Units: bytes.
    bytes: usize,
}

impl Lane {
    /// Has the command wait if it must not overtake a join, or something that waits already; else gives it back.
    pub(super) fn wait_behind_join(
        &mut self,
        key: SessionKey,
        command: Command,
        out: &mut Vec<Effect>,
    ) -> Option<Command> {
        let Some(bytes) = waiting_bytes(&command) else { return Some(command) };
        // Joins and leaves keep their order by themselves; they only do not overtake what waits.
        let keeps_order = matches!(command, Command::Join(_) | Command::Leave(_));
        let keeps_order = keeps_order && !self.groups.has(key);
        if !self.behind.contains_key(&key) && (keeps_order || !self.is_joining(key)) {
            return Some(command);
        }
        let behind = self.behind.entry(key).or_default();
        if behind.commands.len() >= BEHIND_MAX || behind.bytes >= BEHIND_BYTES_MAX {
            let text = "Too many commands wait for a room to be joined";
            let refused = Refused::because(Refusal::RateLimit, text.into());
            let refused = Refused { retry_after_ms: Some(RETRY_MS), ..refused };
            self.refuse_command(key, &command, &refused, out);
            return None;
        }
        behind.bytes += bytes;
        behind.commands.push_back(command);
        None
    }

    /// Joins of the session were made, answered or taken back: runs what waits no more.
    pub(super) fn run_behind(&mut self, now: Now, key: SessionKey, out: &mut Vec<Effect>) {
        while self.behind.contains_key(&key) && !self.is_joining(key) {
            let Some(behind) = self.behind.get_mut(&key) else { return };
            let next = behind.commands.pop_front();
            behind.bytes -= next.as_ref().and_then(waiting_bytes).unwrap_or(0);
            if behind.commands.is_empty() {
                self.behind.remove(&key);
            }
            if let Some(command) = next {
                self.ready_command(now, key, command, out);
            }
        }
    }

    /// The client has gone: what it published before it went is published.
    pub(super) fn publish_behind(&mut self, now: Now, key: SessionKey, out: &mut Vec<Effect>) {
        for command in self.behind.remove(&key).unwrap_or_default().commands {
            if matches!(command, Command::Publish(_)) {
                self.ready_command(now, key, command, out);
            }
        }
    }

    /// The broker is away: joins are not recorded now, and made all the same.
    pub(super) fn make_joins_unrecorded(&mut self, now: Now, out: &mut Vec<Effect>) {
        for key in self.keys_of(|session| {
            let moment = session.lasting.as_deref().and_then(|lasting| lasting.moment.as_ref());
            moment.is_some_and(|moment| !moment.joins.is_empty())
        }) {
            if let Some(moment) = self.lasting_mut(key).and_then(|it| it.moment.as_mut()) {
                moment.joins_written = moment.joins.len();
            }
            self.join_recorded(now, key, out);
        }
    }

    /// Declines a command, whatever it is.
    pub(super) fn refuse_command(
        &mut self,
        key: SessionKey,
        command: &Command,
        refused: &Refused,
        out: &mut Vec<Effect>,
    ) {
        let none = ReplyTo::default();
        let reply = match command {
            Command::Rooms(request) => return self.refuse_rooms(key, request, refused, out),
            Command::Join(request) | Command::Leave(request) => &request.reply,
            Command::History(request) => &request.reply,
            Command::Presence(request) => &request.reply,
            Command::Mark(request) => &request.reply,
            Command::Receipts(request) => &request.reply,
            Command::Request(request) => &request.reply,
            Command::Publish(publish) => &publish.reply,
            Command::Authenticate(request) => &request.reply,
            Command::Unreadable(unreadable) => &unreadable.reply,
            Command::Converse(request) => &request.reply,
            Command::Conversations(reply) => reply,
            Command::KeepAlive(_) | Command::Away | Command::Ack { .. } | Command::AckEvent(_) => {
                &none
            }
        };
        self.refuse(key, reply, refused, out);
    }

    /// Whether a join of the session has yet to be made of which the record has to tell first.
    pub(super) fn is_joining(&self, key: SessionKey) -> bool {
        if self.groups.has(key) {
            return true;
        }
        let Some(session) = self.session(key) else { return false };
        let Some(lasting) = session.lasting.as_deref() else { return false };
        if lasting.moment.as_ref().is_some_and(|moment| !moment.joins.is_empty()) {
            return true;
        }
        let is_untold = |it: &Waiting| it.key == key && it.ask.is_some() && !it.told;
        let waits = |entry: &Membership| {
            let room = self.rooms.get(entry.room as usize);
            entry.place == Membership::WAITING && room.is_some_and(|it| it.joins().any(is_untold))
        };
        lasting.records_first && session.rooms.iter().any(waits)
    }
}

/// What a command that may have to wait carries; `None`: it never waits. Units: bytes.
fn waiting_bytes(command: &Command) -> Option<usize> {
    match command {
        Command::Join(_)
        | Command::Leave(_)
        | Command::History(_)
        | Command::Presence(_)
        | Command::Mark(_)
        | Command::Receipts(_) => Some(0),
        Command::Rooms(request) => Some(request.named.iter().map(|name| name.len()).sum()),
        Command::Request(request) => Some(request.params.len()),
        Command::Publish(publish) => Some(publish.content.len()),
        // A conversation needs no room that may be joined just now.
        Command::Converse(_)
        | Command::Conversations(_)
        | Command::Away
        | Command::Authenticate(_)
        | Command::KeepAlive(_)
        | Command::Ack { .. }
        | Command::AckEvent(_)
        | Command::Unreadable(_) => None,
    }
}
