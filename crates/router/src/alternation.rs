//! Puts what a node's lanes tell of connections into turn: of each session, connected and disconnected alternate, also
//! where another lane tells of its next connection before the end of the last one.

use std::collections::BTreeMap;
use std::net::IpAddr;

use roomcast_protocol::codes::Close;
use roomcast_protocol::guard::Kind;
use roomcast_protocol::ids::{LaneId, SessionId};

use crate::happenings::{Ended, Happening, HappeningKind};

/// A connection that was told, and whose end was not.
#[derive(Debug)]
struct Open {
    lane: LaneId,
    generation: u64,
    unix_ms: u64,
    user: Box<str>,
    party: Option<Kind>,
    address: Option<IpAddr>,
}

/// Sessions of a node that were told as connected. Bounds: those of its lanes, which tell the end of each.
#[derive(Debug, Default)]
pub struct Alternation {
    open: BTreeMap<SessionId, Open>,
}

impl Alternation {
    /// Sessions that were told as connected and not as disconnected.
    #[must_use]
    pub fn len(&self) -> usize {
        self.open.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// Takes what a lane tells; `out` gets what is told of it, in turn.
    pub fn take(&mut self, mut happening: Happening, out: &mut Vec<Happening>) {
        let Some(session) = happening.session else { return out.push(happening) };
        match &happening.kind {
            HappeningKind::Connected { generation, .. } => {
                let open = Open {
                    lane: happening.lane,
                    generation: *generation,
                    unix_ms: happening.unix_ms,
                    user: happening.user.clone(),
                    party: happening.party,
                    address: happening.address,
                };
                match self.open.remove(&session) {
                    Some(newer) if newer.generation >= open.generation => {
                        // The one that came has been replaced already, and its end is on its way.
                        self.open.insert(session, newer);
                        return;
                    }
                    Some(former) => {
                        let end = former.replaced(session, happening.unix_ms);
                        out.push(end);
                    }
                    None => {}
                }
                self.open.insert(session, open);
                out.push(happening);
            }
            HappeningKind::Disconnected { generation, .. } => {
                let is_it = |open: &Open| open.generation == *generation;
                if !self.open.get(&session).is_some_and(is_it) {
                    return; // its end was told when the next one began
                }
                let open = self.open.remove(&session);
                happening.address = happening.address.or(open.and_then(|open| open.address));
                out.push(happening);
            }
            HappeningKind::DeliveryFailed { .. } | HappeningKind::Security { .. } => {
                out.push(happening);
            }
        }
    }
}

impl Open {
    /// Its end, where the session has gone on by then.
    fn replaced(self, session: SessionId, unix_ms: u64) -> Happening {
        Happening {
            lane: self.lane,
            unix_ms,
            user: self.user,
            party: self.party,
            session: Some(session),
            address: self.address,
            kind: HappeningKind::Disconnected {
                generation: self.generation,
                ended: Ended::Closed(Close::Replaced),
                connected_ms: unix_ms.saturating_sub(self.unix_ms),
                resumable: false,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(session: u128, unix_ms: u64, kind: HappeningKind) -> Happening {
        let connected = matches!(kind, HappeningKind::Connected { .. });
        Happening {
            lane: LaneId(0),
            unix_ms,
            user: "ann".into(),
            party: Some(Kind::User),
            session: Some(SessionId(session)),
            address: connected.then(|| IpAddr::from([10, 0, 0, 1])),
            kind,
        }
    }

    fn up(session: u128, generation: u64, unix_ms: u64) -> Happening {
        let resumed = generation > 1;
        let kind = HappeningKind::Connected { resumed, dialect: "native", generation };
        told(session, unix_ms, kind)
    }

    fn down(session: u128, generation: u64, unix_ms: u64) -> Happening {
        let (ended, connected_ms, resumable) = (Ended::Gone, 7, true);
        let kind = HappeningKind::Disconnected { generation, ended, connected_ms, resumable };
        told(session, unix_ms, kind)
    }

    /// What is told of these, in short, and how many are connected in the end.
    #[track_caller]
    fn check(all: Vec<Happening>, expected: &[&str], connected: usize) {
        let mut alternation = Alternation::default();
        let mut out = Vec::new();
        for it in all {
            alternation.take(it, &mut out);
        }
        let seen: Vec<_> = out
            .iter()
            .map(|it| {
                assert_eq!(it.address, Some(IpAddr::from([10, 0, 0, 1])));
                let session = it.session.unwrap().0;
                match &it.kind {
                    HappeningKind::Connected { generation, .. } => {
                        format!("{session} up {generation}")
                    }
                    HappeningKind::Disconnected { generation, ended, connected_ms, .. } => {
                        format!("{session} down {generation} {ended:?} {connected_ms}")
                    }
                    HappeningKind::DeliveryFailed { .. } | HappeningKind::Security { .. } => {
                        panic!("{it:?}")
                    }
                }
            })
            .collect();
        assert_eq!(seen, expected);
        assert_eq!((alternation.len(), alternation.is_empty()), (connected, connected == 0));
    }

    #[test]
    fn sessions_come_and_go_in_turn() {
        check(
            vec![up(1, 1, 0), up(2, 1, 5), down(1, 1, 9), up(1, 2, 9), down(2, 1, 10)],
            &["1 up 1", "2 up 1", "1 down 1 Gone 7", "1 up 2", "2 down 1 Gone 7"],
            1,
        );
    }

    #[test]
    fn where_the_next_connection_is_told_first_the_last_one_has_ended_by_it() {
        check(
            vec![up(1, 1, 10), up(1, 2, 25), down(1, 1, 26), down(1, 2, 30)],
            &["1 up 1", "1 down 1 Closed(Replaced) 15", "1 up 2", "1 down 2 Gone 7"],
            0,
        );
    }

    #[test]
    fn a_connection_that_is_told_behind_the_one_that_replaced_it_is_not_told() {
        check(
            vec![up(1, 3, 10), up(1, 2, 11), down(1, 2, 12), down(1, 3, 13)],
            &["1 up 3", "1 down 3 Gone 7"],
            0,
        );
    }

    #[test]
    fn an_end_without_a_begin_is_not_told() {
        check(vec![down(1, 1, 10)], &[], 0);
    }
}
