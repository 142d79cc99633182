//! A node's client of the bus: orders become commands, commands time out and are tried again as far as that is safe,
//! by the rules of the Redis broker (G5).

use std::collections::BTreeMap;

use roomcast_protocol::codes::{Refusal, Refused};
use roomcast_protocol::envelope::{Accepted, BeatReport, BrokerCommand, BrokerEvent, Level};
use roomcast_protocol::position::{Keep, Position};
use roomcast_protocol::presence::Lease;
use roomcast_protocol::publication::Publication;
use roomcast_protocol::room::RoomName;
use roomcast_router::messages::Ticket;

use super::feed::{Feed, FeedOrder};
use super::lasting::{lasting, only};
use crate::bus::execute::Asker;
use crate::bus::{Answer, Call, Fault, Publishing, Verdict};
use crate::planted::Planted;
use crate::world::{Event, World};

/// How long a publication is tried until its outcome is told. Units: milliseconds. Source: G5.
const TRY_MS: u64 = 5_000;

/// How long a question is tried. Units: milliseconds.
const ASK_MS: u64 = 1_500;

/// How long to rest between two tries. Units: milliseconds.
const REST_MS: u64 = 100;

/// After which a command counts as unanswered. Units: milliseconds.
const TIMEOUT_MS: u64 = 1_000;

/// What an event of the broker's weighs in the feed's queue. Units: bytes.
pub(crate) const EVENT_BYTES: usize = 64;

/// The connection for commands to one shard.
#[derive(Debug, Default)]
pub(crate) struct Road {
    pub(crate) connected: bool,
    /// How often it broke; what belongs to an older connection goes nowhere.
    pub(crate) generation: u32,
    /// It cannot be connected until then.
    pub(crate) cut_until_ms: u64,
    /// It swallows everything until then.
    pub(crate) silent_until_ms: u64,
    /// Everything takes so much longer until then.
    pub(crate) slow: (u64, u64),
    out_ms: u64,
    in_ms: u64,
}

pub(super) enum Work {
    Publish { ticket: Option<Ticket>, keep: Option<Keep>, dedup: bool },
    Heads { request: u64, rooms: Vec<(RoomName, Keep)> },
    Read { request: u64 },
    Beat { seq: u64 },
    Save { request: u64 },
    Attach { request: u64 },
    EndSessions { request: u64 },
    SetPresence { request: u64 },
    Roster { request: u64 },
    Present { request: u64 },
    Inbox { request: u64 },
    Ack,
    SetMarks { request: u64 },
    Receipts { request: u64 },
    SetEntry { request: u64 },
    Directory { request: u64 },
    Occupancies { request: u64 },
}

struct Part {
    shard: usize,
    call: Call,
    answer: Option<Result<Answer, Fault>>,
}

struct Order {
    began_ms: u64,
    may_have_happened: bool,
    work: Work,
    parts: Vec<Part>,
}

/// The client of one node.
pub(crate) struct Broker {
    /// The server that it takes for each shard's master.
    pub(crate) view: Vec<usize>,
    pub(crate) roads: Vec<Road>,
    pub(crate) feed: Feed,
    /// How far the cluster's clock is ahead of the node's wall clock, as it knows it. Units: milliseconds.
    pub(crate) cluster_ahead_ms: i64,
    orders: BTreeMap<u64, Order>,
    /// By call: its order, its part, the generation of its road, and when it was written.
    calls: BTreeMap<u64, (u64, usize, u32, u64)>,
    made: u64,
}

impl Broker {
    pub(crate) fn new(view: Vec<usize>) -> Self {
        let roads = view.iter().map(|_| Road { connected: true, ..Road::default() }).collect();
        Self {
            view,
            roads,
            feed: Feed::default(),
            cluster_ahead_ms: 0,
            orders: BTreeMap::new(),
            calls: BTreeMap::new(),
            made: 0,
        }
    }

    /// Orders under way.
    pub(crate) fn open(&self) -> usize {
        self.orders.len()
    }
}

impl World {
    /// Takes a command of the hub's.
    pub(crate) fn order(&mut self, node: usize, command: BrokerCommand<Ticket>) {
        let fresh = 0;
        let (work, parts) = match command {
            BrokerCommand::Subscribe { room, request } => {
                return self.feed_order(node, FeedOrder::Subscribe { room, request });
            }
            command @ (BrokerCommand::Save { .. }
            | BrokerCommand::Attach { .. }
            | BrokerCommand::EndSessions { .. }
            | BrokerCommand::SetPresence { .. }
            | BrokerCommand::Roster { .. }
            | BrokerCommand::Present { .. }
            | BrokerCommand::Inbox { .. }
            | BrokerCommand::Ack { .. }
            | BrokerCommand::SetMarks { .. }
            | BrokerCommand::Receipts { .. }
            | BrokerCommand::SetEntry { .. }
            | BrokerCommand::Directory { .. }
            | BrokerCommand::Occupancies { .. }) => match lasting(command) {
                Some((work, call)) => self.ask_one(work, call),
                None => return,
            },
            BrokerCommand::Unsubscribe(room) => {
                return self.feed_order(node, FeedOrder::Unsubscribe(room));
            }
            BrokerCommand::Reconnect { link, commands } => {
                return self.feed_order(node, FeedOrder::Reconnect { link, commands });
            }
            BrokerCommand::Publish { ticket, publication, dedup, keep, collapse } => {
                let publishing = Publishing {
                    publication: self.signed(node, &publication),
                    published_us: 0,
                    dedup,
                    keep,
                    collapse,
                    fresh,
                };
                let work = Work::Publish { ticket: Some(ticket), keep, dedup };
                self.ask_one(work, Call::Publish(publishing))
            }
            BrokerCommand::Heads { request, rooms } => {
                let parts = self.heads_by_shard(&rooms, fresh);
                (Work::Heads { request, rooms }, parts)
            }
            BrokerCommand::Read { request, room, keep, span } => {
                self.ask_one(Work::Read { request }, Call::Read { room, keep, span, fresh })
            }
            BrokerCommand::Beat { seq, hears, life, retired, taken, told, reads } => {
                let lives = (life, retired);
                let call = |shard| {
                    let taken = taken.clone();
                    (shard, Call::Beat { seq, hears, lives, taken, told, reads, fresh })
                };
                let shards = 0..self.nodes[node].broker.view.len();
                (Work::Beat { seq }, shards.map(call).collect())
            }
        };
        let broker = &mut self.nodes[node].broker;
        broker.made += 1;
        let id = broker.made;
        let part = |(shard, call)| Part { shard, call, answer: None };
        let parts: Vec<_> = parts.into_iter().map(part).collect();
        let count = parts.len();
        let order = Order { began_ms: self.now_ms, may_have_happened: false, work, parts };
        broker.orders.insert(id, order);
        for part in 0..count {
            self.attempt(node, id, part);
        }
        self.planted_early_ack(node, id);
    }

    /// A question to the server that has the call's room.
    fn ask_one(&self, work: Work, call: Call) -> (Work, Vec<(usize, Call)>) {
        let shard = call.partition().map_or(0, |at| self.bus.owners[usize::from(at)]);
        (work, vec![(shard, call)])
    }

    fn heads_by_shard(&self, rooms: &[(RoomName, Keep)], fresh: u128) -> Vec<(usize, Call)> {
        let mut by_shard: BTreeMap<usize, Vec<_>> = BTreeMap::new();
        for (room, _) in rooms {
            let shard = self.bus.shard_of(room);
            by_shard.entry(shard).or_default().push(room.clone());
        }
        let call = |(shard, rooms)| (shard, Call::Heads { rooms, fresh });
        by_shard.into_iter().map(call).collect()
    }

    /// The publication with its expiry by the cluster's time, as the codec writes it.
    fn signed(
        &self,
        node: usize,
        publication: &std::sync::Arc<Publication>,
    ) -> std::sync::Arc<Publication> {
        let ahead_ms = self.nodes[node].broker.cluster_ahead_ms;
        moved(publication, ahead_ms)
    }

    /// Writes a call to its road.
    fn attempt(&mut self, node: usize, order: u64, part: usize) {
        let (in_ms, anew) = (self.delay(), self.random.u128());
        let life = self.nodes[node].life;
        let now_ms = self.now_ms;
        let broker = &mut self.nodes[node].broker;
        let Some(it) = broker.orders.get(&order) else { return };
        let (shard, mut call) = (it.parts[part].shard, it.parts[part].call.clone());
        call.refresh(anew);
        let road = &mut broker.roads[shard];
        if !road.connected {
            return self.fail(node, order, part, Fault::NotYet);
        }
        broker.made += 1;
        let id = broker.made;
        broker.calls.insert(id, (order, part, road.generation, now_ms));
        let slow_ms = if road.slow.0 > now_ms { road.slow.1 } else { 0 };
        road.out_ms = road.out_ms.max(now_ms + in_ms + slow_ms);
        let (at, server, silent) = (road.out_ms, broker.view[shard], road.silent_until_ms > now_ms);
        let timeout = Event::Timeout { node, life, call: id };
        if !silent {
            let asker = Asker { node, life };
            self.at(at, Event::Arrive { server, asker, shard, call: id, what: Box::new(call) });
        }
        self.at(now_ms + TIMEOUT_MS, timeout);
    }

    /// A command is at its server.
    pub(crate) fn arrive(&mut self, server: usize, from: (Asker, usize, u64), call: Call) {
        let (asker, shard, id) = from;
        let frozen = self.bus.servers[server].frozen_until_ms;
        if frozen > self.now_ms {
            if self.bus.servers[server].deferred.is_empty() {
                self.at(frozen, Event::Thaw { server });
            }
            return self.bus.servers[server].deferred.push_back((from, call));
        }
        self.stats.commands += 1;
        let Some(answer) = self.execute(server, asker, call) else { return };
        let in_ms = self.delay();
        let now_ms = self.now_ms;
        let node = &mut self.nodes[asker.node];
        if node.life != asker.life || !node.up {
            return;
        }
        let road = &mut node.broker.roads[shard];
        if road.silent_until_ms > now_ms {
            return;
        }
        let slow_ms = if road.slow.0 > now_ms { road.slow.1 } else { 0 };
        road.in_ms = road.in_ms.max(now_ms + in_ms + slow_ms);
        let at = road.in_ms;
        let reply =
            Event::Reply { node: asker.node, life: asker.life, call: id, answer: Box::new(answer) };
        self.at(at, reply);
    }

    /// A server that was frozen does what came meanwhile.
    pub(crate) fn thaw(&mut self, server: usize) {
        let frozen = self.bus.servers[server].frozen_until_ms;
        if frozen > self.now_ms {
            return self.at(frozen, Event::Thaw { server });
        }
        for (from, call) in std::mem::take(&mut self.bus.servers[server].deferred) {
            self.arrive(server, from, call);
        }
    }

    pub(crate) fn reply(&mut self, node: usize, call: u64, answer: Answer) {
        let now_ms = self.now_ms;
        let it = &mut self.nodes[node];
        let Some((order, part, generation, sent_ms)) = it.broker.calls.remove(&call) else {
            return;
        };
        let Some(open) = it.broker.orders.get_mut(&order) else { return };
        let shard = open.parts[part].shard;
        if it.broker.roads[shard].generation != generation {
            return;
        }
        if let Answer::Fault(fault) = answer {
            return self.fail(node, order, part, fault);
        }
        // What was long under way says little about the time: the node may have been stopped.
        if let Answer::Beaten { time_us, .. } = &answer
            && now_ms - sent_ms < TIMEOUT_MS
        {
            let cluster_ms = time_us / 1_000 + (now_ms - sent_ms) / 2;
            let unix_ms = it.now(now_ms).unix_ms;
            it.broker.cluster_ahead_ms = cluster_ms as i64 - unix_ms as i64;
            let (ahead_ms, own_ms) = (it.broker.cluster_ahead_ms, it.ahead_ms);
            self.trace.line(now_ms, || {
                format!(
                    "node {node} takes the cluster to be {ahead_ms} ms ahead, off by {}",
                    ahead_ms + own_ms
                )
            });
        }
        let it = &mut self.nodes[node];
        if let Some(open) = it.broker.orders.get_mut(&order) {
            open.parts[part].answer = Some(Ok(answer));
        }
        self.conclude(node, order);
    }

    pub(crate) fn timed_out(&mut self, node: usize, call: u64) {
        if let Some((order, part, _, _)) = self.nodes[node].broker.calls.remove(&call) {
            self.stats.timeouts += 1;
            self.fail(node, order, part, Fault::Unknown);
        }
    }

    /// An attempt came to nothing: it is mended and tried again, or given up.
    fn fail(&mut self, node: usize, order: u64, part: usize, fault: Fault) {
        let now_ms = self.now_ms;
        let life = self.nodes[node].life;
        let broker = &mut self.nodes[node].broker;
        let Some(it) = broker.orders.get_mut(&order) else { return };
        let shard = it.parts[part].shard;
        let (try_ms, again) = match &it.work {
            Work::Publish { dedup, keep, .. } => {
                let safe = *dedup || keep.is_some();
                it.may_have_happened |= fault == Fault::Unknown;
                let again = match &fault {
                    Fault::Declined(_) => false,
                    Fault::Unknown => safe,
                    Fault::NotYet | Fault::NoFunction | Fault::NoMaster => true,
                };
                (TRY_MS, again)
            }
            Work::Heads { .. } | Work::Read { .. } => (ASK_MS, fault != Fault::Unknown),
            // Done twice they are done once, or the client is told less than it could be.
            Work::Save { .. }
            | Work::EndSessions { .. }
            | Work::SetPresence { .. }
            | Work::Roster { .. }
            | Work::Present { .. }
            | Work::Inbox { .. }
            | Work::Ack
            | Work::SetMarks { .. }
            | Work::Receipts { .. }
            | Work::SetEntry { .. }
            | Work::Directory { .. }
            | Work::Occupancies { .. } => (TRY_MS, true),
            // The secret that was brought stays good.
            Work::Attach { .. } => (TRY_MS, true),
            Work::Beat { .. } => (0, false),
        };
        let deadline = it.began_ms + try_ms;
        match &fault {
            Fault::NoFunction => self.load(node, shard),
            Fault::NoMaster => self.find_master(node, shard),
            Fault::NotYet | Fault::Declined(_) | Fault::Unknown => {}
        }
        if again && now_ms + REST_MS < deadline {
            return self.at(now_ms + REST_MS, Event::Retry { node, life, order, part });
        }
        if let Some(it) = self.nodes[node].broker.orders.get_mut(&order) {
            it.parts[part].answer = Some(Err(fault));
        }
        self.conclude(node, order);
    }

    pub(crate) fn retry(&mut self, node: usize, order: u64, part: usize) {
        // A slot may have moved meanwhile.
        let order_of = self.nodes[node].broker.orders.get(&order);
        let partition = order_of.and_then(|it| it.parts[part].call.partition());
        if let Some(partition) = partition {
            let shard = self.bus.owners[usize::from(partition)];
            if let Some(it) = self.nodes[node].broker.orders.get_mut(&order) {
                it.parts[part].shard = shard;
            }
        }
        self.attempt(node, order, part);
    }

    /// Loads the functions where they are missing.
    pub(crate) fn load(&mut self, node: usize, shard: usize) {
        let in_ms = self.delay();
        let life = self.nodes[node].life;
        let broker = &self.nodes[node].broker;
        if broker.roads[shard].connected && broker.roads[shard].silent_until_ms <= self.now_ms {
            let (server, asker) = (broker.view[shard], Asker { node, life });
            let what = Box::new(Call::Load);
            self.at(self.now_ms + in_ms, Event::Arrive { server, asker, shard, call: 0, what });
        }
    }

    /// The server is no master: the node asks who is, and connects there.
    pub(crate) fn find_master(&mut self, node: usize, shard: usize) {
        self.nodes[node].broker.view[shard] = self.bus.masters[shard];
        self.break_road(node, shard);
    }

    /// The connection for commands is lost: what was under way on it may have happened.
    pub(crate) fn break_road(&mut self, node: usize, shard: usize) {
        let life = self.nodes[node].life;
        let broker = &mut self.nodes[node].broker;
        let road = &mut broker.roads[shard];
        road.connected = false;
        road.generation += 1;
        let at = (self.now_ms + 20 + self.random.below(150)).max(road.cut_until_ms);
        let orders = &broker.orders;
        let lost = broker.calls.iter().filter(|(_, (order, part, _, _))| {
            orders.get(order).is_some_and(|order| order.parts[*part].shard == shard)
        });
        let lost: Vec<_> = lost.map(|(id, (order, part, _, _))| (*id, *order, *part)).collect();
        self.at(at, Event::RoadUp { node, life, shard });
        for (id, order, part) in lost {
            self.nodes[node].broker.calls.remove(&id);
            self.fail(node, order, part, Fault::Unknown);
        }
    }

    pub(crate) fn road_up(&mut self, node: usize, shard: usize) {
        let life = self.nodes[node].life;
        let broker = &mut self.nodes[node].broker;
        let road = &broker.roads[shard];
        let dead = self.bus.servers[broker.view[shard]].dead;
        if road.connected {
            return;
        }
        if dead || road.cut_until_ms > self.now_ms {
            // A server that is gone is looked for: its place may have been taken.
            if dead && self.random.chance(3) {
                broker.view[shard] = self.bus.masters[shard];
            }
            return self.at(self.now_ms + REST_MS, Event::RoadUp { node, life, shard });
        }
        let road = &mut broker.roads[shard];
        road.connected = true;
        (road.out_ms, road.in_ms) = (0, 0);
    }

    /// Tells the core how an order ended, once all its parts have.
    fn conclude(&mut self, node: usize, id: u64) {
        let broker = &mut self.nodes[node].broker;
        let all =
            broker.orders.get(&id).is_some_and(|it| it.parts.iter().all(|p| p.answer.is_some()));
        if !all {
            return;
        }
        let Some(order) = broker.orders.remove(&id) else { return };
        let may_have_happened = order.may_have_happened;
        let answers = order.parts.into_iter().map(|part| {
            let outcome = part.answer.unwrap_or(Err(Fault::Unknown));
            (part.call, outcome)
        });
        let answers: Vec<_> = answers.collect();
        match order.work {
            Work::Publish { ticket, keep, .. } => {
                let Some(ticket) = ticket else { return };
                let outcome = match answers.into_iter().next() {
                    Some((_, Ok(Answer::Published(verdict)))) => accepted(verdict, keep),
                    Some((_, Err(fault))) => Err(refused(fault, may_have_happened)),
                    Some((_, Ok(_))) | None => Err(refused(Fault::Unknown, true)),
                };
                self.tell_core(node, EVENT_BYTES, BrokerEvent::Published { ticket, outcome });
            }
            Work::Heads { request, rooms } => {
                let mut found: BTreeMap<RoomName, Position> = BTreeMap::new();
                for (call, outcome) in answers {
                    if let (Call::Heads { rooms, .. }, Ok(Answer::Heads(heads))) = (call, outcome) {
                        let heads = rooms.into_iter().zip(heads);
                        found.extend(heads.filter_map(|(room, head)| Some((room, head?))));
                    }
                }
                let heads = rooms.iter().map(|(room, _)| found.get(room).copied()).collect();
                self.tell_core(node, EVENT_BYTES, BrokerEvent::Heads { request, heads });
            }
            Work::Read { request, .. } => {
                let page = match answers.into_iter().next() {
                    Some((_, Ok(Answer::Read(page)))) => Some(self.read_by(node, page)),
                    Some((_, Ok(_) | Err(_))) | None => None,
                };
                self.tell_core(node, EVENT_BYTES, BrokerEvent::Read { request, page });
            }
            work @ (Work::Save { .. }
            | Work::Attach { .. }
            | Work::EndSessions { .. }
            | Work::SetPresence { .. }
            | Work::Roster { .. }
            | Work::Present { .. }
            | Work::Inbox { .. }
            | Work::Ack
            | Work::SetMarks { .. }
            | Work::Receipts { .. }
            | Work::SetEntry { .. }
            | Work::Directory { .. }
            | Work::Occupancies { .. }) => self.conclude_lasting(node, &work, only(answers)),
            Work::Beat { seq } => {
                let report = merged(answers.into_iter().map(|(_, outcome)| outcome));
                self.tell_core(node, EVENT_BYTES, BrokerEvent::BeatAnswered { seq, report });
            }
        }
    }

    /// With the planted bug: the answer is given as soon as the command is written.
    fn planted_early_ack(&mut self, node: usize, id: u64) {
        if self.planted != Some(Planted::AckBeforeAppend) {
            return;
        }
        let Some(order) = self.nodes[node].broker.orders.get_mut(&id) else { return };
        if let Work::Publish { ticket, keep: None, .. } = &mut order.work
            && let Some(ticket) = ticket.take()
        {
            let outcome = Ok(Accepted::WHOLE);
            self.tell_core(node, EVENT_BYTES, BrokerEvent::Published { ticket, outcome });
        }
    }
}

/// The publication with its expiry moved by so much.
pub(crate) fn moved(
    publication: &std::sync::Arc<Publication>,
    by_ms: i64,
) -> std::sync::Arc<Publication> {
    let Some(expires) = publication.expires_unix_ms else {
        return std::sync::Arc::clone(publication);
    };
    let expires_unix_ms = Some(expires.saturating_add_signed(by_ms));
    std::sync::Arc::new(Publication { expires_unix_ms, ..(**publication).clone() })
}

fn accepted(verdict: Verdict, keep: Option<Keep>) -> Result<Accepted, Refused> {
    let (position, dedup_short) = match verdict {
        Verdict::Other => return Err(Refusal::Duplicate.into()),
        Verdict::New { position, short } => (position, short),
        Verdict::Same { position } => (position, false),
    };
    let again = matches!(verdict, Verdict::Same { .. });
    let level = match keep {
        None => Level::Accepted,
        Some(keep) if keep.replicated => Level::Replicated,
        Some(_) => Level::Stored,
    };
    Ok(Accepted { level, position, dedup_short, partial: false, again })
}

fn refused(fault: Fault, may_have_happened: bool) -> Refused {
    match fault {
        Fault::Declined(refused) if !may_have_happened => refused,
        Fault::Unknown
        | Fault::Declined(_)
        | Fault::NotYet
        | Fault::NoFunction
        | Fault::NoMaster => {
            let refused = Refused::unavailable("The broker is away".into(), 1_000);
            Refused { unknown: may_have_happened || fault == Fault::Unknown, ..refused }
        }
    }
}

/// One report of those of all masters; none if one of them did not answer.
fn merged(answers: impl Iterator<Item = Result<Answer, Fault>>) -> Option<BeatReport> {
    let mut whole: Option<BeatReport> = None;
    for answer in answers {
        let Ok(Answer::Beaten { report, .. }) = answer else { return None };
        match &mut whole {
            None => whole = Some(report),
            Some(whole) => {
                whole.masters = whole.masters.and(report.masters);
                whole.links.extend(report.links);
                whole.agents.extend(report.agents);
                whole.unread.extend(report.unread);
                whole.lease = match (whole.lease, report.lease) {
                    (Lease::Lost, _) | (_, Lease::Lost) => Lease::Lost,
                    (Lease::New, _) | (_, Lease::New) => Lease::New,
                    (Lease::Held, Lease::Held) => Lease::Held,
                };
            }
        }
    }
    whole
}
