//! One node as a real process of the binary `roomcast`: started, killed, stopped in place, asked for its figures.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// How long a node may take to be ready, and to end.
const READY_LIMIT: Duration = Duration::from_secs(40);
const END_LIMIT: Duration = Duration::from_secs(15);

/// Lines of its log that are shown when it fails.
const LINES_SHOWN: usize = 12;

/// A node.
#[derive(Debug)]
pub(crate) struct Node {
    name: String,
    folder: PathBuf,
    binary: PathBuf,
    args: Vec<String>,
    child: Child,
    starts: u32,
    /// Where clients connect, as `host:port`; another one after each start.
    pub(crate) public: String,
    /// Where its figures are, and back-ends publish, as `host:port`.
    pub(crate) internal: String,
}

impl Node {
    /// Starts one; [`Node::wait`] waits until it is ready.
    ///
    /// # Errors
    /// The binary cannot be run, or the folder not be written.
    pub(crate) fn start(
        number: usize,
        binary: &Path,
        folder: &Path,
        more: &[String],
    ) -> Result<Self, String> {
        Self::start_at(number, (0, 0), binary, folder, more)
    }

    /// Starts so many, numbered from 1, and waits until all are ready.
    ///
    /// # Errors
    /// As of [`Node::start`] and [`Node::wait`].
    pub(crate) fn start_all(
        count: usize,
        binary: &Path,
        folder: &Path,
        more: &[String],
    ) -> Result<Vec<Self>, String> {
        let started = (1..=count).map(|number| Self::start(number, binary, folder, more));
        let mut nodes = started.collect::<Result<Vec<_>, _>>()?;
        nodes.iter_mut().try_for_each(Self::wait)?;
        Ok(nodes)
    }

    /// Starts one that is at these ports, the public and the internal one, after each start.
    ///
    /// # Errors
    /// As of [`Node::start`].
    pub(crate) fn start_at(
        number: usize,
        (public, internal): (u16, u16),
        binary: &Path,
        folder: &Path,
        more: &[String],
    ) -> Result<Self, String> {
        let name = format!("node{number}");
        let folder = folder.join(&name);
        std::fs::create_dir(&folder).map_err(|cause| format!("{}: {cause}", folder.display()))?;
        let public = format!("127.0.0.1:{public}");
        let internal = format!("127.0.0.1:{internal}");
        let own = ["serve", "--dev", "--public", &public, "--internal", &internal];
        let args = own.map(str::to_owned).into_iter().chain(more.iter().cloned()).collect();
        let child = spawn(binary, &args, &folder, 0)?;
        let (public, internal) = (String::new(), String::new());
        let binary = binary.to_owned();
        Ok(Self { name, folder, binary, args, child, starts: 0, public, internal })
    }

    /// Waits until it is ready.
    ///
    /// # Errors
    /// It ended, or was not ready in time.
    pub(crate) fn wait(&mut self) -> Result<(), String> {
        let deadline = Instant::now() + READY_LIMIT;
        let file = self.folder.join(format!("ready-{}.json", self.starts));
        while Instant::now() < deadline {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(format!("{} ended with {status}:\n{}", self.name, self.last_lines()));
            }
            let text = std::fs::read_to_string(&file).unwrap_or_default();
            if let Ok(ready) = serde_json::from_str::<Value>(&text) {
                let address = |key| ready.get(key).and_then(Value::as_str).map(str::to_owned);
                self.public = address("public").unwrap_or_default();
                self.internal = address("internal").unwrap_or_default();
                if self.get("/readyz").is_ok_and(|answer| answer.contains(" 200 ")) {
                    return Ok(());
                }
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Err(format!("{} is not ready in time:\n{}", self.name, self.last_lines()))
    }

    /// Ends it by SIGKILL.
    ///
    /// # Errors
    /// The system refuses.
    pub(crate) fn kill(&mut self) -> Result<(), String> {
        let told = |cause: std::io::Error| format!("cannot end {}: {cause}", self.name);
        self.child.kill().map_err(told)?;
        self.child.wait().map(drop).map_err(told)
    }

    /// Starts it again after [`Node::kill`], at another address.
    ///
    /// # Errors
    /// As of [`Node::start`] and [`Node::wait`].
    pub(crate) fn restart(&mut self) -> Result<(), String> {
        self.starts += 1;
        self.child = spawn(&self.binary, &self.args, &self.folder, self.starts)?;
        self.wait()
    }

    /// Stops it in place: connections stay, nothing moves (SIGSTOP).
    ///
    /// # Errors
    /// It has ended.
    pub(crate) fn stop(&self) -> Result<(), String> {
        self.signal(Signal::STOP)
    }

    /// Lets it go on.
    ///
    /// # Errors
    /// It has ended.
    pub(crate) fn go_on(&self) -> Result<(), String> {
        self.signal(Signal::CONT)
    }

    /// Has it end by itself.
    ///
    /// # Errors
    /// It does not in time, or says that something went wrong.
    pub(crate) fn end(&mut self) -> Result<(), String> {
        self.end_within(END_LIMIT)
    }

    /// The same for one whose clients have their turns first.
    ///
    /// # Errors
    /// As of [`Node::end`].
    pub(crate) fn end_within(&mut self, limit: Duration) -> Result<(), String> {
        self.signal(Signal::TERM)?;
        let deadline = Instant::now() + limit;
        while Instant::now() < deadline {
            match self.child.try_wait() {
                Ok(Some(status)) if status.success() => return Ok(()),
                Ok(Some(status)) => {
                    return Err(format!(
                        "{} ended with {status}:\n{}",
                        self.name,
                        self.last_lines()
                    ));
                }
                Ok(None) => std::thread::sleep(Duration::from_millis(20)),
                Err(cause) => return Err(format!("cannot wait for {}: {cause}", self.name)),
            }
        }
        Err(format!("{} does not end when asked to:\n{}", self.name, self.last_lines()))
    }

    /// The sum of a figure over its labels; 0 where there is none.
    pub(crate) fn figure(&self, name: &str) -> f64 {
        sum(&self.get("/metrics").unwrap_or_default(), name)
    }

    /// The largest of a figure over its labels; 0 where there is none.
    pub(crate) fn largest(&self, name: &str) -> f64 {
        values(&self.get("/metrics").unwrap_or_default(), name).fold(0.0, f64::max)
    }

    /// What it holds in memory. Units: KiB; 0 once it has ended.
    pub(crate) fn memory_kib(&self) -> u64 {
        let status = format!("/proc/{}/status", self.child.id());
        let text = std::fs::read_to_string(status).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        line.and_then(|it| it.trim().split(' ').next()?.parse().ok()).unwrap_or_default()
    }

    /// Processor time that it has used. Units: milliseconds.
    ///
    /// # Errors
    /// It has ended.
    pub(crate) fn processor_ms(&self) -> Result<u64, String> {
        let file = format!("/proc/{}/stat", self.child.id());
        let text = std::fs::read_to_string(&file).map_err(|cause| format!("{file}: {cause}"))?;
        // proc(5): behind the name in parentheses, utime and stime are the 12th and 13th, in ticks of 10 ms.
        let fields = text.rsplit_once(')').map(|(_, rest)| rest.split_whitespace().skip(11));
        let ticks: Vec<u64> = fields.into_iter().flatten().take(2).flat_map(str::parse).collect();
        match ticks[..] {
            [user, system] => Ok((user + system) * 10),
            _ => Err(format!("{file}: {text:?}")),
        }
    }

    /// The last that it wrote into its log.
    pub(crate) fn last_lines(&self) -> String {
        let log = std::fs::read_to_string(self.folder.join("log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        let from = lines.len().saturating_sub(LINES_SHOWN);
        lines.get(from..).unwrap_or_default().join("\n")
    }

    /// The last line of its log that holds this word.
    pub(crate) fn last_line_with(&self, word: &str) -> Option<String> {
        let log = std::fs::read_to_string(self.folder.join("log")).unwrap_or_default();
        log.lines().rev().find(|line| line.contains(word)).map(str::to_owned)
    }

    fn get(&self, path: &str) -> Result<String, String> {
        get(&self.internal, path).map_err(|cause| format!("{}: {path}: {cause}", self.name))
    }

    fn signal(&self, signal: Signal) -> Result<(), String> {
        let id = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        let id = id.ok_or_else(|| format!("{} has no process", self.name))?;
        kill_process(id, signal).map_err(|cause| format!("{}: {cause}", self.name))
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // An error says that it has ended already.
        drop(self.kill());
    }
}

/// What an internal port answers.
///
/// # Errors
/// It does not, or not in time.
pub(crate) fn get(internal: &str, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(internal)?;
    stream.set_read_timeout(Some(Duration::from_secs(2)))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// The sum of a figure over its labels; 0 where there is none.
pub(crate) fn sum(figures: &str, name: &str) -> f64 {
    values(figures, name).sum()
}

/// A figure's values, one for each of its labels.
fn values(figures: &str, name: &str) -> impl Iterator<Item = f64> {
    let is_it =
        move |line: &&str| line.strip_prefix(name).is_some_and(|it| it.starts_with([' ', '{']));
    let value = |line: &str| line.rsplit(' ').next().and_then(|it| it.parse::<f64>().ok());
    figures.lines().filter(is_it).filter_map(value)
}

fn spawn(binary: &Path, args: &Vec<String>, folder: &Path, starts: u32) -> Result<Child, String> {
    let told = |cause: std::io::Error| format!("cannot start {}: {cause}", binary.display());
    let log = File::options().create(true).append(true).open(folder.join("log")).map_err(told)?;
    // Tied to the thread that starts it, the main one: a process that is stopped hears no TERM.
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]).arg(binary).args(args);
    command.arg("--ready-file").arg(folder.join(format!("ready-{starts}.json")));
    command.process_group(0).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
    command.spawn().map_err(told)
}
