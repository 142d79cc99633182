//! The terms of an upgrade: the token it brought, and which device it comes from. Never checks the token.

use roomcast_protocol::command::Continuation;
use roomcast_protocol::dialect::{Declined, Encoding, Handshake, Negotiated};
use roomcast_protocol::inbox::DEVICE_BYTES_MAX;

use super::{DEVICE, SUBPROTOCOL};
use crate::native::handshake::bearer;

/// What a JWT begins with: the `{` of its header, in base64. Source: the origin's server.
const TOKEN_START: char = 'e';

/// Takes every upgrade whose device has a name that fits.
pub(super) fn negotiate(handshake: &Handshake) -> Result<Negotiated, Declined> {
    let mut offered = handshake.subprotocols.iter();
    let subprotocol = offered.any(|name| &**name == SUBPROTOCOL).then_some(SUBPROTOCOL);
    // Browsers can send no header of their own: the token stands behind the subprotocol, as one more.
    let behind = offered.next().filter(|name| name.starts_with(TOKEN_START));
    let token = handshake.authorization.as_deref().and_then(bearer);
    let token = token.filter(|token| !token.is_empty()).or(behind.map(|token| &**token));
    let device = handshake.fingerprint.as_deref().filter(|device| !device.is_empty());
    let device = device.unwrap_or(DEVICE);
    if device.len() > DEVICE_BYTES_MAX {
        // Cut, two devices could become one, and each would miss what the other acked.
        let must_be = format!("the header fingerprint must be at most {DEVICE_BYTES_MAX} bytes");
        return Err(Declined::Header(must_be.into()));
    }
    let continuation = Continuation { device: Some(device.into()), ..Continuation::default() };
    Ok(Negotiated {
        encoding: Encoding::Json,
        subprotocol,
        token: token.map(Into::into),
        continuation: Some(Box::new(continuation)),
    })
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use super::*;

    fn upgrade(subprotocols: &[&str], authorization: Option<&str>) -> Handshake {
        Handshake {
            path: "/chat".into(),
            query: "token=e.query".into(),
            subprotocols: subprotocols.iter().map(|&name| name.into()).collect(),
            authorization: authorization.map(Into::into),
            fingerprint: None,
            origin: None,
            client: IpAddr::V4(Ipv4Addr::LOCALHOST),
        }
    }

    #[track_caller]
    fn check(
        subprotocols: &[&str],
        authorization: Option<&str>,
        selected: bool,
        token: Option<&str>,
    ) {
        let agreed = negotiate(&upgrade(subprotocols, authorization)).unwrap();
        assert_eq!(agreed.subprotocol, selected.then_some("protocol"));
        assert_eq!(agreed.token.as_deref(), token);
        assert_eq!(agreed.encoding, Encoding::Json);
    }

    #[test]
    fn the_token_comes_from_the_header_or_from_behind_the_subprotocol() {
        check(&[], Some("Bearer e.p.s"), false, Some("e.p.s"));
        check(&[], Some("bearer h.p.s"), false, Some("h.p.s"));
        check(&["protocol", "e.p.s"], None, true, Some("e.p.s"));
        check(&["x", "protocol", "e.p.s", "y"], None, true, Some("e.p.s"));
        check(&["protocol", "e.p.s"], Some("Bearer e.h"), true, Some("e.h"));
        check(&["protocol", "e.p.s"], Some("Bearer "), true, Some("e.p.s"));
        check(&["protocol", "e.p.s"], Some("Basic eA=="), true, Some("e.p.s"));
    }

    #[test]
    fn what_is_no_token_is_none() {
        check(&[], None, false, None);
        check(&["protocol"], None, true, None);
        check(&["protocol", "h.p.s"], None, true, None);
        check(&["e.p.s", "protocol"], None, true, None);
        check(&["e.p.s"], None, false, None);
        check(&["Protocol", "e.p.s"], None, false, None);
    }

    fn device(fingerprint: Option<&str>) -> Result<Box<str>, Declined> {
        let fingerprint = fingerprint.map(Into::into);
        let agreed = negotiate(&Handshake { fingerprint, ..upgrade(&[], None) })?;
        let continuation = *agreed.continuation.unwrap();
        let device = continuation.device.clone();
        assert_eq!(continuation, Continuation { device, ..Continuation::default() });
        Ok(continuation.device.unwrap())
    }

    #[test]
    fn a_device_is_its_fingerprint_else_the_one_of_all_others() {
        assert_eq!(device(Some("phone 1")), Ok("phone 1".into()));
        assert_eq!(device(None), Ok("chat".into()));
        assert_eq!(device(Some("")), Ok("chat".into()));
    }

    #[test]
    fn a_fingerprint_is_at_most_64_bytes() {
        let longest = "é".repeat(DEVICE_BYTES_MAX / 2);
        assert_eq!(device(Some(&longest)), Ok(longest.as_str().into()));
        let text = "the header fingerprint must be at most 64 bytes";
        assert_eq!(device(Some(&format!("{longest}x"))), Err(Declined::Header(text.into())));
    }
}
