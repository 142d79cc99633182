//! G12/I6: a client that comes back with a position is told `recovered` if nothing is missing, and only then.

use roomcast_protocol::position::{Epoch, Head, Position, Span};
use roomcast_protocol::room::RoomName;
use roomcast_store::At;

use crate::rules::{name_of, rule};
use crate::world::World;

/// What was asked, and how the room was then.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Since {
    pub(crate) position: Position,
    /// The head on the room's master; `None`: the node took another server for it, or the room keeps nothing.
    head: Option<Head>,
    /// That master.
    master: usize,
}

impl World {
    /// A client asks for a room with a position.
    pub(crate) fn asks_since(&self, client: usize, room: usize, position: Position) -> Since {
        let (head, master) = self.head_of(client, room);
        Since { position, head, master }
    }

    /// The room's head, if the client's node and the run agree on who is its master. Changes nothing.
    fn head_of(&self, client: usize, room: usize) -> (Option<Head>, usize) {
        let name = RoomName::parse(&name_of(room)).expect("the rules name rooms");
        let shard = self.bus.shard_of(&name);
        let master = self.bus.masters[shard];
        let socket = self.clients[client].socket.map(|socket| &self.sockets[socket]);
        let agrees = socket.is_some_and(|it| self.nodes[it.node].broker.view[shard] == master);
        let (Some(keep), true) = (rule(room).keep, agrees) else { return (None, master) };
        let server = &self.bus.servers[master];
        let at = At { now_ms: server.time_ms(self.now_ms), fresh: Epoch(u128::MAX) };
        let found = server.data.clone().store(&name).read(&name, &keep, at, &Span::above(u64::MAX));
        // A node that does not know of an epoch yet cannot go on in it.
        let run = socket.and_then(|it| self.nodes[it.node].core.runs.get(&(it.lane, name)));
        let head = found.map(|found| found.head);
        let head = head.filter(|it| run.is_some_and(|run| run.epoch == it.position.epoch));
        (head, master)
    }

    /// It is answered: `told` is the reason why it is not recovered, if it is not.
    pub(crate) fn check_since(
        &mut self,
        client: usize,
        room: usize,
        since: &Since,
        told: Result<(), &str>,
    ) {
        let (after, master) = self.head_of(client, room);
        let (Some(before), Some(after)) = (since.head, after) else { return };
        // Liars name positions that never were: of an epoch, but before it began.
        if master != since.master || self.clients[client].hostile {
            return;
        }
        let position = since.position;
        // What is too old stays so, and an epoch that is over does not come back. A yes is judged by what follows it:
        // a node may be behind its broker, and tells of a gap once it knows.
        let wrong = match told {
            Ok(()) => false,
            Err("epoch") => {
                before.position.epoch == position.epoch && after.position.epoch == position.epoch
            }
            Err("too_old") => after.recovers(position).is_ok(),
            Err("ahead") => {
                before.position.epoch == position.epoch && position.offset <= before.position.offset
            }
            Err(_) => false,
        };
        if wrong {
            let about = [format!("c{client}"), name_of(room)];
            self.book.violate("G12/I6", &about, || {
                format!(
                    "c{client} asked for {} since {position:?} and is told {told:?}; the head was {before:?}, is {after:?}",
                    name_of(room)
                )
            });
        }
    }
}
