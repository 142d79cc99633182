//! The application of a run: it puts users into groups and out of them, by whichever node, and asks again until all nodes say
//! that they have carried it out.

use roomcast_protocol::codes::Refused;
use roomcast_protocol::conversation::{self, Role};
use roomcast_router::hub::Ordered;
use roomcast_router::messages::{HubMessage, MemberChange};

use super::{GROUPS, PEOPLE, Turn, name};
use crate::check::groups::{Change, Stand, pairs};
use crate::node::core::{Asked, FromLane};
use crate::node::{Node, id_of};
use crate::world::{Event, HEAL_MS, NODES, World};

/// Who is in the groups to begin with.
const FIRST: [(usize, usize); 5] = [(0, 0), (1, 0), (2, 0), (0, 1), (3, 1)];

/// Users that are put in or out while things go wrong, in each run.
const CHANGES: usize = 10;

/// How often the application looks what is not answered. Units: milliseconds.
const TEND_MS: u64 = 700;

/// How long it waits for an answer. Units: milliseconds.
const ANSWER_MS: u64 = 7_000;

/// How long something that a node has given up may be on its way to a server. Units: milliseconds. Source: the longest
/// outage of a run, and some seconds.
const LATE_MS: u64 = 22_000;

impl World {
    pub(super) fn begin_groups(&mut self, begin_ms: u64) {
        for (user, group) in FIRST {
            let at = self.talkers.random.range(begin_ms / 3, begin_ms);
            let turn = Turn::Member { user, group: PEOPLE + group, joins: true };
            self.at(at, Event::Talk(turn));
        }
        for _ in 0..CHANGES {
            let random = &mut self.talkers.random;
            let at = random.range(begin_ms, HEAL_MS);
            let (user, group) = (random.index(PEOPLE), PEOPLE + random.index(GROUPS));
            let joins = random.chance(2);
            self.at(at, Event::Talk(Turn::Member { user, group, joins }));
        }
        self.at(begin_ms / 3, Event::Talk(Turn::Tend));
    }

    /// The application changes its mind; not while it waits for an answer.
    pub(super) fn wish_member(&mut self, user: usize, group: usize, joins: bool) {
        let groups = &mut self.book.dialogs.groups;
        if groups.stand(user, group) == Stand::Open || groups.is_wanted(user, group) == joins {
            return;
        }
        groups.open((user, group), joins, (self.bus.executed, self.now_ms));
        self.ask_member(user, group);
    }

    /// Asks some node.
    fn ask_member(&mut self, user: usize, group: usize) {
        let node = self.talkers.random.index(NODES);
        if !self.nodes[node].up {
            return;
        }
        let joins = self.book.dialogs.groups.is_wanted(user, group);
        let (life, asked_ms, seq) = (self.nodes[node].life, self.now_ms, self.bus.executed);
        let (answered, over) = (false, false);
        let change = Change { user, group, joins, node, life, asked_ms, seq, answered, over };
        let number = self.book.dialogs.groups.ask(change);
        self.trace.line(self.now_ms, || format!("member {number}: {change:?}"));
        let query = self.ask_core(node, Asked::Member(number));
        let timeout_ms = self.talkers.random.range(1_000, 4_000);
        let role = joins.then(|| self.talkers.random.pick(&Role::ALL));
        let group = conversation::group(&name(group)).expect("its id is short");
        let change = MemberChange { group, user: name(user).into(), role };
        let message = HubMessage::SetMember { query, timeout_ms, change };
        self.tell_core_from_lane(node, 128, FromLane::Hub(message));
    }

    /// A node answers.
    pub(crate) fn member_changed(&mut self, number: usize, outcome: &Result<Ordered, Refused>) {
        self.trace.line(self.now_ms, || format!("member {number}: {outcome:?}"));
        let change = &mut self.book.dialogs.groups.changes[number];
        change.answered = true;
        change.over |= outcome.as_ref().map_or_else(|refused| !refused.unknown, |_| true);
        let change = *change;
        let Ok(Ordered { accepted, unanswered, .. }) = outcome else { return };
        let stands = accepted.position.and_then(|at| self.ordered_ms(at)).is_some();
        let groups = &self.book.dialogs.groups;
        let others = groups.changes.iter().filter(|it| {
            (it.user, it.group) == (change.user, change.group) && it.joins != change.joins
        });
        // Nodes that were killed are named for a while.
        let is_up =
            |(slot, it): (usize, &Node)| it.up && unanswered.contains(&id_of(slot, it.life));
        let is_sure = stands
            && !self.nodes.iter().enumerate().any(is_up)
            && groups.newest(change.user, change.group) == Some(number)
            && others.into_iter().all(|it| it.over)
            && !self.talks_blurred_since(change.seq);
        if is_sure {
            self.stats.chat_members += 1;
            self.book.dialogs.groups.stands(&change, self.bus.executed);
        }
    }

    /// Notes which questions are over: nothing of them is under way at their nodes, or to servers.
    fn end_changes(&mut self) {
        for change in &mut self.book.dialogs.groups.changes {
            let node = &self.nodes[change.node];
            let lives = node.up && node.life == change.life;
            let is_done = !lives || node.core.hub.presence_sizes().talks == 0;
            change.over |= is_done && self.now_ms > change.asked_ms + LATE_MS;
        }
    }

    /// What was not answered, or is not sure, is asked again.
    pub(super) fn tend_members(&mut self) {
        if self.leaving {
            return;
        }
        self.at(self.now_ms + TEND_MS, Event::Talk(Turn::Tend));
        self.end_changes();
        for (user, group) in pairs() {
            let groups = &self.book.dialogs.groups;
            let newest = groups.newest(user, group).map(|number| groups.changes[number]);
            let waits =
                newest.is_some_and(|it| !it.answered && self.now_ms < it.asked_ms + ANSWER_MS);
            if groups.stand(user, group) == Stand::Open && !waits {
                self.ask_member(user, group);
            }
        }
    }
}
