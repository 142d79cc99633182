//! The task of a session: carries out what the machine wants, and tells it what happened and when. Decides nothing.
//!
//! It never waits for the application: events that its queue does not take wait here, and meanwhile nothing is read, so
//! that TCP pushes back.

use std::collections::{BTreeMap, VecDeque};
use std::future::pending;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::Value;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

use crate::driver::{self, Driver, Heard, LinkId, Out as Write, Taker};
use crate::error::{Closed, Error};
use crate::event::Position;
use crate::handshake;
use crate::options::{Options, TokenIn};
use crate::session::effect::{Effect, Out, Reply, Waiter};
use crate::session::event::{SessionCounters, SessionEvent, SessionState};
use crate::session::machine::Machine;
use crate::session::options::{SessionOptions, TokenFuture};
use crate::session::outbox::Parcel;
use crate::wire;

/// Messages from all connections that wait for the session.
const HEARD_MAX: usize = 64;

/// Events waiting here, above which nothing is read.
const WAITING_MAX: usize = 64;

/// How soon a connection that took no more is tried again.
const FULL_PAUSE: Duration = Duration::from_millis(10);

/// How long the peers have to answer the last Close frames, above the connections' own wait.
const CLOSE_WAIT: Duration = Duration::from_secs(3);

/// Whom an answer goes to.
pub(crate) type Tell = oneshot::Sender<Result<Reply, Error>>;

/// What the application asks.
#[derive(Debug)]
pub(crate) enum Ask {
    /// To be told once a connection stands.
    Ready(Tell),
    /// To hear a room.
    Join(String, Option<Position>, Tell),
    /// To hear it no more.
    Leave(String, Tell),
    /// To publish; the parcel's own waiter is set here.
    Publish(Parcel, Option<Tell>),
    /// Part of a roster.
    Presence(Value, Tell),
    /// To mark a room, or how far its users are.
    Receipt(Value, Tell),
    /// To go on with a new token.
    Refresh(String, Tell),
    /// Where the rooms stand.
    Rooms(Tell),
    /// To end it.
    Close,
}

/// The application has a publication that requires an ack.
#[derive(Debug)]
pub(crate) struct Got {
    pub(crate) room: String,
    pub(crate) sender: String,
    pub(crate) id: String,
}

/// What the application may look at any time.
#[derive(Debug, Default)]
pub(crate) struct Status {
    inner: Mutex<(SessionState, SessionCounters)>,
}

impl Status {
    pub(crate) fn read(&self) -> (SessionState, SessionCounters) {
        *self.lock()
    }

    fn lock(&self) -> MutexGuard<'_, (SessionState, SessionCounters)> {
        // Nothing panics while it is held, and it is whole at every step.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the task takes from the application's side.
#[derive(Debug)]
pub(crate) struct Ends {
    pub(crate) asks: mpsc::Receiver<Ask>,
    pub(crate) got: mpsc::Receiver<Got>,
    pub(crate) events: mpsc::Sender<SessionEvent>,
    pub(crate) status: Arc<Status>,
}

/// A connection, or one that is being made.
#[derive(Debug, Default)]
struct Link {
    driver: Option<Driver>,
    connecting: Option<tokio::task::AbortHandle>,
    /// What it did not take yet.
    waiting: VecDeque<Write>,
    closing: bool,
}

type Connected = (LinkId, Result<Driver, Error>);

struct Task {
    options: SessionOptions,
    machine: Machine,
    start: Instant,
    links: BTreeMap<LinkId, Link>,
    connects: JoinSet<Connected>,
    heard_in: mpsc::Sender<(LinkId, Heard)>,
    /// Events that the application's queue did not take yet.
    waiting: VecDeque<SessionEvent>,
    tells: BTreeMap<Waiter, Tell>,
    waiters: u64,
    token: Option<TokenFuture>,
    /// Connections that were told to end, until they have.
    ending: JoinSet<()>,
    status: Arc<Status>,
}

/// Keeps a session until it is over and the application has heard so.
pub(crate) async fn run(options: SessionOptions, random: u64, ends: Ends) {
    let Ends { mut asks, mut got, events, status } = ends;
    let (heard_in, mut heard) = mpsc::channel(HEARD_MAX);
    let mut task = Task {
        machine: Machine::new(options.clone(), random),
        options,
        start: Instant::now(),
        links: BTreeMap::new(),
        connects: JoinSet::new(),
        heard_in,
        waiting: VecDeque::new(),
        tells: BTreeMap::new(),
        waiters: 0,
        token: None,
        ending: JoinSet::new(),
        status,
    };
    task.step(|machine, now_ms, out| machine.start(now_ms, out));
    while task.machine.state() != SessionState::Closed {
        let is_reading = task.waiting.len() < WAITING_MAX;
        let wake = task.wake();
        tokio::select! {
            permit = events.reserve(), if !task.waiting.is_empty() => match permit {
                Ok(permit) => {
                    if let Some(event) = task.waiting.pop_front() {
                        permit.send(event);
                    }
                }
                Err(_) => task.step(|machine, _, out| machine.close(out)),
            },
            Some((link, heard)) = heard.recv(), if is_reading => task.heard(link, heard),
            Some(connected) = task.connects.join_next(), if !task.connects.is_empty() => {
                // An attempt that was aborted is one that nobody waits for.
                connected.into_iter().for_each(|(link, made)| task.connected(link, made));
            }
            ask = asks.recv() => task.ask(ask.unwrap_or(Ask::Close)),
            Some(Got { room, sender, id }) = got.recv() => {
                task.step(|machine, _, out| machine.got(&room, &sender, &id, out));
            }
            token = next_token(&mut task.token) => {
                task.token = None;
                task.step(|machine, now_ms, out| machine.token(now_ms, token, out));
            }
            () = sleep_until(wake) => {
                task.step(|machine, now_ms, out| machine.tick(now_ms, is_reading, out));
            }
        }
    }
    // Whoever still reads a connection must not wait for this one.
    drop(heard);
    task.finish(&mut asks, events).await;
}

async fn next_token(token: &mut Option<TokenFuture>) -> Result<String, String> {
    match token {
        Some(token) => token.await,
        None => pending().await,
    }
}

impl Task {
    fn now_ms(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn wake(&self) -> Instant {
        // Far enough for a session without a wish, near enough not to overflow.
        let far = self.start + self.start.elapsed() + Duration::from_secs(3_600);
        let due = self.machine.next_wake().map(|at_ms| self.start + Duration::from_millis(at_ms));
        let is_full =
            self.links.values().any(|link| !link.waiting.is_empty() && link.driver.is_some());
        let again = is_full.then(|| Instant::now() + FULL_PAUSE);
        [due, again].into_iter().flatten().min().unwrap_or(far).min(far)
    }

    /// One step of the machine, and all that it wants.
    fn step(&mut self, act: impl FnOnce(&mut Machine, u64, &mut Out)) {
        let mut out = Out::new(self.options.connect.format);
        let now_ms = self.now_ms();
        act(&mut self.machine, now_ms, &mut out);
        for effect in out.effects {
            self.carry_out(effect);
        }
        self.flush();
        *self.status.lock() = (self.machine.state(), self.machine.counters());
    }

    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Connect { link, token, continuation } => {
                let continuation = *continuation;
                let options = Options { token, continuation, ..self.options.connect.clone() };
                let heard = self.heard_in.clone();
                let connecting = self.connects.spawn(Box::pin(connect(link, options, heard)));
                let link_of = Link { connecting: Some(connecting), ..Link::default() };
                self.links.insert(link, link_of);
            }
            Effect::Send { link, bytes } => {
                if let Some(link) = self.links.get_mut(&link) {
                    link.waiting.push_back(Write::Message(bytes));
                }
            }
            Effect::Close(link) => {
                if let Some(link) = self.links.get_mut(&link) {
                    link.waiting.push_back(Write::Close(1_000, String::new()));
                    link.closing = true;
                }
            }
            Effect::Drop(link) => {
                if let Some(link) = self.links.remove(&link) {
                    abort(link);
                }
            }
            Effect::GetToken => {
                self.token = self.options.token_source.as_ref().map(|source| source());
            }
            Effect::Tell(event) => self.waiting.push_back(event),
            Effect::Answer(waiter, answer) => {
                // Whoever gave up waiting is not told.
                if let Some(tell) = self.tells.remove(&waiter) {
                    drop(tell.send(answer));
                }
            }
        }
    }

    fn flush(&mut self) {
        let mut over = Vec::new();
        for (id, link) in &mut self.links {
            let Some(driver) = &link.driver else {
                // Nobody has to be told goodbye.
                if link.closing {
                    over.push(*id);
                }
                continue;
            };
            while let Some(write) = link.waiting.pop_front() {
                match driver.writes.try_send(write) {
                    Ok(()) => {}
                    Err(mpsc::error::TrySendError::Full(write)) => {
                        link.waiting.push_front(write);
                        break;
                    }
                    // Its end is on its way here.
                    Err(mpsc::error::TrySendError::Closed(_)) => link.waiting.clear(),
                }
            }
            if link.closing && link.waiting.is_empty() {
                over.push(*id);
            }
        }
        for id in over {
            match self.links.remove(&id) {
                Some(Link { driver: Some(driver), .. }) => self.let_end(driver),
                Some(link) => abort(link),
                None => {}
            }
        }
    }

    fn let_end(&mut self, Driver { writes, tasks: (read, write) }: Driver) {
        drop(writes);
        self.ending.spawn(async move {
            // Either may have been aborted, which is an end as well.
            drop((read.await, write.await));
        });
    }

    fn connected(&mut self, id: LinkId, made: Result<Driver, Error>) {
        match (made, self.links.get_mut(&id)) {
            (Ok(driver), Some(link)) => {
                link.driver = Some(driver);
                link.connecting = None;
                self.flush();
            }
            (Ok(driver), None) => abort(Link { driver: Some(driver), ..Link::default() }),
            (Err(error), _) => {
                self.links.remove(&id);
                self.step(|machine, now_ms, out| machine.failed(now_ms, id, &error, out));
            }
        }
    }

    fn heard(&mut self, link: LinkId, heard: Heard) {
        match heard {
            Heard::Message(incoming) => {
                self.step(|machine, now_ms, out| machine.heard(now_ms, link, incoming, out));
            }
            Heard::Closed(closed) => {
                if let Some(Link { driver: Some(driver), .. }) = self.links.remove(&link) {
                    self.let_end(driver);
                }
                self.step(|machine, now_ms, out| machine.closed(now_ms, link, closed, out));
            }
        }
        // Finished ones are forgotten.
        while self.ending.try_join_next().is_some() {}
    }

    fn waiter(&mut self, tell: Tell) -> Waiter {
        self.waiters += 1;
        let waiter = Waiter(self.waiters);
        // Those who gave up leave their place.
        if self.tells.len() >= 1_024 {
            self.tells.retain(|_, tell| !tell.is_closed());
        }
        self.tells.insert(waiter, tell);
        waiter
    }

    fn ask(&mut self, ask: Ask) {
        match ask {
            Ask::Ready(tell) => {
                let waiter = self.waiter(tell);
                self.step(|machine, _, out| machine.ready(waiter, out));
            }
            Ask::Join(room, since, tell) => {
                let waiter = self.waiter(tell);
                self.step(|machine, now_ms, out| machine.join(now_ms, (room, since), waiter, out));
            }
            Ask::Leave(room, tell) => {
                let waiter = self.waiter(tell);
                self.step(|machine, now_ms, out| machine.leave(now_ms, room, waiter, out));
            }
            Ask::Publish(parcel, tell) => {
                let waiter = tell.map(|tell| self.waiter(tell));
                let parcel = Parcel { waiter, ..parcel };
                self.step(|machine, now_ms, out| machine.publish(now_ms, parcel, out));
            }
            Ask::Presence(data, tell) => {
                let waiter = self.waiter(tell);
                self.step(|machine, now_ms, out| machine.presence(now_ms, data, waiter, out));
            }
            Ask::Receipt(data, tell) => {
                let waiter = self.waiter(tell);
                self.step(|machine, now_ms, out| machine.receipt(now_ms, data, waiter, out));
            }
            Ask::Refresh(token, tell) => {
                let waiter = Some(self.waiter(tell));
                self.step(|machine, now_ms, out| machine.refresh(now_ms, token, waiter, out));
            }
            Ask::Rooms(tell) => {
                let waiter = self.waiter(tell);
                self.step(|machine, _, out| machine.statuses(waiter, out));
            }
            Ask::Close => self.step(|machine, _, out| machine.close(out)),
        }
    }

    /// Waits for the last Close frames, answers who still asks, and tells the rest.
    async fn finish(&mut self, asks: &mut mpsc::Receiver<Ask>, events: mpsc::Sender<SessionEvent>) {
        self.connects.abort_all();
        let closing = async {
            while self.links.values().any(|link| link.closing) {
                self.flush();
                tokio::time::sleep(FULL_PAUSE).await;
            }
            while self.ending.join_next().await.is_some() {}
        };
        // What does not end by itself in that time is cut.
        drop(timeout(CLOSE_WAIT, closing).await);
        std::mem::take(&mut self.links).into_values().for_each(abort);
        while let Some(event) = self.waiting.pop_front() {
            tokio::select! {
                sent = events.send(event) => if sent.is_err() { return },
                () = self.refuse_all(asks) => return,
            }
        }
        // Whoever asks later finds the queue closed.
        asks.close();
        self.refuse_all(asks).await;
    }

    /// Answers each with the end, until nobody can ask any more.
    async fn refuse_all(&mut self, asks: &mut mpsc::Receiver<Ask>) {
        while let Some(ask) = asks.recv().await {
            self.ask(ask);
        }
    }
}

fn abort(link: Link) {
    link.connecting.into_iter().for_each(|connecting| connecting.abort());
    if let Some(Driver { tasks: (read, write), .. }) = link.driver {
        // Without a word: a Close frame would end the session on the node.
        read.abort();
        write.abort();
    }
}

async fn connect(
    link: LinkId,
    options: Options,
    heard: mpsc::Sender<(LinkId, Heard)>,
) -> Connected {
    let after = options.connect_timeout;
    let made = match timeout(after, handshake::open(&options)).await {
        Err(_) => Err(Error::Timeout { what: "connect", after }),
        Ok(Err(error)) => Err(error),
        Ok(Ok(stream)) => {
            let driver = driver::start(stream, &options, Taker::Session { link, heard });
            begin(&options, driver).await
        }
    };
    (link, made)
}

/// Says who this is, where the token travels in the first frame.
async fn begin(options: &Options, driver: Driver) -> Result<Driver, Error> {
    if options.token_in == TokenIn::Frame {
        let bytes = wire::auth(options)?;
        if driver.writes.send(Write::Message(bytes)).await.is_err() {
            let reason = "the connection broke".into();
            return Err(Error::Closed(Closed { code: 1_006, reason }));
        }
    }
    Ok(driver)
}
