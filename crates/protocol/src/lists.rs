//! Which conversations a user has, as its own devices are told it unasked: a publication in the user's inbox. Owns how it is
//! recognized, and how much it may weigh.

use bytes::Bytes;

use crate::conversation::{self, Conversation, Origin};
use crate::position::{Epoch, Position};
use crate::publication::Publication;
use crate::room::RoomName;

/// The type of what tells a user its conversations.
pub const LIST: &str = "chats";

/// What it has at most: what has no place there is left out. Units: bytes.
pub const LIST_EVENT_BYTES_MAX: usize = 64 << 10;

/// Writes the conversations of a user in at most [`LIST_EVENT_BYTES_MAX`]; the one of this name is among them.
pub type WriteList = fn(user: &str, list: &[Conversation], about: &str) -> Bytes;

/// What a publication tells of its user's conversations. Nodes alone make such: it has an origin, which is the inbox itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct List {
    /// With which version of the agents' room the user had come that was there when it was told.
    pub since: u64,
}

impl List {
    /// What a publication tells; `None`: something else.
    #[must_use]
    pub fn of(publication: &Publication) -> Option<Self> {
        let origin = publication.origin.as_deref()?;
        let is_list = &*publication.kind == LIST && origin.room == publication.room;
        conversation::owner(&publication.room).filter(|_| is_list)?;
        Some(Self { since: origin.position?.offset })
    }

    /// What makes a publication of this inbox one; `at_unix_ms` is when it is told.
    #[must_use]
    pub fn origin(self, inbox: RoomName, at_unix_ms: u64) -> Origin {
        let position = Some(Position { epoch: Epoch::NONE, offset: self.since });
        Origin { position, ..Origin::of(inbox, at_unix_ms) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::content::Content;

    #[test]
    fn only_what_a_node_told_the_inboxs_owner_is_one() {
        let room = |name: &str| RoomName::parse(name).unwrap();
        let list = List { since: 7 };
        let told = |kind: &str, of: &str, to: &str| Publication {
            kind: kind.into(),
            origin: Some(Box::new(list.origin(room(of), 1))),
            ..Publication::bare(room(to), Content::Json("[]".into()))
        };
        assert_eq!(List::of(&told(LIST, "user-a", "user-a")), Some(list));
        for (kind, of, to) in
            [("new", "user-a", "user-a"), (LIST, "user-b", "user-a"), (LIST, "chat-a", "chat-a")]
        {
            assert_eq!(List::of(&told(kind, of, to)), None, "{kind} {of} {to}");
        }
        let bare = Publication { origin: None, ..told(LIST, "user-a", "user-a") };
        assert_eq!(List::of(&bare), None, "of a back-end");
    }
}
