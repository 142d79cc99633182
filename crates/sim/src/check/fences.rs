//! I10: once a session was taken over, nothing that a former connection writes for it lands.

use std::collections::BTreeMap;

use roomcast_protocol::session::SaveSession;

use crate::world::World;

/// The generation that a server gave a session last; what a server has lost it may give again.
pub(crate) type Fences = BTreeMap<(usize, u128), u64>;

impl World {
    /// A server has let a session be taken over.
    pub(crate) fn book_attach(&mut self, server: usize, session: u128, generation: u64) {
        let before = self.book.fences.insert((server, session), generation);
        if before.is_some_and(|before| before >= generation) {
            let about = [format!("{session:032x}")];
            self.book.violate("G13/I10", &about, || {
                format!(
                    "server {server} gave {session:032x} generation {generation} after {before:?}"
                )
            });
        }
    }

    /// A server has written a session's record.
    pub(crate) fn check_save(&mut self, server: usize, save: &SaveSession) {
        let fence = self.book.fences.get(&(server, save.session.0)).copied();
        if fence.is_some_and(|fence| fence > save.generation) {
            let about = [save.session.to_string(), save.user.to_string()];
            self.book.violate("G13/I10", &about, || {
                format!("server {server} takes {save:?} of a session whose generation is {fence:?}")
            });
        }
    }

    /// A server has lost all it had, or has got it from another one.
    pub(crate) fn forget_fences(&mut self, server: usize) {
        self.book.fences.retain(|(of, _), _| *of != server);
    }
}
