//! What all tasks of one lane thread share: the pure lane, the connections, and the way to the core. Carries out the
//! lane's effects; decides nothing.

use std::cell::{Cell, RefCell};
use std::net::IpAddr;
use std::rc::{Rc, Weak};
use std::sync::Arc;

use roomcast_broker::feed::SPARE_MAX;
use roomcast_protocol::codes::Close;
use roomcast_protocol::command::Command;
use roomcast_protocol::ids::SessionKey;
use roomcast_protocol::limits::LimitName;
use roomcast_protocol::time::Now;
use roomcast_router::lane::{FailedDelivery, Lane};
use roomcast_router::messages::Effect;
use roomcast_router::outbox::{Outbox, Shed};
use tokio::sync::watch;

use super::connection::{Connection, Ending};
use super::permission::{self, Asking};
use super::telling::Telling;
use super::turns::Longest;
use super::{DRAIN_REPORT_MS, HOUSEKEEPING_MS, LaneSettings};
use crate::core::FromLane;
use crate::queue::Sender;

/// What a message to the core weighs beside its publication. Units: bytes.
const MESSAGE_BYTES: usize = 128;

/// Counters of the shell itself; the pure lane has its own.
#[derive(Clone, Debug, Default)]
pub(crate) struct ShellCounters {
    /// Bytes read from clients.
    pub(crate) bytes_in: Cell<u64>,
    /// Bytes written to clients.
    pub(crate) bytes_out: Cell<u64>,
    /// Writes that a socket did not take at once.
    pub(crate) blocked: Cell<u64>,
    /// Connections accepted as sockets.
    pub(crate) accepted: Cell<u64>,
    /// Upgrades refused before a session began.
    pub(crate) handshakes_refused: Cell<u64>,
    /// Of these, those that came while the node drains.
    pub(crate) drain_refused: Cell<u64>,
}

/// Adds to a counter.
pub(crate) fn add(counter: &Cell<u64>, count: usize) {
    counter.set(counter.get().wrapping_add(count as u64));
}

/// What all tasks of one lane thread share.
pub(crate) struct Shell {
    me: Weak<Self>,
    pub(crate) settings: LaneSettings,
    pub(crate) lane: RefCell<Lane>,
    /// By session index.
    connections: RefCell<Vec<Option<Rc<Connection>>>>,
    /// Indices of connections whose outbox was not empty when last looked at.
    blocked: RefCell<Vec<SessionKey>>,
    /// Connections whose lane waits for space in their outbox.
    awaiting: RefCell<Vec<SessionKey>>,
    /// Bytes in all outboxes of the lane.
    pub(crate) outboxes_bytes: Cell<usize>,
    pub(crate) counters: ShellCounters,
    /// How long the thread's turns are.
    pub(crate) turns: Longest,
    /// Limits that bit in the shell, by [`LimitName::index`].
    pub(crate) limits_hit: RefCell<[u64; LimitName::ALL.len()]>,
    /// Closes decided in the shell, by [`Close::index`].
    pub(crate) closes: RefCell<[u64; Close::ALL.len()]>,
    to_core: Sender<FromLane>,
    /// For the core, once the task at hand has done its turn: what came in one read leaves together, and is merged.
    outgoing: RefCell<Vec<(usize, FromLane)>>,
    effects: RefCell<Vec<Effect>>,
    /// The lane has ended.
    ended: watch::Sender<bool>,
    pub(super) telling: Telling,
}

impl Shell {
    pub(crate) fn new(settings: LaneSettings, lane: Lane, to_core: Sender<FromLane>) -> Rc<Self> {
        let telling = Telling::new(settings.wanted);
        Rc::new_cyclic(|me| Self {
            me: Weak::clone(me),
            settings,
            telling,
            lane: RefCell::new(lane),
            connections: RefCell::new(Vec::new()),
            blocked: RefCell::new(Vec::new()),
            awaiting: RefCell::new(Vec::new()),
            outboxes_bytes: Cell::new(0),
            counters: ShellCounters::default(),
            turns: Longest::default(),
            limits_hit: RefCell::new([0; LimitName::ALL.len()]),
            closes: RefCell::new([0; Close::ALL.len()]),
            to_core,
            outgoing: RefCell::new(Vec::new()),
            effects: RefCell::new(Vec::new()),
            ended: watch::Sender::new(false),
        })
    }

    /// Itself, for tasks of its own.
    pub(super) fn shared(&self) -> Option<Rc<Self>> {
        self.me.upgrade()
    }

    /// The lane has ended: whoever waits to be let in is told.
    pub(super) fn end(&self) {
        self.ended.send_replace(true);
    }

    /// Waits until the lane has ended.
    pub(super) async fn ended(&self) {
        // An error means that nobody is left to say so.
        drop(self.ended.subscribe().wait_for(|ended| *ended).await);
    }

    /// What is known of the session's client, where somebody is asked about it.
    pub(super) fn asking<R>(&self, key: SessionKey, read: impl FnOnce(&Asking) -> R) -> Option<R> {
        let connection = self.connection(key.index).filter(|it| it.key() == key)?;
        connection.asking().map(read)
    }

    /// What time it is.
    pub(crate) fn now(&self) -> Now {
        self.settings.clock.now()
    }

    /// Lets the lane act, then carries out what it wants.
    pub(crate) fn act<R>(&self, act: impl FnOnce(&mut Lane, &mut Vec<Effect>) -> R) -> R {
        let mut effects = self.effects.take();
        self.hush_if_full();
        let result = act(&mut self.lane.borrow_mut(), &mut effects);
        self.execute(&mut effects);
        effects.clear();
        self.effects.replace(effects);
        result
    }

    /// Counts how long publications took whose last member on this lane was just written to.
    pub(crate) fn note_deliveries(&self) {
        let mut lane = self.lane.borrow_mut();
        let served = lane.take_served();
        if served.is_empty() {
            return;
        }
        let relay = &self.settings.latencies.relay;
        let now_us = relay.time().now_us;
        for stamp_us in served.drain(..) {
            relay.delivery_us.observe(now_us.saturating_sub(stamp_us));
        }
    }

    /// Logs deliveries that failed: ids, never payloads.
    pub(crate) fn note_failures(&self) {
        let mut lane = self.lane.borrow_mut();
        for failed in lane.take_failed().drain(..) {
            let FailedDelivery { session, room, id } = failed;
            tracing::warn!(%session, %room, %id, "delivery_failed: a publication was not acked");
        }
    }

    /// Has the lane tell no more of what happens while the core's queue is full.
    pub(super) fn hush_if_full(&self) {
        if self.telling.any() {
            self.lane.borrow_mut().hush(self.is_core_full());
        }
    }

    /// Whether the core's queue holds as much as it may.
    pub(super) fn is_core_full(&self) -> bool {
        self.to_core.pressure().is_full()
    }

    /// Where a session's client is; `None`: its connection is over.
    pub(super) fn address_of(&self, index: u32) -> Option<IpAddr> {
        self.connection(index).map(|connection| connection.address())
    }

    /// Keeps these for the core until the turn is done.
    pub(super) fn send_soon(&self, messages: Vec<(usize, FromLane)>) {
        self.outgoing.borrow_mut().extend(messages);
    }

    /// Sends what is for the core. Every task that lets the lane act calls it at the end of its turn.
    pub(crate) fn flush(&self) {
        for (weight, message) in self.outgoing.borrow_mut().drain(..) {
            self.to_core.send(weight, message);
        }
    }

    /// Gives back the places that only a burst needed.
    pub(super) fn give_back(&self) {
        self.effects.borrow_mut().shrink_to(SPARE_MAX);
        self.outgoing.borrow_mut().shrink_to(SPARE_MAX);
    }

    /// Hands over commands of one session, in order.
    pub(crate) fn commands(&self, key: SessionKey, commands: impl Iterator<Item = Command>) {
        let now = self.now();
        self.act(|lane, effects| {
            for command in commands {
                lane.command(now, key, command, effects);
            }
        });
    }

    /// Gives a new session its connection.
    pub(crate) fn attach(&self, key: SessionKey, connection: &Rc<Connection>) {
        let mut connections = self.connections.borrow_mut();
        let index = key.index as usize;
        if connections.len() <= index {
            connections.resize_with(index + 1, || None);
        }
        if let Some(place) = connections.get_mut(index) {
            *place = Some(Rc::clone(connection));
        }
    }

    /// The socket is gone, or its client closed, for good if it said goodbye.
    pub(crate) fn detach(&self, key: SessionKey, said_goodbye: bool) {
        self.take(key);
        let now = self.now();
        self.act(|lane, effects| lane.closed(now, key, said_goodbye, effects));
    }

    /// A pong came for the ping of this number.
    pub(crate) fn ponged(&self, key: SessionKey, number: u32) {
        let now = self.now();
        self.act(|lane, effects| lane.ponged(now, key, number, effects));
    }

    /// Ends a session because of what its connection did.
    pub(crate) fn close(&self, key: SessionKey, close: Close) {
        self.act(|lane, effects| lane.close(key, close, effects));
    }

    /// Ends all sessions that are left.
    pub(super) fn end_all(&self, close: Close) {
        let left: Vec<_> =
            self.connections.borrow().iter().flatten().map(|connection| connection.key()).collect();
        for key in left {
            self.close(key, close);
        }
    }

    /// How often the lane says how it is; more often while somebody waits for its last session. Units: milliseconds.
    pub(super) fn report_every_ms(&self) -> u64 {
        if self.settings.draining.is_on() { DRAIN_REPORT_MS } else { HOUSEKEEPING_MS }
    }

    /// Counts a limit that bit in the shell.
    pub(crate) fn hit(&self, limit: LimitName) {
        if let Some(count) = self.limits_hit.borrow_mut().get_mut(limit.index()) {
            *count += 1;
        }
    }

    /// Counts a token that is longer than the limit.
    pub(crate) fn count_token(&self, token: &str) {
        if token.len() > self.settings.token_bytes_max {
            self.hit(LimitName::TokenBytes);
        }
    }

    /// Counts a close that the lane does not know of.
    pub(crate) fn count_close(&self, close: Close) {
        if let Some(count) = self.closes.borrow_mut().get_mut(close.index()) {
            *count += 1;
        }
    }

    /// Ends connections whose socket took nothing for too long.
    pub(crate) fn end_stalled(&self) {
        let now = self.now();
        let limit = self.settings.write_timeout_ms;
        let mut stalled = Vec::new();
        self.blocked.borrow_mut().retain(|key| {
            let Some(connection) = self.connection(key.index).filter(|c| c.key() == *key) else {
                return false;
            };
            let since = connection.blocked_since_ms();
            if since.is_some_and(|since| now.mono_ms >= since + limit) {
                stalled.push(*key);
            }
            connection.set_listed(since.is_some());
            since.is_some()
        });
        for key in stalled {
            self.close(key, Close::Slow);
        }
    }

    fn connection(&self, index: u32) -> Option<Rc<Connection>> {
        self.connections.borrow().get(index as usize).and_then(Clone::clone)
    }

    fn take(&self, key: SessionKey) -> Option<Rc<Connection>> {
        let mut connections = self.connections.borrow_mut();
        let place = connections.get_mut(key.index as usize)?;
        if place.as_ref().is_some_and(|connection| connection.key() == key) {
            place.take()
        } else {
            None
        }
    }

    fn take_at(&self, index: u32) -> Option<Rc<Connection>> {
        self.connections.borrow_mut().get_mut(index as usize).and_then(Option::take)
    }

    fn execute(&self, effects: &mut Vec<Effect>) {
        let mut next = Vec::new();
        let (mut over, mut awaiting) = (Vec::new(), Vec::new());
        while !effects.is_empty() {
            let now = self.now();
            for effect in effects.drain(..) {
                match effect {
                    Effect::Send { to, frame, class, mark } => {
                        if let Some(connection) = self.connections.borrow().get(to as usize)
                            && let Some(connection) = connection
                            && connection.send(self, now, (frame, class), mark)
                        {
                            over.push(Rc::clone(connection));
                        }
                    }
                    Effect::Await { to, empty } => {
                        if let Some(connection) = self.connection(to) {
                            connection.await_space(empty);
                            awaiting.push(connection);
                        }
                    }
                    Effect::Ping { to, number } => {
                        if let Some(connection) = self.connection(to)
                            && connection.ping(self, now, number)
                        {
                            over.push(connection);
                        }
                    }
                    Effect::Close { to, close } => {
                        if let Some(connection) = self.take_at(to) {
                            connection.begin_close(close);
                        }
                    }
                    Effect::Silent { to, said_unix_ms } => {
                        if let Some(connection) = self.take_at(to) {
                            connection.begin_silent(said_unix_ms);
                        }
                    }
                    Effect::Drop { to, close } => {
                        if let Some(connection) = self.take_at(to) {
                            connection.begin_drop(close);
                        }
                    }
                    Effect::Ready { to } => self.make_ready(now, to, &mut next),
                    Effect::Hub(message) => {
                        let weight = weight_of(&message);
                        self.outgoing.borrow_mut().push((weight, FromLane::Hub(message)));
                    }
                    Effect::Request(requested) => {
                        let weight = requested.weight();
                        self.outgoing.borrow_mut().push((weight, FromLane::Request(requested)));
                    }
                    Effect::Permit { session, request } => permission::ask(self, session, &request),
                    Effect::Happened { of, happening } => self.happened(of, *happening),
                    Effect::Answer(query, answer) => {
                        let answer = FromLane::Answer(query, answer);
                        self.outgoing.borrow_mut().push((MESSAGE_BYTES, answer));
                    }
                }
            }
            for connection in over.drain(..) {
                self.shed(now, &connection, &mut next);
            }
            self.shed_all(now, &mut next);
            for connection in awaiting.drain(..) {
                self.give_space(now, &connection, &mut next);
            }
            std::mem::swap(effects, &mut next);
        }
    }

    /// The session may act: what came along with its token is run, and its socket is read on.
    fn make_ready(&self, now: Now, to: u32, next: &mut Vec<Effect>) {
        let Some(connection) = self.connection(to) else { return };
        let mut lane = self.lane.borrow_mut();
        for command in lane.take_early(connection.key()) {
            lane.command(now, connection.key(), command, next);
        }
        connection.make_ready();
    }

    /// Has a connection whose outbox holds too much let go of what it may; it ends if that is not enough.
    fn shed(&self, now: Now, connection: &Connection, next: &mut Vec<Effect>) {
        let max = self.settings.outbox_bytes_max;
        if connection.outbox_bytes() <= max || connection.ending() != Ending::Open {
            return;
        }
        self.hit(LimitName::OutboxBytes);
        let shed = connection.shed(self, now, Outbox::goal_bytes(max));
        self.tell_of_shed(now, (connection, &shed), connection.outbox_bytes() > max, next);
    }

    /// The same for a frame that no effect sent.
    pub(crate) fn shed_now(&self, connection: &Connection) {
        let mut effects = Vec::new();
        self.shed(self.now(), connection, &mut effects);
        self.execute(&mut effects);
    }

    /// If all outboxes together hold too much, the fullest let go of what they may, or end.
    fn shed_all(&self, now: Now, next: &mut Vec<Effect>) {
        let max = self.settings.outboxes_bytes_max;
        while let Some(excess) = self.outboxes_bytes.get().checked_sub(max).filter(|it| *it > 0) {
            let Some(fullest) = self.fullest() else { return };
            self.hit(LimitName::OutboxesBytes);
            let goal_bytes = fullest.outbox_bytes().saturating_sub(excess + max / 16);
            let shed = fullest.shed(self, now, goal_bytes);
            self.tell_of_shed(now, (&fullest, &shed), self.outboxes_bytes.get() > max, next);
        }
    }

    /// The connection with the fullest outbox, of those that do not end.
    fn fullest(&self) -> Option<Rc<Connection>> {
        let blocked = self.blocked.borrow();
        let held = |key: &SessionKey| self.connection(key.index).filter(|it| it.key() == *key);
        let open = blocked.iter().filter_map(held).filter(|it| it.ending() == Ending::Open);
        open.max_by_key(|connection| connection.outbox_bytes())
    }

    /// Has the lane know what an outbox let go, or that the connection ends.
    fn tell_of_shed(
        &self,
        now: Now,
        (connection, shed): (&Connection, &Shed),
        ends: bool,
        next: &mut Vec<Effect>,
    ) {
        let mut lane = self.lane.borrow_mut();
        if ends {
            connection.begin_slow(self);
            lane.close(connection.key(), Close::Slow, next);
        } else {
            lane.shed(now, connection.key(), shed, next);
        }
    }

    /// Says that there is space, if there is; else it is said later.
    fn give_space(&self, now: Now, connection: &Connection, next: &mut Vec<Effect>) {
        let key = connection.key();
        if let Some(space) = connection.take_space(self) {
            self.lane.borrow_mut().relieved(now, key, space, next);
        } else if !connection.set_awaiting(true) {
            self.awaiting.borrow_mut().push(key);
        }
    }

    /// Some of the connection's outbox may have left: who waits for space goes on.
    pub(crate) fn relieve(&self, connection: &Connection) {
        if let Some(space) = connection.take_space(self) {
            let (now, key) = (self.now(), connection.key());
            self.act(|lane, effects| lane.relieved(now, key, space, effects));
        }
    }

    /// What others had waiting may have left.
    pub(crate) fn relieve_all(&self) {
        for key in self.awaiting.take() {
            if let Some(connection) = self.connection(key.index).filter(|it| it.key() == key) {
                connection.set_awaiting(false);
                if connection.awaits_space() {
                    let mut effects = Vec::new();
                    self.give_space(self.now(), &connection, &mut effects);
                    self.execute(&mut effects);
                }
            }
        }
    }

    /// Notes that a connection has an outbox now.
    pub(crate) fn note_blocked(&self, connection: &Connection) {
        add(&self.counters.blocked, 1);
        if !connection.set_listed(true) {
            self.blocked.borrow_mut().push(connection.key());
        }
    }

    /// Whether publishers should be read no further for now: a queue of the node is over its half.
    pub(crate) fn is_congested(&self) -> bool {
        self.settings.pressures.iter().any(|pressure| pressure.is_high())
    }
}

fn weight_of(message: &roomcast_router::messages::HubMessage) -> usize {
    use roomcast_router::messages::HubMessage;
    match message {
        HubMessage::Publish { publication, .. } => MESSAGE_BYTES + publication.weight(),
        HubMessage::Save { save, .. } => {
            let record = save.record.as_ref();
            MESSAGE_BYTES + record.map_or(0, |it| 64 * (it.rooms.len() + it.own.len()))
        }
        HubMessage::Converse(talk) => MESSAGE_BYTES + talk.weight(),
        HubMessage::Attach { .. }
        | HubMessage::SetMember { .. }
        | HubMessage::Reached { .. }
        | HubMessage::Fence { .. }
        | HubMessage::Presence { .. }
        | HubMessage::Person(_)
        | HubMessage::Roster { .. }
        | HubMessage::Inbox { .. }
        | HubMessage::Ack { .. }
        | HubMessage::Arrived { .. }
        | HubMessage::Mark { .. }
        | HubMessage::Receipts { .. }
        | HubMessage::AskReceipts { .. }
        | HubMessage::Join { .. }
        | HubMessage::Leave { .. }
        | HubMessage::Read { .. }
        | HubMessage::Late(_)
        | HubMessage::Order { .. }
        | HubMessage::CarriedOut { .. }
        | HubMessage::Survey { .. }
        | HubMessage::Surveyed { .. }
        | HubMessage::AskRoster { .. } => MESSAGE_BYTES,
    }
}

/// What keeps the queues of the node from filling.
pub(crate) type Pressures = Arc<[Arc<crate::queue::Pressure>]>;

impl Shell {
    /// What the lane shows of itself.
    pub(super) fn report(&self, now: Now, queue_bytes: usize) -> super::LaneReport {
        let lane = self.lane.borrow();
        let counters = &self.counters;
        super::LaneReport {
            counters: lane.counters().clone(),
            sizes: lane.sizes(),
            limits: *self.limits_hit.borrow(),
            closes: *self.closes.borrow(),
            bytes_in: counters.bytes_in.get(),
            bytes_out: counters.bytes_out.get(),
            blocked: counters.blocked.get(),
            accepted: counters.accepted.get(),
            handshakes_refused: counters.handshakes_refused.get(),
            drain_refused: counters.drain_refused.get(),
            told: self.told(),
            outboxes_bytes: self.outboxes_bytes.get() as u64,
            queue_bytes: queue_bytes as u64,
            turned_ms: now.mono_ms,
            longest_turn_ms: self.turns.longest_ms(now.mono_ms),
        }
    }
}
