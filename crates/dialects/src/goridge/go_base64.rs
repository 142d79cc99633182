//! Base64 as Go's JSON reads a field of bytes: line ends are skipped, bits behind the last byte may be anything, and
//! an error names the byte where Go sees it. Source: RFC 4648 4, and what the origin's server answered.

/// Decodes, or says at which byte it cannot.
pub(super) fn decode(text: &str) -> Result<Vec<u8>, usize> {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len() / 4 * 3);
    let mut symbols = bytes
        .iter()
        .enumerate()
        .filter(|(_, byte)| !matches!(byte, b'\r' | b'\n'))
        .map(|(at, byte)| (at, *byte));
    let (mut bits, mut held) = (0_u32, 0_usize);
    while let Some((at, byte)) = symbols.next() {
        if byte == b'=' {
            return end(&mut symbols, (at, bytes.len()), bits, held, out);
        }
        bits = bits << 6 | u32::from(sextet(byte).ok_or(at)?);
        held += 1;
        if held == 4 {
            let [_, whole @ ..] = bits.to_be_bytes();
            out.extend_from_slice(&whole);
            (bits, held) = (0, 0);
        }
    }
    // Without its padding the last quantum is no quantum: Go names its first byte.
    if held == 0 { Ok(out) } else { Err(bytes.len() - held) }
}

/// What the first padding at `at` ends.
fn end(
    symbols: &mut impl Iterator<Item = (usize, u8)>,
    (at, length): (usize, usize),
    bits: u32,
    held: usize,
    mut out: Vec<u8>,
) -> Result<Vec<u8>, usize> {
    match held {
        2 => match symbols.next() {
            Some((_, b'=')) => out.extend_from_slice(
                bits.wrapping_shl(20).to_be_bytes().get(..1).unwrap_or_default(),
            ),
            // Go's place: in front of what stands where the second padding should.
            Some((next, _)) => return Err(next - 1),
            None => return Err(length),
        },
        3 => {
            out.extend_from_slice(bits.wrapping_shl(14).to_be_bytes().get(..2).unwrap_or_default())
        }
        _ => return Err(at),
    }
    match symbols.next() {
        None => Ok(out),
        Some((behind, _)) => Err(behind),
    }
}

const fn sextet(byte: u8) -> Option<u8> {
    match byte {
        b'A'..=b'Z' => Some(byte - b'A'),
        b'a'..=b'z' => Some(byte - b'a' + 26),
        b'0'..=b'9' => Some(byte - b'0' + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_name_the_byte_that_go_names() {
        let cases: [(&str, Result<&[u8], usize>); 18] = [
            ("", Ok(b"")),
            ("aGk=", Ok(b"hi")),
            ("aA==", Ok(b"h")),
            ("aG==", Ok(b"h")),
            ("aG\nk=\r\n", Ok(b"hi")),
            ("aGVs", Ok(b"hel")),
            ("hello!", Err(5)),
            ("aGk", Err(0)),
            ("a", Err(0)),
            ("aGVsa", Err(4)),
            ("aGk==", Err(4)),
            ("aGk=x", Err(4)),
            ("=aGk", Err(0)),
            ("a=Gk", Err(1)),
            ("aG=k", Err(2)),
            ("aG=", Err(3)),
            ("aGVsbG8gaGVsbG8h!", Err(16)),
            ("aGVsbG8gaGVsbG8=!", Err(16)),
        ];
        for (text, expected) in cases {
            assert_eq!(decode(text), expected.map(<[u8]>::to_vec), "{text:?}");
        }
    }
}
