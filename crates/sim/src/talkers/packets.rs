//! The chat dialect as a client speaks it: requests and acks that it sends, and what it reads of responses, errors and events.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

/// A packet of the node's, as far as clients care.
#[derive(Debug, Deserialize)]
pub(crate) struct Packet<'a> {
    #[serde(borrow, rename = "type")]
    pub(crate) kind: Option<Cow<'a, str>>,
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    #[serde(borrow, rename = "eventType")]
    pub(crate) event_type: Option<Cow<'a, str>>,
    #[serde(borrow)]
    payload: Option<&'a RawValue>,
    /// `pong`, and nothing else.
    #[serde(borrow)]
    pub(crate) event: Option<Cow<'a, str>>,
    #[serde(borrow)]
    pub(crate) error: Option<Refusal<'a>>,
}

/// What stands in `error`.
#[derive(Debug, Deserialize)]
pub(crate) struct Refusal<'a> {
    #[serde(borrow)]
    pub(crate) id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    pub(crate) exception: Cow<'a, str>,
}

/// What stands in `payload` of events and responses.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Payload {
    pub(crate) chat_id: String,
    /// Who is online, or not any more.
    pub(crate) user_id: String,
    pub(crate) sender: String,
    pub(crate) message_id: u64,
    pub(crate) client_message_id: String,
    pub(crate) message: String,
    pub(crate) timestamp: u64,
    pub(crate) messages: Option<Vec<Shown>>,
}

/// A chat of an answer.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Chat {
    pub(crate) chat_id: String,
    #[serde(rename = "type")]
    pub(crate) kind: String,
    pub(crate) participants: Vec<String>,
    pub(crate) last_message: Option<Shown>,
    pub(crate) missed: u64,
}

/// A message of an answer.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Shown {
    pub(crate) message_id: u64,
    pub(crate) sender: String,
    pub(crate) client_message_id: String,
    pub(crate) message: String,
    pub(crate) status: String,
}

impl Shown {
    /// How far it got: no message goes back from one to the one before.
    pub(crate) fn rank(&self) -> u8 {
        match &*self.status {
            "undelivered" => 0,
            "unread" => 1,
            "read" => 2,
            "deleted" => 3,
            other => panic!("a message that is {other}"),
        }
    }
}

impl<'a> Packet<'a> {
    pub(crate) fn read(text: &'a str) -> Result<Self, String> {
        serde_json::from_str(text).map_err(|cause| format!("{cause}: {text}"))
    }

    /// Of an event its number, of a response that of its request.
    pub(crate) fn id(&self) -> Option<u64> {
        self.id?.get().trim_matches('"').parse().ok()
    }

    pub(crate) fn payload(&self) -> Result<Payload, String> {
        self.payload_as("{}")
    }

    /// What stands in `payload`, or `absent`.
    pub(crate) fn payload_as<T: Deserialize<'a>>(&self, absent: &'a str) -> Result<T, String> {
        let payload = self.payload.map_or(absent, RawValue::get);
        serde_json::from_str(payload).map_err(|cause| format!("{cause}: {payload}"))
    }
}

pub(crate) fn request(id: u64, kind: &str, payload: &str) -> String {
    format!(
        "{{\"type\":\"request\",\"id\":\"{id}\",\"payloadType\":\"{kind}\",\"payload\":{{{payload}}}}}"
    )
}

pub(crate) fn ack(event: u64) -> String {
    format!("{{\"type\":\"ack\",\"id\":\"{event}\"}}")
}
