//! Messages of a conversation, with later changes folded in: what is read is looked through from the end that is asked for,
//! until there are enough and all that could change them was seen.

use std::collections::BTreeMap;
use std::sync::Arc;

use roomcast_protocol::codes::{Refusal, Refused};
use roomcast_protocol::conversation::{Answered, Message, Range};
use roomcast_protocol::position::{Page, Span};
use roomcast_protocol::publication::Publication;
use roomcast_protocol::receipts::ReceiptsPage;
use roomcast_protocol::room::RoomName;

use super::standing::Far;
use super::{Question, Stage, Step, Talking, below, ends, is_message, readable, said_at};

/// Contents of one answer's messages, but for one that is larger alone; those beyond are asked for by their offsets.
/// Units: bytes.
pub const MESSAGES_BYTES_MAX: usize = 512 << 10;

/// Contents of changes that are held while messages are looked for. Units: bytes.
const EDITS_BYTES_MAX: usize = 4 << 20;

/// Changes that were seen.
#[derive(Debug, Default)]
pub(super) struct Changes {
    edits: BTreeMap<u64, Arc<Publication>>,
    /// When it was taken back. Units: milliseconds since the Unix epoch.
    erased: BTreeMap<u64, u64>,
    bytes: usize,
}

impl Changes {
    /// One is seen; `rising`: older ones were seen before.
    pub(super) fn see(&mut self, publication: &Arc<Publication>, rising: bool) {
        let Some(amends) = publication.origin.as_ref().and_then(|it| it.amends.as_ref()) else {
            return;
        };
        if amends.erases {
            let at = self.erased.entry(amends.offset).or_insert(u64::MAX);
            *at = said_at(publication).min(*at);
        } else if rising || !self.edits.contains_key(&amends.offset) {
            self.bytes += publication.content.len();
            let former = self.edits.insert(amends.offset, Arc::clone(publication));
            self.bytes -= former.map_or(0, |former| former.content.len());
        }
    }

    fn is_full(&self) -> bool {
        self.bytes > EDITS_BYTES_MAX
    }

    /// A message as it is now, for this user: `mine` and `theirs` are how far the user and the others are.
    pub(super) fn fold(
        &self,
        said: &Arc<Publication>,
        (user, mine, theirs): (&str, Far, Far),
    ) -> Message {
        let offset = said.position.map_or(0, |position| position.offset);
        let erased_unix_ms = self.erased.get(&offset).copied();
        let edited = self.edits.get(&offset).filter(|_| erased_unix_ms.is_none()).cloned();
        let far = if *said.sender == *user { theirs } else { mine };
        Message { said: Arc::clone(said), edited, erased_unix_ms, mark: far.mark(offset) }
    }
}

/// How far looking for messages got.
#[derive(Debug)]
pub(super) struct Finding {
    range: Range,
    count_max: usize,
    /// How far the people are; `None`: to be asked.
    standing: Option<ReceiptsPage>,
    /// Up to here, or down to here, was looked at.
    at: u64,
    found: Vec<Arc<Publication>>,
    bytes: usize,
    /// No more fits.
    full: bool,
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
            standing: None,
            at,
            found: Vec::new(),
            bytes: 0,
            full: false,
            changes: Changes::default(),
        }
    }

    const fn rises(&self) -> bool {
        matches!(self.range, Range::From(_))
    }

    pub(super) fn question(&self, room: &RoomName) -> Question {
        if self.standing.is_none() {
            return Question::Receipts(room.clone());
        }
        let span = if self.rises() { Span::above(self.at) } else { below(self.at) };
        Question::Read(room.clone(), span)
    }

    pub(super) fn stands(self, page: ReceiptsPage) -> Self {
        Self { standing: Some(page), ..self }
    }

    fn see(&mut self, offset: u64, publication: &Arc<Publication>) {
        if !is_message(publication) {
            return self.changes.see(publication, self.rises());
        }
        if matches!(self.range, Range::UpTo(last) if offset > last) || self.full {
            return;
        }
        let bytes = self.bytes + publication.content.len();
        if self.found.len() >= self.count_max
            || !self.found.is_empty() && bytes > MESSAGES_BYTES_MAX
        {
            self.full = true;
            return;
        }
        self.bytes = bytes;
        self.found.push(Arc::clone(publication));
        self.full = self.found.len() >= self.count_max;
    }
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
        if it.changes.is_full() {
            let text = "The messages were changed more than one answer can hold: ask for fewer, or for newer ones";
            let refused = Refused::because(Refusal::TooLarge, text.into());
            return (Stage::Finding(it), Step::Over(Err(refused)));
        }
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
        let receipts = it.standing.as_ref().map_or(&[][..], |page| &page.receipts);
        let far = (
            &*self.who.user,
            Far::of(&self.who.user, receipts),
            Far::furthest(&self.others, receipts),
        );
        let mut messages: Vec<_> = it.found.iter().map(|said| it.changes.fold(said, far)).collect();
        if !it.rises() {
            messages.reverse();
        }
        Answered::Messages(messages)
    }
}
