//! The configuration as it is written: every key there is, no value looked at yet. Unknown keys are refused here once
//! more, so that the example and this page cannot drift apart.

use serde::Deserialize;

/// A value whose type its key decides: from the environment all are text.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(untagged)]
pub(super) enum Scalar {
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
    List(Vec<Self>),
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawConfig {
    pub(super) node: RawNode,
    pub(super) listen: RawListen,
    pub(super) origins: RawOrigins,
    pub(super) limits: RawLimits,
    pub(super) auth: RawAuth,
    #[serde(default)]
    pub(super) api: RawApi,
    pub(super) agents: RawAgents,
    pub(super) drain: RawDrain,
    pub(super) broker: RawBroker,
    pub(super) redis: RawRedis,
    pub(super) relay: RawRelay,
    pub(super) dialects: RawDialects,
    pub(super) rpc: RawRpc,
    pub(super) log: RawLog,
    #[serde(default)]
    pub(super) upstream: RawUpstream,
    #[serde(default)]
    pub(super) webhooks: Vec<RawWebhook>,
    #[serde(default)]
    pub(super) rooms: Vec<RawRule>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawNode {
    pub(super) lanes: Scalar,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawListen {
    pub(super) public: Scalar,
    pub(super) internal: Scalar,
    pub(super) proxy_protocol: Scalar,
    pub(super) trusted_proxies: Scalar,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawOrigins {
    pub(super) allow: Scalar,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawLimits {
    pub(super) connections_per_ip: Scalar,
    pub(super) connections_per_user: Scalar,
    pub(super) connections_max: Scalar,
    pub(super) unauthenticated_max: Scalar,
    pub(super) messages_per_minute: Scalar,
    pub(super) controls_per_minute: Scalar,
    pub(super) rooms_per_session: Scalar,
    pub(super) histories_per_session: Scalar,
    pub(super) requests_per_session: Scalar,
    pub(super) unacked_max: Scalar,
    pub(super) api_batch: Scalar,
    pub(super) api_batch_bytes: Scalar,
    pub(super) webhook_events: Scalar,
    pub(super) webhook_bytes: Scalar,
    pub(super) resume_window: Scalar,
    pub(super) batch_messages: Scalar,
    pub(super) frame_bytes: Scalar,
    pub(super) message_bytes: Scalar,
    pub(super) inflated_bytes: Scalar,
    pub(super) fragments: Scalar,
    pub(super) control_frames_per_second: Scalar,
    pub(super) json_depth: Scalar,
    pub(super) token_bytes: Scalar,
    pub(super) outbox_bytes: Scalar,
    pub(super) outboxes_bytes: Scalar,
    pub(super) first_message: Scalar,
    pub(super) header_timeout: Scalar,
    pub(super) header_bytes: Scalar,
    pub(super) write_timeout: Scalar,
    pub(super) ping: Scalar,
    pub(super) pong: Scalar,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawAuth {
    pub(super) leeway: Scalar,
    #[serde(default)]
    pub(super) issuers: Vec<RawIssuer>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawIssuer {
    pub(super) issuer: Option<Scalar>,
    pub(super) audience: Option<Scalar>,
    pub(super) realm: Option<Scalar>,
    pub(super) allow_backend: Option<Scalar>,
    pub(super) required: Option<Scalar>,
    #[serde(default)]
    pub(super) keys: Vec<RawKey>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawKey {
    pub(super) kid: Option<Scalar>,
    pub(super) algorithm: Option<Scalar>,
    pub(super) secret: Option<Scalar>,
    pub(super) secret_env: Option<Scalar>,
    pub(super) secret_file: Option<Scalar>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawApi {
    #[serde(default)]
    pub(super) keys: Vec<RawApiKey>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawApiKey {
    pub(super) name: Option<Scalar>,
    pub(super) actions: Option<Scalar>,
    pub(super) rooms: Option<Scalar>,
    pub(super) secret: Option<Scalar>,
    pub(super) secret_env: Option<Scalar>,
    pub(super) secret_file: Option<Scalar>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawAgents {
    pub(super) leave_grace: Scalar,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawDrain {
    pub(super) window: Scalar,
    pub(super) rate: Scalar,
    pub(super) deadline: Scalar,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawBroker {
    pub(super) kind: Scalar,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawRedis {
    pub(super) topology: Scalar,
    pub(super) servers: Scalar,
    pub(super) sentinel_service: Scalar,
    pub(super) username: Option<Scalar>,
    pub(super) password: Option<Scalar>,
    pub(super) password_env: Option<Scalar>,
    pub(super) password_file: Option<Scalar>,
    pub(super) sentinel_username: Option<Scalar>,
    pub(super) sentinel_password: Option<Scalar>,
    pub(super) sentinel_password_env: Option<Scalar>,
    pub(super) sentinel_password_file: Option<Scalar>,
    pub(super) tls: Scalar,
    pub(super) tls_ca_file: Option<Scalar>,
    pub(super) command_timeout: Scalar,
    pub(super) connect_timeout: Scalar,
    pub(super) pending_bytes: Scalar,
    pub(super) dedup_ttl: Scalar,
    pub(super) dedup_max: Scalar,
    pub(super) replicas_min: Scalar,
    pub(super) wait_timeout: Scalar,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawRelay {
    pub(super) mode: Scalar,
    pub(super) format: Scalar,
    pub(super) outsiders: Scalar,
    pub(super) key: Option<Scalar>,
    pub(super) key_env: Option<Scalar>,
    pub(super) key_file: Option<Scalar>,
    pub(super) previous_key: Option<Scalar>,
    pub(super) previous_key_env: Option<Scalar>,
    pub(super) previous_key_file: Option<Scalar>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawDialects {
    pub(super) chat: RawChat,
    pub(super) roadrunner: RawRoadRunner,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawChat {
    pub(super) enabled: Scalar,
    pub(super) path: Scalar,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawRoadRunner {
    pub(super) enabled: Scalar,
    pub(super) path: Scalar,
    pub(super) identity: Option<Scalar>,
    pub(super) authorize: Option<Scalar>,
    pub(super) allowed_origin: Option<Scalar>,
    pub(super) default_prefix: Scalar,
    #[serde(default)]
    pub(super) brokers: Vec<RawBrokerName>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawBrokerName {
    pub(super) name: Option<Scalar>,
    pub(super) prefix: Option<Scalar>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawRpc {
    pub(super) listen: Scalar,
    pub(super) allow_remote: Scalar,
    pub(super) connections_max: Scalar,
    pub(super) websockets: Scalar,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawLog {
    pub(super) level: Scalar,
    pub(super) format: Scalar,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawUpstream {
    #[serde(default)]
    pub(super) targets: Vec<RawTarget>,
    #[serde(default)]
    pub(super) calls: Vec<RawCall>,
    #[serde(default)]
    pub(super) requests: Vec<RawRequests>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawTarget {
    pub(super) name: Option<Scalar>,
    pub(super) url: Option<Scalar>,
    pub(super) allow_private: Option<Scalar>,
    pub(super) secret: Option<Scalar>,
    pub(super) secret_env: Option<Scalar>,
    pub(super) secret_file: Option<Scalar>,
    pub(super) authorization: Option<Scalar>,
    pub(super) authorization_env: Option<Scalar>,
    pub(super) authorization_file: Option<Scalar>,
    pub(super) tls_ca_file: Option<Scalar>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawCall {
    pub(super) name: Option<Scalar>,
    pub(super) target: Option<Scalar>,
    pub(super) method: Option<Scalar>,
    pub(super) path: Option<Scalar>,
    pub(super) headers: Option<Scalar>,
    pub(super) timeout: Option<Scalar>,
    pub(super) concurrency: Option<Scalar>,
    pub(super) queue: Option<Scalar>,
    pub(super) response_bytes: Option<Scalar>,
    pub(super) breaker_failures: Option<Scalar>,
    pub(super) breaker_open: Option<Scalar>,
    pub(super) cache: Option<Scalar>,
    pub(super) cache_stale: Option<Scalar>,
    pub(super) cache_entries: Option<Scalar>,
    pub(super) cache_bytes: Option<Scalar>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawRequests {
    pub(super) methods: Option<Scalar>,
    pub(super) call: Option<Scalar>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawWebhook {
    pub(super) call: Option<Scalar>,
    pub(super) events: Option<Scalar>,
    pub(super) retry_for: Option<Scalar>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawRule {
    #[serde(rename = "match")]
    pub(super) pattern: Option<Scalar>,
    pub(super) join: Option<Scalar>,
    pub(super) publish: Option<Scalar>,
    pub(super) priority: Option<Scalar>,
    pub(super) types: Option<Scalar>,
    pub(super) relay: Option<Scalar>,
    pub(super) durability: Option<Scalar>,
    pub(super) strict: Option<Scalar>,
    pub(super) presence: Option<Scalar>,
    pub(super) members_max: Option<Scalar>,
    pub(super) conflate: Option<Scalar>,
    pub(super) collapse: Option<Scalar>,
    pub(super) requires_ack: Option<Scalar>,
    pub(super) cursor: Option<Scalar>,
    pub(super) receipts: Option<Scalar>,
    pub(super) history: Option<RawHistory>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawHistory {
    pub(super) size: Option<Scalar>,
    pub(super) bytes_max: Option<Scalar>,
    pub(super) ttl: Option<Scalar>,
}
