//! What an answer of the application means for an event, and when to try again. Pure: randomness is an argument.

use hyper::header::RETRY_AFTER;

use crate::upstream::{Answer, CallError};

/// The pause after the first try grows with each; all of it is drawn by lot, so that nodes do not come in step. Units:
/// milliseconds.
const BACKOFF_MIN_MS: u64 = 500;
const BACKOFF_MAX_MS: u64 = 30_000;

/// How long a call is left to others that crowd it. Units: milliseconds.
const CROWDED_MS: u64 = 1_000;

/// What a try came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The application has it.
    Delivered,
    /// It failed; the same may succeed later.
    Again {
        /// What was answered, if anything was.
        status: Option<u16>,
        /// The application wants it no sooner. Units: milliseconds from now.
        after_ms: u64,
    },
    /// It failed, and would again.
    Never {
        /// What was answered.
        status: u16,
    },
    /// It did not leave: the breaker is open, or others crowd the call.
    Held {
        /// Nothing of this webhook leaves sooner. Units: milliseconds from now.
        after_ms: u64,
    },
}

impl Verdict {
    /// What the outcome of a call means.
    pub(super) fn of(outcome: &Result<Answer, CallError>) -> Self {
        match outcome {
            Ok(answer) => Self::of_status(answer),
            Err(CallError::Open { retry_after_ms }) => Self::Held { after_ms: *retry_after_ms },
            Err(CallError::Full | CallError::Late | CallError::Ending) => {
                Self::Held { after_ms: CROWDED_MS }
            }
            Err(CallError::Failed(_)) => Self::Again { status: None, after_ms: 0 },
        }
    }

    fn of_status(answer: &Answer) -> Self {
        match answer.status {
            200..300 => Self::Delivered,
            status @ (408 | 425 | 429 | 500..) => {
                Self::Again { status: Some(status), after_ms: retry_after_ms(answer) }
            }
            status => Self::Never { status },
        }
    }
}

/// `Retry-After` in seconds; 0 where there is none, or it is a date. Units: milliseconds. Source: RFC 9110 10.2.3.
fn retry_after_ms(answer: &Answer) -> u64 {
    let value = answer.headers.get(RETRY_AFTER).and_then(|it| it.to_str().ok());
    let seconds = value.and_then(|it| it.trim().parse::<u64>().ok());
    seconds.unwrap_or(0).saturating_mul(1_000)
}

/// How long to wait after so many failed tries. Units: milliseconds.
pub(super) fn backoff_ms(tries: u32, random: u64) -> u64 {
    let doubled = BACKOFF_MIN_MS.saturating_mul(1 << tries.saturating_sub(1).min(16));
    random % (doubled.min(BACKOFF_MAX_MS) + 1)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;
    use hyper::HeaderMap;

    use super::*;
    use crate::upstream::Failure;

    fn answered(status: u16, retry_after: Option<&'static str>) -> Verdict {
        let mut headers = HeaderMap::new();
        if let Some(value) = retry_after {
            headers.insert(RETRY_AFTER, value.parse().unwrap());
        }
        let (headers, body) = (Arc::new(headers), Bytes::new());
        Verdict::of(&Ok(Answer { status, headers, body, stale: false }))
    }

    #[test]
    fn only_what_may_mend_itself_is_tried_again() {
        for status in [200, 201, 204, 299] {
            assert_eq!(answered(status, None), Verdict::Delivered, "{status}");
        }
        for status in [408, 425, 429, 500, 502, 503, 504, 599] {
            let again = Verdict::Again { status: Some(status), after_ms: 0 };
            assert_eq!(answered(status, None), again, "{status}");
        }
        for status in [301, 307, 400, 401, 403, 404, 409, 410, 413, 422] {
            assert_eq!(answered(status, None), Verdict::Never { status }, "{status}");
        }
        let failed = Verdict::of(&Err(CallError::Failed(Failure::Timeout)));
        assert_eq!(failed, Verdict::Again { status: None, after_ms: 0 });
    }

    #[test]
    fn an_open_breaker_and_a_crowded_call_are_no_try() {
        let open = Verdict::of(&Err(CallError::Open { retry_after_ms: 77 }));
        assert_eq!(open, Verdict::Held { after_ms: 77 });
        for error in [CallError::Full, CallError::Late, CallError::Ending] {
            assert_eq!(Verdict::of(&Err(error)), Verdict::Held { after_ms: CROWDED_MS });
        }
    }

    #[test]
    fn the_application_says_in_seconds_when_it_wants_more() {
        for (value, after_ms) in [
            ("7", 7_000),
            (" 0 ", 0),
            ("-1", 0),
            ("99999999999999999999", 0),
            ("Fri, 31 Dec 2027 23:59:59 GMT", 0),
        ] {
            let again = Verdict::Again { status: Some(429), after_ms };
            assert_eq!(answered(429, Some(value)), again, "{value}");
        }
    }

    #[test]
    fn pauses_double_up_to_half_a_minute_and_are_drawn_by_lot() {
        let longest = |tries: u32| {
            let most = (BACKOFF_MIN_MS << (tries - 1).min(20)).min(BACKOFF_MAX_MS);
            assert_eq!(backoff_ms(tries, most), most, "{tries}");
            assert_eq!(backoff_ms(tries, most + 1), 0, "{tries}");
            most
        };
        let all: Vec<_> = (1..=8).map(longest).collect();
        assert_eq!(all, [500, 1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000]);
        assert_eq!(backoff_ms(u32::MAX, 30_000), 30_000);
    }
}
