//! What lanes and their shells say to each other of requests to the application. The hub has no part in them.

use bytes::Bytes;
use roomcast_protocol::codes::Refused;
use roomcast_protocol::command::ReplyTo;
use roomcast_protocol::guard::Kind;
use roomcast_protocol::ids::{LaneId, SessionId, SessionKey};
use roomcast_protocol::request::Response;

/// What a request weighs in queues beside its texts. Units: bytes.
const REQUEST_BYTES: usize = 192;

/// A session asks the application. Answered by [`LaneMessage::Responded`](crate::messages::LaneMessage::Responded).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requested {
    /// Which lane.
    pub lane: LaneId,
    /// Who asks.
    pub session: SessionKey,
    /// Where the answer belongs.
    pub reply: ReplyTo,
    /// The session's name.
    pub id: SessionId,
    /// The user's name within the cluster.
    pub user: Box<str>,
    /// What kind of party it is.
    pub kind: Kind,
    /// What is asked for.
    pub method: Box<str>,
    /// With what (JSON text).
    pub params: Bytes,
}

impl Requested {
    /// What it weighs in a queue. Units: bytes.
    #[must_use]
    pub fn weight(&self) -> usize {
        REQUEST_BYTES + self.user.len() + self.method.len() + self.params.len()
    }
}

/// How a request ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Responded {
    /// Who asked.
    pub session: SessionKey,
    /// Where the answer belongs.
    pub reply: ReplyTo,
    /// What the application answered.
    pub outcome: Result<Response, Refused>,
}

impl Responded {
    /// What it weighs in a queue. Units: bytes.
    #[must_use]
    pub fn weight(&self) -> usize {
        REQUEST_BYTES + self.outcome.as_ref().map_or(0, |response| response.body.len())
    }
}
