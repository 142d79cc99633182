//! How clients get their sessions back, and what they may then expect (G13, G14): most bring a resume token and what they
//! have covered; stock clients bring nothing and never subscribe again; some go elsewhere while the old connection still
//! delivers; liars bring other people's tokens.

use std::collections::{BTreeMap, BTreeSet};

use roomcast_protocol::command::Continuation;
use roomcast_protocol::ids::SessionId;
use roomcast_protocol::position::Position;
use roomcast_protocol::session::ResumeToken;

use crate::bus::home_of;
use crate::inboxes::is_phone;
use crate::rules::{ROOMS, name_of, rule};
use crate::wire::{Data, Wire};
use crate::world::{Event, World};

/// How long after a session was taken over its former connection may go on, where nothing is wrong. Units: milliseconds.
const FENCED_MS: u64 = 3_000;

/// How long a client waits for the rooms of a session that it got back, before it joins them itself. Units: milliseconds.
const RESTORED_MS: u64 = 6_000;

/// How a client comes back.
#[derive(Debug)]
pub(crate) struct Comeback {
    /// It brings nothing, and never subscribes again.
    pub(crate) stock: bool,
    /// It goes elsewhere when it is told to.
    hands_over: bool,
    /// What its newest welcome gave it, and the one before.
    token: Option<ResumeToken>,
    older: Option<ResumeToken>,
    /// What became of its wish on this connection.
    resumed: Option<bool>,
    /// It brought a token of its own.
    asked: bool,
    /// Rooms that it gets back with the session that it had last: it was in them when it lost its connection.
    pub(crate) owed: BTreeSet<usize>,
    /// When its sessions began, as far as it was told.
    began_ms: BTreeMap<SessionId, u64>,
    /// The connection that the session was on before.
    former: Option<usize>,
}

impl Comeback {
    pub(crate) fn new(number: usize) -> Self {
        Self {
            stock: number % 3 == 1 && !is_phone(number),
            hands_over: number.is_multiple_of(2),
            token: None,
            older: None,
            resumed: None,
            asked: false,
            owed: BTreeSet::new(),
            began_ms: BTreeMap::new(),
            former: None,
        }
    }
}

impl World {
    /// What the client says beside its token when it connects.
    pub(crate) fn continuation(&mut self, client: usize) -> Option<Box<Continuation>> {
        let it = &mut self.clients[client];
        (it.comeback.resumed, it.comeback.asked) = (None, false);
        if it.comeback.stock {
            return None;
        }
        let mut resume = it.comeback.token;
        it.comeback.asked = resume.is_some();
        if it.hostile {
            let other = self.random.index(self.clients.len());
            resume = match self.random.below(4) {
                0 => self.clients[other].comeback.token,
                1 => self.clients[client].comeback.older,
                _ => resume,
            };
            self.clients[client].comeback.asked = false;
        }
        let it = &self.clients[client];
        let kept = it.positions.iter();
        let kept = kept.filter(|(room, _)| **room < ROOMS.len() && rule(**room).keep.is_some());
        let covered = kept.map(|(room, at)| (name_of(*room).into(), *at)).collect();
        let hands_over = it.comeback.hands_over;
        let device = is_phone(client).then(|| "phone".into());
        Some(Box::new(Continuation { resume, covered, device, hands_over }))
    }

    /// A server loses the record of a session, which may have a connection.
    pub(crate) fn forget_session(&mut self) {
        let it = &self.clients[self.random.index(self.clients.len())];
        let Some(token) = it.comeback.token else { return };
        let user = it.user.clone();
        let home = home_of(&user);
        let server = self.bus.masters[self.bus.shard_of(&home)];
        self.trace.line(self.now_ms, || format!("server {server} loses {}", token.session));
        self.bus.servers[server].data.store(&home).lose_session(&user, token.session);
        self.forget_fence(server, token.session.0);
        *self.stats.faults.entry("session lost").or_default() += 1;
    }

    /// A welcome says how the session comes back, and whether it did.
    pub(crate) fn greeted(&mut self, client: usize, wire: &Wire<'_>) {
        let token = wire.resume_token.as_deref().and_then(ResumeToken::parse);
        let about = [format!("c{client}")];
        let it = &mut self.clients[client].comeback;
        if token.is_none() {
            let text = format!("c{client} is welcome, and is not told how to come back");
            return self.book.violate("G13", &about, || text);
        }
        if it.asked && wire.resumed.is_none() {
            let text =
                format!("c{client} wanted its session back, and is not told what became of it");
            return self.book.violate("G13", &about, || text);
        }
        it.older = std::mem::replace(&mut it.token, token);
        if it.older.map(|it| it.session) != token.map(|it| it.session) {
            it.owed.clear();
        }
        it.resumed = wire.resumed;
        let began_ms = token
            .map(|it| it.session)
            .map(|session| *it.began_ms.entry(session).or_insert(self.now_ms));
        match wire.resumed {
            Some(true) => {
                self.stats.resumed += 1;
                if let Some(former) = it.former.take() {
                    let at = self.now_ms + FENCED_MS;
                    self.at(at, Event::Fenced { socket: former, since_ms: self.now_ms });
                }
            }
            Some(false) => self.stats.unresumed += 1,
            None => {}
        }
        if let Some(began_ms) = began_ms {
            self.check_resumed(client, began_ms);
        }
    }

    /// The rooms that the client joins by itself once it is welcome.
    pub(crate) fn rooms_to_join(&mut self, client: usize) -> Vec<usize> {
        let it = &self.clients[client];
        let wanted = it.wanted.iter().copied();
        if it.comeback.resumed != Some(true) {
            return wanted.collect();
        }
        if it.comeback.stock {
            return Vec::new();
        }
        let (owed, rest): (Vec<_>, Vec<_>) =
            wanted.partition(|it| self.clients[client].comeback.owed.contains(it));
        for room in owed {
            // What was not written in time does not come by itself.
            self.at(self.now_ms + RESTORED_MS, Event::Restored { client, room });
        }
        rest
    }

    /// A room of a session that came back should have come with it; else the client joins it.
    pub(crate) fn restored(&mut self, client: usize, room: usize) {
        let it = &self.clients[client];
        if it.ready && it.wanted.contains(&room) && !it.stays.contains_key(&room) {
            self.stats.unrestored += 1;
            self.join(client, room);
        }
    }

    /// G13: whoever comes back may hear something twice, but misses nothing untold.
    pub(crate) fn check_comeback(
        &mut self,
        client: usize,
        room: usize,
        position: Option<Position>,
        data: &Data<'_>,
    ) {
        let it = &self.clients[client];
        if it.comeback.resumed != Some(true)
            || room >= ROOMS.len()
            || it.hostile
            || !it.comeback.owed.contains(&room)
        {
            return;
        }
        self.stats.restored += 1;
        let (Some(at), Some(known)) = (position, it.positions.get(&room).copied()) else { return };
        let told = data.recovered == Some(false) || data.live == Some(false);
        // Of another epoch it goes on where it was safe, with all that this has behind it.
        let other = at.epoch != known.epoch && data.recovered.is_none();
        let hole = other || at.epoch == known.epoch && at.offset > known.offset;
        if hole && !told {
            let about = [format!("c{client}"), name_of(room)];
            let stock = it.comeback.stock;
            self.book.violate("G13/I3", &about, || {
                format!(
                    "c{client} (stock: {stock}) had covered {known:?} of {}, comes back, goes on behind {at:?} and is not told",
                    name_of(room)
                )
            });
        }
    }

    /// The node stops: the client goes elsewhere, and listens to its old connection no more.
    pub(crate) fn told_to_go(&mut self, client: usize, data: &Data<'_>) {
        let token = data.resume_token.as_deref().and_then(ResumeToken::parse);
        let Some(socket) = self.clients[client].socket else { return };
        let it = &mut self.clients[client].comeback;
        if token.is_none() || !it.hands_over || it.stock {
            let about = [format!("c{client}")];
            return self.book.violate("G14", &about, || {
                format!("c{client} has a turn that it cannot take, or no token for it")
            });
        }
        (it.token, it.former) = (token, Some(socket));
        self.stats.turns += 1;
        self.end_connection(client, socket);
        self.clients[client].home = None;
        let in_ms = self.random.range(1, 300);
        self.at(self.now_ms + in_ms, Event::Connect { client });
    }

    /// A connection got a Close frame.
    pub(crate) fn client_closed(&mut self, socket: usize, code: u16) {
        let client = self.sockets[socket].client;
        match code {
            4_202 => self.stats.moved += 1,
            4_100 => self.stats.replaced += 1,
            1_012 => self.stats.drained += 1,
            _ => {}
        }
        if self.sockets[socket].talker().is_some() {
            return self.talker_lost(socket, true);
        }
        if self.clients[client].socket != Some(socket) {
            return self.drop_client_side(socket, true);
        }
        if code == 4_100 {
            // Somebody else has the session: it is not asked for again.
            self.clients[client].comeback.token = None;
        }
        self.client_lost(socket, Some(code));
    }

    /// G13, G14: the connection of a session that was taken over ends, where nothing stood in the way.
    pub(crate) fn check_fenced(&mut self, socket: usize, since_ms: u64) {
        let it = &self.sockets[socket];
        let client = it.client;
        let trouble = self.nodes.iter().any(|node| node.troubled_ms + 2_000 >= since_ms);
        let ends = !it.server_open || it.is_ending();
        if ends || trouble || !self.is_alive(socket) || self.nodes[it.node].draining {
            return;
        }
        let about = [format!("c{client}")];
        self.book.violate("G13/G14", &about, || {
            format!("a former connection of c{client}'s session is open {FENCED_MS} ms after it came back")
        });
    }
}
