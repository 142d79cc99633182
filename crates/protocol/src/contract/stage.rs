//! The stage on which a script is played: reads its steps, hands commands to the broker, and writes down what is heard.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{BrokerUnderTest, Brought};
use crate::content::Content;
use crate::envelope::{BrokerCommand, BrokerEvent, Envelope};
use crate::ids::NodeId;
use crate::publication::Publication;
use crate::room::RoomName;

pub(super) struct Stage<B> {
    broker: B,
    apart: Apart,
    mono_ms: u64,
    ticket: u64,
    request: u64,
    /// Publications that got no id from the script.
    named: u64,
    pub(super) heard: Vec<String>,
}

impl<B: BrokerUnderTest> Stage<B> {
    pub(super) const fn new(broker: B, apart: Apart) -> Self {
        Self { broker, apart, mono_ms: 0, ticket: 0, request: 0, named: 0, heard: Vec::new() }
    }

    /// Takes one step; `None`: it cannot be read.
    pub(super) fn step(&mut self, line: &str) -> Option<()> {
        let words: Vec<_> = line.split(' ').collect();
        let (subject, rest) = words.split_first()?;
        let (verb, rest) = rest.split_first()?;
        if *subject == "at" {
            self.mono_ms = verb.parse().ok()?;
            return Some(());
        }
        let node = NodeId(subject.parse().ok()?);
        match *verb {
            "attaches" => self.broker.attach(node),
            "detaches" => self.broker.detach(node),
            "subscribes" | "unsubscribes" => {
                let room = RoomName::parse(rest.first()?).ok()?;
                self.request += 1;
                let command = if *verb == "subscribes" {
                    BrokerCommand::Subscribe { room, request: self.request }
                } else {
                    BrokerCommand::Unsubscribe(room)
                };
                self.broker.execute(node, self.mono_ms, command);
            }
            "publishes" => self.publish(node, rest)?,
            "hears" => self.hear(node, rest.first().copied().unwrap_or("")),
            _ => return None,
        }
        Some(())
    }

    fn publish(&mut self, node: NodeId, words: &[&str]) -> Option<()> {
        let (room, words) = words.split_first()?;
        let (text, words) = words.split_first()?;
        let options: BTreeMap<_, _> = words.iter().filter_map(|it| it.split_once('=')).collect();
        let bytes = options.get("bytes").map_or(Some(text.len()), |it| it.parse().ok())?;
        let payload = format!("{text}{}", ".".repeat(bytes.saturating_sub(text.len())));
        for _ in 0..options.get("repeat").map_or(Some(1), |it| it.parse().ok())? {
            self.ticket += 1;
            self.named += 1;
            let named = format!("n{:04}", self.named);
            let publication = Publication {
                room: RoomName::parse(room).ok()?,
                id: options.get("id").map_or(&*named, |id| *id).into(),
                kind: (*options.get("kind").unwrap_or(&"message")).into(),
                timestamp: "1970-01-01T00:00:00.000Z".into(),
                sender: (*options.get("by").unwrap_or(&"ann")).into(),
                content: Content::Text(payload.clone().into()),
                priority: None,
                ttl_s: None,
                expires_unix_ms: None,
                correlation_id: None,
                requires: Vec::new(),
                isolated: false,
                position: None,
            };
            let command = BrokerCommand::Publish {
                ticket: self.ticket,
                publication: Arc::new(publication),
                dedup: words.contains(&"dedup"),
                keep: None,
            };
            self.broker.execute(node, self.mono_ms, command);
        }
        Some(())
    }

    fn hear(&mut self, node: NodeId, what: &str) {
        let Brought { events, ended } = self.broker.drain(node);
        let publications =
            events.iter().filter(|event| matches!(event, BrokerEvent::Envelope(_))).count();
        let mut heard: Vec<String> = match what {
            "count" => vec![format!("{publications} publications")],
            "completions" => merged(&events.iter().filter_map(completion).collect::<Vec<_>>()),
            _ => events.iter().map(shown).collect(),
        };
        if ended {
            heard.push("end".into());
        }
        if heard.is_empty() {
            heard.push("nothing".into());
        }
        let line = format!("{}: {}", node.0, heard.join(", "));
        self.heard.push(self.apart.shape(&line));
    }
}

fn shown(event: &BrokerEvent<u64>) -> String {
    match event {
        BrokerEvent::Envelope(Envelope::Publication { publication, .. }) => {
            let text = match &publication.content {
                Content::Json(bytes) | Content::Text(bytes) | Content::Binary(bytes) => bytes,
            };
            format!("{} {}", publication.room, String::from_utf8_lossy(text))
        }
        BrokerEvent::Envelope(Envelope::Unreadable { room, .. }) => format!("{room} unreadable"),
        BrokerEvent::Heads { request, .. } => format!("heads {request}"),
        BrokerEvent::Read { request, .. } => format!("read {request}"),
        BrokerEvent::Subscribed { room, .. } => format!("subscribed {room}"),
        BrokerEvent::FeedUp { .. } => "feed up".into(),
        BrokerEvent::FeedDown => "feed down".into(),
        BrokerEvent::Alive(_) => "alive".into(),
        BrokerEvent::Beat { seq, .. } => format!("beat {seq}"),
        BrokerEvent::BeatAnswered { seq, .. } => format!("beat answered {seq}"),
        BrokerEvent::Published { ticket, outcome: Ok(accepted) } => {
            format!("published {ticket}{}", if accepted.dedup_short { " short" } else { "" })
        }
        BrokerEvent::Published { ticket, outcome: Err(refused) } => {
            let retry = if refused.retry_after_ms.is_some() { " retry" } else { "" };
            format!("{} {ticket}{retry}", refused.refusal.row().name)
        }
    }
}

/// What of a line's order says nothing.
#[derive(Clone, Copy)]
pub(super) struct Apart {
    pub(super) answers: bool,
    pub(super) rooms: bool,
}

impl Apart {
    /// The line with its answers behind all else, and room by room, each in their order.
    pub(super) fn shape(self, line: &str) -> String {
        let (node, heard) = line.split_once(": ").unwrap_or(("", line));
        let is_answer = |part: &&str| {
            let mut words = part.split(' ').filter(|word| word.parse::<u64>().is_err());
            matches!(words.next(), Some("published" | "duplicate" | "unavailable"))
        };
        let is_answer = |part: &&str| self.answers && is_answer(part);
        let (answers, mut others): (Vec<_>, Vec<_>) = heard.split(", ").partition(is_answer);
        if self.rooms {
            others.sort_by_key(|part| part.trim_start_matches("subscribed ").split(' ').next());
        }
        format!("{node}: {}", [others, answers].concat().join(", "))
    }
}

fn completion(event: &BrokerEvent<u64>) -> Option<String> {
    matches!(event, BrokerEvent::Published { .. }).then(|| shown(event))
}

/// Four or more successes of one kind in a row are only counted.
fn merged(all: &[String]) -> Vec<String> {
    let kind = |text: &String| {
        let mut words = text.split(' ');
        let word = words.next().filter(|word| *word == "published")?;
        Some(format!("{word}{}", words.nth(1).map_or(String::new(), |it| format!(" {it}"))))
    };
    let runs = all.chunk_by(|one, other| kind(one).is_some() && kind(one) == kind(other));
    let shorten = |run: &[String]| match run.first().and_then(kind) {
        Some(kind) if run.len() >= 4 => vec![format!("{} {kind}", run.len())],
        Some(_) | None => run.to_vec(),
    };
    runs.flat_map(shorten).collect()
}
