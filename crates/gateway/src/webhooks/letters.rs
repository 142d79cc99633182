//! Dead letters: what could not be delivered, as it is kept in the room `$dead`, and what of it waits for the broker.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use roomcast_protocol::content::Content;
use roomcast_protocol::ids::NodeId;
use roomcast_protocol::publication::Publication;
use roomcast_protocol::room::RoomName;
use roomcast_protocol::time::{Now, iso8601};
use roomcast_router::hub::DEAD;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::event::Told;
use super::lines::{Gone, Why};

/// The types of what the room keeps: a dead letter, and that one was delivered after all.
const DEAD_LETTER: &str = "dead_letter";
const DELIVERED: &str = "delivered";

/// What one entry weighs beside its event. Units: bytes.
const WEIGHT_BYTES: usize = 512;

/// What is published at once: so many, or so many bytes, but always one.
const BATCH_MAX: usize = 256;
const BATCH_BYTES_MAX: usize = 256 << 10;

/// What is to be kept.
#[derive(Clone)]
pub(super) enum Letter {
    /// An event that could not be delivered.
    Dead {
        /// Which webhook.
        hook: Box<str>,
        told: Told,
        why: Why,
        status: Option<u16>,
        /// Requests that left, those before a replay included.
        tries: u32,
        /// When it became one. Units: milliseconds since the Unix epoch.
        last_unix_ms: u64,
    },
    /// A dead letter was delivered: it is listed no more.
    Delivered { hook: Box<str>, told: Told },
}

/// A dead letter as it is written.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct Written<'a> {
    pub(crate) webhook: Box<str>,
    /// Why, by name.
    pub(crate) why: Box<str>,
    /// What was answered last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) status: Option<u16>,
    /// Requests that left.
    pub(crate) tries: u32,
    /// When the webhook was first to be told. Units: milliseconds since the Unix epoch.
    pub(crate) first_unix_ms: u64,
    /// When it became a dead letter. Units: milliseconds since the Unix epoch.
    pub(crate) last_unix_ms: u64,
    /// What was sent.
    #[serde(borrow)]
    pub(crate) event: &'a RawValue,
}

impl<'a> Written<'a> {
    /// The dead letter that a publication of the room holds, if it is one.
    pub(crate) fn read(publication: &'a Publication) -> Option<Self> {
        match &publication.content {
            Content::Json(json) if &*publication.kind == DEAD_LETTER => {
                serde_json::from_slice(json).ok()
            }
            Content::Json(_) | Content::Text(_) | Content::Binary(_) => None,
        }
    }
}

impl Letter {
    /// What left its line for this reason.
    pub(super) fn dead(hook: &str, gone: Gone, why: Why, now: Now) -> Self {
        let tries = gone.told.before.unwrap_or(0).saturating_add(gone.tries);
        let (status, last_unix_ms) = (gone.status, now.unix_ms);
        Self::Dead { hook: hook.into(), told: gone.told, why, status, tries, last_unix_ms }
    }

    const fn told(&self) -> &Told {
        match self {
            Self::Dead { told, .. } | Self::Delivered { told, .. } => told,
        }
    }

    /// What it weighs. Units: bytes.
    fn weight(&self) -> usize {
        WEIGHT_BYTES + self.told().weight()
    }

    /// It is kept, or lost: whoever waits for the event hears that it is over with.
    pub(super) fn settle(&self) {
        match self {
            Self::Dead { told, .. } => told.settle(),
            // Settled when it became a dead letter.
            Self::Delivered { .. } => {}
        }
    }

    /// As the room keeps it: of one event and webhook the newest entry alone.
    pub(super) fn publication(&self, node: NodeId, now: Now) -> Option<Publication> {
        let room = RoomName::system(DEAD).ok()?;
        let (hook, kind, content) = match self {
            Self::Dead { hook, told, why, status, tries, last_unix_ms } => {
                let written = Written {
                    webhook: hook.clone(),
                    why: why.name().into(),
                    status: *status,
                    tries: *tries,
                    first_unix_ms: told.first_unix_ms,
                    last_unix_ms: *last_unix_ms,
                    event: serde_json::from_slice(&told.body).ok()?,
                };
                (hook, DEAD_LETTER, Bytes::from(serde_json::to_vec(&written).ok()?))
            }
            Self::Delivered { hook, .. } => (hook, DELIVERED, Bytes::from_static(b"null")),
        };
        Some(Publication {
            id: uuid::Uuid::new_v4().to_string().into(),
            kind: kind.into(),
            timestamp: iso8601(now.unix_ms).into(),
            sender: format!("node-{node}").into(),
            correlation_id: Some(key(hook, &self.told().id)),
            ..Publication::bare(room, Content::Json(content))
        })
    }
}

/// Under which the room keeps one entry alone. Ids may be long, keys may not.
fn key(hook: &str, id: &str) -> Box<str> {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, id.as_bytes());
    let digits: String = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{hook} {digits}").into()
}

/// What waits for the broker, oldest first.
pub(super) struct Letters {
    waiting: BTreeMap<u64, (Letter, Arc<Publication>)>,
    letters_max: usize,
    bytes_max: usize,
    bytes: usize,
    serial: u64,
    /// Those that found no place.
    pub(super) lost: u64,
}

impl Letters {
    /// Nothing waits, and so much may.
    pub(super) const fn new(letters_max: usize, bytes_max: usize) -> Self {
        Self { waiting: BTreeMap::new(), letters_max, bytes_max, bytes: 0, serial: 0, lost: 0 }
    }

    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// What they weigh. Units: bytes.
    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Adds one; where there is no place, the oldest goes for it, and is lost.
    pub(super) fn push(&mut self, letter: Letter, node: NodeId, now: Now) {
        let Some(publication) = letter.publication(node, now) else {
            letter.settle();
            self.lost += 1;
            return;
        };
        self.bytes += letter.weight();
        self.serial += 1;
        self.waiting.insert(self.serial, (letter, Arc::new(publication)));
        while self.waiting.len() > self.letters_max || self.bytes > self.bytes_max {
            let Some((_, (letter, _))) = self.waiting.pop_first() else { return };
            self.bytes -= letter.weight();
            letter.settle();
            self.lost += 1;
        }
    }

    /// The oldest, to be published; they stay until [`Letters::kept`] or [`Letters::lose`].
    pub(super) fn batch(&self) -> Vec<(u64, Arc<Publication>)> {
        let mut bytes = 0;
        let fits = |(_, (_, publication)): &(&u64, &(Letter, Arc<Publication>))| {
            let before = bytes;
            bytes += publication.weight();
            before == 0 || bytes <= BATCH_BYTES_MAX
        };
        let oldest = self.waiting.iter().take(BATCH_MAX).take_while(fits);
        oldest.map(|(serial, (_, publication))| (*serial, Arc::clone(publication))).collect()
    }

    /// The broker has one.
    pub(super) fn kept(&mut self, serial: u64) -> Option<Letter> {
        let (letter, _) = self.waiting.remove(&serial)?;
        self.bytes -= letter.weight();
        Some(letter)
    }

    /// The broker will never take one.
    pub(super) fn lose(&mut self, serial: u64) {
        if let Some(letter) = self.kept(serial) {
            letter.settle();
            self.lost += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::super::event::Settled;
    use super::*;
    use crate::config::EventKind;

    const NOW: Now = Now { mono_ms: 1, unix_ms: 1_000 };

    fn told(id: &str) -> Told {
        Told {
            id: id.into(),
            kind: EventKind::Connected,
            subject: "user:7".into(),
            body: Bytes::from(format!(r#"{{"id":"{id}"}}"#)),
            first_unix_ms: 500,
            before: Some(2),
            kept: false,
            done: None,
        }
    }

    fn dead(id: &str) -> Letter {
        let gone = Gone { hook: 0, told: told(id), tries: 3, status: Some(503) };
        Letter::dead("told", gone, Why::Expired, NOW)
    }

    #[test]
    fn a_dead_letter_is_read_as_it_is_written() {
        let publication = dead("a").publication(NodeId(7), NOW).unwrap();
        let read = Written::read(&publication).unwrap();
        assert_eq!((&*read.webhook, &*read.why, read.status), ("told", "expired", Some(503)));
        assert_eq!((read.tries, read.first_unix_ms, read.last_unix_ms), (5, 500, 1_000));
        assert_eq!(read.event.get(), r#"{"id":"a"}"#);
        let delivered = Letter::Delivered { hook: "told".into(), told: told("a") };
        let delivered = delivered.publication(NodeId(8), NOW).unwrap();
        assert!(Written::read(&delivered).is_none());
        assert_eq!(delivered.correlation_id, publication.correlation_id);
        let other = dead("b").publication(NodeId(7), NOW).unwrap();
        assert_ne!(other.correlation_id, publication.correlation_id);
    }

    #[test]
    fn a_key_is_short_whatever_the_id() {
        assert_eq!(key(&"h".repeat(64), &"i".repeat(10_000)).len(), 64 + 1 + 64);
    }

    #[test]
    fn so_many_wait_for_the_broker_and_one_more_costs_the_oldest() {
        let mut letters = Letters::new(2, usize::MAX);
        for (id, lost) in [("a", 0), ("b", 0), ("c", 1)] {
            letters.push(dead(id), NodeId(7), NOW);
            assert_eq!(letters.lost, lost, "{id}");
        }
        let waiting: Vec<_> = letters.batch().into_iter().map(|(serial, _)| serial).collect();
        assert_eq!((letters.len(), &*waiting), (2, &[2, 3][..]));
        assert!(letters.kept(2).is_some() && letters.kept(2).is_none());
        letters.lose(3);
        assert_eq!((letters.len(), letters.bytes(), letters.lost), (0, 0, 2));
    }

    #[test]
    fn whoever_waits_for_an_event_hears_that_its_letter_is_lost() {
        let count = Arc::new(AtomicUsize::new(0));
        let mut letters = Letters::new(1, usize::MAX);
        for _ in 0..2 {
            let counted = Arc::clone(&count);
            let note = Box::new(move || {
                counted.fetch_add(1, Ordering::Relaxed);
            });
            let told = Told { done: Some(Settled::of(1, note)), ..told("a") };
            let gone = Gone { hook: 0, told, tries: 0, status: None };
            letters.push(Letter::dead("told", gone, Why::Full, NOW), NodeId(7), NOW);
        }
        assert_eq!(count.load(Ordering::Relaxed), 1, "there was no place for both");
        letters.lose(2);
        assert_eq!((count.load(Ordering::Relaxed), letters.lost), (2, 2));
    }

    #[test]
    fn so_many_bytes_wait_for_the_broker_and_one_more_costs_the_oldest() {
        let weight = dead("a").weight();
        for (bytes_max, lost) in [(2 * weight, 0), (2 * weight - 1, 1)] {
            let mut letters = Letters::new(usize::MAX, bytes_max);
            letters.push(dead("a"), NodeId(7), NOW);
            letters.push(dead("b"), NodeId(7), NOW);
            assert_eq!(letters.lost, lost);
            assert_eq!(letters.bytes(), letters.len() * weight);
        }
    }

    #[test]
    fn a_batch_is_bounded_and_never_empty_while_something_waits() {
        let mut letters = Letters::new(usize::MAX, usize::MAX);
        for _ in 0..=BATCH_MAX {
            letters.push(dead("a"), NodeId(7), NOW);
        }
        assert_eq!(letters.batch().len(), BATCH_MAX);
        let mut letters = Letters::new(usize::MAX, usize::MAX);
        let body = format!("\"{}\"", "x".repeat(BATCH_BYTES_MAX));
        for _ in 0..2 {
            let told = Told { body: body.clone().into(), ..told("a") };
            let gone = Gone { hook: 0, told, tries: 0, status: None };
            letters.push(Letter::dead("told", gone, Why::Full, NOW), NodeId(7), NOW);
            assert_eq!(letters.batch().len(), 1);
        }
    }
}
