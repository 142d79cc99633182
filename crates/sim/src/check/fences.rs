//! I10: once a session was taken over, nothing that a former connection writes for it lands, and no two connections have it
//! under one generation.

use std::collections::{BTreeMap, BTreeSet};

use roomcast_protocol::session::SaveSession;

use crate::world::World;

/// Which generations sessions were given.
#[derive(Debug, Default)]
pub(crate) struct Fences {
    /// The last one of each server; what that has lost it may take again.
    last: BTreeMap<(usize, u128), u64>,
    /// All that any server gave, whatever was lost since.
    given: BTreeSet<(u128, u64)>,
}

impl World {
    /// A server has let a session be taken over.
    pub(crate) fn book_attach(&mut self, server: usize, session: u128, generation: u64) {
        let before = self.book.fences.last.insert((server, session), generation);
        if !self.book.fences.given.insert((session, generation)) {
            let about = [format!("{session:032x}")];
            self.book.violate("G13/I10", &about, || {
                format!("generation {generation} of {session:032x} is given twice")
            });
        }
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
        let fence = self.book.fences.last.get(&(server, save.session.0)).copied();
        if fence.is_some_and(|fence| fence > save.generation) {
            let about = [save.session.to_string(), save.user.to_string()];
            self.book.violate("G13/I10", &about, || {
                format!("server {server} takes {save:?} of a session whose generation is {fence:?}")
            });
        }
    }

    /// A server has lost all it had, or has got it from another one.
    pub(crate) fn forget_fences(&mut self, server: usize) {
        self.book.fences.last.retain(|(of, _), _| *of != server);
    }

    /// A server has lost a session.
    pub(crate) fn forget_fence(&mut self, server: usize, session: u128) {
        self.book.fences.last.remove(&(server, session));
    }
}
