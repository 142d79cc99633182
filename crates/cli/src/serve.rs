//! `roomcast serve`: runs a node until it is told to stop.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process;

use clap::Args;
use roomcast_gateway::Node;
use roomcast_gateway::config::{Config, DEV_SECRET, LogFormat};
use roomcast_gateway::system;
use serde::Serialize;
use tokio::signal::unix::{SignalKind, signal};

use crate::failure::Failure;
use crate::logs::{self, Form};
use crate::output;
use crate::redis_url::RedisUrl;
use crate::settings::ConfigArgs;
use crate::target::{self, DEV_TOKEN_TTL};
use crate::token::Identity;

/// Fewer open files than this are worth a warning: each connection is one.
const OPEN_FILES_LOW: u64 = 4_096;

/// `roomcast serve`.
#[derive(Args, Debug)]
pub(crate) struct Serve {
    #[command(flatten)]
    config: ConfigArgs,
    /// Where clients connect, such as 0.0.0.0:8080; port 0 takes a free one
    #[arg(long, value_name = "ADDR")]
    public: Option<SocketAddr>,
    /// Where metrics, health and the server API are, such as 127.0.0.1:9090
    #[arg(long, value_name = "ADDR")]
    internal: Option<SocketAddr>,
    /// The Redis that the nodes of a cluster share: redis://[user:password@]host:port, rediss:// for TLS,
    /// redis-sentinel://host:port,host:port/service or redis-cluster://host:port,host:port. Others on this machine see
    /// a password given here; better is the variable, or the key redis.password_file
    #[arg(long, env = "ROOMCAST_REDIS_URL", hide_env_values = true, value_name = "URL")]
    redis: Option<RedisUrl>,
    /// Write addresses, process id and development token as JSON here once the node is ready
    #[arg(long, value_name = "PATH")]
    ready_file: Option<PathBuf>,
}

/// What a ready node says, on stdout and in the ready file.
#[derive(Debug, Serialize)]
struct Ready {
    public: SocketAddr,
    internal: SocketAddr,
    pid: u32,
    open_files: u64,
    broker: String,
    /// Where clients of chat connect, if they are served.
    #[serde(skip_serializing_if = "Option::is_none")]
    chat: Option<Box<str>>,
    /// Where RoadRunner's clients connect, if they are served.
    #[serde(skip_serializing_if = "Option::is_none")]
    roadrunner: Option<Box<str>>,
    /// Where back-ends call by RPC.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    rpc: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<String>,
}

/// Runs it; `log` is what the command line says of logs.
pub(crate) fn run(args: &Serve, log: Option<&str>, json: bool) -> Result<(), Failure> {
    let mut overrides = Vec::new();
    for (key, address) in [("listen.public", args.public), ("listen.internal", args.internal)] {
        overrides.extend(address.map(|address| (key.to_owned(), address.to_string())));
    }
    if let Some(url) = &args.redis {
        overrides.extend(url.overrides()?);
    }
    let config = args.config.load(overrides)?;
    let form = match config.log.format {
        LogFormat::Auto => Form::Auto,
        LogFormat::Text => Form::Pretty,
        LogFormat::Json => Form::Json,
    };
    logs::start(log.unwrap_or(&config.log.level), form)?;
    let open_files = system::raise_open_files();
    if open_files < OPEN_FILES_LOW {
        tracing::warn!(
            open_files,
            "few open files are allowed, so few clients; raise it with `ulimit -n` or LimitNOFILE="
        );
    }
    for warning in config.warnings() {
        tracing::warn!("{warning}");
    }
    target::runtime()?.block_on(serve(args, &config, open_files, json))
}

async fn serve(args: &Serve, config: &Config, open_files: u64, json: bool) -> Result<(), Failure> {
    // Before the node starts, so that a signal meanwhile is not lost.
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let node =
        Node::start(config).map_err(|cause| Failure::failed("the node cannot start", &cause))?;
    let ready = Ready {
        public: node.public_addr(),
        internal: node.internal_addr(),
        pid: process::id(),
        open_files,
        broker: config.broker_line(),
        chat: config.dialects.chat.as_ref().map(|it| it.path.clone()),
        roadrunner: config.dialects.roadrunner.as_ref().map(|it| it.path.clone()),
        rpc: node.rpc_places().iter().map(ToString::to_string).collect(),
        token: if args.config.dev {
            Some(Identity::backend("dev").token(DEV_SECRET, DEV_TOKEN_TTL)?)
        } else {
            None
        },
    };
    announce(&ready, json)?;
    if let Some(path) = &args.ready_file {
        write_ready(path, &ready)?;
    }
    let drains = tokio::select! {
        _ = terminate.recv() => true,
        _ = interrupt.recv() => false,
    };
    tracing::info!("stopping; a second signal quits at once");
    let stopped = tokio::task::spawn_blocking(move || if drains { end(node) } else { node.stop() });
    tokio::select! {
        stopped = stopped => {
            stopped.map_err(|cause| Failure::failed("the node did not stop cleanly", &cause))?;
            tracing::info!("stopped");
            Ok(())
        }
        _ = terminate.recv() => quit(),
        _ = interrupt.recv() => quit(),
    }
}

/// Clients are let go one after the other.
fn end(node: Node) {
    let drained = node.drain();
    if drained.cut > 0 {
        tracing::warn!(
            cut = drained.cut,
            "clients were closed at once; a longer drain.deadline, or a higher drain.rate, would give all their turn"
        );
    }
}

/// At once, whatever is under way: the stopping thread would hold up a return.
fn quit() -> ! {
    tracing::warn!("quitting at once");
    process::exit(1)
}

fn announce(ready: &Ready, json: bool) -> Result<(), Failure> {
    if json {
        output::json_line(ready)?;
        return Ok(());
    }
    for line in banner(ready) {
        output::line(&line)?;
    }
    Ok(())
}

/// What people are told.
fn banner(ready: &Ready) -> Vec<String> {
    let Ready { public, internal, open_files, broker, chat, roadrunner, rpc, token, .. } = ready;
    let mut lines = vec![format!("clients      ws://{public}/ws")];
    lines.extend(chat.iter().map(|path| format!("chat         ws://{public}{path}")));
    lines.extend(roadrunner.iter().map(|path| format!("roadrunner   ws://{public}{path}")));
    lines.extend(rpc.iter().map(|place| format!("RPC          {place}")));
    lines.extend([
        format!("metrics      http://{internal}/metrics"),
        format!("server API   http://{internal}/api/v1/"),
        format!("broker       {broker}"),
        format!("open files   {open_files}"),
    ]);
    if let Some(token) = token {
        lines.push(format!("demo page    http://{public}/"));
        lines.push(format!("token        {token}"));
        lines.push(
            "OPEN: with --dev everybody who knows Roomcast can get in; never in production".into(),
        );
    }
    lines
}

/// Whole or not at all: whoever waits for the file never reads half of it.
fn write_ready(path: &Path, ready: &Ready) -> Result<(), Failure> {
    let failed = |cause: std::io::Error| {
        Failure::failed(&format!("the ready file {} cannot be written", path.display()), &cause)
    };
    let text =
        serde_json::to_string(ready).map_err(|cause| Failure::failed("the ready file", &cause))?;
    let mut partial = path.as_os_str().to_owned();
    partial.push(".partial");
    fs::write(&partial, text).map_err(failed)?;
    fs::rename(&partial, path).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ready() -> Ready {
        Ready {
            public: ([127, 0, 0, 1], 1).into(),
            internal: ([127, 0, 0, 1], 2).into(),
            pid: 3,
            open_files: 4,
            broker: "memory".into(),
            chat: None,
            roadrunner: None,
            rpc: Vec::new(),
            token: None,
        }
    }

    #[test]
    fn the_banner_names_the_places_that_are_served_and_no_others() {
        let rpc = ["tcp://127.0.0.1:6001", "unix:///run/rpc.sock"].map(Into::into).into();
        let (chat, roadrunner) = (Some("/chat".into()), Some("/roadrunner".into()));
        let served = Ready { chat, roadrunner, rpc, ..ready() };
        let expected = [
            "clients      ws://127.0.0.1:1/ws",
            "chat         ws://127.0.0.1:1/chat",
            "roadrunner   ws://127.0.0.1:1/roadrunner",
            "RPC          tcp://127.0.0.1:6001",
            "RPC          unix:///run/rpc.sock",
            "metrics      http://127.0.0.1:2/metrics",
        ];
        assert_eq!(banner(&served)[..6], expected);
        let lines = banner(&ready());
        let foreign =
            |line: &&String| ["chat", "roadrunner", "RPC"].iter().any(|it| line.starts_with(it));
        assert_eq!(lines.iter().find(foreign), None);
        let json = serde_json::to_string(&served).unwrap();
        let named = r#","chat":"/chat","roadrunner":"/roadrunner","rpc":["tcp://127.0.0.1:6001","unix:///run/rpc.sock"]}"#;
        assert!(json.ends_with(named), "{json}");
    }

    #[test]
    fn the_ready_file_is_written_whole() {
        let path = std::env::temp_dir().join(format!("roomcast-ready-{}", process::id()));
        let ready = ready();
        write_ready(&path, &ready).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        fs::remove_file(&path).unwrap();
        assert_eq!(
            text,
            r#"{"public":"127.0.0.1:1","internal":"127.0.0.1:2","pid":3,"open_files":4,"broker":"memory"}"#
        );
        let nowhere = path.join("below");
        assert!(write_ready(&nowhere, &ready).unwrap_err().to_string().contains("below"));
    }
}
