//! A caller of RPC that sends exactly what it is told, and the captured bytes. Every wait has a deadline.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use roomcast_dialects::goridge::{Frame, Reader, flags};
use serde::Deserialize;

/// How long an answer may take before the test fails: longer than the node waits for anything.
const WAIT: Duration = Duration::from_secs(60);

/// A stream of either kind.
pub(crate) trait Stream: Read + Write + Send + Sized + 'static {
    fn patient(self) -> Self;
    fn both(self) -> (Self, Self);
    fn end(&self);
}

impl Stream for TcpStream {
    fn patient(self) -> Self {
        self.set_read_timeout(Some(WAIT)).unwrap();
        self
    }

    fn both(self) -> (Self, Self) {
        (self.try_clone().unwrap(), self)
    }

    fn end(&self) {
        self.shutdown(Shutdown::Write).unwrap();
    }
}

impl Stream for UnixStream {
    fn patient(self) -> Self {
        self.set_read_timeout(Some(WAIT)).unwrap();
        self
    }

    fn both(self) -> (Self, Self) {
        (self.try_clone().unwrap(), self)
    }

    fn end(&self) {
        self.shutdown(Shutdown::Write).unwrap();
    }
}

/// One connection.
pub(crate) struct Caller<S> {
    pub(crate) stream: S,
    reader: Reader,
}

/// An answer: its number, and the text of its error.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) seq: u32,
    pub(crate) failed: Option<String>,
}

impl Caller<TcpStream> {
    pub(crate) fn tcp(address: SocketAddr) -> Self {
        Self::new(TcpStream::connect(address).unwrap())
    }
}

impl Caller<UnixStream> {
    pub(crate) fn unix(path: &Path) -> Self {
        Self::new(UnixStream::connect(path).unwrap())
    }
}

impl<S: Stream> Caller<S> {
    pub(crate) fn new(stream: S) -> Self {
        Self { stream: stream.patient(), reader: Reader::new() }
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    /// The next answer; `None`: the node has hung up.
    pub(crate) fn answer(&mut self) -> Option<Answer> {
        let mut piece = [0; 16 * 1_024];
        loop {
            if let Some(frame) = self.reader.frame().unwrap() {
                let text = || String::from_utf8(frame.body.to_vec()).unwrap();
                let failed = (frame.flags & flags::ERROR != 0).then(text);
                return Some(Answer { seq: frame.seq, failed });
            }
            let count = self.stream.read(&mut piece).unwrap();
            if count == 0 {
                return None;
            }
            self.reader.push(&piece[..count]);
        }
    }

    /// Calls, and takes the answer: the text of the error, if it failed.
    #[track_caller]
    pub(crate) fn call(&mut self, method: &str, body: &[u8]) -> Option<String> {
        self.send(&call(7, method, body));
        let answer = self.answer().expect("the node hung up");
        assert_eq!(answer.seq, 7);
        answer.failed
    }

    /// Says that nothing more comes, and takes all that does.
    pub(crate) fn rest(mut self) -> Vec<u8> {
        self.stream.end();
        let mut rest = Vec::new();
        self.stream.read_to_end(&mut rest).unwrap();
        rest
    }
}

/// The bytes of a call in protobuf.
pub(crate) fn call(seq: u32, method: &str, body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    Frame { flags: flags::PROTO, seq, method: method.as_bytes(), body }.write(&mut bytes);
    bytes
}

/// A request that publishes one payload into these topics, in the newer schema.
pub(crate) fn request(topics: &[&str], payload: &[u8]) -> Vec<u8> {
    let mut message = Vec::new();
    topics.iter().for_each(|topic| field(&mut message, 2, topic.as_bytes()));
    field(&mut message, 3, payload);
    let mut request = Vec::new();
    field(&mut request, 1, &message);
    request
}

/// A field that has a length. Source: protobuf's encoding.
pub(crate) fn field(out: &mut Vec<u8>, number: u8, bytes: &[u8]) {
    out.push(number << 3 | 2);
    let mut length = bytes.len();
    while length > 0x7f {
        out.push((length & 0x7f) as u8 | 0x80);
        length >>= 7;
    }
    out.push(length as u8);
    out.extend_from_slice(bytes);
}

#[derive(Deserialize)]
struct Vectors {
    vectors: Vec<Captured>,
}

/// A call of a client that is not ours, and what it was answered.
#[derive(Deserialize)]
pub(crate) struct Captured {
    #[serde(alias = "call")]
    pub(crate) name: String,
    request_hex: String,
    response_hex: String,
}

impl Captured {
    pub(crate) fn request(&self) -> Vec<u8> {
        from_hex(&self.request_hex)
    }

    /// Empty where the connection is dropped.
    pub(crate) fn response(&self) -> Vec<u8> {
        from_hex(&self.response_hex)
    }
}

fn from_hex(hex: &str) -> Vec<u8> {
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    hex.as_bytes().chunks(2).map(byte).collect()
}

/// What came from a stub with other services, and errors of its own.
const STUBS: [&str; 7] = [
    "method_error",
    "unknown_service",
    "publish_json_codec",
    "json_codec_bad_base64",
    "pipelined_two",
    "publish(\"notok\"",
    "publish(\"binary\"",
];

fn captured(file: &str) -> Vec<Captured> {
    let mut all = serde_json::from_str::<Vectors>(file).unwrap().vectors;
    all.retain(|it| !STUBS.iter().any(|stub| it.name.starts_with(stub)));
    all
}

/// The calls of the unmodified PHP client, on one connection.
pub(crate) fn of_php() -> Vec<Captured> {
    captured(include_str!("../../../dialects/vectors/goridge/goridge_php_client.json"))
}

/// Calls of others, each on a connection of its own.
pub(crate) fn of_others() -> Vec<Captured> {
    let mut all = captured(include_str!("../../../dialects/vectors/goridge/goridge_rpc.json"));
    all.extend(captured(include_str!("../../../dialects/vectors/goridge/origin.json")));
    all
}
