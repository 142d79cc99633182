//! A node of our own to measure: `roomcast serve` as a child process with raised limits on free loopback ports. Ends
//! with its owner.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use roomcast_gateway::config::DEV_SECRET;
use rustix::process::{Pid, Signal, kill_process};
use serde::Deserialize;
use uuid::Uuid;

use super::plan::{Pace, Plan};
use super::run::Server;
use crate::failure::Failure;

/// Longest wait for a node to be ready.
const START_LIMIT: Duration = Duration::from_secs(20);

/// Longest wait for a node to end by itself.
const STOP_LIMIT: Duration = Duration::from_secs(8);

/// What thousands of connections from one address need, and publishers without pause.
const SETTINGS: [&str; 5] = [
    "limits.connections_per_ip=100000",
    "limits.connections_per_user=1000",
    "limits.connections_max=100000",
    "limits.messages_per_minute=100000000",
    "limits.controls_per_minute=100000000",
];

/// Soon enough that every connection of a job that only waits has answered a ping.
const PING: &str = "limits.ping=3s";

/// What `serve --ready-file` writes.
#[derive(Debug, Deserialize)]
struct Ready {
    public: String,
    internal: SocketAddr,
}

/// A running node.
#[derive(Debug)]
pub(crate) struct Node {
    child: Child,
    ready_file: PathBuf,
    ready: Option<Ready>,
}

impl Node {
    /// Starts one for a job, with these arguments besides, and waits until it is ready.
    pub(crate) fn start(plan: &Plan, arguments: &[String]) -> Result<Self, Failure> {
        let ping = ["--set", PING].map(str::to_owned);
        let silent = if plan.pace == Pace::Silent { &ping[..] } else { &[] };
        Self::serve(&[arguments, silent].concat())
    }

    /// Starts one with these arguments, and waits until it is ready.
    pub(crate) fn serve(arguments: &[String]) -> Result<Self, Failure> {
        let ready_file =
            std::env::temp_dir().join(format!("roomcast-bench-{}.json", Uuid::new_v4().simple()));
        let mut command = Command::new(std::env::current_exe()?);
        command
            .args(["serve", "--dev", "--log", "error"])
            .args(["--public", "127.0.0.1:0", "--internal", "127.0.0.1:0", "--ready-file"])
            .arg(&ready_file)
            .args(arguments);
        for setting in SETTINGS {
            command.args(["--set", setting]);
        }
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .map_err(|cause| Failure::failed("the node cannot start", &cause))?;
        let mut node = Self { child, ready_file, ready: None };
        node.wait_until_ready()?;
        Ok(node)
    }

    fn wait_until_ready(&mut self) -> Result<(), Failure> {
        let deadline = Instant::now() + START_LIMIT;
        loop {
            let text = std::fs::read_to_string(&self.ready_file).unwrap_or_default();
            // A file that is not whole yet is read again.
            if let Ok(ready) = serde_json::from_str::<Ready>(&text) {
                self.ready = Some(ready);
                return Ok(());
            }
            if let Some(status) = self.child.try_wait()? {
                return Err(Failure::Failed(format!("the node ended with {status}")));
            }
            if Instant::now() > deadline {
                return Err(Failure::Timeout(format!(
                    "the node is not ready after {} s",
                    START_LIMIT.as_secs()
                )));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// As a target of runs.
    pub(crate) fn server(&self) -> Result<Server, Failure> {
        let url = format!("ws://{}/ws", self.ready()?.public);
        Server::parse(&url, Some(self.child.id()), DEV_SECRET, super::ROOM_PREFIX)
    }

    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Where its internal port is.
    pub(crate) fn internal(&self) -> Result<SocketAddr, Failure> {
        Ok(self.ready()?.internal)
    }

    /// A counter of its metrics that has no labels; `None`: there is none of that name.
    pub(crate) fn metric(&self, name: &str) -> Result<Option<u64>, Failure> {
        Ok(counter(&self.metrics()?, name))
    }

    /// All its metrics, as text.
    pub(crate) fn metrics(&self) -> Result<String, Failure> {
        let mut socket = TcpStream::connect(self.ready()?.internal)?;
        socket.set_read_timeout(Some(START_LIMIT))?;
        socket.write_all(b"GET /metrics HTTP/1.1\r\nHost: node\r\nConnection: close\r\n\r\n")?;
        let mut text = String::new();
        socket.read_to_string(&mut text)?;
        Ok(text)
    }

    fn ready(&self) -> Result<&Ready, Failure> {
        self.ready.as_ref().ok_or_else(|| Failure::Failed("the node is not ready".into()))
    }
}

/// The value in a line of the text format.
fn counter(text: &str, name: &str) -> Option<u64> {
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
    value.trim().parse().ok()
}

impl Drop for Node {
    fn drop(&mut self) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        // It fails only where the node has ended already.
        let asked = pid.is_some_and(|pid| kill_process(pid, Signal::TERM).is_ok());
        let deadline = Instant::now() + STOP_LIMIT;
        while asked && Instant::now() < deadline && matches!(self.child.try_wait(), Ok(None)) {
            std::thread::sleep(Duration::from_millis(10));
        }
        drop(self.child.kill());
        drop(self.child.wait());
        drop(std::fs::remove_file(&self.ready_file));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_is_read_from_its_own_line() {
        let text = "# TYPE a_total counter\na_total_b 1\na_total{x=\"y\"} 2\na_total 34\n";
        assert_eq!(counter(text, "a_total"), Some(34));
        assert_eq!(counter(text, "a"), None);
    }
}
