//! WebSocket frames as the load generator needs them: headers of what comes in, masked frames for what goes out, and
//! the marker that carries a sequence number and the intended time. Pure; parses in place and copies nothing.

use roomcast_client::wire::{self, Outgoing};
use roomcast_client::{Format, PublishOptions};
use serde_json::{Value, json};

use crate::failure::Failure;

/// Opcodes of RFC 6455 5.2.
pub(crate) const TEXT: u8 = 1;
/// See [`TEXT`].
pub(crate) const BINARY: u8 = 2;
/// See [`TEXT`].
pub(crate) const CLOSE: u8 = 8;
/// See [`TEXT`].
pub(crate) const PING: u8 = 9;
/// See [`TEXT`].
pub(crate) const PONG: u8 = 10;

/// Largest frame a node sends here; more means that the stream was misread.
const FRAME_BYTES_MAX: usize = 16 << 20;

/// A load generator's frames need no secret mask, only a mask: the node must do the same work for any.
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// The beginning of a buffer, seen as a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Parsed {
    /// A whole frame is there.
    Whole {
        /// What it is.
        opcode: u8,
        /// Bytes of its header.
        head: usize,
        /// Bytes of its payload.
        length: usize,
    },
    /// More bytes are needed.
    Partial,
    /// No frame of a server.
    Bad(&'static str),
}

/// Looks at the beginning of `bytes`.
pub(crate) fn parse(bytes: &[u8]) -> Parsed {
    let [first, second, rest @ ..] = bytes else { return Parsed::Partial };
    if first & 0x70 != 0 {
        return Parsed::Bad("reserved bits are set");
    }
    if second & 0x80 != 0 {
        return Parsed::Bad("a frame of the server is masked");
    }
    let (head, length) = match second & 0x7f {
        126 => match rest.first_chunk::<2>() {
            Some(length) => (4, usize::from(u16::from_be_bytes(*length))),
            None => return Parsed::Partial,
        },
        127 => match rest.first_chunk::<8>() {
            Some(length) => {
                (10, usize::try_from(u64::from_be_bytes(*length)).unwrap_or(usize::MAX))
            }
            None => return Parsed::Partial,
        },
        short => (2, usize::from(short)),
    };
    if length > FRAME_BYTES_MAX {
        return Parsed::Bad("a frame is longer than 16 MiB");
    }
    if bytes.len() < head + length {
        return Parsed::Partial;
    }
    Parsed::Whole { opcode: first & 0x0f, head, length }
}

/// Appends a masked frame.
pub(crate) fn append_masked(out: &mut Vec<u8>, opcode: u8, payload: &[u8]) {
    out.push(0x80 | opcode);
    if let (Ok(short), true) = (u8::try_from(payload.len()), payload.len() < 126) {
        out.push(0x80 | short);
    } else if let Ok(medium) = u16::try_from(payload.len()) {
        out.push(0x80 | 126);
        out.extend_from_slice(&medium.to_be_bytes());
    } else {
        out.push(0x80 | 127);
        out.extend_from_slice(&(payload.len() as u64).to_be_bytes());
    }
    out.extend_from_slice(&MASK);
    out.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
}

/// Appends one message of the client as a frame of its format.
pub(crate) fn append_message(
    out: &mut Vec<u8>,
    format: Format,
    message: &Outgoing<'_>,
) -> Result<(), Failure> {
    append_masked(out, data_opcode(format), &wire::encode(format, message)?);
    Ok(())
}

/// The opcode of a format's frames.
pub(crate) const fn data_opcode(format: Format) -> u8 {
    match format {
        Format::Json => TEXT,
        Format::MessagePack => BINARY,
    }
}

/// Sequence number and intended time, as every format carries them unchanged: 21 ASCII characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    /// Number of the publication in its room, from 1.
    pub(crate) sequence: u32,
    /// When it was meant to be published. Units: nanoseconds of [`super::clock::now_ns`].
    pub(crate) intended_ns: u64,
}

/// Bytes of a written [`Mark`], its tag included.
pub(crate) const MARK_BYTES: usize = 21;

/// Begins the mark in a publication's payload.
pub(crate) const DATA_TAG: u8 = b'#';

/// Begins the mark that is a publication's id, which its ack names.
pub(crate) const ID_TAG: u8 = b'~';

impl Mark {
    /// As it stands in a payload.
    pub(crate) fn write(self, tag: u8) -> [u8; MARK_BYTES] {
        let mut text = [tag; MARK_BYTES];
        let digits = (u128::from(self.sequence) << 48) | u128::from(self.intended_ns);
        let mut shift = 80;
        for digit in text.iter_mut().skip(1) {
            shift -= 4;
            let value = u8::try_from((digits >> shift) & 0xf).unwrap_or(0);
            *digit = if value < 10 { b'0' + value } else { b'a' + value - 10 };
        }
        text
    }

    fn read(text: &[u8; MARK_BYTES]) -> Option<Self> {
        let (sequence, intended) = text.get(1..)?.split_at_checked(8)?;
        let number = |digits: &[u8]| {
            digits.iter().try_fold(0_u64, |number, digit| {
                let value = match digit {
                    b'0'..=b'9' => digit - b'0',
                    b'a'..=b'f' => digit - b'a' + 10,
                    _ => return None,
                };
                Some((number << 4) | u64::from(value))
            })
        };
        let sequence = u32::try_from(number(sequence)?).ok()?;
        Some(Self { sequence, intended_ns: number(intended)? })
    }
}

/// Finds marks; frames of a run are alike, so that the last place is nearly always the next one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Finder {
    tag: u8,
    at: usize,
}

impl Finder {
    /// Of marks that begin with `tag`.
    pub(crate) const fn new(tag: u8) -> Self {
        Self { tag, at: 0 }
    }

    /// The mark in a payload.
    pub(crate) fn find(&mut self, payload: &[u8]) -> Option<Mark> {
        if let Some(mark) = self.read_at(payload, self.at) {
            return Some(mark);
        }
        let places = payload.iter().enumerate().filter(|(_, byte)| **byte == self.tag);
        for (at, _) in places {
            if let Some(mark) = self.read_at(payload, at) {
                self.at = at;
                return Some(mark);
            }
        }
        None
    }

    fn read_at(&self, payload: &[u8], at: usize) -> Option<Mark> {
        let text = payload.get(at..)?.first_chunk::<MARK_BYTES>()?;
        if text.first() == Some(&self.tag) { Mark::read(text) } else { None }
    }
}

/// The number of an event of the chat dialect, as text; it stands near the beginning.
pub(crate) fn event_number(payload: &[u8]) -> Option<&[u8]> {
    const NAME: &[u8] = b",\"id\":";
    let head = payload.get(..payload.len().min(96))?;
    let begin = head.windows(NAME.len()).position(|window| window == NAME)? + NAME.len();
    let digits = payload.get(begin..)?;
    let end = digits.iter().position(|digit| !digit.is_ascii_digit())?;
    digits.get(..end).filter(|digits| !digits.is_empty())
}

/// A prepared publication, of which only the marks change.
#[derive(Clone, Debug)]
pub(crate) struct Template {
    opcode: u8,
    payload: Vec<u8>,
    marks: Vec<(usize, u8)>,
}

/// What a publication of the load generator looks like.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape<'a> {
    /// How it is written.
    pub(crate) format: Format,
    /// Its room.
    pub(crate) room: &'a str,
    /// Whether it asks for an ack.
    pub(crate) ack: bool,
    /// Filler in its payload. Units: bytes.
    pub(crate) pad: usize,
}

impl Template {
    /// Prepares a publication for the native dialect.
    pub(crate) fn publication(shape: Shape<'_>) -> Result<Self, Failure> {
        let mark = Mark { sequence: 0, intended_ns: 0 };
        let text = |tag| String::from_utf8_lossy(&mark.write(tag)).into_owned();
        let (id, number) = (text(ID_TAG), text(DATA_TAG));
        let mut data = json!({ "n": number });
        if let (Value::Object(data), true) = (&mut data, shape.pad > 0) {
            data.insert("pad".into(), Value::from("x".repeat(shape.pad)));
        }
        let options = PublishOptions { ack: shape.ack, ..PublishOptions::default() };
        let message = Outgoing::publication(&id, shape.room, "bench", &data, &options);
        let payload = wire::encode(shape.format, &message)?.to_vec();
        Ok(Self::new(data_opcode(shape.format), payload))
    }

    /// Prepares a message for a chat.
    pub(crate) fn chat(chat: &str, pad: usize) -> Self {
        let mark = Mark { sequence: 0, intended_ns: 0 };
        let text = |tag| String::from_utf8_lossy(&mark.write(tag)).into_owned();
        let (id, number) = (text(ID_TAG), text(DATA_TAG));
        let message = number + &"x".repeat(pad);
        let payload = json!({ "chatId": chat, "clientMessageId": id, "message": message });
        let request = json!({
            "type": "request", "timestamp": 0, "id": id, "payloadType": "new", "payload": payload,
        });
        Self::new(TEXT, request.to_string().into_bytes())
    }

    /// Prepares the frame of the bare loop: a mark and filler.
    pub(crate) fn bare(bytes: usize) -> Self {
        let mut payload = Mark { sequence: 0, intended_ns: 0 }.write(DATA_TAG).to_vec();
        payload.resize(bytes.max(MARK_BYTES), b'x');
        Self::new(TEXT, payload)
    }

    fn new(opcode: u8, payload: Vec<u8>) -> Self {
        let marks = payload
            .iter()
            .enumerate()
            .filter(|(at, tag)| {
                matches!(**tag, DATA_TAG | ID_TAG)
                    && Finder::new(**tag).read_at(&payload, *at).is_some()
            })
            .map(|(at, tag)| (at, *tag))
            .collect();
        Self { opcode, payload, marks }
    }

    /// Appends the publication with these marks, masked.
    pub(crate) fn append(&mut self, mark: Mark, out: &mut Vec<u8>) {
        self.stamp(mark);
        append_masked(out, self.opcode, &self.payload);
    }

    /// Appends it as a server would send it.
    pub(crate) fn append_unmasked(&mut self, mark: Mark, out: &mut Vec<u8>) {
        self.stamp(mark);
        let mut masked = Vec::with_capacity(self.payload.len() + 14);
        append_masked(&mut masked, self.opcode, &self.payload);
        // Only the header differs: no mask bit, no key.
        let head = masked.len() - self.payload.len() - MASK.len();
        out.extend(
            masked.iter().take(head).enumerate().map(
                |(at, byte)| {
                    if at == 1 { byte & 0x7f } else { *byte }
                },
            ),
        );
        out.extend_from_slice(&self.payload);
    }

    fn stamp(&mut self, mark: Mark) {
        for (at, tag) in &self.marks {
            if let Some(place) = self.payload.get_mut(*at..*at + MARK_BYTES) {
                place.copy_from_slice(&mark.write(*tag));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MARKS: [Mark; 3] = [
        Mark { sequence: 0, intended_ns: 0 },
        Mark { sequence: 1, intended_ns: 0x0123_4567_89ab },
        Mark { sequence: u32::MAX, intended_ns: (1 << 48) - 1 },
    ];

    #[test]
    fn the_number_of_an_event_is_found_near_its_beginning() {
        let event =
            br#"{"type":"event","timestamp":1700300000000,"id":4398046511127,"eventType":"new"}"#;
        assert_eq!(event_number(event), Some(&b"4398046511127"[..]));
        assert_eq!(event_number(br#"{"type":"event","timestamp":17,"eventType":"typing"}"#), None);
    }

    #[test]
    fn marks_survive_writing_and_reading() {
        for mark in MARKS {
            assert_eq!(Mark::read(&mark.write(DATA_TAG)), Some(mark));
        }
        assert_eq!(Mark::read(b"#0123456789abcdefXXXX"), None);
    }

    #[test]
    fn a_mark_is_found_wherever_it_moves() {
        let mut finder = Finder::new(DATA_TAG);
        for mark in MARKS {
            for before in ["", "a # b", "##"] {
                let mut payload = before.as_bytes().to_vec();
                payload.extend_from_slice(&mark.write(DATA_TAG));
                payload.extend_from_slice(b"\"}");
                assert_eq!(finder.find(&payload), Some(mark), "{before}");
            }
        }
        assert_eq!(finder.find(b"{\"type\":\"pong\"}"), None);
    }

    #[test]
    fn frames_are_seen_whole_partial_or_bad() {
        assert_eq!(parse(b"\x81"), Parsed::Partial);
        assert_eq!(parse(b"\x81\x02a"), Parsed::Partial);
        assert_eq!(parse(b"\x81\x02ab"), Parsed::Whole { opcode: TEXT, head: 2, length: 2 });
        assert_eq!(parse(b"\x81\x7e\x00"), Parsed::Partial);
        assert!(matches!(parse(b"\x81\x82abcdxx"), Parsed::Bad(_)));
        assert!(matches!(parse(b"\xc1\x02ab"), Parsed::Bad(_)));
        assert!(matches!(parse(b"\x82\x7f\xff\xff\xff\xff\xff\xff\xff\xff"), Parsed::Bad(_)));
    }

    #[test]
    fn a_bare_frame_of_200_bytes_is_204_on_the_wire() {
        let mut out = Vec::new();
        Template::bare(200).append_unmasked(MARKS[1], &mut out);
        assert_eq!(out.len(), 204);
        assert_eq!(parse(&out), Parsed::Whole { opcode: TEXT, head: 4, length: 200 });
        assert_eq!(Finder::new(DATA_TAG).find(&out[4..]), Some(MARKS[1]));
    }

    #[test]
    fn a_publication_carries_its_mark_as_id_and_as_payload_in_both_formats() {
        for format in [Format::Json, Format::MessagePack] {
            let shape = Shape { format, room: "task-1", ack: true, pad: 10 };
            let mut template = Template::publication(shape).unwrap();
            let mut out = Vec::new();
            template.append(MARKS[1], &mut out);
            let mask_at = out.len() - template.payload.len() - 4;
            let mask = out[mask_at..mask_at + 4].to_vec();
            let payload: Vec<u8> =
                out[mask_at + 4..].iter().zip(mask.iter().cycle()).map(|(b, m)| b ^ m).collect();
            assert_eq!(payload, template.payload);
            for tag in [DATA_TAG, ID_TAG] {
                assert_eq!(Finder::new(tag).find(&payload), Some(MARKS[1]), "{format:?}");
            }
            let message: Value = match format {
                Format::Json => serde_json::from_slice(&payload).unwrap(),
                Format::MessagePack => continue,
            };
            assert_eq!(message["requiresAck"], true);
            assert_eq!(message["data"]["pad"], "xxxxxxxxxx");
        }
    }
}
