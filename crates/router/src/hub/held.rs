//! What conversations hold in the hub: all that is asked of them, and what that has read so far. Owns how much that may be,
//! and is where every answer of the broker to them comes in. Whoever holds something gives it back when it is over.

use roomcast_protocol::codes::Refused;
use roomcast_protocol::time::Now;

use super::Hub;
use super::relay::RETRY_MS;
use super::talks::TALKS_MAX;
use super::watch::RelayState;
use crate::messages::HubEffect;
use crate::talks::{Heard, Step};

/// What is asked of conversations holds, with what it has read, but for one thing that is larger alone. Units: bytes.
pub const TALKS_BYTES_MAX: usize = 64 << 20;

/// Of that, what they were asked with; and as much what they have read: neither leaves the other without.
pub(super) const HALF_BYTES_MAX: usize = TALKS_BYTES_MAX / 2;

/// What one of them holds. Units: bytes.
#[derive(Debug, Default)]
pub(super) struct Load {
    /// What it was asked with, and is made of that.
    pub(super) asked: usize,
    read: usize,
}

impl Load {
    pub(super) const fn asked(asked: usize) -> Self {
        Self { asked, read: 0 }
    }
}

/// What all of them hold. Units: bytes.
#[derive(Debug, Default)]
pub(super) struct Held {
    pub(super) asked: usize,
    pub(super) read: usize,
}

impl Held {
    pub(super) const fn bytes(&self) -> usize {
        self.asked + self.read
    }

    /// Whether there is place for one more that is asked with so much.
    const fn takes(&self, asked: usize) -> bool {
        self.asked == 0 || self.asked + asked <= HALF_BYTES_MAX
    }

    pub(super) const fn begin(&mut self, load: &Load) {
        self.asked += load.asked;
    }

    /// One has read so much by now. Whether it may hold that: what was read before is not given up for it.
    const fn reads(&mut self, load: &mut Load, read: usize) -> bool {
        let grows = read > load.read;
        self.read = self.read - load.read + read;
        load.read = read;
        !grows || self.read <= HALF_BYTES_MAX || self.read == read
    }

    pub(super) const fn end(&mut self, load: &Load) {
        self.asked -= load.asked;
        self.read -= load.read;
    }
}

impl Hub {
    /// Why nothing more that was asked with so many bytes can be begun; `None`: it can. `counts`: their number is bounded
    /// here alone.
    pub(super) fn refuses_talk(&mut self, asked: usize, counts: bool) -> Option<Refused> {
        let full = self.talks.len() >= TALKS_MAX || !self.talks.held.takes(asked);
        if !(full && counts) && self.state() != RelayState::Isolated {
            return None;
        }
        self.counters.talks_refused += 1;
        let text = "The broker is away, or too much is asked of conversations: send it again";
        Some(Refused::unavailable(text.into(), RETRY_MS))
    }

    /// The broker says something to a question of a conversation's.
    pub(super) fn heard_talk(
        &mut self,
        now: Now,
        asked: u64,
        heard: Heard,
        out: &mut Vec<HubEffect>,
    ) {
        if matches!(heard, Heard::Published(Err(_))) {
            // It may have been an entry of a list.
            self.talks.doubt();
        }
        let Some((number, place)) = self.talks.questions.remove(&asked) else { return };
        let Some(open) = self.talks.open.get_mut(&number) else { return };
        let stood = open.talking.must_end();
        let step = open.talking.hear(place, heard);
        let (held, before) = (open.talking.read(), self.talks.held.read);
        let fits = self.talks.held.reads(&mut open.load, held);
        debug_assert!(!stood || self.talks.held.read <= before, "what stands reads no more");
        // Whoever nobody waits for holds no more than a name, or completes what stands.
        let ends = matches!(step, Step::Over(_)) || open.talking.must_end();
        if fits || ends || open.asker.is_none() {
            return self.step_talk(now, number, step, out);
        }
        self.counters.talks_refused += 1;
        let text =
            "Too much is read of conversations just now: ask again later, or for less at once";
        let refused = Refused::unavailable(text.into(), RETRY_MS);
        self.end_talk(now, number, Err(refused), out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_half_is_taken_to_its_bound_and_one_byte_more_is_not() {
        let mut held = Held::default();
        let mut first = Load::asked(HALF_BYTES_MAX - 7);
        held.begin(&first);
        assert!(held.takes(7) && !held.takes(8));
        let mut second = Load::asked(7);
        held.begin(&second);
        assert!(held.reads(&mut first, HALF_BYTES_MAX - 3), "what was asked takes none of it");
        assert!(held.reads(&mut second, 3));
        assert_eq!(held.bytes(), TALKS_BYTES_MAX);
        assert!(!held.reads(&mut second, 4));
        assert!(held.reads(&mut first, 9), "whoever gives back may always");
        held.end(&first);
        held.end(&second);
        assert_eq!(held.bytes(), 0);
    }

    #[test]
    fn what_is_larger_than_all_is_taken_alone() {
        let mut held = Held::default();
        assert!(held.takes(TALKS_BYTES_MAX));
        let mut load = Load::asked(TALKS_BYTES_MAX);
        held.begin(&load);
        assert!(!held.takes(1));
        assert!(held.reads(&mut load, TALKS_BYTES_MAX));
        assert!(!held.reads(&mut Load::default(), 1));
    }
}
