//! One client's socket: frames in, bytes out. The task that owns it reads and drains; whoever delivers writes
//! straight to the socket, and only what it does not take waits in an outbox.

use std::cell::{Cell, RefCell};
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use roomcast_protocol::codes::Close;
use roomcast_protocol::ids::SessionKey;
use roomcast_protocol::publication::Priority;
use roomcast_protocol::time::Now;
use roomcast_router::lane::Space;
use roomcast_router::outbox::{Mark, Outbox, Shed};
use tokio::net::TcpStream;

use super::permission::Asking;
use super::shell::{Shell, add};
use crate::places::{AddressPlace, SocketPlace};

/// How a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// It does not.
    Open,
    /// The node ends it.
    Close(Close),
    /// The node ends it, for its client has said nothing since then. Units: milliseconds since the Unix epoch.
    Silent(u64),
    /// The node ends it without a Close frame.
    Drop(Close),
    /// The socket is gone.
    Gone,
}

/// One client's socket, shared by its task and the lane's table.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: TcpStream,
    key: Cell<SessionKey>,
    outbox: RefCell<Option<Box<Outbox>>>,
    /// Wakes the task.
    waker: RefCell<Option<Waker>>,
    ending: Cell<Ending>,
    ready: Cell<bool>,
    /// In the shell's list of connections with an outbox.
    listed: Cell<bool>,
    /// The lane waits for space in the outbox; whether for all of it.
    awaits: Cell<Option<bool>>,
    /// In the shell's list of connections that are looked at for it.
    awaiting: Cell<bool>,
    /// Whom to ask what its client may join, where somebody is asked.
    asking: Option<Box<Asking>>,
    places: (AddressPlace, SocketPlace),
}

impl Connection {
    pub(crate) fn new(
        stream: TcpStream,
        asking: Option<Box<Asking>>,
        places: (AddressPlace, SocketPlace),
    ) -> Rc<Self> {
        Rc::new(Self {
            stream,
            key: Cell::new(SessionKey { index: u32::MAX, generation: 0 }),
            outbox: RefCell::new(None),
            waker: RefCell::new(None),
            ending: Cell::new(Ending::Open),
            ready: Cell::new(false),
            listed: Cell::new(false),
            awaits: Cell::new(None),
            awaiting: Cell::new(false),
            asking,
            places,
        })
    }

    /// The session it serves.
    pub(crate) fn key(&self) -> SessionKey {
        self.key.get()
    }

    /// Says which session it serves.
    pub(crate) fn serve(&self, key: SessionKey) {
        self.key.set(key);
    }

    /// Whom to ask what its client may join, where somebody is asked.
    pub(crate) fn asking(&self) -> Option<&Asking> {
        self.asking.as_deref()
    }

    /// The socket.
    pub(crate) fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// Where its client is, of IPv6 the /64 network.
    pub(crate) const fn address(&self) -> IpAddr {
        self.places.0.address()
    }

    /// The socket alone, and its places, which are given back when they are dropped.
    pub(crate) fn into_parts(self) -> (TcpStream, (AddressPlace, SocketPlace)) {
        (self.stream, self.places)
    }

    /// How it ends, if it does.
    pub(crate) fn ending(&self) -> Ending {
        self.ending.get()
    }

    /// Whether the session may act.
    pub(crate) fn is_ready(&self) -> bool {
        self.ready.get()
    }

    /// The session may act: read on.
    pub(crate) fn make_ready(&self) {
        self.ready.set(true);
        self.wake();
    }

    /// Says whether it is in the shell's list of connections with an outbox, and answers whether it was.
    pub(crate) fn set_listed(&self, listed: bool) -> bool {
        self.listed.replace(listed)
    }

    /// Has the task send what waits, a Close frame, and no more.
    pub(crate) fn begin_close(&self, close: Close) {
        self.begin(Ending::Close(close));
    }

    /// The same, for its client has said nothing since then.
    pub(crate) fn begin_silent(&self, said_unix_ms: u64) {
        self.begin(Ending::Silent(said_unix_ms));
    }

    /// Has the task end the connection at once, without a Close frame.
    pub(crate) fn begin_drop(&self, close: Close) {
        self.begin(Ending::Drop(close));
    }

    fn begin(&self, ending: Ending) {
        if self.ending.get() == Ending::Open {
            self.ending.set(ending);
        }
        self.wake();
    }

    /// The same for a client that is too slow: what waits for it is forgotten, so that others have the room.
    pub(crate) fn begin_slow(&self, shell: &Shell) {
        self.drop_waiting(shell);
        self.begin_close(Close::Slow);
    }

    /// Remembers whom to wake.
    pub(crate) fn watch(&self, cx: &Context<'_>) {
        let mut waker = self.waker.borrow_mut();
        if !waker.as_ref().is_some_and(|held| held.will_wake(cx.waker())) {
            *waker = Some(cx.waker().clone());
        }
    }

    fn wake(&self) {
        if let Some(waker) = &*self.waker.borrow() {
            waker.wake_by_ref();
        }
    }

    /// Since when its socket takes nothing, if it has an outbox. Units: monotonic milliseconds.
    pub(crate) fn blocked_since_ms(&self) -> Option<u64> {
        self.outbox.borrow().as_ref().map(|outbox| outbox.progress_ms)
    }

    /// Bytes in its outbox.
    pub(crate) fn outbox_bytes(&self) -> usize {
        self.outbox.borrow().as_ref().map_or(0, |outbox| outbox.bytes())
    }

    /// The lane wants to know when the outbox has space, or is empty.
    pub(crate) fn await_space(&self, empty: bool) {
        self.awaits.set(Some(empty && self.awaits.get().unwrap_or(true)));
    }

    /// Whether the lane waits for that.
    pub(crate) fn awaits_space(&self) -> bool {
        self.awaits.get().is_some()
    }

    /// Says whether it is in the shell's list of connections that are looked at for it, and answers whether it was.
    pub(crate) fn set_awaiting(&self, awaiting: bool) -> bool {
        self.awaiting.replace(awaiting)
    }

    /// What space there is, if the lane waits for it and there is enough: half of the outbox, while those of all have
    /// a quarter left. Who has nothing waiting never waits for others.
    pub(crate) fn take_space(&self, shell: &Shell) -> Option<Space> {
        let empty = self.awaits.get().filter(|_| self.ending.get() == Ending::Open)?;
        let (bytes, max) = (self.outbox_bytes(), shell.settings.outbox_bytes_max);
        let (all, all_max) = (shell.outboxes_bytes.get(), shell.settings.outboxes_bytes_max);
        let has_space = bytes == 0 || !empty && bytes <= max / 2 && all <= all_max / 4 * 3;
        has_space.then(|| {
            self.awaits.set(None);
            let bytes_free = Outbox::goal_bytes(max).saturating_sub(bytes);
            Space { bytes: bytes_free, empty: bytes == 0 }
        })
    }

    /// Lets go of what may go of the outbox, down to so many bytes.
    pub(crate) fn shed(&self, shell: &Shell, now: Now, goal_bytes: usize) -> Shed {
        let mut outbox = self.outbox.borrow_mut();
        let Some(waiting) = outbox.as_mut() else { return Shed::default() };
        let before = waiting.bytes();
        let shed = waiting.shed(goal_bytes, now.unix_ms);
        let freed = before - waiting.bytes();
        shell.outboxes_bytes.set(shell.outboxes_bytes.get().saturating_sub(freed));
        shed
    }

    /// Sends frames, now or from the outbox; says whether that holds more than it may now.
    pub(crate) fn send(
        &self,
        shell: &Shell,
        now: Now,
        (frame, class): (Bytes, Priority),
        mark: Option<Arc<Mark>>,
    ) -> bool {
        if self.ending.get() != Ending::Open {
            return false;
        }
        let mut outbox = self.outbox.borrow_mut();
        if let Some(waiting) = outbox.as_mut() {
            let before = waiting.bytes();
            waiting.push(frame, class, mark);
            let added = waiting.bytes() - before;
            shell.outboxes_bytes.set(shell.outboxes_bytes.get() + added);
            return waiting.bytes() > shell.settings.outbox_bytes_max;
        }
        let written = match self.stream.try_write(&frame) {
            Ok(count) => count,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => 0,
            Err(_) => {
                self.ending.set(Ending::Gone);
                self.wake();
                return false;
            }
        };
        add(&shell.counters.bytes_out, written);
        if written < frame.len() {
            let mut waiting = Box::new(Outbox::new(now.mono_ms));
            shell.outboxes_bytes.set(shell.outboxes_bytes.get() + frame.len() - written);
            if written == 0 {
                waiting.push(frame, class, mark);
            } else {
                waiting.push_begun(frame.slice(written..));
            }
            *outbox = Some(waiting);
            shell.note_blocked(self);
            self.wake();
        }
        false
    }

    /// Sends a WebSocket ping behind all that waits; its payload is the number. Answers as [`Connection::send`] does.
    pub(crate) fn ping(&self, shell: &Shell, now: Now, number: u32) -> bool {
        if let Some(outbox) = self.outbox.borrow_mut().as_mut() {
            outbox.push(Bytes::new(), Priority::High, None);
        }
        let [a, b, c, d] = number.to_be_bytes();
        let frame = [0x89, 4, a, b, c, d];
        self.send(shell, now, (Bytes::copy_from_slice(&frame), Priority::High), None)
    }

    /// Writes what waits, as far as the socket takes it. Ready: nothing waits any more.
    pub(crate) fn poll_drain(
        &self,
        shell: &Shell,
        cx: &mut Context<'_>,
    ) -> Poll<std::io::Result<()>> {
        let mut place = self.outbox.borrow_mut();
        while let Some(outbox) = place.as_mut() {
            std::task::ready!(self.stream.poll_write_ready(cx))?;
            let Some(bytes) = outbox.front() else {
                *place = None;
                break;
            };
            match self.stream.try_write(bytes) {
                Ok(count) => {
                    add(&shell.counters.bytes_out, count);
                    shell.outboxes_bytes.set(shell.outboxes_bytes.get().saturating_sub(count));
                    outbox.written(count, shell.now().mono_ms);
                }
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Forgets what waits, but for a frame under way.
    pub(crate) fn drop_waiting(&self, shell: &Shell) {
        if let Some(outbox) = self.outbox.borrow_mut().as_mut() {
            let before = outbox.bytes();
            outbox.clear_waiting();
            let freed = before - outbox.bytes();
            shell.outboxes_bytes.set(shell.outboxes_bytes.get().saturating_sub(freed));
        }
    }

    /// Forgets all that waits: the connection ends.
    pub(crate) fn drop_outbox(&self, shell: &Shell) {
        if let Some(outbox) = self.outbox.borrow_mut().take() {
            shell.outboxes_bytes.set(shell.outboxes_bytes.get().saturating_sub(outbox.bytes()));
        }
    }
}
