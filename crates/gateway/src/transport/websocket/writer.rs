//! Writes server frames, RFC 6455: never masked, never fragmented. Control frames are bounded as the RFC wants.

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opcode {
    /// UTF-8 text.
    Text,
    /// Bytes.
    Binary,
    /// The end.
    Close,
    /// A question that wants a pong.
    Ping,
    /// The answer to a ping.
    Pong,
}

impl Opcode {
    /// The first byte of a frame that is its message's only one.
    const fn first_byte(self) -> u8 {
        match self {
            Self::Text => 0x81,
            Self::Binary => 0x82,
            Self::Close => 0x88,
            Self::Ping => 0x89,
            Self::Pong => 0x8a,
        }
    }
}

/// The longest payload of a control frame (RFC 6455 5.5). Units: bytes.
pub const CONTROL_BYTES_MAX: usize = 125;

/// The longest reason of a Close frame: two bytes are its code. Units: bytes.
pub const REASON_BYTES_MAX: usize = CONTROL_BYTES_MAX - 2;

/// Appends the header of a frame whose payload has `length` bytes.
pub fn write_header(opcode: Opcode, length: usize, out: &mut Vec<u8>) {
    out.push(opcode.first_byte());
    if let (Ok(short), 0..126) = (u8::try_from(length), length) {
        out.push(short);
    } else if let Ok(medium) = u16::try_from(length) {
        out.push(126);
        out.extend_from_slice(&medium.to_be_bytes());
    } else {
        out.push(127);
        out.extend_from_slice(&(length as u64).to_be_bytes());
    }
}

/// Appends a whole data frame.
pub fn write_message(text: bool, payload: &[u8], out: &mut Vec<u8>) {
    let opcode = if text { Opcode::Text } else { Opcode::Binary };
    out.reserve(payload.len() + 10);
    write_header(opcode, payload.len(), out);
    out.extend_from_slice(payload);
}

/// Appends a pong. Bounds: 125 bytes of the payload, all that a ping can have.
pub fn write_pong(payload: &[u8], out: &mut Vec<u8>) {
    write_control(Opcode::Pong, payload, out);
}

/// Appends a ping. Bounds: 125 bytes of the payload.
pub fn write_ping(payload: &[u8], out: &mut Vec<u8>) {
    write_control(Opcode::Ping, payload, out);
}

/// Appends a Close frame. Bounds: the reason is cut to [`REASON_BYTES_MAX`], between two characters.
pub fn write_close(code: u16, reason: &str, out: &mut Vec<u8>) {
    let reason = reason.get(..reason.floor_char_boundary(REASON_BYTES_MAX)).unwrap_or_default();
    write_header(Opcode::Close, reason.len() + 2, out);
    out.extend_from_slice(&code.to_be_bytes());
    out.extend_from_slice(reason.as_bytes());
}

/// Appends a Close frame without a code, the answer to one that has none.
pub fn write_bare_close(out: &mut Vec<u8>) {
    write_header(Opcode::Close, 0, out);
}

fn write_control(opcode: Opcode, payload: &[u8], out: &mut Vec<u8>) {
    let payload = payload.get(..CONTROL_BYTES_MAX).unwrap_or(payload);
    write_header(opcode, payload.len(), out);
    out.extend_from_slice(payload);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(write: impl FnOnce(&mut Vec<u8>), expected: &[u8]) {
        let mut out = Vec::new();
        write(&mut out);
        assert_eq!(out, expected);
    }

    #[test]
    fn headers_have_the_shortest_form() {
        check(|out| write_header(Opcode::Text, 0, out), &[0x81, 0]);
        check(|out| write_header(Opcode::Binary, 125, out), &[0x82, 125]);
        check(|out| write_header(Opcode::Text, 126, out), &[0x81, 126, 0, 126]);
        check(|out| write_header(Opcode::Text, 65_535, out), &[0x81, 126, 255, 255]);
        check(|out| write_header(Opcode::Text, 65_536, out), &[0x81, 127, 0, 0, 0, 0, 0, 1, 0, 0]);
        check(|out| write_message(true, b"hi", out), &[0x81, 2, b'h', b'i']);
    }

    #[test]
    fn control_frames_hold_at_most_125_bytes() {
        check(|out| write_pong(b"x", out), &[0x8a, 1, b'x']);
        check(|out| write_ping(b"", out), &[0x89, 0]);
        check(|out| write_pong(&[7; 200], out), &[&[0x8a, 125][..], &[7; 125]].concat());
        check(write_bare_close, &[0x88, 0]);
    }

    #[test]
    fn a_long_reason_is_cut_between_characters() {
        check(|out| write_close(4001, "no", out), &[0x88, 4, 0x0f, 0xa1, b'n', b'o']);
        let reason = format!("{}é", "x".repeat(122));
        let cut = "x".repeat(122);
        check(
            |out| write_close(1000, &reason, out),
            &[&[0x88, 124, 0x03, 0xe8][..], cut.as_bytes()].concat(),
        );
    }
}
