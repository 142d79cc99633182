//! Which lanes hear which room, and what the broker has confirmed of it (INV-4).

use roomcast_protocol::ids::LaneId;
use roomcast_protocol::outbound::Loss;
use roomcast_protocol::room::RoomName;
use roomcast_protocol::time::Now;

use super::track::Track;
use super::watch::RelayState;
use super::{Deadline, Hub, HubRoom, NEVER, Unconfirmed, bit_of, each_lane};
use crate::messages::{HubEffect, LaneMessage};

impl Hub {
    pub(super) fn subscribed(&mut self, name: &RoomName, request: u64, out: &mut Vec<HubEffect>) {
        let Some(room) = self.rooms.get(name).filter(|room| room.request == request) else {
            return;
        };
        if let Some(unconfirmed) = self.unconfirmed.get(&request)
            && room.track.is_none()
            && !self.isolated
        {
            // Lanes that were answered while the node was on its own: since then the room was not heard.
            for lane in each_lane(room.lanes & !unconfirmed.waiting) {
                out.push(HubEffect::Lane(lane, LaneMessage::Lost(Loss::Feed)));
            }
        }
        self.confirm(request, out);
    }

    /// All requests up to this one are in force.
    pub(super) fn confirm_up_to(&mut self, request: u64, out: &mut Vec<HubEffect>) {
        while let Some((&first, _)) = self.unconfirmed.range(..=request).next() {
            self.confirm(first, out);
        }
    }

    pub(super) fn confirm(&mut self, request: u64, out: &mut Vec<HubEffect>) {
        if let Some(Unconfirmed { room, waiting }) = self.unconfirmed.remove(&request) {
            answer_joins(&room, waiting, out);
            // Also where it is known already: that was before the room was heard.
            self.want_head(&room);
            self.roster_is_heard(&room);
        }
    }

    /// Nothing can be confirmed for now: all rooms count as live.
    pub(super) fn answer_unconfirmed(&mut self, out: &mut Vec<HubEffect>) {
        for Unconfirmed { room, waiting } in self.unconfirmed.values_mut() {
            answer_joins(room, std::mem::take(waiting), out);
        }
        for name in &self.kept {
            let track = self.rooms.get(name).and_then(|room| room.track.as_ref());
            for lane in each_lane(track.map_or(0, |track| track.waiting)) {
                out.push(not_live(lane, name));
            }
        }
    }

    pub(super) fn join(&mut self, lane: LaneId, name: RoomName, out: &mut Vec<HubEffect>) {
        let Some(bit) = bit_of(lane) else { return };
        let isolated = self.state() == RelayState::Isolated;
        if !self.rooms.contains_key(&name) {
            let track = self.keep_of(&name).map(|keep| Box::new(Track::new(keep)));
            if track.is_some() {
                self.kept.insert(name.clone());
            }
            self.requests += 1;
            let request = self.requests;
            self.subscribe(&name, request, out);
            let room = HubRoom { lanes: 0, until_ms: NEVER, request, track };
            self.rooms.insert(name.clone(), room);
        }
        let Some(room) = self.rooms.get_mut(&name) else { return };
        let until_ms = std::mem::replace(&mut room.until_ms, NEVER);
        if until_ms != NEVER {
            self.deadlines.remove(&(until_ms, Deadline::Room(name.clone())));
        }
        room.lanes |= bit;
        if let Some(track) = &mut room.track {
            match track.at {
                Some(position) => {
                    let position = Some(position);
                    let joined = LaneMessage::Joined { room: name, position, live: true };
                    out.push(HubEffect::Lane(lane, joined));
                }
                None => {
                    track.waiting |= bit;
                    if isolated {
                        out.push(not_live(lane, &name));
                    }
                }
            }
        } else if !isolated && let Some(unconfirmed) = self.unconfirmed.get_mut(&room.request) {
            unconfirmed.waiting |= bit;
        } else {
            out.push(HubEffect::Lane(lane, joined(name)));
        }
    }

    pub(super) fn leave(&mut self, now: Now, lane: LaneId, name: &RoomName) {
        let Some(bit) = bit_of(lane) else { return };
        let Some(room) = self.rooms.get_mut(name) else { return };
        room.lanes &= !bit;
        if let Some(track) = &mut room.track {
            track.waiting &= !bit;
            track.behind.retain(|behind| behind.lane != lane);
            self.behind.remove(&(lane, name.clone()));
        }
        if let Some(unconfirmed) = self.unconfirmed.get_mut(&room.request) {
            unconfirmed.waiting &= !bit;
        }
        if room.lanes == 0 && room.until_ms == NEVER {
            let at = now.mono_ms.saturating_add(self.config.linger_ms).min(NEVER - 1);
            room.until_ms = at;
            self.deadlines.insert((at, Deadline::Room(name.clone())));
        }
    }
}

/// The broker is away: the room's position follows.
fn not_live(lane: LaneId, name: &RoomName) -> HubEffect {
    let room = name.clone();
    HubEffect::Lane(lane, LaneMessage::Joined { room, position: None, live: false })
}

fn joined(room: RoomName) -> LaneMessage {
    LaneMessage::Joined { room, position: None, live: true }
}

fn answer_joins(room: &RoomName, lanes: u64, out: &mut Vec<HubEffect>) {
    for lane in each_lane(lanes) {
        out.push(HubEffect::Lane(lane, joined(room.clone())));
    }
}
