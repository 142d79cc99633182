//! What lanes notice that the application may want to know: who came and went, what did not arrive, and who tried what it
//! may not. Never holds a token or a payload.

use std::net::IpAddr;

use roomcast_protocol::codes::Close;
use roomcast_protocol::guard::Kind;
use roomcast_protocol::ids::{LaneId, SessionId};
use roomcast_protocol::limits::LimitName;
use roomcast_protocol::position::Position;
use roomcast_protocol::room::RoomName;

/// Texts that peers choose are cut there: as long as a room's name may be. Units: bytes.
pub const TEXT_BYTES_MAX: usize = 255;

/// What lanes are to tell of. Nothing of the rest costs anything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Who came and went.
    pub connections: bool,
    /// Publications that were not acked.
    pub failures: bool,
    /// Who tried what it may not.
    pub security: bool,
}

impl Wanted {
    /// All of it.
    pub const ALL: Self = Self { connections: true, failures: true, security: true };

    /// Whether lanes are to tell of anything.
    #[must_use]
    pub const fn any(self) -> bool {
        self.connections || self.failures || self.security
    }
}

/// Something that happened on a lane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Happening {
    /// On which lane.
    pub lane: LaneId,
    /// When. Units: milliseconds since the Unix epoch.
    pub unix_ms: u64,
    /// Whose doing: the user's name within the cluster. Empty: nobody knows.
    pub user: Box<str>,
    /// What kind of party that is; `None`: nobody knows.
    pub party: Option<Kind>,
    /// In which session; `None`: before one began.
    pub session: Option<SessionId>,
    /// Where its client is, of IPv6 the /64 network; `None`: nobody knows any more. Lanes leave it to their shell.
    pub address: Option<IpAddr>,
    /// What.
    pub kind: HappeningKind,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HappeningKind {
    /// A session can act: its token is good, and if it goes on from another connection, its client has sent something over
    /// this one.
    Connected {
        /// It goes on from another connection.
        resumed: bool,
        /// The name of its dialect.
        dialect: &'static str,
        /// Which of the session's connections it is: later ones have higher numbers.
        generation: u64,
    },
    /// The connection of a session that was told as connected ended. Told once of each.
    Disconnected {
        /// Which of the session's connections it was.
        generation: u64,
        /// How.
        ended: Ended,
        /// How long it could act. Units: milliseconds.
        connected_ms: u64,
        /// The session can be resumed.
        resumable: bool,
    },
    /// A publication that requires acks has failed for a member.
    DeliveryFailed {
        /// In which room.
        room: RoomName,
        /// The publication's id.
        id: Box<str>,
        /// Where it stands; `None`: its room keeps nothing.
        position: Option<Position>,
        /// Why.
        why: Unacked,
    },
    /// Somebody tried what it may not.
    Security {
        /// What.
        what: Offence,
        /// How many like this are told by it, 1 or more.
        count: u64,
    },
}

impl HappeningKind {
    /// The names, as the application and metrics spell them.
    pub const NAMES: [&str; 4] = ["connected", "disconnected", "delivery_failed", "security_event"];

    /// Its place in [`HappeningKind::NAMES`].
    #[must_use]
    pub const fn index(&self) -> usize {
        match self {
            Self::Connected { .. } => 0,
            Self::Disconnected { .. } => 1,
            Self::DeliveryFailed { .. } => 2,
            Self::Security { .. } => 3,
        }
    }
}

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The node ended it.
    Closed(Close),
    /// Its client said goodbye.
    Goodbye,
    /// Its client was gone.
    Gone,
}

/// Why a publication has failed for a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unacked {
    /// It was given as often as the dialect says.
    Tries,
    /// Too many waited for the member's acks, and its room keeps nothing to give it from later.
    TooMany,
}

impl Unacked {
    /// Its name, as the application reads it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tries => "unacked",
            Self::TooMany => "too_many_unacked",
        }
    }
}

/// What somebody tried.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Offence {
    /// A token is no good, at the handshake or later, or none came.
    Authentication {
        /// What is wrong with it.
        why: &'static str,
    },
    /// It has no right to that in the room.
    Permission {
        /// To what.
        right: Right,
        /// In which room.
        room: Box<str>,
    },
    /// Pages of this origin may not connect.
    Origin {
        /// Which, as [`cut`] leaves it.
        origin: Box<str>,
    },
    /// A limit bit.
    Limit {
        /// Which.
        limit: LimitName,
    },
    /// What came breaks the rules of the wire, or cannot be read.
    Malformed {
        /// What is wrong with it.
        what: &'static str,
    },
}

impl Offence {
    /// Its name, as the application reads it.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Authentication { .. } => "authentication_failed",
            Self::Permission { .. } => "permission_refused",
            Self::Origin { .. } => "origin_refused",
            Self::Limit { .. } => "limit_hit",
            Self::Malformed { .. } => "malformed_frame",
        }
    }
}

/// What a room's rule may allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Right {
    /// To be in it.
    Join,
    /// To publish there.
    Publish,
    /// To read what it keeps.
    History,
    /// To know who is in it.
    Presence,
    /// To know how far its users are.
    Receipts,
    /// To say how far one is.
    Mark,
}

impl Right {
    /// Its name, as the application reads it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Join => "join",
            Self::Publish => "publish",
            Self::History => "history",
            Self::Presence => "presence",
            Self::Receipts => "receipts",
            Self::Mark => "mark",
        }
    }
}

impl Happening {
    /// What it weighs in a queue. Units: bytes.
    #[must_use]
    pub fn weight(&self) -> usize {
        let texts = match &self.kind {
            HappeningKind::Connected { .. } | HappeningKind::Disconnected { .. } => 0,
            HappeningKind::DeliveryFailed { room, id, .. } => room.as_str().len() + id.len(),
            HappeningKind::Security { what, .. } => match what {
                Offence::Permission { room: text, .. } | Offence::Origin { origin: text } => {
                    text.len()
                }
                Offence::Authentication { .. }
                | Offence::Limit { .. }
                | Offence::Malformed { .. } => 0,
            },
        };
        size_of::<Self>() + self.user.len() + texts
    }
}

/// As much of a peer's text as is told.
#[must_use]
pub fn cut(text: &str) -> Box<str> {
    text.get(..text.floor_char_boundary(TEXT_BYTES_MAX)).unwrap_or_default().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_told_up_to_its_bound_and_cut_between_letters_beyond() {
        let whole = "a".repeat(TEXT_BYTES_MAX);
        assert_eq!(*cut(&whole), whole);
        assert_eq!(*cut(&format!("{whole}b")), whole);
        let umlauts = "ä".repeat(128);
        assert_eq!(cut(&umlauts).len(), TEXT_BYTES_MAX - 1);
    }
}
