//! Rooms of a partition that became occupied or vacated, and which node tells it (G19). An event stands here from the step
//! that made it until a node has told it; they are given in their order, to one node at a time.

use std::collections::BTreeMap;
use std::sync::Arc;

use roomcast_protocol::ids::NodeId;
use roomcast_protocol::occupancy::{
    AskOccupancies, GivenOccupancies, HAND_MAX, HOLD_MS, Occupancy,
};

use crate::store::Store;

/// Events of a partition that are kept: the newest, and those that a node was given.
pub const OCCUPANCIES_MAX: usize = 10_000;

/// Events of a partition, numbered from 1.
#[derive(Clone, Debug, Default)]
pub(crate) struct Occupancies {
    count: u64,
    kept: BTreeMap<u64, Occupancy>,
    reader: Option<Reader>,
    /// Events that went before a node was given them, and of how many of them a reader knows.
    lost: u64,
    lost_known: u64,
}

/// The node that tells the events.
#[derive(Clone, Copy, Debug)]
struct Reader {
    node: NodeId,
    /// Up to which number it was given events.
    given: u64,
    /// Until when nobody else is given any. Units: milliseconds.
    until_ms: u64,
}

impl<E: Clone> Store<E> {
    /// Gives a node the oldest events of a partition that wait, unless another one is their reader. Bounds: at most
    /// [`HAND_MAX`] that it has not told.
    pub fn give_occupancies(
        &mut self,
        now_ms: u64,
        node: NodeId,
        ask: &AskOccupancies,
    ) -> GivenOccupancies {
        let occupancies = &mut self.all_presence_mut().occupancies;
        let Some(events) = occupancies.get_mut(&ask.partition).map(Arc::make_mut) else {
            return GivenOccupancies::default();
        };
        events.give(now_ms, node, ask)
    }

    /// Partitions with events that no node is telling, by rising number.
    #[must_use]
    pub fn unread(&self, now_ms: u64) -> Vec<u16> {
        let all = self.presence().occupancies.iter();
        let unread = all.filter(|(_, events)| {
            let is_held = |reader: Reader| now_ms < reader.until_ms;
            !events.kept.is_empty() && !events.reader.is_some_and(is_held)
        });
        unread.map(|(partition, _)| *partition).collect()
    }

    /// Events of a partition that nobody has told, oldest first.
    #[must_use]
    pub fn occupancies(&self, partition: u16) -> Vec<(u64, Occupancy)> {
        let Some(events) = self.presence().occupancies.get(&partition) else { return Vec::new() };
        events.kept.iter().map(|(number, event)| (*number, event.clone())).collect()
    }
}

impl Occupancies {
    /// Has one more event. Of too many the oldest goes that no node was given.
    pub(crate) fn push(&mut self, event: Occupancy) {
        self.count += 1;
        self.kept.insert(self.count, event);
        if self.kept.len() > OCCUPANCIES_MAX {
            let given = self.reader.map_or(0, |reader| reader.given);
            let oldest = self.kept.range(given + 1..).next().map(|(number, _)| *number);
            oldest.and_then(|number| self.kept.remove(&number));
            self.lost += 1;
        }
    }

    fn give(&mut self, now_ms: u64, node: NodeId, ask: &AskOccupancies) -> GivenOccupancies {
        let own = self.reader.filter(|reader| reader.node == node);
        if own.is_none() && self.reader.is_some_and(|reader| now_ms < reader.until_ms) {
            return GivenOccupancies::default();
        }
        if let Some(reader) = own {
            if ask.told <= reader.given {
                self.kept = self.kept.split_off(&(ask.told + 1));
            }
            self.lost_known = self.lost_known.max(ask.lost.min(self.lost));
        }
        if self.kept.is_empty() || ask.count_max == 0 {
            self.reader = self.reader.filter(|_| own.is_none() && !self.kept.is_empty());
            return GivenOccupancies::default();
        }
        let goes_on = own.filter(|reader| reader.given == ask.given);
        let behind = goes_on.map_or(0, |reader| reader.given);
        let max = usize::try_from(ask.count_max.min(HAND_MAX)).unwrap_or(usize::MAX);
        let all = self.kept.iter().take(max);
        let events = all.filter(|(number, _)| **number > behind);
        let events: Vec<_> = events.map(|(number, event)| (*number, event.clone())).collect();
        let given = events.last().map_or(behind, |(number, _)| *number);
        self.reader = Some(Reader { node, given, until_ms: now_ms.saturating_add(HOLD_MS) });
        let (lost, lost_known) = (self.lost, self.lost_known);
        GivenOccupancies { held: true, anew: goes_on.is_none(), given, lost, lost_known, events }
    }
}
