//! Members that are told what they missed (G12). Who catches up is no member yet: it is given kept publications page by
//! page until it has covered all that the lane's own queue has covered, so nothing is held for it meanwhile.

use bytes::Bytes;
use roomcast_protocol::codes::Refused;
use roomcast_protocol::command::ReplyTo;
use roomcast_protocol::ids::SessionKey;
use roomcast_protocol::outbound::{Entry, Loss, Outbound, SkipReason};
use roomcast_protocol::position::{Kept, Page, Position, Span, Unrecovered};
use roomcast_protocol::room::RoomName;
use roomcast_protocol::time::Now;

use super::Lane;
use super::alarms::Alarm;
use super::counters::add_one;
use super::history::Read;
use super::rooms::{Ask, MERGE_BYTES_MAX};
use super::scribe::Scribe;
use super::stream::{Run, Stream};
use crate::messages::Effect;
use crate::session::Membership;

/// How long a member may take to catch up; then it is told of a gap and goes on live. Units: milliseconds.
const CATCH_UP_MS: u64 = 10_000;

/// Pages that a member is given until then.
pub(super) const ROUNDS_MAX: u32 = 256;

/// Further joins of a room that may wait while the session catches up in it.
pub(super) const BEHIND_MAX: usize = 16;

/// Sessions that share one page: what they are given in one turn is bounded by it.
pub(super) const SHARERS_MAX: usize = 64;

/// A session that catches up in a room.
#[derive(Debug)]
pub(super) struct CatchUp {
    key: SessionKey,
    /// Its join, until it is answered.
    reply: Option<ReplyTo>,
    covered: Position,
    /// The read it waits for; `None`: for the lane, which is behind it.
    query: Option<u64>,
    rounds: u32,
    /// Units: monotonic milliseconds.
    until_ms: u64,
    /// Joins of the same room that came meanwhile. Bounds: [`BEHIND_MAX`].
    behind: Vec<Ask>,
}

/// A page's publications written in one format, so that sessions which share it share the bytes.
struct Written {
    format: u8,
    bytes: Bytes,
    /// Where each entry's frames end.
    ends: Vec<usize>,
}

/// A page on its way to the sessions that share it.
pub(super) struct Shared<'p> {
    page: Option<&'p Page>,
    written: Vec<Written>,
}

impl Lane {
    /// Answers a join of a live room that keeps publications. Who wants to know what it missed becomes a member once it
    /// knows; else it is one at once.
    pub(super) fn enter_stream(
        &mut self,
        now: Now,
        key: SessionKey,
        index: u32,
        ask: Ask,
        out: &mut Vec<Effect>,
    ) {
        if let Some(catch_up) = self.catching.get_mut(&(index, key.index)) {
            if catch_up.behind.len() < BEHIND_MAX {
                return catch_up.behind.push(ask);
            }
            let refused = Refused::unavailable("The room is still being caught up".into(), 1_000);
            return self.refuse(key, &ask.reply, &refused, out);
        }
        let Some(at) = self.position(index) else { return };
        self.tell_skips(index);
        if self.is_member(index, key) {
            if self.turns.held {
                let refused = Refused::unavailable("The node catches up".into(), 1_000);
                return self.refuse(key, &ask.reply, &refused, out);
            }
            // What is under way to it goes before the answer, which says what it has covered.
            self.step_out(index, key, out);
        }
        match ask.since {
            Some(since) if since != at => {
                self.begin_catch_up(now, index, key, ask.reply, since, out)
            }
            since => {
                self.add_member(index, key);
                let recovered = since.map(|_| Ok(()));
                self.answer_entry(index, key, &ask.reply, (at, recovered), out);
            }
        }
    }

    fn begin_catch_up(
        &mut self,
        now: Now,
        index: u32,
        key: SessionKey,
        reply: ReplyTo,
        since: Position,
        out: &mut Vec<Effect>,
    ) {
        let Some(session) = self.session_mut(key) else { return };
        if !session.rooms.iter().any(|entry| entry.room == index) {
            session.rooms.push(Membership { room: index, place: Membership::WAITING });
        }
        if let Some(stream) = self.stream(index) {
            stream.catching += 1;
        }
        let until_ms = now.mono_ms.saturating_add(CATCH_UP_MS);
        let until_ms = self.alarms.set(until_ms, Alarm::CatchUp(index, key.index));
        let catch_up = CatchUp {
            key,
            reply: Some(reply),
            covered: since,
            query: None,
            rounds: 0,
            until_ms,
            behind: Vec::new(),
        };
        self.catching.insert((index, key.index), catch_up);
        self.read_on(now, index, key, out);
    }

    /// Asks for what the session has not covered.
    fn read_on(&mut self, now: Now, index: u32, key: SessionKey, out: &mut Vec<Effect>) {
        let Some(room) = self.rooms.get(index as usize) else { return };
        let Some(catch_up) = self.catching.get_mut(&(index, key.index)) else { return };
        let from = catch_up.covered.offset;
        // A read that was asked for while the lane knew of `from` answers all who have covered that.
        let known = room.position().is_some_and(|at| from <= at.offset);
        let shared = (room.serial, from);
        if let Some(query) = self.reads.share(shared, key) {
            catch_up.query = Some(query);
            return;
        }
        let read = Read::CatchUp { room: index, shared, sharers: vec![key] };
        let (name, span) = (room.name.clone(), Span::above(from));
        let query = self.ask(now, read, name, span, out);
        if known {
            self.reads.allow_sharing(shared, query);
        }
        if let Some(catch_up) = self.catching.get_mut(&(index, key.index)) {
            catch_up.query = Some(query);
        }
    }

    /// A page came for sessions that catch up; `None`: it could not be read.
    pub(super) fn catch_up(
        &mut self,
        now: Now,
        query: u64,
        (index, sharers): (u32, Vec<SessionKey>),
        page: Option<&Page>,
        out: &mut Vec<Effect>,
    ) {
        let mut shared = Shared { page, written: Vec::new() };
        for key in sharers {
            let found = self.catching.get(&(index, key.index));
            let waits = |it: &&CatchUp| it.key == key && it.query == Some(query);
            let (Some(catch_up), Some(at)) = (found.filter(waits), self.position(index)) else {
                continue;
            };
            match missed(page, catch_up.covered, at) {
                Ok(range) => self.give_missed(now, index, key, (range, &mut shared), out),
                Err(why) => self.give_up(now, index, key, why, out),
            }
        }
    }

    /// Gives a session entries of a page; it goes on from there.
    fn give_missed(
        &mut self,
        now: Now,
        index: u32,
        key: SessionKey,
        (range, shared): (std::ops::Range<usize>, &mut Shared<'_>),
        out: &mut Vec<Effect>,
    ) {
        let Some(catch_up) = self.catching.get_mut(&(index, key.index)) else { return };
        let covered = catch_up.covered;
        if let Some(reply) = catch_up.reply.take() {
            self.answer_entry(index, key, &reply, (covered, Some(Ok(()))), out);
        }
        let count = range.len() as u64;
        self.write_entries(now, index, key, (range, shared), out);
        if let Some(catch_up) = self.catching.get_mut(&(index, key.index)) {
            catch_up.covered = covered.at(covered.offset + count);
            catch_up.rounds += 1;
        }
        self.catch_up_on(now, index, key, out);
    }

    /// Puts entries of a page on their way to one session; what it may not have, or cannot, it is told to have skipped.
    fn write_entries(
        &mut self,
        now: Now,
        index: u32,
        key: SessionKey,
        (range, shared): (std::ops::Range<usize>, &mut Shared<'_>),
        out: &mut Vec<Effect>,
    ) {
        let before = out.len();
        let (Some(page), Some(session)) = (shared.page, self.session(key)) else { return };
        let format = session.format;
        let Some(room) = self.rooms.get_mut(index as usize) else { return };
        let Some(class) = room.stream.as_ref().map(|stream| stream.class) else { return };
        room.note_class(class);
        let mut scribe =
            Scribe::new(&self.formats, &self.sessions, &mut self.sink, &mut self.counters);
        let at = match shared.written.iter().position(|written| written.format == format) {
            Some(at) => at,
            None => {
                shared.written.push(write(page, format, &mut scribe));
                shared.written.len() - 1
            }
        };
        let Some(written) = shared.written.get(at) else { return };
        let mut send = |frame: Bytes| {
            if !frame.is_empty() {
                out.push(Effect::Send { to: key.index, frame, class });
            }
        };
        let mut run: Option<Run> = None;
        let mut frames = 0..0;
        for (entry, place) in page.entries.get(range.clone()).into_iter().flatten().zip(range) {
            let Some(position) = entry.position() else { continue };
            let bytes = written.range(place);
            let Some(reason) = why_skipped(entry, now, key.index, &scribe) else {
                if let Some(run) = run.take() {
                    send(scribe.skip(format, &room.name, run));
                }
                if frames.is_empty() {
                    frames = bytes;
                } else {
                    frames.end = bytes.end;
                }
                if frames.len() >= MERGE_BYTES_MAX {
                    send(written.bytes.slice(std::mem::take(&mut frames)));
                }
                continue;
            };
            send(written.bytes.slice(std::mem::take(&mut frames)));
            scribe.count_skips(reason, 1);
            run.get_or_insert_with(|| Run::empty(position)).skip(position, reason);
        }
        send(written.bytes.slice(frames));
        if let Some(run) = run {
            send(scribe.skip(format, &room.name, run));
        }
        self.counters.deliveries += (out.len() - before) as u64;
    }

    /// The session becomes a member if it has covered what the lane has; else it reads on, or waits for the lane.
    fn catch_up_on(&mut self, now: Now, index: u32, key: SessionKey, out: &mut Vec<Effect>) {
        let Some(at) = self.position(index) else { return };
        let Some(catch_up) = self.catching.get_mut(&(index, key.index)) else { return };
        if catch_up.covered.epoch != at.epoch {
            self.give_up(now, index, key, Unrecovered::Epoch, out);
        } else if catch_up.covered.offset > at.offset {
            catch_up.query = None;
            if let Some(stream) = self.stream(index) {
                stream.ahead = true;
            }
        } else if catch_up.covered.offset == at.offset {
            self.arrive(now, index, key, out);
        } else if catch_up.rounds >= ROUNDS_MAX {
            self.give_up(now, index, key, Unrecovered::Unavailable, out);
        } else {
            self.read_on(now, index, key, out);
        }
    }

    /// The session goes on live, told that something is missing.
    fn give_up(
        &mut self,
        now: Now,
        index: u32,
        key: SessionKey,
        why: Unrecovered,
        out: &mut Vec<Effect>,
    ) {
        let Some(at) = self.position(index) else { return };
        let Some(catch_up) = self.catching.get_mut(&(index, key.index)) else { return };
        match catch_up.reply.take() {
            Some(reply) => self.answer_entry(index, key, &reply, (at, Some(Err(why))), out),
            None => {
                let loss = match why {
                    Unrecovered::Epoch => Loss::Epoch,
                    Unrecovered::TooOld => Loss::TooOld,
                    Unrecovered::NoHistory | Unrecovered::Ahead | Unrecovered::Unavailable => {
                        Loss::Unavailable
                    }
                };
                self.counters.gaps += 1;
                self.tell_one_gap(index, key, (at, loss), out);
            }
        }
        self.arrive(now, index, key, out);
    }

    /// Behind what the session was given before, in the same class.
    fn tell_one_gap(
        &mut self,
        index: u32,
        key: SessionKey,
        (at, loss): (Position, Loss),
        out: &mut Vec<Effect>,
    ) {
        let Some(format) = self.session(key).map(|session| session.format) else { return };
        let Some(room) = self.rooms.get(index as usize) else { return };
        let Some(class) = room.stream.as_ref().map(|stream| stream.class) else { return };
        let mut scribe =
            Scribe::new(&self.formats, &self.sessions, &mut self.sink, &mut self.counters);
        let gap = Outbound::Gap { room: Some((room.name.as_str(), at)), loss };
        let mut frame = Vec::new();
        scribe.append(format, &gap, &mut frame);
        if !frame.is_empty() {
            out.push(Effect::Send { to: key.index, frame: frame.into(), class });
        }
    }

    /// The session has covered what the lane has: it is a member. Then joins that came meanwhile are answered.
    fn arrive(&mut self, now: Now, index: u32, key: SessionKey, out: &mut Vec<Effect>) {
        let behind = self.end_catch_up(index, key).map_or(Vec::new(), |it| it.behind);
        self.tell_skips(index);
        self.add_member(index, key);
        for ask in behind {
            self.enter_stream(now, key, index, ask, out);
        }
    }

    /// The lane has moved: those that waited for it go on.
    pub(super) fn meet(&mut self, now: Now, index: u32, out: &mut Vec<Effect>) {
        let ahead = |stream: &mut Stream| std::mem::take(&mut stream.ahead);
        if !self.stream(index).is_some_and(ahead) {
            return;
        }
        for key in self.catching_in(index, |it| it.query.is_none()) {
            self.catch_up_on(now, index, key, out);
        }
    }

    /// The room goes on at a place of an epoch: who still catches up in another one cannot.
    pub(super) fn end_other_epochs(
        &mut self,
        now: Now,
        index: u32,
        position: Position,
        out: &mut Vec<Effect>,
    ) {
        for key in self.catching_in(index, |it| it.covered.epoch != position.epoch) {
            let found = self.catching.get(&(index, key.index));
            // One that has not been answered may be of that epoch's future, or of any: the page tells.
            if found.is_some_and(|catch_up| catch_up.reply.is_none()) {
                self.give_up(now, index, key, Unrecovered::Epoch, out);
            }
        }
    }

    /// A session took too long.
    pub(super) fn end_late_catch_up(
        &mut self,
        now: Now,
        index: u32,
        session: u32,
        out: &mut Vec<Effect>,
    ) {
        let found = self.catching.get(&(index, session));
        // Who waits for the lane lacks nothing, and costs nothing.
        let late = |it: &&CatchUp| it.until_ms <= now.mono_ms && it.query.is_some();
        if let Some(catch_up) = found.filter(late) {
            let key = catch_up.key;
            self.give_up(now, index, key, Unrecovered::Unavailable, out);
        }
    }

    /// What a session that catches up in the room has been given, if its join is answered.
    pub(super) fn caught_up(&self, index: u32, key: SessionKey) -> Option<Position> {
        let catch_up = self.catching.get(&(index, key.index))?;
        catch_up.reply.is_none().then_some(catch_up.covered)
    }

    /// Takes a session out of those that catch up.
    pub(super) fn end_catch_up(&mut self, index: u32, key: SessionKey) -> Option<CatchUp> {
        let catch_up = self.catching.remove(&(index, key.index))?;
        if let Some(stream) = self.stream(index) {
            stream.catching -= 1;
        }
        Some(catch_up)
    }

    fn catching_in(&self, index: u32, concerned: impl Fn(&CatchUp) -> bool) -> Vec<SessionKey> {
        let all = self.catching.range((index, 0)..=(index, u32::MAX));
        all.filter(|(_, it)| concerned(it)).map(|(_, it)| it.key).collect()
    }

    /// Answers a join of a room that keeps publications.
    pub(super) fn answer_entry(
        &mut self,
        index: u32,
        key: SessionKey,
        reply: &ReplyTo,
        (position, recovered): (Position, Option<Result<(), Unrecovered>>),
        out: &mut Vec<Effect>,
    ) {
        match recovered {
            Some(Ok(())) => self.counters.recovered += 1,
            Some(Err(why)) => {
                let at = Unrecovered::ALL.iter().position(|it| *it == why);
                add_one(&mut self.counters.unrecovered, at.unwrap_or(usize::MAX));
            }
            None => {}
        }
        let Some(name) = self.name_of(index) else { return };
        let entry = Entry { position: Some(position), recovered, live: !self.isolated };
        self.send(key, &Outbound::Joined { reply, room: name.as_str(), entry }, out);
        self.note_entry(key, index, position);
    }

    pub(super) fn name_of(&self, index: u32) -> Option<RoomName> {
        self.rooms.get(index as usize).map(|room| room.name.clone())
    }
}

impl CatchUp {
    /// The joins that are still to be answered, and what the session was told that it has covered.
    pub(super) fn unanswered(self) -> (Vec<Ask>, Option<Position>) {
        let told = self.reply.is_none().then_some(self.covered);
        let since = Some(self.covered);
        let first = self.reply.map(|reply| Ask { reply, since });
        (first.into_iter().chain(self.behind).collect(), told)
    }
}

impl Written {
    fn range(&self, place: usize) -> std::ops::Range<usize> {
        let start = place.checked_sub(1).and_then(|before| self.ends.get(before));
        start.copied().unwrap_or(0)..self.ends.get(place).copied().unwrap_or(0)
    }
}

/// Which entries of the page follow `covered`, up to where the lane is.
///
/// # Errors
/// Why the member cannot be given all of them.
fn missed(
    page: Option<&Page>,
    covered: Position,
    at: Position,
) -> Result<std::ops::Range<usize>, Unrecovered> {
    let page = page.ok_or(Unrecovered::Unavailable)?;
    page.head.recovers(covered)?;
    if at.epoch != covered.epoch {
        return Err(Unrecovered::Epoch);
    }
    let up_to = |offset: u64| {
        let below = |kept: &Kept| kept.position().is_none_or(|it| it.offset <= offset);
        page.entries.partition_point(below)
    };
    let start = up_to(covered.offset);
    let range = start..up_to(at.offset).max(start);
    let mut last = covered;
    for entry in page.entries.get(range.clone()).into_iter().flatten() {
        match entry.position() {
            Some(position) if position == last.next() => last = position,
            Some(position) if position.epoch != last.epoch => return Err(Unrecovered::Epoch),
            Some(_) | None => return Err(Unrecovered::TooOld),
        }
    }
    let readable = page.head.position.offset.min(at.offset);
    if range.is_empty() && covered.offset < readable {
        return Err(Unrecovered::Unavailable);
    }
    Ok(range)
}

/// Why the session is not given the entry; `None`: it is.
fn why_skipped(entry: &Kept, now: Now, session: u32, scribe: &Scribe<'_>) -> Option<SkipReason> {
    match entry {
        Kept::Unreadable(_) => Some(SkipReason::Unreadable),
        Kept::Removed(_) => Some(SkipReason::Removed),
        Kept::Publication(it) if it.expires_unix_ms.is_some_and(|at| now.unix_ms >= at) => {
            Some(SkipReason::Expired)
        }
        Kept::Publication(it) if !scribe.holds(session, &it.requires) => Some(SkipReason::Filtered),
        Kept::Publication(_) => None,
    }
}

/// Writes all publications of a page.
fn write(page: &Page, format: u8, scribe: &mut Scribe<'_>) -> Written {
    let (mut bytes, mut ends) = (Vec::new(), Vec::with_capacity(page.entries.len()));
    for entry in &page.entries {
        if let Kept::Publication(publication) = entry {
            scribe.append(format, &Outbound::Publication(publication), &mut bytes);
            scribe.counters.encodings += 1;
        }
        ends.push(bytes.len());
    }
    Written { format, bytes: bytes.into(), ends }
}
