//! What the log says about the relay: each change of its state once, and nodes that relay rooms otherwise. Decides
//! nothing; the hub does.

use roomcast_router::hub::{HubHealth, RelayState};

/// One thing worth a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Note {
    /// The state changed, and the former one had lasted so long.
    State { now: RelayState, former: Option<(RelayState, u64)> },
    /// So many nodes relay rooms in other modes.
    Disagree(u64),
    /// None does any more.
    Agree,
}

/// Remembers what was said.
#[derive(Debug, Default)]
pub(super) struct RelayLog {
    last: Option<HubHealth>,
}

impl RelayLog {
    /// Logs what changed since it was called last.
    pub(super) fn see(&mut self, health: HubHealth) {
        for note in notes(self.last, health) {
            note.log();
        }
        self.last = Some(health);
    }
}

/// What is worth saying. A node whose relay is whole from its beginning, as in memory, says nothing.
fn notes(last: Option<HubHealth>, health: HubHealth) -> Vec<Note> {
    let mut notes = Vec::new();
    let former = last.map(|last| (last.relay, health.since_ms.saturating_sub(last.since_ms)));
    if last.map_or(RelayState::Whole, |last| last.relay) != health.relay {
        notes.push(Note::State { now: health.relay, former });
    }
    let disagreeing = health.peers_disagreeing as u64;
    match (last.map_or(0, |last| last.peers_disagreeing as u64), disagreeing) {
        (before, now) if before == now => {}
        (_, 0) => notes.push(Note::Agree),
        (_, now) => notes.push(Note::Disagree(now)),
    }
    notes
}

impl Note {
    fn log(self) {
        match self {
            Self::State { now, former } => {
                let (former, former_ms) =
                    former.map_or(("none", 0), |(state, ms)| (state.name(), ms));
                let state = now.name();
                match now {
                    RelayState::Isolated => tracing::warn!(
                        state,
                        former,
                        former_ms,
                        "the broker is away: publications reach this node's own members alone"
                    ),
                    RelayState::Whole | RelayState::Cut | RelayState::Returning => {
                        tracing::info!(state, former, former_ms, "the relay's state changed");
                    }
                }
            }
            Self::Disagree(nodes) => tracing::warn!(
                nodes,
                "nodes relay rooms in other modes than this one: give all the same relay.mode, relay.outsiders and \
                 relay of the rules for rooms"
            ),
            Self::Agree => tracing::info!("all nodes relay rooms in the same modes again"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn health(relay: RelayState, since_ms: u64, peers_disagreeing: usize) -> HubHealth {
        HubHealth {
            relay,
            since_ms,
            reached: true,
            takes_tokens: true,
            lagging: false,
            feed_age_ms: 0,
            beat_age_ms: 0,
            waiting: 0,
            waiting_bytes: 0,
            held_bytes: 0,
            paused_bytes: 0,
            behind: 0,
            peers: peers_disagreeing,
            peers_deaf: 0,
            peers_disagreeing,
        }
    }

    #[test]
    fn a_state_is_told_once_with_how_long_the_former_lasted() {
        let cut = health(RelayState::Cut, 1_000, 0);
        let first = Note::State { now: RelayState::Cut, former: None };
        assert_eq!(notes(None, cut), [first]);
        assert_eq!(notes(Some(cut), cut), []);
        let whole = health(RelayState::Whole, 3_500, 0);
        let former = Some((RelayState::Cut, 2_500));
        assert_eq!(notes(Some(cut), whole), [Note::State { now: RelayState::Whole, former }]);
    }

    #[test]
    fn a_relay_that_is_whole_from_the_beginning_says_nothing() {
        assert_eq!(notes(None, health(RelayState::Whole, 0, 0)), []);
    }

    #[test]
    fn nodes_that_disagree_are_told_whenever_their_number_changes() {
        let of = |nodes| health(RelayState::Whole, 0, nodes);
        assert_eq!(notes(None, of(1)), [Note::Disagree(1)]);
        assert_eq!(notes(Some(of(1)), of(1)), []);
        assert_eq!(notes(Some(of(1)), of(2)), [Note::Disagree(2)]);
        assert_eq!(notes(Some(of(2)), of(0)), [Note::Agree]);
    }
}
