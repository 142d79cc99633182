//! Conversations as one of their people sees them: one, or all that the user has, one after the other.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use roomcast_protocol::content::Content;
use roomcast_protocol::conversation::{self, Answered, Conversation};
use roomcast_protocol::position::{Page, Span};
use roomcast_protocol::publication::Publication;
use roomcast_protocol::receipts::ReceiptsPage;
use roomcast_protocol::room::RoomName;

use super::finding::{Changes, shown};
use super::standing::Far;
use super::{Question, Stage, Step, Talking, below, ends, is_message, readable, said_at};

/// Last messages of one answer's conversations, but for one that is larger alone: those of conversations that were talked in
/// before are left out. Units: bytes.
pub const LIST_BYTES_MAX: usize = 384 << 10;

/// The conversation that is looked at.
#[derive(Debug)]
struct Current {
    standing: ReceiptsPage,
    /// Down to here was looked at.
    at: u64,
    last: Option<Arc<Publication>>,
    changes: Changes,
    unread: u32,
    first_unread: Option<u64>,
}

/// How far looking at conversations got.
#[derive(Debug)]
pub(super) struct Listing {
    one: bool,
    /// What lists them, and up to where it was read; `None`: they are known.
    index: Option<(RoomName, u64)>,
    rooms: VecDeque<RoomName>,
    known: BTreeSet<RoomName>,
    /// Each with when something was last said there. Units: milliseconds since the Unix epoch.
    list: Vec<(u64, Conversation)>,
    /// What the last messages weigh. Units: bytes.
    bytes: usize,
    current: Option<Current>,
}

impl Listing {
    pub(super) fn one(room: RoomName) -> Self {
        let (known, list) = (BTreeSet::new(), Vec::new());
        Self { one: true, index: None, rooms: [room].into(), known, list, bytes: 0, current: None }
    }

    pub(super) fn all(index: RoomName) -> Self {
        let (rooms, known, list) = (VecDeque::new(), BTreeSet::new(), Vec::new());
        let index = Some((index, 0));
        Self { one: false, index, rooms, known, list, bytes: 0, current: None }
    }

    pub(super) fn question(&self) -> Question {
        match (&self.index, self.rooms.front(), &self.current) {
            (Some((index, from)), _, _) => Question::Read(index.clone(), Span::above(*from)),
            (None, Some(room), Some(current)) => Question::Read(room.clone(), below(current.at)),
            (None, Some(room), None) => Question::Receipts(room.clone()),
            (None, None, _) => unreachable!("it is over with the last one"),
        }
    }

    pub(super) fn stands(mut self, standing: ReceiptsPage) -> Self {
        let (last, changes) = (None, Changes::default());
        let (unread, first_unread, at) = (0, None, u64::MAX);
        self.current = Some(Current { standing, at, last, changes, unread, first_unread });
        self
    }

    /// One more; what no answer can hold is left out.
    fn add(&mut self, found: Conversation) {
        let last = found.last.as_ref();
        self.bytes += last.map_or(0, shown);
        self.list.push((last.map_or(0, |last| said_at(&last.said)), found));
        while self.bytes > LIST_BYTES_MAX {
            let mut held: Vec<_> = self.list.iter_mut().filter(|it| it.1.last.is_some()).collect();
            if held.len() < 2 {
                return;
            }
            let Some((_, oldest)) = held.iter_mut().min_by_key(|it| it.0) else { return };
            self.bytes -= oldest.last.take().as_ref().map_or(0, shown);
        }
    }

    fn is_over(&self) -> bool {
        self.index.is_none() && self.rooms.is_empty()
    }
}

impl Talking {
    /// A page of the index, or of the conversation that is looked at.
    pub(super) fn listed(&self, mut it: Listing, page: &Page) -> (Stage, Step) {
        if let Some((index, _)) = it.index.take() {
            self.index_read(&mut it, index, page);
        } else if let (Some(current), Some(room)) = (it.current.take(), it.rooms.front()) {
            let room = room.clone();
            match self.looked_at(current, &room, page) {
                Ok(found) => {
                    it.rooms.pop_front();
                    it.add(found);
                }
                Err(current) => it.current = Some(*current),
            }
        }
        if !it.is_over() {
            return (Stage::Listing(it), Step::Ask);
        }
        let mut list = std::mem::take(&mut it.list);
        list.sort_by_key(|(said_at, _)| std::cmp::Reverse(*said_at));
        let list = list.into_iter().map(|(_, conversation)| conversation).collect();
        let answer = Answered::Conversations { one: it.one, list };
        (Stage::Listing(it), Step::Over(Ok(answer)))
    }

    fn index_read(&self, it: &mut Listing, index: RoomName, page: &Page) {
        for (_, entry) in readable(page) {
            let Content::Text(name) = &entry.content else { continue };
            let Ok(name) = std::str::from_utf8(name) else { continue };
            let Ok(room) = RoomName::parse(name) else { continue };
            let own = conversation::with(&room, &self.who.user).is_some();
            if own && it.known.insert(room.clone()) {
                it.rooms.push_back(room);
            }
        }
        if let Some((_, last)) = ends(page).filter(|_| !page.whole) {
            it.index = Some((index, last));
        }
    }

    /// The conversation as it is, or what is known of it so far.
    fn looked_at(
        &self,
        mut it: Current,
        room: &RoomName,
        page: &Page,
    ) -> Result<Conversation, Box<Current>> {
        let user = &self.who.user;
        let people = conversation::people(room).map_or_else(Vec::new, Vec::from);
        let others: Vec<_> = people.iter().filter(|it| **it != *user).cloned().collect();
        let mine = Far::of(user, &it.standing.receipts);
        let mut read = others.is_empty();
        for (offset, publication) in readable(page).rev() {
            read |= offset <= mine.read;
            if !is_message(publication) {
                if it.last.is_none() {
                    it.changes.see(publication, false);
                    it.changes.keep_newest();
                }
                continue;
            }
            it.last.get_or_insert_with(|| Arc::clone(publication));
            if !read && publication.sender != *user {
                it.unread = it.unread.saturating_add(1);
                it.first_unread = Some(offset);
            }
        }
        let first = ends(page).map_or(0, |(first, _)| first);
        if !page.whole && first > 1 && !(it.last.is_some() && (read || first <= mine.read + 1)) {
            it.at = first;
            return Err(Box::new(it));
        }
        let theirs = Far::furthest(&others, &it.standing.receipts);
        let last = it.last.map(|last| it.changes.fold(&last, (user, mine, theirs)));
        let mut people = people;
        people.dedup();
        Ok(Conversation {
            with: conversation::with(room, user).unwrap_or_default(),
            people,
            last,
            unread: it.unread,
            first_unread: it.first_unread,
        })
    }
}
