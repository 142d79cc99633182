//! The queue from a broker to one node: in order, bounded in bytes.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::mpsc;

/// Bytes that may wait in one node's feed, each event counted with its payload.
pub const FEED_BYTES_MAX: usize = 8 << 20;

/// The node's end of its feed.
#[derive(Debug)]
pub struct Feed<E> {
    events: mpsc::UnboundedReceiver<(usize, E)>,
    bytes: Arc<AtomicUsize>,
    taken: Vec<(usize, E)>,
}

/// The broker's end.
#[derive(Debug)]
pub(crate) struct FeedSender<E> {
    events: mpsc::UnboundedSender<(usize, E)>,
    bytes: Arc<AtomicUsize>,
}

/// A feed's two ends.
pub(crate) fn feed<E>() -> (FeedSender<E>, Feed<E>) {
    let (sender, events) = mpsc::unbounded_channel();
    let bytes = Arc::new(AtomicUsize::new(0));
    (
        FeedSender { events: sender, bytes: Arc::clone(&bytes) },
        Feed { events, bytes, taken: Vec::new() },
    )
}

impl<E> FeedSender<E> {
    /// Whether `weight` bytes more fit.
    pub(crate) fn fits(&self, weight: usize) -> bool {
        self.bytes.load(Ordering::Relaxed) + weight <= FEED_BYTES_MAX
    }

    /// Adds an event. A node that has gone hears nothing.
    pub(crate) fn send(&self, weight: usize, event: E) {
        self.bytes.fetch_add(weight, Ordering::Relaxed);
        if self.events.send((weight, event)).is_err() {
            self.bytes.fetch_sub(weight, Ordering::Relaxed);
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
        self.bytes.load(Ordering::Relaxed)
    }

    /// Whether nothing waits and nothing will come: the node was detached.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.events.is_closed() && self.events.is_empty()
    }

    fn hand_over(&mut self, into: &mut Vec<E>) {
        let weight = self.taken.iter().map(|(weight, _)| weight).sum();
        self.bytes.fetch_sub(weight, Ordering::Relaxed);
        into.extend(self.taken.drain(..).map(|(_, event)| event));
    }
}
