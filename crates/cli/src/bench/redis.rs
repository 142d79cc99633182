//! A Redis of our own to measure with: `redis-server` as a child process on a free loopback port, without persistence.
//! Ends with its owner, and with this process. And a plain connection to it, for what needs no client library.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use uuid::Uuid;

use crate::failure::Failure;

/// Ports of the server: below the range that outgoing connections are given.
const PORT_MIN: u128 = 12_000;
const PORTS: u128 = 20_000;

/// How many ports are tried.
const TRIES: u32 = 5;

/// Longest wait for the server to answer, and for its end of a connection.
const LIMIT: Duration = Duration::from_secs(10);

/// How `setpriv` ends where there is no such program.
const NO_PROGRAM: i32 = 127;

/// A subscriber that is late for a while is not to be cut off: then the bench would measure Redis' patience.
const SETTINGS: [&str; 12] = [
    "--save",
    "",
    "--appendonly",
    "no",
    "--bind",
    "127.0.0.1",
    "--client-output-buffer-limit",
    "pubsub 512mb 0 0",
    "--loglevel",
    "warning",
    "--logfile",
    "",
];

/// A running server.
#[derive(Debug)]
pub(crate) struct Redis {
    child: Child,
    address: SocketAddr,
}

impl Redis {
    /// Starts one and waits until it answers.
    pub(crate) fn start() -> Result<Self, Failure> {
        let mut last = None;
        for _ in 0..TRIES {
            match Self::start_as("redis-server", free_port()?) {
                Err(Failure::Failed(reason)) => last = Some(reason),
                other => return other,
            }
        }
        Err(Failure::Failed(last.unwrap_or_default()))
    }

    fn start_as(program: &str, port: u16) -> Result<Self, Failure> {
        // `setpriv` is part of Debian's essential util-linux. KILL: nothing here is worth being written down.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--", program]).args(SETTINGS);
        command.args(["--port", &port.to_string()]).arg("--dir").arg(std::env::temp_dir());
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|cause| {
                Failure::failed("setpriv (Debian: util-linux) cannot start", &cause)
            })?;
        let mut redis = Self { child, address: (Ipv4Addr::LOCALHOST, port).into() };
        let deadline = Instant::now() + LIMIT;
        loop {
            if let Some(status) = redis.child.try_wait()? {
                return Err(if status.code() == Some(NO_PROGRAM) {
                    Failure::Usage(format!(
                        "{program} cannot be found: install the Debian package redis-server"
                    ))
                } else {
                    Failure::Failed(format!("{program} on port {port} ended with {status}"))
                });
            }
            let answer = RawRedis::connect(redis.address)
                .and_then(|mut raw| raw.ask(&["PING"], |answer| answer.starts_with("+PONG")));
            match answer {
                Ok(_) => return Ok(redis),
                Err(failure) if Instant::now() > deadline => return Err(failure),
                Err(_) => std::thread::sleep(Duration::from_millis(20)),
            }
        }
    }

    /// Where it listens.
    pub(crate) const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// As `serve --redis` takes it.
    pub(crate) fn url(&self) -> String {
        format!("redis://{}", self.address)
    }

    /// Waits until so many nodes have their feed.
    pub(crate) fn wait_for_feeds(&self, nodes: usize) -> Result<(), Failure> {
        let mut raw = RawRedis::connect(self.address)?;
        let deadline = Instant::now() + LIMIT;
        loop {
            let clients = raw.ask(&["CLIENT", "LIST", "TYPE", "pubsub"], is_whole_bulk)?;
            if clients.matches("id=").count() >= nodes {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(Failure::Timeout(format!("{nodes} nodes have no feed from Redis")));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        // Both fail only where it has ended already, which is what is wanted.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// A port of 127.0.0.1 where nobody listens.
fn free_port() -> Result<u16, Failure> {
    for _ in 0..1_000 {
        let port = PORT_MIN + Uuid::new_v4().as_u128() % PORTS;
        let port = u16::try_from(port).unwrap_or_default();
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return Ok(port);
        }
    }
    Err(Failure::Failed("no port of 127.0.0.1 is free".into()))
}

/// One connection.
#[derive(Debug)]
pub(crate) struct RawRedis {
    /// Its socket; blocking, with a deadline.
    pub(crate) socket: TcpStream,
}

impl RawRedis {
    /// Connects.
    pub(crate) fn connect(address: SocketAddr) -> Result<Self, Failure> {
        let told = |cause: std::io::Error| Failure::failed(&format!("Redis at {address}"), &cause);
        let socket = TcpStream::connect_timeout(&address, LIMIT).map_err(told)?;
        socket.set_nodelay(true).map_err(told)?;
        socket.set_read_timeout(Some(LIMIT)).map_err(told)?;
        socket.set_write_timeout(Some(LIMIT)).map_err(told)?;
        Ok(Self { socket })
    }

    /// Sends one command and reads until the answer is whole.
    pub(crate) fn ask(
        &mut self,
        parts: &[&str],
        is_whole: impl Fn(&str) -> bool,
    ) -> Result<String, Failure> {
        let mut out = String::new();
        command(&mut out, parts);
        self.socket.write_all(out.as_bytes())?;
        let (mut answer, mut buffer) = (String::new(), [0; 4_096]);
        while !is_whole(&answer) {
            let count = match self.socket.read(&mut buffer) {
                Ok(0) => return Err(Failure::Failed("Redis closed the connection".into())),
                Ok(count) => count,
                Err(cause) if cause.kind() == ErrorKind::Interrupted => continue,
                Err(cause) => return Err(Failure::failed("Redis does not answer", &cause)),
            };
            answer.push_str(&String::from_utf8_lossy(buffer.get(..count).unwrap_or_default()));
            if answer.starts_with('-') {
                return Err(Failure::Failed(format!("Redis declines: {}", answer.trim_end())));
            }
        }
        Ok(answer)
    }
}

/// Appends a command of texts.
pub(crate) fn command(out: &mut String, parts: &[&str]) {
    out.push_str(&format!("*{}\r\n", parts.len()));
    for part in parts {
        out.push_str(&format!("${}\r\n{part}\r\n", part.len()));
    }
}

/// Whether a bulk string is there with all that its head promises.
fn is_whole_bulk(answer: &str) -> bool {
    let Some((head, rest)) = answer.split_once("\r\n") else { return false };
    let length = head.strip_prefix('$').and_then(|digits| digits.parse::<usize>().ok());
    length.is_none_or(|length| rest.len() >= length + 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_arrays_of_bulk_strings() {
        let mut out = String::new();
        command(&mut out, &["PUBLISH", "room:ä", ""]);
        assert_eq!(out, "*3\r\n$7\r\nPUBLISH\r\n$7\r\nroom:ä\r\n$0\r\n\r\n");
    }

    #[test]
    fn an_answer_is_waited_for_until_it_is_whole() {
        for (answer, whole) in
            [("", false), ("$3\r\nab", false), ("$3\r\nabc\r\n", true), ("$0\r\n\r\n", true)]
        {
            assert_eq!(is_whole_bulk(answer), whole, "{answer:?}");
        }
    }

    #[test]
    fn a_missing_server_is_told_with_its_package() {
        let failure = Redis::start_as("roomcast-no-such-program", 1).unwrap_err();
        assert!(matches!(failure, Failure::Usage(_)));
        assert!(failure.to_string().contains("Debian package redis-server"), "{failure}");
    }
}
