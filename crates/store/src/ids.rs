//! Who published what under which id, in two generations that take turns and are forgotten whole (G5).

use std::collections::HashMap;
use std::hash::BuildHasher;

use foldhash::fast::FixedState;
use roomcast_protocol::content::Content;
use roomcast_protocol::publication::Publication;

/// A publication's id and what came under it, as keyed hashes: long names cost no more than short ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Id {
    /// Room, sender and id.
    pub key: u128,
    /// Type and payload.
    pub content: u64,
}

/// The id of a publication by two hashers with keys of their own that peers do not know.
#[must_use]
pub fn id_of<S: BuildHasher>(hashers: &[S; 2], publication: &Publication) -> Id {
    let content = match &publication.content {
        Content::Json(bytes) => (0, bytes),
        Content::Text(bytes) => (1, bytes),
        Content::Binary(bytes) => (2, bytes),
    };
    let name = (publication.room.as_str(), &publication.sender, &publication.id);
    let [high, low] = hashers.each_ref().map(|hasher| u128::from(hasher.hash_one(name)));
    let [hasher, _] = hashers;
    Id { key: high << 64 | low, content: hasher.hash_one((&publication.kind, content)) }
}

/// How long ids are remembered, and how many.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// At least so long. Units: milliseconds.
    pub(crate) ttl_ms: u64,
    /// In each generation.
    pub(crate) max: usize,
}

/// For how long a new id must be remembered.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Hold {
    /// Its room is ephemeral: its generation is forgotten twice the time to live after it began.
    Ephemeral,
    /// It names an entry.
    Kept {
        /// Which.
        offset: u64,
        /// The lowest offset that is kept.
        first: u64,
        /// Until when entries are there. Units: milliseconds.
        until_ms: u64,
    },
}

/// Ids that are forgotten together.
#[derive(Clone, Debug)]
struct Generation<V> {
    began_ms: u64,
    /// When it is forgotten.
    expires_ms: u64,
    /// The highest offset that one of its ids names.
    highest: u64,
    named: HashMap<u128, V, FixedState>,
}

impl<V> Default for Generation<V> {
    fn default() -> Self {
        // The keys are hashes already, with keys of their own.
        let named = HashMap::with_hasher(FixedState::with_seed(0));
        Self { began_ms: 0, expires_ms: 0, highest: 0, named }
    }
}

/// Both generations.
#[derive(Clone, Debug)]
pub(crate) struct Ids<V> {
    young: Generation<V>,
    old: Generation<V>,
    /// The old ones went early.
    short: bool,
}

impl<V> Default for Ids<V> {
    fn default() -> Self {
        Self { young: Generation::default(), old: Generation::default(), short: false }
    }
}

impl<V> Ids<V> {
    pub(crate) fn len(&self) -> usize {
        self.young.named.len() + self.old.named.len()
    }

    /// When [`Ids::expire`] has something to do. Units: milliseconds.
    pub(crate) fn due_ms(&self) -> Option<u64> {
        let filled = [&self.young, &self.old].into_iter().filter(|it| !it.named.is_empty());
        filled.map(|generation| generation.expires_ms).min()
    }

    /// Forgets generations whose time is over.
    pub(crate) fn expire(&mut self, now_ms: u64) {
        for generation in [&mut self.young, &mut self.old] {
            if !generation.named.is_empty() && generation.expires_ms <= now_ms {
                *generation = Generation::default();
            }
        }
        self.short &= self.len() > 0;
    }

    /// What came first under an id.
    pub(crate) fn get(&self, key: u128) -> Option<&V> {
        self.young.named.get(&key).or_else(|| self.old.named.get(&key))
    }

    /// Remembers an id. Answers whether older ones have gone early.
    pub(crate) fn insert(
        &mut self,
        now_ms: u64,
        bounds: Bounds,
        hold: Hold,
        key: u128,
        value: V,
    ) -> bool {
        let named_first = match hold {
            Hold::Ephemeral => u64::MAX,
            Hold::Kept { first, .. } => first,
        };
        let is_old = now_ms.saturating_sub(self.young.began_ms) >= bounds.ttl_ms;
        let is_full = self.young.named.len() >= bounds.max;
        if !self.young.named.is_empty() {
            // What the old ones name is not kept any more: nobody can be told of it twice.
            if is_old && self.old.highest < named_first {
                self.turn();
                self.short = false;
            } else if is_full {
                self.turn();
                self.short = true;
            }
        }
        let young = &mut self.young;
        if young.named.is_empty() {
            young.began_ms = now_ms;
            young.expires_ms = now_ms.saturating_add(2 * bounds.ttl_ms);
        }
        if let Hold::Kept { offset, until_ms, .. } = hold {
            let twice_ms = now_ms.saturating_add(2 * bounds.ttl_ms);
            young.expires_ms = young.expires_ms.max(twice_ms).max(until_ms);
            young.highest = young.highest.max(offset);
        }
        young.named.insert(key, value);
        self.short
    }

    /// Forgets those that are not to be kept.
    pub(crate) fn retain(&mut self, keep: impl Fn(&V) -> bool) {
        self.young.named.retain(|_, value| keep(value));
        self.old.named.retain(|_, value| keep(value));
    }

    fn turn(&mut self) {
        self.old = std::mem::take(&mut self.young);
    }
}
