//! `?wait=stored|delivered|acked&quorum=N&timeout=` of a publication: the answer comes once so many users have it, or when
//! the time is over. What is known comes from the publication's level and the room's receipts (G17), never from what was
//! written to sockets.

use std::time::Duration;

use roomcast_protocol::codes::{Refusal, Refused};
use roomcast_protocol::envelope::{Accepted, Level};
use roomcast_protocol::guard::Guard;
use roomcast_protocol::position::Position;
use roomcast_protocol::publication::Publication;
use roomcast_protocol::receipts::{MARK_USERS_MAX, RECEIPTS_PAGE_MAX};
use roomcast_protocol::room::RoomName;
use roomcast_router::messages::ReceiptsAsk;
use serde::Serialize;
use tokio::time::Instant;

use super::{Api, route};

/// When the receipts are looked at again, at first and at last: marks come within some 10 ms where clients ack, and after
/// the ping a second later where they do not. Units: milliseconds.
const LOOK_MIN_MS: u64 = 25;
const LOOK_MAX_MS: u64 = 400;

/// Users that the answer names.
const USERS_MAX: usize = 100;

/// What is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum For {
    Stored,
    Delivered,
    Acked,
}

impl For {
    const ALL: [Self; 3] = [Self::Stored, Self::Delivered, Self::Acked];

    const fn name(self) -> &'static str {
        match self {
            Self::Stored => "stored",
            Self::Delivered => "delivered",
            Self::Acked => "acked",
        }
    }
}

/// What a back-end wants to know with the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wait {
    what: For,
    /// Users that must have it.
    quorum: usize,
    timeout_ms: u64,
}

/// What came of it.
#[derive(Debug, Serialize)]
pub(super) struct Waited {
    waited: &'static str,
    met: bool,
    /// Users who have it.
    #[serde(skip_serializing_if = "Option::is_none")]
    count: Option<usize>,
    /// The first of them, by the bytes of their names. Bounds: [`USERS_MAX`].
    #[serde(skip_serializing_if = "Option::is_none")]
    users: Option<Vec<Box<str>>>,
}

impl Wait {
    /// Reads the query of a publication.
    ///
    /// # Errors
    /// 102 names the parameter that is wrong, and what it takes.
    pub(super) fn parse(query: &str) -> Result<Option<Self>, Refused> {
        let wrong = |text: &str| Err(Refused::because(Refusal::Schema, text.to_owned().into()));
        let (mut what, mut quorum, mut timeout_ms) = (None, None, None);
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            match pair.split_once('=') {
                Some(("wait", value)) => {
                    what = For::ALL.into_iter().find(|what| what.name() == value);
                    if what.is_none() {
                        return wrong("`wait` is `stored`, `delivered` or `acked`");
                    }
                }
                Some(("quorum", value)) => match value.parse() {
                    Ok(users) if (1..=MARK_USERS_MAX).contains(&users) => quorum = Some(users),
                    Ok(_) | Err(_) => {
                        return wrong(&format!("`quorum` is a number from 1 to {MARK_USERS_MAX}"));
                    }
                },
                Some(("timeout", value)) => timeout_ms = Some(route::timeout_ms(value)?),
                Some(_) | None => {
                    return wrong("The parameters are `wait`, `quorum` and `timeout`");
                }
            }
        }
        let Some(what) = what else {
            let others = quorum.is_some() || timeout_ms.is_some();
            let text = "`quorum` and `timeout` need `wait`, what to wait for";
            return if others { wrong(text) } else { Ok(None) };
        };
        if what == For::Stored && (quorum.is_some() || timeout_ms.is_some()) {
            return wrong("`wait=stored` waits for no users: leave `quorum` and `timeout` out");
        }
        let quorum = usize::try_from(quorum.unwrap_or(1)).unwrap_or(usize::MAX);
        Ok(Some(Self { what, quorum, timeout_ms: timeout_ms.unwrap_or(route::TIMEOUT_DEFAULT_MS) }))
    }
}

impl Api {
    /// Refuses to wait for what nobody will ever know of this publication.
    pub(super) fn can_await(&self, wait: Wait, publication: &Publication) -> Result<(), Refused> {
        let guard = &self.parts.guard;
        let Some(policy) = guard.rule(&publication.room).map(|rule| guard.policy(rule)) else {
            return Err(Refusal::PermissionDenied.into());
        };
        let missing = match wait.what {
            For::Stored if policy.history.is_none() => {
                "This room stores nothing: its rule needs `history`"
            }
            For::Delivered | For::Acked if !policy.receipts => {
                "Who has got a publication of this room is not known: its rule needs `receipts = true`"
            }
            For::Acked if !publication.requires_ack && !policy.requires_ack => {
                "Nobody acks this publication: it needs `metadata.requires_ack`, or its room's rule `requires_ack = true`"
            }
            For::Stored | For::Delivered | For::Acked => return Ok(()),
        };
        Err(Refused::because(Refusal::Schema, missing.into()))
    }

    /// Waits until enough users have what was accepted.
    pub(super) async fn users_have(
        &self,
        wait: Wait,
        room: &RoomName,
        accepted: Accepted,
    ) -> Waited {
        let waited = wait.what.name();
        if wait.what == For::Stored {
            let met = match accepted.level {
                Level::Stored | Level::Replicated => true,
                Level::Accepted | Level::Isolated => false,
            };
            return Waited { waited, met, count: None, users: None };
        }
        let deadline = Instant::now() + Duration::from_millis(wait.timeout_ms);
        let (mut found, mut look_ms) = (Vec::new(), LOOK_MIN_MS);
        while let Some(at) = accepted.position {
            let asked = tokio::time::timeout_at(deadline, self.who_has(room, at)).await;
            // Who is not told now keeps what was known before: marks only grow.
            if let Ok(Some(users)) = asked {
                found = users;
            }
            let next = Instant::now() + Duration::from_millis(look_ms);
            if found.len() >= wait.quorum || next >= deadline {
                break;
            }
            tokio::time::sleep_until(next).await;
            look_ms = (look_ms * 2).min(LOOK_MAX_MS);
        }
        let (count, met) = (found.len(), found.len() >= wait.quorum);
        found.truncate(USERS_MAX);
        Waited { waited, met, count: Some(count), users: Some(found) }
    }

    /// The users who have got, or acked where they must, the publication at this position. One that is yet to be acked
    /// holds its user's mark back.
    async fn who_has(&self, room: &RoomName, at: Position) -> Option<Vec<Box<str>>> {
        let (mut users, mut after) = (Vec::new(), None);
        loop {
            let (of, count_max) = (Some(at.offset), RECEIPTS_PAGE_MAX);
            let ask = ReceiptsAsk { room: room.clone(), of, after, count_max };
            let page = self.parts.core.receipts(ask).await.ok()?;
            if page.head.epoch != at.epoch {
                return None;
            }
            let has = page.receipts.into_iter().filter(|receipt| receipt.delivered.is_some());
            users.extend(has.map(|receipt| receipt.user));
            // At most as many pages as users have receipts in one room.
            match page.next {
                Some(next) => after = Some(next),
                None => return Some(users),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wait(what: For, quorum: usize, timeout_ms: u64) -> Wait {
        Wait { what, quorum, timeout_ms }
    }

    #[test]
    fn the_highest_quorum_and_timeout_are_taken_and_one_more_refused() {
        assert_eq!(Wait::parse(""), Ok(None));
        assert_eq!(Wait::parse("wait=stored"), Ok(Some(wait(For::Stored, 1, 5_000))));
        assert_eq!(Wait::parse("wait=delivered"), Ok(Some(wait(For::Delivered, 1, 5_000))));
        let most = Wait::parse("quorum=10000&timeout=30s&wait=acked");
        assert_eq!(most, Ok(Some(wait(For::Acked, 10_000, 30_000))));
        let least = Wait::parse("wait=acked&quorum=1&timeout=100ms");
        assert_eq!(least, Ok(Some(wait(For::Acked, 1, 100))));
        for wrong in [
            "wait=read",
            "wait",
            "quorum=2",
            "timeout=1s",
            "wait=stored&quorum=1",
            "wait=acked&quorum=0",
            "wait=acked&quorum=10001",
            "wait=acked&timeout=99ms",
            "wait=acked&timeout=30001ms",
            "wait=acked&timeout=5",
            "wait=acked&level=1",
        ] {
            assert_eq!(Wait::parse(wrong).unwrap_err().refusal, Refusal::Schema, "{wrong}");
        }
    }
}
