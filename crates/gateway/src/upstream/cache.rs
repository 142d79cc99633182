//! Answers of a call that are good for a while, and longer as stale ones, for as long as the back-end cannot be asked.
//! Bounded in entries and in bytes; what was written first goes first. Pure: time is an argument.

use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

/// What an entry weighs beside its key and its value. Units: bytes.
const ENTRY_BYTES: usize = 160;

/// How much is kept, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CacheLimits {
    /// How long an answer is as good as a new one. Units: milliseconds.
    pub(super) fresh_ms: u64,
    /// How long it may be served as a stale one, from then on. Units: milliseconds.
    pub(super) stale_ms: u64,
    /// Answers.
    pub(super) entries_max: usize,
    /// All of them. Units: bytes.
    pub(super) bytes_max: usize,
}

/// How good a kept answer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Age {
    /// As a new one.
    Fresh,
    /// Only where there is nothing better.
    Stale,
}

struct Entry<V> {
    value: V,
    bytes: usize,
    written_ms: u64,
    /// Its place in the order of writing.
    number: u64,
}

/// The kept answers of one call.
pub(super) struct Cache<V> {
    limits: CacheLimits,
    entries: HashMap<Rc<[u8]>, Entry<V>>,
    order: BTreeMap<u64, Rc<[u8]>>,
    bytes: usize,
    written: u64,
}

impl<V: Clone> Cache<V> {
    pub(super) fn new(limits: CacheLimits) -> Self {
        Self { limits, entries: HashMap::new(), order: BTreeMap::new(), bytes: 0, written: 0 }
    }

    /// What is kept under the key.
    pub(super) fn get(&self, key: &[u8], mono_ms: u64) -> Option<(V, Age)> {
        let entry = self.entries.get(key)?;
        let age_ms = mono_ms.saturating_sub(entry.written_ms);
        if age_ms < self.limits.fresh_ms {
            return Some((entry.value.clone(), Age::Fresh));
        }
        let is_good = age_ms < self.limits.fresh_ms.saturating_add(self.limits.stale_ms);
        is_good.then(|| (entry.value.clone(), Age::Stale))
    }

    /// Keeps a value of so many bytes; one that is larger than all may be is not kept.
    pub(super) fn put(&mut self, key: &[u8], value: V, value_bytes: usize, mono_ms: u64) {
        self.remove(key);
        self.forget_old(mono_ms);
        let bytes = ENTRY_BYTES + key.len() + value_bytes;
        if bytes > self.limits.bytes_max || self.limits.entries_max == 0 {
            return;
        }
        while self.entries.len() >= self.limits.entries_max
            || self.bytes + bytes > self.limits.bytes_max
        {
            let Some((_, first)) = self.order.pop_first() else { break };
            self.forget(&first);
        }
        self.written += 1;
        let key: Rc<[u8]> = key.into();
        self.bytes += bytes;
        self.order.insert(self.written, Rc::clone(&key));
        let entry = Entry { value, bytes, written_ms: mono_ms, number: self.written };
        self.entries.insert(key, entry);
    }

    /// What is over by far goes by itself, so that an idle cache does not keep what nobody may be given.
    fn forget_old(&mut self, mono_ms: u64) {
        let good_ms = self.limits.fresh_ms.saturating_add(self.limits.stale_ms);
        while let Some((_, first)) = self.order.first_key_value() {
            let written_ms = self.entries.get(first).map_or(0, |entry| entry.written_ms);
            if mono_ms.saturating_sub(written_ms) < good_ms {
                return;
            }
            if let Some((_, first)) = self.order.pop_first() {
                self.forget(&first);
            }
        }
    }

    fn remove(&mut self, key: &[u8]) {
        if let Some(entry) = self.entries.get(key) {
            self.order.remove(&entry.number);
            self.forget(key);
        }
    }

    fn forget(&mut self, key: &[u8]) {
        if let Some(entry) = self.entries.remove(key) {
            self.bytes -= entry.bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: CacheLimits =
        CacheLimits { fresh_ms: 100, stale_ms: 1_000, entries_max: 3, bytes_max: 10_000 };

    fn kept(cache: &Cache<char>, keys: &str) -> String {
        keys.chars().filter(|key| cache.get(key.to_string().as_bytes(), 0).is_some()).collect()
    }

    fn fill(cache: &mut Cache<char>, keys: &str, value_bytes: usize) {
        for key in keys.chars() {
            cache.put(key.to_string().as_bytes(), key, value_bytes, 0);
        }
    }

    #[test]
    fn an_answer_is_fresh_then_stale_then_gone() {
        let mut cache = Cache::new(LIMITS);
        cache.put(b"a", 1, 10, 1_000);
        assert_eq!(cache.get(b"a", 1_099), Some((1, Age::Fresh)));
        assert_eq!(cache.get(b"a", 1_100), Some((1, Age::Stale)));
        assert_eq!(cache.get(b"a", 2_099), Some((1, Age::Stale)));
        assert_eq!(cache.get(b"a", 2_100), None);
        assert_eq!(cache.get(b"b", 1_000), None);
    }

    #[test]
    fn entries_up_to_their_number_are_kept_and_with_one_more_the_first_goes() {
        let mut cache = Cache::new(LIMITS);
        fill(&mut cache, "abc", 10);
        assert_eq!(kept(&cache, "abcd"), "abc");
        fill(&mut cache, "d", 10);
        assert_eq!(kept(&cache, "abcd"), "bcd");
        fill(&mut cache, "be", 10);
        assert_eq!(kept(&cache, "abcde"), "bde", "what is written again is the newest");
    }

    #[test]
    fn bytes_up_to_their_bound_are_kept_and_with_one_more_the_first_goes() {
        let limits = CacheLimits { entries_max: 100, bytes_max: 1_000, ..LIMITS };
        let half = 500 - ENTRY_BYTES - 1;
        let mut cache = Cache::new(limits);
        fill(&mut cache, "ab", half);
        assert_eq!((kept(&cache, "ab"), cache.bytes), ("ab".to_owned(), 1_000));
        fill(&mut cache, "b", half + 1);
        assert_eq!((kept(&cache, "ab"), cache.bytes), ("b".to_owned(), 501));
        fill(&mut cache, "c", 1_000 - ENTRY_BYTES - 1);
        assert_eq!(kept(&cache, "abc"), "c");
        fill(&mut cache, "d", 1_000 - ENTRY_BYTES);
        assert_eq!(kept(&cache, "cd"), "c", "what is larger than all is not kept");
    }

    #[test]
    fn what_is_over_goes_when_something_comes() {
        let mut cache = Cache::new(LIMITS);
        cache.put(b"a", 'a', 10, 0);
        cache.put(b"b", 'b', 10, 1_100);
        assert_eq!((cache.entries.len(), cache.order.len()), (1, 1));
        assert_eq!(cache.bytes, ENTRY_BYTES + 11);
    }
}
