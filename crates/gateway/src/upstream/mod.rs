//! Upstream: the calls to the application's HTTP back-ends. Owns who may be called and how, what is kept of answers,
//! and when a back-end is left alone; never decides what an answer means to a client, see [`requests`].
//!
//! A call has a name. Every call is answered within its timeout, the time in which it waits for its turn included; what
//! may wait is bounded in number for each call, and in bytes for all of them.

mod address;
mod authorize;
mod breaker;
mod cache;
mod call;
mod client;
mod connect;
mod requests;
mod sign;
mod stats;
#[cfg(test)]
mod tests;

use std::fmt;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use hyper::HeaderMap;
use tokio::sync::{mpsc, oneshot};

use crate::clock::Clock;
use crate::config::{MethodPattern, UpstreamConfig};
pub(crate) use authorize::Verdict;
use call::Call;
use client::Client;
pub(crate) use client::Failure;
use connect::Resolver;
pub(crate) use requests::respond;
pub(crate) use stats::CallStats;

/// Calls that may be on their way to the core thread at once.
const ASKS_MAX: usize = 4_096;

/// Bodies of all calls that wait or are under way. Units: bytes.
const BODIES_BYTES_MAX: usize = 32 << 20;

/// A call by its place in the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CallIndex(pub(crate) usize);

/// What a call is made with.
#[derive(Clone, Debug)]
pub(crate) struct CallInput {
    /// The body: JSON.
    pub(crate) body: Bytes,
    /// Under which key the answer may be kept, where the call has a cache; `None`: it is asked for anew.
    pub(crate) key: Option<Box<[u8]>>,
}

/// What a back-end answered. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    /// Any status; redirects are not followed.
    pub(crate) status: u16,
    /// Without those that are about the connection.
    pub(crate) headers: Arc<HeaderMap>,
    /// Bounds: the call's `response_bytes`.
    pub(crate) body: Bytes,
    /// It was kept from before, and the back-end cannot be asked at the moment.
    pub(crate) stale: bool,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CallError {
    /// Too many calls wait; none of this one's has left.
    #[error("too many calls wait")]
    Full,
    /// Its turn did not come within the timeout; nothing of it has left.
    #[error("its turn did not come within the timeout")]
    Late,
    /// The back-end failed too often, and is left alone.
    #[error("the breaker is open for another {retry_after_ms} ms")]
    Open {
        /// Units: milliseconds from now.
        retry_after_ms: u64,
    },
    /// It left, or was about to, and failed.
    #[error(transparent)]
    Failed(#[from] Failure),
    /// The node is ending.
    #[error("the node is ending")]
    Ending,
}

type Outcome = Result<Answer, CallError>;

/// One call on its way to the core thread.
struct Ask {
    call: CallIndex,
    input: CallInput,
    answer: oneshot::Sender<Outcome>,
    _weight: Weight,
}

/// The way to the back-ends, for every thread of the node.
#[derive(Clone)]
pub(crate) struct Upstream {
    shared: Arc<Shared>,
}

struct Shared {
    asks: mpsc::Sender<Ask>,
    /// Names, in the order of the configuration.
    calls: Box<[Box<str>]>,
    /// Which call serves which methods of clients.
    requests: Box<[(Box<[MethodPattern]>, CallIndex)]>,
    stats: Arc<[CallStats]>,
    bodies: Arc<AtomicUsize>,
}

impl fmt::Debug for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upstream").field("calls", &self.shared.calls).finish_non_exhaustive()
    }
}

/// What the core thread runs.
pub(crate) struct Worker {
    asks: mpsc::Receiver<Ask>,
    config: UpstreamConfig,
    stats: Arc<[CallStats]>,
    clock: Clock,
    resolver: Resolver,
}

/// The back-ends of a configuration: the way to them, and what has to run for it.
pub(crate) fn upstream(config: &UpstreamConfig, clock: Clock) -> (Upstream, Worker) {
    let (asks, asked) = mpsc::channel(ASKS_MAX);
    let stats: Arc<[CallStats]> =
        config.calls.iter().map(|call| CallStats::of(&call.name)).collect();
    let of = |it: &crate::config::RequestsConfig| {
        (it.methods.clone().into_boxed_slice(), CallIndex(it.call))
    };
    let shared = Shared {
        asks,
        calls: config.calls.iter().map(|call| call.name.clone()).collect(),
        requests: config.requests.iter().map(of).collect(),
        stats: Arc::clone(&stats),
        bodies: Arc::default(),
    };
    let (config, resolver) = (config.clone(), Resolver::System);
    let worker = Worker { asks: asked, config, stats, clock, resolver };
    (Upstream { shared: Arc::new(shared) }, worker)
}

impl Upstream {
    /// The call that serves a method of clients: the first whose patterns fit.
    pub(crate) fn serving(&self, method: &str) -> Option<CallIndex> {
        let fits = |patterns: &[MethodPattern]| patterns.iter().any(|it| it.fits(method));
        self.shared.requests.iter().find(|(patterns, _)| fits(patterns)).map(|(_, call)| *call)
    }

    /// What happened so far, in the order of the configuration.
    pub(crate) fn stats(&self) -> &Arc<[CallStats]> {
        &self.shared.stats
    }

    /// Calls a back-end. Any status is an answer.
    ///
    /// # Errors
    /// [`CallError`] says why there is none.
    pub(crate) async fn call(&self, call: CallIndex, input: CallInput) -> Outcome {
        let bytes = input.body.len() + input.key.as_ref().map_or(0, |key| key.len());
        let Some(weight) = Weight::take(&self.shared.bodies, bytes) else {
            if let Some(stats) = self.shared.stats.get(call.0) {
                CallStats::add(&stats.refused);
            }
            return Err(CallError::Full);
        };
        let (answer, outcome) = oneshot::channel();
        let ask = Ask { call, input, answer, _weight: weight };
        match self.shared.asks.try_send(ask) {
            Ok(()) => outcome.await.unwrap_or(Err(CallError::Ending)),
            Err(mpsc::error::TrySendError::Full(_)) => Err(CallError::Full),
            Err(mpsc::error::TrySendError::Closed(_)) => Err(CallError::Ending),
        }
    }
}

/// Bytes that count until they are dropped.
struct Weight {
    all: Arc<AtomicUsize>,
    bytes: usize,
}

impl Weight {
    fn take(all: &Arc<AtomicUsize>, bytes: usize) -> Option<Self> {
        let before = all.fetch_add(bytes, Ordering::Relaxed);
        let weight = Self { all: Arc::clone(all), bytes };
        (before + bytes <= BODIES_BYTES_MAX).then_some(weight)
    }
}

impl Drop for Weight {
    fn drop(&mut self) {
        self.all.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// Makes the calls, each in a task of its own on this thread, until nobody can ask any more.
pub(crate) async fn run(worker: Worker) {
    let Worker { mut asks, config, stats, clock, resolver } = worker;
    let clients: Vec<Rc<Client>> =
        config.targets.iter().map(|target| Client::new(target, clock, resolver.clone())).collect();
    let mut calls = Vec::new();
    for (at, call) in config.calls.iter().enumerate() {
        let Some(client) = clients.get(call.target) else { continue };
        calls.push(Rc::new(Call::new(call, Rc::clone(client), (Arc::clone(&stats), at), clock)));
    }
    while let Some(Ask { call, input, answer, _weight }) = asks.recv().await {
        let Some(call) = calls.get(call.0).map(Rc::clone) else { continue };
        tokio::task::spawn_local(async move {
            // Whoever asked may have gone.
            drop(answer.send(call.run(input).await));
            drop(_weight);
        });
    }
}
