//! A request as JSON, in both of its schemas. Owns the names, which are read whatever their case, as Go reads them.

use std::borrow::Cow;

use bytes::Bytes;
use serde::de::IgnoredAny;

use super::go_base64;
use super::messages::{BadBody, Message, Messages};
use crate::native::fields::{each_element, each_member, text};

/// Reads a request. `with_broker`: in the schema that has one.
pub(super) fn read(body: &[u8], with_broker: bool) -> Result<Messages, BadBody> {
    let body = std::str::from_utf8(body)
        .map_err(|_| BadBody::Json("the request is not UTF-8, as JSON must be".into()))?;
    serde_json::from_str::<IgnoredAny>(body)
        .map_err(|error| BadBody::Json(format!("the request is not JSON: {error}")))?;
    let mut messages = Messages::default();
    members(body.trim(), "the request", |name, value| {
        if !name.eq_ignore_ascii_case("messages") {
            return Ok(());
        }
        // As in Go, the last array of that name counts.
        messages = Messages::default();
        elements(value, "messages", |value| message(value, with_broker, &mut messages))
    })?;
    Ok(messages)
}

fn message(value: &str, with_broker: bool, messages: &mut Messages) -> Result<(), BadBody> {
    let mut found = Message::default();
    members(value, "a message", |name, value| {
        if name.eq_ignore_ascii_case("command") {
            string(value, "command").map(|_| ())
        } else if with_broker && name.eq_ignore_ascii_case("broker") {
            found.broker = string(value, "broker")?.into();
            Ok(())
        } else if name.eq_ignore_ascii_case("topics") {
            elements(value, "topics", |value| {
                messages.topic(&mut found, &string(value, "a topic")?)
            })
        } else if name.eq_ignore_ascii_case("payload") {
            let payload = string(value, "payload")?;
            found.payload =
                go_base64::decode(&payload).map(Bytes::from).map_err(BadBody::Base64)?;
            Ok(())
        } else {
            Ok(())
        }
    })?;
    messages.push(found);
    Ok(())
}

/// A string; null is as good as an empty one.
fn string<'a>(value: &'a str, name: &str) -> Result<Cow<'a, str>, BadBody> {
    if is_null(value) {
        return Ok(Cow::Borrowed(""));
    }
    text(value).ok_or_else(|| BadBody::Json(format!("{name} must be a string")))
}

/// Shows the members of an object until one is wrong; null has none.
fn members<'a>(
    value: &'a str,
    name: &str,
    mut see: impl FnMut(&str, &'a str) -> Result<(), BadBody>,
) -> Result<(), BadBody> {
    let mut result = Ok(());
    let is_object = each_member(value, |name, value| {
        if result.is_ok() {
            result = see(name, value);
        }
    });
    if is_object || is_null(value) {
        return result;
    }
    Err(BadBody::Json(format!("{name} must be an object")))
}

/// Shows the elements of an array until one is wrong; null has none.
fn elements<'a>(
    value: &'a str,
    name: &str,
    mut see: impl FnMut(&'a str) -> Result<(), BadBody>,
) -> Result<(), BadBody> {
    let mut result = Ok(());
    let is_array = each_element(value, |value| {
        if result.is_ok() {
            result = see(value);
        }
    });
    if is_array || is_null(value) {
        return result;
    }
    Err(BadBody::Json(format!("{name} must be an array")))
}

fn is_null(value: &str) -> bool {
    value == "null"
}

#[cfg(test)]
mod tests {
    use super::super::messages::PUBLICATIONS_MAX;
    use super::*;

    /// Broker, topics and payload.
    type Shown<'a> = (&'a str, &'a [&'a str], &'a str);

    #[track_caller]
    fn check(body: &str, with_broker: bool, expected: Result<&[Shown<'_>], &str>) {
        let found = read(body.as_bytes(), with_broker).map_err(|bad| bad.text());
        let found = found.map(|messages| {
            let shown = messages.list.into_iter().map(|it| {
                let topics: Vec<_> = it.topics.iter().map(ToString::to_string).collect();
                (it.broker.to_string(), topics, String::from_utf8(it.payload.to_vec()).unwrap())
            });
            shown.collect::<Vec<_>>()
        });
        let expected = expected.map(|list| {
            let shown = list.iter().map(|(broker, topics, payload)| {
                let topics: Vec<_> = topics.iter().map(ToString::to_string).collect();
                ((*broker).to_owned(), topics, (*payload).to_owned())
            });
            shown.collect::<Vec<_>>()
        });
        assert_eq!(found, expected.map_err(str::to_owned), "{body}");
    }

    #[test]
    fn names_are_read_whatever_their_case() {
        let body = r#" {"MESSAGES":[{"Topics":["a","b"],"payload":"aGk=","Broker":"x","more":[1]}],"more":{}} "#;
        check(body, false, Ok(&[("", &["a", "b"], "hi")]));
        check(body, true, Ok(&[("x", &["a", "b"], "hi")]));
    }

    #[test]
    fn null_and_nothing_are_empty() {
        for body in ["null", "{}", r#"{"messages":null}"#, r#"{"messages":[null,{}]}"#] {
            check(body, true, Ok(&[]));
        }
        let body = r#"{"messages":[{"topics":[null,"","a"],"payload":null,"broker":null}]}"#;
        check(body, true, Ok(&[("", &["a"], "")]));
        assert_eq!(read(body.as_bytes(), true).unwrap().unnamed, 2);
    }

    #[test]
    fn what_is_no_request_is_refused_with_what_it_must_be() {
        let not_json = "the request is not JSON: expected value at line 1 column 1";
        check("x", false, Err(not_json));
        check("[]", false, Err("the request must be an object"));
        check(r#"{"messages":{}}"#, false, Err("messages must be an array"));
        check(r#"{"messages":[1]}"#, false, Err("a message must be an object"));
        check(r#"{"messages":[{"topics":"a"}]}"#, false, Err("topics must be an array"));
        check(r#"{"messages":[{"topics":[1]}]}"#, false, Err("a topic must be a string"));
        check(r#"{"messages":[{"payload":[1]}]}"#, false, Err("payload must be a string"));
        check(r#"{"messages":[{"command":1}]}"#, false, Err("command must be a string"));
        check(r#"{"messages":[{"broker":1}]}"#, true, Err("broker must be a string"));
        check(r#"{"messages":[{"broker":1}]}"#, false, Ok(&[]));
        let illegal = "illegal base64 data at input byte 0";
        check(r#"{"messages":[{"payload":"a"}]}"#, false, Err(illegal));
        assert!(read(b"\"\xff\"", false).unwrap_err().text().contains("UTF-8"));
        let trailing = r#"{"messages":[]} x"#;
        assert!(read(trailing.as_bytes(), false).unwrap_err().text().contains("trailing"));
    }

    #[test]
    fn a_request_asks_for_a_bounded_number_of_publications() {
        let body = |count: usize| {
            let topics = vec![r#""a""#; count].join(",");
            format!(r#"{{"messages":[{{"topics":[{topics}]}}]}}"#)
        };
        let most = read(body(PUBLICATIONS_MAX).as_bytes(), false).unwrap();
        assert_eq!(most.list[0].topics.len(), PUBLICATIONS_MAX);
        let more = read(body(PUBLICATIONS_MAX + 1).as_bytes(), false);
        assert_eq!(more.unwrap_err(), BadBody::TooMany);
    }
}
