//! Publications of back-ends: one, several of a batch, one for several rooms. They go by the same rules as a client's,
//! but with a back-end's rights, and only where the key reaches.

use std::sync::Arc;

use bytes::Bytes;
use hyper::body::Body;
use hyper::{HeaderMap, Request, StatusCode};
use roomcast_dialects::native::{
    BackendLimits, batch_from_json, broadcast_from_json, publish_from_json,
};
use roomcast_protocol::codes::{Refusal, Refused};
use roomcast_protocol::command::Publish;
use roomcast_protocol::envelope::Accepted;
use roomcast_protocol::publication::Publication;
use roomcast_protocol::room::RoomName;
use serde::Serialize;
use tokio::time::Instant;

use super::access::{Caller, only};
use super::problem::{self, Problem};
use super::wait::{Wait, Waited};
use super::{Answer, Api, answer, body};
use crate::backend::{self, OUTCOME_WAIT};
use crate::core::Outcome;
use crate::guard;

const PUBLISHED_PERHAPS: &str =
    "It is not known whether this was published: send it again with the same id within 120 s";

/// Longest `Idempotency-Key`: ids are made of it, with what tells those of one batch apart. Units: bytes.
const IDEMPOTENCY_KEY_BYTES_MAX: usize = 200;

/// The answer to a publication.
#[derive(Serialize)]
struct Published<'a> {
    id: &'a str,
    level: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    epoch: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    offset: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dedup: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reach: Option<&'static str>,
    #[serde(flatten)]
    waited: Option<Waited>,
}

impl<'a> Published<'a> {
    fn new(id: &'a str, accepted: Accepted) -> Self {
        Self {
            id,
            level: accepted.level.name(),
            epoch: accepted.position.map(|position| position.epoch.to_string()),
            offset: accepted.position.map(|position| position.offset),
            dedup: accepted.dedup_short.then_some("short"),
            reach: accepted.partial.then_some("partial"),
            waited: None,
        }
    }
}

/// The answer to a batch or a broadcast.
#[derive(Serialize)]
struct Results<'a> {
    /// One for each publication or room, in their order.
    results: Vec<One<'a>>,
}

#[derive(Serialize)]
struct One<'a> {
    /// In a broadcast: the room's name as it came.
    #[serde(skip_serializing_if = "Option::is_none")]
    room: Option<&'a str>,
    #[serde(flatten)]
    became: Became<'a>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Became<'a> {
    Published {
        status: u16,
        #[serde(flatten)]
        published: Published<'a>,
    },
    Problem(problem::Body<'a>),
}

/// What became of a publication: its id, and how far it got.
type Ended = Result<(Box<str>, Accepted), Problem>;

/// A publication on its way.
struct Sent {
    id: Box<str>,
    outcome: Outcome,
}

impl Api {
    /// `POST /api/v1/publish`.
    pub(super) async fn publish<B>(&self, caller: &Caller<'_>, request: Request<B>) -> Answer
    where
        B: Body<Data = Bytes>,
    {
        let config = &self.parts.config;
        let key = idempotency_key(request.headers())?;
        let wait = Wait::parse(request.uri().query().unwrap_or_default())?;
        let body = body::json(request, config.message_bytes_max).await?;
        let mut publish = publish_from_json(&body, config.decode)?;
        publish.id = publish.id.or(key);
        let (publication, dedup) = self.checked(caller, publish)?;
        if let Some(wait) = wait {
            self.can_await(wait, &publication)?;
        }
        let (id, room) = (publication.id.clone(), publication.room.clone());
        let mut outcomes = self.parts.core.publish(vec![(Arc::new(publication), dedup)]).await;
        let Some(outcome) = outcomes.pop() else { return Err(Refusal::Unavailable.into()) };
        let accepted = Self::awaited(outcome, Instant::now() + OUTCOME_WAIT).await?;
        let mut published = Published::new(&id, accepted);
        if let Some(wait) = wait {
            published.waited = Some(self.users_have(wait, &room, accepted).await);
        }
        Ok(answer::json(StatusCode::OK, &published))
    }

    /// `POST /api/v1/batch`.
    pub(super) async fn batch<B>(&self, caller: &Caller<'_>, request: Request<B>) -> Answer
    where
        B: Body<Data = Bytes>,
    {
        let key = idempotency_key(request.headers())?;
        let body = body::batch(request, self.parts.config.batch_bytes_max).await?;
        let read = batch_from_json(&body, self.backend_limits())?;
        let checked = read.into_iter().enumerate().map(|(number, publish)| {
            let mut publish = publish?;
            publish.id = publish.id.or_else(|| numbered(key.as_deref(), number));
            self.checked(caller, publish)
        });
        let outcomes = self.publish_all(checked.collect()).await;
        Ok(self.results(outcomes.iter().map(|outcome| (None, outcome))))
    }

    /// `POST /api/v1/broadcast`.
    pub(super) async fn broadcast<B>(&self, caller: &Caller<'_>, request: Request<B>) -> Answer
    where
        B: Body<Data = Bytes>,
    {
        let key = idempotency_key(request.headers())?;
        let body = body::json(request, self.parts.config.message_bytes_max).await?;
        let (rooms, publish) = broadcast_from_json(&body, self.backend_limits())?;
        let checked = rooms.iter().enumerate().map(|(number, room)| {
            let id = publish.id.clone().or_else(|| numbered(key.as_deref(), number));
            self.checked(caller, Publish { id, room: room.clone(), ..publish.clone() })
        });
        let outcomes = self.publish_all(checked.collect()).await;
        Ok(self.results(rooms.iter().map(|room| Some(&**room)).zip(&outcomes)))
    }

    fn backend_limits(&self) -> BackendLimits {
        let config = &self.parts.config;
        BackendLimits {
            decode: config.decode,
            message_bytes_max: config.message_bytes_max,
            batch_max: config.batch_max,
        }
    }

    /// The publication that is asked for, if this back-end may publish it, and whether its id is the sender's own.
    fn checked(
        &self,
        caller: &Caller<'_>,
        publish: Publish,
    ) -> Result<(Publication, bool), Refused> {
        if !caller.scope.reaches(&RoomName::parse(&publish.room)?) {
            return Err(Refusal::PermissionDenied.into());
        }
        let own_id = publish.id.is_some();
        let (guard, who) = (&*self.parts.guard, guard::backend(caller.name));
        let publication = backend::publication(guard, &who, publish, self.parts.clock.now())?;
        Ok((publication, own_id))
    }

    /// Publishes in this order what may be published, all at once.
    async fn publish_all(&self, checked: Vec<Result<(Publication, bool), Refused>>) -> Vec<Ended> {
        let mut publications = Vec::with_capacity(checked.len());
        let ids: Vec<Result<Box<str>, Problem>> = checked
            .into_iter()
            .map(|checked| {
                let (publication, dedup) = checked?;
                let id = publication.id.clone();
                publications.push((Arc::new(publication), dedup));
                Ok(id)
            })
            .collect();
        let mut outcomes = self.parts.core.publish(publications).await.into_iter();
        let deadline = Instant::now() + OUTCOME_WAIT;
        let mut became = Vec::with_capacity(ids.len());
        for id in ids {
            let sent = id.and_then(|id| match outcomes.next() {
                Some(outcome) => Ok(Sent { id, outcome }),
                None => Err(Refusal::Unavailable.into()),
            });
            became.push(match sent {
                Ok(Sent { id, outcome }) => {
                    Self::awaited(outcome, deadline).await.map(|accepted| (id, accepted))
                }
                Err(problem) => Err(problem),
            });
        }
        became
    }

    /// What became of a publication.
    async fn awaited(outcome: Outcome, deadline: Instant) -> Result<Accepted, Problem> {
        match tokio::time::timeout_at(deadline, outcome).await {
            Ok(Ok(Ok(accepted))) => Ok(accepted),
            Ok(Ok(Err(refused))) if !refused.unknown => Err(refused.into()),
            // A core that ends leaves questions unanswered.
            Ok(_) | Err(_) => Err(Problem::unknown_outcome(PUBLISHED_PERHAPS)),
        }
    }

    /// The answer for several, each refusal counted.
    fn results<'a>(
        &self,
        outcomes: impl Iterator<Item = (Option<&'a str>, &'a Ended)>,
    ) -> hyper::Response<http_body_util::Full<Bytes>> {
        let counters = self.parts.metrics.api();
        let one = |(room, outcome): (Option<&'a str>, &'a Ended)| {
            let became = match outcome {
                Ok((id, accepted)) => {
                    let status = StatusCode::OK.as_u16();
                    Became::Published { status, published: Published::new(id, *accepted) }
                }
                Err(problem) => {
                    if let Some((refusal, limit)) = problem.cause() {
                        counters.refused(refusal, limit);
                    }
                    Became::Problem(problem.body())
                }
            };
            One { room, became }
        };
        answer::json(StatusCode::OK, &Results { results: outcomes.map(one).collect() })
    }
}

/// The id of one of several publications under one key.
fn numbered(key: Option<&str>, number: usize) -> Option<Box<str>> {
    key.map(|key| format!("{key}/{number}").into())
}

/// Reads `Idempotency-Key`: a string in quotes, or the same without them. Source: draft-ietf-httpapi-idempotency-key 2.1.
fn idempotency_key(headers: &HeaderMap) -> Result<Option<Box<str>>, Refused> {
    const NAME: &str = "idempotency-key";
    if !headers.contains_key(NAME) {
        return Ok(None);
    }
    let given = only(headers, NAME).unwrap_or_default();
    let key = given.strip_prefix('"').and_then(|key| key.strip_suffix('"')).unwrap_or(given);
    let sound = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\');
    if (1..=IDEMPOTENCY_KEY_BYTES_MAX).contains(&key.len()) && key.bytes().all(sound) {
        return Ok(Some(key.into()));
    }
    let text = format!(
        "Idempotency-Key is one string of 1 to {IDEMPOTENCY_KEY_BYTES_MAX} visible ASCII characters, as \"order-17\""
    );
    Err(Refused::because(Refusal::Schema, text.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(values: &[&str]) -> Result<Option<Box<str>>, Refused> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append("idempotency-key", value.parse().unwrap());
        }
        idempotency_key(&headers)
    }

    #[test]
    fn a_key_comes_with_quotes_or_without() {
        assert_eq!(key(&[]), Ok(None));
        for given in ["\"order-17\"", "order-17"] {
            assert_eq!(key(&[given]), Ok(Some("order-17".into())), "{given}");
        }
    }

    #[test]
    fn the_longest_key_is_taken_and_one_byte_more_refused() {
        assert!(key(&[&"k".repeat(200)]).is_ok());
        for bad in [&"k".repeat(201), "", "\"\"", "a b", "a\"b", "\"a", "é"] {
            assert_eq!(key(&[bad]).unwrap_err().refusal, Refusal::Schema, "{bad}");
        }
        assert!(key(&["a", "a"]).is_err());
    }
}
