//! The embedded broker: a service of the process that all its nodes share.
//!
//! A publication is put into every node's feed, or, where one of them is full, into none and refused: inside one
//! process nothing is lost between the answer and the lanes. Repeats are recognised by (room, sender, id).

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

use roomcast_protocol::codes::{Refusal, Refused};
use roomcast_protocol::content::Content;
use roomcast_protocol::envelope::{Accepted, BrokerCommand, BrokerEvent, Envelope};
use roomcast_protocol::ids::NodeId;
use roomcast_protocol::publication::Publication;

use crate::feed::{EVENT_BYTES, Feed, FeedSender, feed};
use crate::stats::RelayStats;

/// How long an id is remembered at least; at most twice as long. Units: milliseconds.
pub const DEDUP_TTL_MS: u64 = 120_000;

/// Ids remembered in each of the two generations, 24 bytes each whatever their length; beyond it the older ones go
/// early and acks say `dedup: "short"`.
pub const DEDUP_MAX: usize = 100_000;

/// The embedded broker. Clones share it.
#[derive(Debug)]
pub struct MemoryBroker<T> {
    state: Arc<Mutex<State<T>>>,
}

impl<T> Clone for MemoryBroker<T> {
    fn clone(&self) -> Self {
        Self { state: Arc::clone(&self.state) }
    }
}

impl<T> Default for MemoryBroker<T> {
    fn default() -> Self {
        Self::new()
    }
}

#[derive(Debug)]
struct State<T> {
    nodes: Vec<Attached<T>>,
    memory: Memory,
}

#[derive(Debug)]
struct Attached<T> {
    id: NodeId,
    feed: FeedSender<BrokerEvent<T>>,
    stats: Arc<RelayStats>,
}

/// Who published what under which id, in two generations that take turns. Keys and contents are kept as keyed hashes
/// (128 and 64 bits), so that long names cost no more than short ones.
#[derive(Debug)]
struct Memory {
    hashers: [RandomState; 2],
    max: usize,
    turned_ms: u64,
    young: HashMap<u128, u64>,
    old: HashMap<u128, u64>,
    short: bool,
}

impl<T> MemoryBroker<T> {
    /// A broker without nodes.
    #[must_use]
    pub fn new() -> Self {
        Self::with_dedup_max(DEDUP_MAX)
    }

    /// The same, remembering `dedup_max` ids a generation.
    #[must_use]
    pub fn with_dedup_max(dedup_max: usize) -> Self {
        let memory = Memory {
            hashers: [RandomState::new(), RandomState::new()],
            max: dedup_max,
            turned_ms: 0,
            young: HashMap::new(),
            old: HashMap::new(),
            short: false,
        };
        Self { state: Arc::new(Mutex::new(State { nodes: Vec::new(), memory })) }
    }

    /// Attaches a node, and answers with its feed. A feed it had before ends.
    #[must_use]
    pub fn attach(&self, node: NodeId, stats: &Arc<RelayStats>) -> Feed<BrokerEvent<T>> {
        let (sender, receiver) = feed();
        self.locked(|state| {
            state.nodes.retain(|attached| attached.id != node);
            state.nodes.push(Attached { id: node, feed: sender, stats: Arc::clone(stats) });
        });
        receiver
    }

    /// Detaches a node: its feed ends.
    pub fn detach(&self, node: NodeId) {
        self.locked(|state| state.nodes.retain(|attached| attached.id != node));
    }

    /// Executes a node's command; what comes of it arrives on the node's feed. A node that is not attached could not
    /// hear what became of it, so its commands are void. Interest needs no work here: each node hears every room, as
    /// in pattern mode, and its hub drops what nobody wants.
    pub fn execute(&self, node: NodeId, mono_ms: u64, command: BrokerCommand<T>) {
        self.locked(|state| match command {
            _ if !state.nodes.iter().any(|attached| attached.id == node) => {}
            BrokerCommand::Publish { ticket, publication, dedup, keep: _ } => {
                let outcome = state.publish(mono_ms, &publication, dedup);
                state.tell(node, BrokerEvent::Published { ticket, outcome });
            }
            BrokerCommand::Subscribe { room, request } => {
                state.tell(node, BrokerEvent::Subscribed { room, request });
            }
            // Nothing can be cut off inside a process: its hub asks for no beats.
            BrokerCommand::Unsubscribe(_)
            | BrokerCommand::Heads { .. }
            | BrokerCommand::Read { .. }
            | BrokerCommand::Beat { .. }
            | BrokerCommand::Reconnect { .. } => {}
        });
    }

    fn locked<R>(&self, act: impl FnOnce(&mut State<T>) -> R) -> R {
        act(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl<T> State<T> {
    fn tell(&self, node: NodeId, event: BrokerEvent<T>) {
        if let Some(attached) = self.nodes.iter().find(|attached| attached.id == node) {
            attached.feed.send(EVENT_BYTES, event);
        }
    }

    /// Checks all that can fail, then puts the publication into every feed.
    fn publish(
        &mut self,
        mono_ms: u64,
        publication: &Arc<Publication>,
        dedup: bool,
    ) -> Result<Accepted, Refused> {
        let weight = EVENT_BYTES + publication.weight();
        if !self.nodes.iter().all(|attached| attached.feed.fits(weight)) {
            let text = "The broker is busy: send it again";
            return Err(Refused::unavailable(text.into(), 100));
        }
        let accepted = Accepted::WHOLE;
        if dedup && let Some(first) = self.memory.remember(mono_ms, publication) {
            return first.then_some(accepted).ok_or(Refused::new(Refusal::Duplicate));
        }
        let published_us = self.nodes.first().map_or(0, |attached| attached.stats.time().now_us);
        for Attached { feed, stats, .. } in &self.nodes {
            stats.received.fetch_add(1, Ordering::Relaxed);
            let publication = Arc::clone(publication);
            let envelope = Envelope::Publication { publication, published_us };
            feed.send(weight, BrokerEvent::Envelope(envelope));
        }
        Ok(Accepted { dedup_short: dedup && self.memory.short, ..accepted })
    }
}

impl Memory {
    /// Remembers the publication's id. `Some(true)`: it was there with the same content; `Some(false)`: with other.
    fn remember(&mut self, mono_ms: u64, publication: &Publication) -> Option<bool> {
        let age_ms = mono_ms.saturating_sub(self.turned_ms);
        if age_ms >= DEDUP_TTL_MS {
            self.short = false;
            self.turn(mono_ms);
        }
        if age_ms >= 2 * DEDUP_TTL_MS {
            self.old = HashMap::new();
        }
        let content = match &publication.content {
            Content::Json(bytes) => (0, bytes),
            Content::Text(bytes) => (1, bytes),
            Content::Binary(bytes) => (2, bytes),
        };
        let name = (publication.room.as_str(), &publication.sender, &publication.id);
        let [high, low] = self.hashers.each_ref().map(|hasher| u128::from(hasher.hash_one(name)));
        let key = high << 64 | low;
        let [hasher, _] = &self.hashers;
        let content = hasher.hash_one((&publication.kind, content));
        if let Some(first) = self.young.get(&key).or_else(|| self.old.get(&key)) {
            return Some(*first == content);
        }
        if self.young.len() >= self.max {
            self.short = true;
            self.turn(mono_ms);
        }
        self.young.insert(key, content);
        None
    }

    /// The young generation becomes the old one, which is forgotten.
    fn turn(&mut self, mono_ms: u64) {
        self.old = std::mem::take(&mut self.young);
        self.turned_ms = mono_ms;
    }
}
