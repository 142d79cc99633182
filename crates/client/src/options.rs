//! What a caller chooses: where to connect, as whom, in which format, and how to publish.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use roomcast_protocol::publication::Priority;

use crate::event::Position;

/// How messages are written on the wire.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// JSON in text frames.
    #[default]
    Json,
    /// MessagePack maps with the JSON names, in binary frames.
    MessagePack,
}

impl Format {
    /// The WebSocket subprotocol that selects it.
    #[must_use]
    pub const fn subprotocol(self) -> &'static str {
        match self {
            Self::Json => "roomcast.v1.json",
            Self::MessagePack => "roomcast.v1.msgpack",
        }
    }
}

/// Where the token travels. Source: native seed, "Connection Establishment".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TokenIn {
    /// `?token=` of the address, as browsers do.
    Query,
    /// `Authorization: Bearer`, which no access log shows.
    #[default]
    Header,
    /// The first frame, `{"type":"auth","token"}`.
    Frame,
}

/// How an older session is to go on. All of it absent: a new one begins.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Continuation {
    /// What the older connection's [`crate::Welcome`] offered; not to be shown.
    pub resume_token: Option<String>,
    /// What is covered of its rooms. Only said where the token travels in the first frame: else the node goes by what it
    /// knows, and may repeat some.
    pub covered: BTreeMap<String, Position>,
    /// Which device of its user this is, where devices have inboxes of their own. Bounds: 64 bytes.
    pub device: Option<String>,
    /// It goes to another connection when [`crate::Event::Drain`] tells it to.
    pub hands_over: bool,
}

impl fmt::Debug for Continuation {
    /// Leaves the token out (INV-13).
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Continuation")
            .field("resumes", &self.resume_token.is_some())
            .field("covered", &self.covered)
            .field("device", &self.device)
            .field("hands_over", &self.hands_over)
            .finish()
    }
}

/// How to connect.
#[derive(Clone)]
pub struct Options {
    /// `ws://host:port/path`; without a path `/ws`.
    pub url: String,
    /// The token; without one the node closes with 4001.
    pub token: Option<String>,
    /// How messages are written.
    pub format: Format,
    /// Where the token travels.
    pub token_in: TokenIn,
    /// How an older session is to go on over this connection.
    pub continuation: Continuation,
    /// Longest wait for connection, upgrade and welcome together.
    pub connect_timeout: Duration,
    /// Longest wait for the answer to one request.
    pub request_timeout: Duration,
    /// Events kept until [`crate::Client::next`] takes them; when full, reading stops and TCP pushes back.
    pub events_max: usize,
    /// Largest message taken in. Units: bytes.
    pub message_bytes_max: usize,
}

impl Options {
    /// JSON, the token in the header, 10 s for each wait, 1,024 events, messages up to 1 MiB.
    #[must_use]
    pub fn new(url: impl Into<String>, token: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            token: Some(token.into()),
            format: Format::default(),
            token_in: TokenIn::default(),
            continuation: Continuation::default(),
            connect_timeout: Duration::from_secs(10),
            request_timeout: Duration::from_secs(10),
            events_max: 1_024,
            message_bytes_max: 1 << 20,
        }
    }
}

impl fmt::Debug for Options {
    /// Leaves the token out (INV-13).
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("url", &self.url)
            .field("format", &self.format)
            .field("token_in", &self.token_in)
            .finish_non_exhaustive()
    }
}

/// How one payload is published.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PublishOptions {
    /// Wait for the node's ack and its level.
    pub ack: bool,
    /// The publication's id; without one a fresh UUID. The same id again is never delivered twice.
    pub id: Option<String>,
    /// Its class; without one the room's rule decides.
    pub priority: Option<Priority>,
    /// Time to live. Units: seconds.
    pub ttl_s: Option<u32>,
    /// Only members that hold all of these permissions get it.
    pub requires: Vec<String>,
    /// Links it to a request.
    pub correlation_id: Option<String>,
}

impl PublishOptions {
    /// The defaults, with an ack.
    #[must_use]
    pub fn acked() -> Self {
        Self { ack: true, ..Self::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_token_is_never_shown() {
        let shown = format!("{:?}", Options::new("ws://localhost", "s3cret"));
        assert!(!shown.contains("s3cret"), "{shown}");
        assert!(shown.contains("ws://localhost"), "{shown}");
    }
}
