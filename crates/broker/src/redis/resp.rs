//! The bytes of a subscriber's connection: commands out, pushes in. Pure.
//!
//! Messages are nearly all that comes, and most are for rooms that nobody here hears, so their heads are read in place
//! and nothing is allocated; all else goes through `redis-protocol`.

use redis_protocol::resp2::decode::decode;
use redis_protocol::resp2::types::OwnedFrame;

/// Bytes of the lines in a message's head; more is no head.
const LINE_MAX: usize = 32;

/// Longest channel name that is looked at. Units: bytes.
const CHANNEL_MAX: usize = 1_024;

/// What stands at the beginning of a buffer.
#[derive(Debug, PartialEq)]
pub(crate) enum Next<'a> {
    /// A message on a channel.
    Message {
        /// Which channel.
        channel: &'a [u8],
        /// What was published.
        payload: &'a [u8],
        /// Bytes of the whole.
        length: usize,
    },
    /// A message whose payload is longer than allowed.
    Oversized {
        /// Which channel.
        channel: &'a [u8],
        /// Bytes of the whole, most of them not there yet.
        length: usize,
    },
    /// A message on a channel whose name is longer than any of ours: its payload stands behind `length` bytes.
    Unheard {
        /// Bytes of all but the payload, most of them not there yet.
        length: usize,
    },
    /// Anything else: a confirmation, an error, a pong.
    Other(OwnedFrame, usize),
    /// More bytes are needed.
    Incomplete,
    /// No RESP: the connection is of no use any more.
    Broken,
}

/// Reads what stands at the beginning of `buffer`. Payloads over `payload_max` are not waited for.
pub(crate) fn next(buffer: &[u8], payload_max: usize) -> Next<'_> {
    for head in [PMESSAGE, MESSAGE, SMESSAGE] {
        if buffer.starts_with(head) {
            return message(buffer, head.len(), payload_max);
        }
    }
    match decode(buffer) {
        Ok(Some((frame, length))) => Next::Other(frame, length),
        Ok(None) => Next::Incomplete,
        Err(_) => Next::Broken,
    }
}

const PMESSAGE: &[u8] = b"*4\r\n$8\r\npmessage\r\n$6\r\nroom:*\r\n";
const MESSAGE: &[u8] = b"*3\r\n$7\r\nmessage\r\n";
const SMESSAGE: &[u8] = b"*3\r\n$8\r\nsmessage\r\n";

/// The channel and payload behind a message's head.
fn message(buffer: &[u8], head: usize, payload_max: usize) -> Next<'_> {
    let (at, channel) = match bulk(buffer, head) {
        Bulk::At(at, length) if length > CHANNEL_MAX => {
            return Next::Unheard { length: at + length + 2 };
        }
        Bulk::At(at, length) => match buffer.get(at..at + length) {
            Some(channel) if buffer.len() >= at + length + 2 => (at + length + 2, channel),
            Some(_) | None => return Next::Incomplete,
        },
        Bulk::Incomplete => return Next::Incomplete,
        Bulk::Broken => return Next::Broken,
    };
    match bulk(buffer, at) {
        Bulk::At(at, length) if length > payload_max => {
            Next::Oversized { channel, length: at + length + 2 }
        }
        Bulk::At(at, length) => match buffer.get(at..at + length) {
            Some(payload) if buffer.len() >= at + length + 2 => {
                Next::Message { channel, payload, length: at + length + 2 }
            }
            Some(_) | None => Next::Incomplete,
        },
        Bulk::Incomplete => Next::Incomplete,
        Bulk::Broken => Next::Broken,
    }
}

/// The bytes of the payload that stands at the beginning of `buffer`, its head and end among them; `Err`: it is none.
pub(crate) fn payload(buffer: &[u8]) -> Result<Option<usize>, ()> {
    match bulk(buffer, 0) {
        Bulk::At(at, length) => Ok(Some(at + length + 2)),
        Bulk::Incomplete => Ok(None),
        Bulk::Broken => Err(()),
    }
}

enum Bulk {
    /// Where its bytes begin, and how many there are.
    At(usize, usize),
    Incomplete,
    Broken,
}

/// The head of a bulk string at `at`: `$<length>\r\n`.
fn bulk(buffer: &[u8], at: usize) -> Bulk {
    let Some(rest) = buffer.get(at..).filter(|rest| !rest.is_empty()) else {
        return Bulk::Incomplete;
    };
    let window = rest.get(..LINE_MAX).unwrap_or(rest);
    let Some(end) = window.windows(2).position(|two| two == b"\r\n") else {
        return if window.len() < LINE_MAX && rest.starts_with(b"$") {
            Bulk::Incomplete
        } else {
            Bulk::Broken
        };
    };
    let digits = window.get(..end).and_then(|line| line.strip_prefix(b"$"));
    let length = digits.and_then(|digits| std::str::from_utf8(digits).ok()?.parse().ok());
    match length {
        Some(length) if length < (1 << 40) => Bulk::At(at + end + 2, length),
        Some(_) | None => Bulk::Broken,
    }
}

/// Appends a command.
pub(crate) fn command<'a>(out: &mut Vec<u8>, parts: impl ExactSizeIterator<Item = &'a [u8]>) {
    out.extend_from_slice(format!("*{}\r\n", parts.len()).as_bytes());
    for part in parts {
        out.extend_from_slice(format!("${}\r\n", part.len()).as_bytes());
        out.extend_from_slice(part);
        out.extend_from_slice(b"\r\n");
    }
}

/// What a push or answer on a subscriber's connection says.
#[derive(Debug, PartialEq)]
pub(crate) enum Told {
    /// A subscription began.
    Subscribed(Vec<u8>),
    /// A subscription ended, asked for or not.
    Unsubscribed(Vec<u8>),
    /// A command was declined.
    Error(String),
    /// `OK`, a pong, or anything that says nothing.
    Fine,
}

/// What a frame says.
pub(crate) fn told(frame: OwnedFrame) -> Told {
    match frame {
        OwnedFrame::Error(text) => Told::Error(text),
        OwnedFrame::Array(parts) => {
            let mut parts = parts.into_iter();
            let (kind, channel) = (parts.next(), parts.next());
            let (Some(OwnedFrame::BulkString(kind)), Some(OwnedFrame::BulkString(channel))) =
                (kind, channel)
            else {
                return Told::Fine;
            };
            match kind.as_slice() {
                b"subscribe" | b"psubscribe" | b"ssubscribe" => Told::Subscribed(channel),
                b"unsubscribe" | b"punsubscribe" | b"sunsubscribe" => Told::Unsubscribed(channel),
                _ => Told::Fine,
            }
        }
        OwnedFrame::SimpleString(_)
        | OwnedFrame::Integer(_)
        | OwnedFrame::BulkString(_)
        | OwnedFrame::Null => Told::Fine,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MAX: usize = 64;

    fn pushed(parts: &[&[u8]]) -> Vec<u8> {
        let mut out = Vec::new();
        command(&mut out, parts.iter().copied());
        out
    }

    #[track_caller]
    fn check_message(bytes: &[u8], channel: &[u8], payload: &[u8]) {
        assert_eq!(next(bytes, MAX), Next::Message { channel, payload, length: bytes.len() });
        for cut in 0..bytes.len() {
            let found = next(&bytes[..cut], MAX);
            assert_eq!(found, Next::Incomplete, "cut at {cut}");
        }
        let mut more = bytes.to_vec();
        more.extend_from_slice(b"*3\r\n");
        assert_eq!(next(&more, MAX), Next::Message { channel, payload, length: bytes.len() });
    }

    #[test]
    fn messages_of_all_kinds_are_read_in_place_and_waited_for() {
        check_message(
            &pushed(&[b"pmessage", b"room:*", b"room:news", b"hi\r\n"]),
            b"room:news",
            b"hi\r\n",
        );
        check_message(&pushed(&[b"message", b"rc:{1}:news", b""]), b"rc:{1}:news", b"");
        check_message(
            &pushed(&[b"smessage", b"rc:{1}:news", &[0xC1, 0]]),
            b"rc:{1}:news",
            &[0xC1, 0],
        );
    }

    #[test]
    fn the_longest_payload_is_taken_and_one_byte_more_is_passed_over() {
        let longest = pushed(&[b"message", b"room:a", &[b'x'; MAX]]);
        assert!(matches!(next(&longest, MAX), Next::Message { .. }));
        let longer = pushed(&[b"message", b"room:a", &[b'x'; MAX + 1]]);
        let expected = Next::Oversized { channel: b"room:a", length: longer.len() };
        assert_eq!(next(&longer, MAX), expected);
        assert_eq!(next(&longer[..longer.len() - MAX], MAX), expected, "known from its head");
    }

    #[test]
    fn a_message_on_a_channel_with_an_endless_name_is_passed_over_in_two_steps() {
        let bytes = pushed(&[b"message", &[b'x'; CHANNEL_MAX + 1], b"payload"]);
        let Next::Unheard { length } = next(&bytes[..40], MAX) else { panic!("not passed over") };
        assert_eq!(&bytes[length..], b"$7\r\npayload\r\n");
        assert_eq!(payload(&bytes[length..]), Ok(Some(bytes.len() - length)));
        assert_eq!(payload(&bytes[length..=length]), Ok(None));
        assert_eq!(payload(b"*3\r\n"), Err(()));
        let longest = pushed(&[b"message", &[b'x'; CHANNEL_MAX], b"payload"]);
        assert!(matches!(next(&longest, MAX), Next::Message { .. }));
    }

    #[test]
    fn a_message_by_another_pattern_is_no_message_of_ours() {
        let other = pushed(&[b"pmessage", b"other:*", b"other:a", b"x"]);
        let Next::Other(frame, length) = next(&other, MAX) else { panic!("no frame") };
        assert_eq!((told(frame), length), (Told::Fine, other.len()));
    }

    #[test]
    fn confirmations_and_errors_are_told_apart() {
        let confirmed = b"*3\r\n$9\r\nsubscribe\r\n$6\r\nroom:a\r\n:1\r\n";
        let Next::Other(frame, _) = next(confirmed, MAX) else { panic!("no frame") };
        assert_eq!(told(frame), Told::Subscribed(b"room:a".to_vec()));
        let ended = b"*3\r\n$12\r\nsunsubscribe\r\n$6\r\nroom:a\r\n:0\r\n";
        let Next::Other(frame, _) = next(ended, MAX) else { panic!("no frame") };
        assert_eq!(told(frame), Told::Unsubscribed(b"room:a".to_vec()));
        let Next::Other(frame, _) = next(b"-NOPERM no\r\n", MAX) else { panic!("no frame") };
        assert_eq!(told(frame), Told::Error("NOPERM no".into()));
    }

    #[test]
    fn nonsense_is_broken_and_nothing_is_waited_for() {
        let cases: [&[u8]; 4] = [
            b"*3\r\n$7\r\nmessage\r\nx",
            b"*3\r\n$7\r\nmessage\r\n$-1\r\n",
            b"*3\r\n$7\r\nmessage\r\n$99999999999999999999999999999999999999\r\n",
            b"GET / HTTP/1.1\r\n",
        ];
        for bytes in cases {
            assert_eq!(next(bytes, MAX), Next::Broken, "{}", bytes.escape_ascii());
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..96), head in 0..4_usize) {
            let heads = [PMESSAGE, MESSAGE, SMESSAGE, b""];
            let bytes = [heads[head], &bytes].concat();
            if let Next::Message { length, .. } | Next::Other(_, length) = next(&bytes, MAX) {
                prop_assert!(length <= bytes.len() && length > 0);
            }
        }
    }
}
