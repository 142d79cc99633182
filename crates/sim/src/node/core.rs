//! The core's shell: the hub, its two queues and the way to the lanes, as `gateway/src/core.rs` has them. Bounds are
//! smaller than there, so that they bite.

use std::collections::{BTreeMap, VecDeque};

use roomcast_protocol::envelope::{Accepted, BrokerEvent, Level};
use roomcast_protocol::ids::LaneId;
use roomcast_protocol::position::{Epoch, Position};
use roomcast_protocol::room::RoomName;
use roomcast_router::hub::Hub;
use roomcast_router::messages::{HubEffect, HubMessage, LaneMessage, QueryId, Ticket};

use crate::planted::Planted;
use crate::world::{Event, World};

/// Bytes that may wait between lanes and core.
pub(crate) const CORE_QUEUE_BYTES: usize = 256 << 10;

/// Bytes that may wait for one lane.
pub(crate) const LANE_QUEUE_BYTES: usize = 48 << 10;

/// Bytes of publications that a queue may hold over its bound: it is full only beyond it.
pub(crate) const SLACK_BYTES: usize = 96 << 10;

/// How often the core looks after itself. Units: milliseconds.
const HOUSEKEEPING_MS: u64 = 250;

/// Items taken at once.
const TURN_MAX: u64 = 64;

/// What lanes tell the core.
#[derive(Debug)]
pub(crate) enum FromLane {
    Hub(HubMessage),
    Answer(QueryId),
    /// The application has answered: it was told this.
    Told(u64),
}

/// The core of one node.
pub(crate) struct Core {
    pub(crate) hub: Hub,
    pub(crate) feed: VecDeque<(usize, BrokerEvent<Ticket>)>,
    pub(crate) feed_bytes: usize,
    pub(crate) from_lanes: VecDeque<(usize, FromLane)>,
    pub(crate) from_lanes_bytes: usize,
    /// When its next turn is; older ones in the queue of events do not count.
    pub(crate) turn_at_ms: Option<u64>,
    pub(crate) stalled_until_ms: u64,
    /// What came while it was stopped.
    pub(crate) deferred: VecDeque<Event>,
    /// Lanes that missed publications and have not been told yet.
    pub(crate) lagging: Vec<bool>,
    /// When things were dropped for each lane.
    pub(crate) dropped_ms: Vec<Vec<u64>>,
    housekept_ms: u64,
    /// How far the hub has given each lane each room that keeps its publications.
    pub(crate) runs: BTreeMap<(usize, RoomName), Position>,
    /// Epochs that each lane was led out of.
    pub(crate) left: std::collections::BTreeSet<(usize, RoomName, Epoch)>,
    /// Questions of the run itself: which publication each is about.
    pub(crate) queries: BTreeMap<u64, Asked>,
}

/// What the run asked the core.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Asked {
    Probe(usize),
    Push(usize),
    /// The change of a group's member of this number.
    Member(usize),
    Disconnect {
        client: usize,
        asked_ms: u64,
        /// Tokens from before are revoked instead.
        before_ms: Option<u64>,
    },
}

impl Core {
    pub(crate) fn new(hub: Hub) -> Self {
        Self {
            hub,
            feed: VecDeque::new(),
            feed_bytes: 0,
            from_lanes: VecDeque::new(),
            from_lanes_bytes: 0,
            turn_at_ms: None,
            stalled_until_ms: 0,
            deferred: VecDeque::new(),
            lagging: vec![false; super::LANES],
            dropped_ms: vec![Vec::new(); super::LANES],
            housekept_ms: 0,
            runs: BTreeMap::new(),
            left: std::collections::BTreeSet::new(),
            queries: BTreeMap::new(),
        }
    }
}

impl World {
    /// Has the core take its turn by then.
    pub(crate) fn want_core(&mut self, node: usize, in_ms: u64) {
        let at = (self.now_ms + in_ms).max(self.nodes[node].core.stalled_until_ms);
        let core = &mut self.nodes[node].core;
        if core.turn_at_ms.is_none_or(|turn| turn > at) {
            core.turn_at_ms = Some(at);
            let life = self.nodes[node].life;
            self.at(at, Event::CoreTurn { node, life });
        }
    }

    /// Tells the core something of the broker's.
    pub(crate) fn tell_core(&mut self, node: usize, weight: usize, event: BrokerEvent<Ticket>) {
        let core = &mut self.nodes[node].core;
        core.feed.push_back((weight, event));
        core.feed_bytes += weight;
        let in_ms = self.random.below(3);
        self.want_core(node, in_ms);
    }

    /// Tells the core something of a lane's, or of the run's own.
    pub(crate) fn tell_core_from_lane(&mut self, node: usize, weight: usize, message: FromLane) {
        let core = &mut self.nodes[node].core;
        core.from_lanes.push_back((weight, message));
        core.from_lanes_bytes += weight;
        let in_ms = self.random.below(3);
        self.want_core(node, in_ms);
    }

    pub(crate) fn core_turn(&mut self, node: usize) {
        let it = &mut self.nodes[node];
        if it.core.turn_at_ms != Some(self.now_ms) {
            return;
        }
        it.core.turn_at_ms = None;
        if it.core.stalled_until_ms > self.now_ms {
            return self.want_core(node, 0);
        }
        let now = it.now(self.now_ms);
        let mut out = Vec::new();
        let (feed_max, lanes_max) =
            (self.random.range(1, TURN_MAX), self.random.range(1, TURN_MAX));
        let it = &mut self.nodes[node];
        for _ in 0..feed_max {
            let Some((weight, event)) = it.core.feed.pop_front() else { break };
            it.core.feed_bytes -= weight;
            it.core.hub.broker_event(now, event, &mut out);
        }
        self.carry_out(node, std::mem::take(&mut out));
        for _ in 0..lanes_max {
            let it = &mut self.nodes[node];
            let Some((weight, message)) = it.core.from_lanes.pop_front() else { break };
            it.core.from_lanes_bytes -= weight;
            match message {
                FromLane::Hub(message) => {
                    if let HubMessage::Leave { lane, room } = &message {
                        it.core.runs.remove(&(usize::from(lane.0), room.clone()));
                    }
                    it.core.hub.message(now, message, &mut out);
                    self.carry_out(node, std::mem::take(&mut out));
                }
                FromLane::Answer(QueryId(id)) => {
                    it.core.queries.remove(&id);
                }
                FromLane::Told(number) => it.core.hub.occupied_told(now, number, &mut out),
            }
        }
        self.nodes[node].core.hub.tick(now, &mut out);
        self.carry_out(node, out);
        self.housekeep(node);
        self.read_held(node);
        self.check_node(node);
        let core = &self.nodes[node].core;
        if !core.feed.is_empty() || !core.from_lanes.is_empty() {
            self.want_core(node, 0);
        }
        let mut next_ms = self.nodes[node].core.housekept_ms + HOUSEKEEPING_MS;
        if let Some(wake) = self.nodes[node].core.hub.next_wake() {
            next_ms = next_ms.min(self.nodes[node].run_ms(wake));
        }
        self.want_core(node, next_ms.saturating_sub(self.now_ms).max(1));
    }

    fn carry_out(&mut self, node: usize, effects: Vec<HubEffect>) {
        for effect in effects {
            self.trace.line(self.now_ms, || {
                let text = format!("{effect:?}").replace("xxxxxxxxxx", "");
                let max = if text.contains("Save {") { 4_000 } else { 200 };
                let text: String = text.chars().take(max).collect();
                format!("core {node}: {text}")
            });
            match effect {
                HubEffect::Lane(lane, message) => self.tell_lane(node, lane, message),
                HubEffect::Broker(command) => self.order(node, command),
                HubEffect::Answer(QueryId(id), outcome) => {
                    match self.nodes[node].core.queries.remove(&id) {
                        Some(Asked::Probe(number)) => self.probe_ended(number, &outcome),
                        Some(Asked::Push(number)) => self.push_ended(number, &outcome),
                        Some(Asked::Disconnect { .. } | Asked::Member(_)) | None => {}
                    }
                }
                HubEffect::Occupied { partition: _, number, event } => {
                    self.tell_application(node, number, event);
                }
                // No run asks who is in a room of the whole cluster, or how far its users are.
                HubEffect::Roster(..)
                | HubEffect::Receipts(..)
                | HubEffect::History(..)
                | HubEffect::Surveyed(..) => {}
                HubEffect::Ordered(QueryId(id), outcome) => {
                    match self.nodes[node].core.queries.remove(&id) {
                        Some(Asked::Disconnect { client, asked_ms, before_ms }) => {
                            self.kicked(client, (asked_ms, before_ms), outcome.as_ref().ok());
                        }
                        Some(Asked::Member(change)) => self.member_changed(change, &outcome),
                        Some(Asked::Probe(_) | Asked::Push(_)) | None => {}
                    }
                }
            }
        }
    }

    /// Hands a message to a lane. Only publications, and what stands in their places, are ever dropped.
    fn tell_lane(&mut self, node: usize, lane: LaneId, message: LaneMessage) {
        let index = usize::from(lane.0);
        let inbox_bytes = self.nodes[node].lanes[index].inbox_bytes;
        if let LaneMessage::Publication { publication, .. } = &message
            && publication.isolated
        {
            self.note_isolated(&publication.id);
        }
        let full = inbox_bytes > LANE_QUEUE_BYTES && message.droppable().is_some();
        if full && self.planted != Some(Planted::UnboundedQueue) {
            self.stats.lane_drops += 1;
            self.nodes[node].core.lagging[index] = true;
            let drops = &mut self.nodes[node].core.dropped_ms[index];
            if drops.last() != Some(&self.now_ms) {
                drops.push(self.now_ms);
            }
            self.nodes[node].core.hub.dropped(lane, &message);
            return;
        }
        let weight = match &message {
            LaneMessage::Publication { publication, .. } => publication.weight(),
            LaneMessage::Published { ack, outcome, .. } => {
                if let (Some(id), Ok(Accepted { level: Level::Isolated, .. })) = (ack, outcome) {
                    self.note_isolated(id);
                }
                64
            }
            LaneMessage::Joined { .. }
            | LaneMessage::Skipped { .. }
            | LaneMessage::Gap { .. }
            | LaneMessage::Page { .. }
            | LaneMessage::Hold(_)
            | LaneMessage::Lost(_)
            | LaneMessage::Degraded { .. }
            | LaneMessage::Revalidate
            | LaneMessage::Blind
            | LaneMessage::Members { .. }
            | LaneMessage::Obeyed(_)
            | LaneMessage::Order { .. }
            | LaneMessage::Revoked { .. }
            | LaneMessage::Survey { .. }
            | LaneMessage::Conversed { .. }
            | LaneMessage::Attached { .. }
            | LaneMessage::Saved { .. }
            | LaneMessage::Fence { .. }
            | LaneMessage::Roster { .. }
            | LaneMessage::Inbox { .. }
            | LaneMessage::Marked { .. }
            | LaneMessage::Receipts(_)
            | LaneMessage::ReceiptsPage { .. }
            | LaneMessage::Presents { .. }
            | LaneMessage::Drain(_)
            | LaneMessage::Presence(_)
            | LaneMessage::Responded(_)
            | LaneMessage::Permitted { .. }
            | LaneMessage::Stop => 64,
        };
        self.check_run(node, index, &message);
        self.push_to_lane(node, index, weight, message);
    }

    fn note_isolated(&mut self, id: &str) {
        if let Some(number) = crate::wire::number_of(id) {
            self.book.pubs[number].isolated = true;
        }
    }

    pub(crate) fn push_to_lane(
        &mut self,
        node: usize,
        lane: usize,
        weight: usize,
        message: LaneMessage,
    ) {
        let actor = &mut self.nodes[node].lanes[lane];
        actor.inbox.push_back((weight, message));
        actor.inbox_bytes += weight;
        let in_ms = self.random.below(3);
        self.want_lane(node, lane, in_ms);
    }

    fn housekeep(&mut self, node: usize) {
        if self.now_ms < self.nodes[node].core.housekept_ms + HOUSEKEEPING_MS {
            return;
        }
        self.nodes[node].core.housekept_ms = self.now_ms;
        for lane in 0..super::LANES {
            let high = self.nodes[node].lanes[lane].inbox_bytes > LANE_QUEUE_BYTES / 2;
            if self.nodes[node].core.lagging[lane] && !high {
                self.nodes[node].core.lagging[lane] = false;
                let mut out = Vec::new();
                self.nodes[node].core.hub.drained(LaneId(lane as u8), &mut out);
                self.carry_out(node, out);
            }
        }
        let mono_ms = self.nodes[node].now(self.now_ms).mono_ms;
        self.nodes[node].users.sweep(mono_ms);
    }
}
