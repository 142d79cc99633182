//! Members that are told what they missed (G12). Who catches up is no member yet: it is given kept publications page by
//! page until it has covered all that the lane's own queue has covered, so nothing is held for it meanwhile.

use std::collections::BTreeSet;

use roomcast_protocol::codes::Refused;
use roomcast_protocol::command::ReplyTo;
use roomcast_protocol::ids::SessionKey;
use roomcast_protocol::outbound::{Entry, Loss, SkipReason};
use roomcast_protocol::position::{Kept, Page, Position, Span, Unrecovered};
use roomcast_protocol::room::RoomName;
use roomcast_protocol::time::Now;

use super::Lane;
use super::alarms::Alarm;
use super::aside::Share;
use super::counters::add_one;
use super::history::Read;
use super::pages::{Packer, Shared};
use super::parking::Space;
use super::rooms::Ask;
use super::scribe::Scribe;
use super::stream::Stream;
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
    pub(super) key: SessionKey,
    /// Its join, until it is answered.
    pub(super) reply: Option<ReplyTo>,
    pub(super) covered: Position,
    pub(super) step: Step,
    /// It was a member, and parked: the newest under each key is enough for it.
    pub(super) slow: bool,
    /// Publications without a position that the room had when it was parked.
    pub(super) loose: u64,
    /// What its outbox took when it was last asked.
    pub(super) space: Space,
    pub(super) rounds: u32,
    /// Units: monotonic milliseconds.
    pub(super) until_ms: u64,
    /// Joins of the same room that came meanwhile. Bounds: [`BEHIND_MAX`].
    pub(super) behind: Vec<Ask>,
    /// The client has all up to it, but is given again what it has not acked.
    pub(super) known_to: u64,
    /// Acked before, rising: it is not given them.
    pub(super) acked: Vec<u64>,
}

/// What a session that catches up waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Its outbox to have space, since then. Units: monotonic milliseconds.
    Space(u64),
    /// Its turn among the slow ones to read.
    Turn,
    /// A read.
    Page(u64),
    /// The lane, which is behind it.
    Lane,
    /// Its client to ack.
    Acks,
    /// What was acked of its inbox; since when its client wants to know what it missed.
    Inbox(Option<Position>),
    /// The lane to come to the epoch of its inbox; the same.
    Epoch(Option<Position>),
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
            if catch_up.step == Step::Acks && catch_up.is_answered() {
                return self.enter_parked(now, key, index, ask, out);
            }
            if catch_up.behind.len() < BEHIND_MAX {
                return catch_up.behind.push(ask);
            }
            let refused = Refused::unavailable("The room is still being caught up".into(), 1_000);
            return self.refuse(key, &ask.reply, &refused, out);
        }
        let Some(at) = self.position(index) else { return };
        let Some(ask) = self.ask_inbox(now, key, index, ask, out) else { return };
        let Some(ask) = self.give_unacked(now, key, index, ask, out) else { return };
        self.tell_skips(index);
        if self.is_member(index, key) {
            if self.turns.held {
                let refused = Refused::unavailable("The node catches up".into(), 1_000);
                return self.refuse(key, &ask.reply, &refused, out);
            }
            // What is under way to it goes before the answer, which says what it has covered.
            self.step_out(index, key, out);
            if self.catching.contains_key(&(index, key.index)) {
                return self.enter_parked(now, key, index, ask, out);
            }
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

    pub(super) fn begin_catch_up(
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
        let catch_up = CatchUp { reply: Some(reply), ..CatchUp::new(key, since) };
        self.catching.insert((index, key.index), catch_up);
        self.give_time(now, index, key);
        self.wait_for_space(now, index, key, false, out);
    }

    /// From now on it may take so long.
    pub(super) fn give_time(&mut self, now: Now, index: u32, key: SessionKey) {
        let until_ms = now.mono_ms.saturating_add(CATCH_UP_MS);
        let until_ms = self.alarms.set(until_ms, Alarm::CatchUp(index, key.index));
        if let Some(catch_up) = self.catching.get_mut(&(index, key.index)) {
            catch_up.until_ms = until_ms;
            catch_up.rounds = 0;
        }
    }

    /// Asks for what the session has not covered.
    pub(super) fn read_on(&mut self, now: Now, index: u32, key: SessionKey, out: &mut Vec<Effect>) {
        let Some(room) = self.rooms.get(index as usize) else { return };
        let Some(catch_up) = self.catching.get_mut(&(index, key.index)) else { return };
        let from = catch_up.covered.offset;
        // A read that was asked for while the lane knew of `from` answers all who have covered that.
        let known = room.position().is_some_and(|at| from <= at.offset);
        let shared = (room.serial, from);
        if let Some(query) = self.reads.share(shared, key) {
            catch_up.step = Step::Page(query);
            return;
        }
        let slow = catch_up.slow;
        if slow && !self.parking.may_read() {
            catch_up.step = Step::Turn;
            return self.parking.line_up(index, key);
        }
        self.parking.reads += usize::from(slow);
        let read = Read::CatchUp { room: index, shared, sharers: vec![key], slow };
        let (name, span) = (room.name.clone(), Span::above(from));
        let query = self.ask(now, read, name, span, out);
        if known {
            self.reads.allow_sharing(shared, query);
        }
        if let Some(catch_up) = self.catching.get_mut(&(index, key.index)) {
            catch_up.step = Step::Page(query);
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
        let renamed = page.and_then(|page| self.in_one_epoch(index, page));
        let page = renamed.as_ref().or(page);
        let flagged = page.and_then(|page| self.page_to_be_acked(index, page));
        let page = flagged.as_ref().or(page);
        let mut shared = Shared::new(page);
        for key in sharers {
            let found = self.catching.get(&(index, key.index));
            let waits = |it: &&CatchUp| it.key == key && it.step == Step::Page(query);
            let (Some(catch_up), Some(at)) = (found.filter(waits), self.position(index)) else {
                continue;
            };
            match missed(page, catch_up.covered, at) {
                Ok(range) => self.give_missed(now, index, key, (range, &mut shared), out),
                Err(Unrecovered::TooOld) if self.passes_removed(index, key, page, out) => {
                    self.catch_up_on(now, index, key, out);
                }
                // The rest is read once there is space again: the gap has taken some.
                Err(Unrecovered::TooOld) if self.is_covered_by_gap(index, key, page, out) => {
                    self.catch_up_on(now, index, key, out);
                }
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
        let entries = shared.page.and_then(|page| page.entries.get(range.clone()));
        let entries = entries.unwrap_or_default();
        let shares = self.shares(now, index, key, entries);
        let wanted = range.len();
        let count = self.write_entries(index, key, (range, shared), &shares, out);
        let Some(catch_up) = self.catching.get_mut(&(index, key.index)) else { return };
        catch_up.covered = covered.at(covered.offset + count as u64);
        catch_up.rounds += 1;
        let given = shares.iter().zip(entries).take(count);
        self.note_shares(now, (index, key), given, out);
        if count == shares.len() && count < wanted {
            self.hold_for_acks(now, index, key, out);
        } else if count == 0 && wanted > 0 {
            self.wait_for_space(now, index, key, true, out);
        } else {
            self.catch_up_on(now, index, key, out);
        }
    }

    /// Puts entries of a page on their way to one session, as many as it has space for; what it may not have, or cannot,
    /// it is told to have skipped. Says how many entries it has covered with that.
    fn write_entries(
        &mut self,
        index: u32,
        key: SessionKey,
        (range, shared): (std::ops::Range<usize>, &mut Shared<'_>),
        shares: &[Share],
        out: &mut Vec<Effect>,
    ) -> usize {
        let before = out.len();
        let Some(catch_up) = self.catching.get(&(index, key.index)) else { return 0 };
        let (slow, space) = (catch_up.slow, catch_up.space);
        let (Some(page), Some(session)) = (shared.page, self.session(key)) else { return 0 };
        let format = session.format;
        self.give_known(index, key, shares, out);
        let Some(room) = self.rooms.get_mut(index as usize) else { return 0 };
        let Some(class) = room.stream.as_ref().map(|stream| stream.class) else { return 0 };
        room.note_class(class);
        let mut scribe =
            Scribe::new(&self.formats, &self.sessions, &mut self.sink, &mut self.counters);
        let superseded = if slow {
            shared.keys_by(&*self.guard, room.rule);
            let shares = shares.iter().zip(range.clone());
            let given = shares.filter(|(share, _)| share.is_given()).map(|(_, place)| place);
            shared.superseded(given)
        } else {
            BTreeSet::new()
        };
        let at = shared.written(format, &mut scribe);
        let Some(written) = shared.written.get(at) else { return 0 };
        let mut packer = Packer::new((room.serial, class), key.index, space, out);
        let entries = page.entries.get(range.clone()).into_iter().flatten();
        for ((entry, place), share) in entries.zip(range).zip(shares) {
            let Some(position) = entry.position() else { continue };
            let conflated = superseded.contains(&place).then_some(SkipReason::Conflated);
            let tell = |scribe: &mut Scribe<'_>, run| scribe.skip(format, &room.name, run);
            match share.skipped().or(conflated) {
                None if share.is_known() => packer.pass(),
                Some(reason) => packer.skip(written, position, reason),
                None if packer.tell_run(&mut scribe, tell)
                    && packer.add(written, written.range(place), position) => {}
                None => break,
            }
        }
        packer.pack(written);
        packer.tell_run(&mut scribe, |scribe, run| scribe.skip(format, &room.name, run));
        let covered = packer.covered;
        self.counters.deliveries += (out.len() - before) as u64;
        covered
    }

    /// The session becomes a member if it has covered what the lane has; else it reads on, or waits for the lane.
    pub(super) fn catch_up_on(
        &mut self,
        now: Now,
        index: u32,
        key: SessionKey,
        out: &mut Vec<Effect>,
    ) {
        let Some(at) = self.position(index) else { return };
        let Some(catch_up) = self.catching.get_mut(&(index, key.index)) else { return };
        if catch_up.covered.epoch != at.epoch {
            self.give_up(now, index, key, Unrecovered::Epoch, out);
        } else if catch_up.covered.offset.max(catch_up.known_to) > at.offset
            && catch_up.covered.offset >= at.offset
        {
            catch_up.step = Step::Lane;
            if let Some(stream) = self.stream(index) {
                stream.ahead = true;
            }
        } else if catch_up.covered.offset == at.offset {
            self.arrive(now, index, key, out);
        } else if catch_up.rounds >= ROUNDS_MAX {
            self.give_up(now, index, key, Unrecovered::Unavailable, out);
        } else {
            self.wait_for_space(now, index, key, false, out);
        }
    }

    /// The session goes on live, told that something is missing.
    pub(super) fn give_up(
        &mut self,
        now: Now,
        index: u32,
        key: SessionKey,
        why: Unrecovered,
        out: &mut Vec<Effect>,
    ) {
        let Some(at) = self.position(index) else { return };
        if self.goes_on_from_cursor(now, index, key, why, out) {
            return;
        }
        let Some(catch_up) = self.catching.get_mut(&(index, key.index)) else { return };
        let (covered, reply) = (catch_up.covered, catch_up.reply.take());
        self.inbox_jumps(index, key, covered.offset, at);
        match reply {
            Some(reply) if reply == ReplyTo::default() && self.ends_at_gap(key, out) => return,
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

    /// The session has covered what the lane has: it is a member. Then joins that came meanwhile are answered.
    pub(super) fn arrive(&mut self, now: Now, index: u32, key: SessionKey, out: &mut Vec<Effect>) {
        let ended = self.end_catch_up(index, key);
        if let Some(parked) = ended.as_ref().filter(|it| it.slow) {
            self.counters.unparked += 1;
            if self.stream(index).is_some_and(|stream| stream.loose != parked.loose) {
                self.owe_gap(key, out);
            }
        }
        let behind = ended.map_or(Vec::new(), |it| it.behind);
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
        for key in self.catching_in(index, |it| it.step == Step::Lane) {
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
            // One that has not been answered may be of that epoch's future, or of any: the page tells. So it does to
            // those who have not asked for one.
            let asked = |step: Step| matches!(step, Step::Page(_) | Step::Lane);
            if found.is_some_and(|it| it.reply.is_none() && asked(it.step)) {
                self.give_up(now, index, key, Unrecovered::Epoch, out);
            }
        }
        for key in self.catching_in(index, |it| matches!(it.step, Step::Epoch(_))) {
            self.ask_again(now, index, key, out);
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
        // Who waits for the lane lacks nothing, and costs nothing; who is slow takes its time.
        let Some(catch_up) = found.filter(|it| it.until_ms <= now.mono_ms) else { return };
        let key = catch_up.key;
        match catch_up.step {
            Step::Page(_) => self.give_up(now, index, key, Unrecovered::Unavailable, out),
            Step::Inbox(_) => self.inbox_is(now, index, key, None, out),
            Step::Epoch(_) => self.ask_again(now, index, key, out),
            Step::Space(_) | Step::Turn | Step::Lane | Step::Acks => {}
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
        if catch_up.step == Step::Turn {
            self.parking.step_out(index, key);
        }
        self.parking.count -= usize::from(catch_up.slow);
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
        if !self.enters_quietly(index, key, reply, recovered) {
            self.tell_joined(key, (reply, &name), entry, out);
        }
        self.note_entry(key, index, position);
        self.tell_lost(index, key, out);
    }

    pub(super) fn name_of(&self, index: u32) -> Option<RoomName> {
        self.rooms.get(index as usize).map(|room| room.name.clone())
    }
}

impl CatchUp {
    /// Of a session that has covered so much, and was told so.
    pub(super) fn new(key: SessionKey, covered: Position) -> Self {
        let (step, space) = (Step::Space(0), Space::NONE);
        let (slow, rounds, until_ms) = (false, 0, u64::MAX);
        Self {
            key,
            reply: None,
            covered,
            step,
            slow,
            loose: 0,
            space,
            rounds,
            until_ms,
            behind: Vec::new(),
            known_to: 0,
            acked: Vec::new(),
        }
    }

    /// Whether the session was told from where it hears the room.
    pub(super) const fn is_answered(&self) -> bool {
        self.reply.is_none()
    }

    /// The joins that are still to be answered, and what the session was told that it has covered.
    pub(super) fn unanswered(self) -> (Vec<Ask>, Option<Position>) {
        let told = self.reply.is_none().then_some(self.covered);
        let since = Some(self.covered);
        let first = self.reply.map(|reply| Ask { reply, since, unacked: None });
        (first.into_iter().chain(self.behind).collect(), told)
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
