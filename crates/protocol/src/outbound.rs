//! All that can leave towards a client, in no dialect's words.

use crate::codes::Refused;
use crate::command::{ReplyTo, RoomsRequest};
use crate::conversation::Answered;
use crate::envelope::Accepted;
use crate::guard::Principal;
use crate::ids::SessionId;
use crate::position::{Direction, Epoch, Page, Position, Unrecovered};
use crate::presence::{PresenceDiff, PresenceMode, RosterPage};
use crate::publication::Publication;
use crate::receipts::{Receipt, ReceiptDiff, ReceiptsPage};
use crate::request::Response;
use crate::session::{ResumeToken, Unattached};

/// Why publications were lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// A queue of the node was full, or the member's own outbox.
    Overload,
    /// The broker's feed was cut.
    Feed,
    /// The room's stream has begun anew: what was lost cannot be told.
    Epoch,
    /// What was missed is not kept any more.
    TooOld,
    /// What was missed could not be read in time.
    Unavailable,
}

impl Loss {
    /// Its name on the wire.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Overload => "overload",
            Self::Feed => "feed",
            Self::Epoch => "epoch",
            Self::TooOld => "too_old",
            Self::Unavailable => "unavailable",
        }
    }
}

/// Why an offset was covered without a delivery (G3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SkipReason {
    /// Its time to live was over.
    Expired,
    /// It requires a permission that the member lacks.
    Filtered,
    /// This node cannot read it.
    Unreadable,
    /// A newer one under the same key took its place, for a member that is slow.
    Conflated,
    /// The member acked it before.
    Acked,
    /// It was removed: a newer one took its place in the room, or there were too many.
    Removed,
    /// It is the copy of what was said in the member's own session: its client knows.
    Own,
}

impl SkipReason {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Expired,
        Self::Filtered,
        Self::Unreadable,
        Self::Conflated,
        Self::Acked,
        Self::Removed,
        Self::Own,
    ];

    /// Its name on the wire.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Expired => "expired",
            Self::Filtered => "filtered",
            Self::Unreadable => "unreadable",
            Self::Conflated => "conflated",
            Self::Acked => "acked",
            Self::Removed => "removed",
            Self::Own => "own",
        }
    }
}

/// A set of reasons.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SkipReasons(u8);

impl SkipReasons {
    /// Adds one.
    pub const fn insert(&mut self, reason: SkipReason) {
        self.0 |= 1 << reason as u8;
    }

    /// Those that are in it, in the order of [`SkipReason::ALL`].
    pub fn iter(self) -> impl Iterator<Item = SkipReason> {
        SkipReason::ALL.into_iter().filter(move |reason| self.0 & (1 << *reason as u8) != 0)
    }
}

/// From where, and how, a member hears a room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The position behind which it hears everything; `None`: the room is ephemeral, or the position is not known yet.
    pub position: Option<Position>,
    /// What became of its wish to be told what it missed; `None`: it had none.
    pub recovered: Option<Result<(), Unrecovered>>,
    /// The room is live on this node; else the position follows in another answer.
    pub live: bool,
}

/// How a client gets its session back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResumeOffer {
    /// What it brings.
    pub token: ResumeToken,
    /// How long it may be away. Units: milliseconds.
    pub window_ms: u64,
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
        /// How to get it back; `None`: not at all.
        resume: Option<ResumeOffer>,
        /// What became of the wish to get one back; `None`: there was none.
        resumed: Option<Result<(), Unattached>>,
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
        /// From where.
        entry: Entry,
    },
    /// You hear the room no more.
    Left {
        /// Whose answer it is.
        reply: &'a ReplyTo,
        /// The room.
        room: &'a str,
        /// A back-end ordered it; it is nobody's answer.
        ordered: bool,
    },
    /// The one answer to a request that named several rooms.
    Rooms {
        /// The request.
        request: &'a RoomsRequest,
        /// Why nothing of it was done; `None`: all was.
        refused: Option<&'a Refused>,
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
        /// The command as it came, where it could not be read and the dialect's answer repeats it.
        raw: Option<&'a str>,
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
    /// The same once more, because it was not acked (G15).
    Redelivered(&'a Publication),
    /// Publications were lost: load anew what must not be missed.
    Gap {
        /// The room, and the position behind which delivery goes on; `None`: all ephemeral rooms of the session.
        room: Option<(&'a str, Position)>,
        /// Why.
        loss: Loss,
    },
    /// Offsets of a room were covered without a delivery.
    Skip {
        /// The room.
        room: &'a str,
        /// Its incarnation.
        epoch: Epoch,
        /// The last of them.
        to: u64,
        /// How many: `to` less what was covered before.
        count: u64,
        /// Why.
        reasons: SkipReasons,
    },
    /// The answer to a history request: what of the page the member may read.
    History {
        /// Whose answer it is.
        reply: &'a ReplyTo,
        /// The room.
        room: &'a str,
        /// In which direction it was read.
        direction: Direction,
        /// What was read; entries that the member may not read, or that expired, have been taken out.
        page: &'a Page,
        /// Where the next page begins; `None`: nothing lies beyond.
        next: Option<u64>,
    },
    /// Publications of an inbox were removed before they were acked (G16).
    Lost {
        /// The room.
        room: &'a str,
        /// How many.
        count: u64,
    },
    /// Users came into a room, or left it.
    Presence {
        /// Who.
        diff: &'a PresenceDiff,
        /// What its members are told.
        mode: PresenceMode,
    },
    /// The answer to the question who is in a room.
    Roster {
        /// Whose answer it is.
        reply: &'a ReplyTo,
        /// The room.
        room: &'a str,
        /// Who.
        page: &'a RosterPage,
        /// What its members are told.
        mode: PresenceMode,
    },
    /// The answer to a mark: what stands for it, with the time of the first one that covered it (G17).
    Marked {
        /// Whose answer it is.
        reply: &'a ReplyTo,
        /// The room.
        room: &'a str,
        /// The epoch of the offsets.
        epoch: Epoch,
        /// What was marked; a mark that was not asked for is not there.
        receipt: &'a Receipt,
    },
    /// Users of a room have got, or read, more.
    Receipts(&'a ReceiptDiff),
    /// The answer to the question who has got, and who has read, how much of a room.
    ReceiptsPage {
        /// Whose answer it is.
        reply: &'a ReplyTo,
        /// The room.
        room: &'a str,
        /// Who.
        page: &'a ReceiptsPage,
    },
    /// What is answered about conversations.
    Conversed {
        /// Whose answer it is.
        reply: &'a ReplyTo,
        /// Who asked, as named within the cluster.
        user: &'a str,
        /// What.
        answered: &'a Answered,
        /// The node's time. Units: milliseconds since the Unix epoch.
        unix_ms: u64,
    },
    /// What the application answered to a request.
    Response {
        /// Whose answer it is.
        reply: &'a ReplyTo,
        /// What.
        response: &'a Response,
    },
    /// The node stops: connect elsewhere with this token while this connection still delivers (G14).
    Drain {
        /// How long the client has. Units: milliseconds.
        turn_ms: u64,
        /// What it brings.
        token: ResumeToken,
    },
    /// The broker went away, or is back: until then publications reach this node's members alone.
    Degraded {
        /// It is away.
        isolated: bool,
    },
}
