//! A back-end that publishes over HTTP, at the nodes' internal ports.

use std::time::Duration;

use roomcast_client::{Position as Told, PublishOptions};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::member::position;
use crate::publisher::{Answer, Yes};

/// How long an answer may take: nodes say after 5 s that they do not know.
const ANSWER_LIMIT: Duration = Duration::from_secs(8);

/// Publishes once, at this address.
pub(crate) async fn publish(
    internal: &str,
    room: &str,
    data: &Value,
    options: &PublishOptions,
) -> Answer {
    // Without one it lives as long as the room keeps it.
    let metadata = match options.ttl_s {
        Some(ttl_s) => json!({"requires": options.requires, "ttl": ttl_s}),
        None => json!({"requires": options.requires}),
    };
    let id = options.id.as_deref().unwrap_or_default();
    let body = json!({"room": room, "type": "probe", "id": id, "data": data, "metadata": metadata});
    match timeout(ANSWER_LIMIT, post(internal, "/api/v1/publish", &body.to_string())).await {
        Ok(Ok(answer)) => read(&answer),
        Ok(Err(cause)) => Answer::Failed(format!("{internal}: {cause}")),
        Err(_) => Answer::Failed(format!("{internal} does not answer")),
    }
}

/// Posts to a node's server API, and answers with the whole of what comes back.
///
/// # Errors
/// The node is not there, or goes meanwhile.
pub(crate) async fn post(internal: &str, path: &str, body: &str) -> std::io::Result<String> {
    ask(internal, ("POST", path), body).await
}

/// The same by another method.
///
/// # Errors
/// As of [`post`].
pub(crate) async fn ask(
    internal: &str,
    (method, path): (&str, &str),
    body: &str,
) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(internal).await?;
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(&[head.as_bytes(), body.as_bytes()].concat()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}

/// Reads a whole HTTP answer. A node may be gone before it ends.
fn read(answer: &str) -> Answer {
    let status = answer.split(' ').nth(1).and_then(|it| it.parse::<u16>().ok());
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    let word = |of: &Value, key| of.get(key).and_then(Value::as_str).map(str::to_owned);
    let text = || body.chars().take(200).collect::<String>();
    match (status, serde_json::from_str::<Value>(body)) {
        (Some(200), Ok(yes)) => Answer::Yes(Yes {
            level: word(&yes, "level").unwrap_or_default(),
            position: word(&yes, "epoch").and_then(|epoch| {
                let offset = yes.get("offset").and_then(Value::as_u64)?;
                position(&Told { epoch, offset })
            }),
            partial: word(&yes, "reach").is_some_and(|reach| reach == "partial"),
        }),
        (Some(503 | 504 | 429), _) => Answer::Failed(text()),
        (Some(status), _) if status >= 400 => Answer::Refused(text()),
        (status, _) => Answer::Failed(format!("half an answer: {status:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read() {
        let read = |status: u16, body: &str| read(&format!("HTTP/1.1 {status} x\r\n\r\n{body}"));
        let epoch = "0".repeat(31) + "7";
        let yes = format!(r#"{{"id":"a","level":"stored","epoch":"{epoch}","offset":17}}"#);
        let Answer::Yes(yes) = read(200, &yes) else { panic!("not a yes") };
        assert_eq!((yes.level.as_str(), yes.position.unwrap().offset), ("stored", 17));
        assert!(matches!(read(503, "{}"), Answer::Failed(_)));
        assert!(matches!(read(504, "{}"), Answer::Failed(_)));
        assert!(matches!(read(409, "{}"), Answer::Refused(_)));
        assert!(matches!(read(200, "{\"id"), Answer::Failed(_)), "cut off");
        assert!(matches!(super::read(""), Answer::Failed(_)));
    }
}
