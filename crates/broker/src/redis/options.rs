//! What a Redis broker is made with.

use std::fmt;
use std::sync::Arc;

use roomcast_protocol::relay::{RelayCodec, RelayKeys, RelayMode};
use roomcast_protocol::room::RoomName;

/// How a room is relayed.
pub type ModeOf = dyn Fn(&RoomName) -> RelayMode + Send + Sync;

/// What a Redis broker is made with.
#[derive(Clone)]
pub struct RedisOptions {
    /// Where the servers are.
    pub servers: Servers,
    /// Who the node is to them.
    pub credentials: Credentials,
    /// Who the node is to the Sentinels, where they ask.
    pub sentinel_credentials: Credentials,
    /// Encrypt all connections.
    pub tls: Option<Tls>,
    /// How long a command may take until its outcome counts as unknown. Units: milliseconds.
    pub command_timeout_ms: u64,
    /// How long connecting may take. Units: milliseconds.
    pub connect_timeout_ms: u64,
    /// Bytes of publications that may wait for Redis; beyond it they are refused. Units: bytes.
    pub pending_bytes_max: usize,
    /// How long an id is remembered at least; at most twice as long. Units: milliseconds.
    pub dedup_ttl_ms: u64,
    /// Ids remembered in each of the two generations of a room.
    pub dedup_max: usize,
    /// How many replicas must have a publication of a room that asks for it.
    pub replicas_min: u32,
    /// How long they may take until its outcome counts as unknown. Units: milliseconds.
    pub wait_timeout_ms: u64,
    /// How the bytes of envelopes are written and read.
    pub codec: Arc<dyn RelayCodec>,
    /// The keys of envelopes; `None`: one is made once and kept in Redis.
    pub keys: Option<RelayKeys>,
    /// How rooms are relayed whose rule says nothing.
    pub mode: RelayMode,
    /// How a room is relayed.
    pub mode_of: Arc<ModeOf>,
    /// All modes that [`RedisOptions::mode_of`] may answer, [`RedisOptions::mode`] among them.
    pub modes: Vec<RelayMode>,
    /// Nodes with another digest relay rooms in other modes.
    pub modes_digest: u64,
    /// Hear what outsiders publish on `room:<name>` also for rooms relayed in another mode than pattern.
    pub outsiders: bool,
}

impl fmt::Debug for RedisOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisOptions")
            .field("servers", &self.servers)
            .field("tls", &self.tls.is_some())
            .field("mode", &self.mode)
            .finish_non_exhaustive()
    }
}

/// A host and a port.
pub type Address = (String, u16);

/// Where the servers are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Servers {
    /// One server.
    Standalone(Address),
    /// Sentinels, which know the master of this name.
    Sentinel {
        /// The Sentinels, at least one.
        sentinels: Vec<Address>,
        /// The master's name.
        service: String,
    },
    /// Some servers of a Redis Cluster, at least one; the others are learnt from them.
    Cluster(Vec<Address>),
}

/// An ACL user and its password. Never written out.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Credentials {
    /// `None`: the default user.
    pub username: Option<String>,
    /// `None`: no password is sent.
    pub password: Option<String>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials(********)")
    }
}

/// Encrypted connections.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tls {
    /// Certificates that servers' certificates are signed by, as PEM; `None`: those of the system.
    pub ca_pem: Option<Vec<u8>>,
}
