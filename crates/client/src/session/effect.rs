//! What the machine wants done, and what it is asked. Nothing here does anything.

use bytes::Bytes;

use crate::driver::LinkId;
use crate::error::Error;
use crate::event::{Joined, Published, RosterPage, Welcome};
use crate::options::{Continuation, Format};
use crate::receipts::{Receipt, ReceiptsPage};
use crate::session::event::{RoomStatus, SessionEvent};
use crate::wire::{self, Outgoing};

/// Somebody of the application who waits for a [`Reply`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Waiter(pub(crate) u64);

/// What those who wait are told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reply {
    /// A connection stands.
    Ready(Welcome),
    /// A room is heard.
    Joined(Joined),
    /// It is done, and there is no more to say.
    Done,
    /// A publication has left.
    Published(Published),
    /// Part of a roster.
    Roster(RosterPage),
    /// What stands for a mark.
    Marked(Receipt),
    /// Part of a room's receipts.
    Receipts(ReceiptsPage),
    /// Where the rooms stand.
    Rooms(Vec<RoomStatus>),
}

/// What the machine wants done.
#[derive(Debug)]
pub(crate) enum Effect {
    /// Make a connection.
    Connect {
        /// Its number.
        link: LinkId,
        /// As whom.
        token: Option<String>,
        /// How the session is to go on over it.
        continuation: Box<Continuation>,
    },
    /// Send a message.
    Send {
        /// Over which connection.
        link: LinkId,
        /// As it is written.
        bytes: Bytes,
    },
    /// End a connection with a goodbye, which ends its session on the node as well.
    Close(LinkId),
    /// End a connection without a word: the node keeps the session.
    Drop(LinkId),
    /// Ask the application for a token.
    GetToken,
    /// Tell the application.
    Tell(SessionEvent),
    /// Answer somebody who waits.
    Answer(Waiter, Result<Reply, Error>),
}

/// The effects of one step, in order.
#[derive(Debug, Default)]
pub(crate) struct Out {
    format: Format,
    pub(crate) effects: Vec<Effect>,
}

impl Out {
    pub(crate) const fn new(format: Format) -> Self {
        Self { format, effects: Vec::new() }
    }

    pub(crate) fn tell(&mut self, event: SessionEvent) {
        self.effects.push(Effect::Tell(event));
    }

    pub(crate) fn answer(&mut self, waiter: Waiter, answer: Result<Reply, Error>) {
        self.effects.push(Effect::Answer(waiter, answer));
    }

    /// Writes and sends.
    pub(crate) fn send(&mut self, link: LinkId, message: &Outgoing<'_>) {
        // These messages hold texts and numbers alone, which both formats can write.
        if let Ok(bytes) = wire::encode(self.format, message) {
            self.effects.push(Effect::Send { link, bytes });
        }
    }
}
