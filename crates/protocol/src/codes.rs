//! The stable codes: why a command is declined (the connection lives), and why a connection ends.
//!
//! Clients act on ranges, so new codes are safe. Source: `docs/CODES.md` is made from these tables.

use std::borrow::Cow;

use crate::limits::LimitName;
use crate::room::BadName;

/// Why a command is declined. The connection lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Refusal {
    /// Not JSON (or MessagePack), or not inflatable.
    BadJson,
    /// A type that nobody knows, or that only the server sends.
    UnknownType,
    /// A known type with a field missing or of the wrong kind.
    Schema,
    /// More than fits.
    TooLarge,
    /// No valid room name.
    BadName,
    /// No right to it; the same whether the room exists or not.
    PermissionDenied,
    /// Too many messages in a minute.
    RateLimit,
    /// Another limit.
    Limit,
    /// The id was used before, with other content.
    Duplicate,
    /// Not now.
    Unavailable,
    /// The application's back-end gave no good answer.
    UpstreamFailed,
    /// The application's back-end failed too often, and is left alone for a while.
    BreakerOpen,
    /// What rooms keep has reached its bound.
    StorageFull,
}

/// A row of the refusals' table.
#[derive(Clone, Copy, Debug)]
pub struct RefusalRow {
    /// Stable number.
    pub code: u16,
    /// Stable name.
    pub name: &'static str,
    /// What a person reads where nothing better is known.
    pub text: &'static str,
    /// Whether the same command may succeed later.
    pub retry: bool,
}

impl Refusal {
    /// All of them, in the order of their codes.
    pub const ALL: [Self; 13] = [
        Self::BadJson,
        Self::UnknownType,
        Self::Schema,
        Self::TooLarge,
        Self::BadName,
        Self::PermissionDenied,
        Self::RateLimit,
        Self::Limit,
        Self::Duplicate,
        Self::Unavailable,
        Self::UpstreamFailed,
        Self::BreakerOpen,
        Self::StorageFull,
    ];

    /// Its row of the table.
    #[must_use]
    pub const fn row(self) -> RefusalRow {
        let (code, name, text, retry) = match self {
            Self::BadJson => (100, "bad_json", "The message cannot be read", false),
            Self::UnknownType => (101, "unknown_type", "Unknown message type", false),
            Self::Schema => (102, "schema", "The message lacks a field or has a wrong one", false),
            Self::TooLarge => (103, "too_large", "The message is too large", false),
            Self::BadName => (104, "bad_name", "That is not a valid room name", false),
            Self::PermissionDenied => (110, "permission_denied", "Permission denied", false),
            Self::RateLimit => (120, "rate_limit", "Too many messages", true),
            Self::Limit => (121, "limit", "A limit is reached", false),
            Self::Duplicate => (122, "duplicate", "This id was used for other content", false),
            Self::Unavailable => (130, "unavailable", "Not possible at the moment", true),
            Self::UpstreamFailed => {
                (131, "upstream_failed", "The application gave no good answer", false)
            }
            Self::BreakerOpen => (132, "breaker_open", "The application failed too often", true),
            Self::StorageFull => (133, "storage_full", "The broker's storage is full", false),
        };
        RefusalRow { code, name, text, retry }
    }

    /// Its place in [`Refusal::ALL`], for tables of counters.
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }
}

/// A refusal with what the one refused needs to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Which.
    pub refusal: Refusal,
    /// For a person: what is wrong and how to mend it. Never holds a payload or a token.
    pub message: Cow<'static, str>,
    /// The limit that bit, with its value.
    pub limit: Option<(LimitName, u64)>,
    /// When to try again. Units: milliseconds from now.
    pub retry_after_ms: Option<u64>,
    /// Whether it was carried out all the same is unknown: the same id may be sent again (G5).
    pub unknown: bool,
}

impl Refused {
    /// A refusal with the table's text.
    #[must_use]
    pub const fn new(refusal: Refusal) -> Self {
        Self::because(refusal, Cow::Borrowed(refusal.row().text))
    }

    /// A refusal with a text of its own.
    #[must_use]
    pub const fn because(refusal: Refusal, message: Cow<'static, str>) -> Self {
        Self { refusal, message, limit: None, retry_after_ms: None, unknown: false }
    }

    /// Not now: the same may succeed in `retry_after_ms`.
    #[must_use]
    pub fn unavailable(message: Cow<'static, str>, retry_after_ms: u64) -> Self {
        let refused = Self::because(Refusal::Unavailable, message);
        Self { retry_after_ms: Some(retry_after_ms), ..refused }
    }

    /// A limit's refusal, naming it and its value.
    #[must_use]
    pub fn limit(
        refusal: Refusal,
        limit: LimitName,
        value: u64,
        retry_after_ms: Option<u64>,
    ) -> Self {
        let message = format!("The limit {} is {value}", limit.name());
        let message = message.into();
        Self { refusal, message, limit: Some((limit, value)), retry_after_ms, unknown: false }
    }
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        Self::new(refusal)
    }
}

impl From<BadName> for Refused {
    fn from(cause: BadName) -> Self {
        Self::because(Refusal::BadName, cause.to_string().into())
    }
}

/// Why a connection ends.
///
/// 4000 to 4099: not without a new token. 4100 to 4199: do not reconnect. 4200 to 4299: reconnect (and resume).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Close {
    /// The client closed, and is answered in kind.
    Normal,
    /// The node stops.
    Stopping,
    /// The peer broke RFC 6455, or said what no session can begin with.
    Protocol,
    /// Text that is not UTF-8.
    BadText,
    /// Floods of frames or fragments.
    Flood,
    /// A frame or message over its limit.
    TooLarge,
    /// The client said nothing for as long as its dialect lets it.
    Silent,
    /// The node stops, and it was this client's turn to go.
    Drain,
    /// The check of the token itself failed.
    AuthenticationFailed,
    /// No token, or a bad or expired one.
    Unauthorized,
    /// The session goes on over another connection.
    Replaced,
    /// An operator ended it.
    Disconnected,
    /// The client reads or answers too slowly.
    Slow,
    /// A limit that only shows after the upgrade.
    Limit,
    /// The session was handed over, and goes on over its new connection.
    Moved,
    /// Orders to end sessions were missed for too long: the session must prove itself anew.
    GapTooOld,
}

/// A row of the closes' table.
#[derive(Clone, Copy, Debug)]
pub struct CloseRow {
    /// The code in the Close frame.
    pub code: u16,
    /// Stable name, for metrics and logs.
    pub name: &'static str,
    /// The reason in the Close frame.
    pub reason: &'static str,
    /// What a client should do next.
    pub advice: &'static str,
}

impl Close {
    /// All of them, in the order of their codes.
    pub const ALL: [Self; 16] = [
        Self::Normal,
        Self::Stopping,
        Self::Protocol,
        Self::BadText,
        Self::Flood,
        Self::TooLarge,
        Self::Silent,
        Self::Drain,
        Self::AuthenticationFailed,
        Self::Unauthorized,
        Self::Replaced,
        Self::Disconnected,
        Self::Slow,
        Self::Limit,
        Self::Moved,
        Self::GapTooOld,
    ];

    /// Its row of the table.
    #[must_use]
    pub const fn row(self) -> CloseRow {
        let (code, name, reason, advice) = match self {
            Self::Normal => (1000, "normal", "", "nothing: the client closed"),
            Self::Stopping => (1001, "stopping", "The node is stopping", "reconnect"),
            Self::Protocol => (1002, "protocol", "Protocol error", "mend the client"),
            Self::BadText => (1007, "bad_text", "Text that is not UTF-8", "mend the client"),
            Self::Flood => (1008, "flood", "Too many frames or fragments", "mend the client"),
            Self::TooLarge => (1009, "too_large", "Message too large", "send less at once"),
            Self::Silent => (1011, "silent", "Nothing was said for too long", "reconnect"),
            Self::Drain => (1012, "drain", "The node is being replaced", "reconnect, and resume"),
            Self::AuthenticationFailed => {
                (4000, "authentication_failed", "Authentication failed", "get a new token")
            }
            Self::Unauthorized => (4001, "unauthorized", "Unauthorized", "get a new token"),
            Self::Replaced => {
                (4100, "replaced", "The session goes on elsewhere", "do not reconnect")
            }
            Self::Disconnected => {
                (4101, "disconnected", "Disconnected by an operator", "do not reconnect")
            }
            Self::Slow => (4200, "slow", "Too slow to read or to answer", "reconnect, and resume"),
            Self::Limit => (4201, "limit", "A limit is reached", "reconnect later"),
            Self::Moved => {
                (4202, "moved", "The session was handed over", "go on with the new connection")
            }
            Self::GapTooOld => (4300, "gap_too_old", "Too much was missed", "reconnect afresh"),
        };
        CloseRow { code, name, reason, advice }
    }

    /// Its place in [`Close::ALL`], for tables of counters.
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_in_order_and_without_repeats() {
        for (index, refusal) in Refusal::ALL.into_iter().enumerate() {
            assert_eq!(refusal.index(), index);
        }
        assert!(Refusal::ALL.windows(2).all(|pair| pair[0].row().code < pair[1].row().code));
        for (index, close) in Close::ALL.into_iter().enumerate() {
            assert_eq!(close.index(), index);
            assert!(
                close.row().reason.len() <= 123,
                "RFC 6455 5.5: a control frame holds 125 bytes"
            );
        }
        assert!(Close::ALL.windows(2).all(|pair| pair[0].row().code < pair[1].row().code));
    }

    #[test]
    fn a_refusal_of_a_limit_names_it_and_its_value() {
        let refused = Refused::limit(Refusal::RateLimit, LimitName::MessagesPerUser, 100, Some(5));
        assert_eq!(refused.message, "The limit messages_per_minute is 100");
        assert_eq!(refused.limit, Some((LimitName::MessagesPerUser, 100)));
    }
}
