//! What a talk holds. Units: bytes. Each stage says it of itself, so that a new one can not be without. What it was asked with
//! is weighed once, with all that is made of that; what it has read is weighed anew with each answer of the broker.

use std::sync::Arc;

use bytes::Bytes;
use roomcast_protocol::content::Content;
use roomcast_protocol::conversation::{Answered, Conversation, Saying};
use roomcast_protocol::publication::Publication;

use super::{Question, Stage, Talking};

/// What a row of a table weighs beside what is called by it.
pub(super) const ROW_BYTES: usize = 64;

/// What a talk weighs beside all that is in it.
const TALK_BYTES: usize = 512;

/// What an event without content weighs at most: three names, and three ids.
pub(super) const EVENT_BYTES: usize = 2_048;

/// Copies of what was said, and what else is written of it, as many times as it weighs without its content; beside that,
/// [`EVENT_BYTES`].
const COPIES: usize = 4;

/// A publication without what was read along with it: an entry of a page is a part of all its bytes, and keeps them as long
/// as it is kept.
pub(super) fn apart(publication: &Arc<Publication>) -> Arc<Publication> {
    let own = |bytes: &Bytes| Bytes::copy_from_slice(bytes);
    let content = match &publication.content {
        Content::Json(bytes) => Content::Json(own(bytes)),
        Content::Text(bytes) => Content::Text(own(bytes)),
        Content::Binary(bytes) => Content::Binary(own(bytes)),
    };
    Arc::new(Publication { content, ..Publication::clone(publication) })
}

/// What names weigh.
pub(super) fn names(names: &[Box<str>]) -> usize {
    names.iter().map(|name| ROW_BYTES + name.len()).sum()
}

/// What a saying weighs with all that is written of it.
pub(super) fn saying(saying: &Saying) -> usize {
    let id = saying.id.as_ref().map_or(0, |id| id.len());
    (COPIES + 1) * (EVENT_BYTES / 2 + saying.kind.len() + id) + saying.content.len()
}

/// What something said weighs with all that is written of it: copies share its content.
pub(super) fn said(publication: &Publication) -> usize {
    publication.weight() + COPIES * bare(publication) + EVENT_BYTES
}

/// What it weighs without its content.
fn bare(publication: &Publication) -> usize {
    publication.weight() - publication.content.len()
}

/// What things that are written weigh: those that tell the same share its content.
pub(super) fn writes<'a>(writes: impl Iterator<Item = &'a Question>) -> usize {
    let (mut sum, mut content) = (0, 0);
    for write in writes {
        sum += match write {
            Question::Publish(publication) => {
                content = publication.content.len().max(content);
                bare(publication)
            }
            Question::Enroll(user, room) => ROW_BYTES + user.len() + room.as_str().len(),
            Question::Set(set) => {
                let users = set.changes.iter().map(|change| ROW_BYTES + change.user.len());
                set.room.as_str().len() + users.sum::<usize>()
            }
            Question::Read(..)
            | Question::Receipts(..)
            | Question::Entries(..)
            | Question::Enter(_)
            | Question::Online(_) => ROW_BYTES,
        };
    }
    sum + content
}

/// What a conversation weighs in a list.
pub(super) fn conversation(it: &Conversation) -> usize {
    let last = it.last.as_ref().map_or(0, |last| {
        last.said.weight() + last.edited.as_ref().map_or(0, |edited| edited.weight())
    });
    2 * ROW_BYTES + it.with.len() + names(&it.people) + names(&it.owners) + last
}

/// What an answer weighs in a queue.
pub(crate) fn answer(answered: &Answered) -> usize {
    match answered {
        Answered::Messages(messages) => {
            let edits = messages.iter().filter_map(|it| it.edited.as_ref());
            edits.chain(messages.iter().map(|it| &it.said)).map(|it| it.weight()).sum()
        }
        Answered::Conversations { list, .. } => list.iter().map(conversation).sum(),
        Answered::Groups(groups) => {
            groups.iter().map(|(it, _)| 2 * ROW_BYTES + it.room.as_str().len()).sum()
        }
        Answered::Said { id, .. } => id.len(),
        Answered::Marked { id, with, .. } => id.len() + with.len(),
        Answered::Member { user, .. } => user.len(),
        Answered::Done => 0,
    }
}

impl Stage {
    fn asked(&self) -> usize {
        match self {
            Self::Naming(members, begun) => members.as_str().len() + begun.asked(),
            Self::Meant(meant) => meant.asked(),
            Self::Saying(speech)
            | Self::Changing(speech, _)
            | Self::First(speech, _)
            | Self::Standing(speech, _) => speech.asked(),
            Self::Counting(counting) => counting.asked(),
            Self::Writing(writing) => writing.asked(),
            Self::Inviting(inviting) => inviting.asked(),
            Self::Joining(_) => 2 * EVENT_BYTES,
            Self::Marking(_)
            | Self::Finding(_)
            | Self::Listing(_)
            | Self::Grouping(_)
            | Self::Seeing(_) => 0,
        }
    }

    fn read(&self) -> usize {
        match self {
            Self::Writing(writing) => writing.read(),
            Self::Marking(marking) => marking.held(),
            Self::Finding(finding) => finding.held(),
            Self::Listing(listing) => listing.held(),
            Self::Grouping(grouping) => grouping.held(),
            Self::Seeing(seeing) => seeing.held(),
            // Those keep no more of what they read than a place, an id or a name, each weighed with what was asked.
            Self::Naming(..)
            | Self::Meant(_)
            | Self::Saying(_)
            | Self::Changing(..)
            | Self::First(..)
            | Self::Standing(..)
            | Self::Counting(_)
            | Self::Inviting(_)
            | Self::Joining(_) => 0,
        }
    }
}

impl Talking {
    /// What it was asked with weighs, and all that is made of it. As it begins; afterwards it may say less.
    pub(crate) fn asked(&self) -> usize {
        let names = self.who.user.len() + self.who.request.len() + self.room.as_str().len();
        TALK_BYTES + names + self.stage.asked()
    }

    /// What it has read and keeps weighs. Never more than before once [`Talking::must_end`].
    pub(crate) fn read(&self) -> usize {
        self.stage.read()
    }
}
