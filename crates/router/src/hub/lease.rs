//! The lives of the node's lease (G19). What one life entered goes with it, so a node whose lease has ended, or that
//! finds a master which may know less, or a lease that was lost, begins another one, enters again who is still there, and
//! gives the former up.

use roomcast_protocol::envelope::{BeatReport, BrokerCommand, MasterId};
use roomcast_protocol::presence::Lease;
use roomcast_protocol::time::Now;

use super::Hub;
use super::watch::BEAT_MS;
use crate::messages::{HubEffect, LaneMessage};

/// How long a lease lasts from its last beat on. Units: milliseconds.
pub const LEASE_MS: u64 = 8_000;

/// How long a hub without a watch goes on with beats after the last session has left, beside the grace. Units:
/// milliseconds.
const SETTLE_MS: u64 = 2_000;

/// The lives of the node's lease.
#[derive(Debug)]
pub(super) struct Lives {
    life: u32,
    /// The life before, until the broker knows that it is over.
    retiring: Option<u32>,
    /// The first beat that says so.
    retired_seq: Option<u64>,
    /// The first beat of this life.
    since_seq: u64,
    /// The lease of this life holds, as far as is known.
    held: bool,
    /// When that was learned last. Units: monotonic milliseconds.
    held_ms: u64,
    /// When this life began, unless it is the first. Units: monotonic milliseconds.
    begun_ms: Option<u64>,
    /// The newest beat that was answered, and under which masters.
    answered: Option<(u64, MasterId)>,
    /// Sessions that have yet to be entered anew, in all rooms.
    pub(super) renewing: usize,
    /// Of a hub without a watch: the newest beat, and when the next one is due. Units: monotonic milliseconds.
    seq: u64,
    beat_ms: Option<u64>,
    /// Until when it goes on with beats. Units: monotonic milliseconds.
    used_until_ms: u64,
}

impl Lives {
    pub(super) const fn new(watched: bool) -> Self {
        Self {
            life: 1,
            retiring: None,
            retired_seq: None,
            since_seq: 1,
            held: !watched,
            held_ms: 0,
            begun_ms: None,
            answered: None,
            renewing: 0,
            seq: 0,
            beat_ms: None,
            used_until_ms: 0,
        }
    }

    pub(super) const fn life(&self) -> u32 {
        self.life
    }

    /// Whether something may be entered: a lease that nobody renewed never ends, nor what was entered under it.
    pub(super) const fn holds(&self) -> bool {
        self.held
    }

    /// The life that beats are to end.
    const fn retired(&self) -> Option<u32> {
        if self.retired_seq.is_some() { self.retiring } else { None }
    }
}

impl Hub {
    /// A beat was answered: what it gives to tell is told, and whether the lease holds is seen.
    pub(super) fn see_report(
        &mut self,
        now: Now,
        seq: u64,
        report: &BeatReport,
        out: &mut Vec<HubEffect>,
    ) {
        for diff in &report.agents {
            self.tell_of_agents(now, diff);
        }
        self.see_unread(&report.unread);
        // Late answers, and those about the life before, say nothing of this one.
        let newest = self.lives.answered.map_or(0, |(newest, _)| newest);
        if seq < self.lives.since_seq || seq <= newest {
            return;
        }
        let before = self.lives.answered.replace((seq, report.masters));
        match report.lease {
            Lease::Lost => self.begin_life(now, true, out),
            Lease::Held | Lease::New => {
                self.lives.held = true;
                self.lives.held_ms = now.mono_ms;
                if self.lives.retired_seq.is_some_and(|since| seq >= since) {
                    self.lives.retiring = None;
                    self.lives.retired_seq = None;
                    self.tell_watch();
                }
                let renamed = before.is_some_and(|(_, masters)| masters != report.masters);
                // A beat of this life has renewed it before.
                let since_seq = self.lives.since_seq;
                let forgotten =
                    report.lease == Lease::New && before.is_some_and(|(seq, _)| seq >= since_seq);
                if (renamed || forgotten) && !self.presence.is_unused() {
                    self.begin_life(now, false, out);
                }
            }
        }
    }

    /// The node was stopped for a while: its lease may have ended meanwhile.
    pub(super) fn see_stop(&mut self, now: Now, out: &mut Vec<HubEffect>) {
        let uses = self.lives.held && !self.presence.is_unused();
        if uses && now.mono_ms >= self.lives.held_ms.saturating_add(LEASE_MS) {
            self.begin_life(now, true, out);
        }
    }

    /// Another life begins. If who is there is in `doubt`, the lanes are asked, and the former life is given up at once;
    /// else all are entered again before.
    pub(super) fn begin_life(&mut self, now: Now, doubt: bool, out: &mut Vec<HubEffect>) {
        self.counters.lives += 1;
        self.lives.retiring = Some(self.lives.life);
        self.lives.retired_seq = None;
        self.lives.life = self.lives.life.saturating_add(1);
        self.lives.held = false;
        self.lives.since_seq = self.next_seq();
        self.renew_entries(now, doubt);
        if doubt && self.presence.present() > 0 {
            let since_ms = now.mono_ms;
            self.tell_lanes(|| LaneMessage::Presents { since_ms }, out);
        }
        // Not in a storm, whatever the broker says.
        let rested = self.lives.begun_ms.is_none_or(|at| now.mono_ms >= at.saturating_add(BEAT_MS));
        self.lives.begun_ms = Some(now.mono_ms);
        if let Some(watch) = self.watch.as_mut().filter(|_| rested) {
            watch.hurry();
        }
        self.see_renewed();
        self.tell_watch();
    }

    /// All are entered again: the former life is over.
    pub(super) fn see_renewed(&mut self) {
        let waits = self.lives.retiring.is_some() && self.lives.retired_seq.is_none();
        if waits && self.lives.renewing == 0 {
            self.lives.retired_seq = Some(self.next_seq());
            self.tell_watch();
        }
    }

    fn next_seq(&self) -> u64 {
        self.watch.as_ref().map_or(self.lives.seq + 1, |watch| watch.next_seq())
    }

    fn tell_watch(&mut self) {
        if let Some(watch) = &mut self.watch {
            watch.live(self.lives.life, self.lives.retired());
        }
    }

    /// Sends a beat, where no watch does, while something is entered or has yet to be settled, or to learn which rooms became
    /// occupied.
    pub(super) fn beat_alone(&mut self, now: Now, out: &mut Vec<HubEffect>) {
        if self.watch.is_some() {
            return;
        }
        if !self.presence.is_unused() || self.notices.owes() || self.config.occupancy {
            let lasts_ms = self.config.leave_grace_ms.saturating_add(SETTLE_MS);
            self.lives.used_until_ms = now.mono_ms.saturating_add(lasts_ms);
            self.lives.beat_ms.get_or_insert(now.mono_ms);
        }
        let Some(beat_ms) = self.lives.beat_ms.filter(|at| *at <= now.mono_ms) else { return };
        if now.mono_ms >= self.lives.used_until_ms {
            self.lives.beat_ms = None;
            return;
        }
        self.lives.beat_ms = Some(beat_ms.max(now.mono_ms).saturating_add(BEAT_MS));
        self.lives.seq += 1;
        out.push(HubEffect::Broker(BrokerCommand::Beat {
            seq: self.lives.seq,
            hears: true,
            life: self.lives.life,
            retired: self.lives.retired(),
            taken: Vec::new(),
            told: self.notices.take_told(),
            reads: self.config.occupancy,
        }));
    }

    /// The next beat goes out at once.
    pub(super) fn hurry_beat(&mut self, now: Now) {
        match &mut self.watch {
            Some(watch) => watch.hurry(),
            None => self.lives.beat_ms = Some(now.mono_ms),
        }
    }

    /// When [`Hub::beat_alone`] has something to do.
    pub(super) const fn next_beat_alone_ms(&self) -> Option<u64> {
        self.lives.beat_ms
    }
}
