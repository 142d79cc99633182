//! Sessions that have no connection, when a user's sessions are ordered to end (G13, G22): no lane holds them, so their
//! records end at the broker, as of the order's position. The order is answered once that is done as well.

use std::collections::BTreeMap;

use roomcast_protocol::codes::Refused;
use roomcast_protocol::envelope::{Accepted, BrokerCommand};

use super::{Hub, RETRY_MS};
use crate::messages::{HubEffect, QueryId};
use crate::orders::Order;

/// Orders of this node whose two halves are not both answered, by the question's number. Bounds: the questions of back-ends under way.
#[derive(Debug, Default)]
pub(super) struct Endings(BTreeMap<u64, Ending>);

/// What became of an order so far.
#[derive(Debug)]
enum Ending {
    /// It is to be stored; whose sessions it ends.
    Ordered(Box<str>),
    /// It is stored, and the records are to end.
    Stored(Accepted),
}

impl Endings {
    /// An order is given.
    pub(super) fn begin(&mut self, query: QueryId, order: &Order) {
        let user = order.ends_records_of();
        self.0.extend(user.map(|user| (query.0, Ending::Ordered(user.into()))));
    }

    /// Nothing is under way.
    #[cfg(test)]
    pub(super) fn are_idle(&self) -> bool {
        self.0.is_empty()
    }
}

impl Hub {
    /// Answers a back-end's question. Where that is an order which is stored, the records of the user's sessions end first.
    pub(super) fn answer_query(
        &mut self,
        query: QueryId,
        outcome: Result<Accepted, Refused>,
        out: &mut Vec<HubEffect>,
    ) {
        match (self.endings.0.remove(&query.0), outcome) {
            (
                Some(Ending::Ordered(user)),
                Ok(accepted @ Accepted { position: Some(order), .. }),
            ) => {
                let request = query.0;
                self.endings.0.insert(request, Ending::Stored(accepted));
                out.push(HubEffect::Broker(BrokerCommand::EndSessions { request, user, order }));
            }
            (_, outcome) if self.answers.awaits(query) => self.order_is_stored(query, outcome, out),
            (_, outcome) => out.push(HubEffect::Answer(query, outcome)),
        }
    }

    /// The broker has ended the records of a user's sessions, or did not answer.
    pub(super) fn records_ended(&mut self, request: u64, done: bool, out: &mut Vec<HubEffect>) {
        let Some(Ending::Stored(accepted)) = self.endings.0.get(&request) else { return };
        let accepted = *accepted;
        self.endings.0.remove(&request);
        let text = "The user's connections have ended, but sessions without one could not be: order it again";
        let refused = || Refused::unavailable(text.into(), RETRY_MS);
        let outcome = if done { Ok(accepted) } else { Err(refused()) };
        self.order_is_stored(QueryId(request), outcome, out);
    }
}
