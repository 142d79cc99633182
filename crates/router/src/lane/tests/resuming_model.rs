//! Clients that come back, against a model that is too simple to be wrong: whatever breaks when, a client that keeps its
//! session misses no publication of a room that keeps them, and in the end has one connection.
//!
//! Each lane is a node of its own. What a lane writes lies in a connection until the client takes it, and is lost with
//! the connection: written is not received.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use roomcast_protocol::command::{Command, Continuation};
use roomcast_protocol::dialect::{Encoding, Format};
use roomcast_protocol::ids::{LaneId, NodeId, SessionId, SessionKey};
use roomcast_protocol::limits::SessionLimits;
use roomcast_protocol::position::{Epoch, Head, Kept, Page, Position};
use roomcast_protocol::publication::Publication;
use roomcast_protocol::session::{
    AttachedSession, Former, ResumeToken, SaveSession, SavedSession, Secret, SessionRecord,
    SessionState, Unattached, Wish,
};
use roomcast_protocol::time::Now;

use super::frames::{STOCK, Table, position, texts};
use super::happenings::{Turns, shown};
use super::{command, publication, walk};
use crate::alternation::Alternation;
use crate::happenings::{Happening, Wanted};
use crate::lane::{Lane, LaneConfig, Opening, Space};
use crate::messages::{DrainPlan, Effect, HubMessage, LaneMessage};
use crate::meter::Users;
use crate::random::Random;
use crate::reader::Reader;

const ROOMS: [&str; 2] = ["tape-1", "lowtape"];
const NODES: usize = 3;
const CLIENTS: usize = 4;
const WINDOW_MS: u64 = 1 << 40;

/// What a client knows of sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// It says what it has covered, and hands over.
    Covers,
    /// It brings its token alone.
    Brings,
    /// Nothing.
    Stock,
}

/// What the broker keeps of a session.
#[derive(Debug)]
struct Kept1 {
    user: Box<str>,
    generation: u64,
    state: SessionState,
    node: NodeId,
    secret: Secret,
    previous: Option<Secret>,
    turn: Option<Secret>,
    record: SessionRecord,
}

/// What lies in a connection.
enum Wire {
    Frame(String),
    Ping(u32),
    Close(u16),
}

struct Connection {
    node: NodeId,
    key: SessionKey,
    wire: VecDeque<Wire>,
    ready: bool,
    /// Where it stands in rooms.
    at: BTreeMap<String, u64>,
}

struct Client {
    kind: Kind,
    /// The newest is the last; another one is there only while it is handed over.
    connections: Vec<Connection>,
    token: Option<ResumeToken>,
    session: Option<u128>,
    /// What it has got of each room, by however many connections.
    covered: BTreeMap<String, u64>,
}

struct Node {
    id: NodeId,
    lane: Lane,
    to_hub: VecDeque<HubMessage>,
    to_lane: VecDeque<LaneMessage>,
    hears: BTreeSet<String>,
    draining: bool,
    alternation: Alternation,
    turns: Turns,
}

impl Node {
    /// What its lane tells, as it is told in turn.
    fn happened(&mut self, happening: Happening) {
        let mut out = Vec::new();
        self.alternation.take(happening, &mut out);
        for it in &out {
            assert!(self.turns.see(&shown(it)));
        }
    }
}

struct Cluster {
    now: Now,
    nodes: Vec<Node>,
    born: u64,
    opened: u128,
    clients: Vec<Client>,
    records: BTreeMap<SessionId, Kept1>,
    logs: BTreeMap<String, Vec<Arc<Publication>>>,
    #[cfg(feature = "planted")]
    planted: Option<crate::planted::Planted>,
    resumed: usize,
    moved: usize,
    /// Connections that were told on nodes that drained, and ended there.
    came: usize,
    /// Losses that clients were told, because a read took too long.
    told: usize,
    failure: Option<String>,
}

impl Cluster {
    fn new() -> Self {
        let kinds = [Kind::Covers, Kind::Brings, Kind::Stock, Kind::Covers];
        let client = |at: usize| Client {
            kind: kinds[at],
            connections: Vec::new(),
            token: None,
            session: None,
            covered: BTreeMap::new(),
        };
        let mut cluster = Self {
            now: Now { mono_ms: 1_000, unix_ms: 1_000 },
            nodes: Vec::new(),
            born: 0,
            opened: 0,
            clients: (0..CLIENTS).map(client).collect(),
            records: BTreeMap::new(),
            logs: ROOMS.iter().map(|room| ((*room).to_owned(), Vec::new())).collect(),
            #[cfg(feature = "planted")]
            planted: None,
            resumed: 0,
            moved: 0,
            came: 0,
            told: 0,
            failure: None,
        };
        cluster.begin();
        cluster
    }

    fn begin(&mut self) {
        self.nodes = (0..NODES).map(|_| self.born()).collect();
    }

    fn born(&mut self) -> Node {
        self.born += 1;
        let limits = SessionLimits {
            connections_per_user: 1_000,
            messages_per_minute: u32::MAX,
            controls_per_minute: u32::MAX,
            resume_window_ms: WINDOW_MS,
            ping_ms: 2_000,
            ..SessionLimits::default()
        };
        let (born, mut last) = (u128::from(self.born), 0_u128);
        let lane = Lane::new(LaneConfig {
            id: LaneId(0),
            guard: Arc::new(Table::default()),
            limits,
            users: Arc::new(Users::new(1)),
            seed: 1,
            secrets: Box::new(move || {
                last += 1;
                born << 64 | last
            }),
            wanted: Wanted { connections: true, ..Wanted::default() },
        });
        #[cfg(feature = "planted")]
        let lane = {
            let mut lane = lane;
            self.planted.into_iter().for_each(|planted| lane.plant(planted));
            lane
        };
        Node {
            id: NodeId(self.born),
            lane,
            to_hub: VecDeque::new(),
            to_lane: VecDeque::new(),
            hears: BTreeSet::new(),
            draining: false,
            alternation: Alternation::default(),
            turns: Turns::default(),
        }
    }

    fn fail(&mut self, what: String) {
        self.failure.get_or_insert(what);
    }

    fn lane(&mut self, at: usize, act: impl FnOnce(&mut Lane, Now, &mut Vec<Effect>)) {
        let mut out = Vec::new();
        act(&mut self.nodes[at].lane, self.now, &mut out);
        while self.nodes[at].lane.serve(usize::MAX, &mut out) {}
        let id = self.nodes[at].id;
        while !out.is_empty() {
            for effect in std::mem::take(&mut out) {
                let to = match &effect {
                    Effect::Send { to, .. }
                    | Effect::Await { to, .. }
                    | Effect::Ping { to, .. }
                    | Effect::Close { to, .. }
                    | Effect::Silent { to, .. }
                    | Effect::Drop { to, .. }
                    | Effect::Ready { to } => *to,
                    Effect::Hub(_)
                    | Effect::Request(_)
                    | Effect::Permit { .. }
                    | Effect::Happened { .. }
                    | Effect::Answer(..) => u32::MAX,
                };
                let all = self.clients.iter_mut().flat_map(|client| &mut client.connections);
                // The last one opened at this index is meant.
                let found = all.filter(|it| it.node == id && it.key.index == to);
                let found = found.max_by_key(|it| it.key.generation);
                match (effect, found) {
                    (Effect::Hub(message), _) => self.nodes[at].to_hub.push_back(message),
                    (Effect::Happened { happening, .. }, _) => self.nodes[at].happened(*happening),
                    (Effect::Send { frame, .. }, Some(connection)) => {
                        connection.wire.extend(texts(&frame).into_iter().map(Wire::Frame));
                    }
                    (Effect::Await { .. }, Some(connection)) => {
                        let (key, lane) = (connection.key, &mut self.nodes[at].lane);
                        let space = Space { bytes: 1 << 20, empty: true };
                        lane.relieved(self.now, key, space, &mut out);
                    }
                    (Effect::Ping { number, .. }, Some(connection)) => {
                        connection.wire.push_back(Wire::Ping(number));
                    }
                    (Effect::Close { close, .. } | Effect::Drop { close, .. }, Some(it)) => {
                        it.wire.push_back(Wire::Close(close.row().code));
                    }
                    (Effect::Silent { .. }, Some(it)) => it.wire.push_back(Wire::Close(1011)),
                    (Effect::Ready { .. }, Some(connection)) => {
                        let key = connection.key;
                        let lane = &mut self.nodes[at].lane;
                        for command in lane.take_early(key) {
                            lane.command(self.now, key, command, &mut out);
                        }
                    }
                    (
                        Effect::Send { .. }
                        | Effect::Await { .. }
                        | Effect::Ping { .. }
                        | Effect::Close { .. }
                        | Effect::Silent { .. }
                        | Effect::Drop { .. }
                        | Effect::Ready { .. }
                        | Effect::Request(_)
                        | Effect::Permit { .. }
                        | Effect::Answer(..),
                        _,
                    ) => {}
                }
            }
        }
        walk(&self.nodes[at].lane);
    }

    fn place(&self, node: NodeId) -> Option<usize> {
        self.nodes.iter().position(|it| it.id == node)
    }

    /// Moves one message from a lane.
    fn take_from_lane(&mut self, at: usize) -> bool {
        let Some(message) = self.nodes[at].to_hub.pop_front() else { return false };
        let id = self.nodes[at].id;
        match message {
            HubMessage::Join { room, .. } => {
                let offset = self.logs[room.as_str()].len() as u64;
                self.nodes[at].hears.insert(room.to_string());
                let position = Some(Position { epoch: Epoch(1), offset });
                let joined = LaneMessage::Joined { room, position, live: true };
                self.nodes[at].to_lane.push_back(joined);
            }
            HubMessage::Leave { room, .. } => {
                self.nodes[at].hears.remove(room.as_str());
            }
            HubMessage::Read { reader, room, span } => {
                let Reader::Lane { query, .. } = reader else { panic!("a lane asks") };
                let log = &self.logs[room.as_str()];
                let position = Position { epoch: Epoch(1), offset: log.len() as u64 };
                let from = usize::try_from(span.from).unwrap().min(log.len());
                let entries = log[from..].iter().take(3).cloned().map(Kept::Publication).collect();
                let page = Page { head: Head { position, first: 1 }, entries, whole: false };
                self.nodes[at].to_lane.push_back(LaneMessage::Page { query, page: Some(page) });
            }
            HubMessage::Save { session, save, .. } => {
                let outcome = self.save(id, *save);
                let saved =
                    session.map(|session| LaneMessage::Saved { session, outcome: Some(outcome) });
                self.nodes[at].to_lane.extend(saved);
            }
            HubMessage::Attach { session, user, wish, secret, .. } => {
                let outcome = self.attach(id, &user, wish, secret);
                let attached = LaneMessage::Attached { session, outcome: outcome.map(Box::new) };
                self.nodes[at].to_lane.push_back(attached);
            }
            HubMessage::Fence { session, generation, moved, .. } => {
                for node in &mut self.nodes {
                    node.to_lane.push_back(LaneMessage::Fence { session, generation, moved });
                }
            }
            HubMessage::Late(_) => self.nodes[at].to_lane.push_back(LaneMessage::Hold(false)),
            other @ (HubMessage::Order { .. }
            | HubMessage::CarriedOut { .. }
            | HubMessage::Survey { .. }
            | HubMessage::Surveyed { .. }
            | HubMessage::Publish { .. }
            | HubMessage::Presence { .. }
            | HubMessage::Person(_)
            | HubMessage::Roster { .. }
            | HubMessage::SetMember { .. }
            | HubMessage::AskRoster { .. }
            | HubMessage::Inbox { .. }
            | HubMessage::Arrived { .. }
            | HubMessage::Mark { .. }
            | HubMessage::Receipts { .. }
            | HubMessage::AskReceipts { .. }
            | HubMessage::Converse(_)
            | HubMessage::Reached { .. }
            | HubMessage::Ack { .. }) => panic!("{other:?}"),
        }
        true
    }

    fn save(&mut self, node: NodeId, save: SaveSession) -> SavedSession {
        let held = self.records.get(&save.session);
        if held.is_some_and(|held| held.generation > save.generation) {
            return SavedSession::Fenced;
        }
        let held = self.records.remove(&save.session);
        if save.state == SessionState::Ended {
            return SavedSession::Saved;
        }
        let (previous, turn, record) =
            held.map_or((None, None, None), |held| (held.previous, held.turn, Some(held.record)));
        let kept = Kept1 {
            user: save.user,
            generation: save.generation,
            state: save.state,
            node,
            secret: save.secret,
            previous: previous.filter(|_| !save.confirmed),
            turn: save.turn.or(turn),
            record: save.record.or(record).unwrap_or_default(),
        };
        self.records.insert(save.session, kept);
        SavedSession::Saved
    }

    fn attach(
        &mut self,
        node: NodeId,
        user: &str,
        wish: Wish,
        secret: Secret,
    ) -> Result<AttachedSession, Unattached> {
        let alive: BTreeSet<NodeId> = self.nodes.iter().map(|node| node.id).collect();
        let has_none = |kept: &Kept1| {
            &*kept.user == user
                && (kept.state == SessionState::Detached || !alive.contains(&kept.node))
        };
        let session = match wish {
            Wish::Token(token) => token.session,
            Wish::OnlyDetached => {
                let mut found = self.records.iter().filter(|(_, kept)| has_none(kept));
                match (found.next(), found.next()) {
                    (Some((session, _)), None) => *session,
                    _ => return Err(Unattached::NotOne),
                }
            }
        };
        let kept = self.records.get_mut(&session).ok_or(Unattached::Unknown)?;
        let (mut former, mut presented) = (Former::Gone, None);
        if kept.state == SessionState::Attached {
            former = Former::Attached(kept.node);
        }
        if let Wish::Token(token) = wish {
            presented = Some(token.secret);
            if kept.turn == presented {
                former = Former::HandedOver(kept.node);
            } else if kept.secret != token.secret && kept.previous != presented {
                return Err(Unattached::Token);
            }
        } else {
            former = Former::Gone;
        }
        kept.generation += 1;
        kept.previous = presented;
        kept.turn = None;
        kept.secret = secret;
        kept.state = SessionState::Attached;
        kept.node = node;
        let (generation, record) = (kept.generation, kept.record.clone());
        Ok(AttachedSession { session, generation, record, former })
    }

    fn publish(&mut self, room: &str) {
        let log = self.logs.get_mut(room).unwrap();
        let at = log.len() + 1;
        let publication = Arc::new(publication(room, &format!("x pos={at}"), self.now));
        log.push(Arc::clone(&publication));
        for node in self.nodes.iter_mut().filter(|node| node.hears.contains(room)) {
            let publication = Arc::clone(&publication);
            node.to_lane.push_back(LaneMessage::Publication { publication, published_us: 0 });
        }
    }

    /// A client opens a connection, with the token at hand or that of its turn.
    fn connect(&mut self, number: usize, at: usize, turn: Option<ResumeToken>) {
        if self.nodes[at].draining {
            return;
        }
        let client = &self.clients[number];
        let resume = turn.or(client.token);
        let covered = client.covered.iter();
        let covered = covered.map(|(room, at)| (room.as_str().into(), position(&at.to_string())));
        let covers = client.kind == Kind::Covers;
        let continuation = (client.kind != Kind::Stock).then(|| {
            Box::new(Continuation {
                resume,
                covered: if covers { covered.collect() } else { Vec::new() },
                device: None,
                hands_over: covers,
            })
        });
        self.opened += 1;
        let id = SessionId(self.opened);
        let format = Format { dialect: &STOCK, encoding: Encoding::Json };
        let user = format!("u{number}");
        let node = self.nodes[at].id;
        let lane = &mut self.nodes[at].lane;
        let key = lane.open(self.now, id, format, Opening::Silent, &mut Vec::new());
        let (wire, at_none) = (VecDeque::new(), BTreeMap::new());
        let connection = Connection { node, key, wire, ready: false, at: at_none };
        self.clients[number].connections.push(connection);
        self.lane(at, |lane, now, out| {
            let mut token = command(&format!("token {user}"));
            if let Command::Authenticate(request) = &mut token {
                request.continuation = continuation;
            }
            lane.command(now, key, token, out);
        });
    }

    /// The client's newest connection breaks; its lane learns of it, or does not.
    fn break_connection(&mut self, number: usize, told: bool) {
        let Some(connection) = self.clients[number].connections.pop() else { return };
        if told && let Some(at) = self.place(connection.node) {
            self.lane(at, |lane, now, out| lane.closed(now, connection.key, false, out));
        }
    }

    /// The client takes what came first over one of its connections.
    fn receive(&mut self, number: usize, which: usize) -> bool {
        let client = &mut self.clients[number];
        let Some(connection) = client.connections.get_mut(which) else { return false };
        let (node, key) = (connection.node, connection.key);
        match connection.wire.pop_front() {
            None => return false,
            Some(Wire::Ping(ping)) => {
                if let Some(at) = self.place(node) {
                    self.lane(at, |lane, now, out| lane.ponged(now, key, ping, out));
                }
            }
            Some(Wire::Close(code)) => {
                self.moved += usize::from(code == 4202);
                client.connections.remove(which);
            }
            Some(Wire::Frame(text)) => self.read(number, which, &text),
        }
        true
    }

    fn read(&mut self, number: usize, which: usize, text: &str) {
        let words: Vec<_> = text.split(' ').collect();
        let client = &mut self.clients[number];
        let stock = client.kind == Kind::Stock;
        let connection = &mut client.connections[which];
        match words[..] {
            ["welcome", _, session, "token", token, ..] => {
                connection.ready = true;
                let session = u128::from_str_radix(session, 16).unwrap();
                let (_, secret) = token.split_once('.').unwrap();
                let secret = Secret(secret.parse().unwrap());
                client.token = Some(ResumeToken { session: SessionId(session), secret });
                if client.session.replace(session) == Some(session) {
                    self.resumed += 1;
                } else {
                    // A new session: it is in no room.
                    client.covered.clear();
                    connection.at.clear();
                }
            }
            ["joined", room, "at", at, ref rest @ ..] => {
                let at: u64 = at.parse().unwrap();
                let held = client.covered.get(room).copied();
                connection.at.insert(room.into(), at);
                if rest == ["unavailable"] {
                    self.told += 1;
                    client.covered.insert(room.into(), at);
                } else if let Some(held) = held
                    && at > held
                {
                    let what =
                        format!("{number} has {held} of {room} and goes on at {at} {rest:?}");
                    return self.fail(what);
                }
                client.covered.entry(room.into()).or_insert(at);
            }
            ["gap", room, "at", at, "unavailable"] => {
                let at = at.parse().unwrap();
                self.told += 1;
                connection.at.insert(room.into(), at);
                client.covered.insert(room.into(), at);
            }
            ["left", _] | ["pong", ..] => {}
            ["drain", _, "with", token] => {
                let (session, secret) = token.split_once('.').unwrap();
                let session = SessionId(u128::from_str_radix(session, 16).unwrap());
                let token = ResumeToken { session, secret: Secret(secret.parse().unwrap()) };
                let elsewhere = self.nodes.iter().position(|node| !node.draining);
                if let Some(at) = elsewhere
                    && which + 1 == self.clients[number].connections.len()
                {
                    self.clients[number].token = Some(token);
                    self.connect(number, at, Some(token));
                }
            }
            [room, _, offset] => {
                let offset: u64 = offset.trim_start_matches('@').parse().unwrap();
                let last = connection.at.insert(room.into(), offset);
                if last != Some(offset - 1) {
                    let what = format!("{number} was given {offset} of {room} behind {last:?}");
                    return self.fail(what);
                }
                let covered = client.covered.entry(room.into()).or_insert(offset);
                *covered = (*covered).max(offset);
            }
            ["refused", ..] if stock => panic!("{text}"),
            _ => panic!("{text}"),
        }
    }

    fn say(&mut self, number: usize, text: &str) {
        let Some(connection) = self.clients[number].connections.last() else { return };
        let (key, ready) = (connection.key, connection.ready);
        if let Some(at) = self.place(connection.node).filter(|_| ready) {
            let command = command(text);
            self.lane(at, |lane, now, out| lane.command(now, key, command, out));
        }
    }

    fn pass(&mut self, ms: u64) {
        let at_ms = self.now.mono_ms + ms;
        self.now = Now { mono_ms: at_ms, unix_ms: at_ms };
        for at in 0..self.nodes.len() {
            self.lane(at, |lane, now, out| lane.tick(now, out));
            if self.nodes[at].draining && self.nodes[at].lane.is_drained() {
                while self.take_from_lane(at) {}
                self.came += self.nodes[at].turns.all_over();
                self.replace(at);
            }
        }
    }

    /// Another node takes the place of one that ended.
    fn replace(&mut self, at: usize) {
        let born = self.born();
        let gone = std::mem::replace(&mut self.nodes[at], born).id;
        for client in &mut self.clients {
            // What was written before the end still comes.
            client.connections.retain(|it| it.node != gone || !it.wire.is_empty());
        }
    }

    fn random_step(&mut self, random: &mut Random) {
        let number = random.below(CLIENTS);
        let at = random.below(NODES);
        match random.below(40) {
            0..8 => {
                self.take_from_lane(at);
            }
            8..16 => {
                if let Some(message) = self.nodes[at].to_lane.pop_front() {
                    self.lane(at, |lane, now, out| lane.message(now, message, out));
                }
            }
            16..26 => {
                let count = self.clients[number].connections.len();
                self.receive(number, if count > 1 { random.below(count) } else { 0 });
            }
            26..30 => self.publish(random.pick(&ROOMS)),
            30 | 31 => {
                let ms = random.below(400) as u64;
                self.pass(ms);
            }
            32 if self.clients[number].connections.is_empty() => self.connect(number, at, None),
            33 => {
                let room = random.pick(&ROOMS);
                let client = &self.clients[number];
                if client.connections.len() == 1 && !client.covered.contains_key(room) {
                    self.say(number, &format!("joins {room}"));
                }
            }
            34 => self.say(number, "pings"),
            35 if random.chance(3) => {
                let told = random.chance(2) || self.clients[number].kind == Kind::Stock;
                self.break_connection(number, told);
            }
            36 if random.chance(12) && !self.nodes.iter().any(|node| node.draining) => {
                self.nodes[at].draining = true;
                let plan = DrainPlan { window_ms: 500, limit_ms: 1_000, turn_ms: 3_000 };
                self.nodes[at].to_lane.push_back(LaneMessage::Drain(plan));
            }
            37 if random.chance(12) => {
                let gone = self.nodes[at].id;
                for client in &mut self.clients {
                    client.connections.retain(|it| it.node != gone);
                }
                self.replace(at);
            }
            _ => {}
        }
    }

    /// All that can move moves, and everybody is connected.
    fn settle(&mut self) {
        for round in 0..60 {
            if round == 30 {
                self.join_again();
            }
            for number in 0..CLIENTS {
                if self.clients[number].connections.is_empty() {
                    let at = self.nodes.iter().position(|node| !node.draining);
                    at.into_iter().for_each(|at| self.connect(number, at, None));
                }
            }
            let mut moved = true;
            while moved {
                moved = false;
                for at in 0..NODES {
                    moved |= self.take_from_lane(at);
                    if let Some(message) = self.nodes[at].to_lane.pop_front() {
                        self.lane(at, |lane, now, out| lane.message(now, message, out));
                        moved = true;
                    }
                }
                for number in 0..CLIENTS {
                    for which in 0..self.clients[number].connections.len() {
                        moved |= self.receive(number, which);
                    }
                }
                if self.failure.is_some() {
                    return;
                }
            }
            self.pass(250);
        }
    }

    /// A node that was killed may not have written the joins of its last second; clients that can join again do.
    fn join_again(&mut self) {
        for number in 0..CLIENTS {
            let client = &self.clients[number];
            let Some(connection) = client.connections.last() else { continue };
            let lost = client.covered.iter().filter(|(room, _)| !connection.at.contains_key(*room));
            let joins: Vec<_> = lost.map(|(room, at)| format!("joins {room} since={at}")).collect();
            if client.kind != Kind::Stock {
                joins.iter().for_each(|join| self.say(number, join));
            }
        }
    }

    fn judge(&mut self) {
        for number in 0..CLIENTS {
            let client = &self.clients[number];
            let live = client.connections.len();
            let covered = client.covered.clone();
            if live != 1 {
                self.fail(format!("{number} has {live} connections in the end"));
            }
            for (room, at) in covered {
                let head = self.logs[&room].len() as u64;
                if at != head {
                    self.fail(format!("{number} has {at} of {head} in {room} in the end"));
                }
            }
        }
    }
}

fn run(seed: u64, mut cluster: Cluster) -> Cluster {
    let mut random = Random(seed);
    for _ in 0..1_200 {
        cluster.random_step(&mut random);
        if cluster.failure.is_some() {
            return cluster;
        }
    }
    cluster.settle();
    cluster.judge();
    cluster
}

#[test]
fn whoever_keeps_its_session_misses_nothing_and_has_one_connection_in_the_end() {
    let (mut resumed, mut moved, mut told, mut came) = (0, 0, 0, 0);
    for seed in 0..300 {
        let cluster = run(seed, Cluster::new());
        assert_eq!(cluster.failure, None, "seed {seed}");
        resumed += cluster.resumed;
        moved += cluster.moved;
        told += cluster.told;
        came += cluster.came;
    }
    assert!(resumed > 1_000 && moved > 50 && told < 30, "{resumed}, {moved}, {told}");
    assert!(came > 50, "{came}");
}

#[cfg(feature = "planted")]
#[test]
fn a_position_from_writes_is_found() {
    let planted = || {
        let mut cluster = Cluster::new();
        cluster.planted = Some(crate::planted::Planted::PositionFromWrites);
        cluster.begin();
        cluster
    };
    assert!((0..200).any(|seed| run(seed, planted()).failure.is_some()));
}
