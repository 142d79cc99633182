//! One lane: the sessions and rooms of one worker thread. Pure; what it wants done goes into the caller's buffer.
//!
//! Keeps INV-3 (a session is a member of exactly the rooms it lists), INV-5 (one answer for each command that wants
//! one), INV-10 (a publication is encoded at most once per format) and INV-15 (members cover each offset once).

mod acking;
pub(crate) mod acks;
mod alarms;
mod aside;
mod batch;
mod behind;
mod catching;
mod commands;
mod conversations;
mod counters;
mod cursor;
mod draining;
mod early;
mod frames;
mod gaps;
mod grouped;
mod groups;
mod happenings;
mod history;
mod holding;
mod inboxes;
mod joins;
mod keeping;
pub(crate) mod lasting;
mod members;
mod membership;
mod moves;
mod opening;
mod orders;
mod pages;
mod parking;
mod people;
mod permits;
mod presence;
mod receipts;
mod records;
mod renewed;
mod requests;
mod resume;
mod revoked;
mod rooms;
mod scribe;
mod served;
mod silence;
mod speech;
mod stream;
mod surveys;
#[cfg(test)]
mod tests;
mod welcoming;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use foldhash::quality::FixedState;
use roomcast_protocol::codes::Close;
use roomcast_protocol::command::Command;
use roomcast_protocol::dialect::Format;
use roomcast_protocol::frame::FrameSink;
use roomcast_protocol::guard::Guard;
use roomcast_protocol::ids::{LaneId, SessionId, SessionKey};
use roomcast_protocol::limits::SessionLimits;
use roomcast_protocol::outbound::Outbound;
use roomcast_protocol::room::RoomName;
use roomcast_protocol::session::SessionState;
use roomcast_protocol::time::Now;
use slab::Slab;

use crate::happenings::{Ended, Wanted};
use crate::messages::{Effect, LaneMessage};
use crate::meter::Users;
use crate::session::{Due, Early, Flag, Flags, Phase, Session};
use crate::wheel::Wheel;
pub use acking::{ACKED_MEMBERS_MAX, FAILED_MAX, FailedDelivery};
use alarms::Alarms;
use behind::Behind;
use catching::CatchUp;
pub use commands::publication_of;
use counters::add_one;
pub use counters::{Counters, Drained, Sizes};
use draining::Drain;
use groups::Groups;
use happenings::{EXPIRED, Telling};
use history::Reads;
use holding::Turns;
pub use opening::{Admission, Opening};
use parking::Parking;
pub use parking::{Space, Until};
use presence::Doubts;
use records::state_after;
use resume::Attaching;
pub use revoked::REVOKED_MAX;
use revoked::Revoked;
use rooms::Room;
use scribe::Scribe;
pub use served::SERVED_MAX;
use served::Served;

/// Members of one room that are served before another room's turn: half a millisecond of writes.
pub const SLICE_MEMBERS: usize = 64;

/// Bytes that may wait in the rooms of a lane. Over it, what comes next has members served first.
pub const BACKLOG_BYTES_MAX: usize = 4 << 20;

/// What a lane is made with.
pub struct LaneConfig {
    /// Which lane.
    pub id: LaneId,
    /// The configuration's answers.
    pub guard: Arc<dyn Guard>,
    /// What sessions may do.
    pub limits: SessionLimits,
    /// The node's users.
    pub users: Arc<Users>,
    /// Seeds the tables whose keys peers choose.
    pub seed: u64,
    /// Gives 128 random bits that nobody can guess, each time others.
    pub secrets: Secrets,
    /// What it tells the application.
    pub wanted: Wanted,
}

/// Where a lane has its secrets from.
pub type Secrets = Box<dyn FnMut() -> u128 + Send>;

/// The sessions and rooms of one worker thread.
pub struct Lane {
    id: LaneId,
    guard: Arc<dyn Guard>,
    limits: SessionLimits,
    users: Arc<Users>,
    sessions: Slab<Session>,
    generation: u32,
    rooms: Slab<Room>,
    names: HashMap<RoomName, u32, FixedState>,
    hasher: FixedState,
    formats: Vec<Format>,
    /// Rooms with publications on their way, in turn: index and serial, for a room may end meanwhile.
    busy: VecDeque<(u32, u32)>,
    room_serial: u32,
    backlog_bytes: usize,
    wheel: Wheel,
    alarms: Alarms,
    turns: Turns,
    reads: Reads,
    /// Sessions that are told what they missed of a room, by room and session; they are no members yet.
    catching: BTreeMap<(u32, u32), CatchUp>,
    /// Wishes for sessions that were not answered, those of sessions that have gone included.
    attaching: BTreeMap<SessionKey, Attaching>,
    /// The step in which records were renewed last.
    renewed: u64,
    /// The node stops.
    drain: Option<Box<Drain>>,
    revoked: Revoked,
    parking: Parking,
    /// Commands that came in one frame with a session's token, to be run once it is ready.
    early: BTreeMap<SessionKey, Vec<Command>>,
    /// Commands that wait behind joins of their session.
    behind: BTreeMap<SessionKey, Behind>,
    groups: Groups,
    /// When sessions said something last whose dialect asks for that. Units: monotonic milliseconds.
    said_ms: BTreeMap<SessionKey, u64>,
    sink: FrameSink,
    counters: Counters,
    unauthenticated: usize,
    memberships: usize,
    secrets: Secrets,
    served: Served,
    doubts: Doubts,
    /// Rooms with receipts whose members were given something, and whose alarm is to ring: index and serial.
    receipts: BTreeSet<(u32, u32)>,
    failed: Vec<FailedDelivery>,
    telling: Telling,
    /// The node is on its own: whoever becomes ready is told.
    isolated: bool,
    #[cfg(feature = "planted")]
    planted: Option<crate::planted::Planted>,
}

impl Lane {
    /// An empty lane.
    #[must_use]
    pub fn new(config: LaneConfig) -> Self {
        Self {
            id: config.id,
            guard: config.guard,
            limits: config.limits,
            users: config.users,
            sessions: Slab::new(),
            generation: 0,
            rooms: Slab::new(),
            names: HashMap::with_hasher(FixedState::with_seed(config.seed)),
            hasher: FixedState::with_seed(config.seed),
            formats: Vec::new(),
            busy: VecDeque::new(),
            room_serial: 0,
            backlog_bytes: 0,
            wheel: Wheel::default(),
            alarms: Alarms::default(),
            turns: Turns::default(),
            reads: Reads::default(),
            catching: BTreeMap::new(),
            attaching: BTreeMap::new(),
            renewed: 0,
            drain: None,
            revoked: Revoked::default(),
            parking: Parking::default(),
            early: BTreeMap::new(),
            behind: BTreeMap::new(),
            groups: Groups::default(),
            said_ms: BTreeMap::new(),
            sink: FrameSink::new(),
            counters: Counters::default(),
            unauthenticated: 0,
            memberships: 0,
            secrets: config.secrets,
            served: Served::default(),
            doubts: Doubts::default(),
            receipts: BTreeSet::new(),
            failed: Vec::new(),
            telling: Telling::new(config.wanted),
            isolated: false,
            #[cfg(feature = "planted")]
            planted: None,
        }
    }

    /// Plants a bug.
    #[cfg(feature = "planted")]
    pub const fn plant(&mut self, planted: crate::planted::Planted) {
        self.planted = Some(planted);
    }

    /// What happened so far.
    #[must_use]
    pub const fn counters(&self) -> &Counters {
        &self.counters
    }

    /// How large it is.
    #[must_use]
    pub fn sizes(&self) -> Sizes {
        Sizes {
            sessions: self.sessions.len(),
            unauthenticated: self.unauthenticated,
            rooms: self.rooms.len(),
            memberships: self.memberships,
            parked: self.parking.count,
        }
    }

    /// Bytes of publications on their way to members. Bounds: [`BACKLOG_BYTES_MAX`] and one publication more.
    #[must_use]
    pub const fn backlog_bytes(&self) -> usize {
        self.backlog_bytes
    }

    /// Begins a session. With a good token it joins its own rooms; [`Effect::Ready`] says when it may act.
    pub fn open(
        &mut self,
        now: Now,
        id: SessionId,
        format: Format,
        opening: Opening,
        out: &mut Vec<Effect>,
    ) -> SessionKey {
        self.begin_turn(now, out);
        self.generation = self.generation.wrapping_add(1);
        let generation = self.generation;
        let format = self.format_index(format);
        let entry = self.sessions.vacant_entry();
        let key = SessionKey { index: u32::try_from(entry.key()).unwrap_or(u32::MAX), generation };
        entry.insert(Session {
            key,
            id,
            format,
            phase: Phase::Connecting(Early::default()),
            who: None,
            place: None,
            rooms: Vec::new(),
            rights: None,
            ids_made: 0,
            heard_ms: now.mono_ms,
            pinged_ms: 0,
            armed_ms: u64::MAX,
            flags: Flags::default(),
            histories: 0,
            requests: 0,
            lasting: None,
            acks: None,
        });
        self.unauthenticated += 1;
        match opening {
            Opening::Silent => self.rearm(now, key),
            Opening::Known(who, place, continuation) => {
                self.note_device(key, continuation.as_deref());
                self.become_known(now, key, (who, place, continuation), out);
            }
        }
        self.drain_too(key);
        key
    }

    /// Bytes came from the session's client.
    pub fn heard(&mut self, now: Now, key: SessionKey) {
        if let Some(session) = self.session_mut(key)
            && !session.is_connecting()
        {
            session.heard_ms = now.mono_ms;
        }
    }

    /// Whether the session may act; before that only a token and keep-alives are taken.
    #[must_use]
    pub fn is_ready(&self, key: SessionKey) -> bool {
        self.session(key).is_some_and(|session| session.phase == Phase::Ready)
    }

    /// The socket is gone, or the shell ends the session. A client that said goodbye does not come back.
    pub fn closed(&mut self, now: Now, key: SessionKey, said_goodbye: bool, out: &mut Vec<Effect>) {
        let (ended, state) = if said_goodbye {
            (Ended::Goodbye, SessionState::Ended)
        } else {
            (Ended::Gone, SessionState::Detached)
        };
        self.begin_turn(now, out);
        self.publish_behind(now, key, out);
        self.end(key, ended, state, out);
    }

    /// The client answered the ping of this number.
    pub fn ponged(&mut self, now: Now, key: SessionKey, number: u32, out: &mut Vec<Effect>) {
        self.heard(now, key);
        self.vouch_for(key, out);
        self.pinged(now, key, number, out);
        self.take_pong(key, number, out);
    }

    /// Ends the session, telling its client why.
    pub fn close(&mut self, key: SessionKey, close: Close, out: &mut Vec<Effect>) {
        if self.session(key).is_some() {
            add_one(&mut self.counters.closes, close.index());
            self.end(key, Ended::Closed(close), state_after(close), out);
            out.push(Effect::Close { to: key.index, close });
        }
    }

    /// The same without a Close frame.
    fn drop_connection(&mut self, key: SessionKey, close: Close, out: &mut Vec<Effect>) {
        if self.session(key).is_some() {
            add_one(&mut self.counters.closes, close.index());
            self.end(key, Ended::Closed(close), state_after(close), out);
            out.push(Effect::Drop { to: key.index, close });
        }
    }

    /// Its connection is over, and the session with it, unless it is resumed.
    fn end(&mut self, key: SessionKey, ended: Ended, state: SessionState, out: &mut Vec<Effect>) {
        self.tell_disconnected(key, ended, state, out);
        self.let_go(key, state, out);
        self.forget(key, out);
    }

    /// Takes what the hub says.
    pub fn message(&mut self, now: Now, message: LaneMessage, out: &mut Vec<Effect>) {
        self.begin_turn(now, out);
        match message {
            LaneMessage::Publication { publication, published_us } => {
                self.publication(now, &publication, published_us, out);
                while self.backlog_bytes > BACKLOG_BYTES_MAX && self.serve(SLICE_MEMBERS, out) {}
            }
            LaneMessage::Joined { room, position, live: true } => {
                self.room_is_live(now, &room, position, out);
            }
            LaneMessage::Joined { room, live: false, .. } => self.room_is_away(now, &room, out),
            LaneMessage::Skipped { room, position, reason } => {
                self.skipped(now, &room, (position, reason), out);
            }
            LaneMessage::Gap { room, position, loss } => self.gap(now, &room, position, loss, out),
            LaneMessage::Page { query, page } => self.page(now, query, page, out),
            LaneMessage::Hold(true) => self.hold(),
            LaneMessage::Hold(false) => self.go_on(now, out),
            LaneMessage::Published { session, reply, ack, outcome } => match (outcome, ack) {
                (Ok(accepted), Some(id)) => {
                    self.send(session, &Outbound::Accepted { id: &id, accepted }, out);
                }
                (Ok(_), None) => {}
                (Err(refused), _) => self.refuse(session, &reply, &refused, out),
            },
            LaneMessage::Lost(loss) => self.tell_of_gap(loss, out),
            LaneMessage::Degraded { isolated } => self.tell_of_isolation(now, isolated, out),
            LaneMessage::Members { query, room } => self.answer_members(query, &room, out),
            LaneMessage::Obeyed(order) => self.turns.obeyed = Some(order),
            LaneMessage::Survey { ticket, survey } => self.answer_survey(ticket, &survey, out),
            LaneMessage::Order { ticket, order } => self.carry_out(now, ticket, &order, out),
            LaneMessage::Blind => self.tell_of_blindness(out),
            LaneMessage::Revalidate => self.revalidate(out),
            LaneMessage::Revoked { revocations, whole } => {
                self.learn_revoked(now, &revocations, whole, out);
            }
            LaneMessage::Stop => self.stop(out),
            LaneMessage::Attached { session, outcome } => self.attached(now, session, outcome, out),
            LaneMessage::Saved { session, outcome } => self.saved(now, session, outcome, out),
            LaneMessage::Fence { session, generation, moved } => {
                self.fence(session, generation, moved, out);
            }
            LaneMessage::Drain(plan) => self.begin_drain(now, plan, out),
            LaneMessage::Presence(diff) => self.tell_presence(&diff, out),
            LaneMessage::Roster { session, reply, room, outcome } => {
                self.answer_roster(session, (&reply, &room), outcome, out);
            }
            LaneMessage::Presents { since_ms } => self.doubt_presence(now, since_ms, out),
            LaneMessage::Marked { session, reply, room, outcome } => {
                self.answer_mark(session, (&reply, &room), outcome, out);
            }
            LaneMessage::Receipts(diff) => self.tell_receipts(&diff, out),
            LaneMessage::ReceiptsPage { session, reply, room, outcome } => {
                self.answer_receipts(session, (&reply, &room), outcome, out);
            }
            LaneMessage::Conversed { session, reply, outcome } => {
                self.conversed(now, session, &reply, outcome, out);
            }
            LaneMessage::Responded(responded) => self.responded(*responded, out),
            LaneMessage::Permitted { session, outcome } => {
                self.permitted(now, session, outcome, out);
            }
            LaneMessage::Inbox { session, cursor, state } => {
                self.inbox(now, session, &cursor, state, out);
            }
        }
        self.answer_groups(now, out);
    }

    /// Serves up to `budget` members, [`SLICE_MEMBERS`] of a room at a time; says whether more wait.
    pub fn serve(&mut self, budget: usize, out: &mut Vec<Effect>) -> bool {
        if self.turns.held {
            return false;
        }
        let mut left = budget;
        while left > 0
            && let Some((index, serial)) = self.busy.pop_front()
        {
            let mut scribe =
                Scribe::new(&self.formats, &self.sessions, &mut self.sink, &mut self.counters);
            scribe.unix_ms = self.turns.last_unix_ms;
            scribe.unacked_max = self.limits.unacked_max.into();
            let room = self.rooms.get_mut(index as usize);
            let Some(room) = room.filter(|room| room.serial == serial) else { continue };
            let (before, bytes) = (out.len(), room.bytes());
            let finished = |stamps| self.served.finish(stamps);
            let served = room.serve(left.min(SLICE_MEMBERS), out, &mut scribe, finished);
            let burden = std::mem::take(&mut scribe.burden);
            self.counters.deliveries += (out.len() - before) as u64;
            self.backlog_bytes = self.backlog_bytes + room.bytes() - bytes;
            left = left.saturating_sub(served.max(1));
            if room.has_work() {
                self.busy.push_back((index, serial));
            } else {
                room.listed = false;
            }
            if !burden.is_empty() {
                self.burden(index, burden, true, out);
            }
        }
        !self.busy.is_empty()
    }

    /// When publications were published whose last member on this lane was given its frames since the list was emptied,
    /// which is up to the caller. Bounds: [`SERVED_MAX`]. Units: as [`LaneMessage::Publication`] has it.
    pub const fn take_served(&mut self) -> &mut Vec<u64> {
        &mut self.served.done
    }

    /// When [`Lane::tick`] wants to be called next. Units: monotonic milliseconds.
    #[must_use]
    pub fn next_wake(&self) -> Option<u64> {
        let turn = (!self.sessions.is_empty()).then(|| self.turns.next_ms());
        let drain = self.drain.as_ref().and_then(|drain| drain.next_ms());
        [self.wheel.next_wake(), self.alarms.next_wake(), turn, drain].into_iter().flatten().min()
    }

    /// Acts on deadlines that have come.
    pub fn tick(&mut self, now: Now, out: &mut Vec<Effect>) {
        self.begin_turn(now, out);
        self.ring(now, out);
        self.see_doubts(now, out);
        self.renew(now, out);
        self.take_turns(now, out);
        for key in self.wheel.due(now.mono_ms) {
            let (limits, mute_at_ms) = (self.limits, self.mute_at_ms(key));
            let Some(session) = self.session_mut(key) else { continue };
            if session.armed_ms > now.mono_ms {
                continue; // a later entry counts
            }
            session.armed_ms = u64::MAX;
            match session.due(now, &limits, mute_at_ms) {
                Due::Nothing => {
                    if let Some(number) = self.pledge_if_moved(now, key) {
                        self.send_ping(now, key, number, out);
                    }
                }
                Due::Tokenless => {
                    self.end_tokenless(key, out);
                    continue;
                }
                Due::Unauthorized => {
                    self.turn_away(key, &EXPIRED, out);
                    continue;
                }
                Due::Mute => {
                    self.end_mute(now, key, out);
                    continue;
                }
                Due::Silent => {
                    self.close(key, Close::Slow, out);
                    continue;
                }
                Due::Ping => {
                    session.pinged_ms = now.mono_ms.max(session.heard_ms.saturating_add(1));
                    self.ping(now, key, out);
                }
                Due::TellExpiry => {
                    session.flags.set(Flag::ExpiryTold, true);
                    let at = session.who.as_ref().map_or(0, |who| who.expires_unix_ms);
                    self.send(key, &Outbound::TokenExpiring { expires_unix_ms: at }, out);
                }
            }
            self.rearm(now, key);
        }
    }

    /// The sum of what its rooms say.
    #[cfg(test)]
    fn walk_backlog(&self) {
        let sum: usize = self.rooms.iter().map(|(_, room)| room.bytes()).sum();
        assert_eq!(self.backlog_bytes, sum);
    }

    fn session(&self, key: SessionKey) -> Option<&Session> {
        self.sessions.get(key.index as usize).filter(|session| session.key == key)
    }

    fn session_mut(&mut self, key: SessionKey) -> Option<&mut Session> {
        self.sessions.get_mut(key.index as usize).filter(|session| session.key == key)
    }

    /// Has the session looked at in time. One look in the wheel is enough: an early one arms the next.
    fn rearm(&mut self, now: Now, key: SessionKey) {
        let (limits, mute_at_ms) = (self.limits, self.mute_at_ms(key));
        let Some(session) = self.session_mut(key) else { return };
        let at = session.next_look_ms(now, &limits, mute_at_ms).max(now.mono_ms.saturating_add(1));
        if at < session.armed_ms {
            session.armed_ms = at;
            self.wheel.arm(at, key);
        }
    }

    /// Removes all trace of the session.
    fn forget(&mut self, key: SessionKey, out: &mut Vec<Effect>) {
        let Some(session) = self.session_mut(key) else { return };
        let rooms: Vec<u32> = session.rooms.iter().map(|entry| entry.room).collect();
        self.end_inboxes(key, out);
        self.early.remove(&key);
        self.behind.remove(&key);
        self.said_ms.remove(&key);
        self.groups.forget(key);
        // What is under way to it is dropped with its connection.
        let mut undelivered = Vec::new();
        let deliveries = self.counters.deliveries;
        for index in rooms {
            // An outage may last: who has gone must not wait for its end.
            if self.rooms.get(index as usize).is_some_and(Room::is_away) {
                self.withdraw(index, key);
            }
            self.leave_room(index, key, &mut undelivered);
            self.drop_if_unused(index, out);
        }
        self.counters.deliveries = deliveries;
        self.parking.owed.remove(&key);
        let session = self.sessions.remove(key.index as usize);
        if self.sessions.is_empty() {
            self.sessions.shrink_to_fit();
        }
        if session.is_connecting() {
            self.unauthenticated -= 1;
        }
    }
}
