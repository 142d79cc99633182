//! The balancers of `deploy/`, run as they are: of their files only addresses are replaced.

use std::net::TcpListener;
use std::path::Path;
use std::time::Duration;

use crate::servers::{Folder, Server, free_port, until};
use crate::{paths, setup};

const START_LIMIT: Duration = Duration::from_secs(10);

/// Which balancer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `deploy/haproxy.cfg`.
    Haproxy,
    /// `deploy/nginx.conf`.
    Nginx,
}

/// Where a node listens, as `host:port`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// Where clients connect.
    pub public: String,
    /// Where its health is asked for.
    pub internal: String,
}

/// A balancer that runs on loopback.
#[derive(Debug)]
pub struct Balancer {
    pub(crate) server: Server,
    // Dropped after the server that writes into it.
    _folder: Folder,
    /// Where it listens, on 127.0.0.1.
    pub port: u16,
}

impl Kind {
    pub(crate) const ALL: [Self; 2] = [Self::Haproxy, Self::Nginx];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Haproxy => "haproxy",
            Self::Nginx => "nginx",
        }
    }

    fn file(self) -> &'static str {
        match self {
            Self::Haproxy => "haproxy.cfg",
            Self::Nginx => "nginx.conf",
        }
    }

    /// The line that says where it listens, and what of it is replaced.
    fn listen(self) -> (&'static str, &'static str) {
        match self {
            Self::Haproxy => ("bind :8080", ":8080"),
            Self::Nginx => ("listen 8080;", "8080"),
        }
    }
}

impl Balancer {
    /// Starts one before `nodes`, at `port` if that is free, else at another.
    ///
    /// # Errors
    /// It is not installed, refuses its file, or does not listen within 10 s.
    pub fn start(kind: Kind, port: u16, nodes: &[Addresses]) -> Result<Self, String> {
        Self::start_with(kind, port, nodes, |text| Ok(text.to_owned()))
    }

    /// Starts a HAProxy whose clients all come from this machine: it gives them to the nodes in turns, for by their
    /// address all would come to one.
    ///
    /// # Errors
    /// As of [`Balancer::start`].
    pub fn start_in_turns(nodes: &[Addresses]) -> Result<Self, String> {
        Self::start_with(Kind::Haproxy, 0, nodes, in_turns)
    }

    fn start_with(
        kind: Kind,
        port: u16,
        nodes: &[Addresses],
        change: impl Fn(&str) -> Result<String, String>,
    ) -> Result<Self, String> {
        let free = port != 0 && TcpListener::bind(("127.0.0.1", port)).is_ok();
        let port = if free { port } else { free_port()? };
        let source = paths::root().join("deploy").join(kind.file());
        let text = std::fs::read_to_string(&source)
            .map_err(|cause| format!("{}: {cause}", source.display()))?;
        let folder = Folder::new(kind.name())?;
        let file = folder.path().join(kind.file());
        let text = change(&render(kind, &text, &format!("127.0.0.1:{port}"), nodes)?)?;
        std::fs::write(&file, text).map_err(|cause| format!("{}: {cause}", file.display()))?;
        let (program, args) = command(kind, &file, folder.path());
        let server = Server::start(program, &args, folder.path())?;
        let mut balancer = Self { server, _folder: folder, port };
        until("the balancer listens", START_LIMIT, || match balancer.server.lives() {
            Err(ended) => Ok(Err(ended)),
            Ok(()) if TcpListener::bind(("127.0.0.1", port)).is_ok() => Err("nobody does".into()),
            Ok(()) => Ok(Ok(())),
        })??;
        Ok(balancer)
    }
}

/// HAProxy's file with its nodes taken in turns.
///
/// Errors: it does not choose them by their clients' addresses any longer.
fn in_turns(text: &str) -> Result<String, String> {
    let (by_address, in_turns) = ("balance source", "balance roundrobin");
    let count = text.matches(by_address).count();
    if count == 1 {
        Ok(text.replace(by_address, in_turns))
    } else {
        Err(format!("deploy/haproxy.cfg: wants one line `{by_address}` (has {count})"))
    }
}

fn command(kind: Kind, file: &Path, folder: &Path) -> (&'static str, Vec<String>) {
    let file = file.to_string_lossy().into_owned();
    match kind {
        Kind::Haproxy => (setup::HAPROXY, vec!["-f".to_owned(), file]),
        Kind::Nginx => {
            let prefix = format!("{}/", folder.display());
            // One process, so that killing it leaves no workers behind. Debian's nginx logs to its own folder until it
            // has read its file; `-e` spares it.
            let alone = "daemon off; master_process off;";
            let args = ["-p", &prefix, "-e", "stderr", "-c", &file, "-g", alone];
            (setup::NGINX, args.map(str::to_owned).to_vec())
        }
    }
}

/// The file with its addresses replaced: where it listens, and one `server` line for each node, made from that of
/// `node1`.
///
/// Errors: the file has no such lines any longer.
fn render(kind: Kind, text: &str, listen: &str, nodes: &[Addresses]) -> Result<String, String> {
    let (listen_line, listen_old) = kind.listen();
    let mut all = String::new();
    let (mut listens, mut models) = (0, 0);
    for line in text.lines() {
        let code = line.trim_start();
        if code == listen_line {
            listens += 1;
            all.push_str(&line.replace(listen_old, listen));
            all.push('\n');
        } else if is_server(code, 1) {
            models += 1;
            for (number, node) in (1_usize..).zip(nodes) {
                all.push_str(&server_line(line, number, node));
                all.push('\n');
            }
        } else if !(2..=9).any(|number| is_server(code, number)) {
            all.push_str(line);
            all.push('\n');
        }
    }
    if (listens, models) == (1, 1) {
        Ok(all)
    } else {
        Err(format!(
            "deploy/{}: wants one line `{listen_line}` (has {listens}) and one `server` line of node1 (has {models})",
            kind.file()
        ))
    }
}

/// Whether a line is the one of node `number`: `server node1 node1:8080 ..` or `server node1:8080 ..`.
fn is_server(code: &str, number: usize) -> bool {
    let address = format!("node{number}:8080");
    code.starts_with("server ") && code.split_whitespace().any(|word| word == address)
}

fn server_line(model: &str, number: usize, node: &Addresses) -> String {
    let port = node.internal.rsplit(':').next().unwrap_or_default();
    let line = model.replace("node1:8080", &node.public);
    line.replace("port 9090", &format!("port {port}")).replace("node1", &format!("node{number}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process;
    use std::collections::BTreeSet;

    fn nodes(count: u16) -> Vec<Addresses> {
        let address = |port| format!("127.0.0.1:{port}");
        let both = |n| Addresses { public: address(7_000 + n), internal: address(7_100 + n) };
        (1..=count).map(both).collect()
    }

    fn deployed(kind: Kind) -> String {
        std::fs::read_to_string(paths::root().join("deploy").join(kind.file())).unwrap()
    }

    #[test]
    fn only_addresses_differ_from_the_deployed_file() {
        for kind in Kind::ALL {
            let text = deployed(kind);
            let rendered = render(kind, &text, "127.0.0.1:7000", &nodes(3)).unwrap();
            assert_eq!(text.lines().count(), rendered.lines().count());
            let changed = text.lines().zip(rendered.lines()).filter(|(old, new)| old != new);
            let changed: Vec<_> = changed.map(|(_, new)| new.trim()).collect();
            let wanted: [&str; 4] = match kind {
                Kind::Haproxy => [
                    "bind 127.0.0.1:7000",
                    "server node1 127.0.0.1:7001 cookie node1 port 7101",
                    "server node2 127.0.0.1:7002 cookie node2 port 7102",
                    "server node3 127.0.0.1:7003 cookie node3 port 7103",
                ],
                Kind::Nginx => [
                    "server 127.0.0.1:7001 max_fails=1 fail_timeout=5s;",
                    "server 127.0.0.1:7002 max_fails=1 fail_timeout=5s;",
                    "server 127.0.0.1:7003 max_fails=1 fail_timeout=5s;",
                    "listen 127.0.0.1:7000;",
                ],
            };
            assert_eq!(changed, wanted);
        }
    }

    #[test]
    fn there_are_as_many_servers_as_nodes() {
        for (kind, count) in Kind::ALL.into_iter().flat_map(|kind| [1, 2, 5].map(|n| (kind, n))) {
            let rendered = render(kind, &deployed(kind), "127.0.0.1:7000", &nodes(count)).unwrap();
            let servers = rendered
                .lines()
                .map(str::trim)
                .filter(|it| it.starts_with("server 127.") || it.starts_with("server node"));
            assert_eq!(servers.collect::<BTreeSet<_>>().len(), usize::from(count), "{kind:?}");
        }
    }

    #[test]
    fn nodes_are_taken_in_turns_where_all_clients_have_one_address() {
        let changed = in_turns(&deployed(Kind::Haproxy)).unwrap();
        assert!(changed.contains("balance roundrobin") && !changed.contains("balance source"));
        assert!(in_turns("balance leastconn").unwrap_err().contains("has 0"));
    }

    #[test]
    fn a_file_without_its_lines_is_told() {
        let told = render(Kind::Nginx, "listen 80;\n", "x:1", &nodes(1)).unwrap_err();
        assert!(told.contains("deploy/nginx.conf") && told.contains("has 0"), "{told}");
    }

    #[test]
    fn haproxy_takes_the_deployed_file_though_no_node_is_known_there() {
        let file = paths::root().join("deploy/haproxy.cfg").to_string_lossy().into_owned();
        let mut check = process::command(setup::HAPROXY, &["-c", "-f", &file], Path::new("/"));
        process::output(&mut check).unwrap();
    }

    #[test]
    fn each_balancer_starts_takes_another_port_if_need_be_and_is_gone_when_dropped() {
        for kind in Kind::ALL {
            let taken = TcpListener::bind("127.0.0.1:0").unwrap();
            let port = taken.local_addr().unwrap().port();
            let balancer = Balancer::start(kind, port, &nodes(2)).unwrap();
            assert_ne!(balancer.port, port);
            let port = balancer.port;
            std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
            drop(balancer);
            // A connect could meet itself: the port is one of those that connects are made from.
            TcpListener::bind(("127.0.0.1", port)).unwrap();
        }
    }
}
