//! Orders of back-ends to all nodes: what they are asked with, and the answer, which names each node that has carried the
//! order out, and each that has not said so in time.

use std::time::Duration;

use bytes::Bytes;
use hyper::body::Body;
use hyper::{Request, StatusCode};
use roomcast_protocol::codes::{Refusal, Refused};
use roomcast_protocol::ids::SessionId;
use roomcast_protocol::room::RoomName;
use roomcast_router::hub::{Ordered, REVOKED_MS};
use roomcast_router::orders::{Order, Revocation, Tokens, Whom, session_of};
use serde::{Deserialize, Serialize};

use super::problem::Problem;
use super::route::{TIMEOUT_DEFAULT_MS, timeout_ms};
use super::{Answer, Api, answer, body};
use crate::backend::OUTCOME_WAIT;

/// A token's longest `jti` that can be revoked. Units: bytes.
const JTI_BYTES_MAX: usize = 255;

const ORDERED_PERHAPS: &str =
    "It is not known whether all nodes will carry this out: send it again";

/// How far ahead of this node's clock `before` may be. Units: milliseconds.
const AHEAD_MAX_MS: u64 = 60_000;

/// One node that has carried an order out.
#[derive(Serialize)]
struct Carried {
    node: String,
    sessions: u64,
}

/// The answer to an order, behind what was done.
#[derive(Serialize)]
pub(super) struct Told {
    /// How safe the order is on its way to the others.
    level: &'static str,
    nodes: Vec<Carried>,
    /// Nodes that have not said so in time; they obey before they deliver.
    unanswered: Vec<String>,
}

impl Told {
    pub(super) fn new(ordered: &Ordered) -> Self {
        let carried = ordered.nodes.iter();
        let carried =
            carried.map(|(node, it)| Carried { node: node.to_string(), sessions: it.sessions });
        Self {
            level: ordered.accepted.level.name(),
            nodes: carried.collect(),
            unanswered: ordered.unanswered.iter().map(ToString::to_string).collect(),
        }
    }
}

#[derive(Serialize)]
struct Disconnected {
    /// Sessions that ended, on all nodes that have said so.
    disconnected: u64,
    #[serde(flatten)]
    told: Told,
}

#[derive(Serialize)]
struct Unsubscribed {
    /// Sessions that were taken out.
    unsubscribed: u64,
    #[serde(flatten)]
    told: Told,
}

#[derive(Serialize)]
struct Subscribed {
    /// Sessions that are in the room, or will be once it is live.
    subscribed: u64,
    /// Sessions that may not join it.
    refused: u64,
    /// Some of these. Bounds: 100 of each node.
    refused_sessions: Vec<String>,
    #[serde(flatten)]
    told: Told,
}

/// The body of a revocation of a user's tokens.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RevokeUser {
    /// Tokens issued before; absent: before now. Units: seconds since the Unix epoch.
    before: Option<u64>,
}

/// The body of the revocation of one token.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RevokeToken {
    jti: Box<str>,
}

/// Whose sessions.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Named {
    user: Option<Box<str>>,
    session: Option<Box<str>>,
}

impl Named {
    fn whom(self) -> Result<Whom, Refused> {
        match (self.user, self.session) {
            (Some(user), None) if is_name(&user) => Ok(Whom::User(user)),
            (None, Some(id)) => session(&id).map(Whom::Session),
            (Some(_) | None, _) => Err(wrong("The body names one `user` or one `session`")),
        }
    }
}

pub(super) fn wrong(text: &'static str) -> Refused {
    Refused::because(Refusal::Schema, text.into())
}

/// Whether that can be a user's name within the cluster: orders are written with spaces between their words.
pub(super) fn is_name(user: &str) -> bool {
    RoomName::parse(user).is_ok()
}

/// A session's name, as `welcome` and listings give it.
pub(super) fn session(text: &str) -> Result<SessionId, Refused> {
    session_of(text).ok_or_else(|| wrong("A session's name is 32 hexadecimal digits"))
}

pub(super) fn parsed<'a, T: Deserialize<'a>>(
    body: &'a [u8],
    text: &'static str,
) -> Result<T, Refused> {
    serde_json::from_slice(body).map_err(|_| wrong(text))
}

pub(super) fn sessions(ordered: &Ordered) -> u64 {
    ordered.nodes.iter().map(|(_, outcome)| outcome.sessions).sum()
}

/// Reads `?timeout=`: how long nodes have. Units: milliseconds.
///
/// # Errors
/// 102 says what it takes.
pub(super) fn timeout_of(query: &str) -> Result<u64, Refused> {
    let mut found_ms = TIMEOUT_DEFAULT_MS;
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let Some(("timeout", value)) = pair.split_once('=') else {
            return Err(wrong("The parameter is `timeout`"));
        };
        found_ms = timeout_ms(value)?;
    }
    Ok(found_ms)
}

impl Api {
    /// Ends sessions on all nodes.
    pub(super) async fn disconnect<B>(&self, name: &str, whom: Whom, request: Request<B>) -> Answer
    where
        B: Body<Data = Bytes>,
    {
        let timeout_ms = timeout_of(request.uri().query().unwrap_or_default())?;
        if matches!(&whom, Whom::User(user) if !is_name(user)) {
            return Err(wrong("This can be no user's name").into());
        }
        body::none(request, self.parts.config.message_bytes_max).await?;
        let ordered = self.ordered(name, "disconnect", Order::End(whom), timeout_ms).await?;
        let disconnected = sessions(&ordered);
        Ok(answer::json(StatusCode::OK, &Disconnected { disconnected, told: Told::new(&ordered) }))
    }

    /// Revokes the tokens of a user that were issued before a time.
    pub(super) async fn revoke_user<B>(
        &self,
        name: &str,
        user: String,
        request: Request<B>,
    ) -> Answer
    where
        B: Body<Data = Bytes>,
    {
        let timeout_ms = timeout_of(request.uri().query().unwrap_or_default())?;
        if !is_name(&user) {
            return Err(wrong("This can be no user's name").into());
        }
        let text = "The body is nothing, or `before` in whole seconds since 1970";
        let asked = if request.body().is_end_stream() {
            RevokeUser::default()
        } else {
            parsed(&body::json(request, self.parts.config.message_bytes_max).await?, text)?
        };
        let now_ms = self.parts.clock.now().unix_ms;
        let before_unix_ms = asked.before.map_or(now_ms, |before| before.saturating_mul(1_000));
        if before_unix_ms > now_ms.saturating_add(AHEAD_MAX_MS) {
            return Err(wrong("`before` is more than 60 s in the future").into());
        }
        let tokens = Tokens::Of { user: user.into(), before_unix_ms };
        self.revoke(name, tokens, timeout_ms).await
    }

    /// Revokes one token.
    pub(super) async fn revoke_token<B>(&self, name: &str, request: Request<B>) -> Answer
    where
        B: Body<Data = Bytes>,
    {
        let timeout_ms = timeout_of(request.uri().query().unwrap_or_default())?;
        let body = body::json(request, self.parts.config.message_bytes_max).await?;
        let text = "The body is `jti`: the token's, of 1 to 255 bytes";
        let RevokeToken { jti } = parsed(&body, text)?;
        if !(1..=JTI_BYTES_MAX).contains(&jti.len()) {
            return Err(wrong(text).into());
        }
        self.revoke(name, Tokens::Named(jti), timeout_ms).await
    }

    async fn revoke(&self, name: &str, tokens: Tokens, timeout_ms: u64) -> Answer {
        let until_unix_ms = self.parts.clock.now().unix_ms.saturating_add(REVOKED_MS);
        let order = Order::Revoke(Revocation { tokens, until_unix_ms });
        let ordered = self.ordered(name, "revoke", order, timeout_ms).await?;
        let disconnected = sessions(&ordered);
        Ok(answer::json(StatusCode::OK, &Disconnected { disconnected, told: Told::new(&ordered) }))
    }

    /// Takes sessions out of a room.
    pub(super) async fn unsubscribe<B>(&self, name: &str, room: &str, request: Request<B>) -> Answer
    where
        B: Body<Data = Bytes>,
    {
        let timeout_ms = timeout_of(request.uri().query().unwrap_or_default())?;
        let room = RoomName::parse(room).map_err(Refused::from)?;
        let order = Order::Leave(room, self.named(request).await?);
        let ordered = self.ordered(name, "unsubscribe", order, timeout_ms).await?;
        let unsubscribed = sessions(&ordered);
        Ok(answer::json(StatusCode::OK, &Unsubscribed { unsubscribed, told: Told::new(&ordered) }))
    }

    /// Puts sessions into a room, as far as their own rights let them.
    pub(super) async fn subscribe<B>(&self, name: &str, room: &str, request: Request<B>) -> Answer
    where
        B: Body<Data = Bytes>,
    {
        let timeout_ms = timeout_of(request.uri().query().unwrap_or_default())?;
        let room = RoomName::parse(room).map_err(Refused::from)?;
        let order = Order::Enter(room, self.named(request).await?);
        let ordered = self.ordered(name, "subscribe", order, timeout_ms).await?;
        let outcomes = || ordered.nodes.iter().map(|(_, outcome)| outcome);
        let subscribed = Subscribed {
            subscribed: sessions(&ordered),
            refused: outcomes().map(|it| it.refused).sum(),
            refused_sessions: outcomes()
                .flat_map(|it| &it.named)
                .map(ToString::to_string)
                .collect(),
            told: Told::new(&ordered),
        };
        Ok(answer::json(StatusCode::OK, &subscribed))
    }

    async fn named<B>(&self, request: Request<B>) -> Result<Whom, Problem>
    where
        B: Body<Data = Bytes>,
    {
        let body = body::json(request, self.parts.config.message_bytes_max).await?;
        let named: Named = parsed(&body, "The body names one `user` or one `session`")?;
        Ok(named.whom()?)
    }

    /// Gives an order, and waits until all nodes have carried it out or their time is over.
    async fn ordered(
        &self,
        name: &str,
        what: &'static str,
        order: Order,
        timeout_ms: u64,
    ) -> Result<Ordered, Problem> {
        let ordered = self.parts.core.order(order, timeout_ms);
        self.obeyed(name, what, timeout_ms, ordered).await
    }

    /// Waits until all nodes have carried something out or their time is over.
    pub(super) async fn obeyed(
        &self,
        name: &str,
        what: &'static str,
        timeout_ms: u64,
        ordered: impl Future<Output = Option<Result<Ordered, Refused>>>,
    ) -> Result<Ordered, Problem> {
        let wait = OUTCOME_WAIT + Duration::from_millis(timeout_ms);
        let ordered = tokio::time::timeout(wait, ordered).await.ok().flatten();
        let unknown = || Problem::unknown_outcome(ORDERED_PERHAPS);
        match ordered.ok_or_else(unknown)? {
            Ok(ordered) => {
                let (done, missing) = (sessions(&ordered), ordered.unanswered.len());
                tracing::info!(key = name, order = what, sessions = done, missing, "an order");
                Ok(ordered)
            }
            Err(refused) if refused.unknown => Err(unknown()),
            Err(refused) => Err(refused.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_for_confirmations_has_a_unit_and_bounds() {
        assert_eq!(timeout_of(""), Ok(5_000));
        for (value, ms) in [("100ms", 100), ("30s", 30_000), ("2s", 2_000)] {
            assert_eq!(timeout_of(&format!("timeout={value}")), Ok(ms), "{value}");
        }
        for wrong in
            ["timeout=99ms", "timeout=30001ms", "timeout=5", "timeout=", "wait=5s", "timeout"]
        {
            assert_eq!(timeout_of(wrong).unwrap_err().refusal, Refusal::Schema, "{wrong}");
        }
    }
}
