//! Rooms that become occupied and vacated, as the application is told of them (G19): once known by their ids, the events of
//! each room alternate, whichever nodes tell them and whatever stops or dies; and in the end all are told.

use std::collections::{BTreeMap, BTreeSet};

use roomcast_protocol::occupancy::Occupancy;
use roomcast_protocol::position::Epoch;
use roomcast_protocol::room::RoomName;

use super::{Book, short};
use crate::world::{Event, World};

/// What the application was told.
#[derive(Debug, Default)]
pub(crate) struct Told {
    ids: BTreeSet<(RoomName, Epoch, u64)>,
    /// The newest event of each room.
    newest: BTreeMap<RoomName, Occupancy>,
    /// Servers lost steps, or went on beside each other: what rooms became in one epoch says nothing of another.
    forked: bool,
    /// The same of rooms whose presence was lost, and nothing else.
    lost: BTreeSet<RoomName>,
}

impl Told {
    fn begins_anew(&self, room: &RoomName) -> bool {
        self.forked || self.lost.contains(room)
    }
}

impl Book {
    /// Servers lost steps, or two of them go on from the same one.
    pub(crate) fn occupancies_forked(&mut self) {
        self.told.forked = true;
    }

    /// Who is in a room is lost, and with it whether anybody is.
    pub(crate) fn occupancy_lost(&mut self, room: RoomName) {
        self.told.lost.insert(room);
    }

    /// G19: the application is told an event. Says whether it knew its id.
    fn see_told(&mut self, event: &Occupancy) -> bool {
        let Occupancy { room, version, occupied } = event;
        if !self.told.ids.insert((room.clone(), version.epoch, version.offset)) {
            return true;
        }
        let newest = self.told.newest.insert(room.clone(), event.clone());
        let anew = self.told.begins_anew(room);
        let compared = newest.as_ref().filter(|it| it.version.epoch == version.epoch || !anew);
        let was = compared.map(|it| it.occupied);
        let begins = newest.is_none() && !anew;
        if was == Some(*occupied) || begins && !occupied {
            let about = [room.to_string()];
            self.violate("G19", &about, || format!("{event:?} is told behind {newest:?}"));
        }
        false
    }

    /// G19, when nobody has been there for long: that was told of each room.
    fn check_vacated(&mut self) {
        let mut newest = self.told.newest.values();
        let left = newest.find(|it| it.occupied && !self.told.begins_anew(&it.room)).cloned();
        if let Some(event) = left {
            let about = [event.room.to_string()];
            self.violate("G19", &about, || format!("nobody is told what came behind {event:?}"));
        }
    }
}

impl World {
    /// A node has an event to tell: that takes a moment, or as long as an application that does not answer is tried.
    pub(crate) fn tell_application(&mut self, node: usize, number: u64, event: Occupancy) {
        let in_ms = match self.random.below(40) {
            0 => self.random.range(1_000, 12_000),
            1..=8 => self.random.range(50, 500),
            _ => self.random.range(1, 50),
        };
        let life = self.nodes[node].life;
        let event = Box::new(event);
        self.at(self.now_ms + in_ms, Event::Tell { node, life, number, event });
    }

    /// The application has it; its answer is on the way.
    pub(crate) fn told_application(&mut self, node: usize, number: u64, event: &Occupancy) {
        self.trace.line(self.now_ms, || {
            let Occupancy { room, version, occupied } = event;
            let became = if *occupied { "occupied" } else { "vacated" };
            let version = format!("{}:{}", short(*version), version.offset);
            format!("node {node} tells that {room} is {became} at {version}")
        });
        let known = self.book.see_told(event);
        self.stats.occupancies_told += 1;
        self.stats.occupancies_again += u64::from(known);
        let told = crate::node::core::FromLane::Told(number);
        self.tell_core_from_lane(node, 64, told);
    }

    /// G19, in the end: nothing waits to be told, on masters and nodes.
    pub(crate) fn check_all_told(&mut self) {
        if !self.occupancy {
            return;
        }
        for partition in 0..crate::bus::PARTITIONS {
            let master = self.bus.masters[self.bus.owners[usize::from(partition)]];
            let store = &self.bus.servers[master].data.stores[usize::from(partition)];
            let waits = store.occupancies(partition);
            if let Some((number, event)) = waits.first() {
                let about = [event.room.to_string()];
                self.book.violate("G19", &about, || {
                    format!(
                        "{event:?} waits as {number} of partition {partition}, and nobody tells it"
                    )
                });
            }
        }
        self.book.check_vacated();
    }
}

#[cfg(test)]
mod tests {
    use roomcast_protocol::position::Position;

    use super::*;

    fn event(epoch: u128, offset: u64, occupied: bool) -> Occupancy {
        let version = Position { epoch: Epoch(epoch), offset };
        Occupancy { room: RoomName::parse("news").unwrap(), version, occupied }
    }

    fn verdict(events: &[(u128, u64, bool)], forked: bool) -> Option<String> {
        let mut book = Book::default();
        if forked {
            book.occupancies_forked();
        }
        for (epoch, offset, occupied) in events {
            book.see_told(&event(*epoch, *offset, *occupied));
        }
        book.check_vacated();
        book.violation.map(|it| it.text)
    }

    #[test]
    fn what_does_not_alternate_is_seen() {
        let whole = [(1, 1, true), (1, 3, false), (1, 4, true), (2, 9, false)];
        assert_eq!(verdict(&whole, false), None);
        let again = [&whole[..2], &whole[..2], &whole[2..]].concat();
        assert_eq!(verdict(&again, false), None, "by their ids they are known");
        for missing in 0..whole.len() {
            let mut some = whole.to_vec();
            some.remove(missing);
            assert!(verdict(&some, false).is_some(), "{missing}");
        }
        assert!(verdict(&[whole[1], whole[0], whole[2], whole[3]], false).is_some());
    }

    #[test]
    fn what_servers_lost_begins_anew_in_another_epoch_and_in_no_other_case() {
        assert_eq!(verdict(&[(1, 1, true), (2, 1, true)], true), None);
        assert!(verdict(&[(1, 1, true), (2, 1, true), (2, 2, false)], false).is_some());
        assert!(verdict(&[(1, 1, true), (1, 3, true)], true).is_some());
    }
}
