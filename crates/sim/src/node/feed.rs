//! A node's feed: connects its links, confirms what is subscribed in the order of the link, and reads no further while
//! the core's queue is full, by the rules of the Redis broker's feeder.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use roomcast_protocol::envelope::{BrokerEvent, Envelope, LinkId};
use roomcast_protocol::position::{Kept, Page};
use roomcast_protocol::publication::Publication;
use roomcast_protocol::room::RoomName;

use super::Node;
use super::broker::{EVENT_BYTES, moved};
use crate::bus::{Hearing, Item};
use crate::planted::Planted;
use crate::world::{Event, World};

/// Bytes that may wait for the core.
pub(crate) const FEED_BYTES: usize = 256 << 10;

/// Bytes that a server keeps for a link that does not read, before it cuts it.
const OUTPUT_BYTES: usize = 512 << 10;

/// How long to rest before connecting again. Units: milliseconds.
const REST_MS: u64 = 100;

/// How often the core is told that bytes came. Units: milliseconds.
const ALIVE_MS: u64 = 250;

/// What a node asks of its feed.
#[derive(Debug)]
pub(crate) enum FeedOrder {
    Subscribe { room: RoomName, request: u64 },
    Unsubscribe(RoomName),
    Reconnect { link: LinkId, commands: bool },
}

/// How the feed's connecting goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Try,
    Begin,
    Up,
}

/// One link, with what its server knows of it.
#[derive(Debug)]
pub(crate) struct FeedLink {
    pub(crate) id: LinkId,
    pub(crate) server: usize,
    pub(crate) subscribed: BTreeSet<RoomName>,
    /// It brings nothing any more, and nobody knows.
    pub(crate) silent: bool,
    /// What comes takes so much longer until then.
    pub(crate) slow: (u64, u64),
    out_ms: u64,
    in_ms: u64,
    /// Read by nobody yet.
    held: VecDeque<Item>,
    held_bytes: usize,
    alive_ms: u64,
}

/// The feed of one node.
#[derive(Debug, Default)]
pub(crate) struct Feed {
    /// How often it was lost; steps and items of an older one do not count.
    pub(crate) generation: u32,
    pub(crate) up: bool,
    pub(crate) links: Vec<FeedLink>,
    made: u16,
    pub(crate) wanted: BTreeMap<RoomName, u64>,
    request: u64,
    /// Asked while it connects.
    orders: VecDeque<FeedOrder>,
    /// It cannot be connected until then.
    pub(crate) cut_until_ms: u64,
    /// New links bring nothing until then.
    pub(crate) silent_until_ms: u64,
}

impl Node {
    /// The links that a beat goes over, as the node knows them.
    pub(crate) fn feed_links(&self, shard: usize, servers: &[usize]) -> Vec<LinkId> {
        let feed = &self.broker.feed;
        let own = feed.links.iter().filter(|link| servers[link.server] == shard);
        if feed.up { own.map(|link| link.id).collect() } else { Vec::new() }
    }
}

impl World {
    pub(crate) fn feed_order(&mut self, node: usize, order: FeedOrder) {
        let feed = &mut self.nodes[node].broker.feed;
        if feed.up {
            return self.obey(node, order);
        }
        if feed.links.is_empty() {
            note(feed, order);
        } else {
            feed.orders.push_back(order);
        }
    }

    fn obey(&mut self, node: usize, order: FeedOrder) {
        let feed = &mut self.nodes[node].broker.feed;
        match order {
            FeedOrder::Subscribe { room, request } => {
                feed.request = request;
                feed.wanted.insert(room.clone(), request);
                if self.bus.hearing == Hearing::Pattern {
                    let event = BrokerEvent::Subscribed { room, request };
                    return self.tell_core(node, EVENT_BYTES, event);
                }
                self.ask_link(node, room, Some(request));
            }
            FeedOrder::Unsubscribe(room) => {
                feed.wanted.remove(&room);
                if self.bus.hearing == Hearing::Exact {
                    self.ask_link(node, room, None);
                }
            }
            FeedOrder::Reconnect { link, commands } => {
                if !feed.links.iter().any(|it| it.id == link) {
                    return;
                }
                self.stats.reconnects += 1;
                if commands {
                    for shard in 0..self.bus.masters.len() {
                        self.find_master(node, shard);
                    }
                }
                self.lose_feed(node);
            }
        }
    }

    /// Sends a subscription, or its end, to the server of the room's link.
    fn ask_link(&mut self, node: usize, room: RoomName, request: Option<u64>) {
        // Subscriptions are slow now and then: what was asked before may be confirmed in between.
        let slow = self.random.chance(3);
        let in_ms = if slow { self.random.range(20, 300) } else { self.delay() };
        let shard = self.bus.shard_of(&room);
        let life = self.nodes[node].life;
        let now_ms = self.now_ms;
        let servers = &self.bus.servers;
        let feed = &mut self.nodes[node].broker.feed;
        let link = feed.links.iter_mut().find(|link| servers[link.server].shard == shard);
        let Some(link) = link else { return };
        let slow_ms = if link.slow.0 > now_ms { link.slow.1 } else { 0 };
        link.out_ms = link.out_ms.max(now_ms + in_ms + slow_ms);
        let (at, link) = (link.out_ms, link.id);
        self.at(at, Event::Subscribe { node, life, link, room, request });
    }

    /// A subscription, or its end, is at the server.
    pub(crate) fn subscribed(
        &mut self,
        (node, link): (usize, LinkId),
        room: RoomName,
        request: Option<u64>,
    ) {
        let Some(at) = self.link_at(node, link) else { return };
        let link = &mut self.nodes[node].broker.feed.links[at];
        if link.silent {
            return;
        }
        self.trace.line(self.now_ms, || format!("node {node} hears {room}: {request:?}"));
        if request.is_some() {
            link.subscribed.insert(room.clone());
        } else {
            link.subscribed.remove(&room);
        }
        self.bring(node, at, Item::Confirmed { room, request });
    }

    fn link_at(&self, node: usize, link: LinkId) -> Option<usize> {
        self.nodes[node].broker.feed.links.iter().position(|it| it.id == link)
    }

    /// The links that hear a room on this server.
    pub(crate) fn listeners(&self, server: usize, room: &RoomName) -> Vec<(usize, usize)> {
        let mut found = Vec::new();
        for (at, node) in self.nodes.iter().enumerate().filter(|(_, node)| node.up) {
            for (index, link) in node.broker.feed.links.iter().enumerate() {
                let hears = self.bus.hearing == Hearing::Pattern || link.subscribed.contains(room);
                if link.server == server && hears {
                    found.push((at, index));
                }
            }
        }
        found
    }

    /// The links of a node with their servers.
    pub(crate) fn links_of(&self, node: usize, life: u32) -> Vec<(usize, usize)> {
        let it = &self.nodes[node];
        if it.life != life || !it.up {
            return Vec::new();
        }
        let links = it.broker.feed.links.iter().enumerate();
        links.map(|(at, link)| (at, link.server)).collect()
    }

    /// Puts something on its way over a link.
    pub(crate) fn bring(&mut self, node: usize, at: usize, item: Item) {
        let in_ms = self.delay();
        let now_ms = self.now_ms;
        let it = &mut self.nodes[node];
        let life = it.life;
        let feed = &mut it.broker.feed;
        let generation = feed.generation;
        let link = &mut feed.links[at];
        if link.silent {
            self.stats.swallowed += 1;
            return;
        }
        let slow_ms = if link.slow.0 > now_ms { link.slow.1 } else { 0 };
        link.in_ms = link.in_ms.max(now_ms + in_ms + slow_ms);
        let (at, link) = (link.in_ms, link.id);
        self.at(at, Event::FeedItem { node, life, generation, link, item: Box::new(item) });
    }

    pub(crate) fn feed_item(&mut self, node: usize, link: LinkId, item: Item) {
        let Some(at) = self.link_at(node, link) else { return };
        let up = self.nodes[node].broker.feed.up;
        let full = self.nodes[node].core.feed_bytes > FEED_BYTES;
        let link = &mut self.nodes[node].broker.feed.links[at];
        if up && !full && link.held.is_empty() {
            return self.take_item(node, at, item);
        }
        link.held_bytes += weight_of(&item);
        link.held.push_back(item);
        if link.held_bytes > OUTPUT_BYTES {
            self.stats.output_cuts += 1;
            self.lose_feed(node);
        }
    }

    /// Reads on where links were left because the core's queue was full.
    pub(crate) fn read_held(&mut self, node: usize) {
        if !self.nodes[node].broker.feed.up {
            return;
        }
        for at in 0..self.nodes[node].broker.feed.links.len() {
            while self.nodes[node].core.feed_bytes <= FEED_BYTES / 2
                && let Some(item) = self.nodes[node].broker.feed.links[at].held.pop_front()
            {
                self.nodes[node].broker.feed.links[at].held_bytes -= weight_of(&item);
                self.take_item(node, at, item);
            }
        }
    }

    fn take_item(&mut self, node: usize, at: usize, item: Item) {
        let now_ms = self.now_ms;
        let by_ms = -self.nodes[node].broker.cluster_ahead_ms;
        let feed = &mut self.nodes[node].broker.feed;
        let link = &mut feed.links[at];
        let id = link.id;
        let alive = now_ms >= link.alive_ms + ALIVE_MS;
        let weight = weight_of(&item);
        let event = match item {
            Item::Envelope(Envelope::Publication { publication, published_us }) => {
                let publication = moved(&publication, by_ms);
                BrokerEvent::Envelope(Envelope::Publication { publication, published_us })
            }
            Item::Envelope(
                envelope @ (Envelope::Unreadable { .. }
                | Envelope::Presence(_)
                | Envelope::Receipts(_)),
            ) => BrokerEvent::Envelope(envelope),
            Item::Confirmed { room, request } => {
                let Some(newest) = feed.wanted.get(&room).copied() else { return };
                let by_name = self.planted == Some(Planted::ConfirmedByName);
                if Some(newest) != request && !by_name {
                    return;
                }
                if Some(newest) != request {
                    self.trace.line(now_ms, || {
                        format!("node {node} takes {request:?} of {room} for {newest}")
                    });
                }
                BrokerEvent::Subscribed { room, request: newest }
            }
            Item::Beat { seq, master, moved } => BrokerEvent::Beat { link: id, seq, master, moved },
        };
        if alive {
            self.nodes[node].broker.feed.links[at].alive_ms = now_ms;
            self.tell_core(node, EVENT_BYTES, BrokerEvent::Alive(id));
        }
        self.tell_core(node, weight, event);
    }

    /// The feed is lost: what was on its way is gone, and it is connected anew.
    pub(crate) fn lose_feed(&mut self, node: usize) {
        let in_ms = self.random.below(20);
        let feed = &mut self.nodes[node].broker.feed;
        feed.generation += 1;
        feed.links.clear();
        while let Some(order) = feed.orders.pop_front() {
            note(feed, order);
        }
        let was_up = std::mem::take(&mut feed.up);
        self.trace.line(self.now_ms, || format!("node {node} loses its feed, up: {was_up}"));
        if was_up {
            self.stats.feed_losses += 1;
            self.tell_core(node, EVENT_BYTES, BrokerEvent::FeedDown);
        }
        self.feed_step_in(node, in_ms, Step::Try);
    }

    pub(crate) fn feed_step_in(&mut self, node: usize, in_ms: u64, step: Step) {
        let (life, generation) = (self.nodes[node].life, self.nodes[node].broker.feed.generation);
        self.at(self.now_ms + in_ms, Event::Feed { node, life, generation, step });
    }

    pub(crate) fn feed_step(&mut self, node: usize, step: Step) {
        let in_ms = self.random.range(1, 40);
        match step {
            Step::Try => {
                if self.can_connect(node) {
                    for shard in 0..self.bus.masters.len() {
                        self.load(node, shard);
                    }
                    self.feed_step_in(node, in_ms, Step::Begin);
                } else {
                    self.feed_step_in(node, REST_MS, Step::Try);
                }
            }
            Step::Begin => self.begin_links(node, in_ms),
            Step::Up => {
                let feed = &mut self.nodes[node].broker.feed;
                feed.up = true;
                let links = feed.links.iter().map(|link| link.id).collect();
                let request = feed.request;
                let orders = std::mem::take(&mut feed.orders);
                self.trace
                    .line(self.now_ms, || format!("node {node} has its feed up to {request}"));
                let event = BrokerEvent::FeedUp { links, request };
                self.tell_core(node, EVENT_BYTES, event);
                self.read_held(node);
                for order in orders {
                    if self.nodes[node].broker.feed.up {
                        self.obey(node, order);
                    } else {
                        self.feed_order(node, order);
                    }
                }
            }
        }
    }

    fn can_connect(&self, node: usize) -> bool {
        let broker = &self.nodes[node].broker;
        let reached = broker.view.iter().zip(&broker.roads).all(|(server, road)| {
            let server = &self.bus.servers[*server];
            road.connected
                && road.silent_until_ms <= self.now_ms
                && !server.dead
                && server.writes
                && server.frozen_until_ms <= self.now_ms
        });
        reached && broker.feed.cut_until_ms <= self.now_ms
    }

    fn begin_links(&mut self, node: usize, in_ms: u64) {
        if !self.can_connect(node) {
            return self.feed_step_in(node, REST_MS, Step::Try);
        }
        let now_ms = self.now_ms;
        let servers = &self.bus.servers;
        let owner = |room: &RoomName| self.bus.shard_of(room);
        let broker = &mut self.nodes[node].broker;
        let feed = &mut broker.feed;
        for server in broker.view.clone() {
            let shard = servers[server].shard;
            let subscribed = feed.wanted.keys().filter(|room| owner(room) == shard).cloned();
            feed.made = feed.made.wrapping_add(1);
            feed.links.push(FeedLink {
                id: LinkId(feed.made),
                server,
                subscribed: subscribed.collect(),
                silent: feed.silent_until_ms > now_ms,
                slow: (0, 0),
                out_ms: 0,
                in_ms: 0,
                held: VecDeque::new(),
                held_bytes: 0,
                alive_ms: 0,
            });
        }
        self.feed_step_in(node, in_ms, Step::Up);
    }

    /// A page as this node's codec reads it.
    pub(crate) fn read_by(&self, node: usize, mut page: Page) -> Page {
        let by_ms = -self.nodes[node].broker.cluster_ahead_ms;
        for entry in &mut page.entries {
            if let Kept::Publication(publication) = entry {
                *publication = moved(publication, by_ms);
            }
        }
        page
    }
}

/// What is asked while the feed is down only changes what will be heard.
fn note(feed: &mut Feed, order: FeedOrder) {
    match order {
        FeedOrder::Subscribe { room, request } => {
            feed.request = request;
            feed.wanted.insert(room, request);
        }
        FeedOrder::Unsubscribe(room) => {
            feed.wanted.remove(&room);
        }
        FeedOrder::Reconnect { .. } => {}
    }
}

fn weight_of(item: &Item) -> usize {
    match item {
        Item::Envelope(Envelope::Publication { publication, .. }) => {
            Publication::weight(publication)
        }
        Item::Envelope(
            Envelope::Unreadable { .. } | Envelope::Presence(_) | Envelope::Receipts(_),
        )
        | Item::Confirmed { .. }
        | Item::Beat { .. } => EVENT_BYTES,
    }
}
