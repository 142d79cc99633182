//! Gaps in rooms that keep publications: who is told, and who is closed instead, because its dialect has no words for
//! one. Such a client comes back, and is given what it has not acked.

use roomcast_protocol::codes::Close;
use roomcast_protocol::ids::SessionKey;
use roomcast_protocol::outbound::{Loss, Outbound};
use roomcast_protocol::position::Position;

use super::Lane;
use super::scribe::Scribe;
use crate::messages::Effect;
use crate::outbox::Mark;

impl Lane {
    /// Tells one session that catches up, behind what it was given before, in the same class.
    pub(super) fn tell_one_gap(
        &mut self,
        index: u32,
        key: SessionKey,
        (at, loss): (Position, Loss),
        out: &mut Vec<Effect>,
    ) {
        if self.ends_at_gap(key, out) {
            return;
        }
        let Some(format) = self.session(key).map(|session| session.format) else { return };
        let before = self.catching.get(&(index, key.index)).map_or(at, |it| it.covered);
        let Some(room) = self.rooms.get(index as usize) else { return };
        let Some(class) = room.stream.as_ref().map(|stream| stream.class) else { return };
        let mut scribe =
            Scribe::new(&self.formats, &self.sessions, &mut self.sink, &mut self.counters);
        let gap = Outbound::Gap { room: Some((room.name.as_str(), at)), loss };
        let mut frame = Vec::new();
        scribe.append(format, &gap, &mut frame);
        if !frame.is_empty() {
            let (room, before) = (room.serial, Some(before));
            let mark =
                Some(Mark { room, before, expires_unix_ms: None, key: None, stays: false }.into());
            out.push(Effect::Send { to: key.index, frame: frame.into(), class, mark });
        }
    }

    /// Ends the session if its dialect has no words for a gap; says whether it has none.
    pub(super) fn ends_at_gap(&mut self, key: SessionKey, out: &mut Vec<Effect>) -> bool {
        let session = self.session(key);
        let wordless = session.is_some_and(|session| !self.has_words_for_gaps(session.format));
        if wordless {
            self.close(key, Close::GapTooOld, out);
        }
        wordless
    }

    /// The same for all members of a room.
    pub(super) fn end_at_gap(&mut self, index: u32, out: &mut Vec<Effect>) {
        let Some(room) = self.rooms.get(index as usize) else { return };
        if room.members.formats().all(|format| self.has_words_for_gaps(format)) {
            return;
        }
        let members = room.members.iter().map(|member| member.session as usize);
        let members = members.filter_map(|at| self.sessions.get(at));
        for key in members.map(|session| session.key).collect::<Vec<_>>() {
            self.ends_at_gap(key, out);
        }
    }

    fn has_words_for_gaps(&self, format: u8) -> bool {
        let format = self.formats.get(usize::from(format));
        format.is_none_or(|format| format.dialect.profile().tells_gaps)
    }
}
