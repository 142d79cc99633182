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

/// Counts what happened in the last 60 s, in buckets of 5 s.
///
/// Never admits more than its limit in any 60 s; what is counted may weigh up to 5 s longer. Two lanes that count at
/// the same instant may overshoot by one each.
#[derive(Debug, Default)]
pub struct Window {
    /// Enough for whoever sends now and then: another bucket is counted here once this one weighs no more.
    one: AtomicU64,
    /// Made for buckets beside a first one that weighs.
    buckets: OnceLock<Box<Buckets>>,
}

/// Each: number of the bucket since time began (high half), count (low half).
type Buckets = [AtomicU64; BUCKETS_LEN];

/// The same, of one.
const fn parts(value: u64) -> (u64, u64) {
    (value >> 32, value & u32::MAX as u64)
}

impl Window {
    /// Counts `count` more at `mono_ms`, unless that would be more than `max` in the window.
    ///
    /// # Errors
    /// How many milliseconds until the oldest counted ones weigh no more.
    pub fn take(&self, mono_ms: u64, count: u32, max: u32) -> Result<(), u64> {
        let current = (mono_ms / BUCKET_MS) & u64::from(u32::MAX);
        let (mut sum, mut oldest) = (u64::from(count), current);
        for value in self.values() {
            let (number, counted) = parts(value);
            if counted > 0 && is_live(number, current) {
                sum += counted;
                oldest = oldest.min(number);
            }
        }
        if sum > u64::from(max) {
            return Err(((oldest + BUCKETS) * BUCKET_MS).saturating_sub(mono_ms).max(1));
        }
        let began = current << 32 | u64::from(count);
        let counted_in_one = self.one.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |value| {
            let (number, counted) = parts(value);
            let is_over = counted == 0 || number + BUCKETS <= current;
            let adds = (number == current).then(|| value + u64::from(count));
            adds.or_else(|| is_over.then_some(began))
        });
        if counted_in_one.is_ok() {
            return Ok(());
        }
        let place = usize::try_from(current % BUCKETS).unwrap_or_default();
        if let Some(bucket) = self.buckets.get_or_init(Box::default).get(place) {
            let added = bucket.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |value| {
                Some(if parts(value).0 == current { value + u64::from(count) } else { began })
            });
            debug_assert!(added.is_ok(), "the update never declines");
        }
        Ok(())
    }

    /// Whether nothing that still weighs was counted.
    #[must_use]
    pub fn is_idle(&self, mono_ms: u64) -> bool {
        let current = mono_ms / BUCKET_MS;
        self.values().all(|value| {
            let (number, counted) = parts(value);
            counted == 0 || !is_live(number, current)
        })
    }

    fn values(&self) -> impl Iterator<Item = u64> {
        let buckets = self.buckets.get().into_iter().flat_map(|buckets| buckets.iter());
        [&self.one].into_iter().chain(buckets).map(|bucket| bucket.load(Ordering::Relaxed))
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
    fn whoever_sends_now_and_then_has_one_bucket() {
        let window = Window::default();
        for at_ms in [1_000, 2_000, 70_000, 74_999, 140_000] {
            assert_eq!(window.take(at_ms, 1, 2), Ok(()));
        }
        assert!(window.buckets.get().is_none());
        assert_eq!(window.take(146_000, 1, 2), Ok(()), "the next bucket, while that one weighs");
        assert!(window.buckets.get().is_some());
        assert!(window.take(146_000, 1, 2).is_err());
        assert!(!window.is_idle(200_000) && window.is_idle(211_000));
    }

    #[test]
    fn a_lane_whose_time_is_behind_takes_nothing_back() {
        let window = Window::default();
        assert_eq!(window.take(5_000, 7, 10), Ok(()));
        assert_eq!(window.take(4_999, 1, 10), Ok(()));
        assert_eq!(window.take(5_001, 2, 10), Ok(()));
        assert!(window.take(5_001, 1, 10).is_err());
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
