//! The stage on which a script is played: reads its steps, hands commands to the broker, and writes down what is heard.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::follow::Follows;
use super::{BrokerUnderTest, Brought, Lost};
use crate::content::Content;
use crate::envelope::{BrokerCommand, BrokerEvent, Count, Envelope, Moved};
use crate::ids::NodeId;
use crate::inbox::{CursorName, CursorOf};
use crate::position::{Direction, Epoch, Keep, Kept, Page, Position, Span};
use crate::publication::{Priority, Publication};
use crate::room::RoomName;

/// What rooms keep where a script does not say it.
pub(super) const KEEP: Keep =
    Keep { size: 100, bytes_max: 1 << 20, ttl_ms: 60_000, replicated: false, inbox: None };

pub(super) struct Stage<B> {
    pub(super) broker: B,
    apart: Apart,
    pub(super) mono_ms: u64,
    ticket: u64,
    pub(super) request: u64,
    /// Beats of which the answer is shown, and nothing else.
    pub(super) lives: BTreeSet<u64>,
    /// Which cursor was asked for.
    pub(super) looks: BTreeMap<u64, CursorName>,
    /// Their numbers, as last heard of.
    pub(super) cursors: BTreeMap<CursorName, u64>,
    /// What nodes were given of partitions' events, and which node asked of which.
    pub(super) follows: Follows,
    /// Publications that got no id from the script.
    named: u64,
    /// What rooms keep, as the script last said.
    keeps: BTreeMap<RoomName, Keep>,
    /// Counters of partitions, as beats have told each node.
    taken: BTreeMap<NodeId, BTreeMap<u16, u64>>,
    pub(super) epochs: Epochs,
    pub(super) heard: Vec<String>,
}

impl<B: BrokerUnderTest> Stage<B> {
    pub(super) const fn new(broker: B, apart: Apart) -> Self {
        Self {
            broker,
            apart,
            mono_ms: 0,
            ticket: 0,
            request: 0,
            lives: BTreeSet::new(),
            looks: BTreeMap::new(),
            cursors: BTreeMap::new(),
            follows: Follows::new(),
            named: 0,
            keeps: BTreeMap::new(),
            taken: BTreeMap::new(),
            epochs: Epochs(Vec::new(), Vec::new()),
            heard: Vec::new(),
        }
    }

    /// Takes one step; `None`: it cannot be read.
    pub(super) fn step(&mut self, line: &str) -> Option<()> {
        let words: Vec<_> = line.split(' ').collect();
        let (subject, rest) = words.split_first()?;
        match (*subject, rest) {
            ("at", [ms]) => self.mono_ms = ms.parse().ok()?,
            ("promotes", []) => self.broker.promote(),
            ("loses", ["everything"]) => self.broker.lose(Lost::Everything),
            ("loses", ["session", user, session]) => self.lose_session(user, session)?,
            ("occupancies", [room]) => self.occupancies(room)?,
            ("loses", [what, room]) => {
                let room = RoomName::parse(room).ok()?;
                self.broker.lose(match *what {
                    "meta" => Lost::Meta(&room),
                    "stream" => Lost::Stream(&room),
                    "ids" => Lost::Ids(&room),
                    "cursors" => Lost::Cursors(&room),
                    "presence" => Lost::Presence(&room),
                    "receipts" => Lost::Receipts(&room),
                    _ => return None,
                });
            }
            (node, [verb, rest @ ..]) => self.act(NodeId(node.parse().ok()?), verb, rest)?,
            (_, []) => return None,
        }
        Some(())
    }

    fn act(&mut self, node: NodeId, verb: &str, rest: &[&str]) -> Option<()> {
        match verb {
            "attaches" => self.broker.attach(node),
            "detaches" => self.broker.detach(node),
            "subscribes" | "unsubscribes" => {
                let room = RoomName::parse(rest.first()?).ok()?;
                self.request += 1;
                let command = if verb == "subscribes" {
                    BrokerCommand::Subscribe { room, request: self.request }
                } else {
                    BrokerCommand::Unsubscribe(room)
                };
                self.broker.execute(node, self.mono_ms, command);
            }
            "publishes" => self.publish(node, rest)?,
            "heads" => {
                self.request += 1;
                let room = |name: &&str| {
                    let room = RoomName::parse(name).ok()?;
                    let keep = self.keeps.get(&room).copied().unwrap_or(KEEP);
                    Some((room, keep))
                };
                let rooms = rest.iter().map(room).collect::<Option<_>>()?;
                let command = BrokerCommand::Heads { request: self.request, rooms };
                self.broker.execute(node, self.mono_ms, command);
            }
            "reads" => self.read(node, rest)?,
            "beats" => {
                self.request += 1;
                let taken = self.taken.entry(node).or_default().iter();
                let taken = taken.map(|(&partition, &count)| Count { partition, count }).collect();
                let command = BrokerCommand::Beat {
                    seq: self.request,
                    hears: true,
                    life: 1,
                    retired: None,
                    taken,
                    told: None,
                    reads: false,
                };
                self.broker.execute(node, self.mono_ms, command);
            }
            "hears" => self.hear(node, rest.first().copied().unwrap_or("")),
            "follows" => self.follow(node, rest)?,
            "marks" | "receipts" => self.receipts(node, verb, rest)?,
            _ => self.stateful(node, verb, rest)?,
        }
        Some(())
    }

    fn publish(&mut self, node: NodeId, words: &[&str]) -> Option<()> {
        let (room, words) = words.split_first()?;
        let (text, words) = words.split_first()?;
        let room = RoomName::parse(room).ok()?;
        let options = options(words);
        let keep = self.keep(&room, &options)?;
        let bytes = options.get("bytes").map_or(Some(text.len()), |it| it.parse().ok())?;
        let payload = format!("{text}{}", ".".repeat(bytes.saturating_sub(text.len())));
        for _ in 0..options.get("repeat").map_or(Some(1), |it| it.parse().ok())? {
            self.ticket += 1;
            self.named += 1;
            let named = format!("n{:04}", self.named);
            let publication = Publication {
                id: options.get("id").map_or(&*named, |id| *id).into(),
                kind: (*options.get("kind").unwrap_or(&"message")).into(),
                timestamp: "1970-01-01T00:00:00.000Z".into(),
                sender: (*options.get("by").unwrap_or(&"ann")).into(),
                priority: words.contains(&"low").then_some(Priority::Low),
                ..Publication::bare(room.clone(), Content::Text(payload.clone().into()))
            };
            let command = BrokerCommand::Publish {
                ticket: self.ticket,
                publication: Arc::new(publication),
                dedup: words.contains(&"dedup"),
                keep,
                collapse: options.get("collapse").map(|key| (*key).into()),
            };
            self.broker.execute(node, self.mono_ms, command);
        }
        Some(())
    }

    /// What a room keeps: as the options say, or as was said before; `None` within: it is ephemeral.
    pub(super) fn keep(
        &mut self,
        room: &RoomName,
        options: &BTreeMap<&str, &str>,
    ) -> Option<Option<Keep>> {
        if let Some(size) = options.get("keep") {
            let number = |name: &str, otherwise: u64| {
                options.get(name).map_or(Some(otherwise), |it| it.parse().ok())
            };
            let bytes_max = number("keep_bytes", KEEP.bytes_max)?;
            let ttl_ms = number("keep_ttl", KEEP.ttl_ms)?;
            let keep = Keep {
                size: size.parse().ok()?,
                bytes_max,
                ttl_ms,
                replicated: false,
                inbox: match options.get("inbox") {
                    None => None,
                    Some(name) => Some(CursorOf::ALL.into_iter().find(|it| it.name() == *name)?),
                },
            };
            self.keeps.insert(room.clone(), keep);
        }
        Some(self.keeps.get(room).copied())
    }

    fn read(&mut self, node: NodeId, words: &[&str]) -> Option<()> {
        let [room, side, from, words @ ..] = words else { return None };
        let options = options(words);
        let room = RoomName::parse(room).ok()?;
        let span = Span {
            direction: match *side {
                "above" => Direction::Forward,
                "below" => Direction::Backward,
                _ => return None,
            },
            from: if *from == "max" { u64::MAX } else { from.parse().ok()? },
            count_max: options.get("limit").map_or(Some(Span::COUNT_MAX), |it| it.parse().ok())?,
            bytes_max: options.get("bytes").map_or(Some(Span::BYTES_MAX), |it| it.parse().ok())?,
        };
        self.request += 1;
        let keep = self.keep(&room, &options)?.unwrap_or(KEEP);
        let command = BrokerCommand::Read { request: self.request, room, keep, span };
        self.broker.execute(node, self.mono_ms, command);
        Some(())
    }

    fn hear(&mut self, node: NodeId, what: &str) {
        let Brought { mut events, ended } = self.broker.drain(node);
        let lives = &self.lives;
        events.retain(|event| {
            let is_beat = |it: &u64| lives.contains(it);
            let own = matches!(event, BrokerEvent::Beat { seq, .. } if is_beat(seq));
            !own && !matches!(event, BrokerEvent::BeatAnswered { seq, .. } if !is_beat(seq))
        });
        let publications =
            events.iter().filter(|event| matches!(event, BrokerEvent::Envelope(_))).count();
        for event in &events {
            if let BrokerEvent::Beat { moved, .. } = event {
                let told = moved.iter().map(|moved| (moved.count.partition, moved.count.count));
                self.taken.entry(node).or_default().extend(told);
            }
            if let BrokerEvent::Inbox { request, state: Some(state) } = event
                && let Some(cursor) = self.looks.remove(request)
            {
                self.cursors.insert(cursor, state.told.cursor);
            }
            if let BrokerEvent::Occupancies { request, given: Some(given) } = event {
                self.follows.hear(*request, given);
            }
        }
        if what == "quietly" {
            return;
        }
        let epochs = &mut self.epochs;
        let mut heard: Vec<String> = match what {
            "count" => vec![format!("{publications} publications")],
            "completions" => {
                let completions = events.iter().filter(|it| is_completion(it));
                merged(&completions.map(|event| epochs.shown(event)).collect::<Vec<_>>())
            }
            "answers" => {
                events.iter().filter(|it| is_answer(it)).map(|event| epochs.shown(event)).collect()
            }
            _ => events.iter().map(|event| epochs.shown(event)).collect(),
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

pub(super) fn options<'a>(words: &[&'a str]) -> BTreeMap<&'a str, &'a str> {
    words.iter().filter_map(|it| it.split_once('=')).collect()
}

/// Epochs, and times of marks, in the order in which they were first heard of: how scripts name them.
pub(super) struct Epochs(Vec<Epoch>, Vec<u64>);

impl Epochs {
    fn shown(&mut self, event: &BrokerEvent<u64>) -> String {
        match event {
            BrokerEvent::Envelope(Envelope::Publication { publication, .. }) => {
                let position = publication.position.map(|it| format!(" {}", self.position(it)));
                let text = text(&publication.content);
                format!("{} {text}{}", publication.room, position.unwrap_or_default())
            }
            BrokerEvent::Envelope(Envelope::Unreadable { room, position }) => {
                format!("{room} unreadable {}", self.position(*position))
            }
            BrokerEvent::Heads { heads: Some(heads), .. } => {
                let heads: String =
                    heads.iter().map(|it| format!(" {}", self.position(*it))).collect();
                format!("heads{heads}")
            }
            BrokerEvent::Heads { heads: None, .. } => "no heads".into(),
            BrokerEvent::Read { page: Some(page), .. } => self.page(page),
            BrokerEvent::Read { page: None, .. } => "no page".into(),
            BrokerEvent::Envelope(Envelope::Presence(diff)) => self.diff(diff),
            BrokerEvent::Envelope(Envelope::Receipts(diff)) => self.receipt_diff(diff),
            BrokerEvent::MarksSet { outcome: Some(outcome), .. } => self.marks_set(outcome),
            BrokerEvent::Receipts { page: Some(page), .. } => self.receipts_page(page),
            BrokerEvent::Occupancies { given: Some(given), .. } => self.followed(given),
            BrokerEvent::MarksSet { outcome: None, .. }
            | BrokerEvent::Occupancies { given: None, .. }
            | BrokerEvent::Receipts { page: None, .. } => "unanswered".into(),
            BrokerEvent::Saved { .. }
            | BrokerEvent::SessionsEnded { .. }
            | BrokerEvent::Attached { .. }
            | BrokerEvent::PresenceSet { .. }
            | BrokerEvent::Roster { .. }
            | BrokerEvent::Present { .. }
            | BrokerEvent::Inbox { .. }
            | BrokerEvent::EntrySet { .. }
            | BrokerEvent::Directory { .. }
            | BrokerEvent::BeatAnswered { .. } => self.stateful(event),
            BrokerEvent::Subscribed { room, .. } => format!("subscribed {room}"),
            BrokerEvent::FeedUp { .. } => "feed up".into(),
            BrokerEvent::FeedDown => "feed down".into(),
            BrokerEvent::Alive(_) => "alive".into(),
            BrokerEvent::Beat { moved, .. } => self.beat(moved),
            BrokerEvent::Published { ticket, outcome: Ok(accepted) } => {
                // Rooms without history have no other level.
                let level = match accepted.position {
                    None => "published",
                    Some(_) => accepted.level.name(),
                };
                let position = accepted.position.map(|it| format!(" {}", self.position(it)));
                let short = if accepted.dedup_short { " short" } else { "" };
                format!("{level} {ticket}{}{short}", position.unwrap_or_default())
            }
            BrokerEvent::Published { ticket, outcome: Err(refused) } => {
                let retry = if refused.retry_after_ms.is_some() { " retry" } else { "" };
                format!("{} {ticket}{retry}", refused.refusal.row().name)
            }
        }
    }

    /// The epoch of a number; of one that was not heard of nobody's.
    pub(super) fn at(&self, number: usize) -> Epoch {
        self.0.get(number).copied().unwrap_or(Epoch::NONE)
    }

    pub(super) fn position(&mut self, position: Position) -> String {
        let Position { epoch, offset } = position;
        let known = self.0.iter().position(|known| *known == epoch);
        let at = known.unwrap_or_else(|| {
            self.0.push(epoch);
            self.0.len() - 1
        });
        format!("e{at}:{offset}")
    }

    pub(super) fn time(&mut self, ms: u64) -> usize {
        let known = self.1.iter().position(|known| *known == ms);
        known.unwrap_or_else(|| {
            self.1.push(ms);
            self.1.len() - 1
        })
    }

    fn page(&mut self, page: &Page) -> String {
        let head = self.position(page.head.position);
        let entries = page.entries.iter().map(|entry| {
            // Which epoch an entry had that was removed is not worth keeping everywhere.
            if let Kept::Removed(position) = entry {
                return format!("{} removed; ", position.offset);
            }
            let position = entry.position().map_or("nowhere".into(), |it| self.position(it));
            match entry {
                Kept::Publication(it) => format!("{position} {}; ", text(&it.content)),
                Kept::Unreadable(_) | Kept::Removed(_) => format!("{position} unreadable; "),
            }
        });
        let entries: String = entries.collect();
        let end = if page.whole { "whole" } else { "more" };
        format!("page {head} from {}: {entries}{end}", page.head.first)
    }

    /// Rooms by name: how they spread over partitions is the broker's.
    fn beat(&mut self, moved: &[Moved]) -> String {
        let mut rooms: Vec<_> =
            moved.iter().flat_map(|moved| moved.rooms.iter().flatten()).collect();
        rooms.sort_by_key(|(room, _)| room);
        let any = moved.iter().any(|moved| moved.rooms.is_none());
        let rooms =
            rooms.into_iter().map(|(room, head)| format!("{room} {}", self.position(*head)));
        let told: Vec<_> = any.then(|| "any".to_owned()).into_iter().chain(rooms).collect();
        if told.is_empty() { "beat".into() } else { format!("beat {}", told.join(" ")) }
    }
}

fn text(content: &Content) -> String {
    let (Content::Json(bytes) | Content::Text(bytes) | Content::Binary(bytes)) = content;
    String::from_utf8_lossy(bytes).into_owned()
}

/// How what is heard begins that answers a node's own command.
const ANSWERS: [&str; 20] = [
    "published",
    "stored",
    "duplicate",
    "unavailable",
    "heads",
    "page",
    "saved",
    "fenced",
    "taken",
    "untaken",
    "done",
    "reaped",
    "roster",
    "inbox",
    "held",
    "lost",
    "marked",
    "receipts",
    "given",
    "ungiven",
];

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
            let word = words.next().unwrap_or_default();
            ANSWERS.contains(&word)
        };
        let is_answer = |part: &&str| self.answers && is_answer(part);
        let (answers, mut others): (Vec<_>, Vec<_>) = heard.split(", ").partition(is_answer);
        if self.rooms {
            others.sort_by_key(|part| part.trim_start_matches("subscribed ").split(' ').next());
        }
        format!("{node}: {}", [others, answers].concat().join(", "))
    }
}

fn is_completion(event: &BrokerEvent<u64>) -> bool {
    matches!(event, BrokerEvent::Published { .. })
}

fn is_answer(event: &BrokerEvent<u64>) -> bool {
    !matches!(
        event,
        BrokerEvent::Envelope(_)
            | BrokerEvent::Subscribed { .. }
            | BrokerEvent::FeedUp { .. }
            | BrokerEvent::FeedDown
            | BrokerEvent::Alive(_)
            | BrokerEvent::Beat { .. }
    )
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
