//! Publications, and in rooms that keep them the room's position: each offset is covered once, delivered or skipped,
//! and what is lost is told in its place (G3, G8).

use std::sync::Arc;

use roomcast_protocol::outbound::{Loss, Outbound, SkipReason};
use roomcast_protocol::position::Position;
use roomcast_protocol::publication::Publication;
use roomcast_protocol::room::RoomName;
use roomcast_protocol::time::Now;

use super::Lane;
use super::alarms::{Alarm, SLOT_MS};
use super::frames::Terms;
use super::rooms::Room;
use super::scribe::Scribe;
use super::served::Served;
use super::stream::{Run, Stream};
use crate::messages::Effect;

/// How long members may not be told that they skipped something, while nothing follows. Units: milliseconds.
const SKIP_TOLD_MS: u64 = 1_000;

impl Lane {
    /// A publication of a room that this lane hears.
    pub(super) fn publication(
        &mut self,
        now: Now,
        publication: &Arc<Publication>,
        published_us: u64,
        out: &mut Vec<Effect>,
    ) {
        self.counters.publications += 1;
        let Some(index) = self.names.get(&publication.room).copied() else {
            self.counters.unwanted += 1;
            return;
        };
        let room = self.rooms.get(index as usize);
        let tracked = room.and_then(Room::position).and(publication.position);
        if tracked.is_some_and(|position| !self.follow(now, index, position, out)) {
            return;
        }
        if publication.expires_unix_ms.is_some_and(|expires| now.unix_ms >= expires) {
            self.counters.expired += 1;
            if let Some(position) = tracked {
                self.skip(now, index, position, SkipReason::Expired);
            }
        } else {
            self.deliver(now, index, tracked, publication, published_us);
        }
        if tracked.is_some() {
            self.meet(now, index, out);
        }
    }

    /// Encodes it once for each format; then it is on its way.
    fn deliver(
        &mut self,
        now: Now,
        index: u32,
        tracked: Option<Position>,
        publication: &Arc<Publication>,
        published_us: u64,
    ) {
        let Some(room) = self.rooms.get_mut(index as usize) else { return };
        if tracked.is_none()
            && let Some(stream) = &mut room.stream
        {
            stream.loose += 1;
        }
        if room.members.is_empty() {
            self.counters.unwanted += 1;
            return;
        }
        let policy = self.guard.policy(room.rule);
        let rule = policy.priority;
        let class = if tracked.is_some() { rule } else { publication.priority.unwrap_or(rule) };
        // Where positions count, newer ones take the place of older ones only when they are read anew.
        let conflates = policy.conflates && room.stream.is_none();
        let conflated = conflates.then(|| self.guard.conflate_key(room.rule, publication));
        if self.sheds(index) {
            return;
        }
        let requires = &publication.requires;
        let origin = publication.origin.as_ref();
        if tracked.is_some() {
            if requires.is_empty() && origin.is_none_or(|origin| origin.said_in.is_none()) {
                self.set_skips_told(index);
            } else {
                self.arm_skips(now, index);
            }
        }
        let acked = self.awaited_of(index, publication);
        let (publication, acked) = (acked.as_ref().unwrap_or(publication), acked.as_ref());
        let requires_ack = acked.is_some();
        self.enqueue(index, |room, scribe, served| {
            if tracked.is_some() {
                room.tell_skips(scribe);
            }
            let stamp = |stamps: &mut Vec<u64>| served.stamp(stamps, published_us);
            let expires_unix_ms = publication.expires_unix_ms;
            let before = tracked.map(|at| at.at(at.offset.saturating_sub(1)));
            let terms = Terms {
                requires,
                placed: tracked,
                expires_unix_ms,
                before,
                key: conflated.flatten(),
                acked,
                copied: publication.origin.as_ref().map(|_| publication),
                ..Terms::of(class)
            };
            room.publish(&terms, stamp, |format, bytes| {
                scribe.append(format, &Outbound::Publication(publication), bytes);
                scribe.counters.encodings += 1;
            });
        });
        // In a group nothing counts as acked by arriving: a ping behind it would say nothing.
        if !requires_ack || self.group_at(index).is_none() {
            self.inbox_room_moves(now, index);
        }
        self.receipts_room_moves(now, index);
    }

    /// A publication that no member is given.
    pub(super) fn skipped(
        &mut self,
        now: Now,
        name: &RoomName,
        (position, reason): (Position, SkipReason),
        out: &mut Vec<Effect>,
    ) {
        let Some(index) = self.tracked(name) else { return };
        if self.follow(now, index, position, out) {
            self.skip(now, index, position, reason);
            self.meet(now, index, out);
        }
    }

    /// Publications of a room are lost: its members are told in the publications' place, and go on behind it.
    pub(super) fn gap(
        &mut self,
        now: Now,
        name: &RoomName,
        position: Position,
        loss: Loss,
        out: &mut Vec<Effect>,
    ) {
        let Some(index) = self.tracked(name) else { return };
        let at = self.position(index);
        if at.is_some_and(|at| at.epoch == position.epoch && at.offset > position.offset) {
            self.counters.jumps += 1;
        } else {
            self.go_on_behind(now, index, position, loss, out);
        }
    }

    fn go_on_behind(
        &mut self,
        now: Now,
        index: u32,
        position: Position,
        loss: Loss,
        out: &mut Vec<Effect>,
    ) {
        self.renew_inbox(now, index, position, out);
        self.tell_gap(index, position, loss, out);
        self.end_other_epochs(now, index, position, out);
        self.meet(now, index, out);
    }

    fn tell_gap(&mut self, index: u32, position: Position, loss: Loss, out: &mut Vec<Effect>) {
        self.end_at_gap(index, out);
        self.set_skips_told(index);
        let Some(room) = self.rooms.get_mut(index as usize) else { return };
        let Some(stream) = &mut room.stream else { return };
        if stream.position.is_none_or(|at| at.epoch != position.epoch) {
            stream.served = None;
        }
        let before = stream.position.replace(position).unwrap_or(position);
        let class = stream.class;
        if room.members.is_empty() {
            return;
        }
        self.counters.gaps += room.members.len() as u64;
        self.inbox_room_jumps(index, before, position);
        self.enqueue(index, |room, scribe, _| {
            room.tell_skips(scribe);
            let name = room.name.clone();
            let gap = Outbound::Gap { room: Some((name.as_str(), position)), loss };
            room.publish(
                &Terms::behind(before, class),
                |_| {},
                |format, bytes| {
                    scribe.append(format, &gap, bytes);
                },
            );
        });
    }

    /// The room goes on at `position`; says whether its members have yet to cover that. The hub leaves no hole that it
    /// does not tell: where there is one all the same, members are told here.
    fn follow(&mut self, now: Now, index: u32, position: Position, out: &mut Vec<Effect>) -> bool {
        let Some(at) = self.position(index) else { return false };
        if at.epoch == position.epoch && position.offset <= at.offset {
            self.counters.jumps += 1;
            return false;
        }
        if position != at.next() {
            self.counters.jumps += 1;
            let before = position.at(position.offset.saturating_sub(1));
            self.go_on_behind(now, index, before, Loss::Feed, out);
        }
        if let Some(stream) = self.stream(index) {
            stream.position = Some(position);
        }
        true
    }

    /// All members of the room cover `position` without a delivery.
    fn skip(&mut self, now: Now, index: u32, position: Position, reason: SkipReason) {
        let Some(room) = self.rooms.get_mut(index as usize) else { return };
        let members = room.members.len() as u64;
        let Some(stream) = &mut room.stream else { return };
        if members == 0 || stream.shed {
            return;
        }
        stream.run.get_or_insert_with(|| Run::empty(position).into()).skip(position, reason);
        if let Some(counter) = self.counters.skips.get_mut(reason as usize) {
            *counter += members;
        }
        self.arm_skips(now, index);
    }

    /// Has skips told by themselves if nothing follows.
    fn arm_skips(&mut self, now: Now, index: u32) {
        let Some(room) = self.rooms.get_mut(index as usize) else { return };
        let Some(stream) = &mut room.stream else { return };
        if stream.tell_at_ms == u64::MAX {
            stream.tell_at_ms = now.mono_ms.saturating_add(SKIP_TOLD_MS);
            if !stream.armed {
                stream.armed = true;
                self.alarms.set(stream.tell_at_ms, Alarm::Skips(index, room.serial));
            }
        }
    }

    /// A frame is under way to all members, in front of which they are told.
    fn set_skips_told(&mut self, index: u32) {
        if let Some(stream) = self.stream(index) {
            stream.tell_at_ms = u64::MAX;
        }
    }

    /// Nothing has followed: the room's members are told what they skipped.
    pub(super) fn tell_waiting_skips(&mut self, now: Now, index: u32, serial: u32) {
        let room = self.rooms.get_mut(index as usize).filter(|room| room.serial == serial);
        let Some(stream) = room.and_then(|room| room.stream.as_mut()) else { return };
        stream.armed = false;
        if stream.tell_at_ms == u64::MAX {
            return;
        }
        // Alarms ring up to a slot early, and one that a later run finds set rings earlier still.
        if stream.tell_at_ms > now.mono_ms + SLOT_MS {
            stream.armed = true;
            self.alarms.set(stream.tell_at_ms, Alarm::Skips(index, serial));
            return;
        }
        stream.tell_at_ms = u64::MAX;
        self.enqueue(index, |room, scribe, _| {
            room.tell_skips(scribe);
            room.nudge();
        });
    }

    /// Has the room's members told all that they skip, so that whoever joins now is not.
    pub(super) fn tell_skips(&mut self, index: u32) {
        self.enqueue(index, |room, scribe, _| room.tell_skips(scribe));
    }

    /// Lets `put` put frames into a room, which then has its turn.
    pub(super) fn enqueue(
        &mut self,
        index: u32,
        put: impl FnOnce(&mut Room, &mut Scribe<'_>, &mut Served),
    ) {
        let Some(room) = self.rooms.get_mut(index as usize) else { return };
        let bytes = room.bytes();
        let mut scribe =
            Scribe::new(&self.formats, &self.sessions, &mut self.sink, &mut self.counters);
        put(room, &mut scribe, &mut self.served);
        self.backlog_bytes += room.bytes() - bytes;
        if room.has_work() && !room.listed {
            room.listed = true;
            #[cfg(feature = "planted")]
            if self.planted == Some(crate::planted::Planted::LostWakeUp) && !self.busy.is_empty() {
                return;
            }
            self.busy.push_back((index, room.serial));
        }
    }

    /// Whether the room's publications are dropped, because too many wait while the lane holds; its members are told
    /// when it goes on.
    fn sheds(&mut self, index: u32) -> bool {
        let over = self.turns.held && self.backlog_bytes > super::BACKLOG_BYTES_MAX;
        if over {
            match self.stream(index) {
                Some(stream) => stream.shed = true,
                None => self.turns.shed = true,
            }
        }
        // A room goes on in order: once one is dropped, so is what follows.
        over || self.stream(index).is_some_and(|stream| stream.shed)
    }

    /// The lane goes on: members of rooms whose publications were dropped are told.
    pub(super) fn tell_of_shed(&mut self, out: &mut Vec<Effect>) {
        let mut shed = Vec::new();
        for (index, room) in &mut self.rooms {
            let Some(stream) = &mut room.stream else { continue };
            if std::mem::take(&mut stream.shed)
                && let (Some(position), Ok(index)) = (stream.position, u32::try_from(index))
            {
                shed.push((index, position));
            }
        }
        for (index, position) in shed {
            self.tell_gap(index, position, Loss::Overload, out);
        }
    }

    /// The room's index, if it keeps publications and is live.
    fn tracked(&self, name: &RoomName) -> Option<u32> {
        let index = self.names.get(name).copied()?;
        self.position(index).map(|_| index)
    }

    /// Where the room stands as of the lane's queue, if it keeps publications and is live.
    pub(super) fn position(&self, index: u32) -> Option<Position> {
        self.rooms.get(index as usize).and_then(Room::position)
    }

    pub(super) fn stream(&mut self, index: u32) -> Option<&mut Stream> {
        self.rooms.get_mut(index as usize)?.stream.as_deref_mut()
    }
}
