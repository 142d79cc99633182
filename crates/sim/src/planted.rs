//! Bugs that are planted to prove that the checkers see them.

/// One planted bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Planted {
    /// A broker answers a publication before it is carried out.
    AckBeforeAppend,
    /// A publication is appended in one step and published in another.
    TwoSteps,
    /// A promoted server goes on in the epoch of the one before it.
    KeepEpoch,
    /// Ids are not remembered.
    NoDedup,
    /// Nothing is dropped for a lane whose queue is full.
    UnboundedQueue,
    /// A confirmation counts for whatever request of its room is the newest.
    ConfirmedByName,
}

impl Planted {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::AckBeforeAppend,
        Self::TwoSteps,
        Self::KeepEpoch,
        Self::NoDedup,
        Self::UnboundedQueue,
        Self::ConfirmedByName,
    ];

    /// Its name for people and command lines.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::AckBeforeAppend => "ack-before-append",
            Self::TwoSteps => "two-steps",
            Self::KeepEpoch => "keep-epoch",
            Self::NoDedup => "no-dedup",
            Self::UnboundedQueue => "unbounded-queue",
            Self::ConfirmedByName => "confirmed-by-name",
        }
    }
}
