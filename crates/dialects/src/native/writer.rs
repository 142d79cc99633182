//! Writing maps of the native dialect once for both of its encodings. Owns escaping and lengths; never knows what a
//! message is.

use std::io::Write;

use rmp::encode;

use super::msgpack;

/// An encoding that writes one map.
pub(crate) trait Writer {
    /// Makes room for what follows. Units: bytes.
    fn reserve(&mut self, bytes: usize);

    /// Writes a map whose members `members` writes: at most 15, for which each is a key and then one value.
    fn map(&mut self, members: impl FnOnce(&mut Self));

    /// Writes a member's name, which needs no escapes. One value must follow.
    fn key(&mut self, name: &'static str);

    /// Writes a string.
    fn text(&mut self, value: &str);

    /// Writes a number.
    fn number(&mut self, value: u64);

    /// Writes a boolean.
    fn boolean(&mut self, value: bool);

    /// Writes an array of strings.
    fn texts(&mut self, values: &[Box<str>]);

    /// Writes an array whose elements `write` writes.
    fn list<T>(&mut self, items: &[T], write: impl FnMut(&mut Self, &T));

    /// Writes a value that is JSON text already.
    fn json(&mut self, value: &[u8]);

    /// Writes a member that is a string.
    fn text_at(&mut self, name: &'static str, value: &str) {
        self.key(name);
        self.text(value);
    }

    /// Writes a member that is a number.
    fn number_at(&mut self, name: &'static str, value: u64) {
        self.key(name);
        self.number(value);
    }

    /// Writes a member that is a map.
    fn map_at(&mut self, name: &'static str, members: impl FnOnce(&mut Self)) {
        self.key(name);
        self.map(members);
    }
}

/// Compact JSON text.
pub(crate) struct Json<'a> {
    out: &'a mut Vec<u8>,
    first: bool,
}

impl<'a> Json<'a> {
    /// Appends to `out`.
    pub(crate) const fn new(out: &'a mut Vec<u8>) -> Self {
        Self { out, first: true }
    }

    /// Writes a member whose name is a peer's, and whose value is JSON text already.
    pub(crate) fn member(&mut self, name: &str, value: &str) {
        if !self.first {
            self.out.push(b',');
        }
        self.first = false;
        json_string(self.out, name);
        self.out.push(b':');
        self.out.extend_from_slice(value.as_bytes());
    }
}

impl Writer for Json<'_> {
    fn reserve(&mut self, bytes: usize) {
        self.out.reserve(bytes);
    }

    fn map(&mut self, members: impl FnOnce(&mut Self)) {
        self.out.push(b'{');
        self.first = true;
        members(self);
        self.first = false;
        self.out.push(b'}');
    }

    fn key(&mut self, name: &'static str) {
        self.out.extend_from_slice(if self.first { b"\"" } else { b",\"" });
        self.first = false;
        self.out.extend_from_slice(name.as_bytes());
        self.out.extend_from_slice(b"\":");
    }

    fn text(&mut self, value: &str) {
        json_string(self.out, value);
    }

    fn number(&mut self, value: u64) {
        written(write!(self.out, "{value}"));
    }

    fn boolean(&mut self, value: bool) {
        self.out.extend_from_slice(if value { b"true" } else { b"false" });
    }

    fn texts(&mut self, values: &[Box<str>]) {
        self.out.push(b'[');
        for (index, value) in values.iter().enumerate() {
            if index > 0 {
                self.out.push(b',');
            }
            json_string(self.out, value);
        }
        self.out.push(b']');
    }

    fn list<T>(&mut self, items: &[T], mut write: impl FnMut(&mut Self, &T)) {
        self.out.push(b'[');
        for (index, item) in items.iter().enumerate() {
            if index > 0 {
                self.out.push(b',');
            }
            write(self, item);
        }
        self.out.push(b']');
    }

    fn json(&mut self, value: &[u8]) {
        self.out.extend_from_slice(value);
    }
}

/// MessagePack with text keys.
pub(super) struct Pack<'a> {
    out: &'a mut Vec<u8>,
    head: usize,
}

impl<'a> Pack<'a> {
    /// Appends to `out`.
    pub(super) const fn new(out: &'a mut Vec<u8>) -> Self {
        Self { out, head: 0 }
    }

    /// Writes bytes.
    pub(super) fn binary(&mut self, value: &[u8]) {
        written(encode::write_bin(self.out, value));
    }
}

impl Writer for Pack<'_> {
    fn reserve(&mut self, bytes: usize) {
        self.out.reserve(bytes);
    }

    fn map(&mut self, members: impl FnOnce(&mut Self)) {
        let parent = std::mem::replace(&mut self.head, self.out.len());
        self.out.push(0x80);
        members(self);
        self.head = parent;
    }

    fn key(&mut self, name: &'static str) {
        // The low four bits of a short map's head are its length.
        if let Some(head) = self.out.get_mut(self.head) {
            debug_assert!(*head < 0x8f, "a map of more than 15 members");
            *head += 1;
        }
        self.text(name);
    }

    fn text(&mut self, value: &str) {
        written(encode::write_str(self.out, value));
    }

    fn number(&mut self, value: u64) {
        written(encode::write_uint(self.out, value));
    }

    fn boolean(&mut self, value: bool) {
        written(encode::write_bool(self.out, value));
    }

    fn texts(&mut self, values: &[Box<str>]) {
        written(encode::write_array_len(self.out, u32::try_from(values.len()).unwrap_or(u32::MAX)));
        for value in values {
            self.text(value);
        }
    }

    fn list<T>(&mut self, items: &[T], mut write: impl FnMut(&mut Self, &T)) {
        written(encode::write_array_len(self.out, u32::try_from(items.len()).unwrap_or(u32::MAX)));
        for item in items {
            write(self, item);
        }
    }

    fn json(&mut self, value: &[u8]) {
        msgpack::from_json(value, self.out);
    }
}

/// Appends a JSON string.
pub(super) fn json_string(out: &mut Vec<u8>, text: &str) {
    // Without an early exit, so that the compiler vectorises it.
    let escapes = |found, byte| found | (byte < b' ') | (byte == b'"') | (byte == b'\\');
    if text.bytes().fold(false, escapes) {
        return written(serde_json::to_writer(out, text));
    }
    out.push(b'"');
    out.extend_from_slice(text.as_bytes());
    out.push(b'"');
}

/// Takes the result of a write into memory, which always succeeds.
pub(crate) fn written<T, E: std::fmt::Debug>(result: Result<T, E>) {
    debug_assert!(result.is_ok(), "a vector takes every byte: {:?}", result.err());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some_map(writer: &mut impl Writer) {
        writer.map(|out| {
            out.text_at("a", "\"x\\\u{1}é");
            out.map_at("b", |_| {});
            out.map_at("c", |out| {
                out.key("d");
                out.number(300);
                out.key("e");
                out.json(b"[1]");
            });
            out.key("f");
            out.texts(&["g".into(), "\n".into()]);
            out.key("h");
            out.boolean(true);
            out.key("i");
            out.list(&[7, 8], |out, number| out.map(|out| out.text_at("j", &format!("{number}"))));
        });
    }

    #[test]
    fn both_encodings_say_the_same() {
        let (mut json, mut pack) = (Vec::new(), Vec::new());
        some_map(&mut Json::new(&mut json));
        some_map(&mut Pack::new(&mut pack));
        let json = String::from_utf8(json).unwrap();
        assert_eq!(
            json,
            r#"{"a":"\"x\\\u0001é","b":{},"c":{"d":300,"e":[1]},"f":["g","\n"],"h":true,"i":[{"j":"7"},{"j":"8"}]}"#
        );
        assert_eq!(msgpack::to_json(&pack, 8).unwrap(), json);
    }
}
