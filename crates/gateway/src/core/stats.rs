//! What the core shows of itself to metrics and health. Decides nothing.

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};

use roomcast_router::hub::{HubCounters, HubHealth, PresenceSizes};

use crate::happened::HappenedStats;

/// What the hub last said of itself.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct HubView {
    /// What happened so far.
    pub(crate) counters: HubCounters,
    /// How the relay is; `None`: the core has not turned yet.
    pub(crate) health: Option<HubHealth>,
    /// How much of presence it keeps.
    pub(crate) presence: PresenceSizes,
}

impl HubView {
    /// Whether it is known which tokens are revoked.
    pub(crate) fn takes_tokens(&self) -> bool {
        self.health.is_some_and(|health| health.takes_tokens)
    }

    /// Whether the broker has ever been reached.
    pub(crate) fn reached(&self) -> bool {
        self.health.is_some_and(|health| health.reached)
    }
}

/// What the core shows of itself.
#[derive(Debug, Default)]
pub(crate) struct CoreStats {
    hub: Mutex<HubView>,
    /// Lanes whose queue holds more than it may, one bit each: they are stuck.
    pub(crate) overrun: AtomicU64,
    /// Rooms the node hears.
    pub(crate) rooms: AtomicU64,
    /// Agents connected.
    pub(crate) agents: AtomicU64,
    /// Users who are online, or away, by a connection.
    pub(crate) people: AtomicU64,
    /// Users with a connection, or with messages that still weigh.
    pub(crate) users: AtomicU64,
    /// Bytes waiting in the broker's feed.
    pub(crate) feed_bytes: AtomicU64,
    /// Events and messages taken so far.
    pub(crate) taken: AtomicU64,
    /// What it handed over of what happened.
    pub(crate) happened: Arc<HappenedStats>,
    /// When the core last turned. Units: monotonic milliseconds.
    pub(crate) turned_ms: AtomicU64,
}

impl CoreStats {
    /// What the hub last said of itself.
    pub(crate) fn hub(&self) -> HubView {
        *self.hub.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Shows what the hub says.
    pub(crate) fn show_hub(&self, view: HubView) {
        *self.hub.lock().unwrap_or_else(PoisonError::into_inner) = view;
    }
}
