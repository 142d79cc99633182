//! What a room's rule says of its members beside their rights: presence, and what each of them must get.

use roomcast_protocol::guard::Policy;
use roomcast_protocol::inbox::CursorOf;
use roomcast_protocol::position::Keep;
use roomcast_protocol::presence::PresenceMode;

use super::raw::{RawRule, Scalar};
use super::read::Reader;
use crate::guard::{DataPath, Pattern};

/// Users of a roster.
const MEMBERS: std::ops::RangeInclusive<u64> = 1..=10_000;

/// What the names of all inboxes begin with.
const INBOXES: &str = "user-";

/// A rule's paths into payloads.
pub(super) struct Paths {
    pub(super) conflate: Option<DataPath>,
    pub(super) collapse: Option<DataPath>,
}

/// What a rule says; `key` is the rule's, and `policy` what is known of it so far, its history above all.
pub(super) fn members(
    key: &str,
    raw: &RawRule,
    pattern: Option<&Pattern>,
    policy: Policy,
    r: &mut Reader<'_>,
) -> (Policy, Paths) {
    let of = |name: &str| format!("{key}.{name}");
    let (presence, presence_max) = presence(key, raw, r);
    let mut path = |name: &str, value: Option<&Scalar>| {
        let text = r.text(&of(name), value?)?;
        DataPath::parse(&text)
            .map_err(|bad| r.problem(&of(name), format!("is {text:?}, which {bad}")))
            .ok()
    };
    let conflate = path("conflate", raw.conflate.as_ref());
    let collapse = path("collapse", raw.collapse.as_ref());
    let requires_ack =
        raw.requires_ack.as_ref().is_some_and(|value| r.flag(&of("requires_ack"), value));
    let receipts = raw.receipts.as_ref().is_some_and(|value| r.flag(&of("receipts"), value));
    let kept = receipts.then(|| raw.receipts.clone()).flatten();
    for (name, value) in [("collapse", &raw.collapse), ("cursor", &raw.cursor), ("receipts", &kept)]
    {
        if value.is_some() && raw.history.is_none() {
            let mend = "give the room a history, for example `history = {}`, or leave this out";
            r.problem(&of(name), format!("is given, but the room keeps nothing; {mend}"));
        }
    }
    let cursor = cursor(&of("cursor"), raw, pattern, r);
    let policy = Policy {
        history: policy.history.map(|keep| Keep { inbox: cursor, ..keep }),
        presence,
        presence_max,
        conflates: conflate.is_some(),
        collapses: collapse.is_some(),
        requires_ack,
        cursor: cursor.filter(|_| policy.history.is_some()),
        receipts: receipts && policy.history.is_some(),
        ..policy
    };
    (policy, Paths { conflate, collapse })
}

fn presence(key: &str, raw: &RawRule, r: &mut Reader<'_>) -> (PresenceMode, u32) {
    let of = |name: &str| format!("{key}.{name}");
    let words = PresenceMode::ALL.map(|mode| (mode.name(), mode));
    let mode = raw.presence.as_ref().and_then(|value| r.choice(&of("presence"), value, &words));
    let mode = mode.unwrap_or_default();
    let Some(value) = &raw.members_max else { return (mode, Policy::PRESENCE_MAX) };
    let max = r.count(&of("members_max"), value, MEMBERS);
    if mode != PresenceMode::Members {
        let mend = "set presence to \"members\", or leave this out";
        r.problem(&of("members_max"), format!("is given, but the room tells no members; {mend}"));
    }
    (mode, u32::try_from(max).unwrap_or(Policy::PRESENCE_MAX))
}

/// Only a room that is one user's can be an inbox.
fn cursor(
    key: &str,
    raw: &RawRule,
    pattern: Option<&Pattern>,
    r: &mut Reader<'_>,
) -> Option<CursorOf> {
    let value = raw.cursor.as_ref()?;
    let words = CursorOf::ALL.map(|whose| (whose.name(), whose));
    let cursor = r.choice(key, value, &words);
    if pattern.is_some_and(|pattern| !pattern.as_str().starts_with(INBOXES)) {
        let mend = "begin its match with `user-`, or leave this out";
        r.problem(key, format!("is given, but the rule's rooms are no inboxes; {mend}"));
    }
    cursor
}
