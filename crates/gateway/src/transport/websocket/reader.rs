//! Reads client frames, RFC 6455, out of whatever bytes are at hand. Does no IO and keeps nothing while a connection
//! is idle: whole frames are unmasked where they lie, and only what is split over several reads or frames is copied.
//! What it holds grows with bytes received, never with a length announced (INV-7, INV-8).

use std::borrow::Cow;
use std::mem;

use super::head::{self, HEAD_BYTES_MAX, Head, Kind};
pub use super::violation::{FrameLimits, Violation};

/// What the bytes said.
#[derive(Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// All bytes were used; nothing is whole yet.
    NeedMore,
    /// One whole data message, its fragments joined.
    Message {
        /// A text message, and so checked UTF-8; else a binary one.
        text: bool,
        /// Borrowed from the input if it came whole in one frame.
        payload: Cow<'a, [u8]>,
    },
    /// A ping, to be answered with a pong of the same payload.
    Ping(Cow<'a, [u8]>),
    /// A pong.
    Pong(Cow<'a, [u8]>),
    /// The client closes; no byte behind this is to be read.
    Close {
        /// Its code, if it gave one: always one that may be sent.
        code: Option<u16>,
        /// Its words.
        reason: Cow<'a, str>,
    },
    /// The connection must end; no byte behind this is to be read.
    Fail(Violation),
}

/// The reading half of one connection. One pointer and a small counter while nothing is split.
#[derive(Debug, Default)]
pub struct Reader {
    partial: Option<Box<Partial>>,
    controls: ControlMeter,
}

/// What is not whole yet.
#[derive(Debug, Default)]
struct Partial {
    /// A head that came in part.
    head: [u8; HEAD_BYTES_MAX],
    head_bytes: usize,
    /// A frame whose head is whole and whose payload is not.
    frame: Option<Frame>,
    /// The payload of a control frame that came in part. Bounds: 125 bytes.
    control: Vec<u8>,
    /// A data message that came in part.
    message: Option<Message>,
}

#[derive(Debug)]
struct Frame {
    kind: Kind,
    last: bool,
    mask: [u8; 4],
    missing_bytes: usize,
}

#[derive(Debug)]
struct Message {
    text: bool,
    payload: Vec<u8>,
    /// How much of a text is known to be UTF-8.
    checked_bytes: usize,
    fragments: u32,
}

impl Reader {
    /// A reader at the start of a connection's first frame.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads up to the first event in `input`, and says how many bytes that took.
    ///
    /// Call it again with the rest until it answers [`Event::NeedMore`], which uses up all of the input. The bytes used
    /// are changed: their mask is taken off. `now_ms` is any clock that does not go back.
    pub fn next<'a>(
        &mut self,
        limits: &FrameLimits,
        now_ms: u64,
        input: &'a mut [u8],
    ) -> (usize, Event<'a>) {
        let given = input.len();
        let mut rest = input;
        let event = self.advance(limits, now_ms, &mut rest).unwrap_or_else(|violation| {
            self.partial = None;
            Event::Fail(violation)
        });
        (given - rest.len(), event)
    }

    /// Whether a frame or message is half read.
    #[must_use]
    pub fn is_mid_message(&self) -> bool {
        self.partial.is_some()
    }

    fn advance<'a>(
        &mut self,
        limits: &FrameLimits,
        now_ms: u64,
        rest: &mut &'a mut [u8],
    ) -> Result<Event<'a>, Violation> {
        loop {
            if let Some(partial) = self.partial.as_deref_mut()
                && partial.frame.is_some()
            {
                let Some(frame) = partial.take_payload(rest)? else { return Ok(Event::NeedMore) };
                let Some(event) = partial.finish(&frame)? else { continue };
                self.forget_if_empty();
                return Ok(event);
            }
            let Some(head) = self.take_head(rest)? else { return Ok(Event::NeedMore) };
            if head.kind.is_control() {
                self.controls.count(now_ms, limits.controls_per_second_max, head.kind)?;
            }
            let length = self.admit(&head, limits)?;
            let message_is_open = self.partial.as_ref().is_some_and(|p| p.message.is_some());
            if length <= rest.len() && (head.kind.is_control() || (head.last && !message_is_open)) {
                let event = whole(&head, take(rest, length))?;
                self.forget_if_empty();
                return Ok(event);
            }
            self.partial.get_or_insert_default().begin(&head, length);
        }
    }

    /// Reads a head, part of which may have come before.
    fn take_head(&mut self, rest: &mut &mut [u8]) -> Result<Option<Head>, Violation> {
        let kept = self.partial.as_ref().map_or(0, |partial| partial.head_bytes);
        if kept == 0 {
            if let Some((head, used)) = head::parse(rest)? {
                take(rest, used);
                return Ok(Some(head));
            }
            if rest.is_empty() {
                return Ok(None);
            }
        }
        let partial = self.partial.get_or_insert_default();
        while let Some(byte) = take(rest, 1).first() {
            if let Some(place) = partial.head.get_mut(partial.head_bytes) {
                *place = *byte;
                partial.head_bytes += 1;
            }
            let known = partial.head.get(..partial.head_bytes).unwrap_or_default();
            if let Some((head, _)) = head::parse(known)? {
                partial.head_bytes = 0;
                return Ok(Some(head));
            }
        }
        Ok(None)
    }

    /// Checks a frame against the message it belongs to, before any of its bytes is kept; gives its length.
    fn admit(&self, head: &Head, limits: &FrameLimits) -> Result<usize, Violation> {
        let message = self.partial.as_ref().and_then(|partial| partial.message.as_ref());
        let (bytes, fragments) = match (head.kind, message) {
            (Kind::Close | Kind::Ping | Kind::Pong, _) | (Kind::Text | Kind::Binary, None) => {
                (0, 0)
            }
            (Kind::Text | Kind::Binary, Some(_)) => return Err(Violation::InterruptedMessage),
            (Kind::Continuation, None) => return Err(Violation::StrayContinuation),
            (Kind::Continuation, Some(message)) => (message.payload.len(), message.fragments),
        };
        let length = usize::try_from(head.length).map_err(|_| Violation::FrameTooLarge)?;
        if head.kind.is_control() {
            return Ok(length);
        }
        if length > limits.frame_bytes_max {
            return Err(Violation::FrameTooLarge);
        }
        if bytes.saturating_add(length) > limits.message_bytes_max {
            return Err(Violation::MessageTooLarge);
        }
        if fragments >= limits.fragments_max {
            return Err(Violation::TooManyFragments);
        }
        Ok(length)
    }

    fn forget_if_empty(&mut self) {
        if self.partial.as_ref().is_some_and(|partial| partial.message.is_none()) {
            self.partial = None;
        }
    }
}

impl Partial {
    fn begin(&mut self, head: &Head, length: usize) {
        let &Head { kind, last, mask, .. } = head;
        if !kind.is_control() {
            let message = self.message.get_or_insert_with(|| Message {
                text: kind == Kind::Text,
                payload: Vec::new(),
                checked_bytes: 0,
                fragments: 0,
            });
            message.fragments += 1;
        }
        self.frame = Some(Frame { kind, last, mask, missing_bytes: length });
    }

    /// Takes what there is of the frame's payload; gives the frame once it is whole.
    fn take_payload(&mut self, rest: &mut &mut [u8]) -> Result<Option<Frame>, Violation> {
        let Some(frame) = self.frame.as_mut() else { return Ok(None) };
        let count = frame.missing_bytes.min(rest.len());
        let bytes = take(rest, count);
        head::unmask(&mut frame.mask, bytes);
        frame.missing_bytes -= count;
        match &mut self.message {
            Some(message) if !frame.kind.is_control() => message.append(bytes)?,
            Some(_) | None => self.control.extend_from_slice(bytes),
        }
        Ok(if frame.missing_bytes == 0 { self.frame.take() } else { None })
    }

    /// What a frame that is now whole says, if it says anything by itself.
    fn finish(&mut self, frame: &Frame) -> Result<Option<Event<'static>>, Violation> {
        if frame.kind.is_control() {
            return control(frame.kind, Cow::Owned(mem::take(&mut self.control))).map(Some);
        }
        if !frame.last {
            return Ok(None);
        }
        let Some(message) = self.message.take() else { return Ok(None) };
        if message.text && message.checked_bytes < message.payload.len() {
            return Err(Violation::BadUtf8);
        }
        Ok(Some(Event::Message { text: message.text, payload: Cow::Owned(message.payload) }))
    }
}

impl Message {
    /// Appends bytes, and checks a text as far as it goes: bad text ends the connection before it is whole.
    fn append(&mut self, bytes: &[u8]) -> Result<(), Violation> {
        self.payload.extend_from_slice(bytes);
        if self.text {
            // At most three bytes, of a character that is not whole yet, are looked at twice.
            let unchecked = self.payload.get(self.checked_bytes..).unwrap_or_default();
            self.checked_bytes += match std::str::from_utf8(unchecked) {
                Ok(text) => text.len(),
                Err(error) if error.error_len().is_none() => error.valid_up_to(),
                Err(_) => return Err(Violation::BadUtf8),
            };
        }
        Ok(())
    }
}

/// What a frame says that lies whole in the input.
fn whole<'a>(head: &Head, payload: &'a mut [u8]) -> Result<Event<'a>, Violation> {
    head::unmask(&mut { head.mask }, payload);
    let payload = &*payload;
    if head.kind.is_control() {
        return control(head.kind, Cow::Borrowed(payload));
    }
    let text = head.kind == Kind::Text;
    if text && std::str::from_utf8(payload).is_err() {
        return Err(Violation::BadUtf8);
    }
    Ok(Event::Message { text, payload: Cow::Borrowed(payload) })
}

fn control(kind: Kind, payload: Cow<'_, [u8]>) -> Result<Event<'_>, Violation> {
    match kind {
        Kind::Ping => Ok(Event::Ping(payload)),
        Kind::Pong => Ok(Event::Pong(payload)),
        Kind::Close => close(payload),
        // Never asked for; a data frame where none can be is one.
        Kind::Continuation | Kind::Text | Kind::Binary => Err(Violation::UnknownOpcode),
    }
}

fn close(payload: Cow<'_, [u8]>) -> Result<Event<'_>, Violation> {
    let code = match *payload {
        [] => return Ok(Event::Close { code: None, reason: Cow::Borrowed("") }),
        [_] => return Err(Violation::CloseTruncated),
        [high, low, ..] => u16::from_be_bytes([high, low]),
    };
    // RFC 6455 7.4 and the IANA registry: 1004 to 1006 and 1015 are never sent, below 3000 the rest is not given out.
    if !matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999) {
        return Err(Violation::CloseCode);
    }
    let reason = match payload {
        Cow::Borrowed(bytes) => {
            std::str::from_utf8(bytes.get(2..).unwrap_or_default()).map(Cow::Borrowed)
        }
        Cow::Owned(bytes) => std::str::from_utf8(bytes.get(2..).unwrap_or_default())
            .map(|text| Cow::Owned(text.to_owned())),
    };
    Ok(Event::Close { code: Some(code), reason: reason.map_err(|_| Violation::BadUtf8)? })
}

/// Splits `count` bytes off the front.
fn take<'a>(rest: &mut &'a mut [u8], count: usize) -> &'a mut [u8] {
    let all = mem::take(rest);
    let (front, back) = all.split_at_mut(count.min(all.len()));
    *rest = back;
    front
}

/// Counts control frames by the second.
#[derive(Clone, Copy, Debug, Default)]
struct ControlMeter {
    /// Which second is counted, its lower bits.
    second: u32,
    count: u32,
}

impl ControlMeter {
    fn count(&mut self, now_ms: u64, max: u32, kind: Kind) -> Result<(), Violation> {
        if kind == Kind::Close {
            return Ok(()); // the last frame in any case
        }
        let second = u32::try_from((now_ms / 1_000) & u64::from(u32::MAX)).unwrap_or(u32::MAX);
        if second != self.second {
            *self = Self { second, count: 0 };
        }
        self.count += 1;
        if self.count > max { Err(Violation::ControlFlood) } else { Ok(()) }
    }
}

#[cfg(test)]
#[path = "reader_tests.rs"]
mod tests;
