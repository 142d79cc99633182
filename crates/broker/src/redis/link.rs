//! One connection of the feed: subscribes, reads pushes, and hands the wanted ones to the node in their order.
//!
//! Nothing is lost in here: when the node's feed is full the link reads no further and TCP pushes back. A link that
//! fails is never mended, only replaced.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use fred::types::config::Server;
use roomcast_protocol::envelope::{BrokerEvent, Envelope, LinkId};
use roomcast_protocol::relay::ClusterTime;
use roomcast_protocol::room::RoomName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};

use super::channels::{self, BEATS, Kind};
use super::connect::{self, Stream};
use super::options::Credentials;
use super::pulse::{self, Pulse};
use super::resp::{self, Next, Told};
use super::shared::{Hearing, Shared};
use crate::feed::{EVENT_BYTES, FEED_BYTES_MAX};

/// Bytes read at once.
const READ_BYTES: usize = 64 * 1024;

/// Channels in one command.
const CHANNELS_MAX: usize = 256;

/// How often a link says that bytes come. Units: milliseconds.
const ALIVE: Duration = Duration::from_millis(100);

/// How long the socket may take none of what is written.
const WRITE: Duration = Duration::from_secs(3);

/// What a link is told to do.
#[derive(Debug)]
pub(crate) enum LinkOrder {
    /// Hear a channel for a room.
    Subscribe { kind: Kind, channel: String, room: RoomName, request: u64 },
    /// Hear it no more.
    Unsubscribe { kind: Kind, channel: String },
}

/// Why a link is of no use any more.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LinkError {
    #[error("the connection failed: {0}")]
    Socket(#[from] std::io::Error),
    #[error("the server closed the connection")]
    Closed,
    #[error("connecting took too long")]
    Timeout,
    #[error("the server declines: {0}")]
    Declined(String),
    #[error("the server moved a channel elsewhere")]
    Moved,
    #[error("the server does not speak RESP")]
    Broken,
}

/// What a link is connected with.
pub(crate) struct LinkPlan {
    pub(crate) id: LinkId,
    pub(crate) server: Server,
    /// What it hears from the beginning.
    pub(crate) channels: Vec<(Kind, String)>,
}

/// A confirmation that is due; they come in the order of the commands.
enum Due {
    /// Part of what the link hears from the beginning.
    Beginning,
    /// Of a room.
    Room { room: RoomName, request: u64 },
    /// Of an end.
    End(String),
}

/// A link that is connected.
pub(crate) struct Link<T> {
    shared: Arc<Shared<T>>,
    id: LinkId,
    stream: Stream,
    buffer: BytesMut,
    /// Bytes of an oversized message still to be passed over.
    skip: usize,
    /// Behind them stands a payload that is passed over as well.
    skip_payload: bool,
    due: VecDeque<Due>,
    alive: Instant,
    own_beats: String,
}

impl<T> fmt::Debug for Link<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("id", &self.id).finish_non_exhaustive()
    }
}

impl<T: Send + 'static> Link<T> {
    /// Connects and waits until all that the plan names is heard.
    pub(crate) async fn connect(
        shared: Arc<Shared<T>>,
        connector: Option<tokio_rustls::TlsConnector>,
        plan: LinkPlan,
    ) -> Result<Self, LinkError> {
        let limit = Duration::from_millis(shared.options.connect_timeout_ms);
        let stream = timeout(limit, connect::open(&plan.server, connector.as_ref()))
            .await
            .map_err(|_| LinkError::Timeout)??;
        let mut link = Self {
            id: plan.id,
            stream,
            buffer: BytesMut::with_capacity(READ_BYTES),
            skip: 0,
            skip_payload: false,
            due: VecDeque::new(),
            alive: Instant::now(),
            own_beats: channels::beat_name(shared.node),
            shared,
        };
        link.begin(&plan.channels, limit).await?;
        link.shared.stats.links_connected.fetch_add(1, Ordering::Relaxed);
        Ok(link)
    }

    /// Asks for all that is heard from the beginning, and waits until it is; the server may pause for so long.
    async fn begin(
        &mut self,
        channels: &[(Kind, String)],
        limit: Duration,
    ) -> Result<(), LinkError> {
        let mut out = Vec::new();
        if let Some(parts) = auth(&self.shared.options.credentials) {
            resp::command(&mut out, parts.iter().map(|part| part.as_bytes()));
        }
        for kind in [Kind::Pattern, Kind::Plain, Kind::Sharded] {
            let all: Vec<_> = channels.iter().filter(|(it, _)| *it == kind).collect();
            // In a Cluster, one command names channels of one slot only.
            let at_once = if kind == Kind::Sharded { 1 } else { CHANNELS_MAX };
            for some in all.chunks(at_once) {
                let names = some.iter().map(|(_, channel)| channel.as_bytes());
                let parts: Vec<_> =
                    std::iter::once(kind.subscribe().as_bytes()).chain(names).collect();
                resp::command(&mut out, parts.into_iter());
            }
            self.due.extend(all.iter().map(|_| Due::Beginning));
        }
        for some in out.chunks(READ_BYTES) {
            let written = timeout(limit, self.stream.write_all(some)).await;
            written.map_err(|_| LinkError::Timeout)??;
        }
        let mut heard = Instant::now();
        while !self.due.is_empty() {
            let left = self.due.len();
            timeout(limit, self.read()).await.map_err(|_| LinkError::Timeout)??;
            if self.due.len() < left {
                heard = Instant::now();
            } else if heard.elapsed() > limit {
                return Err(LinkError::Timeout);
            }
        }
        Ok(())
    }

    /// Reads and obeys until the link fails, or is not wanted any more.
    pub(crate) async fn run(
        mut self,
        mut orders: mpsc::UnboundedReceiver<LinkOrder>,
    ) -> Result<(), LinkError> {
        let mut taken = Vec::new();
        loop {
            self.buffer.reserve(READ_BYTES);
            tokio::select! {
                biased;
                count = orders.recv_many(&mut taken, CHANNELS_MAX) => {
                    if count == 0 {
                        return Ok(());
                    }
                    let mut out = Vec::new();
                    for order in taken.drain(..) {
                        self.obey(order, &mut out);
                    }
                    let written = timeout(WRITE, self.stream.write_all(&out)).await;
                    written.map_err(|_| LinkError::Timeout)??;
                }
                count = self.stream.read_buf(&mut self.buffer) => self.take(count?).await?,
            }
        }
    }

    fn obey(&mut self, order: LinkOrder, out: &mut Vec<u8>) {
        let (command, channel) = match order {
            LinkOrder::Subscribe { kind, channel, room, request } => {
                self.due.push_back(Due::Room { room, request });
                (kind.subscribe(), channel)
            }
            LinkOrder::Unsubscribe { kind, channel } => {
                self.due.push_back(Due::End(channel.clone()));
                (kind.unsubscribe(), channel)
            }
        };
        resp::command(out, [command.as_bytes(), channel.as_bytes()].into_iter());
    }

    async fn read(&mut self) -> Result<(), LinkError> {
        self.buffer.reserve(READ_BYTES);
        let count = self.stream.read_buf(&mut self.buffer).await?;
        self.take(count).await
    }

    /// Handles what came, then waits if the node is behind.
    async fn take(&mut self, count: usize) -> Result<(), LinkError> {
        if count == 0 {
            return Err(LinkError::Closed);
        }
        let stats = &self.shared.stats;
        stats.received_bytes.fetch_add(count as u64, Ordering::Relaxed);
        let now = Instant::now();
        if now >= self.alive {
            self.alive = now + ALIVE;
            self.shared.tell(BrokerEvent::Alive(self.id));
        }
        self.parse()?;
        self.shared.feed.room().await;
        Ok(())
    }

    fn parse(&mut self) -> Result<(), LinkError> {
        let shared = Arc::clone(&self.shared);
        let time = shared.stats.time();
        let mut hearing = shared.hearing();
        let mut brought = Brought::default();
        loop {
            let passed = self.skip.min(self.buffer.len());
            self.buffer.advance(passed);
            self.skip -= passed;
            if self.skip == 0 && self.skip_payload {
                let found = resp::payload(&self.buffer).map_err(|()| LinkError::Broken)?;
                let Some(length) = found else { break };
                (self.skip, self.skip_payload) = (length, false);
                continue;
            }
            let next = resp::next(&self.buffer, FEED_BYTES_MAX);
            let length = match next {
                Next::Message { channel, payload, length } => {
                    match channels::name_of(channel) {
                        Some(name) if name == self.own_beats => self.beaten(&hearing, payload),
                        // Another node's beats: rooms of the system are those that the hub wants to hear.
                        Some(name) if name.starts_with(BEATS) => {}
                        Some(name) => brought.message(&shared, &hearing, name, payload, time),
                        None => {}
                    }
                    length
                }
                Next::Oversized { channel, length } => {
                    if channels::name_of(channel)
                        .is_some_and(|name| hearing.rooms.contains_key(name))
                    {
                        brought.too_large += 1;
                    }
                    self.skip = length;
                    continue;
                }
                Next::Unheard { length } => {
                    brought.received += 1;
                    (self.skip, self.skip_payload) = (length, true);
                    continue;
                }
                Next::Other(frame, length) => {
                    let told = resp::told(frame);
                    self.confirm(&mut hearing, told)?;
                    length
                }
                Next::Incomplete => break,
                Next::Broken => return Err(LinkError::Broken),
            };
            self.buffer.advance(length);
        }
        brought.count(&shared);
        Ok(())
    }

    fn beaten(&self, hearing: &Hearing, payload: &[u8]) {
        let keys = hearing.keys.as_ref();
        let heard = keys.and_then(|keys| pulse::heard(keys, &self.own_beats, payload));
        if let Some(Pulse { seq, master, moved }) = heard {
            self.shared.stats.beats_heard.fetch_add(1, Ordering::Relaxed);
            let master = self.shared.master(master);
            self.shared.tell(BrokerEvent::Beat { link: self.id, seq, master, moved });
        }
    }

    /// Takes the confirmation that is due next.
    fn confirm(&mut self, hearing: &mut Hearing, told: Told) -> Result<(), LinkError> {
        match told {
            Told::Fine => Ok(()),
            Told::Error(text) => {
                let code = text.split(' ').next().unwrap_or_default().to_owned();
                Err(if code == "MOVED" { LinkError::Moved } else { LinkError::Declined(code) })
            }
            Told::Subscribed(_) => {
                if let Some(Due::Room { room, request }) = self.due.pop_front() {
                    self.confirm_room(hearing, room, request);
                }
                Ok(())
            }
            Told::Unsubscribed(channel) => match self.due.front() {
                Some(Due::End(wanted)) if wanted.as_bytes() == channel => {
                    self.due.pop_front();
                    Ok(())
                }
                // Nobody asked for it: the slot went to another master.
                Some(_) | None => Err(LinkError::Moved),
            },
        }
    }

    fn confirm_room(&self, hearing: &mut Hearing, room: RoomName, request: u64) {
        let want = hearing.rooms.get_mut(&room).filter(|want| want.request == request);
        let Some(want) = want else { return };
        want.unconfirmed = want.unconfirmed.saturating_sub(1);
        if want.unconfirmed == 0 {
            self.shared.tell(BrokerEvent::Subscribed { room, request });
        }
    }
}

/// What one read brought, for the figures.
#[derive(Default)]
struct Brought {
    received: u64,
    wanted: u64,
    too_large: u64,
}

impl Brought {
    /// A payload for a room: decoded only if the room is wanted.
    fn message<T>(
        &mut self,
        shared: &Shared<T>,
        hearing: &Hearing,
        name: &str,
        payload: &[u8],
        time: ClusterTime,
    ) {
        self.received += 1;
        let (Some((room, _)), Some(keys)) = (hearing.rooms.get_key_value(name), &hearing.keys)
        else {
            return;
        };
        self.wanted += 1;
        let codec = &shared.options.codec;
        if let Some(diff) = codec.presence(keys, room, payload) {
            let names = diff.joined.iter().chain(&diff.left);
            let weight = EVENT_BYTES + names.map(|it| size_of_val(it) + it.len()).sum::<usize>();
            let envelope = Envelope::Presence(Arc::new(diff));
            shared.feed.send(weight, BrokerEvent::Envelope(envelope));
            return;
        }
        if let Some(diff) = codec.receipts(keys, room, payload) {
            let users = diff.receipts.iter().map(|it| size_of_val(it) + it.user.len());
            let weight = EVENT_BYTES + users.sum::<usize>();
            let envelope = Envelope::Receipts(Arc::new(diff));
            shared.feed.send(weight, BrokerEvent::Envelope(envelope));
            return;
        }
        let payload = Bytes::copy_from_slice(payload);
        match codec.decode(keys, room, &payload, time, shared.serial()) {
            // Names that begin with `$` are the system's: outsiders have no business there.
            Ok(relayed) if relayed.published_us.is_none() && name.starts_with('$') => {}
            Ok(relayed) => {
                let publication = Arc::new(relayed.publication);
                let published_us = relayed.published_us.unwrap_or(0);
                let weight = EVENT_BYTES + publication.weight();
                let envelope = Envelope::Publication { publication, published_us };
                shared.feed.send(weight, BrokerEvent::Envelope(envelope));
            }
            Err(cause) => {
                if let Some(counter) = shared.stats.unreadable.get(cause.index()) {
                    counter.fetch_add(1, Ordering::Relaxed);
                }
                if let Some(position) = codec.position(keys, room, &payload) {
                    let envelope = Envelope::Unreadable { room: room.clone(), position };
                    shared.feed.send(EVENT_BYTES, BrokerEvent::Envelope(envelope));
                }
            }
        }
    }

    fn count<T>(self, shared: &Shared<T>) {
        let stats = &shared.stats;
        stats.received.fetch_add(self.received + self.too_large, Ordering::Relaxed);
        stats.wanted.fetch_add(self.wanted + self.too_large, Ordering::Relaxed);
        stats.unwanted.fetch_add(self.received - self.wanted, Ordering::Relaxed);
        let too_large = roomcast_protocol::relay::Unreadable::TooLarge.index();
        if let Some(counter) = stats.unreadable.get(too_large) {
            counter.fetch_add(self.too_large, Ordering::Relaxed);
        }
    }
}

fn auth(credentials: &Credentials) -> Option<Vec<&str>> {
    let password = credentials.password.as_deref()?;
    Some(match credentials.username.as_deref() {
        Some(username) => vec!["AUTH", username, password],
        None => vec!["AUTH", password],
    })
}
