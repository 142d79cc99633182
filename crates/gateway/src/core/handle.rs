//! The way to the core for others of the node: questions through its queue, each with its answer.

use std::sync::Arc;

use roomcast_protocol::codes::{Refusal, Refused};
use roomcast_protocol::position::{Page, Span};
use roomcast_protocol::presence::RosterPage;
use roomcast_protocol::publication::Publication;
use roomcast_protocol::receipts::ReceiptsPage;
use roomcast_protocol::room::RoomName;
use roomcast_router::hub::{Ordered, Surveyed};
use roomcast_router::messages::{MemberChange, MemberInfo, ReceiptsAsk};
use roomcast_router::orders::Order;
use roomcast_router::surveys::Survey;
use tokio::sync::mpsc::error::SendError;
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

    /// Publishes as a back-end, in this order; each with whether its id is to be remembered. What a core that ends has
    /// not begun is refused; of what it leaves unanswered there is no outcome.
    pub(crate) async fn publish(
        &self,
        publications: Vec<(Arc<Publication>, bool)>,
    ) -> Vec<Outcome> {
        let (publishing, outcomes) =
            publications.into_iter().map(|(it, dedup)| Publishing::new(it, dedup)).unzip();
        self.hand_over(publishing).await;
        outcomes
    }

    async fn hand_over(&self, publishing: Vec<Publishing>) {
        let sent = self.requests.send(CoreRequest::Publish(publishing)).await;
        if let Err(SendError(request)) = sent {
            refuse(request);
        }
    }

    /// What a room keeps; `None`: it cannot be read at the moment, or the node is ending.
    pub(crate) async fn history(&self, room: RoomName, span: Span) -> Option<Page> {
        let (answer, page) = oneshot::channel();
        self.requests.send(CoreRequest::History { room, span, answer }).await.ok()?;
        page.await.ok().flatten()
    }

    /// Has a back-end's publication on its way, behind those that were before it, and says how it ended. A sender that
    /// is gone: the node is ending, the publication was begun, and nobody knows.
    pub(crate) async fn begin(&self, publication: Arc<Publication>, dedup: bool) -> Outcome {
        let (publishing, outcome) = Publishing::new(publication, dedup);
        self.hand_over(vec![publishing]).await;
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

    /// Changes who is in a group, and tells all nodes; `None`: the node is ending, and nothing is known.
    pub(crate) async fn set_member(
        &self,
        change: MemberChange,
        timeout_ms: u64,
    ) -> Option<Result<Ordered, Refused>> {
        let (answer, ordered) = oneshot::channel();
        self.requests.send(CoreRequest::SetMember { change, timeout_ms, answer }).await.ok()?;
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

/// The core has ended: what is left in its queue was not begun, and nothing more is taken.
pub(super) fn refuse_rest(requests: &mut mpsc::Receiver<CoreRequest>) {
    requests.close();
    while let Ok(request) = requests.try_recv() {
        refuse(request);
    }
}

/// Publications are refused for sure. Whoever asks anything else finds that nobody answers.
fn refuse(request: CoreRequest) {
    match request {
        CoreRequest::Publish(publishing) => publishing.into_iter().for_each(Publishing::refuse),
        CoreRequest::History { .. }
        | CoreRequest::Members { .. }
        | CoreRequest::Roster { .. }
        | CoreRequest::Receipts { .. }
        | CoreRequest::Order { .. }
        | CoreRequest::SetMember { .. }
        | CoreRequest::Survey { .. }
        | CoreRequest::Stop { .. } => {}
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use roomcast_protocol::content::Content;

    use super::*;

    fn publication() -> Arc<Publication> {
        let content = Content::Text(Bytes::from_static(b"x"));
        Arc::new(Publication::bare(RoomName::parse("demo").unwrap(), content))
    }

    fn handle() -> (CoreHandle, mpsc::Receiver<CoreRequest>) {
        let (requests, asked) = mpsc::channel(8);
        (CoreHandle::new(requests, Arc::default()), asked)
    }

    #[track_caller]
    fn expect_refused(outcome: &mut Outcome) {
        let refused = outcome.try_recv().unwrap().unwrap_err();
        assert_eq!((refused.refusal, refused.unknown), (Refusal::Unavailable, false));
        assert_eq!(refused.message, "The node is ending: this was not published");
    }

    #[tokio::test]
    async fn what_an_ending_core_has_not_begun_is_refused_for_sure() {
        let (core, mut asked) = handle();
        let mut begun = core.begin(publication(), false).await;
        let CoreRequest::Publish(publishing) = asked.recv().await.unwrap() else { panic!() };
        let mut queued = core.begin(publication(), false).await;
        let mut several = core.publish(vec![(publication(), true), (publication(), false)]).await;
        refuse_rest(&mut asked);
        expect_refused(&mut queued);
        several.iter_mut().for_each(expect_refused);
        let mut late = core.begin(publication(), false).await;
        expect_refused(&mut late);
        // Of what it has begun nobody knows.
        assert_eq!(begun.try_recv(), Err(oneshot::error::TryRecvError::Empty));
        drop(publishing);
        assert_eq!(begun.try_recv(), Err(oneshot::error::TryRecvError::Closed));
    }

    #[tokio::test]
    async fn an_ending_core_answers_no_question() {
        let (core, mut asked) = handle();
        let room = RoomName::parse("demo").unwrap();
        let (found, ()) = tokio::join!(core.members(room), async {
            while asked.is_empty() {
                tokio::task::yield_now().await;
            }
            refuse_rest(&mut asked);
        });
        assert_eq!(found, None);
    }
}
