//! The way to the core for others of the node: questions through its queue, each with its answer.

use std::sync::Arc;

use roomcast_protocol::codes::{Refusal, Refused};
use roomcast_protocol::position::{Page, Span};
use roomcast_protocol::presence::RosterPage;
use roomcast_protocol::publication::Publication;
use roomcast_protocol::receipts::ReceiptsPage;
use roomcast_protocol::room::RoomName;
use roomcast_router::hub::{Ordered, Surveyed};
use roomcast_router::messages::{MemberInfo, ReceiptsAsk};
use roomcast_router::orders::Order;
use roomcast_router::surveys::Survey;
use tokio::sync::{Notify, mpsc, oneshot};

use super::{CoreRequest, Outcome, Publishing};

/// The way of the server API, and of RPC, to the core.
#[derive(Clone, Debug)]
pub(crate) struct CoreHandle {
    requests: mpsc::Sender<CoreRequest>,
    ended: Arc<Notify>,
}

impl CoreHandle {
    pub(crate) const fn new(requests: mpsc::Sender<CoreRequest>, ended: Arc<Notify>) -> Self {
        Self { requests, ended }
    }

    /// Publishes as a back-end, in this order; each with whether its id is to be remembered. What a core that ends
    /// leaves unanswered has no outcome.
    pub(crate) async fn publish(
        &self,
        publications: Vec<(Arc<Publication>, bool)>,
    ) -> Vec<Outcome> {
        let (publishing, outcomes) =
            publications.into_iter().map(|(it, dedup)| Publishing::new(it, dedup)).unzip();
        drop(self.requests.send(CoreRequest::Publish(publishing)).await);
        outcomes
    }

    /// What a room keeps; `None`: it cannot be read at the moment, or the node is ending.
    pub(crate) async fn history(&self, room: RoomName, span: Span) -> Option<Page> {
        let (answer, page) = oneshot::channel();
        self.requests.send(CoreRequest::History { room, span, answer }).await.ok()?;
        page.await.ok().flatten()
    }

    /// Has a back-end's publication on its way, behind those that were before it, and says how it ended. A sender that
    /// is gone: the node is ending, and nobody knows.
    pub(crate) async fn begin(&self, publication: Arc<Publication>, dedup: bool) -> Outcome {
        let (publishing, outcome) = Publishing::new(publication, dedup);
        // Where the core has ended, the sender goes with the request.
        drop(self.requests.send(CoreRequest::Publish(vec![publishing])).await);
        outcome
    }

    /// The members of a room on this node; `None`: a lane did not answer in time, or the node is ending.
    pub(crate) async fn members(&self, room: RoomName) -> Option<Vec<MemberInfo>> {
        let (answer, found) = oneshot::channel();
        self.requests.send(CoreRequest::Members { room, answer }).await.ok()?;
        found.await.ok()
    }

    /// Who is in a room, on all nodes.
    ///
    /// # Errors
    /// The room tells nothing, or nobody knows at the moment.
    pub(crate) async fn roster(
        &self,
        room: RoomName,
        after: Option<Box<str>>,
        count_max: u32,
    ) -> Result<RosterPage, Refused> {
        let (answer, found) = oneshot::channel();
        let asked =
            self.requests.send(CoreRequest::Roster { room, after, count_max, answer }).await;
        if asked.is_err() {
            return Err(Refusal::Unavailable.into());
        }
        found.await.unwrap_or(Err(Refusal::Unavailable.into()))
    }

    /// How far users are in a room.
    ///
    /// # Errors
    /// The room keeps no receipts, or nobody knows at the moment.
    pub(crate) async fn receipts(&self, ask: ReceiptsAsk) -> Result<ReceiptsPage, Refused> {
        let (answer, found) = oneshot::channel();
        if self.requests.send(CoreRequest::Receipts { ask, answer }).await.is_err() {
            return Err(Refusal::Unavailable.into());
        }
        found.await.unwrap_or(Err(Refusal::Unavailable.into()))
    }

    /// Has all nodes do something, which they have so long to confirm, and says what became of it; `None`: that is not
    /// known.
    pub(crate) async fn order(
        &self,
        order: Order,
        timeout_ms: u64,
    ) -> Option<Result<Ordered, Refused>> {
        let (answer, ordered) = oneshot::channel();
        self.requests.send(CoreRequest::Order { order, timeout_ms, answer }).await.ok()?;
        ordered.await.ok()
    }

    /// Which rooms, or sessions, all nodes have.
    ///
    /// # Errors
    /// Too many such questions are under way, or the node is ending.
    pub(crate) async fn survey(
        &self,
        survey: Survey,
        timeout_ms: u64,
    ) -> Result<Surveyed, Refused> {
        let (answer, found) = oneshot::channel();
        let asked = self.requests.send(CoreRequest::Survey { survey, timeout_ms, answer }).await;
        if asked.is_err() {
            return Err(Refusal::Unavailable.into());
        }
        found.await.unwrap_or(Err(Refusal::Unavailable.into()))
    }

    /// Has the core stop the lanes behind all that is under way; says whether it did within `patience`. Blocks.
    pub(crate) fn stop_lanes(&self, patience: std::time::Duration) -> bool {
        let (told, lanes_told) = std::sync::mpsc::channel();
        let asked = self.requests.try_send(CoreRequest::Stop { told }).is_ok();
        asked && lanes_told.recv_timeout(patience).is_ok()
    }

    /// Ends the core.
    pub(crate) fn stop(&self) {
        self.ended.notify_one();
    }
}
