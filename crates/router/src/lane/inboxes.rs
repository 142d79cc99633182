//! Inboxes (G16): rooms that keep publications for their user. Who enters one is given first what its device has not
//! acked; its cursor moves as publications arrive, and with acks where those are required.

use roomcast_protocol::command::{Continuation, ReplyTo};
use roomcast_protocol::conversation;
use roomcast_protocol::ids::SessionKey;
use roomcast_protocol::inbox::{CursorName, CursorOf, InboxState};
use roomcast_protocol::outbound::{Outbound, SkipReason};
use roomcast_protocol::position::{Kept, Page, Position, Unrecovered};
use roomcast_protocol::publication::Publication;
use roomcast_protocol::time::Now;

use super::Lane;
use super::acks::{Acks, Inbox, Lost};
use super::catching::{CatchUp, Step};
use super::cursor::Cursor;
use super::rooms::Ask;
use super::scribe::Scribe;
use super::stream::Run;
use crate::messages::{Effect, HubMessage};
use crate::outbox::Mark;
use crate::session::Session;

/// How long a session waits to be told what it has acked; then it goes on without knowing. Units: milliseconds.
pub(super) const ASK_MS: u64 = 5_000;

/// How often a cursor is moved at most. Units: milliseconds.
pub(super) const REPORT_MS: u64 = 1_000;

/// How often the place of a member in a group is noted at most: there may be thousands of them. Units: milliseconds.
pub(super) const GROUP_REPORT_MS: u64 = 5_000;

/// The device of a client that names none.
pub(super) const DEVICE: &str = "default";

/// Where a session begins in its inbox.
struct Start {
    /// It has covered that.
    covered: Position,
    /// What the answer to its join says.
    answer: (Position, Result<(), Unrecovered>),
    /// Its client has all up to it.
    known_to: u64,
    /// What it is told to have skipped then.
    skipped: Option<Run>,
}

impl Lane {
    /// Notes which device a session is.
    pub(super) fn note_device(&mut self, key: SessionKey, said: Option<&Continuation>) {
        let Some(device) = said.and_then(|said| said.device.clone()) else { return };
        if let Some(session) = self.session_mut(key) {
            session.acks.get_or_insert_default().device = Some(device);
        }
    }

    /// The session is welcomed, and takes its place in one of its own rooms that is live: in an inbox it is given first
    /// what it has not acked. Says whether it is one.
    pub(super) fn enters_inbox(
        &mut self,
        index: u32,
        key: SessionKey,
        out: &mut Vec<Effect>,
    ) -> bool {
        let is_one = self.cursor_of(index).is_some();
        if is_one {
            let ask = Ask { reply: ReplyTo::default(), since: None, unacked: None };
            self.enter_stream(self.turns.now(), key, index, ask, out);
        }
        is_one
    }

    /// Asks what the session has acked, if the room is an inbox and that is not known; else gives the join back.
    pub(super) fn ask_inbox(
        &mut self,
        now: Now,
        key: SessionKey,
        index: u32,
        ask: Ask,
        out: &mut Vec<Effect>,
    ) -> Option<Ask> {
        let (Some(cursor), Some(at)) = (self.cursor_name(index, key), self.position(index)) else {
            return Some(ask);
        };
        let acks = self.session_mut(key).and_then(|session| session.acks.as_mut());
        if acks.is_some_and(|acks| acks.inbox(index).is_some()) {
            return Some(ask);
        }
        let (reply, step) = (Some(ask.reply), Step::Inbox(ask.since));
        let asking = CatchUp::new(key, ask.since.unwrap_or(at));
        self.open_catch_up(index, CatchUp { reply, step, ..asking });
        match self.state_in_group(index, key) {
            Some(state) => self.inbox_is(now, index, key, Some(state), out),
            None => self.ask_cursor(now, index, key, cursor, out),
        }
        None
    }

    /// The hub says what a session has acked.
    pub(super) fn inbox(
        &mut self,
        now: Now,
        key: SessionKey,
        cursor: &CursorName,
        state: Option<InboxState>,
        out: &mut Vec<Effect>,
    ) {
        let Some(index) = self.names.get(&cursor.room).copied() else { return };
        let found = self.catching.get(&(index, key.index)).filter(|it| it.key == key);
        if found.is_some_and(|it| matches!(it.step, Step::Inbox(_))) {
            self.inbox_is(now, index, key, state, out);
        }
    }

    /// What the session has acked is known, or will not be.
    pub(super) fn inbox_is(
        &mut self,
        now: Now,
        index: u32,
        key: SessionKey,
        state: Option<InboxState>,
        out: &mut Vec<Effect>,
    ) {
        let (Some(at), Some(name)) = (self.position(index), self.cursor_name(index, key)) else {
            return;
        };
        let Some(catch_up) = self.catching.get_mut(&(index, key.index)) else { return };
        let Step::Inbox(wished) = catch_up.step else { return };
        let Some(state) = state else {
            self.counters.inboxes_unknown += 1;
            let known = wished.filter(|since| since.epoch == at.epoch && since.offset <= at.offset);
            let cursor = Cursor::unknown(known.unwrap_or(at));
            self.keep_inbox(key, Inbox::new(index, name, cursor, Lost::default()));
            return match wished {
                None => self.give_up(now, index, key, Unrecovered::Unavailable, out),
                Some(_) => self.enter_anew(now, index, key, out),
            };
        };
        if state.head.position.epoch != at.epoch {
            return self.await_epoch(now, index, key);
        }
        let Start { covered, answer, known_to, skipped } = start(&state, wished);
        let reply = catch_up.reply.take();
        let above = state.acked.above.iter().copied().filter(|offset| *offset > covered.offset);
        let cursor = Cursor::new(covered, above);
        self.keep_inbox(key, Inbox::new(index, name, cursor, Lost::new(&state)));
        self.tell_start(index, key, reply, answer, out);
        if let Some(catch_up) = self.catching.get_mut(&(index, key.index)) {
            catch_up.covered = covered;
            catch_up.known_to = known_to;
            catch_up.acked = state.acked.above;
        }
        if let Some(run) = skipped {
            self.tell_run(index, key, run, out);
        }
        self.give_time(now, index, key);
        self.catch_up_on(now, index, key, out);
    }

    /// The session enters like any room, from where its client says.
    fn enter_anew(&mut self, now: Now, index: u32, key: SessionKey, out: &mut Vec<Effect>) {
        let Some(catch_up) = self.end_catch_up(index, key) else { return };
        for ask in catch_up.unanswered().0 {
            self.enter_stream(now, key, index, ask, out);
        }
    }

    fn keep_inbox(&mut self, key: SessionKey, inbox: Inbox) {
        if let Some(session) = self.session_mut(key) {
            let inboxes = &mut session.acks.get_or_insert_default().inboxes;
            // Nearly all sessions have one: their user's room.
            inboxes.reserve_exact(1);
            inboxes.push(inbox);
        }
    }

    /// Whose cursors count in the room; `None`: it is no inbox.
    fn cursor_of(&self, index: u32) -> Option<CursorOf> {
        let room = self.rooms.get(index as usize).filter(|room| room.stream.is_some())?;
        match self.group_at(index) {
            Some(_) => Some(CursorOf::Device),
            None => self.guard.policy(room.rule).cursor,
        }
    }

    pub(super) fn cursor_name(&self, index: u32, key: SessionKey) -> Option<CursorName> {
        let device: Box<str> = match self.cursor_of(index)? {
            CursorOf::User => "".into(),
            CursorOf::Device => {
                let acks = self.session(key).and_then(|session| session.acks.as_ref());
                let said = acks.and_then(|acks| acks.device.as_deref()).unwrap_or(DEVICE);
                #[cfg(feature = "planted")]
                let said = match self.planted {
                    Some(crate::planted::Planted::AckForAllDevices) => DEVICE,
                    _ => said,
                };
                match self.group_at(index) {
                    Some(_) => format!("{} {said}", self.talker(key)?).into(),
                    None => said.into(),
                }
            }
        };
        Some(CursorName { room: self.name_of(index)?, device })
    }

    /// Nobody asked, and the rule says that this is not news: a session begins, and nothing is missing; or the client is one
    /// that makes nothing of positions: it would take it for another answer. Whoever is resumed hears of each of its rooms
    /// where it goes on, before anything else of it.
    pub(super) fn enters_quietly(
        &self,
        index: u32,
        key: SessionKey,
        reply: &ReplyTo,
        recovered: Option<Result<(), Unrecovered>>,
    ) -> bool {
        let rule = self.rooms.get(index as usize).map(|room| room.rule);
        if *reply != ReplyTo::default() || !rule.is_some_and(|rule| self.guard.policy(rule).quiet) {
            return false;
        }
        let lasting = self.session(key).and_then(|session| session.lasting.as_ref());
        let (resumed, plain) =
            lasting.map_or((false, false), |it| (it.is_resumed(), it.records_first));
        plain || recovered == Some(Ok(())) && !resumed
    }

    /// Tells a session that has just been answered how much it lost.
    pub(super) fn tell_lost(&mut self, index: u32, key: SessionKey, out: &mut Vec<Effect>) {
        let now = self.turns.now();
        #[cfg(feature = "planted")]
        let from_writes = self.planted == Some(crate::planted::Planted::ToldFromWrites);
        let acks = self.session_mut(key).and_then(|session| session.acks.as_mut());
        let Some(acks) = acks else { return };
        let pings = acks.pings;
        let Some(inbox) = acks.inbox(index) else { return };
        let Some(count) = inbox.lost.tell(pings) else { return };
        inbox.moved_ms = inbox.moved_ms.or(Some(now.mono_ms));
        #[cfg(feature = "planted")]
        if from_writes {
            inbox.lost.arrived(u32::MAX);
        }
        self.counters.inbox_lost += count;
        let Some(name) = self.name_of(index) else { return };
        self.send(key, &Outbound::Lost { room: name.as_str(), count }, out);
        self.arm_acks(now, key);
    }

    fn tell_run(&mut self, index: u32, key: SessionKey, run: Run, out: &mut Vec<Effect>) {
        let Some(format) = self.session(key).map(|session| session.format) else { return };
        let Some(room) = self.rooms.get(index as usize) else { return };
        let Some(class) = room.stream.as_ref().map(|stream| stream.class) else { return };
        let mut scribe =
            Scribe::new(&self.formats, &self.sessions, &mut self.sink, &mut self.counters);
        let frame = scribe.skip(format, &room.name, run);
        if !frame.is_empty() {
            let (room, before) = (room.serial, Some(run.before()));
            let mark =
                Some(Mark { room, before, expires_unix_ms: None, key: None, stays: false }.into());
            out.push(Effect::Send { to: key.index, frame, class, mark });
        }
    }

    /// A publication is on its way to all members of the room.
    pub(super) fn inbox_room_moves(&mut self, now: Now, index: u32) {
        for key in self.inbox_members(index) {
            self.inbox_moves(now, index, key);
        }
    }

    /// Something was given to a session: once it has arrived it counts as acked.
    pub(super) fn inbox_moves(&mut self, now: Now, index: u32, key: SessionKey) {
        let acks = self.session_mut(key).and_then(|session| session.acks.as_mut());
        let Some(inbox) = acks.and_then(|acks| acks.inbox(index)) else { return };
        if inbox.moved_ms.is_none() {
            inbox.moved_ms = Some(now.mono_ms);
            self.arm_acks(now, key);
        }
    }

    /// Members of the room go on behind `position`, and lose what is above `covered`.
    pub(super) fn inbox_room_jumps(&mut self, index: u32, covered: Position, position: Position) {
        for key in self.inbox_members(index) {
            self.inbox_jumps(index, key, covered.offset, position);
        }
    }

    /// The same for one session.
    pub(super) fn inbox_jumps(
        &mut self,
        index: u32,
        key: SessionKey,
        covered: u64,
        position: Position,
    ) {
        let acks = self.session_mut(key).and_then(|session| session.acks.as_mut());
        if let Some(inbox) = acks.and_then(|acks| acks.inbox(index)) {
            inbox.cursor.leave_open(covered + 1, position.offset);
        }
    }

    pub(super) fn inbox_members(&self, index: u32) -> Vec<SessionKey> {
        if self.cursor_of(index).is_none() {
            return Vec::new();
        }
        let Some(room) = self.rooms.get(index as usize) else { return Vec::new() };
        let sessions = room.members.iter().map(|member| member.session as usize);
        sessions.filter_map(|at| self.sessions.get(at)).map(|session| session.key).collect()
    }

    /// The client has said itself that it has all up to `position`.
    pub(super) fn inbox_is_known(&mut self, index: u32, key: SessionKey, position: Position) {
        let acks = self.session_mut(key).and_then(|session| session.acks.as_mut());
        if let Some(inbox) = acks.and_then(|acks| acks.inbox(index)) {
            inbox.cursor.arrived(position);
        }
    }

    /// A page of an inbox whose stream has begun anew: older entries stay to be given, under the epoch that counts.
    /// `None`: there are none.
    pub(super) fn in_one_epoch(&self, index: u32, page: &Page) -> Option<Page> {
        let epoch = page.head.position.epoch;
        let is_older = |kept: &Kept| kept.position().is_some_and(|it| it.epoch != epoch);
        if self.cursor_of(index).is_none() || !page.entries.iter().any(is_older) {
            return None;
        }
        let renamed = |kept: &Kept| match kept {
            Kept::Publication(it) => {
                let put_under = it.position.map(|position| Box::new(position.epoch));
                #[cfg(feature = "planted")]
                let put_under = put_under
                    .filter(|_| self.planted != Some(crate::planted::Planted::OlderNumberedAnew));
                let position = it.position.map(|position| Position { epoch, ..position });
                Kept::Publication(Publication { position, put_under, ..(**it).clone() }.into())
            }
            Kept::Unreadable(it) => Kept::Unreadable(Position { epoch, ..*it }),
            Kept::Removed(it) => Kept::Removed(Position { epoch, ..*it }),
        };
        Some(Page { entries: page.entries.iter().map(renamed).collect(), ..*page })
    }

    /// What a session has yet to get of its inbox was removed meanwhile: it is told that it skipped that, and the
    /// broker counts it as lost. Says whether it was that.
    pub(super) fn passes_removed(
        &mut self,
        index: u32,
        key: SessionKey,
        page: Option<&Page>,
        out: &mut Vec<Effect>,
    ) -> bool {
        let acks = self.session_mut(key).and_then(|session| session.acks.as_mut());
        if acks.is_none_or(|acks| acks.inbox(index).is_none()) {
            return self.passes_known(index, key, page);
        }
        let Some(catch_up) = self.catching.get_mut(&(index, key.index)) else { return false };
        let Some(head) = page.map(|page| page.head) else { return false };
        let covered = catch_up.covered;
        let to = covered.at(head.first.saturating_sub(1));
        if catch_up.reply.is_some()
            || head.position.epoch != covered.epoch
            || to.offset <= covered.offset
        {
            return false;
        }
        catch_up.covered = to;
        let count = to.offset - covered.offset.max(catch_up.known_to).min(to.offset);
        if let Some(inbox) =
            self.session_mut(key).and_then(|it| it.acks.as_mut()).and_then(|it| it.inbox(index))
        {
            inbox.cursor.removed(to.offset);
        }
        if count > 0 {
            if let Some(counter) = self.counters.skips.get_mut(SkipReason::Removed as usize) {
                *counter += count;
            }
            self.tell_run(index, key, Run::of(to, count, &[SkipReason::Removed]), out);
        }
        true
    }

    /// A ping is about to be sent: notes up to where the session was given its inboxes before it.
    pub(super) fn note_given_up_to(&mut self, key: SessionKey) {
        let Some(session) = self.session(key) else { return };
        let Some(acks) = &session.acks else { return };
        let number = acks.pings.wrapping_add(1);
        let rooms = acks.inboxes.iter().map(|inbox| inbox.room);
        let given: Vec<_> = rooms.map(|room| self.given_up_to(room, session)).collect();
        let Some(acks) = self.session_mut(key).and_then(|it| it.acks.as_mut()) else { return };
        for (inbox, position) in acks.inboxes.iter_mut().zip(given) {
            // One that is under way is not put off for ever by those that follow it.
            if let (None, Some(position)) = (inbox.pinged, position) {
                inbox.pinged = Some((number, position));
                inbox.moved_ms = None;
            }
        }
    }

    /// Up to where a session was given a room; `None`: something is still on its way to it.
    fn given_up_to(&self, index: u32, session: &Session) -> Option<Position> {
        if self.catching.contains_key(&(index, session.key.index)) {
            return self.caught_up(index, session.key);
        }
        let room = self.rooms.get(index as usize)?;
        room.position().filter(|_| self.is_member(index, session.key) && !room.has_work())
    }

    /// The ping with which so many had been sent was answered.
    pub(super) fn all_arrived(
        &mut self,
        now: Now,
        key: SessionKey,
        answered: u32,
        out: &mut Vec<Effect>,
    ) {
        let Some(acks) = self.session_mut(key).and_then(|it| it.acks.as_mut()) else { return };
        let mut safe = Vec::new();
        for inbox in &mut acks.inboxes {
            if let Some((_, position)) = inbox.pinged.take_if(|(pinged, _)| *pinged <= answered) {
                safe.push((inbox.room, position));
            }
            inbox.lost.arrived(answered);
        }
        for (room, position) in safe {
            self.safe_moved(now, key, room, position, out);
        }
        self.report_cursors(now, key, out);
    }

    /// All that a session was given of the room up to `position` has arrived.
    pub(super) fn safe_moved(
        &mut self,
        now: Now,
        key: SessionKey,
        index: u32,
        position: Position,
        out: &mut Vec<Effect>,
    ) {
        self.inbox_is_known(index, key, position);
        self.report_cursors(now, key, out);
    }

    /// Tells the broker of cursors that have moved, each at most once a second.
    ///
    /// Without the session's generation, unlike its record: that a device has got something, or was told of a loss, stays true
    /// when its session has gone on elsewhere, and cursors only grow. So what a former connection reports late counts as well.
    pub(super) fn report_cursors(&mut self, now: Now, key: SessionKey, out: &mut Vec<Effect>) {
        let Some(acks) = self.session_mut(key).and_then(|it| it.acks.as_mut()) else { return };
        for inbox in &mut acks.inboxes {
            if next_report_ms(inbox).is_some_and(|at| at <= now.mono_ms) {
                inbox.reported_ms = Some(now.mono_ms);
                out.push(report(inbox));
            }
        }
    }

    /// The session leaves the room.
    pub(super) fn close_inbox(&mut self, index: u32, key: SessionKey, out: &mut Vec<Effect>) {
        let Some(acks) = self.session_mut(key).and_then(|it| it.acks.as_mut()) else { return };
        for mut inbox in acks.inboxes.extract_if(.., |inbox| inbox.room == index) {
            out.extend(last_report(&mut inbox));
        }
    }

    /// The session ends: what it has acked is kept.
    pub(super) fn end_inboxes(&mut self, key: SessionKey, out: &mut Vec<Effect>) {
        let acks = self.session_mut(key).and_then(|session| session.acks.take());
        let Some(mut acks): Option<Box<Acks>> = acks else { return };
        out.extend(acks.inboxes.iter_mut().filter_map(last_report));
    }
}

/// When the broker is to be told of the cursor. Units: monotonic milliseconds.
pub(super) fn next_report_ms(inbox: &Inbox) -> Option<u64> {
    let often_ms = match conversation::group_of(&inbox.name.room) {
        Some(_) => GROUP_REPORT_MS,
        None => REPORT_MS,
    };
    let next = inbox.reported_ms.map_or(0, |at| at.saturating_add(often_ms));
    inbox.has_news().then_some(next)
}

fn last_report(inbox: &mut Inbox) -> Option<Effect> {
    inbox.has_news().then(|| report(inbox))
}

fn report(inbox: &mut Inbox) -> Effect {
    let (acked, told) = inbox.report();
    Effect::Hub(HubMessage::Ack { cursor: inbox.name.clone(), acked, told })
}

/// Where a session begins whose client wants to know what it missed since `wished`.
fn start(state: &InboxState, wished: Option<Position>) -> Start {
    let head = state.head.position;
    let watermark = state.acked.watermark.offset.min(head.offset);
    let removed_to = state.head.first.saturating_sub(1).min(head.offset);
    let covered = head.at(watermark.max(removed_to));
    let begin =
        |recovered| Start { covered, answer: (covered, recovered), known_to: 0, skipped: None };
    let Some(since) = wished else {
        return begin(if state.untold() == 0 { Ok(()) } else { Err(Unrecovered::TooOld) });
    };
    if since.epoch != head.epoch {
        return begin(Err(Unrecovered::Epoch));
    }
    if since.offset > head.offset {
        return begin(Err(Unrecovered::Ahead));
    }
    if since.offset >= covered.offset {
        let (answer, known_to) = ((since, Ok(())), since.offset);
        return Start { covered, answer, known_to, skipped: None };
    }
    if removed_to > watermark.max(since.offset) && state.untold() > 0 {
        return begin(Err(Unrecovered::TooOld));
    }
    let mut reasons = Vec::new();
    reasons.extend((watermark > since.offset).then_some(SkipReason::Acked));
    reasons.extend((removed_to > watermark.max(since.offset)).then_some(SkipReason::Removed));
    let run = Run::of(covered, covered.offset - since.offset, &reasons);
    Start { covered, answer: (since, Ok(())), known_to: 0, skipped: Some(run) }
}
