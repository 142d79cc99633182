//! Lanes whose queue was full: what a lane was not given is read from history once its queue has place again, and given
//! to that lane alone, in order. Until then nothing of that room goes there; members of ephemeral rooms are told.

use roomcast_protocol::envelope::BrokerCommand;
use roomcast_protocol::ids::LaneId;
use roomcast_protocol::outbound::Loss;
use roomcast_protocol::position::{Page, Position, Span};
use roomcast_protocol::room::RoomName;
use roomcast_protocol::time::Now;

use super::asks::{ASK_AGAIN_MS, Ask};
use super::repair::{item_of, message_of};
use super::{Hub, HubRoom, bit_of};
use crate::messages::{HubEffect, LaneMessage};

impl Hub {
    /// The queue of a lane had no place for this.
    pub fn dropped(&mut self, lane: LaneId, message: &LaneMessage) {
        let Some((name, position)) = message.droppable() else { return };
        self.counters.lane_drops += 1;
        let Some(position) = position else {
            if let Some(bit) = bit_of(lane) {
                self.deaf_lanes |= bit;
            }
            return;
        };
        let Some(track) = self.track_mut(name) else { return };
        // Of another epoch: the gap that the lane is told says it all.
        if track.at.is_some_and(|at| at.epoch == position.epoch) && position.offset > 0 {
            track.fall_behind(lane, position.at(position.offset - 1));
            self.behind.insert((lane, name.clone()));
        }
    }

    /// The queue of a lane is half empty again: what it was not given follows.
    pub fn drained(&mut self, lane: LaneId, out: &mut Vec<HubEffect>) {
        let bit = bit_of(lane).unwrap_or(0);
        if self.deaf_lanes & bit != 0 {
            self.deaf_lanes &= !bit;
            out.push(HubEffect::Lane(lane, LaneMessage::Lost(Loss::Overload)));
        }
        let behind = self.behind.iter().filter(|(other, _)| *other == lane);
        let names: Vec<_> = behind.map(|(_, name)| name.clone()).collect();
        for name in names {
            let Some(track) = self.track_mut(&name) else { continue };
            let Some(behind) = track.behind.iter_mut().find(|it| it.lane == lane) else { continue };
            if !std::mem::replace(&mut behind.drained, true) && behind.asked.is_none() {
                self.asks.refills.push_back((lane, name));
            }
        }
    }

    pub(super) fn ask_refill(&mut self, lane: LaneId, name: RoomName, out: &mut Vec<HubEffect>) {
        let Some(track) = self.rooms.get_mut(&name).and_then(|room| room.track.as_mut()) else {
            return;
        };
        let keep = track.keep;
        let Some(behind) = track.behind.iter_mut().find(|it| it.lane == lane) else { return };
        if behind.asked.is_some() || !behind.drained {
            return;
        }
        let request = self.asks.next_id(Ask::Refill(lane, name.clone()));
        behind.asked = Some(request);
        let span = Span::above(behind.at.offset);
        self.counters.repair_reads += 1;
        out.push(HubEffect::Broker(BrokerCommand::Read { request, room: name, keep, span }));
    }

    /// What a lane was not given, or some of it, was read.
    pub(super) fn refilled(
        &mut self,
        now: Now,
        (lane, name): (LaneId, &RoomName),
        (request, page): (u64, Option<Page>),
        out: &mut Vec<HubEffect>,
    ) {
        let Some(track) = self.track_mut(name) else { return };
        let Some(at) = track.at else { return };
        let found = track.behind.iter_mut().find(|it| it.asked == Some(request));
        let Some(behind) = found else { return };
        behind.asked = None;
        if !behind.drained {
            return; // its queue has filled again meanwhile
        }
        let mut given = behind.at;
        let Some(page) = page else {
            return self.refill_later(now, lane, name);
        };
        if page.head.position.epoch != at.epoch {
            self.want_head(name); // if it is a new one, that says it all
            return self.refill_later(now, lane, name);
        }
        for kept in page.entries {
            let Some(position) = kept.position().map(|it| at.at(it.offset)) else { continue };
            if position.offset <= given.offset || position.offset > at.offset {
                continue;
            }
            if position != given.next() {
                out.push(gap_for(lane, name, at.at(position.offset - 1), Loss::TooOld));
            }
            given = position;
            out.push(HubEffect::Lane(lane, message_of(name, position, item_of(kept))));
        }
        let head = page.head.position.offset.min(at.offset);
        if page.whole && given.offset < head {
            // Not kept any more.
            given = at.at(head);
            out.push(gap_for(lane, name, given, Loss::TooOld));
        }
        let Some(track) = self.track_mut(name) else { return };
        if given == at {
            track.behind.retain(|behind| behind.lane != lane);
            self.behind.remove(&(lane, name.clone()));
        } else if let Some(behind) = track.behind.iter_mut().find(|it| it.lane == lane) {
            behind.at = given;
            if behind.drained {
                self.asks.refills.push_back((lane, name.clone()));
            }
        }
    }

    fn refill_later(&mut self, now: Now, lane: LaneId, name: &RoomName) {
        self.asks.rest_ms = now.mono_ms + ASK_AGAIN_MS;
        self.asks.refills.push_back((lane, name.clone()));
    }

    /// A room is heard no more: what was held and wanted for it goes.
    pub(super) fn forget_track(&mut self, name: &RoomName, room: &HubRoom) {
        let Some(track) = &room.track else { return };
        self.kept.remove(name);
        self.asks.held_bytes -= track.held_bytes();
        for behind in &track.behind {
            self.behind.remove(&(behind.lane, name.clone()));
        }
    }
}

fn gap_for(lane: LaneId, name: &RoomName, position: Position, loss: Loss) -> HubEffect {
    HubEffect::Lane(lane, LaneMessage::Gap { room: name.clone(), position, loss })
}
