//! What goes wrong in a run: each fault strikes once, and most of them end by themselves after a while.

use roomcast_protocol::room::RoomName;
use roomcast_router::messages::{DrainPlan, LaneMessage};
use roomcast_store::Keys;

use crate::bus::server::Server;
use crate::node::{LANES, Node};
use crate::planted::Planted;
use crate::rules::ROOMS;
use crate::world::{Event, HEAL_MS, NODES, World};

/// One kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// A node's feed is cut, in the middle of what it brings.
    FeedCut,
    /// A node's feed brings nothing any more, and does not say so.
    FeedSilent,
    /// A node's feed brings everything late.
    FeedSlow,
    /// A node's connection for commands is cut.
    RoadCut,
    /// It swallows everything.
    RoadSilent,
    /// It takes its time: commands are carried out after their timeout.
    RoadSlow,
    /// A node can reach no server at all.
    Partition,
    /// A server is frozen.
    Freeze,
    /// A replica is promoted, with a lost tail; the old master may serve some nodes for a while.
    Failover,
    /// A server starts again with nothing.
    RestartEmpty,
    /// A server loses all its data.
    Flush,
    /// A server loses one key of a room.
    KeyLost,
    /// A server loses its functions.
    FunctionsLost,
    /// A server's replica falls behind.
    ReplicaStalls,
    /// A partition moves to another master.
    SlotMove,
    /// A node is killed.
    Crash,
    /// A node is stopped in order.
    Drain,
    /// A node stops for a while.
    Stall,
    /// One lane of it does.
    LaneStall,
    /// The core of it does.
    CoreStall,
    /// A client's connection swallows everything.
    ClientSilent,
    /// A client reads nothing for a while.
    ClientPause,
    /// A burst of publications.
    Burst,
}

/// How a node is drained.
const DRAIN: DrainPlan = DrainPlan { window_ms: 2_000, limit_ms: 2_500, turn_ms: 1_500 };

impl Fault {
    pub(crate) const ALL: [Self; 23] = [
        Self::FeedCut,
        Self::FeedSilent,
        Self::FeedSlow,
        Self::RoadCut,
        Self::RoadSilent,
        Self::RoadSlow,
        Self::Partition,
        Self::Freeze,
        Self::Failover,
        Self::RestartEmpty,
        Self::Flush,
        Self::KeyLost,
        Self::FunctionsLost,
        Self::ReplicaStalls,
        Self::SlotMove,
        Self::Crash,
        Self::Drain,
        Self::Stall,
        Self::LaneStall,
        Self::CoreStall,
        Self::ClientSilent,
        Self::ClientPause,
        Self::Burst,
    ];

    const fn name(self) -> &'static str {
        match self {
            Self::FeedCut => "feed cut",
            Self::FeedSilent => "feed half-open",
            Self::FeedSlow => "feed slow",
            Self::RoadCut => "commands cut",
            Self::RoadSilent => "commands half-open",
            Self::RoadSlow => "commands slow",
            Self::Partition => "node cut off",
            Self::Freeze => "Redis frozen",
            Self::Failover => "failover",
            Self::RestartEmpty => "Redis restarted empty",
            Self::Flush => "Redis flushed",
            Self::KeyLost => "key lost",
            Self::FunctionsLost => "functions flushed",
            Self::ReplicaStalls => "replica behind",
            Self::SlotMove => "slot moved",
            Self::Crash => "node killed",
            Self::Drain => "node drained",
            Self::Stall => "node stopped",
            Self::LaneStall => "lane stopped",
            Self::CoreStall => "core stopped",
            Self::ClientSilent => "client half-open",
            Self::ClientPause => "client reads nothing",
            Self::Burst => "burst",
        }
    }
}

/// What follows from a fault later.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Aftermath {
    /// A node takes this server for the master from now on.
    Sees { node: usize, life: u32, shard: usize },
    /// The old master learns that it is none.
    Demote { server: usize },
    /// A node starts in its place.
    Restart { node: usize },
    /// A node that was stopped in order ends.
    Drained { node: usize, life: u32 },
    /// A replica has caught up.
    CaughtUp { server: usize },
    /// Many publications at once.
    Burst { left: u32 },
}

impl Fault {
    /// Whether a server may have less after it.
    pub(crate) const fn may_lose(self) -> bool {
        matches!(
            self,
            Self::Failover | Self::RestartEmpty | Self::Flush | Self::KeyLost | Self::SlotMove
        )
    }
}

impl World {
    /// How long a fault lasts; all are over in time.
    fn lasting(&mut self, low_ms: u64, high_ms: u64) -> u64 {
        let until = self.now_ms + self.random.range(low_ms, high_ms);
        until.min(HEAL_MS.max(self.now_ms))
    }

    fn trouble(&mut self, node: usize, until_ms: u64) {
        let it = &mut self.nodes[node];
        it.troubled_ms = it.troubled_ms.max(until_ms);
    }

    fn trouble_all(&mut self, until_ms: u64) {
        (0..NODES).for_each(|node| self.trouble(node, until_ms));
    }

    pub(crate) fn strike(&mut self, fault: Fault) {
        *self.stats.faults.entry(fault.name()).or_default() += 1;
        let node = self.random.index(NODES);
        let now_ms = self.now_ms;
        self.trace.line(now_ms, || format!("FAULT {} (node {node})", fault.name()));
        match fault {
            Fault::FeedCut | Fault::FeedSilent | Fault::FeedSlow => self.strike_feed(fault, node),
            Fault::RoadCut | Fault::RoadSilent | Fault::RoadSlow | Fault::Partition => {
                self.strike_road(fault, node);
            }
            Fault::Freeze
            | Fault::Failover
            | Fault::RestartEmpty
            | Fault::Flush
            | Fault::KeyLost
            | Fault::FunctionsLost
            | Fault::ReplicaStalls => self.strike_server(fault),
            Fault::SlotMove => self.move_slot(),
            Fault::Crash => self.crash(node),
            Fault::Drain => self.drain_node(node),
            Fault::Stall | Fault::LaneStall | Fault::CoreStall => self.stall(fault, node),
            Fault::ClientSilent | Fault::ClientPause => self.strike_client(fault),
            Fault::Burst => self.at(now_ms, Event::Follow(Aftermath::Burst { left: 60 })),
        }
    }

    fn strike_feed(&mut self, fault: Fault, node: usize) {
        let until = self.lasting(100, 6_000);
        self.trouble(node, until);
        let slow_ms = self.random.range(50, 3_000);
        let feed = &mut self.nodes[node].broker.feed;
        if fault == Fault::FeedCut {
            feed.cut_until_ms = until;
            return self.lose_feed(node);
        }
        if fault == Fault::FeedSilent {
            feed.silent_until_ms = until;
            return feed.links.iter_mut().for_each(|link| link.silent = true);
        }
        // The whole way is slow for longer, and commands may be lost on it at first.
        let until = self.lasting(1_000, 10_000);
        let silent_until = self.lasting(2_500, 5_000);
        let links = &mut self.nodes[node].broker.feed.links;
        links.iter_mut().for_each(|link| link.slow = (until, slow_ms));
        self.trouble(node, until);
        if self.random.chance(2) {
            for road in &mut self.nodes[node].broker.roads {
                road.silent_until_ms = road.silent_until_ms.max(silent_until);
            }
        }
    }

    fn strike_road(&mut self, fault: Fault, node: usize) {
        let until = self.lasting(100, 6_000);
        self.trouble(node, until);
        let slow_ms = self.random.range(50, 2_500);
        for shard in 0..self.bus.masters.len() {
            let road = &mut self.nodes[node].broker.roads[shard];
            if fault == Fault::RoadCut {
                road.cut_until_ms = until;
                self.break_road(node, shard);
            } else if fault == Fault::RoadSlow {
                road.slow = (until, slow_ms);
            } else {
                road.silent_until_ms = until;
            }
        }
        if fault == Fault::Partition {
            let feed = &mut self.nodes[node].broker.feed;
            feed.cut_until_ms = until;
            feed.links.iter_mut().for_each(|link| link.silent = true);
        }
    }

    fn strike_server(&mut self, fault: Fault) {
        let shard = self.random.index(self.bus.masters.len());
        let server = self.bus.masters[shard];
        let until = self.lasting(200, 5_000);
        match fault {
            Fault::Freeze => {
                let it = &mut self.bus.servers[server];
                it.frozen_until_ms = it.frozen_until_ms.max(until);
                self.trouble_all(until);
            }
            Fault::Failover => self.fail_over(shard),
            Fault::RestartEmpty => self.restart_empty(server),
            Fault::Flush => {
                let stores = &mut self.bus.servers[server].data.stores;
                stores.iter_mut().for_each(roomcast_store::Store::lose_everything);
                self.bus.servers[server].data.leases.clear();
                self.bus.servers[server].data.lives.lose_everything();
                self.book.agents_lost();
                self.book.occupancies_forked();
                self.forget_fences(server);
                self.book.all_lost(self.bus.executed);
                self.trouble_all(self.now_ms);
            }
            Fault::KeyLost => self.lose_key(server),
            Fault::FunctionsLost => self.bus.servers[server].functions = false,
            Fault::ReplicaStalls => {
                let it = &mut self.bus.servers[server];
                let behind = it.data.clone();
                it.behind.get_or_insert_with(|| Box::new(behind));
                self.at(until, Event::Follow(Aftermath::CaughtUp { server }));
            }
            Fault::FeedCut
            | Fault::FeedSilent
            | Fault::FeedSlow
            | Fault::RoadCut
            | Fault::RoadSilent
            | Fault::RoadSlow
            | Fault::Partition
            | Fault::SlotMove
            | Fault::Crash
            | Fault::Drain
            | Fault::Stall
            | Fault::LaneStall
            | Fault::CoreStall
            | Fault::ClientSilent
            | Fault::ClientPause
            | Fault::Burst => {}
        }
    }

    fn restart_empty(&mut self, server: usize) {
        let master = self.bus.master_id();
        let (shard, ahead_ms) = (self.bus.servers[server].shard, self.bus.servers[server].ahead_ms);
        self.bus.servers[server] = Server::new(shard, master, ahead_ms);
        self.book.agents_lost();
        self.book.occupancies_forked();
        self.forget_fences(server);
        self.book.all_lost(self.bus.executed);
        self.cut_all_from(server);
        self.trouble_all(self.now_ms);
    }

    /// One key of one room is lost: its meta, its entries, the newest of them, or the ids; or the cursors of an inbox.
    fn lose_key(&mut self, server: usize) {
        if self.random.chance(3) {
            return self.lose_cursors(server);
        }
        let rule = self.random.pick(&ROOMS);
        let keys =
            self.random.pick(&[Keys::Meta, Keys::Meta, Keys::Stream, Keys::Newest, Keys::Ids]);
        let room = RoomName::parse(rule.name).expect("the rules name rooms");
        self.trace.line(self.now_ms, || format!("server {server} loses {keys:?} of {room}"));
        self.bus.servers[server].data.store(&room).lose(&room, keys);
        self.book.ids_lost(self.bus.executed);
    }

    /// A partition goes to another master with all that it holds; who heard its rooms here has to look elsewhere.
    fn move_slot(&mut self) {
        let shards = self.bus.masters.len();
        let partition = self.random.index(self.bus.owners.len());
        let old = self.bus.owners[partition];
        let new = (old + 1) % shards;
        if shards == 1 {
            return self.lose_key(self.bus.masters[0]);
        }
        let (from, to) = (self.bus.masters[old], self.bus.masters[new]);
        let mut store = self.bus.servers[from].data.stores[partition].clone();
        if self.planted != Some(Planted::KeepEpoch) {
            store.promote(u128::from(self.bus.servers[to].master.0));
        }
        self.bus.servers[to].data.stores[partition] = store;
        self.forget_fences(to);
        self.bus.owners[partition] = new;
        // A replica that is behind has nothing of it.
        if self.bus.servers[to].behind.is_some() {
            self.book.agents_lost();
            self.book.occupancies_forked();
            self.book.all_lost(self.bus.executed);
        }
        for node in 0..NODES {
            let feed = &self.nodes[node].broker.feed;
            if feed.links.iter().any(|link| link.server == from) {
                self.lose_feed(node);
            }
        }
        self.trouble_all(self.now_ms + 500);
    }

    /// All connections to a server end.
    fn cut_all_from(&mut self, server: usize) {
        for node in 0..NODES {
            let broker = &self.nodes[node].broker;
            let feeds = broker.feed.links.iter().any(|link| link.server == server);
            let shards = (0..broker.view.len()).filter(|shard| broker.view[*shard] == server);
            for shard in shards.collect::<Vec<_>>() {
                self.break_road(node, shard);
            }
            if feeds {
                self.lose_feed(node);
            }
        }
    }

    /// A replica takes the master's place. The old one is dead, or serves whoever does not know yet.
    fn fail_over(&mut self, shard: usize) {
        let old = self.bus.masters[shard];
        let master = self.bus.master_id();
        let ahead_ms = self.random.range(0, 60) as i64 - 30;
        let mut promoted = Server::new(shard, master, ahead_ms);
        promoted.functions = self.bus.servers[old].functions;
        let it = &mut self.bus.servers[old];
        let behind = it.behind.take();
        // The old one may go on for a while.
        self.book.occupancies_forked();
        if behind.is_some() {
            self.book.agents_lost();
            self.book.all_lost(self.bus.executed);
        }
        promoted.data = behind.map_or_else(|| it.data.clone(), |data| *data);
        if self.planted != Some(Planted::KeepEpoch) {
            promoted.data.promote(u128::from(master.0));
        }
        let new = self.bus.servers.len();
        self.bus.servers.push(promoted);
        self.bus.masters[shard] = new;
        let dies = self.random.chance(2);
        if dies {
            self.bus.servers[old].dead = true;
            self.cut_all_from(old);
        } else {
            // What the old one takes from now on is lost.
            self.book.ids_lost(self.bus.executed);
            let until = self.lasting(500, 6_000);
            self.trouble_all(until);
            self.at(until, Event::Follow(Aftermath::Demote { server: old }));
        }
        for node in 0..NODES {
            let in_ms = self.random.range(50, 1_500);
            let life = self.nodes[node].life;
            if dies || !self.random.chance(3) {
                let aftermath = Aftermath::Sees { node, life, shard };
                self.at(self.now_ms + in_ms, Event::Follow(aftermath));
            }
        }
        self.trouble_all(self.now_ms + 1_500);
    }

    pub(crate) fn follow(&mut self, aftermath: Aftermath) {
        match aftermath {
            Aftermath::Sees { node, life, shard } => {
                let it = &self.nodes[node];
                let master = self.bus.masters[shard];
                if it.life == life && it.up && it.broker.view[shard] != master {
                    self.find_master(node, shard);
                    self.lose_feed(node);
                }
            }
            Aftermath::Demote { server } => {
                self.bus.servers[server].writes = false;
                self.book.dialogs.lost(self.bus.executed);
                self.cut_all_from(server);
                for node in 0..NODES {
                    for shard in 0..self.bus.masters.len() {
                        if self.nodes[node].broker.view[shard] == server {
                            let life = self.nodes[node].life;
                            self.follow(Aftermath::Sees { node, life, shard });
                        }
                    }
                }
            }
            Aftermath::Restart { node } => self.restart(node),
            Aftermath::Drained { node, life } => {
                if self.nodes[node].up && self.nodes[node].life == life {
                    self.crash(node);
                }
            }
            Aftermath::CaughtUp { server } => self.bus.servers[server].behind = None,
            Aftermath::Burst { left } => {
                self.publish_something();
                if left > 0 {
                    let aftermath = Aftermath::Burst { left: left - 1 };
                    self.at(self.now_ms, Event::Follow(aftermath));
                }
            }
        }
    }

    /// A node is stopped in order: its sessions have their turns, then it ends, and another takes its place.
    fn drain_node(&mut self, node: usize) {
        let it = &mut self.nodes[node];
        if !it.up || it.draining {
            return;
        }
        it.draining = true;
        let life = it.life;
        for lane in 0..LANES {
            self.push_to_lane(node, lane, 64, LaneMessage::Drain(DRAIN));
        }
        let at = self.now_ms + DRAIN.window_ms + DRAIN.turn_ms + 500;
        self.at(at, Event::Follow(Aftermath::Drained { node, life }));
    }

    pub(crate) fn crash(&mut self, node: usize) {
        let until = self.lasting(200, 6_000);
        self.trouble(node, until);
        if !self.nodes[node].up {
            return;
        }
        self.nodes[node].up = false;
        self.book.people.node_gone(node, self.now_ms);
        self.nodes[node].broker.feed.links.clear();
        for socket in 0..self.sockets.len() {
            let it = &self.sockets[socket];
            if it.node == node && it.server_open && it.life == self.nodes[node].life {
                self.reset(socket);
            }
        }
        self.at(until, Event::Follow(Aftermath::Restart { node }));
    }

    fn restart(&mut self, node: usize) {
        let life = self.nodes[node].life + 1;
        let birth = self.birth(node, life);
        self.nodes[node] = Node::new(&birth, &self.rules);
        self.wake(node);
        self.trouble(node, self.now_ms + 1_000);
    }

    fn stall(&mut self, fault: Fault, node: usize) {
        let until = self.lasting(100, 5_000);
        let lane = self.random.index(LANES);
        let it = &mut self.nodes[node];
        if fault != Fault::LaneStall {
            it.core.stalled_until_ms = it.core.stalled_until_ms.max(until);
        }
        for (at, actor) in it.lanes.iter_mut().enumerate() {
            if fault == Fault::Stall || fault == Fault::LaneStall && at == lane {
                actor.stalled_until_ms = actor.stalled_until_ms.max(until);
            }
        }
        if fault != Fault::LaneStall {
            self.trouble(node, until);
        }
    }

    fn strike_client(&mut self, fault: Fault) {
        let client = self.random.index(self.clients.len());
        let Some(socket) = self.clients[client].socket else { return };
        let until = self.lasting(500, 9_000);
        if fault == Fault::ClientSilent {
            self.sockets[socket].silent = true;
        } else {
            self.sockets[socket].paused_until_ms = until;
        }
    }

    pub(crate) fn heal(&mut self) {
        self.healed = true;
        for node in 0..NODES {
            self.nodes[node].broker.feed.silent_until_ms = 0;
        }
        self.trace.line(self.now_ms, || "HEALED".to_owned());
    }
}
