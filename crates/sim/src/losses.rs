//! What clients are told to have lost in their inboxes (G16): exactly what the broker answered, before anything else; no
//! cursor counts more as told than its device heard; and where no server lost anything, whatever a device never heard and
//! nobody keeps is counted.

use std::collections::{BTreeMap, BTreeSet};

use roomcast_protocol::inbox::{CursorName, InboxState};
use roomcast_protocol::position::Epoch;
use roomcast_protocol::room::RoomName;
use roomcast_store::{At, Keys};

use crate::inboxes::{KINDS, cursor_of, keep, key_of, policy, user_of};
use crate::rules::{ROOMS, name_of, own_room};
use crate::world::{CLIENTS, World};

/// What is known of a cursor.
#[derive(Clone, Copy, Debug)]
struct Seen {
    /// What its device need not have heard: where it began.
    begun: u64,
    /// Of how many lost ones its device heard.
    known: u64,
}

/// What a node was answered.
#[derive(Clone, Copy, Debug)]
struct Answered {
    at_ms: u64,
    cursor: u64,
    lost: u64,
    untold: u64,
}

/// What brokers answered, and what came of it.
#[derive(Debug, Default)]
pub(crate) struct Losses {
    /// By their numbers.
    cursors: BTreeMap<u64, Seen>,
    /// By the node that asked.
    answers: BTreeMap<(usize, CursorName), Vec<Answered>>,
}

impl World {
    /// A server answers a node what stands for a device.
    pub(crate) fn book_inbox(&mut self, node: usize, name: &CursorName, state: &InboxState) {
        let (cursor, untold) = (state.told.cursor, state.untold());
        self.see_cursor(state);
        let answered = Answered { at_ms: self.now_ms, cursor, lost: state.lost, untold };
        self.book.losses.answers.entry((node, name.clone())).or_default().push(answered);
    }

    fn see_cursor(&mut self, state: &InboxState) {
        let seen = Seen { begun: state.acked.watermark.offset, known: state.told.count };
        self.book.losses.cursors.entry(state.told.cursor).or_insert(seen);
    }

    /// A cursor was moved: it takes its device to know no more than that heard.
    pub(crate) fn check_told(&mut self, name: &CursorName, state: &InboxState) {
        self.see_cursor(state);
        let known = self.book.losses.cursors.get(&state.told.cursor).map_or(0, |it| it.known);
        if state.told.count > known {
            let (told, about) = (state.told, [name.room.to_string()]);
            self.book.violate("G16", &about, || {
                format!(
                    "{name:?} takes {} lost ones as told, its device heard of {known}",
                    told.count
                )
            });
        }
    }

    /// What its node was answered for a client on its connection.
    fn answers_of(&self, client: usize, socket: usize) -> Vec<Answered> {
        let it = &self.sockets[socket];
        let name = cursor_of(client).map(|name| (it.node, name));
        let all = name.and_then(|name| self.book.losses.answers.get(&name));
        let opened_ms = it.opened_ms.unwrap_or(u64::MAX);
        all.into_iter().flatten().filter(|answer| answer.at_ms >= opened_ms).copied().collect()
    }

    /// A client is in its inbox: whether it has to be told next that something is lost.
    pub(crate) fn owes_lost(&self, client: usize) -> bool {
        let Some(socket) = self.clients[client].socket else { return false };
        // What a server answered may not have come, or too late: then its lane has let somebody in without.
        let it = &self.sockets[socket];
        let node = &self.nodes[it.node];
        let unknown = node.lanes[it.lane].lane.counters().inboxes_unknown;
        if node.life != it.life || unknown != it.unknown_before {
            return false;
        }
        let answers = self.answers_of(client, socket);
        !answers.is_empty() && answers.iter().all(|answer| answer.untold > 0)
    }

    /// A client hears that so many are lost.
    pub(crate) fn hears_lost(&mut self, client: usize, socket: usize, count: u64) {
        let answers = self.answers_of(client, socket);
        let fits: Vec<_> = answers.iter().filter(|answer| answer.untold == count).collect();
        if fits.is_empty() {
            let about = [format!("c{client}"), name_of(own_room(client))];
            return self.book.violate("G16", &about, || {
                format!(
                    "c{client} is told that {count} are lost, its node was answered {answers:?}"
                )
            });
        }
        for answer in fits {
            if let Some(seen) = self.book.losses.cursors.get_mut(&answer.cursor) {
                seen.known = seen.known.max(answer.lost);
            }
        }
    }

    /// What stands for a client in its inbox. Changes nothing.
    pub(crate) fn inbox_state(&self, client: usize) -> Option<InboxState> {
        let (name, keep) = (cursor_of(client)?, keep(user_of(client))?);
        let server = &self.bus.servers[self.bus.masters[self.bus.shard_of(&name.room)]];
        let at = At { now_ms: server.time_ms(self.now_ms), fresh: Epoch(u128::MAX) };
        server.data.clone().store(&name.room).inbox(at, &name, &keep)
    }

    /// Up to where its cursor began: that it need not have heard.
    pub(crate) fn begun(&self, state: &InboxState) -> u64 {
        // One that nobody has asked for yet begins where it stands.
        let seen = self.book.losses.cursors.get(&state.told.cursor);
        seen.map_or(state.acked.watermark.offset, |seen| seen.begun)
    }

    /// Where no server lost anything: what a device never heard, and nobody keeps or took the place of, is lost.
    pub(crate) fn check_losses(
        &mut self,
        client: usize,
        state: &InboxState,
        heard: &BTreeSet<usize>,
        kept: &BTreeSet<usize>,
    ) {
        if !self.book.has_lost_nothing() || self.book.losses_blurred.contains(&own_room(client)) {
            return;
        }
        let (room, begun) = (own_room(client), self.begun(state));
        let range = (room, Epoch(0), 0)..=(room, Epoch(u128::MAX), u64::MAX);
        let places: Vec<_> = self.book.places.range(range).map(|(at, it)| (at.2, *it)).collect();
        let collapses = policy(user_of(client)).collapses;
        let is_replaced = |offset: u64, number: usize| {
            let key = key_of(number).filter(|_| collapses);
            key.is_some()
                && places.iter().any(|(later, other)| *later > offset && key_of(*other) == key)
        };
        let gone: Vec<_> = places.iter().filter(|(_, number)| !kept.contains(number)).collect();
        let unheard = gone.iter().filter(|(offset, number)| {
            *offset > begun && !heard.contains(number) && !is_replaced(*offset, *number)
        });
        let unheard: Vec<_> = unheard.map(|(_, number)| *number).collect();
        self.stats.losses_checked += unheard.len() as u64;
        let (lost, gone) = (state.lost, gone.len() as u64);
        if unheard.len() as u64 > lost || lost > gone {
            let about = [format!("c{client}"), name_of(room)];
            self.book.violate("G16", &about, || {
                format!(
                    "c{client} never heard {unheard:?}; of {gone} that went {lost} count as lost"
                )
            });
        }
    }

    /// The cursors of an inbox are lost, and nothing else.
    pub(crate) fn lose_cursors(&mut self, server: usize) {
        let user = self.random.index(CLIENTS / KINDS) * KINDS + self.random.pick(&[1, 2, 5]);
        let room = RoomName::parse(&name_of(ROOMS.len() + user)).expect("the rules name rooms");
        self.trace.line(self.now_ms, || format!("server {server} loses the cursors of {room}"));
        self.bus.servers[server].data.store(&room).lose(&room, Keys::Cursors);
        self.book.losses_blurred.insert(ROOMS.len() + user);
    }
}
