//! `[broker]`, `[redis]` and `[relay]`: where publications travel from node to node, and how.

use std::collections::BTreeSet;

use roomcast_broker::redis::{Address, Credentials, Servers, Tls};
use roomcast_protocol::relay::{RelayFormat, RelayKeys, RelayMode};

use super::raw::{RawConfig, RawRedis, RawRelay, Scalar};
use super::read::{Reader, SecretKeys};

/// Shortest key of envelopes. Units: bytes.
const RELAY_KEY_BYTES_MIN: usize = 16;

/// How long Redis may be waited for. Units: milliseconds.
const WAITS: std::ops::RangeInclusive<u64> = 100..=30_000;

/// How long ids may be remembered; clients are told that it is 2 minutes at least. Units: milliseconds.
const DEDUP_TTLS: std::ops::RangeInclusive<u64> = 120_000..=3_600_000;

/// Replicas that a publication may have to reach.
const REPLICAS: std::ops::RangeInclusive<u64> = 1..=16;

const SERVER_EXAMPLE: &str = "write host:port, for example \"127.0.0.1:6379\" or \"[::1]:6379\"";

/// `[broker]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BrokerConfig {
    /// What carries publications from node to node.
    pub kind: BrokerKind,
}

/// What carries publications from node to node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BrokerKind {
    /// Nothing: the node is alone.
    #[default]
    Memory,
    /// Redis.
    Redis,
}

impl BrokerKind {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Memory, Self::Redis];

    /// Its name in the configuration.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Redis => "redis",
        }
    }
}

/// `[redis]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedisConfig {
    /// Where the servers are.
    pub servers: Servers,
    /// Who the node is to them.
    pub credentials: Credentials,
    /// Who the node is to the Sentinels.
    pub sentinel_credentials: Credentials,
    /// Encrypt all connections.
    pub tls: Option<Tls>,
    /// How long a command may take. Units: milliseconds.
    pub command_timeout_ms: u64,
    /// How long connecting may take. Units: milliseconds.
    pub connect_timeout_ms: u64,
    /// What may wait for Redis. Units: bytes.
    pub pending_bytes: usize,
    /// How long an id is remembered at least. Units: milliseconds.
    pub dedup_ttl_ms: u64,
    /// Ids remembered in each of the two generations of a room.
    pub dedup_max: usize,
    /// Replicas that must have a publication of a replicated room.
    pub replicas_min: u32,
    /// How long those replicas may take. Units: milliseconds.
    pub wait_timeout_ms: u64,
}

/// `[relay]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RelayConfig {
    /// How rooms are relayed whose rule says nothing.
    pub mode: RelayMode,
    /// How envelopes are written.
    pub format: RelayFormat,
    /// Hear what outsiders publish on `room:<name>` in every mode.
    pub outsiders: bool,
    /// The keys of envelopes; `None`: one is made once and kept in Redis.
    pub keys: Option<RelayKeys>,
}

/// What the three sections say.
pub(super) struct Relayed {
    pub(super) broker: BrokerConfig,
    pub(super) redis: RedisConfig,
    pub(super) relay: RelayConfig,
    /// `[redis]` says something, but is not used.
    pub(super) redis_is_idle: bool,
}

/// Reads the three sections; `message_bytes` is the limit of one message.
pub(super) fn parse(raw: &RawConfig, message_bytes: usize, r: &mut Reader<'_>) -> Relayed {
    let kinds = BrokerKind::ALL.map(|kind| (kind.name(), kind));
    let kind = r.choice("broker.kind", &raw.broker.kind, &kinds).unwrap_or_default();
    let redis = redis(&raw.redis, r);
    if kind == BrokerKind::Redis && redis.pending_bytes < message_bytes && r.problems.is_empty() {
        let (less, more) = (redis.pending_bytes, message_bytes);
        let text = format!("is {less} bytes, less than limits.message_bytes ({more} bytes)");
        r.problem("redis.pending_bytes", text);
    }
    Relayed {
        broker: BrokerConfig { kind },
        redis,
        relay: relay(&raw.relay, r),
        redis_is_idle: kind == BrokerKind::Memory && r.is_given("redis"),
    }
}

/// How rooms are relayed, at a key that says it.
pub(super) fn mode(key: &str, value: &Scalar, r: &mut Reader<'_>) -> Option<RelayMode> {
    r.choice(key, value, &RelayMode::ALL.map(|mode| (mode.name(), mode)))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Topology {
    Standalone,
    Sentinel,
    Cluster,
}

fn redis(raw: &RawRedis, r: &mut Reader<'_>) -> RedisConfig {
    let topologies = [
        ("standalone", Topology::Standalone),
        ("sentinel", Topology::Sentinel),
        ("cluster", Topology::Cluster),
    ];
    let topology = r.choice("redis.topology", &raw.topology, &topologies);
    let topology = topology.unwrap_or(Topology::Cluster);
    let secrets = [
        [&raw.password, &raw.password_env, &raw.password_file],
        [&raw.sentinel_password, &raw.sentinel_password_env, &raw.sentinel_password_file],
    ];
    let [password, sentinel_password] = secrets.map(|it| it.map(Option::as_ref));
    let credentials = credentials("", raw.username.as_ref(), password, r);
    let sentinel_credentials =
        self::credentials("sentinel_", raw.sentinel_username.as_ref(), sentinel_password, r);
    if topology != Topology::Sentinel && sentinel_credentials != Credentials::default() {
        let text = "is for Sentinels; set redis.topology to \"sentinel\", or leave it out";
        let name = if raw.sentinel_username.is_some() { "username" } else { "password" };
        r.problem(&format!("redis.sentinel_{name}"), text);
    }
    let dedup_max = r.count("redis.dedup_max", &raw.dedup_max, 1_000..=10_000_000);
    let replicas_min = r.count("redis.replicas_min", &raw.replicas_min, REPLICAS);
    RedisConfig {
        servers: servers(topology, raw, r),
        credentials,
        sentinel_credentials,
        tls: tls(raw, r),
        command_timeout_ms: r.time("redis.command_timeout", &raw.command_timeout, WAITS),
        connect_timeout_ms: r.time("redis.connect_timeout", &raw.connect_timeout, WAITS),
        pending_bytes: r.size("redis.pending_bytes", &raw.pending_bytes, 1 << 16..=1 << 30),
        dedup_ttl_ms: r.time("redis.dedup_ttl", &raw.dedup_ttl, DEDUP_TTLS),
        dedup_max: usize::try_from(dedup_max).unwrap_or(usize::MAX),
        replicas_min: u32::try_from(replicas_min).unwrap_or(u32::MAX),
        wait_timeout_ms: r.time("redis.wait_timeout", &raw.wait_timeout, WAITS),
    }
}

fn servers(topology: Topology, raw: &RawRedis, r: &mut Reader<'_>) -> Servers {
    let key = "redis.servers";
    let mut servers = Vec::new();
    let before = r.problems.len();
    for text in r.texts(key, &raw.servers) {
        match address(&text) {
            Some(address) => servers.push(address),
            // Not quoted: it may hold a password.
            None if text.contains(['@', '/']) => r.problem(
                key,
                format!(
                    "has more than a host and a port; {SERVER_EXAMPLE}; redis.username, redis.password and redis.tls \
                     have keys of their own"
                ),
            ),
            None => r.problem(key, format!("has {text:?}; {SERVER_EXAMPLE}")),
        }
    }
    if servers.is_empty() && r.problems.len() == before {
        r.problem(key, format!("names no server; {SERVER_EXAMPLE}"));
    }
    let count = servers.len();
    if servers.iter().collect::<BTreeSet<_>>().len() < count {
        r.problem(key, "names a server twice");
    }
    match topology {
        Topology::Standalone => {
            if count > 1 {
                let mend =
                    "name the one server, or set redis.topology to \"sentinel\" or \"cluster\"";
                r.problem(
                    key,
                    format!("has {count} servers, but \"standalone\" means one; {mend}"),
                );
            }
            Servers::Standalone(servers.into_iter().next().unwrap_or_default())
        }
        Topology::Sentinel => {
            let service = r.text("redis.sentinel_service", &raw.sentinel_service);
            Servers::Sentinel { sentinels: servers, service: service.unwrap_or_default() }
        }
        Topology::Cluster => Servers::Cluster(servers),
    }
}

/// Reads `host:port`; an IPv6 address stands in brackets.
fn address(text: &str) -> Option<Address> {
    let (host, port) = text.rsplit_once(':')?;
    let port = port.parse().ok().filter(|port| *port != 0)?;
    if let Some(inner) = host.strip_prefix('[').and_then(|it| it.strip_suffix(']')) {
        inner.parse::<std::net::Ipv6Addr>().ok()?;
        return Some((inner.to_owned(), port));
    }
    let is_sound = |it: char| it.is_ascii_alphanumeric() || matches!(it, '-' | '_' | '.');
    (!host.is_empty() && host.chars().all(is_sound)).then(|| (host.to_owned(), port))
}

/// Reads who the node is; the keys' names begin with `prefix`.
fn credentials(
    prefix: &str,
    username: Option<&Scalar>,
    [value, env, file]: [Option<&Scalar>; 3],
    r: &mut Reader<'_>,
) -> Credentials {
    let key = format!("redis.{prefix}username");
    let username = username.and_then(|value| r.text(&key, value));
    let name = format!("{prefix}password");
    let before = r.problems.len();
    let keys = SecretKeys { name: &name, value, env, file, bytes_min: 1 };
    let secret = r.optional_secret("redis", &keys);
    let password = secret.and_then(|secret| {
        let text = String::from_utf8(secret.expose().to_vec());
        text.map_err(|_| r.problem(&format!("redis.{name}"), "is not UTF-8")).ok()
    });
    if username.is_some() && password.is_none() && r.problems.len() == before {
        let text = format!("needs redis.{name}; where the user has none, any text will do");
        r.problem(&key, text);
    }
    Credentials { username, password }
}

fn tls(raw: &RawRedis, r: &mut Reader<'_>) -> Option<Tls> {
    let key = "redis.tls_ca_file";
    let is_on = r.flag("redis.tls", &raw.tls);
    let Some(file) = &raw.tls_ca_file else { return is_on.then(Tls::default) };
    if !is_on {
        r.problem(key, "is given, but redis.tls is false; set it to true, or leave this out");
        return None;
    }
    Some(Tls { ca_pem: Some(r.certificates(key, file)?) })
}

fn relay(raw: &RawRelay, r: &mut Reader<'_>) -> RelayConfig {
    let formats = RelayFormat::ALL.map(|format| (format.name(), format));
    let of = |name, value, env, file| SecretKeys {
        name,
        value: Option::as_ref(value),
        env: Option::as_ref(env),
        file: Option::as_ref(file),
        bytes_min: RELAY_KEY_BYTES_MIN,
    };
    let current = of("key", &raw.key, &raw.key_env, &raw.key_file);
    let previous =
        of("previous_key", &raw.previous_key, &raw.previous_key_env, &raw.previous_key_file);
    let before = r.problems.len();
    let current = r.optional_secret("relay", &current);
    let is_sound = r.problems.len() == before;
    let previous = r.optional_secret("relay", &previous);
    if current.is_none() && previous.is_some() && is_sound {
        let text = "is given without relay.key, which signs; give that one as well";
        r.problem("relay.previous_key", text);
    }
    RelayConfig {
        mode: mode("relay.mode", &raw.mode, r).unwrap_or_default(),
        format: r.choice("relay.format", &raw.format, &formats).unwrap_or_default(),
        outsiders: r.flag("relay.outsiders", &raw.outsiders),
        keys: current.map(|current| RelayKeys {
            current: current.expose().into(),
            previous: previous.map(|previous| previous.expose().into()),
        }),
    }
}
