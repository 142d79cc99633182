//! The opening handshake, RFC 6455 4.2, the server's side: checks a request strictly and builds the 101. Which
//! subprotocol is chosen, and whether the client may enter at all, is decided by others; extensions are never
//! agreed to.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{
    ALLOW, AsHeaderName, CONNECTION, HeaderMap, HeaderValue, SEC_WEBSOCKET_ACCEPT,
    SEC_WEBSOCKET_EXTENSIONS, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION,
    UPGRADE,
};
use hyper::{Method, Request, Response, StatusCode, Version};
use sha1::{Digest as _, Sha1};

use crate::transport::problem::problem;

/// What is hashed behind the client's key (RFC 6455 1.3).
const MAGIC: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// Subprotocols that one request may offer.
const SUBPROTOCOLS_MAX: usize = 32;

/// A request that is a proper WebSocket handshake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// The subprotocols offered, in the client's order. Bounds: 32.
    pub subprotocols: Vec<Box<str>>,
    key: HeaderValue,
    subprotocol: Option<&'static str>,
}

/// Why a request is no proper WebSocket handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rejected {
    /// Not GET.
    #[error("a WebSocket handshake is a GET request")]
    Method,
    /// Not HTTP/1.1.
    #[error("a WebSocket handshake needs HTTP/1.1; a proxy before this server may speak 1.0 to it")]
    HttpVersion,
    /// No `Upgrade: websocket`.
    #[error("this address speaks WebSocket: send `Upgrade: websocket`, or use a WebSocket client")]
    Upgrade,
    /// No `Connection: Upgrade`.
    #[error("send `Connection: Upgrade`; a proxy before this server may have taken it away")]
    Connection,
    /// Another protocol version, or none.
    #[error("send `Sec-WebSocket-Version: 13`")]
    Version,
    /// No key, several, or not 16 bytes in base64.
    #[error("send one `Sec-WebSocket-Key` of exactly 16 bytes in base64")]
    Key,
    /// Subprotocols that are no tokens, repeat themselves, or are too many.
    #[error("send `Sec-WebSocket-Protocol` as at most 32 different tokens, separated by commas")]
    Subprotocol,
    /// Extensions that cannot be read.
    #[error("send `Sec-WebSocket-Extensions` as RFC 6455 9.1 writes it, or leave it out")]
    Extensions,
}

impl Rejected {
    /// The status of the answer.
    #[must_use]
    pub const fn status(self) -> StatusCode {
        match self {
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::HttpVersion => StatusCode::HTTP_VERSION_NOT_SUPPORTED,
            Self::Upgrade | Self::Version => StatusCode::UPGRADE_REQUIRED,
            Self::Connection | Self::Key | Self::Subprotocol | Self::Extensions => {
                StatusCode::BAD_REQUEST
            }
        }
    }

    /// The whole answer.
    #[must_use]
    pub fn response(self) -> Response<Full<Bytes>> {
        let mut response = problem(self.status(), "No WebSocket handshake", &self.to_string());
        let headers = response.headers_mut();
        match self {
            Self::Method => {
                headers.insert(ALLOW, HeaderValue::from_static("GET"));
            }
            Self::Upgrade => {
                headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
                headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
            }
            Self::Version => {
                headers.insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
                headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
                headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
            }
            Self::HttpVersion
            | Self::Connection
            | Self::Key
            | Self::Subprotocol
            | Self::Extensions => {}
        }
        response
    }
}

impl Accepted {
    /// Chooses the subprotocol that the answer names; one that was not offered is left out (RFC 6455 4.2.2).
    #[must_use]
    pub fn with_subprotocol(mut self, subprotocol: Option<&'static str>) -> Self {
        self.subprotocol =
            subprotocol.filter(|name| self.subprotocols.iter().any(|offer| **offer == **name));
        self
    }

    /// The 101.
    #[must_use]
    pub fn response(self) -> Response<Full<Bytes>> {
        let mut response = Response::new(Full::new(Bytes::new()));
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = response.headers_mut();
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(SEC_WEBSOCKET_ACCEPT, self.key);
        if let Some(name) = self.subprotocol {
            headers.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(name));
        }
        response
    }
}

/// Checks a request.
///
/// # Errors
/// One for each rule of RFC 6455 4.2.1, in the order of [`Rejected`].
pub fn check<B>(request: &Request<B>) -> Result<Accepted, Rejected> {
    let headers = request.headers();
    let ensure = |holds, otherwise| if holds { Ok(()) } else { Err(otherwise) };
    ensure(request.method() == Method::GET, Rejected::Method)?;
    ensure(request.version() == Version::HTTP_11, Rejected::HttpVersion)?;
    ensure(has_token(headers, UPGRADE, "websocket"), Rejected::Upgrade)?;
    ensure(has_token(headers, CONNECTION, "upgrade"), Rejected::Connection)?;
    let version = only(headers, SEC_WEBSOCKET_VERSION).ok_or(Rejected::Version)?;
    ensure(version.as_bytes() == b"13", Rejected::Version)?;
    let key = only(headers, SEC_WEBSOCKET_KEY).and_then(accept_key).ok_or(Rejected::Key)?;
    let subprotocols = subprotocols(headers).ok_or(Rejected::Subprotocol)?;
    ensure(extensions_are_readable(headers), Rejected::Extensions)?;
    Ok(Accepted { subprotocols, key, subprotocol: None })
}

/// The header's only line, if it has exactly one.
fn only(headers: &HeaderMap, name: impl AsHeaderName) -> Option<&HeaderValue> {
    let mut lines = headers.get_all(name).into_iter();
    let line = lines.next()?;
    lines.next().is_none().then_some(line)
}

fn accept_key(key: &HeaderValue) -> Option<HeaderValue> {
    if !STANDARD.decode(key.as_bytes()).is_ok_and(|bytes| bytes.len() == 16) {
        return None;
    }
    let hash = Sha1::new().chain_update(key.as_bytes()).chain_update(MAGIC).finalize();
    HeaderValue::try_from(STANDARD.encode(hash)).ok()
}

/// The elements of a comma-separated header over all its lines. A line that is no text is one that no rule allows.
fn elements(headers: &HeaderMap, name: impl AsHeaderName) -> impl Iterator<Item = &str> {
    headers
        .get_all(name)
        .into_iter()
        .flat_map(|line| line.to_str().unwrap_or("\u{fffd}").split(','))
        .map(|element| element.trim_matches([' ', '\t']))
        .filter(|element| !element.is_empty()) // RFC 9110 5.6.1: empty elements are skipped
}

fn has_token(headers: &HeaderMap, name: impl AsHeaderName, token: &str) -> bool {
    elements(headers, name).any(|element| element.eq_ignore_ascii_case(token))
}

fn subprotocols(headers: &HeaderMap) -> Option<Vec<Box<str>>> {
    let mut names: Vec<Box<str>> = Vec::new();
    for name in elements(headers, SEC_WEBSOCKET_PROTOCOL) {
        let is_new = names.iter().all(|known| **known != *name);
        if !is_token(name) || !is_new || names.len() == SUBPROTOCOLS_MAX {
            return None;
        }
        names.push(name.into());
    }
    Some(names)
}

/// RFC 6455 9.1. A quoted value must be a token as well, so that commas and semicolons only ever separate.
fn extensions_are_readable(headers: &HeaderMap) -> bool {
    elements(headers, SEC_WEBSOCKET_EXTENSIONS).all(|extension| {
        let mut parts = extension.split(';').map(|part| part.trim_matches([' ', '\t']));
        parts.next().is_some_and(is_token)
            && parts.all(|parameter| match parameter.split_once('=') {
                None => is_token(parameter),
                Some((name, value)) => {
                    let quoted = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
                    is_token(name) && is_token(quoted.unwrap_or(value))
                }
            })
    })
}

/// RFC 9110 5.6.2.
fn is_token(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==";
    const GOOD: [&str; 4] =
        ["Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13", KEY];

    fn request(lines: &[&str]) -> Request<()> {
        let mut request = Request::builder().uri("/ws");
        for line in lines {
            let (name, value) = line.split_once(": ").unwrap();
            request = request.header(name, value);
        }
        request.body(()).unwrap()
    }

    fn with(line: &'static str) -> Vec<&'static str> {
        GOOD.into_iter().chain([line]).collect()
    }

    /// The good request with the line of that number replaced.
    fn replaced(index: usize, line: &'static str) -> Vec<&'static str> {
        let mut lines = GOOD.to_vec();
        lines[index] = line;
        lines
    }

    fn without(index: usize) -> Vec<&'static str> {
        let mut lines = GOOD.to_vec();
        lines.remove(index);
        lines
    }

    #[track_caller]
    fn check_rejected(lines: &[&str], expected: Rejected, status: u16) {
        let rejected = check(&request(lines)).unwrap_err();
        assert_eq!(rejected, expected);
        assert_eq!(rejected.response().status(), status);
    }

    #[test]
    fn the_key_of_the_rfc_gets_the_answer_of_the_rfc() {
        let response = check(&request(&GOOD)).unwrap().response();
        assert_eq!(response.status(), 101);
        let headers = response.headers();
        assert_eq!(headers[SEC_WEBSOCKET_ACCEPT], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert_eq!(headers[UPGRADE], "websocket");
        assert_eq!(headers[CONNECTION], "Upgrade");
        assert_eq!(headers.len(), 3);
    }

    #[test]
    fn tokens_are_found_in_lists_and_in_any_case() {
        let lines = [
            "Upgrade: h2c, WebSocket",
            "Connection: keep-alive",
            "Connection: UPGRADE",
            "Sec-WebSocket-Version: 13",
            KEY,
        ];
        check(&request(&lines)).unwrap();
    }

    #[test]
    fn only_get_in_http_1_1_is_a_handshake() {
        let mut post = request(&GOOD);
        *post.method_mut() = Method::POST;
        assert_eq!(check(&post), Err(Rejected::Method));
        let answer = Rejected::Method.response();
        assert_eq!(
            (answer.status().as_u16(), &answer.headers()[ALLOW]),
            (405, &"GET".parse().unwrap())
        );
        let mut old = request(&GOOD);
        *old.version_mut() = Version::HTTP_10;
        assert_eq!(check(&old), Err(Rejected::HttpVersion));
    }

    #[test]
    fn upgrade_and_connection_must_name_the_upgrade() {
        check_rejected(&without(0), Rejected::Upgrade, 426);
        check_rejected(&replaced(0, "Upgrade: websockets"), Rejected::Upgrade, 426);
        check_rejected(&without(1), Rejected::Connection, 400);
        check_rejected(&replaced(1, "Connection: keep-alive"), Rejected::Connection, 400);
        assert_eq!(Rejected::Upgrade.response().headers()[UPGRADE], "websocket");
    }

    #[test]
    fn another_version_is_told_which_one_to_use() {
        check_rejected(&without(2), Rejected::Version, 426);
        check_rejected(&replaced(2, "Sec-WebSocket-Version: 12"), Rejected::Version, 426);
        check_rejected(&replaced(2, "Sec-WebSocket-Version: 13, 8"), Rejected::Version, 426);
        check_rejected(&with("Sec-WebSocket-Version: 13"), Rejected::Version, 426);
        assert_eq!(Rejected::Version.response().headers()[SEC_WEBSOCKET_VERSION], "13");
    }

    #[test]
    fn the_key_is_16_bytes_once() {
        check_rejected(&without(3), Rejected::Key, 400);
        check_rejected(&with(KEY), Rejected::Key, 400);
        for key in [
            "Sec-WebSocket-Key: x",
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ",
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub24=",
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZSE=",
            "Sec-WebSocket-Key: ========================",
        ] {
            check_rejected(&replaced(3, key), Rejected::Key, 400);
        }
    }

    #[test]
    fn the_chosen_subprotocol_is_one_of_those_offered() {
        let mut lines = with("Sec-WebSocket-Protocol: a.v1 , b.v1,");
        lines.push("Sec-WebSocket-Protocol: constructor");
        let accepted = check(&request(&lines)).unwrap();
        assert_eq!(accepted.subprotocols, ["a.v1", "b.v1", "constructor"].map(Box::<str>::from));
        let chosen = accepted.clone().with_subprotocol(Some("b.v1")).response();
        assert_eq!(chosen.headers()[SEC_WEBSOCKET_PROTOCOL], "b.v1");
        for other in [None, Some("c.v1")] {
            let none = accepted.clone().with_subprotocol(other).response();
            assert!(!none.headers().contains_key(SEC_WEBSOCKET_PROTOCOL));
        }
    }

    #[test]
    fn odd_subprotocols_are_refused() {
        check_rejected(&with("Sec-WebSocket-Protocol: a b"), Rejected::Subprotocol, 400);
        check_rejected(&with("Sec-WebSocket-Protocol: a, a"), Rejected::Subprotocol, 400);
        check_rejected(&with("Sec-WebSocket-Protocol: \"a\""), Rejected::Subprotocol, 400);
        check_rejected(&with("Sec-WebSocket-Protocol: grün"), Rejected::Subprotocol, 400);
        let many: Vec<String> = (0..33).map(|index| format!("p{index}")).collect();
        let line = |count: usize| format!("Sec-WebSocket-Protocol: {}", many[..count].join(","));
        let (most, more) = (line(32), line(33));
        let mut lines = GOOD.to_vec();
        lines.push(&most);
        assert_eq!(check(&request(&lines)).unwrap().subprotocols.len(), 32);
        lines[4] = &more;
        check_rejected(&lines, Rejected::Subprotocol, 400);
    }

    #[test]
    fn extensions_are_read_and_never_agreed_to() {
        let line =
            "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits; x=\"10\", y";
        let response = check(&request(&with(line))).unwrap().response();
        assert!(!response.headers().contains_key(SEC_WEBSOCKET_EXTENSIONS));
        for odd in [
            "Sec-WebSocket-Extensions: ;",
            "Sec-WebSocket-Extensions: a;",
            "Sec-WebSocket-Extensions: a; b=",
            "Sec-WebSocket-Extensions: a; b=\"",
            "Sec-WebSocket-Extensions: a; b=\"c d\"",
            "Sec-WebSocket-Extensions: a b",
        ] {
            check_rejected(&with(odd), Rejected::Extensions, 400);
        }
    }
}
