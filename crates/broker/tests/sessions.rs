//! Sessions that outlive their connection, on real servers: written, taken over, fenced, gone when their time is over.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::wildcard_enum_match_arm,
    clippy::indexing_slicing,
    reason = "helpers of tests fail as tests do"
)]

mod common;

use std::time::Duration;

use common::kept::{attach, save};
use common::{Real, Topology, options};
use roomcast_protocol::ids::{NodeId, SessionId};
use roomcast_protocol::position::{Epoch, Position};
use roomcast_protocol::relay::RelayMode;
use roomcast_protocol::room::RoomName;
use roomcast_protocol::session::{
    AttachSession, Former, ResumeToken, RoomRecord, SESSIONS_PER_USER_MAX, SaveSession,
    SavedSession, Secret, SessionRecord, SessionState, Unattached, WRITTEN_LATELY_MS, Wish,
};

const ONE: NodeId = NodeId(1);
const TWO: NodeId = NodeId(2);

fn token(session: u128, secret: u128) -> Wish {
    Wish::Token(ResumeToken { session: SessionId(session), secret: Secret(secret) })
}

fn record(rooms: &[&str]) -> SessionRecord {
    let safe = Some(Position { epoch: Epoch(7), offset: 9 });
    let room =
        |name: &&str| RoomRecord { room: RoomName::parse(name).unwrap(), safe, unacked: None };
    let own = RoomName::parse("user-ann").unwrap();
    let own = vec![RoomRecord { room: own, safe: None, unacked: Some(7) }];
    SessionRecord { rooms: rooms.iter().map(room).collect(), own }
}

fn two_nodes(topology: &Topology) -> Real {
    let mut broker = Real::new(options(topology, RelayMode::Pattern));
    broker.attach_node(ONE);
    broker.attach_node(TWO);
    broker
}

#[test]
fn a_session_is_taken_over_by_its_token_and_its_former_connection_is_fenced() {
    for topology in [Topology::standalone(), Topology::sentinel(), Topology::cluster()] {
        let mut broker = two_nodes(&topology);
        for user in ["ann", "bob", "gs:7", "群"] {
            let first = SaveSession { record: Some(record(&["news", "群-1"])), ..save(user, 5) };
            assert_eq!(broker.save(ONE, first.clone()), Some(SavedSession::Saved));
            assert_eq!(
                broker.take_over(TWO, attach(user, token(6, 5), &[])),
                Err(Unattached::Unknown)
            );
            assert_eq!(
                broker.take_over(TWO, attach("eve", token(5, 5), &[])),
                Err(Unattached::Unknown)
            );
            assert_eq!(
                broker.take_over(TWO, attach(user, token(5, 6), &[])),
                Err(Unattached::Token)
            );
            let taken = broker.take_over(TWO, attach(user, token(5, 5), &[])).unwrap();
            assert_eq!((taken.session, taken.generation), (SessionId(5), 2));
            assert_eq!(taken.record, record(&["news", "群-1"]));
            assert_eq!(taken.former, Former::Attached(ONE));
            assert_eq!(broker.save(ONE, first), Some(SavedSession::Fenced));
            // The secret before is good until the client has certainly got the new one.
            let again = broker.take_over(ONE, attach(user, token(5, 5), &[])).unwrap();
            assert_eq!((again.generation, again.former), (3, Former::Attached(TWO)));
            let secret = Secret(99);
            let own = SaveSession { generation: 3, secret, confirmed: true, ..save(user, 5) };
            assert_eq!(broker.save(ONE, own.clone()), Some(SavedSession::Saved));
            assert_eq!(
                broker.take_over(TWO, attach(user, token(5, 5), &[])),
                Err(Unattached::Token)
            );
            // Its turn to go elsewhere.
            let turn = SaveSession { turn: Some(Secret(8)), ..own };
            assert_eq!(broker.save(ONE, turn), Some(SavedSession::Saved));
            let moved = broker.take_over(TWO, attach(user, token(5, 8), &[ONE])).unwrap();
            assert_eq!((moved.generation, moved.former), (4, Former::HandedOver(ONE)));
            assert_eq!(moved.record, record(&["news", "群-1"]), "what nobody changed is kept");
            let state = SessionState::Ended;
            let over = SaveSession { generation: 4, state, secret, ..save(user, 5) };
            assert_eq!(broker.save(TWO, over), Some(SavedSession::Saved));
            assert_eq!(
                broker.take_over(ONE, attach(user, token(5, 99), &[])),
                Err(Unattached::Unknown)
            );
        }
    }
}

#[test]
fn without_a_token_only_the_one_that_has_no_connection_is_found() {
    let topology = Topology::standalone();
    let mut broker = two_nodes(&topology);
    let only = |alive: &[NodeId]| attach("ann", Wish::OnlyDetached, alive);
    assert_eq!(broker.take_over(TWO, only(&[])), Err(Unattached::NotOne));
    broker.save(ONE, save("ann", 1));
    assert_eq!(broker.take_over(TWO, only(&[ONE, TWO])), Err(Unattached::NotOne));
    let detached = SaveSession { state: SessionState::Detached, ..save("ann", 2) };
    broker.save(ONE, detached);
    let taken = broker.take_over(TWO, only(&[ONE, TWO])).unwrap();
    assert_eq!((taken.session, taken.former), (SessionId(2), Former::Gone));
    // Its node is gone, and for so long that it has not just begun.
    assert_eq!(broker.take_over(TWO, only(&[TWO])), Err(Unattached::NotOne));
    std::thread::sleep(Duration::from_millis(WRITTEN_LATELY_MS + 100));
    let taken = broker.take_over(TWO, only(&[TWO])).unwrap();
    assert_eq!((taken.session, taken.former), (SessionId(1), Former::Gone));
    // No secret was brought, so only the new one is good.
    assert_eq!(broker.take_over(ONE, attach("ann", token(1, 1), &[])), Err(Unattached::Token));
    assert!(broker.take_over(ONE, attach("ann", token(1, 99), &[])).is_ok());
}

#[test]
fn a_record_is_kept_for_one_window_and_with_a_connection_for_two() {
    let topology = Topology::standalone();
    let mut broker = two_nodes(&topology);
    let brief = |session, state| SaveSession { state, window_ms: 1_500, ..save("ann", session) };
    broker.save(ONE, brief(1, SessionState::Attached));
    broker.save(ONE, brief(2, SessionState::Detached));
    std::thread::sleep(Duration::from_millis(1_600));
    assert_eq!(broker.take_over(TWO, attach("ann", token(2, 2), &[])), Err(Unattached::Unknown));
    let again = attach("ann", token(1, 1), &[]);
    assert!(broker.take_over(TWO, again).is_ok());
    // That is for two windows of its own.
    std::thread::sleep(Duration::from_millis(1_600));
    let brief = AttachSession { window_ms: 1, ..attach("ann", token(1, 99), &[]) };
    assert!(broker.take_over(ONE, brief).is_ok());
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!(broker.take_over(ONE, attach("ann", token(1, 99), &[])), Err(Unattached::Unknown));
    let left = topology.texts(&["KEYS", "rc:*:session*"]);
    assert_eq!(left, Vec::<String>::new(), "nothing of it is left");
}

#[test]
fn a_user_has_as_many_sessions_as_may_be_and_one_more_ends_the_first() {
    let topology = Topology::standalone();
    let mut broker = two_nodes(&topology);
    let max = u128::try_from(SESSIONS_PER_USER_MAX).unwrap();
    let brief = |session: u128| {
        let window_ms = 60_000 + u64::try_from(session).unwrap();
        SaveSession { window_ms, ..save("ann", session) }
    };
    for session in 1..=max {
        broker.save(ONE, brief(session));
    }
    assert_eq!(topology.texts(&["KEYS", "rc:*:session:*"]).len(), SESSIONS_PER_USER_MAX);
    assert!(broker.take_over(TWO, attach("ann", token(1, 1), &[])).is_ok());
    // Which is kept longer than the others by that, no more.
    broker.save(ONE, brief(max + 1));
    assert_eq!(topology.texts(&["KEYS", "rc:*:session:*"]).len(), SESSIONS_PER_USER_MAX);
    let gone: Vec<_> = (1..=max + 1)
        .filter(|it| {
            let secret = if *it == 1 { 99 } else { *it };
            broker.take_over(TWO, attach("ann", token(*it, secret), &[])).is_err()
        })
        .collect();
    assert_eq!(gone.len(), 1, "{gone:?}");
}

#[test]
fn what_others_put_in_place_of_sessions_is_replaced() {
    let topology = Topology::standalone();
    let mut broker = two_nodes(&topology);
    let key = |kind: &str, name: &str| broker_key(&topology, &format!("rc:*:{kind}:{name}"));
    broker.save(ONE, save("ann", 1));
    let (index, one) = (key("sessions", "ann"), key("session", &SessionId(1).to_string()));
    let spoil = |key: &str, value: &[&str]| {
        topology.raw(&["DEL", key]);
        topology.raw(&[&[value[0], key][..], &value[1..]].concat());
    };
    for value in [&["RPUSH", "x"][..], &["SET", "nonsense"], &["SET", ""]] {
        spoil(&one, value);
        assert_eq!(
            broker.take_over(TWO, attach("ann", token(1, 1), &[])),
            Err(Unattached::Unknown)
        );
        assert_eq!(broker.save(ONE, save("ann", 1)), Some(SavedSession::Saved), "{value:?}");
        assert!(broker.take_over(TWO, attach("ann", token(1, 1), &[])).is_ok());
        spoil(&index, value);
        assert_eq!(
            broker.take_over(TWO, attach("ann", Wish::OnlyDetached, &[])),
            Err(Unattached::NotOne)
        );
        let state = SessionState::Detached;
        let secret = Secret(99);
        let anew = SaveSession { generation: 2, state, secret, ..save("ann", 1) };
        assert_eq!(broker.save(ONE, anew), Some(SavedSession::Saved));
        assert!(broker.take_over(TWO, attach("ann", Wish::OnlyDetached, &[])).is_ok());
        topology.raw(&["DEL", &one, &index]);
    }
    // A record that no node wrote: its client begins anew, it is not told that it is in no room.
    broker.save(ONE, save("ann", 1));
    topology.raw(&["APPEND", &one, "nonsense"]);
    assert_eq!(broker.take_over(TWO, attach("ann", token(1, 1), &[])), Err(Unattached::Unknown));
    // Names in the index that no session has.
    topology.raw(&["ZADD", &index, "9999999999999", "nonsense"]);
    let state = SessionState::Detached;
    let record = Some(record(&[]));
    broker.save(ONE, SaveSession { generation: 9, state, record, ..save("ann", 1) });
    assert!(broker.take_over(TWO, attach("ann", Wish::OnlyDetached, &[])).is_ok());
}

#[test]
fn a_generation_is_not_given_twice_although_records_were_lost() {
    for topology in [Topology::standalone(), Topology::cluster()] {
        let mut broker = two_nodes(&topology);
        let wish = || AttachSession { above: None, ..attach("ann", token(1, 1), &[]) };
        broker.save(ONE, save("ann", 1));
        let former = broker.take_over(TWO, wish()).unwrap().generation;
        topology.flush();
        // Generations follow the broker's clock, which counts milliseconds.
        std::thread::sleep(std::time::Duration::from_millis(2));
        // A connection from before that brings its own record back.
        broker.save(ONE, save("ann", 1));
        let newest = broker.take_over(ONE, wish()).unwrap().generation;
        assert!(newest > former, "{newest} {former}");
        let late = SaveSession { generation: former, secret: Secret(99), ..save("ann", 1) };
        assert_eq!(broker.save(TWO, late), Some(SavedSession::Fenced));
    }
}

#[track_caller]
fn broker_key(topology: &Topology, pattern: &str) -> String {
    let found = topology.texts(&["KEYS", pattern]);
    assert_eq!(found.len(), 1, "{pattern}: {found:?}");
    found[0].clone()
}

#[test]
fn records_of_a_session_are_written_in_their_order_although_the_first_has_to_be_repeated() {
    let topology = Topology::standalone();
    let mut broker = two_nodes(&topology);
    broker.save(ONE, save("ann", 1));
    let mut asked = Vec::new();
    // Longer than a command may take.
    topology.freeze(Duration::from_millis(1_300), || {
        for rooms in [&["a"][..], &["a", "b"], &["a", "b", "c"]] {
            let record = Some(record(rooms));
            asked.push(broker.save_without_waiting(ONE, SaveSession { record, ..save("ann", 1) }));
        }
    });
    for asked in asked {
        assert_eq!(broker.saved(ONE, asked), Some(SavedSession::Saved));
    }
    let taken = broker.take_over(TWO, attach("ann", token(1, 1), &[])).unwrap();
    assert_eq!(taken.record, record(&["a", "b", "c"]));
}

#[test]
fn while_redis_is_away_nothing_is_said_of_a_session() {
    let topology = Topology::standalone();
    let mut broker = two_nodes(&topology);
    broker.save(ONE, save("ann", 1));
    topology.kill();
    assert_eq!(broker.save(ONE, save("ann", 1)), None);
    let wish = attach("ann", token(1, 1), &[]);
    assert_eq!(broker.take_over(TWO, wish), Err(Unattached::Unavailable));
}
