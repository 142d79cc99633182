//! The terms of an upgrade: which subprotocol is spoken, and the token it brought. Never checks the token.

use roomcast_protocol::command::Continuation;
use roomcast_protocol::dialect::{Encoding, Handshake, Negotiated};
use roomcast_protocol::ids::SessionId;
use roomcast_protocol::inbox::DEVICE_BYTES_MAX;
use roomcast_protocol::session::{ResumeToken, Secret};

use super::{SUBPROTOCOL_JSON, SUBPROTOCOL_MSGPACK};

/// Takes the first subprotocol that is known; none asked for means JSON. `None` if only others are asked for, because
/// browsers fail a connection whose answer selects none of theirs.
pub(super) fn negotiate(handshake: &Handshake) -> Option<Negotiated> {
    let (encoding, subprotocol) = if handshake.subprotocols.is_empty() {
        (Encoding::Json, None)
    } else {
        let (encoding, name) = handshake.subprotocols.iter().find_map(|asked| match &**asked {
            SUBPROTOCOL_JSON => Some((Encoding::Json, SUBPROTOCOL_JSON)),
            SUBPROTOCOL_MSGPACK => Some((Encoding::MessagePack, SUBPROTOCOL_MSGPACK)),
            _ => None,
        })?;
        (encoding, Some(name))
    };
    let token = query_value(&handshake.query, "token=")
        .or_else(|| handshake.authorization.as_deref().and_then(bearer).map(str::to_owned))
        .filter(|token| !token.is_empty())
        .map(String::into_boxed_str);
    Some(Negotiated { encoding, subprotocol, token, continuation: continuation(&handshake.query) })
}

/// How the session is to go on: `resume`, `device` and `handover` of the query. What cannot be meant is ignored, but for a
/// token: that names no session, and the client is told.
fn continuation(query: &str) -> Option<Box<Continuation>> {
    let unknown = ResumeToken { session: SessionId(0), secret: Secret(0) };
    let resume = query_value(query, "resume=").filter(|text| !text.is_empty());
    let resume = resume.map(|text| ResumeToken::parse(&text).unwrap_or(unknown));
    let device = query_value(query, "device=")
        .filter(|device| (1..=DEVICE_BYTES_MAX).contains(&device.len()))
        .map(String::into_boxed_str);
    let hands_over = match query_value(query, "handover=").as_deref() {
        Some("1") => Some(true),
        // Saying no is saying something: the client wants a session of its own.
        Some("0") => Some(false),
        Some(_) | None => None,
    };
    let said = resume.is_some() || device.is_some() || hands_over.is_some();
    let (covered, hands_over) = (Vec::new(), hands_over.unwrap_or_default());
    said.then(|| Box::new(Continuation { resume, covered, device, hands_over }))
}

/// The value of the first pair that begins with `name`, which ends with `=`.
fn query_value(query: &str, name: &str) -> Option<String> {
    let raw = query.split('&').find_map(|pair| pair.strip_prefix(name))?;
    let mut decoded = Vec::with_capacity(raw.len());
    let mut rest = raw.as_bytes();
    while let [first, tail @ ..] = rest {
        let (byte, tail) = match tail {
            [high, low, tail @ ..] if *first == b'%' => match (digit(*high), digit(*low)) {
                (Some(high), Some(low)) => (high << 4 | low, tail),
                _ => (*first, rest.get(1..).unwrap_or_default()),
            },
            _ => (*first, tail),
        };
        decoded.push(byte);
        rest = tail;
    }
    // A token that is not UTF-8 cannot be good: the replacement characters make its check fail.
    Some(String::from_utf8_lossy(&decoded).into_owned())
}

fn digit(hex: u8) -> Option<u8> {
    char::from(hex).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

/// Source: RFC 6750 2.1; the scheme's case does not count (RFC 9110 11.1).
fn bearer(authorization: &str) -> Option<&str> {
    let (scheme, token) = authorization.trim().split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use super::*;

    fn ask(query: &str, subprotocols: &[&str], authorization: Option<&str>) -> Option<Negotiated> {
        negotiate(&Handshake {
            path: "/ws".into(),
            query: query.into(),
            subprotocols: subprotocols.iter().map(|&name| name.into()).collect(),
            authorization: authorization.map(Into::into),
            origin: None,
            client: IpAddr::V4(Ipv4Addr::LOCALHOST),
        })
    }

    #[track_caller]
    fn check(query: &str, authorization: Option<&str>, token: Option<&str>) {
        let agreed = ask(query, &[], authorization).unwrap();
        assert_eq!(agreed.token.as_deref(), token);
    }

    #[test]
    fn the_first_known_subprotocol_is_selected() {
        let agreed = ask("", &["chat", SUBPROTOCOL_MSGPACK, SUBPROTOCOL_JSON], None).unwrap();
        assert_eq!(agreed.encoding, Encoding::MessagePack);
        assert_eq!(agreed.subprotocol, Some(SUBPROTOCOL_MSGPACK));
    }

    #[test]
    fn no_subprotocol_asked_for_means_json_and_none_selected() {
        let agreed = ask("", &[], None).unwrap();
        let plain = Negotiated {
            encoding: Encoding::Json,
            subprotocol: None,
            token: None,
            continuation: None,
        };
        assert_eq!(agreed, plain);
    }

    #[test]
    fn unknown_subprotocols_alone_are_refused() {
        assert_eq!(ask("token=x", &["chat", "roomcast.v2.json"], None), None);
    }

    #[test]
    fn the_query_says_how_the_session_goes_on() {
        let token = format!("{:032x}.{:032x}", 7, 9);
        let agreed = ask(&format!("resume={token}&device=phone%201&handover=1"), &[], None);
        let said = agreed.unwrap().continuation.unwrap();
        assert_eq!(said.resume, ResumeToken::parse(&token));
        assert_eq!(said.device.as_deref(), Some("phone 1"));
        assert!(said.hands_over && said.covered.is_empty());
        let longest = "d".repeat(DEVICE_BYTES_MAX);
        assert!(ask(&format!("device={longest}"), &[], None).unwrap().continuation.is_some());
        for nothing in [&format!("device={longest}d"), "device=", "resume=", "handover=yes"] {
            assert_eq!(ask(nothing, &[], None).unwrap().continuation, None, "{nothing}");
        }
        let said = ask("handover=0", &[], None).unwrap().continuation.unwrap();
        assert_eq!(*said, Continuation::default(), "a session of its own");
        let said = ask("resume=x", &[], None).unwrap().continuation.unwrap();
        let unknown = ResumeToken { session: SessionId(0), secret: Secret(0) };
        assert_eq!(said.resume, Some(unknown), "it is told that there is none");
    }

    #[test]
    fn the_token_comes_from_the_query_or_the_header() {
        check("a=1&token=h.p.s&b=2", None, Some("h.p.s"));
        check("token=a%2Eb%2e%zz%4", None, Some("a.b.%zz%4"));
        check("", Some("Bearer h.p.s"), Some("h.p.s"));
        check("", Some(" bearer  h.p.s "), Some("h.p.s"));
        check("token=query", Some("Bearer header"), Some("query"));
        check("tokens=x&atoken=y", None, None);
        check("token=", Some("Basic eA=="), None);
        check("token=%ff", None, Some("\u{fffd}"));
    }
}
