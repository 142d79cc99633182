//! Who may use the server API: whoever has a key; in `--dev` whoever is on this machine, but no page of another site
//! that a browser of this machine happens to show.

use hyper::HeaderMap;
use hyper::header::{self, AsHeaderName};
use roomcast_protocol::codes::Refusal;
use roomcast_protocol::room::RoomName;

use super::problem::Problem;
use super::route::Route;
use crate::config::Scope;

/// Who asks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Caller<'a> {
    /// The name of the key.
    pub(super) name: &'a str,
    /// What the key is good for.
    pub(super) scope: &'a Scope,
}

impl Caller<'_> {
    /// Checks that the key is good for what is asked: for its action, and for the room that the path names. Rooms that
    /// a body names are checked with each publication.
    ///
    /// # Errors
    /// 403 says which action is missing; where it is the room, that says no more than for one that does not exist.
    pub(super) fn check(&self, route: &Route) -> Result<(), Problem> {
        let Some((action, room)) = route.needs() else { return Ok(()) };
        if !self.scope.may(action) {
            return Err(Problem::no_action(action));
        }
        // A bad name is told as such by whoever reads it.
        let room = room.and_then(|room| RoomName::parse(room).ok());
        if room.is_some_and(|room| !self.scope.reaches(&room)) {
            return Err(Refusal::PermissionDenied.into());
        }
        Ok(())
    }
}

/// The key that a request brings. Source: RFC 6750 2.1; the scheme's case does not count (RFC 9110 11.1).
pub(super) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, key) = only(headers, header::AUTHORIZATION)?.trim().split_once(' ')?;
    let key = key.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !key.is_empty()).then_some(key)
}

/// Whether a request was meant for this machine: its `Host` is loopback (else another name was pointed here, DNS
/// rebinding), and so is its `Origin`, if it has one (else another site's page sent it).
pub(super) fn is_local(headers: &HeaderMap) -> bool {
    let host = only(headers, header::HOST).is_some_and(is_loopback_host);
    let origin = !headers.contains_key(header::ORIGIN)
        || only(headers, header::ORIGIN).is_some_and(is_loopback_origin);
    host && origin
}

/// Whether a `Host` names this machine: `127.0.0.1`, `[::1]` or `localhost`, with any port.
pub(crate) fn is_loopback_host(host: &str) -> bool {
    let (name, port) = match host.rfind(':') {
        Some(at) if !host.ends_with(']') => {
            let (name, port) = host.split_at(at);
            (name, port.strip_prefix(':'))
        }
        Some(_) | None => (host, None),
    };
    let sound =
        |port: &str| port.bytes().all(|it| it.is_ascii_digit()) && port.parse::<u16>().is_ok();
    port.is_none_or(sound)
        && (name == "127.0.0.1" || name == "[::1]" || name.eq_ignore_ascii_case("localhost"))
}

/// Whether an `Origin` is a page of this machine.
pub(crate) fn is_loopback_origin(origin: &str) -> bool {
    let host = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
    host.is_some_and(is_loopback_host)
}

/// A header's value, if it stands exactly once and is text.
pub(super) fn only(headers: &HeaderMap, name: impl AsHeaderName) -> Option<&str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?.to_str().ok()?;
    values.next().is_none().then_some(value)
}

#[cfg(test)]
mod tests {
    use hyper::header::{HeaderName, HeaderValue};

    use super::*;

    fn headers(pairs: &[(HeaderName, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(name, HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn only_loopback_hosts_are_local() {
        for host in
            ["127.0.0.1", "127.0.0.1:9090", "[::1]", "[::1]:1", "localhost", "LOCALHOST:65535"]
        {
            assert!(is_loopback_host(host), "{host}");
            assert!(is_local(&headers(&[(header::HOST, host)])), "{host}");
        }
        for host in [
            "",
            "::1",
            "127.0.0.1.evil.example",
            "localhost.evil.example:80",
            "evil.example:127.0.0.1",
            "127.0.0.1:",
            "127.0.0.1:x",
            "127.0.0.1:65536",
            "127.0.0.1:+1",
            "127.0.0.1:80:80",
            "user@localhost",
            "192.168.0.1",
            "0.0.0.0:9090",
        ] {
            assert!(!is_loopback_host(host), "{host}");
        }
    }

    #[test]
    fn a_request_without_one_host_or_from_another_site_is_not_local() {
        let host = (header::HOST, "localhost:9090");
        assert!(!is_local(&headers(&[])));
        assert!(!is_local(&headers(&[host.clone(), host.clone()])));
        for (origin, local) in [
            ("http://localhost:8080", true),
            ("https://[::1]", true),
            ("http://evil.example", false),
            ("http://localhost.evil.example", false),
            ("null", false),
            ("file://", false),
            ("", false),
        ] {
            let given = headers(&[host.clone(), (header::ORIGIN, origin)]);
            assert_eq!(is_local(&given), local, "{origin}");
        }
    }

    #[test]
    fn the_key_is_what_stands_behind_bearer() {
        for (value, key) in [
            ("Bearer secret", Some("secret")),
            ("bearer  secret ", Some("secret")),
            ("Basic secret", None),
            ("Bearer", None),
            ("Bearer ", None),
            ("secret", None),
        ] {
            assert_eq!(bearer(&headers(&[(header::AUTHORIZATION, value)])), key, "{value}");
        }
        let twice = (header::AUTHORIZATION, "Bearer secret");
        assert_eq!(bearer(&headers(&[twice.clone(), twice])), None);
        assert_eq!(bearer(&headers(&[])), None);
    }
}
