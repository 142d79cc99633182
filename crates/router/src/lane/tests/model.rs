//! Random steps against reference models that are too simple to be wrong: everyone hears exactly what was accepted
//! while a member, once and in order.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use roomcast_protocol::command::Command;
use roomcast_protocol::dialect::{Encoding, Format};
use roomcast_protocol::envelope::{Accepted, BrokerCommand, BrokerEvent, Envelope};
use roomcast_protocol::ids::{LaneId, NodeId, SessionId, SessionKey};
use roomcast_protocol::limits::SessionLimits;
use roomcast_protocol::position::{Direction, Epoch, Head, Kept, Page, Position};
use roomcast_protocol::publication::Publication;
use roomcast_protocol::room::RoomName;
use roomcast_protocol::time::Now;

use super::frames::{OWN, PLAIN, Table, texts};
use super::happenings::Turns;
use super::{World, command, walk};
use crate::happenings::Wanted;
use crate::hub::{Hub, HubConfig};
use crate::lane::{Lane, LaneConfig, Opening, Sizes, Space};
use crate::messages::{Effect, HubEffect, HubMessage, LaneMessage, Ticket};
use crate::meter::Users;
use crate::random::Random;

const ROOMS: [&str; 4] = ["news-1", "news-2", "urgent", "slow"];

#[derive(Clone, Copy, PartialEq)]
enum Place {
    Waiting,
    Member,
}

/// What one session should hear, and what it has heard.
#[derive(Default)]
struct Ears {
    permission: bool,
    /// A back-end says where it may be.
    asking: bool,
    /// Rooms of a request that it has not answered.
    asked_for: BTreeSet<&'static str>,
    places: BTreeMap<&'static str, Place>,
    /// Rooms of a request for several that is not answered yet.
    group: BTreeSet<&'static str>,
    told_in: BTreeSet<String>,
    expected: BTreeMap<&'static str, Vec<String>>,
    heard: BTreeMap<String, Vec<String>>,
}

impl Ears {
    fn hear(&mut self, text: &str) {
        let text = ["mz ", "z ", "m "].iter().find_map(|it| text.strip_prefix(it)).unwrap_or(text);
        let (word, rest) = text.split_once(' ').unwrap();
        match word {
            "welcome" | "refreshed" => {}
            "none" => assert!(self.asking && self.group.is_empty(), "{text}"),
            "joined" => {
                self.told_in.insert(rest.into());
            }
            "left" => {
                self.told_in.remove(rest);
                self.compare(rest);
            }
            "all" => {
                let rooms = rest.strip_prefix("joined ").unwrap();
                assert_eq!(
                    rooms.split(',').collect::<BTreeSet<_>>(),
                    std::mem::take(&mut self.group)
                );
                self.told_in.extend(rooms.split(',').map(Into::into));
            }
            room => {
                let told = self.told_in.contains(room) || self.group.contains(room);
                assert!(told, "a push before the join's reply: {text}");
                self.heard.entry(room.into()).or_default().push(rest.into());
            }
        }
    }

    fn compare(&self, room: &str) {
        let expected = self.expected.get(room).cloned().unwrap_or_default();
        assert_eq!(self.heard.get(room).cloned().unwrap_or_default(), expected, "in {room}");
    }
}

/// One lane under a script of random lines, with a model of who hears what.
struct LaneModel {
    world: World,
    ears: BTreeMap<u32, Ears>,
    /// Rooms the lane has asked for and not yet given up; whether they are live.
    asked: BTreeMap<&'static str, bool>,
    published: u64,
    turns: Turns,
    /// All that was seen.
    trace: Vec<String>,
}

impl LaneModel {
    fn new() -> Self {
        let script = "limits messages=1000000 controls=1000000 connections=1000000\ntells";
        let mut world = World::new(script);
        world.manual = true;
        Self {
            world,
            ears: BTreeMap::new(),
            asked: BTreeMap::new(),
            published: 0,
            turns: Turns::default(),
            trace: Vec::new(),
        }
    }

    fn step(&mut self, line: &str) {
        self.world.step(line);
        self.world.walk();
        self.trace.extend_from_slice(&self.world.seen);
        for seen in std::mem::take(&mut self.world.seen) {
            if self.turns.see(&seen) {
                continue;
            }
            let Some((number, texts)) = seen.split_once(": ") else { continue };
            let texts = texts.trim_end_matches(" !high").trim_end_matches(" !low");
            let ears = self.ears.get_mut(&number.parse::<u32>().unwrap()).unwrap();
            texts.split(" + ").for_each(|text| ears.hear(text));
        }
        for ears in self.ears.values() {
            let waits = |room: &&str| ears.places.get(*room) == Some(&Place::Waiting);
            assert_eq!(ears.group.is_empty(), !ears.group.iter().any(waits), "answered in time");
        }
        // A live room ends with its last member.
        let ears = &self.ears;
        self.asked
            .retain(|room, live| !*live || ears.values().any(|it| it.places.contains_key(room)));
    }

    fn random_step(&mut self, random: &mut Random) {
        // What a session sends behind a request for several rooms waits for it.
        let free = |(_, ears): &(&u32, &Ears)| ears.group.is_empty() && ears.asked_for.is_empty();
        let numbers: Vec<_> = self.ears.iter().filter(free).map(|(number, _)| *number).collect();
        let room = random.pick(&ROOMS);
        match random.below(if numbers.is_empty() { 1 } else { 20 }) {
            0 | 1 => self.open(random),
            2..=5 => self.join(random.pick(&numbers), room),
            6 => {
                let number = random.pick(&numbers);
                self.ears.get_mut(&number).unwrap().places.remove(room);
                self.step(&format!("{number} leaves {room}"));
            }
            7 => {
                let number = random.pick(&numbers);
                let ears = self.ears.remove(&number).unwrap();
                for (room, heard) in &ears.heard {
                    assert!(ears.expected[&**room].starts_with(heard), "{heard:?} in {room}");
                }
                self.step(&format!("{number} gone"));
            }
            8 => {
                let number = random.pick(&numbers);
                let right = if self.ears[&number].permission { "+x" } else { "" };
                self.step(&format!("{number} token u{right} compressed"));
            }
            9 | 10 => {
                let asked: Vec<_> = self.asked.iter().filter(|(_, live)| !**live).collect();
                if let Some(room) = asked.first().map(|(room, _)| **room) {
                    self.asked.insert(room, true);
                    for ears in self.ears.values_mut() {
                        ears.places.entry(room).and_modify(|place| *place = Place::Member);
                    }
                    self.step(&format!("hub joined {room}"));
                }
            }
            11..=13 => self.publish(random, room),
            14 => self.join_several(random.pick(&numbers), random),
            15..=17 => self.answer_one(random),
            _ => self.step(&format!("serve {}", 1 + random.below(5))),
        }
    }

    fn open(&mut self, random: &mut Random) {
        let number = 1 + u32::try_from(random.below(12)).unwrap();
        if self.ears.contains_key(&number) {
            return;
        }
        let permission = random.chance(2);
        let right = if permission { "+x" } else { "" };
        let format = random.pick(&["", " msgpack", " deflated"]);
        let asking = random.chance(3);
        let dialect = if asking { " asking" } else { "" };
        self.ears.insert(number, Ears { permission, asking, ..Ears::default() });
        self.step(&format!("{number} opens{dialect}{format} as u{right}"));
    }

    fn join(&mut self, number: u32, room: &'static str) {
        if self.ears[&number].asking {
            return self.join_all(number, BTreeSet::from([room]));
        }
        let live = *self.asked.entry(room).or_insert(false);
        let place = if live { Place::Member } else { Place::Waiting };
        self.ears.get_mut(&number).unwrap().places.insert(room, place);
        self.step(&format!("{number} joins {room}"));
    }

    fn join_several(&mut self, number: u32, random: &mut Random) {
        let rooms = (0..1 + random.below(4)).map(|_| random.pick(&ROOMS)).collect();
        self.join_all(number, rooms);
    }

    fn join_all(&mut self, number: u32, rooms: BTreeSet<&'static str>) {
        let names = rooms.iter().copied().collect::<Vec<_>>().join(",");
        let ears = self.ears.get_mut(&number).unwrap();
        if ears.asking {
            ears.asked_for = rooms;
        } else {
            self.expect_all(number, rooms);
        }
        self.step(&format!("{number} all joins {names}"));
    }

    /// The session will be in all of them, at once or when they are live.
    fn expect_all(&mut self, number: u32, rooms: BTreeSet<&'static str>) {
        let ears = self.ears.get_mut(&number).unwrap();
        for room in &rooms {
            let live = *self.asked.entry(room).or_insert(false);
            let place = if live { Place::Member } else { Place::Waiting };
            ears.places.insert(room, place);
        }
        ears.group = rooms;
    }

    /// A back-end answers for a session that waits for it, or that is gone.
    fn answer_one(&mut self, random: &mut Random) {
        let waits = |(_, ears): &(&u32, &Ears)| !ears.asked_for.is_empty();
        let numbers: Vec<_> = self.ears.iter().filter(waits).map(|(number, _)| *number).collect();
        if numbers.is_empty() {
            return;
        }
        let number = random.pick(&numbers);
        let rooms = std::mem::take(&mut self.ears.get_mut(&number).unwrap().asked_for);
        match random.below(4) {
            0 => {
                self.ears.remove(&number);
                self.step(&format!("{number} gone"));
                self.step(&format!("hub permits {number}"));
            }
            1 => self.step(&format!("hub denies {number}")),
            _ => {
                self.expect_all(number, rooms);
                self.step(&format!("hub permits {number}"));
            }
        }
    }

    fn publish(&mut self, random: &mut Random, room: &'static str) {
        self.published += 1;
        let id = self.published.to_string();
        let requires = random.chance(4);
        for ears in self.ears.values_mut() {
            if ears.places.get(room) == Some(&Place::Member) && (ears.permission || !requires) {
                ears.expected.entry(room).or_default().push(id.clone());
            }
        }
        let class = random.pick(&["", "", "", " class=high", " class=low"]);
        let requires = if requires { " requires=x" } else { "" };
        self.step(&format!("hub {room} {id}{class}{requires}"));
    }
}

#[test]
fn everyone_hears_exactly_what_was_accepted_while_a_member() {
    let (mut published, mut came) = (0, 0);
    for seed in 0..400 {
        let mut random = Random(seed);
        let mut model = LaneModel::new();
        for _ in 0..250 {
            model.random_step(&mut random);
        }
        model.step("serve");
        for ears in model.ears.values() {
            ROOMS.iter().for_each(|room| ears.compare(room));
        }
        for number in model.ears.keys().copied().collect::<Vec<_>>() {
            model.step(&format!("{number} gone"));
        }
        for room in ROOMS {
            model.step(&format!("hub joined {room}"));
        }
        assert_eq!(model.world.lane.sizes(), Sizes::default(), "seed {seed}");
        came += model.turns.all_over();
        assert_eq!(model.world.lane.backlog_bytes(), 0, "seed {seed}");
        published += model.published;
    }
    assert!(published > 10_000 && came > 2_000, "{published} and {came}");
}

#[test]
fn the_same_steps_in_the_same_order_have_the_same_effects() {
    for seed in 0..40 {
        let run = || {
            let (mut random, mut model) = (Random(seed), LaneModel::new());
            (0..250).for_each(|_| model.random_step(&mut random));
            model.trace
        };
        let first = run();
        assert!(first.len() > 50, "seed {seed}");
        assert_eq!(first, run(), "seed {seed}");
    }
}

/// One stay of a session in a room: what it was told and what it heard, as places in the room's log.
#[derive(Default)]
struct Stay {
    /// Length of the log when the join was answered; where it keeps publications, what the answer said.
    from: usize,
    heard: Vec<usize>,
    over: bool,
}

struct Listener {
    lane: usize,
    key: SessionKey,
    stays: BTreeMap<String, Vec<Stay>>,
}

/// Lanes, hub and an exact broker, with a queue between each two of them that moves when chance says so.
struct Node {
    now: Now,
    lanes: Vec<Lane>,
    hub: Hub,
    to_hub: Vec<VecDeque<HubMessage>>,
    to_lane: Vec<VecDeque<LaneMessage>>,
    to_broker: VecDeque<BrokerCommand<Ticket>>,
    from_broker: VecDeque<BrokerEvent<Ticket>>,
    interest: BTreeMap<RoomName, u32>,
    log: BTreeMap<String, Vec<String>>,
    /// The same of rooms that keep their publications.
    kept: BTreeMap<String, Vec<Arc<Publication>>>,
    recovered: usize,
    listeners: BTreeMap<u32, Listener>,
    opened: u32,
    published: u64,
}

impl Node {
    fn new(lanes: usize) -> Self {
        let users = Arc::new(Users::new(1));
        let lane = |index: usize| {
            Lane::new(LaneConfig {
                id: LaneId(u8::try_from(index).unwrap()),
                guard: Arc::new(Table::default()),
                limits: SessionLimits { connections_per_user: 1_000, ..SessionLimits::default() },
                users: Arc::clone(&users),
                seed: 1,
                secrets: super::counted(),
                wanted: Wanted::default(),
            })
        };
        let config = HubConfig {
            linger_ms: 50,
            leave_grace_ms: 50,
            id: NodeId(1),
            node: "node".into(),
            seed: 1,
            answer_bytes_max: 1 << 10,
            lanes: u8::try_from(lanes).unwrap(),
            watched: false,
            occupancy: false,
            write_list: None,
        };
        Self {
            now: Now::default(),
            lanes: (0..lanes).map(lane).collect(),
            hub: Hub::new(config, Arc::new(Table::default())),
            to_hub: (0..lanes).map(|_| VecDeque::new()).collect(),
            to_lane: (0..lanes).map(|_| VecDeque::new()).collect(),
            to_broker: VecDeque::new(),
            from_broker: VecDeque::new(),
            interest: BTreeMap::new(),
            log: BTreeMap::new(),
            kept: BTreeMap::new(),
            recovered: 0,
            listeners: BTreeMap::new(),
            opened: 0,
            published: 0,
        }
    }

    fn lane(&mut self, index: usize, act: impl FnOnce(&mut Lane, Now, &mut Vec<Effect>)) {
        let mut out = Vec::new();
        act(&mut self.lanes[index], self.now, &mut out);
        while !out.is_empty() {
            for effect in std::mem::take(&mut out) {
                match effect {
                    Effect::Send { to, frame, .. } => self.hear(index, to, &frame),
                    Effect::Hub(message) => self.to_hub[index].push_back(message),
                    Effect::Ready { to } => {
                        let found = |it: &&Listener| it.lane == index && it.key.index == to;
                        if let Some(key) = self.listeners.values().find(found).map(|it| it.key) {
                            for command in self.lanes[index].take_early(key) {
                                self.lanes[index].command(self.now, key, command, &mut out);
                            }
                        }
                    }
                    Effect::Await { to, .. } => {
                        let found = |it: &&Listener| it.lane == index && it.key.index == to;
                        if let Some(key) = self.listeners.values().find(found).map(|it| it.key) {
                            let space = Space { bytes: usize::MAX, empty: true };
                            self.lanes[index].relieved(self.now, key, space, &mut out);
                        }
                    }
                    Effect::Ping { .. }
                    | Effect::Close { .. }
                    | Effect::Silent { .. }
                    | Effect::Drop { .. }
                    | Effect::Request(_)
                    | Effect::Permit { .. }
                    | Effect::Happened { .. }
                    | Effect::Answer(..) => {}
                }
            }
        }
        walk(&self.lanes[index]);
    }

    fn hear(&mut self, lane: usize, to: u32, frame: &[u8]) {
        let found = |it: &&mut Listener| it.lane == lane && it.key.index == to;
        let Some(listener) = self.listeners.values_mut().find(found) else { return };
        for text in texts(frame) {
            let text = text.strip_prefix("z ").unwrap_or(&text);
            let (word, rest) = text.split_once(' ').unwrap();
            let log = |room: &str| self.log.get(room).map_or(&[][..], |log| &log[..]);
            match word {
                "welcome" | "refreshed" | "accepted" => {}
                "joined" if rest.contains("tape") => {
                    let words: Vec<_> = rest.split(' ').collect();
                    let stays = listener.stays.entry(words[0].into()).or_default();
                    stays.iter_mut().for_each(|stay| stay.over = true);
                    match words[1..] {
                        ["at", from] | ["at", from, "recovered"] => {
                            self.recovered += words.len() - 3;
                            let from = from.parse().unwrap();
                            stays.push(Stay { from, ..Stay::default() });
                        }
                        // It leaves before it was in.
                        ["not", "live"] | ["unavailable", "not", "live"] => {}
                        ["at", _, "unavailable"] => {}
                        _ => panic!("{text}"),
                    }
                }
                "history" => {}
                "joined" => {
                    let stays = listener.stays.entry(rest.into()).or_default();
                    if stays.last().is_none_or(|stay| stay.over) {
                        stays.push(Stay { from: log(rest).len(), ..Stay::default() });
                    }
                }
                "left" => {
                    if let Some(stay) = listener.stays.get_mut(rest).and_then(|it| it.last_mut()) {
                        stay.over = true;
                    }
                }
                room => {
                    let (id, at) = rest.split_once(" @").unwrap_or((rest, ""));
                    let place = log(room).iter().position(|it| it == id).unwrap();
                    assert!(at.is_empty() || at == (place + 1).to_string(), "{text}");
                    let stay = listener.stays.get_mut(room).and_then(|it| it.last_mut());
                    let stay = stay.filter(|it| !it.over).expect("a push outside of a stay");
                    stay.heard.push(place);
                }
            }
        }
    }

    fn broker(&mut self, command: BrokerCommand<Ticket>) {
        match command {
            BrokerCommand::Publish { ticket, mut publication, keep, .. } => {
                let room = publication.room.clone();
                let log = self.log.entry(room.to_string()).or_default();
                log.push(super::content_text(&publication.content));
                let offset = log.len() as u64;
                let mut outcome = Ok(Accepted::WHOLE);
                if keep.is_some() {
                    let position = Position { epoch: Epoch(1), offset };
                    Arc::make_mut(&mut publication).position = Some(position);
                    let kept = self.kept.entry(room.to_string()).or_default();
                    kept.push(Arc::clone(&publication));
                    outcome = Ok(Accepted::stored(position));
                }
                if self.interest.contains_key(&room) {
                    let envelope = Envelope::Publication { publication, published_us: 0 };
                    self.from_broker.push_back(BrokerEvent::Envelope(envelope));
                }
                self.from_broker.push_back(BrokerEvent::Published { ticket, outcome });
            }
            BrokerCommand::Subscribe { room, request } => {
                let count = self.interest.entry(room.clone()).or_default();
                *count += 1;
                assert_eq!(*count, 1, "asked twice for {room}");
                self.from_broker.push_back(BrokerEvent::Subscribed { room, request });
            }
            BrokerCommand::Heads { request, rooms } => {
                let heads = rooms.iter().map(|(room, _)| self.head(room.as_str())).collect();
                self.from_broker.push_back(BrokerEvent::Heads { request, heads: Some(heads) });
            }
            BrokerCommand::Read { request, room, span, .. } => {
                let position = self.head(room.as_str());
                let kept = self.kept.get(room.as_str()).map_or(&[][..], |kept| &kept[..]);
                // Pages of different sizes, so that one is not always enough.
                let count = usize::try_from(1 + request % 4).unwrap();
                let from = usize::try_from(span.from).unwrap_or(usize::MAX).min(kept.len());
                let range = match span.direction {
                    Direction::Forward => from..kept.len().min(from + count),
                    Direction::Backward => kept.len().saturating_sub(count)..kept.len(),
                };
                let entries = kept[range].iter().cloned().map(Kept::Publication).collect();
                let page = Page { head: Head { position, first: 1 }, entries, whole: false };
                self.from_broker.push_back(BrokerEvent::Read { request, page: Some(page) });
            }
            command @ (BrokerCommand::Save { .. }
            | BrokerCommand::Attach { .. }
            | BrokerCommand::EndSessions { .. }
            | BrokerCommand::SetPresence { .. }
            | BrokerCommand::Roster { .. }
            | BrokerCommand::Present { .. }
            | BrokerCommand::Inbox { .. }
            | BrokerCommand::Ack { .. }
            | BrokerCommand::SetMarks { .. }
            | BrokerCommand::Receipts { .. }
            | BrokerCommand::SetEntry { .. }
            | BrokerCommand::Directory { .. }
            | BrokerCommand::Occupancies { .. }) => panic!("{command:?}"),
            BrokerCommand::Unsubscribe(room) => {
                assert!(self.interest.remove(&room).is_some(), "gave up {room} twice");
            }
            BrokerCommand::Beat { .. } | BrokerCommand::Reconnect { .. } => {
                panic!("a broker in the process has no beat")
            }
        }
    }

    fn head(&self, room: &str) -> Position {
        let offset = self.kept.get(room).map_or(0, Vec::len) as u64;
        Position { epoch: Epoch(1), offset }
    }

    fn hub(&mut self, act: impl FnOnce(&mut Hub, Now, &mut Vec<HubEffect>)) {
        let mut out = Vec::new();
        act(&mut self.hub, self.now, &mut out);
        for effect in out {
            match effect {
                HubEffect::Lane(lane, message) => {
                    self.to_lane[usize::from(lane.0)].push_back(message);
                }
                HubEffect::Broker(command) => self.to_broker.push_back(command),
                HubEffect::Answer(..)
                | HubEffect::Roster(..)
                | HubEffect::Receipts(..)
                | HubEffect::History(..)
                | HubEffect::Ordered(..)
                | HubEffect::Occupied { .. }
                | HubEffect::Surveyed(..) => {}
            }
        }
    }

    /// Moves one message of one queue; says whether there was one.
    fn move_one(&mut self, queue: usize) -> bool {
        let lanes = self.lanes.len();
        match queue {
            0 => self.to_broker.pop_front().map(|command| self.broker(command)),
            1 => self.from_broker.pop_front().map(|event| {
                self.hub(|hub, now, out| hub.broker_event(now, event, out));
            }),
            queue if queue < 2 + lanes => self.to_hub[queue - 2].pop_front().map(|message| {
                self.hub(|hub, now, out| hub.message(now, message, out));
            }),
            queue => {
                let index = queue - 2 - lanes;
                self.to_lane[index].pop_front().map(|message| {
                    self.lane(index, |lane, now, out| lane.message(now, message, out));
                })
            }
        }
        .is_some()
    }

    fn random_step(&mut self, random: &mut Random) {
        let numbers: Vec<_> = self.listeners.keys().copied().collect();
        let queues = 2 + 2 * self.lanes.len();
        match random.below(20) {
            0 if numbers.len() < 8 => self.open(random),
            1..=5 if !numbers.is_empty() => {
                let number = random.pick(&numbers);
                let room = random.pick(&["news-1", "news-2", "news-3", "tape", "lowtape"]);
                let stay = self.listeners[&number].stays.get(room).and_then(|it| it.last());
                let over = stay.filter(|it| it.over && room.contains("tape"));
                let end = over.map(|it| it.from + it.heard.len());
                self.published += 1;
                let publishes = format!("publishes {room} {} ack", self.published);
                let text = match random.below(7) {
                    0..4 if end.is_some() => format!("joins {room} since={}", end.unwrap()),
                    1 if room.contains("tape") && random.chance(4) => format!("asks {room}"),
                    0 | 1 => format!("joins {room}"),
                    2 => format!("leaves {room}"),
                    3 if random.chance(3) => "token u! compressed".into(),
                    _ => publishes,
                };
                self.command(number, command(&text));
            }
            6 if !numbers.is_empty() && random.chance(3) => {
                let number = random.pick(&numbers);
                let listener = self.listeners.remove(&number).unwrap();
                self.check(&listener, false);
                self.lane(listener.lane, |lane, now, out| {
                    lane.closed(now, listener.key, false, out)
                });
            }
            7 => {
                self.now.mono_ms += 20;
                (0..self.lanes.len()).for_each(|index| {
                    self.lane(index, |lane, now, out| lane.tick(now, out));
                });
                self.hub(|hub, now, out| hub.tick(now, out));
            }
            8..=11 => {
                let (lane, budget) = (random.below(self.lanes.len()), 1 + random.below(5));
                self.lane(lane, |lane, _, out| {
                    lane.serve(budget, out);
                });
            }
            _ => {
                self.move_one(random.below(queues));
            }
        }
    }

    fn open(&mut self, random: &mut Random) {
        self.opened += 1;
        let (number, index) = (self.opened, random.below(self.lanes.len()));
        let format = Format {
            dialect: if random.chance(2) { &OWN } else { &PLAIN },
            encoding: random.pick(&[Encoding::Json, Encoding::JsonDeflated]),
        };
        let id = SessionId(number.into());
        let key = self.lanes[index].open(self.now, id, format, Opening::Silent, &mut Vec::new());
        self.listeners.insert(number, Listener { lane: index, key, stays: BTreeMap::new() });
        self.command(number, command("token u!"));
    }

    fn command(&mut self, number: u32, command: Command) {
        let Listener { lane, key, .. } = self.listeners[&number];
        self.lane(lane, |lane, now, out| lane.command(now, key, command, out));
    }

    fn settle(&mut self) {
        for _ in 0..100_000 {
            let moved = (0..2 + 2 * self.lanes.len()).any(|queue| self.move_one(queue));
            let mut busy = false;
            for index in 0..self.lanes.len() {
                self.lane(index, |lane, _, out| busy |= lane.serve(usize::MAX, out));
            }
            if moved || busy {
                continue;
            }
            // Questions wait for their time.
            match self.hub.next_wake().filter(|wake| *wake <= self.now.mono_ms + 1_000) {
                Some(wake) => {
                    self.now.mono_ms = self.now.mono_ms.max(wake);
                    self.hub(|hub, now, out| hub.tick(now, out));
                }
                None => return,
            }
        }
        panic!("the node never comes to rest");
    }

    /// Each stay heard a run of the room's log without hole or repeat that begins where the join was answered, or
    /// before; who is still there heard it to its end.
    fn check(&self, listener: &Listener, settled: bool) {
        for (room, stays) in &listener.stays {
            let mut next = 0;
            for stay in stays {
                if room.contains("tape") {
                    let end = stay.from + stay.heard.len();
                    assert_eq!(stay.heard, (stay.from..end).collect::<Vec<_>>(), "in {room}");
                    let length = self.log.get(room).map_or(0, Vec::len);
                    assert!(!settled || stay.over || end == length, "{room}: {end} of {length}");
                    continue;
                }
                if let Some(first) = stay.heard.first() {
                    assert!(next <= *first && *first <= stay.from, "{room}: {first}");
                    let run: Vec<_> = (*first..*first + stay.heard.len()).collect();
                    assert_eq!(stay.heard, run, "in {room}");
                    next = first + stay.heard.len();
                }
                if settled && !stay.over {
                    let length = self.log.get(room).map_or(0, Vec::len);
                    let end = stay.heard.last().map_or(stay.from, |last| last + 1);
                    assert_eq!(end, length, "{room} was heard to its end");
                }
            }
        }
    }
}

#[test]
fn nothing_is_lost_repeated_or_swapped_between_lanes_hub_and_broker() {
    let (mut heard, mut recovered) = (0, 0);
    for seed in 0..300 {
        let mut random = Random(seed);
        let mut node = Node::new(1 + random.below(3));
        // In parts, for it takes its time until rooms that keep their publications are live.
        for _ in 0..4 {
            (0..200).for_each(|_| node.random_step(&mut random));
            node.settle();
        }
        recovered += node.recovered;
        for listener in std::mem::take(&mut node.listeners).into_values() {
            node.check(&listener, true);
            heard += listener.stays.values().flatten().map(|stay| stay.heard.len()).sum::<usize>();
            node.lane(listener.lane, |lane, now, out| lane.closed(now, listener.key, false, out));
        }
        node.settle();
        node.now.mono_ms += 1_000;
        node.hub(|hub, now, out| hub.tick(now, out));
        node.settle();
        assert!(node.lanes.iter().all(|lane| lane.sizes() == Sizes::default()), "seed {seed}");
        assert_eq!((node.hub.rooms(), node.interest.len()), (0, 3), "seed {seed}: hubs' own");
        // Nothing but asking now and then where the orders stand.
        let idle = node.hub.next_wake().is_none_or(|wake| wake > node.now.mono_ms + 60_000);
        assert!(idle, "seed {seed}");
    }
    assert!(heard > 10_000 && recovered > 100, "{heard} {recovered}");
}
