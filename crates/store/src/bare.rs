//! The store by itself as a broker, for the contract's scripts and for tests that compare brokers: every node hears at
//! once what it subscribed to. It has no queue, no clock and no bytes of envelopes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use foldhash::quality::FixedState;
use roomcast_protocol::codes::{Refusal, Refused};
use roomcast_protocol::contract::{BrokerUnderTest, Brought, DEDUP_MAX, Lost};
use roomcast_protocol::directory::SetEntry;
use roomcast_protocol::envelope::{
    Accepted, BeatReport, BrokerCommand, BrokerEvent, Count, Envelope, LinkId, MasterId,
};
use roomcast_protocol::ids::NodeId;
use roomcast_protocol::occupancy::{AskOccupancies, Occupancy};
use roomcast_protocol::position::{Epoch, Keep, Kept, Page, Position};
use roomcast_protocol::presence::{Incarnation, PresenceDiff, SetPresence};
use roomcast_protocol::publication::{Priority, Publication};
use roomcast_protocol::receipts::{ReceiptDiff, SetMarks};
use roomcast_protocol::room::RoomName;
use roomcast_protocol::session::SaveSession;

use crate::{
    At, Beaten, Found, Keys, Place, Published, Put, Remembered, Rules, Stepped, Store, id_of,
};

/// How long leases last. Units: milliseconds.
pub const LEASE_MS: u64 = 8_000;

/// What its clock shows in the beginning. Units: milliseconds since the Unix epoch.
const BEGAN_UNIX_MS: u64 = 1_000_000_000_000;

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
    /// Steps of marks so far: its clock goes on with each.
    marked_ms: u64,
}

impl Bare {
    /// One without nodes, that counts so many bytes of an envelope beside its payload.
    #[must_use]
    pub fn new(dedup_ttl_ms: u64, beside_bytes: u64) -> Self {
        let rules = Rules {
            dedup_ttl_ms,
            dedup_max: DEDUP_MAX,
            bytes_max: u64::MAX,
            lease_ms: LEASE_MS,
            partition,
        };
        let hashers = [1, 2].map(FixedState::with_seed);
        let (nodes, drawn) = (BTreeMap::new(), 0);
        let store = Store::new(rules, 1);
        Self { store, hashers, nodes, master: 1, drawn, beside_bytes, marked_ms: 0 }
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

    fn spread_presence(&mut self, diff: &Arc<PresenceDiff>) {
        let hearing = self.nodes.values_mut();
        for node in hearing.filter(|it| !it.ended && it.rooms.contains(&diff.room)) {
            node.events.push(BrokerEvent::Envelope(Envelope::Presence(Arc::clone(diff))));
        }
    }

    fn set_presence(&mut self, node: NodeId, mono_ms: u64, request: u64, set: &SetPresence) {
        let at = self.at(mono_ms);
        let Stepped { answer, publish } = self.store.set_presence(at, set);
        publish.iter().for_each(|diff| self.spread_presence(diff));
        self.tell(node, BrokerEvent::PresenceSet { request, outcome: Some(answer) });
    }

    fn set_marks(&mut self, node: NodeId, now_ms: u64, request: u64, set: &SetMarks) {
        self.marked_ms += 1;
        let (at, unix_ms) = (self.at(now_ms), BEGAN_UNIX_MS + self.marked_ms);
        let marking = self.store.set_marks(at, unix_ms, set);
        marking.iter().flat_map(|it| &it.publish).for_each(|diff| self.spread_receipts(diff));
        let outcome = marking.map(|it| it.answer);
        self.tell(node, BrokerEvent::MarksSet { request, outcome });
    }

    fn set_entry(&mut self, node: NodeId, now_ms: u64, request: u64, set: &SetEntry) {
        let outcome = self.store.set_entry(now_ms, set);
        self.tell(node, BrokerEvent::EntrySet { request, outcome });
    }

    fn save(&mut self, node: NodeId, now_ms: u64, request: u64, save: &SaveSession) {
        let outcome = Some(self.store.save_session(now_ms, node, save));
        self.tell(node, BrokerEvent::Saved { request, outcome });
    }

    fn give(&mut self, node: NodeId, now_ms: u64, request: u64, ask: &AskOccupancies) {
        let given = Some(self.store.give_occupancies(now_ms, node, ask));
        self.tell(node, BrokerEvent::Occupancies { request, given });
    }

    fn spread_receipts(&mut self, diff: &Arc<ReceiptDiff>) {
        let hearing = self.nodes.values_mut();
        for node in hearing.filter(|it| !it.ended && it.rooms.contains(&diff.room)) {
            node.events.push(BrokerEvent::Envelope(Envelope::Receipts(Arc::clone(diff))));
        }
    }

    fn beat(
        &mut self,
        node: NodeId,
        now_ms: u64,
        (life, retired): (u32, Option<u32>),
        (seq, told, reads): (u64, Option<Position>, bool),
        taken: &[Count],
    ) {
        let at = self.at(now_ms);
        let Beaten { lease, mut tended } = self.store.beat(at, Incarnation { node, life }, retired);
        loop {
            tended.diffs.iter().for_each(|diff| self.spread_presence(diff));
            if !tended.more {
                break;
            }
            tended = self.store.tend(at);
        }
        let agents = self.store.give_untold(now_ms, told);
        let unread = if reads { self.store.unread(now_ms) } else { Vec::new() };
        let moved = self.store.moved(now_ms, taken);
        let master = MasterId(self.master);
        self.tell(node, BrokerEvent::Beat { link: LinkId(0), seq, master, moved });
        let (links, peers) = (vec![LinkId(0)], Vec::new());
        let masters = master;
        let report = BeatReport { master, masters, links, peers, lease, agents, unread };
        let report = Some(report);
        self.tell(node, BrokerEvent::BeatAnswered { seq, report });
    }

    fn publish(
        &mut self,
        now_ms: u64,
        publication: &Arc<Publication>,
        dedup: bool,
        keep: Option<Keep>,
        collapse: Option<&str>,
    ) -> Result<Accepted, Refused> {
        let id = id_of(&self.hashers, publication);
        let room = &publication.room;
        let Some(keep) = keep else {
            let remembered = dedup.then(|| self.store.remember(room, now_ms, id));
            let short = match remembered {
                None => false,
                Some(Remembered::New { short }) => short,
                Some(Remembered::Same) => {
                    return Ok(Accepted { again: true, ..Accepted::WHOLE });
                }
                Some(Remembered::Other) => return Err(Refusal::Duplicate.into()),
            };
            self.spread(publication);
            return Ok(Accepted { dedup_short: short, ..Accepted::WHOLE });
        };
        let at = self.at(now_ms);
        let own = u64::try_from(publication.content.len()).unwrap_or(u64::MAX);
        let low = publication.priority == Some(Priority::Low);
        let put = Put { id, bytes: self.beside_bytes + own, low, collapse };
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
            Published::Same(position) => Ok(Accepted { again: true, ..Accepted::stored(position) }),
            Published::Other => Err(Refusal::Duplicate.into()),
            Published::Full | Published::Spent => Err(Refusal::StorageFull.into()),
        }
    }
}

fn partition(room: &RoomName) -> u16 {
    room.as_str().bytes().fold(0, |sum, byte| sum + u16::from(byte))
}

fn page(found: Found<Arc<Publication>>) -> Page {
    let entries = found.entries.into_iter().map(|place| match place {
        Place::Entry(entry) => Kept::Publication(entry.payload),
        Place::Removed(position) => Kept::Removed(position),
    });
    Page { head: found.head, entries: entries.collect(), whole: found.whole }
}

impl Bare {
    fn heads(&mut self, node: NodeId, mono_ms: u64, request: u64, rooms: &[(RoomName, Keep)]) {
        let at = self.at(mono_ms);
        let heads = rooms.iter().map(|(room, _)| self.store.head(room, at)).collect();
        self.tell(node, BrokerEvent::Heads { request, heads });
    }

    fn present(&mut self, node: NodeId, request: u64, room: &RoomName, users: &[Box<str>]) {
        let since = Some(self.store.present(room, users));
        self.tell(node, BrokerEvent::Present { request, since });
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
            BrokerCommand::Publish { ticket, publication, dedup, keep, collapse } => {
                let outcome = self.publish(mono_ms, &publication, dedup, keep, collapse.as_deref());
                self.tell(node, BrokerEvent::Published { ticket, outcome });
            }
            BrokerCommand::Subscribe { room, request } => {
                own.rooms.insert(room.clone());
                self.tell(node, BrokerEvent::Subscribed { room, request });
            }
            BrokerCommand::Unsubscribe(room) => own.rooms.retain(|held| *held != room),
            BrokerCommand::Heads { request, rooms } => self.heads(node, mono_ms, request, &rooms),
            BrokerCommand::Read { request, room, keep, span } => {
                let at = self.at(mono_ms);
                let page = self.store.read(&room, &keep, at, &span).map(page);
                self.tell(node, BrokerEvent::Read { request, page });
            }
            BrokerCommand::Beat { seq, hears: _, life, retired, taken, told, reads } => {
                self.beat(node, mono_ms, (life, retired), (seq, told, reads), &taken);
            }
            BrokerCommand::Occupancies { request, ask } => self.give(node, mono_ms, request, &ask),
            BrokerCommand::Save { request, save } => self.save(node, mono_ms, request, &save),
            BrokerCommand::Attach { request, attach } => {
                let outcome = self.store.attach_session(mono_ms, node, &attach).map(Box::new);
                self.tell(node, BrokerEvent::Attached { request, outcome });
            }
            BrokerCommand::EndSessions { request, user, order } => {
                self.store.end_sessions(mono_ms, &user, order);
                self.tell(node, BrokerEvent::SessionsEnded { request, done: true });
            }
            BrokerCommand::SetPresence { request, set } => {
                self.set_presence(node, mono_ms, request, &set);
            }
            BrokerCommand::Roster { request, room, after, count_max } => {
                let at = self.at(mono_ms);
                let page = Some(self.store.roster(at, &room, after.as_deref(), count_max));
                self.tell(node, BrokerEvent::Roster { request, page });
            }
            BrokerCommand::Present { request, room, users } => {
                self.present(node, request, &room, &users);
            }
            BrokerCommand::Inbox { request, cursor, keep } => {
                let at = self.at(mono_ms);
                let state = self.store.inbox(at, &cursor, &keep);
                self.tell(node, BrokerEvent::Inbox { request, state });
            }
            BrokerCommand::Ack { cursor, keep, acked, told } => {
                let at = self.at(mono_ms);
                self.store.ack(at, &cursor, &keep, &acked, told);
            }
            BrokerCommand::SetMarks { request, keep: _, set } => {
                self.set_marks(node, mono_ms, request, &set);
            }
            BrokerCommand::Receipts { request, room, keep: _, of, after, count_max } => {
                let at = self.at(mono_ms);
                let page = self.store.receipts(at, &room, of, after.as_deref(), count_max);
                self.tell(node, BrokerEvent::Receipts { request, page });
            }
            BrokerCommand::SetEntry { request, set } => {
                self.set_entry(node, mono_ms, request, &set)
            }
            BrokerCommand::Directory { request, directory, entries } => {
                let page = Some(self.store.directory(mono_ms, &directory, &entries));
                self.tell(node, BrokerEvent::Directory { request, page });
            }
            BrokerCommand::Reconnect { .. } => {}
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
            Lost::Cursors(room) => self.store.lose(room, Keys::Cursors),
            Lost::Presence(room) => self.store.lose(room, Keys::Presence),
            Lost::Receipts(room) => self.store.lose(room, Keys::Receipts),
            Lost::Session { user, session } => self.store.lose_session(user, session),
            Lost::Everything => self.store.lose_everything(),
        }
    }

    fn occupancies(&mut self, room: &RoomName) -> Vec<Occupancy> {
        let events = self.store.occupancies(partition(room));
        events.into_iter().map(|(_, event)| event).collect()
    }

    fn partition_of(&self, room: &RoomName) -> u16 {
        partition(room)
    }

    fn promote(&mut self) {
        self.master += 1;
        self.store.promote(self.master.into());
    }
}
