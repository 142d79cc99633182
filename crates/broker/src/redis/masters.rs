//! Which masters keep the data, as beats tell: one that takes another's place may lack its newest steps of presence, and
//! what it has of them may be over for long; nothing else says so.

use std::collections::BTreeMap;

use roomcast_protocol::envelope::MasterId;

/// The master of each partition, as it told last; without a Cluster, that of the first stands for all.
#[derive(Debug)]
pub(crate) struct Masters {
    /// By partition. Bounds: as many as there are.
    known: BTreeMap<usize, MasterId>,
    all: MasterId,
    /// All partitions are to be searched for what is over: one of them changed its master since they were.
    are_doubted: bool,
}

impl Masters {
    pub(crate) const fn new() -> Self {
        Self { known: BTreeMap::new(), all: MasterId(0), are_doubted: false }
    }

    /// Takes in who answered for which partition; those that nobody answered for stay as they were. Answers with all of
    /// them as one value: another one exactly if a partition is a master's that none has been before. A partition that
    /// goes from one of them to another takes its data along.
    pub(crate) fn see(&mut self, told: &[(usize, MasterId)]) -> MasterId {
        let before: Vec<MasterId> = self.known.values().copied().collect();
        let mut new = Vec::new();
        for (partition, master) in told {
            let replaces = self.known.insert(*partition, *master).is_some_and(|it| it != *master);
            if replaces && !before.contains(master) && !new.contains(master) {
                new.push(*master);
            }
            self.are_doubted |= replaces;
        }
        self.all = new.into_iter().fold(self.all, MasterId::and);
        self.all
    }

    /// All partitions are to be searched: what says at once what is over may have been lost.
    pub(crate) const fn doubt(&mut self) {
        self.are_doubted = true;
    }

    /// All partitions were searched.
    pub(crate) const fn searched(&mut self) {
        self.are_doubted = false;
    }

    /// Whether all partitions have yet to be searched.
    pub(crate) const fn are_doubted(&self) -> bool {
        self.are_doubted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: MasterId = MasterId(7);
    const OTHER: MasterId = MasterId(8);
    const NEW: MasterId = MasterId(9);

    #[test]
    fn a_master_in_anothers_place_is_told_once_however_its_partitions_come() {
        let mut masters = Masters::new();
        let first = masters.see(&[(0, OLD), (1, OLD)]);
        assert_eq!(masters.see(&[(2, OTHER)]), first, "nothing was there before");
        let second = masters.see(&[(0, NEW), (2, OTHER)]);
        assert_ne!(second, first);
        assert_eq!(masters.see(&[(1, NEW), (2, OTHER)]), second, "the rest of its partitions");
        assert_eq!(masters.see(&[]), second, "nobody answered");
        assert_ne!(masters.see(&[(0, OLD), (1, OLD)]), second, "the old one is back");
    }

    #[test]
    fn a_partition_that_moves_to_a_master_that_was_there_is_none() {
        let mut masters = Masters::new();
        let first = masters.see(&[(0, OLD), (1, OTHER)]);
        assert_eq!(masters.see(&[(0, OTHER), (1, OTHER)]), first);
        assert_ne!(masters.see(&[(0, NEW), (1, NEW)]), first);
    }

    #[test]
    fn whatever_partition_has_another_master_all_are_searched_once() {
        let mut masters = Masters::new();
        masters.see(&[(0, OLD), (1, OTHER)]);
        assert!(!masters.are_doubted(), "nothing was there before");
        for told in [[(0, OTHER), (1, OTHER)], [(0, OTHER), (1, NEW)]] {
            masters.see(&told);
            assert!(masters.are_doubted());
            masters.see(&told);
            assert!(masters.are_doubted(), "until it is done");
            masters.searched();
            masters.see(&told);
            assert!(!masters.are_doubted());
        }
        masters.doubt();
        assert!(masters.are_doubted());
    }
}
