//! Tokens that are none, forged, or of the wrong kind, and clients that bring none: 4001, whichever way they came,
//! and the connection beside it lives. What else a first message may lack: `first_message`.

use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, crypto};
use roomcast_gateway::config::DEV_SECRET;
use roomcast_protocol::codes::Close;
use roomcast_protocol::limits::LimitName;
use serde_json::{Value, json};

use crate::common::ws::Dial;
use crate::common::{Bystander, Live, claims_of, sign, unix_s};
use crate::scene::{Scene, compressed, deflate, expect_pong};

/// The public key of nobody: what a careless server would take as an HMAC secret.
const RSA_PUBLIC: &str = "-----BEGIN PUBLIC KEY-----\n\
    MFwwDQYJKoZIhvcNAQEBBQADSwAwSAJBAKj34GkxFhD90vcNLYLInFEX6Ppy1tPf\n\
    9Cnzj4p4WGeKLs1Pt8QuKUpRKfFLfRYC9AIKjbJTWit+CqvjWYzvQwECAwEAAQ==\n\
    -----END PUBLIC KEY-----\n";

fn encoded(part: &Value) -> String {
    URL_SAFE_NO_PAD.encode(part.to_string())
}

/// A token with this header, signed with HMAC-SHA256 and this secret whatever the header says.
fn forged(header: &Value, claims: &Value, secret: &[u8]) -> String {
    let message = format!("{}.{}", encoded(header), encoded(claims));
    let key = EncodingKey::from_secret(secret);
    let signature = crypto::sign(message.as_bytes(), &key, Algorithm::HS256).unwrap();
    format!("{message}.{signature}")
}

fn good_header() -> Value {
    json!({ "alg": "HS256", "typ": "JWT" })
}

/// The development key's token with this header instead.
fn with_header(header: &Value) -> String {
    forged(header, &claims_of(&json!({ "sub": "eve" })), DEV_SECRET.as_bytes())
}

/// The development key's token with this claim instead; null: without it.
fn with_claim(name: &str, value: Value) -> String {
    let mut claims = json!({ "sub": "eve" });
    claims[name] = value;
    sign(&claims_of(&claims), DEV_SECRET.as_bytes())
}

/// Each of these tokens is refused, in the query, in the header and in the first frame.
#[track_caller]
fn each_is_unauthorized(tokens: &[String]) {
    let live = Live::start(&[]);
    let mut bystander = Bystander::join(&live);
    for token in tokens {
        let header = format!("Bearer {token}");
        for dial in [Dial::with_token(token), Dial::default().header("Authorization", &header)] {
            dial.open(live.public()).expect_close(Close::Unauthorized);
        }
        let mut ws = live.dial();
        ws.tell(&json!({ "type": "auth", "token": token }));
        ws.expect_close(Close::Unauthorized);
        bystander.lives();
    }
    live.expect_closes(Close::Unauthorized, 3 * tokens.len() as u32);
}

#[test]
fn what_is_no_token_is_refused() {
    let good = with_header(&good_header());
    let (message, _) = good.rsplit_once('.').unwrap();
    each_is_unauthorized(&[
        "x".into(),
        ".".into(),
        "..".into(),
        "a.b.c".into(),
        "null".into(),
        message.into(),
        format!("{message}."),
        format!("{good}."),
        format!("{good}x"),
        format!(".{good}"),
        format!("{message}.!!!"),
        forged(&json!("HS256"), &claims_of(&json!({ "sub": "eve" })), DEV_SECRET.as_bytes()),
        forged(&good_header(), &json!("eve"), DEV_SECRET.as_bytes()),
        forged(&good_header(), &json!([]), DEV_SECRET.as_bytes()),
    ]);
}

#[test]
fn a_token_without_a_signature_is_refused() {
    let claims = encoded(&claims_of(&json!({ "sub": "eve" })));
    let unsigned =
        |alg: &str| format!("{}.{claims}.", encoded(&json!({ "alg": alg, "typ": "JWT" })));
    let mut tokens: Vec<String> = ["none", "None", "nOnE", "NONE", ""].map(unsigned).into();
    tokens.push(with_header(&json!({ "alg": "none" })));
    tokens.push(with_header(&json!({ "typ": "JWT" })));
    tokens.push(with_header(&json!({ "alg": null })));
    tokens.push(with_header(&json!({ "alg": ["HS256"] })));
    each_is_unauthorized(&tokens);
}

#[test]
fn a_token_of_another_algorithm_is_refused() {
    let claims = claims_of(&json!({ "sub": "eve" }));
    let message = format!("{}.{}", encoded(&json!({ "alg": "HS512" })), encoded(&claims));
    let key = EncodingKey::from_secret(DEV_SECRET.as_bytes());
    let hs512 = crypto::sign(message.as_bytes(), &key, Algorithm::HS512).unwrap();
    each_is_unauthorized(&[
        format!("{message}.{hs512}"),
        with_header(&json!({ "alg": "HS384" })),
        with_header(&json!({ "alg": "hs256" })),
        with_header(&json!({ "alg": "RS256" })),
        with_header(&json!({ "alg": "ES256" })),
        forged(&good_header(), &claims, RSA_PUBLIC.as_bytes()),
    ]);
}

#[test]
fn a_token_of_another_key_is_refused() {
    let claims = claims_of(&json!({ "sub": "eve" }));
    let (own, secret) = (b"the key of the attacker, 32 bytes", DEV_SECRET.as_bytes());
    let jwk = json!({ "kty": "oct", "k": URL_SAFE_NO_PAD.encode(own), "alg": "HS256" });
    let with = |name: &str, value: Value, secret: &[u8]| {
        let mut header = good_header();
        header[name] = value;
        forged(&header, &claims, secret)
    };
    each_is_unauthorized(&[
        forged(&good_header(), &claims, own),
        forged(&good_header(), &claims, b""),
        with("jwk", jwk.clone(), own),
        with("jwk", jwk, secret),
        with("jku", json!("http://127.0.0.1:1/keys"), own),
        with("x5u", json!("http://127.0.0.1:1/keys"), own),
        with("x5c", json!(["MII"]), own),
        with("kid", json!("../../../dev/null"), b""),
        with("kid", json!("' OR 1=1 --"), secret),
        with("kid", json!("k".repeat(4_096)), secret),
        with("kid", json!(["a"]), secret),
        with("crit", json!(["zz"]), secret),
        with("b64", json!(false), secret),
    ]);
}

#[test]
fn claims_that_are_missing_or_wrong_are_refused() {
    let now = unix_s();
    let time = |name: &str, value: u64| with_claim(name, json!(value));
    each_is_unauthorized(&[
        time("exp", now - 30),
        time("exp", now - 90),
        time("exp", 0),
        with_claim("exp", json!((now + 600).to_string())),
        with_claim("exp", json!(null)),
        with_claim("exp", json!(-1)),
        time("nbf", now + 30),
        with_claim("nbf", json!("0")),
        with_claim("iss", json!(null)),
        with_claim("iss", json!("somebody")),
        with_claim("iss", json!(["roomcast"])),
        with_claim("aud", json!(null)),
        with_claim("aud", json!("somebody")),
        with_claim("aud", json!(["somebody"])),
        with_claim("sub", json!(null)),
        with_claim("sub", json!("")),
        with_claim("sub", json!(7)),
        with_claim("sub", json!("a b")),
        with_claim("sub", json!("line\nbreak")),
        with_claim("sub", json!("s".repeat(256))),
        with_claim("permissions", json!("view_system")),
        with_claim("permissions", json!([7])),
        with_claim("roles", json!({})),
        with_claim("kind", json!("root")),
        with_claim("agent_id", json!(1.5)),
    ]);
}

#[test]
fn a_token_is_good_for_its_leeway_and_no_longer() {
    let live = Live::start(&[]);
    for (exp, nbf) in [(unix_s() - 2, unix_s() - 60), (unix_s() + 60, unix_s() + 2)] {
        live.enter(&live.token_of(&json!({ "sub": "ann", "exp": exp, "nbf": nbf })));
    }
}

#[test]
fn a_token_of_8_kib_passes_and_of_one_byte_more_is_refused() {
    let live = Live::start(&[]);
    let sized = |wanted: usize| {
        let with = |length: usize| with_claim("padding", json!("p".repeat(length)));
        let empty = with(0).len();
        let at = (wanted - empty) * 3 / 4;
        (at.saturating_sub(4)..at + 4).map(with).find(|token| token.len() == wanted)
    };
    // Base64 cannot have every length; the claims' length decides.
    let max = (8_189..=8_192).rev().find_map(sized).unwrap();
    let over = (8_193..=8_196).find_map(sized).unwrap();
    live.enter(&max);
    Dial::with_token(&over).open(live.public()).expect_close(Close::Unauthorized);
    let mut ws = live.dial();
    ws.tell(&json!({ "type": "auth", "token": over }));
    ws.expect_close(Close::Unauthorized);
    let mut ws = live.dial();
    ws.tell(&json!({ "type": "auth", "token": max }));
    ws.welcome();
    live.expect_hits(LimitName::TokenBytes, 2);
}

#[test]
fn a_client_without_a_token_is_ended_at_the_deadline_whatever_it_does() {
    let mut scene = Scene::with(&[("limits.first_message", "700ms")]);
    let started = Instant::now();
    let mut silent = scene.live.dial();
    let mut pinging = scene.live.dial();
    let mut trickling = scene.live.dial();
    for byte in &crate::common::ws::frame(0x81, &[b'x'; 100])[..5] {
        std::thread::sleep(Duration::from_millis(80));
        trickling.raw(&[*byte]);
        expect_pong(&mut pinging);
    }
    for ws in [&mut silent, &mut pinging, &mut trickling] {
        ws.expect_close(Close::Unauthorized);
        assert!(started.elapsed() >= Duration::from_millis(650), "{:?}", started.elapsed());
    }
    assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
    scene.all_live();
    scene.live.expect_closes(Close::Unauthorized, 3);
}

#[test]
fn a_client_without_a_token_may_not_make_the_node_keep_much() {
    let live = Live::start(&[]);
    let mut bystander = Bystander::join(&live);
    // One long frame, one long message, and a bomb.
    let mut ws = live.dial();
    ws.flood(&crate::common::ws::head(0x81, 11_000));
    ws.expect_close_over(Close::TooLarge, LimitName::FrameBytes, 10_240);
    let mut ws = live.dial();
    ws.send(0x01, &[b' '; 6_000]);
    ws.flood(&crate::common::ws::frame(0x00, &[b' '; 6_000]));
    ws.expect_close_over(Close::TooLarge, LimitName::MessageBytes, 10_240);
    let mut ws = live.dial();
    ws.tell(&compressed(&deflate(&vec![b' '; 4 << 20])[..1_000]));
    ws.expect_close_over(Close::TooLarge, LimitName::InflatedBytes, 1 << 20);
    bystander.lives();
}

#[test]
fn a_cookie_is_no_token() {
    let live = Live::start(&[("limits.first_message", "300ms")]);
    let cookie = format!("token={}", live.token("ann", "user"));
    let mut ws = Dial::default().header("Cookie", &cookie).open(live.public());
    ws.expect_close(Close::Unauthorized);
}
