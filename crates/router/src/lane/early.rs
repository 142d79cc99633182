//! What a session may do before its token: nothing but say it, and hear what is wrong with what it says instead. Never
//! tells a client to get another token because of anything but its token.

use roomcast_protocol::codes::{Close, Refusal, Refused};
use roomcast_protocol::command::{Command, Unreadable};
use roomcast_protocol::ids::SessionKey;
use roomcast_protocol::time::Now;

use super::Lane;
use super::happenings::NO_TOKEN;
use crate::messages::Effect;
use crate::session::{Early, Phase};

/// Messages that are answered before a token came: nobody's limit counts them yet.
const EARLY_ANSWERS_MAX: u8 = 16;

/// What a client is told that says something else first.
pub(super) const TOKEN_FIRST: &str =
    "The first message must bring a token: {\"type\":\"auth\",\"token\":\"..\"}";

impl Lane {
    /// Takes one command of a session that has brought no token.
    pub(super) fn early_command(
        &mut self,
        now: Now,
        key: SessionKey,
        command: &Command,
        out: &mut Vec<Effect>,
    ) {
        let refused = match command {
            Command::Authenticate(request) => return self.authenticate(now, key, request, out),
            Command::KeepAlive(timestamp) => {
                if self.answers_early(key, false, out) {
                    self.pong(now, key, timestamp.as_deref(), out);
                }
                return;
            }
            Command::Unreadable(unreadable) if unreadable.authenticates => {
                // Mended it is the one that must come first.
                unreadable.refused.clone()
            }
            Command::Unreadable(Unreadable { refused, .. }) => Refused {
                // Mended it would be refused all the same.
                message: format!("{}. {TOKEN_FIRST}", refused.message).into(),
                ..refused.clone()
            },
            Command::Join(_)
            | Command::Leave(_)
            | Command::Rooms(_)
            | Command::History(_)
            | Command::Presence(_)
            | Command::Mark(_)
            | Command::Receipts(_)
            | Command::Request(_)
            | Command::Publish(_)
            | Command::Converse(_)
            | Command::Conversations(_)
            | Command::Away
            | Command::AckEvent(_)
            | Command::Ack { .. } => Refused::because(Refusal::Schema, TOKEN_FIRST.into()),
        };
        if self.answers_early(key, true, out) {
            self.refuse_command(key, command, &refused, out);
        }
    }

    /// Counts an answer, and ends the session if there were too many.
    fn answers_early(&mut self, key: SessionKey, refuses: bool, out: &mut Vec<Effect>) -> bool {
        let Some(session) = self.session_mut(key) else { return false };
        let Phase::Connecting(early) = &mut session.phase else { return false };
        if early.answers >= EARLY_ANSWERS_MAX {
            self.offended(key, || NO_TOKEN, out);
            self.close(key, Close::Flood, out);
            return false;
        }
        early.answers += 1;
        early.refused |= refuses;
        true
    }

    /// No token came in time. A client that was told what is wrong needs no new token, but mending.
    pub(super) fn end_tokenless(&mut self, key: SessionKey, out: &mut Vec<Effect>) {
        let Some(session) = self.session(key) else { return };
        let close = match session.phase {
            Phase::Connecting(Early { refused: true, .. }) => Close::Protocol,
            Phase::Connecting(_) | Phase::Attaching | Phase::Joining(_) | Phase::Ready => {
                Close::Unauthorized
            }
        };
        self.offended(key, || NO_TOKEN, out);
        self.close(key, close, out);
    }
}
