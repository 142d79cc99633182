//! What calls have come to, for `/metrics`: counted on the core thread, read at the scrape.

use std::sync::atomic::{AtomicU64, Ordering};

/// The figures of one call.
#[derive(Debug)]
pub(crate) struct CallStats {
    /// The call's name, as configured.
    pub(crate) name: Box<str>,
    /// Requests that a back-end answered with any status below 500.
    pub(crate) answered: AtomicU64,
    /// Requests that failed, or that it answered with 500 or more.
    pub(crate) failed: AtomicU64,
    /// Calls that were refused because too many waited, or waited in vain.
    pub(crate) refused: AtomicU64,
    /// Calls that were refused by the open breaker.
    pub(crate) shut_out: AtomicU64,
    /// Calls that were given a fresh answer kept from before.
    pub(crate) cached: AtomicU64,
    /// Calls that were given a stale one.
    pub(crate) stale: AtomicU64,
    /// Calls that shared the answer of another one.
    pub(crate) shared: AtomicU64,
    /// Requests under way.
    pub(crate) under_way: AtomicU64,
    /// Calls that wait for their turn, or for the one whose answer they share.
    pub(crate) waiting: AtomicU64,
    /// Its breaker is open, or half open.
    pub(crate) open: AtomicU64,
}

impl CallStats {
    /// Those of a call that was never made.
    pub(crate) fn of(name: &str) -> Self {
        Self {
            name: name.into(),
            answered: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            shut_out: AtomicU64::new(0),
            cached: AtomicU64::new(0),
            stale: AtomicU64::new(0),
            shared: AtomicU64::new(0),
            under_way: AtomicU64::new(0),
            waiting: AtomicU64::new(0),
            open: AtomicU64::new(0),
        }
    }

    /// Counts one more.
    pub(super) fn add(figure: &AtomicU64) {
        figure.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts one more until what is returned is dropped.
    pub(super) fn during(figure: &AtomicU64) -> During<'_> {
        Self::add(figure);
        During(figure)
    }
}

/// One that counts while it lives.
pub(super) struct During<'a>(&'a AtomicU64);

impl Drop for During<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
