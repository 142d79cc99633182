//! The answers of one connection, in the order of its calls, whichever of them is carried out first. Owns the bound on
//! what waits; never does IO.

use std::collections::VecDeque;

use super::call::Reply;

/// Calls of one connection that are under way or wait for one in front of them; at it no further call is read.
pub const CALLS_MAX: usize = 1_024;

/// Bytes of one connection's answers that have not been taken; at it no further call is read. Units: bytes.
pub const ANSWERS_BYTES_MAX: usize = 1 << 20;

/// Which call an outcome belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallTicket(u64);

/// A call that has been read.
#[derive(Debug)]
enum Slot {
    /// It is under way.
    Open(Reply<'static>),
    /// Its answer waits for those in front.
    Answered(Box<[u8]>),
}

/// What is owed to one caller.
///
/// Bounds: where no call is added while it [is full](Answers::is_full), it holds [`CALLS_MAX`] calls, and
/// [`ANSWERS_BYTES_MAX`] and one answer.
#[derive(Debug, Default)]
pub struct Answers {
    slots: VecDeque<Slot>,
    /// The number of the first slot.
    first: u64,
    /// What can leave.
    ready: Vec<u8>,
    /// Answers in slots. Units: bytes.
    waiting_bytes: usize,
}

impl Answers {
    /// Nothing is owed.
    #[must_use]
    pub const fn new() -> Self {
        Self { slots: VecDeque::new(), first: 0, ready: Vec::new(), waiting_bytes: 0 }
    }

    /// Whether the caller must wait: no further call is to be read.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.slots.len() >= CALLS_MAX || self.ready.len() + self.waiting_bytes >= ANSWERS_BYTES_MAX
    }

    /// Whether every call was answered, and every answer taken.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty() && self.ready.is_empty()
    }

    /// A call is carried out from now on: its outcome comes with this ticket.
    pub fn begin(&mut self, reply: Reply<'static>) -> CallTicket {
        let ticket = CallTicket(self.first + self.slots.len() as u64);
        self.slots.push_back(Slot::Open(reply));
        ticket
    }

    /// A call is over; an error's text, if it failed. What was said before, or never began, is ignored.
    pub fn end(&mut self, ticket: CallTicket, outcome: Result<(), &str>) {
        let at = ticket.0.checked_sub(self.first).and_then(|at| usize::try_from(at).ok());
        let Some(slot) = at.and_then(|at| self.slots.get_mut(at)) else { return };
        let Slot::Open(reply) = *slot else { return };
        let mut bytes = Vec::new();
        match outcome {
            Ok(()) => reply.write(true, &mut bytes),
            Err(text) => reply.write_error(text.as_bytes(), &mut bytes),
        }
        self.waiting_bytes += bytes.len();
        *slot = Slot::Answered(bytes.into());
        self.move_on();
    }

    /// A call is answered at once, in its turn: with success, or with an error's text.
    pub fn answer(&mut self, reply: &Reply<'_>, outcome: Result<(), &[u8]>) {
        let before = self.ready.len();
        match outcome {
            Ok(()) => reply.write(true, &mut self.ready),
            Err(text) => reply.write_error(text, &mut self.ready),
        }
        if !self.slots.is_empty() {
            let bytes = self.ready.split_off(before);
            self.waiting_bytes += bytes.len();
            self.slots.push_back(Slot::Answered(bytes.into()));
        }
    }

    /// Takes what can leave.
    pub fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.ready)
    }

    fn move_on(&mut self) {
        while let Some(Slot::Answered(bytes)) = self.slots.front() {
            self.waiting_bytes -= bytes.len();
            self.ready.extend_from_slice(bytes);
            self.slots.pop_front();
            self.first += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::call::Codec;
    use super::super::frame::{FRAME_BYTES_MAX, Reader};
    use super::*;

    const fn reply(seq: u32) -> Reply<'static> {
        Reply { seq, codec: Codec::Proto, method: b"broadcast.Publish" }
    }

    /// Numbers of the answers that can leave, and the texts of those that failed.
    fn taken(answers: &mut Answers) -> Vec<(u32, String)> {
        let mut reader = Reader::new();
        reader.push(&answers.take());
        let mut found = Vec::new();
        while let Some(frame) = reader.frame().unwrap() {
            let text = if frame.flags & 0x40 == 0 { b"" } else { frame.body };
            found.push((frame.seq, String::from_utf8(text.to_vec()).unwrap()));
        }
        found
    }

    #[test]
    fn answers_leave_in_the_order_of_the_calls() {
        let mut answers = Answers::new();
        let (one, two) = (answers.begin(reply(1)), answers.begin(reply(2)));
        answers.answer(&reply(3), Err(b"no"));
        let four = answers.begin(reply(4));
        answers.end(four, Ok(()));
        answers.end(two, Err("late"));
        assert_eq!(taken(&mut answers), []);
        answers.end(one, Ok(()));
        let expected = [(1, ""), (2, "late"), (3, "no"), (4, "")];
        assert_eq!(taken(&mut answers), expected.map(|(seq, text)| (seq, text.to_owned())));
        assert!(answers.is_empty());
        answers.answer(&reply(5), Ok(()));
        assert_eq!(taken(&mut answers), [(5, String::new())]);
    }

    #[test]
    fn an_outcome_counts_once() {
        let mut answers = Answers::new();
        let (one, two) = (answers.begin(reply(1)), answers.begin(reply(2)));
        answers.end(two, Ok(()));
        answers.end(two, Err("again"));
        answers.end(one, Ok(()));
        answers.end(one, Err("again"));
        answers.end(CallTicket(9), Ok(()));
        assert_eq!(taken(&mut answers), [(1, String::new()), (2, String::new())]);
        assert!(answers.is_empty());
    }

    #[test]
    fn the_last_call_that_fits_is_taken_and_then_no_more() {
        let mut answers = Answers::new();
        let first = answers.begin(reply(0));
        for seq in 1..1_024 {
            assert!(!answers.is_full(), "{seq}");
            answers.begin(reply(seq));
        }
        assert_eq!(CALLS_MAX, 1_024);
        assert!(answers.is_full());
        answers.end(first, Ok(()));
        assert!(!answers.is_full());
    }

    #[test]
    fn answers_that_nobody_takes_are_bounded_by_their_bytes() {
        let mut answers = Answers::new();
        let mut fill = |held: bool, bytes: usize| {
            answers.take();
            let first = held.then(|| answers.begin(reply(1)));
            let text = vec![b'x'; bytes - 20 - reply(2).method.len()];
            answers.answer(&reply(2), Err(&text));
            let full = answers.is_full();
            first.into_iter().for_each(|ticket| answers.end(ticket, Ok(())));
            full
        };
        for held in [true, false] {
            assert!(!fill(held, ANSWERS_BYTES_MAX - 1));
            assert!(fill(held, ANSWERS_BYTES_MAX));
        }
        assert!(fill(false, FRAME_BYTES_MAX));
    }
}
