//! Deadlines of rooms and reads, beside the sessions' own: a queue by time whose entries are looked at again when they
//! ring, so that nothing is taken out of it before.

use std::collections::BTreeSet;

use roomcast_protocol::ids::SessionKey;
use roomcast_protocol::time::Now;

use super::Lane;
use crate::messages::Effect;

/// How coarse alarms are, so that those of many rooms ring together. Units: milliseconds.
pub(super) const SLOT_MS: u64 = 250;

/// What an alarm is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Alarm {
    /// Members of a room have skips to be told: the room's index and serial.
    Skips(u32, u32),
    /// A member catches up: the room's and the session's index.
    CatchUp(u32, u32),
    /// A read of the broker.
    Read(u64),
    /// A session's record has changed.
    Save(SessionKey),
    /// A session waits for the one it wants back.
    Attach(SessionKey),
    /// A session's welcome waits for rooms from before.
    Welcome(SessionKey),
    /// A session's acks.
    Acks(SessionKey),
    /// Members of a room with receipts were given something: the room's index and serial.
    Receipts(u32, u32),
}

/// Alarms by their time.
#[derive(Debug, Default)]
pub(super) struct Alarms(BTreeSet<(u64, Alarm)>);

impl Alarms {
    /// Has it ring at `at_ms`, or up to a slot earlier; says when.
    pub(super) fn set(&mut self, at_ms: u64, alarm: Alarm) -> u64 {
        let at_ms = at_ms / SLOT_MS * SLOT_MS;
        self.0.insert((at_ms, alarm));
        at_ms
    }

    /// Has it ring at `at_ms`, or up to a slot later; says when.
    pub(super) fn set_behind(&mut self, at_ms: u64, alarm: Alarm) -> u64 {
        let at_ms = at_ms.div_ceil(SLOT_MS).saturating_mul(SLOT_MS);
        self.0.insert((at_ms, alarm));
        at_ms
    }

    /// When the next one rings. Units: monotonic milliseconds.
    pub(super) fn next_wake(&self) -> Option<u64> {
        self.0.first().map(|(at_ms, _)| *at_ms)
    }

    /// Takes one whose time has come.
    fn due(&mut self, mono_ms: u64) -> Option<Alarm> {
        let first = self.0.first()?;
        if first.0 > mono_ms {
            return None;
        }
        self.0.pop_first().map(|(_, alarm)| alarm)
    }

    /// Entries, those included that no longer count.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

impl Lane {
    /// Acts on alarms whose time has come.
    pub(super) fn ring(&mut self, now: Now, out: &mut Vec<Effect>) {
        while let Some(alarm) = self.alarms.due(now.mono_ms) {
            match alarm {
                Alarm::Skips(room, serial) => self.tell_waiting_skips(now, room, serial),
                Alarm::CatchUp(room, session) => self.end_late_catch_up(now, room, session, out),
                Alarm::Read(query) => self.page(now, query, None, out),
                Alarm::Save(key) => self.save_if_due(now, key, out),
                Alarm::Attach(key) => self.end_late_attach(now, key, out),
                Alarm::Welcome(key) => self.end_late_welcome(now, key, out),
                Alarm::Acks(key) => self.ring_acks(now, key, out),
                Alarm::Receipts(room, serial) => self.ping_for_receipts(now, room, serial, out),
            }
        }
        self.answer_groups(now, out);
    }
}
