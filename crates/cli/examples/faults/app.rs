//! The application that nodes call: an HTTP server which writes down what it is told, and can be stopped.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::Value;

/// How often threads look whether they are to end.
const LOOK: Duration = Duration::from_millis(20);

/// The longest request that is read. Units: bytes.
const BODY_MAX: usize = 1 << 20;

/// Where it is told of events; all other paths are calls.
pub(crate) const EVENTS: &str = "/events";

/// What it has been told.
#[derive(Debug, Default)]
pub(crate) struct Book {
    events: Mutex<Vec<Value>>,
    calls: AtomicU64,
    /// What could not be read.
    wrong: Mutex<Vec<String>>,
}

impl Book {
    /// All events so far, in the order in which they were answered.
    pub(crate) fn events(&self) -> Vec<Value> {
        self.events.lock().map(|events| events.clone()).unwrap_or_default()
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.events.lock().map_or(0, |events| events.len())
    }

    /// What could not be read.
    pub(crate) fn wrong(&self) -> Vec<String> {
        self.wrong.lock().map(|wrong| wrong.clone()).unwrap_or_default()
    }

    fn note(&self, body: &[u8]) {
        match serde_json::from_slice(body) {
            Ok(event) => {
                if let Ok(mut events) = self.events.lock() {
                    events.push(event);
                }
            }
            Err(cause) => {
                if let Ok(mut wrong) = self.wrong.lock() {
                    wrong.push(format!("the application was told no JSON: {cause}"));
                }
            }
        }
    }
}

/// The application; stopped when dropped.
pub(crate) struct App {
    pub(crate) book: Arc<Book>,
    pub(crate) port: u16,
    running: Option<(Arc<AtomicBool>, JoinHandle<()>)>,
}

impl App {
    /// # Errors
    /// Nobody can listen.
    pub(crate) fn start() -> Result<Self, String> {
        let mut app = Self { book: Arc::default(), port: 0, running: None };
        app.resume()?;
        Ok(app)
    }

    /// Serves again, at the same port.
    ///
    /// # Errors
    /// Nobody can listen.
    pub(crate) fn resume(&mut self) -> Result<(), String> {
        let told = |cause: std::io::Error| format!("the application: {cause}");
        let listener = TcpListener::bind(("127.0.0.1", self.port)).map_err(told)?;
        listener.set_nonblocking(true).map_err(told)?;
        self.port = listener.local_addr().map_err(told)?.port();
        let (book, ends) = (Arc::clone(&self.book), Arc::new(AtomicBool::new(false)));
        let seen = Arc::clone(&ends);
        let thread = std::thread::spawn(move || accept(&listener, &book, &seen));
        self.running = Some((ends, thread));
        Ok(())
    }

    /// Stops it: its port refuses, and its connections are gone.
    pub(crate) fn stop(&mut self) {
        if let Some((ends, thread)) = self.running.take() {
            ends.store(true, Ordering::Relaxed);
            drop(thread.join());
        }
    }
}

impl Drop for App {
    fn drop(&mut self) {
        self.stop();
    }
}

fn accept(listener: &TcpListener, book: &Arc<Book>, ends: &Arc<AtomicBool>) {
    let mut threads = Vec::new();
    while !ends.load(Ordering::Relaxed) {
        match listener.accept() {
            Ok((stream, _)) => {
                let (book, ends) = (Arc::clone(book), Arc::clone(ends));
                threads.push(std::thread::spawn(move || drop(serve(stream, &book, &ends))));
            }
            Err(_) => std::thread::sleep(LOOK),
        }
    }
    threads.into_iter().for_each(|thread| drop(thread.join()));
}

/// Answers the requests of one connection, until it or the application ends.
fn serve(stream: TcpStream, book: &Book, ends: &AtomicBool) -> std::io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(LOOK))?;
    let mut writer = stream.try_clone()?;
    let mut reader = BufReader::new(stream);
    loop {
        // Nothing of a request is taken until some of it is there.
        match reader.fill_buf() {
            Ok([]) => return Ok(()),
            Ok(_) => {}
            Err(cause) if is_patience(&cause) && !ends.load(Ordering::Relaxed) => continue,
            Err(cause) => return Err(cause),
        }
        reader.get_ref().set_read_timeout(Some(Duration::from_secs(5)))?;
        let (path, body) = request(&mut reader)?;
        reader.get_ref().set_read_timeout(Some(LOOK))?;
        if path == EVENTS {
            book.note(&body);
            writer.write_all(b"HTTP/1.1 204 No Content\r\n\r\n")?;
        } else {
            let call = book.calls.fetch_add(1, Ordering::Relaxed);
            let answer = format!("{{\"call\":{call}}}");
            let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: ";
            write!(writer, "{head}{}\r\n\r\n{answer}", answer.len())?;
        }
    }
}

fn is_patience(cause: &std::io::Error) -> bool {
    matches!(cause.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut)
}

/// Reads a request: its path and its body.
fn request(reader: &mut BufReader<TcpStream>) -> std::io::Result<(String, Vec<u8>)> {
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
    let mut length = 0;
    loop {
        line.clear();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.split_once(':') else { break };
        if name.eq_ignore_ascii_case("content-length") {
            length = value.trim().parse().unwrap_or(0);
        }
    }
    let mut body = vec![0; length.min(BODY_MAX)];
    reader.read_exact(&mut body)?;
    Ok((path, body))
}
