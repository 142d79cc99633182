//! The bytes that wait for one connection, in three classes. Owned by the shell, allocated only while a socket takes
//! no more; frames are shared, so a slow member costs references.

use std::collections::VecDeque;

use bytes::{Buf, Bytes};
use roomcast_protocol::publication::Priority;

/// Frames that a class may send while a lower one waits, before the lower one sends one.
const SHARE: u32 = 8;

/// Frames waiting for one connection. Within a class they leave in order; a frame once begun is finished first.
#[derive(Debug, Default)]
pub struct Outbox {
    classes: [VecDeque<Bytes>; 3],
    /// The frame under way, if some of it has left.
    begun: Option<Bytes>,
    /// Frames sent in a row although a lower class waited.
    streak: u32,
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

    /// Adds a frame behind the others of its class.
    pub fn push(&mut self, frame: Bytes, class: Priority) {
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
        self.classes = Default::default();
        self.bytes = self.begun.as_ref().map_or(0, Bytes::len);
    }

    /// The bytes to write next.
    pub fn front(&mut self) -> Option<&[u8]> {
        if self.begun.is_none() {
            self.begun = self.pick();
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

    fn pick(&mut self) -> Option<Bytes> {
        let first = self.classes.iter().position(|queue| !queue.is_empty())?;
        let waits = |(class, queue): (usize, &VecDeque<Bytes>)| {
            (class > first && !queue.is_empty()).then_some(class)
        };
        let lower = self.classes.iter().enumerate().find_map(waits);
        let class = match lower {
            Some(lower) if self.streak >= SHARE => {
                self.streak = 0;
                lower
            }
            Some(_) => {
                self.streak += 1;
                first
            }
            None => {
                self.streak = 0;
                first
            }
        };
        self.classes.get_mut(class)?.pop_front()
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
