//! Messages that reached users are marked so, each conversation and user once at a time.

use roomcast_protocol::position::Position;
use roomcast_protocol::room::RoomName;
use roomcast_protocol::time::Now;

use super::Hub;
use super::talks::{REACHED_MAX, REACHED_UNDER_WAY_MAX};
use crate::messages::HubEffect;
use crate::talks::{Speaker, Talking};

impl Hub {
    /// A user was given a message for the first time.
    pub(super) fn reached(
        &mut self,
        now: Now,
        room: RoomName,
        user: Box<str>,
        at: Position,
        out: &mut Vec<HubEffect>,
    ) {
        self.note_reached((room, user), at);
        self.mark_reached(now, out);
    }

    /// It waits to be marked, with what came before; in another epoch what came before is lost.
    pub(super) fn note_reached(&mut self, key: (RoomName, Box<str>), at: Position) {
        let full = self.talks.reached.len() >= REACHED_MAX;
        if full && !self.talks.reached.contains_key(&key) {
            self.counters.reached_dropped += 1;
            return;
        }
        let held = self.talks.reached.entry(key).or_insert(at);
        if held.epoch != at.epoch || held.offset < at.offset {
            *held = at;
        }
    }

    /// Marks what has reached users, each conversation and user once at a time.
    pub(super) fn mark_reached(&mut self, now: Now, out: &mut Vec<HubEffect>) {
        while self.talks.marking.len() < REACHED_UNDER_WAY_MAX {
            let free = |key: &&(RoomName, Box<str>)| !self.talks.marking.contains(*key);
            let Some(key) = self.talks.reached.keys().find(free).cloned() else { return };
            let Some(at) = self.talks.reached.remove(&key) else { return };
            let (room, user) = key.clone();
            let who = Speaker::of_no_session(user, now);
            let Some(talking) = Talking::reached(who, room, at) else { continue };
            self.talks.marking.insert(key.clone());
            self.begin_talk(now, talking, None, Some((key, at)), out);
        }
    }
}
