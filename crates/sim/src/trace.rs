//! What a run did: a hash of all its events, and, if somebody wants to read it, its lines.

use std::fmt;

/// The trace of a run.
#[derive(Debug)]
pub(crate) struct Trace {
    hash: u64,
    /// `None`: nobody reads it.
    lines: Option<Vec<String>>,
}

impl Trace {
    pub(crate) const fn new(readable: bool) -> Self {
        Self { hash: 0xcbf2_9ce4_8422_2325, lines: if readable { Some(Vec::new()) } else { None } }
    }

    const fn mix(&mut self, word: u64) {
        self.hash = (self.hash ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
    }

    /// An event happens.
    pub(crate) const fn note(&mut self, at_ms: u64, caused: u64) {
        self.mix(at_ms);
        self.mix(caused);
    }

    /// Something that was seen.
    pub(crate) fn see(&mut self, word: u64) {
        self.mix(word);
    }

    /// A line for people; made only if somebody reads it.
    pub(crate) fn line(&mut self, now_ms: u64, make: impl FnOnce() -> String) {
        if let Some(lines) = &mut self.lines {
            lines.push(format!("{:>7} {}", Ms(now_ms), make()));
        }
    }

    pub(crate) const fn hash(&self) -> u64 {
        self.hash
    }

    pub(crate) fn into_lines(self) -> Vec<String> {
        self.lines.unwrap_or_default()
    }
}

/// Milliseconds as seconds.
struct Ms(u64);

impl fmt::Display for Ms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}.{:03}", self.0 / 1_000, self.0 % 1_000))
    }
}
