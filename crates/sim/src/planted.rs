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
    /// Lives of nodes that were reaped are accepted again.
    ZombieLeaseAccepted,
    /// An inbox counts as acked what was written to the connection.
    CursorFromWrites,
    /// Ids are not remembered.
    NoDedup,
    /// Nothing is dropped for a lane whose queue is full.
    UnboundedQueue,
    /// A confirmation counts for whatever request of its room is the newest.
    ConfirmedByName,
    /// A hub gives lanes what came, whether or not something is missing in front of it.
    SkipGapCheck,
    /// A late envelope switches a room's epoch back.
    EpochSwitchedBack,
    /// A session keeps the permissions of its first token.
    StalePermission,
    /// A room is not served while another one is.
    LostWakeUp,
    /// A session's record says that its client has what was only written to its connection.
    PositionFromWrites,
    /// A room's publications count as delivered that were only written to the connection.
    MarkFromWrites,
    /// A device counts as told of what it lost that was only written to the connection.
    ToldFromWrites,
    /// A device that comes first to an inbox begins without what that has lost.
    FirstLossUntold,
    /// A node confirms an order once its first lane has carried it out.
    ConfirmedEarly,
    /// A lane takes a revoked token again.
    RevokedTaken,
    /// A node says that it has told what it was given to tell.
    ToldWhenGiven,
    /// What an inbox takes of something said has another id each time it is written.
    CopyNamedAnew,
    /// The author of a message is told of a mark although the user marked more before.
    MarkToldBack,
    /// What one device of a user acks no other one is given.
    AckForAllDevices,
    /// A member that is taken out of a group stays in the room of its lane.
    MemberStays,
    /// What is given of an older epoch is numbered under the newer one.
    OlderNumberedAnew,
    /// The place of a device in a group is noted beyond what it has acked.
    PlaceBeyondAcks,
}

impl Planted {
    /// All of them.
    pub const ALL: [Self; 25] = [
        Self::AckBeforeAppend,
        Self::TwoSteps,
        Self::KeepEpoch,
        Self::ZombieLeaseAccepted,
        Self::CursorFromWrites,
        Self::NoDedup,
        Self::UnboundedQueue,
        Self::ConfirmedByName,
        Self::SkipGapCheck,
        Self::EpochSwitchedBack,
        Self::StalePermission,
        Self::LostWakeUp,
        Self::PositionFromWrites,
        Self::MarkFromWrites,
        Self::ToldFromWrites,
        Self::FirstLossUntold,
        Self::ConfirmedEarly,
        Self::RevokedTaken,
        Self::ToldWhenGiven,
        Self::CopyNamedAnew,
        Self::MarkToldBack,
        Self::AckForAllDevices,
        Self::MemberStays,
        Self::OlderNumberedAnew,
        Self::PlaceBeyondAcks,
    ];

    /// Its name in the router, if it is one of the router's.
    pub(crate) const fn in_router(self) -> Option<roomcast_router::planted::Planted> {
        use roomcast_router::planted::Planted;
        match self {
            Self::SkipGapCheck => Some(Planted::SkipGapCheck),
            Self::EpochSwitchedBack => Some(Planted::EpochSwitchedBack),
            Self::StalePermission => Some(Planted::StalePermission),
            Self::LostWakeUp => Some(Planted::LostWakeUp),
            Self::CursorFromWrites => Some(Planted::CursorFromWrites),
            Self::PositionFromWrites => Some(Planted::PositionFromWrites),
            Self::MarkFromWrites => Some(Planted::MarkFromWrites),
            Self::ConfirmedEarly => Some(Planted::ConfirmedEarly),
            Self::RevokedTaken => Some(Planted::RevokedTaken),
            Self::ToldFromWrites => Some(Planted::ToldFromWrites),
            Self::ToldWhenGiven => Some(Planted::ToldWhenGiven),
            Self::CopyNamedAnew => Some(Planted::CopyNamedAnew),
            Self::MarkToldBack => Some(Planted::MarkToldBack),
            Self::AckForAllDevices => Some(Planted::AckForAllDevices),
            Self::MemberStays => Some(Planted::MemberStays),
            Self::OlderNumberedAnew => Some(Planted::OlderNumberedAnew),
            Self::PlaceBeyondAcks => Some(Planted::PlaceBeyondAcks),
            Self::AckBeforeAppend
            | Self::TwoSteps
            | Self::KeepEpoch
            | Self::ZombieLeaseAccepted
            | Self::NoDedup
            | Self::UnboundedQueue
            | Self::FirstLossUntold
            | Self::ConfirmedByName => None,
        }
    }

    /// Its name for people and command lines.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::AckBeforeAppend => "ack-before-append",
            Self::TwoSteps => "two-steps",
            Self::KeepEpoch => "keep-epoch",
            Self::ZombieLeaseAccepted => "zombie-lease-accepted",
            Self::CursorFromWrites => "cursor-from-writes",
            Self::NoDedup => "no-dedup",
            Self::UnboundedQueue => "unbounded-queue",
            Self::ConfirmedByName => "confirmed-by-name",
            Self::SkipGapCheck => "skip-gap-check",
            Self::EpochSwitchedBack => "epoch-switched-back",
            Self::StalePermission => "stale-permission",
            Self::LostWakeUp => "lost-wake-up",
            Self::PositionFromWrites => "position-from-writes",
            Self::MarkFromWrites => "mark-from-writes",
            Self::ToldFromWrites => "told-from-writes",
            Self::FirstLossUntold => "first-loss-untold",
            Self::ConfirmedEarly => "confirmed-early",
            Self::RevokedTaken => "revoked-taken",
            Self::ToldWhenGiven => "told-when-given",
            Self::CopyNamedAnew => "copy-named-anew",
            Self::MarkToldBack => "mark-told-back",
            Self::AckForAllDevices => "ack-for-all-devices",
            Self::MemberStays => "member-stays",
            Self::OlderNumberedAnew => "older-numbered-anew",
            Self::PlaceBeyondAcks => "place-beyond-acks",
        }
    }
}
