//! Webhooks: the application is told over HTTP what happens, in order for each subject, and again until it has it. Owns what
//! waits for that, and what could not be delivered until the broker keeps it; never decides what is worth telling.
//!
//! An event waits in memory, bounded for the node; one that finds no place, is refused or is over becomes a dead letter.

mod event;
mod letters;
mod lines;
mod run;
#[cfg(test)]
mod tests;
mod verdict;

use std::borrow::Cow;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use roomcast_protocol::ids::NodeId;
use roomcast_protocol::time::Now;
use serde::Deserialize;
use tokio::sync::Notify;

use crate::clock::Clock;
pub(crate) use crate::config::EventKind;
use crate::config::WebhooksConfig;
use crate::upstream::CallIndex;
pub(crate) use event::{Event, Subject};
use event::{Settled, Told};
pub(crate) use letters::Written;
use letters::{Letter, Letters};
use lines::{Attempt, Ended, Gone, Lines, Standing, Why};
pub(crate) use run::run;
use verdict::Verdict;

/// How long events are tried while the node stops; then they become dead letters, for which the rest of its time is. Units:
/// milliseconds.
const END_MS: u64 = 1_000;

/// How often the log says of one webhook that events became dead letters. Units: milliseconds.
const LOG_MS: u64 = 10_000;

/// The way of events to the application, for every thread of the node. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Webhooks {
    shared: Arc<Shared>,
}

struct Shared {
    node: NodeId,
    clock: Clock,
    /// In the order of the configuration.
    hooks: Box<[HookParts]>,
    state: Mutex<State>,
    /// Something may be due.
    due: Notify,
    /// A dead letter waits for the broker.
    lettered: Notify,
}

/// What is fixed of one webhook.
struct HookParts {
    name: Box<str>,
    call: CallIndex,
    events: Vec<EventKind>,
}

struct State {
    lines: Lines,
    letters: Letters,
    counted: Vec<[Counted; EventKind::ALL.len()]>,
    logs: Vec<Log>,
    /// When what is left is given up, once the node stops. Units: monotonic milliseconds.
    end_ms: Option<u64>,
}

/// What became of one webhook's events of one kind.
#[derive(Clone, Copy, Debug, Default)]
struct Counted {
    delivered: u64,
    failed: u64,
    dead: u64,
}

/// What the log was told of one webhook.
#[derive(Clone, Copy, Debug, Default)]
struct Log {
    /// Dead letters since.
    dead: u64,
    /// Why the last of them is one, and what was answered last.
    why: Option<Why>,
    status: Option<u16>,
    /// When it may be told again. Units: monotonic milliseconds.
    next_ms: u64,
}

/// The figures of one webhook's events of one kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Figures {
    pub(crate) delivered: u64,
    /// Tries that failed.
    pub(crate) failed: u64,
    pub(crate) dead: u64,
    pub(crate) waiting: u64,
    /// How long the oldest has waited. Units: milliseconds.
    pub(crate) oldest_ms: u64,
}

/// The figures of all webhooks.
#[derive(Clone, Debug, Default)]
pub(crate) struct AllFigures {
    /// By webhook, then by kind.
    pub(crate) kinds: Vec<Figures>,
    /// What waits. Units: bytes.
    pub(crate) bytes: u64,
    /// Dead letters that wait for the broker.
    pub(crate) letters: u64,
    /// The same. Units: bytes.
    pub(crate) letters_bytes: u64,
    /// Dead letters that are kept nowhere.
    pub(crate) lost: u64,
}

/// What became of the wish to replay a dead letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Replayed {
    /// It is tried again.
    Queued,
    /// It is under way already, or its webhook is not one of this node.
    Left,
    /// There is no place for it now.
    Full,
}

/// What a dead letter's event says of itself.
#[derive(Deserialize)]
struct Head<'a> {
    #[serde(borrow)]
    id: Cow<'a, str>,
    #[serde(rename = "type", borrow)]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    subject: Cow<'a, str>,
}

impl fmt::Debug for Webhooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.names().collect();
        f.debug_struct("Webhooks").field("names", &names).finish_non_exhaustive()
    }
}

impl Webhooks {
    /// The webhooks of a configuration; [`run`] does their work.
    pub(crate) fn new(config: &WebhooksConfig, node: NodeId, clock: Clock) -> Self {
        let hooks = config.hooks.iter().map(|hook| HookParts {
            name: hook.name.clone(),
            call: CallIndex(hook.call),
            events: hook.events.clone(),
        });
        let count = config.hooks.len();
        let state = State {
            lines: Lines::new(config),
            letters: Letters::new(config.events_max, config.bytes_max),
            counted: vec![Default::default(); count],
            logs: vec![Log::default(); count],
            end_ms: None,
        };
        let shared = Shared {
            node,
            clock,
            hooks: hooks.collect(),
            state: Mutex::new(state),
            due: Notify::new(),
            lettered: Notify::new(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Their names, in the order of the configuration.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.shared.hooks.iter().map(|hook| &*hook.name)
    }

    /// Has the application told. Never blocks; an event that nobody wants is done at once.
    pub(crate) fn tell(&self, event: Event) {
        let wants = |hook: &HookParts| hook.events.contains(&event.kind);
        let hooks = self.shared.hooks.iter().enumerate().filter(|(_, hook)| wants(hook));
        let hooks: Vec<usize> = hooks.map(|(at, _)| at).collect();
        let body = if hooks.is_empty() { None } else { event.body(self.shared.node).ok() };
        let Event { id, kind, subject, kept, done, .. } = event;
        let Some(body) = body else {
            if let Some(done) = done {
                done();
            }
            return;
        };
        let now = self.shared.clock.now();
        let told = Told {
            id: id.into(),
            kind,
            subject: subject.to_string().into(),
            body,
            first_unix_ms: now.unix_ms,
            before: None,
            kept,
            done: done.map(|done| Settled::of(hooks.len(), done)),
        };
        let mut state = self.state();
        for at in hooks {
            if let Err(told) = state.lines.offer(now.mono_ms, at, told.clone()) {
                let gone = Gone { hook: at, told, tries: 0, status: None };
                self.bury(&mut state, vec![gone], Why::Full, now);
            }
        }
        drop(state);
        self.shared.due.notify_one();
    }

    /// Tries a dead letter again.
    pub(crate) fn replay(&self, written: &Written<'_>) -> Replayed {
        let at = self.names().position(|name| *name == *written.webhook);
        let head: Option<Head<'_>> = serde_json::from_str(written.event.get()).ok();
        let Some((at, head)) = at.zip(head) else { return Replayed::Left };
        let kind = EventKind::ALL.into_iter().find(|kind| kind.name() == head.kind);
        let Some(kind) = kind else { return Replayed::Left };
        let mut state = self.state();
        if state.lines.is_replayed(at, &head.id) {
            return Replayed::Left;
        }
        let told = Told {
            id: head.id.as_ref().into(),
            kind,
            subject: head.subject.as_ref().into(),
            body: Bytes::copy_from_slice(written.event.get().as_bytes()),
            first_unix_ms: written.first_unix_ms,
            before: Some(written.tries),
            kept: false,
            done: None,
        };
        let taken = state.lines.offer(self.shared.clock.now().mono_ms, at, told).is_ok();
        drop(state);
        self.shared.due.notify_one();
        if taken { Replayed::Queued } else { Replayed::Full }
    }

    /// The node stops: what cannot be delivered within [`END_MS`] becomes a dead letter.
    pub(crate) fn end(&self) {
        let now_ms = self.shared.clock.now().mono_ms;
        self.state().end_ms.get_or_insert(now_ms + END_MS);
        self.shared.due.notify_one();
        self.shared.lettered.notify_one();
    }

    /// Whether nothing waits, neither for the application nor for the broker.
    pub(crate) fn are_idle(&self) -> bool {
        let state = self.state();
        state.lines.len() == 0 && state.letters.len() == 0
    }

    /// The node has stopped: the log says what is lost.
    pub(crate) fn close(&self) {
        let mut state = self.state();
        for (hook, log) in self.shared.hooks.iter().zip(&mut state.logs) {
            log.tell(&hook.name);
        }
        let (events, letters) = (state.lines.len(), state.letters.len());
        if events + letters > 0 {
            tracing::error!(
                events,
                letters,
                "the node stopped before the broker kept all dead letters"
            );
        }
    }

    /// The figures.
    pub(crate) fn figures(&self) -> AllFigures {
        let now_ms = self.shared.clock.now().mono_ms;
        let state = self.state();
        let mut kinds = Vec::new();
        for (at, counted) in state.counted.iter().enumerate() {
            let mut standing = [Standing::default(); EventKind::ALL.len()];
            state.lines.standing(now_ms, at, &mut standing);
            kinds.extend(counted.iter().zip(standing).map(|(counted, standing)| Figures {
                delivered: counted.delivered,
                failed: counted.failed,
                dead: counted.dead,
                waiting: standing.waiting,
                oldest_ms: standing.oldest_ms,
            }));
        }
        AllFigures {
            kinds,
            bytes: state.lines.bytes() as u64,
            letters: state.letters.len() as u64,
            letters_bytes: state.letters.bytes() as u64,
            lost: state.letters.lost,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What may be tried now, and when there is something to do next. Units: monotonic milliseconds.
    fn turn(&self) -> (Vec<Attempt>, Option<u64>) {
        let now = self.shared.clock.now();
        let mut state = self.state();
        let over = state.lines.expire(now.mono_ms);
        self.bury(&mut state, over, Why::Expired, now);
        if let Some(end_ms) = state.end_ms {
            let over = state.lines.end(now.mono_ms, end_ms);
            self.bury(&mut state, over, Why::Stopped, now);
        }
        let mut attempts = Vec::new();
        while let Some(attempt) = state.lines.start(now.mono_ms) {
            attempts.push(attempt);
        }
        let wake = state.lines.next_wake_ms();
        let end_ms = state.end_ms.filter(|_| state.lines.len() > 0);
        (attempts, wake.into_iter().chain(end_ms).min())
    }

    /// A try has ended.
    fn ended(&self, place: (usize, u64), verdict: Verdict) {
        let now = self.shared.clock.now();
        // Without random bytes there is no pause, but what the application asked for.
        let random = getrandom::u64().unwrap_or(0);
        let mut state = self.state();
        match state.lines.ended(now.mono_ms, place, verdict, random) {
            Some(Ended::Delivered(gone)) => self.delivered(&mut state, gone, now),
            Some(Ended::Dead(gone, why)) => {
                state.count(&gone, |counted| counted.failed += 1);
                self.bury(&mut state, vec![gone], why, now);
            }
            Some(Ended::Waits(gone, true)) => state.count(&gone, |counted| counted.failed += 1),
            Some(Ended::Waits(_, false)) | None => {}
        }
        drop(state);
        self.shared.due.notify_one();
    }

    fn delivered(&self, state: &mut State, gone: Gone, now: Now) {
        state.count(&gone, |counted| counted.delivered += 1);
        gone.told.settle();
        if gone.told.before.is_some()
            && let Some(hook) = self.shared.hooks.get(gone.hook)
        {
            let letter = Letter::Delivered { hook: hook.name.clone(), told: gone.told };
            state.letters.push(letter, self.shared.node, now);
            self.shared.lettered.notify_one();
        }
    }

    /// Makes dead letters of events.
    fn bury(&self, state: &mut State, over: Vec<Gone>, why: Why, now: Now) {
        for gone in over {
            let Some(hook) = self.shared.hooks.get(gone.hook) else { continue };
            // Another node tells it.
            if why == Why::Stopped && gone.told.kept {
                continue;
            }
            state.count(&gone, |counted| counted.dead += 1);
            state.log(&gone, (&hook.name, why), now.mono_ms);
            let letter = Letter::dead(&hook.name, gone, why, now);
            state.letters.push(letter, self.shared.node, now);
            self.shared.lettered.notify_one();
        }
    }
}

impl Log {
    /// Says how many dead letters there are that the log was not told of.
    fn tell(&mut self, webhook: &str) {
        let (count, why) = (std::mem::take(&mut self.dead), self.why.map(Why::name));
        if count > 0 {
            tracing::warn!(webhook, why, status = self.status, count, "events became dead letters");
        }
    }
}

impl State {
    fn count(&mut self, gone: &Gone, add: impl FnOnce(&mut Counted)) {
        let kinds = self.counted.get_mut(gone.hook);
        if let Some(counted) = kinds.and_then(|it| it.get_mut(gone.told.kind as usize)) {
            add(counted);
        }
    }

    /// Says that there are dead letters, but not of each.
    fn log(&mut self, gone: &Gone, (webhook, why): (&str, Why), mono_ms: u64) {
        let Some(log) = self.logs.get_mut(gone.hook) else { return };
        (log.dead, log.why, log.status) = (log.dead + 1, Some(why), gone.status);
        if mono_ms >= log.next_ms {
            log.tell(webhook);
            log.next_ms = mono_ms + LOG_MS;
        }
    }
}
