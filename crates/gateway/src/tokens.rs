//! Tokens from the issuer's side: making them for development, and telling which check of one failed. The node itself
//! verifies in [`crate::guard`]; this is for the command line and for tests.

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use roomcast_protocol::guard::{Kind, Principal};
use serde_json::{Map, Value};

use crate::config::Config;
use crate::guard::token::{CLAIM_CHECKS, Check, Failed, Keys};

/// What a token is to say.
#[derive(Clone, Debug)]
pub struct MintOptions<'a> {
    /// What it is signed with. Bounds: at least 32 bytes.
    pub secret: &'a [u8],
    /// The header `kid`.
    pub kid: Option<&'a str>,
    /// The claim `iss`.
    pub issuer: &'a str,
    /// The claim `aud`.
    pub audience: &'a str,
    /// The claim `sub`: whom it is for.
    pub subject: &'a str,
    /// The claim `kind`; users' tokens leave it out.
    pub kind: Kind,
    /// The claim `permissions`.
    pub permissions: &'a [String],
    /// The claim `roles`.
    pub roles: &'a [String],
    /// The claim `teams`.
    pub teams: &'a [String],
    /// The claim `agent_id`; a number where it is one, as the seed writes agents.
    pub agent_id: Option<&'a str>,
    /// The claim `iat`. Units: milliseconds since the Unix epoch.
    pub now_unix_ms: u64,
    /// How long it is good. Units: milliseconds; rounded up to seconds.
    pub ttl_ms: u64,
}

/// Why a token was not made.
#[derive(Debug, thiserror::Error)]
pub enum MintError {
    /// HS256 asks for a key as long as its hash (RFC 7518 3.2).
    #[error(
        "the secret has {0} bytes, at least 32 are needed; `openssl rand -base64 48` makes some"
    )]
    ShortSecret(usize),
    /// The library could not sign.
    #[error("the token cannot be signed: {0}")]
    Sign(#[from] jsonwebtoken::errors::Error),
}

/// Makes a signed token.
///
/// # Errors
/// [`MintError`]: the secret is too short, or signing failed.
pub fn mint(options: &MintOptions<'_>) -> Result<String, MintError> {
    if options.secret.len() < 32 {
        return Err(MintError::ShortSecret(options.secret.len()));
    }
    let issued = options.now_unix_ms / 1_000;
    let expires = options.now_unix_ms.saturating_add(options.ttl_ms).div_ceil(1_000);
    let mut claims = Map::new();
    claims.insert("iss".into(), options.issuer.into());
    claims.insert("aud".into(), options.audience.into());
    claims.insert("sub".into(), options.subject.into());
    claims.insert("iat".into(), issued.into());
    claims.insert("exp".into(), expires.into());
    let lists =
        [("permissions", options.permissions), ("roles", options.roles), ("teams", options.teams)];
    for (claim, texts) in lists.into_iter().filter(|(_, texts)| !texts.is_empty()) {
        claims.insert(claim.into(), texts.into());
    }
    if let Some(id) = options.agent_id {
        let number = id.parse::<u64>().ok().filter(|number| number.to_string() == id);
        claims.insert("agent_id".into(), number.map_or_else(|| id.into(), Value::from));
    }
    if options.kind == Kind::Backend {
        claims.insert("kind".into(), options.kind.name().into());
    }
    let header = Header { kid: options.kid.map(str::to_owned), ..Header::new(Algorithm::HS256) };
    let key = EncodingKey::from_secret(options.secret);
    Ok(jsonwebtoken::encode(&header, &claims, &key)?)
}

/// How a check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It holds.
    Passed,
    /// It does not, and why.
    Failed(&'static str),
    /// An earlier check failed whose result it needs.
    NotReached,
}

/// Every check of one token, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenReport {
    /// The checks by name.
    pub checks: Vec<(&'static str, Outcome)>,
    /// Who it is, if all passed.
    pub principal: Option<Principal>,
}

impl TokenReport {
    /// The first check that failed, and why.
    #[must_use]
    pub fn first_failure(&self) -> Option<(&'static str, &'static str)> {
        self.checks.iter().find_map(|(name, outcome)| match outcome {
            Outcome::Failed(why) => Some((*name, *why)),
            Outcome::Passed | Outcome::NotReached => None,
        })
    }
}

/// Makes the node's own checks and tells how each ended; those of claims are all made, once the signature holds.
#[must_use]
pub fn explain(token: &str, config: &Config, unix_ms: u64) -> TokenReport {
    let limits = &config.limits;
    let keys = Keys::new(&config.auth.issuers, limits.token_bytes, limits.session.leeway_ms);
    let signed = match keys.open(token) {
        Ok(signed) => signed,
        Err(failed) => return TokenReport { checks: until(&failed), principal: None },
    };
    let opened = Check::ALL.into_iter().filter(|check| *check <= Check::Signature);
    let mut checks: Vec<_> = opened.map(|check| (check.name(), Outcome::Passed)).collect();
    checks.extend(CLAIM_CHECKS.into_iter().map(|(check, holds)| {
        let outcome = holds(&signed, unix_ms).map_or_else(Outcome::Failed, |()| Outcome::Passed);
        (check.name(), outcome)
    }));
    let passed = checks.iter().all(|(_, outcome)| *outcome == Outcome::Passed);
    TokenReport { checks, principal: passed.then(|| signed.principal().ok()).flatten() }
}

/// All before it passed, nothing after it was reached.
fn until(failed: &Failed) -> Vec<(&'static str, Outcome)> {
    let outcome = |check: Check| match check.cmp(&failed.check) {
        std::cmp::Ordering::Less => Outcome::Passed,
        std::cmp::Ordering::Equal => Outcome::Failed(failed.why()),
        std::cmp::Ordering::Greater => Outcome::NotReached,
    };
    Check::ALL.into_iter().map(|check| (check.name(), outcome(check))).collect()
}

#[cfg(test)]
mod tests {
    use crate::config::{Config, DEV_ISSUER, DEV_SECRET, LoadOptions};

    use super::*;

    const NOW_MS: u64 = 1_750_000_000_500;

    fn options() -> MintOptions<'static> {
        MintOptions {
            secret: DEV_SECRET.as_bytes(),
            kid: None,
            issuer: DEV_ISSUER,
            audience: DEV_ISSUER,
            subject: "alice",
            kind: Kind::User,
            permissions: &[],
            roles: &[],
            teams: &[],
            agent_id: None,
            now_unix_ms: NOW_MS,
            ttl_ms: 60_000,
        }
    }

    fn report(options: &MintOptions<'_>, unix_ms: u64) -> TokenReport {
        let dev = Config::load(&LoadOptions { dev: true, ..LoadOptions::default() }).unwrap();
        explain(&mint(options).unwrap(), &dev, unix_ms)
    }

    #[test]
    fn a_minted_token_says_all_it_was_told_and_passes_every_check() {
        let texts = |text: &str| vec![text.to_owned()];
        let (permissions, roles, teams) = (texts("view_agents"), texts("admin"), texts("red"));
        let report = report(
            &MintOptions {
                kind: Kind::Backend,
                permissions: &permissions,
                roles: &roles,
                teams: &teams,
                agent_id: Some("7"),
                ..options()
            },
            NOW_MS,
        );
        assert_eq!(report.first_failure(), None);
        assert!(report.checks.iter().all(|(_, outcome)| *outcome == Outcome::Passed));
        assert_eq!(report.checks.len(), Check::ALL.len());
        let who = report.principal.unwrap();
        assert_eq!(
            (who.kind, &*who.id, who.agent_id.as_deref()),
            (Kind::Backend, "alice", Some("7"))
        );
        assert!(who.holds("view_agents"));
        assert_eq!((who.roles, who.teams), (["admin"].into(), ["red"].into()));
        assert_eq!(who.expires_unix_ms, 1_750_000_061_000, "rounded up to whole seconds");
        assert!(who.claims.contains("\"agent_id\":7,"), "{}", who.claims);
    }

    #[test]
    fn every_failed_check_of_claims_is_told_and_those_before_passed() {
        let other = MintOptions { audience: "other", subject: "api:x", ..options() };
        let report = report(&other, NOW_MS + 66_000);
        assert_eq!(report.first_failure(), Some(("aud", "the token is for another audience")));
        let failed = |(name, outcome): &(&'static str, Outcome)| {
            matches!(outcome, Outcome::Failed(_)).then_some(*name)
        };
        let failed: Vec<_> = report.checks.iter().filter_map(failed).collect();
        assert_eq!(failed, ["aud", "exp", "sub"]);
        assert_eq!(report.principal, None);
    }

    #[test]
    fn a_failed_signature_leaves_the_claims_unread() {
        let forged = MintOptions { secret: b"another-secret-of-32-bytes-or-more!!", ..options() };
        let report = report(&forged, NOW_MS);
        assert_eq!(report.first_failure().unwrap().0, "signature");
        let of = |name: &str| report.checks.iter().find(|(other, _)| *other == name).unwrap().1;
        assert_eq!(
            (of("kid"), of("iss"), of("grants")),
            (Outcome::Passed, Outcome::NotReached, Outcome::NotReached)
        );
        assert_eq!(report.checks.len(), Check::ALL.len());
    }

    #[test]
    fn a_secret_under_32_bytes_signs_nothing() {
        let short = MintOptions { secret: &[b'a'; 31], ..options() };
        let told = mint(&short).unwrap_err().to_string();
        assert!(told.contains("31 bytes, at least 32"), "{told}");
        assert!(mint(&MintOptions { secret: &[b'a'; 32], ..options() }).is_ok());
    }

    #[test]
    fn an_agent_id_that_is_no_plain_number_stays_text() {
        for id in ["host-1", "07", "+7", "7.0"] {
            let report = report(&MintOptions { agent_id: Some(id), ..options() }, NOW_MS);
            let who = report.principal.unwrap();
            assert_eq!(who.agent_id.as_deref(), Some(id));
        }
    }
}
