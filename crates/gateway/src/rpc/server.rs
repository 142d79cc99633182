//! The sockets of RPC: accepts callers, with a bound on their number, and ends when the node does.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::Rpc;
use super::connection;
use super::counters::{Ended, RpcCounters};
use super::gate::Gate;
use super::places::{Listener, SocketFile};

/// Bytes of publications under way of all connections. Source: half of what the feed of one node may hold
/// (`memory`), a quarter of what may wait for Redis by default, so that RPC alone is never why one is refused.
const UNDER_WAY_BYTES_MAX: usize = 4 << 20;

/// How long the listener rests after an error that repeats at once (no descriptors left).
const ACCEPT_REST: Duration = Duration::from_millis(50);

/// How long callers have to take their answers when the node ends.
const FINISH: Duration = Duration::from_secs(1);

/// What all connections share.
pub(super) struct Shared {
    pub(super) rpc: Rpc,
    pub(super) gate: Rc<Gate>,
    /// The node ends: no further call is read.
    pub(super) closing: watch::Receiver<bool>,
}

/// Begins to serve RPC at these places, in tasks of this thread.
///
/// # Errors
/// The system took a listener back.
pub(crate) fn serve(
    listeners: Vec<Listener>,
    rpc: Rpc,
    closing: watch::Receiver<bool>,
) -> std::io::Result<JoinSet<()>> {
    let shared = Rc::new(Shared { rpc, gate: Gate::new(UNDER_WAY_BYTES_MAX), closing });
    let mut serving = JoinSet::new();
    for listener in listeners {
        let shared = Rc::clone(&shared);
        let listener = Accepting::new(listener)?;
        serving.spawn_local(accept(listener, shared));
    }
    Ok(serving)
}

/// Waits until the answers that are owed are written, but not for long.
pub(crate) async fn finish(mut serving: JoinSet<()>) {
    let all = async { while serving.join_next().await.is_some() {} };
    if tokio::time::timeout(FINISH, all).await.is_err() {
        tracing::warn!("callers of RPC did not take their last answers");
    }
}

/// A listener of this thread's runtime.
enum Accepting {
    Tcp(TcpListener),
    Unix(UnixListener, #[expect(dead_code, reason = "its file goes with it")] SocketFile),
}

/// One caller.
struct Caller(Arc<RpcCounters>);

impl Drop for Caller {
    fn drop(&mut self) {
        self.0.went();
    }
}

/// A socket that was accepted.
enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Accepting {
    fn new(listener: Listener) -> std::io::Result<Self> {
        Ok(match listener {
            Listener::Tcp(listener) => Self::Tcp(TcpListener::from_std(listener)?),
            Listener::Unix(listener, file) => Self::Unix(UnixListener::from_std(listener)?, file),
        })
    }

    async fn accept(&self) -> std::io::Result<Socket> {
        match self {
            Self::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                stream.set_nodelay(true)?;
                Ok(Socket::Tcp(stream))
            }
            Self::Unix(listener, _) => Ok(Socket::Unix(listener.accept().await?.0)),
        }
    }
}

async fn accept(listener: Accepting, shared: Rc<Shared>) {
    let mut closing = shared.closing.clone();
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok(socket) => {
                    if let Some(caller) = Caller::new(&shared.rpc) {
                        connections.spawn_local(serve_one(socket, caller, Rc::clone(&shared)));
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "a caller of RPC could not be accepted");
                    tokio::time::sleep(ACCEPT_REST).await;
                }
            },
            Some(ended) = connections.join_next(), if !connections.is_empty() => told(ended),
            _ = closing.wait_for(|closing| *closing) => break,
        }
    }
    drop(listener);
    while let Some(ended) = connections.join_next().await {
        told(ended);
    }
}

fn told(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "a connection of RPC ended by a panic");
    }
}

async fn serve_one(socket: Socket, caller: Caller, shared: Rc<Shared>) {
    let ended = match socket {
        Socket::Tcp(stream) => connection::serve(stream, &shared).await,
        Socket::Unix(stream) => connection::serve(stream, &shared).await,
    };
    if let Some(why) = ended {
        caller.0.ended(why);
        tracing::warn!(why = why.name(), "a connection of RPC was ended");
    }
}

impl Caller {
    /// Counts one more caller, unless there are as many as may be.
    fn new(rpc: &Rpc) -> Option<Self> {
        let counters = &rpc.parts.counters;
        if counters.connections() >= rpc.connections_max as u64 {
            counters.ended(Ended::Full);
            let max = rpc.connections_max;
            tracing::warn!(max, "a caller of RPC was turned away: rpc.connections_max is reached");
            return None;
        }
        counters.came();
        Some(Self(Arc::clone(counters)))
    }
}
