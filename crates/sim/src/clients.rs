//! What clients do: they connect, join, leave, publish, read slowly, vanish and come back with what they have covered.
//! Some of them lie.

use std::collections::{BTreeMap, BTreeSet};

use roomcast_protocol::position::{Epoch, Position};
use roomcast_router::messages::HubMessage;
use roomcast_router::orders::{Order, Revocation, Tokens, Whom};

use crate::check::recovery::Since;
use crate::check::stay::Stay;
use crate::comebacks::Comeback;
use crate::inboxes::{Inbox, is_phone, user_of};
use crate::node::lane::Inbound;
use crate::node::socket::{Said, Socket};
use crate::node::{LANES, core::Asked, core::FromLane};
use crate::people::View;
use crate::random::Random;
use crate::receipts::Marks;
use crate::rules::{PERMISSIONS, ROOMS, is_for, name_of, own_room, rule, token};
use crate::wire;
use crate::world::{Event, HEAL_MS, NODES, World};

/// How long a client waits for an ack before it publishes again. Units: milliseconds.
const ACK_MS: u64 = 12_000;

/// After how much silence a client asks whether anybody is there, and after how much it goes. Units: milliseconds.
const SILENT_MS: (u64, u64) = (3_000, 7_000);

/// How long a client uses a token until it has the next one. Units: milliseconds.
const TOKEN_MS: u64 = 2_000;

/// How often a publication is tried.
const TRIES_MAX: u32 = 8;

/// What a client asked and has no answer to.
#[derive(Clone, Debug)]
pub(crate) enum Request {
    Join { since: Option<Since> },
    Leave { room: usize },
    History,
    Refresh,
    Presence,
    Foreign,
}

/// A publication that has not been acked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pending {
    pub(crate) tried_ms: u64,
    pub(crate) tries: u32,
}

/// One client, with what it knows.
pub(crate) struct Client {
    pub(crate) user: String,
    pub(crate) permissions: BTreeSet<&'static str>,
    pub(crate) hostile: bool,
    pub(crate) slow: bool,
    pub(crate) socket: Option<usize>,
    pub(crate) ready: bool,
    /// Where it was connected last.
    pub(crate) home: Option<usize>,
    /// How it comes back.
    pub(crate) comeback: Comeback,
    /// The node told that the broker is away.
    pub(crate) isolated: bool,
    pub(crate) wanted: BTreeSet<usize>,
    pub(crate) requests: BTreeMap<u64, Request>,
    pub(crate) asked: u64,
    /// What it has covered, by room; kept when the connection is lost.
    pub(crate) positions: BTreeMap<usize, Position>,
    pub(crate) pending: BTreeMap<usize, Pending>,
    pub(crate) stays: BTreeMap<usize, Stay>,
    /// When it lacked the permission that publications may require last.
    pub(crate) lacked_ms: u64,
    /// The refresh that ended it is not answered yet: the node may not have taken it.
    pub(crate) lacks_until_answer: bool,
    /// When it became ready, or was last cut off.
    pub(crate) since_ms: u64,
    /// Who is in its rooms, as far as it knows.
    pub(crate) views: BTreeMap<usize, View>,
    /// It does not connect until then.
    pub(crate) away_until_ms: u64,
    /// What it has of its own room.
    pub(crate) inbox: Inbox,
    /// What it knows of receipts, and what is known of it.
    pub(crate) marks: Marks,
}

impl Client {
    pub(crate) fn new(number: usize, random: &mut Random) -> Self {
        let mut permissions = BTreeSet::new();
        for permission in PERMISSIONS {
            if random.chance(2) {
                permissions.insert(permission);
            }
        }
        let mut wanted = BTreeSet::new();
        for (room, rule) in ROOMS.iter().enumerate() {
            let allowed = rule.needs.is_none_or(|it| permissions.contains(it));
            if allowed && is_for(room, number) && !is_phone(number) && random.chance(2) {
                wanted.insert(room);
            }
        }
        Self {
            user: format!("u{}", user_of(number)),
            permissions,
            hostile: number >= 27 && !is_phone(number),
            slow: number % 9 == 4,
            socket: None,
            ready: false,
            home: None,
            comeback: Comeback::new(number),
            isolated: false,
            wanted,
            requests: BTreeMap::new(),
            asked: 0,
            positions: BTreeMap::new(),
            pending: BTreeMap::new(),
            stays: BTreeMap::new(),
            lacked_ms: 0,
            lacks_until_answer: false,
            since_ms: 0,
            views: BTreeMap::new(),
            away_until_ms: 0,
            inbox: Inbox::default(),
            marks: Marks::default(),
        }
    }

    pub(crate) fn token(&self, now_ms: u64) -> String {
        let permissions: Vec<_> = self.permissions.iter().copied().collect();
        token(&self.user, &permissions, now_ms - now_ms % TOKEN_MS)
    }

    pub(crate) fn holds(&self, permission: &str) -> bool {
        self.permissions.contains(permission)
    }
}

impl World {
    /// A client opens a connection to some node that runs.
    pub(crate) fn connect(&mut self, client: usize) {
        if self.clients[client].socket.is_some() || self.leaving {
            return;
        }
        let away_until_ms = self.clients[client].away_until_ms;
        if away_until_ms > self.now_ms {
            return self.at(away_until_ms, Event::Connect { client });
        }
        let home = self.clients[client].home.filter(|_| self.random.chance(2));
        let node = home.unwrap_or_else(|| self.random.index(NODES));
        if !self.nodes[node].up || self.nodes[node].draining {
            self.clients[client].home = None;
            let in_ms = self.random.range(50, 300);
            return self.at(self.now_ms + in_ms, Event::Connect { client });
        }
        let lane = self.random.index(LANES);
        let token = self.clients[client].token(self.now_ms);
        let now_ms = self.now_ms;
        let mut socket = Socket::new(client, (node, self.nodes[node].life, lane), token);
        socket.continuation = self.continuation(client);
        socket.heard_ms = now_ms;
        if self.clients[client].slow {
            socket.pace = (2_048, 30);
        }
        self.stats.connections += 1;
        let number = self.sockets.len();
        self.sockets.push(socket);
        let it = &mut self.clients[client];
        (it.socket, it.ready, it.isolated) = (Some(number), false, false);
        it.home = Some(node);
        it.requests.clear();
        self.trace.line(self.now_ms, || format!("c{client} connects to node {node}/{lane}"));
        self.inbound((node, lane), Inbound::Open(number));
    }

    /// The connection is gone, as the client sees it.
    pub(crate) fn client_lost(&mut self, socket: usize, code: Option<u16>) {
        if self.sockets[socket].talker().is_some() {
            return self.talker_lost(socket, true);
        }
        let client = self.sockets[socket].client;
        self.trace.line(self.now_ms, || format!("c{client} lost its connection ({code:?})"));
        self.drop_client_side(socket, true);
        self.end_connection(client, socket);
        let in_ms = match code {
            Some(4_101) => 4_000,
            _ => self.random.range(10, 900),
        };
        self.at(self.now_ms + in_ms, Event::Connect { client });
    }

    pub(crate) fn end_connection(&mut self, client: usize, socket: usize) {
        if self.clients[client].socket != Some(socket) {
            return;
        }
        self.note_covered(client);
        // Where the broker was away nothing was known of a position.
        let stays = self.clients[client].stays.iter();
        let known = stays.filter(|(room, stay)| rule(**room).keep.is_none() || stay.at.is_some());
        // Nor is it of one that it wants to leave, and may have left.
        let requests = &self.clients[client].requests;
        let leaves = |it: usize| {
            requests.values().any(|of| matches!(of, Request::Leave { room } if *room == it))
        };
        let owed = known.map(|(room, _)| *room).filter(|room| !leaves(*room)).collect();
        self.end_stays(client);
        let now_ms = self.now_ms;
        let it = &mut self.clients[client];
        it.comeback.owed = owed;
        (it.socket, it.ready, it.since_ms) = (None, false, now_ms);
        it.requests.clear();
    }

    /// The client goes without a word; `told`: its system tells the node.
    fn vanish(&mut self, client: usize, told: bool) {
        let Some(socket) = self.clients[client].socket else { return };
        self.trace.line(self.now_ms, || format!("c{client} vanishes"));
        self.drop_client_side(socket, told);
        self.end_connection(client, socket);
        // Often just when the node gives up its rooms.
        let soon = self.random.chance(2);
        let max_ms = if is_phone(client) { 12_000 } else { 3_000 };
        let in_ms = if soon { self.random.range(90, 140) } else { self.random.range(10, max_ms) };
        self.at(self.now_ms + in_ms, Event::Connect { client });
    }

    /// The session is welcome: the client goes back to where it was.
    pub(crate) fn welcomed(&mut self, client: usize) {
        let (now_ms, executed) = (self.now_ms, self.bus.executed);
        let it = &mut self.clients[client];
        (it.ready, it.since_ms) = (true, now_ms);
        // It was put into its own room with its welcome.
        let told_ms = it.isolated.then_some(u64::MAX);
        let stay = Stay { told_ms, ..Stay::new(now_ms, executed, None, true) };
        if rule(own_room(client)).keep.is_none() {
            it.stays.insert(own_room(client), stay);
        }
        if self.random.chance(4) && now_ms < HEAL_MS {
            // A back-end greets who has come.
            let in_ms = self.random.below(60);
            self.at(now_ms + in_ms, Event::Greet { client });
        }
        for room in self.rooms_to_join(client) {
            self.join(client, room);
        }
        let pending: Vec<_> = self.clients[client].pending.keys().copied().collect();
        for number in pending {
            self.publish_again(client, number);
        }
    }

    pub(crate) fn request(&mut self, client: usize, request: Request) -> u64 {
        let it = &mut self.clients[client];
        it.asked += 1;
        let number = it.asked;
        it.requests.insert(number, request);
        number
    }

    pub(crate) fn say(&mut self, client: usize, text: String) {
        if let Some(socket) = self.clients[client].socket {
            self.client_sends(socket, Said::Text(text.into_boxed_str()));
        }
    }

    pub(crate) fn join(&mut self, client: usize, room: usize) {
        let it = &self.clients[client];
        let mut since = it.positions.get(&room).copied();
        if it.stays.contains_key(&room) {
            since = None;
        }
        if it.hostile && self.random.chance(2) {
            since = Some(self.lie(room, since));
        }
        self.stats.since += u64::from(since.is_some());
        let asked = since.map(|since| self.asks_since(client, room, since));
        let request = Request::Join { since: asked };
        let number = self.request(client, request);
        self.say(client, wire::subscribe(number, &name_of(room), since));
    }

    /// A position that nobody was told.
    fn lie(&mut self, room: usize, known: Option<Position>) -> Position {
        let forged = Position { epoch: Epoch(self.random.u128()), offset: self.random.below(300) };
        let honest = known.or_else(|| self.book.newest(room)).unwrap_or(forged);
        match self.random.below(4) {
            0 => forged,
            1 => honest.at(honest.offset + self.random.range(1, 50)),
            2 => honest.at(roomcast_protocol::position::OFFSET_MAX),
            _ => honest.at(honest.offset / 2),
        }
    }

    fn leave(&mut self, client: usize, room: usize) {
        let number = self.request(client, Request::Leave { room });
        self.say(client, wire::unsubscribe(number, &name_of(room)));
    }

    /// A client does something of its own accord.
    pub(crate) fn client_acts(&mut self, client: usize) {
        if self.leaving {
            return;
        }
        let in_ms = self.random.range(100, 900);
        self.at(self.now_ms + in_ms, Event::Act { client });
        if !self.clients[client].holds("r") {
            self.clients[client].lacked_ms = self.now_ms;
        }
        self.keep_alive(client);
        self.publish_late_again(client);
        self.ask_views_again(client);
        if !self.clients[client].ready || self.now_ms >= HEAL_MS {
            return;
        }
        self.read_something(client);
        let room = self.random.index(ROOMS.len());
        let allowed = is_for(room, client)
            && !self.stays_out(client, room)
            && rule(room).needs.is_none_or(|it| self.clients[client].permissions.contains(it));
        let turn = self.random.below(40);
        match turn {
            // A second device comes and goes, and is in no other room.
            _ if is_phone(client) && !(18..=25).contains(&turn) => {}
            0..=9 if allowed || self.clients[client].hostile => {
                if allowed {
                    self.clients[client].wanted.insert(room);
                }
                self.join(client, room);
            }
            10..=13 if self.clients[client].wanted.remove(&room) => self.leave(client, room),
            14..=17 => self.ask_history(client, room),
            18 => self.refresh(client),
            19 => self.vanish(client, true),
            20 if self.random.chance(3) => self.vanish(client, false),
            21..=24 if self.clients[client].hostile => self.be_hostile(client, room),
            25 if self.random.chance(6) => self.kick(client),
            26..=33 if client.is_multiple_of(4) => self.flap(client),
            34..=39 if client == 0 && self.hurried => self.flap(client),
            _ => {}
        }
    }

    /// Whether a rare room that tells of its members is left to the first client.
    fn stays_out(&self, client: usize, room: usize) -> bool {
        self.hurried && client > 0 && rule(room).name == "rare"
    }

    /// Leaves a rare room and comes back just when the node gives it up; somebody publishes meanwhile.
    fn flap(&mut self, client: usize) {
        let rare =
            (0..ROOMS.len()).find(|room| is_for(*room, client) && !is_for(*room, client + 1));
        let Some(room) = rare.filter(|room| !self.stays_out(client, *room)) else { return };
        self.clients[client].wanted.insert(room);
        self.leave(client, room);
        // So long that both are told where that is to be seen.
        let (least_ms, most_ms) = if self.hurried { (300, 1_500) } else { (95, 140) };
        let in_ms = self.random.range(least_ms, most_ms);
        self.at(self.now_ms + in_ms, Event::Rejoin { client, room });
        for _ in 0..3 {
            let later_ms = in_ms + self.random.below(200);
            self.at(self.now_ms + later_ms, Event::PublishIn { room });
        }
    }

    /// Joins a room that was left a moment ago.
    pub(crate) fn rejoin(&mut self, client: usize, room: usize) {
        if self.clients[client].ready {
            self.join(client, room);
        }
    }

    /// A connection that brings nothing for long is half-open.
    fn keep_alive(&mut self, client: usize) {
        let Some(socket) = self.clients[client].socket else { return };
        let it = &self.sockets[socket];
        let silent_ms = self.now_ms.saturating_sub(it.heard_ms.max(it.paused_until_ms));
        if silent_ms > SILENT_MS.1 {
            self.vanish(client, false);
        } else if silent_ms > SILENT_MS.0 {
            self.say(client, "{\"type\":\"ping\"}".to_owned());
        }
    }

    fn ask_history(&mut self, client: usize, room: usize) {
        let number = self.request(client, Request::History);
        let (forward, from) = (self.random.chance(2), self.random.below(100));
        let from = self.random.chance(2).then_some(from);
        self.say(client, wire::history(number, &name_of(room), forward, from));
    }

    /// Brings another token, perhaps with fewer permissions; what it no longer opens is given up.
    fn refresh(&mut self, client: usize) {
        let permission = self.random.pick(&PERMISSIONS);
        let now_ms = self.now_ms;
        let it = &mut self.clients[client];
        if !it.holds("r") {
            it.lacked_ms = now_ms;
            it.lacks_until_answer = true;
        }
        if !it.permissions.remove(permission) {
            it.permissions.insert(permission);
        }
        let permissions = it.permissions.clone();
        it.wanted
            .retain(|room| rule(*room).needs.is_none_or(|needed| permissions.contains(needed)));
        let token = it.token(self.now_ms);
        let number = self.request(client, Request::Refresh);
        self.say(client, wire::refresh(number, &token));
    }

    fn be_hostile(&mut self, client: usize, room: usize) {
        match self.random.below(4) {
            0 => {
                let number = self.request(client, Request::Foreign);
                self.say(client, wire::subscribe(number, "user-u1", None));
            }
            1 => {
                for _ in 0..30 {
                    self.join(client, room);
                    self.leave(client, room);
                    self.clients[client].wanted.remove(&room);
                }
            }
            2 => self.say(client, "{\"type\":\"subscribe\",\"data\":{\"room\":7}}".to_owned()),
            _ => self.say(client, "[[[[".to_owned()),
        }
    }

    /// An operator ends all sessions of a client's user, through some node.
    fn kick(&mut self, client: usize) {
        let node = self.random.index(NODES);
        if !self.nodes[node].up {
            return;
        }
        self.stats.kicks += 1;
        let user: Box<str> = self.clients[client].user.as_str().into();
        let asked_ms = self.now_ms;
        // Or its tokens are revoked.
        let before_ms = self.random.chance(3).then_some(asked_ms);
        let query = self.ask_core(node, Asked::Disconnect { client, asked_ms, before_ms });
        let order = before_ms.map_or_else(
            || Order::End(Whom::User(user.clone())),
            |before_unix_ms| {
                let tokens = Tokens::Of { user: user.clone(), before_unix_ms };
                Order::Revoke(Revocation { tokens, until_unix_ms: u64::MAX })
            },
        );
        let timeout_ms = 1_000 + self.random.below(4_000);
        let message = HubMessage::Order { query, order, timeout_ms };
        self.tell_core_from_lane(node, 128, FromLane::Hub(message));
        // Often it has gone before its node hears of it, and wants its session back.
        if self.random.chance(2) {
            self.vanish(client, true);
        }
    }

    /// A question of the run's own.
    pub(crate) fn ask_core(
        &mut self,
        node: usize,
        asked: Asked,
    ) -> roomcast_router::messages::QueryId {
        self.book.queries += 1;
        let id = self.book.queries;
        self.nodes[node].core.queries.insert(id, asked);
        roomcast_router::messages::QueryId(id)
    }

    /// Some client publishes something.
    pub(crate) fn publish_something(&mut self) {
        let client = self.random.index(self.clients.len());
        if self.random.chance(6) {
            // Now and then more at once than the inbox keeps.
            let count = if self.random.chance(8) { 8 } else { 1 };
            return (0..count).for_each(|_| self.push(own_room(client)));
        }
        let room = self.random.index(ROOMS.len());
        self.publish_in(client, room);
    }

    /// A client publishes in a room, if it may.
    pub(crate) fn publish_in(&mut self, client: usize, room: usize) {
        let it = &self.clients[client];
        let allowed = rule(room).needs.is_none_or(|needed| it.permissions.contains(needed));
        if !it.ready || !allowed {
            return;
        }
        let made = crate::check::Made {
            room,
            acks: !self.random.chance(4),
            requires: self.random.chance(10),
            ttl_s: self.random.chance(12).then(|| self.random.range(1, 3) as u32),
            bytes: self.random.pick(&[0, 0, 100, 700, 3_000]),
        };
        self.stats.publications += 1;
        let number = self.book.make(self.now_ms, made);
        if self.book.pubs[number].made.acks {
            let pending = Pending { tried_ms: self.now_ms, tries: 0 };
            self.clients[client].pending.insert(number, pending);
        }
        self.publish_again(client, number);
    }

    pub(crate) fn publish_again(&mut self, client: usize, number: usize) {
        let now_ms = self.now_ms;
        if let Some(pending) = self.clients[client].pending.get_mut(&number) {
            pending.tries += 1;
            pending.tried_ms = now_ms;
            if pending.tries > TRIES_MAX {
                self.clients[client].pending.remove(&number);
                return;
            }
        }
        let it = &self.clients[client];
        let room = self.book.pubs[number].made.room;
        if !rule(room).needs.is_none_or(|needed| it.permissions.contains(needed)) {
            self.clients[client].pending.remove(&number);
            return;
        }
        self.book.pubs[number].attempts += 1;
        let text = self.book.text_of(number);
        self.say(client, text);
    }

    /// Publications that were not acked for long are tried again.
    fn publish_late_again(&mut self, client: usize) {
        if !self.clients[client].ready {
            return;
        }
        let now_ms = self.now_ms;
        let late = self.clients[client].pending.iter();
        let late = late.filter(|(_, it)| now_ms >= it.tried_ms + ACK_MS).map(|(number, _)| *number);
        for number in late.collect::<Vec<_>>() {
            self.publish_again(client, number);
        }
    }

    /// All clients go, and nobody comes back.
    pub(crate) fn leave_all(&mut self) {
        self.leaving = true;
        for socket in 0..self.sockets.len() {
            let it = &self.sockets[socket];
            // Those that vanished silently are found by their silence.
            if it.client_open && !it.silent {
                let client = it.client;
                self.drop_client_side(socket, true);
                if self.sockets[socket].talker().is_none() {
                    self.end_connection(client, socket);
                }
            }
        }
    }
}
