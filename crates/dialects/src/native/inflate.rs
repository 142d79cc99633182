//! `compressed` messages: the two forms that pako gives, inflated with a cap while they stream; and deflating for
//! clients that asked for it. What is inside is always the JSON text of one message. Source: the seed's
//! `compressMessage`; pako 1.x gives a string with one character per byte, pako 2.x an object of index to byte.

use std::io::{self, Write};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use flate2::write::ZlibEncoder;
use flate2::{Compression, Decompress, FlushDecompress, Status};
use roomcast_protocol::codes::{Close, Refused};
use roomcast_protocol::limits::DecodeLimits;

use super::fields::{bad_json, each_member, missing, schema, text};

/// Output up to this size may have any ratio to its input. Units: bytes.
const RATIO_FREE_BYTES: usize = 64 << 10;

/// How far the output buffer grows at once. Units: bytes.
const STEP_BYTES: usize = 16 << 10;

/// Why there is nothing inflated.
pub(super) enum Fault {
    /// Not zlib, cut off, damaged, or with something behind its end.
    Refused(Refused),
    /// Over a limit.
    Close(Close),
}

/// Reads the `data` of a `compressed` message: a binary string, an object of index to byte, or `{"base64": ..}`,
/// which is what MessagePack's bytes become.
pub(super) fn deflated_bytes(data: Option<&str>) -> Result<Vec<u8>, Refused> {
    const MUST_BE: &str = "what pako.deflate gave, a string or an object of bytes";
    let data = data.ok_or_else(|| missing("data", MUST_BE))?;
    if let Some(text) = text(data) {
        return text
            .chars()
            .map(u8::try_from)
            .collect::<Result<_, _>>()
            .map_err(|_| bad_json("data has a character above U+00FF: one per byte is meant"));
    }
    let mut bytes = Vec::new();
    let mut sound = true;
    let mut base64 = None;
    let is_object = each_member(data, |name, value| {
        if name == "base64" {
            base64 = text(value).and_then(|text| STANDARD.decode(text.as_bytes()).ok());
            sound &= base64.is_some();
        } else if let (Ok(index), Ok(byte)) = (name.parse::<usize>(), value.parse::<u8>()) {
            bytes.push((index, byte));
        } else {
            sound = false;
        }
    });
    if !is_object {
        return Err(schema(format!("data must be {MUST_BE}")));
    }
    // JavaScript writes them in order, maps of other languages need not.
    bytes.sort_unstable();
    sound &= bytes.iter().enumerate().all(|(place, (index, _))| place == *index);
    match base64 {
        Some(base64) if sound && bytes.is_empty() => Ok(base64),
        None if sound => Ok(bytes.into_iter().map(|(_, byte)| byte).collect()),
        Some(_) | None => Err(bad_json("data must have the bytes 0 to 255 at \"0\", \"1\", ..")),
    }
}

/// Inflates a whole zlib stream.
///
/// Bounds: `inflated_max` bytes; above 64 KiB also 100 times the input. Memory grows with the output, not with what
/// the input claims.
///
/// # Errors
/// A close over a bound, a refusal if it is not one whole, sound zlib stream.
pub(super) fn inflate(deflated: &[u8], inflated_max: usize) -> Result<Vec<u8>, Fault> {
    let by_ratio = deflated.len().saturating_mul(DecodeLimits::RATIO_MAX).max(RATIO_FREE_BYTES);
    let max = inflated_max.min(by_ratio);
    let not_zlib = |what: &'static str| Err(Fault::Refused(bad_json(what)));
    let mut stream = Decompress::new(true);
    let mut inflated = Vec::new();
    let mut rest = deflated;
    loop {
        inflated.reserve(STEP_BYTES.min(max.saturating_add(1) - inflated.len()));
        let before = stream.total_in();
        let Ok(status) = stream.decompress_vec(rest, &mut inflated, FlushDecompress::None) else {
            return not_zlib("data is not zlib, or its checksum is wrong");
        };
        let taken = usize::try_from(stream.total_in() - before).unwrap_or(usize::MAX);
        rest = rest.get(taken..).unwrap_or_default();
        if inflated.len() > max {
            return Err(Fault::Close(Close::TooLarge));
        }
        match status {
            Status::StreamEnd if rest.is_empty() => return Ok(inflated),
            Status::StreamEnd => {
                return not_zlib("data has bytes behind the end of its zlib stream");
            }
            Status::Ok | Status::BufError if inflated.len() < inflated.capacity() => {
                if taken == 0 {
                    return not_zlib("data is cut off: the zlib stream has no end");
                }
            }
            Status::Ok | Status::BufError => {}
        }
    }
}

/// Deflates at level 1, which is what is worth its time (`performance.md`, Codecs).
pub(super) fn deflate(plain: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = ZlibEncoder::new(Vec::with_capacity(plain.len() / 2), Compression::fast());
    stream.write_all(plain)?;
    stream.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn refused(deflated: &[u8], part: &str) {
        match inflate(deflated, 1 << 20) {
            Err(Fault::Refused(refused)) => assert!(refused.message.contains(part), "{refused:?}"),
            Err(Fault::Close(close)) => panic!("closed: {close:?}"),
            Ok(inflated) => panic!("inflated {} bytes", inflated.len()),
        }
    }

    fn closes(deflated: &[u8], inflated_max: usize) -> bool {
        matches!(inflate(deflated, inflated_max), Err(Fault::Close(Close::TooLarge)))
    }

    #[test]
    fn what_was_deflated_is_inflated() {
        for size in [0, 1, 1_000, 100_000] {
            let plain: Vec<u8> = (0..size).map(|n: u64| (n * n % 251) as u8).collect();
            let deflated = deflate(&plain).unwrap();
            assert!(inflate(&deflated, 100_000).is_ok_and(|inflated| inflated == plain));
        }
    }

    #[test]
    fn a_bomb_closes_at_the_cap_or_at_the_ratio() {
        let bomb = deflate(&vec![0; 10 << 20]).unwrap();
        assert!(closes(&bomb, 1 << 20), "the cap");
        assert!(closes(&bomb, usize::MAX - 1), "the ratio: {} bytes", bomb.len());
        let at_cap = deflate(&[7; 1_000]).unwrap();
        assert!(inflate(&at_cap, 1_000).is_ok());
        assert!(closes(&at_cap, 999));
        let high_ratio = deflate(&vec![0; RATIO_FREE_BYTES]).unwrap();
        assert!(high_ratio.len() * DecodeLimits::RATIO_MAX < RATIO_FREE_BYTES * 2);
        assert!(inflate(&high_ratio, 1 << 20).is_ok());
        assert!(closes(&deflate(&vec![0; RATIO_FREE_BYTES + 1]).unwrap(), 1 << 20));
    }

    #[test]
    fn damaged_streams_are_refused() {
        let good = deflate(&b"one message, twice one message".repeat(9)).unwrap();
        for cut in 0..good.len() {
            refused(&good[..cut], "cut off");
        }
        let mut checksum = good.clone();
        *checksum.last_mut().unwrap() ^= 1;
        refused(&checksum, "checksum");
        refused(&[&good[..], b"x"].concat(), "behind the end");
        refused(b"{\"type\":\"ping\"}", "not zlib");
    }

    #[test]
    fn both_forms_of_pako_are_read() {
        assert_eq!(deflated_bytes(Some(r#""x\u009c\u0000ÿ""#)).unwrap(), [0x78, 0x9c, 0, 255]);
        assert_eq!(deflated_bytes(Some(r#"{"0":120,"1":156}"#)).unwrap(), [120, 156]);
        assert_eq!(deflated_bytes(Some(r#"{"1":156,"0":120}"#)).unwrap(), [120, 156]);
        assert_eq!(deflated_bytes(Some(r#"{"base64":"eJw="}"#)).unwrap(), [120, 156]);
        for data in [
            r#""xĀ""#,
            r#"{"1":120}"#,
            r#"{"0":256}"#,
            r#"{"0":1,"2":1}"#,
            r#"{"0":1,"0":1}"#,
            r#"{"0":1,"base64":"eJw="}"#,
            r#"{"base64":"?"}"#,
            "[1,2]",
            "7",
        ] {
            assert!(deflated_bytes(Some(data)).is_err(), "{data}");
        }
        assert!(deflated_bytes(None).is_err());
    }
}
