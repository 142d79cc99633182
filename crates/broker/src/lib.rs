//! Carries envelopes between nodes. The hub decides, a broker executes: it takes [`BrokerCommand`]s and gives
//! [`BrokerEvent`]s, in one order for each node. Never looks into a payload and never decides who hears a room.

pub mod feed;
pub mod memory;
pub mod redis;
pub mod stats;

use std::sync::Arc;

use roomcast_protocol::envelope::{BrokerCommand, BrokerEvent};
use roomcast_protocol::ids::NodeId;

pub use feed::Feed;
pub use memory::{MemoryBroker, MemoryLimits};
pub use redis::RedisBroker;
pub use stats::RelayStats;

/// The brokers there are: a closed list, so that adding one makes the compiler name the places.
#[derive(Debug)]
pub enum AnyBroker<T> {
    /// Inside this process; several nodes of the process may share it.
    Memory(MemoryBroker<T>),
    /// In Redis; nodes of other processes share it.
    Redis(RedisBroker<T>),
}

impl<T> Clone for AnyBroker<T> {
    fn clone(&self) -> Self {
        match self {
            Self::Memory(broker) => Self::Memory(broker.clone()),
            Self::Redis(broker) => Self::Redis(broker.clone()),
        }
    }
}

impl<T: Send + 'static> AnyBroker<T> {
    /// Attaches a node, and answers with its feed. Call it in the runtime of the node's core thread: whatever the
    /// broker has to do for the node goes on there.
    #[must_use]
    pub fn attach(&self, node: NodeId, stats: &Arc<RelayStats>) -> Feed<BrokerEvent<T>> {
        match self {
            Self::Memory(broker) => broker.attach(node, stats),
            Self::Redis(broker) => broker.attach(node, stats),
        }
    }

    /// Detaches a node: its feed ends, its unanswered commands stay unanswered.
    pub fn detach(&self, node: NodeId) {
        match self {
            Self::Memory(broker) => broker.detach(node),
            Self::Redis(broker) => broker.detach(node),
        }
    }

    /// Executes a node's command; what comes of it arrives on the node's feed. `mono_ms` is the caller's time.
    pub fn execute(&self, node: NodeId, mono_ms: u64, command: BrokerCommand<T>) {
        match self {
            Self::Memory(broker) => broker.execute(node, mono_ms, command),
            Self::Redis(broker) => broker.execute(node, command),
        }
    }
}
