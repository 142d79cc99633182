//! What a server does about directories.

use roomcast_protocol::codes::Refusal;
use roomcast_protocol::directory::{Entries, SetEntry};
use roomcast_protocol::room::RoomName;

use super::{Answer, Fault};
use crate::world::World;

impl World {
    pub(super) fn execute_entry(&mut self, server: usize, set: &SetEntry) -> Answer {
        if self.is_moved(server, &set.directory) {
            return Answer::Fault(Fault::NotYet);
        }
        self.note_place(server, set);
        let it = &mut self.bus.servers[server];
        let now_ms = it.time_ms(self.now_ms);
        let full = Answer::Fault(Fault::Declined(Refusal::Unavailable.into()));
        it.data.store(&set.directory).set_entry(now_ms, set).map_or(full, Answer::EntrySet)
    }

    pub(super) fn execute_directory(
        &mut self,
        server: usize,
        directory: &RoomName,
        entries: &Entries,
    ) -> Answer {
        if self.is_moved(server, directory) {
            return Answer::Fault(Fault::NotYet);
        }
        let it = &mut self.bus.servers[server];
        let now_ms = it.time_ms(self.now_ms);
        Answer::Directory(it.data.store(directory).directory(now_ms, directory, entries))
    }
}
