//! Publications that count as accepted once replicas have them too (G4): a connection of their own, and one WAIT for
//! each batch, since WAIT counts only what its own connection wrote.
//!
//! The connection is made when the first such publication comes. A connection that was replaced meanwhile proves
//! nothing, so its batch counts as not replicated.

use std::sync::Arc;
use std::time::Duration;

use fred::clients::Client;
use fred::error::{Error, ErrorKind};
use fred::interfaces::{ClientLike, ClusterInterface, EventInterface, FunctionInterface};
use fred::types::config::Options;
use fred::types::{ClusterHash, ConnectHandle, CustomCommand, Value};
use futures_util::future::join_all;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::channels;
use super::connect;
use super::functions::APPEND;
use super::publish::hurried;
use super::shared::Shared;

/// Publications of one batch.
const BATCH_MAX: usize = 256;

/// A publication on its way there; the answer is that of the function, or `None`: too few replicas have it yet.
struct Append {
    keys: Vec<String>,
    arguments: Vec<Value>,
    done: oneshot::Sender<Result<Option<Value>, Error>>,
}

/// The way to the connection.
#[derive(Clone)]
pub(crate) struct Replicated(mpsc::UnboundedSender<Append>);

impl Replicated {
    /// The way, and its end for [`run`].
    pub(crate) fn new() -> (Self, Appends) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (Self(sender), Appends(receiver))
    }

    /// Appends with the function's keys and arguments. `None`: it is on the master, and too few replicas told in time
    /// that they have it.
    pub(crate) async fn append(
        &self,
        keys: Vec<String>,
        arguments: Vec<Value>,
    ) -> Result<Option<Value>, Error> {
        let (done, answer) = oneshot::channel();
        if self.0.send(Append { keys, arguments, done }).is_err() {
            return Err(not_connected());
        }
        // Whoever took it and ends without an answer may have sent it.
        let ended = |_| Error::new(ErrorKind::Canceled, "the connection ended");
        answer.await.map_err(ended)?
    }
}

/// What waits for the connection.
pub(crate) struct Appends(mpsc::UnboundedReceiver<Append>);

/// Certainly not sent.
fn not_connected() -> Error {
    Error::new(ErrorKind::Routing, "there is no connection for replicated publications")
}

/// A client, and the task that drives it, which ends with it.
struct Connection {
    client: Client,
    driver: ConnectHandle,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// Serves what comes until the node is detached.
pub(crate) async fn run<T>(
    shared: Arc<Shared<T>>,
    mut appends: Appends,
    connector: Option<tokio_rustls::TlsConnector>,
) {
    let mut connection: Option<Connection> = None;
    let mut batch = Vec::new();
    while appends.0.recv_many(&mut batch, BATCH_MAX).await > 0 {
        if connection.is_none() {
            connection = connect(&shared, connector.as_ref()).await;
        }
        match connection.as_ref().map(|it| &it.client).filter(|client| client.is_connected()) {
            Some(client) => serve(&shared, client, std::mem::take(&mut batch)).await,
            None => {
                for append in batch.drain(..) {
                    drop(append.done.send(Err(not_connected())));
                }
            }
        }
    }
}

/// A client that connects again by itself, and its first connection if that comes about in time.
async fn connect<T>(
    shared: &Shared<T>,
    connector: Option<&tokio_rustls::TlsConnector>,
) -> Option<Connection> {
    let client = connect::client(&shared.options, connector, shared.options.wait_timeout_ms)
        .inspect_err(|error| tracing::error!(%error, "Redis cannot be connected to"))
        .ok()?;
    let driver = client.connect();
    let limit = Duration::from_millis(shared.options.connect_timeout_ms);
    match timeout(limit, client.wait_for_connect()).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "no connection for replicated publications"),
        Err(_) => tracing::debug!("no connection for replicated publications in time"),
    }
    Some(Connection { client, driver })
}

/// Appends a batch and waits for the replicas, on each master of a Cluster by itself.
async fn serve<T>(shared: &Shared<T>, client: &Client, batch: Vec<Append>) {
    let routing = client.cached_cluster_state();
    let mut groups: Vec<(Option<&fred::types::config::Server>, Vec<Append>)> = Vec::new();
    for append in batch {
        let slot = append.keys.first().map(|key| channels::slot(key));
        let server = routing.as_ref().zip(slot).and_then(|(state, slot)| state.get_server(slot));
        match groups.iter_mut().find(|(of, _)| *of == server) {
            Some((_, group)) => group.push(append),
            None => groups.push((server, vec![append])),
        }
    }
    join_all(groups.into_iter().map(|(_, group)| serve_one(shared, client, group))).await;
}

async fn serve_one<T>(shared: &Shared<T>, client: &Client, group: Vec<Append>) {
    let mut again = client.reconnect_rx();
    let Some(slot) = group.first().and_then(|it| it.keys.first()).map(|key| channels::slot(key))
    else {
        return;
    };
    let (calls, dones): (Vec<_>, Vec<_>) =
        group.into_iter().map(|it| ((it.keys, it.arguments), it.done)).unzip();
    let calls = calls.into_iter().map(|(keys, arguments)| {
        let client = hurried(client, None);
        async move { client.fcall::<Value, _, _, _>(APPEND, keys, arguments).await }
    });
    let answers = join_all(calls).await;
    let mut enough = false;
    if answers.iter().any(Result::is_ok) {
        // A connection that came up since then may be to another master, and counts none of this.
        enough = wait(shared, client, slot).await && again.try_recv().is_err();
    }
    for (answer, done) in answers.into_iter().zip(dones) {
        drop(done.send(answer.map(|answer| enough.then_some(answer))));
    }
}

/// Whether enough replicas have what this connection wrote to the slot's master.
async fn wait<T>(shared: &Shared<T>, client: &Client, slot: u16) -> bool {
    let options = &shared.options;
    let limit_ms = options.wait_timeout_ms.saturating_add(options.command_timeout_ms);
    let patient = client.with_options(&Options {
        fail_fast: true,
        timeout: Some(Duration::from_millis(limit_ms)),
        ..Options::default()
    });
    let command = CustomCommand::new("WAIT", ClusterHash::Custom(slot), false);
    let arguments = vec![options.replicas_min.to_string(), options.wait_timeout_ms.to_string()];
    match patient.custom::<u64, _>(command, arguments).await {
        Ok(replicas) => replicas >= u64::from(options.replicas_min),
        Err(error) => {
            tracing::debug!(%error, "replicas were not waited for");
            false
        }
    }
}
