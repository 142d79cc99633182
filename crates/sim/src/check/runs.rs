//! What a hub gives a lane: of each room that keeps its publications an unbroken run (G3, G8), each offset once, and
//! where something is missing a gap that says so.

use roomcast_protocol::position::{Epoch, Position};
use roomcast_protocol::room::RoomName;
use roomcast_router::messages::LaneMessage;
use roomcast_store::At;

use super::short;
use crate::world::World;

impl World {
    /// A message goes into a lane's queue.
    pub(crate) fn check_run(&mut self, node: usize, lane: usize, message: &LaneMessage) {
        match message {
            LaneMessage::Joined { room, position: Some(position), .. } => {
                let runs = &mut self.nodes[node].core.runs;
                let at = *runs.entry((lane, room.clone())).or_insert(*position);
                if at != *position {
                    self.broken(node, lane, room, Some(at), *position, "joins");
                }
            }
            LaneMessage::Publication { publication, .. } => {
                if let Some(position) = publication.position {
                    self.extend_run(node, lane, &publication.room, position);
                }
            }
            LaneMessage::Skipped { room, position, .. } => {
                self.extend_run(node, lane, room, *position)
            }
            LaneMessage::Gap { room, position, .. } => {
                let runs = &mut self.nodes[node].core.runs;
                let at = runs.insert((lane, room.clone()), *position);
                let back =
                    at.is_some_and(|at| at.epoch == position.epoch && at.offset > position.offset);
                let left = &mut self.nodes[node].core.left;
                if let Some(at) = at.filter(|at| at.epoch != position.epoch) {
                    left.insert((lane, room.clone(), at.epoch));
                }
                // G2a: an epoch that is over does not come back. With a master that others have left it goes on.
                let again = left.contains(&(lane, room.clone(), position.epoch))
                    && !self.is_current(room, position.epoch);
                if at.is_none() || back || again {
                    self.broken(node, lane, room, at, *position, "gap");
                }
            }
            LaneMessage::Joined { .. }
            | LaneMessage::Page { .. }
            | LaneMessage::Hold(_)
            | LaneMessage::Published { .. }
            | LaneMessage::Lost(_)
            | LaneMessage::Degraded { .. }
            | LaneMessage::Revalidate
            | LaneMessage::Blind
            | LaneMessage::Members { .. }
            | LaneMessage::Obeyed(_)
            | LaneMessage::Order { .. }
            | LaneMessage::Revoked { .. }
            | LaneMessage::Survey { .. }
            | LaneMessage::Attached { .. }
            | LaneMessage::Saved { .. }
            | LaneMessage::Fence { .. }
            | LaneMessage::Roster { .. }
            | LaneMessage::Inbox { .. }
            | LaneMessage::Conversed { .. }
            | LaneMessage::Marked { .. }
            | LaneMessage::Receipts(_)
            | LaneMessage::ReceiptsPage { .. }
            | LaneMessage::Presents { .. }
            | LaneMessage::Drain(_)
            | LaneMessage::Presence(_)
            | LaneMessage::Responded(_)
            | LaneMessage::Permitted { .. }
            | LaneMessage::Stop => {}
        }
    }

    /// Whether any server has the room in this epoch still.
    fn is_current(&self, room: &RoomName, epoch: Epoch) -> bool {
        self.bus.servers.iter().filter(|it| !it.dead).any(|server| {
            let at = At { now_ms: server.time_ms(self.now_ms), fresh: Epoch(u128::MAX) };
            let head = server.data.clone().store(room).head(room, at);
            head.is_some_and(|head| head.epoch == epoch)
        })
    }

    fn extend_run(&mut self, node: usize, lane: usize, room: &RoomName, position: Position) {
        let runs = &mut self.nodes[node].core.runs;
        let at = runs.insert((lane, room.clone()), position);
        if at.map(Position::next) != Some(position) {
            self.broken(node, lane, room, at, position, "then");
        }
    }

    fn broken(
        &mut self,
        node: usize,
        lane: usize,
        room: &RoomName,
        at: Option<Position>,
        position: Position,
        word: &str,
    ) {
        let about = [room.to_string(), format!("core {node}")];
        let text = |at: Position| format!("{}:{}", short(at), at.offset);
        let at = at.map_or("nothing".to_owned(), text);
        self.book.violate("G3/G8 of the hub", &about, || {
            format!("node {node} gave lane {lane} {room} up to {at}, {word} {}", text(position))
        });
    }
}
