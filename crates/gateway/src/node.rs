//! One node: its threads, from start to clean stop.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use roomcast_broker::{AnyBroker, MemoryBroker};
use roomcast_dialects::chat;
use roomcast_protocol::guard::Guard;
use roomcast_protocol::ids::{LaneId, NodeId};
use roomcast_router::happenings::Wanted;
use roomcast_router::hub::{Hub, HubConfig};
use roomcast_router::lane::{Lane, LaneConfig};
use roomcast_router::messages::{LaneMessage, Ticket};
use roomcast_router::meter::Users;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::runtime::LocalOptions;
use tokio::sync::{Notify, mpsc, watch};

use crate::api::{self, Api, ApiParts};
use crate::clock::Clock;
use crate::config::{Config, DrainConfig, RpcConfig, RpcPlace};
use crate::core::{self, CoreHandle, CoreParts, CoreStats, FromLane};
use crate::drain::{self, CUT_MS, Drained, Draining, LOOK, TOLD_MS};
use crate::guard::RuleGuard;
use crate::happened::Happened;
use crate::lane::{self, LaneParts, LaneReport, LaneSettings, SettingsParts};
use crate::metrics::{Latencies, Metrics};
use crate::nap::Naps;
use crate::places::Places;
use crate::public::Site;
use crate::queue::{Receiver, Sender, queue};
use crate::relay;
use crate::rpc::{self, Rpc, RpcCounters, RpcParts};
use crate::upstream::{self, Upstream, upstream};
use crate::webhooks::{self, Webhooks};

/// Bytes that may wait between the lanes and the core.
const CORE_QUEUE_BYTES: usize = 16 << 20;

/// Bytes that may wait for one lane.
const LANE_QUEUE_BYTES: usize = 4 << 20;

/// What one answer of a node to another may weigh, where `limits.message_bytes` lets it. Units: bytes.
const ANSWER_BYTES_MAX: usize = 48 << 10;

/// How long a room is heard after its last member left. Units: milliseconds.
const LINGER_MS: u64 = 1_000;

/// Questions of the server API that may wait for the core.
const REQUESTS_MAX: usize = 1_024;

/// How long the core may take to tell the lanes that the node stops.
const STOP_PATIENCE: Duration = Duration::from_secs(1);

/// Connections that may wait to be accepted, for each lane.
const BACKLOG: i32 = 4_096;

/// Why a node did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address could not be listened on.
    #[error(
        "cannot listen on {address}: {source}; is another program using it? choose another with listen.public or listen.internal"
    )]
    Listen {
        /// Which.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// A place for RPC could not be listened at.
    #[error("cannot listen for RPC on {place}: {source}; choose another with rpc.listen")]
    Rpc {
        /// Which.
        place: RpcPlace,
        /// Why.
        source: std::io::Error,
    },
    /// The configuration cannot be put into force.
    #[error("the rules cannot be put into force: {0}")]
    Rules(#[source] crate::guard::GuardError),
    /// The operating system refused a thread or a runtime.
    #[error("a thread cannot be started: {0}")]
    Thread(#[source] std::io::Error),
    /// The metrics registry refused a metric.
    #[error("the metrics cannot be made: {0}")]
    Metrics(#[source] prometheus::Error),
    /// The operating system gave no random bytes.
    #[error("no random bytes: {0}")]
    Random(getrandom::Error),
}

/// A running node.
#[derive(Debug)]
pub struct Node {
    id: NodeId,
    public: SocketAddr,
    internal: SocketAddr,
    rpc: Vec<RpcPlace>,
    rpc_closing: watch::Sender<bool>,
    ready: Arc<AtomicBool>,
    clock: Clock,
    draining: Arc<Draining>,
    drain: DrainConfig,
    places: Arc<Places>,
    reports: Vec<watch::Receiver<LaneReport>>,
    lanes: Vec<Sender<LaneMessage>>,
    core: CoreHandle,
    pub(crate) webhooks: Webhooks,
    threads: Vec<JoinHandle<()>>,
    core_thread: Option<JoinHandle<()>>,
}

impl Node {
    /// Starts a node with the broker that the configuration names. Redis may be away: the node starts, and is ready
    /// once it has reached it.
    ///
    /// # Errors
    /// [`StartError`] names what stood in the way and how to mend it.
    pub fn start(config: &Config) -> Result<Self, StartError> {
        Self::start_on(config, |guard| relay::broker(config, guard))
    }

    /// Starts a node that shares a memory broker with other nodes of this process.
    ///
    /// # Errors
    /// [`StartError`] names what stood in the way and how to mend it.
    pub fn start_with(config: &Config, broker: &MemoryBroker<Ticket>) -> Result<Self, StartError> {
        Self::start_on(config, |_| AnyBroker::Memory(broker.clone()))
    }

    fn start_on(
        config: &Config,
        broker: impl FnOnce(&Arc<RuleGuard>) -> AnyBroker<Ticket>,
    ) -> Result<Self, StartError> {
        let id = NodeId(random()?);
        let guard = Arc::new(RuleGuard::new(config, &id.to_string()).map_err(StartError::Rules)?);
        let internal = listen(config.listen.internal, false)?;
        let listeners = listen_all(config.listen.public, config.node.lanes)?;
        let rpc = listen_rpc(&config.rpc)?;
        let internal_address = local(&internal, config.listen.internal)?;
        let public = match listeners.first() {
            Some(first) => local(first, config.listen.public)?,
            None => config.listen.public,
        };
        let broker = broker(&guard);
        let clock = Clock::new();
        let (upstream, worker) = upstream(&config.upstream, clock);
        let common = Common {
            id,
            guard,
            clock,
            seed: random()?,
            users: Arc::new(Users::new(random()?)),
            places: Arc::new(Places::default()),
            ready: Arc::new(AtomicBool::new(false)),
            draining: Arc::default(),
            latencies: Arc::default(),
            upstream,
            webhooks: Webhooks::new(&config.webhooks, id, clock),
            wanted: config.webhooks.of_lanes(),
        };
        let (to_core, from_lanes) = queue(CORE_QUEUE_BYTES);
        let site = Arc::new(crate::public::site(config, public, internal_address, id));
        let lanes = start_lanes(config, &common, listeners, &to_core, site)?;
        drop(to_core);
        let rpc_places = rpc.iter().filter_map(rpc::Listener::place).collect();
        let (rpc_closing, closing) = watch::channel(false);
        let ports = Ports { internal, rpc, closing, worker };
        let (core, core_thread) = start_core(config, &common, &lanes, from_lanes, broker, ports)?;
        common.ready.store(true, Ordering::Release);
        Ok(Self {
            id,
            public,
            internal: internal_address,
            rpc: rpc_places,
            rpc_closing,
            ready: common.ready,
            clock: common.clock,
            draining: common.draining,
            drain: config.drain,
            places: common.places,
            reports: lanes.reports,
            lanes: lanes.queues,
            core,
            webhooks: common.webhooks,
            threads: lanes.threads,
            core_thread: Some(core_thread),
        })
    }

    /// The node's name; fresh at every start.
    #[must_use]
    pub const fn id(&self) -> NodeId {
        self.id
    }

    /// Where clients connect.
    #[must_use]
    pub const fn public_addr(&self) -> SocketAddr {
        self.public
    }

    /// Where back-ends and Prometheus connect.
    #[must_use]
    pub const fn internal_addr(&self) -> SocketAddr {
        self.internal
    }

    /// Where back-ends call by RPC, in the order of the configuration.
    #[must_use]
    pub fn rpc_places(&self) -> &[RpcPlace] {
        &self.rpc
    }

    /// Stops: not ready any more, no new connections, what is under way is delivered, clients are told (1001), threads
    /// end. Takes 6 s at most. Blocks.
    pub fn stop(mut self) {
        self.end();
    }

    /// Lets clients go one after the other (G14), then stops. From the first moment on it is not ready, and refuses new
    /// connections with 503; whoever is left at the deadline is closed at once. Takes as long as `[drain]` says, and 7 s
    /// more at most; returns when all is done. Blocks.
    #[must_use]
    pub fn drain(mut self) -> Drained {
        self.ready.store(false, Ordering::Release);
        let drained = self.let_go();
        self.end();
        drained
    }

    fn let_go(&self) -> Drained {
        let began_ms = self.clock.now().mono_ms;
        let clients = self.places.sockets() as u64;
        let plan = drain::plan(self.drain, clients);
        self.draining.begin(began_ms, clients);
        tracing::info!(clients, window_ms = plan.window_ms, "draining");
        for lane in &self.lanes {
            let message = LaneMessage::Drain(plan);
            lane.send(message.weight(), message);
        }
        let (mut told_ms, mut cut) = (0, 0);
        loop {
            std::thread::sleep(LOOK);
            let took_ms = self.clock.now().mono_ms - began_ms;
            let left = self.left(began_ms);
            let ended = took_ms >= self.drain.deadline_ms + CUT_MS;
            if left == Some(0) || ended || self.threads.iter().all(JoinHandle::is_finished) {
                tracing::info!(clients, cut, took_ms, "drained");
                return Drained { clients, cut, took_ms };
            }
            let left = left.unwrap_or(clients);
            if took_ms >= self.drain.deadline_ms && !self.draining.is_cutting() {
                cut = left;
                self.draining.cut(cut);
                // Lanes look for it each time they say how many are left.
                tracing::warn!(cut, "the deadline is over: whoever is left is closed at once");
            } else if took_ms >= told_ms + TOLD_MS {
                told_ms = took_ms;
                tracing::info!(left, clients, took_ms, "draining");
            }
        }
    }

    /// Sessions that are left; `None`: a lane has not said since.
    fn left(&self, since_ms: u64) -> Option<u64> {
        let left = |report: &watch::Receiver<LaneReport>| {
            let report = report.borrow();
            (report.turned_ms > since_ms).then_some(report.sizes.sessions as u64)
        };
        self.reports.iter().map(left).sum()
    }

    fn end(&mut self) {
        self.ready.store(false, Ordering::Release);
        self.rpc_closing.send_replace(true);
        // Lanes that have ended already, or a core that is stuck, must not hold this up.
        if !self.threads.is_empty() && !self.core.stop_lanes(STOP_PATIENCE) {
            for lane in &self.lanes {
                lane.send(0, LaneMessage::Stop);
            }
        }
        for thread in self.threads.drain(..) {
            join(thread);
        }
        if let Some(thread) = self.core_thread.take() {
            self.core.stop();
            join(thread);
            self.webhooks.close();
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.end();
    }
}

/// What all threads of a node know.
struct Common {
    id: NodeId,
    guard: Arc<RuleGuard>,
    clock: Clock,
    seed: u64,
    users: Arc<Users>,
    places: Arc<Places>,
    ready: Arc<AtomicBool>,
    draining: Arc<Draining>,
    latencies: Arc<Latencies>,
    upstream: Upstream,
    webhooks: Webhooks,
    wanted: Wanted,
}

/// The lanes that were started.
struct Lanes {
    queues: Vec<Sender<LaneMessage>>,
    reports: Vec<watch::Receiver<LaneReport>>,
    threads: Vec<JoinHandle<()>>,
}

fn start_lanes(
    config: &Config,
    common: &Common,
    listeners: Vec<TcpListener>,
    to_core: &Sender<FromLane>,
    site: Arc<Site>,
) -> Result<Lanes, StartError> {
    let (queues, receivers): (Vec<Sender<LaneMessage>>, Vec<_>) =
        listeners.iter().map(|_| queue(LANE_QUEUE_BYTES)).unzip();
    let own: Vec<_> = queues.iter().map(|lane| Arc::clone(lane.pressure())).collect();
    let pressures = own.iter().cloned().chain([Arc::clone(to_core.pressure())]).collect();
    let parts = SettingsParts {
        clock: common.clock,
        places: Arc::clone(&common.places),
        latencies: Arc::clone(&common.latencies),
        site,
        pressures,
        draining: Arc::clone(&common.draining),
        upstream: common.upstream.clone(),
        wanted: common.wanted,
    };
    let settings = LaneSettings::new(config, parts);
    let mut lanes = Lanes { queues, reports: Vec::new(), threads: Vec::new() };
    let parts = listeners.into_iter().zip(receivers).zip(own);
    for (index, ((listener, messages), own_queue)) in parts.enumerate() {
        let guard: Arc<dyn Guard> = common.guard.clone();
        let lane = LaneConfig {
            id: LaneId(u8::try_from(index).unwrap_or(LaneId::MAX)),
            guard,
            limits: config.limits.session,
            users: Arc::clone(&common.users),
            seed: common.seed,
            secrets: Box::new(|| uuid::Uuid::new_v4().as_u128()),
            wanted: common.wanted,
        };
        let (report, shown) = watch::channel(LaneReport::default());
        let parts = LaneParts {
            settings: settings.clone(),
            lane: Lane::new(lane),
            listener,
            to_core: to_core.clone(),
            messages,
            own_queue,
            reports: report,
        };
        lanes.reports.push(shown);
        lanes.threads.push(spawn(&format!("lane-{index}"), || {}, move || lane::run(parts))?);
    }
    Ok(lanes)
}

/// What the core thread listens at, and what makes its calls.
struct Ports {
    internal: TcpListener,
    rpc: Vec<rpc::Listener>,
    /// No further call is taken.
    closing: watch::Receiver<bool>,
    worker: upstream::Worker,
}

fn start_core(
    config: &Config,
    common: &Common,
    lanes: &Lanes,
    from_lanes: Receiver<FromLane>,
    broker: AnyBroker<Ticket>,
    ports: Ports,
) -> Result<(CoreHandle, JoinHandle<()>), StartError> {
    let (requests, asked) = mpsc::channel(REQUESTS_MAX);
    let ended = Arc::new(Notify::new());
    let stats = Arc::new(CoreStats::default());
    let core = CoreHandle::new(requests, Arc::clone(&ended));
    let (naps, counted, relay) =
        (Naps::new(), Arc::clone(&stats), Arc::clone(&common.latencies.relay));
    let before_waiting = move || {
        let taken = counted.taken.load(Ordering::Relaxed);
        naps.before_waiting(taken + relay.received.load(Ordering::Relaxed));
    };
    let hub = hub_of(config, common, lanes, matches!(broker, AnyBroker::Redis(_)));
    let webhooks = common.webhooks.clone();
    let tell = Box::new(move |event| webhooks.tell(event));
    let parts = CoreParts {
        node: common.id,
        clock: common.clock,
        hub,
        broker,
        relay: Arc::clone(&common.latencies.relay),
        lanes: lanes.queues.clone(),
        from_lanes,
        requests: asked,
        ended,
        users: Arc::clone(&common.users),
        stats: Arc::clone(&stats),
        upstream: common.upstream.clone(),
        webhooks: common.webhooks.clone(),
        happened: Happened::new(tell, Arc::clone(&stats.happened)),
    };
    let rpc = rpc_of(config, common, &core);
    let api = api_of(config, common, lanes, (&core, stats, rpc.counters()))?;
    let (webhooks, upstream) = (common.webhooks.clone(), common.upstream.clone());
    let handle = core.clone();
    let thread = spawn("core", before_waiting, move || async move {
        let listener = tokio::net::TcpListener::from_std(ports.internal)?;
        let serving = tokio::task::spawn_local(api::serve(listener, Api::new(api)));
        let calling = tokio::task::spawn_local(upstream::run(ports.worker));
        let telling = tokio::task::spawn_local(webhooks::run(webhooks, upstream, handle));
        let calls = rpc::serve(ports.rpc, rpc, ports.closing)?;
        core::run(parts).await;
        serving.abort();
        telling.abort();
        calling.abort();
        rpc::finish(calls).await;
        Ok(())
    })?;
    Ok((core, thread))
}

fn api_of(
    config: &Config,
    common: &Common,
    lanes: &Lanes,
    (core, stats, rpc): (&CoreHandle, Arc<CoreStats>, Arc<RpcCounters>),
) -> Result<ApiParts, StartError> {
    Ok(ApiParts {
        core: core.clone(),
        guard: Arc::clone(&common.guard),
        clock: common.clock,
        reports: lanes.reports.clone(),
        stats,
        places: Arc::clone(&common.places),
        relay: Arc::clone(&common.latencies.relay),
        rpc,
        metrics: Metrics::new(
            lanes.queues.len(),
            &common.latencies,
            common.upstream.stats(),
            &common.webhooks,
        )
        .map_err(StartError::Metrics)?,
        ready: Arc::clone(&common.ready),
        draining: Arc::clone(&common.draining),
        node: common.id,
        webhooks: common.webhooks.clone(),
        config: api::ApiConfig::new(config),
    })
}

fn hub_of(config: &Config, common: &Common, lanes: &Lanes, watched: bool) -> Hub {
    let hub_config = HubConfig {
        linger_ms: LINGER_MS,
        leave_grace_ms: config.agents.leave_grace_ms,
        id: common.id,
        node: format!("node-{}", common.id).into(),
        seed: common.seed,
        answer_bytes_max: ANSWER_BYTES_MAX.min(config.limits.message_bytes / 2),
        lanes: u8::try_from(lanes.queues.len()).unwrap_or(u8::MAX),
        watched,
        occupancy: config.webhooks.of_rooms(),
        write_list: config.dialects.chat.is_some().then_some(chat::write_list),
    };
    Hub::new(hub_config, common.guard.clone())
}

fn join(thread: JoinHandle<()>) {
    let name = thread.thread().name().unwrap_or_default().to_owned();
    if thread.join().is_err() {
        tracing::error!(thread = name, "a thread ended by a panic");
    }
}

/// Runs a future on a thread of its own, with a runtime of its own; `before_waiting` is called whenever it has nothing
/// to do.
fn spawn<F, T>(
    name: &str,
    before_waiting: impl Fn() + Send + Sync + 'static,
    make: F,
) -> Result<JoinHandle<()>, StartError>
where
    F: FnOnce() -> T + Send + 'static,
    T: Future<Output = std::io::Result<()>> + 'static,
{
    let (built, build) = std::sync::mpsc::channel();
    let label = name.to_owned();
    let run = move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .on_thread_park(before_waiting)
            .build_local(LocalOptions::default());
        let (runtime, outcome) = match runtime {
            Ok(runtime) => (Some(runtime), Ok(())),
            Err(error) => (None, Err(error)),
        };
        let (Ok(()), Some(runtime)) = (built.send(outcome), runtime) else { return };
        // As a task, not as the runtime's main future: what wakes that looks like a wake-up from outside.
        match runtime.block_on(runtime.spawn_local(async { make().await })) {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(thread = label, %error, "a thread ended"),
            Err(ended) => {
                if let Ok(panic) = ended.try_into_panic() {
                    std::panic::resume_unwind(panic);
                }
            }
        }
    };
    let thread = std::thread::Builder::new().name(format!("roomcast-{name}"));
    let thread = thread.spawn(run).map_err(StartError::Thread)?;
    // Without an answer the thread has panicked, which is told when it is joined.
    build.recv().unwrap_or(Ok(())).map_err(StartError::Thread)?;
    Ok(thread)
}

fn random() -> Result<u64, StartError> {
    getrandom::u64().map_err(StartError::Random)
}

/// One listening socket for each lane, all on the same port; the kernel spreads connections over them.
///
/// SO_REUSEPORT lets any process of the same user join in, so a listener of another one is looked for first.
fn listen_all(address: SocketAddr, lanes: usize) -> Result<Vec<TcpListener>, StartError> {
    if address.port() != 0 {
        drop(listen(address, false)?);
    }
    let first = listen(address, true)?;
    let address = local(&first, address)?;
    let others = (1..lanes).map(|_| listen(address, true));
    std::iter::once(Ok(first)).chain(others).collect()
}

fn listen(address: SocketAddr, shared: bool) -> Result<TcpListener, StartError> {
    let open = || {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        if shared {
            socket.set_reuse_port(true)?;
        }
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        socket.set_nonblocking(true)?;
        Ok(socket.into())
    };
    open().map_err(|source| StartError::Listen { address, source })
}

fn rpc_of(config: &Config, common: &Common, core: &CoreHandle) -> Rpc {
    let parts = RpcParts {
        core: core.clone(),
        guard: Arc::clone(&common.guard),
        clock: common.clock,
        brokers: config.dialects.brokers.clone(),
        counters: Arc::default(),
    };
    Rpc::new(config, parts)
}

fn listen_rpc(config: &RpcConfig) -> Result<Vec<rpc::Listener>, StartError> {
    let listen = |place: &RpcPlace| {
        rpc::listen(place).map_err(|source| StartError::Rpc { place: place.clone(), source })
    };
    config.listen.iter().map(listen).collect()
}

fn local(listener: &TcpListener, address: SocketAddr) -> Result<SocketAddr, StartError> {
    listener.local_addr().map_err(|source| StartError::Listen { address, source })
}
