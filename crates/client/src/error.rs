//! Why something did not work: one error type with the node's stable codes and whether trying again makes sense.

use std::time::Duration;

use serde_json::Value;

/// What a person is told where nobody knows what became of a request.
const UNKNOWN: &str = ": it may have been published; send it again with the same id";

/// A request that the node declined; the connection lives.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message} ({name}, code {code}){}", if *outcome_unknown { UNKNOWN } else { "" })]
pub struct Refused {
    /// Stable number.
    pub code: u16,
    /// Stable name, such as `permission_denied`.
    pub name: String,
    /// What is wrong and how to mend it.
    pub message: String,
    /// Whether the same request may succeed later.
    pub retry: bool,
    /// Whether it was published all the same is unknown: sending it again with the same id is safe.
    pub outcome_unknown: bool,
    /// When to try again.
    pub retry_after: Option<Duration>,
    /// The room it is about.
    pub room: Option<String>,
    /// The limit that bit.
    pub limit: Option<String>,
    /// That limit's value.
    pub value: Option<u64>,
    /// The request it answers.
    pub correlation_id: Option<String>,
}

/// The connection is over.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the connection is closed: {} (code {code})", if reason.is_empty() { "no reason given" } else { reason.as_str() })]
pub struct Closed {
    /// The Close frame's code; 1006 where the connection dropped without one, 1005 where the frame had none.
    pub code: u16,
    /// The Close frame's reason, or what broke the connection.
    pub reason: String,
}

impl Closed {
    /// Whether connecting again may succeed with the same token.
    ///
    /// Source: `codes` of the protocol crate; 4000 to 4199 do not come back, 4200 to 4399 do.
    #[must_use]
    pub const fn retry(&self) -> bool {
        matches!(self.code, 1001 | 1005 | 1006 | 1011 | 1012 | 1013 | 4200..=4399)
    }
}

/// Why something did not work.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address cannot be used.
    #[error("the address {url:?} cannot be used: {cause}")]
    Url {
        /// As given, without its query.
        url: String,
        /// What is wrong with it.
        cause: String,
    },
    /// No connection.
    #[error("cannot connect to {address}: {source}")]
    Connect {
        /// Host and port.
        address: String,
        /// What the system says.
        source: std::io::Error,
    },
    /// The node answered the upgrade with another status than 101.
    #[error("the upgrade was refused with HTTP {status}: {body}")]
    Upgrade {
        /// HTTP status.
        status: u16,
        /// What the answer says, at most 2 KiB.
        body: String,
        /// When to try again, where the answer says so.
        retry_after: Option<Duration>,
    },
    /// The peer's answer is no WebSocket upgrade.
    #[error("the upgrade failed: {0}")]
    Handshake(String),
    /// No answer in time; whether the request took effect is unknown.
    #[error("no answer to {what} within {} ms", after.as_millis())]
    Timeout {
        /// What was waited for.
        what: &'static str,
        /// For how long.
        after: Duration,
    },
    /// The node declined the request.
    #[error(transparent)]
    Refused(Box<Refused>),
    /// The connection ended.
    #[error(transparent)]
    Closed(Closed),
    /// Too much waits already; nothing was sent.
    #[error(
        "{what} is full ({max}): wait for what is under way, or raise the bound in the session's options"
    )]
    Full {
        /// Which bound, as the options name it.
        what: &'static str,
        /// Its value.
        max: usize,
    },
    /// It could not be delivered in time and was given up. If it was sent at all, it may have been published.
    #[error("{what} was given up after {} ms{}", after.as_millis(), if *sent { ": it may have been published" } else { ": it was never sent" })]
    GivenUp {
        /// What was given up.
        what: &'static str,
        /// For how long it was tried.
        after: Duration,
        /// It was sent at least once.
        sent: bool,
    },
    /// The payload cannot be written in this format.
    #[error("the payload cannot be encoded: {0}")]
    Encode(String),
}

impl Error {
    /// The stable number: a refusal's or close's code, or the HTTP status.
    #[must_use]
    pub fn code(&self) -> Option<u16> {
        match self {
            Self::Refused(refused) => Some(refused.code),
            Self::Closed(closed) => Some(closed.code),
            Self::Upgrade { status, .. } => Some(*status),
            Self::Url { .. }
            | Self::Connect { .. }
            | Self::Handshake(_)
            | Self::Timeout { .. }
            | Self::Full { .. }
            | Self::GivenUp { .. }
            | Self::Encode(_) => None,
        }
    }

    /// A stable name: the refusal's own, or the kind of error.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Refused(refused) => &refused.name,
            Self::Closed(_) => "closed",
            Self::Upgrade { .. } => "upgrade_refused",
            Self::Url { .. } => "bad_url",
            Self::Connect { .. } => "no_connection",
            Self::Handshake(_) => "handshake",
            Self::Timeout { .. } => "timeout",
            Self::Full { .. } => "full",
            Self::GivenUp { .. } => "given_up",
            Self::Encode(_) => "encode",
        }
    }

    /// Whether the same attempt may succeed later.
    #[must_use]
    pub fn retry(&self) -> bool {
        match self {
            Self::Refused(refused) => refused.retry,
            Self::Closed(closed) => closed.retry(),
            Self::Upgrade { status, .. } => *status == 429 || *status >= 500,
            Self::Connect { .. }
            | Self::Timeout { .. }
            | Self::Full { .. }
            | Self::GivenUp { .. } => true,
            Self::Url { .. } | Self::Handshake(_) | Self::Encode(_) => false,
        }
    }

    /// Whether the node would not have this token or this right.
    #[must_use]
    pub fn is_denied(&self) -> bool {
        match self {
            Self::Refused(refused) => refused.code == 110,
            Self::Closed(closed) => matches!(closed.code, 4000..=4199),
            Self::Upgrade { status, .. } => matches!(status, 401 | 403),
            Self::Url { .. }
            | Self::Connect { .. }
            | Self::Handshake(_)
            | Self::Timeout { .. }
            | Self::Full { .. }
            | Self::GivenUp { .. }
            | Self::Encode(_) => false,
        }
    }
}

impl Refused {
    /// Reads an `error` message's `data`. What is missing becomes empty: a refusal is never lost for its form.
    pub(crate) fn read(data: &Value, correlation_id: Option<&str>) -> Self {
        let text = |key: &str| data.get(key).and_then(Value::as_str).map(str::to_owned);
        let number = |key: &str| data.get(key).and_then(Value::as_u64);
        Self {
            code: number("code").and_then(|code| u16::try_from(code).ok()).unwrap_or(0),
            name: text("name").unwrap_or_else(|| "unknown".into()),
            message: text("message").unwrap_or_else(|| "The node refused without a reason".into()),
            retry: data.get("retry").and_then(Value::as_bool).unwrap_or(false),
            outcome_unknown: text("outcome").is_some_and(|outcome| outcome == "unknown"),
            retry_after: number("retry_after_ms").map(Duration::from_millis),
            room: text("room"),
            limit: text("limit"),
            value: number("value"),
            correlation_id: correlation_id.map(str::to_owned),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_keeps_its_code_name_and_advice() {
        let data = serde_json::json!({
            "code": 120, "name": "rate_limit", "message": "The limit messages_per_minute is 100",
            "retry": true, "retry_after_ms": 1500, "limit": "messages_per_minute", "value": 100,
        });
        let error = Error::Refused(Box::new(Refused::read(&data, Some("7"))));
        assert_eq!((error.code(), error.name(), error.retry()), (Some(120), "rate_limit", true));
        let Error::Refused(refused) = error else { panic!("made above") };
        assert_eq!(refused.retry_after, Some(Duration::from_millis(1500)));
        assert_eq!(refused.value, Some(100));
        assert_eq!(refused.correlation_id.as_deref(), Some("7"));
    }

    #[test]
    fn a_refusal_says_whether_its_outcome_is_known() {
        let mut data =
            serde_json::json!({"code": 130, "name": "unavailable", "message": "Not now"});
        let refused = Refused::read(&data, None);
        assert!(!refused.outcome_unknown);
        assert_eq!(refused.to_string(), "Not now (unavailable, code 130)");
        data["outcome"] = "unknown".into();
        let refused = Refused::read(&data, None);
        assert!(refused.outcome_unknown);
        assert!(refused.to_string().ends_with("send it again with the same id"));
    }

    #[test]
    fn a_malformed_refusal_is_still_a_refusal() {
        let refused = Refused::read(&Value::Null, None);
        assert_eq!((refused.code, refused.retry), (0, false));
    }

    #[test]
    fn close_codes_say_whether_to_come_back() {
        for (code, expected) in
            [(1000, false), (1001, true), (1006, true), (4001, false), (4101, false), (4200, true)]
        {
            assert_eq!(Closed { code, reason: String::new() }.retry(), expected, "{code}");
        }
    }
}
