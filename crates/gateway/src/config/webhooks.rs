//! `[[webhooks]]`: which calls tell the application what happens, and of which kinds.

use roomcast_router::happenings::Wanted;

use super::Limits;
use super::raw::RawWebhook;
use super::read::Reader;
use super::upstream::{CallConfig, TABLES_MAX, place};

/// How long an event is tried where nobody says how long. Units: milliseconds.
const RETRY_FOR_MS: u64 = 3_600_000;

/// What the application can be told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EventKind {
    /// A session is ready.
    Connected,
    /// The connection of a session has ended.
    Disconnected,
    /// A room's first user came, on whichever node.
    Occupied,
    /// A room's last user has gone.
    Vacated,
    /// A publication that has to be acked was not.
    DeliveryFailed,
    /// Somebody was refused, or broke a rule.
    SecurityEvent,
}

impl EventKind {
    /// All of them, in the order of the documents.
    pub const ALL: [Self; 6] = [
        Self::Connected,
        Self::Disconnected,
        Self::Occupied,
        Self::Vacated,
        Self::DeliveryFailed,
        Self::SecurityEvent,
    ];

    /// Its name in the configuration, in bodies and in metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Connected => "connected",
            Self::Disconnected => "disconnected",
            Self::Occupied => "occupied",
            Self::Vacated => "vacated",
            Self::DeliveryFailed => "delivery_failed",
            Self::SecurityEvent => "security_event",
        }
    }
}

/// `[[webhooks]]`, and what of it may wait.
#[derive(Clone, Debug, Default)]
pub struct WebhooksConfig {
    /// Each has a call of its own, whose name it has too.
    pub hooks: Vec<WebhookConfig>,
    /// Events that may wait on this node, of all webhooks.
    pub events_max: usize,
    /// The same. Units: bytes.
    pub bytes_max: usize,
}

impl WebhooksConfig {
    /// Whether a webhook wants events of this kind.
    #[must_use]
    pub fn wants(&self, kind: EventKind) -> bool {
        self.hooks.iter().any(|hook| hook.events.contains(&kind))
    }

    /// Whether the hub is to tell which rooms became occupied and vacated.
    #[must_use]
    pub fn of_rooms(&self) -> bool {
        self.wants(EventKind::Occupied) || self.wants(EventKind::Vacated)
    }

    /// What lanes are to tell of.
    #[must_use]
    pub fn of_lanes(&self) -> Wanted {
        Wanted {
            connections: self.wants(EventKind::Connected) || self.wants(EventKind::Disconnected),
            failures: self.wants(EventKind::DeliveryFailed),
            security: self.wants(EventKind::SecurityEvent),
        }
    }
}

/// One webhook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebhookConfig {
    /// The name of its call.
    pub name: Box<str>,
    /// Its call, by its place.
    pub call: usize,
    /// Requests that its call lets be under way.
    pub concurrency: usize,
    /// What it is told of. Bounds: at least one kind.
    pub events: Vec<EventKind>,
    /// How long an event is tried. Units: milliseconds.
    pub retry_for_ms: u64,
}

/// Reads the tables; without calls, these have problems of their own.
pub(super) fn webhooks(
    raw: &[RawWebhook],
    calls: Option<&[CallConfig]>,
    limits: &Limits,
    r: &mut Reader<'_>,
) -> WebhooksConfig {
    if raw.len() > TABLES_MAX {
        r.problem("webhooks", format!("are {}, allowed are {TABLES_MAX}", raw.len()));
    }
    let mut hooks: Vec<WebhookConfig> = Vec::new();
    for (at, it) in raw.iter().enumerate() {
        let key = format!("webhooks[{at}]");
        let Some(hook) = webhook(&key, it, calls, r) else { continue };
        if hooks.iter().any(|other| other.name == hook.name) {
            let mend = "name all of its events in one table, or make a second call";
            r.problem(&format!("{key}.call"), format!("is used twice; {mend}"));
        }
        hooks.push(hook);
    }
    let (events_max, bytes_max) = (limits.webhook_events, limits.webhook_bytes);
    WebhooksConfig { hooks, events_max, bytes_max }
}

fn webhook(
    key: &str,
    raw: &RawWebhook,
    calls: Option<&[CallConfig]>,
    r: &mut Reader<'_>,
) -> Option<WebhookConfig> {
    let of = |name: &str| format!("{key}.{name}");
    let name = r.required(&of("call"), raw.call.as_ref());
    let names: Option<Vec<&str>> = calls.map(|it| it.iter().map(|it| &*it.name).collect());
    let call = name.as_ref().and_then(|it| place(&of("call"), it, names.as_deref(), r));
    let events = match &raw.events {
        None => EventKind::ALL.to_vec(),
        Some(value) => {
            let texts = r.texts(&of("events"), value);
            if texts.is_empty() {
                r.problem(&of("events"), "is empty; leave it out to be told of all");
            }
            texts.iter().filter_map(|text| kind(&of("events"), text, r)).collect()
        }
    };
    let retry_for = raw.retry_for.as_ref();
    let retry_for_ms = retry_for.map(|it| r.time(&of("retry_for"), it, 1_000..=86_400_000));
    let concurrency = calls.zip(call).and_then(|(calls, at)| calls.get(at))?.concurrency;
    Some(WebhookConfig {
        name: name?.into(),
        call: call?,
        concurrency,
        events,
        retry_for_ms: retry_for_ms.unwrap_or(RETRY_FOR_MS),
    })
}

fn kind(key: &str, text: &str, r: &mut Reader<'_>) -> Option<EventKind> {
    let found = EventKind::ALL.into_iter().find(|kind| kind.name() == text);
    if found.is_none() {
        let names: Vec<_> = EventKind::ALL.iter().map(|kind| kind.name()).collect();
        r.problem(key, format!("has {text:?}, which is none; known are: {}", names.join(", ")));
    }
    found
}
