//! The task of one connection: reads frames, hands over their commands, drains the outbox, and ends the socket
//! properly. It is kept small: an idle connection is this future, its reader and its session.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io::ErrorKind;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use roomcast_protocol::codes::Close;
use roomcast_protocol::command::Command;
use roomcast_protocol::dialect::Decoder;
use roomcast_protocol::frame::Frame;
use roomcast_protocol::limits::LimitName;
use roomcast_protocol::publication::Priority;
use roomcast_router::happenings::Offence;

use super::connection::{Connection, Ending};
use super::shell::{Shell, add};
use crate::transport::linger::linger;
use crate::transport::socket::read_available;
use crate::transport::websocket::reader::{Event, Reader, Violation};
use crate::transport::websocket::writer;

/// Bytes read at once.
const READ_BYTES: usize = 64 * 1024;

/// Reads of one socket before other tasks get their turn.
const READS_MAX: usize = 4;

/// How long a closing socket may take for what waits, and then for its client's answer.
const CLOSE_FLUSH: Duration = Duration::from_millis(1_500);
const CLOSE_ANSWER: Duration = Duration::from_millis(1_000);

/// How long a publisher waits before its socket is looked at again, while the node's queues are over their half.
const CONGESTED_WAIT: Duration = Duration::from_millis(1);

thread_local! {
    static BUFFER: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ_BYTES].into_boxed_slice());
    static COMMANDS: RefCell<Vec<Command>> = const { RefCell::new(Vec::new()) };
}

/// Why the task stopped reading.
enum Step {
    /// The connection ends.
    End(End),
    /// The node's queues are over their half.
    Congested,
}

/// How the connection ends, as its task sees it.
enum End {
    /// The socket is gone.
    Gone,
    /// The client sent a Close frame with this code.
    Answer(Option<u16>),
    /// The node ends it.
    Close(Close),
    /// The node ends it, for its client has said nothing since then. Units: milliseconds since the Unix epoch.
    Silent(u64),
    /// The node ends it without a Close frame.
    Drop(Close),
    /// The client broke a rule of the wire.
    Violation(Violation),
}

impl End {
    /// As somebody else has begun it; `None`: nobody has.
    const fn of(ending: Ending) -> Option<Self> {
        match ending {
            Ending::Open => None,
            Ending::Close(close) => Some(Self::Close(close)),
            Ending::Silent(said_unix_ms) => Some(Self::Silent(said_unix_ms)),
            Ending::Drop(close) => Some(Self::Drop(close)),
            Ending::Gone => Some(Self::Gone),
        }
    }
}

/// What becomes of the bytes at hand.
enum Flow {
    /// All were used.
    Continue,
    /// The session must become ready before the bytes from here on are read.
    Wait(usize),
    /// The connection ends.
    End(End),
}

struct Reading {
    reader: Reader,
    decoder: Box<dyn Decoder>,
    /// Bytes behind a token, kept until the session is ready. Bounds: one read.
    leftover: Option<Box<[u8]>>,
    /// A token was given; the session is not ready yet.
    waits: bool,
}

/// Runs a connection to its end.
pub(super) async fn run(
    shell: Rc<Shell>,
    connection: Rc<Connection>,
    decoder: Box<dyn Decoder>,
    leftover: Option<Box<[u8]>>,
    token_given: bool,
) {
    let mut reading = Reading { reader: Reader::new(), decoder, leftover, waits: token_given };
    let end = loop {
        let turn = |cx: &mut Context<'_>| {
            let from = Instant::now();
            let step = reading.poll(&shell, &connection, cx);
            shell.flush();
            shell.turns.note(shell.now().mono_ms, from.elapsed());
            step
        };
        match poll_fn(turn).await {
            Step::End(end) => break end,
            Step::Congested => Box::pin(tokio::time::sleep(CONGESTED_WAIT)).await,
        }
    };
    Box::pin(finish(shell, connection, end)).await;
}

impl Reading {
    fn poll(&mut self, shell: &Shell, connection: &Connection, cx: &mut Context<'_>) -> Poll<Step> {
        connection.watch(cx);
        let step = |end| Poll::Ready(Step::End(end));
        if let Some(end) = End::of(connection.ending()) {
            return step(end);
        }
        if let Poll::Ready(Err(_)) = connection.poll_drain(shell, cx) {
            return step(End::Gone);
        }
        shell.relieve(connection);
        if self.waits && !connection.is_ready() {
            // Its client may hang up meanwhile; that shows once it is read again.
            return Poll::Pending;
        }
        self.waits = false;
        if let Some(mut bytes) = self.leftover.take() {
            match self.take(shell, connection, &mut bytes) {
                Flow::Continue => {}
                Flow::Wait(from) => {
                    self.keep(bytes.get(from..).unwrap_or_default());
                    return Poll::Pending;
                }
                Flow::End(end) => return step(end),
            }
        }
        for _ in 0..READS_MAX {
            if connection.is_ready() && shell.is_congested() {
                return Poll::Ready(Step::Congested);
            }
            if ready!(connection.stream().poll_read_ready(cx)).is_err() {
                return step(End::Gone);
            }
            let flow = BUFFER.with_borrow_mut(|buffer| {
                match read_available(connection.stream(), buffer) {
                    Ok(0) => Flow::End(End::Gone),
                    Ok(count) => {
                        let bytes = buffer.get_mut(..count).unwrap_or_default();
                        add(&shell.counters.bytes_in, count);
                        let flow = self.take(shell, connection, bytes);
                        if let Flow::Wait(from) = flow {
                            self.keep(bytes.get(from..).unwrap_or_default());
                        }
                        flow
                    }
                    Err(error) if error.kind() == ErrorKind::WouldBlock => Flow::Continue,
                    Err(_) => Flow::End(End::Gone),
                }
            });
            match flow {
                Flow::Continue => {}
                Flow::Wait(_) => return Poll::Pending,
                Flow::End(end) => return step(end),
            }
            // What a client said before its socket was gone is read to its end.
            if let Some(end) = End::of(connection.ending())
                && !matches!(end, End::Gone)
            {
                return step(end);
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn keep(&mut self, bytes: &[u8]) {
        self.waits = true;
        self.leftover = (!bytes.is_empty()).then(|| bytes.into());
    }

    /// Takes the frames in `bytes`.
    fn take(&mut self, shell: &Shell, connection: &Connection, bytes: &mut [u8]) -> Flow {
        let key = connection.key();
        let now = shell.now();
        shell.lane.borrow_mut().heard(now, key);
        let mut at = 0;
        while let Some(rest) = bytes.get_mut(at..).filter(|rest| !rest.is_empty()) {
            let ready = connection.is_ready();
            let limits = if ready { &shell.settings.frames } else { &shell.settings.first_frames };
            let (used, event) = self.reader.next(limits, now.mono_ms, rest);
            at += used;
            match event {
                Event::NeedMore => break,
                Event::Message { text, payload } => {
                    if self.message(shell, connection, Frame { text, payload: &payload })
                        && !connection.is_ready()
                    {
                        return Flow::Wait(at);
                    }
                }
                Event::Ping(payload) => {
                    let mut pong = Vec::with_capacity(payload.len() + 2);
                    writer::write_pong(&payload, &mut pong);
                    if connection.send(shell, now, (pong.into(), Priority::High), None) {
                        shell.shed_now(connection);
                    }
                }
                Event::Pong(payload) => {
                    if let Ok(number) = <[u8; 4]>::try_from(&payload[..]) {
                        shell.ponged(key, u32::from_be_bytes(number));
                    }
                }
                Event::Close { code, .. } => return Flow::End(End::Answer(code)),
                Event::Fail(violation) => {
                    let what = match limit_of(violation) {
                        Some(limit) => {
                            shell.hit(limit);
                            Offence::Limit { limit }
                        }
                        None => Offence::Malformed { what: violation.reason() },
                    };
                    shell.offended(key, what);
                    shell.close(key, close_of(violation));
                    return Flow::End(End::Violation(violation));
                }
            }
            if let Some(end) = End::of(connection.ending()) {
                return Flow::End(end);
            }
        }
        Flow::Continue
    }

    /// Hands over one message's commands; says whether a token was among them.
    fn message(&mut self, shell: &Shell, connection: &Connection, frame: Frame<'_>) -> bool {
        let mut commands = COMMANDS.take();
        let decoded = self.decoder.decode(frame, &mut commands);
        let mut token = false;
        for command in &commands {
            if let Command::Authenticate(request) = command {
                shell.count_token(&request.token);
                token = true;
            }
        }
        let key = connection.key();
        if !commands.is_empty() {
            shell.commands(key, commands.drain(..));
        }
        if let Err(close) = decoded {
            let limit = LimitName::InflatedBytes;
            shell.hit(limit);
            shell.offended(key, Offence::Limit { limit });
            shell.close(key, close);
        }
        commands.clear();
        COMMANDS.set(commands);
        token
    }
}

/// What a broken rule of the wire means for the connection.
fn close_of(violation: Violation) -> Close {
    match violation.code() {
        1007 => Close::BadText,
        1008 => Close::Flood,
        1009 => Close::TooLarge,
        _ => Close::Protocol,
    }
}

/// The limit that bit, if it was one.
fn limit_of(violation: Violation) -> Option<LimitName> {
    match violation {
        Violation::FrameTooLarge => Some(LimitName::FrameBytes),
        Violation::MessageTooLarge => Some(LimitName::MessageBytes),
        Violation::TooManyFragments => Some(LimitName::Fragments),
        Violation::ControlFlood => Some(LimitName::ControlFrames),
        Violation::Unmasked
        | Violation::ReservedBits
        | Violation::UnknownOpcode
        | Violation::FragmentedControl
        | Violation::LongControl
        | Violation::LengthNotShortest
        | Violation::LengthOverflow
        | Violation::StrayContinuation
        | Violation::InterruptedMessage
        | Violation::CloseTruncated
        | Violation::CloseCode
        | Violation::BadUtf8 => None,
    }
}

/// What the Close frame says; a limit is named with its value.
fn reason_of(close: Close, shell: &Shell) -> String {
    let settings = &shell.settings;
    let (limit, value) = match close {
        Close::TooLarge => (LimitName::InflatedBytes, settings.decode.inflated_bytes_max),
        Close::Limit => (LimitName::ConnectionsPerUser, settings.connections_per_user as usize),
        Close::Normal
        | Close::Stopping
        | Close::Protocol
        | Close::BadText
        | Close::Flood
        | Close::Silent
        | Close::AuthenticationFailed
        | Close::Unauthorized
        | Close::Drain
        | Close::Replaced
        | Close::Moved
        | Close::Disconnected
        | Close::Slow
        | Close::GapTooOld => return close.row().reason.to_owned(),
    };
    format!("{}: {} is {value}", close.row().reason, limit.name())
}

/// What the Close frame says to a client that said nothing for too long. Source: the chat protocol.
fn silence(said_unix_ms: u64, now_unix_ms: u64) -> String {
    format!("last ping: {said_unix_ms}, now: {now_unix_ms}")
}

/// How long a slow client's socket may take for the frame that was begun and the Close frame: its `write_timeout` once
/// more, for who reads on should learn why it ended; not while all outboxes are short of space.
fn slow_flush(outboxes_bytes: usize, outboxes_bytes_max: usize, write_timeout_ms: u64) -> Duration {
    let limit_ms = if outboxes_bytes <= outboxes_bytes_max / 2 { write_timeout_ms } else { 0 };
    Duration::from_millis(limit_ms).max(CLOSE_FLUSH)
}

/// Ends the socket: what waits is sent, then a Close frame, then the client's answer is awaited, all in bounded time.
async fn finish(shell: Rc<Shell>, connection: Rc<Connection>, end: End) {
    let key = connection.key();
    let said_goodbye = matches!(end, End::Answer(Some(1_000)));
    let mut flush_for = CLOSE_FLUSH;
    let (code, reason) = match end {
        End::Gone => (None, None),
        End::Drop(close) => {
            shell.count_close(close);
            (None, None)
        }
        End::Answer(code) => {
            shell.count_close(Close::Normal);
            (code, Some(String::new()))
        }
        End::Close(close) => {
            if matches!(close, Close::Slow | Close::Unauthorized) {
                // Who is slow gives its room to others; who may not hear anything any more hears nothing.
                connection.drop_waiting(&shell);
            }
            if close == Close::Slow {
                let (all, settings) = (shell.outboxes_bytes.get(), &shell.settings);
                flush_for = slow_flush(all, settings.outboxes_bytes_max, settings.write_timeout_ms);
            }
            (Some(close.row().code), Some(reason_of(close, &shell)))
        }
        End::Silent(said_unix_ms) => {
            let reason = silence(said_unix_ms, shell.now().unix_ms);
            (Some(Close::Silent.row().code), Some(reason))
        }
        End::Violation(violation) => {
            let settings = &shell.settings;
            let ready = connection.is_ready();
            let limits = if ready { &settings.frames } else { &settings.first_frames };
            (Some(violation.code()), Some(violation.detail(limits)))
        }
    };
    shell.detach(key, said_goodbye);
    shell.flush();
    if let Some(reason) = reason {
        let mut frame = Vec::new();
        match code {
            Some(code) => writer::write_close(code, &reason, &mut frame),
            None => writer::write_bare_close(&mut frame),
        }
        let stream = connection.stream();
        let flush = async {
            poll_fn(|cx| connection.poll_drain(&shell, cx)).await?;
            let mut rest = &frame[..];
            while !rest.is_empty() {
                stream.writable().await?;
                match stream.try_write(rest) {
                    Ok(count) => rest = rest.get(count..).unwrap_or_default(),
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                    Err(error) => return Err(error),
                }
            }
            Ok::<(), std::io::Error>(())
        };
        if let Ok(Ok(())) = tokio::time::timeout(flush_for, flush).await {
            connection.drop_outbox(&shell);
            if let Some(connection) = Rc::into_inner(connection) {
                let (stream, _places) = connection.into_parts();
                linger(stream, CLOSE_ANSWER).await;
            }
            return;
        }
    }
    connection.drop_outbox(&shell);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_client_has_its_write_timeout_once_more_while_there_is_space_for_it() {
        assert_eq!(slow_flush(50, 100, 10_000), Duration::from_secs(10));
        assert_eq!(slow_flush(51, 100, 10_000), CLOSE_FLUSH);
        assert_eq!(slow_flush(0, 100, 100), CLOSE_FLUSH, "never less than others have");
    }

    #[test]
    fn the_reason_for_silence_is_as_the_origin_has_it_and_fits_a_close_frame() {
        let reason = silence(1_705_314_600_000, 1_705_314_620_000);
        assert_eq!(reason, "last ping: 1705314600000, now: 1705314620000");
        assert!(silence(u64::MAX, u64::MAX).len() <= 123, "RFC 6455 5.5");
    }
}
