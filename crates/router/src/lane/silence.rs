//! Clients that say nothing: where their dialect wants to hear of them, they are closed, whatever their pongs say.

use roomcast_protocol::codes::Close;
use roomcast_protocol::ids::SessionKey;
use roomcast_protocol::time::Now;

use super::Lane;
use super::counters::add_one;
use super::records::state_after;
use crate::happenings::Ended;
use crate::messages::Effect;

impl Lane {
    /// The session's client is known: from now on it has to say something, if its dialect wants that.
    pub(super) fn listen_to(&mut self, now: Now, key: SessionKey) {
        if self.silence_ms(key) > 0 {
            self.said_ms.insert(key, now.mono_ms);
        }
    }

    /// The session's client says something.
    pub(super) fn spoke(&mut self, now: Now, key: SessionKey) {
        if let Some(said_ms) = self.said_ms.get_mut(&key) {
            *said_ms = now.mono_ms;
        }
    }

    /// Until when it may say nothing. Units: monotonic milliseconds.
    pub(super) fn mute_at_ms(&self, key: SessionKey) -> u64 {
        let said_ms = self.said_ms.get(&key);
        said_ms.map_or(u64::MAX, |said_ms| said_ms.saturating_add(self.silence_ms(key)))
    }

    /// How long it may say nothing; 0: for ever. Units: milliseconds.
    fn silence_ms(&self, key: SessionKey) -> u64 {
        let profile = self.session(key).and_then(|session| self.profile_of(session));
        profile.map_or(0, |profile| profile.silence_ms)
    }

    /// It has said nothing for too long: the session ends, and its client is told since when.
    pub(super) fn end_mute(&mut self, now: Now, key: SessionKey, out: &mut Vec<Effect>) {
        let Some(said_ms) = self.said_ms.get(&key) else { return };
        let said_unix_ms = now.unix_ms.saturating_sub(now.mono_ms.saturating_sub(*said_ms));
        let close = Close::Silent;
        add_one(&mut self.counters.closes, close.index());
        self.end(key, Ended::Closed(close), state_after(close), out);
        out.push(Effect::Silent { to: key.index, said_unix_ms });
    }
}
