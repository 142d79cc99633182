//! What waits to be told, in order: of one webhook and subject one event is under way at most, and those behind it wait,
//! also while it is tried again. Pure: time and randomness are arguments.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::Arc;

use super::event::Told;
use super::verdict::{Verdict, backoff_ms};
use crate::config::WebhooksConfig;

/// Why an event became a dead letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why {
    /// Too much waited when it came.
    Full,
    /// The application does not take it, whenever it comes.
    Refused,
    /// Its time was over.
    Expired,
    /// The node stopped.
    Stopped,
}

impl Why {
    /// As it is listed.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Refused => "refused",
            Self::Expired => "expired",
            Self::Stopped => "stopped",
        }
    }
}

/// An event that waits, or is under way.
struct Waiting {
    told: Told,
    /// When it is over with it. Units: monotonic milliseconds.
    deadline_ms: u64,
    /// When it may be tried next, once it is at the front. Units: monotonic milliseconds.
    due_ms: u64,
    /// Requests that left.
    tries: u32,
    /// What was answered last.
    status: Option<u16>,
    under_way: bool,
}

/// One that left its line.
pub(super) struct Gone {
    /// Which webhook, by its place.
    pub(super) hook: usize,
    pub(super) told: Told,
    /// Requests that left.
    pub(super) tries: u32,
    /// What was answered last.
    pub(super) status: Option<u16>,
}

/// What came of a try.
pub(super) enum Ended {
    Delivered(Gone),
    Dead(Gone, Why),
    /// It is tried again; whether the try counts.
    Waits(Gone, bool),
}

/// One try.
pub(super) struct Attempt {
    pub(super) hook: usize,
    pub(super) serial: u64,
    pub(super) told: Told,
}

/// How a webhook's events stand, of one kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Standing {
    pub(super) waiting: u64,
    /// How long the oldest has waited. Units: milliseconds.
    pub(super) oldest_ms: u64,
}

/// One webhook.
struct Hook {
    concurrency: usize,
    retry_for_ms: u64,
    /// By when they came, which is the order of their deadlines too.
    waiting: BTreeMap<u64, Waiting>,
    /// By subject; the front is the one that is tried.
    lines: HashMap<Arc<str>, VecDeque<u64>>,
    /// Fronts that are not under way, by when they may be tried.
    due: BTreeSet<(u64, u64)>,
    under_way: usize,
    /// Nothing leaves before. Units: monotonic milliseconds.
    held_ms: u64,
    /// Ids of those that were dead letters: they are replayed once at a time.
    replayed: HashSet<Arc<str>>,
}

/// All that waits.
pub(super) struct Lines {
    hooks: Vec<Hook>,
    events_max: usize,
    bytes_max: usize,
    events: usize,
    bytes: usize,
    /// Of these, what the broker keeps until it was told: its bound is there.
    kept: usize,
    kept_bytes: usize,
    serial: u64,
}

impl Lines {
    /// Nothing waits.
    pub(super) fn new(config: &WebhooksConfig) -> Self {
        let hook = |it: &crate::config::WebhookConfig| Hook {
            concurrency: it.concurrency,
            retry_for_ms: it.retry_for_ms,
            waiting: BTreeMap::new(),
            lines: HashMap::new(),
            due: BTreeSet::new(),
            under_way: 0,
            held_ms: 0,
            replayed: HashSet::new(),
        };
        Self {
            hooks: config.hooks.iter().map(hook).collect(),
            events_max: config.events_max,
            bytes_max: config.bytes_max,
            events: 0,
            bytes: 0,
            kept: 0,
            kept_bytes: 0,
            serial: 0,
        }
    }

    /// Events that wait or are under way.
    pub(super) const fn len(&self) -> usize {
        self.events
    }

    /// What they weigh. Units: bytes.
    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether an event that was a dead letter waits.
    pub(super) fn is_replayed(&self, hook: usize, id: &str) -> bool {
        self.hooks.get(hook).is_some_and(|hook| hook.replayed.contains(id))
    }

    /// Puts an event at the end of its subject's line.
    ///
    /// # Errors
    /// Too much waits: it is given back.
    pub(super) fn offer(&mut self, now_ms: u64, at: usize, told: Told) -> Result<(), Told> {
        let weight = told.weight();
        let (events, bytes) = (self.events - self.kept, self.bytes - self.kept_bytes);
        let fits = told.kept || events < self.events_max && bytes + weight <= self.bytes_max;
        let Some(hook) = self.hooks.get_mut(at).filter(|_| fits) else { return Err(told) };
        self.events += 1;
        self.bytes += weight;
        if told.kept {
            self.kept += 1;
            self.kept_bytes += weight;
        }
        self.serial += 1;
        let serial = self.serial;
        let line = hook.lines.entry(Arc::clone(&told.subject)).or_default();
        line.push_back(serial);
        if line.len() == 1 {
            hook.due.insert((now_ms, serial));
        }
        if told.before.is_some() {
            hook.replayed.insert(Arc::clone(&told.id));
        }
        let deadline_ms = now_ms.saturating_add(hook.retry_for_ms);
        let waiting =
            Waiting { told, deadline_ms, due_ms: now_ms, tries: 0, status: None, under_way: false };
        hook.waiting.insert(serial, waiting);
        Ok(())
    }

    /// The next one that may be tried now; it is under way until [`Lines::ended`].
    pub(super) fn start(&mut self, now_ms: u64) -> Option<Attempt> {
        let ready = |hook: &Hook| hook.next_start_ms().is_some_and(|at| at <= now_ms);
        let at = self.hooks.iter().position(ready)?;
        let hook = self.hooks.get_mut(at)?;
        let (_, serial) = hook.due.pop_first()?;
        let waiting = hook.waiting.get_mut(&serial)?;
        waiting.under_way = true;
        hook.under_way += 1;
        Some(Attempt { hook: at, serial, told: waiting.told.clone() })
    }

    /// A try has ended; `None`: nobody waits for that any more.
    pub(super) fn ended(
        &mut self,
        now_ms: u64,
        (at, serial): (usize, u64),
        verdict: Verdict,
        random: u64,
    ) -> Option<Ended> {
        let hook = self.hooks.get_mut(at)?;
        let waiting = hook.waiting.get_mut(&serial)?;
        waiting.under_way = false;
        hook.under_way -= 1;
        let (after_ms, counts) = match verdict {
            Verdict::Delivered => {
                waiting.tries += 1;
                return self.remove(now_ms, at, serial).map(Ended::Delivered);
            }
            Verdict::Never { status } => {
                waiting.tries += 1;
                waiting.status = Some(status);
                return self.remove(now_ms, at, serial).map(|it| Ended::Dead(it, Why::Refused));
            }
            Verdict::Again { status, after_ms } => {
                waiting.tries += 1;
                waiting.status = status;
                (after_ms.max(backoff_ms(waiting.tries, random)), true)
            }
            Verdict::Held { after_ms } => {
                hook.held_ms = hook.held_ms.max(now_ms.saturating_add(after_ms));
                (0, false)
            }
        };
        waiting.due_ms = now_ms.saturating_add(after_ms);
        hook.due.insert((waiting.due_ms, serial));
        let Waiting { told, tries, status, .. } = waiting;
        let gone = Gone { hook: at, told: told.clone(), tries: *tries, status: *status };
        Some(Ended::Waits(gone, counts))
    }

    /// Takes out those whose time is over. What is under way may still end well.
    pub(super) fn expire(&mut self, now_ms: u64) -> Vec<Gone> {
        self.take(now_ms, |hook| {
            let over = hook.waiting.iter().take_while(|(_, it)| it.deadline_ms <= now_ms);
            over.filter(|(_, it)| !it.under_way).map(|(serial, _)| *serial).collect()
        })
    }

    /// The node ends then: takes out those that cannot leave before, or all once it is so late.
    pub(super) fn end(&mut self, now_ms: u64, end_ms: u64) -> Vec<Gone> {
        if now_ms < end_ms {
            return self.take(now_ms, |hook| {
                let late = |it: &Waiting| hook.held_ms.max(it.due_ms) >= end_ms;
                let over = hook.waiting.iter().filter(|(_, it)| !it.under_way && late(it));
                over.map(|(serial, _)| *serial).collect()
            });
        }
        for hook in &mut self.hooks {
            hook.under_way = 0;
            hook.waiting.values_mut().for_each(|waiting| waiting.under_way = false);
        }
        self.take(now_ms, |hook| hook.waiting.keys().copied().collect())
    }

    /// When [`Lines::start`] or [`Lines::expire`] has something to do, unless a try ends before. Units: monotonic
    /// milliseconds.
    pub(super) fn next_wake_ms(&self) -> Option<u64> {
        let deadline = |hook: &Hook| {
            hook.waiting.values().find(|waiting| !waiting.under_way).map(|it| it.deadline_ms)
        };
        self.hooks.iter().flat_map(|it| [it.next_start_ms(), deadline(it)]).flatten().min()
    }

    /// How the events of one kind stand, by the place of the kind.
    pub(super) fn standing(&self, now_ms: u64, at: usize, into: &mut [Standing]) {
        let Some(hook) = self.hooks.get(at) else { return };
        for waiting in hook.waiting.values() {
            let Some(standing) = into.get_mut(waiting.told.kind as usize) else { continue };
            standing.waiting += 1;
            let came_ms = waiting.deadline_ms.saturating_sub(hook.retry_for_ms);
            standing.oldest_ms = standing.oldest_ms.max(now_ms.saturating_sub(came_ms));
        }
    }

    /// Takes out those of each webhook that are over; none of them is under way.
    fn take(&mut self, now_ms: u64, over: impl Fn(&Hook) -> Vec<u64>) -> Vec<Gone> {
        let mut gone = Vec::new();
        for at in 0..self.hooks.len() {
            let over = self.hooks.get(at).map(&over).unwrap_or_default();
            gone.extend(over.into_iter().filter_map(|serial| self.remove(now_ms, at, serial)));
        }
        gone
    }

    /// Takes one out that is not under way; the next of its line is due.
    fn remove(&mut self, now_ms: u64, at: usize, serial: u64) -> Option<Gone> {
        let hook = self.hooks.get_mut(at)?;
        let Waiting { told, due_ms, tries, status, .. } = hook.waiting.remove(&serial)?;
        self.events -= 1;
        self.bytes -= told.weight();
        if told.kept {
            self.kept -= 1;
            self.kept_bytes -= told.weight();
        }
        hook.due.remove(&(due_ms, serial));
        if told.before.is_some() {
            hook.replayed.remove(&told.id);
        }
        if let Some(line) = hook.lines.get_mut(&told.subject) {
            let was_front = line.front() == Some(&serial);
            // Near the front: those of a line end in order, but for one that is under way.
            if let Some(place) = line.iter().position(|it| *it == serial) {
                line.remove(place);
            }
            match line.front() {
                None => drop(hook.lines.remove(&told.subject)),
                Some(next) if was_front => {
                    if let Some(waiting) = hook.waiting.get_mut(next) {
                        waiting.due_ms = now_ms;
                        hook.due.insert((now_ms, *next));
                    }
                }
                Some(_) => {}
            }
        }
        Some(Gone { hook: at, told, tries, status })
    }
}

impl Hook {
    /// When the next may leave; `None`: an end comes first, or nothing waits.
    fn next_start_ms(&self) -> Option<u64> {
        let (due_ms, _) = self.due.first().filter(|_| self.under_way < self.concurrency)?;
        Some((*due_ms).max(self.held_ms))
    }
}

#[cfg(test)]
#[path = "lines_tests.rs"]
mod tests;
