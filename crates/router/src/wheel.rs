//! Deadlines of one lane: one entry for each session, coarse, re-armed when it fires, so that hearing from a client
//! costs nothing here.

use std::collections::BTreeMap;

use roomcast_protocol::ids::SessionKey;

/// How coarse deadlines are. Units: milliseconds.
const SLOT_MS: u64 = 250;

/// Sessions by the time they want to be looked at.
#[derive(Debug, Default)]
pub(crate) struct Wheel {
    slots: BTreeMap<u64, Vec<SessionKey>>,
}

impl Wheel {
    /// Has `session` looked at, at `at_ms` or up to a slot later.
    pub(crate) fn arm(&mut self, at_ms: u64, session: SessionKey) {
        self.slots.entry(at_ms.div_ceil(SLOT_MS)).or_default().push(session);
    }

    /// Entries, those included that no longer count.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.slots.values().map(Vec::len).sum()
    }

    /// When the next session wants to be looked at. Units: monotonic milliseconds.
    pub(crate) fn next_wake(&self) -> Option<u64> {
        self.slots.first_key_value().map(|(slot, _)| slot.saturating_mul(SLOT_MS))
    }

    /// Takes all sessions whose time has come.
    pub(crate) fn due(&mut self, mono_ms: u64) -> Vec<SessionKey> {
        let later = self.slots.split_off(&(mono_ms / SLOT_MS + 1));
        std::mem::replace(&mut self.slots, later).into_values().flatten().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_are_due_once_and_never_early() {
        let key = |index| SessionKey { index, generation: 0 };
        let mut wheel = Wheel::default();
        wheel.arm(1_001, key(1));
        wheel.arm(1_000, key(2));
        assert_eq!(wheel.next_wake(), Some(1_000));
        assert_eq!(wheel.due(999), []);
        assert_eq!(wheel.due(1_000), [key(2)]);
        assert_eq!(wheel.due(1_200), []);
        assert_eq!(wheel.due(1_250), [key(1)]);
        assert_eq!(wheel.next_wake(), None);
    }
}
