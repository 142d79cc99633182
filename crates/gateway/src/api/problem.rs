//! Errors as problem details (RFC 9457): one table from refusals to HTTP, so that a back-end reads the same code, name
//! and limit over HTTP as a client does on a socket. Never holds a payload, a key or a token.

use std::borrow::Cow;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::{Response, StatusCode};
use roomcast_protocol::codes::{Refusal, Refused};
use roomcast_protocol::limits::LimitName;
use serde::Serialize;

use crate::config::Action;

/// When to try again where nobody knows better. Units: milliseconds.
const RETRY_AFTER_MS: u64 = 1_000;

/// An error on its way out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    status: StatusCode,
    detail: Cow<'static, str>,
    refusal: Option<Refusal>,
    limit: Option<(LimitName, u64)>,
    retry_after_ms: Option<u64>,
    /// Nobody knows whether what was asked has happened.
    unknown: bool,
    header: Option<(HeaderName, &'static str)>,
    /// The connection's bytes are no good any more.
    closes: bool,
}

/// The members of the JSON object, in their order.
#[derive(Serialize)]
pub(super) struct Body<'a> {
    r#type: &'static str,
    title: &'static str,
    status: u16,
    detail: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    limit: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    outcome: Option<&'static str>,
}

impl Problem {
    /// A problem of plain HTTP, without a refusal's code.
    pub(crate) const fn new(status: StatusCode, detail: Cow<'static, str>) -> Self {
        Self {
            status,
            detail,
            refusal: None,
            limit: None,
            retry_after_ms: None,
            unknown: false,
            header: None,
            closes: false,
        }
    }

    /// Nothing is served there.
    pub(crate) const fn not_found() -> Self {
        Self::new(StatusCode::NOT_FOUND, Cow::Borrowed("Nothing is served at this path"))
    }

    /// Something is served there, but not with this method.
    pub(crate) fn method(allow: &'static str) -> Self {
        let detail = Cow::Borrowed("This path takes other methods; see the Allow header");
        let mut problem = Self::new(StatusCode::METHOD_NOT_ALLOWED, detail);
        problem.header = Some((header::ALLOW, allow));
        problem
    }

    /// No key, or none that is known: the same text for both (attack 37).
    pub(crate) fn no_key() -> Self {
        let detail =
            Cow::Borrowed("This needs a key of the configuration: Authorization: Bearer <key>");
        let mut problem = Self::new(StatusCode::UNAUTHORIZED, detail);
        problem.header = Some((header::WWW_AUTHENTICATE, "Bearer realm=\"roomcast\""));
        problem
    }

    /// The key is not good for this action.
    pub(crate) fn no_action(action: Action) -> Self {
        let name = action.name();
        let mut problem = Self::from(Refusal::PermissionDenied);
        problem.detail = format!("This key's `actions` do not have {name:?}").into();
        problem
    }

    /// The core did not say in time what became of it; `detail` says what to do.
    pub(crate) const fn unknown_outcome(detail: &'static str) -> Self {
        let mut problem = Self::new(StatusCode::GATEWAY_TIMEOUT, Cow::Borrowed(detail));
        problem.unknown = true;
        problem
    }

    /// The same, and the connection ends: its body was not read to the end.
    pub(crate) const fn and_close(mut self) -> Self {
        self.closes = true;
        self
    }

    /// Its HTTP status.
    #[cfg(test)]
    pub(crate) const fn status(&self) -> StatusCode {
        self.status
    }

    /// The refusal behind it, and the limit behind that.
    pub(crate) const fn cause(&self) -> Option<(Refusal, Option<LimitName>)> {
        match (self.refusal, self.limit) {
            (Some(refusal), Some((limit, _))) => Some((refusal, Some(limit))),
            (Some(refusal), None) => Some((refusal, None)),
            (None, _) => None,
        }
    }

    /// What it says.
    pub(super) fn body(&self) -> Body<'_> {
        let row = self.refusal.map(Refusal::row);
        Body {
            r#type: "about:blank",
            title: self.status.canonical_reason().unwrap_or_default(),
            status: self.status.as_u16(),
            detail: &self.detail,
            code: row.map(|row| row.code),
            name: row.map(|row| row.name),
            retry: row.map(|row| row.retry),
            retry_after_ms: self.retry_after_ms,
            limit: self.limit.map(|(limit, _)| limit.name()),
            value: self.limit.map(|(_, value)| value),
            outcome: self.unknown.then_some("unknown"),
        }
    }

    /// The answer, as `application/problem+json`.
    pub(crate) fn response(&self) -> Response<Full<Bytes>> {
        let mut response = super::answer::json(self.status, &self.body());
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some((name, value)) = &self.header {
            headers.insert(name, HeaderValue::from_static(value));
        }
        if let Some(ms) = self.retry_after_ms {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(ms.div_ceil(1_000).max(1)));
        }
        if self.closes {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

impl From<Refused> for Problem {
    fn from(refused: Refused) -> Self {
        let Refused { refusal, message, limit, retry_after_ms, unknown: _ } = refused;
        let status = match refusal {
            Refusal::BadJson | Refusal::UnknownType | Refusal::Schema | Refusal::BadName => {
                StatusCode::BAD_REQUEST
            }
            Refusal::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Refusal::PermissionDenied => StatusCode::FORBIDDEN,
            Refusal::RateLimit | Refusal::Limit => StatusCode::TOO_MANY_REQUESTS,
            Refusal::Duplicate => StatusCode::CONFLICT,
            Refusal::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            Refusal::UpstreamFailed => StatusCode::BAD_GATEWAY,
            Refusal::BreakerOpen => StatusCode::SERVICE_UNAVAILABLE,
            Refusal::StorageFull => StatusCode::INSUFFICIENT_STORAGE,
        };
        let row = refusal.row();
        // Whatever the reason, one text: it must not tell whether the room exists (attack 23).
        let denied = refusal == Refusal::PermissionDenied;
        let detail = if denied { Cow::Borrowed(row.text) } else { message };
        let mut problem = Self::new(status, detail);
        problem.refusal = Some(refusal);
        problem.limit = limit;
        problem.retry_after_ms = retry_after_ms.or_else(|| row.retry.then_some(RETRY_AFTER_MS));
        problem
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        Refused::from(refusal).into()
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;
    use serde_json::{Value, json};

    use super::*;

    /// The body of a response.
    pub(super) fn body_of(response: Response<Full<Bytes>>) -> Value {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let collected = runtime.block_on(response.into_body().collect()).unwrap();
        serde_json::from_slice(&collected.to_bytes()).unwrap()
    }

    #[track_caller]
    fn check(refused: impl Into<Refused>, status: u16, retry_after: Option<&str>) {
        let problem = Problem::from(refused.into());
        let (refusal, _) = problem.cause().unwrap();
        let response = problem.response();
        assert_eq!(response.status().as_u16(), status);
        let headers = response.headers();
        assert_eq!(headers[header::CONTENT_TYPE], "application/problem+json");
        let shown = headers.get(header::RETRY_AFTER).map(|value| value.to_str().unwrap());
        assert_eq!(shown, retry_after);
        let body = body_of(response);
        assert_eq!(body["status"], status);
        assert_eq!(body["code"], refusal.row().code);
        assert_eq!(body["name"], refusal.row().name);
        assert_eq!(body["retry"], refusal.row().retry);
    }

    #[test]
    fn every_refusal_has_its_status() {
        check(Refusal::BadJson, 400, None);
        check(Refusal::UnknownType, 400, None);
        check(Refusal::Schema, 400, None);
        check(Refusal::TooLarge, 413, None);
        check(Refusal::BadName, 400, None);
        check(Refusal::PermissionDenied, 403, None);
        check(Refusal::RateLimit, 429, Some("1"));
        check(Refusal::Limit, 429, None);
        check(Refusal::Duplicate, 409, None);
        check(Refusal::Unavailable, 503, Some("1"));
        check(Refusal::StorageFull, 507, None);
    }

    #[test]
    fn a_limits_refusal_names_limit_value_and_when_to_retry() {
        let refused =
            Refused::limit(Refusal::RateLimit, LimitName::MessagesPerUser, 100, Some(1_001));
        check(refused.clone(), 429, Some("2"));
        let body = body_of(Problem::from(refused).response());
        assert_eq!(
            body,
            json!({
                "type": "about:blank", "title": "Too Many Requests", "status": 429,
                "detail": "The limit messages_per_minute is 100", "code": 120, "name": "rate_limit",
                "retry": true, "retry_after_ms": 1_001, "limit": "messages_per_minute", "value": 100
            })
        );
    }

    #[test]
    fn a_denial_says_the_same_whatever_its_reason() {
        let reason = Refused::because(Refusal::PermissionDenied, "no such room".into());
        let denied = Problem::from(Refusal::PermissionDenied);
        assert_eq!(body_of(Problem::from(reason).response()), body_of(denied.response()));
    }

    #[test]
    fn an_unknown_outcome_is_504_and_no_refusal() {
        let problem = Problem::unknown_outcome("who knows");
        assert_eq!((problem.status().as_u16(), problem.cause()), (504, None));
        let body = body_of(problem.response());
        assert_eq!((&body["outcome"], &body["code"]), (&json!("unknown"), &Value::Null));
    }

    #[test]
    fn plain_problems_carry_their_headers() {
        let response = Problem::method("GET, HEAD").and_close().response();
        assert_eq!(response.status(), 405);
        assert_eq!(response.headers()[header::ALLOW], "GET, HEAD");
        assert_eq!(response.headers()[header::CONNECTION], "close");
        let response = Problem::no_key().response();
        assert_eq!(response.status(), 401);
        assert_eq!(response.headers()[header::WWW_AUTHENTICATE], "Bearer realm=\"roomcast\"");
        assert_eq!(Problem::not_found().response().status(), 404);
    }
}
