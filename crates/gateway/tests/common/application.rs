//! An application that the node calls: a small HTTP server of the test's own, which can stop and come back.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use serde_json::Value;

/// One request that it got.
#[derive(Clone, Debug)]
pub struct Called {
    pub path: String,
    pub head: String,
    pub body: Value,
}

/// What it answers: status and body.
pub type Answer = (u16, String);

/// The same with lines of headers, each ended.
pub struct Reply {
    pub status: u16,
    pub headers: String,
    pub body: String,
}

impl From<Answer> for Reply {
    fn from((status, body): Answer) -> Self {
        Self { status, headers: "Content-Type: application/json\r\n".to_owned(), body }
    }
}

/// A running application.
pub struct Application {
    address: SocketAddr,
    answer: Arc<dyn Fn(&Called) -> Reply + Send + Sync>,
    called: Arc<Mutex<Vec<Called>>>,
    serving: Option<(Arc<AtomicBool>, JoinHandle<()>)>,
}

impl Application {
    /// Starts one on a free port.
    pub fn start<R: Into<Reply>>(answer: impl Fn(&Called) -> R + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let answer = Arc::new(move |called: &Called| answer(called).into());
        let mut application = Self { address, answer, called: Arc::default(), serving: None };
        application.serve(listener);
        application
    }

    fn serve(&mut self, listener: TcpListener) {
        let over = Arc::new(AtomicBool::new(false));
        let (answer, called) = (Arc::clone(&self.answer), Arc::clone(&self.called));
        let ends = Arc::clone(&over);
        let accept = move || {
            while let Ok((stream, _)) = listener.accept() {
                if ends.load(Ordering::SeqCst) {
                    return;
                }
                let (answer, called) = (Arc::clone(&answer), Arc::clone(&called));
                // Ends with its connection.
                std::thread::spawn(move || converse(stream, &*answer, &called));
            }
        };
        self.serving = Some((over, std::thread::spawn(accept)));
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What it was asked so far.
    pub fn called(&self) -> Vec<Called> {
        self.called.lock().unwrap().clone()
    }

    /// Takes no connection any more.
    pub fn stop(&mut self) {
        if let Some((over, thread)) = self.serving.take() {
            over.store(true, Ordering::SeqCst);
            // Wakes the one that accepts.
            drop(TcpStream::connect(self.address));
            thread.join().unwrap();
        }
    }

    /// Is there again, at the same address.
    pub fn come_back(&mut self) {
        self.serve(TcpListener::bind(self.address).unwrap());
    }
}

impl Drop for Application {
    fn drop(&mut self) {
        self.stop();
    }
}

/// One request, then the end: what was stopped is not reached over a connection from before.
fn converse(
    mut stream: TcpStream,
    answer: &(dyn Fn(&Called) -> Reply + Send + Sync),
    called: &Mutex<Vec<Called>>,
) {
    let Some(request) = read(&stream) else { return };
    called.lock().unwrap().push(request.clone());
    let Reply { status, headers, body } = answer(&request);
    let length = body.len();
    let rest = "Connection: close\r\nContent-Length";
    let text = format!("HTTP/1.1 {status} X\r\n{headers}{rest}: {length}\r\n\r\n{body}");
    // Whoever asked may have gone.
    drop(stream.write_all(text.as_bytes()));
}

fn read(stream: &TcpStream) -> Option<Called> {
    let mut reader = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head).ok()? == 0 {
            return None;
        }
    }
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    let mut body = vec![0; length.map_or(0, |it| it.parse().unwrap())];
    reader.read_exact(&mut body).ok()?;
    let path = head.split(' ').nth(1).unwrap().to_owned();
    Some(Called { path, head, body: serde_json::from_slice(&body).unwrap() })
}
