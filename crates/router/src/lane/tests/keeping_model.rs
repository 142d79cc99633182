//! Random steps in rooms that keep publications, against a broker that is a list: whatever the order of joins, leaves,
//! pages, gaps, expiry, slices and formats, each member covers each offset once, in order, and knows of every other.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use roomcast_protocol::dialect::{Encoding, Format};
use roomcast_protocol::guard::RuleIndex;
use roomcast_protocol::ids::{LaneId, SessionId, SessionKey};
use roomcast_protocol::limits::SessionLimits;
use roomcast_protocol::outbound::{Loss, SkipReason};
use roomcast_protocol::position::{Direction, Epoch, Head, Kept, Page, Position, Span};
use roomcast_protocol::publication::Publication;
use roomcast_protocol::time::Now;

use super::frames::{PLAIN, Table, place, position, texts};
use super::{command, publication, room, walk};
use crate::happenings::Wanted;
use crate::lane::{Lane, LaneConfig, Opening, Sizes, Space, Until};
use crate::messages::{Effect, HubMessage, LaneMessage};
use crate::meter::Users;
use crate::outbox::Outbox;
use crate::random::Random;
use crate::reader::Reader;

const ROOMS: [&str; 2] = ["tape", "lowtape"];

/// One place of a room's log.
#[derive(Clone)]
struct Placed {
    position: Position,
    /// `None`: nobody can read it.
    publication: Option<Arc<Publication>>,
}

/// A room as the broker has it, and how far its lane was told.
struct Tape {
    log: Vec<Placed>,
    head: Position,
    /// The oldest offset that is kept.
    first: u64,
    /// The lane asked for it; what it was told last.
    told: Option<Option<Position>>,
}

/// Where a client believes to be in a room.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Place {
    Out,
    /// In, but not told where.
    Somewhere,
    At(Position),
}

struct Client {
    key: SessionKey,
    permission: bool,
    outbox: Outbox,
    outbox_bytes_max: usize,
    /// The lane waits for space in it; for all of it.
    awaits: Option<bool>,
    places: BTreeMap<&'static str, Place>,
    wants: BTreeMap<&'static str, bool>,
    /// Since when each of its joins asked.
    asked: BTreeMap<String, Option<Position>>,
    heard: Vec<String>,
}

#[derive(Debug, Default)]
struct Seen {
    pushes: usize,
    gaps: usize,
    recovered: usize,
    unrecovered: usize,
    reasons: BTreeMap<String, usize>,
    parked: u64,
    unparked: u64,
}

struct Bench {
    lane: Lane,
    now: Now,
    tapes: BTreeMap<&'static str, Tape>,
    clients: BTreeMap<u32, Client>,
    to_lane: VecDeque<LaneMessage>,
    reads: Vec<(u64, &'static str, Span)>,
    joins: u64,
    opened: u32,
    held: bool,
    isolated: bool,
    seen: Seen,
}

fn known(name: &str) -> &'static str {
    ROOMS.into_iter().find(|room| *room == name).expect("a room of this test")
}

impl Bench {
    fn new() -> Self {
        let limits = SessionLimits {
            connections_per_user: 1_000_000,
            messages_per_minute: 1_000_000,
            controls_per_minute: 1_000_000,
            ping_ms: 1 << 40,
            ..SessionLimits::default()
        };
        let lane = Lane::new(LaneConfig {
            id: LaneId(0),
            guard: Arc::new(Table::default()),
            limits,
            users: Arc::new(Users::new(1)),
            seed: 1,
            secrets: super::counted(),
            wanted: Wanted::default(),
        });
        let tape = || Tape {
            log: Vec::new(),
            head: Position { epoch: Epoch(1), offset: 0 },
            first: 1,
            told: None,
        };
        Self {
            lane,
            now: Now::default(),
            tapes: ROOMS.into_iter().map(|name| (name, tape())).collect(),
            clients: BTreeMap::new(),
            to_lane: VecDeque::new(),
            reads: Vec::new(),
            joins: 0,
            opened: 0,
            held: false,
            isolated: false,
            seen: Seen::default(),
        }
    }

    fn act(&mut self, act: impl FnOnce(&mut Lane, Now, &mut Vec<Effect>)) {
        let mut out = Vec::new();
        act(&mut self.lane, self.now, &mut out);
        self.give_all_space(&mut out);
        while !out.is_empty() {
            let mut over = Vec::new();
            for effect in std::mem::take(&mut out) {
                self.effect(effect, &mut over);
            }
            for number in over {
                let client = self.clients.get_mut(&number).unwrap();
                let max = client.outbox_bytes_max;
                let shed = client.outbox.shed(Outbox::goal_bytes(max), self.now.unix_ms);
                self.lane.shed(self.now, client.key, &shed, &mut out);
            }
            self.give_all_space(&mut out);
        }
        walk(&self.lane);
    }

    fn give_all_space(&mut self, out: &mut Vec<Effect>) {
        for number in self.clients.keys().copied().collect::<Vec<_>>() {
            self.give_space(number, out);
        }
    }

    fn give_space(&mut self, number: u32, out: &mut Vec<Effect>) {
        let client = self.clients.get_mut(&number).unwrap();
        let (bytes, max) = (client.outbox.bytes(), client.outbox_bytes_max);
        let has_space = |empty: &bool| bytes == 0 || !*empty && bytes <= max / 2;
        if client.awaits.take_if(|empty| has_space(empty)).is_some() {
            let bytes_free = Outbox::goal_bytes(max).saturating_sub(bytes);
            let space = Space { bytes: bytes_free, empty: bytes == 0 };
            self.lane.relieved(self.now, client.key, space, out);
        }
    }

    fn effect(&mut self, effect: Effect, over: &mut Vec<u32>) {
        match effect {
            Effect::Send { to, frame, class, mark } => {
                if self.held {
                    let pushes = texts(&frame).iter().any(|text| text.contains(" @"));
                    assert!(!pushes, "a push while the lane holds");
                }
                let client = self.clients.iter_mut().find(|it| it.1.key.index == to);
                if let Some((number, client)) = client {
                    client.outbox.push(frame, class, mark);
                    if client.outbox.bytes() > client.outbox_bytes_max {
                        over.push(*number);
                    }
                }
            }
            Effect::Await { to, empty } => {
                let client = self.clients.values_mut().find(|it| it.key.index == to);
                if let Some(client) = client {
                    client.awaits = Some(empty && client.awaits.unwrap_or(true));
                }
            }
            Effect::Hub(message) => self.hub(message),
            Effect::Ready { .. } => {}
            Effect::Ping { .. }
            | Effect::Close { .. }
            | Effect::Silent { .. }
            | Effect::Drop { .. }
            | Effect::Request(_)
            | Effect::Permit { .. }
            | Effect::Happened { .. }
            | Effect::Answer(..) => panic!(),
        }
    }

    /// A member has too much to ack, or has acked.
    fn park(&mut self, number: u32, name: &'static str, parks: bool) {
        let key = self.clients[&number].key;
        let Some(index) = self.lane.names.get(&room(name)).copied() else { return };
        self.act(|lane, now, out| {
            if parks {
                lane.park(now, index, key, (None, Until::Acks), out);
            } else {
                lane.unpark(now, index, key, out);
            }
        });
    }

    fn hub(&mut self, message: HubMessage) {
        match message {
            HubMessage::Join { room, .. } => {
                let tape = self.tapes.get_mut(known(room.as_str())).unwrap();
                assert!(tape.told.is_none(), "asked twice");
                tape.told = Some(None);
                let position = None;
                if self.isolated {
                    self.to_lane.push_back(LaneMessage::Joined { room, position, live: false });
                } else {
                    self.make_live(known(room.as_str()));
                }
            }
            HubMessage::Leave { room, .. } => {
                let tape = self.tapes.get_mut(known(room.as_str())).unwrap();
                assert!(tape.told.take().flatten().is_some(), "left before it was live");
            }
            HubMessage::Read { reader, room, span } => {
                let Reader::Lane { query, .. } = reader else { panic!("a lane asks") };
                self.reads.push((query, known(room.as_str()), span));
            }
            HubMessage::Late(_)
            | HubMessage::Publish { .. }
            | HubMessage::Order { .. }
            | HubMessage::CarriedOut { .. }
            | HubMessage::Survey { .. }
            | HubMessage::Surveyed { .. }
            | HubMessage::Attach { .. }
            | HubMessage::Save { .. }
            | HubMessage::Fence { .. }
            | HubMessage::Presence { .. }
            | HubMessage::Person(_)
            | HubMessage::Roster { .. }
            | HubMessage::Inbox { .. }
            | HubMessage::Arrived { .. }
            | HubMessage::Mark { .. }
            | HubMessage::Receipts { .. }
            | HubMessage::AskReceipts { .. }
            | HubMessage::Converse(_)
            | HubMessage::Reached { .. }
            | HubMessage::Ack { .. }
            | HubMessage::SetMember { .. }
            | HubMessage::AskRoster { .. } => panic!("{message:?}"),
        }
    }

    fn make_live(&mut self, name: &'static str) {
        let tape = self.tapes.get_mut(name).unwrap();
        if tape.told == Some(None) {
            tape.told = Some(Some(tape.head));
            let position = Some(tape.head);
            self.to_lane.push_back(LaneMessage::Joined { room: room(name), position, live: true });
        }
    }

    fn random_step(&mut self, random: &mut Random) {
        let numbers: Vec<_> = self.clients.keys().copied().collect();
        let name = random.pick(&ROOMS);
        match random.below(if numbers.is_empty() { 1 } else { 42 }) {
            0 | 1 => self.open(random),
            2..=6 => {
                let number = random.pick(&numbers);
                self.join(random, number, name);
            }
            7 => {
                let number = random.pick(&numbers);
                self.clients.get_mut(&number).unwrap().wants.insert(name, false);
                self.command(number, &format!("leaves {name}"));
            }
            8 if random.chance(3) => {
                let client = self.clients.remove(&random.pick(&numbers)).unwrap();
                self.act(|lane, now, out| lane.closed(now, client.key, false, out));
            }
            9 if random.chance(3) => {
                let number = random.pick(&numbers);
                let right = if self.clients[&number].permission { "+x" } else { "" };
                self.command(number, &format!("token u{right} compressed"));
            }
            10..=17 => self.publish(random, name),
            18 if random.chance(2) => self.lose(random, name),
            19 => {
                let tape = self.tapes.get_mut(name).unwrap();
                let kept = tape.head.offset + 1 - tape.first;
                tape.first += u64::try_from(random.below(4)).unwrap().min(kept);
            }
            20..=27 => self.move_one(),
            28..=30 => self.answer(random, false),
            31..=34 => {
                let budget = 1 + random.below(5);
                self.act(|lane, _, out| {
                    lane.serve(budget, out);
                });
            }
            35 => self.wait(u64::try_from(random.below(700)).unwrap()),
            36 if random.chance(3) => self.hold(!self.held),
            37 if random.chance(3) => self.isolate(!self.isolated),
            38 => self.park(random.pick(&numbers), name, true),
            39 => self.park(random.pick(&numbers), name, false),
            _ => {
                let number = random.pick(&numbers);
                self.read_frames(number, 1 + random.below(6));
            }
        }
    }

    fn open(&mut self, random: &mut Random) {
        if self.clients.len() >= 12 {
            return;
        }
        self.opened += 1;
        let encoding =
            random.pick(&[Encoding::Json, Encoding::MessagePack, Encoding::JsonDeflated]);
        let format = Format { dialect: &PLAIN, encoding };
        let permission = random.chance(2);
        let (id, now) = (SessionId(self.opened.into()), self.now);
        let key = self.lane.open(now, id, format, Opening::Silent, &mut Vec::new());
        let client = Client {
            key,
            permission,
            outbox: Outbox::new(0),
            outbox_bytes_max: random.pick(&[150, 300, 1_000, 1 << 20]),
            awaits: None,
            places: ROOMS.into_iter().map(|name| (name, Place::Out)).collect(),
            wants: BTreeMap::new(),
            asked: BTreeMap::new(),
            heard: Vec::new(),
        };
        self.clients.insert(self.opened, client);
        self.command(self.opened, if permission { "token u+x" } else { "token u" });
    }

    fn command(&mut self, number: u32, text: &str) {
        let key = self.clients[&number].key;
        self.act(|lane, now, out| lane.command(now, key, command(text), out));
    }

    fn join(&mut self, random: &mut Random, number: u32, name: &'static str) {
        let head = self.tapes[name].head;
        let back = u64::try_from(random.below(12)).unwrap();
        let since = match random.below(8) {
            0 | 1 => None,
            2 => Some(head),
            3 => Some(Position {
                epoch: Epoch(1 + u128::try_from(random.below(3)).unwrap()),
                ..head
            }),
            4 => Some(head.at(head.offset + 1)),
            _ => Some(head.at(head.offset.saturating_sub(back))),
        };
        self.joins += 1;
        let id = format!("j{}", self.joins);
        let client = self.clients.get_mut(&number).unwrap();
        client.wants.insert(name, true);
        client.asked.insert(id.clone(), since);
        let since = since.map_or(String::new(), |at| format!(" since={}", place(at)));
        self.command(number, &format!("joins {name} #{id}{since}"));
    }

    fn publish(&mut self, random: &mut Random, name: &'static str) {
        if self.isolated {
            return;
        }
        let now = self.now;
        let tape = self.tapes.get_mut(name).unwrap();
        tape.head = tape.head.next();
        let text = format!("{}/{name}", place(tape.head));
        let key = random.pick(&["", "k1:", "k2:"]);
        let class = random.pick(&["", " class=high", " class=low"]);
        let requires = if random.chance(4) { " requires=x" } else { "" };
        let at = place(tape.head);
        let mut made = publication(name, &format!("{key}{text} pos={at}{class}{requires}"), now);
        if random.chance(5) {
            let lives = u64::try_from(random.below(400)).unwrap();
            made.expires_unix_ms = Some(now.unix_ms + lives);
        }
        let publication = Some(Arc::new(made)).filter(|_| !random.chance(8));
        tape.log.push(Placed { position: tape.head, publication: publication.clone() });
        if let Some(Some(told)) = &mut tape.told {
            *told = tape.head;
            let position = tape.head;
            self.to_lane.push_back(match publication {
                Some(publication) => LaneMessage::Publication { publication, published_us: 0 },
                None => LaneMessage::Skipped {
                    room: room(name),
                    position,
                    reason: SkipReason::Unreadable,
                },
            });
        }
    }

    /// Some publications never reach the lane, or the stream begins anew.
    fn lose(&mut self, random: &mut Random, name: &'static str) {
        let anew = random.chance(2);
        for _ in 0..random.below(3) {
            let tape = self.tapes.get_mut(name).unwrap();
            tape.head = tape.head.next();
            let text = format!("{}/{name} pos={}", place(tape.head), place(tape.head));
            let publication = Some(Arc::new(publication(name, &text, self.now)));
            tape.log.push(Placed { position: tape.head, publication });
        }
        let tape = self.tapes.get_mut(name).unwrap();
        if anew {
            tape.head.epoch.0 += 1;
        }
        let position = tape.head;
        if let Some(Some(told)) = &mut tape.told
            && *told != position
        {
            *told = position;
            let loss = if anew { Loss::Epoch } else { Loss::TooOld };
            self.to_lane.push_back(LaneMessage::Gap { room: room(name), position, loss });
        }
    }

    fn move_one(&mut self) {
        if let Some(message) = self.to_lane.pop_front() {
            if let LaneMessage::Hold(hold) = message {
                self.held = hold;
            }
            self.act(|lane, now, out| lane.message(now, message, out));
        }
    }

    fn hold(&mut self, hold: bool) {
        self.to_lane.push_back(LaneMessage::Hold(hold));
    }

    fn isolate(&mut self, isolated: bool) {
        self.isolated = isolated;
        self.to_lane.push_back(LaneMessage::Degraded { isolated });
        if !isolated {
            ROOMS.into_iter().for_each(|name| self.make_live(name));
        }
    }

    fn answer(&mut self, random: &mut Random, sound: bool) {
        if self.reads.is_empty() {
            return;
        }
        let (query, name, span) = self.reads.swap_remove(random.below(self.reads.len()));
        assert_eq!(span.direction, Direction::Forward);
        let tape = &self.tapes[name];
        let from = span.from.max(tape.first - 1);
        let count = if sound { usize::MAX } else { 1 + random.below(6) };
        let kept = |placed: &&Placed| placed.position.offset > from;
        let entry = |placed: &Placed| match &placed.publication {
            Some(publication) => Kept::Publication(Arc::clone(publication)),
            None => Kept::Unreadable(placed.position),
        };
        let head = Head { position: tape.head, first: tape.first };
        let all = tape.log.iter().filter(kept).take(count).map(entry).collect();
        let page = Page { head, entries: all, whole: false };
        let page = Some(page).filter(|_| !self.isolated && (sound || !random.chance(12)));
        self.to_lane.push_back(LaneMessage::Page { query, page });
    }

    fn wait(&mut self, ms: u64) {
        let end = self.now.mono_ms + ms;
        while let Some(wake) = self.lane.next_wake().filter(|wake| *wake <= end) {
            self.now = Now { mono_ms: wake, unix_ms: wake };
            self.act(|lane, now, out| lane.tick(now, out));
        }
        self.now = Now { mono_ms: end, unix_ms: end };
    }

    /// The client's socket takes some frames.
    fn read_frames(&mut self, number: u32, count: usize) {
        for _ in 0..count {
            let client = self.clients.get_mut(&number).unwrap();
            let Some(frame) = client.outbox.front().map(<[u8]>::to_vec) else { return };
            client.outbox.written(frame.len(), 0);
            self.act(|_, _, _| {});
            for text in texts(&frame) {
                let unmarked = ["mz ", "z ", "m "].iter().find_map(|it| text.strip_prefix(it));
                self.hear(number, unmarked.unwrap_or(&text));
            }
        }
    }

    fn hear(&mut self, number: u32, text: &str) {
        let client = self.clients.get_mut(&number).unwrap();
        client.heard.push(text.to_owned());
        let words: Vec<_> = text.split(' ').collect();
        let after = |word: &str| {
            let at = words.iter().position(|it| *it == word);
            at.and_then(|at| words.get(at + 1)).map(|at| position(at))
        };
        match words[0] {
            "welcome" | "refreshed" | "degraded" | "refused" => {}
            "joined" => {
                let id = words[2].strip_prefix('#').expect("an id");
                let since = client.asked[id];
                let at = after("at");
                if words.contains(&"recovered") {
                    assert_eq!(at, since, "recovered from where it asked: {text}");
                    self.seen.recovered += 1;
                } else if since.is_some() && at.is_some() {
                    assert_eq!(
                        words.len() - usize::from(text.ends_with("not live")) * 2,
                        6,
                        "{text}"
                    );
                    self.seen.unrecovered += 1;
                }
                assert!(at.is_some() || text.ends_with("not live"), "{text}");
                let place = at.map_or(Place::Somewhere, Place::At);
                client.places.insert(known(words[1]), place);
            }
            "left" => {
                client.places.insert(known(words[1]), Place::Out);
            }
            "gap" => {
                let Place::At(covered) = client.places[words[1]] else { panic!("{text}") };
                let at = after("at").unwrap();
                assert!(at.epoch != covered.epoch || at.offset >= covered.offset, "{text}");
                client.places.insert(known(words[1]), Place::At(at));
                self.seen.gaps += 1;
            }
            "skip" => self.hear_skip(number, &words),
            name => {
                let Place::At(covered) = client.places[name] else { panic!("unasked: {text}") };
                let at = position(words[2].strip_prefix('@').unwrap());
                let heard = client.heard.join("; ");
                assert_eq!(at, covered.next(), "{text} behind {heard}");
                let logged = logged(&self.tapes[name], at).publication.as_ref().unwrap();
                assert!(words[1].ends_with(&format!("{}/{name}", place(at))), "{text}");
                assert!(client.permission || logged.requires.is_empty(), "{text}");
                client.places.insert(known(name), Place::At(at));
                self.seen.pushes += 1;
            }
        }
    }

    fn hear_skip(&mut self, number: u32, words: &[&str]) {
        let client = self.clients.get_mut(&number).unwrap();
        let [_, name, _, to, _, count, reasons] = words else { panic!("{words:?}") };
        let (to, count): (_, u64) = (position(to), count.parse().unwrap());
        let Place::At(covered) = client.places[*name] else { panic!("{words:?}") };
        assert!(count > 0);
        assert_eq!(to, covered.at(covered.offset + count), "{words:?} behind {covered:?}");
        let mut left: Vec<_> = reasons.split('+').collect();
        for offset in covered.offset + 1..=to.offset {
            let placed = logged(&self.tapes[*name], covered.at(offset));
            let mut why = Vec::new();
            match &placed.publication {
                None => why.push("unreadable"),
                Some(it) => {
                    let expired = it.expires_unix_ms.is_some_and(|at| self.now.unix_ms >= at);
                    why.extend(expired.then_some("expired"));
                    let key = self.lane.guard.conflate_key(RuleIndex(0), it);
                    let newer = |later: &Placed| {
                        let key_of = |it| self.lane.guard.conflate_key(RuleIndex(0), it);
                        let later_key = later.publication.as_ref().and_then(|it| key_of(it));
                        later.position.offset > offset && later_key == key
                    };
                    let superseded = key.is_some() && self.tapes[*name].log.iter().any(newer);
                    why.extend(superseded.then_some("conflated"));
                    why.extend(
                        (!it.requires.is_empty() && !client.permission).then_some("filtered"),
                    );
                }
            }
            assert!(why.iter().any(|why| reasons.split('+').any(|it| it == *why)), "{words:?}");
            left.retain(|reason| !why.contains(reason));
        }
        assert!(left.is_empty(), "{words:?} for no reason");
        client.places.insert(known(name), Place::At(to));
        *self.seen.reasons.entry((*reasons).into()).or_default() += 1;
    }

    /// Everything is healed and comes to rest: all members stand where their rooms do.
    fn settle(&mut self, random: &mut Random) {
        self.isolate(false);
        self.hold(false);
        for _ in 0..10_000 {
            self.move_one();
            self.answer(random, true);
            self.act(|lane, _, out| {
                lane.serve(usize::MAX, out);
            });
            for number in self.clients.keys().copied().collect::<Vec<_>>() {
                ROOMS.into_iter().for_each(|name| self.park(number, name, false));
                self.read_frames(number, usize::MAX);
            }
            if self.to_lane.is_empty() && self.reads.is_empty() {
                break;
            }
        }
        assert!(self.to_lane.is_empty() && self.reads.is_empty(), "it never comes to rest");
        for _ in 0..3 {
            self.wait(11_000);
            self.act(|lane, _, out| while lane.serve(usize::MAX, out) {});
        }
        for number in self.clients.keys().copied().collect::<Vec<_>>() {
            self.read_frames(number, usize::MAX);
            let client = &self.clients[&number];
            for name in ROOMS {
                let wants = client.wants.get(name).copied().unwrap_or(false);
                let place = if wants { Place::At(self.tapes[name].head) } else { Place::Out };
                let about = format!(
                    "session {number} in {name}: {:?} {} {:?}",
                    self.lane.catching,
                    client.outbox.bytes(),
                    client.awaits
                );
                assert_eq!(client.places[name], place, "{about}");
            }
        }
        assert_eq!((self.lane.reads.len(), self.lane.catching.len()), (0, 0));
        assert_eq!(self.lane.alarms.len(), 0);
        assert!(self.lane.parking.is_idle());
        assert_eq!(self.lane.counters().jumps, 0);
    }
}

fn logged(tape: &Tape, at: Position) -> &Placed {
    tape.log.iter().find(|placed| placed.position == at).expect("only what was published")
}

#[test]
fn each_member_covers_each_offset_once_and_knows_of_every_other() {
    let mut sum = Seen::default();
    for seed in 0..1_600 {
        let mut random = Random(seed);
        let mut bench = Bench::new();
        for _ in 0..600 {
            bench.random_step(&mut random);
        }
        bench.settle(&mut random);
        for client in std::mem::take(&mut bench.clients).into_values() {
            bench.act(|lane, now, out| lane.closed(now, client.key, false, out));
        }
        while !bench.to_lane.is_empty() {
            bench.move_one();
        }
        assert_eq!(bench.lane.sizes(), Sizes::default(), "seed {seed}");
        assert_eq!(bench.lane.backlog_bytes(), 0, "seed {seed}");
        sum.parked += bench.lane.counters().parked;
        sum.unparked += bench.lane.counters().unparked;
        let Seen { pushes, gaps, recovered, unrecovered, reasons, .. } = bench.seen;
        sum.pushes += pushes;
        sum.gaps += gaps;
        sum.recovered += recovered;
        sum.unrecovered += unrecovered;
        for (reason, count) in reasons {
            *sum.reasons.entry(reason).or_default() += count;
        }
    }
    let least = sum.pushes.min(10 * sum.gaps).min(10 * sum.recovered).min(10 * sum.unrecovered);
    assert!(least > 20_000, "{sum:?}");
    assert_eq!(sum.reasons.len(), 15, "{sum:?}");
    assert!(sum.parked.min(sum.unparked) > 1_000, "{sum:?}");
}
