//! RPC for back-ends (goridge): sockets, and calls that become publications. Runs on the core thread beside the core,
//! asks it through its queue, and never waits for a caller without a deadline. The bytes are the dialects' business.

mod calls;
mod connection;
mod counters;
mod gate;
mod places;
mod server;

use std::sync::Arc;

use roomcast_dialects::goridge::Services;
use roomcast_dialects::roadrunner::Brokers;
use roomcast_protocol::guard::Principal;
use roomcast_protocol::limits::DecodeLimits;

use crate::clock::Clock;
use crate::config::Config;
use crate::core::CoreHandle;
use crate::guard::{self, RuleGuard};
pub(crate) use counters::{Answered, Ended, RpcCounters};
pub(crate) use places::{Listener, listen};
pub(crate) use server::{finish, serve};

/// Who publishes what came by RPC, which knows no names: the back-end `rpc`.
const NAME: &str = "rpc";

/// What RPC is served with.
pub(crate) struct RpcParts {
    pub(crate) core: CoreHandle,
    pub(crate) guard: Arc<RuleGuard>,
    pub(crate) clock: Clock,
    pub(crate) brokers: Brokers,
    pub(crate) counters: Arc<RpcCounters>,
}

/// RPC of one node.
pub(crate) struct Rpc {
    parts: RpcParts,
    who: Principal,
    services: Services,
    decode: DecodeLimits,
    message_bytes_max: usize,
    connections_max: usize,
}

impl Rpc {
    /// RPC as the configuration says.
    pub(crate) fn new(config: &Config, parts: RpcParts) -> Self {
        Self {
            parts,
            who: guard::backend(NAME),
            services: Services { websockets: config.rpc.websockets },
            decode: config.limits.decode,
            message_bytes_max: config.limits.message_bytes,
            connections_max: config.rpc.connections_max,
        }
    }

    /// What it counts.
    pub(crate) fn counters(&self) -> Arc<RpcCounters> {
        Arc::clone(&self.parts.counters)
    }
}
