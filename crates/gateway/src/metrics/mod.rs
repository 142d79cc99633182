//! What `/metrics` shows: one table of rows, each read at the scrape from what lanes and core report of themselves.
//!
//! Owns names, kinds and labels; label values come from enums, never from peers (INV-13). Every gauge but those of
//! `roomcast_node_` and `process_` is 0 once all connections are gone (INV-11).

mod happened;
mod latency;
mod orders;
mod reliable;
mod rpc;
mod table;
mod upstream;
mod webhooks;

use std::cell::Cell;
use std::sync::Arc;

use prometheus::process_collector::ProcessCollector;
use prometheus::{
    Counter, Gauge, GaugeVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    TextEncoder,
};
use roomcast_broker::RelayStats;
use roomcast_protocol::codes::{Close, Refusal};
use roomcast_protocol::limits::LimitName;
use roomcast_protocol::outbound::SkipReason;
use roomcast_protocol::position::Unrecovered;
use roomcast_protocol::relay::Unreadable;
use roomcast_router::hub::RelayState;

use crate::core::{CoreStats, HubView};
use crate::drain::Draining;
use crate::lane::LaneReport;
use crate::places::Places;
use crate::rpc::RpcCounters;
use crate::upstream::CallStats;
use crate::webhooks::{AllFigures, EventKind, Webhooks};
pub(crate) use latency::Latencies;
use latency::Shown;
use table::{Kind, Read, Row};

/// The version this was built as.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Silence after which a thread counts as stuck. Units: milliseconds.
pub(crate) const STUCK_MS: u64 = 2_000;

/// What the internal port is asked for, as a label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Endpoint {
    /// `/metrics`.
    Metrics,
    /// `/livez`.
    Livez,
    /// `/readyz`.
    Readyz,
    /// `/api/v1/openapi.json`.
    OpenApi,
    /// `/api/v1/publish`.
    Publish,
    /// `/api/v1/batch`.
    Batch,
    /// `/api/v1/broadcast`.
    Broadcast,
    /// `/api/v1/rooms/{room}/history`.
    History,
    /// `/api/v1/rooms/{room}/members`.
    Members,
    /// `/api/v1/rooms/{room}/presence`.
    Presence,
    /// `/api/v1/rooms/{room}/receipts`.
    Receipts,
    /// `/api/v1/rooms`.
    Rooms,
    /// `/api/v1/connections`.
    Connections,
    /// `/api/v1/users/{id}/sessions`.
    Sessions,
    /// `/api/v1/users/{id}/disconnect`, `/api/v1/sessions/{id}/disconnect`.
    Disconnect,
    /// `/api/v1/users/{id}/revoke`, `/api/v1/revoke`.
    Revoke,
    /// `/api/v1/rooms/{room}/subscribe`.
    Subscribe,
    /// `/api/v1/rooms/{room}/unsubscribe`.
    Unsubscribe,
    /// `/api/v1/groups/{id}/members/{user}`.
    Groups,
    /// `/api/v1/webhooks/dead`, `/api/v1/webhooks/dead/replay`.
    Webhooks,
    /// Anything else.
    Other,
}

impl Endpoint {
    const ALL: [Self; 21] = [
        Self::Metrics,
        Self::Livez,
        Self::Readyz,
        Self::OpenApi,
        Self::Publish,
        Self::Batch,
        Self::Broadcast,
        Self::History,
        Self::Members,
        Self::Presence,
        Self::Receipts,
        Self::Rooms,
        Self::Connections,
        Self::Sessions,
        Self::Disconnect,
        Self::Revoke,
        Self::Subscribe,
        Self::Unsubscribe,
        Self::Groups,
        Self::Webhooks,
        Self::Other,
    ];

    const fn name(self) -> &'static str {
        match self {
            Self::Metrics => "metrics",
            Self::Livez => "livez",
            Self::Readyz => "readyz",
            Self::OpenApi => "openapi",
            Self::Publish => "publish",
            Self::Batch => "batch",
            Self::Broadcast => "broadcast",
            Self::History => "history",
            Self::Members => "members",
            Self::Presence => "presence",
            Self::Receipts => "receipts",
            Self::Rooms => "rooms",
            Self::Connections => "connections",
            Self::Sessions => "sessions",
            Self::Disconnect => "disconnect",
            Self::Revoke => "revoke",
            Self::Subscribe => "subscribe",
            Self::Unsubscribe => "unsubscribe",
            Self::Groups => "groups",
            Self::Webhooks => "webhooks",
            Self::Other => "other",
        }
    }
}

/// How a request to the internal port was answered, as a label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    /// As asked.
    Success,
    /// The asker's fault.
    ClientError,
    /// The node's fault, or its state.
    ServerError,
}

impl Class {
    const ALL: [Self; 3] = [Self::Success, Self::ClientError, Self::ServerError];

    const fn name(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::ClientError => "client_error",
            Self::ServerError => "server_error",
        }
    }

    /// The class of an HTTP status.
    pub(crate) fn of(status: hyper::StatusCode) -> Self {
        if status.is_client_error() {
            Self::ClientError
        } else if status.is_server_error() {
            Self::ServerError
        } else {
            Self::Success
        }
    }
}

/// Why a link of the feed was connected anew, as a label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reconnect {
    /// Nothing came over it.
    Silent,
    /// What came was late.
    Lagging,
    /// It heard another master than the one that answers commands.
    Master,
}

impl Reconnect {
    const ALL: [Self; 3] = [Self::Silent, Self::Lagging, Self::Master];

    const fn name(self) -> &'static str {
        match self {
            Self::Silent => "silent",
            Self::Lagging => "lagging",
            Self::Master => "master",
        }
    }
}

/// What the server API counts of itself.
#[derive(Debug, Default)]
pub(crate) struct ApiCounters {
    answers: [[Cell<u64>; Class::ALL.len()]; Endpoint::ALL.len()],
    refusals: [Cell<u64>; Refusal::ALL.len()],
    limits: [Cell<u64>; LimitName::ALL.len()],
    keys_refused: Cell<u64>,
}

impl ApiCounters {
    /// Counts an answer.
    pub(crate) fn answered(&self, endpoint: Endpoint, class: Class) {
        add(self.answers.get(endpoint as usize).and_then(|row| row.get(class as usize)));
    }

    /// Counts a refusal, and the limit that caused it.
    pub(crate) fn refused(&self, refusal: Refusal, limit: Option<LimitName>) {
        add(self.refusals.get(refusal.index()));
        if let Some(limit) = limit {
            add(self.limits.get(limit.index()));
        }
    }

    /// Counts a request without a good key.
    pub(crate) fn key_refused(&self) {
        add(Some(&self.keys_refused));
    }
}

fn add(counter: Option<&Cell<u64>>) {
    if let Some(counter) = counter {
        counter.set(counter.get().wrapping_add(1));
    }
}

/// What a scrape sees.
#[derive(Clone, Copy)]
pub(crate) struct Seen<'a> {
    /// The lanes' last reports, in the order of the lanes.
    pub(crate) lanes: &'a [LaneReport],
    /// The core's own figures.
    pub(crate) core: &'a CoreStats,
    /// The hub's, as the core last saw them.
    pub(crate) hub: HubView,
    /// The broker's.
    pub(crate) relay: &'a RelayStats,
    /// What RPC counted.
    pub(crate) rpc: &'a RpcCounters,
    /// What webhooks counted.
    pub(crate) webhooks: &'a AllFigures,
    /// Who is connected.
    pub(crate) places: &'a Places,
    /// What the server API counted.
    pub(crate) api: &'a ApiCounters,
    /// How far it is with letting its clients go.
    pub(crate) draining: &'a Draining,
    /// Started, and not stopping.
    pub(crate) ready: bool,
    /// Connections the node takes.
    pub(crate) connections_max: usize,
    /// When the scrape came. Units: monotonic milliseconds.
    pub(crate) mono_ms: u64,
}

/// One time series.
#[derive(Debug)]
enum Series {
    Counter(IntCounter),
    Gauge(IntGauge),
    /// Shows milliseconds as seconds.
    SecondsCounter(Counter),
    /// Shows milliseconds as seconds.
    SecondsGauge(Gauge),
}

impl Series {
    /// Shows a value. What is reported is cumulative, so a counter moves by the difference.
    fn show(&self, value: u64) {
        match self {
            Self::Counter(counter) => counter.inc_by(value.saturating_sub(counter.get())),
            Self::Gauge(gauge) => gauge.set(i64::try_from(value).unwrap_or(i64::MAX)),
            Self::SecondsCounter(counter) => {
                counter.inc_by((seconds(value) - counter.get()).max(0.0));
            }
            Self::SecondsGauge(gauge) => gauge.set(seconds(value)),
        }
    }
}

fn seconds(ms: u64) -> f64 {
    std::time::Duration::from_millis(ms).as_secs_f64()
}

/// All figures, in the order of the document.
fn all() -> impl Iterator<Item = &'static Row> {
    table::ROWS
        .iter()
        .chain(reliable::ROWS)
        .chain(rpc::ROWS)
        .chain(orders::ROWS)
        .chain(upstream::ROWS)
        .chain(webhooks::ROWS)
        .chain(happened::ROWS)
}

/// The node's metrics: a registry of its own, with every series there from the start.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    rows: Vec<(&'static Row, Vec<Series>)>,
    api: ApiCounters,
    calls: Arc<[CallStats]>,
}

impl Metrics {
    /// Metrics of a node with so many lanes, whose latencies, calls of back-ends and webhooks are counted there.
    ///
    /// # Errors
    /// The registry refused a name: a fault in the table.
    pub(crate) fn new(
        lanes: usize,
        latencies: &Arc<Latencies>,
        calls: &Arc<[CallStats]>,
        webhooks: &Webhooks,
    ) -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let mut rows = Vec::new();
        let of = Of { lanes, calls, webhooks };
        for row in all() {
            rows.push((row, register(&registry, row, &of, latencies)?));
        }
        let (name, meaning) = table::BUILD_INFO;
        let build = IntGauge::with_opts(Opts::new(name, meaning).const_label("version", VERSION))?;
        build.set(1);
        registry.register(Box::new(build))?;
        registry.register(Box::new(ProcessCollector::for_self()))?;
        let calls = Arc::clone(calls);
        Ok(Self { registry, rows, api: ApiCounters::default(), calls })
    }

    /// Where the server API counts.
    pub(crate) const fn api(&self) -> &ApiCounters {
        &self.api
    }

    /// Takes over what is seen now.
    pub(crate) fn update(&self, seen: Seen<'_>) {
        for (row, series) in &self.rows {
            let mut places = series.iter();
            let mut show = |value: u64| {
                if let Some(series) = places.next() {
                    series.show(value);
                }
            };
            match row.read {
                Read::Node(read) | Read::NodeMs(read) => show(read(&seen)),
                Read::Lane(read) | Read::LaneMs(read) => {
                    seen.lanes.iter().for_each(|lane| show(read(lane)))
                }
                Read::Call(read) => self.calls.iter().for_each(|call| show(read(call))),
                Read::Webhook(read) | Read::WebhookMs(read) => {
                    seen.webhooks.kinds.iter().for_each(|of| show(read(of)));
                }
                Read::Each(each) => {
                    (0..(each.names)().len()).for_each(|at| show((each.read)(&seen, at)));
                }
                Read::Refusal(read) => Refusal::ALL.iter().for_each(|it| show(read(&seen, *it))),
                Read::Close(read) => Close::ALL.iter().for_each(|it| show(read(&seen, *it))),
                Read::State(read) => RelayState::ALL.iter().for_each(|it| show(read(&seen, *it))),
                Read::Unreadable(read) => {
                    Unreadable::ALL.iter().for_each(|it| show(read(&seen, *it)));
                }
                Read::Reconnect(read) => {
                    Reconnect::ALL.iter().for_each(|it| show(read(&seen, *it)));
                }
                Read::Skip(read) => SkipReason::ALL.iter().for_each(|it| show(read(&seen, *it))),
                Read::Unrecovered(read) => {
                    Unrecovered::ALL.iter().for_each(|it| show(read(&seen, *it)));
                }
                // Read by its own collector.
                Read::Latency(_) => {}
                Read::Limit(read) => LimitName::ALL.iter().for_each(|it| show(read(&seen, *it))),
                Read::Answer(read) => {
                    for endpoint in Endpoint::ALL {
                        Class::ALL.iter().for_each(|class| show(read(&seen, endpoint, *class)));
                    }
                }
            }
        }
    }

    /// All series in Prometheus' text format, as of the last [`Metrics::update`].
    ///
    /// # Errors
    /// The encoder refused a series: a fault in the table.
    pub(crate) fn text(&self) -> Result<String, prometheus::Error> {
        TextEncoder::new().encode_to_string(&self.registry.gather())
    }
}

/// Makes a row's series, in the order in which [`Metrics::update`] shows their values.
fn register(
    registry: &Registry,
    row: &Row,
    of: &Of<'_>,
    latencies: &Arc<Latencies>,
) -> Result<Vec<Series>, prometheus::Error> {
    let (labels, values) = label_values(row.read, of);
    let opts = Opts::new(row.name, row.meaning);
    let values = values.iter().map(|it| it.iter().map(String::as_str).collect::<Vec<_>>());
    match (row.kind, row.read) {
        (_, Read::Latency(read)) => {
            let shown = Shown::new((row.name, row.meaning), latencies, read)?;
            registry.register(Box::new(shown))?;
            Ok(Vec::new())
        }
        (Kind::Counter, Read::NodeMs(_)) => {
            let counter = Counter::with_opts(opts)?;
            registry.register(Box::new(counter.clone()))?;
            Ok(vec![Series::SecondsCounter(counter)])
        }
        (_, Read::NodeMs(_)) => {
            let gauge = Gauge::with_opts(opts)?;
            registry.register(Box::new(gauge.clone()))?;
            Ok(vec![Series::SecondsGauge(gauge)])
        }
        (_, Read::LaneMs(_) | Read::WebhookMs(_)) => {
            let family = GaugeVec::new(opts, labels)?;
            registry.register(Box::new(family.clone()))?;
            let one = |it: Vec<&str>| family.get_metric_with_label_values(&it);
            values.map(|it| Ok(Series::SecondsGauge(one(it)?))).collect()
        }
        (Kind::Counter, _) => {
            let family = IntCounterVec::new(opts, labels)?;
            registry.register(Box::new(family.clone()))?;
            values
                .map(|it| Ok(Series::Counter(family.get_metric_with_label_values(&it)?)))
                .collect()
        }
        (Kind::Gauge | Kind::Histogram, _) => {
            let family = IntGaugeVec::new(opts, labels)?;
            registry.register(Box::new(family.clone()))?;
            values.map(|it| Ok(Series::Gauge(family.get_metric_with_label_values(&it)?))).collect()
        }
    }
}

/// What series are made for beside those that enums name.
struct Of<'a> {
    lanes: usize,
    calls: &'a [CallStats],
    webhooks: &'a Webhooks,
}

/// A row's labels, and the values of each of its series.
fn label_values(read: Read, of: &Of<'_>) -> (&'static [&'static str], Vec<Vec<String>>) {
    let one = |names: Vec<&'static str>| names.into_iter().map(|it| vec![it.to_owned()]).collect();
    let values = match read {
        Read::Node(_) | Read::NodeMs(_) => vec![Vec::new()],
        Read::Latency(_) => Vec::new(),
        Read::State(_) => one(RelayState::ALL.iter().map(|it| it.name()).collect()),
        Read::Unreadable(_) => one(Unreadable::ALL.iter().map(|it| it.name()).collect()),
        Read::Reconnect(_) => one(Reconnect::ALL.iter().map(|it| it.name()).collect()),
        Read::Skip(_) => one(SkipReason::ALL.iter().map(|it| it.name()).collect()),
        Read::Unrecovered(_) => one(Unrecovered::ALL.iter().map(|it| it.name()).collect()),
        Read::Each(each) => one((each.names)()),
        Read::Call(_) => of.calls.iter().map(|call| vec![call.name.to_string()]).collect(),
        Read::Webhook(_) | Read::WebhookMs(_) => {
            let kinds =
                |name| EventKind::ALL.map(|kind| vec![String::from(name), kind.name().into()]);
            of.webhooks.names().flat_map(kinds).collect()
        }
        Read::Lane(_) | Read::LaneMs(_) => {
            (0..of.lanes).map(|lane| vec![lane.to_string()]).collect()
        }
        Read::Refusal(_) => one(Refusal::ALL.iter().map(|it| it.row().name).collect()),
        Read::Close(_) => one(Close::ALL.iter().map(|it| it.row().name).collect()),
        Read::Limit(_) => one(LimitName::ALL.iter().map(|it| it.name()).collect()),
        Read::Answer(_) => Endpoint::ALL
            .iter()
            .flat_map(|endpoint| Class::ALL.map(|class| (endpoint.name(), class.name())))
            .map(|(endpoint, class)| vec![endpoint.to_owned(), class.to_owned()])
            .collect(),
    };
    (read.labels(), values)
}

#[cfg(test)]
mod tests;
