//! What only the embedded broker does about presence, sessions and inboxes: no lease ends by time, what is due is done
//! in its own turns, and a node that is gone takes along what it entered.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::wildcard_enum_match_arm,
    reason = "helpers of tests fail as tests do, and look for one event among all"
)]

use std::sync::Arc;

use roomcast_broker::{Feed, MemoryBroker, MemoryLimits};
use roomcast_protocol::content::Content;
use roomcast_protocol::envelope::{BeatReport, BrokerCommand, BrokerEvent, Envelope};
use roomcast_protocol::ids::{NodeId, SessionId};
use roomcast_protocol::inbox::{CursorName, CursorOf};
use roomcast_protocol::position::Keep;
use roomcast_protocol::presence::{
    Incarnation, Lease, PresenceChange, PresenceDiff, PresenceSet, SetPresence,
};
use roomcast_protocol::publication::Publication;
use roomcast_protocol::room::RoomName;
use roomcast_protocol::session::{SaveSession, SavedSession, Secret, SessionState};

const ONE: NodeId = NodeId(1);
const TWO: NodeId = NodeId(2);

const HOUR_MS: u64 = 3_600_000;

struct World {
    broker: MemoryBroker<u64>,
    feeds: [Feed<BrokerEvent<u64>>; 2],
    steps: u64,
}

/// Clients know what is put into an inbox by when that began, and by its offset: also after the process was started anew.
#[test]
fn an_epoch_begins_with_the_time_of_day() {
    let unix_ms = || {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        u64::try_from(since.unwrap().as_millis()).unwrap()
    };
    let room = RoomName::parse("user-ann").unwrap();
    let keep =
        Keep { size: 9, bytes_max: 1 << 20, ttl_ms: HOUR_MS, replicated: false, inbox: None };
    for mono_ms in [3_000, 9_000_000] {
        let mut world = World::new();
        let publication = Publication::bare(room.clone(), Content::Text("a".into())).into();
        let (ticket, dedup, keep, collapse) = (1, false, Some(keep), None);
        let before_ms = unix_ms();
        let publish = BrokerCommand::Publish { ticket, publication, dedup, keep, collapse };
        world.broker.execute(ONE, mono_ms, publish);
        let accepted = world.events(ONE).into_iter().find_map(|event| match event {
            BrokerEvent::Published { outcome, .. } => outcome.unwrap().position,
            _ => None,
        });
        let began_ms = accepted.unwrap().epoch.began_unix_ms();
        assert!((before_ms..=unix_ms()).contains(&began_ms), "{began_ms}");
    }
}

/// A beat of a node's first life that reads nothing.
fn beat(seq: u64) -> BrokerCommand<u64> {
    let (life, taken) = (1, Vec::new());
    BrokerCommand::Beat { seq, hears: true, life, retired: None, taken, told: None, reads: false }
}

impl World {
    fn new() -> Self {
        let broker = MemoryBroker::new();
        let feeds = [ONE, TWO].map(|node| broker.attach(node, &Arc::default()));
        Self { broker, feeds, steps: 0 }
    }

    /// What node 1's or node 2's feed has brought.
    fn events(&mut self, node: NodeId) -> Vec<BrokerEvent<u64>> {
        let mut events = Vec::new();
        let [one, two] = &mut self.feeds;
        let feed = if node == ONE { one } else { two };
        feed.try_recv_many(&mut events, usize::MAX);
        assert_eq!(feed.bytes(), 0, "an empty feed weighs nothing");
        events
    }

    fn diffs(&mut self, node: NodeId) -> Vec<Arc<PresenceDiff>> {
        let events = self.events(node).into_iter();
        let diffs = events.filter_map(|event| match event {
            BrokerEvent::Envelope(Envelope::Presence(diff)) => Some(diff),
            _ => None,
        });
        diffs.collect()
    }

    /// A step of node 1's or 2's first life: so many users come, or go.
    fn set(&mut self, now_ms: u64, node: NodeId, room: &str, users: u128, grace_ms: Option<u64>) {
        self.steps += 1;
        let changes = (1..=users).map(|it| PresenceChange {
            session: SessionId(it + (u128::from(node.0) << 64)),
            user: format!("u{it}").into(),
            generation: 1,
            present: grace_ms.is_none(),
        });
        let set = SetPresence {
            room: RoomName::system(room).unwrap(),
            incarnation: Incarnation { node, life: 1 },
            seq: self.steps,
            changes: changes.collect(),
            grace_ms: grace_ms.unwrap_or(0),
        };
        let command = BrokerCommand::SetPresence { request: 0, set: Box::new(set) };
        self.broker.execute(node, now_ms, command);
    }

    #[track_caller]
    fn beat(&mut self, now_ms: u64, node: NodeId) -> BeatReport {
        self.broker.execute(node, now_ms, beat(7));
        let report = self.events(node).into_iter().find_map(|event| match event {
            BrokerEvent::BeatAnswered { seq: 7, report } => report,
            BrokerEvent::Beat { .. } => panic!("nothing comes back over a link"),
            _ => None,
        });
        report.unwrap()
    }
}

#[test]
fn a_lease_holds_as_long_as_its_node_is_attached() {
    let mut world = World::new();
    world.set(0, ONE, "news", 2, None);
    assert_eq!(world.beat(0, ONE).lease, Lease::New, "no beat had renewed it before");
    let late = world.beat(HOUR_MS, ONE);
    assert_eq!((late.lease, late.links.len(), late.peers.len()), (Lease::Held, 0, 0));
    let diffs = world.diffs(TWO);
    assert_eq!(diffs.len(), 1, "they came, and nobody went");
}

#[test]
fn any_command_settles_what_is_due_and_the_next_beat_tells_of_it() {
    let mut world = World::new();
    world.set(0, ONE, "$agents", 1, None);
    world.set(0, ONE, "news", 1, None);
    world.set(10, ONE, "$agents", 1, Some(100));
    world.set(10, ONE, "news", 1, Some(100));
    world.broker.execute(TWO, 109, BrokerCommand::Unsubscribe(RoomName::parse("a").unwrap()));
    assert_eq!(world.diffs(TWO).len(), 2, "the grace is not over");
    world.broker.execute(TWO, 110, BrokerCommand::Unsubscribe(RoomName::parse("a").unwrap()));
    let (first, second) = (world.diffs(ONE), world.diffs(TWO));
    let rooms: Vec<_> = second.iter().map(|diff| diff.room.as_str()).collect();
    assert_eq!(rooms, ["$agents", "news"]);
    assert!(Arc::ptr_eq(&first[2], &second[0]), "nodes share one diff");
    let agents = world.beat(120, TWO).agents;
    let [came, gone] = agents.as_slice() else { panic!("{agents:?}") };
    assert_eq!((&*came.joined[0], &*gone.left[0], gone.room.as_str()), ("u1", "u1", "$agents"));
    assert!(world.beat(120, ONE).agents.is_empty(), "one node tells it");
}

#[test]
fn all_of_a_large_node_go_with_it_and_stay_gone() {
    let mut world = World::new();
    for at in 0..4 {
        world.set(0, ONE, &format!("room-{at}"), 512, None);
    }
    world.set(0, TWO, "room-0", 512, None);
    world.set(0, ONE, "$agents", 1, None);
    world.diffs(TWO);
    world.broker.detach(ONE);
    let diffs = world.diffs(TWO);
    let left: usize = diffs.iter().map(|diff| diff.left.len()).sum();
    assert_eq!(left, 3 * 512 + 1, "those who are elsewhere too stay");
    assert!(diffs.iter().all(|diff| diff.left.len() <= 500));
    assert_eq!(world.beat(0, TWO).agents.len(), 2, "that they came, and that they went");
    // Nobody is there to be told of the last one's.
    world.broker.detach(TWO);
    let again = NodeId(3);
    let mut feed = world.broker.attach(again, &Arc::default());
    world.broker.execute(again, 0, beat(9));
    let mut events = Vec::new();
    feed.try_recv_many(&mut events, usize::MAX);
    let [BrokerEvent::BeatAnswered { report: Some(report), .. }] = events.as_slice() else {
        panic!("{events:?}")
    };
    assert!(report.agents.is_empty());
}

#[test]
fn commands_of_a_node_that_is_gone_are_void() {
    let mut world = World::new();
    world.broker.detach(ONE);
    world.set(0, ONE, "news", 1, None);
    world.set(0, TWO, "news", 1, Some(0));
    let events = world.events(TWO);
    let [BrokerEvent::PresenceSet { outcome: Some(PresenceSet::Done(None)), .. }] =
        events.as_slice()
    else {
        panic!("{events:?}")
    };
}

#[test]
fn sessions_are_kept_however_full_the_storage_is() {
    let limits = MemoryLimits { storage_bytes_max: 0, ..MemoryLimits::default() };
    let broker = MemoryBroker::with_limits(limits);
    let mut feed = broker.attach(ONE, &Arc::default());
    let save = SaveSession {
        user: "ann".into(),
        session: SessionId(1),
        generation: 1,
        state: SessionState::Attached,
        secret: Secret(1),
        turn: None,
        confirmed: false,
        record: None,
        window_ms: 1_000,
        obeyed: None,
    };
    broker.execute(ONE, 0, BrokerCommand::Save { request: 1, save: Box::new(save) });
    let inbox = Some(CursorOf::User);
    let keep = Keep { size: 9, bytes_max: 9, ttl_ms: 9, replicated: false, inbox };
    let room = RoomName::parse("user-ann").unwrap();
    let cursor = CursorName { room: room.clone(), device: "".into() };
    broker.execute(ONE, 0, BrokerCommand::Inbox { request: 2, cursor, keep });
    let publication = Arc::new(Publication::bare(room, Content::Text("a".into())));
    broker.execute(
        ONE,
        0,
        BrokerCommand::Publish {
            ticket: 3,
            publication,
            dedup: true,
            keep: Some(keep),
            collapse: None,
        },
    );
    let mut events = Vec::new();
    feed.try_recv_many(&mut events, usize::MAX);
    let [
        BrokerEvent::Saved { request: 1, outcome: Some(SavedSession::Saved) },
        BrokerEvent::Inbox { request: 2, state: None },
        BrokerEvent::Published { ticket: 3, outcome: Err(_) },
    ] = events.as_slice()
    else {
        panic!("{events:?}")
    };
}
