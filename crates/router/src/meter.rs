//! What one user may do at a time, counted across all lanes of the node: open connections, messages in any 60 s.
//!
//! Counters are atomics, so that lanes share them without a lock; the table of users is locked only when a connection
//! comes or goes. Bounds: an entry lives as long as the user has a connection, and at most [`WINDOW_MS`] longer.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use foldhash::quality::FixedState;

/// Length of the sliding window. Units: milliseconds.
pub const WINDOW_MS: u64 = 60_000;
const BUCKET_MS: u64 = 5_000;
const BUCKETS: u64 = WINDOW_MS / BUCKET_MS + 1;
const BUCKETS_LEN: usize = 13;
const _: () = assert!(BUCKETS_LEN as u64 == BUCKETS);

/// Counts what happened in the last 60 s, in 13 buckets of 5 s.
///
/// Never admits more than its limit in any 60 s; what is counted may weigh up to 5 s longer. Two lanes that count at
/// the same instant may overshoot by one each.
#[derive(Debug, Default)]
pub struct Window {
    /// Made at the first count, for many users never send anything.
    buckets: OnceLock<Box<Buckets>>,
}

/// Each: number of the bucket since time began (high half), count (low half).
type Buckets = [AtomicU64; BUCKETS_LEN];

impl Window {
    /// Counts `count` more at `mono_ms`, unless that would be more than `max` in the window.
    ///
    /// # Errors
    /// How many milliseconds until the oldest counted ones weigh no more.
    pub fn take(&self, mono_ms: u64, count: u32, max: u32) -> Result<(), u64> {
        let current = (mono_ms / BUCKET_MS) & u64::from(u32::MAX);
        let (mut sum, mut oldest) = (u64::from(count), current);
        let buckets = self.buckets.get_or_init(Box::default);
        for bucket in &**buckets {
            let value = bucket.load(Ordering::Relaxed);
            let number = value >> 32;
            if value & u64::from(u32::MAX) > 0 && is_live(number, current) {
                sum += value & u64::from(u32::MAX);
                oldest = oldest.min(number);
            }
        }
        if sum > u64::from(max) {
            return Err(((oldest + BUCKETS) * BUCKET_MS).saturating_sub(mono_ms).max(1));
        }
        let place = usize::try_from(current % BUCKETS).unwrap_or_default();
        if let Some(bucket) = buckets.get(place) {
            let added = bucket.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |value| {
                let base = if value >> 32 == current { value } else { current << 32 };
                Some(base + u64::from(count))
            });
            debug_assert!(added.is_ok(), "the update never declines");
        }
        Ok(())
    }

    /// Whether nothing that still weighs was counted.
    #[must_use]
    pub fn is_idle(&self, mono_ms: u64) -> bool {
        let current = mono_ms / BUCKET_MS;
        let mut buckets = self.buckets.get().into_iter().flat_map(|buckets| buckets.iter());
        buckets.all(|bucket| {
            let value = bucket.load(Ordering::Relaxed);
            value & u64::from(u32::MAX) == 0 || !is_live(value >> 32, current)
        })
    }
}

const fn is_live(number: u64, current: u64) -> bool {
    number <= current && current - number < BUCKETS
}

/// One user's counters, shared by its sessions on all lanes.
#[derive(Debug, Default)]
pub struct UserMeter {
    connections: AtomicU32,
    /// Messages.
    pub messages: Window,
    /// Acks, marks, keep-alives and refreshes.
    pub controls: Window,
}

/// One counted connection of one user; dropping it gives the place back.
#[derive(Debug)]
pub struct Place {
    meter: Arc<UserMeter>,
}

impl Place {
    /// The user's counters.
    #[must_use]
    pub fn meter(&self) -> &UserMeter {
        &self.meter
    }

    /// The connection counts no more, for another one takes its place; its user's counters still do.
    #[must_use]
    pub fn give_back(self) -> Arc<UserMeter> {
        Arc::clone(&self.meter)
    }

    /// Whether the user has no more connections than it may.
    #[must_use]
    pub fn fits(&self, max: u32) -> bool {
        self.meter.connections.load(Ordering::Relaxed) <= max
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.meter.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The node's users: everyone with a connection, or with messages that still weigh.
#[derive(Debug)]
pub struct Users {
    table: Mutex<HashMap<Box<str>, Arc<UserMeter>, FixedState>>,
}

impl Users {
    /// An empty table; `seed` keeps peers from choosing ids that collide.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { table: Mutex::new(HashMap::with_hasher(FixedState::with_seed(seed))) }
    }

    /// Counts one more connection of `user`, or says that it has `max` already. One that `resumes` a session is to take
    /// the place of another one, so there may be as many of them at a time, until it is known whether they do.
    pub fn connect(&self, user: &str, max: u32, resumes: bool) -> Option<Place> {
        let max = if resumes { max.saturating_mul(2) } else { max };
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        if !table.contains_key(user) {
            table.insert(user.into(), Arc::default());
        }
        let meter = Arc::clone(table.get(user)?);
        if meter.connections.load(Ordering::Relaxed) >= max {
            return None;
        }
        meter.connections.fetch_add(1, Ordering::Relaxed);
        Some(Place { meter })
    }

    /// Forgets users without connections whose messages weigh no more.
    pub fn sweep(&self, mono_ms: u64) {
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        table.retain(|_, meter| {
            meter.connections.load(Ordering::Relaxed) > 0
                || Arc::strong_count(meter) > 1
                || !meter.messages.is_idle(mono_ms)
                || !meter.controls.is_idle(mono_ms)
        });
        if table.capacity() > 4 * table.len() + 64 {
            table.shrink_to_fit();
        }
    }

    /// Users remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.table.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Whether nobody is remembered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hundredth_message_passes_and_the_next_waits_for_the_window() {
        let window = Window::default();
        for _ in 0..100 {
            assert_eq!(window.take(1_000, 1, 100), Ok(()));
        }
        let wait = window.take(30_000, 1, 100).unwrap_err();
        assert_eq!(window.take(30_000 + wait - 1, 1, 100), Err(1));
        assert_eq!(window.take(30_000 + wait, 1, 100), Ok(()));
        assert!((60_000..=65_000).contains(&(30_000 + wait - 1_000 + 1_000)));
    }

    #[test]
    fn no_sixty_seconds_ever_hold_more_than_the_limit() {
        let window = Window::default();
        let mut taken = Vec::new();
        for step in 0..4_000_u64 {
            let at = step * 97;
            if window.take(at, 1, 20).is_ok() {
                taken.push(at);
            }
        }
        for (index, start) in taken.iter().enumerate() {
            let inside = taken[index..].iter().take_while(|at| *at - start < WINDOW_MS).count();
            assert!(inside <= 20, "{inside} from {start}");
        }
        assert!(taken.len() >= 20 * 4_000 * 97 / 65_000);
    }

    #[test]
    fn the_tenth_connection_passes_and_the_eleventh_is_refused() {
        let users = Users::new(1);
        let mut places: Vec<_> =
            (0..10).map(|_| users.connect("ann", 10, false).unwrap()).collect();
        assert!(users.connect("ann", 10, false).is_none());
        assert!(users.connect("bob", 10, false).is_some());
        places.pop();
        assert!(users.connect("ann", 10, false).is_some());
    }

    #[test]
    fn users_without_connections_are_forgotten_once_their_messages_weigh_no_more() {
        let users = Users::new(1);
        let place = users.connect("ann", 10, false).unwrap();
        place.meter().messages.take(0, 1, 100).unwrap();
        users.sweep(100_000);
        assert_eq!(users.len(), 1);
        drop(place);
        users.sweep(30_000);
        assert_eq!(users.len(), 1);
        users.sweep(100_000);
        assert!(users.is_empty());
    }
}
