//! The bytes that wait for one connection, in three classes. Owned by the shell, allocated only while a socket takes
//! no more; frames are shared, so a slow member costs references.

use std::collections::VecDeque;

use bytes::{Buf, Bytes};
use roomcast_protocol::publication::Priority;

/// Frames that a class may send ahead of an older one of a lower class, before the lower class sends one.
const SHARE: u32 = 8;

/// Frames waiting for one connection. Within a class they leave in order; none ever leaves before an older one of a
/// higher class (so a reply to a join precedes the room's pushes); a frame once begun is finished first.
///
/// An empty frame is a mark: all that waits leaves before whatever comes later, of any class.
#[derive(Debug, Default)]
pub struct Outbox {
    /// What leaves first, in order: frames that waited when a mark came.
    settled: VecDeque<Bytes>,
    /// By class: frames with their numbers, which count all that came.
    classes: [VecDeque<(u64, Bytes)>; 3],
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
            self.came += 1;
            queue.push_back((self.came, frame));
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
        queue.pop_front().map(|(_, frame)| frame)
    }
}

fn number(queue: &VecDeque<(u64, Bytes)>) -> u64 {
    queue.front().map_or(u64::MAX, |(number, _)| *number)
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
        outbox.push("N".into(), Priority::Normal);
        outbox.push("L".into(), Priority::Low);
        for _ in 0..20 {
            outbox.push("h".into(), Priority::High);
        }
        assert_eq!(drain(&mut outbox, 9), "hhhhhhhhNhhhhhhhhLhhhh");
    }

    #[test]
    fn the_lowest_class_moves_while_two_others_never_end() {
        let mut outbox = Outbox::new(0);
        outbox.push("L".into(), Priority::Low);
        for _ in 0..100 {
            outbox.push("h".into(), Priority::High);
            outbox.push("n".into(), Priority::Normal);
        }
        let sent = drain(&mut outbox, 9);
        assert!(sent.find('L').is_some_and(|at| at <= 80), "{sent}");
    }

    #[test]
    fn a_frame_never_leaves_before_an_older_one_of_a_higher_class() {
        let mut outbox = Outbox::new(0);
        for number in 0..20 {
            outbox.push(format!("joined-{number:02} ").into(), Priority::High);
        }
        outbox.push("push ".into(), Priority::Normal);
        let sent = drain(&mut outbox, 9);
        assert!(sent.ends_with("joined-19 push "), "{sent}");
    }

    #[test]
    fn whatever_comes_when_each_frame_keeps_its_rights() {
        for seed in 0..200_u64 {
            let (mut outbox, mut state) = (Outbox::new(0), seed + 1);
            let mut random = |bound: u64| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (state >> 33) % bound
            };
            let (mut waiting, mut sent) = (Vec::new(), Vec::new());
            let (mut marks, mut next) = (0, 0_u32);
            for step in 0..400 {
                match random(12) {
                    0 => {
                        outbox.push(Bytes::new(), Priority::High);
                        marks += 1;
                    }
                    1..=6 if step < 300 => {
                        let class = Priority::ALL[usize::try_from(random(3)).unwrap()];
                        next += 1;
                        outbox.push(next.to_be_bytes().to_vec().into(), class);
                        waiting.push((next, class, marks, 0));
                    }
                    _ => {
                        let Some(bytes) = outbox.front() else { continue };
                        let number = u32::from_be_bytes(bytes.try_into().unwrap());
                        outbox.written(4, 0);
                        let at = waiting.iter().position(|it| it.0 == number).unwrap();
                        let (_, class, mark, _) = waiting.remove(at);
                        for (_, other, its_mark, overtaken) in &mut waiting[..at] {
                            assert!(*other > class && *its_mark == mark, "seed {seed}: {number}");
                            *overtaken += 1;
                            assert!(*overtaken < 2 * 81, "seed {seed}: starved");
                        }
                        sent.push(number);
                    }
                }
            }
            while outbox.front().is_some() {
                outbox.written(4, 0);
                sent.push(0);
            }
            assert_eq!((sent.len(), outbox.bytes()), (next as usize, 0));
        }
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
