//! One connection of the load generator: from the TCP connect over the upgrade and its joins to hearing publications.
//! Holds no buffer while nothing is half read or half written, so that thousands cost little.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

use roomcast_client::wire::{self, Answer, Incoming};
use roomcast_client::{Event, Format};
use socket2::{Domain, Protocol, Socket, Type};

use super::clock::{now_ns, since_ns};
use super::frames::{self, DATA_TAG, Finder, ID_TAG, Parsed};
use super::tally::{Heard, Tally, Track};

/// What a connection is to do; where it hears which room.
#[derive(Clone, Debug)]
pub(crate) struct Seat {
    /// The upgrade request, token included; empty for the bare loop, which has none.
    pub(crate) upgrade: Vec<u8>,
    /// Frames to send after the welcome, each answered by one `subscribed`.
    pub(crate) joins: VecDeque<Vec<u8>>,
    /// The room whose publications it counts.
    pub(crate) room: usize,
    /// How it speaks.
    pub(crate) speaks: Speaks,
}

/// How a connection speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Speaks {
    /// Native, and hears.
    Native,
    /// Native, and acks each publication.
    NativeAcking,
    /// Chat: nobody welcomes it, and it acks each event.
    Chat,
}

/// How far it got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Connecting,
    Upgrading,
    Welcome,
    Joining,
    Live,
    Ended,
}

/// A publication under way in a closed loop.
#[derive(Clone, Copy, Debug)]
struct UnderWay {
    sequence: u32,
    missing: u32,
}

/// What all connections write to.
#[derive(Debug)]
pub(crate) struct Shared {
    /// What was heard.
    pub(crate) tally: Tally,
    /// Connections that are ready.
    pub(crate) live: usize,
    /// Why connections ended that should not have.
    pub(crate) failures: Vec<String>,
    /// Publications that all their members have heard, or that were acked.
    pub(crate) completed: u64,
    /// Whether a publication completes by its ack.
    pub(crate) completes_by_ack: bool,
    /// By room: what is under way in a closed loop.
    under_way: Vec<VecDeque<UnderWay>>,
    format: Format,
    data: Finder,
    ids: Finder,
}

impl Shared {
    /// For so many rooms.
    pub(crate) fn new(rooms: usize, format: Format, completes_by_ack: bool) -> Self {
        Self {
            tally: Tally::new(),
            live: 0,
            failures: Vec::new(),
            completed: 0,
            completes_by_ack,
            under_way: vec![VecDeque::new(); rooms],
            format,
            data: Finder::new(DATA_TAG),
            ids: Finder::new(ID_TAG),
        }
    }

    /// A closed loop has published: it completes when so many members have heard it.
    pub(crate) fn expect(&mut self, room: usize, sequence: u32, members: u32) {
        if let Some(under_way) = self.under_way.get_mut(room) {
            under_way.push_back(UnderWay { sequence, missing: members });
        }
    }

    fn heard(&mut self, room: usize, sequence: u32) {
        let Some(under_way) = self.under_way.get_mut(room) else { return };
        let Some(first) = under_way.front() else { return };
        let index = sequence.checked_sub(first.sequence).and_then(|at| usize::try_from(at).ok());
        if let Some(publication) = index.and_then(|index| under_way.get_mut(index)) {
            publication.missing = publication.missing.saturating_sub(1);
        }
        while under_way.front().is_some_and(|publication| publication.missing == 0) {
            under_way.pop_front();
            self.completed += 1;
        }
    }
}

/// What is left to do after reading or writing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Want {
    /// Tell me when something can be read.
    Read,
    /// Also when something can be written.
    Write,
    /// Nothing: it is over.
    Nothing,
}

/// What a connection heard that is counted apart from the others.
#[derive(Clone, Debug, Default)]
pub(crate) struct Apart {
    /// Publications, each once.
    pub(crate) distinct: u64,
    /// Notices that something is missing.
    pub(crate) told: u64,
    /// Why it ended.
    pub(crate) ended: Option<String>,
}

/// One connection.
#[derive(Debug)]
pub(crate) struct Connection {
    /// Its socket.
    pub(crate) socket: TcpStream,
    /// What the event loop was last told.
    pub(crate) want: Want,
    state: State,
    seat: Seat,
    track: Track,
    partial: Vec<u8>,
    out: Vec<u8>,
    /// Where it counts what it hears, if not with the others.
    pub(crate) apart: Option<Box<Apart>>,
}

impl Connection {
    /// Begins to connect.
    pub(crate) fn open(address: SocketAddr, seat: Seat) -> std::io::Result<Self> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_nonblocking(true)?;
        socket.set_tcp_nodelay(true)?;
        match socket.connect(&address.into()) {
            Ok(()) => {}
            Err(cause)
                if cause.raw_os_error() == Some(rustix::io::Errno::INPROGRESS.raw_os_error()) => {}
            Err(cause) => return Err(cause),
        }
        Ok(Self {
            socket: socket.into(),
            want: Want::Write,
            state: State::Connecting,
            seat,
            track: Track::new(),
            partial: Vec::new(),
            out: Vec::new(),
            apart: None,
        })
    }

    /// Whether it is ready.
    pub(crate) fn is_live(&self) -> bool {
        self.state == State::Live
    }

    /// The socket can be written.
    pub(crate) fn writable(&mut self, shared: &mut Shared) -> Want {
        if self.state == State::Connecting {
            match self.socket.take_error() {
                Ok(None) => {}
                Ok(Some(cause)) | Err(cause) => {
                    return self.end(shared, format!("no connection: {cause}"));
                }
            }
            if self.seat.upgrade.is_empty() {
                self.become_live(shared);
            } else {
                self.state = State::Upgrading;
                self.out = std::mem::take(&mut self.seat.upgrade);
            }
        }
        self.flush(shared)
    }

    /// Whether it is closed where it says nothing for long.
    pub(crate) fn beats(&self) -> bool {
        self.is_live() && self.seat.speaks == Speaks::Chat
    }

    /// Says that it is there.
    pub(crate) fn beat(&mut self, shared: &mut Shared) -> Want {
        frames::append_masked(&mut self.out, frames::TEXT, b"ping");
        self.flush(shared)
    }

    /// Sends bytes, or keeps what the socket does not take.
    pub(crate) fn send(&mut self, bytes: &[u8], shared: &mut Shared) -> Want {
        self.out.extend_from_slice(bytes);
        self.flush(shared)
    }

    /// The socket can be read, into `buffer`.
    pub(crate) fn readable(&mut self, buffer: &mut [u8], shared: &mut Shared) -> Want {
        loop {
            let read = match self.socket.read(buffer) {
                Ok(0) => return self.end(shared, "closed without a Close frame".into()),
                Ok(read) => read,
                Err(cause) if cause.kind() == ErrorKind::WouldBlock => break,
                Err(cause) if cause.kind() == ErrorKind::Interrupted => continue,
                Err(cause) => return self.end(shared, format!("broken: {cause}")),
            };
            let whole = read == buffer.len();
            let Some(bytes) = buffer.get(..read) else { break };
            if let Err(reason) = self.take(bytes, shared) {
                return self.end(shared, reason);
            }
            if !whole {
                break;
            }
        }
        self.flush(shared)
    }

    /// Takes bytes in, after those kept from the last time.
    fn take(&mut self, bytes: &[u8], shared: &mut Shared) -> Result<(), String> {
        if self.partial.is_empty() {
            let used = self.feed(bytes, shared)?;
            self.partial.extend_from_slice(bytes.get(used..).unwrap_or_default());
            return Ok(());
        }
        let mut joined = std::mem::take(&mut self.partial);
        joined.extend_from_slice(bytes);
        let used = self.feed(&joined, shared)?;
        // Kept only while something is half read: a fresh allocation of just that.
        self.partial = joined.get(used..).unwrap_or_default().to_vec();
        Ok(())
    }

    /// Handles what is whole and says how many bytes that was.
    fn feed(&mut self, bytes: &[u8], shared: &mut Shared) -> Result<usize, String> {
        let mut used = 0;
        if self.state == State::Upgrading {
            match upgraded(bytes)? {
                Some(head) => used = head,
                None => return Ok(0),
            }
            match self.seat.speaks {
                Speaks::Native | Speaks::NativeAcking => self.state = State::Welcome,
                Speaks::Chat => self.become_live(shared),
            }
        }
        let now = now_ns();
        while let Some(rest) = bytes.get(used..) {
            match frames::parse(rest) {
                Parsed::Whole { opcode, head, length } => {
                    let payload = rest.get(head..head + length).unwrap_or_default();
                    self.frame(opcode, payload, head + length, now, shared)?;
                    used += head + length;
                }
                Parsed::Partial => break,
                Parsed::Bad(reason) => return Err(reason.into()),
            }
        }
        Ok(used)
    }

    fn frame(
        &mut self,
        opcode: u8,
        payload: &[u8],
        frame_bytes: usize,
        now: u64,
        shared: &mut Shared,
    ) -> Result<(), String> {
        match opcode {
            frames::PING => {
                shared.tally.pings += 1;
                frames::append_masked(&mut self.out, frames::PONG, payload);
                Ok(())
            }
            frames::CLOSE => Err(match payload {
                [high, low, reason @ ..] => format!(
                    "closed with code {}: {}",
                    u16::from_be_bytes([*high, *low]),
                    String::from_utf8_lossy(reason)
                ),
                _ => "closed without a code".into(),
            }),
            frames::TEXT | frames::BINARY => {
                if self.state == State::Live
                    && let Some(mark) = shared.data.find(payload)
                {
                    let heard = self.track.take(mark.sequence);
                    self.ack(payload, shared);
                    if let Some(apart) = &mut self.apart {
                        apart.distinct += u64::from(heard != Heard::Repeat);
                        return Ok(());
                    }
                    let latency = since_ns(mark.intended_ns, now);
                    shared.tally.delivered(heard, frame_bytes, latency);
                    if heard != Heard::Repeat && !shared.completes_by_ack {
                        shared.heard(self.seat.room, mark.sequence);
                    }
                    return Ok(());
                }
                match self.seat.speaks {
                    Speaks::Native | Speaks::NativeAcking => self.message(payload, now, shared),
                    Speaks::Chat => answered(payload, shared),
                }
            }
            _ => Ok(()),
        }
    }

    /// Acks what it heard, in the next write.
    fn ack(&mut self, payload: &[u8], shared: &mut Shared) {
        match self.seat.speaks {
            Speaks::Native => {}
            Speaks::NativeAcking => {
                if let Some(mark) = shared.ids.find(payload) {
                    let id = mark.write(ID_TAG);
                    let text = [&b"{\"type\":\"ack\",\"ackId\":\""[..], &id, b"\"}"].concat();
                    frames::append_masked(&mut self.out, frames::TEXT, &text);
                }
            }
            Speaks::Chat => {
                if let Some(number) = frames::event_number(payload) {
                    let text = [&b"{\"type\":\"ack\",\"id\":\""[..], number, b"\"}"].concat();
                    frames::append_masked(&mut self.out, frames::TEXT, &text);
                }
            }
        }
    }

    /// Anything but a publication: rare, so that it may be decoded in full.
    fn message(&mut self, payload: &[u8], now: u64, shared: &mut Shared) -> Result<(), String> {
        let message = wire::decode(shared.format, payload).map_err(|closed| closed.to_string())?;
        if let (Some(apart), Incoming::Event(Event::Gap { .. })) = (&mut self.apart, &message) {
            apart.told += 1;
        }
        match message {
            Incoming::Welcome(_) if self.state == State::Welcome => {
                self.state = State::Joining;
                self.join_next(shared);
            }
            Incoming::Answer { answer: Answer::Joined(_), .. } if self.state == State::Joining => {
                self.join_next(shared);
            }
            Incoming::Answer { answer: Answer::Ack(_), id } => {
                shared.tally.acks += 1;
                if shared.completes_by_ack {
                    shared.completed += 1;
                    if let Some(mark) = shared.ids.find(id.as_bytes()) {
                        let latency = since_ns(mark.intended_ns, now) / 1_000;
                        shared.tally.latency.saturating_record(latency);
                    }
                }
            }
            Incoming::Answer { answer: Answer::Refused(refused), .. }
            | Incoming::Event(Event::Error(refused)) => {
                if self.state != State::Live {
                    return Err(format!("refused: {refused}"));
                }
                shared.tally.refused(&refused.name);
                // It will never be acked, and the loop must not wait for it.
                if shared.completes_by_ack {
                    shared.completed += 1;
                }
            }
            Incoming::Welcome(_)
            | Incoming::Answer {
                answer:
                    Answer::Joined(_)
                    | Answer::Left
                    | Answer::Refreshed
                    | Answer::Roster(_)
                    | Answer::Marked(_)
                    | Answer::Receipts(_)
                    | Answer::Response(_),
                ..
            }
            | Incoming::Pong(_)
            | Incoming::Event(
                Event::Publication(_)
                | Event::Pong
                | Event::TokenExpiring { .. }
                | Event::Gap { .. }
                | Event::Skip { .. }
                | Event::Lost { .. }
                | Event::Presence(_)
                | Event::Receipts(_)
                | Event::Drain(_)
                | Event::Joined(_)
                | Event::Left { .. }
                | Event::Degraded { .. }
                | Event::Other(_)
                | Event::Closed(_),
            ) => shared.tally.others += 1,
        }
        Ok(())
    }

    fn join_next(&mut self, shared: &mut Shared) {
        match self.seat.joins.pop_front() {
            Some(join) => self.out.extend_from_slice(&join),
            None => self.become_live(shared),
        }
    }

    fn become_live(&mut self, shared: &mut Shared) {
        self.state = State::Live;
        self.seat.joins = VecDeque::new();
        shared.live += 1;
    }

    fn flush(&mut self, shared: &mut Shared) -> Want {
        while !self.out.is_empty() {
            match self.socket.write(&self.out) {
                Ok(written) if written == self.out.len() => self.out = Vec::new(),
                Ok(written) => drop(self.out.drain(..written)),
                Err(cause) if cause.kind() == ErrorKind::WouldBlock => return Want::Write,
                Err(cause) if cause.kind() == ErrorKind::Interrupted => {}
                Err(cause) => return self.end(shared, format!("broken: {cause}")),
            }
        }
        if self.state == State::Connecting { Want::Write } else { Want::Read }
    }

    fn end(&mut self, shared: &mut Shared, reason: String) -> Want {
        if self.state == State::Live {
            shared.live -= 1;
        }
        if self.state != State::Ended {
            self.state = State::Ended;
            match &mut self.apart {
                Some(apart) => apart.ended = Some(reason),
                None => shared.failures.push(reason),
            }
        }
        Want::Nothing
    }
}

/// What a node says to a client of chat beside events: a refusal ends the run.
fn answered(payload: &[u8], shared: &mut Shared) -> Result<(), String> {
    if payload.starts_with(b"{\"error\"") {
        return Err(format!("refused: {}", String::from_utf8_lossy(payload)));
    }
    shared.tally.others += 1;
    Ok(())
}

/// The length of the answer's head once it is whole.
fn upgraded(bytes: &[u8]) -> Result<Option<usize>, String> {
    let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else {
        return if bytes.len() > 16_384 {
            Err("the answer to the upgrade has no end".into())
        } else {
            Ok(None)
        };
    };
    if bytes.starts_with(b"HTTP/1.1 101 ") {
        return Ok(Some(end + 4));
    }
    let text = String::from_utf8_lossy(bytes);
    let status = text.lines().next().unwrap_or_default();
    let body = text.split_once("\r\n\r\n").map_or("", |(_, body)| body.trim());
    Err(format!("the upgrade was refused: {status} {body}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_upgrade_is_accepted_refused_or_awaited() {
        assert_eq!(upgraded(b"HTTP/1.1 101 Switching Protocols\r\n"), Ok(None));
        let whole = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\nrest";
        assert_eq!(upgraded(whole), Ok(Some(whole.len() - 4)));
        let refused = b"HTTP/1.1 429 Too Many Requests\r\n\r\nconnections_per_ip is 10";
        assert!(upgraded(refused).unwrap_err().contains("connections_per_ip is 10"));
        assert!(upgraded(&[b'x'; 20_000]).is_err());
    }

    #[test]
    fn a_closed_loop_completes_when_every_member_has_heard() {
        let mut shared = Shared::new(1, Format::Json, false);
        shared.expect(0, 1, 2);
        shared.expect(0, 2, 2);
        for (sequence, completed) in [(1, 0), (2, 0), (2, 0), (1, 2)] {
            shared.heard(0, sequence);
            assert_eq!(shared.completed, completed, "{sequence}");
        }
        shared.heard(0, 3);
        assert_eq!(shared.completed, 2, "nothing is under way");
    }
}
