//! One named call: its turn, its breaker, its cache, and those who share one answer. What leaves is the client's.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit, oneshot};
use tokio::time::{Instant, timeout_at};

use super::breaker::Breaker;
use super::cache::{Age, Cache, CacheLimits};
use super::client::{Client, Failure, Template};
use super::stats::CallStats;
use super::{Answer, CallError, CallInput, Outcome};
use crate::clock::Clock;
use crate::config::CallConfig;

/// From this status on a back-end has failed.
const FAILED: u16 = 500;

/// Statuses of answers that may be kept.
const KEPT: std::ops::Range<u16> = 200..300;

/// Those who wait for one answer.
type Waiting = Vec<oneshot::Sender<Outcome>>;

/// One call. Lives on the core thread.
pub(super) struct Call {
    client: std::rc::Rc<Client>,
    template: Template,
    timeout: Duration,
    turns: Semaphore,
    queue_max: u64,
    breaker: RefCell<Breaker>,
    cache: Option<RefCell<Cache<Answer>>>,
    /// Who waits for the answer that another one is getting, by key.
    flights: RefCell<HashMap<Box<[u8]>, Waiting>>,
    stats: Arc<[CallStats]>,
    at: usize,
    clock: Clock,
}

impl Call {
    /// The call of a configuration, whose figures are at this place.
    pub(super) fn new(
        config: &CallConfig,
        client: std::rc::Rc<Client>,
        (stats, at): (Arc<[CallStats]>, usize),
        clock: Clock,
    ) -> Self {
        let cache = config.cache.map(|cache| {
            RefCell::new(Cache::new(CacheLimits {
                fresh_ms: cache.fresh_ms,
                stale_ms: cache.stale_ms,
                entries_max: cache.entries_max,
                bytes_max: cache.bytes_max,
            }))
        });
        Self {
            template: client.template(config),
            client,
            timeout: Duration::from_millis(config.timeout_ms),
            turns: Semaphore::new(config.concurrency),
            queue_max: u64::from(config.queue),
            breaker: RefCell::new(Breaker::new(config.breaker_failures, config.breaker_open_ms)),
            cache,
            flights: RefCell::default(),
            stats,
            at,
            clock,
        }
    }

    /// Answers from what is kept, or asks the back-end. Takes as long as the call's timeout at most.
    pub(super) async fn run(&self, input: CallInput) -> Outcome {
        let Some(stats) = self.stats.get(self.at) else { return Err(CallError::Ending) };
        let deadline = Instant::now() + self.timeout;
        let CallInput { body, key } = input;
        let key = key.filter(|_| self.cache.is_some());
        let kept = key.as_deref().and_then(|key| self.kept(key));
        if let Some((answer, Age::Fresh)) = kept {
            CallStats::add(&stats.cached);
            return Ok(answer);
        }
        let refuses = self.breaker.borrow().refuses(self.now_ms());
        if let Some(retry_after_ms) = refuses {
            return self.instead(kept.map(|(answer, _)| answer), retry_after_ms);
        }
        let Some(key) = key else { return self.ask(body, None, deadline, stats).await };
        if let Some(answer) = self.share(&key, stats) {
            let answer = answer?;
            let _waits = CallStats::during(&stats.waiting);
            return answer.await.unwrap_or(Err(CallError::Ending));
        }
        let flight = Flight { call: self, key: &key };
        let outcome = self.ask(body, Some(&key), deadline, stats).await;
        flight.land(&outcome);
        outcome
    }

    /// What is kept under the key.
    fn kept(&self, key: &[u8]) -> Option<(Answer, Age)> {
        self.cache.as_ref()?.borrow().get(key, self.now_ms())
    }

    /// The breaker is open: an answer from before is better than none.
    fn instead(&self, kept: Option<Answer>, retry_after_ms: u64) -> Outcome {
        let figure = |of: fn(&CallStats) -> &std::sync::atomic::AtomicU64| {
            if let Some(stats) = self.stats.get(self.at) {
                CallStats::add(of(stats));
            }
        };
        if let Some(answer) = kept {
            figure(|stats| &stats.stale);
            return Ok(Answer { stale: true, ..answer });
        }
        figure(|stats| &stats.shut_out);
        Err(CallError::Open { retry_after_ms })
    }

    /// Waits for the answer that another one is getting; `None`: nobody is, so the caller has to, and others will wait
    /// for it.
    fn share(
        &self,
        key: &[u8],
        stats: &CallStats,
    ) -> Option<Result<oneshot::Receiver<Outcome>, CallError>> {
        let mut flights = self.flights.borrow_mut();
        let Some(waiting) = flights.get_mut(key) else {
            flights.insert(key.into(), Waiting::new());
            return None;
        };
        if stats.waiting.load(Ordering::Relaxed) >= self.queue_max {
            CallStats::add(&stats.refused);
            return Some(Err(CallError::Full));
        }
        CallStats::add(&stats.shared);
        let (sender, receiver) = oneshot::channel();
        waiting.push(sender);
        Some(Ok(receiver))
    }

    /// Asks the back-end, when its turn has come.
    async fn ask(
        &self,
        body: bytes::Bytes,
        key: Option<&[u8]>,
        deadline: Instant,
        stats: &CallStats,
    ) -> Outcome {
        let _turn = self.turn(deadline, stats).await?;
        let entered = self.breaker.borrow_mut().enter(self.now_ms());
        let pass = match entered {
            Ok(pass) => pass,
            // It opened while this one waited.
            Err(retry_after_ms) => {
                let kept = key.and_then(|key| self.kept(key)).map(|(answer, _)| answer);
                return self.instead(kept, retry_after_ms);
            }
        };
        let outcome = {
            let _under_way = CallStats::during(&stats.under_way);
            let exchange = self.client.exchange(&self.template, body);
            timeout_at(deadline, exchange).await.unwrap_or(Err(Failure::Timeout))
        };
        let succeeded = outcome.as_ref().is_ok_and(|answer| answer.status < FAILED);
        CallStats::add(if succeeded { &stats.answered } else { &stats.failed });
        self.judge(pass, &outcome, succeeded, stats);
        let answer = outcome?;
        if let (Some(key), Some(cache)) = (key, &self.cache)
            && KEPT.contains(&answer.status)
        {
            let bytes = answer.body.len() + headers_bytes(&answer);
            cache.borrow_mut().put(key, answer.clone(), bytes, self.now_ms());
        }
        Ok(answer)
    }

    /// Waits for its turn.
    async fn turn(
        &self,
        deadline: Instant,
        stats: &CallStats,
    ) -> Result<SemaphorePermit<'_>, CallError> {
        if let Ok(permit) = self.turns.try_acquire() {
            return Ok(permit);
        }
        if stats.waiting.load(Ordering::Relaxed) >= self.queue_max {
            CallStats::add(&stats.refused);
            return Err(CallError::Full);
        }
        let _waits = CallStats::during(&stats.waiting);
        match timeout_at(deadline, self.turns.acquire()).await {
            Ok(Ok(permit)) => Ok(permit),
            Ok(Err(_)) => Err(CallError::Ending),
            Err(_) => {
                CallStats::add(&stats.refused);
                Err(CallError::Late)
            }
        }
    }

    /// Tells the breaker, and the log where that changes something.
    fn judge(
        &self,
        pass: super::breaker::Pass,
        outcome: &Result<Answer, Failure>,
        succeeded: bool,
        stats: &CallStats,
    ) {
        let now_ms = self.now_ms();
        let mut breaker = self.breaker.borrow_mut();
        breaker.ended(pass, succeeded, now_ms);
        let is_open = breaker.is_open();
        let was_open = stats.open.swap(u64::from(is_open), Ordering::Relaxed) == 1;
        let call = &*stats.name;
        match (was_open, is_open, outcome) {
            (false, true, Err(failure)) => {
                tracing::warn!(call, cause = %failure, "a back-end failed too often: it is left alone for a while");
            }
            (false, true, Ok(answer)) => {
                let status = answer.status;
                tracing::warn!(
                    call,
                    status,
                    "a back-end failed too often: it is left alone for a while"
                );
            }
            (true, false, _) => tracing::info!(call, "a back-end is back"),
            (_, _, _) => {}
        }
    }

    fn now_ms(&self) -> u64 {
        self.clock.now().mono_ms
    }
}

/// An answer that others wait for; without one, they are told so.
struct Flight<'a> {
    call: &'a Call,
    key: &'a [u8],
}

impl Flight<'_> {
    fn land(self, outcome: &Outcome) {
        let waiting = self.call.flights.borrow_mut().remove(self.key);
        for answer in waiting.into_iter().flatten() {
            // Whoever waited may have gone.
            drop(answer.send(outcome.clone()));
        }
    }
}

impl Drop for Flight<'_> {
    fn drop(&mut self) {
        self.call.flights.borrow_mut().remove(self.key);
    }
}

fn headers_bytes(answer: &Answer) -> usize {
    answer.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 32).sum()
}
