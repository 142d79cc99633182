//! Calls and their answers: which methods there are, in which codec they speak, and with which texts they fail.

use super::flags;
use super::frame::Frame;
use super::json;
use super::messages::{BadBody, Message, Messages};
use super::proto::{self, Numbers};

/// In what a body is written. An answer is written as its call was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Codec {
    /// A protobuf message.
    Proto,
    /// JSON.
    Json,
    /// Bytes.
    Raw,
    /// MessagePack.
    MessagePack,
    /// Go's own encoding; also what answers are marked with where the call names none.
    Gob,
}

impl Codec {
    /// What a frame's flags say; of several the first in this order counts.
    #[must_use]
    pub const fn of(bits: u8) -> Self {
        if bits & flags::PROTO != 0 {
            Self::Proto
        } else if bits & flags::JSON != 0 {
            Self::Json
        } else if bits & flags::RAW != 0 {
            Self::Raw
        } else if bits & flags::MSGPACK != 0 {
            Self::MessagePack
        } else {
            Self::Gob
        }
    }

    /// Its flag.
    #[must_use]
    pub const fn flag(self) -> u8 {
        match self {
            Self::Proto => flags::PROTO,
            Self::Json => flags::JSON,
            Self::Raw => flags::RAW,
            Self::MessagePack => flags::MSGPACK,
            Self::Gob => flags::GOB,
        }
    }
}

/// Which services there are beside `broadcast`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Services {
    /// `websockets`, with the schema of before June 2021.
    pub websockets: bool,
}

/// A method that can be called. The name of its service tells the schema.
struct Method {
    name: &'static str,
    with_broker: bool,
    wait: bool,
}

const METHODS: [Method; 4] = [
    Method { name: "broadcast.Publish", with_broker: false, wait: true },
    Method { name: "broadcast.PublishAsync", with_broker: false, wait: false },
    Method { name: "websockets.Publish", with_broker: true, wait: true },
    Method { name: "websockets.PublishAsync", with_broker: true, wait: false },
];

/// Where an answer belongs, and how it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reply<'a> {
    /// The caller's number for the call.
    pub seq: u32,
    /// The call's.
    pub codec: Codec,
    /// The call's.
    pub method: &'a [u8],
}

impl Reply<'_> {
    /// Writes that the call was carried out; `ok`: with success.
    pub fn write(&self, ok: bool, out: &mut Vec<u8>) {
        let body: &[u8] = match (self.codec, ok) {
            (Codec::Json, true) => br#"{"ok":true}"#,
            (Codec::Json, false) => b"{}",
            // A field that is false is left out, and there is no other.
            (Codec::Proto, true) => b"\x08\x01",
            (Codec::Proto, false) => b"",
            (Codec::Raw | Codec::MessagePack | Codec::Gob, _) => {
                return self.write_error(BadBody::Codec.text().as_bytes(), out);
            }
        };
        self.frame(self.codec.flag(), body).write(out);
    }

    /// Writes why the call failed.
    pub fn write_error(&self, text: &[u8], out: &mut Vec<u8>) {
        self.frame(self.codec.flag() | flags::ERROR, text).write(out);
    }

    const fn frame<'f>(&'f self, flags: u8, body: &'f [u8]) -> Frame<'f> {
        Frame { flags, seq: self.seq, method: self.method, body }
    }
}

/// Publications that are asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publish {
    /// Where the answer belongs.
    pub reply: Reply<'static>,
    /// It is answered when the broker has answered; otherwise at once, and failures are logged alone.
    pub wait: bool,
    /// Each goes to each of its topics.
    pub messages: Vec<Message>,
    /// Topics without a name, which were skipped: worth a warning.
    pub unnamed_topics: usize,
}

/// What a frame asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Call<'a> {
    /// Publish this.
    Publish(Publish),
    /// It cannot be carried out: answer so, in its turn.
    Refused {
        /// Where the answer belongs.
        reply: Reply<'a>,
        /// Why.
        text: Vec<u8>,
    },
}

impl<'a> Call<'a> {
    /// Reads a frame that a caller sent. Its other flags mean nothing, as for the origin.
    #[must_use]
    pub fn read(frame: &Frame<'a>, services: Services) -> Self {
        let Frame { seq, method, body, .. } = *frame;
        let codec = Codec::of(frame.flags);
        let found = match find(method, services) {
            Ok(found) => found,
            Err(text) => return Self::Refused { reply: Reply { seq, codec, method }, text },
        };
        let reply = Reply { seq, codec, method: found.name.as_bytes() };
        match messages(frame.flags, body, found.with_broker) {
            Ok(Messages { list, unnamed, .. }) => Self::Publish(Publish {
                reply,
                wait: found.wait,
                messages: list,
                unnamed_topics: unnamed,
            }),
            Err(bad) => Self::Refused { reply, text: bad.text().into_bytes() },
        }
    }
}

/// The method of that name, or the text that the origin answers. Source: Go's net/rpc.
fn find(name: &[u8], services: Services) -> Result<&'static Method, Vec<u8>> {
    let Some(dot) = name.iter().rposition(|byte| *byte == b'.') else {
        return Err([b"rpc: service/method request ill-formed: ", name].concat());
    };
    let of_service = |method: &&Method| {
        method.name.as_bytes().get(..=dot) == name.get(..=dot)
            && (!method.with_broker || services.websockets)
    };
    let mut methods = METHODS.iter().filter(of_service).peekable();
    if methods.peek().is_none() {
        return Err([b"rpc: can't find service ", name].concat());
    }
    methods
        .find(|method| method.name.as_bytes() == name)
        .ok_or_else(|| [b"rpc: can't find method ", name].concat())
}

/// Reads a body. None at all is an empty request.
fn messages(bits: u8, body: &[u8], with_broker: bool) -> Result<Messages, BadBody> {
    match Codec::of(bits) {
        Codec::Proto if with_broker => proto::read(body, Numbers::WITH_BROKER),
        Codec::Proto => proto::read(body, Numbers::CURRENT),
        Codec::Json if body.is_empty() => Ok(Messages::default()),
        Codec::Json => json::read(body, with_broker),
        Codec::Raw => Err(BadBody::Raw),
        Codec::Gob if bits & flags::GOB == 0 => Err(BadBody::NoCodec),
        Codec::MessagePack | Codec::Gob => Err(BadBody::Codec),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Services = Services { websockets: true };

    fn read<'a>(flags: u8, method: &'a str, body: &'a [u8], services: Services) -> Call<'a> {
        Call::read(&Frame { flags, seq: 9, method: method.as_bytes(), body }, services)
    }

    #[track_caller]
    fn check_refused(flags: u8, method: &str, body: &[u8], expected: &str) {
        match read(flags, method, body, ALL) {
            Call::Refused { reply, text } => {
                assert_eq!(String::from_utf8(text).unwrap(), expected);
                assert_eq!((reply.seq, reply.method), (9, method.as_bytes()));
            }
            Call::Publish(publish) => panic!("{publish:?}"),
        }
    }

    #[test]
    fn the_method_says_whether_the_caller_waits_and_where_the_broker_stands() {
        let body = b"\x0a\x09\x12\x01b\x1a\x01t\x22\x01p";
        for (method, wait, broker, topic, payload) in [
            ("broadcast.Publish", true, "", "b", "t"),
            ("broadcast.PublishAsync", false, "", "b", "t"),
            ("websockets.Publish", true, "b", "t", "p"),
            ("websockets.PublishAsync", false, "b", "t", "p"),
        ] {
            let Call::Publish(publish) = read(flags::PROTO, method, body, ALL) else {
                panic!("{method} is refused");
            };
            let Message { broker: found, topics, payload: bytes } = &publish.messages[0];
            assert_eq!((publish.wait, &**found, &*topics[0]), (wait, broker, topic), "{method}");
            assert_eq!(bytes, payload, "{method}");
            assert_eq!(publish.reply.method, method.as_bytes());
        }
    }

    #[test]
    fn names_that_nobody_serves_are_refused_as_the_origin_does() {
        for (name, text) in [
            ("broadcast.Nope", "rpc: can't find method broadcast.Nope"),
            ("broadcast.", "rpc: can't find method broadcast."),
            ("broadcast.publish", "rpc: can't find method broadcast.publish"),
            ("websockets.Nope", "rpc: can't find method websockets.Nope"),
            ("nosuch.Publish", "rpc: can't find service nosuch.Publish"),
            ("broadcas.Publish", "rpc: can't find service broadcas.Publish"),
            ("a.broadcast.Publish", "rpc: can't find service a.broadcast.Publish"),
            (".Publish", "rpc: can't find service .Publish"),
            ("nodot", "rpc: service/method request ill-formed: nodot"),
            ("", "rpc: service/method request ill-formed: "),
        ] {
            check_refused(flags::PROTO, name, b"\xff", text);
        }
    }

    #[test]
    fn the_old_service_can_be_switched_off() {
        let off = Services { websockets: false };
        let Call::Refused { text, .. } = read(flags::PROTO, "websockets.Publish", b"", off) else {
            panic!("it is still there");
        };
        assert_eq!(text, b"rpc: can't find service websockets.Publish");
        assert!(matches!(read(flags::PROTO, "broadcast.Publish", b"", off), Call::Publish(_)));
    }

    #[test]
    fn of_several_codecs_the_first_counts() {
        let order = [Codec::Proto, Codec::Json, Codec::Raw, Codec::MessagePack, Codec::Gob];
        for (index, codec) in order.into_iter().enumerate() {
            let bits = order[index..]
                .iter()
                .fold(flags::ERROR | flags::CONTROL, |bits, codec| bits | codec.flag());
            assert_eq!(Codec::of(bits), codec);
        }
        assert_eq!(Codec::of(0), Codec::Gob);
    }

    #[test]
    fn codecs_that_are_not_read_are_refused_with_the_mend() {
        let mend = "requests are read as protobuf (flag 80) or JSON (flag 08): set one of the two";
        check_refused(flags::MSGPACK, "broadcast.Publish", b"", mend);
        check_refused(flags::GOB, "broadcast.Publish", b"", mend);
        for codec in [Codec::Raw, Codec::MessagePack, Codec::Gob] {
            let mut out = Vec::new();
            Reply { seq: 1, codec, method: b"m" }.write(true, &mut out);
            assert_eq!(out[1], codec.flag() | flags::ERROR);
        }
    }

    #[test]
    fn no_success_is_an_empty_message() {
        for (codec, body) in [(Codec::Proto, &b""[..]), (Codec::Json, b"{}")] {
            let (mut found, mut expected) = (Vec::new(), Vec::new());
            Reply { seq: 4, codec, method: b"m" }.write(false, &mut found);
            Frame { flags: codec.flag(), seq: 4, method: b"m", body }.write(&mut expected);
            assert_eq!(found, expected);
        }
    }
}
