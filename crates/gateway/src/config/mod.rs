//! The node's configuration: read from all its sources once, parsed into valid values, never read raw again (INV-14).
//! Every problem is told at once, with its place and its mend; no secret is ever written out.

mod dialects;
mod drain;
mod keep;
mod layer;
mod members;
mod parse;
mod print;
mod raw;
mod read;
mod relay;
mod rpc;
mod schema;
mod scope;
#[cfg(test)]
mod tests;
mod units;
mod upstream;
mod webhooks;

pub(crate) use units::millis;

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use config::Source as _;
use ipnet::IpNet;
use roomcast_protocol::limits::{DecodeLimits, LimitName, SessionLimits};

use crate::guard::RoomRule;
pub use dialects::{ChatConfig, DialectsConfig, Identity, RoadRunnerConfig};
pub use drain::DrainConfig;
pub(crate) use keep::HISTORY;
use layer::{Layer, Places};
use raw::RawConfig;
use read::Reader;
pub use relay::{BrokerConfig, BrokerKind, RedisConfig, RelayConfig};
pub use rpc::{RpcConfig, RpcPlace};
use schema::EXAMPLE;
pub use scope::{Action, Scope};
pub use upstream::{
    CacheConfig, CallConfig, MethodPattern, RequestsConfig, TargetConfig, UpstreamConfig,
};
pub use webhooks::{EventKind, WebhookConfig, WebhooksConfig};

/// The secret that `--dev` accepts; known to everybody, so it protects nothing.
pub const DEV_SECRET: &str = "roomcast-development-only-secret-32b";

/// Issuer and audience of tokens in `--dev`.
pub const DEV_ISSUER: &str = "roomcast";

/// The API key of `--dev`, and its name.
pub const DEV_API_KEY: &str = "dev";

/// Where values come from that nobody gave.
const DEFAULT_PLACE: &str = "default";

const DEV: &str = include_str!("../../assets/dev.toml");

/// Where a configuration comes from, in rising order: defaults, `dev`, `file`, `env`, `overrides`.
#[derive(Clone, Default)]
pub struct LoadOptions {
    /// The user's file; TOML.
    pub file: Option<PathBuf>,
    /// All environment variables: those that begin with `ROOMCAST__` are keys, others may hold secrets that keys name.
    pub env: Vec<(String, String)>,
    /// `section.key` and value, as `--set` gives them.
    pub overrides: Vec<(String, String)>,
    /// Open to whoever is on this machine.
    pub dev: bool,
}

impl fmt::Debug for LoadOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the environment, nor what overrides it: both may hold secrets.
        f.debug_struct("LoadOptions")
            .field("file", &self.file)
            .field("dev", &self.dev)
            .finish_non_exhaustive()
    }
}

/// A configuration in force.
#[derive(Clone, Debug)]
pub struct Config {
    /// Open to whoever is on this machine: the development secret is accepted, `demo` rooms exist.
    pub dev: bool,
    /// `[node]`.
    pub node: NodeConfig,
    /// `[listen]`.
    pub listen: ListenConfig,
    /// `[origins]`.
    pub origins: OriginsConfig,
    /// `[limits]`.
    pub limits: Limits,
    /// `[auth]`.
    pub auth: AuthConfig,
    /// `[api]`.
    pub api: ApiConfig,
    /// `[agents]`.
    pub agents: AgentsConfig,
    /// `[drain]`.
    pub drain: DrainConfig,
    /// `[dialects]`.
    pub dialects: DialectsConfig,
    /// `[rpc]`.
    pub rpc: RpcConfig,
    /// `[broker]`.
    pub broker: BrokerConfig,
    /// `[redis]`.
    pub redis: RedisConfig,
    /// `[relay]`.
    pub relay: RelayConfig,
    /// `[log]`.
    pub log: LogConfig,
    /// `[upstream]`.
    pub upstream: UpstreamConfig,
    /// `[[webhooks]]`.
    pub webhooks: WebhooksConfig,
    /// `[[rooms]]`, in order, compiled.
    pub rooms: Arc<[RoomRule]>,
    /// `[redis]` says something, but `[broker]` does not use it.
    redis_is_idle: bool,
    effective: Arc<str>,
}

/// `[node]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeConfig {
    /// Worker threads. Bounds: 1 to 64.
    pub lanes: usize,
}

/// `[listen]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenConfig {
    /// Where clients connect.
    pub public: SocketAddr,
    /// Where back-ends, probes and Prometheus connect.
    pub internal: SocketAddr,
    /// Whether every connection begins with the PROXY protocol.
    pub proxy_protocol: bool,
    /// Whose word about a client's address is believed.
    pub trusted_proxies: Vec<IpNet>,
}

/// `[origins]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OriginsConfig {
    /// Origins of the pages that may connect, exactly; `*`: all.
    pub allow: Vec<Box<str>>,
}

/// `[limits]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// What sessions may do, and by when; with `auth.leeway`.
    pub session: SessionLimits,
    /// What decoders may take in.
    pub decode: DecodeLimits,
    /// Open connections of one client address.
    pub connections_per_ip: u32,
    /// Open connections of the node.
    pub connections_max: usize,
    /// Connections that have not authenticated yet.
    pub unauthenticated_max: usize,
    /// One WebSocket frame. Units: bytes.
    pub frame_bytes: usize,
    /// One message, its fragments joined. Units: bytes.
    pub message_bytes: usize,
    /// Fragments of one message.
    pub fragments: u32,
    /// Pings and pongs of one connection in one second.
    pub control_frames_per_second: u32,
    /// One token. Units: bytes.
    pub token_bytes: usize,
    /// What may wait for one connection. Units: bytes.
    pub outbox_bytes: usize,
    /// What may wait for all connections. Units: bytes.
    pub outboxes_bytes: usize,
    /// Publications in one batch of a back-end, rooms of one broadcast.
    pub api_batch: usize,
    /// One batch of a back-end. Units: bytes.
    pub api_batch_bytes: usize,
    /// Events that may wait until the application was told.
    pub webhook_events: usize,
    /// The same. Units: bytes.
    pub webhook_bytes: usize,
    /// How long a request's head may take. Units: milliseconds.
    pub header_ms: u64,
    /// A request's head. Units: bytes.
    pub header_bytes: usize,
    /// How long a client may take nothing of what waits for it. Units: milliseconds.
    pub write_ms: u64,
}

impl Limits {
    /// The value of a limit by its name.
    #[must_use]
    pub fn get(&self, name: LimitName) -> u64 {
        let size = |it: usize| u64::try_from(it).unwrap_or(u64::MAX);
        match name {
            LimitName::ConnectionsPerIp => self.connections_per_ip.into(),
            LimitName::ConnectionsPerUser => self.session.connections_per_user.into(),
            LimitName::ConnectionsPerNode => size(self.connections_max),
            LimitName::MessagesPerUser => self.session.messages_per_minute.into(),
            LimitName::ControlsPerUser => self.session.controls_per_minute.into(),
            LimitName::RoomsPerSession => size(self.session.rooms_max),
            LimitName::BatchMessages => size(self.decode.batch_max),
            LimitName::FrameBytes => size(self.frame_bytes),
            LimitName::MessageBytes => size(self.message_bytes),
            LimitName::InflatedBytes => size(self.decode.inflated_bytes_max),
            LimitName::Fragments => self.fragments.into(),
            LimitName::ControlFrames => self.control_frames_per_second.into(),
            LimitName::Depth => size(self.decode.depth_max),
            LimitName::TokenBytes => size(self.token_bytes),
            LimitName::OutboxBytes => size(self.outbox_bytes),
            LimitName::OutboxesBytes => size(self.outboxes_bytes),
            LimitName::Unauthenticated => size(self.unauthenticated_max),
            LimitName::HistoriesPerSession => self.session.histories_max.into(),
            LimitName::RequestsPerSession => self.session.requests_max.into(),
            LimitName::Unacked => self.session.unacked_max.into(),
            LimitName::ApiBatch => size(self.api_batch),
            LimitName::ApiBatchBytes => size(self.api_batch_bytes),
        }
    }
}

/// `[auth]`; its leeway is in [`Limits::session`].
#[derive(Clone, Debug)]
pub struct AuthConfig {
    /// `[[auth.issuers]]`; none: nobody can authenticate.
    pub issuers: Vec<Issuer>,
}

/// `[[auth.issuers]]`: who issues tokens.
#[derive(Clone, Debug)]
pub struct Issuer {
    /// The claim `iss`.
    pub issuer: Box<str>,
    /// The claim `aud`.
    pub audience: Box<str>,
    /// Its users' realm; empty: the default realm.
    pub realm: Box<str>,
    /// Whether its tokens may say `kind = "backend"`.
    pub allow_backend: bool,
    /// Claims that its tokens must have; `exp` and `sub` among them.
    pub required: Vec<Box<str>>,
    /// Its keys.
    pub keys: Vec<IssuerKey>,
}

/// `[[auth.issuers.keys]]`: a key for HS256.
#[derive(Clone, Debug)]
pub struct IssuerKey {
    /// The header `kid` of its tokens; `None`: they have none.
    pub kid: Option<Box<str>>,
    /// The key. Bounds: at least 32 bytes.
    pub secret: Secret,
}

/// `[api]`.
#[derive(Clone, Debug)]
pub struct ApiConfig {
    /// `[[api.keys]]`.
    pub keys: Vec<ApiKey>,
}

/// `[[api.keys]]`: a back-end's key.
#[derive(Clone, Debug)]
pub struct ApiKey {
    /// Who has it.
    pub name: Box<str>,
    /// The key. Bounds: at least 16 bytes outside of `--dev`.
    pub secret: Secret,
    /// What it is good for.
    pub scope: Scope,
}

/// `[agents]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentsConfig {
    /// How long an agent, or a user, may be away before it counts as gone. Units: milliseconds.
    pub leave_grace_ms: u64,
}

/// `[log]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogConfig {
    /// A level, or targets with levels.
    pub level: Box<str>,
    /// How it is written.
    pub format: LogFormat,
}

/// How logs are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// Text on a terminal, JSON otherwise.
    Auto,
    /// For people.
    Text,
    /// For machines.
    Json,
}

/// Bytes that are never written out, nor compared but by hash.
#[derive(Clone)]
pub struct Secret(Box<[u8]>);

impl Secret {
    pub(crate) fn new(bytes: Vec<u8>) -> Self {
        Self(bytes.into())
    }

    /// The bytes, for whoever signs or verifies.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(********)")
    }
}

/// One thing that is wrong with a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// `file:line:column`, the environment variable's name, or `--set key`.
    pub place: String,
    /// What is wrong and how to mend it; without secrets.
    pub text: String,
}

impl Problem {
    fn new(place: impl Into<String>, text: impl Into<String>) -> Self {
        Self { place: place.into(), text: text.into() }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.place.is_empty() {
            return f.write_str(&self.text);
        }
        write!(f, "{}: {}", self.place, self.text)
    }
}

/// All that is wrong with a configuration, one problem a line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct ConfigErrors(Vec<Problem>);

impl ConfigErrors {
    /// The problems, at least one.
    #[must_use]
    pub fn problems(&self) -> &[Problem] {
        &self.0
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, problem) in self.0.iter().enumerate() {
            if at > 0 {
                f.write_str("\n")?;
            }
            fmt::Display::fmt(problem, f)?;
        }
        Ok(())
    }
}

impl Config {
    /// Reads a configuration from all its sources.
    ///
    /// # Errors
    /// [`ConfigErrors`] lists everything that is wrong, each with its place and its mend.
    pub fn load(options: &LoadOptions) -> Result<Self, ConfigErrors> {
        let mut problems = Vec::new();
        let mut builder = config::Config::builder();
        builder =
            builder.add_source(Layer::toml(EXAMPLE, Places::Whole(DEFAULT_PLACE), &mut problems));
        if options.dev {
            builder = builder.add_source(Layer::toml(DEV, Places::Whole("--dev"), &mut problems));
        }
        if let Some(file) = &options.file {
            let name = file.display().to_string();
            match std::fs::read_to_string(file) {
                Ok(text) => {
                    let layer = Layer::toml(&text, Places::Lines(&name), &mut problems);
                    builder = builder.add_source(layer);
                }
                Err(error) => {
                    let text =
                        format!("cannot be read: {error}; `roomcast config example` writes one");
                    problems.push(Problem::new(name, text));
                }
            }
        }
        builder = builder.add_source(Layer::environment(&options.env, &mut problems));
        builder = builder.add_source(Layer::overrides(&options.overrides, &mut problems));
        let unusual =
            |error: config::ConfigError| ConfigErrors(vec![Problem::new("", error.to_string())]);
        let merged = builder.build().map_err(unusual)?;
        let values = merged.collect().map_err(unusual)?;
        let raw: RawConfig = merged.try_deserialize().map_err(unusual)?;
        let mut reader = Reader::new(&values, &options.env, options.file.as_deref());
        let parsed = parse::parse(&raw, options.dev, &mut reader);
        problems.append(&mut reader.problems);
        if !problems.is_empty() {
            return Err(ConfigErrors(problems));
        }
        Ok(Self {
            dev: options.dev,
            node: parsed.node,
            listen: parsed.listen,
            origins: parsed.origins,
            limits: parsed.limits,
            auth: parsed.auth,
            api: parsed.api,
            agents: parsed.agents,
            drain: parsed.drain,
            dialects: parsed.dialects,
            rpc: parsed.rpc,
            broker: parsed.relayed.broker,
            redis: parsed.relayed.redis,
            relay: parsed.relayed.relay,
            redis_is_idle: parsed.relayed.redis_is_idle,
            log: parsed.log,
            upstream: parsed.upstream,
            webhooks: parsed.webhooks,
            rooms: parsed.rooms,
            effective: print::effective(&values).into(),
        })
    }

    /// The values in force as TOML, each with the place it came from; secrets are masked.
    #[must_use]
    pub fn print(&self) -> String {
        let dev = "\n# --dev adds the issuer \"roomcast\" with a secret that everybody knows, and open rooms \
                   demo and demo-*, of which demo-team has presence and receipts\n";
        format!("{}{}", self.effective, if self.dev { dev } else { "" })
    }

    /// The broker in a few words, without secrets.
    #[must_use]
    pub fn broker_line(&self) -> String {
        match self.broker.kind {
            BrokerKind::Memory => "memory: this node is alone".to_owned(),
            BrokerKind::Redis => print::redis(&self.redis, &self.relay),
        }
    }

    /// What works but is worth a human's look, for the log at start.
    #[must_use]
    pub fn warnings(&self) -> Vec<&'static str> {
        let cases = [
            (self.dev, "--dev: a secret that everybody knows is accepted; for this machine alone"),
            (
                self.auth.issuers.is_empty(),
                "no issuer is configured (auth.issuers), so nobody can authenticate; try --dev",
            ),
            (
                self.origins.allow.iter().any(|origin| &**origin == "*"),
                "origins.allow has \"*\": pages of every site may connect",
            ),
            (
                self.dev && !self.upstream.targets.is_empty(),
                "--dev: back-ends on this machine may be called, whatever allow_private says",
            ),
            (
                self.dialects.roadrunner.as_ref().is_some_and(|it| it.identity == Identity::Open),
                "dialects.roadrunner.identity is \"open\": whoever connects may join where rules do not ask who it is",
            ),
            (
                self.redis_is_idle,
                "[redis] is configured, but broker.kind is \"memory\": this node is alone",
            ),
        ];
        cases.into_iter().filter(|(applies, _)| *applies).map(|(_, text)| text).collect()
    }
}

/// The commented example: every key with its default.
#[must_use]
pub const fn example() -> &'static str {
    schema::EXAMPLE
}

/// What there is to know about keys, in Markdown: rules for rooms, then a table for each section.
#[must_use]
pub fn reference_table() -> String {
    print::reference()
}
