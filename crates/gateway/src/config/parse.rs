//! From the configuration as it is written to the one that is in force: every value is parsed once, here (INV-14).

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use roomcast_protocol::guard::Policy;
use roomcast_protocol::ids::LaneId;
use roomcast_protocol::limits::{DecodeLimits, SessionLimits};
use roomcast_protocol::publication::Priority;

use super::dialects::{self, DialectsConfig, Identity};
use super::drain;
use super::keep;
use super::members::{self, Paths};
use super::raw::{RawApiKey, RawConfig, RawIssuer, RawKey, RawLimits, RawRule, Scalar};
use super::read::{Reader, SecretKeys};
use super::relay::{self, Relayed};
use super::rpc::{self, RpcConfig};
use super::scope;
use super::upstream::{UpstreamConfig, upstream};
use super::webhooks::{WebhooksConfig, webhooks};
use super::{
    AgentsConfig, ApiConfig, ApiKey, AuthConfig, DEV_API_KEY, DEV_ISSUER, DEV_SECRET, DrainConfig,
    Issuer, IssuerKey, Limits, ListenConfig, LogConfig, LogFormat, NodeConfig, OriginsConfig,
    Scope, Secret,
};
use crate::guard::token::{ANONYMOUS_REALM, API_REALM};
use crate::guard::{Condition, Pattern, RULES_MAX, RoomRule};

/// HS256 with a shorter key is weaker than its hash. Units: bytes. Source: RFC 7518 3.2.
const TOKEN_SECRET_BYTES_MIN: usize = 32;

/// What stands for a condition where the application alone says who may join.
const BY_CALL: &str = "call";

/// Shortest API key. Units: bytes.
const API_KEY_BYTES_MIN: usize = 16;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

/// What parsing yields; printing and `dev` are added by the caller.
pub(super) struct Parsed {
    pub(super) node: NodeConfig,
    pub(super) listen: ListenConfig,
    pub(super) origins: OriginsConfig,
    pub(super) limits: Limits,
    pub(super) auth: AuthConfig,
    pub(super) api: ApiConfig,
    pub(super) agents: AgentsConfig,
    pub(super) drain: DrainConfig,
    pub(super) dialects: DialectsConfig,
    pub(super) rpc: RpcConfig,
    pub(super) log: LogConfig,
    pub(super) relayed: Relayed,
    pub(super) upstream: UpstreamConfig,
    pub(super) webhooks: WebhooksConfig,
    pub(super) rooms: Arc<[RoomRule]>,
}

pub(super) fn parse(raw: &RawConfig, dev: bool, r: &mut Reader<'_>) -> Parsed {
    let mut limits = limits(&raw.limits, r);
    limits.session.leeway_ms = r.time("auth.leeway", &raw.auth.leeway, 0..=60_000);
    let mut issuers = Vec::new();
    for (at, it) in raw.auth.issuers.iter().enumerate() {
        issuers.extend(issuer(&format!("auth.issuers[{at}]"), it, r));
    }
    let mut api_keys: Vec<ApiKey> = Vec::new();
    for (at, it) in raw.api.keys.iter().enumerate() {
        let key = format!("api.keys[{at}]");
        let Some(found) = api_key(&key, it, r) else { continue };
        if api_keys.iter().any(|other| other.name == found.name) {
            r.problem(&format!("{key}.name"), "is used twice");
        }
        api_keys.push(found);
    }
    check_kids(&issuers, r);
    if dev {
        issuers.push(dev_issuer());
        let secret = Secret::new(DEV_API_KEY.into());
        api_keys.push(ApiKey { name: DEV_API_KEY.into(), secret, scope: Scope::ALL });
    }
    if raw.rooms.len() > RULES_MAX {
        r.problem("rooms", format!("has {} rules, allowed are {RULES_MAX}", raw.rooms.len()));
    }
    let message_bytes = limits.message_bytes;
    let before = r.problems.len();
    let upstream = upstream(&raw.upstream, dev, r);
    let calls: Vec<_> = upstream.calls.iter().map(|call| &*call.name).collect();
    let calls_are_sound = r.problems.len() == before;
    let dialects = dialects::dialects(&raw.dialects, calls_are_sound.then_some(&calls), dev, r);
    let asks = dialects.roadrunner.as_ref();
    // Whether somebody is asked is not known where that was said wrongly.
    let asks = r.problems.len() > before
        || asks.is_some_and(|it| matches!(it.identity, Identity::Call(_)));
    let hooked = calls_are_sound.then_some(&*upstream.calls);
    let webhooks = webhooks(&raw.webhooks, hooked, &limits, r);
    let rooms = raw.rooms.iter().enumerate();
    let allowed = (asks, dialects.chat.is_some());
    let rooms = rooms.filter_map(|(at, it)| rule(&format!("rooms[{at}]"), it, allowed, r));
    let rooms = rooms.collect();
    Parsed {
        node: NodeConfig { lanes: lanes(&raw.node.lanes, r) },
        listen: listen(raw, dev, r),
        origins: origins(&raw.origins.allow, r),
        limits,
        auth: AuthConfig { issuers },
        api: ApiConfig { keys: api_keys },
        agents: AgentsConfig {
            leave_grace_ms: r.time("agents.leave_grace", &raw.agents.leave_grace, 0..=600_000),
        },
        drain: drain::drain(&raw.drain, r),
        dialects,
        rpc: rpc::rpc(&raw.rpc, dev, r),
        log: LogConfig {
            level: log_level(&raw.log.level, r),
            format: log_format(&raw.log.format, r),
        },
        relayed: relay::parse(raw, message_bytes, r),
        upstream,
        webhooks,
        rooms,
    }
}

fn lanes(value: &Scalar, r: &mut Reader<'_>) -> usize {
    let max = usize::from(LaneId::MAX);
    if matches!(value, Scalar::Text(text) if text == "cores") {
        return std::thread::available_parallelism().map_or(1, usize::from).min(max);
    }
    if matches!(value, Scalar::Text(text) if text.trim().parse::<u64>().is_err()) {
        r.problem("node.lanes", "is neither \"cores\" nor a whole number");
        return 1;
    }
    usize::try_from(r.count("node.lanes", value, 1..=u64::from(LaneId::MAX))).unwrap_or(max)
}

fn listen(raw: &RawConfig, dev: bool, r: &mut Reader<'_>) -> ListenConfig {
    let listen = &raw.listen;
    let public = r.address("listen.public", &listen.public);
    let internal = r.address("listen.internal", &listen.internal);
    for (key, address) in [("listen.public", public), ("listen.internal", internal)] {
        if dev && !address.ip().is_loopback() {
            let mend = format!("bind it to 127.0.0.1:{}, or start without --dev", address.port());
            r.problem(
                key,
                format!("is {address}, but --dev trusts a secret that everybody knows: {mend}"),
            );
        }
    }
    let overlap = public.ip() == internal.ip()
        || public.ip().is_unspecified()
        || internal.ip().is_unspecified();
    if overlap && public.port() != 0 && public.port() == internal.port() {
        r.problem("listen.internal", "has the port of listen.public; choose another");
    }
    let mut trusted_proxies = Vec::new();
    for text in r.texts("listen.trusted_proxies", &listen.trusted_proxies) {
        let network = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
        match network {
            Ok(network) => trusted_proxies.push(network),
            Err(_) => r.problem(
                "listen.trusted_proxies",
                format!("has {text:?}; write an address or a network, for example \"10.0.0.0/8\""),
            ),
        }
    }
    let proxy_protocol = r.flag("listen.proxy_protocol", &listen.proxy_protocol);
    if proxy_protocol && trusted_proxies.is_empty() {
        let text =
            "is on, but nobody is trusted to use it: list the proxies in listen.trusted_proxies";
        r.problem("listen.proxy_protocol", text);
    }
    ListenConfig { public, internal, proxy_protocol, trusted_proxies }
}

fn origins(value: &Scalar, r: &mut Reader<'_>) -> OriginsConfig {
    let mut allow = Vec::new();
    for text in r.texts("origins.allow", value) {
        if text == "*" || is_origin(&text) {
            allow.push(text.into());
        } else {
            let mend = "write it as browsers send it: scheme://host or scheme://host:port, lower-case, nothing after it";
            r.problem("origins.allow", format!("has {text:?}; {mend}"));
        }
    }
    OriginsConfig { allow }
}

/// How long clients may be waited for. Units: milliseconds.
const WAITS: std::ops::RangeInclusive<u64> = 100..=300_000;

pub(super) fn is_origin(text: &str) -> bool {
    let Some((scheme, host)) = text.split_once("://") else { return false };
    let sound =
        |it: char| it.is_ascii_graphic() && !it.is_ascii_uppercase() && !"/?#@*,\\\"".contains(it);
    let default_port = [("http", ":80"), ("https", ":443")];
    !scheme.is_empty()
        && scheme.bytes().all(|it| it.is_ascii_lowercase() || it.is_ascii_digit() || b"+-.".contains(&it))
        && !host.is_empty()
        && host.chars().all(sound)
        // Browsers leave a scheme's own port out, so such an entry would match nobody.
        && !default_port.iter().any(|(of, port)| *of == scheme && host.ends_with(port))
}

fn limits(raw: &RawLimits, r: &mut Reader<'_>) -> Limits {
    let connections = 1..=1_000_000;
    let mut count =
        |name: &str, value: &Scalar, range| r.count(&format!("limits.{name}"), value, range);
    let per_ip = count("connections_per_ip", &raw.connections_per_ip, connections.clone());
    let all = count("connections_max", &raw.connections_max, 1..=10_000_000);
    let silent = count("unauthenticated_max", &raw.unauthenticated_max, connections);
    let fragments = count("fragments", &raw.fragments, 1..=1_000_000);
    let api_batch = count("api_batch", &raw.api_batch, 1..=10_000);
    let webhook_events = count("webhook_events", &raw.webhook_events, 1..=100_000);
    let controls =
        count("control_frames_per_second", &raw.control_frames_per_second, 1..=1_000_000);
    let limits = Limits {
        session: session_limits(raw, r),
        decode: decode_limits(raw, r),
        connections_per_ip: u32_of(per_ip),
        connections_max: usize_of(all),
        unauthenticated_max: usize_of(silent),
        frame_bytes: r.size("limits.frame_bytes", &raw.frame_bytes, KIB..=64 * MIB),
        message_bytes: r.size("limits.message_bytes", &raw.message_bytes, KIB..=64 * MIB),
        fragments: u32_of(fragments),
        control_frames_per_second: u32_of(controls),
        token_bytes: r.size("limits.token_bytes", &raw.token_bytes, 256..=64 * KIB),
        outbox_bytes: r.size("limits.outbox_bytes", &raw.outbox_bytes, KIB..=1_024 * MIB),
        outboxes_bytes: r.size("limits.outboxes_bytes", &raw.outboxes_bytes, 64 * KIB..=1 << 40),
        api_batch: usize_of(api_batch),
        api_batch_bytes: r.size("limits.api_batch_bytes", &raw.api_batch_bytes, KIB..=64 * MIB),
        webhook_events: usize_of(webhook_events),
        webhook_bytes: r.size("limits.webhook_bytes", &raw.webhook_bytes, 64 * KIB..=1_024 * MIB),
        header_ms: r.time("limits.header_timeout", &raw.header_timeout, WAITS),
        header_bytes: r.size("limits.header_bytes", &raw.header_bytes, 8 * KIB..=MIB),
        write_ms: r.time("limits.write_timeout", &raw.write_timeout, 100..=600_000),
    };
    check_sizes(&limits, r);
    limits
}

fn session_limits(raw: &RawLimits, r: &mut Reader<'_>) -> SessionLimits {
    let messages = 1..=100_000_000;
    let mut count =
        |name: &str, value: &Scalar, range| r.count(&format!("limits.{name}"), value, range);
    let rooms = count("rooms_per_session", &raw.rooms_per_session, 1..=65_535);
    let histories = count("histories_per_session", &raw.histories_per_session, 1..=64);
    let requests = count("requests_per_session", &raw.requests_per_session, 1..=64);
    let unacked = count("unacked_max", &raw.unacked_max, 1..=4_096);
    let sent = count("messages_per_minute", &raw.messages_per_minute, messages.clone());
    let controls = count("controls_per_minute", &raw.controls_per_minute, messages);
    let users = count("connections_per_user", &raw.connections_per_user, 1..=1_000_000);
    SessionLimits {
        rooms_max: usize_of(rooms),
        histories_max: u8::try_from(histories).unwrap_or(u8::MAX),
        requests_max: u8::try_from(requests).unwrap_or(u8::MAX),
        unacked_max: u16::try_from(unacked).unwrap_or(u16::MAX),
        resume_window_ms: r.time("limits.resume_window", &raw.resume_window, 1_000..=3_600_000),
        messages_per_minute: u32_of(sent),
        controls_per_minute: u32_of(controls),
        connections_per_user: u32_of(users),
        first_message_ms: r.time("limits.first_message", &raw.first_message, WAITS),
        ping_ms: r.time("limits.ping", &raw.ping, 100..=3_600_000),
        pong_ms: r.time("limits.pong", &raw.pong, 100..=3_600_000),
        ..SessionLimits::default()
    }
}

fn decode_limits(raw: &RawLimits, r: &mut Reader<'_>) -> DecodeLimits {
    let batch = r.count("limits.batch_messages", &raw.batch_messages, 1..=10_000);
    let depth = r.count("limits.json_depth", &raw.json_depth, 4..=120);
    let inflated = r.size("limits.inflated_bytes", &raw.inflated_bytes, KIB..=256 * MIB);
    DecodeLimits {
        batch_max: usize_of(batch),
        inflated_bytes_max: inflated,
        depth_max: usize_of(depth),
    }
}

/// What goes into another must fit into it.
fn check_sizes(limits: &Limits, r: &mut Reader<'_>) {
    let frame = ("limits.frame_bytes", limits.frame_bytes);
    let message = ("limits.message_bytes", limits.message_bytes);
    let outbox = ("limits.outbox_bytes", limits.outbox_bytes);
    let outboxes = ("limits.outboxes_bytes", limits.outboxes_bytes);
    for ((key, less), (of, more)) in [(frame, message), (message, outbox), (outbox, outboxes)] {
        // A value that has a problem of its own was told already.
        if less > more && r.problems.is_empty() {
            r.problem(key, format!("is {less} bytes, more than {of} ({more} bytes)"));
        }
    }
}

fn u32_of(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

fn usize_of(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

fn issuer(key: &str, raw: &RawIssuer, r: &mut Reader<'_>) -> Option<Issuer> {
    let of = |name: &str| format!("{key}.{name}");
    let issuer = r.required(&of("issuer"), raw.issuer.as_ref());
    let audience = r.required(&of("audience"), raw.audience.as_ref());
    let realm = match &raw.realm {
        None => String::new(),
        Some(Scalar::Text(text)) if text.is_empty() => String::new(),
        Some(value) => r.text(&of("realm"), value).unwrap_or_default(),
    };
    let is_sound = |it: u8| it.is_ascii_lowercase() || it.is_ascii_digit() || it == b'-';
    if realm.len() > 32 || !realm.bytes().all(is_sound) {
        r.problem(
            &of("realm"),
            "has other characters than lower-case letters, digits and `-`, or more than 32",
        );
    }
    if realm == API_REALM {
        r.problem(&of("realm"), "is the realm of API keys; choose another");
    }
    if realm == ANONYMOUS_REALM {
        r.problem(&of("realm"), "is the realm of clients without a token; choose another");
    }
    let mut required: Vec<Box<str>> = match &raw.required {
        None => ["aud", "iss"].map(Box::from).to_vec(),
        Some(value) => r.texts(&of("required"), value).into_iter().map(Box::from).collect(),
    };
    required.extend(["exp", "sub"].map(Box::from));
    required.sort_unstable();
    required.dedup();
    let allow_backend =
        raw.allow_backend.as_ref().is_some_and(|it| r.flag(&of("allow_backend"), it));
    if raw.keys.is_empty() {
        r.problem(
            key,
            "has no key; add [[auth.issuers.keys]] with one of secret, secret_env and secret_file",
        );
    }
    let keys = raw.keys.iter().enumerate();
    let keys =
        keys.filter_map(|(at, it)| issuer_key(&format!("{key}.keys[{at}]"), it, r)).collect();
    let (issuer, audience) = (issuer?.into(), audience?.into());
    Some(Issuer { issuer, audience, realm: realm.into(), allow_backend, required, keys })
}

fn issuer_key(key: &str, raw: &RawKey, r: &mut Reader<'_>) -> Option<IssuerKey> {
    if let Some(value) = &raw.algorithm {
        let at = format!("{key}.algorithm");
        if let Some(text) = r.text(&at, value)
            && text != "HS256"
        {
            r.problem(&at, format!("is {text:?}; this version verifies \"HS256\" alone"));
        }
    }
    let kid = match &raw.kid {
        None => None,
        Some(value) => Some(r.text(&format!("{key}.kid"), value)?.into()),
    };
    let keys = SecretKeys {
        name: "secret",
        value: raw.secret.as_ref(),
        env: raw.secret_env.as_ref(),
        file: raw.secret_file.as_ref(),
        bytes_min: TOKEN_SECRET_BYTES_MIN,
    };
    Some(IssuerKey { kid, secret: r.secret(key, &keys)? })
}

/// A token names its key by issuer and `kid`, so the two together must be unique.
fn check_kids(issuers: &[Issuer], r: &mut Reader<'_>) {
    let mut seen = Vec::new();
    for issuer in issuers {
        for key in &issuer.keys {
            let name = (&issuer.issuer, &key.kid);
            if seen.contains(&name) {
                let kid = key.kid.as_deref().unwrap_or("none");
                let text =
                    format!("has two keys for the issuer {:?} and the kid {kid}", issuer.issuer);
                r.problem("auth.issuers", text);
            }
            seen.push(name);
        }
    }
}

fn dev_issuer() -> Issuer {
    Issuer {
        issuer: DEV_ISSUER.into(),
        audience: DEV_ISSUER.into(),
        realm: "".into(),
        allow_backend: true,
        required: ["aud", "exp", "iss", "sub"].map(Box::from).to_vec(),
        keys: vec![IssuerKey { kid: None, secret: Secret::new(DEV_SECRET.into()) }],
    }
}

fn api_key(key: &str, raw: &RawApiKey, r: &mut Reader<'_>) -> Option<ApiKey> {
    let name = r.required(&format!("{key}.name"), raw.name.as_ref());
    if name.as_ref().is_some_and(|it| {
        it.len() > 64 || it.chars().any(|it| it.is_whitespace() || it.is_control())
    }) {
        r.problem(&format!("{key}.name"), "has spaces, or more than 64 bytes");
    }
    let keys = SecretKeys {
        name: "secret",
        value: raw.secret.as_ref(),
        env: raw.secret_env.as_ref(),
        file: raw.secret_file.as_ref(),
        bytes_min: API_KEY_BYTES_MIN,
    };
    let secret = r.secret(key, &keys);
    let scope = scope::scope(key, raw, r);
    Some(ApiKey { name: name?.into(), secret: secret?, scope })
}

fn log_level(value: &Scalar, r: &mut Reader<'_>) -> Box<str> {
    let text = r.text("log.level", value).unwrap_or_else(|| "info".to_owned());
    let levels = ["error", "warn", "info", "debug", "trace", "off"];
    let is_level = |it: &str| levels.contains(&it.trim().to_ascii_lowercase().as_str());
    let bad = text.split(',').find(|it| !is_level(it.rsplit('=').next().unwrap_or(it)));
    if let Some(bad) = bad {
        let known = levels.join(", ");
        r.problem("log.level", format!("has {bad:?}; write one of {known}, or target=level"));
    }
    text.into()
}

fn log_format(value: &Scalar, r: &mut Reader<'_>) -> LogFormat {
    let formats = [("auto", LogFormat::Auto), ("text", LogFormat::Text), ("json", LogFormat::Json)];
    r.choice("log.format", value, &formats).unwrap_or(LogFormat::Auto)
}

/// `asks`: some dialect asks the application who may join.
/// `asks`: the application is asked who may join; `talks`: clients of chat are served.
fn rule(
    key: &str,
    raw: &RawRule,
    (asks, talks): (bool, bool),
    r: &mut Reader<'_>,
) -> Option<RoomRule> {
    let of = |name: &str| format!("{key}.{name}");
    let pattern = r
        .required(&of("match"), raw.pattern.as_ref())
        .and_then(|text| Pattern::parse(&text).map_err(|bad| r.problem(&of("match"), bad)).ok());
    let captures: Vec<String> =
        pattern.iter().flat_map(Pattern::names).map(str::to_owned).collect();
    let captures: Vec<&str> = captures.iter().map(String::as_str).collect();
    let join = r.required(&of("join"), raw.join.as_ref());
    let publish = raw.publish.as_ref().map(|value| r.text(&of("publish"), value));
    let policy = Policy {
        priority: priority(&of("priority"), raw, r),
        types: types(&of("types"), raw, r),
        relay: raw.relay.as_ref().and_then(|value| relay::mode(&of("relay"), value, r)),
        history: keep::keep(key, raw, r),
        strict: raw.strict.as_ref().is_some_and(|value| r.flag(&of("strict"), value)),
        by_call: join.as_deref() == Some(BY_CALL),
        ..Policy::OPEN
    };
    if policy.by_call && !asks {
        let mend = "set dialects.roadrunner.identity to \"call\", or write a condition";
        r.problem(&of("join"), format!("is {BY_CALL:?}, but nobody asks the application; {mend}"));
    }
    let (mut policy, paths) = members::members(key, raw, pattern.as_ref(), policy, r);
    if talks {
        policy = dialects::conversations(key, pattern.as_ref(), policy, r);
    }
    let pattern = pattern?;
    let Paths { conflate, collapse } = paths;
    let mut compile = |name: &str, source: &str| {
        let compiled = Condition::compile(source, &captures);
        compiled.map_err(|cause| r.problem(&of(name), cause)).ok()
    };
    let compiled = join.filter(|_| !policy.by_call).and_then(|it| compile("join", &it));
    let publish = match publish {
        None => None,
        Some(source) => Some(compile("publish", &source?)?),
    };
    let join = if policy.by_call { None } else { Some(compiled?) };
    Some(RoomRule { pattern, join, publish, policy, conflate, collapse })
}

fn priority(key: &str, raw: &RawRule, r: &mut Reader<'_>) -> Priority {
    let Some(text) = raw.priority.as_ref().and_then(|value| r.text(key, value)) else {
        return Priority::Normal;
    };
    Priority::parse(&text).unwrap_or_else(|| {
        r.problem(key, format!("is {text:?}; write \"high\", \"normal\" or \"low\""));
        Priority::Normal
    })
}

fn types(key: &str, raw: &RawRule, r: &mut Reader<'_>) -> Vec<Box<str>> {
    let Some(value) = &raw.types else { return Vec::new() };
    let types = r.texts(key, value);
    if types.is_empty() {
        r.problem(key, "names no type; leave it out to allow any");
    }
    types.into_iter().map(Box::from).collect()
}
