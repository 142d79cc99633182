//! The core thread: owns the hub, the broker's feed, the node's own timers and the internal HTTP port.
//!
//! It never waits for a lane: what the queue of a lane has no place for the hub hears of, and makes up for.

mod answers;
mod application;
mod handle;
mod owed;
mod relay_log;
mod stats;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use roomcast_broker::feed::SPARE_MAX;
use roomcast_broker::{AnyBroker, Feed, RelayStats};
use roomcast_protocol::codes::Refused;
use roomcast_protocol::envelope::{Accepted, BrokerEvent};
use roomcast_protocol::ids::{LaneId, NodeId};
use roomcast_protocol::position::{Page, Span};
use roomcast_protocol::presence::RosterPage;
use roomcast_protocol::publication::Publication;
use roomcast_protocol::receipts::ReceiptsPage;
use roomcast_protocol::room::RoomName;
use roomcast_router::happenings::Happening;
use roomcast_router::hub::{Hub, Ordered, Surveyed};
use roomcast_router::messages::{
    Answer, HubEffect, HubMessage, LaneMessage, MemberChange, MemberInfo, QueryId, ReceiptsAsk,
    Ticket,
};
use roomcast_router::meter::Users;
use roomcast_router::orders::Order;
use roomcast_router::reader::Reader;
use roomcast_router::requests::Requested;
use roomcast_router::surveys::Survey;
use tokio::sync::{Notify, mpsc, oneshot};

use crate::clock::Clock;
use crate::happened::Happened;
use crate::queue::{Receiver, Sender};
use crate::upstream::Upstream;
use crate::webhooks::Webhooks;
use answers::give;
use application::Tellings;
pub(crate) use handle::CoreHandle;
use owed::Owed;
use relay_log::RelayLog;
pub(crate) use stats::{CoreStats, HubView};

/// Items taken from a queue at once.
const TURN_MAX: usize = 1_024;

/// How often the core looks after itself. Units: milliseconds.
const HOUSEKEEPING_MS: u64 = 250;

/// How long lanes have to answer a question. Units: milliseconds.
const QUERY_MS: u64 = 2_000;

/// How long the outcome of a publication may take: it may wait in the hub for the broker's return, and then is tried
/// for 5 s. Units: milliseconds.
const PUBLISH_MS: u64 = 11_000;

/// The same of an order to all nodes, beside the time they have to confirm it: it is published, then records of sessions
/// end. Units: milliseconds.
const ORDER_MS: u64 = PUBLISH_MS + 5_000;

/// How long the broker may take, once the lanes have ended, to answer what their sessions wrote at last, and webhooks to
/// be told; and how long the broker is given at least, for what it does not answer. Units: milliseconds.
const FINISH_MS: u64 = 2_000;
const FINISH_MIN_MS: u64 = 50;
const FINISH_LOOK: std::time::Duration = std::time::Duration::from_millis(5);

/// How soon whoever publishes may try again, at another node, what this one has not begun when it ends. Units:
/// milliseconds.
const ENDING_RETRY_MS: u64 = 1_000;

/// What lanes tell the core.
#[derive(Debug)]
pub(crate) enum FromLane {
    /// For the hub.
    Hub(HubMessage),
    /// For the application.
    Request(Box<Requested>),
    /// The same, to be told.
    Happened(Box<Happening>),
    /// To a question.
    Answer(QueryId, Answer),
}

/// What the server API asks the core.
#[derive(Debug)]
pub(crate) enum CoreRequest {
    /// Publish as a back-end, in this order.
    Publish(Vec<Publishing>),
    /// What does a room keep?
    History {
        /// Which.
        room: RoomName,
        /// Which publications.
        span: Span,
        /// Those; `None`: they cannot be read at the moment.
        answer: oneshot::Sender<Option<Page>>,
    },
    /// Who is in a room on this node?
    Members {
        /// Which.
        room: RoomName,
        /// The members.
        answer: oneshot::Sender<Vec<MemberInfo>>,
    },
    /// Who is in a room, on all nodes?
    Roster {
        /// Which.
        room: RoomName,
        /// Users behind this one.
        after: Option<Box<str>>,
        /// How many at most.
        count_max: u32,
        /// Who is there.
        answer: oneshot::Sender<Result<RosterPage, Refused>>,
    },
    /// How far are users in a room?
    Receipts {
        /// What is asked.
        ask: ReceiptsAsk,
        /// How far.
        answer: oneshot::Sender<Result<ReceiptsPage, Refused>>,
    },
    /// Have all nodes do something.
    Order {
        /// What.
        order: Order,
        /// How long they may take to confirm it. Units: milliseconds.
        timeout_ms: u64,
        /// What became of it.
        answer: oneshot::Sender<Result<Ordered, Refused>>,
    },
    /// Change who is in a group, and have all nodes obey it.
    SetMember {
        /// Who, and what.
        change: MemberChange,
        /// How long nodes may take to confirm it. Units: milliseconds.
        timeout_ms: u64,
        /// What became of it.
        answer: oneshot::Sender<Result<Ordered, Refused>>,
    },
    /// Which rooms, or sessions, do all nodes have?
    Survey {
        /// What is asked.
        survey: Survey,
        /// How long they may take. Units: milliseconds.
        timeout_ms: u64,
        /// What they have.
        answer: oneshot::Sender<Result<Surveyed, Refused>>,
    },
    /// End all sessions, once all that came before is on its way to them.
    Stop {
        /// The lanes have been told.
        told: std::sync::mpsc::Sender<()>,
    },
}

/// One publication of a back-end.
#[derive(Debug)]
pub(crate) struct Publishing {
    /// What.
    pub(crate) publication: Arc<Publication>,
    /// Remember its id.
    pub(crate) dedup: bool,
    /// How it ended.
    pub(crate) answer: oneshot::Sender<Result<Accepted, Refused>>,
}

impl Publishing {
    /// It was not begun, and will not be.
    fn refuse(self) {
        let text = "The node is ending: this was not published";
        give(self.answer, Err(Refused::unavailable(text.into(), ENDING_RETRY_MS)));
    }

    /// One, and where its outcome comes.
    fn new(publication: Arc<Publication>, dedup: bool) -> (Self, Outcome) {
        let (answer, outcome) = oneshot::channel();
        (Self { publication, dedup, answer }, outcome)
    }
}

/// How a publication ends.
pub(crate) type Outcome = oneshot::Receiver<Result<Accepted, Refused>>;

enum Query {
    Publish(oneshot::Sender<Result<Accepted, Refused>>),
    History(oneshot::Sender<Option<Page>>),
    Members { left: usize, found: Vec<MemberInfo>, answer: oneshot::Sender<Vec<MemberInfo>> },
    Roster(oneshot::Sender<Result<RosterPage, Refused>>),
    Receipts(oneshot::Sender<Result<ReceiptsPage, Refused>>),
    Order { timeout_ms: u64, answer: oneshot::Sender<Result<Ordered, Refused>> },
    Survey { timeout_ms: u64, answer: oneshot::Sender<Result<Surveyed, Refused>> },
}

/// What the core is made with.
pub(crate) struct CoreParts {
    pub(crate) node: NodeId,
    pub(crate) clock: Clock,
    pub(crate) hub: Hub,
    pub(crate) broker: AnyBroker<Ticket>,
    pub(crate) relay: Arc<RelayStats>,
    pub(crate) lanes: Vec<Sender<LaneMessage>>,
    pub(crate) from_lanes: Receiver<FromLane>,
    pub(crate) requests: mpsc::Receiver<CoreRequest>,
    pub(crate) ended: Arc<Notify>,
    pub(crate) users: Arc<Users>,
    pub(crate) stats: Arc<CoreStats>,
    pub(crate) upstream: Upstream,
    pub(crate) webhooks: Webhooks,
    pub(crate) happened: Happened,
}

/// What the core knows of a lane's queue.
#[derive(Clone, Copy, Debug, Default)]
struct LaneState {
    /// It had no place for something, and has not been half empty since.
    lagging: bool,
    /// The same among the effects at hand: what they bring comes behind what was dropped.
    shut: bool,
}

struct Core {
    parts: CoreParts,
    feed: Feed<BrokerEvent<Ticket>>,
    /// The feed has ended, which is the broker's fault: the node goes on with its own members.
    deaf: bool,
    effects: Vec<HubEffect>,
    queries: HashMap<QueryId, (u64, Query)>,
    next_query: u64,
    lanes: Vec<LaneState>,
    housekept_ms: u64,
    swept_ms: u64,
    relay_log: RelayLog,
    owed: Owed,
    tellings: Tellings,
    /// Whoever waits for the lanes to be told that the node stops.
    stopping: Option<std::sync::mpsc::Sender<()>>,
}

/// Runs the core until it is told to stop, or all lanes are gone.
pub(crate) async fn run(parts: CoreParts) {
    let lanes = vec![LaneState::default(); parts.lanes.len()];
    // Here, in the core's own runtime: the broker does its work for the node there.
    let feed = parts.broker.attach(parts.node, &parts.relay);
    let mut core = Core {
        parts,
        feed,
        deaf: false,
        effects: Vec::new(),
        queries: HashMap::new(),
        next_query: 0,
        lanes,
        housekept_ms: 0,
        swept_ms: 0,
        relay_log: RelayLog::default(),
        owed: Owed::default(),
        tellings: Tellings::default(),
        stopping: None,
    };
    let (mut events, mut messages) = (Vec::new(), Vec::new());
    // Before the first wait, so that the hub hears orders before the first of them is given here, and lanes know which
    // tokens are revoked where that is at hand.
    core.turn(&mut events, &mut messages);
    // And whoever asks finds figures.
    core.housekeeping();
    loop {
        let now = core.parts.clock.now();
        let wake =
            core.parts.hub.next_wake().unwrap_or(u64::MAX).min(now.mono_ms + HOUSEKEEPING_MS);
        let sleep = tokio::time::sleep(core.parts.clock.until(wake));
        // A turn ends after some rounds, also where the last one left something to do.
        let held = !events.is_empty() || !messages.is_empty();
        tokio::select! {
            () = std::future::ready(()), if held => {}
            count = core.feed.recv_many(&mut events, TURN_MAX), if !core.deaf => {
                if count == 0 {
                    core.has_gone_deaf(&mut events);
                }
            }
            count = core.parts.from_lanes.recv_many(&mut messages, TURN_MAX) => {
                if count == 0 {
                    break;
                }
            }
            request = core.parts.requests.recv() => match request {
                None => break,
                Some(request) => core.request(request),
            },
            () = core.tellings.heard() => {}
            () = core.parts.ended.notified() => break,
            () = sleep => core.give_back(&mut events, &mut messages),
        }
        core.turn(&mut events, &mut messages);
        core.housekeeping();
    }
    core.finish(&mut events, &mut messages).await;
    handle::refuse_rest(&mut core.parts.requests);
    core.parts.broker.detach(core.parts.node);
}

impl Core {
    /// A broker that ended the feed ends neither the node nor a connection.
    fn has_gone_deaf(&mut self, events: &mut Vec<BrokerEvent<Ticket>>) {
        tracing::error!("the broker's feed has ended; only a restart of this node brings it back");
        self.deaf = true;
        events.push(BrokerEvent::FeedDown);
    }

    /// Handles all that is there, then what came of it, until only waiting is left.
    fn turn(&mut self, events: &mut Vec<BrokerEvent<Ticket>>, messages: &mut Vec<FromLane>) {
        let now = self.parts.clock.now();
        for _ in 0..4 {
            let count = (events.len() + messages.len()) as u64;
            self.parts.stats.taken.fetch_add(count, Ordering::Relaxed);
            for event in events.drain(..) {
                self.owed.told(&event);
                self.parts.hub.broker_event(now, event, &mut self.effects);
            }
            for message in messages.drain(..) {
                match message {
                    FromLane::Hub(message) => {
                        self.parts.hub.message(now, message, &mut self.effects);
                    }
                    FromLane::Request(requested) => self.ask_application(*requested),
                    FromLane::Happened(it) => self.parts.happened.take(now.mono_ms, *it),
                    FromLane::Answer(query, answer) => self.answer(query, answer),
                }
            }
            self.tell_of_drained();
            while let Some(number) = self.tellings.next() {
                self.parts.hub.occupied_told(now, number, &mut self.effects);
            }
            self.parts.hub.tick(now, &mut self.effects);
            self.execute(now.mono_ms);
            let more = self.feed.try_recv_many(events, TURN_MAX)
                + self.parts.from_lanes.try_recv_many(messages, TURN_MAX);
            if more == 0 && self.tellings.are_idle() {
                self.tell_of_stop();
                return;
            }
        }
    }

    /// Little is to do: places that only a burst needed go.
    fn give_back(&mut self, events: &mut Vec<BrokerEvent<Ticket>>, messages: &mut Vec<FromLane>) {
        events.shrink_to(SPARE_MAX);
        messages.shrink_to(SPARE_MAX);
        self.effects.shrink_to(SPARE_MAX);
        self.feed.give_back();
        self.parts.from_lanes.give_back();
    }

    /// The lanes have ended: other nodes are told, what they left behind is carried out, and what was written at last is
    /// waited for.
    async fn finish(
        &mut self,
        events: &mut Vec<BrokerEvent<Ticket>>,
        messages: &mut Vec<FromLane>,
    ) {
        let began = self.parts.clock.now();
        self.parts.hub.farewell(began, &mut self.effects);
        let began_ms = began.mono_ms;
        self.parts.webhooks.end();
        let is_memory = matches!(self.parts.broker, AnyBroker::Memory(_));
        let min_ms = if is_memory { 0 } else { FINISH_MIN_MS };
        loop {
            let more = self.parts.from_lanes.try_recv_many(messages, TURN_MAX);
            self.turn(events, messages);
            self.parts.happened.end();
            let age_ms = self.parts.clock.now().mono_ms - began_ms;
            let answered = self.owed.is_settled() || self.deaf;
            let told = self.parts.webhooks.are_idle();
            if more == 0 && age_ms >= min_ms && answered && told || age_ms >= FINISH_MS {
                return;
            }
            tokio::select! {
                count = self.feed.recv_many(events, TURN_MAX), if !self.deaf => {
                    if count == 0 {
                        self.has_gone_deaf(events);
                    }
                }
                Some(request) = self.parts.requests.recv() => self.request(request),
                () = tokio::time::sleep(FINISH_LOOK) => {}
            }
        }
    }

    /// Nothing is left between lanes, hub and feed: lanes that are to stop may do so.
    fn tell_of_stop(&mut self) {
        if let Some(told) = self.stopping.take() {
            self.ask(|| LaneMessage::Stop);
            let _patient = told.send(()).is_ok();
        }
    }

    fn execute(&mut self, mono_ms: u64) {
        let mut effects = std::mem::take(&mut self.effects);
        for effect in effects.drain(..) {
            match effect {
                HubEffect::Lane(lane, message) => self.tell(lane, message),
                HubEffect::Broker(command) => {
                    self.owed.asked(&command);
                    self.parts.broker.execute(self.parts.node, mono_ms, command);
                }
                HubEffect::Answer(query, outcome) => self.outcome(query, outcome),
                HubEffect::Roster(query, outcome) => self.roster(query, outcome),
                HubEffect::Receipts(query, outcome) => self.receipts(query, outcome),
                HubEffect::Ordered(query, outcome) => self.ordered(query, outcome),
                HubEffect::Surveyed(query, outcome) => self.surveyed(query, outcome),
                HubEffect::Occupied { partition: _, number, event } => {
                    self.tell_of_room(number, &event);
                }
                HubEffect::History(query, page) => {
                    if let Some((_, Query::History(answer))) = self.queries.remove(&query) {
                        give(answer, page);
                    }
                }
            }
        }
        for lane in &mut self.lanes {
            lane.shut = false;
        }
        self.effects = effects;
    }

    /// Hands a message to a lane. Only publications are ever dropped, with the hub's knowledge.
    fn tell(&mut self, lane: LaneId, message: LaneMessage) {
        let index = usize::from(lane.0);
        let (Some(queue), Some(state)) = (self.parts.lanes.get(index), self.lanes.get_mut(index))
        else {
            return;
        };
        if queue.pressure().is_full() {
            *state = LaneState { lagging: true, shut: true };
        }
        if state.shut && message.droppable().is_some() {
            return self.parts.hub.dropped(lane, &message);
        }
        queue.send(message.weight(), message);
    }

    /// Tells the hub of lanes that were behind and whose queue is half empty again.
    fn tell_of_drained(&mut self) {
        for (index, (state, queue)) in self.lanes.iter_mut().zip(&self.parts.lanes).enumerate() {
            if state.lagging
                && !queue.pressure().is_high()
                && let Ok(index) = u8::try_from(index)
            {
                state.lagging = false;
                self.parts.hub.drained(LaneId(index), &mut self.effects);
            }
        }
    }

    const fn next_id(&mut self) -> QueryId {
        self.next_query += 1;
        QueryId(self.next_query)
    }

    fn request(&mut self, request: CoreRequest) {
        let now = self.parts.clock.now();
        let id = self.next_id();
        let lanes = self.parts.lanes.len();
        match request {
            CoreRequest::Publish(publishing) => {
                for Publishing { publication, dedup, answer } in publishing {
                    let id = self.next_id();
                    self.queries.insert(id, (now.mono_ms, Query::Publish(answer)));
                    let ticket = Ticket::Query(id);
                    let message = HubMessage::Publish { ticket, publication, dedup };
                    self.parts.hub.message(now, message, &mut self.effects);
                }
            }
            CoreRequest::History { room, span, answer } => {
                self.queries.insert(id, (now.mono_ms, Query::History(answer)));
                let message = HubMessage::Read { reader: Reader::Query(id), room, span };
                self.parts.hub.message(now, message, &mut self.effects);
            }
            CoreRequest::Members { room, answer } => {
                let query = Query::Members { left: lanes, found: Vec::new(), answer };
                self.queries.insert(id, (now.mono_ms, query));
                self.ask(|| LaneMessage::Members { query: id, room: room.clone() });
            }
            CoreRequest::Roster { room, after, count_max, answer } => {
                self.queries.insert(id, (now.mono_ms, Query::Roster(answer)));
                let message = HubMessage::AskRoster { query: id, room, after, count_max };
                self.parts.hub.message(now, message, &mut self.effects);
            }
            CoreRequest::Receipts { ask, answer } => {
                self.queries.insert(id, (now.mono_ms, Query::Receipts(answer)));
                let message = HubMessage::AskReceipts { query: id, ask };
                self.parts.hub.message(now, message, &mut self.effects);
            }
            CoreRequest::Order { order, timeout_ms, answer } => {
                self.queries.insert(id, (now.mono_ms, Query::Order { timeout_ms, answer }));
                let message = HubMessage::Order { query: id, order, timeout_ms };
                self.parts.hub.message(now, message, &mut self.effects);
            }
            CoreRequest::SetMember { change, timeout_ms, answer } => {
                self.queries.insert(id, (now.mono_ms, Query::Order { timeout_ms, answer }));
                let message = HubMessage::SetMember { query: id, timeout_ms, change };
                self.parts.hub.message(now, message, &mut self.effects);
            }
            CoreRequest::Survey { survey, timeout_ms, answer } => {
                self.queries.insert(id, (now.mono_ms, Query::Survey { timeout_ms, answer }));
                let message = HubMessage::Survey { query: id, survey, timeout_ms };
                self.parts.hub.message(now, message, &mut self.effects);
            }
            CoreRequest::Stop { told } => self.stopping = Some(told),
        }
    }

    fn ask(&self, make: impl Fn() -> LaneMessage) {
        for lane in &self.parts.lanes {
            let message = make();
            lane.send(message.weight(), message);
        }
    }

    fn answer(&mut self, id: QueryId, answer: Answer) {
        let Some((asked_ms, query)) = self.queries.remove(&id) else { return };
        match (query, answer) {
            (Query::Members { left, mut found, answer }, Answer::Members(more)) => {
                found.extend(more);
                if left == 1 {
                    give(answer, found);
                } else {
                    let query = Query::Members { left: left - 1, found, answer };
                    self.queries.insert(id, (asked_ms, query));
                }
            }
            (
                Query::Publish(_)
                | Query::Roster(_)
                | Query::Receipts(_)
                | Query::History(_)
                | Query::Order { .. }
                | Query::Survey { .. },
                Answer::Members(_),
            ) => {}
        }
    }

    fn housekeeping(&mut self) {
        let now = self.parts.clock.now();
        if now.mono_ms < self.housekept_ms + HOUSEKEEPING_MS {
            return;
        }
        self.housekept_ms = now.mono_ms;
        self.parts.happened.tick(now.mono_ms);
        self.queries.retain(|_, (asked_ms, query)| {
            let limit_ms = match query {
                Query::Publish(_) => PUBLISH_MS,
                Query::Order { timeout_ms, .. } => ORDER_MS + *timeout_ms,
                Query::Survey { timeout_ms, .. } => QUERY_MS + *timeout_ms,
                Query::Members { .. }
                | Query::Roster(_)
                | Query::Receipts(_)
                | Query::History(_) => QUERY_MS,
            };
            now.mono_ms < *asked_ms + limit_ms
        });
        if now.mono_ms >= self.swept_ms + 1_000 {
            self.swept_ms = now.mono_ms;
            self.parts.users.sweep(now.mono_ms);
        }
        let stats = &self.parts.stats;
        let health = self.parts.hub.health(now);
        self.relay_log.see(health);
        let overrun = self.parts.lanes.iter().enumerate();
        let overrun = overrun.filter(|(_, queue)| queue.pressure().is_overrun());
        let bits = overrun.fold(0_u64, |bits, (lane, _)| bits | 1 << lane);
        stats.overrun.store(bits, Ordering::Relaxed);
        let hub = &self.parts.hub;
        let (counters, presence) = (hub.counters(), hub.presence_sizes());
        stats.show_hub(HubView { counters, health: Some(health), presence });
        stats.rooms.store(self.parts.hub.rooms() as u64, Ordering::Relaxed);
        stats.agents.store(self.parts.hub.agents() as u64, Ordering::Relaxed);
        stats.people.store(self.parts.hub.people() as u64, Ordering::Relaxed);
        stats.users.store(self.parts.users.len() as u64, Ordering::Relaxed);
        stats.feed_bytes.store(self.feed.bytes() as u64, Ordering::Relaxed);
        stats.turned_ms.store(now.mono_ms, Ordering::Relaxed);
    }
}
