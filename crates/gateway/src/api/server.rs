//! The internal port's sockets: HTTP/1.1 with a bound on their number, on each head and on every wait.

use std::cell::Cell;
use std::convert::Infallible;
use std::future::poll_fn;
use std::rc::Rc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::header::{self, HeaderValue};
use hyper::server::conn::http1::Builder;
use hyper::service::service_fn;
use hyper::{Method, Request};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::Api;
use crate::transport::linger::linger;

/// Sockets of the internal port; more wait in the kernel's queue. Source: far more than scrapers and back-ends with
/// pools need, few beside the sockets of clients.
const CONNECTIONS_MAX: usize = 256;

/// From the start of a connection, or the last answer, to the end of a request's head.
const HEADER_WAIT: Duration = Duration::from_secs(5);

/// Bytes of one request's head.
const HEADER_BYTES_MAX: usize = 16 * 1024;

/// Header lines of one request.
const HEADERS_MAX: usize = 64;

/// How long a connection may go on after its last request came: longer than any answer takes to be made, so what is
/// ended is a client that does not take its answer.
const STALLED_WAIT: Duration = Duration::from_secs(60);

/// How long a client that was answered may take to hang up.
const LINGER: Duration = Duration::from_millis(500);

/// How long the listener rests after an error that repeats at once (no descriptors left).
const ACCEPT_REST: Duration = Duration::from_millis(50);

/// Serves the internal port for as long as it is polled; its connections end with it.
pub(crate) async fn serve(listener: TcpListener, api: Rc<Api>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept(), if connections.len() < CONNECTIONS_MAX => match accepted {
                Ok((stream, _)) => {
                    connections.spawn_local(connection(stream, Rc::clone(&api)));
                }
                Err(error) => {
                    tracing::warn!(%error, "a connection to the internal port could not be accepted");
                    tokio::time::sleep(ACCEPT_REST).await;
                }
            },
            Some(ended) = connections.join_next(), if !connections.is_empty() => {
                if let Err(error) = ended {
                    tracing::error!(%error, "a request to the internal port ended by a panic");
                }
            }
        }
    }
}

async fn connection(stream: TcpStream, api: Rc<Api>) {
    let asked = Cell::new(Instant::now());
    let service = service_fn(|request: Request<Incoming>| {
        asked.set(Instant::now());
        let api = &api;
        Box::pin(async move {
            // Who sends both lengths is read by the chunks alone, and then no further (RFC 9112 6.1).
            let closes = request.headers().contains_key(header::TRANSFER_ENCODING)
                || request.method() == Method::CONNECT;
            let mut response = api.respond(request).await;
            if closes {
                let close = HeaderValue::from_static("close");
                response.headers_mut().insert(header::CONNECTION, close);
            }
            Ok::<_, Infallible>(response)
        })
    });
    let mut connection = Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_WAIT)
        .max_buf_size(HEADER_BYTES_MAX)
        .max_headers(HEADERS_MAX)
        .half_close(false)
        .keep_alive(true)
        .serve_connection(TokioIo::new(stream), service);
    let ended = {
        let mut serving = std::pin::pin!(poll_fn(|cx| connection.poll_without_shutdown(cx)));
        loop {
            let until = asked.get() + STALLED_WAIT;
            tokio::select! {
                ended = &mut serving => break Some(ended),
                () = tokio::time::sleep_until(until) => {
                    if asked.get() + STALLED_WAIT == until {
                        break None;
                    }
                }
            }
        }
    };
    match ended {
        None => tracing::debug!("a client of the internal port did not take its answer"),
        Some(Err(error)) if error.is_timeout() => {}
        Some(Err(error)) => {
            tracing::debug!(%error, "a connection to the internal port failed");
            linger(connection.into_parts().io.into_inner(), LINGER).await;
        }
        Some(Ok(())) => linger(connection.into_parts().io.into_inner(), LINGER).await,
    }
}
