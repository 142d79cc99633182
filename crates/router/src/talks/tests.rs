//! Conversations against a model of the broker that answers at once, does not answer, or answers what it did not hear.
#![allow(clippy::wildcard_enum_match_arm, reason = "each test looks for one kind of many")]

mod bounds;
mod marks;
mod together;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use roomcast_protocol::codes::{Refusal, Refused};
use roomcast_protocol::content::Content;
use roomcast_protocol::conversation::{
    self, Act, Amends, Answered, Conversation, Membership, MessageRef, Origin, Range, Role, Saying,
    dialog, inbox,
};
use roomcast_protocol::directory::{DirectoryPage, Entries, EntrySet, SetEntry};
use roomcast_protocol::envelope::Accepted;
use roomcast_protocol::ids::SessionId;
use roomcast_protocol::position::{Direction, Epoch, Head, Kept, Page, Position};
use roomcast_protocol::publication::{Publication, TEXT_BYTES_MAX};
use roomcast_protocol::receipts::{Mark, Marked, MarksSet, Receipt, ReceiptsPage};
use roomcast_protocol::room::RoomName;

use super::joining::{NUMBERS, numbered_at};
use super::seeing::{SEEN_UNDER_WAY_MAX, Seeing};
use super::{Heard, Question, Speaker, Stage, Step, Talking, cursor_entry, cursors_of};
use crate::asked::MemberChange;
use crate::membership;

/// Each room has one of its own, as epochs are random.
fn epoch(room: &RoomName) -> Epoch {
    Epoch(room.as_str().bytes().fold(7, |sum, byte| sum * 257 % (1 << 100) + u128::from(byte)))
}

/// That of a room that began anew so often.
fn epoch_after(room: &RoomName, renewals: u128) -> Epoch {
    Epoch(epoch(room).0 + renewals)
}

/// Questions of one test: far more than any takes.
const QUESTIONS_MAX: usize = 1_000;

/// Publications of a page, so that few make several.
const PAGE: usize = 3;

/// Up to where, and since when, step by step.
type Steps = Vec<(u64, u64)>;

#[derive(Default)]
struct Model {
    rooms: BTreeMap<RoomName, Vec<Arc<Publication>>>,
    /// By conversation, user and mark.
    marks: BTreeMap<(RoomName, Box<str>, Mark), Steps>,
    enrolled: Vec<(Box<str>, RoomName)>,
    directories: BTreeMap<RoomName, BTreeMap<Box<str>, Bytes>>,
    /// Entries that a directory takes, where that is less than a question says.
    entries_max: Option<usize>,
    online: BTreeSet<Box<str>>,
    now_ms: u64,
    asked: usize,
    /// Which question is not answered: it is not heard, or its answer is lost.
    fails: Option<(usize, bool)>,
    /// In front of which question the node ends that asks: another one is asked the same.
    ends: Option<usize>,
    counted: Option<super::Counted>,
    /// How often all rooms began anew, and before which question they do once more.
    renewals: u128,
    renews: Option<usize>,
    /// The most that one thing asked has read and held.
    held_max: usize,
}

fn refused() -> Refused {
    Refused { unknown: true, ..Refused::new(Refusal::Unavailable) }
}

impl Model {
    fn head(&self, room: &RoomName) -> Position {
        let epoch = epoch_after(room, self.renewals);
        Position { epoch, offset: self.rooms.get(room).map_or(0, Vec::len) as u64 }
    }

    fn publish(&mut self, publication: &Publication) -> Result<Accepted, Refused> {
        assert!(publication.id.len() <= TEXT_BYTES_MAX, "{}", publication.id);
        let held = self.rooms.entry(publication.room.clone()).or_default();
        let is_same =
            |it: &&Arc<Publication>| it.id == publication.id && it.namer() == publication.namer();
        if let Some(first) = held.iter().find(is_same) {
            if first.content != publication.content {
                assert_eq!(&*publication.kind, conversation::CALL, "an id stands for one content");
                return Err(Refusal::Duplicate.into());
            }
            let stored = Accepted::stored(first.position.unwrap());
            return Ok(Accepted { again: true, ..stored });
        }
        let epoch = epoch_after(&publication.room, self.renewals);
        let position = Position { epoch, offset: held.len() as u64 + 1 };
        held.push(Arc::new(Publication { position: Some(position), ..publication.clone() }));
        Ok(Accepted::stored(position))
    }

    fn page(&self, room: &RoomName, span: roomcast_protocol::position::Span) -> Page {
        let none = Vec::new();
        let held = self.rooms.get(room).unwrap_or(&none);
        let offset = |it: &Arc<Publication>| it.position.unwrap().offset;
        let count = PAGE.min(span.count_max as usize);
        let (entries, rest): (Vec<_>, usize) = match span.direction {
            Direction::Forward => {
                let all: Vec<_> = held.iter().filter(|it| offset(it) > span.from).collect();
                (all.iter().take(count).map(|it| Arc::clone(it)).collect(), all.len())
            }
            Direction::Backward => {
                let all: Vec<_> = held.iter().filter(|it| offset(it) < span.from).collect();
                let skipped = all.len().saturating_sub(count);
                (all.iter().skip(skipped).map(|it| Arc::clone(it)).collect(), all.len())
            }
        };
        let whole = entries.len() == rest;
        let head = Head { position: self.head(room), first: 1 };
        Page { head, entries: entries.into_iter().map(Kept::Publication).collect(), whole }
    }

    fn receipts(&self, room: &RoomName) -> ReceiptsPage {
        let mut receipts: BTreeMap<Box<str>, Receipt> = BTreeMap::new();
        for ((of, user, mark), steps) in &self.marks {
            if of != room {
                continue;
            }
            let it = receipts.entry(user.clone()).or_insert_with(|| Receipt {
                user: user.clone(),
                delivered: None,
                read: None,
            });
            let marked =
                steps.last().map(|(offset, at)| Marked { offset: *offset, at_unix_ms: *at });
            match mark {
                Mark::Delivered => it.delivered = marked,
                Mark::Read => it.read = marked,
            }
        }
        let receipts = receipts.into_values().collect();
        ReceiptsPage { head: self.head(room), version: 1, receipts, next: None }
    }

    fn set(&mut self, set: &roomcast_protocol::receipts::SetMarks) -> MarksSet {
        let head = self.head(&set.room);
        if set.epoch != head.epoch {
            return MarksSet::Epoch(head);
        }
        let mut marked = Vec::new();
        for change in &set.changes {
            let offset = change.offset.min(head.offset);
            let marks: &[Mark] = match change.mark {
                Mark::Delivered => &[Mark::Delivered],
                Mark::Read => &[Mark::Delivered, Mark::Read],
            };
            for mark in marks {
                let steps =
                    self.marks.entry((set.room.clone(), change.user.clone(), *mark)).or_default();
                if steps.last().is_none_or(|(held, _)| *held < offset) {
                    steps.push((offset, self.now_ms));
                }
            }
            let steps = &self.marks[&(set.room.clone(), change.user.clone(), change.mark)];
            let at_unix_ms = steps.iter().find(|(held, _)| *held >= offset).unwrap().1;
            marked.push(Marked { offset, at_unix_ms });
        }
        MarksSet::Done { head, marked }
    }

    fn entries(&self, directory: &RoomName, entries: Entries) -> DirectoryPage {
        let none = BTreeMap::new();
        let held = self.directories.get(directory).unwrap_or(&none);
        let (after, count, one) = match entries {
            Entries::One(name) => (None, 1, Some(name)),
            Entries::Behind { after, count_max } => (after, PAGE.min(count_max as usize), None),
        };
        let is_meant = |name: &str| {
            one.as_ref().is_none_or(|one| **one == *name)
                && after.as_ref().is_none_or(|after| *name > **after)
        };
        let all: Vec<_> = held.iter().filter(|(name, _)| is_meant(name)).collect();
        let shown = all.iter().take(count).map(|(name, value)| ((*name).clone(), (*value).clone()));
        let entries: Vec<_> = shown.collect();
        let next = entries.last().map(|(name, _)| name.clone()).filter(|_| all.len() > count);
        DirectoryPage { entries, total: u32::try_from(held.len()).unwrap(), next }
    }

    fn enter(&mut self, set: SetEntry) -> EntrySet {
        let max = self.entries_max.unwrap_or(usize::MAX).min(set.entries_max as usize);
        let held = self.directories.entry(set.directory).or_default();
        let is_new = !held.contains_key(&set.name);
        let before = match set.value {
            Some(_) if is_new && held.len() >= max => return EntrySet::Full,
            Some(value) => held.insert(set.name, value),
            None => held.remove(&set.name),
        };
        EntrySet::Done { before, entries: u32::try_from(held.len()).unwrap() }
    }

    fn answer(&mut self, question: Question) -> Heard {
        self.asked += 1;
        if self.renews == Some(self.asked) {
            self.begin_anew();
        }
        let fails = self.fails.filter(|(at, _)| *at == self.asked).map(|(_, heard)| heard);
        let unheard = fails == Some(false);
        let lost = |heard: Heard| match heard {
            Heard::Page(_) => Heard::Page(None),
            Heard::Receipts(_) => Heard::Receipts(None),
            Heard::Set(_) => Heard::Set(None),
            Heard::Published(_) => Heard::Published(Err(refused())),
            Heard::Entries(_) => Heard::Entries(None),
            Heard::Entered(_) => Heard::Entered(None),
            Heard::Online(_) => Heard::Online(None),
        };
        let heard = match question {
            Question::Publish(_) | Question::Enroll(..) if unheard => {
                Heard::Published(Err(refused()))
            }
            Question::Set(_) if unheard => Heard::Set(None),
            Question::Enter(_) if unheard => Heard::Entered(None),
            Question::Entries(directory, entries) => {
                Heard::Entries(Some(self.entries(&directory, entries)))
            }
            Question::Enter(set) => Heard::Entered(Some(self.enter(set))),
            Question::Read(room, span) => Heard::Page(Some(self.page(&room, span))),
            Question::Receipts(room, _) => Heard::Receipts(Some(self.receipts(&room))),
            Question::Online(users) => {
                let since = |user| self.online.contains(user).then_some(1);
                Heard::Online(Some(users.iter().map(since).collect()))
            }
            Question::Set(set) => Heard::Set(Some(self.set(&set))),
            Question::Publish(publication) => Heard::Published(self.publish(&publication)),
            Question::Enroll(user, room) => {
                if !self.enrolled.contains(&(user.clone(), room.clone())) {
                    self.enrolled.push((user, room));
                }
                Heard::Published(Ok(Accepted::WHOLE))
            }
        };
        if fails.is_some() { lost(heard) } else { heard }
    }

    fn run(&mut self, mut talking: Talking) -> Result<Answered, Refused> {
        let (mut left, asked) = (QUESTIONS_MAX, talking.asked());
        loop {
            let questions = talking.questions();
            if questions.is_empty()
                && let Step::Over(outcome) = talking.settled()
            {
                return outcome;
            }
            assert!(!questions.is_empty(), "it neither asks nor ends");
            for (place, question) in questions {
                left = left.checked_sub(1).expect("it ends");
                let heard = self.answer(question);
                let (stood, read) = (talking.must_end(), talking.read());
                let step = talking.hear(place, heard);
                assert!(!stood || talking.read() <= read, "what stands reads no more");
                self.held_max = talking.read().max(self.held_max);
                if let Stage::Writing(writing) = &talking.stage {
                    let written = writing.asked();
                    assert!(written <= asked + talking.read(), "{written} of {asked}: {talking:?}");
                }
                if let Step::Over(outcome) = step {
                    self.counted = talking.take_counted().or(self.counted.take());
                    return outcome;
                }
            }
        }
    }

    #[allow(clippy::needless_pass_by_value, reason = "what is asked is written where it is asked")]
    fn act(&mut self, user: &str, with: &str, act: Act) -> Result<Answered, Refused> {
        self.now_ms += 10;
        let who = self.speaker(user);
        self.asks(|| Talking::new(who.clone(), dialog(user, with).unwrap(), act.clone()).unwrap())
    }

    /// Asks a node, and another one if that ends meanwhile.
    fn asks(&mut self, talking: impl Fn() -> Talking) -> Result<Answered, Refused> {
        if let Some(at) = self.ends.filter(|at| *at > self.asked) {
            let mut first = talking().knowing(self.counted.clone());
            while let questions = first.questions()
                && !questions.is_empty()
            {
                for (place, question) in questions {
                    if self.asked + 1 == at {
                        self.ends = None;
                        self.counted = None;
                        return self.run(talking());
                    }
                    let heard = self.answer(question);
                    if let Step::Over(outcome) = first.hear(place, heard) {
                        self.counted = first.take_counted().or(self.counted.take());
                        return outcome;
                    }
                }
            }
            return match first.settled() {
                Step::Over(outcome) => outcome,
                other => panic!("it neither asks nor ends: {other:?}"),
            };
        }
        self.run(talking().knowing(self.counted.clone()))
    }

    #[allow(clippy::needless_pass_by_value, reason = "what is asked is written where it is asked")]
    fn in_group(&mut self, user: &str, group: &str, act: Act) -> Result<Answered, Refused> {
        self.now_ms += 10;
        let (who, room) = (self.speaker(user), conversation::group(group).unwrap());
        self.asks(|| Talking::in_group(who.clone(), (room.clone(), 1), act.clone()))
    }

    fn member(&mut self, group: &str, user: &str, role: Option<Role>) -> Result<Answered, Refused> {
        self.now_ms += 10;
        let room = conversation::group(group).unwrap();
        let change = MemberChange { group: room, user: user.into(), role };
        self.run(Talking::member(self.speaker("node"), change).unwrap())
    }

    /// The groups of a user's device, each with its number, from where it hears, and how far it was.
    fn groups(&mut self, user: &str, device: &str) -> Vec<String> {
        let talking = Talking::groups(self.speaker(user), device.into()).unwrap();
        match self.run(talking).unwrap() {
            Answered::Groups(groups) => groups.iter().map(shown).collect(),
            other => panic!("{other:?}"),
        }
    }

    fn speaker(&self, user: &str) -> Speaker {
        let said_in = SessionId(u128::from(user.len() as u64));
        let request = format!("r{}", self.now_ms).into();
        Speaker { user: user.into(), said_in, request, at_unix_ms: self.now_ms }
    }

    /// All is lost.
    fn begin_anew(&mut self) {
        self.rooms.clear();
        self.marks.clear();
        self.renewals += 1;
    }

    fn says(&mut self, user: &str, with: &str, id: &str) -> u64 {
        match self.act(user, with, Act::Say(saying("new", Some(id), id))).unwrap() {
            Answered::Said { position, .. } => position.offset,
            other => panic!("{other:?}"),
        }
    }

    fn marks(&mut self, user: &str, with: &str, mark: Mark, up_to: Option<u64>) -> String {
        match self.act(user, with, Act::Mark { mark, up_to }).unwrap() {
            Answered::Marked { mark, with, offset, id, at_unix_ms, unread } => {
                format!("{} {with} {offset} {id} {at_unix_ms} {unread}", mark.name())
            }
            other => panic!("{other:?}"),
        }
    }

    /// What stands in a user's inbox, each with what it tells.
    fn heard(&self, user: &str) -> Vec<String> {
        let held = self.rooms.get(&inbox(user).unwrap()).into_iter().flatten();
        let shown = held.map(|it| {
            let origin = it.origin.as_ref().unwrap();
            let at = origin.position.map_or(0, |at| at.offset);
            let unread = origin.unread.map_or(String::new(), |unread| format!(" unread {unread}"));
            let amends = origin.amends.as_ref();
            let amends = amends.map_or(String::new(), |it| format!(" of {} {}", it.offset, it.id));
            let own = if origin.said_in.is_some() { " own" } else { "" };
            format!("{} {at} {}{amends}{unread}{own}", it.kind, origin.id)
        });
        shown.collect()
    }
}

fn shown((it, place): &(Membership, Option<Position>)) -> String {
    let place = place.map(|place| format!(" at {}", place.offset)).unwrap_or_default();
    // Numbers begin where the epoch of their room says.
    let begin = Position { epoch: epoch(&RoomName::system(NUMBERS).unwrap()), offset: 0 };
    let number = it.number - numbered_at(begin).unwrap();
    format!("{} {} {number} from {}{place}", it.room, it.role.name(), it.from.offset)
}

fn saying(kind: &str, id: Option<&str>, text: &str) -> Saying {
    let content = Content::Json(format!(r#"{{"message":"{text}"}}"#).into());
    Saying { kind: kind.into(), id: id.map(Into::into), content }
}

fn messages(answered: &Answered) -> Vec<String> {
    let Answered::Messages(messages) = answered else { panic!("{answered:?}") };
    let shown = messages.iter().map(|it| {
        let at = it.said.position.unwrap().offset;
        let edited = it.edited.as_ref().map_or(String::new(), |edit| format!(" now {}", edit.id));
        let erased = it.erased_unix_ms.map_or(String::new(), |at| format!(" erased {at}"));
        let mark = it.mark.map_or("", Mark::name);
        format!("{at} {} {mark}{edited}{erased}", it.said.id)
    });
    shown.collect()
}

#[test]
fn what_is_said_stands_in_the_conversation_and_in_both_inboxes() {
    let mut model = Model::default();
    assert_eq!(model.says("ann", "bob", "a1"), 1);
    assert_eq!(model.says("ann", "bob", "a2"), 2);
    assert_eq!(model.heard("bob"), ["new 1 a1 unread 1", "new 2 a2 unread 2"]);
    assert_eq!(model.heard("ann"), ["new 1 a1 own", "new 2 a2 own"]);
    assert_eq!(model.says("bob", "ann", "b1"), 3);
    assert_eq!(model.heard("ann")[2..], ["new 3 b1 unread 1", "read 2 a2"], "who answers has read");
    assert_eq!(model.enrolled.len(), 2);
}

#[test]
fn what_was_counted_before_is_not_read_again_and_counts_what_a_reader_left() {
    let mut model = Model::default();
    for at in 1..=20 {
        model.says("ann", "bob", &format!("a{at}"));
    }
    let asked = model.asked;
    model.says("ann", "bob", "a21");
    let with = model.asked - asked;
    assert_eq!(model.heard("bob")[20], "new 21 a21 unread 21");
    let asked = model.asked;
    model.counted = None;
    model.says("ann", "bob", "a22");
    assert!(model.asked - asked > with + 5, "{with} questions, and {}", model.asked - asked);
    assert_eq!(model.heard("bob")[21], "new 22 a22 unread 22");
    model.marks("bob", "ann", Mark::Read, Some(20));
    model.says("ann", "bob", "a23");
    assert_eq!(model.heard("bob")[22], "new 23 a23 unread 3");
    model.says("bob", "ann", "b24");
    model.says("ann", "bob", "a25");
    let told = ["new 25 a25 unread 1", "read 24 b24"];
    assert_eq!(model.heard("bob").split_off(24), told, "who answers has read");
}

#[test]
fn said_again_under_its_id_it_is_said_once_and_answered_as_at_first() {
    let mut model = Model::default();
    let act = || Act::Say(saying("new", Some("a1"), "a1"));
    let first = format!("{:?}", model.act("ann", "bob", act()).unwrap());
    assert_eq!(format!("{:?}", model.act("ann", "bob", act()).unwrap()), first);
    assert_eq!(model.heard("bob").len(), 1);
    let other = model.act("ann", "cleo", act()).unwrap();
    assert!(matches!(other, Answered::Said { .. }), "an id counts in one conversation");
}

#[test]
fn marks_are_cumulative_and_the_first_time_stays_and_the_author_is_told_once() {
    let mut model = Model::default();
    for id in ["a1", "a2", "a3"] {
        model.says("ann", "bob", id);
    }
    let own = model.heard("ann").len();
    assert_eq!(model.marks("bob", "ann", Mark::Read, Some(2)), "read ann 2 a2 40 1");
    assert_eq!(model.marks("bob", "ann", Mark::Read, Some(2)), "read ann 2 a2 40 1");
    assert_eq!(model.marks("bob", "ann", Mark::Read, Some(1)), "read ann 1 a1 40 1");
    assert_eq!(model.marks("bob", "ann", Mark::Delivered, Some(2)), "delivered ann 2 a2 40 1");
    assert_eq!(model.marks("bob", "ann", Mark::Read, None), "read ann 3 a3 80 0");
    assert_eq!(model.marks("bob", "ann", Mark::Read, Some(99)), "read ann 3 a3 80 0");
    let told: Vec<_> = model.heard("ann").split_off(own);
    assert_eq!(
        told,
        ["read 2 a2", "read 3 a3"],
        "what is read is not told as delivered behind that"
    );
    assert_eq!(model.heard("bob").len(), 3, "who marks is told nothing");
}

#[test]
fn only_the_author_changes_or_takes_back_and_both_are_told() {
    let mut model = Model::default();
    model.says("ann", "bob", "a1");
    model.says("bob", "ann", "b1");
    let edit = |of| Act::Amend { of, erases: false, saying: saying("edit", Some("e1"), "better") };
    let erase = |of| Act::Amend { of, erases: true, saying: saying("delete", None, "") };
    for of in [MessageRef::Offset(2), MessageRef::Offset(3), MessageRef::Id("b1".into())] {
        model.act("ann", "bob", edit(of.clone())).unwrap_err();
        model.act("ann", "bob", erase(of)).unwrap_err();
    }
    model.act("ann", "bob", edit(MessageRef::Id("a1".into()))).unwrap();
    let first = format!("{:?}", model.act("ann", "bob", erase(MessageRef::Offset(1))).unwrap());
    let again = format!("{:?}", model.act("ann", "bob", erase(MessageRef::Offset(1))).unwrap());
    assert_eq!(first, again);
    let told = ["edit 3 e1 of 1 a1", "delete 4 delete-1 of 1 a1"];
    let bob = model.heard("bob");
    assert_eq!(bob[bob.len() - 2..], told);
    model.act("ann", "bob", edit(MessageRef::Offset(3))).unwrap_err();
}

#[test]
fn what_was_taken_back_is_changed_no_more() {
    // With so much said in between it is found out on the first page, on its last place, or on a later page.
    for between in 0..2 * PAGE {
        for of in [MessageRef::Offset(1), MessageRef::Id("a1".into())] {
            let mut model = Model::default();
            let edit = |id| Act::Amend {
                of: of.clone(),
                erases: false,
                saying: saying("edit", Some(id), "better"),
            };
            model.says("ann", "bob", "a1");
            model.says("ann", "bob", "a2");
            for at in 0..between {
                model.says("bob", "ann", &format!("b{at}"));
            }
            model.act("ann", "bob", edit("e1")).unwrap();
            let erase = |of| Act::Amend { of, erases: true, saying: saying("delete", None, "") };
            model.act("ann", "bob", erase(MessageRef::Offset(2))).unwrap();
            model.act("ann", "bob", edit("e2")).expect("another one was taken back");
            model.act("ann", "bob", erase(MessageRef::Offset(1))).unwrap();
            let heard = model.heard("bob");
            let refused = model.act("ann", "bob", edit("e3")).unwrap_err();
            assert_eq!(refused.message, "This message was deleted: say a new one");
            model.act("ann", "bob", edit("e1")).expect("it stands, and is answered as at first");
            assert_eq!(model.heard("bob"), heard, "nobody is told");
        }
    }
}

#[test]
fn what_came_without_an_id_gets_one_of_at_most_255_bytes() {
    let ids = [1, TEXT_BYTES_MAX - "new--".len() - 32, TEXT_BYTES_MAX].map(|bytes| {
        let request: Box<str> = "r".repeat(bytes).into();
        let mut model = Model::default();
        let mut said = || {
            let who = Speaker { request: request.clone(), ..model.speaker("ann") };
            let act = Act::Say(saying("new", None, "hi"));
            let talking = Talking::new(who, dialog("ann", "bob").unwrap(), act).unwrap();
            match model.run(talking).unwrap() {
                Answered::Said { position, id, .. } => (position.offset, id),
                other => panic!("{other:?}"),
            }
        };
        let first = said();
        assert_eq!(said(), first, "the same request says it once");
        assert!(!first.1.contains(&*request) || bytes < TEXT_BYTES_MAX, "{}", first.1);
        first.1
    });
    assert_eq!(ids.each_ref().map(|id| id.len()), [38, TEXT_BYTES_MAX, TEXT_BYTES_MAX]);
}

#[test]
fn who_is_online_is_told_of_a_dialog_in_which_something_was_said() {
    let mut model = Model::default();
    model.online.insert("bob".into());
    let online = |model: &mut Model| match model.act("ann", "bob", Act::Show).unwrap() {
        Answered::Conversations { list, .. } => list[0].online,
        other => panic!("{other:?}"),
    };
    assert_eq!(online(&mut model), None);
    model.says("ann", "bob", "a1");
    assert_eq!(online(&mut model), Some(true));
}

#[test]
fn messages_are_shown_as_they_are_now_from_either_end() {
    let mut model = Model::default();
    for at in 1..=9 {
        model.says(
            if at % 2 == 0 { "bob" } else { "ann" },
            if at % 2 == 0 { "ann" } else { "bob" },
            &format!("m{at}"),
        );
    }
    let amend = |erases, at, id: Option<&str>| Act::Amend {
        of: MessageRef::Offset(at),
        erases,
        saying: saying(if erases { "delete" } else { "edit" }, id, "now"),
    };
    model.act("ann", "bob", amend(false, 3, Some("e1"))).unwrap();
    model.act("ann", "bob", amend(false, 3, Some("e2"))).unwrap();
    model.act("bob", "ann", amend(true, 4, None)).unwrap();
    model.marks("bob", "ann", Mark::Delivered, None);
    let find = |range, count_max| Act::Messages { range, count_max };
    let newest = model.act("ann", "bob", find(Range::Newest, 2)).unwrap();
    assert_eq!(messages(&newest), ["8 m8 read", "9 m9 delivered"]);
    let from = model.act("ann", "bob", find(Range::From(3), 3)).unwrap();
    assert_eq!(messages(&from), ["3 m3 read now e2", "4 m4 read erased 120", "5 m5 read"]);
    let up_to = model.act("bob", "ann", find(Range::UpTo(4), 2)).unwrap();
    assert_eq!(messages(&up_to), ["3 m3 read now e2", "4 m4 read erased 120"]);
    let all = model.act("bob", "ann", find(Range::Newest, 500)).unwrap();
    assert_eq!(messages(&all).len(), 9);
    let none = model.act("ann", "cleo", find(Range::Newest, 500)).unwrap();
    assert_eq!(messages(&none).len(), 0);
}

#[test]
fn a_conversation_shows_its_last_message_and_what_is_not_read() {
    let mut model = Model::default();
    for at in 1..=5 {
        model.says("ann", "bob", &format!("a{at}"));
    }
    model.marks("bob", "ann", Mark::Read, Some(1));
    let Answered::Conversations { one: true, list } = model.act("bob", "ann", Act::Show).unwrap()
    else {
        panic!("one conversation")
    };
    let [it] = &list[..] else { panic!("{list:?}") };
    assert_eq!((&*it.with, it.unread, it.first_unread), ("ann", 4, Some(2)));
    assert_eq!(it.last.as_ref().unwrap().said.id, "a5".into());
    assert_eq!(it.people, ["ann".into(), "bob".into()]);
}

#[test]
fn all_conversations_of_a_user_are_found_the_last_one_first() {
    let mut model = Model::default();
    for with in ["bob", "cleo", "dora", "eve", "bob"] {
        let id = format!("to-{with}-{}", model.now_ms);
        model.says("ann", with, &id);
    }
    let index = RoomName::system("$talks-ann").unwrap();
    for (user, room) in std::mem::take(&mut model.enrolled) {
        let name = Content::Text(room.as_str().to_owned().into());
        if *user == *"ann" {
            let id = room.as_str().into();
            model.publish(&Publication { id, ..Publication::bare(index.clone(), name) }).unwrap();
        }
    }
    // When cleo was online is known; of the others there is no trace, but that one is.
    let seen = RoomName::system("$seen-cleo").unwrap();
    let mut at = Publication::bare(seen, Content::Json("{}".into()));
    at.origin = Some(Box::new(Origin::of(dialog("cleo", "cleo").unwrap(), 77)));
    model.publish(&at).unwrap();
    model.online.insert("eve".into());
    let talking = Talking::all(model.speaker("ann"), index);
    let Answered::Conversations { one: false, list } = model.run(talking).unwrap() else {
        panic!("all conversations")
    };
    let with: Vec<_> = list.iter().map(|it| &*it.with).collect();
    assert_eq!(with, ["bob", "eve", "dora", "cleo"]);
    let known: Vec<_> = list.iter().map(|it| (it.online, it.seen_unix_ms)).collect();
    let away = (Some(false), None);
    assert_eq!(known, [away, (Some(true), None), away, (Some(false), Some(77))]);
}

#[test]
fn what_was_taken_back_before_it_was_read_is_not_missed() {
    let mut model = Model::default();
    let take_back = |model: &mut Model, of: u64| {
        let of = MessageRef::Offset(of);
        let act = Act::Amend { of, erases: true, saying: saying("delete", None, "") };
        model.act("ann", "bob", act).unwrap();
    };
    for at in 1..=6 {
        model.says("ann", "bob", &format!("a{at}"));
    }
    model.marks("bob", "ann", Mark::Read, Some(2));
    // One that was read, the oldest that was not, and one in the middle, which is taken back twice.
    for of in [1, 3, 5, 5] {
        take_back(&mut model, of);
    }
    let missed = |model: &mut Model| {
        let answered = model.act("bob", "ann", Act::Show).unwrap();
        let Answered::Conversations { list, .. } = answered else { panic!("{answered:?}") };
        (list[0].unread, list[0].first_unread)
    };
    assert_eq!(missed(&mut model), (2, Some(4)));
    let told = |model: &Model| model.heard("bob").pop().unwrap();
    // Counted on from what was counted before, and from nothing.
    model.says("ann", "bob", "a7");
    assert_eq!(told(&model), "new 10 a7 unread 3");
    model.counted = None;
    model.says("ann", "bob", "a8");
    assert_eq!(told(&model), "new 11 a8 unread 4");
    take_back(&mut model, 10);
    model.says("ann", "bob", "a9");
    assert_eq!(told(&model), "new 13 a9 unread 4");
    assert_eq!(missed(&mut model), (4, Some(4)));
    assert!(model.marks("bob", "ann", Mark::Delivered, None).ends_with(" 4"));
    assert!(model.marks("bob", "ann", Mark::Read, Some(4)).ends_with(" 3"));
    assert!(model.marks("bob", "ann", Mark::Read, None).ends_with(" 0"));
    assert_eq!(missed(&mut model), (0, None));
    // In a group, where each misses what others say.
    for id in ["g1", "g2", "g3"] {
        model.in_group("ann", "team", Act::Say(saying("new", Some(id), id))).unwrap();
    }
    let of = MessageRef::Offset(2);
    let act = Act::Amend { of, erases: true, saying: saying("delete", None, "") };
    model.in_group("ann", "team", act).unwrap();
    let answered = model.in_group("bob", "team", Act::Mark { mark: Mark::Read, up_to: Some(1) });
    let Ok(Answered::Marked { unread, .. }) = answered else { panic!("{answered:?}") };
    assert_eq!(unread, 1);
}

#[test]
fn favourites_are_ones_own_and_nobody_is_told() {
    let mut model = Model::default();
    model.says("ann", "ann", "n1");
    assert_eq!(model.heard("ann"), ["new 1 n1 own"]);
    assert_eq!(model.marks("ann", "ann", Mark::Read, None), "read ann 1 n1 20 0");
    assert_eq!(model.heard("ann").len(), 1);
    let talking = Talking::new(model.speaker("eve"), dialog("ann", "ann").unwrap(), Act::Show);
    assert!(talking.is_none(), "a conversation is its people's alone");
}

#[test]
fn who_is_online_is_asked_for_all_at_once_and_since_when_others_are_not_a_few_at_a_time() {
    let one = |with: String| Conversation {
        people: vec!["ann".into(), with.clone().into()],
        with: with.into(),
        group: false,
        owners: Vec::new(),
        last: None,
        unread: 0,
        first_unread: None,
        online: None,
        seen_unix_ms: None,
    };
    let own = Conversation { people: vec!["ann".into()], ..one("ann".into()) };
    let group = Conversation { group: true, ..one("g".into()) };
    let list = (0..1_000).map(|it| one(format!("u{it}"))).chain([own, group]).collect();
    let mut seeing = Seeing::new(false, list);
    let asked = seeing.questions();
    let [(_, Question::Online(users))] = &asked[..] else { panic!("{asked:?}") };
    assert_eq!(users.len(), 1_000, "of oneself and of a group nothing is asked");
    assert!(seeing.questions().is_empty(), "it is under way");
    // Nobody answers, then every second one is there.
    assert!(matches!(seeing.hear(0, Heard::Online(None)), Step::Again));
    assert_eq!(seeing.questions().len(), 1);
    let since = (0..1_000).map(|it| (it % 2 == 0).then_some(1)).collect();
    assert!(matches!(seeing.hear(0, Heard::Online(Some(since))), Step::Ask));
    let (model, mut reads) = (Model::default(), 0);
    loop {
        let asked = seeing.questions();
        if asked.is_empty() {
            break;
        }
        reads += asked.len();
        assert!(asked.len() <= SEEN_UNDER_WAY_MAX);
        assert!(seeing.questions().is_empty(), "no more at once");
        for (place, question) in asked {
            let Question::Read(room, span) = question else { panic!("{question:?}") };
            assert_eq!(span.count_max, 1);
            seeing.hear(place, Heard::Page(Some(model.page(&room, span))));
        }
    }
    assert_eq!(reads, 500);
    let Step::Over(Ok(Answered::Conversations { list, .. })) = seeing.next() else { panic!() };
    let online = |wanted| list.iter().filter(|it| it.online == wanted).count();
    assert_eq!([Some(true), Some(false), None].map(online), [500, 500, 2]);
}

/// Whatever is asked of a dialog, and answered.
fn story(model: &mut Model) -> Vec<String> {
    let mut said = Vec::new();
    for act in [
        Act::Say(saying("new", Some("a1"), "hi")),
        Act::Say(saying("new", Some("a2"), "there")),
        Act::Amend {
            of: MessageRef::Offset(1),
            erases: false,
            saying: saying("edit", Some("e"), "ho"),
        },
        Act::Amend {
            of: MessageRef::Id("a2".into()),
            erases: true,
            saying: saying("delete", None, ""),
        },
    ] {
        said.push(format!("{:?}", model.act("ann", "bob", act).unwrap()));
    }
    for (mark, up_to) in [(Mark::Delivered, Some(2)), (Mark::Read, Some(1)), (Mark::Read, None)] {
        said.push(model.marks("bob", "ann", mark, up_to));
    }
    // Who answers has read what was said before, and its author is told.
    for (user, with, id) in [("bob", "ann", "b1"), ("ann", "bob", "a3"), ("bob", "ann", "b2")] {
        said.push(model.says(user, with, id).to_string());
    }
    let find = Act::Messages { range: Range::Newest, count_max: 10 };
    said.push(messages(&model.act("ann", "bob", find).unwrap()).join(", "));
    said
}

/// What a user heard, in no order.
fn heard_by(model: &Model, user: &str) -> Vec<String> {
    let mut all = model.heard(user);
    all.sort();
    all
}

/// With one question not heard, or its answer lost, all ends as it would have without.
#[test]
fn a_question_that_is_not_answered_changes_nothing() {
    let mut plain = Model::default();
    let said = story(&mut plain);
    for at in 1..=plain.asked {
        for heard in [false, true] {
            let mut model = Model { fails: Some((at, heard)), ..Model::default() };
            assert_eq!(story(&mut model), said, "question {at}, heard {heard}");
            for user in ["ann", "bob"] {
                assert_eq!(heard_by(&model, user), heard_by(&plain, user), "question {at}");
            }
        }
    }
}

/// Whichever question is the last of a node that ends, its asker asks another one, and all is told.
#[test]
fn a_node_that_ends_in_between_leaves_nothing_half_told() {
    let mut plain = Model::default();
    let said = story(&mut plain);
    for at in 1..=plain.asked {
        let mut model = Model { ends: Some(at), ..Model::default() };
        assert_eq!(story(&mut model), said, "question {at}");
        assert_eq!(model.ends, None, "question {at}");
        for user in ["ann", "bob"] {
            assert_eq!(heard_by(&model, user), heard_by(&plain, user), "question {at}");
        }
    }
}

#[test]
fn one_id_changes_one_message_alone() {
    let mut model = Model::default();
    model.says("ann", "bob", "a1");
    model.says("ann", "bob", "a2");
    let edit = |offset| Act::Amend {
        of: MessageRef::Offset(offset),
        erases: false,
        saying: saying("edit", Some("e"), "better"),
    };
    let first = format!("{:?}", model.act("ann", "bob", edit(1)).unwrap());
    assert_eq!(format!("{:?}", model.act("ann", "bob", edit(1)).unwrap()), first);
    let refused = model.act("ann", "bob", edit(2)).unwrap_err();
    assert_eq!(refused.refusal, Refusal::Duplicate, "the other message is not changed");
}

/// A change that was under way while all was lost meant a message that is gone.
#[test]
fn a_change_of_a_lost_message_is_none_of_the_one_in_its_place() {
    for erases in [false, true] {
        let mut model = Model::default();
        let (room, id) = (dialog("ann", "bob").unwrap(), "late".into());
        let amends = Amends { offset: 2, id: "lost".into(), erases };
        let origin = Origin { amends: Some(amends), ..Origin::of(room.clone(), 1) };
        let late = Publication {
            id,
            kind: "edit".into(),
            origin: Some(Box::new(origin)),
            sender: "ann".into(),
            ..Publication::bare(room, Content::Json("{}".into()))
        };
        model.publish(&late).unwrap();
        model.says("ann", "bob", "here");
        for range in [Range::Newest, Range::From(1)] {
            let find = Act::Messages { range, count_max: 10 };
            let shown = messages(&model.act("ann", "bob", find).unwrap());
            assert_eq!(shown.len(), 1);
            assert!(shown[0].starts_with("2 here"), "{shown:?}");
            assert!(!shown[0].contains("now") && !shown[0].contains("erased"), "{shown:?}");
        }
    }
}

#[test]
fn a_message_that_reached_somebody_marks_no_other_one_once_its_stream_began_anew() {
    let reached = |model: &mut Model, at| {
        let talking = Talking::reached(model.speaker("bob"), dialog("ann", "bob").unwrap(), at);
        model.run(talking.unwrap()).unwrap();
    };
    let room = dialog("ann", "bob").unwrap();
    let mut model = Model::default();
    model.says("ann", "bob", "a1");
    model.says("ann", "bob", "a2");
    let at = model.head(&room);
    reached(&mut model, at);
    assert_eq!(model.heard("ann")[2..], ["delivered 2 a2"]);
    model.begin_anew();
    model.counted = None;
    model.says("ann", "bob", "b1");
    reached(&mut model, at);
    assert_eq!(model.heard("ann"), ["new 1 b1 own"], "nobody has got it");
    assert!(model.marks.is_empty());
    let at = model.head(&room);
    reached(&mut model, at);
    assert_eq!(model.heard("ann")[1..], ["delivered 1 b1"]);
}

#[test]
fn what_is_read_while_a_stream_begins_anew_is_told_of_what_stands_there_then() {
    let mut model = Model::default();
    model.says("ann", "bob", "a1");
    model.says("ann", "bob", "a2");
    // How far bob is, and which message it is, are known; all is lost before it is marked.
    model.renews = Some(model.asked + 3);
    assert_eq!(model.marks("bob", "ann", Mark::Read, None), "read ann 0  30 0");
    assert_eq!(model.heard("ann"), [""; 0], "of what is lost nobody is told anything");
}

/// So large that five of them are what one answer holds.
const FIFTH: usize = super::MESSAGES_BYTES_MAX / 5;

fn large(kind: &str, id: &str, bytes: usize) -> Saying {
    let bytes = bytes - super::finding::weight(&publication_of(id));
    let content = Content::Text("x".repeat(bytes).into());
    Saying { kind: kind.into(), id: Some(id.into()), content }
}

fn publication_of(id: &str) -> Publication {
    let room = RoomName::parse("some").unwrap();
    Publication { id: id.into(), ..Publication::bare(room, Content::Text("".into())) }
}

#[test]
fn an_answer_holds_as_much_as_it_may_and_the_rest_is_asked_for_from_there() {
    let mut model = Model::default();
    for at in 1..=6 {
        let rest = if at == 6 { super::MESSAGES_BYTES_MAX % 5 } else { 0 };
        let saying = large("new", &format!("m{at}"), FIFTH + rest);
        model.act("ann", "bob", Act::Say(saying)).unwrap();
    }
    let mut find = |range| {
        let found = model.act("bob", "ann", Act::Messages { range, count_max: 500 }).unwrap();
        messages(&found).len()
    };
    assert_eq!((find(Range::Newest), find(Range::From(2)), find(Range::UpTo(1))), (5, 5, 1));
    let one_more = large("new", "m7", FIFTH + 1);
    model.act("ann", "bob", Act::Say(one_more)).unwrap();
    let newest = Act::Messages { range: Range::Newest, count_max: 500 };
    assert_eq!(messages(&model.act("bob", "ann", newest).unwrap()).len(), 4);
    let huge = large("new", "m8", 2 * super::MESSAGES_BYTES_MAX);
    model.act("ann", "bob", Act::Say(huge)).unwrap();
    let newest = Act::Messages { range: Range::Newest, count_max: 500 };
    assert_eq!(messages(&model.act("bob", "ann", newest).unwrap()), ["8 m8 "]);
}

/// Whoever edits much makes answers shorter, and hides nothing from the other one.
#[test]
fn edits_count_as_what_is_shown_and_each_message_can_be_asked_for() {
    let mut model = Model::default();
    for at in 1..=20 {
        model.says("ann", "bob", &format!("m{at:02}"));
    }
    for at in 1..=20 {
        let saying = large("edit", &format!("e{at:02}"), FIFTH);
        let of = MessageRef::Offset(at);
        model.act("ann", "bob", Act::Amend { of, erases: false, saying }).unwrap();
    }
    let find = |model: &mut Model, range| {
        let act = Act::Messages { range, count_max: 500 };
        messages(&model.act("bob", "ann", act).unwrap())
    };
    let all = |from: u64, to: u64| {
        (from..=to).map(|at| format!("{at} m{at:02}  now e{at:02}")).collect::<Vec<_>>()
    };
    assert_eq!(find(&mut model, Range::Newest), all(17, 20));
    assert_eq!(find(&mut model, Range::From(1)), all(1, 4));
    let (mut below, mut seen) = (20, 0);
    while below > 0 {
        let found = find(&mut model, Range::UpTo(below));
        let first = below + 1 - found.len() as u64;
        assert_eq!(found, all(first, below));
        assert!(!found.is_empty() && found.len() < 5, "{found:?}");
        (below, seen) = (first - 1, seen + found.len());
    }
    assert_eq!(seen, 20);
    let Answered::Conversations { list, .. } = model.act("bob", "ann", Act::Show).unwrap() else {
        panic!("one conversation")
    };
    let last = list[0].last.as_ref().unwrap();
    assert_eq!((&*last.said.id, &*last.edited.as_ref().unwrap().id), ("m20", "e20"));
}

#[test]
fn a_list_holds_as_many_last_messages_as_it_may_and_all_conversations() {
    let list = |sizes: &[usize]| {
        let mut model = Model::default();
        let index = RoomName::system("$talks-bob").unwrap();
        for (at, bytes) in sizes.iter().enumerate() {
            let (with, id) = (format!("u{at}"), format!("m{at}"));
            model.act(&with, "bob", Act::Say(large("new", &id, *bytes))).unwrap();
            let name = Content::Text(dialog(&with, "bob").unwrap().as_str().to_owned().into());
            let entry = Publication::bare(index.clone(), name);
            model.publish(&Publication { id: id.into(), ..entry }).unwrap();
        }
        let talking = Talking::all(model.speaker("bob"), index);
        let Answered::Conversations { list, .. } = model.run(talking).unwrap() else {
            panic!("all conversations")
        };
        let shown = list.iter().map(|it| {
            assert_eq!(it.unread, 1);
            format!("{}{}", it.with, if it.last.is_some() { " shown" } else { "" })
        });
        shown.collect::<Vec<_>>()
    };
    let third = super::LIST_BYTES_MAX / 3;
    assert_eq!(list(&[third; 3]), ["u2 shown", "u1 shown", "u0 shown"]);
    assert_eq!(list(&[third, third, third + 1]), ["u2 shown", "u1 shown", "u0"]);
    assert_eq!(list(&[third, 4 * third]), ["u1 shown", "u0"], "one may be larger alone");
    assert_eq!(list(&[4 * third, third]), ["u1 shown", "u0"]);
}

#[test]
fn a_group_begins_with_its_first_member_and_each_hears_from_its_own_coming_on() {
    let mut model = Model::default();
    model.member("team", "ann", Some(Role::Owner)).unwrap();
    assert_eq!(model.groups("ann", "phone"), ["chat-team owner 1 from 0"]);
    for id in ["a1", "a2"] {
        model.in_group("ann", "team", Act::Say(saying("new", Some(id), id))).unwrap();
    }
    model.member("team", "bob", Some(Role::Member)).unwrap();
    model.member("other", "bob", Some(Role::Member)).unwrap();
    let both = ["chat-other member 2 from 0", "chat-team member 1 from 2"];
    assert_eq!(model.groups("bob", "phone"), both);
    // Said once more, or otherwise, it goes on where it was.
    model.in_group("ann", "team", Act::Say(saying("new", Some("a3"), "a3"))).unwrap();
    model.member("team", "bob", Some(Role::Owner)).unwrap();
    assert_eq!(model.groups("bob", "phone")[1], "chat-team owner 1 from 2");
    let answered = model.member("team", "bob", None).unwrap();
    let Answered::Member { now: None, before: Some(Role::Owner), .. } = answered else {
        panic!("{answered:?}")
    };
    assert_eq!(model.groups("bob", "phone"), ["chat-other member 2 from 0"]);
    model.member("team", "bob", None).unwrap();
    assert_eq!(model.heard("bob"), [""; 0], "nothing of a group stands in inboxes");
}

#[test]
fn a_device_goes_on_where_it_was_and_a_new_one_where_the_furthest_is() {
    let mut model = Model::default();
    model.member("team", "ann", Some(Role::Member)).unwrap();
    let room = conversation::group("team").unwrap();
    let mut place = |device: &str, epoch: Epoch, offset| {
        let value = membership::place(Position { epoch, offset });
        let cursors = model.directories.entry(cursors_of("ann").unwrap()).or_default();
        cursors.insert(cursor_entry(&room, device).into(), value.into());
    };
    let is = epoch(&room);
    for (device, offset) in [("a", 3), ("b", 9), ("c", 1), ("d", 2), ("e", 4)] {
        place(device, is, offset);
    }
    for (device, from) in [("a", 3), ("b", 9), ("e", 4), ("f", 9)] {
        let expected = format!("chat-team member 1 from 0 at {from}");
        assert_eq!(model.groups("ann", device), [expected], "{device}");
    }
    // Who is a member anew is not given what was said while it was none, by the later of the two.
    model.member("team", "ann", None).unwrap();
    for at in 1..=6 {
        let saying = saying("new", Some(&format!("b{at}")), "x");
        model.in_group("bob", "team", Act::Say(saying)).unwrap();
    }
    model.member("team", "ann", Some(Role::Member)).unwrap();
    assert_eq!(model.groups("ann", "a"), ["chat-team member 1 from 6 at 3"]);
    assert_eq!(model.groups("ann", "b"), ["chat-team member 1 from 6 at 9"]);
}

#[test]
fn what_is_full_takes_nobody_and_nobody_is_half_in() {
    let mut model = Model { entries_max: Some(2), ..Model::default() };
    for user in ["ann", "bob"] {
        model.member("team", user, Some(Role::Member)).unwrap();
    }
    let refused = model.member("team", "cid", Some(Role::Member)).unwrap_err();
    assert_eq!(refused.refusal, Refusal::Limit);
    assert_eq!(model.groups("cid", ""), [""; 0]);
    model.member("second", "ann", Some(Role::Member)).unwrap();
    let refused = model.member("third", "ann", Some(Role::Member)).unwrap_err();
    assert_eq!(refused.refusal, Refusal::Limit);
    let third = &model.directories[&super::joining::members_of("third").unwrap()];
    assert!(third.is_empty(), "{third:?}");
    model.member("team", "ann", Some(Role::Owner)).unwrap();
}

#[test]
fn a_call_is_kept_once_whoever_says_that_it_is_over() {
    let ends = |seconds: &str| Act::Tell {
        to: vec!["ann".into(), "bob".into()],
        told: saying("closeCall", None, seconds),
        said: Some(saying(conversation::CALL, Some("call-k"), seconds)),
    };
    let mut model = Model::default();
    for (user, with, seconds) in
        [("ann", "bob", "7"), ("bob", "ann", "7"), ("bob", "ann", "8"), ("ann", "bob", "9")]
    {
        let answered = model.act(user, with, ends(seconds)).unwrap();
        assert!(matches!(answered, Answered::Done), "{user}: {answered:?}");
        assert_eq!(model.heard("bob").len(), 2, "what it told, and what is kept: {user}");
        assert_eq!(model.heard("ann").len(), 1, "{user}");
    }
    assert_eq!(model.rooms[&dialog("ann", "bob").unwrap()].len(), 1);
    // Another call, and the same one elsewhere, are others.
    model.act("ann", "cid", ends("7")).unwrap();
    assert_eq!(model.rooms[&dialog("ann", "cid").unwrap()].len(), 1);
    for user in ["ann", "bob"] {
        model.in_group(user, "team", ends("7")).unwrap();
    }
    assert_eq!(model.rooms[&conversation::group("team").unwrap()].len(), 1);
    // What somebody says as a message under that id is no call.
    model.says("bob", "ann", "call-k");
    assert_eq!(model.rooms[&dialog("ann", "bob").unwrap()].len(), 2);
}

/// Whatever is asked of a group: with one question not heard, or its answer lost, all ends as it would have without.
#[test]
fn a_group_ends_the_same_whichever_answer_is_lost() {
    let story = |fails: Option<(usize, bool)>| {
        let mut model = Model { fails, ..Model::default() };
        model.member("team", "ann", Some(Role::Owner)).unwrap();
        model.member("team", "bob", Some(Role::Member)).unwrap();
        model.member("team", "cid", Some(Role::Member)).unwrap();
        for user in ["ann", "bob", "ann"] {
            let id = format!("{user}{}", model.now_ms);
            model.in_group(user, "team", Act::Say(saying("new", Some(&id), &id))).unwrap();
        }
        let of = MessageRef::Offset(2);
        let act = Act::Amend { of, erases: false, saying: saying("edit", Some("e"), "e") };
        model.in_group("bob", "team", act).unwrap();
        let to = vec!["bob".into(), "eve".into(), "cid".into()];
        let (told, said) = (saying("newCall", None, "c"), Some(saying("call", Some("k"), "k")));
        model.in_group("cid", "team", Act::Tell { to, told, said }).unwrap();
        let act = Act::Mark { mark: Mark::Read, up_to: None };
        let marked = format!("{:?}", model.in_group("cid", "team", act).unwrap());
        model.member("team", "bob", None).unwrap();
        let shown = [
            format!("{:?}", model.in_group("ann", "team", Act::Show).unwrap()),
            format!("{:?}", model.groups("ann", "phone")),
            format!("{:?}", model.groups("bob", "phone")),
            marked,
        ];
        let heard = ["ann", "bob", "cid", "eve"].map(|user| model.heard(user));
        (model.asked, shown, heard, model.directories)
    };
    let (asked, shown, heard, directories) = story(None);
    assert_eq!(heard[0], ["read 3 ann50"], "each author is told of its newest");
    assert_eq!(
        heard[1],
        ["newCall 0 newCall-00000000000000000000000000000003-r80", "read 2 bob40"]
    );
    assert_eq!(
        heard[2..],
        [vec![], Vec::<String>::new()],
        "nobody calls itself, or who is no member"
    );
    for at in 1..=asked {
        for heard_it in [false, true] {
            let (_, again, told, held) = story(Some((at, heard_it)));
            assert_eq!((&again, &told), (&shown, &heard), "question {at}, {heard_it}");
            assert_eq!(held, directories, "question {at}, {heard_it}");
        }
    }
}
