//! Rooms that became occupied and vacated, as a hub is given them and has them told.
//!
//! `answer 1 unread=3,4` names partitions with events; `given 3 [anew] 7=+news.1 8=-news.2 [to=8] [lost=5/2]` answers the
//! question for partition 3: events by the broker's numbers, of a room and its version, up to which number, how many were
//! lost and how many of these are known; `given 3 other` says that another node reads it, `given 3 none` is no answer.
//! `told 1` is the shell's word.

use std::collections::VecDeque;

use roomcast_protocol::occupancy::{AskOccupancies, GivenOccupancies, HAND_MAX, Occupancy};

use super::*;
use crate::hub::{READING_MAX, RENEW_MS, UNTOLD_MAX};

#[derive(Default)]
pub(super) struct Book {
    /// Questions that were not answered: number and partition.
    pub(super) asked: VecDeque<(u64, u16)>,
}

pub(super) fn partitions(list: &str) -> Vec<u16> {
    list.split(',').filter_map(|it| it.parse().ok()).collect()
}

pub(super) fn asked(ask: &AskOccupancies) -> String {
    let AskOccupancies { partition, told, given, lost, count_max } = ask;
    let lost = if *lost > 0 { format!(" lost {lost}") } else { String::new() };
    let back = if *count_max == 0 { " and no more" } else { "" };
    assert!([0, HAND_MAX].contains(count_max));
    format!("events? {partition} told {told} of {given}{lost}{back}")
}

pub(super) fn shown(event: &Occupancy) -> String {
    let sign = if event.occupied { '+' } else { '-' };
    format!("{sign}{} {}", event.room, shown_at(event.version))
}

/// `7=+news.1`, in epoch 1 or `7=+news.1.2`.
fn event(text: &str) -> Option<(u64, Occupancy)> {
    let (number, rest) = text.split_once('=')?;
    let number = number.parse().ok()?;
    let occupied = rest.starts_with('+');
    let mut parts = rest.get(1..)?.split('.');
    let room = room(parts.next()?);
    let offset = parts.next()?.parse().unwrap();
    let epoch = Epoch(parts.next().map_or(1, |epoch| epoch.parse().unwrap()));
    Some((number, Occupancy { room, version: Position { epoch, offset }, occupied }))
}

impl World {
    pub(super) fn occupancy_event(&mut self, line: &str) -> BrokerEvent<Ticket> {
        let words: Vec<_> = line.split(' ').collect();
        let partition = words[1].parse().unwrap();
        let at = self.occupancies.asked.iter().position(|(_, it)| *it == partition);
        let (request, _) = at.and_then(|at| self.occupancies.asked.remove(at)).unwrap();
        if words.contains(&"none") {
            return BrokerEvent::Occupancies { request, given: None };
        }
        if words.contains(&"other") {
            let given = Some(GivenOccupancies::default());
            return BrokerEvent::Occupancies { request, given };
        }
        let events: Vec<_> = words.iter().filter_map(|word| event(word)).collect();
        let last = events.last().map(|(number, _)| *number);
        let (lost, known) = option(line, "lost").map_or((0, 0), |lost| {
            let (lost, known) = lost.split_once('/').unwrap();
            (lost.parse().unwrap(), known.parse().unwrap())
        });
        let given = GivenOccupancies {
            held: true,
            anew: words.contains(&"anew"),
            given: option(line, "to").map_or(last.unwrap_or_default(), |to| to.parse().unwrap()),
            lost,
            lost_known: known,
            events,
        };
        BrokerEvent::Occupancies { request, given: Some(given) }
    }

    fn reading(watched: bool) -> Self {
        let config = HubConfig { occupancy: true, ..config(0, watched) };
        Self::with(Hub::new(config, Arc::new(Rules)))
    }

    /// Takes these steps, and answers with what the hub wanted, beats left out.
    fn after(&mut self, lines: &str) -> Vec<String> {
        self.seen.clear();
        lines.split("; ").for_each(|line| self.step(line));
        self.seen.iter().filter(|line| !line.starts_with("beat")).cloned().collect()
    }
}

#[test]
fn events_are_told_in_the_order_of_each_room_and_the_broker_hears_up_to_where() {
    let mut world = World::reading(false);
    world.step("at 0");
    assert_eq!(world.seen, ["beat 1 hears reads"]);
    assert_eq!(world.after("answer 1 unread=3"), ["events? 3 told 0 of 0"]);
    let given = "given 3 anew 5=+news.1 6=+talk.4 8=-news.2 9=+news.3";
    assert_eq!(world.after(given), ["tell 1 of 3: +news 1", "tell 2 of 3: +talk 4"]);
    assert_eq!(world.hub.presence_sizes().untold, 4);
    assert_eq!(world.after("told 2; told 2; told 99"), [""; 0]);
    assert_eq!(world.after("at 1000"), ["events? 3 told 4 of 9"], "one of news is in front");
    assert_eq!(world.after("told 3; told 1"), ["tell 3 of 3: -news 2"], "3 has not its turn");
    assert_eq!(world.after("given 3 10=+talk.6 to=10"), ["tell 5 of 3: +talk 6"]);
    let next = ["tell 4 of 3: +news 3", "events? 3 told 8 of 10"];
    assert_eq!(world.after("at 1999; told 3; at 2000"), next);
    assert_eq!(world.after("told 4; told 5"), [""; 0], "the question is under way");
    // All is told: it says so at once.
    assert_eq!(world.after("given 3 to=10"), ["events? 3 told 10 of 10"]);
    assert_eq!(world.after("given 3 other; at 9000"), [""; 0]);
    assert_eq!(world.hub.presence_sizes().untold, 0);
}

#[test]
fn a_reader_asks_again_every_second_however_long_telling_takes() {
    let mut world = World::reading(false);
    world.after("at 0; answer 1 unread=3; given 3 anew 5=+news.1");
    for second in 1..=300 {
        let lines = format!("at {}", RENEW_MS * second);
        assert_eq!(world.after(&lines), ["events? 3 told 4 of 5"]);
        assert_eq!(world.after("given 3 to=5"), [""; 0]);
    }
    // Nor is it waited for an answer that does not come.
    assert_eq!(world.after("at 301000; given 3 none; at 302000").len(), 2);
}

#[test]
fn what_another_node_tells_is_told_here_only_as_far_as_it_was_begun() {
    let mut world = World::reading(false);
    world.after("at 0; answer 1 unread=3; given 3 anew 5=+news.1 6=-news.2");
    assert_eq!(world.after("at 1000; given 3 other"), ["events? 3 told 4 of 6"]);
    assert_eq!(world.hub.presence_sizes().untold, 1);
    assert_eq!(world.after("told 1"), [""; 0], "the second is the other's");
    assert_eq!(world.hub.presence_sizes().untold, 0);
    assert_eq!(world.after("at 5000"), [""; 0]);
}

#[test]
fn what_is_given_once_more_is_told_once() {
    let mut world = World::reading(false);
    world.after("at 0; answer 1 unread=3; given 3 anew 5=+news.1 6=-news.2");
    // An answer was lost on the way, or the node was not the reader for a while.
    assert_eq!(world.after("at 1000; given 3 anew 5=+news.1 6=-news.2 7=+news.3").len(), 1);
    assert_eq!(world.after("told 1"), ["tell 2 of 3: -news 2"]);
    assert_eq!(world.after("at 2000; given 3 other; at 3000"), ["events? 3 told 5 of 7"]);
    // It is with the shell still, when the node becomes the reader again.
    assert_eq!(world.after("answer 3 unread=3"), ["events? 3 told 0 of 0"]);
    assert_eq!(world.after("given 3 anew 6=-news.2 7=+news.3"), [""; 0]);
    assert_eq!(world.after("told 2"), ["tell 4 of 3: +news 3"]);
    assert_eq!(world.after("told 4"), ["events? 3 told 7 of 7"]);
}

#[test]
fn what_changes_nothing_for_a_room_because_something_was_lost_is_not_told() {
    let mut world = World::reading(false);
    world.after("at 0; answer 1 unread=3");
    let given = "given 3 anew lost=3/1 5=+news.1 6=+news.4 7=+news.1.2 8=-news.2.2";
    assert_eq!(world.after(given), ["tell 1 of 3: +news 1"]);
    assert_eq!(world.hub.counters().occupancies_lost, 2);
    assert_eq!(world.after("told 1"), ["tell 2 of 3: -news 2 of 2"]);
    // Told is up to the one that has yet to be told, and what is lost is counted once.
    assert_eq!(world.after("at 1000"), ["events? 3 told 7 of 8 lost 3"]);
    world.after("given 3 to=8 lost=4/3; at 2000; given 3 to=8 lost=4/4");
    assert_eq!(world.hub.counters().occupancies_lost, 3);
}

#[test]
fn only_a_hub_that_is_asked_to_reads() {
    let mut world = World::watched();
    world.after("auto over=1; up 1; at 3000");
    assert!(world.after("answer 99 unread=3; at 4000").is_empty());
    let mut world = World::new(0);
    world.step("enters crowd 1/ann");
    assert_eq!(world.after("answer 1 unread=3; at 4000"), [""; 0]);
}

#[test]
fn nothing_is_read_on_its_own_nor_without_a_lease() {
    let mut world = World::reading(true);
    world.after("auto over=1; up 1; at 3000");
    assert_eq!(world.after("answer 99 unread=3"), ["events? 3 told 0 of 0"]);
    world.after("given 3 anew 5=+news.1");
    // Cut off it tells what it has, and asks nothing.
    world.after("auto away; at 5000; given 3 none");
    assert_eq!(world.hub.state(), RelayState::Isolated);
    let seen = world.after("at 9000; told 1; at 12000");
    assert!(!seen.iter().any(|it| it.starts_with("events?")), "{seen:?}");
    let seen = world.after("auto over=1; at 16000");
    assert!(seen.contains(&"events? 3 told 5 of 5".to_owned()), "{seen:?}");
    world.after("given 3 other");
    // The lease has ended, and the life that begins then has yet to be taken.
    world.hub.lives = super::super::lease::Lives::new(true);
    assert_eq!(world.after("answer 0 unread=4"), [""; 0]);
}

#[test]
fn a_node_reads_as_many_partitions_as_it_may_and_gives_one_back_for_the_next() {
    let mut world = World::reading(false);
    world.step("at 0");
    let list = |count: usize| (1..=count).map(|it| it.to_string()).collect::<Vec<_>>().join(",");
    let asked = world.after(&format!("answer 1 unread={}", list(READING_MAX)));
    assert_eq!(asked.len(), READING_MAX);
    for partition in 1..=READING_MAX {
        world.after(&format!("given {partition} anew 1=+room-{partition}.1"));
    }
    assert_eq!(world.after(&format!("answer 2 unread={}", list(READING_MAX + 2))), [""; 0]);
    assert_eq!(world.after("told 1"), ["events? 1 told 1 of 1 and no more"]);
    assert_eq!(world.after("given 1 other"), ["events? 17 told 0 of 0"]);
    world.after("given 17 anew 1=+room-17.1; told 2");
    assert_eq!(world.after("given 2 other"), ["events? 18 told 0 of 0"]);
    // Nobody waits any more.
    assert_eq!(world.after("told 3"), ["events? 3 told 1 of 1"]);
}

#[test]
fn a_node_has_as_many_untold_events_as_it_may() {
    let mut world = World::reading(false);
    world.step("at 0");
    let all = (1..=READING_MAX).map(|it| it.to_string()).collect::<Vec<_>>().join(",");
    world.after(&format!("answer 1 unread={all}"));
    let given = |partition: usize, rooms: &str| {
        let events = (1..=HAND_MAX).map(|it| format!(" {it}=+{rooms}-{it}.1"));
        format!("given {partition} anew{}", events.collect::<String>())
    };
    for partition in 1..=READING_MAX {
        world.after(&given(partition, &format!("r{partition}")));
    }
    assert_eq!(world.hub.presence_sizes().untold, UNTOLD_MAX);
    // What it had of a partition is another's, and it is given others of it: there is place for one of them.
    world.after("at 1000; told 64");
    assert_eq!(world.after(&given(1, "new")), ["tell 1025 of 1: +new-1 1"]);
    assert_eq!(world.hub.presence_sizes().untold, UNTOLD_MAX);
    // It says what it took, so that the broker gives the rest once more.
    let asked = world.after("at 2000");
    assert_eq!(asked, ["events? 1 told 0 of 1"], "all others are under way");
    assert_eq!(world.after("given 1 other; answer 3 unread=20"), [""; 0]);
    assert_eq!(world.after("told 1"), ["events? 20 told 0 of 0"]);
}
