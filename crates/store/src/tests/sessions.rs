//! What of sessions the contract's scripts are too coarse for: edges of windows, what is freed, clones.

use roomcast_protocol::ids::{NodeId, SessionId};
use roomcast_protocol::position::{Epoch, Position};
use roomcast_protocol::session::{
    AttachSession, AttachedSession, Former, ORDERS_MS, ResumeToken, RoomRecord,
    SESSIONS_PER_USER_MAX, SaveSession, SavedSession, Secret, SessionRecord, SessionState,
    Unattached, Wish,
};

use super::super::*;
use super::{RULES, room};

const NODE: NodeId = NodeId(1);

const WINDOW_MS: u64 = 1_000;

fn save(user: &str, session: u128, state: SessionState) -> SaveSession {
    SaveSession {
        user: user.into(),
        session: SessionId(session),
        generation: 1,
        state,
        secret: Secret(session),
        turn: None,
        confirmed: false,
        record: None,
        window_ms: WINDOW_MS,
        obeyed: None,
    }
}

fn take(store: &mut Store<u64>, now_ms: u64, session: u128) -> Result<AttachedSession, Unattached> {
    let (session, secret) = (SessionId(session), Secret(session));
    let attach = AttachSession {
        user: "ann".into(),
        wish: Wish::Token(ResumeToken { session, secret }),
        secret,
        alive: Vec::new(),
        window_ms: WINDOW_MS,
        above: None,
    };
    store.attach_session(now_ms, NODE, &attach)
}

#[test]
fn a_window_ends_at_its_last_millisecond() {
    for (state, ends_ms) in [(SessionState::Detached, 1_500), (SessionState::Attached, 2_500)] {
        for (now_ms, is_there) in [(ends_ms - 1, true), (ends_ms, false)] {
            let mut store = Store::new(RULES, 1);
            store.save_session(500, NODE, &save("ann", 1, state));
            assert_eq!(take(&mut store, now_ms, 1).is_ok(), is_there, "{state:?} {now_ms}");
        }
    }
}

#[test]
fn a_window_without_end_is_one() {
    let mut store = Store::new(RULES, 1);
    let forever = SaveSession { window_ms: u64::MAX, ..save("ann", 1, SessionState::Attached) };
    store.save_session(500, NODE, &forever);
    assert!(take(&mut store, u64::MAX - 1, 1).is_ok());
}

#[test]
fn positions_come_back_as_they_were_written() {
    let mut store = Store::new(RULES, 1);
    let record = |offset| SessionRecord {
        rooms: vec![RoomRecord {
            room: room("a"),
            safe: Some(Position { epoch: Epoch(7), offset }),
            unacked: Some(offset + 1),
        }],
        own: vec![RoomRecord { room: room("user-ann"), safe: None, unacked: None }],
    };
    let written = SaveSession { record: Some(record(9)), ..save("ann", 1, SessionState::Attached) };
    store.save_session(0, NODE, &written);
    store.save_session(0, NODE, &save("ann", 1, SessionState::Detached));
    let taken = take(&mut store, 0, 1).unwrap();
    let (generation, former) = (2, Former::Gone);
    let expected = AttachedSession { session: SessionId(1), generation, record: record(9), former };
    assert_eq!(taken, expected);
}

#[test]
fn what_is_over_is_freed_and_weighs_nothing() {
    let mut store = Store::<u64>::new(RULES, 1);
    let rooms = vec![RoomRecord { room: room("a-room"), safe: None, unacked: None }; 2];
    let record = Some(SessionRecord { rooms: rooms.clone(), own: rooms });
    for (user, session) in [("ann", 1), ("ann", 2), ("bob", 3), ("cid", 4)] {
        store.save_session(0, NODE, &save(user, session, SessionState::Detached));
    }
    assert_eq!(store.bytes(), 4 * SESSION_BYTES);
    let wider = SaveSession { record, ..save("cid", 4, SessionState::Attached) };
    store.save_session(0, NODE, &wider);
    assert_eq!(store.bytes(), 4 * SESSION_BYTES + 4 * (64 + 6));
    assert_eq!(store.sweep(999, 9), Swept::All);
    assert_eq!(store.session_count(), 4);
    assert_eq!(store.sweep(1_000, 1), Swept::Some);
    assert_eq!(store.session_count(), 2);
    assert_eq!(store.sweep(1_000, 1), Swept::All);
    assert_eq!(store.session_count(), 1);
    assert_eq!(store.sweep(2_000, 9), Swept::All);
    assert_eq!((store.session_count(), store.bytes()), (0, 0));
}

#[test]
fn a_user_has_a_bounded_number_of_sessions_and_others_have_theirs() {
    let mut store = Store::new(RULES, 1);
    let max = u128::try_from(SESSIONS_PER_USER_MAX).unwrap();
    for session in 1..=max {
        store.save_session(0, NODE, &save("ann", session, SessionState::Attached));
        store.save_session(0, NODE, &save("bob", session, SessionState::Attached));
    }
    assert_eq!(store.session_count(), 2 * SESSIONS_PER_USER_MAX);
    // It would be over before all others.
    store.save_session(1, NODE, &save("ann", max + 1, SessionState::Detached));
    assert_eq!(store.session_count(), 2 * SESSIONS_PER_USER_MAX);
    assert_eq!(take(&mut store, 1, max + 1), Err(Unattached::Unknown));
    assert!(take(&mut store, 1, 1).is_ok());
}

#[test]
fn generations_rise_with_time_so_that_none_comes_twice() {
    let mut store = Store::new(RULES, 1);
    let first = save("ann", 1, SessionState::Attached);
    store.save_session(0, NODE, &first);
    let former = take(&mut store, 500, 1).unwrap().generation;
    // All is lost; a connection from before that brings its own record back, and somebody takes that over.
    store.lose_everything();
    store.save_session(501, NODE, &first);
    let newest = take(&mut store, 502, 1).unwrap().generation;
    assert!(newest > former, "{newest} {former}");
    assert_eq!(take(&mut store, 502, 1).unwrap().generation, newest + 1, "one more at once");
    let late = SaveSession { generation: former, ..first };
    assert_eq!(store.save_session(503, NODE, &late), SavedSession::Fenced);
}

#[test]
fn a_clone_stays_as_it_was() {
    let mut store = Store::new(RULES, 1);
    store.save_session(0, NODE, &save("ann", 1, SessionState::Attached));
    let mut before = store.clone();
    assert_eq!(take(&mut store, 0, 1).unwrap().generation, 2);
    let late = save("ann", 1, SessionState::Attached);
    assert_eq!(store.save_session(0, NODE, &late), SavedSession::Fenced);
    assert_eq!(before.save_session(0, NODE, &late), SavedSession::Saved);
    store.lose_session("ann", SessionId(1));
    assert_eq!((store.session_count(), before.session_count()), (0, 1));
    before.lose_everything();
    assert_eq!((before.session_count(), before.bytes()), (0, 0));
}

#[test]
fn the_last_order_to_end_a_users_sessions_counts_for_as_long_as_orders_are_kept() {
    let mut store = Store::new(RULES, 1);
    let at = |offset| Position { epoch: Epoch(1), offset };
    let as_of =
        |obeyed| SaveSession { obeyed: Some(at(obeyed)), ..save("ann", 1, SessionState::Attached) };
    let begins = |store: &mut Store<u64>, now_ms, obeyed| {
        let outcome = store.save_session(now_ms, NODE, &as_of(obeyed));
        store.lose_session("ann", SessionId(1));
        outcome == SavedSession::Saved
    };
    store.end_sessions(500, "ann", at(7));
    store.end_sessions(900, "ann", at(6));
    let over_ms = 500 + ORDERS_MS;
    assert!(!begins(&mut store, over_ms - 1, 6));
    assert!(begins(&mut store, over_ms - 1, 7));
    assert!(begins(&mut store, over_ms, 0));
    // A later one counts from its own time on, and what is over is not kept.
    store.end_sessions(600, "ann", at(8));
    assert!(!begins(&mut store, over_ms, 7));
    store.end_sessions(over_ms + 100, "bob", at(1));
    assert!(begins(&mut store, over_ms + 100, 0));
    assert_eq!(store.sessions().endings_kept(), 1, "bob's");
}
