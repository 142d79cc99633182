//! The links of one node's feed, each judged by itself: does it bring anything, do the beats come back over it in time,
//! and from the master that answers commands? It asks for a link to be connected anew, never for all at once.
//!
//! A link is judged only by beats that were answered: while commands are unanswered nothing is known about the feed.

use std::collections::VecDeque;

use roomcast_protocol::envelope::{LinkId, MasterId};

/// How long after a beat's answer a link may bring nothing, or not that beat. Units: milliseconds.
pub const SILENT_MS: u64 = 1_500;

/// How long after a beat's answer that beat may be on its way behind other things. Units: milliseconds.
pub const LAGGING_MS: u64 = 10_000;

/// How long after links were asked to connect anew none is asked again. Units: milliseconds.
pub const AGAIN_MS: u64 = 3_000;

/// Answered beats remembered while a link still owes them.
const OWED_MAX: usize = 64;

/// Why a link is to be connected anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// It brings nothing.
    Silent,
    /// It brings things, but too late.
    Lagging,
    /// Another master sends than answers.
    Master,
}

#[derive(Debug)]
struct Link {
    id: LinkId,
    /// When it brought something last.
    heard_ms: u64,
    /// When it brought a beat last.
    beat_ms: u64,
    /// That beat, and who sent it.
    newest: Option<(u64, MasterId)>,
    /// A beat that counts as proof came over it.
    proven: bool,
    /// When it counts as silent, unless it brings something.
    silent_at_ms: Option<u64>,
    /// Another master sends than answers.
    astray: bool,
    /// It was asked to connect anew.
    asked: bool,
}

/// A beat that was answered, and may still be owed by a link.
#[derive(Debug)]
struct Owed {
    seq: u64,
    answered_ms: u64,
    master: MasterId,
    links: Vec<LinkId>,
}

impl Owed {
    fn is_owed_by(&self, link: &Link) -> bool {
        link.newest.is_none_or(|(seq, _)| seq < self.seq) && self.links.contains(&link.id)
    }
}

/// The links of a feed.
#[derive(Debug, Default)]
pub(super) struct Links {
    links: Vec<Link>,
    owed: VecDeque<Owed>,
    /// Beats from this one on went over these links.
    since_seq: u64,
    /// Beats from this one on prove that a link hears.
    proof_seq: u64,
    /// The newest beat that was answered.
    answered_seq: u64,
    /// When links were asked to connect anew last.
    asked_ms: Option<u64>,
    /// No link is asked before.
    held_until_ms: u64,
}

impl Links {
    /// The feed is up over these links; `next_seq` is the first beat that goes over them.
    pub(super) fn up(&mut self, now_ms: u64, links: &[LinkId], next_seq: u64) {
        let link = |id: &LinkId| Link {
            id: *id,
            heard_ms: now_ms,
            beat_ms: now_ms,
            newest: None,
            proven: false,
            silent_at_ms: None,
            astray: false,
            asked: false,
        };
        self.links = links.iter().map(link).collect();
        self.owed.clear();
        self.since_seq = next_seq;
        self.proof_seq = next_seq;
        if let Some(asked) = self.asked_ms.take() {
            self.held_until_ms = asked.saturating_add(AGAIN_MS);
        }
    }

    /// The feed is down: which links are left is not known.
    pub(super) fn down(&mut self) {
        self.links = Vec::new();
        self.owed = VecDeque::new();
    }

    /// Commands are unanswered: nothing is known until a beat is answered again.
    pub(super) fn stand_down(&mut self) {
        self.owed.clear();
        for link in &mut self.links {
            link.silent_at_ms = None;
        }
    }

    /// Only beats from `next_seq` on prove anything from now on.
    pub(super) fn prove_anew(&mut self, next_seq: u64) {
        self.proof_seq = next_seq;
        for link in &mut self.links {
            link.proven = false;
        }
    }

    /// A beat as young as that was answered, and came back over every link from the master that answered it.
    pub(super) fn are_proven(&self) -> bool {
        self.answered_seq >= self.proof_seq && self.links.iter().all(|link| link.proven)
    }

    /// A link brought something.
    pub(super) fn bytes(&mut self, now_ms: u64, id: LinkId) {
        if let Some(link) = self.links.iter_mut().find(|link| link.id == id) {
            link.heard_ms = now_ms;
            link.silent_at_ms = None;
        }
    }

    /// A link brought a beat; says whether the one before came from another master, be it the same server by another
    /// name.
    pub(super) fn beat(&mut self, now_ms: u64, id: LinkId, seq: u64, master: MasterId) -> bool {
        self.bytes(now_ms, id);
        let newer = |link: &Link| link.newest.is_none_or(|(newest, _)| newest < seq);
        let link = self.links.iter_mut().find(|link| link.id == id && newer(link));
        let Some(link) = link.filter(|_| seq >= self.since_seq) else { return false };
        link.beat_ms = now_ms;
        let before = link.newest.replace((seq, master));
        if let Some(owed) = self.owed.iter().find(|owed| owed.seq == seq) {
            link.astray = owed.master != master;
            link.proven |= !link.astray && seq >= self.proof_seq;
        }
        self.forget_paid();
        before.is_some_and(|(_, sender)| sender != master)
    }

    /// A beat, sent at `sent_ms` over `links`, was answered.
    pub(super) fn answered(
        &mut self,
        now_ms: u64,
        (seq, sent_ms): (u64, u64),
        master: MasterId,
        links: Vec<LinkId>,
    ) {
        self.answered_seq = self.answered_seq.max(seq);
        for link in &mut self.links {
            if let Some((newest, sender)) = link.newest
                && newest == seq
            {
                link.astray = sender != master;
                link.proven |= !link.astray && seq >= self.proof_seq;
            }
            if link.heard_ms < sent_ms && link.silent_at_ms.is_none() && links.contains(&link.id) {
                link.silent_at_ms = Some(now_ms.saturating_add(SILENT_MS));
            }
        }
        if self.owed.len() == OWED_MAX {
            self.owed.pop_front();
        }
        self.owed.push_back(Owed { seq, answered_ms: now_ms, master, links });
        self.forget_paid();
    }

    /// Links that are to be connected anew now; each is named once until the feed is up again.
    pub(super) fn take_due(&mut self, now_ms: u64) -> Vec<(LinkId, Cause)> {
        if now_ms < self.held_until_ms {
            return Vec::new();
        }
        let mut due = Vec::new();
        for link in self.links.iter_mut().filter(|link| !link.asked) {
            let late = oldest_owed_ms(&self.owed, link);
            let cause = if link.astray {
                Cause::Master
            } else if link.silent_at_ms.is_some_and(|at| at <= now_ms) {
                Cause::Silent
            } else if late.is_some_and(|at| at.saturating_add(LAGGING_MS) <= now_ms) {
                Cause::Lagging
            } else {
                continue;
            };
            link.asked = true;
            self.asked_ms = Some(now_ms);
            due.push((link.id, cause));
        }
        due
    }

    /// When [`Links::take_due`] may name a link, unless something comes.
    pub(super) fn next_ms(&self) -> Option<u64> {
        let due = |link: &Link| {
            let astray = link.astray.then_some(0);
            let late = oldest_owed_ms(&self.owed, link).map(|at| at.saturating_add(LAGGING_MS));
            [astray, link.silent_at_ms, late].into_iter().flatten().min()
        };
        let due = self.links.iter().filter(|link| !link.asked).filter_map(due).min();
        due.map(|at| at.max(self.held_until_ms))
    }

    /// A link brings things, but its beats come too late.
    pub(super) fn is_lagging(&self, now_ms: u64) -> bool {
        let late = |link: &Link| oldest_owed_ms(&self.owed, link);
        self.links.iter().filter_map(late).any(|at| now_ms >= at.saturating_add(SILENT_MS))
    }

    /// When the quietest link brought something last, and the most tardy one a beat.
    pub(super) fn heard_ms(&self) -> Option<(u64, u64)> {
        let heard = self.links.iter().map(|link| link.heard_ms).min();
        heard.zip(self.links.iter().map(|link| link.beat_ms).min())
    }

    /// Forgets the answers of beats that no link owes.
    fn forget_paid(&mut self) {
        let links = &self.links;
        self.owed.retain(|owed| links.iter().any(|link| owed.is_owed_by(link)));
    }
}

/// When the first beat was answered that the link has not brought.
fn oldest_owed_ms(owed: &VecDeque<Owed>, link: &Link) -> Option<u64> {
    owed.iter().filter(|owed| owed.is_owed_by(link)).map(|owed| owed.answered_ms).min()
}
