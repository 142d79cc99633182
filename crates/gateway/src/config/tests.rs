//! The configuration: every key at its bounds, every problem with its place and mend, no secret in any text.

mod upstream;
mod webhooks;

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use roomcast_broker::redis::{Credentials, Servers};
use roomcast_protocol::guard::Policy;
use roomcast_protocol::inbox::CursorOf;
use roomcast_protocol::position::Keep;
use roomcast_protocol::presence::PresenceMode;
use roomcast_protocol::relay::{RelayFormat, RelayMode};

use super::schema::{Node, SCHEMA};
use super::*;
use crate::guard::{DataPath, RuleGuard};

const SECRET: &str = "a-secret-of-thirty-two-bytes-or-more";

/// A file of its own, gone when the test ends.
struct Written(PathBuf);

impl Written {
    fn new(text: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("roomcast-config-{}-{count}.toml", std::process::id());
        let file = std::env::temp_dir().join(name);
        std::fs::write(&file, text).unwrap();
        Self(file)
    }
}

impl Drop for Written {
    fn drop(&mut self) {
        drop(std::fs::remove_file(&self.0));
    }
}

fn pairs(of: &[(&str, &str)]) -> Vec<(String, String)> {
    of.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn load(text: &str, env: &[(&str, &str)], sets: &[(&str, &str)]) -> Result<Config, ConfigErrors> {
    let file = Written::new(text);
    Config::load(&LoadOptions {
        file: Some(file.0.clone()),
        env: pairs(env),
        overrides: pairs(sets),
        dev: false,
    })
    .map_err(|ConfigErrors(problems)| {
        // The file's name is another in each test.
        let name = file.0.display().to_string();
        let plain = |it: Problem| Problem::new(it.place.replace(&name, "roomcast.toml"), it.text);
        ConfigErrors(problems.into_iter().map(plain).collect())
    })
}

fn set(key: &str, value: &str) -> Result<Config, ConfigErrors> {
    load("", &[], &[(key, value)])
}

#[track_caller]
fn refused(text: &str, expected: &str) {
    assert_eq!(load(text, &[], &[]).unwrap_err().to_string(), expected);
}

#[test]
fn the_defaults_are_those_of_the_design() {
    let config = Config::load(&LoadOptions::default()).unwrap();
    let cores = std::thread::available_parallelism().map_or(1, usize::from).min(64);
    assert_eq!(config.node.lanes, cores);
    assert_eq!(config.listen.public, "0.0.0.0:8080".parse().unwrap());
    assert_eq!(config.listen.internal, "127.0.0.1:9090".parse().unwrap());
    assert!(
        !config.dev && !config.listen.proxy_protocol && config.listen.trusted_proxies.is_empty()
    );
    assert!(config.origins.allow.is_empty() && config.rooms.is_empty());
    assert!(config.auth.issuers.is_empty() && config.api.keys.is_empty());
    assert_eq!(config.limits.session, SessionLimits::default());
    assert_eq!(config.limits.decode, DecodeLimits::default());
    let limits = LimitName::ALL.map(|name| config.limits.get(name));
    let expected = [
        10,
        10,
        100_000,
        100,
        600,
        128,
        64,
        65_536,
        262_144,
        1 << 20,
        64,
        100,
        32,
        8_192,
        1 << 20,
        256 << 20,
        1_000,
        4,
        256,
        8,
        100,
        1 << 20,
    ];
    assert_eq!(limits, expected);
    let Limits { header_ms, header_bytes, write_ms, .. } = config.limits;
    assert_eq!((header_ms, header_bytes, write_ms), (5_000, 16_384, 10_000));
    assert_eq!(config.agents.leave_grace_ms, 5_000);
    let drain = DrainConfig { window_ms: 20_000, rate: 100, deadline_ms: 120_000 };
    assert_eq!(config.drain, drain);
    assert_eq!((&*config.log.level, config.log.format), ("info", LogFormat::Auto));
    assert_eq!(config.broker.kind, BrokerKind::Memory);
    let redis = RedisConfig {
        servers: Servers::Standalone(("127.0.0.1".into(), 6_379)),
        credentials: Credentials::default(),
        sentinel_credentials: Credentials::default(),
        tls: None,
        command_timeout_ms: 1_000,
        connect_timeout_ms: 2_000,
        pending_bytes: 16 << 20,
        dedup_ttl_ms: 120_000,
        dedup_max: 100_000,
        replicas_min: 1,
        wait_timeout_ms: 1_000,
    };
    assert_eq!(config.redis, redis);
    let relay = RelayConfig {
        mode: RelayMode::Pattern,
        format: RelayFormat::MessagePack,
        outsiders: true,
        keys: None,
    };
    assert_eq!(config.relay, relay);
    assert!(config.warnings()[0].contains("nobody can authenticate"));
}

#[test]
fn every_limit_of_the_protocol_is_a_key_by_its_name() {
    for (at, limit) in LimitName::ALL.into_iter().enumerate() {
        let value = if limit == LimitName::OutboxBytes { 300_000 } else { 66_000 };
        let value = match limit {
            LimitName::RoomsPerSession | LimitName::BatchMessages | LimitName::ApiBatch => 5_000,
            LimitName::Depth => 100,
            LimitName::HistoriesPerSession | LimitName::RequestsPerSession => 50,
            LimitName::Unacked => 300,
            LimitName::TokenBytes => 9_000,
            LimitName::OutboxesBytes => 2_000_000,
            LimitName::ConnectionsPerIp
            | LimitName::ConnectionsPerUser
            | LimitName::ConnectionsPerNode
            | LimitName::MessagesPerUser
            | LimitName::ControlsPerUser
            | LimitName::FrameBytes
            | LimitName::MessageBytes
            | LimitName::InflatedBytes
            | LimitName::Fragments
            | LimitName::ControlFrames
            | LimitName::OutboxBytes
            | LimitName::ApiBatchBytes
            | LimitName::Unauthenticated => value,
        };
        let key = format!("limits.{}", limit.name());
        let config = set(&key, &value.to_string()).unwrap();
        assert_eq!(config.limits.get(limit), value, "{key}");
        for (other_at, other) in LimitName::ALL.into_iter().enumerate() {
            let default = Config::load(&LoadOptions::default()).unwrap().limits.get(other);
            assert!(
                other_at == at || config.limits.get(other) == default,
                "{key} {}",
                other.name()
            );
        }
    }
}

/// A rule with one more line.
fn rule(line: &str) -> String {
    format!("[[rooms]]\nmatch = \"a\"\njoin = \"true\"\n{line}\n")
}

/// What the example says about a key's bounds, as numbers, and how to write one.
fn bounds(text: &str) -> Option<(u64, u64, &'static str)> {
    let (min, max) = text.split_once(" to ")?;
    if let (Some(min), Some(max)) = (units::millis(min), units::millis(max)) {
        return Some((min, max, "ms"));
    }
    Some((units::bytes(min)?, units::bytes(max)?, ""))
}

#[test]
fn every_key_with_bounds_passes_at_them_and_is_refused_beyond() {
    let mut tried = 0;
    for (path, doc) in SCHEMA.keys() {
        let Some((min, max, unit)) = bounds(&doc.bounds) else {
            assert!(doc.bounds.is_empty() && !path.starts_with("limits."), "{path} has odd bounds");
            continue;
        };
        tried += 1;
        // One limit above another is refused as well; the others are moved out of the way.
        let others = [
            ("limits.frame_bytes", if path == "limits.message_bytes" { "1024" } else { "65536" }),
            ("limits.outbox_bytes", "1 GiB"),
            ("limits.outboxes_bytes", "1 TiB"),
            ("limits.message_bytes", "64 MiB"),
        ];
        let with = |value: u64| {
            let mut sets: Vec<_> = others.into_iter().filter(|(key, _)| *key != path).collect();
            if path == "limits.outbox_bytes" || path == "limits.outboxes_bytes" {
                sets.retain(|(key, _)| *key == "limits.outboxes_bytes");
                let small = [("limits.frame_bytes", "1024"), ("limits.message_bytes", "1024")];
                sets.extend(small);
                if path == "limits.outboxes_bytes" {
                    sets.push(("limits.outbox_bytes", "1024"));
                }
            }
            if path == "drain.window" {
                sets.push(("drain.deadline", "1h"));
            } else if path == "drain.deadline" {
                sets.push(("drain.window", "100ms"));
            }
            if let Some(key) = path.strip_prefix("rooms.") {
                let value =
                    if unit.is_empty() { value.to_string() } else { format!("\"{value}{unit}\"") };
                let members = if key == "members_max" { "presence = \"members\"\n" } else { "" };
                return load(&rule(&format!("{members}{key} = {value}")), &[], &[]);
            }
            if let Some(key) = path.strip_prefix("upstream.calls.") {
                let cache = if key.starts_with("cache_") { "cache = \"1s\"\n" } else { "" };
                let value =
                    if unit.is_empty() { value.to_string() } else { format!("\"{value}{unit}\"") };
                return load(&upstream::call(&format!("{cache}{key} = {value}")), &[], &[]);
            }
            if let Some(key) = path.strip_prefix("webhooks.") {
                return load(&webhooks::hook(&format!("{key} = \"{value}{unit}\"")), &[], &[]);
            }
            let value = format!("{value}{unit}");
            sets.push((&path, &value));
            load("", &[], &sets)
        };
        for value in [min, max] {
            if let Err(errors) = with(value) {
                panic!("{path} at {value}: {errors}");
            }
        }
        for value in [min.checked_sub(1), max.checked_add(1)].into_iter().flatten() {
            let told = with(value).unwrap_err().to_string();
            assert!(told.contains(&path) && told.contains("allowed are"), "{path} {value}: {told}");
        }
    }
    assert!(tried >= 48, "only {tried} keys have bounds");
}

#[test]
fn sources_come_in_order_and_each_value_says_which_it_is_from() {
    let file = Written::new("[limits]\nping = \"1s\"\npong = \"1s\"\nfragments = 3\n");
    let name = file.0.display().to_string();
    let options = |dev| LoadOptions {
        file: Some(file.0.clone()),
        env: pairs(&[
            ("ROOMCAST__LIMITS__PONG", "2s"),
            ("ROOMCAST__LIMITS__FRAGMENTS", "4"),
            ("PATH", "/bin"),
            ("ROOMCAST_LOG", "debug"),
        ]),
        overrides: pairs(&[("limits.fragments", "5"), ("listen.public", "127.0.0.1:0")]),
        dev,
    };
    let config = Config::load(&options(false)).unwrap();
    let session = config.limits.session;
    assert_eq!((session.ping_ms, session.pong_ms, config.limits.fragments), (1_000, 2_000, 5));
    let printed = config.print();
    let line = |key: &str| {
        let line = printed.lines().find(|line| line.starts_with(&format!("{key} = "))).unwrap();
        line.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    assert_eq!(line("ping"), format!("ping = \"1s\" # {name}:2:1"));
    assert_eq!(line("pong"), "pong = \"2s\" # ROOMCAST__LIMITS__PONG");
    assert_eq!(line("fragments"), "fragments = \"5\" # --set limits.fragments");
    assert_eq!(line("json_depth"), "json_depth = 32 # default");
    let dev = Config::load(&options(true)).unwrap();
    assert!(dev.print().contains("connections_per_ip = 1000"));
    assert!(dev.print().contains("# --dev\n"));
}

#[test]
fn an_unknown_key_is_refused_with_its_place_and_what_was_probably_meant() {
    refused(
        "[node]\nlanes = 1\n\n[limits]\n# a comment\nmessages_per_minut = 100\n",
        "roomcast.toml:6:1: unknown key limits.messages_per_minut, did you mean messages_per_minute?",
    );
    refused(
        "[limit]\nping = \"1s\"\n",
        "roomcast.toml:1:2: unknown key limit, did you mean limits?",
    );
    refused(
        "[[rooms]]\nmatch = \"a\"\njoin = \"true\"\n  audit = true\n",
        "roomcast.toml:4:3: unknown key rooms.audit: this version does not serve it",
    );
    refused(
        "[console]\nurl = \"https://\"\n",
        "roomcast.toml:1:2: unknown key console: this version does not serve it",
    );
    refused(
        "limits = { pnig = \"1s\" }\n",
        "roomcast.toml:1:12: unknown key limits.pnig, did you mean ping?",
    );
    let told = load("", &[("ROOMCAST__LIMITS__PNIG", "1s")], &[("limits.lanes", "1")]).unwrap_err();
    assert_eq!(
        told.to_string(),
        "ROOMCAST__LIMITS__PNIG: unknown key limits.pnig, did you mean ping?\n\
         --set limits.lanes: unknown key limits.lanes, did you mean node.lanes?"
    );
}

#[test]
fn all_problems_are_told_at_once_each_with_its_place() {
    let text = "\
[node]
lanes = 65
lane = 1
[listen]
public = \"localhost:8080\"
[limits]
frame_bytes = \"64 KB\"
ping = 25
fragments = -1
json_depth = \"deep\"
[origins]
allow = [\"https://a.example/\", \"null\", \"https://A.example\"]
[log]
level = \"loud\"
format = \"xml\"
";
    let told = load(text, &[("ROOMCAST__LIMITS__PONG", "soon")], &[]).unwrap_err().to_string();
    let origin = "write it as browsers send it: scheme://host or scheme://host:port, lower-case, nothing after it";
    let expected = [
        "roomcast.toml:3:1: unknown key node.lane, did you mean lanes?".to_owned(),
        "roomcast.toml:9:1: limits.fragments is -1, which is no whole number".to_owned(),
        "roomcast.toml:10:1: limits.json_depth is \"deep\", which is no whole number".to_owned(),
        "roomcast.toml:7:1: limits.frame_bytes is \"64 KB\", which is no size; write bytes, or for example \
         \"64 KiB\" or \"1 MiB\""
            .to_owned(),
        "roomcast.toml:8:1: limits.ping is 25, which is no time; write its unit, for example \"500ms\", \
         \"5s\" or \"2m\""
            .to_owned(),
        "ROOMCAST__LIMITS__PONG: limits.pong is \"soon\", which is no time; write its unit, for example \
         \"500ms\", \"5s\" or \"2m\""
            .to_owned(),
        "roomcast.toml:2:1: node.lanes is 65, allowed are 1 to 64".to_owned(),
        "roomcast.toml:5:1: listen.public is \"localhost:8080\"; write an IP address and a port, for example \
         \"127.0.0.1:8080\" or \"[::]:8080\""
            .to_owned(),
        format!("roomcast.toml:12:1: origins.allow has \"https://a.example/\"; {origin}"),
        format!("roomcast.toml:12:1: origins.allow has \"null\"; {origin}"),
        format!("roomcast.toml:12:1: origins.allow has \"https://A.example\"; {origin}"),
        "roomcast.toml:14:1: log.level has \"loud\"; write one of error, warn, info, debug, trace, off, or \
         target=level"
            .to_owned(),
        "roomcast.toml:15:1: log.format is \"xml\"; write \"auto\", \"text\" or \"json\"".to_owned(),
    ];
    let mut told: Vec<_> = told.lines().collect();
    let mut expected: Vec<_> = expected.iter().map(String::as_str).collect();
    told.sort_unstable();
    expected.sort_unstable();
    assert_eq!(told, expected);
}

#[test]
fn what_is_no_toml_is_refused_without_quoting_it() {
    let told = load("[api]\nsecret = \"hunter2 and more\n", &[], &[]).unwrap_err().to_string();
    assert!(told.starts_with("roomcast.toml:2:") && told.contains("is not TOML"), "{told}");
    assert!(!told.contains("hunter2"), "{told}");
    let told = load("a = 1\na = 2\n", &[], &[]).unwrap_err().to_string();
    assert!(told.starts_with("roomcast.toml:2:1: is not TOML"), "{told}");
    let missing =
        LoadOptions { file: Some("does/not/exist.toml".into()), ..LoadOptions::default() };
    let told = Config::load(&missing).unwrap_err().to_string();
    assert!(told.starts_with("does/not/exist.toml: cannot be read"), "{told}");
    assert!(told.contains("roomcast config example"), "{told}");
}

#[test]
fn sections_and_values_are_not_taken_for_each_other() {
    refused("limits = 5\n", "roomcast.toml:1:1: limits is a section: write [limits]");
    refused(
        "rooms = 5\n",
        "roomcast.toml:1:1: rooms is a list of sections: write [[rooms]] before each",
    );
    refused(
        "[rooms]\nmatch = \"a\"\n",
        "roomcast.toml:1:2: rooms is a list of sections: write [[rooms]] before each",
    );
    let value = "takes a value, neither a section nor a date";
    refused("[limits.ping]\n", &format!("roomcast.toml:1:9: limits.ping {value}"));
    refused("[log]\nlevel = 2024-01-15\n", &format!("roomcast.toml:2:1: log.level {value}"));
    refused("[log]\nlevel = 5\n", "roomcast.toml:2:1: log.level is no text; put it in quotes");
    refused(
        "[listen]\nproxy_protocol = \"on\"\n",
        "roomcast.toml:2:1: listen.proxy_protocol is \"on\", write true or false",
    );
    refused(
        "[origins]\nallow = 5\n",
        "roomcast.toml:2:1: origins.allow is no list of texts, for example [\"a\", \"b\"]",
    );
}

#[test]
fn lists_of_sections_come_from_the_file_alone() {
    for (name, key) in [
        ("ROOMCAST__ROOMS", "rooms"),
        ("ROOMCAST__ROOMS__MATCH", "rooms"),
        ("ROOMCAST__AUTH__ISSUERS__0__KEYS", "auth.issuers"),
        ("ROOMCAST__API__KEYS", "api.keys"),
    ] {
        let told = load("", &[(name, "a")], &[]).unwrap_err().to_string();
        let expected =
            format!("{name}: [[{key}]] cannot come from the environment; write it in the file");
        assert_eq!(told, expected);
    }
    let told = set("rooms.match", "a").unwrap_err().to_string();
    let expected =
        "--set rooms.match: [[rooms]] cannot come from the command line; write it in the file";
    assert_eq!(told, expected);
    let told = set("limits", "a").unwrap_err().to_string();
    assert_eq!(told, "--set limits: limits is a section, not a key");
}

#[test]
fn values_from_the_environment_are_read_as_their_keys_type() {
    let config = load(
        "",
        &[
            ("ROOMCAST__NODE__LANES", "3"),
            ("ROOMCAST__LISTEN__PROXY_PROTOCOL", "true"),
            ("ROOMCAST__LISTEN__TRUSTED_PROXIES", "10.0.0.0/8, ::1"),
            ("ROOMCAST__ORIGINS__ALLOW", "https://a.example,http://b.example:8000"),
            ("ROOMCAST__LIMITS__FRAME_BYTES", "2 KiB"),
            ("ROOMCAST__LIMITS__PING", "20s"),
        ],
        &[],
    )
    .unwrap();
    assert_eq!((config.node.lanes, config.limits.frame_bytes), (3, 2_048));
    assert_eq!(config.limits.session.ping_ms, 20_000);
    assert!(config.listen.proxy_protocol);
    let proxies = ["10.0.0.0/8", "::1/128"].map(|it| it.parse::<IpNet>().unwrap());
    assert_eq!(config.listen.trusted_proxies, proxies);
    assert_eq!(
        config.origins.allow,
        ["https://a.example", "http://b.example:8000"].map(Box::<str>::from)
    );
}

const ISSUER: &str = "[[auth.issuers]]\nissuer = \"shop\"\naudience = \"roomcast\"\n";

fn with_key(key: &str) -> String {
    format!("{ISSUER}[[auth.issuers.keys]]\n{key}\n")
}

#[test]
fn a_secret_stays_text_and_comes_from_one_of_three_places() {
    let digits = "00700700700700700700700700700700";
    let env = [("SHOP_SECRET", digits)];
    let of = |config: &Config| config.auth.issuers[0].keys[0].secret.expose().to_vec();
    let config = load(&with_key("secret_env = \"SHOP_SECRET\""), &env, &[]).unwrap();
    assert_eq!(of(&config), digits.as_bytes());
    let config = load(&with_key(&format!("secret = \"{digits}\"")), &[], &[]).unwrap();
    assert_eq!(of(&config), digits.as_bytes());
    let secret = Written::new(&format!("{SECRET}\r\n"));
    let name = secret.0.file_name().unwrap().to_str().unwrap();
    for path in [secret.0.to_str().unwrap(), name] {
        let config = load(&with_key(&format!("secret_file = {path:?}")), &[], &[]).unwrap();
        assert_eq!(of(&config), SECRET.as_bytes());
    }
    let exactly = "roomcast.toml:4:1: auth.issuers.keys needs exactly one of secret, secret_env and secret_file";
    refused(&with_key("kid = \"1\""), exactly);
    refused(&with_key(&format!("secret = \"{SECRET}\"\nsecret_env = \"A\"")), exactly);
    refused(
        &with_key("secret_env = \"NOT_SET\""),
        "roomcast.toml:5:1: auth.issuers.keys.secret_env names the environment variable NOT_SET, which is not set",
    );
    let told = load(&with_key("secret_file = \"no/such\""), &[], &[]).unwrap_err().to_string();
    assert!(told.contains("secret_file names the file no/such, which cannot be read"), "{told}");
    refused(
        &with_key("secret = 12345678901234567"),
        "roomcast.toml:5:1: auth.issuers.keys.secret is no text; put it in quotes",
    );
}

#[test]
fn a_secret_under_its_least_length_is_refused_without_telling_it() {
    let short = "b".repeat(31);
    refused(
        &with_key(&format!("secret = \"{short}\"")),
        "roomcast.toml:5:1: auth.issuers.keys.secret has 31 bytes, at least 32 are needed; `openssl rand \
         -base64 48` makes some",
    );
    assert!(load(&with_key(&format!("secret = \"{short}b\"")), &[], &[]).is_ok());
    let api = |secret: &str| format!("[[api.keys]]\nname = \"shop\"\nsecret = \"{secret}\"\n");
    assert!(
        load(&api("0123456789abcde"), &[], &[]).unwrap_err().to_string().contains("at least 16")
    );
    assert!(load(&api("0123456789abcdef"), &[], &[]).is_ok());
}

#[test]
fn issuers_and_keys_are_checked() {
    let key = format!("secret = \"{SECRET}\"");
    refused(
        "[[auth.issuers]]\nkeys = []\n",
        "roomcast.toml:1:1: auth.issuers.issuer is missing\n\
         roomcast.toml:1:1: auth.issuers.audience is missing\n\
         roomcast.toml:1:1: auth.issuers has no key; add [[auth.issuers.keys]] with one of secret, secret_env and \
         secret_file",
    );
    refused(
        &with_key(&format!("{key}\nalgorithm = \"RS256\"")),
        "roomcast.toml:6:1: auth.issuers.keys.algorithm is \"RS256\"; this version verifies \"HS256\" alone",
    );
    let twice = format!("{}[[auth.issuers.keys]]\n{key}\n", with_key(&key));
    let told = load(&twice, &[], &[]).unwrap_err().to_string();
    assert!(told.contains("has two keys for the issuer \"shop\" and the kid none"), "{told}");
    let other_kid = format!("{}[[auth.issuers.keys]]\nkid = \"2\"\n{key}\n", with_key(&key));
    assert_eq!(load(&other_kid, &[], &[]).unwrap().auth.issuers[0].keys.len(), 2);
    for realm in ["GS", "g:s", "g s", "api", "anonymous"] {
        let text = format!("{ISSUER}realm = \"{realm}\"\nkeys = [{{ {key} }}]\n");
        let told = load(&text, &[], &[]).unwrap_err().to_string();
        assert!(told.starts_with("roomcast.toml:4:1: auth.issuers.realm"), "{told}");
    }
    let text = "[[api.keys]]\nname = \"a b\"\nsecret = \"0123456789abcdef\"\n";
    let told = load(&format!("{text}{text}"), &[], &[]).unwrap_err().to_string();
    assert!(told.contains("api.keys.name has spaces") && told.contains("is used twice"), "{told}");
}

#[test]
fn no_text_of_ours_ever_holds_a_secret() {
    let text = format!(
        "{}kid = \"k\"\nallow_backend = true\n[[api.keys]]\nname = \"shop\"\nsecret = \"key-{SECRET}\"\n",
        with_key(&format!("secret = \"{SECRET}\""))
    )
    .replace("allow_backend = true\n", "");
    let config = load(&text, &[("UNRELATED", SECRET)], &[]).unwrap();
    let printed = config.print();
    assert_eq!(printed.matches("secret = \"********\"").count(), 2, "{printed}");
    let guard = RuleGuard::new(&config, "n").unwrap();
    let options = LoadOptions { env: pairs(&[("S", SECRET)]), ..LoadOptions::default() };
    let texts = [printed, format!("{config:?}"), format!("{guard:?}"), format!("{options:?}")];
    for text in texts {
        assert!(!text.contains("secret-of"), "{text}");
    }
}

#[test]
fn what_is_printed_can_be_loaded_again() {
    let text = format!(
        "{}[[rooms]]\nmatch = \"shop-{{id}}\"\njoin = \"user.id == \\\"a\\\" || 'b' in user.roles\"\ntypes = [\"x\"]\n\
         strict = true\ndurability = \"replicated\"\nhistory = {{ size = 5, ttl = \"2h\" }}\n\
         [[rooms]]\nmatch = \"a\"\njoin = \"true\"\nhistory = {{}}\n\
         [limits]\nping = \"20s\"\n",
        with_key("secret_env = \"S\"")
    );
    let env = [("S", SECRET)];
    let config = load(&text, &env, &[]).unwrap();
    let again = load(&config.print(), &env, &[]).unwrap();
    assert_eq!(again.limits, config.limits);
    assert_eq!(
        again.rooms[0].join.as_ref().unwrap().source(),
        config.rooms[0].join.as_ref().unwrap().source()
    );
    for (again, rule) in again.rooms.iter().zip(&*config.rooms) {
        assert_eq!(again.policy, rule.policy);
        assert!(rule.policy.history.is_some());
    }
    assert_eq!(again.auth.issuers[0].keys[0].secret.expose(), SECRET.as_bytes());
}

#[test]
fn a_rule_that_does_not_compile_is_told_with_its_place_and_cause() {
    let rule =
        |line: &str| format!("[[rooms]]\nmatch = \"shop-{{id:int}}\"\njoin = \"true\"\n{line}\n");
    for (line, told) in [
        ("publish = \"user.kind = 'backend'\"", "roomcast.toml:4:1: rooms.publish is not CEL: "),
        (
            "publish = \"usr.id == '1'\"",
            "roomcast.toml:4:1: rooms.publish knows no usr; there are user, room, node, id",
        ),
        (
            "publish = \"user.roles\"",
            "roomcast.toml:4:1: rooms.publish gives a list, not true or false",
        ),
        (
            "priority = \"urgent\"",
            "roomcast.toml:4:1: rooms.priority is \"urgent\"; write \"high\", \"normal\" or \"low\"",
        ),
        ("types = []", "roomcast.toml:4:1: rooms.types names no type; leave it out to allow any"),
        (
            "[[rooms]]\nmatch = \"news-*\"\njoin = \"true\"",
            "roomcast.toml:5:1: rooms.match has a `*`, which is no wildcard",
        ),
        ("[[rooms]]\njoin = \"true\"", "roomcast.toml:4:1: rooms.match is missing"),
        ("[[rooms]]\nmatch = \"a\"", "roomcast.toml:4:1: rooms.join is missing"),
    ] {
        let found = load(&rule(line), &[], &[]).unwrap_err().to_string();
        assert!(found.starts_with(told), "{found}");
    }
    let config = load(&rule("publish = \"id == '7'\""), &[], &[]).unwrap();
    assert_eq!(config.rooms[0].pattern.as_str(), "shop-{id:int}");
}

#[test]
fn rules_up_to_their_number_pass_and_one_more_is_refused() {
    let rule = rule("");
    let max = crate::guard::RULES_MAX;
    assert_eq!(load(&rule.repeat(max), &[], &[]).unwrap().rooms.len(), max);
    let told = load(&rule.repeat(max + 1), &[], &[]).unwrap_err().to_string();
    assert!(told.contains("rooms has 1001 rules, allowed are 1000"), "{told}");
}

#[test]
fn a_room_keeps_what_its_rule_says() {
    let policy = |lines: &str| load(&rule(lines), &[], &[]).unwrap().rooms[0].policy.clone();
    assert_eq!((policy("").history, policy("").strict), (None, false));
    let default =
        Keep { size: 100, bytes_max: 262_144, ttl_ms: 600_000, replicated: false, inbox: None };
    assert_eq!(policy("history = {}").history, Some(default));
    assert_eq!(policy("[rooms.history]").history, Some(default));
    assert_eq!(policy("history = { size = 7 }").history, Some(Keep { size: 7, ..default }));
    let all = "history = { size = 100000, bytes_max = \"1 GiB\", ttl = \"720h\" }\n\
               durability = \"replicated\"\nstrict = true";
    let most = Keep {
        size: 100_000,
        bytes_max: 1 << 30,
        ttl_ms: 2_592_000_000,
        replicated: true,
        inbox: None,
    };
    assert_eq!((policy(all).history, policy(all).strict), (Some(most), true));
    assert_eq!(policy("history = {}\ndurability = \"stored\"").history, Some(default));
}

#[test]
fn a_history_that_makes_no_sense_is_refused_with_its_mend() {
    for (lines, told) in [
        ("history = 100", "4:1: rooms.history is a section: write [rooms.history]"),
        ("history = { size = 0 }", "4:13: rooms.history.size is 0, allowed are 1 to 100000"),
        (
            "history = { ttl = 600 }",
            "4:13: rooms.history.ttl is 600, which is no time; write its unit, for example \"500ms\", \"5s\" or \"2m\"",
        ),
        (
            "[rooms.history]\nbytes_max = \"1 KB\"",
            "5:1: rooms.history.bytes_max is \"1 KB\", which is no size; write bytes, or for example \"64 KiB\" or \
             \"1 MiB\"",
        ),
        ("history = { sise = 5 }", "4:13: unknown key rooms.history.sise, did you mean size?"),
        (
            "history = {}\ndurability = \"fsync\"",
            "5:1: rooms.durability is \"fsync\"; write \"stored\" or \"replicated\"",
        ),
        (
            "durability = \"replicated\"",
            "4:1: rooms.durability is given, but the room keeps nothing; give the room a history, for example \
             `history = {}`, or leave this out",
        ),
        ("strict = \"yes\"", "4:1: rooms.strict is \"yes\", write true or false"),
    ] {
        refused(&rule(lines), &format!("roomcast.toml:{told}"));
    }
}

/// A rule for inboxes with more lines.
fn inbox(lines: &str) -> String {
    format!("[[rooms]]\nmatch = \"user-{{id}}\"\njoin = \"user.id == id\"\n{lines}\n")
}

#[test]
fn a_rule_says_what_its_members_are_told_and_must_get() {
    let rule_of = |text: &str| load(text, &[], &[]).unwrap().rooms[0].clone();
    let policy = |lines: &str| rule_of(&rule(lines)).policy;
    assert_eq!(policy(""), Policy::OPEN);
    for mode in PresenceMode::ALL {
        let found = policy(&format!("presence = {:?}", mode.name()));
        assert_eq!((found.presence, found.presence_max), (mode, 1_000));
    }
    assert_eq!(policy("presence = \"members\"\nmembers_max = 7").presence_max, 7);
    assert_eq!(
        (policy("").requires_ack, policy("requires_ack = true").requires_ack),
        (false, true)
    );
    let path = |text| Some(DataPath::parse(text).unwrap());
    let found = rule_of(&rule("conflate = \"data.a.b\""));
    assert_eq!((found.policy.conflates, found.conflate), (true, path("data.a.b")));
    assert_eq!((found.policy.collapses, found.collapse), (false, None));
    let found = rule_of(&rule("history = {}\ncollapse = \"data.a\""));
    assert_eq!((found.policy.collapses, found.collapse), (true, path("data.a")));
    for whose in CursorOf::ALL {
        let lines = format!("history = {{}}\ncursor = {:?}", whose.name());
        let policy = rule_of(&inbox(&lines)).policy;
        assert_eq!(policy.cursor, Some(whose));
        assert_eq!(policy.history.unwrap().inbox, Some(whose));
    }
    let kept = rule_of(&rule("history = {}\nreceipts = true")).policy;
    assert_eq!((kept.receipts, policy("receipts = false").receipts), (true, false));
    let plain = rule_of(&inbox("history = {}")).policy;
    assert_eq!((plain.cursor, plain.history.unwrap().inbox), (None, None));
}

#[test]
fn what_members_cannot_be_told_or_given_is_refused_with_its_mend() {
    let keeps = "the room keeps nothing; give the room a history, for example `history = {}`, or leave this out";
    let path = "write for example \"data.agent_id\"";
    for (text, told) in [
        (
            rule("presence = \"all\""),
            "4:1: rooms.presence is \"all\"; write \"off\", \"count\" or \"members\"".to_owned(),
        ),
        (
            rule("presence = \"count\"\nmembers_max = 5"),
            "5:1: rooms.members_max is given, but the room tells no members; set presence to \"members\", or leave \
             this out"
                .to_owned(),
        ),
        (
            rule("conflate = \"agent_id\""),
            format!("4:1: rooms.conflate is \"agent_id\", which begins with another word than `data`; {path}"),
        ),
        (
            rule("conflate = \"data\""),
            format!("4:1: rooms.conflate is \"data\", which names nothing in `data`; {path}"),
        ),
        (
            rule("history = {}\ncollapse = \"data.a..b\""),
            "5:1: rooms.collapse is \"data.a..b\", which has an empty name; write one name after each `.`"
                .to_owned(),
        ),
        (
            rule("collapse = \"data.a\""),
            format!("4:1: rooms.collapse is given, but {keeps}"),
        ),
        (rule("requires_ack = 1"), "4:1: rooms.requires_ack is 1, write true or false".to_owned()),
        (
            inbox("history = {}\ncursor = \"session\""),
            "5:1: rooms.cursor is \"session\"; write \"user\" or \"device\"".to_owned(),
        ),
        (rule("receipts = true"), format!("4:1: rooms.receipts is given, but {keeps}")),
        (inbox("cursor = \"user\""), format!("4:1: rooms.cursor is given, but {keeps}")),
        (
            rule("history = {}\ncursor = \"user\""),
            "5:1: rooms.cursor is given, but the rule's rooms are no inboxes; begin its match with `user-`, or leave \
             this out"
                .to_owned(),
        ),
    ] {
        refused(&text, &format!("roomcast.toml:{told}"));
    }
}

#[test]
fn a_drain_ends_before_its_deadline() {
    let text = "[drain]\nwindow = \"5s\"\nrate = 1000\ndeadline = \"5s\"\n";
    let drain = load(text, &[], &[]).unwrap().drain;
    assert_eq!(drain, DrainConfig { window_ms: 5_000, rate: 1_000, deadline_ms: 5_000 });
    refused(
        "[drain]\nwindow = \"5001ms\"\ndeadline = \"5s\"\n",
        "roomcast.toml:2:1: drain.window is longer than drain.deadline; shorten it, or lengthen drain.deadline",
    );
}

#[test]
fn dev_opens_the_node_for_this_machine_alone() {
    let dev = |sets: &[(&str, &str)]| {
        Config::load(&LoadOptions { overrides: pairs(sets), dev: true, ..LoadOptions::default() })
    };
    let config = dev(&[]).unwrap();
    assert_eq!(config.listen.public, "127.0.0.1:8080".parse().unwrap());
    let per_minute = config.limits.session.messages_per_minute;
    assert_eq!((config.limits.connections_per_ip, per_minute), (1_000, 100_000));
    let issuer = &config.auth.issuers[0];
    assert_eq!((&*issuer.issuer, &*issuer.audience), (DEV_ISSUER, DEV_ISSUER));
    assert!(issuer.allow_backend && issuer.keys[0].secret.expose() == DEV_SECRET.as_bytes());
    assert!(config.warnings()[0].contains("everybody knows"));
    assert!(dev(&[("listen.public", "[::1]:0"), ("listen.internal", "127.0.0.1:0")]).is_ok());
    for (key, address) in [("listen.public", "0.0.0.0:8080"), ("listen.internal", "192.0.2.1:9090")]
    {
        let told = dev(&[(key, address)]).unwrap_err().to_string();
        let start = format!(
            "--set {key}: {key} is {address}, but --dev trusts a secret that everybody knows"
        );
        assert!(told.starts_with(&start), "{told}");
        assert!(told.contains("bind it to 127.0.0.1:") && told.contains("without --dev"), "{told}");
    }
}

#[test]
fn a_keys_scope_that_makes_no_sense_is_refused_with_its_mend() {
    let with =
        |line: &str| format!("[[api.keys]]\nname = \"a\"\nsecret = \"0123456789abcdef\"\n{line}\n");
    let all = "publish, history, presence, members, rooms, connections, disconnect, revoke, subscribe, groups, webhooks";
    for (line, told) in [
        ("actions = [\"read\"]", format!("actions has \"read\"; write some of {all}")),
        (
            "actions = []",
            "actions is empty, so the key is good for nothing; leave it out to allow all".to_owned(),
        ),
        (
            "rooms = []",
            "rooms is empty, so the key reaches no room; leave it out to allow all".to_owned(),
        ),
        (
            "rooms = [\"news-*\"]",
            "rooms has a `*`, which is no wildcard here; write a capture such as {name} or {id:int}"
                .to_owned(),
        ),
    ] {
        refused(&with(line), &format!("roomcast.toml:4:1: api.keys.{told}"));
    }
    let patterns = |count| format!("rooms = [{}]", vec!["\"a\""; count].join(", "));
    assert!(load(&with(&patterns(100)), &[], &[]).is_ok());
    let many = "roomcast.toml:4:1: api.keys.rooms has 101 patterns, allowed are 100";
    refused(&with(&patterns(101)), many);
}

#[test]
fn values_that_contradict_each_other_are_refused() {
    refused(
        "[listen]\ninternal = \"0.0.0.0:8080\"\n",
        "roomcast.toml:2:1: listen.internal has the port of listen.public; choose another",
    );
    refused(
        "[listen]\nproxy_protocol = true\n",
        "roomcast.toml:2:1: listen.proxy_protocol is on, but nobody is trusted to use it: list the proxies in \
         listen.trusted_proxies",
    );
    refused(
        "[limits]\nframe_bytes = \"1 MiB\"\n",
        "roomcast.toml:2:1: limits.frame_bytes is 1048576 bytes, more than limits.message_bytes (262144 bytes)",
    );
    let told = set("listen.trusted_proxies", "10.0.0.0/33").unwrap_err().to_string();
    assert!(told.contains("\"10.0.0.0/33\"; write an address or a network"), "{told}");
    let open = set("origins.allow", "*").unwrap();
    assert!(open.warnings().iter().any(|it| it.contains("every site")));
}

#[test]
fn the_example_holds_the_defaults_and_all_its_optional_keys_work() {
    let example = load(example(), &[], &[]).unwrap();
    let default = Config::load(&LoadOptions::default()).unwrap();
    assert_eq!(example.limits, default.limits);
    assert_eq!(example.listen, default.listen);
    let uncomment = |line: &str| match line.strip_prefix('#') {
        Some(rest) if !rest.starts_with([' ', '#']) => rest.to_owned(),
        Some(_) | None => line.to_owned(),
    };
    let all: Vec<_> = super::example().lines().map(uncomment).collect();
    let config = load(&all.join("\n"), &[], &[]).unwrap();
    assert_eq!((config.auth.issuers.len(), config.api.keys.len(), config.rooms.len()), (1, 1, 1));
    assert_eq!(config.auth.issuers[0].keys[0].kid.as_deref(), Some("2026-01"));
    let UpstreamConfig { targets, calls, requests } = &config.upstream;
    assert_eq!((targets.len(), calls.len(), requests.len()), (1, 1, 1));
    assert_eq!(calls[0].uri, "/roomcast/reports");
    assert_eq!(config.webhooks.hooks.len(), 1);
}

#[test]
fn the_reference_names_every_key() {
    let table = reference_table();
    for (path, _) in SCHEMA.keys() {
        let name = path.rsplit('.').next().unwrap();
        assert!(table.contains(&format!("| `{name}` |")), "{path}");
    }
    let tables = SCHEMA.entries.iter().filter(|(_, node)| matches!(node, Node::Tables(_))).count();
    assert_eq!(tables, 2);
    assert!(table.contains("### `[[auth.issuers.keys]]`"));
}

#[test]
fn servers_are_hosts_with_ports_as_many_as_their_topology_has() {
    let servers = |topology: &str, servers: &str| {
        let sets = [("redis.topology", topology), ("redis.servers", servers)];
        load("", &[], &sets).map(|config| config.redis.servers).map_err(|it| it.to_string())
    };
    let one = ("redis-0.cache_1.local".to_owned(), 65_535);
    assert_eq!(servers("standalone", "redis-0.cache_1.local:65535"), Ok(Servers::Standalone(one)));
    let two = vec![("::1".to_owned(), 1), ("10.0.0.1".to_owned(), 6_379)];
    assert_eq!(servers("cluster", "[::1]:1, 10.0.0.1:6379"), Ok(Servers::Cluster(two.clone())));
    let service = "mymaster".to_owned();
    let sentinel = Servers::Sentinel { sentinels: two, service };
    assert_eq!(servers("sentinel", "[::1]:1,10.0.0.1:6379"), Ok(sentinel));

    let mend = "write host:port, for example \"127.0.0.1:6379\" or \"[::1]:6379\"";
    for bad in
        ["redis", "redis:", ":6379", "a:0", "a:65536", "a:b", "::1", "[::1]", "[a]:1", "a b:1"]
    {
        let told = format!("--set redis.servers: redis.servers has {bad:?}; {mend}");
        assert_eq!(servers("cluster", bad), Err(told));
    }
    let told = format!("--set redis.servers: redis.servers names no server; {mend}");
    assert_eq!(servers("cluster", ""), Err(told));
    let told = "--set redis.servers: redis.servers names a server twice".to_owned();
    assert_eq!(servers("cluster", "a:1,b:1,a:1"), Err(told));
    let told = "--set redis.servers: redis.servers has 2 servers, but \"standalone\" means one; name the one server, \
                or set redis.topology to \"sentinel\" or \"cluster\"";
    assert_eq!(servers("standalone", "a:1,b:1"), Err(told.to_owned()));
    // Who takes it for an address as libraries write them is not answered with the password in it.
    let told = servers("cluster", "redis://:hunter2@a:1").unwrap_err();
    assert!(
        told.contains("has more than a host and a port") && !told.contains("hunter2"),
        "{told}"
    );
    let text = "[redis]\ntopology = \"sentinel\"\nsentinel_service = \"\"\n";
    refused(text, "roomcast.toml:3:1: redis.sentinel_service is empty");
}

#[test]
fn the_broker_is_told_in_a_line_without_secrets() {
    let line = |sets: &[(&str, &str)]| load("", &[], sets).unwrap().broker_line();
    assert_eq!(line(&[]), "memory: this node is alone");
    let redis = ("broker.kind", "redis");
    assert_eq!(line(&[redis]), "redis: standalone 127.0.0.1:6379, relay pattern msgpack");
    let several = [redis, ("redis.servers", "a:1,[::1]:2"), ("redis.password", "hunter2")];
    let with = |more: &[(&'static str, &'static str)]| line(&[&several[..], more].concat());
    let cluster = [("redis.topology", "cluster"), ("redis.tls", "true"), ("relay.mode", "sharded")];
    assert_eq!(with(&cluster), "redis: cluster a:1, [::1]:2, tls, relay sharded msgpack");
    let sentinel = [("redis.topology", "sentinel"), ("relay.format", "json")];
    assert_eq!(with(&sentinel), "redis: sentinel a:1, [::1]:2 (mymaster), relay pattern json");
}

#[test]
fn words_of_the_relay_are_a_closed_list_each() {
    for (key, told) in [
        ("broker.kind", "is \"x\"; write \"memory\" or \"redis\""),
        ("redis.topology", "is \"x\"; write \"standalone\", \"sentinel\" or \"cluster\""),
        ("relay.mode", "is \"x\"; write \"pattern\", \"exact\" or \"sharded\""),
        ("relay.format", "is \"x\"; write \"msgpack\" or \"json\""),
        ("relay.outsiders", "is \"x\", write true or false"),
    ] {
        let found = set(key, "x").unwrap_err().to_string();
        assert_eq!(found, format!("--set {key}: {key} {told}"));
    }
    refused(
        "[[rooms]]\nmatch = \"a\"\njoin = \"true\"\nrelay = \"x\"\n",
        "roomcast.toml:4:1: rooms.relay is \"x\"; write \"pattern\", \"exact\" or \"sharded\"",
    );
    for mode in RelayMode::ALL {
        assert_eq!(set("relay.mode", mode.name()).unwrap().relay.mode, mode);
        let text =
            format!("[[rooms]]\nmatch = \"a\"\njoin = \"true\"\nrelay = {:?}\n", mode.name());
        assert_eq!(load(&text, &[], &[]).unwrap().rooms[0].policy.relay, Some(mode));
    }
    // Redis 7 has sharded channels without a cluster as well.
    assert!(load("", &[], &[("relay.mode", "sharded"), ("redis.topology", "standalone")]).is_ok());
}

#[test]
fn passwords_and_keys_may_be_left_out_but_not_be_given_twice() {
    let env = [("R", "from-the-environment"), ("EMPTY", "")];
    let config = load("[redis]\npassword_env = \"R\"\n", &env, &[]).unwrap();
    assert_eq!(config.redis.credentials.password.as_deref(), Some("from-the-environment"));
    let kept = Written::new("007\n");
    let text = format!("[redis]\nusername = \"u\"\npassword_file = {:?}\n", kept.0);
    let config = load(&text, &[], &[]).unwrap();
    assert_eq!(config.redis.credentials.username.as_deref(), Some("u"));
    assert_eq!(config.redis.credentials.password.as_deref(), Some("007"));
    let key = load("", &[("ROOMCAST__RELAY__KEY", "0123456789abcdef")], &[]).unwrap().relay.keys;
    assert_eq!(
        (&*key.as_ref().unwrap().current, &key.as_ref().unwrap().previous),
        (&b"0123456789abcdef"[..], &None)
    );
    for (text, told) in [
        (
            "[redis]\npassword = \"a\"\npassword_env = \"R\"\n",
            "3:1: redis.password_env is one too many: give one of password, password_env and password_file",
        ),
        (
            "[redis]\npassword_env = \"EMPTY\"\n",
            "2:1: redis.password_env is empty; leave it out where there is none",
        ),
        (
            "[redis]\npassword_env = \"NONE\"\n",
            "2:1: redis.password_env names the environment variable NONE, which is not set",
        ),
        ("[redis]\npassword = 7\n", "2:1: redis.password is no text; put it in quotes"),
        (
            "[redis]\nusername = \"u\"\n",
            "2:1: redis.username needs redis.password; where the user has none, any text will do",
        ),
        (
            "[redis]\nsentinel_password = \"a\"\n",
            "2:1: redis.sentinel_password is for Sentinels; set redis.topology to \"sentinel\", or leave it out",
        ),
        (
            "[relay]\nkey = \"0123456789abcde\"\n",
            "2:1: relay.key has 15 bytes, at least 16 are needed; `openssl rand -base64 48` makes some",
        ),
        (
            "[relay]\nprevious_key = \"0123456789abcdef\"\n",
            "2:1: relay.previous_key is given without relay.key, which signs; give that one as well",
        ),
    ] {
        let found = load(text, &env, &[]).unwrap_err().to_string();
        assert_eq!(found, format!("roomcast.toml:{told}"));
    }
}

#[test]
fn certificates_are_read_and_looked_at() {
    let pem = Written::new("-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n");
    let text =
        |tls: bool, file: &PathBuf| format!("[redis]\ntls = {tls}\ntls_ca_file = {file:?}\n");
    let tls = load(&text(true, &pem.0), &[], &[]).unwrap().redis.tls.unwrap();
    assert!(tls.ca_pem.unwrap().starts_with(b"-----BEGIN"));
    refused(
        &text(false, &pem.0),
        "roomcast.toml:3:1: redis.tls_ca_file is given, but redis.tls is false; set it to true, or leave this out",
    );
    let other = Written::new("nothing");
    let told = load(&text(true, &other.0), &[], &[]).unwrap_err().to_string();
    assert!(told.ends_with("which holds no certificate in PEM"), "{told}");
    let told = load(&text(true, &"no/such".into()), &[], &[]).unwrap_err().to_string();
    assert!(told.contains("tls_ca_file names the file no/such, which cannot be read"), "{told}");
}

#[test]
fn what_waits_for_redis_must_hold_a_message() {
    let sets = [("redis.pending_bytes", "128 KiB"), ("broker.kind", "redis")];
    let told = load("", &[], &sets).unwrap_err().to_string();
    let expected = "--set redis.pending_bytes: redis.pending_bytes is 131072 bytes, less than limits.message_bytes \
                    (262144 bytes)";
    assert_eq!(told, expected);
    assert!(load("", &[], &[("redis.pending_bytes", "256 KiB"), sets[1]]).is_ok());
    // Without Redis nothing waits for it.
    let idle = load("", &[], &sets[..1]).unwrap();
    assert!(idle.warnings().iter().any(|it| it.contains("this node is alone")));
    assert!(set("broker.kind", "redis").unwrap().warnings().iter().all(|it| !it.contains("alone")));
}

#[test]
fn no_text_of_ours_holds_a_secret_of_the_relay() {
    let text = "[redis]\ntopology = \"sentinel\"\nusername = \"roomcast\"\npassword = \"hunter2-a\"\n\
                sentinel_password = \"hunter2-b\"\n\
                [relay]\nkey = \"hunter2-c-0123456\"\nprevious_key = \"hunter2-d-0123456\"\n";
    let config = load(text, &[], &[]).unwrap();
    let printed = config.print();
    for name in ["password", "sentinel_password", "key", "previous_key"] {
        assert!(printed.contains(&format!("\n{name} = \"********\"")), "{name}: {printed}");
    }
    assert!(printed.contains("username = \"roomcast\""));
    for text in [printed, format!("{config:?}")] {
        assert!(!text.contains("hunter2"), "{text}");
    }
}
