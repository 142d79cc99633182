//! Security events told together: of the same offence and the same user, or address, one in a while, with how many it
//! stands for. The first is told at once.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;

use roomcast_protocol::guard::Kind;

use crate::happenings::{Happening, HappeningKind, Offence};

/// How far apart a node tells events of one kind and culprit at least. Units: milliseconds.
pub const NODE_APART_MS: u64 = 10_000;

/// The same of a lane, so that a flood does not reach the core thread. Units: milliseconds.
pub const LANE_APART_MS: u64 = 1_000;

/// Kinds and culprits known at a time. Beyond it the one that was told longest ago is told at once, and forgotten.
pub const KEYS_MAX: usize = 10_000;

/// What is told together.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    what: Offence,
    who: Who,
}

/// Whose doing it is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Who {
    /// A user's.
    User(Box<str>),
    /// Somebody's without a token.
    At(Option<IpAddr>),
}

impl Key {
    fn of(what: &Offence, happening: &Happening) -> Self {
        let who = match happening.party {
            Some(Kind::User | Kind::Backend) => Who::User(happening.user.clone()),
            // Those have another name each time.
            Some(Kind::Anonymous) | None => Who::At(happening.address),
        };
        Self { what: what.clone(), who }
    }
}

/// Holds security events back that are like one told shortly before. Bounds: [`KEYS_MAX`].
#[derive(Debug)]
pub struct Coalescer {
    apart_ms: u64,
    /// What is held back of each; `None`: nothing since it was told.
    held: BTreeMap<Arc<Key>, Option<Box<Happening>>>,
    /// When each may be told again, in order. Units: monotonic milliseconds.
    due: VecDeque<(u64, Arc<Key>)>,
    merged: u64,
    early: u64,
}

impl Coalescer {
    /// One that tells events of one kind and culprit so far apart. Units: milliseconds.
    #[must_use]
    pub const fn new(apart_ms: u64) -> Self {
        Self { apart_ms, held: BTreeMap::new(), due: VecDeque::new(), merged: 0, early: 0 }
    }

    /// Events that were told by another one's count.
    #[must_use]
    pub const fn merged(&self) -> u64 {
        self.merged
    }

    /// Kinds and culprits that were forgotten early, because there were too many.
    #[must_use]
    pub const fn early(&self) -> u64 {
        self.early
    }

    /// Takes one in; `out` gets what is to be told now. What is no security event is told as it is.
    pub fn add(&mut self, mono_ms: u64, happening: Happening, out: &mut Vec<Happening>) {
        let HappeningKind::Security { what, count } = &happening.kind else {
            return out.push(happening);
        };
        let (key, more) = (Key::of(what, &happening), *count);
        if let Some(held) = self.held.get_mut(&key) {
            let before = held.as_ref().map_or(0, |it| count_of(it));
            self.merged += u64::from(before > 0);
            let held = held.insert(Box::new(happening));
            if let HappeningKind::Security { count, .. } = &mut held.kind {
                *count = before.saturating_add(more);
            }
            return;
        }
        out.push(happening);
        self.remember(mono_ms, Arc::new(key), out);
    }

    fn remember(&mut self, mono_ms: u64, key: Arc<Key>, out: &mut Vec<Happening>) {
        self.held.insert(Arc::clone(&key), None);
        self.due.push_back((mono_ms.saturating_add(self.apart_ms), key));
        if self.due.len() > KEYS_MAX
            && let Some((_, oldest)) = self.due.pop_front()
        {
            self.early += 1;
            out.extend(self.held.remove(&oldest).flatten().map(|held| *held));
        }
    }

    /// Tells what was held back long enough.
    pub fn tick(&mut self, mono_ms: u64, out: &mut Vec<Happening>) {
        while let Some((_, key)) = self.due.pop_front_if(|(at_ms, _)| *at_ms <= mono_ms) {
            if let Some(held) = self.held.remove(&key).flatten() {
                out.push(*held);
                self.remember(mono_ms, key, out);
            }
        }
    }

    /// Tells all that is held back: the node ends.
    pub fn end(&mut self, out: &mut Vec<Happening>) {
        for (_, key) in std::mem::take(&mut self.due) {
            out.extend(self.held.remove(&key).flatten().map(|held| *held));
        }
    }
}

fn count_of(happening: &Happening) -> u64 {
    match happening.kind {
        HappeningKind::Security { count, .. } => count,
        HappeningKind::Connected { .. }
        | HappeningKind::Disconnected { .. }
        | HappeningKind::DeliveryFailed { .. } => 0,
    }
}

#[cfg(test)]
mod tests {
    use roomcast_protocol::ids::LaneId;
    use roomcast_protocol::limits::LimitName;

    use super::*;

    fn by(user: &str, what: Offence) -> Happening {
        let number = user.strip_prefix("at-").map(|it| it.parse::<u32>().unwrap());
        let named = number.is_none() && user != "nobody";
        Happening {
            lane: LaneId(0),
            unix_ms: 0,
            user: if named { user.into() } else { "".into() },
            party: named.then_some(Kind::User),
            session: None,
            address: number.map(|it| IpAddr::from(it.to_be_bytes())),
            kind: HappeningKind::Security { what, count: 1 },
        }
    }

    fn limit(limit: LimitName) -> Offence {
        Offence::Limit { limit }
    }

    const DEPTH: Offence = Offence::Limit { limit: LimitName::Depth };

    /// What was told: culprit and count.
    fn told(out: &mut Vec<Happening>) -> Vec<String> {
        let one = |it: Happening| {
            let address = it.address.map_or(String::new(), |it| it.to_string());
            format!("{}{address} {}", it.user, count_of(&it))
        };
        out.drain(..).map(one).collect()
    }

    #[test]
    fn the_first_is_told_at_once_and_the_others_together_ten_seconds_later() {
        let mut all = Coalescer::new(NODE_APART_MS);
        let mut out = Vec::new();
        for at_ms in [0, 1, 5_000, 9_999] {
            all.add(at_ms, by("ann", DEPTH), &mut out);
        }
        assert_eq!(told(&mut out), ["ann 1"]);
        all.tick(9_999, &mut out);
        assert_eq!(told(&mut out), [""; 0]);
        all.tick(10_000, &mut out);
        assert_eq!(told(&mut out), ["ann 3"]);
        // And so on, as long as it goes on.
        all.add(15_000, by("ann", DEPTH), &mut out);
        all.tick(19_999, &mut out);
        assert_eq!(told(&mut out), [""; 0]);
        all.tick(20_000, &mut out);
        assert_eq!(told(&mut out), ["ann 1"]);
        all.tick(30_000, &mut out);
        all.add(30_000, by("ann", DEPTH), &mut out);
        assert_eq!(told(&mut out), ["ann 1"], "it was quiet since");
        assert_eq!((all.merged(), all.early()), (2, 0));
    }

    #[test]
    fn who_does_what_is_told_apart() {
        let mut all = Coalescer::new(NODE_APART_MS);
        let mut out = Vec::new();
        let join = |room: &str| Offence::Permission {
            right: crate::happenings::Right::Join,
            room: room.into(),
        };
        for what in [DEPTH, limit(LimitName::MessagesPerUser), join("a"), join("b")] {
            all.add(0, by("ann", what.clone()), &mut out);
            all.add(0, by("ann", what), &mut out);
        }
        for who in ["bob", "at-1", "at-2", "at-1", "nobody", "nobody"] {
            all.add(0, by(who, DEPTH), &mut out);
        }
        let first = ["ann 1", "ann 1", "ann 1", "ann 1", "bob 1", "0.0.0.1 1", "0.0.0.2 1", " 1"];
        assert_eq!(told(&mut out), first);
        all.end(&mut out);
        assert_eq!(told(&mut out), ["ann 1", "ann 1", "ann 1", "ann 1", "0.0.0.1 1", " 1"]);
        all.end(&mut out);
        assert!(out.is_empty() && all.held.is_empty() && all.due.is_empty());
    }

    #[test]
    fn those_without_a_token_are_known_by_their_address() {
        let mut all = Coalescer::new(NODE_APART_MS);
        let mut out = Vec::new();
        for name in ["one", "two"] {
            let anonymous = Some(Kind::Anonymous);
            let it = Happening { user: name.into(), party: anonymous, ..by("at-7", DEPTH) };
            all.add(0, it, &mut out);
        }
        assert_eq!(told(&mut out), ["one0.0.0.7 1"]);
    }

    #[test]
    fn counts_that_lanes_made_are_added() {
        let mut all = Coalescer::new(NODE_APART_MS);
        let mut out = Vec::new();
        for count in [5, 7, 8] {
            let kind = HappeningKind::Security { what: DEPTH, count };
            all.add(0, Happening { kind, ..by("ann", DEPTH) }, &mut out);
        }
        all.tick(NODE_APART_MS, &mut out);
        assert_eq!(told(&mut out), ["ann 5", "ann 15"]);
    }

    #[test]
    fn as_many_as_fit_are_held_and_for_one_more_the_oldest_is_told_at_once() {
        let mut all = Coalescer::new(NODE_APART_MS);
        let mut out = Vec::new();
        for number in 0..KEYS_MAX {
            all.add(0, by(&format!("at-{number}"), DEPTH), &mut out);
        }
        for number in [0, 0, 1, 2] {
            all.add(1, by(&format!("at-{number}"), DEPTH), &mut out);
        }
        assert_eq!((out.len(), all.due.len(), all.early()), (KEYS_MAX, KEYS_MAX, 0));
        out.clear();
        all.add(2, by("one more", DEPTH), &mut out);
        assert_eq!(told(&mut out), ["one more 1", "0.0.0.0 2"]);
        assert_eq!((all.held.len(), all.due.len(), all.early()), (KEYS_MAX, KEYS_MAX, 1));
        // It is forgotten: its next is a first one.
        all.add(3, by("at-0", DEPTH), &mut out);
        assert_eq!(told(&mut out), ["0.0.0.0 1", "0.0.0.1 1"]);
        all.tick(NODE_APART_MS, &mut out);
        assert_eq!(told(&mut out), ["0.0.0.2 1"]);
    }

    #[test]
    fn what_is_no_security_event_is_told_as_it_is() {
        let mut all = Coalescer::new(NODE_APART_MS);
        let mut out = Vec::new();
        let connected =
            HappeningKind::Connected { resumed: false, dialect: "native", generation: 1 };
        let it = Happening { kind: connected, ..by("ann", DEPTH) };
        for _ in 0..2 {
            all.add(0, it.clone(), &mut out);
        }
        assert_eq!(out, [it.clone(), it]);
        assert!(all.due.is_empty());
    }
}
