//! Who is in rooms, as servers tell it (G18, G19): versions rise by one, whoever came has not been there and whoever left
//! has, nobody leaves who is elsewhere, and whose node has died is gone in time.

use std::collections::{BTreeMap, BTreeSet};

use roomcast_protocol::ids::SessionId;
use roomcast_protocol::position::Epoch;
use roomcast_protocol::presence::{PresenceDiff, ROSTER_PAGE_MAX};
use roomcast_protocol::room::RoomName;
use roomcast_router::messages::HubMessage;
use roomcast_store::At;

use super::Book;
use crate::people;
use crate::rules::name_of;
use crate::world::{HEAL_MS, World};

/// How long a lane must have said that somebody is there, with nothing wrong at its node, until nobody says otherwise.
/// Units: milliseconds.
const ELSEWHERE_MS: u64 = 12_000;

/// How long whoever is gone may be told of as present. Units: milliseconds. Source: G18, and what a run's beats and
/// commands may take on their way.
const GHOST_MS: u64 = 10_000 + 1_500;

/// When the last fault that strikes all is over, and its effects. Units: milliseconds.
const CALM_MS: u64 = HEAL_MS + 10_000;

/// What was told of one room in one epoch.
#[derive(Debug)]
struct Run {
    offset: u64,
    count: u64,
    /// Those of whom anything was told: whether they are there.
    users: BTreeMap<Box<str>, bool>,
}

/// Whom a node's lanes say to be in rooms, since when, and by which attachment of the session.
type Said = BTreeMap<(RoomName, SessionId), (Box<str>, u64, u64)>;

/// What is known of presence.
#[derive(Debug, Default)]
pub(crate) struct People {
    runs: BTreeMap<(RoomName, Epoch), Run>,
    /// By node.
    said: BTreeMap<usize, Said>,
    /// When somebody's session in a room ended last.
    gone_ms: BTreeMap<(RoomName, Box<str>), u64>,
    /// Which attachment of a session spoke of itself last: a node that has not heard of it speaks for a former one.
    newest: BTreeMap<SessionId, u64>,
}

impl People {
    /// A node is gone, and everybody on it.
    pub(crate) fn node_gone(&mut self, node: usize, now_ms: u64) {
        for ((room, _), (user, _, _)) in self.said.remove(&node).unwrap_or_default() {
            self.gone_ms.insert((room, user), now_ms);
        }
    }

    fn is_said(&self, room: &RoomName, user: &str) -> bool {
        let own =
            |said: &Said| said.iter().any(|((it, _), (who, _, _))| it == room && **who == *user);
        self.said.values().any(own)
    }
}

impl Book {
    /// G18, G19: what a server tells follows from what was told before in that epoch.
    fn check_run(&mut self, diff: &PresenceDiff) {
        let PresenceDiff { room, version, count, joined, left } = diff;
        let about = [room.to_string()];
        let new = !self.people.runs.contains_key(&(room.clone(), version.epoch));
        let run = self.people.runs.entry((room.clone(), version.epoch)).or_insert_with(|| Run {
            offset: version.offset - 1,
            count: *count + left.len() as u64 - joined.len() as u64,
            users: BTreeMap::new(),
        });
        let follows = run.offset + 1 == version.offset;
        let counts = run.count + joined.len() as u64 == count + left.len() as u64;
        let came = joined.iter().find(|user| run.users.get(*user) == Some(&true));
        let went = left.iter().find(|user| run.users.get(*user) == Some(&false));
        let both = joined.iter().find(|user| left.contains(user));
        let fault = match (follows && counts, came, went, both) {
            (false, ..) => Some(format!("behind version {} with {} users", run.offset, run.count)),
            (_, Some(user), ..) => Some(format!("{user} was there")),
            (_, _, Some(user), _) => Some(format!("{user} was not there")),
            (.., Some(user)) => Some(format!("{user} did both")),
            (true, None, None, None) => None,
        };
        (run.offset, run.count) = (version.offset, *count);
        run.users.extend(joined.iter().map(|user| (user.clone(), true)));
        run.users.extend(left.iter().map(|user| (user.clone(), false)));
        if let Some(fault) = fault.filter(|_| !new) {
            self.violate("G18/G19", &about, || format!("{diff:?}, but {fault}"));
        }
    }
}

impl World {
    /// A lane says that somebody came or left.
    pub(crate) fn note_said(&mut self, node: usize, message: &HubMessage) {
        let HubMessage::Presence { room, change } = message else { return };
        self.trace.line(self.now_ms, || format!("lane of node {node} says {change:?} of {room}"));
        let newest = self.book.people.newest.entry(change.session).or_default();
        *newest = change.generation.max(*newest);
        let said = self.book.people.said.entry(node).or_default();
        let key = (room.clone(), change.session);
        if change.present {
            let since = (change.user.clone(), self.now_ms, change.generation);
            let it = said.entry(key).or_insert(since);
            it.2 = it.2.max(change.generation);
        } else if said.get(&key).is_some_and(|it| it.2 <= change.generation) {
            // A former connection's word counts no more.
            said.remove(&key);
            let gone = (room.clone(), change.user.clone());
            self.book.people.gone_ms.insert(gone, self.now_ms);
        }
    }

    /// A server tells who came and who left.
    pub(crate) fn check_diff(&mut self, server: usize, diff: &PresenceDiff) {
        self.stats.presence_diffs += 1;
        self.trace.line(self.now_ms, || format!("server {server} tells {diff:?}"));
        self.trace.see(diff.version.offset ^ diff.count << 32);
        self.book.check_run(diff);
        self.note_agents(server, diff);
        if !self.bus.is_current(server) {
            return;
        }
        for user in &diff.left {
            let elsewhere = self.book.people.said.iter().find_map(|(node, said)| {
                let calm_ms = self.nodes[*node].troubled_ms + ELSEWHERE_MS;
                let there = |((room, session), (who, since, generation)): (
                    &(RoomName, SessionId),
                    &(Box<str>, u64, u64),
                )| {
                    let newest = self.book.people.newest.get(session);
                    *room == diff.room
                        && who == user
                        && newest <= Some(generation)
                        && since + ELSEWHERE_MS < self.now_ms
                        && calm_ms < self.now_ms
                };
                said.iter().any(there).then_some(*node)
            });
            if let Some(node) = elsewhere {
                let about = [diff.room.to_string(), user.to_string()];
                self.book.violate("G18/G19", &about, || {
                    format!("{user} is told to have left {}, and is on node {node}", diff.room)
                });
            }
        }
    }

    fn roster_of(&self, server: usize, name: &RoomName) -> Vec<Box<str>> {
        let it = &self.bus.servers[server];
        let at = At { now_ms: it.time_ms(self.now_ms), fresh: Epoch(u128::MAX) };
        let store = &it.data.stores[usize::from(crate::bus::partition_of(name))];
        store.clone().roster(at, name, None, ROSTER_PAGE_MAX).users
    }

    /// G19, at a beat: whoever is gone for long, by himself or with his node, is not there any more.
    pub(crate) fn check_ghosts(&mut self, server: usize) {
        if self.now_ms < CALM_MS || !self.bus.is_current(server) {
            return;
        }
        for room in people::rooms() {
            let name = RoomName::parse(&name_of(room)).expect("the rules name rooms");
            if self.is_moved(server, &name) {
                continue;
            }
            for user in self.roster_of(server, &name) {
                let people = &self.book.people;
                let gone_ms = people.gone_ms.get(&(name.clone(), user.clone())).copied();
                let due_ms = gone_ms.unwrap_or(0).max(CALM_MS - 8_000) + GHOST_MS;
                if self.now_ms > due_ms && !people.is_said(&name, &user) {
                    let now_ms = self.now_ms;
                    let about = [name.to_string(), user.to_string()];
                    return self.book.violate("G19", &about, || {
                        format!("{user} is in {name} at {now_ms} ms, gone since {gone_ms:?}")
                    });
                }
            }
        }
    }

    /// G18: what the room's master knows at the end is who is there.
    pub(crate) fn check_roster(&mut self, name: &RoomName, users: &BTreeSet<String>) {
        let server = self.bus.masters[self.bus.shard_of(name)];
        let known = self.roster_of(server, name);
        if !known.iter().map(|user| &**user).eq(users.iter().map(String::as_str)) {
            let about = [name.to_string()];
            self.book.violate("G18", &about, || {
                format!("server {server} takes {known:?} to be in {name}, where {users:?} are")
            });
        }
    }
}
