//! What a server does about sessions, presence and inboxes, in one step each.

use std::sync::Arc;

use roomcast_protocol::codes::Refusal;
use roomcast_protocol::envelope::Envelope;
use roomcast_protocol::inbox::{Acked, CursorName, InboxState, Told};
use roomcast_protocol::occupancy::AskOccupancies;
use roomcast_protocol::position::{Keep, Position};
use roomcast_protocol::presence::{AGENTS, Incarnation, Lease, PresenceDiff, SetPresence};
use roomcast_protocol::room::RoomName;
use roomcast_protocol::session::{AttachSession, SaveSession, SavedSession};

use super::execute::Asker;
use super::{Answer, Fault, Item, home_of};
use crate::node::id_of;
use crate::planted::Planted;
use crate::world::World;

/// Calls by which one beat clears up a partition; the rest is the next beat's.
const ROUNDS_MAX: usize = 64;

impl World {
    pub(super) fn execute_save(
        &mut self,
        server: usize,
        asker: Asker,
        save: &SaveSession,
    ) -> Answer {
        let room = home_of(&save.user);
        if self.is_moved(server, &room) {
            return Answer::Fault(Fault::NotYet);
        }
        let (at, node) = (self.when(server, 0), id_of(asker.node, asker.life));
        let store = self.bus.servers[server].data.store(&room);
        let outcome = store.save_session(at.now_ms, node, save);
        self.trace.line(self.now_ms, || {
            let SaveSession { session, generation, state, .. } = save;
            format!("server {server}: {session}.{generation} is saved {state:?}: {outcome:?}")
        });
        if outcome == SavedSession::Saved {
            self.check_save(server, save);
        }
        Answer::Saved(outcome)
    }

    pub(super) fn execute_attach(
        &mut self,
        server: usize,
        asker: Asker,
        attach: &AttachSession,
    ) -> Answer {
        let room = home_of(&attach.user);
        if self.is_moved(server, &room) {
            return Answer::Fault(Fault::NotYet);
        }
        let (at, node) = (self.when(server, 0), id_of(asker.node, asker.life));
        let store = self.bus.servers[server].data.store(&room);
        let outcome = store.attach_session(at.now_ms, node, attach).map(Box::new);
        self.trace.line(self.now_ms, || {
            format!("server {server}: {:?} of {} is taken: {outcome:?}", attach.wish, attach.user)
        });
        if let Ok(attached) = &outcome {
            let taken = (attached.session.0, attached.generation);
            self.book_attach(server, taken, attach.window_ms);
        }
        Answer::Attached(outcome)
    }

    pub(super) fn execute_end_sessions(
        &mut self,
        server: usize,
        user: &str,
        order: Position,
    ) -> Answer {
        let room = home_of(user);
        if self.is_moved(server, &room) {
            return Answer::Fault(Fault::NotYet);
        }
        let at = self.when(server, 0);
        self.bus.servers[server].data.store(&room).end_sessions(at.now_ms, user, order);
        Answer::SessionsEnded
    }

    pub(super) fn execute_presence(
        &mut self,
        server: usize,
        set: &SetPresence,
        fresh: u128,
    ) -> Answer {
        if self.is_moved(server, &set.room) {
            return Answer::Fault(Fault::NotYet);
        }
        let at = self.when(server, fresh);
        if self.planted == Some(Planted::ZombieLeaseAccepted) {
            self.bus.servers[server].data.store(&set.room).forget_reaped();
        }
        let stepped = self.bus.servers[server].data.store(&set.room).set_presence(at, set);
        self.trace.line(self.now_ms, || format!("server {server} takes {set:?}"));
        if let Some(diff) = stepped.publish {
            self.bring_presence(server, &diff);
        }
        Answer::PresenceSet(stepped.answer)
    }

    pub(super) fn execute_roster(
        &mut self,
        server: usize,
        (room, after, count_max): (&RoomName, Option<&str>, u32),
        fresh: u128,
    ) -> Answer {
        if self.is_moved(server, room) {
            return Answer::Fault(Fault::NotYet);
        }
        let at = self.when(server, fresh);
        let store = self.bus.servers[server].data.store(room);
        Answer::Roster(store.roster(at, room, after, count_max))
    }

    pub(super) fn execute_present(
        &mut self,
        server: usize,
        room: &RoomName,
        users: &[Box<str>],
    ) -> Answer {
        if self.is_moved(server, room) {
            return Answer::Fault(Fault::NotYet);
        }
        Answer::Present(self.bus.servers[server].data.store(room).present(room, users))
    }

    pub(super) fn execute_inbox(
        &mut self,
        (server, node): (usize, usize),
        cursor: &CursorName,
        keep: &Keep,
        fresh: u128,
    ) -> Answer {
        if self.is_moved(server, &cursor.room) {
            return Answer::Fault(Fault::NotYet);
        }
        let at = self.when(server, fresh);
        let mut found = self.bus.servers[server].data.store(&cursor.room).inbox(at, cursor, keep);
        if let Some(state) = &found {
            self.book_inbox(node, cursor, state);
            self.note_device(server, cursor);
        }
        let is_first = |it: &&mut InboxState| it.told.count == 0 && it.acked.watermark.offset == 0;
        if self.planted == Some(Planted::FirstLossUntold)
            && let Some(first) = found.as_mut().filter(is_first)
        {
            first.lost = 0;
        }
        let full = Answer::Fault(Fault::Declined(Refusal::Unavailable.into()));
        found.map_or(full, Answer::Inbox)
    }

    pub(super) fn execute_ack(
        &mut self,
        server: usize,
        (cursor, keep): (&CursorName, &Keep),
        (acked, told): (&Acked, Told),
        fresh: u128,
    ) -> Answer {
        if self.is_moved(server, &cursor.room) {
            return Answer::Fault(Fault::NotYet);
        }
        let at = self.when(server, fresh);
        let store = self.bus.servers[server].data.store(&cursor.room);
        store.ack(at, cursor, keep, acked, told);
        if let Some(state) = store.clone().inbox(at, cursor, keep) {
            self.check_told(cursor, &state);
            // What was acked in another epoch is passed over.
            if acked.watermark.epoch == state.head.position.epoch {
                self.note_device(server, cursor);
            }
        }
        Answer::Acked
    }

    /// A beat's part in presence: the lease is renewed, and what is due in this server's rooms is done.
    pub(super) fn execute_lives(
        &mut self,
        server: usize,
        asker: Asker,
        (life, retired): (u32, Option<u32>),
        fresh: u128,
    ) -> Lease {
        let at = self.when(server, fresh);
        let incarnation = Incarnation { node: id_of(asker.node, asker.life), life };
        let (shard, owners) = (self.bus.servers[server].shard, self.bus.owners.clone());
        let data = &mut self.bus.servers[server].data;
        let mut lease = data.lives.renew(at.now_ms, incarnation, retired);
        if self.planted == Some(Planted::ZombieLeaseAccepted) && lease == Lease::Lost {
            data.lives.forget_reaped();
            data.lives.renew(at.now_ms, incarnation, retired);
            lease = Lease::Held;
        }
        let own: Vec<_> = (0..owners.len()).filter(|at| owners[*at] == shard).collect();
        let entered: Vec<_> = own.iter().flat_map(|it| data.stores[*it].entered()).collect();
        data.lives.adopt(at.now_ms, &entered);
        let over = data.lives.overdue(at.now_ms);
        data.lives.mark_reaped(at.now_ms, &over);
        let mut diffs: Vec<Arc<PresenceDiff>> = Vec::new();
        for (number, it) in own.into_iter().enumerate() {
            let store = &mut data.stores[it];
            store.mark_reaped(at.now_ms, &over);
            let mixed = fresh ^ (number as u128 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let at = roomcast_store::At { fresh: roomcast_protocol::position::Epoch(mixed), ..at };
            for _ in 0..ROUNDS_MAX {
                let tended = store.tend(at);
                diffs.extend(tended.diffs);
                if !tended.more {
                    break;
                }
            }
        }
        for diff in &diffs {
            self.bring_presence(server, diff);
        }
        lease
    }

    /// A beat's part in what is told of agents, on the server that has their room.
    pub(super) fn execute_untold(
        &mut self,
        server: usize,
        told: Option<Position>,
    ) -> Vec<PresenceDiff> {
        let Ok(room) = RoomName::system(AGENTS) else { return Vec::new() };
        if self.is_moved(server, &room) {
            return Vec::new();
        }
        let at = self.when(server, 0);
        self.bus.servers[server].data.store(&room).give_untold(at.now_ms, told)
    }

    /// Gives a node events of a partition's rooms that became occupied or vacated.
    pub(super) fn execute_occupancies(
        &mut self,
        server: usize,
        asker: Asker,
        ask: &AskOccupancies,
    ) -> Answer {
        let partition = usize::from(ask.partition);
        if self.bus.owners[partition] != self.bus.servers[server].shard {
            return Answer::Fault(Fault::NotYet);
        }
        let (at, node) = (self.when(server, 0), id_of(asker.node, asker.life));
        let store = &mut self.bus.servers[server].data.stores[partition];
        Answer::Occupancies(store.give_occupancies(at.now_ms, node, ask))
    }

    fn bring_presence(&mut self, server: usize, diff: &Arc<PresenceDiff>) {
        self.check_diff(server, diff);
        for (node, link) in self.listeners(server, &diff.room) {
            let envelope = Envelope::Presence(Arc::clone(diff));
            self.bring(node, link, Item::Envelope(envelope));
        }
    }
}
