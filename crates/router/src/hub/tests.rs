//! Scripts for the hub: text in, effects out.

mod dead;
mod inboxes;
mod isolation;
mod kept;
mod lists;
mod occupancy;
mod orders;
mod people;
mod presence;
mod random;
mod receipts;
mod sessions;
mod standings;
mod surveys;
mod talks;
mod watching;

use std::collections::VecDeque;
use std::sync::{Arc, LazyLock};

use roomcast_protocol::codes::{Refusal, Refused};
use roomcast_protocol::command::ReplyTo;
use roomcast_protocol::content::Content;
use roomcast_protocol::envelope::{
    Accepted, BeatReport, BrokerCommand, BrokerEvent, Count, Envelope, LinkId, MasterId, Moved,
    Peer,
};
use roomcast_protocol::guard::{AuthError, Guard, Policy, Principal, PublishRight, RuleIndex};
use roomcast_protocol::ids::{LaneId, NodeId, SessionKey};
use roomcast_protocol::outbound::Loss;
use roomcast_protocol::position::{Epoch, Head, Keep, Kept, Page, Position, Span};
use roomcast_protocol::presence::Lease;
use roomcast_protocol::publication::Publication;
use roomcast_protocol::room::RoomName;
use roomcast_protocol::time::Now;

use super::{CONTROL, Hub, HubConfig, REVOKED, RelayState};
use crate::messages::{HubEffect, HubMessage, LaneMessage, QueryId, Ticket};
use crate::reader::Reader;

const LINGER_MS: u64 = 1_000;
const GRACE_MS: u64 = 5_000;

/// Runs a script and compares what the hub wanted done. One step a line: `1 joins news` (lane 1), `1 leaves news`,
/// `1 publishes news [ack] [id=a] [text=hi] [bytes=9]`, `subscribed news` (the broker confirms),
/// `feed news` (an envelope), `accepted`, `refused` and `unknown` (the oldest publication), `at 500`.
#[track_caller]
fn check(script: &str, expected: &str) {
    run(World::new(0), script, expected);
}

/// The same for a hub whose broker can fail. `up 1 2 [to=5]` (over links 1 and 2, with all requests up to the fifth),
/// `down`, `alive 1`, `beat 1 7 [from=8]` (link 1 brings beat 7, from another master), `answer 7 [by=8] [over=1,2]
/// [peers=2,3!,4?]` (3 is deaf, 4 disagrees), `unanswered 7` (or `last`). After `auto over=1` the broker answers beats by itself,
/// and brings them back: beats are not shown any more; `auto` with other options changes that, `auto silent` brings
/// none back, `auto away` answers none, `auto lost` says that the lease has ended, `auto new` that there was none, `auto by=2` is another master, `auto among=2`
/// one among those of a Cluster. `health` and `relay` show figures.
#[track_caller]
fn watch(script: &str, expected: &str) {
    run(World::watched(), script, expected);
}

#[track_caller]
fn run(mut world: World, script: &str, expected: &str) {
    for line in script.lines().map(str::trim).filter(|line| !line.is_empty()) {
        world.step(line);
    }
    let expected: Vec<_> =
        expected.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    assert_eq!(world.seen, expected, "\nseen:\n{}\n", world.seen.join("\n"));
}

/// A broker that answers beats by itself.
#[derive(Clone, Default)]
struct Auto {
    answers: bool,
    /// Over which links beats come back.
    links: Vec<LinkId>,
    brings: bool,
    peers: Vec<Peer>,
    /// What is said of the node's lease, once.
    lease: Lease,
    /// Which master it is, but for the first.
    other_master: u64,
    /// The same of all masters of a Cluster, whose beats name none.
    other_among: u64,
}

impl Auto {
    const fn master(&self) -> MasterId {
        MasterId(1 + self.other_master)
    }

    const fn masters(&self) -> MasterId {
        MasterId(1 + self.other_master + self.other_among)
    }
}

enum Question {
    Heads(Vec<RoomName>),
    Read,
}

struct World {
    hub: Hub,
    now: Now,
    tickets: VecDeque<Ticket>,
    /// Subscriptions that the broker has not confirmed, oldest first.
    asked: VecDeque<(RoomName, u64)>,
    requests: u64,
    /// Questions that were not answered, oldest first: rooms, or one room and from where.
    questions: VecDeque<(u64, Question)>,
    auto: Option<Auto>,
    /// The newest beat.
    beat: u64,
    /// The room of orders is shown too.
    orders: bool,
    /// The room of revoked tokens too.
    revocations: bool,
    state: RelayState,
    presence: presence::Book,
    inboxes: inboxes::Book,
    receipts: receipts::Book,
    occupancies: occupancy::Book,
    seen: Vec<String>,
}

/// What rooms are: those whose name begins with `kept` keep publications, all others nothing; those that begin with
/// `strict` are strict, with `crowd` tell who is there, with `tally` how many.
struct Rules;

static EPHEMERAL: Policy = Policy::OPEN;

static STRICT: LazyLock<Policy> = LazyLock::new(|| Policy { strict: true, ..Policy::OPEN });

static KEPT: LazyLock<Policy> = LazyLock::new(|| Policy {
    history: Some(Keep {
        size: 100,
        bytes_max: 1 << 20,
        ttl_ms: 60_000,
        replicated: false,
        inbox: None,
    }),
    ..Policy::OPEN
});

impl Guard for Rules {
    fn verify(&self, _token: &str, _unix_ms: u64) -> Result<Principal, AuthError> {
        Err(AuthError::CheckFailed("the hub checks no token"))
    }

    fn rule(&self, room: &RoomName) -> Option<RuleIndex> {
        let kept = u16::from(room.as_str().starts_with("kept"));
        let strict = u16::from(room.as_str().starts_with("strict"));
        let crowd = u16::from(room.as_str().starts_with("crowd"));
        let tally = u16::from(room.as_str().starts_with("tally"));
        let inbox = u16::from(room.as_str().starts_with("box"));
        let talk = u16::from(room.as_str().starts_with("talk"))
            + u16::from(room.as_str().starts_with("dialog") || room.as_str().starts_with("user"));
        Some(RuleIndex(kept + 2 * strict + 4 * crowd + 5 * tally + 6 * inbox + 7 * talk))
    }

    fn policy(&self, rule: RuleIndex) -> &Policy {
        match rule.0 {
            0 => &EPHEMERAL,
            1 => &KEPT,
            2 => &STRICT,
            4 => &presence::CROWD,
            6 => &inboxes::BOX,
            7 => &receipts::TALK,
            _ => &presence::TALLY,
        }
    }

    fn may_join(&self, _rule: RuleIndex, _room: &RoomName, _who: &Principal) -> bool {
        false
    }

    fn may_publish(&self, _rule: RuleIndex, _room: &RoomName, _who: &Principal) -> PublishRight {
        PublishRight::No
    }

    fn conflate_key(&self, _rule: RuleIndex, _publication: &Publication) -> Option<u64> {
        None
    }

    fn collapse_key(&self, _rule: RuleIndex, _publication: &Publication) -> Option<Box<str>> {
        None
    }
}

/// What a hub wants once something has happened, and all that is due by then.
fn acted(
    hub: &mut Hub,
    now: Now,
    act: impl FnOnce(&mut Hub, Now, &mut Vec<HubEffect>),
) -> Vec<HubEffect> {
    let mut out = Vec::new();
    act(hub, now, &mut out);
    hub.tick(now, &mut out);
    while hub.next_wake().is_some_and(|at| at <= now.mono_ms) {
        hub.tick(now, &mut out);
    }
    out
}

fn config(seed: u64, watched: bool) -> HubConfig {
    HubConfig {
        linger_ms: LINGER_MS,
        leave_grace_ms: GRACE_MS,
        id: NodeId(1),
        node: "node-1".into(),
        seed,
        lanes: 3,
        answer_bytes_max: 1 << 10,
        watched,
        occupancy: false,
        write_list: None,
    }
}

impl World {
    fn new(seed: u64) -> Self {
        Self::with(Hub::new(config(seed, false), Arc::new(Rules)))
    }

    fn watched() -> Self {
        Self::with(Hub::new(config(0, true), Arc::new(Rules)))
    }

    fn with(hub: Hub) -> Self {
        Self {
            state: hub.state(),
            hub,
            now: Now::default(),
            tickets: VecDeque::new(),
            asked: VecDeque::new(),
            requests: 0,
            questions: VecDeque::new(),
            auto: None,
            beat: 0,
            orders: false,
            revocations: false,
            presence: presence::Book::default(),
            inboxes: inboxes::Book::default(),
            receipts: receipts::Book::default(),
            occupancies: occupancy::Book::default(),
            seen: Vec::new(),
        }
    }

    fn step(&mut self, line: &str) {
        let words: Vec<_> = line.split(' ').collect();
        match words[0] {
            "at" => self.turn_clock(words[1].parse().unwrap()),
            "asleep" => {
                // The node is stopped until then, and only then notices.
                self.set_clock(words[2].parse().unwrap());
                self.act(|hub, now, out| hub.tick(now, out));
            }
            "health" | "relay" | "counted" => self.show_figures(words[0]),
            "auto" => self.set_auto(line),
            "drops" => {
                let lane = LaneId(words[1].parse().unwrap());
                let publication = publication(line.split_once(' ').unwrap().1);
                self.hub.dropped(lane, &LaneMessage::Publication { publication, published_us: 0 });
            }
            "drained" => {
                let lane = LaneId(words[1].parse().unwrap());
                self.act(|hub, _, out| hub.drained(lane, out));
            }
            "subscribed" | "feed" | "heads" | "page" | "inbox" | "accepted" | "refused"
            | "unknown" | "up" | "down" | "alive" | "beat" | "answer" | "unanswered" => {
                let event = self.event(line);
                self.act(|hub, now, out| hub.broker_event(now, event, out));
            }
            "set" | "rose" | "receipts" => {
                let event = self.receipts_event(line);
                self.act(|hub, now, out| hub.broker_event(now, event, out));
            }
            "given" => {
                let event = self.occupancy_event(line);
                self.act(|hub, now, out| hub.broker_event(now, event, out));
            }
            "told" => {
                let number = words[1].parse().unwrap();
                self.act(|hub, now, out| hub.occupied_told(now, number, out));
            }
            "enters" | "exits" => self.says(presence::enters(line)),
            "roster" | "diff" | "done" | "reaped" | "undone" => {
                let event = self.presence_event(line);
                self.act(|hub, now, out| hub.broker_event(now, event, out));
            }
            lane => self.says(lane_says(lane, line)),
        }
    }

    fn says(&mut self, message: HubMessage) {
        self.act(|hub, now, out| hub.message(now, message, out));
    }

    fn event(&mut self, line: &str) -> BrokerEvent<Ticket> {
        let words: Vec<_> = line.split(' ').collect();
        let link = |at: usize| LinkId(words[at].parse().unwrap());
        let option = |name| option(line, name);
        match words[0] {
            "subscribed" => {
                let at = self.asked.iter().position(|(asked, _)| asked.as_str() == words[1]);
                let unasked = (room(words[1]), 99);
                let (room, request) = at.and_then(|at| self.asked.remove(at)).unwrap_or(unasked);
                BrokerEvent::Subscribed { room, request }
            }
            "feed" => BrokerEvent::Envelope(Envelope::Publication {
                publication: publication(line),
                published_us: 0,
            }),
            "heads" => self.heads(line),
            "page" => self.page(line),
            "inbox" => self.inbox(line),
            "up" => {
                let links = words[1..].iter().filter_map(|word| word.parse().ok().map(LinkId));
                let request = option("to").map_or(self.requests, |to| to.parse().unwrap());
                BrokerEvent::FeedUp { links: links.collect(), request }
            }
            "down" => BrokerEvent::FeedDown,
            "alive" => BrokerEvent::Alive(link(1)),
            "beat" => BrokerEvent::Beat {
                link: link(1),
                seq: words[2].parse().unwrap(),
                master: MasterId(option("from").map_or(1, |from| from.parse().unwrap())),
                moved: option("moved").map_or_else(Vec::new, moved),
            },
            "answer" => {
                let report = BeatReport {
                    master: MasterId(option("by").map_or(1, |by| by.parse().unwrap())),
                    masters: MasterId(option("by").map_or(1, |by| by.parse().unwrap())),
                    links: links(option("over").unwrap_or("1")),
                    peers: peers(option("peers").unwrap_or("")),
                    lease: presence::lease(line),
                    agents: presence::agents(line),
                    unread: occupancy::partitions(option("unread").unwrap_or("")),
                };
                let seq = words[1].parse().unwrap();
                BrokerEvent::BeatAnswered { seq, report: Some(report) }
            }
            "unanswered" => {
                let seq = words[1].parse().unwrap_or(self.beat);
                BrokerEvent::BeatAnswered { seq, report: None }
            }
            word => {
                let ticket = self.tickets.pop_front().expect("something was published");
                let mut refused = Refused::new(Refusal::Unavailable);
                refused.unknown = word == "unknown";
                let at = option("at").map(|at| position(line, at.parse().unwrap()));
                let accepted = Accepted { position: at, ..Accepted::WHOLE };
                let outcome = if word == "accepted" { Ok(accepted) } else { Err(refused) };
                BrokerEvent::Published { ticket, outcome }
            }
        }
    }

    /// `heads 5 [e=2]` for all rooms of the oldest question, or `heads none`.
    fn heads(&mut self, line: &str) -> BrokerEvent<Ticket> {
        let found = self.questions.iter().position(|(_, it)| matches!(it, Question::Heads(_)));
        let (request, question) = found.and_then(|at| self.questions.remove(at)).unwrap();
        let Question::Heads(rooms) = question else { panic!("found just above") };
        let word = line.split(' ').nth(1).unwrap();
        let head = word.parse().ok().map(|offset| position(line, offset));
        let heads = head.map(|head| {
            let hidden = |room: &RoomName| room.as_str() == CONTROL && !self.orders;
            let own = |room: &RoomName| if hidden(room) { NO_ORDERS } else { head };
            rooms.iter().map(own).collect()
        });
        BrokerEvent::Heads { request, heads }
    }

    /// `page 6-8 [head=9] [first=3] [e=2] [part] [odd=7]` (7 cannot be read), `page empty head=9 first=10`, or `page none`.
    fn page(&mut self, line: &str) -> BrokerEvent<Ticket> {
        let found = self.questions.iter().position(|(_, it)| matches!(it, Question::Read));
        let (request, _) = found.and_then(|at| self.questions.remove(at)).unwrap();
        let word = line.split(' ').nth(1).unwrap();
        let number = |name| option(line, name).map(|it| it.parse::<u64>().unwrap());
        let (from, to) = word.split_once('-').map_or((1, 0), |(from, to)| {
            (from.parse::<u64>().unwrap(), to.parse::<u64>().unwrap())
        });
        let kept = |offset| {
            let at = position(line, offset);
            if number("odd") == Some(offset) {
                return Kept::Unreadable(at);
            }
            let described = line.split_once(' ').unwrap().1;
            let publication = publication(&format!("page kept {described}"));
            let own = |id: &str| format!("{id}{offset}").into();
            let id = option(line, "id").map_or(publication.id.clone(), own);
            Kept::Publication(Arc::new(Publication {
                id,
                position: Some(at),
                ..(*publication).clone()
            }))
        };
        let page = Page {
            head: Head {
                position: position(line, number("head").unwrap_or(to)),
                first: number("first").unwrap_or(1),
            },
            entries: (from..=to).map(kept).collect(),
            whole: !line.contains(" part"),
        };
        BrokerEvent::Read { request, page: (word != "none").then_some(page) }
    }

    fn set_auto(&mut self, line: &str) {
        let auto = self.auto.get_or_insert_default();
        auto.answers = !line.contains("away");
        auto.brings = auto.answers && !line.contains("silent");
        if let Some(over) = option(line, "over") {
            auto.links = links(over);
        }
        auto.lease = presence::lease(line);
        auto.other_master = option(line, "by").map_or(0, |by| by.parse::<u64>().unwrap() - 1);
        auto.other_among = option(line, "among").map_or(0, |by| by.parse::<u64>().unwrap() - 1);
        if let Some(listed) = option(line, "peers") {
            auto.peers = peers(listed);
        }
    }

    fn show_figures(&mut self, which: &str) {
        let (counters, health) = (self.hub.counters(), self.hub.health(self.now));
        self.seen.push(match which {
            "counted" => format!(
                "{} rooms, {} agents, {} published, {} received, {} unwanted",
                self.hub.rooms(),
                self.hub.agents(),
                counters.published,
                counters.received,
                counters.unwanted
            ),
            "relay" => format!(
                "{} isolated in {} ms, {} refused, {} partial, {} losses, {}/{}/{} reconnects",
                counters.isolated,
                counters.isolated_ms,
                counters.refused_waiting,
                counters.partial,
                counters.losses,
                counters.reconnects_silent,
                counters.reconnects_lagging,
                counters.reconnects_master
            ),
            _ => format!(
                "{} since {}{}{}, feed {} ms, beat {} ms, {} wait, {} bytes, {}/{}/{} peers",
                health.relay.name(),
                health.since_ms,
                if health.reached { "" } else { ", never whole" },
                if health.lagging { ", lagging" } else { "" },
                health.feed_age_ms,
                health.beat_age_ms,
                health.waiting,
                health.waiting_bytes,
                health.peers,
                health.peers_deaf,
                health.peers_disagreeing
            ),
        });
    }

    /// Has the hub act and turn, as the core does, shows what it wants done, and does what an own broker does.
    fn act(&mut self, act: impl FnOnce(&mut Hub, Now, &mut Vec<HubEffect>)) {
        let mut out = Vec::new();
        act(&mut self.hub, self.now, &mut out);
        self.hub.tick(self.now, &mut out);
        self.execute(out);
    }

    fn execute(&mut self, out: Vec<HubEffect>) {
        let (mut beats, mut controls, mut revoked) = (Vec::new(), Vec::new(), Vec::new());
        for effect in out {
            // Orders have tests of their own.
            if let HubEffect::Lane(_, LaneMessage::Blind | LaneMessage::Obeyed(_)) = &effect
                && !self.orders
            {
                continue;
            }
            if let HubEffect::Lane(_, LaneMessage::Revoked { .. }) = &effect
                && !self.revocations
            {
                continue;
            }
            // All lanes are told the same.
            if let HubEffect::Lane(LaneId(1..), LaneMessage::Obeyed(_)) = &effect {
                continue;
            }
            let for_hubs = |room: &RoomName| room.as_str().starts_with("$node");
            let hides =
                |room: &RoomName| for_hubs(room) || !self.orders && room.as_str() == CONTROL;
            if let HubEffect::Broker(BrokerCommand::Subscribe { room, .. }) = &effect
                && hides(room)
            {
                continue;
            }
            if let HubEffect::Broker(BrokerCommand::Heads { request, rooms }) = &effect
                && rooms.iter().all(|(room, _)| hides(room))
            {
                controls.push(*request);
                continue;
            }
            if let HubEffect::Broker(BrokerCommand::Read { request, room, .. }) = &effect
                && room.as_str() == REVOKED
                && !self.revocations
            {
                revoked.push(*request);
                continue;
            }
            if let HubEffect::Broker(BrokerCommand::Beat { seq, life, retired, .. }) = &effect {
                self.beat = *seq;
                if self.auto.is_some() {
                    self.show_lives(*life, *retired);
                    beats.push(*seq);
                    continue;
                }
            }
            self.show(effect);
        }
        let state = self.hub.health(self.now).relay;
        if state != self.state {
            self.state = state;
            self.seen.push(format!("{} at {}", state.name(), self.now.mono_ms));
        }
        self.walk();
        for request in controls {
            let heads = Some(vec![NO_ORDERS]);
            let mut out = Vec::new();
            self.hub.broker_event(self.now, BrokerEvent::Heads { request, heads }, &mut out);
            self.hub.tick(self.now, &mut out);
            self.execute(out);
        }
        for request in revoked {
            let head = Head { position: NO_ORDERS, first: 1 };
            let page = Some(Page { head, entries: Vec::new(), whole: true });
            let mut out = Vec::new();
            self.hub.broker_event(self.now, BrokerEvent::Read { request, page }, &mut out);
            self.hub.tick(self.now, &mut out);
            self.execute(out);
        }
        for seq in beats {
            let auto = self.auto.clone().unwrap_or_default();
            if let Some(auto) = &mut self.auto {
                auto.lease = Lease::Held; // once is enough
            }
            let mut events = Vec::new();
            for link in auto.links.iter().filter(|_| auto.brings) {
                let (link, master, moved) = (*link, auto.master(), Vec::new());
                events.push(BrokerEvent::Beat { link, seq, master, moved });
            }
            if auto.answers {
                let (master, masters) = (auto.master(), auto.masters());
                let Auto { links, peers, lease, .. } = auto;
                let (agents, unread) = (Vec::new(), Vec::new());
                let report = BeatReport { master, masters, links, peers, lease, agents, unread };
                events.push(BrokerEvent::BeatAnswered { seq, report: Some(report) });
            }
            for event in events {
                let mut out = Vec::new();
                self.hub.broker_event(self.now, event, &mut out);
                self.hub.tick(self.now, &mut out);
                self.execute(out);
            }
        }
    }

    /// Every deadline is wanted still, and the hub's own counts are right.
    fn walk(&self) {
        self.hub.waiting.walk();
        self.hub.presence.walk(self.hub.lives.renewing);
        self.hub.rosters.walk();
        self.hub.roster_asks.walk();
        self.hub.occupancies.walk();
        for (request, unconfirmed) in &self.hub.unconfirmed {
            let room = &self.hub.rooms[&unconfirmed.room];
            assert_eq!(room.request, *request);
            assert_eq!(unconfirmed.waiting & !room.lanes, 0, "a lane waits that has left");
        }
        for (at, deadline) in &self.hub.deadlines {
            let super::Deadline::Room(name) = deadline;
            assert_eq!(self.hub.rooms[name].until_ms, *at, "{deadline:?}");
        }
        let tracks = self.hub.kept.iter().filter_map(|name| self.hub.track(name));
        let held: usize =
            tracks.inspect(|track| track.walk()).map(|track| track.held_bytes()).sum();
        assert_eq!(held, self.hub.asks.held_bytes());
        for (lane, name) in &self.hub.behind {
            let track = self.hub.track(name).unwrap();
            assert!(track.behind.iter().any(|behind| behind.lane == *lane));
        }
        let waits = self.hub.waiting.len() > 0;
        assert!(!waits || !matches!(self.hub.state(), RelayState::Whole | RelayState::Isolated));
    }

    fn set_clock(&mut self, at_ms: u64) {
        self.now = Now { mono_ms: at_ms, unix_ms: at_ms };
    }

    fn turn_clock(&mut self, at_ms: u64) {
        while let Some(wake) = self.hub.next_wake().filter(|wake| *wake <= at_ms) {
            // What could not be asked before may be due for long.
            let wake = wake.max(self.now.mono_ms);
            self.set_clock(wake);
            self.act(|hub, now, out| hub.tick(now, out));
            assert!(self.hub.next_wake().is_none_or(|next| next > wake), "woken for ever");
        }
        self.set_clock(at_ms);
        self.act(|hub, now, out| hub.tick(now, out));
    }

    fn show(&mut self, effect: HubEffect) {
        let text = match effect {
            HubEffect::Lane(_, LaneMessage::Obeyed(order)) => format!("obeyed {}", shown_at(order)),
            HubEffect::Lane(lane, message) => format!("{}: {}", lane.0, told(&message)),
            HubEffect::Broker(BrokerCommand::Subscribe { room, request }) => {
                self.requests = request;
                self.asked.push_back((room.clone(), request));
                format!("subscribe {room}")
            }
            HubEffect::Broker(BrokerCommand::Unsubscribe(room)) => format!("unsubscribe {room}"),
            HubEffect::Broker(BrokerCommand::Publish {
                ticket, publication, dedup, keep, ..
            }) => {
                let kept = if keep.is_some() { " kept" } else { "" };
                let shown = format!("{}{kept}", shown(&publication));
                self.tickets.push_back(ticket);
                format!("publish {shown}{}", if dedup { " dedup" } else { "" })
            }
            HubEffect::Broker(BrokerCommand::Heads { request, rooms }) => {
                let rooms: Vec<_> = rooms.into_iter().map(|(room, _)| room).collect();
                let shown = rooms.iter().filter(|room| self.orders || room.as_str() != CONTROL);
                let shown: Vec<_> = shown.map(|room| room.as_str()).collect();
                let shown = format!("heads? {}", shown.join(","));
                self.questions.push_back((request, Question::Heads(rooms)));
                shown
            }
            HubEffect::Broker(BrokerCommand::Read { request, room, span, .. }) => {
                self.questions.push_back((request, Question::Read));
                format!("read? {room} above {}", span.from)
            }
            HubEffect::Broker(BrokerCommand::Beat {
                seq,
                hears,
                life,
                retired,
                told,
                reads,
                ..
            }) => {
                let hears = if hears { " hears" } else { "" };
                let told = told.map_or(String::new(), |at| format!(" told {}", shown_at(at)));
                let reads = if reads { " reads" } else { "" };
                format!("beat {seq}{hears}{}{told}{reads}", presence::lives(life, retired))
            }
            HubEffect::Broker(BrokerCommand::Occupancies { request, ask }) => {
                self.occupancies.asked.push_back((request, ask.partition));
                occupancy::asked(&ask)
            }
            HubEffect::Occupied { partition, number, event } => {
                format!("tell {number} of {partition}: {}", occupancy::shown(&event))
            }
            HubEffect::Broker(BrokerCommand::Save { request, save }) => {
                format!("save {request} {:x}/{}", { save.session.0 }, save.generation)
            }
            HubEffect::Broker(BrokerCommand::Attach { request, attach }) => {
                let alive: Vec<_> = attach.alive.iter().map(|node| node.0.to_string()).collect();
                format!("attach {request} for {} alive {}", attach.user, alive.join(","))
            }
            HubEffect::Broker(BrokerCommand::EndSessions { request, user, order }) => {
                format!("end {request} all of {user} as of {}", shown_at(order))
            }
            HubEffect::Broker(BrokerCommand::SetPresence { request, set }) => {
                self.presence.sets.push_back(request);
                presence::set_shown(&set)
            }
            HubEffect::Broker(BrokerCommand::Inbox { request, cursor, keep }) => {
                assert_eq!(Some(keep), inboxes::BOX.history);
                self.inboxes.asked.push_back(request);
                format!("inbox? {}", inboxes::named(&cursor))
            }
            HubEffect::Broker(BrokerCommand::Ack { cursor, acked, told, .. }) => {
                inboxes::moved(&cursor, &acked, told)
            }
            HubEffect::Broker(BrokerCommand::SetMarks { request, keep, set }) => {
                assert_eq!(Some(keep), KEPT.history);
                let shown = receipts::set_shown(&set);
                self.receipts.sets.push_back((request, *set));
                shown
            }
            HubEffect::Broker(BrokerCommand::Receipts {
                request,
                room,
                of,
                after,
                count_max,
                ..
            }) => {
                self.receipts.asked.push_back(request);
                receipts::asked((&room, of, after.as_deref(), count_max))
            }
            HubEffect::Broker(
                asked @ (BrokerCommand::SetEntry { .. } | BrokerCommand::Directory { .. }),
            ) => panic!("no hub asks so: {asked:?}"),
            HubEffect::Receipts(query, outcome) => receipts::answered(query, &outcome),
            HubEffect::History(query, page) => {
                let shown = page
                    .map(|it| format!("{} of {}", it.entries.len(), shown_at(it.head.position)));
                format!("history {} {}", query.0, shown.unwrap_or("none".into()))
            }
            HubEffect::Broker(BrokerCommand::Roster { request, room, after, count_max }) => {
                self.presence.rosters.push_back(request);
                presence::asked(&room, after.as_deref(), count_max)
            }
            HubEffect::Broker(BrokerCommand::Present { room, users, .. }) => {
                format!("present? {room} {}", users.len())
            }
            HubEffect::Broker(BrokerCommand::Reconnect { link, commands }) => {
                format!("reconnect {}{}", link.0, if commands { " and commands" } else { "" })
            }
            HubEffect::Answer(query, outcome) => format!("answer {} {}", query.0, ended(&outcome)),
            HubEffect::Roster(query, outcome) => presence::answered(query, &outcome),
            HubEffect::Ordered(query, outcome) => orders::answered(query, &outcome),
            HubEffect::Surveyed(query, outcome) => surveys::answered(query, &outcome),
        };
        self.seen.push(text);
    }
}

fn option<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    let mut options = line.split(' ').filter_map(|word| word.split_once('='));
    options.find(|(held, _)| *held == name).map(|(_, value)| value)
}

/// The position that a line names: its offset, in epoch 1 or `e=2`.
fn position(line: &str, offset: u64) -> Position {
    let epoch = option(line, "e").map_or(1, |epoch| epoch.parse().unwrap());
    Position { epoch: Epoch(epoch), offset }
}

/// The offset, with its epoch unless it is the first.
fn shown_at(Position { epoch, offset }: Position) -> String {
    if epoch.0 == 1 { offset.to_string() } else { format!("{offset} of {}", { epoch.0 }) }
}

/// Where the stream of orders stands while no test is about it.
const NO_ORDERS: Position = Position { epoch: Epoch(9), offset: 0 };

/// `kept:9,kept2:3` or `all`: what a beat says of partition 0.
fn moved(list: &str) -> Vec<Moved> {
    let one = |text: &str| {
        let (name, offset) = text.split_once(':').unwrap();
        (room(name), position("", offset.parse().unwrap()))
    };
    let rooms = (list != "all").then(|| list.split(',').map(one).collect());
    vec![Moved { count: Count { partition: 0, count: 1 }, rooms }]
}

fn links(list: &str) -> Vec<LinkId> {
    list.split(',').map(|link| LinkId(link.parse().unwrap())).collect()
}

fn peers(list: &str) -> Vec<Peer> {
    let peer = |text: &str| Peer {
        node: NodeId(text.trim_end_matches(['!', '?']).parse().unwrap()),
        hears: !text.ends_with('!'),
        agrees: !text.ends_with('?'),
    };
    list.split(',').filter(|text| !text.is_empty()).map(peer).collect()
}

fn lane_says(lane: &str, line: &str) -> HubMessage {
    let words: Vec<_> = line.split(' ').collect();
    let ack = words.contains(&"ack");
    let (lane, room) = (lane.parse().ok().map(LaneId), room(words[2]));
    match words[1] {
        "joins" => HubMessage::Join { lane: lane.unwrap(), room },
        "leaves" => HubMessage::Leave { lane: lane.unwrap(), room },
        "asks" => presence::asks(lane, room, line),
        "opens" => inboxes::opens(lane.unwrap(), room, line),
        "acks" => inboxes::acks(room, line),
        "arrives" => receipts::arrives(room, line),
        "marks" => receipts::marks(lane.unwrap(), room, line),
        "queries" => receipts::queries(lane, room, line),
        "reads" => {
            let reader =
                lane.map_or(Reader::Query(QueryId(9)), |lane| Reader::Lane { lane, query: 8 });
            HubMessage::Read { reader, room, span: Span::above(words[4].parse().unwrap()) }
        }
        "publishes" => {
            let publication = publication(&line[line.find(' ').unwrap() + 1..]);
            let ticket = match lane {
                Some(lane) => Ticket::Session {
                    lane,
                    session: SessionKey { index: 3, generation: 1 },
                    reply: ReplyTo::default(),
                    ack: ack.then(|| publication.id.clone()),
                },
                None => Ticket::Query(QueryId(9)),
            };
            HubMessage::Publish { ticket, publication, dedup: ack }
        }
        verb => panic!("no lane says {verb}"),
    }
}

fn told(message: &LaneMessage) -> String {
    match message {
        LaneMessage::Publication { publication, .. } => {
            let isolated = if publication.isolated { " isolated" } else { "" };
            let at = publication.position.map_or(String::new(), |at| format!(" {}", shown_at(at)));
            format!("{}{at}{}{isolated}", publication.room, named(publication))
        }
        LaneMessage::Joined { room, position, live } => {
            let at = position.map_or(String::new(), |at| format!(" at {}", shown_at(at)));
            format!("joined {room}{at}{}", if *live { "" } else { " not live" })
        }
        LaneMessage::Published { session, ack, outcome, .. } => {
            let outcome = ended(outcome);
            format!("{outcome} for {} {}", session.index, ack.as_deref().unwrap_or("-"))
        }
        LaneMessage::Lost(Loss::Feed) => "lost".into(),
        LaneMessage::Degraded { isolated } => format!("degraded {isolated}"),
        LaneMessage::Skipped { room, position, .. } => {
            format!("{room} {} unreadable", shown_at(*position))
        }
        LaneMessage::Gap { room, position, loss } => {
            format!("gap {room} {} {}", shown_at(*position), loss.name())
        }
        LaneMessage::Page { query, page } => {
            format!("page {query} {}", page.as_ref().map_or(0, |page| page.entries.len()))
        }
        LaneMessage::Conversed { .. } => format!("{message:?}"),
        LaneMessage::Presence(diff) => presence::told(diff),
        LaneMessage::Presents { since_ms } => format!("presents since {since_ms}"),
        LaneMessage::Roster { room, outcome, .. } => presence::told_roster(room, outcome),
        LaneMessage::Inbox { cursor, state, .. } => inboxes::told(cursor, state.as_ref()),
        LaneMessage::Marked { .. }
        | LaneMessage::Receipts(_)
        | LaneMessage::ReceiptsPage { .. } => receipts::told(message),
        LaneMessage::Revalidate => "revalidate".into(),
        LaneMessage::Blind => "blind".into(),
        LaneMessage::Obeyed(order) => format!("obeyed {}", shown_at(*order)),
        LaneMessage::Order { order, .. } => orders::told(order),
        LaneMessage::Survey { survey, .. } => format!("survey {:?}", survey.what),
        LaneMessage::Revoked { revocations, whole } => orders::told_revoked(revocations, *whole),
        LaneMessage::Lost(Loss::Overload) => "lost by overload".into(),
        LaneMessage::Hold(hold) => format!("hold {hold}"),
        LaneMessage::Attached { session, outcome } => match outcome {
            Ok(it) => {
                format!("attached {} as {:x}/{}", session.index, { it.session.0 }, it.generation)
            }
            Err(why) => format!("attached {} {}", session.index, why.name()),
        },
        LaneMessage::Saved { session, outcome } => format!("saved {} {outcome:?}", session.index),
        LaneMessage::Fence { session, generation, moved } => {
            format!("fence {:x}/{generation}{}", { session.0 }, if *moved { " moved" } else { "" })
        }
        LaneMessage::Lost(_)
        | LaneMessage::Members { .. }
        | LaneMessage::Drain(_)
        | LaneMessage::Responded(_)
        | LaneMessage::Permitted { .. }
        | LaneMessage::Stop => {
            panic!("the hub does not say {message:?}")
        }
    }
}

fn ended(outcome: &Result<Accepted, Refused>) -> String {
    match outcome {
        Ok(Accepted { level, position, dedup_short, partial, .. }) => {
            let at = position.map_or(String::new(), |at| format!(" {}", at.offset));
            let level = format!("{}{at}", level.name());
            let short = if *dedup_short { " short" } else { "" };
            format!("{level}{short}{}", if *partial { " partial" } else { "" })
        }
        Err(refused) => {
            let known = if refused.unknown { "unknown" } else { refused.refusal.row().name };
            let retry = refused.retry_after_ms.map_or(String::new(), |ms| format!(" {ms} ms"));
            format!("{known}{retry}")
        }
    }
}

/// Ids other than the usual one.
fn named(publication: &Publication) -> String {
    Some(&publication.id).filter(|id| &***id != "x").map_or(String::new(), |id| format!(" {id}"))
}

fn shown(publication: &Publication) -> String {
    if let Content::Text(text) = &publication.content
        && super::is_for_hubs(&publication.room)
    {
        let text = std::str::from_utf8(text).unwrap();
        return format!("{} {} {text}", publication.room, publication.kind);
    }
    let Content::Json(content) = &publication.content else {
        return format!("{}{}", publication.room, named(publication));
    };
    let content = std::str::from_utf8(content).unwrap();
    format!("{} {} {content} by {}", publication.room, publication.kind, publication.sender)
}

fn room(name: &str) -> RoomName {
    RoomName::system(name).unwrap()
}

/// What `feed news id=a text=hi` or `publishes news bytes=9` describes; with `bytes` its weight is that.
fn publication(line: &str) -> Arc<Publication> {
    let mut publication = Publication {
        room: room(line.split(' ').nth(1).unwrap()),
        id: option(line, "id").unwrap_or("x").into(),
        kind: option(line, "kind").unwrap_or("message").into(),
        timestamp: "1970-01-01T00:00:00.000Z".into(),
        sender: option(line, "by").unwrap_or("ann").into(),
        content: Content::Text(option(line, "text").unwrap_or("hi").to_owned().into()),
        priority: None,
        ttl_s: None,
        expires_unix_ms: None,
        correlation_id: None,
        requires: Vec::new(),
        requires_ack: false,
        isolated: false,
        origin: None,
        position: option(line, "at").map(|at| position(line, at.parse().unwrap())),
        put_under: None,
    };
    if let Some(bytes) = option(line, "bytes") {
        let rest = bytes.parse::<usize>().unwrap() - publication.weight() + 2;
        publication.content = Content::Text("x".repeat(rest).into());
    }
    Arc::new(publication)
}

#[test]
fn the_first_join_asks_the_broker_and_is_answered_when_it_confirms() {
    check(
        "1 joins news
         feed news
         subscribed news
         feed news",
        "subscribe news
         1: joined news
         1: news",
    );
}

#[test]
fn a_live_room_is_joined_without_asking_the_broker() {
    check(
        "1 joins news
         subscribed news
         2 joins news
         feed news",
        "subscribe news
         1: joined news
         2: joined news
         1: news
         2: news",
    );
}

#[test]
fn lanes_that_wait_ask_once_and_are_answered_together() {
    check(
        "2 joins news
         1 joins news
         0 joins news
         subscribed news",
        "subscribe news
         0: joined news
         1: joined news
         2: joined news",
    );
}

#[test]
fn a_lane_that_leaves_while_waiting_is_not_answered() {
    check(
        "1 joins news
         2 joins news
         1 leaves news
         subscribed news
         feed news",
        "subscribe news
         2: joined news
         2: news",
    );
}

#[test]
fn interest_outlives_the_last_lane_for_the_linger_and_no_longer() {
    check(
        "1 joins news
         subscribed news
         at 500
         1 leaves news
         at 1499
         feed news
         counted
         at 1500
         counted",
        "subscribe news
         1: joined news
         1 rooms, 0 agents, 0 published, 1 received, 1 unwanted
         unsubscribe news
         0 rooms, 0 agents, 0 published, 1 received, 1 unwanted",
    );
}

#[test]
fn a_join_during_the_linger_keeps_the_interest() {
    check(
        "1 joins news
         subscribed news
         1 leaves news
         at 999
         2 joins news
         at 5000
         feed news
         2 leaves news
         at 5999
         at 6000",
        "subscribe news
         1: joined news
         2: joined news
         2: news
         unsubscribe news",
    );
}

#[test]
fn a_room_is_kept_while_any_lane_is_in_it() {
    check(
        "1 joins news
         2 joins news
         subscribed news
         1 leaves news
         at 9000
         feed news
         2 leaves news
         1 leaves news
         2 leaves news
         3 leaves other
         at 9999
         at 10000",
        "subscribe news
         1: joined news
         2: joined news
         2: news
         unsubscribe news",
    );
}

#[test]
fn a_confirmation_counts_for_its_own_request_and_never_for_a_later_one() {
    check(
        "1 joins news
         1 leaves news
         at 1000
         1 joins news
         2 joins other
         subscribed news
         feed news
         subscribed news
         feed news
         subscribed other",
        "subscribe news
         unsubscribe news
         subscribe news
         subscribe other
         1: joined news
         1: news
         2: joined other",
    );
}

#[test]
fn a_confirmation_nobody_asked_for_is_ignored() {
    check(
        "subscribed news\nfeed news\ncounted",
        "0 rooms, 0 agents, 0 published, 1 received, 1 unwanted",
    );
}

#[test]
fn envelopes_reach_the_same_lanes_in_the_same_order_whatever_the_order_of_joins() {
    let mut all = Vec::new();
    for (seed, order) in [[0, 1, 2, 63], [63, 2, 1, 0], [2, 63, 0, 1]].iter().enumerate() {
        let mut world = World::new(seed as u64);
        for lane in order {
            world.step(&format!("{lane} joins news"));
            world.step(&format!("{lane} joins news-{lane}"));
        }
        world.step("subscribed news");
        world.seen.clear();
        world.step("feed news");
        all.push(world.seen);
    }
    assert_eq!(all[0], ["0: news", "1: news", "2: news", "63: news"]);
    assert!(all.iter().all(|seen| *seen == all[0]));
}

#[test]
fn the_highest_lane_is_heard_and_one_beyond_is_ignored() {
    check("63 joins news\nsubscribed news\nfeed news", "subscribe news\n63: joined news\n63: news");
    check(
        "64 joins news\n64 leaves news\ncounted",
        "0 rooms, 0 agents, 0 published, 0 received, 0 unwanted",
    );
}

#[test]
fn the_outcome_of_a_publication_reaches_whom_it_concerns() {
    check(
        "2 publishes news ack
         accepted
         2 publishes news
         accepted
         2 publishes news
         refused
         api publishes news
         accepted
         api publishes news
         refused",
        "publish news dedup
         2: accepted for 3 x
         publish news
         publish news
         2: unavailable for 3 -
         publish news
         answer 9 accepted
         publish news
         answer 9 unavailable",
    );
}

#[test]
fn an_agents_id_is_written_as_a_number_only_where_it_is_one() {
    for (id, json) in [
        ("7", "7"),
        ("-7", "-7"),
        ("007", "\"007\""),
        ("+7", "\"+7\""),
        ("1e3", "\"1e3\""),
        ("9223372036854775808", "\"9223372036854775808\""),
        ("a\"b\\c\nd", "\"a\\\"b\\\\c\\u000ad\""),
    ] {
        let content = super::agents::agent_content(id, "online", "t");
        let expected = format!("{{\"agent_id\":{json},\"status\":\"online\",\"last_seen\":\"t\"}}");
        assert_eq!(content, expected);
    }
}
