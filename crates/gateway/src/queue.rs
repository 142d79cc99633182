//! The queues between threads: in order, without a lock, counted in bytes.
//!
//! Replies, joins and orders are always taken; publications are what fills a queue, so they are what is held back:
//! the node's lanes stop reading from publishers while a queue is over its half (see [`Pressure`]).

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use roomcast_broker::feed::SPARE_MAX;
use tokio::sync::mpsc;

/// What a queue may hold beyond its bound of that which is never dropped: answers, joins, gaps, pages and orders. More
/// means that its receiver is stuck. Units: bytes.
pub(crate) const RESERVED_BYTES: usize = 16 << 20;

/// How full a queue is. Shared by its two ends and by those who want to know.
#[derive(Debug)]
pub(crate) struct Pressure {
    bytes: AtomicUsize,
    max: usize,
}

impl Pressure {
    /// Bytes waiting.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Whether publishers should wait.
    pub(crate) fn is_high(&self) -> bool {
        self.bytes() > self.max / 2
    }

    /// Whether nothing more that could be dropped should come.
    pub(crate) fn is_full(&self) -> bool {
        self.bytes() > self.max
    }

    /// Whether even what is never dropped has become too much.
    pub(crate) fn is_overrun(&self) -> bool {
        self.bytes() > self.max + RESERVED_BYTES
    }
}

/// The sending end. Clones feed the same queue.
#[derive(Debug)]
pub(crate) struct Sender<T> {
    items: mpsc::UnboundedSender<(usize, T)>,
    pressure: Arc<Pressure>,
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        Self { items: self.items.clone(), pressure: Arc::clone(&self.pressure) }
    }
}

/// The receiving end.
#[derive(Debug)]
pub(crate) struct Receiver<T> {
    items: mpsc::UnboundedReceiver<(usize, T)>,
    pressure: Arc<Pressure>,
    taken: Vec<(usize, T)>,
}

/// A queue that counts as full beyond `max` bytes.
pub(crate) fn queue<T>(max: usize) -> (Sender<T>, Receiver<T>) {
    let (sender, items) = mpsc::unbounded_channel();
    let pressure = Arc::new(Pressure { bytes: AtomicUsize::new(0), max });
    let receiver = Receiver { items, pressure: Arc::clone(&pressure), taken: Vec::new() };
    (Sender { items: sender, pressure }, receiver)
}

impl<T> Sender<T> {
    /// Adds an item of `weight` bytes. Once the receiver is gone, items go nowhere: the node is ending.
    pub(crate) fn send(&self, weight: usize, item: T) {
        self.pressure.bytes.fetch_add(weight, Ordering::Relaxed);
        if self.items.send((weight, item)).is_err() {
            self.pressure.bytes.fetch_sub(weight, Ordering::Relaxed);
        }
    }

    /// How full it is.
    pub(crate) fn pressure(&self) -> &Arc<Pressure> {
        &self.pressure
    }
}

impl<T> Receiver<T> {
    /// Waits for items and appends up to `max` of them. Cancel safe. None: all senders are gone.
    pub(crate) async fn recv_many(&mut self, into: &mut Vec<T>, max: usize) -> usize {
        let count = self.items.recv_many(&mut self.taken, max).await;
        self.hand_over(into);
        count
    }

    /// Appends up to `max` of the items that are there already.
    pub(crate) fn try_recv_many(&mut self, into: &mut Vec<T>, max: usize) -> usize {
        let mut count = 0;
        while count < max
            && let Ok(item) = self.items.try_recv()
        {
            self.taken.push(item);
            count += 1;
        }
        self.hand_over(into);
        count
    }

    fn hand_over(&mut self, into: &mut Vec<T>) {
        let weight = self.taken.iter().map(|(weight, _)| weight).sum();
        self.pressure.bytes.fetch_sub(weight, Ordering::Relaxed);
        into.extend(self.taken.drain(..).map(|(_, item)| item));
    }

    /// Gives back the places that only a burst needed.
    pub(crate) fn give_back(&mut self) {
        self.taken.shrink_to(SPARE_MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn pressure_follows_what_waits() {
        let (sender, mut receiver) = queue(100);
        sender.send(50, 'a');
        assert!(!sender.pressure().is_high() && !sender.pressure().is_full());
        sender.send(50, 'b');
        assert!(sender.pressure().is_high() && !sender.pressure().is_full());
        sender.send(1, 'c');
        assert!(sender.pressure().is_full() && !sender.pressure().is_overrun());
        sender.send(RESERVED_BYTES - 1, 'd');
        assert!(!sender.pressure().is_overrun());
        sender.send(1, 'e');
        assert!(sender.pressure().is_overrun());
        let mut items = Vec::new();
        assert_eq!(receiver.recv_many(&mut items, 2).await, 2);
        assert_eq!(receiver.try_recv_many(&mut items, 9), 3);
        assert_eq!((items, sender.pressure().bytes()), (vec!['a', 'b', 'c', 'd', 'e'], 0));
    }

    #[tokio::test]
    async fn what_is_sent_to_nobody_weighs_nothing() {
        let (sender, receiver) = queue(100);
        drop(receiver);
        sender.send(50, 'a');
        assert_eq!(sender.pressure().bytes(), 0);
    }
}
