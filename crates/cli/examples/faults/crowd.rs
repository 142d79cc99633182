//! All clients of a scene, on a thread of their own: it is started with the nodes' addresses, and writes what happens
//! into the book. What one member or publisher does stands in its module.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use roomcast_client::{Client, Options, TokenIn};
use roomcast_gateway::config::{DEV_ISSUER, DEV_SECRET};
use roomcast_gateway::tokens::{MintOptions, mint};
use roomcast_protocol::guard::Kind;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::record::{Book, Member, Room};
use crate::traveller::{self, Journeys};
use crate::{member, publisher};

/// The permission that some publications require.
pub(crate) const VIP: &str = "vip";

/// How long connecting, and the answer to a request, may take until a client tries another node.
const CONNECT_LIMIT: Duration = Duration::from_secs(3);
const ANSWER_LIMIT: Duration = Duration::from_secs(8);

/// Events that may wait in a client: more than ever come while it joins its rooms.
const EVENTS_MAX: usize = 1 << 16;

/// How long a token is good. Units: milliseconds.
const TOKEN_MS: u64 = 3_600_000;

/// What the clients shall do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// Publish and listen.
    Running,
    /// Listen; what is under way is sent until it is accepted.
    Draining,
    /// End.
    Over,
}

/// What all clients of a scene share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) book: Book,
    pub(crate) rooms: Vec<Room>,
    pub(crate) members: Vec<Member>,
    /// How often each room is published to. Units: milliseconds.
    pub(crate) every_ms: u64,
    /// Where the nodes are, as `host:port`.
    addresses: Mutex<Vec<String>>,
    /// What stands before the nodes: members that travel, and publishers, go by it.
    pub(crate) front: Option<Front>,
    /// What the members that travel counted.
    pub(crate) journeys: Journeys,
    joins: AtomicUsize,
    pub(crate) phase: watch::Sender<Phase>,
}

/// Nodes behind a balancer.
#[derive(Clone, Debug)]
pub(crate) struct Front {
    /// Where clients connect, as `host:port`.
    pub(crate) balancer: String,
    /// Where back-ends publish, one for each node, as `host:port`.
    pub(crate) internals: Vec<String>,
}

impl Shared {
    /// How many nodes there are.
    pub(crate) fn nodes(&self) -> usize {
        self.addresses.lock().unwrap_or_else(PoisonError::into_inner).len().max(1)
    }

    /// A member that travels is in one of its rooms.
    pub(crate) fn joined(&self) {
        self.joins.fetch_add(1, Ordering::Relaxed);
    }

    /// How many rooms such members are in.
    pub(crate) fn joins(&self) -> usize {
        self.joins.load(Ordering::Relaxed)
    }

    /// Where a node is now.
    fn address(&self, index: usize) -> Option<String> {
        let addresses = self.addresses.lock().unwrap_or_else(PoisonError::into_inner);
        addresses.get(index % addresses.len().max(1)).cloned()
    }

    /// A node has come back at another address.
    pub(crate) fn moved(&self, index: usize, address: &str) {
        let mut addresses = self.addresses.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(place) = addresses.get_mut(index) {
            address.clone_into(place);
        }
    }

    /// The room of this name.
    pub(crate) fn room(&self, name: &str) -> Option<usize> {
        self.rooms.iter().position(|room| room.name == name)
    }

    /// Connects somebody to the node of this number, counted around.
    ///
    /// # Errors
    /// Nobody listens there, or not in time.
    pub(crate) async fn connect(
        &self,
        node: usize,
        subject: &str,
        kind: Kind,
        permissions: &[String],
    ) -> Result<Client, String> {
        let address = self.address(node).ok_or("there is no node")?;
        let token = token(subject, kind, permissions)?;
        let mut options = Options::new(format!("ws://{address}/ws"), token);
        options.connect_timeout = CONNECT_LIMIT;
        options.request_timeout = ANSWER_LIMIT;
        options.events_max = EVENTS_MAX;
        if self.front.is_some() {
            // It knows of sessions, unlike the seed's client, and so is told with a code when it has to go; it resumes none.
            options.token_in = TokenIn::Frame;
            options.continuation.device = Some("plain".to_owned());
        }
        roomcast_client::connect(options).await.map_err(|cause| cause.to_string())
    }
}

/// A token that nodes of `--dev` take.
///
/// # Errors
/// It cannot be signed.
pub(crate) fn token(subject: &str, kind: Kind, permissions: &[String]) -> Result<String, String> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_err(|it| it.to_string())?;
    let token = mint(&MintOptions {
        secret: DEV_SECRET.as_bytes(),
        kid: None,
        issuer: DEV_ISSUER,
        audience: DEV_ISSUER,
        subject,
        kind,
        permissions,
        roles: &[],
        teams: &[],
        agent_id: None,
        now_unix_ms: u64::try_from(now.as_millis()).unwrap_or(u64::MAX),
        ttl_ms: TOKEN_MS,
    });
    token.map_err(|cause| cause.to_string())
}

/// The clients, until they are told to end.
#[derive(Debug)]
pub(crate) struct Crowd {
    pub(crate) shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Crowd {
    /// Starts them.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub(crate) fn start(
        rooms: Vec<Room>,
        members: Vec<Member>,
        every_ms: u64,
        addresses: Vec<String>,
        front: Option<Front>,
    ) -> Result<Self, String> {
        let shared = Arc::new(Shared {
            book: Book::new(),
            rooms,
            members,
            every_ms,
            addresses: Mutex::new(addresses),
            front,
            journeys: Journeys::default(),
            joins: AtomicUsize::new(0),
            phase: watch::Sender::new(Phase::Running),
        });
        let thread = std::thread::Builder::new().name("clients".into()).spawn({
            let shared = Arc::clone(&shared);
            move || run(&shared)
        });
        let thread = thread.map_err(|cause| format!("no thread for the clients: {cause}"))?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Tells all clients what to do now.
    pub(crate) fn tell(&self, phase: Phase) {
        self.shared.phase.send_replace(phase);
    }

    /// Waits until all have ended.
    ///
    /// # Errors
    /// A client's task broke.
    pub(crate) fn end(&mut self) -> Result<(), String> {
        self.tell(Phase::Over);
        let ended = self.thread.take().map(JoinHandle::join);
        if matches!(ended, Some(Err(_))) { Err("the clients' thread broke".into()) } else { Ok(()) }
    }
}

fn run(shared: &Arc<Shared>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let Ok(runtime) = runtime else { return };
    runtime.block_on(async {
        let mut tasks = JoinSet::new();
        for (index, member) in shared.members.iter().enumerate() {
            if member.travels {
                tasks.spawn(traveller::run(Arc::clone(shared), index));
            } else {
                tasks.spawn(member::run(Arc::clone(shared), index));
            }
        }
        for room in 0..shared.rooms.len() {
            tasks.spawn(publisher::run(Arc::clone(shared), room));
        }
        while let Some(ended) = tasks.join_next().await {
            if let Err(broken) = ended {
                std::panic::resume_unwind(broken.into_panic());
            }
        }
    });
}
