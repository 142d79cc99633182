//! The connection as an application sees it.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Serialize;
use serde_json::{Value, json};
use tokio::sync::{Mutex, mpsc};
use tokio::task::JoinHandle;
use uuid::Uuid;

use crate::driver::{self, Driver, Out, Taker};
use crate::error::{Closed, Error};
use crate::event::{
    Ack, Event, Joined, Position, Publication, Published, Response, Roster, RosterPage, Welcome,
};
use crate::handshake;
use crate::options::{Format, Options, PublishOptions, TokenIn};
use crate::pending::Pending;
use crate::receipts::{self, Receipt, ReceiptsPage, ReceiptsQuery};
use crate::roster;
use crate::wire::{self, Answer, Outgoing};

/// How long [`Client::close`] waits for the peer's answer, above the driver's own wait.
const CLOSE_WAIT: Duration = Duration::from_secs(3);

/// One connection. Clones share it; it closes when the last one is dropped.
///
/// Requests and [`Client::next`] may run at the same time; each is cancel safe (a request given up may still take
/// effect). Events wait in a bounded queue: whoever only publishes should still take them, or drop them.
#[derive(Clone, Debug)]
pub struct Client {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    format: Format,
    request_timeout: Duration,
    welcome: Welcome,
    pending: Arc<Pending>,
    events: Mutex<mpsc::Receiver<Event>>,
    writes: mpsc::Sender<Out>,
    tasks: Mutex<Option<(JoinHandle<()>, JoinHandle<()>)>>,
}

/// Connects, authenticates and waits for the welcome. Must run on a tokio runtime with IO and time, of any flavour.
///
/// # Errors
/// [`Error::Url`], [`Error::Connect`], [`Error::Upgrade`] or [`Error::Handshake`] where no connection comes about,
/// [`Error::Closed`] with 4001 or 4000 where the token is no good, with 1002 where what was said beside it is,
/// [`Error::Timeout`] after `connect_timeout`.
pub async fn connect(options: Options) -> Result<Client, Error> {
    let after = options.connect_timeout;
    Box::pin(tokio::time::timeout(after, open(options)))
        .await
        .unwrap_or(Err(Error::Timeout { what: "connect", after }))
}

async fn open(options: Options) -> Result<Client, Error> {
    let stream = handshake::open(&options).await?;
    let pending = Arc::new(Pending::default());
    let welcome = pending.welcome();
    let (events_in, events) = mpsc::channel(options.events_max.max(1));
    let Driver { writes, tasks } = driver::start(
        stream,
        &options,
        Taker::Client { pending: Arc::clone(&pending), events: events_in },
    );
    if options.token_in == TokenIn::Frame {
        // A connection that is gone already shows in the wait below.
        drop(writes.send(Out::Message(wire::auth(&options)?)).await);
    }
    let welcome = welcome.wait("connect", options.connect_timeout).await?;
    Ok(Client {
        inner: Arc::new(Inner {
            format: options.format,
            request_timeout: options.request_timeout,
            welcome,
            pending,
            events: Mutex::new(events),
            writes,
            tasks: Mutex::new(Some(tasks)),
        }),
    })
}

impl Client {
    /// What the node said of this connection.
    #[must_use]
    pub fn welcome(&self) -> &Welcome {
        &self.inner.welcome
    }

    /// Joins a room; joining twice is answered twice.
    ///
    /// # Errors
    /// [`Error::Refused`] (110 without the right, whether or not the room exists), [`Error::Closed`],
    /// [`Error::Timeout`].
    pub async fn join(&self, room: &str) -> Result<Joined, Error> {
        self.subscribe(json!({ "room": room })).await
    }

    /// Joins a room and asks for what was published behind `since`; [`Joined::recovered`] says whether all of it comes.
    /// It comes behind the answer, as events.
    ///
    /// # Errors
    /// As [`Client::join`].
    pub async fn join_since(&self, room: &str, since: &Position) -> Result<Joined, Error> {
        self.subscribe(json!({ "room": room, "since": since })).await
    }

    async fn subscribe(&self, data: Value) -> Result<Joined, Error> {
        let answer = self.command("subscribe", Some(data), None).await?;
        if let Answer::Joined(joined) = answer {
            Ok(joined)
        } else {
            Err(unfit("subscribe", &answer))
        }
    }

    /// Leaves a room.
    ///
    /// # Errors
    /// As [`Client::join`].
    pub async fn leave(&self, room: &str) -> Result<(), Error> {
        let answer = self.command("unsubscribe", Some(json!({ "room": room })), None).await?;
        if let Answer::Left = answer { Ok(()) } else { Err(unfit("unsubscribe", &answer)) }
    }

    /// Tells the node that a publication that requires it was got.
    ///
    /// # Errors
    /// [`Error::Closed`].
    pub async fn ack(&self, publication: &Publication) -> Result<(), Error> {
        let (ack_id, room) = (Some(publication.id.as_str()), Some(publication.room.as_str()));
        self.send(&Outgoing { kind: "ack", ack_id, room, ..Outgoing::default() }).await
    }

    /// Part of a room's roster: users behind `after`, at most `limit` (1 to 1,000) of them.
    ///
    /// # Errors
    /// As [`Client::join`]; [`Error::Refused`] with 102 where the room tells nothing of its members.
    pub async fn presence_page(
        &self,
        room: &str,
        after: Option<&str>,
        limit: Option<u32>,
    ) -> Result<RosterPage, Error> {
        let data = wire::presence_request(room, after, limit);
        let answer = self.command("presence", Some(data), None).await?;
        if let Answer::Roster(page) = answer { Ok(page) } else { Err(unfit("presence", &answer)) }
    }

    /// Who is in a room, read page by page.
    ///
    /// # Errors
    /// As [`Client::presence_page`].
    pub async fn presence(&self, room: &str) -> Result<Roster, Error> {
        roster::read(async |after| self.presence_page(room, after, None).await).await
    }

    /// Says that this user has read a room up to there; what stands for it, with the time of the first mark that covers it.
    ///
    /// # Errors
    /// As [`Client::join`]; [`Error::Refused`] with 102 where the room keeps no receipts, this connection is not in it, or
    /// it has another epoch by now.
    pub async fn mark_read(&self, room: &str, at: &Position) -> Result<Receipt, Error> {
        self.receipt(receipts::mark_request(room, "read", at)).await
    }

    /// The same of what has arrived. The node marks that by itself as well, by pings and acks, up to a while later.
    ///
    /// # Errors
    /// As [`Client::mark_read`].
    pub async fn mark_delivered(&self, room: &str, at: &Position) -> Result<Receipt, Error> {
        self.receipt(receipts::mark_request(room, "delivered", at)).await
    }

    async fn receipt(&self, data: Value) -> Result<Receipt, Error> {
        let answer = self.command("receipt", Some(data), None).await?;
        if let Answer::Marked(receipt) = answer {
            Ok(receipt)
        } else {
            Err(unfit("receipt", &answer))
        }
    }

    /// Part of a room's receipts: how far its users have got and read it.
    ///
    /// # Errors
    /// As [`Client::join`]; [`Error::Refused`] with 102 where the room keeps no receipts.
    pub async fn receipts_page(
        &self,
        room: &str,
        query: &ReceiptsQuery,
    ) -> Result<ReceiptsPage, Error> {
        let data = receipts::receipts_request(room, query);
        let answer = self.command("receipt", Some(data), None).await?;
        if let Answer::Receipts(page) = answer { Ok(page) } else { Err(unfit("receipt", &answer)) }
    }

    /// Asks the application through the node.
    ///
    /// # Errors
    /// [`Error::Refused`] with 101 where no back-end serves the method, 121 where too many requests of this connection are
    /// under way, 130 where too many of all wait, 131 where the back-end failed, 132 where it is left alone for a while;
    /// [`Error::Timeout`], [`Error::Closed`]: whether the application acted is unknown.
    pub async fn request<T: Serialize + Sync + ?Sized>(
        &self,
        method: &str,
        params: &T,
    ) -> Result<Response, Error> {
        let params =
            serde_json::to_value(params).map_err(|cause| Error::Encode(cause.to_string()))?;
        let data = json!({ "method": method, "params": params });
        let answer = self.command("request", Some(data), None).await?;
        if let Answer::Response(response) = answer {
            Ok(response)
        } else {
            Err(unfit("request", &answer))
        }
    }

    /// Brings a new token of the same subject; the connection goes on with it.
    ///
    /// # Errors
    /// As [`Client::join`]; a token that is no good closes the connection with 4001.
    pub async fn refresh(&self, token: &str) -> Result<(), Error> {
        let answer = self.command("auth", None, Some(token)).await?;
        if let Answer::Refreshed = answer { Ok(()) } else { Err(unfit("auth", &answer)) }
    }

    /// Publishes `data` as a `kind` into a room; with `options.ack` resolves on the node's ack.
    ///
    /// # Errors
    /// [`Error::Refused`] where an ack was asked for and the node declined (otherwise the refusal comes as
    /// [`Event::Error`]); [`Error::Timeout`]: whether it was published is unknown, the same id again is safe.
    pub async fn publish<T: Serialize + Sync + ?Sized>(
        &self,
        room: &str,
        kind: &str,
        data: &T,
        options: &PublishOptions,
    ) -> Result<Published, Error> {
        let data = serde_json::to_value(data).map_err(|cause| Error::Encode(cause.to_string()))?;
        let id = options.id.clone().unwrap_or_else(|| Uuid::new_v4().to_string());
        let message = Outgoing::publication(&id, room, kind, &data, options);
        let ack = if options.ack { Some(self.acked(&id, &message).await?) } else { None };
        if ack.is_none() {
            self.send(&message).await?;
        }
        Ok(Published { id, ack })
    }

    async fn acked(&self, id: &str, message: &Outgoing<'_>) -> Result<Ack, Error> {
        let answer = self.ask("publish", id, message).await?;
        if let Answer::Ack(ack) = answer { Ok(ack) } else { Err(unfit("publish", &answer)) }
    }

    /// Measures the way to the node and back.
    ///
    /// # Errors
    /// [`Error::Closed`], [`Error::Timeout`].
    pub async fn ping(&self) -> Result<Duration, Error> {
        let unix_ms = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |now| u64::try_from(now.as_millis()).unwrap_or(0));
        let (stamp, entry) = self.inner.pending.ping(unix_ms);
        let message = Outgoing { kind: "ping", timestamp: Some(stamp), ..Outgoing::default() };
        self.send(&message).await?;
        entry.wait("ping", self.inner.request_timeout).await
    }

    /// The next thing heard unasked; `None` after [`Event::Closed`]. Cancel safe.
    pub async fn next(&self) -> Option<Event> {
        self.inner.events.lock().await.recv().await
    }

    /// Closes the connection and waits until both sides have; at most 3 s. Later requests fail with `Closed`.
    pub async fn close(&self) {
        // Where the write task is gone the connection is closed already.
        drop(self.inner.writes.send(Out::Close(1000, String::new())).await);
        let Some((read_task, write_task)) = self.inner.tasks.lock().await.take() else { return };
        let drained = async {
            while self.next().await.is_some() {}
            (read_task.await.is_ok(), write_task.await.is_ok())
        };
        // Tasks that outlive the wait end by themselves once this client is dropped.
        drop(tokio::time::timeout(CLOSE_WAIT, drained).await);
    }

    async fn command(
        &self,
        kind: &'static str,
        data: Option<Value>,
        token: Option<&str>,
    ) -> Result<Answer, Error> {
        let id = Uuid::new_v4().to_string();
        let message =
            Outgoing { kind, id: Some(&id), data: data.as_ref(), token, ..Outgoing::default() };
        self.ask(kind, &id, &message).await
    }

    async fn ask(
        &self,
        what: &'static str,
        id: &str,
        message: &Outgoing<'_>,
    ) -> Result<Answer, Error> {
        let entry = self.inner.pending.answer(id);
        self.send(message).await?;
        match entry.wait(what, self.inner.request_timeout).await? {
            Answer::Refused(refused) => Err(Error::Refused(refused)),
            answer @ (Answer::Joined(_)
            | Answer::Left
            | Answer::Ack(_)
            | Answer::Refreshed
            | Answer::Roster(_)
            | Answer::Marked(_)
            | Answer::Receipts(_)
            | Answer::Response(_)) => Ok(answer),
        }
    }

    async fn send(&self, message: &Outgoing<'_>) -> Result<(), Error> {
        let bytes = wire::encode(self.inner.format, message)?;
        if let Some(closed) = self.inner.pending.closed() {
            return Err(Error::Closed(closed));
        }
        self.inner.writes.send(Out::Message(bytes)).await.map_err(|_| {
            let unknown = || Closed { code: 1006, reason: "the connection broke".into() };
            Error::Closed(self.inner.pending.closed().unwrap_or_else(unknown))
        })
    }
}

/// An answer of another kind than the request wants: the peer is broken.
fn unfit(what: &str, answer: &Answer) -> Error {
    Error::Handshake(format!("the node answered {what} with {answer:?}"))
}
