//! What lanes notice, on the core thread: put into turn, security events of one kind and culprit told together, counted,
//! and handed over as the application reads it. Never a token, never a payload.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use roomcast_router::alternation::Alternation;
use roomcast_router::coalescing::{Coalescer, NODE_APART_MS};
use roomcast_router::happenings::{Ended, Happening, HappeningKind, Offence};
use serde::Serialize;

use crate::webhooks::{Event, EventKind, Subject};

/// Whom it is told to: called on the core thread, it must not wait.
pub(crate) type Tell = Box<dyn FnMut(Event) + Send>;

/// What the core counts of it.
#[derive(Debug, Default)]
pub(crate) struct HappenedStats {
    /// What was handed over, by [`HappeningKind::index`].
    pub(crate) told: [AtomicU64; HappeningKind::NAMES.len()],
    /// Security events that were told by another one's count.
    pub(crate) merged: AtomicU64,
    /// Kinds and culprits that were forgotten early.
    pub(crate) early: AtomicU64,
}

/// The way of what lanes tell to whoever is told.
pub(crate) struct Happened {
    tell: Tell,
    stats: Arc<HappenedStats>,
    alternation: Alternation,
    security: Coalescer,
    /// What is to be told, in order.
    pending: Vec<Happening>,
}

impl Happened {
    pub(crate) fn new(tell: Tell, stats: Arc<HappenedStats>) -> Self {
        Self {
            tell,
            stats,
            alternation: Alternation::default(),
            security: Coalescer::new(NODE_APART_MS),
            pending: Vec::new(),
        }
    }

    /// A lane tells something.
    pub(crate) fn take(&mut self, mono_ms: u64, happening: Happening) {
        match happening.kind {
            HappeningKind::Connected { .. } | HappeningKind::Disconnected { .. } => {
                self.alternation.take(happening, &mut self.pending);
            }
            HappeningKind::DeliveryFailed { .. } | HappeningKind::Security { .. } => {
                self.security.add(mono_ms, happening, &mut self.pending);
            }
        }
        self.hand_over();
    }

    /// Tells what was held back long enough.
    pub(crate) fn tick(&mut self, mono_ms: u64) {
        self.security.tick(mono_ms, &mut self.pending);
        self.hand_over();
    }

    /// Tells all that is held back: the node ends.
    pub(crate) fn end(&mut self) {
        self.security.end(&mut self.pending);
        self.hand_over();
    }

    fn hand_over(&mut self) {
        for happening in std::mem::take(&mut self.pending) {
            self.happened(&happening);
        }
        self.stats.merged.store(self.security.merged(), Ordering::Relaxed);
        self.stats.early.store(self.security.early(), Ordering::Relaxed);
    }

    /// Counts it, and hands it over.
    fn happened(&mut self, happening: &Happening) {
        if let Some(count) = self.stats.told.get(happening.kind.index()) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        let kind = kind_of(&happening.kind);
        match serde_json::value::to_raw_value(&Data::of(happening)) {
            Ok(data) => (self.tell)(Event {
                id: uuid::Uuid::new_v4().to_string().into(),
                kind,
                subject: subject_of(happening),
                unix_ms: happening.unix_ms,
                data,
                kept: false,
                done: None,
            }),
            Err(error) => {
                tracing::error!(kind = kind.name(), %error, "what happened cannot be written");
            }
        }
    }
}

const fn kind_of(kind: &HappeningKind) -> EventKind {
    match kind {
        HappeningKind::Connected { .. } => EventKind::Connected,
        HappeningKind::Disconnected { .. } => EventKind::Disconnected,
        HappeningKind::DeliveryFailed { .. } => EventKind::DeliveryFailed,
        HappeningKind::Security { .. } => EventKind::SecurityEvent,
    }
}

fn subject_of(happening: &Happening) -> Subject {
    if happening.user.is_empty() {
        let address = happening.address.map_or("unknown".into(), |it| it.to_string());
        return Subject::Address(address.into());
    }
    Subject::User(happening.user.clone())
}

/// What is told of each kind.
#[derive(Serialize)]
struct Data<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    user: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_kind: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    session: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<String>,
    #[serde(flatten)]
    more: More<'a>,
}

/// What is told of one kind alone.
#[derive(Serialize)]
#[serde(untagged)]
enum More<'a> {
    Connected {
        resumed: bool,
        dialect: &'static str,
        generation: u64,
    },
    Disconnected {
        reason: &'static str,
        #[serde(skip_serializing_if = "Option::is_none")]
        code: Option<u16>,
        connected_ms: u64,
        resumable: bool,
        generation: u64,
    },
    DeliveryFailed {
        room: &'a str,
        id: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        epoch: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        offset: Option<u64>,
        why: &'static str,
    },
    Security {
        what: &'static str,
        #[serde(flatten)]
        detail: Detail<'a>,
        count: u64,
    },
}

/// What is told of one kind of security event alone.
#[derive(Serialize)]
#[serde(untagged)]
enum Detail<'a> {
    Why { why: &'static str },
    Right { right: &'static str, room: &'a str },
    Origin { origin: &'a str },
    Limit { limit: &'static str },
}

impl<'a> Data<'a> {
    fn of(happening: &'a Happening) -> Self {
        let more = match &happening.kind {
            HappeningKind::Connected { resumed, dialect, generation } => {
                More::Connected { resumed: *resumed, dialect, generation: *generation }
            }
            HappeningKind::Disconnected { generation, ended, connected_ms, resumable } => {
                let (reason, code) = match ended {
                    Ended::Closed(close) => (close.row().name, Some(close.row().code)),
                    Ended::Goodbye => ("client_closed", None),
                    Ended::Gone => ("client_gone", None),
                };
                More::Disconnected {
                    reason,
                    code,
                    connected_ms: *connected_ms,
                    resumable: *resumable,
                    generation: *generation,
                }
            }
            HappeningKind::DeliveryFailed { room, id, position, why } => More::DeliveryFailed {
                room: room.as_str(),
                id,
                epoch: position.map(|at| at.epoch.to_string()),
                offset: position.map(|at| at.offset),
                why: why.name(),
            },
            HappeningKind::Security { what, count } => {
                let detail = match what {
                    Offence::Authentication { why } | Offence::Malformed { what: why } => {
                        Detail::Why { why }
                    }
                    Offence::Permission { right, room } => {
                        Detail::Right { right: right.name(), room }
                    }
                    Offence::Origin { origin } => Detail::Origin { origin },
                    Offence::Limit { limit } => Detail::Limit { limit: limit.name() },
                };
                More::Security { what: what.name(), detail, count: *count }
            }
        };
        Self {
            user: &happening.user,
            user_kind: happening.party.map(|party| party.name()),
            session: happening.session.map(|session| session.to_string()),
            address: happening.address.map(|address| address.to_string()),
            more,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;
    use std::sync::{Mutex, PoisonError};

    use roomcast_protocol::codes::Close;
    use roomcast_protocol::guard::Kind;
    use roomcast_protocol::ids::{LaneId, SessionId};
    use roomcast_protocol::limits::LimitName;
    use roomcast_protocol::position::{Epoch, Position};
    use roomcast_protocol::room::RoomName;
    use roomcast_router::happenings::{Right, Unacked};

    use super::*;

    fn of_ann(kind: HappeningKind) -> Happening {
        Happening {
            lane: LaneId(0),
            unix_ms: 1_000,
            user: "ann".into(),
            party: Some(Kind::User),
            session: Some(SessionId(0xab)),
            address: Some(IpAddr::from([10, 0, 0, 7])),
            kind,
        }
    }

    fn of_somebody(what: Offence) -> Happening {
        let kind = HappeningKind::Security { what, count: 1 };
        let (user, address) = ("".into(), Some("2001:db8::".parse().unwrap()));
        Happening { user, party: None, session: None, address, ..of_ann(kind) }
    }

    /// What is told of these, at their times and in the end: kind, subject and data.
    fn told(all: Vec<(u64, Happening)>) -> Vec<(String, Arc<HappenedStats>)> {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let to = Arc::clone(&seen);
        let push = move |it: Event| {
            assert!(it.unix_ms == 1_000 && it.id.len() == 36);
            let text = format!("{} {:?} {}", it.kind.name(), it.subject, it.data);
            to.lock().unwrap_or_else(PoisonError::into_inner).push(text);
        };
        let stats = Arc::new(HappenedStats::default());
        let mut happened = Happened::new(Box::new(push), Arc::clone(&stats));
        for (at_ms, it) in all {
            happened.tick(at_ms);
            happened.take(at_ms, it);
        }
        happened.end();
        let seen = seen.lock().unwrap();
        seen.iter().map(|text| (text.clone(), Arc::clone(&stats))).collect()
    }

    #[track_caller]
    fn check(happening: Happening, expected: &str) {
        let seen = told(vec![(0, happening)]);
        assert_eq!(seen.iter().map(|(text, _)| &**text).collect::<Vec<_>>(), [expected]);
    }

    #[test]
    fn each_kind_is_told_with_what_belongs_to_it() {
        let who = r#""user":"ann","user_kind":"user","session":"000000000000000000000000000000ab","address":"10.0.0.7""#;
        let connected =
            HappeningKind::Connected { resumed: true, dialect: "native", generation: 3 };
        check(
            of_ann(connected),
            &format!(
                r#"connected User("ann") {{{who},"resumed":true,"dialect":"native","generation":3}}"#
            ),
        );
        let room = RoomName::parse("orders").unwrap();
        let position = Some(Position { epoch: Epoch(1), offset: 9 });
        let why = Unacked::Tries;
        check(
            of_ann(HappeningKind::DeliveryFailed { room, id: "o-1".into(), position, why }),
            &format!(
                r#"delivery_failed User("ann") {{{who},"room":"orders","id":"o-1","epoch":"{:032x}","offset":9,"why":"unacked"}}"#,
                1
            ),
        );
        let what = Offence::Permission { right: Right::Publish, room: "safe".into() };
        check(
            of_ann(HappeningKind::Security { what, count: 2 }),
            &format!(
                r#"security_event User("ann") {{{who},"what":"permission_refused","right":"publish","room":"safe","count":2}}"#
            ),
        );
    }

    #[test]
    fn an_end_is_told_with_its_reason_and_its_code_where_there_is_one() {
        let ends = [
            (Ended::Gone, r#""reason":"client_gone""#),
            (Ended::Goodbye, r#""reason":"client_closed""#),
            (Ended::Closed(Close::Moved), r#""reason":"moved","code":4202"#),
        ];
        for (ended, text) in ends {
            let up = HappeningKind::Connected { resumed: false, dialect: "native", generation: 1 };
            let (generation, connected_ms, resumable) = (1, 5, false);
            let down = HappeningKind::Disconnected { generation, ended, connected_ms, resumable };
            // Its shell no longer knows where it was; its begin did.
            let down = Happening { address: None, ..of_ann(down) };
            let seen = told(vec![(0, of_ann(up)), (0, down)]);
            let (end, stats) = &seen[1];
            assert!(end.contains(text) && end.contains(r#""connected_ms":5"#), "{end}");
            assert!(end.contains(r#""address":"10.0.0.7""#), "{end}");
            let counts = stats.told.each_ref().map(|it| it.load(Ordering::Relaxed));
            assert_eq!(counts, [1, 1, 0, 0]);
        }
    }

    #[test]
    fn security_events_without_a_user_are_about_an_address() {
        let all = [
            (
                Offence::Authentication { why: "bad" },
                r#""what":"authentication_failed","why":"bad""#,
            ),
            (Offence::Malformed { what: "torn" }, r#""what":"malformed_frame","why":"torn""#),
            (
                Offence::Origin { origin: "https://evil".into() },
                r#""what":"origin_refused","origin":"https://evil""#,
            ),
            (
                Offence::Limit { limit: LimitName::ConnectionsPerIp },
                r#""what":"limit_hit","limit":"connections_per_ip""#,
            ),
        ];
        for (what, text) in all {
            check(
                of_somebody(what),
                &format!(
                    r#"security_event Address("2001:db8::") {{"address":"2001:db8::",{text},"count":1}}"#
                ),
            );
        }
        let nowhere = Happening { address: None, ..of_somebody(Offence::Malformed { what: "x" }) };
        let seen = told(vec![(0, nowhere)]);
        assert!(seen[0].0.starts_with(r#"security_event Address("unknown") {"#), "{seen:?}");
    }

    #[test]
    fn security_events_of_one_kind_and_culprit_are_told_together_and_none_is_forgotten() {
        let offence = || of_somebody(Offence::Malformed { what: "torn" });
        let seen = told([0, 1, 9_999, 10_000, 10_001].map(|at_ms| (at_ms, offence())).into());
        let counts: Vec<_> =
            seen.iter().map(|(text, _)| text.rsplit(':').next().unwrap()).collect();
        assert_eq!(counts, ["1}", "2}", "2}"]);
        assert_eq!(seen[0].1.merged.load(Ordering::Relaxed), 2);
        assert_eq!(seen[0].1.told[3].load(Ordering::Relaxed), 3);
    }
}
