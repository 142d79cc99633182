//! Records of sessions, and how one is taken over (G13, G14): each user's together, each gone by itself when its window
//! is over.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use roomcast_protocol::ids::{NodeId, SessionId};
use roomcast_protocol::position::Position;
use roomcast_protocol::session::{
    AttachSession, AttachedSession, ENDED_MS, Former, ORDERS_MS, RoomRecord, SESSIONS_PER_USER_MAX,
    SaveSession, SavedSession, Secret, SessionRecord, SessionState, Unattached, WRITTEN_LATELY_MS,
    Wish,
};

use crate::store::Store;

/// What a record weighs beside its rooms. Units: bytes.
pub const SESSION_BYTES: u64 = 256;

/// What a room of a record weighs beside its name. Units: bytes.
const ROOM_RECORD_BYTES: u64 = 64;

/// What is kept of a session.
#[derive(Clone, Debug)]
struct Stored {
    id: SessionId,
    generation: u64,
    /// It has a connection.
    attached: bool,
    /// It is over, and that is remembered: whatever is written or wanted of it is refused.
    ended: bool,
    /// Who wrote last.
    node: NodeId,
    secret: Secret,
    /// What else is good; most have nothing, and pay 8 bytes for it.
    also: Option<Box<Also>>,
    rooms: Box<[RoomRecord]>,
    own: Box<[RoomRecord]>,
    /// The record is over then. Units: milliseconds.
    expires_ms: u64,
}

/// Secrets of a session that are good for a while.
#[derive(Clone, Copy, Debug, Default)]
struct Also {
    /// The one before its secret, until the client has certainly got that.
    previous: Option<Secret>,
    /// Who comes with it is handed over.
    turn: Option<Secret>,
}

/// A user's sessions: one, mostly.
type Records = Arc<[Stored]>;

/// All sessions.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sessions {
    users: BTreeMap<Arc<str>, Records>,
    /// Each user once, by when the first of its records is over.
    due: BTreeSet<(u64, Arc<str>)>,
    endings: Endings,
    bytes: u64,
}

/// Users whose sessions were ordered to end: a session of theirs without a record begins only by whoever has obeyed that.
#[derive(Clone, Debug, Default)]
struct Endings {
    /// The last order, and until when it counts (milliseconds).
    users: BTreeMap<Box<str>, (Position, u64)>,
    /// The same by time.
    due: VecDeque<(u64, Box<str>)>,
}

impl Endings {
    fn order(&mut self, now_ms: u64, user: &str, order: Position) {
        while let Some((until_ms, user)) =
            self.due.pop_front_if(|(until_ms, _)| *until_ms <= now_ms)
        {
            if self.users.get(&user).is_some_and(|(_, held_ms)| *held_ms == until_ms) {
                self.users.remove(&user);
            }
        }
        let further = |last: Position| last.epoch != order.epoch || last.offset < order.offset;
        if self.last(now_ms, user).is_none_or(further) {
            let until_ms = now_ms.saturating_add(ORDERS_MS);
            self.users.insert(user.into(), (order, until_ms));
            self.due.push_back((until_ms, user.into()));
        }
    }

    /// The last order that counts.
    fn last(&self, now_ms: u64, user: &str) -> Option<Position> {
        let (order, _) = self.users.get(user).filter(|(_, until_ms)| *until_ms > now_ms)?;
        Some(*order)
    }
}

impl<E: Clone> Store<E> {
    /// Writes a session's record, for the node that has its connection.
    pub fn save_session(&mut self, now_ms: u64, node: NodeId, save: &SaveSession) -> SavedSession {
        self.sessions_mut().save(now_ms, node, save)
    }

    /// Takes a session over, for a node: from now on it is that node's, under a higher generation.
    ///
    /// # Errors
    /// Why it is not given; never [`Unattached::Unavailable`].
    pub fn attach_session(
        &mut self,
        now_ms: u64,
        node: NodeId,
        attach: &AttachSession,
    ) -> Result<AttachedSession, Unattached> {
        self.sessions_mut().attach(now_ms, node, attach)
    }

    /// Ends all sessions of a user: none is taken over or written any more, and none begins by whoever has not obeyed the
    /// order at this position.
    pub fn end_sessions(&mut self, now_ms: u64, user: &str, order: Position) {
        self.sessions_mut().end(now_ms, user, order);
    }

    /// Loses a session's record.
    pub fn lose_session(&mut self, user: &str, session: SessionId) {
        self.sessions_mut().write(user, |records| retain(records, |it| it.id != session));
    }

    /// Sessions of which a record is there.
    #[must_use]
    pub fn session_count(&self) -> usize {
        self.sessions().users.values().map(|records| records.len()).sum()
    }
}

impl Sessions {
    pub(crate) const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Users of whom an order is remembered.
    #[cfg(test)]
    pub(crate) fn endings_kept(&self) -> usize {
        assert!(self.endings.users.len() <= self.endings.due.len());
        self.endings.users.len()
    }

    /// When [`Sessions::sweep`] has something to do. Units: milliseconds.
    pub(crate) fn due_ms(&self) -> Option<u64> {
        self.due.first().map(|(due_ms, _)| *due_ms)
    }

    /// Frees what is over, looking at no more than so many users. Answers with how many it looked at.
    pub(crate) fn sweep(&mut self, now_ms: u64, users_max: usize) -> usize {
        for looked in 0..users_max {
            let Some((_, user)) = self.due.first().filter(|(due_ms, _)| *due_ms <= now_ms) else {
                return looked;
            };
            self.expire(&user.clone(), now_ms);
        }
        users_max
    }

    fn save(&mut self, now_ms: u64, node: NodeId, save: &SaveSession) -> SavedSession {
        self.expire(&save.user, now_ms);
        let id = save.session;
        let known = self.users.get(&*save.user).and_then(|records| find(records, id));
        if known.is_some_and(|known| known.outranks(save)) {
            return SavedSession::Fenced;
        }
        if known.is_some_and(|known| known.ended) {
            return SavedSession::Ended;
        }
        let last = self.endings.last(now_ms, &save.user).filter(|_| known.is_none());
        if last.is_some_and(|order| save.may_precede(order)) {
            return SavedSession::Ended;
        }
        let (attached, windows) = match save.state {
            SessionState::Attached => (true, 2),
            SessionState::Detached => (false, 1),
            SessionState::Ended => {
                // What a former connection has under way would bring it back.
                let was_taken = save.generation > 1;
                self.write(&save.user, |records| match find_mut(records, id) {
                    Some(it) if was_taken => it.end(now_ms.saturating_add(ENDED_MS)),
                    Some(_) => retain(records, |it| it.id != id),
                    None => {}
                });
                return SavedSession::Saved;
            }
        };
        let expires_ms = now_ms.saturating_add(save.window_ms.saturating_mul(windows));
        self.write(&save.user, |records| {
            if let Some(it) = find_or_add(records, id) {
                let turn = save.turn.or(it.also().turn);
                let previous = it.also().previous.filter(|_| !save.confirmed);
                it.set_also(Also { previous, turn });
                (it.generation, it.secret, it.node) = (save.generation, save.secret, node);
                (it.attached, it.expires_ms) = (attached, expires_ms);
                if let Some(record) = &save.record {
                    it.rooms = record.rooms.as_slice().into();
                    it.own = record.own.as_slice().into();
                }
            }
            if records.len() > SESSIONS_PER_USER_MAX {
                let first = records.iter().min_by_key(|it| (it.expires_ms, it.id)).map(|it| it.id);
                retain(records, |it| Some(it.id) != first);
            }
        });
        SavedSession::Saved
    }

    fn attach(
        &mut self,
        now_ms: u64,
        node: NodeId,
        attach: &AttachSession,
    ) -> Result<AttachedSession, Unattached> {
        self.expire(&attach.user, now_ms);
        let records = self.users.get(&*attach.user).map_or(&[][..], |records| records);
        let (id, presented) = match attach.wish {
            Wish::Token(token) => {
                let known = find(records, token.session).filter(|it| !it.ended);
                let known = known.ok_or(Unattached::Unknown)?;
                let good = [Some(known.secret), known.also().previous, known.also().turn];
                if !good.contains(&Some(token.secret)) {
                    return Err(Unattached::Token);
                }
                (token.session, Some(token.secret))
            }
            Wish::OnlyDetached => {
                let lately_ms = now_ms + attach.window_ms.saturating_mul(2);
                let lately = |it: &Stored| it.expires_ms + WRITTEN_LATELY_MS > lately_ms;
                let gone = |it: &Stored| !attach.alive.contains(&it.node) && !lately(it);
                let loose = |it: &Stored| !it.ended && (!it.attached || gone(it));
                let mut found = records.iter().filter(|it| loose(it)).map(|it| it.id);
                let only = found.next().filter(|_| found.next().is_none());
                (only.ok_or(Unattached::NotOne)?, None)
            }
        };
        let expires_ms = now_ms.saturating_add(attach.window_ms.saturating_mul(2));
        let above = attach.above.unwrap_or(now_ms);
        let taken = self.write(&attach.user, |records| {
            let it = find_mut(records, id)?;
            let former = former(it, presented);
            it.generation = it.generation.max(above).saturating_add(1);
            it.set_also(Also { previous: presented, turn: None });
            it.secret = attach.secret;
            it.attached = true;
            it.node = node;
            it.expires_ms = expires_ms;
            let (generation, record) = (it.generation, it.record());
            Some(AttachedSession { session: id, generation, record, former })
        });
        taken.ok_or(Unattached::Unknown)
    }

    fn end(&mut self, now_ms: u64, user: &str, order: Position) {
        self.expire(user, now_ms);
        self.endings.order(now_ms, user, order);
        if !self.users.contains_key(user) {
            return;
        }
        self.write(user, |records| {
            for it in Arc::make_mut(records) {
                it.end(it.expires_ms.max(now_ms.saturating_add(ENDED_MS)));
            }
        });
    }

    /// Removes what is over of a user's.
    fn expire(&mut self, user: &str, now_ms: u64) {
        let due_ms = self.users.get(user).and_then(|records| due_ms(records));
        if due_ms.is_some_and(|due_ms| due_ms <= now_ms) {
            self.write(user, |records| retain(records, |it| it.expires_ms > now_ms));
        }
    }

    /// Changes a user's records, and keeps count of what all weigh.
    fn write<R>(&mut self, user: &str, act: impl FnOnce(&mut Records) -> R) -> R {
        let known = self.users.get_key_value(user).map(|(name, _)| Arc::clone(name));
        let name = known.unwrap_or_else(|| user.into());
        let records = self.users.entry(Arc::clone(&name)).or_default();
        let (before, due) = (weight(records), due_ms(records));
        let result = act(records);
        let (after, next, is_empty) = (weight(records), due_ms(records), records.is_empty());
        self.bytes = self.bytes - before + after;
        if due != next {
            if let Some(due_ms) = due {
                self.due.remove(&(due_ms, Arc::clone(&name)));
            }
            if let Some(due_ms) = next {
                self.due.insert((due_ms, name));
            }
        }
        if is_empty {
            self.users.remove(user);
        }
        result
    }
}

impl Stored {
    /// Nothing is known of it yet.
    fn new(id: SessionId) -> Self {
        Self {
            id,
            generation: 0,
            attached: false,
            ended: false,
            node: NodeId(0),
            secret: Secret(0),
            also: None,
            rooms: Box::default(),
            own: Box::default(),
            expires_ms: 0,
        }
    }

    fn also(&self) -> Also {
        self.also.as_deref().copied().unwrap_or_default()
    }

    fn set_also(&mut self, also: Also) {
        let is_any = also.previous.is_some() || also.turn.is_some();
        self.also = is_any.then(|| Box::new(also));
    }

    fn record(&self) -> SessionRecord {
        SessionRecord { rooms: self.rooms.to_vec(), own: self.own.to_vec() }
    }

    /// Whatever is written or wanted of it is refused until then.
    fn end(&mut self, until_ms: u64) {
        self.ended = true;
        (self.rooms, self.own) = (Box::default(), Box::default());
        self.expires_ms = until_ms;
    }

    /// Whether another attachment has it than the one that writes. Should a generation come twice, because records were lost
    /// and clocks of masters stand apart, it is the one's whose secret is kept.
    fn outranks(&self, save: &SaveSession) -> bool {
        let twice = self.generation == save.generation && self.secret != save.secret;
        self.generation > save.generation || twice
    }
}

/// What the connection is that a session had before somebody came with this secret; `None`: with none.
fn former(it: &Stored, presented: Option<Secret>) -> Former {
    if presented.is_some() && it.also().turn == presented {
        Former::HandedOver(it.node)
    } else if presented.is_some() && it.attached {
        Former::Attached(it.node)
    } else {
        Former::Gone
    }
}

fn find(records: &[Stored], id: SessionId) -> Option<&Stored> {
    records.iter().find(|it| it.id == id)
}

fn find_mut(records: &mut Records, id: SessionId) -> Option<&mut Stored> {
    Arc::make_mut(records).iter_mut().find(|it| it.id == id)
}

/// The record of a session, which there is from now on.
fn find_or_add(records: &mut Records, id: SessionId) -> Option<&mut Stored> {
    if find(records, id).is_none() {
        *records = records.iter().cloned().chain([Stored::new(id)]).collect();
    }
    find_mut(records, id)
}

fn retain(records: &mut Records, keeps: impl Fn(&Stored) -> bool) {
    if !records.iter().all(&keeps) {
        *records = records.iter().filter(|it| keeps(it)).cloned().collect();
    }
}

fn due_ms(records: &[Stored]) -> Option<u64> {
    records.iter().map(|it| it.expires_ms).min()
}

fn weight(records: &[Stored]) -> u64 {
    let room = |it: &RoomRecord| ROOM_RECORD_BYTES + length(it.room.as_str());
    let weights = records
        .iter()
        .map(|it| SESSION_BYTES + it.rooms.iter().chain(&it.own).map(room).sum::<u64>());
    weights.sum()
}

/// How long a text is. Units: bytes.
pub(crate) fn length(text: &str) -> u64 {
    u64::try_from(text.len()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_of_a_session_stays_small() {
        assert!(size_of::<Stored>() <= 104, "{}", size_of::<Stored>());
    }
}
