//! `history`, `durability` and `strict` of a room's rule: what the room keeps, and when that counts.

use roomcast_protocol::position::Keep;

use super::raw::{RawHistory, RawRule};
use super::read::Reader;

/// Publications that a room may keep.
const SIZES: std::ops::RangeInclusive<u64> = 1..=100_000;

/// What a room may keep. Units: bytes.
const BYTES: std::ops::RangeInclusive<u64> = 1 << 10..=1 << 30;

/// How long publications may be kept: up to 30 days. Units: milliseconds.
const TTLS: std::ops::RangeInclusive<u64> = 1_000..=30 * 86_400_000;

/// What `history = {}` keeps: 100 publications of 256 KiB in all for 10 minutes.
pub(crate) const HISTORY: Keep =
    Keep { size: 100, bytes_max: 256 << 10, ttl_ms: 600_000, replicated: false, inbox: None };

/// What a rule says of its rooms' histories; `key` is the rule's.
pub(super) fn keep(key: &str, raw: &RawRule, r: &mut Reader<'_>) -> Option<Keep> {
    let replicated = replicated(&format!("{key}.durability"), raw, r);
    let raw = raw.history.as_ref()?;
    Some(history(&format!("{key}.history"), raw, replicated, r))
}

fn history(key: &str, raw: &RawHistory, replicated: bool, r: &mut Reader<'_>) -> Keep {
    let of = |name: &str| format!("{key}.{name}");
    let size = raw.size.as_ref().map(|value| r.count(&of("size"), value, SIZES));
    let bytes = raw.bytes_max.as_ref().map(|value| r.size(&of("bytes_max"), value, BYTES));
    let ttl_ms = raw.ttl.as_ref().map(|value| r.time(&of("ttl"), value, TTLS));
    Keep {
        size: size.map_or(HISTORY.size, |size| u32::try_from(size).unwrap_or(u32::MAX)),
        bytes_max: bytes
            .map_or(HISTORY.bytes_max, |bytes| u64::try_from(bytes).unwrap_or(u64::MAX)),
        ttl_ms: ttl_ms.unwrap_or(HISTORY.ttl_ms),
        replicated,
        ..HISTORY
    }
}

/// Whether publications count once replicas have them.
fn replicated(key: &str, raw: &RawRule, r: &mut Reader<'_>) -> bool {
    let Some(value) = &raw.durability else { return false };
    let words = [("stored", false), ("replicated", true)];
    let replicated = r.choice(key, value, &words);
    if replicated.is_some() && raw.history.is_none() {
        let mend = "give the room a history, for example `history = {}`, or leave this out";
        r.problem(key, format!("is given, but the room keeps nothing; {mend}"));
    }
    replicated.unwrap_or_default()
}
