//! The whole of a session's behaviour: connections, attempts, hand-over, heartbeat, token; rooms and publications through
//! their own modules. Pure: told what happened and when, it says what to do. Time is milliseconds since the session began.
//!
//! ```text
//!            ┌────────────────────────── lost ──────────────────────────┐
//!  start ─► connecting (main) ── welcome ─► connected (main) ── drain ─► handing over (main, next)
//!            ▲      │ failed                    │ lost                      │ next's welcome
//!            │      ▼                           ▼                           ▼
//!            └─ waiting ◄───────────────────────┘            connected (main = next, old until its Close 4202)
//! ```

mod attempts;
mod incoming;
#[cfg(test)]
mod random;
#[cfg(test)]
mod tests;

use serde_json::Value;

use crate::backoff::Backoff;
use crate::driver::LinkId;
use crate::error::{Closed, Error};
use crate::event::{Position, Welcome};
use crate::session::effect::{Effect, Out, Reply, Waiter};
use crate::session::event::{SessionCounters, SessionState};
use crate::session::options::SessionOptions;
use crate::session::outbox::{Outbox, Parcel, millis};
use crate::session::plan;
use crate::session::requests::{Asked, Requests};
use crate::session::rooms::{Ids, Moment, Rooms};
use crate::wire::Outgoing;

/// How long the older connection is kept after a hand-over, if the node does not end it. Units: milliseconds.
const OLD_MS: u64 = 30_000;

/// How long it is kept once the newer one hears all rooms, where that began a new session. Units: milliseconds.
const OLD_REST_MS: u64 = 1_000;

/// The longest pause between two attempts to hand over. Units: milliseconds.
const HAND_OVER_RETRY_MS: u64 = 1_000;

/// One connection.
#[derive(Debug)]
struct Link {
    id: LinkId,
    welcomed: bool,
    /// By when it must be welcomed, or be gone where it is the old one.
    until_ms: u64,
    /// When the next ping leaves.
    ping_ms: u64,
    /// When something must have come, behind the last ping.
    dead_ms: Option<u64>,
}

/// What goes on while there is no connection.
#[derive(Debug, PartialEq, Eq)]
enum Pause {
    /// None: there is one, or it is being made.
    No,
    /// Until then.
    Until(u64),
    /// Until the application has given a token.
    Token(u64),
    /// For ever.
    Over(Closed),
}

/// A turn to go to another connection.
#[derive(Debug)]
struct Turn {
    until_ms: u64,
    /// When the next attempt is made, if none is under way.
    retry_ms: u64,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Machine {
    options: SessionOptions,
    backoff: Backoff,
    random: u64,
    token: Option<String>,
    wants_token: bool,
    refreshing: bool,
    resume_token: Option<String>,
    session_id: Option<String>,
    welcome: Option<Welcome>,
    main: Option<Link>,
    next: Option<Link>,
    old: Option<Link>,
    turn: Option<Turn>,
    pause: Pause,
    links: u64,
    ids: Ids,
    rooms: Rooms,
    requests: Requests,
    outbox: Outbox,
    ready: Vec<Waiter>,
    counters: SessionCounters,
}

impl Machine {
    /// `random` seeds the jitter.
    pub(crate) fn new(options: SessionOptions, random: u64) -> Self {
        let token = options.connect.token.clone();
        let wants_token = token.is_none() && options.token_source.is_some();
        Self {
            backoff: options.reconnect.backoff(),
            random,
            token,
            wants_token,
            refreshing: false,
            resume_token: options.connect.continuation.resume_token.clone(),
            session_id: None,
            welcome: None,
            main: None,
            next: None,
            old: None,
            turn: None,
            pause: Pause::No,
            links: 0,
            ids: Ids::default(),
            rooms: Rooms::new(options.connect.request_timeout, options.ids_max),
            requests: Requests::new(options.connect.request_timeout),
            outbox: Outbox::new(options.reliable.clone()),
            ready: Vec::new(),
            counters: SessionCounters::default(),
            options,
        }
    }

    /// Makes the first connection.
    pub(crate) fn start(&mut self, now_ms: u64, out: &mut Out) {
        self.attempt(now_ms, out);
    }

    pub(crate) fn counters(&self) -> SessionCounters {
        self.counters
    }

    /// Where the session stands.
    pub(crate) fn state(&self) -> SessionState {
        match (&self.pause, &self.main) {
            (Pause::Over(_), _) => SessionState::Closed,
            (_, Some(main)) if main.welcomed && self.turn.is_some() => SessionState::HandingOver,
            (_, Some(main)) if main.welcomed => SessionState::Connected,
            (Pause::No | Pause::Until(_) | Pause::Token(_), _) => SessionState::Connecting,
        }
    }

    fn is_over(&self) -> bool {
        matches!(self.pause, Pause::Over(_))
    }

    /// The connection that requests go over.
    fn link(&self) -> Option<LinkId> {
        self.main.as_ref().filter(|main| main.welcomed).map(|main| main.id)
    }

    fn moment(&self, now_ms: u64) -> Moment {
        Moment { now_ms, link: self.link() }
    }

    // What the application asks.

    pub(crate) fn ready(&mut self, waiter: Waiter, out: &mut Out) {
        match (&self.pause, &self.welcome) {
            (Pause::Over(closed), _) => out.answer(waiter, Err(Error::Closed(closed.clone()))),
            (_, Some(welcome)) if self.link().is_some() => {
                out.answer(waiter, Ok(Reply::Ready(welcome.clone())));
            }
            (Pause::No | Pause::Until(_) | Pause::Token(_), _) => self.ready.push(waiter),
        }
    }

    pub(crate) fn join(
        &mut self,
        now_ms: u64,
        room: (String, Option<Position>),
        waiter: Waiter,
        out: &mut Out,
    ) {
        if let Pause::Over(closed) = &self.pause {
            return out.answer(waiter, Err(Error::Closed(closed.clone())));
        }
        let moment = self.moment(now_ms);
        self.rooms.join(room, waiter, moment, &mut self.ids, out);
    }

    pub(crate) fn leave(&mut self, now_ms: u64, room: String, waiter: Waiter, out: &mut Out) {
        let asks = self.rooms.leave(&room, self.link().is_some());
        if !asks {
            return out.answer(waiter, Ok(Reply::Done));
        }
        self.ask(now_ms, Asked::Leave(room), Some(waiter), out);
    }

    pub(crate) fn publish(&mut self, now_ms: u64, parcel: Parcel, out: &mut Out) {
        let link = self.link();
        self.outbox.push(parcel, link, now_ms, out);
        if let Pause::Over(closed) = &self.pause {
            let closed = closed.clone();
            self.outbox.end(&closed, &mut self.counters, out);
        }
    }

    pub(crate) fn presence(&mut self, now_ms: u64, data: Value, waiter: Waiter, out: &mut Out) {
        self.ask(now_ms, Asked::Presence(data), Some(waiter), out);
    }

    pub(crate) fn receipt(&mut self, now_ms: u64, data: Value, waiter: Waiter, out: &mut Out) {
        self.ask(now_ms, Asked::Receipt(data), Some(waiter), out);
    }

    /// A new token of the same user.
    pub(crate) fn refresh(
        &mut self,
        now_ms: u64,
        token: String,
        waiter: Option<Waiter>,
        out: &mut Out,
    ) {
        self.token = Some(token.clone());
        if self.link().is_some() || self.is_over() {
            self.ask(now_ms, Asked::Refresh(token), waiter, out);
        } else if let Some(waiter) = waiter {
            // The next connection brings it.
            out.answer(waiter, Ok(Reply::Done));
        }
    }

    fn ask(&mut self, now_ms: u64, asked: Asked, waiter: Option<Waiter>, out: &mut Out) {
        if let Pause::Over(closed) = &self.pause {
            let closed = Error::Closed(closed.clone());
            waiter.into_iter().for_each(|waiter| out.answer(waiter, Err(closed_again(&closed))));
            return;
        }
        let moment = self.moment(now_ms);
        self.requests.ask(asked, waiter, moment, &mut self.ids, out);
    }

    /// The application has a publication that requires an ack.
    pub(crate) fn got(&mut self, room: &str, sender: &str, id: &str, out: &mut Out) {
        if self.rooms.acked(room, sender, id) {
            self.ack(room, id, out);
        }
    }

    /// Without a connection nothing is said: the node sends it again, and is told then.
    fn ack(&mut self, room: &str, id: &str, out: &mut Out) {
        if let Some(link) = self.link() {
            self.counters.acks += 1;
            let (ack_id, room) = (Some(id), Some(room));
            out.send(link, &Outgoing { kind: "ack", ack_id, room, ..Outgoing::default() });
        }
    }

    pub(crate) fn statuses(&self, waiter: Waiter, out: &mut Out) {
        out.answer(waiter, Ok(Reply::Rooms(self.rooms.statuses())));
    }

    /// The application is done.
    pub(crate) fn close(&mut self, out: &mut Out) {
        let reason = "the application closed it".into();
        self.end(Closed { code: 1_000, reason }, out);
    }

    /// What became of [`Effect::GetToken`].
    pub(crate) fn token(&mut self, now_ms: u64, token: Result<String, String>, out: &mut Out) {
        self.refreshing = false;
        match (token, &self.pause) {
            (_, Pause::Over(_)) => {}
            (Ok(token), Pause::Token(_)) => {
                (self.token, self.wants_token) = (Some(token), false);
                self.connect(now_ms, out);
            }
            (Err(cause), Pause::Token(_)) => self.no_token(now_ms, &cause, out),
            (Ok(token), Pause::No | Pause::Until(_)) => {
                self.wants_token = false;
                self.refresh(now_ms, token, None, out);
            }
            // The old one may do a while longer; if not, the node says so.
            (Err(_), Pause::No | Pause::Until(_)) => {}
        }
    }

    // Time.

    /// Does what is due. While the application takes no events nothing is read, so silence proves nothing.
    pub(crate) fn tick(&mut self, now_ms: u64, is_reading: bool, out: &mut Out) {
        match self.pause {
            Pause::Until(until_ms) if until_ms <= now_ms => self.attempt(now_ms, out),
            Pause::Token(until_ms) if until_ms <= now_ms => {
                self.no_token(now_ms, "the application gave none in time", out);
            }
            Pause::No | Pause::Until(_) | Pause::Token(_) => {}
            Pause::Over(_) => return,
        }
        self.check_links(now_ms, is_reading, out);
        if let Some(turn) = &mut self.turn
            && turn.retry_ms <= now_ms
            && self.next.is_none()
        {
            turn.retry_ms = u64::MAX;
            self.next = Some(self.open(now_ms, out));
        }
        let every_ms = millis(self.options.heartbeat.every);
        if self.main.as_ref().is_some_and(|main| main.ping_ms <= now_ms) {
            self.ping(now_ms, every_ms, out);
        }
        let moment = self.moment(now_ms);
        self.rooms.tick(moment, &mut self.ids, out);
        self.requests.tick(moment, out);
        if self.outbox.next_wake(moment.link.is_some()).is_some_and(|wake_ms| wake_ms <= now_ms) {
            self.outbox.tick(moment.link, now_ms, &mut self.counters, out);
        }
    }

    fn check_links(&mut self, now_ms: u64, is_reading: bool, out: &mut Out) {
        let timeout_ms = millis(self.options.heartbeat.timeout);
        if let Some(old) = self.old.take_if(|old| old.until_ms <= now_ms) {
            out.effects.push(Effect::Close(old.id));
            self.forget(now_ms, old.id, out);
        }
        let mut gone = Vec::new();
        for link in [&mut self.main, &mut self.next, &mut self.old].into_iter().flatten() {
            if link.until_ms <= now_ms {
                gone.push((link.id, "no welcome in time"));
            } else if let Some(dead_ms) = &mut link.dead_ms
                && *dead_ms <= now_ms
            {
                if is_reading {
                    self.counters.heartbeat_timeouts += 1;
                    gone.push((link.id, "heartbeat timeout: nothing came behind a ping"));
                } else {
                    *dead_ms = now_ms.saturating_add(timeout_ms);
                }
            }
        }
        for (link, reason) in gone {
            out.effects.push(Effect::Drop(link));
            self.closed(now_ms, link, Closed { code: 1_006, reason: reason.into() }, out);
        }
    }

    fn ping(&mut self, now_ms: u64, every_ms: u64, out: &mut Out) {
        let timeout_ms = millis(self.options.heartbeat.timeout);
        if let Some(main) = &mut self.main {
            main.ping_ms = now_ms.saturating_add(every_ms);
            let dead_ms = now_ms.saturating_add(timeout_ms);
            main.dead_ms = Some(main.dead_ms.map_or(dead_ms, |earlier| earlier.min(dead_ms)));
            let timestamp = Some(now_ms);
            out.send(main.id, &Outgoing { kind: "ping", timestamp, ..Outgoing::default() });
        }
    }

    /// When [`Machine::tick`] has something to do.
    pub(crate) fn next_wake(&self) -> Option<u64> {
        let pause = match self.pause {
            Pause::Until(at_ms) | Pause::Token(at_ms) => Some(at_ms),
            Pause::No => None,
            Pause::Over(_) => return None,
        };
        let connected = self.link().is_some();
        let links = [&self.main, &self.next, &self.old].into_iter().flatten();
        let links = links.flat_map(|it| [it.until_ms, it.ping_ms, it.dead_ms.unwrap_or(u64::MAX)]);
        let turn = self.turn.as_ref().map(|turn| turn.retry_ms);
        let rooms = connected.then(|| self.rooms.next_wake()).flatten();
        links
            .chain(pause)
            .chain(turn)
            .chain(rooms)
            .chain(self.requests.next_wake())
            .chain(self.outbox.next_wake(connected))
            .min()
            .filter(|wake_ms| *wake_ms != u64::MAX)
    }
}

fn closed_again(error: &Error) -> Error {
    Error::Closed(plan::closed(error))
}
