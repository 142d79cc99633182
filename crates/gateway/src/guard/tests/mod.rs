//! The guard against forged tokens, other people's rooms and its own rules. Each attack row of the reliability design
//! that the guard answers has its tests here, by its number.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, crypto};
use roomcast_protocol::content::Content;
use roomcast_protocol::guard::{AuthError, Guard, Kind, Principal, PublishRight};
use roomcast_protocol::publication::{Priority, Publication};
use roomcast_protocol::room::RoomName;
use serde_json::{Value, json};

use super::{RuleGuard, backend};
mod rooms;
mod tokens;

use crate::config::{Config, DEV_API_KEY, DEV_ISSUER, DEV_SECRET, LoadOptions};

const NOW_MS: u64 = 1_750_000_000_000;
const NOW_S: u64 = NOW_MS / 1_000;
const SECRET: &str = "a-secret-of-thirty-two-bytes-or-more";
const OTHER_SECRET: &str = "another-secret-of-32-bytes-or-more!!";

/// A configuration from a file's text.
fn config(text: &str) -> Config {
    let name =
        format!("roomcast-guard-{}-{:?}.toml", std::process::id(), std::thread::current().id());
    let file = std::env::temp_dir().join(name);
    std::fs::write(&file, text).unwrap();
    let loaded = Config::load(&LoadOptions { file: Some(file.clone()), ..LoadOptions::default() });
    std::fs::remove_file(file).unwrap();
    loaded.unwrap()
}

fn guard(text: &str) -> RuleGuard {
    RuleGuard::new(&config(text), "node-1").unwrap()
}

/// An issuer of the default realm that may name back-ends, with two keys, and one of the realm `gs` that may not.
fn issuers() -> RuleGuard {
    guard(&format!(
        r#"
[[auth.issuers]]
issuer = "shop"
audience = "roomcast"
allow_backend = true
keys = [{{ secret = "{SECRET}" }}, {{ kid = "new", secret = "{OTHER_SECRET}" }}]

[[auth.issuers]]
issuer = "games"
audience = "play"
realm = "gs"
keys = [{{ kid = "g", secret = "{SECRET}" }}]

[[rooms]]
match = "level-{{level}}"
join = "string(user.claims.level) == level"
"#
    ))
}

fn segment(json: &Value) -> String {
    URL_SAFE_NO_PAD.encode(json.to_string())
}

fn signed(header: &Value, claims: &Value, secret: &str) -> String {
    let message = format!("{}.{}", segment(header), segment(claims));
    let key = EncodingKey::from_secret(secret.as_bytes());
    let signature = crypto::sign(message.as_bytes(), &key, Algorithm::HS256).unwrap();
    format!("{message}.{signature}")
}

fn claims() -> Value {
    json!({ "iss": "shop", "aud": "roomcast", "sub": "alice", "exp": NOW_S + 60 })
}

/// The claims with these added, or taken away where null.
fn with(changes: &Value) -> Value {
    let mut claims = claims();
    let all = claims.as_object_mut().unwrap();
    for (claim, value) in changes.as_object().unwrap() {
        if value.is_null() {
            all.remove(claim);
        } else {
            all.insert(claim.clone(), value.clone());
        }
    }
    claims
}

#[allow(clippy::needless_pass_by_value, reason = "reads better where it is called")]
fn token(changes: Value) -> String {
    signed(&json!({ "alg": "HS256", "typ": "JWT" }), &with(&changes), SECRET)
}

#[track_caller]
fn refused(token: &str, cause: &str) {
    match issuers().verify(token, NOW_MS) {
        Err(AuthError::Unauthorized(why)) => assert!(why.contains(cause), "{why}"),
        other => panic!("not refused for {cause:?}: {other:?}"),
    }
}

#[track_caller]
fn accepted(token: &str) -> Principal {
    issuers().verify(token, NOW_MS).unwrap()
}

fn room(name: &str) -> RoomName {
    RoomName::parse(name).unwrap()
}

/// What a principal may do in a room: `join`, `publish`, `own-agent`; empty: nothing.
fn rights(guard: &RuleGuard, who: &Principal, name: &str) -> String {
    let name = room(name);
    let Some(rule) = guard.rule(&name) else { return String::new() };
    let join = guard.may_join(rule, &name, who).then_some("join");
    let publish = match guard.may_publish(rule, &name, who) {
        PublishRight::No => None,
        PublishRight::Yes => Some("publish"),
        PublishRight::OwnAgent => Some("own-agent"),
    };
    [join, publish].into_iter().flatten().collect::<Vec<_>>().join(" ")
}

#[track_caller]
fn check(who: &Principal, name: &str, expected: &str) {
    assert_eq!(rights(&issuers(), who, name), expected, "{} in {name}", who.id);
}

fn user(changes: Value) -> Principal {
    accepted(&token(changes))
}
