//! What clients write down while a scene runs, and what the checker reads afterwards. Judges nothing.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use roomcast_protocol::position::Position;

/// One room of a scene.
#[derive(Clone, Debug)]
pub(crate) struct Room {
    pub(crate) name: String,
    /// It has a history: its publications have positions.
    pub(crate) kept: bool,
}

/// One client that listens.
#[derive(Clone, Debug)]
pub(crate) struct Member {
    /// By their index.
    pub(crate) rooms: Vec<usize>,
    /// It holds the permission that some publications require.
    pub(crate) vip: bool,
    /// It is one of the client's sessions, which go to other nodes by themselves: what it hears twice is a mistake.
    pub(crate) travels: bool,
}

/// What a member saw, in the order in which it saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum What {
    /// It has a new connection; to this node, where it chose that itself.
    Connected { node: Option<usize> },
    /// Its connection ended with this code, where it was told.
    Closed { code: Option<u16> },
    /// It hears the room.
    Joined {
        room: usize,
        /// What it had covered, and asked to be told the rest of.
        since: Option<Position>,
        at: Option<Position>,
        /// Whether all of that comes; `None`: nothing is said of it.
        recovered: Option<bool>,
        live: bool,
    },
    /// A publication, by its number within its room.
    Heard { room: usize, number: u64, at: Option<Position>, isolated: bool },
    /// A publication that nobody of this scene sent so.
    Strange { room: usize, text: String },
    /// Offsets were covered without a delivery.
    Skipped { room: usize, to: Position, count: u64 },
    /// Publications are lost; without a room: in all rooms that keep nothing.
    Gap { room: Option<usize>, at: Option<Position> },
}

/// One thing that a member saw.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    pub(crate) member: usize,
    /// Units: microseconds since the scene began.
    pub(crate) at_us: u64,
    pub(crate) what: What,
}

/// How far an accepted publication got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Level {
    /// The broker took it.
    Accepted,
    /// It is in the room's history, or in that of replicas as well.
    Kept,
    /// This node's own members alone got it.
    Isolated,
}

/// A node's yes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Acked {
    /// Units: microseconds since the scene began.
    pub(crate) at_us: u64,
    pub(crate) level: Level,
    pub(crate) position: Option<Position>,
    /// Not every node was known to hear it.
    pub(crate) partial: bool,
}

/// One publication, sent as often as it took.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    pub(crate) room: usize,
    pub(crate) number: u64,
    /// When it was sent first. Units: microseconds since the scene began.
    pub(crate) first_us: u64,
    /// How often it was sent.
    pub(crate) tries: u32,
    /// `None`: whether it was published is unknown.
    pub(crate) acked: Option<Acked>,
    /// It requires the permission that every other member holds.
    pub(crate) vip: bool,
    /// Refused for good.
    pub(crate) refused: bool,
    /// The last answer that was no ack.
    pub(crate) answer: Option<String>,
}

/// A fault, and when it was over.
#[derive(Clone, Debug)]
pub(crate) struct Fault {
    pub(crate) name: String,
    /// Units: microseconds since the scene began.
    pub(crate) injected_us: u64,
    /// From here on everything works again. Units: microseconds since the scene began.
    pub(crate) healed_us: u64,
}

/// A node that was asked to end, and let its clients go.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Drain {
    pub(crate) node: usize,
    /// Units: microseconds since the scene began.
    pub(crate) began_us: u64,
    /// When it had ended. Units: microseconds since the scene began.
    pub(crate) ended_us: u64,
    /// How long it may take until its last client has gone. Units: microseconds.
    pub(crate) limit_us: u64,
}

/// All that is known of one scene.
#[derive(Clone, Debug, Default)]
pub(crate) struct Facts {
    pub(crate) rooms: Vec<Room>,
    pub(crate) members: Vec<Member>,
    pub(crate) records: Vec<Record>,
    pub(crate) sent: Vec<Sent>,
    pub(crate) faults: Vec<Fault>,
    pub(crate) drains: Vec<Drain>,
}

/// Where clients write.
#[derive(Debug)]
pub(crate) struct Book {
    began: Instant,
    closed: AtomicBool,
    records: Mutex<Vec<Record>>,
    sent: Mutex<Vec<Sent>>,
}

impl Book {
    pub(crate) fn new() -> Self {
        Self {
            began: Instant::now(),
            closed: AtomicBool::new(false),
            records: Mutex::default(),
            sent: Mutex::default(),
        }
    }

    /// Units: microseconds since the scene began.
    pub(crate) fn now_us(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// Writes down what a member saw, now.
    pub(crate) fn saw(&self, member: usize, what: What) {
        if !self.closed.load(Ordering::SeqCst) {
            let at_us = self.now_us();
            held(&self.records).push(Record { member, at_us, what });
        }
    }

    /// Writes down that a publication is under way; answers with its place.
    pub(crate) fn begin(&self, sent: Sent) -> usize {
        let mut all = held(&self.sent);
        all.push(sent);
        all.len() - 1
    }

    /// Writes down what has become of it.
    pub(crate) fn update(&self, place: usize, sent: &Sent) {
        if let Some(old) = held(&self.sent).get_mut(place) {
            old.clone_from(sent);
        }
    }

    /// The end of the scene: what clients see later does not count.
    pub(crate) fn close(&self) -> (Vec<Record>, Vec<Sent>) {
        self.closed.store(true, Ordering::SeqCst);
        (std::mem::take(&mut held(&self.records)), std::mem::take(&mut held(&self.sent)))
    }
}

fn held<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}
