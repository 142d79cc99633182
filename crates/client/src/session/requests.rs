//! Requests under way that are neither joins nor publications: leaving, rosters, receipts, new tokens. Each is asked again over the
//! next connection, until it is answered or its time is over. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use crate::driver::LinkId;
use crate::error::{Closed, Error, Refused};
use crate::session::effect::{Out, Reply, Waiter};
use crate::session::outbox::millis;
use crate::session::rooms::{Ids, Moment};
use crate::wire::Outgoing;

/// Requests under way.
const REQUESTS_MAX: usize = 256;

/// How long a refusal that may be tried again without saying when is heeded. Units: milliseconds.
const RETRY_MS: u64 = 1_000;

/// What is asked.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// To hear a room no more.
    Leave(String),
    /// Who is in a room.
    Presence(Value),
    /// To mark a room, or how far its users are.
    Receipt(Value),
    /// To go on with a new token.
    Refresh(String),
}

impl Asked {
    const fn name(&self) -> &'static str {
        match self {
            Self::Leave(_) => "unsubscribe",
            Self::Presence(_) => "presence",
            Self::Receipt(_) => "receipt",
            Self::Refresh(_) => "auth",
        }
    }
}

#[derive(Debug)]
struct Request {
    asked: Asked,
    waiter: Option<Waiter>,
    link: Option<LinkId>,
    /// When it is asked, if it is not under way.
    due_ms: u64,
    until_ms: u64,
}

/// All of them, by id.
#[derive(Debug)]
pub(crate) struct Requests {
    map: BTreeMap<String, Request>,
    timeout: Duration,
}

impl Requests {
    pub(crate) const fn new(timeout: Duration) -> Self {
        Self { map: BTreeMap::new(), timeout }
    }

    pub(crate) fn ask(
        &mut self,
        asked: Asked,
        waiter: Option<Waiter>,
        moment: Moment,
        ids: &mut Ids,
        out: &mut Out,
    ) {
        if self.map.len() >= REQUESTS_MAX {
            let full = Error::Full { what: "the session's table of requests", max: REQUESTS_MAX };
            if let Some(waiter) = waiter {
                out.answer(waiter, Err(full));
            }
            return;
        }
        let until_ms = moment.now_ms.saturating_add(millis(self.timeout));
        let request = Request { asked, waiter, link: None, due_ms: moment.now_ms, until_ms };
        self.map.insert(ids.next(), request);
        self.send(moment, out);
    }

    /// Asks what is due.
    pub(crate) fn send(&mut self, moment: Moment, out: &mut Out) {
        let Some(link) = moment.link else { return };
        for (id, request) in &mut self.map {
            if request.link.is_some() || request.due_ms > moment.now_ms {
                continue;
            }
            request.link = Some(link);
            let bare = Outgoing { kind: request.asked.name(), id: Some(id), ..Outgoing::default() };
            match &request.asked {
                Asked::Leave(room) => {
                    let data = json!({ "room": room });
                    out.send(link, &Outgoing { data: Some(&data), ..bare });
                }
                Asked::Presence(data) | Asked::Receipt(data) => {
                    out.send(link, &Outgoing { data: Some(data), ..bare });
                }
                Asked::Refresh(token) => out.send(link, &Outgoing { token: Some(token), ..bare }),
            }
        }
    }

    /// A connection is gone.
    pub(crate) fn lost(&mut self, link: LinkId) {
        for request in self.map.values_mut().filter(|request| request.link == Some(link)) {
            request.link = None;
        }
    }

    /// Whether this room is being left.
    pub(crate) fn leaves(&self, room: &str) -> bool {
        self.map.values().any(|it| matches!(&it.asked, Asked::Leave(left) if left == room))
    }

    /// An answer came; `None`: nobody asked.
    pub(crate) fn answered(&mut self, id: &str, reply: Reply, out: &mut Out) -> Option<Asked> {
        let Request { asked, waiter, .. } = self.map.remove(id)?;
        if let Some(waiter) = waiter {
            out.answer(waiter, Ok(reply));
        }
        Some(asked)
    }

    /// The node would not, or not now. `Some`: nobody asked.
    pub(crate) fn refused(
        &mut self,
        id: &str,
        refused: Box<Refused>,
        now_ms: u64,
        out: &mut Out,
    ) -> Option<Box<Refused>> {
        let Some(request) = self.map.get_mut(id) else { return Some(refused) };
        let wait_ms = refused.retry_after.map_or(RETRY_MS, millis);
        let due_ms = now_ms.saturating_add(wait_ms.max(1));
        if refused.retry && due_ms < request.until_ms {
            (request.link, request.due_ms) = (None, due_ms);
            return None;
        }
        if let Some(waiter) = request.waiter {
            out.answer(waiter, Err(Error::Refused(refused)));
        }
        self.map.remove(id);
        None
    }

    /// Asks what is due, and gives up what took too long.
    pub(crate) fn tick(&mut self, moment: Moment, out: &mut Out) {
        let after = self.timeout;
        self.map.retain(|_, request| {
            let lives = request.until_ms > moment.now_ms;
            if !lives && let Some(waiter) = request.waiter {
                out.answer(waiter, Err(Error::Timeout { what: request.asked.name(), after }));
            }
            lives
        });
        self.send(moment, out);
    }

    /// When something is due.
    pub(crate) fn next_wake(&self) -> Option<u64> {
        let wake = |request: &Request| match request.link {
            None if request.due_ms > 0 => request.until_ms.min(request.due_ms.max(1)),
            Some(_) | None => request.until_ms,
        };
        self.map.values().map(wake).min()
    }

    /// The session is over.
    pub(crate) fn end(&mut self, closed: &Closed, out: &mut Out) {
        for request in std::mem::take(&mut self.map).into_values() {
            if let Some(waiter) = request.waiter {
                out.answer(waiter, Err(Error::Closed(closed.clone())));
            }
        }
    }
}
