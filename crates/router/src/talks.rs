//! What is asked of a conversation, carried out step by step: pure, one question after the other. Each question can be
//! asked again, because whatever is written has an id of its own; so the answer is given when all stands, and a node that
//! ends in between leaves nothing that the same request does not complete.

mod finding;
mod grouping;
mod held;
mod inviting;
mod joining;
mod listing;
mod marking;
mod missed;
mod saying;
mod seeing;
mod standing;
mod writing;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use roomcast_protocol::codes::{Refusal, Refused};
use roomcast_protocol::conversation::{self, Act, Answered, Role};
use roomcast_protocol::directory::{DirectoryPage, Entries, EntrySet, SetEntry};
use roomcast_protocol::envelope::Accepted;
use roomcast_protocol::ids::SessionId;
use roomcast_protocol::position::{Direction, Kept, Page, Position, Span};
use roomcast_protocol::publication::Publication;
use roomcast_protocol::receipts::{MarksSet, ReceiptsPage, SetMarks};
use roomcast_protocol::room::RoomName;
use roomcast_protocol::time::Now;

use crate::asked::MemberChange;
use finding::Finding;
use grouping::Grouping;
use inviting::Inviting;
use joining::Joining;
use listing::Listing;
use marking::Marking;
use saying::{Counting, Meant, Speech, Stands, changes};
use seeing::Seeing;
use writing::Writing;

pub use finding::MESSAGES_BYTES_MAX;
pub(crate) use grouping::{cursor_entry, cursors_of, later};
pub(crate) use held::answer as answer_weight;
pub(crate) use joining::NUMBERS;
pub use listing::LIST_BYTES_MAX;
pub(crate) use listing::listed;
pub(crate) use saying::Counted;

/// What a step wants to know of the broker, or done there.
#[derive(Clone, Debug)]
pub(crate) enum Question {
    /// What does a room keep?
    Read(RoomName, Span),
    /// How far have its people got, and read, a conversation? Those behind this one, where it is named.
    Receipts(RoomName, Option<Box<str>>),
    /// Mark it.
    Set(SetMarks),
    /// Publish.
    Publish(Arc<Publication>),
    /// A user has this conversation, and is to find it among its own.
    Enroll(Box<str>, RoomName),
    /// What stands in a directory?
    Entries(RoomName, Entries),
    /// An entry is to stand there.
    Enter(SetEntry),
    /// Which of these users are online?
    Online(Vec<Box<str>>),
}

/// What the broker says to that.
#[derive(Debug)]
pub(crate) enum Heard {
    Page(Option<Page>),
    Receipts(Option<ReceiptsPage>),
    Set(Option<MarksSet>),
    Published(Result<Accepted, Refused>),
    Entries(Option<DirectoryPage>),
    Entered(Option<EntrySet>),
    Online(Option<Vec<Option<u64>>>),
}

/// What comes next.
#[derive(Debug)]
pub(crate) enum Step {
    /// Other questions are under way.
    Wait,
    /// The broker did not answer: ask again after a while.
    Again,
    /// Ask what follows.
    Ask,
    /// It is over.
    Over(Result<Answered, Refused>),
}

/// How far one of several questions is that are asked side by side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Waits,
    UnderWay,
    Done,
}

/// Who asks.
#[derive(Clone, Debug)]
pub(crate) struct Speaker {
    /// The user's name within the cluster.
    pub(crate) user: Box<str>,
    /// In which session.
    pub(crate) said_in: SessionId,
    /// The request's id there; may be empty.
    pub(crate) request: Box<str>,
    /// When it was asked. Units: milliseconds since the Unix epoch.
    pub(crate) at_unix_ms: u64,
}

impl Speaker {
    /// One for whom a node asks by itself.
    pub(crate) fn of_no_session(user: Box<str>, now: Now) -> Self {
        Self { user, said_in: SessionId(0), request: Box::default(), at_unix_ms: now.unix_ms }
    }
}

#[derive(Debug)]
enum Stage {
    /// Is there a group that is called as the other is? Who is in it stands in this directory; then what is asked begins.
    Naming(RoomName, Box<Self>),
    /// A message that is to be amended is looked for.
    Meant(Meant),
    /// Was the message taken back, which is to be changed? It was not up to here.
    Changing(Speech, u64),
    /// The conversation takes what is said.
    Saying(Speech),
    /// It was said before: when?
    First(Speech, Stands),
    /// How far are its people?
    Standing(Speech, Stands),
    /// What has the addressee not read?
    Counting(Counting),
    /// Inboxes take it.
    Writing(Writing),
    Marking(Marking),
    Finding(Finding),
    Listing(Listing),
    /// Who of those that are called is in the group?
    Inviting(Inviting),
    /// In which groups is the user?
    Grouping(Grouping),
    /// Somebody becomes a member of a group, or is none any more.
    Joining(Joining),
    /// Who of the others is online, and when were they?
    Seeing(Seeing),
}

impl Stage {
    /// A question was not answered: it is asked again.
    fn put_back(mut self, place: usize) -> Self {
        match &mut self {
            Self::Writing(writing) => writing.put_back(place),
            Self::Listing(listing) => listing.put_back(place),
            Self::Inviting(inviting) => inviting.put_back(place),
            // Those ask one thing at a time, or look after it themselves.
            Self::Naming(..)
            | Self::Meant(_)
            | Self::Changing(..)
            | Self::Saying(_)
            | Self::First(..)
            | Self::Standing(..)
            | Self::Counting(_)
            | Self::Marking(_)
            | Self::Finding(_)
            | Self::Grouping(_)
            | Self::Joining(_)
            | Self::Seeing(_) => {}
        }
        self
    }
}

/// One thing asked, and how far it got.
#[derive(Debug)]
pub(crate) struct Talking {
    who: Speaker,
    room: RoomName,
    /// The number of the group, if it is one: then its people are not known here.
    group: Option<u32>,
    /// The others: in a dialog one, among favourites nobody.
    others: Vec<Box<str>>,
    /// What was counted when something was said before.
    counted: Option<Counted>,
    stage: Stage,
    #[cfg(feature = "planted")]
    planted: Option<crate::planted::Planted>,
}

impl Talking {
    /// Something is asked of one conversation; `None`: the room is none of the speaker's.
    pub(crate) fn new(who: Speaker, room: RoomName, act: Act) -> Option<Self> {
        let people = conversation::people(&room)?;
        if !people.contains(&who.user) {
            return None;
        }
        let others = people.into_iter().filter(|it| *it != who.user).collect();
        Some(Self::begun(who, room, None, others).on(act))
    }

    /// Something is asked of a group, of which the speaker is a member.
    pub(crate) fn in_group(who: Speaker, (room, number): (RoomName, u32), act: Act) -> Self {
        Self::begun(who, room, Some(number), Vec::new()).on(act)
    }

    fn begun(who: Speaker, room: RoomName, group: Option<u32>, others: Vec<Box<str>>) -> Self {
        let stage = Stage::Writing(Writing::default());
        Self {
            who,
            room,
            group,
            others,
            counted: None,
            stage,
            #[cfg(feature = "planted")]
            planted: None,
        }
    }

    fn on(mut self, act: Act) -> Self {
        self.stage = match act {
            Act::Say(saying) => Stage::Saying(self.speech(saying, None)),
            Act::Amend { of, erases, saying } => Stage::Meant(Meant::new(of, erases, saying)),
            Act::Mark { mark, up_to } => Stage::Marking(Marking::new(mark, up_to, true)),
            Act::Messages { range, count_max } => Stage::Finding(Finding::new(range, count_max)),
            Act::Show => Stage::Listing(Listing::one(self.room.clone())),
            Act::Signal(saying) => Stage::Writing(self.signal(&saying)),
            Act::Tell { to, told, said } if self.group.is_some() && !to.is_empty() => {
                Stage::Inviting(Inviting::new(to, told, said))
            }
            Act::Tell { to, told, said } => {
                let others = self.others.iter();
                self.tell(others.filter(|user| to.is_empty() || to.contains(user)), &told, said)
            }
        };
        self
    }

    /// All conversations of the speaker are asked for, which this room lists, and its groups.
    pub(crate) fn all(who: Speaker, index: RoomName) -> Self {
        let stage = Stage::Listing(Listing::all(index.clone(), grouping::groups_of(&who.user)));
        Self { stage, ..Self::begun(who, index, None, Vec::new()) }
    }

    /// A device of the speaker wants to hear its groups; `None`: the speaker's name is too long to be in any.
    pub(crate) fn groups(who: Speaker, device: Box<str>) -> Option<Self> {
        let room = grouping::groups_of(&who.user)?;
        let stage = Stage::Grouping(Grouping::new(device));
        Some(Self { stage, ..Self::begun(who, room, None, Vec::new()) })
    }

    /// A user is to be this in a group, or none of its members; `None`: one of the names is too long.
    pub(crate) fn member(who: Speaker, change: MemberChange) -> Option<Self> {
        let MemberChange { group, user, role } = change;
        let stage = Stage::Joining(Joining::new(&group, user, role)?);
        Some(Self { stage, ..Self::begun(who, group, None, Vec::new()) })
    }

    /// What a user is in a group is asked; `None`: one of the names is too long.
    pub(crate) fn membership(who: Speaker, group: RoomName, user: Box<str>) -> Option<Self> {
        let stage = Stage::Joining(Joining::read(&group, user)?);
        Some(Self { stage, ..Self::begun(who, group, None, Vec::new()) })
    }

    /// A message has reached the user.
    pub(crate) fn reached(who: Speaker, room: RoomName, at: Position) -> Option<Self> {
        let mut talking = Self::new(who, room, Act::Show)?;
        talking.stage = Stage::Marking(Marking::reached(at));
        Some(talking)
    }

    /// Once it is known that the other is no group, of which the speaker is then none of the members; what is said there would
    /// reach nobody.
    pub(crate) fn unless_it_is_a_group(mut self) -> Self {
        if let [with] = &*self.others
            && let Some(members) = joining::members_of(with)
        {
            self.stage = Stage::Naming(members, Box::new(self.stage));
        }
        self
    }

    /// Whose turns it takes in the conversation, if it marks something there: whoever says something in a dialog has read
    /// what was said before.
    pub(crate) fn marks(&self) -> Option<(RoomName, Box<str>)> {
        let begun = if let Stage::Naming(_, begun) = &self.stage { begun } else { &self.stage };
        let answers = self.other().is_some() && matches!(begun, Stage::Saying(_));
        let marks = answers || matches!(begun, Stage::Marking(_));
        marks.then(|| (self.room.clone(), self.who.user.clone()))
    }

    /// Whether it may show its asker, this user, something of a group's.
    pub(crate) fn shows(&self, group: &RoomName, user: &str) -> bool {
        let lists = matches!(self.stage, Stage::Listing(_)) && self.others.is_empty();
        *self.who.user == *user && (lists || self.group.is_some() && self.room == *group)
    }

    /// The other of a dialog.
    pub(crate) fn other(&self) -> Option<&str> {
        let [with] = &*self.others else { return None };
        Some(with)
    }

    /// Whether a session that begins asks it.
    pub(crate) const fn is_of_a_session(&self) -> bool {
        matches!(self.stage, Stage::Grouping(_))
    }

    /// With a planted bug.
    #[cfg(feature = "planted")]
    pub(crate) fn planted(self, planted: Option<crate::planted::Planted>) -> Self {
        Self { planted, ..self }
    }

    /// With what was counted when something was said in the conversation before, so that it is not read again.
    pub(crate) fn knowing(self, counted: Option<Counted>) -> Self {
        Self { counted, ..self }
    }

    /// What was counted, if it was.
    pub(crate) const fn take_counted(&mut self) -> Option<Counted> {
        self.counted.take()
    }

    /// The conversation.
    pub(crate) const fn room(&self) -> &RoomName {
        &self.room
    }

    /// What is to be asked now, each with its place; what is under way is not asked again.
    pub(crate) fn questions(&mut self) -> Vec<(usize, Question)> {
        let room = || self.room.clone();
        let one = |question| vec![(0, question)];
        match &mut self.stage {
            Stage::Naming(members, _) => one(Question::Entries(
                members.clone(),
                Entries::Behind { after: None, count_max: 1 },
            )),
            Stage::Meant(meant) => one(Question::Read(room(), meant.span())),
            Stage::Changing(_, from) => one(Question::Read(room(), Span::above(*from))),
            Stage::Saying(speech) => one(Question::Publish(Arc::clone(&speech.publication))),
            Stage::First(_, stands) => one(Question::Read(room(), only(stands.position.offset))),
            Stage::Standing(..) => one(Question::Receipts(room(), None)),
            Stage::Counting(counting) => one(Question::Read(room(), counting.span())),
            Stage::Writing(writing) => writing.questions(),
            Stage::Marking(marking) => one(marking.question(&self.room, &self.who.user)),
            Stage::Finding(finding) => one(finding.question(&self.room)),
            Stage::Listing(listing) => listing.questions(),
            Stage::Inviting(inviting) => inviting.questions(&self.room),
            Stage::Grouping(grouping) => one(grouping.question(&self.room, &self.who.user)),
            Stage::Joining(joining) => one(joining.question(&self.room, &self.who)),
            Stage::Seeing(seeing) => seeing.questions(),
        }
    }

    /// The broker says something to a question.
    pub(crate) fn hear(&mut self, place: usize, heard: Heard) -> Step {
        let stage = std::mem::replace(&mut self.stage, Stage::Writing(Writing::default()));
        let (stage, step) = match (stage, heard) {
            (Stage::Naming(_, begun), Heard::Entries(Some(page))) => {
                (*begun, if page.entries.is_empty() { Step::Ask } else { no_member() })
            }
            (Stage::Meant(meant), Heard::Page(Some(page))) => self.is_meant(meant, &page),
            (Stage::Changing(speech, _), Heard::Page(Some(page))) => changes(speech, &page),
            (Stage::Saying(speech), Heard::Published(outcome)) => self.is_said(speech, outcome),
            (Stage::First(speech, stands), Heard::Page(Some(page))) => {
                self.was_first(speech, stands, &page)
            }
            (Stage::Standing(speech, stands), Heard::Receipts(Some(page))) => {
                self.stands(speech, stands, &page)
            }
            (Stage::Counting(counting), Heard::Page(Some(page))) => self.count(counting, &page),
            (Stage::Writing(mut writing), Heard::Published(outcome)) => {
                let step = writing.written(place, &outcome.map(|_| ()));
                (Stage::Writing(writing), step)
            }
            (Stage::Writing(mut writing), Heard::Set(Some(set))) => {
                let step = writing.marked(place, &set);
                (Stage::Writing(writing), step)
            }
            (Stage::Marking(marking), Heard::Receipts(Some(page))) => {
                self.mark_stands(marking, page)
            }
            (Stage::Marking(marking), Heard::Page(Some(page))) => self.mark_read(marking, &page),
            (Stage::Marking(marking), Heard::Set(Some(set))) => self.mark_set(marking, set),
            (Stage::Finding(finding), Heard::Receipts(Some(page))) => {
                (Stage::Finding(finding.stands(&self.who.user, page)), Step::Ask)
            }
            (Stage::Finding(finding), Heard::Page(Some(page))) => self.found(finding, &page),
            (Stage::Listing(listing), Heard::Receipts(Some(page))) => {
                (Stage::Listing(listing.stands(place, &self.who.user, page)), Step::Ask)
            }
            (Stage::Listing(listing), Heard::Page(Some(page))) => {
                self.listed(listing, place, &page)
            }
            (Stage::Listing(listing), Heard::Entries(Some(page))) => {
                self.listed_entries(listing, place, page)
            }
            (Stage::Inviting(inviting), Heard::Entries(Some(page))) => {
                self.is_invited(inviting, place, &page)
            }
            (Stage::Grouping(grouping), Heard::Entries(Some(page))) => {
                let (grouping, step) = grouping.read(page);
                (Stage::Grouping(grouping), step)
            }
            (Stage::Joining(joining), heard) => {
                let (joining, step) = joining.hear(&self.room, heard);
                (Stage::Joining(joining), step)
            }
            (Stage::Seeing(mut seeing), heard) => {
                let step = seeing.hear(place, heard);
                (Stage::Seeing(seeing), step)
            }
            (stage, _) => (stage.put_back(place), Step::Again),
        };
        self.stage = stage;
        step
    }

    /// What comes next where there is nothing to ask.
    pub(crate) fn settled(&mut self) -> Step {
        match &mut self.stage {
            Stage::Writing(writing) => writing.next(),
            Stage::Seeing(seeing) => seeing.next(),
            Stage::Naming(..)
            | Stage::Meant(_)
            | Stage::Changing(..)
            | Stage::Saying(_)
            | Stage::First(..)
            | Stage::Standing(..)
            | Stage::Counting(_)
            | Stage::Marking(_)
            | Stage::Finding(_)
            | Stage::Listing(_)
            | Stage::Inviting(_)
            | Stage::Grouping(_)
            | Stage::Joining(_) => Step::Wait,
        }
    }

    /// The speaker's groups have changed while they were asked for: what was read does not count.
    pub(crate) fn doubt_groups_of(&mut self, user: &str) {
        if let Stage::Grouping(grouping) = &mut self.stage
            && *self.who.user == *user
        {
            grouping.doubt();
        }
    }

    /// Whether nobody else is in it.
    fn is_alone(&self) -> bool {
        self.group.is_none() && self.others.is_empty()
    }

    /// Whether something of it stands already, so that it is completed although nobody waits for the answer.
    pub(crate) const fn must_end(&self) -> bool {
        match &self.stage {
            Stage::First(..) | Stage::Standing(..) | Stage::Counting(_) | Stage::Writing(_) => true,
            Stage::Marking(marking) => marking.is_set(),
            // A member that is half in, or half out, is completed.
            Stage::Joining(joining) => joining.has_begun(),
            Stage::Naming(..)
            | Stage::Meant(_)
            | Stage::Changing(..)
            | Stage::Saying(_)
            | Stage::Finding(_)
            | Stage::Listing(_)
            | Stage::Inviting(_)
            | Stage::Grouping(_)
            | Stage::Seeing(_) => false,
        }
    }

    /// Who may be a member of the group by now, or none any more, and what it is then; `None`: nothing of that has begun.
    pub(crate) fn half_member(&self) -> Option<(&str, Option<Role>)> {
        let Stage::Joining(joining) = &self.stage else { return None };
        joining.has_begun().then(|| joining.wanted())
    }

    /// With whom the speaker talks, as its client names it.
    fn with(&self) -> Box<str> {
        conversation::named(&self.room, &self.who.user).unwrap_or_default()
    }
}

/// The one at this offset.
const fn only(offset: u64) -> Span {
    let span = Span::above(offset.saturating_sub(1));
    Span { count_max: 1, ..span }
}

/// The largest page below an offset.
const fn below(from: u64) -> Span {
    Span { direction: Direction::Backward, ..Span::above(from) }
}

/// What can be read of a page, newest last.
fn readable(page: &Page) -> impl DoubleEndedIterator<Item = (u64, &Arc<Publication>)> {
    page.entries.iter().filter_map(|kept| match kept {
        Kept::Publication(publication) => Some((publication.position?.offset, publication)),
        Kept::Unreadable(_) | Kept::Removed(_) => None,
    })
}

/// The offset of the last entry in the direction of reading, and of the first.
fn ends(page: &Page) -> Option<(u64, u64)> {
    let offset = |kept: &Kept| kept.position().map(|position| position.offset);
    Some((offset(page.entries.first()?)?, offset(page.entries.last()?)?))
}

/// Whether it is something said, and no change of it.
fn is_message(publication: &Publication) -> bool {
    publication.origin.as_ref().is_none_or(|origin| origin.amends.is_none())
}

/// When it was accepted. Units: milliseconds since the Unix epoch.
fn said_at(publication: &Publication) -> u64 {
    publication.origin.as_ref().map_or(0, |origin| origin.at_unix_ms)
}

fn no_member() -> Step {
    let text = "chatId names a group, and you are none of its members: the application says who is";
    Step::Over(Err(Refused::because(Refusal::PermissionDenied, text.into())))
}

fn not_found() -> Refused {
    let text = "There is no such message in the conversation: name one by originalMessageId";
    Refused::because(Refusal::Schema, text.into())
}
