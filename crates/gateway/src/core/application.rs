//! What clients ask the application, on its way from the core and back. Decides nothing.

use roomcast_router::messages::LaneMessage;
use roomcast_router::requests::Requested;

use super::Core;
use crate::upstream::respond;

impl Core {
    /// Asks the application in a task of its own, which tells the lane.
    pub(super) fn ask_application(&self, requested: Requested) {
        let lane = self.parts.lanes.get(usize::from(requested.lane.0)).cloned();
        let upstream = self.parts.upstream.clone();
        tokio::task::spawn_local(async move {
            let responded = LaneMessage::Responded(Box::new(respond(upstream, requested).await));
            if let Some(lane) = lane {
                lane.send(responded.weight(), responded);
            }
        });
    }
}
