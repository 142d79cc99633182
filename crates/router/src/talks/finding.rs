//! Messages of a conversation, with later changes folded in: what is read is looked through from the end that is asked for,
//! until there are enough and all that could change them was seen.

use std::collections::BTreeMap;
use std::sync::Arc;

use roomcast_protocol::conversation::{Answered, Message, Range};
use roomcast_protocol::position::{Page, Span};
use roomcast_protocol::publication::Publication;
use roomcast_protocol::receipts::ReceiptsPage;
use roomcast_protocol::room::RoomName;

use super::standing::{Far, Standing};
use super::{Question, Stage, Step, Talking, below, ends, held, is_message, readable, said_at};

/// Messages of one answer as [`weight`] has them, but for one that is larger alone; those beyond are asked for by their
/// offsets. Units: bytes.
pub const MESSAGES_BYTES_MAX: usize = 512 << 10;

/// Changes that are held while messages are looked for, but for one that is larger alone; messages for which none are left
/// are asked for by their offsets. Units: bytes, as [`weight`] has them.
const EDITS_BYTES_MAX: usize = 1 << 20;

/// Most bytes that JSON takes for one of a text.
const ESCAPED: usize = 6;

/// What a message, or a change, weighs in an answer. Units: bytes: its content, and its id as long as it can get there.
pub(super) fn weight(said: &Publication) -> usize {
    said.content.len() + ESCAPED * said.id.len()
}

/// What a message weighs with its last change. Units: bytes, as [`weight`] has them.
pub(super) fn shown(message: &Message) -> usize {
    weight(&message.said) + message.edited.as_deref().map_or(0, weight)
}

/// Changes that were seen.
#[derive(Debug, Default)]
pub(super) struct Changes {
    edits: BTreeMap<u64, Arc<Publication>>,
    /// When it was taken back. Units: milliseconds since the Unix epoch.
    erased: BTreeMap<(u64, Box<str>), u64>,
    /// What the edits weigh in an answer. Units: bytes.
    bytes: usize,
    /// What all of it weighs here. Units: bytes.
    pub(super) held: usize,
}

impl Changes {
    /// One is seen; `rising`: older ones were seen before.
    pub(super) fn see(&mut self, publication: &Arc<Publication>, rising: bool) {
        let Some(amends) = publication.origin.as_ref().and_then(|it| it.amends.as_ref()) else {
            return;
        };
        if amends.erases {
            let key = (amends.offset, amends.id.clone());
            let held = &mut self.held;
            let at = self.erased.entry(key).or_insert_with(|| {
                *held += held::ROW_BYTES + amends.id.len();
                u64::MAX
            });
            *at = said_at(publication).min(*at);
        } else if rising || !self.edits.contains_key(&amends.offset) {
            self.bytes += weight(publication);
            self.held += publication.weight();
            let former = self.edits.insert(amends.offset, held::apart(publication));
            self.let_go(former);
        }
    }

    /// Forgets edits of the oldest messages that there are too many of. Up to which message; `None`: there are not.
    fn shed_oldest(&mut self) -> Option<u64> {
        let mut shed = None;
        while self.bytes > EDITS_BYTES_MAX && self.edits.len() > 1 {
            let (offset, edit) = self.edits.pop_first()?;
            self.let_go(Some(edit));
            shed = Some(offset);
        }
        shed
    }

    /// Forgets edits of all but the newest message that has one: whatever is found below is not newer than that.
    pub(super) fn keep_newest(&mut self) {
        while self.edits.len() > 1 {
            let oldest = self.edits.pop_first();
            self.let_go(oldest.map(|(_, edit)| edit));
        }
    }

    /// An edit is held no more.
    fn let_go(&mut self, edit: Option<Arc<Publication>>) {
        let Some(edit) = edit else { return };
        self.bytes -= weight(&edit);
        self.held -= edit.weight();
    }

    fn forget(&mut self, offset: u64) {
        let edit = self.edits.remove(&offset);
        self.let_go(edit);
    }

    fn are_too_many(&self) -> bool {
        self.bytes > EDITS_BYTES_MAX
    }

    /// A message as it is now, for this user: `mine` and `theirs` are how far the user and the others are.
    pub(super) fn fold(
        &self,
        said: &Arc<Publication>,
        (user, mine, theirs): (&str, Far, Far),
    ) -> Message {
        let offset = offset(said);
        let erased_unix_ms = self.erased.get(&(offset, said.id.clone())).copied();
        // What stood there before all was lost was another message.
        let is_meant = |edit: &&Arc<Publication>| {
            let amends = edit.origin.as_ref().and_then(|it| it.amends.as_ref());
            erased_unix_ms.is_none() && amends.is_some_and(|it| it.id == said.id)
        };
        let edited = self.edits.get(&offset).filter(is_meant).cloned();
        let far = if *said.sender == *user { theirs } else { mine };
        Message { said: Arc::clone(said), edited, erased_unix_ms, mark: far.mark(offset) }
    }
}

/// How far looking for messages got.
#[derive(Debug)]
pub(super) struct Finding {
    range: Range,
    count_max: usize,
    /// How far the people are.
    standing: Standing,
    /// Up to here, or down to here, was looked at.
    at: u64,
    found: Vec<Arc<Publication>>,
    /// What they weigh in an answer. Units: bytes.
    bytes: usize,
    /// What they weigh here. Units: bytes.
    held: usize,
    /// No more fits.
    full: bool,
    /// Edits of messages up to here were forgotten.
    shed: u64,
    changes: Changes,
}

impl Finding {
    pub(super) fn new(range: Range, count_max: u32) -> Self {
        let at = match range {
            Range::From(offset) => offset.saturating_sub(1),
            Range::Newest | Range::UpTo(_) => u64::MAX,
        };
        Self {
            range,
            count_max: usize::try_from(count_max).unwrap_or(usize::MAX),
            standing: Standing::new(),
            at,
            found: Vec::new(),
            bytes: 0,
            held: 0,
            full: false,
            shed: 0,
            changes: Changes::default(),
        }
    }

    pub(super) const fn held(&self) -> usize {
        self.standing.held + self.held + self.changes.held
    }

    const fn rises(&self) -> bool {
        matches!(self.range, Range::From(_))
    }

    pub(super) fn question(&self, room: &RoomName) -> Question {
        if !self.standing.known {
            return self.standing.question(room);
        }
        let span = if self.rises() { Span::above(self.at) } else { below(self.at) };
        Question::Read(room.clone(), span)
    }

    pub(super) fn stands(mut self, user: &str, page: ReceiptsPage) -> Self {
        self.standing.read(user, page);
        self
    }

    fn see(&mut self, offset: u64, publication: &Arc<Publication>) {
        if !is_message(publication) {
            if self.wants_change(publication) {
                self.changes.see(publication, self.rises());
            }
            return;
        }
        if matches!(self.range, Range::UpTo(last) if offset > last) || self.full {
            return;
        }
        let bytes = self.bytes + weight(publication);
        if offset <= self.shed && !self.rises()
            || self.found.len() >= self.count_max
            || !self.found.is_empty() && bytes > MESSAGES_BYTES_MAX
        {
            self.full = true;
            return;
        }
        self.bytes = bytes;
        self.held += publication.weight();
        self.found.push(held::apart(publication));
        self.full = self.found.len() >= self.count_max;
    }

    /// Whether a change may be one of a message that is answered.
    fn wants_change(&self, publication: &Publication) -> bool {
        let amends = publication.origin.as_ref().and_then(|it| it.amends.as_ref());
        let Some(of) = amends.map(|amends| amends.offset) else { return false };
        match self.range {
            // What is changed stands in front of its change.
            Range::From(_) => self.found.binary_search_by_key(&of, |it| offset(it)).is_ok(),
            Range::Newest => true,
            Range::UpTo(last) => of <= last,
        }
    }

    /// Holds no more changes than it may: the messages that were asked for last go without an answer.
    fn shed(&mut self) {
        if !self.rises() {
            self.shed = self.changes.shed_oldest().map_or(self.shed, |shed| shed.max(self.shed));
            return;
        }
        while self.changes.are_too_many() && self.found.len() > 1 {
            let Some(last) = self.found.pop() else { return };
            self.held -= last.weight();
            self.changes.forget(offset(&last));
            self.full = true;
        }
    }
}

fn offset(said: &Publication) -> u64 {
    said.position.map_or(0, |position| position.offset)
}

impl Talking {
    /// Another page is looked through.
    pub(super) fn found(&self, mut it: Finding, page: &Page) -> (Stage, Step) {
        let rises = it.rises();
        if rises {
            readable(page).for_each(|(offset, publication)| it.see(offset, publication));
        } else {
            readable(page).rev().for_each(|(offset, publication)| it.see(offset, publication));
        }
        it.shed();
        // Whatever changes the newest ones was seen on the way down to them.
        let seen = it.full && !rises;
        match ends(page) {
            Some((first, last)) if !page.whole && !seen => {
                it.at = if rises { last } else { first };
                (Stage::Finding(it), Step::Ask)
            }
            Some(_) | None => {
                let answer = self.messages(&it);
                (Stage::Finding(it), Step::Over(Ok(answer)))
            }
        }
    }

    fn messages(&self, it: &Finding) -> Answered {
        let (mine, theirs) = self.far(&it.standing);
        let far = (&*self.who.user, mine, theirs);
        let (mut messages, mut bytes) = (Vec::new(), 0);
        for said in &it.found {
            let message = it.changes.fold(said, far);
            bytes += shown(&message);
            if !messages.is_empty() && bytes > MESSAGES_BYTES_MAX {
                break;
            }
            messages.push(message);
        }
        if !it.rises() {
            messages.reverse();
        }
        Answered::Messages(messages)
    }
}
