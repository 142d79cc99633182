//! G22: a user whose sessions were ordered to end hears nothing a second later, on any node whose beat is fresh; a lane
//! that was stopped obeys before it delivers.

use roomcast_protocol::ids::NodeId;
use roomcast_protocol::position::{Epoch, Position, Span};
use roomcast_protocol::publication::Publication;
use roomcast_protocol::room::RoomName;
use roomcast_router::hub::{CONTROL, CONTROL_KEEP, Ordered};
use roomcast_store::At;

use super::Kick;
use crate::node::id_of;
use crate::world::World;

/// How long an order may take. Units: milliseconds. Source: G22, with the longest delays of a run.
const ORDER_MS: u64 = 1_300;

/// How long a node may need after trouble until orders have come again. Units: milliseconds.
const AGAIN_MS: u64 = 12_000;

/// How long after a failover an old master may take what is lost with it. Units: milliseconds.
const LOST_MS: u64 = 8_000;

impl World {
    /// When the order at this position was carried out, if the master of the majority has it.
    pub(crate) fn ordered_ms(&self, position: Position) -> Option<u64> {
        let room = RoomName::system(CONTROL).expect("the hub names it");
        let server = &self.bus.servers[self.bus.masters[self.bus.shard_of(&room)]];
        let at = At { now_ms: server.time_ms(self.now_ms), fresh: Epoch(u128::MAX) };
        let span = Span { count_max: 1, ..Span::above(position.offset - 1) };
        let found = server.data.clone().store(&room).read(&room, &CONTROL_KEEP, at, &span);
        let entries = found.map_or_else(Vec::new, |found| found.entries);
        entries.first().filter(|entry| entry.position() == position)?;
        self.book.orders.get(&(position.epoch, position.offset)).copied()
    }

    /// A server carried something out that may be an order.
    pub(crate) fn book_order(&mut self, publication: &Publication) {
        if let Some(at) = publication.position
            && publication.room.as_str() == CONTROL
        {
            self.book.orders.entry((at.epoch, at.offset)).or_insert(self.now_ms);
        }
    }

    /// An order to end a client's sessions is answered.
    pub(crate) fn kicked(
        &mut self,
        client: usize,
        (asked_ms, before_ms): (u64, Option<u64>),
        ordered: Option<&Ordered>,
    ) {
        let Some(Ordered { accepted, nodes, unanswered }) = ordered else { return };
        self.stats.confirmed += nodes.len() as u64;
        self.stats.unanswered += unanswered.len() as u64;
        for (node, _) in nodes {
            self.check_confirmed(client, (asked_ms, before_ms), *node);
        }
        // What a master that was replaced took goes with it.
        if let Some(at_ms) = accepted.position.and_then(|it| self.ordered_ms(it)) {
            let told_ms = self.now_ms;
            self.book.kicks.push(Kick { client, asked_ms, before_ms, at_ms, told_ms });
        }
    }

    /// A node has confirmed the order: no lane of it has a session from before.
    fn check_confirmed(
        &mut self,
        client: usize,
        (asked_ms, before_ms): (u64, Option<u64>),
        node: NodeId,
    ) {
        let held = self.sockets.iter().find(|it| {
            it.client == client
                && id_of(it.node, it.life) == node
                && self.nodes[it.node].life == it.life
                && it.opened_ms.is_some_and(|opened_ms| opened_ms < asked_ms)
                && before_ms.is_none_or(|before_ms| it.issued_ms < before_ms)
                && it.server_open
                && !it.is_ending()
        });
        if let Some(opened_ms) = held.and_then(|it| it.opened_ms) {
            let about = [format!("c{client}")];
            self.book.violate("G22", &about, || {
                format!("node {node} has confirmed that c{client} is gone, whose session of {opened_ms} ms is there")
            });
        }
    }

    /// A client got the session back that began then: none does from before an order to end its user's, once whoever gave
    /// it was told.
    pub(crate) fn check_resumed(&mut self, client: usize, began_ms: u64) {
        let socket = self.clients[client].socket;
        let Some(opened_ms) = socket.and_then(|it| self.sockets[it].opened_ms) else { return };
        // Records may have been lost with a master's tail, or on one that was none any more.
        let lost_ms = self.nodes.iter().map(|node| node.troubled_ms + LOST_MS).min().unwrap_or(0);
        let from_before = self.book.kicks.iter().find(|kick| {
            kick.client == client
                && kick.before_ms.is_none()
                && began_ms < kick.asked_ms
                && opened_ms > kick.told_ms
                && lost_ms < kick.asked_ms
        });
        if let Some(kick) = from_before.copied() {
            let about = [format!("c{client}")];
            self.book.violate("G13/G22", &about, || {
                format!("c{client} got a session of {began_ms} ms back at {opened_ms} ms: {kick:?}")
            });
        }
    }

    /// Something is handed to a client.
    pub(crate) fn check_kicked(&mut self, socket: usize, number: usize) {
        let it = &self.sockets[socket];
        let Some(opened_ms) = it.opened_ms else { return };
        let troubled_ms = self.nodes[it.node].troubled_ms;
        let late = self.book.kicks.iter().find(|kick| {
            let at_ms = kick.at_ms;
            let trouble = troubled_ms + AGAIN_MS > at_ms;
            let due_ms = if trouble { at_ms.max(troubled_ms) + AGAIN_MS } else { at_ms + ORDER_MS };
            let concerned =
                kick.before_ms.map_or(opened_ms < kick.at_ms, |before_ms| it.issued_ms < before_ms);
            kick.client == it.client && concerned && self.now_ms > due_ms
        });
        if let Some(Kick { client, at_ms, .. }) = late.copied() {
            let about = [format!("c{client}"), format!("p{number}")];
            let now_ms = self.now_ms;
            self.book.violate("G22", &about, || {
                format!(
                    "p{number} is handed to c{client} {} ms after its user was kicked",
                    now_ms - at_ms
                )
            });
        }
    }
}
