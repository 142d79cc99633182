//! What a node logs, at its most talkative: never a token, a secret or a payload, and never a line that a peer wrote
//! (INV-13; attacks 10 and 36).
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "helpers of tests fail as tests do, and their figures are small"
)]

mod common;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, Mutex};

use common::ws::Dial;
use common::{Bystander, Live};
use roomcast_gateway::config::DEV_SECRET;
use roomcast_protocol::codes::{Close, Refusal};
use serde_json::{Value, json};
use tracing_subscriber::fmt::MakeWriter;

/// The longest line: what peers say is cut off.
const LINE_BYTES_MAX: usize = 2_048;

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

/// Sends a request as it is, and gives the answer as it is.
fn raw(live: &Live, request: &str) -> String {
    let mut stream = TcpStream::connect(live.public()).unwrap();
    stream.set_read_timeout(Some(common::ws::WAIT)).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

const NASTY: &str = "\n2024-01-01 ERROR the node was hacked\r\n\u{1b}[31mred\u{7}";

/// Everything that a client can say goes by, good and bad; gives the answers that were heard.
fn all_that_clients_say(live: &Live, token: &str) -> Vec<String> {
    let mut heard = Vec::new();
    let forged = format!("{}AAAA", &token[..token.len() - 4]);
    let bearer = |token: &str| Dial::default().header("Authorization", &format!("Bearer {token}"));
    for dial in [Dial::with_token(token), bearer(token)] {
        let mut ws =
            dial.header("Referer", &format!("https://page/?token={token}")).open(live.public());
        heard.push(ws.welcome().to_string());
        ws.tell(
            &json!({ "type": "note", "room": "demo-logs", "data": "a payload of nobody's business" }),
        );
        ws.tell(&json!({ "type": NASTY, "id": NASTY }));
        ws.expect_refusal(Refusal::UnknownType); // names the id, as it came
        ws.tell(&json!({ "type": "subscribe", "room": format!("demo{NASTY}") }));
        ws.expect_refusal(Refusal::BadName);
        ws.tell(&json!({ "type": "subscribe", "room": "x".repeat(60_000) }));
        heard.push(ws.expect_refusal(Refusal::BadName).to_string());
        ws.tell(&json!({ "type": token, "token": token }));
        heard.push(ws.expect_refusal(Refusal::UnknownType).to_string());
        ws.text(&format!("{{\"token\":\"{token}\",}}"));
        heard.push(ws.expect_refusal(Refusal::BadJson).to_string());
        ws.tell(&json!({ "type": "refresh", "data": { "token": token } }));
        heard.push(ws.json().to_string());
        ws.tell(&json!({ "type": "auth", "token": forged }));
        ws.expect_close(Close::Unauthorized);
    }
    for dial in [Dial::with_token(&forged), bearer(&forged)] {
        dial.open(live.public()).expect_close(Close::Unauthorized);
    }
    let elsewhere = Dial::with_token(token).path(&format!("/nowhere?token={token}"));
    heard.push(elsewhere.send(live.public()).body());
    let page = Dial::with_token(token).header("Origin", &format!("https://evil/{token}"));
    heard.push(page.send(live.public()).body());
    heard.push(Dial::with_token(token).subprotocol("graphql-ws").send(live.public()).body());
    heard.push(Dial::with_token(token).without("Sec-WebSocket-Key").send(live.public()).body());
    heard.push(raw(live, &format!("GET /ws?token={token} HTTP/1.1\nHost: a\r\n\r\n")));
    heard.push(raw(live, &format!("GET /ws?token={token} HTTP/9.9\r\n\r\n")));
    heard.push(raw(live, &format!("{token} /ws HTTP/1.1\r\nHost: a\r\n\r\n")));
    let named = "/api/v1/users/a%0Ab%1b%5B31m/disconnect";
    heard.push(live.request("POST", named, "").1);
    heard.push(live.request("POST", "/api/v1/users/nobody/disconnect", "").1);
    heard.push(live.request("POST", "/api/v1/publish", &format!("{{\"token\":\"{token}\",}}")).1);
    heard.push(live.request("GET", &format!("/api/v1/nowhere?token={token}"), "").1);
    heard
}

#[test]
fn no_log_line_metric_or_error_holds_a_token_or_a_line_of_a_peer() {
    let lines = Lines::default();
    let logs = tracing_subscriber::fmt().json().with_max_level(tracing::Level::TRACE);
    logs.with_writer(lines.clone()).init();
    let live = Live::start(&[]);
    let mut bystander = Bystander::join(&live);
    let token = live.token_of(&json!({ "sub": "ann", "permissions": ["the-mark-of-ann"] }));
    let mut heard = all_that_clients_say(&live, &token);
    bystander.lives();
    heard.push(live.get("/metrics").1);
    live.stop();
    let logged = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
    assert!(logged.lines().count() >= 2, "nothing was logged: {logged}");
    let (signed, signature) = token.rsplit_once('.').unwrap();
    let claims = signed.rsplit_once('.').unwrap().1;
    let secrets = [signature, claims, DEV_SECRET, "nobody's business", "was hacked"];
    for (what, text) in heard.iter().map(|text| ("said", text)).chain([("logged", &logged)]) {
        for secret in secrets {
            assert!(!text.contains(secret), "{secret} was {what}: {text}");
        }
    }
    for line in logged.lines() {
        let line_of_json: Value = serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"));
        assert!(line_of_json["level"].is_string(), "{line}");
        assert!(line.len() <= LINE_BYTES_MAX, "{} bytes: {line}", line.len());
        assert!(!line.contains('\u{1b}') && !line.contains('\u{7}'), "{line}");
    }
}
