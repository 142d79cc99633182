//! `roomcast disconnect`, `revoke`, `subscribe`, `unsubscribe`: orders to all nodes of a cluster, each of which says when it
//! has carried them out.

use std::time::Duration;

use clap::Args;
use serde_json::{Map, Value, json};

use super::{ApiArgs, segment};
use crate::failure::Failure;
use crate::{output, units};

/// What all orders have.
#[derive(Args, Debug)]
struct Common {
    #[command(flatten)]
    api: ApiArgs,
    /// How long nodes have to confirm it, 100ms to 30s
    #[arg(long, default_value = "5s", value_parser = units::duration)]
    timeout: Duration,
}

/// Whose sessions.
#[derive(Args, Debug)]
#[group(required = true, multiple = false)]
struct Whom {
    /// The user's name within the cluster: `sub`, or `realm:sub`
    user: Option<String>,
    /// One session alone, by the `session_id` of its `welcome`
    #[arg(long, value_name = "ID")]
    session: Option<String>,
}

/// `roomcast disconnect`.
#[derive(Args, Debug)]
pub(crate) struct Disconnect {
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    whom: Whom,
}

/// `roomcast revoke`.
#[derive(Args, Debug)]
pub(crate) struct Revoke {
    #[command(flatten)]
    common: Common,
    /// The user whose tokens are revoked
    #[arg(required_unless_present = "jti", conflicts_with = "jti")]
    user: Option<String>,
    /// Only tokens issued before this time; by default before now
    #[arg(long, value_name = "UNIX_SECONDS", conflicts_with = "jti")]
    before: Option<u64>,
    /// One token alone, by its claim `jti`
    #[arg(long)]
    jti: Option<String>,
}

/// `roomcast subscribe` and `unsubscribe`.
#[derive(Args, Debug)]
pub(crate) struct Move {
    #[command(flatten)]
    common: Common,
    /// The room
    room: String,
    #[command(flatten)]
    whom: Whom,
}

/// Runs `disconnect`.
pub(crate) fn disconnect(args: &Disconnect) -> Result<(), Failure> {
    order(&args.common, &disconnect_path(&args.whom), &Value::Null)
}

fn disconnect_path(whom: &Whom) -> String {
    let session = whom.session.as_ref().map(|id| format!("/api/v1/sessions/{}", segment(id)));
    let user = || format!("/api/v1/users/{}", segment(whom.user.as_deref().unwrap_or_default()));
    format!("{}/disconnect", session.unwrap_or_else(user))
}

/// Runs `revoke`.
pub(crate) fn revoke(args: &Revoke) -> Result<(), Failure> {
    let (path, body) = revocation(args);
    order(&args.common, &path, &body)
}

fn revocation(args: &Revoke) -> (String, Value) {
    if let Some(jti) = &args.jti {
        return ("/api/v1/revoke".to_owned(), json!({ "jti": jti }));
    }
    let user = segment(args.user.as_deref().unwrap_or_default());
    let body = args.before.map_or(Value::Null, |before| json!({ "before": before }));
    (format!("/api/v1/users/{user}/revoke"), body)
}

/// Runs `subscribe`.
pub(crate) fn subscribe(args: &Move) -> Result<(), Failure> {
    order(&args.common, &move_path(args, "subscribe"), &named(&args.whom))
}

/// Runs `unsubscribe`.
pub(crate) fn unsubscribe(args: &Move) -> Result<(), Failure> {
    order(&args.common, &move_path(args, "unsubscribe"), &named(&args.whom))
}

fn move_path(args: &Move, action: &str) -> String {
    format!("/api/v1/rooms/{}/{action}", segment(&args.room))
}

fn named(whom: &Whom) -> Value {
    let mut named = Map::new();
    named.extend(whom.user.as_ref().map(|user| ("user".to_owned(), json!(user))));
    named.extend(whom.session.as_ref().map(|id| ("session".to_owned(), json!(id))));
    named.into()
}

/// Gives an order and prints what came of it; nodes that have not confirmed it in time are a timeout.
fn order(common: &Common, path: &str, body: &Value) -> Result<(), Failure> {
    let path = format!("{path}?timeout={}ms", common.timeout.as_millis());
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let answer = common.api.connect()?.post(&path, None, &body)?;
    output::json_line(&answer)?;
    let silent = answer.get("unanswered").and_then(Value::as_array).map_or(0, Vec::len);
    if silent == 0 {
        return Ok(());
    }
    let text = format!(
        "{silent} nodes have not confirmed it: it is stored, and they obey it before they deliver anything"
    );
    Err(Failure::Timeout(text))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    enum Cli {
        Disconnect(Disconnect),
        Revoke(Revoke),
        Subscribe(Move),
    }

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(["roomcast"].into_iter().chain(line.split(' ')))
    }

    fn asked(line: &str) -> (String, Value) {
        match parse(line).unwrap() {
            Cli::Disconnect(args) => (disconnect_path(&args.whom), Value::Null),
            Cli::Revoke(args) => revocation(&args),
            Cli::Subscribe(args) => (move_path(&args, "subscribe"), named(&args.whom)),
        }
    }

    #[test]
    fn an_order_names_one_user_or_one_session() {
        let check = |line, path: &str, body| assert_eq!(asked(line), (path.to_owned(), body));
        check("disconnect gs:7", "/api/v1/users/gs%3A7/disconnect", Value::Null);
        check("disconnect --session a1", "/api/v1/sessions/a1/disconnect", Value::Null);
        check("revoke 7", "/api/v1/users/7/revoke", Value::Null);
        check("revoke 7 --before 9", "/api/v1/users/7/revoke", json!({"before": 9}));
        check("revoke --jti t", "/api/v1/revoke", json!({"jti": "t"}));
        check("subscribe a/b 7", "/api/v1/rooms/a%2Fb/subscribe", json!({"user": "7"}));
        let session = json!({"session": "a1"});
        check("subscribe news --session a1", "/api/v1/rooms/news/subscribe", session);
        for line in [
            "disconnect",
            "disconnect 7 --session a",
            "revoke",
            "revoke 7 --jti t",
            "subscribe news",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
    }
}
