//! G15: of what a member has to ack, no more than `unacked_max` is on its way to it at any time. Seen from outside: what was
//! handed to its connection and has not been acked, nor given as often as it is given at most.

use std::collections::{BTreeMap, BTreeSet};

use crate::inboxes::TRIES_MAX;
use crate::rules::{room_index, rule};
use crate::wire::Wire;
use crate::world::World;

/// How many a session may have: few, so that the bound bites.
pub(crate) const UNACKED_MAX: u16 = 2;

/// What a connection was given and has not acked.
#[derive(Debug, Default)]
pub(crate) struct Inflight {
    /// How often each was given again.
    due: BTreeMap<usize, u32>,
    /// Those of which its node may or may not wait for an ack still.
    unsure: BTreeSet<usize>,
}

impl World {
    /// A publication is handed to a client.
    pub(super) fn check_inflight(&mut self, socket: usize, number: usize, text: &str) {
        let room = self.book.pubs[number].made.room;
        // Where nothing is kept the oldest fails; what was let go in an outbox was not on its way.
        let overrun = self.sockets[socket].overran;
        let wanted = text.contains("\"requiresAck\":true") && rule(room).keep.is_some();
        if !wanted || overrun {
            return;
        }
        let it = &mut self.sockets[socket];
        let Inflight { due, unsure } = &mut it.inflight;
        if !text.contains("\"redelivered\":true") {
            unsure.remove(&number);
            due.insert(number, 0);
        } else if !unsure.contains(&number) {
            let tries = due.entry(number).or_default();
            *tries += 1;
            if *tries >= TRIES_MAX {
                // It may count as failed from now on.
                due.remove(&number);
            }
        }
        let (client, count) = (it.client, due.len());
        self.stats.inflight_full += u64::from(count == usize::from(UNACKED_MAX));
        if count > UNACKED_MAX.into() {
            let about = [format!("c{client}"), format!("p{number}")];
            let inflight = due.clone();
            self.book.violate("G15", &about, || {
                format!("c{client} has {count} to ack, the last p{number}: {inflight:?}")
            });
        }
    }

    /// A client is told that its room is in another epoch: what it has to ack of it begins anew. It may do so as well where
    /// something was not available.
    pub(super) fn note_begun_anew(&mut self, socket: usize, text: &str) {
        let says = |reason: &str| text.contains(&format!("\"reason\":\"{reason}\""));
        let (anew, unsure) = (says("epoch"), says("unavailable"));
        if !anew && !unsure {
            return;
        }
        let Ok(wire) = Wire::read(text) else { return };
        let data = wire.data().unwrap_or_default();
        let Some(room) = wire.room.as_deref().or(data.room.as_deref()).and_then(room_index) else {
            return;
        };
        let pubs = &self.book.pubs;
        let it = &mut self.sockets[socket].inflight;
        for (number, _) in it.due.extract_if(.., |number, _| pubs[*number].made.room == room) {
            if unsure {
                it.unsure.insert(number);
            }
        }
    }

    /// A lane takes in what a client said: it may be an ack.
    pub(crate) fn note_acked(&mut self, socket: usize, text: &str) {
        let id = text.strip_prefix("{\"type\":\"ack\",\"ackId\":\"p");
        let number = id.and_then(|rest| rest.strip_suffix("\"}")).and_then(|it| it.parse().ok());
        if let Some(number) = number {
            self.sockets[socket].inflight.due.remove::<usize>(&number);
        }
    }
}
