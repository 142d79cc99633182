//! What has to stand before the answer is given: all at once, each repeated until it does; marks behind the rest, for whoever
//! asks again tells of no mark that stands.

use roomcast_protocol::codes::{Refusal, Refused};
use roomcast_protocol::conversation::Answered;
use roomcast_protocol::receipts::MarksSet;

use super::{Question, State, Step, held};

/// Things to be written, and what is answered then.
#[derive(Debug, Default)]
pub(super) struct Writing {
    writes: Vec<(Question, State)>,
    answer: Option<Answered>,
    /// What is written of what was read, as it was weighed then. Units: bytes.
    read: usize,
}

impl Writing {
    pub(super) fn new(writes: Vec<Question>, answer: Answered) -> Self {
        let writes = writes.into_iter().map(|it| (it, State::Waits)).collect();
        Self { writes, answer: Some(answer), read: 0 }
    }

    /// Nobody is answered, and nothing repeated.
    pub(super) fn signals(signals: Vec<Question>) -> Self {
        let writes = signals.into_iter().map(|it| (it, State::Waits)).collect();
        Self { writes, answer: None, read: 0 }
    }

    /// It is written of what was read, which weighed that much. Units: bytes.
    pub(super) fn of_what_was_read(self, read: usize) -> Self {
        Self { read, ..self }
    }

    pub(super) const fn read(&self) -> usize {
        self.read
    }

    pub(super) fn asked(&self) -> usize {
        held::writes(self.writes.iter().map(|(write, _)| write))
    }

    /// Those that wait, marks once all else stands; they are under way then.
    pub(super) fn questions(&mut self) -> Vec<(usize, Question)> {
        let only_marks = self.are_marks_left();
        let waiting = self.writes.iter_mut().enumerate().filter(|(_, (question, state))| {
            *state == State::Waits && (only_marks || !is_mark(question))
        });
        waiting
            .map(|(place, (question, state))| {
                *state = State::UnderWay;
                (place, question.clone())
            })
            .collect()
    }

    /// Nothing is left but marks.
    fn are_marks_left(&self) -> bool {
        let mut left = self.writes.iter().filter(|(_, state)| *state != State::Done);
        left.all(|(question, _)| is_mark(question))
    }

    /// The broker did not answer this one.
    pub(super) fn put_back(&mut self, place: usize) {
        if let Some((_, state)) = self.writes.get_mut(place) {
            *state = State::Waits;
        }
    }

    /// One was published, or refused.
    pub(super) fn written(&mut self, place: usize, outcome: &Result<(), Refused>) -> Step {
        match outcome {
            // Other content under its id cannot be: whatever stands there was written for the same.
            Ok(()) | Err(Refused { refusal: Refusal::Duplicate, .. }) => self.done(place),
            // Whatever the cause: what was said stands, and nobody may be told that it does not.
            Err(_) => {
                self.put_back(place);
                Step::Again
            }
        }
    }

    /// Marks were set. In another epoch nothing is: who answered has read it all the same, and its next mark says so.
    pub(super) fn marked(&mut self, place: usize, set: &MarksSet) -> Step {
        match set {
            MarksSet::Done { .. } | MarksSet::Epoch(_) | MarksSet::Full => self.done(place),
        }
    }

    fn done(&mut self, place: usize) -> Step {
        if let Some((_, state)) = self.writes.get_mut(place) {
            *state = State::Done;
        }
        self.next()
    }

    /// What comes next where nothing, or nothing more, is to be written.
    pub(super) fn next(&mut self) -> Step {
        if self.writes.iter().any(|(_, state)| *state != State::Done) {
            let are_due = self.writes.iter().any(|(_, state)| *state == State::Waits);
            return if are_due && self.are_marks_left() { Step::Ask } else { Step::Wait };
        }
        Step::Over(Ok(self.answer.take().unwrap_or(Answered::Done)))
    }
}

/// Whether a question sets marks.
const fn is_mark(question: &Question) -> bool {
    match question {
        Question::Set(_) => true,
        Question::Read(..)
        | Question::Receipts(..)
        | Question::Publish(_)
        | Question::Enroll(..)
        | Question::Entries(..)
        | Question::Enter(_)
        | Question::Online(_) => false,
    }
}
