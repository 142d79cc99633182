//! Connections that are made, lost and replaced: attempts to come back, hand-over, the end.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{HAND_OVER_RETRY_MS, Link, Machine, OLD_REST_MS, Pause, Turn};
use crate::driver::LinkId;
use crate::error::{Closed, Error};
use crate::event::Drain;
use crate::options::Continuation;
use crate::session::effect::{Effect, Out};
use crate::session::event::SessionEvent;
use crate::session::outbox::millis;
use crate::session::plan::{self, Plan};

impl Machine {
    /// Begins an attempt: by a token, if one is wanted.
    pub(super) fn attempt(&mut self, now_ms: u64, out: &mut Out) {
        if self.wants_token {
            let timeout_ms = millis(self.options.connect.connect_timeout);
            self.pause = Pause::Token(now_ms.saturating_add(timeout_ms));
            out.effects.push(Effect::GetToken);
        } else {
            self.connect(now_ms, out);
        }
    }

    pub(super) fn connect(&mut self, now_ms: u64, out: &mut Out) {
        self.pause = Pause::No;
        self.main = Some(self.open(now_ms, out));
    }

    pub(super) fn open(&mut self, now_ms: u64, out: &mut Out) -> Link {
        self.links += 1;
        let id = LinkId(self.links);
        let continuation = Continuation {
            resume_token: self.resume_token.clone(),
            covered: if self.resume_token.is_some() {
                self.rooms.covered()
            } else {
                BTreeMap::new()
            },
            device: self.options.connect.continuation.device.clone(),
            hands_over: self.options.hands_over,
        };
        let (token, continuation) = (self.token.clone(), Box::new(continuation));
        out.effects.push(Effect::Connect { link: id, token, continuation });
        // The shell's own deadline covers connecting and the upgrade; this one is for a node that never says welcome.
        let until_ms = now_ms.saturating_add(2 * millis(self.options.connect.connect_timeout));
        Link { id, welcomed: false, until_ms, ping_ms: u64::MAX, dead_ms: None }
    }

    /// A connection did not come about.
    pub(crate) fn failed(&mut self, now_ms: u64, link: LinkId, error: &Error, out: &mut Out) {
        self.gone(now_ms, link, plan::of_error(error), plan::closed(error), out);
    }

    /// A connection has ended.
    pub(crate) fn closed(&mut self, now_ms: u64, link: LinkId, closed: Closed, out: &mut Out) {
        self.gone(now_ms, link, plan::of_close(closed.code), closed, out);
    }

    pub(super) fn gone(
        &mut self,
        now_ms: u64,
        link: LinkId,
        plan: Plan,
        closed: Closed,
        out: &mut Out,
    ) {
        if self.is_over() {
            return;
        }
        let is = |it: &Option<Link>| it.as_ref().is_some_and(|it| it.id == link);
        if is(&self.old) {
            self.old = None;
            self.forget(now_ms, link, out);
        } else if is(&self.next) {
            self.next = None;
            // Its token is no good, or it is not to come back: then the old one ends it in its own way.
            match plan {
                Plan::Resume { after } => self.hand_over_later(now_ms, after),
                Plan::Afresh | Plan::NewToken | Plan::End => self.turn = None,
            }
        } else if is(&self.main) {
            self.main = None;
            self.turn = None;
            self.forget(now_ms, link, out);
            match self.next.take() {
                // It is under way already.
                Some(next) => self.main = Some(next),
                None => self.come_back(now_ms, plan, closed, out),
            }
        }
    }

    /// What was under way over a connection goes over another one.
    pub(super) fn forget(&mut self, now_ms: u64, link: LinkId, out: &mut Out) {
        self.rooms.lost(link, now_ms);
        self.outbox.lost(link, now_ms);
        self.requests.lost(link);
        let moment = self.moment(now_ms);
        self.requests.send(moment, out);
        self.outbox.tick(moment.link, now_ms, &mut self.counters, out);
    }

    pub(super) fn come_back(&mut self, now_ms: u64, plan: Plan, closed: Closed, out: &mut Out) {
        let after = match plan {
            Plan::End => return self.end(closed, out),
            Plan::NewToken if self.options.token_source.is_none() => return self.end(closed, out),
            Plan::NewToken => {
                self.wants_token = true;
                Duration::ZERO
            }
            Plan::Afresh => {
                self.resume_token = None;
                Duration::ZERO
            }
            Plan::Resume { after } => after,
        };
        let attempts = self.backoff.attempts();
        if attempts >= self.options.reconnect.attempts_max {
            out.tell(SessionEvent::MaxReconnectAttemptsReached { attempts });
            return self.end(closed, out);
        }
        let random = self.jitter();
        let after = after.saturating_add(self.backoff.next_delay(random));
        self.counters.reconnects += 1;
        // What broke it says more than the code that stands for no code.
        let cause = if closed.code == 1_006 { closed.reason } else { closed.to_string() };
        out.tell(SessionEvent::Reconnecting { attempt: attempts.saturating_add(1), after, cause });
        self.pause = Pause::Until(now_ms.saturating_add(millis(after)));
    }

    /// From 0 to 1. Source: splitmix64.
    pub(super) fn jitter(&mut self) -> f64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        f64::from(u32::try_from((mixed ^ (mixed >> 31)) >> 32).unwrap_or(0)) / f64::from(u32::MAX)
    }

    pub(super) fn end(&mut self, closed: Closed, out: &mut Out) {
        if self.is_over() {
            return;
        }
        for link in [self.main.take(), self.next.take(), self.old.take()].into_iter().flatten() {
            out.effects.push(Effect::Close(link.id));
        }
        self.turn = None;
        self.rooms.end(&closed, out);
        self.requests.end(&closed, out);
        self.outbox.end(&closed, &mut self.counters, out);
        for waiter in self.ready.drain(..) {
            out.answer(waiter, Err(Error::Closed(closed.clone())));
        }
        out.tell(SessionEvent::Closed(closed.clone()));
        self.pause = Pause::Over(closed);
    }

    /// The node stops: another connection is made while this one still delivers.
    pub(super) fn drain(&mut self, now_ms: u64, drain: Drain, out: &mut Out) {
        if !self.options.hands_over || self.next.is_some() {
            return;
        }
        self.resume_token = Some(drain.resume_token);
        let until_ms = now_ms.saturating_add(millis(drain.turn));
        self.turn = Some(Turn { until_ms, retry_ms: u64::MAX });
        self.next = Some(self.open(now_ms, out));
    }

    pub(super) fn hand_over_later(&mut self, now_ms: u64, after: Duration) {
        let jitter = self.jitter();
        let pause = Duration::from_millis(HAND_OVER_RETRY_MS).mul_f64(jitter);
        let retry_ms = now_ms.saturating_add(millis(after.saturating_add(pause)));
        self.turn = self.turn.take().filter(|turn| retry_ms < turn.until_ms);
        if let Some(turn) = &mut self.turn {
            turn.retry_ms = retry_ms;
        }
    }

    /// The older connection is ended where the node does not do so: it knows nothing of the newer one, which began a session
    /// of its own. What is on its way there still comes.
    pub(super) fn end_old(&mut self, now_ms: u64) {
        let resumed = self.welcome.as_ref().is_some_and(|it| it.resumed == Some(Ok(())));
        if let Some(old) = &mut self.old
            && !resumed
            && self.rooms.is_settled()
        {
            old.until_ms = old.until_ms.min(now_ms.saturating_add(OLD_REST_MS));
        }
    }

    /// The application has no token to give.
    pub(super) fn no_token(&mut self, now_ms: u64, cause: &str, out: &mut Out) {
        let reason = format!("no new token: {cause}");
        self.pause = Pause::No;
        let resume = Plan::Resume { after: Duration::ZERO };
        self.come_back(now_ms, resume, Closed { code: 4_001, reason }, out);
    }
}
