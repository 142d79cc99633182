//! A client of the chat protocol: asks, hears events, acks them if it is told to.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::common::Live;
use crate::common::ws::{Dial, Heard, Ws};

/// The first byte of a pong.
const PONG: u8 = 0x8a;

/// Nodes that serve it.
pub(crate) const SERVED: [(&str, &str); 1] = [("dialects.chat.enabled", "true")];

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) struct Chat {
    ws: Ws,
    asked: u64,
    events: VecDeque<Value>,
    /// Who came and went, apart from all other events.
    statuses: VecDeque<Value>,
    /// Lists of its chats that it was told, apart too.
    lists: VecDeque<Value>,
    /// Both are not acked.
    pub(crate) keeps_acks: bool,
}

impl Chat {
    /// Connects as this user; `device`: with that fingerprint.
    pub(crate) fn open(live: &Live, user: &str, device: Option<&str>) -> Self {
        let token = live.token(user, "user");
        let dial = Dial::default().path("/chat").subprotocol(&format!("protocol, {token}"));
        let dial = device.into_iter().fold(dial, |dial, it| dial.header("Fingerprint", it));
        let answered = dial.send(live.public());
        assert_eq!(answered.status, 101);
        assert_eq!(answered.header("sec-websocket-protocol"), Some("protocol"));
        let (events, statuses, lists) = (VecDeque::new(), VecDeque::new(), VecDeque::new());
        Self { ws: answered.ws, asked: 0, events, statuses, lists, keeps_acks: false }
    }

    pub(crate) fn tell(&mut self, message: &Value) {
        self.ws.tell(message);
    }

    /// A client's event: typing, offline.
    pub(crate) fn tells(&mut self, kind: &str, payload: &Value) {
        let timestamp = 1_700_000_000_000_u64;
        self.ws.tell(&json!({ "type": "event", "timestamp": timestamp, "payloadType": kind, "payload": payload }));
    }

    /// Where an event is kept that comes while something else is waited for.
    fn queue(&mut self, event: &Value) -> &mut VecDeque<Value> {
        match event["eventType"].as_str() {
            Some("online" | "offline") => &mut self.statuses,
            Some("chats") => &mut self.lists,
            _ => &mut self.events,
        }
    }

    /// The next message that neither says who came or went nor lists chats.
    fn receive(&mut self, deadline: Instant) -> Option<Value> {
        loop {
            let heard = self.receive_any(deadline)?;
            if !is_aside(&heard) {
                return Some(heard);
            }
            self.queue(&heard).push_back(heard);
        }
    }

    fn receive_any(&mut self, deadline: Instant) -> Option<Value> {
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.ws.heard(left)? {
                Heard::Text(text) => {
                    let heard: Value = serde_json::from_str(&text).unwrap();
                    if heard["event"] == "pong" {
                        continue;
                    }
                    if is_aside(&heard) && !self.keeps_acks {
                        self.acks(&heard);
                    }
                    return Some(heard);
                }
                Heard::Ping(payload) => self.ws.send(PONG, &payload),
                other => panic!("no text: {other:?}"),
            }
        }
    }

    /// What is answered to a request, whatever it is; events that come meanwhile are kept.
    pub(crate) fn asks_raw(&mut self, kind: &str, payload: &Value) -> Value {
        self.asked += 1;
        let id = self.asked.to_string();
        let timestamp = 1_700_000_000_000_u64;
        self.ws.tell(&json!({
            "type": "request", "timestamp": timestamp, "id": id, "payloadType": kind, "payload": payload,
        }));
        let deadline = Instant::now() + PATIENCE;
        loop {
            let heard = self.receive(deadline).unwrap_or_else(|| panic!("no answer to {kind}"));
            if heard["type"] == "event" {
                self.events.push_back(heard);
                continue;
            }
            let answered = heard.get("id").or_else(|| heard["error"].get("id"));
            assert_eq!(answered, Some(&json!(id)), "{heard}");
            return heard;
        }
    }

    /// The payload of the response.
    #[track_caller]
    pub(crate) fn asks(&mut self, kind: &str, payload: &Value) -> Value {
        let heard = self.asks_raw(kind, payload);
        assert_eq!(heard["type"], "response", "{heard}");
        heard["payload"].clone()
    }

    /// Why it is refused.
    #[track_caller]
    pub(crate) fn refused(&mut self, kind: &str, payload: &Value) -> String {
        let heard = self.asks_raw(kind, payload);
        heard["error"]["exception"].as_str().unwrap_or_else(|| panic!("{heard}")).to_owned()
    }

    /// Says something; answers with its number.
    #[track_caller]
    pub(crate) fn says(&mut self, with: &str, text: &str) -> u64 {
        let payload =
            json!({ "chatId": with, "clientMessageId": format!("c-{text}"), "message": text });
        self.asks("new", &payload)["messageId"].as_u64().unwrap()
    }

    /// The next event.
    #[track_caller]
    pub(crate) fn event(&mut self) -> Value {
        let deadline = Instant::now() + PATIENCE;
        let heard = self.events.pop_front().or_else(|| self.receive(deadline));
        let heard = heard.expect("an event in time");
        assert_eq!(heard["type"], "event", "{heard}");
        heard
    }

    /// The next event, of this type, and acked; answers with its payload.
    #[track_caller]
    pub(crate) fn hears(&mut self, kind: &str) -> Value {
        let heard = self.event();
        assert_eq!(heard["eventType"], kind, "{heard}");
        self.acks(&heard);
        heard["payload"].clone()
    }

    /// The next event that says who came or went; other events that come meanwhile are kept.
    pub(crate) fn status(&mut self, within: Duration) -> Option<Value> {
        self.next_of(within, |it| &mut it.statuses)
    }

    /// The next event that lists its chats; other events that come meanwhile are kept.
    pub(crate) fn list(&mut self, within: Duration) -> Option<Value> {
        self.next_of(within, |it| &mut it.lists)
    }

    fn next_of(
        &mut self,
        within: Duration,
        held: fn(&mut Self) -> &mut VecDeque<Value>,
    ) -> Option<Value> {
        let deadline = Instant::now() + within;
        loop {
            if let Some(held) = held(self).pop_front() {
                return Some(held);
            }
            let heard = self.receive_any(deadline)?;
            self.queue(&heard).push_back(heard);
        }
    }

    /// The next one, in which these groups are.
    #[track_caller]
    pub(crate) fn hears_list_of(&mut self, groups: &[&str]) -> Value {
        let heard = self.list(PATIENCE).expect("a list in time");
        assert!(heard["id"].is_u64() && heard["timestamp"].is_u64(), "{heard}");
        let listed = heard["payload"].as_array().expect("an array").iter();
        let listed = listed.filter(|chat| chat["type"] == "group");
        let mut named: Vec<_> = listed.map(|chat| chat["chatId"].as_str().unwrap()).collect();
        named.sort_unstable();
        assert_eq!(named, groups, "{heard}");
        heard
    }

    /// No list comes within so long.
    #[track_caller]
    pub(crate) fn hears_no_list(&mut self, within: Duration) {
        assert_eq!(self.list(within), None, "no list was expected");
    }

    /// Who came or went next; answers with the event.
    #[track_caller]
    pub(crate) fn hears_of(&mut self, kind: &str, user: &str) -> Value {
        let heard = self.status(PATIENCE).unwrap_or_else(|| panic!("{kind} {user} in time"));
        assert_eq!(heard["type"], "event", "{heard}");
        assert_eq!(
            (&heard["eventType"], &heard["payload"]["userId"]),
            (&json!(kind), &json!(user))
        );
        let seen = heard["payload"].get("lastSeen").is_some_and(Value::is_u64);
        assert_eq!(seen, kind == "offline", "{heard}");
        assert!(heard["id"].is_u64() && heard["timestamp"].is_u64(), "{heard}");
        heard
    }

    /// Nobody comes or goes within so long.
    #[track_caller]
    pub(crate) fn hears_of_nobody(&mut self, within: Duration) {
        assert_eq!(self.status(within), None, "nobody was expected");
    }

    pub(crate) fn acks(&mut self, event: &Value) {
        if let Some(id) = event.get("id") {
            self.ws.tell(&json!({ "type": "ack", "id": id.to_string() }));
        }
    }

    /// Nothing comes within so long.
    #[track_caller]
    pub(crate) fn hears_nothing(&mut self, within: Duration) {
        let heard = self.events.pop_front().or_else(|| self.receive(Instant::now() + within));
        assert_eq!(heard, None, "nothing was expected");
    }

    pub(crate) fn ws(&mut self) -> &mut Ws {
        &mut self.ws
    }

    pub(crate) fn close(self) {
        self.ws.close();
    }
}

/// Whether it is kept apart from other events.
fn is_aside(heard: &Value) -> bool {
    matches!(heard["eventType"].as_str(), Some("online" | "offline" | "chats"))
}
