//! How a node lets its clients go before it ends: its pace, how far it is, and the wait for them. Owns no session: the
//! lanes give their clients their turns, and whoever is left at the deadline is closed by them at once.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

use roomcast_router::messages::DrainPlan;

use crate::config::DrainConfig;

/// How long a client has that hands over, from its turn on; less where the deadline is near. Units: milliseconds.
const TURN_MS: u64 = 10_000;

/// What a second's share of the rate is spread over: a fifth of the rate is left for clients that networks and busy
/// nodes bunch together. Units: milliseconds.
const PACED_MS: u64 = 1_250;

/// How often the node looks at how many are left.
pub(crate) const LOOK: Duration = Duration::from_millis(20);

/// How often the log says how many are left. Units: milliseconds.
pub(crate) const TOLD_MS: u64 = 1_000;

/// How long lanes have at the deadline to close whoever is left. Units: milliseconds.
pub(crate) const CUT_MS: u64 = 1_000;

/// How a drain went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Drained {
    /// Clients when it began.
    pub clients: u64,
    /// Those that were left at the deadline and were closed at once.
    pub cut: u64,
    /// How long it took. Units: milliseconds.
    pub took_ms: u64,
}

/// How far a node is with letting its clients go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// It serves them.
    Serving = 0,
    /// They have their turns.
    Draining = 1,
    /// The deadline is over: whoever is left is closed at once.
    Cutting = 2,
}

impl Phase {
    /// Its name in `/readyz`.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Serving => "serving",
            Self::Draining => "draining",
            Self::Cutting => "cutting",
        }
    }
}

/// How far a node is, for all its threads.
#[derive(Debug, Default)]
pub(crate) struct Draining {
    phase: AtomicU8,
    began_ms: AtomicU64,
    clients: AtomicU64,
    cut: AtomicU64,
}

impl Draining {
    /// Clients are to go from now on. Units of `mono_ms`: monotonic milliseconds.
    pub(crate) fn begin(&self, mono_ms: u64, clients: u64) {
        self.began_ms.store(mono_ms, Ordering::Relaxed);
        self.clients.store(clients, Ordering::Relaxed);
        self.phase.store(Phase::Draining as u8, Ordering::Release);
    }

    /// The deadline is over with so many left.
    pub(crate) fn cut(&self, left: u64) {
        self.cut.store(left, Ordering::Relaxed);
        self.phase.store(Phase::Cutting as u8, Ordering::Release);
    }

    /// How far it is.
    pub(crate) fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Acquire) {
            0 => Phase::Serving,
            1 => Phase::Draining,
            _ => Phase::Cutting,
        }
    }

    /// Whether new clients belong elsewhere.
    pub(crate) fn is_on(&self) -> bool {
        self.phase() != Phase::Serving
    }

    /// Whether the deadline is over.
    pub(crate) fn is_cutting(&self) -> bool {
        self.phase() == Phase::Cutting
    }

    /// For how long. Units: milliseconds.
    pub(crate) fn age_ms(&self, mono_ms: u64) -> u64 {
        if self.is_on() { mono_ms.saturating_sub(self.began_ms.load(Ordering::Relaxed)) } else { 0 }
    }

    /// Clients when it began.
    pub(crate) fn clients(&self) -> u64 {
        self.clients.load(Ordering::Relaxed)
    }

    /// Clients that were left at the deadline.
    pub(crate) fn was_cut(&self) -> u64 {
        self.cut.load(Ordering::Relaxed)
    }
}

/// What each lane is told: the same window for all, so that together they keep to the node's rate. It grows with the
/// number of clients, and the last one's turn still ends before the deadline.
pub(crate) fn plan(config: DrainConfig, clients: u64) -> DrainPlan {
    let turn_ms = TURN_MS.min(config.deadline_ms / 4);
    let limit_ms = config.deadline_ms - turn_ms;
    let paced_ms = clients.saturating_mul(PACED_MS) / u64::from(config.rate.max(1));
    let window_ms = config.window_ms.max(paced_ms).min(limit_ms);
    DrainPlan { window_ms, limit_ms, turn_ms }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEFAULT: DrainConfig = DrainConfig { window_ms: 20_000, rate: 100, deadline_ms: 120_000 };

    fn window_ms(config: DrainConfig, clients: u64) -> u64 {
        let plan = plan(config, clients);
        assert!(plan.window_ms + plan.turn_ms <= config.deadline_ms, "{plan:?}");
        plan.window_ms
    }

    #[test]
    fn the_window_grows_with_the_clients_up_to_the_deadline() {
        for (clients, expected) in [
            (0, 20_000),
            (1, 20_000),
            (1_600, 20_000),
            (1_601, 20_012),
            (8_800, 110_000),
            (8_801, 110_000),
            (u64::MAX, 110_000),
        ] {
            assert_eq!(window_ms(DEFAULT, clients), expected, "{clients}");
        }
    }

    #[test]
    fn a_turn_has_its_place_before_any_deadline() {
        assert_eq!(plan(DEFAULT, 0).turn_ms, TURN_MS);
        let short = DrainConfig { window_ms: 100, rate: 1, deadline_ms: 100 };
        assert_eq!(plan(short, 50), DrainPlan { window_ms: 75, limit_ms: 75, turn_ms: 25 });
    }

    #[test]
    fn a_drain_says_how_far_it_is() {
        let draining = Draining::default();
        assert_eq!(
            (draining.phase(), draining.age_ms(9), draining.is_on()),
            (Phase::Serving, 0, false)
        );
        draining.begin(1_000, 7);
        assert_eq!((draining.phase(), draining.age_ms(1_500)), (Phase::Draining, 500));
        draining.cut(3);
        let cut = (draining.phase(), draining.clients(), draining.was_cut());
        assert_eq!(cut, (Phase::Cutting, 7, 3));
    }
}
