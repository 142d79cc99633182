//! A request as a protobuf message, in both of its schemas. Owns the wire format as far as these two flat messages
//! need it: fields in any order, repeated, unknown ones skipped, groups too, as protobuf asks. Source: the encoding
//! guide of protobuf; Request{messages=1}, Message as [`Numbers`] say.

use bytes::Bytes;

use super::messages::{BadBody, Message, Messages};

/// Groups within groups that an unknown field may have.
const GROUPS_MAX: usize = 100;

/// Which numbers the fields of a message have.
#[derive(Clone, Copy, Debug)]
pub(super) struct Numbers {
    broker: Option<u32>,
    topics: u32,
    payload: u32,
}

impl Numbers {
    /// Since June 2021: {command=1, topics=2, payload=3}.
    pub(super) const CURRENT: Self = Self { broker: None, topics: 2, payload: 3 };

    /// Before: {command=1, broker=2, topics=3, payload=4}.
    pub(super) const WITH_BROKER: Self = Self { broker: Some(2), topics: 3, payload: 4 };
}

/// The number of the command, which back-ends leave empty.
const COMMAND: u32 = 1;

/// The number of the messages in a request.
const MESSAGES: u32 = 1;

/// Reads a request.
pub(super) fn read(body: &[u8], numbers: Numbers) -> Result<Messages, BadBody> {
    let mut messages = Messages::default();
    let mut fields = Fields { rest: body };
    while let Some((number, value)) = fields.next()? {
        if let (MESSAGES, Some(bytes)) = (number, value) {
            message(bytes, numbers, &mut messages)?;
        }
    }
    Ok(messages)
}

fn message(bytes: &[u8], numbers: Numbers, messages: &mut Messages) -> Result<(), BadBody> {
    let mut found = Message::default();
    let mut payload: &[u8] = &[];
    let mut fields = Fields { rest: bytes };
    while let Some((number, value)) = fields.next()? {
        // A field whose bytes are not of its type is as good as unknown.
        let Some(value) = value else { continue };
        if number == COMMAND {
            text(value)?;
        } else if Some(number) == numbers.broker {
            found.broker = text(value)?.into();
        } else if number == numbers.topics {
            messages.topic(&mut found, text(value)?)?;
        } else if number == numbers.payload {
            payload = value;
        }
    }
    found.payload = Bytes::copy_from_slice(payload);
    messages.push(found);
    Ok(())
}

fn text(bytes: &[u8]) -> Result<&str, BadBody> {
    std::str::from_utf8(bytes).map_err(|_| BadBody::Utf8)
}

/// A field's number, and its bytes if it is of a type that has some.
type Field<'a> = (u32, Option<&'a [u8]>);

/// The fields of one message, in the order of the wire.
struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    /// The next field.
    fn next(&mut self) -> Result<Option<Field<'a>>, BadBody> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let (number, kind) = self.tag()?;
        let value = match kind {
            Kind::Length => Some(self.length_delimited()?),
            Kind::GroupStart => {
                self.skip_group(number)?;
                None
            }
            Kind::GroupEnd => return Err(BadBody::Wire),
            Kind::Varint | Kind::Fixed64 | Kind::Fixed32 => {
                self.skip_scalar(kind)?;
                None
            }
        };
        Ok(Some((number, value)))
    }

    fn tag(&mut self) -> Result<(u32, Kind), BadBody> {
        let tag = self.varint()?;
        let kind = match tag & 7 {
            0 => Kind::Varint,
            1 => Kind::Fixed64,
            2 => Kind::Length,
            3 => Kind::GroupStart,
            4 => Kind::GroupEnd,
            5 => Kind::Fixed32,
            _ => return Err(BadBody::Wire),
        };
        match u32::try_from(tag >> 3) {
            Ok(number) if (1..1 << 29).contains(&number) => Ok((number, kind)),
            Ok(_) | Err(_) => Err(BadBody::Wire),
        }
    }

    fn varint(&mut self) -> Result<u64, BadBody> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = *self.take(1)?.first().ok_or(BadBody::Wire)?;
            if shift == 63 && byte > 1 {
                return Err(BadBody::Wire);
            }
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(BadBody::Wire)
    }

    fn length_delimited(&mut self) -> Result<&'a [u8], BadBody> {
        let length = self.varint()?;
        self.take(usize::try_from(length).map_err(|_| BadBody::Wire)?)
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], BadBody> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(BadBody::Wire)?;
        self.rest = rest;
        Ok(taken)
    }

    fn skip_scalar(&mut self, kind: Kind) -> Result<(), BadBody> {
        match kind {
            Kind::Varint => self.varint().map(|_| ()),
            Kind::Fixed64 => self.take(8).map(|_| ()),
            Kind::Fixed32 => self.take(4).map(|_| ()),
            Kind::Length => self.length_delimited().map(|_| ()),
            Kind::GroupStart | Kind::GroupEnd => Err(BadBody::Wire),
        }
    }

    /// Skips to the end of the group that has begun.
    fn skip_group(&mut self, number: u32) -> Result<(), BadBody> {
        let mut open = vec![number];
        while let Some(&innermost) = open.last() {
            let (number, kind) = self.tag()?;
            match kind {
                Kind::GroupStart if open.len() < GROUPS_MAX => open.push(number),
                Kind::GroupEnd if number == innermost => {
                    open.pop();
                }
                Kind::GroupStart | Kind::GroupEnd => return Err(BadBody::Wire),
                Kind::Varint | Kind::Fixed64 | Kind::Length | Kind::Fixed32 => {
                    self.skip_scalar(kind)?;
                }
            }
        }
        Ok(())
    }
}

/// How the bytes of a field are laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Varint,
    Fixed64,
    Length,
    GroupStart,
    GroupEnd,
    Fixed32,
}

#[cfg(test)]
mod tests {
    use super::super::messages::PUBLICATIONS_MAX;
    use super::*;

    /// A field of bytes, all lengths short.
    fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
        let mut out = vec![number << 3 | 2, u8::try_from(bytes.len()).unwrap()];
        assert!(bytes.len() < 128);
        out.extend_from_slice(bytes);
        out
    }

    #[track_caller]
    fn check(body: &[u8], numbers: Numbers, expected: &[(&str, &[&str], &str)]) {
        let found = read(body, numbers).unwrap().list;
        let found: Vec<_> = found
            .iter()
            .map(|it| {
                let topics: Vec<_> = it.topics.iter().map(|topic| &**topic).collect();
                (&*it.broker, topics, std::str::from_utf8(&it.payload).unwrap())
            })
            .collect();
        let expected: Vec<_> = expected
            .iter()
            .map(|(broker, topics, text)| (*broker, topics.to_vec(), *text))
            .collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn the_schema_says_which_number_is_what() {
        let message = [
            field(1, b"c"),
            field(2, b"two"),
            field(3, b"three"),
            field(3, b"again"),
            field(4, b"four"),
        ]
        .concat();
        let body = field(1, &message);
        check(&body, Numbers::CURRENT, &[("", &["two"], "again")]);
        check(&body, Numbers::WITH_BROKER, &[("two", &["three", "again"], "four")]);
    }

    #[test]
    fn fields_come_in_any_order_and_the_last_payload_counts() {
        let message = [field(3, b"x"), field(2, b"b"), field(3, b"y"), field(2, b"a")].concat();
        let body = [field(1, &message), field(1, &field(2, b"c"))].concat();
        check(&body, Numbers::CURRENT, &[("", &["b", "a"], "y"), ("", &["c"], "")]);
    }

    #[test]
    fn unknown_fields_of_every_type_are_skipped() {
        let unknown: [&[u8]; 7] = [
            b"\x38\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
            b"\x39\x01\x02\x03\x04\x05\x06\x07\x08",
            b"\x3a\x02hi",
            b"\x3b\x08\x01\x43\x44\x12\x01x\x3c",
            b"\x3d\x01\x02\x03\x04",
            // Known numbers with other types.
            b"\x10\x05",
            b"\x18\x05",
        ];
        for skipped in unknown {
            let message = [skipped, &field(2, b"a"), skipped, &field(3, b"p"), skipped].concat();
            let body = [skipped, &field(1, &message), skipped].concat();
            check(&body, Numbers::CURRENT, &[("", &["a"], "p")]);
        }
    }

    #[test]
    fn what_is_no_protobuf_is_refused() {
        let bodies: [&[u8]; 12] = [
            b"\x0a",
            b"\x0a\xff",
            b"\x0a\x02\x12",
            b"\x0a\x02\x12\x05",
            b"\x00",
            b"\x0c",
            b"\x0e",
            b"\x0b\x14",
            b"\x0b",
            b"\x08",
            b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02",
            b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
        ];
        for body in bodies {
            assert_eq!(read(body, Numbers::CURRENT).unwrap_err(), BadBody::Wire, "{body:02x?}");
        }
        for numbers in [Numbers::CURRENT, Numbers::WITH_BROKER] {
            for number in 1..=3 {
                let body = field(1, &field(number, b"\xff"));
                let is_text = matches!((number, numbers.broker), (1 | 2, _) | (_, Some(_)));
                assert_eq!(read(&body, numbers).is_err(), is_text, "{number} {numbers:?}");
            }
        }
    }

    #[test]
    fn groups_are_skipped_down_to_their_limit() {
        let nested = |depth: usize| {
            let mut body = vec![0x3b; depth];
            body.extend(std::iter::repeat_n(0x3c, depth));
            read(&body, Numbers::CURRENT).is_ok()
        };
        assert!(nested(GROUPS_MAX));
        assert!(!nested(GROUPS_MAX + 1));
    }

    #[test]
    fn a_request_asks_for_a_bounded_number_of_publications() {
        let one = field(1, &[field(2, b"a"), field(2, b"b")].concat());
        let most = one.repeat(PUBLICATIONS_MAX / 2);
        assert_eq!(read(&most, Numbers::CURRENT).unwrap().list.len(), PUBLICATIONS_MAX / 2);
        let more = [most, field(1, &field(2, b"c"))].concat();
        assert_eq!(read(&more, Numbers::CURRENT).unwrap_err(), BadBody::TooMany);
    }

    #[test]
    fn messages_that_go_nowhere_cost_nothing_but_a_count() {
        let one = field(1, &[field(2, b""), field(3, b"x")].concat());
        let messages = read(&one.repeat(10_000), Numbers::CURRENT).unwrap();
        assert_eq!((messages.list.len(), messages.unnamed), (0, 10_000));
    }
}
