//! What a peer can do wrong on an open WebSocket, and the limits it is held to. Decides nothing.

/// What one connection may send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameLimits {
    /// Payload of one frame. Units: bytes.
    pub frame_bytes_max: usize,
    /// Payload of one message, its fragments joined. Units: bytes.
    pub message_bytes_max: usize,
    /// Frames of one message, empty ones included.
    pub fragments_max: u32,
    /// Pings and pongs in one second.
    pub controls_per_second_max: u32,
}

impl Default for FrameLimits {
    fn default() -> Self {
        Self {
            frame_bytes_max: 64 * 1024,
            message_bytes_max: 256 * 1024,
            fragments_max: 64,
            controls_per_second_max: 100,
        }
    }
}

/// Why a connection must end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Violation {
    /// A frame without a mask (RFC 6455 5.1).
    Unmasked,
    /// A reserved bit without an extension that gives it a meaning (RFC 6455 5.2).
    ReservedBits,
    /// An opcode that RFC 6455 does not define.
    UnknownOpcode,
    /// A ping, pong or Close in fragments (RFC 6455 5.5).
    FragmentedControl,
    /// A ping, pong or Close of more than 125 bytes (RFC 6455 5.5).
    LongControl,
    /// A length in more bytes than it needs (RFC 6455 5.2).
    LengthNotShortest,
    /// A length of 2^63 or more (RFC 6455 5.2).
    LengthOverflow,
    /// A continuation of nothing (RFC 6455 5.4).
    StrayContinuation,
    /// A new message before the last one ended (RFC 6455 5.4).
    InterruptedMessage,
    /// A Close frame of one byte (RFC 6455 5.5.1).
    CloseTruncated,
    /// A close code that must not be sent (RFC 6455 7.4).
    CloseCode,
    /// Text, or the reason of a Close, that is not UTF-8 (RFC 6455 8.1).
    BadUtf8,
    /// More than [`FrameLimits::frame_bytes_max`].
    FrameTooLarge,
    /// More than [`FrameLimits::message_bytes_max`].
    MessageTooLarge,
    /// More than [`FrameLimits::fragments_max`].
    TooManyFragments,
    /// More than [`FrameLimits::controls_per_second_max`].
    ControlFlood,
}

impl Violation {
    /// All of them, for tables and metrics.
    pub const ALL: [Self; 16] = [
        Self::Unmasked,
        Self::ReservedBits,
        Self::UnknownOpcode,
        Self::FragmentedControl,
        Self::LongControl,
        Self::LengthNotShortest,
        Self::LengthOverflow,
        Self::StrayContinuation,
        Self::InterruptedMessage,
        Self::CloseTruncated,
        Self::CloseCode,
        Self::BadUtf8,
        Self::FrameTooLarge,
        Self::MessageTooLarge,
        Self::TooManyFragments,
        Self::ControlFlood,
    ];

    /// The code of the Close frame that answers it (RFC 6455 7.4.1).
    #[must_use]
    pub const fn code(self) -> u16 {
        match self {
            Self::Unmasked
            | Self::ReservedBits
            | Self::UnknownOpcode
            | Self::FragmentedControl
            | Self::LongControl
            | Self::LengthNotShortest
            | Self::LengthOverflow
            | Self::StrayContinuation
            | Self::InterruptedMessage
            | Self::CloseTruncated
            | Self::CloseCode => 1002,
            Self::BadUtf8 => 1007,
            Self::TooManyFragments | Self::ControlFlood => 1008,
            Self::FrameTooLarge | Self::MessageTooLarge => 1009,
        }
    }

    /// What was wrong and what to do instead, short enough for a Close frame.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Unmasked => "unmasked frame: clients must mask every frame",
            Self::ReservedBits => "reserved bit set: no extension was agreed on",
            Self::UnknownOpcode => "unknown opcode",
            Self::FragmentedControl => "fragmented control frame: send it whole",
            Self::LongControl => "control frame over 125 bytes",
            Self::LengthNotShortest => "frame length not in its shortest form",
            Self::LengthOverflow => "frame length of 2^63 or more",
            Self::StrayContinuation => "continuation without a message to continue",
            Self::InterruptedMessage => "new message before the last one ended",
            Self::CloseTruncated => "close frame of one byte: send none, or a code of two bytes",
            Self::CloseCode => "close code that must not be sent: use 1000 or 3000 to 4999",
            Self::BadUtf8 => "text is not UTF-8: send other bytes as a binary message",
            Self::FrameTooLarge => "frame over the limit frame_bytes",
            Self::MessageTooLarge => "message over the limit message_bytes",
            Self::TooManyFragments => "message over the limit fragments: send larger ones",
            Self::ControlFlood => "over the limit control_frames_per_second",
        }
    }

    /// The same with the limit's value, where a limit was hit.
    #[must_use]
    pub fn detail(self, limits: &FrameLimits) -> String {
        match self {
            Self::FrameTooLarge => format!("{} of {} bytes", self.reason(), limits.frame_bytes_max),
            Self::MessageTooLarge => {
                format!("{} of {} bytes", self.reason(), limits.message_bytes_max)
            }
            Self::TooManyFragments => {
                format!(
                    "message over the limit fragments of {}: send larger ones",
                    limits.fragments_max
                )
            }
            Self::ControlFlood => {
                format!("{} of {}", self.reason(), limits.controls_per_second_max)
            }
            Self::Unmasked
            | Self::ReservedBits
            | Self::UnknownOpcode
            | Self::FragmentedControl
            | Self::LongControl
            | Self::LengthNotShortest
            | Self::LengthOverflow
            | Self::StrayContinuation
            | Self::InterruptedMessage
            | Self::CloseTruncated
            | Self::CloseCode
            | Self::BadUtf8 => self.reason().to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_fits_a_close_frame_and_says_the_limit() {
        let limits = FrameLimits {
            frame_bytes_max: 1_000_777_000,
            message_bytes_max: 1_000_777_000,
            fragments_max: 1_000_777_000,
            controls_per_second_max: 1_000_777_000,
        };
        for violation in Violation::ALL {
            let detail = violation.detail(&limits);
            assert!(detail.len() <= 123, "{detail}");
            let is_limit = matches!(violation.code(), 1008 | 1009);
            assert_eq!(detail.contains("1000777000"), is_limit, "{detail}");
        }
    }
}
