//! What a server does with a command, in one step, and to which feed links that goes.

use std::sync::Arc;

use roomcast_protocol::codes::Refusal;
use roomcast_protocol::envelope::{BeatReport, Count, Envelope, MasterId, Peer};
use roomcast_protocol::position::{Epoch, Keep, Kept, Page, Span};
use roomcast_protocol::presence::{Lease, PresenceDiff};
use roomcast_protocol::publication::{Priority, Publication};
use roomcast_protocol::room::RoomName;
use roomcast_store::{At, Place, Published, Put, Remembered};

use super::{Answer, Call, Fault, Item, LEASE_MS, Publishing, Verdict, id};
use crate::planted::Planted;
use crate::world::{Event, World};

/// Who asks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asker {
    pub(crate) node: usize,
    pub(crate) life: u32,
}

impl World {
    /// Carries out a command that has arrived; `None`: nobody is there to answer.
    pub(crate) fn execute(&mut self, server: usize, asker: Asker, call: Call) -> Option<Answer> {
        let it = &mut self.bus.servers[server];
        if it.dead {
            return None;
        }
        if !it.writes {
            return Some(Answer::Fault(Fault::NoMaster));
        }
        if matches!(call, Call::Load) {
            it.functions = true;
            return Some(Answer::Loaded);
        }
        let plain = matches!(&call, Call::Publish(it) if !it.dedup && it.keep.is_none());
        if !plain && !it.functions {
            return Some(Answer::Fault(Fault::NoFunction));
        }
        Some(match call {
            Call::Publish(publishing) => self.execute_publish(server, asker, publishing),
            Call::Heads { rooms, fresh } => self.execute_heads(server, &rooms, fresh),
            Call::Read { room, keep, span, fresh } => {
                self.execute_read(server, (&room, &keep, &span), fresh)
            }
            Call::Beat { seq, hears, lives, taken, told, reads, fresh } => {
                let lease = self.execute_lives(server, asker, lives, fresh);
                let agents = self.execute_untold(server, told);
                self.execute_beat(server, asker, (seq, hears, reads), &taken, (lease, agents))
            }
            Call::Save(save) => self.execute_save(server, asker, &save),
            Call::Attach(attach) => self.execute_attach(server, asker, &attach),
            Call::EndSessions { user, order } => self.execute_end_sessions(server, &user, order),
            Call::SetPresence { set, fresh } => self.execute_presence(server, &set, fresh),
            Call::Roster { room, after, count_max, fresh } => {
                self.execute_roster(server, (&room, after.as_deref(), count_max), fresh)
            }
            Call::Present { room, users } => self.execute_present(server, &room, &users),
            Call::Inbox { cursor, keep, fresh } => {
                self.execute_inbox((server, asker.node), &cursor, &keep, fresh)
            }
            Call::Ack { cursor, keep, acked, told, fresh } => {
                self.execute_ack(server, (&cursor, &keep), (&acked, told), fresh)
            }
            Call::SetMarks { set, fresh } => self.execute_marks(server, &set, fresh),
            Call::Receipts { room, of, after, count_max, fresh } => {
                self.execute_receipts(server, &room, (of, after.as_deref(), count_max), fresh)
            }
            Call::SetEntry(set) => self.execute_entry(server, &set),
            Call::Directory { directory, entries } => {
                self.execute_directory(server, &directory, &entries)
            }
            Call::Occupancies { ask } => self.execute_occupancies(server, asker, &ask),
            Call::Load => Answer::Loaded,
        })
    }

    pub(crate) fn is_moved(&self, server: usize, room: &RoomName) -> bool {
        self.bus.servers[server].shard != self.bus.shard_of(room)
    }

    /// The server's clock, and an epoch to take if need be.
    pub(super) fn when(&self, server: usize, fresh: u128) -> At {
        let now_ms = self.bus.servers[server].time_ms(self.now_ms);
        At { now_ms, fresh: Epoch(fresh).begun_at(now_ms) }
    }

    fn execute_publish(&mut self, server: usize, asker: Asker, publishing: Publishing) -> Answer {
        let Publishing { publication, published_us, dedup, keep, collapse, fresh } = publishing;
        if self.is_moved(server, &publication.room) {
            return Answer::Fault(Fault::NotYet);
        }
        let at = self.when(server, fresh);
        let mut id = id(&publication);
        if self.planted == Some(Planted::NoDedup) {
            id.key = fresh;
        }
        let store = self.bus.servers[server].data.store(&publication.room);
        let Some(keep) = keep else {
            let short = match dedup.then(|| store.remember(&publication.room, at.now_ms, id)) {
                Some(Remembered::Same) => {
                    return Answer::Published(Verdict::Same { position: None });
                }
                Some(Remembered::Other) => return Answer::Published(Verdict::Other),
                Some(Remembered::New { short }) => short,
                None => false,
            };
            self.note_notice(&publication);
            self.send_out(server, asker, publication, published_us);
            return Answer::Published(Verdict::New { position: None, short });
        };
        let low = publication.priority == Some(Priority::Low);
        let collapse = collapse.as_deref();
        let put = Put { id, bytes: publication.weight() as u64, low, collapse };
        let room = publication.room.clone();
        let mut stored = None;
        let published = store.publish(&room, &keep, at, put, |position| {
            let placed = Publication { position: Some(position), ..(*publication).clone() };
            Kept::Publication(Arc::clone(stored.insert(Arc::new(placed))))
        });
        let answer = match published {
            Published::Stored { position, short } => {
                if let Some(stored) = stored {
                    self.send_out(server, asker, stored, published_us);
                }
                Verdict::New { position: Some(position), short }
            }
            Published::Same(position) => Verdict::Same { position: Some(position) },
            Published::Other => Verdict::Other,
            Published::Full | Published::Spent => {
                return Answer::Fault(Fault::Declined(Refusal::Unavailable.into()));
            }
        };
        if keep.replicated && self.bus.servers[server].behind.is_some() {
            return Answer::Fault(Fault::Unknown); // too few replicas have it
        }
        Answer::Published(answer)
    }

    /// The last step of publishing: it goes to all who hear the room on this server.
    fn send_out(
        &mut self,
        server: usize,
        asker: Asker,
        publication: Arc<Publication>,
        published_us: u64,
    ) {
        self.bus.executed += 1;
        self.book.dialogs.node = asker.node;
        self.book_execution(server, &publication);
        if self.planted == Some(Planted::TwoSteps) {
            let in_ms = 1 + self.delay();
            let generation = self.nodes[asker.node].broker.roads[0].generation;
            let step = Event::SecondStep { server, asker, generation, publication };
            return self.at(self.now_ms + in_ms, step);
        }
        self.bring_out(server, &publication, published_us);
    }

    fn bring_out(&mut self, server: usize, publication: &Arc<Publication>, published_us: u64) {
        for (node, link) in self.listeners(server, &publication.room) {
            let publication = Arc::clone(publication);
            let envelope = Envelope::Publication { publication, published_us };
            self.bring(node, link, Item::Envelope(envelope));
        }
    }

    /// With the planted bug: the node publishes what it has stored, if it still can.
    pub(crate) fn second_step(
        &mut self,
        server: usize,
        (asker, generation): (Asker, u32),
        publication: &Arc<Publication>,
    ) {
        let node = &self.nodes[asker.node];
        let road = &node.broker.roads[0];
        let lives = node.up && node.life == asker.life && road.generation == generation;
        let stops = node.core.stalled_until_ms > self.now_ms || road.silent_until_ms > self.now_ms;
        let it = &self.bus.servers[server];
        if lives && !stops && !it.dead && it.frozen_until_ms <= self.now_ms {
            self.bring_out(server, publication, 0);
        }
    }

    fn execute_heads(&mut self, server: usize, rooms: &[RoomName], fresh: u128) -> Answer {
        let mut heads = Vec::new();
        if rooms.iter().any(|room| self.is_moved(server, room)) {
            return Answer::Fault(Fault::NotYet);
        }
        for (at, room) in rooms.iter().enumerate() {
            let own = (at as u128).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
            let when = self.when(server, fresh ^ own);
            heads.push(self.bus.servers[server].data.store(room).head(room, when));
        }
        Answer::Heads(heads)
    }

    fn execute_read(
        &mut self,
        server: usize,
        (room, keep, span): (&RoomName, &Keep, &Span),
        fresh: u128,
    ) -> Answer {
        if self.is_moved(server, room) {
            return Answer::Fault(Fault::NotYet);
        }
        let when = self.when(server, fresh);
        let found = self.bus.servers[server].data.store(room).read(room, keep, when, span);
        let Some(found) = found else {
            return Answer::Fault(Fault::Declined(Refusal::Unavailable.into()));
        };
        let entries = found.entries.into_iter().map(|place| match place {
            Place::Entry(entry) => entry.payload,
            Place::Removed(position) => Kept::Removed(position),
        });
        let entries = entries.collect();
        Answer::Read(Page { head: found.head, entries, whole: found.whole })
    }

    fn execute_beat(
        &mut self,
        server: usize,
        asker: Asker,
        (seq, hears, reads): (u64, bool, bool),
        taken: &[Count],
        (lease, agents): (Lease, Vec<PresenceDiff>),
    ) -> Answer {
        let id = crate::node::id_of(asker.node, asker.life);
        let it = &mut self.bus.servers[server];
        let time_ms = it.time_ms(self.now_ms);
        it.data.excuse(time_ms);
        it.data.leases.insert(id, (time_ms + LEASE_MS, hears));
        it.data.leases.retain(|_, (until, _)| *until > time_ms);
        let others = it.data.leases.iter().filter(|(node, _)| **node != id);
        let peers =
            others.map(|(node, (_, hears))| Peer { node: *node, hears: *hears, agrees: true });
        let peers: Vec<_> = peers.collect();
        // Several masters are followed together, as one.
        let one = self.bus.masters.len() == 1;
        let master = if one { it.master } else { MasterId(0) };
        let masters = it.master;
        let (shard, owners) = (it.shard, &self.bus.owners);
        let own = it.data.stores.iter().enumerate().filter(|(at, _)| owners[*at] == shard);
        let unread = own.clone().filter(|_| reads).flat_map(|(_, store)| store.unread(time_ms));
        let unread = unread.collect();
        let own = own.flat_map(|(at, store)| {
            let taken = taken.iter().filter(|count| usize::from(count.partition) == at);
            store.moved(time_ms, &taken.copied().collect::<Vec<_>>())
        });
        let moved: Vec<_> = own.collect();
        self.check_ghosts(server);
        for (at, on) in self.links_of(asker.node, asker.life) {
            if on == server {
                self.bring(asker.node, at, Item::Beat { seq, master, moved: moved.clone() });
            }
        }
        let shard = self.bus.servers[server].shard;
        let servers: Vec<_> = self.bus.servers.iter().map(|it| it.shard).collect();
        let links = self.nodes[asker.node].feed_links(shard, &servers);
        Answer::Beaten {
            report: BeatReport { master, masters, links, peers, lease, agents, unread },
            time_us: time_ms * 1_000,
        }
    }
}
