//! The bytes that wait for one connection, in three classes. Owned by the shell, allocated only while a socket takes
//! no more; frames are shared, so a slow member costs references.

use std::collections::VecDeque;

use bytes::{Buf, Bytes};
use roomcast_protocol::publication::Priority;

/// Frames that a class may send while a lower one waits, before the lower one sends one.
const SHARE: u32 = 8;

/// Frames waiting for one connection. Within a class they leave in order; a frame once begun is finished first.
///
/// An empty frame is a mark: all that waits leaves before whatever comes later, of any class.
#[derive(Debug, Default)]
pub struct Outbox {
    /// What leaves first, in order: frames that waited when a mark came.
    settled: VecDeque<Bytes>,
    classes: [VecDeque<Bytes>; 3],
    /// The frame under way, if some of it has left.
    begun: Option<Bytes>,
    /// By class: its frames sent in a row although a lower class waited.
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

    /// Adds a frame behind the others of its class; an empty one settles the order of all that waits.
    pub fn push(&mut self, frame: Bytes, class: Priority) {
        if frame.is_empty() {
            while let Some(frame) = self.pick() {
                self.settled.push_back(frame);
            }
            return;
        }
        self.bytes += frame.len();
        if let Some(queue) = self.classes.get_mut(class as usize) {
            queue.push_back(frame);
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

    /// The bytes to write next.
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

    /// The next frame of the highest class that has one, or, where that had its share, of a lower one.
    fn pick(&mut self) -> Option<Bytes> {
        let mut waiting =
            self.classes.iter_mut().zip(&mut self.streaks).filter(|it| !it.0.is_empty());
        let (mut queue, mut streak) = waiting.next()?;
        for (lower, its_streak) in waiting {
            if *streak < SHARE {
                *streak += 1;
                return queue.pop_front();
            }
            *streak = 0;
            (queue, streak) = (lower, its_streak);
        }
        *streak = 0;
        queue.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drain(outbox: &mut Outbox, step: usize) -> String {
        let mut sent = Vec::new();
        while let Some(bytes) = outbox.front() {
            let count = step.min(bytes.len());
            sent.extend_from_slice(&bytes[..count]);
            outbox.written(count, 1);
        }
        assert!(outbox.is_empty());
        String::from_utf8(sent).unwrap()
    }

    #[test]
    fn classes_leave_in_order_and_frames_stay_whole() {
        let mut outbox = Outbox::new(0);
        outbox.push_begun("-rest ".into());
        outbox.push("low ".into(), Priority::Low);
        outbox.push("normal ".into(), Priority::Normal);
        outbox.push("high ".into(), Priority::High);
        assert_eq!(drain(&mut outbox, 2), "-rest high normal low ");
    }

    #[test]
    fn lower_classes_keep_a_share() {
        let mut outbox = Outbox::new(0);
        for _ in 0..20 {
            outbox.push("h".into(), Priority::High);
        }
        outbox.push("N".into(), Priority::Normal);
        outbox.push("L".into(), Priority::Low);
        assert_eq!(drain(&mut outbox, 9), "hhhhhhhhNhhhhhhhhLhhhh");
    }

    #[test]
    fn the_lowest_class_moves_while_two_others_never_end() {
        let mut outbox = Outbox::new(0);
        for _ in 0..100 {
            outbox.push("h".into(), Priority::High);
            outbox.push("n".into(), Priority::Normal);
        }
        outbox.push("L".into(), Priority::Low);
        let sent = drain(&mut outbox, 9);
        assert_eq!(sent.find('L'), Some(80), "{sent}");
    }

    #[test]
    fn what_waits_at_a_mark_leaves_before_what_comes_later() {
        let mut outbox = Outbox::new(0);
        outbox.push("begun ".into(), Priority::Low);
        outbox.front();
        outbox.written(1, 0);
        outbox.push("low ".into(), Priority::Low);
        outbox.push("normal ".into(), Priority::Normal);
        outbox.push(Bytes::new(), Priority::High);
        outbox.push("left ".into(), Priority::High);
        outbox.push("slow ".into(), Priority::Normal);
        outbox.push("joined ".into(), Priority::High);
        assert_eq!(outbox.bytes(), 33);
        assert_eq!(drain(&mut outbox, 3), "egun normal low left joined slow ");
    }

    #[test]
    fn a_mark_in_an_empty_outbox_leaves_it_empty() {
        let mut outbox = Outbox::new(0);
        outbox.push(Bytes::new(), Priority::High);
        assert!(outbox.is_empty() && outbox.front().is_none());
    }

    #[test]
    fn a_cleared_outbox_forgets_settled_frames_too() {
        let mut outbox = Outbox::new(0);
        outbox.push("a".into(), Priority::Normal);
        outbox.push(Bytes::new(), Priority::High);
        outbox.push("b".into(), Priority::Normal);
        outbox.clear_waiting();
        assert!(outbox.is_empty() && outbox.front().is_none());
    }

    #[test]
    fn a_cleared_outbox_still_finishes_the_frame_under_way() {
        let mut outbox = Outbox::new(0);
        outbox.push("begun".into(), Priority::Normal);
        outbox.push("more".into(), Priority::Normal);
        outbox.front();
        outbox.written(2, 1);
        outbox.clear_waiting();
        assert_eq!(outbox.bytes(), 3);
        assert_eq!(drain(&mut outbox, 9), "gun");
    }
}
