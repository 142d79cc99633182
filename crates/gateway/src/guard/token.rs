//! Tokens: JWT signed with HS256, checked in steps that each have a name, so that `roomcast token verify` tells which
//! one failed. Reads no clock; trusts nothing of a header but which of its own keys it names (attacks 2 to 8).

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, crypto};
use roomcast_protocol::guard::{AuthError, Kind, Principal};
use roomcast_protocol::texts::Texts;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Map, Number, Value};

use crate::config::Issuer;

/// The realm of API keys' names. No issuer may have it.
pub(crate) const API_REALM: &str = "api";

/// The realm of clients that bring no token.
pub(crate) const ANONYMOUS_REALM: &str = "anonymous";

/// One check of a token, in the order they are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Check {
    /// Not longer than `limits.token_bytes`.
    Size,
    /// Three parts of base64url with JSON inside.
    Form,
    /// `alg` is HS256.
    Algorithm,
    /// No critical extensions, no keys or addresses of keys in the header.
    Header,
    /// `kid` names a configured key.
    KeyId,
    /// Signed with that key.
    Signature,
    /// `iss` is that key's issuer.
    Issuer,
    /// `aud` names us.
    Audience,
    /// All claims that the issuer's configuration requires are there.
    Required,
    /// `exp` is a number and not past.
    Expiry,
    /// `nbf`, if there, is a number and past.
    NotBefore,
    /// `sub` is a text that can be a user's name.
    Subject,
    /// `kind` is `user`, or `backend` where the issuer may say so.
    Kind,
    /// `permissions`, `roles`, `teams` are lists of texts, `agent_id` a number or text.
    Grants,
}

impl Check {
    /// All checks, in order.
    pub(crate) const ALL: [Self; 14] = [
        Self::Size,
        Self::Form,
        Self::Algorithm,
        Self::Header,
        Self::KeyId,
        Self::Signature,
        Self::Issuer,
        Self::Audience,
        Self::Required,
        Self::Expiry,
        Self::NotBefore,
        Self::Subject,
        Self::Kind,
        Self::Grants,
    ];

    /// Its name, as `roomcast token verify` writes it.
    #[must_use]
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Size => "size",
            Self::Form => "form",
            Self::Algorithm => "algorithm",
            Self::Header => "header",
            Self::KeyId => "kid",
            Self::Signature => "signature",
            Self::Issuer => "iss",
            Self::Audience => "aud",
            Self::Required => "required",
            Self::Expiry => "exp",
            Self::NotBefore => "nbf",
            Self::Subject => "sub",
            Self::Kind => "kind",
            Self::Grants => "grants",
        }
    }
}

/// A check that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failed {
    pub(crate) check: Check,
    pub(crate) error: AuthError,
}

impl Failed {
    const fn new(check: Check, why: &'static str) -> Self {
        Self { check, error: AuthError::Unauthorized(why) }
    }

    pub(crate) const fn why(&self) -> &'static str {
        match self.error {
            AuthError::Unauthorized(why) | AuthError::CheckFailed(why) => why,
        }
    }
}

/// The keys of all issuers, made ready once.
pub(crate) struct Keys {
    keys: Vec<Key>,
    /// Realms that prefix their users' names.
    realms: Vec<Box<str>>,
    pub(crate) token_bytes_max: usize,
    pub(crate) leeway_ms: u64,
}

struct Key {
    kid: Option<Box<str>>,
    key: DecodingKey,
    issuer: Issuer,
}

/// The header's fields that decide anything. An unknown field is ignored (RFC 7515 4), these are not.
#[derive(Deserialize)]
struct Header<'a> {
    #[serde(borrow)]
    alg: Cow<'a, str>,
    #[serde(borrow)]
    kid: Option<Cow<'a, str>>,
    crit: Option<IgnoredAny>,
    jwk: Option<IgnoredAny>,
    jku: Option<IgnoredAny>,
    x5u: Option<IgnoredAny>,
    x5c: Option<IgnoredAny>,
    b64: Option<IgnoredAny>,
}

/// A token whose signature holds: its claims, and whose they are.
pub(crate) struct Signed<'a> {
    pub(crate) claims: Map<String, Value>,
    issuer: &'a Issuer,
    keys: &'a Keys,
}

type ClaimCheck = (Check, fn(&Signed<'_>, u64) -> Result<(), &'static str>);

/// The checks of claims, in order.
pub(crate) const CLAIM_CHECKS: [ClaimCheck; 8] = [
    (Check::Issuer, |it, _| it.check_issuer()),
    (Check::Audience, |it, _| it.check_audience()),
    (Check::Required, |it, _| it.check_required()),
    (Check::Expiry, |it, now| it.check_expiry(now)),
    (Check::NotBefore, |it, now| it.check_not_before(now)),
    (Check::Subject, |it, _| it.subject().map(drop)),
    (Check::Kind, |it, _| it.kind().map(drop)),
    (Check::Grants, |it, _| it.grants().map(drop)),
];

impl Keys {
    pub(crate) fn new(issuers: &[Issuer], token_bytes_max: usize, leeway_ms: u64) -> Self {
        let mut realms: Vec<Box<str>> = vec![API_REALM.into()];
        let mut keys = Vec::new();
        for issuer in issuers {
            if !issuer.realm.is_empty() {
                realms.push(issuer.realm.clone());
            }
            keys.extend(issuer.keys.iter().map(|key| Key {
                kid: key.kid.clone(),
                key: DecodingKey::from_secret(key.secret.expose()),
                issuer: Issuer { keys: Vec::new(), ..issuer.clone() },
            }));
        }
        Self { keys, realms, token_bytes_max, leeway_ms }
    }

    /// Makes all checks and says who it is.
    pub(crate) fn verify(&self, token: &str, unix_ms: u64) -> Result<Principal, Failed> {
        let signed = self.open(token)?;
        for (check, holds) in CLAIM_CHECKS {
            holds(&signed, unix_ms).map_err(|why| Failed::new(check, why))?;
        }
        signed.principal()
    }

    /// Makes the checks up to the signature.
    pub(crate) fn open(&self, token: &str) -> Result<Signed<'_>, Failed> {
        if token.len() > self.token_bytes_max {
            return Err(Failed::new(Check::Size, "the token is longer than limits.token_bytes"));
        }
        let form = Failed::new(Check::Form, "the token is no JWT");
        let Some((message, signature)) = token.rsplit_once('.') else { return Err(form) };
        let Some((header, claims)) = message.split_once('.') else { return Err(form) };
        let Ok(header) = URL_SAFE_NO_PAD.decode(header) else { return Err(form) };
        let Ok(claims) = URL_SAFE_NO_PAD.decode(claims) else { return Err(form) };
        let Ok(header) = serde_json::from_slice::<Header<'_>>(&header) else { return Err(form) };
        if header.alg != "HS256" {
            return Err(Failed::new(Check::Algorithm, "the token is not signed with HS256"));
        }
        if header.is_extended() {
            let why = "the token's header has crit, b64 or a key of its own";
            return Err(Failed::new(Check::Header, why));
        }
        if self.keys.is_empty() {
            return Err(Failed::new(Check::KeyId, "no issuer is configured (auth.issuers)"));
        }
        let kid = header.kid.as_deref();
        let named = |key: &&Key| key.kid.as_deref() == kid;
        if !self.keys.iter().any(|key| named(&key)) {
            return Err(Failed::new(Check::KeyId, "the token's kid names no configured key"));
        }
        self.signed_by(self.keys.iter().filter(named), message, signature, &claims)
    }

    /// The claims, if one of the keys signed them. Claims are read only then. Of several issuers that share a key the
    /// one that the claims name is meant.
    fn signed_by<'a>(
        &'a self,
        keys: impl Iterator<Item = &'a Key>,
        message: &str,
        signature: &str,
        claims: &[u8],
    ) -> Result<Signed<'a>, Failed> {
        let mut found: Option<Signed<'a>> = None;
        for key in keys {
            match crypto::verify(signature, message.as_bytes(), &key.key, Algorithm::HS256) {
                Ok(true) => {}
                Ok(false) => continue,
                Err(error) if matches!(error.kind(), ErrorKind::Base64(_)) => {
                    return Err(Failed::new(Check::Form, "the token is no JWT"));
                }
                Err(_) => {
                    let error = AuthError::CheckFailed("the signature could not be computed");
                    return Err(Failed { check: Check::Signature, error });
                }
            }
            let claims = match found.take() {
                Some(earlier) => earlier.claims,
                None => serde_json::from_slice(claims)
                    .map_err(|_| Failed::new(Check::Form, "the token's claims are no object"))?,
            };
            let signed = Signed { claims, issuer: &key.issuer, keys: self };
            if signed.check_issuer().is_ok() {
                return Ok(signed);
            }
            found = Some(signed);
        }
        found.ok_or(Failed::new(Check::Signature, "the token is signed with another key"))
    }
}

impl Header<'_> {
    fn is_extended(&self) -> bool {
        let never = [&self.crit, &self.jwk, &self.jku, &self.x5u, &self.x5c, &self.b64];
        never.into_iter().any(Option::is_some)
    }
}

impl Signed<'_> {
    fn check_issuer(&self) -> Result<(), &'static str> {
        match self.claims.get("iss") {
            None => Ok(()),
            Some(Value::String(issuer)) if **issuer == *self.issuer.issuer => Ok(()),
            Some(_) => Err("the token is of another issuer"),
        }
    }

    fn check_audience(&self) -> Result<(), &'static str> {
        let ours = |text: &Value| text.as_str() == Some(&*self.issuer.audience);
        match self.claims.get("aud") {
            None => Ok(()),
            Some(text @ Value::String(_)) if ours(text) => Ok(()),
            Some(Value::Array(texts)) if texts.iter().all(Value::is_string) => {
                if texts.iter().any(ours) {
                    Ok(())
                } else {
                    Err("the token is for another audience")
                }
            }
            Some(_) => Err("the token is for another audience"),
        }
    }

    fn check_required(&self) -> Result<(), &'static str> {
        let mut required = self.issuer.required.iter();
        if required.all(|claim| self.claims.get(&**claim).is_some_and(|value| !value.is_null())) {
            return Ok(());
        }
        Err("the token lacks a claim that its issuer must give")
    }

    fn check_expiry(&self, unix_ms: u64) -> Result<(), &'static str> {
        if unix_ms >= self.expiry()?.saturating_add(self.keys.leeway_ms) {
            return Err("the token is expired");
        }
        Ok(())
    }

    fn expiry(&self) -> Result<u64, &'static str> {
        match self.claims.get("exp") {
            Some(Value::Number(exp)) => millis(exp).ok_or("the token's exp is no time"),
            Some(_) => Err("the token's exp is no number"),
            None => Err("the token has no exp"),
        }
    }

    /// When it was issued; 0: it does not say so as a time.
    fn issued_unix_ms(&self) -> u64 {
        match self.claims.get("iat") {
            Some(Value::Number(iat)) => millis(iat).unwrap_or(0),
            Some(_) | None => 0,
        }
    }

    /// Its name; empty: it has none that is a text.
    fn token_id(&self) -> &str {
        self.claims.get("jti").and_then(Value::as_str).unwrap_or_default()
    }

    fn check_not_before(&self, unix_ms: u64) -> Result<(), &'static str> {
        let from = match self.claims.get("nbf") {
            None => return Ok(()),
            Some(Value::Number(nbf)) => millis(nbf).ok_or("the token's nbf is no time")?,
            Some(_) => return Err("the token's nbf is no number"),
        };
        if from > unix_ms.saturating_add(self.keys.leeway_ms) {
            return Err("the token is not valid yet");
        }
        Ok(())
    }

    /// The user's name, as `user-{id}` can hold it, and never one that is another realm's: the default realm's user
    /// `gs:7` would be the user 7 of the realm `gs`.
    fn subject(&self) -> Result<&str, &'static str> {
        let sub =
            self.claims.get("sub").and_then(Value::as_str).ok_or("the token's sub is no text")?;
        let room = if self.issuer.realm.is_empty() {
            if sub
                .split_once(':')
                .is_some_and(|(realm, _)| self.keys.realms.iter().any(|it| **it == *realm))
            {
                return Err("the token's sub begins with the name of another realm");
            }
            format!("user-{sub}")
        } else {
            format!("user-{}:{sub}", self.issuer.realm)
        };
        if sub.is_empty() || roomcast_protocol::room::RoomName::parse(&room).is_err() {
            return Err("the token's sub can be no user's name: too long, or with spaces");
        }
        Ok(sub)
    }

    fn kind(&self) -> Result<Kind, &'static str> {
        match self.claims.get("kind") {
            None => Ok(Kind::User),
            Some(Value::String(kind)) if kind == "user" => Ok(Kind::User),
            Some(Value::String(kind)) if kind == "backend" => {
                if self.issuer.allow_backend {
                    Ok(Kind::Backend)
                } else {
                    Err("the token's issuer may not name back-ends (auth.issuers allow_backend)")
                }
            }
            Some(_) => Err("the token's kind is neither user nor backend"),
        }
    }

    fn grants(&self) -> Result<Grants, &'static str> {
        Ok(Grants {
            permissions: self
                .texts("permissions", "the token's permissions are no list of texts")?,
            roles: self.texts("roles", "the token's roles are no list of texts")?,
            teams: self.texts("teams", "the token's teams are no list of texts")?,
            agent_id: match self.claims.get("agent_id") {
                None | Some(Value::Null) => None,
                Some(Value::String(id)) if id.starts_with('$') => {
                    return Err(
                        "the token's agent_id begins with `$`, as only the system's names do",
                    );
                }
                Some(Value::String(id)) if !id.is_empty() && id.len() <= AGENT_ID_BYTES_MAX => {
                    Some(id.as_str().into())
                }
                Some(Value::Number(id)) if id.is_i64() || id.is_u64() => {
                    Some(id.to_string().into())
                }
                Some(_) => return Err("the token's agent_id is neither a text nor a whole number"),
            },
        })
    }

    fn texts(&self, claim: &str, why: &'static str) -> Result<Texts, &'static str> {
        match self.claims.get(claim) {
            None | Some(Value::Null) => Ok(Texts::default()),
            Some(Value::Array(texts)) => {
                texts.iter().map(|text| text.as_str().ok_or(why)).collect()
            }
            Some(_) => Err(why),
        }
    }

    /// Who it is.
    pub(crate) fn principal(self) -> Result<Principal, Failed> {
        let id: Box<str> = self.subject().map_err(|why| Failed::new(Check::Subject, why))?.into();
        let kind = self.kind().map_err(|why| Failed::new(Check::Kind, why))?;
        let grants = self.grants().map_err(|why| Failed::new(Check::Grants, why))?;
        let expires_unix_ms = self.expiry().map_err(|why| Failed::new(Check::Expiry, why))?;
        Ok(Principal {
            kind,
            realm: self.issuer.realm.clone(),
            id,
            permissions: grants.permissions,
            roles: grants.roles,
            teams: grants.teams,
            agent_id: grants.agent_id,
            expires_unix_ms,
            issued_unix_ms: self.issued_unix_ms(),
            token_id: self.token_id().into(),
            claims: Value::Object(self.claims).to_string().into(),
        })
    }
}

struct Grants {
    permissions: Texts,
    roles: Texts,
    teams: Texts,
    agent_id: Option<Box<str>>,
}

/// Longest `agent_id`. Units: bytes. `agent-{id}` is to be a room's name.
const AGENT_ID_BYTES_MAX: usize = 200;

/// A NumericDate (RFC 7519 2), whole or not, not before 1970. Units: milliseconds.
fn millis(seconds: &Number) -> Option<u64> {
    if let Some(whole) = seconds.as_u64() {
        return Some(whole.saturating_mul(1_000));
    }
    let since = std::time::Duration::try_from_secs_f64(seconds.as_f64()?).ok()?;
    Some(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// Signs and verifies once. A build without a working crypto provider is to be found at the start, not at the first
/// client. The expected signature is the one of RFC 7515 A.1.
pub(crate) fn self_test() -> bool {
    const MESSAGE: &[u8] = b"eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";
    const SIGNATURE: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
    const KEY: &str =
        "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow";
    let Ok(key) = URL_SAFE_NO_PAD.decode(KEY) else { return false };
    let signed = crypto::sign(MESSAGE, &EncodingKey::from_secret(&key), Algorithm::HS256);
    let holds = |message: &[u8]| {
        crypto::verify(SIGNATURE, message, &DecodingKey::from_secret(&key), Algorithm::HS256)
    };
    signed.is_ok_and(|it| it == SIGNATURE)
        && holds(MESSAGE).is_ok_and(|it| it)
        && holds(b"other").is_ok_and(|it| !it)
}
