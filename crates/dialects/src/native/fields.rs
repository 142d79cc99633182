//! The known members of a message, each still as its raw text: what nobody asks for is not parsed further. Owns the
//! wording of refusals about fields.

use std::borrow::Cow;
use std::fmt;

use roomcast_protocol::codes::{Refusal, Refused};
use roomcast_protocol::publication::TEXT_BYTES_MAX;
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

/// Names that mean something at the top of a message, in `data` of a system message, or in `metadata`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(field_identifier, rename_all = "snake_case")]
pub(crate) enum Key {
    Type,
    Id,
    Room,
    Data,
    Metadata,
    Timestamp,
    Sender,
    Token,
    Compressed,
    Messages,
    Since,
    #[serde(rename = "ackId")]
    AckId,
    #[serde(rename = "requiresAck")]
    RequiresAck,
    #[serde(rename = "requires_ack")]
    MetadataRequiresAck,
    CorrelationId,
    Priority,
    Ttl,
    Requires,
    Isolated,
    Direction,
    From,
    Limit,
    Epoch,
    Offset,
    ResumeToken,
    Covered,
    Device,
    Handover,
    After,
    Delivered,
    Read,
    Of,
    Method,
    Params,
    /// Last, because the table of values has no place for it.
    #[serde(other)]
    Other,
}

/// The known members of one object. A name that stands twice has its last value, as for `JSON.parse`.
pub(crate) struct Fields<'a> {
    values: [Option<&'a RawValue>; Key::Other as usize],
}

impl Default for Fields<'_> {
    fn default() -> Self {
        Self { values: [None; Key::Other as usize] }
    }
}

impl<'a> Fields<'a> {
    /// Reads a whole message.
    pub(crate) fn read(&mut self, text: &'a str) -> Result<(), Refused> {
        self.fill(text).map_err(|_| no_object(text))
    }

    /// The members of an object, or none at all if the value is none.
    pub(crate) fn of(value: Option<&'a str>) -> Self {
        let mut fields = Self::default();
        if let Some(text) = value
            && fields.fill(text).is_err()
        {
            return Self::default();
        }
        fields
    }

    fn fill(&mut self, text: &'a str) -> Result<(), serde_json::Error> {
        let mut deserializer = serde_json::Deserializer::from_str(text);
        deserializer.deserialize_map(Members(self))?;
        deserializer.end()
    }

    /// The value as it came, `null` included.
    pub(crate) fn raw(&self, key: Key) -> Option<&'a str> {
        self.values.get(key as usize).copied().flatten().map(RawValue::get)
    }

    /// The value as it came; `null` is as good as absent.
    pub(crate) fn value(&self, key: Key) -> Option<&'a str> {
        self.raw(key).filter(|&text| text != "null")
    }

    /// A string.
    pub(crate) fn text(&self, key: Key, name: &str) -> Result<Option<Cow<'a, str>>, Refused> {
        let Some(raw) = self.value(key) else { return Ok(None) };
        text(raw).map(Some).ok_or_else(|| wrong(name, "a string"))
    }

    /// An id; see [`id`].
    pub(crate) fn id(&self, key: Key, name: &str) -> Result<Option<Cow<'a, str>>, Refused> {
        self.value(key).map_or(Ok(None), |raw| id(raw, name))
    }

    /// A whole number that is not negative.
    pub(super) fn whole(&self, key: Key, name: &str) -> Result<Option<u64>, Refused> {
        let Some(raw) = self.value(key) else { return Ok(None) };
        raw.parse().map(Some).map_err(|_| wrong(name, "a whole number, not negative"))
    }

    /// A boolean; absent means no.
    pub(super) fn flag(&self, key: Key, name: &str) -> Result<bool, Refused> {
        match self.value(key) {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(_) => Err(wrong(name, "true or false")),
        }
    }
}

/// Fills the table in place: it is too large to be handed around.
struct Members<'f, 'a>(&'f mut Fields<'a>);

impl<'de> Visitor<'de> for Members<'_, 'de> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<Key>()? {
            match self.0.values.get_mut(key as usize) {
                Some(value) => *value = Some(map.next_value()?),
                None => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(())
    }
}

/// A member's name, borrowed where it has no escapes.
#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

/// Shows every member of an object in order. `false` if the text is no object, or more than one.
pub(crate) fn each_member<'a>(text: &'a str, see: impl FnMut(&str, &'a str)) -> bool {
    struct Members<F>(F);

    impl<'de, F: FnMut(&str, &'de str)> Visitor<'de> for Members<F> {
        type Value = ();

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
            while let Some(Name(name)) = map.next_key::<Name<'de>>()? {
                self.0(&name, map.next_value::<&'de RawValue>()?.get());
            }
            Ok(())
        }
    }

    let mut deserializer = serde_json::Deserializer::from_str(text);
    deserializer.deserialize_map(Members(see)).and_then(|()| deserializer.end()).is_ok()
}

/// Shows every element of an array in order. `false` if the text is no array, or more than one.
pub(crate) fn each_element<'a>(text: &'a str, see: impl FnMut(&'a str)) -> bool {
    struct Elements<F>(F);

    impl<'de, F: FnMut(&'de str)> Visitor<'de> for Elements<F> {
        type Value = ();

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an array")
        }

        fn visit_seq<A: SeqAccess<'de>>(mut self, mut seq: A) -> Result<(), A::Error> {
            while let Some(element) = seq.next_element::<&'de RawValue>()? {
                self.0(element.get());
            }
            Ok(())
        }
    }

    let mut deserializer = serde_json::Deserializer::from_str(text);
    deserializer.deserialize_seq(Elements(see)).and_then(|()| deserializer.end()).is_ok()
}

/// The characters of a JSON string, borrowed where it has no escapes; `None` if the value is no string.
pub(crate) fn text(raw: &str) -> Option<Cow<'_, str>> {
    let inner = raw.strip_prefix('"')?.strip_suffix('"')?;
    if inner.as_bytes().contains(&b'\\') {
        return serde_json::from_str(raw).ok().map(Cow::Owned);
    }
    Some(Cow::Borrowed(inner))
}

/// Whether a valid JSON value is a number.
pub(crate) fn is_number(raw: &str) -> bool {
    raw.starts_with(|first: char| first == '-' || first.is_ascii_digit())
}

/// An id: a string, or a number, which is kept as its text. Empty means none.
pub(crate) fn id<'a>(raw: &'a str, name: &str) -> Result<Option<Cow<'a, str>>, Refused> {
    let id = text(raw)
        .or_else(|| is_number(raw).then_some(Cow::Borrowed(raw)))
        .ok_or_else(|| wrong(name, "a string or a number"))?;
    bounded(&id, name)?;
    Ok(Some(id).filter(|id| !id.is_empty()))
}

/// Refuses names and ids that are too long to be kept.
pub(crate) fn bounded(text: &str, name: &str) -> Result<(), Refused> {
    if text.len() > TEXT_BYTES_MAX {
        return Err(schema(format!("{name} must be at most {TEXT_BYTES_MAX} bytes")));
    }
    Ok(())
}

/// A message that is no object.
pub(crate) fn no_object(text: &str) -> Refused {
    match serde_json::from_str::<IgnoredAny>(text) {
        Ok(IgnoredAny) => schema("A message must be an object with a type"),
        // Tells place and expectation, never what was found.
        Err(error) => bad_json(format!("The message is not JSON: {error}")),
    }
}

/// A field that is not what it must be.
pub(crate) fn wrong(name: &str, must_be: &str) -> Refused {
    schema(format!("{name} must be {must_be}"))
}

/// A field that is needed and not there.
pub(crate) fn missing(name: &str, must_be: &str) -> Refused {
    schema(format!("{name} is missing: {must_be}"))
}

/// 102.
pub(crate) fn schema(message: impl Into<Cow<'static, str>>) -> Refused {
    Refused::because(Refusal::Schema, message.into())
}

/// 100.
pub(crate) fn bad_json(message: impl Into<Cow<'static, str>>) -> Refused {
    Refused::because(Refusal::BadJson, message.into())
}

/// 101.
pub(crate) fn unknown_type(message: impl Into<Cow<'static, str>>) -> Refused {
    Refused::because(Refusal::UnknownType, message.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_of_two_equal_names_counts() {
        let fields = Fields::of(Some(r#"{"room":"a","x":[1],"room":"b","\u0072oom":"c"}"#));
        assert_eq!(fields.text(Key::Room, "room").unwrap().unwrap(), "c");
    }

    #[test]
    fn what_follows_an_object_or_an_array_is_refused() {
        for (text, is_one) in [
            ("{}", true),
            (" {\"a\":1}\n", true),
            ("{} {}", false),
            ("{\"a\":1},", false),
            ("[]", false),
        ] {
            assert_eq!(each_member(text, |_, _| {}), is_one, "{text}");
        }
        for (text, is_one) in [("[]", true), (" [1] ", true), ("[1] 2", false), ("[1]]", false)] {
            assert_eq!(each_element(text, |_| {}), is_one, "{text}");
        }
    }

    #[test]
    fn strings_without_escapes_are_borrowed() {
        assert!(matches!(text(r#""plain é""#), Some(Cow::Borrowed("plain é"))));
        assert_eq!(text(r#""a\"\u00e9\n""#).unwrap(), "a\"é\n");
        assert_eq!(text("17"), None);
    }

    #[test]
    fn null_is_as_good_as_absent() {
        let fields = Fields::of(Some(r#"{"id":null,"data":null}"#));
        assert_eq!(fields.id(Key::Id, "id").unwrap(), None);
        assert_eq!(fields.raw(Key::Data), Some("null"));
    }

    #[test]
    fn a_wrong_kind_is_named_without_its_value() {
        let fields = Fields::of(Some(r#"{"room":["secret"],"compressed":"secret"}"#));
        let refused = fields.text(Key::Room, "room").unwrap_err();
        assert_eq!(refused.message, "room must be a string");
        let refused = fields.flag(Key::Compressed, "compressed").unwrap_err();
        assert_eq!(refused.message, "compressed must be true or false");
    }
}
