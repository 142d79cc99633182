//! Clients' sockets: an outbox on the node, a kernel's buffer in between (written is not received), and what the client
//! has read.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use roomcast_protocol::codes::Close;
use roomcast_protocol::command::Continuation;
use roomcast_protocol::dialect::Decoder;
use roomcast_protocol::ids::SessionKey;
use roomcast_protocol::publication::Priority;
use roomcast_protocol::time::Now;
use roomcast_router::lane::Space;
use roomcast_router::outbox::{Mark, Outbox, Shed};

use super::lane::Inbound;
use crate::check::inflight::Inflight;
use crate::rules::issued_ms;
use crate::wire::{Framed, frame};
use crate::world::{Event, World};

/// Bytes that may wait in an outbox.
pub(crate) const OUTBOX_BYTES: usize = 64 << 10;

/// Bytes that a kernel holds for a client.
const KERNEL_BYTES: usize = 8 << 10;

/// How long a socket may take nothing. Units: milliseconds.
pub(crate) const WRITE_MS: u64 = 10_000;

/// How long a closing socket may take for what waits. Units: milliseconds.
const CLOSE_MS: u64 = 1_500;

#[derive(Debug)]
enum Down {
    Bytes(Bytes),
    Reset,
}

/// What a client sends.
#[derive(Debug)]
pub(crate) enum Said {
    Text(Box<str>),
    /// The answer to the ping of this number.
    Pong(u32),
}

/// One connection of a client.
pub(crate) struct Socket {
    pub(crate) client: usize,
    pub(crate) node: usize,
    pub(crate) life: u32,
    pub(crate) lane: usize,
    pub(crate) token: String,
    /// When the newest of its session's tokens was issued.
    pub(crate) issued_ms: u64,
    /// How the client wants its session to go on.
    pub(crate) continuation: Option<Box<Continuation>>,
    pub(crate) key: Option<SessionKey>,
    pub(crate) decoder: Option<Box<dyn Decoder>>,
    /// When its session began.
    pub(crate) opened_ms: Option<u64>,
    /// Inboxes that its lane had entered by then without knowing what was acked in them.
    pub(crate) unknown_before: u64,
    /// The session may act.
    pub(crate) ready: bool,
    /// What came before that.
    pub(crate) leftover: Vec<Box<str>>,
    pub(crate) outbox: Option<Box<Outbox>>,
    /// The lane waits for space in it; for all of it.
    pub(crate) awaits: Option<bool>,
    ending: Option<Close>,
    pub(crate) server_open: bool,
    pub(crate) client_open: bool,
    /// Nothing passes any more, and neither side knows.
    pub(crate) silent: bool,
    down: VecDeque<Down>,
    down_bytes: usize,
    read_at_ms: Option<u64>,
    up_ms: u64,
    buffer: Vec<u8>,
    /// When the client read something last.
    pub(crate) heard_ms: u64,
    /// The client reads nothing until then.
    pub(crate) paused_until_ms: u64,
    /// How many bytes the client reads at once, and how long it rests in between.
    pub(crate) pace: (usize, u64),
    /// Permissions of the session's newest token, and when it came.
    pub(crate) permissions: (Vec<String>, u64),
    pub(crate) inflight: Inflight,
    /// Its outbox was over its bound: what went then was never handed to its client.
    pub(crate) overran: bool,
}

impl Socket {
    pub(crate) fn new(
        client: usize,
        (node, life, lane): (usize, u32, usize),
        token: String,
    ) -> Self {
        let permissions = token.split('+').skip(1).map(str::to_owned).collect();
        Self {
            issued_ms: issued_ms(&token),
            client,
            node,
            life,
            lane,
            token,
            continuation: None,
            key: None,
            decoder: None,
            opened_ms: None,
            unknown_before: 0,
            ready: false,
            leftover: Vec::new(),
            outbox: None,
            awaits: None,
            ending: None,
            server_open: true,
            client_open: true,
            silent: false,
            down: VecDeque::new(),
            down_bytes: 0,
            read_at_ms: None,
            up_ms: 0,
            inflight: Inflight::default(),
            overran: false,
            buffer: Vec::new(),
            heard_ms: 0,
            paused_until_ms: 0,
            pace: (1 << 20, 0),
            permissions: (permissions, 0),
        }
    }
}

impl Socket {
    /// The node ends it.
    pub(crate) const fn is_ending(&self) -> bool {
        self.ending.is_some()
    }
}

impl World {
    /// The session's token is another from now on.
    pub(crate) fn note_refresh(&mut self, socket: usize, token: &str) {
        let permissions = token.split('+').skip(1).map(str::to_owned).collect();
        self.sockets[socket].permissions = (permissions, self.now_ms);
        self.sockets[socket].issued_ms = issued_ms(token);
    }

    /// Sends frames, now or from the outbox; says whether that holds more than it may now.
    pub(crate) fn send_down(
        &mut self,
        socket: usize,
        now: Now,
        (frame, class): (Bytes, Priority),
        mark: Option<Arc<Mark>>,
    ) -> bool {
        let it = &mut self.sockets[socket];
        if it.ending.is_some() || !it.server_open {
            return false;
        }
        if let Some(waiting) = &mut it.outbox {
            waiting.push(frame, class, mark);
            return waiting.bytes() > OUTBOX_BYTES;
        }
        let written = frame.len().min(KERNEL_BYTES.saturating_sub(it.down_bytes));
        if written < frame.len() {
            let mut waiting = Box::new(Outbox::new(now.mono_ms));
            if written == 0 {
                waiting.push(frame.clone(), class, mark);
            } else {
                waiting.push_begun(frame.slice(written..));
            }
            it.outbox = Some(waiting);
            let (node, lane) = (it.node, it.lane);
            self.nodes[node].lanes[lane].blocked.push(socket);
        }
        self.write(socket, frame.slice(..written));
        false
    }

    pub(crate) fn send_ping(&mut self, socket: usize, now: Now, number: u32) -> bool {
        if let Some(outbox) = &mut self.sockets[socket].outbox {
            outbox.push(Bytes::new(), Priority::High, None);
        }
        let [a, b, c, d] = number.to_be_bytes();
        let frame = Bytes::copy_from_slice(&[0x89, 4, a, b, c, d]);
        self.send_down(socket, now, (frame, Priority::High), None)
    }

    /// What an outbox that holds too much let go; `None`: it holds too much all the same, and the connection ends.
    pub(crate) fn shed(&mut self, socket: usize, now: Now) -> Option<Shed> {
        let it = &mut self.sockets[socket];
        let Some(waiting) = it.outbox.as_mut().filter(|it| it.bytes() > OUTBOX_BYTES) else {
            return Some(Shed::default());
        };
        self.stats.outboxes_overrun += 1;
        it.overran = true;
        let shed = waiting.shed(Outbox::goal_bytes(OUTBOX_BYTES), now.unix_ms);
        if waiting.bytes() <= OUTBOX_BYTES {
            return Some(shed);
        }
        waiting.clear_waiting();
        self.begin_close(socket, Close::Slow);
        None
    }

    /// What space its outbox has, if the lane waits for it and there is enough.
    pub(crate) fn take_space(&mut self, socket: usize) -> Option<Space> {
        let it = &mut self.sockets[socket];
        let empty = it.awaits.filter(|_| it.ending.is_none() && it.server_open)?;
        let bytes = it.outbox.as_ref().map_or(0, |outbox| outbox.bytes());
        let has_space = bytes == 0 || !empty && bytes <= OUTBOX_BYTES / 2;
        has_space.then(|| {
            it.awaits = None;
            let bytes_free = Outbox::goal_bytes(OUTBOX_BYTES).saturating_sub(bytes);
            Space { bytes: bytes_free, empty: bytes == 0 }
        })
    }

    fn write(&mut self, socket: usize, bytes: Bytes) {
        if bytes.is_empty() {
            return;
        }
        let it = &mut self.sockets[socket];
        it.down_bytes += bytes.len();
        it.down.push_back(Down::Bytes(bytes));
        self.want_read(socket);
    }

    fn want_read(&mut self, socket: usize) {
        let in_ms = self.delay();
        let it = &mut self.sockets[socket];
        if it.silent || !it.client_open || it.read_at_ms.is_some() {
            return;
        }
        let at = (self.now_ms + in_ms + it.pace.1).max(it.paused_until_ms);
        it.read_at_ms = Some(at);
        self.at(at, Event::ClientRead { socket });
    }

    /// Writes what waits, as far as the kernel takes it.
    pub(crate) fn drain(&mut self, socket: usize, now: Now) {
        loop {
            let it = &mut self.sockets[socket];
            if !it.server_open {
                return;
            }
            let Some(outbox) = &mut it.outbox else { break };
            let space = KERNEL_BYTES.saturating_sub(it.down_bytes);
            let Some(bytes) = outbox.front() else {
                it.outbox = None;
                break;
            };
            if space == 0 {
                return;
            }
            let count = space.min(bytes.len());
            let bytes = Bytes::copy_from_slice(&bytes[..count]);
            outbox.written(count, now.mono_ms);
            self.write(socket, bytes);
        }
        if let Some(close) = self.sockets[socket].ending {
            let [high, low] = close.row().code.to_be_bytes();
            self.write(socket, Bytes::copy_from_slice(&[0x88, 2, high, low]));
            self.sockets[socket].server_open = false;
        }
    }

    /// Has what waits sent, a Close frame, and no more.
    pub(crate) fn begin_close(&mut self, socket: usize, close: Close) {
        let it = &mut self.sockets[socket];
        if it.ending.is_some() {
            return;
        }
        it.ending = Some(close);
        self.stats.closes += 1;
        let now = self.nodes[self.sockets[socket].node].now(self.now_ms);
        self.drain(socket, now);
        self.at(self.now_ms + CLOSE_MS, Event::CloseDeadline { socket });
    }

    /// A socket that closes took too long.
    pub(crate) fn reset(&mut self, socket: usize) {
        let it = &mut self.sockets[socket];
        it.outbox = None;
        if std::mem::take(&mut it.server_open) {
            it.down.push_back(Down::Reset);
            self.want_read(socket);
        }
    }

    /// The client reads what has come.
    pub(crate) fn client_read(&mut self, socket: usize) {
        let it = &mut self.sockets[socket];
        it.read_at_ms = None;
        if !it.client_open || it.silent {
            return;
        }
        if it.paused_until_ms > self.now_ms {
            return self.want_read(socket);
        }
        it.heard_ms = self.now_ms;
        let mut left = it.pace.0;
        let mut reset = false;
        while left > 0
            && let Some(front) = it.down.pop_front()
        {
            match front {
                Down::Bytes(bytes) => {
                    let count = bytes.len().min(left);
                    it.buffer.extend_from_slice(&bytes[..count]);
                    left -= count;
                    it.down_bytes -= count;
                    if count < bytes.len() {
                        it.down.push_front(Down::Bytes(bytes.slice(count..)));
                    }
                }
                Down::Reset => reset = true,
            }
        }
        let (more, open, at) = (!it.down.is_empty(), it.server_open, (it.node, it.lane));
        if it.outbox.is_some() && open {
            self.inbound(at, Inbound::Drain(socket));
        }
        if more {
            self.want_read(socket);
        }
        self.read_frames(socket);
        if reset && self.sockets[socket].client_open {
            self.client_lost(socket, None);
        }
    }

    fn read_frames(&mut self, socket: usize) {
        let buffer = std::mem::take(&mut self.sockets[socket].buffer);
        let mut at = 0;
        while self.sockets[socket].client_open
            && let Some((framed, length)) = frame(&buffer[at..])
        {
            at += length;
            match framed {
                Framed::Text(text) => self.client_hears(socket, text),
                Framed::Ping(number) => self.client_answers(socket, number),
                Framed::Close(code) => self.client_closed(socket, code),
            }
        }
        self.sockets[socket].buffer = buffer[at..].to_vec();
    }

    /// The client answers a ping: it has got all in front of it. Who hears another connection by now does not say so.
    fn client_answers(&mut self, socket: usize, number: u32) {
        let it = &self.sockets[socket];
        if it.talker().is_some() || self.clients[it.client].socket == Some(socket) {
            self.client_sends(socket, Said::Pong(number));
        }
    }

    /// The client sends something.
    pub(crate) fn client_sends(&mut self, socket: usize, said: Said) {
        let in_ms = self.delay();
        let it = &mut self.sockets[socket];
        if it.silent || !it.client_open {
            return;
        }
        it.up_ms = it.up_ms.max(self.now_ms + in_ms);
        let at = it.up_ms;
        self.at(at, Event::Up { socket, said });
    }

    /// What a client sent is at its node.
    pub(crate) fn up(&mut self, socket: usize, said: Said) {
        let it = &self.sockets[socket];
        let (node, lane) = (it.node, it.lane);
        if it.silent || !it.server_open || !self.is_alive(socket) {
            return;
        }
        let inbound = match said {
            Said::Text(text) => Inbound::Text(socket, text),
            Said::Pong(number) => Inbound::Pong(socket, number),
        };
        self.inbound((node, lane), inbound);
    }

    /// Whether the node that the socket belongs to still runs.
    pub(crate) fn is_alive(&self, socket: usize) -> bool {
        let it = &self.sockets[socket];
        let node = &self.nodes[it.node];
        node.up && node.life == it.life
    }

    /// The client's side of the socket is gone; `told`: the node hears of it.
    pub(crate) fn drop_client_side(&mut self, socket: usize, told: bool) {
        let it = &mut self.sockets[socket];
        it.client_open = false;
        it.down.clear();
        let at = (it.node, it.lane);
        if told && self.sockets[socket].server_open && self.is_alive(socket) {
            self.inbound(at, Inbound::Gone(socket));
        }
        if !told {
            self.sockets[socket].silent = true;
        }
    }
}
