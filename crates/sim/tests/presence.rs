//! Hubs of several nodes against the store's presence, by fixed seeds: whatever is cut, stopped, killed, promoted or
//! lost, in the end the store, every hub and every member agree on who is there, and nobody is that has gone.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::wildcard_enum_match_arm,
    reason = "helpers of tests, whose numbers are small"
)]

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use roomcast_protocol::command::ReplyTo;
use roomcast_protocol::envelope::{
    BeatReport, BrokerCommand, BrokerEvent, Envelope, LinkId, MasterId, Peer,
};
use roomcast_protocol::guard::{AuthError, Guard, Policy, Principal, PublishRight, RuleIndex};
use roomcast_protocol::ids::{LaneId, NodeId, SessionId, SessionKey};
use roomcast_protocol::position::{Epoch, Head, Page, Position};
use roomcast_protocol::presence::{
    Incarnation, PresenceChange, PresenceDiff, PresenceMode, RosterPage,
};
use roomcast_protocol::publication::Publication;
use roomcast_protocol::room::RoomName;
use roomcast_protocol::time::Now;
use roomcast_router::hub::{Hub, HubConfig};
use roomcast_router::messages::{HubEffect, HubMessage, LaneMessage, Ticket};
use roomcast_store::{At, Beaten, Keys, Rules as StoreRules, Store};

const NODES: usize = 3;
const USERS: u64 = 12;
const SESSIONS_MAX: usize = 40;
const ROOMS: [&str; 3] = ["crowd", "few", "tally"];
const FEW: u32 = 5;
/// How long things go wrong, and how long they have to come right again: lost keys of a room are found by comparing.
const TROUBLE_MS: u64 = 60_000;
const PEACE_MS: u64 = 30_000;
const STEP_MS: u64 = 25;

/// What rooms tell: `crowd` who is there, `few` too but of few, `tally` how many.
struct Rules([Policy; 4]);

impl Rules {
    fn new() -> Self {
        let of = |presence, presence_max| Policy { presence, presence_max, ..Policy::OPEN };
        Self([
            of(PresenceMode::Members, 1_000),
            of(PresenceMode::Members, FEW),
            of(PresenceMode::Count, 1_000),
            Policy::OPEN,
        ])
    }
}

impl Guard for Rules {
    fn verify(&self, _token: &str, _unix_ms: u64) -> Result<Principal, AuthError> {
        Err(AuthError::CheckFailed("no token is checked here"))
    }

    fn rule(&self, room: &RoomName) -> Option<RuleIndex> {
        let at = ROOMS.iter().position(|name| *name == room.as_str()).unwrap_or(3);
        Some(RuleIndex(at as u16))
    }

    fn policy(&self, rule: RuleIndex) -> &Policy {
        &self.0[usize::from(rule.0)]
    }

    fn may_join(&self, _: RuleIndex, _: &RoomName, _: &Principal) -> bool {
        true
    }

    fn may_publish(&self, _: RuleIndex, _: &RoomName, _: &Principal) -> PublishRight {
        PublishRight::Yes
    }

    fn conflate_key(&self, _: RuleIndex, _: &Publication) -> Option<u64> {
        None
    }

    fn collapse_key(&self, _: RuleIndex, _: &Publication) -> Option<Box<str>> {
        None
    }
}

struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }

    fn chance(&mut self, one_in: u64) -> bool {
        self.below(one_in) == 0
    }
}

/// A client that keeps who is in a room, as `docs/dialects` tells it to.
#[derive(Debug)]
struct Follower {
    version: Position,
    count: u64,
    /// `None`: it is told only how many.
    users: Option<BTreeSet<Box<str>>>,
}

impl Follower {
    fn begin(page: &RosterPage) -> Self {
        let counts = page.users.is_empty() && page.count > 0;
        let users = (!counts).then(|| page.users.iter().cloned().collect());
        Self { version: page.version, count: page.count, users }
    }

    fn hear(&mut self, diff: &PresenceDiff) {
        let (version, before) = (diff.version, self.version);
        let known = version.offset < before.offset || version == before && self.users.is_some();
        if version.epoch == before.epoch && known {
            return;
        }
        self.version = diff.version;
        self.count = diff.count;
        if diff.joined.is_empty() && diff.left.is_empty() {
            self.users = None;
            return;
        }
        let users = self.users.get_or_insert_default();
        for user in &diff.left {
            assert!(users.remove(user), "{user} leaves, and was not there");
        }
        for user in &diff.joined {
            assert!(users.insert(user.clone()), "{user} comes, and was there");
        }
        assert_eq!(users.len() as u64, self.count, "the members know all");
    }
}

#[derive(Debug)]
struct Session {
    user: Box<str>,
    generation: u64,
    rooms: BTreeSet<usize>,
    /// Its client has gone, and the node has yet to notice.
    dead: bool,
}

struct Node {
    id: NodeId,
    hub: Hub,
    sessions: BTreeMap<u128, Session>,
    /// What the feed brings, by when.
    feed: VecDeque<(u64, BrokerEvent<Ticket>)>,
    /// What else comes, by when.
    coming: BTreeMap<(u64, u64), Coming>,
    hears: BTreeSet<RoomName>,
    requests: u64,
    up: bool,
    /// Until when its feed is cut, its commands are not answered, it is stopped.
    cut_ms: u64,
    away_ms: u64,
    stopped_ms: u64,
    followers: BTreeMap<usize, Follower>,
}

enum Coming {
    Event(BrokerEvent<Ticket>),
    Execute(Box<BrokerCommand<Ticket>>, bool),
    Says(HubMessage),
}

struct World {
    random: Random,
    now_ms: u64,
    store: Store<Arc<Publication>>,
    master: u64,
    drawn: u128,
    caused: u64,
    born: u64,
    nodes: Vec<Node>,
    sessions: u128,
    healing: bool,
    leaves: BTreeMap<(usize, Box<str>), u32>,
}

fn room(at: usize) -> RoomName {
    RoomName::parse(ROOMS[at]).unwrap()
}

impl World {
    fn new(seed: u64) -> Self {
        let rules = StoreRules {
            dedup_ttl_ms: 1_000,
            dedup_max: 100,
            bytes_max: u64::MAX,
            lease_ms: 8_000,
            partition: |_| 0,
        };
        let mut world = Self {
            random: Random(seed),
            now_ms: 0,
            store: Store::new(rules, 1),
            master: 1,
            drawn: 0,
            caused: 0,
            born: 0,
            nodes: Vec::new(),
            sessions: 0,
            healing: false,
            leaves: BTreeMap::new(),
        };
        world.nodes = (0..NODES).map(|_| world.node()).collect();
        world
    }

    fn node(&mut self) -> Node {
        self.born += 1;
        let id = NodeId(self.born);
        let config = HubConfig {
            linger_ms: 1_000,
            leave_grace_ms: 1_500,
            id,
            node: id.to_string().into(),
            seed: self.born,
            answer_bytes_max: 1 << 10,
            lanes: 1,
            watched: true,
            occupancy: false,
            write_list: None,
        };
        Node {
            id,
            hub: Hub::new(config, Arc::new(Rules::new())),
            sessions: BTreeMap::new(),
            feed: VecDeque::new(),
            coming: BTreeMap::new(),
            hears: BTreeSet::new(),
            requests: 0,
            up: false,
            cut_ms: 0,
            away_ms: 0,
            stopped_ms: 0,
            followers: BTreeMap::new(),
        }
    }

    fn at(&mut self) -> At {
        self.drawn += 1;
        At { now_ms: self.now_ms, fresh: Epoch(self.drawn) }
    }

    fn cause(&mut self, node: usize, in_ms: u64, what: Coming) {
        self.caused += 1;
        let at = (self.now_ms + in_ms, self.caused);
        self.nodes[node].coming.insert(at, what);
    }

    /// What is published goes to every feed that is up, in order; now and then a while later.
    fn spread(&mut self, diff: &Arc<PresenceDiff>) {
        for user in &diff.left {
            let at = ROOMS.iter().position(|name| *name == diff.room.as_str()).unwrap();
            *self.leaves.entry((at, user.clone())).or_default() += 1;
        }
        for node in 0..NODES {
            let delay_ms = if self.random.chance(10) { self.random.below(400) } else { 1 };
            let it = &mut self.nodes[node];
            if it.up && it.hears.contains(&diff.room) {
                let last_ms = it.feed.back().map_or(0, |(at, _)| *at);
                let event = BrokerEvent::Envelope(Envelope::Presence(Arc::clone(diff)));
                it.feed.push_back(((self.now_ms + delay_ms).max(last_ms), event));
            }
        }
    }

    /// A command leaves a node: it may be lost, or its answer, or be carried out when nobody waits for it any more.
    fn order(&mut self, node: usize, command: BrokerCommand<Ticket>) {
        // These keep their order.
        if matches!(command, BrokerCommand::Subscribe { .. } | BrokerCommand::Unsubscribe(_)) {
            return self.execute(node, command, true);
        }
        let away = self.nodes[node].away_ms > self.now_ms;
        let unlucky = !self.healing && self.random.chance(30);
        let delay_ms = self.random.below(20);
        if !away && !unlucky {
            return self.cause(node, delay_ms, Coming::Execute(Box::new(command), true));
        }
        let unanswered = match &command {
            BrokerCommand::SetPresence { request, .. } => {
                Some(BrokerEvent::PresenceSet { request: *request, outcome: None })
            }
            BrokerCommand::Roster { request, .. } => {
                Some(BrokerEvent::Roster { request: *request, page: None })
            }
            BrokerCommand::Beat { seq, .. } => {
                Some(BrokerEvent::BeatAnswered { seq: *seq, report: None })
            }
            BrokerCommand::Heads { request, .. } => {
                Some(BrokerEvent::Heads { request: *request, heads: None })
            }
            _ => None,
        };
        match unanswered {
            Some(event) => self.cause(node, 1_000, Coming::Event(event)),
            // The feed's own ways are not what fails here.
            None => {
                return self.cause(node, delay_ms, Coming::Execute(Box::new(command), true));
            }
        }
        if self.random.chance(2) {
            let late_ms = self.random.below(3_000);
            self.cause(node, late_ms, Coming::Execute(Box::new(command), false));
        }
    }

    fn execute(&mut self, node: usize, command: BrokerCommand<Ticket>, answered: bool) {
        let id = self.nodes[node].id;
        let event = match command {
            BrokerCommand::Subscribe { room, request } => {
                self.nodes[node].hears.insert(room.clone());
                self.nodes[node].requests = request;
                BrokerEvent::Subscribed { room, request }
            }
            BrokerCommand::Unsubscribe(room) => {
                self.nodes[node].hears.remove(&room);
                return;
            }
            BrokerCommand::Heads { request, rooms } => {
                let none = Position { epoch: Epoch(9), offset: 0 };
                BrokerEvent::Heads { request, heads: Some(vec![none; rooms.len()]) }
            }
            BrokerCommand::Read { request, .. } => {
                // Of the revoked tokens: there are none.
                let head = Head { position: Position { epoch: Epoch(9), offset: 0 }, first: 1 };
                let page = Some(Page { head, entries: Vec::new(), whole: true });
                BrokerEvent::Read { request, page }
            }
            BrokerCommand::SetPresence { request, set } => {
                let at = self.at();
                let stepped = self.store.set_presence(at, &set);
                stepped.publish.iter().for_each(|diff| self.spread(diff));
                BrokerEvent::PresenceSet { request, outcome: Some(stepped.answer) }
            }
            BrokerCommand::Roster { request, room, after, count_max } => {
                let at = self.at();
                // Pages are small here, so that there are many.
                let count_max = count_max.min(3);
                let page = self.store.roster(at, &room, after.as_deref(), count_max);
                BrokerEvent::Roster { request, page: Some(page) }
            }
            BrokerCommand::Beat { seq, life, retired, .. } => {
                return self.beat(node, Incarnation { node: id, life }, retired, (seq, answered));
            }
            BrokerCommand::Reconnect { .. } => {
                self.nodes[node].cut_ms = self.now_ms + 100;
                self.down(node);
                return;
            }
            command => panic!("nobody wants {command:?}"),
        };
        if answered {
            let delay_ms = self.random.below(20);
            self.cause(node, delay_ms, Coming::Event(event));
        }
    }

    fn beat(
        &mut self,
        node: usize,
        incarnation: Incarnation,
        retired: Option<u32>,
        (seq, answered): (u64, bool),
    ) {
        let at = self.at();
        let Beaten { lease, mut tended } = self.store.beat(at, incarnation, retired);
        loop {
            tended.diffs.iter().for_each(|diff| self.spread(diff));
            if !tended.more {
                break;
            }
            tended = self.store.tend(at);
        }
        let (master, links) = (MasterId(self.master), vec![LinkId(0)]);
        if self.nodes[node].up {
            let event = BrokerEvent::Beat { link: LinkId(0), seq, master, moved: Vec::new() };
            let now_ms = self.now_ms;
            let feed = &mut self.nodes[node].feed;
            let last_ms = feed.back().map_or(0, |(at, _)| *at);
            feed.push_back(((now_ms + 1).max(last_ms), event));
        }
        if answered {
            let peers = self.nodes.iter().filter(|it| it.id != incarnation.node);
            let peer = |it: &Node| Peer { node: it.id, hears: true, agrees: true };
            let peers = peers.map(peer).collect();
            let (masters, agents, unread) = (master, Vec::new(), Vec::new());
            let report = BeatReport { master, masters, links, peers, lease, agents, unread };
            let event = BrokerEvent::BeatAnswered { seq, report: Some(report) };
            let delay_ms = self.random.below(20);
            self.cause(node, delay_ms, Coming::Event(event));
        }
    }

    fn down(&mut self, node: usize) {
        if std::mem::replace(&mut self.nodes[node].up, false) {
            let feed = &mut self.nodes[node].feed;
            feed.clear();
            feed.push_back((self.now_ms, BrokerEvent::FeedDown));
        }
    }

    fn act(&mut self, node: usize, act: impl FnOnce(&mut Hub, Now, &mut Vec<HubEffect>)) {
        let now = Now { mono_ms: self.now_ms, unix_ms: self.now_ms };
        let mut out = Vec::new();
        let hub = &mut self.nodes[node].hub;
        act(hub, now, &mut out);
        hub.tick(now, &mut out);
        for effect in out {
            match effect {
                HubEffect::Broker(command) => self.order(node, command),
                HubEffect::Lane(_, message) => self.lane(node, message),
                HubEffect::Answer(..)
                | HubEffect::Roster(..)
                | HubEffect::Receipts(..)
                | HubEffect::History(..)
                | HubEffect::Ordered(..)
                | HubEffect::Occupied { .. }
                | HubEffect::Surveyed(..) => {}
            }
        }
    }

    /// The node's only lane.
    fn lane(&mut self, node: usize, message: LaneMessage) {
        match message {
            LaneMessage::Presence(diff) => {
                let at = ROOMS.iter().position(|name| *name == diff.room.as_str()).unwrap();
                if let Some(follower) = self.nodes[node].followers.get_mut(&at) {
                    follower.hear(&diff);
                }
            }
            LaneMessage::Roster { room, outcome: Ok(page), .. } => {
                let at = ROOMS.iter().position(|name| *name == room.as_str()).unwrap();
                if self.nodes[node].sessions.values().any(|session| session.rooms.contains(&at)) {
                    self.nodes[node].followers.insert(at, Follower::begin(&page));
                }
            }
            LaneMessage::Presents { .. } => {
                let alive = self.nodes[node].sessions.iter().filter(|(_, session)| !session.dead);
                let alive: Vec<u128> = alive.map(|(id, _)| *id).collect();
                for id in alive {
                    let session = &self.nodes[node].sessions[&id];
                    let says: Vec<_> =
                        session.rooms.iter().map(|at| change(id, session, *at, true)).collect();
                    let delay_ms = self.random.below(1_500);
                    for message in says {
                        self.cause(node, delay_ms, Coming::Says(message));
                    }
                }
            }
            _ => {}
        }
    }

    fn says(&mut self, node: usize, message: HubMessage) {
        self.act(node, |hub, now, out| hub.message(now, message, out));
    }

    fn enter(&mut self, node: usize, id: u128, at: usize) {
        let first = !self.nodes[node].sessions.values().any(|it| it.rooms.contains(&at));
        if first {
            self.says(node, HubMessage::Join { lane: LaneId(0), room: room(at) });
        }
        let session = self.nodes[node].sessions.get_mut(&id).unwrap();
        session.rooms.insert(at);
        let message = change(id, session, at, true);
        self.says(node, message);
    }

    fn leave(&mut self, node: usize, id: u128, at: usize) {
        let session = self.nodes[node].sessions.get_mut(&id).unwrap();
        if !session.rooms.remove(&at) {
            return;
        }
        let message = change(id, session, at, false);
        self.says(node, message);
        if !self.nodes[node].sessions.values().any(|it| it.rooms.contains(&at)) {
            self.nodes[node].followers.remove(&at);
            self.says(node, HubMessage::Leave { lane: LaneId(0), room: room(at) });
        }
    }

    fn close(&mut self, node: usize, id: u128) {
        let rooms: Vec<usize> = self.nodes[node].sessions[&id].rooms.iter().copied().collect();
        for at in rooms {
            self.leave(node, id, at);
        }
        self.nodes[node].sessions.remove(&id);
    }

    fn open(&mut self, node: usize, session: Option<(u128, Session)>) {
        let (id, session) = session.unwrap_or_else(|| {
            self.sessions += 1;
            let user = format!("user-{}", self.random.below(USERS)).into();
            let rooms = BTreeSet::new();
            (self.sessions, Session { user, generation: 1, rooms, dead: false })
        });
        let rooms = session.rooms.clone();
        let bare = Session { rooms: BTreeSet::new(), ..session };
        self.nodes[node].sessions.insert(id, bare);
        for at in rooms {
            self.enter(node, id, at);
        }
    }

    fn some_session(&mut self, node: usize) -> Option<u128> {
        let count = self.nodes[node].sessions.len() as u64;
        let nth = if count == 0 { return None } else { self.random.below(count) };
        self.nodes[node].sessions.keys().nth(nth as usize).copied()
    }

    fn is_stopped(&self, node: usize) -> bool {
        self.nodes[node].stopped_ms > self.now_ms
    }

    /// Something happens to a session.
    fn live(&mut self) {
        let node = self.random.below(NODES as u64) as usize;
        if self.is_stopped(node) {
            return;
        }
        let at = self.random.below(ROOMS.len() as u64) as usize;
        let found = self.some_session(node).filter(|id| !self.nodes[node].sessions[id].dead);
        let all: usize = self.nodes.iter().map(|it| it.sessions.len()).sum();
        match (self.random.below(6), found) {
            (0 | 1, _) if all < SESSIONS_MAX => self.open(node, None),
            (2 | 3, Some(id)) => self.enter(node, id, at),
            (4, Some(id)) => self.leave(node, id, at),
            (5, Some(id)) if self.random.chance(2) => self.close(node, id),
            // It goes on elsewhere; its former node hears of it later.
            (5, Some(id)) => {
                let other = self.random.below(NODES as u64) as usize;
                if other != node && !self.is_stopped(other) {
                    let session = &mut self.nodes[node].sessions.get_mut(&id).unwrap();
                    session.dead = true;
                    let moved = Session {
                        user: session.user.clone(),
                        generation: session.generation + 1,
                        rooms: session.rooms.clone(),
                        dead: false,
                    };
                    if !self.nodes[other].sessions.contains_key(&id) {
                        self.open(other, Some((id, moved)));
                    }
                }
            }
            _ => {}
        }
    }

    /// Something goes wrong.
    fn trouble(&mut self) {
        let node = self.random.below(NODES as u64) as usize;
        let long_ms = self.random.below(4_000);
        match self.random.below(12) {
            0..3 => {
                self.nodes[node].cut_ms = self.now_ms + long_ms;
                self.down(node);
            }
            3..6 => self.nodes[node].away_ms = self.now_ms + 3 * long_ms,
            6 | 7 => {
                self.nodes[node].stopped_ms = self.now_ms + 4 * long_ms;
                for session in self.nodes[node].sessions.values_mut() {
                    session.dead |= self.random.chance(4);
                }
            }
            8 | 9 => {
                // Killed, and another one in its place.
                let born = self.node();
                self.nodes[node] = born;
            }
            10 => {
                self.master += 1;
                self.store.promote(self.master.into());
            }
            _ => {
                let at = self.random.below(ROOMS.len() as u64) as usize;
                self.store.lose(&room(at), Keys::Presence);
                if self.random.chance(2) {
                    self.store.lose_leases();
                }
                // With the keys goes the memory of what was done already: a late copy would be done again.
                for node in &mut self.nodes {
                    node.coming.retain(|_, it| !matches!(it, Coming::Execute(_, false)));
                }
            }
        }
    }

    /// A node takes what has come for it.
    fn turn(&mut self, node: usize) {
        let it = &mut self.nodes[node];
        if !it.up && it.cut_ms <= self.now_ms {
            it.up = true;
            let event = BrokerEvent::FeedUp { links: vec![LinkId(0)], request: it.requests };
            it.feed.push_back((self.now_ms, event));
        }
        // The broker does its part whether the node sleeps or not.
        let due = |it: &Coming| matches!(it, Coming::Execute(..));
        let now_ms = self.now_ms;
        let mut orders = Vec::new();
        let ready = self.nodes[node].coming.range(..=(now_ms, u64::MAX));
        let ready: Vec<_> = ready.filter(|(_, it)| due(it)).map(|(at, _)| *at).collect();
        for at in ready {
            orders.extend(self.nodes[node].coming.remove(&at));
        }
        for order in orders {
            if let Coming::Execute(command, answered) = order {
                self.execute(node, *command, answered);
            }
        }
        if self.is_stopped(node) {
            return;
        }
        loop {
            let feed = &self.nodes[node].feed;
            let from_feed = feed.front().is_some_and(|(at, _)| *at <= now_ms);
            if from_feed && let Some((_, event)) = self.nodes[node].feed.pop_front() {
                self.act(node, |hub, now, out| hub.broker_event(now, event, out));
                continue;
            }
            let coming = self.nodes[node].coming.range(..=(now_ms, u64::MAX));
            let next = coming.filter(|(_, it)| !due(it)).map(|(at, _)| *at).next();
            let Some(next) = next.and_then(|at| self.nodes[node].coming.remove(&at)) else { break };
            match next {
                Coming::Event(event) => {
                    self.act(node, |hub, now, out| hub.broker_event(now, event, out));
                }
                Coming::Says(message) => self.tell_if_so(node, message),
                Coming::Execute(..) => {}
            }
        }
        self.act(node, |_, _, _| {});
        self.notice_the_dead(node);
        self.ask(node);
    }

    /// What a lane meant to say counts only if it is so still.
    fn tell_if_so(&mut self, node: usize, message: HubMessage) {
        let HubMessage::Presence { room, change } = &message else { return };
        let sessions = &self.nodes[node].sessions;
        let so = sessions.get(&{ change.session.0 }).is_some_and(|session| {
            session.rooms.iter().any(|at| ROOMS[*at] == room.as_str())
                && session.generation == change.generation
                && !session.dead
        });
        if so {
            self.says(node, message);
        }
    }

    /// Clients that have gone without a word are found out in time.
    fn notice_the_dead(&mut self, node: usize) {
        if self.random.chance(100) || self.healing {
            let dead = self.nodes[node].sessions.iter().filter(|(_, session)| session.dead);
            for id in dead.map(|(id, _)| *id).collect::<Vec<_>>() {
                self.close(node, id);
            }
        }
    }

    /// A member asks who is there, now and then, and until it knows.
    fn ask(&mut self, node: usize) {
        for at in 0..ROOMS.len() {
            let it = &self.nodes[node];
            let is_in = it.sessions.values().any(|session| session.rooms.contains(&at));
            let asks = is_in && (!it.followers.contains_key(&at) || self.random.chance(400));
            if asks {
                let message = HubMessage::Roster {
                    member: None,
                    lane: LaneId(0),
                    session: SessionKey { index: 0, generation: 1 },
                    reply: ReplyTo::default(),
                    room: room(at),
                    after: None,
                    count_max: 1_000,
                };
                self.says(node, message);
            }
        }
    }

    fn run(&mut self) {
        while self.now_ms < TROUBLE_MS {
            self.live();
            if self.random.chance(60) {
                self.trouble();
            }
            self.step();
        }
        self.healing = true;
        for node in &mut self.nodes {
            (node.cut_ms, node.away_ms, node.stopped_ms) = (0, 0, 0);
        }
        while self.now_ms < TROUBLE_MS + PEACE_MS {
            self.step();
        }
    }

    fn step(&mut self) {
        self.now_ms += STEP_MS;
        for node in 0..NODES {
            self.turn(node);
        }
    }

    fn check(&mut self, seed: u64) {
        for (at, name) in ROOMS.iter().enumerate() {
            let sessions = self.nodes.iter().flat_map(|node| node.sessions.values());
            let there = sessions.filter(|session| session.rooms.contains(&at));
            let truth: BTreeSet<Box<str>> = there.map(|session| session.user.clone()).collect();
            let now = self.at();
            let page = self.store.roster(now, &room(at), None, 1_000);
            let stored: BTreeSet<Box<str>> = page.users.into_iter().collect();
            assert_eq!(stored, truth, "seed {seed}: the store's {name}");
            for (index, node) in self.nodes.iter().enumerate() {
                if !node.sessions.values().any(|session| session.rooms.contains(&at)) {
                    continue;
                }
                let follower = node.followers.get(&at);
                let follower = follower.unwrap_or_else(|| panic!("seed {seed}: {name} is unknown"));
                assert_eq!(follower.count, truth.len() as u64, "seed {seed}: {name} on {index}");
                match &follower.users {
                    Some(users) => assert_eq!(*users, truth, "seed {seed}: {name} on {index}"),
                    None => assert!(at == 2 || truth.len() as u32 >= FEW && at == 1, "seed {seed}"),
                }
            }
        }
    }
}

fn change(id: u128, session: &Session, at: usize, present: bool) -> HubMessage {
    let (user, generation) = (session.user.clone(), session.generation);
    let change = PresenceChange { session: SessionId(id), user, generation, present };
    HubMessage::Presence { room: room(at), change }
}

#[test]
fn whatever_happens_all_agree_in_the_end_on_who_is_there() {
    let (mut lives, mut gaps, mut steps) = (0, 0, 0);
    for seed in 0..40 {
        let mut world = World::new(seed);
        world.run();
        world.check(seed);
        for node in &world.nodes {
            let counters = node.hub.counters();
            lives += counters.lives;
            gaps += counters.presence_gaps;
            steps += counters.presence_steps;
        }
    }
    assert!(lives > 40 && gaps > 40 && steps > 4_000, "{lives} lives, {gaps} gaps, {steps} steps");
}

#[test]
fn a_user_who_is_there_all_along_never_leaves_while_only_the_feed_and_another_master_trouble_its_node()
 {
    for seed in 0..10 {
        let mut world = World::new(seed);
        world.healing = true;
        world.open(0, None);
        world.enter(0, 1, 0);
        while world.now_ms < TROUBLE_MS {
            if world.random.chance(100) {
                world.nodes[0].cut_ms = world.now_ms + world.random.below(4_000);
                world.down(0);
            }
            if world.random.chance(200) {
                world.master += 1;
                world.store.promote(world.master.into());
            }
            world.step();
        }
        assert_eq!(world.leaves, BTreeMap::new(), "seed {seed}");
        assert!(world.nodes[0].hub.counters().lives > 0);
    }
}
