//! Where a publication stands in its room: positions, what a room keeps, and how its kept publications are asked for
//! and answered (G2, G11, G12).

use std::fmt;
use std::sync::Arc;

use crate::ids::digits;
use crate::inbox::CursorOf;
use crate::publication::Publication;

/// One incarnation of a room's stream: the time when it began, by its server's clock, and 10 random bytes. What tells two
/// apart is whether they are equal; clocks differ.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(Rust, packed(8))]
pub struct Epoch(pub u128);

impl Epoch {
    /// No room's: what stands for the epoch of somebody who names none that could be.
    pub const NONE: Self = Self(0);

    /// What is random of this one, in one that begins at this time. Units: milliseconds since the Unix epoch, of which 48 bits
    /// count.
    #[must_use]
    pub const fn begun_at(self, unix_ms: u64) -> Self {
        const RANDOM: u128 = (1 << 80) - 1;
        let Self(bits) = self;
        Self((unix_ms as u128) << 80 | bits & RANDOM)
    }

    /// When it began. Units: milliseconds since the Unix epoch.
    #[must_use]
    #[allow(clippy::cast_possible_truncation, reason = "48 bits are left")]
    pub const fn began_unix_ms(self) -> u64 {
        let Self(bits) = self;
        (bits >> 80) as u64
    }

    /// Reads what `Display` writes: 32 lower-case hexadecimal digits.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        digits(text).map(Self)
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(bits) = *self;
        write!(f, "{bits:032x}")
    }
}

impl fmt::Debug for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The highest offset there can be: what JavaScript and Lua still count exactly.
pub const OFFSET_MAX: u64 = (1 << 53) - 1;

/// A place in a room's stream. Offsets begin at 1 and rise by one; they compare within one epoch only. As what a
/// member has covered, 0 is the place before the first publication.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Position {
    /// In which incarnation.
    pub epoch: Epoch,
    /// Which publication. Bounds: at most [`OFFSET_MAX`].
    pub offset: u64,
}

impl Position {
    /// The same incarnation at another offset.
    #[must_use]
    pub const fn at(self, offset: u64) -> Self {
        Self { offset, ..self }
    }

    /// The place behind this one.
    #[must_use]
    pub const fn next(self) -> Self {
        self.at(self.offset + 1)
    }
}

/// What a room keeps of its publications. A room without one is ephemeral: its publications have no positions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keep {
    /// The newest so many publications are kept.
    pub size: u32,
    /// Of those, as many of the newest as have envelopes of so many bytes in sum. Units: bytes.
    pub bytes_max: u64,
    /// Of those, the ones that are not older. Units: milliseconds.
    pub ttl_ms: u64,
    /// A publication counts as accepted once replicas have it too (G4).
    pub replicated: bool,
    /// Whose cursors count in it, if it is an inbox: what goes first when it is full is of low priority, and cursors are
    /// told of what they lose (G16).
    pub inbox: Option<CursorOf>,
}

/// The newest position of a room, and what is kept up to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// The position of the newest publication; offset 0: there has been none.
    pub position: Position,
    /// The offset of the oldest publication that is kept; one above the head: none is.
    pub first: u64,
}

impl Head {
    /// Whether a member that has covered `since` can be given all that it lacks: the epoch is the same and nothing
    /// above `since` is gone (G12).
    ///
    /// # Errors
    /// Why it cannot.
    pub fn recovers(&self, since: Position) -> Result<(), Unrecovered> {
        if since.epoch != self.position.epoch {
            Err(Unrecovered::Epoch)
        } else if since.offset > self.position.offset {
            Err(Unrecovered::Ahead)
        } else if since.offset == self.position.offset || self.first <= since.offset + 1 {
            Ok(())
        } else {
            Err(Unrecovered::TooOld)
        }
    }
}

/// Why a member could not be given what it missed; it hears everything from the position of its answer on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Unrecovered {
    /// The room keeps nothing.
    NoHistory,
    /// The room's stream has begun anew: what was lost cannot be told.
    Epoch,
    /// Some of it is not kept any more.
    TooOld,
    /// The position is above the newest one.
    Ahead,
    /// What is kept could not be read.
    Unavailable,
}

impl Unrecovered {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::NoHistory, Self::Epoch, Self::TooOld, Self::Ahead, Self::Unavailable];

    /// Its name on the wire.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::NoHistory => "no_history",
            Self::Epoch => "epoch",
            Self::TooOld => "too_old",
            Self::Ahead => "ahead",
            Self::Unavailable => "unavailable",
        }
    }
}

/// In which direction kept publications are read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Direction {
    /// From old to new.
    Forward,
    /// From new to old.
    #[default]
    Backward,
}

/// Which kept publications are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Forward: those above `from`; backward: those below it.
    pub direction: Direction,
    /// An offset that is itself not asked for. Forward from 0 and backward from `u64::MAX` is everything.
    pub from: u64,
    /// At most so many. Bounds: 1 to [`Span::COUNT_MAX`].
    pub count_max: u32,
    /// At most so many bytes of envelopes, but always one publication. Units: bytes.
    pub bytes_max: u64,
}

impl Span {
    /// Publications of one page.
    pub const COUNT_MAX: u32 = 256;

    /// Bytes of envelopes of one page. Units: bytes.
    pub const BYTES_MAX: u64 = 256 << 10;

    /// The largest page above an offset.
    #[must_use]
    pub const fn above(from: u64) -> Self {
        let (count_max, bytes_max) = (Self::COUNT_MAX, Self::BYTES_MAX);
        Self { direction: Direction::Forward, from, count_max, bytes_max }
    }
}

/// One kept publication.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kept {
    /// It, with its position.
    Publication(Arc<Publication>),
    /// It stands there, but this node cannot read it.
    Unreadable(Position),
    /// It stood there and was removed, with others around it kept.
    Removed(Position),
}

impl Kept {
    /// Where it stands; `None`: whoever made it left the position out.
    #[must_use]
    pub fn position(&self) -> Option<Position> {
        match self {
            Self::Publication(publication) => publication.position,
            Self::Unreadable(position) | Self::Removed(position) => Some(*position),
        }
    }
}

/// Kept publications, as asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// The room's head when they were read.
    pub head: Head,
    /// By rising offset, whatever the direction: within the span, without holes. Their epochs may differ: older
    /// entries keep theirs when a stream begins anew.
    pub entries: Vec<Kept>,
    /// Nothing that is kept lies beyond them in the direction of reading.
    pub whole: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_is_read_as_it_is_written() {
        let epoch = Epoch(0x0123_4567_89ab_cdef_0011_2233_4455_6677);
        assert_eq!(epoch.to_string(), "0123456789abcdef0011223344556677");
        assert_eq!(Epoch::parse(&epoch.to_string()), Some(epoch));
        for text in
            ["", "0", "0123456789ABCDEF0011223344556677", "+123456789abcdef0011223344556677"]
        {
            assert_eq!(Epoch::parse(text), None, "{text}");
        }
    }

    #[test]
    fn an_epoch_knows_when_it_began() {
        let fresh = Epoch(u128::MAX);
        assert_eq!(
            fresh.begun_at(0x0123_4567_89ab).to_string(),
            "0123456789abffffffffffffffffffff"
        );
        for ms in [0, 1, 1_700_000_000_000, (1 << 48) - 1] {
            assert_eq!(fresh.begun_at(ms).began_unix_ms(), ms);
            assert_eq!(fresh.begun_at(7).begun_at(ms), fresh.begun_at(ms));
        }
        assert_eq!(fresh.begun_at(1 << 48).began_unix_ms(), 0);
    }

    #[test]
    fn recovered_means_that_nothing_is_missing() {
        let epoch = Epoch(1);
        let head = Head { position: Position { epoch, offset: 9 }, first: 5 };
        let since = |offset| head.recovers(Position { epoch, offset });
        assert_eq!(since(9), Ok(()));
        assert_eq!(since(4), Ok(()));
        assert_eq!(since(3), Err(Unrecovered::TooOld));
        assert_eq!(since(10), Err(Unrecovered::Ahead));
        let other = Position { epoch: Epoch(2), offset: 9 };
        assert_eq!(head.recovers(other), Err(Unrecovered::Epoch));
        let empty = Head { position: Position { epoch, offset: 9 }, first: 10 };
        assert_eq!(empty.recovers(Position { epoch, offset: 9 }), Ok(()));
        assert_eq!(empty.recovers(Position { epoch, offset: 8 }), Err(Unrecovered::TooOld));
    }
}
