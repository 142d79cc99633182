//! What a request wants published, whichever codec it came in. Owns its bound.

use bytes::Bytes;

/// Publications that one call may ask for: its messages, each times its topics.
pub const PUBLICATIONS_MAX: usize = 1_024;

/// One payload and where it goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    /// Through which broker; empty: the default one, and always where the schema has no field for it.
    pub broker: Box<str>,
    /// Into which rooms; none of the names is empty.
    pub topics: Vec<Box<str>>,
    /// Any bytes.
    pub payload: Bytes,
}

/// Why a body cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum BadBody {
    /// Not protobuf.
    Wire,
    /// A text of a protobuf message that is not UTF-8.
    Utf8,
    /// A payload in JSON that is not base64, from this byte on.
    Base64(usize),
    /// Not the JSON of a request: what is wrong.
    Json(String),
    /// More than [`PUBLICATIONS_MAX`].
    TooMany,
    /// In a codec that answers cannot be written in.
    Raw,
    /// In a codec that is not read here.
    Codec,
    /// In none.
    NoCodec,
}

impl BadBody {
    /// What the caller is told: the origin's own text where it has one that a program could know.
    pub(super) fn text(&self) -> String {
        match self {
            // The space is the origin's: Go's protobuf library writes one that does not break.
            Self::Wire => {
                "goridge_read_request_body: proto:\u{a0}cannot parse invalid wire-format data"
                    .into()
            }
            Self::Utf8 => "goridge_read_request_body: string field contains invalid UTF-8".into(),
            Self::Base64(at) => format!("illegal base64 data at input byte {at}"),
            Self::Json(text) => text.clone(),
            Self::TooMany => format!(
                "the request asks for more than {PUBLICATIONS_MAX} publications (messages times \
                 topics): send several requests"
            ),
            Self::Raw => "unknown Raw payload type".into(),
            Self::Codec => "requests are read as protobuf (flag 80) or JSON (flag 08): set one of \
                            the two"
                .into(),
            Self::NoCodec => "goridge_read_request_body: unknown decoder used in frame".into(),
        }
    }
}

/// Collects the messages of one request.
#[derive(Debug, Default)]
pub(super) struct Messages {
    /// Those that go somewhere.
    pub(super) list: Vec<Message>,
    /// Topics without a name, which are skipped.
    pub(super) unnamed: usize,
    publications: usize,
}

impl Messages {
    /// Adds a topic to a message that is being read.
    pub(super) fn topic(&mut self, message: &mut Message, topic: &str) -> Result<(), BadBody> {
        if topic.is_empty() {
            self.unnamed += 1;
            return Ok(());
        }
        if self.publications == PUBLICATIONS_MAX {
            return Err(BadBody::TooMany);
        }
        self.publications += 1;
        message.topics.push(topic.into());
        Ok(())
    }

    /// Adds a message that was read. One that goes nowhere is done.
    pub(super) fn push(&mut self, message: Message) {
        if !message.topics.is_empty() {
            self.list.push(message);
        }
    }
}
