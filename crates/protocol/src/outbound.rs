//! All that can leave towards a client, in no dialect's words.

use crate::codes::Refused;
use crate::command::ReplyTo;
use crate::envelope::Accepted;
use crate::guard::Principal;
use crate::ids::SessionId;
use crate::publication::Publication;

/// Why publications to rooms without history were lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// The lane's queue was full.
    Overload,
    /// The broker's feed was cut.
    Feed,
}

impl Loss {
    /// Its name on the wire.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Overload => "overload",
            Self::Feed => "feed",
        }
    }
}

/// All that can leave towards a client but the end of the connection.
#[derive(Clone, Copy, Debug)]
pub enum Outbound<'a> {
    /// You are in.
    Welcome {
        /// As whom.
        who: &'a Principal,
        /// In which session.
        session: SessionId,
    },
    /// The answer to a keep-alive.
    Pong {
        /// Its timestamp as it came (JSON text).
        timestamp: Option<&'a [u8]>,
        /// The node's time, for those who sent none. Units: milliseconds since the Unix epoch.
        unix_ms: u64,
    },
    /// You hear the room from here on.
    Joined {
        /// Whose answer it is.
        reply: &'a ReplyTo,
        /// The room.
        room: &'a str,
        /// The client named a position, which a room without history cannot honour.
        since: bool,
    },
    /// You hear the room no more.
    Left {
        /// Whose answer it is.
        reply: &'a ReplyTo,
        /// The room.
        room: &'a str,
    },
    /// The answer to a publication that asked for one.
    Accepted {
        /// The publication's id.
        id: &'a str,
        /// How far it got.
        accepted: Accepted,
    },
    /// A command is declined.
    Refused {
        /// Whose answer it is.
        reply: &'a ReplyTo,
        /// Why.
        refused: &'a Refused,
    },
    /// The answer to a token brought by a session that is ready.
    Refreshed {
        /// Whose answer it is.
        reply: &'a ReplyTo,
        /// Until when it is good. Units: milliseconds since the Unix epoch.
        expires_unix_ms: u64,
    },
    /// Bring a new token.
    TokenExpiring {
        /// Until when the old one is good. Units: milliseconds since the Unix epoch.
        expires_unix_ms: u64,
    },
    /// A publication.
    Publication(&'a Publication),
    /// Publications to this session's rooms without history were lost: load anew what must not be missed.
    Gap {
        /// Why.
        loss: Loss,
    },
    /// The broker went away, or is back: until then publications reach this node's members alone.
    Degraded {
        /// It is away.
        isolated: bool,
    },
}
