//! The native wire: one message to bytes, bytes to one message, in JSON or MessagePack.
//!
//! Pure: does no IO and reads no clock. Source: native seed, "Message Format"; the names are the seed's.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;
use serde_json::Value;

use crate::error::{Closed, Error, Refused};
use crate::event::{
    Ack, Drain, Event, Joined, Metadata, Position, Presence, Publication, Response, ResumeOffer,
    RosterPage, Welcome,
};
use crate::options::{Continuation, Format, Options, PublishOptions};
use crate::receipts::{self, Receipt, ReceiptsPage, Said};

/// One message to the node. Fields left empty are not written.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Outgoing<'a> {
    /// The message's type.
    #[serde(rename = "type")]
    pub kind: &'a str,
    /// Its id, which answers name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<&'a str>,
    /// The room of a publication.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub room: Option<&'a str>,
    /// The payload.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data: Option<&'a Value>,
    /// The token of `auth`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<&'a str>,
    /// With `auth`: the session that is to go on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resume_token: Option<&'a str>,
    /// With `auth`: what is covered of that session's rooms.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub covered: Option<&'a BTreeMap<&'a str, &'a Position>>,
    /// With `auth`: which device of its user this is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device: Option<&'a str>,
    /// With `auth`: whether it goes elsewhere when it is told to. Saying no asks for a session of its own: who says nothing
    /// may be given an older one of its user's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub handover: Option<bool>,
    /// The publication that an `ack` is for.
    #[serde(rename = "ackId", skip_serializing_if = "Option::is_none")]
    pub ack_id: Option<&'a str>,
    /// The timestamp of `ping`. Units: milliseconds since the Unix epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timestamp: Option<u64>,
    /// Asks for an ack.
    #[serde(rename = "requiresAck", skip_serializing_if = "is_false")]
    pub requires_ack: bool,
    /// Priority, time to live, correlation, required permissions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metadata: Option<OutgoingMetadata<'a>>,
}

/// What a publication says about itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct OutgoingMetadata<'a> {
    /// `high`, `normal` or `low`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority: Option<&'a str>,
    /// Time to live. Units: seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttl: Option<u32>,
    /// Links it to a request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub correlation_id: Option<&'a str>,
    /// Permissions a member must hold.
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    pub requires: &'a [String],
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
const fn is_false(value: &bool) -> bool {
    !*value
}

impl<'a> Outgoing<'a> {
    /// A publication.
    #[must_use]
    pub fn publication(
        id: &'a str,
        room: &'a str,
        kind: &'a str,
        data: &'a Value,
        options: &'a PublishOptions,
    ) -> Self {
        let metadata = OutgoingMetadata {
            priority: options.priority.map(|priority| priority.name()),
            ttl: options.ttl_s,
            correlation_id: options.correlation_id.as_deref(),
            requires: &options.requires,
        };
        Self {
            kind,
            id: Some(id),
            room: Some(room),
            data: Some(data),
            requires_ack: options.ack,
            metadata: (metadata != OutgoingMetadata::default()).then_some(metadata),
            ..Self::default()
        }
    }
}

/// How long the first message may be: a node takes no longer one from whom it does not know yet. Units: bytes.
pub const FIRST_MESSAGE_BYTES_MAX: usize = 10 * 1_024;

/// What one room of `covered` takes in it at most, but for characters that have to be escaped: a name of 255 bytes, an epoch
/// of 32 and an offset of 16 digits, in JSON. Units: bytes.
const COVERED_BYTES_MAX: usize = 255 + 32 + 16 + 27;

/// The first message where the token travels there: who this is, and how an older session is to go on. Of more rooms than
/// it has space for the rest is left out: of those the node goes by what it knows itself, and publications that come
/// again are dropped by their position.
///
/// # Errors
/// As of [`encode`].
pub fn auth(options: &Options) -> Result<Bytes, Error> {
    let Continuation { resume_token, covered, device, hands_over } = &options.continuation;
    let mut count = covered.len();
    loop {
        let named = covered.iter().take(count);
        let named = named.map(|(room, at)| (room.as_str(), at)).collect::<BTreeMap<_, _>>();
        let message = Outgoing {
            kind: "auth",
            token: options.token.as_deref(),
            resume_token: resume_token.as_deref(),
            covered: Some(&named).filter(|named| !named.is_empty()),
            device: device.as_deref(),
            handover: Some(*hands_over),
            ..Outgoing::default()
        };
        let bytes = encode(options.format, &message)?;
        let over = bytes.len().saturating_sub(FIRST_MESSAGE_BYTES_MAX);
        if over == 0 || count == 0 {
            return Ok(bytes);
        }
        // So many have to go at least.
        count -= (over / COVERED_BYTES_MAX).clamp(1, count);
    }
}

/// The `data` of a question who is in a room.
#[must_use]
pub fn presence_request(room: &str, after: Option<&str>, limit: Option<u32>) -> Value {
    let mut data = serde_json::Map::new();
    data.insert("room".into(), room.into());
    after.into_iter().for_each(|after| drop(data.insert("after".into(), after.into())));
    limit.into_iter().for_each(|limit| drop(data.insert("limit".into(), limit.into())));
    Value::Object(data)
}

/// Writes one message.
///
/// # Errors
/// [`Error::Encode`] where the payload does not fit the format.
pub fn encode(format: Format, message: &Outgoing<'_>) -> Result<Bytes, Error> {
    match format {
        Format::Json => {
            serde_json::to_vec(message).map_err(|cause| Error::Encode(cause.to_string()))
        }
        Format::MessagePack => {
            rmp_serde::to_vec_named(message).map_err(|cause| Error::Encode(cause.to_string()))
        }
    }
    .map(Bytes::from)
}

/// One message from the node, by what the client does with it.
#[derive(Clone, Debug, PartialEq)]
pub enum Incoming {
    /// The connection is ready.
    Welcome(Welcome),
    /// The answer to a request of this id.
    Answer {
        /// The request's id.
        id: String,
        /// What it says.
        answer: Answer,
    },
    /// A pong with this timestamp.
    Pong(Option<u64>),
    /// Anything heard unasked.
    Event(Event),
}

/// What the node answers to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// To a join.
    Joined(Joined),
    /// To a leave.
    Left,
    /// To a publication.
    Ack(Ack),
    /// To a new token.
    Refreshed,
    /// To the question who is in a room.
    Roster(RosterPage),
    /// To a mark.
    Marked(Receipt),
    /// To the question how far users are.
    Receipts(ReceiptsPage),
    /// Of the application.
    Response(Response),
    /// To any.
    Refused(Box<Refused>),
}

/// Reads one message.
///
/// # Errors
/// [`Closed`] with code 1007 where the bytes are no object of the format: such a peer is not to be trusted further.
pub fn decode(format: Format, bytes: &[u8]) -> Result<Incoming, Closed> {
    let message: Value = match format {
        Format::Json => serde_json::from_slice(bytes).map_err(|cause| unreadable(&cause)),
        Format::MessagePack => rmp_serde::from_slice(bytes).map_err(|cause| unreadable(&cause)),
    }?;
    let Some(kind) = message.get("type").and_then(Value::as_str) else {
        return Err(unreadable(&"a message without a type"));
    };
    let answer = |answer| match correlation(&message) {
        Some(id) => Incoming::Answer { id, answer },
        None => Incoming::Event(Event::Other(message.clone())),
    };
    Ok(match kind {
        "welcome" => Incoming::Welcome(welcome(&message)),
        // Without a request's id: a room that it was put into at connect.
        "subscribed" => match correlation(&message) {
            Some(id) => Incoming::Answer { id, answer: Answer::Joined(joined(&message)) },
            None => Incoming::Event(Event::Joined(joined(&message))),
        },
        "unsubscribed" => match correlation(&message) {
            Some(id) => Incoming::Answer { id, answer: Answer::Left },
            None => Incoming::Event(left(&message)),
        },
        "refresh" => answer(Answer::Refreshed),
        "ack" => ack(&message),
        "error" => refused(&message),
        "pong" => Incoming::Pong(message.get("timestamp").and_then(Value::as_u64)),
        "token_expiring" => Incoming::Event(Event::TokenExpiring {
            expires_at: text(data(&message), "expires_at").unwrap_or_default(),
        }),
        "gap" => Incoming::Event(Event::Gap {
            room: text(data(&message), "room"),
            reason: text(data(&message), "reason").unwrap_or_default(),
            position: metadata(&message).position(),
        }),
        "skip" => Incoming::Event(skip(&message).unwrap_or_else(|| Event::Other(message.clone()))),
        "presence" => match correlation(&message) {
            Some(id) => Incoming::Answer { id, answer: Answer::Roster(roster(&message)) },
            None => Incoming::Event(Event::Presence(presence(&message))),
        },
        "receipt" => match correlation(&message) {
            Some(id) => {
                let answer = match receipts::answer(&message) {
                    Said::Marked(receipt) => Answer::Marked(receipt),
                    Said::Page(page) => Answer::Receipts(page),
                };
                Incoming::Answer { id, answer }
            }
            None => Incoming::Event(Event::Receipts(receipts::told(&message))),
        },
        "request" => answer(Answer::Response(response(&message))),
        "lost" => Incoming::Event(Event::Lost {
            room: text(data(&message), "room").unwrap_or_default(),
            count: number(data(&message), "count"),
        }),
        "drain" => Incoming::Event(Event::Drain(Drain {
            turn: Duration::from_millis(number(data(&message), "turn_ms")),
            resume_token: text(data(&message), "resume_token").unwrap_or_default(),
        })),
        "degraded" => {
            Incoming::Event(Event::Degraded { isolated: flag(data(&message), "isolated") })
        }
        _ => Incoming::Event(publication(kind, &message).map_or_else(
            || Event::Other(message.clone()),
            |publication| Event::Publication(Box::new(publication)),
        )),
    })
}

fn left(message: &Value) -> Event {
    let said = |name| text(data(message), name).unwrap_or_default();
    Event::Left { room: said("room"), reason: said("reason") }
}

fn response(message: &Value) -> Response {
    let data = data(message);
    let status = u16::try_from(number(data, "status")).unwrap_or(0);
    let body = data.get("body").cloned().unwrap_or_default();
    Response { status, stale: flag(data, "stale"), body }
}

fn unreadable(cause: &impl std::fmt::Display) -> Closed {
    Closed { code: 1007, reason: format!("the node sent what cannot be read: {cause}") }
}

pub(crate) fn data(message: &Value) -> &Value {
    message.get("data").unwrap_or(&Value::Null)
}

/// A text, or a number as text: ids come as either.
pub(crate) fn text(object: &Value, key: &str) -> Option<String> {
    match object.get(key)? {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    }
}

fn flag(object: &Value, key: &str) -> bool {
    object.get(key).and_then(Value::as_bool).unwrap_or(false)
}

pub(crate) fn number(object: &Value, key: &str) -> u64 {
    object.get(key).and_then(Value::as_u64).unwrap_or(0)
}

fn texts(object: &Value, key: &str) -> Vec<String> {
    let list = object.get(key).and_then(Value::as_array).into_iter().flatten();
    list.filter_map(|text| text.as_str().map(str::to_owned)).collect()
}

fn correlation(message: &Value) -> Option<String> {
    text(message.get("metadata")?, "correlation_id")
}

pub(crate) fn metadata(message: &Value) -> Metadata {
    let Some(metadata) = message.get("metadata") else { return Metadata::default() };
    Metadata {
        priority: text(metadata, "priority"),
        ttl: metadata.get("ttl").and_then(Value::as_u64),
        correlation_id: text(metadata, "correlation_id"),
        epoch: text(metadata, "epoch"),
        offset: metadata.get("offset").and_then(Value::as_u64),
    }
}

fn welcome(message: &Value) -> Welcome {
    // The seed's form is flat; the full envelope has them in `data`.
    let flat = message.get("user_id").is_some() || message.get("permissions").is_some();
    let object = if flat { message } else { data(message) };
    let window = Duration::from_secs(number(object, "resume_window_s"));
    let resumed = object.get("resumed").and_then(Value::as_bool);
    let why = || text(object, "reason").unwrap_or_default();
    Welcome {
        user_id: text(object, "user_id").unwrap_or_default(),
        session_id: text(object, "session_id"),
        permissions: texts(object, "permissions"),
        resume: text(object, "resume_token").map(|token| ResumeOffer { token, window }),
        resumed: resumed.map(|resumed| if resumed { Ok(()) } else { Err(why()) }),
    }
}

fn joined(message: &Value) -> Joined {
    let data = data(message);
    let recovered = data.get("recovered").and_then(Value::as_bool);
    let outcome = |recovered| {
        let why = || text(data, "reason").unwrap_or_default();
        if recovered { Ok(()) } else { Err(why()) }
    };
    Joined {
        room: text(data, "room").unwrap_or_default(),
        position: metadata(message).position(),
        recovered: recovered.map(outcome),
        live: data.get("live").and_then(Value::as_bool).unwrap_or(true),
    }
}

fn skip(message: &Value) -> Option<Event> {
    let data = data(message);
    Some(Event::Skip {
        room: text(data, "room")?,
        to: Position { epoch: metadata(message).epoch?, offset: data.get("to")?.as_u64()? },
        count: data.get("count")?.as_u64()?,
        reasons: texts(data, "reasons"),
    })
}

fn presence(message: &Value) -> Presence {
    let data = data(message);
    Presence {
        room: text(data, "room").unwrap_or_default(),
        count: number(data, "count"),
        joined: texts(data, "joined"),
        left: texts(data, "left"),
        version: metadata(message).position(),
    }
}

fn roster(message: &Value) -> RosterPage {
    let data = data(message);
    RosterPage {
        room: text(data, "room").unwrap_or_default(),
        count: number(data, "count"),
        users: data.get("users").map(|_| texts(data, "users")),
        next: text(data, "next"),
        version: metadata(message).position(),
    }
}

fn ack(message: &Value) -> Incoming {
    let Some(id) = text(message, "ackId") else {
        return Incoming::Event(Event::Other(message.clone()));
    };
    let position: Option<Position> = metadata(message).position();
    let answer = Answer::Ack(Ack {
        level: text(data(message), "level").unwrap_or_else(|| "accepted".into()),
        reach: text(data(message), "reach"),
        dedup: text(data(message), "dedup"),
        position,
    });
    Incoming::Answer { id, answer }
}

fn refused(message: &Value) -> Incoming {
    let id = correlation(message);
    let refused = Box::new(Refused::read(data(message), id.as_deref()));
    match id {
        Some(id) => Incoming::Answer { id, answer: Answer::Refused(refused) },
        None => Incoming::Event(Event::Error(refused)),
    }
}

fn publication(kind: &str, message: &Value) -> Option<Publication> {
    Some(Publication {
        room: text(message, "room")?,
        kind: kind.to_owned(),
        id: text(message, "id").unwrap_or_default(),
        timestamp: text(message, "timestamp").unwrap_or_default(),
        sender: text(message, "sender").unwrap_or_default(),
        isolated: flag(message, "isolated"),
        requires_ack: flag(message, "requiresAck"),
        redelivered: flag(message, "redelivered"),
        data: data(message).clone(),
        metadata: metadata(message),
    })
}

#[cfg(test)]
mod tests {
    use roomcast_protocol::publication::Priority;
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check(message: &Value, expected: &Incoming) {
        let json = serde_json::to_vec(message).unwrap();
        let msgpack = rmp_serde::to_vec_named(message).unwrap();
        assert_eq!(decode(Format::Json, &json).as_ref(), Ok(expected));
        assert_eq!(decode(Format::MessagePack, &msgpack).as_ref(), Ok(expected));
    }

    #[test]
    fn a_publication_is_written_with_the_seeds_names_in_both_formats() {
        let options = PublishOptions {
            ack: true,
            priority: Some(Priority::High),
            ttl_s: Some(300),
            requires: vec!["verified".into()],
            ..PublishOptions::default()
        };
        let data = json!({"agent_id": 7});
        let message = Outgoing::publication("a-1", "agents", "agent_status", &data, &options);
        let expected = json!({
            "type": "agent_status", "id": "a-1", "room": "agents", "data": {"agent_id": 7},
            "requiresAck": true,
            "metadata": {"priority": "high", "ttl": 300, "requires": ["verified"]},
        });
        let json = encode(Format::Json, &message).unwrap();
        assert_eq!(serde_json::from_slice::<Value>(&json).unwrap(), expected);
        let msgpack = encode(Format::MessagePack, &message).unwrap();
        assert_eq!(rmp_serde::from_slice::<Value>(&msgpack).unwrap(), expected);
    }

    #[test]
    fn what_is_empty_is_not_written() {
        let message = Outgoing { kind: "ping", timestamp: Some(5), ..Outgoing::default() };
        assert_eq!(
            encode(Format::Json, &message).unwrap(),
            Bytes::from_static(br#"{"type":"ping","timestamp":5}"#)
        );
    }

    #[test]
    fn the_flat_welcome_of_the_seed_is_read() {
        check(
            &json!({"type": "welcome", "user_id": 42, "permissions": ["view_agents"]}),
            &Incoming::Welcome(Welcome {
                user_id: "42".into(),
                session_id: None,
                permissions: vec!["view_agents".into()],
                ..Welcome::default()
            }),
        );
    }

    #[test]
    fn a_welcome_says_how_to_get_the_session_back_and_what_became_of_the_wish() {
        let offer = ResumeOffer { token: "s.k".into(), window: Duration::from_secs(120) };
        for (told, resumed) in [
            (json!({}), None),
            (json!({"resumed": true}), Some(Ok(()))),
            (json!({"resumed": false, "reason": "token"}), Some(Err("token".to_owned()))),
        ] {
            let mut message = json!({"type": "welcome", "user_id": "7", "permissions": [],
                "session_id": "ab", "resume_token": "s.k", "resume_window_s": 120});
            message.as_object_mut().unwrap().extend(told.as_object().unwrap().clone());
            check(
                &message,
                &Incoming::Welcome(Welcome {
                    user_id: "7".into(),
                    session_id: Some("ab".into()),
                    permissions: Vec::new(),
                    resume: Some(offer.clone()),
                    resumed,
                }),
            );
        }
    }

    #[test]
    fn presence_is_an_answer_where_it_was_asked_and_else_an_event() {
        let version = Some(Position { epoch: "e".into(), offset: 4 });
        check(
            &json!({"type": "presence", "data": {"room": "news", "count": 2, "joined": ["b"],
                "left": []}, "metadata": {"epoch": "e", "offset": 4}}),
            &Incoming::Event(Event::Presence(Presence {
                room: "news".into(),
                count: 2,
                joined: vec!["b".into()],
                left: Vec::new(),
                version: version.clone(),
            })),
        );
        for (stale, body) in [(false, json!([1])), (true, json!(null))] {
            let mut data = json!({"status": 200, "body": body});
            if stale {
                data["stale"] = json!(true);
            }
            let response = Response { status: 200, stale, body };
            check(
                &json!({"type": "request", "data": data, "metadata": {"correlation_id": "q"}}),
                &Incoming::Answer { id: "q".into(), answer: Answer::Response(response) },
            );
        }
        for (users, next) in [(Some(vec!["a".to_owned()]), Some("a".to_owned())), (None, None)] {
            let mut data = json!({"room": "news", "count": 2});
            if let Some(users) = &users {
                data["users"] = json!(users);
                data["next"] = json!(next);
            }
            let page =
                RosterPage { room: "news".into(), count: 2, users, next, version: version.clone() };
            check(
                &json!({"type": "presence", "data": data,
                    "metadata": {"correlation_id": "p", "epoch": "e", "offset": 4}}),
                &Incoming::Answer { id: "p".into(), answer: Answer::Roster(page) },
            );
        }
    }

    #[test]
    fn turns_to_go_and_removed_publications_are_told() {
        check(
            &json!({"type": "drain", "data": {"turn_ms": 5000, "resume_token": "s.t",
                "reason": "drain"}}),
            &Incoming::Event(Event::Drain(Drain {
                turn: Duration::from_secs(5),
                resume_token: "s.t".into(),
            })),
        );
        check(
            &json!({"type": "lost", "data": {"room": "user-7", "count": 3}}),
            &Incoming::Event(Event::Lost { room: "user-7".into(), count: 3 }),
        );
    }

    #[test]
    fn the_first_message_names_as_many_rooms_as_have_space() {
        let position = |offset| Position { epoch: "0".repeat(32), offset };
        for format in [Format::Json, Format::MessagePack] {
            let named = |rooms: u64, pad: usize| {
                let name = |it| format!("room-{it:0>5}{}", "x".repeat(pad));
                let mut options = Options { format, ..Options::new("ws://h", "t") };
                options.continuation.covered =
                    (0..rooms).map(|it| (name(it), position(it))).collect();
                auth(&options).unwrap()
            };
            assert!(named(1_024, 0).len() <= FIRST_MESSAGE_BYTES_MAX);
            let (one, two) = (named(1, 200).len(), named(2, 200).len());
            let each = two - one;
            let full = named(1_024, 200).len();
            assert!(full <= FIRST_MESSAGE_BYTES_MAX && full + 2 * each > FIRST_MESSAGE_BYTES_MAX);
            assert!(named(3, 0).len() < FIRST_MESSAGE_BYTES_MAX, "a few are all named");
        }
        let long = Options::new("ws://h", "t".repeat(20_000));
        assert!(auth(&long).is_ok(), "the node says what is wrong with it");
    }

    #[test]
    fn a_token_is_brought_with_the_wish_to_go_on() {
        let position = Position { epoch: "e".into(), offset: 7 };
        let covered = BTreeMap::from([("news", &position)]);
        let message = Outgoing {
            kind: "auth",
            token: Some("t"),
            resume_token: Some("s.k"),
            covered: Some(&covered),
            device: Some("phone"),
            handover: Some(true),
            ..Outgoing::default()
        };
        let expected = json!({"type": "auth", "token": "t", "resume_token": "s.k",
            "covered": {"news": {"epoch": "e", "offset": 7}}, "device": "phone", "handover": true});
        let json = encode(Format::Json, &message).unwrap();
        assert_eq!(serde_json::from_slice::<Value>(&json).unwrap(), expected);
        let ack = Outgoing { kind: "ack", ack_id: Some("m-1"), ..Outgoing::default() };
        let json = encode(Format::Json, &ack).unwrap();
        assert_eq!(json, Bytes::from_static(br#"{"type":"ack","ackId":"m-1"}"#));
    }

    #[test]
    fn answers_find_their_request() {
        check(
            &json!({"type": "subscribed", "data": {"room": "news"},
                "metadata": {"correlation_id": "r1", "epoch": "e", "offset": 9}}),
            &Incoming::Answer {
                id: "r1".into(),
                answer: Answer::Joined(Joined {
                    room: "news".into(),
                    position: Some(Position { epoch: "e".into(), offset: 9 }),
                    recovered: None,
                    live: true,
                }),
            },
        );
        check(
            &json!({"type": "ack", "ackId": "p1", "data": {"level": "stored"}}),
            &Incoming::Answer {
                id: "p1".into(),
                answer: Answer::Ack(Ack {
                    level: "stored".into(),
                    reach: None,
                    dedup: None,
                    position: None,
                }),
            },
        );
        check(&json!({"type": "pong", "timestamp": 12}), &Incoming::Pong(Some(12)));
        check(
            &json!({"type": "refresh", "data": {"expires_at": "2024-01-15T11:30:00.000Z"},
                "metadata": {"correlation_id": "a1"}}),
            &Incoming::Answer { id: "a1".into(), answer: Answer::Refreshed },
        );
    }

    #[test]
    fn a_join_says_what_became_of_what_was_missed() {
        for (data, recovered, live) in [
            (json!({"room": "a"}), None, true),
            (json!({"room": "a", "recovered": true}), Some(Ok(())), true),
            (
                json!({"room": "a", "recovered": false, "reason": "too_old"}),
                Some(Err("too_old".to_owned())),
                true,
            ),
            (json!({"room": "a", "live": false}), None, false),
        ] {
            let message =
                json!({"type": "subscribed", "data": data, "metadata": {"correlation_id": "1"}});
            let joined = Joined { room: "a".into(), position: None, recovered, live };
            let answer = Answer::Joined(joined);
            check(&message, &Incoming::Answer { id: "1".into(), answer });
        }
    }

    #[test]
    fn notices_of_the_node_are_events() {
        check(
            &json!({"type": "token_expiring", "data": {"expires_at": "2024-01-15T11:30:00.000Z"}}),
            &Incoming::Event(Event::TokenExpiring {
                expires_at: "2024-01-15T11:30:00.000Z".into(),
            }),
        );
        check(
            &json!({"type": "gap", "data": {"reason": "overload"}}),
            &Incoming::Event(Event::Gap { room: None, reason: "overload".into(), position: None }),
        );
        let at = |offset| Position { epoch: "e".into(), offset };
        check(
            &json!({"type": "gap", "data": {"room": "news", "reason": "epoch"},
                "metadata": {"epoch": "e", "offset": 3}}),
            &Incoming::Event(Event::Gap {
                room: Some("news".into()),
                reason: "epoch".into(),
                position: Some(at(3)),
            }),
        );
        check(
            &json!({"type": "skip", "data": {"room": "news", "to": 7, "count": 4,
                "reasons": ["expired", "filtered"]}, "metadata": {"epoch": "e"}}),
            &Incoming::Event(Event::Skip {
                room: "news".into(),
                to: at(7),
                count: 4,
                reasons: vec!["expired".into(), "filtered".into()],
            }),
        );
        check(
            &json!({"type": "unsubscribed", "data": {"room": "news", "reason": "ordered"}, "metadata": {}}),
            &Incoming::Event(Event::Left { room: "news".into(), reason: "ordered".into() }),
        );
        for isolated in [true, false] {
            check(
                &json!({"type": "degraded", "data": {"isolated": isolated}}),
                &Incoming::Event(Event::Degraded { isolated }),
            );
        }
    }

    #[test]
    fn an_ack_says_how_far_a_publication_got() {
        for (data, isolated, partial) in [
            (json!({"level": "accepted"}), false, false),
            (json!({"level": "isolated"}), true, false),
            (json!({"level": "accepted", "reach": "partial"}), false, true),
        ] {
            let message = json!({"type": "ack", "ackId": "p1", "data": data});
            let Ok(Incoming::Answer { answer: Answer::Ack(ack), .. }) =
                decode(Format::Json, message.to_string().as_bytes())
            else {
                panic!("no ack")
            };
            assert_eq!((ack.is_isolated(), ack.is_partial()), (isolated, partial), "{message}");
        }
    }

    #[test]
    fn an_error_without_a_request_is_an_event() {
        let message = json!({"type": "error", "data": {"code": 100, "name": "bad_json",
            "message": "The message cannot be read", "retry": false}});
        let Ok(Incoming::Event(Event::Error(refused))) =
            decode(Format::Json, message.to_string().as_bytes())
        else {
            panic!("no error event")
        };
        assert_eq!((refused.code, refused.name.as_str()), (100, "bad_json"));
    }

    #[test]
    fn a_publication_serialises_back_to_what_came() {
        let whole = json!({"id": "a1b2", "type": "agent_status",
            "timestamp": "2024-01-15T10:30:00Z", "sender": "agent-001", "room": "agents",
            "data": {"agent_id": 123, "cpu_usage": 15.2}, "metadata": {"priority": "normal"}});
        let mut isolated = whole.clone();
        isolated["isolated"] = true.into();
        let mut again = whole.clone();
        again["requiresAck"] = true.into();
        again["redelivered"] = true.into();
        for message in [whole, isolated, again] {
            let Ok(Incoming::Event(Event::Publication(publication))) =
                decode(Format::Json, message.to_string().as_bytes())
            else {
                panic!("no publication")
            };
            assert_eq!(publication.isolated, message.get("isolated").is_some());
            assert_eq!(serde_json::to_value(&publication).unwrap(), message);
        }
    }

    #[test]
    fn bytes_that_are_no_message_close_and_never_panic() {
        for bytes in [&b""[..], b"{", b"[]", b"7", b"{\"type\":7}", b"\xff\xfe", b"\xc1"] {
            for format in [Format::Json, Format::MessagePack] {
                assert_eq!(decode(format, bytes).unwrap_err().code, 1007, "{bytes:?}");
            }
        }
    }
}
