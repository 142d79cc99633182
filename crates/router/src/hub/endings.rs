//! Sessions that have no connection, when a user's sessions are ordered to end (G13, G22): no lane holds them, so their
//! records end at the broker, as of the order's position. The order is answered once that is done as well.

use std::collections::BTreeMap;

use roomcast_protocol::codes::Refused;
use roomcast_protocol::envelope::{Accepted, BrokerCommand};
use roomcast_protocol::time::Now;

use super::{Hub, RETRY_MS};
use crate::messages::{HubEffect, QueryId};
use crate::orders::Order;

/// Orders of this node whose two halves are not both answered, by the question's number. Bounds: the questions of back-ends under way.
#[derive(Debug, Default)]
pub(super) struct Endings {
    under_way: BTreeMap<u64, Ending>,
    /// Orders whose content is kept, to be given.
    kept: Vec<(QueryId, Order)>,
}

/// What became of an order so far.
#[derive(Debug)]
enum Ending {
    /// Its content is to be kept first.
    Kept(Order),
    /// It is to be stored; whose sessions it ends.
    Ordered(Box<str>),
    /// It is stored, and the records are to end.
    Stored(Accepted),
}

impl Endings {
    /// An order is given.
    pub(super) fn begin(&mut self, query: QueryId, order: &Order) {
        let user = order.ends_records_of();
        self.under_way.extend(user.map(|user| (query.0, Ending::Ordered(user.into()))));
    }

    /// The content of an order is to be kept before it is given.
    pub(super) fn keep(&mut self, query: QueryId, order: &Order) {
        self.under_way.insert(query.0, Ending::Kept(order.clone()));
    }

    /// When [`Hub::give_kept`] has something to do: at once.
    pub(super) fn next_ms(&self) -> Option<u64> {
        (!self.kept.is_empty()).then_some(0)
    }

    /// Nothing is under way.
    #[cfg(test)]
    pub(super) fn are_idle(&self) -> bool {
        self.under_way.is_empty() && self.kept.is_empty()
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
        match (self.endings.under_way.remove(&query.0), outcome) {
            (Some(Ending::Kept(order)), Ok(_)) => self.endings.kept.push((query, order)),
            (
                Some(Ending::Ordered(user)),
                Ok(accepted @ Accepted { position: Some(order), .. }),
            ) => {
                let request = query.0;
                self.endings.under_way.insert(request, Ending::Stored(accepted));
                out.push(HubEffect::Broker(BrokerCommand::EndSessions { request, user, order }));
            }
            (_, outcome) if self.answers.awaits(query) => self.order_is_stored(query, outcome, out),
            (_, outcome) => out.push(HubEffect::Answer(query, outcome)),
        }
    }

    /// Gives the orders whose content is kept.
    pub(super) fn give_kept(&mut self, now: Now, out: &mut Vec<HubEffect>) {
        for (query, order) in std::mem::take(&mut self.endings.kept) {
            self.publish_order(now, query, &order, out);
        }
    }

    /// The broker has ended the records of a user's sessions, or did not answer.
    pub(super) fn records_ended(&mut self, request: u64, done: bool, out: &mut Vec<HubEffect>) {
        let Some(Ending::Stored(accepted)) = self.endings.under_way.get(&request) else { return };
        let accepted = *accepted;
        self.endings.under_way.remove(&request);
        let text = "The user's connections have ended, but sessions without one could not be: order it again";
        let refused = || Refused::unavailable(text.into(), RETRY_MS);
        let outcome = if done { Ok(accepted) } else { Err(refused()) };
        self.order_is_stored(QueryId(request), outcome, out);
    }
}
