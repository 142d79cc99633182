//! One connection's HTTP/1.1 phase on the public port: requests without bodies are answered by a [`Handler`], until one
//! of them is upgraded, and then the socket is handed back so that all of this is freed. Every wait has a deadline.

use std::cell::Cell;
use std::convert::Infallible;
use std::future::{Ready, poll_fn, ready};
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::{Body as _, Incoming};
use hyper::header::{CONNECTION, CONTENT_LENGTH, HOST, HeaderValue, TRANSFER_ENCODING, UPGRADE};
use hyper::server::conn::http1::Builder;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode, Version};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;

use super::client_addr::TrustedProxies;
use super::linger::linger;
use super::problem::problem;
use super::proxy::{self, ProxyError};
use super::strict::{HeadWatch, Strict};
use super::websocket::handshake;

/// hyper's own least value of `max_buf_size`. Units: bytes.
const HEADER_BYTES_LEAST: usize = 8_192;

/// How long a client that was answered may take to hang up.
const LINGER: Duration = Duration::from_millis(500);

/// What the HTTP phase of one connection may take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpLimits {
    /// From the start of a connection, or the last answer, to the end of a request's head. Units: milliseconds.
    pub header_ms: u64,
    /// Bytes of one request's head; at least 8,192. Units: bytes.
    pub header_bytes_max: usize,
    /// Header lines of one request.
    pub headers_max: usize,
    /// How long a client may take none of its answer. Units: milliseconds.
    pub write_ms: u64,
    /// How long the PROXY protocol's header may take. Units: milliseconds.
    pub proxy_ms: u64,
    /// Whether every connection must begin with the PROXY protocol.
    pub proxy_protocol: bool,
    /// Whose word about a client's address is believed.
    pub trusted: Arc<TrustedProxies>,
}

impl Default for HttpLimits {
    fn default() -> Self {
        Self {
            header_ms: 5_000,
            header_bytes_max: 16 * 1024,
            headers_max: 64,
            write_ms: 10_000,
            proxy_ms: 1_000,
            proxy_protocol: false,
            trusted: Arc::default(),
        }
    }
}

/// Who calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientInfo {
    /// The client's address, as far as trusted proxies tell it.
    pub ip: IpAddr,
    /// The other end of the socket, a proxy perhaps.
    pub peer: SocketAddr,
}

/// What a request gets.
#[derive(Debug)]
pub enum Answer<T> {
    /// A response.
    Http(Response<Full<Bytes>>),
    /// The 101; what is attached comes back with the socket.
    Upgrade(handshake::Accepted, T),
}

/// An answer, or the way to one.
pub enum Handled<'h, T> {
    /// It is there.
    Now(Answer<T>),
    /// It takes time, how much is the handler's own affair. Where the client hangs up meanwhile, it is dropped.
    Later(Pin<Box<dyn Future<Output = Answer<T>> + 'h>>),
}

/// Answers requests. Bodies never arrive here: requests that have one are refused before.
pub trait Handler {
    /// What an upgraded connection takes along.
    type Attachment;

    /// Answers one request.
    fn handle(
        &self,
        request: Request<Incoming>,
        client: ClientInfo,
    ) -> Handled<'_, Self::Attachment>;
}

/// A connection that speaks WebSocket from here on; its 101 is written.
#[derive(Debug)]
pub struct Upgraded<T> {
    /// The socket.
    pub stream: TcpStream,
    /// Bytes that were read behind the request: the first ones of the WebSocket.
    pub leftover: Bytes,
    /// What the handler attached.
    pub attachment: T,
}

/// Why a connection ended otherwise than by its client's wish.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// Its PROXY protocol header was not acceptable.
    #[error(transparent)]
    Proxy(#[from] ProxyError),
    /// It broke HTTP or a deadline; where HTTP has an answer for that, the client got it.
    #[error("the HTTP connection failed")]
    Http(#[from] hyper::Error),
}

/// Serves a connection until it is upgraded or ends.
///
/// The future is large: spawn what comes after the upgrade as a task of its own, and let this one end.
///
/// # Errors
/// The connection is closed already; the error is for the log.
pub async fn serve<H: Handler>(
    mut stream: TcpStream,
    peer: SocketAddr,
    handler: &H,
    limits: &HttpLimits,
) -> Result<Option<Upgraded<H::Attachment>>, ServeError> {
    let (mut caller, mut early) = (peer, Bytes::new());
    if limits.proxy_protocol {
        let limit = Duration::from_millis(limits.proxy_ms);
        let (source, rest) = proxy::accept(&mut stream, peer.ip(), &limits.trusted, limit).await?;
        (caller, early) = (source.unwrap_or(peer), rest);
    }
    let watch = HeadWatch::default();
    let attached = Cell::new(None);
    let desk = Desk { handler, watch: &watch, attached: &attached, caller, peer, limits };
    let io = Strict::new(stream, early, &watch, Duration::from_millis(limits.write_ms));
    let service = service_fn(|request| desk.call(request));
    let mut connection = builder(limits).serve_connection(TokioIo::new(io), service);
    let ended = poll_fn(|cx| connection.poll_without_shutdown(cx)).await;
    let parts = connection.into_parts();
    let stream = parts.io.into_inner().into_inner();
    let error = match (ended, attached.take()) {
        (Ok(()), Some(attachment)) => {
            return Ok(Some(Upgraded { stream, leftover: parts.read_buf, attachment }));
        }
        (Ok(()), None) => None,
        (Err(error), _) => Some(error),
    };
    if !error.as_ref().is_some_and(hyper::Error::is_timeout) {
        linger(stream, LINGER).await;
    }
    error.map_or(Ok(None), |error| Err(error.into()))
}

fn builder(limits: &HttpLimits) -> Builder {
    let mut builder = Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_millis(limits.header_ms))
        .max_buf_size(limits.header_bytes_max.max(HEADER_BYTES_LEAST))
        .max_headers(limits.headers_max)
        .half_close(false)
        .keep_alive(true);
    builder
}

/// Stands between hyper and the handler.
struct Desk<'s, H: Handler> {
    handler: &'s H,
    watch: &'s HeadWatch,
    attached: &'s Cell<Option<H::Attachment>>,
    caller: SocketAddr,
    peer: SocketAddr,
    limits: &'s HttpLimits,
}

/// The answer of a handler on its way to hyper, which wants it to be movable. Only one that takes time is on the heap.
enum Reply<'d> {
    Now(Ready<Result<Response<Full<Bytes>>, Infallible>>),
    Later(Pin<Box<dyn Future<Output = Response<Full<Bytes>>> + 'd>>),
}

impl Future for Reply<'_> {
    type Output = Result<Response<Full<Bytes>>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.get_mut() {
            Self::Now(response) => Pin::new(response).poll(cx),
            Self::Later(response) => response.as_mut().poll(cx).map(Ok),
        }
    }
}

impl<H: Handler> Desk<'_, H> {
    fn call(&self, request: Request<Incoming>) -> Reply<'_> {
        // A proxy may hold a refused upgrade for an open tunnel, and what it sends then for the client's own requests.
        let must_close = request.headers().contains_key(UPGRADE) || self.watch.has_bytes_behind();
        if let Some(refusal) = self.refuse(&request) {
            return Reply::Now(ready(Ok(self.response(Answer::Http(refusal), true))));
        }
        let ip = self.limits.trusted.client(self.caller.ip(), request.headers());
        match self.handler.handle(request, ClientInfo { ip, peer: self.peer }) {
            Handled::Now(answer) => Reply::Now(ready(Ok(self.response(answer, must_close)))),
            Handled::Later(answer) => {
                Reply::Later(Box::pin(async move { self.response(answer.await, must_close) }))
            }
        }
    }

    fn response(&self, answer: Answer<H::Attachment>, must_close: bool) -> Response<Full<Bytes>> {
        match answer {
            Answer::Upgrade(accepted, attachment) => {
                self.attached.set(Some(attachment));
                accepted.response()
            }
            Answer::Http(mut response) => {
                if must_close {
                    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
                }
                self.watch.restart();
                response
            }
        }
    }

    /// Refuses what two servers could read in two ways (request smuggling), and bodies.
    fn refuse(&self, request: &Request<Incoming>) -> Option<Response<Full<Bytes>>> {
        let headers = request.headers();
        let bad = |detail| Some(problem(StatusCode::BAD_REQUEST, "Malformed request", detail));
        if self.watch.has_bare_lf() {
            return bad("end every header line with CR LF");
        }
        if headers.contains_key(TRANSFER_ENCODING) {
            return bad("requests have no body here: leave out `Transfer-Encoding`");
        }
        if headers.get_all(HOST).iter().count() != 1 && request.version() != Version::HTTP_10 {
            return bad("send one `Host` header");
        }
        if headers.contains_key(CONTENT_LENGTH) && !request.body().is_end_stream() {
            let detail = "requests have no body here: leave out `Content-Length`, or send 0";
            return Some(problem(StatusCode::PAYLOAD_TOO_LARGE, "Body not expected", detail));
        }
        None
    }
}
