//! The rooms of a session: where each stands, what is covered of it, and which connection's word counts. Pure.
//!
//! A room is heard over the connection that answered its join last. Positions that another connection brings are dropped:
//! they are either covered, or come again behind that one's own answer. So each offset is given to the application once,
//! in order, also while two connections deliver. What has no position is dropped by its id alone.

use std::collections::BTreeMap;
use std::hash::RandomState;

use serde_json::json;

use crate::driver::LinkId;
use crate::error::{Closed, Error, Refused};
use crate::event::{Joined, Position};
use crate::session::effect::{Out, Reply, Waiter};
use crate::session::event::{RoomState, RoomStatus, SessionCounters, SessionEvent};
use crate::session::outbox::millis;
use crate::session::seen::Seen;
use crate::wire::Outgoing;

/// Rooms of one session. A node allows 128 unless it is told otherwise.
const ROOMS_MAX: usize = 1_024;

/// How long the node may take to put a session that came back into its rooms, before they are joined one by one. Units:
/// milliseconds.
const RESTORE_MS: u64 = 3_000;

/// When a join that was refused for now is tried again, unless the refusal says. Units: milliseconds.
const RETRY_MS: u64 = 1_000;

/// How often what was missed is asked for, where the node cannot read it.
const UNAVAILABLE_MAX: u8 = 3;

/// A join that was sent.
#[derive(Debug, PartialEq, Eq)]
struct Asked {
    link: LinkId,
    id: String,
}

/// One room.
#[derive(Debug)]
pub(super) struct Room {
    pub(super) state: RoomState,
    /// The node put the session into it by itself.
    own: bool,
    pub(super) covered: Option<Position>,
    /// Whose positions count.
    pub(super) on: Option<LinkId>,
    asked: Option<Asked>,
    /// When it is asked for (again).
    due_ms: Option<u64>,
    /// How often what was missed could not be read.
    unavailable: u8,
    /// It was heard, and then its connection ended before another one took over.
    broken: bool,
    /// The last version of its presence that was told.
    pub(super) version: Option<Position>,
    pub(super) seen: Seen,
    waiters: Vec<Waiter>,
}

impl Room {
    pub(super) fn new(state: RoomState, own: bool) -> Self {
        Self {
            state,
            own,
            covered: None,
            on: None,
            asked: None,
            due_ms: None,
            unavailable: 0,
            broken: false,
            version: None,
            seen: Seen::default(),
            waiters: Vec::new(),
        }
    }

    /// Whether it is to be heard.
    const fn is_wanted(&self) -> bool {
        match self.state {
            RoomState::Waiting | RoomState::Joining | RoomState::Recovering | RoomState::Joined => {
                true
            }
            RoomState::Leaving | RoomState::Lost => false,
        }
    }

    /// Whether what a node says of the room counts.
    fn is_word(&self, id: Option<&str>, link: LinkId, moment: Moment) -> bool {
        let asked = self.asked.as_ref().map(|asked| asked.id.as_str());
        // Unasked, while it is being asked for with what is covered, is not the last word; an answer to an earlier question
        // says nothing of now, nor does a connection that was replaced.
        self.is_wanted() && id == asked && moment.link == Some(link)
    }

    /// The node would not have this session in it.
    fn forgo(&mut self) {
        (self.state, self.on, self.asked, self.due_ms) = (RoomState::Lost, None, None, None);
        self.broken = false;
    }

    const fn is_under_way(&self) -> bool {
        matches!(self.state, RoomState::Joining | RoomState::Recovering)
    }
}

/// Rooms are being joined again.
#[derive(Clone, Copy, Debug)]
struct Restoring {
    session: bool,
    recovered: bool,
}

/// How a connection stands.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Back<'a> {
    /// The node gave the session back.
    pub(crate) resumed: bool,
    /// Which session there was before.
    pub(crate) old_session: Option<&'a str>,
    /// It is not the first one.
    pub(crate) again: bool,
}

/// All rooms of a session.
#[derive(Debug)]
pub(crate) struct Rooms {
    pub(super) map: BTreeMap<String, Room>,
    restoring: Option<Restoring>,
    request_ms: u64,
    /// Keys of the hashes of ids.
    pub(super) keys: RandomState,
    pub(super) ids_max: usize,
}

/// What rooms need to know of the moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    pub(crate) now_ms: u64,
    /// The connection over which is asked.
    pub(crate) link: Option<LinkId>,
}

impl Rooms {
    pub(crate) fn new(request_timeout: std::time::Duration, ids_max: usize) -> Self {
        Self {
            map: BTreeMap::new(),
            restoring: None,
            request_ms: millis(request_timeout),
            keys: RandomState::new(),
            ids_max,
        }
    }

    /// The application wants to hear a room, behind `since` if it has covered that before.
    pub(crate) fn join(
        &mut self,
        (name, since): (String, Option<Position>),
        waiter: Waiter,
        moment: Moment,
        ids: &mut Ids,
        out: &mut Out,
    ) {
        if !self.map.contains_key(&name) && self.map.len() >= ROOMS_MAX {
            let full = Error::Full { what: "the session's table of rooms", max: ROOMS_MAX };
            return out.answer(waiter, Err(full));
        }
        let fresh = || Room::new(RoomState::Waiting, false);
        let room = self.map.entry(name.clone()).or_insert_with(fresh);
        if !room.is_wanted() {
            room.state = RoomState::Waiting;
        }
        if room.state == RoomState::Joined {
            let position = room.covered.clone();
            let joined = Joined { room: name, position, recovered: None, live: true };
            return out.answer(waiter, Ok(Reply::Joined(joined)));
        }
        room.waiters.push(waiter);
        if since.is_some() {
            room.covered = since;
        }
        if room.is_under_way() {
            return;
        }
        ask(&name, room, moment, ids, self.request_ms, out);
    }

    /// The application wants to hear a room no more. `true`: the node has to be told.
    pub(crate) fn leave(&mut self, name: &str, connected: bool) -> bool {
        let Some(room) = self.map.get_mut(name) else { return connected };
        let known = room.on.is_some() || room.asked.is_some() || room.broken;
        if !known {
            self.map.remove(name);
            return false;
        }
        room.state = RoomState::Leaving;
        (room.asked, room.due_ms) = (None, None);
        connected
    }

    /// The node says that the session has left.
    pub(crate) fn left(&mut self, name: &str) {
        if self.map.get(name).is_some_and(|room| room.state == RoomState::Leaving) {
            self.map.remove(name);
        }
    }

    /// A back-end took the session out of a room. Only the word of the connection over which it is heard counts: another
    /// one's is older than that join.
    pub(crate) fn taken_out(&mut self, link: LinkId, name: String, reason: String, out: &mut Out) {
        let heard = self.map.get_mut(&name).filter(|room| room.on == Some(link));
        if let Some(room) = heard.filter(|room| room.is_wanted()) {
            room.forgo();
            out.tell(SessionEvent::TakenOut { room: name, reason });
        }
    }

    /// What is covered of all rooms, to be said when coming back.
    pub(crate) fn covered(&self) -> BTreeMap<String, Position> {
        let wanted = self.map.iter().filter(|(_, room)| room.is_wanted());
        wanted.filter_map(|(name, room)| Some((name.clone(), room.covered.clone()?))).collect()
    }

    /// A connection stands. `resumed`: the node puts the session into the rooms that it knows of; else a new one joins them
    /// all. Returns the rooms that the node is to be told to leave.
    pub(crate) fn connected(
        &mut self,
        Back { resumed, old_session, again }: Back<'_>,
        moment: Moment,
        counters: &mut SessionCounters,
        ids: &mut Ids,
        out: &mut Out,
    ) -> Vec<String> {
        if !resumed {
            let own = old_session.map(|session| format!("session-{session}"));
            self.map.retain(|name, room| {
                room.state != RoomState::Leaving && (!room.own || Some(name) != own.as_ref())
            });
        }
        let leaving = self.map.iter().filter(|(_, room)| room.state == RoomState::Leaving);
        let leaving = leaving.map(|(name, _)| name.clone()).collect();
        let mut recovered = true;
        for (name, room) in &mut self.map {
            if !room.is_wanted() {
                continue;
            }
            let was_heard = room.on.is_some() || room.broken;
            // The node says so by itself where it puts the session into a room.
            if room.own && room.covered.is_none() {
                // The node puts it there, and does not speak of it.
                (room.state, room.on) = (RoomState::Joined, moment.link);
                recovered &= !lose(name, room, counters, out);
            } else if was_heard && (resumed || room.own) {
                room.state = RoomState::Recovering;
                room.asked = None;
                room.due_ms = Some(moment.now_ms.saturating_add(RESTORE_MS));
            } else {
                ask(name, room, moment, ids, self.request_ms, out);
            }
        }
        self.restoring = again.then_some(Restoring { session: resumed, recovered });
        self.settle(out);
        leaving
    }

    /// A connection has ended.
    pub(crate) fn lost(&mut self, link: LinkId, now_ms: u64) {
        for room in self.map.values_mut() {
            if room.on == Some(link) {
                (room.on, room.broken) = (None, true);
                if room.state == RoomState::Joined {
                    room.state = RoomState::Recovering;
                }
            }
            if room.asked.as_ref().is_some_and(|asked| asked.link == link) {
                (room.asked, room.due_ms) = (None, Some(now_ms));
            }
        }
    }

    /// The node says from where a room is heard.
    pub(crate) fn joined(
        &mut self,
        id: Option<&str>,
        mut joined: Joined,
        (link, moment): (LinkId, Moment),
        counters: &mut SessionCounters,
        ids: &mut Ids,
        out: &mut Out,
    ) {
        let Some(room) = self.map.get_mut(&joined.room) else {
            return self.put_in(id, joined, link, out);
        };
        if !room.is_word(id, link, moment) {
            return;
        }
        let was = room.covered.clone();
        match entered(room, &joined) {
            Entered::Behind => {
                ask(&joined.room, room, moment, ids, self.request_ms, out);
                return;
            }
            Entered::Unreadable => {
                room.unavailable += 1;
                room.asked = None;
                room.due_ms = Some(moment.now_ms.saturating_add(RETRY_MS));
                return;
            }
            Entered::NotLive => {
                // The rest follows under the same id, when the node is whole again.
                room.due_ms = None;
                for waiter in room.waiters.drain(..) {
                    out.answer(waiter, Ok(Reply::Joined(joined.clone())));
                }
                return;
            }
            Entered::Lost(reason, position) => {
                if let Some(restoring) = &mut self.restoring {
                    restoring.recovered = false;
                }
                // Whoever waits for the join reads it there.
                if room.waiters.is_empty() {
                    counters.gaps += 1;
                    let name = Some(joined.room.clone());
                    out.tell(SessionEvent::Gap { room: name, reason, position });
                }
            }
            // The application goes on from what it has covered.
            Entered::Whole if was.is_some() && joined.recovered.is_some() => {
                (joined.recovered, joined.position) = (Some(Ok(())), room.covered.clone());
            }
            Entered::Whole => {}
        }
        (room.state, room.on, room.broken) = (RoomState::Joined, Some(link), false);
        (room.due_ms, room.unavailable) = (None, 0);
        if joined.live {
            room.asked = None;
        }
        if room.waiters.is_empty() {
            out.tell(SessionEvent::Joined(joined));
        } else {
            for waiter in room.waiters.drain(..) {
                out.answer(waiter, Ok(Reply::Joined(joined.clone())));
            }
        }
        self.settle(out);
    }

    /// The node put the session into a room by itself. One that was left meanwhile is asked for by its id.
    fn put_in(&mut self, id: Option<&str>, joined: Joined, link: LinkId, out: &mut Out) {
        if id.is_some() || self.map.len() >= ROOMS_MAX {
            return;
        }
        let mut room = Room::new(RoomState::Joined, true);
        (room.covered, room.on) = (joined.position.clone(), Some(link));
        self.map.insert(joined.room.clone(), room);
        out.tell(SessionEvent::Joined(joined));
    }

    /// The node would not have the session in a room. `Some`: that is not what it means.
    pub(crate) fn refused(
        &mut self,
        id: Option<&str>,
        refused: Box<Refused>,
        moment: Moment,
        out: &mut Out,
    ) -> Option<Box<Refused>> {
        let is_asked = |room: &Room| {
            room.asked.as_ref().is_some_and(|asked| Some(asked.id.as_str()) == id) && id.is_some()
        };
        // Unasked, the right to a room was lost.
        let is_expelled = |name: &str, room: &Room| {
            id.is_none()
                && refused.code == 110
                && refused.room.as_deref() == Some(name)
                && room.is_wanted()
        };
        let found =
            self.map.iter_mut().find(|(name, room)| is_asked(room) || is_expelled(name, room));
        let Some((name, room)) = found else { return Some(refused) };
        if refused.retry {
            let wait_ms = refused.retry_after.map_or(RETRY_MS, millis).max(1);
            room.asked = None;
            room.due_ms = Some(moment.now_ms.saturating_add(wait_ms));
            return None;
        }
        let name = name.clone();
        let never_heard = room.on.is_none() && !room.broken && room.covered.is_none();
        let waiters = std::mem::take(&mut room.waiters);
        let is_waited_for = !waiters.is_empty();
        for waiter in waiters {
            out.answer(waiter, Err(Error::Refused(refused.clone())));
        }
        room.forgo();
        if never_heard {
            self.map.remove(&name);
        }
        if !is_waited_for {
            out.tell(SessionEvent::RoomLost { room: name, refused });
        }
        self.settle(out);
        None
    }

    /// Asks again for what is due.
    pub(crate) fn tick(&mut self, moment: Moment, ids: &mut Ids, out: &mut Out) {
        if moment.link.is_none() {
            return;
        }
        for (name, room) in &mut self.map {
            if room.is_wanted() && room.due_ms.is_some_and(|due_ms| due_ms <= moment.now_ms) {
                ask(name, room, moment, ids, self.request_ms, out);
            }
        }
    }

    /// When something is due, given a connection.
    pub(crate) fn next_wake(&self) -> Option<u64> {
        self.map.values().filter(|room| room.is_wanted()).filter_map(|room| room.due_ms).min()
    }

    /// Whether a room still waits for its first word over this connection.
    pub(crate) fn is_settled(&self) -> bool {
        !self.map.values().any(Room::is_under_way)
    }

    /// The session is over.
    pub(crate) fn end(&mut self, closed: &Closed, out: &mut Out) {
        for room in self.map.values_mut() {
            for waiter in room.waiters.drain(..) {
                out.answer(waiter, Err(Error::Closed(closed.clone())));
            }
        }
        self.restoring = None;
    }

    /// Where all rooms stand.
    pub(crate) fn statuses(&self) -> Vec<RoomStatus> {
        let status = |(name, room): (&String, &Room)| RoomStatus {
            room: name.clone(),
            state: room.state,
            covered: room.covered.clone(),
        };
        self.map.iter().map(status).collect()
    }

    /// Tells once all rooms are heard again.
    fn settle(&mut self, out: &mut Out) {
        if let Some(restoring) = self.restoring
            && self.is_settled()
        {
            self.restoring = None;
            let Restoring { session, recovered } = restoring;
            out.tell(SessionEvent::Resumed { session, recovered });
        }
    }
}

/// Makes ids of requests. They share a space with the ids of the application's publications, and are not like any.
#[derive(Debug, Default)]
pub(crate) struct Ids(u64);

impl Ids {
    pub(crate) fn next(&mut self) -> String {
        self.0 += 1;
        format!("roomcast:{}", self.0)
    }
}

/// Asks for a room, and for what was missed of it.
fn ask(name: &str, room: &mut Room, moment: Moment, ids: &mut Ids, request_ms: u64, out: &mut Out) {
    room.state = match (&room.covered, room.broken) {
        (None, false) => RoomState::Joining,
        (Some(_), _) | (None, true) => RoomState::Recovering,
    };
    let Some(link) = moment.link else {
        if !room.broken {
            room.state = RoomState::Waiting;
        }
        return;
    };
    let data = match &room.covered {
        None => json!({ "room": name }),
        Some(since) => json!({ "room": name, "since": since }),
    };
    let id = ids.next();
    let (id_text, data) = (Some(id.as_str()), Some(&data));
    out.send(link, &Outgoing { kind: "subscribe", id: id_text, data, ..Outgoing::default() });
    room.asked = Some(Asked { link, id });
    room.due_ms = Some(moment.now_ms.saturating_add(request_ms));
}

/// What an answer means for what is covered.
enum Entered {
    /// Nothing is missing.
    Whole,
    /// It begins behind what is covered, and what lies between was not asked for.
    Behind,
    /// What was missed cannot be read now: the same may be asked again.
    Unreadable,
    /// The node does not know yet.
    NotLive,
    /// Why something is lost, and where the room goes on.
    Lost(String, Option<Position>),
}

/// Judges an answer, and moves what is covered.
fn entered(room: &mut Room, joined: &Joined) -> Entered {
    let covers = |was: &Position, at: &Position| was.epoch == at.epoch && at.offset <= was.offset;
    let was = room.covered.clone();
    match (&joined.recovered, &joined.position) {
        (None | Some(Ok(())), None) if !joined.live => Entered::NotLive,
        (Some(Ok(())), at) => {
            if let (Some(was), Some(at)) = (&was, at)
                && covers(was, at)
            {
                return Entered::Whole;
            }
            room.covered.clone_from(at);
            Entered::Whole
        }
        // Another connection brought meanwhile what this one cannot: nothing is missing.
        (Some(Err(why)), Some(at))
            if why != "ahead" && was.as_ref().is_some_and(|was| covers(was, at)) =>
        {
            Entered::Whole
        }
        (Some(Err(why)), _) if why == "unavailable" && room.unavailable < UNAVAILABLE_MAX => {
            Entered::Unreadable
        }
        (Some(Err(why)), at) => {
            room.covered.clone_from(at);
            Entered::Lost(why.clone(), at.clone())
        }
        (None, Some(at)) => match was {
            Some(was) if covers(&was, at) => Entered::Whole,
            // Asked with what is covered, it would have said what became of that.
            Some(_) if room.asked.is_none() => Entered::Behind,
            Some(_) => {
                room.covered = Some(at.clone());
                Entered::Lost("unknown".into(), Some(at.clone()))
            }
            None => {
                room.covered = Some(at.clone());
                Entered::Whole
            }
        },
        (None, None) => {
            let had_history = room.covered.take().is_some();
            if room.broken || had_history {
                Entered::Lost("no_history".into(), None)
            } else {
                Entered::Whole
            }
        }
    }
}

/// Tells it where a room that keeps nothing was not heard for a while.
fn lose(name: &str, room: &mut Room, counters: &mut SessionCounters, out: &mut Out) -> bool {
    let broken = std::mem::take(&mut room.broken);
    if broken {
        counters.gaps += 1;
        let (room, reason) = (Some(name.to_owned()), "no_history".into());
        out.tell(SessionEvent::Gap { room, reason, position: None });
    }
    broken
}
