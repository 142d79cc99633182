//! Receipts, as clients know them (G17): clients say what they read, and are told how far others are. Nobody is told to have
//! got more than the client ever covered, or to have read more than it said; a mark said again has its first time; and what
//! was heard for long is marked in the end.

use std::collections::BTreeMap;

use roomcast_protocol::position::{Epoch, Position};
use roomcast_protocol::receipts::{RECEIPTS_PAGE_MAX, Receipt};
use roomcast_protocol::room::RoomName;
use roomcast_store::At;
use serde::Deserialize;

use crate::rules::{ROOMS, name_of, room_index};
use crate::wire::{self, Wire};
use crate::world::World;

/// How long what was heard may be unmarked: until a ping behind it, its answer, a step of the room, which is made again
/// where the broker does not answer. Units: milliseconds.
const MARKED_MS: u64 = 15_000;

/// Rooms that keep receipts.
pub(crate) fn has_receipts(name: &str) -> bool {
    matches!(name, "plain" | "short")
}

fn rooms() -> impl Iterator<Item = usize> {
    (0..ROOMS.len()).filter(|room| has_receipts(ROOMS[*room].name))
}

/// Offset and mark of something that was heard.
#[derive(Clone, Copy, Debug)]
struct Heard {
    at: Position,
    at_ms: u64,
    /// Executions until then.
    seq: u64,
    socket: usize,
}

/// What a client knows of receipts, and what is known of it.
#[derive(Debug, Default)]
pub(crate) struct Marks {
    /// The furthest offset that it ever covered, by room.
    covered: BTreeMap<usize, u64>,
    /// The furthest that it ever said to have read.
    read: BTreeMap<usize, u64>,
    /// What it heard last.
    heard: BTreeMap<usize, Heard>,
    /// What it said and has no answer to, by number.
    said: BTreeMap<u64, (usize, Position)>,
    /// When what was first marked, as it was answered first, and executions until then.
    first: BTreeMap<(usize, Epoch, u64), (String, u64)>,
    numbers: u64,
}

#[derive(Debug, Deserialize)]
struct Data {
    room: String,
    read: Option<Marked>,
    receipts: Option<Vec<One>>,
}

#[derive(Debug, Deserialize)]
struct One {
    user: String,
    delivered: Option<Marked>,
    read: Option<Marked>,
}

#[derive(Debug, Deserialize)]
struct Marked {
    offset: u64,
    at: Option<String>,
}

impl World {
    /// What a client has covered until now, before it hears more or loses its connection.
    pub(crate) fn note_covered(&mut self, client: usize) {
        for room in rooms() {
            let it = &mut self.clients[client];
            let Some(at) = it.stays.get(&room).and_then(|stay| stay.at) else { continue };
            let covered = it.marks.covered.entry(room).or_default();
            *covered = at.offset.max(*covered);
        }
    }

    /// A client hears something over a connection that another one has taken the place of: it has got that as well.
    pub(crate) fn note_former(&mut self, client: usize, text: &str) {
        let Ok(wire) = Wire::read(text) else { return };
        let data = wire.data().unwrap_or_default();
        if wire.room.is_none() && !matches!(&*wire.kind, "subscribed" | "gap" | "skip") {
            return;
        }
        let room = wire.room.as_deref().or(data.room.as_deref()).and_then(room_index);
        let offset = wire.metadata.offset.or(data.to);
        if let (Some(room), Some(offset)) = (room, offset) {
            let covered = self.clients[client].marks.covered.entry(room).or_default();
            *covered = offset.max(*covered);
        }
    }

    /// A client hears a publication.
    pub(crate) fn note_heard(&mut self, client: usize, room: usize, at: Position) {
        if !rooms().any(|held| held == room) {
            return;
        }
        let (at_ms, seq) = (self.now_ms, self.bus.executed);
        let it = &mut self.clients[client];
        let Some(socket) = it.socket else { return };
        it.marks.heard.insert(room, Heard { at, at_ms, seq, socket });
    }

    /// A client says that it has read what it heard last; now and then something older, once more.
    pub(crate) fn read_something(&mut self, client: usize) {
        let turn = self.now_ms / 16 + client as u64;
        let Some(room) = rooms().nth((turn % 2) as usize).filter(|_| turn.is_multiple_of(5)) else {
            return;
        };
        let it = &mut self.clients[client];
        let Some(heard) = it.marks.heard.get(&room).copied() else { return };
        if !it.stays.contains_key(&room) {
            return;
        }
        let offset = if turn.is_multiple_of(3) { heard.at.offset / 2 } else { heard.at.offset };
        let at = heard.at.at(offset.max(1));
        it.marks.numbers += 1;
        let number = it.marks.numbers;
        it.marks.said.insert(number, (room, at));
        let read = it.marks.read.entry(room).or_default();
        *read = at.offset.max(*read);
        self.stats.marks_said += 1;
        self.say(client, wire::read(number, &name_of(room), at));
    }

    /// A client is told how far others are, or what stands for its own mark.
    pub(crate) fn told_receipts(&mut self, client: usize, wire: &Wire<'_>) {
        let about = [format!("c{client}")];
        let data: Data = match wire.read_data() {
            Ok(data) => data,
            Err(cause) => return self.book.violate("wire", &about, || cause),
        };
        let Some(room) = room_index(&data.room) else { return };
        if let Some(id) = wire.metadata.correlation_id.as_deref() {
            let number = id.strip_prefix('m').and_then(|id| id.parse().ok()).unwrap_or(0);
            return self.told_mark(client, number, data.read);
        }
        for one in data.receipts.unwrap_or_default() {
            self.stats.receipts_told += 1;
            let [delivered, read] =
                [&one.delivered, &one.read].map(|it| it.as_ref().map_or(0, |marked| marked.offset));
            self.check_receipt((room, wire.epoch()), &one.user, (delivered, read));
        }
    }

    /// G17: a mark said again has the time of the first one.
    fn told_mark(&mut self, client: usize, number: u64, read: Option<Marked>) {
        let seq = self.bus.executed;
        let Some((room, at)) = self.clients[client].marks.said.remove(&number) else { return };
        let about = [format!("c{client}"), name_of(room)];
        let Some(Marked { offset, at: Some(time) }) = read.filter(|it| it.offset <= at.offset)
        else {
            return self.book.violate("G17", &about, || {
                format!("c{client} said {at:?} of {}, and got no answer that fits", name_of(room))
            });
        };
        let key = (room, at.epoch, offset);
        let first = self.clients[client].marks.first.get(&key).cloned();
        match first {
            Some((first, since)) if first != time && !self.book.data_was_lost(since, seq) => {
                self.book.violate("G17", &about, || {
                    format!("c{client} marked {at:?} of {} at {first}, now {time}", name_of(room))
                });
            }
            _ => drop(self.clients[client].marks.first.insert(key, (time, seq))),
        }
    }

    /// G17: nobody has got what it did not cover, or read what it did not say; what is read is delivered.
    fn check_receipt(
        &mut self,
        (room, epoch): (usize, Option<Epoch>),
        user: &str,
        (delivered, read): (u64, u64),
    ) {
        let number: Option<usize> = user.strip_prefix('u').and_then(|number| number.parse().ok());
        let Some(client) = number.filter(|number| *number < self.clients.len()) else {
            let about = [user.to_owned()];
            return self.book.violate("G17", &about, || format!("{user} got something"));
        };
        self.note_covered(client);
        let it = &self.clients[client];
        let marks = &it.marks;
        let [covered, said] =
            [&marks.covered, &marks.read].map(|it| it.get(&room).copied().unwrap_or(0));
        // Of what is skipped the client is told within a second: it is as good as covered.
        let skipped = |offset| {
            let number = epoch.and_then(|epoch| self.book.places.get(&(room, epoch, offset)));
            let made = number.map(|number| self.book.pubs[*number].made);
            made.is_some_and(|made| made.requires || made.ttl_s.is_some())
        };
        let ahead = (covered + 1..=delivered).any(|offset| !skipped(offset));
        // Who lies about what it has covered lies about itself.
        if (ahead && !it.hostile) || read > said || read > delivered {
            let about = [format!("c{client}"), name_of(room)];
            self.book.violate("G17", &about, || {
                format!(
                    "c{client} covered {covered} of {} and said {said}, and counts as at {delivered} and {read}",
                    name_of(room)
                )
            });
        }
    }

    /// G17, when all has been well for long: what clients heard, and their pings proved, is marked.
    pub(crate) fn check_marks(&mut self) {
        for room in rooms() {
            let name = RoomName::parse(&name_of(room)).expect("the rules name rooms");
            let server = &self.bus.servers[self.bus.masters[self.bus.shard_of(&name)]];
            let at = At { now_ms: server.time_ms(self.now_ms), fresh: Epoch(u128::MAX) };
            let mut store =
                server.data.stores[usize::from(crate::bus::partition_of(&name))].clone();
            let Some(page) = store.receipts(at, &name, None, None, RECEIPTS_PAGE_MAX) else {
                continue;
            };
            for client in 0..self.clients.len() {
                let it = &self.clients[client];
                let Some(heard) = it.marks.heard.get(&room).copied() else { continue };
                let due = heard.at_ms + MARKED_MS < self.now_ms
                    && !it.hostile
                    && it.socket == Some(heard.socket)
                    && it.stays.get(&room).is_some_and(|stay| stay.began_ms <= heard.at_ms)
                    && heard.at.epoch == page.head.epoch
                    && !self.book.data_was_lost(heard.seq, self.bus.executed);
                let own = page.receipts.iter().find(|receipt| *receipt.user == *it.user);
                let delivered = own.and_then(delivered_of).unwrap_or(0);
                if due && delivered < heard.at.offset {
                    let about = [format!("c{client}"), name.to_string()];
                    self.book.violate("G17", &about, || {
                        format!("c{client} heard {heard:?} of {name}, and counts as at {delivered}")
                    });
                }
                self.stats.marks_checked += u64::from(due);
            }
        }
    }
}

fn delivered_of(receipt: &Receipt) -> Option<u64> {
    receipt.delivered.map(|marked| marked.offset)
}
