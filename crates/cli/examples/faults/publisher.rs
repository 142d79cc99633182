//! One publishing back-end for each room: each publication has an id and is sent, at one node or another, until it is
//! accepted or refused for good. Where there is a balancer, every other one is a session that goes by it, and the others
//! publish over HTTP.

use std::sync::Arc;
use std::time::Duration;

use roomcast_client::{Client, Error, PublishOptions, Published, Session, session};
use roomcast_protocol::guard::Kind;
use roomcast_protocol::position::Position;
use serde_json::{Value, json};
use tokio::sync::Mutex;
use tokio::task::JoinSet;
use tokio::time::{interval, sleep};

use crate::crowd::{Phase, Shared, VIP};
use crate::member::{id, position};
use crate::record::{Acked, Level, Sent};
use crate::{backend, traveller};

/// Publications of one room that wait for their ack.
const UNDER_WAY_MAX: usize = 32;

/// The same where replicas must have them: more than such a room gets while no replica is there.
const UNDER_WAY_SAFE_MAX: usize = 256;

/// How often one is sent before its outcome counts as unknown: for more than a minute.
const TRIES_MAX: u32 = 60;

/// How long to wait before the same is sent again.
const AGAIN: Duration = Duration::from_millis(500);

/// Of so many publications one requires a permission, and one expires after a second.
const VIP_EVERY: u64 = 10;
const SHORT_EVERY: u64 = 15;

/// Fills up publications to the size of a usual one.
const PAD_BYTES: usize = 200;

/// The connection of one publisher, which all its publications share.
struct Link {
    shared: Arc<Shared>,
    room: usize,
    state: Mutex<State>,
    /// Where it is a session; else it publishes over HTTP if there is a balancer.
    session: Option<Session>,
}

/// What a node says to a publication.
pub(crate) enum Answer {
    /// It is published.
    Yes(Yes),
    /// It never will be.
    Refused(String),
    /// Nobody knows, or it may be sent again.
    Failed(String),
}

/// How far a publication got.
pub(crate) struct Yes {
    pub(crate) level: String,
    pub(crate) position: Option<Position>,
    pub(crate) partial: bool,
}

#[derive(Default)]
struct State {
    client: Option<Client>,
    /// Which connection it is; also the node it is on.
    generation: usize,
}

/// Publishes until the scene drains, then waits for what is under way.
pub(crate) async fn run(shared: Arc<Shared>, room: usize) {
    let state = State { client: None, generation: room };
    let session = by_session(&shared, room);
    let state = Mutex::new(state);
    let link = Arc::new(Link { shared: Arc::clone(&shared), room, state, session });
    let mut phase = shared.phase.subscribe();
    let mut tick = interval(Duration::from_millis(shared.every_ms));
    let mut under_way = JoinSet::new();
    let safe = shared.rooms.get(room).is_some_and(|room| room.name.starts_with("safe-"));
    let under_way_max = if safe { UNDER_WAY_SAFE_MAX } else { UNDER_WAY_MAX };
    let mut number = 0;
    loop {
        tokio::select! {
            over = phase.wait_for(|phase| *phase >= Phase::Draining) => {
                drop(over);
                break;
            }
            _ = tick.tick() => {
                if under_way.len() < under_way_max {
                    number += 1;
                    under_way.spawn(publish(Arc::clone(&link), number));
                }
            }
            Some(_) = under_way.join_next() => {}
        }
    }
    let settled = async { while under_way.join_next().await.is_some() {} };
    tokio::select! {
        () = settled => {}
        _ = phase.wait_for(|phase| *phase == Phase::Over) => {}
    }
    if let Some(session) = &link.session {
        session.close().await;
    }
}

/// The session of every other publisher behind a balancer. Nobody tells it anything that matters here.
fn by_session(shared: &Shared, room: usize) -> Option<Session> {
    if shared.front.is_none() || !room.is_multiple_of(2) {
        return None;
    }
    let subject = format!("publisher-{room}");
    let options = traveller::options(shared, &subject, Kind::Backend, &[]).ok()?;
    let session = session(options).ok()?;
    let heard = session.clone();
    tokio::spawn(async move { while heard.next().await.is_some() {} });
    Some(session)
}

async fn publish(link: Arc<Link>, number: u64) {
    let book = &link.shared.book;
    let vip = number.is_multiple_of(VIP_EVERY);
    let mut sent = Sent {
        room: link.room,
        number,
        first_us: book.now_us(),
        tries: 0,
        acked: None,
        vip,
        refused: false,
        answer: None,
    };
    let place = book.begin(sent.clone());
    let data = json!({"n": number, "pad": "x".repeat(PAD_BYTES)});
    let options = PublishOptions {
        ack: true,
        id: Some(id(link.room, number)),
        ttl_s: number.is_multiple_of(SHORT_EVERY).then_some(1),
        requires: if vip { vec![VIP.to_owned()] } else { Vec::new() },
        ..PublishOptions::default()
    };
    let room = link.shared.rooms.get(link.room).map(|room| room.name.clone()).unwrap_or_default();
    while sent.tries < TRIES_MAX {
        sent.tries += 1;
        match link.publish(sent.tries, &room, &data, &options).await {
            Answer::Yes(Yes { level, position, partial }) => {
                let level = match level.as_str() {
                    "accepted" => Level::Accepted,
                    "isolated" => Level::Isolated,
                    _ => Level::Kept,
                };
                sent.acked = Some(Acked { at_us: book.now_us(), level, position, partial });
                break;
            }
            Answer::Refused(text) => {
                (sent.refused, sent.answer) = (true, Some(text));
                break;
            }
            Answer::Failed(text) => sent.answer = Some(text),
        }
        book.update(place, &sent);
        sleep(AGAIN).await;
    }
    book.update(place, &sent);
}

fn answer(published: Result<Published, Error>) -> Answer {
    match published {
        Ok(Published { ack: Some(ack), .. }) => Answer::Yes(Yes {
            position: ack.position.as_ref().and_then(position),
            partial: ack.is_partial(),
            level: ack.level,
        }),
        Ok(Published { ack: None, .. }) => Answer::Failed("sent without an ack".to_owned()),
        Err(Error::Refused(refused)) if !refused.outcome_unknown && !refused.retry => {
            Answer::Refused(refused.to_string())
        }
        Err(error) => Answer::Failed(error.to_string()),
    }
}

impl Link {
    /// Sends it once; a session does that as often as it sees fit.
    async fn publish(
        &self,
        tries: u32,
        room: &str,
        data: &Value,
        options: &PublishOptions,
    ) -> Answer {
        if let Some(session) = &self.session {
            return answer(session.publish(room, "probe", data, options).await);
        }
        if let Some(front) = &self.shared.front {
            let node = (self.room + tries as usize) % front.internals.len().max(1);
            let internal = front.internals.get(node).map_or("", String::as_str);
            return backend::publish(internal, room, data, options).await;
        }
        let Some((generation, client)) = self.client().await else {
            return Answer::Failed("no connection".to_owned());
        };
        let published = client.publish(room, "probe", data, options).await;
        if !matches!(published, Ok(_) | Err(Error::Refused(_))) {
            self.renew(generation).await;
        }
        answer(published)
    }

    /// The connection, made if there is none.
    async fn client(&self) -> Option<(usize, Client)> {
        let mut state = self.state.lock().await;
        if state.client.is_none() {
            let subject = format!("publisher-{}", self.room);
            let made = self.shared.connect(state.generation, &subject, Kind::Backend, &[]).await;
            match made {
                Ok(client) => state.client = Some(client),
                Err(_) => state.generation += 1,
            }
        }
        state.client.clone().map(|client| (state.generation, client))
    }

    /// The connection of this generation is no good: the next one is to another node.
    async fn renew(&self, generation: usize) {
        let mut state = self.state.lock().await;
        if state.generation == generation {
            state.client = None;
            state.generation += 1;
        }
    }
}
