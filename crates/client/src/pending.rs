//! Requests that wait for their answer. Owns the table; whoever stops waiting is removed from it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use crate::error::{Closed, Error};
use crate::event::Welcome;
use crate::wire::Answer;

type Waiting<T> = oneshot::Sender<Result<T, Closed>>;

/// The table of one connection.
#[derive(Debug, Default)]
pub(crate) struct Pending {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    welcome: Option<Waiting<Welcome>>,
    answers: HashMap<String, Waiting<Answer>>,
    pings: HashMap<u64, (Instant, Waiting<Duration>)>,
    closed: Option<Closed>,
}

/// Removes its request when dropped: answered, timed out or given up alike.
#[derive(Debug)]
pub(crate) struct Entry<T> {
    table: Arc<Pending>,
    key: Key,
    answer: oneshot::Receiver<Result<T, Closed>>,
}

#[derive(Clone, Debug)]
enum Key {
    Welcome,
    Answer(String),
    Ping(u64),
}

impl Pending {
    /// Waits for the welcome.
    pub(crate) fn welcome(self: &Arc<Self>) -> Entry<Welcome> {
        self.add(|state, waiting| {
            state.welcome = waiting;
            Key::Welcome
        })
    }

    /// Waits for the answer to request `id`.
    pub(crate) fn answer(self: &Arc<Self>, id: &str) -> Entry<Answer> {
        self.add(|state, waiting| {
            state.answers.extend(waiting.map(|waiting| (id.to_owned(), waiting)));
            Key::Answer(id.to_owned())
        })
    }

    /// Waits for the pong to a ping; returns the timestamp to send, `unix_ms` or the next one free.
    pub(crate) fn ping(self: &Arc<Self>, unix_ms: u64) -> (u64, Entry<Duration>) {
        let mut stamp = unix_ms;
        let entry = self.add(|state, waiting| {
            while state.pings.contains_key(&stamp) {
                stamp += 1;
            }
            state.pings.extend(waiting.map(|waiting| (stamp, (Instant::now(), waiting))));
            Key::Ping(stamp)
        });
        (stamp, entry)
    }

    /// Inserts who waits, unless the connection is over: then they are told at once.
    fn add<T>(
        self: &Arc<Self>,
        insert: impl FnOnce(&mut State, Option<Waiting<T>>) -> Key,
    ) -> Entry<T> {
        let (waiting, answer) = oneshot::channel();
        let mut state = self.lock();
        let waiting = match &state.closed {
            Some(closed) => {
                drop(waiting.send(Err(closed.clone())));
                None
            }
            None => Some(waiting),
        };
        let key = insert(&mut state, waiting);
        drop(state);
        Entry { table: Arc::clone(self), key, answer }
    }

    /// Hands the welcome over; false if nobody waits for one.
    pub(crate) fn welcomed(&self, welcome: Welcome) -> bool {
        let waiting = self.lock().welcome.take();
        waiting.is_some_and(|waiting| waiting.send(Ok(welcome)).is_ok())
    }

    /// Hands an answer over, or back if nobody waits for it.
    pub(crate) fn answered(&self, id: &str, answer: Answer) -> Option<Answer> {
        let waiting = self.lock().answers.remove(id);
        match waiting {
            Some(waiting) => waiting.send(Ok(answer)).err().and_then(Result::ok),
            None => Some(answer),
        }
    }

    /// Hands a pong over; false if nobody waits for it.
    pub(crate) fn ponged(&self, stamp: u64) -> bool {
        let waiting = self.lock().pings.remove(&stamp);
        waiting.is_some_and(|(sent, waiting)| waiting.send(Ok(sent.elapsed())).is_ok())
    }

    /// Tells everybody who waits, now and later, that the connection is over.
    pub(crate) fn close(&self, closed: &Closed) {
        let mut state = self.lock();
        state.closed.get_or_insert_with(|| closed.clone());
        let State { welcome, answers, pings, closed: _ } = std::mem::take(&mut *state);
        state.closed = Some(closed.clone());
        drop(state);
        // A receiver that is gone has stopped waiting, so nothing is lost with it.
        welcome.into_iter().for_each(|waiting| drop(waiting.send(Err(closed.clone()))));
        answers.into_values().for_each(|waiting| drop(waiting.send(Err(closed.clone()))));
        pings.into_values().for_each(|(_, waiting)| drop(waiting.send(Err(closed.clone()))));
    }

    /// Why the connection is over, if it is.
    pub(crate) fn closed(&self) -> Option<Closed> {
        self.lock().closed.clone()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it is held, and the table is whole at every step.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Entry<T> {
    /// The answer, or why there is none within `after`.
    pub(crate) async fn wait(mut self, what: &'static str, after: Duration) -> Result<T, Error> {
        match tokio::time::timeout(after, &mut self.answer).await {
            Err(_) => Err(Error::Timeout { what, after }),
            Ok(Ok(Ok(answer))) => Ok(answer),
            Ok(Ok(Err(closed))) => Err(Error::Closed(closed)),
            // The same id was used again while this one waited.
            Ok(Err(_)) => Err(Error::Timeout { what, after: Duration::ZERO }),
        }
    }
}

impl<T> Drop for Entry<T> {
    fn drop(&mut self) {
        self.answer.close();
        let mut state = self.table.lock();
        match &self.key {
            Key::Welcome => state.welcome = None,
            Key::Answer(id) => {
                // Not where the same id was asked again meanwhile.
                if state.answers.get(id).is_some_and(oneshot::Sender::is_closed) {
                    state.answers.remove(id);
                }
            }
            Key::Ping(stamp) => {
                state.pings.remove(stamp);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Duration = Duration::from_millis(20);

    #[tokio::test]
    async fn an_answer_reaches_the_one_who_asked() {
        let pending = Arc::new(Pending::default());
        let (one, two) = (pending.answer("1"), pending.answer("2"));
        assert_eq!(pending.answered("2", Answer::Left), None);
        assert_eq!(two.wait("leave", SHORT).await.unwrap(), Answer::Left);
        assert!(matches!(one.wait("leave", SHORT).await, Err(Error::Timeout { .. })));
    }

    #[tokio::test]
    async fn whoever_gives_up_leaves_no_trace() {
        let pending = Arc::new(Pending::default());
        assert!(pending.answer("1").wait("join", Duration::ZERO).await.is_err());
        assert!(pending.lock().answers.is_empty());
        assert_eq!(pending.answered("1", Answer::Left), Some(Answer::Left));
        let (stamp, entry) = pending.ping(7);
        drop(entry);
        assert!(!pending.ponged(stamp));
        let state = pending.lock();
        assert!(state.answers.is_empty() && state.pings.is_empty());
    }

    #[tokio::test]
    async fn everybody_is_told_of_the_end_also_those_who_come_late() {
        let pending = Arc::new(Pending::default());
        let early = pending.answer("1");
        pending.close(&Closed { code: 4001, reason: "Unauthorized".into() });
        for entry in [early, pending.answer("2")] {
            let error = entry.wait("join", SHORT).await.unwrap_err();
            assert_eq!(error.code(), Some(4001));
            assert!(error.is_denied());
        }
    }

    #[test]
    fn pings_of_the_same_millisecond_get_different_stamps() {
        let pending = Arc::new(Pending::default());
        let (first, _one) = pending.ping(7);
        let (second, _two) = pending.ping(7);
        assert_eq!((first, second), (7, 8));
    }
}
