//! What the tests of the relay share: the vectors, and what stands in them.

use bytes::Bytes;
pub(crate) use roomcast_dialects::relay::Envelopes;
use roomcast_protocol::content::Content;
use roomcast_protocol::conversation::{Amends, Origin};
use roomcast_protocol::ids::SessionId;
use roomcast_protocol::position::{Epoch, Position};
use roomcast_protocol::publication::{Priority, Publication};
use roomcast_protocol::relay::{ClusterTime, RelayCodec, RelayFormat, RelayKeys, Relayed};
use roomcast_protocol::room::RoomName;
use serde::Deserialize;

pub(crate) const ENVELOPES: &str = include_str!("../../vectors/relay/envelopes.json");
pub(crate) const READING: &str = include_str!("../../vectors/relay/reading.json");
pub(crate) const OUTSIDERS: &str = include_str!("../../vectors/relay/outsiders.json");

/// The serial of every payload in the vectors.
pub(crate) const SERIAL: u64 = 7;

#[derive(Deserialize)]
struct Vectors {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
pub(crate) struct Case {
    pub(crate) name: String,
    /// The format in which it is written so.
    pub(crate) write: Option<String>,
    #[serde(default = "agents")]
    room: String,
    #[serde(default = "both_keys")]
    keys: Vec<String>,
    #[serde(default = "ahead_ms")]
    ahead_ms: i64,
    pub(crate) hex: Option<String>,
    pub(crate) text: Option<String>,
    pub(crate) expect: Expect,
}

#[derive(Deserialize)]
#[serde(untagged)]
pub(crate) enum Expect {
    Dropped(String),
    Read(Box<Fields>),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Fields {
    id: String,
    #[serde(rename = "type")]
    kind: String,
    timestamp: String,
    sender: String,
    content: Payload,
    priority: Option<String>,
    ttl: Option<u32>,
    expires_ms: Option<u64>,
    correlation_id: Option<String>,
    #[serde(default)]
    requires: Vec<Box<str>>,
    #[serde(default)]
    requires_ack: bool,
    published_us: Option<u64>,
    #[serde(default)]
    position: Option<(String, u64)>,
    origin: Option<OriginFields>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OriginFields {
    room: String,
    position: Option<(String, u64)>,
    id: String,
    at_ms: u64,
    unread: Option<u32>,
    said_in: Option<String>,
    amends: Option<(u64, String, bool)>,
    group: Option<u32>,
}

impl OriginFields {
    fn origin(&self) -> Origin {
        let amends = |(offset, id, erases): &(u64, String, bool)| Amends {
            offset: *offset,
            id: id.as_str().into(),
            erases: *erases,
        };
        Origin {
            room: RoomName::parse(&self.room).unwrap(),
            position: self.position.as_ref().map(position),
            id: self.id.as_str().into(),
            at_unix_ms: self.at_ms,
            unread: self.unread,
            said_in: self.said_in.as_deref().map(|text| SessionId::parse(text).unwrap()),
            amends: self.amends.as_ref().map(amends),
            group: self.group,
        }
    }
}

fn position((epoch, offset): &(String, u64)) -> Position {
    Position { epoch: Epoch::parse(epoch).unwrap(), offset: *offset }
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Payload {
    Json(String),
    Text(String),
    Hex(String),
}

fn agents() -> String {
    "agents".into()
}

fn both_keys() -> Vec<String> {
    vec!["a relay key".into(), "the key before".into()]
}

const fn ahead_ms() -> i64 {
    1_500
}

pub(crate) fn cases(file: &str) -> Vec<Case> {
    serde_json::from_str::<Vectors>(file).unwrap().cases
}

pub(crate) fn envelopes(format: RelayFormat) -> Envelopes {
    Envelopes { format, message_bytes_max: 4_096, depth_max: 8 }
}

pub(crate) fn keys_of(keys: &[String]) -> RelayKeys {
    let key = |text: &String| text.as_bytes().into();
    RelayKeys { current: key(&keys[0]), previous: keys.get(1).map(key) }
}

impl Case {
    pub(crate) fn keys(&self) -> RelayKeys {
        keys_of(&self.keys)
    }

    pub(crate) fn room(&self) -> RoomName {
        RoomName::parse(&self.room).unwrap()
    }

    pub(crate) fn time(&self) -> ClusterTime {
        ClusterTime { now_us: 1_705_314_600_123_456, ahead_ms: self.ahead_ms }
    }

    pub(crate) fn payload(&self) -> Bytes {
        match (&self.hex, &self.text) {
            (Some(hex), None) => from_hex(hex),
            (None, Some(text)) => text.clone().into(),
            _ => panic!("{}: one of hex and text", self.name),
        }
    }

    /// What comes of it, or why it is dropped.
    pub(crate) fn decoded(&self) -> Result<Relayed, &'static str> {
        let codec = envelopes(RelayFormat::default());
        codec
            .decode(&self.keys(), &self.room(), &self.payload(), self.time(), SERIAL)
            .map_err(|unreadable| unreadable.name())
    }
}

impl Fields {
    pub(crate) fn relayed(&self, room: RoomName) -> Relayed {
        let content = match &self.content {
            Payload::Json(json) => Content::Json(json.clone().into()),
            Payload::Text(text) => Content::Text(text.clone().into()),
            Payload::Hex(hex) => Content::Binary(from_hex(hex)),
        };
        let publication = Publication {
            room,
            id: self.id.as_str().into(),
            kind: self.kind.as_str().into(),
            timestamp: self.timestamp.as_str().into(),
            sender: self.sender.as_str().into(),
            content,
            priority: self.priority.as_deref().map(|name| Priority::parse(name).unwrap()),
            ttl_s: self.ttl,
            expires_unix_ms: self.expires_ms,
            correlation_id: self.correlation_id.as_deref().map(Into::into),
            requires: self.requires.clone(),
            requires_ack: self.requires_ack,
            isolated: false,
            origin: self.origin.as_ref().map(|it| Box::new(it.origin())),
            position: self.position.as_ref().map(position),
            put_under: None,
        };
        Relayed { publication, published_us: self.published_us }
    }
}

pub(crate) fn from_hex(hex: &str) -> Bytes {
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    hex.as_bytes().chunks(2).map(byte).collect()
}
