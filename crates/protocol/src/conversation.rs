//! Conversations: rooms of people. What two say to each other is kept in a dialog's room, and a copy of it in the inbox of
//! each; what is said in a group is kept in the group's room alone, which all its members hear. Owns how such rooms are
//! called, what can be asked of one, and what is answered.

use std::sync::Arc;

use crate::command::ReplyTo;
use crate::content::Content;
use crate::ids::SessionId;
use crate::position::{OFFSET_MAX, Position};
use crate::publication::Publication;
use crate::receipts::Mark;
use crate::room::{BadName, RoomName};

/// What the name of a dialog's room begins with.
pub const DIALOG: &str = "dialog-";

/// What the name of a group's room begins with.
pub const GROUP: &str = "chat-";

/// What the name of a user's own room, its inbox, begins with.
pub const USER: &str = "user-";

/// The type of what a conversation keeps of a call: one for each id, whoever says it.
pub const CALL: &str = "call";

/// Most messages of one answer; the seed's default is [`MESSAGES_DEFAULT`]. Source: `docs/dialects/chat.md`.
pub const MESSAGES_MAX: u32 = 500;

/// Messages of an answer where the client does not say how many.
pub const MESSAGES_DEFAULT: u32 = 300;

/// Members of a group that a list of conversations names; asked for by its name a group names all.
pub const LISTED_MEMBERS_MAX: u32 = 100;

/// The room in which two users talk, whoever of them asks: `dialog-{a}:{b}`, the names sorted, `%` and `:` coded. With
/// oneself alone: one's favourites.
///
/// # Errors
/// [`BadName`]: the two names make no valid name of a room.
pub fn dialog(one: &str, other: &str) -> Result<RoomName, BadName> {
    if one.is_empty() || other.is_empty() {
        return Err(BadName::Empty);
    }
    let (first, second) = if one <= other { (one, other) } else { (other, one) };
    RoomName::parse(&format!("{DIALOG}{}:{}", coded(first), coded(second)))
}

/// The two who talk in a dialog's room, as their names are within the cluster; `None`: it is no such room.
#[must_use]
pub fn people(room: &RoomName) -> Option<[Box<str>; 2]> {
    let (first, second) = room.as_str().strip_prefix(DIALOG)?.split_once(':')?;
    Some([plain(first)?, plain(second)?]).filter(|[first, second]| first <= second)
}

/// With whom this user talks in the room, as its clients name it; `None`: it is no room of this user's.
#[must_use]
pub fn with(room: &RoomName, user: &str) -> Option<Box<str>> {
    let [first, second] = people(room)?;
    match (*first == *user, *second == *user) {
        (true, _) => Some(second),
        (false, true) => Some(first),
        (false, false) => None,
    }
}

/// The room of a group.
///
/// # Errors
/// [`BadName`]: the group's id makes no valid name of a room.
pub fn group(id: &str) -> Result<RoomName, BadName> {
    if id.is_empty() { Err(BadName::Empty) } else { RoomName::parse(&format!("{GROUP}{id}")) }
}

/// Which group's room it is, if it is one.
#[must_use]
pub fn group_of(room: &RoomName) -> Option<&str> {
    room.as_str().strip_prefix(GROUP).filter(|id| !id.is_empty())
}

/// How the user's clients name the conversation: by the other one's name, or the group's id.
#[must_use]
pub fn named(room: &RoomName, user: &str) -> Option<Box<str>> {
    group_of(room).map(Into::into).or_else(|| with(room, user))
}

/// Members of one group.
pub const GROUP_MEMBERS_MAX: u32 = 10_000;

/// Groups of one user.
pub const USER_GROUPS_MAX: u32 = 100;

/// Where the numbers of groups' events begin. Those of a user's own room stay below it, until the year 2109: they begin
/// at the time in milliseconds since the Unix epoch, each time the room's stream begins anew.
const GROUP_EVENTS: u64 = 1 << 42;

/// Numbers of one group's events, as a power of two.
const GROUP_EVENTS_BITS: u32 = 33;

/// The highest number of a group: its events' numbers are exact in clients that count in floating point.
#[allow(clippy::cast_possible_truncation, reason = "2^20 at most")]
pub const GROUP_NUMBER_MAX: u32 = ((OFFSET_MAX + 1 - GROUP_EVENTS) >> GROUP_EVENTS_BITS) as u32 - 1;

/// The highest offset in a group's room whose event has a number: 50 messages a second for 5 years.
pub const GROUP_OFFSET_MAX: u64 = (1 << GROUP_EVENTS_BITS) - 1;

/// Which publication a client means by the number of an event. A stream that begins anew may have offsets once more, and
/// clients pass over events whose numbers they have seen: so where a stream's numbers begin is its epoch's to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventRef {
    /// The one of its user's own room that has this number: its offset behind the time when its epoch began. Numbers of two
    /// epochs differ where the first one had less than one publication a millisecond.
    Own(u64),
    /// The one of the group with this number that has this place in a circle of 2^33: its offset behind a random one.
    Group(u32, u64),
}

impl EventRef {
    /// Which publication of a user's own room, or of a group's, it is; `None`: of neither, or it has no position.
    #[must_use]
    pub fn of(publication: &Publication) -> Option<Self> {
        let Position { epoch, offset } = publication.position?;
        let epoch = publication.put_under.as_deref().copied().unwrap_or(epoch);
        if owner(&publication.room).is_some() {
            let begins = Some(epoch.began_unix_ms()).filter(|ms| *ms < GROUP_EVENTS);
            return Some(Self::Own(begins.unwrap_or(0) + offset));
        }
        let group = publication.origin.as_ref()?.group?;
        #[allow(clippy::cast_possible_truncation, reason = "of its lowest bits")]
        let begins = epoch.0 as u64;
        let place = begins.wrapping_add(offset) & GROUP_OFFSET_MAX;
        (offset <= GROUP_OFFSET_MAX).then_some(Self::Group(group, place))
    }

    /// The number that means it: of all that one client is told no two have the same. `None`: there are no more.
    #[must_use]
    pub fn number(self) -> Option<u64> {
        match self {
            Self::Own(number) => Some(number).filter(|it| *it < GROUP_EVENTS),
            Self::Group(group, place) if group <= GROUP_NUMBER_MAX && place <= GROUP_OFFSET_MAX => {
                Some(GROUP_EVENTS + (u64::from(group) << GROUP_EVENTS_BITS) + place)
            }
            Self::Group(..) => None,
        }
    }

    /// What a number means.
    #[must_use]
    pub fn numbered(number: u64) -> Self {
        let Some(above) = number.checked_sub(GROUP_EVENTS) else { return Self::Own(number) };
        let group = u32::try_from(above >> GROUP_EVENTS_BITS).unwrap_or(u32::MAX);
        Self::Group(group, above & GROUP_OFFSET_MAX)
    }
}

/// What a member is in its group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// It owns the group; what that means is the application's to say.
    Owner,
    /// It is one of its members.
    Member,
}

impl Role {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Owner, Self::Member];

    /// Its name, where it is written.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Owner => "owner",
            Self::Member => "member",
        }
    }

    /// The one of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.name() == name)
    }
}

/// A group, as one of its members has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Membership {
    /// The group's room.
    pub room: RoomName,
    /// What it is there.
    pub role: Role,
    /// The group's number among all. Bounds: at most [`GROUP_NUMBER_MAX`].
    pub number: u32,
    /// All up to there is not the member's to be given: it was said before it came, or its device has acked it.
    pub from: Position,
}

/// A user's own room.
///
/// # Errors
/// [`BadName`]: the user's name makes no valid name of a room.
pub fn inbox(user: &str) -> Result<RoomName, BadName> {
    RoomName::parse(&format!("{USER}{user}"))
}

/// Whose own room it is, if it is one.
#[must_use]
pub fn owner(room: &RoomName) -> Option<&str> {
    room.as_str().strip_prefix(USER)
}

fn coded(name: &str) -> String {
    name.replace('%', "%25").replace(':', "%3A")
}

fn plain(coded: &str) -> Option<Box<str>> {
    if coded.is_empty() || coded.contains(':') {
        return None;
    }
    let mut parts = coded.split('%');
    let mut name = parts.next()?.to_owned();
    for part in parts {
        let (character, rest) = match (part.strip_prefix("25"), part.strip_prefix("3A")) {
            (Some(rest), _) => ('%', rest),
            (None, Some(rest)) => (':', rest),
            (None, None) => return None,
        };
        name.push(character);
        name.push_str(rest);
    }
    Some(name.into())
}

/// Of which publication in another room one is a copy, or what it is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The room: a conversation's.
    pub room: RoomName,
    /// Where it stands there; `None`: nowhere, for it is not kept.
    pub position: Option<Position>,
    /// Its id there, which its sender gave it; may be empty where it has no position.
    pub id: Box<str>,
    /// When it was accepted, or what it tells of happened. Units: milliseconds since the Unix epoch.
    pub at_unix_ms: u64,
    /// Messages of the conversation that the copy's addressee had not read when it was made.
    pub unread: Option<u32>,
    /// In which session it was said, which is not given the copy: its client knows.
    pub said_in: Option<SessionId>,
    /// Which message of the conversation it changes, or takes back.
    pub amends: Option<Amends>,
    /// Said in a group: the group's number among all.
    pub group: Option<u32>,
}

impl Origin {
    /// Nothing beside the room and the time is known.
    #[must_use]
    pub fn of(room: RoomName, at_unix_ms: u64) -> Self {
        Self {
            room,
            position: None,
            id: Box::default(),
            at_unix_ms,
            unread: None,
            said_in: None,
            amends: None,
            group: None,
        }
    }

    /// What it weighs in a queue. Units: bytes.
    #[must_use]
    pub fn weight(&self) -> usize {
        let amended = self.amends.as_ref().map_or(0, |it| it.id.len());
        96 + self.id.len() + self.room.as_str().len() + amended
    }
}

/// Which message is changed, or taken back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Amends {
    /// Where it stands in the conversation.
    pub offset: u64,
    /// Its id there, which its sender gave it.
    pub id: Box<str>,
    /// It is taken back.
    pub erases: bool,
}

/// A conversation is named, and something asked of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Converse {
    /// Where the answer belongs.
    pub reply: ReplyTo,
    /// With whom, as the client names it: another user, or oneself.
    pub with: Box<str>,
    /// What is asked.
    pub act: Act,
}

/// What can be asked of a conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    /// Say something. Answered by [`Answered::Said`].
    Say(Saying),
    /// Change, or take back, what one has said. Answered by [`Answered::Said`], for that is something said as well.
    Amend {
        /// Which message.
        of: MessageRef,
        /// It is taken back.
        erases: bool,
        /// What is said instead; its id may be left out.
        saying: Saying,
    },
    /// I have got, or read, what there is up to a message. Answered by [`Answered::Marked`].
    Mark {
        /// Which.
        mark: Mark,
        /// Up to this offset; `None`: all.
        up_to: Option<u64>,
    },
    /// Show me messages. Answered by [`Answered::Messages`].
    Messages {
        /// Which of them.
        range: Range,
        /// How many at most. Bounds: 1 to [`MESSAGES_MAX`].
        count_max: u32,
    },
    /// Show me the conversation. Answered by [`Answered::Conversations`].
    Show,
    /// Tell the others something that is not kept, and not answered.
    Signal(Saying),
    /// Tell these people something that is not kept in the conversation, but in their inboxes; and say something in the
    /// conversation too, if that is given. Answered by [`Answered::Done`].
    Tell {
        /// Whom, beside the conversation's people: names as clients have them.
        to: Vec<Box<str>>,
        /// What.
        told: Saying,
        /// What is kept of it.
        said: Option<Saying>,
    },
}

/// Something said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Saying {
    /// Its type.
    pub kind: Box<str>,
    /// The client's id for it: said again under it, it is said once (G5). `None`: the node makes one.
    pub id: Option<Box<str>>,
    /// What.
    pub content: Content,
}

/// Which message is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MessageRef {
    /// The one at this offset of the conversation.
    Offset(u64),
    /// The one that the same user said under this id.
    Id(Box<str>),
}

/// Which messages are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Range {
    /// The newest.
    Newest,
    /// The oldest from this offset on, itself included.
    From(u64),
    /// The newest up to this offset, itself included.
    UpTo(u64),
}

/// One message of a conversation, with what became of it.
#[derive(Clone, Debug)]
pub struct Message {
    /// As it was said.
    pub said: Arc<Publication>,
    /// The last change of it by its author.
    pub edited: Option<Arc<Publication>>,
    /// When its author took it back, if so. Units: milliseconds since the Unix epoch.
    pub erased_unix_ms: Option<u64>,
    /// How far it got: for one's own, with the others; for theirs, with oneself. `None`: nowhere yet.
    pub mark: Option<Mark>,
}

/// One conversation, as one of its people sees it.
#[derive(Clone, Debug)]
pub struct Conversation {
    /// With whom, as its clients name it: another user, oneself, or a group.
    pub with: Box<str>,
    /// It is a group.
    pub group: bool,
    /// All its people; of a group in a list the first [`LISTED_MEMBERS_MAX`].
    pub people: Vec<Box<str>>,
    /// Who of a group's members owns it.
    pub owners: Vec<Box<str>>,
    /// The newest message.
    pub last: Option<Message>,
    /// Messages of others that the user has not read.
    pub unread: u32,
    /// The oldest of them. Units: an offset.
    pub first_unread: Option<u64>,
    /// Whether the other one is online; `None`: there is no other one, or several, or nothing was said yet.
    pub online: Option<bool>,
    /// When the other one was online last, if that is known and it is not. Units: milliseconds since the Unix epoch.
    pub seen_unix_ms: Option<u64>,
}

/// What is answered.
#[derive(Clone, Debug)]
pub enum Answered {
    /// It is said, and stands in everybody's inbox.
    Said {
        /// Where it stands in the conversation.
        position: Position,
        /// Under which id it was said.
        id: Box<str>,
        /// When it was first accepted. Units: milliseconds since the Unix epoch.
        at_unix_ms: u64,
    },
    /// It is marked.
    Marked {
        /// Which mark.
        mark: Mark,
        /// With whom the user talks.
        with: Box<str>,
        /// Up to where: what was asked for, at most the newest message; 0: there is none.
        offset: u64,
        /// The id of the message there; empty: there is none.
        id: Box<str>,
        /// When the first mark came that covers it. Units: milliseconds since the Unix epoch.
        at_unix_ms: u64,
        /// Messages of others that are not read.
        unread: u32,
    },
    /// Messages by rising offset.
    Messages(Vec<Message>),
    /// Conversations, the one that was talked in last first; `one`: it was asked for by name.
    Conversations {
        /// A list of one is one.
        one: bool,
        /// Which.
        list: Vec<Conversation>,
    },
    /// The groups of a session's user, and how far its device was in each, where that is known.
    Groups(Vec<(Membership, Option<Position>)>),
    /// Who is in a group was changed, and stands so in the broker.
    Member {
        /// The member's name within the cluster.
        user: Box<str>,
        /// What it is there now; `None`: it is none any more.
        now: Option<Membership>,
        /// What it was before.
        before: Option<Role>,
    },
    /// It is done.
    Done,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::position::Epoch;

    #[track_caller]
    fn check(one: &str, other: &str, name: &str) {
        let room = dialog(one, other).unwrap();
        assert_eq!(room.as_str(), name);
        assert_eq!(dialog(other, one).unwrap(), room);
        let mut sorted = [one, other];
        sorted.sort_unstable();
        assert_eq!(people(&room).unwrap().each_ref().map(|it| &**it), sorted);
        assert_eq!(with(&room, one).as_deref(), Some(other));
        assert_eq!(with(&room, other).as_deref(), Some(one));
        assert_eq!(with(&room, "somebody else"), None);
    }

    #[test]
    fn a_dialogs_room_is_the_same_for_both_and_names_them() {
        check("User1", "User2", "dialog-User1:User2");
        check("b", "a", "dialog-a:b");
        check("a", "a", "dialog-a:a");
        check("gs:1", "a%b", "dialog-a%25b:gs%3A1");
        check("a:b", "a", "dialog-a:a%3Ab");
        check("%3A", ":", "dialog-%253A:%3A");
    }

    #[test]
    fn no_two_pairs_have_one_room() {
        let names = ["a", "b", "a:b", "a%3Ab", "%", ":", "%25", "b:a", ":b", "a:"];
        let mut rooms = std::collections::BTreeSet::new();
        for (at, one) in names.iter().enumerate() {
            for other in names.iter().skip(at) {
                assert!(rooms.insert(dialog(one, other).unwrap()), "{one} and {other}");
            }
        }
    }

    #[test]
    fn a_groups_room_is_called_by_its_id() {
        let room = group("team 1".replace(' ', "-").as_str()).unwrap();
        assert_eq!(room.as_str(), "chat-team-1");
        assert_eq!((group_of(&room), people(&room)), (Some("team-1"), None));
        assert_eq!(named(&room, "anybody").as_deref(), Some("team-1"));
        assert_eq!(named(&dialog("a", "b").unwrap(), "a").as_deref(), Some("b"));
        assert_eq!(group(""), Err(BadName::Empty));
        assert_eq!(group_of(&RoomName::parse("chat-").unwrap()), None);
    }

    #[test]
    fn no_two_events_of_a_client_have_one_number() {
        let events = [
            EventRef::Own(1),
            EventRef::Own(GROUP_EVENTS - 1),
            EventRef::Group(0, 0),
            EventRef::Group(0, GROUP_OFFSET_MAX),
            EventRef::Group(1, 0),
            EventRef::Group(GROUP_NUMBER_MAX, GROUP_OFFSET_MAX),
        ];
        let numbers: Vec<_> = events.iter().map(|event| event.number().unwrap()).collect();
        assert!(numbers.is_sorted_by(|one, other| one < other), "{numbers:?}");
        assert!(numbers.iter().all(|number| *number <= OFFSET_MAX));
        for (event, number) in events.into_iter().zip(numbers) {
            assert_eq!(EventRef::numbered(number), event);
        }
        for none in [
            EventRef::Own(GROUP_EVENTS),
            EventRef::Group(GROUP_NUMBER_MAX + 1, 1),
            EventRef::Group(0, GROUP_OFFSET_MAX + 1),
        ] {
            assert_eq!(none.number(), None);
        }
    }

    #[test]
    fn offsets_that_come_again_in_another_epoch_have_other_numbers() {
        let number = |room: &str, group, epoch, offset| {
            let room = RoomName::parse(room).unwrap();
            let origin = Origin { group, ..Origin::of(room.clone(), 0) };
            let bare = Publication::bare(room, crate::content::Content::Text("".into()));
            let position = Some(Position { epoch, offset });
            EventRef::of(&Publication { origin: Some(Box::new(origin)), position, ..bare })
                .and_then(EventRef::number)
        };
        let began = |ms| Epoch(u128::MAX).begun_at(ms);
        let own = |epoch, offset| number("user-a", None, epoch, offset);
        assert_eq!(own(began(1_700_000_000_000), 3), Some(1_700_000_000_003));
        assert_eq!(own(began(1_700_000_000_500), 1), Some(1_700_000_000_501));
        assert_eq!(own(began(GROUP_EVENTS - 2), 1), Some(GROUP_EVENTS - 1));
        assert_eq!(own(began(GROUP_EVENTS - 2), 2), None);
        assert_eq!(own(began(GROUP_EVENTS), 2), Some(2), "no time that can be");
        let team = |epoch, offset| number("chat-a", Some(1), Epoch(epoch), offset);
        let begin = GROUP_EVENTS + (1 << GROUP_EVENTS_BITS);
        assert_eq!(team(0, 5), Some(begin + 5));
        assert_eq!(team(9 << 33 | 2, 5), Some(begin + 7));
        assert_eq!(team(u128::MAX, 5), Some(begin + 4), "in a circle");
        assert_eq!(team(1, GROUP_OFFSET_MAX), Some(begin));
        assert_eq!(team(1, GROUP_OFFSET_MAX + 1), None);
        assert_eq!(number("chat-a", None, Epoch(0), 5), None, "no member hears it");
    }

    #[test]
    fn what_no_pair_is_called_is_nobodys() {
        for name in [
            "dialog-a",
            "dialog-b:a",
            "dialog-a:",
            "dialog-:b",
            "dialog-a:b:c",
            "dialog-a%41:b",
            "user-a",
        ] {
            assert_eq!(people(&RoomName::parse(name).unwrap()), None, "{name}");
        }
        assert_eq!(dialog("", "a"), Err(BadName::Empty));
        assert_eq!(dialog("a b", "a"), Err(BadName::Character));
        assert_eq!(dialog(&"a".repeat(300), "a"), Err(BadName::TooLong));
    }
}
