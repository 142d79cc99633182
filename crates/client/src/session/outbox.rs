//! Publications on their way: each is sent with the same id until the node has acked or refused it, over whatever
//! connection there is, or is given up in time. Pure. Bounds: messages, bytes, age.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;

use crate::driver::LinkId;
use crate::error::{Closed, Error, Refused};
use crate::event::{Ack, Published};
use crate::session::effect::{Effect, Out, Reply, Waiter};
use crate::session::event::{SessionCounters, SessionEvent};
use crate::session::options::Reliable;

/// How long a refusal that may be tried again without saying when is heeded. Units: milliseconds.
const RETRY_MS: u64 = 1_000;

/// A publication as the application gives it.
#[derive(Debug)]
pub(crate) struct Parcel {
    pub(crate) id: String,
    pub(crate) room: String,
    /// As it is sent.
    pub(crate) bytes: Bytes,
    /// The node is to ack it; else it is done once it was sent.
    pub(crate) ack: bool,
    /// Who waits for it; without, its failure is told as an event.
    pub(crate) waiter: Option<Waiter>,
}

#[derive(Debug)]
struct Entry {
    parcel: Parcel,
    since_ms: u64,
    /// Over which connection it was sent last.
    sent: Option<LinkId>,
    was_sent: bool,
    /// When it is sent (again).
    due_ms: u64,
    retries: u32,
}

/// All of them, in the order of the application's calls.
#[derive(Debug)]
pub(crate) struct Outbox {
    entries: VecDeque<Entry>,
    bytes: usize,
    figures: Reliable,
}

impl Outbox {
    pub(crate) const fn new(figures: Reliable) -> Self {
        Self { entries: VecDeque::new(), bytes: 0, figures }
    }

    /// Takes one more, and sends it if there is a connection.
    pub(crate) fn push(
        &mut self,
        parcel: Parcel,
        link: Option<LinkId>,
        now_ms: u64,
        out: &mut Out,
    ) {
        let full = if self.entries.len() >= self.figures.queue_max {
            Some(("queue_max", self.figures.queue_max))
        } else if self.bytes.saturating_add(parcel.bytes.len()) > self.figures.queue_bytes_max {
            Some(("queue_bytes_max", self.figures.queue_bytes_max))
        } else {
            None
        };
        if let Some((what, max)) = full {
            return fail(&parcel, Error::Full { what, max }, out);
        }
        self.bytes += parcel.bytes.len();
        let fresh = Entry {
            parcel,
            since_ms: now_ms,
            sent: None,
            was_sent: false,
            due_ms: now_ms,
            retries: 0,
        };
        self.entries.push_back(fresh);
        if let Some(link) = link {
            self.send_due(link, now_ms, &mut SessionCounters::default(), out);
        }
    }

    /// Sends what is due; gives up what is too old or was sent too often.
    pub(crate) fn tick(
        &mut self,
        link: Option<LinkId>,
        now_ms: u64,
        counters: &mut SessionCounters,
        out: &mut Out,
    ) {
        let age_max = self.figures.age_max;
        let retries = self.figures.retries;
        let given_up = |entry: &Entry| {
            let age_ms = now_ms.saturating_sub(entry.since_ms);
            let unanswered = link.is_some() && entry.sent.is_some();
            let too_often = unanswered && entry.due_ms <= now_ms && entry.retries >= retries;
            (age_ms >= millis(age_max) || too_often).then(|| Error::GivenUp {
                what: "the publication",
                after: Duration::from_millis(age_ms),
                sent: entry.was_sent,
            })
        };
        let mut kept = VecDeque::with_capacity(self.entries.len());
        for entry in self.entries.drain(..) {
            match given_up(&entry) {
                None => kept.push_back(entry),
                Some(error) => {
                    self.bytes = self.bytes.saturating_sub(entry.parcel.bytes.len());
                    counters.unpublished += 1;
                    fail(&entry.parcel, error, out);
                }
            }
        }
        self.entries = kept;
        if let Some(link) = link {
            self.send_due(link, now_ms, counters, out);
        }
    }

    fn send_due(
        &mut self,
        link: LinkId,
        now_ms: u64,
        counters: &mut SessionCounters,
        out: &mut Out,
    ) {
        let timeout_ms = millis(self.figures.ack_timeout);
        let mut done = Vec::new();
        for (index, entry) in self.entries.iter_mut().enumerate() {
            if entry.due_ms > now_ms {
                continue;
            }
            counters.sent_again += u64::from(entry.was_sent);
            entry.retries += u32::from(entry.sent == Some(link));
            (entry.sent, entry.was_sent) = (Some(link), true);
            entry.due_ms = now_ms.saturating_add(timeout_ms);
            out.effects.push(Effect::Send { link, bytes: entry.parcel.bytes.clone() });
            if !entry.parcel.ack {
                done.push(index);
            }
        }
        // From behind, so that the numbers in front stay right.
        for index in done.into_iter().rev() {
            if let Some(Entry { parcel, .. }) = self.remove(index) {
                succeed(&parcel, None, out);
            }
        }
    }

    /// A connection is gone: what was sent over it and not acked is due again.
    pub(crate) fn lost(&mut self, link: LinkId, now_ms: u64) {
        for entry in self.entries.iter_mut().filter(|entry| entry.sent == Some(link)) {
            (entry.sent, entry.due_ms, entry.retries) = (None, now_ms, 0);
        }
    }

    /// The node has it. `false`: nobody sent this.
    pub(crate) fn acked(
        &mut self,
        id: &str,
        ack: Ack,
        counters: &mut SessionCounters,
        out: &mut Out,
    ) -> bool {
        let Some(Entry { parcel, .. }) = self.find(id).and_then(|index| self.remove(index)) else {
            return false;
        };
        counters.published += 1;
        succeed(&parcel, Some(ack), out);
        true
    }

    /// The node would not have it, or not now. `Some`: nobody sent this.
    pub(crate) fn refused(
        &mut self,
        id: &str,
        refused: Box<Refused>,
        now_ms: u64,
        counters: &mut SessionCounters,
        out: &mut Out,
    ) -> Option<Box<Refused>> {
        let Some(index) = self.find(id) else { return Some(refused) };
        let again = refused.retry || refused.outcome_unknown;
        if again && let Some(entry) = self.entries.get_mut(index) {
            let wait_ms = refused.retry_after.map_or(RETRY_MS, millis);
            entry.due_ms = now_ms.saturating_add(wait_ms.max(1));
            // The node is there and answers: only the age counts.
            (entry.sent, entry.retries) = (None, 0);
            return None;
        }
        if let Some(Entry { parcel, .. }) = self.remove(index) {
            counters.unpublished += 1;
            fail(&parcel, Error::Refused(refused), out);
        }
        None
    }

    /// The session is over.
    pub(crate) fn end(&mut self, closed: &Closed, counters: &mut SessionCounters, out: &mut Out) {
        self.bytes = 0;
        for entry in self.entries.drain(..) {
            counters.unpublished += 1;
            fail(&entry.parcel, Error::Closed(closed.clone()), out);
        }
    }

    /// When something is due, with a connection or without.
    pub(crate) fn next_wake(&self, connected: bool) -> Option<u64> {
        let age_ms = millis(self.figures.age_max);
        let wake = |entry: &Entry| {
            let end_ms = entry.since_ms.saturating_add(age_ms);
            if connected { end_ms.min(entry.due_ms) } else { end_ms }
        };
        self.entries.iter().map(wake).min()
    }

    fn find(&self, id: &str) -> Option<usize> {
        self.entries.iter().position(|entry| entry.parcel.id == id)
    }

    fn remove(&mut self, index: usize) -> Option<Entry> {
        let entry = self.entries.remove(index)?;
        self.bytes = self.bytes.saturating_sub(entry.parcel.bytes.len());
        Some(entry)
    }
}

fn succeed(parcel: &Parcel, ack: Option<Ack>, out: &mut Out) {
    if let Some(waiter) = parcel.waiter {
        out.answer(waiter, Ok(Reply::Published(Published { id: parcel.id.clone(), ack })));
    }
}

fn fail(parcel: &Parcel, error: Error, out: &mut Out) {
    match parcel.waiter {
        Some(waiter) => out.answer(waiter, Err(error)),
        None => out.tell(SessionEvent::Unpublished {
            id: parcel.id.clone(),
            room: parcel.room.clone(),
            error,
        }),
    }
}

/// Units: milliseconds, as many as fit.
pub(crate) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
