//! `make cluster N=3`: nodes, Redis and a balancer on loopback until Ctrl-C, and a list of what to try with them. The
//! end-to-end scripts start the same by its ready file. It goes on without what somebody kills, as long as a node lives.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::balancer::{Addresses, Balancer, Kind};
use crate::process::say;
use crate::servers::{Folder, Redis, Server, until};
use crate::{interrupt, paths, setup};

const NODES_MAX: usize = 9;
const READY_LIMIT: Duration = Duration::from_secs(30);
const STOP_LIMIT: Duration = Duration::from_secs(10);

/// The balancer's port if nobody says another.
const PORT: u16 = 8_080;

const USAGE: &str = "usage: make cluster [N=3] [ARGS='[--balancer haproxy|nginx] [--port 8080] [--ready-file PATH] [-- OPTIONS OF \
                     roomcast serve]']";

/// What the command line asks for.
#[derive(Debug, PartialEq, Eq)]
struct Options {
    nodes: usize,
    balancer: Kind,
    /// Where the balancer listens unless that is taken; 0 for any free port.
    port: u16,
    /// Where to write, as JSON, what listens where; for scripts.
    ready_file: Option<PathBuf>,
    /// Given to every node.
    serve: Vec<String>,
}

struct Node {
    name: String,
    server: Server,
    addresses: Addresses,
    // Dropped after the server that writes into it.
    folder: Folder,
}

/// Nodes, Redis and a balancer; gone when dropped, and when this process ends.
pub(crate) struct Cluster {
    redis: Redis,
    nodes: Vec<Node>,
    balancer: Balancer,
}

/// Runs until Ctrl-C, or until no node lives.
///
/// Errors: a wrong argument, something is not installed, does not build or does not start; something ended by itself
/// in the meantime (what somebody killed by SIGKILL counts as meant), or did not stop cleanly.
pub(crate) fn run(args: &[String]) -> Result<(), String> {
    let options = options(args)?;
    let asked = interrupt::watch()?;
    say("cluster: building roomcast (a few minutes the first time)");
    let binary = paths::roomcast()?;
    let mut cluster = start(&options, &binary)?;
    for line in to_try(&cluster, &options, &binary) {
        say(&line);
    }
    if let Some(path) = &options.ready_file {
        write_whole(path, &ready(&cluster, &options).to_string())?;
    }
    let faults = watch(&mut cluster, &asked);
    stop(cluster, faults)
}

/// Three nodes behind HAProxy; `serve` goes to each.
///
/// Errors: something is not installed, does not build or does not start.
pub(crate) fn for_load(serve: &[&str]) -> Result<Cluster, String> {
    setup::packages()?;
    let serve = serve.iter().map(|arg| (*arg).to_owned()).collect();
    let options = Options { nodes: 3, balancer: Kind::Haproxy, port: 0, ready_file: None, serve };
    start(&options, &paths::roomcast()?)
}

impl Cluster {
    /// Where clients connect, as `host:port`.
    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.balancer.port)
    }

    /// The nodes' internal ports, as `host:port`.
    pub(crate) fn internals(&self) -> Vec<String> {
        self.nodes.iter().map(|node| node.addresses.internal.clone()).collect()
    }

    /// Stops everything in order.
    ///
    /// Errors: something ended by itself before, or did not stop cleanly.
    pub(crate) fn stop(mut self) -> Result<(), String> {
        let ended = self.nodes.iter_mut().filter_map(|node| end_of(&node.name, &mut node.server));
        let faults = ended.map(|told| told.text).collect();
        stop(self, faults)
    }
}

fn options(args: &[String]) -> Result<Options, String> {
    let mut options = Options {
        nodes: 3,
        balancer: Kind::Haproxy,
        port: PORT,
        ready_file: None,
        serve: Vec::new(),
    };
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--" => options.serve = args.by_ref().cloned().collect(),
            "--balancer" => {
                let name = args.next().ok_or(USAGE)?;
                let kind = Kind::ALL.into_iter().find(|kind| kind.name() == name);
                options.balancer = kind.ok_or_else(|| format!("no balancer {name:?}; {USAGE}"))?;
            }
            "--port" => {
                let port = args.next().and_then(|port| port.parse().ok());
                options.port = port.ok_or(USAGE)?;
            }
            "--ready-file" => options.ready_file = Some(args.next().ok_or(USAGE)?.into()),
            number => {
                let nodes =
                    number.parse().map_err(|_| format!("not known: {number:?}; {USAGE}"))?;
                if !(1..=NODES_MAX).contains(&nodes) {
                    return Err(format!("{nodes} nodes: from 1 to {NODES_MAX}"));
                }
                options.nodes = nodes;
            }
        }
    }
    Ok(options)
}

fn start(options: &Options, binary: &Path) -> Result<Cluster, String> {
    let redis = Redis::start(&[])?;
    let nodes =
        (1..=options.nodes).map(|number| Node::start(number, binary, &redis, &options.serve));
    let mut nodes: Vec<Node> = nodes.collect::<Result<_, _>>()?;
    for node in &mut nodes {
        node.wait()?;
    }
    let addresses: Vec<_> = nodes.iter().map(|node| node.addresses.clone()).collect();
    let balancer = Balancer::start(options.balancer, options.port, &addresses)?;
    Ok(Cluster { redis, nodes, balancer })
}

impl Node {
    fn start(number: usize, binary: &Path, redis: &Redis, more: &[String]) -> Result<Self, String> {
        let name = format!("node{number}");
        let folder = Folder::new(&name)?;
        let ready = folder.path().join("ready.json").to_string_lossy().into_owned();
        let redis = redis.url();
        let own = ["serve", "--dev", "--public", "127.0.0.1:0", "--internal", "127.0.0.1:0"];
        let own = own.into_iter().chain(["--ready-file", &ready, "--redis", &redis]);
        let own = own.chain(["--set", "listen.trusted_proxies=127.0.0.1/32"]);
        let args: Vec<String> = own.map(str::to_owned).chain(more.iter().cloned()).collect();
        let server = Server::start(&binary.to_string_lossy(), &args, folder.path())?;
        let addresses = Addresses { public: String::new(), internal: String::new() };
        Ok(Self { name, server, addresses, folder })
    }

    /// Until it says that it is ready, and where it listens.
    fn wait(&mut self) -> Result<(), String> {
        let ready = self.folder.path().join("ready.json");
        self.addresses = until(&format!("{} is ready", self.name), READY_LIMIT, || {
            if let Err(ended) = self.server.lives() {
                return Ok(Err(ended));
            }
            let text = std::fs::read_to_string(&ready).map_err(|cause| cause.to_string())?;
            let found = addresses(&text).ok_or("its ready file is not whole")?;
            // As the balancer asks: else its first look might find the node away.
            is_ready(&found.internal).map(|()| Ok(found))
        })??;
        Ok(())
    }
}

/// Errors: `/readyz` answers nothing, or something else than 200.
fn is_ready(internal: &str) -> Result<(), String> {
    let ask = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect(internal)?;
        stream.set_read_timeout(Some(Duration::from_secs(2)))?;
        write!(stream, "GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
        let mut status = String::new();
        BufReader::new(stream).read_line(&mut status)?;
        Ok(status)
    };
    match ask().map_err(|cause| format!("/readyz: {cause}"))? {
        status if status.starts_with("HTTP/1.1 200 ") => Ok(()),
        status => Err(format!("/readyz: {}", status.trim())),
    }
}

fn addresses(text: &str) -> Option<Addresses> {
    let ready: Value = serde_json::from_str(text).ok()?;
    let text = |key| Some(ready.get(key)?.as_str()?.to_owned());
    Some(Addresses { public: text("public")?, internal: text("internal")? })
}

fn ready(cluster: &Cluster, options: &Options) -> Value {
    let node = |node: &Node| {
        let Addresses { public, internal } = &node.addresses;
        json!({"name": node.name, "public": public, "internal": internal, "pid": node.server.pid()})
    };
    let Balancer { port, server, .. } = &cluster.balancer;
    json!({
        "balancer": {
            "kind": options.balancer.name(),
            "address": format!("127.0.0.1:{port}"),
            "pid": server.pid(),
        },
        "redis": {"port": cluster.redis.port(), "pid": cluster.redis.pid()},
        "nodes": cluster.nodes.iter().map(node).collect::<Vec<_>>(),
    })
}

/// Written beside and renamed, so that nobody reads half of it.
fn write_whole(path: &Path, text: &str) -> Result<(), String> {
    let told = |cause: std::io::Error| format!("{}: {cause}", path.display());
    let part = path.with_extension("part");
    std::fs::write(&part, text).map_err(told)?;
    std::fs::rename(&part, path).map_err(told)
}

fn to_try(cluster: &Cluster, options: &Options, binary: &Path) -> Vec<String> {
    let (port, redis) = (cluster.balancer.port, cluster.redis.port());
    let program = binary.strip_prefix(paths::root()).unwrap_or(binary).display().to_string();
    let mut lines = vec![String::new()];
    let kind = options.balancer.name();
    let balancer = cluster.balancer.server.pid();
    lines.push(format!("{kind:<9}http://127.0.0.1:{port}/   pid {balancer}"));
    for node in &cluster.nodes {
        let Addresses { public, internal } = &node.addresses;
        let (name, pid) = (&node.name, node.server.pid());
        lines.push(format!("{name:<9}http://{public}/  internal http://{internal}/  pid {pid}"));
    }
    lines.push(format!("{:<9}127.0.0.1:{redis}   pid {}", "redis", cluster.redis.pid()));
    let mut section = |title: &str, commands: &[String]| {
        lines.extend([String::new(), format!("# {title}")]);
        lines.extend_from_slice(commands);
    };
    let url = format!("--url ws://127.0.0.1:{port}/ws");
    section(
        "Hear a room through the balancer, and once more when the node is gone:",
        &[format!("while ! {program} sub --dev {url} demo; do sleep 1; done")],
    );
    let publish = "--type chat_line '{\"text\":\"hi\"}'";
    section(
        "Publish through the balancer, at each node, and as a back-end:",
        &[format!("{program} pub --dev {url} demo {publish}")],
    );
    for node in &cluster.nodes {
        let Addresses { public, internal } = &node.addresses;
        let name = &node.name;
        section(
            &format!("at {name}"),
            &[
                format!("{program} pub --dev --url ws://{public}/ws demo {publish}"),
                format!(
                    "curl http://{internal}/api/v1/publish -H 'content-type: application/json' -d \
                 '{{\"room\":\"demo\",\"type\":\"chat_line\",\"data\":{{\"text\":\"by {name}\"}}}}'"
                ),
            ],
        );
    }
    section(
        "Publish as any program with Redis does:",
        &[format!(
            "redis-cli -p {redis} PUBLISH room:demo '{{\"type\":\"chat_line\",\"data\":{{\"text\":\"hi\"}}}}'"
        )],
    );
    let victim = cluster.nodes.get(1).or_else(|| cluster.nodes.first());
    let kill = victim.map(|node| format!("kill -9 {}   # {}", node.server.pid(), node.name));
    section("Take a node away; its clients go on at another:", &Vec::from_iter(kill));
    lines.extend([String::new(), "cluster: ready; Ctrl-C stops it".to_owned()]);
    lines
}

/// Waits for the end and says what ended before; gives what ended by itself.
fn watch(cluster: &mut Cluster, asked: &AtomicBool) -> Vec<String> {
    let mut faults = Vec::new();
    let mut gone = vec![false; cluster.nodes.len() + 2];
    while !asked.load(Ordering::SeqCst) {
        let nodes = cluster.nodes.iter_mut().map(|node| (node.name.as_str(), &mut node.server));
        let others = [("the balancer", &mut cluster.balancer.server)];
        let redis = [("redis-server", cluster.redis.server())];
        for ((name, server), gone) in nodes.chain(others).chain(redis).zip(&mut gone) {
            if !*gone && let Some(told) = end_of(name, server) {
                *gone = true;
                say(&format!("cluster: {}", told.text));
                if !told.meant {
                    faults.extend(told.text.lines().next().map(str::to_owned));
                }
            }
        }
        if gone.iter().take(cluster.nodes.len()).all(|gone| *gone) {
            faults.push("no node lives any longer".to_owned());
            return faults;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    faults
}

struct Told {
    text: String,
    /// Somebody killed it.
    meant: bool,
}

fn end_of(name: &str, server: &mut Server) -> Option<Told> {
    let pid = server.pid();
    match server.ended() {
        Ok(None) => None,
        Ok(Some(status)) if is_killed(status) => {
            Some(Told { text: format!("{name} (pid {pid}) was killed"), meant: true })
        }
        Ok(Some(status)) => {
            let last = server.last_lines().join("\n    ");
            let text = format!("{name} (pid {pid}) ended with {status}\n    {last}");
            Some(Told { text, meant: false })
        }
        Err(cause) => Some(Told { text: cause, meant: false }),
    }
}

fn is_killed(status: ExitStatus) -> bool {
    /// SIGKILL, by which nothing ends itself.
    const KILL: i32 = 9;
    status.signal() == Some(KILL)
}

/// Stops the nodes together, then the balancer and Redis.
fn stop(mut cluster: Cluster, mut faults: Vec<String>) -> Result<(), String> {
    say("cluster: stopping");
    let deadline = Instant::now() + STOP_LIMIT;
    let mut stopping = Vec::new();
    for node in &mut cluster.nodes {
        if matches!(node.server.ended(), Ok(None)) {
            node.server.signal("TERM").unwrap_or_else(|cause| faults.push(cause));
            stopping.push(node);
        }
    }
    for node in stopping {
        match node.server.end_by(deadline) {
            Ok(status) if status.success() => {}
            Ok(status) => faults.push(format!("{} ended with {status}", node.name)),
            Err(cause) => faults.push(cause),
        }
    }
    drop(cluster);
    if faults.is_empty() { Ok(()) } else { Err(faults.join("; ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(args: &[&str]) -> Result<Options, String> {
        options(&args.iter().map(|arg| (*arg).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn arguments_are_read_and_wrong_ones_told() {
        let three = read(&[]).unwrap();
        assert_eq!((three.nodes, three.balancer), (3, Kind::Haproxy));
        let all = "2 --balancer nginx --port 0 --ready-file /x -- --set a=1";
        let all: Vec<&str> = all.split(' ').collect();
        let wanted = Options {
            nodes: 2,
            balancer: Kind::Nginx,
            port: 0,
            ready_file: Some("/x".into()),
            serve: vec!["--set".to_owned(), "a=1".to_owned()],
        };
        assert_eq!(read(&all), Ok(wanted));
        for wrong in [
            &["0"][..],
            &["10"],
            &["three"],
            &["--balancer", "x"],
            &["--port", "x"],
            &["--ready-file"],
        ] {
            assert!(read(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn only_what_was_killed_ended_as_meant() {
        assert!(is_killed(ExitStatus::from_raw(9)));
        assert!(!is_killed(ExitStatus::from_raw(15)));
        assert!(!is_killed(ExitStatus::from_raw(9 << 8)));
        assert!(!is_killed(ExitStatus::from_raw(0)));
    }

    #[test]
    fn addresses_are_read_from_a_whole_ready_file_only() {
        let text = r#"{"public":"127.0.0.1:4000","internal":"127.0.0.1:4001","pid":1}"#;
        assert_eq!(addresses(text).unwrap().internal, "127.0.0.1:4001");
        assert_eq!(addresses(&text[..20]), None);
    }
}
