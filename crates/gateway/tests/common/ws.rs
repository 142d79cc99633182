//! A WebSocket client that does exactly what it is told, the wrong things included. Every wait has a deadline.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use roomcast_protocol::codes::{Close, Refusal};
use roomcast_protocol::limits::LimitName;
use serde_json::Value;
use socket2::{Domain, Socket, Type};

/// How long an answer may take before the test fails.
pub const WAIT: Duration = Duration::from_secs(10);

/// First bytes of whole frames (RFC 6455 5.2), and of the first and the other fragments of a text.
pub const TEXT: u8 = 0x81;
pub const BINARY: u8 = 0x82;
pub const CLOSE: u8 = 0x88;
pub const PING: u8 = 0x89;
pub const PONG: u8 = 0x8a;
pub const FIRST: u8 = 0x01;
pub const MIDDLE: u8 = 0x00;
pub const LAST: u8 = 0x80;

/// What the kernel keeps for a client that was made narrow.
pub const NARROW_BYTES: usize = 4_096;

const MASK: [u8; 4] = [0x5a, 0x1c, 0x93, 0xe7];

/// A masked frame.
pub fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = head(first, payload.len() as u64);
    bytes.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    bytes
}

/// The head of a masked frame that announces this many bytes.
pub fn head(first: u8, length: u64) -> Vec<u8> {
    let mut bytes = vec![first];
    match length {
        0..=125 => bytes.push(0x80 | length as u8),
        126..=0xffff => {
            bytes.push(0x80 | 126);
            bytes.extend((length as u16).to_be_bytes());
        }
        _ => {
            bytes.push(0x80 | 127);
            bytes.extend(length.to_be_bytes());
        }
    }
    bytes.extend(MASK);
    bytes
}

/// What came from the node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    Text(String),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<u16>, String),
    /// The socket ended.
    End,
}

/// A request for an upgrade.
#[derive(Clone, Debug)]
pub struct Dial {
    path: String,
    headers: Vec<(String, String)>,
    /// The kernel keeps little for this client, so that one that does not read shows at once.
    narrow: bool,
}

impl Default for Dial {
    fn default() -> Self {
        let headers = [
            ("Host", "node.test"),
            ("Upgrade", "websocket"),
            ("Connection", "Upgrade"),
            ("Sec-WebSocket-Version", "13"),
            ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ];
        let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        Self { path: "/ws".to_owned(), headers: headers.map(owned).into(), narrow: false }
    }
}

impl Dial {
    /// With the token in the query.
    pub fn with_token(token: &str) -> Self {
        Self::default().path(&format!("/ws?token={token}"))
    }

    pub fn path(mut self, path: &str) -> Self {
        path.clone_into(&mut self.path);
        self
    }

    /// Lets the kernel receive a few KiB only.
    pub fn narrow(self) -> Self {
        Self { narrow: true, ..self }
    }

    /// Adds a header line.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Leaves a header out.
    pub fn without(mut self, name: &str) -> Self {
        self.headers.retain(|(held, _)| held != name);
        self
    }

    pub fn subprotocol(self, name: &str) -> Self {
        self.header("Sec-WebSocket-Protocol", name)
    }

    /// Asks, and takes no answer yet.
    pub fn begin(&self, address: SocketAddr) -> Ws {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).unwrap();
        if self.narrow {
            socket.set_recv_buffer_size(NARROW_BYTES).unwrap();
        }
        socket.connect_timeout(&address.into(), WAIT).unwrap();
        let mut stream = TcpStream::from(socket);
        stream.set_nodelay(true).unwrap();
        stream.set_write_timeout(Some(WAIT)).unwrap();
        let mut request = format!("GET {} HTTP/1.1\r\n", self.path);
        for (name, value) in &self.headers {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        request.push_str("\r\n");
        // A node that refuses may hang up before it has read all of it.
        drop(stream.write_all(request.as_bytes()));
        Ws { stream, bytes: Vec::new() }
    }

    /// Asks, and takes the head of the answer.
    pub fn send(&self, address: SocketAddr) -> Answered {
        let mut ws = self.begin(address);
        let deadline = Instant::now() + WAIT;
        let end = loop {
            if let Some(at) = ws.bytes.windows(4).position(|four| four == b"\r\n\r\n") {
                break at;
            }
            assert!(ws.read(deadline) == Some(true), "no answer to the upgrade");
        };
        let head = String::from_utf8(ws.bytes.drain(..end + 4).collect()).unwrap();
        let mut lines = head.lines();
        let status = lines.next().and_then(|line| line.split(' ').nth(1)).unwrap().parse().unwrap();
        let pair =
            |line: &str| line.split_once(": ").map(|(n, v)| (n.to_lowercase(), v.to_owned()));
        Answered { status, headers: lines.filter_map(pair).collect(), ws }
    }

    /// Opens a WebSocket, or fails the test.
    #[track_caller]
    pub fn open(&self, address: SocketAddr) -> Ws {
        let answered = self.send(address);
        let status = answered.status;
        if status != 101 {
            panic!("the upgrade was refused: {status} {}", answered.body());
        }
        answered.ws
    }
}

/// The answer to a request for an upgrade.
pub struct Answered {
    pub status: u16,
    headers: Vec<(String, String)>,
    pub ws: Ws,
}

impl Answered {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(held, _)| held == name).map(|(_, value)| value.as_str())
    }

    /// All values of a header, in their order.
    pub fn headers(&self, name: &str) -> Vec<&str> {
        let named = self.headers.iter().filter(|(held, _)| held == name);
        named.map(|(_, value)| value.as_str()).collect()
    }

    /// The body, as far as its length was announced.
    pub fn body(mut self) -> String {
        let length = self.header("content-length").map_or(0, |length| length.parse().unwrap());
        let deadline = Instant::now() + WAIT;
        while self.ws.bytes.len() < length {
            assert!(self.ws.read(deadline) == Some(true), "the answer was cut off");
        }
        String::from_utf8(std::mem::take(&mut self.ws.bytes)).unwrap()
    }

    /// The body, which must be problem details (RFC 9457) of the answer's own status.
    #[track_caller]
    pub fn problem(self) -> Value {
        assert_eq!(self.header("content-type"), Some("application/problem+json"));
        let status = self.status;
        let problem: Value = serde_json::from_str(&self.body()).unwrap();
        assert_eq!(problem["status"], status);
        problem
    }
}

/// An open WebSocket.
pub struct Ws {
    stream: TcpStream,
    /// Received and not taken yet.
    bytes: Vec<u8>,
}

impl Ws {
    /// Reads once: `Some(false)` at the end of the socket, `None` if nothing came in time.
    fn read(&mut self, deadline: Instant) -> Option<bool> {
        let left = deadline.saturating_duration_since(Instant::now());
        let left = left.max(Duration::from_millis(1));
        self.stream.set_read_timeout(Some(left)).unwrap();
        let mut buffer = [0; 16 * 1024];
        match self.stream.read(&mut buffer) {
            Ok(0) => Some(false),
            Ok(count) => {
                self.bytes.extend_from_slice(&buffer[..count]);
                Some(true)
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                None
            }
            Err(_) => Some(false),
        }
    }

    /// The frame at the front of what was received. A node never masks, fragments, or uses reserved bits.
    fn take_frame(&mut self) -> Option<Heard> {
        let (first, second) = (*self.bytes.first()?, *self.bytes.get(1)?);
        assert!(second & 0x80 == 0, "a node must not mask");
        let (length, from) = match second {
            126 => (usize::from(u16::from_be_bytes(self.bytes.get(2..4)?.try_into().unwrap())), 4),
            127 => (u64::from_be_bytes(self.bytes.get(2..10)?.try_into().unwrap()) as usize, 10),
            short => (usize::from(short), 2),
        };
        let payload = self.bytes.get(from..from + length)?.to_vec();
        self.bytes.drain(..from + length);
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        Some(match first {
            TEXT => Heard::Text(text(&payload)),
            BINARY => Heard::Binary(payload),
            PING => Heard::Ping(payload),
            PONG => Heard::Pong(payload),
            CLOSE => match *payload {
                [] => Heard::Close(None, String::new()),
                [high, low, ..] => {
                    Heard::Close(Some(u16::from_be_bytes([high, low])), text(&payload[2..]))
                }
                [_] => panic!("a Close frame of one byte"),
            },
            other => panic!("a frame that begins with {other:#x}"),
        })
    }

    /// The next frame or the end, if one comes in this time.
    pub fn heard(&mut self, within: Duration) -> Option<Heard> {
        let deadline = Instant::now() + within;
        loop {
            if let Some(heard) = self.take_frame() {
                return Some(heard);
            }
            match self.read(deadline) {
                Some(true) => {}
                Some(false) => return Some(Heard::End),
                None if Instant::now() >= deadline => return None,
                None => {}
            }
        }
    }

    /// The next frame but pings, which are answered.
    #[track_caller]
    pub fn next(&mut self) -> Heard {
        match self.heard(WAIT).expect("nothing came in time") {
            Heard::Ping(payload) => {
                self.send(PONG, &payload);
                self.next()
            }
            heard => heard,
        }
    }

    /// The next message, which must be JSON text.
    #[track_caller]
    pub fn json(&mut self) -> Value {
        match self.next() {
            Heard::Text(text) => serde_json::from_str(&text).unwrap(),
            other => panic!("no JSON: {other:?}"),
        }
    }

    /// The next message, which must be exactly this.
    #[track_caller]
    pub fn expect(&mut self, expected: &Value) {
        assert_eq!(self.json(), *expected);
    }

    /// The next message, which must be the welcome.
    #[track_caller]
    pub fn welcome(&mut self) -> Value {
        let welcome = self.json();
        assert_eq!(welcome["type"], "welcome", "{welcome}");
        welcome
    }

    /// The next message, which must be an error with this refusal's row of the code table.
    #[track_caller]
    pub fn expect_refusal(&mut self, refusal: Refusal) -> Value {
        let error = self.json();
        let row = refusal.row();
        assert_eq!(error["type"], "error", "{error}");
        assert_eq!(error["data"]["code"], row.code, "{error}");
        assert_eq!(error["data"]["name"], row.name, "{error}");
        assert_eq!(error["data"]["retry"], row.retry, "{error}");
        assert!(error["data"]["message"].is_string(), "{error}");
        error
    }

    /// The next frame, which must be a Close with this code and the table's reason, or one that says what was wrong;
    /// answers it, and the socket must end.
    #[track_caller]
    pub fn expect_close(&mut self, close: Close) {
        self.take_close(close);
    }

    #[track_caller]
    fn take_close(&mut self, close: Close) -> String {
        let row = close.row();
        let Heard::Close(code, reason) = self.next() else { panic!("no Close {}", row.code) };
        assert_eq!(code, Some(row.code), "{reason}");
        match close {
            Close::Protocol | Close::BadText | Close::Flood | Close::TooLarge | Close::Limit => {
                assert!(reason.len() > 10, "{reason}");
            }
            _ => assert_eq!(reason, row.reason),
        }
        self.end_after(row.code);
        reason
    }

    /// The same, because of this limit, which the reason names with its value.
    #[track_caller]
    pub fn expect_close_over(&mut self, close: Close, limit: LimitName, value: u64) {
        let reason = self.take_close(close);
        let words = || reason.split([' ', ':']);
        assert!(words().any(|word| word == limit.name()), "{reason}");
        assert!(words().any(|word| word == value.to_string()), "{reason}");
    }

    /// The same, whatever was sent before it.
    #[track_caller]
    pub fn expect_close_at_last(&mut self, close: Close) {
        let row = close.row();
        let deadline = Instant::now() + WAIT;
        loop {
            assert!(Instant::now() < deadline, "no close in time");
            match self.next() {
                Heard::Close(code, _) => {
                    assert_eq!(code, Some(row.code));
                    break;
                }
                Heard::End => panic!("the socket ended without a Close frame"),
                _ => {}
            }
        }
        self.end_after(row.code);
    }

    #[track_caller]
    fn end_after(&mut self, code: u16) {
        // A node that threw away what it was sent may have hung up already.
        drop(self.stream.write_all(&frame(CLOSE, &code.to_be_bytes())));
        assert_eq!(self.heard(WAIT), Some(Heard::End), "the socket stays open behind its Close");
    }

    /// Fails if anything but a ping comes in this time.
    #[track_caller]
    pub fn expect_silence(&mut self, within: Duration) {
        let deadline = Instant::now() + within;
        while let Some(heard) = self.heard(deadline.saturating_duration_since(Instant::now())) {
            assert!(matches!(heard, Heard::Ping(_)), "{heard:?}");
        }
    }

    /// Sends bytes as they are.
    pub fn raw(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    /// Sends bytes as they are; the node may hang up meanwhile.
    pub fn flood(&mut self, bytes: &[u8]) {
        drop(self.stream.write_all(bytes));
    }

    /// Sends a masked frame.
    pub fn send(&mut self, first: u8, payload: &[u8]) {
        self.raw(&frame(first, payload));
    }

    /// Sends a text message in fragments of this size.
    pub fn fragments(&mut self, payload: &[u8], size: usize) {
        let mut parts = payload.chunks(size).enumerate().peekable();
        while let Some((index, part)) = parts.next() {
            let opcode = if index == 0 { FIRST } else { MIDDLE };
            let last = if parts.peek().is_none() { LAST } else { 0 };
            self.send(opcode | last, part);
        }
    }

    pub fn text(&mut self, text: &str) {
        self.send(TEXT, text.as_bytes());
    }

    pub fn tell(&mut self, message: &Value) {
        self.text(&message.to_string());
    }

    /// Sends a message, and takes the answer.
    #[track_caller]
    pub fn ask(&mut self, message: &Value) -> Value {
        self.tell(message);
        self.json()
    }

    /// Joins a room, or fails the test.
    #[track_caller]
    pub fn join(&mut self, room: &str) {
        let answer =
            self.ask(&serde_json::json!({ "type": "subscribe", "data": { "room": room } }));
        assert_eq!(answer["type"], "subscribed", "{answer}");
        assert_eq!(answer["data"]["room"], room);
    }

    /// Closes as a good client does.
    #[track_caller]
    pub fn close(mut self) {
        self.send(CLOSE, &1000_u16.to_be_bytes());
        assert_eq!(self.next(), Heard::Close(Some(Close::Normal.row().code), String::new()));
        assert_eq!(self.heard(WAIT), Some(Heard::End));
    }
}
