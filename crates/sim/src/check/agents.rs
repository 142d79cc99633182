//! Agents, as everybody is told of them (G19): what changes in their room is told at least once in both rooms made for
//! that, under one id and in its order, whichever nodes tell it; and in the end who is there is who is connected.

use std::collections::{BTreeMap, BTreeSet};

use roomcast_protocol::content::Content;
use roomcast_protocol::position::Epoch;
use roomcast_protocol::presence::{AGENTS, PresenceDiff};
use roomcast_protocol::publication::Publication;
use roomcast_protocol::room::RoomName;

use super::Book;
use crate::rules::agent_of;
use crate::talkers;
use crate::world::World;

/// How long a change may be untold. Units: milliseconds. Source: a node has 3 s to tell what it was given; another one
/// may have to wait for that, and for its own beat and publication.
const UNTOLD_MS: u64 = 8_000;

/// A change of an agent, of which two notices tell.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Change {
    epoch: Epoch,
    version: u64,
    agent: Box<str>,
    kind: &'static str,
}

/// What is known of agents.
#[derive(Debug, Default)]
pub(crate) struct Agents {
    /// By the id of its notices.
    changes: BTreeMap<String, Change>,
    /// Notices by id and room that nobody has published, and since when they are due.
    untold: BTreeMap<(String, RoomName), u64>,
    told: BTreeSet<(String, RoomName)>,
    /// The newest change of each agent that was told in each room.
    newest: BTreeMap<(RoomName, Box<str>), Change>,
}

fn rooms_of(agent: &str) -> [RoomName; 2] {
    ["agents".to_owned(), format!("agent-{agent}")]
        .map(|name| RoomName::parse(&name).expect("agents of a run have plain names"))
}

impl Book {
    /// A server says who came and who went in the agents' room; `counts`: it is the master.
    fn see_agents(&mut self, now_ms: u64, diff: &PresenceDiff, counts: bool) {
        let came = diff.joined.iter().map(|agent| (agent, "agent_connected"));
        let gone = diff.left.iter().map(|agent| (agent, "agent_disconnected"));
        for (number, (agent, kind)) in came.chain(gone).enumerate() {
            let (epoch, version) = (diff.version.epoch, diff.version.offset);
            let id = format!("agents-{epoch}-{version}-{number}");
            // Who is online is told to contacts, not in rooms of agents.
            if agent.starts_with('$') {
                continue;
            }
            for room in rooms_of(agent).into_iter().filter(|_| counts) {
                self.agents.untold.insert((id.clone(), room), now_ms);
            }
            let change = Change { epoch, version, agent: agent.clone(), kind };
            self.agents.changes.insert(id, change);
        }
    }

    /// Servers have lost steps, and with them what has yet to be told of them.
    pub(crate) fn agents_lost(&mut self) {
        self.agents.untold.clear();
    }

    /// G19: a notice tells of a change that was, as it was, and not behind a newer one.
    fn see_notice(&mut self, notice: &Publication) {
        let (id, room) = (notice.id.to_string(), notice.room.clone());
        let about = [room.to_string(), id.clone()];
        let Some(change) = self.agents.changes.get(&id).cloned() else {
            return self.violate("G19", &about, || format!("{id} tells of what never was"));
        };
        let agent = format!("{{\"agent_id\":\"{}\",", change.agent);
        let names =
            matches!(&notice.content, Content::Json(text) if text.starts_with(agent.as_bytes()));
        if !names || *notice.kind != *change.kind || !rooms_of(&change.agent).contains(&room) {
            return self.violate("G19", &about, || format!("{notice:?} tells of {change:?}"));
        }
        let key = (id, room.clone());
        self.agents.untold.remove(&key);
        if !self.agents.told.insert(key) {
            return; // once more
        }
        let newest = self.agents.newest.insert((room, change.agent.clone()), change.clone());
        let late = newest.filter(|it| it.epoch == change.epoch && it.version > change.version);
        if let Some(newest) = late {
            self.violate("G19", &about, || format!("{change:?} is told behind {newest:?}"));
        }
    }

    /// G19: what was to be told for long is told.
    fn check_told(&mut self, now_ms: u64) {
        let due = |since: &u64| since + UNTOLD_MS < now_ms;
        let late = self.agents.untold.iter().find(|(_, since)| due(since));
        if let Some(((id, room), since)) = late.map(|(key, since)| (key.clone(), *since)) {
            let change = self.agents.changes.get(&id).cloned();
            self.violate("G19", &[room.to_string(), id.clone()], || {
                format!("{change:?} of {since} ms was never told in {room}")
            });
        }
    }
}

impl World {
    /// A server tells who came and who went.
    pub(super) fn note_agents(&mut self, server: usize, diff: &PresenceDiff) {
        if diff.room.as_str() == AGENTS {
            let counts = self.bus.is_current(server);
            self.book.see_agents(self.now_ms, diff, counts);
        }
    }

    /// A publication is carried out: it may be a notice.
    pub(crate) fn note_notice(&mut self, publication: &Publication) {
        if &*publication.sender == AGENTS {
            self.stats.agents_told += 1;
            self.trace.line(self.now_ms, || {
                format!("{} is told in {}: {}", publication.id, publication.room, publication.kind)
            });
            self.book.see_notice(publication);
        }
    }

    /// G19, in the end: all is told, and the agents that are there are those that are connected.
    pub(crate) fn check_agents(&mut self) {
        self.book.check_told(self.now_ms);
        let connected = self.clients.iter().filter(|client| client.ready);
        let agents = connected.filter_map(|it| agent_of(&it.user));
        let online = self.talkers.all.iter().map(|it| format!("$user-{}", talkers::name(it.user)));
        let agents: BTreeSet<String> = agents.chain(online).collect();
        let name = RoomName::system(AGENTS).expect("the system names it");
        self.check_roster(&name, &agents);
    }
}

#[cfg(test)]
mod tests {
    use roomcast_protocol::position::Position;

    use super::*;

    const EPOCH: Epoch = Epoch(7);

    fn diff(version: u64, came: &[&str], gone: &[&str]) -> PresenceDiff {
        let all = |agents: &[&str]| agents.iter().map(|agent| Box::from(*agent)).collect();
        PresenceDiff {
            room: RoomName::system(AGENTS).unwrap(),
            version: Position { epoch: EPOCH, offset: version },
            count: 1,
            joined: all(came),
            left: all(gone),
        }
    }

    fn notice(room: &str, version: u64, agent: &str, kind: &str) -> Publication {
        let content = format!("{{\"agent_id\":\"{agent}\",\"status\":\"x\"}}");
        Publication {
            id: format!("agents-{EPOCH}-{version}-0").into(),
            kind: kind.into(),
            sender: AGENTS.into(),
            ..Publication::bare(RoomName::parse(room).unwrap(), Content::Json(content.into()))
        }
    }

    /// What is wrong once agent a has come and gone and these notices, by version, were seen.
    fn verdict(notices: &[(&str, u64, &str)]) -> Option<String> {
        let mut book = Book::default();
        book.see_agents(0, &diff(1, &["a"], &[]), true);
        book.see_agents(0, &diff(2, &[], &["a"]), true);
        for (room, version, kind) in notices {
            book.see_notice(&notice(room, *version, "a", kind));
        }
        book.check_told(UNTOLD_MS + 1);
        book.violation.map(|it| it.text)
    }

    #[test]
    fn what_is_not_told_or_told_wrongly_is_seen() {
        let (came, gone) = ("agent_connected", "agent_disconnected");
        let whole =
            [("agents", 1, came), ("agent-a", 1, came), ("agents", 2, gone), ("agent-a", 2, gone)];
        assert_eq!(verdict(&whole), None);
        assert_eq!(verdict(&[whole, whole].concat()), None, "told once more");
        for missing in 0..whole.len() {
            let mut some = whole.to_vec();
            some.remove(missing);
            assert!(verdict(&some).unwrap().contains("was never told"), "{missing}");
        }
        let swapped = [whole[2], whole[0], whole[1], whole[3]];
        assert!(verdict(&swapped).unwrap().contains("is told behind"));
        let wrong = [("agents", 1, gone), ("agent-b", 1, came), ("agents", 3, came)];
        for wrong in wrong {
            assert!(verdict(&[&whole[..], &[wrong]].concat()).is_some(), "{wrong:?}");
        }
    }

    #[test]
    fn what_a_server_has_lost_need_not_be_told() {
        let mut book = Book::default();
        book.see_agents(0, &diff(1, &["a"], &[]), true);
        book.agents_lost();
        book.check_told(u64::MAX);
        assert!(book.violation.is_none());
    }
}
