//! What the end of a connection, or an attempt that failed, means for its session. Pure: a table.

use std::time::Duration;

use crate::error::{Closed, Error};

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Plan {
    /// Come back with the session.
    Resume {
        /// Not before.
        after: Duration,
    },
    /// Come back as a new session.
    Afresh,
    /// Come back with a new token; without a source of tokens, do not.
    NewToken,
    /// Do not come back.
    End,
}

const AT_ONCE: Plan = Plan::Resume { after: Duration::ZERO };

/// By the ranges of `docs/CODES.md`, so that codes yet to come are understood.
pub(crate) const fn of_close(code: u16) -> Plan {
    match code {
        4_000..=4_099 => Plan::NewToken,
        4_200..=4_299 => AT_ONCE,
        4_300..=4_399 => Plan::Afresh,
        // Stopping, none, broken, internal, drain, overloaded.
        1_001 | 1_005 | 1_006 | 1_011 | 1_012 | 1_013 => AT_ONCE,
        // The rest: a goodbye, a mistake of this client, or somebody's wish.
        _ => Plan::End,
    }
}

/// By what came of connecting.
pub(crate) fn of_error(error: &Error) -> Plan {
    match error {
        Error::Closed(closed) => of_close(closed.code),
        Error::Upgrade { status: 401 | 403, .. } => Plan::NewToken,
        Error::Upgrade { status, retry_after, .. } if *status == 429 || *status >= 500 => {
            Plan::Resume { after: retry_after.unwrap_or_default() }
        }
        Error::Connect { .. } | Error::Timeout { .. } => AT_ONCE,
        Error::Upgrade { .. }
        | Error::Handshake(_)
        | Error::Url { .. }
        | Error::Refused(_)
        | Error::Full { .. }
        | Error::GivenUp { .. }
        | Error::Encode(_) => Plan::End,
    }
}

/// The end of a session for want of a connection, as a close.
pub(crate) fn closed(error: &Error) -> Closed {
    let code = match error {
        Error::Closed(closed) => return closed.clone(),
        Error::Upgrade { status: 401 | 403, .. } => 4_001,
        Error::Upgrade { .. }
        | Error::Url { .. }
        | Error::Connect { .. }
        | Error::Handshake(_)
        | Error::Timeout { .. }
        | Error::Refused(_)
        | Error::Full { .. }
        | Error::GivenUp { .. }
        | Error::Encode(_) => 1_006,
    };
    Closed { code, reason: error.to_string() }
}

#[cfg(test)]
mod tests {
    use roomcast_protocol::codes::Close;

    use super::*;

    #[test]
    fn every_close_of_a_node_has_its_plan() {
        for close in Close::ALL {
            let expected = match close {
                Close::Normal
                | Close::Protocol
                | Close::BadText
                | Close::Flood
                | Close::TooLarge
                | Close::Replaced
                | Close::Disconnected => Plan::End,
                Close::AuthenticationFailed | Close::Unauthorized => Plan::NewToken,
                Close::Stopping
                | Close::Silent
                | Close::Drain
                | Close::Slow
                | Close::Limit
                | Close::Moved => AT_ONCE,
                Close::GapTooOld => Plan::Afresh,
            };
            assert_eq!(of_close(close.row().code), expected, "{close:?}");
        }
    }

    #[test]
    fn codes_yet_to_come_are_understood_by_their_range() {
        for (code, expected) in [
            (4_099, Plan::NewToken),
            (4_199, Plan::End),
            (4_299, AT_ONCE),
            (4_399, Plan::Afresh),
            (4_400, Plan::End),
            (1_006, AT_ONCE),
            (3_000, Plan::End),
        ] {
            assert_eq!(of_close(code), expected, "{code}");
        }
    }

    #[test]
    fn an_upgrade_refused_says_when_to_come_back_or_that_it_is_vain() {
        let refused = |status, seconds: Option<u64>| Error::Upgrade {
            status,
            body: String::new(),
            retry_after: seconds.map(Duration::from_secs),
        };
        let after = |seconds| Plan::Resume { after: Duration::from_secs(seconds) };
        for (status, seconds, expected) in [
            (503, Some(3), after(3)),
            (429, None, after(0)),
            (401, None, Plan::NewToken),
            (403, None, Plan::NewToken),
            (404, None, Plan::End),
            (400, Some(1), Plan::End),
        ] {
            assert_eq!(of_error(&refused(status, seconds)), expected, "{status}");
        }
        assert_eq!(closed(&refused(403, None)).code, 4_001);
        assert_eq!(closed(&refused(404, None)).code, 1_006);
    }
}
