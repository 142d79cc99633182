//! The other nodes of the cluster, as leases show them: who must hear again before a return is whole, and who is still
//! missed once the wait for them is over.

use std::collections::BTreeSet;

use roomcast_protocol::envelope::Peer;
use roomcast_protocol::ids::NodeId;

/// How long acks may say that a node is missing; by then its lease of 8 s is over. Units: milliseconds.
pub const PARTIAL_MS: u64 = 10_000;

/// The other nodes.
#[derive(Debug, Default)]
pub(super) struct Peers {
    /// As the newest answer shows them.
    leased: Vec<Peer>,
    /// Who was there before the outage.
    before: BTreeSet<NodeId>,
    /// Who was waited for in vain after it.
    missing: BTreeSet<NodeId>,
    /// Until when that is said.
    missing_until_ms: u64,
}

impl Peers {
    /// What the newest answer shows.
    pub(super) fn report(&mut self, leased: Vec<Peer>) {
        self.leased = leased;
        let leased = &self.leased;
        self.missing.retain(|node| !hears(leased, *node));
    }

    /// An outage begins.
    pub(super) fn remember(&mut self) {
        self.before = self.leased.iter().map(|peer| peer.node).collect();
        self.before.append(&mut self.missing);
    }

    /// Who holds a lease.
    pub(super) fn nodes(&self) -> impl Iterator<Item = NodeId> {
        self.leased.iter().map(|peer| peer.node)
    }

    /// Whether all who are there now, or were before the outage, hear.
    pub(super) fn all_hear(&self) -> bool {
        self.leased.iter().all(|peer| peer.hears)
            && self.before.iter().all(|node| hears(&self.leased, *node))
    }

    /// The outage is over; who does not hear yet is missing.
    pub(super) fn settle(&mut self, now_ms: u64) {
        self.missing = std::mem::take(&mut self.before);
        self.missing.extend(self.leased.iter().map(|peer| peer.node));
        self.missing.retain(|node| !hears(&self.leased, *node));
        self.missing_until_ms = now_ms.saturating_add(PARTIAL_MS);
    }

    /// Whether publications may not reach a node that belongs to the cluster.
    pub(super) fn are_partial(&self) -> bool {
        !self.missing.is_empty()
    }

    /// Stops missing those whose time is over.
    pub(super) fn tick(&mut self, now_ms: u64) {
        if now_ms >= self.missing_until_ms {
            self.missing.clear();
        }
    }

    /// When [`Peers::tick`] has something to do.
    pub(super) fn next_ms(&self) -> Option<u64> {
        self.are_partial().then_some(self.missing_until_ms)
    }

    /// How many there are, and of those, how many do not hear and how many relay rooms in other modes.
    pub(super) fn count(&self) -> [usize; 3] {
        let count = |which: fn(&Peer) -> bool| self.leased.iter().filter(|it| which(it)).count();
        [self.leased.len(), count(|peer| !peer.hears), count(|peer| !peer.agrees)]
    }
}

fn hears(leased: &[Peer], node: NodeId) -> bool {
    leased.iter().any(|peer| peer.node == node && peer.hears)
}
