//! What must have come by the end of a stay: G4/I1 (what was carried out while somebody was in is heard or told as
//! lost), G8/I7 (after all faults everybody is current).

use super::Execution;
use super::stay::Stay;
use crate::rules::{ROOMS_ALL, name_of, rule};
use crate::world::World;

/// How long it may take to tell of a loss once later things are heard. Units: milliseconds.
const TOLD_MS: u64 = 2_000;

/// How long something may be on its way until it is dropped for a lane. Units: milliseconds.
const DROPPED_MS: u64 = 12_000;

impl World {
    /// A client is no longer in a room.
    pub(crate) fn end_stay(&mut self, client: usize, room: usize) {
        if let Some(stay) = self.clients[client].stays.remove(&room) {
            // What was lost a moment ago may not have been told yet.
            let told_by_ms = self.now_ms.saturating_sub(TOLD_MS);
            self.check_holes(client, room, &stay, Some(told_by_ms));
        }
    }

    pub(crate) fn end_stays(&mut self, client: usize) {
        for room in 0..ROOMS_ALL {
            self.end_stay(client, room);
        }
    }

    /// G4/I1 in rooms without positions: of what was carried out up to some execution nothing is missing untold.
    fn check_holes(&mut self, client: usize, room: usize, stay: &Stay, told_by_ms: Option<u64>) {
        if rule(room).keep.is_some() {
            return;
        }
        let socket = self.clients[client].socket.map(|socket| &self.sockets[socket]);
        let drops = socket.map_or(&[][..], |it| &self.nodes[it.node].core.dropped_ms[it.lane]);
        let executions = &self.book.executions[room];
        let from = executions.partition_point(|it| it.seq <= stay.began_seq);
        // Of a stay that ends: what a server did before something that was heard of it.
        let due = |it: &&Execution| {
            let newest = stay.newest_of.get(&it.server).copied().unwrap_or(0);
            told_by_ms.is_none_or(|told_by_ms| it.seq <= newest && it.at_ms <= told_by_ms)
        };
        for it in executions[from..].iter().filter(due) {
            let of = &self.book.pubs[it.number];
            // A master that is none any more tells nobody but its own nodes; rights and expiry are checked elsewhere.
            let optional =
                !it.current || of.isolated || of.made.requires || of.made.ttl_s.is_some();
            let told = stay.told_ms.is_some_and(|told| told >= it.at_ms);
            // What was dropped for the lane is told behind what came in before that, which a slow client reads late.
            let dropped = told_by_ms.is_some()
                && drops.iter().any(|at| (it.at_ms..it.at_ms + DROPPED_MS).contains(at));
            if optional || told || dropped || stay.heard.contains(&it.number) {
                continue;
            }
            let (number, seq, at_ms) = (it.number, it.seq, it.at_ms);
            let about = [format!("c{client}"), format!("p{number}")];
            let (began_ms, acked) = (stay.began_ms, of.acked);
            self.book.violate("G4/I1", &about, || {
                format!(
                    "c{client} is in {} since {began_ms} ms and never heard p{number} (#{seq} at {at_ms} ms, acked: {acked}), and was not told",
                    name_of(room)
                )
            });
            return;
        }
    }

    /// Everything is over for long: everybody who is connected has all there is.
    pub(crate) fn check_current(&mut self) {
        for client in 0..self.clients.len() {
            let it = &self.clients[client];
            let about = [format!("c{client}")];
            if it.socket.is_none() || !it.ready || it.isolated {
                let (socket, ready, isolated) = (it.socket, it.ready, it.isolated);
                self.book.violate("G8/I7", &about, || {
                    format!("c{client}: connected {socket:?}, ready {ready}, isolated {isolated}")
                });
            }
            for (room, stay) in self.clients[client].stays.clone() {
                self.check_stay_is_current(client, room, &stay);
            }
        }
        self.check_views();
        self.check_agents();
        self.check_inboxes();
        self.check_settled();
    }

    fn check_stay_is_current(&mut self, client: usize, room: usize, stay: &Stay) {
        let name = name_of(room);
        self.check_holes(client, room, stay, None);
        let Some(probe) = self.book.probes[room] else { return };
        let about = [format!("c{client}"), format!("p{probe}"), name.clone()];
        if !self.book.pubs[probe].acked {
            self.book.violate("G8/I7", &about, || format!("the probe p{probe} has no answer"));
        }
        if stay.began_ms < self.book.pubs[probe].made_ms && !stay.heard.contains(&probe) {
            self.book.violate("G8/I7", &about, || {
                format!("c{client} did not hear the probe p{probe} in {name}")
            });
        }
    }
}
