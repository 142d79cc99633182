//! One server process: its folder, its log, its end. And ports that stay free while a server is down.

use std::collections::hash_map::RandomState;
use std::fs::File;
use std::hash::{BuildHasher as _, Hasher as _};
use std::net::TcpListener;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

use crate::process::say;

/// Ports of servers. They lie below the range that outgoing connections are given (32768 and up): else a client that
/// tries again and again to reach a server that is down may take the port itself, or even connect to itself.
const PORT_MIN: u16 = 12_000;
const PORTS: u16 = 20_000;

/// How many ports are tried.
const TRIES: u16 = 1_000;

/// A port of 127.0.0.1 where nobody listens. It is not reserved: who starts a server there looks whether it came up.
///
/// # Errors
/// None of many was free.
pub fn free_port() -> Result<u16, String> {
    // A random start, so that test programs that run side by side seldom try the same.
    let start = RandomState::new().build_hasher().finish() % u64::from(PORTS);
    let start = u16::try_from(start).unwrap_or_default();
    let ports = (0..TRIES).map(|step| PORT_MIN + (start + step) % PORTS);
    ports
        .into_iter()
        .find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .ok_or_else(|| format!("{TRIES} ports of 127.0.0.1 are taken: stop what listens there"))
}

/// A folder for one server; removed with its content when dropped.
#[derive(Debug)]
pub(crate) struct Folder(PathBuf);

impl Folder {
    /// Errors: it cannot be made.
    pub(crate) fn new(name: &str) -> Result<Self, String> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("roomcast-{name}-{}-{count}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).map_err(|cause| format!("{}: {cause}", path.display()))?;
        Ok(Self(path))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Err(cause) = std::fs::remove_dir_all(&self.0) {
            say(&format!("{}: {cause}", self.0.display()));
        }
    }
}

/// A server process that is killed when this is dropped, and when this process ends.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    log: PathBuf,
    name: String,
}

impl Server {
    /// Starts `program` in `folder`; what it prints goes to the file `log` there.
    ///
    /// Errors: the program is missing, or the log cannot be written.
    pub(crate) fn start(program: &str, args: &[String], folder: &Path) -> Result<Self, String> {
        let log = folder.join("log");
        let told = |cause: std::io::Error| format!("cannot start {program}: {cause}");
        let out = File::create(&log).map_err(told)?;
        let mut command = Command::new("setpriv");
        // KILL, because a frozen process hears no TERM.
        command.args(["--pdeathsig", "KILL", "--", program]).args(args).current_dir(folder);
        // In a group of its own: Ctrl-C ends this program, which ends the others in its order.
        command.process_group(0);
        command.stdin(Stdio::null()).stderr(out.try_clone().map_err(told)?).stdout(out);
        let child = spawn(command).map_err(told)?;
        Ok(Self { child, log, name: program.to_owned() })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, if it has.
    pub(crate) fn ended(&mut self) -> Result<Option<ExitStatus>, String> {
        self.child.try_wait().map_err(|cause| format!("cannot wait for {}: {cause}", self.name))
    }

    /// The last lines that it printed.
    pub(crate) fn last_lines(&self) -> Vec<String> {
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines.iter().skip(lines.len().saturating_sub(5)).map(|line| (*line).to_owned()).collect()
    }

    /// Errors: it has ended; with the last that it printed.
    pub(crate) fn lives(&mut self) -> Result<(), String> {
        match self.ended()? {
            None => Ok(()),
            Some(status) => {
                let last = self.last_lines().join(" | ");
                Err(format!("{} ended with {status}: {last}", self.name))
            }
        }
    }

    /// Sends a signal, such as `STOP`, unless it has ended.
    pub(crate) fn signal(&mut self, name: &str) -> Result<(), String> {
        self.lives()?;
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").args(["-s", name, &pid]).status();
        match sent {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => Err(format!("kill -s {name} {pid} ended with {status}")),
            Err(cause) => Err(format!("cannot run kill: {cause}")),
        }
    }

    /// How it ended, waiting for that until `deadline`; then it is made to.
    pub(crate) fn end_by(&mut self, deadline: Instant) -> Result<ExitStatus, String> {
        loop {
            match self.ended()? {
                Some(status) => return Ok(status),
                None if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(20)),
                None => {
                    self.kill()?;
                    return Err(format!("{} did not end and was killed", self.name));
                }
            }
        }
    }

    /// Ends it by SIGKILL and waits until it is gone; its port is free then.
    pub(crate) fn kill(&mut self) -> Result<(), String> {
        let told = |cause: std::io::Error| format!("cannot end {}: {cause}", self.name);
        self.child.kill().map_err(told)?;
        self.child.wait().map(drop).map_err(told)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Err(cause) = self.kill() {
            say(&cause);
        }
    }
}

struct Job {
    command: Command,
    answer: Sender<std::io::Result<Child>>,
}

/// Starts a process from a thread that lives as long as this process.
///
/// The signal at the parent's death comes when the *thread* that started the child ends (prctl(2), PR_SET_PDEATHSIG),
/// and each test has a thread of its own.
fn spawn(command: Command) -> std::io::Result<Child> {
    static JOBS: OnceLock<Mutex<Sender<Job>>> = OnceLock::new();
    let jobs = JOBS.get_or_init(|| {
        let (send, receive) = channel::<Job>();
        std::thread::spawn(move || {
            for mut job in receive {
                if let Err(lost) = job.answer.send(job.command.spawn()) {
                    say(&format!("a server was started for nobody: {:?}", lost.0));
                }
            }
        });
        Mutex::new(send)
    });
    let (answer, child) = channel();
    let gone = || std::io::Error::other("the thread that starts servers is gone");
    let jobs = jobs.lock().map_err(|_| gone())?;
    jobs.send(Job { command, answer }).map_err(|_| gone())?;
    child.recv().map_err(|_| gone())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn free_ports_lie_below_those_of_outgoing_connections() {
        let range = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap();
        let lowest: u16 = range.split_whitespace().next().unwrap().parse().unwrap();
        for _ in 0..50 {
            let port = free_port().unwrap();
            assert!(port >= PORT_MIN && port < lowest, "{port} is not below {lowest}");
        }
    }

    #[test]
    fn a_server_outlives_the_thread_that_started_it_and_not_its_value() {
        let folder = Folder::new("child").unwrap();
        let path = folder.path().to_owned();
        let start = move || Server::start("sleep", &["60".to_owned()], &path).unwrap();
        let mut server = std::thread::spawn(start).join().unwrap();
        std::thread::sleep(Duration::from_millis(50));
        server.lives().unwrap();
        let proc = format!("/proc/{}", server.pid());
        assert!(Path::new(&proc).exists());
        drop(server);
        assert!(!Path::new(&proc).exists());
    }

    #[test]
    fn a_server_that_ended_tells_what_it_printed_last() {
        let folder = Folder::new("child").unwrap();
        let args = ["-c", "echo no such option >&2; exit 3"].map(str::to_owned);
        let mut server = Server::start("sh", &args, folder.path()).unwrap();
        let ended = || server.lives().err().ok_or_else(|| "it lives".to_owned());
        let told = super::super::until("its end", Duration::from_secs(10), ended);
        let told = told.unwrap();
        assert!(told.contains("exit status: 3") && told.contains("no such option"), "{told}");
        assert!(server.signal("STOP").is_err());
    }
}
