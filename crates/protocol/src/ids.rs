//! Identifiers. Each is a type of its own, so that a lane's key is never taken for a session's name.

use std::fmt;

/// One gateway process, fresh at every start, so that a restart is a new node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(pub u64);

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// One worker thread of a node. Bounds: below [`LaneId::MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LaneId(pub u8);

impl LaneId {
    /// Lanes a node may have: one bit each in a room's set of lanes.
    pub const MAX: u8 = 64;
}

/// A session's place in its lane, with a generation, so that a late message never reaches the place's next tenant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionKey {
    /// Index in the lane's table.
    pub index: u32,
    /// Which tenant of that index.
    pub generation: u32,
}

/// A session's public name: 128 bits from the node's random source, written as 32 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(Rust, packed(8))]
pub struct SessionId(pub u128);

impl SessionId {
    /// Reads what `Display` writes: 32 lower-case hexadecimal digits.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        digits(text).map(Self)
    }
}

/// What 32 lower-case hexadecimal digits say.
pub(crate) fn digits(text: &str) -> Option<u128> {
    let lower = text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    if text.len() != 32 || !lower {
        return None;
    }
    u128::from_str_radix(text, 16).ok()
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(bits) = *self;
        write!(f, "{bits:032x}")
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
