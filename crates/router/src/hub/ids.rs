//! Ids of publications that this node delivered while isolated: a repeat gets the first answer, and what the feed
//! brings later under such an id is not delivered again (G5, G10).

use std::collections::HashMap;

use foldhash::quality::FixedState;
use roomcast_protocol::publication::Publication;

/// How long an id is remembered at least; at most twice as long. Units: milliseconds.
pub const IDS_MS: u64 = 120_000;

/// Ids remembered in each of the two generations, 40 bytes each whatever their length; beyond it the older ones go
/// early, and acks say so.
pub const IDS_MAX: usize = 100_000;

/// What was published under an id.
#[derive(Clone, Copy, Debug)]
struct Kept {
    content: u64,
    /// It was published with the wish that its id be remembered, so the id is no other publication's.
    dedup: bool,
}

/// The ids, in two generations that take turns. Keys and contents are kept as keyed hashes (128 and 64 bits).
#[derive(Debug)]
pub(super) struct Ids {
    hashers: [FixedState; 2],
    max: usize,
    young: HashMap<u128, Kept, FixedState>,
    old: HashMap<u128, Kept, FixedState>,
    /// When the young become the old. Units: monotonic milliseconds.
    turn_at_ms: u64,
    short: bool,
}

impl Ids {
    pub(super) fn new(seed: u64, max: usize) -> Self {
        let state = FixedState::with_seed(seed);
        Self {
            // Two seeds that differ in every second bit.
            hashers: [state.clone(), FixedState::with_seed(!seed.rotate_left(32) ^ (u64::MAX / 3))],
            max,
            young: HashMap::with_hasher(state.clone()),
            old: HashMap::with_hasher(state),
            turn_at_ms: 0,
            short: false,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }

    /// Whether ids went early.
    pub(super) const fn are_short(&self) -> bool {
        self.short
    }

    /// Remembers the id. `Some(true)`: it was there with the same content; `Some(false)`: with other. One that came
    /// without the wish for it is remembered all the same, but never found.
    pub(super) fn remember(
        &mut self,
        now_ms: u64,
        publication: &Publication,
        dedup: bool,
    ) -> Option<bool> {
        self.tick(now_ms);
        let key = publication.id_hash(&self.hashers);
        let content = publication.content_hash(&self.hashers[0]);
        let first = self.young.get(&key).or_else(|| self.old.get(&key)).copied();
        if let Some(first) = first.filter(|first| dedup && first.dedup) {
            return Some(first.content == content);
        }
        if self.len() == 0 {
            self.turn_at_ms = now_ms.saturating_add(IDS_MS);
        }
        if self.young.len() >= self.max && !self.young.contains_key(&key) {
            self.short = true;
            self.turn(now_ms);
        }
        // What came first under an id with that wish stays what it names.
        let first = first.filter(|first| first.dedup);
        self.young.insert(key, first.unwrap_or(Kept { content, dedup }));
        None
    }

    /// Whether that was delivered already.
    pub(super) fn hold(&self, publication: &Publication) -> bool {
        if self.len() == 0 {
            return false;
        }
        let key = publication.id_hash(&self.hashers);
        let kept = self.young.get(&key).or_else(|| self.old.get(&key));
        kept.is_some_and(|kept| {
            kept.dedup || kept.content == publication.content_hash(&self.hashers[0])
        })
    }

    /// Forgets what is old.
    pub(super) fn tick(&mut self, now_ms: u64) {
        for _ in 0..2 {
            if self.len() > 0 && self.turn_at_ms <= now_ms {
                self.short = false;
                self.turn(self.turn_at_ms);
            }
        }
    }

    /// When [`Ids::tick`] has something to do. Units: monotonic milliseconds.
    pub(super) fn next_wake(&self) -> Option<u64> {
        (self.len() > 0).then_some(self.turn_at_ms)
    }

    fn turn(&mut self, now_ms: u64) {
        let empty = HashMap::with_hasher(self.hashers[0].clone());
        self.old = std::mem::replace(&mut self.young, empty);
        self.turn_at_ms = now_ms.saturating_add(IDS_MS);
    }
}
