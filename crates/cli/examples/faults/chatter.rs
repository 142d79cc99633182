//! One user of the chat protocol: says what it has to say, each again under its id until it is answered, acks what it hears
//! and drops by id what it has heard, on whichever node it finds.

use std::collections::{BTreeMap, BTreeSet};
use std::future::ready;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use fastwebsockets::{Frame, OpCode, Payload, Role};
use roomcast_protocol::guard::Kind;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::crowd::token;

/// How long a connect, and an answer, may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long to rest after something failed.
const REST: Duration = Duration::from_millis(200);

/// How often something is sent although nothing is to be said.
const KEEP_ALIVE: Duration = Duration::from_secs(8);

/// Longest answer to an upgrade. Units: bytes.
const HEAD_BYTES_MAX: usize = 4_096;

/// Every so many messages the newest is marked as read.
const READ_EVERY: usize = 10;

/// Messages of a page.
const PAGE: u64 = 60;

/// What all users of a scene share.
pub(crate) struct Shared {
    /// Where nodes are just now; empty: it is away.
    pub(crate) nodes: Mutex<Vec<String>>,
    /// Everybody is to end.
    pub(crate) over: watch::Sender<bool>,
    /// How many messages each user says.
    pub(crate) messages: usize,
    /// How far apart, at first.
    pub(crate) every: Duration,
}

/// What one user knows.
#[derive(Debug, Default)]
pub(crate) struct Known {
    /// By what it said: under which number it stands.
    pub(crate) accepted: BTreeMap<String, u64>,
    /// By number: under which id somebody else said it.
    pub(crate) shown: BTreeMap<u64, String>,
    /// The same events once more, dropped by their ids.
    pub(crate) repeats: u64,
    /// Connections that were opened.
    pub(crate) connects: u64,
    /// What a client that drops by id should not see.
    pub(crate) wrong: Vec<String>,
    /// At the end: by number, under which id each message stands.
    pub(crate) kept: BTreeMap<u64, String>,
    heard: BTreeSet<u64>,
    /// The newest message that somebody has got, and read, by who and what, and by the order of events.
    marks: BTreeMap<(String, String), BTreeMap<u64, u64>>,
}

impl Known {
    /// Marks of each kind that went back, in the order of their events.
    pub(crate) fn marks_back(&self) -> usize {
        let back = |marks: &BTreeMap<u64, u64>| {
            let pairs = marks.values().zip(marks.values().skip(1));
            pairs.filter(|(before, after)| after < before).count()
        };
        self.marks.values().map(back).sum()
    }

    fn event(&mut self, event: &Value) {
        let Some(id) = event.get("id").and_then(Value::as_u64) else { return };
        if !self.heard.insert(id) {
            self.repeats += 1;
            return;
        }
        let payload = event.get("payload").cloned().unwrap_or_default();
        let number = payload.get("messageId").and_then(Value::as_u64).unwrap_or_default();
        let text =
            |name: &str| payload.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        match event.get("eventType").and_then(Value::as_str).unwrap_or_default() {
            "new" => {
                let said = text("clientMessageId");
                if let Some(before) = self.shown.insert(number, said.clone()) {
                    self.wrong.push(format!("message {number} is shown twice: {before}, {said}"));
                }
            }
            kind @ ("dlvrd" | "read") => {
                let of = (kind.to_owned(), text("userId"));
                self.marks.entry(of).or_default().insert(id, number);
            }
            "online" | "offline" | "chats" => {}
            other => self.wrong.push(format!("an event of type {other}")),
        }
    }
}

/// One user.
pub(crate) struct Chatter {
    pub(crate) shared: Arc<Shared>,
    pub(crate) user: String,
    pub(crate) with: String,
    /// Which node it tries first.
    pub(crate) first: usize,
    pub(crate) known: Arc<Mutex<Known>>,
}

/// An open connection: what to send, and what came.
struct Link {
    sends: mpsc::UnboundedSender<(OpCode, Vec<u8>)>,
    heard: mpsc::UnboundedReceiver<Value>,
}

impl Link {
    fn tell(&self, message: &Value) {
        // A connection that has ended shows on the other side.
        drop(self.sends.send((OpCode::Text, message.to_string().into_bytes())));
    }

    fn request(&self, id: &str, kind: &str, payload: &Value) {
        self.tell(&json!({
            "type": "request", "timestamp": 1, "id": id, "payloadType": kind, "payload": payload,
        }));
    }
}

/// Upgrades a connection.
async fn connect(address: &str, user: &str) -> Result<Link, String> {
    let token = token(user, Kind::User, &[])?;
    let mut stream = TcpStream::connect(address).await.map_err(|cause| cause.to_string())?;
    let request = format!(
        "GET /chat HTTP/1.1\r\nHost: {address}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
         Sec-WebSocket-Protocol: protocol, {token}\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.map_err(|cause| cause.to_string())?;
    let mut head = Vec::new();
    // Byte by byte, so that the first frame stays where it is.
    while !head.ends_with(b"\r\n\r\n") && head.len() < HEAD_BYTES_MAX {
        head.push(stream.read_u8().await.map_err(|cause| cause.to_string())?);
    }
    if !head.starts_with(b"HTTP/1.1 101") {
        return Err(String::from_utf8_lossy(&head).into_owned());
    }
    let (read, write) = stream.into_split();
    let (mut reader, mut writer) = fastwebsockets::after_handshake_split(read, write, Role::Client);
    reader.set_auto_close(false);
    reader.set_auto_pong(false);
    let (sends, mut to_send) = mpsc::unbounded_channel::<(OpCode, Vec<u8>)>();
    let (events, heard) = mpsc::unbounded_channel();
    let pongs = sends.downgrade();
    tokio::spawn(async move {
        while let Some((opcode, bytes)) = to_send.recv().await {
            let frame = Frame::new(true, opcode, None, Payload::Owned(bytes));
            if writer.write_frame(frame).await.is_err() {
                break;
            }
        }
    });
    tokio::spawn(async move {
        loop {
            let mut never = |_: Frame<'_>| ready(Ok::<(), std::io::Error>(()));
            let Ok(frame) = reader.read_frame(&mut never).await else { break };
            match frame.opcode {
                OpCode::Close => break,
                OpCode::Ping => {
                    if let Some(pongs) = pongs.upgrade() {
                        drop(pongs.send((OpCode::Pong, frame.payload.to_vec())));
                    }
                }
                OpCode::Text => {
                    let Ok(message) = serde_json::from_slice(&frame.payload) else { break };
                    if events.send(message).is_err() {
                        break;
                    }
                }
                OpCode::Pong | OpCode::Binary | OpCode::Continuation => {}
            }
        }
    });
    Ok(Link { sends, heard })
}

impl Chatter {
    fn known(&self) -> std::sync::MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says all, hears all, until everybody is to end; then reads once what stands.
    pub(crate) async fn run(mut self) {
        let mut over = self.shared.over.subscribe();
        let mut said = 0;
        loop {
            let ended = *over.borrow();
            let nodes = self.shared.nodes.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let address = nodes.get(self.first % nodes.len().max(1)).cloned().unwrap_or_default();
            self.first += 1;
            let connected = timeout(PATIENCE, connect(&address, &self.user)).await;
            let Ok(Ok(link)) = connected else {
                sleep(REST).await;
                continue;
            };
            self.known().connects += 1;
            if ended {
                if self.read_all(link).await {
                    return;
                }
                continue;
            }
            self.talk(link, &mut said, &mut over).await;
        }
    }

    /// Talks until the connection ends, or everybody is to end.
    async fn talk(&self, mut link: Link, said: &mut usize, over: &mut watch::Receiver<bool>) {
        let mut keep_alive = Instant::now() + KEEP_ALIVE;
        let mut next = Instant::now() + self.shared.every / 2;
        let mut asked: Option<String> = None;
        let (mut requests, mut shown) = (0_u64, 0);
        loop {
            tokio::select! {
                _ = over.wait_for(|over| *over) => return,
                heard = link.heard.recv() => {
                    let Some(message) = heard else { return };
                    if message.get("type").and_then(Value::as_str) == Some("event") {
                        self.known().event(&message);
                        if let Some(id) = message.get("id") {
                            link.tell(&json!({ "type": "ack", "id": id }));
                        }
                        let is_new = message.get("eventType").and_then(Value::as_str) == Some("new");
                        shown += usize::from(is_new);
                        if is_new && shown % READ_EVERY == 0 {
                            let number = message.pointer("/payload/messageId").cloned();
                            requests += 1;
                            let payload = json!({ "chatId": self.with, "messageId": number });
                            link.request(&format!("read-{requests}"), "read", &payload);
                        }
                    } else if self.is_answered(&message, asked.as_deref(), *said) {
                        asked = None;
                        *said += 1;
                        next = Instant::now() + self.shared.every;
                    } else if message.get("error").is_some() {
                        asked = None;
                        next = Instant::now() + REST;
                    }
                }
                () = sleep_until(next), if *said < self.shared.messages => {
                    if asked.is_some() {
                        return; // not answered in time
                    }
                    requests += 1;
                    let id = format!("new-{requests}");
                    let name = self.name(*said);
                    let payload = json!({ "chatId": self.with, "clientMessageId": name, "message": name });
                    link.request(&id, "new", &payload);
                    asked = Some(id);
                    next = Instant::now() + PATIENCE;
                }
                () = sleep_until(keep_alive) => {
                    drop(link.sends.send((OpCode::Text, b"ping".to_vec())));
                    keep_alive = Instant::now() + KEEP_ALIVE;
                }
            }
        }
    }

    fn name(&self, number: usize) -> String {
        format!("{}-{number}", self.user)
    }

    /// Whether it is the answer to what was said last.
    fn is_answered(&self, message: &Value, asked: Option<&str>, said: usize) -> bool {
        let id = message.get("id").and_then(Value::as_str);
        let number = message.pointer("/payload/messageId").and_then(Value::as_u64);
        let (Some(id), Some(asked), Some(number)) = (id, asked, number) else { return false };
        if id != asked {
            return false;
        }
        self.known().accepted.insert(self.name(said), number);
        true
    }

    /// Reads all that the dialog keeps; says whether it could.
    async fn read_all(&self, mut link: Link) -> bool {
        let mut from = 1;
        let mut kept = BTreeMap::new();
        for page in 0_usize.. {
            let payload = json!({ "chatId": self.with, "startId": from, "count": PAGE });
            let id = format!("page-{page}");
            link.request(&id, "messages", &payload);
            let deadline = Instant::now() + PATIENCE;
            let found = loop {
                let heard = tokio::select! {
                    heard = link.heard.recv() => heard,
                    () = sleep_until(deadline) => None,
                };
                let Some(message) = heard else { return false };
                if message.get("id").and_then(Value::as_str) == Some(&*id) {
                    break message;
                }
                if message.get("error").is_some() {
                    sleep(REST).await;
                    return false;
                }
            };
            let messages = found.pointer("/payload/messages").and_then(Value::as_array).cloned();
            let messages = messages.unwrap_or_default();
            for message in &messages {
                let number = message.get("messageId").and_then(Value::as_u64).unwrap_or_default();
                let name =
                    message.get("clientMessageId").and_then(Value::as_str).unwrap_or_default();
                kept.insert(number, name.to_owned());
                from = number + 1;
            }
            if messages.is_empty() {
                break;
            }
        }
        self.known().kept = kept;
        true
    }
}
