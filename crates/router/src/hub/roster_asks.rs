//! Questions who is in a room: answered from the roster that this node keeps, else asked of the broker, a few at once.
//! Who is in the room is never answered that it is not: its question is held until its entry is known.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use roomcast_protocol::codes::{Refusal, Refused};
use roomcast_protocol::command::ReplyTo;
use roomcast_protocol::envelope::BrokerCommand;
use roomcast_protocol::ids::{LaneId, SessionKey};
use roomcast_protocol::presence::{PresenceMode, ROSTER_PAGE_MAX, RosterPage};
use roomcast_protocol::room::RoomName;
use roomcast_protocol::time::Now;

use super::Hub;
use crate::messages::{HubEffect, LaneMessage, QueryId};

/// Questions who is in a room that are under way to the broker at once.
pub const ROSTER_ASKS_MAX: usize = 16;

/// Questions that may wait for those; beyond it they are refused.
pub const ROSTER_ASKS_WAITING_MAX: usize = 256;

/// When to ask again who is in a room, where that is not known at the moment. Units: milliseconds.
pub const ROSTER_RETRY_MS: u64 = 1_000;

/// How long a question is held until the roster knows its asker; then it is refused. A room that many join at once enters
/// them step by step. Units: milliseconds.
pub(super) const ROSTER_HOLD_MS: u64 = 5_000;

/// Questions that are held for that; beyond it they are refused.
pub(super) const ROSTER_ASKS_HELD_MAX: usize = 4_096;

/// Who asks.
#[derive(Debug)]
pub(super) enum Asker {
    /// A session of a lane.
    Lane(LaneId, SessionKey, ReplyTo),
    /// The shell.
    Query(QueryId),
}

/// A question who is in a room.
#[derive(Debug)]
pub(super) struct RosterAsk {
    pub(super) asker: Asker,
    /// The user who asks and is in the room.
    pub(super) member: Option<Box<str>>,
    pub(super) room: RoomName,
    /// Users behind this one.
    pub(super) after: Option<Box<str>>,
    pub(super) count_max: u32,
}

/// Questions for the broker.
#[derive(Debug, Default)]
pub(super) struct RosterAsks {
    pub(super) requests: u64,
    /// Bounds: [`ROSTER_ASKS_MAX`].
    under_way: BTreeMap<u64, RosterAsk>,
    /// Bounds: [`ROSTER_ASKS_WAITING_MAX`].
    waiting: VecDeque<RosterAsk>,
    /// Questions whose asker is yet to be known, by room, the oldest first, each with its end. Bounds:
    /// [`ROSTER_ASKS_HELD_MAX`].
    held: BTreeMap<RoomName, Vec<(u64, RosterAsk)>>,
    held_count: usize,
    /// When the oldest of each room ends.
    ends: BTreeSet<(u64, RoomName)>,
    /// Rooms of theirs whose members have just been told more.
    told: BTreeSet<RoomName>,
}

impl RosterAsks {
    /// Takes what is held for a room.
    fn take_held(&mut self, name: &RoomName) -> Vec<(u64, RosterAsk)> {
        let held = self.held.remove(name).unwrap_or_default();
        if let Some((until_ms, _)) = held.first() {
            self.ends.remove(&(*until_ms, name.clone()));
        }
        self.held_count -= held.len();
        held
    }

    /// Holds that for a room.
    fn hold(&mut self, name: RoomName, held: Vec<(u64, RosterAsk)>) {
        if let Some((until_ms, _)) = held.first() {
            self.held_count += held.len();
            self.ends.insert((*until_ms, name.clone()));
            self.held.insert(name, held);
        }
    }

    /// What is held has its end.
    #[cfg(test)]
    pub(super) fn walk(&self) {
        assert_eq!(self.held_count, self.held.values().map(Vec::len).sum::<usize>());
        let ends = self.held.iter().map(|(name, held)| (held[0].0, name.clone()));
        assert_eq!(self.ends, ends.collect());
        assert!(self.held_count <= ROSTER_ASKS_HELD_MAX && self.told.is_empty());
    }
}

impl Hub {
    /// Somebody wants to know who is in a room.
    pub(super) fn ask_roster(&mut self, now: Now, ask: RosterAsk, out: &mut Vec<HubEffect>) {
        if self.presence_of(&ask.room).0 == PresenceMode::Off {
            return answer_roster(ask.asker, ask.room, Err(tells_nothing()), out);
        }
        if !self.lacks_member(&ask) {
            return self.ask_known_roster(ask, out);
        }
        // Without the broker nobody new becomes known.
        if !self.may_ask() || self.roster_asks.held_count >= ROSTER_ASKS_HELD_MAX {
            return answer_roster(ask.asker, ask.room, Err(not_now()), out);
        }
        let until_ms = now.mono_ms.saturating_add(ROSTER_HOLD_MS);
        let name = ask.room.clone();
        let mut held = self.roster_asks.take_held(&name);
        held.push((until_ms, ask));
        self.roster_asks.hold(name, held);
    }

    /// Whether its asker is in the room, and the room's members have not been told so.
    fn lacks_member(&self, ask: &RosterAsk) -> bool {
        ask.member.as_ref().is_some_and(|user| self.rosters.knows(&ask.room, user) == Some(false))
    }

    /// Members of the room have been told more, or nobody hears it any more: questions that are held for it may have an
    /// answer.
    pub(super) fn note_told(&mut self, name: &RoomName) {
        if self.roster_asks.held.contains_key(name) {
            self.roster_asks.told.insert(name.clone());
        }
    }

    /// Answers what was held, where the asker is known by now; what was held for too long is refused.
    pub(super) fn answer_held(&mut self, now: Now, out: &mut Vec<HubEffect>) {
        let over = self.roster_asks.ends.iter().take_while(|(at, _)| *at <= now.mono_ms);
        let over: Vec<RoomName> = over.map(|(_, name)| name.clone()).collect();
        self.roster_asks.told.extend(over);
        for name in std::mem::take(&mut self.roster_asks.told) {
            let mut stay = Vec::new();
            for (until_ms, ask) in self.roster_asks.take_held(&name) {
                if !self.lacks_member(&ask) {
                    self.ask_known_roster(ask, out);
                } else if until_ms <= now.mono_ms {
                    answer_roster(ask.asker, ask.room, Err(not_now()), out);
                } else {
                    stay.push((until_ms, ask));
                }
            }
            self.roster_asks.hold(name, stay);
        }
    }

    /// When [`Hub::answer_held`] has something to do by itself.
    pub(super) fn next_held_ms(&self) -> Option<u64> {
        self.roster_asks.ends.first().map(|(at, _)| *at)
    }

    /// Whoever asks is not in the room, or known to be.
    fn ask_known_roster(&mut self, ask: RosterAsk, out: &mut Vec<HubEffect>) {
        let RosterAsk { asker, member, room, after, count_max } = ask;
        let count_max = count_max.clamp(1, ROSTER_PAGE_MAX);
        // Whoever has just come into a room that was empty wants to hear more than that it was.
        if let Asker::Lane(..) = asker
            && !self.rosters.is_blank(&room)
            && let Some(shown) = self.rosters.shown(&room, after.as_deref(), count_max)
        {
            let outcome = self.tellable(shown, member.as_deref(), after.as_deref());
            return answer_roster(asker, room, outcome, out);
        }
        if !self.may_ask() || self.roster_asks.waiting.len() >= ROSTER_ASKS_WAITING_MAX {
            return answer_roster(asker, room, Err(not_now()), out);
        }
        let ask = RosterAsk { asker, member, room, after, count_max };
        self.roster_asks.waiting.push_back(ask);
    }

    /// A page as it may be told: not while somebody may ask whose session is to end, and not where it would deny that its
    /// asker is in the room. After a loss of data the broker has yet to hear of it.
    fn tellable(
        &self,
        page: Option<RosterPage>,
        member: Option<&str>,
        after: Option<&str>,
    ) -> Result<RosterPage, Refused> {
        let denies = |page: &RosterPage| member.is_some_and(|user| !may_hold(page, user, after));
        let page = page.filter(|page| !self.control.is_open() && !denies(page));
        page.ok_or_else(not_now)
    }

    /// What the room tells of its members, and of how many users at most.
    pub(super) fn presence_of(&self, room: &RoomName) -> (PresenceMode, u32) {
        let policy = self.guard.rule(room).map(|rule| self.guard.policy(rule));
        policy.map_or((PresenceMode::Off, 0), |policy| (policy.presence, policy.presence_max))
    }

    /// Asks what waits. While the broker is away, it is refused: whoever asked may do so again.
    pub(super) fn ask_rosters(&mut self, out: &mut Vec<HubEffect>) {
        let may_ask = self.may_ask();
        while (!may_ask || self.roster_asks.under_way.len() < ROSTER_ASKS_MAX)
            && let Some(ask) = self.roster_asks.waiting.pop_front()
        {
            if !may_ask {
                answer_roster(ask.asker, ask.room, Err(not_now()), out);
                continue;
            }
            self.roster_asks.requests += 1;
            let request = self.roster_asks.requests;
            let (room, after, count_max) = (ask.room.clone(), ask.after.clone(), ask.count_max);
            self.roster_asks.under_way.insert(request, ask);
            let command = BrokerCommand::Roster { request, room, after, count_max };
            out.push(HubEffect::Broker(command));
        }
    }

    /// The broker answered, or did not.
    pub(super) fn roster_asked(
        &mut self,
        now: Now,
        request: u64,
        page: Option<RosterPage>,
        out: &mut Vec<HubEffect>,
    ) {
        if self.roster_page(now, request, page.as_ref(), out) {
            return;
        }
        let Some(ask) = self.roster_asks.under_way.remove(&request) else { return };
        let RosterAsk { asker, member, room, after, count_max } = ask;
        let (mode, users_max) = self.presence_of(&room);
        let lists = |page: &RosterPage| match asker {
            Asker::Lane(..) => mode == PresenceMode::Members && page.count <= users_max.into(),
            Asker::Query(_) => true,
        };
        let page = match asker {
            // What members are told next is what differs from what they were told.
            Asker::Lane(..) if self.rosters.is_blank(&room) => {
                page.filter(|page| page.version.offset == 0)
            }
            Asker::Lane(..) => {
                let shown = self.rosters.shown(&room, after.as_deref(), count_max);
                shown.unwrap_or(page)
            }
            Asker::Query(_) => page,
        };
        let page = page.map(|page| {
            if lists(&page) {
                return page;
            }
            RosterPage { users: Vec::new(), more: page.count > 0, ..page }
        });
        let outcome = self.tellable(page, member.as_deref(), after.as_deref());
        answer_roster(asker, room, outcome, out);
    }
}

/// Whether a page does not deny that this user is in the room: it has it, its place is on another one, or numbers alone are
/// told.
fn may_hold(page: &RosterPage, user: &str, after: Option<&str>) -> bool {
    let is_before = after.is_some_and(|after| user <= after);
    let is_behind = page.more && page.users.last().is_none_or(|last| &**last < user);
    is_before || is_behind || page.users.iter().any(|it| &**it == user)
}

/// Tells whoever asked.
pub(super) fn answer_roster(
    asker: Asker,
    room: RoomName,
    outcome: Result<RosterPage, Refused>,
    out: &mut Vec<HubEffect>,
) {
    out.push(match asker {
        Asker::Lane(lane, session, reply) => {
            HubEffect::Lane(lane, LaneMessage::Roster { session, reply, room, outcome })
        }
        Asker::Query(query) => HubEffect::Roster(query, outcome),
    });
}

/// The room's rule has no presence.
pub(crate) fn tells_nothing() -> Refused {
    let text = "This room does not tell who is in it: its rule has no `presence`";
    Refused::because(Refusal::Schema, text.into())
}

/// It is not known who is in the room.
pub(super) fn not_now() -> Refused {
    let text = "Who is in the room is not known at the moment";
    Refused::unavailable(text.into(), ROSTER_RETRY_MS)
}
