//! A TCP proxy that forwards bytes, and fails on demand: cut, refused, or half-open. It knows no protocol.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// Connections at once; more are closed.
const CONNECTIONS_MAX: usize = 1_024;
const BUFFER_BYTES: usize = 64 << 10;
/// Bytes remembered of what a client sent first.
const SENT_BYTES: usize = 4 << 10;
const CONNECT_LIMIT: Duration = Duration::from_secs(5);

/// Which way bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the client to the server.
    ToServer,
    /// From the server to the client.
    ToClient,
    /// Both ways.
    Both,
}

/// A proxy on 127.0.0.1 before a server there.
#[derive(Debug)]
pub struct Proxy {
    shared: Arc<Shared>,
    port: u16,
    accepting: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    stopped: AtomicBool,
    refuses: AtomicBool,
    swallows_to_server: AtomicBool,
    swallows_to_client: AtomicBool,
    accepted: AtomicU64,
    /// The server's port.
    target: AtomicU16,
    /// What the next bytes towards a client hold that are dropped.
    loses: Mutex<Option<Vec<u8>>>,
    connections: Mutex<Vec<Arc<Connection>>>,
}

#[derive(Debug)]
struct Connection {
    client: TcpStream,
    server: TcpStream,
    /// Bytes of it were dropped, by direction: that way nothing will ever pass again, as after a lost NAT entry.
    lost_to_server: AtomicBool,
    lost_to_client: AtomicBool,
    /// What the client sent first.
    sent: Mutex<Vec<u8>>,
}

impl Proxy {
    /// Starts one before a port of 127.0.0.1.
    ///
    /// # Errors
    /// It cannot listen.
    pub fn start(target_port: u16) -> Result<Self, String> {
        let port = super::free_port()?;
        let told = |cause: std::io::Error| format!("a proxy: {cause}");
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).map_err(told)?;
        let shared = Arc::new(Shared { target: target_port.into(), ..Shared::default() });
        let accepting = std::thread::spawn({
            let shared = Arc::clone(&shared);
            move || accept(&listener, &shared)
        });
        Ok(Self { shared, port, accepting: Some(accepting) })
    }

    /// Where it listens on 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Connections accepted since its start.
    #[must_use]
    pub fn accepted(&self) -> u64 {
        self.shared.accepted.load(Ordering::SeqCst)
    }

    /// Connections that are open now.
    #[must_use]
    pub fn open(&self) -> usize {
        self.shared.connections().len()
    }

    /// Leads new connections to another port of 127.0.0.1, as a balancer does; those there are stay.
    pub fn turn_to(&self, target_port: u16) {
        self.shared.target.store(target_port, Ordering::SeqCst);
    }

    /// Closes every connection there is; new ones pass.
    pub fn cut(&self) {
        self.shared.cut();
    }

    /// Closes those connections on which the client has sent the one text, such as a command, but not the other; new ones
    /// pass. Answers with how many there were.
    pub fn cut_those(&self, sent: &str, not: &str) -> usize {
        let wanted = |it: &Arc<Connection>| it.has_sent(sent) && !it.has_sent(not);
        let found: Vec<_> =
            self.shared.connections().iter().filter(|it| wanted(it)).map(Arc::clone).collect();
        for connection in &found {
            connection.close();
        }
        found.len()
    }

    /// Closes every connection, and new ones at once, until [`Proxy::heal`].
    pub fn refuse(&self) {
        self.shared.refuses.store(true, Ordering::SeqCst);
        self.shared.cut();
    }

    /// Reads and drops what comes that way, on all connections and new ones, until [`Proxy::heal`]; nobody is told of
    /// an end.
    pub fn swallow(&self, direction: Direction) {
        if direction != Direction::ToClient {
            self.shared.swallows_to_server.store(true, Ordering::SeqCst);
        }
        if direction != Direction::ToServer {
            self.shared.swallows_to_client.store(true, Ordering::SeqCst);
        }
    }

    /// Makes those connections half-open on which the client has sent this text, such as a command: both ways bytes are
    /// read and dropped, and nobody is told. Others, and new ones, pass. Answers with how many there were.
    pub fn half_open(&self, sent: &str) -> usize {
        let has_sent = |connection: &&Arc<Connection>| connection.has_sent(sent);
        let found: Vec<_> =
            self.shared.connections().iter().filter(has_sent).map(Arc::clone).collect();
        for connection in &found {
            connection.lost_to_server.store(true, Ordering::SeqCst);
            connection.lost_to_client.store(true, Ordering::SeqCst);
        }
        found.len()
    }

    /// Drops what is read at once from the server and holds this text, once: a message that is lost while all others
    /// pass, provided that it comes by itself.
    pub fn lose(&self, text: &str) {
        *self.shared.loses() = Some(text.as_bytes().to_vec());
    }

    /// Whether what [`Proxy::lose`] asked for is gone.
    #[must_use]
    pub fn has_lost(&self) -> bool {
        self.shared.loses().is_none()
    }

    /// Lets new connections pass again. Those that lost bytes stay half-open until they are cut.
    pub fn heal(&self) {
        let Shared { refuses, swallows_to_server, swallows_to_client, .. } = &*self.shared;
        for fault in [refuses, swallows_to_server, swallows_to_client] {
            fault.store(false, Ordering::SeqCst);
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::SeqCst);
        self.shared.cut();
        // Wakes the thread that waits in `accept`; if nobody listens it has ended.
        let woken = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).is_ok();
        if let Some(accepting) = self.accepting.take().filter(|_| woken)
            && accepting.join().is_err()
        {
            crate::process::say("a proxy's thread panicked");
        }
    }
}

impl Shared {
    fn connections(&self) -> MutexGuard<'_, Vec<Arc<Connection>>> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn loses(&self) -> MutexGuard<'_, Option<Vec<u8>>> {
        self.loses.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether these bytes are the ones to be dropped.
    fn takes_away(&self, bytes: &[u8]) -> bool {
        let mut loses = self.loses();
        let found =
            loses.as_ref().is_some_and(|text| bytes.windows(text.len()).any(|it| it == text));
        if found {
            *loses = None;
        }
        found
    }

    fn cut(&self) {
        for connection in self.connections().drain(..) {
            connection.close();
        }
    }

    fn swallows(&self, connection: &Connection, to_server: bool) -> bool {
        let (swallows, lost) = if to_server {
            (&self.swallows_to_server, &connection.lost_to_server)
        } else {
            (&self.swallows_to_client, &connection.lost_to_client)
        };
        if swallows.load(Ordering::SeqCst) {
            lost.store(true, Ordering::SeqCst);
        }
        lost.load(Ordering::SeqCst)
    }
}

impl Connection {
    fn has_sent(&self, text: &str) -> bool {
        let bytes = self.sent.lock().unwrap_or_else(PoisonError::into_inner);
        bytes.windows(text.len()).any(|some| some == text.as_bytes())
    }

    fn close(&self) {
        for stream in [&self.client, &self.server] {
            // An error says that it is closed already.
            drop(stream.shutdown(Shutdown::Both));
        }
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    for client in listener.incoming() {
        if shared.stopped.load(Ordering::SeqCst) {
            return;
        }
        let Ok(client) = client else { continue };
        shared.accepted.fetch_add(1, Ordering::SeqCst);
        let refused = shared.refuses.load(Ordering::SeqCst);
        if refused || shared.connections().len() >= CONNECTIONS_MAX {
            continue;
        }
        let target = (Ipv4Addr::LOCALHOST, shared.target.load(Ordering::SeqCst)).into();
        let Ok(server) = TcpStream::connect_timeout(&target, CONNECT_LIMIT) else { continue };
        for stream in [&client, &server] {
            // Only quicker; without it bytes pass as well.
            drop(stream.set_nodelay(true));
        }
        let connection = Arc::new(Connection {
            client,
            server,
            lost_to_server: AtomicBool::new(false),
            lost_to_client: AtomicBool::new(false),
            sent: Mutex::default(),
        });
        shared.connections().push(Arc::clone(&connection));
        // Somebody may have cut or refused between the look above and the entry.
        if shared.refuses.load(Ordering::SeqCst) || shared.stopped.load(Ordering::SeqCst) {
            shared.cut();
        }
        for to_server in [true, false] {
            let (shared, connection) = (Arc::clone(shared), Arc::clone(&connection));
            std::thread::spawn(move || forward(&shared, &connection, to_server));
        }
    }
}

/// Copies one way until an end, and passes the end on unless it swallows.
fn forward(shared: &Shared, connection: &Arc<Connection>, to_server: bool) {
    let (mut from, mut to) = if to_server {
        (&connection.client, &connection.server)
    } else {
        (&connection.server, &connection.client)
    };
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let taken = match from.read(&mut buffer) {
            Ok(0) | Err(_) => break,
            Ok(taken) => taken,
        };
        let bytes = buffer.get(..taken).unwrap_or_default();
        if to_server {
            let mut sent = connection.sent.lock().unwrap_or_else(PoisonError::into_inner);
            let room = SENT_BYTES.saturating_sub(sent.len());
            sent.extend(bytes.iter().take(room));
        }
        if !to_server && shared.takes_away(bytes) {
            continue;
        }
        if !shared.swallows(connection, to_server) && to.write_all(bytes).is_err() {
            break;
        }
    }
    if !shared.swallows(connection, to_server) {
        connection.close();
        shared.connections().retain(|it| !Arc::ptr_eq(it, connection));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::servers::{Client, Redis, until};

    const LIMIT: Duration = Duration::from_secs(10);

    fn pings(client: &mut Client) -> bool {
        client.command(&["PING"]).is_ok()
    }

    /// A client that gives up early.
    fn impatient(port: u16) -> TcpStream {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
        stream.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        stream
    }

    fn answer(mut stream: &TcpStream) -> std::io::Result<String> {
        stream.write_all(b"PING\r\n")?;
        let mut bytes = [0; 64];
        let taken = stream.read(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes[..taken]).into_owned())
    }

    fn gave_up(result: std::io::Result<String>) -> bool {
        use std::io::ErrorKind::{TimedOut, WouldBlock};
        result.is_err_and(|cause| matches!(cause.kind(), TimedOut | WouldBlock))
    }

    #[test]
    fn a_cut_ends_connections_and_a_refusal_new_ones_too() {
        let redis = Redis::start(&[]).unwrap();
        let proxy = Proxy::start(redis.port()).unwrap();
        let mut client = Client::connect(proxy.port()).unwrap();
        assert!(pings(&mut client));
        assert_eq!((proxy.open(), proxy.accepted()), (1, 1));
        proxy.cut();
        assert!(!pings(&mut client));
        assert!(pings(&mut Client::connect(proxy.port()).unwrap()));
        proxy.refuse();
        assert!(!Client::connect(proxy.port()).is_ok_and(|mut client| pings(&mut client)));
        proxy.heal();
        assert!(pings(&mut Client::connect(proxy.port()).unwrap()));
    }

    #[test]
    fn a_half_open_connection_hears_nothing_and_no_end_even_after_healing() {
        let redis = Redis::start(&[]).unwrap();
        let proxy = Proxy::start(redis.port()).unwrap();
        let stream = impatient(proxy.port());
        assert_eq!(answer(&stream).unwrap(), "+PONG\r\n");
        proxy.swallow(Direction::ToClient);
        assert!(gave_up(answer(&stream)));
        let heard = || redis.command(&["INFO", "commandstats"]).unwrap().text();
        assert!(heard().contains("cmdstat_ping:calls=2,"), "the server must have heard");
        assert!(gave_up(answer(&impatient(proxy.port()))), "a new connection as well");
        proxy.heal();
        assert!(gave_up(answer(&stream)));
        assert_eq!(answer(&impatient(proxy.port())).unwrap(), "+PONG\r\n");
        proxy.cut();
        assert_eq!(answer(&stream).unwrap_or_default(), "");
    }

    #[test]
    fn new_connections_are_led_elsewhere_and_old_ones_stay() {
        let redis = Redis::start(&[]).unwrap();
        let proxy = Proxy::start(redis.port()).unwrap();
        let mut client = Client::connect(proxy.port()).unwrap();
        assert!(pings(&mut client));
        let other = Redis::start(&[]).unwrap();
        proxy.turn_to(other.port());
        let mut second = Client::connect(proxy.port()).unwrap();
        second.command(&["SET", "where", "there"]).unwrap();
        assert_eq!(other.command(&["GET", "where"]).unwrap().text(), "there");
        assert!(pings(&mut client));
    }

    #[test]
    fn one_message_is_lost_and_all_others_pass() {
        let redis = Redis::start(&[]).unwrap();
        let proxy = Proxy::start(redis.port()).unwrap();
        let mut feed = Client::connect(proxy.port()).unwrap();
        feed.command(&["SUBSCRIBE", "a"]).unwrap();
        proxy.lose("second");
        for text in ["first", "second", "third"] {
            redis.command(&["PUBLISH", "a", text]).unwrap();
            std::thread::sleep(Duration::from_millis(50));
        }
        for text in ["first", "third"] {
            assert_eq!(feed.read().unwrap().items().last().unwrap().text(), text);
        }
        assert!(proxy.has_lost());
    }

    #[test]
    fn what_is_swallowed_to_the_server_is_not_heard_there() {
        let redis = Redis::start(&[]).unwrap();
        let proxy = Proxy::start(redis.port()).unwrap();
        proxy.swallow(Direction::ToServer);
        assert!(gave_up(answer(&impatient(proxy.port()))));
        let heard = redis.command(&["INFO", "commandstats"]).unwrap().text();
        assert!(!heard.contains("cmdstat_ping"), "{heard}");
    }

    #[test]
    fn an_end_on_either_side_reaches_the_other() {
        let mut redis = Redis::start(&[]).unwrap();
        let proxy = Proxy::start(redis.port()).unwrap();
        let stream = impatient(proxy.port());
        answer(&stream).unwrap();
        drop(stream);
        let empty = || if proxy.open() == 0 { Ok(()) } else { Err("open".to_owned()) };
        until("the connection is gone", LIMIT, empty).unwrap();
        let stream = impatient(proxy.port());
        answer(&stream).unwrap();
        redis.kill().unwrap();
        assert_eq!(answer(&stream).unwrap_or_default(), "");
        until("the connection is gone", LIMIT, empty).unwrap();
    }
}
