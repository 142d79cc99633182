//! Sessions that survive their connections: what an application uses.
//!
//! A session connects, comes back after every loss with the seed's figures, takes its rooms along and asks for what it
//! missed, goes to another node when its own is being replaced, sends publications until they are acked, and tells what it
//! could not mend. Owns connections of the lower layer; its behaviour is all in [`machine`], which does no IO.

mod effect;
mod event;
mod heard;
mod machine;
mod options;
mod outbox;
mod plan;
mod requests;
mod rooms;
mod seen;
mod task;

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde_json::Value;
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio::task::JoinHandle;
use uuid::Uuid;

pub use self::event::{RoomState, RoomStatus, SessionCounters, SessionEvent, SessionState};
pub use self::options::{Acks, Heartbeat, Reconnect, Reliable, SessionOptions};

use self::effect::Reply;
use self::outbox::Parcel;
use self::task::{Ask, Ends, Got, Status, Tell};
use crate::error::{Closed, Error};
use crate::event::{Joined, Position, Publication, Published, Roster, RosterPage, Welcome};
use crate::handshake;
use crate::options::{Format, PublishOptions};
use crate::receipts::{self, Receipt, ReceiptsPage, ReceiptsQuery};
use crate::roster;
use crate::wire::{self, Outgoing};

/// Requests of the application that wait for the session's task.
const ASKS_MAX: usize = 64;

/// How long [`Session::close`] waits for the peers' answers.
const CLOSE_WAIT: Duration = Duration::from_secs(5);

/// One session. Clones share it; it ends when the last one is dropped.
///
/// Requests and [`Session::next`] may run at the same time. Events wait in a bounded queue: when it is full nothing more is
/// read, so whoever only publishes should still take them.
#[derive(Clone, Debug)]
pub struct Session {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    format: Format,
    request_timeout: Duration,
    acks: Acks,
    asks: mpsc::Sender<Ask>,
    got: mpsc::Sender<Got>,
    events: Mutex<mpsc::Receiver<SessionEvent>>,
    status: Arc<Status>,
    task: Mutex<Option<JoinHandle<()>>>,
}

/// Begins a session, which connects by itself: see [`Session::ready`]. Must run on a tokio runtime with IO and time.
///
/// # Errors
/// [`Error::Url`] where the address cannot be used. All else is told by the session.
pub fn session(options: impl Into<SessionOptions>) -> Result<Session, Error> {
    let options = options.into();
    handshake::check_url(&options.connect.url)?;
    let events_max = options.connect.events_max.max(1);
    let (asks_in, asks) = mpsc::channel(ASKS_MAX);
    let (got_in, got) = mpsc::channel(events_max);
    let (events_in, events) = mpsc::channel(events_max);
    let status = Arc::new(Status::default());
    let inner = Inner {
        format: options.connect.format,
        request_timeout: options.connect.request_timeout,
        acks: options.acks,
        asks: asks_in,
        got: got_in,
        events: Mutex::new(events),
        status: Arc::clone(&status),
        task: Mutex::new(None),
    };
    let ends = Ends { asks, got, events: events_in, status };
    let (random, _) = Uuid::new_v4().as_u64_pair();
    let task = tokio::spawn(Box::pin(task::run(options, random, ends)));
    let inner = Inner { task: Mutex::new(Some(task)), ..inner };
    Ok(Session { inner: Arc::new(inner) })
}

impl Session {
    /// Waits until a connection stands.
    ///
    /// # Errors
    /// [`Error::Closed`] where the session ended before: the token is no good, or no attempt succeeded.
    pub async fn ready(&self) -> Result<Welcome, Error> {
        let reply = self.ask(Ask::Ready).await?;
        if let Reply::Ready(welcome) = reply { Ok(welcome) } else { Err(unfit(&reply)) }
    }

    /// Joins a room, now and over every connection to come. A room that is heard already is answered at once.
    ///
    /// # Errors
    /// [`Error::Refused`] (110 without the right, whether or not the room exists); [`Error::Closed`];
    /// [`Error::Timeout`]: the room is joined all the same once that is possible, and [`SessionEvent::Joined`] says so.
    pub async fn join(&self, room: &str) -> Result<Joined, Error> {
        self.join_from(room, None).await
    }

    /// Joins a room and asks for what was published behind `since`; [`Joined::recovered`] says whether all of it comes.
    ///
    /// # Errors
    /// As [`Session::join`].
    pub async fn join_since(&self, room: &str, since: &Position) -> Result<Joined, Error> {
        self.join_from(room, Some(since.clone())).await
    }

    async fn join_from(&self, room: &str, since: Option<Position>) -> Result<Joined, Error> {
        let after = self.inner.request_timeout;
        let asked = self.ask(|tell| Ask::Join(room.to_owned(), since, tell));
        let reply = tokio::time::timeout(after, asked).await;
        let reply = reply.unwrap_or(Err(Error::Timeout { what: "join", after }))?;
        if let Reply::Joined(joined) = reply { Ok(joined) } else { Err(unfit(&reply)) }
    }

    /// Leaves a room, for good.
    ///
    /// # Errors
    /// [`Error::Closed`], [`Error::Timeout`]: nothing more of the room is told in any case.
    pub async fn leave(&self, room: &str) -> Result<(), Error> {
        self.ask(|tell| Ask::Leave(room.to_owned(), tell)).await.map(drop)
    }

    /// Publishes `data` as a `kind` into a room. With `options.ack` it is sent with the same id until the node has acked
    /// it, over as many connections as that takes, and this resolves on the ack; without, once it was sent.
    ///
    /// # Errors
    /// [`Error::Refused`] where the node declined; [`Error::Full`] where too much waits already; [`Error::GivenUp`] after
    /// [`Reliable::retries`] or [`Reliable::age_max`]; [`Error::Closed`]: if it was sent, it may have been published.
    pub async fn publish<T: Serialize + Sync + ?Sized>(
        &self,
        room: &str,
        kind: &str,
        data: &T,
        options: &PublishOptions,
    ) -> Result<Published, Error> {
        let parcel = self.parcel(room, kind, data, options)?;
        let reply = self.ask(|tell| Ask::Publish(parcel, Some(tell))).await?;
        if let Reply::Published(published) = reply { Ok(published) } else { Err(unfit(&reply)) }
    }

    /// The same without waiting: gives its id. A failure is told as [`SessionEvent::Unpublished`].
    ///
    /// # Errors
    /// [`Error::Encode`], [`Error::Closed`].
    pub async fn post<T: Serialize + Sync + ?Sized>(
        &self,
        room: &str,
        kind: &str,
        data: &T,
        options: &PublishOptions,
    ) -> Result<String, Error> {
        let parcel = self.parcel(room, kind, data, options)?;
        let id = parcel.id.clone();
        let sent = self.inner.asks.send(Ask::Publish(parcel, None)).await;
        sent.map(|()| id).map_err(|_| over())
    }

    fn parcel<T: Serialize + ?Sized>(
        &self,
        room: &str,
        kind: &str,
        data: &T,
        options: &PublishOptions,
    ) -> Result<Parcel, Error> {
        let data = serde_json::to_value(data).map_err(|cause| Error::Encode(cause.to_string()))?;
        let id = options.id.clone().unwrap_or_else(|| Uuid::new_v4().to_string());
        let message = Outgoing::publication(&id, room, kind, &data, options);
        let bytes = wire::encode(self.inner.format, &message)?;
        Ok(Parcel { room: room.to_owned(), bytes, ack: options.ack, waiter: None, id })
    }

    /// Who is in a room, read page by page.
    ///
    /// # Errors
    /// [`Error::Refused`] with 110 without the right to the room, with 102 where it tells nothing of its members;
    /// [`Error::Closed`], [`Error::Timeout`].
    pub async fn presence(&self, room: &str) -> Result<Roster, Error> {
        roster::read(async |after| self.presence_page(room, after, None).await).await
    }

    /// Part of a room's roster: users behind `after`, at most `limit` (1 to 1,000) of them.
    ///
    /// # Errors
    /// As [`Session::presence`].
    pub async fn presence_page(
        &self,
        room: &str,
        after: Option<&str>,
        limit: Option<u32>,
    ) -> Result<RosterPage, Error> {
        let data = wire::presence_request(room, after, limit);
        let reply = self.ask(|tell| Ask::Presence(data, tell)).await?;
        if let Reply::Roster(page) = reply { Ok(page) } else { Err(unfit(&reply)) }
    }

    /// Says that this user has read a room up to there; what stands for it, with the time of the first mark that covers it.
    /// Said again over the next connection where this one breaks: marks never go back.
    ///
    /// # Errors
    /// [`Error::Refused`] with 102 where the room keeps no receipts, this session is not in it, or it has another epoch by
    /// now; [`Error::Closed`], [`Error::Timeout`].
    pub async fn mark_read(&self, room: &str, at: &Position) -> Result<Receipt, Error> {
        self.mark(receipts::mark_request(room, "read", at)).await
    }

    /// The same of what has arrived. The node marks that by itself as well, by pings and acks, up to a while later.
    ///
    /// # Errors
    /// As [`Session::mark_read`].
    pub async fn mark_delivered(&self, room: &str, at: &Position) -> Result<Receipt, Error> {
        self.mark(receipts::mark_request(room, "delivered", at)).await
    }

    async fn mark(&self, data: Value) -> Result<Receipt, Error> {
        let reply = self.ask(|tell| Ask::Receipt(data, tell)).await?;
        if let Reply::Marked(receipt) = reply { Ok(receipt) } else { Err(unfit(&reply)) }
    }

    /// Part of a room's receipts: how far its users have got and read it.
    ///
    /// # Errors
    /// [`Error::Refused`] with 110 without the right to the room, with 102 where it keeps no receipts; [`Error::Closed`],
    /// [`Error::Timeout`].
    pub async fn receipts_page(
        &self,
        room: &str,
        query: &ReceiptsQuery,
    ) -> Result<ReceiptsPage, Error> {
        let data = receipts::receipts_request(room, query);
        let reply = self.ask(|tell| Ask::Receipt(data, tell)).await?;
        if let Reply::Receipts(page) = reply { Ok(page) } else { Err(unfit(&reply)) }
    }

    /// Tells the node that a publication was got, where [`Acks::ByHand`] was chosen; until then it comes again. Without a
    /// connection nothing is said now: the node sends it again, and is told then.
    ///
    /// # Errors
    /// [`Error::Closed`].
    pub async fn ack(&self, publication: &Publication) -> Result<(), Error> {
        self.inner.got.send(got(publication)).await.map_err(|_| over())
    }

    /// Brings a new token of the same user, for this connection and those to come.
    ///
    /// # Errors
    /// [`Error::Closed`], [`Error::Timeout`]. One that is no good ends the connection with 4001.
    pub async fn refresh(&self, token: &str) -> Result<(), Error> {
        self.ask(|tell| Ask::Refresh(token.to_owned(), tell)).await.map(drop)
    }

    /// Where all rooms stand.
    ///
    /// # Errors
    /// [`Error::Closed`].
    pub async fn rooms(&self) -> Result<Vec<RoomStatus>, Error> {
        let reply = self.ask(Ask::Rooms).await?;
        if let Reply::Rooms(rooms) = reply { Ok(rooms) } else { Err(unfit(&reply)) }
    }

    /// The next thing told unasked; `None` after [`SessionEvent::Closed`]. Cancel safe.
    pub async fn next(&self) -> Option<SessionEvent> {
        let event = self.inner.events.lock().await.recv().await?;
        if let SessionEvent::Publication(publication) = &event
            && publication.requires_ack
            && self.inner.acks == Acks::Taken
        {
            // Where too many wait already the node sends it again, and is told then.
            drop(self.inner.got.try_send(got(publication)));
        }
        Some(event)
    }

    /// Where the session stands.
    #[must_use]
    pub fn state(&self) -> SessionState {
        self.inner.status.read().0
    }

    /// What it counted.
    #[must_use]
    pub fn counters(&self) -> SessionCounters {
        self.inner.status.read().1
    }

    /// Ends the session, on the node as well, and waits until its connections have ended; at most 5 s. Events that nobody
    /// has taken are dropped.
    pub async fn close(&self) {
        // A task that is gone has nothing left to end.
        drop(self.inner.asks.send(Ask::Close).await);
        let Some(task) = self.inner.task.lock().await.take() else { return };
        let drained = async {
            while self.inner.events.lock().await.recv().await.is_some() {}
            drop(task.await);
        };
        drop(tokio::time::timeout(CLOSE_WAIT, drained).await);
    }

    async fn ask(&self, ask: impl FnOnce(Tell) -> Ask) -> Result<Reply, Error> {
        let (tell, told) = oneshot::channel();
        self.inner.asks.send(ask(tell)).await.map_err(|_| over())?;
        told.await.unwrap_or_else(|_| Err(over()))
    }
}

fn got(Publication { room, sender, id, .. }: &Publication) -> Got {
    Got { room: room.clone(), sender: sender.clone(), id: id.clone() }
}

fn over() -> Error {
    Error::Closed(Closed { code: 1_000, reason: "the session is over".into() })
}

/// An answer of another kind than the request wants; the machine gives none such.
fn unfit(reply: &Reply) -> Error {
    Error::Handshake(format!("an answer of another kind: {reply:?}"))
}
