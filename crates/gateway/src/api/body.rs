//! Requests' bodies: read whole, within a size and a time, and only as JSON.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::Body;
use hyper::header::{self, HeaderMap};
use hyper::{Request, StatusCode};
use roomcast_protocol::codes::{Refusal, Refused};
use roomcast_protocol::limits::LimitName;

use super::access::only;
use super::problem::Problem;

/// How long a whole body may take. Source: attack 14.
const BODY_WAIT: Duration = Duration::from_secs(5);

/// Reads a body that must be JSON.
///
/// # Errors
/// 415 for another type or coding, 413 over `max` bytes, 408 if it takes too long, 400 if it breaks off.
pub(super) async fn json<B>(request: Request<B>, max: usize) -> Result<Bytes, Problem>
where
    B: Body<Data = Bytes>,
{
    check_type(request.headers())?;
    read(request, (LimitName::MessageBytes, max), BODY_WAIT).await
}

/// The same for a batch, which has a limit of its own.
///
/// # Errors
/// As [`json`].
pub(super) async fn batch<B>(request: Request<B>, max: usize) -> Result<Bytes, Problem>
where
    B: Body<Data = Bytes>,
{
    check_type(request.headers())?;
    read(request, (LimitName::ApiBatchBytes, max), BODY_WAIT).await
}

/// Takes note of the body of a request that needs none: nothing, or an empty JSON object.
///
/// # Errors
/// As [`json`], and 400 for anything else.
pub(super) async fn none<B>(request: Request<B>, max: usize) -> Result<(), Problem>
where
    B: Body<Data = Bytes>,
{
    if request.body().is_end_stream() {
        return Ok(());
    }
    let body = json(request, max).await?;
    let text = std::str::from_utf8(&body).unwrap_or("?");
    let compact: String = text.split_ascii_whitespace().collect();
    if compact.is_empty() || compact == "{}" {
        return Ok(());
    }
    Err(Refused::because(Refusal::Schema, "This request takes no body".into()).into())
}

fn check_type(headers: &HeaderMap) -> Result<(), Problem> {
    let unsupported = |text: &'static str| {
        Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, text.into()).and_close())
    };
    let content_type = only(headers, header::CONTENT_TYPE).unwrap_or_default();
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    if !essence.eq_ignore_ascii_case("application/json") {
        return unsupported("The body must be JSON: Content-Type: application/json");
    }
    if headers.contains_key(header::CONTENT_ENCODING) {
        return unsupported("The body must not be compressed: leave out Content-Encoding");
    }
    Ok(())
}

async fn read<B>(
    request: Request<B>,
    (limit, max): (LimitName, usize),
    wait: Duration,
) -> Result<Bytes, Problem>
where
    B: Body<Data = Bytes>,
{
    let body = request.into_body();
    if body.size_hint().lower() > max as u64 {
        return Err(too_large(limit, max));
    }
    let collect = async {
        let mut body = std::pin::pin!(body);
        let mut read = BytesMut::new();
        while let Some(frame) = body.frame().await {
            let broken = |_| {
                let text = "The body broke off, or its chunks are malformed";
                Problem::new(StatusCode::BAD_REQUEST, text.into()).and_close()
            };
            // Frames that carry no data are trailers, which nobody here reads.
            if let Ok(data) = frame.map_err(broken)?.into_data() {
                if read.len() + data.len() > max {
                    return Err(too_large(limit, max));
                }
                read.extend_from_slice(&data);
            }
        }
        Ok(read.freeze())
    };
    tokio::time::timeout(wait, collect).await.unwrap_or_else(|_| {
        let text = "The body took too long";
        Err(Problem::new(StatusCode::REQUEST_TIMEOUT, text.into()).and_close())
    })
}

fn too_large(limit: LimitName, max: usize) -> Problem {
    Problem::from(Refused::limit(Refusal::TooLarge, limit, max as u64, None)).and_close()
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use http_body_util::Full;
    use hyper::body::Frame;

    use super::*;

    fn request<B>(content_type: &str, body: B) -> Request<B> {
        Request::builder().header(header::CONTENT_TYPE, content_type).body(body).unwrap()
    }

    fn full(text: &str) -> Full<Bytes> {
        Full::new(Bytes::copy_from_slice(text.as_bytes()))
    }

    /// A body of chunks whose length nobody announced; `None` in the end: it never comes.
    struct Chunks(Vec<&'static [u8]>, bool);

    impl Body for Chunks {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            match (self.0.pop(), self.1) {
                (Some(chunk), _) => Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(chunk))))),
                (None, true) => Poll::Ready(None),
                (None, false) => Poll::Pending,
            }
        }
    }

    fn status<T: std::fmt::Debug>(result: Result<T, Problem>) -> u16 {
        result.unwrap_err().status().as_u16()
    }

    #[tokio::test]
    async fn a_body_of_the_limit_is_read_and_one_byte_more_is_refused() {
        let read = json(request("application/json", full("1234")), 4).await.unwrap();
        assert_eq!(read, "1234");
        let problem = json(request("application/json", full("12345")), 4).await.unwrap_err();
        assert_eq!(problem.cause(), Some((Refusal::TooLarge, Some(LimitName::MessageBytes))));
        let chunks = |first| Chunks(vec![b"34", first], true);
        assert_eq!(json(request("application/json", chunks(b"12")), 4).await.unwrap(), "1234");
        assert_eq!(status(json(request("application/json", chunks(b"123")), 4).await), 413);
    }

    #[tokio::test]
    async fn a_body_that_never_ends_is_given_up() {
        let request = request("application/json", Chunks(vec![b"12"], false));
        assert_eq!(
            status(read(request, (LimitName::MessageBytes, 4), Duration::from_millis(5)).await),
            408
        );
    }

    #[tokio::test]
    async fn only_plain_json_is_taken() {
        for content_type in ["application/json", "Application/JSON; charset=utf-8"] {
            assert!(json(request(content_type, full("{}")), 9).await.is_ok(), "{content_type}");
        }
        for content_type in
            ["text/plain", "application/jsonp", "application/x-www-form-urlencoded", ""]
        {
            let request = request(content_type, full("{}"));
            assert_eq!(status(json(request, 9).await), 415, "{content_type}");
        }
        let mut coded = request("application/json", full("{}"));
        coded.headers_mut().insert(header::CONTENT_ENCODING, "gzip".parse().unwrap());
        assert_eq!(status(json(coded, 9).await), 415);
    }

    #[tokio::test]
    async fn a_request_without_need_of_a_body_takes_an_empty_one_alone() {
        assert_eq!(none(request("", full("")), 9).await, Ok(()));
        assert_eq!(none(request("application/json", full(" { } ")), 9).await, Ok(()));
        assert_eq!(status(none(request("", full("{}")), 9).await), 415);
        assert_eq!(status(none(request("application/json", full("[]")), 9).await), 400);
    }
}
