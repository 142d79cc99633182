//! The way in: accepts sockets, answers plain requests, and lets upgrades through that origin, limits, dialect and
//! token allow. What is refused here is refused as HTTP, with its limit's name and value.

use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper::Request;
use hyper::body::Incoming;
use hyper::header::HeaderName;
use roomcast_protocol::codes::Close;
use roomcast_protocol::dialect::{Dialect, Format, Handshake, Negotiated};
use roomcast_protocol::ids::SessionId;
use roomcast_protocol::limits::LimitName;
use roomcast_router::happenings::{Offence, cut};
use roomcast_router::lane::{Admission, Opening};
use tokio::net::{TcpListener, TcpStream};

use super::connection::Connection;
use super::permission::{Asking, denied, unanswered};
use super::refused::{
    Refusal, bad_origin, bad_token, declined, draining, no_handshake, not_yet, over_limit,
};
use super::served::Served;
use super::shell::{Shell, add};
use super::task;
use crate::config::Identity;
use crate::guard;
use crate::places::{AddressPlace, SocketPlace};
use crate::transport::client_addr::limit_key;
use crate::transport::http::{self, Answer, ClientInfo, Handled, Handler, Upgraded};
use crate::transport::websocket::handshake;
use crate::upstream::{CallIndex, Verdict};

/// How long the listener rests after an error that repeats at once (no descriptors left).
const ACCEPT_REST: Duration = Duration::from_millis(50);

/// How long a new connection waits until tokens can be judged: a node has just started, or orders were lost.
const TOKENS_WAIT: Duration = Duration::from_secs(5);
const TOKENS_LOOK: Duration = Duration::from_millis(20);

/// Accepts sockets for as long as the lane runs.
pub(super) async fn accept(shell: Rc<Shell>, listener: TcpListener) {
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                add(&shell.counters.accepted, 1);
                let places = &shell.settings.places;
                let Some(place) = places.take_socket(shell.settings.connections_max) else {
                    let limit = LimitName::ConnectionsPerNode;
                    shell.hit(limit);
                    shell.turned_away(|| Offence::Limit { limit }, None, limit_key(peer.ip()));
                    continue; // the socket is closed: there is no descriptor to spare for an answer
                };
                let shell = Rc::clone(&shell);
                tokio::task::spawn_local(Box::pin(serve(shell, stream, peer, place)));
            }
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_REST).await;
            }
        }
    }
}

impl Shell {
    /// Waits a while until tokens can be judged.
    async fn await_tokens(&self) {
        let until = Instant::now() + TOKENS_WAIT;
        while !self.lane.borrow().takes_tokens() && Instant::now() < until {
            tokio::time::sleep(TOKENS_LOOK).await;
        }
    }
}

/// What an upgrade that was let through brings along.
struct Entrance {
    id: SessionId,
    dialect: &'static dyn Dialect,
    negotiated: Negotiated,
    opening: Result<Opening, Close>,
    asking: Option<Box<Asking>>,
    address: AddressPlace,
}

struct Door {
    shell: Rc<Shell>,
}

async fn serve(shell: Rc<Shell>, stream: TcpStream, peer: SocketAddr, place: SocketPlace) {
    let began = Instant::now();
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "no TCP_NODELAY");
    }
    let door = Door { shell: Rc::clone(&shell) };
    shell.await_tokens().await;
    let served = http::serve(stream, peer, &door, &shell.settings.http).await;
    match served {
        Ok(Some(upgraded)) => {
            let took_us = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
            shell.settings.latencies.handshake.observe(took_us);
            enter(&shell, upgraded, place);
        }
        Ok(None) => {}
        Err(error) => tracing::debug!(%error, "a connection ended before its upgrade"),
    }
}

/// Begins the session, on a small task of its own.
fn enter(shell: &Rc<Shell>, upgraded: Upgraded<Entrance>, place: SocketPlace) {
    let Upgraded { stream, leftover, attachment } = upgraded;
    let Entrance { id, dialect, negotiated, opening, asking, address } = attachment;
    let connection = Connection::new(stream, asking, (address, place));
    let encoding = negotiated.encoding;
    let decoder = dialect.decoder(encoding, shell.settings.decode);
    let now = shell.now();
    let token_given = !matches!(opening, Ok(Opening::Silent));
    let (opening, refused) = match opening {
        Ok(opening) => (opening, None),
        Err(close) => (Opening::Silent, Some(close)),
    };
    shell.act(|lane, effects| {
        let key = lane.open(now, id, Format { dialect, encoding }, opening, effects);
        connection.serve(key);
        shell.attach(key, &connection);
        if let Some(close) = refused {
            lane.close(key, close, effects);
        }
    });
    shell.flush();
    // A copy, so that the handshake's buffer is freed.
    let leftover = (!leftover.is_empty()).then(|| Box::from(&leftover[..]));
    let task = task::run(Rc::clone(shell), connection, decoder, leftover, token_given);
    tokio::task::spawn_local(task);
}

impl Handler for Door {
    type Attachment = Entrance;

    fn handle(&self, request: Request<Incoming>, client: ClientInfo) -> Handled<'_, Entrance> {
        let path = request.uri().path();
        let served = Arc::clone(&self.shell.settings.served);
        let Some(served) = served.iter().find(|served| &*served.path == path) else {
            let host =
                request.headers().get(hyper::header::HOST).and_then(|host| host.to_str().ok());
            let query = request.uri().query().unwrap_or_default();
            let site = &self.shell.settings.site;
            return Handled::Now(Answer::Http(site.respond(request.method(), path, query, host)));
        };
        let passed = match self.pass(served, &request, &client) {
            Ok(passed) => passed,
            Err(refusal) => return Handled::Now(self.answer(Err(refusal))),
        };
        match served.identity {
            Identity::Token | Identity::Open => {
                Handled::Now(self.answer(self.entrance(passed, None)))
            }
            Identity::Call(call) => {
                let asking = Box::new(Asking::new(CallIndex(call), &request, client.ip));
                Handled::Later(Box::pin(async move {
                    let permitted = self.permission(&asking, passed.address.address()).await;
                    self.answer(permitted.and_then(|()| self.entrance(passed, Some(asking))))
                }))
            }
        }
    }
}

/// An upgrade that may be let in, as far as its request says.
struct Passed {
    accepted: handshake::Accepted,
    dialect: &'static dyn Dialect,
    negotiated: Negotiated,
    identity: Identity,
    address: AddressPlace,
}

impl Door {
    /// What a client gets; refusals are counted.
    fn answer(
        &self,
        entered: Result<(handshake::Accepted, Entrance), Refusal>,
    ) -> Answer<Entrance> {
        match entered {
            Ok((accepted, entrance)) => Answer::Upgrade(accepted, entrance),
            Err(response) => {
                add(&self.shell.counters.handshakes_refused, 1);
                Answer::Http(*response)
            }
        }
    }

    fn pass(
        &self,
        served: &Served,
        request: &Request<Incoming>,
        client: &ClientInfo,
    ) -> Result<Passed, Refusal> {
        let plainly = served.dialect.profile().refuses_tokens_early;
        let accepted =
            handshake::check(request).map_err(|rejected| no_handshake(rejected, plainly))?;
        let settings = &self.shell.settings;
        self.check_open()?;
        let asked = asked_for(request, &accepted, client);
        // Of several lines the browser wrote at most one, and nobody knows which.
        let origins = request.headers().get_all(hyper::header::ORIGIN);
        if !origins.iter().all(|origin| origin.to_str().is_ok_and(|it| served.origins.allow(it))) {
            let origin = origins.iter().find_map(|it| it.to_str().ok()).unwrap_or_default();
            let what = || Offence::Origin { origin: cut(origin) };
            self.shell.turned_away(what, None, limit_key(client.ip));
            return Err(bad_origin(served.bad_origin, served.origin_mend));
        }
        let key = limit_key(client.ip);
        let address =
            settings.places.take_address(key, settings.connections_per_ip).ok_or_else(|| {
                let max = settings.connections_per_ip as usize;
                self.over(LimitName::ConnectionsPerIp, max, key)
            })?;
        let dialect = served.dialect;
        let negotiated = dialect.accepts(&asked).map_err(|why| declined(&why))?;
        Ok(Passed { accepted, dialect, negotiated, identity: served.identity, address })
    }

    fn entrance(
        &self,
        passed: Passed,
        asking: Option<Box<Asking>>,
    ) -> Result<(handshake::Accepted, Entrance), Refusal> {
        let Passed { accepted, dialect, negotiated, identity, address } = passed;
        let id = SessionId(uuid::Uuid::new_v4().as_u128());
        let early = dialect.profile().refuses_tokens_early;
        let opening = self.opening((identity, early), id, &negotiated, address.address())?;
        let accepted = accepted.with_subprotocol(negotiated.subprotocol);
        Ok((accepted, Entrance { id, dialect, negotiated, opening, asking, address }))
    }

    /// Whether the node lets anybody in.
    fn check_open(&self) -> Result<(), Refusal> {
        if self.shell.settings.draining.is_on() {
            add(&self.shell.counters.drain_refused, 1);
            return Err(draining());
        }
        if !self.shell.lane.borrow().takes_tokens() {
            return Err(not_yet());
        }
        Ok(())
    }

    /// Asks the application whether the client may connect. Takes as long as the call's timeout at most.
    async fn permission(&self, asking: &Asking, address: IpAddr) -> Result<(), Refusal> {
        let upstream = &self.shell.settings.upstream;
        let verdict = tokio::select! {
            verdict = upstream.authorize(asking.call(), asking.of_server()) => verdict,
            () = self.shell.ended() => return Err(draining()),
        };
        match verdict {
            // The node may have begun to drain meanwhile.
            Ok(Verdict::Allowed) => self.check_open(),
            Ok(Verdict::Denied(answer)) => {
                let why = "the application did not let it in";
                self.shell.turned_away(|| Offence::Authentication { why }, None, address);
                Err(denied(answer))
            }
            Err(error) => Err(unanswered(&error)),
        }
    }

    /// How the session begins; `early`: whose token is no good gets no session.
    fn opening(
        &self,
        (identity, early): (Identity, bool),
        id: SessionId,
        negotiated: &Negotiated,
        address: IpAddr,
    ) -> Result<Result<Opening, Close>, Refusal> {
        let settings = &self.shell.settings;
        let admitted = match (identity, &negotiated.token) {
            (Identity::Open | Identity::Call(_), _) => {
                self.shell.lane.borrow_mut().admit_known(guard::anonymous(id), None)
            }
            (Identity::Token, None) if early => {
                let why = "no token came";
                self.shell.turned_away(|| Offence::Authentication { why }, None, address);
                return Err(bad_token("Unauthorized"));
            }
            (Identity::Token, None) => {
                let waiting = self.shell.lane.borrow().sizes().unauthenticated;
                if waiting >= settings.unauthenticated_max {
                    let max = settings.unauthenticated_max;
                    return Err(self.over(LimitName::Unauthenticated, max, address));
                }
                Ok(Opening::Silent)
            }
            (Identity::Token, Some(token)) => {
                let continuation = negotiated.continuation.clone();
                let now = self.shell.now();
                let admitted = self.shell.lane.borrow_mut().admit(now, token, continuation);
                if let Err(Admission::Token(_)) = admitted {
                    self.shell.count_token(token);
                }
                admitted
            }
        };
        match admitted {
            Ok(opening) => Ok(Ok(opening)),
            Err(Admission::Token(error)) => {
                let what = || Offence::Authentication { why: error.why() };
                self.shell.turned_away(what, None, address);
                if early { Err(bad_token("invalid token")) } else { Ok(Err(error.close())) }
            }
            Err(Admission::Full(who)) => {
                let what = || Offence::Limit { limit: LimitName::ConnectionsPerUser };
                self.shell.turned_away(what, Some(&who), address);
                let max = settings.connections_per_user;
                Err(over_limit(LimitName::ConnectionsPerUser, max as usize))
            }
        }
    }

    /// Counts a limit that bit, tells of it, and refuses.
    fn over(&self, limit: LimitName, max: usize, address: IpAddr) -> Refusal {
        self.shell.hit(limit);
        self.shell.turned_away(|| Offence::Limit { limit }, None, address);
        over_limit(limit, max)
    }
}

/// What the request said, as far as dialects care.
fn asked_for(
    request: &Request<Incoming>,
    accepted: &handshake::Accepted,
    client: &ClientInfo,
) -> Handshake {
    let header = |name| {
        let value = request.headers().get(name)?;
        Some(Box::from(String::from_utf8_lossy(value.as_bytes()).as_ref()))
    };
    Handshake {
        path: request.uri().path().into(),
        query: request.uri().query().unwrap_or_default().into(),
        subprotocols: accepted.subprotocols.clone(),
        authorization: header(hyper::header::AUTHORIZATION),
        fingerprint: header(HeaderName::from_static("fingerprint")),
        origin: header(hyper::header::ORIGIN),
        client: client.ip,
    }
}
