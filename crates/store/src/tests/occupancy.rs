//! Events of occupied and vacated rooms: their bounds, and the edges of a reader's time.

use roomcast_protocol::ids::NodeId;
use roomcast_protocol::occupancy::{AskOccupancies, GivenOccupancies, HAND_MAX, HOLD_MS};
use roomcast_protocol::presence::SetPresence;

use super::super::*;
use super::presence::{at, change, life};
use super::{RULES, room};

const PARTITION: u16 = 1;
const ONE: NodeId = NodeId(1);
const TWO: NodeId = NodeId(2);

/// A store in which a room of the partition became occupied and vacated so many times, in turn.
fn store(events: u64) -> Store<u64> {
    let mut store = Store::new(RULES, 1);
    turn(&mut store, 1..=events);
    store
}

fn turn(store: &mut Store<u64>, steps: impl Iterator<Item = u64>) {
    for seq in steps {
        let changes = vec![change("u", 1, seq % 2 == 1)];
        let (room, incarnation) = (room("1a"), life(1, 1));
        store.set_presence(at(0), &SetPresence { room, incarnation, seq, changes, grace_ms: 0 });
    }
}

fn ask(told: u64, given: u64) -> AskOccupancies {
    AskOccupancies { partition: PARTITION, told, given, lost: 0, count_max: HAND_MAX }
}

fn numbers(given: &GivenOccupancies) -> Vec<u64> {
    given.events.iter().map(|(number, _)| *number).collect()
}

#[test]
fn as_many_events_are_kept_as_may_be_and_those_that_go_are_counted() {
    let max = u64::try_from(OCCUPANCIES_MAX).unwrap();
    let mut store = store(max);
    assert_eq!(store.occupancies(PARTITION).len(), OCCUPANCIES_MAX);
    let first = store.give_occupancies(0, ONE, &ask(0, 0));
    assert_eq!((first.lost, first.given), (0, u64::from(HAND_MAX)));
    // What a node was given stays; the next one goes.
    turn(&mut store, max + 1..=max + 2);
    let kept = store.occupancies(PARTITION);
    assert_eq!(kept.len(), OCCUPANCIES_MAX);
    assert_eq!((kept[0].0, kept[64].0, kept[OCCUPANCIES_MAX - 1].0), (1, 67, max + 2));
    let next = store.give_occupancies(0, ONE, &ask(64, 64));
    assert_eq!((next.lost, next.lost_known, next.anew), (2, 0, false));
    assert_eq!((numbers(&next)[0], next.given), (67, 130));
    // It is told until a reader knows.
    let known = AskOccupancies { lost: 2, ..ask(130, 130) };
    let (again, known) =
        (store.give_occupancies(0, ONE, &ask(64, 64)), store.give_occupancies(0, ONE, &known));
    assert_eq!((again.lost, again.lost_known, again.anew), (2, 0, true));
    assert_eq!((known.lost, known.lost_known), (2, 2));
}

#[test]
fn a_node_is_given_as_many_events_as_it_may_have() {
    for (events, more) in [(u64::from(HAND_MAX), 0), (u64::from(HAND_MAX) + 1, 1)] {
        let mut store = store(events);
        let all = AskOccupancies { count_max: u32::MAX, ..ask(0, 0) };
        let given = store.give_occupancies(0, ONE, &all);
        assert_eq!(given.events.len(), 64);
        assert_eq!(store.give_occupancies(0, ONE, &ask(0, 64)).events, []);
        assert_eq!(store.give_occupancies(0, ONE, &ask(1, 64)).events.len(), more);
    }
}

#[test]
fn a_reader_has_its_partition_until_its_last_millisecond() {
    for (now_ms, taken) in [(HOLD_MS - 1, false), (HOLD_MS, true)] {
        let mut store = store(2);
        assert!(store.give_occupancies(0, ONE, &ask(0, 0)).held);
        assert_eq!(store.unread(now_ms), if taken { vec![PARTITION] } else { Vec::new() });
        let given = store.give_occupancies(now_ms, TWO, &ask(0, 0));
        assert_eq!((given.held, given.anew, given.events.len() == 2), (taken, taken, taken));
        assert_eq!(store.give_occupancies(now_ms, ONE, &ask(1, 2)).held, !taken);
        let left = if taken { 2 } else { 1 };
        assert_eq!(store.occupancies(PARTITION).len(), left, "only the reader's word counts");
    }
}

#[test]
fn what_a_node_was_not_given_it_cannot_have_told() {
    let mut store = store(3);
    let some = AskOccupancies { count_max: 2, ..ask(0, 0) };
    assert_eq!(numbers(&store.give_occupancies(0, ONE, &some)), [1, 2]);
    let again = store.give_occupancies(0, ONE, &ask(3, 3));
    assert_eq!((numbers(&again), again.anew), (vec![1, 2, 3], true));
    assert!(!store.give_occupancies(0, ONE, &ask(3, 3)).held, "all is told");
    assert_eq!((store.unread(0), store.occupancies(PARTITION)), (Vec::new(), Vec::new()));
}

#[test]
fn of_the_systems_own_rooms_nothing_is_told() {
    let mut store = Store::<u64>::new(RULES, 1);
    let (room, incarnation) = (room("$agents"), life(1, 1));
    let changes = vec![change("7", 1, true)];
    let set = SetPresence { room, incarnation, seq: 1, changes, grace_ms: 0 };
    store.set_presence(at(0), &set);
    assert_eq!(store.unread(0), Vec::<u16>::new());
}
