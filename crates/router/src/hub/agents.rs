//! Which agents are connected, in the whole cluster: each is a user of the system's own room `$agents`, and what comes of
//! presence there is told in the rooms made for it, by the node to whom the broker gave it to tell. The broker keeps it
//! until a beat says that it was told, and gives it to another node where that takes too long: so the notices are all
//! nodes', and their ids and their sender the same whoever tells.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use roomcast_protocol::codes::{Refusal, Refused};
use roomcast_protocol::content::Content;
use roomcast_protocol::envelope::{Accepted, BrokerCommand, Level};
use roomcast_protocol::position::{Epoch, Position};
use roomcast_protocol::presence::{AGENTS, PresenceDiff, RosterPage};
use roomcast_protocol::publication::Publication;
use roomcast_protocol::room::RoomName;
use roomcast_protocol::time::{Now, iso8601};

use super::Hub;
use super::people::is_person;
use crate::messages::{HubEffect, Ticket};

/// Notices of agents that are kept until they are accepted; beyond it the oldest is lost, counted.
pub const NOTICES_MAX: usize = 20_000;

/// Notices under way to the broker at once.
pub const NOTICES_UNDER_WAY_MAX: usize = 256;

/// How long a notice is tried. Units: milliseconds.
pub const NOTICE_MS: u64 = 60_000;

/// How long after a notice was refused it is tried again. Units: milliseconds.
pub const NOTICE_AGAIN_MS: u64 = 1_000;

#[derive(Debug)]
struct Notice {
    publication: Arc<Publication>,
    agent: Box<str>,
    /// Of which version of the agents' room it tells.
    version: Position,
    /// When it is given up. Units: monotonic milliseconds.
    until_ms: u64,
    /// When it is tried next; `None`: it is under way, or an older one of its agent in its room comes first.
    due_ms: Option<u64>,
}

/// Notices that have not been accepted.
#[derive(Debug, Default)]
pub(super) struct Notices {
    count: u64,
    all: BTreeMap<u64, Notice>,
    /// Of one agent in one room, in order: whoever comes and goes has not come last.
    chains: BTreeMap<(RoomName, Box<str>), VecDeque<u64>>,
    /// Those whose turn it is, by when they are tried.
    due: BTreeSet<(u64, u64)>,
    under_way: usize,
    /// What was given to this node to tell, oldest first, and how many notices of it there are still.
    telling: VecDeque<(Position, usize)>,
    /// All up to there was told: the next beat says so.
    told: Option<Position>,
    ended: Vec<(u64, Result<Accepted, Refused>)>,
}

/// Whether the broker still has the agents whom this node entered. Nobody hears their room, so nothing else would show
/// that it lost them.
#[derive(Debug, Default)]
pub(super) struct Compared {
    /// When it is asked next. Units: monotonic milliseconds.
    due_ms: Option<u64>,
    /// The question that is under way.
    request: Option<u64>,
    /// The epoch of the room when it was asked last.
    epoch: Option<Epoch>,
}

impl Notices {
    /// Notes how the publication of a notice ended.
    pub(super) fn end(&mut self, number: u64, outcome: Result<Accepted, Refused>) {
        self.ended.push((number, outcome));
    }

    /// How many have not been accepted.
    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    /// Something of this version has yet to become notices, or has.
    pub(super) fn hold(&mut self, version: Position, holds: bool) {
        if let Some((_, left)) = self.telling.iter_mut().find(|(it, _)| *it == version) {
            *left = if holds { *left + 1 } else { left.saturating_sub(1) };
        }
    }

    /// Says whether there was place for it.
    pub(super) fn add(
        &mut self,
        now: Now,
        (version, agent): (Position, &str),
        publication: Publication,
    ) -> bool {
        let full = self.all.len() >= NOTICES_MAX;
        if full && let Some((&oldest, _)) = self.all.first_key_value() {
            self.remove(now, oldest);
        }
        self.count += 1;
        let number = self.count;
        let chain = self.chains.entry((publication.room.clone(), agent.into())).or_default();
        chain.push_back(number);
        let first = chain.len() == 1;
        let until_ms = now.mono_ms.saturating_add(NOTICE_MS);
        let notice = Notice {
            publication: Arc::new(publication),
            agent: agent.into(),
            version,
            until_ms,
            due_ms: None,
        };
        self.all.insert(number, notice);
        self.hold(version, true);
        if first {
            self.try_at(now.mono_ms, number);
        }
        !full
    }

    /// Whether something of this agent has not been accepted in this room.
    pub(super) fn tell(&self, room: &RoomName, agent: &str) -> bool {
        self.chains.contains_key(&(room.clone(), agent.into()))
    }

    fn try_at(&mut self, at_ms: u64, number: u64) {
        if let Some(notice) = self.all.get_mut(&number) {
            notice.due_ms = Some(at_ms);
            self.due.insert((at_ms, number));
        }
    }

    /// One is over, or forgotten: the next one of its chain has its turn.
    fn remove(&mut self, now: Now, number: u64) {
        let Some(notice) = self.all.remove(&number) else { return };
        if let Some(due_ms) = notice.due_ms {
            self.due.remove(&(due_ms, number));
        }
        self.hold(notice.version, false);
        let key = (notice.publication.room.clone(), notice.agent);
        let Some(chain) = self.chains.get_mut(&key) else { return };
        chain.retain(|other| *other != number);
        match chain.front().copied() {
            Some(next) => self.try_at(now.mono_ms, next),
            None => {
                self.chains.remove(&key);
            }
        }
    }

    /// Whether the broker has yet to hear that something was told.
    pub(super) fn owes(&self) -> bool {
        self.told.is_some() || !self.telling.is_empty()
    }

    /// Up to where all was told since a beat said so last.
    pub(super) const fn take_told(&mut self) -> Option<Position> {
        self.told.take()
    }

    /// The oldest of what was given has no notice left: it was told, or tried for long enough.
    fn see_told(&mut self) {
        while let Some((version, _)) = self.telling.pop_front_if(|(_, left)| *left == 0) {
            self.told = Some(version);
        }
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        let Self { all, chains, due, under_way, ended, .. } = self;
        let none = all.is_empty() && chains.is_empty() && due.is_empty() && ended.is_empty();
        none && *under_way == 0 && !self.owes()
    }
}

impl Hub {
    /// Agents came or went, and the broker gave it to this node to tell: once more, if the node takes long with it.
    pub(super) fn tell_of_agents(&mut self, now: Now, diff: &PresenceDiff) {
        let version = diff.version;
        if self.notices.telling.iter().any(|(it, _)| *it == version) {
            return;
        }
        self.notices.telling.push_back((version, 0));
        let came = diff.joined.iter().map(|id| ("agent_connected", "online", id));
        let gone = diff.left.iter().map(|id| ("agent_disconnected", "offline", id));
        for (number, (kind, status, id)) in came.chain(gone).enumerate() {
            if is_person(id) {
                self.tell_of_person(now, version, id, kind == "agent_connected");
                continue;
            }
            let timestamp = iso8601(now.unix_ms);
            let content = agent_content(id, status, &timestamp);
            for name in ["agents".to_owned(), format!("agent-{id}")] {
                let Ok(room) = RoomName::parse(&name) else { continue };
                // Told once more, by whichever node, it has the same id.
                let notice = Publication {
                    id: format!("agents-{}-{}-{number}", version.epoch, version.offset).into(),
                    kind: kind.into(),
                    timestamp: timestamp.as_str().into(),
                    sender: AGENTS.into(),
                    ..Publication::bare(room, Content::Json(content.clone()))
                };
                let kept = self.notices.add(now, (version, id), notice);
                self.counters.notices_lost += u64::from(!kept);
            }
        }
    }

    /// Tries notices that are due, and looks at those that ended.
    pub(super) fn notify(&mut self, now: Now, out: &mut Vec<HubEffect>) {
        self.end_notices(now);
        while self.notices.under_way < NOTICES_UNDER_WAY_MAX
            && let Some((at, number)) = self.notices.due.first().copied()
            && at <= now.mono_ms
        {
            self.notices.due.pop_first();
            let Some(notice) = self.notices.all.get_mut(&number) else { continue };
            notice.due_ms = None;
            self.notices.under_way += 1;
            let publication = Arc::clone(&notice.publication);
            self.publish(now, Ticket::Notice(number), publication, true, out);
        }
        // What is refused or delivered on the spot.
        self.end_notices(now);
        self.notices.see_told();
        if let Some(watch) = self.watch.as_mut()
            && let Some(told) = self.notices.take_told()
        {
            watch.told(told);
        }
    }

    fn end_notices(&mut self, now: Now) {
        for (number, outcome) in std::mem::take(&mut self.notices.ended) {
            let done = match outcome {
                // Other nodes' members have yet to hear of it.
                Ok(accepted) => accepted.level != Level::Isolated,
                Err(refused) => refused.refusal == Refusal::Duplicate,
            };
            self.notices.under_way = self.notices.under_way.saturating_sub(1);
            let Some(notice) = self.notices.all.get(&number) else { continue };
            let again_ms = now.mono_ms.saturating_add(NOTICE_AGAIN_MS);
            if done {
                self.notices.remove(now, number);
            } else if again_ms > notice.until_ms {
                self.notices.remove(now, number);
                self.counters.notices_lost += 1;
            } else {
                self.notices.try_at(again_ms, number);
            }
        }
    }

    /// Asks now and then under which epoch the broker has the agents' room, while this node has entered some there.
    pub(super) fn compare_agents(&mut self, now: Now, out: &mut Vec<HubEffect>) {
        if self.presence.agents() + self.presence.people() == 0 {
            self.presence.compared = Compared::default();
            return;
        }
        let next_ms = now.mono_ms.saturating_add(self.rosters.compare_ms());
        let due_ms = *self.presence.compared.due_ms.get_or_insert(next_ms);
        let is_due = due_ms <= now.mono_ms && self.presence.compared.request.is_none();
        let Ok(room) = RoomName::system(AGENTS) else { return };
        if !is_due || self.watch.is_none() || !self.may_ask() {
            return;
        }
        self.roster_asks.requests += 1;
        let request = self.roster_asks.requests;
        self.presence.compared.request = Some(request);
        self.presence.compared.due_ms = Some(next_ms);
        out.push(HubEffect::Broker(BrokerCommand::Roster {
            request,
            room,
            after: None,
            count_max: 1,
        }));
    }

    /// The broker answered, or did not: under another epoch it may lack whom this node entered. Says whether it was this
    /// question.
    pub(super) fn agents_compared(
        &mut self,
        now: Now,
        request: u64,
        page: Option<&RosterPage>,
    ) -> bool {
        let compared = &mut self.presence.compared;
        if compared.request != Some(request) {
            return false;
        }
        compared.request = None;
        let epoch = page.map(|page| page.version.epoch);
        if epoch.is_some() && std::mem::replace(&mut compared.epoch, epoch) != epoch {
            let room = RoomName::system(AGENTS);
            room.iter().for_each(|room| self.presence.reenter(now, room, |_| true));
        }
        true
    }

    /// When [`Hub::compare_agents`] has something to do by itself.
    pub(super) fn next_compare_ms(&self) -> Option<u64> {
        let Compared { due_ms, request, .. } = self.presence.compared;
        due_ms.filter(|_| request.is_none() && self.watch.is_some() && self.may_ask())
    }

    /// When [`Hub::notify`] has something to do by itself.
    pub(super) fn next_notice_ms(&self) -> Option<u64> {
        let free = self.notices.under_way < NOTICES_UNDER_WAY_MAX;
        self.notices.due.first().filter(|_| free).map(|(at, _)| *at)
    }
}

/// The id is written as a number where it is one, as the seed's examples do.
pub(super) fn agent_content(id: &str, status: &str, timestamp: &str) -> Bytes {
    let canonical = id.parse::<i64>().is_ok_and(|number| number.to_string() == id);
    let mut text = String::from("{\"agent_id\":");
    if canonical {
        text.push_str(id);
    } else {
        quote(id, &mut text);
    }
    text.push_str(&format!(",\"status\":\"{status}\",\"last_seen\":\"{timestamp}\"}}"));
    text.into()
}

/// Appends a name as JSON has it.
pub(super) fn quote(name: &str, text: &mut String) {
    text.push('"');
    for character in name.chars() {
        match character {
            '"' | '\\' => text.extend(['\\', character]),
            control if control.is_control() => {
                text.push_str(&format!("\\u{:04x}", u32::from(control)));
            }
            plain => text.push(plain),
        }
    }
    text.push('"');
}
