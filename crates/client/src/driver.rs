//! The two tasks of a connection: one reads, one writes.
//!
//! fastwebsockets' `read_frame` is not cancel safe, so the read task owns the reader and never races it against
//! anything but its own end.

use std::future::ready;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use fastwebsockets::{Frame, OpCode, Payload, Role, WebSocketRead, WebSocketWrite};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{ReadHalf, WriteHalf};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use crate::error::Closed;
use crate::event::Event;
use crate::options::{Format, Options};
use crate::pending::Pending;
use crate::wire::{self, Answer, Incoming};

/// How long the peer has to answer a Close frame.
const CLOSE_WAIT: Duration = Duration::from_secs(2);

/// Frames waiting for the write task.
const WRITES_MAX: usize = 256;

/// What the write task sends.
#[derive(Debug)]
pub(crate) enum Out {
    /// A data frame.
    Message(Bytes),
    /// The answer to a ping.
    Pong(Bytes),
    /// The end.
    Close(u16, String),
}

/// A connection of a session; numbers are not used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct LinkId(pub(crate) u64);

/// What a connection of a session brings.
#[derive(Debug)]
pub(crate) enum Heard {
    /// A message.
    Message(Incoming),
    /// The end: nothing follows.
    Closed(Closed),
}

/// Who takes what a connection brings.
#[derive(Debug)]
pub(crate) enum Taker {
    /// Answers go to whoever asked, all else is an event.
    Client {
        /// Who asked.
        pending: Arc<Pending>,
        /// All else.
        events: mpsc::Sender<Event>,
    },
    /// A session takes everything, in its order.
    Session {
        /// Which of its connections this is.
        link: LinkId,
        /// From all of them.
        heard: mpsc::Sender<(LinkId, Heard)>,
    },
}

/// What a client keeps of its tasks.
#[derive(Debug)]
pub(crate) struct Driver {
    /// To the write task.
    pub(crate) writes: mpsc::Sender<Out>,
    /// Both tasks; they end by themselves once `writes` is dropped or the peer closes.
    pub(crate) tasks: (JoinHandle<()>, JoinHandle<()>),
}

/// Starts the tasks of an upgraded connection.
pub(crate) fn start(stream: TokioIo<Upgraded>, options: &Options, taker: Taker) -> Driver {
    let (read, write) = tokio::io::split(stream);
    let (mut reader, writer) = fastwebsockets::after_handshake_split(read, write, Role::Client);
    reader.set_auto_close(false);
    reader.set_auto_pong(false);
    // Its own check is on one frame and refuses equality; the sum is checked in `Assembler`.
    reader.set_max_message_size(options.message_bytes_max.saturating_add(1));
    let (writes, outs) = mpsc::channel(WRITES_MAX);
    let (ended, end) = watch::channel(false);
    let assembler = Assembler::new(options.message_bytes_max);
    let (format, writes_of) = (options.format, writes.downgrade());
    let reading = Reading { format, assembler, taker, writes: writes_of, welcomed: false };
    let read_task = tokio::spawn(reading.run(reader, end));
    let write_task = tokio::spawn(write_all(writer, options.format, outs, ended));
    Driver { writes, tasks: (read_task, write_task) }
}

/// Writes until told to close, until nobody can ask any more, or until the connection breaks.
async fn write_all(
    mut writer: WebSocketWrite<WriteHalf<TokioIo<Upgraded>>>,
    format: Format,
    mut outs: mpsc::Receiver<Out>,
    ended: watch::Sender<bool>,
) {
    loop {
        let out = outs.recv().await.unwrap_or_else(|| Out::Close(1000, String::new()));
        let (frame, last) = match &out {
            Out::Message(bytes) => {
                let payload = Payload::Borrowed(bytes);
                let frame = match format {
                    Format::Json => Frame::text(payload),
                    Format::MessagePack => Frame::binary(payload),
                };
                (frame, false)
            }
            Out::Pong(bytes) => (Frame::pong(Payload::Borrowed(bytes)), false),
            Out::Close(code, reason) => (Frame::close(*code, reason.as_bytes()), true),
        };
        // A broken connection shows on the reading side, which tells everybody.
        if writer.write_frame(frame).await.is_err() || last {
            break;
        }
    }
    ended.send_replace(true);
}

struct Reading {
    format: Format,
    assembler: Assembler,
    taker: Taker,
    writes: mpsc::WeakSender<Out>,
    welcomed: bool,
}

impl Reading {
    async fn run(
        mut self,
        mut reader: WebSocketRead<ReadHalf<TokioIo<Upgraded>>>,
        mut end: watch::Receiver<bool>,
    ) {
        let given_up = async {
            // An error means the write task is gone, which is the end as well.
            let ended = end.wait_for(|ended| *ended).await.is_ok();
            tokio::time::sleep(CLOSE_WAIT).await;
            Closed { code: 1006, reason: format!("no answer to the close (sent: {ended})") }
        };
        let closed = tokio::select! {
            closed = self.read_all(&mut reader) => closed,
            closed = given_up => closed,
        };
        // Nobody listens any more if this fails.
        match &self.taker {
            Taker::Client { pending, events } => {
                pending.close(&closed);
                drop(events.send(Event::Closed(closed)).await);
            }
            Taker::Session { link, heard } => {
                drop(heard.send((*link, Heard::Closed(closed))).await);
            }
        }
    }

    async fn read_all(
        &mut self,
        reader: &mut WebSocketRead<ReadHalf<TokioIo<Upgraded>>>,
    ) -> Closed {
        loop {
            let mut never_sent = |_: Frame<'_>| ready(Ok::<(), std::io::Error>(()));
            let frame = match reader.read_frame(&mut never_sent).await {
                Ok(frame) => frame,
                Err(cause) => return Closed { code: 1006, reason: cause.to_string() },
            };
            match frame.opcode {
                OpCode::Close => {
                    let closed = read_close(&frame.payload);
                    self.write(Out::Close(closed.code, String::new())).await;
                    return closed;
                }
                OpCode::Ping => self.write(Out::Pong(Bytes::copy_from_slice(&frame.payload))).await,
                OpCode::Pong => {}
                OpCode::Text | OpCode::Binary | OpCode::Continuation => {
                    let message = match self.assembler.add(frame) {
                        Ok(None) => continue,
                        Ok(Some(message)) => message,
                        Err(closed) => return self.refuse(closed).await,
                    };
                    if let Err(closed) = self.take(&message).await {
                        return self.refuse(closed).await;
                    }
                }
            }
        }
    }

    /// Closes towards a peer that broke the protocol.
    async fn refuse(&self, closed: Closed) -> Closed {
        self.write(Out::Close(closed.code, String::new())).await;
        closed
    }

    async fn write(&self, out: Out) {
        if let Some(writes) = self.writes.upgrade() {
            // A write task that is gone has nothing left to answer.
            drop(writes.send(out).await);
        }
    }

    async fn take(&mut self, message: &[u8]) -> Result<(), Closed> {
        let incoming = wire::decode(self.format, message)?;
        match &incoming {
            Incoming::Welcome(_) => self.welcomed = true,
            // The node waits for a better first message, which would be the same again.
            Incoming::Event(Event::Error(refused)) if !self.welcomed => {
                return Err(Closed { code: 1002, reason: refused.to_string() });
            }
            Incoming::Answer { .. } | Incoming::Pong(_) | Incoming::Event(_) => {}
        }
        let (pending, events) = match &self.taker {
            Taker::Client { pending, events } => (pending, events),
            Taker::Session { link, heard } => {
                drop(heard.send((*link, Heard::Message(incoming))).await);
                return Ok(());
            }
        };
        let event = match incoming {
            Incoming::Welcome(welcome) => {
                pending.welcomed(welcome);
                return Ok(());
            }
            Incoming::Answer { id, answer } => match pending.answered(&id, answer) {
                Some(Answer::Refused(refused)) => Event::Error(refused),
                Some(Answer::Joined(joined)) => Event::Joined(joined),
                Some(
                    Answer::Left
                    | Answer::Ack(_)
                    | Answer::Refreshed
                    | Answer::Roster(_)
                    | Answer::Marked(_)
                    | Answer::Receipts(_)
                    | Answer::Response(_),
                )
                | None => return Ok(()),
            },
            Incoming::Pong(stamp) if stamp.is_some_and(|stamp| pending.ponged(stamp)) => {
                return Ok(());
            }
            Incoming::Pong(_) => Event::Pong,
            Incoming::Event(event) => event,
        };
        // Nobody listens any more if this fails; answers are still handed over.
        drop(events.send(event).await);
        Ok(())
    }
}

fn read_close(payload: &[u8]) -> Closed {
    match payload {
        [high, low, reason @ ..] => Closed {
            code: u16::from_be_bytes([*high, *low]),
            reason: String::from_utf8_lossy(reason).into_owned(),
        },
        _ => Closed { code: 1005, reason: String::new() },
    }
}

/// Joins fragments within a bound; fastwebsockets' own collector has none.
#[derive(Debug)]
struct Assembler {
    bytes_max: usize,
    started: bool,
    parts: Vec<u8>,
}

impl Assembler {
    const fn new(bytes_max: usize) -> Self {
        Self { bytes_max, started: false, parts: Vec::new() }
    }

    /// Takes a data frame; gives the message once it is whole.
    fn add(&mut self, frame: Frame<'_>) -> Result<Option<Vec<u8>>, Closed> {
        if (frame.opcode == OpCode::Continuation) != self.started {
            return Err(Closed { code: 1002, reason: "fragments out of order".into() });
        }
        if self.parts.len().saturating_add(frame.payload.len()) > self.bytes_max {
            return Err(Closed {
                code: 1009,
                reason: format!("a message over message_bytes_max = {} bytes", self.bytes_max),
            });
        }
        self.started = !frame.fin;
        if self.parts.is_empty() && frame.fin {
            return Ok(Some(frame.payload.into()));
        }
        self.parts.extend_from_slice(&frame.payload);
        Ok(frame.fin.then(|| std::mem::take(&mut self.parts)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(fin: bool, opcode: OpCode, text: &'static str) -> Frame<'static> {
        Frame::new(fin, opcode, None, Payload::Borrowed(text.as_bytes()))
    }

    #[test]
    fn fragments_are_joined() {
        let mut assembler = Assembler::new(8);
        assert_eq!(assembler.add(frame(false, OpCode::Text, "ab")), Ok(None));
        assert_eq!(assembler.add(frame(false, OpCode::Continuation, "")), Ok(None));
        assert_eq!(
            assembler.add(frame(true, OpCode::Continuation, "cd")),
            Ok(Some(b"abcd".into()))
        );
        assert_eq!(assembler.add(frame(true, OpCode::Text, "e")), Ok(Some(b"e".into())));
    }

    #[test]
    fn a_message_of_the_limit_passes_and_one_byte_more_closes() {
        let mut assembler = Assembler::new(4);
        assert_eq!(assembler.add(frame(true, OpCode::Text, "abcd")), Ok(Some(b"abcd".into())));
        assert_eq!(assembler.add(frame(false, OpCode::Text, "abc")), Ok(None));
        assert_eq!(assembler.add(frame(true, OpCode::Continuation, "de")).unwrap_err().code, 1009);
    }

    #[test]
    fn a_continuation_without_a_beginning_closes() {
        let mut assembler = Assembler::new(4);
        assert_eq!(assembler.add(frame(true, OpCode::Continuation, "a")).unwrap_err().code, 1002);
        let mut assembler = Assembler::new(4);
        assert_eq!(assembler.add(frame(false, OpCode::Text, "a")), Ok(None));
        assert_eq!(assembler.add(frame(true, OpCode::Text, "a")).unwrap_err().code, 1002);
    }

    #[test]
    fn a_close_frame_is_read_also_without_a_code() {
        assert_eq!(read_close(b"").code, 1005);
        assert_eq!(
            read_close(b"\x0f\xa1Unauthorized"),
            Closed { code: 4001, reason: "Unauthorized".into() }
        );
    }
}
