//! The store by itself as a broker, for the contract's scripts and for tests that compare brokers: every node hears at
//! once what it subscribed to. It has no queue, no clock and no bytes of envelopes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use foldhash::quality::FixedState;
use roomcast_protocol::codes::{Refusal, Refused};
use roomcast_protocol::contract::{BrokerUnderTest, Brought, DEDUP_MAX, Lost};
use roomcast_protocol::envelope::{
    Accepted, BrokerCommand, BrokerEvent, Envelope, LinkId, MasterId,
};
use roomcast_protocol::ids::NodeId;
use roomcast_protocol::position::{Epoch, Keep, Kept, Page};
use roomcast_protocol::publication::Publication;
use roomcast_protocol::room::RoomName;

use crate::{At, Keys, Published, Put, Remembered, Rules, Store, id_of};

#[derive(Debug, Default)]
struct Node {
    rooms: BTreeSet<RoomName>,
    events: Vec<BrokerEvent<u64>>,
    ended: bool,
}

/// The store with its nodes.
#[derive(Debug)]
pub struct Bare {
    store: Store<Arc<Publication>>,
    hashers: [FixedState; 2],
    nodes: BTreeMap<NodeId, Node>,
    master: u64,
    drawn: u128,
    beside_bytes: u64,
}

impl Bare {
    /// One without nodes, that counts so many bytes of an envelope beside its payload.
    #[must_use]
    pub fn new(dedup_ttl_ms: u64, beside_bytes: u64) -> Self {
        let rules = Rules {
            dedup_ttl_ms,
            dedup_max: DEDUP_MAX,
            bytes_max: u64::MAX,
            partition: |room| room.as_str().bytes().fold(0, |sum, byte| sum + u16::from(byte)),
        };
        let hashers = [1, 2].map(FixedState::with_seed);
        let (nodes, drawn) = (BTreeMap::new(), 0);
        Self { store: Store::new(rules, 1), hashers, nodes, master: 1, drawn, beside_bytes }
    }

    fn at(&mut self, now_ms: u64) -> At {
        self.drawn += 1;
        At { now_ms, fresh: Epoch(self.drawn) }
    }

    fn tell(&mut self, node: NodeId, event: BrokerEvent<u64>) {
        if let Some(node) = self.nodes.get_mut(&node) {
            node.events.push(event);
        }
    }

    fn spread(&mut self, publication: &Arc<Publication>) {
        let hearing = self.nodes.values_mut();
        for node in hearing.filter(|it| !it.ended && it.rooms.contains(&publication.room)) {
            let publication = Arc::clone(publication);
            let envelope = Envelope::Publication { publication, published_us: 0 };
            node.events.push(BrokerEvent::Envelope(envelope));
        }
    }

    fn publish(
        &mut self,
        now_ms: u64,
        publication: &Arc<Publication>,
        dedup: bool,
        keep: Option<Keep>,
    ) -> Result<Accepted, Refused> {
        let id = id_of(&self.hashers, publication);
        let room = &publication.room;
        let Some(keep) = keep else {
            let remembered = dedup.then(|| self.store.remember(room, now_ms, id));
            let short = match remembered {
                None => false,
                Some(Remembered::New { short }) => short,
                Some(Remembered::Same) => return Ok(Accepted::WHOLE),
                Some(Remembered::Other) => return Err(Refusal::Duplicate.into()),
            };
            self.spread(publication);
            return Ok(Accepted { dedup_short: short, ..Accepted::WHOLE });
        };
        let at = self.at(now_ms);
        let own = u64::try_from(publication.content.len()).unwrap_or(u64::MAX);
        let put = Put { id, bytes: self.beside_bytes + own };
        let mut stored = None;
        let published = self.store.publish(room, &keep, at, put, |position| {
            let placed = Publication { position: Some(position), ..(**publication).clone() };
            Arc::clone(stored.insert(Arc::new(placed)))
        });
        match published {
            Published::Stored { position, short } => {
                if let Some(publication) = stored {
                    self.spread(&publication);
                }
                Ok(Accepted { dedup_short: short, ..Accepted::stored(position) })
            }
            Published::Same(position) => Ok(Accepted::stored(position)),
            Published::Other => Err(Refusal::Duplicate.into()),
            Published::Full | Published::Spent => Err(Refusal::StorageFull.into()),
        }
    }
}

impl BrokerUnderTest for Bare {
    fn attach(&mut self, node: NodeId) {
        self.nodes.insert(node, Node::default());
    }

    fn detach(&mut self, node: NodeId) {
        if let Some(node) = self.nodes.get_mut(&node) {
            node.ended = true;
        }
    }

    fn execute(&mut self, node: NodeId, mono_ms: u64, command: BrokerCommand<u64>) {
        let Some(own) = self.nodes.get_mut(&node).filter(|node| !node.ended) else { return };
        match command {
            BrokerCommand::Publish { ticket, publication, dedup, keep, collapse: _ } => {
                let outcome = self.publish(mono_ms, &publication, dedup, keep);
                self.tell(node, BrokerEvent::Published { ticket, outcome });
            }
            BrokerCommand::Subscribe { room, request } => {
                own.rooms.insert(room.clone());
                self.tell(node, BrokerEvent::Subscribed { room, request });
            }
            BrokerCommand::Unsubscribe(room) => {
                own.rooms.remove(&room);
            }
            BrokerCommand::Heads { request, rooms } => {
                let at = self.at(mono_ms);
                let heads = rooms.iter().map(|(room, _)| self.store.head(room, at)).collect();
                self.tell(node, BrokerEvent::Heads { request, heads });
            }
            BrokerCommand::Read { request, room, keep, span } => {
                let at = self.at(mono_ms);
                let page = self.store.read(&room, &keep, at, &span).map(|found| {
                    let entries = found.entries.into_iter();
                    let entries = entries.map(|entry| Kept::Publication(entry.payload)).collect();
                    Page { head: found.head, entries, whole: found.whole }
                });
                self.tell(node, BrokerEvent::Read { request, page });
            }
            BrokerCommand::Beat { seq, hears: _, life: _, retired: _, taken } => {
                let moved = self.store.moved(mono_ms, &taken);
                let master = MasterId(self.master);
                self.tell(node, BrokerEvent::Beat { link: LinkId(0), seq, master, moved });
            }
            BrokerCommand::Save { .. }
            | BrokerCommand::Attach { .. }
            | BrokerCommand::SetPresence { .. }
            | BrokerCommand::Roster { .. }
            | BrokerCommand::Inbox { .. }
            | BrokerCommand::Ack { .. }
            | BrokerCommand::Reconnect { .. } => {}
        }
    }

    fn drain(&mut self, node: NodeId) -> Brought {
        let Some(node) = self.nodes.get_mut(&node) else {
            return Brought { events: Vec::new(), ended: true };
        };
        Brought { events: std::mem::take(&mut node.events), ended: node.ended }
    }

    fn lose(&mut self, what: Lost<'_>) {
        match what {
            Lost::Meta(room) => self.store.lose(room, Keys::Meta),
            Lost::Stream(room) => self.store.lose(room, Keys::Stream),
            Lost::Ids(room) => self.store.lose(room, Keys::Ids),
            Lost::Everything => self.store.lose_everything(),
        }
    }

    fn promote(&mut self) {
        self.master += 1;
        self.store.promote(self.master.into());
    }
}
