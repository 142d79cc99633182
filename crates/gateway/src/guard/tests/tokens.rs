//! Tokens: attack rows 2 to 8 and 37, realms and kinds.

use super::*;

#[test]
fn a_good_token_says_who_it_is() {
    let who = accepted(&token(json!({
        "permissions": ["view_agents"], "roles": ["admin"], "teams": ["red"],
        "agent_id": 7, "kind": "backend", "extra": { "a": [1] },
    })));
    assert_eq!((who.kind, &*who.realm, &*who.id), (Kind::Backend, "", "alice"));
    assert!(who.holds("view_agents") && !who.holds("view"));
    assert!(who.roles.contains("admin") && who.teams.contains("red"));
    assert_eq!(who.agent_id.as_deref(), Some("7"));
    assert_eq!(who.expires_unix_ms, (NOW_S + 60) * 1_000);
    let all: Value = serde_json::from_str(&who.claims).unwrap();
    assert_eq!((&all["extra"]["a"][0], &all["iss"]), (&json!(1), &json!("shop")));
    assert!(!who.claims.contains(": "), "the claims are compact");
}

#[test]
fn claims_that_no_rule_reads_are_not_kept() {
    let issuer = format!(
        "[[auth.issuers]]\nissuer = \"shop\"\naudience = \"roomcast\"\nkeys = [{{ secret = \"{SECRET}\" }}]\n"
    );
    let rule = |condition: &str| {
        format!("{issuer}[[rooms]]\nmatch = \"a\"\njoin = \"true\"\npublish = \"{condition}\"\n")
    };
    let claims = |text: &str| guard(text).verify(&token(json!({})), NOW_MS).unwrap().claims;
    assert_eq!(&*claims(&issuer), "");
    assert_eq!(&*claims(&rule("user.id == 'alice'")), "");
    assert!(claims(&rule("user.claims.sub == 'alice'")).contains("alice"));
}

#[test]
fn attack_2_a_token_without_a_signature_is_refused_however_none_is_written() {
    for alg in ["none", "None", "nOnE", "NONE", "", "hs256", "HS256 "] {
        let header = json!({ "alg": alg });
        refused(&signed(&header, &claims(), SECRET), "not signed with HS256");
        refused(&format!("{}.{}.", segment(&header), segment(&claims())), "not signed with HS256");
    }
    let header = segment(&json!({ "alg": "HS256" }));
    refused(&format!("{header}.{}.", segment(&claims())), "signed with another key");
    refused(&format!("{header}.{}", segment(&claims())), "no JWT");
}

#[test]
fn attack_3_another_algorithm_is_refused_even_if_its_signature_holds() {
    for alg in ["HS384", "HS512", "RS256", "ES256", "PS256", "EdDSA"] {
        refused(&signed(&json!({ "alg": alg }), &claims(), SECRET), "not signed with HS256");
    }
    let message = format!("{}.{}", segment(&json!({ "alg": "HS512" })), segment(&claims()));
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    let signature = crypto::sign(message.as_bytes(), &key, Algorithm::HS512).unwrap();
    refused(&format!("{message}.{signature}"), "not signed with HS256");
    let message = format!("{}.{}", segment(&json!({ "alg": "HS256" })), segment(&claims()));
    let signature = crypto::sign(message.as_bytes(), &key, Algorithm::HS512).unwrap();
    refused(&format!("{message}.{signature}"), "signed with another key");
    let public_key =
        "-----BEGIN PUBLIC KEY-----\nMIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8A\n-----END PUBLIC KEY-----";
    refused(&signed(&json!({ "alg": "HS256" }), &claims(), public_key), "signed with another key");
}

#[test]
fn attack_4_times_that_are_texts_are_refused() {
    refused(&token(json!({ "exp": "99999999999" })), "exp is no number");
    refused(&token(json!({ "nbf": "0" })), "nbf is no number");
    refused(&token(json!({ "nbf": NOW_S + 3_600 })), "not valid yet");
    refused(&token(json!({ "exp": [NOW_S + 60] })), "exp is no number");
    refused(&token(json!({ "exp": -1 })), "exp is no time");
    refused(&token(json!({ "exp": 1e300 })), "exp is no time");
    accepted(&token(json!({ "nbf": NOW_S + 4 })));
    accepted(&token(json!({ "exp": NOW_S as f64 + 0.5 })));
    accepted(&token(json!({ "exp": u64::MAX })));
}

#[test]
fn attack_5_a_token_is_good_until_five_seconds_after_its_expiry() {
    for late in [30, 90] {
        refused(&token(json!({ "exp": NOW_S - late })), "expired");
    }
    let guard = issuers();
    let token = token(json!({ "exp": NOW_S }));
    assert!(guard.verify(&token, NOW_MS + 4_999).is_ok());
    assert!(guard.verify(&token, NOW_MS + 5_000).is_err());
}

#[test]
fn attack_6_a_token_without_or_with_other_required_claims_is_refused() {
    refused(&token(json!({ "aud": null })), "lacks a claim");
    refused(&token(json!({ "iss": null })), "lacks a claim");
    refused(&token(json!({ "exp": null })), "lacks a claim");
    refused(&token(json!({ "sub": null })), "lacks a claim");
    refused(&token(json!({ "aud": "other" })), "another audience");
    refused(&token(json!({ "aud": ["other"] })), "another audience");
    refused(&token(json!({ "aud": ["roomcast", 1] })), "another audience");
    refused(&token(json!({ "iss": "games" })), "another issuer");
    refused(&token(json!({ "iss": ["shop"] })), "another issuer");
    accepted(&token(json!({ "aud": ["other", "roomcast"] })));
}

#[test]
fn attack_6_an_issuer_may_require_less_or_more() {
    let guard = guard(&format!(
        r#"
[[auth.issuers]]
issuer = "shop"
audience = "roomcast"
required = ["jti"]
keys = [{{ secret = "{SECRET}" }}]
"#
    ));
    let verify = |changes: Value| guard.verify(&token(changes), NOW_MS);
    assert!(verify(json!({})).is_err());
    assert!(verify(json!({ "jti": "1" })).is_ok());
    assert!(verify(json!({ "jti": "1", "iss": null, "aud": null })).is_ok());
    assert!(verify(json!({ "jti": "1", "iss": "other" })).is_err());
    assert!(verify(json!({ "jti": "1", "exp": null })).is_err());
}

#[test]
fn attack_6b_a_critical_extension_is_refused() {
    for crit in [json!(["zz"]), json!([]), json!(["exp"]), json!("zz")] {
        let header = json!({ "alg": "HS256", "crit": crit });
        refused(&signed(&header, &claims(), SECRET), "crit");
    }
}

#[test]
fn attack_7_a_kid_only_chooses_among_configured_keys() {
    let kid = |kid: &Value| json!({ "alg": "HS256", "kid": kid });
    accepted(&signed(&kid(&json!("new")), &claims(), OTHER_SECRET));
    refused(&signed(&kid(&json!("new")), &claims(), SECRET), "signed with another key");
    let long = "k".repeat(4_096);
    for name in ["../../dev/null", "'; drop", "", "New", "new ", long.as_str()] {
        refused(&signed(&kid(&json!(name)), &claims(), SECRET), "kid names no configured key");
    }
    refused(&signed(&kid(&json!(["new"])), &claims(), OTHER_SECRET), "no JWT");
    // The same secret under another issuer's kid: the claims must be that issuer's.
    refused(&signed(&kid(&json!("g")), &claims(), SECRET), "another issuer");
}

#[test]
fn attack_7_a_key_in_the_header_is_refused_and_never_used() {
    let key = URL_SAFE_NO_PAD.encode("the attacker's own key, thirty-two");
    for extra in [
        json!({ "jwk": { "kty": "oct", "k": key } }),
        json!({ "jku": "http://169.254.169.254/keys" }),
        json!({ "x5u": "http://127.0.0.1/cert" }),
        json!({ "x5c": ["MIIB"] }),
        json!({ "b64": false }),
    ] {
        let mut header = extra;
        header["alg"] = json!("HS256");
        refused(&signed(&header, &claims(), "the attacker's own key, thirty-two"), "of its own");
        refused(&signed(&header, &claims(), SECRET), "of its own");
    }
}

/// A token of exactly so many bytes.
fn token_of(length: usize) -> String {
    let tokens = (1..4).flat_map(|pad| {
        let header = json!({ "alg": "HS256", "typ": "x".repeat(pad) });
        (length / 4 * 3 - 300..length / 4 * 3).map(move |fill| (header.clone(), fill))
    });
    let tokens = tokens
        .map(|(header, fill)| signed(&header, &with(&json!({ "fill": "y".repeat(fill) })), SECRET));
    tokens.into_iter().find(|token| token.len() == length).unwrap()
}

#[test]
fn attack_8_a_token_at_the_limit_passes_and_one_byte_more_is_refused_unread() {
    let max = 8 * 1_024;
    accepted(&token_of(max));
    refused(&token_of(max + 1), "longer than limits.token_bytes");
    refused(&"a".repeat(8 << 20), "longer than limits.token_bytes");
}

#[test]
fn texts_that_are_no_jwt_are_refused() {
    let good = token(json!({}));
    let (message, signature) = good.rsplit_once('.').unwrap();
    for text in [
        "",
        ".",
        "..",
        "a.b.c",
        "\u{0}.\u{0}.\u{0}",
        "é.é.é",
        &format!("{good}."),
        &format!("{good}.x"),
        &format!("{good}="),
        &format!(" {good}"),
        &format!("{message}.{signature}\n"),
        &good.replace('-', "+").replace('_', "/").replacen('.', ". ", 1),
        &format!("{}.{}.x", URL_SAFE_NO_PAD.encode("[]"), segment(&claims())),
        &format!(
            "{}.{}.x",
            URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256","alg":"none"}"#),
            segment(&claims())
        ),
    ] {
        assert!(issuers().verify(text, NOW_MS).is_err(), "{text:?}");
    }
    refused(&signed(&json!({ "alg": "HS256" }), &json!(["no", "object"]), SECRET), "no object");
    let deep = format!("{}{}", "[".repeat(2_000), "]".repeat(2_000));
    let message =
        format!("{}.{}", segment(&json!({ "alg": "HS256" })), URL_SAFE_NO_PAD.encode(deep));
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    let signature = crypto::sign(message.as_bytes(), &key, Algorithm::HS256).unwrap();
    refused(&format!("{message}.{signature}"), "no object");
}

#[test]
fn one_changed_byte_anywhere_breaks_a_token() {
    let guard = issuers();
    let good = token(json!({}));
    for at in 0..good.len() {
        let mut bytes = good.clone().into_bytes();
        bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
        let changed = String::from_utf8(bytes).unwrap();
        assert!(guard.verify(&changed, NOW_MS).is_err(), "byte {at}");
    }
}

#[test]
fn only_an_issuer_that_may_names_back_ends() {
    let games = |changes: Value| {
        let mut claims = with(&json!({ "iss": "games", "aud": "play" }));
        claims.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        signed(&json!({ "alg": "HS256", "kid": "g" }), &claims, SECRET)
    };
    assert_eq!(accepted(&games(json!({ "kind": "user" }))).kind, Kind::User);
    refused(&games(json!({ "kind": "backend" })), "may not name back-ends");
    refused(&token(json!({ "kind": "admin" })), "neither user nor backend");
    refused(&token(json!({ "kind": "anonymous" })), "neither user nor backend");
    refused(&token(json!({ "kind": ["backend"] })), "neither user nor backend");
    assert_eq!(accepted(&token(json!({ "kind": "backend" }))).kind, Kind::Backend);
}

#[test]
fn claims_of_a_wrong_form_are_refused() {
    for claim in ["permissions", "roles", "teams"] {
        for value in [json!("view_agents"), json!({ "a": 1 }), json!([1]), json!(["a", null])] {
            refused(&token(json!({ claim: value })), claim);
        }
    }
    let long = "x".repeat(201);
    for value in [json!(1.5), json!(""), json!([7]), json!(true), json!(long), json!("$user-7")] {
        refused(&token(json!({ "agent_id": value })), "agent_id");
    }
    assert_eq!(
        accepted(&token(json!({ "agent_id": "host-1" }))).agent_id.as_deref(),
        Some("host-1")
    );
    for sub in [
        json!(7),
        json!(""),
        json!("a b"),
        json!("a\u{0}"),
        json!("e\u{301}"),
        json!("x".repeat(251)),
    ] {
        refused(&token(json!({ "sub": sub })), "sub");
    }
}

#[test]
fn a_realm_keeps_its_users_apart() {
    let games = with(&json!({ "iss": "games", "aud": "play", "sub": "7" }));
    let header = json!({ "alg": "HS256", "kid": "g" });
    let player = accepted(&signed(&header, &games, SECRET));
    assert_eq!(player.user_key(), "gs:7");
    let shopper = accepted(&token(json!({ "sub": "7" })));
    assert_eq!(shopper.user_key(), "7");
    check(&player, "user-gs:7", "join");
    check(&player, "user-7", "");
    check(&shopper, "user-7", "join");
    check(&shopper, "user-gs:7", "");
    refused(&token(json!({ "sub": "gs:7" })), "another realm");
    refused(&token(json!({ "sub": "api:shop" })), "another realm");
    accepted(&token(json!({ "sub": "urn:7" })));
}

#[test]
fn without_an_issuer_nobody_is_let_in_and_with_dev_its_secret_is() {
    let closed = RuleGuard::new(&Config::load(&LoadOptions::default()).unwrap(), "n").unwrap();
    let dev_claims = with(&json!({ "iss": DEV_ISSUER, "aud": DEV_ISSUER, "kind": "backend" }));
    let token = signed(&json!({ "alg": "HS256" }), &dev_claims, DEV_SECRET);
    assert!(closed.verify(&token, NOW_MS).is_err());
    assert_eq!(closed.api_key(DEV_API_KEY).map(|key| &*key.name), None);
    let dev = Config::load(&LoadOptions { dev: true, ..LoadOptions::default() }).unwrap();
    let dev = RuleGuard::new(&dev, "n").unwrap();
    assert_eq!(dev.verify(&token, NOW_MS).unwrap().kind, Kind::Backend);
    assert_eq!(dev.api_key(DEV_API_KEY).map(|key| &*key.name), Some("dev"));
}

#[test]
fn attack_37_an_api_key_is_known_only_whole() {
    let guard = guard(
        "[[api.keys]]\nname = \"shop\"\nsecret = \"0123456789abcdef\"\n\
         [[api.keys]]\nname = \"bank\"\nsecret = \"fedcba9876543210\"\n",
    );
    assert_eq!(guard.api_key("0123456789abcdef").map(|key| &*key.name), Some("shop"));
    assert_eq!(guard.api_key("fedcba9876543210").map(|key| &*key.name), Some("bank"));
    for other in
        ["", "0123456789abcde", "0123456789abcdef0", "0123456789abcdef\0", "0123456789ABCDEF"]
    {
        assert_eq!(guard.api_key(other).map(|key| &*key.name), None, "{other:?}");
    }
}
