//! When the lane may not give anything to members: orders to end sessions may have been missed (G22). That is so while
//! the hub says it, and after the lane itself was late for its turn, until the hub has looked.

use roomcast_protocol::ids::SessionKey;
use roomcast_protocol::outbound::Loss;
use roomcast_protocol::position::{Page, Position};
use roomcast_protocol::session::SaveSession;
use roomcast_protocol::time::Now;

use super::Lane;
use crate::messages::{Effect, HubMessage};

/// How often a lane with sessions wants a turn, so that it notices when it did not get one. Units: milliseconds.
const TURN_MS: u64 = 500;

/// A turn that comes so much later than asked for counts as missed orders (G22). Units: milliseconds.
const LATE_MS: u64 = 1_000;

/// The lane's turns, and what waits while it holds.
#[derive(Debug, Default)]
pub(super) struct Turns {
    /// When it last had one. Units: monotonic milliseconds.
    last_ms: u64,
    /// The same. Units: milliseconds since the Unix epoch.
    pub(super) last_unix_ms: u64,
    pub(super) held: bool,
    /// The hub was asked whether orders are missing, and has not answered.
    asked: bool,
    /// The lane was late once more meanwhile: that answer will not do.
    late_again: bool,
    /// Answers of the broker, to be looked at once the lane goes on. Bounds: the reads under way.
    pages: Vec<(u64, Option<Page>)>,
    /// Sessions that can inflate from then on. Bounds: the lane's sessions.
    compressed: Vec<SessionKey>,
    /// Records to be written once the hub has answered: an order that is still in the lane's queue may end their
    /// sessions. Bounds: a few for each session, for as long as an answer of the hub takes.
    saves: Vec<(Option<SessionKey>, Box<SaveSession>)>,
    /// Up to which order the lane has obeyed, as far as that is known.
    pub(super) obeyed: Option<Position>,
    /// Publications of ephemeral rooms were dropped.
    pub(super) shed: bool,
}

impl Turns {
    /// When the next one is due. Units: monotonic milliseconds.
    pub(super) const fn next_ms(&self) -> u64 {
        self.last_ms.saturating_add(TURN_MS)
    }

    /// When the lane had its last one. Units: monotonic milliseconds.
    pub(super) const fn last_ms(&self) -> u64 {
        self.last_ms
    }

    /// The same, by both clocks.
    pub(super) const fn now(&self) -> Now {
        Now { mono_ms: self.last_ms, unix_ms: self.last_unix_ms }
    }

    /// Keeps an answer for later.
    pub(super) fn put_off(&mut self, query: u64, page: Option<Page>) {
        self.pages.push((query, page));
    }

    /// Keeps a session's wish for later.
    pub(super) fn put_off_compressed(&mut self, key: SessionKey) {
        self.compressed.push(key);
    }
}

impl Lane {
    /// Notes that the lane has a turn. Where it comes too late, it holds, and asks the hub.
    pub(super) fn begin_turn(&mut self, now: Now, out: &mut Vec<Effect>) {
        let late_ms = self.turns.next_ms().saturating_add(LATE_MS);
        if !self.sessions.is_empty() && now.mono_ms > late_ms {
            self.counters.holds += 1;
            self.hold();
            if self.turns.asked {
                self.turns.late_again = true;
            } else {
                self.ask_for_orders(out);
            }
        }
        self.turns.last_ms = now.mono_ms;
        self.turns.last_unix_ms = now.unix_ms;
    }

    fn ask_for_orders(&mut self, out: &mut Vec<Effect>) {
        self.turns.asked = true;
        out.push(Effect::Hub(HubMessage::Late(self.id)));
    }

    /// Gives nothing to members from now on.
    pub(super) const fn hold(&mut self) {
        self.turns.held = true;
    }

    /// Gives what has waited. An answer from before the lane was late once more is not enough.
    pub(super) fn go_on(&mut self, now: Now, out: &mut Vec<Effect>) {
        self.turns.asked = false;
        if std::mem::take(&mut self.turns.late_again) {
            return self.ask_for_orders(out);
        }
        self.turns.held = false;
        self.write_put_off(out);
        for key in std::mem::take(&mut self.turns.compressed) {
            self.set_compressed(key, true, out);
        }
        if std::mem::take(&mut self.turns.shed) {
            self.tell_of_gap(Loss::Overload, out);
        }
        self.tell_of_shed(out);
        for (query, page) in std::mem::take(&mut self.turns.pages) {
            self.page(now, query, page, out);
        }
    }

    /// Has a session's record written, once no order is missing that might end the session. `session`: `None`, its connection
    /// is gone.
    pub(super) fn write_record(
        &mut self,
        session: Option<SessionKey>,
        save: Box<SaveSession>,
        out: &mut Vec<Effect>,
    ) {
        if self.turns.asked {
            self.turns.saves.push((session, save));
        } else {
            out.push(Effect::Hub(HubMessage::Save { lane: self.id, session, save }));
        }
    }

    /// Has the records written that have waited.
    pub(super) fn write_put_off(&mut self, out: &mut Vec<Effect>) {
        for (session, mut save) in std::mem::take(&mut self.turns.saves) {
            // What an order ended meanwhile is not among them.
            save.obeyed = self.turns.obeyed;
            out.push(Effect::Hub(HubMessage::Save { lane: self.id, session, save }));
        }
    }

    /// All sessions of a user end by an order: no record of them is written that has waited for it.
    pub(super) fn end_records_put_off(&mut self, user: &str) {
        self.turns.saves.retain(|(_, save)| *save.user != *user);
    }
}
