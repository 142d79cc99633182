//! Three nodes on a real Redis: one audience in every relay mode, and what clients notice of the broker's faults.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "helpers of tests fail as tests do, and their figures are small"
)]

#[path = "../common/mod.rs"]
mod common;

mod audience;
mod failover;
mod faults;
mod orders;
mod start;

use std::time::Duration;

use common::Live;
use roomcast_client::{Client, Format, Options};

/// How long one answer may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A node on the Redis at this port.
fn node(port: u16, more: &[(&str, &str)]) -> Live {
    node_with(&format!("127.0.0.1:{port}"), more)
}

/// A node on these servers.
fn node_with(servers: &str, more: &[(&str, &str)]) -> Live {
    let mut overrides = vec![
        ("broker.kind", "redis"),
        ("redis.servers", servers),
        ("limits.connections_per_ip", "5000"),
        ("limits.messages_per_minute", "1000000"),
        ("node.lanes", "2"),
    ];
    overrides.extend(more);
    Live::start(&overrides)
}

async fn connect(live: &Live, sub: &str, kind: &str, format: Format) -> Client {
    let mut options = Options::new(live.url(), live.token(sub, kind));
    options.connect_timeout = PATIENCE;
    options.request_timeout = PATIENCE;
    options.format = format;
    roomcast_client::connect(options).await.unwrap()
}

/// Waits until a node is one of the cluster: `/readyz` says so.
async fn ready(live: &Live) {
    common::until("the node is ready", PATIENCE, async || live.get("/readyz").0 == 200).await;
}
