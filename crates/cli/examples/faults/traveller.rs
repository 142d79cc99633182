//! One listening client as applications have it: a session, which goes to other nodes by itself, drops what it has, and
//! takes its rooms along. Writes down what its application is told.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use roomcast_client::{
    Position as Told, Session, SessionCounters, SessionEvent, SessionOptions, session,
};
use roomcast_protocol::guard::Kind;
use roomcast_protocol::position::Position;
use tokio::time::sleep;

use crate::crowd::{Phase, Shared, VIP, token};
use crate::member::{position, what};
use crate::record::What;

/// How far apart members come at first. Units: milliseconds.
const PACE_MS: u64 = 8;

/// How long a join may take while all of them come.
const JOIN_LIMIT: Duration = Duration::from_secs(60);

/// Events that may wait in a session.
const EVENTS_MAX: usize = 1 << 14;

/// Causes of lost connections and of gaps that are kept to be shown.
const CAUSES_MAX: usize = 5;

/// What all sessions of a scene counted.
#[derive(Debug, Default)]
pub(crate) struct Journeys {
    inner: Mutex<Counted>,
}

/// Sums over sessions.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counted {
    pub(crate) hand_overs: u64,
    pub(crate) resumes: u64,
    pub(crate) reconnects: u64,
    pub(crate) fresh: u64,
    pub(crate) gaps: u64,
    pub(crate) holes: u64,
    pub(crate) repeats_dropped: u64,
    /// Why connections were lost and gaps told, the first ones.
    pub(crate) causes: Vec<String>,
}

impl Journeys {
    /// The sums so far.
    pub(crate) fn counted(&self) -> Counted {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn note(&self, cause: String) {
        let mut all = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if all.causes.len() < CAUSES_MAX {
            all.causes.push(cause);
        }
    }

    fn add(&self, counters: &SessionCounters) {
        let mut all = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        all.hand_overs += counters.hand_overs;
        all.resumes += counters.resumes;
        all.reconnects += counters.reconnects;
        all.fresh += counters.fresh;
        all.gaps += counters.gaps;
        all.holes += counters.holes;
        all.repeats_dropped += counters.repeats_by_id + counters.repeats_by_position;
    }
}

/// Options of a session that goes by the balancer.
///
/// # Errors
/// There is none, or the token cannot be signed.
pub(crate) fn options(
    shared: &Shared,
    subject: &str,
    kind: Kind,
    permissions: &[String],
) -> Result<SessionOptions, String> {
    let front = shared.front.as_ref().ok_or("there is no balancer")?;
    let token = token(subject, kind, permissions)?;
    let mut options = SessionOptions::new(format!("ws://{}/ws", front.balancer), token);
    options.connect.request_timeout = JOIN_LIMIT;
    options.connect.events_max = EVENTS_MAX;
    Ok(options)
}

/// One member, and what it has covered by the order of its rooms.
struct Traveller {
    shared: Arc<Shared>,
    index: usize,
    rooms: Vec<usize>,
    covered: Vec<Option<Position>>,
}

/// Listens until the scene is over.
pub(crate) async fn run(shared: Arc<Shared>, index: usize) {
    let Some(member) = shared.members.get(index).cloned() else { return };
    let mut phase = shared.phase.subscribe();
    sleep(Duration::from_millis(index as u64 * PACE_MS)).await;
    let covered = vec![None; member.rooms.len()];
    let rooms = member.rooms.clone();
    let mut traveller = Traveller { shared: Arc::clone(&shared), index, rooms, covered };
    let permissions: Vec<String> = member.vip.then(|| VIP.to_owned()).into_iter().collect();
    let subject = format!("member-{index}");
    let opened = options(&shared, &subject, Kind::User, &permissions)
        .and_then(|options| session(options).map_err(|cause| cause.to_string()));
    let session = match opened {
        Ok(session) => session,
        Err(text) => return traveller.strange(0, text),
    };
    tokio::select! {
        _ = phase.wait_for(|phase| *phase == Phase::Over) => {}
        () = traveller.listen(&session) => {}
    }
    shared.journeys.add(&session.counters());
    session.close().await;
}

impl Traveller {
    fn saw(&self, what: What) {
        self.shared.book.saw(self.index, what);
    }

    fn strange(&self, place: usize, text: String) {
        let room = self.rooms.get(place).copied().unwrap_or_default();
        self.saw(What::Strange { room, text });
    }

    /// Joins all rooms and listens until the session ends.
    async fn listen(&mut self, session: &Session) {
        for place in 0..self.rooms.len() {
            let room = self.rooms.get(place).copied().unwrap_or_default();
            let name = self.shared.rooms.get(room).map(|room| room.name.clone());
            match session.join(&name.unwrap_or_default()).await {
                Ok(joined) => {
                    let at = joined.position.as_ref().and_then(position);
                    let live = joined.live;
                    self.saw(What::Joined { room, since: None, at, recovered: None, live });
                    self.cover(place, at);
                    self.shared.joined();
                }
                Err(error) => self.strange(place, format!("its join failed: {error}")),
            }
        }
        while let Some(event) = session.next().await {
            self.event(event);
        }
        self.strange(0, "the session ended by itself".to_owned());
    }

    fn cover(&mut self, place: usize, at: Option<Position>) {
        if let (Some(covered), Some(_)) = (self.covered.get_mut(place), at) {
            *covered = at;
        }
    }

    fn find(&self, name: &str) -> Option<(usize, usize)> {
        let room = self.shared.room(name)?;
        Some((self.rooms.iter().position(|it| *it == room)?, room))
    }

    fn event(&mut self, event: SessionEvent) {
        match event {
            SessionEvent::Publication(heard) => {
                if let Some((place, room)) = self.find(&heard.room) {
                    let at = heard.metadata.position().as_ref().and_then(position);
                    self.cover(place, at);
                    self.saw(what(room, &heard, at));
                }
            }
            SessionEvent::Skip { room, to, count, .. } => self.skip(&room, &to, count),
            SessionEvent::Gap { room, reason, position: at } => {
                let at = at.as_ref().and_then(position);
                self.shared.journeys.note(format!(
                    "member {} is told of a gap in {room:?} ({reason}) at {at:?}",
                    self.index
                ));
                let found = room.as_deref().and_then(|room| self.find(room));
                if let Some((place, _)) = found {
                    self.cover(place, at);
                }
                self.saw(What::Gap { room: found.map(|(_, room)| room), at });
            }
            SessionEvent::Connected(_) => self.saw(What::Connected { node: None }),
            SessionEvent::Reconnecting { attempt, cause, .. } => {
                self.shared.journeys.note(format!("attempt {attempt} follows: {cause}"));
            }
            SessionEvent::RoomLost { room, refused } => {
                let place = self.find(&room).map_or(0, |(place, _)| place);
                self.strange(place, format!("put out of the room: {refused}"));
            }
            SessionEvent::Closed(closed) => self.strange(0, format!("the end: {closed}")),
            SessionEvent::Lost { .. }
            | SessionEvent::Presence(_)
            | SessionEvent::Receipts(_)
            | SessionEvent::Joined(_)
            | SessionEvent::Resumed { .. }
            | SessionEvent::HandedOver
            | SessionEvent::MaxReconnectAttemptsReached { .. }
            | SessionEvent::TakenOut { .. }
            | SessionEvent::Degraded { .. }
            | SessionEvent::TokenExpiring { .. }
            | SessionEvent::Unpublished { .. }
            | SessionEvent::Error(_)
            | SessionEvent::Other(_) => {}
        }
    }

    /// Sessions say 0 where part of a skip was covered before.
    fn skip(&mut self, room: &str, to: &Told, count: u64) {
        let (Some((place, room)), Some(to)) = (self.find(room), position(to)) else { return };
        let covered = self.covered.get(place).copied().flatten();
        let own = covered.filter(|it| count == 0 && it.epoch == to.epoch);
        let count = own.map_or(count, |it| to.offset.saturating_sub(it.offset));
        self.cover(place, Some(to));
        self.saw(What::Skipped { room, to, count });
    }
}
