//! What the checker found: sums for the whole scene and for the time of each fault, and what is wrong, in words.

use crate::record::Facts;

/// Violations that are kept in words; all are counted.
const TEXTS_MAX: usize = 12;

/// Sums over some time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// Publications that were accepted.
    pub(crate) accepted: u64,
    /// Of the node's own members only, and said so.
    pub(crate) isolated: u64,
    /// Whose outcome nobody knows.
    pub(crate) unknown: u64,
    /// Refused for good.
    pub(crate) refused: u64,
    /// How often publications were sent again.
    pub(crate) repeated_sends: u64,
    /// Deliveries to members.
    pub(crate) delivered: u64,
    /// Deliveries that a client drops, because it has the id.
    pub(crate) raw_repeats: u64,
    /// Those that it does not.
    pub(crate) repeats: u64,
    /// Offsets that did not rise.
    pub(crate) out_of_order: u64,
    /// Offsets left out in silence.
    pub(crate) holes: u64,
    /// Accepted, missed by a member, which was told.
    pub(crate) lost_told: u64,
    /// The same, and it was not told.
    pub(crate) lost_untold: u64,
    /// Gaps that members were told of.
    pub(crate) gaps: u64,
    /// Skips that members were told of, and the offsets in them.
    pub(crate) skips: u64,
    pub(crate) skipped: u64,
    /// Rejoins that brought all, and those that did not.
    pub(crate) recovered: u64,
    pub(crate) unrecovered: u64,
    /// Positions that name two publications.
    pub(crate) two_payloads: u64,
    /// Publications that stand twice in one incarnation.
    pub(crate) two_places: u64,
    /// All that is wrong.
    pub(crate) violations: u64,
}

impl Tally {
    /// Both together.
    pub(crate) fn plus(self, other: Self) -> Self {
        Self {
            accepted: self.accepted + other.accepted,
            isolated: self.isolated + other.isolated,
            unknown: self.unknown + other.unknown,
            refused: self.refused + other.refused,
            repeated_sends: self.repeated_sends + other.repeated_sends,
            delivered: self.delivered + other.delivered,
            raw_repeats: self.raw_repeats + other.raw_repeats,
            repeats: self.repeats + other.repeats,
            out_of_order: self.out_of_order + other.out_of_order,
            holes: self.holes + other.holes,
            lost_told: self.lost_told + other.lost_told,
            lost_untold: self.lost_untold + other.lost_untold,
            gaps: self.gaps + other.gaps,
            skips: self.skips + other.skips,
            skipped: self.skipped + other.skipped,
            recovered: self.recovered + other.recovered,
            unrecovered: self.unrecovered + other.unrecovered,
            two_payloads: self.two_payloads + other.two_payloads,
            two_places: self.two_places + other.two_places,
            violations: self.violations + other.violations,
        }
    }
}

/// What was found of one fault.
#[derive(Clone, Debug)]
pub(crate) struct FaultVerdict {
    pub(crate) name: String,
    injected_us: u64,
    /// From its beginning to that of the next one.
    pub(crate) tally: Tally,
    /// How long the slowest member took to be current. Units: microseconds.
    pub(crate) slowest_us: u64,
    /// Members of rooms that never were.
    pub(crate) never: u64,
    /// One of them, and its room.
    pub(crate) who: Option<(usize, usize)>,
}

/// What was found of a scene.
#[derive(Clone, Debug)]
pub(crate) struct Verdict {
    pub(crate) total: Tally,
    pub(crate) faults: Vec<FaultVerdict>,
    pub(crate) texts: Vec<String>,
}

impl Verdict {
    pub(super) fn new(facts: &Facts) -> Self {
        let fault = |fault: &crate::record::Fault| FaultVerdict {
            name: fault.name.clone(),
            injected_us: fault.injected_us,
            tally: Tally::default(),
            slowest_us: 0,
            never: 0,
            who: None,
        };
        let faults = facts.faults.iter().map(fault).collect();
        Self { total: Tally::default(), faults, texts: Vec::new() }
    }

    /// Counts something that happened then.
    pub(super) fn at(&mut self, at_us: u64, count: impl Fn(&mut Tally)) {
        count(&mut self.total);
        if let Some(fault) = self.faults.iter_mut().rev().find(|fault| fault.injected_us <= at_us) {
            count(&mut fault.tally);
        }
    }

    /// Something is wrong.
    pub(super) fn violation(&mut self, at_us: u64, text: &str) {
        self.at(at_us, |tally| tally.violations += 1);
        if self.texts.len() < TEXTS_MAX {
            let second = at_us / 1_000_000;
            self.texts.push(format!("{second} s: {text}"));
        }
    }

    /// Counts how long a member of a room took to be current after a fault.
    pub(super) fn current(&mut self, fault: usize, who: (usize, usize), took_us: Option<u64>) {
        let Some(fault) = self.faults.get_mut(fault) else { return };
        match took_us {
            Some(took_us) if took_us <= fault.slowest_us => {}
            Some(took_us) => {
                fault.slowest_us = took_us;
                if fault.never == 0 {
                    fault.who = Some(who);
                }
            }
            None => {
                fault.never += 1;
                fault.who = Some(who);
            }
        }
    }
}

/// A room's name.
pub(super) fn name_of(facts: &Facts, room: usize) -> String {
    facts.rooms.get(room).map(|room| room.name.clone()).unwrap_or_default()
}
