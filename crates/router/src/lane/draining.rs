//! Sessions that go elsewhere (G14): the turns in which they do when the node stops, and the end of those whose place
//! another connection has taken. Nothing is lost by it: who can is told first, and goes on hearing until it is there.

use std::collections::VecDeque;

use roomcast_protocol::codes::Close;
use roomcast_protocol::ids::{SessionId, SessionKey};
use roomcast_protocol::outbound::Outbound;
use roomcast_protocol::session::{ResumeToken, Secret};
use roomcast_protocol::time::Now;

use super::Lane;
use super::counters::{Drained, add_one};
use super::lasting::{Lasting, Turn};
use super::records::What;
use crate::messages::{DrainPlan, Effect};
use crate::meter::Place;
use crate::session::{Phase, Session};

/// How late turns may be and still be made up for at once: so much of a second's share comes in a burst at most.
/// Units: milliseconds.
const LATE_MAX_MS: u64 = 100;

/// Turns of a lane's sessions.
#[derive(Debug)]
pub(super) struct Drain {
    /// How long a client has that hands over. Units: milliseconds.
    turn_ms: u64,
    /// When the last turn must have begun. Units: monotonic milliseconds.
    limit_ms: u64,
    /// How far turns are apart while all goes well. Units: microseconds.
    apart_us: u64,
    /// When the next session has its turn. Units: monotonic microseconds.
    next_us: u64,
    /// Those that have yet to have it, in order. Bounds: the lane's sessions.
    waiting: VecDeque<SessionKey>,
    /// Those that have it, and when it ends, in order. Bounds: the same.
    leaving: VecDeque<(u64, SessionKey)>,
}

impl Drain {
    fn new(plan: DrainPlan, mono_ms: u64, waiting: VecDeque<SessionKey>) -> Self {
        let apart_us = plan.window_ms.saturating_mul(1_000) / (waiting.len() as u64).max(1);
        let limit_ms = mono_ms.saturating_add(plan.limit_ms);
        let next_us = mono_ms.saturating_mul(1_000);
        Self {
            turn_ms: plan.turn_ms,
            limit_ms,
            apart_us,
            next_us,
            waiting,
            leaving: VecDeque::new(),
        }
    }

    fn next_turn_ms(&self) -> Option<u64> {
        self.waiting.front().map(|_| self.next_us.div_ceil(1_000))
    }

    /// When something is due. Units: monotonic milliseconds.
    pub(super) fn next_ms(&self) -> Option<u64> {
        let end = self.leaving.front().map(|(at_ms, _)| *at_ms);
        self.next_turn_ms().into_iter().chain(end).min()
    }

    /// The session whose turn it is. A lane that was late goes on at its pace, so that clients do not come to other
    /// nodes all at once; it hastens only as far as the last one's turn needs.
    fn next(&mut self, mono_ms: u64) -> Option<SessionKey> {
        self.next_turn_ms().filter(|at_ms| *at_ms <= mono_ms)?;
        let left_us = self.limit_ms.saturating_sub(mono_ms).saturating_mul(1_000);
        let apart_us = self.apart_us.min(left_us / self.waiting.len() as u64);
        let from_us = mono_ms.saturating_sub(LATE_MAX_MS).saturating_mul(1_000);
        self.next_us = self.next_us.max(from_us).saturating_add(apart_us);
        self.waiting.pop_front()
    }

    fn next_late(&mut self, mono_ms: u64) -> Option<SessionKey> {
        self.leaving.front().filter(|(at_ms, _)| *at_ms <= mono_ms)?;
        self.leaving.pop_front().map(|(_, key)| key)
    }
}

impl Lane {
    /// Whether the node stops and the lane has no session left.
    #[must_use]
    pub fn is_drained(&self) -> bool {
        self.drain.is_some() && self.sessions.is_empty()
    }

    /// The node stops: each session has its turn, in order.
    pub(super) fn begin_drain(&mut self, now: Now, plan: DrainPlan, out: &mut Vec<Effect>) {
        if self.drain.is_some() {
            return;
        }
        let waiting: VecDeque<_> = self.sessions.iter().map(|(_, session)| session.key).collect();
        self.drain = Some(Box::new(Drain::new(plan, now.mono_ms, waiting)));
        self.take_turns(now, out);
    }

    /// One that comes while the lane drains has its turn behind the others.
    pub(super) fn drain_too(&mut self, key: SessionKey) {
        if let Some(drain) = &mut self.drain {
            drain.waiting.push_back(key);
        }
    }

    /// Gives turns that are due, and ends those that are over.
    pub(super) fn take_turns(&mut self, now: Now, out: &mut Vec<Effect>) {
        while let Some(key) = self.drain.as_mut().and_then(|drain| drain.next(now.mono_ms)) {
            self.begin_turn_of(now, key, out);
        }
        while let Some(key) = self.drain.as_mut().and_then(|drain| drain.next_late(now.mono_ms)) {
            let moved = self.lasting_mut(key).map(|lasting| lasting.fenced);
            match moved {
                // It was taken over, and nobody has said yet that its client is there.
                Some(true) => self.drain_away(key, Close::Moved, Drained::Moved, out),
                Some(false) | None => self.drain_away(key, Close::Drain, Drained::Late, out),
            }
        }
    }

    fn begin_turn_of(&mut self, now: Now, key: SessionKey, out: &mut Vec<Effect>) {
        let Some(session) = self.session(key) else { return };
        let hands_over = |it: &Lasting| it.hands_over && it.recorded && !it.fenced;
        let ready = session.phase == Phase::Ready;
        if ready && session.lasting.as_deref().is_some_and(hands_over) {
            let secret = Secret((self.secrets)());
            if let Some(lasting) = self.lasting_mut(key) {
                lasting.moment().turn = Some(Turn { secret, told: false, meter: None });
            }
            if let Some(drain) = &mut self.drain {
                let end_ms = now.mono_ms.saturating_add(drain.turn_ms);
                drain.leaving.push_back((end_ms, key));
            }
            return self.save(key, What::Turn(secret), out);
        }
        // Who said how its session is to go on reads Close frames.
        let said = session.lasting.as_deref().is_some_and(|it| !it.records_first);
        if !said && self.profile_of(session).is_some_and(|profile| profile.drops_on_drain) {
            add_one(&mut self.counters.drained, Drained::Dropped as usize);
            return self.drop_connection(key, Close::Drain, out);
        }
        self.drain_away(key, Close::Drain, Drained::Closed, out);
    }

    /// The turn's secret is written: the client is told to go.
    pub(super) fn tell_turn(&mut self, key: SessionKey, out: &mut Vec<Effect>) {
        let Some(turn_ms) = self.drain.as_ref().map(|drain| drain.turn_ms) else { return };
        let Some(session) = self.session_mut(key) else { return };
        let id = session.id;
        let moment = session.lasting.as_mut().and_then(|lasting| lasting.moment.as_mut());
        let turn = moment.and_then(|moment| moment.turn.as_mut()).filter(|turn| !turn.told);
        let Some(turn) = turn else { return };
        turn.told = true;
        let token = ResumeToken { session: id, secret: turn.secret };
        // The connection that it opens elsewhere counts in its stead.
        turn.meter = session.place.take().map(Place::give_back);
        self.send(key, &Outbound::Drain { turn_ms, token }, out);
    }

    /// The turn's secret could not be written: the client goes without.
    pub(super) fn end_untold_turn(&mut self, key: SessionKey, out: &mut Vec<Effect>) {
        let moment = self.lasting_mut(key).and_then(|lasting| lasting.moment.as_mut());
        if moment.and_then(|moment| moment.turn.as_ref()).is_some_and(|turn| !turn.told) {
            self.drain_away(key, Close::Drain, Drained::Closed, out);
        }
    }

    /// Another connection has taken the session over: former ones of it end.
    pub(super) fn fence(
        &mut self,
        session: SessionId,
        generation: u64,
        moved: bool,
        out: &mut Vec<Effect>,
    ) {
        let below = |it: &Lasting| it.generation < generation;
        let former = |it: &Session| it.id == session && it.lasting.as_deref().is_some_and(below);
        for key in self.keys_of(former) {
            self.end_former(key, moved, out);
        }
    }

    /// A write of the session's record was refused: another connection has taken it over.
    pub(super) fn refused_as_former(&mut self, key: SessionKey, out: &mut Vec<Effect>) {
        let Some(lasting) = self.lasting_mut(key) else { return };
        // Whoever was told to go hears on until its client is there, or its turn is over.
        if lasting.is_leaving() {
            lasting.fenced = true;
            return;
        }
        self.end_former(key, false, out);
    }

    /// A write of the session's record was refused: it was ordered to end, and the order is on its way.
    pub(super) fn refused_as_ended(&mut self, key: SessionKey, out: &mut Vec<Effect>) {
        if let Some(lasting) = self.lasting_mut(key) {
            lasting.fenced = true;
            self.close(key, Close::Disconnected, out);
        }
    }

    fn end_former(&mut self, key: SessionKey, moved: bool, out: &mut Vec<Effect>) {
        self.counters.fenced += 1;
        if let Some(lasting) = self.lasting_mut(key) {
            lasting.fenced = true;
        }
        if moved {
            return self.drain_away(key, Close::Moved, Drained::Moved, out);
        }
        self.close(key, Close::Replaced, out);
    }

    /// Ends a session behind all that is under way to it.
    fn drain_away(&mut self, key: SessionKey, close: Close, how: Drained, out: &mut Vec<Effect>) {
        if self.session(key).is_some() {
            add_one(&mut self.counters.drained, how as usize);
            self.flush(key, out);
            self.close(key, close, out);
        }
    }

    /// Gives the session what is under way to it in its rooms; it is in none of them from then on.
    fn flush(&mut self, key: SessionKey, out: &mut Vec<Effect>) {
        let Some(session) = self.session(key) else { return };
        let rooms: Vec<u32> = session.rooms.iter().map(|entry| entry.room).collect();
        for index in rooms {
            self.step_out(index, key, out);
        }
    }
}
