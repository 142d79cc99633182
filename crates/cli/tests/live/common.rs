//! What the live tests share: a node as a real process on free ports, and commands with a deadline.

use std::io::{Read as _, Write as _};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

/// Longest wait for anything.
pub(crate) const LIMIT: Duration = Duration::from_secs(20);

/// The binary under test.
pub(crate) fn roomcast() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_roomcast"));
    for name in ["ROOMCAST_URL", "ROOMCAST_TOKEN", "ROOMCAST_TOKEN_SECRET", "ROOMCAST_LOG"] {
        command.env_remove(name);
    }
    command
}

/// A path that no other test uses.
pub(crate) fn fresh_path(name: &str) -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    std::env::temp_dir().join(format!("roomcast-test-{}-{number}-{name}", std::process::id()))
}

/// A process that ends with the test.
pub(crate) struct Running(pub(crate) Child);

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// Waits until a process ends.
#[track_caller]
pub(crate) fn ended(child: &mut Child) -> std::process::ExitStatus {
    let deadline = Instant::now() + LIMIT;
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        assert!(Instant::now() < deadline, "the process did not end within {LIMIT:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Runs a command to its end, with a deadline.
#[track_caller]
pub(crate) fn output(command: &mut Command) -> Output {
    with_input(command, "")
}

/// Runs a command to its end with this on its stdin.
#[track_caller]
pub(crate) fn with_input(command: &mut Command, input: &str) -> Output {
    let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = Running(child.spawn().unwrap());
    child.0.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let (mut stdout, mut stderr) = (child.0.stdout.take().unwrap(), child.0.stderr.take().unwrap());
    let out = std::thread::spawn(move || {
        let mut bytes = Vec::new();
        stdout.read_to_end(&mut bytes).map(|_| bytes)
    });
    let err = std::thread::spawn(move || {
        let mut bytes = Vec::new();
        stderr.read_to_end(&mut bytes).map(|_| bytes)
    });
    let status = ended(&mut child.0);
    let (stdout, stderr) = (out.join().unwrap().unwrap(), err.join().unwrap().unwrap());
    Output { status, stdout, stderr }
}

/// Lines of JSON.
#[track_caller]
pub(crate) fn json_lines(bytes: &[u8]) -> Vec<Value> {
    let text = std::str::from_utf8(bytes).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// A node in development mode.
pub(crate) struct Node {
    process: Running,
    /// What it wrote into its ready file.
    pub(crate) ready: Value,
}

impl Node {
    /// Starts one and waits until it is ready.
    #[track_caller]
    pub(crate) fn start(more: &[&str]) -> Self {
        Self::start_at("127.0.0.1:0", more)
    }

    /// Starts one at this address.
    #[track_caller]
    pub(crate) fn start_at(public: &str, more: &[&str]) -> Self {
        let ready_file = fresh_path("ready.json");
        let mut command = roomcast();
        command
            .args(["serve", "--dev", "--log", "error"])
            .args(["--public", public, "--internal", "127.0.0.1:0", "--ready-file"])
            .arg(&ready_file)
            .args(more);
        let child = command.stdin(Stdio::null()).stdout(Stdio::null());
        let mut process = Running(child.spawn().unwrap());
        let deadline = Instant::now() + LIMIT;
        let ready = loop {
            let text = std::fs::read_to_string(&ready_file).unwrap_or_default();
            if let Ok(ready) = serde_json::from_str(&text) {
                break ready;
            }
            assert!(process.0.try_wait().unwrap().is_none(), "the node ended");
            assert!(Instant::now() < deadline, "the node is not ready within {LIMIT:?}");
            std::thread::sleep(Duration::from_millis(10));
        };
        std::fs::remove_file(&ready_file).unwrap();
        Self { process, ready }
    }

    /// Where clients connect.
    pub(crate) fn url(&self) -> String {
        format!("ws://{}/ws", self.ready["public"].as_str().unwrap())
    }

    /// The sum of a figure over its labels.
    #[track_caller]
    pub(crate) fn figure(&self, name: &str) -> f64 {
        let address = self.ready["internal"].as_str().unwrap();
        let mut stream = std::net::TcpStream::connect(address).unwrap();
        let request = "GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        stream.write_all(request.as_bytes()).unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        let is_it =
            |line: &&str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with([' ', '{']));
        let values = text.lines().filter(is_it).map(|line| {
            line.rsplit(' ').next().and_then(|value| value.parse::<f64>().ok()).unwrap()
        });
        values.sum()
    }

    /// Its process.
    pub(crate) fn pid(&self) -> String {
        self.process.0.id().to_string()
    }

    /// A command that talks to this node with a development token.
    pub(crate) fn command(&self, name: &str) -> Command {
        let mut command = roomcast();
        command.args([name, "--dev", "--url", &self.url()]);
        command
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        let pid = i32::try_from(self.process.0.id()).unwrap();
        let pid = rustix::process::Pid::from_raw(pid).unwrap();
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// Waits until it ends.
    #[track_caller]
    pub(crate) fn ended(&mut self) -> std::process::ExitStatus {
        ended(&mut self.process.0)
    }
}
