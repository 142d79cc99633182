//! Who is in rooms, as clients know it (G18): whoever comes into a room that tells of its members asks who is there, and
//! follows what is told from then on. And what happens to the people of a run beside the faults of all runs: nodes that
//! are away for longer than their lease, presence that a server loses, a node that dies while all else is calm.

use std::collections::{BTreeMap, BTreeSet};

use roomcast_protocol::position::Position;
use roomcast_protocol::presence::{AGENTS, PresenceMode};
use roomcast_protocol::room::RoomName;
use roomcast_store::Keys;
use serde::Deserialize;

use crate::clients::Request;
use crate::node::LANES;
use crate::rules::{ROOMS, name_of, room_index, rule};
use crate::wire::{self, Wire};
use crate::world::{Event, HEAL_MS, NODES, World};

/// Users of a roster where that is to bite.
const FEW: u32 = 12;

/// What a room tells of its members, and of how many users at most.
pub(crate) fn presence_of(name: &str) -> (PresenceMode, u32) {
    match name {
        "loose" | "plain" | "secret" | "rare" => (PresenceMode::Members, 1_000),
        "wide" => (PresenceMode::Members, FEW),
        "busy" | "short" => (PresenceMode::Count, 1_000),
        _ => (PresenceMode::Off, 1_000),
    }
}

/// Rooms that tell of their members.
pub(crate) fn rooms() -> impl Iterator<Item = usize> {
    (0..ROOMS.len()).filter(|room| presence_of(ROOMS[*room].name).0 != PresenceMode::Off)
}

/// Users of a page of a roster, where clients ask for small ones.
const PAGE: u32 = 4;

/// How long a node is away that is away for longer than its lease. Units: milliseconds.
const AWAY_MS: (u64, u64) = (9_000, 13_000);

/// How long an outage takes in which short windows of sessions end as well, also of those with a connection. Units:
/// milliseconds.
const LONG_MS: (u64, u64) = (9_000, 18_000);

/// Sessions that servers forget in a run.
const LAPSES: u64 = 10;

/// When a node is killed while all else is calm. Units: milliseconds.
const CALM_MS: u64 = HEAL_MS + 13_000;

/// How long some of its clients stay away then. Units: milliseconds.
pub(crate) const GONE_MS: u64 = 13_500;

/// What happens to the people of a run.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Turn {
    /// A node stops for longer than its lease.
    Stop,
    /// A node's commands go nowhere for longer than its lease.
    Cut,
    /// The same, and it hears nothing either.
    Part,
    /// All servers are frozen for longer than all leases.
    Freeze,
    /// A server forgets who is in a room.
    Forget,
    /// A server forgets a session.
    Lapse,
    /// A node is killed, and some of its clients do not come back for a while.
    Kill,
    /// A client acks something.
    Ack { socket: usize, number: usize },
}

/// Who is in one room, as a client knows it.
#[derive(Debug, Default)]
pub(crate) struct View {
    /// The question that it has no answer to.
    request: Option<u64>,
    /// It was in the room when it asked, and not only about to be.
    is_in: bool,
    /// How many users it asks for at once.
    page: Option<u32>,
    /// As of which version; of several pages, the first one's.
    version: Option<Position>,
    /// All is right from this version on: that of the last page.
    whole_at: Option<Position>,
    /// `None`: only their number is known.
    pub(crate) users: Option<BTreeSet<String>>,
    pub(crate) count: u64,
    /// The roster is known.
    pub(crate) known: bool,
    /// What came before that.
    held: Vec<Told>,
}

/// Who came and who left, as a client is told.
#[derive(Clone, Debug)]
struct Told {
    version: Position,
    count: u64,
    /// `None`: only their number is told.
    users: Option<(Vec<String>, Vec<String>)>,
}

/// What stands in `data` of what is told about presence.
#[derive(Debug, Deserialize)]
struct Data {
    room: String,
    count: u64,
    joined: Option<Vec<String>>,
    left: Option<Vec<String>>,
    users: Option<Vec<String>>,
    next: Option<String>,
}

impl View {
    /// Whether it has this already.
    fn has(&self, version: Position) -> bool {
        self.version.is_some_and(|at| at.epoch == version.epoch && at.offset >= version.offset)
    }

    /// Takes what is told over; `Err`: that does not fit.
    fn take(&mut self, told: &Told) -> Result<(), String> {
        // Whoever has a number alone takes the list of the same version, if it is whole: a change that was told before the
        // number, and comes behind it, is none.
        let is_whole = |(joined, left): &(Vec<String>, Vec<String>)| {
            left.is_empty() && joined.len() as u64 == told.count
        };
        let lists = self.users.is_none() && told.users.as_ref().is_some_and(is_whole);
        if self.has(told.version) && !(lists && self.version == Some(told.version)) {
            return Ok(());
        }
        let at = self.version.map_or(0, |at| at.offset);
        let strict = self.whole_at.is_none_or(|whole| whole.offset <= at);
        let users = std::mem::take(&mut self.users);
        self.version = Some(told.version);
        self.count = told.count;
        let Some((joined, left)) = &told.users else { return Ok(()) };
        let anew = users.is_none();
        let mut users = users.unwrap_or_default();
        for user in left {
            if !users.remove(user) && strict {
                return Err(format!("{user} left, who was not there"));
            }
        }
        for user in joined {
            if !users.insert(user.clone()) && strict {
                return Err(format!("{user} came, who was there"));
            }
        }
        if strict && users.len() as u64 != told.count {
            let word = if anew { "of a number" } else { "of a roster" };
            return Err(format!("{users:?} are not {}, {word}", told.count));
        }
        self.users = Some(users);
        Ok(())
    }
}

impl World {
    /// What happens to people, and when.
    pub(crate) fn begin_people(&mut self, begin_ms: u64) {
        for turn in [Turn::Stop, Turn::Cut, Turn::Forget, Turn::Forget] {
            if self.random.chance(2) {
                let at = self.random.range(begin_ms, HEAL_MS - 16_000);
                self.at(at, Event::People(turn));
            }
        }
        for _ in 0..LAPSES {
            let at = self.random.range(begin_ms, HEAL_MS);
            self.at(at, Event::People(Turn::Lapse));
        }
        for turn in [Turn::Part, Turn::Freeze] {
            if self.random.chance(4) {
                let at = self.random.range(begin_ms, HEAL_MS - 20_000);
                self.at(at, Event::People(turn));
            }
        }
        self.at(CALM_MS, Event::People(Turn::Kill));
    }

    pub(crate) fn people_turn(&mut self, turn: Turn) {
        if let Turn::Ack { socket, number } = turn {
            return self.send_ack(socket, number);
        }
        let node = self.random.index(NODES);
        let (least_ms, most_ms) = match turn {
            Turn::Part | Turn::Freeze => LONG_MS,
            Turn::Stop | Turn::Cut | Turn::Forget | Turn::Lapse | Turn::Kill | Turn::Ack { .. } => {
                AWAY_MS
            }
        };
        let until = self.now_ms + self.random.range(least_ms, most_ms);
        self.trace.line(self.now_ms, || format!("FAULT {turn:?} (node {node})"));
        match turn {
            Turn::Stop => {
                let it = &mut self.nodes[node];
                it.core.stalled_until_ms = it.core.stalled_until_ms.max(until);
                for lane in 0..LANES {
                    let actor = &mut it.lanes[lane];
                    actor.stalled_until_ms = actor.stalled_until_ms.max(until);
                }
                it.troubled_ms = it.troubled_ms.max(until);
                *self.stats.faults.entry("node stopped for long").or_default() += 1;
            }
            Turn::Cut => {
                self.cut_commands(node, until);
                *self.stats.faults.entry("commands away for long").or_default() += 1;
            }
            Turn::Part => {
                self.cut_commands(node, until);
                let feed = &mut self.nodes[node].broker.feed;
                feed.cut_until_ms = feed.cut_until_ms.max(until);
                feed.links.iter_mut().for_each(|link| link.silent = true);
                *self.stats.faults.entry("node cut off for long").or_default() += 1;
            }
            Turn::Freeze => {
                for server in self.bus.masters.clone() {
                    let it = &mut self.bus.servers[server];
                    it.frozen_until_ms = it.frozen_until_ms.max(until);
                }
                self.nodes.iter_mut().for_each(|it| it.troubled_ms = it.troubled_ms.max(until));
                *self.stats.faults.entry("Redis frozen for long").or_default() += 1;
            }
            Turn::Forget => self.forget_presence(),
            Turn::Lapse => self.forget_session(),
            Turn::Kill => self.kill_in_calm(node),
            Turn::Ack { .. } => {}
        }
    }

    /// A node's commands go nowhere.
    fn cut_commands(&mut self, node: usize, until_ms: u64) {
        let it = &mut self.nodes[node];
        for road in &mut it.broker.roads {
            road.silent_until_ms = road.silent_until_ms.max(until_ms);
        }
        it.troubled_ms = it.troubled_ms.max(until_ms);
    }

    fn forget_presence(&mut self) {
        let parsed = |room| RoomName::parse(&name_of(room)).expect("the rules name rooms");
        let mut names: Vec<_> = rooms().map(parsed).collect();
        names.extend(RoomName::system(AGENTS));
        let name = names.swap_remove(self.random.index(names.len()));
        let server = self.bus.masters[self.bus.shard_of(&name)];
        if self.random.chance(4) {
            self.bus.servers[server].data.lives.lose_leases();
            *self.stats.faults.entry("leases lost").or_default() += 1;
            return;
        }
        self.bus.servers[server].data.store(&name).lose(&name, Keys::Presence);
        self.book.occupancy_lost(name);
        *self.stats.faults.entry("presence lost").or_default() += 1;
    }

    fn kill_in_calm(&mut self, node: usize) {
        for client in (0..self.clients.len()).step_by(2) {
            let socket = self.clients[client].socket.map(|socket| &self.sockets[socket]);
            if socket.is_some_and(|it| it.node == node) {
                self.clients[client].away_until_ms = self.now_ms + GONE_MS;
                self.stats.stayed_away += 1;
            }
        }
        self.crash(node);
    }

    /// A client came into a room: it asks who is there.
    pub(crate) fn begin_view(&mut self, client: usize, room: usize) {
        if presence_of(&name_of(room)).0 == PresenceMode::Off {
            return;
        }
        let page = self.random.chance(3).then_some(PAGE);
        self.clients[client].views.insert(room, View { page, ..View::default() });
        self.ask_view(client, room, None);
    }

    fn ask_view(&mut self, client: usize, room: usize, after: Option<&str>) {
        let number = self.request(client, Request::Presence);
        let is_in = self.clients[client].stays.get(&room).is_some_and(|stay| stay.live);
        let Some(view) = self.clients[client].views.get_mut(&room) else { return };
        if after.is_none() {
            *view = View { page: view.page, is_in, ..View::default() };
        }
        view.request = Some(number);
        let text = wire::presence(number, &name_of(room), after, view.page);
        self.say(client, text);
    }

    /// Questions that were refused, and what does not fit any more, are asked anew.
    pub(crate) fn ask_views_again(&mut self, client: usize) {
        let it = &self.clients[client];
        if !it.ready {
            return;
        }
        let open =
            |view: &View| view.request.is_some_and(|number| it.requests.contains_key(&number));
        let again = it
            .views
            .iter()
            .filter(|(room, view)| it.stays.contains_key(room) && !view.known && !open(view));
        for room in again.map(|(room, _)| *room).collect::<Vec<_>>() {
            self.ask_view(client, room, None);
        }
    }

    /// A client is told who is in a room, or who came and left.
    pub(crate) fn told_presence(&mut self, client: usize, wire: &Wire<'_>) {
        let about = [format!("c{client}")];
        let data: Data = match wire.read_data() {
            Ok(data) => data,
            Err(cause) => return self.book.violate("wire", &about, || cause),
        };
        let (Some(room), Some(version)) = (room_index(&data.room), wire.position()) else { return };
        let Some(stay) = self.clients[client].stays.get(&room) else { return };
        // Its position is to follow, and with it the roster is read again.
        let is_about_to_be_in = !stay.live && stay.at.is_none() && rule(room).keep.is_some();
        let number = wire.metadata.correlation_id.as_deref();
        let number = number.and_then(|id| id.strip_prefix('r')).and_then(|id| id.parse().ok());
        if let Some(number) = number {
            self.clients[client].requests.remove(&number);
            return self.told_roster(client, room, (number, version), data);
        }
        self.stats.presence_told += 1;
        if is_about_to_be_in {
            return;
        }
        let users = data.joined.zip(data.left);
        let told = Told { version, count: data.count, users };
        let Some(view) = self.clients[client].views.get_mut(&room) else { return };
        if !view.known {
            return view.held.push(told);
        }
        self.take_told(client, room, &told);
    }

    fn take_told(&mut self, client: usize, room: usize, told: &Told) {
        let Some(view) = self.clients[client].views.get_mut(&room) else { return };
        let before = view.version;
        // What is of another epoch may be older than what is known: who is there is asked anew.
        if before.is_some_and(|at| at.epoch != told.version.epoch) {
            view.known = false;
            return self.ask_view(client, room, None);
        }
        if let Err(cause) = view.take(told) {
            let about = [format!("c{client}"), name_of(room)];
            self.book.violate("G18", &about, || {
                let name = name_of(room);
                format!("c{client} knew {name} as of {before:?}, and is told {told:?}: {cause}")
            });
        }
    }

    fn told_roster(
        &mut self,
        client: usize,
        room: usize,
        (number, version): (u64, Position),
        data: Data,
    ) {
        let own = self.clients[client].user.clone();
        let Some(view) = self.clients[client].views.get_mut(&room) else { return };
        if view.request != Some(number) {
            return;
        }
        self.stats.rosters += 1;
        view.request = None;
        let first = *view.version.get_or_insert(version);
        view.whole_at = Some(version);
        view.count = data.count;
        if first.epoch != version.epoch {
            return self.ask_view(client, room, None);
        }
        match data.users {
            Some(users) => view.users.get_or_insert_default().extend(users),
            None => view.users = None,
        }
        if let Some(next) = data.next {
            return self.ask_view(client, room, Some(&next));
        }
        view.known = true;
        let one_page = first == version;
        if one_page && view.users.as_ref().is_some_and(|users| users.len() as u64 != data.count) {
            let (users, count) = (view.users.clone(), data.count);
            let about = [format!("c{client}"), name_of(room)];
            return self.book.violate("G18", &about, || {
                format!("c{client} is told that {count} are in {}: {users:?}", name_of(room))
            });
        }
        if view.is_in && one_page && view.users.as_ref().is_some_and(|users| !users.contains(&own))
        {
            let (users, about) = (view.users.clone(), [format!("c{client}"), name_of(room)]);
            return self.book.violate("G18", &about, || {
                format!("c{client} is in {}, and is told that only {users:?} are", name_of(room))
            });
        }
        let mut held = std::mem::take(&mut view.held);
        held.retain(|told| told.version.epoch == version.epoch);
        if view.users.is_none() {
            // A list begins with what comes behind the number, and all of this came before.
            view.version = Some(version);
            held.retain(|told| told.version.offset > version.offset);
        }
        held.sort_by_key(|told| told.version.offset);
        for told in held {
            self.take_told(client, room, &told);
        }
    }

    /// G18: what members know at the end is who is there.
    pub(crate) fn check_views(&mut self) {
        let mut there: BTreeMap<usize, BTreeSet<String>> = BTreeMap::new();
        for client in &self.clients {
            for room in client.stays.keys() {
                there.entry(*room).or_default().insert(client.user.clone());
            }
        }
        for room in rooms() {
            let users = there.remove(&room).unwrap_or_default();
            let name = RoomName::parse(&name_of(room)).expect("the rules name rooms");
            self.check_roster(&name, &users);
            for client in 0..self.clients.len() {
                self.check_view(client, room, &users);
            }
        }
    }

    fn check_view(&mut self, client: usize, room: usize, users: &BTreeSet<String>) {
        let it = &self.clients[client];
        if !it.stays.contains_key(&room) {
            return;
        }
        let Some(view) = it.views.get(&room) else { return };
        let (mode, max) = presence_of(&name_of(room));
        let lists = mode == PresenceMode::Members && users.len() as u32 <= max - max / 10;
        let same = view.known
            && view.count == users.len() as u64
            && view.users.as_ref().is_none_or(|it| it == users)
            && (view.users.is_some() || !lists);
        if !same {
            let about = [format!("c{client}"), name_of(room)];
            let text = format!(
                "c{client} takes {:?} ({}, known: {}, as of {:?}) to be in {}, where {users:?} are",
                view.users,
                view.count,
                view.known,
                view.version,
                name_of(room)
            );
            self.book.violate("G18", &about, || text);
        }
    }
}
