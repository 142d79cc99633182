//! Something is said, changed or taken back: the conversation takes it first, which is the acceptance; then it is counted
//! what its addressee has not read, and the inboxes of all take their copies.

use std::sync::Arc;

use roomcast_protocol::codes::{Refusal, Refused};
use roomcast_protocol::content::Content;
use roomcast_protocol::conversation::{self, Amends, Answered, MessageRef, Origin, Saying};
use roomcast_protocol::envelope::Accepted;
use roomcast_protocol::position::{Page, Position, Span};
use roomcast_protocol::publication::Publication;
use roomcast_protocol::receipts::{Mark, MarkChange, ReceiptsPage, SetMarks};
use roomcast_protocol::room::RoomName;
use roomcast_protocol::time::iso8601;

use super::held;
use super::missed::erased;
use super::standing::Far;
use super::writing::Writing;
use super::{
    Question, Stage, Step, Talking, below, ends, is_message, not_found, only, readable, said_at,
};
use crate::made;

/// A message that is to be amended.
#[derive(Debug)]
pub(super) struct Meant {
    of: MessageRef,
    erases: bool,
    saying: Saying,
    /// Those from here on have been looked at.
    below: u64,
}

impl Meant {
    pub(super) const fn new(of: MessageRef, erases: bool, saying: Saying) -> Self {
        Self { of, erases, saying, below: u64::MAX }
    }

    pub(super) fn asked(&self) -> usize {
        held::saying(&self.saying)
    }

    pub(super) const fn span(&self) -> Span {
        match self.of {
            MessageRef::Offset(offset) => only(offset),
            MessageRef::Id(_) => below(self.below),
        }
    }
}

/// What is said.
#[derive(Debug)]
pub(super) struct Speech {
    pub(super) publication: Arc<Publication>,
    amends: Option<Amends>,
    /// What people are told beside it.
    beside: Vec<Question>,
    /// Its answer is that it is done.
    tells: bool,
}

impl Speech {
    pub(super) fn asked(&self) -> usize {
        held::said(&self.publication) + held::writes(self.beside.iter())
    }
}

/// Where something said stands.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stands {
    pub(super) position: Position,
    /// When it was first accepted. Units: milliseconds since the Unix epoch.
    at_unix_ms: u64,
}

/// What an addressee had not read when something was said: what the next count of the same speaker goes on from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Counted {
    speaker: Box<str>,
    /// How far the addressee had read.
    read: u64,
    /// Up to where it was counted.
    up_to: Position,
    /// Where counting began.
    first: u64,
    unread: u32,
}

impl Counted {
    /// Whether it says more than another one.
    pub(crate) fn is_newer(&self, other: &Self) -> bool {
        self.up_to.epoch != other.up_to.epoch || self.up_to.offset > other.up_to.offset
    }
}

/// What stands in a conversation up to something said is looked through.
#[derive(Debug)]
pub(super) struct Counting {
    speech: Speech,
    stands: Stands,
    /// How far the speaker is.
    mine: Far,
    /// How far the addressee is.
    theirs: Far,
    /// Up to here it was looked at.
    from: u64,
    /// Where counting began; `None`: nothing was looked at.
    first: Option<u64>,
    /// What the addressee has not read.
    unread: u32,
    /// The newest of the addressee's that the speaker has not read: saying something reads it.
    newest: Option<(Position, Box<str>)>,
}

impl Counting {
    pub(super) fn asked(&self) -> usize {
        self.speech.asked()
    }

    pub(super) const fn span(&self) -> Span {
        Span::above(self.from)
    }
}

impl Talking {
    /// What a saying becomes in the conversation.
    pub(super) fn speech(&self, saying: Saying, amends: Option<Amends>) -> Speech {
        let Saying { kind, id, content } = saying;
        let id = id.unwrap_or_else(|| self.made_id(&kind));
        let origin = Origin { amends: amends.clone(), ..self.origin() };
        let publication = Publication {
            id,
            kind,
            origin: Some(Box::new(origin)),
            // A group's room is heard by its members, who get it nowhere else.
            requires_ack: self.group.is_some(),
            ..self.bare(self.room.clone(), content)
        };
        Speech { publication: Arc::new(publication), amends, beside: Vec::new(), tells: false }
    }

    /// What is said in the conversation's room itself: in a group its members hear it there.
    fn origin(&self) -> Origin {
        let said_in = self.group.map(|_| self.who.said_in);
        Origin { said_in, group: self.group, ..Origin::of(self.room.clone(), self.who.at_unix_ms) }
    }

    /// An id for what came without one: the same for the same request of a session.
    fn made_id(&self, kind: &str) -> Box<str> {
        let session = self.who.said_in.0;
        made::id(&format!("{kind}-{session:032x}-{}", self.who.request))
    }

    fn bare(&self, room: RoomName, content: Content) -> Publication {
        Publication {
            timestamp: iso8601(self.who.at_unix_ms).into(),
            sender: self.who.user.clone(),
            ..Publication::bare(room, content)
        }
    }

    /// What only those are told who listen just now.
    pub(super) fn signal(&self, saying: &Saying) -> Writing {
        let others = self.others.iter().filter_map(|user| conversation::inbox(user).ok());
        let group = self.group.map(|_| self.room.clone());
        let signals = others.chain(group).map(|room| {
            let origin = self.origin();
            Question::Publish(Arc::new(Publication {
                id: self.made_id(&saying.kind),
                kind: saying.kind.clone(),
                origin: Some(Box::new(origin)),
                ..self.bare(room, saying.content.clone())
            }))
        });
        Writing::signals(signals.collect())
    }

    /// People of the conversation are told something in their inboxes, and something may be said in it, too.
    pub(super) fn tell<'a>(
        &self,
        users: impl Iterator<Item = &'a Box<str>>,
        told: &Saying,
        said: Option<Saying>,
    ) -> Stage {
        let id = told.id.clone().unwrap_or_else(|| self.made_id(&told.kind));
        let beside = users.filter_map(|user| conversation::inbox(user).ok()).map(|room| {
            let origin =
                Origin { id: id.clone(), ..Origin::of(self.room.clone(), self.who.at_unix_ms) };
            Question::Publish(Arc::new(Publication {
                id: id.clone(),
                kind: told.kind.clone(),
                requires_ack: true,
                origin: Some(Box::new(origin)),
                ..self.bare(room, told.content.clone())
            }))
        });
        let beside: Vec<_> = beside.collect();
        match said {
            Some(saying) => {
                Stage::Saying(Speech { beside, tells: true, ..self.speech(saying, None) })
            }
            None => Stage::Writing(Writing::new(beside, Answered::Done)),
        }
    }

    /// A page shows the message that is meant, or goes by it.
    pub(super) fn is_meant(&self, meant: Meant, page: &Page) -> (Stage, Step) {
        let is_it = |(offset, publication): &(u64, &Arc<Publication>)| match &meant.of {
            MessageRef::Offset(wanted) => offset == wanted,
            MessageRef::Id(id) => {
                is_message(publication)
                    && publication.id == *id
                    && publication.sender == self.who.user
            }
        };
        let Some((offset, found)) = readable(page).rev().find(is_it) else {
            let first = ends(page).map_or(0, |(first, _)| first);
            let more = matches!(meant.of, MessageRef::Id(_)) && !page.whole && first > 1;
            let step = if more { Step::Ask } else { Step::Over(Err(not_found())) };
            return (Stage::Meant(Meant { below: first, ..meant }), step);
        };
        let refused = if !is_message(found) {
            Some(not_found())
        } else if found.sender != self.who.user {
            let text = "Only its author changes or takes back a message";
            Some(Refused::because(Refusal::PermissionDenied, text.into()))
        } else {
            None
        };
        if let Some(refused) = refused {
            return (Stage::Meant(meant), Step::Over(Err(refused)));
        }
        let Meant { erases, mut saying, .. } = meant;
        if erases {
            // Taken back twice it is taken back once.
            saying.id = Some(format!("{}-{offset}", saying.kind).into());
        }
        let amends = Amends { offset, id: found.id.clone(), erases };
        let speech = self.speech(saying, Some(amends));
        let stage = if erases { Stage::Saying(speech) } else { Stage::Changing(speech, offset) };
        (stage, Step::Ask)
    }

    /// The conversation has taken it, or has not.
    pub(super) fn is_said(
        &self,
        speech: Speech,
        outcome: Result<Accepted, Refused>,
    ) -> (Stage, Step) {
        match outcome {
            Ok(Accepted { position: Some(position), again, .. }) => {
                let stands = Stands { position, at_unix_ms: self.who.at_unix_ms };
                if again {
                    return (Stage::First(speech, stands), Step::Ask);
                }
                self.is_placed(speech, stands)
            }
            Ok(Accepted { position: None, .. }) => {
                let text = "Conversations need a room that keeps its publications: see the rule of `dialog-`";
                let refused = Refused::because(Refusal::Unavailable, text.into());
                (Stage::Saying(speech), Step::Over(Err(refused)))
            }
            // Whether it stands is not known: the same is asked again, until the asker is told so.
            Err(refused) if refused.unknown => (Stage::Saying(speech), Step::Again),
            // A call that is kept is over, whatever others say of it then.
            Err(Refused { refusal: Refusal::Duplicate, .. }) if speech.tells => {
                (Stage::Saying(speech), Step::Over(Ok(Answered::Done)))
            }
            Err(refused) => (Stage::Saying(speech), Step::Over(Err(refused))),
        }
    }

    /// The one that was said first under the id is known.
    pub(super) fn was_first(
        &self,
        speech: Speech,
        mut stands: Stands,
        page: &Page,
    ) -> (Stage, Step) {
        let first = readable(page).find(|(offset, _)| *offset == stands.position.offset);
        if let Some((_, first)) = first {
            if first.sender != self.who.user {
                // Another one has said that the call is over, and completes it.
                return (Stage::First(speech, stands), Step::Over(Ok(Answered::Done)));
            }
            if amended(first) != amended(&speech.publication) {
                let text = "clientMessageId was used for something else: give each message and each change its own";
                let refused = Refused::because(Refusal::Duplicate, text.into());
                return (Stage::First(speech, stands), Step::Over(Err(refused)));
            }
            stands.at_unix_ms = said_at(first);
        }
        self.is_placed(speech, stands)
    }

    fn is_placed(&self, speech: Speech, stands: Stands) -> (Stage, Step) {
        if self.group.is_some() {
            return (self.placed(speech, stands, Vec::new()), Step::Ask);
        }
        if speech.amends.is_some() || self.others.is_empty() {
            return (self.copies(speech, stands, 0, None), Step::Ask);
        }
        (Stage::Standing(speech, stands), Step::Ask)
    }

    /// How far its people are is known.
    pub(super) fn stands(
        &mut self,
        speech: Speech,
        stands: Stands,
        page: &ReceiptsPage,
    ) -> (Stage, Step) {
        let mine = Far::of(&self.who.user, &page.receipts);
        let theirs = Far::furthest(&self.others, &page.receipts);
        let counts = |it: &Counted| {
            let before = it.up_to.offset < stands.position.offset;
            let same = it.up_to.epoch == stands.position.epoch && it.read == theirs.read;
            before && same && it.speaker == self.who.user
        };
        let (from, first, unread) = match self.counted.take().filter(counts) {
            Some(counted) => (counted.up_to.offset, Some(counted.first), counted.unread),
            None => (mine.read.min(theirs.read).min(stands.position.offset - 1), None, 0),
        };
        let newest = None;
        let counting = Counting { speech, stands, mine, theirs, from, first, unread, newest };
        (Stage::Counting(counting), Step::Ask)
    }

    /// Another page is looked through.
    pub(super) fn count(&mut self, mut it: Counting, page: &Page) -> (Stage, Step) {
        let up_to = it.stands.position.offset;
        let first = *it.first.get_or_insert(ends(page).map_or(up_to, |(first, _)| first));
        for (offset, publication) in readable(page).filter(|(offset, _)| *offset <= up_to) {
            if !is_message(publication) {
                // What was counted, and taken back since, is not missed.
                let counted = |it: &&Amends| it.offset >= first;
                let unread = erased(publication).filter(counted).map_or(0, |of| of.offset);
                if publication.sender == self.who.user && unread > it.theirs.read {
                    it.unread = it.unread.saturating_sub(1);
                }
                continue;
            }
            if publication.sender == self.who.user {
                it.unread = it.unread.saturating_add(u32::from(offset > it.theirs.read));
            } else if offset > it.mine.read {
                it.newest = publication.position.map(|at| (at, publication.id.clone()));
            }
        }
        let last = ends(page).map_or(up_to, |(_, last)| last);
        if last < up_to && !page.whole {
            it.from = last;
            return (Stage::Counting(it), Step::Ask);
        }
        let Counting { speech, stands, theirs, unread, newest, .. } = it;
        let (speaker, up_to) = (self.who.user.clone(), stands.position);
        self.counted = Some(Counted { speaker, read: theirs.read, up_to, first, unread });
        (self.copies(speech, stands, unread, newest), Step::Ask)
    }

    /// What everybody's inbox takes.
    fn copies(
        &self,
        speech: Speech,
        stands: Stands,
        unread: u32,
        newest: Option<(Position, Box<str>)>,
    ) -> Stage {
        let Speech { publication, amends, .. } = &speech;
        let Stands { position, at_unix_ms } = stands;
        let mut writes = Vec::new();
        // The speaker's own devices hear of it in front of what becomes of it.
        for user in [&self.who.user].into_iter().chain(&self.others) {
            let own = *user == self.who.user;
            let Ok(room) = conversation::inbox(user) else { continue };
            let origin = Origin {
                position: Some(position),
                id: publication.id.clone(),
                unread: (!own && amends.is_none()).then_some(unread),
                said_in: own.then_some(self.who.said_in),
                amends: amends.clone(),
                ..Origin::of(self.room.clone(), at_unix_ms)
            };
            writes.push(Question::Publish(Arc::new(Publication {
                id: format!("{}-{}", position.epoch, position.offset).into(),
                kind: publication.kind.clone(),
                timestamp: iso8601(at_unix_ms).into(),
                requires_ack: true,
                origin: Some(Box::new(origin)),
                ..self.bare(room, publication.content.clone())
            })));
            writes.push(Question::Enroll(user.clone(), self.room.clone()));
        }
        if let Some((at, id)) = newest {
            // Who answers has read what was said before.
            let user = self.who.user.clone();
            let change = MarkChange { user, mark: Mark::Read, offset: position.offset };
            let (room, epoch) = (self.room.clone(), position.epoch);
            writes.push(Question::Set(SetMarks { room, epoch, changes: vec![change] }));
            writes.extend(self.mark_events(Mark::Read, at, &id, at_unix_ms));
        }
        self.placed(speech, stands, writes)
    }

    /// It stands in the conversation: what is still to be written, and the answer then.
    fn placed(&self, speech: Speech, stands: Stands, writes: Vec<Question>) -> Stage {
        let Speech { publication, beside, tells, .. } = speech;
        let Stands { position, at_unix_ms } = stands;
        let id = publication.id.clone();
        let answer =
            if tells { Answered::Done } else { Answered::Said { position, id, at_unix_ms } };
        Stage::Writing(Writing::new(beside.into_iter().chain(writes).collect(), answer))
    }

    /// The author of a message is told that the speaker has got, or read, it and all before it.
    pub(super) fn mark_events(
        &self,
        mark: Mark,
        at: Position,
        id: &str,
        at_unix_ms: u64,
    ) -> impl Iterator<Item = Question> {
        self.others.iter().filter_map(move |user| self.mark_event((mark, user), at, id, at_unix_ms))
    }

    /// The same of one author's message.
    pub(super) fn mark_event(
        &self,
        (mark, author): (Mark, &str),
        at: Position,
        id: &str,
        at_unix_ms: u64,
    ) -> Option<Question> {
        let room = conversation::inbox(author).ok()?;
        let origin = Origin {
            position: Some(at),
            id: id.into(),
            ..Origin::of(self.room.clone(), at_unix_ms)
        };
        // In a group several people mark the same message.
        let whose = self.group.map_or_else(String::new, |_| format!("-{}", self.who.user));
        Some(Question::Publish(Arc::new(Publication {
            id: made::id(&format!("{}-{}-{}{whose}", mark.name(), at.epoch, at.offset)),
            kind: mark.name().into(),
            timestamp: iso8601(at_unix_ms).into(),
            requires_ack: true,
            origin: Some(Box::new(origin)),
            ..self.bare(room, Content::Json("{}".into()))
        })))
    }
}

/// A page behind a message shows whether it was taken back: then nobody changes it any more. What stands in front of that is
/// said again, and answered as at first.
pub(super) fn changes(speech: Speech, page: &Page) -> (Stage, Step) {
    let means = |of: &Amends| {
        // What stood there before all was lost was another message.
        speech.amends.as_ref().is_some_and(|it| (it.offset, &it.id) == (of.offset, &of.id))
    };
    for (_, entry) in readable(page) {
        if (&entry.id, &entry.sender) == (&speech.publication.id, &speech.publication.sender) {
            return (Stage::Saying(speech), Step::Ask);
        }
        if erased(entry).is_some_and(means) {
            let text = "This message was deleted: say a new one";
            let refused = Refused::because(Refusal::Schema, text.into());
            return (Stage::Saying(speech), Step::Over(Err(refused)));
        }
    }
    let stage = match ends(page) {
        Some((_, last)) if !page.whole => Stage::Changing(speech, last),
        Some(_) | None => Stage::Saying(speech),
    };
    (stage, Step::Ask)
}

/// Which message it changes, if it changes one.
fn amended(publication: &Publication) -> Option<u64> {
    publication.origin.as_ref()?.amends.as_ref().map(|amends| amends.offset)
}
