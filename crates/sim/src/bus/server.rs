//! One server of the bus.

use std::collections::VecDeque;

use roomcast_protocol::envelope::MasterId;

use super::execute::Asker;
use super::{Call, Data};

/// The wall clock of a run that begins. Units: milliseconds since the Unix epoch.
pub(crate) const EPOCH_MS: u64 = 1_700_000_000_000;

/// A Redis server.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) shard: usize,
    /// It is gone for good.
    pub(crate) dead: bool,
    /// It takes nothing until then; what comes meanwhile is done afterwards.
    pub(crate) frozen_until_ms: u64,
    /// Commands that came meanwhile.
    pub(crate) deferred: VecDeque<((Asker, usize, u64), Call)>,
    /// Its replication id.
    pub(crate) master: MasterId,
    /// It takes writes.
    pub(crate) writes: bool,
    /// The function library is loaded.
    pub(crate) functions: bool,
    /// How far its clock is ahead of the run's. Units: milliseconds.
    pub(crate) ahead_ms: i64,
    pub(crate) data: Data,
    /// What its replica has, if that is behind.
    pub(crate) behind: Option<Box<Data>>,
}

impl Server {
    pub(crate) fn new(shard: usize, master: MasterId, ahead_ms: i64) -> Self {
        Self {
            shard,
            dead: false,
            frozen_until_ms: 0,
            deferred: VecDeque::new(),
            master,
            writes: true,
            functions: false,
            ahead_ms,
            data: Data::new(u128::from(master.0)),
            behind: None,
        }
    }

    /// Its clock. Units: milliseconds since the Unix epoch.
    pub(crate) const fn time_ms(&self, now_ms: u64) -> u64 {
        (EPOCH_MS + now_ms).saturating_add_signed(self.ahead_ms)
    }
}
