//! One node of a run: the real hub and the real lanes, in shells that do what the gateway's do, with a client of the bus.

pub(crate) mod broker;
pub(crate) mod core;
pub(crate) mod feed;
pub(crate) mod lane;
mod lasting;
pub(crate) mod socket;

use std::sync::Arc;

use roomcast_protocol::guard::Guard;
use roomcast_protocol::ids::{LaneId, NodeId};
use roomcast_protocol::limits::SessionLimits;
use roomcast_protocol::time::Now;
use roomcast_router::happenings::Wanted;
use roomcast_router::hub::{Hub, HubConfig};
use roomcast_router::lane::{Lane, LaneConfig, Secrets};
use roomcast_router::meter::Users;

use crate::bus::server::EPOCH_MS;
use crate::check::inflight::UNACKED_MAX;
use crate::random::Random;
use crate::rules::Rules;
use broker::Broker;
use core::Core;
use lane::LaneActor;

/// Lanes of a node.
pub(crate) const LANES: usize = 2;

/// Where a node's monotonic clock begins. Units: milliseconds.
const MONO_START_MS: u64 = 10_000;

/// One node; after a crash the next life is another node in the same place.
pub(crate) struct Node {
    pub(crate) life: u32,
    pub(crate) up: bool,
    /// It stops, and takes no new connections.
    pub(crate) draining: bool,
    born_ms: u64,
    /// How far its wall clock is ahead of the run's. Units: milliseconds.
    pub(crate) ahead_ms: i64,
    pub(crate) core: Core,
    pub(crate) lanes: Vec<LaneActor>,
    pub(crate) broker: Broker,
    pub(crate) users: Arc<Users>,
    /// When something that concerned this node alone was last wrong; its beat may not have been fresh.
    pub(crate) troubled_ms: u64,
}

/// What a node is made with.
#[derive(Clone, Debug)]
pub(crate) struct Birth {
    pub(crate) slot: usize,
    pub(crate) life: u32,
    pub(crate) ahead_ms: i64,
    pub(crate) seed: u64,
    pub(crate) now_ms: u64,
    /// The bug of the router that is planted in it.
    pub(crate) planted: Option<roomcast_router::planted::Planted>,
    /// How long sessions without a connection can be resumed. Units: milliseconds.
    pub(crate) window_ms: u64,
    /// How long users who left count as present. Units: milliseconds.
    pub(crate) leave_grace_ms: u64,
    /// It tells the application which rooms become occupied and vacated.
    pub(crate) occupancy: bool,
    /// The masters that it finds.
    pub(crate) view: Vec<usize>,
}

/// The name of a node in one of its lives.
pub(crate) fn id_of(slot: usize, life: u32) -> NodeId {
    NodeId((slot as u64 + 1) * 1_000_000 + u64::from(life))
}

/// A lane's secrets: by its node's seed, so that a run is fixed.
fn secrets(seed: u64, lane: usize) -> Secrets {
    let mut random = Random::new(seed ^ (lane as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    Box::new(move || random.u128())
}

impl Node {
    pub(crate) fn new(birth: &Birth, rules: &Arc<Rules>) -> Self {
        let id = id_of(birth.slot, birth.life);
        let guard: Arc<dyn Guard> = Arc::<Rules>::clone(rules);
        let config = HubConfig {
            linger_ms: 100,
            leave_grace_ms: birth.leave_grace_ms,
            id,
            node: id.to_string().into(),
            seed: birth.seed,
            answer_bytes_max: 1 << 10,
            lanes: LANES as u8,
            watched: true,
            occupancy: birth.occupancy,
            write_list: None,
        };
        let users = Arc::new(Users::new(birth.seed));
        let lane = |at: usize| {
            let limits = SessionLimits {
                messages_per_minute: 100_000,
                controls_per_minute: 100_000,
                connections_per_user: 1_000,
                ping_ms: 5_000,
                unacked_max: UNACKED_MAX,
                pong_ms: 3_000,
                resume_window_ms: birth.window_ms,
                ..SessionLimits::default()
            };
            LaneActor::new(Lane::new(LaneConfig {
                id: LaneId(at as u8),
                guard: Arc::clone(&guard),
                limits,
                users: Arc::clone(&users),
                seed: birth.seed,
                secrets: secrets(birth.seed, at),
                wanted: Wanted::default(),
            }))
        };
        let mut hub = Hub::new(config, Arc::clone(&guard));
        let mut lanes: Vec<_> = (0..LANES).map(lane).collect();
        if let Some(planted) = birth.planted {
            hub.plant(planted);
            lanes.iter_mut().for_each(|actor| actor.lane.plant(planted));
        }
        Self {
            life: birth.life,
            up: true,
            draining: false,
            born_ms: birth.now_ms,
            ahead_ms: birth.ahead_ms,
            core: Core::new(hub),
            lanes,
            broker: Broker::new(birth.view.clone()),
            users,
            troubled_ms: birth.now_ms,
        }
    }

    /// What time it is on its clocks.
    pub(crate) const fn now(&self, now_ms: u64) -> Now {
        Now {
            mono_ms: MONO_START_MS + now_ms - self.born_ms,
            unix_ms: (EPOCH_MS + now_ms).saturating_add_signed(self.ahead_ms),
        }
    }

    /// The run's time of a time on its monotonic clock.
    pub(crate) const fn run_ms(&self, mono_ms: u64) -> u64 {
        self.born_ms.saturating_add(mono_ms.saturating_sub(MONO_START_MS))
    }

    /// Whether a queue between its threads is over its half, so that publishers are read no further.
    pub(crate) fn is_congested(&self) -> bool {
        self.core.from_lanes_bytes > core::CORE_QUEUE_BYTES / 2
            || self.lanes.iter().any(|lane| lane.inbox_bytes > core::LANE_QUEUE_BYTES / 2)
    }
}
