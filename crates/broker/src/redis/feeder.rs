//! Keeps one node's feed connected: which links there are, what each of them hears, and when all of it is heard.
//!
//! Links live and die together: when one is lost, or the masters change, all are replaced, and the node is told that
//! the feed was down. That is simpler than mending, and what was missed meanwhile is told either way.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use fred::clients::Client;
use fred::error::Error;
use fred::interfaces::{ClientLike, ClusterInterface, EventInterface, FunctionInterface};
use fred::types::Value;
use fred::types::cluster::ClusterRouting;
use fred::types::config::Server;
use roomcast_protocol::envelope::{BrokerEvent, LinkId};
use roomcast_protocol::relay::RelayMode;
use roomcast_protocol::room::RoomName;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use super::channels::{self, Kind, PARTITIONS, PATTERN, PLAIN, beat_name, key};
use super::faults::{if_full, load};
use super::functions;
use super::link::{Link, LinkError, LinkOrder, LinkPlan};
use super::options::Servers;
use super::shared::{LinkBeat, RELAY_KEY, Shared, Want};

/// How long to rest before connecting again.
const REST: Duration = Duration::from_millis(100);

/// How long trouble must last until it is told.
const TELL_AFTER: Duration = Duration::from_millis(1_500);

/// How often the same trouble is told.
const TELL_EVERY: Duration = Duration::from_secs(10);

/// Bytes of a key for the relay that is made by a node.
const KEY_BYTES: usize = 32;

/// What one node asks of its feed.
pub(crate) enum FeedOrder {
    Subscribe { room: RoomName, request: u64 },
    Unsubscribe(RoomName),
    Reconnect { link: LinkId, commands: bool },
}

/// Why the feed is not up.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error("Redis cannot be reached")]
    Away,
    #[error("Redis does not take what it is asked: {0}")]
    Commands(#[from] Error),
    #[error(transparent)]
    Link(#[from] LinkError),
    #[error("no random bytes: {0}")]
    Random(getrandom::Error),
    #[error("the system refused a task")]
    Task,
    #[error("no answer of the function")]
    Answer,
    #[error("its data is laid out in {0} partitions, and this node works with {PARTITIONS}")]
    Layout(u64),
}

/// One set of links.
struct Links {
    ids: Vec<LinkId>,
    orders: Vec<mpsc::UnboundedSender<LinkOrder>>,
    running: JoinSet<Result<(), LinkError>>,
}

/// What the links of a set shall be.
struct Design {
    pattern: bool,
    plans: Vec<LinkPlan>,
    beats: Vec<LinkBeat>,
    /// Index of the link for what is not sharded.
    plain: Option<usize>,
    /// Without a Cluster: the one server.
    server: Option<Server>,
    /// In a Cluster: which master each link for sharded channels is connected to.
    masters: Vec<(Server, usize)>,
    /// In a Cluster: which master has which slot.
    routing: Option<ClusterRouting>,
}

/// Keeps the feed of one node.
pub(crate) struct Feeder<T> {
    shared: Arc<Shared<T>>,
    orders: mpsc::UnboundedReceiver<FeedOrder>,
    connector: Option<tokio_rustls::TlsConnector>,
    next_link: u16,
    /// The highest request that was put into what is wanted.
    request: u64,
    /// When trouble that is still there is worth a word.
    tell_at: Option<Instant>,
    /// A server said that a slot is elsewhere.
    moved: bool,
}

impl<T: Send + 'static> Feeder<T> {
    pub(crate) fn new(
        shared: Arc<Shared<T>>,
        orders: mpsc::UnboundedReceiver<FeedOrder>,
        connector: Option<tokio_rustls::TlsConnector>,
    ) -> Self {
        Self { shared, orders, connector, next_link: 0, request: 0, tell_at: None, moved: false }
    }

    /// Connects, again and again, until the node is detached.
    pub(crate) async fn run(mut self) {
        loop {
            match self.connect().await {
                Ok((design, mut links)) => {
                    self.tell_at = None;
                    self.up(&design, &links);
                    if !self.serve(&design, &mut links).await {
                        return;
                    }
                    self.shared.beats().clear();
                    self.shared
                        .stats
                        .links_lost
                        .fetch_add(links.ids.len() as u64, Ordering::Relaxed);
                    self.shared.tell(BrokerEvent::FeedDown);
                }
                Err(trouble) => {
                    self.complain(&trouble);
                    sleep(REST).await;
                }
            }
        }
    }

    /// Tells of trouble that lasts: at a node's start, and when links are replaced, the first tries may well fail.
    fn complain(&mut self, trouble: &Trouble) {
        let tell_at = *self.tell_at.get_or_insert_with(|| Instant::now() + TELL_AFTER);
        if Instant::now() >= tell_at {
            self.tell_at = Some(Instant::now() + TELL_EVERY);
            tracing::warn!(cause = %trouble, "the feed cannot be connected; trying on");
        }
    }

    fn up(&self, design: &Design, links: &Links) {
        self.shared.beats().clone_from(&design.beats);
        let (ids, request) = (links.ids.clone(), self.request);
        self.shared.tell(BrokerEvent::FeedUp { links: ids, request });
    }

    async fn connect(&mut self) -> Result<(Design, Links), Trouble> {
        // Also without a server, or what clients do meanwhile would pile up.
        self.note_all();
        let client = self.shared.connected().ok_or(Trouble::Away)?;
        if std::mem::take(&mut self.moved) {
            // It goes on trying for as long as the Cluster is away.
            let limit = Duration::from_millis(self.shared.options.connect_timeout_ms);
            timeout(limit, client.sync_cluster()).await.map_err(|_| Trouble::Away)??;
        }
        load(&self.shared, &client).await.or_else(if_full)?;
        agree(&self.shared, &client).await?;
        self.note_all();
        let mut design = self.design(&client)?;
        let mut connecting = JoinSet::new();
        let mut ids = Vec::new();
        for (at, plan) in design.plans.drain(..).enumerate() {
            ids.push(plan.id);
            let (shared, connector) = (Arc::clone(&self.shared), self.connector.clone());
            connecting.spawn(async move { (at, Link::connect(shared, connector, plan).await) });
        }
        let mut connected = Vec::new();
        while let Some(joined) = connecting.join_next().await {
            let (at, link) = joined.map_err(|_| Trouble::Task)?;
            self.moved |= matches!(link, Err(LinkError::Moved));
            connected.push((at, link?));
        }
        connected.sort_by_key(|(at, _)| *at);
        let mut running = JoinSet::new();
        let mut orders = Vec::new();
        for (_, link) in connected {
            let (sender, receiver) = mpsc::unbounded_channel();
            orders.push(sender);
            running.spawn(link.run(receiver));
        }
        Ok((design, Links { ids, orders, running }))
    }

    /// What is asked while the feed is down only changes what will be heard.
    fn note_all(&mut self) {
        while let Ok(order) = self.orders.try_recv() {
            match order {
                FeedOrder::Subscribe { room, request } => {
                    self.request = request;
                    self.shared.hearing().rooms.insert(room, Want { request, unconfirmed: 0 });
                }
                FeedOrder::Unsubscribe(room) => {
                    self.shared.hearing().rooms.remove(&room);
                }
                FeedOrder::Reconnect { .. } => {}
            }
        }
    }

    /// Obeys until a link is lost or has to be replaced; says whether the node is still attached.
    async fn serve(&mut self, design: &Design, links: &mut Links) -> bool {
        let mut changes = self.shared.connected().map(|client| client.cluster_change_rx());
        let mut server = self.shared.server.subscribe();
        server.mark_changed();
        loop {
            let moved = async {
                match &mut changes {
                    Some(changes) => changes.recv().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                // Whoever is detached first of all: what ends with it is no loss.
                biased;
                order = self.orders.recv() => match order {
                    None => return false,
                    Some(FeedOrder::Reconnect { link, commands }) if links.ids.contains(&link) => {
                        tracing::warn!(link = link.0, commands, "the feed is connected anew");
                        if commands && let Some(client) = self.shared.connected() {
                            let forced = timeout(REST, client.force_reconnection()).await;
                            tracing::debug!(?forced, "commands are connected anew");
                        }
                        return true;
                    }
                    Some(FeedOrder::Reconnect { .. }) => {}
                    Some(order) => if !self.obey(order, design, links) {
                        self.moved = true;
                        return true;
                    },
                },
                ended = links.running.join_next() => {
                    if let Some(Ok(Err(cause))) = ended {
                        tracing::warn!(%cause, "a link of the feed was lost");
                        self.moved = matches!(cause, LinkError::Moved);
                    }
                    return true;
                }
                () = self.shared.replan.notified() => return true,
                // The feed follows the commands, or both would be on different masters.
                Ok(()) = server.changed() => {
                    let now = server.borrow_and_update().clone();
                    if design.server.is_some() && now.is_some() && now != design.server {
                        return true;
                    }
                }
                change = moved, if !design.masters.is_empty() => {
                    let gone = matches!(change, Err(RecvError::Closed));
                    if gone || self.masters_changed(design) {
                        return true;
                    }
                }
            }
        }
    }

    fn masters_changed(&self, design: &Design) -> bool {
        let state = self.shared.connected().and_then(|client| client.cached_cluster_state());
        let Some(state) = state else { return false };
        let now = state.unique_primary_nodes();
        now.len() != design.masters.len()
            || design.masters.iter().any(|(server, _)| !now.contains(server))
    }

    /// Says whether all links that are needed are there.
    fn obey(&mut self, order: FeedOrder, design: &Design, links: &Links) -> bool {
        match order {
            FeedOrder::Subscribe { room, request } => {
                self.request = request;
                let channels = self.channels(design, &room);
                let unconfirmed = u8::try_from(channels.len()).unwrap_or(u8::MAX);
                self.shared.hearing().rooms.insert(room.clone(), Want { request, unconfirmed });
                if channels.is_empty() {
                    self.shared.tell(BrokerEvent::Subscribed { room, request });
                    return true;
                }
                channels.into_iter().all(|(kind, channel)| {
                    let link = design.link_of(kind, &channel);
                    let room = room.clone();
                    send(links, link, LinkOrder::Subscribe { kind, channel, room, request })
                })
            }
            FeedOrder::Unsubscribe(room) => {
                self.shared.hearing().rooms.remove(&room);
                self.channels(design, &room).into_iter().all(|(kind, channel)| {
                    let link = design.link_of(kind, &channel);
                    send(links, link, LinkOrder::Unsubscribe { kind, channel })
                })
            }
            FeedOrder::Reconnect { .. } => true,
        }
    }

    /// Where a room is heard beside the pattern.
    fn channels(&self, design: &Design, room: &RoomName) -> Vec<(Kind, String)> {
        let options = &self.shared.options;
        let in_mode = |mode| {
            let outsiders = options.outsiders;
            channels::subscriptions(&self.shared.tags, mode, design.pattern, outsiders, room)
        };
        if self.shared.hearing().every_mode {
            return [RelayMode::Exact, RelayMode::Sharded].into_iter().flat_map(in_mode).collect();
        }
        in_mode((options.mode_of)(room))
    }

    /// What links are needed, and what each of them hears.
    fn design(&mut self, client: &Client) -> Result<Design, Trouble> {
        let shared = Arc::clone(&self.shared);
        let options = &shared.options;
        let every_mode = shared.hearing().every_mode;
        let has = |mode| every_mode || options.modes.contains(&mode);
        let pattern = has(RelayMode::Pattern);
        let state = match options.servers {
            Servers::Cluster(_) => Some(client.cached_cluster_state().ok_or(Trouble::Away)?),
            Servers::Standalone(_) | Servers::Sentinel { .. } => None,
        };
        let server = shared.server.borrow().clone();
        let mut masters = match (&state, server) {
            (Some(state), _) => state.unique_primary_nodes(),
            (None, Some(server)) => vec![server],
            (None, None) => client.active_connections(),
        };
        masters.sort_by(|a, b| (&a.host, a.port).cmp(&(&b.host, b.port)));
        let mut design = Design {
            pattern,
            plans: Vec::new(),
            beats: Vec::new(),
            plain: None,
            server: masters.first().filter(|_| state.is_none()).cloned(),
            masters: Vec::new(),
            routing: state.clone(),
        };
        let plain = pattern || has(RelayMode::Exact) || options.outsiders || state.is_none();
        if plain {
            // Nodes spread over the masters of a Cluster: each of them has all that is not sharded.
            let count = u64::try_from(masters.len()).unwrap_or(1).max(1);
            let at = usize::try_from(shared.node.0 % count).unwrap_or(0);
            let server = masters.get(at).ok_or(Trouble::Away)?.clone();
            design.plain = Some(0);
            let tag = shared.tags.common();
            let kind = match (pattern, state.is_some() || has(RelayMode::Exact)) {
                (true, _) => Kind::Pattern,
                (false, true) => Kind::Plain,
                (false, false) => Kind::Sharded,
            };
            self.add(&mut design, server, kind, tag);
        }
        if let Some(state) = state.as_ref().filter(|_| has(RelayMode::Sharded)) {
            for server in masters {
                let owned = |slot| state.get_server(slot) == Some(&server);
                let Some(tag) = shared.tags.with_slot(owned) else { continue };
                design.masters.push((server.clone(), design.plans.len()));
                self.add(&mut design, server.clone(), Kind::Sharded, tag);
            }
        }
        let rooms: Vec<_> = shared.hearing().rooms.keys().cloned().collect();
        for room in rooms {
            for (kind, channel) in self.channels(&design, &room) {
                let at = design.link_of(kind, &channel);
                let plan = at.and_then(|at| design.plans.get_mut(at)).ok_or(Trouble::Away)?;
                plan.channels.push((kind, channel));
            }
        }
        Ok(design)
    }

    /// Adds a link that hears its own beats by this kind of subscription.
    fn add(&mut self, design: &mut Design, server: Server, kind: Kind, tag: &str) {
        let id = LinkId(self.next_link);
        self.next_link = self.next_link.wrapping_add(1);
        let name = beat_name(self.shared.node);
        let (heard, channel) = match kind {
            Kind::Pattern => (PATTERN.to_owned(), format!("{PLAIN}{name}")),
            Kind::Plain | Kind::Sharded => {
                let channel = format!("rc:{{{tag}}}:{name}");
                (channel.clone(), channel)
            }
        };
        let key = key(tag, "beat", "");
        design.beats.push(LinkBeat { link: id, kind, channel, server: Some(server.clone()), key });
        design.plans.push(LinkPlan { id, server, channels: vec![(kind, heard)] });
    }
}

impl Design {
    /// Which link hears a channel; `None`: no master has its slot.
    fn link_of(&self, kind: Kind, channel: &str) -> Option<usize> {
        let Some(routing) = self.routing.as_ref().filter(|_| kind == Kind::Sharded) else {
            return self.plain;
        };
        let master = routing.get_server(channels::slot(channel))?;
        self.masters.iter().find(|(server, _)| server == master).map(|(_, at)| *at)
    }
}

/// Says whether there is such a link; one that is lost ends the whole set a moment later.
fn send(links: &Links, link: Option<usize>, order: LinkOrder) -> bool {
    link.and_then(|at| links.orders.get(at)).is_some_and(|orders| orders.send(order).is_ok())
}

/// Finds out whether this node can work with the data as it is laid out, and by which key nodes know each other.
///
/// Without a key in the configuration, one is made once and kept in Redis; after Redis lost it, the nodes put back the
/// one they know.
async fn agree<T>(shared: &Shared<T>, client: &Client) -> Result<(), Trouble> {
    let common = shared.tags.common();
    let mut memory = vec![key(common, channels::LAYOUT, "")];
    let mut offered: Vec<Value> = vec![PARTITIONS.to_string().into()];
    let configured = shared.options.keys.is_some();
    if !configured {
        let known = shared.hearing().keys.clone();
        let bytes = match &known {
            Some(keys) => keys.current.to_vec(),
            None => {
                let mut bytes = vec![0; KEY_BYTES];
                getrandom::fill(&mut bytes).map_err(Trouble::Random)?;
                bytes
            }
        };
        memory.push(key(common, RELAY_KEY, ""));
        offered.push(Bytes::from(bytes).into());
    }
    let answer: Value = client.fcall(functions::BEGIN, memory, offered).await?;
    let (partitions, kept) = functions::begun(answer).ok_or(Trouble::Answer)?;
    if !shared.check_layout(partitions) {
        return Err(Trouble::Layout(partitions));
    }
    if !configured {
        shared.adopt_key(&kept);
    }
    Ok(())
}
