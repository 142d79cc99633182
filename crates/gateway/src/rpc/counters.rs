//! What RPC counts of itself. Names come from enums, never from callers (INV-13).

use std::sync::atomic::{AtomicU64, Ordering};

use roomcast_dialects::goridge::BadFrame;
use roomcast_protocol::codes::Refusal;

/// Why a connection was ended by the node, as a label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// It sent what is no frame.
    Bad(BadFrame),
    /// It began a frame and did not go on.
    HalfFrame,
    /// It did not take its answers.
    NotTaken,
    /// There are as many as may be.
    Full,
}

impl Ended {
    /// Their names, in the order of [`Ended::index`].
    pub(crate) fn names() -> Vec<&'static str> {
        let own = ["half_frame", "not_taken", "full"];
        BadFrame::ALL.iter().map(|bad| bad.name()).chain(own).collect()
    }

    const fn index(self) -> usize {
        match self {
            Self::Bad(bad) => bad as usize,
            Self::HalfFrame => BadFrame::ALL.len(),
            Self::NotTaken => BadFrame::ALL.len() + 1,
            Self::Full => BadFrame::ALL.len() + 2,
        }
    }

    /// Its name.
    pub(crate) fn name(self) -> &'static str {
        Self::names().get(self.index()).copied().unwrap_or_default()
    }
}

/// How a call was answered, as a label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answered {
    /// With success, when the broker had answered.
    Done = 0,
    /// With success at once.
    AtOnce = 1,
    /// With why it failed.
    Failed = 2,
    /// With why it cannot be a call.
    Refused = 3,
}

impl Answered {
    const COUNT: usize = 4;

    /// Their names, in their order.
    pub(crate) fn names() -> Vec<&'static str> {
        vec!["done", "at_once", "failed", "refused"]
    }
}

/// The counters.
#[derive(Debug, Default)]
pub(crate) struct RpcCounters {
    connections: AtomicU64,
    accepted: AtomicU64,
    ended: [AtomicU64; BadFrame::ALL.len() + 3],
    calls: [AtomicU64; Answered::COUNT],
    published: AtomicU64,
    unnamed: AtomicU64,
    refusals: [AtomicU64; Refusal::ALL.len()],
}

impl RpcCounters {
    /// A connection came.
    pub(super) fn came(&self) {
        add(Some(&self.connections));
        add(Some(&self.accepted));
    }

    /// A connection is gone.
    pub(super) fn went(&self) {
        self.connections.fetch_sub(1, Ordering::Relaxed);
    }

    /// A connection was ended.
    pub(super) fn ended(&self, why: Ended) {
        add(self.ended.get(why.index()));
    }

    /// A call was answered.
    pub(super) fn answered(&self, how: Answered) {
        add(self.calls.get(how as usize));
    }

    /// A publication was accepted.
    pub(super) fn published(&self) {
        add(Some(&self.published));
    }

    /// A publication was refused.
    pub(super) fn refused(&self, refusal: Refusal) {
        add(self.refusals.get(refusal.index()));
    }

    /// Topics of a call have no name.
    pub(super) fn unnamed(&self, count: usize) {
        self.unnamed.fetch_add(count as u64, Ordering::Relaxed);
    }

    /// Connections that are open.
    pub(crate) fn connections(&self) -> u64 {
        self.connections.load(Ordering::Relaxed)
    }

    /// Connections so far.
    pub(crate) fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::Relaxed)
    }

    /// Connections that the node ended, by the place among [`Ended::names`].
    pub(crate) fn ended_at(&self, at: usize) -> u64 {
        read(self.ended.get(at))
    }

    /// Calls, by the place among [`Answered::names`].
    pub(crate) fn calls_at(&self, at: usize) -> u64 {
        read(self.calls.get(at))
    }

    /// Publications that were accepted.
    pub(crate) fn all_published(&self) -> u64 {
        self.published.load(Ordering::Relaxed)
    }

    /// Topics without a name.
    pub(crate) fn all_unnamed(&self) -> u64 {
        self.unnamed.load(Ordering::Relaxed)
    }

    /// Publications that were refused so.
    pub(crate) fn refusals(&self, refusal: Refusal) -> u64 {
        read(self.refusals.get(refusal.index()))
    }
}

fn add(counter: Option<&AtomicU64>) {
    if let Some(counter) = counter {
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

fn read(counter: Option<&AtomicU64>) -> u64 {
    counter.map_or(0, |counter| counter.load(Ordering::Relaxed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_and_every_answer_has_its_own_counter_and_name() {
        let own = [Ended::HalfFrame, Ended::NotTaken, Ended::Full];
        let all: Vec<_> = BadFrame::ALL.map(Ended::Bad).into_iter().chain(own).collect();
        assert_eq!(all.iter().map(|it| it.name()).collect::<Vec<_>>(), Ended::names());
        let counters = RpcCounters::default();
        for (at, why) in all.iter().enumerate() {
            counters.ended(*why);
            assert_eq!((counters.ended_at(at), counters.ended_at(at + 1)), (1, 0));
        }
        let answers = [Answered::Done, Answered::AtOnce, Answered::Failed, Answered::Refused];
        assert_eq!(Answered::names().len(), Answered::COUNT);
        for (at, how) in answers.into_iter().enumerate() {
            counters.answered(how);
            assert_eq!(counters.calls_at(at), 1);
        }
    }
}
