//! Follows one member through one room: what it has covered, what it was told to be missing, when it was there.

use std::collections::{HashMap, HashSet, VecDeque};

use roomcast_protocol::position::Position;

use super::verdict::{Verdict, name_of};
use crate::record::{Facts, Record, Sent, What};

/// Ids that a client remembers of each room, to drop what it has.
const IDS_MAX: usize = 1_000;

/// A member was told that publications are missing.
#[derive(Clone, Copy, Debug)]
pub(super) struct Jump {
    pub(super) at_us: u64,
    /// What it had covered; `None`: nothing that has positions.
    from: Option<Position>,
    /// Where it goes on.
    to: Option<Position>,
}

impl Jump {
    /// Whether what stands at this position, sent then, is among what is missing.
    pub(super) fn is_over(&self, at: Position, sent_us: u64) -> bool {
        let (Some(from), Some(to)) = (self.from, self.to) else { return false };
        let behind = at.offset > from.offset;
        let before = at.offset <= to.offset;
        match (at.epoch == from.epoch, at.epoch == to.epoch) {
            (true, true) => behind && before,
            (true, false) => behind,
            (false, true) => before,
            // An incarnation that began and ended meanwhile.
            (false, false) => self.at_us >= sent_us,
        }
    }
}

/// One member in one room.
pub(super) struct Follower<'a> {
    facts: &'a Facts,
    member: usize,
    room: usize,
    kept: bool,
    /// It is a session, which drops repeats itself.
    travels: bool,
    covered: Option<Position>,
    /// Positions from which it began to hear, without a wish for what was before.
    begins: Vec<Position>,
    pub(super) jumps: Vec<Jump>,
    /// From when to when it was there without a break. Units: microseconds.
    pub(super) stays: Vec<(u64, u64)>,
    numbers: HashSet<u64>,
    /// The last ids, as a client keeps them.
    ids: VecDeque<u64>,
    remembered: HashSet<u64>,
    /// The first and last offset of each run that was skipped.
    skips: Vec<(Position, u64)>,
    /// What it heard when, by number. Units: microseconds.
    heard_us: Vec<(u64, u64)>,
    connected_us: Vec<u64>,
    last_us: u64,
}

impl<'a> Follower<'a> {
    pub(super) fn new(facts: &'a Facts, member: usize, room: usize) -> Self {
        Self {
            facts,
            member,
            room,
            kept: facts.rooms.get(room).is_some_and(|room| room.kept),
            travels: facts.members.get(member).is_some_and(|member| member.travels),
            covered: None,
            begins: Vec::new(),
            jumps: Vec::new(),
            stays: Vec::new(),
            numbers: HashSet::new(),
            ids: VecDeque::new(),
            remembered: HashSet::new(),
            skips: Vec::new(),
            heard_us: Vec::new(),
            connected_us: Vec::new(),
            last_us: facts.records.last().map_or(0, |record| record.at_us),
        }
    }

    /// Takes what the member saw next, of whatever room.
    pub(super) fn see(&mut self, record: &Record, verdict: &mut Verdict) {
        let at_us = record.at_us;
        match &record.what {
            What::Connected { .. } => self.connected_us.push(at_us),
            What::Closed { .. } => {
                for (_, until_us) in &mut self.stays {
                    *until_us = at_us.min(*until_us);
                }
            }
            What::Joined { room, since, at, recovered, live } if *room == self.room => {
                self.joined(at_us, (*since, *at), *recovered, *live, verdict);
            }
            What::Heard { room, number, at, isolated } if *room == self.room => {
                self.heard(at_us, *number, verdict);
                if self.kept {
                    self.placed(at_us, *at, *isolated, verdict);
                }
            }
            What::Skipped { room, to, count } if *room == self.room => {
                self.skipped(at_us, *to, *count, verdict);
            }
            What::Gap { room, at }
                if *room == Some(self.room) || (room.is_none() && !self.kept) =>
            {
                self.gap(at_us, *at, verdict);
            }
            What::Strange { room, text } if *room == self.room => {
                self.violation(at_us, verdict, &format!("heard what nobody sent: {text}"));
            }
            What::Joined { .. }
            | What::Heard { .. }
            | What::Skipped { .. }
            | What::Gap { .. }
            | What::Strange { .. } => {}
        }
    }

    fn violation(&self, at_us: u64, verdict: &mut Verdict, text: &str) {
        let (name, member) = (name_of(self.facts, self.room), self.member);
        verdict.violation(at_us, &format!("{name}: {member} {text}"));
    }

    fn joined(
        &mut self,
        at_us: u64,
        (since, at): (Option<Position>, Option<Position>),
        recovered: Option<bool>,
        live: bool,
        verdict: &mut Verdict,
    ) {
        self.stays.push((at_us, self.last_us));
        if !self.kept || !live {
            return;
        }
        let Some(at) = at else {
            return self.violation(at_us, verdict, "joined without being told from where");
        };
        match (since, recovered) {
            (None, _) => {
                self.begins.push(at);
                self.covered = Some(at);
            }
            (Some(since), Some(true)) => {
                verdict.at(at_us, |tally| tally.recovered += 1);
                if at.epoch != since.epoch {
                    self.violation(at_us, verdict, "is told that all of another epoch comes");
                }
                self.covered = Some(since);
            }
            (Some(since), Some(false)) => {
                verdict.at(at_us, |tally| tally.unrecovered += 1);
                self.jumps.push(Jump { at_us, from: Some(since), to: Some(at) });
                self.covered = Some(at);
            }
            (Some(_), None) => {
                self.violation(at_us, verdict, "is not told what became of its wish");
                self.covered = Some(at);
            }
        }
    }

    /// I2: what a client would deliver twice, although it drops what it has.
    fn heard(&mut self, at_us: u64, number: u64, verdict: &mut Verdict) {
        verdict.at(at_us, |tally| tally.delivered += 1);
        self.heard_us.push((number, at_us));
        if !self.travels && self.remembered.contains(&number) {
            verdict.at(at_us, |tally| tally.raw_repeats += 1);
            return;
        }
        if !self.numbers.insert(number) {
            verdict.at(at_us, |tally| tally.repeats += 1);
            self.violation(at_us, verdict, &format!("delivers {number} twice"));
        }
        self.remembered.insert(number);
        self.ids.push_back(number);
        if self.ids.len() > IDS_MAX
            && let Some(oldest) = self.ids.pop_front()
        {
            self.remembered.remove(&oldest);
        }
    }

    /// I3: the next offset and no other.
    fn placed(&mut self, at_us: u64, at: Option<Position>, isolated: bool, verdict: &mut Verdict) {
        let Some(at) = at else {
            let text = format!("heard a publication without position (isolated: {isolated})");
            return self.violation(at_us, verdict, &text);
        };
        match self.covered {
            Some(covered) if at == covered.next() => {}
            Some(covered) if at.epoch == covered.epoch && at.offset <= covered.offset => {
                verdict.at(at_us, |tally| tally.out_of_order += 1);
                let text = format!("heard {} behind {}", at.offset, covered.offset);
                return self.violation(at_us, verdict, &text);
            }
            Some(covered) => {
                verdict.at(at_us, |tally| tally.holes += 1);
                let text = format!("heard {at:?} next to {covered:?}, untold");
                self.violation(at_us, verdict, &text);
            }
            None => self.violation(at_us, verdict, "heard something before it was in"),
        }
        self.covered = Some(at);
    }

    fn skipped(&mut self, at_us: u64, to: Position, count: u64, verdict: &mut Verdict) {
        verdict.at(at_us, |tally| {
            tally.skips += 1;
            tally.skipped += count;
        });
        match self.covered {
            Some(covered) if to == covered.at(covered.offset + count) && count > 0 => {
                self.skips.push((covered.next(), to.offset));
            }
            covered => {
                let text = format!("skips {count} up to {to:?} behind {covered:?}");
                self.violation(at_us, verdict, &text);
            }
        }
        self.covered = Some(to);
    }

    fn gap(&mut self, at_us: u64, at: Option<Position>, verdict: &mut Verdict) {
        verdict.at(at_us, |tally| tally.gaps += 1);
        self.jumps.push(Jump { at_us, from: self.covered, to: at });
        if !self.kept {
            return;
        }
        let Some(at) = at else {
            return self.violation(at_us, verdict, "is told of a gap without an end");
        };
        let back = |covered: Position| at.epoch == covered.epoch && at.offset < covered.offset;
        if self.covered.is_some_and(back) {
            self.violation(at_us, verdict, "is told of a gap that ends before it begins");
        }
        self.covered = Some(at);
    }

    pub(super) fn has_heard(&self, number: u64) -> bool {
        self.numbers.contains(&number)
    }

    pub(super) fn has_skipped(&self, at: Position) -> bool {
        let holds = |(first, last): &(Position, u64)| {
            first.epoch == at.epoch && (first.offset..=*last).contains(&at.offset)
        };
        self.skips.iter().any(holds)
    }

    /// Whether it began to hear the room behind this position.
    pub(super) fn began_behind(&self, at: Position) -> bool {
        self.begins.first().is_some_and(|it| it.epoch == at.epoch && at.offset <= it.offset)
    }

    pub(super) fn first_join_us(&self) -> Option<u64> {
        self.stays.first().map(|(from, _)| *from)
    }

    /// How long it took until this member heard something that was sent after a fault, counted from the fault's end or
    /// from its own later connection; `None`: it never did. Units: microseconds.
    pub(super) fn current_after(
        &self,
        healed_us: u64,
        sent: &HashMap<(usize, u64), &Sent>,
    ) -> Option<u64> {
        let is_new = |number: u64| {
            sent.get(&(self.room, number)).is_some_and(|sent| sent.first_us >= healed_us)
        };
        let heard = self.heard_us.iter().find(|(number, at)| *at >= healed_us && is_new(*number));
        let (_, heard_us) = heard?;
        let connected = self.connected_us.iter().rev().find(|at| *at <= heard_us);
        let since_us = connected.copied().unwrap_or_default().max(healed_us);
        Some(heard_us - since_us)
    }
}
