//! The head of one client frame: up to 14 bytes before the payload. Source: RFC 6455 5.2. Keeps no state.

use super::violation::Violation;

/// The longest head: two bytes, a length of eight, a mask of four.
pub(super) const HEAD_BYTES_MAX: usize = 14;

/// The longest payload of a control frame (RFC 6455 5.5). Units: bytes.
const CONTROL_BYTES_MAX: u64 = 125;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Continuation,
    Text,
    Binary,
    Close,
    Ping,
    Pong,
}

impl Kind {
    pub(super) const fn is_control(self) -> bool {
        match self {
            Self::Close | Self::Ping | Self::Pong => true,
            Self::Continuation | Self::Text | Self::Binary => false,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) kind: Kind,
    /// The last frame of its message.
    pub(super) last: bool,
    pub(super) mask: [u8; 4],
    /// Announced, not yet believed. Units: bytes.
    pub(super) length: u64,
}

/// Reads a head from the start of `bytes`, with the number of bytes it took; nothing, if bytes are missing.
///
/// What is wrong is said as soon as the byte that shows it is there, so that the answer does not depend on how the
/// bytes arrive.
pub(super) fn parse(bytes: &[u8]) -> Result<Option<(Head, usize)>, Violation> {
    let Some((&first, bytes)) = bytes.split_first() else { return Ok(None) };
    let (kind, last) = parse_first(first)?;
    let Some((&second, bytes)) = bytes.split_first() else { return Ok(None) };
    if second & 0x80 == 0 {
        return Err(Violation::Unmasked);
    }
    let short = u64::from(second & 0x7f);
    if kind.is_control() && short > CONTROL_BYTES_MAX {
        return Err(Violation::LongControl);
    }
    let (length, bytes, used) = match short {
        126 => {
            let Some((length, bytes)) = bytes.split_first_chunk() else { return Ok(None) };
            (u64::from(u16::from_be_bytes(*length)), bytes, 4)
        }
        127 => {
            let Some((length, bytes)) = bytes.split_first_chunk() else { return Ok(None) };
            (u64::from_be_bytes(*length), bytes, 10)
        }
        _ => (short, bytes, 2),
    };
    if length >> 63 != 0 {
        return Err(Violation::LengthOverflow);
    }
    if (short == 126 && length < 126) || (short == 127 && length <= u64::from(u16::MAX)) {
        return Err(Violation::LengthNotShortest);
    }
    let Some((&mask, _)) = bytes.split_first_chunk() else { return Ok(None) };
    Ok(Some((Head { kind, last, mask, length }, used + mask.len())))
}

fn parse_first(byte: u8) -> Result<(Kind, bool), Violation> {
    if byte & 0x70 != 0 {
        return Err(Violation::ReservedBits);
    }
    let last = byte & 0x80 != 0;
    let kind = match byte & 0x0f {
        0 => Kind::Continuation,
        1 => Kind::Text,
        2 => Kind::Binary,
        8 => Kind::Close,
        9 => Kind::Ping,
        10 => Kind::Pong,
        _ => return Err(Violation::UnknownOpcode),
    };
    if kind.is_control() && !last {
        return Err(Violation::FragmentedControl);
    }
    Ok((kind, last))
}

/// Takes the mask off `bytes` and turns `mask` on, so that the next call continues where this one ended.
pub(super) fn unmask(mask: &mut [u8; 4], bytes: &mut [u8]) {
    let four = u32::from_ne_bytes(*mask);
    let eight = (u64::from(four) << 32) | u64::from(four);
    let (words, rest) = bytes.as_chunks_mut::<8>();
    for word in words {
        *word = (u64::from_ne_bytes(*word) ^ eight).to_ne_bytes();
    }
    for (byte, key) in rest.iter_mut().zip(mask.iter().cycle()) {
        *byte ^= key;
    }
    mask.rotate_left(rest.len() % 4);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(bytes: &[u8], expected: Result<Option<(Kind, bool, u64, usize)>, Violation>) {
        let parsed = parse(bytes)
            .map(|found| found.map(|(head, used)| (head.kind, head.last, head.length, used)));
        assert_eq!(parsed, expected);
    }

    #[test]
    fn every_form_of_length_is_read() {
        check(&[0x81, 0x80, 1, 2, 3, 4], Ok(Some((Kind::Text, true, 0, 6))));
        check(&[0x02, 0xfd, 1, 2, 3, 4], Ok(Some((Kind::Binary, false, 125, 6))));
        check(&[0x80, 0xfe, 0, 126, 1, 2, 3, 4], Ok(Some((Kind::Continuation, true, 126, 8))));
        let largest = [0x82, 0xff, 0x7f, 255, 255, 255, 255, 255, 255, 255, 1, 2, 3, 4];
        check(&largest, Ok(Some((Kind::Binary, true, u64::MAX >> 1, 14))));
    }

    #[test]
    fn a_missing_byte_is_waited_for() {
        let whole = [0x82, 0xff, 0, 0, 0, 0, 0, 1, 0, 0, 1, 2, 3, 4];
        for count in 0..whole.len() {
            check(&whole[..count], Ok(None));
        }
        check(&whole, Ok(Some((Kind::Binary, true, 65_536, 14))));
    }

    #[test]
    fn each_broken_rule_shows_at_its_own_byte() {
        for reserved in [0x40, 0x20, 0x10] {
            check(&[0x81 | reserved], Err(Violation::ReservedBits));
        }
        for opcode in [3, 4, 5, 6, 7, 11, 12, 13, 14, 15] {
            check(&[0x80 | opcode], Err(Violation::UnknownOpcode));
        }
        check(&[0x09], Err(Violation::FragmentedControl));
        check(&[0x81, 0x05], Err(Violation::Unmasked));
        check(&[0x89, 0xfe], Err(Violation::LongControl));
        check(&[0x89, 0xff], Err(Violation::LongControl));
        check(&[0x81, 0xfe, 0, 125], Err(Violation::LengthNotShortest));
        check(&[0x81, 0xff, 0, 0, 0, 0, 0, 0, 255, 255], Err(Violation::LengthNotShortest));
        check(&[0x81, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 0], Err(Violation::LengthOverflow));
    }

    #[test]
    fn a_mask_taken_off_in_pieces_is_the_mask_taken_off_at_once() {
        let plain: Vec<u8> = (0..=255).collect();
        let key = [0x37, 0xfa, 0x21, 0x3d];
        let masked: Vec<u8> =
            plain.iter().enumerate().map(|(at, byte)| byte ^ key[at % 4]).collect();
        for cut in 0..plain.len() {
            let mut bytes = masked.clone();
            let mut mask = key;
            let (left, right) = bytes.split_at_mut(cut);
            unmask(&mut mask, left);
            unmask(&mut mask, right);
            assert_eq!(bytes, plain);
        }
    }
}
