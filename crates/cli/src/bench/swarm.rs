//! Thousands of connections on one thread: an epoll loop over raw sockets. Decides nothing about pace; whoever runs a
//! job calls [`Swarm::turn`] again and again.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::buffer::spare_capacity;
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};

use super::connection::{Apart, Connection, Seat, Shared, Want};
use super::progress::Progress;
use crate::failure::Failure;

/// Connections that are under way at once, below every sensible accept queue.
const CONNECTING_MAX: usize = 64;

/// Sockets handled in one turn.
const EVENTS_MAX: usize = 1_024;

/// How often clients of chat say that they are there; after 20 s they would be closed.
const BEAT: Duration = Duration::from_secs(8);

/// Bytes read at once; all connections share the buffer.
const BUFFER_BYTES: usize = 256 * 1_024;

/// Bytes that the kernel takes for a connection that reads nothing, or not many more.
const NARROW_BYTES: usize = 4_096;

/// All connections of a job.
pub(crate) struct Swarm {
    epoll: OwnedFd,
    events: Vec<Event>,
    buffer: Box<[u8]>,
    connections: Vec<Connection>,
    beaten: Instant,
    /// What was heard, and how many are ready.
    pub(crate) shared: Shared,
}

impl Swarm {
    /// Without connections.
    pub(crate) fn new(shared: Shared) -> Result<Self, Failure> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)
            .map_err(|cause| Failure::failed("no epoll", &cause))?;
        Ok(Self {
            epoll,
            events: Vec::with_capacity(EVENTS_MAX),
            buffer: vec![0; BUFFER_BYTES].into_boxed_slice(),
            connections: Vec::new(),
            beaten: Instant::now(),
            shared,
        })
    }

    /// Connects all seats and returns once they are ready, with the index of the first.
    ///
    /// # Errors
    /// Where one of them fails, with its reason, or where they take longer than 30 s and 5 ms each.
    pub(crate) fn connect(
        &mut self,
        address: SocketAddr,
        seats: impl ExactSizeIterator<Item = Result<Seat, Failure>>,
        progress: &Progress,
    ) -> Result<usize, Failure> {
        let (first, all) = (self.connections.len(), seats.len());
        let (live_before, mut seats) = (self.shared.live, seats);
        let limit = Duration::from_secs(30) + Duration::from_millis(5) * to_u32(all);
        let deadline = Instant::now() + limit;
        loop {
            let live = self.shared.live - live_before;
            progress.at(live);
            if live == all {
                return Ok(first);
            }
            while self.connections.len() - first < all
                && self.connections.len() - first - live < CONNECTING_MAX
            {
                let Some(seat) = seats.next() else { break };
                self.open(address, seat?)?;
            }
            self.turn(Duration::from_millis(20))?;
            if let Some(reason) = self.shared.failures.first() {
                return Err(Failure::Failed(format!(
                    "{live} of {all} connections are ready, then one failed: {reason}"
                )));
            }
            if Instant::now() > deadline {
                return Err(Failure::Timeout(format!(
                    "{live} of {all} connections are ready after {} s",
                    limit.as_secs()
                )));
            }
        }
    }

    fn open(&mut self, address: SocketAddr, seat: Seat) -> Result<(), Failure> {
        let connection = Connection::open(address, seat).map_err(|cause| {
            Failure::failed(
                &format!("connection {} to {address}", self.connections.len() + 1),
                &cause,
            )
        })?;
        let key = EventData::new_u64(self.connections.len() as u64);
        epoll::add(&self.epoll, &connection.socket, key, flags(connection.want))
            .map_err(|cause| Failure::failed("no epoll", &cause))?;
        self.connections.push(connection);
        Ok(())
    }

    /// Says that they are there, for those that have to.
    fn beat(&mut self) -> Result<(), Failure> {
        if self.beaten.elapsed() < BEAT {
            return Ok(());
        }
        self.beaten = Instant::now();
        for index in 0..self.connections.len() {
            let Some(connection) = self.connections.get_mut(index) else { break };
            if connection.beats() {
                let want = connection.beat(&mut self.shared);
                self.settle(index, want)?;
            }
        }
        Ok(())
    }

    /// Waits at most `wait` and handles whatever can be read or written.
    pub(crate) fn turn(&mut self, wait: Duration) -> Result<(), Failure> {
        self.beat()?;
        self.events.clear();
        let timeout = Timespec {
            tv_sec: i64::try_from(wait.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(wait.subsec_nanos()),
        };
        match epoll::wait(&self.epoll, spare_capacity(&mut self.events), Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(cause) => return Err(Failure::failed("no epoll", &cause)),
        }
        for at in 0..self.events.len() {
            let Some(event) = self.events.get(at).copied() else { break };
            // Copied: the kernel's structure is packed.
            let (flags, key) = (event.flags, event.data);
            let index = usize::try_from(key.u64()).unwrap_or(usize::MAX);
            let Some(connection) = self.connections.get_mut(index) else { continue };
            let mut want = connection.want;
            if flags.contains(EventFlags::OUT) {
                want = connection.writable(&mut self.shared);
            }
            let ready = EventFlags::IN | EventFlags::HUP | EventFlags::ERR;
            if want != Want::Nothing && flags.intersects(ready) {
                want = connection.readable(&mut self.buffer, &mut self.shared);
            }
            self.settle(index, want)?;
        }
        Ok(())
    }

    /// Sends bytes on one connection.
    pub(crate) fn send(&mut self, index: usize, bytes: &[u8]) -> Result<(), Failure> {
        let Some(connection) = self.connections.get_mut(index) else { return Ok(()) };
        if !connection.is_live() {
            let reason = self.shared.failures.last().map_or("not ready", String::as_str);
            return Err(Failure::Failed(format!("the publisher's connection ended: {reason}")));
        }
        let want = connection.send(bytes, &mut self.shared);
        self.settle(index, want)
    }

    /// Counts what a connection hears apart from the others.
    pub(crate) fn set_apart(&mut self, index: usize) {
        if let Some(connection) = self.connections.get_mut(index) {
            connection.apart = Some(Box::default());
        }
    }

    /// What a connection heard that is counted apart.
    pub(crate) fn apart(&self, index: usize) -> Option<&Apart> {
        self.connections.get(index)?.apart.as_deref()
    }

    /// Reads nothing of a connection any more, and has the kernel take as little as it can.
    pub(crate) fn pause(&mut self, index: usize) -> Result<(), Failure> {
        let Some(connection) = self.connections.get_mut(index) else { return Ok(()) };
        if connection.want != Want::Nothing {
            socket2::SockRef::from(&connection.socket).set_recv_buffer_size(NARROW_BYTES)?;
            epoll::delete(&self.epoll, &connection.socket)
                .map_err(|cause| Failure::failed("no epoll", &cause))?;
        }
        Ok(())
    }

    /// Goes on reading.
    pub(crate) fn resume(&mut self, index: usize) -> Result<(), Failure> {
        let Some(connection) = self.connections.get_mut(index) else { return Ok(()) };
        if connection.want == Want::Nothing {
            return Ok(());
        }
        socket2::SockRef::from(&connection.socket).set_recv_buffer_size(BUFFER_BYTES)?;
        let key = EventData::new_u64(index as u64);
        epoll::add(&self.epoll, &connection.socket, key, flags(connection.want))
            .map_err(|cause| Failure::failed("no epoll", &cause))
    }

    /// Tells epoll what changed.
    fn settle(&mut self, index: usize, want: Want) -> Result<(), Failure> {
        let Some(connection) = self.connections.get_mut(index) else { return Ok(()) };
        if connection.want == want {
            return Ok(());
        }
        connection.want = want;
        let told = match want {
            Want::Nothing => epoll::delete(&self.epoll, &connection.socket),
            Want::Read | Want::Write => epoll::modify(
                &self.epoll,
                &connection.socket,
                EventData::new_u64(index as u64),
                flags(want),
            ),
        };
        told.map_err(|cause| Failure::failed("no epoll", &cause))
    }
}

const fn flags(want: Want) -> EventFlags {
    match want {
        Want::Read => EventFlags::IN,
        Want::Write => EventFlags::IN.union(EventFlags::OUT),
        Want::Nothing => EventFlags::empty(),
    }
}

fn to_u32(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
