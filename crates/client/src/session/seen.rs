//! Ids of a room's last publications, so that repeats are known. Keeps 64-bit hashes with a key of the process' own: two
//! ids of 1,000 meet once in 10^16 publications, and nobody can choose them to.

use std::collections::VecDeque;
use std::hash::{BuildHasher as _, RandomState};

/// The last ids of one room.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// Hashes, whose lowest bit says that the node was told that the publication was got.
    hashes: VecDeque<u64>,
}

/// What is known of an id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Known {
    /// Nothing.
    New,
    /// It was given to the application.
    Given,
    /// And the node was told so.
    Acked,
}

impl Seen {
    /// What is known of this publication.
    pub(crate) fn known(&self, keys: &RandomState, sender: &str, id: &str) -> Known {
        let hash = keys.hash_one((sender, id)) & !1;
        match self.hashes.iter().rev().find(|kept| **kept & !1 == hash) {
            None => Known::New,
            Some(kept) if kept & 1 == 0 => Known::Given,
            Some(_) => Known::Acked,
        }
    }

    /// Remembers one more; the oldest beyond `max` is forgotten.
    pub(crate) fn insert(&mut self, keys: &RandomState, max: usize, sender: &str, id: &str) {
        while self.hashes.len() >= max.max(1) {
            self.hashes.pop_front();
        }
        self.hashes.push_back(keys.hash_one((sender, id)) & !1);
    }

    /// The node was told that it was got.
    pub(crate) fn acked(&mut self, keys: &RandomState, sender: &str, id: &str) {
        let hash = keys.hash_one((sender, id)) & !1;
        if let Some(kept) = self.hashes.iter_mut().rev().find(|kept| **kept & !1 == hash) {
            *kept |= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_known_until_as_many_others_came() {
        let (keys, mut seen) = (RandomState::new(), Seen::default());
        seen.insert(&keys, 3, "u", "first");
        for id in ["b", "c"] {
            seen.insert(&keys, 3, "u", id);
        }
        assert_eq!(seen.known(&keys, "u", "first"), Known::Given, "three of three");
        seen.insert(&keys, 3, "u", "d");
        assert_eq!(seen.known(&keys, "u", "first"), Known::New, "one more than three");
        assert_eq!(seen.hashes.len(), 3);
    }

    #[test]
    fn ids_of_different_senders_are_different() {
        let (keys, mut seen) = (RandomState::new(), Seen::default());
        seen.insert(&keys, 9, "u", "1");
        assert_eq!(seen.known(&keys, "v", "1"), Known::New);
        seen.acked(&keys, "v", "1");
        assert_eq!(seen.known(&keys, "u", "1"), Known::Given);
        seen.acked(&keys, "u", "1");
        assert_eq!(seen.known(&keys, "u", "1"), Known::Acked);
    }
}
