//! Which agents are connected, in the whole cluster: each is a user of the system's own room `$agents`, and what comes of
//! presence there is told in the rooms made for it, once, by the node whom the broker told of it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use roomcast_protocol::codes::{Refusal, Refused};
use roomcast_protocol::content::Content;
use roomcast_protocol::envelope::{Accepted, Level};
use roomcast_protocol::presence::PresenceDiff;
use roomcast_protocol::publication::Publication;
use roomcast_protocol::room::RoomName;
use roomcast_protocol::time::{Now, iso8601};

use super::Hub;
use crate::messages::{HubEffect, Ticket};

/// The room in which agents are present. It has no members: nobody hears it.
pub const AGENTS: &str = "$agents";

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
    ended: Vec<(u64, Result<Accepted, Refused>)>,
}

impl Notices {
    /// Notes how the publication of a notice ended.
    pub(super) fn end(&mut self, number: u64, outcome: Result<Accepted, Refused>) {
        self.ended.push((number, outcome));
    }

    fn add(&mut self, now: Now, agent: &str, publication: Publication) -> bool {
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
            until_ms,
            due_ms: None,
        };
        self.all.insert(number, notice);
        if first {
            self.try_at(now.mono_ms, number);
        }
        !full
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

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        let Self { all, chains, due, under_way, ended, .. } = self;
        all.is_empty() && chains.is_empty() && due.is_empty() && *under_way == 0 && ended.is_empty()
    }
}

impl Hub {
    /// Agents came or went, as a step or a beat of this node decided: it is this node that tells so.
    pub(super) fn tell_of_agents(&mut self, now: Now, diff: &PresenceDiff) {
        let came = diff.joined.iter().map(|id| ("agent_connected", "online", id));
        let gone = diff.left.iter().map(|id| ("agent_disconnected", "offline", id));
        for (number, (kind, status, id)) in came.chain(gone).enumerate() {
            let timestamp = iso8601(now.unix_ms);
            let content = agent_content(id, status, &timestamp);
            for name in ["agents".to_owned(), format!("agent-{id}")] {
                let Ok(room) = RoomName::parse(&name) else { continue };
                let version = diff.version;
                // A repeat of the same step, or of the same notice, has the same id.
                let notice = Publication {
                    id: format!("agents-{}-{}-{number}", version.epoch, version.offset).into(),
                    kind: kind.into(),
                    timestamp: timestamp.as_str().into(),
                    sender: self.config.node.clone(),
                    ..Publication::bare(room, Content::Json(content.clone()))
                };
                let kept = self.notices.add(now, id, notice);
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
        text.push('"');
        for character in id.chars() {
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
    text.push_str(&format!(",\"status\":\"{status}\",\"last_seen\":\"{timestamp}\"}}"));
    text.into()
}
