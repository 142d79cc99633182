//! Whether the node lives, and whether traffic may come: pure judgements of what lanes and core last reported.

use std::sync::atomic::Ordering;

use roomcast_protocol::ids::NodeId;
use roomcast_protocol::limits::LimitName;
use serde::Serialize;

use crate::core::CoreStats;
use crate::lane::LaneReport;
use crate::metrics::STUCK_MS;
use crate::places::Places;

/// What the judgements are made from.
#[derive(Clone, Copy)]
pub(super) struct Vitals<'a> {
    pub(super) node: NodeId,
    /// Started, and not stopping.
    pub(super) ready: bool,
    pub(super) core: &'a CoreStats,
    pub(super) lanes: &'a [LaneReport],
    pub(super) places: &'a Places,
    pub(super) connections_max: usize,
    pub(super) unauthenticated_max: usize,
    pub(super) mono_ms: u64,
}

/// The body of `/livez`.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct Livez {
    status: &'static str,
    /// Threads that have not turned lately, each with when they last did.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    stuck: Vec<Thread>,
}

impl Livez {
    /// Whether all threads turn.
    pub(super) fn is_live(&self) -> bool {
        self.stuck.is_empty()
    }
}

/// A thread, and how long ago it said that it turns.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct Thread {
    thread: String,
    state: &'static str,
    age_ms: u64,
}

/// The body of `/readyz`.
#[derive(Debug, Serialize)]
pub(super) struct Readyz {
    status: &'static str,
    node: String,
    broker: Broker,
    lanes: Vec<Thread>,
    limits: Vec<Limit>,
}

#[derive(Debug, Serialize)]
struct Broker {
    kind: &'static str,
    state: &'static str,
    age_ms: u64,
    feed_bytes: u64,
}

#[derive(Debug, Serialize)]
struct Limit {
    limit: &'static str,
    state: &'static str,
    age_ms: u64,
    used: usize,
    value: usize,
}

/// Do all threads turn?
pub(super) fn livez(vitals: Vitals<'_>) -> Livez {
    let threads = std::iter::once(core(vitals)).chain(lanes(vitals));
    let stuck: Vec<_> = threads.filter(|thread| thread.state != "turning").collect();
    Livez { status: if stuck.is_empty() { "live" } else { "stuck" }, stuck }
}

/// May traffic come, and how is everything? The embedded broker is part of the core, so it is up while that turns.
pub(super) fn readyz(vitals: Vitals<'_>) -> Readyz {
    let core = core(vitals);
    let state = if core.state == "turning" { "up" } else { "stuck" };
    let feed_bytes = vitals.core.feed_bytes.load(Ordering::Relaxed);
    let reported = lanes(vitals).map(|lane| lane.age_ms).max().unwrap_or_default();
    let unauthenticated = vitals.lanes.iter().map(|lane| lane.sizes.unauthenticated).sum();
    Readyz {
        status: if vitals.ready { "ready" } else { "not_ready" },
        node: vitals.node.to_string(),
        broker: Broker { kind: "memory", state, age_ms: core.age_ms, feed_bytes },
        lanes: lanes(vitals).collect(),
        limits: vec![
            limit(
                LimitName::ConnectionsPerNode,
                0,
                vitals.places.sockets(),
                vitals.connections_max,
            ),
            limit(
                LimitName::Unauthenticated,
                reported,
                unauthenticated,
                vitals.unauthenticated_max,
            ),
        ],
    }
}

fn limit(name: LimitName, age_ms: u64, used: usize, value: usize) -> Limit {
    let state = if used >= value { "reached" } else { "below" };
    Limit { limit: name.name(), state, age_ms, used, value }
}

fn core(vitals: Vitals<'_>) -> Thread {
    let turned_ms = vitals.core.turned_ms.load(Ordering::Relaxed);
    thread("core".to_owned(), turned_ms, vitals.mono_ms)
}

fn lanes(vitals: Vitals<'_>) -> impl Iterator<Item = Thread> {
    let lanes = vitals.lanes.iter().enumerate();
    lanes.map(move |(index, lane)| thread(format!("lane-{index}"), lane.turned_ms, vitals.mono_ms))
}

fn thread(name: String, turned_ms: u64, mono_ms: u64) -> Thread {
    let age_ms = mono_ms.saturating_sub(turned_ms);
    let state = match turned_ms {
        0 => "starting",
        _ if age_ms > STUCK_MS => "stuck",
        _ => "turning",
    };
    Thread { thread: name, state, age_ms }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const NOW_MS: u64 = 100_000;

    fn check(core_ms: u64, lanes_ms: &[u64], judge: impl FnOnce(Vitals<'_>)) {
        let core = CoreStats::default();
        core.turned_ms.store(core_ms, Ordering::Relaxed);
        let report =
            |turned_ms: &u64| LaneReport { turned_ms: *turned_ms, ..LaneReport::default() };
        let lanes: Vec<_> = lanes_ms.iter().map(report).collect();
        judge(Vitals {
            node: NodeId(7),
            ready: true,
            core: &core,
            lanes: &lanes,
            places: &Places::default(),
            connections_max: 10,
            unauthenticated_max: 0,
            mono_ms: NOW_MS,
        });
    }

    #[test]
    fn a_node_lives_while_all_its_threads_turn() {
        check(NOW_MS, &[NOW_MS - STUCK_MS, NOW_MS], |vitals| {
            let livez = livez(vitals);
            assert!(livez.is_live());
            assert_eq!(serde_json::to_value(&livez).unwrap(), json!({"status": "live"}));
        });
    }

    #[test]
    fn the_thread_that_is_stuck_is_named() {
        check(NOW_MS, &[NOW_MS, NOW_MS - STUCK_MS - 1], |vitals| {
            let livez = livez(vitals);
            assert!(!livez.is_live());
            let stuck = json!([{"thread": "lane-1", "state": "stuck", "age_ms": 2_001}]);
            let expected = json!({"status": "stuck", "stuck": stuck});
            assert_eq!(serde_json::to_value(&livez).unwrap(), expected);
        });
        check(NOW_MS - 3_000, &[NOW_MS], |vitals| {
            let text = serde_json::to_string(&livez(vitals)).unwrap();
            assert!(text.contains("\"core\""), "{text}");
        });
    }

    #[test]
    fn a_thread_that_has_not_turned_yet_does_not_live_yet() {
        check(NOW_MS, &[0], |vitals| assert!(!livez(vitals).is_live()));
    }

    #[test]
    fn readiness_lists_broker_lanes_and_limits_with_state_and_age() {
        check(NOW_MS - 50, &[NOW_MS - 100, NOW_MS - 9_000], |vitals| {
            let body = serde_json::to_value(readyz(vitals)).unwrap();
            assert_eq!(body["status"], "ready");
            assert_eq!(body["node"], "0000000000000007");
            assert_eq!(
                (&body["broker"]["state"], &body["broker"]["age_ms"]),
                (&json!("up"), &json!(50))
            );
            assert_eq!(body["lanes"][0]["state"], "turning");
            assert_eq!(body["lanes"][1]["state"], "stuck");
            let limits = json!([
                {"limit": "connections_max", "state": "below", "age_ms": 0, "used": 0, "value": 10},
                {"limit": "unauthenticated_max", "state": "reached", "age_ms": 9_000, "used": 0, "value": 0}
            ]);
            assert_eq!(body["limits"], limits);
            let stopping = Vitals { ready: false, ..vitals };
            assert_eq!(serde_json::to_value(readyz(stopping)).unwrap()["status"], "not_ready");
        });
    }
}
