//! What a client hears, one message after the other: G1 (one order), G2 (a position names one payload), G3 (offsets are
//! covered without a hole, skips count right and have their reasons), G10 (isolated deliveries are marked), G11 (the
//! reply to a join comes before the first push), G12 (recovered exactly if nothing is missing).

use roomcast_protocol::position::{Epoch, Position};

use super::recovery::Since;
use super::short;
use super::stay::Stay;
use crate::clients::Request;
use crate::rules::{ROOMS, name_of, own_room, room_index, rule};
use crate::wire::{Data, Wire, number_of};
use crate::world::World;

/// How long after a client had not held a permission it may be told of what that kept from it. Units: milliseconds.
const LACKED_MS: u64 = 10_000;

impl World {
    fn complain(&mut self, property: &'static str, about: &[String], text: String) {
        self.book.violate(property, about, || text);
    }

    /// A client reads a message of its node's.
    pub(crate) fn client_hears(&mut self, socket: usize, text: &str) {
        if let Some(talker) = self.sockets[socket].talker() {
            return self.talker_hears(talker, text);
        }
        let client = self.sockets[socket].client;
        if self.clients[client].socket != Some(socket) {
            self.heard_before_leaving(client, socket, text);
            return self.note_former(client, text);
        }
        self.note_covered(client);
        self.trace.see(text.len() as u64);
        self.trace.line(self.now_ms, || {
            let text = text.replace("xxxxxxxxxx", "");
            format!("c{client} <- {text}")
        });
        let about = [format!("c{client}")];
        let wire = match Wire::read(text) {
            Ok(wire) => wire,
            Err(cause) => return self.complain("wire", &about, cause),
        };
        if wire.room.is_some() {
            return self.pushed(client, &wire);
        }
        let data = match wire.data() {
            Ok(data) => data,
            Err(cause) => return self.complain("wire", &about, cause),
        };
        match &*wire.kind {
            "lost" => self.told_lost(client, socket, &wire),
            "presence" => self.told_presence(client, &wire),
            "receipt" => self.told_receipts(client, &wire),
            "welcome" => {
                self.greeted(client, &wire);
                self.welcomed(client);
            }
            "drain" => self.told_to_go(client, &data),
            "subscribed" => self.joined(client, &wire, &data),
            "unsubscribed" => self.left(client, &wire, &data),
            "ack" => self.acked(client, &wire, &data),
            "error" => self.refused(client, &wire, &data),
            "gap" => self.told_gap(client, &wire, &data),
            "skip" => self.skipped(client, &wire, &data),
            "degraded" => self.degraded(client, data.isolated == Some(true)),
            "history" => self.told_history(client, &wire, &data),
            "refresh" => {
                self.answered(client, &wire);
                let now_ms = self.now_ms;
                let it = &mut self.clients[client];
                if std::mem::take(&mut it.lacks_until_answer) {
                    it.lacked_ms = now_ms;
                }
            }
            "pong" | "token_expiring" => {}
            other => self.complain("wire", &about, format!("an unknown message {other}")),
        }
    }

    fn answered(&mut self, client: usize, wire: &Wire<'_>) -> Option<Request> {
        let id = wire.metadata.correlation_id.as_deref()?;
        let number = id.strip_prefix('r')?.parse().ok()?;
        self.clients[client].requests.remove(&number)
    }

    fn ask_still(&mut self, client: usize, wire: &Wire<'_>, request: Request) {
        let id = wire.metadata.correlation_id.as_deref().unwrap_or_default();
        if let Some(number) = id.strip_prefix('r').and_then(|id| id.parse().ok()) {
            self.clients[client].requests.insert(number, request);
        }
    }

    fn joined(&mut self, client: usize, wire: &Wire<'_>, data: &Data<'_>) {
        let name = data.room.as_deref().unwrap_or_default();
        let foreign = |room: &usize| *room >= ROOMS.len() && *room != own_room(client);
        let Some(room) = room_index(name).filter(|room| !foreign(room)) else {
            let about = [format!("c{client}")];
            return self.complain("I5", &about, format!("c{client} joined {name}"));
        };
        let position = wire.position();
        let live = data.live != Some(false);
        let asked = self.answered(client, wire);
        if let (false, Some(request)) = (live, &asked) {
            // The position follows in another answer to the same request.
            self.ask_still(client, wire, request.clone());
        }
        let about = [format!("c{client}"), name.to_owned()];
        if rule(room).keep.is_some() != position.is_some() && live {
            let text = format!("c{client} joined {name} with {position:?}");
            return self.complain("G11", &about, text);
        }
        let resumed = matches!(&asked, Some(Request::Join { since: Some(_), .. }));
        if let Some(Request::Join { since: Some(since) }) = asked {
            self.check_recovered(client, room, &since, (position, data));
        }
        let it = &mut self.clients[client];
        if let Some(stay) = it.stays.get_mut(&room) {
            // A repeated join, or the position that follows; it moves nothing that is known.
            let follows = !stay.live && live || stay.at.is_none() && position.is_some();
            stay.live |= live;
            if stay.at.is_none() || resumed && position.is_some() {
                stay.at = position;
                it.positions.extend(position.map(|position| (room, position)));
            } else if let (Some(at), Some(position)) = (stay.at, position)
                && at != position
            {
                let text = format!("c{client} covered {at:?} of {name}, and was told {position:?}");
                self.complain("G11", &about, text);
            }
            if follows {
                // Who waits for it is told of nobody.
                self.begin_view(client, room);
            }
            return;
        }
        if wire.metadata.correlation_id.is_none() {
            self.check_comeback(client, room, position, data);
        }
        let mut stay = Stay::new(self.now_ms, self.bus.executed, position, live);
        let it = &mut self.clients[client];
        stay.told_ms = it.isolated.then_some(u64::MAX);
        it.stays.insert(room, stay);
        match position {
            Some(position) => {
                it.positions.insert(room, position);
            }
            None => {
                if rule(room).keep.is_none() {
                    it.positions.remove(&room);
                }
            }
        }
        self.begin_own(client, room, (data.recovered, data.reason.as_deref()));
        self.begin_view(client, room);
    }

    /// G12: recovered says whether all that was missed follows.
    fn check_recovered(
        &mut self,
        client: usize,
        room: usize,
        asked: &Since,
        (position, data): (Option<Position>, &Data<'_>),
    ) {
        let name = name_of(room);
        let about = [format!("c{client}"), name.clone()];
        let since = asked.position;
        match (data.recovered, data.reason.as_deref()) {
            (Some(true), _) => {
                self.stats.recovered += 1;
                self.check_since(client, room, asked, Ok(()));
                if position != Some(since) {
                    let text =
                        format!("c{client} has {since:?} of {name}, recovered from {position:?}");
                    self.complain("G12/I6", &about, text);
                }
            }
            (Some(false), Some("no_history")) if rule(room).keep.is_none() => {}
            (Some(false), Some(reason @ ("epoch" | "too_old" | "ahead" | "unavailable"))) => {
                self.check_since(client, room, asked, Err(reason));
            }
            (None, _) if data.live == Some(false) => {}
            (recovered, reason) => {
                let text = format!(
                    "c{client} asked for {name} since {since:?}: recovered {recovered:?}, {reason:?}"
                );
                self.complain("G12/I6", &about, text);
            }
        }
    }

    fn left(&mut self, client: usize, wire: &Wire<'_>, data: &Data<'_>) {
        self.answered(client, wire);
        if let Some(room) = data.room.as_deref().and_then(room_index) {
            self.end_stay(client, room);
        }
    }

    fn acked(&mut self, client: usize, wire: &Wire<'_>, data: &Data<'_>) {
        let Some(number) = wire.ack_id.as_deref().and_then(number_of) else { return };
        self.clients[client].pending.remove(&number);
        self.stats.acked += 1;
        let level = data.level.as_deref().unwrap_or_default();
        let room = self.book.pubs[number].made.room;
        let about = [format!("p{number}"), format!("c{client}")];
        if level == "isolated" {
            self.stats.isolated += 1;
            if rule(room).keep.is_some() {
                let text = format!("p{number} of a room with history was accepted in isolation");
                self.complain("G10", &about, text);
            }
            return;
        }
        let it = &mut self.book.pubs[number];
        it.acked = true;
        if it.executed.is_empty() {
            let text = format!("p{number} was acked as {level}, and no server has it");
            return self.complain("G4/I1", &about, text);
        }
        if let Some(at) = wire.position() {
            self.book.place(room, at, number);
        } else if rule(room).keep.is_some() {
            self.complain("G4/I1", &about, format!("p{number} was acked without a position"));
        }
    }

    fn refused(&mut self, client: usize, wire: &Wire<'_>, data: &Data<'_>) {
        let unknown = data.outcome.as_deref() == Some("unknown");
        let id = wire.metadata.correlation_id.as_deref();
        if let Some(number) = id.and_then(number_of) {
            if unknown {
                self.stats.unknown += 1;
            } else {
                self.stats.refused += 1;
                self.book.pubs[number].refused += 1;
            }
            let again = unknown || self.random.chance(2);
            if let Some(pending) = self.clients[client].pending.get_mut(&number) {
                if again {
                    // It is tried again a little later.
                    pending.tried_ms = self.now_ms.saturating_sub(11_500);
                } else {
                    self.clients[client].pending.remove(&number);
                }
            }
            return;
        }
        self.answered(client, wire);
        // Whoever is denied a room is not in it, asked or not.
        if data.code == Some(110)
            && let Some(room) = data.room.as_deref().and_then(room_index)
        {
            self.end_stay(client, room);
        }
    }

    fn told_gap(&mut self, client: usize, wire: &Wire<'_>, data: &Data<'_>) {
        self.stats.gaps += 1;
        let now_ms = self.now_ms;
        let Some(room) = data.room.as_deref().and_then(room_index) else {
            for (room, stay) in &mut self.clients[client].stays {
                if rule(*room).keep.is_none() {
                    stay.told_ms = stay.told_ms.max(Some(now_ms));
                }
            }
            return;
        };
        let about = [format!("c{client}"), name_of(room)];
        let Some(position) = wire.position() else {
            return self.complain("G3/I3", &about, "a gap without a position".to_owned());
        };
        let Some(stay) = self.clients[client].stays.get_mut(&room) else {
            return self.complain("G11", &about, "a gap outside of a stay".to_owned());
        };
        let back =
            stay.at.is_some_and(|at| at.epoch == position.epoch && at.offset > position.offset);
        let before = stay.at.replace(position);
        stay.told_ms = Some(now_ms);
        self.clients[client].positions.insert(room, position);
        if data.reason.as_deref() == Some("unavailable") {
            self.note_unavailable(client, room);
        }
        if back {
            let text =
                format!("c{client} covered {before:?}, and a gap leads back to {position:?}");
            self.complain("G3/I3", &about, text);
        }
    }

    fn skipped(&mut self, client: usize, wire: &Wire<'_>, data: &Data<'_>) {
        self.stats.skips += 1;
        let Some(room) = data.room.as_deref().and_then(room_index) else { return };
        let about = [format!("c{client}"), name_of(room)];
        let (to, count) = (data.to.unwrap_or_default(), data.count.unwrap_or_default());
        let epoch = wire.epoch().unwrap_or(Epoch::NONE);
        let at = self.clients[client].stays.get(&room).and_then(|stay| stay.at);
        let Some(at) = at.filter(|at| at.epoch == epoch && at.offset + count == to && count > 0)
        else {
            let text = format!("c{client} covered {at:?}, and skips {count} to {to} of {epoch}");
            return self.complain("G3/I3", &about, text);
        };
        let reasons = data.reasons.clone().unwrap_or_default();
        for offset in at.offset + 1..=to {
            let Some(number) = self.book.places.get(&(room, epoch, offset)).copied() else {
                continue;
            };
            let made = self.book.pubs[number].made;
            let it = &self.clients[client];
            let lacked = !it.holds("r") || it.lacked_ms + LACKED_MS >= self.now_ms;
            let expired = reasons.iter().any(|it| it == "expired") && made.ttl_s.is_some();
            let filtered = reasons.iter().any(|it| it == "filtered") && made.requires;
            let own = crate::inboxes::may_skip(room, &reasons);
            if !(own || expired || filtered && lacked) {
                let about = [format!("c{client}"), format!("p{number}")];
                let text = format!("c{client} skips p{number} ({offset}) for {reasons:?}");
                return self.complain("G3/I3", &about, text);
            }
        }
        let position = at.at(to);
        if let Some(stay) = self.clients[client].stays.get_mut(&room) {
            stay.at = Some(position);
        }
        self.clients[client].positions.insert(room, position);
    }

    fn degraded(&mut self, client: usize, isolated: bool) {
        let now_ms = self.now_ms;
        let it = &mut self.clients[client];
        it.isolated = isolated;
        for (room, stay) in &mut it.stays {
            if rule(*room).keep.is_none() {
                // Until the end of it, whatever happens elsewhere.
                stay.told_ms = Some(if isolated { u64::MAX } else { now_ms });
            }
        }
    }

    fn told_history(&mut self, client: usize, wire: &Wire<'_>, data: &Data<'_>) {
        self.stats.pages += 1;
        self.answered(client, wire);
        let Some(room) = data.room.as_deref().and_then(room_index) else { return };
        for text in data.publications.iter().flatten() {
            let about = [format!("c{client}"), name_of(room)];
            match Wire::read(text.get()) {
                Ok(it) => {
                    let number = it.id.as_deref().and_then(number_of);
                    if let (Some(number), Some(at)) = (number, it.position()) {
                        self.book.place(room, at, number);
                    }
                }
                Err(cause) => return self.complain("wire", &about, cause),
            }
        }
    }

    fn pushed(&mut self, client: usize, wire: &Wire<'_>) {
        let name = wire.room.as_deref().unwrap_or_default();
        let (Some(room), Some(number)) = (room_index(name), wire.id.as_deref().and_then(number_of))
        else {
            return;
        };
        self.stats.deliveries += 1;
        let about = [format!("c{client}"), format!("p{number}")];
        let it = &self.book.pubs[number];
        if it.made.room != room {
            return self.complain("G1", &about, format!("p{number} came in {name}"));
        }
        if it.executed.is_empty() && !wire.isolated {
            let text = format!("c{client} heard p{number}, which no server has");
            return self.complain("G1", &about, text);
        }
        if it.refused > 0 && it.refused == it.attempts {
            let text = format!("c{client} heard p{number}, which was refused");
            return self.complain("G5/I2", &about, text);
        }
        if !self.clients[client].stays.contains_key(&room) {
            let text = format!("c{client} heard p{number} of {name}, where it is not in");
            return self.complain("G11", &about, text);
        }
        if self.heard_own(client, room, number, wire) {
            return;
        }
        if wire.isolated {
            if rule(room).keep.is_some() {
                let text = format!("p{number} of a room with history came isolated");
                self.complain("G10", &about, text);
            }
            if let Some(stay) = self.clients[client].stays.get_mut(&room) {
                stay.heard.insert(number);
            }
            return;
        }
        if let Some(at) = wire.position() {
            self.book.place(room, at, number);
            self.cover(client, room, at, number);
            self.note_heard(client, room, at);
        } else if rule(room).keep.is_some() {
            return self.complain("G2/I4", &about, format!("p{number} came without a position"));
        }
        self.check_order(client, room, number, wire.position().is_some());
    }

    /// G3: a push without a skip is the offset behind the one that was covered.
    fn cover(&mut self, client: usize, room: usize, at: Position, number: usize) {
        let about = [format!("c{client}"), format!("p{number}"), name_of(room)];
        let it = &mut self.clients[client];
        let Some(stay) = it.stays.get_mut(&room) else { return };
        let next = stay.at.map(Position::next);
        if next == Some(at) {
            stay.at = Some(at);
            it.positions.insert(room, at);
        } else {
            let text = format!(
                "c{client} covered {:?} of {}, then heard p{number} at {}:{}",
                stay.at,
                name_of(room),
                short(at),
                at.offset
            );
            self.complain("G3/I3", &about, text);
        }
    }

    /// G1: all members hear one order, that in which servers carried things out; G5: repeats are carried out again.
    fn check_order(&mut self, client: usize, room: usize, number: usize, placed: bool) {
        let executed = &self.book.pubs[number].executed;
        let Some(stay) = self.clients[client].stays.get_mut(&room) else { return };
        self.stats.duplicates += u64::from(!stay.heard.insert(number));
        if placed {
            return;
        }
        let next = executed.iter().find(|seq| **seq > stay.newest_seq).copied();
        let before = stay.newest_seq;
        match next {
            Some(seq) => {
                stay.newest_seq = seq;
                let server = self.book.executions[room].iter().rev().find(|it| it.seq == seq);
                if let Some(execution) = server.filter(|_| executed.len() == 1) {
                    stay.newest_of.insert(execution.server, seq);
                }
            }
            None => {
                let about = [format!("c{client}"), format!("p{number}")];
                let text = format!(
                    "c{client} heard p{number} ({executed:?}) in {} behind #{before}",
                    name_of(room)
                );
                self.complain("G1", &about, text);
            }
        }
    }
}
