//! Who has carried an order out (G22): this node tells whoever gave it once all its lanes have, and counts who tells it of
//! its own. A node that does not is named; it obeys before it delivers all the same, and that is not decided here.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use roomcast_protocol::codes::Refused;
use roomcast_protocol::content::Content;
use roomcast_protocol::envelope::{Accepted, BrokerCommand};
use roomcast_protocol::ids::{LaneId, NodeId};
use roomcast_protocol::publication::Publication;
use roomcast_protocol::room::RoomName;
use roomcast_protocol::time::{Now, iso8601};

use super::standings::{Member, member_of};
use super::surveys::{ANSWER, TO_ALL};
use super::{Hub, bit_of};
use crate::messages::{HubEffect, LaneMessage, QueryId, Ticket};
use crate::orders::{Order, Outcome, asker_of, confirmation, confirmed, node_of};

/// What the names of rooms begin with in which one node hears what others say to it alone.
const TO_NODE: &str = "$node-";

/// The type of a node's word that its lanes carried an order out.
const CONFIRM: &str = "confirm";

/// The type of a node's word that it has ended.
const FAREWELL: &str = "farewell";

/// Orders that lanes of a node have under way; of those beyond it the oldest is obeyed but not confirmed.
pub const CARRYING_MAX: usize = 4_096;

/// Nodes that an answer names.
pub const NODES_MAX: usize = 1_024;

/// What became of an order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ordered {
    /// How safe it is, and where it stands.
    pub accepted: Accepted,
    /// What each node did that carried it out, in order. Bounds: [`NODES_MAX`].
    pub nodes: Vec<(NodeId, Outcome)>,
    /// Nodes that have not said so in time, and those that were lost before.
    pub unanswered: Vec<NodeId>,
}

/// An order on its way through this node's lanes.
#[derive(Debug)]
struct Carrying {
    asker: Option<(NodeId, u64)>,
    /// Of whom it says whether it is a member of a group.
    member: Option<Member>,
    /// Lanes that have not carried it out; one bit each.
    left: u64,
    outcome: Outcome,
}

/// An order of this node.
#[derive(Debug)]
struct Awaited {
    due_ms: u64,
    /// It is stored, and what it ends at the broker has ended.
    stored: Option<Accepted>,
    /// Nodes that held a lease when it was given, and have not said that they carried it out.
    missing: BTreeSet<NodeId>,
    /// Nodes whose lease had ended by then without a farewell: they are not waited for, but named.
    lost: BTreeSet<NodeId>,
    nodes: BTreeMap<NodeId, Outcome>,
}

/// Orders under way. Bounds: [`CARRYING_MAX`], and the questions of back-ends.
#[derive(Debug, Default)]
pub(super) struct Answers {
    serial: u64,
    carrying: BTreeMap<u64, Carrying>,
    awaited: BTreeMap<u64, Awaited>,
}

impl Answers {
    /// Whether the question is an order that is not answered.
    pub(super) fn awaits(&self, query: QueryId) -> bool {
        self.awaited.contains_key(&query.0)
    }

    /// When an order is answered without all nodes. Units: monotonic milliseconds.
    pub(super) fn next_ms(&self) -> Option<u64> {
        let stored = self.awaited.values().filter(|it| it.stored.is_some());
        stored.map(|awaited| awaited.due_ms).min()
    }

    /// Nothing is under way.
    #[cfg(test)]
    pub(super) fn are_idle(&self) -> bool {
        self.carrying.is_empty() && self.awaited.is_empty()
    }
}

/// The room in which a node hears what others say to it alone.
pub(super) fn room_of(node: NodeId) -> Option<RoomName> {
    RoomName::system(&format!("{TO_NODE}{node}")).ok()
}

/// Whether only hubs hear the room.
pub(super) fn is_for_hubs(room: &RoomName) -> bool {
    room.as_str().starts_with(TO_NODE) || room.as_str() == TO_ALL
}

impl Hub {
    /// Hears what other nodes say to this one.
    pub(super) fn hear_answers(&self, out: &mut Vec<HubEffect>) {
        let rooms = [room_of(self.config.id), RoomName::system(TO_ALL).ok()];
        let subscribe = |room| BrokerCommand::Subscribe { room, request: 0 };
        out.extend(rooms.into_iter().flatten().map(|room| HubEffect::Broker(subscribe(room))));
    }

    /// This node, and those that hold a lease. Bounds: [`NODES_MAX`].
    pub(super) fn all_nodes(&self) -> BTreeSet<NodeId> {
        let peers = self.watch.iter().flat_map(|watch| watch.peers.nodes());
        std::iter::once(self.config.id).chain(peers).take(NODES_MAX).collect()
    }

    /// Nodes whose lease has ended lately without a farewell. Bounds: [`NODES_MAX`].
    pub(super) fn lost_nodes(&self) -> BTreeSet<NodeId> {
        self.watch.iter().flat_map(|watch| watch.peers.lost()).collect()
    }

    /// This node's lanes have ended: the others are told that it is gone.
    pub fn farewell(&mut self, now: Now, out: &mut Vec<HubEffect>) {
        if self.watch.is_some()
            && let Ok(room) = RoomName::system(TO_ALL)
        {
            let text = self.config.id.to_string();
            self.say_to_nodes(now, room, FAREWELL, text, out);
        }
    }

    /// Another node has ended: nobody waits for it any more.
    fn hear_farewell(&mut self, now: Now, node: NodeId, out: &mut Vec<HubEffect>) {
        if node == self.config.id {
            return;
        }
        if let Some(watch) = &mut self.watch {
            watch.farewell(now.mono_ms, node);
        }
        let queries: Vec<u64> = self.answers.awaited.keys().copied().collect();
        for query in queries {
            if let Some(awaited) = self.answers.awaited.get_mut(&query) {
                awaited.missing.remove(&node);
                awaited.lost.remove(&node);
            }
            self.answer_order(query, false, out);
        }
        self.survey_without(node, out);
    }

    /// This node's lanes; one bit each.
    pub(super) fn all_lanes(&self) -> u64 {
        let lanes = self.config.lanes.min(LaneId::MAX);
        (0..lanes).filter_map(|lane| bit_of(LaneId(lane))).fold(0, |all, bit| all | bit)
    }

    /// An order of this node is on its way.
    pub(super) fn await_order(&mut self, now: Now, query: QueryId, timeout_ms: u64) {
        let (missing, lost) = (self.all_nodes(), self.lost_nodes());
        let due_ms = now.mono_ms.saturating_add(timeout_ms);
        let awaited = Awaited { due_ms, stored: None, missing, lost, nodes: BTreeMap::new() };
        self.answers.awaited.insert(query.0, awaited);
    }

    /// An order of this node is stored, and what it ends at the broker has ended; or it is not.
    pub(super) fn order_is_stored(
        &mut self,
        query: QueryId,
        outcome: Result<Accepted, Refused>,
        out: &mut Vec<HubEffect>,
    ) {
        match (outcome, self.answers.awaited.get_mut(&query.0)) {
            (Ok(accepted), Some(awaited)) => awaited.stored = Some(accepted),
            (Err(refused), Some(_)) => {
                self.answers.awaited.remove(&query.0);
                self.is_ordered(query, Err(refused), out);
            }
            (Ok(_) | Err(_), None) => {}
        }
        self.answer_order(query.0, false, out);
    }

    /// Has all lanes carry an order out, which has an id if nodes were given it. What it changes of groups counts from here on.
    pub(super) fn carry_out(&mut self, id: Option<&str>, order: Order, out: &mut Vec<HubEffect>) {
        self.talks.obey(&order);
        self.lists.doubt(&order);
        self.standings.obey(&order);
        let left = self.all_lanes();
        #[cfg(feature = "planted")]
        let left = match self.planted {
            Some(crate::planted::Planted::ConfirmedEarly) => 1,
            _ => left,
        };
        self.answers.serial += 1;
        let ticket = self.answers.serial;
        let asker = id.and_then(asker_of);
        let member = id.and_then(|_| member_of(&order));
        if asker.is_some() || member.is_some() {
            if self.answers.carrying.len() >= CARRYING_MAX {
                let oldest = self.answers.carrying.pop_first().and_then(|(_, it)| it.member);
                oldest.into_iter().for_each(|it| self.standings.look(it));
                self.counters.orders_unconfirmed += 1;
            }
            let carrying = Carrying { asker, member, left, outcome: Outcome::default() };
            self.answers.carrying.insert(ticket, carrying);
        }
        let order = Arc::new(order);
        self.tell_lanes(|| LaneMessage::Order { ticket, order: Arc::clone(&order) }, out);
    }

    /// A lane has carried an order out.
    pub(super) fn carried_out(
        &mut self,
        now: Now,
        lane: LaneId,
        ticket: u64,
        outcome: Outcome,
        out: &mut Vec<HubEffect>,
    ) {
        let Some(carrying) = self.answers.carrying.get_mut(&ticket) else { return };
        carrying.left &= !bit_of(lane).unwrap_or(0);
        carrying.outcome.add(outcome);
        if carrying.left != 0 {
            return;
        }
        let Some(carried) = self.answers.carrying.remove(&ticket) else { return };
        let Carrying { asker, member, outcome, .. } = carried;
        if let Some(member) = member.filter(|_| outcome.sessions > 0) {
            self.standings.look(member);
        }
        let Some((node, query)) = asker else { return };
        let own = self.config.id;
        if node == own {
            return self.confirmed_by(own, query, outcome, out);
        }
        let Some(room) = room_of(node) else { return };
        let text = confirmation(query, own, &outcome);
        self.say_to_nodes(now, room, CONFIRM, text, out);
    }

    /// Says something in a room of hubs. What is lost on the way is named by whoever waits for it.
    pub(super) fn say_to_nodes(
        &mut self,
        now: Now,
        room: RoomName,
        kind: &str,
        text: String,
        out: &mut Vec<HubEffect>,
    ) {
        self.answers.serial += 1;
        let publication = Publication {
            id: self.answers.serial.to_string().into(),
            kind: kind.into(),
            timestamp: iso8601(now.unix_ms).into(),
            sender: self.config.node.clone(),
            ..Publication::bare(room, Content::Text(text.into()))
        };
        self.publish(now, Ticket::Node, Arc::new(publication), false, out);
    }

    /// Another node says something to this one, or to all.
    pub(super) fn hear_node(
        &mut self,
        now: Now,
        publication: &Publication,
        out: &mut Vec<HubEffect>,
    ) {
        let Content::Text(text) = &publication.content else { return };
        let Ok(text) = std::str::from_utf8(text) else { return };
        if publication.room.as_str() == TO_ALL {
            return match (&*publication.kind, node_of(text)) {
                (FAREWELL, Some(node)) => self.hear_farewell(now, node, out),
                (FAREWELL, None) => {}
                (kind, _) => self.hear_survey(kind, text, out),
            };
        }
        match &*publication.kind {
            CONFIRM => {
                if let Some((query, node, outcome)) = confirmed(text) {
                    self.confirmed_by(node, query, outcome, out);
                }
            }
            ANSWER => self.hear_answer(text, out),
            _ => {}
        }
    }

    fn confirmed_by(
        &mut self,
        node: NodeId,
        query: u64,
        outcome: Outcome,
        out: &mut Vec<HubEffect>,
    ) {
        let Some(awaited) = self.answers.awaited.get_mut(&query) else { return };
        awaited.missing.remove(&node);
        awaited.lost.remove(&node);
        if awaited.nodes.len() < NODES_MAX {
            // An order that is read once more is obeyed once: the first word counts.
            awaited.nodes.entry(node).or_insert(outcome);
        }
        self.answer_order(query, false, out);
    }

    /// Answers orders whose time is over.
    pub(super) fn answer_late_orders(&mut self, now: Now, out: &mut Vec<HubEffect>) {
        let late = |(query, it): (&u64, &Awaited)| (it.due_ms <= now.mono_ms).then_some(*query);
        let late: Vec<u64> = self.answers.awaited.iter().filter_map(late).collect();
        for query in late {
            self.answer_order(query, true, out);
        }
    }

    /// Answers an order once it is stored and carried out by all nodes, or its time is over.
    fn answer_order(&mut self, query: u64, late: bool, out: &mut Vec<HubEffect>) {
        let Some(awaited) = self.answers.awaited.get(&query) else { return };
        let Some(accepted) = awaited.stored else { return };
        if !late && !awaited.missing.is_empty() {
            return;
        }
        let Some(awaited) = self.answers.awaited.remove(&query) else { return };
        let unanswered: Vec<NodeId> = awaited.missing.union(&awaited.lost).copied().collect();
        self.counters.orders_unanswered += unanswered.len() as u64;
        let nodes = awaited.nodes.into_iter().collect();
        let ordered = Ordered { accepted, nodes, unanswered };
        self.is_ordered(QueryId(query), Ok(ordered), out);
    }

    /// Nobody is waited for any more: whoever gave the order is answered, and what it changed can be told.
    fn is_ordered(
        &mut self,
        query: QueryId,
        outcome: Result<Ordered, Refused>,
        out: &mut Vec<HubEffect>,
    ) {
        self.member_is_told(query);
        out.push(HubEffect::Ordered(query, outcome));
    }
}
