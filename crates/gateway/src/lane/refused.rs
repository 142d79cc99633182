//! Upgrades that are refused: as problem details (RFC 9457) that name the limit and its value, or the mend.

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use hyper::{Response, StatusCode};
use roomcast_protocol::codes::Refusal as Code;
use roomcast_protocol::dialect::Declined;
use roomcast_protocol::limits::LimitName;
use serde_json::json;

use crate::api::access::is_loopback_origin;
use crate::transport::problem::{PROBLEM_JSON, problem};
use crate::transport::websocket::handshake::Rejected;

/// How soon a refused client may try again. Units: seconds.
pub(super) const RETRY_AFTER_S: u32 = 5;

/// The same while the node drains: at another node at once. Units: seconds.
const DRAIN_RETRY_S: u32 = 1;

/// A refusal before a session began.
pub(super) type Refusal = Box<Response<Full<Bytes>>>;

/// The page's origin is not on the list (reliability: cross-site WebSocket hijacking).
pub(super) fn bad_origin(status: StatusCode, mend: &str) -> Refusal {
    let detail = format!("pages of this origin may not connect: an operator {mend}");
    let mut response = problem(status, "Origin not allowed", &detail);
    if status == StatusCode::METHOD_NOT_ALLOWED {
        // RFC 9110 15.5.6 asks for it.
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET"));
    }
    Box::new(response)
}

/// What its dialect cannot take.
pub(super) fn declined(why: &Declined) -> Refusal {
    let (title, detail) = match why {
        Declined::Subprotocol => {
            ("No such subprotocol", "ask for roomcast.v1.json or roomcast.v1.msgpack, or for none")
        }
        Declined::Query(detail) => ("Bad query", &**detail),
        Declined::Header(detail) => ("Bad header", &**detail),
    };
    Box::new(problem(StatusCode::BAD_REQUEST, title, detail))
}

/// The token is no good, or there is none, in the words of the chat protocol.
pub(super) fn bad_token(error: &str) -> Refusal {
    let mut response = Response::new(Full::new(Bytes::from(json!({ "error": error }).to_string())));
    *response.status_mut() = StatusCode::UNAUTHORIZED;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    // RFC 9110 15.5.2 asks for it.
    headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    Box::new(response)
}

/// What is no handshake; `plainly`: whoever asks for no upgrade is told in the words of the chat protocol.
pub(super) fn no_handshake(rejected: Rejected, plainly: bool) -> Refusal {
    let mut response = rejected.response();
    if plainly && rejected == Rejected::Upgrade {
        *response.body_mut() = Full::new(Bytes::from_static(b"Expected WebSocket Upgrade"));
        let text = HeaderValue::from_static("text/plain; charset=utf-8");
        response.headers_mut().insert(CONTENT_TYPE, text);
    }
    Box::new(response)
}

/// The node lets its clients go: another one serves.
pub(super) fn draining() -> Refusal {
    let detail =
        "this node is being replaced: connect again, and the balancer leads to another one";
    unavailable("The node is draining", detail, DRAIN_RETRY_S)
}

/// Nobody knows yet which tokens are revoked.
pub(super) fn not_yet() -> Refusal {
    let detail = "this node has not read yet which tokens are revoked: connect again";
    unavailable("The node is not ready", detail, DRAIN_RETRY_S)
}

/// Something is missing for now.
pub(super) fn unavailable(title: &str, detail: &str, retry_after_s: u32) -> Refusal {
    let row = Code::Unavailable.row();
    let body = json!({
        "title": title,
        "status": StatusCode::SERVICE_UNAVAILABLE.as_u16(),
        "detail": detail,
        "code": row.code,
        "name": row.name,
        "retry_after_ms": retry_after_s * 1_000,
    });
    with_retry(StatusCode::SERVICE_UNAVAILABLE, &body, retry_after_s)
}

/// A limit on connections is reached: 429, or 503 where it is the node's.
pub(super) fn over_limit(limit: LimitName, value: usize) -> Refusal {
    let of_node = limit == LimitName::Unauthenticated;
    let status =
        if of_node { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::TOO_MANY_REQUESTS };
    let name = limit.name();
    let row = Code::Limit.row();
    let body = json!({
        "title": "A limit is reached",
        "status": status.as_u16(),
        "detail": format!("the limit {name} is {value}: close a connection, or try again later"),
        "code": row.code,
        "name": row.name,
        "limit": name,
        "value": value,
        "retry_after_ms": RETRY_AFTER_S * 1_000,
    });
    with_retry(status, &body, RETRY_AFTER_S)
}

fn with_retry(status: StatusCode, body: &serde_json::Value, retry_after_s: u32) -> Refusal {
    let mut response = Response::new(Full::new(Bytes::from(body.to_string())));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
    headers.insert(RETRY_AFTER, HeaderValue::from(retry_after_s));
    Box::new(response)
}

/// Which pages may connect.
#[derive(Debug)]
pub(crate) struct Origins {
    /// Exactly these; `*`: all.
    pub(crate) listed: Vec<Box<str>>,
    /// Those served from this machine (development).
    pub(crate) loopback: bool,
}

impl Origins {
    /// Whether pages of this origin may connect.
    pub(crate) fn allow(&self, origin: &str) -> bool {
        self.listed.iter().any(|listed| is_meant(listed, origin))
            || self.loopback && is_loopback_origin(origin)
    }
}

/// Whether an entry of a list means this origin: one `*` in it stands for any text that does not end the host's name.
fn is_meant(listed: &str, origin: &str) -> bool {
    let Some((start, end)) = listed.split_once('*') else { return listed == origin };
    let between = origin.strip_prefix(start).and_then(|rest| rest.strip_suffix(end));
    between.is_some_and(|between| listed == "*" || !between.contains('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_listed_origins_are_allowed() {
        let origins = Origins { listed: vec!["https://good.example".into()], loopback: false };
        assert!(origins.allow("https://good.example"));
        for origin in
            ["null", "", "https://good.example.evil", "https://evil", "http://localhost:8080"]
        {
            assert!(!origins.allow(origin), "{origin}");
        }
        let any = Origins { listed: vec!["*".into()], loopback: false };
        assert!(any.allow("https://evil"));
    }

    #[test]
    fn a_star_inside_of_an_origin_stands_for_any_part_of_it() {
        let origins = |listed: &str| Origins { listed: vec![listed.into()], loopback: false };
        let shops = origins("https://*.good.example");
        assert!(shops.allow("https://shop.good.example"));
        assert!(shops.allow("https://a.b.good.example"));
        for origin in [
            "https://good.example",
            "http://shop.good.example",
            "https://shop.good.example.evil",
            "https://evil/.good.example",
            "https://*.good.example.evil",
            "null",
        ] {
            assert!(!shops.allow(origin), "{origin}");
        }
        let ports = origins("http://good.example:*");
        assert!(ports.allow("http://good.example:8080") && !ports.allow("http://good.example"));
        let both = origins("https://ab*ba.example");
        assert!(both.allow("https://abba.example") && !both.allow("https://aba.example"));
    }

    #[test]
    fn development_allows_pages_of_this_machine_alone() {
        let origins = Origins { listed: Vec::new(), loopback: true };
        for origin in ["http://127.0.0.1:8080", "http://localhost", "http://[::1]:9"] {
            assert!(origins.allow(origin), "{origin}");
        }
        for origin in ["http://127.0.0.1.evil", "http://localhost.evil:80", "null"] {
            assert!(!origins.allow(origin), "{origin}");
        }
    }
}
