//! The limits that the pure core enforces. Each has a name, a unit and a default; the gateway fills them from the
//! configuration.

/// Names of limits, as refusals, metrics and documents spell them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum LimitName {
    /// Open connections of one client address.
    ConnectionsPerIp,
    /// Open connections of one user.
    ConnectionsPerUser,
    /// Open connections of the node.
    ConnectionsPerNode,
    /// Messages of one user in any 60 s.
    MessagesPerUser,
    /// Acks, marks, keep-alives and refreshes of one user in any 60 s.
    ControlsPerUser,
    /// Rooms of one session.
    RoomsPerSession,
    /// Messages in one batch.
    BatchMessages,
    /// Bytes of one frame.
    FrameBytes,
    /// Bytes of one message, fragments joined.
    MessageBytes,
    /// Bytes of one message, inflated.
    InflatedBytes,
    /// Fragments of one message.
    Fragments,
    /// Control frames of one connection in one second.
    ControlFrames,
    /// Depth of JSON and MessagePack values.
    Depth,
    /// Bytes of a token.
    TokenBytes,
    /// Bytes waiting for one connection.
    OutboxBytes,
    /// Bytes waiting for all connections of the node.
    OutboxesBytes,
    /// Sessions of the node that have not authenticated yet.
    Unauthenticated,
    /// Requests for history of one session that are under way.
    HistoriesPerSession,
    /// Publications of one session that wait for its ack.
    Unacked,
    /// Requests of one session to the application that are under way.
    RequestsPerSession,
    /// Publications in one batch of a back-end, rooms of one broadcast.
    ApiBatch,
    /// Bytes of one batch of a back-end.
    ApiBatchBytes,
}

impl LimitName {
    /// All of them, in the order of the documents.
    pub const ALL: [Self; 22] = [
        Self::ConnectionsPerIp,
        Self::ConnectionsPerUser,
        Self::ConnectionsPerNode,
        Self::MessagesPerUser,
        Self::ControlsPerUser,
        Self::RoomsPerSession,
        Self::BatchMessages,
        Self::FrameBytes,
        Self::MessageBytes,
        Self::InflatedBytes,
        Self::Fragments,
        Self::ControlFrames,
        Self::Depth,
        Self::TokenBytes,
        Self::OutboxBytes,
        Self::OutboxesBytes,
        Self::Unauthenticated,
        Self::HistoriesPerSession,
        Self::Unacked,
        Self::RequestsPerSession,
        Self::ApiBatch,
        Self::ApiBatchBytes,
    ];

    /// The configuration key below `[limits]`, also the name in refusals and metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::ConnectionsPerIp => "connections_per_ip",
            Self::ConnectionsPerUser => "connections_per_user",
            Self::ConnectionsPerNode => "connections_max",
            Self::MessagesPerUser => "messages_per_minute",
            Self::ControlsPerUser => "controls_per_minute",
            Self::RoomsPerSession => "rooms_per_session",
            Self::BatchMessages => "batch_messages",
            Self::FrameBytes => "frame_bytes",
            Self::MessageBytes => "message_bytes",
            Self::InflatedBytes => "inflated_bytes",
            Self::Fragments => "fragments",
            Self::ControlFrames => "control_frames_per_second",
            Self::Depth => "json_depth",
            Self::TokenBytes => "token_bytes",
            Self::OutboxBytes => "outbox_bytes",
            Self::OutboxesBytes => "outboxes_bytes",
            Self::Unauthenticated => "unauthenticated_max",
            Self::HistoriesPerSession => "histories_per_session",
            Self::Unacked => "unacked_max",
            Self::RequestsPerSession => "requests_per_session",
            Self::ApiBatch => "api_batch",
            Self::ApiBatchBytes => "api_batch_bytes",
        }
    }

    /// Its place in [`LimitName::ALL`], for tables of counters.
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }
}

/// What a decoder may take in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DecodeLimits {
    /// Messages in one batch.
    pub batch_max: usize,
    /// Bytes of one message after inflating; at most [`DecodeLimits::RATIO_MAX`] times the deflated size.
    pub inflated_bytes_max: usize,
    /// Depth of nested values.
    pub depth_max: usize,
}

impl DecodeLimits {
    /// Highest ratio of inflated to deflated bytes, once the output is over 64 KiB.
    pub const RATIO_MAX: usize = 100;
}

impl Default for DecodeLimits {
    fn default() -> Self {
        Self { batch_max: 64, inflated_bytes_max: 1 << 20, depth_max: 32 }
    }
}

/// What a session may do, and by when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionLimits {
    /// Rooms of one session, those joined at connect included.
    pub rooms_max: usize,
    /// Requests for history of one session that are under way.
    pub histories_max: u8,
    /// Requests of one session to the application that are under way.
    pub requests_max: u8,
    /// Publications of one session that wait for its ack; at it their room is parked.
    pub unacked_max: u16,
    /// How long a session can be resumed after its connection is gone. Units: milliseconds.
    pub resume_window_ms: u64,
    /// Messages of one user in any 60 s.
    pub messages_per_minute: u32,
    /// Acks, marks, keep-alives and refreshes of one user in any 60 s.
    pub controls_per_minute: u32,
    /// Open connections of one user.
    pub connections_per_user: u32,
    /// How long a connection may stay without authenticating. Units: milliseconds.
    pub first_message_ms: u64,
    /// Silence after which the node pings. Units: milliseconds.
    pub ping_ms: u64,
    /// Silence after a ping that ends the connection. Units: milliseconds.
    pub pong_ms: u64,
    /// How long before its token expires a session is told. Units: milliseconds.
    pub expiry_notice_ms: u64,
    /// How long after `exp` a token is still good, clocks being what they are. Units: milliseconds.
    pub leeway_ms: u64,
}

impl Default for SessionLimits {
    fn default() -> Self {
        Self {
            rooms_max: 128,
            histories_max: 4,
            requests_max: 8,
            unacked_max: 256,
            resume_window_ms: 120_000,
            messages_per_minute: 100,
            controls_per_minute: 600,
            connections_per_user: 10,
            first_message_ms: 5_000,
            ping_ms: 25_000,
            pong_ms: 10_000,
            expiry_notice_ms: 60_000,
            leeway_ms: 5_000,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_limit_has_its_own_name_and_index() {
        for (index, limit) in LimitName::ALL.into_iter().enumerate() {
            assert_eq!(limit.index(), index);
            assert_eq!(
                LimitName::ALL.iter().filter(|other| other.name() == limit.name()).count(),
                1
            );
        }
    }
}
