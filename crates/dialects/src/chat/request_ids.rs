//! Which request ids a connection has used, and for what: an id that comes again for something else is refused. Keeps
//! hashes alone, so a connection's memory does not grow with what its client calls its requests.

use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash, Hasher};

/// Request ids that a connection remembers, the newest. Units: ids; 16 bytes each, taken as they come.
pub const REQUEST_IDS_MAX: usize = 1_024;

/// The hashes of a request: of its id, and of what it asks. The keys are fixed: whoever looks for two requests of one hash
/// finds them for its own connection alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Used {
    id: u64,
    body: u64,
}

impl Used {
    /// The id's text, and all that is asked under it but its time.
    pub(super) fn new(id: &str, body: &impl Hash) -> Self {
        Self { id: hash(&id), body: hash(body) }
    }
}

fn hash(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

/// What one connection's requests were called.
#[derive(Debug, Default)]
pub(super) struct RequestIds {
    /// From old to new, each id once.
    used: VecDeque<Used>,
}

impl RequestIds {
    /// Whether the id was used for something else.
    pub(super) fn conflicts(&self, request: Used) -> bool {
        self.find(request).is_some_and(|used| used.body != request.body)
    }

    /// Remembers a request that could be read. One that comes again stays as old as it is.
    pub(super) fn remember(&mut self, request: Used) {
        if self.find(request).is_some() {
            return;
        }
        if self.used.len() >= REQUEST_IDS_MAX {
            self.used.pop_front();
        }
        self.used.push_back(request);
    }

    fn find(&self, request: Used) -> Option<&Used> {
        self.used.iter().find(|used| used.id == request.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(count: usize) -> RequestIds {
        let mut ids = RequestIds::default();
        for id in 0..count {
            ids.remember(Used::new(&id.to_string(), &"new"));
        }
        ids
    }

    #[test]
    fn an_id_may_come_again_for_the_same_and_for_nothing_else() {
        let ids = after(2);
        assert!(!ids.conflicts(Used::new("0", &"new")));
        assert!(ids.conflicts(Used::new("0", &"edit")));
        assert!(!ids.conflicts(Used::new("2", &"edit")));
    }

    #[test]
    fn the_newest_1024_ids_are_remembered() {
        let other = Used::new("0", &"edit");
        assert!(after(REQUEST_IDS_MAX).conflicts(other));
        let full = after(REQUEST_IDS_MAX + 1);
        assert!(!full.conflicts(other), "the oldest is forgotten");
        assert!(full.conflicts(Used::new("1", &"edit")), "and no other");
        assert_eq!(full.used.len(), REQUEST_IDS_MAX);
    }

    #[test]
    fn what_comes_again_takes_no_other_place() {
        let mut ids = after(REQUEST_IDS_MAX);
        for _ in 0..REQUEST_IDS_MAX {
            ids.remember(Used::new("1023", &"new"));
        }
        assert!(ids.conflicts(Used::new("0", &"edit")));
    }
}
