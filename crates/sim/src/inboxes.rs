//! Own rooms that are inboxes, as clients use them (G15, G16): back-ends want some publications acked; clients ack at once,
//! late, twice or never, and ack what they were never given. Whatever is kept at the end has been heard.

use std::collections::{BTreeMap, BTreeSet};

use roomcast_protocol::guard::Policy;
use roomcast_protocol::inbox::{CursorName, CursorOf};
use roomcast_protocol::position::{Epoch, Keep, Kept, Position, Span};
use roomcast_protocol::room::RoomName;
use roomcast_store::{At, Place};
use serde::Deserialize;

use crate::node::socket::Said;
use crate::people::Turn;
use crate::rules::{ROOMS, name_of, own_room, room_index, rule};
use crate::wire::{Wire, number_of};
use crate::world::{CLIENTS, World};

/// How long a client that acks late, or not at all, may wait for the rest of its inbox. Units: milliseconds.
const GIVEN_MS: u64 = 20_000;

/// How long an inbox may say nothing to a client that has yet to get something: what it does not ack comes again after 5 s.
/// Units: milliseconds.
const QUIET_MS: u64 = 6_000;

/// How often a publication is given again at most. Source: the native dialect.
pub(crate) const TRIES_MAX: u32 = 3;

/// How long after a client sent an ack it may be given the publication again: on its way in, a lane that is stopped, on
/// its way out. Units: milliseconds.
const ACKED_MS: u64 = 7_000;

/// Users who have a second device: a client of its own, behind those of all users, that is in its own room alone.
pub(crate) const PHONES: [usize; 4] = [5, 9, 17, 21];

/// How many rules own rooms have: a user's is that of its number.
pub(crate) const KINDS: usize = 8;

/// What an inbox keeps: little, so that its bound bites; that of some users very little.
pub(crate) const fn keep(user: usize) -> Option<Keep> {
    let is_roomy = matches!(user % KINDS, 0 | 1 | 4);
    let (size, bytes_max, ttl_ms) = (if is_roomy { 20 } else { 4 }, 64 << 10, 600_000);
    let cursor = match user % 4 {
        3 => return None,
        1 => CursorOf::Device,
        _ => CursorOf::User,
    };
    Some(Keep { size, bytes_max, ttl_ms, replicated: false, inbox: Some(cursor) })
}

/// What the rule of an own room says.
pub(crate) fn policy(user: usize) -> Policy {
    let history = keep(user);
    let cursor = history.and_then(|keep| keep.inbox);
    Policy { history, cursor, collapses: user % KINDS >= 4, ..Policy::default() }
}

/// Whose client it is.
pub(crate) const fn user_of(client: usize) -> usize {
    if is_phone(client) { PHONES[client - CLIENTS] } else { client }
}

/// Whether it is a user's second device.
pub(crate) const fn is_phone(client: usize) -> bool {
    client >= CLIENTS
}

/// The cursor of a client in its own room, if that is an inbox.
pub(crate) fn cursor_of(client: usize) -> Option<CursorName> {
    let device = match keep(user_of(client))?.inbox? {
        CursorOf::User => "",
        CursorOf::Device if is_phone(client) => "phone",
        CursorOf::Device => "default",
    };
    let room = RoomName::parse(&name_of(own_room(client))).expect("the rules name rooms");
    Some(CursorName { room, device: device.into() })
}

/// Whether the publication has to be acked by who gets it.
pub(crate) const fn wants_ack(room: usize, number: usize) -> bool {
    room >= ROOMS.len() && number.is_multiple_of(2)
}

/// Whether an inbox that is full lets the publication go first.
pub(crate) fn is_low(room: usize, number: usize) -> bool {
    room >= ROOMS.len() && rule(room).keep.is_some() && number.is_multiple_of(5)
}

/// Under which key it takes the place of an older one, where the room's rule wants that.
pub(crate) const fn key_of(number: usize) -> Option<usize> {
    if number.is_multiple_of(3) { Some(number / 3 % 4) } else { None }
}

/// Whether a skip of the room may have such reasons.
pub(crate) fn may_skip(room: usize, reasons: &[std::borrow::Cow<'_, str>]) -> bool {
    room >= ROOMS.len() && reasons.iter().any(|it| matches!(&**it, "acked" | "removed"))
}

/// What a client has of its own room.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    heard: BTreeSet<usize>,
    /// When it was given something last.
    given_ms: u64,
    /// When it acked what, on this connection.
    acked_ms: BTreeMap<usize, u64>,
    /// How often it was given what again, on this connection.
    again: BTreeMap<usize, u32>,
    socket: Option<usize>,
    /// Up to where it was told that what it lacks is not available: a client that goes on from there says itself that
    /// it has all before it.
    unknown: Vec<Position>,
    /// It has to be told that something is lost before it hears anything of the room.
    owed_lost: bool,
}

/// What stands in `data` of what is told to be lost.
#[derive(Debug, Deserialize)]
struct Lost {
    room: String,
    count: u64,
}

impl World {
    /// A client is in a room: its own one may not know what it has acked, and gives that on the next connect.
    pub(crate) fn begin_own(
        &mut self,
        client: usize,
        room: usize,
        recovered: (Option<bool>, Option<&str>),
    ) {
        let unknown = recovered.0 == Some(false) && recovered.1 != Some("too_old");
        let now_ms = self.now_ms;
        if recovered == (Some(false), Some("unavailable")) {
            self.note_unavailable(client, room);
        }
        if room >= ROOMS.len() {
            let is_answered = recovered.0.is_some() && recovered.1 != Some("unavailable");
            self.clients[client].inbox.owed_lost = is_answered && self.owes_lost(client);
        }
        if let Some(stay) = self.clients[client].stays.get_mut(&room)
            && room >= ROOMS.len()
            && unknown
        {
            stay.told_ms = Some(now_ms);
        }
    }

    /// A client is told that what it lacks up to its position is not available.
    pub(crate) fn note_unavailable(&mut self, client: usize, room: usize) {
        if room >= ROOMS.len() {
            let it = &mut self.clients[client];
            it.inbox.unknown.extend(it.positions.get(&room).copied());
        }
    }

    /// A client gets a publication of its own room; says whether it was given again.
    pub(crate) fn heard_own(
        &mut self,
        client: usize,
        room: usize,
        number: usize,
        wire: &Wire<'_>,
    ) -> bool {
        if room < ROOMS.len() {
            return false;
        }
        let (now_ms, socket) = (self.now_ms, self.clients[client].socket);
        let about = [format!("c{client}"), format!("p{number}")];
        // What a gap hid is given again as well.
        let stays = self.clients[client].stays.get(&room);
        let known =
            rule(room).keep.is_some() || stays.is_some_and(|stay| stay.heard.contains(&number));
        let inbox = &mut self.clients[client].inbox;
        if inbox.socket != socket {
            (inbox.socket, inbox.acked_ms) = (socket, BTreeMap::new());
            inbox.again.clear();
        }
        inbox.heard.insert(number);
        if std::mem::take(&mut inbox.owed_lost) {
            self.book.violate("G16", &about, || {
                format!("c{client} hears p{number} before it is told what its inbox lost")
            });
        }
        let inbox = &mut self.clients[client].inbox;
        let acked_ms = inbox.acked_ms.get(&number).copied();
        if wire.redelivered {
            self.stats.redelivered += 1;
            let tries = inbox.again.entry(number).or_default();
            *tries += 1;
            // What is given on a connect may have been given before.
            let often = *tries > TRIES_MAX + u32::from(rule(room).keep.is_some());
            let late = acked_ms.is_some_and(|at| now_ms > at + ACKED_MS);
            let slow = self.clients[client].slow
                || socket.is_some_and(|it| self.sockets[it].paused_until_ms + 20_000 > now_ms);
            if often || !known || late && !slow {
                let tries = *self.clients[client].inbox.again.get(&number).unwrap_or(&0);
                self.book.violate("G15", &about, || {
                    format!("c{client} is given p{number} again, the {tries}. time, known: {known}, acked at {acked_ms:?}")
                });
            }
        }
        if !wire.redelivered {
            // It may have come before under another position: that one was acked.
            let inbox = &mut self.clients[client].inbox;
            inbox.acked_ms.remove(&number);
            inbox.again.remove(&number);
        }
        if wire.requires_ack {
            self.plan_ack(client, number);
        }
        wire.redelivered
    }

    /// A connection that a client has left still answers pings: what arrived there, its user has got.
    pub(crate) fn heard_before_leaving(&mut self, client: usize, socket: usize, text: &str) {
        let Ok(wire) = Wire::read(text) else { return };
        let room = wire.room.as_deref().and_then(room_index);
        if wire.kind == "lost" {
            return self.told_lost(client, socket, &wire);
        }
        if room == Some(own_room(client)) {
            let now_ms = self.now_ms;
            let inbox = &mut self.clients[client].inbox;
            inbox.given_ms = now_ms;
            inbox.heard.extend(wire.id.as_deref().and_then(number_of));
        }
    }

    fn plan_ack(&mut self, client: usize, number: usize) {
        let Some(socket) = self.clients[client].socket else { return };
        let in_ms = match self.random.below(8) {
            0 | 1 => return,
            2 => self.random.range(500, 9_000),
            _ => self.random.below(400),
        };
        let at = self.now_ms + in_ms;
        self.at(at, crate::world::Event::People(Turn::Ack { socket, number }));
        if self.random.chance(6) {
            self.at(at + 50, crate::world::Event::People(Turn::Ack { socket, number }));
        }
        if self.random.chance(10) {
            let other = self.random.index(self.book.pubs.len());
            let text = format!("{{\"type\":\"ack\",\"ackId\":\"x{other}\"}}");
            self.client_sends(socket, Said::Text(text.into_boxed_str()));
        }
    }

    /// A client acks what it got, if it still has that connection.
    pub(crate) fn send_ack(&mut self, socket: usize, number: usize) {
        let client = self.sockets[socket].client;
        if self.clients[client].socket != Some(socket) || !self.clients[client].ready {
            return;
        }
        self.stats.acks_sent += 1;
        let now_ms = self.now_ms;
        if !self.sockets[socket].silent {
            self.clients[client].inbox.acked_ms.entry(number).or_insert(now_ms);
        }
        let text = format!("{{\"type\":\"ack\",\"ackId\":\"p{number}\"}}");
        self.client_sends(socket, Said::Text(text.into_boxed_str()));
    }

    /// A client is told that something is lost to it.
    pub(crate) fn told_lost(&mut self, client: usize, socket: usize, wire: &Wire<'_>) {
        let about = [format!("c{client}")];
        match wire.read_data::<Lost>() {
            Ok(lost) if lost.count > 0 && lost.room == name_of(own_room(client)) => {
                self.stats.lost_told += lost.count;
                self.clients[client].inbox.owed_lost = false;
                self.hears_lost(client, socket, lost.count);
            }
            Ok(lost) => self.book.violate("G16/I9", &about, || format!("c{client}: {lost:?}")),
            Err(cause) => self.book.violate("wire", &about, || cause),
        }
    }

    /// G16: what an inbox keeps at the end its user has heard.
    pub(crate) fn check_inboxes(&mut self) {
        for client in 0..self.clients.len() {
            let room = own_room(client);
            let Some(keep) = rule(room).keep else { continue };
            let Some(state) = self.inbox_state(client) else { continue };
            let begun = self.begun(&state);
            // What a gap hides is given on the next connect.
            let stay = self.clients[client].stays.get(&room);
            let now_ms = self.now_ms;
            if stay.is_none_or(|it| it.told_ms.is_some() || it.began_ms + GIVEN_MS > now_ms) {
                continue;
            }
            if self.clients[client].inbox.given_ms + QUIET_MS > now_ms {
                continue;
            }
            // A device whose cursor a server lost begins where its user's furthest one is.
            let devices = PHONES.contains(&user_of(client));
            if devices && !self.book.has_lost_nothing() {
                continue;
            }
            let name = RoomName::parse(&name_of(room)).expect("the rules name rooms");
            let server = &self.bus.servers[self.bus.masters[self.bus.shard_of(&name)]];
            let at = At { now_ms: server.time_ms(self.now_ms), fresh: Epoch(u128::MAX) };
            let found = server.data.clone().store(&name).read(&name, &keep, at, &Span::above(0));
            let entries = found.map_or_else(Vec::new, |found| found.entries);
            let numbers = entries.iter().filter_map(|place| match place {
                Place::Entry(entry) => publication_of(&entry.payload),
                Place::Removed(_) => None,
            });
            let numbers: BTreeSet<_> = numbers.collect();
            let Inbox { heard, unknown, .. } = &self.clients[client].inbox;
            let (heard, is_informed) = (heard.clone(), unknown.is_empty());
            let is_unknown = |at: Position| {
                at.offset <= begun
                    || unknown.iter().any(|it| it.epoch == at.epoch && at.offset <= it.offset)
            };
            let missed = entries.into_iter().find_map(|place| match place {
                Place::Entry(entry) if is_unknown(entry.position) => None,
                Place::Entry(entry) => {
                    publication_of(&entry.payload).filter(|it| !heard.contains(it))
                }
                Place::Removed(_) => None,
            });
            let count = numbers.len();
            if count > keep.size as usize {
                let about = [name.to_string()];
                self.book.violate("I9", &about, || format!("{name} keeps {count}"));
            }
            if let Some(number) = missed {
                let about = [format!("c{client}"), format!("p{number}"), name.to_string()];
                self.book.violate("G16", &about, || {
                    format!("c{client} never got p{number}, which {name} keeps")
                });
            }
            if is_informed {
                self.check_losses(client, &state, &heard, &numbers);
            }
        }
    }
}

fn publication_of(kept: &Kept) -> Option<usize> {
    match kept {
        Kept::Publication(it) => number_of(&it.id),
        Kept::Unreadable(_) | Kept::Removed(_) => None,
    }
}
