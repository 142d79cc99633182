//! A run: the virtual clock, the one queue of events, and everybody in it. Events of one millisecond happen in the
//! order in which they were caused, so a seed fixes a run.

use std::collections::BTreeMap;
use std::sync::Arc;

use roomcast_protocol::envelope::LinkId;
use roomcast_protocol::occupancy::Occupancy;
use roomcast_protocol::publication::Publication;
use roomcast_protocol::room::RoomName;

use crate::bus::execute::Asker;
use crate::bus::{Answer, Bus, Call, Hearing, Item};
use crate::check::{Book, Violation};
use crate::clients::Client;
use crate::faults::Fault;
use crate::inboxes::PHONES;
use crate::node::feed::Step;
use crate::node::socket::{Said, Socket};
use crate::node::{Birth, Node};
use crate::planted::Planted;
use crate::random::Random;
use crate::rules::Rules;
use crate::stats::Stats;
use crate::talkers::Talkers;
use crate::trace::Trace;

/// Nodes of a run.
pub(crate) const NODES: usize = 3;

/// Users of a run, each with a client; some have a second one.
pub(crate) const CLIENTS: usize = 30;

/// Publications of a run.
pub(crate) const PUBLICATIONS: u64 = 2_000;

/// Faults of a run.
pub(crate) const FAULTS: usize = 20;

/// When faults and publications begin. Units: milliseconds.
const BEGIN_MS: u64 = 3_000;

/// When the last fault is over. Units: milliseconds.
pub(crate) const HEAL_MS: u64 = 48_000;

/// When everybody must be current again, probes included. Units: milliseconds. Source: I7.
pub(crate) const CURRENT_MS: u64 = HEAL_MS + 35_000;

/// How long before that the last probes are published. Units: milliseconds.
const PROBE_MS: u64 = 5_000;

/// When all clients are gone. Units: milliseconds.
const LEAVE_MS: u64 = CURRENT_MS + 2_000;

/// When every table must be empty: ids are remembered for up to four minutes. Units: milliseconds.
pub(crate) const END_MS: u64 = LEAVE_MS + 260_000;

/// What happens at some time.
#[derive(Debug)]
pub(crate) enum Event {
    CoreTurn { node: usize, life: u32 },
    LaneTurn { node: usize, life: u32, lane: usize },
    Arrive { server: usize, asker: Asker, shard: usize, call: u64, what: Box<Call> },
    Reply { node: usize, life: u32, call: u64, answer: Box<Answer> },
    Timeout { node: usize, life: u32, call: u64 },
    Retry { node: usize, life: u32, order: u64, part: usize },
    RoadUp { node: usize, life: u32, shard: usize },
    Feed { node: usize, life: u32, generation: u32, step: Step },
    FeedItem { node: usize, life: u32, generation: u32, link: LinkId, item: Box<Item> },
    Subscribe { node: usize, life: u32, link: LinkId, room: RoomName, request: Option<u64> },
    Wake { node: usize, life: u32 },
    Thaw { server: usize },
    SecondStep { server: usize, asker: Asker, generation: u32, publication: Arc<Publication> },
    ClientRead { socket: usize },
    Up { socket: usize, said: Said },
    CloseDeadline { socket: usize },
    Connect { client: usize },
    Act { client: usize },
    Publish,
    Greet { client: usize },
    Rejoin { client: usize, room: usize },
    Restored { client: usize, room: usize },
    Fenced { socket: usize, since_ms: u64 },
    PublishIn { room: usize },
    Probe,
    People(crate::people::Turn),
    Talk(crate::talkers::Turn),
    Strike(Fault),
    Follow(crate::faults::Aftermath),
    Heal,
    Current,
    Leave,
    End,
    Tell { node: usize, life: u32, number: u64, event: Box<Occupancy> },
}

/// How long sessions can be resumed: longer than any outage, or not as long as the long ones. Units: milliseconds.
const WINDOWS_MS: [u64; 3] = [120_000, 120_000, 6_000];

/// How long users who left count as present. Units: milliseconds.
const LEAVE_GRACE_MS: u64 = 5_000;

/// Everything of a run.
pub(crate) struct World {
    pub(crate) now_ms: u64,
    pub(crate) random: Random,
    queue: BTreeMap<(u64, u64), Event>,
    caused: u64,
    pub(crate) rules: Arc<Rules>,
    pub(crate) nodes: Vec<Node>,
    pub(crate) bus: Bus,
    pub(crate) clients: Vec<Client>,
    pub(crate) talkers: Talkers,
    pub(crate) sockets: Vec<Socket>,
    pub(crate) book: Book,
    pub(crate) stats: Stats,
    pub(crate) trace: Trace,
    pub(crate) planted: Option<Planted>,
    /// How long sessions without a connection can be resumed. Units: milliseconds.
    window_ms: u64,
    /// Nodes tell the application which rooms become occupied and vacated.
    pub(crate) occupancy: bool,
    /// Users leave without grace, and one alone uses a rare room: it is occupied and vacated all the time.
    pub(crate) hurried: bool,
    /// All faults are over.
    pub(crate) healed: bool,
    /// Clients connect no more.
    pub(crate) leaving: bool,
    ended: bool,
}

impl World {
    pub(crate) fn new(seed: u64, planted: Option<Planted>, readable: bool) -> Self {
        let mut random = Random::new(seed ^ 0x5eed_0000_0000_0000);
        let hearing = random.pick(&[Hearing::Pattern, Hearing::Exact]);
        // A Cluster is heard by a link to each master.
        let shards = if hearing == Hearing::Exact && random.chance(2) { 2 } else { 1 };
        let bus = Bus::new(shards, hearing, &mut random);
        let rules = Arc::new(Rules::new());
        let window_ms = random.pick(&WINDOWS_MS);
        let mut world = Self {
            now_ms: 0,
            random,
            queue: BTreeMap::new(),
            caused: 0,
            rules,
            nodes: Vec::new(),
            bus,
            clients: Vec::new(),
            talkers: Talkers::new(seed),
            sockets: Vec::new(),
            book: Book::default(),
            stats: Stats::default(),
            trace: Trace::new(readable),
            planted,
            window_ms,
            // By the seed itself, so that the others' runs stay as they are.
            occupancy: seed.is_multiple_of(3),
            hurried: seed.is_multiple_of(6),
            healed: false,
            leaving: false,
            ended: false,
        };
        for slot in 0..NODES {
            let birth = world.birth(slot, 1);
            let node = Node::new(&birth, &world.rules);
            world.nodes.push(node);
            world.wake(slot);
        }
        world.begin();
        world
    }

    fn begin(&mut self) {
        for client in 0..CLIENTS + PHONES.len() {
            let made = Client::new(client, &mut self.random);
            self.clients.push(made);
            let at = self.random.below(BEGIN_MS);
            self.at(at, Event::Connect { client });
            self.at(BEGIN_MS + at, Event::Act { client });
        }
        for _ in 0..PUBLICATIONS {
            let at = self.random.range(BEGIN_MS, HEAL_MS);
            self.at(at, Event::Publish);
        }
        // In some runs no server loses anything: what is lost to whom can be counted.
        let keeps_all = self.random.chance(4);
        for _ in 0..FAULTS {
            let at = self.random.range(BEGIN_MS, HEAL_MS - 2_000);
            let fault = self.random.pick(&Fault::ALL);
            if !(keeps_all && fault.may_lose()) {
                self.at(at, Event::Strike(fault));
            }
        }
        self.begin_people(BEGIN_MS);
        self.begin_talkers(BEGIN_MS, CURRENT_MS - PROBE_MS);
        self.at(HEAL_MS, Event::Heal);
        self.at(CURRENT_MS - PROBE_MS, Event::Probe);
        self.at(CURRENT_MS, Event::Current);
        self.at(LEAVE_MS, Event::Leave);
        self.at(END_MS, Event::End);
    }

    /// How a node begins in this place.
    pub(crate) fn birth(&mut self, slot: usize, life: u32) -> Birth {
        Birth {
            slot,
            life,
            ahead_ms: self.random.range(0, 20_000) as i64 - 10_000,
            seed: self.random.next(),
            now_ms: self.now_ms,
            planted: self.planted.and_then(Planted::in_router),
            window_ms: self.window_ms,
            leave_grace_ms: if self.hurried { 0 } else { LEAVE_GRACE_MS },
            // One of them leaves it to the others.
            occupancy: self.occupancy && slot > 0,
            view: self.bus.masters.clone(),
        }
    }

    /// A node's threads begin.
    pub(crate) fn wake(&mut self, node: usize) {
        self.want_core(node, 0);
        for lane in 0..crate::node::LANES {
            self.want_lane(node, lane, 0);
        }
        self.feed_step_in(node, 1, Step::Try);
    }

    /// Has something happen at that time, or now if that has passed.
    pub(crate) fn at(&mut self, at_ms: u64, event: Event) {
        self.caused += 1;
        self.queue.insert((at_ms.max(self.now_ms), self.caused), event);
    }

    /// How long something takes on its way: mostly a moment.
    pub(crate) fn delay(&mut self) -> u64 {
        match self.random.below(32) {
            0 => self.random.range(5, 40),
            1..=4 => self.random.range(2, 6),
            _ => self.random.below(2),
        }
    }

    /// Runs to the end, or to the first violation.
    pub(crate) fn run(&mut self) -> Option<Violation> {
        while let Some(((at_ms, caused), event)) = self.queue.pop_first() {
            self.now_ms = at_ms;
            self.trace.note(at_ms, caused);
            self.happen(event);
            self.stats.events += 1;
            if self.ended || self.book.violation.is_some() {
                break;
            }
        }
        self.book.violation.take()
    }

    fn lives(&self, node: usize, life: u32) -> bool {
        self.nodes[node].up && self.nodes[node].life == life
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Arrive { server, asker, shard, call, what } => {
                self.arrive(server, (asker, shard, call), *what);
            }
            Event::Thaw { server } => self.thaw(server),
            Event::SecondStep { server, asker, generation, publication } => {
                self.second_step(server, (asker, generation), &publication);
            }
            Event::ClientRead { socket } => self.client_read(socket),
            Event::Up { socket, said } => self.up(socket, said),
            Event::CloseDeadline { socket } => self.reset(socket),
            Event::Connect { client } => self.connect(client),
            Event::Act { client } => self.client_acts(client),
            Event::Publish => self.publish_something(),
            Event::Rejoin { client, room } => self.rejoin(client, room),
            Event::Restored { client, room } => self.restored(client, room),
            Event::Fenced { socket, since_ms } => self.check_fenced(socket, since_ms),
            Event::PublishIn { room } => {
                let client = self.random.index(CLIENTS);
                self.publish_in(client, room);
            }
            Event::Greet { client } => self.push(crate::rules::own_room(client)),
            Event::Probe => self.probe(),
            Event::People(turn) => self.people_turn(turn),
            Event::Talk(turn) => self.talk_turn(turn),
            Event::Strike(fault) => self.strike(fault),
            Event::Follow(aftermath) => self.follow(aftermath),
            Event::Heal => self.heal(),
            Event::Current => self.check_current(),
            Event::Leave => self.leave_all(),
            Event::End => {
                self.ended = true;
                self.check_empty();
                self.check_all_told();
            }
            Event::CoreTurn { node, life }
            | Event::LaneTurn { node, life, .. }
            | Event::Wake { node, life }
            | Event::Reply { node, life, .. }
            | Event::Timeout { node, life, .. }
            | Event::Retry { node, life, .. }
            | Event::RoadUp { node, life, .. }
            | Event::Feed { node, life, .. }
            | Event::FeedItem { node, life, .. }
            | Event::Subscribe { node, life, .. }
            | Event::Tell { node, life, .. } => {
                if self.lives(node, life) {
                    self.happen_at_node(node, event);
                }
            }
        }
    }

    /// A node that was stopped goes on: what came meanwhile happens now, in order.
    fn wake_up(&mut self, node: usize) {
        let core = &mut self.nodes[node].core;
        if core.stalled_until_ms > self.now_ms {
            let (at, life) = (core.stalled_until_ms, self.nodes[node].life);
            return self.at(at, Event::Wake { node, life });
        }
        for event in std::mem::take(&mut core.deferred) {
            self.happen_at_node(node, event);
        }
    }

    fn happen_at_node(&mut self, node: usize, event: Event) {
        let stalled_until_ms = self.nodes[node].core.stalled_until_ms;
        if stalled_until_ms > self.now_ms
            && !matches!(event, Event::LaneTurn { .. } | Event::Wake { .. })
        {
            // The client of the bus lives on the core's thread.
            if let Event::CoreTurn { .. } = event {
                self.nodes[node].core.turn_at_ms = None;
                return self.want_core(node, 0);
            }
            if self.nodes[node].core.deferred.is_empty() {
                let life = self.nodes[node].life;
                self.at(stalled_until_ms, Event::Wake { node, life });
            }
            return self.nodes[node].core.deferred.push_back(event);
        }
        let generation_now = self.nodes[node].broker.feed.generation;
        match event {
            Event::CoreTurn { .. } => self.core_turn(node),
            Event::Wake { .. } => self.wake_up(node),
            Event::Tell { number, event, .. } => self.told_application(node, number, &event),
            Event::LaneTurn { lane, .. } => self.lane_turn(node, lane),
            Event::Reply { call, answer, .. } => self.reply(node, call, *answer),
            Event::Timeout { call, .. } => self.timed_out(node, call),
            Event::Retry { order, part, .. } => self.retry(node, order, part),
            Event::RoadUp { shard, .. } => self.road_up(node, shard),
            Event::Feed { generation, step, .. } => {
                if generation == generation_now {
                    self.feed_step(node, step);
                }
            }
            Event::FeedItem { generation, link, item, .. } => {
                if generation == generation_now {
                    self.feed_item(node, link, *item);
                }
            }
            Event::Subscribe { link, room, request, .. } => {
                self.subscribed((node, link), room, request);
            }
            Event::Arrive { .. }
            | Event::Thaw { .. }
            | Event::SecondStep { .. }
            | Event::ClientRead { .. }
            | Event::Up { .. }
            | Event::CloseDeadline { .. }
            | Event::Connect { .. }
            | Event::Act { .. }
            | Event::Publish
            | Event::Greet { .. }
            | Event::Rejoin { .. }
            | Event::Restored { .. }
            | Event::Fenced { .. }
            | Event::PublishIn { .. }
            | Event::Probe
            | Event::People(_)
            | Event::Talk(_)
            | Event::Strike(_)
            | Event::Follow(_)
            | Event::Heal
            | Event::Current
            | Event::Leave
            | Event::End => {}
        }
    }
}
