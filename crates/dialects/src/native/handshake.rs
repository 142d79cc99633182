//! The terms of an upgrade: which subprotocol is spoken, the token it brought, and how its session goes on. Never checks
//! the token.

use roomcast_protocol::command::Continuation;
use roomcast_protocol::dialect::{Declined, Encoding, Handshake, Negotiated};
use roomcast_protocol::ids::SessionId;
use roomcast_protocol::inbox::DEVICE_BYTES_MAX;
use roomcast_protocol::session::{ResumeToken, Secret};

use super::{SUBPROTOCOL_JSON, SUBPROTOCOL_MSGPACK};

/// What a client is told that says how its session goes on, but not whose it is.
const BESIDE_A_TOKEN: &str = "resume, device and handover stand beside a token: where it comes in the first message, say \
    resume_token, device and handover there";

/// What the query can say of how a session goes on.
const SAID_IN_QUERY: [&str; 3] = ["resume", "device", "handover"];

/// What an `auth` can say, and the query cannot; and what its client is told.
const NOT_IN_QUERY: [(&str, &str); 3] = [
    ("resume_token", "resume_token is named resume in the query"),
    (
        "covered",
        "covered has no place in the query: bring the token in the first message, and covered with it",
    ),
    ("compressed", "compressed has no place in the query: say it in an auth message"),
];

/// Takes the first subprotocol that is known; none asked for means JSON. Only others are declined, because browsers fail
/// a connection whose answer selects none of theirs.
pub(super) fn negotiate(handshake: &Handshake) -> Result<Negotiated, Declined> {
    let (encoding, subprotocol) = if handshake.subprotocols.is_empty() {
        (Encoding::Json, None)
    } else {
        let known = handshake.subprotocols.iter().find_map(|asked| match &**asked {
            SUBPROTOCOL_JSON => Some((Encoding::Json, SUBPROTOCOL_JSON)),
            SUBPROTOCOL_MSGPACK => Some((Encoding::MessagePack, SUBPROTOCOL_MSGPACK)),
            _ => None,
        });
        let (encoding, name) = known.ok_or(Declined::Subprotocol)?;
        (encoding, Some(name))
    };
    check_query(&handshake.query)?;
    let token = query_value(&handshake.query, "token")
        // One that is not UTF-8 cannot be good: the replacement characters make its check fail.
        .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        .or_else(|| handshake.authorization.as_deref().and_then(bearer).map(str::to_owned))
        .filter(|token| !token.is_empty())
        .map(String::into_boxed_str);
    let continuation = continuation(&handshake.query)?;
    if token.is_none() && continuation.is_some() {
        return Err(Declined::Query(BESIDE_A_TOKEN.into()));
    }
    Ok(Negotiated { encoding, subprotocol, token, continuation })
}

/// What says how a session goes on stands there once and says something, and nothing else of that kind does. Other names are
/// passed over: balancers and pages add theirs.
fn check_query(query: &str) -> Result<(), Declined> {
    for (name, told) in NOT_IN_QUERY {
        if raw_values(query, name).next().is_some() {
            return Err(Declined::Query(told.into()));
        }
    }
    for name in SAID_IN_QUERY {
        let mut values = raw_values(query, name);
        if values.next() == Some("") {
            return Err(must_be(name, "left out, or have a value"));
        }
        if values.next().is_some() {
            return Err(must_be(name, "said once"));
        }
    }
    Ok(())
}

/// How the session is to go on: `resume`, `device` and `handover` of the query. What was never a resume token names no
/// session, and the client is told.
fn continuation(query: &str) -> Result<Option<Box<Continuation>>, Declined> {
    let said = |name| query_value(query, name);
    let unknown = ResumeToken { session: SessionId(0), secret: Secret(0) };
    let resume = said("resume").map(|bytes| {
        let text = String::from_utf8(bytes).unwrap_or_default();
        ResumeToken::parse(&text).unwrap_or(unknown)
    });
    let fits = |device: &String| device.len() <= DEVICE_BYTES_MAX;
    let device = said("device").map(|bytes| match String::from_utf8(bytes).ok().filter(fits) {
        Some(device) => Ok(device.into_boxed_str()),
        None => Err(must_be("device", &format!("at most {DEVICE_BYTES_MAX} bytes of UTF-8"))),
    });
    let device = device.transpose()?;
    let hands_over = match said("handover").as_deref() {
        None => None,
        Some(b"1") => Some(true),
        // Saying no is saying something: the client wants a session of its own.
        Some(b"0") => Some(false),
        Some(_) => return Err(must_be("handover", "1 or 0")),
    };
    let is_said = resume.is_some() || device.is_some() || hands_over.is_some();
    let (covered, hands_over) = (Vec::new(), hands_over.unwrap_or_default());
    Ok(is_said.then(|| Box::new(Continuation { resume, covered, device, hands_over })))
}

fn must_be(name: &str, what: &str) -> Declined {
    Declined::Query(format!("{name} in the query must be {what}").into())
}

/// What stands in the query under a name, as it was sent.
fn raw_values<'q>(query: &'q str, name: &str) -> impl Iterator<Item = &'q str> {
    let pairs = query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    pairs.filter(move |(held, _)| *held == name).map(|(_, value)| value)
}

/// The first value of a name.
fn query_value(query: &str, name: &str) -> Option<Vec<u8>> {
    let raw = raw_values(query, name).next()?;
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
    Some(decoded)
}

fn digit(hex: u8) -> Option<u8> {
    char::from(hex).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

/// Source: RFC 6750 2.1; the scheme's case does not count (RFC 9110 11.1).
pub(crate) fn bearer(authorization: &str) -> Option<&str> {
    let (scheme, token) = authorization.trim().split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use super::*;

    fn ask(
        query: &str,
        subprotocols: &[&str],
        authorization: Option<&str>,
    ) -> Result<Negotiated, Declined> {
        negotiate(&Handshake {
            path: "/ws".into(),
            query: query.into(),
            subprotocols: subprotocols.iter().map(|&name| name.into()).collect(),
            authorization: authorization.map(Into::into),
            fingerprint: None,
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
        let asked = ask("token=x", &["chat", "roomcast.v2.json"], None);
        assert_eq!(asked, Err(Declined::Subprotocol));
    }

    /// How the session goes on, beside a token.
    fn said(query: &str) -> Result<Option<Continuation>, Declined> {
        ask(&format!("token=t&{query}"), &[], None).map(|it| it.continuation.map(|said| *said))
    }

    #[test]
    fn the_query_says_how_the_session_goes_on() {
        let token = format!("{:032x}.{:032x}", 7, 9);
        let both = said(&format!("resume={token}&device=phone%201&handover=1")).unwrap().unwrap();
        assert_eq!(both.resume, ResumeToken::parse(&token));
        assert_eq!(both.device.as_deref(), Some("phone 1"));
        assert!(both.hands_over && both.covered.is_empty());
        for nothing in ["", "devices=x", "utm_source=a&utm_source=b", "adevice=", "&&="] {
            assert_eq!(said(nothing), Ok(None), "{nothing}");
        }
        let own = said("handover=0").unwrap().unwrap();
        assert_eq!(own, Continuation::default(), "a session of its own");
        let unknown = ResumeToken { session: SessionId(0), secret: Secret(0) };
        for none in ["resume=x", "resume=%ff"] {
            let resume = said(none).unwrap().unwrap().resume;
            assert_eq!(resume, Some(unknown), "it is told that there is none");
        }
    }

    #[test]
    fn what_the_query_cannot_mean_is_declined_with_what_it_must_be() {
        let longest = format!("device={}", "d".repeat(DEVICE_BYTES_MAX));
        assert!(said(&longest).unwrap().is_some());
        for device in [format!("{longest}d"), "device=%ff".into()] {
            assert_eq!(said(&device), Err(must_be("device", "at most 64 bytes of UTF-8")));
        }
        for handover in ["handover=yes", "handover=2", "handover=true"] {
            assert_eq!(said(handover), Err(must_be("handover", "1 or 0")), "{handover}");
        }
    }

    #[test]
    fn what_stands_in_the_query_for_nothing_or_twice_is_declined() {
        let token = format!("{:032x}.{:032x}", 7, 9);
        let cases = [("resume", token.as_str()), ("device", "a"), ("handover", "1")];
        assert_eq!(cases.map(|(name, _)| name), SAID_IN_QUERY);
        for (name, value) in cases {
            assert!(said(&format!("{name}={value}")).unwrap().is_some());
            for empty in [format!("{name}="), name.into(), format!("{name}=&{name}={value}")] {
                assert_eq!(said(&empty), Err(must_be(name, "left out, or have a value")));
            }
            for twice in
                [format!("{name}={value}&{name}={value}"), format!("{name}={value}&{name}")]
            {
                assert_eq!(said(&twice), Err(must_be(name, "said once")), "{twice}");
            }
        }
    }

    #[test]
    fn what_only_a_message_can_say_is_declined_with_where_it_belongs() {
        for (name, told) in NOT_IN_QUERY {
            for query in [format!("{name}=x"), format!("a=1&{name}"), format!("{name}=&token=t")] {
                let declined = Err(Declined::Query(told.into()));
                assert_eq!(ask(&query, &[], None), declined, "{query}");
                assert_eq!(said(&query).map(drop), declined.map(|_: Negotiated| ()), "{query}");
            }
        }
    }

    #[test]
    fn how_a_session_goes_on_is_said_beside_its_token() {
        let declined = Err(Declined::Query(BESIDE_A_TOKEN.into()));
        assert_eq!(ask("handover=1", &[], None), declined);
        assert_eq!(ask("token=&device=x", &[], None), declined);
        assert!(ask("handover=1", &[], Some("Bearer h.p.s")).is_ok());
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
