//! The bytes that wait for one connection, in three classes. Owned by the shell, allocated only while a socket takes
//! no more; frames are shared, so a slow member costs references. What is let go when it is full: [`Outbox::shed`].

mod shed;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::{Buf, Bytes};
use roomcast_protocol::publication::Priority;

pub use shed::{Mark, Parked, RoomSerial, Shed};

/// Frames that a class may send ahead of an older one of a lower class, before the lower class sends one.
const SHARE: u32 = 8;

/// A frame that waits.
#[derive(Debug)]
struct Waiting {
    /// Counts all that came.
    number: u64,
    frame: Bytes,
    /// What may be done with it when the outbox is full; `None`: nothing.
    mark: Option<Arc<Mark>>,
}

/// Frames waiting for one connection. Within a class they leave in order; none ever leaves before an older one of a
/// higher class (so a reply to a join precedes the room's pushes); a frame once begun is finished first.
///
/// An empty frame is a fence: all that waits leaves before whatever comes later, of any class, and none of it is let
/// go, for what comes later may say that it left.
#[derive(Debug, Default)]
pub struct Outbox {
    /// What leaves first, in order: frames that waited when a fence came.
    settled: VecDeque<Bytes>,
    /// By class.
    classes: [VecDeque<Waiting>; 3],
    came: u64,
    /// The frame under way, if some of it has left.
    begun: Option<Bytes>,
    /// By class: its frames sent in a row ahead of an older one of a lower class.
    streaks: [u32; 3],
    bytes: usize,
    /// When bytes last left. Units: monotonic milliseconds.
    pub progress_ms: u64,
}

impl Outbox {
    /// An empty outbox, made at `mono_ms`.
    #[must_use]
    pub fn new(mono_ms: u64) -> Self {
        Self { progress_ms: mono_ms, ..Self::default() }
    }

    /// Bytes waiting.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether nothing waits.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// Adds a frame behind the others of its class; an empty one settles all that waits.
    pub fn push(&mut self, frame: Bytes, class: Priority, mark: Option<Arc<Mark>>) {
        if frame.is_empty() {
            while let Some(frame) = self.pick() {
                self.settled.push_back(frame);
            }
            return;
        }
        self.bytes += frame.len();
        if let Some(queue) = self.classes.get_mut(class as usize) {
            self.came += 1;
            queue.push_back(Waiting { number: self.came, frame, mark });
        }
    }

    /// Adds what is left of a frame that was begun: it goes on before all else.
    pub fn push_begun(&mut self, rest: Bytes) {
        debug_assert!(self.begun.is_none(), "one frame at a time is under way");
        self.bytes += rest.len();
        self.begun = Some(rest);
    }

    /// Forgets all frames but the one under way.
    pub fn clear_waiting(&mut self) {
        self.settled = VecDeque::new();
        self.classes = Default::default();
        self.bytes = self.begun.as_ref().map_or(0, Bytes::len);
    }

    /// The bytes to write next: never of more than one frame as it was pushed, so that what comes in a higher class
    /// meanwhile waits for no more than that.
    pub fn front(&mut self) -> Option<&[u8]> {
        if self.begun.is_none() {
            self.begun = self.settled.pop_front().or_else(|| self.pick());
        }
        self.begun.as_deref()
    }

    /// Says that `count` of the bytes that [`Outbox::front`] gave have left.
    pub fn written(&mut self, count: usize, mono_ms: u64) {
        self.progress_ms = mono_ms;
        if let Some(frame) = &mut self.begun {
            let count = count.min(frame.len());
            frame.advance(count);
            self.bytes -= count;
            if frame.is_empty() {
                self.begun = None;
            }
        }
    }

    /// The next frame of the highest class that has one; where that had its share of overtaking, of a lower one.
    fn pick(&mut self) -> Option<Bytes> {
        let mut waiting =
            self.classes.iter_mut().zip(&mut self.streaks).filter(|it| !it.0.is_empty());
        let (mut queue, mut streak) = waiting.next()?;
        let mut overtakes = false;
        for (lower, its_streak) in waiting {
            if number(lower) > number(queue) {
                continue;
            }
            overtakes = *streak < SHARE;
            if overtakes {
                break;
            }
            *streak = 0;
            (queue, streak) = (lower, its_streak);
        }
        *streak = if overtakes { *streak + 1 } else { 0 };
        queue.pop_front().map(|waiting| waiting.frame)
    }
}

fn number(queue: &VecDeque<Waiting>) -> u64 {
    queue.front().map_or(u64::MAX, |waiting| waiting.number)
}
