//! Orders of back-ends to all nodes: what they are asked with, and the answer, which names each node that has carried the
//! order out, and each that has not said so in time.

use std::time::Duration;

use bytes::Bytes;
use hyper::body::Body;
use hyper::{Request, StatusCode};
use roomcast_protocol::codes::{Refusal, Refused};
use roomcast_router::hub::Ordered;
use roomcast_router::orders::{Order, Whom};
use serde::Serialize;

use super::problem::Problem;
use super::{Answer, Api, OUTCOME_WAIT, answer, body};
use crate::config::millis;

/// How long nodes have to confirm an order. Units: milliseconds.
const TIMEOUT_MIN_MS: u64 = 100;
const TIMEOUT_MAX_MS: u64 = 30_000;
const TIMEOUT_DEFAULT_MS: u64 = 5_000;

const ORDERED_PERHAPS: &str =
    "It is not known whether all nodes will carry this out: send it again";

/// One node that has carried an order out.
#[derive(Serialize)]
struct Carried {
    node: String,
    sessions: u64,
}

/// The answer to an order.
#[derive(Serialize)]
struct Disconnected {
    /// Sessions that ended, on all nodes that have said so.
    disconnected: u64,
    /// How safe the order is on its way to the others.
    level: &'static str,
    nodes: Vec<Carried>,
    /// Nodes that have not said so in time; they obey before they deliver.
    unanswered: Vec<String>,
}

fn sessions(ordered: &Ordered) -> u64 {
    ordered.nodes.iter().map(|(_, outcome)| outcome.sessions).sum()
}

fn nodes(ordered: &Ordered) -> Vec<Carried> {
    let carried = ordered.nodes.iter();
    carried.map(|(node, it)| Carried { node: node.to_string(), sessions: it.sessions }).collect()
}

fn unanswered(ordered: &Ordered) -> Vec<String> {
    ordered.unanswered.iter().map(ToString::to_string).collect()
}

/// Reads `?timeout=`: how long nodes have. Units: milliseconds.
///
/// # Errors
/// 102 says what it takes.
pub(super) fn timeout_of(query: &str) -> Result<u64, Refused> {
    let wrong = |text: &'static str| Err(Refused::because(Refusal::Schema, text.into()));
    let mut timeout_ms = TIMEOUT_DEFAULT_MS;
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let Some(("timeout", value)) = pair.split_once('=') else {
            return wrong("The parameter is `timeout`");
        };
        match millis(value) {
            Some(ms) if (TIMEOUT_MIN_MS..=TIMEOUT_MAX_MS).contains(&ms) => timeout_ms = ms,
            Some(_) | None => {
                return wrong("`timeout` is a time from 100ms to 30s with its unit, as 5s");
            }
        }
    }
    Ok(timeout_ms)
}

impl Api {
    /// Ends a user's sessions on all nodes.
    pub(super) async fn disconnect<B>(&self, name: &str, whom: Whom, request: Request<B>) -> Answer
    where
        B: Body<Data = Bytes>,
    {
        let timeout_ms = timeout_of(request.uri().query().unwrap_or_default())?;
        body::none(request, self.parts.config.message_bytes_max).await?;
        let ordered = self.ordered(Order::End(whom), timeout_ms).await?;
        let answered = Disconnected {
            disconnected: sessions(&ordered),
            level: ordered.accepted.level.name(),
            nodes: nodes(&ordered),
            unanswered: unanswered(&ordered),
        };
        let (ended, missing) = (answered.disconnected, ordered.unanswered.len());
        tracing::info!(key = name, sessions = ended, missing, "a back-end ended sessions");
        Ok(answer::json(StatusCode::OK, &answered))
    }

    /// Gives an order, and waits until all nodes have carried it out or their time is over.
    async fn ordered(&self, order: Order, timeout_ms: u64) -> Result<Ordered, Problem> {
        let ordered = self.parts.core.order(order, timeout_ms);
        let wait = OUTCOME_WAIT + Duration::from_millis(timeout_ms);
        let ordered = tokio::time::timeout(wait, ordered).await.ok().flatten();
        let unknown = || Problem::unknown_outcome(ORDERED_PERHAPS);
        match ordered.ok_or_else(unknown)? {
            Ok(ordered) => Ok(ordered),
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
