//! An echo server over the node's own transport, for conformance tests: sends every message back. The tests of the
//! transport run the same code inside their process.
//!
//! Usage: `echo [--port N]`. The address is the first line it prints; port 0, the default, is any free one. Limits:
//! 16 MiB a frame and a message, 100,000 fragments.

use std::cell::Cell;
use std::future::poll_fn;
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use hyper::body::Incoming;
use hyper::{Request, Response};
use roomcast_gateway::transport::http::{
    self, Answer, ClientInfo, Handled, Handler, HttpLimits, Upgraded,
};
use roomcast_gateway::transport::linger::linger;
use roomcast_gateway::transport::socket::read_available;
use roomcast_gateway::transport::websocket::handshake;
use roomcast_gateway::transport::websocket::reader::{Event, FrameLimits, Reader};
use roomcast_gateway::transport::websocket::writer;
use tokio::net::{TcpListener, TcpStream};

const READ_BYTES: usize = 64 * 1024;

/// Reads of one socket before others get their turn.
const READS_PER_TURN: usize = 4;

/// How long a closing connection may take for its last bytes, and then for its client's end.
const CLOSE_LIMIT: Duration = Duration::from_secs(1);

thread_local! {
    /// One buffer for all connections of the thread. It is taken out while in use.
    static BUFFER: Cell<Box<[u8]>> = Cell::new(vec![0; READ_BYTES].into_boxed_slice());
}

/// What the server holds its clients to.
pub(crate) struct Settings {
    pub(crate) http: HttpLimits,
    pub(crate) frames: FrameLimits,
    pub(crate) started: Instant,
}

/// Every path is an echo.
struct Door;

impl Handler for Door {
    type Attachment = ();

    fn handle(&self, request: Request<Incoming>, client: ClientInfo) -> Handled<'_, ()> {
        if request.uri().path() == "/whoami" {
            return Handled::Now(Answer::Http(Response::new(client.ip.to_string().into())));
        }
        Handled::Now(match handshake::check(&request) {
            Ok(accepted) => Answer::Upgrade(accepted.with_subprotocol(Some("echo")), ()),
            Err(rejected) => Answer::Http(rejected.response()),
        })
    }
}

/// Accepts connections for ever.
pub(crate) async fn accept(listener: TcpListener, settings: Rc<Settings>) -> io::Result<()> {
    loop {
        let (stream, peer) = listener.accept().await?;
        stream.set_nodelay(true)?;
        drop(tokio::task::spawn_local(serve(stream, peer, Rc::clone(&settings))));
    }
}

/// The large future of the HTTP phase: it ends with the upgrade, and a small one goes on.
async fn serve(stream: TcpStream, peer: SocketAddr, settings: Rc<Settings>) {
    match http::serve(stream, peer, &Door, &settings.http).await {
        Ok(Some(Upgraded { stream, leftover, attachment: () })) => {
            let connection = Box::new(Connection::new(stream, &leftover));
            drop(tokio::task::spawn_local(run(connection, settings)));
        }
        Ok(None) => {}
        Err(error) => report(peer, &error),
    }
}

fn report(peer: SocketAddr, error: &dyn std::error::Error) {
    let cause = error.source().map(|cause| format!(": {cause}")).unwrap_or_default();
    // Standard error is gone: there is nobody to tell.
    drop(writeln!(io::stderr(), "{peer}: {error}{cause}"));
}

async fn run(mut connection: Box<Connection>, settings: Rc<Settings>) {
    let ended = poll_fn(|cx| connection.poll(&settings, cx)).await;
    if ended.is_ok() {
        Box::pin(connection.close()).await;
    }
}

/// One client. What is not there while it is idle stands behind a pointer.
struct Connection {
    stream: TcpStream,
    reader: Reader,
    /// Bytes not read yet, because the last answers are not written yet.
    unread: Option<Box<[u8]>>,
    /// Answers the socket did not take yet.
    unsent: Option<Box<Unsent>>,
    /// The last answer was a Close frame.
    closing: bool,
}

#[derive(Default)]
struct Unsent {
    bytes: Vec<u8>,
    from: usize,
}

impl Connection {
    fn new(stream: TcpStream, leftover: &[u8]) -> Self {
        let unread = (!leftover.is_empty()).then(|| leftover.into());
        Self { stream, reader: Reader::new(), unread, unsent: None, closing: false }
    }

    /// Echoes until there is a Close frame to be written; an error if the socket is gone.
    fn poll(&mut self, settings: &Settings, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        for _ in 0..READS_PER_TURN {
            ready!(self.poll_flush(cx))?;
            if let Some(mut bytes) = self.unread.take() {
                self.take(settings, &mut bytes)?;
            } else if !self.closing {
                ready!(self.stream.poll_read_ready(cx))?;
                let mut buffer = BUFFER.take();
                if buffer.is_empty() {
                    buffer = vec![0; READ_BYTES].into_boxed_slice();
                }
                let outcome = self.read(settings, &mut buffer);
                BUFFER.set(buffer);
                outcome?;
            }
            if self.closing {
                return Poll::Ready(Ok(()));
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn read(&mut self, settings: &Settings, buffer: &mut [u8]) -> io::Result<()> {
        match read_available(&self.stream, buffer) {
            Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => self.take(settings, buffer.get_mut(..count).unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Answers the frames in `bytes`, up to the first answer that the socket does not take.
    fn take(&mut self, settings: &Settings, bytes: &mut [u8]) -> io::Result<()> {
        let now_ms = u64::try_from(settings.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        let mut at = 0;
        while let Some(rest) = bytes.get_mut(at..) {
            if self.unsent.is_some() {
                self.unread = (!rest.is_empty()).then(|| (&*rest).into());
                break;
            }
            let mut answer = Vec::new();
            let (used, event) = self.reader.next(&settings.frames, now_ms, rest);
            at += used;
            match event {
                Event::NeedMore => break,
                Event::Message { text, payload } => {
                    writer::write_message(text, &payload, &mut answer);
                }
                Event::Ping(payload) => writer::write_pong(&payload, &mut answer),
                Event::Pong(_) => {}
                Event::Close { code, .. } => {
                    self.closing = true;
                    match code {
                        Some(code) => writer::write_close(code, "", &mut answer),
                        None => writer::write_bare_close(&mut answer),
                    }
                }
                Event::Fail(violation) => {
                    self.closing = true;
                    let detail = violation.detail(&settings.frames);
                    writer::write_close(violation.code(), &detail, &mut answer);
                }
            }
            self.send(answer)?;
            if self.closing {
                break;
            }
        }
        Ok(())
    }

    fn send(&mut self, bytes: Vec<u8>) -> io::Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        let from = match self.stream.try_write(&bytes) {
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            Err(error) => return Err(error),
        };
        if from < bytes.len() {
            self.unsent = Some(Box::new(Unsent { bytes, from }));
        }
        Ok(())
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(unsent) = &mut self.unsent {
            ready!(self.stream.poll_write_ready(cx))?;
            match self.stream.try_write(unsent.bytes.get(unsent.from..).unwrap_or_default()) {
                Ok(count) => unsent.from += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
            if unsent.from == unsent.bytes.len() {
                self.unsent = None;
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Writes the Close frame out, says that nothing more comes, and waits for the client to hang up.
    async fn close(mut self: Box<Self>) {
        let flushed = poll_fn(|cx| self.poll_flush(cx));
        if let Ok(Ok(())) = tokio::time::timeout(CLOSE_LIMIT, flushed).await {
            linger(self.stream, CLOSE_LIMIT).await;
        }
    }
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let port = match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => Some(0),
        ["--port", port] => port.parse().ok(),
        _ => None,
    };
    let Some(port) = port else {
        drop(writeln!(io::stderr(), "usage: echo [--port N], N from 0 to 65535"));
        return ExitCode::FAILURE;
    };
    match start(port) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            drop(writeln!(io::stderr(), "echo: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn start(port: u16) -> io::Result<()> {
    let settings = Rc::new(Settings {
        http: HttpLimits::default(),
        frames: FrameLimits {
            frame_bytes_max: 16 << 20,
            message_bytes_max: 16 << 20,
            fragments_max: 100_000,
            controls_per_second_max: 100_000,
        },
        started: Instant::now(),
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    tokio::task::LocalSet::new().block_on(&runtime, async {
        let listener = TcpListener::bind(("127.0.0.1", port)).await?;
        let mut out = io::stdout();
        writeln!(out, "{}", listener.local_addr()?)?;
        out.flush()?;
        accept(listener, settings).await
    })
}
