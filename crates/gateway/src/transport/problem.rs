//! Refusals in HTTP: `application/problem+json`, RFC 9457. What it says comes from the caller.

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Response, StatusCode};

/// The media type of a problem.
pub const PROBLEM_JSON: &str = "application/problem+json";

/// A response that tells what was wrong (`title`, the same for all of its kind) and how to mend it (`detail`).
#[must_use]
pub fn problem(status: StatusCode, title: &str, detail: &str) -> Response<Full<Bytes>> {
    let body = serde_json::json!({ "title": title, "status": status.as_u16(), "detail": detail });
    let mut response = Response::new(Full::new(Bytes::from(body.to_string())));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
    response
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;

    #[tokio::test]
    async fn a_problem_says_title_status_and_detail() {
        let response = problem(StatusCode::BAD_REQUEST, "Bad \"key\"", "send 16 bytes");
        assert_eq!(response.headers()[CONTENT_TYPE], PROBLEM_JSON);
        let body = response.into_body().collect().await.unwrap().to_bytes();
        let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
        let expected = serde_json::json!({
            "title": "Bad \"key\"", "status": 400, "detail": "send 16 bytes"
        });
        assert_eq!(body, expected);
    }
}
