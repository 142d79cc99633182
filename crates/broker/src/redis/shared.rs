//! What the tasks of one node's Redis broker share.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use foldhash::quality::RandomState;
use fred::clients::Client;
use fred::error::Error;
use fred::types::config::Server;
use roomcast_protocol::envelope::{BrokerEvent, LinkId, MasterId};
use roomcast_protocol::ids::NodeId;
use roomcast_protocol::relay::RelayKeys;
use roomcast_protocol::room::RoomName;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::channels::{Kind, PARTITIONS, Tags};
use super::masters::Masters;
use super::options::{RedisOptions, Servers};
use crate::feed::{EVENT_BYTES, FeedSender};
use crate::stats::RelayStats;

/// The kind of the key that holds the relay's key.
pub(crate) const RELAY_KEY: &str = "relay-key";

/// What the tasks of one node share.
pub(crate) struct Shared<T> {
    pub(crate) options: Arc<RedisOptions>,
    pub(crate) node: NodeId,
    pub(crate) tags: Tags,
    /// The digest of the relay's modes as beats carry it.
    pub(crate) digest: String,
    pub(crate) stats: Arc<RelayStats>,
    pub(crate) feed: FeedSender<BrokerEvent<T>>,
    /// Bytes of publications that wait for Redis.
    pub(crate) pending_bytes: AtomicUsize,
    /// The client for commands, from the first try to connect on.
    pub(crate) client: watch::Receiver<Option<Client>>,
    /// Where the client for commands was connected to last, except in a Cluster.
    pub(crate) server: watch::Sender<Option<Server>>,
    /// Told when the feed's links are not those that are wanted any more.
    pub(crate) replan: Notify,
    /// Told when the client for commands is to be replaced: nothing comes back over its connection.
    pub(crate) renew: Notify,
    /// Since when no beat has been answered in time.
    silent: Mutex<Option<Instant>>,
    hearing: Mutex<Hearing>,
    beats: Mutex<Vec<LinkBeat>>,
    serial: AtomicU64,
    /// Into how many partitions the data in Redis is laid out; 0: not known yet.
    partitions: AtomicU64,
    forced: Mutex<Option<Instant>>,
    told: Mutex<Option<Instant>>,
    masters: Mutex<Masters>,
}

/// How long after the commands were made to connect anew they are left alone.
const FORCE_EVERY: Duration = Duration::from_millis(500);

/// How long beats may be unanswered until the connection for commands counts as dead.
const COMMANDS_SILENT: Duration = Duration::from_secs(3);

/// How often the log says why Redis declines something.
const TELL_EVERY: Duration = Duration::from_secs(10);

/// What the node wants to hear, and how it knows its peers.
#[derive(Default)]
pub(crate) struct Hearing {
    pub(crate) rooms: HashMap<RoomName, Want, RandomState>,
    /// `None` until Redis has told the key that was made for the cluster.
    pub(crate) keys: Option<Arc<RelayKeys>>,
    /// Some node relays in other modes, so this one hears in all of them.
    pub(crate) every_mode: bool,
}

/// A room that the node wants to hear.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Want {
    /// The hub's number for it.
    pub(crate) request: u64,
    /// Subscriptions that Redis has not confirmed.
    pub(crate) unconfirmed: u8,
}

/// How a link is beaten.
#[derive(Clone, Debug)]
pub(crate) struct LinkBeat {
    pub(crate) link: LinkId,
    pub(crate) kind: Kind,
    pub(crate) channel: String,
    /// Where the link is connected to.
    pub(crate) server: Option<Server>,
    /// A key in one of the link's slots.
    pub(crate) key: String,
}

impl<T> Shared<T> {
    pub(crate) fn new(
        options: Arc<RedisOptions>,
        node: NodeId,
        stats: Arc<RelayStats>,
        feed: FeedSender<BrokerEvent<T>>,
        client: watch::Receiver<Option<Client>>,
    ) -> Self {
        let keys = options.keys.clone().map(Arc::new);
        let digest = format!("{:016x}", options.modes_digest);
        Self {
            options,
            node,
            tags: Tags::new(),
            digest,
            stats,
            feed,
            pending_bytes: AtomicUsize::new(0),
            client,
            server: watch::Sender::new(None),
            replan: Notify::new(),
            renew: Notify::new(),
            silent: Mutex::new(None),
            hearing: Mutex::new(Hearing { keys, ..Hearing::default() }),
            beats: Mutex::new(Vec::new()),
            serial: AtomicU64::new(0),
            partitions: AtomicU64::new(0),
            forced: Mutex::new(None),
            told: Mutex::new(None),
            masters: Mutex::new(Masters::new()),
        }
    }

    /// What the node wants to hear. Held for a moment only.
    pub(crate) fn hearing(&self) -> MutexGuard<'_, Hearing> {
        self.hearing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Redis keeps this key for the relay: envelopes are signed with it from now on, and those still read that were
    /// signed with the one before.
    pub(crate) fn adopt_key(&self, kept: &[u8]) {
        let mut hearing = self.hearing();
        let known = hearing.keys.take();
        if let Some(keys) = known.as_ref().filter(|keys| *keys.current == *kept) {
            hearing.keys = Some(Arc::clone(keys));
            return;
        }
        let previous = known.map(|keys| keys.current.clone());
        hearing.keys = Some(Arc::new(RelayKeys { current: kept.into(), previous }));
    }

    /// How the links that are up are beaten; none: the feed is down.
    pub(crate) fn beats(&self) -> MutexGuard<'_, Vec<LinkBeat>> {
        self.beats.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The client for commands, if it is connected.
    pub(crate) fn connected(&self) -> Option<Client> {
        use fred::interfaces::ClientLike;
        self.client.borrow().clone().filter(ClientLike::is_connected)
    }

    /// The client for commands, if it is connected to data that is laid out as this node does it.
    pub(crate) fn ready(&self) -> Option<Client> {
        let known = self.partitions.load(Ordering::Relaxed) == PARTITIONS as u64;
        self.connected().filter(|_| known)
    }

    /// Another layout of the data than this node's, by its number of partitions.
    pub(crate) fn other_layout(&self) -> Option<u64> {
        let partitions = self.partitions.load(Ordering::Relaxed);
        (partitions != 0 && partitions != PARTITIONS as u64).then_some(partitions)
    }

    /// So the data is laid out; says whether this node can work with it.
    pub(crate) fn check_layout(&self, partitions: u64) -> bool {
        self.partitions.store(partitions, Ordering::Relaxed);
        let ours = partitions == PARTITIONS as u64;
        if !ours && is_due(&self.told, TELL_EVERY) {
            tracing::error!(
                partitions,
                ours = PARTITIONS,
                "the data in Redis is laid out in another number of partitions: nothing is published until this node \
                 gets another Redis, or is replaced by one of the version that laid it out"
            );
        }
        ours
    }

    /// Some node relays in other modes than this one, or none does any more.
    pub(crate) fn hear_in_every_mode(&self, every_mode: bool) {
        if std::mem::replace(&mut self.hearing().every_mode, every_mode) != every_mode {
            self.replan.notify_one();
        }
    }

    /// Which masters keep the partitions.
    pub(crate) fn masters(&self) -> MutexGuard<'_, Masters> {
        self.masters.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The master as the hub compares it. A Cluster has several, and tells of a change by itself.
    pub(crate) fn master(&self, master: MasterId) -> MasterId {
        match self.options.servers {
            Servers::Cluster(_) => MasterId(0),
            Servers::Standalone(_) | Servers::Sentinel { .. } => master,
        }
    }

    /// Another number for each payload of an outsider.
    pub(crate) fn serial(&self) -> u64 {
        self.serial.fetch_add(1, Ordering::Relaxed)
    }

    /// Whether the commands may be made to connect anew: many notice at once that this has to be.
    pub(crate) fn may_force(&self) -> bool {
        is_due(&self.forced, FORCE_EVERY)
    }

    /// A beat was answered, or timed out. After a while without answers the client is replaced: fred itself counts a
    /// connection as dead only if nothing was *written* to it for a while either, and beats are written all the time.
    pub(crate) fn heard_of_beat(&self, answered: bool) {
        let mut silent = self.silent.lock().unwrap_or_else(PoisonError::into_inner);
        match *silent {
            _ if answered => *silent = None,
            None => *silent = Some(Instant::now()),
            Some(since) if since.elapsed() >= COMMANDS_SILENT => {
                *silent = None;
                self.renew.notify_one();
            }
            Some(_) => {}
        }
    }

    /// Says in the log why Redis declines something.
    pub(crate) fn declined(&self, error: &Error) {
        if is_due(&self.told, TELL_EVERY) {
            tracing::warn!(%error, "Redis declines what this node asks");
        }
    }

    /// Tells the node.
    pub(crate) fn tell(&self, event: BrokerEvent<T>) {
        self.feed.send(EVENT_BYTES, event);
    }
}

/// Whether that is long ago; if so, it is now.
fn is_due(last: &Mutex<Option<Instant>>, every: Duration) -> bool {
    let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
    let due = last.is_none_or(|last| last.elapsed() >= every);
    if due {
        *last = Some(Instant::now());
    }
    due
}
