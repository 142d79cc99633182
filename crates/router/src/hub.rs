//! The node-wide part of the router: which lanes hear which room, what the broker is asked for, and which agents are
//! there. Pure; keeps INV-4 (interest is on exactly while a lane has members, or lingers).

mod agents;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use foldhash::quality::FixedState;
use roomcast_protocol::envelope::{BrokerCommand, BrokerEvent, Envelope};
use roomcast_protocol::ids::LaneId;
use roomcast_protocol::room::RoomName;
use roomcast_protocol::time::Now;

use crate::messages::{HubEffect, HubMessage, LaneMessage, Ticket};
use agents::Agent;

/// What a hub is made with.
#[derive(Clone, Debug)]
pub struct HubConfig {
    /// How long interest outlives the last member, so that a reload costs nothing. Units: milliseconds.
    pub linger_ms: u64,
    /// How long an agent may be away before it counts as disconnected. Units: milliseconds.
    pub leave_grace_ms: u64,
    /// The node's name, as the sender of what it publishes itself.
    pub node: Box<str>,
    /// Seeds the tables whose keys peers choose.
    pub seed: u64,
}

/// What happened since the hub began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HubCounters {
    /// Publications handed to the broker.
    pub published: u64,
    /// Envelopes the feed brought.
    pub received: u64,
    /// Envelopes that no lane hears.
    pub unwanted: u64,
}

#[derive(Debug)]
struct HubRoom {
    /// Lanes that hear it, or will once the broker has confirmed; one bit each.
    lanes: u64,
    /// When interest ends, if no lane hears it; else [`NEVER`]. Units: monotonic milliseconds.
    until_ms: u64,
    /// Which request for it counts.
    request: u64,
    /// The broker has confirmed that request.
    subscribed: bool,
}

const NEVER: u64 = u64::MAX;

/// What a room costs beside its name.
#[cfg(test)]
pub(crate) const ROOM_BYTES: usize = size_of::<HubRoom>();

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Deadline {
    Room(RoomName),
    Agent(Box<str>),
}

/// The node-wide part of the router.
#[derive(Debug)]
pub struct Hub {
    config: HubConfig,
    rooms: HashMap<RoomName, HubRoom, FixedState>,
    agents: HashMap<Box<str>, Agent, FixedState>,
    deadlines: BTreeSet<(u64, Deadline)>,
    /// Subscriptions asked for so far.
    requests: u64,
    counters: HubCounters,
    ids_made: u64,
}

impl Hub {
    /// An empty hub.
    #[must_use]
    pub fn new(config: HubConfig) -> Self {
        let state = FixedState::with_seed(config.seed);
        Self {
            config,
            rooms: HashMap::with_hasher(state.clone()),
            agents: HashMap::with_hasher(state),
            deadlines: BTreeSet::new(),
            requests: 0,
            counters: HubCounters::default(),
            ids_made: 0,
        }
    }

    /// What happened so far.
    #[must_use]
    pub const fn counters(&self) -> HubCounters {
        self.counters
    }

    /// Rooms the node hears, those that linger included.
    #[must_use]
    pub fn rooms(&self) -> usize {
        self.rooms.len()
    }

    /// Agents that count as connected.
    #[must_use]
    pub fn agents(&self) -> usize {
        self.agents.len()
    }

    /// Takes what a lane (or the shell) says.
    pub fn message(&mut self, now: Now, message: HubMessage, out: &mut Vec<HubEffect>) {
        match message {
            HubMessage::Join { lane, room } => self.join(lane, room, out),
            HubMessage::Leave { lane, room } => self.leave(now, lane, &room),
            HubMessage::Publish { ticket, publication, dedup } => {
                self.counters.published += 1;
                out.push(HubEffect::Broker(BrokerCommand::Publish { ticket, publication, dedup }));
            }
            HubMessage::Agent { agent_id, up: true } => self.agent_up(now, &agent_id, out),
            HubMessage::Agent { agent_id, up: false } => self.agent_down(now, &agent_id),
        }
    }

    /// Takes what the broker says.
    pub fn broker_event(&mut self, event: BrokerEvent<Ticket>, out: &mut Vec<HubEffect>) {
        match event {
            BrokerEvent::Envelope(Envelope::Publication { publication, published_us }) => {
                self.counters.received += 1;
                let room = self.rooms.get(&publication.room).filter(|room| room.subscribed);
                let lanes = room.map_or(0, |room| room.lanes);
                if lanes == 0 {
                    self.counters.unwanted += 1;
                }
                for lane in each_lane(lanes) {
                    let message = LaneMessage::Publication {
                        publication: Arc::clone(&publication),
                        published_us,
                    };
                    out.push(HubEffect::Lane(lane, message));
                }
            }
            BrokerEvent::Subscribed { room, request } => self.subscribed(&room, request, out),
            BrokerEvent::FeedUp { .. }
            | BrokerEvent::FeedDown
            | BrokerEvent::Alive(_)
            | BrokerEvent::Beat { .. }
            | BrokerEvent::BeatAnswered { .. } => {}
            BrokerEvent::Published { ticket, outcome } => match ticket {
                Ticket::Session { lane, session, reply, ack } => {
                    if ack.is_some() || outcome.is_err() {
                        let message = LaneMessage::Published { session, reply, ack, outcome };
                        out.push(HubEffect::Lane(lane, message));
                    }
                }
                Ticket::Query(query) => out.push(HubEffect::Answer(query, outcome)),
                Ticket::Node => {}
            },
        }
    }

    /// When [`Hub::tick`] wants to be called next. Units: monotonic milliseconds.
    #[must_use]
    pub fn next_wake(&self) -> Option<u64> {
        self.deadlines.first().map(|(at, _)| *at)
    }

    /// Acts on deadlines that have come.
    pub fn tick(&mut self, now: Now, out: &mut Vec<HubEffect>) {
        while self.deadlines.first().is_some_and(|(at, _)| *at <= now.mono_ms) {
            match self.deadlines.pop_first() {
                Some((at, Deadline::Room(name))) => {
                    let due = self.rooms.get(&name).is_some_and(|room| room.until_ms == at);
                    if due {
                        self.rooms.remove(&name);
                        if self.rooms.capacity() > 4 * self.rooms.len() + 1_024 {
                            self.rooms.shrink_to(2 * self.rooms.len());
                        }
                        out.push(HubEffect::Broker(BrokerCommand::Unsubscribe(name)));
                    }
                }
                Some((at, Deadline::Agent(id))) => {
                    let due =
                        self.agents.get(&id).is_some_and(|agent| agent.gone_at_ms == Some(at));
                    if due {
                        self.agents.remove(&id);
                        self.tell_of_agent(now, "agent_disconnected", "offline", &id, out);
                    }
                }
                None => return,
            }
        }
    }

    fn subscribed(&mut self, name: &RoomName, request: u64, out: &mut Vec<HubEffect>) {
        let room = self.rooms.get_mut(name);
        let Some(room) = room.filter(|room| room.request == request) else { return };
        room.subscribed = true;
        for lane in each_lane(room.lanes) {
            out.push(HubEffect::Lane(lane, LaneMessage::Joined(name.clone())));
        }
    }

    fn join(&mut self, lane: LaneId, name: RoomName, out: &mut Vec<HubEffect>) {
        let Some(bit) = bit_of(lane) else { return };
        let room = match self.rooms.get_mut(&name) {
            Some(room) => room,
            None => {
                self.requests += 1;
                let request = self.requests;
                let command = BrokerCommand::Subscribe { room: name.clone(), request };
                out.push(HubEffect::Broker(command));
                let room = HubRoom { lanes: 0, until_ms: NEVER, request, subscribed: false };
                self.rooms.entry(name.clone()).or_insert(room)
            }
        };
        let until_ms = std::mem::replace(&mut room.until_ms, NEVER);
        if until_ms != NEVER {
            self.deadlines.remove(&(until_ms, Deadline::Room(name.clone())));
        }
        room.lanes |= bit;
        if room.subscribed {
            out.push(HubEffect::Lane(lane, LaneMessage::Joined(name)));
        }
    }

    fn leave(&mut self, now: Now, lane: LaneId, name: &RoomName) {
        let Some(bit) = bit_of(lane) else { return };
        let Some(room) = self.rooms.get_mut(name) else { return };
        room.lanes &= !bit;
        if room.lanes == 0 && room.until_ms == NEVER {
            let at = now.mono_ms.saturating_add(self.config.linger_ms).min(NEVER - 1);
            room.until_ms = at;
            self.deadlines.insert((at, Deadline::Room(name.clone())));
        }
    }
}

/// The lane's bit in a room's set of lanes; none beyond [`LaneId::MAX`].
fn bit_of(lane: LaneId) -> Option<u64> {
    1_u64.checked_shl(lane.0.into())
}

fn each_lane(mut bits: u64) -> impl Iterator<Item = LaneId> {
    std::iter::from_fn(move || {
        let lane = bits.trailing_zeros();
        bits &= bits.checked_sub(1)?;
        u8::try_from(lane).ok().map(LaneId)
    })
}

#[cfg(test)]
mod tests;
