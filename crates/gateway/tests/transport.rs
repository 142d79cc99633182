//! The public transport under attack: raw sockets against a server in this process. The numbers are those of
//! `reliability.md`'s table of WebSocket probes and of its attacks 14, 16 to 18, 26 to 28 and 33.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "helpers of tests, which may fail where they stand"
)]

#[allow(dead_code, reason = "the example's own start is not called here")]
#[path = "../examples/echo.rs"]
mod echo;

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use roomcast_gateway::transport::client_addr::TrustedProxies;
use roomcast_gateway::transport::http::HttpLimits;
use roomcast_gateway::transport::websocket::reader::FrameLimits;

/// Longer than anything here takes: a wait that reaches it is a failure.
const PATIENCE: Duration = Duration::from_secs(20);

const HANDSHAKE: &str = "GET /ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

const WHOAMI: &str = "GET /whoami HTTP/1.1\r\nHost: localhost\r\n";

/// An echo server on a thread of its own; it stops when this is dropped.
struct Server {
    address: SocketAddr,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Server {
    fn start() -> Self {
        Self::with(HttpLimits::default(), FrameLimits::default())
    }

    fn with(http: HttpLimits, frames: FrameLimits) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let thread = std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            tokio::task::LocalSet::new().block_on(&runtime, async {
                listener.set_nonblocking(true).unwrap();
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                let settings = Rc::new(echo::Settings { http, frames, started: Instant::now() });
                tokio::select! {
                    failed = echo::accept(listener, settings) => panic!("{failed:?}"),
                    _ = stopped => {}
                }
            });
        });
        Self { address, stop: Some(stop), thread: Some(thread) }
    }

    fn connect(&self) -> Socket {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Socket { stream }
    }

    /// A connection after its handshake.
    fn upgrade(&self) -> Socket {
        let mut socket = self.connect();
        socket.send(format!("{HANDSHAKE}\r\n"));
        let head = socket.head();
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        socket
    }

    /// What the server says to `request` until it closes.
    fn answer(&self, request: impl AsRef<[u8]>) -> String {
        let mut socket = self.connect();
        socket.send_as_far_as_taken(request.as_ref());
        socket.rest()
    }

    /// The server closes after a response of this status.
    #[track_caller]
    fn check_refused(&self, request: impl AsRef<[u8]>, status: u16) -> String {
        let answer = self.answer(request);
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{answer}");
        answer
    }

    /// A frame ends its connection with this code; the one beside it lives.
    #[track_caller]
    fn check_closed(&self, frames: impl AsRef<[u8]>, code: u16) -> String {
        let mut beside = self.upgrade();
        let mut socket = self.upgrade();
        socket.send_as_far_as_taken(frames.as_ref());
        let reason = socket.closed_with(code);
        beside.echoes("still here");
        reason
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.stop.take());
        let ended = self.thread.take().map(std::thread::JoinHandle::join);
        assert!(std::thread::panicking() || ended.is_some_and(|ended| ended.is_ok()));
    }
}

struct Socket {
    stream: TcpStream,
}

impl Socket {
    fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).unwrap();
    }

    /// The server may hang up before it has taken everything.
    fn send_as_far_as_taken(&mut self, bytes: &[u8]) {
        for piece in bytes.chunks(64 * 1024) {
            match self.stream.write_all(piece) {
                Ok(()) => {}
                Err(error) => {
                    let gone = [ErrorKind::BrokenPipe, ErrorKind::ConnectionReset];
                    assert!(gone.contains(&error.kind()), "{error}");
                    return;
                }
            }
        }
    }

    /// Reads up to the empty line.
    fn head(&mut self) -> String {
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") {
            self.stream.read_exact(&mut byte).unwrap();
            head.push(byte[0]);
        }
        String::from_utf8(head).unwrap()
    }

    /// Reads a response with a `content-length`.
    fn response(&mut self) -> (String, String) {
        let head = self.head();
        let lengths: Vec<usize> = head
            .lines()
            .filter_map(|line| line.strip_prefix("content-length: "))
            .map(|length| length.parse().unwrap())
            .collect();
        let mut body = vec![0; lengths[0]];
        self.stream.read_exact(&mut body).unwrap();
        (head, String::from_utf8(body).unwrap())
    }

    /// Reads to the end; a reset is one.
    fn rest(&mut self) -> String {
        let mut bytes = Vec::new();
        match self.stream.read_to_end(&mut bytes) {
            Ok(_) => {}
            Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{bytes:?}"),
        }
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Reads one frame: its first byte and its payload.
    fn frame(&mut self) -> (u8, Vec<u8>) {
        let mut start = [0; 2];
        self.stream.read_exact(&mut start).unwrap();
        let length = match start[1] {
            126 => {
                let mut long = [0; 2];
                self.stream.read_exact(&mut long).unwrap();
                usize::from(u16::from_be_bytes(long))
            }
            127 => {
                let mut long = [0; 8];
                self.stream.read_exact(&mut long).unwrap();
                usize::try_from(u64::from_be_bytes(long)).unwrap()
            }
            short => usize::from(short),
        };
        let mut payload = vec![0; length];
        self.stream.read_exact(&mut payload).unwrap();
        (start[0], payload)
    }

    #[track_caller]
    fn echoes(&mut self, text: &str) {
        self.send(frame(0x81, text.as_bytes()));
        assert_eq!(self.frame(), (0x81, text.as_bytes().to_vec()));
    }

    /// The next frame is a Close of this code, and behind it the connection ends. Gives the reason.
    #[track_caller]
    fn closed_with(&mut self, code: u16) -> String {
        let (first, payload) = self.frame();
        assert_eq!(first, 0x88, "{payload:?}");
        assert_eq!(u16::from_be_bytes([payload[0], payload[1]]), code);
        assert_eq!(self.rest(), "");
        String::from_utf8(payload[2..].to_vec()).unwrap()
    }
}

fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mask = [0x37, 0xfa, 0x21, 0x3d];
    let mut bytes = head(first, payload.len() as u64);
    bytes.extend(mask);
    bytes.extend(payload.iter().enumerate().map(|(at, byte)| byte ^ mask[at % 4]));
    bytes
}

/// The head of a masked frame, without the mask.
fn head(first: u8, length: u64) -> Vec<u8> {
    let mut bytes = vec![first];
    if let (Ok(short), 0..126) = (u8::try_from(length), length) {
        bytes.push(0x80 | short);
    } else if let Ok(medium) = u16::try_from(length) {
        bytes.push(0x80 | 126);
        bytes.extend(medium.to_be_bytes());
    } else {
        bytes.push(0x80 | 127);
        bytes.extend(length.to_be_bytes());
    }
    bytes
}

/// Anonymous memory of this process. Units: bytes.
fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("RssAnon:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1_024
}

fn short_header() -> HttpLimits {
    HttpLimits { header_ms: 300, ..HttpLimits::default() }
}

fn behind_proxies(network: &str) -> HttpLimits {
    let trusted = Arc::new(TrustedProxies::new(vec![network.parse().unwrap()]));
    HttpLimits { trusted, ..HttpLimits::default() }
}

fn proxy_protocol(network: &str) -> HttpLimits {
    HttpLimits { proxy_protocol: true, proxy_ms: 300, ..behind_proxies(network) }
}

// The way in

#[test]
fn a_proper_handshake_gets_101_and_frames_pass() {
    let server = Server::start();
    let mut socket = server.connect();
    socket.send(format!("{HANDSHAKE}Sec-WebSocket-Protocol: other, echo\r\n\r\n"));
    let head = socket.head();
    assert!(head.starts_with("HTTP/1.1 101 Switching Protocols\r\n"), "{head}");
    assert!(head.contains("sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"), "{head}");
    assert!(head.contains("sec-websocket-protocol: echo\r\n"), "{head}");
    assert!(!head.contains("extensions"), "{head}");
    socket.echoes("hello");
}

#[test]
fn frames_sent_along_with_the_handshake_are_not_lost() {
    let server = Server::start();
    let mut socket = server.connect();
    let early = [format!("{HANDSHAKE}\r\n").as_bytes(), &frame(0x81, b"early"), &[0x82]].concat();
    socket.send(early);
    socket.head();
    assert_eq!(socket.frame(), (0x81, b"early".to_vec()));
    socket.send(&frame(0x82, b"\n")[1..]);
    assert_eq!(socket.frame(), (0x82, b"\n".to_vec()));
}

#[test]
fn a_bad_key_gets_400() {
    let server = Server::start();
    let request = format!("{HANDSHAKE}\r\n").replace("dGhlIHNhbXBsZSBub25jZQ==", "x");
    let answer = server.check_refused(request, 400);
    assert!(answer.contains("content-type: application/problem+json"), "{answer}");
    assert!(answer.contains("16 bytes in base64"), "{answer}");
}

#[test]
fn another_version_gets_426_and_the_right_one() {
    let server = Server::start();
    for version in ["Sec-WebSocket-Version: 12\r\n", ""] {
        let request = format!("{HANDSHAKE}\r\n").replace("Sec-WebSocket-Version: 13\r\n", version);
        let answer = server.check_refused(request, 426);
        assert!(answer.contains("sec-websocket-version: 13\r\n"), "{answer}");
    }
}

#[test]
fn odd_handshake_headers_are_refused_or_harmless() {
    let server = Server::start();
    for (line, status) in [
        ("Sec-WebSocket-Extensions: a; b=\"", 400),
        ("Sec-WebSocket-Protocol: a b", 400),
        ("Sec-WebSocket-Protocol: a,a", 400),
        ("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", 400),
    ] {
        server.check_refused(format!("{HANDSHAKE}{line}\r\n\r\n"), status);
    }
    for upgrade in ["Upgrade: constructor", "Upgrade: websocket2", "Upgrade: web socket"] {
        let request = format!("{HANDSHAKE}\r\n").replace("Upgrade: websocket", upgrade);
        server.check_refused(request, 426);
    }
    for line in ["Sec-WebSocket-Protocol: constructor", "Sec-WebSocket-Extensions: __proto__"] {
        let mut socket = server.connect();
        socket.send(format!("{HANDSHAKE}{line}\r\n\r\n"));
        let head = socket.head();
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        assert!(!head.contains("protocol:") && !head.contains("extensions:"), "{head}");
    }
}

#[test]
fn too_many_or_too_large_headers_get_431() {
    let server = Server::start();
    let large = format!("{HANDSHAKE}X: {}\r\n\r\n", "x".repeat(300_000));
    server.check_refused(large, 431);
    for count in [65, 200, 2_000] {
        let lines: String = (0..count).map(|index| format!("X-{index}: y\r\n")).collect();
        server.check_refused(format!("{HANDSHAKE}{lines}\r\n"), 431);
    }
    let lines: String = (0..64 - 5).map(|index| format!("X-{index}: y\r\n")).collect();
    let mut socket = server.connect();
    socket.send(format!("{HANDSHAKE}{lines}\r\n"));
    assert!(socket.head().starts_with("HTTP/1.1 101 "), "64 headers are within the limit");
}

#[test]
fn headers_that_never_end_are_closed_at_the_deadline() {
    let server = Server::with(short_header(), FrameLimits::default());
    let started = Instant::now();
    let mut sockets: Vec<Socket> = (0..50).map(|_| server.connect()).collect();
    for socket in &mut sockets[1..] {
        socket.send("GET /ws HTTP/1.1\r\nHost: localhost\r\nX: ");
    }
    // One byte after the other does not put the deadline off.
    let mut is_open = true;
    while is_open && started.elapsed() < PATIENCE {
        std::thread::sleep(Duration::from_millis(20));
        is_open = sockets[1].stream.write_all(b"x").is_ok();
    }
    assert!(!is_open);
    assert!(started.elapsed() >= Duration::from_millis(300));
    for socket in &mut sockets {
        assert_eq!(socket.rest(), "");
    }
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
}

#[test]
fn requests_that_can_be_read_in_two_ways_get_400_and_the_connection_ends() {
    let server = Server::start();
    let smuggled = "GET /whoami HTTP/1.1\r\nHost: localhost\r\n\r\n";
    for request in [
        format!(
            "{WHOAMI}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{smuggled}"
        ),
        format!(
            "{WHOAMI}Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n{smuggled}"
        ),
        format!("{WHOAMI}Transfer-Encoding: chunked\r\n\r\nzz\r\nx\r\n0\r\n\r\n{smuggled}"),
        format!("{WHOAMI}Transfer-Encoding: chunked, identity\r\n\r\n{smuggled}"),
        format!("{WHOAMI}Content-Length: 1\r\nContent-Length: 2\r\n\r\n{smuggled}"),
        format!("{WHOAMI}Content-Length: +1\r\n\r\n{smuggled}"),
        format!("{WHOAMI}Host: elsewhere\r\n\r\n{smuggled}"),
        format!("GET /whoami HTTP/1.1\r\n\r\n{smuggled}"),
        format!("{WHOAMI}X: a\r\n b\r\n\r\n{smuggled}"),
        format!("{WHOAMI}X : a\r\n\r\n{smuggled}"),
        format!("{WHOAMI}X: a\0b\r\n\r\n{smuggled}"),
        format!("{WHOAMI}X: a\rY: b\r\n\r\n{smuggled}"),
        format!("{WHOAMI}\r\n").replace("\r\n", "\n") + smuggled,
        format!("{WHOAMI}X: a\nY: b\r\n\r\n{smuggled}"),
        format!("{HANDSHAKE}\r\n").replace("\r\n", "\n"),
        "\u{1}\u{2}\u{3}\r\n\r\n".to_owned(),
    ] {
        server.check_refused(request, 400);
    }
    server.check_refused(format!("{WHOAMI}Content-Length: 3\r\n\r\nabc{smuggled}"), 413);
}

#[test]
fn plain_requests_may_follow_each_other_but_not_overtake() {
    let server = Server::with(short_header(), FrameLimits::default());
    let mut socket = server.connect();
    for _ in 0..3 {
        socket.send(format!("{WHOAMI}Content-Length: 0\r\n\r\n"));
        let (head, body) = socket.response();
        assert!(head.starts_with("HTTP/1.1 200 ") && !head.contains("close"), "{head}");
        assert_eq!(body, "127.0.0.1");
    }
    // Left idle it is closed, and a connection that never asked as well.
    assert_eq!(socket.rest(), "");
    let twice = format!("{WHOAMI}\r\n{WHOAMI}\r\n");
    assert!(server.check_refused(twice, 200).contains("connection: close\r\n"));
}

// Whose address it is

#[test]
fn forwarded_addresses_count_only_from_trusted_proxies() {
    let whoami = |server: &Server, lines: &str| {
        let mut socket = server.connect();
        socket.send(format!("{WHOAMI}{lines}\r\n"));
        socket.response().1
    };
    let direct = Server::start();
    assert_eq!(whoami(&direct, "X-Forwarded-For: 1.2.3.4\r\n"), "127.0.0.1");
    let proxied = Server::with(behind_proxies("127.0.0.0/8"), FrameLimits::default());
    assert_eq!(whoami(&proxied, ""), "127.0.0.1");
    for (value, expected) in [
        ("198.51.100.7", "198.51.100.7"),
        ("1.2.3.4, 198.51.100.7", "198.51.100.7"),
        ("1.2.3.4, 198.51.100.7, 127.0.0.2", "198.51.100.7"),
        ("2001:db8::7", "2001:db8::7"),
        ("[2001:db8::7]:443", "2001:db8::7"),
        ("1.2.3.4, garbage", "127.0.0.1"),
        (", ,", "127.0.0.1"),
    ] {
        assert_eq!(whoami(&proxied, &format!("X-Forwarded-For: {value}\r\n")), expected);
    }
    let lines = "X-Forwarded-For: 1.2.3.4\r\nX-Forwarded-For: 198.51.100.7\r\n";
    assert_eq!(whoami(&proxied, lines), "198.51.100.7");
    let hops = "127.0.0.3,".repeat(100);
    assert_eq!(whoami(&proxied, &format!("X-Forwarded-For: 1.2.3.4,{hops}\r\n")), "127.0.0.1");
}

fn binary_header() -> Vec<u8> {
    let mut bytes = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0c".to_vec();
    bytes.extend([198, 51, 100, 7, 127, 0, 0, 1, 0x16, 0x2e, 0, 80]);
    bytes
}

#[test]
fn the_proxy_protocol_names_the_client() {
    let server = Server::with(proxy_protocol("127.0.0.0/8"), FrameLimits::default());
    let line = b"PROXY TCP4 198.51.100.7 127.0.0.1 5678 80\r\n".to_vec();
    let unknown = b"PROXY UNKNOWN\r\n".to_vec();
    let client = "198.51.100.7";
    for (header, expected) in [(line, client), (binary_header(), client), (unknown, "127.0.0.1")] {
        let mut whole = server.connect();
        whole.send([&header[..], format!("{WHOAMI}\r\n").as_bytes()].concat());
        assert_eq!(whole.response().1, expected);
        let mut pieces = server.connect();
        for byte in &header {
            pieces.send([*byte]);
        }
        pieces.send(format!("{HANDSHAKE}\r\n"));
        assert!(pieces.head().starts_with("HTTP/1.1 101 "));
        pieces.echoes("behind a proxy");
    }
    let mut forwarded = server.connect();
    let forged =
        format!("PROXY TCP4 {client} 127.0.0.1 1 80\r\n{WHOAMI}X-Forwarded-For: 1.2.3.4\r\n\r\n");
    forwarded.send(forged);
    assert_eq!(forwarded.response().1, client, "the client itself is no trusted proxy");
}

#[test]
fn a_missing_or_truncated_proxy_header_drops_the_connection() {
    let server = Server::with(proxy_protocol("127.0.0.0/8"), FrameLimits::default());
    let started = Instant::now();
    assert_eq!(server.answer(format!("{WHOAMI}\r\n")), "");
    assert_eq!(server.answer("PROXY TCP4 1.2.3.4\r\n"), "");
    assert!(started.elapsed() < Duration::from_millis(250), "refused by its bytes, not by time");
    for part in [&b""[..], b"PROXY TCP4 198.51", &binary_header()[..20]] {
        let started = Instant::now();
        assert_eq!(server.answer(part), "");
        assert!(started.elapsed() >= Duration::from_millis(300));
        assert!(started.elapsed() < Duration::from_secs(1));
    }
}

#[test]
fn a_proxy_header_counts_only_when_on_and_from_trusted_networks() {
    let line = format!("PROXY TCP4 198.51.100.7 127.0.0.1 5678 80\r\n{WHOAMI}\r\n");
    let untrusted = Server::with(proxy_protocol("10.0.0.0/8"), FrameLimits::default());
    assert_eq!(untrusted.answer(&line), "");
    let off = Server::with(behind_proxies("127.0.0.0/8"), FrameLimits::default());
    off.check_refused(line, 400);
}

// Frames

#[test]
fn an_unmasked_frame_is_closed_with_1002() {
    Server::start().check_closed([0x81, 0x02, b'h', b'i'], 1002);
}

#[test]
fn lengths_beyond_reason_are_closed_without_allocating() {
    let server = Server::start();
    server.check_closed([0x82, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5], 1002);
    for length in [1 << 62, 1 << 32, 60 << 20, 65_537] {
        let bytes = [&head(0x82, length)[..], &[1, 2, 3, 4, 5]].concat();
        let reason = server.check_closed(bytes, 1009);
        assert!(reason.contains("65536 bytes"), "{reason}");
    }
    let mut socket = server.upgrade();
    socket.send(frame(0x82, &[7; 65_536]));
    assert_eq!(socket.frame(), (0x82, vec![7; 65_536]));
}

#[test]
fn a_hundred_unfinished_frames_hold_what_they_sent() {
    let limits = FrameLimits {
        frame_bytes_max: 64 << 20,
        message_bytes_max: 64 << 20,
        ..FrameLimits::default()
    };
    let server = Server::with(HttpLimits::default(), limits);
    let before = resident_bytes();
    let mut sockets: Vec<Socket> = (0..100).map(|_| server.upgrade()).collect();
    for socket in &mut sockets {
        socket.send([&head(0x82, 60 << 20)[..], &[1, 2, 3, 4, 5]].concat());
    }
    server.upgrade().echoes("the bytes above were read");
    let grown = resident_bytes().saturating_sub(before);
    assert!(grown < 64 << 20, "{grown} bytes for 100 bytes received");
}

#[test]
fn two_hundred_mebibytes_in_fragments_end_at_the_limit() {
    let server = Server::start();
    let before = resident_bytes();
    let mut socket = server.upgrade();
    let mut reading = Socket { stream: socket.stream.try_clone().unwrap() };
    let closed = std::thread::spawn(move || reading.closed_with(1009));
    socket.send(frame(0x02, &[7; 32 * 1024]));
    let fragment = frame(0x00, &[7; 32 * 1024]);
    for _ in 0..200 * 32 {
        socket.send_as_far_as_taken(&fragment);
    }
    let reason = closed.join().unwrap();
    assert!(reason.contains("262144 bytes"), "{reason}");
    let grown = resident_bytes().saturating_sub(before);
    assert!(grown < 64 << 20, "{grown} bytes");
}

#[test]
fn a_message_of_the_limit_in_64_fragments_passes() {
    let server = Server::start();
    let mut socket = server.upgrade();
    let part = vec![b'x'; 4_096];
    let mut bytes = frame(0x01, &part);
    for _ in 0..62 {
        bytes.extend(frame(0x00, &part));
    }
    let last = [&bytes[..], &frame(0x80, &part)].concat();
    socket.send(last);
    assert_eq!(socket.frame(), (0x81, vec![b'x'; 262_144]));
    bytes.extend(frame(0x00, b""));
    bytes.extend(frame(0x80, b""));
    let reason = server.check_closed(bytes, 1008);
    assert!(reason.contains("fragments of 64"), "{reason}");
}

#[test]
fn a_million_empty_fragments_are_closed_with_1008() {
    let mut bytes = frame(0x01, b"");
    for _ in 0..1_000_000 {
        bytes.extend(frame(0x00, b""));
    }
    let started = Instant::now();
    Server::start().check_closed(bytes, 1008);
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
}

#[test]
fn a_message_byte_by_byte_costs_linear_time() {
    let limits = FrameLimits { fragments_max: 100_000, ..FrameLimits::default() };
    let server = Server::with(HttpLimits::default(), limits);
    let mut socket = server.upgrade();
    let mut bytes = frame(0x01, b"x");
    for _ in 0..65_534 {
        bytes.extend(frame(0x00, b"x"));
    }
    bytes.extend(frame(0x80, b"x"));
    let started = Instant::now();
    socket.send(bytes);
    assert_eq!(socket.frame(), (0x81, vec![b'x'; 65_536]));
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
}

#[test]
fn bad_text_is_closed_with_1007_before_it_is_whole() {
    let server = Server::start();
    server.check_closed(frame(0x81, b"caf\xe9"), 1007);
    let whole = frame(0x81, &[b"\xff".as_slice(), &[b'x'; 1_000]].concat());
    server.check_closed(&whole[..20], 1007);
}

#[test]
fn a_flood_of_pings_is_closed_with_1008() {
    let server = Server::start();
    let mut calm = server.upgrade();
    for _ in 0..20 {
        calm.send(frame(0x89, b"?"));
        assert_eq!(calm.frame(), (0x8a, b"?".to_vec()));
    }
    let mut socket = server.upgrade();
    let mut reading = Socket { stream: socket.stream.try_clone().unwrap() };
    let flood: Vec<u8> = frame(0x89, b"?").repeat(10_000);
    let closed = std::thread::spawn(move || {
        for answered in 0.. {
            let (first, payload) = reading.frame();
            if first == 0x88 {
                return (answered, payload);
            }
        }
        unreachable!("there is an end to it")
    });
    socket.send_as_far_as_taken(&flood);
    let (answered, payload) = closed.join().unwrap();
    assert!((100..=200).contains(&answered), "{answered} pongs in two seconds at most");
    assert_eq!(payload[..2], 1008_u16.to_be_bytes());
    calm.echoes("still here");
}

#[test]
fn pings_of_a_client_that_never_reads_wait_in_its_own_socket() {
    let limits = FrameLimits { controls_per_second_max: u32::MAX, ..FrameLimits::default() };
    let server = Server::with(HttpLimits::default(), limits);
    let before = resident_bytes();
    let mut socket = server.upgrade();
    socket.stream.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
    let pings = frame(0x89, &[b'?'; 125]).repeat(500);
    let mut sent = 0;
    let stuck = loop {
        match socket.stream.write(&pings[sent % pings.len()..]) {
            Ok(count) => sent += count,
            Err(error) => break error,
        }
        assert!(sent < 400_000 * 131, "nothing pushed back");
    };
    assert!(matches!(stuck.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "{stuck}");
    let grown = resident_bytes().saturating_sub(before);
    assert!(grown < 64 << 20, "{grown} bytes");
    for _ in 0..sent / 131 {
        assert_eq!(socket.frame(), (0x8a, vec![b'?'; 125]));
    }
}

#[test]
fn a_close_is_answered_in_kind_and_then_the_socket_ends() {
    let server = Server::start();
    for code in [1000, 1001, 3000, 4999] {
        let payload = [&u16::to_be_bytes(code)[..], b"bye"].concat();
        assert_eq!(server.check_closed(frame(0x88, &payload), code), "");
    }
    let mut socket = server.upgrade();
    socket.send(frame(0x88, b""));
    assert_eq!(socket.frame(), (0x88, Vec::new()));
    assert_eq!(socket.rest(), "");
    server.check_closed(frame(0x88, &1005_u16.to_be_bytes()), 1002);
}

#[test]
fn nothing_behind_a_close_is_answered() {
    let server = Server::start();
    let mut bytes = frame(0x88, &1000_u16.to_be_bytes());
    bytes.extend(frame(0x81, b"late"));
    server.check_closed(bytes, 1000);
    let mut wrong = frame(0x83, b"");
    wrong.extend(frame(0x81, b"late"));
    server.check_closed(wrong, 1002);
}
