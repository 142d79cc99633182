//! The broker contract, run for every broker there is.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use roomcast_broker::feed::FEED_BYTES_MAX;
use roomcast_broker::memory::DEDUP_TTL_MS;
use roomcast_broker::{AnyBroker, Feed, MemoryBroker, MemoryLimits};
use roomcast_protocol::contract::{
    BrokerUnderTest, Brought, DEDUP_MAX, FILL_COUNT, HISTORY, History, INBOX, Lost, OCCUPANCY,
    PRESENCE, Presence, RECEIPTS, SCRIPTS, SESSIONS, Traits, run,
};
use roomcast_protocol::envelope::{BrokerCommand, BrokerEvent};
use roomcast_protocol::ids::NodeId;
use roomcast_protocol::occupancy::Occupancy;
use roomcast_protocol::room::RoomName;

/// What an event weighs beside its publication.
const EVENT_BYTES: usize = 128;

struct Memory {
    broker: AnyBroker<u64>,
    feeds: HashMap<NodeId, Feed<BrokerEvent<u64>>>,
}

impl Memory {
    fn new() -> Self {
        let limits = MemoryLimits { dedup_max: DEDUP_MAX, ..MemoryLimits::default() };
        let broker = AnyBroker::Memory(MemoryBroker::with_limits(limits));
        Self { broker, feeds: HashMap::new() }
    }
}

#[allow(clippy::panic, reason = "what is never asked fails as tests do")]
impl BrokerUnderTest for Memory {
    fn attach(&mut self, node: NodeId) {
        self.feeds.insert(node, self.broker.attach(node, &Arc::default()));
    }

    fn detach(&mut self, node: NodeId) {
        self.broker.detach(node);
    }

    fn execute(&mut self, node: NodeId, mono_ms: u64, command: BrokerCommand<u64>) {
        if matches!(command, BrokerCommand::SetMarks { .. }) {
            // Each step of marks at a time of its own.
            std::thread::sleep(Duration::from_millis(2));
        }
        self.broker.execute(node, mono_ms, command);
    }

    fn drain(&mut self, node: NodeId) -> Brought {
        let mut events = Vec::new();
        let Some(feed) = self.feeds.get_mut(&node) else { return Brought { events, ended: true } };
        feed.try_recv_many(&mut events, usize::MAX);
        assert_eq!(feed.bytes(), 0, "an empty feed weighs nothing");
        Brought { events, ended: feed.has_ended() }
    }

    fn lose(&mut self, what: Lost<'_>) {
        panic!("a process keeps what it has: {what:?}");
    }

    fn occupancies(&mut self, room: &RoomName) -> Vec<Occupancy> {
        panic!("nobody asks a process for it: {room}");
    }

    fn partition_of(&self, _: &RoomName) -> u16 {
        0
    }

    fn promote(&mut self) {
        panic!("a process is its only master");
    }
}

fn traits() -> Traits {
    // What an event weighs beside its payload: itself, the publication's fixed parts, id, type and sender.
    let beside = EVENT_BYTES + 256 + "n0001".len() + "message".len() + "ann".len();
    Traits {
        dedup_ttl_ms: DEDUP_TTL_MS,
        fill_bytes: Some(FEED_BYTES_MAX / FILL_COUNT - beside),
        answers_apart: false,
        rooms_apart: false,
        history: History { beside_bytes: beside - EVENT_BYTES, loses: false, beats: false },
        presence: Presence { lease_ms: None, occupancies: false },
    }
}

#[test]
fn the_memory_broker_keeps_the_contract() {
    let state = [SESSIONS, PRESENCE, OCCUPANCY, INBOX, RECEIPTS];
    let scripts = SCRIPTS.iter().chain(HISTORY).chain(state.into_iter().flatten());
    let failed: Vec<_> =
        scripts.filter_map(|script| run(script, &traits(), Memory::new()).err()).collect();
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}
