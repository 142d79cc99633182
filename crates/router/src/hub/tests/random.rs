//! Random outages of a small model of a broker, by fixed seeds: whatever comes, each publication ends once and in
//! order, nobody hears it twice, nothing waits for ever, and links are not connected anew in a storm.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use roomcast_protocol::codes::{Refusal, Refused};
use roomcast_protocol::envelope::{
    Accepted, BeatReport, BrokerCommand, BrokerEvent, Envelope, Level, LinkId, MasterId, Peer,
};
use roomcast_protocol::ids::{LaneId, NodeId};
use roomcast_protocol::presence::Lease;
use roomcast_protocol::publication::Publication;
use roomcast_protocol::time::Now;

use super::{Rules, config, publication, room};
use crate::hub::{AGAIN_MS, BEAT_RETURNING_MS, Hub, HubHealth, RETURN_MS, RelayState, SILENT_MS};
use crate::messages::{HubEffect, HubMessage, LaneMessage, QueryId, Ticket};
use crate::random::Random;

const ROOMS: [&str; 3] = ["news", "urgent", "slow"];
const LANES: u8 = 3;
/// After which the model's broker gives a command up.
const TIMEOUT_MS: u64 = 1_000;

/// What the broker has yet to say, by when and in which order it was caused.
type Coming = BTreeMap<(u64, u64), BrokerEvent<Ticket>>;

/// One node with its broker.
struct Model {
    random: Random,
    hub: Hub,
    now_ms: u64,
    /// Commands are answered.
    commands: bool,
    /// Links bring what was published; a feed that does not is up all the same.
    brings: bool,
    /// The feed is up over this link.
    up: Option<LinkId>,
    master: MasterId,
    /// The master that the feed's link is on.
    followed: MasterId,
    peers: Vec<Peer>,
    requests: u64,
    coming: Coming,
    caused: u64,
    /// Asked, not answered: a publication's number.
    open: BTreeSet<u64>,
    published: u64,
    /// The newest publication that was handed over or delivered.
    passed: u64,
    refused: BTreeSet<u64>,
    /// By lane and publication: how often it was delivered.
    heard: BTreeMap<(u8, u64), u32>,
    accepted: BTreeMap<u64, Arc<Publication>>,
    degraded: [bool; LANES as usize],
    /// Joins without an answer.
    joining: BTreeSet<(u8, &'static str)>,
    joined: BTreeSet<(u8, &'static str)>,
    asked_ms: Option<u64>,
    asked: bool,
    wakes: u64,
    states: BTreeSet<&'static str>,
    seen_isolated: u64,
    /// All goes well from now on, but what went wrong is for the hub to find.
    healing: bool,
}

impl Model {
    fn new(seed: u64) -> Self {
        Self {
            random: Random(seed),
            hub: Hub::new(config(seed, true), Arc::new(Rules)),
            now_ms: 0,
            commands: true,
            brings: true,
            up: None,
            master: MasterId(1),
            followed: MasterId(1),
            peers: Vec::new(),
            requests: 0,
            coming: BTreeMap::new(),
            caused: 0,
            open: BTreeSet::new(),
            published: 0,
            passed: 0,
            refused: BTreeSet::new(),
            heard: BTreeMap::new(),
            accepted: BTreeMap::new(),
            degraded: [false; LANES as usize],
            joining: BTreeSet::new(),
            joined: BTreeSet::new(),
            asked_ms: None,
            asked: false,
            wakes: 0,
            states: BTreeSet::new(),
            seen_isolated: 0,
            healing: false,
        }
    }

    fn now(&self) -> Now {
        Now { mono_ms: self.now_ms, unix_ms: self.now_ms }
    }

    fn cause(&mut self, in_ms: u64, event: BrokerEvent<Ticket>) {
        self.caused += 1;
        self.coming.insert((self.now_ms + in_ms, self.caused), event);
    }

    fn act(&mut self, act: impl FnOnce(&mut Hub, Now, &mut Vec<HubEffect>)) {
        let mut out = Vec::new();
        let now = self.now();
        act(&mut self.hub, now, &mut out);
        for effect in out {
            self.execute(effect);
        }
        let health = self.hub.health(self.now());
        self.states.insert(health.relay.name());
        let waits = matches!(health.relay, RelayState::Cut | RelayState::Returning);
        assert!(health.waiting == 0 || waits, "{health:?}");
        self.hub.waiting.walk();
    }

    fn execute(&mut self, effect: HubEffect) {
        let delay_ms = 1 + self.random.below(5) as u64;
        match effect {
            HubEffect::Broker(BrokerCommand::Beat { seq, .. }) => self.beat(delay_ms, seq),
            HubEffect::Broker(BrokerCommand::Publish { ticket, publication, .. }) => {
                self.publish(delay_ms, ticket, publication);
            }
            HubEffect::Broker(BrokerCommand::Subscribe { room, request }) => {
                self.requests = request;
                if self.up.is_some() && self.brings {
                    self.cause(delay_ms, BrokerEvent::Subscribed { room, request });
                }
            }
            HubEffect::Broker(BrokerCommand::Reconnect { commands, .. }) => {
                assert!(!self.asked, "asked twice before the feed came up");
                let again = self.asked_ms.is_none_or(|at| at + AGAIN_MS <= self.now_ms);
                assert!(again, "a storm of reconnects");
                (self.asked, self.asked_ms) = (true, Some(self.now_ms));
                self.commands |= commands;
                self.connect();
            }
            HubEffect::Broker(
                BrokerCommand::Unsubscribe(_)
                | BrokerCommand::Heads { .. }
                | BrokerCommand::Read { .. }
                | BrokerCommand::Save { .. }
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
                | BrokerCommand::Occupancies { .. },
            ) => {}
            HubEffect::Lane(lane, LaneMessage::Joined { room, .. }) => {
                let name = ROOMS.into_iter().find(|name| *name == room.as_str()).unwrap();
                assert!(self.joining.remove(&(lane.0, name)), "answered twice");
            }
            HubEffect::Lane(lane, LaneMessage::Publication { publication, .. }) => {
                self.hear(lane, &publication);
            }
            HubEffect::Lane(lane, LaneMessage::Degraded { isolated }) => {
                let told = &mut self.degraded[usize::from(lane.0)];
                assert_ne!(*told, isolated, "told twice");
                *told = isolated;
            }
            HubEffect::Lane(_, LaneMessage::Lost(_)) => {}
            HubEffect::Roster(..)
            | HubEffect::Receipts(..)
            | HubEffect::History(..)
            | HubEffect::Ordered(..)
            | HubEffect::Occupied { .. }
            | HubEffect::Surveyed(..) => {
                panic!("nobody asked")
            }
            HubEffect::Answer(QueryId(number), outcome) => {
                assert!(self.open.remove(&number), "answered twice");
                match outcome {
                    Ok(Accepted { level: Level::Isolated, .. }) => self.pass(number),
                    Ok(_) => {}
                    Err(refused) if refused.unknown => {}
                    Err(_) => {
                        self.refused.insert(number);
                    }
                }
            }
            HubEffect::Lane(_, message) => panic!("the hub does not say {message:?}"),
        }
    }

    /// A publication was handed over, or delivered here: none of those before it will be any more.
    fn pass(&mut self, number: u64) {
        assert!(number > self.passed, "{number} was overtaken by {}", self.passed);
        assert!(!self.refused.contains(&number), "{number} was refused");
        self.passed = number;
    }

    fn hear(&mut self, lane: LaneId, publication: &Publication) {
        let number = publication.id.parse().unwrap();
        assert!(!self.refused.contains(&number), "{number} was refused");
        self.seen_isolated += u64::from(publication.isolated);
        let heard = self.heard.entry((lane.0, number)).or_default();
        *heard += 1;
        assert_eq!(*heard, 1, "{number} was heard twice on lane {}", lane.0);
    }

    fn beat(&mut self, delay_ms: u64, seq: u64) {
        if let Some(link) = self.up.filter(|_| self.commands && self.brings) {
            let beat = BrokerEvent::Beat { link, seq, master: self.followed, moved: Vec::new() };
            self.cause(delay_ms, beat);
        }
        let report = BeatReport {
            master: self.master,
            masters: self.master,
            links: self.up.into_iter().collect(),
            peers: self.peers.clone(),
            lease: Lease::Held,
            agents: Vec::new(),
            unread: Vec::new(),
        };
        let (delay_ms, report) =
            if self.commands { (delay_ms, Some(report)) } else { (TIMEOUT_MS, None) };
        self.cause(delay_ms, BrokerEvent::BeatAnswered { seq, report });
    }

    fn publish(&mut self, delay_ms: u64, ticket: Ticket, publication: Arc<Publication>) {
        let number = publication.id.parse().unwrap();
        self.pass(number);
        // A command that is not answered may have been carried out all the same.
        let executed = self.commands || self.random.chance(2);
        if executed {
            self.accepted.insert(number, Arc::clone(&publication));
            if self.up.is_some() && self.brings {
                let envelope = Envelope::Publication { publication, published_us: 0 };
                self.cause(delay_ms, BrokerEvent::Envelope(envelope));
            }
        }
        let (delay_ms, outcome) = if self.commands {
            (delay_ms, Ok(Accepted::WHOLE))
        } else {
            let mut refused = Refused::new(Refusal::Unavailable);
            refused.unknown = true;
            (TIMEOUT_MS, Err(refused))
        };
        self.cause(delay_ms, BrokerEvent::Published { ticket, outcome });
    }

    /// The feed's link is lost, and connected anew if commands are possible, to whichever master there is then.
    fn connect(&mut self) {
        self.coming.retain(|_, event| !matches!(event, BrokerEvent::FeedUp { .. }));
        if self.up.take().is_some() {
            self.cause(0, BrokerEvent::FeedDown);
        }
        if !self.commands {
            return;
        }
        let old = !self.healing && self.random.chance(4);
        self.followed = if old { self.followed } else { self.master };
        self.brings = true;
        let link = LinkId(u16::try_from(self.random.below(3)).unwrap());
        self.up = Some(link);
        let delay_ms = 1 + self.random.below(400) as u64;
        let up = BrokerEvent::FeedUp { links: vec![link], request: self.requests };
        self.cause(delay_ms, up);
    }

    fn step(&mut self) {
        let lane = u8::try_from(self.random.below(usize::from(LANES))).unwrap();
        let name = self.random.pick(&ROOMS);
        match self.random.below(60) {
            0 => self.commands = !self.commands,
            1 if self.brings => self.brings = false,
            2 => self.master = MasterId(self.master.0 + u64::from(self.random.chance(3))),
            3 | 4 => self.connect(),
            5 => {
                let peers = (0..self.random.below(3)).map(|number| Peer {
                    node: NodeId(number as u64),
                    hears: true,
                    agrees: true,
                });
                self.peers = peers.collect();
                for peer in &mut self.peers {
                    peer.hears = !self.random.chance(3);
                }
            }
            6..=10 if self.joined.insert((lane, name)) => {
                self.joining.insert((lane, name));
                let message = HubMessage::Join { lane: LaneId(lane), room: room(name) };
                self.act(|hub, now, out| hub.message(now, message, out));
            }
            // A lane keeps a room until its join is answered.
            11..=13
                if !self.joining.contains(&(lane, name)) && self.joined.remove(&(lane, name)) =>
            {
                let message = HubMessage::Leave { lane: LaneId(lane), room: room(name) };
                self.act(|hub, now, out| hub.message(now, message, out));
            }
            14..=30 => self.publish_one(name),
            _ => {}
        }
    }

    fn publish_one(&mut self, name: &str) {
        self.published += 1;
        let number = self.published;
        self.open.insert(number);
        let bytes = self.random.pick(&[300, 100_000]);
        let line = format!("publishes {name} id={number} bytes={bytes}");
        let message = HubMessage::Publish {
            ticket: Ticket::Query(QueryId(number)),
            publication: publication(&line),
            dedup: self.random.chance(2),
        };
        self.act(|hub, now, out| hub.message(now, message, out));
    }

    /// Lets time pass, with all that comes meanwhile.
    fn pass_time(&mut self, ms: u64) {
        let until = self.now_ms + ms;
        loop {
            let wake = self.hub.next_wake().unwrap();
            let coming = self.coming.first_key_value().map(|((at, _), _)| *at);
            let next = coming.map_or(wake, |at| at.min(wake));
            if next > until {
                break;
            }
            self.now_ms = self.now_ms.max(next);
            if coming == Some(next) {
                let (_, event) = self.coming.pop_first().unwrap();
                self.asked &= !matches!(event, BrokerEvent::FeedUp { .. });
                self.act(|hub, now, out| hub.broker_event(now, event, out));
            } else {
                self.wakes += 1;
                self.act(|hub, now, out| hub.tick(now, out));
                assert!(self.hub.next_wake() > Some(self.now_ms), "woken for ever");
            }
        }
        self.now_ms = until;
    }

    /// All is well again: it settles.
    fn heal(&mut self) {
        (self.commands, self.healing) = (true, true);
        for peer in &mut self.peers {
            peer.hears = true;
        }
        if self.up.is_none() {
            self.connect();
        }
        self.pass_time(AGAIN_MS + TIMEOUT_MS + SILENT_MS + RETURN_MS + 1_500);
        self.healing = false;
        let HubHealth { relay, waiting, .. } = self.hub.health(self.now());
        assert_eq!((relay, waiting), (RelayState::Whole, 0));
        assert!(self.open.is_empty(), "{:?} have no answer", self.open);
        assert!(self.joining.is_empty(), "{:?} have no answer", self.joining);
        assert_eq!(self.degraded, [false; LANES as usize]);
    }
}

#[test]
fn whatever_the_broker_does_publications_end_once_and_the_relay_settles() {
    let (mut states, mut isolated, mut refused, mut reconnects) = (BTreeSet::new(), 0, 0, [0; 3]);
    for seed in 0..300 {
        let mut model = Model::new(seed);
        for _ in 0..4 {
            for _ in 0..150 {
                model.step();
                let ms = model.random.below(120) as u64;
                model.pass_time(ms);
            }
            model.heal();
        }
        let most = model.now_ms / BEAT_RETURNING_MS + 1_000;
        assert!(model.wakes <= most, "{} wakes in {} ms", model.wakes, model.now_ms);
        states.append(&mut model.states);
        isolated += model.seen_isolated;
        refused += model.refused.len();
        let counters = model.hub.counters();
        reconnects[0] += counters.reconnects_silent;
        reconnects[1] += counters.reconnects_lagging;
        reconnects[2] += counters.reconnects_master;
    }
    // The steps are of use only if they lead everywhere.
    assert_eq!(states.len(), RelayState::ALL.len());
    assert!(isolated > 0 && refused > 0, "{isolated} isolated, {refused} refused");
    assert!(reconnects[0] > 0 && reconnects[2] > 0, "{reconnects:?}");
}
