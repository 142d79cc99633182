//! What proves to a back-end that a request is the node's own: HMAC-SHA256, with the target's secret, over the time, a
//! full stop and the body. Pure: the time is an argument.

use aws_lc_rs::hmac;

/// The header with the time. Units: seconds since the Unix epoch.
pub(super) const TIMESTAMP: &str = "roomcast-timestamp";

/// The header with the signature: `v1=` and 64 hexadecimal digits.
pub(super) const SIGNATURE: &str = "roomcast-signature";

/// Signs for one target.
#[derive(Debug)]
pub(super) struct Signer(hmac::Key);

impl Signer {
    /// One with this secret.
    pub(super) fn new(secret: &[u8]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, secret))
    }

    /// The value of [`SIGNATURE`] for a body that leaves at this time.
    pub(super) fn sign(&self, unix_s: u64, body: &[u8]) -> String {
        let mut context = hmac::Context::with_key(&self.0);
        context.update(unix_s.to_string().as_bytes());
        context.update(b".");
        context.update(body);
        let mut signature = "v1=".to_owned();
        for byte in context.sign().as_ref() {
            signature.push_str(&format!("{byte:02x}"));
        }
        signature
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made with `printf '1700000000.{"a":1}' | openssl dgst -sha256 -hmac a-secret-of-the-application`.
    #[test]
    fn a_signature_is_what_openssl_makes_of_time_and_body() {
        let signer = Signer::new(b"a-secret-of-the-application");
        let signature = signer.sign(1_700_000_000, br#"{"a":1}"#);
        assert_eq!(
            signature,
            "v1=26eeb97fd95b1d40fcb5a47183003ca176400ac0310e4a6b7cc2159da44ba691"
        );
    }

    #[test]
    fn time_body_and_secret_are_all_signed() {
        let signed = |secret: &[u8], unix_s, body: &[u8]| Signer::new(secret).sign(unix_s, body);
        let all = [
            signed(b"one", 1, b"2.3"),
            signed(b"two", 1, b"2.3"),
            signed(b"one", 2, b"2.3"),
            signed(b"one", 1, b"2.4"),
        ];
        for (at, one) in all.iter().enumerate() {
            assert_eq!(all.iter().filter(|other| *other == one).count(), 1, "{at}");
        }
    }
}
