//! A user has got, or read, what there is up to a message: it is marked, and whoever said it is told once.

use roomcast_protocol::codes::{Refusal, Refused};
use roomcast_protocol::conversation::Answered;
use roomcast_protocol::position::{Epoch, Page, Position, Span};
use roomcast_protocol::publication::Publication;
use roomcast_protocol::receipts::{
    MARK_USERS_MAX, Mark, MarkChange, MarksSet, ReceiptsPage, SetMarks,
};
use roomcast_protocol::room::RoomName;

use super::missed::TakenBack;
use super::standing::{Far, Standing};
use super::writing::Writing;
use super::{Question, Stage, Step, Talking, below, ends, held, is_message, readable};

/// Authors in a group that are told of one mark, those of the newest messages.
const AUTHORS_MAX: usize = 32;

/// How long after a mark it is told once more where it is asked for again: by then nobody comes back from a node that ended,
/// and inboxes may have forgotten that they were told. Units: milliseconds.
pub(super) const REPEATS_MS: u64 = 120_000;

/// Messages that are looked through at once at least: changes of messages stand among them.
const LOOKED_MIN: u32 = 32;

#[derive(Debug)]
enum Phase {
    /// How far is the user?
    Standing,
    /// Which message is the newest up to there?
    Looking,
    /// What will not be read, above this, is counted, from the newest entry down.
    Counting(u64),
    /// It is marked.
    Setting,
}

/// How far marking got.
#[derive(Debug)]
pub(super) struct Marking {
    mark: Mark,
    up_to: Option<u64>,
    /// In which epoch that counts; `None`: in any.
    epoch: Option<Epoch>,
    /// Somebody waits for the answer.
    answers: bool,
    phase: Phase,
    /// How far the user was before.
    standing: Standing,
    mine: Far,
    /// In a group it stands already, maybe of a node that ended before it had told the authors: those are told once more, under
    /// the same ids, whose messages the same mark covered first.
    repeats: bool,
    /// Messages from here on have been looked at.
    below: u64,
    /// The newest position of the conversation.
    head: Position,
    /// What is marked.
    target: u64,
    /// The newest message up to there, whoever said it.
    named: Option<(u64, Box<str>)>,
    /// The newest one that another said, in a group of each author whose messages it is that are marked now. Bounds:
    /// [`AUTHORS_MAX`].
    theirs: Vec<(Box<str>, Position, Box<str>)>,
    /// When it was first marked. Units: milliseconds since the Unix epoch.
    at_unix_ms: u64,
    taken_back: TakenBack,
    unread: u32,
}

impl Marking {
    pub(super) fn new(mark: Mark, up_to: Option<u64>, answers: bool) -> Self {
        Self {
            mark,
            up_to,
            epoch: None,
            answers,
            phase: Phase::Standing,
            standing: Standing::new(),
            mine: Far { delivered: 0, read: 0 },
            repeats: false,
            below: match up_to {
                Some(offset) => offset.saturating_add(1),
                None => u64::MAX,
            },
            head: Position { epoch: Epoch::NONE, offset: 0 },
            target: 0,
            named: None,
            theirs: Vec::new(),
            at_unix_ms: 0,
            taken_back: TakenBack::default(),
            unread: 0,
        }
    }

    /// A message has reached the user; nobody waits for an answer.
    pub(super) fn reached(at: Position) -> Self {
        Self { epoch: Some(at.epoch), ..Self::new(Mark::Delivered, Some(at.offset), false) }
    }

    /// The mark may stand already: all is read by then.
    pub(super) const fn is_set(&self) -> bool {
        matches!(self.phase, Phase::Setting)
    }

    /// What was read weighs, and the events that are made of it.
    pub(super) fn held(&self) -> usize {
        let named = self.named.as_ref().map_or(0, |(_, id)| id.len());
        let events = self.theirs.len() * held::EVENT_BYTES;
        self.standing.held + self.taken_back.held + named + events
    }

    /// Another's message is among those that are marked.
    fn says(&mut self, publication: &Publication) {
        let is_held = self.theirs.iter().any(|(author, ..)| *author == publication.sender);
        if let Some(at) =
            publication.position.filter(|_| !is_held && self.theirs.len() < AUTHORS_MAX)
        {
            self.theirs.push((publication.sender.clone(), at, publication.id.clone()));
        }
    }

    pub(super) fn question(&self, room: &RoomName, user: &str) -> Question {
        match self.phase {
            Phase::Standing => self.standing.question(room),
            Phase::Looking => {
                // Those that are marked now, and no more than that.
                let span = below(self.below);
                let marked = self.below.saturating_sub(self.mine.by(self.mark)).saturating_sub(1);
                let marked = u32::try_from(marked).unwrap_or(u32::MAX);
                let count_max = marked.clamp(LOOKED_MIN, span.count_max);
                let count_max = if self.repeats { span.count_max } else { count_max };
                Question::Read(room.clone(), Span { count_max, ..span })
            }
            Phase::Counting(_) => Question::Read(room.clone(), below(self.below)),
            Phase::Setting => {
                let change = |offset| MarkChange { user: user.into(), mark: self.mark, offset };
                let theirs = self.theirs.iter().map(|(_, at, _)| at.offset);
                // Since when each of them is marked: where nothing is new nothing else is changed.
                let others = theirs.filter(|_| self.repeats);
                let changes = std::iter::once(self.target).chain(others).map(change).collect();
                let (room, epoch) = (room.clone(), self.head.epoch);
                Question::Set(SetMarks { room, epoch, changes })
            }
        }
    }
}

impl Talking {
    /// How far the user is, is known.
    pub(super) fn mark_stands(&self, mut it: Marking, page: ReceiptsPage) -> (Stage, Step) {
        it.standing.read(&self.who.user, page);
        if it.standing.known {
            (it.mine, _) = self.far(&it.standing);
            let before = it.mine.by(it.mark);
            it.repeats = self.group.is_some() && it.up_to.is_some_and(|up_to| up_to <= before);
            if it.repeats {
                // Who has said something behind it was told of that.
                it.below = before.saturating_add(1);
            }
            it.phase = Phase::Looking;
        }
        (Stage::Marking(it), Step::Ask)
    }

    /// A page is looked through: for the message that is marked, or for what is not read.
    pub(super) fn mark_read(&self, it: Marking, page: &Page) -> (Stage, Step) {
        match it.phase {
            Phase::Counting(read) => self.mark_counted(it, read, page),
            Phase::Standing | Phase::Looking | Phase::Setting => self.mark_looked(it, page),
        }
    }

    fn mark_looked(&self, mut it: Marking, page: &Page) -> (Stage, Step) {
        if it.head.offset == 0 {
            it.head = page.head.position;
            it.target = it.up_to.unwrap_or(it.head.offset).min(it.head.offset);
            if it.epoch.is_some_and(|epoch| epoch != it.head.epoch) {
                // What was meant is lost: other messages stand, or will stand, in its place.
                it.target = 0;
            }
        }
        for (offset, publication) in readable(page).rev() {
            if !is_message(publication) || offset > it.target && !it.repeats {
                continue;
            }
            if offset <= it.target {
                it.named.get_or_insert_with(|| (offset, publication.id.clone()));
            }
            if publication.sender != self.who.user {
                it.says(publication);
                if self.group.is_none() {
                    break;
                }
            }
        }
        let first = ends(page).map_or(0, |(first, _)| first);
        // In a group there may be others' messages all the way down to those that were marked before.
        let all = match self.group {
            Some(_) => it.theirs.len() >= AUTHORS_MAX || first <= it.mine.by(it.mark) + 1,
            None => !it.theirs.is_empty(),
        };
        let seen = all && (self.group.is_none() || it.named.is_some());
        if !seen && !self.is_alone() && !page.whole && first > 1 {
            it.below = if all { first.min(it.target.saturating_add(1)) } else { first };
            return (Stage::Marking(it), Step::Ask);
        }
        if it.target == 0 {
            let answer = self.marked_answer(&it);
            return (Stage::Marking(it), Step::Over(Ok(answer)));
        }
        let target = it.target;
        it.theirs.retain(|(_, at, _)| at.offset <= target);
        let read = it.mine.read.max(if it.mark == Mark::Read { it.target } else { 0 });
        if !it.answers || read >= it.head.offset || self.is_alone() {
            it.phase = Phase::Setting;
        } else {
            // Counted in front of the mark: once that stands nothing is read that could take much place.
            (it.phase, it.below) = (Phase::Counting(read), u64::MAX);
        }
        (Stage::Marking(it), Step::Ask)
    }

    /// It is marked, or the conversation has another epoch.
    pub(super) fn mark_set(&self, mut it: Marking, set: MarksSet) -> (Stage, Step) {
        match set {
            MarksSet::Done { marked, .. } => {
                it.at_unix_ms = marked.first().map_or(0, |marked| marked.at_unix_ms);
                if it.repeats {
                    let ends_ms = it.at_unix_ms.saturating_add(REPEATS_MS);
                    let is_new = self.who.at_unix_ms <= ends_ms;
                    let mut since = marked.iter().skip(1).map(|marked| marked.at_unix_ms);
                    it.theirs.retain(|_| since.next() == Some(it.at_unix_ms) && is_new);
                }
                (self.mark_written(&it), Step::Ask)
            }
            MarksSet::Epoch(_) => {
                // Other messages stand there now: they are looked at as if nothing had been asked yet.
                let anew = Marking::new(it.mark, it.up_to, it.answers);
                (Stage::Marking(Marking { epoch: it.epoch, ..anew }), Step::Ask)
            }
            MarksSet::Full => {
                let text = format!(
                    "The conversation has marks of {MARK_USERS_MAX} users, as many as it may"
                );
                let refused = Refused::because(Refusal::Limit, text.into());
                (Stage::Marking(it), Step::Over(Err(refused)))
            }
        }
    }

    fn mark_counted(&self, mut it: Marking, read: u64, page: &Page) -> (Stage, Step) {
        for (offset, entry) in readable(page).rev().filter(|(offset, _)| *offset > read) {
            let is_missed = it.taken_back.is_missed(&self.who.user, offset, entry);
            it.unread = it.unread.saturating_add(u32::from(is_missed));
        }
        match ends(page) {
            Some((first, _)) if !page.whole && first > read + 1 => it.below = first,
            Some(_) | None => it.phase = Phase::Setting,
        }
        (Stage::Marking(it), Step::Ask)
    }

    /// The author is told, unless the user marked more before, or has read it: then it was told of that.
    fn mark_written(&self, it: &Marking) -> Stage {
        let is_read = it.mark == Mark::Delivered && it.target <= it.mine.read;
        let is_newest = (it.repeats || it.target >= it.mine.by(it.mark)) && !is_read;
        #[cfg(feature = "planted")]
        let is_newest = is_newest || self.planted == Some(crate::planted::Planted::MarkToldBack);
        let marked = if it.repeats { 0 } else { it.mine.by(it.mark) };
        let old = match (self.group.is_some(), it.mark) {
            (false, _) => 0,
            (true, Mark::Read) => marked,
            // Who was told that something is read knows that it has arrived.
            (true, Mark::Delivered) => marked.max(it.mine.read),
        };
        let told = it.theirs.iter().filter(|(_, at, _)| is_newest && at.offset > old);
        let events = told.filter_map(|(author, at, id)| {
            self.mark_event((it.mark, author), *at, id, it.at_unix_ms)
        });
        let writing = Writing::new(events.collect(), self.marked_answer(it));
        Stage::Writing(writing.of_what_was_read(it.held()))
    }

    fn marked_answer(&self, it: &Marking) -> Answered {
        let named = it.named.as_ref();
        let offset = it
            .up_to
            .filter(|_| it.target > 0)
            .map_or_else(|| named.map_or(0, |(offset, _)| *offset), |offset| offset.min(it.target));
        Answered::Marked {
            mark: it.mark,
            with: self.with(),
            offset,
            id: named.map_or_else(Box::default, |(_, id)| id.clone()),
            at_unix_ms: if it.at_unix_ms == 0 { self.who.at_unix_ms } else { it.at_unix_ms },
            unread: it.unread,
        }
    }
}
