//! The internal port: figures, health, and the server API of back-ends. Runs on the core thread beside the core, asks
//! it through its queue, and never waits for a client without a deadline.

pub(crate) mod access;
pub(crate) mod answer;
mod body;
mod groups;
mod health;
mod history;
mod members;
mod openapi;
mod orders;
mod presence;
pub(crate) mod problem;
mod publish;
mod receipts;
pub(crate) mod route;
mod server;
mod surveys;
mod table;
mod wait;
mod webhooks;

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Body;
use hyper::{HeaderMap, Request, Response, StatusCode};
use roomcast_broker::RelayStats;
use roomcast_protocol::codes::{Refusal, Refused};
use roomcast_protocol::ids::NodeId;
use roomcast_protocol::limits::DecodeLimits;
use roomcast_protocol::room::RoomName;
use roomcast_router::orders::Whom;
use tokio::sync::watch;

use crate::clock::Clock;
use crate::config::{BrokerKind, Config, DEV_API_KEY, Scope};
use crate::core::{CoreHandle, CoreStats};
use crate::drain::Draining;
use crate::guard::RuleGuard;
use crate::lane::LaneReport;
use crate::metrics::{Class, Endpoint, Metrics, Seen};
use crate::places::Places;
use crate::rpc::RpcCounters;
use crate::system::{raise_open_files, sockets_max};
use crate::webhooks::Webhooks;
use access::Caller;
use members::Page;
use presence::{Asked, Roster};
use problem::Problem;
use route::Route;
pub(crate) use server::serve;

/// What the configuration says about the internal port.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ApiConfig {
    /// Without keys, but only for this machine.
    pub(crate) dev: bool,
    pub(crate) broker: BrokerKind,
    /// Bytes of a request's body.
    pub(crate) message_bytes_max: usize,
    /// Publications of a batch, rooms of a broadcast.
    pub(crate) batch_max: usize,
    /// Bytes of a batch.
    pub(crate) batch_bytes_max: usize,
    pub(crate) decode: DecodeLimits,
    pub(crate) connections_max: usize,
    pub(crate) unauthenticated_max: usize,
    /// A dialect is served whose users can be in groups.
    pub(crate) groups: bool,
}

impl ApiConfig {
    /// The part of the configuration that the internal port needs.
    pub(crate) fn new(config: &Config) -> Self {
        let limits = &config.limits;
        Self {
            dev: config.dev,
            broker: config.broker.kind,
            groups: config.dialects.chat.is_some(),
            message_bytes_max: limits.message_bytes,
            batch_max: limits.api_batch,
            batch_bytes_max: limits.api_batch_bytes,
            decode: limits.decode,
            connections_max: sockets_max(limits.connections_max, raise_open_files()),
            unauthenticated_max: limits.unauthenticated_max,
        }
    }
}

/// What the internal port is made with.
pub(crate) struct ApiParts {
    pub(crate) core: CoreHandle,
    pub(crate) guard: Arc<RuleGuard>,
    pub(crate) clock: Clock,
    /// What each lane last reported, in the order of the lanes.
    pub(crate) reports: Vec<watch::Receiver<LaneReport>>,
    pub(crate) stats: Arc<CoreStats>,
    pub(crate) places: Arc<Places>,
    pub(crate) relay: Arc<RelayStats>,
    pub(crate) rpc: Arc<RpcCounters>,
    pub(crate) metrics: Metrics,
    /// Started, and not stopping.
    pub(crate) ready: Arc<AtomicBool>,
    pub(crate) draining: Arc<Draining>,
    pub(crate) webhooks: Webhooks,
    pub(crate) node: NodeId,
    pub(crate) config: ApiConfig,
}

/// Answers requests to the internal port.
pub(crate) struct Api {
    parts: ApiParts,
}

type Answer = Result<Response<Full<Bytes>>, Problem>;

impl Api {
    /// The internal port of one node.
    pub(crate) fn new(parts: ApiParts) -> Rc<Self> {
        Rc::new(Self { parts })
    }

    /// Answers one request, and counts it.
    pub(crate) async fn respond<B>(&self, request: Request<B>) -> Response<Full<Bytes>>
    where
        B: Body<Data = Bytes>,
    {
        let (endpoint, answer) = self.answer(request).await;
        let counters = self.parts.metrics.api();
        let response = answer.unwrap_or_else(|problem| {
            if let Some((refusal, limit)) = problem.cause() {
                counters.refused(refusal, limit);
            }
            problem.response()
        });
        counters.answered(endpoint, Class::of(response.status()));
        response
    }

    async fn answer<B>(&self, request: Request<B>) -> (Endpoint, Answer)
    where
        B: Body<Data = Bytes>,
    {
        let (endpoint, found) = route::find(request.method(), request.uri().path());
        let caller = if route::is_api(request.uri().path()) {
            // First of all, so that nobody without a key learns what is served.
            match self.admit(request.headers()) {
                Ok(caller) => caller,
                Err(problem) => return (endpoint, Err(problem)),
            }
        } else {
            Caller { name: "", scope: &Scope::ALL }
        };
        let who = caller.name;
        let answer = match found.and_then(|route| caller.check(&route).map(|()| route)) {
            Ok(Route::Metrics) => self.metrics(),
            Ok(Route::Livez) => Ok(self.livez()),
            Ok(Route::Readyz) => Ok(self.readyz()),
            Ok(Route::OpenApi) => openapi::openapi(),
            Ok(Route::Publish) => self.publish(&caller, request).await,
            Ok(Route::Batch) => self.batch(&caller, request).await,
            Ok(Route::Broadcast) => self.broadcast(&caller, request).await,
            Ok(Route::History(room)) => {
                self.history(&room, request.uri().query().unwrap_or_default()).await
            }
            Ok(Route::Members(room)) => {
                self.members(&room, request.uri().query().unwrap_or_default()).await
            }
            Ok(Route::Presence(room)) => {
                self.presence(&room, request.uri().query().unwrap_or_default()).await
            }
            Ok(Route::Receipts(room)) => {
                self.receipts(&room, request.uri().query().unwrap_or_default()).await
            }
            Ok(Route::Disconnect(user)) => {
                self.disconnect(who, Whom::User(user.into()), request).await
            }
            Ok(Route::Rooms) => {
                self.rooms(caller.scope, request.uri().query().unwrap_or_default()).await
            }
            Ok(Route::Connections) => {
                self.connections(None, request.uri().query().unwrap_or_default()).await
            }
            Ok(Route::Sessions(user)) => {
                self.connections(Some(user), request.uri().query().unwrap_or_default()).await
            }
            Ok(Route::EndSession(session)) => match orders::session(&session) {
                Ok(session) => self.disconnect(who, Whom::Session(session), request).await,
                Err(refused) => Err(refused.into()),
            },
            Ok(Route::RevokeUser(user)) => self.revoke_user(who, user, request).await,
            Ok(Route::Revoke) => self.revoke_token(who, request).await,
            Ok(Route::Subscribe(room)) => self.subscribe(who, &room, request).await,
            Ok(Route::Unsubscribe(room)) => self.unsubscribe(who, &room, request).await,
            Ok(Route::SetMember(id, user)) => self.set_member(who, (&id, user), request).await,
            Ok(Route::RemoveMember(id, user)) => {
                self.remove_member(who, (&id, user), request).await
            }
            Ok(Route::DeadLetters) => {
                self.dead_letters(request.uri().query().unwrap_or_default()).await
            }
            Ok(Route::Replay) => self.replay(who, request).await,
            Err(problem) => Err(problem),
        };
        (endpoint, answer)
    }

    /// Whose key the request brings. In `--dev` whoever is on this machine needs none, and nobody else gets in even with
    /// one: everybody knows that of `--dev`.
    fn admit(&self, headers: &HeaderMap) -> Result<Caller<'_>, Problem> {
        let dev = self.parts.config.dev;
        if dev && !access::is_local(headers) {
            let text = "In --dev this is only for this machine: use 127.0.0.1, [::1] or localhost";
            return Err(Problem::new(StatusCode::FORBIDDEN, text.into()));
        }
        let known = access::bearer(headers).and_then(|key| self.parts.guard.api_key(key));
        let known = known.map(|key| Caller { name: &key.name, scope: &key.scope });
        let anybody = Caller { name: DEV_API_KEY, scope: &Scope::ALL };
        known.or(dev.then_some(anybody)).ok_or_else(|| {
            self.parts.metrics.api().key_refused();
            Problem::no_key()
        })
    }

    fn metrics(&self) -> Answer {
        let parts = &self.parts;
        let lanes = self.lanes();
        parts.metrics.update(Seen {
            lanes: &lanes,
            webhooks: &parts.webhooks.figures(),
            core: &parts.stats,
            hub: parts.stats.hub(),
            relay: &parts.relay,
            rpc: &parts.rpc,
            places: &parts.places,
            api: parts.metrics.api(),
            draining: &parts.draining,
            ready: self.is_ready(),
            connections_max: parts.config.connections_max,
            mono_ms: parts.clock.now().mono_ms,
        });
        let text = parts.metrics.text().map_err(|error| {
            tracing::error!(%error, "the metrics could not be written");
            Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "The metrics cannot be written".into())
        })?;
        Ok(answer::with_type(StatusCode::OK, prometheus::TEXT_FORMAT, text.into()))
    }

    fn livez(&self) -> Response<Full<Bytes>> {
        let livez = health::livez(self.vitals(&self.lanes()));
        answer::json(status_if(livez.is_live()), &livez)
    }

    fn readyz(&self) -> Response<Full<Bytes>> {
        let lanes = self.lanes();
        let vitals = self.vitals(&lanes);
        let readyz = health::readyz(vitals);
        answer::json(status_if(readyz.is_ready()), &readyz)
    }

    async fn members(&self, room: &str, query: &str) -> Answer {
        let room = RoomName::parse(room).map_err(Refused::from)?;
        let page = Page::parse(query)?;
        let members = self.parts.core.members(room).await.ok_or(Refusal::Unavailable)?;
        Ok(answer::json(StatusCode::OK, &page.of(members)))
    }

    async fn presence(&self, room: &str, query: &str) -> Answer {
        let room = RoomName::parse(room).map_err(Refused::from)?;
        let Asked { limit, after } = Asked::parse(query)?;
        let page = self.parts.core.roster(room, after, limit).await?;
        Ok(answer::json(StatusCode::OK, &Roster::from(page)))
    }

    async fn receipts(&self, room: &str, query: &str) -> Answer {
        let room = RoomName::parse(room).map_err(Refused::from)?;
        let page = self.parts.core.receipts(receipts::asked(room, query)?).await?;
        Ok(answer::json(StatusCode::OK, &receipts::Receipts::from(page)))
    }

    fn lanes(&self) -> Vec<LaneReport> {
        self.parts.reports.iter().map(|report| report.borrow().clone()).collect()
    }

    /// Started, and not stopping.
    fn is_running(&self) -> bool {
        self.parts.ready.load(Ordering::Acquire)
    }

    /// Running, the broker was reached at least once, and tokens can be judged: that it is away later turns no traffic away.
    fn is_ready(&self) -> bool {
        let hub = self.parts.stats.hub();
        self.is_running() && hub.reached() && hub.takes_tokens()
    }

    fn vitals<'a>(&'a self, lanes: &'a [LaneReport]) -> health::Vitals<'a> {
        let ApiParts { stats, places, config, clock, node, draining, .. } = &self.parts;
        health::Vitals {
            node: *node,
            running: self.is_running(),
            draining,
            broker: config.broker,
            core: stats,
            hub: stats.hub(),
            lanes,
            places,
            connections_max: config.connections_max,
            unauthenticated_max: config.unauthenticated_max,
            mono_ms: clock.now().mono_ms,
        }
    }
}

const fn status_if(good: bool) -> StatusCode {
    if good { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
}

#[cfg(test)]
mod tests;
