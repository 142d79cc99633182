//! `roomcast token`: development tokens, and why a token is no good.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::{Args, Subcommand, ValueEnum};
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::failure::Failure;
use crate::output;
use crate::units;

/// The secret that `serve --dev` accepts; known to everybody, so it protects nothing.
pub(crate) const DEV_SECRET: &str = "roomcast-development-only-secret-32b";

/// Issuer and audience of the native dialect's default key.
pub(crate) const ISSUER: &str = "roomcast";

/// Clock skew the node allows. Units: seconds. Source: reliability, attack 5.
const LEEWAY_S: u64 = 5;

/// `token mint` and `token verify`.
#[derive(Debug, Subcommand)]
pub(crate) enum TokenCommand {
    /// Write a signed token to stdout
    #[command(after_help = "Examples:
  roomcast token mint --dev --sub alice --permissions view_agents,view_system
  roomcast token mint --secret \"$SECRET\" --sub web-1 --kind backend --ttl 10m")]
    Mint(Mint),
    /// Say who a token is for, or which check failed
    #[command(after_help = "Examples:
  roomcast token verify --dev \"$TOKEN\"
  echo \"$TOKEN\" | roomcast token verify --secret \"$SECRET\" -")]
    Verify(Verify),
}

/// Where the signing secret comes from.
#[derive(Args, Debug)]
#[group(required = true, multiple = false)]
pub(crate) struct SecretArgs {
    /// Use the well-known secret of `roomcast serve --dev`
    #[arg(long)]
    dev: bool,
    /// The HS256 secret, at least 32 bytes
    #[arg(long, env = "ROOMCAST_TOKEN_SECRET", hide_env_values = true)]
    secret: Option<String>,
}

impl SecretArgs {
    fn secret(&self) -> &str {
        match &self.secret {
            Some(secret) if !self.dev => secret,
            Some(_) | None => DEV_SECRET,
        }
    }
}

/// What kind of party the token is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum KindArg {
    /// Somebody with rights of their own
    User,
    /// An application's server
    Backend,
}

/// `token mint`.
#[derive(Args, Debug)]
pub(crate) struct Mint {
    #[command(flatten)]
    secret: SecretArgs,
    /// Whom the token is for
    #[arg(long, default_value = "dev")]
    sub: String,
    /// Permissions, separated by commas
    #[arg(long, value_delimiter = ',')]
    permissions: Vec<String>,
    /// Roles, separated by commas; each is a room `role-{name}`
    #[arg(long, value_delimiter = ',')]
    roles: Vec<String>,
    /// Teams, separated by commas; each is a room `team-{id}`
    #[arg(long, value_delimiter = ',')]
    teams: Vec<String>,
    /// The agent that the holder is
    #[arg(long)]
    agent_id: Option<String>,
    /// What kind of party the holder is
    #[arg(long, value_enum)]
    kind: Option<KindArg>,
    /// How long it is good
    #[arg(long, default_value = "1h", value_parser = units::duration)]
    ttl: Duration,
    /// Its audience
    #[arg(long, default_value = ISSUER)]
    audience: String,
    /// Its issuer
    #[arg(long, default_value = ISSUER)]
    issuer: String,
}

/// `token verify`.
#[derive(Args, Debug)]
pub(crate) struct Verify {
    #[command(flatten)]
    secret: SecretArgs,
    /// The token, or `-` to read it from stdin
    token: String,
    /// The audience it must have
    #[arg(long, default_value = ISSUER)]
    audience: String,
    /// The issuer it must have
    #[arg(long, default_value = ISSUER)]
    issuer: String,
}

/// The native issuer's claims. Source: dialects, "Native".
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Claims {
    pub(crate) sub: String,
    pub(crate) iss: String,
    pub(crate) aud: String,
    pub(crate) iat: u64,
    pub(crate) exp: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) permissions: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) roles: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) teams: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) agent_id: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) kind: Option<String>,
}

impl Claims {
    /// Claims of the default issuer, good from now for `ttl`.
    pub(crate) fn new(sub: impl Into<String>, ttl: Duration) -> Self {
        let now = unix_s();
        Self {
            sub: sub.into(),
            iss: ISSUER.into(),
            aud: ISSUER.into(),
            iat: now,
            exp: now.saturating_add(ttl.as_secs()),
            ..Self::default()
        }
    }

    /// For whoever only listens: every right to view that the built-in rooms know.
    pub(crate) fn viewer(sub: impl Into<String>, ttl: Duration) -> Self {
        let permissions =
            ["view_system", "view_agents", "view_tasks", "view_groups"].map(String::from).to_vec();
        Self { permissions, ..Self::new(sub, ttl) }
    }

    /// For whoever may publish everywhere.
    pub(crate) fn backend(sub: impl Into<String>, ttl: Duration) -> Self {
        Self { kind: Some("backend".into()), ..Self::viewer(sub, ttl) }
    }
}

fn unix_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs())
}

/// Signs claims.
pub(crate) fn sign(claims: &Claims, secret: &str) -> Result<String, Failure> {
    let key = EncodingKey::from_secret(secret.as_bytes());
    jsonwebtoken::encode(&Header::new(Algorithm::HS256), claims, &key)
        .map_err(|cause| Failure::failed("the token cannot be signed", &cause))
}

/// `roomcast token`.
pub(crate) fn run(command: &TokenCommand, json: bool) -> Result<(), Failure> {
    match command {
        TokenCommand::Mint(mint) => run_mint(mint, json),
        TokenCommand::Verify(verify) => run_verify(verify, json),
    }
}

fn run_mint(mint: &Mint, json: bool) -> Result<(), Failure> {
    let secret = mint.secret.secret();
    if secret.len() < 32 {
        return Err(Failure::Usage(format!(
            "the secret has {} bytes; HS256 needs at least 32 (RFC 7518 3.2)",
            secret.len()
        )));
    }
    let claims = Claims {
        iss: mint.issuer.clone(),
        aud: mint.audience.clone(),
        permissions: mint.permissions.clone(),
        roles: mint.roles.clone(),
        teams: mint.teams.clone(),
        agent_id: mint.agent_id.as_deref().map(agent_claim),
        kind: mint.kind.map(|kind| match kind {
            KindArg::User => "user".into(),
            KindArg::Backend => "backend".into(),
        }),
        ..Claims::new(mint.sub.clone(), mint.ttl)
    };
    let token = sign(&claims, secret)?;
    if json {
        output::json_line(&json!({ "token": token, "claims": claims }))?;
    } else {
        output::line(&token)?;
    }
    Ok(())
}

/// A number where it is one, as the seed writes agents.
pub(crate) fn agent_claim(id: &str) -> Value {
    id.parse::<u64>().map_or_else(|_| Value::from(id), Value::from)
}

fn run_verify(verify: &Verify, json: bool) -> Result<(), Failure> {
    let token = if verify.token == "-" {
        std::io::read_to_string(std::io::stdin())?.trim().to_owned()
    } else {
        verify.token.clone()
    };
    match check(&token, verify) {
        Ok(claims) => {
            if json {
                output::json_line(&json!({ "valid": true, "claims": claims }))?;
            } else {
                let sub = claims.get("sub").and_then(Value::as_str).unwrap_or_default();
                let left = claims
                    .get("exp")
                    .and_then(Value::as_u64)
                    .map_or(0, |exp| exp.saturating_sub(unix_s()));
                output::line(&format!("good for {left} s more, for {sub:?}: {claims}"))?;
            }
            Ok(())
        }
        Err(reason) => {
            if json {
                output::json_line(&json!({ "valid": false, "failed": reason }))?;
            }
            Err(Failure::Refused(format!("the token is no good: {reason}")))
        }
    }
}

/// All checks of the node, in an order that names the first failing one.
fn check(token: &str, verify: &Verify) -> Result<Value, String> {
    let header = jsonwebtoken::decode_header(token)
        .map_err(|_| "it is no JWT (three base64url parts with JSON inside)".to_owned())?;
    if header.alg != Algorithm::HS256 {
        return Err(format!("algorithm: it is signed with {:?}, this key takes HS256", header.alg));
    }
    let key = DecodingKey::from_secret(verify.secret.secret().as_bytes());
    let mut rules = Validation::new(Algorithm::HS256);
    rules.leeway = LEEWAY_S;
    rules.validate_nbf = true;
    rules.set_audience(&[&verify.audience]);
    rules.set_issuer(&[&verify.issuer]);
    // Audience and issuer are compared only where present, unless they are required as well.
    rules.set_required_spec_claims(&["exp", "sub", "aud", "iss"]);
    jsonwebtoken::decode::<Value>(token, &key, &rules)
        .map(|data| data.claims)
        .map_err(|cause| failed_check(cause.kind(), verify))
}

#[allow(clippy::wildcard_enum_match_arm, reason = "the library's list of errors is open")]
fn failed_check(kind: &ErrorKind, verify: &Verify) -> String {
    match kind {
        ErrorKind::InvalidSignature => "signature: another secret signed it".into(),
        ErrorKind::ExpiredSignature => format!("exp: it expired more than {LEEWAY_S} s ago"),
        ErrorKind::ImmatureSignature => "nbf: it is not good yet".into(),
        ErrorKind::InvalidAudience => format!("aud: it is not for {:?}", verify.audience),
        ErrorKind::InvalidIssuer => format!("iss: it is not from {:?}", verify.issuer),
        ErrorKind::MissingRequiredClaim(claim) => format!("{claim}: the claim is missing"),
        ErrorKind::InvalidClaimFormat(claim) => format!("{claim}: the claim has a wrong form"),
        other => format!("{other:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verify() -> Verify {
        Verify {
            secret: SecretArgs { dev: true, secret: None },
            token: String::new(),
            audience: ISSUER.into(),
            issuer: ISSUER.into(),
        }
    }

    #[track_caller]
    fn fails(claims: &Value, secret: &str, check_name: &str) {
        let key = EncodingKey::from_secret(secret.as_bytes());
        let token = jsonwebtoken::encode(&Header::default(), claims, &key).unwrap();
        let reason = check(&token, &verify()).unwrap_err();
        assert!(reason.starts_with(check_name), "{reason}");
    }

    #[test]
    fn a_minted_token_is_good_with_all_its_claims() {
        let claims = Claims {
            agent_id: Some(agent_claim("7")),
            ..Claims::backend("web-1", Duration::from_secs(60))
        };
        let token = sign(&claims, DEV_SECRET).unwrap();
        let read = check(&token, &verify()).unwrap();
        assert_eq!(read["sub"], "web-1");
        assert_eq!(read["kind"], "backend");
        assert_eq!(read["agent_id"], 7);
        assert_eq!(read["permissions"][0], "view_system");
        assert_eq!(read.get("roles"), None);
    }

    #[test]
    fn verify_names_the_check_that_failed() {
        let good = serde_json::to_value(Claims::new("a", Duration::from_secs(60))).unwrap();
        let with = |key: &str, value: Value| {
            let mut claims = good.clone();
            claims[key] = value;
            claims
        };
        let without = |key: &str| {
            let mut claims = good.clone();
            claims.as_object_mut().unwrap().remove(key);
            claims
        };
        fails(&good, "another-secret-of-at-least-32-bytes!", "signature");
        fails(&with("exp", json!(unix_s() - 30)), DEV_SECRET, "exp: it expired");
        fails(&with("nbf", json!(unix_s() + 60)), DEV_SECRET, "nbf");
        fails(&with("aud", json!("other")), DEV_SECRET, "aud: it is not for");
        fails(&with("iss", json!("other")), DEV_SECRET, "iss: it is not from");
        for claim in ["exp", "sub", "aud", "iss"] {
            fails(&without(claim), DEV_SECRET, claim);
        }
    }

    #[test]
    fn other_texts_and_algorithms_are_refused() {
        assert!(check("nonsense", &verify()).unwrap_err().starts_with("it is no JWT"));
        let key = EncodingKey::from_secret(DEV_SECRET.as_bytes());
        let claims = Claims::new("a", Duration::from_secs(60));
        let token = jsonwebtoken::encode(&Header::new(Algorithm::HS512), &claims, &key).unwrap();
        assert!(check(&token, &verify()).unwrap_err().starts_with("algorithm"));
    }
}
