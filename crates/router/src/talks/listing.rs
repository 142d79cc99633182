//! Conversations as one of their people sees them: one, or all that the user has, some side by side.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use roomcast_protocol::content::Content;
use roomcast_protocol::conversation::{self, Conversation, LISTED_MEMBERS_MAX, Role};
use roomcast_protocol::directory::{DirectoryPage, ENTRIES_PAGE_MAX, Entries};
use roomcast_protocol::position::{Page, Span};
use roomcast_protocol::publication::Publication;
use roomcast_protocol::receipts::ReceiptsPage;
use roomcast_protocol::room::RoomName;

use super::finding::{Changes, shown};
use super::grouping::membership_in;
use super::joining::members_of;
use super::missed::TakenBack;
use super::seeing::Seeing;
use super::standing::Standing;
use super::{Question, Stage, Step, Talking, below, ends, held, is_message, readable, said_at};

/// Last messages of one answer's conversations, but for one that is larger alone: those of conversations that were talked in
/// before are left out. Units: bytes.
pub const LIST_BYTES_MAX: usize = 384 << 10;

/// Members of a group, as far as they are known.
#[derive(Debug, Default)]
struct Members {
    people: Vec<Box<str>>,
    owners: Vec<Box<str>>,
    /// Those behind this one are to be read.
    after: Option<Box<str>>,
    known: bool,
    /// What they weigh. Units: bytes.
    held: usize,
}

/// Conversations of a list that are looked at side by side.
const AT_ONCE: usize = 16;

/// A conversation that is looked at.
#[derive(Debug)]
struct Look {
    room: RoomName,
    members: Members,
    standing: Standing,
    /// Down to here was looked at.
    at: u64,
    last: Option<Arc<Publication>>,
    changes: Changes,
    taken_back: TakenBack,
    unread: u32,
    first_unread: Option<u64>,
    /// It was asked, and not answered yet.
    under_way: bool,
}

impl Look {
    fn at(room: RoomName) -> Self {
        Self {
            room,
            members: Members::default(),
            standing: Standing::new(),
            at: u64::MAX,
            last: None,
            changes: Changes::default(),
            taken_back: TakenBack::default(),
            unread: 0,
            first_unread: None,
            under_way: false,
        }
    }

    fn held(&self) -> usize {
        let last = self.last.as_ref().map_or(0, |last| last.weight());
        self.members.held + self.standing.held + self.changes.held + self.taken_back.held + last
    }

    fn question(&self, one: bool) -> Question {
        let room = &self.room;
        if !self.standing.known {
            return self.standing.question(room);
        }
        if !self.members.known
            && let Some(members) = conversation::group_of(room).and_then(members_of)
        {
            let count_max = if one { ENTRIES_PAGE_MAX } else { LISTED_MEMBERS_MAX };
            let after = self.members.after.clone();
            return Question::Entries(members, Entries::Behind { after, count_max });
        }
        Question::Read(room.clone(), below(self.at))
    }

    /// Members of the group that is looked at.
    fn has_members(&mut self, page: DirectoryPage, one: bool) {
        let members = &mut self.members;
        for (user, value) in page.entries {
            members.held += held::ROW_BYTES + user.len();
            if *value == *Role::Owner.name().as_bytes() {
                members.held += held::ROW_BYTES + user.len();
                members.owners.push(user.clone());
            }
            members.people.push(user);
        }
        members.after = page.next.filter(|_| one);
        members.known = members.after.is_none();
    }
}

/// How far looking at conversations got.
#[derive(Debug)]
pub(super) struct Listing {
    one: bool,
    /// What lists them, and up to where it was read; `None`: they are known.
    index: Option<(RoomName, u64)>,
    /// What names the groups; `None`: they are known.
    groups: Option<RoomName>,
    /// Those that wait.
    rooms: VecDeque<RoomName>,
    known: BTreeSet<RoomName>,
    /// Each with when something was last said there, and its place: of two in one millisecond the one that was listed later
    /// comes first. Units: milliseconds since the Unix epoch.
    list: Vec<((u64, usize), Conversation)>,
    /// What the last messages weigh in an answer. Units: bytes.
    bytes: usize,
    /// What is known weighs here, but for what is looked at. Units: bytes.
    held: usize,
    /// Those that are looked at, by their place. Bounds: [`AT_ONCE`].
    looks: BTreeMap<usize, Look>,
    places: usize,
}

impl Listing {
    pub(super) fn one(room: RoomName) -> Self {
        let mut listing = Self::of(true, None, None);
        listing.rooms.push_back(room);
        listing
    }

    pub(super) fn all(index: RoomName, groups: Option<RoomName>) -> Self {
        Self::of(false, Some((index, 0)), groups)
    }

    fn of(one: bool, index: Option<(RoomName, u64)>, groups: Option<RoomName>) -> Self {
        let (rooms, known, list) = (VecDeque::new(), BTreeSet::new(), Vec::new());
        let (bytes, held, looks, places) = (0, 0, BTreeMap::new(), 0);
        Self { one, index, groups, rooms, known, list, bytes, held, looks, places }
    }

    pub(super) fn held(&self) -> usize {
        self.held + self.looks.values().map(Look::held).sum::<usize>()
    }

    /// What is to be asked now; what is under way is not asked again.
    pub(super) fn questions(&mut self) -> Vec<(usize, Question)> {
        if let Some((index, from)) = &self.index {
            return vec![(0, Question::Read(index.clone(), Span::above(*from)))];
        }
        if let Some(groups) = &self.groups {
            let all = Entries::Behind { after: None, count_max: ENTRIES_PAGE_MAX };
            return vec![(0, Question::Entries(groups.clone(), all))];
        }
        while self.looks.len() < AT_ONCE
            && let Some(room) = self.rooms.pop_front()
        {
            self.looks.insert(self.places, Look::at(room));
            self.places += 1;
        }
        let waiting = self.looks.iter_mut().filter(|(_, look)| !look.under_way);
        waiting
            .map(|(place, look)| {
                look.under_way = true;
                (*place, look.question(self.one))
            })
            .collect()
    }

    /// The broker did not answer this one.
    pub(super) fn put_back(&mut self, place: usize) {
        if let Some(look) = self.looks.get_mut(&place) {
            look.under_way = false;
        }
    }

    pub(super) fn stands(mut self, place: usize, user: &str, page: ReceiptsPage) -> Self {
        if let Some(look) = self.looks.get_mut(&place) {
            look.under_way = false;
            look.standing.read(user, page);
        }
        self
    }

    /// One more; what no answer can hold is left out.
    fn add(&mut self, place: usize, found: Conversation) {
        let last = found.last.as_ref();
        self.bytes += last.map_or(0, shown);
        self.held += held::conversation(&found);
        self.list.push(((last.map_or(0, |last| said_at(&last.said)), place), found));
        while self.bytes > LIST_BYTES_MAX {
            let mut held: Vec<_> = self.list.iter_mut().filter(|it| it.1.last.is_some()).collect();
            if held.len() < 2 {
                return;
            }
            let Some((_, oldest)) = held.iter_mut().min_by_key(|it| it.0) else { return };
            self.held -= held::conversation(oldest);
            self.bytes -= oldest.last.take().as_ref().map_or(0, shown);
            self.held += held::conversation(oldest);
        }
    }

    fn is_over(&self) -> bool {
        let none = self.rooms.is_empty() && self.looks.is_empty();
        none && self.index.is_none() && self.groups.is_none()
    }
}

impl Talking {
    /// A page of the index, or of a conversation that is looked at.
    pub(super) fn listed(&self, mut it: Listing, place: usize, page: &Page) -> (Stage, Step) {
        if let Some((index, _)) = it.index.take() {
            self.index_read(&mut it, index, page);
        } else if let Some(look) = it.looks.remove(&place) {
            match self.looked_at(look, page) {
                Ok(found) => it.add(place, found),
                Err(look) => drop(it.looks.insert(place, *look)),
            }
        }
        self.ends_listing(it)
    }

    /// A page of a directory: the user's groups, or members of one that is looked at.
    pub(super) fn listed_entries(
        &self,
        mut it: Listing,
        place: usize,
        page: DirectoryPage,
    ) -> (Stage, Step) {
        if it.groups.take().is_some() {
            let groups = page.entries.iter().filter_map(|(id, value)| membership_in(id, value));
            for group in groups {
                it.held += held::ROW_BYTES + group.room.as_str().len();
                it.rooms.push_back(group.room);
            }
        } else if let Some(look) = it.looks.get_mut(&place) {
            look.under_way = false;
            look.has_members(page, it.one);
        }
        self.ends_listing(it)
    }

    fn ends_listing(&self, mut it: Listing) -> (Stage, Step) {
        if !it.is_over() {
            return (Stage::Listing(it), Step::Ask);
        }
        let mut list = std::mem::take(&mut it.list);
        list.sort_by_key(|(said_at, _)| std::cmp::Reverse(*said_at));
        let list = list.into_iter().map(|(_, conversation)| conversation).collect();
        (Stage::Seeing(Seeing::new(it.one, list)), Step::Ask)
    }

    fn index_read(&self, it: &mut Listing, index: RoomName, page: &Page) {
        for room in listed(page) {
            let own = conversation::with(&room, &self.who.user).is_some();
            if own && it.known.insert(room.clone()) {
                it.held += 2 * (held::ROW_BYTES + room.as_str().len());
                it.rooms.push_back(room);
            }
        }
        if let Some((_, last)) = ends(page).filter(|_| !page.whole) {
            it.index = Some((index, last));
        }
    }

    /// The conversation as it is, or what is known of it so far.
    fn looked_at(&self, mut it: Look, page: &Page) -> Result<Conversation, Box<Look>> {
        let user = &self.who.user;
        let room = &it.room;
        let group = conversation::group_of(room).is_some();
        let dialog = conversation::people(room).map_or_else(Vec::new, Vec::from);
        let others: Vec<_> = dialog.iter().filter(|it| **it != *user).cloned().collect();
        let (mine, theirs) = it.standing.far(user, &others, group);
        let mut read = others.is_empty() && !group;
        for (offset, publication) in readable(page).rev() {
            read |= offset <= mine.read;
            if !read && it.taken_back.is_missed(user, offset, publication) {
                it.unread = it.unread.saturating_add(1);
                it.first_unread = Some(offset);
            }
            if !is_message(publication) {
                if it.last.is_none() {
                    it.changes.see(publication, false);
                    it.changes.keep_newest();
                }
                continue;
            }
            it.last.get_or_insert_with(|| held::apart(publication));
        }
        let first = ends(page).map_or(0, |(first, _)| first);
        if !page.whole && first > 1 && !(it.last.is_some() && (read || first <= mine.read + 1)) {
            (it.at, it.under_way) = (first, false);
            return Err(Box::new(it));
        }
        let last = it.last.map(|last| it.changes.fold(&last, (user, mine, theirs)));
        let with = conversation::named(room, user).unwrap_or_default();
        let Members { mut people, owners, .. } = it.members;
        people.extend(dialog);
        people.dedup();
        Ok(Conversation {
            with,
            group,
            people,
            owners,
            last,
            unread: it.unread,
            first_unread: it.first_unread,
            online: None,
            seen_unix_ms: None,
        })
    }
}

/// Conversations that a page of a user's list names.
pub(crate) fn listed(page: &Page) -> impl Iterator<Item = RoomName> {
    readable(page).filter_map(|(_, entry)| {
        let Content::Text(name) = &entry.content else { return None };
        RoomName::parse(std::str::from_utf8(name).ok()?).ok()
    })
}
