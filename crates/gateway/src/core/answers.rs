//! Questions of the server API that the hub has answered.

use roomcast_protocol::codes::Refused;
use roomcast_protocol::envelope::Accepted;
use roomcast_protocol::presence::RosterPage;
use roomcast_protocol::receipts::ReceiptsPage;
use roomcast_router::hub::{Ordered, Surveyed};
use roomcast_router::messages::QueryId;
use tokio::sync::oneshot;

use super::{Core, Query};

impl Core {
    /// A publication of the shell's own ended.
    pub(super) fn outcome(&mut self, query: QueryId, outcome: Result<Accepted, Refused>) {
        if let Some((_, Query::Publish(answer))) = self.queries.remove(&query) {
            give(answer, outcome);
        }
    }

    pub(super) fn ordered(&mut self, query: QueryId, outcome: Result<Ordered, Refused>) {
        if let Some((_, Query::Order { answer, .. })) = self.queries.remove(&query) {
            give(answer, outcome);
        }
    }

    pub(super) fn surveyed(&mut self, query: QueryId, outcome: Result<Surveyed, Refused>) {
        if let Some((_, Query::Survey { answer, .. })) = self.queries.remove(&query) {
            give(answer, outcome);
        }
    }

    pub(super) fn roster(&mut self, query: QueryId, outcome: Result<RosterPage, Refused>) {
        if let Some((_, Query::Roster(answer))) = self.queries.remove(&query) {
            give(answer, outcome);
        }
    }

    pub(super) fn receipts(&mut self, query: QueryId, outcome: Result<ReceiptsPage, Refused>) {
        if let Some((_, Query::Receipts(answer))) = self.queries.remove(&query) {
            give(answer, outcome);
        }
    }
}

/// Answers a question; whoever asked may have gone.
pub(super) fn give<T>(answer: oneshot::Sender<T>, value: T) {
    drop(answer.send(value));
}
