//! What the embedded broker does about presence: leases that hold while nodes are attached, what is due in rooms, and
//! who is told (G18).

use std::sync::Arc;

use roomcast_protocol::envelope::{BeatReport, BrokerEvent, Envelope, MasterId};
use roomcast_protocol::ids::NodeId;
use roomcast_protocol::occupancy::GivenOccupancies;
use roomcast_protocol::position::Position;
use roomcast_protocol::presence::{
    Incarnation, PresenceDiff, PresenceSet, RosterPage, SetPresence,
};
use roomcast_protocol::room::RoomName;
use roomcast_store::{Beaten, Stepped, Tended};

use super::State;
use crate::feed::EVENT_BYTES;

/// A lease holds while its node is attached. Units: milliseconds.
pub(super) const LEASE_MS: u64 = u64::MAX;

/// What a name in an event weighs beside its text. Units: bytes.
const NAME_BYTES: usize = 16;

/// What an event of an occupied room weighs beside the room's name. Units: bytes.
const OCCUPANCY_BYTES: usize = 64;

/// How often what is due is done in one turn, some hundred users and sessions each time; the rest is the next turn's.
const ROUNDS_MAX: usize = 64;

/// What names weigh in a feed. Units: bytes.
pub(super) fn names_weight<'a>(names: impl IntoIterator<Item = &'a Box<str>>) -> usize {
    names.into_iter().map(|name| NAME_BYTES + name.len()).sum()
}

/// What events of occupied rooms weigh in a feed. Units: bytes.
pub(crate) fn occupancies_weight(given: &GivenOccupancies) -> usize {
    given.events.iter().map(|(_, event)| OCCUPANCY_BYTES + event.room.as_str().len()).sum()
}

impl<T> State<T> {
    /// Changes who is in a room, and tells all nodes what that changed for users. Answers with what the answer weighs,
    /// too.
    pub(super) fn set_presence(&mut self, set: &SetPresence) -> (usize, PresenceSet) {
        let at = self.at();
        let Stepped { answer, publish } = self.store.set_presence(at, set);
        publish.iter().for_each(|diff| self.spread_presence(diff));
        let weight = match &answer {
            PresenceSet::Done(Some(diff)) => diff_weight(diff),
            PresenceSet::Done(None) | PresenceSet::Reaped => EVENT_BYTES,
        };
        (weight, answer)
    }

    pub(super) fn roster(
        &mut self,
        room: &RoomName,
        after: Option<&str>,
        count_max: u32,
    ) -> (usize, RosterPage) {
        let at = self.at();
        let page = self.store.roster(at, room, after, count_max);
        (EVENT_BYTES + names_weight(&page.users), page)
    }

    /// A node's beat. Nothing can be cut off inside a process, so there are no links, and nobody asks for peers.
    /// Answers with what the answer weighs, too.
    pub(super) fn beat(
        &mut self,
        incarnation: Incarnation,
        retired: Option<u32>,
        (told, reads): (Option<Position>, bool),
    ) -> (usize, BeatReport) {
        let at = self.at();
        let Beaten { lease, tended } = self.store.beat(at, incarnation, retired);
        self.spread_tended(&tended);
        if tended.more {
            self.tend();
        }
        let (master, agents) = (MasterId(1), self.store.give_untold(self.now_ms, told));
        let weight = EVENT_BYTES + agents.iter().map(diff_weight).sum::<usize>();
        let (links, peers, masters) = (Vec::new(), Vec::new(), master);
        let unread = if reads { self.store.unread(self.now_ms) } else { Vec::new() };
        (weight, BeatReport { master, masters, links, peers, lease, agents, unread })
    }

    /// A node is gone, and with it all that it entered.
    pub(super) fn end_leases(&mut self, node: NodeId) {
        self.store.end_leases(self.now_ms, node);
        let overdue = self.store.overdue(self.now_ms);
        self.store.mark_reaped(self.now_ms, &overdue);
        self.tend();
        if self.nodes.is_empty() {
            // Whoever comes later was not there.
            self.store.forget_untold();
        }
    }

    /// Does what is due in rooms.
    pub(super) fn tend(&mut self) {
        for _ in 0..ROUNDS_MAX {
            if !self.store.is_due(self.now_ms) {
                return;
            }
            let at = self.at();
            let tended = self.store.tend(at);
            self.spread_tended(&tended);
        }
    }

    /// Tells all nodes.
    fn spread_tended(&self, tended: &Tended) {
        tended.diffs.iter().for_each(|diff| self.spread_presence(diff));
    }

    /// Puts a diff into every feed.
    fn spread_presence(&self, diff: &Arc<PresenceDiff>) {
        let weight = diff_weight(diff);
        for attached in &self.nodes {
            let envelope = Envelope::Presence(Arc::clone(diff));
            attached.feed.send(weight, BrokerEvent::Envelope(envelope));
        }
    }
}

fn diff_weight(diff: &PresenceDiff) -> usize {
    EVENT_BYTES + names_weight(diff.joined.iter().chain(&diff.left))
}
