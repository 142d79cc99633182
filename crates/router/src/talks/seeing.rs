//! Who of those with whom a user talks is online, and when the others were: asked for all at once.

use roomcast_protocol::conversation::{Answered, Conversation};
use roomcast_protocol::position::{Page, Span};

use super::{Heard, Question, State, Step, below, held, readable, said_at};
use crate::hub::seen_of;

/// Questions of one list when others were online that are under way at once.
pub(super) const SEEN_UNDER_WAY_MAX: usize = 16;

/// Conversations that are known but for that.
#[derive(Debug)]
pub(super) struct Seeing {
    one: bool,
    list: Vec<Conversation>,
    /// What they weigh. Units: bytes.
    held: usize,
    /// Places in the list of those that are shared with one other user.
    dialogs: Vec<usize>,
    /// Of each conversation: when was the other one online? `None`: it is not known who is.
    states: Option<Vec<State>>,
    /// The question who is online is under way.
    asked: bool,
}

impl Seeing {
    pub(super) fn new(one: bool, list: Vec<Conversation>) -> Self {
        // Where nothing was said yet anybody may ask, and is told nothing of the other one.
        let is_shared = |it: &Conversation| !one || it.last.is_some();
        let is_dialog = |it: &Conversation| !it.group && it.people.len() == 2 && is_shared(it);
        let dialogs = (0..list.len()).filter(|at| list.get(*at).is_some_and(is_dialog)).collect();
        let held = list.iter().map(held::conversation).sum();
        Self { one, list, held, dialogs, states: None, asked: false }
    }

    pub(super) const fn held(&self) -> usize {
        self.held
    }

    /// What is to be asked now, by place in the list.
    pub(super) fn questions(&mut self) -> Vec<(usize, Question)> {
        let Some(states) = &mut self.states else {
            if self.dialogs.is_empty() || std::mem::replace(&mut self.asked, true) {
                return Vec::new();
            }
            let dialogs = self.dialogs.iter().filter_map(|at| self.list.get(*at));
            return vec![(0, Question::Online(dialogs.map(|it| it.with.clone()).collect()))];
        };
        let under_way = states.iter().filter(|it| **it == State::UnderWay).count();
        let waiting = states.iter_mut().enumerate().filter(|(_, it)| **it == State::Waits);
        let mut questions = Vec::new();
        for (at, state) in waiting.take(SEEN_UNDER_WAY_MAX.saturating_sub(under_way)) {
            let Some(room) = self.list.get(at).and_then(|it| seen_of(&it.with)) else {
                *state = State::Done;
                continue;
            };
            *state = State::UnderWay;
            let newest = Span { count_max: 1, ..below(u64::MAX) };
            questions.push((at, Question::Read(room, newest)));
        }
        questions
    }

    /// The broker says something.
    pub(super) fn hear(&mut self, place: usize, heard: Heard) -> Step {
        match heard {
            Heard::Online(Some(since)) => self.found(&since),
            Heard::Page(Some(page)) => self.seen(place, &page),
            Heard::Online(None)
            | Heard::Page(None)
            | Heard::Receipts(_)
            | Heard::Set(_)
            | Heard::Published(_)
            | Heard::Entries(_)
            | Heard::Entered(_) => {
                self.asked = false;
                if let Some(state) = self.states.as_mut().and_then(|it| it.get_mut(place)) {
                    *state = State::Waits;
                }
                return Step::Again;
            }
        }
        Step::Ask
    }

    fn found(&mut self, since: &[Option<u64>]) {
        let mut states = vec![State::Done; self.list.len()];
        for (at, since) in self.dialogs.iter().zip(since) {
            if let (Some(it), Some(state)) = (self.list.get_mut(*at), states.get_mut(*at)) {
                it.online = Some(since.is_some());
                *state = if since.is_some() { State::Done } else { State::Waits };
            }
        }
        self.states = Some(states);
    }

    fn seen(&mut self, place: usize, page: &Page) {
        let at = readable(page).next_back().map(|(_, entry)| said_at(entry));
        if let Some(it) = self.list.get_mut(place) {
            it.seen_unix_ms = at;
        }
        if let Some(state) = self.states.as_mut().and_then(|it| it.get_mut(place)) {
            *state = State::Done;
        }
    }

    /// What comes next where nothing is to be asked.
    pub(super) fn next(&mut self) -> Step {
        let known = self.dialogs.is_empty() || self.states.is_some();
        let open = |it: &Vec<State>| it.iter().any(|state| *state != State::Done);
        if !known || self.states.as_ref().is_some_and(open) {
            return Step::Wait;
        }
        let list = std::mem::take(&mut self.list);
        Step::Over(Ok(Answered::Conversations { one: self.one, list }))
    }
}
