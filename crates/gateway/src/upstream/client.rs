//! HTTP/1.1 to one target: requests, their answers, and connections that are used again for a moment. A redirect is an
//! answer like any other, and never followed.

use std::cell::RefCell;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Body as _, Incoming};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{
    AUTHORIZATION, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HOST, HeaderMap, HeaderName,
    HeaderValue, TRANSFER_ENCODING, UPGRADE, USER_AGENT,
};
use hyper::{Method, Request, Response, Uri};
use hyper_util::rt::TokioIo;
use tokio_rustls::TlsConnector;

use super::Answer;
use super::connect::{Resolver, connect, connector};
use super::sign::{SIGNATURE, Signer, TIMESTAMP};
use crate::clock::Clock;
use crate::config::{CallConfig, TargetConfig};

/// How long a connection may wait for its next request: less than the 5 s after which many servers end it, for what is
/// sent just then is lost. Units: milliseconds.
const IDLE_MS: u64 = 4_000;

/// Connections of one target that may wait for their next request.
const IDLE_MAX: usize = 64;

/// The head of an answer. Units: bytes.
const HEAD_BYTES_MAX: usize = 64 << 10;

/// Headers of an answer.
const HEADERS_MAX: usize = 100;

/// Why a request has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Failure {
    /// Its name has no address that may be connected to.
    #[error(
        "its address {0} is not one of the internet; list its network in allow_private of the target, if that is meant"
    )]
    Address(IpAddr),
    /// Its name is not known.
    #[error("its name cannot be resolved: {0}")]
    Resolve(String),
    /// It takes no connection.
    #[error("it cannot be connected to: {0}")]
    Connect(String),
    /// It cannot prove who it is.
    #[error("TLS failed: {0}")]
    Tls(String),
    /// There are no certificates to check it with.
    #[error("the certificates to trust cannot be used: {0}")]
    Trust(String),
    /// It ended the connection, or does not speak HTTP.
    #[error("it gave no answer: {0}")]
    Broken(String),
    /// Its answer is larger than the call takes.
    #[error("its answer has more than {0} bytes, see response_bytes of the call")]
    TooLarge(usize),
    /// It took too long.
    #[error("it did not answer within the timeout")]
    Timeout,
}

impl Failure {
    /// Whether the back-end may have got the request.
    pub(crate) const fn may_have_arrived(&self) -> bool {
        match self {
            Self::Broken(_) | Self::TooLarge(_) | Self::Timeout => true,
            Self::Address(_)
            | Self::Resolve(_)
            | Self::Connect(_)
            | Self::Tls(_)
            | Self::Trust(_) => false,
        }
    }
}

/// What all requests of a call have in common.
pub(super) struct Template {
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    response_bytes_max: usize,
}

/// A connection that waits.
struct Idle {
    sender: SendRequest<Full<Bytes>>,
    since_ms: u64,
}

/// The requests to one target.
pub(super) struct Client {
    target: TargetConfig,
    signer: Option<Signer>,
    connector: Result<Option<TlsConnector>, Failure>,
    resolver: Resolver,
    idle: RefCell<Vec<Idle>>,
    clock: Clock,
}

impl Client {
    /// A target's, without a connection yet.
    pub(super) fn new(target: &TargetConfig, clock: Clock, resolver: Resolver) -> Rc<Self> {
        Rc::new(Self {
            signer: target.secret.as_ref().map(|secret| Signer::new(secret.expose())),
            connector: connector(target),
            target: target.clone(),
            resolver,
            idle: RefCell::default(),
            clock,
        })
    }

    /// What requests of a call begin with.
    pub(super) fn template(&self, call: &CallConfig) -> Template {
        let mut headers = HeaderMap::new();
        headers.insert(HOST, self.target.authority.clone());
        headers.insert(
            USER_AGENT,
            HeaderValue::from_static(concat!("roomcast/", env!("CARGO_PKG_VERSION"))),
        );
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(authorization) = &self.target.authorization {
            headers.insert(AUTHORIZATION, authorization.clone());
        }
        for (name, value) in &call.headers {
            headers.insert(name.clone(), value.clone());
        }
        Template {
            method: call.method.clone(),
            uri: call.uri.clone(),
            headers,
            response_bytes_max: call.response_bytes,
        }
    }

    /// Sends a request with this body and takes the answer. Has no deadline of its own.
    pub(super) async fn exchange(&self, of: &Template, body: Bytes) -> Result<Answer, Failure> {
        let mut request = self.request(of, body);
        if let Some(mut sender) = self.waiting()
            && sender.ready().await.is_ok()
        {
            match sender.try_send_request(request).await {
                Ok(response) => return self.take(of, sender, response).await,
                // It was ended just now, and nothing of the request has left.
                Err(mut error) => match error.take_message() {
                    Some(unsent) => request = unsent,
                    None => return Err(Failure::Broken(error.into_error().to_string())),
                },
            }
        }
        let connector = self.connector.as_ref().map_err(Clone::clone)?;
        let stream = connect(&self.target, connector.as_ref(), &self.resolver).await?;
        let mut builder = http1::Builder::new();
        builder.max_buf_size(HEAD_BYTES_MAX).max_headers(HEADERS_MAX);
        let broken = |error: hyper::Error| Failure::Broken(error.to_string());
        let (mut sender, connection) =
            builder.handshake(TokioIo::new(stream)).await.map_err(broken)?;
        // Ends with its sender, or with the socket.
        tokio::task::spawn_local(connection);
        let response = sender.send_request(request).await.map_err(broken)?;
        self.take(of, sender, response).await
    }

    fn request(&self, of: &Template, body: Bytes) -> Request<Full<Bytes>> {
        let signed = self.signer.as_ref().map(|signer| {
            let unix_s = self.clock.now().unix_ms / 1_000;
            (unix_s, signer.sign(unix_s, &body))
        });
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = of.method.clone();
        *request.uri_mut() = of.uri.clone();
        *request.headers_mut() = of.headers.clone();
        if let Some((unix_s, signature)) = signed
            && let Ok(signature) = HeaderValue::from_str(&signature)
        {
            request.headers_mut().insert(HeaderName::from_static(TIMESTAMP), unix_s.into());
            request.headers_mut().insert(HeaderName::from_static(SIGNATURE), signature);
        }
        request
    }

    /// A connection that waits and is still good.
    fn waiting(&self) -> Option<SendRequest<Full<Bytes>>> {
        let now_ms = self.clock.now().mono_ms;
        let mut idle = self.idle.borrow_mut();
        idle.retain(|it| now_ms < it.since_ms.saturating_add(IDLE_MS) && !it.sender.is_closed());
        idle.pop().map(|it| it.sender)
    }

    /// Takes an answer whole; its connection waits for the next request.
    async fn take(
        &self,
        of: &Template,
        sender: SendRequest<Full<Bytes>>,
        response: Response<Incoming>,
    ) -> Result<Answer, Failure> {
        let (head, mut body) = response.into_parts();
        let max = of.response_bytes_max;
        let said = body.size_hint().lower();
        if usize::try_from(said).map_or(true, |said| said > max) {
            return Err(Failure::TooLarge(max));
        }
        let mut bytes = BytesMut::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| Failure::Broken(error.to_string()))?;
            let Ok(data) = frame.into_data() else { continue };
            if bytes.len() + data.len() > max {
                return Err(Failure::TooLarge(max));
            }
            bytes.extend_from_slice(&data);
        }
        let mut idle = self.idle.borrow_mut();
        if !sender.is_closed() && idle.len() < IDLE_MAX {
            idle.push(Idle { sender, since_ms: self.clock.now().mono_ms });
        }
        let mut headers = head.headers;
        strip(&mut headers);
        let headers = Arc::new(headers);
        Ok(Answer { status: head.status.as_u16(), headers, body: bytes.freeze(), stale: false })
    }
}

/// Takes out what is about the connection, and so not for anybody else. Source: RFC 9110 7.6.1.
fn strip(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in named {
        headers.remove(name);
    }
    let others = ["keep-alive", "proxy-connection", "te", "trailer"];
    for name in [CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING, UPGRADE]
        .into_iter()
        .chain(others.map(HeaderName::from_static))
    {
        headers.remove(name);
    }
}
