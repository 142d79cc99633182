//! Sessions that outlive their connection (G13, G14): what is kept of them, and how they are taken over on any node.

use std::fmt;

use crate::ids::{NodeId, SessionId, digits};
use crate::position::Position;
use crate::room::RoomName;

/// Proves that a client is the one whose session it names: 128 random bits. Never written out by `Debug`.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(Rust, packed(8))]
pub struct Secret(pub u128);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(********)")
    }
}

/// What a client brings to get its session back. Written as `<session>.<secret>`, 32 hexadecimal digits each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResumeToken {
    /// Which session.
    pub session: SessionId,
    /// Proves that it is its own.
    pub secret: Secret,
}

impl ResumeToken {
    /// How long it is. Units: bytes.
    pub const BYTES: usize = 65;

    /// Reads what `Display` writes.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (session, secret) = text.split_once('.')?;
        Some(Self { session: SessionId::parse(session)?, secret: Secret(digits(secret)?) })
    }
}

impl fmt::Display for ResumeToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Secret(secret) = self.secret;
        write!(f, "{}.{secret:032x}", self.session)
    }
}

/// A room of a session that is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoomRecord {
    /// Which room.
    pub room: RoomName,
    /// What its client has certainly got; what follows is given again. `None`: the room is ephemeral, or was not live.
    pub safe: Option<Position>,
    /// The offset of the oldest publication that waits for its ack (G15): who says itself that it has got more is given
    /// those again that it has not acked.
    pub unacked: Option<u64>,
}

/// What is kept of a session beside its secrets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SessionRecord {
    /// Its rooms, those that every session of its user is put into left out. Bounds: its limit of rooms.
    pub rooms: Vec<RoomRecord>,
    /// The rooms that every session of its user is put into, where they keep publications. Bounds: the same.
    pub own: Vec<RoomRecord>,
}

/// Whether a session has a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionState {
    /// It has one. The record is kept for two windows, so that a killed node's sessions can be resumed as well.
    Attached,
    /// It has none: it can be resumed for one window.
    Detached,
    /// It is over, and nothing is kept.
    Ended,
}

/// A session's record is written. Refused if the session has been taken over since.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SaveSession {
    /// Its user's name within the cluster; it decides where the record lies.
    pub user: Box<str>,
    /// Which session.
    pub session: SessionId,
    /// Which attachment of it writes; the first is 1, later ones are numbered by time.
    pub generation: u64,
    /// Whether it has a connection.
    pub state: SessionState,
    /// Its secret. A broker that has lost the record gets it anew by this.
    pub secret: Secret,
    /// The client has its turn to go elsewhere: who comes with this one is handed over (G14).
    pub turn: Option<Secret>,
    /// The client has got its secret: the one before it is no good any more.
    pub confirmed: bool,
    /// What is kept of it; `None`: what is kept already, for another while.
    pub record: Option<SessionRecord>,
    /// How long it can be resumed. Units: milliseconds.
    pub window_ms: u64,
    /// Up to where in the room of orders to end sessions whoever writes has obeyed all; `None`: that is not known. No such
    /// order concerns the session.
    pub obeyed: Option<Position>,
}

impl SaveSession {
    /// Whether the session, of which there is no record, may be from before this order to end its user's sessions.
    ///
    /// Where the room of orders has begun anew since one of both, positions do not tell. Then a session with a connection
    /// begins all the same: its lane ends it when the order comes.
    #[must_use]
    pub fn may_precede(&self, order: Position) -> bool {
        match self.state {
            SessionState::Attached | SessionState::Detached => {}
            SessionState::Ended => return false,
        }
        match self.obeyed.filter(|obeyed| obeyed.epoch == order.epoch) {
            Some(obeyed) => obeyed.offset < order.offset,
            None => self.state == SessionState::Detached,
        }
    }
}

/// Which session is wanted back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// The one that the token names.
    Token(ResumeToken),
    /// The only one of the user's that has no connection, or whose node is gone: for clients that know no tokens.
    OnlyDetached,
}

/// A session is taken over (G13).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttachSession {
    /// Its user's name within the cluster.
    pub user: Box<str>,
    /// Which one.
    pub wish: Wish,
    /// Its secret from now on; the one that was brought stays good until [`SaveSession::confirmed`].
    pub secret: Secret,
    /// Nodes that hold a lease: a session of any other has no connection.
    pub alive: Vec<NodeId>,
    /// How long it can be resumed from then on. Units: milliseconds.
    pub window_ms: u64,
    /// The generation rises above this as well; `None`: above the broker's time in milliseconds, so that no generation is
    /// given twice although records were lost. Who has to foretell generations, as scripts do, says something else.
    pub above: Option<u64>,
}

/// What a session's former connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Former {
    /// There is none.
    Gone,
    /// There may be one on this node: it is ended as replaced.
    Attached(NodeId),
    /// One on this node waits for the new one, to be ended as moved (G14).
    HandedOver(NodeId),
}

/// A session that was taken over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttachedSession {
    /// Which one.
    pub session: SessionId,
    /// Which attachment this is: a write with a lower one is refused.
    pub generation: u64,
    /// What was kept of it.
    pub record: SessionRecord,
    /// What its former connection is.
    pub former: Former,
}

/// Why a session was not taken over; its client begins a new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Unattached {
    /// There is none: never was, its window is over, or it is another user's.
    Unknown,
    /// The token is not the session's.
    Token,
    /// None, or more than one of the user's sessions has no connection.
    NotOne,
    /// The broker did not answer.
    Unavailable,
}

impl Unattached {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Unknown, Self::Token, Self::NotOne, Self::Unavailable];

    /// Its name on the wire.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Token => "token",
            Self::NotOne => "not_one",
            Self::Unavailable => "unavailable",
        }
    }
}

/// What became of writing a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SavedSession {
    /// It is written.
    Saved,
    /// The session has been taken over: this connection has no part in it any more.
    Fenced,
    /// The session is over, and nobody's any more.
    Ended,
}

/// How long after its record was written a session counts as connected although its node is not among those that are
/// known to be alive: the node may just have begun. Units: milliseconds.
pub const WRITTEN_LATELY_MS: u64 = 4_000;

/// How long it is remembered that a session is over, so that no late write brings it back: one that was ordered to end, or
/// that had former connections. Units: milliseconds.
pub const ENDED_MS: u64 = 60_000;

/// How long orders to end sessions are kept, and of each user the last one: whoever has not heard one by then ends all its
/// sessions. Units: milliseconds.
pub const ORDERS_MS: u64 = 600_000;

/// Sessions of one user that are kept; beyond it the one that would go first anyway goes early.
pub const SESSIONS_PER_USER_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resume_token_is_read_as_it_is_written() {
        let token = ResumeToken { session: SessionId(7), secret: Secret(u128::MAX - 1) };
        let text = token.to_string();
        assert_eq!(text.len(), ResumeToken::BYTES);
        assert_eq!(ResumeToken::parse(&text), Some(token));
        let upper = text.to_uppercase();
        for bad in ["", ".", &text[1..], &text[..64], &format!("{text}0"), &upper] {
            assert_eq!(ResumeToken::parse(bad), None, "{bad}");
        }
        assert!(!format!("{token:?}").contains("fffe"), "secrets are not logged");
    }
}
