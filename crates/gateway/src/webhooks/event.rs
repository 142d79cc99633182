//! What happened, as the application is told of it.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use roomcast_protocol::ids::NodeId;
use roomcast_protocol::time::iso8601;
use serde::Serialize;
use serde_json::value::RawValue;

use crate::config::EventKind;

/// What is called once an event is over with for each webhook that wants it: delivered, kept as a dead letter, or lost and
/// counted. It only notes that down: it must not call [`super::Webhooks`]. A node that ends may leave it uncalled.
pub(crate) type Done = Box<dyn FnOnce() + Send>;

/// What an event is about. Events of one subject are told one after the other.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Subject {
    /// A user, by the name within the cluster.
    User(Box<str>),
    /// A room.
    Room(Box<str>),
    /// A client's address.
    Address(Box<str>),
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User(name) => write!(f, "user:{name}"),
            Self::Room(name) => write!(f, "room:{name}"),
            Self::Address(address) => write!(f, "address:{address}"),
        }
    }
}

/// Something that happened.
pub(crate) struct Event {
    /// The same whenever it is told: the application ignores what it was told before.
    pub(crate) id: Box<str>,
    /// What.
    pub(crate) kind: EventKind,
    /// About whom, or what.
    pub(crate) subject: Subject,
    /// When. Units: milliseconds since the Unix epoch.
    pub(crate) unix_ms: u64,
    /// More of it, by its kind.
    pub(crate) data: Box<RawValue>,
    /// The broker keeps it until it was told: it takes no place of others, and where this node ends another one tells it.
    pub(crate) kept: bool,
    /// Whoever waits until it was told.
    pub(crate) done: Option<Done>,
}

/// What the application is sent.
#[derive(Serialize)]
struct Body<'a> {
    id: &'a str,
    #[serde(rename = "type")]
    kind: &'static str,
    time: String,
    subject: String,
    node: String,
    data: &'a RawValue,
}

impl Event {
    /// What the application is sent. An error: the serializer failed, which texts and raw JSON do not make it do.
    pub(super) fn body(&self, node: NodeId) -> serde_json::Result<Bytes> {
        let body = Body {
            id: &self.id,
            kind: self.kind.name(),
            time: iso8601(self.unix_ms),
            subject: self.subject.to_string(),
            node: node.to_string(),
            data: &self.data,
        };
        serde_json::to_vec(&body).map(Bytes::from)
    }
}

/// One event on its way to one webhook. Cheap to clone.
#[derive(Clone)]
pub(super) struct Told {
    pub(super) id: Arc<str>,
    pub(super) kind: EventKind,
    /// As it is written in the body: what is told in order.
    pub(super) subject: Arc<str>,
    /// What is sent.
    pub(super) body: Bytes,
    /// When this webhook was first to be told. Units: milliseconds since the Unix epoch.
    pub(super) first_unix_ms: u64,
    /// Tries before it was a dead letter; `None`: it never was one.
    pub(super) before: Option<u32>,
    /// As of [`Event::kept`].
    pub(super) kept: bool,
    pub(super) done: Option<Arc<Settled>>,
}

/// What an event weighs beside its texts. Units: bytes.
const WEIGHT_BYTES: usize = 512;

impl Told {
    /// What it weighs while it waits. Units: bytes.
    pub(super) fn weight(&self) -> usize {
        WEIGHT_BYTES + self.id.len() + 2 * self.subject.len() + self.body.len()
    }

    /// It is over with for this webhook.
    pub(super) fn settle(&self) {
        if let Some(done) = &self.done {
            done.settle();
        }
    }
}

/// Counts the webhooks for which an event is not over with.
pub(super) struct Settled(Mutex<(usize, Option<Done>)>);

impl Settled {
    /// So many are to be told.
    pub(super) fn of(count: usize, done: Done) -> Arc<Self> {
        Arc::new(Self(Mutex::new((count, Some(done)))))
    }

    fn settle(&self) {
        let done = {
            let mut left = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            left.0 = left.0.saturating_sub(1);
            if left.0 == 0 { left.1.take() } else { None }
        };
        if let Some(done) = done {
            done();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_body_says_what_happened_to_whom_when_and_where() {
        let event = Event {
            id: "a1".into(),
            kind: EventKind::Connected,
            subject: Subject::User("gs:\"7\"".into()),
            unix_ms: 1_700_000_000_000,
            data: RawValue::from_string(r#"{"resumed":false}"#.to_owned()).unwrap(),
            kept: false,
            done: None,
        };
        let node = NodeId(7);
        let body = event.body(node).unwrap();
        let expected = format!(
            r#"{{"id":"a1","type":"connected","time":"2023-11-14T22:13:20.000Z","subject":"user:gs:\"7\"","node":"{node}","data":{{"resumed":false}}}}"#
        );
        assert_eq!(std::str::from_utf8(&body).unwrap(), expected);
    }

    #[test]
    fn an_event_is_done_once_all_were_told_and_only_once() {
        let count = Arc::new(Mutex::new(0));
        let counted = Arc::clone(&count);
        let settled = Settled::of(2, Box::new(move || *counted.lock().unwrap() += 1));
        for expected in [0, 1, 1] {
            settled.settle();
            assert_eq!(*count.lock().unwrap(), expected);
        }
    }
}
