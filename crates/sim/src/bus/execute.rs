//! What a server does with a command, in one step, and to which feed links that goes.

use std::sync::Arc;

use roomcast_protocol::content::Content;
use roomcast_protocol::envelope::{BeatReport, Envelope, Peer};
use roomcast_protocol::publication::Publication;
use roomcast_protocol::room::RoomName;

use super::{Answer, Call, Fault, Item, LEASE_MS, Publishing, Verdict};
use crate::planted::Planted;
use crate::world::World;

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
            Call::Publish(publishing) => self.execute_publish(server, publishing),
            Call::Heads { .. } | Call::Read { .. } => Answer::Fault(Fault::Unknown),
            Call::Beat { seq, hears, taken: _ } => self.execute_beat(server, asker, seq, hears),
            Call::Load => Answer::Loaded,
        })
    }

    fn is_moved(&self, server: usize, room: &RoomName) -> bool {
        self.bus.servers[server].shard != self.bus.shard_of(room)
    }

    fn execute_publish(&mut self, server: usize, publishing: Publishing) -> Answer {
        if self.is_moved(server, &publishing.publication.room) {
            return Answer::Fault(Fault::NotYet);
        }
        let publication = publishing.publication;
        if publishing.dedup && self.planted != Some(Planted::NoDedup) {
            let key =
                (publication.room.clone(), publication.sender.clone(), publication.id.clone());
            let content = content_hash(&publication);
            match self.bus.servers[server].data.ids.get(&key) {
                Some(known) if *known == content => {
                    return Answer::Published(Verdict::Same { position: None });
                }
                Some(_) => return Answer::Published(Verdict::Other),
                None => {
                    self.bus.servers[server].data.ids.insert(key, content);
                }
            }
        }
        self.send_out(server, publication, publishing.published_us);
        Answer::Published(Verdict::New { position: None, short: false })
    }

    /// The last step of publishing: it goes to all who hear the room on this server.
    fn send_out(&mut self, server: usize, publication: Arc<Publication>, published_us: u64) {
        self.bus.executed += 1;
        self.book_execution(server, &publication);
        let envelope = |publication| Envelope::Publication { publication, published_us };
        for (node, link) in self.listeners(server, &publication.room) {
            self.bring(node, link, Item::Envelope(envelope(Arc::clone(&publication))));
        }
    }

    fn execute_beat(&mut self, server: usize, asker: Asker, seq: u64, hears: bool) -> Answer {
        let id = crate::node::id_of(asker.node, asker.life);
        let it = &mut self.bus.servers[server];
        let time_ms = it.time_ms(self.now_ms);
        it.data.leases.insert(id, (time_ms + LEASE_MS, hears));
        it.data.leases.retain(|_, (until, _)| *until > time_ms);
        let others = it.data.leases.iter().filter(|(node, _)| **node != id);
        let peers =
            others.map(|(node, (_, hears))| Peer { node: *node, hears: *hears, agrees: true });
        let peers: Vec<_> = peers.collect();
        let master = it.master;
        let beaten = self.links_of(asker.node, asker.life);
        for (at, on) in &beaten {
            if *on == server {
                self.bring(asker.node, *at, Item::Beat { seq, master, moved: Vec::new() });
            }
        }
        let shard = self.bus.servers[server].shard;
        let servers: Vec<_> = self.bus.servers.iter().map(|it| it.shard).collect();
        let links = self.nodes[asker.node].feed_links(shard, &servers);
        Answer::Beaten { report: BeatReport { master, links, peers }, time_us: time_ms * 1_000 }
    }
}

/// What a publication says, as one number.
fn content_hash(publication: &Publication) -> u64 {
    let (Content::Json(bytes) | Content::Text(bytes) | Content::Binary(bytes)) =
        &publication.content;
    let mix = |sum: u64, byte: &u8| (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, mix)
}
