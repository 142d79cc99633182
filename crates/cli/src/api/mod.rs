//! The commands that speak to a node's server API: which node, with which key, and what its refusals mean here.

pub(crate) mod batch;
pub(crate) mod broadcast;
pub(crate) mod history;
pub(crate) mod http;
pub(crate) mod lists;
pub(crate) mod orders;
pub(crate) mod webhooks;

use clap::Args;
use serde_json::Value;

use self::http::{Answer, Http};
use crate::failure::Failure;

/// Which node, with which key.
#[derive(Args, Debug)]
pub(crate) struct ApiArgs {
    /// The node's internal port
    #[arg(long, env = "ROOMCAST_API", value_name = "URL", default_value = "http://127.0.0.1:9090")]
    api: String,
    /// The API key; a node started with `serve --dev` needs none
    #[arg(long, env = "ROOMCAST_API_KEY", hide_env_values = true)]
    key: Option<String>,
}

impl ApiArgs {
    /// Connects.
    pub(crate) fn connect(&self) -> Result<Api, Failure> {
        let address = self.api.strip_prefix("http://").ok_or_else(|| {
            let text = "--api is http://host:port: the internal port has no TLS of its own";
            Failure::Usage(text.to_owned())
        })?;
        let http = Http::connect(address.trim_end_matches('/'))?;
        Ok(Api { http, key: self.key.clone() })
    }
}

/// A connection to a node's server API.
pub(crate) struct Api {
    http: Http,
    key: Option<String>,
}

impl Api {
    /// Reads.
    pub(crate) fn get(&mut self, path: &str) -> Result<Value, Failure> {
        self.ask("GET", path, None, "")
    }

    /// Acts; `once` is the key under which the same may be sent again.
    pub(crate) fn post(
        &mut self,
        path: &str,
        once: Option<&str>,
        body: &str,
    ) -> Result<Value, Failure> {
        self.ask("POST", path, once, body)
    }

    fn ask(
        &mut self,
        method: &str,
        path: &str,
        once: Option<&str>,
        body: &str,
    ) -> Result<Value, Failure> {
        let key = self.key.as_ref().map(|key| ("Authorization", format!("Bearer {key}")));
        let once = once.map(|once| ("Idempotency-Key", format!("\"{once}\"")));
        let headers: Vec<_> = key.into_iter().chain(once).collect();
        let answer = self.http.ask(method, path, &headers, body.as_bytes())?;
        let status = answer.status;
        let value = serde_json::from_slice(&answer.body).unwrap_or(Value::Null);
        if status == 200 { Ok(value) } else { Err(refused(&answer, &value)) }
    }
}

/// What a problem means for the exit code, in its own words.
fn refused(answer: &Answer, problem: &Value) -> Failure {
    let detail = problem["detail"].as_str().unwrap_or("no reason was given");
    let name = problem["name"].as_str().map_or(String::new(), |name| format!(" {name}"));
    let text = format!("the node answered {}{name}: {detail}", answer.status);
    match answer.status {
        401 => Failure::Refused(format!("{text}; give --key or ROOMCAST_API_KEY")),
        403 => Failure::Refused(text),
        504 => Failure::Timeout(text),
        _ => Failure::Failed(text),
    }
}

/// A name as a segment of a path. Source: RFC 3986 2.3, 3.3.
pub(crate) fn segment(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    for byte in name.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                out.push(char::from(byte));
            }
            other => out.push_str(&format!("%{other:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_escaped_byte_by_byte() {
        assert_eq!(segment("agent-7.x_~"), "agent-7.x_~");
        assert_eq!(segment("a/b é"), "a%2Fb%20%C3%A9");
    }

    #[test]
    fn a_missing_key_and_an_unknown_outcome_have_exit_codes_of_their_own() {
        let failure = |status| {
            let problem = serde_json::json!({"detail": "why", "name": "duplicate"});
            refused(&Answer { status, body: Vec::new() }, &problem)
        };
        assert!(matches!(failure(401), Failure::Refused(text) if text.contains("--key")));
        assert!(matches!(failure(403), Failure::Refused(_)));
        assert!(matches!(failure(504), Failure::Timeout(_)));
        let text = failure(409).to_string();
        assert_eq!(text, "the node answered 409 duplicate: why");
    }
}
