//! The queue from a broker to one node: in order, bounded in bytes.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{Notify, mpsc};

/// Bytes that may wait in one node's feed, each event counted with its payload.
pub const FEED_BYTES_MAX: usize = 8 << 20;

/// Places that an empty list keeps while little is to do: a burst of thousands, as when all connect at once, leaves no more
/// behind.
pub const SPARE_MAX: usize = 256;

/// What an event weighs beside its publication. Units: bytes.
pub(crate) const EVENT_BYTES: usize = 128;

/// The node's end of its feed.
#[derive(Debug)]
pub struct Feed<E> {
    events: mpsc::UnboundedReceiver<(usize, E)>,
    level: Arc<Level>,
    taken: Vec<(usize, E)>,
}

/// The broker's end. Clones feed the same node.
#[derive(Debug)]
pub(crate) struct FeedSender<E> {
    events: mpsc::UnboundedSender<(usize, E)>,
    level: Arc<Level>,
}

impl<E> Clone for FeedSender<E> {
    fn clone(&self) -> Self {
        Self { events: self.events.clone(), level: Arc::clone(&self.level) }
    }
}

/// How full a feed is.
#[derive(Debug, Default)]
struct Level {
    bytes: AtomicUsize,
    /// Told when it falls to half.
    drained: Notify,
}

/// A feed's two ends.
pub(crate) fn feed<E>() -> (FeedSender<E>, Feed<E>) {
    let (sender, events) = mpsc::unbounded_channel();
    let level = Arc::new(Level::default());
    (
        FeedSender { events: sender, level: Arc::clone(&level) },
        Feed { events, level, taken: Vec::new() },
    )
}

impl<E> FeedSender<E> {
    /// Whether `weight` bytes more fit.
    pub(crate) fn fits(&self, weight: usize) -> bool {
        self.level.bytes.load(Ordering::Relaxed) + weight <= FEED_BYTES_MAX
    }

    /// Waits until the feed is no more than half full, if it is over its bound: whoever reads from a socket stops, and
    /// TCP pushes back.
    pub(crate) async fn room(&self) {
        if self.fits(0) {
            return;
        }
        loop {
            let mut drained = std::pin::pin!(self.level.drained.notified());
            drained.as_mut().enable();
            if self.level.bytes.load(Ordering::Relaxed) <= FEED_BYTES_MAX / 2 {
                return;
            }
            drained.await;
        }
    }

    /// Adds an event. A node that has gone hears nothing.
    pub(crate) fn send(&self, weight: usize, event: E) {
        self.level.bytes.fetch_add(weight, Ordering::Relaxed);
        if self.events.send((weight, event)).is_err() {
            self.level.bytes.fetch_sub(weight, Ordering::Relaxed);
        }
    }
}

impl<E> Feed<E> {
    /// Waits for events and appends up to `max` of them; none: the node was detached. Cancel safe.
    pub async fn recv_many(&mut self, into: &mut Vec<E>, max: usize) -> usize {
        let count = self.events.recv_many(&mut self.taken, max).await;
        self.hand_over(into);
        count
    }

    /// Appends the events that are there already, up to `max`.
    pub fn try_recv_many(&mut self, into: &mut Vec<E>, max: usize) -> usize {
        let mut count = 0;
        while count < max
            && let Ok(event) = self.events.try_recv()
        {
            self.taken.push(event);
            count += 1;
        }
        self.hand_over(into);
        count
    }

    /// Bytes waiting.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.level.bytes.load(Ordering::Relaxed)
    }

    /// Whether nothing waits and nothing will come: the node was detached.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.events.is_closed() && self.events.is_empty()
    }

    fn hand_over(&mut self, into: &mut Vec<E>) {
        let weight: usize = self.taken.iter().map(|(weight, _)| weight).sum();
        let before = self.level.bytes.fetch_sub(weight, Ordering::Relaxed);
        if before > FEED_BYTES_MAX / 2 && before - weight <= FEED_BYTES_MAX / 2 {
            self.level.drained.notify_waiters();
        }
        into.extend(self.taken.drain(..).map(|(_, event)| event));
    }

    /// Gives back the places that only a burst needed.
    pub fn give_back(&mut self) {
        self.taken.shrink_to(SPARE_MAX);
    }
}
