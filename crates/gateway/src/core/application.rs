//! What the application is asked by clients, and told of rooms, on its way from the core and back. Decides nothing.

use roomcast_protocol::occupancy::Occupancy;
use roomcast_router::messages::LaneMessage;
use roomcast_router::requests::Requested;
use serde_json::json;
use tokio::sync::mpsc;

use super::Core;
use crate::upstream::respond;
use crate::webhooks::{Event, EventKind, Subject};

/// Events of rooms that the application was told of, by the hub's numbers, on their way back to the hub. Bounds: the hub
/// gives out no more than it has a place for.
pub(super) struct Tellings {
    told: mpsc::UnboundedSender<u64>,
    heard: mpsc::UnboundedReceiver<u64>,
    /// Heard of, and not yet taken.
    next: Option<u64>,
}

impl Default for Tellings {
    fn default() -> Self {
        let (told, heard) = mpsc::unbounded_channel();
        Self { told, heard, next: None }
    }
}

impl Tellings {
    /// The next one that was told.
    pub(super) fn next(&mut self) -> Option<u64> {
        self.next.take().or_else(|| self.heard.try_recv().ok())
    }

    /// Whether there is none.
    pub(super) fn are_idle(&self) -> bool {
        self.next.is_none() && self.heard.is_empty()
    }

    /// Waits until there is one.
    pub(super) async fn heard(&mut self) {
        if self.next.is_none() {
            self.next = self.heard.recv().await;
        }
    }
}

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

    /// Tells the application that a room became occupied or vacated.
    pub(super) fn tell_of_room(&self, number: u64, event: &Occupancy) {
        let told = self.tellings.told.clone();
        let done = move || {
            // The core may have ended.
            let _gone = told.send(number).is_err();
        };
        let Occupancy { room, version, occupied } = event;
        let (epoch, offset) = (version.epoch.to_string(), version.offset);
        let data = json!({ "room": room.as_str(), "epoch": epoch, "version": offset });
        match serde_json::value::to_raw_value(&data) {
            Ok(data) => self.parts.webhooks.tell(Event {
                // The same whoever tells it.
                id: format!("room-{epoch}-{offset}").into(),
                kind: if *occupied { EventKind::Occupied } else { EventKind::Vacated },
                subject: Subject::Room(room.as_str().into()),
                unix_ms: self.parts.clock.now().unix_ms,
                data,
                kept: true,
                done: Some(Box::new(done)),
            }),
            Err(error) => {
                tracing::error!(%error, "what became of a room cannot be written");
                done();
            }
        }
    }
}
