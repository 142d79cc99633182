//! WebSocket data frames on their way out: payload and header in one buffer, so that one encoding serves every member.

/// One whole data message from a client, fragments already joined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// A text message (checked UTF-8), else a binary one.
    pub text: bool,
    /// Its payload.
    pub payload: &'a [u8],
}

/// Collects encoded frames, framing included.
///
/// Source: RFC 6455 5.2; frames from a server are never masked.
#[derive(Debug, Default)]
pub struct FrameSink {
    bytes: Vec<u8>,
}

/// Bytes of the header that payloads of 126 to 65,535 bytes get, the common case; others are moved once.
const HEADER_GUESS: usize = 4;

impl FrameSink {
    /// An empty collection.
    #[must_use]
    pub const fn new() -> Self {
        Self { bytes: Vec::new() }
    }

    /// Appends one text frame whose payload `write` appends. It must append UTF-8.
    pub fn text(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        self.frame(0x81, write);
    }

    /// Appends one binary frame whose payload `write` appends.
    pub fn binary(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        self.frame(0x82, write);
    }

    /// What was collected.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Takes what was collected.
    pub fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.bytes)
    }

    /// Empties it, keeping its allocation.
    pub fn clear(&mut self) {
        self.bytes.clear();
    }

    fn frame(&mut self, first: u8, write: impl FnOnce(&mut Vec<u8>)) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; HEADER_GUESS]);
        write(&mut self.bytes);
        let length = self.bytes.len() - start - HEADER_GUESS;
        let mut header = [first, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        let size = if let (Ok(short), true) = (u8::try_from(length), length < 126) {
            header[1] = short;
            2
        } else if let Ok(medium) = u16::try_from(length) {
            header[1] = 126;
            header[2..4].copy_from_slice(&medium.to_be_bytes());
            4
        } else {
            header[1] = 127;
            header[2..10].copy_from_slice(&(length as u64).to_be_bytes());
            10
        };
        self.bytes.splice(start..start + HEADER_GUESS, header.into_iter().take(size));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(length: usize, header: &[u8]) {
        let mut sink = FrameSink::new();
        sink.text(|out| out.extend(std::iter::repeat_n(b'x', length)));
        sink.binary(|out| out.push(b'y'));
        let bytes = sink.take();
        assert_eq!(&bytes[..header.len()], header);
        assert_eq!(&bytes[header.len()..header.len() + length], &vec![b'x'; length][..]);
        assert_eq!(&bytes[header.len() + length..], [0x82, 1, b'y']);
    }

    #[test]
    fn every_length_gets_its_shortest_header() {
        check(0, &[0x81, 0]);
        check(125, &[0x81, 125]);
        check(126, &[0x81, 126, 0, 126]);
        check(65_535, &[0x81, 126, 255, 255]);
        check(65_536, &[0x81, 127, 0, 0, 0, 0, 0, 1, 0, 0]);
    }
}
