//! What rooms bring: each offset is given to the application once, in order, and each id once. Pure.

use crate::driver::LinkId;
use crate::event::{Position, Presence, Publication};
use crate::session::effect::Out;
use crate::session::event::{RoomState, SessionCounters, SessionEvent};
use crate::session::rooms::{Room, Rooms};
use crate::session::seen::Known;

/// Rooms that are remembered only for the ids in them.
const UNTOLD_MAX: usize = 1_024;

/// What becomes of a publication.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It was given to the application.
    Given,
    /// It is a repeat, or comes again.
    Dropped,
    /// It is a repeat of what was got, and the node does not know that yet.
    AckedBefore,
}

impl Rooms {
    /// A publication came over a connection.
    pub(crate) fn publication(
        &mut self,
        link: LinkId,
        publication: Box<Publication>,
        counters: &mut SessionCounters,
        out: &mut Out,
    ) -> Fate {
        if !self.map.contains_key(&publication.room) {
            // The node put the session there, and tells nothing of rooms that keep nothing.
            if self.map.len() >= UNTOLD_MAX {
                counters.delivered += 1;
                out.tell(SessionEvent::Publication(publication));
                return Fate::Given;
            }
            let mut room = Room::new(RoomState::Joined, true);
            room.on = Some(link);
            self.map.insert(publication.room.clone(), room);
        }
        let Some(room) = self.map.get_mut(&publication.room) else { return Fate::Dropped };
        if matches!(room.state, RoomState::Leaving | RoomState::Lost) {
            return Fate::Dropped;
        }
        if room.covered.is_none() && room.on.is_none() {
            // The node put the session there before this client asked, and gives what waits in an inbox at once.
            room.on = Some(link);
        }
        counters.redelivered += u64::from(publication.redelivered);
        let known = match publication.id.as_str() {
            "" => Known::New,
            id => room.seen.known(&self.keys, &publication.sender, id),
        };
        let at = publication.metadata.position();
        // What the node sends again for want of an ack is judged by its id alone, and moves nothing.
        let at = at.filter(|_| !publication.redelivered);
        match at.as_ref().map(|at| (at, order(room, link, at))) {
            None | Some((_, Order::Next)) => {}
            Some((_, Order::Covered)) => {
                counters.repeats_by_position += 1;
                return repeat(&publication, known);
            }
            Some((_, Order::Early)) => {
                counters.early += 1;
                return Fate::Dropped;
            }
            Some((at, Order::Hole)) => {
                counters.holes += 1;
                counters.gaps += 1;
                let position = Some(Position { offset: at.offset - 1, ..at.clone() });
                let name = Some(publication.room.clone());
                out.tell(SessionEvent::Gap { room: name, reason: "hole".into(), position });
            }
        }
        if let Some(at) = at
            && !room.covered.as_ref().is_some_and(|covered| covers(covered, &at))
        {
            room.covered = Some(at);
        }
        if known != Known::New {
            counters.repeats_by_id += 1;
            return repeat(&publication, known);
        }
        if !publication.id.is_empty() {
            room.seen.insert(&self.keys, self.ids_max, &publication.sender, &publication.id);
        }
        counters.delivered += 1;
        out.tell(SessionEvent::Publication(publication));
        Fate::Given
    }

    /// Offsets were covered without a delivery.
    pub(crate) fn skip(
        &mut self,
        link: LinkId,
        (name, to): (String, Position),
        (count, reasons): (u64, Vec<String>),
        counters: &mut SessionCounters,
        out: &mut Out,
    ) {
        let Some(room) = self.map.get_mut(&name) else { return };
        let count = match order(room, link, &to) {
            Order::Covered | Order::Early => return,
            // Some of them may have come over another connection.
            Order::Next | Order::Hole => match &room.covered {
                Some(was) if was.epoch == to.epoch => {
                    to.offset.saturating_sub(was.offset).min(count)
                }
                Some(_) | None => count,
            },
        };
        counters.skipped += count;
        room.covered = Some(to.clone());
        out.tell(SessionEvent::Skip { room: name, to, count, reasons });
    }

    /// Publications are lost.
    pub(crate) fn gap(
        &mut self,
        link: LinkId,
        name: Option<String>,
        (reason, position): (String, Option<Position>),
        counters: &mut SessionCounters,
        out: &mut Out,
    ) {
        if let Some(name) = &name {
            let Some(room) = self.map.get_mut(name) else { return };
            if let Some(at) = &position {
                match order(room, link, at) {
                    Order::Covered | Order::Early => return,
                    Order::Next | Order::Hole => room.covered = Some(at.clone()),
                }
            }
        }
        counters.gaps += 1;
        out.tell(SessionEvent::Gap { room: name, reason, position });
    }

    /// Users came or went. Two connections tell it twice.
    pub(crate) fn presence(&mut self, presence: Presence, out: &mut Out) {
        let room = self.map.get_mut(&presence.room);
        if let (Some(room), Some(version)) = (room, &presence.version) {
            if room.version.as_ref().is_some_and(|told| covers(told, version)) {
                return;
            }
            room.version = Some(version.clone());
        }
        out.tell(SessionEvent::Presence(presence));
    }

    /// The application has a publication. `false`: the node was told so before.
    pub(crate) fn acked(&mut self, name: &str, sender: &str, id: &str) -> bool {
        let Some(room) = self.map.get_mut(name) else { return true };
        let known = room.seen.known(&self.keys, sender, id);
        room.seen.acked(&self.keys, sender, id);
        known != Known::Acked
    }
}

/// Where a position stands.
enum Order {
    /// It is the one that follows.
    Next,
    /// It is covered.
    Covered,
    /// It comes from a connection whose word does not count (yet).
    Early,
    /// Some before it were left out.
    Hole,
}

fn order(room: &Room, link: LinkId, at: &Position) -> Order {
    match &room.covered {
        Some(covered) if covers(covered, at) => Order::Covered,
        _ if room.on != Some(link) => Order::Early,
        Some(covered) if covered.epoch == at.epoch && at.offset > covered.offset + 1 => Order::Hole,
        Some(_) | None => Order::Next,
    }
}

fn covers(covered: &Position, at: &Position) -> bool {
    covered.epoch == at.epoch && at.offset <= covered.offset
}

fn repeat(publication: &Publication, known: Known) -> Fate {
    match known {
        Known::Acked if publication.requires_ack => Fate::AckedBefore,
        Known::Acked | Known::Given | Known::New => Fate::Dropped,
    }
}
