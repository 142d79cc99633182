//! Who published what under which id, in two generations that take turns and are forgotten whole (G5).

use std::collections::HashMap;
use std::hash::BuildHasher;

use foldhash::fast::FixedState;
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
    let [hasher, _] = hashers;
    Id { key: publication.id_hash(hashers), content: publication.content_hash(hasher) }
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
    /// When it is forgotten.
    expires_ms: u64,
    named: HashMap<u128, V, FixedState>,
}

impl<V> Default for Generation<V> {
    fn default() -> Self {
        // The keys are hashes already, with keys of their own.
        Self { expires_ms: 0, named: HashMap::with_hasher(FixedState::with_seed(0)) }
    }
}

/// How the generations take turns. In Redis this is a part of what is known of a room's stream, and lost with it.
#[derive(Clone, Copy, Debug, Default)]
struct Turns {
    /// When the young ones began to be. Units: milliseconds.
    began_ms: Option<u64>,
    /// The newest offset before them.
    base: u64,
    /// The highest offset that an old one names.
    high: u64,
    /// The old ones went early.
    short: bool,
}

/// Both generations.
#[derive(Clone, Debug)]
pub(crate) struct Ids<V> {
    young: Generation<V>,
    old: Generation<V>,
    turns: Turns,
}

impl<V> Default for Ids<V> {
    fn default() -> Self {
        let (young, old) = (Generation::default(), Generation::default());
        Self { young, old, turns: Turns::default() }
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
        let turned = self.turns.began_ms.and_then(|began_ms| {
            let is_old = now_ms.saturating_sub(began_ms) >= bounds.ttl_ms;
            // What the old ones name is not kept any more: nobody can be told of it twice.
            if is_old && !self.names_kept(hold) {
                return Some(false);
            }
            let young = &self.young.named;
            let is_full = young.len() >= bounds.max && self.count(hold) >= bounds.max;
            (is_full && !young.contains_key(&key)).then_some(true)
        });
        if turned.is_some() && !self.young.named.is_empty() {
            self.old = std::mem::take(&mut self.young);
        }
        if turned.is_some() || self.turns.began_ms.is_none() {
            let (base, high) = match hold {
                Hold::Ephemeral => (0, 0),
                Hold::Kept { offset, .. } => (offset - 1, offset - 1),
            };
            let high = if turned.is_some() { high } else { self.turns.high };
            let short = turned == Some(true);
            self.turns = Turns { began_ms: Some(now_ms), base, high, short };
            self.young.expires_ms = now_ms.saturating_add(2 * bounds.ttl_ms);
        }
        if let Hold::Kept { until_ms, .. } = hold {
            let twice_ms = now_ms.saturating_add(2 * bounds.ttl_ms);
            self.young.expires_ms = self.young.expires_ms.max(twice_ms).max(until_ms);
        }
        self.young.named.insert(key, value);
        self.turns.short
    }

    /// Forgets those that are not to be kept.
    pub(crate) fn retain(&mut self, keep: impl Fn(&V) -> bool) {
        self.young.named.retain(|_, value| keep(value));
        self.old.named.retain(|_, value| keep(value));
    }

    /// Forgets how the generations took turns.
    pub(crate) fn forget_turns(&mut self) {
        self.turns = Turns::default();
    }

    /// Whether the newest of the old ones names what is kept.
    fn names_kept(&self, hold: Hold) -> bool {
        match hold {
            Hold::Ephemeral => false,
            Hold::Kept { offset, first, .. } => (first..=offset).contains(&self.turns.high),
        }
    }

    /// How many were published since the young ones began to be.
    fn count(&self, hold: Hold) -> usize {
        match hold {
            Hold::Ephemeral => usize::MAX,
            Hold::Kept { offset, .. } => {
                usize::try_from((offset - 1).saturating_sub(self.turns.base)).unwrap_or(usize::MAX)
            }
        }
    }
}
