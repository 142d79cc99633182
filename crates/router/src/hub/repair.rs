//! Puts in place what comes for rooms that keep their publications (G7, G8): lanes are given an unbroken run, holes are
//! made up for from history, and loss that cannot be made up for is told.

use roomcast_protocol::envelope::Moved;
use roomcast_protocol::outbound::{Loss, SkipReason};
use roomcast_protocol::position::{Kept, Page, Position};
use roomcast_protocol::room::RoomName;
use roomcast_protocol::time::Now;

use super::asks::{ASK_AGAIN_MS, Ask, REPAIR_MS, page_for};
use super::track::{HELD_BYTES_MAX, Item, Placed, Track};
use super::watch::RelayState;
use super::{CONTROL, Hub, each_lane};
use crate::messages::{HubEffect, LaneMessage};
use crate::reader::Reader;
use crate::talks::Heard;

impl Hub {
    /// Something came for a room that keeps its publications.
    pub(super) fn placed(
        &mut self,
        now: Now,
        name: &RoomName,
        position: Position,
        item: Item,
        out: &mut Vec<HubEffect>,
    ) {
        let Some(room) = self.rooms.get_mut(name) else { return self.counters.unwanted += 1 };
        let idle = room.is_idle();
        let Some(track) = &mut room.track else { return };
        match track.place(position) {
            Placed::Known => return self.counters.repeated += 1,
            Placed::Unwanted => return self.counters.unwanted += 1,
            Placed::Next => {
                let holds = track.held_bytes() > 0;
                self.give(name, position, &item, out);
                if holds {
                    self.release(now, name, out);
                }
                return;
            }
            Placed::Early => {}
        }
        #[cfg(feature = "planted")]
        if self.slips(name, position, &item, out) {
            return;
        }
        let Some(room) = self.rooms.get_mut(name) else { return };
        let Some(track) = &mut room.track else { return };
        let same_epoch = track.at.is_some_and(|at| at.epoch == position.epoch);
        if same_epoch && idle {
            // Nobody hears it: nobody misses what is missing.
            return track.move_to(position);
        }
        self.asks.serial += 1;
        let known = track.at.is_some();
        if same_epoch {
            // What has to be forgotten is found by reading on.
            track.target = track.target.max(position.offset);
        }
        let (serial, free) = (self.asks.serial, HELD_BYTES_MAX - self.asks.held_bytes);
        self.counted(name, |track| track.hold(position, item, serial, free));
        if same_epoch {
            self.want_read(now, name);
        } else if known {
            self.want_head(name);
        }
    }

    /// With a planted bug: something that came early goes to lanes all the same.
    #[cfg(feature = "planted")]
    fn slips(
        &mut self,
        name: &RoomName,
        position: Position,
        item: &Item,
        out: &mut Vec<HubEffect>,
    ) -> bool {
        use crate::planted::Planted;
        let at = self.track(name).and_then(|track| track.at).filter(|_| name.as_str() != CONTROL);
        let Some(at) = at else { return false };
        match self.planted {
            Some(Planted::SkipGapCheck) if at.epoch == position.epoch => {}
            Some(Planted::EpochSwitchedBack) if at.epoch != position.epoch => {
                self.gap(name, position.at(position.offset - 1), Loss::Epoch, out);
            }
            _ => return false,
        }
        self.give(name, position, item, out);
        true
    }

    /// A beat says what moved.
    pub(super) fn moved(&mut self, now: Now, moved: Vec<Moved>) {
        for Moved { rooms, .. } in moved {
            let Some(rooms) = rooms else { return self.want_all_heads() };
            for (name, head) in rooms {
                self.heard_of(now, &name, head);
            }
        }
    }

    /// The broker has named a newest position of the room: what lanes have not been given is looked for.
    fn heard_of(&mut self, now: Now, name: &RoomName, head: Position) {
        let Some(room) = self.rooms.get_mut(name) else { return };
        let idle = room.is_idle();
        let Some(track) = &mut room.track else { return };
        match &mut track.at {
            Some(at) if at.epoch != head.epoch => self.want_head(name),
            Some(at) if at.offset < head.offset && idle => *at = head,
            Some(at) if at.offset < head.offset => {
                track.target = track.target.max(head.offset);
                self.want_read(now, name);
            }
            // What is being asked for may be older than this.
            None if track.asked.is_some() => self.want_head(name),
            Some(_) | None => {}
        }
    }

    /// The newest positions came, or did not.
    pub(super) fn heads(
        &mut self,
        now: Now,
        request: u64,
        heads: Option<Vec<Position>>,
        out: &mut Vec<HubEffect>,
    ) {
        let Some(Ask::Heads(names)) = self.asks.under_way.remove(&request) else { return };
        if heads.is_none() {
            self.asks.rest_ms = now.mono_ms + ASK_AGAIN_MS;
        }
        let mut heads = heads.unwrap_or_default().into_iter();
        for name in names {
            let head = heads.next();
            let Some(track) = self.track_mut(&name) else { continue };
            let Some((_, serial)) = track.asked.take_if(|(id, _)| *id == request) else { continue };
            match head {
                Some(head) => self.head(now, &name, head, serial, out),
                None => track.wants_head = true,
            }
            self.rearm(now.mono_ms, &name);
        }
        self.close_control(now, out);
    }

    /// The room's newest position.
    fn head(
        &mut self,
        now: Now,
        name: &RoomName,
        head: Position,
        serial: u64,
        out: &mut Vec<HubEffect>,
    ) {
        let Some(track) = self.track_mut(name) else { return };
        match track.at {
            None => {
                track.at = Some(head);
                let lanes = std::mem::take(&mut track.waiting);
                for lane in each_lane(lanes) {
                    let room = name.clone();
                    let joined = LaneMessage::Joined { room, position: Some(head), live: true };
                    out.push(HubEffect::Lane(lane, joined));
                }
            }
            Some(at) if at.epoch != head.epoch => self.renew(now, name, head, out),
            Some(_) => self.heard_of(now, name, head),
        }
        self.sift(name, serial);
        self.release(now, name, out);
        self.tell_obeyed(name, out);
    }

    /// The room's stream began anew: what was lost cannot be told, and members go on at the head.
    fn renew(&mut self, now: Now, name: &RoomName, head: Position, out: &mut Vec<HubEffect>) {
        if name.as_str() == CONTROL {
            return self.renew_control(now, head);
        }
        self.gap(name, head, Loss::Epoch, out);
    }

    /// All lanes are told that the stream goes on behind this position.
    fn gap(&mut self, name: &RoomName, position: Position, loss: Loss, out: &mut Vec<HubEffect>) {
        let Some(room) = self.rooms.get_mut(name) else { return };
        let lanes = room.hearing();
        let Some(track) = &mut room.track else { return };
        if name.as_str() == CONTROL {
            let known = track.at.map_or(0, |at| at.offset);
            track.move_to(position);
            return self.control_gap(known, position, loss, out);
        }
        track.move_to(position);
        track.hole_ms = None;
        // What they were not given is lost for them too, or known to be.
        for behind in track.behind.drain(..) {
            self.behind.remove(&(behind.lane, name.clone()));
        }
        if lanes != 0 {
            self.counters.gaps_told += 1;
        }
        for lane in each_lane(lanes) {
            let room = name.clone();
            out.push(HubEffect::Lane(lane, LaneMessage::Gap { room, position, loss }));
        }
    }

    /// What a question brought.
    pub(super) fn page(
        &mut self,
        now: Now,
        request: u64,
        page: Option<Page>,
        out: &mut Vec<HubEffect>,
    ) {
        let Some(page) = self.pauses_page(request, page) else { return };
        let Some(page) = self.checks_page(request, page, out) else { return };
        match self.asks.under_way.remove(&request) {
            Some(Ask::History(reader, name)) => {
                if let Some(page) = &page {
                    self.heard_of(now, &name, page.head.position);
                }
                match reader {
                    Reader::Talk(asked) => self.heard_talk(now, asked, Heard::Page(page), out),
                    Reader::Person(asked) => self.contacts_read(now, asked, page, out),
                    Reader::Lane { .. } | Reader::Query(_) => out.extend(page_for(reader, page)),
                }
            }
            Some(Ask::Repair(name)) => {
                let Some(track) = self.track_mut(&name) else { return };
                let asked = track.asked.take_if(|(id, _)| *id == request);
                let Some((_, serial)) = asked else { return };
                match page {
                    Some(page) => {
                        self.repaired(now, &name, page, serial, out);
                        self.rearm(now.mono_ms, &name);
                    }
                    None => {
                        self.unread(now, &name, out);
                        self.rearm(now.mono_ms + ASK_AGAIN_MS, &name);
                    }
                }
                self.close_control(now, out);
            }
            Some(Ask::Refill(lane, name)) => {
                self.refilled(now, (lane, &name), (request, page), out)
            }
            Some(Ask::Revoked) => self.revoked_read(now, request, page, out),
            Some(Ask::Heads(_)) | None => {}
        }
    }

    /// A hole was read, or some of it.
    fn repaired(
        &mut self,
        now: Now,
        name: &RoomName,
        page: Page,
        serial: u64,
        out: &mut Vec<HubEffect>,
    ) {
        let Some(mut at) = self.track(name).and_then(|track| track.at) else { return };
        let head = page.head.position;
        if head.epoch != at.epoch {
            self.renew(now, name, head, out);
        } else {
            for kept in page.entries {
                let Some(position) = kept.position().filter(|it| it.offset > at.offset) else {
                    continue;
                };
                let position = at.at(position.offset);
                if position != at.next() {
                    self.gap(name, at.at(position.offset - 1), Loss::TooOld, out);
                }
                at = position;
                self.give(name, at, &item_of(kept), out);
            }
            if page.whole && at.offset < head.offset {
                self.gap(name, head, Loss::TooOld, out);
            }
        }
        self.sift(name, serial);
        self.release(now, name, out);
        let Some(track) = self.track_mut(name) else { return };
        if track.at.is_some_and(|at| at.epoch == head.epoch) {
            track.target = track.target.max(head.offset);
        }
        if track.is_complete() {
            track.hole_ms = None;
            self.counters.repaired += 1;
            self.control_is_whole(name);
            self.tell_obeyed(name, out);
        } else if track.hole_ms.is_some_and(|since| now.mono_ms >= since + REPAIR_MS) {
            let on = track.at.filter(|at| at.epoch == head.epoch && at.offset < head.offset);
            self.give_up(now, name, on.map(|_| head), out);
        } else {
            track.wants_read = true;
        }
    }

    /// The broker did not answer.
    fn unread(&mut self, now: Now, name: &RoomName, out: &mut Vec<HubEffect>) {
        let whole = self.state() == RelayState::Whole;
        let Some(track) = self.track_mut(name) else { return };
        track.wants_read = true;
        if !whole {
            track.hole_ms = None; // the time of an outage does not count
        } else if track.hole_ms.is_some_and(|since| now.mono_ms >= since + REPAIR_MS) {
            self.give_up(now, name, None, out);
        }
    }

    /// Too long: members are told that something is missing, and go on at this position, else in front of what is
    /// held.
    fn give_up(
        &mut self,
        now: Now,
        name: &RoomName,
        on: Option<Position>,
        out: &mut Vec<HubEffect>,
    ) {
        let Some(track) = self.track(name) else { return };
        let held = track.first_held().map(|first| first.at(first.offset - 1));
        let Some(position) = on.or(held) else {
            // It was never more than a hint.
            if let Some(track) = self.track_mut(name) {
                track.target = track.at.map_or(0, |at| at.offset);
                track.hole_ms = None;
            }
            return;
        };
        self.gap(name, position, Loss::Unavailable, out);
        self.sift(name, 0);
        self.release(now, name, out);
    }

    /// Gives lanes what comes next.
    fn give(&mut self, name: &RoomName, position: Position, item: &Item, out: &mut Vec<HubEffect>) {
        if name.as_str() == CONTROL {
            if let Some(track) = self.track_mut(name) {
                track.move_to(position);
            }
            self.control(item, out);
            return self.tell_obeyed(name, out);
        }
        let Some(room) = self.rooms.get_mut(name) else { return };
        let mut lanes = room.hearing();
        let Some(track) = &mut room.track else { return };
        track.move_to(position);
        for behind in &track.behind {
            lanes &= !super::bit_of(behind.lane).unwrap_or(0);
        }
        for lane in each_lane(lanes) {
            out.push(HubEffect::Lane(lane, message_of(name, position, item.clone())));
        }
    }

    /// Gives lanes what was held, as far as nothing is missing in front of it.
    fn release(&mut self, now: Now, name: &RoomName, out: &mut Vec<HubEffect>) {
        loop {
            let next = self.counted(name, Track::take_next).flatten();
            let Some((position, item)) = next else { break };
            self.give(name, position, &item, out);
        }
        let Some(track) = self.track(name) else { return };
        if track.first_held().is_some() {
            self.want_read(now, name);
        }
    }

    /// Forgets what is held in vain.
    fn sift(&mut self, name: &RoomName, serial: u64) {
        if self.counted(name, |track| track.sift(serial)) == Some(true) {
            self.want_head(name);
        }
    }

    /// Lets something act that changes what the room holds, and keeps the node's sum right.
    fn counted<R>(&mut self, name: &RoomName, act: impl FnOnce(&mut Track) -> R) -> Option<R> {
        let track = self.track_mut(name)?;
        let before = track.held_bytes();
        let result = act(track);
        let after = track.held_bytes();
        self.asks.held_bytes = self.asks.held_bytes + after - before;
        Some(result)
    }

    pub(super) fn track(&self, name: &RoomName) -> Option<&Track> {
        self.rooms.get(name).and_then(|room| room.track.as_deref())
    }

    pub(super) fn track_mut(&mut self, name: &RoomName) -> Option<&mut Track> {
        self.rooms.get_mut(name).and_then(|room| room.track.as_deref_mut())
    }
}

pub(super) fn item_of(kept: Kept) -> Item {
    match kept {
        Kept::Publication(publication) => Item::Publication(publication, 0),
        Kept::Unreadable(_) => Item::Skipped(SkipReason::Unreadable),
        Kept::Removed(_) => Item::Skipped(SkipReason::Removed),
    }
}

pub(super) fn message_of(name: &RoomName, position: Position, item: Item) -> LaneMessage {
    match item {
        Item::Publication(publication, published_us) => {
            LaneMessage::Publication { publication, published_us }
        }
        Item::Skipped(reason) => LaneMessage::Skipped { room: name.clone(), position, reason },
    }
}
