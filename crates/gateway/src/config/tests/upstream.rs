//! `[upstream]`: what a configuration of back-ends means, and what makes none.

use super::*;

const TARGET: &str = "[[upstream.targets]]\nname = \"app\"\nurl = \"http://app:8000/hooks/\"\n";
const CALL: &str = "[[upstream.calls]]\nname = \"ask\"\ntarget = \"app\"\npath = \"/ask\"\n";

/// A configuration whose one call has one more line.
pub(super) fn call(line: &str) -> String {
    format!("{TARGET}{CALL}{line}\n")
}

fn target(line: &str) -> String {
    format!("{TARGET}{line}\n")
}

fn requests(lines: &str) -> String {
    format!("{TARGET}{CALL}[[upstream.requests]]\n{lines}\n")
}

#[test]
fn a_call_has_the_defaults_of_the_design() {
    let config = load(&call(""), &[], &[]).unwrap().upstream;
    let [call] = &*config.calls else { panic!("one call") };
    assert_eq!((&*call.name, call.target, call.method.as_str()), ("ask", 0, "POST"));
    assert_eq!(call.uri, "/hooks/ask");
    assert_eq!((call.timeout_ms, call.concurrency, call.queue), (2_000, 64, 1_024));
    assert_eq!((call.breaker_failures, call.breaker_open_ms), (5, 60_000));
    assert_eq!((call.response_bytes, call.cache), (262_144, None));
    let [target] = &*config.targets else { panic!("one target") };
    assert_eq!((target.https, &*target.host, target.port), (false, "app", 8_000));
    assert_eq!(target.authority, "app:8000");
    assert!(target.allow_private.is_empty() && target.secret.is_none());
}

#[test]
fn what_is_kept_has_bounds_by_itself() {
    let config = load(&call("cache = \"10s\""), &[], &[]).unwrap().upstream;
    let cache = CacheConfig {
        fresh_ms: 10_000,
        stale_ms: 3_600_000,
        entries_max: 1_000,
        bytes_max: 4 << 20,
    };
    assert_eq!(config.calls[0].cache, Some(cache));
    refused(
        &call("cache_bytes = 5000"),
        "roomcast.toml:8:1: upstream.calls.cache_bytes is given without cache; say with cache how long answers are \
         kept, or leave this out",
    );
}

#[test]
fn urls_are_read_as_a_back_ends_address() {
    let of = |url: &str| {
        let text = format!("[[upstream.targets]]\nname = \"app\"\nurl = \"{url}\"\n");
        let target = load(&text, &[], &[]).unwrap().upstream.targets.remove(0);
        (target.https, target.host, target.port)
    };
    assert_eq!(of("https://app.example.com"), (true, "app.example.com".to_owned(), 443));
    assert_eq!(of("http://10.1.2.3/"), (false, "10.1.2.3".to_owned(), 80));
    assert_eq!(of("http://[fd00::1]:81"), (false, "fd00::1".to_owned(), 81));
    for url in [
        "app",
        "/app",
        "ftp://app",
        "http://user:secret@app",
        "http://app/?a=1",
        "http://app/#a",
        "http://app:0",
        "http://app:99999",
        "http://",
    ] {
        let text = format!("[[upstream.targets]]\nname = \"app\"\nurl = \"{url}\"\n");
        let told = load(&text, &[], &[]).unwrap_err().to_string();
        assert!(told.contains("upstream.targets.url is no address of a back-end"), "{url}: {told}");
        assert!(!told.contains("secret"), "{told}");
    }
}

#[test]
fn names_that_are_not_configured_are_told_with_those_that_are() {
    refused(
        &format!("{TARGET}{}", CALL.replace("\"app\"", "\"ap\"")),
        "roomcast.toml:6:1: upstream.calls.target is \"ap\", which is not configured; known are: app",
    );
    refused(
        &requests("methods = [\"a\"]\ncall = \"aks\""),
        "roomcast.toml:10:1: upstream.requests.call is \"aks\", which is not configured; known are: ask",
    );
    refused(&format!("{TARGET}{TARGET}"), "roomcast.toml:5:1: upstream.targets.name is used twice");
    refused(
        &format!("{TARGET}{CALL}{CALL}"),
        "roomcast.toml:9:1: upstream.calls.name is used twice",
    );
    refused(
        &TARGET.replace("\"app\"", "\"App 1\""),
        "roomcast.toml:2:1: upstream.targets.name is \"App 1\"; write lower-case letters, digits, `-`, `_` and `.`, \
         at most 64 of them",
    );
}

#[test]
fn words_of_a_call_are_checked_with_their_mend() {
    refused(
        &call("method = \"GET\""),
        "roomcast.toml:8:1: upstream.calls.method is \"GET\"; write \"POST\", \"PUT\" or \"PATCH\": the body says \
         what is asked",
    );
    refused(
        &format!("{TARGET}{}", CALL.replace("/ask", "ask")),
        "roomcast.toml:7:1: upstream.calls.path is no path; write for example \"/hooks/reports\"",
    );
    for (header, told) in [
        ("X-App", "has an entry that is no header; write for example \"X-App: shop\""),
        (
            "Authorization: Bearer a",
            "has authorization; give it as authorization of the target, where it is never written out",
        ),
        ("Host: a", "has host, which the node says itself; leave it out"),
        (
            "Roomcast-Signature: a",
            "has roomcast-signature, which the node says itself; leave it out",
        ),
    ] {
        let expected = format!("roomcast.toml:8:1: upstream.calls.headers {told}");
        refused(&call(&format!("headers = [\"{header}\"]")), &expected);
    }
    refused(
        &target("allow_private = [\"10.0.0.0/33\"]"),
        "roomcast.toml:4:1: upstream.targets.allow_private has \"10.0.0.0/33\"; write an address or a network, for \
         example \"10.0.0.0/8\"",
    );
    refused(
        &target("secret = \"fifteen bytes..\""),
        "roomcast.toml:4:1: upstream.targets.secret has 15 bytes, at least 16 are needed; `openssl rand -base64 48` \
         makes some",
    );
}

#[test]
fn methods_of_requests_are_words_or_beginnings() {
    let config = load(&requests("methods = [\"a.b\", \"c.*\"]\ncall = \"ask\""), &[], &[]);
    let methods = config.unwrap().upstream.requests.remove(0).methods;
    let fits = |method: &str| methods.iter().any(|it| it.fits(method));
    assert!(fits("a.b") && fits("c.") && fits("c.d.e"));
    assert!(!fits("a.bc") && !fits("a") && !fits("c") && !fits(""));
    for (pattern, is_good) in [
        ("*".to_owned(), true),
        ("m".repeat(255), true),
        ("m".repeat(256), false),
        ("a*b".to_owned(), false),
        ("**".to_owned(), false),
    ] {
        let text = requests(&format!("methods = [\"{pattern}\"]\ncall = \"ask\""));
        assert_eq!(load(&text, &[], &[]).is_ok(), is_good, "{pattern}");
    }
    refused(&requests("call = \"ask\""), "roomcast.toml:8:1: upstream.requests.methods is missing");
}

#[test]
fn tables_up_to_their_number_pass_and_one_more_is_refused() {
    let many = |count: usize| {
        (0..count).map(|at| TARGET.replace("app\"", &format!("app{at}\""))).collect::<String>()
    };
    assert!(load(&many(64), &[], &[]).is_ok());
    let told = load(&many(65), &[], &[]).unwrap_err().to_string();
    assert!(told.contains("upstream.targets are 65, allowed are 64"), "{told}");
}

#[test]
fn dev_opens_this_machine_to_calls_and_says_so() {
    let file = Written::new(TARGET);
    let of = |dev: bool| {
        let options = LoadOptions { file: Some(file.0.clone()), dev, ..LoadOptions::default() };
        Config::load(&options).unwrap()
    };
    let loopback: Vec<IpNet> = ["127.0.0.0/8", "::1/128"].map(|it| it.parse().unwrap()).into();
    assert_eq!(of(true).upstream.targets[0].allow_private, loopback);
    assert!(of(false).upstream.targets[0].allow_private.is_empty());
    let warns = |config: &Config| config.warnings().iter().any(|it| it.contains("back-ends"));
    assert!(warns(&of(true)) && !warns(&of(false)));
}

#[test]
fn secrets_of_back_ends_are_never_written_out() {
    let lines = "secret = \"0123456789abcdef\"\nauthorization = \"Bearer very-secret\"";
    let config = load(&target(lines), &[], &[]).unwrap();
    for text in [config.print(), format!("{config:?}")] {
        assert!(!text.contains("0123456789abcdef") && !text.contains("very-secret"), "{text}");
    }
}
