//! G22: a user whose sessions were ordered to end hears nothing a second later, on any node whose beat is fresh; a lane
//! that was stopped obeys before it delivers.

use roomcast_protocol::position::{Epoch, Position, Span};
use roomcast_protocol::room::RoomName;
use roomcast_router::hub::{CONTROL, CONTROL_KEEP};
use roomcast_store::At;

use crate::world::World;

/// How long an order may take. Units: milliseconds. Source: G22, with the longest delays of a run.
const ORDER_MS: u64 = 1_300;

/// How long a node may need after trouble until orders have come again. Units: milliseconds.
const AGAIN_MS: u64 = 12_000;

impl World {
    /// Whether the master of the majority has the order at this position.
    pub(crate) fn is_ordered(&self, position: Position) -> bool {
        let room = RoomName::system(CONTROL).expect("the hub names it");
        let server = &self.bus.servers[self.bus.masters[self.bus.shard_of(&room)]];
        let at = At { now_ms: server.time_ms(self.now_ms), fresh: Epoch(u128::MAX) };
        let span = Span { count_max: 1, ..Span::above(position.offset - 1) };
        let found = server.data.clone().store(&room).read(&room, &CONTROL_KEEP, at, &span);
        let entries = found.map_or_else(Vec::new, |found| found.entries);
        entries.first().is_some_and(|entry| entry.position() == position)
    }

    /// Something is handed to a client.
    pub(crate) fn check_kicked(&mut self, socket: usize, number: usize) {
        let it = &self.sockets[socket];
        let Some(opened_ms) = it.opened_ms else { return };
        let troubled_ms = self.nodes[it.node].troubled_ms;
        let late = self.book.kicks.iter().find(|(client, at_ms)| {
            let trouble = troubled_ms + AGAIN_MS > *at_ms;
            let due_ms =
                if trouble { at_ms.max(&troubled_ms) + AGAIN_MS } else { at_ms + ORDER_MS };
            *client == it.client && opened_ms < *at_ms && self.now_ms > due_ms
        });
        if let Some((client, at_ms)) = late.copied() {
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
