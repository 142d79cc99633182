//! When publications reached the last member of their room on a lane, for whoever measures how long that took.
//!
//! Costs nothing for each member: stamps travel with the write that holds their publications, and come out with its
//! end. Lists are used again, so that a publication costs no allocation once they have grown.

/// Stamps kept for the shell between two looks; those beyond are forgotten.
pub const SERVED_MAX: usize = 4_096;

/// Lists kept for the writes to come.
const SPARE_MAX: usize = 256;

/// Stamps of publications whose last member was served.
#[derive(Debug, Default)]
pub(super) struct Served {
    pub(super) done: Vec<u64>,
    spare: Vec<Vec<u64>>,
}

impl Served {
    #[cfg(test)]
    pub(super) fn spare_lists(&self) -> usize {
        self.spare.len()
    }

    /// A publication joined a write that goes to all its members; 0: nobody knows when it was published.
    pub(super) fn stamp(&mut self, stamps: &mut Vec<u64>, published_us: u64) {
        if published_us == 0 {
            return;
        }
        if stamps.capacity() == 0 {
            *stamps = self.spare.pop().unwrap_or_default();
        }
        stamps.push(published_us);
    }

    /// The write has reached its last member.
    pub(super) fn finish(&mut self, mut stamps: Vec<u64>) {
        let room = SERVED_MAX.saturating_sub(self.done.len());
        self.done.extend(stamps.iter().take(room));
        if stamps.capacity() > 0 && self.spare.len() < SPARE_MAX {
            stamps.clear();
            self.spare.push(stamps);
        }
    }
}
