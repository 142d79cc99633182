//! Patterns of room names with captures: `agent-{id:int}`, `team-{id}`, `{a}:{b}`. Matching takes time linear in the
//! name; no peer's text ever becomes part of a pattern (attacks 21 to 23).

use roomcast_protocol::room::{NAME_BYTES_MAX, RoomName};

/// Captures of one pattern.
pub(super) const CAPTURES_MAX: usize = 8;

/// Rooms with these beginnings belong to somebody; only a pattern that begins likewise reaches them.
const PRIVATE: [&str; 4] = ["user-", "session-", "dialog-", "chat-"];

/// Names that captures may not take: what conditions call something else already.
const TAKEN: [&str; 26] = [
    "user",
    "room",
    "node",
    "in",
    "true",
    "false",
    "null",
    "as",
    "break",
    "const",
    "continue",
    "else",
    "for",
    "function",
    "if",
    "import",
    "let",
    "loop",
    "package",
    "namespace",
    "return",
    "var",
    "void",
    "while",
    "has",
    "type",
];

/// What may stand in a capture's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// One character or more.
    Text,
    /// A decimal number without sign or leading zero, at most 2^63-1.
    Int,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Capture {
    name: Box<str>,
    kind: Kind,
    /// The literal text after it; empty only for the last one at the pattern's end.
    then: Box<str>,
}

/// A pattern of room names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    text: Box<str>,
    prefix: Box<str>,
    captures: Vec<Capture>,
}

/// Why a text is no pattern.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadPattern {
    /// Nothing at all.
    #[error("is empty; write a room's name, or a pattern such as \"news-{{id:int}}\"")]
    Empty,
    /// A `*` or `?`, as in other languages.
    #[error(
        "has a `{0}`, which is no wildcard here; write a capture such as {{name}} or {{id:int}}"
    )]
    Wildcard(char),
    /// A brace without its other half.
    #[error("has a brace without its other half")]
    Brace,
    /// A capture's name is no identifier, or has a meaning already.
    #[error(
        "has a capture {0:?}; names are lower-case letters, digits and `_`, and not {TAKEN_SOME}"
    )]
    Name(String),
    /// A capture's kind is unknown.
    #[error("has a capture of the kind {0:?}; leave it away, or write `int`")]
    Kind(String),
    /// Two captures of one name.
    #[error("has two captures named {0:?}")]
    Twice(String),
    /// Two captures without anything between them.
    #[error("has two captures with nothing between them, so that nobody knows where one ends")]
    Adjacent,
    /// More than [`CAPTURES_MAX`].
    #[error("has more than {CAPTURES_MAX} captures")]
    TooMany,
    /// No room could ever have such a name.
    #[error("can match no room: {0}")]
    NoRoom(roomcast_protocol::room::BadName),
}

const TAKEN_SOME: &str = "`user`, `room`, `node` or a word of CEL";

impl Pattern {
    /// Reads a pattern as the configuration writes it.
    ///
    /// # Errors
    /// [`BadPattern`] says what is wrong and how to write it.
    pub fn parse(text: &str) -> Result<Self, BadPattern> {
        if text.is_empty() {
            return Err(BadPattern::Empty);
        }
        if let Some(wildcard) = text.chars().find(|it| matches!(it, '*' | '?')) {
            return Err(BadPattern::Wildcard(wildcard));
        }
        let (prefix, mut rest) = literal(text)?;
        let mut captures: Vec<Capture> = Vec::new();
        let mut sample = prefix.to_owned();
        while let Some(inner) = rest.strip_prefix('{') {
            let (name, after) = inner.split_once('}').ok_or(BadPattern::Brace)?;
            let (name, kind) = capture(name)?;
            if captures.iter().any(|other| &*other.name == name) {
                return Err(BadPattern::Twice(name.to_owned()));
            }
            let (then, more) = literal(after)?;
            if then.is_empty() && !more.is_empty() {
                return Err(BadPattern::Adjacent);
            }
            sample.push('1');
            sample.push_str(then);
            captures.push(Capture { name: name.into(), kind, then: then.into() });
            rest = more;
        }
        if captures.len() > CAPTURES_MAX {
            return Err(BadPattern::TooMany);
        }
        RoomName::parse(&sample).map_err(BadPattern::NoRoom)?;
        Ok(Self { text: text.into(), prefix: prefix.into(), captures })
    }

    /// The pattern as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The names of its captures, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.captures.iter().map(|capture| &*capture.name)
    }

    /// Whether the pattern reaches the room: it matches, and a room that belongs to somebody is named literally.
    #[must_use]
    pub fn reaches(&self, room: &RoomName) -> bool {
        let owned = PRIVATE.iter().find(|begin| room.as_str().starts_with(**begin));
        owned.is_none_or(|begin| self.prefix.starts_with(begin))
            && self.values(room.as_str(), |_, _| {})
    }

    /// Whether all rooms that it matches begin so.
    #[must_use]
    pub fn begins_with(&self, literal: &str) -> bool {
        self.prefix.starts_with(literal)
    }

    /// The captures' values by name; `None` if the room does not match.
    #[must_use]
    pub fn captures<'a>(&'a self, room: &'a RoomName) -> Option<Vec<(&'a str, &'a str)>> {
        let mut found = Vec::with_capacity(self.captures.len());
        self.values(room.as_str(), |name, value| found.push((name, value))).then_some(found)
    }

    /// Walks over the name once. A capture ends where the literal text after it first occurs behind at least one
    /// character; the last literal must end the name.
    fn values<'a>(&'a self, name: &'a str, mut found: impl FnMut(&'a str, &'a str)) -> bool {
        let Some(mut rest) = name.strip_prefix(&*self.prefix) else { return false };
        let Some((last, inner)) = self.captures.split_last() else { return rest.is_empty() };
        for capture in inner {
            let Some((value, after)) = until(rest, &capture.then) else { return false };
            if !capture.kind.admits(value) {
                return false;
            }
            found(&capture.name, value);
            rest = after;
        }
        let Some(value) = rest.strip_suffix(&*last.then) else { return false };
        if !last.kind.admits(value) {
            return false;
        }
        found(&last.name, value);
        true
    }
}

impl Kind {
    fn admits(self, value: &str) -> bool {
        match self {
            Self::Text => !value.is_empty(),
            Self::Int => is_int(value),
        }
    }
}

/// Whether a text is decimal without sign or leading zero, and at most 2^63-1. Source: dialects, "Native".
#[must_use]
pub(super) fn is_int(text: &str) -> bool {
    (1..=19).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_digit())
        && (text == "0" || !text.starts_with('0'))
        && text.parse::<i64>().is_ok()
}

/// Splits at the first `separator` that has at least one character before it.
fn until<'a>(text: &'a str, separator: &str) -> Option<(&'a str, &'a str)> {
    let first = text.chars().next()?.len_utf8();
    let at = first + text.get(first..)?.find(separator)?;
    Some((text.get(..at)?, text.get(at + separator.len()..)?))
}

/// The literal text up to the next capture, and what follows.
fn literal(text: &str) -> Result<(&str, &str), BadPattern> {
    let (literal, rest) = text.split_at(text.find('{').unwrap_or(text.len()));
    if literal.contains('}') {
        return Err(BadPattern::Brace);
    }
    if literal.len() > NAME_BYTES_MAX {
        return Err(BadPattern::NoRoom(roomcast_protocol::room::BadName::TooLong));
    }
    Ok((literal, rest))
}

fn capture(text: &str) -> Result<(&str, Kind), BadPattern> {
    let (name, kind) = match text.split_once(':') {
        None => (text, Kind::Text),
        Some((name, "int")) => (name, Kind::Int),
        Some((_, kind)) => return Err(BadPattern::Kind(kind.to_owned())),
    };
    let is_name =
        name.bytes().all(|it| it.is_ascii_lowercase() || it.is_ascii_digit() || it == b'_')
            && name.bytes().next().is_some_and(|it| it.is_ascii_lowercase());
    if !is_name || TAKEN.contains(&name) {
        return Err(BadPattern::Name(name.to_owned()));
    }
    Ok((name, kind))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(pattern: &str, room: &str, expected: Option<&str>) {
        let (pattern, room) = (Pattern::parse(pattern).unwrap(), RoomName::parse(room).unwrap());
        let found = pattern.captures(&room).map(|captures| {
            let pairs = captures.iter().map(|(name, value)| format!("{name}={value}"));
            pairs.collect::<Vec<_>>().join(" ")
        });
        assert_eq!(found.as_deref(), expected);
    }

    #[test]
    fn captures_take_what_stands_between_the_literals() {
        check("agents", "agents", Some(""));
        check("agents", "agents2", None);
        check("agent-{id:int}", "agent-7", Some("id=7"));
        check("team-{id}", "team-a-b", Some("id=a-b"));
        check("{a}:{b}", "1:2", Some("a=1 b=2"));
        check("{a}:{b}", "1:2:3", Some("a=1 b=2:3"));
        check("{a}:{b}", ":2", None);
        check("{a}:{b}", "::2", Some("a=: b=2"));
        check("dialog-{a:int}:{b:int}", "dialog-1:2", Some("a=1 b=2"));
        check("{any}", "x", Some("any=x"));
        check("{shop}-news", "north-west-news", Some("shop=north-west"));
        check("{shop}-news", "-news", None);
        check("部屋-{id}", "部屋-é", Some("id=é"));
    }

    #[test]
    fn an_int_has_no_sign_no_leading_zero_and_fits_63_bits() {
        for id in ["0", "7", "10", "9223372036854775807"] {
            check("agent-{id:int}", &format!("agent-{id}"), Some(&format!("id={id}")));
        }
        for id in ["-1", "+1", "01", "00", "1.0", "1e3", "x", "9223372036854775808", "٣", "1_0"] {
            check("agent-{id:int}", &format!("agent-{id}"), None);
        }
        check("agent-{id:int}", "agent-", None);
    }

    #[test]
    fn a_name_of_the_longest_kind_is_matched_in_linear_time() {
        let name = format!("{}b", "a".repeat(254));
        let started = std::time::Instant::now();
        for _ in 0..10_000 {
            check("{a}a{b}a{c}a{d}a{e}x{f}", &name, None);
        }
        assert!(started.elapsed().as_secs() < 5);
    }

    #[test]
    fn only_a_literal_beginning_reaches_rooms_that_belong_to_somebody() {
        let reaches = |pattern: &str, room: &str| {
            Pattern::parse(pattern).unwrap().reaches(&RoomName::parse(room).unwrap())
        };
        for room in ["user-1", "session-1", "dialog-1:2", "chat-1"] {
            for pattern in ["{any}", "{a}-{b}", "user{rest}", "session{x}", "d{x}", "cha{x}"] {
                assert!(!reaches(pattern, room), "{pattern} {room}");
            }
        }
        assert!(reaches("user-{id}", "user-1"));
        assert!(reaches("user-1{id}", "user-10"));
        assert!(!reaches("user-1", "user-10"));
        assert!(reaches("{any}", "users"));
    }

    #[test]
    fn what_is_no_pattern_is_refused_with_its_mend() {
        for (text, mend) in [
            ("", "is empty"),
            ("news-*", "write a capture"),
            ("news-?", "write a capture"),
            ("news-{id", "brace"),
            ("news-id}", "brace"),
            ("news-{}", "names are lower-case"),
            ("news-{Id}", "names are lower-case"),
            ("news-{user}", "names are lower-case"),
            ("news-{id:uuid}", "write `int`"),
            ("{a}-{a}", "two captures named"),
            ("{a}{b}", "nothing between"),
            ("{a}1{b}1{c}1{d}1{e}1{f}1{g}1{h}1{i}", "more than 8"),
            ("news {id}", "can match no room"),
            ("$control-{id}", "can match no room"),
            ("ne\u{301}ws", "can match no room"),
        ] {
            let told = Pattern::parse(text).unwrap_err().to_string();
            assert!(told.contains(mend), "{text}: {told}");
        }
    }
}
