//! Goridge frames of version 3 that carry a call or an answer. Owns the header and its checks; never looks into a body.

use flate2::Crc;

/// Longest payload of a frame, method and body together. Units: bytes.
pub const PAYLOAD_BYTES_MAX: usize = 1 << 20;

/// Longest frame. Units: bytes.
pub const FRAME_BYTES_MAX: usize = HEADER_BYTES + PAYLOAD_BYTES_MAX;

/// A header with its two options. Units: bytes.
const HEADER_BYTES: usize = 20;

/// Version 1 in the high half; in the low one the header's length in words of four bytes.
const FIRST: u8 = 0x15;

/// Words of a header without options.
const WORDS_MIN: u8 = 3;

/// Options that a header may have at most.
const OPTIONS_MAX: u8 = 10;

/// Memory that a reader keeps between frames. Units: bytes.
const KEPT_BYTES_MAX: usize = 64 << 10;

/// One call, or one answer: both look the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// Bits of [`super::flags`].
    pub flags: u8,
    /// The caller's number for it.
    pub seq: u32,
    /// The method's name.
    pub method: &'a [u8],
    /// What is called with, or answered.
    pub body: &'a [u8],
}

/// What no frame of a call is: the connection is dropped, and nothing is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadFrame {
    /// Another version than 1.
    Version,
    /// A header shorter than headers are, or with more than ten options.
    HeaderLength,
    /// Not the two options of a call: number and length of the method's name.
    Options,
    /// The sum over the header is wrong.
    Crc,
    /// The payload is over [`PAYLOAD_BYTES_MAX`].
    TooLarge,
    /// The method's name is longer than the payload.
    Method,
}

impl BadFrame {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Version, Self::HeaderLength, Self::Options, Self::Crc, Self::TooLarge, Self::Method];

    /// Its name in metrics and logs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Version => "version",
            Self::HeaderLength => "header_length",
            Self::Options => "options",
            Self::Crc => "crc",
            Self::TooLarge => "too_large",
            Self::Method => "method",
        }
    }
}

impl Frame<'_> {
    /// Appends its bytes. A payload over 4 GiB, which no caller has, would be cut.
    pub fn write(&self, out: &mut Vec<u8>) {
        let payload_bytes = self.method.len() + self.body.len();
        out.reserve(HEADER_BYTES + payload_bytes);
        let start = out.len();
        out.extend_from_slice(&[FIRST, self.flags]);
        out.extend_from_slice(&word(payload_bytes));
        let sum = out.get(start..).map_or(0, crc);
        out.extend_from_slice(&sum.to_le_bytes());
        out.extend_from_slice(&[0, 0]);
        out.extend_from_slice(&self.seq.to_le_bytes());
        out.extend_from_slice(&word(self.method.len()));
        out.extend_from_slice(self.method);
        out.extend_from_slice(self.body);
    }
}

fn word(length: usize) -> [u8; 4] {
    debug_assert!(u32::try_from(length).is_ok(), "a payload of {length} bytes");
    u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes()
}

/// The sum over the first six bytes of a header.
fn crc(header: &[u8]) -> u32 {
    let mut crc = Crc::new();
    crc.update(header);
    crc.sum()
}

/// Reads the frames of one connection, out of pieces of any size.
///
/// Bounds: where all whole frames are taken before the next piece is pushed, it holds less than [`FRAME_BYTES_MAX`]
/// and that piece.
#[derive(Debug, Default)]
pub struct Reader {
    buffer: Vec<u8>,
    /// Up to here the buffer has been read.
    taken: usize,
}

impl Reader {
    /// At the start of a connection.
    #[must_use]
    pub const fn new() -> Self {
        Self { buffer: Vec::new(), taken: 0 }
    }

    /// Takes in what the socket brought.
    pub fn push(&mut self, piece: &[u8]) {
        self.buffer.drain(..self.taken);
        self.taken = 0;
        if self.buffer.is_empty() && self.buffer.capacity() > KEPT_BYTES_MAX {
            self.buffer = Vec::new();
        }
        self.buffer.extend_from_slice(piece);
    }

    /// The next whole frame; `None`: more must come first.
    ///
    /// # Errors
    /// [`BadFrame`] as soon as the bytes that say so are there, and whenever it is asked from then on.
    pub fn frame(&mut self) -> Result<Option<Frame<'_>>, BadFrame> {
        let rest = self.buffer.get(self.taken..).unwrap_or_default();
        let Some((frame, bytes)) = read(rest)? else { return Ok(None) };
        self.taken += bytes;
        Ok(Some(frame))
    }

    /// How much it holds that has not been read. Units: bytes.
    #[must_use]
    pub const fn held_bytes(&self) -> usize {
        self.buffer.len() - self.taken
    }
}

/// The frame at the start, and its length.
fn read(bytes: &[u8]) -> Result<Option<(Frame<'_>, usize)>, BadFrame> {
    let Some(&first) = bytes.first() else { return Ok(None) };
    if first >> 4 != FIRST >> 4 {
        return Err(BadFrame::Version);
    }
    if !(WORDS_MIN..=WORDS_MIN + OPTIONS_MAX).contains(&(first & 0x0f)) {
        return Err(BadFrame::HeaderLength);
    }
    if first != FIRST {
        return Err(BadFrame::Options);
    }
    let (Some(summed), Some(sum)) = (bytes.get(..6), word_at(bytes, 6)) else { return Ok(None) };
    if crc(summed) != sum {
        return Err(BadFrame::Crc);
    }
    let Some(payload_bytes) = length_at(bytes, 2) else { return Ok(None) };
    if payload_bytes > PAYLOAD_BYTES_MAX {
        return Err(BadFrame::TooLarge);
    }
    let (Some(seq), Some(method_bytes)) = (word_at(bytes, 12), length_at(bytes, 16)) else {
        return Ok(None);
    };
    if method_bytes > payload_bytes {
        return Err(BadFrame::Method);
    }
    let frame_bytes = HEADER_BYTES + payload_bytes;
    let payload = bytes.get(HEADER_BYTES..frame_bytes);
    let Some((method, body)) = payload.and_then(|it| it.split_at_checked(method_bytes)) else {
        return Ok(None);
    };
    let flags = bytes.get(1).copied().unwrap_or_default();
    Ok(Some((Frame { flags, seq, method, body }, frame_bytes)))
}

fn word_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().copied().map(u32::from_le_bytes)
}

fn length_at(bytes: &[u8], at: usize) -> Option<usize> {
    word_at(bytes, at).map(|length| usize::try_from(length).unwrap_or(usize::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The header of a frame, with a sum that fits it.
    fn header(first: u8, payload_bytes: u32, method_bytes: u32) -> Vec<u8> {
        let mut bytes = vec![first, 0x80];
        bytes.extend_from_slice(&payload_bytes.to_le_bytes());
        bytes.extend_from_slice(&crc(&bytes).to_le_bytes());
        bytes.extend_from_slice(&[0, 0, 1, 0, 0, 0]);
        bytes.extend_from_slice(&method_bytes.to_le_bytes());
        bytes
    }

    /// What is known after so many bytes, and no earlier.
    #[track_caller]
    fn check_dropped(bytes: &[u8], after_bytes: usize, fault: BadFrame) {
        let mut reader = Reader::new();
        reader.push(&bytes[..after_bytes - 1]);
        assert_eq!(reader.frame(), Ok(None), "{fault:?}");
        reader.push(&bytes[after_bytes - 1..after_bytes]);
        assert_eq!(reader.frame(), Err(fault));
        reader.push(&header(FIRST, 0, 0));
        assert_eq!(reader.frame(), Err(fault), "it is dropped for good");
    }

    #[test]
    fn a_bad_frame_is_dropped_without_waiting_for_its_bytes() {
        check_dropped(&header(0x05, 0, 0), 1, BadFrame::Version);
        check_dropped(&header(0x25, 0, 0), 1, BadFrame::Version);
        check_dropped(&header(0x12, 0, 0), 1, BadFrame::HeaderLength);
        check_dropped(&header(0x13, 0, 0), 1, BadFrame::Options);
        check_dropped(&header(0x16, 0, 0), 1, BadFrame::Options);
        let mut wrong = header(FIRST, 0, 0);
        wrong[6] ^= 1;
        check_dropped(&wrong, 10, BadFrame::Crc);
        check_dropped(&header(FIRST, u32::MAX, 0), 10, BadFrame::TooLarge);
        check_dropped(&header(FIRST, 3, 4), 20, BadFrame::Method);
        check_dropped(&header(FIRST, 3, u32::MAX), 20, BadFrame::Method);
    }

    #[test]
    fn a_header_has_ten_options_at_most() {
        check_dropped(&header(0x1d, 0, 0), 1, BadFrame::Options);
        check_dropped(&header(0x1e, 0, 0), 1, BadFrame::HeaderLength);
    }

    #[test]
    fn the_longest_payload_passes_and_one_byte_more_is_dropped() {
        let most = u32::try_from(PAYLOAD_BYTES_MAX).unwrap();
        let mut reader = Reader::new();
        reader.push(&header(FIRST, most, 1));
        assert_eq!(reader.frame(), Ok(None));
        reader.push(&vec![b'x'; PAYLOAD_BYTES_MAX]);
        assert_eq!(reader.held_bytes(), FRAME_BYTES_MAX);
        let frame = reader.frame().unwrap().unwrap();
        assert_eq!((frame.method.len(), frame.body.len()), (1, PAYLOAD_BYTES_MAX - 1));
        assert_eq!(reader.held_bytes(), 0);
        check_dropped(&header(FIRST, most + 1, 0), 10, BadFrame::TooLarge);
    }

    #[test]
    fn a_reader_gives_the_memory_of_a_large_frame_back() {
        let mut reader = Reader::new();
        let body = vec![0; PAYLOAD_BYTES_MAX - 1];
        let mut bytes = Vec::new();
        Frame { flags: 0x80, seq: 1, method: b"m", body: &body }.write(&mut bytes);
        reader.push(&bytes);
        assert!(reader.frame().unwrap().is_some());
        reader.push(&bytes[..1]);
        assert!(reader.buffer.capacity() <= KEPT_BYTES_MAX);
    }

    #[test]
    fn every_reason_has_its_own_name() {
        for (index, one) in BadFrame::ALL.into_iter().enumerate() {
            assert!(BadFrame::ALL[index + 1..].iter().all(|other| other.name() != one.name()));
        }
    }
}
