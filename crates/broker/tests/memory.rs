//! What only the embedded broker does: its bounds, what it frees, and whose bytes it hands out.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::wildcard_enum_match_arm,
    reason = "helpers of tests fail as tests do"
)]

use std::sync::Arc;

use roomcast_broker::feed::FEED_BYTES_MAX;
use roomcast_broker::{Feed, MemoryBroker, MemoryLimits};
use roomcast_protocol::codes::{Refusal, Refused};
use roomcast_protocol::content::Content;
use roomcast_protocol::envelope::{Accepted, BrokerCommand, BrokerEvent, Envelope};
use roomcast_protocol::ids::NodeId;
use roomcast_protocol::position::{Keep, Kept, Page, Position, Span};
use roomcast_protocol::publication::Publication;
use roomcast_protocol::room::RoomName;
use roomcast_store::{ENTRY_BYTES, ID_BYTES, ROOM_BYTES};

const NODE: NodeId = NodeId(1);

const KEEP: Keep =
    Keep { size: 99, bytes_max: 1 << 30, ttl_ms: 1_000, replicated: false, inbox: None };

fn room(name: &str) -> RoomName {
    RoomName::parse(name).unwrap()
}

fn publication(name: &str, id: &str, bytes: usize) -> Arc<Publication> {
    Arc::new(Publication {
        id: id.into(),
        kind: "message".into(),
        timestamp: "1970-01-01T00:00:00.000Z".into(),
        sender: "ann".into(),
        ..Publication::bare(room(name), Content::Binary(vec![0; bytes].into()))
    })
}

/// What one kept publication costs in a room that is new. Units: bytes.
fn cost(publication: &Publication) -> u64 {
    ROOM_BYTES + ENTRY_BYTES + ID_BYTES + u64::try_from(publication.weight()).unwrap()
}

struct World {
    broker: MemoryBroker<u64>,
    feed: Feed<BrokerEvent<u64>>,
}

impl World {
    fn new(storage_bytes_max: u64) -> Self {
        let limits = MemoryLimits { storage_bytes_max, ..MemoryLimits::default() };
        let broker = MemoryBroker::with_limits(limits);
        let feed = broker.attach(NODE, &Arc::default());
        Self { broker, feed }
    }

    /// Everything that the feed has brought by now.
    fn events(&mut self) -> Vec<BrokerEvent<u64>> {
        let mut events = Vec::new();
        self.feed.try_recv_many(&mut events, usize::MAX);
        events
    }

    fn command(&self, mono_ms: u64, publication: &Arc<Publication>) {
        let publication = Arc::clone(publication);
        let command = BrokerCommand::Publish {
            ticket: 0,
            publication,
            dedup: false,
            keep: Some(KEEP),
            collapse: None,
        };
        self.broker.execute(NODE, mono_ms, command);
    }

    #[track_caller]
    fn publish(&mut self, mono_ms: u64, it: &Arc<Publication>) -> Result<Accepted, Refused> {
        self.command(mono_ms, it);
        let outcome = self.events().into_iter().find_map(|event| match event {
            BrokerEvent::Published { outcome, .. } => Some(outcome),
            _ => None,
        });
        outcome.unwrap()
    }

    #[track_caller]
    fn read(&mut self, mono_ms: u64, name: &str) -> Option<Page> {
        let span = Span::above(0);
        let command = BrokerCommand::Read { request: 0, room: room(name), keep: KEEP, span };
        self.broker.execute(NODE, mono_ms, command);
        let page = self.events().into_iter().find_map(|event| match event {
            BrokerEvent::Read { page, .. } => Some(page),
            _ => None,
        });
        page.unwrap()
    }

    #[track_caller]
    fn heads(&mut self, mono_ms: u64, names: &[&str]) -> Option<Vec<Position>> {
        let rooms = names.iter().map(|name| (room(name), KEEP)).collect();
        self.broker.execute(NODE, mono_ms, BrokerCommand::Heads { request: 0, rooms });
        let heads = self.events().into_iter().find_map(|event| match event {
            BrokerEvent::Heads { heads, .. } => Some(heads),
            _ => None,
        });
        heads.unwrap()
    }
}

#[test]
fn storage_is_used_to_its_last_byte_and_not_beyond() {
    let it = publication("a", "1", 1_000);
    assert!(World::new(cost(&it)).publish(0, &it).is_ok());
    let mut world = World::new(cost(&it) - 1);
    let refused = world.publish(0, &it).unwrap_err();
    assert_eq!(refused.refusal, Refusal::StorageFull);
    assert!(refused.message.contains(&(cost(&it) - 1).to_string()), "{}", refused.message);
    assert!(!refused.unknown && refused.retry_after_ms.is_none());
    let page = world.read(0, "a").unwrap();
    assert_eq!((page.head.position.offset, page.entries.len()), (0, 0));
}

#[test]
fn a_room_for_which_there_is_no_storage_is_not_answered_for() {
    let it = publication("a", "1", 0);
    let mut world = World::new(cost(&it) + ROOM_BYTES);
    world.publish(0, &it).unwrap();
    assert_eq!(world.heads(0, &["a", "b"]).unwrap().len(), 2);
    assert_eq!(world.heads(0, &["a", "c"]), None);
    assert_eq!(world.read(0, "c"), None);
    // Repeats need none, and other rooms' publications take none.
    assert!(world.publish(0, &it).is_ok());
    let ephemeral = publication("talk", "1", 0);
    let command = BrokerCommand::Publish {
        ticket: 0,
        publication: ephemeral,
        dedup: true,
        keep: None,
        collapse: None,
    };
    world.broker.execute(NODE, 0, command);
    let events = world.events();
    assert!(matches!(events.as_slice(), [_, BrokerEvent::Published { outcome: Ok(_), .. }]));
}

#[test]
fn what_is_over_is_freed_where_nothing_is_published_any_more() {
    let (it, other) = (publication("a", "1", 1_000), publication("b", "1", 1_000));
    // The room itself is known for longer.
    let mut world = World::new(cost(&it) + ROOM_BYTES);
    world.publish(0, &it).unwrap();
    let refused = world.publish(1_250, &other).unwrap_err();
    assert_eq!(refused.refusal, Refusal::StorageFull);
    // Ids are remembered for twice their time.
    world.publish(1_251 + 1_000 + 2 * 120_000, &other).unwrap();
    assert_eq!(world.read(250_000, "a").unwrap().head.position.offset, 1);
}

#[test]
fn one_publication_is_handed_out_with_its_position_to_feeds_and_pages() {
    let mut world = World::new(u64::MAX);
    let other = NodeId(2);
    let mut others = world.broker.attach(other, &Arc::default());
    let given = publication("a", "1", 5);
    world.command(0, &given);
    let mut heard = Vec::new();
    others.try_recv_many(&mut heard, usize::MAX);
    let page = world.read(0, "a").unwrap();
    let [BrokerEvent::Envelope(Envelope::Publication { publication, .. })] = heard.as_slice()
    else {
        panic!("{heard:?}")
    };
    let [Kept::Publication(kept)] = page.entries.as_slice() else { panic!("{page:?}") };
    assert!(Arc::ptr_eq(kept, publication));
    assert_eq!(kept.position, Some(page.head.position));
    assert_eq!(given.position, None, "its sender's copy stays as it was");
}

#[test]
fn a_page_that_does_not_fit_into_the_feed_is_not_given() {
    let mut world = World::new(u64::MAX);
    world.publish(0, &publication("a", "1", 100_000)).unwrap();
    // The next one fills the feed but for the answer to it.
    let rest = FEED_BYTES_MAX - 2 * 128 - publication("b", "2", 0).weight();
    world.command(0, &publication("b", "2", rest));
    assert_eq!(world.feed.bytes(), FEED_BYTES_MAX);
    let span = Span::above(0);
    let command = BrokerCommand::Read { request: 0, room: room("a"), keep: KEEP, span };
    world.broker.execute(NODE, 0, command);
    let events = world.events();
    assert!(matches!(events.last(), Some(BrokerEvent::Read { page: None, .. })));
    assert_eq!(world.read(0, "a").unwrap().entries.len(), 1);
}
