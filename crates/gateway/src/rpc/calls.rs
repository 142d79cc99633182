//! A call that is carried out: its publications on their way to the core, in order, and what became of them. All are
//! tried; the first that fails is what the caller is told.

use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;

use roomcast_dialects::goridge::{CallTicket, Message};
use roomcast_dialects::roadrunner::content;
use roomcast_protocol::codes::{Refusal, Refused};
use roomcast_protocol::command::{Publish, ReplyTo};
use roomcast_protocol::content::Content;
use roomcast_protocol::envelope::Accepted;
use roomcast_protocol::limits::LimitName;
use tokio::sync::oneshot::error::TryRecvError;
use tokio::time::{Instant, timeout_at};

use super::Rpc;
use super::gate::{Gate, Permit};
use crate::backend::{self, OUTCOME_WAIT};
use crate::core::Outcome;

/// The type of what comes by RPC, which knows none.
const TYPE: &str = "message";

/// What a publication weighs beside its payload. Units: bytes.
const PUBLICATION_BYTES: usize = 512;

/// Characters of a room's name in an error's text.
const SHOWN_MAX: usize = 64;

const PUBLISHED_PERHAPS: &str =
    "It is not known whether this was published: sent again, it may be published twice";

/// A call that is carried out.
pub(super) struct Work {
    /// Where its answer belongs; `None`: it was answered at once.
    ticket: Option<CallTicket>,
    /// Rooms, and what is for them.
    todo: VecDeque<(Box<str>, Content)>,
    under_way: VecDeque<UnderWay>,
    failed: Option<(Refusal, String)>,
}

struct UnderWay {
    room: Box<str>,
    outcome: Outcome,
    until: Instant,
    /// Given back when the outcome is known.
    _permits: [Permit; 2],
}

impl Work {
    /// Begins a call. What names no room, or is too large, has failed already.
    pub(super) fn new(rpc: &Rpc, ticket: Option<CallTicket>, messages: Vec<Message>) -> Self {
        let mut work =
            Self { ticket, todo: VecDeque::new(), under_way: VecDeque::new(), failed: None };
        for Message { broker, topics, payload } in messages {
            let max = rpc.message_bytes_max;
            let content = if payload.len() > max {
                let limit = LimitName::MessageBytes;
                Err(Refused::limit(Refusal::TooLarge, limit, max as u64, None))
            } else {
                Ok(content(payload, rpc.decode))
            };
            for topic in topics {
                let room = rpc.parts.brokers.room_of_call(&broker, &topic).map(Box::from);
                let room = room.map_err(|it| Refused::because(Refusal::BadName, it.text().into()));
                match (&content, room) {
                    (Ok(content), Ok(room)) => work.todo.push_back((room, content.clone())),
                    (Err(refused), _) => work.fail(rpc, &topic, refused),
                    (_, Err(refused)) => work.fail(rpc, &topic, &refused),
                }
            }
        }
        work
    }

    /// Has its publications on their way, as far as there is place; says whether all are.
    pub(super) async fn send(&mut self, rpc: &Rpc, gates: [&Rc<Gate>; 2]) -> bool {
        while let Some((_, content)) = self.todo.front() {
            let bytes = content.len() + PUBLICATION_BYTES;
            let [own, all] = gates;
            let Some(permits) = own.take(bytes).and_then(|own| Some([own, all.take(bytes)?]))
            else {
                return false;
            };
            let Some((room, content)) = self.todo.pop_front() else { return true };
            let now = rpc.parts.clock.now();
            let publish = publish(room.clone(), content);
            match backend::publication(&*rpc.parts.guard, &rpc.who, publish, now) {
                Ok(publication) => {
                    let outcome = rpc.parts.core.begin(Arc::new(publication), false).await;
                    let until = Instant::now() + OUTCOME_WAIT;
                    self.under_way.push_back(UnderWay { room, outcome, until, _permits: permits });
                }
                Err(refused) => self.fail(rpc, &room, &refused),
            }
        }
        true
    }

    /// Whether some of its publications found no place.
    pub(super) fn waits_for_place(&self) -> bool {
        !self.todo.is_empty()
    }

    /// Waits for the next of its outcomes, if one is under way. Nothing is lost where it is not waited for to the end.
    pub(super) async fn outcome(&mut self, rpc: &Rpc) {
        let Some(first) = self.under_way.front_mut() else { return };
        let outcome = timeout_at(first.until, &mut first.outcome).await;
        self.take_in(rpc, outcome.unwrap_or(Ok(Err(unknown()))).unwrap_or_else(|_| Err(unknown())));
    }

    /// Takes in the outcomes that are there; says whether it is over.
    pub(super) fn is_over(&mut self, rpc: &Rpc) -> bool {
        while let Some(first) = self.under_way.front_mut() {
            match first.outcome.try_recv() {
                Ok(outcome) => self.take_in(rpc, outcome),
                Err(TryRecvError::Empty) => return false,
                Err(TryRecvError::Closed) => self.take_in(rpc, Err(unknown())),
            }
        }
        self.todo.is_empty()
    }

    /// Whether an outcome is waited for.
    pub(super) fn is_under_way(&self) -> bool {
        !self.under_way.is_empty()
    }

    /// Where its answer belongs, if one is owed, and why it failed, if it did.
    pub(super) fn ended(self) -> (Option<CallTicket>, Option<(Refusal, String)>) {
        (self.ticket, self.failed)
    }

    fn take_in(&mut self, rpc: &Rpc, outcome: Result<Accepted, Refused>) {
        let Some(UnderWay { room, .. }) = self.under_way.pop_front() else { return };
        match outcome {
            Ok(_) => rpc.parts.counters.published(),
            Err(refused) if refused.unknown => self.fail(rpc, &room, &unknown()),
            Err(refused) => self.fail(rpc, &room, &refused),
        }
    }

    fn fail(&mut self, rpc: &Rpc, topic: &str, refused: &Refused) {
        rpc.parts.counters.refused(refused.refusal);
        if self.failed.is_none() {
            let shown: String = topic.chars().take(SHOWN_MAX).collect();
            self.failed = Some((refused.refusal, format!("{shown:?}: {}", refused.message)));
        }
    }
}

/// What the caller is told where nobody knows.
fn unknown() -> Refused {
    let refused = Refused::because(Refusal::Unavailable, PUBLISHED_PERHAPS.into());
    Refused { unknown: true, ..refused }
}

fn publish(room: Box<str>, content: Content) -> Publish {
    Publish {
        reply: ReplyTo::default(),
        room,
        kind: TYPE.into(),
        id: None,
        timestamp: None,
        sender: None,
        content,
        agent_id: None,
        priority: None,
        ttl_s: None,
        requires: Vec::new(),
        correlation_id: None,
        wants_ack: true,
        members_ack: false,
    }
}
