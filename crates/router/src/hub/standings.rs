//! What holds of a group's members whose sessions are here: what the user's list says, once an order of it was carried out.
//! By then the list may say otherwise, for of two orders that cross each other on the way the older one may come last, and
//! whoever gave it may be gone. So each node reads the list behind such an order, and obeys it. Owns which are to be read.

use std::collections::{BTreeMap, VecDeque};

use roomcast_protocol::codes::Refused;
use roomcast_protocol::conversation::{self, Answered};
use roomcast_protocol::room::RoomName;
use roomcast_protocol::time::Now;

use super::Hub;
use super::talks::Asker;
use crate::messages::HubEffect;
use crate::orders::{Order, Whom};
use crate::talks::{Speaker, Talking};

/// Members that are read at once; others wait.
pub(super) const STANDINGS_UNDER_WAY_MAX: usize = 64;

/// A group and one of its users.
pub(super) type Member = (RoomName, Box<str>);

/// How far reading one is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Waiting,
    Reading,
    /// It is being read, and an order came meanwhile: what is read may be from before that.
    Doubted,
}

/// Members that are to be read.
#[derive(Debug, Default)]
pub(super) struct Standings {
    /// Bounds: as many as orders found sessions of here.
    all: BTreeMap<Member, Stage>,
    /// Those that wait, in their order.
    waiting: VecDeque<Member>,
    /// Bounds: [`STANDINGS_UNDER_WAY_MAX`].
    under_way: usize,
}

/// Of whom an order says whether it is a member.
pub(super) fn member_of(order: &Order) -> Option<Member> {
    match order {
        Order::Admit(user, membership) => Some((membership.room.clone(), user.clone())),
        Order::Leave(room, Whom::User(user)) if conversation::group_of(room).is_some() => {
            Some((room.clone(), user.clone()))
        }
        Order::Leave(..) | Order::End(_) | Order::Revoke(_) | Order::Enter(..) => None,
    }
}

impl Standings {
    /// An order came.
    pub(super) fn obey(&mut self, order: &Order) {
        let Some(member) = member_of(order) else { return };
        if let Some(stage @ Stage::Reading) = self.all.get_mut(&member) {
            *stage = Stage::Doubted;
        }
    }

    /// An order was carried out, and found sessions of its user.
    pub(super) fn look(&mut self, member: Member) {
        if !self.all.contains_key(&member) {
            self.all.insert(member.clone(), Stage::Waiting);
            self.waiting.push_back(member);
        }
    }

    /// The next that is to be read, if others leave it place.
    fn next(&mut self) -> Option<Member> {
        if self.under_way >= STANDINGS_UNDER_WAY_MAX {
            return None;
        }
        let member = self.waiting.pop_front()?;
        self.all.insert(member.clone(), Stage::Reading);
        self.under_way += 1;
        Some(member)
    }

    /// One is over.
    fn end(&mut self, member: &Member) -> Option<Stage> {
        self.under_way -= 1;
        self.all.remove(member)
    }

    /// When [`Hub::standings_turn`] has something to do by itself. Units: monotonic milliseconds.
    pub(super) fn next_ms(&self) -> Option<u64> {
        let waits = !self.waiting.is_empty() && self.under_way < STANDINGS_UNDER_WAY_MAX;
        waits.then_some(0)
    }

    #[cfg(test)]
    pub(super) fn are_idle(&self) -> bool {
        self.all.is_empty() && self.waiting.is_empty() && self.under_way == 0
    }
}

impl Hub {
    /// Reads what holds of members.
    pub(super) fn standings_turn(&mut self, now: Now, out: &mut Vec<HubEffect>) {
        while let Some(member) = self.standings.next() {
            let who = Speaker::of_no_session(self.config.node.clone(), now);
            match Talking::membership(who, member.0.clone(), member.1.clone()) {
                Some(talking) => {
                    self.begin_talk(now, talking, Some(Asker::Standing(member)), None, out);
                }
                None => drop(self.standings.end(&member)),
            }
        }
    }

    /// A user's list says what it is in a group, or could not be read.
    pub(super) fn member_is_read(
        &mut self,
        member: Member,
        outcome: Result<Answered, Refused>,
        out: &mut Vec<HubEffect>,
    ) {
        match (outcome, self.standings.end(&member)) {
            (Ok(Answered::Member { now, .. }), Some(Stage::Reading)) => {
                let (group, user) = member;
                let order = Order::of_member(group, user, now);
                self.carry_out(None, order, out);
            }
            // It is read once more, behind others.
            (Ok(_) | Err(_), _) => self.standings.look(member),
        }
    }
}
