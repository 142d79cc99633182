//! What a session has that can outlive its connection (G13, G14): its secret, the attachment it is, what its client has
//! certainly got, and what it waits for. Knows nothing of rooms beyond their index, and asks nobody for anything.

use std::sync::Arc;

use roomcast_protocol::codes::Refused;
use roomcast_protocol::ids::NodeId;
use roomcast_protocol::position::Position;
use roomcast_protocol::room::RoomName;
use roomcast_protocol::session::{Secret, Unattached};

use super::rooms::Ask;
use crate::meter::UserMeter;

/// A session that can be resumed.
#[derive(Debug)]
pub(crate) struct Lasting {
    pub(crate) secret: Secret,
    /// Which attachment of the session this is.
    pub(crate) generation: u64,
    /// When its record was written last. Units: monotonic milliseconds.
    pub(crate) saved_ms: u64,
    /// When it is written next; `u64::MAX`: nothing has changed. Units: monotonic milliseconds.
    pub(crate) save_at_ms: u64,
    /// What its client has got of rooms that keep publications; sessions without such rooms pay 8 bytes for it.
    pub(crate) got: Option<Box<Got>>,
    /// What few sessions have, and those for a moment.
    pub(crate) moment: Option<Box<Moment>>,
    /// Pings so far.
    pub(crate) pings: u32,
    /// Writes of its record that were not answered.
    pub(crate) under_way: u16,
    /// A record of this attachment was written, or taken over.
    pub(crate) recorded: bool,
    /// Its client goes elsewhere when it is told to.
    pub(crate) hands_over: bool,
    /// Its client is the seed's, which knows nothing of sessions and positions and cannot join again by itself: a join is
    /// answered once the record has it.
    pub(crate) records_first: bool,
    /// It was taken over, and its client has sent nothing since it was welcomed.
    pub(crate) unproven: bool,
    /// Another attachment has taken its place: nothing more is written.
    pub(crate) fenced: bool,
}

/// Places in rooms that keep publications, by the room's index.
#[derive(Debug, Default)]
pub(crate) struct Got {
    /// What the client has certainly got. Bounds: the session's rooms.
    pub(crate) safe: Vec<(u32, Position)>,
    /// What it has got once it answers the ping. Bounds: the same.
    pub(crate) pledged: Vec<(u32, Position)>,
    /// The ping that was sent behind that; `None`: all such pings are answered.
    pub(crate) awaited: Option<u32>,
    /// When a ping was sent last. Units: monotonic milliseconds.
    pub(crate) pinged_ms: u64,
}

/// A room that a session that is resumed has yet to enter.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Restored {
    pub(crate) room: u32,
    /// Since when it lacks publications.
    pub(crate) since: Option<Position>,
    /// The oldest of those before that it has not acked.
    pub(crate) unacked: Option<u64>,
    /// Its client said what it has covered of it.
    pub(crate) named: bool,
}

/// What a session waits for.
#[derive(Debug, Default)]
pub(crate) struct Moment {
    /// Its rooms from before, not entered yet. Bounds: its limit of rooms.
    pub(crate) restored: Vec<Restored>,
    /// Rooms from before that it does not get back. Bounds: those of its record.
    pub(crate) refused: Vec<(RoomName, Refused)>,
    /// What became of its wish, until it is told.
    pub(crate) resumed: Option<Result<(), Unattached>>,
    /// The node where it was before, if it was handed over and is not proven yet.
    pub(crate) handed_from: Option<NodeId>,
    /// Commands that came along with its token and prove nothing.
    pub(crate) early: usize,
    /// Joins of live rooms that are made once the record has them, by room; each counts among those about to enter it.
    /// Bounds: [`JOINS_MAX`].
    pub(crate) joins: Vec<(u32, Ask)>,
    /// How many of them are in what is being written.
    pub(crate) joins_written: usize,
    /// Its turn to go elsewhere.
    pub(crate) turn: Option<Turn>,
}

/// A session's turn to go elsewhere.
#[derive(Debug)]
pub(crate) struct Turn {
    /// Who comes with it is handed over.
    pub(crate) secret: Secret,
    /// The client was told.
    pub(crate) told: bool,
    /// Its user's counters: it counts no more among the user's connections.
    pub(crate) meter: Option<Arc<UserMeter>>,
}

/// Joins of one session that wait for its record.
pub(crate) const JOINS_MAX: usize = 64;

impl Lasting {
    /// The first attachment of a session.
    pub(crate) const fn new(secret: Secret) -> Self {
        Self {
            secret,
            generation: 1,
            saved_ms: 0,
            save_at_ms: u64::MAX,
            got: None,
            moment: None,
            pings: 0,
            under_way: 0,
            recorded: false,
            hands_over: false,
            records_first: false,
            unproven: false,
            fenced: false,
        }
    }

    /// What it waits for, to be added to.
    pub(crate) fn moment(&mut self) -> &mut Moment {
        self.moment.get_or_insert_default()
    }

    /// Gives memory back once it waits for nothing.
    pub(crate) fn tidy(&mut self) {
        if self.moment.as_ref().is_some_and(|moment| moment.is_over()) {
            self.moment = None;
        }
    }

    /// Whether it went on from another connection.
    pub(crate) const fn is_resumed(&self) -> bool {
        self.generation > 1
    }

    /// Whether its client was told to go elsewhere.
    pub(crate) fn is_leaving(&self) -> bool {
        let turn = self.moment.as_ref().and_then(|moment| moment.turn.as_ref());
        turn.is_some_and(|turn| turn.told)
    }

    /// What its client has certainly got of a room.
    pub(crate) fn safe(&self, room: u32) -> Option<Position> {
        let safe = self.got.as_ref()?.safe.iter();
        safe.clone().find(|(held, _)| *held == room).map(|(_, at)| *at)
    }

    /// The client was answered that it hears the room from this position on. What it was given before, and may not have
    /// got, it still lacks.
    pub(crate) fn enter(&mut self, room: u32, at: Position) {
        let debt = |safe: Position| safe.epoch != at.epoch || safe.offset <= at.offset;
        if !self.safe(room).is_some_and(debt) {
            self.set_safe(room, at);
        }
    }

    /// The client lacks what follows this position, and nothing else.
    pub(crate) fn set_safe(&mut self, room: u32, at: Position) {
        let got = self.got.get_or_insert_default();
        got.pledged.retain(|(held, _)| *held != room);
        put(&mut got.safe, room, at);
    }

    /// What the answer to the last ping would have said of a room no longer holds: some of it was taken back before it
    /// was written.
    pub(crate) fn take_back(&mut self, room: u32) {
        if let Some(got) = &mut self.got {
            got.pledged.retain(|(held, _)| *held != room);
        }
    }

    /// The session has left the room, whose index others may get; says how many joins of it waited for the record.
    pub(crate) fn forget_room(&mut self, room: u32) -> u32 {
        self.take_back(room);
        if let Some(got) = &mut self.got {
            got.safe.retain(|(held, _)| *held != room);
            if got.safe.is_empty() {
                self.got = None;
            }
        }
        if let Some(moment) = &mut self.moment {
            moment.restored.retain(|held| held.room != room);
        }
        let joins = self.take_joins(room).len();
        u32::try_from(joins).unwrap_or(u32::MAX)
    }

    /// Takes back the joins of a room that wait for the record.
    pub(crate) fn take_joins(&mut self, room: u32) -> Vec<Ask> {
        let Some(moment) = &mut self.moment else { return Vec::new() };
        let before = moment.joins.iter().take(moment.joins_written);
        let written = before.filter(|(held, _)| *held == room).count();
        moment.joins_written -= written;
        let taken = moment.joins.extract_if(.., |(held, _)| *held == room);
        let taken = taken.map(|(_, ask)| ask).collect();
        self.tidy();
        taken
    }

    /// A room from before that it has yet to enter.
    pub(crate) fn restored(&self, room: u32) -> Option<Restored> {
        let restored = &self.moment.as_ref()?.restored;
        restored.iter().find(|held| held.room == room).copied()
    }

    /// A room from before, if it has yet to enter it: it does now.
    pub(crate) fn take_restored(&mut self, room: u32) -> Option<Restored> {
        let restored = &mut self.moment.as_mut()?.restored;
        let at = restored.iter().position(|held| held.room == room)?;
        let held = restored.swap_remove(at);
        self.tidy();
        Some(held)
    }

    /// The number of the next ping, behind which the client has all that `given` says, by room; what it has got already
    /// may be among it.
    pub(crate) fn ping(&mut self, mono_ms: u64, given: Vec<(u32, Position)>) -> u32 {
        self.pings = self.pings.wrapping_add(1);
        if let Some(got) = &mut self.got {
            got.pinged_ms = mono_ms;
            // The answer to a later ping answers for the one before as well.
            if got.awaited.is_none() && !given.is_empty() {
                got.awaited = Some(self.pings);
                got.pledged = given;
            }
        }
        self.pings
    }

    /// The client answered a ping; says which positions that made safe, by room, and what was before.
    pub(crate) fn pong(&mut self, number: u32) -> Vec<(u32, Position, Option<Position>)> {
        let Some(got) = &mut self.got else { return Vec::new() };
        let Some(awaited) = got.awaited else { return Vec::new() };
        let since = number.wrapping_sub(awaited);
        if since > self.pings.wrapping_sub(awaited) {
            return Vec::new(); // one from before, or one that was never sent
        }
        got.awaited = None;
        let pledged = std::mem::take(&mut got.pledged);
        let mut moved = Vec::new();
        for (room, at) in pledged {
            let before = got.safe.iter().find(|(held, _)| *held == room).map(|(_, at)| *at);
            moved.push((room, at, before));
            put(&mut got.safe, room, at);
        }
        moved
    }
}

impl Moment {
    const fn is_over(&self) -> bool {
        self.restored.is_empty()
            && self.refused.is_empty()
            && self.resumed.is_none()
            && self.handed_from.is_none()
            && self.early == 0
            && self.joins.is_empty()
            && self.turn.is_none()
    }
}

fn put(places: &mut Vec<(u32, Position)>, room: u32, at: Position) {
    match places.iter_mut().find(|(held, _)| *held == room) {
        Some((_, held)) => *held = at,
        None => {
            if places.capacity() == 0 {
                places.reserve_exact(1);
            }
            places.push((room, at));
        }
    }
}

/// Whether a member that has certainly got `safe` was given more when it was given `given`.
pub(crate) fn is_further(given: Position, safe: Position) -> bool {
    given.epoch != safe.epoch || given.offset > safe.offset
}

#[cfg(test)]
mod tests {
    use roomcast_protocol::position::Epoch;

    use super::*;

    fn at(offset: u64) -> Position {
        Position { epoch: Epoch(1), offset }
    }

    #[test]
    fn only_an_answered_ping_makes_a_position_safe() {
        let mut lasting = Lasting::new(Secret(1));
        lasting.set_safe(3, at(5));
        let first = lasting.ping(0, vec![(3, at(8))]);
        assert_eq!(lasting.safe(3), Some(at(5)));
        assert!(
            lasting.pong(first.wrapping_sub(1)).is_empty() && lasting.pong(first + 1).is_empty()
        );
        assert_eq!(lasting.safe(3), Some(at(5)));
        let second = lasting.ping(0, vec![(3, at(9))]);
        assert_eq!(lasting.pong(second), [(3, at(8), Some(at(5)))], "as for the one before");
        assert_eq!(lasting.safe(3), Some(at(8)), "and says no more than was pledged then");
        assert!(lasting.pong(second).is_empty(), "once");
    }

    #[test]
    fn a_second_join_pays_no_debts() {
        let mut lasting = Lasting::new(Secret(1));
        for (join, safe) in [(5, 5), (9, 5), (3, 3)] {
            lasting.enter(3, at(join));
            assert_eq!(lasting.safe(3), Some(at(safe)));
        }
        lasting.enter(3, Position { epoch: Epoch(2), offset: 1 });
        assert_eq!(lasting.safe(3), Some(at(3)), "the loss is told when it is resumed");
    }

    #[test]
    fn what_was_taken_back_does_not_become_safe() {
        let mut lasting = Lasting::new(Secret(1));
        lasting.set_safe(3, at(5));
        let number = lasting.ping(0, vec![(3, at(8))]);
        lasting.take_back(3);
        assert!(lasting.pong(number).is_empty());
        assert_eq!(lasting.safe(3), Some(at(5)));
    }

    #[test]
    fn numbers_of_pings_may_wrap() {
        let mut lasting = Lasting::new(Secret(1));
        lasting.pings = u32::MAX - 1;
        lasting.set_safe(3, at(5));
        assert_eq!(lasting.ping(0, vec![(3, at(8))]), u32::MAX);
        assert_eq!(lasting.ping(0, Vec::new()), 0);
        assert!(!lasting.pong(0).is_empty());
        assert_eq!(lasting.safe(3), Some(at(8)));
    }

    #[test]
    fn the_session_itself_stays_small() {
        assert!(size_of::<Lasting>() <= 80, "{}", size_of::<Lasting>());
    }
}
