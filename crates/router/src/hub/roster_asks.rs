//! Questions who is in a room: answered from the roster that this node keeps, else asked of the broker, a few at once.

use std::collections::{BTreeMap, VecDeque};

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

/// Who asks.
#[derive(Debug)]
pub(super) enum Asker {
    /// A session of a lane.
    Lane(LaneId, SessionKey, ReplyTo),
    /// The shell.
    Query(QueryId),
}

#[derive(Debug)]
struct RosterAsk {
    asker: Asker,
    room: RoomName,
    after: Option<Box<str>>,
    count_max: u32,
}

/// Questions for the broker.
#[derive(Debug, Default)]
pub(super) struct RosterAsks {
    pub(super) requests: u64,
    /// Bounds: [`ROSTER_ASKS_MAX`].
    under_way: BTreeMap<u64, RosterAsk>,
    /// Bounds: [`ROSTER_ASKS_WAITING_MAX`].
    waiting: VecDeque<RosterAsk>,
}

impl Hub {
    /// Somebody wants to know who is in a room.
    pub(super) fn ask_roster(
        &mut self,
        asker: Asker,
        room: RoomName,
        (after, count_max): (Option<Box<str>>, u32),
        out: &mut Vec<HubEffect>,
    ) {
        let count_max = count_max.clamp(1, ROSTER_PAGE_MAX);
        if self.presence_of(&room).0 == PresenceMode::Off {
            return answer_roster(asker, room, Err(tells_nothing()), out);
        }
        // Whoever has just come into a room that was empty wants to hear more than that it was.
        if let Asker::Lane(..) = asker
            && !self.rosters.is_blank(&room)
            && let Some(shown) = self.rosters.shown(&room, after.as_deref(), count_max)
        {
            // Somebody may ask whose session is to end.
            let shown = shown.filter(|_| !self.control.is_open());
            return answer_roster(asker, room, shown.ok_or_else(not_now), out);
        }
        if !self.may_ask() || self.roster_asks.waiting.len() >= ROSTER_ASKS_WAITING_MAX {
            return answer_roster(asker, room, Err(not_now()), out);
        }
        self.roster_asks.waiting.push_back(RosterAsk { asker, room, after, count_max });
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
        let RosterAsk { asker, room, after, count_max } = ask;
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
        let outcome = match page {
            Some(_) if self.control.is_open() => Err(not_now()),
            Some(page) if lists(&page) => Ok(page),
            Some(page) => Ok(RosterPage { users: Vec::new(), more: page.count > 0, ..page }),
            None => Err(not_now()),
        };
        answer_roster(asker, room, outcome, out);
    }
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
