//! Bugs that the simulator plants to prove that its checkers see them. Compiled with the feature `planted` only, which no
//! node has.

/// One bug of the router.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Planted {
    /// The hub gives lanes what came, whether or not something is missing in front of it.
    SkipGapCheck,
    /// An envelope changes a room's epoch.
    EpochSwitchedBack,
    /// A session keeps the permissions of its first token.
    StalePermission,
    /// A room with something for its members is not served while another one is.
    LostWakeUp,
    /// A cursor counts as acked what was given to its connection.
    CursorFromWrites,
    /// A device counts as told of what it lost once that was given to its connection.
    ToldFromWrites,
    /// A session's record says that its client has what was given to its connection.
    PositionFromWrites,
    /// A room's publications count as delivered that were given to a connection.
    MarkFromWrites,
    /// A node confirms an order once its first lane has carried it out.
    ConfirmedEarly,
    /// A lane ends the sessions that hold a revoked token, and takes the token again.
    RevokedTaken,
    /// What an inbox takes of something said has another id each time it is written.
    CopyNamedAnew,
    /// The author of a message is told of a mark although the user marked more before.
    MarkToldBack,
    /// What one device of a user acks no other one is given.
    AckForAllDevices,
    /// A node says that it has told which rooms became occupied once it was given that.
    ToldWhenGiven,
    /// A member that is taken out of a group stays in the room of its lane.
    MemberStays,
    /// What is given of an older epoch is numbered under the newer one.
    OlderNumberedAnew,
    /// The place of a device in a group is noted beyond what it has acked.
    PlaceBeyondAcks,
}
