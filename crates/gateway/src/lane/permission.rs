//! Permission by the application: what it is asked when a client connects and when it joins, and what its answer means to
//! the client. Source: `docs/dialects/roadrunner.md`, "Permission". Decides nothing: status 200 allows.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::rc::Rc;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{COOKIE, HOST, HeaderMap};
use hyper::{Request, Response, StatusCode, Uri};
use roomcast_protocol::codes::{Refusal as Code, Refused};
use roomcast_protocol::command::RoomsRequest;
use roomcast_protocol::ids::SessionKey;
use roomcast_router::messages::LaneMessage;
use serde::Serialize;

use super::refused::{RETRY_AFTER_S, Refusal, unavailable};
use super::shell::Shell;
use crate::api::route::decode;
use crate::transport::problem::problem;
use crate::upstream::{Answer, CallError, CallIndex, Verdict};

/// Whom to ask about a client, and the request with which it came. Lives as long as its connection.
///
/// Bounds: the request's head has at most `limits.header_bytes`, which makes up to four times as much JSON.
#[derive(Debug)]
pub(crate) struct Asking {
    call: CallIndex,
    /// The members of the body that never change, as a JSON object without its end.
    request: Box<str>,
}

/// What the application knows of the request. Source: the object that RoadRunner hands to its workers.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Asked {
    remote_addr: String,
    protocol: String,
    method: String,
    uri: String,
    headers: BTreeMap<String, Vec<String>>,
    cookies: BTreeMap<String, String>,
    raw_query: String,
    parsed: bool,
}

/// What it is asked. Who connects, or joins no topic, asks for the server.
#[derive(Serialize)]
struct Question<'a> {
    attributes: Attributes,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    topics: &'a [Box<str>],
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    rooms: &'a [Box<str>],
}

#[derive(Serialize)]
enum Attributes {
    #[serde(rename = "ws:joinServer")]
    Server(bool),
    #[serde(rename = "ws:joinTopics")]
    Topics(String),
}

impl Asking {
    /// Keeps what the request says.
    pub(super) fn new<B>(call: CallIndex, request: &Request<B>, client: IpAddr) -> Self {
        let headers = request.headers();
        let asked = Asked {
            remote_addr: client.to_string(),
            protocol: format!("{:?}", request.version()),
            method: request.method().to_string(),
            uri: whole(request.uri(), headers),
            headers: listed(headers),
            cookies: cookies(headers),
            raw_query: request.uri().query().unwrap_or_default().to_owned(),
            parsed: false,
        };
        let mut request = serde_json::to_string(&asked).unwrap_or_default();
        request.pop();
        Self { call, request: request.into() }
    }

    /// Whether the client may connect.
    pub(super) fn of_server(&self) -> Bytes {
        self.body(&[], &[])
    }

    /// Whether it may join: topics as it named them, and the rooms that they mean.
    fn of_topics(&self, request: &RoomsRequest) -> Bytes {
        let rooms = request.rooms.as_deref().unwrap_or_default();
        self.body(&request.named, rooms)
    }

    fn body(&self, topics: &[Box<str>], rooms: &[Box<str>]) -> Bytes {
        let attributes = match topics {
            [] => Attributes::Server(true),
            topics => Attributes::Topics(topics.join(",")),
        };
        let question = serde_json::to_string(&Question { attributes, topics, rooms });
        let question = question.unwrap_or_default();
        let rest = question.strip_prefix('{').unwrap_or_default();
        Bytes::from(format!("{},{rest}", self.request))
    }

    /// Whom to ask.
    pub(super) const fn call(&self) -> CallIndex {
        self.call
    }
}

/// The URI with the host that the client named. Nobody here knows of TLS, which ends before the node.
fn whole(uri: &Uri, headers: &HeaderMap) -> String {
    match headers.get(HOST) {
        Some(host) if uri.authority().is_none() => {
            format!("http://{}{uri}", String::from_utf8_lossy(host.as_bytes()))
        }
        Some(_) | None => uri.to_string(),
    }
}

/// All headers but the host, which stands in the URI, with names as Go writes them.
fn listed(headers: &HeaderMap) -> BTreeMap<String, Vec<String>> {
    let text =
        |value: &hyper::header::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let names = headers.keys().filter(|name| **name != HOST);
    names
        .map(|name| {
            let values = headers.get_all(name).iter().map(text).collect();
            (capitalised(name.as_str()), values)
        })
        .collect()
}

/// `user-agent` as `User-Agent`.
fn capitalised(name: &str) -> String {
    let mut begins = true;
    let letter = |it: char| {
        let letter = if begins { it.to_ascii_uppercase() } else { it };
        begins = it == '-';
        letter
    };
    name.chars().map(letter).collect()
}

/// Cookies by name, unescaped as in a query; of several with one name the last counts, and what is escaped badly is none.
fn cookies(headers: &HeaderMap) -> BTreeMap<String, String> {
    let lines = headers.get_all(COOKIE).iter().filter_map(|line| line.to_str().ok());
    let pairs = lines.flat_map(|line| line.split(';')).filter_map(|pair| {
        let (name, value) = pair.trim().split_once('=')?;
        let inner = value.strip_prefix('"').and_then(|it| it.strip_suffix('"'));
        let value = decode(&inner.unwrap_or(value).replace('+', " "))?;
        (!name.is_empty()).then(|| (name.to_owned(), value))
    });
    pairs.collect()
}

/// What a client gets that the application does not let in: its own answer.
pub(super) fn denied(answer: Answer) -> Refusal {
    let Answer { status, headers, body, .. } = answer;
    match StatusCode::from_u16(status) {
        // To the client it would be an upgrade, or not the last answer.
        Ok(status) if !status.is_informational() => {
            let mut response = Response::new(Full::new(body));
            *response.status_mut() = status;
            *response.headers_mut() = std::sync::Arc::unwrap_or_clone(headers);
            Box::new(response)
        }
        Ok(_) | Err(_) => broken(),
    }
}

/// What a client gets about which nobody said anything. The cause is for the operator: it names addresses.
pub(super) fn unanswered(error: &CallError) -> Refusal {
    let title = "The application cannot be asked";
    match error {
        CallError::Full | CallError::Late => {
            let detail = "too many wait for the application to let them in: try again later";
            unavailable(title, detail, RETRY_AFTER_S)
        }
        CallError::Open { retry_after_ms } => {
            let detail = "the application failed too often, and is left alone: try again later";
            let retry_s = u32::try_from(retry_after_ms.div_ceil(1_000)).unwrap_or(u32::MAX / 1_000);
            unavailable(title, detail, retry_s.clamp(1, u32::MAX / 1_000))
        }
        CallError::Ending => super::refused::draining(),
        // As the origin answers.
        CallError::Failed(_) => broken(),
    }
}

fn broken() -> Refusal {
    let detail =
        "the application, which says who may connect, gave no good answer: try again later";
    Box::new(problem(StatusCode::BAD_REQUEST, "The application did not answer", detail))
}

/// Asks whether a session may join, in a task of its own, which tells the lane.
pub(super) fn ask(shell: &Shell, session: SessionKey, request: &RoomsRequest) {
    let Some(shell) = shell.shared() else { return };
    let asked = shell.asking(session, |asking| (asking.call, asking.of_topics(request)));
    tokio::task::spawn_local(async move {
        let outcome = match asked {
            Some((call, body)) => allowed(&shell.settings.upstream.authorize(call, body).await),
            None => Err(Code::PermissionDenied.into()),
        };
        tell(&shell, LaneMessage::Permitted { session, outcome });
    });
}

fn allowed(verdict: &Result<Verdict, CallError>) -> Result<(), Refused> {
    match verdict {
        Ok(Verdict::Allowed) => Ok(()),
        Ok(Verdict::Denied(_)) => Err(Code::PermissionDenied.into()),
        Err(CallError::Failed(_)) => Err(Code::UpstreamFailed.into()),
        Err(CallError::Open { .. }) => Err(Code::BreakerOpen.into()),
        Err(CallError::Full | CallError::Late | CallError::Ending) => Err(Code::Unavailable.into()),
    }
}

fn tell(shell: &Rc<Shell>, message: LaneMessage) {
    let now = shell.now();
    shell.act(|lane, effects| lane.message(now, message, effects));
    shell.flush();
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use hyper::header::{HeaderValue, LOCATION};
    use roomcast_protocol::command::RoomsVerb;
    use serde_json::{Value, json};

    use super::*;
    use crate::upstream::Failure;

    fn asking(lines: &[(&str, &[u8])]) -> Asking {
        let mut request = Request::get("/roadrunner?room=1&x=%20").body(()).unwrap();
        for (name, value) in lines {
            let name: hyper::header::HeaderName = name.parse().unwrap();
            request.headers_mut().append(name, HeaderValue::from_bytes(value).unwrap());
        }
        Asking::new(CallIndex(3), &request, IpAddr::from([192, 0, 2, 7]))
    }

    fn body(bytes: &Bytes) -> Value {
        serde_json::from_slice(bytes).unwrap()
    }

    #[test]
    fn the_application_is_told_the_request_as_the_origin_tells_it() {
        let asking = asking(&[
            ("host", b"shop.example:8080"),
            ("authorization", b"Bearer a\"b"),
            ("x-forwarded-for", b"10.0.0.1"),
            ("x-forwarded-for", b"10.0.0.2"),
            ("x-odd", b"\xff"),
            ("cookie", b"sid=a%20b+c; bad=%zz; theme=\"dark\"; none"),
            ("cookie", b"sid=last; =nameless"),
        ]);
        assert_eq!(asking.call(), CallIndex(3));
        let expected = json!({
            "remoteAddr": "192.0.2.7",
            "protocol": "HTTP/1.1",
            "method": "GET",
            "uri": "http://shop.example:8080/roadrunner?room=1&x=%20",
            "headers": {
                "Authorization": ["Bearer a\"b"],
                "X-Forwarded-For": ["10.0.0.1", "10.0.0.2"],
                "X-Odd": ["\u{fffd}"],
                "Cookie": [
                    "sid=a%20b+c; bad=%zz; theme=\"dark\"; none", "sid=last; =nameless"
                ],
            },
            "cookies": { "sid": "last", "theme": "dark" },
            "rawQuery": "room=1&x=%20",
            "parsed": false,
            "attributes": { "ws:joinServer": true },
        });
        assert_eq!(body(&asking.of_server()), expected);
    }

    #[test]
    fn topics_are_told_as_the_origins_list_and_as_what_they_are() {
        let request = |topics: &[&str]| RoomsRequest {
            verb: RoomsVerb::Join,
            named: topics.iter().map(|it| Box::from(*it)).collect(),
            rooms: Ok(topics.iter().map(|it| format!("shop-{it}").into()).collect()),
        };
        let asking = asking(&[("host", b"a")]);
        let asked = body(&asking.of_topics(&request(&["foo", "a,b", "foo"])));
        assert_eq!(asked["attributes"], json!({ "ws:joinTopics": "foo,a,b,foo" }));
        assert_eq!(asked["topics"], json!(["foo", "a,b", "foo"]));
        assert_eq!(asked["rooms"], json!(["shop-foo", "shop-a,b", "shop-foo"]));
        assert_eq!(asked["uri"], "http://a/roadrunner?room=1&x=%20");
        assert_eq!(asking.of_topics(&request(&[])), asking.of_server());
    }

    #[test]
    fn json_makes_no_more_than_four_times_of_the_longest_head() {
        let quotes = "\"".repeat(16_000);
        let lines = [
            ("x", b"\xff".repeat(16_000)),
            ("x", quotes.clone().into()),
            ("cookie", format!("a={quotes}").into()),
            ("cookie", format!("a={}", "%00".repeat(5_000)).into()),
            ("cookie", (0..3_000).map(|it| format!("{it}=;")).collect::<String>().into()),
        ];
        for (name, value) in lines {
            let bytes = asking(&[("host", b"a"), (name, &value)]).of_server().len();
            assert!(bytes <= 4 * (name.len() + value.len()) + 512, "{name}: {bytes}");
        }
        let slashes = "\\".repeat(16_000);
        let request = Request::get(format!("/?{slashes}")).body(()).unwrap();
        let asking = Asking::new(CallIndex(0), &request, IpAddr::from([0; 4]));
        assert!((60_000..=4 * 16_000 + 512).contains(&asking.of_server().len()));
    }

    fn answer(status: u16) -> Answer {
        let headers = HeaderMap::from_iter([(LOCATION, HeaderValue::from_static("/login"))]);
        Answer { status, headers: Arc::new(headers), body: Bytes::from("no"), stale: false }
    }

    #[test]
    fn a_denied_client_gets_the_applications_answer_unless_that_would_mean_an_upgrade() {
        for status in [204, 302, 401, 500, 999] {
            let response = denied(answer(status));
            assert_eq!(response.status().as_u16(), status);
            assert_eq!(response.headers()[LOCATION], "/login");
        }
        for status in [100, 101, 103] {
            let response = denied(answer(status));
            assert_eq!((response.status().as_u16(), response.headers().get(LOCATION)), (400, None));
        }
    }

    #[test]
    fn what_cannot_be_asked_is_told_with_when_to_try_again_and_what_broke_without() {
        let check = |error: &CallError, status: u16, retry: Option<&str>| {
            let response = unanswered(error);
            let found = response.headers().get("retry-after").map(|it| it.to_str().unwrap());
            assert_eq!((response.status().as_u16(), found), (status, retry), "{error}");
        };
        check(&CallError::Full, 503, Some("5"));
        check(&CallError::Late, 503, Some("5"));
        check(&CallError::Open { retry_after_ms: 1_001 }, 503, Some("2"));
        check(&CallError::Open { retry_after_ms: 0 }, 503, Some("1"));
        check(&CallError::Open { retry_after_ms: u64::MAX }, 503, Some("4294967"));
        check(&CallError::Ending, 503, Some("1"));
        check(&CallError::Failed(Failure::Timeout), 400, None);
    }

    #[test]
    fn only_status_200_lets_a_session_join() {
        let code = |verdict| allowed(&verdict).map_err(|refused| refused.refusal);
        assert_eq!(code(Ok(Verdict::Allowed)), Ok(()));
        assert_eq!(code(Ok(Verdict::Denied(answer(204)))), Err(Code::PermissionDenied));
        assert_eq!(code(Err(CallError::Failed(Failure::Timeout))), Err(Code::UpstreamFailed));
        assert_eq!(code(Err(CallError::Open { retry_after_ms: 1 })), Err(Code::BreakerOpen));
        for error in [CallError::Full, CallError::Late, CallError::Ending] {
            assert_eq!(code(Err(error)), Err(Code::Unavailable));
        }
    }
}
