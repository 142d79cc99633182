//! The broker that several nodes share: Redis, alone, watched by Sentinels, or a Cluster.
//!
//! Commands go by fred's client; the feed has connections of its own, so that a slow node makes TCP push back instead
//! of losing publications. Everything runs in the runtime of the node's core thread. Decides nothing: when to beat,
//! when a link counts as dead and what a cut means is the hub's business.

mod agents;
mod asking;
mod beats;
mod channels;
mod connect;
mod directory;
mod faults;
mod feeder;
mod functions;
mod history;
mod inbox;
mod link;
mod masters;
mod occupancy;
pub mod options;
mod orders;
mod presence;
mod publish;
mod pulse;
mod receipts;
mod replicated;
mod resp;
mod sessions;
mod shared;
mod turns;

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use fred::clients::Client;
use fred::interfaces::{ClientLike, EventInterface};
use roomcast_protocol::codes::Refused;
use roomcast_protocol::envelope::{BrokerCommand, BrokerEvent};
use roomcast_protocol::ids::NodeId;
use roomcast_protocol::position::Keep;
use roomcast_protocol::publication::Publication;
use roomcast_protocol::room::RoomName;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::feed::{Feed, feed};
use crate::stats::RelayStats;
use feeder::{FeedOrder, Feeder};
pub use options::{Address, Credentials, ModeOf, RedisOptions, Servers, Tls};
use replicated::Replicated;
use shared::Shared;

/// How long to rest before a client that has given up is made anew.
const REST: Duration = Duration::from_secs(1);

/// In which partition a room is.
#[must_use]
pub fn partition_of(room: &RoomName) -> u16 {
    u16::try_from(channels::Tags::new().partition(room.as_str())).unwrap_or_default()
}

/// A Redis broker. Clones share it.
pub struct RedisBroker<T> {
    options: Arc<RedisOptions>,
    nodes: Arc<Mutex<HashMap<NodeId, Attached<T>>>>,
}

impl<T> Clone for RedisBroker<T> {
    fn clone(&self) -> Self {
        Self { options: Arc::clone(&self.options), nodes: Arc::clone(&self.nodes) }
    }
}

impl<T> fmt::Debug for RedisBroker<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisBroker").field("options", &self.options).finish_non_exhaustive()
    }
}

/// A node's tasks. They end with it.
struct Attached<T> {
    shared: Arc<Shared<T>>,
    commands: mpsc::UnboundedSender<BrokerCommand<T>>,
    feed: mpsc::UnboundedSender<FeedOrder>,
    _tasks: JoinSet<()>,
}

impl<T: Send + 'static> RedisBroker<T> {
    /// A broker by way of these servers. Connects when a node is attached.
    #[must_use]
    pub fn new(options: RedisOptions) -> Self {
        Self { options: Arc::new(options), nodes: Arc::default() }
    }

    /// Attaches a node, and answers with its feed. A feed it had before ends. Call it in the runtime that the node's
    /// connections shall live in.
    #[must_use]
    pub fn attach(&self, node: NodeId, stats: &Arc<RelayStats>) -> Feed<BrokerEvent<T>> {
        let (sender, receiver) = feed();
        let (client, connected) = watch::channel(None);
        let options = Arc::clone(&self.options);
        let shared = Shared::new(options, node, Arc::clone(stats), sender, connected);
        let shared = Arc::new(shared);
        let (commands, orders) = mpsc::unbounded_channel();
        let (feed, feed_orders) = mpsc::unbounded_channel();
        let mut tasks = JoinSet::new();
        let (replicated, appends) = Replicated::new();
        tasks.spawn(orders::run(Arc::clone(&shared), orders, replicated));
        match connect::connector(shared.options.tls.as_ref()) {
            Ok(connector) => {
                let feeder = Feeder::new(Arc::clone(&shared), feed_orders, connector.clone());
                tasks.spawn(feeder.run());
                tasks.spawn(replicated::run(Arc::clone(&shared), appends, connector.clone()));
                tasks.spawn(keep_connected(Arc::clone(&shared), connector, client));
            }
            Err(error) => tracing::error!(%error, "Redis cannot be connected to"),
        }
        let attached = Attached { shared, commands, feed, _tasks: tasks };
        self.nodes().insert(node, attached);
        receiver
    }

    /// Detaches a node: its feed ends.
    pub fn detach(&self, node: NodeId) {
        let Some(attached) = self.nodes().remove(&node) else { return };
        let client = attached.shared.client.borrow().clone();
        // Before the client ends, which the feed would take for a loss.
        drop(attached);
        if let (Some(client), Ok(runtime)) = (client, tokio::runtime::Handle::try_current()) {
            runtime.spawn(async move {
                if let Err(error) = client.quit().await {
                    tracing::debug!(%error, "the connection for commands did not end cleanly");
                }
            });
        }
    }

    /// Executes a node's command; what comes of it arrives on the node's feed. A node that is not attached could not
    /// hear what became of it, so its commands are void.
    pub fn execute(&self, node: NodeId, command: BrokerCommand<T>) {
        let nodes = self.nodes();
        let Some(attached) = nodes.get(&node) else { return };
        let feed = |order| {
            // The tasks live as long as the entry.
            let _gone = attached.feed.send(order).is_err();
        };
        let command = match command {
            BrokerCommand::Subscribe { room, request } => {
                return feed(FeedOrder::Subscribe { room, request });
            }
            BrokerCommand::Unsubscribe(room) => return feed(FeedOrder::Unsubscribe(room)),
            BrokerCommand::Reconnect { link, commands } => {
                return feed(FeedOrder::Reconnect { link, commands });
            }
            command @ (BrokerCommand::Publish { .. }
            | BrokerCommand::Heads { .. }
            | BrokerCommand::Read { .. }
            | BrokerCommand::Beat { .. }
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
            | BrokerCommand::Occupancies { .. }) => command,
        };
        let (weight, pending) = (orders::weight(&command), &attached.shared.pending_bytes);
        let waiting = pending.fetch_add(weight, Ordering::Relaxed);
        if weight > 0 && waiting + weight > attached.shared.options.pending_bytes_max {
            pending.fetch_sub(weight, Ordering::Relaxed);
            return orders::decline(command, &attached.shared, busy);
        }
        let _gone = attached.commands.send(command).is_err();
    }

    /// The words of the command by which an attached node has a publication kept, as a bare program would send them; the
    /// last but one begins with the hash of its id. For the bench. `None`: the node is not connected yet.
    #[must_use]
    pub fn words_of(
        &self,
        node: NodeId,
        publication: &Publication,
        keep: &Keep,
    ) -> Option<Vec<Bytes>> {
        publish::words(&self.nodes().get(&node)?.shared, publication, keep)
    }

    fn nodes(&self) -> std::sync::MutexGuard<'_, HashMap<NodeId, Attached<T>>> {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Too much waits for Redis.
fn busy() -> Refused {
    let text = "Too many publications wait for the broker: send it again";
    Refused::unavailable(text.into(), 100)
}

/// Keeps a client for commands: fred connects it again and again; one that gives up all the same is replaced.
async fn keep_connected<T>(
    shared: Arc<Shared<T>>,
    connector: Option<tokio_rustls::TlsConnector>,
    current: watch::Sender<Option<Client>>,
) {
    loop {
        match connect::client(&shared.options, connector.as_ref(), 0) {
            Ok(client) => {
                let mut connected = client.reconnect_rx();
                let mut driver = client.connect();
                current.send_replace(Some(client));
                let ended = loop {
                    tokio::select! {
                        ended = &mut driver => break Some(ended),
                        () = shared.renew.notified() => break None,
                        again = connected.recv() => match again {
                            Ok(server) => {
                                shared.stats.commands_connected.fetch_add(1, Ordering::Relaxed);
                                shared.server.send_replace(Some(server));
                            }
                            Err(RecvError::Lagged(more)) => {
                                shared.stats.commands_connected.fetch_add(more, Ordering::Relaxed);
                            }
                            Err(RecvError::Closed) => break Some((&mut driver).await),
                        },
                    }
                };
                let Some(ended) = ended else {
                    tracing::warn!(
                        "nothing comes back over the connection for commands; making another"
                    );
                    driver.abort();
                    continue;
                };
                tracing::warn!(?ended, "the client for commands has given up; making another");
            }
            Err(error) => tracing::error!(%error, "Redis cannot be connected to"),
        }
        sleep(REST).await;
    }
}
