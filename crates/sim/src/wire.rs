//! The native dialect as a client speaks it: frames it sends, and what it reads of those it gets.

use std::borrow::Cow;

use roomcast_protocol::position::{Epoch, Position};
use serde::Deserialize;
use serde_json::value::RawValue;

/// A message of the node's, as far as clients care.
#[derive(Debug, Deserialize)]
pub(crate) struct Wire<'a> {
    #[serde(borrow, rename = "type")]
    pub(crate) kind: Cow<'a, str>,
    #[serde(borrow)]
    pub(crate) id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    pub(crate) room: Option<Cow<'a, str>>,
    #[serde(default)]
    pub(crate) isolated: bool,
    /// Of a welcome: what brings the session back, and what became of the wish for an older one.
    #[serde(borrow)]
    pub(crate) resume_token: Option<Cow<'a, str>>,
    pub(crate) resumed: Option<bool>,
    #[serde(borrow, rename = "ackId")]
    pub(crate) ack_id: Option<Cow<'a, str>>,
    #[serde(rename = "requiresAck", default)]
    pub(crate) requires_ack: bool,
    #[serde(default)]
    pub(crate) redelivered: bool,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub(crate) metadata: Meta<'a>,
}

/// What stands in `metadata`.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Meta<'a> {
    #[serde(borrow)]
    pub(crate) correlation_id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    pub(crate) epoch: Option<Cow<'a, str>>,
    pub(crate) offset: Option<u64>,
}

/// What stands in `data` of the protocol's own messages.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Data<'a> {
    #[serde(borrow)]
    pub(crate) room: Option<Cow<'a, str>>,
    pub(crate) recovered: Option<bool>,
    #[serde(borrow)]
    pub(crate) reason: Option<Cow<'a, str>>,
    pub(crate) live: Option<bool>,
    #[serde(borrow)]
    pub(crate) level: Option<Cow<'a, str>>,
    pub(crate) isolated: Option<bool>,
    #[serde(borrow)]
    pub(crate) outcome: Option<Cow<'a, str>>,
    pub(crate) code: Option<u16>,
    pub(crate) to: Option<u64>,
    pub(crate) count: Option<u64>,
    #[serde(borrow)]
    pub(crate) reasons: Option<Vec<Cow<'a, str>>>,
    #[serde(borrow)]
    pub(crate) publications: Option<Vec<&'a RawValue>>,
    #[serde(borrow)]
    pub(crate) resume_token: Option<Cow<'a, str>>,
}

impl<'a> Wire<'a> {
    pub(crate) fn read(text: &'a str) -> Result<Self, String> {
        serde_json::from_str(text).map_err(|cause| format!("{cause}: {text}"))
    }

    /// Its data, as those of the protocol's own messages.
    pub(crate) fn data(&self) -> Result<Data<'a>, String> {
        let Some(data) = self.data else { return Ok(Data::default()) };
        serde_json::from_str(data.get()).map_err(|cause| format!("{cause}: {}", data.get()))
    }

    /// Its data, as those of one kind of message.
    pub(crate) fn read_data<T: Deserialize<'a>>(&self) -> Result<T, String> {
        let data = self.data.map_or("null", RawValue::get);
        serde_json::from_str(data).map_err(|cause| format!("{cause}: {data}"))
    }

    /// The position it carries.
    pub(crate) fn position(&self) -> Option<Position> {
        let epoch = Epoch::parse(self.metadata.epoch.as_deref()?)?;
        Some(Position { epoch, offset: self.metadata.offset? })
    }

    /// The epoch it carries.
    pub(crate) fn epoch(&self) -> Option<Epoch> {
        self.metadata.epoch.as_deref().and_then(Epoch::parse)
    }
}

/// What one data frame from a server holds, or a control frame's opcode and payload.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Framed<'a> {
    Text(&'a str),
    Ping(u32),
    Close(u16),
}

/// The first whole frame of `bytes` and its length; `None`: more must come.
pub(crate) fn frame(bytes: &[u8]) -> Option<(Framed<'_>, usize)> {
    let (header, length) = match *bytes.get(1)? {
        126 => (4, usize::from(u16::from_be_bytes([*bytes.get(2)?, *bytes.get(3)?]))),
        127 => {
            let length: [u8; 8] = bytes.get(2..10)?.try_into().ok()?;
            (10, usize::try_from(u64::from_be_bytes(length)).ok()?)
        }
        short => (2, usize::from(short)),
    };
    let payload = bytes.get(header..header + length)?;
    let framed = match bytes[0] {
        0x81 => Framed::Text(std::str::from_utf8(payload).ok()?),
        0x89 => Framed::Ping(u32::from_be_bytes(payload.try_into().ok()?)),
        0x88 => Framed::Close(u16::from_be_bytes([*payload.first()?, *payload.get(1)?])),
        other => panic!("a frame that begins with {other:#x}"),
    };
    Some((framed, header + length))
}

/// The number of a publication by its id; ids of these runs are `p` and the number.
pub(crate) fn number_of(id: &str) -> Option<usize> {
    id.strip_prefix('p')?.parse().ok()
}

/// The publication in a text that is one, without reading all of it.
pub(crate) fn published(text: &str) -> Option<usize> {
    let rest = text.strip_prefix("{\"id\":\"")?;
    number_of(&rest[..rest.find('"')?])
}

pub(crate) fn subscribe(request: u64, room: &str, since: Option<Position>) -> String {
    let since = since.map_or(String::new(), |at| {
        format!(",\"since\":{{\"epoch\":\"{}\",\"offset\":{}}}", at.epoch, at.offset)
    });
    format!(
        "{{\"type\":\"subscribe\",\"id\":\"r{request}\",\"data\":{{\"room\":\"{room}\"{since}}}}}"
    )
}

pub(crate) fn unsubscribe(request: u64, room: &str) -> String {
    format!("{{\"type\":\"unsubscribe\",\"id\":\"r{request}\",\"data\":{{\"room\":\"{room}\"}}}}")
}

pub(crate) fn refresh(request: u64, token: &str) -> String {
    format!("{{\"type\":\"refresh\",\"id\":\"r{request}\",\"data\":{{\"token\":\"{token}\"}}}}")
}

pub(crate) fn presence(
    request: u64,
    room: &str,
    after: Option<&str>,
    limit: Option<u32>,
) -> String {
    let after = after.map_or(String::new(), |after| format!(",\"after\":\"{after}\""));
    let limit = limit.map_or(String::new(), |limit| format!(",\"limit\":{limit}"));
    format!(
        "{{\"type\":\"presence\",\"id\":\"r{request}\",\"data\":{{\"room\":\"{room}\"{after}{limit}}}}}"
    )
}

pub(crate) fn read(number: u64, room: &str, at: Position) -> String {
    format!(
        "{{\"type\":\"receipt\",\"id\":\"m{number}\",\"data\":{{\"room\":\"{room}\",\"read\":{{\"epoch\":\"{}\",\"offset\":{}}}}}}}",
        at.epoch, at.offset
    )
}

pub(crate) fn history(request: u64, room: &str, forward: bool, from: Option<u64>) -> String {
    let direction = if forward { "forward" } else { "backward" };
    let from = from.map_or(String::new(), |from| format!(",\"from\":{from}"));
    format!(
        "{{\"type\":\"history\",\"id\":\"r{request}\",\"data\":{{\"room\":\"{room}\",\"direction\":\"{direction}\",\"limit\":7{from}}}}}"
    )
}
