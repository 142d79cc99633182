//! The way to an upgraded connection: address, TCP, HTTP upgrade, checks of the answer. Sends the token where the
//! caller wants it and never shows it.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{
    AUTHORIZATION, CONNECTION, HOST, RETRY_AFTER, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY,
    SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use hyper::upgrade::Upgraded;
use hyper::{Request, Response, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use sha1::{Digest as _, Sha1};
use tokio::net::TcpStream;

use crate::error::Error;
use crate::options::{Continuation, Options, TokenIn};

/// What RFC 6455 4.2.2 appends to the key.
const ACCEPT_SALT: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// Most of a refusal's body that is read. Units: bytes.
const BODY_BYTES_MAX: usize = 2_048;

/// Where to connect.
#[derive(Debug, PartialEq, Eq)]
struct Target {
    address: String,
    host: String,
    path: String,
}

/// Connects and upgrades.
pub(crate) async fn open(options: &Options) -> Result<TokioIo<Upgraded>, Error> {
    let target = target(&options.url)?;
    let failed =
        |source: std::io::Error| Error::Connect { address: target.address.clone(), source };
    let stream = TcpStream::connect(&target.address).await.map_err(failed)?;
    stream.set_nodelay(true).map_err(failed)?;
    // As when a balancer's node is gone: it may well come about the next time.
    let broken = |cause: hyper::Error| Error::Connect {
        address: target.address.clone(),
        source: std::io::Error::other(cause),
    };
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
    // Ends with the upgrade or the answer's body; a failure shows in `send_request` as well.
    let serving = tokio::spawn(connection.with_upgrades());
    let key = fastwebsockets::handshake::generate_key();
    let mut response =
        sender.send_request(request(&target, options, &key)?).await.map_err(broken)?;
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        let status = response.status().as_u16();
        let retry_after = retry_after(&response);
        let body = refusal_body(response).await;
        serving.abort();
        return Err(Error::Upgrade { status, body, retry_after });
    }
    check(&response, &key, options.format.subprotocol())?;
    hyper::upgrade::on(&mut response).await.map(TokioIo::new).map_err(broken)
}

/// Whether an address can be used at all.
pub(crate) fn check_url(url: &str) -> Result<(), Error> {
    target(url).map(drop)
}

fn target(url: &str) -> Result<Target, Error> {
    let bare = url.split('?').next().unwrap_or_default();
    let refuse = |cause: &str| Error::Url { url: bare.to_owned(), cause: cause.to_owned() };
    let uri: Uri = url.parse().map_err(|cause| refuse(&format!("{cause}")))?;
    match uri.scheme_str() {
        Some("ws") => {}
        Some("wss") => {
            return Err(refuse("TLS is not built in yet; connect with ws:// to a TLS proxy"));
        }
        Some(_) | None => return Err(refuse("it must begin with ws://")),
    }
    let host = uri.host().ok_or_else(|| refuse("it names no host"))?;
    let port = uri.port_u16().unwrap_or(80);
    let path = match uri.path_and_query() {
        Some(path) if path.path() != "/" => path.as_str().to_owned(),
        Some(path) => format!("/ws{}", path.as_str().trim_start_matches('/')),
        None => "/ws".to_owned(),
    };
    let host_header = uri.authority().map_or_else(|| host.to_owned(), ToString::to_string);
    Ok(Target { address: format!("{host}:{port}"), host: host_header, path })
}

fn request(target: &Target, options: &Options, key: &str) -> Result<Request<Empty<Bytes>>, Error> {
    let mut path = target.path.clone();
    let mut query = |name: &str, value: &str| {
        path.push(if path.contains('?') { '&' } else { '?' });
        path.push_str(name);
        path.push('=');
        percent_encode(value, &mut path);
    };
    if let (TokenIn::Query, Some(token)) = (options.token_in, &options.token) {
        query("token", token);
    }
    // Elsewhere it travels with the token, in the first frame.
    if matches!(options.token_in, TokenIn::Query | TokenIn::Header) {
        let Continuation { resume_token, device, hands_over, covered: _ } = &options.continuation;
        resume_token.iter().for_each(|token| query("resume", token));
        device.iter().for_each(|device| query("device", device));
        // Who does not say may be given an older session of its user's.
        query("handover", if *hands_over { "1" } else { "0" });
    }
    let mut request = Request::get(path)
        .header(HOST, &target.host)
        .header(CONNECTION, "Upgrade")
        .header(UPGRADE, "websocket")
        .header(SEC_WEBSOCKET_VERSION, "13")
        .header(SEC_WEBSOCKET_KEY, key)
        .header(SEC_WEBSOCKET_PROTOCOL, options.format.subprotocol());
    if let (TokenIn::Header, Some(token)) = (options.token_in, &options.token) {
        request = request.header(AUTHORIZATION, format!("Bearer {token}"));
    }
    request.body(Empty::new()).map_err(|cause| Error::Handshake(cause.to_string()))
}

fn percent_encode(text: &str, out: &mut String) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
}

/// RFC 6455 4.1: a client must fail the connection where the answer's key or subprotocol is not what it asked for.
fn check(response: &Response<Incoming>, key: &str, subprotocol: &str) -> Result<(), Error> {
    let header = |name| response.headers().get(name).and_then(|value| value.to_str().ok());
    if header(SEC_WEBSOCKET_ACCEPT) != Some(accept(key).as_str()) {
        return Err(Error::Handshake("Sec-WebSocket-Accept does not fit the key".into()));
    }
    if header(SEC_WEBSOCKET_PROTOCOL) != Some(subprotocol) {
        return Err(Error::Handshake(format!(
            "the peer does not speak {subprotocol}; is this the address of a Roomcast node?"
        )));
    }
    Ok(())
}

fn accept(key: &str) -> String {
    let mut hash = Sha1::new();
    hash.update(key.as_bytes());
    hash.update(ACCEPT_SALT);
    STANDARD.encode(hash.finalize())
}

/// RFC 9110 10.2.3, in seconds; nodes and balancers send no dates.
fn retry_after(response: &Response<Incoming>) -> Option<Duration> {
    let text = response.headers().get(RETRY_AFTER)?.to_str().ok()?;
    text.trim().parse().ok().map(|seconds: u32| Duration::from_secs(seconds.into()))
}

/// A refusal's text: the detail of problem details, else the body's beginning.
async fn refusal_body(response: Response<Incoming>) -> String {
    let reason = response.status().canonical_reason().unwrap_or_default().to_owned();
    let Ok(body) = Limited::new(response.into_body(), BODY_BYTES_MAX).collect().await else {
        return reason;
    };
    let body = body.to_bytes();
    if let Ok(problem) = serde_json::from_slice::<serde_json::Value>(&body)
        && let Some(text) = problem.get("detail").or_else(|| problem.get("title"))
    {
        return text.as_str().unwrap_or(&reason).to_owned();
    }
    let text = String::from_utf8_lossy(&body).trim().to_owned();
    if text.is_empty() { reason } else { text }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[track_caller]
    fn reads(url: &str, address: &str, path: &str) {
        let target = target(url).unwrap();
        assert_eq!((target.address.as_str(), target.path.as_str()), (address, path), "{url}");
    }

    #[test]
    fn addresses_need_no_path_and_no_port() {
        reads("ws://localhost:8080", "localhost:8080", "/ws");
        reads("ws://localhost:8080/", "localhost:8080", "/ws");
        reads("ws://localhost/other?x=1", "localhost:80", "/other?x=1");
        reads("ws://[::1]:9/ws", "[::1]:9", "/ws");
    }

    #[test]
    fn other_addresses_are_refused_without_showing_the_query() {
        for url in
            ["http://localhost", "localhost:8080", "wss://localhost/?token=s3cret", "", "ws://"]
        {
            let error = target(url).unwrap_err();
            assert_eq!(error.name(), "bad_url", "{url}");
            assert!(!error.to_string().contains("s3cret"), "{error}");
        }
    }

    #[test]
    fn the_accept_key_is_that_of_the_standard() {
        // RFC 6455 1.3.
        assert_eq!(accept("dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn the_token_goes_only_where_it_was_asked_for() {
        let target = target("ws://localhost/ws").unwrap();
        let mut options = Options::new("ws://localhost/ws", "a+b");
        options.token_in = TokenIn::Header;
        let plain = request(&target, &options, "key").unwrap();
        assert_eq!(plain.uri().query(), Some("handover=0"), "a session of its own");
        options.continuation = Continuation {
            resume_token: Some("s.k".into()),
            covered: BTreeMap::new(),
            device: Some("phone 1".into()),
            hands_over: true,
        };
        let wish = "resume=s.k&device=phone%201&handover=1";
        for (token_in, query, header) in [
            (TokenIn::Query, Some(format!("token=a%2Bb&{wish}")), false),
            (TokenIn::Header, Some(wish.to_owned()), true),
            (TokenIn::Frame, None, false),
        ] {
            options.token_in = token_in;
            let request = request(&target, &options, "key").unwrap();
            assert_eq!(request.uri().query(), query.as_deref());
            assert_eq!(request.headers().contains_key(AUTHORIZATION), header);
        }
    }
}
