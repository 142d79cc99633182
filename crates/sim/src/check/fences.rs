//! I10: once a session was taken over, nothing that a former connection writes for it lands, and no two connections have it
//! under one generation.

use std::collections::{BTreeMap, BTreeSet};

use roomcast_protocol::session::{ENDED_MS, SaveSession, SessionState};

use crate::world::World;

/// Which generations sessions were given.
#[derive(Debug, Default)]
pub(crate) struct Fences {
    /// The last one of each server, and until when it counts (milliseconds): from a session that is lost, or over, a server
    /// may take anything.
    last: BTreeMap<(usize, u128), (u64, u64)>,
    /// All that any server gave, whatever was lost since.
    given: BTreeSet<(u128, u64)>,
}

impl World {
    /// A server has let a session be taken over, for this long.
    pub(crate) fn book_attach(
        &mut self,
        server: usize,
        (session, generation): (u128, u64),
        window_ms: u64,
    ) {
        let until_ms = self.now_ms + 2 * window_ms;
        let before = self.book.fences.last.insert((server, session), (generation, until_ms));
        let again = !self.book.fences.given.insert((session, generation));
        if again || before.is_some_and(|(before, _)| before >= generation) {
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
        let now_ms = self.now_ms;
        let Some((fence, until_ms)) =
            self.book.fences.last.get_mut(&(server, save.session.0)).filter(|it| it.1 > now_ms)
        else {
            return;
        };
        let fence = *fence;
        if fence > save.generation {
            let about = [save.session.to_string(), save.user.to_string()];
            return self.book.violate("G13/I10", &about, || {
                format!("server {server} takes {save:?} of a session whose generation is {fence:?}")
            });
        }
        *until_ms = match save.state {
            SessionState::Attached => now_ms + 2 * save.window_ms,
            SessionState::Detached => now_ms + save.window_ms,
            SessionState::Ended => now_ms + ENDED_MS,
        };
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
