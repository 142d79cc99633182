//! Requests of clients as calls: what a back-end is told of who asks, and what its answer means to the client.

use bytes::Bytes;
use roomcast_protocol::codes::{Refusal, Refused};
use roomcast_protocol::content::Content;
use roomcast_protocol::request::Response;
use roomcast_router::requests::{Requested, Responded};
use serde::Serialize;
use serde_json::value::RawValue;

use super::{Answer, CallError, CallInput, Upstream};

/// When to try again where too much waits. Units: milliseconds.
const RETRY_MS: u64 = 1_000;

/// From this status on it is the client's own fault, or an answer that it knows to read; below, and from 500 on, nothing
/// that it could use.
const OF_THE_CLIENT: std::ops::Range<u16> = 400..500;
const OF_SUCCESS: std::ops::Range<u16> = 200..300;

/// What a back-end is sent.
#[derive(Serialize)]
struct Body<'a> {
    method: &'a str,
    params: &'a RawValue,
    /// The user's name within the cluster.
    user: &'a str,
    /// `user` or `backend`.
    kind: &'static str,
    session: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
}

/// What makes two requests the same: all but session and id.
#[derive(Serialize)]
struct Key<'a>(&'a str, &'a str, &'static str, &'a RawValue);

/// Asks the application what a client asks.
pub(crate) async fn respond(upstream: Upstream, asked: Requested) -> Responded {
    let outcome = ask(&upstream, &asked).await;
    Responded { session: asked.session, reply: asked.reply, outcome }
}

async fn ask(upstream: &Upstream, asked: &Requested) -> Result<Response, Refused> {
    let Some(call) = upstream.serving(&asked.method) else {
        let text = "No back-end serves this method, see [[upstream.requests]] of the node";
        return Err(Refused::because(Refusal::UnknownType, text.into()));
    };
    let input = input(asked).ok_or(Refusal::BadJson)?;
    let answer = upstream.call(call, input).await.map_err(|error| refused(&error))?;
    response(answer)
}

/// `None`: its params are no JSON.
fn input(asked: &Requested) -> Option<CallInput> {
    let params: &RawValue = serde_json::from_slice(&asked.params).ok()?;
    let (method, user, kind) = (&*asked.method, &*asked.user, asked.kind.name());
    let (session, id) = (asked.id.to_string(), asked.reply.id.as_deref());
    let body = serde_json::to_vec(&Body { method, params, user, kind, session, id }).ok()?;
    let key = serde_json::to_vec(&Key(user, method, kind, params)).ok()?;
    Some(CallInput { body: Bytes::from(body), key: Some(key.into()) })
}

fn refused(error: &CallError) -> Refused {
    match error {
        CallError::Full | CallError::Late => {
            Refused::unavailable("Too many requests wait for the application".into(), RETRY_MS)
        }
        CallError::Ending => Refusal::Unavailable.into(),
        CallError::Open { retry_after_ms } => {
            Refused { retry_after_ms: Some(*retry_after_ms), ..Refusal::BreakerOpen.into() }
        }
        // The cause is for the operator: it names addresses.
        CallError::Failed(failure) => {
            Refused { unknown: failure.may_have_arrived(), ..Refusal::UpstreamFailed.into() }
        }
    }
}

fn response(answer: Answer) -> Result<Response, Refused> {
    let Answer { status, headers, body, stale } = answer;
    if !OF_SUCCESS.contains(&status) && !OF_THE_CLIENT.contains(&status) {
        let text = format!("The application answered with the status {status}");
        return Err(Refused::because(Refusal::UpstreamFailed, text.into()));
    }
    let kind = headers.get(hyper::header::CONTENT_TYPE).and_then(|it| it.to_str().ok());
    Ok(Response { status, body: content(kind.unwrap_or_default(), body), stale })
}

/// A body by its content type, where it is what that says; else as what it is.
fn content(kind: &str, body: Bytes) -> Content {
    let essence = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let is_json = essence == "application/json" || essence.ends_with("+json");
    if body.is_empty() {
        return Content::Json(Bytes::from_static(b"null"));
    }
    if is_json && let Ok(value) = serde_json::from_slice::<&RawValue>(&body) {
        // Without what stands around it.
        return Content::Json(body.slice_ref(value.get().as_bytes()));
    }
    match std::str::from_utf8(&body) {
        Ok(_) => Content::Text(body),
        Err(_) => Content::Binary(body),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_json_only_where_it_says_so_and_is() {
        let of = |kind: &str, body: &'static [u8]| content(kind, Bytes::from_static(body));
        let json = |text: &'static str| Content::Json(Bytes::from_static(text.as_bytes()));
        assert_eq!(of("application/json", b" {\"a\":1}\n"), json("{\"a\":1}"));
        assert_eq!(of("application/problem+json; charset=utf-8", b"[1]"), json("[1]"));
        assert_eq!(of("APPLICATION/JSON", b"1"), json("1"));
        assert_eq!(of("text/plain", b"1"), Content::Text(Bytes::from_static(b"1")));
        assert_eq!(of("application/json", b"{"), Content::Text(Bytes::from_static(b"{")));
        assert_eq!(of("", b"\xff"), Content::Binary(Bytes::from_static(b"\xff")));
        assert_eq!(of("", b""), json("null"));
    }
}
