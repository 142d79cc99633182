//! Paths into a publication's payload, `data.agent_id`: compiled when the configuration is read, followed in one pass
//! over the payload's text, which stays as it is.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use roomcast_protocol::content::Content;
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

/// Longest path. Units: bytes.
const PATH_BYTES_MAX: usize = 255;

/// What every path begins with.
const ROOT: &str = "data";

/// Longest text found by a path that counts. Units: bytes.
pub(crate) const KEY_BYTES_MAX: usize = 255;

/// Where a value stands in a payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataPath(Arc<[Box<str>]>);

impl DataPath {
    /// Reads `data.name` or `data.name.name`.
    ///
    /// # Errors
    /// Says what is wrong and how to mend it.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let mut names = text.split('.');
        if names.next() != Some(ROOT) {
            return Err(
                "begins with another word than `data`; write for example \"data.agent_id\"",
            );
        }
        let names: Arc<[Box<str>]> = names.map(Box::from).collect();
        if names.is_empty() {
            return Err("names nothing in `data`; write for example \"data.agent_id\"");
        }
        if names.iter().any(|name| name.is_empty()) {
            return Err("has an empty name; write one name after each `.`");
        }
        if text.len() > PATH_BYTES_MAX {
            return Err("has more than 255 bytes");
        }
        Ok(Self(names))
    }

    /// The text, number, `true` or `false` that stands there: a text without its quotes, the others as they were
    /// written. `None`: there is nothing, something else, an empty text, or one over [`KEY_BYTES_MAX`].
    #[must_use]
    pub fn find<'a>(&self, content: &'a Content) -> Option<Cow<'a, str>> {
        let Content::Json(json) = content else { return None };
        let mut json = serde_json::Deserializer::from_slice(json);
        let found = Step(&self.0).deserialize(&mut json).ok()??.get();
        let text = match found.as_bytes().first()? {
            b'"' => serde_json::from_str::<Text<'_>>(found).ok()?.0,
            b'{' | b'[' | b'n' => return None,
            _ => Cow::Borrowed(found),
        };
        (1..=KEY_BYTES_MAX).contains(&text.len()).then_some(text)
    }
}

#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// Looks for the names that are left, one in another.
struct Step<'a>(&'a [Box<str>]);

impl<'de> DeserializeSeed<'de> for Step<'_> {
    type Value = Option<&'de RawValue>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        if self.0.is_empty() {
            return <&RawValue>::deserialize(deserializer).map(Some);
        }
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Step<'_> {
    type Value = Option<&'de RawValue>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    /// Of equal names the last counts, as clients read them.
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let Some((name, rest)) = self.0.split_first() else { return Ok(None) };
        let mut found = None;
        while let Some(Text(key)) = map.next_key()? {
            if *key == **name {
                // What stands there may be no object: then nothing is found, and the rest is still read.
                let value: &RawValue = map.next_value()?;
                let mut value = serde_json::Deserializer::from_str(value.get());
                found = Step(rest).deserialize(&mut value).ok().flatten();
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(path: &str, json: &str) -> Option<String> {
        let content = Content::Json(json.to_owned().into());
        DataPath::parse(path).unwrap().find(&content).map(Cow::into_owned)
    }

    #[test]
    fn a_path_leads_to_texts_numbers_and_flags() {
        let data = r#"{"b":{"c":"x","a":9},"a":7,"t":"sieben","f":false,"é":"é","big":12345678901234567890123}"#;
        for (path, found) in [
            ("data.a", "7"),
            ("data.t", "sieben"),
            ("data.f", "false"),
            ("data.b.c", "x"),
            ("data.b.a", "9"),
            ("data.é", "é"),
            ("data.big", "12345678901234567890123"),
        ] {
            assert_eq!(find(path, data).as_deref(), Some(found), "{path}");
        }
        assert_eq!(find("data.a", r#"{"a":"A\n"}"#).as_deref(), Some("A\n"));
        assert_eq!(find("data.a", r#"{"a":1,"a":2}"#).as_deref(), Some("2"));
        assert_eq!(find("data.a.b", r#"{"a":5,"c":0}"#), None);
    }

    #[test]
    fn what_is_no_key_is_none() {
        for data in [
            "{}",
            r#"{"a":null}"#,
            r#"{"a":{}}"#,
            r#"{"a":[1]}"#,
            r#"{"a":""}"#,
            r#"{"b":{"a":1}}"#,
            r#"[{"a":1}]"#,
            "5",
            r#""a""#,
            r#"{"a":1"#,
        ] {
            assert_eq!(find("data.a", data), None, "{data}");
        }
        let path = DataPath::parse("data.a").unwrap();
        assert_eq!(path.find(&Content::Text(r#"{"a":1}"#.into())), None);
        assert_eq!(path.find(&Content::Binary(r#"{"a":1}"#.into())), None);
    }

    #[test]
    fn a_key_at_its_most_bytes_counts_and_one_more_does_not() {
        let long = |bytes: usize| format!(r#"{{"a":"{}"}}"#, "x".repeat(bytes));
        assert_eq!(find("data.a", &long(KEY_BYTES_MAX)).unwrap().len(), KEY_BYTES_MAX);
        assert_eq!(find("data.a", &long(KEY_BYTES_MAX + 1)), None);
    }

    #[test]
    fn a_path_at_its_most_bytes_is_taken_and_one_more_refused() {
        let path = |bytes: usize| format!("data.{}", "x".repeat(bytes - 5));
        assert!(DataPath::parse(&path(PATH_BYTES_MAX)).is_ok());
        assert!(DataPath::parse(&path(PATH_BYTES_MAX + 1)).is_err());
        for bad in ["", "data", "agent_id", "data.", "data..a", "data.a.", "Data.a", ".data.a"] {
            assert!(DataPath::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn deep_payloads_do_not_end_the_thread() {
        let deep = format!("{{\"b\":{}{},\"a\":1}}", "[".repeat(100_000), "]".repeat(100_000));
        assert!(matches!(find("data.a", &deep).as_deref(), None | Some("1")));
    }
}
