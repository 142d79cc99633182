//! MessagePack to JSON text and back, one value at a time. Both walks keep their own stack, so no input can exhaust
//! the thread's, and neither trusts a length before its bytes are there.

use std::io::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rmp::{Marker, encode};
use roomcast_protocol::codes::Refused;

use super::bounds::too_deep;
use super::fields::{bad_json, text};
use super::writer::{json_string, written};

/// Writes one MessagePack value as JSON text.
///
/// Binary becomes `{"base64": ".."}`, map keys that are numbers become their text. Bounds: at most about six times
/// the input (`\u0000` for one byte).
///
/// # Errors
/// 100 for what JSON has no words for (extensions, NaN, infinities, other keys), truncated input, trailing bytes and
/// text that is not UTF-8; 103 for nesting over `depth_max`.
pub(super) fn to_json(bytes: &[u8], depth_max: usize) -> Result<String, Refused> {
    let mut reader = Reader { rest: bytes };
    let mut out = Vec::with_capacity(bytes.len() + bytes.len() / 2);
    let mut open: Vec<Level> = Vec::new();
    loop {
        let mut is_key = false;
        if let Some(level) = open.last_mut() {
            if level.left == 0 {
                out.push(if level.map { b'}' } else { b']' });
                open.pop();
                if open.is_empty() {
                    break;
                }
                continue;
            }
            is_key = level.map && level.left.is_multiple_of(2);
            if !level.first {
                out.push(if level.map && !is_key { b':' } else { b',' });
            }
            level.first = false;
            level.left -= 1;
        }
        let item = reader.item()?;
        if is_key {
            key(item, &mut out)?;
        } else if let Some(level) = value(item, &mut out, depth_max.saturating_sub(open.len()))
            .map_err(|Deep| too_deep(depth_max))?
        {
            open.push(level);
        }
        if open.is_empty() {
            break;
        }
    }
    if !reader.rest.is_empty() {
        return Err(bad_json("The message has bytes behind the end of its MessagePack value"));
    }
    String::from_utf8(out).map_err(|_| bad_json(NOT_UTF8))
}

const NOT_UTF8: &str = "The message has a string that is not UTF-8";
const CUT_OFF: &str = "The message is cut off: MessagePack says that more follows";

/// A map or array that is being read.
struct Level {
    map: bool,
    first: bool,
    /// Items still to come; a map has two for each member.
    left: u64,
}

struct Deep;

/// Writes a value, or the beginning of one with members.
fn value(item: Item<'_>, out: &mut Vec<u8>, levels_left: usize) -> Result<Option<Level>, Deep> {
    match item {
        Item::Nil => out.extend_from_slice(b"null"),
        Item::Boolean(true) => out.extend_from_slice(b"true"),
        Item::Boolean(false) => out.extend_from_slice(b"false"),
        Item::Unsigned(_) | Item::Signed(_) | Item::Single(_) | Item::Double(_) => {
            number(item, out);
        }
        Item::Text(text) => json_string(out, text),
        Item::Binary(_) | Item::Array(_) | Item::Map(_) if levels_left == 0 => return Err(Deep),
        Item::Binary(bytes) => {
            out.extend_from_slice(br#"{"base64":""#);
            out.extend_from_slice(STANDARD.encode(bytes).as_bytes());
            out.extend_from_slice(br#""}"#);
        }
        Item::Array(length) => {
            out.push(b'[');
            return Ok(Some(Level { map: false, first: true, left: length.into() }));
        }
        Item::Map(length) => {
            out.push(b'{');
            return Ok(Some(Level { map: true, first: true, left: 2 * u64::from(length) }));
        }
    }
    Ok(None)
}

fn key(item: Item<'_>, out: &mut Vec<u8>) -> Result<(), Refused> {
    match item {
        Item::Text(text) => json_string(out, text),
        Item::Unsigned(_) | Item::Signed(_) | Item::Single(_) | Item::Double(_) => {
            out.push(b'"');
            number(item, out);
            out.push(b'"');
        }
        Item::Nil | Item::Boolean(_) | Item::Binary(_) | Item::Array(_) | Item::Map(_) => {
            return Err(bad_json("The message has a map key that is neither text nor a number"));
        }
    }
    Ok(())
}

/// Rust's `{:?}` of a finite float is its shortest JSON number that reads back the same.
fn number(item: Item<'_>, out: &mut Vec<u8>) {
    match item {
        Item::Unsigned(value) => written(write!(out, "{value}")),
        Item::Signed(value) => written(write!(out, "{value}")),
        Item::Single(value) => written(write!(out, "{value:?}")),
        Item::Double(value) => written(write!(out, "{value:?}")),
        Item::Nil
        | Item::Boolean(_)
        | Item::Text(_)
        | Item::Binary(_)
        | Item::Array(_)
        | Item::Map(_) => {}
    }
}

/// One MessagePack item; of maps and arrays the head.
#[derive(Clone, Copy)]
enum Item<'a> {
    Nil,
    Boolean(bool),
    Unsigned(u64),
    Signed(i64),
    Single(f32),
    Double(f64),
    Text(&'a str),
    Binary(&'a [u8]),
    Array(u32),
    Map(u32),
}

struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn item(&mut self) -> Result<Item<'a>, Refused> {
        let [marker] = self.array()?;
        Ok(match Marker::from_u8(marker) {
            Marker::Null => Item::Nil,
            Marker::False => Item::Boolean(false),
            Marker::True => Item::Boolean(true),
            Marker::FixPos(value) => Item::Unsigned(value.into()),
            Marker::FixNeg(value) => Item::Signed(value.into()),
            Marker::U8 => Item::Unsigned(u8::from_be_bytes(self.array()?).into()),
            Marker::U16 => Item::Unsigned(u16::from_be_bytes(self.array()?).into()),
            Marker::U32 => Item::Unsigned(u32::from_be_bytes(self.array()?).into()),
            Marker::U64 => Item::Unsigned(u64::from_be_bytes(self.array()?)),
            Marker::I8 => Item::Signed(i8::from_be_bytes(self.array()?).into()),
            Marker::I16 => Item::Signed(i16::from_be_bytes(self.array()?).into()),
            Marker::I32 => Item::Signed(i32::from_be_bytes(self.array()?).into()),
            Marker::I64 => Item::Signed(i64::from_be_bytes(self.array()?)),
            Marker::F32 => Item::Single(finite(f32::from_be_bytes(self.array()?), f32::is_finite)?),
            Marker::F64 => Item::Double(finite(f64::from_be_bytes(self.array()?), f64::is_finite)?),
            Marker::FixStr(length) => self.text(length.into())?,
            Marker::Str8 => self.length8().and_then(|length| self.text(length))?,
            Marker::Str16 => self.length16().and_then(|length| self.text(length))?,
            Marker::Str32 => self.length32().and_then(|length| self.text(length))?,
            Marker::Bin8 => Item::Binary(self.length8().and_then(|length| self.bytes(length))?),
            Marker::Bin16 => Item::Binary(self.length16().and_then(|length| self.bytes(length))?),
            Marker::Bin32 => Item::Binary(self.length32().and_then(|length| self.bytes(length))?),
            Marker::FixArray(length) => Item::Array(length.into()),
            Marker::Array16 => Item::Array(self.length16()?),
            Marker::Array32 => Item::Array(self.length32()?),
            Marker::FixMap(length) => Item::Map(length.into()),
            Marker::Map16 => Item::Map(self.length16()?),
            Marker::Map32 => Item::Map(self.length32()?),
            Marker::Reserved
            | Marker::Ext8
            | Marker::Ext16
            | Marker::Ext32
            | Marker::FixExt1
            | Marker::FixExt2
            | Marker::FixExt4
            | Marker::FixExt8
            | Marker::FixExt16 => {
                return Err(bad_json(
                    "The message has a MessagePack extension, which JSON has not",
                ));
            }
        })
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Refused> {
        let (taken, rest) = self.rest.split_first_chunk().ok_or_else(|| bad_json(CUT_OFF))?;
        self.rest = rest;
        Ok(*taken)
    }

    fn length8(&mut self) -> Result<u32, Refused> {
        Ok(u8::from_be_bytes(self.array()?).into())
    }

    fn length16(&mut self) -> Result<u32, Refused> {
        Ok(u16::from_be_bytes(self.array()?).into())
    }

    fn length32(&mut self) -> Result<u32, Refused> {
        Ok(u32::from_be_bytes(self.array()?))
    }

    fn bytes(&mut self, length: u32) -> Result<&'a [u8], Refused> {
        let (taken, rest) = usize::try_from(length)
            .ok()
            .and_then(|length| self.rest.split_at_checked(length))
            .ok_or_else(|| bad_json(CUT_OFF))?;
        self.rest = rest;
        Ok(taken)
    }

    fn text(&mut self, length: u32) -> Result<Item<'a>, Refused> {
        let bytes = self.bytes(length)?;
        std::str::from_utf8(bytes).map(Item::Text).map_err(|_| bad_json(NOT_UTF8))
    }
}

fn finite<T: Copy>(value: T, is_finite: fn(T) -> bool) -> Result<T, Refused> {
    if is_finite(value) {
        return Ok(value);
    }
    Err(bad_json("The message has a number that is not finite, which JSON has not"))
}

/// A map or array that is being written.
struct Written {
    map: bool,
    /// Where its one-byte head stands; a longer one is put in its place when the length is known.
    head: usize,
    items: usize,
}

/// Writes one valid JSON value as MessagePack.
///
/// Integers beyond 64 bits become floats, as they do in browsers. Text that is not valid JSON gives some value, never
/// a panic.
pub(super) fn from_json(json: &[u8], out: &mut Vec<u8>) {
    let mut rest = json;
    let mut open: Vec<Written> = Vec::new();
    while let Some((&first, tail)) = rest.split_first() {
        match first {
            b' ' | b'\t' | b'\n' | b'\r' | b',' | b':' => rest = tail,
            b'}' | b']' => {
                if let Some(level) = open.pop() {
                    close(&level, out);
                }
                rest = tail;
            }
            b'{' | b'[' => {
                count(&mut open);
                open.push(Written { map: first == b'{', head: out.len(), items: 0 });
                out.push(0);
                rest = tail;
            }
            b'"' => {
                count(&mut open);
                let (token, tail) = rest.split_at(string_length(rest));
                let token = std::str::from_utf8(token).unwrap_or_default();
                written(encode::write_str(out, &text(token).unwrap_or_default()));
                rest = tail;
            }
            _ => {
                count(&mut open);
                let length = rest.iter().position(|byte| b" \t\n\r,:]}".contains(byte));
                let (token, tail) = rest.split_at(length.unwrap_or(rest.len()));
                scalar(std::str::from_utf8(token).unwrap_or_default(), out);
                rest = tail;
            }
        }
    }
    while let Some(level) = open.pop() {
        close(&level, out);
    }
}

fn count(open: &mut [Written]) {
    if let Some(level) = open.last_mut() {
        level.items += 1;
    }
}

fn close(level: &Written, out: &mut Vec<u8>) {
    let (fix, wide) = if level.map { (0x80, 0xde) } else { (0x90, 0xdc) };
    let length = if level.map { level.items / 2 } else { level.items };
    let mut head = [wide, 0, 0, 0, 0];
    let size = match (u8::try_from(length), u16::try_from(length), u32::try_from(length)) {
        (Ok(short @ 0..16), ..) => {
            head[0] = fix | short;
            1
        }
        (_, Ok(medium), _) => {
            head[1..3].copy_from_slice(&medium.to_be_bytes());
            3
        }
        (_, _, long) => {
            head[0] = wide + 1;
            head[1..].copy_from_slice(&long.unwrap_or(u32::MAX).to_be_bytes());
            5
        }
    };
    out.splice(level.head..=level.head, head.into_iter().take(size));
}

/// Length of the string token at the start, quotes included.
fn string_length(bytes: &[u8]) -> usize {
    let mut escaped = true;
    for (at, byte) in bytes.iter().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return at + 1,
            _ => {}
        }
    }
    bytes.len()
}

fn scalar(token: &str, out: &mut Vec<u8>) {
    match token {
        "true" => written(encode::write_bool(out, true)),
        "false" => written(encode::write_bool(out, false)),
        _ => {
            if let Ok(value) = token.parse() {
                written(encode::write_uint(out, value));
            } else if let Ok(value) = token.parse() {
                written(encode::write_sint(out, value));
            } else if let Ok(value) = token.parse() {
                written(encode::write_f64(out, value));
            } else {
                written(encode::write_nil(out));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use roomcast_protocol::codes::Refusal;
    use serde_json::{Value, json};

    use super::*;

    fn packed(json: &str) -> Vec<u8> {
        let mut out = Vec::new();
        from_json(json.as_bytes(), &mut out);
        out
    }

    #[track_caller]
    fn check(json: &str) {
        let bytes = packed(json);
        let oracle: Value = rmp_serde::from_slice(&bytes).unwrap();
        assert_eq!(oracle, serde_json::from_str::<Value>(json).unwrap());
        assert_eq!(to_json(&bytes, 32).unwrap(), json);
    }

    #[track_caller]
    fn refused(bytes: &[u8], refusal: Refusal) {
        assert_eq!(to_json(bytes, 32).unwrap_err().refusal, refusal, "{bytes:x?}");
    }

    #[test]
    fn json_goes_there_and_back() {
        for json in [
            "null",
            "true",
            "[]",
            "{}",
            r#""""#,
            r#""é\n\"😀""#,
            "[0,127,128,255,256,65536,4294967296,18446744073709551615]",
            "[-1,-32,-33,-129,-32769,-9223372036854775808]",
            "[0.5,-1.25,1e+300]",
            r#"{"a":[[],{},[{"b":false}]],"c":null}"#,
        ] {
            check(&json.replace("1e+300", "1e300"));
        }
        for length in [15, 16, 65_535, 65_536] {
            check(&format!("[{}]", vec!["7"; length].join(",")));
            let members: Vec<_> = (0..length).map(|n| format!("\"k{n}\":[{n}]")).collect();
            check(&format!("{{{}}}", members.join(",")));
            check(&format!("\"{}\"", "x".repeat(length)));
        }
    }

    #[test]
    fn whitespace_and_escapes_do_not_matter() {
        assert_eq!(packed(" { \"\\u0061\\/\" :\n[ 1 ,\t2 ] } "), packed(r#"{"a/":[1,2]}"#));
    }

    #[test]
    fn numbers_too_big_for_64_bits_become_floats() {
        assert_eq!(to_json(&packed("18446744073709551616"), 32).unwrap(), "1.8446744073709552e19");
    }

    #[test]
    fn floats_keep_every_bit() {
        for value in [0.1, 1e-7, -921_394_480_111_704.2, f64::MAX, f64::MIN_POSITIVE, 5e-324] {
            let mut bytes = vec![0xcb];
            bytes.extend(f64::to_be_bytes(value));
            assert_eq!(packed(&to_json(&bytes, 32).unwrap()), bytes);
        }
    }

    #[test]
    fn keys_that_are_numbers_become_their_text() {
        let bytes = [0x83, 1, 0xc0, 0xff, 0xc0, 0xcb, 0x3f, 0xe0, 0, 0, 0, 0, 0, 0, 0xc0];
        assert_eq!(to_json(&bytes, 32).unwrap(), r#"{"1":null,"-1":null,"0.5":null}"#);
        for key in [&[0xc0][..], &[0xc3], &[0xc4, 0], &[0x90], &[0x80]] {
            refused(&[&[0x81], key, &[0xc0]].concat(), Refusal::BadJson);
        }
    }

    #[test]
    fn binary_becomes_base64() {
        assert_eq!(to_json(&[0xc4, 2, 120, 156], 32).unwrap(), r#"{"base64":"eJw="}"#);
        assert_eq!(to_json(&[0xca, 0x3d, 0xcc, 0xcc, 0xcd], 32).unwrap(), "0.1");
    }

    #[test]
    fn what_json_has_no_words_for_is_refused() {
        refused(&[0xcb, 0x7f, 0xf8, 0, 0, 0, 0, 0, 0], Refusal::BadJson);
        refused(&[0xca, 0x7f, 0x80, 0, 0], Refusal::BadJson);
        refused(&[0xd4, 1, 1], Refusal::BadJson);
        refused(&[0xc1], Refusal::BadJson);
        refused(&[0xa1, 0xff], Refusal::BadJson);
        refused(&[0xc0, 0xc0], Refusal::BadJson);
        refused(&[0xdf, 0xff, 0xff, 0xff, 0xff], Refusal::BadJson);
        refused(&[0xc6, 0xff, 0xff, 0xff, 0xff, 0], Refusal::BadJson);
        refused(&[], Refusal::BadJson);
    }

    #[test]
    fn nesting_is_bounded_before_it_is_followed() {
        assert!(to_json(&[&[0x91; 32][..], &[0xc0]].concat(), 32).is_ok());
        refused(&[&[0x91; 33][..], &[0xc0]].concat(), Refusal::TooLarge);
        refused(&[&[0x91; 32][..], &[0xc4, 0]].concat(), Refusal::TooLarge);
        refused(&vec![0x91; 1_000_000], Refusal::TooLarge);
    }

    #[test]
    fn text_that_is_no_json_never_panics() {
        for json in ["", "]]", "{\"a\"", "\"\\", "[,", "{1:2", "\u{fffd}", "nul", "\"\\ud800\""] {
            let bytes = packed(json);
            assert!(bytes.len() <= 16, "{json}: {bytes:x?}");
        }
        assert_eq!(packed(&json!({"a": [1]}).to_string()), [0x81, 0xa1, b'a', 0x91, 1]);
    }
}
