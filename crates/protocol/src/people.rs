//! Who is online, as a user's contacts are told it: a publication in the inbox of each. Owns how it is recognized and which
//! one takes the place of another.

use crate::conversation;
use crate::lists::{LIST, List};
use crate::position::Position;
use crate::publication::Publication;

/// The type of what tells that a user is online.
pub const ONLINE: &str = "online";

/// The type of what tells that a user is not online any more.
pub const OFFLINE: &str = "offline";

/// What a publication tells of a user. Nodes alone make such: it has an origin, which is the user's own room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status<'a> {
    /// The user's name within the cluster.
    pub user: &'a str,
    /// It is online, else it was.
    pub online: bool,
    /// The version of the agents' room with which the user left, or with which it came or its contact did, whichever was
    /// later.
    pub version: Position,
    /// When it was told. Units: milliseconds since the Unix epoch.
    pub at_unix_ms: u64,
}

impl<'a> Status<'a> {
    /// What a publication tells; `None`: something else.
    #[must_use]
    pub fn of(publication: &'a Publication) -> Option<Self> {
        let origin = publication.origin.as_deref()?;
        let user = conversation::owner(&origin.room)?;
        let online = match &*publication.kind {
            ONLINE => true,
            OFFLINE => false,
            _ => return None,
        };
        Some(Self { user, online, version: origin.position?, at_unix_ms: origin.at_unix_ms })
    }
}

/// Of what only the newest counts in an inbox, so that a former one is neither kept nor given again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Newest<'a> {
    /// Whether this user is online.
    Status(&'a str),
    /// The conversations of the inbox's owner.
    List,
}

impl<'a> Newest<'a> {
    /// What a publication tells of; `None`: of something of which all counts.
    #[must_use]
    pub fn of(publication: &'a Publication) -> Option<Self> {
        let status = Status::of(publication).map(|status| Self::Status(status.user));
        status.or_else(|| List::of(publication).map(|_| Self::List))
    }

    /// Under which key an inbox keeps the newest alone.
    #[must_use]
    pub fn key(&self) -> Box<str> {
        match self {
            Self::Status(user) => format!("online-status:{user}").into(),
            Self::List => LIST.into(),
        }
    }
}
