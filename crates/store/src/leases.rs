//! How long each node's entries in rooms hold, and which lives of nodes are over for good (G18). A life that was reaped
//! is never accepted again, as long as anybody can come back from it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use roomcast_protocol::ids::NodeId;
use roomcast_protocol::presence::{Incarnation, Lease, PresenceDiff};

use crate::store::{At, Store};

/// How long a life that was reaped is remembered. Units: milliseconds.
pub const REAPED_MS: u64 = 3_600_000;

/// Users and sessions that one call takes out; more are another call's.
pub const TEND_MAX: usize = 500;

/// How long nobody must have beaten until it was the server that was away, and not the nodes. A node beats each second,
/// so by then each that was there has most of its lease behind it. Units: milliseconds.
#[must_use]
pub const fn quiet_ms(lease_ms: u64) -> u64 {
    lease_ms / 8 * 5
}

/// What a beat did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Beaten {
    /// Whether the node's lease holds.
    pub lease: Lease,
    /// What is to be published.
    pub tended: Tended,
}

/// What was settled and reaped.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tended {
    /// Whatever is to be published, in this order.
    pub diffs: Vec<Arc<PresenceDiff>>,
    /// More is due: call again at once.
    pub more: bool,
}

/// One life's lease.
#[derive(Clone, Copy, Debug)]
struct Held {
    /// Until when it holds. Units: milliseconds.
    ends_ms: u64,
    /// A beat has renewed it.
    is_renewed: bool,
}

/// Leases, and lives that are over.
#[derive(Clone, Debug, Default)]
pub(crate) struct Leases {
    held: BTreeMap<Incarnation, Held>,
    /// Until when each is remembered that was reaped. Units: milliseconds.
    reaped: BTreeMap<Incarnation, u64>,
}

impl<E: Clone> Store<E> {
    /// A node's beat: its lease is renewed, the life before it ends if it says so, and what is due in rooms is done: of
    /// the last, at most [`TEND_MAX`] users and sessions; the rest is [`Store::tend`]'s.
    ///
    /// A cluster of stores does it in parts: [`Store::renew`] and [`Store::overdue`] where the leases are, then
    /// [`Store::mark_reaped`] in every store, then [`Store::tend`] in each.
    pub fn beat(&mut self, at: At, incarnation: Incarnation, retired: Option<u32>) -> Beaten {
        let lease = self.renew(at.now_ms, incarnation, retired);
        let entered: Vec<_> = self.entered().collect();
        self.adopt(at.now_ms, &entered);
        self.mark_reaped(at.now_ms, &self.overdue(at.now_ms));
        Beaten { lease, tended: self.tend(at) }
    }

    /// Renews a lease, and ends the one of the life before it. One that is over is not renewed, unless it ended while
    /// nobody beat for [`quiet_ms`]: such a time counts for no lease. Says whether it is the first time.
    pub fn renew(&mut self, now_ms: u64, incarnation: Incarnation, retired: Option<u32>) -> Lease {
        let lease_ms = self.rules().lease_ms;
        let leases = self.leases_mut();
        leases.expire(now_ms);
        leases.excuse(now_ms, lease_ms);
        if let Some(life) = retired {
            let retired = Incarnation { life, ..incarnation };
            if !leases.reaped.contains_key(&retired) {
                leases.held.insert(retired, Held { ends_ms: now_ms, is_renewed: true });
            }
        }
        let known = leases.held.get(&incarnation).copied();
        if known.is_some_and(|it| it.ends_ms <= now_ms) || leases.reaped.contains_key(&incarnation)
        {
            return Lease::Lost;
        }
        let ends_ms = now_ms.saturating_add(lease_ms);
        leases.held.insert(incarnation, Held { ends_ms, is_renewed: true });
        if known.is_some_and(|it| it.is_renewed) { Lease::Held } else { Lease::New }
    }

    /// Incarnations of which sessions are in rooms.
    pub fn entered(&self) -> impl Iterator<Item = Incarnation> {
        self.presence().incarnations()
    }

    /// Incarnations that entered rooms have a lease from now on, if they had none: who enters before its first beat, and
    /// dies, goes like any other. The lease of one that was reaped is over: its entries came back from elsewhere, with
    /// rooms that moved here or whose removal a failover lost.
    pub fn adopt(&mut self, now_ms: u64, entered: &[Incarnation]) {
        let ends_ms = now_ms.saturating_add(self.rules().lease_ms);
        let leases = self.leases_mut();
        for incarnation in entered {
            let is_reaped = leases.reaped.contains_key(incarnation);
            let ends_ms = if is_reaped { now_ms } else { ends_ms };
            leases.held.entry(*incarnation).or_insert(Held { ends_ms, is_renewed: false });
        }
    }

    /// Nodes that hold a lease.
    pub fn leased(&self, now_ms: u64) -> impl Iterator<Item = NodeId> {
        let held = self.leases().held.iter().filter(move |(_, it)| it.ends_ms > now_ms);
        held.map(|(incarnation, _)| incarnation.node).collect::<BTreeSet<_>>().into_iter()
    }

    /// Incarnations whose lease is over, and that are not marked as reaped yet.
    #[must_use]
    pub fn overdue(&self, now_ms: u64) -> Vec<Incarnation> {
        let over = self.leases().held.iter().filter(|(_, it)| it.ends_ms <= now_ms);
        over.map(|(incarnation, _)| *incarnation).collect()
    }

    /// From now on these incarnations are not accepted, and what they entered is due.
    pub fn mark_reaped(&mut self, now_ms: u64, incarnations: &[Incarnation]) {
        for incarnation in incarnations {
            let leases = self.leases_mut();
            leases.held.remove(incarnation);
            leases.reaped.entry(*incarnation).or_insert(now_ms.saturating_add(REAPED_MS));
            self.all_presence_mut().forget_answers(*incarnation);
        }
    }

    /// A node is gone: the leases of all its lives are over now.
    pub fn end_leases(&mut self, now_ms: u64, node: NodeId) {
        let entered: Vec<_> = self.entered().filter(|it| it.node == node).collect();
        self.adopt(now_ms, &entered);
        let held = self.leases_mut().held.iter_mut().filter(|(it, _)| it.node == node);
        held.for_each(|(_, it)| it.ends_ms = now_ms);
    }

    /// Loses all leases.
    pub fn lose_leases(&mut self) {
        self.leases_mut().held.clear();
    }

    /// Does what is due in rooms: users leave whose grace is over, then what reaped incarnations entered goes. At most
    /// [`TEND_MAX`] users and sessions.
    pub fn tend(&mut self, at: At) -> Tended {
        let mut tended = Tended::default();
        let users = self.presence().overdue(at.now_ms, TEND_MAX);
        let settled: usize = users.values().map(BTreeSet::len).sum();
        for (room, users) in users {
            let (place, presence) = self.presence_mut(&room);
            tended.diffs.extend(presence.settle(&room, users, (place, at)));
        }
        let reaped: Vec<_> = self.leases().reaped.keys().copied().collect();
        let sessions = self.presence().entered_by(reaped.iter().copied(), TEND_MAX - settled);
        for (room, sessions) in sessions {
            let (place, presence) = self.presence_mut(&room);
            tended.diffs.extend(presence.reap(&room, sessions, (place, at)));
        }
        tended.diffs.iter().for_each(|diff| self.note_untold(diff));
        let due = self.presence().leaves_ms().is_some_and(|due_ms| due_ms <= at.now_ms);
        tended.more = due || !self.presence().entered_by(reaped.into_iter(), 1).is_empty();
        tended
    }

    /// Whether [`Store::tend`], or a beat, has something to do.
    #[must_use]
    pub fn is_due(&self, now_ms: u64) -> bool {
        self.presence().leaves_ms().is_some_and(|due_ms| due_ms <= now_ms)
            || self.leases().held.values().any(|it| it.ends_ms <= now_ms)
            || self.entered().any(|it| self.leases().reaped.contains_key(&it))
    }

    /// Accepts incarnations again that were reaped: a bug that tests plant.
    pub fn forget_reaped(&mut self) {
        self.leases_mut().reaped.clear();
    }

    /// Whether an incarnation is not accepted any more.
    pub(crate) fn is_reaped(&self, now_ms: u64, incarnation: Incarnation) -> bool {
        self.leases().reaped.get(&incarnation).is_some_and(|until_ms| *until_ms > now_ms)
    }
}

impl Leases {
    /// Where nobody beat for long, whoever held a lease until then has one lease's time to come again.
    fn excuse(&mut self, now_ms: u64, lease_ms: u64) {
        let Some(newest_ms) = self.held.values().map(|it| it.ends_ms).max() else { return };
        let beaten_ms = newest_ms.saturating_sub(lease_ms);
        if now_ms < beaten_ms.saturating_add(quiet_ms(lease_ms)) {
            return;
        }
        for held in self.held.values_mut().filter(|it| it.ends_ms > beaten_ms) {
            held.ends_ms = now_ms.saturating_add(lease_ms);
        }
    }

    /// Forgets what was reaped long ago.
    pub(crate) fn expire(&mut self, now_ms: u64) {
        self.reaped.retain(|_, until_ms| *until_ms > now_ms);
    }
}
