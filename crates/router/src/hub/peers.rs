//! The other nodes of the cluster, as leases show them: who must hear again before a return is whole, and who is still
//! missed once the wait for them is over.

use std::collections::{BTreeMap, BTreeSet};

use roomcast_protocol::envelope::Peer;
use roomcast_protocol::ids::NodeId;

/// How long acks may say that a node is missing; by then its lease of 8 s is over. Units: milliseconds.
pub const PARTIAL_MS: u64 = 10_000;

/// How long answers name a node whose lease has ended without a farewell: it may be stopped or cut off, and have sessions
/// still. Units: milliseconds.
const LOST_MS: u64 = 120_000;

/// How long a node that said farewell is known as gone; by then its lease of 8 s is over. Units: milliseconds.
const GONE_MS: u64 = 20_000;

/// Nodes of each kind that are kept in mind; of those beyond it the ones that were told of first are kept.
const NODES_MAX: usize = 1_024;

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
    /// Whose lease has ended without a farewell, and until when that is said.
    lost: BTreeMap<NodeId, u64>,
    /// Who said farewell, and until when a lease of theirs may still show.
    gone: BTreeMap<NodeId, u64>,
}

impl Peers {
    /// What the newest answer shows.
    pub(super) fn report(&mut self, now_ms: u64, mut leased: Vec<Peer>) {
        self.gone.retain(|_, until_ms| now_ms < *until_ms);
        leased.retain(|peer| !self.gone.contains_key(&peer.node));
        let before = std::mem::replace(&mut self.leased, leased);
        let leased = &self.leased;
        self.missing.retain(|node| !hears(leased, *node));
        let holds = |node: NodeId| leased.iter().any(|peer| peer.node == node);
        self.lost.retain(|node, until_ms| now_ms < *until_ms && !holds(*node));
        for peer in before.iter().filter(|peer| !holds(peer.node)) {
            if self.lost.len() < NODES_MAX {
                self.lost.insert(peer.node, now_ms.saturating_add(LOST_MS));
            }
        }
    }

    /// A node has ended as it should: nobody waits for it, or misses it.
    pub(super) fn farewell(&mut self, now_ms: u64, node: NodeId) {
        self.leased.retain(|peer| peer.node != node);
        self.before.remove(&node);
        self.missing.remove(&node);
        self.lost.remove(&node);
        if self.gone.len() < NODES_MAX {
            self.gone.insert(node, now_ms.saturating_add(GONE_MS));
        }
    }

    /// Whose lease has ended lately without a farewell.
    pub(super) fn lost(&self) -> impl Iterator<Item = NodeId> {
        self.lost.keys().copied()
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

#[cfg(test)]
mod tests {
    use super::*;

    fn leased(nodes: impl IntoIterator<Item = u64>) -> Vec<Peer> {
        let peer = |node| Peer { node: NodeId(node), hears: true, agrees: true };
        nodes.into_iter().map(peer).collect()
    }

    fn lost(peers: &Peers) -> Vec<u64> {
        peers.lost().map(|node| node.0).collect()
    }

    #[test]
    fn who_has_no_lease_any_more_is_lost_until_it_comes_again_or_its_time_is_over() {
        let mut peers = Peers::default();
        peers.report(0, leased([2, 3]));
        peers.report(1_000, leased([2]));
        assert_eq!(lost(&peers), [3]);
        peers.report(2_000, leased([3]));
        assert_eq!(lost(&peers), [2]);
        peers.report(2_000 + LOST_MS - 1, leased([3]));
        assert_eq!(lost(&peers), [2]);
        peers.report(2_000 + LOST_MS, leased([3]));
        assert_eq!(lost(&peers), [0; 0]);
    }

    #[test]
    fn who_said_farewell_is_neither_there_nor_lost_though_its_lease_shows() {
        let mut peers = Peers::default();
        peers.report(0, leased([2, 3]));
        peers.farewell(500, NodeId(3));
        for at_ms in [500, 1_000, 7_000] {
            let nodes: Vec<u64> = peers.nodes().map(|node| node.0).collect();
            assert_eq!((nodes, lost(&peers)), (vec![2], vec![]), "{at_ms}");
            peers.report(at_ms, leased([2, 3]));
        }
        peers.report(9_000, leased([2]));
        assert_eq!(lost(&peers), [0; 0]);
    }

    #[test]
    fn lost_nodes_have_a_bound() {
        let mut peers = Peers::default();
        peers.report(0, leased(0..NODES_MAX as u64));
        peers.report(1, leased([]));
        assert_eq!(lost(&peers).len(), NODES_MAX);
        peers.report(2, leased([5_000]));
        peers.report(3, leased([]));
        assert_eq!(lost(&peers).len(), NODES_MAX);
        assert!(!lost(&peers).contains(&5_000), "those told of first are kept");
    }
}
