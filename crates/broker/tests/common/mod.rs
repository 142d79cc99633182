//! Real servers, and nodes' feeds on them, for tests of the Redis broker.
#![allow(dead_code, unreachable_pub, reason = "each test program uses its part")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::wildcard_enum_match_arm,
    clippy::indexing_slicing,
    clippy::large_enum_variant,
    reason = "helpers of tests fail as tests do, and there are few of them"
)]

pub mod kept;

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use roomcast_broker::redis::{Credentials, RedisOptions, Servers};
use roomcast_broker::{AnyBroker, Feed, RedisBroker};
use roomcast_dialects::relay::Envelopes;
use roomcast_protocol::codes::Refused;
use roomcast_protocol::content::Content;
use roomcast_protocol::contract::{
    BrokerUnderTest, Brought, DEDUP_MAX, History, Lost, Presence, Traits,
};
use roomcast_protocol::envelope::{
    Accepted, BeatReport, BrokerCommand, BrokerEvent, Count, Envelope, Level, LinkId, Moved,
};
use roomcast_protocol::ids::NodeId;
use roomcast_protocol::occupancy::Occupancy;
use roomcast_protocol::position::{Epoch, Keep, Kept, Page, Position, Span};
use roomcast_protocol::publication::Publication;
use roomcast_protocol::relay::{ClusterTime, RelayCodec, RelayFormat, RelayKeys, RelayMode};
use roomcast_protocol::room::RoomName;
use tokio::runtime::Runtime;
use xtask::servers::{Cluster, Proxy, Redis, Sentinels};

/// A room by which nodes wait for what was published in others.
const BARRIER: &str = "barrier";

/// How long anything may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// From which number on beats are the helpers' own.
const BEATS: u64 = 1_000;

/// How long ids are remembered. Longer than the scripts' half seconds. Units: milliseconds.
const DEDUP_TTL_MS: u64 = 800;

/// How much more each of a script's times is late than the one before, so that a server's clock has certainly passed
/// what lies between them. Units: milliseconds.
const LATE_MS: u64 = 50;

/// Servers.
#[derive(Debug)]
pub enum Topology {
    Standalone(RefCell<Redis>),
    Proxied(RefCell<Redis>, Proxy),
    Sentinel(Sentinels),
    Cluster(Cluster),
}

impl Topology {
    pub fn standalone() -> Self {
        Self::Standalone(RefCell::new(Redis::start(&[]).unwrap()))
    }

    pub fn standalone_with(args: &[&str]) -> Self {
        Self::Standalone(RefCell::new(Redis::start(args).unwrap()))
    }

    pub fn with_password(password: &str) -> Self {
        Self::Standalone(RefCell::new(Redis::start(&["--requirepass", password]).unwrap()))
    }

    /// One server behind a proxy that can cut connections.
    pub fn proxied() -> Self {
        let redis = Redis::start(&[]).unwrap();
        let proxy = Proxy::start(redis.port()).unwrap();
        Self::Proxied(RefCell::new(redis), proxy)
    }

    pub fn sentinel() -> Self {
        Self::Sentinel(Sentinels::start(1, &[]).unwrap())
    }

    pub fn cluster() -> Self {
        Self::Cluster(Cluster::start(3).unwrap())
    }

    pub fn proxy(&self) -> &Proxy {
        let Self::Proxied(_, proxy) = self else { panic!("no proxy") };
        proxy
    }

    fn servers(&self) -> Servers {
        let here = |port: u16| ("127.0.0.1".to_owned(), port);
        match self {
            Self::Standalone(redis) => Servers::Standalone(here(redis.borrow().port())),
            Self::Proxied(_, proxy) => Servers::Standalone(here(proxy.port())),
            Self::Sentinel(sentinels) => Servers::Sentinel {
                sentinels: sentinels.sentinel_ports().into_iter().map(here).collect(),
                service: sentinels.service().to_owned(),
            },
            Self::Cluster(cluster) => {
                Servers::Cluster(cluster.ports().into_iter().map(here).collect())
            }
        }
    }

    /// A command at every server that takes writes.
    pub fn command(&self, args: &[&str]) {
        match self {
            Self::Standalone(redis) | Self::Proxied(redis, _) => {
                redis.borrow().command(args).unwrap();
            }
            Self::Sentinel(sentinels) => {
                let port = sentinels.master_port().unwrap();
                xtask::servers::Client::connect(port).unwrap().command(args).unwrap();
            }
            Self::Cluster(cluster) => {
                for node in cluster.nodes() {
                    node.command(args).unwrap();
                }
            }
        }
    }

    /// Forgets all data, but not the functions.
    pub fn flush(&self) {
        self.command(&["FLUSHALL"]);
    }

    /// Any command at every server, whatever it answers.
    pub fn raw<T: AsRef<[u8]>>(&self, args: &[T]) {
        match self {
            Self::Standalone(redis) | Self::Proxied(redis, _) => {
                drop(redis.borrow().command(args));
            }
            Self::Cluster(cluster) => {
                cluster.nodes().iter().for_each(|node| drop(node.command(args)));
            }
            Self::Sentinel(_) => panic!("which of them?"),
        }
    }

    /// The text, or the first text, of what one server answers.
    pub fn text(&self, args: &[&str]) -> String {
        let reply = self.redis().borrow().command(args).unwrap();
        reply.items().first().unwrap_or(&reply).text()
    }

    /// The number that one server answers.
    pub fn int(&self, args: &[&str]) -> i64 {
        self.text(args).parse().unwrap()
    }

    /// Publishes as an outsider.
    pub fn publish(&self, channel: &str, text: &str) {
        let args = ["PUBLISH", channel, text];
        match self {
            Self::Cluster(cluster) => drop(cluster.nodes()[0].command(&args).unwrap()),
            _ => self.command(&args),
        }
    }

    /// The texts that one server answers.
    pub fn texts(&self, args: &[&str]) -> Vec<String> {
        let reply = self.redis().borrow().command(args).unwrap();
        reply.items().iter().map(xtask::servers::Reply::text).collect()
    }

    /// The port of the one server.
    pub fn port(&self) -> u16 {
        self.redis().borrow().port()
    }

    fn redis(&self) -> &RefCell<Redis> {
        let (Self::Standalone(redis) | Self::Proxied(redis, _)) = self else {
            panic!("several servers")
        };
        redis
    }

    /// Freezes the server while something is done, and for this long at least.
    pub fn freeze(&self, least: Duration, act: impl FnOnce()) {
        let began = Instant::now();
        self.redis().borrow_mut().freeze().unwrap();
        act();
        std::thread::sleep(least.saturating_sub(began.elapsed()));
        self.redis().borrow_mut().thaw().unwrap();
    }

    pub fn kill(&self) {
        self.redis().borrow_mut().kill().unwrap();
    }

    pub fn restart(&self) {
        self.redis().borrow_mut().restart().unwrap();
    }
}

/// Options for servers without encryption.
pub fn options(topology: &Topology, mode: RelayMode) -> RedisOptions {
    let password = match topology {
        Topology::Standalone(redis) => {
            let url = redis.borrow().url();
            url.split_once("://:")
                .and_then(|(_, rest)| rest.split_once('@'))
                .map(|it| it.0.to_owned())
        }
        _ => None,
    };
    RedisOptions {
        servers: topology.servers(),
        credentials: Credentials { username: None, password },
        sentinel_credentials: Credentials::default(),
        tls: None,
        command_timeout_ms: 1_000,
        connect_timeout_ms: 2_000,
        pending_bytes_max: 16 << 20,
        dedup_ttl_ms: DEDUP_TTL_MS,
        dedup_max: DEDUP_MAX,
        replicas_min: 1,
        wait_timeout_ms: 1_000,
        codec: Arc::new(Envelopes {
            format: RelayFormat::MessagePack,
            message_bytes_max: 1 << 20,
            depth_max: 32,
        }),
        keys: None,
        mode,
        mode_of: Arc::new(move |_| mode),
        modes: vec![mode],
        modes_digest: 1,
        outsiders: true,
    }
}

/// The same, remembering ids as long and as many as nodes do.
pub fn with_long_memory(options: RedisOptions) -> RedisOptions {
    RedisOptions { dedup_ttl_ms: 120_000, dedup_max: 100_000, ..options }
}

/// The same, writing envelopes in another format.
pub fn with_format(options: RedisOptions, format: RelayFormat) -> RedisOptions {
    let codec = Envelopes { format, message_bytes_max: 1 << 20, depth_max: 32 };
    RedisOptions { codec: Arc::new(codec), ..options }
}

pub fn traits(topology: &Topology) -> Traits {
    Traits {
        dedup_ttl_ms: DEDUP_TTL_MS,
        fill_bytes: None,
        answers_apart: true,
        rooms_apart: matches!(topology, Topology::Cluster(_)),
        history: History {
            beside_bytes: beside_bytes(),
            loses: matches!(topology, Topology::Standalone(_)),
            beats: true,
        },
        presence: Presence {
            lease_ms: Some(8_000),
            occupancies: matches!(topology, Topology::Standalone(_)),
        },
    }
}

/// What an envelope of `1 publishes news text` weighs beside its payload, for MessagePack.
fn beside_bytes() -> usize {
    let codec =
        Envelopes { format: RelayFormat::MessagePack, message_bytes_max: 1 << 20, depth_max: 32 };
    let mut publication = publication("news", "123456789", 0);
    publication.id = "n0001".into();
    publication.position = Some(Position { epoch: Epoch(1), offset: 1 });
    let keys = RelayKeys { current: Box::default(), previous: None };
    // Any time of these years has as many bytes.
    let time = ClusterTime { now_us: 1_700_000_000_000_000, ahead_ms: 0 };
    let mut bytes = Vec::new();
    codec.encode(&keys, &publication, time, &mut bytes);
    bytes.len() - publication.content.len()
}

/// A room's partition. Source: the CRC-16 of Redis Cluster, bit by bit.
pub fn partition(room: &str) -> u16 {
    let crc = room.bytes().fold(0_u16, |crc, byte| {
        (0..8).fold(crc ^ (u16::from(byte) << 8), |crc, _| {
            if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 }
        })
    });
    crc % 256
}

/// Keeps enough of everything.
pub const KEEP: Keep =
    Keep { size: 100, bytes_max: 256 << 10, ttl_ms: 600_000, replicated: false, inbox: None };

/// The offsets of a page's entries, all of which can be read.
#[track_caller]
pub fn offsets(page: &Page) -> Vec<u64> {
    let offset = |kept: &Kept| match kept {
        Kept::Publication(publication) => publication.position.unwrap().offset,
        Kept::Unreadable(position) => panic!("{position:?} cannot be read"),
        Kept::Removed(position) => panic!("{position:?} was removed"),
    };
    page.entries.iter().map(offset).collect()
}

pub fn room(name: &str) -> RoomName {
    RoomName::parse(name).unwrap()
}

pub fn shown(envelope: &Envelope) -> String {
    let Envelope::Publication { publication, .. } = envelope else {
        return "unreadable".to_owned();
    };
    let (Content::Json(bytes) | Content::Text(bytes) | Content::Binary(bytes)) =
        &publication.content;
    let text = String::from_utf8_lossy(bytes);
    format!("{} {} {} {text}", publication.room, publication.kind, publication.sender)
}

pub fn publication(name: &str, text: &str, id: u64) -> Publication {
    Publication {
        id: format!("id-{id:04}").into(),
        kind: "message".into(),
        timestamp: "1970-01-01T00:00:00.000Z".into(),
        sender: "ann".into(),
        ..Publication::bare(RoomName::system(name).unwrap(), Content::Text(text.to_owned().into()))
    }
}

/// Subscribes and waits until it is in force.
#[track_caller]
pub fn subscribed(broker: &mut Real, node: NodeId, name: &str, request: u64) {
    broker.command(node, BrokerCommand::Subscribe { room: room(name), request });
    broker.wait(node, "a subscription", |event| match event {
        BrokerEvent::Subscribed { request: confirmed, .. } => (*confirmed == request).then_some(()),
        _ => None,
    });
}

/// What answers a command about sessions, users and cursors. Nothing does an ack: the next question to the same server
/// goes behind it.
fn answer_of(command: &BrokerCommand<u64>) -> Option<impl Fn(&BrokerEvent<u64>) -> bool + use<>> {
    let of = match command {
        BrokerCommand::Save { request, .. }
        | BrokerCommand::Attach { request, .. }
        | BrokerCommand::EndSessions { request, .. }
        | BrokerCommand::SetPresence { request, .. }
        | BrokerCommand::Roster { request, .. }
        | BrokerCommand::Inbox { request, .. }
        | BrokerCommand::Present { request, .. }
        | BrokerCommand::SetMarks { request, .. }
        | BrokerCommand::Receipts { request, .. }
        | BrokerCommand::SetEntry { request, .. }
        | BrokerCommand::Directory { request, .. }
        | BrokerCommand::Occupancies { request, .. } => *request,
        _ => return None,
    };
    Some(move |event: &BrokerEvent<u64>| match event {
        BrokerEvent::Saved { request, .. }
        | BrokerEvent::Attached { request, .. }
        | BrokerEvent::SessionsEnded { request, .. }
        | BrokerEvent::PresenceSet { request, .. }
        | BrokerEvent::Roster { request, .. }
        | BrokerEvent::Present { request, .. }
        | BrokerEvent::Inbox { request, .. }
        | BrokerEvent::MarksSet { request, .. }
        | BrokerEvent::Receipts { request, .. }
        | BrokerEvent::EntrySet { request, .. }
        | BrokerEvent::Directory { request, .. }
        | BrokerEvent::Occupancies { request, .. } => *request == of,
        _ => false,
    })
}

struct Node {
    feed: Feed<BrokerEvent<u64>>,
    events: Vec<BrokerEvent<u64>>,
    /// Up to which request the feed was up.
    up_to: u64,
}

impl Node {
    fn pump(&mut self) {
        let before = self.events.len();
        self.feed.try_recv_many(&mut self.events, usize::MAX);
        for event in self.events.iter().skip(before) {
            if let BrokerEvent::FeedUp { request, .. } = event {
                self.up_to = *request;
            }
        }
    }
}

/// A broker on real servers, with its nodes' feeds.
pub struct Real {
    /// Its servers, if they are a Cluster.
    masters: Vec<u16>,
    /// Its server, if there is but one.
    port: Option<u16>,
    broker: AnyBroker<u64>,
    nodes: HashMap<NodeId, Node>,
    beats: u64,
    asked: u64,
    began: Instant,
    mono_ms: u64,
    late_ms: u64,
    // Last: what the others hold lives in it.
    runtime: Runtime,
}

impl Real {
    pub fn new(options: RedisOptions) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        Self {
            masters: match &options.servers {
                Servers::Cluster(addresses) => addresses.iter().map(|(_, port)| *port).collect(),
                Servers::Standalone(_) | Servers::Sentinel { .. } => Vec::new(),
            },
            port: match &options.servers {
                Servers::Standalone((_, port)) => Some(*port),
                Servers::Cluster(_) | Servers::Sentinel { .. } => None,
            },
            broker: AnyBroker::Redis(RedisBroker::new(options)),
            nodes: HashMap::new(),
            beats: BEATS,
            asked: 0,
            began: Instant::now(),
            mono_ms: 0,
            late_ms: 0,
            runtime,
        }
    }

    /// Attaches without waiting for anything.
    pub fn attach_without_feed(&mut self, node: NodeId) {
        let inside = self.runtime.enter();
        let feed = self.broker.attach(node, &Arc::default());
        drop(inside);
        self.nodes.insert(node, Node { feed, events: Vec::new(), up_to: 0 });
    }

    /// Attaches and waits until the feed is up.
    #[track_caller]
    pub fn attach_node(&mut self, node: NodeId) -> Vec<LinkId> {
        self.attach_without_feed(node);
        self.wait(node, "the feed", |event| match event {
            BrokerEvent::FeedUp { links, .. } => Some(links.clone()),
            _ => None,
        })
    }

    pub fn command(&mut self, node: NodeId, command: BrokerCommand<u64>) {
        self.broker.execute(node, 0, command);
    }

    pub fn publish(&mut self, node: NodeId, ticket: u64, name: &str, text: &str, dedup: bool) {
        self.publish_as(node, ticket, ticket, name, text, dedup);
    }

    /// Publishes under an id that is not the ticket's.
    pub fn publish_as(
        &mut self,
        node: NodeId,
        ticket: u64,
        id: u64,
        name: &str,
        text: &str,
        dedup: bool,
    ) {
        let publication = Arc::new(publication(name, text, id));
        self.command(
            node,
            BrokerCommand::Publish { ticket, publication, dedup, keep: None, collapse: None },
        );
    }

    /// Publishes in a room that keeps publications.
    pub fn publish_kept(&mut self, node: NodeId, ticket: u64, id: u64, name: &str, keep: Keep) {
        let text = format!("text {id}");
        self.publish_text(node, ticket, id, (name, &text), keep);
    }

    /// The same with a text of one's own.
    pub fn publish_text(
        &mut self,
        node: NodeId,
        ticket: u64,
        id: u64,
        (name, text): (&str, &str),
        keep: Keep,
    ) {
        let publication = Arc::new(publication(name, text, id));
        let keep = Some(keep);
        self.command(
            node,
            BrokerCommand::Publish { ticket, publication, dedup: false, keep, collapse: None },
        );
    }

    /// Publishes in a room that keeps publications, and waits for the position.
    #[track_caller]
    pub fn stored(&mut self, node: NodeId, id: u64, name: &str, keep: Keep) -> Position {
        self.asked += 1;
        let ticket = 1_000_000 + self.asked;
        self.publish_kept(node, ticket, id, name, keep);
        let accepted = self.outcome(node, ticket).unwrap();
        assert_eq!((accepted.level, accepted.partial), (Level::Stored, false));
        accepted.position.unwrap()
    }

    /// The newest positions of rooms.
    #[track_caller]
    pub fn heads(&mut self, node: NodeId, names: &[&str], keep: Keep) -> Option<Vec<Position>> {
        self.asked += 1;
        let asked = self.asked;
        let rooms = names.iter().map(|name| (RoomName::system(name).unwrap(), keep)).collect();
        self.command(node, BrokerCommand::Heads { request: asked, rooms });
        self.wait(node, "heads", |event| match event {
            BrokerEvent::Heads { request, heads } if *request == asked => Some(heads.clone()),
            _ => None,
        })
    }

    /// What a room keeps, within a span.
    #[track_caller]
    pub fn page(&mut self, node: NodeId, name: &str, keep: Keep, span: Span) -> Option<Page> {
        self.asked += 1;
        let asked = self.asked;
        let room = RoomName::system(name).unwrap();
        self.command(node, BrokerCommand::Read { request: asked, room, keep, span });
        self.wait(node, "a page", |event| match event {
            BrokerEvent::Read { request, page } if *request == asked => Some(page.clone()),
            _ => None,
        })
    }

    /// All that a room keeps.
    #[track_caller]
    pub fn kept(&mut self, node: NodeId, name: &str, keep: Keep) -> Page {
        self.page(node, name, keep, Span::above(0)).unwrap()
    }

    /// How many bytes the envelopes of a stream have, one by one.
    #[allow(clippy::unused_self, reason = "reads beside the broker what the broker wrote")]
    pub fn envelope_bytes(&self, topology: &Topology, stream: &str) -> Vec<u64> {
        let reply = topology.redis().borrow().command(&["XRANGE", stream, "-", "+"]).unwrap();
        let bytes = |entry: &xtask::servers::Reply| {
            let fields = entry.items()[1].items();
            let xtask::servers::Reply::Bulk(envelope) = &fields[3] else { panic!("no envelope") };
            envelope.len() as u64
        };
        reply.items().iter().map(bytes).collect()
    }

    /// Subscribes to a room of any name and waits until it is in force.
    #[track_caller]
    pub fn subscribe_to(&mut self, node: NodeId, room: RoomName, request: u64) {
        self.command(node, BrokerCommand::Subscribe { room, request });
        self.until(
            node,
            "a subscription",
            |event| matches!(event, BrokerEvent::Subscribed { request: it, .. } if *it == request),
        );
    }

    /// The next publication that comes over the feed, whatever it is.
    #[track_caller]
    pub fn next_envelope(&mut self, node: NodeId) -> Envelope {
        self.wait(node, "an envelope", |event| match event {
            BrokerEvent::Envelope(envelope) => Some(envelope.clone()),
            _ => None,
        })
    }

    /// Beats, and answers with what moved in partitions as the beats over all links tell it.
    #[track_caller]
    pub fn moved(&mut self, node: NodeId, taken: &[Count]) -> Vec<Moved> {
        if !self.masters.is_empty() {
            subscribed(self, node, BARRIER, 0);
        }
        self.beats += 1;
        let beat = self.beats;
        let taken = taken.to_vec();
        self.command(
            node,
            BrokerCommand::Beat {
                seq: beat,
                hears: true,
                life: 1,
                retired: None,
                taken,
                told: None,
                reads: false,
            },
        );
        self.wait(node, "a beat's answer", |event| match event {
            BrokerEvent::BeatAnswered { seq, report } if *seq == beat => {
                Some(report.as_ref().unwrap().links.clone())
            }
            _ => None,
        });
        self.settle(node);
        let events = &mut self.nodes.get_mut(&node).unwrap().events;
        let mut found = Vec::new();
        for event in events {
            match event {
                BrokerEvent::Beat { seq, moved, .. } if *seq == beat => found.append(moved),
                _ => {}
            }
        }
        found.sort_by_key(|moved| moved.count.partition);
        found
    }

    /// How a publication ended.
    #[track_caller]
    pub fn outcome(&mut self, node: NodeId, ticket: u64) -> Result<Accepted, Refused> {
        self.wait(node, "an outcome", |event| match event {
            BrokerEvent::Published { ticket: it, outcome } if *it == ticket => {
                Some(outcome.clone())
            }
            _ => None,
        })
    }

    /// Whether a publication has ended.
    pub fn has_ended(&mut self, node: NodeId, ticket: u64) -> bool {
        let node = self.nodes.get_mut(&node).unwrap();
        node.pump();
        node.events.iter().any(
            |event| matches!(event, BrokerEvent::Published { ticket: it, .. } if *it == ticket),
        )
    }

    /// Bytes that wait in a node's feed.
    pub fn feed_bytes(&self, node: NodeId) -> usize {
        self.nodes[&node].feed.bytes()
    }

    /// Requests that were confirmed one by one, and up to which all are in force because the feed came up.
    pub fn confirmed(&mut self, node: NodeId) -> (Vec<u64>, u64) {
        let node = self.nodes.get_mut(&node).unwrap();
        node.pump();
        let one = |event: &BrokerEvent<u64>| match event {
            BrokerEvent::Subscribed { request, .. } => Some(*request),
            _ => None,
        };
        (node.events.iter().filter_map(one).collect(), node.up_to)
    }

    /// Waits for an event that `find` knows, and takes it.
    #[track_caller]
    pub fn wait<R>(
        &mut self,
        node: NodeId,
        what: &str,
        find: impl Fn(&BrokerEvent<u64>) -> Option<R>,
    ) -> R {
        let node = self.nodes.get_mut(&node).unwrap();
        let deadline = Instant::now() + PATIENCE;
        loop {
            node.pump();
            if let Some(at) = node.events.iter().position(|event| find(event).is_some()) {
                let event = node.events.remove(at);
                return find(&event).unwrap();
            }
            assert!(Instant::now() < deadline, "no {what}; there are {:?}", node.events);
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// The publications that come until this text, all of them as shown; nothing else may have happened to the feed.
    #[track_caller]
    pub fn heard_until(&mut self, node: NodeId, last: &str) -> Vec<String> {
        let mut heard = Vec::new();
        while heard.last().is_none_or(|heard: &String| heard != last) {
            heard.push(self.wait(node, last, |event| match event {
                BrokerEvent::Envelope(envelope) => Some(shown(envelope)),
                BrokerEvent::FeedDown => Some("the feed was lost".to_owned()),
                _ => None,
            }));
        }
        heard
    }

    /// Publishes until the servers take it.
    #[track_caller]
    pub fn publish_surely(&mut self, node: NodeId, ticket: u64, name: &str, text: &str) {
        let deadline = Instant::now() + PATIENCE;
        for ticket in ticket.. {
            self.publish(node, ticket, name, text, true);
            match self.outcome(node, ticket) {
                Ok(_) => return,
                Err(refused) => assert!(Instant::now() < deadline, "{refused:?}"),
            }
        }
    }

    /// Waits until the feed has been up and unchanged for a while.
    #[track_caller]
    pub fn stand(&mut self, node: NodeId) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            std::thread::sleep(Duration::from_millis(500));
            let node = self.nodes.get_mut(&node).unwrap();
            node.pump();
            let changes = |event: &BrokerEvent<u64>| {
                matches!(event, BrokerEvent::FeedUp { .. } | BrokerEvent::FeedDown)
            };
            let last = node.events.iter().rfind(|event| changes(event));
            let changed = last.is_some();
            if !matches!(last, Some(BrokerEvent::FeedDown)) {
                node.events.retain(|event| !changes(event));
                if !changed {
                    return;
                }
            }
            assert!(Instant::now() < deadline, "the feed does not stand: {:?}", node.events);
        }
    }

    /// Hears a room no more.
    pub fn leave(&mut self, node: NodeId, name: &str) {
        self.command(node, BrokerCommand::Unsubscribe(room(name)));
    }

    /// Sends a beat and waits for its answer; `None`: it was not answered.
    #[track_caller]
    pub fn beat(&mut self, node: NodeId) -> Option<BeatReport> {
        self.beats += 1;
        let beat = self.beats;
        self.command(
            node,
            BrokerCommand::Beat {
                seq: beat,
                hears: true,
                life: 1,
                retired: None,
                taken: Vec::new(),
                told: None,
                reads: false,
            },
        );
        self.wait(node, "a beat's answer", |event| match event {
            BrokerEvent::BeatAnswered { seq, report } if *seq == beat => Some(report.clone()),
            _ => None,
        })
    }

    /// Waits until an event is there, and leaves it.
    #[track_caller]
    fn until(&mut self, node: NodeId, what: &str, found: impl Fn(&BrokerEvent<u64>) -> bool) {
        let node = self.nodes.get_mut(&node).unwrap();
        let deadline = Instant::now() + PATIENCE;
        loop {
            node.pump();
            if node.events.iter().any(&found) {
                return;
            }
            assert!(Instant::now() < deadline, "no {what}; there are {:?}", node.events);
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Waits until all that was published before has come. A beat over each link comes behind it; in a Cluster what is
    /// not sharded comes by the bus as well, from each master behind what it sent before.
    #[track_caller]
    fn settle(&mut self, node: NodeId) {
        self.beats += 1;
        let beat = self.beats;
        self.command(
            node,
            BrokerCommand::Beat {
                seq: beat,
                hears: true,
                life: 1,
                retired: None,
                taken: Vec::new(),
                told: None,
                reads: false,
            },
        );
        let links = self.wait(node, "a beat's answer", |event| match event {
            BrokerEvent::BeatAnswered { seq, report } if *seq == beat => {
                Some(report.as_ref().unwrap().links.clone())
            }
            _ => None,
        });
        for link in links {
            self.wait(node, "a beat over each link", |event| match event {
                BrokerEvent::Beat { link: over, seq, .. } => {
                    (*over == link && *seq == beat).then_some(())
                }
                _ => None,
            });
        }
        for port in self.masters.clone() {
            let text = format!("{port} {beat}");
            let channel = format!("room:{BARRIER}");
            let mut master = xtask::servers::Client::connect(port).unwrap();
            master.command(&["PUBLISH", &channel, &text]).unwrap();
            let expected = format!("{BARRIER} message external {text}");
            self.wait(node, "what a master sent", |event| match event {
                BrokerEvent::Envelope(envelope) => (shown(envelope) == expected).then_some(()),
                _ => None,
            });
        }
    }
}

impl BrokerUnderTest for Real {
    fn attach(&mut self, node: NodeId) {
        self.attach_node(node);
        if !self.masters.is_empty() {
            subscribed(self, node, BARRIER, 0);
        }
    }

    fn detach(&mut self, node: NodeId) {
        self.settle(node);
        let inside = self.runtime.enter();
        self.broker.detach(node);
        drop(inside);
        let left = self.nodes.get_mut(&node).unwrap();
        let deadline = Instant::now() + PATIENCE;
        while !left.feed.has_ended() {
            left.pump();
            assert!(Instant::now() < deadline, "the feed goes on");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn execute(&mut self, node: NodeId, mono_ms: u64, command: BrokerCommand<u64>) {
        if mono_ms == 0 {
            self.began = Instant::now();
        } else if mono_ms != self.mono_ms {
            self.mono_ms = mono_ms;
            self.late_ms += LATE_MS;
            let at = self.began + Duration::from_millis(mono_ms + self.late_ms);
            std::thread::sleep(at.saturating_duration_since(Instant::now()));
        }
        let attached = self.nodes.get(&node).is_some_and(|node| !node.feed.has_ended());
        match command {
            BrokerCommand::Publish { ticket, publication, dedup, keep, collapse } => {
                self.command(
                    node,
                    BrokerCommand::Publish { ticket, publication, dedup, keep, collapse },
                );
                if attached {
                    self.until(node, "an outcome", |event| {
                        matches!(event, BrokerEvent::Published { ticket: it, .. } if *it == ticket)
                    });
                }
            }
            BrokerCommand::Subscribe { room, request } => {
                self.command(node, BrokerCommand::Subscribe { room, request });
                self.until(node, "a subscription", |event| {
                    matches!(event, BrokerEvent::Subscribed { request: it, .. } if *it == request)
                });
            }
            BrokerCommand::Heads { request, rooms } => {
                self.command(node, BrokerCommand::Heads { request, rooms });
                self.until(node, "heads", |event| {
                    matches!(event, BrokerEvent::Heads { request: it, .. } if *it == request)
                });
            }
            BrokerCommand::Read { request, room, keep, span } => {
                self.command(node, BrokerCommand::Read { request, room, keep, span });
                self.until(node, "a page", |event| {
                    matches!(event, BrokerEvent::Read { request: it, .. } if *it == request)
                });
            }
            beat @ BrokerCommand::Beat { seq, .. } => {
                self.command(node, beat);
                self.until(node, "a beat's answer", |event| {
                    matches!(event, BrokerEvent::BeatAnswered { seq: it, .. } if *it == seq)
                });
            }
            other => {
                if matches!(other, BrokerCommand::SetMarks { .. }) {
                    // Each step of marks at a time of its own.
                    std::thread::sleep(Duration::from_millis(2));
                }
                let answered = answer_of(&other);
                self.command(node, other);
                if let Some(answered) = answered {
                    self.until(node, "an answer", answered);
                }
            }
        }
    }

    fn drain(&mut self, node: NodeId) -> Brought {
        if !self.nodes[&node].feed.has_ended() {
            self.settle(node);
        }
        let node = self.nodes.get_mut(&node).unwrap();
        let wanted = |event: &BrokerEvent<u64>| match event {
            BrokerEvent::Alive(_) | BrokerEvent::FeedUp { .. } => false,
            BrokerEvent::Beat { seq, .. } | BrokerEvent::BeatAnswered { seq, .. } => *seq < BEATS,
            BrokerEvent::Envelope(Envelope::Publication { publication, .. }) => {
                publication.room.as_str() != BARRIER
            }
            _ => true,
        };
        let mut events: Vec<BrokerEvent<u64>> = Vec::new();
        for event in std::mem::take(&mut node.events).into_iter().filter(wanted) {
            // What comes over several links is one beat.
            let told = events.iter_mut().find_map(|before| match (before, &event) {
                (BrokerEvent::Beat { seq, moved, .. }, BrokerEvent::Beat { seq: other, .. }) => {
                    (seq == other).then_some(moved)
                }
                _ => None,
            });
            match (told, event) {
                (Some(told), BrokerEvent::Beat { mut moved, .. }) => told.append(&mut moved),
                (_, event) => events.push(event),
            }
        }
        Brought { events, ended: node.feed.has_ended() }
    }

    fn lose(&mut self, what: Lost<'_>) {
        let mut server = xtask::servers::Client::connect(self.port.unwrap()).unwrap();
        let (kinds, room): (&[&str], _) = match what {
            Lost::Meta(room) => (&["meta"], room),
            Lost::Stream(room) => (&["stream", "holes", "newest", "low"], room),
            Lost::Ids(room) => (&["ids", "ids-old", "kept-ids", "kept-ids-old"], room),
            Lost::Cursors(room) => (&["cursors"], room),
            Lost::Receipts(room) => (&["marks", "marked"], room),
            Lost::Presence(room) => (&["presence", "roster", "said-*"], room),
            Lost::Session { user, session } => {
                let own = server.command(&["KEYS", &format!("rc:*:sessions:{user}")]).unwrap();
                for index in own.items().iter().map(xtask::servers::Reply::text) {
                    let prefix = index.split_once("sessions").unwrap().0;
                    server.command(&["DEL", &format!("{prefix}session:{session}")]).unwrap();
                }
                return;
            }
            Lost::Everything => {
                server.command(&["FLUSHALL"]).unwrap();
                return;
            }
        };
        for kind in kinds {
            let found = server.command(&["KEYS", &format!("rc:*:{kind}:{room}")]).unwrap();
            for key in found.items() {
                server.command(&["DEL", &key.text()]).unwrap();
            }
        }
    }

    fn occupancies(&mut self, room: &RoomName) -> Vec<Occupancy> {
        let mut server = xtask::servers::Client::connect(self.port.unwrap()).unwrap();
        let streams = server.command(&["KEYS", "rc:*:$occupancy:"]).unwrap();
        let event = |event: &xtask::servers::Reply| {
            let fields = event.items()[1].items();
            let text = |at: usize| fields[at].text();
            let epoch = Epoch::parse(&text(3)).unwrap();
            let version = Position { epoch, offset: text(5).parse().unwrap() };
            let room = RoomName::system(&text(1)).unwrap();
            Occupancy { room, version, occupied: text(7) == "1" }
        };
        // Only the room's own partition tells of it.
        let all = streams.items().iter().map(|stream| {
            let events = server.command(&["XRANGE", &stream.text(), "-", "+"]).unwrap();
            events.items().iter().map(event).collect::<Vec<_>>()
        });
        let own = all.into_iter().find(|events| events.iter().any(|it| it.room == *room));
        own.unwrap_or_default()
    }

    fn partition_of(&self, room: &RoomName) -> u16 {
        roomcast_broker::redis::partition_of(room)
    }

    fn promote(&mut self) {
        let mut server = xtask::servers::Client::connect(self.port.unwrap()).unwrap();
        // Whoever was a replica, of nobody in reach, has a name of its own as a master.
        server.command(&["REPLICAOF", "127.0.0.1", "1"]).unwrap();
        server.command(&["REPLICAOF", "NO", "ONE"]).unwrap();
    }
}
