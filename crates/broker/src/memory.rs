//! The embedded broker: a service of the process that all its nodes share.
//!
//! A publication is put into every node's feed, or, where one of them is full, into none and refused: inside one
//! process nothing is lost between the answer and the lanes. What rooms keep, which ids are remembered, who is present,
//! what users have got and read, which sessions can be resumed and what directories hold is the store's; this module gives
//! it time, hashes and epochs, and carries out what follows.

mod directory;
mod presence;
mod receipts;

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

use roomcast_protocol::codes::{Refusal, Refused};
use roomcast_protocol::envelope::{Accepted, BrokerCommand, BrokerEvent, Envelope};
use roomcast_protocol::ids::NodeId;
use roomcast_protocol::occupancy::AskOccupancies;
use roomcast_protocol::position::{Epoch, Keep, Kept, Page, Position, Span};
use roomcast_protocol::presence::Incarnation;
use roomcast_protocol::publication::{Priority, Publication};
use roomcast_protocol::room::RoomName;
use roomcast_protocol::session::AttachSession;
use roomcast_store::{At, Place, Published, Put, Remembered, Rules, Store, Swept, id_of};

use crate::feed::{EVENT_BYTES, Feed, FeedSender, feed};
use crate::stats::{RelayStats, unix_us};
pub(crate) use directory::{directory_weight, entry_weight};
pub(crate) use presence::occupancies_weight;

/// How long an id is remembered at least; at most twice as long, or while its entry is kept. Units: milliseconds.
pub const DEDUP_TTL_MS: u64 = 120_000;

/// Ids remembered in each of the two generations of a room with history, and of all ephemeral rooms together, some 50
/// bytes each whatever their length; beyond it the older ones go early and acks say `dedup: "short"`.
pub const DEDUP_MAX: usize = 100_000;

/// What all rooms with history may weigh, with their publications and ids, and directories; beyond it publications for such
/// rooms are refused as `storage_full`, and entries are not set. Units: bytes.
pub const STORAGE_BYTES_MAX: u64 = 256 << 20;

/// How often what is over is freed. Units: milliseconds.
const SWEEP_MS: u64 = 1_000;

/// How many rooms are looked at in one go.
const SWEEP_ROOMS: usize = 1_024;

/// What an answer about one room weighs in a feed, its publications apart. Units: bytes.
const HEAD_BYTES: usize = 32;

/// The store's master: a process has but one.
const MASTER: u128 = 1;

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

/// What the embedded broker may remember.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryLimits {
    /// Instead of [`DEDUP_MAX`].
    pub dedup_max: usize,
    /// Instead of [`STORAGE_BYTES_MAX`].
    pub storage_bytes_max: u64,
}

impl Default for MemoryLimits {
    fn default() -> Self {
        Self { dedup_max: DEDUP_MAX, storage_bytes_max: STORAGE_BYTES_MAX }
    }
}

#[derive(Debug)]
struct State<T> {
    nodes: Vec<Attached<T>>,
    limits: MemoryLimits,
    store: Store<Arc<Publication>>,
    /// With keys of this process: peers cannot aim at what they make.
    hashers: [RandomState; 2],
    /// Epochs drawn so far.
    drawn: u64,
    /// When monotonic time began. Units: milliseconds since the Unix epoch.
    began_unix_ms: Option<u64>,
    now_ms: u64,
    swept_ms: u64,
}

#[derive(Debug)]
struct Attached<T> {
    id: NodeId,
    feed: FeedSender<BrokerEvent<T>>,
    stats: Arc<RelayStats>,
}

impl<T> MemoryBroker<T> {
    /// A broker without nodes.
    #[must_use]
    pub fn new() -> Self {
        Self::with_limits(MemoryLimits::default())
    }

    /// The same, with other limits.
    #[must_use]
    pub fn with_limits(limits: MemoryLimits) -> Self {
        let rules = Rules {
            dedup_ttl_ms: DEDUP_TTL_MS,
            dedup_max: limits.dedup_max,
            bytes_max: limits.storage_bytes_max,
            lease_ms: presence::LEASE_MS,
            // Nobody asks what moved: inside a process nothing is lost.
            partition: |_| 0,
        };
        let state = State {
            nodes: Vec::new(),
            limits,
            store: Store::new(rules, MASTER),
            hashers: [RandomState::new(), RandomState::new()],
            drawn: 0,
            began_unix_ms: None,
            now_ms: 0,
            swept_ms: 0,
        };
        Self { state: Arc::new(Mutex::new(state)) }
    }

    /// Attaches a node, and answers with its feed. A feed it had before ends, and so does what it entered.
    #[must_use]
    pub fn attach(&self, node: NodeId, stats: &Arc<RelayStats>) -> Feed<BrokerEvent<T>> {
        let (sender, receiver) = feed();
        self.locked(|state| {
            state.let_go(node);
            state.nodes.push(Attached { id: node, feed: sender, stats: Arc::clone(stats) });
        });
        receiver
    }

    /// Detaches a node: its feed ends, and what it entered in rooms goes at once.
    pub fn detach(&self, node: NodeId) {
        self.locked(|state| state.let_go(node));
    }

    /// Executes a node's command; what comes of it arrives on the node's feed. A node that is not attached could not
    /// hear what became of it, so its commands are void. Interest needs no work here: each node hears every room, as
    /// in pattern mode, and its hub drops what nobody wants. All nodes go by one clock.
    pub fn execute(&self, node: NodeId, mono_ms: u64, command: BrokerCommand<T>) {
        self.locked(|state| {
            state.turn(mono_ms);
            if !state.nodes.iter().any(|attached| attached.id == node) {
                return;
            }
            if let Some((weight, event)) = state.carry_out(node, command) {
                state.tell(node, weight, event);
            }
        });
    }

    fn locked<R>(&self, act: impl FnOnce(&mut State<T>) -> R) -> R {
        act(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl<T> State<T> {
    /// Carries out a command of a node that is attached. Answers with the answer and what it weighs, if it has one.
    fn carry_out(
        &mut self,
        node: NodeId,
        command: BrokerCommand<T>,
    ) -> Option<(usize, BrokerEvent<T>)> {
        Some(match command {
            BrokerCommand::Publish { ticket, publication, dedup, keep, collapse } => {
                let outcome = self.publish(publication, dedup, keep, collapse.as_deref());
                (EVENT_BYTES, BrokerEvent::Published { ticket, outcome })
            }
            BrokerCommand::Subscribe { room, request } => {
                (EVENT_BYTES, BrokerEvent::Subscribed { room, request })
            }
            BrokerCommand::Heads { request, rooms } => self.heads(request, &rooms),
            BrokerCommand::Read { request, room, keep, span } => {
                let (weight, page) = self.read(node, &room, &keep, &span);
                (weight, BrokerEvent::Read { request, page })
            }
            BrokerCommand::Save { request, save } => {
                let outcome = Some(self.store.save_session(self.now_ms, node, &save));
                (EVENT_BYTES, BrokerEvent::Saved { request, outcome })
            }
            BrokerCommand::Attach { request, attach } => self.attach(node, request, attach),
            BrokerCommand::EndSessions { request, user, order } => {
                self.store.end_sessions(self.now_ms, &user, order);
                (EVENT_BYTES, BrokerEvent::SessionsEnded { request, done: true })
            }
            BrokerCommand::SetPresence { request, set } => {
                let (weight, outcome) = self.set_presence(&set);
                (weight, BrokerEvent::PresenceSet { request, outcome: Some(outcome) })
            }
            BrokerCommand::Roster { request, room, after, count_max } => {
                let (weight, page) = self.roster(&room, after.as_deref(), count_max);
                (weight, BrokerEvent::Roster { request, page: Some(page) })
            }
            BrokerCommand::Present { request, room, users } => self.present(request, &room, &users),
            BrokerCommand::Inbox { request, cursor, keep } => {
                let at = self.at();
                let state = self.store.inbox(at, &cursor, &keep);
                (EVENT_BYTES, BrokerEvent::Inbox { request, state })
            }
            BrokerCommand::Ack { cursor, keep, acked, told } => {
                let at = self.at();
                self.store.ack(at, &cursor, &keep, &acked, told);
                return None;
            }
            BrokerCommand::SetMarks { request, keep: _, set } => {
                let (weight, outcome) = self.set_marks(&set);
                (weight, BrokerEvent::MarksSet { request, outcome })
            }
            BrokerCommand::Receipts { request, room, keep: _, of, after, count_max } => {
                let (weight, page) = self.receipts(&room, of, after.as_deref(), count_max);
                (weight, BrokerEvent::Receipts { request, page })
            }
            BrokerCommand::Beat { seq, hears: _, life, retired, taken: _, told, reads } => {
                let incarnation = Incarnation { node, life };
                let (weight, report) = self.beat(incarnation, retired, (told, reads));
                (weight, BrokerEvent::BeatAnswered { seq, report: Some(report) })
            }
            BrokerCommand::Occupancies { request, ask } => self.occupancies(node, request, &ask),
            BrokerCommand::SetEntry { request, set } => self.set_entry(request, &set),
            BrokerCommand::Directory { request, directory, entries } => {
                self.directory(node, request, &directory, &entries)
            }
            // Nothing can be cut off inside a process, and each node hears every room.
            BrokerCommand::Unsubscribe(_) | BrokerCommand::Reconnect { .. } => return None,
        })
    }

    fn heads(&mut self, request: u64, rooms: &[(RoomName, Keep)]) -> (usize, BrokerEvent<T>) {
        let heads = rooms.iter().map(|(room, _)| self.head(room)).collect();
        (EVENT_BYTES + HEAD_BYTES * rooms.len(), BrokerEvent::Heads { request, heads })
    }

    /// A node asks which of these users are in a room.
    fn present(
        &mut self,
        request: u64,
        room: &RoomName,
        users: &[Box<str>],
    ) -> (usize, BrokerEvent<T>) {
        let since = self.store.present(room, users);
        let weight = EVENT_BYTES + since.len() * size_of::<Option<u64>>();
        (weight, BrokerEvent::Present { request, since: Some(since) })
    }

    /// A node asks which rooms became occupied or vacated.
    fn occupancies(
        &mut self,
        node: NodeId,
        request: u64,
        ask: &AskOccupancies,
    ) -> (usize, BrokerEvent<T>) {
        let given = self.store.give_occupancies(self.now_ms, node, ask);
        let weight = EVENT_BYTES + occupancies_weight(&given);
        (weight, BrokerEvent::Occupancies { request, given: Some(given) })
    }

    /// A session is taken over.
    fn attach(
        &mut self,
        node: NodeId,
        request: u64,
        mut attach: Box<AttachSession>,
    ) -> (usize, BrokerEvent<T>) {
        // No beat says which nodes live: those of this process do.
        attach.alive.extend(self.nodes.iter().map(|node| node.id));
        let outcome = self.store.attach_session(self.now_ms, node, &attach).map(Box::new);
        let rooms = outcome.as_ref().map_or(0, |it| it.record.rooms.len());
        let own = outcome.as_ref().map_or(0, |it| it.record.own.len());
        let weight = EVENT_BYTES + HEAD_BYTES * (rooms + own);
        (weight, BrokerEvent::Attached { request, outcome })
    }

    /// A node is not attached any more.
    fn let_go(&mut self, node: NodeId) {
        let before = self.nodes.len();
        self.nodes.retain(|attached| attached.id != node);
        if self.nodes.len() < before {
            self.end_leases(node);
        }
    }

    /// Takes the time, does what is due, and frees what is over now and then.
    fn turn(&mut self, mono_ms: u64) {
        self.began_unix_ms.get_or_insert_with(|| (unix_us() / 1_000).saturating_sub(mono_ms));
        self.now_ms = self.now_ms.max(mono_ms);
        self.tend();
        if self.now_ms >= self.swept_ms.saturating_add(SWEEP_MS) {
            match self.store.sweep(self.now_ms, SWEEP_ROOMS) {
                Swept::All => self.swept_ms = self.now_ms,
                // The rest is the next command's.
                Swept::Some => {}
            }
        }
    }

    /// Now, and an epoch that begins now, and nobody had or can guess: a keyed hash of a number.
    fn at(&mut self) -> At {
        self.drawn += 1;
        let drawn = ("epoch", self.drawn);
        let [high, low] = self.hashers.each_ref().map(|hasher| u128::from(hasher.hash_one(drawn)));
        let unix_ms = self.began_unix_ms.unwrap_or_default().saturating_add(self.now_ms);
        At { now_ms: self.now_ms, fresh: Epoch(high << 64 | low).begun_at(unix_ms) }
    }

    fn tell(&self, node: NodeId, weight: usize, event: BrokerEvent<T>) {
        if let Some(attached) = self.nodes.iter().find(|attached| attached.id == node) {
            attached.feed.send(weight, event);
        }
    }

    fn head(&mut self, room: &RoomName) -> Option<Position> {
        let at = self.at();
        self.store.head(room, at)
    }

    /// A page and what it weighs; none if it does not fit into the node's feed.
    fn read(
        &mut self,
        node: NodeId,
        room: &RoomName,
        keep: &Keep,
        span: &Span,
    ) -> (usize, Option<Page>) {
        let at = self.at();
        let Some(found) = self.store.read(room, keep, at, span) else {
            return (EVENT_BYTES, None);
        };
        let heavy = found.entries.iter().map(|place| match place {
            Place::Entry(entry) => entry.payload.weight(),
            Place::Removed(_) => HEAD_BYTES,
        });
        let heavy: usize = heavy.sum();
        let weight = EVENT_BYTES + HEAD_BYTES + heavy;
        let attached = self.nodes.iter().find(|attached| attached.id == node);
        if attached.is_none_or(|attached| !attached.feed.fits(weight)) {
            return (EVENT_BYTES, None);
        }
        let entries = found.entries.into_iter().map(|place| match place {
            Place::Entry(entry) => Kept::Publication(entry.payload),
            Place::Removed(position) => Kept::Removed(position),
        });
        let entries = entries.collect();
        (weight, Some(Page { head: found.head, entries, whole: found.whole }))
    }

    /// Checks all that can fail, then stores the publication and puts it into every feed.
    fn publish(
        &mut self,
        publication: Arc<Publication>,
        dedup: bool,
        keep: Option<Keep>,
        collapse: Option<&str>,
    ) -> Result<Accepted, Refused> {
        let weight = EVENT_BYTES + publication.weight();
        if !self.nodes.iter().all(|attached| attached.feed.fits(weight)) {
            let text = "The broker is busy: send it again";
            return Err(Refused::unavailable(text.into(), 100));
        }
        let Some(keep) = keep else { return self.publish_ephemeral(&publication, weight, dedup) };
        let id = id_of(&self.hashers, &publication);
        let bytes = u64::try_from(publication.weight()).unwrap_or(u64::MAX);
        let at = self.at();
        let low = publication.priority == Some(Priority::Low);
        let put = Put { id, bytes, low, collapse };
        let room = publication.room.clone();
        let mut stored = None;
        let published = self.store.publish(&room, &keep, at, put, |position| {
            let mut publication = publication;
            Arc::make_mut(&mut publication).position = Some(position);
            Arc::clone(stored.insert(publication))
        });
        match published {
            Published::Stored { position, short } => {
                if let Some(publication) = stored {
                    self.spread(&publication, weight);
                }
                Ok(Accepted { dedup_short: short, ..Accepted::stored(position) })
            }
            Published::Same(position) => Ok(Accepted { again: true, ..Accepted::stored(position) }),
            Published::Other => Err(Refusal::Duplicate.into()),
            Published::Full => Err(full(self.limits.storage_bytes_max)),
            Published::Spent => {
                let text = "The room has had as many publications as can be counted: take another";
                Err(Refused::because(Refusal::StorageFull, text.into()))
            }
        }
    }

    fn publish_ephemeral(
        &mut self,
        publication: &Arc<Publication>,
        weight: usize,
        dedup: bool,
    ) -> Result<Accepted, Refused> {
        let mut dedup_short = false;
        if dedup {
            let id = id_of(&self.hashers, publication);
            match self.store.remember(&publication.room, self.now_ms, id) {
                Remembered::New { short } => dedup_short = short,
                Remembered::Same => return Ok(Accepted { again: true, ..Accepted::WHOLE }),
                Remembered::Other => return Err(Refusal::Duplicate.into()),
            }
        }
        self.spread(publication, weight);
        Ok(Accepted { dedup_short, ..Accepted::WHOLE })
    }

    /// Puts a publication into every feed.
    fn spread(&self, publication: &Arc<Publication>, weight: usize) {
        let published_us = self.nodes.first().map_or(0, |attached| attached.stats.time().now_us);
        for Attached { feed, stats, .. } in &self.nodes {
            stats.received.fetch_add(1, Ordering::Relaxed);
            let publication = Arc::clone(publication);
            let envelope = Envelope::Publication { publication, published_us };
            feed.send(weight, BrokerEvent::Envelope(envelope));
        }
    }
}

fn full(max: u64) -> Refused {
    let text = format!(
        "What rooms keep has reached {max} bytes: let `history` of the room rules keep less, or for a shorter time"
    );
    Refused::because(Refusal::StorageFull, text.into())
}
