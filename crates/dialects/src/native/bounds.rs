//! What JSON text must keep before anything is parsed: bounded depth, and no half of a surrogate pair. Both tests are
//! flat loops, so no input can exhaust the stack.

use roomcast_protocol::codes::{Refusal, Refused};
use roomcast_protocol::limits::LimitName;

use super::fields::bad_json;

/// Checks a text that is about to be parsed.
pub(crate) fn check(text: &str, depth_max: usize) -> Result<(), Refused> {
    let bytes = text.as_bytes();
    // Nearly every message has fewer brackets than it may have levels, and counting them is far cheaper.
    if brackets(bytes) > depth_max && depth(bytes) > depth_max {
        return Err(too_deep(depth_max));
    }
    if bytes.contains(&b'\\') && has_lone_surrogate(bytes) {
        return Err(bad_json("The message has half of a surrogate pair: escape both halves"));
    }
    Ok(())
}

/// The refusal of a value that is nested too deeply.
pub(super) fn too_deep(depth_max: usize) -> Refused {
    let value = u64::try_from(depth_max).unwrap_or(u64::MAX);
    Refused::limit(Refusal::TooLarge, LimitName::Depth, value, None)
}

/// How often `{` and `[` stand anywhere, in strings too. Sums of bytes in short runs, which the compiler vectorises.
fn brackets(bytes: &[u8]) -> usize {
    let opening = |byte: &u8| u8::from(byte | 0x20 == b'{');
    bytes.chunks(128).map(|run| usize::from(run.iter().map(opening).sum::<u8>())).sum()
}

/// Deepest nesting, brackets in strings not counted.
fn depth(bytes: &[u8]) -> usize {
    let (mut level, mut deepest) = (0_usize, 0);
    let mut bytes = bytes.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b'{' | b'[' => {
                level += 1;
                deepest = deepest.max(level);
            }
            b'}' | b']' => level = level.saturating_sub(1),
            b'"' => skip_string(&mut bytes),
            _ => {}
        }
    }
    deepest
}

fn skip_string(bytes: &mut std::slice::Iter<'_, u8>) {
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => return,
            // The escaped byte itself says nothing, a quote least of all.
            b'\\' => {
                bytes.next();
            }
            _ => {}
        }
    }
}

/// Whether an escape names half of a surrogate pair, which is no character and would be unreadable for strict parsers
/// (RFC 8259 8.2).
fn has_lone_surrogate(mut rest: &[u8]) -> bool {
    while let Some(at) = rest.iter().position(|&byte| byte == b'\\') {
        let escape = rest.get(at..).unwrap_or_default();
        let width = match unit(escape) {
            Some(0xd800..=0xdbff) => match escape.get(6..).and_then(unit) {
                Some(0xdc00..=0xdfff) => 12,
                _ => return true,
            },
            Some(0xdc00..=0xdfff) => return true,
            _ => 2,
        };
        rest = escape.get(width..).unwrap_or_default();
    }
    false
}

/// The UTF-16 unit of an escape `\uXXXX` at the start.
fn unit(escape: &[u8]) -> Option<u16> {
    let digits = escape.strip_prefix(b"\\u")?.get(..4)?;
    u16::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_depth(text: &str, depth_max: usize, fits: bool) {
        assert_eq!(check(text, depth_max).is_ok(), fits, "{text}");
    }

    #[test]
    fn depth_counts_brackets_outside_of_strings() {
        check_depth("[[[]]]", 3, true);
        check_depth("[[[]]]", 2, false);
        check_depth("[[],[],[],{}]", 2, true);
        check_depth(r#"["[[[[[\"[[[["]"#, 1, true);
        check_depth(r#"["\\",[[]]]"#, 2, false);
        check_depth(&"[".repeat(100_000), 32, false);
        check_depth("]]]]{}{}{}", 1, true);
    }

    #[test]
    fn a_depth_refusal_names_the_limit_and_its_value() {
        let refused = check("[[]]", 1).unwrap_err();
        assert_eq!(refused.limit, Some((LimitName::Depth, 1)));
        assert_eq!(refused.refusal, Refusal::TooLarge);
    }

    #[test]
    fn half_a_surrogate_pair_is_refused() {
        for text in [r#""\ud83d\ude00""#, r#""\\ud83d""#, r#""\u00e9\n""#, r#""\\\\""#] {
            assert!(check(text, 32).is_ok(), "{text}");
        }
        for text in [r#""\ud83d""#, r#""\ude00\ud83d""#, r#""\ud83d\u0041""#, r#""\\\uDC00""#] {
            assert!(check(text, 32).is_err(), "{text}");
        }
    }
}
