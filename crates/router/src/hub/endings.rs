//! Sessions that have no connection, when a user's sessions are ordered to end (G13, G22): no lane holds them, so their
//! records end at the broker. The order is answered once that is done as well.

use std::collections::BTreeMap;

use roomcast_protocol::codes::Refused;
use roomcast_protocol::envelope::{Accepted, BrokerCommand};

use super::watch::RelayState;
use super::{Hub, RETRY_MS};
use crate::messages::{HubEffect, QueryId};

/// Orders of this node whose two halves are not both answered, by the question's number. Bounds: the questions of back-ends under way.
#[derive(Debug, Default)]
pub(super) struct Endings(BTreeMap<u64, Ending>);

/// What became of an order so far.
#[derive(Debug, Default)]
struct Ending {
    /// The order is stored.
    accepted: Option<Accepted>,
    /// The records were ended, or could not be.
    ended: Option<bool>,
}

impl Endings {
    /// The order's publication ended. What is to be answered now, if anything; all other publications are.
    fn published(
        &mut self,
        query: u64,
        outcome: Result<Accepted, Refused>,
    ) -> Option<Result<Accepted, Refused>> {
        let Some(ending) = self.0.get_mut(&query) else { return Some(outcome) };
        match outcome {
            Ok(accepted) => ending.accepted = Some(accepted),
            Err(refused) => {
                self.0.remove(&query);
                return Some(Err(refused));
            }
        }
        self.settle(query)
    }

    /// The records were ended, or could not be.
    fn ended(&mut self, query: u64, done: bool) -> Option<Result<Accepted, Refused>> {
        self.0.get_mut(&query)?.ended = Some(done);
        self.settle(query)
    }

    fn settle(&mut self, query: u64) -> Option<Result<Accepted, Refused>> {
        let Ending { accepted: Some(accepted), ended: Some(done) } = self.0.get(&query)? else {
            return None;
        };
        let (accepted, done) = (*accepted, *done);
        self.0.remove(&query);
        let text = "The user's connections have ended, but sessions without one could not be: order it again";
        Some(if done { Ok(accepted) } else { Err(Refused::unavailable(text.into(), RETRY_MS)) })
    }

    /// Nothing is under way.
    #[cfg(test)]
    pub(super) fn are_idle(&self) -> bool {
        self.0.is_empty()
    }
}

impl Hub {
    /// Ends the records of a user's sessions along with an order; an isolated node cannot, and says so anyway.
    pub(super) fn end_records(&mut self, query: QueryId, user: &str, out: &mut Vec<HubEffect>) {
        if self.state() == RelayState::Isolated {
            return;
        }
        let request = query.0;
        self.endings.0.insert(request, Ending::default());
        out.push(HubEffect::Broker(BrokerCommand::EndSessions { request, user: user.into() }));
    }

    /// The broker has ended the records of a user's sessions, or did not answer.
    pub(super) fn records_ended(&mut self, request: u64, done: bool, out: &mut Vec<HubEffect>) {
        let answer = self.endings.ended(request, done);
        out.extend(answer.map(|outcome| HubEffect::Answer(QueryId(request), outcome)));
    }

    /// Answers a back-end's question; an order's once its other half has ended, too.
    pub(super) fn answer_query(
        &mut self,
        query: QueryId,
        outcome: Result<Accepted, Refused>,
        out: &mut Vec<HubEffect>,
    ) {
        let answer = self.endings.published(query.0, outcome);
        out.extend(answer.map(|outcome| HubEffect::Answer(query, outcome)));
    }
}
